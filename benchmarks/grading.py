"""How long an instructor waits for the grades of five hand-ins, and anybody for `fliot --help`."""

import csv
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import measure
from fliot_lab import ROOT

GRADING_TARGET_S, HELP_TARGET_S = 180.0, 0.5


def run(repetitions: int = 3, starts: int = 9) -> str:
    """The section for results/BENCHMARKS.md. Raises ValueError where the grades are not the right ones."""
    from fliot_lab.course import grading
    from tests.course import submissions

    with tempfile.TemporaryDirectory(prefix="fliot-bench-") as name:
        folder, out = Path(name) / "hand-ins", Path(name) / "out"
        folder.mkdir()
        lessons = submissions.of_course()
        expected = submissions.make(folder, lessons)
        graded = [_measured(lambda: grading.grade(folder, out)) for _ in range(repetitions)]
        if (found := _rows(out / "grades.csv")) != expected:
            raise ValueError(f"the grades are {found} and should be {expected}")
    helped = [_measured(_help) for _ in range(starts + 1)][1:]  # the first fills the caches of files
    lines = [
        _line("grading five hand-ins", graded, GRADING_TARGET_S),
        _line("fliot --help", helped, HELP_TARGET_S),
    ]
    columns = ["what", "wall s", "CPU s", "target, wall", "met"]
    exercises = sum(len(lesson.functions) for lesson in lessons)
    return (
        f"## Grading five hand-ins ({len(lessons)} lessons, {exercises} exercises), and the command line\n\n"
        f"{measure.table(columns, lines)}\n\n"
        f"Medians of {repetitions} and of {starts} runs. A perfect, a half-done, a crashing, an endless and a cheating hand-in "
        "are graded two at a time; the endless one waits for its limit of 10 s once in each lesson. All five rows were right."
    )


def _measured(work: Callable[[], object]) -> tuple[float, float]:
    """(wall-clock, CPU) seconds of the work."""
    wall, cpu = time.perf_counter(), measure.cpu_seconds()
    work()
    return time.perf_counter() - wall, measure.cpu_seconds() - cpu


def _help() -> None:
    """What the command `fliot --help` does, in a process of its own."""
    command = [sys.executable, "-c", "from fliot_lab.cli import app; app()", "--help"]
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)


def _line(name: str, measured: list[tuple[float, float]], target: float) -> list[str]:
    wall, cpu = (statistics.median(values) for values in zip(*measured, strict=True))
    return [name, f"{wall:.2f}", f"{cpu:.2f}", f"< {target:g} s", "yes" if wall < target else "no"]


def _rows(path: Path) -> dict[str, dict[str, int]]:
    """{student: {exercise's number: 1 or 0}} of a table of grades."""
    with path.open(newline="", encoding="utf-8") as file:
        return {
            row["student"]: {label.split(" ")[0]: int(mark) for label, mark in row.items() if re.match(r"\d+\.\d+", label)}
            for row in csv.DictReader(file)
        }
