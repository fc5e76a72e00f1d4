"""The published hybrid: a detector flags, a classifier names the attack, or says that it is none of those that it knows."""

import copy
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from fliot_lab.models.autoencoder import checked
from fliot_lab.models.classifier import BENIGN, Classifier, Codes, Floats, Matrix, Names, labelled
from fliot_lab.models.hybrid import Hybrid

#: The answer for a row that is flagged where no known class fits.
UNKNOWN_ATTACK = "unknown attack"
FOLDS = 5  # in which training attacks are held out where no others are given; chosen
_ROUNDING = 1e-4  # by so much a probability may change when the same classifier is served in float32


class Detector(Protocol):
    """Learns benign rows, and flags others: `Autoencoder` and its rivals.

    Its `fit` takes benign rows and held-out ones. One that learns otherwise, as `Hybrid` does, comes fitted to a cascade.
    """

    threshold_: float

    @property
    def fit(self) -> Callable[..., Any]: ...

    def score_samples(self, X: npt.ArrayLike) -> Floats: ...

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.bool_]: ...


class OnlyClass:
    """What stands for a classifier where training held one class of attack: every row is of this class, for certain."""

    def __init__(self, name: str):
        self.classes_ = np.array([name], dtype=object)

    def predict_proba(self, X: npt.ArrayLike) -> Floats:
        return np.ones((len(np.asarray(X)), 1))


