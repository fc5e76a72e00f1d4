"""Identifiers of devices: answers, doubt and reasons, on simulated set-ups and on points whose answers are known."""

import copy
import pickle
import re
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch

from benchmarks import fingerprint as benchmark
from fliot_lab.data import setups
from fliot_lab.data.sample import things
from fliot_lab.features.devices import matrix, packets
from fliot_lab.models.identification import UNKNOWN, DeviceIdentifier, NeuralIdentifier, rejection_curve

Identifier = DeviceIdentifier | NeuralIdentifier
Make = Callable[..., Identifier]
BOTH = pytest.mark.parametrize("make", [DeviceIdentifier, NeuralIdentifier])
FAMILY = {name: "/".join(group) for group in things.SIBLINGS for name in group}
PLACES = np.array([[0.0, 0, 40, 0, 0], [0, 30, 0, 0, 0], [60, 0, 0, 0, 0], [20, 20, 20, 0, 0]])


def clouds(rows: int, seed: int, types: int = 4) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.str_]]:
    """Counts (n, 5) of so many rows around each of the first places, the last two features noise, and types "type 0" ..."""
    rng = np.random.default_rng(seed)
    kinds = np.repeat(np.arange(types), rows)
    X = rng.poisson(PLACES[kinds]).astype(float)
    X[:, 3:] = rng.normal(size=(len(X), 2))
    return X, np.array([f"type {kind}" for kind in kinds])


@pytest.fixture(scope="module")
def simulated() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.str_], list[str]]:
    """Fingerprints (n, d) of 9 simulated set-ups of each device, their types (n,), the features' names (d,)."""
    listed = setups.listing(setups.locate("sample").root)
    listed = listed.sample(frac=1, random_state=1).groupby("folder").head(9)
    X, names = matrix([packets.fingerprint(packets.read(path))[0] for path in listed["path"]])
    return X, listed["device_type"].to_numpy(str), names


@pytest.fixture(scope="module")
def halves(simulated: tuple[npt.NDArray[np.float64], npt.NDArray[np.str_], list[str]]) -> tuple[npt.NDArray[np.intp], ...]:
    """(training, test) rows: six and three set-ups of each device."""
    turn = pd.Series(simulated[1]).groupby(simulated[1]).cumcount().to_numpy()
    return np.flatnonzero(turn < 6), np.flatnonzero(turn >= 6)


@pytest.fixture(scope="module", params=[DeviceIdentifier, NeuralIdentifier])
def learnt(request: pytest.FixtureRequest, simulated, halves) -> Identifier:  # type: ignore[no-untyped-def]
    X, y, _ = simulated
    return request.param(seed=3).fit(X[halves[0]], y[halves[0]])


# --- answers ------------------------------------------------------------------------------------------------------------


def test_types_and_families_are_told_far_better_than_by_their_number(simulated, halves, learnt: Identifier) -> None:
    X, y, _ = simulated
    asked, true = X[halves[1]], y[halves[1]]
    assert 1 / len(learnt.classes_) == pytest.approx(pd.Series(true).value_counts(normalize=True).max())
    assert (learnt.top(asked) == true).mean() > 0.7
    families = learnt.predict_family(asked, FAMILY)
    assert (families == [FAMILY.get(name, name) for name in true]).mean() > 0.95


def test_probabilities_are_of_all_types_and_the_answers_follow_from_them(simulated, halves, learnt: Identifier) -> None:
    asked = simulated[0][halves[1]]
    chances = learnt.predict_proba(asked)
    assert chances.shape == (len(asked), len(learnt.classes_))
    assert (chances >= 0).all()
    np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-6)
    best = learnt.classes_[chances.argmax(axis=1)]
    assert (learnt.top(asked) == best).all()
    known = learnt.known_score(asked) >= learnt.threshold_
    assert (learnt.predict(asked) == np.where(known, best, UNKNOWN)).all()
    for row, told in zip(chances, learnt.top_k(asked, 4), strict=True):
        assert [chance for _, chance in told] == sorted(row, reverse=True)[:4]
        assert all(chance == row[list(learnt.classes_).index(name)] for name, chance in told)
    assert len(learnt.top_k(asked[:1], 999)[0]) == len(learnt.classes_)


def test_a_family_is_as_likely_as_its_types_together(simulated, halves, learnt: Identifier) -> None:
    asked = simulated[0][halves[1]]
    frame = pd.DataFrame(learnt.predict_proba(asked), columns=learnt.classes_)
    summed = frame.T.groupby([FAMILY.get(name, name) for name in learnt.classes_]).sum().T
    assert learnt.predict_family(asked, FAMILY).tolist() == summed.idxmax(axis=1).tolist()
    assert learnt.predict_family(asked, {}).tolist() == learnt.top(asked).tolist()
    assert set(learnt.predict_family(asked, dict.fromkeys(learnt.classes_, "things"))) == {"things"}


