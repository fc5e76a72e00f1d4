"""Check of exercise 1.4: a split by time, capture by capture."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fliot_lab.course.checks import CheckFailed, Exercise, array, ask, passed, recognised

Array = npt.NDArray[Any]
Split = tuple[Array, Array]


def split_by_time(answer: Callable[..., Any]) -> None:
    """Exercise 1.4: `answer(ts, captures, test_fraction)` is (train, test), the last share of each capture's rows in test."""
    cases = _captures()
    received = [_test_rows(_asked(answer, case), len(case[0])) for case in cases]
    for case, found in zip(cases, received, strict=True):
        if not np.array_equal(found, _naive_split(*case)):
            if case is cases[-1] and not found[0]:  # nothing else is wrong
                mistake = _ALL_TEST
            else:
                mistake = recognised(_SPLITS, cases[:-1], received[:-1]) or _broken_law(case[0], case[1], found)
            raise CheckFailed(f"{mistake} {_split_in_words(*case, found)}")
    passed(
        "1 to 5 captures of 1 to 48 rows, in and out of order, mixed with each other, with and without equal times, shares of "
        "0.25 to 0.6, shares of a row that round up, down and to even, a capture that has no training row"
    )


def _captures() -> list[tuple[Array, Array, float]]:
    """Times, captures and share, the smallest first. The one-row capture that is all test comes last: see _asked."""
    rng = np.random.default_rng(4)
    found = [
        (np.array([30.0, 10.0, 20.0, 40.0, 8.0, 6.0, 7.0, 5.0]), np.array(list("AAAABBBB")), 0.25),
        (np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 6.0, 7.0]), np.array(list("AAAAAAAA")), 0.25),
        (np.array([9.0, 1.0, 2.0, 3.0, 4.0]), np.array(list("BAAAA")), 0.25),
    ]
    for sizes, latest in (((8, 16, 4, 12), 1000), ((48, 4, 24, 8, 16), 12)):
        captures = rng.permutation(np.repeat([f"CTU-{i}-1" for i in range(len(sizes))], sizes))
        found.append((rng.integers(0, latest, len(captures)) / 1.0, captures, 0.25))
    for n, test_fraction in ((10, 0.3), (7, 0.5), (5, 0.5), (9, 0.3), (7, 0.3)):  # 3, 3.5, 2.5, 2.7 and 2.1 rows
        found.append((rng.permutation(n) + 1.0, np.full(n, "A"), test_fraction))
    return [*found, (np.array([9.0, 1.0, 4.0, 2.0, 3.0]), np.array(list("BAAAA")), 0.6)]


def _asked(answer: Callable[..., Any], case: tuple[Array, Array, float]) -> Any:
    """What `answer` gives for `case`; CheckFailed says where an error comes from a capture without a training row."""
    try:
        return ask(answer, *case)
    except CheckFailed as failure:
        _, captures, test_fraction = case
        sizes = Counter(captures.tolist()).values()
        nothing_left = any(round(test_fraction * size) == size for size in sizes)
        if nothing_left and isinstance(failure.__cause__, IndexError | ValueError):
            raise CheckFailed(f"{_ALL_TEST} There {failure}", failure.draw) from failure.__cause__
        raise


def _naive_split(ts: Array, captures: Array, test_fraction: float) -> Array:
    """True (n,) where a row is test: later than the last training row of its capture."""
    test = np.zeros(len(ts), dtype=bool)
    for name in set(captures.tolist()):
        rows = sorted(np.flatnonzero(captures == name).tolist(), key=lambda row: float(ts[row]))
        training = rows[: len(rows) - round(test_fraction * len(rows))]
        for row in rows:
            test[row] = not training or ts[row] > ts[training[-1]]
    return test


def _test_rows(received: Any, n: int) -> Array:
    """The test side of `received` as a mask (n,); CheckFailed unless it is a pair that holds each row once."""
    if not isinstance(received, tuple | list) or len(received) != 2:
        raise CheckFailed(f"the answer must be two arrays, `return train, test`, and yours is a {type(received).__name__}")
    train, test = (_row_numbers(side, name) for side, name in zip(received, ("train", "test"), strict=True))
    times = Counter(train.tolist()) + Counter(test.tolist())
    if unknown := [row for row in times if row not in range(n)]:
        raise CheckFailed(f"there is no row {unknown[0]}: the {n} rows are 0 to {n - 1}")
    if wrong := [row for row in range(n) if times[row] != 1]:
        raise CheckFailed(
            f"train and test must hold each of the {n} rows once, and row {wrong[0]} is in them {times[wrong[0]]} times. Are "
            "they row numbers of all rows, or within a capture?"
        )
    mask = np.zeros(n, dtype=bool)
    mask[test.astype(int)] = True
    return mask


