"""Checks of lesson 04: a table that remembers, weights that even out classes; 4.2 and 4.3 have modules of their own."""

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fliot_lab.course.checks import CheckFailed, Exercise, array, ask, lists_told_apart, passed
from fliot_lab.course.checks.shuffled_columns import SHUFFLED, fall_when_shuffled
from fliot_lab.course.checks.three_numbers import NUMBERS, judge

__all__ = ["EXERCISES", "ask", "class_weights", "fall_when_shuffled", "judge", "remember"]

Array = npt.NDArray[Any]


# ------------------------------------------------------------------------------------------- 4.1 a table that remembers


def remember(answer: Callable[..., Any]) -> None:
    """Exercise 4.1: `answer(X_fit, y_fit, X_new)` names each new row (m,) as its vector was most often named in `X_fit`."""
    cases = _remembered()
    received = [_names(ask(answer, *case), len(case[2])) for case in cases]
    for case, found in zip(cases, received, strict=True):
        expected = _naive_table(*case)
        if found != expected:
            mistakes = (words for road, words in _TABLES.items() if _all_as(road, cases, received))
            mistake = next(mistakes, "Your table does not answer by the rule.")
            raise CheckFailed(f"{mistake} {_first_wrong(*case, expected, found)}")
    passed(
        "1 to 300 rows, vectors of one class and of several, ties, vectors never seen, fractions, large values 1 apart, no "
        "benign row"
    )


def _remembered() -> list[tuple[Array, Array, Array]]:
    """X_fit (n, d), y_fit (n,) and X_new (m, d), the smallest first."""
    rng = np.random.default_rng(41)
    a, b, c = [0.0, 1], [1.0, 0], [2.0, 2]
    x = np.array([a, a, a, b, b, b, b], np.float32)
    found = [
        (x, np.array(["Scan", "DDoS", "DDoS", "Scan", "Scan", "Benign", "Scan"]), np.array([a, b, c], np.float32)),
        (x[:5], np.array(["DDoS", "DDoS", "Benign", "Scan", "Benign"]), np.array([a, b, c], np.float32)),
        (np.array([[3.0]], np.float32), np.array(["Scan"]), np.array([[3.0], [4.0]], np.float32)),
        (
            np.array([[0.25], [0.75], [0.75], [9.0]], np.float32),
            np.array(["Scan", "DDoS", "DDoS", "DDoS"]),
            np.array([[0.25], [0.75], [0.5], [0.3], [8.9]], np.float32),
        ),
        (
            np.array([[1_000_000], [1_000_001], [1_000_001], [5], [5], [5]], np.float32),
            np.array(["Benign", "DDoS", "DDoS", "Okiru", "Okiru", "Benign"]),
            np.array([[1_000_000], [1_000_001], [1_000_002], [5]], np.float32),
        ),
        # one vector of many rows: most rows are DDoS, most vectors Scan
        (
            np.array([[1]] * 5 + [[2], [3], [4]], np.float32),
            np.array(["DDoS"] * 5 + ["Scan"] * 3),
            np.array([[7], [1], [2]], np.float32),
        ),
    ]
    for n, values in ((60, 3), (300, 4)):
        X = rng.integers(0, values, (2 * n, 3)).astype(np.float32)
        y = rng.choice(["Benign", "C&C", "DDoS", "Scan"], n, p=[0.2, 0.2, 0.4, 0.2])
        found.append((X[:n], y, np.r_[X[n:], np.full((3, 3), 9, np.float32)]))
    return found


def _counts(X: Array, y: Array) -> dict[tuple[float, ...], Counter[str]]:
    counts: dict[tuple[float, ...], Counter[str]] = defaultdict(Counter)
    for x, label in zip(X.tolist(), y.tolist(), strict=True):
        counts[tuple(x)][label] += 1
    return counts


def _commonest(counts: Counter[str]) -> str:
    most = max(counts.values())
    return min(name for name, count in counts.items() if count == most)


def _answers(X_fit: Array, y_fit: Array, X_new: Array, of: Callable[[Counter[str]], str], unseen: str) -> list[str]:
    counts = _counts(X_fit, y_fit)
    return [of(counts[tuple(x)]) if tuple(x) in counts else unseen for x in X_new.tolist()]


def _naive_table(X_fit: Array, y_fit: Array, X_new: Array) -> list[str]:
    return _answers(X_fit, y_fit, X_new, _commonest, _commonest(Counter(y_fit.tolist())))


def _names(received: Any, m: int) -> list[str]:
    """What came as m names of classes; CheckFailed says what it is where it is something else."""
    if received is None:
        raise CheckFailed("the answer is missing: your function returned None. Does it end with `return ...`?")
    try:
        names = np.asarray(received)
    except ValueError:
        names = np.zeros(0)
    wanted = f"the answer must be {m} names of classes, one for each row of X_new"
    if names.ndim != 1 or not all(isinstance(name, str) for name in names.tolist()):
        raise CheckFailed(f"{wanted}, and your function returned a {type(received).__name__}: {repr(received)[:60]}")
    if len(names) != m:
        raise CheckFailed(f"{wanted}, and yours has {len(names)}")
    return [str(name) for name in names.tolist()]


