"""Every lesson as a student gets it, nothing solved."""

from pathlib import Path

from fliot_lab.course import build
from tests.course.students import run_unsolved


def test_every_lesson_runs_with_nothing_solved(tmp_path: Path) -> None:
    found = run_unsolved([lesson.name for lesson in build.lessons()], tmp_path)
    for lesson in build.lessons():
        assert "CheckFailed" in found[lesson.name], lesson.name
