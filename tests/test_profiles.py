"""Profiles: what a lesson reads, what a full run must give, and that every lesson of the course has its tables."""

import json
import math
import tomllib
from pathlib import Path
from typing import Any

import pytest

from fliot_lab import profiles
from fliot_lab.course import build, run

TABLES = """
[01_first.fast]
seeds = 3
rate = 0.5

[01_first.full]
seeds = 5

[01_first.full.ranges.sample]
"AUC, all" = [0.5, 1]
rows = [10, 10]

[02_second.fast]
"""


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "profiles.toml"
    path.write_text(TABLES)
    monkeypatch.setattr(profiles, "FILE", path)
    return path


def test_a_lesson_reads_its_numbers_as_attributes(tables: Path) -> None:
    assert vars(profiles.settings("01_first", "fast")) == {"seeds": 3, "rate": 0.5}
    assert vars(profiles.settings("01_first", "full")) == {"seeds": 5}  # the ranges are no setting
    assert vars(profiles.settings("02_second", "fast")) == {}


def test_ranges_are_of_one_profile_and_one_data_set(tables: Path) -> None:
    assert profiles.ranges("01_first", "full", "sample") == {"AUC, all": (0.5, 1.0), "rows": (10.0, 10.0)}
    assert profiles.ranges("01_first", "full", "iot23") == profiles.ranges("01_first", "fast", "sample") == {}


@pytest.mark.parametrize(
    ("lesson", "profile", "message"),
    [
        ("03_third", "fast", "no table for lesson '03_third'; it has 01_first, 02_second"),
        ("01_first", "slow", "profile='slow' is unknown; choose one of fast, full"),
        ("02_second", "full", r"no table \[02_second.full\]; write one, even if it is empty"),
    ],
)
def test_what_is_unknown_is_refused(tables: Path, lesson: str, profile: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        profiles.settings(lesson, profile)
    with pytest.raises(ValueError, match=message):
        profiles.ranges(lesson, profile, "sample")


@pytest.mark.parametrize("pair", ["[2, 1]", "[1]", "0.5", '["a", "b"]', "[false, true]"])
def test_a_range_is_two_numbers_in_order(tables: Path, pair: str) -> None:
    tables.write_text(f"[01_first.fast.ranges.sample]\nAUC = {pair}\n")
    with pytest.raises(ValueError, match=r"profiles.toml, \[01_first.fast.ranges.sample\]: 'AUC' must be \[low, high\], got"):
        profiles.ranges("01_first", "fast", "sample")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.5, None),
        (1, None),
        ({"value": 0.7, "low": 0.1, "high": 2.0}, None),  # the value counts, an interval may be wide
        (0.49, "'AUC' is 0.49, outside [0.5, 1]"),
        ({"value": 1.5, "low": 0.6, "high": 2.0}, "'AUC' is 1.5, outside [0.5, 1]"),
        (math.nan, "'AUC' is nan, outside [0.5, 1]"),
        (None, "'AUC' must lie in [0.5, 1] and is missing"),
        ({"value": None}, "'AUC' must lie in [0.5, 1] and is missing"),
        (True, "'AUC' must lie in [0.5, 1] and is True"),
        ("0.7", "'AUC' must lie in [0.5, 1] and is '0.7'"),
    ],
)
def test_a_figure_outside_its_range_is_named_with_both(value: Any, said: str | None) -> None:
    numbers = {"AUC": value, "other": 7}
    assert profiles.outside(numbers, {"AUC": (0.5, 1.0)}) == ([said] if said else [])
    assert profiles.outside({}, {"AUC": (0.5, 1.0)}) == ["'AUC' must lie in [0.5, 1] and is missing"]
    assert profiles.outside(numbers, {}) == []


# --- the course's own tables -------------------------------------------------------------------------------------------


def course_tables() -> dict[str, Any]:
    return tomllib.loads(profiles.FILE.read_text("utf-8"))


def test_every_lesson_has_its_tables_and_every_table_its_lesson() -> None:
    assert list(course_tables()) == [lesson.name for lesson in build.lessons()]
    for lesson, tables in course_tables().items():
        assert tuple(tables) == profiles.PROFILES, lesson
        for profile, content in tables.items():
            for dataset in content.get("ranges", {}):
                assert profiles.ranges(lesson, profile, dataset), f"{lesson}, {profile}, {dataset} asserts nothing"
            assert not set(content.get("ranges", {})) - {"sample", "iot23", "iot23-study"}
    assert tuple(run.LIMIT_S) == profiles.PROFILES


def test_headline_numbers_come_from_five_seeds_or_more() -> None:
    seeds = {lesson: tables["full"]["seeds"] for lesson, tables in course_tables().items() if "seeds" in tables["full"]}
    assert {"01_iot23_preprocessing", "03_autoencoder"} <= seeds.keys()
    assert min(seeds.values()) >= 5


def test_the_references_figures_lie_in_the_ranges() -> None:
    """Where the committed reference holds full runs: what was measured once must still be allowed."""
    path = run.results.RESULTS / "reference.json"
    known = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    for found in known.values():
        for lesson, kept in found["lessons"].items():
            allowed = profiles.ranges(lesson, found["profile"], found["data"])
            assert profiles.outside(kept["numbers"], allowed) == []
