"""Measures against scikit-learn, naive loops and cases worked by hand, and the laws that they obey."""

import math
from collections import Counter, defaultdict

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fliot_lab import evaluation as ev

quick = settings(deadline=None, max_examples=60)
labels = st.sampled_from(["benign", "DDoS", "C&C", "scan"])
pairs = st.lists(st.tuples(labels, labels), min_size=1, max_size=40)
tied = st.integers(-3, 3).map(float)  # few distinct values, so that ties are common
detections = st.lists(st.tuples(st.booleans(), tied), min_size=1, max_size=60)
rates = st.floats(0, 1, exclude_max=True)


def unzipped(rows):
    return tuple(np.array(column) for column in zip(*rows, strict=True))


# classification


@quick
@given(pairs)
def test_metrics_agree_with_scikit_learn(rows) -> None:
    true, pred = unzipped(rows)
    found = ev.metrics(true, pred)
    recalls = [(pred[true == name] == name).mean() for name in set(true)]
    assert found["accuracy"] == pytest.approx(oracle.accuracy_score(true, pred))
    assert found["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert found["macro_f1"] == pytest.approx(oracle.f1_score(true, pred, average="macro"))
    if set(pred) <= set(true) and len(set(true)) > 1:
        assert found["balanced_accuracy"] == pytest.approx(oracle.balanced_accuracy_score(true, pred))


def test_metrics_by_hand_and_labels_narrow_the_means() -> None:
    true, pred = ["a", "a", "a", "b", "c"], ["a", "a", "b", "b", "d"]
    # recall a 2/3, b 1, c 0; F1 a 4/5, b 2/3, c 0, d 0
    assert ev.metrics(true, pred) == pytest.approx(
        {"accuracy": 3 / 5, "balanced_accuracy": (2 / 3 + 1 + 0) / 3, "macro_f1": (4 / 5 + 2 / 3) / 4}
    )
    narrowed = ev.metrics(true, pred, labels=["a", "b", "never seen"])
    assert narrowed == pytest.approx({"accuracy": 3 / 5, "balanced_accuracy": (2 / 3 + 1) / 2, "macro_f1": (4 / 5 + 2 / 3) / 2})
    assert math.isnan(ev.metrics(true, pred, labels=["d"])["balanced_accuracy"])


def test_metrics_take_columns_categories_booleans_and_numbers() -> None:
    text = pd.Series(["a", "b", "b"])
    assert ev.metrics(text, text.astype("category"))["accuracy"] == 1.0
    assert ev.metrics(np.array([True, False]), np.array([1, 1]))["accuracy"] == 0.5
    assert ev.metrics(np.array([0, 1, 2]), np.array([0.0, 1.0, 1.0]))["accuracy"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("true", "pred", "message"),
    [
        (["a", "b"], ["a"], "y_true has 2 rows and y_pred 1"),
        ([], [], "at least one"),
        (["a", None], ["a", "a"], "y_true is missing in 1 rows"),
        (["a"], [1], "names in both or numbers in both"),
        ([["a"]], [["a"]], "shape \\(n,\\)"),
    ],
)
def test_metrics_refuse(true, pred, message) -> None:
    for measure in (ev.metrics, ev.per_class_recall):
        with pytest.raises(ValueError, match=message):
            measure(true, pred)


def test_metrics_refuse_labels_that_do_not_occur() -> None:
    with pytest.raises(ValueError, match="none of the labels"):
        ev.metrics(["a"], ["a"], labels=["b"])


@quick
@given(pairs)
def test_recall_comes_with_its_support(rows) -> None:
    true, pred = unzipped(rows)
    table = ev.per_class_recall(true, pred)
    assert table.index.name == "class"
    assert table["support"].to_dict() == Counter(true.tolist())
    assert table["support"].is_monotonic_decreasing
    for name, recall in table["recall"].items():
        assert recall == pytest.approx((pred[true == name] == name).mean())


# detection


def naive_tpr_at_fpr(attack, scores, fpr) -> float:
    best = 0.0
    for threshold in [*scores, -np.inf]:
        flagged = scores > threshold
        if flagged[~attack].mean() <= fpr:
            best = max(best, flagged[attack].mean())
    return best


@quick
@given(detections, rates)
def test_detection_agrees_with_scikit_learn_and_the_naive_loop(rows, fpr) -> None:
    attack, scores = unzipped(rows)
    if attack.all() or not attack.any():
        assert math.isnan(ev.auc(attack, scores))
        assert math.isnan(ev.tpr_at_fpr(attack, scores, fpr))
        return
    assert ev.auc(attack, scores) == pytest.approx(oracle.roc_auc_score(attack, scores))
    found = ev.tpr_at_fpr(attack, scores, fpr)
    assert found == pytest.approx(naive_tpr_at_fpr(attack, scores, fpr))
    false_alarms, detected, _ = oracle.roc_curve(attack, scores, drop_intermediate=False)
    assert found == pytest.approx(detected[false_alarms <= fpr].max())


@quick
@given(detections)
def test_detection_depends_on_the_order_of_the_scores_alone(rows) -> None:
    attack, scores = unzipped(rows)
    for change in (np.exp, lambda s: 3 * s - 7, lambda s: np.where(s == s.max(), np.inf, s)):
        assert ev.detection_metrics(attack, change(scores)) == pytest.approx(ev.detection_metrics(attack, scores), nan_ok=True)
    if attack.any() and not attack.all():
        assert ev.auc(attack, -scores) == pytest.approx(1 - ev.auc(attack, scores))


@quick
@given(st.lists(st.one_of(tied, st.just(np.inf)), min_size=1, max_size=300), rates)
def test_threshold_keeps_its_false_alarms_and_is_the_smallest_that_does(scores, fpr) -> None:
    scores = np.array(scores)
    threshold = ev.threshold_at_fpr(scores, fpr)
    assert (scores > threshold).mean() <= fpr
    for smaller in scores[scores < threshold]:
        assert (scores > smaller).mean() > fpr


@pytest.mark.parametrize("n", [3, 10, 49, 93, 100, 1000, 3000])
def test_threshold_counts_exactly_where_floating_point_would_not(n) -> None:
    scores = np.arange(n, dtype=float)
    for k in range(n):
        assert (scores > ev.threshold_at_fpr(scores, k / n)).sum() == k
        if k:
            assert (scores > ev.threshold_at_fpr(scores, np.nextafter(k / n, 0))).sum() == k - 1


def test_few_benign_rows_give_the_share_found_without_a_false_alarm() -> None:
    attack = np.array([False] * 50 + [True] * 4)
    scores = np.array([*range(50), 48.5, 49.0, 49.5, 60.0])
    found = ev.detection_metrics(attack, scores)
    assert found["tpr_at_fpr_0.001"] == found["tpr_at_fpr_0.01"] == 0.5  # the row tied with benign 49 is not flagged
    assert list(found) == list(ev.HEADINGS)[3:]


@pytest.mark.parametrize(
    ("attack", "scores", "message"),
    [
        ([True, False], [1.0], "same shape"),
        ([], [], "same shape"),
        ([True, False], [1.0, np.nan], "1 scores are NaN"),
        ([2, 0], [1.0, 2.0], "True or 1 for an attack"),
        (["attack", "benign"], [1.0, 2.0], "True or 1 for an attack"),
    ],
)
def test_detection_refuses(attack, scores, message) -> None:
    for measure in (ev.auc, ev.tpr_at_fpr, ev.detection_metrics):
        with pytest.raises(ValueError, match=message):
            measure(attack, scores)


@pytest.mark.parametrize(("scores", "fpr"), [([], 0.01), ([1.0, np.nan], 0.01), ([1.0], 1.0), ([1.0], -0.1)])
def test_threshold_refuses(scores, fpr) -> None:
    with pytest.raises(ValueError, match=r"benign scores must be|fpr must lie"):
        ev.threshold_at_fpr(scores, fpr)


# uncertainty


@quick
@given(st.lists(st.integers(0, 3), min_size=2, max_size=20), st.integers(-5, 5), st.integers(0, 99))
def test_bootstrap_of_equal_numbers_is_that_number(groups, number, seed) -> None:
    found = ev.bootstrap(np.mean, np.full(len(groups), float(number)), groups=groups, n=20, seed=seed)
    assert found.value == number
    assert found.groups == len(set(groups))
    expected = (None, None) if found.groups == 1 else (number, number)
    assert (found.low, found.high) == expected


def test_bootstrap_resamples_whole_groups_of_aligned_rows() -> None:
    groups = np.array(["a", "b", "c", "a", "b", "a"])
    X = np.arange(12).reshape(6, 2)
    seen = []

    def statistic(names, rows, first) -> float:
        assert np.array_equal(rows[:, 0], first)
        counts = Counter(names.tolist())
        assert all(counts[name] % (groups == name).sum() == 0 for name in counts)
        assert sum(counts[name] // (groups == name).sum() for name in counts) == 3
        seen.append(tuple(sorted(counts.items())))
        return float(len(names))

    ev.bootstrap(statistic, groups, X, pd.Series(X[:, 0]), groups=pd.Series(groups), n=50, seed=0)
    assert len(set(seen)) > 3


def test_bootstrap_matches_an_exact_count_of_all_resamples() -> None:
    """Two groups with means 0 and 1: resamples give 0, 1/2 and 1 with chances 1/4, 1/2 and 1/4."""
    found = ev.bootstrap(np.mean, np.array([0.0, 0, 1, 1]), groups=["a", "a", "b", "b"], n=4000, seed=1, level=0.4)
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)
    found = ev.bootstrap(np.mean, np.array([0.0, 0, 1, 1]), groups=["a", "a", "b", "b"], n=4000, seed=1, level=0.6)
    assert (found.low, found.high) == (0.0, 1.0)


def test_bootstrap_repeats_with_its_seed_and_redraws_what_is_undefined() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(5), 40)
    attack = groups >= 4  # one capture holds all the attacks, so (4/5)**5, a third of the resamples, have none
    scores = rng.normal(size=200) + attack
    one, two = (ev.bootstrap(ev.auc, attack, scores, groups=groups, n=100, seed=3) for _ in range(2))
    assert one == two
    assert 20 < one.redrawn < 100
    assert f"({one.redrawn} resamples redrawn)" in str(one)
    assert one.low is not None
    assert one.high is not None
    assert one.low <= one.value <= one.high
    assert one != ev.bootstrap(ev.auc, attack, scores, groups=groups, n=100, seed=4)


