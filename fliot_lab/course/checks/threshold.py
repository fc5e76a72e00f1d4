"""Check of exercise 3.2: the smallest threshold that keeps a promise. What it knows of mistakes serves exercise 3.4 too."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fliot_lab.course.checks import CheckFailed, Draw, Exercise, ask, number, passed, recognised, told_apart

Floats = npt.NDArray[np.float64]


def choose_threshold(answer: Callable[..., Any]) -> None:
    """Exercise 3.2: `answer(benign_scores, allowed)` is the smallest threshold with at most a share `allowed` above it."""
    cases = _benign_scores()
    received = [number(asked(answer, case, *case), "the threshold") for case in cases]
    for (scores, allowed), found in zip(cases, received, strict=True):
        expected = naive_threshold(scores, allowed)
        if abs(found - expected) > 1e-9:
            mistake = recognised(ROADS, cases, received) or _too_high_or_low(scores, allowed, expected, found)
            raise CheckFailed(f"{mistake} {_cut(scores, allowed, expected, found)}", _draw_cut(scores, expected, found))
    passed("1 to 500 scores in any order, with ties and all alike, allowed shares from 0 to 0.4")


def asked(answer: Callable[..., Any], case: tuple[Any, ...], scores: Floats, allowed: float) -> Any:
    """What `answer` gives for `case`; CheckFailed says of an index that is not there how many of the `scores` may lie above."""
    try:
        return ask(answer, *case)
    except CheckFailed as failure:
        if not isinstance(failure.__cause__, IndexError):
            raise
        above = int((scores > naive_threshold(scores, allowed)).sum())
        raise CheckFailed(
            f"{failure}. Benign scores: {len(scores)}; allowed above the threshold: {above}, since {above + 1} would be more "
            f"than a share of {allowed:g}. Do you round up?"
        ) from failure.__cause__


def _benign_scores() -> list[tuple[Floats, float]]:
    """Scores (n,) and the share allowed, the smallest first. No share is one that floating point pushes below a whole count."""
    rng = np.random.default_rng(32)
    return [
        (np.array([3.0, 1, 5, 2, 4]), 0.2),
        (np.array([2.0, 1, 2, 9, 2]), 0.4),
        (np.array([7.0, 1, 4, 6, 2, 3, 5]), 0.2),
        (np.array([6.0, 1, 8, 2, 7, 3, 5, 4]), 0.2),
        (np.array([6.0, 1, 8, 2, 9, 7, 3, 5, 4]), 0.2),
        (np.array([0.5]), 0.1),
        (np.full(6, 2.0), 0.25),
        (np.array([8.0, 3, 5]), 0.0),
        (rng.exponential(1, 200), 0.01),
        (rng.integers(0, 20, 500).astype(float), 0.1),
    ]


def naive_threshold(scores: Floats, allowed: float) -> float:
    """The definition: the smallest score with few enough above it. Between two scores no threshold flags fewer."""
    return min(t for t in scores.tolist() if sum(score > t for score in scores.tolist()) / len(scores) <= allowed)


def _too_high_or_low(scores: Floats, allowed: float, expected: float, found: float) -> str:
    if np.isclose(found, expected, rtol=1e-5, atol=0):
        return "Your threshold is the right score, but not exactly: return one of the scores, unrounded."
    if found < expected:
        return "Your threshold is too low: it flags more benign flows than allowed."
    return "Your threshold is too high: a smaller one keeps the promise too, and finds more attacks."


def _cut(scores: Floats, allowed: float, expected: float, found: float) -> str:
    right, yours = told_apart(expected, found)
    text = f"benign_scores = {scores.tolist()}" if len(scores) <= 9 else f"{len(scores)} benign scores"
    above = [int((scores > threshold).sum()) for threshold in (expected, found)]
    return (
        f"For {text} and allowed = {allowed:g} the threshold is {right} ({above[0]} of {len(scores)} strictly above), "
        f"and yours is {yours} ({above[1]} above)"
    )


def _draw_cut(scores: Floats, expected: float, found: float) -> Draw:
    def draw() -> tuple[Any, str]:
        from fliot_lab import plots

        n = len(scores)
        rows = {"benign scores": sorted(scores.tolist()), "expected threshold": [expected] * n, "yours": [found] * n}
        figure = plots.line(rows, ylabel="score", xlabel="benign flow, the lowest score first", title="What lies above?")
        above = f"{(scores > expected).sum()} and {(scores > found).sum()} of {n} scores strictly above"
        right, yours = told_apart(expected, found)
        return figure, f"Sorted benign scores with two thresholds: expected {right}, yours {yours}; {above}."

    return draw


def _interpolated(scores: Floats, allowed: float) -> Any:
    return np.quantile(scores, 1 - allowed)


def _wrong_tail(scores: Floats, allowed: float) -> Any:
    return min(t for t in scores if np.mean(scores > t) <= 1 - allowed)


def _lower_tail(scores: Floats, allowed: float) -> Any:
    return np.quantile(scores, allowed)


def _at_or_above(scores: Floats, allowed: float) -> Any:
    return min((t for t in scores if np.mean(scores >= t) <= allowed), default=scores.max())


def _off_by_one(scores: Floats, allowed: float) -> Any:
    return np.sort(scores)[::-1][max(int(allowed * len(scores) + 1e-9) - 1, 0)]


def _next_too_low(scores: Floats, allowed: float) -> Any:
    return np.sort(scores)[::-1][min(int(np.ceil(allowed * len(scores) - 1e-9)), len(scores) - 1)]


def _nearest_count(scores: Floats, allowed: float) -> Any:
    return np.sort(scores)[::-1][round(allowed * len(scores))]


def _quantile_lower(scores: Floats, allowed: float) -> Any:
    return np.quantile(scores, 1 - allowed, method="lower")


def _quantile_nearest(scores: Floats, allowed: float) -> Any:
    return np.quantile(scores, 1 - allowed, method="nearest")


def _single_precision(scores: Floats, allowed: float) -> Any:
    return np.float32(naive_threshold(scores, allowed))


def _maximum(scores: Floats, allowed: float) -> Any:
    return scores.max()


ROADS: dict[Callable[..., Any], str] = {
    _interpolated: "You use np.quantile as it is: it interpolates between two scores, and so does not return the smallest "
    "threshold, and sometimes one with too many above. Count what lies strictly above each score instead.",
    _wrong_tail: "You cut at the wrong tail: with you a share `allowed` of benign flows is NOT flagged, and the rest is. A "
    "high score is suspicious; few benign flows may lie above the threshold.",
    _lower_tail: "You cut at the wrong tail: np.quantile(scores, allowed) has a share `allowed` below it. A high score is "
    "suspicious; few benign flows may lie above the threshold.",
    _at_or_above: "You count scores at or above the threshold. An alarm is a score strictly above it, so the flow that sets "
    "the threshold, and every tie with it, is not flagged: a smaller threshold serves.",
    _off_by_one: "You are one too high: where k flows may lie above, the threshold is the score after the k largest, since an "
    "alarm is strictly above it. Python counts from 0.",
    **dict.fromkeys(
        (_next_too_low, _quantile_lower),
        "You round up: where a share allows 1.4 flows, one may lie above and not two. (np.quantile with method='lower' rounds "
        "so, too.)",
    ),
    **dict.fromkeys(
        (_nearest_count, _quantile_nearest),
        "You round to the nearest count: where a share allows 1.6 flows, one may lie above and not two. (np.quantile with "
        "method='nearest' rounds so, too.)",
    ),
    _maximum: "You take the largest score: then nothing is flagged. That keeps the promise, and misses attacks that a smaller "
    "threshold finds. `allowed` has to matter.",
}

THRESHOLD = Exercise(
    choose_threshold,
    {
        _interpolated: "interpolates",
        _quantile_lower: "round up",
        _quantile_nearest: "nearest count",
        _wrong_tail: "wrong tail",
        _lower_tail: "wrong tail",
        _at_or_above: "at or above",
        _off_by_one: "one too high",
        _next_too_low: "round up",
        _nearest_count: "nearest count",
        _single_precision: "unrounded",
        _maximum: "largest score",
    },
)