def _row_numbers(side: Any, name: str) -> Array:
    rows = array(side, (len(side),) if hasattr(side, "__len__") else (0,), name)
    if rows.dtype.kind == "b":
        raise CheckFailed(f"{name} must hold row numbers, and yours is a mask: np.flatnonzero(mask) gives the row numbers")
    return rows


def _broken_law(ts: Array, captures: Array, test: Array) -> str:
    """The first pair of rows of one capture of which the test row is not the later one, where there is such a pair."""
    for name in dict.fromkeys(captures.tolist()):
        of_it = captures == name
        if test[of_it].all() or not test[of_it].any():
            continue
        first, last = min(ts[of_it & test]), max(ts[of_it & ~test])
        if first <= last:
            when = "at the same time as" if first == last else "earlier than"
            return f"In capture {name} a test row (ts = {first:g}) is {when} a training row (ts = {last:g})."
    return "In each capture the last round(test_fraction * rows) rows, by time, are the test, and the rest is training."


def _split_in_words(ts: Array, captures: Array, test_fraction: float, found: Array) -> str:
    expected = _naive_split(ts, captures, test_fraction)
    if len(ts) <= 8:
        given = f"ts = {ts.astype(int).tolist()}, captures = {''.join(captures.tolist())}"
        return (
            f"For {given} and a fraction of {test_fraction} test is {np.flatnonzero(expected).tolist()}, "
            f"and yours is {np.flatnonzero(found).tolist()}"
        )
    row = int(np.flatnonzero(found != expected)[0])
    right, yours = ("test" if sides[row] else "training" for sides in (expected, found))
    names = len(set(captures.tolist()))
    many = f"{len(ts)} rows in {names} capture{'s' * (names > 1)} and a fraction of {test_fraction}"
    return f"With {many}, row {row} belongs in {right}, and you put it into {yours}"


def _sides(test: Array) -> Split:
    return np.flatnonzero(~test), np.flatnonzero(test)


def _last_rows(order: Array, captures: Array, test_fraction: float) -> Split:
    """The last share of each capture's rows in the given `order` of all rows, ties or not."""
    test = np.zeros(len(order), dtype=bool)
    for name in np.unique(captures):
        rows = order[captures[order] == name]
        test[rows[len(rows) - round(test_fraction * len(rows)) :]] = True
    return _sides(test)


def _sized(size: Callable[[float, int], Any]) -> Callable[..., Any]:
    """A right split of each capture but for its number of test rows, which is `size` of the share and the rows."""

    def split(ts: Array, captures: Array, test_fraction: float) -> Any:
        test = np.zeros(len(ts), dtype=bool)
        for name in np.unique(captures):
            when = np.sort(ts[captures == name])
            training = when[: len(when) - int(size(test_fraction, len(when)))]
            test |= (captures == name) & (ts > (training[-1] if len(training) else -np.inf))
        return _sides(test)

    return split


_truncated = _sized(lambda share, n: int(share * n))
_half_up = _sized(lambda share, n: np.floor(share * n + 0.5))
_rounded_up = _sized(lambda share, n: np.ceil(share * n))
_training_rounded = _sized(lambda share, n: n - round((1 - share) * n))
_always_a_quarter = _sized(lambda share, n: round(0.25 * n))
_always_three_tenths = _sized(lambda share, n: round(0.3 * n))


def _no_training_row(ts: Array, captures: Array, test_fraction: float) -> Any:
    test = np.zeros(len(ts), dtype=bool)
    for name in np.unique(captures):
        when = np.sort(ts[captures == name])
        last = when[len(when) - round(test_fraction * len(when)) - 1]
        test |= (captures == name) & (ts > last)
    return _sides(test)


def _quantile(ts: Array, captures: Array, test_fraction: float) -> Any:
    test = np.zeros(len(ts), dtype=bool)
    for name in np.unique(captures):
        of_it = captures == name
        test |= of_it & (ts > np.quantile(ts[of_it], 1 - test_fraction))
    return _sides(test)


def _one_cut(ts: Array, captures: Array, test_fraction: float) -> Any:
    last = np.sort(ts)[len(ts) - round(test_fraction * len(ts)) - 1]
    return _sides(ts > last)


def _file_order(ts: Array, captures: Array, test_fraction: float) -> Any:
    return _last_rows(np.arange(len(ts)), captures, test_fraction)


def _ties_on_both_sides(ts: Array, captures: Array, test_fraction: float) -> Any:
    return _last_rows(np.argsort(ts, kind="stable"), captures, test_fraction)


