"""Checks of lesson 01: the ceiling of features, twins across a split; 1.2 stands in `flow_times.py`, 1.4 in `time_split.py`."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from fliot_lab.course.checks import CheckFailed, Exercise, array, ask, number, passed, recognised, told_apart
from fliot_lab.course.checks.flow_times import EVENTS, count_events
from fliot_lab.course.checks.time_split import SPLIT, split_by_time

__all__ = ["EXERCISES", "ask", "ceiling", "count_events", "has_twin", "split_by_time"]

Array = npt.NDArray[Any]


# ------------------------------------------------------------------------------------------------------ 1.1 the ceiling


def ceiling(answer: Callable[..., Any]) -> None:
    """Exercise 1.1: `answer(X, y)`, (n, d) and (n,), is the share of rows that have their vector's commonest class."""
    cases = _labelled_vectors()
    received = [number(ask(answer, *case), "the ceiling") for case in cases]
    for (X, y), found in zip(cases, received, strict=True):
        expected = _naive_ceiling(X, y)
        if abs(found - expected) > 1e-6:
            mistake = recognised(_CEILINGS, cases, received) or (_TOO_LOW if found < expected else _TOO_HIGH)
            right, yours = told_apart(expected, found)
            raise CheckFailed(f"{mistake} {_counted(X, y)}: {right}, and yours is {yours}")
    passed(
        "1 to 400 flows, vectors with one class and with several, all flows alike, no two alike, many vectors, 1 to 24 "
        "features, fractions, large values 1 apart"
    )


def _labelled_vectors() -> list[tuple[Array, Array]]:
    """X (n, d) and y (n,), the smallest first: seven flows whose ceiling can be worked out by hand."""
    rng = np.random.default_rng(1)
    a, b, c = [0, 1], [1, 0], [1, 1]
    found = [
        (np.array([a, b, a, b, a, b, c], np.float32), np.array(["Benign", *["DDoS"] * 3, "Benign", "DDoS", "Benign"])),
        (np.array([[3.0]], np.float32), np.array(["Benign"])),
        (np.arange(12, dtype=np.float32).reshape(6, 2), np.array(["Benign", "DDoS"] * 3)),
        (np.ones((5, 3), np.float32), np.array(["Scan", "DDoS", "Scan", "Benign", "Scan"])),
        (np.array([[0.25], [0.75], [0.25], [1.5]], np.float32), np.array(["Benign", "DDoS", "Benign", "Scan"])),
        (np.array([[0.5], [0.500244140625], [0.5]], np.float32), np.array(["Benign", "DDoS", "Benign"])),
        (np.array([[1_000_000], [1_000_001], [1_000_000]], np.float32), np.array(["Benign", "DDoS", "Benign"])),
    ]
    for n, d, values in ((40, 2, 3), (400, 24, 2)):
        X = rng.integers(0, values, (n, d)).astype(np.float32)
        X[:, 3:] = 0  # so that vectors recur
        found.append((X, rng.choice(["Benign", "C&C", "DDoS", "Scan"], n, p=[0.4, 0.1, 0.3, 0.2])))
    many = rng.exponential(1, (200, 4)).astype(np.float32)  # more vectors than a shallow tree has leaves
    found.append((many[rng.integers(0, 200, 400)], rng.choice(["Benign", "DDoS", "Scan"], 400)))
    return found


def _naive_ceiling(X: Array, y: Array) -> float:
    counts = _classes_of_vectors(X, y)
    return sum(max(classes.values()) for classes in counts.values()) / len(y)


def _classes_of_vectors(X: Array, y: Array) -> dict[tuple[float, ...], Counter[str]]:
    """How many flows of each class each distinct vector has."""
    counts: dict[tuple[float, ...], Counter[str]] = defaultdict(Counter)
    for x, label in zip(X.tolist(), y.tolist(), strict=True):
        counts[tuple(x)][label] += 1
    return counts


def _counted(X: Array, y: Array) -> str:
    """The case in words: each vector with its classes where there are few."""
    counts = _classes_of_vectors(X, y)
    if len(counts) > 6:
        return f"For {len(y)} flows with {len(counts)} distinct vectors it is"
    vectors = "; ".join(
        f"{_shown(x)} {', '.join(f'{size} {label}' for label, size in classes.items())}" for x, classes in counts.items()
    )
    best = " + ".join(str(max(classes.values())) for classes in counts.values())
    return f"For {len(y)} flows ({vectors}) it is ({best}) / {len(y)}"


def _shown(x: Iterable[float]) -> str:
    """A vector in nine digits, as many as float32 holds: 1000001 and 0.25 as they are."""
    return f"[{', '.join(f'{value:.9g}' for value in x)}]"


def _of_integers(X: Array, y: Array) -> Any:
    return _naive_ceiling(X.astype(int), y)


