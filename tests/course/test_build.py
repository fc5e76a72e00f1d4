"""Lessons: one source, one notebook, the same on every machine; and what every lesson of this course has to have."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

from fliot_lab import ROOT
from fliot_lab.course import build, run
from fliot_lab.data import iot23

TINY = '''# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # A title of its own
#
# Text, with *emphasis*.

# %% tags=["parameters"]
profile = "fast"

# %% [markdown]
# ## A second heading

# %%
def double(x):
    """Twice x."""

    return 2 * x


double(21)

# %% tags=["summary", "hide-input"]
print("{}")
'''


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two lessons, and things that are none."""
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "02_second.py").write_text(TINY.replace("A title of its own", "Second: ä, → and 'quotes'"), "utf-8")
    (folder / "01_first.py").write_text(TINY, "utf-8")
    (folder / "notes.py").write_text("# not a lesson\n", "utf-8")
    (folder / "1_short.py").write_text("# not a lesson\n", "utf-8")
    monkeypatch.setattr(build, "SOURCE", folder)
    return folder


def naive_cells(text: str) -> list[tuple[str, list[str], str]]:
    """(type, tags, source) of each cell of a percent script, as a newcomer would take it apart."""
    cells = []
    for part in re.split(r"^# %%", text, flags=re.M)[1:]:
        head, _, body = part.partition("\n")
        tags = re.search(r"tags=\[(.*?)\]", head)
        lines = body.strip("\n").split("\n")
        if "[markdown]" in head:
            lines = [line.removeprefix("#").removeprefix(" ") for line in lines]
        kind = "markdown" if "[markdown]" in head else "code"
        cells.append((kind, re.findall(r'"(.*?)"', tags[1]) if tags else [], "\n".join(lines)))
    return cells


def out_of_date(folder: Path) -> list[str]:
    """Notebooks in `folder` that differ from their source, lack one, or are missing."""
    expected = {f"{lesson.name}.ipynb": nbformat.writes(build.notebook(lesson)) + "\n" for lesson in build.lessons()}
    present = {path.name: path.read_text("utf-8") for path in folder.glob("*.ipynb")}
    return sorted(name for name in expected | present if expected.get(name) != present.get(name))


def the_cell(lesson: build.Lesson, tag: str) -> nbformat.NotebookNode:
    cells = [cell for cell in build.notebook(lesson).cells if tag in cell.metadata.get("tags", [])]
    assert len(cells) == 1, f"{lesson.source.name} has {len(cells)} cells tagged {tag}"
    return cells[0]


# --- the course's own lessons ------------------------------------------------------------------------------------------


def test_the_notebooks_are_up_to_date() -> None:
    wrong = out_of_date(ROOT / "notebooks")
    assert not wrong, f"{', '.join(wrong)}: not what notebooks/source says; run make notebooks"


def test_committed_notebooks_hold_no_outputs() -> None:
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        made = nbformat.read(path, as_version=4)
        nbformat.validate(made)
        for cell in made.cells:
            assert not cell.get("outputs"), f"{path.name}, cell {cell.id}"
            assert cell.get("execution_count") is None, f"{path.name}, cell {cell.id}"
            assert "execution" not in cell.metadata, f"{path.name}, cell {cell.id}"


def test_every_lesson_has_a_title_and_a_number_of_its_own() -> None:
    sources = sorted(build.SOURCE.glob("*.py"))
    assert all(re.fullmatch(r"\d\d_[a-z0-9_]+", path.stem) for path in sources), sources
    assert len({path.name[:2] for path in sources}) == len(sources), "two lessons share a number"
    for lesson in build.lessons():
        assert lesson.title != lesson.name
        first = build.notebook(lesson).cells[0]
        assert (first.cell_type, first.source.split("\n")[0]) == ("markdown", f"# {lesson.title}")


