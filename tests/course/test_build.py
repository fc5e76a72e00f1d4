"""Lessons: one source, one notebook, the same on every machine; and what every lesson of this course has to have."""

import ast
import json
import re
from pathlib import Path

import nbformat
import pytest

from fliot_lab import ROOT
from fliot_lab.course import build, run, source
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

# %% tags=["parameters"]
profile = "fast"

# %% [markdown]
# ## A second heading

# %%
def double(x):
    """Twice x."""

    return 2 * x


double(21)

# %% tags=["exercise"]
# Exercise 1.1: "half" of it
def half(x):
    # solution
    return x / 2
    # end solution


# %% tags=["check"]
check.half(half)

# %% [markdown] tags=["solution"]
# Remarks on halves.

# %% [markdown] tags=["instructor"]
# Notes on halves.

# %% tags=["summary"]
print("{}")
'''
FACTS = """
[lesson.01_first]
objectives = "double"
before = "nothing"
minutes = 10
words = ["half", "half a word"]

[lesson.02_second]
objectives = "halve"
before = "lesson 01"
minutes = 50
words = []

[glossary]
half = 'One of two "equal" parts.'
"half a word" = "A wo."
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two lessons, and things that are none; the facts stand beside it, and no reference run."""
    folder = tmp_path / "source"
    folder.mkdir()
    second = TINY.replace("A title of its own", "Second: ä, → and 'quotes'").replace("Exercise 1.1", "Exercise 2.1")
    (folder / "02_second.py").write_text(second, "utf-8")
    (folder / "01_first.py").write_text(TINY, "utf-8")
    (folder / "notes.py").write_text("# not a lesson\n", "utf-8")
    (folder / "1_short.py").write_text("# not a lesson\n", "utf-8")
    (tmp_path / "lessons.toml").write_text(FACTS, "utf-8")
    monkeypatch.setattr(build, "SOURCE", folder)
    monkeypatch.setattr(build, "FACTS", tmp_path / "lessons.toml")
    monkeypatch.setattr(build, "REFERENCE", tmp_path / "reference.json")
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


def out_of_date(root: Path) -> list[str]:
    """Students' notebooks below `root` that differ from their source, lack one, or are missing."""
    made = build.notebooks("student").items()
    expected = {f"{name}.ipynb": nbformat.writes(content) + "\n" for name, content in made}
    present = {path.name: path.read_text("utf-8") for path in (root / "notebooks").glob("*.ipynb")}
    return sorted(name for name in expected | present if expected.get(name) != present.get(name))


def leaked(text: str, notebook: nbformat.NotebookNode) -> list[str]:
    """Lines of the solutions in a source's `text` that some code cell of the notebook shows."""
    shown = {line.strip() for cell in notebook.cells if cell.cell_type == "code" for line in cell.source.split("\n")}
    solutions = "\n".join(re.findall(r"^ *# solution\n(.*?)^ *# end solution$", text, flags=re.M | re.S))
    lines = {line.strip() for line in solutions.split("\n")}
    return sorted(line for line in lines & shown if len(line) > 12)  # `return x` may stand anywhere


def the_cell(lesson: build.Lesson, tag: str) -> nbformat.NotebookNode:
    cells = [cell for cell in build.notebook(lesson).cells if tag in cell.metadata.get("tags", [])]
    assert len(cells) == 1, f"{lesson.source.name} has {len(cells)} cells tagged {tag}"
    return cells[0]


# --- the course's own lessons ------------------------------------------------------------------------------------------


def test_the_notebooks_are_up_to_date() -> None:
    wrong = out_of_date(ROOT)
    assert not wrong, f"{', '.join(wrong)}: not what notebooks/source says; run make notebooks"


def test_no_student_notebook_shows_a_line_of_a_solution() -> None:
    for lesson in build.lessons():
        text = lesson.source.read_text("utf-8")
        assert "# solution" in text, lesson.name
        for made in (build.notebook(lesson), nbformat.read(ROOT / "notebooks" / f"{lesson.name}.ipynb", as_version=4)):
            assert not leaked(text, made), lesson.name
            assert not {"solution", "instructor"} & {tag for cell in made.cells for tag in cell.metadata.get("tags", [])}
        assert leaked(text, build.notebook(lesson, "solution")), "the solution version has them"


def test_the_readme_lists_the_lessons_as_they_are() -> None:
    rows = re.findall(r"^\| (\d\d) \| ([^|]+) \|", (ROOT / "README.md").read_text("utf-8"), flags=re.M)
    assert rows == [(lesson.number, lesson.title) for lesson in build.lessons()]


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


def test_lessons_come_in_order_and_by_number(folder: Path) -> None:
    first, second = build.lessons()
    assert (first.number, first.name, first.title) == ("01", "01_first", "A title of its own")
    assert (second.number, second.name, second.title) == ("02", "02_second", "Second: ä, → and 'quotes'")
    assert build.lessons([]) == build.lessons(["02", "01"]) == build.lessons(["01", "01", "02"]) == [first, second]
    assert build.lessons(["02"]) == [second]
    (folder / "03_bare.py").write_text("# %%\n1\n", "utf-8")
    assert build.lessons(["03"])[0].title == "03_bare"


def test_two_lessons_with_one_number_are_refused(folder: Path) -> None:
    (folder / "02_another.py").write_text("# %%\n1\n", "utf-8")
    with pytest.raises(ValueError, match=r"02_another: another lesson .* has the same number"):
        build.lessons()


def test_an_unknown_lesson_is_refused_with_those_there_are(folder: Path) -> None:
    with pytest.raises(ValueError, match="no lesson 03, 1; choose from 01 02"):
        build.lessons(["01", "03", "1"])


def test_the_instructors_notebook_holds_the_sources_cells_and_nothing_else(folder: Path) -> None:
    for lesson in build.lessons():
        made = build.notebook(lesson, "instructor")
        nbformat.validate(made)
        cells = [(cell.cell_type, cell.metadata.get("tags", []), cell.source) for cell in made.cells]
        expected = naive_cells(lesson.source.read_text("utf-8"))
        unmarked = [(*cell[:2], re.sub(r" *# (end )?solution\n?", "", cell[2]).rstrip()) for cell in expected]
        assert cells[1:-4] == unmarked[1:-4]  # but for what is generated: below the title, and below the last text
        assert cells[0][2].startswith(unmarked[0][2] + "\n\n")
        assert [cell[2].split("\n\n")[0] for cell in cells[-4:]] == [cell[2] for cell in unmarked[-4:]]
        assert len({cell.id for cell in made.cells}) == len(made.cells)
        assert made.metadata["kernelspec"]["name"] == "python3"
        assert set(made.metadata) == {"kernelspec", "language_info"}  # no version of the tool that made it
        assert all(cell.outputs == [] and cell.execution_count is None for cell in made.cells if cell.cell_type == "code")


def test_each_version_holds_what_its_readers_need(folder: Path) -> None:
    lesson = build.lessons(["01"])[0]
    made = {version: build.notebook(lesson, version) for version in build.FOLDERS}
    texts = {version: "\n".join(cell.source for cell in found.cells) for version, found in made.items()}
    assert [version for version, text in texts.items() if "Notes on halves" in text] == ["instructor"]
    assert [version for version, text in texts.items() if "Remarks on halves" in text] == ["solution", "instructor"]
    assert [version for version, text in texts.items() if "return x / 2" in text] == ["solution", "instructor"]
    assert all("# solution" not in text and "# end solution" not in text for text in texts.values())
    tags = {
        version: [tag for cell in found.cells for tag in cell.metadata.get("tags", []) if tag == "raises-exception"]
        for version, found in made.items()
    }
    assert {version: len(found) for version, found in tags.items()} == {"student": 2, "solution": 0, "instructor": 0}
    ids = {cell.id: cell.source for cell in made["instructor"].cells}
    assert all(
        ids[cell.id] == cell.source for cell in made["solution"].cells if cell.source != made["solution"].cells[-2].source
    )


def test_a_students_exercise_says_which_it_is_and_that_it_is_open(folder: Path) -> None:
    cell = the_cell(build.lessons(["01"])[0], "exercise")
    names: dict[str, object] = {}
    exec(cell.source, names)
    with pytest.raises(NotImplementedError, match=r'Exercise 1\.1: "half" of it'):
        names["half"](4)  # type: ignore[operator]


def test_navigation_table_and_words_come_from_the_facts(folder: Path) -> None:
    first, second = (build.notebook(lesson) for lesson in build.lessons())
    assert "[Index](index.ipynb) · Next: [02 Second: ä, → and 'quotes'](02_second.ipynb)" in first.cells[0].source
    assert "Before: [01 A title of its own](01_first.ipynb) · [Index](index.ipynb)" in second.cells[0].source
    assert "| double | nothing | 10 | not measured yet |" in first.cells[0].source
    assert (
        """[half](index.ipynb#half "One of two 'equal' parts.") · [half a word](index.ipynb#half-a-word"""
        in first.cells[0].source
    )
    texts = [[cell.source for cell in made.cells if cell.cell_type == "markdown"][-1] for made in (first, second)]
    assert texts[0].endswith("\n\nNext: [02 Second: ä, → and 'quotes'](02_second.ipynb)")
    assert texts[1].endswith("\n\nBack to the [index](index.ipynb).")


def test_run_times_are_those_of_the_reference_run(folder: Path) -> None:
    build.REFERENCE.write_text(json.dumps({"sample-fast": {"lessons": {"01_first": {"seconds": 11.2}}}}))
    assert "| 10 | 15 s |" in build.notebook(build.lessons()[0]).cells[0].source
    assert "| not measured yet |" in build.notebook(build.lessons()[1]).cells[0].source


def test_the_index_lists_lessons_and_words(folder: Path) -> None:
    text = build.index().cells[0].source
    assert "| 01 | [A title of its own](01_first.ipynb) | double | 1 | 10 | not measured yet |" in text
    assert "1.0 hours" in text
    assert text.index("### half\n") < text.index("### half a word\n\nA wo.")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[lesson.02_second]", "[lesson.03_third]", "lessons.toml: 02_second has no entry"),
        ("[glossary]", '[lesson.07_gone]\nminutes = 1\n[glossary]', "lessons.toml: 07_gone has an entry and no source"),
        ("minutes = 10\n", "", "lessons.toml: 01_first: the field minutes is missing"),
        ("minutes = 10\n", "minutes = 10\nhours = 1\n", "lessons.toml: 01_first: the field hours is unknown"),
        ("[lesson.01_first]", "[lesson.01_first", "lessons.toml is no TOML"),
        (FACTS, "", "lessons.toml: 01_first has no entry"),
        ('words = ["half", "half a word"]', 'words = ["half"]', "lessons.toml: no lesson lists the word 'half a word'"),
        ('words = []', 'words = ["third"]', "lessons.toml: 02_second: 'third' is not in the glossary"),
    ],
)  # fmt: skip
def test_facts_that_do_not_fit_are_refused_before_anything_is_written(
    folder: Path, tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in FACTS
    build.FACTS.write_text(FACTS.replace(old, new, 1), "utf-8")
    with pytest.raises(ValueError, match=message):
        build.build(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("#   jupytext:\n", "#  \tjupytext:\n", r"01_first\.py:1: jupytext cannot read it \(ScannerError\)"),
        ("    return x / 2\n", "    # %timeit 1\n    return x / 2\n", r"01_first\.py:\d+: jupytext changes this exercise"),
    ],
)
def test_what_jupytext_reads_otherwise_is_named(folder: Path, old: str, new: str, message: str) -> None:
    assert old in TINY
    (folder / "01_first.py").write_text(TINY.replace(old, new), "utf-8")
    with pytest.raises(source.SourceError, match=message):
        build.notebook(build.lessons()[0])


def test_a_malformed_lesson_leaves_every_notebook_as_it_was(folder: Path, tmp_path: Path) -> None:
    build.build(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.ipynb")}
    (folder / "01_first.py").write_text(TINY.replace("2 * x", "x + x"), "utf-8")
    (folder / "02_second.py").write_text(TINY, "utf-8")
    with pytest.raises(source.SourceError, match=r"02_second\.py:\d+: exercise 1\.1 stands in lesson 02"):
        build.build(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.ipynb")} == before


def test_equal_sources_give_equal_bytes(folder: Path, tmp_path: Path) -> None:
    roots = [tmp_path / name for name in ("one", "two")]
    written = [[path.read_bytes() for path in build.build(root)] for root in (*roots, roots[0])]  # the last over what is there
    assert written[0] == written[1] == written[2]
    assert out_of_date(roots[0]) == []


def test_building_removes_what_has_no_source_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    student = tmp_path / "notebooks"
    student.mkdir()
    for name in ("07_gone.ipynb", "scratch.ipynb", "README.md"):
        (student / name).write_text("{}")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "07_mine.ipynb").write_text("{}")
    lessons = {"01_first.ipynb", "02_second.ipynb", "index.ipynb"}
    assert {path.relative_to(student).name for path in build.build(tmp_path)} == lessons
    assert {path.name for path in student.iterdir()} == lessons | {"scratch.ipynb", "README.md"}
    assert {path.name for path in (tmp_path / "build" / "solution").iterdir()} == lessons
    assert {path.name for path in (tmp_path / "build" / "instructor").iterdir()} == lessons
    assert (tmp_path / "work" / "07_mine.ipynb").exists()


def test_a_stale_a_missing_and_an_orphaned_notebook_are_found(folder: Path, tmp_path: Path) -> None:
    everything = ["01_first.ipynb", "02_second.ipynb", "index.ipynb"]
    assert out_of_date(tmp_path) == everything  # missing
    build.build(tmp_path)
    assert out_of_date(tmp_path) == []
    (folder / "01_first.py").write_text(TINY.replace("2 * x", "x + x"), "utf-8")  # stale
    assert out_of_date(tmp_path) == ["01_first.ipynb"]
    (folder / "02_second.py").unlink()  # orphaned
    second = FACTS[FACTS.index("[lesson.02_second]") : FACTS.index("[glossary]")]
    build.FACTS.write_text(FACTS.replace(second, ""), "utf-8")
    assert out_of_date(tmp_path) == everything
    build.build(tmp_path)
    assert out_of_date(tmp_path) == []


def test_a_line_of_a_solution_that_shows_is_found(folder: Path) -> None:
    made = build.notebook(build.lessons()[0])
    long = TINY.replace("return x / 2", "return x / 2 + 0 * x")
    assert leaked(long, made) == []
    made.cells[-1].source = "y = 3\nreturn x / 2 + 0 * x\n"
    assert leaked(long, made) == ["return x / 2 + 0 * x"]
