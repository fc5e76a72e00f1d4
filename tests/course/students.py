"""Runs students' notebooks, nothing solved, with nbmake in a process of its own, and says what became of their cells."""

import subprocess
import sys
from pathlib import Path

import nbformat

from fliot_lab import ROOT

TOLERATED = {"CheckFailed", "NotImplementedError"}


def run_unsolved(names: list[str], folder: Path) -> dict[str, list[str]]:
    """Errors of the cells of each notebook in order, run from copies in `folder`. AssertionError where nbmake fails."""
    for name in names:
        (folder / f"{name}.ipynb").write_bytes((ROOT / "notebooks" / f"{name}.ipynb").read_bytes())
    options = ["--nbmake", "--overwrite", "--nbmake-timeout=300", "-p", "no:cacheprovider", "-c", "/dev/null", "-q"]
    command = [sys.executable, "-m", "pytest", *options, str(folder)]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=580)
    assert answer.returncode == 0, answer.stdout[-4000:]
    assert f"{len(names)} passed" in answer.stdout
    return {name: errors(nbformat.read(folder / f"{name}.ipynb", as_version=4)) for name in names}


def errors(made: nbformat.NotebookNode) -> list[str]:
    """The errors in a notebook's outputs. AssertionError for one in a cell that is no check, and for a check without one."""
    found = []
    for cell in made.cells:
        if cell.cell_type != "code":
            continue
        assert cell.execution_count is not None, cell.source
        raised = [output.ename for output in cell.outputs if output.output_type == "error"]
        is_check = "check" in cell.metadata.get("tags", [])
        assert bool(raised) == is_check, f"{raised} in\n{cell.source}"
        assert set(raised) <= TOLERATED, f"{raised} in\n{cell.source}"
        found += raised
    return found
