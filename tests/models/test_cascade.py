"""The laws of the cascade, on blobs whose answers are known, and its report against counts in a loop."""

import copy
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from fliot_lab.models.autoencoder import LinearAutoencoder
from fliot_lab.models.baselines import ForestDetector
from fliot_lab.models.cascade import UNKNOWN_ATTACK, Cascade, Detector, OnlyClass, report
from fliot_lab.models.classifier import BENIGN, Classifier
from fliot_lab.models.hybrid import Hybrid, KnownAttacks
from fliot_lab.models.trees import boosting, forest

#: Benign rows lie round 0. What is left out has the one mark of each known class, so that trees are torn between the two.
CENTRES = {BENIGN: (0, 0, 0), "scan": (9, 0, 0), "flood": (0, 9, 0), "left out": (9, 9, 0)}


def blobs(seed: int, **sizes: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3) float32 and their classes (n,), of classes named with _ for a space, in no order."""
    rng = np.random.default_rng(seed)
    names = rng.permutation(np.repeat([name.replace("_", " ") for name in sizes], list(sizes.values()))).astype(object)
    rows = np.array([CENTRES[name] for name in names]) + rng.normal(0, 0.7, (len(names), 3))
    return rows.astype(np.float32), names


X, y = blobs(1, Benign=200, scan=60, flood=40)
REST, REST_y = blobs(2, Benign=100, scan=30, flood=20)
NEW, NEW_y = blobs(3, Benign=100, scan=30, flood=20, left_out=30)


class Distance:
    """A detector as small as can be: how far a row lies from the mean of benign rows."""

    def fit(self, X: np.ndarray, X_held_out: np.ndarray | None = None) -> "Distance":
        train, rest = (X[: -len(X) // 4], X[-len(X) // 4 :]) if X_held_out is None else (X, X_held_out)
        self.mean_ = train.mean(axis=0)
        self.threshold_ = float(self.score_samples(rest).max())
        return self

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        return np.linalg.norm(X - self.mean_, axis=1)

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.score_samples(X) > self.threshold_


def cascade(**options) -> Cascade:
    return Cascade(Distance(), forest(seed=1, trees=20), **options)


@pytest.fixture(scope="module")
def model() -> Cascade:
    return cascade().fit(X, y, REST, REST_y)


def test_known_attacks_are_named_and_a_new_kind_is_called_unknown(model: Cascade) -> None:
    for fitted in (model, cascade().fit(X, y)):
        table = report(NEW_y, fitted.predict(NEW), known=fitted.classes_)
        assert list(fitted.classes_) == ["flood", "scan"]
        assert (table.loc[["scan", "flood"], "named rightly"] > 0.85).all()
        assert table.loc["left out", "called unknown"] > 0.9
        assert table.loc[BENIGN, "flagged"] < 0.1


def test_each_answer_follows_from_the_two_models(model: Cascade) -> None:
    """The naive cascade: row by row, the detector is asked first."""
    expected = []
    for row in NEW:
        chances = model.classifier.predict_proba(row[None])[0]
        if not model.detector.predict(row[None])[0]:
            expected.append(BENIGN)
        elif chances.max() < model.threshold_:
            expected.append(UNKNOWN_ATTACK)
        else:
            expected.append(model.classifier.classes_[chances.argmax()])
    answers = model.predict(NEW)
    assert answers.dtype == object
    assert list(answers) == expected
    assert set(answers) == {BENIGN, "scan", "flood", UNKNOWN_ATTACK}
    assert np.array_equal(answers == BENIGN, ~model.flags(NEW))
    assert np.array_equal(model.score_samples(NEW), model.detector.score_samples(NEW))
    assert model.predict(NEW[:0]).shape == (0,)
    assert set(model.predict(REST[~model.flags(REST)])) == {BENIGN}


def test_the_order_of_rows_changes_nothing(model: Cascade) -> None:
    order = np.random.default_rng(0).permutation(len(NEW))
    assert np.array_equal(model.predict(NEW[order]), model.predict(NEW)[order])


@pytest.mark.parametrize("rejected", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("held_out", [True, False])
def test_at_most_so_many_known_attacks_are_rejected(rejected: float, held_out: bool) -> None:
    rows, names = blobs(6, Benign=200, scan=60, flood=60)
    rows[names != BENIGN] *= np.random.default_rng(0).uniform(0.2, 1, ((names != BENIGN).sum(), 1))  # so that they mix a little
    fitted = cascade(rejected=rejected).fit(rows, names, *((REST / 2, REST_y) if held_out else ()))
    if held_out:
        surest = fitted.classifier.predict_proba(REST[REST_y != BENIGN] / 2).max(axis=1)
        assert (surest < fitted.threshold_).mean() <= rejected
        assert rejected > 0 or UNKNOWN_ATTACK not in fitted.predict(REST[REST_y != BENIGN] / 2)
    assert cascade(rejected=0.6).fit(rows, names, *((REST / 2, REST_y) if held_out else ())).threshold_ >= fitted.threshold_


def test_the_detector_learns_benign_rows_and_the_classifier_attacks_alone(model: Cascade) -> None:
    benign = y == BENIGN
    alone = Distance().fit(X[benign], REST[REST_y == BENIGN])
    assert np.array_equal(model.score_samples(NEW), alone.score_samples(NEW))
    assert model.detector.threshold_ == alone.threshold_
    namer = forest(seed=1, trees=20).fit(X[~benign], y[~benign])
    assert np.array_equal(model.classifier_.predict_proba(NEW), namer.predict_proba(NEW))
    surest = namer.predict_proba(REST[REST_y != BENIGN]).max(axis=1)
    assert (surest >= model.threshold_).mean() >= 0.95
    assert np.abs(surest - model.threshold_).min() < 2e-4
    other_attacks = np.where(REST_y == BENIGN, BENIGN, "left out").astype(object)
    assert cascade().fit(X, y, REST, other_attacks).threshold_ == cascade().fit(X, y).threshold_  # these judge nothing known
    assert np.array_equal(cascade().fit(X, y).score_samples(NEW), Distance().fit(X[benign]).score_samples(NEW))


def test_each_of_the_two_sees_its_own_columns(model: Cascade) -> None:
    wide, wide_rest, new = (
        np.column_stack([rows, -rows[:, ::-1]]) for rows in (X, REST, NEW)
    )  # of -X each distance is that of X
    options = {"detector_columns": [5, 4, 3], "classifier_columns": range(3)}
    fitted = cascade(**options).fit(wide, y, wide_rest, REST_y)
    assert np.array_equal(fitted.predict(new), model.predict(NEW))
    joined = Cascade.of(fitted.detector, fitted.classifier_, fitted.threshold_, **options)
    assert np.array_equal(joined.predict(new), model.predict(NEW))
    for places in ([], [6], [-1]):
        with pytest.raises(ValueError, match=r"detector_columns=.* expected places of features, from 0 to 5"):
            cascade(detector_columns=places).fit(wide, y)


def test_fitted_models_can_be_joined(model: Cascade) -> None:
    joined = Cascade.of(copy.deepcopy(model.detector), copy.deepcopy(model.classifier_), model.threshold_)
    assert np.array_equal(joined.predict(NEW), model.predict(NEW))
    assert UNKNOWN_ATTACK not in Cascade.of(model.detector, model.classifier_, 0.0).predict(NEW)
    assert UNKNOWN_ATTACK not in Cascade.of(model.detector, OnlyClass("scan"), 1.0).predict(
        NEW
    )  # at the threshold is sure enough
    with pytest.raises(ValueError, match="the classifier knows 'Benign'"):
        Cascade.of(model.detector, forest(seed=1, trees=2).fit(X, y), 0.5)


def test_a_sure_answer_stays_one_when_its_probability_is_rounded(model: Cascade) -> None:
    """A forest whose trees all agree says 1.0; served in float32 the sum of its trees is 0.99999."""

    class Served:
        classes_ = model.classes_

        def predict_proba(self, X: np.ndarray) -> np.ndarray:
            return model.classifier_.predict_proba(X) * (1 - 1e-5)

    assert np.array_equal(Cascade.of(model.detector, Served(), model.threshold_).predict(NEW), model.predict(NEW))


def test_with_one_class_of_attack_every_flag_has_its_name() -> None:
    rows, names = X[y != "flood"], y[y != "flood"]
    fitted = cascade().fit(rows, names)
    answers = fitted.predict(NEW)
    assert set(answers) == {BENIGN, "scan"}
    assert np.array_equal(answers == "scan", fitted.flags(NEW))
    assert list(fitted.classes_) == ["scan"]
    assert isinstance(fitted.classifier_, OnlyClass)
    assert np.array_equal(Cascade.of(fitted.detector, OnlyClass("scan"), fitted.threshold_).predict(NEW), answers)
    assert np.array_equal(fitted.fit(X, y, REST, REST_y).predict(NEW), cascade().fit(X, y, REST, REST_y).predict(NEW))


def test_other_models_serve_as_well_and_equal_seeds_give_equal_answers() -> None:
    def fitted(detector: Detector) -> Cascade:
        return Cascade(detector, boosting(seed=2, trees=5)).fit(X, y, REST, REST_y)

    for kind in (lambda: LinearAutoencoder(bottleneck=1), lambda: ForestDetector(seed=2, trees=10)):
        assert np.array_equal(fitted(kind()).predict(NEW), fitted(kind()).predict(NEW))
    assert cascade().fit(X, y).threshold_ == cascade().fit(X, y).threshold_  # folds are drawn from the classifier's seed
    namer = forest(seed=1, trees=20).fit(X[y != BENIGN], y[y != BENIGN])
    assert np.array_equal(cascade().fit(X, y).classifier_.predict_proba(NEW), namer.predict_proba(NEW))


class Witness(Classifier):
    """A classifier that keeps (classes learnt, rows learnt, rows judged) of each of its copies; a row names itself."""

    seen: ClassVar[list[tuple[set[str], set[float], list[float]]]] = []

    def __init__(self) -> None:
        super().__init__(seed=4)

    def _learn(self, X, codes, weights) -> None:
        self.seen.append((set(self.classes_), set(X[:, 0]), []))
        self.mine = len(self.seen) - 1

    def _chances(self, X) -> np.ndarray:
        self.seen[self.mine][2].extend(X[:, 0])
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))


def test_each_training_attack_is_judged_once_by_a_copy_that_did_not_learn_it() -> None:
    sizes = {BENIGN: 40, "scan": 20, "flood": 11, "rare": 2, "alone": 1}
    names = np.repeat(np.array(list(sizes), dtype=object), list(sizes.values()))
    Witness.seen.clear()
    Cascade(Distance(), Witness()).fit(np.arange(74)[:, None], names)
    (_, everything, judged_by_it), *copies = Witness.seen
    assert everything == set(range(40, 74))
    assert not judged_by_it
    judged = [row for _, _, rows in copies for row in rows]
    assert sorted(judged) == list(range(40, 73))  # all but the one that is alone in its class
    for classes, learnt, rows in copies:
        assert not learnt & set(rows)
        assert {names[int(row)] for row in rows} <= classes
        assert sum(names[int(row)] == "scan" for row in rows) == 4
        assert sum(names[int(row)] == "flood" for row in rows) in (2, 3)


def test_rare_classes_are_held_out_as_far_as_they_can_be() -> None:
    rows, names = blobs(7, Benign=60, scan=2, flood=1)
    assert 0 < cascade().fit(rows, names).threshold_ <= 1
    rows, names = blobs(7, Benign=60, scan=1, flood=1)
    with pytest.raises(ValueError, match="no class of attack has two rows, so none can be held out"):
        cascade().fit(rows, names)
    assert 0 < cascade().fit(rows, names, REST, REST_y).threshold_ <= 1


# -------------------------------------------------------------------------------------------------------- the report


def test_the_report_counts_as_a_loop_does(model: Cascade) -> None:
    answers = model.predict(NEW)
    table = report(NEW_y, answers, known=["scan", "flood"])
    assert list(table.columns) == ["kind", "rows", "flagged", "named rightly", "called unknown", "called another class"]
    assert list(table.index) == [BENIGN, "scan", "flood", "left out"]
    assert list(table["kind"]) == ["benign", "known", "known", "left out"]
    for name, line in table.iterrows():
        own = [answer for true, answer in zip(NEW_y, answers, strict=True) if true == name]
        assert line["rows"] == len(own)
        benign, unknown = own.count(BENIGN), own.count(UNKNOWN_ATTACK)
        right = own.count(name) if name != BENIGN else 0
        counts = [len(own) - benign, right, unknown, len(own) - benign - unknown - right]
        assert list(line.iloc[2:]) == pytest.approx([count / len(own) for count in counts])
    parts = table["named rightly"] + table["called unknown"] + table["called another class"]
    np.testing.assert_allclose(parts, table["flagged"])
    np.testing.assert_allclose(parts + 1 - table["flagged"], 1)


def test_the_report_takes_any_answers() -> None:
    table = report(["scan", "scan", BENIGN, BENIGN], ["flood", BENIGN, BENIGN, "scan"], known={"scan"})
    expected = {"kind": ["benign", "known"], "rows": [2, 2], "flagged": [0.5, 0.5], "named rightly": [0.0, 0.0]}
    expected |= {"called unknown": [0.0, 0.0], "called another class": [0.5, 0.5]}
    pd.testing.assert_frame_equal(
        table, pd.DataFrame(expected, index=pd.Index([BENIGN, "scan"], name="class")), check_dtype=False
    )
    for true, pred in (([], []), (["scan"], ["scan", BENIGN]), ([["scan"]], [["scan"]])):
        with pytest.raises(ValueError, match=r"must have the same shape \(n,\), n > 0"):
            report(true, pred, known=["scan"])


# ---------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X[y != BENIGN], y[y != BENIGN]), "none of 100 rows is 'Benign'"),
        ((X[y == BENIGN], y[y == BENIGN]), "all 200 are 'Benign': fit the detector alone"),
        ((X[:0], y[:0]), "is the split empty"),
        ((X, y[:5]), r"X has 300 rows and y the shape \(5,\)"),
        ((X, y, REST[:0], REST_y[:0]), "is the split empty"),
        ((X, y, REST), r"X has 150 rows and y the shape \(\)"),
        ((X, y, None, REST_y), r"matrix \(n, d\).*got shape \(\)"),
        ((X, y, REST[:, :2], REST_y), "X has 2 features, and fit was given 3"),
        ((X, y, REST[REST_y != BENIGN], REST_y[REST_y != BENIGN]), "none of 50 held-out rows is 'Benign'"),
        ((np.where(X > 9, np.nan, X), y), "NaN or infinity"),
        ((X, np.where(y == "scan", None, y)), "y holds None in row"),
    ],
)
def test_fit_refuses(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        cascade().fit(*arguments)


def test_a_cascade_refuses(model: Cascade) -> None:
    for rejected in (-0.1, 1, 1.5):
        with pytest.raises(ValueError, match=r"rejected=.*a share of known attacks from 0 up to 1"):
            cascade(rejected=rejected)
    for ask in (cascade().predict, cascade().flags, cascade().score_samples):
        with pytest.raises(ValueError, match=r"not learnt anything yet: call fit\(X, y\)"):
            ask(X)
    for ask in (model.predict, model.flags, model.score_samples):
        with pytest.raises(ValueError, match="X has 2 features, and fit was given 3"):
            ask(X[:, :2])
        with pytest.raises(ValueError, match="NaN or infinity"):
            ask(np.full((1, 3), np.inf))
    with pytest.raises(ValueError, match="fit it, then call fit_names"):
        Cascade(Hybrid([(KnownAttacks(), None)], seed=0), forest(seed=0)).fit(X, y)
