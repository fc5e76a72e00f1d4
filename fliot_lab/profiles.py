"""Profiles: how much a lesson does (`fast` for reading and testing, `full` for headline numbers), from profiles.toml."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeGuard

PROFILES = ("fast", "full")
FILE = Path(__file__).with_name("profiles.toml")


def settings(lesson: str, profile: str) -> SimpleNamespace:
    """The numbers that `lesson` ("03_autoencoder") reads in `profile`, as attributes: `settings(...).seeds`.

    Raises ValueError for a lesson or a profile that profiles.toml does not have.
    """
    return SimpleNamespace(**{name: value for name, value in _table(lesson, profile).items() if name != "ranges"})


def ranges(lesson: str, profile: str, dataset: str) -> dict[str, tuple[float, float]]:
    """Figure -> (low, high) in which it must lie, ends included; empty where this profile asserts none on this data set.

    Raises ValueError for an unknown lesson or profile, and for a range that is not two numbers, the smaller first.
    """
    given = _table(lesson, profile).get("ranges", {}).get(dataset, {})
    for figure, pair in given.items():
        if not (isinstance(pair, list) and len(pair) == 2 and all(map(is_number, pair)) and pair[0] <= pair[1]):
            raise ValueError(f"{FILE.name}, [{lesson}.{profile}.ranges.{dataset}]: {figure!r} must be [low, high], got {pair}")
    return {figure: (float(low), float(high)) for figure, (low, high) in given.items()}


def outside(numbers: Mapping[str, Any], allowed: Mapping[str, tuple[float, float]]) -> list[str]:
    """A sentence for each figure of `allowed` that is missing in a lesson's `numbers`, or lies outside its range.

    A figure is a number or holds one as its `value`, beside its interval.
    """
    found = []
    for figure, (low, high) in allowed.items():
        value = numbers.get(figure)
        value = value.get("value") if isinstance(value, Mapping) else value
        if not is_number(value):
            found.append(f"{figure!r} must lie in [{low:g}, {high:g}] and is {'missing' if value is None else repr(value)}")
        elif not low <= value <= high:
            found.append(f"{figure!r} is {value:.6g}, outside [{low:g}, {high:g}]")
    return found


def _table(lesson: str, profile: str) -> dict[str, Any]:
    """What profiles.toml holds for a lesson's profile."""
    lessons = tomllib.loads(FILE.read_text("utf-8"))
    if lesson not in lessons:
        raise ValueError(f"{FILE.name} has no table for lesson {lesson!r}; it has {', '.join(lessons)}")
    if profile not in PROFILES:
        raise ValueError(f"profile={profile!r} is unknown; choose one of {', '.join(PROFILES)}")
    if profile not in lessons[lesson]:
        raise ValueError(f"{FILE.name} has no table [{lesson}.{profile}]; write one, even if it is empty")
    table: dict[str, Any] = lessons[lesson][profile]
    return table


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a figure is a number; True and False, which Python counts among them, are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)