def test_each_row_is_answered_by_itself(simulated, halves, learnt: Identifier) -> None:
    asked = simulated[0][halves[1]]
    order = np.random.default_rng(5).permutation(len(asked))
    np.testing.assert_allclose(learnt.predict_proba(asked)[order], learnt.predict_proba(asked[order]), atol=1e-6)
    np.testing.assert_allclose(learnt.known_score(asked[:1]), learnt.known_score(asked)[:1], atol=1e-4)


@BOTH
def test_equal_seeds_give_equal_models_and_other_seeds_others(make: Make) -> None:
    X, y = clouds(12, 0)
    asked, _ = clouds(5, 1)
    models = [make(seed=seed).fit(X, y) for seed in (1, 1, 2)]
    torch.rand(1)  # nothing depends on torch's own generator
    chances = [model.predict_proba(asked + 9) for model in models]
    assert (chances[0] == chances[1]).all()
    assert (chances[0] != chances[2]).any()
    assert models[0].threshold_ == models[1].threshold_


@BOTH
def test_a_model_can_be_kept_and_copied(make: Make) -> None:
    X, y = clouds(8, 0)
    model = make(seed=1).fit(X, y)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert (other.predict_proba(X) == model.predict_proba(X)).all()
        assert other.threshold_ == model.threshold_


# --- what was not observed ----------------------------------------------------------------------------------------------


@BOTH
def test_what_was_not_observed_is_no_obstacle(make: Make) -> None:
    rng = np.random.default_rng(2)
    X, y = clouds(30, 0)
    X[rng.random(X.shape) < 0.1] = np.nan
    X = np.c_[X, np.full(len(X), np.nan), np.full(len(X), 7.0)]  # never observed, and never different
    asked, true = clouds(20, 3)
    asked[rng.random(asked.shape) < 0.1] = np.nan
    asked = np.c_[asked, np.full(len(asked), 5.0), np.full(len(asked), np.nan)]
    model = make(seed=1).fit(X, y)
    assert (model.top(asked) == true).mean() > 0.85
    assert np.isfinite(model.predict_proba(np.full((1, X.shape[1]), np.nan))).all()


