"""Hand-ins: one folder or one .zip for each student, with the notebooks of work/ somewhere in it. Nothing is unpacked."""

import os
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fliot_lab.course import source
from fliot_lab.course.grading import reference

MOST_MB = 50  # of one notebook, unpacked
PASSED_OVER = (".", "__MACOSX")  # beginnings of folders and files that are nobody's work


class Unreadable(ValueError):
    """A hand-in, or a notebook in it, that cannot be read; the text says why."""


@dataclass(frozen=True)
class HandIn:
    """A student's folder or archive. `student` is its name, without .zip where no other has that; no two have the same."""

    student: str
    path: Path


@dataclass(frozen=True)
class _File:
    """A notebook in a hand-in: where, and how to get its bytes, which raises Unreadable."""

    place: PurePosixPath
    content: Callable[[], bytes]


def hand_ins(folder: Path) -> tuple[list[HandIn], list[str]]:
    """(the hand-ins in `folder` by name, the names of what is none). Raises ValueError where there are none at all."""
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; it must hold one folder or one .zip for each student")
    found, others = [], []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(PASSED_OVER):
            continue
        if path.is_dir():
            found.append(HandIn(path.name, path))
        elif path.suffix.lower() == ".zip":
            found.append(HandIn(path.stem, path))
        else:
            others.append(path.name)
    if not found:
        raise ValueError(f"{folder} holds no hand-in: one folder or one .zip for each student, with the notebooks of work/")
    return sorted(_apart(found), key=lambda hand_in: hand_in.student), others


def _apart(found: list[HandIn]) -> list[HandIn]:
    """The same hand-ins; those that would have one name have the whole name of their file."""
    while True:
        count = Counter(hand_in.student for hand_in in found)
        apart = [hand_in if count[hand_in.student] == 1 else HandIn(hand_in.path.name, hand_in.path) for hand_in in found]
        if apart == found:
            return found
        found = apart


def exercise_cells(hand_in: HandIn, lessons: Sequence[reference.Lesson]) -> tuple[dict[str, dict[str, list[str]]], list[str]]:
    """({lesson's name: {exercise's number: its code cells}} for the lessons that are there, remarks on what is not right)."""
    files, remarks = [], []
    for found in _files(hand_in.path):
        if isinstance(found, str):
            remarks.append(found)
        else:
            files.append(found)
    taken: dict[str, dict[str, list[str]]] = {}
    for lesson in lessons:
        fitting = _fitting(files, lesson.name)
        if not fitting:
            remarks.append(f"no notebook {lesson.name}.ipynb")
            continue
        if len(fitting) > 1:
            remarks.append(f"{len(fitting)} notebooks for lesson {lesson.number}: graded {fitting[0].place}")
        try:
            taken[lesson.name] = _by_number(fitting[0].content())
        except ValueError as error:
            remarks.append(f"{fitting[0].place}: {error}")
    return taken, remarks


def notebook_cells(path: Path) -> dict[str, list[str]]:
    """{exercise's number: its code cells} of one notebook. Raises Unreadable, or ValueError where it is no notebook."""
    return _by_number(_file_content(path))


def _by_number(content: bytes) -> dict[str, list[str]]:
    """The code cells of each exercise of a notebook; an exercise may have several cells."""
    taken: dict[str, list[str]] = {}
    for code in reference.cells(_text(content)):
        if heading := source.heading(code):
            taken.setdefault(heading.number, []).append(code)
    return taken


def _fitting(files: Sequence[_File], name: str) -> list[_File]:
    """Notebooks whose name is, or holds, the lesson's: the exact name first, then by name, then the least nested."""
    fitting = [file for file in files if name.lower() in file.place.name.lower()]
    return sorted(fitting, key=lambda file: _order(file.place, name))


def _order(place: PurePosixPath, name: str) -> tuple[bool, str, int, str]:
    return place.stem.lower() != name.lower(), place.name, len(place.parts), str(place)


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable("it is no text in UTF-8") from error


def _files(path: Path) -> Iterator[_File | str]:
    """The notebooks in a folder, in a .zip, and in the .zip files in a folder; a text for what cannot be read."""
    if not path.is_dir():
        yield from _in_zip(path, PurePosixPath())
        return
    for folder, folders, names in os.walk(path):  # does not follow links
        folders[:] = sorted(name for name in folders if not name.startswith(PASSED_OVER))
        for name in sorted(names):
            file, place = Path(folder, name), PurePosixPath(Path(folder, name).relative_to(path).as_posix())
            if name.startswith(PASSED_OVER) or not stat.S_ISREG(file.lstat().st_mode):
                continue
            if name.lower().endswith(".ipynb"):
                yield _File(place, lambda file=file: _file_content(file))  # type: ignore[misc]
            elif name.lower().endswith(".zip"):
                yield from _in_zip(file, place)


def _in_zip(path: Path, place: PurePosixPath) -> Iterator[_File | str]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception as error:  # a stranger wrote it: there is no list of what can go wrong
        yield f"{path.name} is damaged: {error}"
        return
    for entry in entries:
        inner = PurePosixPath(entry.filename.replace("\\", "/"))
        if inner.suffix.lower() == ".ipynb" and not any(part.startswith(PASSED_OVER) and part != ".." for part in inner.parts):
            yield _File(place / inner, lambda entry=entry: _zip_content(path, entry))  # type: ignore[misc]


def _file_content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return _limited(file.read(MOST_MB * 1_000_000 + 1))
    except OSError as error:
        raise Unreadable(f"it cannot be read: {error.strerror}") from error


def _zip_content(path: Path, entry: zipfile.ZipInfo) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(entry) as file:
            return _limited(file.read(MOST_MB * 1_000_000 + 1))
    except Unreadable:
        raise
    except Exception as error:  # damaged, or it wants a password: as above
        raise Unreadable(f"it cannot be unpacked: {error}") from error


def _limited(content: bytes) -> bytes:
    if len(content) > MOST_MB * 1_000_000:
        raise Unreadable(f"it has more than {MOST_MB} MB")
    return content
