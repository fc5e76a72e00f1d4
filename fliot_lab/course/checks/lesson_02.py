"""Checks of lesson 02: name plates, folds by person; 2.2 stands in `packet_rhythm.py`, 2.4 and 2.5 in `doubt_and_heat.py`."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fliot_lab.course.checks import CheckFailed, Exercise, array, ask, passed, recognised
from fliot_lab.course.checks.doubt_and_heat import CURVE, HEAT, accuracy_at_coverage, clock_without_heat
from fliot_lab.course.checks.packet_rhythm import RHYTHM, rhythm

__all__ = ["EXERCISES", "accuracy_at_coverage", "ask", "clock_without_heat", "is_name_plate", "rhythm", "without_person"]

Array = npt.NDArray[Any]


# ------------------------------------------------------------------------------------------------------- 2.1 name plates


def is_name_plate(answer: Callable[..., Any]) -> None:
    """Exercise 2.1: `answer(X, unit)` is (d,), True for a column that never varies within a unit and differs between units."""
    cases = _observations()
    received = [array(ask(answer, *case), (case[0].shape[1],), "the answer") for case in cases]
    for (X, unit), found in zip(cases, received, strict=True):
        expected = _naive_plates(X, unit)
        if not np.array_equal(found.astype(bool), expected) or not set(found.tolist()) <= {0, 1}:
            mistake = recognised(_PLATES, cases, received) or "Look at one column and one unit at a time."
            raise CheckFailed(f"{mistake} {_plate_in_words(X, unit, found.astype(bool))}")
    passed("1 to 5 columns of 1 to 60 observations, 1 to 12 units in any order, units observed once, values that differ little")


def _observations() -> list[tuple[Array, Array]]:
    """X (n, d) and unit (n,): the first can be worked out by hand."""
    rng = np.random.default_rng(21)
    found = [
        (np.array([[7.0, 512, 30, 1], [7, 512, 31, 1], [9, 512, 30, 1], [9, 512, 30, 1]]), np.array(list("aabb"))),
        (np.array([[3.0, 1.0], [4.0, 1.0], [3.0, 1.0]]), np.array(list("aab"))),
        (np.array([[1.0, 2.0], [3.0, 2.0], [2.0, 5.0], [2.0, 5.0]]), np.array(list("aabb"))),
        (np.array([[5.0, 5.0, 1.0], [6.0, 5.0, 2.0], [5.0, 5.0, 1.0], [6.0, 5.0, 3.0]]), np.array(list("abab"))),
        (np.array([[4.0, 2.0]]), np.array(["a"])),
        (np.array([[1.0, 5.0], [1.0, 5.0], [2.0, 5.0000001]]), np.array(list("abc"))),
        (np.array([[3.0, 1.0], [3.0000001, 1.0], [4.0, 1.0]]), np.array(list("aab"))),
        (np.array([[1.0000001, 20.0], [1.0, 20.0], [1.0000001, 21.0]]), np.array(list("aba"))),
    ]
    for units, size in ((3, 24), (12, 60)):
        unit = rng.permutation(np.arange(size) % units)
        plate = rng.permutation(units)[unit].astype(float)
        shared = (np.arange(units) % 2)[unit].astype(float)  # two units can share a plate, as a size of memory
        often = np.where(rng.random(size) < 0.1, 99.0, plate)  # varies within a unit, seldom
        found.append((np.c_[rng.normal(0, 1, size), plate, np.full(size, 8.0), shared, often], unit))
    return found


def _naive_plates(X: Array, unit: Array) -> npt.NDArray[np.bool_]:
    plates = []
    for column in X.T.tolist():
        shown = {u: {value for value, v in zip(column, unit.tolist(), strict=True) if v == u} for u in unit.tolist()}
        plates.append(all(len(values) == 1 for values in shown.values()) and len(set(column)) > 1)
    return np.array(plates)


def _plate_in_words(X: Array, unit: Array, found: Array) -> str:
    expected = _naive_plates(X, unit)
    wrong = np.flatnonzero(found != expected)
    column = int(wrong[0]) if len(wrong) else 0
    values = Counter(zip(unit.tolist(), X[:, column].tolist(), strict=True))
    shown = ", ".join(
        f"unit {u} shows {value:.9g}" + (f" {n} times" if n > 1 else "") for (u, value), n in sorted(values.items())[:6]
    )
    few = "" if len(values) <= 6 else " and more"
    verdict = "is a name plate" if expected[column] else "is none"
    return f"Column {column}, where {shown}{few}, {verdict}, and you say {bool(found[column])}"


def _constant_within(X: Array, unit: Array) -> Any:
    return np.array([all(len(np.unique(X[unit == u, j])) == 1 for u in np.unique(unit)) for j in range(X.shape[1])])


def _different_between(X: Array, unit: Array) -> Any:
    means = np.array([X[unit == u].mean(axis=0) for u in np.unique(unit)])
    return (means != means[0]).any(axis=0)


def _unique_to_each(X: Array, unit: Array) -> Any:
    units = len(np.unique(unit))
    return np.array([len(np.unique(column)) == units for column in X.T]) & _constant_within(X, unit)


def _as_many_values_as_units(X: Array, unit: Array) -> Any:
    return np.array([len(np.unique(column)) == len(np.unique(unit)) for column in X.T])


def _some_unit_constant(X: Array, unit: Array) -> Any:
    some = np.array([any(len(np.unique(X[unit == u, j])) == 1 for u in np.unique(unit)) for j in range(X.shape[1])])
    return some & np.array([len(np.unique(column)) > 1 for column in X.T])


def _nearly_constant(X: Array, unit: Array) -> Any:
    still = np.array(
        [all(np.allclose(X[unit == u, j], X[unit == u, j][0]) for u in np.unique(unit)) for j in range(X.shape[1])]
    )
    return still & np.array([not np.allclose(column, column[0]) for column in X.T])


def _constant_everywhere(X: Array, unit: Array) -> Any:
    return np.array([len(np.unique(column)) == 1 for column in X.T])


_PLATES: dict[Callable[..., Any], str] = {
    _constant_within: "You flag columns that never vary at all. A value that all units share names none of them: ask also that "
    "two units differ.",
    _different_between: "You flag whatever differs between units. Behaviour differs as well; a name plate also never varies "
    "within a unit.",
    _unique_to_each: "You ask that every unit has a value of its own. A size of memory that half of the units share tells "
    "them from the other half: two units that differ are enough.",
    _as_many_values_as_units: "You count values and units. A column can have as many values as there are units, and vary.",
    _some_unit_constant: "One unit in which the column stands still is not enough: it must in each. A unit observed once "
    "never varies.",
    _nearly_constant: "You take values for equal that only lie near each other. Compare them exactly.",
    _constant_everywhere: "You flag what is the same for all. That names nobody.",
}


# -------------------------------------------------------------------------------------------------- 2.3 without one person


def without_person(answer: Callable[..., Any]) -> None:
    """Exercise 2.3: `answer(person, device, left_out)` is (train, test): test is the person's set-ups of types in training."""
    cases = _set_ups()
    received = [_sides(ask(answer, *case), len(case[0])) for case in cases]
    for case, found in zip(cases, received, strict=True):
        expected = _naive_sides(*case)
        if not np.array_equal(found, expected):
            mistake = recognised(_WITHOUT, cases, received) or "A set-up is training, test, or neither."
            raise CheckFailed(f"{mistake} {_side_in_words(*case, found)}")
    passed("6 to 90 set-ups of 2 to 9 types by 2 to 4 persons, mixed, with types that only one person has set up")


