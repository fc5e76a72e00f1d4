"""Checks of the exercises: `lesson_NN.py` holds one function per exercise of lesson NN, which takes the student's function.

A check asks with seeded input, compares with an oracle, prints what it tested, and raises CheckFailed in words that teach.
Beside each check stand wrong answers that students really give; a test proves that the check names each of them.
"""

import copy
import importlib
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Draw = Callable[[], tuple[Any, str]]


class CheckFailed(AssertionError):
    """What is wrong with an answer. `draw`, where given, makes (figure, alternative text) of expected beside received."""

    def __init__(self, message: str, draw: Draw | None = None) -> None:
        super().__init__(message)
        self.draw = draw

    def _render_traceback_(self) -> list[str]:
        """What Jupyter shows in place of a traceback: the figure, and the message without our frames around it."""
        if self.draw is not None:
            from fliot_lab import plots

            plots.show(*self.draw())
        return [f"CheckFailed: {self}"]


@dataclass(frozen=True)
class Exercise:
    """A check, named as the function that the student writes, and the planted wrong answers: each with words that the
    check's message must contain."""

    check: Callable[[Callable[..., Any]], None]
    wrong: Mapping[Callable[..., Any], str]

    @property
    def function(self) -> str:
        """Name of the function that the student writes."""
        return self.check.__name__


def of_lesson(number: str) -> dict[str, Exercise]:
    """The exercises of lesson `number` (two digits) by their number, as {"3.1": ...}; empty where it has none."""
    name = f"{__name__}.lesson_{number}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return {}
    exercises: dict[str, Exercise] = module.EXERCISES
    return exercises


def ask(answer: Callable[..., Any], *arguments: Any) -> Any:
    """What the student's function returns for copies of `arguments`.

    Raises CheckFailed where it is not solved yet, raises an error of its own, or changes an argument in place.
    """
    given = copy.deepcopy(arguments)
    try:
        received = answer(*given)
    except CheckFailed:
        raise
    except NotImplementedError as error:
        raise CheckFailed(f"not solved yet. {error}".strip()) from None
    except (Exception, SystemExit) as error:  # `exit()` in an answer would end whoever checks it
        raise CheckFailed(_described(error)) from error
    for place, (before, after) in enumerate(zip(arguments, given, strict=True)):
        if not same(before, after):
            raise CheckFailed(
                f"your function changes its argument {place + 1} in place: whoever called it has lost that data. "
                "Work on a copy, or make a new array"
            )
    return received


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, arrays and what holds them included. NaN equals NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, np.ndarray):
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        return same(one.tolist(), other.tolist()) if one.dtype.hasobject else one.tobytes() == other.tobytes()
    if hasattr(one, "equals"):  # a pandas object
        return bool(one.equals(other))
    if hasattr(one, "detach"):  # a tensor
        return same(one.detach().cpu().numpy(), other.detach().cpu().numpy())
    if isinstance(one, int | float | str | bytes | set | frozenset | np.generic):
        return bool(one == other or (one != one and other != other))
    return True  # a function, a generator: nothing that an answer is expected to leave alone


def _described(error: BaseException) -> str:
    """An error in the student's function: what, and on which of its lines."""
    where = traceback.extract_tb(error.__traceback__)[1:]  # without our own frame
    line = f" in your line `{where[0].line}`" if where and where[0].line else ""
    alone = ""
    if type(error) is NameError:  # not its child UnboundLocalError, of a name that the answer does define
        alone = " (an exercise's cell is run alone, with the lesson's imports: define it in this cell)"
    return f"your function raised {type(error).__name__}: {error}{alone}{line}"


def number(received: Any, name: str) -> float:
    """`received` as one finite number; CheckFailed says what it is where it is something else."""
    value = np.asarray(_plain(received, name))
    if value.size != 1 or value.ndim > 1 or value.dtype.kind not in "biuf":
        raise CheckFailed(f"{name} must be one number, and your function returned {_what(received)}")
    if not np.isfinite(value).all():
        raise CheckFailed(f"{name} is {value.item()}: a division by zero, or a logarithm of zero?")
    return float(value.item())


def array(received: Any, shape: tuple[int, ...], name: str) -> npt.NDArray[Any]:
    """`received` as an array of numbers (or of booleans) of this shape; CheckFailed says what it is where it is not."""
    value = np.asarray(_plain(received, name))
    if value.dtype.kind not in "biuf" or (value.ndim == 0 and shape):
        raise CheckFailed(f"{name} must be an array of shape {shape}, and your function returned {_what(received)}")
    if value.shape != shape:
        turned = "; is it transposed?" if value.shape == shape[::-1] else ""
        raise CheckFailed(f"{name} must have shape {shape}, and yours has {value.shape}{turned}")
    if not np.isfinite(value).all():
        raise CheckFailed(f"{name} holds NaN or infinity: a division by zero, or a logarithm of zero?")
    return value


def recognised(
    roads: Mapping[Callable[..., Any], str], cases: Iterable[tuple[Any, ...]], received: Sequence[Any]
) -> str | None:
    """What `roads` says of the first wrong road that leads to what was `received` in each of the `cases`; None where none does.

    One case is not enough to tell: on a small one two mistakes often give the same.
    """
    cases = list(cases)
    for road, words in roads.items():
        if all(np.allclose(road(*copy.deepcopy(case)), found) for case, found in zip(cases, received, strict=True)):
            return words
    return None


def told_apart(expected: float, found: float) -> tuple[str, str]:
    """Both numbers in four digits, or in as many as it takes until the two read differently."""
    texts = [(f"{expected:.{digits}g}", f"{found:.{digits}g}") for digits in range(4, 18)]
    return next((pair for pair in texts if pair[0] != pair[1]), texts[0])


def lists_told_apart(expected: npt.NDArray[Any], found: npt.NDArray[Any]) -> tuple[list[float], list[float]]:
    """Both arrays (n,) in three decimals, or in as many as it takes until the two read differently."""
    for places in range(3, 17):
        one, other = ([round(float(value), places) for value in values] for values in (expected, found))
        if one != other:
            break
    return one, other


def passed(tested: str) -> None:
    """Prints what was tested. The last line of every check."""
    print(f"Passed. Tested: {tested}.")


def _plain(received: Any, name: str) -> Any:
    """`received` without the tensor around it; CheckFailed for nothing and for what no array can hold."""
    if received is None:
        raise CheckFailed(f"{name} is missing: your function returned None. Does it end with `return ...`?")
    if callable(getattr(received, "detach", None)):
        received = received.detach().cpu().numpy()
    try:
        return np.asarray(received)
    except (ValueError, TypeError):
        raise CheckFailed(f"{name} cannot be read as numbers: your function returned {_what(received)}") from None


def _what(received: Any) -> str:
    shape = getattr(received, "shape", None)
    text = repr(received)
    return f"a {type(received).__name__}" + (f" of shape {tuple(shape)}" if shape is not None else f", {text[:60]}")