def test_every_lesson_takes_the_three_parameters_and_has_defaults_for_them() -> None:
    for lesson in build.lessons():
        cell = the_cell(lesson, "parameters")
        assert cell.cell_type == "code"
        assignments = [node for node in ast.parse(cell.source).body if isinstance(node, ast.Assign)]
        values = {node.targets[0].id: ast.literal_eval(node.value) for node in assignments}  # type: ignore[attr-defined]
        assert {"profile", "seed", "dataset"} <= values.keys(), lesson.name
        assert values["profile"] in run.LIMIT_S, lesson.name
        assert values["dataset"] in iot23.DATASETS, lesson.name
        assert type(values["seed"]) is int, lesson.name


def test_every_lesson_ends_with_its_summary() -> None:
    for lesson in build.lessons():
        cell = the_cell(lesson, "summary")
        assert cell.cell_type == "code"
        assert "print(" in cell.source
        assert [other for other in build.notebook(lesson).cells if other.cell_type == "code"][-1].id == cell.id, lesson.name


# --- building ----------------------------------------------------------------------------------------------------------


def test_lessons_come_in_order_and_by_number(source: Path) -> None:
    first, second = build.lessons()
    assert (first.number, first.name, first.title) == ("01", "01_first", "A title of its own")
    assert (second.number, second.name, second.title) == ("02", "02_second", "Second: ä, → and 'quotes'")
    assert build.lessons([]) == build.lessons(["02", "01"]) == build.lessons(["01", "01", "02"]) == [first, second]
    assert build.lessons(["02"]) == [second]
    (source / "03_bare.py").write_text("# %%\n1\n", "utf-8")
    assert build.lessons(["03"])[0].title == "03_bare"


def test_two_lessons_with_one_number_are_refused(source: Path) -> None:
    (source / "02_another.py").write_text("# %%\n1\n", "utf-8")
    with pytest.raises(ValueError, match=r"02_another: another lesson .* has the same number"):
        build.lessons()


def test_an_unknown_lesson_is_refused_with_those_there_are(source: Path) -> None:
    with pytest.raises(ValueError, match="no lesson 03, 1; choose from 01 02"):
        build.lessons(["01", "03", "1"])


def test_a_notebook_holds_the_sources_cells_and_nothing_else(source: Path) -> None:
    for lesson in build.lessons():
        made = build.notebook(lesson)
        nbformat.validate(made)
        cells = [(cell.cell_type, cell.metadata.get("tags", []), cell.source) for cell in made.cells]
        assert cells == naive_cells(lesson.source.read_text("utf-8"))
        assert len({cell.id for cell in made.cells}) == len(made.cells)
        assert made.metadata["kernelspec"]["name"] == "python3"
        assert set(made.metadata) == {"kernelspec", "language_info"}  # no version of the tool that made it
        assert all(cell.outputs == [] and cell.execution_count is None for cell in made.cells if cell.cell_type == "code")


def test_equal_sources_give_equal_bytes(source: Path, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    written = []
    for folder in folders:
        folder.mkdir()
        written.append([path.read_bytes() for path in build.build(folder)])
    assert written[0] == written[1]
    written.append([path.read_bytes() for path in build.build(folders[0])])  # over what is there
    assert written[0] == written[2]
    assert out_of_date(folders[0]) == []


def test_building_removes_what_has_no_source_and_nothing_else(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for name in ("07_gone.ipynb", "scratch.ipynb", "README.md"):
        (folder / name).write_text("{}")
    assert build.build(folder) == [folder / "01_first.ipynb", folder / "02_second.ipynb"]
    assert {path.name for path in folder.iterdir()} == {"01_first.ipynb", "02_second.ipynb", "scratch.ipynb", "README.md"}


def test_a_stale_a_missing_and_an_orphaned_notebook_are_found(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "notebooks"
    folder.mkdir()
    assert out_of_date(folder) == ["01_first.ipynb", "02_second.ipynb"]  # missing
    build.build(folder)
    assert out_of_date(folder) == []
    (source / "01_first.py").write_text(TINY.replace("2 * x", "x + x"), "utf-8")  # stale
    (source / "02_second.py").unlink()  # orphaned
    assert out_of_date(folder) == ["01_first.ipynb", "02_second.ipynb"]
    build.build(folder)
    assert out_of_date(folder) == []
