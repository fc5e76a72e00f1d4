"""Checks of lesson 01 that are about time: events, and a split by time."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fliot_lab.course.checks import CheckFailed, Draw, Exercise, array, ask, number, passed, recognised

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = npt.NDArray[Any]
Split = tuple[Array, Array]


# ----------------------------------------------------------------------------------------------------------- 1.2 events

Joins = Callable[[list[float], float], bool]


def count_events(answer: Callable[..., Any]) -> None:
    """Exercise 1.2: `answer(ts, gap_s)`, seconds (n,) in any order, is the number of events among flows of one class."""
    cases = _bursts()
    received = [number(ask(answer, *case), "the number of events") for case in cases]
    for (ts, gap_s), found in zip(cases, received, strict=True):
        expected = _events(ts, gap_s)
        if found != len(expected):
            roads = {_count(road): words for road, words in _ROADS.items()}
            words = recognised(roads, cases, received)
            yours = next((road(ts, gap_s) for road in _ROADS if _ROADS[road] == words), None)
            raise CheckFailed(
                f"{words or 'Your events are not those of the definition.'} {_flows_in_words(ts, gap_s, expected)}, and yours "
                f"{'is' if found == 1 else 'are'} {found:g}",
                _beside(ts, gap_s, expected, yours, found),
            )
    passed("1 to 300 flows in and out of order, one event, a gap of exactly gap_s, flows at the same time, gaps of 1 to 3600 s")


def _bursts() -> list[tuple[Array, float]]:
    """Times and gap, the smallest first. All are multiples of 1/4 s, so that no rounding decides."""
    rng = np.random.default_rng(2)
    found = [
        (np.array([0.0, 50.0, 100.0, 300.0]), 60.0),
        (np.array([50.0, 300.0, 0.0, 100.0]), 60.0),
        (np.array([0.0, 60.0, 119.0]), 60.0),
        (np.array([5.0]), 1.0),
        (np.array([7.0, 7.0, 7.0]), 10.0),
    ]
    for n, gap_s in ((40, 60.0), (300, 1.0), (300, 3600.0)):
        starts = rng.integers(0, 40, n) * 4 * gap_s
        ts = 1_540_000_000 + starts + rng.integers(0, 12 * int(gap_s), n) / 4
        found.append((ts, gap_s))
    return found


def _grouped(ts: Iterable[float], joins: Joins) -> list[list[float]]:
    """The times `ts`, one after the other: each joins the latest event or begins the next one."""
    events: list[list[float]] = []
    for when in ts:
        if events and joins(events[-1], when):
            events[-1].append(when)
        else:
            events.append([when])
    return events


def _events(ts: Array, gap_s: float) -> list[list[float]]:
    return _grouped(sorted(ts.tolist()), lambda event, when: when - event[-1] < gap_s)


def _in_file_order(ts: Array, gap_s: float) -> list[list[float]]:
    return _grouped(ts.tolist(), lambda event, when: when - event[-1] < gap_s)


def _file_order_either_way(ts: Array, gap_s: float) -> list[list[float]]:
    return _grouped(ts.tolist(), lambda event, when: abs(when - event[-1]) < gap_s)


def _from_the_first(ts: Array, gap_s: float) -> list[list[float]]:
    return _grouped(sorted(ts.tolist()), lambda event, when: when - event[0] < gap_s)


def _gap_included(ts: Array, gap_s: float) -> list[list[float]]:
    return _grouped(sorted(ts.tolist()), lambda event, when: when - event[-1] <= gap_s)


def _rows(ts: Array, gap_s: float) -> list[list[float]]:
    return [[when] for when in sorted(ts.tolist())]


def _gaps(ts: Array, gap_s: float) -> list[list[float]]:
    return _events(ts, gap_s)[1:]


def _bins(ts: Array, gap_s: float) -> list[list[float]]:
    return _grouped(sorted(ts.tolist()), lambda event, when: event[-1] // gap_s == when // gap_s)


_ROADS: dict[Callable[[Array, float], list[list[float]]], str] = {
    _in_file_order: "You take the flows in the order in which they come. Zeek writes a flow when it is over: sort the "
    "times first.",
    _file_order_either_way: "You take the flows as they come, and the size of each step whatever its sign. Steps back in time "
    "mean nothing here: sort the times first.",
    _from_the_first: "You compare each flow with the first flow of its event. Compare with the flow before: an event goes on "
    "as long as its flows follow each other, however long that is.",
    _gap_included: "A flow that comes exactly gap_s after the one before begins an event: to join, it must follow within LESS "
    "than gap_s.",
    _rows: "You count the flows. Flows that follow each other are one event.",
    _gaps: "You count the gaps between events. There is one event more than there are gaps: one gap parts two events.",
    _bins: "You count the slots of gap_s seconds that hold a flow. Two flows a second apart can lie in two slots: look at the "
    "time from each flow to the next instead.",
}


def _count(road: Callable[[Array, float], list[list[float]]]) -> Callable[[Array, float], Any]:
    """The number of events that `road` finds, as a student's function gives it."""

    def count(ts: Array, gap_s: float) -> Any:
        return len(road(ts, gap_s))

    count.__name__ = road.__name__
    return count


def _flows_in_words(ts: Array, gap_s: float, expected: Sequence[Sequence[float]]) -> str:
    events = "1 event" if len(expected) == 1 else f"{len(expected)} events"
    if len(ts) > 6:
        return f"With {len(ts)} flows and gap_s = {gap_s:g} there are {events}"
    times = ", ".join(f"{when:g}" for when in ts)
    return f"For ts = [{times}] and gap_s = {gap_s:g} there {'is' if len(expected) == 1 else 'are'} {events}"


