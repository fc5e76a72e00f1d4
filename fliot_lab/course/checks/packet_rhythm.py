"""Check of exercise 2.2: five numbers of a capture's packets."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fliot_lab.course.checks import CheckFailed, Exercise, array, ask, passed

Array = npt.NDArray[Any]
NAMES = (
    "the share of packets that are sent",
    "the mean size of those sent",
    "the standard deviation of the size of those sent",
    "the median gap between those sent",
    "the share of turns",
)


def rhythm(answer: Callable[..., Any]) -> None:
    """Exercise 2.2: `answer(ts, size, sent)` is (5,): share sent, mean and deviation of their size, median gap, turns."""
    cases = _captures()
    received = [array(ask(answer, *case), (5,), "the answer") for case in cases]
    for place, name in enumerate(NAMES):
        wrong = [i for i, case in enumerate(cases) if not np.isclose(received[i][place], _naive(*case)[place], atol=1e-9)]
        if wrong:
            values = [float(found[place]) for found in received]
            raise CheckFailed(_told(name, place, cases, values, wrong[0]))
    passed("3 to 300 packets, in and out of order in time, gaps of 0 and of minutes, two sent, all sent")


def _captures() -> list[tuple[Array, Array, Array]]:
    """ts (n,) seconds, size (n,) bytes and sent (n,) bool, the smallest first."""
    rng = np.random.default_rng(22)
    found = [
        (np.array([10.0, 10.5, 11.5, 13.5, 17.5]), np.array([60.0, 100, 60, 1500, 80]), np.array([1, 0, 1, 1, 0], bool)),
        (np.array([0.0, 2.0, 5.0]), np.array([42.0, 342, 60]), np.array([1, 0, 1], bool)),
        (np.array([0.0, 4.0, 1.0, 2.0]), np.array([60.0, 60, 90, 90]), np.array([1, 0, 0, 1], bool)),  # one came late
        (np.array([5.0, 5.0, 5.0, 9.0]), np.array([60.0, 70, 80, 90]), np.ones(4, bool)),
    ]
    for n in (40, 300):
        ts = np.cumsum(rng.exponential(1, n) ** 3)
        late = rng.permutation(n)[: n // 10]
        ts[late] -= 5  # as captures are that join two sensors
        found.append((1e9 + ts.round(3), rng.choice([42.0, 60, 342, 1514], n), rng.random(n) < 0.6))
    return found


def _naive(ts: Array, size: Array, sent: Array) -> list[float]:
    packets = sorted(zip(ts.tolist(), range(len(ts)), size.tolist(), sent.tolist(), strict=True))
    sizes = [s for _, _, s, out in packets if out]
    mean = sum(sizes) / len(sizes)
    gaps = sorted(b[0] - a[0] for a, b in itertools.pairwise([packet for packet in packets if packet[3]]))
    middle = (gaps[(len(gaps) - 1) // 2] + gaps[len(gaps) // 2]) / 2
    turns = sum(a[3] != b[3] for a, b in itertools.pairwise(packets)) / (len(packets) - 1)
    return [len(sizes) / len(packets), mean, math.sqrt(sum((s - mean) ** 2 for s in sizes) / len(sizes)), middle, turns]


def _told(name: str, place: int, cases: list[tuple[Array, Array, Array]], values: list[float], wrong: int) -> str:
    """What is wrong with the number at `place`: the mistake where it is a known one, and the first case that shows it."""
    mistakes = (
        words
        for road, words in _MISTAKES[place].items()
        if all(np.isclose(road(*case), value, atol=1e-9) for case, value in zip(cases, values, strict=True))
    )
    mistake = next(mistakes, "Work it out by hand for the packets given here.")
    ts, size, sent = cases[wrong]
    shown = f"ts = {ts.tolist()}, size = {size.astype(int).tolist()}, sent = {sent.astype(int).tolist()}"
    which = shown if len(ts) <= 5 else f"{len(ts)} packets"
    return f"{name} is wrong. {mistake} For {which} it is {_naive(*cases[wrong])[place]:.6g}, and yours is {values[wrong]:.6g}"


def _sorted(ts: Array, values: Array) -> Array:
    return values[np.argsort(ts, kind="stable")]


_UNSORTED = "The packets of a file are not always in the order of time: sort first."
_MISTAKES: tuple[dict[Callable[..., Any], str], ...] = (
    {
        lambda ts, size, sent: sent.sum(): "You count the packets sent: divide by the number of packets.",
        lambda ts, size, sent: size[sent].sum() / size.sum(): "You take the share of bytes: count packets.",
        lambda ts, size, sent: 1 - sent.mean(): "You take the packets received.",
    },
    {
        lambda ts, size, sent: size.mean(): "You average over all packets: only those sent are the device's.",
        lambda ts, size, sent: np.median(size[sent]): "You take the median: the mean is asked for.",
    },
    {
        lambda ts, size, sent: size.std(): "You take all packets: only those sent are the device's.",
        lambda ts, size, sent: size[sent].var(): "You return the variance: take its root.",
        lambda ts, size, sent: (
            size[sent].std(ddof=1) if sent.sum() > 1 else 0.0
        ): "You divide by n - 1: divide by n, as np.std does.",
    },
    {
        lambda ts, size, sent: np.median(np.diff(ts[sent])): _UNSORTED,
        lambda ts, size, sent: np.median(np.abs(np.diff(ts[sent]))): _UNSORTED,
        lambda ts, size, sent: np.diff(
            np.sort(ts[sent])
        ).mean(): "You take the mean gap: one pause of a minute rules it. Take the median.",
        lambda ts, size, sent: np.median(
            np.diff(np.sort(ts))
        ): "You look at the gaps between all packets: only those sent are the device's.",
    },
    {
        lambda ts, size, sent: (sent[1:] != sent[:-1]).mean(): _UNSORTED,
        lambda ts, size, sent: (
            np.diff(_sorted(ts, sent).astype(int)) != 0
        ).sum(): "You count turns: n packets have n - 1 places where a turn can be. Divide.",
        lambda ts, size, sent: (
            (np.diff(_sorted(ts, sent).astype(int)) != 0).sum() / len(ts)
        ): "You divide by n: between n packets are n - 1 places.",
        lambda ts, size, sent: (
            np.diff(_sorted(ts, sent).astype(int)) == 0
        ).mean(): "You count where the direction stays: a turn is where it changes.",
    },
)


def _right(ts: Array, size: Array, sent: Array) -> list[Any]:
    return list(_naive(ts, size, sent))


def _with(place: int, road: Callable[..., Any]) -> Callable[..., Any]:
    """The right answer but for one number."""

    def wrong(ts: Array, size: Array, sent: Array) -> Any:
        numbers = _right(ts, size, sent)
        numbers[place] = road(ts, size, sent)
        return np.array(numbers, dtype=float)

    return wrong


RHYTHM = Exercise(
    rhythm,
    {_with(place, road): words for place, roads in enumerate(_MISTAKES) for road, words in roads.items()},
)
