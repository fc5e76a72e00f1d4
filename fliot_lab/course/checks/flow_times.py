"""Check of exercise 1.2: how many events there are among the flows of one class."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fliot_lab.course.checks import CheckFailed, Draw, Exercise, ask, number, passed, recognised

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = npt.NDArray[Any]


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


def _in_float32(ts: Array, gap_s: float) -> list[list[float]]:
    return _events(ts.astype(np.float32), gap_s)


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
    _in_float32: "Your times are float32. Seconds since 1970 have ten digits before the point, and float32 keeps seven: at "
    "1.5e9 its neighbours are 128 s apart. Leave the times in float64, as they come.",
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
        _count(_in_float32): "are 128 s apart",
        _count(_bins): "slots of gap_s seconds",
    },
)
