"""Lessons: from `notebooks/source/NN_topic.py` and `lessons.toml` to notebooks for students, with solutions, for instructors.

Every version is cut from one source; title, navigation, table and index are generated. Only the students' notebooks are
committed; the others lie in build/.
"""

import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext
import nbformat

from fliot_lab import ROOT, atomic
from fliot_lab.course import source

SOURCE = ROOT / "notebooks" / "source"
FACTS = Path(__file__).with_name("lessons.toml")
REFERENCE = ROOT / "results" / "reference.json"
FOLDERS = {"student": "notebooks", "solution": "build/solution", "instructor": "build/instructor"}
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
_LEFT_OUT = {"student": {"solution", "instructor"}, "solution": {"instructor"}, "instructor": set[str]()}


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

    @property
    def link(self) -> str:
        return f"[{self.number} {self.title}]({self.name}.ipynb)"


def lessons(numbers: list[str] | None = None) -> list[Lesson]:
    """The lessons with these numbers (default: all), in order. Raises ValueError for a number that no lesson has, or two."""
    found = [Lesson(path) for path in sorted(SOURCE.glob("[0-9][0-9]_*.py"))]
    if not found:
        raise ValueError(f"{SOURCE} holds no lessons: a student's copy has none, its notebooks are in notebooks/ and work/")
    known = {lesson.number: lesson for lesson in found}
    if twins := [lesson.name for lesson in found if known[lesson.number] is not lesson]:
        raise ValueError(f"{', '.join(twins)}: another lesson in {SOURCE} has the same number")
    if unknown := [number for number in numbers or [] if number not in known]:
        raise ValueError(f"there is no lesson {', '.join(unknown)}; choose from {' '.join(known)}")
    return [lesson for number, lesson in known.items() if not numbers or number in numbers]


