"""Files that are whole or not there: everything that the course writes goes to a neighbour first and then takes its place."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A neighbour of `path` to write to, which takes its place when the block ends well and is removed when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write(path: Path, text: str) -> None:
    """Writes `text` to `path` in UTF-8 with `\\n` as line end, as a whole."""
    with replacing(path) as partial:
        partial.write_text(text, "utf-8", newline="\n")