def _of_rounded(X: Array, y: Array) -> Any:
    return _naive_ceiling(X.round(2), y)


def _of_five_digits(X: Array, y: Array) -> Any:
    return _naive_ceiling(np.vectorize(lambda value: float(f"{value:.5g}"))(X), y)


def _distinct_vectors(X: Array, y: Array) -> Any:
    return len(np.unique(X, axis=0)) / len(X)


def _without_conflict(X: Array, y: Array) -> Any:
    counts = _classes_of_vectors(X, y).values()
    return sum(sum(classes.values()) for classes in counts if len(classes) == 1) / len(y)


def _each_vector_the_same(X: Array, y: Array) -> Any:
    shares = [max(classes.values()) / sum(classes.values()) for classes in _classes_of_vectors(X, y).values()]
    return float(np.mean(shares))


def _majority(X: Array, y: Array) -> Any:
    return np.unique(y, return_counts=True)[1].max() / len(y)


def _not_divided(X: Array, y: Array) -> Any:
    return sum(max(classes.values()) for classes in _classes_of_vectors(X, y).values())


_CEILINGS: dict[Callable[..., Any], str] = {
    _distinct_vectors: "You count the distinct vectors. A vector that ten flows of one class share is right ten times: "
    "add the flows of its commonest class, not 1.",
    _without_conflict: "You count only flows whose vector has a single class. Where a vector has several, the commonest of "
    "them is still answered right: add its flows too.",
    _each_vector_the_same: "You take the mean over the vectors, each the same. A vector with a thousand flows counts a "
    "thousand times as much as one with a single flow: add flows, and divide by n once, at the end.",
    _majority: "You answer with the commonest class of all flows. The features tell more: answer with the commonest class of "
    "each vector.",
    _not_divided: "You count the flows that are answered right. The ceiling is their share: divide by n.",
    _of_integers: "You make integers of the features: 0.25 and 0.75 both become 0, and two vectors one. Compare the values as "
    "they are.",
    _of_rounded: "You round the features: 0.5 and 0.50024414 are two values, and become one. Compare the values as they are.",
    _of_five_digits: "You take values for equal that only lie near each other: 1000000 and 1000001 are two. Compare the values "
    "as they are.",
}

_TOO_LOW = (
    "Your ceiling is too low. Does your function take different vectors for one, as rounding does, or a model that cannot tell "
    "all of them apart, such as a shallow tree? Each distinct vector is answered with its own commonest class."
)
_TOO_HIGH = "Your ceiling is too high: flows with the same vector get the same answer, the vector's commonest class."


# ------------------------------------------------------------------------------------------------------------ 1.3 twins


def has_twin(answer: Callable[..., Any]) -> None:
    """Exercise 1.3: `answer(X_train, X_test)`, (n, d) and (m, d), is True (m,) where a test row occurs, whole, in training."""
    cases = _two_sides()
    received = [_mask(ask(answer, *case), len(case[1])) for case in cases]
    for (X_train, X_test), found in zip(cases, received, strict=True):
        expected = _naive_twins(X_train, X_test)
        if not np.array_equal(found, expected):
            mistake = recognised(_TWINS, cases, received) or "Your twins are not those of the definition."
            raise CheckFailed(f"{mistake} {_first_wrong(X_train, X_test, expected, found)}")
    passed(
        "1 to 200 rows, 1 to 24 features, no twins, twins only, rows that agree in each column but in no row, fractions, large "
        "values 1 apart"
    )


def _two_sides() -> list[tuple[Array, Array]]:
    """X_train (n, d) and X_test (m, d), the smallest first."""
    rng = np.random.default_rng(3)
    found = [
        (np.array([[0, 1], [2, 3]], np.float32), np.array([[0, 1], [0, 3], [0, 9], [1, 0], [5, 5], [5, 5]], np.float32)),
        (np.array([[1, 2, 3]] * 3, np.float32), np.array([[1, 2, 3], [1, 2, 4]], np.float32)),
        (np.array([[1.0], [2.0]], np.float32), np.array([[3.0], [4.0], [5.0]], np.float32)),
        (np.array([[4.0, 5.0]], np.float32), np.array([[4.0, 5.0], [4.0, 5.0]], np.float32)),
        (np.array([[1.5, 1.0]], np.float32), np.array([[1.75, 1], [1.25, 1], [1.500244140625, 1], [1.5, 1]], np.float32)),
        (np.array([[1_000_000]], np.float32), np.array([[1_000_001], [1_000_000]], np.float32)),
    ]
    for n, m, d in ((30, 20, 3), (200, 150, 24)):
        X = rng.integers(0, 3, (n + m, d)).astype(np.float32)
        X[:, 3:] = 7
        found.append((X[:n], X[n:]))
    return found


def _naive_twins(X_train: Array, X_test: Array) -> Array:
    return np.array([any(row == other for other in X_train.tolist()) for row in X_test.tolist()])


