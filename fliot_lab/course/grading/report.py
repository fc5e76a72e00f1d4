"""What an instructor gets: grades.csv, a row for each student, and a page for each student that a browser shows."""

import csv
import html
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fliot_lab import atomic
from fliot_lab.course.grading.reference import Lesson
from fliot_lab.course.grading.verdict import Graded, Verdict

NOT_CUT = "the network is not cut on this system"
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
pre { background: #f5f5f5; padding: .8rem; overflow-x: auto; font-size: 14px; line-height: 1.35; }
section { border-left: 5px solid #d55e00; padding-left: 1rem; margin: 1.5rem 0; }
section.passed { border-color: #0072b2; }
.message { white-space: pre-wrap; }
"""


@dataclass(frozen=True)
class Student:
    """One student's verdicts, and remarks on the hand-in as a whole."""

    name: str
    graded: Sequence[Graded]
    remarks: tuple[str, ...] = ()

    @property
    def verdicts(self) -> list[Verdict]:
        """On all exercises, lesson by lesson."""
        return [verdict for graded in self.graded for verdict in graded.verdicts]

    def score(self, *, extra: bool) -> tuple[int, int]:
        """(passed, in all) of the core, or of the extra exercises."""
        counted = [verdict.passed for verdict in self.verdicts if verdict.task.heading.extra == extra]
        return sum(counted), len(counted)

    def all_remarks(self) -> list[str]:
        """In one list: on the hand-in, on each exercise that did not pass, and every note."""
        found = list(self.remarks)
        for verdict in self.verdicts:
            number = verdict.task.heading.number
            found += [] if verdict.passed else [f"{number}: {_one_line(verdict.message)}"]
            found += [f"{number}: {_one_line(note)}" for note in verdict.notes]
        if any(graded.network_cut is False for graded in self.graded):
            found.append(NOT_CUT)
        return found


def page_names(students: Iterable[str]) -> dict[str, str]:
    """A file's name for each student: safe on every system, and no two the same where case does not count."""
    names: dict[str, str] = {}
    used: set[str] = set()
    for student in sorted(students):
        plain = unicodedata.normalize("NFKC", student)
        stem = re.sub(r"[^\w-]+", "_", plain).strip("_")[:80] or "student"
        stem = f"{stem}_" if re.fullmatch(r"(?i)con|prn|aux|nul|(com|lpt)\d", stem) else stem
        name, count = stem, 1
        while name.casefold() in used:
            count += 1
            name = f"{stem}-{count}"
        used.add(name.casefold())
        names[student] = f"{name}.html"
    return names


def write(path: Path, text: str) -> None:
    """Writes `text` so that `path` is always whole. What UTF-8 cannot hold is written as an escape."""
    with atomic.replacing(path) as partial:
        partial.write_text(text, "utf-8", errors="backslashreplace", newline="")


def write_notebooks(folder: Path, student: Student) -> None:
    """Writes, for each lesson, the clean notebook that was run: the lesson's imports and the student's exercise cells."""
    from nbformat import v4, writes

    for graded in student.graded:
        codes = [verdict.code for verdict in graded.verdicts if verdict.code]
        if codes:
            made = v4.new_notebook(cells=[v4.new_code_cell(code) for code in (graded.lesson.prelude, *codes)])
            write(folder / f"{graded.lesson.name}.ipynb", writes(made))


def table(students: Iterable[Student], lessons: Sequence[Lesson]) -> str:
    """grades.csv: a row for each student by name, 1 or 0 for each exercise. No cell is a formula to a spreadsheet."""
    out = io.StringIO()
    writer = csv.writer(out)
    columns = [task.column for lesson in lessons for task in lesson.tasks.values()]
    writer.writerow(["student", "core passed", "core total", "extra passed", *columns, "remarks"])
    for student in sorted(students, key=lambda student: student.name):
        passed, total = student.score(extra=False)
        marks = [int(verdict.passed) for verdict in student.verdicts]
        remarks = "; ".join(student.all_remarks())
        writer.writerow([_cell(student.name), passed, total, student.score(extra=True)[0], *marks, _cell(remarks)])
    return out.getvalue()


def page(student: Student) -> str:
    """A student's page in HTML, whole in itself: each exercise with its verdict, its message, and the student's code."""
    (core, cores), (extra, extras) = student.score(extra=False), student.score(extra=True)
    summary = f"{core} of {cores} core exercises passed" + (f", {extra} of {extras} extra" if extras else "") + "."
    remarks = [*student.remarks, *([NOT_CUT] if NOT_CUT in student.all_remarks() else [])]
    listed = "".join(f"<li>{html.escape(remark)}</li>" for remark in remarks)
    name = html.escape(student.name)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title><style>{_STYLE}</style></head>\n'
        f"<body><h1>{name}</h1><p>{summary}</p>{f'<ul>{listed}</ul>' if listed else ''}\n"
        + "\n".join(_lesson(graded) for graded in student.graded)
        + "\n</body></html>\n"
    )


def _lesson(graded: Graded) -> str:
    title = f"{graded.lesson.number} {graded.lesson.title}"
    return f"<h2>{html.escape(title)}</h2>\n" + "\n".join(_exercise(verdict) for verdict in graded.verdicts)


def _exercise(verdict: Verdict) -> str:
    heading = verdict.task.heading
    title = f"{verdict.task.column} {heading.title}: {'passed' if verdict.passed else 'not yet'}"
    notes = "".join(f"<p>Note: {html.escape(note)}</p>" for note in verdict.notes)
    code = f"<pre><code>{html.escape(verdict.code)}</code></pre>" if verdict.code else ""
    return (
        f'<section class="{"passed" if verdict.passed else "failed"}"><h3>{html.escape(title)}</h3>'
        f'<p class="message">{html.escape(verdict.message)}</p>{notes}{code}</section>'
    )


def _one_line(text: str) -> str:
    """At most 200 characters, without line breaks and control characters."""
    plain = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return plain if len(plain) <= 200 else f"{plain[:199]}…"


def _cell(text: str) -> str:
    """Text that a spreadsheet shows and does not run."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    return f"'{plain}" if plain.lstrip()[:1] in ("=", "+", "-", "@") else plain