def _beside(ts: Array, gap_s: float, expected: list[list[float]], yours: list[list[float]] | None, found: float) -> Draw | None:
    """A drawing of the events of `ts` above those received, where it is known how these came about; None for many flows."""
    if len(ts) > 40:
        return None
    start = min(ts)

    def draw() -> "tuple[Figure, str]":
        from matplotlib.figure import Figure

        from fliot_lab import plots

        fig = Figure(figsize=(plots.WIDTH, 2.1), layout="constrained")
        ax = fig.subplots()
        ax.use_sticky_edges = False  # so that a bar at the edge is whole
        for row, (events, colour) in enumerate(zip((expected, yours or []), plots.CURVES[:2], strict=True)):
            ax.plot(ts - start, [row] * len(ts), "|", color="black", ms=18, mew=1)
            _draw_events(ax, row, events, start, colour)
        ax.set_yticks([0, 1], [f"expected: {len(expected)}", f"yours: {found:g}"])
        ax.set_ylim(1.6, -0.6)
        ax.set_xlabel(f"seconds since the first flow; a tick is a flow, a bar an event; gap_s = {gap_s:g}")
        received = f"{found:g}" + (f": {_spans(yours, start)}" if yours else "")
        return fig, f"Time line. Expected events, {len(expected)}: {_spans(expected, start)}. Received, {received}."

    return draw


def _draw_events(ax: "Axes", row: int, events: list[list[float]], start: float, colour: str) -> None:
    """A bar from the first flow of each event to its last, by turns above and below the middle of the strip."""
    span = max((max(event) for event in events), default=start) - start or 1.0
    for place, event in enumerate(events):
        left, right = min(event) - start - 0.008 * span, max(event) - start + 0.008 * span  # a lone flow has a bar as well
        ax.barh(row + (-0.13, 0.13)[place % 2], right - left, left=left, height=0.26, color=colour, alpha=0.7)


def _spans(events: Sequence[Sequence[float]], start: float) -> str:
    ends = [(min(event) - start, max(event) - start) for event in events]
    return ", ".join(f"{first:g} s" if first == last else f"{first:g} to {last:g} s" for first, last in ends)


EVENTS = Exercise(
    count_events,
    {
        _count(_in_file_order): "sort the times first",
        _count(_file_order_either_way): "sort the times first",
        _count(_from_the_first): "Compare with the flow before",
        _count(_gap_included): "LESS than gap_s",
        _count(_rows): "You count the flows",
        _count(_gaps): "one event more than there are gaps",
        _count(_bins): "slots of gap_s seconds",
    },
)


# ----------------------------------------------------------------------------------------------------- 1.4 a split by time


def split_by_time(answer: Callable[..., Any]) -> None:
    """Exercise 1.4: `answer(ts, captures, test_fraction)` is (train, test), the last share of each capture's rows in test."""
    cases = _captures()
    received = [_test_rows(ask(answer, *case), len(case[0])) for case in cases]
    for case, found in zip(cases, received, strict=True):
        if not np.array_equal(found, _naive_split(*case)):
            mistake = recognised(_SPLITS, cases, received) or _broken_law(case[0], case[1], found)
            raise CheckFailed(f"{mistake} {_split_in_words(*case, found)}")
    passed("1 to 5 captures of 1 to 48 rows, in and out of order, mixed with each other, with and without equal times")


def _captures() -> list[tuple[Array, Array, float]]:
    """Times, captures and share, the smallest first; `round` and `int` give the same number of test rows in each."""
    rng = np.random.default_rng(4)
    found = [
        (np.array([30.0, 10.0, 20.0, 40.0, 8.0, 6.0, 7.0, 5.0]), np.array(list("AAAABBBB")), 0.25),
        (np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 6.0, 7.0]), np.array(list("AAAAAAAA")), 0.25),
        (np.array([9.0, 1.0, 2.0, 3.0, 4.0]), np.array(list("BAAAA")), 0.25),
    ]
    for sizes, latest in (((8, 16, 4, 12), 1000), ((48, 4, 24, 8, 16), 12)):
        captures = rng.permutation(np.repeat([f"CTU-{i}-1" for i in range(len(sizes))], sizes))
        found.append((rng.integers(0, latest, len(captures)) / 1.0, captures, 0.25))
    return found


def _naive_split(ts: Array, captures: Array, test_fraction: float) -> Array:
    """True (n,) where a row is test: later than the last training row of its capture."""
    test = np.zeros(len(ts), dtype=bool)
    for name in set(captures.tolist()):
        rows = sorted(np.flatnonzero(captures == name).tolist(), key=lambda row: float(ts[row]))
        last = rows[len(rows) - round(test_fraction * len(rows)) - 1]
        for row in rows:
            test[row] = ts[row] > ts[last]
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
    return "In each capture the last test_fraction of the rows, by time, is the test, and the rest is training."


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
    return f"With {len(ts)} rows in {len(set(captures))} captures, row {row} belongs in {right}, and you put it into {yours}"


def _sides(test: Array) -> Split:
    return np.flatnonzero(~test), np.flatnonzero(test)


def _last_rows(order: Array, captures: Array, test_fraction: float) -> Split:
    """The last share of each capture's rows in the given `order` of all rows, ties or not."""
    test = np.zeros(len(order), dtype=bool)
    for name in np.unique(captures):
        rows = order[captures[order] == name]
        test[rows[len(rows) - round(test_fraction * len(rows)) :]] = True
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
        _at_random: "earlier than a training row",
        _numbers_within_a_capture: "or within a capture?",
    },
)
