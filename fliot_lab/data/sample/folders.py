"""Folders of simulated files: made only where nothing else is, and known by the first line of their README.txt."""

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterable
from numbers import Integral
from pathlib import Path
from typing import Any

from fliot_lab import atomic

README = "README.txt"
#: In a folder that `made_once` made: which generator made it.
GENERATOR = ".generator"


def check_whole(name: str, value: object, least: int, most: int | None = None) -> None:
    """Raises ValueError unless `value` is a whole number from `least` to `most`."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):  # type: ignore[operator]
        wanted = f"{least} or more" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name}={value!r}: expected a whole number, {wanted}")


def claim(out: Path, mark: str, stale: Iterable[str]) -> None:
    """Makes `out` ours, without the folders `stale` of an earlier run, and marked as unfinished.

    Raises ValueError unless `out` is free, empty, or a folder whose README begins with `mark`; nothing is changed then.
    """
    readme = out / README
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; name a folder for the simulated files")
    ours = readme.is_file() and readme.read_text("utf-8", errors="replace").startswith(mark)
    if out.exists() and not ours and any(out.iterdir()):
        raise ValueError(f"{out} holds other things; name a new or empty folder for the simulated files")
    atomic.write(readme, f"{mark}\n\nUnfinished: run it again.\n")
    for name in stale:
        shutil.rmtree(out / name, ignore_errors=True)


def made_once(root: Path, make: Callable[[Path], Any]) -> Path:
    """The folder `root`, made now by `make(folder)` where it is missing or another version of the generator made it.

    It is made in a neighbour folder that is renamed when it is complete, so that neither a process that died nor two that run
    at once leave a half-made folder in use.
    """
    version = generator_version()
    if not _is_current(root, version):
        made = root.with_name(f".{root.name}-{uuid.uuid4().hex}")
        try:
            make(made)
            (made / GENERATOR).write_text(version, "utf-8")
            _replace_folder(made, root, version)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return root


def generator_version() -> str:
    """A short hash of the generator's own files: a sample that an older one made is another sample."""
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _is_current(root: Path, version: str) -> bool:
    marker = root / GENERATOR
    return marker.is_file() and marker.read_text("utf-8") == version


def _replace_folder(made: Path, root: Path, version: str) -> None:
    """Renames `made` to `root`. What is there goes, unless another process has just put the same there."""
    old = made.with_name(f"{made.name}-old")
    try:
        if root.exists() and not _is_current(root, version):
            os.rename(root, old)
        os.rename(made, root)
    except OSError:
        if not _is_current(root, version):
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