def _ties_in_test(ts: Array, captures: Array, test_fraction: float) -> Any:
    test = np.zeros(len(ts), dtype=bool)
    for name in np.unique(captures):
        when = np.sort(ts[captures == name])
        size = round(test_fraction * len(when))
        if size:
            test |= (captures == name) & (ts >= when[-size])
    return _sides(test)


def _first_is_test(ts: Array, captures: Array, test_fraction: float) -> Any:
    return _last_rows(np.argsort(-ts, kind="stable"), captures, test_fraction)


def _swapped(ts: Array, captures: Array, test_fraction: float) -> Any:
    return _sides(~_naive_split(ts, captures, test_fraction))


def _at_random(ts: Array, captures: Array, test_fraction: float) -> Any:
    return _last_rows(np.random.default_rng(0).permutation(len(ts)), captures, test_fraction)


def _numbers_within_a_capture(ts: Array, captures: Array, test_fraction: float) -> Any:
    train, test = [], []
    for name in np.unique(captures):
        order = np.argsort(ts[captures == name])
        size = round(test_fraction * len(order))
        train.append(order[: len(order) - size])
        test.append(order[len(order) - size :])
    return np.concatenate(train), np.concatenate(test)


def _as_mask(road: Callable[..., Split]) -> Callable[..., Array]:
    def mask(ts: Array, captures: Array, test_fraction: float) -> Array:
        return np.isin(np.arange(len(ts)), road(ts, captures, test_fraction)[1])

    return mask


_ALL_TEST = (
    "A capture of 1 row at a fraction of 0.6 has round(0.6) = 1 test row, and so no training row: all its rows are test. "
    "There is no last training row to look up then: index len - size - 1 is -1, which Python takes for the last row."
)
_SPLITS: dict[Callable[..., Any], str] = {
    _as_mask(_one_cut): "You cut all captures together at one time: a capture recorded last is then all test, and one recorded "
    "first all training. Cut each capture by itself.",
    _as_mask(
        _file_order
    ): "You take the last rows of the file. Zeek writes a flow when it is over, so the order of the file is "
    "not that of time: sort each capture by ts.",
    _as_mask(_ties_on_both_sides): "Rows of the same time are on both sides. A test row must be strictly later than every "
    "training row of its capture: what shares the time of the last training row stays in training.",
    _as_mask(
        _ties_in_test
    ): "Rows that share the time of the last training row go to test with you, which can take much more than "
    "the share that was asked for. They stay in training.",
    _as_mask(_first_is_test): "You test on the first rows of each capture. Training comes first: a model is asked about what "
    "comes later.",
    _as_mask(_truncated): "You cut the number of test rows off: int(2.7) is 2. Use round(test_fraction * rows), which goes to "
    "the nearest number, and from a half to the even one.",
    _as_mask(_half_up): "You round a half up: 2.5 becomes 3. Python's round and np.rint, which the package uses, go from a "
    "half to the even number: 2.5 becomes 2, and 3.5 becomes 4.",
    _as_mask(_rounded_up): "You round the number of test rows up: 2.1 becomes 3. Use round(test_fraction * rows).",
    _as_mask(_training_rounded): "You round the number of training rows. Round that of the test rows, "
    "round(test_fraction * rows): of 7 rows at a fraction of 0.5 that is 4, while 4 training rows leave 3.",
    _as_mask(_quantile): "You cut at np.quantile of the times. It counts along the steps between n rows, of which there are "
    "n - 1, and interpolates. Count instead: the last round(test_fraction * rows) rows.",
    **dict.fromkeys(
        (_as_mask(_always_a_quarter), _as_mask(_always_three_tenths)),
        "You take the same share whatever test_fraction is: use the argument.",
    ),
    _as_mask(_swapped): "You return the two sides the wrong way round: train comes first.",
}

SPLIT = Exercise(
    split_by_time,
    {
        _one_cut: "Cut each capture by itself",
        _file_order: "last rows of the file",
        _ties_on_both_sides: "same time are on both sides",
        _ties_in_test: "go to test with you",
        _first_is_test: "first rows of each capture",
        _swapped: "train comes first",
        _no_training_row: "all its rows are test",
        _truncated: "int(2.7) is 2",
        _half_up: "round a half up",
        _rounded_up: "test rows up",
        _training_rounded: "number of training rows",
        _quantile: "np.quantile of the times",
        _always_a_quarter: "use the argument",
        _always_three_tenths: "use the argument",
        _at_random: "earlier than a training row",
        _numbers_within_a_capture: "or within a capture?",
    },
)
