"""What every classifier of flows does: checks what comes in, evens out rare classes where asked, and answers with names."""

from abc import ABC, abstractmethod
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from fliot_lab.data.layout import BENIGN
from fliot_lab.models.autoencoder import Scaler, checked

NEIGHBOURS = 5  # of SMOTE, as in its paper

Matrix = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Names = npt.NDArray[np.object_]
Codes = npt.NDArray[np.intp]
Balance = Literal["weights", "smote"] | None


class Classifier(ABC):
    """A classifier with scikit-learn's `fit`, `predict` and `predict_proba`; `_learn` and `_chances` say of which kind.

    `balance` evens out the classes of the training rows, and of no others: "weights" lets each class count alike
    (`class_weights`), "smote" draws further rows of the small ones (`oversampled`), None takes the rows as they are. Equal
    seeds give equal models. `fit` sets `classes_` (c,), the names in alphabetical order.
    """

    def __init__(self, *, seed: int, balance: Balance = None):
        if balance is not None and balance not in get_args(get_args(Balance)[0]):
            raise ValueError(f'balance={balance!r}: expected None, "weights" or "smote"')
        self.seed, self.balance = seed, balance

    @abstractmethod
    def _learn(self, X: Matrix, codes: Codes, weights: Floats | None) -> None:
        """Learns the classes `codes` (n,) of rows X (n, d); `weights` (c,) say how much a row of each class counts."""

    @abstractmethod
    def _chances(self, X: Matrix) -> npt.NDArray[np.floating[Any]]:
        """The probability (m, c) of each class for rows X (m, d), m > 0."""

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        """Learns the classes y (n,), which are text, of rows X (n, d).

        Raises ValueError for a single class, and as `labelled` does.
        """
        rows, codes, classes = labelled(X, y)
        if len(classes) < 2:
            raise ValueError(f"y holds one class, {classes[0]!r}, in all {len(rows)} rows: telling classes apart takes two")
        self.classes_, self._features = classes, rows.shape[1]
        weights = class_weights(codes) if self.balance == "weights" else None
        if self.balance == "smote":
            rows, codes = oversampled(rows, codes, self.seed)
        self._learn(rows, codes, weights)
        return self

    def predict_proba(self, X: npt.ArrayLike) -> Floats:
        """The probability (m, c) of each class of `classes_` for rows X (m, d).

        Raises ValueError before `fit`, for another number of features than fit was given, for NaN and for infinity.
        """
        if not hasattr(self, "classes_"):
            raise ValueError("this classifier has not learnt anything yet: call fit(X, y) with rows of known classes first")
        rows = checked(X, self._features)
        return self._chances(rows).astype(np.float64) if len(rows) else np.empty((0, len(self.classes_)))

    def predict(self, X: npt.ArrayLike) -> Names:
        """The likeliest class (m,) for each row of X (m, d), the alphabetically first of those equally likely."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]


def labelled(X: npt.ArrayLike, y: npt.ArrayLike, d: int | None = None) -> tuple[Matrix, Codes, Names]:
    """X as (n, d) float32, the codes (n,) of its classes y (n,), and the names (c,) that they stand for, in alphabetical order.

    Raises ValueError for no row, other than `d` features where d is given, lengths that differ, a class that is missing or no
    text, NaN and infinity.
    """
    rows, labels = checked(X, d), np.asarray(y, dtype=object)
    if not rows.size:
        raise ValueError(f"X must hold at least one row and one feature, got shape {rows.shape}; is the split empty?")
    if labels.shape != (len(rows),):
        raise ValueError(f"X has {len(rows)} rows and y the shape {labels.shape}; give one class per row")
    codes, found = pd.factorize(labels)
    is_text = np.array([*(isinstance(name, str) for name in found), False])  # code -1, missing, finds the last
    wrong = np.flatnonzero(~is_text[codes])
    if len(wrong):
        raise ValueError(f"y holds {labels[wrong[0]]!r} in row {wrong[0]}; a class is a text such as {BENIGN!r}")
    names = np.array([str(name) for name in found], dtype=object)
    order = np.argsort(names)
    return rows, np.argsort(order)[codes], names[order]


def class_weights(codes: Codes) -> Floats:
    """w_c = n / (c n_c) as (c,): weights that let each class count alike, and 1 on average over the rows.

    `codes` (n,) run from 0 to c - 1. King and Zeng 2001, doi 10.1093/oxfordjournals.pan.a004868; scikit-learn's "balanced".
    """
    sizes = np.bincount(codes)
    return len(codes) / (len(sizes) * sizes)


def oversampled(X: Matrix, codes: Codes, seed: int) -> tuple[Matrix, Codes]:
    """X (n, d) and `codes` (n,), followed by synthetic rows until each class has as many as the largest: SMOTE.

    A synthetic row lies between a row and one of its 5 nearest neighbours of its class. Neighbours are found and rows drawn
    on the `Scaler`'s scale; what both share stays bit for bit, flags that differ become fractions. A class of fewer than 6
    rows has all its other rows for neighbours; a class of one row has none, so it stays as it is. The time grows with the
    square of a class's rows. Chawla et al. 2002, doi 10.1613/jair.953.
    """
    from imblearn.over_sampling import SMOTE  # takes half a second

    scaler = Scaler().fit(X)
    scaled, sizes = scaler.transform(X), np.bincount(codes)
    most = int(sizes.max())
    rows, classes = [X], [codes]
    for code in np.flatnonzero((sizes > 1) & (sizes < most)):
        neighbours = min(NEIGHBOURS, int(sizes[code]) - 1)
        smote = SMOTE(sampling_strategy={code: most}, k_neighbors=neighbours, random_state=seed)
        drawn = smote.fit_resample(scaled, codes)[0][len(X) :]
        rows.append(_unscaled(drawn, scaler, scaled, X))
        classes.append(np.full(len(drawn), code))
    return np.concatenate(rows), np.concatenate(classes)


def _unscaled(drawn: Matrix, scaler: Scaler, scaled: Matrix, X: Matrix) -> Matrix:
    """`drawn` (m, d) on the scale of X (n, d), of which `scaled` (n, d) are the scaled rows.

    A number that occurs in `scaled` becomes the one it was: 60 bytes that came back as 59.99998 would tell a tree which rows
    are synthetic.
    """
    back = scaler.inverse_transform(drawn)
    for column in range(X.shape[1]):
        known, first = np.unique(scaled[:, column], return_index=True)
        place = np.searchsorted(known, drawn[:, column]).clip(max=len(known) - 1)
        same = known[place] == drawn[:, column]
        back[same, column] = X[first[place[same]], column]
    return back