def test_bootstrap_lets_errors_through_and_refuses_what_it_cannot_do() -> None:
    def broken(values) -> float:
        raise ZeroDivisionError

    values, groups = np.array([1.0, 2, 3]), ["a", "b", "c"]
    with pytest.raises(ZeroDivisionError):
        ev.bootstrap(broken, values, groups=groups, seed=0)
    with pytest.raises(ValueError, match="NaN on all the rows"):
        ev.bootstrap(lambda values: math.nan, values, groups=groups, seed=0)
    with pytest.raises(ValueError, match=r"NaN on \d+ of 1000 resamples"):  # defined on all rows in their order alone
        ev.bootstrap(lambda v: 1.0 if np.array_equal(v, values) else math.nan, values, groups=groups, n=100, seed=0)
    with pytest.raises(ValueError, match="groups has 2 rows"):
        ev.bootstrap(np.mean, values, groups=["a", "b"], seed=0)
    with pytest.raises(ValueError, match="at least one row"):
        ev.bootstrap(np.mean, groups=groups, seed=0)
    with pytest.raises(ValueError, match="groups is missing in 1 rows"):
        ev.bootstrap(np.mean, values, groups=["a", None, "b"], seed=0)
    with pytest.raises(ValueError, match="level must lie"):
        ev.bootstrap(np.mean, values, groups=groups, seed=0, level=95)
    with pytest.raises(ValueError, match="n must be at least 1"):
        ev.bootstrap(np.mean, values, groups=groups, seed=0, n=0)


