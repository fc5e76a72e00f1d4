"""Grading on the course's own lessons: five hand-ins, five right rows, and the benchmark of it."""

import csv
import json
import re
import time
from pathlib import Path

import pytest

from benchmarks import grading as benchmark
from fliot_lab.course import grading
from fliot_lab.course.grading import reference
from tests.course import submissions


@pytest.fixture
def solved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[submissions.Solved]:
    """The lessons as their sources are now, their student notebooks where the grader looks."""
    found = submissions.of_course()
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for lesson in found:
        (folder / f"{lesson.name}.ipynb").write_text(json.dumps(lesson.student), "utf-8")
    monkeypatch.setattr(reference, "NOTEBOOKS", folder)
    return found


def test_the_courses_lessons_give_five_right_rows_in_time(solved: list[submissions.Solved], tmp_path: Path) -> None:
    folder = tmp_path / "hand-ins"
    folder.mkdir()
    expected = submissions.make(folder, solved)
    start = time.monotonic()
    path = grading.grade(folder, tmp_path / "out")
    assert time.monotonic() - start < 180
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        marks = {label.split(" ")[0]: int(mark) for label, mark in row.items() if re.match(r"\d+\.\d+", label)}
        assert marks == expected[row["student"]], row
        assert row["remarks"] == "" or row["student"] != "perfect"
    assert len(rows) == 5


def test_the_solutions_pass_and_the_stubs_do_not(
    solved: list[submissions.Solved], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for lesson in solved:
        (tmp_path / f"{lesson.name}.ipynb").write_text(json.dumps(lesson.solution), "utf-8")
        assert grading.check_lesson(lesson.name[:2], tmp_path) == 0, capsys.readouterr().out
        (tmp_path / f"{lesson.name}.ipynb").write_text(json.dumps(lesson.student), "utf-8")
        assert grading.check_lesson(lesson.name[:2], tmp_path) == 1


def test_the_benchmark_prints_its_two_lines(solved: list[submissions.Solved]) -> None:
    section = benchmark.run(repetitions=1, starts=2)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("|")]
    assert [line[0] for line in lines[2:]] == ["grading five hand-ins", "fliot --help"]
    assert all(line[-1] in ("yes", "no") and float(line[1]) > 0 for line in lines[2:])
