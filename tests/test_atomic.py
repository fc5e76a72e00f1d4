"""A file is whole or not there, whatever happens while it is written."""

from pathlib import Path

import pytest

from fliot_lab import atomic


def test_what_was_written_takes_the_place_when_the_block_ends_well(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.txt"
    with atomic.replacing(path) as partial:
        partial.write_text("half")
        assert not path.exists()
        partial.write_text("whole")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("the disk is full"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_file_and_no_other(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail() -> None:
        with atomic.replacing(path) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_text_is_written_in_utf8_with_plain_line_ends(tmp_path: Path) -> None:
    atomic.write(tmp_path / "file.txt", "größer\n≥ 1\n")
    assert (tmp_path / "file.txt").read_bytes() == "größer\n≥ 1\n".encode()
