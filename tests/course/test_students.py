"""What a student meets who solves nothing: the lesson runs to its end, and each check says that its exercise is open."""

from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tests.course.students import errors, run_unsolved


def test_lesson_00_runs_with_nothing_solved(tmp_path: Path) -> None:
    """The others take longer: tests/slow."""
    found = run_unsolved(["00_start_here", "index"], tmp_path)
    assert "CheckFailed" in found["00_start_here"]
    assert found["index"] == []


@pytest.mark.parametrize(
    ("tags", "raised", "right"),
    [
        (["check"], ["CheckFailed"], True),
        (["check"], ["NotImplementedError"], True),
        (["check"], ["NameError"], False),
        (["check"], [], False),
        (["exercise"], ["NotImplementedError"], False),
        ([], ["CheckFailed"], False),
        ([], [], True),
    ],
)
def test_an_error_in_the_wrong_place_is_found(tags: list[str], raised: list[str], right: bool) -> None:
    outputs = [new_output("error", ename=name, evalue="", traceback=[]) for name in raised]
    cell = new_code_cell("1", metadata={"tags": tags}, outputs=outputs, execution_count=1)
    if right:
        assert errors(new_notebook(cells=[cell])) == raised
    else:
        with pytest.raises(AssertionError):
            errors(new_notebook(cells=[cell]))