def _set_ups() -> list[tuple[Array, Array, str]]:
    rng = np.random.default_rng(23)
    found = [(np.array(list("AABBCC")), np.array(["plug", "cam", "plug", "lock", "cam", "plug"]), "B")]
    found.append((np.array(list("AABBBA")), np.array(["hub", "cam", "cam", "hub", "tv", "tv"]), "A"))
    for persons, types, n in (("AC", 3, 20), ("ABC", 9, 90), ("ABCD", 7, 60)):
        person = rng.choice(list(persons), n, p=np.arange(len(persons), 0, -1) / sum(range(len(persons) + 1)))
        device = np.array([f"type {i}" for i in rng.integers(0, types, n)])
        person[:2], device[:2] = persons[0], ["type 0", "nobody else's"]
        found += [(person, device, left_out) for left_out in persons]
    return found


def _naive_sides(person: Array, device: Array, left_out: str) -> Array:
    """(n,): 1 for training, 2 for test, 0 for neither."""
    known = {device[i] for i in range(len(person)) if person[i] != left_out}
    return np.array([1 if person[i] != left_out else 2 * (device[i] in known) for i in range(len(person))])


def _sides(received: Any, n: int) -> Array:
    """The pair `received` as (n,) of 1 training, 2 test, 0 neither; CheckFailed unless it is a pair of row numbers."""
    if not isinstance(received, tuple | list) or len(received) != 2:
        raise CheckFailed(f"the answer must be two arrays, `return train, test`, and yours is a {type(received).__name__}")
    sides = np.zeros(n, dtype=int)
    for side, name, mark in zip(received, ("train", "test"), (1, 2), strict=True):
        rows = array(side, (len(side),) if hasattr(side, "__len__") else (0,), name)
        if rows.dtype.kind == "b":
            raise CheckFailed(f"{name} must hold row numbers, and yours is a mask: np.flatnonzero(mask) gives the row numbers")
        if unknown := [row for row in rows.tolist() if row not in range(n)]:
            raise CheckFailed(f"there is no row {unknown[0]}: the {n} rows are 0 to {n - 1}")
        if sides[rows.astype(int)].any() or len(set(rows.tolist())) < len(rows):
            raise CheckFailed(f"a row is in train and in test, or twice in {name}: each may be in one of them, once")
        sides[rows.astype(int)] = mark
    return sides