def _all_as(road: Callable[..., Any], cases: list[tuple[Array, Array, Array]], received: list[list[str]]) -> bool:
    return all(list(road(*case)) == found for case, found in zip(cases, received, strict=True))


def _first_wrong(X_fit: Array, y_fit: Array, X_new: Array, expected: list[str], found: list[str]) -> str:
    row = next(i for i, pair in enumerate(zip(expected, found, strict=True)) if pair[0] != pair[1])
    counts = _counts(X_fit, y_fit).get(tuple(X_new[row].tolist()))
    shown = ", ".join(f"{value:.9g}" for value in X_new[row])
    if counts is None:
        classes = ", ".join(f"{size} {name}" for name, size in sorted(Counter(y_fit.tolist()).items()))
        where = f"The vector [{shown}] was never seen; of all {len(y_fit)} rows there are {classes}"
    else:
        where = f"The vector [{shown}] was seen as {', '.join(f'{size} {name}' for name, size in sorted(counts.items()))}"
    return f"{where}: the answer is {expected[row]}, and yours is {found[row]}"


def _last_seen(X_fit: Array, y_fit: Array, X_new: Array) -> Any:
    table = dict(zip(map(tuple, X_fit.tolist()), y_fit.tolist(), strict=True))
    return [table.get(tuple(x), _commonest(Counter(y_fit.tolist()))) for x in X_new.tolist()]


def _first_seen(X_fit: Array, y_fit: Array, X_new: Array) -> Any:
    return _last_seen(X_fit[::-1], y_fit[::-1], X_new)


def _majority(X_fit: Array, y_fit: Array, X_new: Array) -> Any:
    return [_commonest(Counter(y_fit.tolist()))] * len(X_new)


def _new_is_benign(X_fit: Array, y_fit: Array, X_new: Array) -> Any:
    return _answers(X_fit, y_fit, X_new, _commonest, "Benign")


def _nearest(X_fit: Array, y_fit: Array, X_new: Array) -> Any:
    nearest = np.abs(X_new[:, None] - X_fit).sum(axis=2).argmin(axis=1)
    return _naive_table(X_fit, y_fit, X_fit[nearest])


def _met_first(X_fit: Array, y_fit: Array, X_new: Array) -> Any:
    unseen = Counter(y_fit.tolist()).most_common(1)[0][0]
    return _answers(X_fit, y_fit, X_new, lambda counts: counts.most_common(1)[0][0], unseen)


def _last_of_alphabet(X_fit: Array, y_fit: Array, X_new: Array) -> Any:
    def of(counts: Counter[str]) -> str:
        return max((count, name) for name, count in counts.items())[1]

    return _answers(X_fit, y_fit, X_new, of, of(Counter(y_fit.tolist())))


def _of_integers(X_fit: Array, y_fit: Array, X_new: Array) -> Any:
    return _naive_table(X_fit.astype(int), y_fit, X_new.astype(int))


def _vectors_counted(X_fit: Array, y_fit: Array, X_new: Array) -> Any:
    of_vectors = Counter(_commonest(counts) for counts in _counts(X_fit, y_fit).values())
    return _answers(X_fit, y_fit, X_new, _commonest, _commonest(of_vectors))


def _share_of_class(X_fit: Array, y_fit: Array, X_new: Array) -> Any:
    sizes = Counter(y_fit.tolist())

    def of(counts: Counter[str]) -> str:
        return min(counts, key=lambda name: (-counts[name] / sizes[name], name))

    return _answers(X_fit, y_fit, X_new, of, _commonest(sizes))


_TABLES: dict[Callable[..., Any], str] = {
    _last_seen: "With you the last row of a vector decides: a dictionary from vector to class overwrites what it held. Count "
    "the classes of each vector, and take the commonest.",
    _first_seen: "With you the first row of a vector decides. Count the classes of each vector, and take the commonest.",
    _majority: "You answer with the commonest class of all rows, whatever the vector. That is for vectors never seen.",
    _new_is_benign: "You call a vector that was never seen Benign. It gets the commonest class of all rows, whichever that is.",
    _nearest: "You answer a vector never seen with the nearest one. This table compares exactly, and knows no nearness: the "
    "commonest class of all rows is the answer.",
    _met_first: "Where two classes are equally common you take the one that came first (Counter.most_common does). Take the "
    "alphabetically first, so that the order of the rows plays no part.",
    _last_of_alphabet: "Where two classes are equally common you take the alphabetically last. Take the first.",
    _of_integers: "You make integers of the features: 0.25 and 0.75 both become 0. Compare the values as they are.",
    _vectors_counted: "For a vector never seen you count vectors, each once. Count rows: five rows of a vector are five.",
    _share_of_class: "You weigh each class by how many rows it has. Plain counts are asked for: of this vector's rows, which "
    "class has the most?",
}