@quick
@given(st.lists(st.floats(-10, 10), min_size=2, max_size=10), st.floats(0.5, 0.99))
def test_interval_over_seeds_is_student_s(values, level) -> None:
    found = ev.interval_over_seeds(values, level)
    assert found.value == pytest.approx(np.mean(values), abs=1e-12)
    if np.std(values) > 1e-9:
        expected = stats.t.interval(level, len(values) - 1, np.mean(values), stats.sem(values))
        assert (found.low, found.high) == pytest.approx(expected)
    assert found.groups == len(values)


def test_one_seed_gives_no_interval_and_intervals_read_well() -> None:
    assert ev.interval_over_seeds([0.5]) == ev.Interval(0.5, None, None, 1)
    assert str(ev.interval_over_seeds([0.5])) == "0.500 [no interval]"
    assert str(ev.Interval(0.9321, 0.9009, 0.9581, 7)) == "0.932 [0.901, 0.958]"


def test_interval_over_seeds_stays_within_its_bounds() -> None:
    free, cut = ev.interval_over_seeds([0.9, 1.0]), ev.interval_over_seeds([0.9, 1.0], bounds=(0, 1))
    assert free.high is not None
    assert free.high > 1
    assert (cut.value, cut.low, cut.high) == (free.value, free.low, 1)