def _mask(received: Any, m: int) -> Array:
    mask = array(received, (m,), "the answer")
    if mask.dtype.kind != "b":
        raise CheckFailed(f"the answer must be made of True and False, a mask that selects rows, and yours holds {mask.dtype}")
    return mask


def _first_wrong(X_train: Array, X_test: Array, expected: Array, found: Array) -> str:
    row = int(np.flatnonzero(found != expected)[0])
    if X_train.size <= 12:
        where = f"X_train = [{', '.join(map(_shown, X_train.tolist()))}]: the test row {_shown(X_test[row].tolist())}"
    else:
        where = f"With {len(X_train)} training rows of {X_train.shape[1]} features, test row {row}"
    return f"{where} {'has a twin' if expected[row] else 'has no twin'}, and you answer {bool(found[row])}"


def _twins_of_integers(X_train: Array, X_test: Array) -> Any:
    return _naive_twins(X_train.astype(int), X_test.astype(int))


def _twins_of_rounded(X_train: Array, X_test: Array) -> Any:
    return _naive_twins(X_train.round(2), X_test.round(2))


def _twins_of_whole(X_train: Array, X_test: Array) -> Any:
    return _naive_twins(X_train.round(), X_test.round())


def _nearly_equal(X_train: Array, X_test: Array) -> Any:
    return np.any(np.all(np.isclose(X_test[:, None], X_train), axis=2), axis=1)


def _complement(X_train: Array, X_test: Array) -> Any:
    return ~_naive_twins(X_train, X_test)


def _column_by_column(X_train: Array, X_test: Array) -> Any:
    return np.all([np.isin(X_test[:, j], X_train[:, j]) for j in range(X_test.shape[1])], axis=0)


def _values_anywhere(X_train: Array, X_test: Array) -> Any:
    return np.isin(X_test, X_train).all(axis=1)


def _any_feature(X_train: Array, X_test: Array) -> Any:
    return (X_test[:, None] == X_train).any(axis=(1, 2))


def _within_the_test(X_train: Array, X_test: Array) -> Any:
    _, which, size = np.unique(X_test, axis=0, return_inverse=True, return_counts=True)
    return size[which.ravel()] > 1


def _anywhere_else(X_train: Array, X_test: Array) -> Any:
    return _within_the_test(X_train, X_test) | _naive_twins(X_train, X_test)


def _rows_that_have_one(X_train: Array, X_test: Array) -> Any:
    return np.flatnonzero(_naive_twins(X_train, X_test))


_TWINS: dict[Callable[..., Any], str] = {
    _complement: "You have it the wrong way round: True where a row has NO twin.",
    _column_by_column: "You compare column by column: each value occurs in its column of training, but in different rows. A "
    "twin is one training row that agrees in every feature.",
    _values_anywhere: "You ask whether each value occurs anywhere in training. A twin is one training row that agrees in every "
    "feature, at its place.",
    _any_feature: "You ask for a training row that agrees in any feature. A twin agrees in every feature: `all`, not `any`, "
    "over the features.",
    _within_the_test: "You look for copies within the test. What the model has seen is in training: compare with X_train.",
    _anywhere_else: "You count copies within the test too. Only what is in training was seen: compare with X_train alone.",
    _twins_of_integers: "You make integers of the features: 1.5 and 1.75 both become 1. A twin has the same value in every "
    "feature: compare the values as they are.",
    **dict.fromkeys(
        (_twins_of_rounded, _twins_of_whole),
        "You round the features: 1.5 and 1.50024414 are two values. A twin has the same value in every feature: compare the "
        "values as they are.",
    ),
    _nearly_equal: "You compare nearly (np.isclose): 1000000 and 1000001 are twins with you. A twin has the same value in "
    "every feature: compare with ==.",
}


EXERCISES = {
    "1.1": Exercise(
        ceiling,
        {
            _distinct_vectors: "count the distinct vectors",
            _without_conflict: "whose vector has a single class",
            _each_vector_the_same: "mean over the vectors",
            _majority: "commonest class of all flows",
            _not_divided: "divide by n",
            _of_integers: "make integers of the features",
            _of_rounded: "round the features",
            _of_five_digits: "only lie near each other",
        },
    ),
    "1.2": EVENTS,
    "1.3": Exercise(
        has_twin,
        {
            _complement: "wrong way round",
            _column_by_column: "column by column",
            _values_anywhere: "anywhere in training",
            _any_feature: "agrees in any feature",
            _within_the_test: "copies within the test",
            _anywhere_else: "copies within the test too",
            _twins_of_integers: "make integers of the features",
            _twins_of_rounded: "round the features",
            _twins_of_whole: "round the features",
            _nearly_equal: "compare nearly",
            _rows_that_have_one: "must have shape (6,)",
        },
    ),
    "1.4": SPLIT,
}
