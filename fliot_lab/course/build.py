"""Lessons: from `notebooks/source/NN_topic.py` (jupytext's percent format), the only files that people edit, to notebooks."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import jupytext
import nbformat

from fliot_lab import ROOT

SOURCE = ROOT / "notebooks" / "source"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


@dataclass(frozen=True)
class Lesson:
    """A lesson's source. `number` has two digits, `name` is the file's, as `03_autoencoder`."""

    source: Path

    @property
    def name(self) -> str:
        return self.source.stem

    @property
    def number(self) -> str:
        return self.name[:2]

    @property
    def title(self) -> str:
        """The first heading."""
        heading = re.search(r"^# # (.+)$", self.source.read_text("utf-8"), flags=re.M)
        return heading[1].strip() if heading else self.name


def lessons(numbers: list[str] | None = None) -> list[Lesson]:
    """The lessons with these numbers (default: all), in order. Raises ValueError for a number that no lesson has, or two."""
    found = [Lesson(path) for path in sorted(SOURCE.glob("[0-9][0-9]_*.py"))]
    known = {lesson.number: lesson for lesson in found}
    if twins := [lesson.name for lesson in found if known[lesson.number] is not lesson]:
        raise ValueError(f"{', '.join(twins)}: another lesson in {SOURCE} has the same number")
    if unknown := [number for number in numbers or [] if number not in known]:
        raise ValueError(f"there is no lesson {', '.join(unknown)}; choose from {' '.join(known)}")
    return [lesson for number, lesson in known.items() if not numbers or number in numbers]


def notebook(lesson: Lesson) -> nbformat.NotebookNode:
    """The lesson as a notebook without outputs. Equal sources give equal notebooks, cell ids included."""
    made = jupytext.read(lesson.source, fmt="py:percent")
    made.metadata = nbformat.NotebookNode(kernelspec=KERNEL, language_info={"name": "python"})
    made.nbformat, made.nbformat_minor = 4, 5
    for position, cell in enumerate(made.cells):
        cell["id"] = f"lesson-{lesson.number}-{position:03}"
    return made


def build(folder: Path = ROOT / "notebooks") -> list[Path]:
    """Writes every lesson's notebook into `folder` and returns their paths; removes notebooks whose source is gone."""
    written = []
    for lesson in lessons():
        path = folder / f"{lesson.name}.ipynb"
        partial = path.with_suffix(f".{os.getpid()}.part")
        partial.write_text(nbformat.writes(notebook(lesson)) + "\n", "utf-8")
        partial.replace(path)
        written.append(path)
    for path in set(folder.glob("[0-9][0-9]_*.ipynb")) - set(written):
        path.unlink()
    return written
