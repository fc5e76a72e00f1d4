"""Checks of exercises 2.4 and 2.5: accuracy among the surest answers, and a clock without the heat that moves it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fliot_lab.course.checks import CheckFailed, Exercise, array, ask, lists_told_apart, passed, recognised

Array = npt.NDArray[Any]


# ---------------------------------------------------------------------------------------- 2.4 accuracy of the surest answers


def accuracy_at_coverage(answer: Callable[..., Any]) -> None:
    """Exercise 2.4: `answer(confidence, correct)` is (n,): the accuracy of the k surest answers, for k from 1 to n."""
    cases = _answers()
    received = [array(ask(answer, *case), case[0].shape, "the curve") for case in cases]
    for (confidence, correct), found in zip(cases, received, strict=True):
        expected = _naive_curve(confidence, correct)
        if not np.allclose(found, expected, atol=1e-9):
            mistake = recognised(_CURVES, cases, received) or "Sort by confidence, the surest first, and average as far as k."
            right, yours = lists_told_apart(expected[:6], found[:6])
            given = f"confidence {confidence[:6].round(3).tolist()} and correct {correct[:6].astype(int).tolist()}"
            more = "" if len(found) <= 6 else " (the first six)"
            raise CheckFailed(f"{mistake} For {given}{more} the curve is {right}, and yours is {yours}")
    passed("1 to 200 answers in any order, all right, all wrong, confidence that misleads")


def _answers() -> list[tuple[Array, Array]]:
    """confidence (n,), no two equal, and correct (n,) bool."""
    rng = np.random.default_rng(24)
    found = [
        (np.array([0.9, 0.5, 0.7, 0.6]), np.array([True, False, True, False])),
        (np.array([0.2, 0.8, 0.4]), np.array([True, False, True])),
        (np.array([0.4]), np.array([False])),
        (np.array([0.3, 0.6]), np.array([True, True])),
    ]
    for n in (30, 200):
        confidence = rng.permutation(n) / n + 0.001
        found.append((confidence, rng.random(n) < confidence))
    return found


def _naive_curve(confidence: Array, correct: Array) -> Array:
    surest = sorted(zip((-confidence).tolist(), correct.tolist(), strict=True))
    return np.array([sum(right for _, right in surest[:k]) / k for k in range(1, len(surest) + 1)])


def _least_sure_first(confidence: Array, correct: Array) -> Any:
    return _naive_curve(-confidence, correct)


def _in_order_given(confidence: Array, correct: Array) -> Any:
    return np.cumsum(correct) / np.arange(1, len(correct) + 1)


def _of_all_answers(confidence: Array, correct: Array) -> Any:
    return np.cumsum(correct[np.argsort(-confidence)]) / len(correct)


def _not_accumulated(confidence: Array, correct: Array) -> Any:
    return correct[np.argsort(-confidence)].astype(float)


def _confidence_itself(confidence: Array, correct: Array) -> Any:
    return np.cumsum(np.sort(confidence)[::-1]) / np.arange(1, len(confidence) + 1)


_CURVES: dict[Callable[..., Any], str] = {
    _least_sure_first: "You begin with the least sure answers. The surest come first.",
    _in_order_given: "You take the answers in the order in which they come: sort them by confidence, the surest first.",
    _of_all_answers: "You divide by n each time. Of k answers that are given, divide by k: the others are not answered.",
    _not_accumulated: "You return whether each answer is right: the accuracy of the k surest is a mean over k of them.",
    _confidence_itself: "You average how sure the model is. How often it is right is another question.",
}
CURVE = Exercise(
    accuracy_at_coverage,
    {
        _least_sure_first: "surest come first",
        _in_order_given: "sort them by confidence",
        _of_all_answers: "divide by k",
        _not_accumulated: "mean over k",
        _confidence_itself: "another question",
    },
)


# ------------------------------------------------------------------------------------------------- 2.5 a clock without heat


def clock_without_heat(answer: Callable[..., Any]) -> None:
    """Exercise 2.5: `answer(clock, temperature)` is (n,): the clock minus its best straight line in temperature."""
    cases = _clocks()
    received = [array(ask(answer, *case), case[0].shape, "the answer") for case in cases]
    for (clock, heat), found in zip(cases, received, strict=True):
        expected = _naive_residual(clock, heat)
        if not np.allclose(found, expected, atol=1e-6 * max(1.0, float(np.abs(clock).max()))):
            mistake = recognised(_HEATS, cases, received) or "Fit a straight line by least squares and take it off."
            right, yours = lists_told_apart(expected[:5], found[:5])
            given = f"clock {clock[:5].round(2).tolist()} at temperatures {heat[:5].round(2).tolist()}"
            more = "" if len(found) <= 5 else " (the first five)"
            raise CheckFailed(f"{mistake} For {given}{more} it is {right}, and yours is {yours}")
    passed("4 to 200 readings, clocks that rise and fall with heat and that do not, far from zero")


def _clocks() -> list[tuple[Array, Array]]:
    rng = np.random.default_rng(25)
    found = [
        (np.array([1.0, 3.0, 5.0, 8.0]), np.array([20.0, 21.0, 22.0, 23.0])),
        (np.array([-4.0, -4.5, -6.0, -5.5]), np.array([30.0, 33.0, 41.0, 36.0])),
    ]
    for n, slope, level in ((50, 0.8, 12.0), (200, -0.3, 4090.0), (40, 0.0, -7.0)):
        heat = rng.normal(45, 6, n)
        found.append((level + slope * (heat - 45) + rng.normal(0, 0.4, n), heat))
    return found


def _naive_residual(clock: Array, heat: Array) -> Array:
    line = np.linalg.lstsq(np.c_[heat, np.ones(len(heat))], clock, rcond=None)[0]
    return clock - heat * line[0] - line[1]


def _through_zero(clock: Array, heat: Array) -> Any:
    return clock - heat * (heat @ clock) / (heat @ heat)


def _without_mean(clock: Array, heat: Array) -> Any:
    return clock - clock.mean()


def _level_kept(clock: Array, heat: Array) -> Any:
    return clock - np.polyfit(heat, clock, 1)[0] * heat


def _level_back(clock: Array, heat: Array) -> Any:
    return _naive_residual(clock, heat) + clock.mean()


def _line_itself(clock: Array, heat: Array) -> Any:
    return np.polyval(np.polyfit(heat, clock, 1), heat)


def _heat_of_clock(clock: Array, heat: Array) -> Any:
    return _naive_residual(heat, clock)


def _sign_turned(clock: Array, heat: Array) -> Any:
    return -_naive_residual(clock, heat)


_HEATS: dict[Callable[..., Any], str] = {
    _through_zero: "Your line goes through zero: give it an intercept.",
    _without_mean: "You take off the mean only: the slope with temperature is still in.",
    _level_kept: "You take off the slope and keep the intercept: take off the whole line.",
    _level_back: "You add the mean again: what is left of a line that fits has the mean 0.",
    _line_itself: "You return the line: return what is left when it is taken off.",
    _heat_of_clock: "You fit the temperature by the clock: it is the other way round.",
    _sign_turned: "You take the clock off the line: it is the other way round.",
}
HEAT = Exercise(
    clock_without_heat,
    {
        _through_zero: "give it an intercept",
        _without_mean: "slope with temperature",
        _level_kept: "whole line",
        _level_back: "the mean 0",
        _line_itself: "return what is left",
        _heat_of_clock: "fit the temperature",
        _sign_turned: "clock off the line",
    },
)