def _side_in_words(person: Array, device: Array, left_out: str, found: Array) -> str:
    expected = _naive_sides(person, device, left_out)
    row = int(np.flatnonzero(found != expected)[0])
    right, yours = (("in neither", "in training", "in test")[int(sides[row])] for sides in (expected, found))
    others = sorted({str(p) for p, d in zip(person, device, strict=True) if d == device[row] and p != person[row]})
    by_others = f"also set up by {', '.join(others)}" if others else "set up by nobody else"
    return (
        f"With {left_out} left out, row {row} ({device[row]!s}, by {person[row]}, {by_others}) is {right}, and yours is {yours}"
    )


def _pair(sides: Array) -> tuple[Array, Array]:
    return np.flatnonzero(sides == 1), np.flatnonzero(sides == 2)


def _unknown_types_too(person: Array, device: Array, left_out: str) -> Any:
    return np.where(person == left_out, 2, 1)


def _types_dropped_everywhere(person: Array, device: Array, left_out: str) -> Any:
    sides = _naive_sides(person, device, left_out)
    tested = set(device[sides == 2].tolist())
    return np.where([d in tested for d in device.tolist()], sides, 0)


def _sides_swapped(person: Array, device: Array, left_out: str) -> Any:
    return np.array([0, 2, 1])[_naive_sides(person, device, left_out)]


def _trained_on_one(person: Array, device: Array, left_out: str) -> Any:
    known = set(device[person == left_out].tolist())
    return np.where(person == left_out, 1, np.where([d in known for d in device.tolist()], 2, 0))


def _unknown_into_training(person: Array, device: Array, left_out: str) -> Any:
    sides = _naive_sides(person, device, left_out)
    return np.where(sides == 0, 1, sides)


_WITHOUT: dict[Callable[..., Any], str] = {
    _unknown_types_too: "You also test types that nobody else has set up. No model can name a type it was never shown: leave "
    "such set-ups out of both, and count them apart.",
    _types_dropped_everywhere: "You train only on types that are tested. The model cannot know which will be asked for: use "
    "all that the others have set up.",
    _sides_swapped: "You return the two sides the wrong way round: train comes first.",
    _trained_on_one: "You train on the person who is left out. Train on all the others.",
    _unknown_into_training: "You put set-ups of the person left out into training. Training holds none of them, whatever "
    "their type.",
}


def _as_rows(road: Callable[..., Any]) -> Callable[..., Any]:
    def rows(person: Array, device: Array, left_out: str) -> Any:
        return _pair(road(person, device, left_out))

    rows.__name__ = road.__name__
    return rows


EXERCISES = {
    "2.1": Exercise(
        is_name_plate,
        {
            _constant_within: "two units differ",
            _different_between: "Behaviour differs as well",
            _unique_to_each: "a value of its own",
            _as_many_values_as_units: "count values and units",
            _some_unit_constant: "it must in each",
            _nearly_constant: "Compare them exactly",
            _constant_everywhere: "the same for all",
        },
    ),
    "2.2": RHYTHM,
    "2.3": Exercise(
        without_person,
        {
            _as_rows(road): words
            for road, words in {
                _unknown_types_too: "never shown",
                _types_dropped_everywhere: "only on types that are tested",
                _sides_swapped: "train comes first",
                _trained_on_one: "Train on all the others",
                _unknown_into_training: "Training holds none of them",
            }.items()
        },
    ),
    "2.4": CURVE,
    "2.5": HEAT,
}
