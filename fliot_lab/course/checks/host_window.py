"""Check of exercise 3.7: how many flows to the same service failed within the seconds before."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fliot_lab.course.checks import CheckFailed, Exercise, array, ask, passed, recognised

Array = npt.NDArray[Any]
Case = tuple[Array, Array, Array, float]


def failures_before(answer: Callable[..., Any]) -> None:
    """Exercise 3.7: `answer(ended, service, failed, window)`, (n,) each and seconds, counts failures (n,)."""
    cases = _flows()
    received = [array(ask(answer, *case), (len(case[0]),), "the array of counts") for case in cases]
    for case, found in zip(cases, received, strict=True):
        expected = _naive_failures(*case)
        if (found != expected).any():
            mistake = recognised(_COUNTS, cases, received) or "Your counts are not those of the definition."
            raise CheckFailed(f"{mistake} {_counted(*case, expected, found)}")
    passed(
        "1 to 150 flows in and out of order, several that end at once, exactly one window apart, 1 to 4 services, none failed"
    )


def _flows() -> list[Case]:
    """ended, service, failed and window, the smallest first. All are whole seconds, so that borders are met."""
    rng = np.random.default_rng(37)
    one, other = "10.0.0.5 192.0.2.7 23", "10.0.0.5 192.0.2.7 2323"  # one port begins as the other does
    names = np.array([one, other, "10.0.0.6 192.0.2.7 23", "10.0.0.5 198.51.100.9 23"])
    found: list[Case] = [
        (np.array([0.0, 30, 60, 61]), np.array([one] * 4), np.array([True] * 4), 60.0),
        (
            np.array([70.0, 10, 40, 40, 20]),
            np.array([one, one, one, one, other]),
            np.array([True, True, False, True, True]),
            60.0,
        ),
        (np.array([5.0]), np.array([one]), np.array([False]), 10.0),
        (np.array([8.0, 8, 8]), np.array([one] * 3), np.array([True, False, True]), 1.0),
        (np.array([3.0, 1, 2]), np.array([one] * 3), np.zeros(3, dtype=bool), 10.0),
    ]
    for n, window in ((40, 10), (150, 60)):
        ended = 1_540_000_000 + rng.integers(0, 4 * window, n).astype(float)
        found.append((ended, rng.choice(names, n, p=[0.4, 0.3, 0.2, 0.1]), rng.random(n) < 0.6, float(window)))
    return found


def _naive_failures(ended: Array, service: Array, failed: Array, window: float) -> Array:
    """For each flow, every flow: is it one of its service's, did it fail, and did it end in the window?"""
    rows = list(zip(ended.tolist(), service.tolist(), failed.tolist(), strict=True))
    return np.array(
        [sum(bad and name == own and end - window < when <= end for when, name, bad in rows) for end, own, _ in rows]
    )


def _counted(ended: Array, service: Array, failed: Array, window: float, expected: Array, found: Array) -> str:
    """The case in words: whole where it is small, otherwise the first flow that is counted wrongly."""
    if len(ended) <= 5:
        ports = [f"service {list(dict.fromkeys(service)).index(name) + 1}" for name in service]
        flows = ", ".join(
            f"{end:g} s ({port}{'' if bad else ', not failed'})" for end, port, bad in zip(ended, ports, failed, strict=True)
        )
        return (
            f"For flows that ended at {flows}, in this order, and window = {window:g} the counts are {expected.tolist()}, and "
            f"yours are {found.tolist()}"
        )
    row = int((found != expected).argmax())
    end = f"{ended[row]:.0f}"
    return (
        f"Among {len(ended)} flows, flow {row} ended at {end} s: in the {window:g} s up to then {expected[row]} failed flows "
        f"of its service ended, and yours is {found[row]:g}"
    )


# ----------------------------------------------------------------------------------------------------------------- mistakes


def _counter(
    recent: Callable[[Array, float], Any] = lambda gap, window: (gap >= 0) & (gap < window),
    own: Callable[[Array], Any] = lambda service: service[:, None] == service,
    counted: Callable[[Array], Any] = lambda failed: failed,
) -> Callable[[Array, Array, Array, float], Any]:
    """An answer that counts other flows: `recent` has (n, n) seconds from the end of flow j to that of flow i."""

    def count(ended: Array, service: Array, failed: Array, window: float) -> Any:
        return (recent(ended[:, None] - ended, window) & own(service) & counted(failed)).sum(axis=1)

    return count


