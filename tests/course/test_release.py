"""The students' copy: it holds what students need, no solution, and it works by itself."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest

from fliot_lab import ROOT
from fliot_lab.course import build, release


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a student gets who unpacks the release."""
    folder = tmp_path_factory.mktemp("release")
    with zipfile.ZipFile(release.release(folder)) as packed:
        assert packed.testzip() is None
        packed.extractall(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["fliot-lab", "fliot-lab-0.1.0.zip"]
    return folder / "fliot-lab"


def fliot(copy: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`python -m fliot_lab.cli WORDS` in the students' copy, with the package that is in it."""
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "120"}
    command = [sys.executable, "-m", "fliot_lab.cli", *words]
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=120)


def test_it_holds_lessons_package_and_data_instructions(copy: Path) -> None:
    names = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    assert {f"notebooks/{lesson.name}.ipynb" for lesson in build.lessons()} | {"notebooks/index.ipynb"} <= names
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "fliot_lab").rglob("*.py")}
    assert package == {name for name in names if name.startswith("fliot_lab/") and name.endswith(".py")}
    assert {"README.md", "Makefile", "pyproject.toml", "requirements.lock", "data/README.md", "data/catalogue.csv"} <= names
    assert (copy / "README.md").read_text("utf-8") == (ROOT / "docs" / "STUDENT.md").read_text("utf-8")
    for link in re.findall(r"\]\(([^)#:]+)\)", (copy / "README.md").read_text("utf-8")):
        assert (copy / link).exists(), link


def test_it_holds_no_solution(copy: Path) -> None:
    names = {path.relative_to(copy).as_posix() for path in copy.rglob("*")}
    assert not [name for name in names if name.startswith(("tests", "notebooks/source", "build", "docs", "benchmarks"))]
    marked = re.compile(r"^ *# solution\n(.*?)^ *# end solution$", flags=re.M | re.S)
    code = {
        path.stem: "\n".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code")
        for path in (copy / "notebooks").glob("*.ipynb")
    }
    for lesson in build.lessons():
        bodies = marked.findall(lesson.source.read_text("utf-8"))
        lines = {line.strip() for body in bodies for line in body.split("\n") if len(line.strip()) > 12}
        assert lines, lesson.name
        # A single line may well stand in another lesson, a whole solution in none.
        assert not lines & {line.strip() for line in code[lesson.name].split("\n")}, lesson.name
        assert not [name for body in bodies for name, cells in code.items() if body.strip() in cells], lesson.name


def test_equal_sources_give_equal_bytes(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "fliot-lab-0.1.0.zip").write_text("an older release")
    first, second = release.release(tmp_path / "one"), release.release(tmp_path / "new" / "two")
    assert first.read_bytes() == second.read_bytes()
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["fliot-lab-0.1.0.zip"]


def test_a_students_checks_run_in_it(copy: Path) -> None:
    """`make lab` as far as copying goes, then one check of a lesson where nothing is solved."""
    (copy / "work").mkdir()
    for path in (copy / "notebooks").glob("*.ipynb"):
        (copy / "work" / path.name).write_bytes(path.read_bytes())
    answer = fliot(copy, "course", "check", "00")
    assert answer.returncode == 1, answer.stderr
    assert "0.1" in answer.stdout
    assert "not solved" in answer.stdout


def test_a_release_is_not_made_from_a_students_copy(copy: Path) -> None:
    answer = fliot(copy, "course", "release", "out")
    assert answer.returncode == 1
    assert "a student's copy has none" in answer.stderr
    assert not (copy / "out").exists()
    words = [sys.executable, "-m", "fliot_lab", "all"]
    answer = subprocess.run(words, cwd=copy, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 2
    assert "without solutions: all is not in it" in answer.stderr
