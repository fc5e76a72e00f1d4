"""Folders of simulated files: made only where nothing else is, and known by the first line of their README.txt."""

import shutil
from collections.abc import Iterable
from numbers import Integral
from pathlib import Path

from fliot_lab import atomic

README = "README.txt"


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