_right = _counter()
_both_ways = _counter(lambda gap, window: np.abs(gap) < window)
_both_ways_closed = _counter(lambda gap, window: np.abs(gap) <= window)
_what_follows = _counter(lambda gap, window: (gap <= 0) & (gap > -window))
_all_since = _counter(lambda gap, window: gap < window)
_left_closed = _counter(lambda gap, window: (gap >= 0) & (gap <= window))
_strictly_before = _counter(lambda gap, window: (gap > 0) & (gap < window))
_without_itself = _counter(lambda gap, window: (gap >= 0) & (gap < window) & ~np.eye(len(gap), dtype=bool))
_ever_before = _counter(lambda gap, window: gap >= 0)
_up_to_its_row = _counter(lambda gap, window: (gap >= 0) & (gap < window) & np.tri(len(gap), dtype=bool))
_all_up_to_its_row = _counter(lambda gap, window: (gap < window) & np.tri(len(gap), dtype=bool))
_all_services = _counter(own=lambda service: np.bool_(True))
_same_originator = _counter(own=lambda service: np.equal.outer(*[np.array([name.split()[0] for name in service])] * 2))
_all_flows = _counter(counted=lambda failed: np.bool_(True))
_successes = _counter(counted=lambda failed: ~failed)


def _by_the_clock(ended: Array, service: Array, failed: Array, window: float) -> Any:
    return _counter(lambda gap, _: (gap >= 0) & np.equal.outer(ended // window, ended // window))(
        ended, service, failed, window
    )


def _in_order_of_time(ended: Array, service: Array, failed: Array, window: float) -> Any:
    return _right(ended, service, failed, window)[np.argsort(ended, kind="stable")]


def _failed_only(ended: Array, service: Array, failed: Array, window: float) -> Any:
    return _right(ended, service, failed, window) * failed


def _sorted_in_place(ended: Array, service: Array, failed: Array, window: float) -> Any:
    ended.sort()
    return _right(ended, service, failed, window)


_COUNTS: dict[Callable[..., Any], str] = {
    **dict.fromkeys(
        (_both_ways, _both_ways_closed, _all_since),
        "You look into the future: you count flows that ended later than the flow itself. Whoever judges a flow when it ends "
        "does not know them yet.",
    ),
    _what_follows: "You count what comes after a flow and not what came before: ended[j] <= ended[i] for a flow j that flow i "
    "counts.",
    _left_closed: "You count flows that ended exactly one window earlier as well. That is too long ago: the window is open "
    "there, end - window < when <= end, or a flow on the border would count in two windows.",
    **dict.fromkeys(
        (_strictly_before, _without_itself),
        "You leave the flow itself out, or those that end when it does. Its own end counts: when <= end, and it is one more "
        "failure where it failed.",
    ),
    _ever_before: "You count every failure up to then, however long ago. `window` has to matter: when > end - window.",
    **dict.fromkeys(
        (_up_to_its_row, _all_up_to_its_row),
        "You go by the place of a row: only rows above count with you. The flows come in any order, and several may end at "
        "once: compare the times of all.",
    ),
    _all_services: "You count over all services. A flow counts only the failures of its own: service == the flow's service.",
    _same_originator: "You count over all services of the originator. The text names originator, responder and port: compare "
    "all of it.",
    _all_flows: "You count all flows and not the failures: only those where `failed` is True.",
    _successes: "You count the flows that did not fail: only those where `failed` is True.",
    _by_the_clock: "Your windows stand still, from one full `window` of the clock to the next. Each flow has a window of its "
    "own, which closes at its end: thirty failures around the full minute are thirty, and not twice fifteen.",
    _in_order_of_time: "Your counts are in the order of time. Row i of the answer belongs to row i of the question: turn the "
    "sorting back before you return.",
    _failed_only: "You give 0 to each flow that did not fail itself. It too has a surrounding: count the failures before it.",
}

HOST_WINDOW = Exercise(
    failures_before,
    {
        _both_ways: "look into the future",
        _both_ways_closed: "look into the future",
        _all_since: "look into the future",
        _what_follows: "comes after a flow",
        _left_closed: "exactly one window earlier",
        _strictly_before: "leave the flow itself out",
        _without_itself: "leave the flow itself out",
        _ever_before: "however long ago",
        _up_to_its_row: "place of a row",
        _all_up_to_its_row: "place of a row",
        _all_services: "over all services. A flow",
        _same_originator: "services of the originator",
        _all_flows: "count all flows",
        _successes: "that did not fail",
        _by_the_clock: "windows stand still",
        _in_order_of_time: "in the order of time",
        _failed_only: "0 to each flow",
        _sorted_in_place: "changes its argument 1 in place",
    },
)