# ------------------------------------------------------------------------------------------------- 4.4 weights of classes


def class_weights(answer: Callable[..., Any]) -> None:
    """Exercise 4.4: `answer(y)` is a weight for each row (n,): equal in sum for each class, and 1 on average."""
    cases = _labels()
    received = [array(ask(answer, *case), case[0].shape, "the weights") for case in cases]
    for (y,), found in zip(cases, received, strict=True):
        expected = _naive_weights(y)
        if not np.allclose(found, expected):
            mistakes = (words for road, words in _WEIGHTS.items() if _close(road, cases, received))
            mistake = next(mistakes, _which_law(y, found))
            right, yours = lists_told_apart(expected[:8], found[:8])
            raise CheckFailed(f"{mistake} For y = {y[:8].tolist()}{'...' if len(y) > 8 else ''}: {right}, and yours is {yours}")
    passed("1 to 200 rows of 1 to 4 classes, equal and unequal, in any order")


def _labels() -> list[tuple[Array]]:
    rng = np.random.default_rng(44)
    return [
        (np.array(["Benign", "DDoS", "Benign", "Benign"]),),
        (np.array(["Scan"]),),
        (np.array(["Benign", "DDoS", "Benign", "DDoS"]),),
        (np.array(["C&C", "DDoS", "DDoS", "Benign", "DDoS", "DDoS", "DDoS", "Benign"]),),
        (rng.choice(["Benign", "C&C", "DDoS", "Scan"], 200, p=[0.6, 0.3, 0.06, 0.04]),),
    ]


def _naive_weights(y: Array) -> Array:
    sizes = Counter(y.tolist())
    return np.array([len(y) / (len(sizes) * sizes[name]) for name in y.tolist()])


def _close(road: Callable[..., Any], cases: list[tuple[Array]], received: list[Array]) -> bool:
    return all(np.allclose(road(*case), found) for case, found in zip(cases, received, strict=True))


def _which_law(y: Array, found: Array) -> str:
    sums = {str(name): float(found[y == name].sum()) for name in sorted(set(y.tolist()))}
    if not np.allclose(list(sums.values()), next(iter(sums.values()))):
        return f"Your classes do not count alike: their weights sum to {', '.join(f'{v:.3g}' for v in sums.values())}."
    return f"Your classes count alike, but the weights are {found.mean():.3g} on average, and must be 1."


def _inverse(y: Array) -> Any:
    return np.array([1 / (y == name).sum() for name in y])


def _without_classes(y: Array) -> Any:
    return len(y) * _inverse(y)


def _shares(y: Array) -> Any:
    return 1 / _without_classes(y)


def _sum_to_one(y: Array) -> Any:
    return _naive_weights(y) / len(y)


def _largest_is_one(y: Array) -> Any:
    return _naive_weights(y) / _naive_weights(y).min()


def _square_root(y: Array) -> Any:
    root = np.sqrt(_inverse(y))
    return root / root.mean()


def _of_classes(y: Array) -> Any:
    return np.array([len(y) / (len(set(y.tolist())) * size) for size in np.unique(y, return_counts=True)[1]])


_WEIGHTS: dict[Callable[..., Any], str] = {
    _shares: "You weigh each row by the share of its class: the large classes count even more. Divide by the class's rows.",
    _inverse: "Your classes count alike, but a row weighs 1 / n_c: the weights are far below 1 on average, which for a network "
    "is a tiny learning rate. Multiply by n / c, the number of rows over that of classes.",
    _without_classes: "You forget to divide by the number of classes: your weights are c on average, and must be 1.",
    _sum_to_one: "Your weights sum to 1; they must be 1 on average, so that n rows still count n.",
    _largest_is_one: "You give the largest class the weight 1: then rows count more than 1 on average. Both laws, please.",
    _square_root: "You even out half the way, with a root. Asked is that each class counts alike: no root.",
}


EXERCISES = {
    "4.1": Exercise(
        remember,
        {
            _last_seen: "the last row of a vector",
            _first_seen: "the first row of a vector",
            _majority: "whatever the vector",
            _new_is_benign: "never seen Benign",
            _nearest: "no nearness",
            _met_first: "came first",
            _last_of_alphabet: "alphabetically last",
            _of_integers: "make integers",
            _vectors_counted: "count vectors",
            _share_of_class: "Plain counts",
        },
    ),
    "4.2": NUMBERS,
    "4.3": SHUFFLED,
    "4.4": Exercise(
        class_weights,
        {
            _shares: "by the share of its class",
            _inverse: "tiny learning rate",
            _without_classes: "number of classes",
            _sum_to_one: "sum to 1",
            _largest_is_one: "the weight 1",
            _square_root: "half the way",
            _of_classes: "must have shape",
        },
    ),
}
