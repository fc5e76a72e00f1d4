"""Rules of the design that no linter knows. (import-linter keeps the floors: `make lint`.)"""

import re
from pathlib import Path

import pytest

from fliot_lab import ROOT

MOST_LINES = 400
VAGUE = {"utils", "util", "helpers", "common", "base", "manager", "misc"}


def modules() -> list[Path]:
    found = sorted((ROOT / "fliot_lab").rglob("*.py"))
    assert ROOT / "fliot_lab" / "cli.py" in found
    return found


def test_no_module_is_longer_than_a_person_reads() -> None:
    lines = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in modules()}
    assert not {name: count for name, count in lines.items() if count > MOST_LINES}, "make two of it"


def test_every_module_says_what_it_is_for_and_has_a_name_of_its_own() -> None:
    for path in modules():
        assert not VAGUE & set(re.split(r"[_/]", str(path.relative_to(ROOT).with_suffix("")))), path
        text = path.read_text("utf-8")
        assert not text.strip() or text.startswith('"""'), f"{path} does not begin with a docstring"


INSTALLS = re.compile(r"\b(pip|conda|mamba|uv|apt|apt-get)\b\W.*\b(install|add)\b")


@pytest.mark.parametrize(
    "cell", ["!pip install torch", "%pip install -q torch", 'run(["pip", "install", "x"])', "!conda -y install a", "!uv add a"]
)
def test_a_cell_that_installs_is_recognised(cell: str) -> None:
    assert INSTALLS.search(cell)


def test_no_lesson_installs_anything() -> None:
    for path in sorted((ROOT / "notebooks" / "source").glob("*.py")):
        code = "\n".join(line for line in path.read_text("utf-8").splitlines() if not line.startswith("#"))
        assert not (found := INSTALLS.search(code)), f"{path.name}: {found and found[0]!r}; a lesson runs with what there is"
        assert "pip install" not in path.read_text("utf-8"), path.name


def test_no_lesson_displays_inside_an_output_widget() -> None:
    """It can hang whoever executes the notebook: `plots.slider` says why, and is the way to do it."""
    for path in sorted((ROOT / "notebooks" / "source").glob("*.py")):
        assert not re.search(r"\b(interact|interactive|Output)\(", path.read_text("utf-8")), path.name