@pytest.mark.parametrize("values", [[], [0.5, math.nan], [[0.5]]])
def test_interval_over_seeds_refuses(values) -> None:
    with pytest.raises(ValueError, match="finite numbers, one per seed"):
        ev.interval_over_seeds(values)


# what the data allow


def naive_conflicts(X, y) -> ev.Conflicts:
    classes = defaultdict(Counter)
    for row, label in zip(X, y, strict=True):
        classes[tuple("nan" if v != v else v + 0.0 for v in row.tolist())][label] += 1
    mixed = sum(sum(counts.values()) for counts in classes.values() if len(counts) > 1)
    best = sum(max(counts.values()) for counts in classes.values())
    return ev.Conflicts(len(y), len(classes), mixed / len(y), best / len(y))


cells = st.sampled_from([0.0, -0.0, 1.0, np.nan])


@quick
@given(st.lists(st.tuples(cells, cells, labels), min_size=1, max_size=40), st.sampled_from(["f4", "f8"]))
def test_conflicts_agree_with_the_naive_count(rows, dtype) -> None:
    X, y = np.array([row[:2] for row in rows], dtype=dtype), [row[2] for row in rows]
    before = X.tobytes()
    assert ev.conflicts(X, y) == naive_conflicts(X, y)
    assert ev.best_possible_accuracy(X, y) == naive_conflicts(X, y).best_possible_accuracy
    assert X.tobytes() == before


def test_conflicts_by_hand_and_from_a_frame() -> None:
    X = pd.DataFrame({"port": [23, 23, 23, 80, 80], "bytes": [0, 0, 0, 5, 6]})
    found = ev.conflicts(X, ["scan", "scan", "benign", "benign", "benign"])
    assert found == ev.Conflicts(rows=5, vectors=3, conflicted=3 / 5, best_possible_accuracy=4 / 5)
    assert ev.best_possible_accuracy(X.assign(row=range(5)), list("abcde")) == 1.0


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.eye(3), [0, 1], "X has 3 rows and y 2"),
        (np.ones(3), [0, 1, 2], "shape \\(n, d\\)"),
        (np.ones((0, 3)), [], "shape \\(n, d\\)"),
        (np.array([["a"]]), [0], "encode text columns first"),
        (np.eye(2), ["a", None], "y is missing in 1 rows"),
    ],
)
def test_conflicts_refuse(X, y, message) -> None:
    with pytest.raises(ValueError, match=message):
        ev.conflicts(X, y)


# events


def naive_events(ts, label, capture, gap_s) -> dict[str, int]:
    last, found = {}, Counter()
    for when, name, where in sorted(zip(ts, label, capture, strict=True)):
        if (name, where) not in last or when - last[name, where] >= gap_s:
            found[name] += 1
        last[name, where] = when
    return dict(found)