class Cascade:
    """A detector that learns benign rows and a classifier that learns attacks, joined: benign, a class, or UNKNOWN_ATTACK.

    A flagged row is called unknown where the classifier's largest probability lies below `threshold_`: a share `rejected` of
    held-out attacks of known classes at most (Chow 1970, doi 10.1109/TIT.1970.1054406). So it finds attacks of which the
    classifier is unsure; a new kind that looks like a known one is given that one's name. The share is one of rows: a rare
    class, of which the classifier is less sure, can be rejected throughout. With one class of attack in training there is
    nothing to be unsure of: every flagged row is of that class, and none is called unknown.

    `detector_columns` and `classifier_columns` are the places in X of the features that each sees; None for all. `fit` fits the
    two given models and sets `classifier_` (the classifier, or an `OnlyClass`), `classes_` (c,) and `threshold_`.
    """

    def __init__(
        self,
        detector: Detector,
        classifier: Classifier,
        *,
        rejected: float = 0.05,
        detector_columns: Sequence[int] | None = None,
        classifier_columns: Sequence[int] | None = None,
    ):
        if not 0 <= rejected < 1:
            raise ValueError(f"rejected={rejected!r}: expected a share of known attacks from 0 up to 1")
        self.detector, self.classifier, self.rejected = detector, classifier, rejected
        self.detector_columns, self.classifier_columns = detector_columns, classifier_columns
        self.classifier_: Any = None
        self._features: int | None = None

    @classmethod
    def of(
        cls,
        detector: Detector,
        classifier: Any,
        threshold: float,
        *,
        detector_columns: Sequence[int] | None = None,
        classifier_columns: Sequence[int] | None = None,
    ) -> Self:
        """A cascade of a fitted detector and a fitted classifier of attacks, or an `OnlyClass`, with this `threshold_`."""
        joined = cls(detector, classifier, detector_columns=detector_columns, classifier_columns=classifier_columns)
        if BENIGN in list(classifier.classes_):
            raise ValueError(f"the classifier knows {BENIGN!r}; in a cascade it tells attacks apart, and learns attacks alone")
        joined.classifier_, joined.threshold_ = classifier, threshold
        joined.classes_ = np.asarray(classifier.classes_, dtype=object)
        return joined

    def fit(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        X_held_out: npt.ArrayLike | None = None,
        y_held_out: npt.ArrayLike | None = None,
    ) -> Self:
        """Learns rows X (n, d) of classes y (n,), BENIGN or an attack's name; rows held out, in the same form, set thresholds.

        Held-out benign rows set the detector's threshold; without X_held_out the last quarter of the benign rows is held out.
        Held-out attacks set `threshold_`; where none is of a known class, training attacks do, held out in FOLDS folds. Rows of
        one burst are alike, so folds make the classifier look surer than it will be: attacks of another capture are better.
        Raises ValueError for no benign row or no attack, held-out rows without benign ones, folds where no class of attack has
        two rows, and as the two models do.
        """
        if isinstance(self.detector, Hybrid):
            raise ValueError("a Hybrid learns from attacks and their networks too: fit it, then call fit_names(X, y, groups)")
        rows, classes = _classes(X, y, None)
        rest, rest_classes = rows[:0], classes[:0]
        if X_held_out is not None or y_held_out is not None:
            rest, rest_classes = _classes(X_held_out, y_held_out, rows.shape[1])
        _refuse_one_sided(classes, rest_classes)
        benign, rest_benign = rows[classes == BENIGN], rest[rest_classes == BENIGN]
        self._features = rows.shape[1]
        self.detector.fit(self._detected(benign), self._detected(rest_benign) if len(rest) else None)
        attacks = classes != BENIGN
        self._learn_names(self._named(rows[attacks]), classes[attacks], None, self._named(rest), rest_classes)
        return self

    def fit_names(self, X: npt.ArrayLike, y: npt.ArrayLike, groups: npt.ArrayLike | None = None) -> Self:
        """Learns the attacks among rows X (n, d) of classes y (n,), for a detector that is fitted already and stays as it is.

        Attacks set `threshold_` whose group in `groups` (n,), such as their capture, was left out while a classifier learnt;
        where no class is in two groups, and without groups, FOLDS folds do. Raises ValueError for no attack, and as `fit`.
        """
        rows, classes = _classes(X, y, None)
        attacks = classes != BENIGN
        if not attacks.any():
            raise ValueError(f"all {len(classes)} rows are {BENIGN!r}, and a classifier names attacks: use the detector alone")
        self._features = rows.shape[1]
        named = self._named(rows[attacks])
        known = None if groups is None else np.asarray(groups)[attacks]
        self._learn_names(named, classes[attacks], known, named[:0], classes[:0])
        return self

    def _learn_names(self, X: Matrix, y: Names, groups: npt.NDArray[Any] | None, X_held_out: Matrix, y_held_out: Names) -> None:
        """The classifier, and its threshold from the rows held out, from groups left out or from folds."""
        known = sorted(set(y))
        if len(known) == 1:
            self.classifier_, self.threshold_ = OnlyClass(known[0]), 0.0
        else:
            self.classifier_ = self.classifier.fit(X, y)
            judged = np.isin(y_held_out, known)
            if judged.any():
                surest = self.classifier_.predict_proba(X_held_out[judged]).max(axis=1)
            else:
                surest = _surest_left_out(self.classifier, X, y, groups)
            # "lower": never more than the share `rejected` lies below it, and none for a share of 0.
            self.threshold_ = float(np.quantile(surest, self.rejected, method="lower")) - _ROUNDING
        self.classes_ = self.classifier_.classes_

    def score_samples(self, X: npt.ArrayLike) -> Floats:
        """The detector's score of each row of X (n, d), as (n,); higher is more suspicious."""
        return self.detector.score_samples(self._detected(self._rows(X)))

    def flags(self, X: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether the detector flags each row of X (n, d), as (n,)."""
        return self.detector.predict(self._detected(self._rows(X)))

    def predict(self, X: npt.ArrayLike) -> Names:
        """BENIGN where the detector does not flag, else the attack's class, or UNKNOWN_ATTACK where none fits; (n,) text."""
        rows = self._rows(X)
        flagged = self.flags(rows)
        answers = np.full(len(rows), BENIGN, dtype=object)
        if flagged.any():
            chances = self.classifier_.predict_proba(self._named(rows[flagged]))  # (flagged, c)
            names = self.classes_[chances.argmax(axis=1)]
            answers[flagged] = np.where(chances.max(axis=1) < self.threshold_, UNKNOWN_ATTACK, names)
        return answers

    def _rows(self, X: npt.ArrayLike) -> Matrix:
        if not hasattr(self, "threshold_"):
            raise ValueError("this cascade has not learnt anything yet: call fit(X, y) with benign rows and attacks first")
        return checked(X, self._features)

    def _detected(self, rows: Matrix) -> Matrix:
        return _columns(rows, self.detector_columns, "detector_columns")

    def _named(self, rows: Matrix) -> Matrix:
        return _columns(rows, self.classifier_columns, "classifier_columns")


def report(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, known: Collection[str]) -> pd.DataFrame:
    """What became of each class of `y_true` (n,) when the cascade answered `y_pred` (n,); the index is the class.

    Columns: kind ("benign", "known" for the classes `known` from training, "left out"), rows, and shares of these rows:
    flagged, named rightly, called unknown, called another class. The last three sum to flagged, which for benign rows is the
    share of false alarms; the rest was called benign. For a class left out "called unknown" is the right answer.
    """
    true, pred = np.asarray(y_true, dtype=object), np.asarray(y_pred, dtype=object)
    if true.ndim != 1 or true.shape != pred.shape or not len(true):
        raise ValueError(f"y_true {true.shape} and y_pred {pred.shape} must have the same shape (n,), n > 0")
    flagged, unknown = pred != BENIGN, pred == UNKNOWN_ATTACK
    named = flagged & (pred == true)
    shares = {
        "flagged": flagged,
        "named rightly": named,
        "called unknown": unknown,
        "called another class": flagged & ~named & ~unknown,
    }
    by_class = pd.DataFrame(shares).groupby(true)
    table = by_class.mean()
    kinds = ["benign" if name == BENIGN else "known" if name in known else "left out" for name in table.index]
    table.insert(0, "kind", kinds)
    table.insert(1, "rows", by_class.size())
    return table.rename_axis("class").sort_values(["kind", "rows"], ascending=[True, False], kind="stable")


def _classes(X: Any, y: Any, d: int | None) -> tuple[Matrix, Names]:
    """Rows (n, d) and their classes (n,), of a pair of which neither may be missing."""
    rows, codes, names = labelled(X, y, d)
    return rows, names[codes]


def _refuse_one_sided(classes: Names, held_out: Names) -> None:
    kinds = set(classes)
    if BENIGN not in kinds:
        raise ValueError(f"a cascade learns benign rows and attacks; none of {len(classes)} rows is {BENIGN!r}")
    if kinds == {BENIGN}:
        raise ValueError(f"a cascade learns benign rows and attacks; all {len(classes)} are {BENIGN!r}: fit the detector alone")
    if len(held_out) and BENIGN not in held_out:
        raise ValueError(f"none of {len(held_out)} held-out rows is {BENIGN!r}: nothing to set the detector's threshold by")


def _columns(rows: Matrix, places: Sequence[int] | None, name: str) -> Matrix:
    if places is None:
        return rows
    if len(places) == 0 or min(places) < 0 or max(places) >= rows.shape[1]:
        raise ValueError(f"{name}={list(places)}: expected places of features, from 0 to {rows.shape[1] - 1}")
    return rows[:, list(places)]


def _surest_left_out(classifier: Classifier, X: Matrix, y: Names, groups: npt.NDArray[Any] | None) -> Floats:
    """The largest probability (m,) for rows of X (n, d), each from a copy of the classifier that learnt without its group.

    In folds where `groups` is None, or where none of them can be judged by the others.
    """
    for apart in (groups, _folds(y, classifier.seed)):
        surest = []
        for group in [] if apart is None else np.unique(apart):
            train = apart != group
            known = sorted(set(y[train]))
            test = ~train & np.isin(y, known)
            if test.any() and len(known) > 1:
                surest.append(copy.deepcopy(classifier).fit(X[train], y[train]).predict_proba(X[test]).max(axis=1))
        if surest:
            return np.concatenate(surest)
    raise ValueError("no class of attack has two rows, so none can be held out: give more attacks, or held-out ones")


def _folds(y: Names, seed: int) -> Codes:
    """The fold (n,) of each row, 0 to FOLDS - 1; the rows of each class y (n,) are spread over them evenly."""
    order = np.random.default_rng(seed).permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]
    fold = np.empty(len(y), dtype=np.intp)
    fold[order] = np.arange(len(y)) % FOLDS
    return fold
