"""The students' copy of the course: lessons without solutions, the package, and how to get data, as one zip."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import nbformat

from fliot_lab import ROOT, __version__, atomic
from fliot_lab.course import build

FOLDER = "fliot-lab"
FILES = (
    "LICENSE",
    "Makefile",
    "data/README.md",
    "data/catalogue.csv",
    "environment.yml",
    "notebooks/LICENSE",
    "pyproject.toml",
    "requirements.lock",
    "results/reference.json",
)
_WRITTEN = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold: equal contents give equal files


def release(out: Path) -> Path:
    """Writes the students' copy to `out`/fliot-lab-VERSION.zip and returns its path. Equal sources give equal bytes.

    The README in it is docs/STUDENT.md. An older zip of that name is replaced. Raises source.SourceError where a lesson is
    malformed, ValueError in a student's copy, which has no sources.
    """
    contents = dict(sorted(_contents()))
    path = out / f"{FOLDER}-{__version__}.zip"
    with atomic.replacing(path) as partial, zipfile.ZipFile(partial, "w") as packed:
        for name, content in contents.items():
            entry = zipfile.ZipInfo(f"{FOLDER}/{name}", _WRITTEN)
            entry.external_attr = 0o644 << 16
            packed.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return path


def _contents() -> Iterator[tuple[str, bytes]]:
    """(name, content) of each file of the students' copy."""
    for name, notebook in build.notebooks("student").items():
        yield f"notebooks/{name}.ipynb", (nbformat.writes(notebook) + "\n").encode()
    yield "README.md", (ROOT / "docs" / "STUDENT.md").read_bytes()
    for name in FILES:
        yield name, (ROOT / name).read_bytes()
    for path in (ROOT / "fliot_lab").rglob("*"):
        if path.suffix in (".py", ".toml"):
            yield path.relative_to(ROOT).as_posix(), path.read_bytes()