@quick
@given(st.lists(st.tuples(st.integers(0, 60), labels, st.sampled_from("ab")), min_size=1), st.integers(1, 20))
def test_events_agree_with_the_naive_loop(rows, gap_s) -> None:
    ts, label, capture = (list(column) for column in zip(*rows, strict=True))
    table = ev.events(ts, label, capture, gap_s=gap_s)
    assert table["events"].to_dict() == naive_events(ts, label, capture, gap_s)
    assert table["rows"].to_dict() == Counter(label)
    stamps = pd.Series(pd.to_datetime(np.array(ts), unit="s", utc=True))
    assert ev.events(stamps, label, capture, gap_s=gap_s).equals(table)


def test_events_by_hand() -> None:
    ts = [0.0, 59.9, 119.9, 30.0, 30.0]
    label = ["DDoS", "DDoS", "DDoS", "scan", "scan"]
    assert ev.events(ts, label).to_dict() == {"rows": {"DDoS": 3, "scan": 2}, "events": {"DDoS": 2, "scan": 1}}
    assert ev.events(ts, label, list("aaaab"))["events"].to_dict() == {"DDoS": 2, "scan": 2}
    assert ev.events([], []).empty


@pytest.mark.parametrize(
    ("ts", "label", "gap_s", "message"),
    [
        ([1.0, np.nan], ["a", "a"], 60, "1 rows have no time"),
        ([1.0], ["a", "a"], 60, "ts has 1 rows and label 2"),
        ([1.0], [None], 60, "label is missing in 1 rows"),
        (["noon"], ["a"], 60, "seconds or datetimes"),
        ([1.0], ["a"], 0, "gap_s must be"),
    ],
)
def test_events_refuse(ts, label, gap_s, message) -> None:
    with pytest.raises(ValueError, match=message):
        ev.events(ts, label, gap_s=gap_s)


# the table


def test_table_has_one_row_per_model_in_the_order_given() -> None:
    true, pred, scores = ["Benign", "DDoS", "Benign", "C&C"], ["Benign", "DDoS", "DDoS", "C&C"], [0.1, 0.9, 0.5, 0.7]
    measured = ev.detection_metrics([False, True], [0.0, 1.0]) | {"accuracy": 0.25}
    table = ev.results_table({"forest": (true, pred, scores), "tree": (true, pred), "federated": measured})
    assert list(table.columns) == ["model", *ev.HEADINGS.values()]
    assert table["model"].tolist() == ["forest", "tree", "federated"]
    assert all(dtype == np.float64 for dtype in table.dtypes.iloc[1:])
    figures = table.set_index("model")
    assert figures.loc["forest"].tolist() == pytest.approx([0.75, 2.5 / 3, (2 / 3 + 2 / 3 + 1) / 3, 1, 1, 1])
    assert figures.loc["tree", "AUC":].isna().all()
    assert figures.loc["federated"].tolist() == pytest.approx([0.25, math.nan, math.nan, 1, 1, 1], nan_ok=True)


def test_table_names_the_split_where_models_come_with_one() -> None:
    table = ev.results_table({("forest", "by capture"): {"auc": 0.5}, ("forest", "random"): {"auc": 0.9}, "none": {}})
    assert list(table.columns[:2]) == ["model", "split"]
    assert table["split"].tolist()[:2] == ["by capture", "random"]
    assert pd.isna(table["split"].iloc[2])


def test_table_takes_attacks_as_booleans_and_numbers_and_another_name_for_benign() -> None:
    scores, expected = [0.1, 0.9, 0.5], 1.0
    for true, benign in (([False, True, False], "benign"), ([0, 1, 0], "benign"), (list("aba"), "a"), ([3, 5, 3], 3)):
        assert ev.results_table({"model": (true, true, scores)}, benign=benign)["AUC"].item() == expected


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"forest": {"f1": 0.5}}, "forest: unknown metrics \\['f1'\\]"),
        ({"forest": (["a"],)}, "forest: give \\(y_true, y_pred\\)"),
        ({"forest": (["benign", "DDoS"], ["benign", "DDoS"], [0, 1])}, "no row of y_true is 'Benign'"),
    ],
)
def test_table_refuses(rows, message) -> None:
    with pytest.raises(ValueError, match=message):
        ev.results_table(rows)
