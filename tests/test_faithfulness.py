"""The two-sample test knows equal and disjoint samples, and the faithfulness benchmark judges known figures rightly."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import faithfulness as bench
from fliot_lab.data import iot23
from fliot_lab.data.layout import BENIGN
from fliot_lab.two_sample import folds_of, two_sample_auc


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def mean_auc(a: np.ndarray, b: np.ndarray, seeds: int = 4) -> float:
    return float(np.mean([two_sample_auc(a, b, seed=seed, rows=400) for seed in range(seeds)]))


# The two-sample test


@pytest.mark.parametrize("values", [None, 3], ids=["continuous", "with many copies"])
def test_samples_of_one_distribution_cannot_be_told_apart(values, rng):
    rows = rng.normal(size=(1600, 4)) if values is None else rng.integers(values, size=(1600, 4))
    assert mean_auc(rows[:800], rows[800:]) == pytest.approx(0.5, abs=0.06)


def test_disjoint_samples_are_always_told_apart(rng):
    assert two_sample_auc(rng.normal(0, 1, (300, 3)), rng.normal(50, 1, (200, 3)), seed=0) == 1.0


def test_more_difference_gives_a_higher_auc(rng):
    found = [mean_auc(rng.normal(0, 1, (400, 2)), rng.normal(shift, 1, (400, 2)), seeds=2) for shift in (0, 1, 3)]
    assert found == sorted(found)


def test_a_forest_cannot_pass_by_remembering_copies(rng):
    """Each vector lies on one side only, at random: who remembers them is always right, and nothing else helps."""
    distinct = rng.normal(size=(60, 3))
    a, b = np.repeat(distinct[:30], 20, axis=0), np.repeat(distinct[30:], 20, axis=0)
    assert mean_auc(a, b) < 0.7


def test_equal_seeds_give_equal_results(rng):
    a, b = rng.normal(size=(90, 2)), rng.normal(1, 1, size=(70, 2))
    assert two_sample_auc(a, b, seed=3) == two_sample_auc(a, b, seed=3)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), values=st.integers(1, 40), rows=st.integers(6, 300), folds=st.integers(2, 6))
def test_equal_vectors_share_a_fold(seed, values, rows, folds):
    rng = np.random.default_rng(seed)
    X, side = rng.integers(values, size=(rows, 2)), rng.integers(2, size=rows)
    fold = folds_of(X, side, folds, rng)
    assert fold.shape == (rows,)
    assert set(fold) <= set(range(folds))
    assert (pd.DataFrame(X).assign(fold=fold).groupby([0, 1])["fold"].nunique() == 1).all()


def test_folds_share_out_both_sides():
    side = np.repeat([0, 1], [700, 300])
    fold = folds_of(np.arange(1000).reshape(-1, 1), side, 5, np.random.default_rng(0))
    assert np.bincount(fold[side == 0]) == pytest.approx(140, abs=1)
    assert np.bincount(fold[side == 1]) == pytest.approx(60, abs=1)


def test_a_side_of_one_vector_says_nothing(rng):
    assert math.isnan(two_sample_auc(np.zeros((50, 2)), rng.normal(size=(50, 2)), seed=0))


@pytest.mark.parametrize(
    ("a", "b", "folds", "message"),
    [
        (np.zeros((4, 2)), np.zeros((9, 2)), 5, "at most the rows of a side; those are \\[4, 9\\]"),
        (np.zeros((9, 2)), np.zeros((9, 2)), 1, "1 folds must be at least 2"),
        (np.zeros((9, 2)), np.zeros((9, 3)), 5, "the same features, got \\(9, 2\\) and \\(9, 3\\)"),
        (np.zeros(9), np.zeros((9, 3)), 5, "must be matrices"),
    ],
)
def test_samples_that_cannot_be_tested_are_refused(a, b, folds, message):
    with pytest.raises(ValueError, match=message):
        two_sample_auc(a, b, seed=0, folds=folds)


# What is large, and which sources there are


def matrix(rows: int, distinct: int) -> np.ndarray:
    return np.arange(rows, dtype=np.float32).reshape(-1, 1) % distinct


@pytest.mark.parametrize(("rows", "distinct", "large"), [(1000, 50, True), (999, 500, False), (5000, 49, False)])
def test_a_class_is_large_with_a_thousand_rows_and_fifty_vectors(rows, distinct, large):
    assert bench.is_large(matrix(rows, distinct)) == large


def a_world(name: str, parts: dict[tuple[str, str], np.ndarray]) -> bench.World:
    """A world of {(class, capture): rows}."""
    X = np.concatenate(list(parts.values())).astype(np.float32)
    y, capture = (np.repeat([key[side] for key in parts], [len(rows) for rows in parts.values()]) for side in (0, 1))
    return bench.World(name, {bench.PLAIN: X, bench.MORE: X}, y, capture, np.arange(len(X)))


def test_a_class_needs_to_be_large_on_both_sides_and_the_others_are_listed_with_their_sizes():
    ours = a_world(
        "simulated", {("scan", "a"): matrix(1000, 60), ("flood", "a"): matrix(1000, 60), (BENIGN, "a"): matrix(9, 9)}
    )
    theirs = a_world(
        "real", {("scan", "b"): matrix(1200, 70), ("flood", "b"): matrix(2000, 16), ("Okiru", "b"): matrix(1000, 60)}
    )
    assert bench.labels([ours, theirs]) == {BENIGN: False, "Okiru": False, "flood": False, "scan": True}
    assert next(iter(bench.labels([ours, theirs]))) == BENIGN
    assert "flood (simulated: 1,000 rows, 60 vectors, real: 2,000 rows, 16 vectors)" in bench.too_small([ours, theirs])
    assert "Okiru (real: 1,000 rows, 60 vectors)" in bench.too_small([ours, theirs])
    assert "scan" not in bench.too_small([ours, theirs])
    assert bench.labels([ours]) == {BENIGN: False, "flood": True, "scan": True}


def test_sources_are_captures_and_the_whole_where_no_capture_is_enough():
    parts = {
        ("scan", "a"): matrix(1000, 60),
        ("scan", "b"): matrix(30, 30),
        ("flood", "a"): matrix(600, 60),
        ("flood", "b"): matrix(600, 60),
        (BENIGN, "a"): matrix(100, 5),
        (BENIGN, "b"): matrix(99, 99),
    }
    world = a_world("world", parts)
    sizes = {label: {name: len(X) for name, X in world.sources(label).items()} for label in ("scan", "flood", BENIGN, "none")}
    assert sizes == {"scan": {"a": 1000}, "flood": {"world": 1200}, BENIGN: {"a": 100}, "none": {}}


def test_a_comparison_holds_every_pair(rng):
    ours = a_world("simulated", {(BENIGN, name): rng.normal(size=(600, 2)) for name in "ab"})
    theirs = a_world("real", {(BENIGN, name): rng.normal(9, 1, size=(600, 2)) for name in "xyz"})
    found = bench.compare(BENIGN, [ours, theirs], seeds=1, rows=60)
    assert found.between == {(a, b): 1.0 for a in "ab" for b in "xyz"}
    assert set(found.real) == {("x", "y"), ("x", "z"), ("y", "z")}
    assert set(found.simulated) == {("a", "b")}
    assert found.pooled == {("simulated", "real"): 1.0}
    assert all(value < 0.8 for value in [*found.real.values(), *found.simulated.values()])


# Targets


def comparison(label: str, between: list[float], real: list[float]) -> bench.Comparison:
    def pairs(values: list[float]) -> dict[tuple[str, str], float]:
        return {("", str(place)): value for place, value in enumerate(values)}

    return bench.Comparison(label, pairs(between), pairs(real), {}, {})


def verdict(line: str) -> str:
    assert line.startswith("- target: ")
    return line.split("**")[1]


@pytest.mark.parametrize(
    ("between", "real", "expected"),
    [
        ([0.9, 0.97, 1.0], [0.9, 0.99, 1.0], "met"),
        ([0.99, 0.995, 1.0], [0.8, 0.9, 1.0], "missed"),
        ([0.51], [0.4], "met"),  # below 0.5 is chance, and nobody can be better than chance
        ([0.6], [0.4], "missed"),
        ([0.999], [0.99], "missed"),  # where hardly anything is left to chance
        ([0.9], [], "not measured"),
        ([], [], "not measured"),
    ],
)
def test_simulated_traffic_differs_no_more_from_real_than_real_networks_differ(between, real, expected):
    assert [verdict(line) for line in bench.targets_apart([comparison(BENIGN, between, real)])] == [expected]


def test_a_class_without_a_real_pair_is_held_to_benign_traffic():
    lines = bench.targets_apart(
        [comparison(BENIGN, [0.9], [0.95]), comparison("DDoS", [0.94], []), comparison("C&C", [0.94], [0.6])]
    )
    assert [verdict(line) for line in lines] == ["met", "met", "missed"]
    assert "of benign traffic" in lines[1]


def test_conflicts_and_ceiling_are_judged_by_known_data():
    """10 vectors of 10 rows each: in `c` of them half the rows are of another class, so the ceiling is 1 - c / 20."""
    X = np.repeat(np.arange(10), 10).reshape(-1, 1)
    for c, expected in ((3, ["met", "met"]), (1, ["missed", "missed"]), (4, ["missed", "met"])):
        y = np.where((X[:, 0] < c) & (np.arange(100) % 2 == 0), "scan", BENIGN)
        world = bench.World("simulated", {bench.PLAIN: X, bench.MORE: X}, y, y, None)
        lines = bench.targets_limits(world)
        assert [verdict(line) for line in lines] == expected
        assert lines[0].endswith(f"{c / 10:.1%}")
        assert lines[1].endswith(f"{1 - c / 20:.3f}")


def test_models_have_the_same_order_unless_two_change_places():
    assert bench.same_order({"a": 0.9, "b": 0.8}, {"a": 0.5, "b": 0.4})
    assert bench.same_order({"a": 0.9, "b": 0.8}, {"a": 0.5, "b": 0.51})
    assert not bench.same_order({"a": 0.9, "b": 0.8}, {"a": 0.5, "b": 0.6})
    assert bench.order({"a": 0.5, "b": 0.9, "c": 0.51}) == "b 0.900 > c 0.510 = a 0.500"


@pytest.mark.parametrize(
    ("simulated", "real", "same"),
    [
        (-0.40, [-0.42], True),
        (-0.22, [-0.42], True),  # half as large
        (-0.15, [-0.42], False),
        (0.40, [-0.32], False),
        (0.01, [-0.05], True),  # too small to have a sign
        (0.03, [-0.05], False),
        (0.01, [-0.15], False),  # no change, where there is one
        (0.25, [0.01, 0.39], True),  # between two real ones
        (-0.15, [0.01, 0.39], False),
        (0.70, [0.01, 0.39], False),
    ],
)
def test_changes_agree_in_sign_and_rough_size(simulated, real, same):
    assert bench.same_change(simulated, real) == same


def figures(world: str, levels: dict[tuple[str, str], float]) -> bench.Scores:
    return {
        (world, features, split, model): dict.fromkeys(bench.KINDS, value)
        for (features, split), value in levels.items()
        for model in bench.MODELS
    }


def test_changes_are_compared_with_the_real_data_that_know_the_split():
    kinds = [(features, split) for features in (bench.PLAIN, bench.MORE) for split in ("random", "by time", "by capture")]
    same = dict(zip(kinds, (0.9, 0.9, 0.5, 0.95, 0.95, 0.2), strict=True))
    other = dict(zip(kinds, (0.9, 0.9, 0.5, 0.95, 0.95, 0.8), strict=True))
    by_class = figures("by class", {(bench.PLAIN, "random"): 0.6, (bench.MORE, "random"): 0.99})
    names = ["simulated", "captures", "by class"]
    lines = bench.targets_changes(figures("simulated", same) | figures("captures", same) | by_class, names)
    assert [verdict(line) for line in lines] == ["met"] * 4
    assert "+0.390 by class" in lines[2]
    assert "by class" not in lines[3]
    assert "decision tree -0.300 simulated" in lines[3]
    lines = bench.targets_changes(figures("simulated", other) | figures("captures", same), names[:2])
    assert [verdict(line) for line in lines] == ["met", "missed", "met", "missed"]
    lines = bench.targets_changes(figures("simulated", same), names[:1])
    assert [verdict(line) for line in lines] == ["not measured"] * 4


def test_orders_are_compared_by_accuracy_and_by_auc():
    scores = {
        (world, bench.PLAIN, split, model): dict(zip(bench.KINDS, (accuracy, accuracy, 0.9), strict=True))
        for world, step in (("simulated", 0.1), ("captures", -0.1))
        for split in ("random", "by time", "by capture")
        for model, accuracy in zip(bench.MODELS, np.arange(0.5, 0.9, 0.1)[:: int(np.sign(step))], strict=True)
    }
    lines = bench.targets_orders(scores, ["simulated", "captures"])
    assert [verdict(line) for line in lines] == ["missed", "met"] * 3
    assert "autoencoder" not in lines[0]
    assert "autoencoder" in lines[1]


# Reading and measuring


def test_the_sample_by_class_loses_its_stars_and_keeps_unset_apart(tmp_path):
    header = "id.resp_p,proto,service,duration,orig_bytes,resp_bytes,conn_state,missed_bytes,orig_pkts,orig_ip_bytes,"
    rows = ["23,tcp,-,,,,S0,0,1,40,0,0,Malicious,Okiru*", "53,udp,dns,0.5,3,4,SF,0,1,31,1,32,Benign,Benign"]
    path = tmp_path / "flows.csv"
    path.write_text("\n".join([f"{header}resp_pkts,resp_ip_bytes,label,detailed-label", *rows]) + "\n")
    flows = bench.read_by_class(path)
    assert list(flows["label"]) == ["Okiru", BENIGN]
    world = bench.world("by class", flows)
    assert world.ts is None
    assert world.X[bench.PLAIN][:, 0].tolist() == [0, 0.5]
    assert world.X[bench.MORE].shape == (2, 24 + 1 + 2)
    assert [name for name, _ in bench.splits_of(world, 0)] == ["random"]


def test_models_answer_for_every_split_and_both_sets_of_features(monkeypatch):
    monkeypatch.setattr(bench, "DRAWS", 1)
    number = np.arange(120)
    y = np.where(number % 4 == 0, "scan", BENIGN)
    X = (np.where(y == BENIGN, 100, 0) + number % 3).reshape(-1, 1).astype(np.float32)
    capture = np.where(number < 60, "a", "b")
    scores = bench.scores_of([bench.World("simulated", {bench.PLAIN: X, bench.MORE: np.c_[X, X]}, y, capture, number)])
    splits = ("random", "by time", "by capture")
    assert set(scores) == {("simulated", f, s, m) for f in (bench.PLAIN, bench.MORE) for s in splits for m in bench.MODELS}
    for (*_, model), found in scores.items():  # the two classes are far apart
        if model == bench.AUTOENCODER:
            assert math.isnan(found["accuracy"])
            assert 0 <= found["AUC"] <= 1
        else:
            assert list(found.values()) == [1.0, 1.0, 1.0]


def test_fewer_rows_keep_rare_classes_whole():
    y = np.repeat([BENIGN, "scan", "download"], [3000, 1000, 12])
    part = bench.some_rows(bench.World("w", {bench.PLAIN: matrix(4012, 60)}, y, y, None), seed=0, rows=1003)
    assert {label: int((part.y == label).sum()) for label in set(y)} == {BENIGN: 750, "scan": 250, "download": 12}


@pytest.fixture(scope="module")
def captures() -> list[bench.World]:
    """Two worlds of three simulated captures each, from two seeds: those with most benign rows among those with attacks."""
    worlds = []
    for seed in (7, 8):
        world = bench.simulated_world(seed, 6000)
        benign = {name: int((world.y[world.capture == name] == BENIGN).sum()) for name in set(world.capture)}
        attacked = {str(name) for name in world.capture[world.y != BENIGN]}
        rows = np.flatnonzero(np.isin(world.capture, sorted(attacked, key=lambda name: -benign[name])[:3]))
        X = {name: features[rows] for name, features in world.X.items()}
        worlds.append(bench.World(("simulated", "captures")[seed - 7], X, world.y[rows], world.capture[rows], world.ts[rows]))
    return worlds


@pytest.mark.parametrize("real", [True, False], ids=["beside others", "alone"])
def test_the_section_has_all_its_tables_and_targets(captures, real, monkeypatch):
    monkeypatch.setattr(bench, "simulated_world", lambda seed, size: captures[0])
    monkeypatch.setattr(bench, "real_worlds", lambda: captures[1:] if real else [])
    monkeypatch.setattr(bench, "MODEL_ROWS", 400)
    monkeypatch.setattr(bench, "RARE_ROWS", 20)
    monkeypatch.setattr(bench, "DRAWS", 1)
    section = bench.run(rows=50, seeds=1, processes=1)
    assert section.startswith("## Faithfulness of SIMULATED captures (seed 7, ")
    assert ("the simulated side is measured alone." in section) != real
    assert ("Real: captures (" in section) == real
    assert section.count("\n|-") == (4 if real else 3)
    verdicts = [verdict(line) for line in section.splitlines() if line.startswith("- target")]
    assert len(verdicts) >= 1 + 2 + 6 + 4
    assert ("not measured" in verdicts) != real
    assert verdicts.count("not measured") in (0, len(verdicts) - 2)  # conflicts and ceiling need nothing real


def test_without_real_captures_there_are_no_real_worlds(monkeypatch, recwarn):
    def missing(dataset: str) -> None:
        raise iot23.DataMissing("none here")

    monkeypatch.setattr(iot23, "locate", missing)
    monkeypatch.delenv("FLIOT_DATA", raising=False)
    assert bench.real_worlds() == []
    assert not recwarn.list


def test_a_folder_that_was_named_and_holds_nothing_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setenv("FLIOT_DATA", str(tmp_path))
    with pytest.warns(UserWarning, match="does not exist"):
        assert bench.real_worlds() == []