def facts() -> dict[str, Any]:
    """What lessons.toml says: {"lesson": {name: objectives, before, minutes, words}, "glossary": {word: meaning}}.

    Raises ValueError, with the file's name, for a lesson without an entry, an entry without a lesson, a field that is missing
    or unknown, for a word that the glossary does not have, and for one in it that no lesson lists.
    """
    try:
        known: dict[str, Any] = {"lesson": {}, "glossary": {}} | tomllib.loads(FACTS.read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{FACTS.name} is no TOML: {error}") from error
    names = {lesson.name for lesson in lessons()}
    if odd := sorted(names ^ known["lesson"].keys()):
        raise ValueError(f"{FACTS.name}: {odd[0]} {'has no entry' if odd[0] in names else 'has an entry and no source'}")
    used = {word for entry in known["lesson"].values() for word in entry.get("words", ())}
    if idle := sorted(known["glossary"].keys() - used):
        raise ValueError(f"{FACTS.name}: no lesson lists the word {idle[0]!r}")
    for name, entry in known["lesson"].items():
        if odd := sorted(entry.keys() ^ {"objectives", "before", "minutes", "words"}):
            raise ValueError(f"{FACTS.name}: {name}: the field {odd[0]} is {'unknown' if odd[0] in entry else 'missing'}")
        if strange := [word for word in entry["words"] if word not in known["glossary"]]:
            raise ValueError(f"{FACTS.name}: {name}: {strange[0]!r} is not in the glossary")
    return known


def notebook(lesson: Lesson, version: str = "student") -> nbformat.NotebookNode:
    """The lesson's "student", "solution" or "instructor" version, without outputs. Equal sources give equal notebooks.

    Raises source.SourceError where the source is malformed, ValueError where lessons.toml is.
    """
    checked = source.check(lesson.source)
    try:
        made = jupytext.read(lesson.source, fmt="py:percent")
    except Exception as error:  # YAML's errors and others, none of which says which file it was
        raise source.SourceError(lesson.source, 1, f"jupytext cannot read it ({type(error).__name__}): {error}") from error
    if len(made.cells) != len(checked):
        found = f"{len(checked)} lines begin a cell, and jupytext finds {len(made.cells)} cells"
        raise source.SourceError(lesson.source, 1, found)
    made.metadata = nbformat.NotebookNode(kernelspec=KERNEL, language_info={"name": "python"})
    made.nbformat, made.nbformat_minor = 4, 5
    kept = []
    for position, (cell, origin) in enumerate(zip(made.cells, checked, strict=True)):
        cell["id"] = f"lesson-{lesson.number}-{position:03}"  # the same in every version
        if origin.tags & _LEFT_OUT[version]:
            continue
        if "exercise" in origin.tags:
            if cell.source != origin.text:
                raise source.SourceError(lesson.source, origin.line, "jupytext changes this exercise: does it hold a %magic?")
            cell.source = _exercise(cell.source, version)
        if version == "student" and origin.tags & {"exercise", "check"}:
            cell.metadata["tags"] = [*cell.metadata["tags"], "raises-exception"]
        kept.append(cell)
    made.cells = kept
    _add_navigation(lesson, made)
    return made


def _exercise(code: str, version: str) -> str:
    """An exercise's code as the version shows it: students get a line that says what is still to do."""
    if version != "student":
        return source.without_markers(code)
    title = json.dumps(str(source.heading(code)), ensure_ascii=False)
    return source.without_solution(code, f"raise NotImplementedError({title})")


def _add_navigation(lesson: Lesson, made: nbformat.NotebookNode) -> None:
    """Puts navigation, table and words under the title, and the way on under the last text."""
    known, all_lessons = facts(), lessons()
    place = all_lessons.index(lesson)
    before = f"Before: {all_lessons[place - 1].link}" if place else ""
    after = f"Next: {all_lessons[place + 1].link}" if place + 1 < len(all_lessons) else ""
    entry = known["lesson"][lesson.name]
    words = [f'[{word}](index.ipynb#{_anchor(word)} "{_quoted(known["glossary"][word])}")' for word in entry["words"]]
    made.cells[0].source += "\n\n" + "\n\n".join(
        [
            " · ".join(part for part in (before, "[Index](index.ipynb)", after) if part),
            "| you will be able to | before | minutes | runs in |\n|---|---|---|---|\n"
            f"| {entry['objectives']} | {entry['before']} | {entry['minutes']} | {_run_time(lesson)} |",
            f"Words: {' · '.join(words)}",
        ]
    )
    texts = [cell for cell in made.cells if cell.cell_type == "markdown"]
    last = [cell for cell in texts if "instructor" not in cell.metadata.get("tags", [])][-1]
    last.source += f"\n\n{after or 'Back to the [index](index.ipynb).'}"


def index() -> nbformat.NotebookNode:
    """The course index as a notebook: the lessons with what they teach and how long they take, and the glossary."""
    known, all_lessons = facts(), lessons()
    rows = ["| | lesson | you will be able to | exercises | minutes | runs in |", "|---|---|---|---|---|---|"]
    for lesson in all_lessons:
        entry = known["lesson"][lesson.name]
        headings = [source.heading(cell.text) for cell in source.check(lesson.source) if "exercise" in cell.tags]
        extra = sum(1 for heading in headings if heading and heading.extra)
        count = f"{len(headings) - extra}" + (f" + {extra} extra" if extra else "")
        rows.append(
            f"| {lesson.number} | [{lesson.title}]({lesson.name}.ipynb) | {entry['objectives']} | {count} | {entry['minutes']} "
            f"| {_run_time(lesson)} |"
        )
    hours = sum(known["lesson"][lesson.name]["minutes"] for lesson in all_lessons) / 60
    parts = [
        "# FLIoT Lab: the lessons",
        "\n".join(rows),
        f"Together about {hours:.1f} hours of work. Each lesson runs by itself; its table says what you should know before it.",
        "# Words",
        *(f"### {word}\n\n{meaning}" for word, meaning in sorted(known["glossary"].items(), key=lambda item: item[0].lower())),
    ]
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("\n\n".join(parts), id="index")])
    made.metadata = nbformat.NotebookNode(kernelspec=KERNEL, language_info={"name": "python"})
    made.nbformat_minor = 5
    return made


def _run_time(lesson: Lesson) -> str:
    """How long the fast profile took on simulated data in the reference run, rounded up to 5 s."""
    known = json.loads(REFERENCE.read_text("utf-8")) if REFERENCE.is_file() else {}
    measured = known.get("sample-fast", {}).get("lessons", {}).get(lesson.name)
    return f"{5 * -int(-measured['seconds'] // 5)} s" if measured else "not measured yet"


def _anchor(word: str) -> str:
    """What Jupyter makes of a heading to link to."""
    return word.replace(" ", "-")


def _quoted(text: str) -> str:
    return text.replace('"', "'")


def notebooks(version: str) -> dict[str, nbformat.NotebookNode]:
    """Every notebook of a version by its name: the index and the lessons."""
    return {"index": index()} | {lesson.name: notebook(lesson, version) for lesson in lessons()}


def build(root: Path = ROOT) -> list[Path]:
    """Writes every version of every lesson, and the index, below `root`; returns the students' notebooks.

    Notebooks whose source is gone are removed. Nothing is written where a source or lessons.toml is malformed.
    """
    made = {version: notebooks(version) for version in FOLDERS}
    for version, contents in made.items():
        folder = root / FOLDERS[version]
        for name, content in contents.items():
            atomic.write(folder / f"{name}.ipynb", nbformat.writes(content) + "\n")
        for path in folder.glob("[0-9][0-9]_*.ipynb"):
            if path.stem not in contents:
                path.unlink()
    return [root / FOLDERS["student"] / f"{name}.ipynb" for name in made["student"]]
