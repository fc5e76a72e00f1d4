"""Check of exercise 4.3: the accuracy that is lost when columns are shuffled together among the rows."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fliot_lab.course.checks import CheckFailed, Exercise, ask, number, passed, told_apart

Array = npt.NDArray[Any]
Case = tuple[Callable[[Array], Array], Array, Array, list[int], int]
ROWS = 1500
TOLERANCE = 0.06  # five deviations of one shuffle of so many rows
SHUFFLES = 10


def fall_when_shuffled(answer: Callable[..., Any]) -> None:
    """Exercise 4.3: `answer(predict, X, y, columns, seed)` is the accuracy lost when `columns` are shuffled among the rows."""
    cases = _models()
    received = [number(ask(answer, *case), "the fall") for case in cases]
    expected = [_naive_fall(*case) for case in cases]
    for case, right, found in zip(cases, expected, received, strict=True):
        if abs(found - right) > TOLERANCE:
            mistakes = (words for road, words in _FALLS.items() if _leads_to(road, cases, received))
            mistake = next(mistakes, "Your fall is not that of shuffled columns.")
            raise CheckFailed(f"{mistake} {_told(case, right, found)}")
    _repeats(answer, cases[0], received[0])
    passed(
        "one column and groups, a group that only counts together, columns that nobody looks at, a shuffle that helps, seeds"
    )


def by_protocol(X: Array) -> Array:
    """The protocol (n,) of the flag that is set among columns 1 to 3."""
    return np.array(["icmp", "tcp", "udp"])[X[:, 1:4].argmax(axis=1)]


def by_agreement(X: Array) -> Array:
    """Names (n,): an attack where columns 0 and 4 are equal."""
    return np.where(X[:, 0] == X[:, 4], "attack", "Benign")


def by_size(X: Array) -> Array:
    """Names (n,): an attack where column 5 exceeds 10 or column 1 is set."""
    return np.where((X[:, 5] > 10) | (X[:, 1] > 0), "attack", "Benign")


_MODELS: dict[Callable[[Array], Array], str] = {
    by_protocol: "that answers with the protocol whose flag is set in columns 1 to 3",
    by_agreement: "that sees an attack where columns 0 and 4 are equal",
    by_size: "that sees an attack where column 5 exceeds 10 or column 1 is set",
}


def _models() -> list[Case]:
    """predict, X (n, d), y (n,), columns and a seed. A fall is far from what each mistake makes of it."""
    rng = np.random.default_rng(43)
    X = np.zeros((ROWS, 6), np.float32)
    X[:, 0] = rng.integers(0, 2, ROWS)
    X[np.arange(ROWS), 1 + rng.choice(3, ROWS, p=[0.2, 0.5, 0.3])] = 1
    X[:, 4] = np.where(rng.random(ROWS) < 0.9, X[:, 0], 1 - X[:, 0])
    X[:, 5] = rng.exponential(15, ROWS)
    protocol = np.where(rng.random(ROWS) < 0.9, by_protocol(X), "udp")
    turned = np.where(by_size(X) == "attack", "Benign", "attack")
    return [
        (by_protocol, X, protocol, [1, 2, 3], 5),
        (by_agreement, X, by_agreement(X), [0, 4], 6),
        (by_agreement, X, by_agreement(X), [4], 1),
        (by_size, X, by_size(X), [0, 4], 2),
        (by_size, X, by_size(X), [5], 3),
        (by_size, X, np.where(rng.random(ROWS) < 0.8, turned, by_size(X)), [5], 4),
    ]


def _naive_fall(predict: Callable[[Array], Array], X: Array, y: Array, columns: list[int], seed: int) -> float:
    """The mean of many shuffles: what one of them gives, but for chance."""
    rng = np.random.default_rng(0)
    after = []
    for _ in range(SHUFFLES):
        shuffled = X.copy()
        for row, donor in enumerate(rng.permutation(len(X)).tolist()):
            shuffled[row, columns] = X[donor, columns]
        after.append((predict(shuffled) == y).mean())
    return float((predict(X) == y).mean() - np.mean(after))


def _repeats(answer: Callable[..., Any], case: Case, first: float) -> None:
    """Raises CheckFailed unless equal seeds give equal falls, and others another one."""
    if number(ask(answer, *case), "the fall") != first:
        raise CheckFailed("Two calls with the same seed give two falls: draw from np.random.default_rng(seed)")
    others = {number(ask(answer, *case[:-1], seed), "the fall") for seed in (11, 12, 13)}
    if others == {first}:
        raise CheckFailed("Your shuffle is the same whatever the seed: draw from np.random.default_rng(seed)")


def _told(case: Case, right: float, found: float) -> str:
    predict, X, _, columns, _ = case
    expected, yours = told_apart(round(right, 2), found)
    return (
        f"A model {_MODELS[predict]}: when columns {columns} of {len(X)} rows are shuffled it loses about {expected}, and with "
        f"you {yours}"
    )


def _leads_to(road: Callable[..., Any], cases: list[Case], received: list[float]) -> bool:
    return all(abs(road(*case) - found) <= TOLERANCE for case, found in zip(cases, received, strict=True))


def _falls_to(X_new: Array, predict: Callable[[Array], Array], X: Array, y: Array) -> float:
    return float((predict(X) == y).mean() - (predict(X_new) == y).mean())


def _right(predict: Callable[[Array], Array], X: Array, y: Array, columns: list[int], seed: int | None) -> Any:
    shuffled = X.copy()
    shuffled[:, columns] = X[np.random.default_rng(seed).permutation(len(X))][:, columns]
    return _falls_to(shuffled, predict, X, y)


def _each_by_itself(predict: Callable[[Array], Array], X: Array, y: Array, columns: list[int], seed: int) -> Any:
    shuffled = X.copy()
    shuffled[:, columns] = np.random.default_rng(seed).permuted(X[:, columns], axis=0)
    return _falls_to(shuffled, predict, X, y)


def _of_a_copy(predict: Callable[[Array], Array], X: Array, y: Array, columns: list[int], seed: int) -> Any:
    shuffled = X.copy()
    np.random.default_rng(seed).shuffle(shuffled[:, columns])
    return _falls_to(shuffled, predict, X, y)


def _whole_rows(predict: Callable[[Array], Array], X: Array, y: Array, columns: list[int], seed: int) -> Any:
    return _falls_to(X[np.random.default_rng(seed).permutation(len(X))], predict, X, y)


def _labels(predict: Callable[[Array], Array], X: Array, y: Array, columns: list[int], seed: int) -> Any:
    before = (predict(X) == y).mean()
    return before - (predict(X) == np.random.default_rng(seed).permutation(y)).mean()


def _the_others(predict: Callable[[Array], Array], X: Array, y: Array, columns: list[int], seed: int) -> Any:
    return _right(predict, X, y, [j for j in range(X.shape[1]) if j not in columns], seed)


def _sideways(predict: Callable[[Array], Array], X: Array, y: Array, columns: list[int], seed: int) -> Any:
    shuffled = X.copy()
    shuffled[:, columns] = np.random.default_rng(seed).permuted(X[:, columns], axis=1)
    return _falls_to(shuffled, predict, X, y)


def _emptied(predict: Callable[[Array], Array], X: Array, y: Array, columns: list[int], seed: int) -> Any:
    shuffled = X.copy()
    shuffled[:, columns] = 0
    return _falls_to(shuffled, predict, X, y)


def _averaged(predict: Callable[[Array], Array], X: Array, y: Array, columns: list[int], seed: int) -> Any:
    shuffled = X.copy()
    shuffled[:, columns] = X[:, columns].mean(axis=0)
    return _falls_to(shuffled, predict, X, y)


def _turned_round(*case: Any) -> Any:
    return -_right(*case)


def _without_sign(*case: Any) -> Any:
    return abs(_right(*case))


def _after(predict: Callable[[Array], Array], X: Array, y: Array, columns: list[int], seed: int) -> Any:
    return (predict(X) == y).mean() - _right(predict, X, y, columns, seed)


def _relative(predict: Callable[[Array], Array], X: Array, y: Array, columns: list[int], seed: int) -> Any:
    return _right(predict, X, y, columns, seed) / (predict(X) == y).mean()


def _unseeded(predict: Callable[[Array], Array], X: Array, y: Array, columns: list[int], seed: int) -> Any:
    return _right(predict, X, y, columns, None)


def _seed_zero(predict: Callable[[Array], Array], X: Array, y: Array, columns: list[int], seed: int) -> Any:
    return _right(predict, X, y, columns, 0)


_FALLS: dict[Callable[..., Any], str] = {
    _of_a_copy: "Nothing is shuffled: X[:, columns] with a list of columns is a copy, and rng.shuffle moves the rows of that "
    "copy. Assign what you shuffled: X_new[:, columns] = ...",
    _each_by_itself: "You shuffle each column by itself. Then rows arise that cannot be, two protocols at once or none, and "
    "the model is judged on nonsense. One permutation of the rows for all columns.",
    **dict.fromkeys(
        (_whole_rows, _labels),
        "You shuffle whole rows, or the answers: then even columns that the model never looks at seem to matter. Shuffle the "
        "given columns among the rows; the other columns and y stay.",
    ),
    _the_others: "You shuffle the other columns and keep the given ones.",
    _sideways: "You shuffle along the row: a row's values change their columns. Values stay in their column and change rows.",
    _emptied: "You set the columns to 0. For a model that may be an ordinary value: shuffled values are as ordinary as before, "
    "and only no longer this row's.",
    _averaged: "You set the columns to their mean, a value that may never occur. Shuffled values are ordinary ones, and only "
    "no longer this row's.",
    _turned_round: "Your sign is turned round: a fall is the accuracy before minus that after.",
    _without_sign: "You drop the sign. Where a shuffle helps, the fall is negative, and that is a finding.",
    _after: "You return the accuracy after the shuffle: subtract it from that before.",
    _relative: "You divide by the accuracy before. Asked is the difference, in points of accuracy.",
}

SHUFFLED = Exercise(
    fall_when_shuffled,
    _FALLS | {_unseeded: "Two calls with the same seed", _seed_zero: "the same whatever the seed"},
)
