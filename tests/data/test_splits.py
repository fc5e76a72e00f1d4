"""Splits: the laws that every one of them obeys, and what each refuses."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fliot_lab.data import splits

quick = settings(deadline=None, max_examples=60)
# few distinct values, so that ties and single-row captures are common
flows = st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["34-1", "8-1", "4-1"])), min_size=1, max_size=40)
fractions = st.floats(0.05, 0.95)


def columns(rows: list[tuple[int, str]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([when for when, _ in rows], dtype=float), np.array([name for _, name in rows])


def split_by_time_or_none(ts: np.ndarray, captures: np.ndarray, fraction: float):
    try:
        return splits.by_time(ts, captures, fraction)
    except ValueError as refusal:
        if "is empty" not in str(refusal):
            raise
        return None


def assert_divides(train: np.ndarray, test: np.ndarray, n: int) -> None:
    assert train.dtype == test.dtype == np.int64
    assert len(train)
    assert len(test)
    assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(n))


# by capture


@quick
@given(flows)
def test_leaving_out_each_capture_divides_the_rows_and_tests_each_row_once(rows) -> None:
    _, captures = columns(rows)
    if len(set(captures)) == 1:
        with pytest.raises(ValueError, match="training side of the split is empty"):
            list(splits.leave_one_capture_out(captures))
        return
    tested = []
    for name, train, test in splits.leave_one_capture_out(captures):
        assert_divides(train, test, len(captures))
        assert set(captures[test]) == {name}
        assert name not in captures[train]
        tested.extend(test)
    assert sorted(tested) == list(range(len(captures)))


def test_captures_come_in_natural_order() -> None:
    captures = ["Malware-34-1", "Malware-8-1", "Honeypot-5-1", "Malware-8-2", "Malware-20-1"]
    names = [name for name, _, _ in splits.leave_one_capture_out(captures)]
    assert names == ["Honeypot-5-1", "Malware-8-1", "Malware-8-2", "Malware-20-1", "Malware-34-1"]


def test_several_captures_are_held_out_together_and_columns_of_a_frame_serve() -> None:
    frame = pd.DataFrame({"capture": ["a", "b", "c", "a"]})
    for column in (frame["capture"], frame["capture"].astype("category"), list(frame["capture"])):
        train, test = splits.by_capture(column, {"a", "c"})
        assert train.tolist() == [1]
        assert test.tolist() == [0, 2, 3]


def test_clients_known_by_number_can_be_held_out() -> None:
    assert splits.by_capture(np.array([3, 10, 3]), [10])[1].tolist() == [1]


@pytest.mark.parametrize(
    ("captures", "held_out", "message"),
    [
        (["a", "b"], "c", "no row has capture c; there are a, b"),
        (["a", "b"], [], "test side of the split is empty"),
        (["a", "b"], ["a", "b"], "training side of the split is empty"),
        (["a", None], "a", "1 rows have no capture"),
        (pd.Series(["a", pd.NA], dtype="str"), "a", "1 rows have no capture"),
        ([], "a", "one name per row"),
        ([["a"], ["b"]], "a", "one name per row"),
    ],
)
def test_by_capture_refuses(captures, held_out, message) -> None:
    with pytest.raises(ValueError, match=message):
        splits.by_capture(captures, held_out)


# by time


@quick
@given(flows, fractions)
def test_by_time_tests_what_came_last_in_every_capture(rows, fraction) -> None:
    ts, captures = columns(rows)
    divided = split_by_time_or_none(ts, captures, fraction)
    if divided is None:
        return
    train, test = divided
    assert_divides(train, test, len(ts))
    for name in set(captures):
        before, after = ts[train][captures[train] == name], ts[test][captures[test] == name]
        assert before.max(initial=-np.inf) < after.min(initial=np.inf)
        assert len(after) <= round(fraction * (captures == name).sum())


@quick
@given(flows, fractions, st.randoms(use_true_random=False))
def test_by_time_follows_a_permutation_of_the_rows(rows, fraction, random) -> None:
    ts, captures = columns(rows)
    order = np.array(random.sample(range(len(ts)), len(ts)))
    before = split_by_time_or_none(ts, captures, fraction)
    after = split_by_time_or_none(ts[order], captures[order], fraction)
    assert (before is None) == (after is None)
    if before is not None and after is not None:
        for plain, permuted in zip(before, after, strict=True):
            assert plain.tolist() == sorted(order[permuted])


@quick
@given(st.permutations(range(20)), fractions)
def test_by_time_gives_the_asked_fraction_where_no_times_tie(ts, fraction) -> None:
    if round(fraction * 20) in (0, 20):
        return
    _, test = splits.by_time(np.array(ts), ["a"] * 20, fraction)
    assert set(np.array(ts)[test]) == set(range(20 - round(fraction * 20), 20))


def test_by_time_takes_datetimes_with_and_without_a_zone() -> None:
    seconds = np.array([50.0, 10, 40, 20, 30])
    expected = splits.by_time(seconds, ["a"] * 5, 0.4)
    plain = pd.Series(pd.to_datetime(seconds, unit="s"))
    for ts in (plain, plain.dt.tz_localize("UTC"), plain.to_numpy(), pd.DatetimeIndex(plain)):
        for found, asked in zip(splits.by_time(ts, ["a"] * 5, 0.4), expected, strict=True):
            assert np.array_equal(found, asked)


@pytest.mark.parametrize(
    ("ts", "captures", "fraction", "message"),
    [
        ([1.0, np.nan], ["a", "a"], 0.5, "1 rows have no time"),
        (pd.to_datetime(pd.Series(["2018-12-21", None])), ["a", "a"], 0.5, "1 rows have no time"),
        ([1.0, 2.0, 3.0], ["a", "a"], 0.5, "ts has 3 rows and captures 2"),
        (["yesterday", "today"], ["a", "a"], 0.5, "seconds or datetimes"),
        ([1.0, 2.0], ["a", "a"], 0.0, "between 0 and 1"),
        ([1.0, 2.0], ["a", "a"], 1.0, "between 0 and 1"),
        ([1.0, 2.0], ["a", "a"], float("nan"), "between 0 and 1"),
        ([1.0, 1.0], ["a", "a"], 0.5, "test side of the split is empty"),
        ([1.0, 2.0], ["a", "a"], 0.9, "training side of the split is empty"),
    ],
)
def test_by_time_refuses(ts, captures, fraction, message) -> None:
    with pytest.raises(ValueError, match=message):
        splits.by_time(ts, captures, fraction)


def test_validation_is_carved_out_of_the_training_rows_by_the_same_functions() -> None:
    rng = np.random.default_rng(0)
    ts, capture = rng.permutation(200).astype(float), rng.choice(["a", "b", "c"], 200)
    train, test = splits.by_capture(capture, "c")
    fit, validation = (train[part] for part in splits.by_time(ts[train], capture[train]))
    assert_divides(np.concatenate([fit, validation]), test, 200)
    assert "c" not in capture[validation]


# random rows, the trap


@quick
@given(st.integers(2, 200), fractions, st.integers(0, 2**32 - 1))
def test_random_rows_divide_and_repeat_with_the_seed(n, fraction, seed) -> None:
    if round(fraction * n) in (0, n):
        with pytest.raises(ValueError, match="is empty"):
            splits.random_rows(n, fraction, seed)
        return
    train, test = splits.random_rows(n, fraction, seed)
    assert_divides(train, test, n)
    assert len(test) == round(fraction * n)
    assert np.array_equal(test, splits.random_rows(n, fraction, seed)[1])


def test_random_rows_take_a_generator_and_refuse_a_fraction_of_one() -> None:
    generator = np.random.default_rng(1)
    first, second = (splits.random_rows(100, 0.5, generator)[1] for _ in range(2))
    assert not np.array_equal(first, second)
    with pytest.raises(ValueError, match="between 0 and 1"):
        splits.random_rows(10, 1.0, 0)


# duplicates across the split


def naive_without_duplicates(X, train, test) -> list[int]:
    same = lambda a, b: all(p == q or (p != p and q != q) for p, q in zip(a, b, strict=True))  # noqa: E731
    return [i for i in test if not any(same(X[i], X[j]) for j in train)]


cells = st.sampled_from([0.0, -0.0, 1.0, np.nan])


@quick
@given(st.lists(st.tuples(cells, cells), min_size=2, max_size=25), st.integers(0, 99), st.sampled_from(["f4", "f8"]))
def test_duplicates_go_as_the_naive_loop_says(rows, seed, dtype) -> None:
    X = np.array(rows, dtype=dtype)
    kept_as_given = X.copy()
    shuffled = np.random.default_rng(seed).permutation(len(X))
    train, test = shuffled[: len(X) // 2], shuffled[len(X) // 2 :]
    expected = naive_without_duplicates(X, train, test)
    if not expected:
        with pytest.raises(ValueError, match="has a copy in training"):
            splits.without_duplicates(X, train, test)
        return
    same_train, remaining = splits.without_duplicates(X, train, test)
    assert np.array_equal(same_train, train)
    assert remaining.tolist() == expected
    assert X.tobytes() == kept_as_given.tobytes()


def test_duplicates_within_a_side_stay_and_a_frame_serves() -> None:
    X = pd.DataFrame({"port": [1, 1, 2, 2, 1], "bytes": [5.0, 5.0, 6.0, 6.0, 5.0]})
    train, test = splits.without_duplicates(X, [0, 1], [2, 3, 4])
    assert train.tolist() == [0, 1]
    assert test.tolist() == [2, 3]


@pytest.mark.parametrize(
    ("X", "train", "test", "message"),
    [
        (np.eye(3), [0, 1], [1, 2], "rows in common"),
        (np.eye(3), [0, 1], [3], "outside 0 to 2"),
        (np.eye(3), [0, -1], [2], "outside 0 to 2"),
        (np.eye(3), [True, False, True], [1], "must be row numbers"),
        (np.eye(3), [0], [], "must be row numbers"),
        (np.ones(3), [0], [1], "shape \\(n, d\\)"),
        (np.array([["a"], ["b"]]), [0], [1], "encode text columns first"),
        (np.ones((3, 2)), [0], [1, 2], "each of the 2 test rows has a copy"),
    ],
)
def test_without_duplicates_refuses(X, train, test, message) -> None:
    with pytest.raises(ValueError, match=message):
        splits.without_duplicates(X, train, test)