def test_a_forest_learns_from_what_is_missing() -> None:
    """A type that never shows a thing is told by that alone."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 3)), np.repeat(["mute", "talks"], 30)
    X[:30, 1] = np.nan
    asked = rng.normal(size=(2, 3))
    asked[0, 1] = np.nan
    assert DeviceIdentifier(seed=1, features=1.0).fit(X, y).top(asked).tolist() == ["mute", "talks"]


# --- unknown devices ----------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("rejected", [0.05, 0.2])
def test_of_known_devices_hardly_more_than_the_promised_share_is_rejected(make: Make, rejected: float) -> None:
    shares = []
    for seed in range(2):
        X, y = clouds(60, seed)
        asked, _ = clouds(300, 100 + seed)
        shares.append((make(seed=seed, rejected=rejected).fit(X, y).predict(asked) == UNKNOWN).mean())
    # 240 training rows say where the threshold lies: at 0.05 that is uncertain by sqrt(0.05 * 0.95 / 240) = 0.014 a seed.
    assert rejected / 10 < np.mean(shares) < rejected + 0.03


@BOTH
def test_devices_of_a_type_that_was_never_shown_score_lower(make: Make) -> None:
    X, y = clouds(40, 0, types=3)
    strange, kinds = clouds(40, 1, types=4)
    model = make(seed=1).fit(X, y)
    scores, known = model.known_score(strange), kinds != "type 3"
    assert np.median(scores[~known]) < np.quantile(scores[known], 0.05)
    assert (model.predict(strange)[~known] == UNKNOWN).mean() > 0.5


def test_simulated_strangers_without_siblings_are_rejected(simulated, halves) -> None:
    X, y, _ = simulated
    strange = np.isin(y, ["JuntoxCam", "FendaxLock", "HibrasVacuum"])
    train = halves[0][~strange[halves[0]]]
    model = DeviceIdentifier(seed=2).fit(X[train], y[train])
    assert (model.predict(X[strange]) == UNKNOWN).mean() > 0.8
    known = halves[1][~strange[halves[1]]]
    assert (model.predict(X[known]) == UNKNOWN).mean() < 0.2


def test_groups_are_held_out_together() -> None:
    """Copies of a row in another fold make a threshold that no new device reaches; with groups they cannot."""
    rng = np.random.default_rng(0)
    X, y = clouds(12, 0)
    X[:, :3] *= rng.uniform(0.3, 3, (len(X), 1))  # units differ
    copies, types, unit = np.repeat(X, 5, axis=0), np.repeat(y, 5), np.repeat(np.arange(len(X)), 5)
    asked, _ = clouds(60, 9)
    asked[:, :3] *= rng.uniform(0.3, 3, (len(asked), 1))
    rejected = {}
    for name, groups in (("rows", None), ("units", unit)):
        rejected[name] = (DeviceIdentifier(seed=1).fit(copies, types, groups).predict(asked) == UNKNOWN).mean()
    assert rejected["units"] < rejected["rows"]
    assert rejected["units"] == pytest.approx(0.05, abs=0.1)


@BOTH
def test_without_a_threshold_all_but_the_doubt_is_the_same(make: Make) -> None:
    X, y = clouds(10, 0)
    sure, plain = make(seed=1).fit(X, y), make(seed=1, rejected=None).fit(X, y)
    assert (sure.predict_proba(X) == plain.predict_proba(X)).all()
    assert plain.top(X).tolist() == sure.top(X).tolist()
    for ask in (plain.predict, plain.known_score):
        with pytest.raises(ValueError, match="with rejected=None no threshold was learnt"):
            ask(X)


def test_a_rejection_curve_is_that_of_counting_by_hand() -> None:
    correct, scores = [True, False, True, True, False], [5.0, 1.0, 3.0, 3.0, 3.0]
    curve = rejection_curve(correct, scores)
    assert curve["threshold"].tolist() == [5, 3, 1]
    assert curve["coverage"].tolist() == [0.2, 0.8, 1]
    assert curve["accuracy"].tolist() == [1, 0.75, 0.6]
    rng = np.random.default_rng(1)
    right, score = rng.random(200) < 0.7, rng.integers(0, 30, 200)
    for threshold, coverage, accuracy in rejection_curve(right, score).itertuples(index=False):
        answered = score >= threshold
        assert (coverage, accuracy) == pytest.approx((answered.mean(), right[answered].mean()))


# --- reasons ------------------------------------------------------------------------------------------------------------


@BOTH
def test_the_planted_feature_is_the_reason(make: Make) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(120, 6)), np.repeat(["usual", "odd", "usual"], 40)
    X[40:80, 2] += 9
    names = [f"feature {place}" for place in range(6)]
    model = make(seed=1).fit(X, y)
    told = model.explain(X[50], names)
    assert model.top(X[50:51])[0] == "odd"
    assert told[0][0] == "feature 2"
    assert told[0][1] > 3 * abs(told[1][1])
    assert sorted(name for name, _ in told) == names
    assert [effect for _, effect in told] == sorted((effect for _, effect in told), reverse=True)


def test_a_reason_is_by_how_much_the_answer_suffers(simulated, halves, learnt: Identifier) -> None:
    X, _, names = simulated
    train, x = X[halves[0]].astype(np.float32), X[halves[1][7]].astype(np.float32)
    told = dict(learnt.explain(x, names))
    before = learnt.predict_proba(x[None])[0]
    for name in sorted(told, key=lambda name: -abs(told[name]))[:5]:
        place, without = names.index(name), x.copy()
        column = train[:, place]
        without[place] = np.nan if np.isnan(column).mean() > 0.5 else np.sort(column)[(len(column) - 1) // 2]
        after = learnt.predict_proba(without[None])[0, before.argmax()]
        assert told[name] == pytest.approx(before.max() - after, abs=1e-5)


# --- the network --------------------------------------------------------------------------------------------------------


def test_networks_that_learnt_from_other_rows_can_be_averaged() -> None:
    (X, y), (Z, z) = clouds(30, 0), clouds(25, 1)
    one, other = (NeuralIdentifier(seed=1).fit(rows, types) for rows, types in ((X, y), (Z, z)))
    shapes = [{name: tuple(value.shape) for name, value in model.network_.state_dict().items()} for model in (one, other)]
    assert shapes[0] == shapes[1]
    mean = {name: (value + other.network_.state_dict()[name]) / 2 for name, value in one.network_.state_dict().items()}
    one.network_.load_state_dict(mean)
    asked, true = clouds(50, 2)
    assert (one.top(asked) == true).mean() > 0.9  # the network that answers is the one whose weights were set


# --- what makes no sense ------------------------------------------------------------------------------------------------


@BOTH
def test_what_makes_no_sense_is_refused(make: Make) -> None:
    X, y = clouds(6, 0)
    model = make(seed=1).fit(X, y)
    with pytest.raises(ValueError, match="has not learnt anything yet"):
        make(seed=1).top(X)
    with pytest.raises(ValueError, match="X has 4 features, and fit was given 5"):
        model.top(X[:, :4])
    with pytest.raises(ValueError, match=r"must be a matrix \(n, d\)"):
        model.top(X[0])
    with pytest.raises(ValueError, match="must be a matrix"):
        model.fit(np.empty((0, 5)), [])
    with pytest.raises(ValueError, match="infinity, first in row 3, column 1"):
        make(seed=1).fit(np.where(np.arange(X.size).reshape(X.shape) == 16, np.inf, X), y)
    with pytest.raises(ValueError, match=r"24 fingerprints, y of shape \(23,\)"):
        make(seed=1).fit(X, y[:-1])
    with pytest.raises(ValueError, match=r"groups of shape \(3,\)"):
        make(seed=1).fit(X, y, [1, 2, 3])
    with pytest.raises(ValueError, match="1 type: telling devices apart takes two"):
        make(seed=1).fit(X, ["lamp"] * len(X))
    with pytest.raises(ValueError, match="no row can be held out"):
        make(seed=1).fit(X, y, y)
    with pytest.raises(ValueError, match="k=0"):
        model.top_k(X, 0)
    with pytest.raises(ValueError, match="and 4 names"):
        model.explain(X[0], list("abcd"))
    for rejected in (-0.1, 1.0):
        with pytest.raises(ValueError, match="rejected="):
            make(seed=1, rejected=rejected)


def test_a_curve_needs_a_score_for_each_answer() -> None:
    for correct, scores in (([], []), ([True], [1.0, 2.0]), ([True], [np.nan])):
        with pytest.raises(ValueError, match="expected answers"):
            rejection_curve(correct, scores)


# --- the benchmark ------------------------------------------------------------------------------------------------------


def test_the_benchmark_runs_from_end_to_end_on_simulated_set_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = setups.listing(setups.locate("sample").root)
    some = ["QuorvexMotion", "QuorvexWater", "JuntoxCam", "FendaxLock", "TalpideScale"]
    listed = listed[listed["folder"].isin(some)].reset_index(drop=True)
    monkeypatch.setattr(setups, "listing", lambda root: listed)
    for name, value in {"FOLDS": 2, "INNER": 2, "SHARES": (0.05, 0.1), "TRIAL_TREES": 10, "LEFT_OUT": 2}.items():
        monkeypatch.setattr(benchmark, name, value)
    section = benchmark.run(seeds=1, draws=1, set_ups=4, dataset="sample")
    assert section.startswith("## Device fingerprints from packets (SIMULATED set-ups: 20 of 5 types)")
    tables = [part.splitlines() for part in section.split("\n\n") if part.startswith("|")]
    assert [len(table) - 2 for table in (tables[0], *tables[-3:])] == [5, 2, 4, 3]
    assert not any(re.search(r"\b(met|missed)\b", line) for table in tables[:-1] for line in table)  # no target is simulated
    assert not re.search(r"\bnan\b", section)


def test_the_benchmark_chooses_by_training_rows_alone() -> None:
    """One feature tells and many are noise: a tree that looks at few of them rarely sees it."""
    rng = np.random.default_rng(0)
    y = np.repeat(["a", "b", "c"], 12)
    X = np.c_[np.repeat([0.0, 5, 10], 12), rng.normal(size=(36, 150))]
    assert benchmark.chosen_share(X, y, seed=1) == max(benchmark.SHARES)
    noise = rng.normal(size=X.shape)
    frame = pd.DataFrame({"device_type": np.r_[y, y], "family": np.r_[y, y], "person": "A"})
    captures = benchmark.Captures(np.r_[X, noise], [f"{place}" for place in range(X.shape[1])], frame)
    assert benchmark.forest(captures, np.arange(36), seed=1).features == max(benchmark.SHARES)


def test_plain_statistics_are_of_no_single_message(simulated) -> None:
    X, y, names = simulated
    frame = pd.DataFrame({"device_type": y, "family": y, "person": "A"})
    plain = [names[place] for place in benchmark.plain(benchmark.Captures(X, names, frame))]
    assert {"packets", "sent: bytes, mean", "received: seconds between, median", "packet 1 sent: bytes"} <= set(plain)
    assert not [name for name in plain if any(word in name for word in ("messages of", "dhcp", "tls", "http", "port"))]
