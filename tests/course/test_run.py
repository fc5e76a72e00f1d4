"""Running lessons: a stand-in for papermill shows every ending quickly, and one run shows that papermill behaves like it."""

import contextlib
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbclient.exceptions
import nbformat
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from fliot_lab.course import build, run
from fliot_lab.data import iot23

LESSON = """# %% [markdown]
# # {title}

# %% tags=["parameters"]
profile, seed, dataset = "full", 0, "iot23"

# %%
{code}

# %% tags=["summary"]
import json
print(json.dumps({{"profile": profile, "seed": seed, "dataset": dataset, "rows": 12345, "AUC": answer}}))
"""
GOOD = 'answer = {"value": 0.98765, "low": 0.5, "high": 1.0}'
PLANTED = "answer = 1 / 0  # planted"
BANNER = "SIMULATED data, made for this test"


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A course of two good lessons in a folder of its own, on captures that nobody reads."""
    executed, results = tmp_path / "build" / "notebooks", tmp_path / "results"
    folders = SimpleNamespace(source=tmp_path / "source", executed=executed, results=results, asked=[])

    def locate(dataset: str, *, seed: int) -> iot23.Source:
        folders.asked.append((dataset, seed))
        return iot23.Source(tmp_path, "sample", True, BANNER)

    folders.source.mkdir()
    monkeypatch.setattr(build, "SOURCE", folders.source)
    monkeypatch.setattr(run, "EXECUTED", folders.executed)
    monkeypatch.setattr(run, "RESULTS", folders.results)
    monkeypatch.setattr(iot23, "locate", locate)
    folders.write = lambda name, code: (folders.source / f"{name}.py").write_text(LESSON.format(title=name.title(), code=code))
    folders.write("01_first", GOOD)
    folders.write("02_second", GOOD)
    return folders


def stand_in(given: Path, executed: Path, parameters: dict[str, Any], **options: Any) -> None:
    """What papermill does with a lesson, in this process: run the cells, write the notebook, raise what went wrong."""
    assert options["cwd"].is_dir()
    made, names = nbformat.read(given, as_version=4), {}
    code = [cell for cell in made.cells if cell.cell_type == "code"]
    for place, cell in enumerate(code):
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                exec(cell.source, names)
        except Exception as error:
            nbformat.write(made, executed)
            raise papermill.PapermillExecutionError(
                place, place + 1, cell.source, type(error).__name__, str(error), []
            ) from error
        cell.outputs = [new_output("stream", name="stdout", text=printed.getvalue())]
        if "parameters" in cell.metadata.get("tags", []):
            names |= parameters
    nbformat.write(made, executed)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(papermill, "execute_notebook", stand_in)


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# --- a run through papermill itself ------------------------------------------------------------------------------------


def test_a_failing_lesson_is_kept_and_the_next_one_runs(course: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    """The one test that starts kernels."""
    course.write("01_first", PLANTED)
    course.executed.mkdir(parents=True)
    (course.executed / "01_first.ipynb").write_text("left by an earlier run")
    assert run.run("fast", "auto", [], 11) == 1
    out, err = capsys.readouterr()
    assert "--- lesson 01 failed ---" in err
    assert PLANTED in err
    assert "ZeroDivisionError: division by zero" in err
    assert "02" not in err.partition("---")[2]
    assert BANNER in out
    assert "01 01_First: FAILED in " in out
    assert "02 02_Second: done in " in out
    assert sorted(contents(course.executed.parent)) == ["notebooks/01_first.failed.ipynb", "notebooks/02_second.ipynb"]
    failed = nbformat.read(course.executed / "01_first.failed.ipynb", as_version=4)
    assert [output.ename for cell in failed.cells for output in cell.get("outputs", []) if output.output_type == "error"] == [
        "ZeroDivisionError"
    ]
    found = read(course.results / "sample-fast.json")
    assert list(found["lessons"]) == ["02_second"]
    lesson = found["lessons"]["02_second"]
    # the notebook was given the run's parameters, and the data set that was found, not "auto"
    assert lesson["numbers"] == {
        "profile": "fast", "seed": 11, "dataset": "sample", "rows": 12345, "AUC": {"value": 0.98765, "low": 0.5, "high": 1.0},
    }  # fmt: skip
    assert 0 < lesson["seconds"] < 60
    assert 10 < lesson["peak_mb"] < 2000  # a kernel, and not all that this process holds


# --- endings, with the stand-in ----------------------------------------------------------------------------------------


def test_a_good_run_keeps_notebooks_and_numbers(
    course: SimpleNamespace, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.run("fast", "auto", [], 3) == 0
    assert course.asked == [("auto", 3)]
    assert sorted(contents(course.executed)) == ["01_first.ipynb", "02_second.ipynb"]
    assert sorted(contents(course.results)) == ["RESULTS.md", "sample-fast.json"]
    found = read(course.results / "sample-fast.json")
    assert (found["data"], found["simulated"], found["profile"]) == ("sample", True, "fast")
    assert [lesson["numbers"]["seed"] for lesson in found["lessons"].values()] == [3, 3]
    assert {lesson["numbers"]["dataset"] for lesson in found["lessons"].values()} == {"sample"}  # what was found, not "auto"
    out, err = capsys.readouterr()
    assert err == ""
    assert "profile fast, seed 3" in out
    table = out.partition("peak MB")[2].splitlines()[1:4]
    assert [line.split()[0] for line in table] == ["01", "02", "together"]
    assert [line.endswith("ok") for line in table] == [True, True, False]


def test_only_the_lessons_asked_for_are_run_and_the_others_results_stay(course: SimpleNamespace, quick: None) -> None:
    assert run.run("fast", "sample", ["01"], 3) == 0
    assert list(read(course.results / "sample-fast.json")["lessons"]) == ["01_first"]
    assert run.run("full", "sample", ["02"], 4) == 0
    assert run.run("fast", "sample", ["02"], 5) == 0
    lessons = read(course.results / "sample-fast.json")["lessons"]
    assert [(name, lesson["seed"]) for name, lesson in lessons.items()] == [("01_first", 3), ("02_second", 5)]
    assert [lesson["seed"] for lesson in read(course.results / "sample-full.json")["lessons"].values()] == [4]
    page = (course.results / "RESULTS.md").read_text("utf-8")
    assert page.index("profile fast") < page.index("Seed 5") < page.index("profile full") < page.index("Seed 4")
    course.write("02_second", PLANTED)  # a failure takes away nothing that an earlier run measured
    before = contents(course.results)
    assert run.run("fast", "sample", ["02"], 6) == 1
    assert contents(course.results) == before
    assert (course.executed / "02_second.failed.ipynb").exists()
    course.write("02_second", GOOD)
    assert run.run("fast", "sample", ["02"], 7) == 0
    assert sorted(contents(course.executed)) == ["01_first.ipynb", "02_second.ipynb"]  # the failed one is gone


def test_the_reference_is_written_only_when_asked_for(course: SimpleNamespace, quick: None) -> None:
    course.results.mkdir()
    (course.results / "reference.json").write_text('{"iot23-full": {"kept": true}}')
    run.run("fast", "sample", [], 3)
    assert read(course.results / "reference.json") == {"iot23-full": {"kept": True}}
    run.run("fast", "sample", [], 3, keep_as_reference=True)
    found = read(course.results / "sample-fast.json")
    assert read(course.results / "reference.json") == {"iot23-full": {"kept": True}, "sample-fast": found}
    assert "reference" not in (course.results / "RESULTS.md").read_text("utf-8")
    course.write("02_second", PLANTED)
    assert run.run("fast", "sample", [], 4, keep_as_reference=True) == 1  # half a run is no reference
    assert read(course.results / "reference.json")["sample-fast"] == found


def test_a_summary_that_cannot_be_read_is_a_failure(
    course: SimpleNamespace, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    course.write("01_first", "print = lambda *_: None\n" + GOOD)
    assert run.run("fast", "sample", [], 3) == 1
    assert "the summary cell must print one JSON object and printed ''" in capsys.readouterr().err
    assert list(read(course.results / "sample-fast.json")["lessons"]) == ["02_second"]
    assert sorted(contents(course.executed)) == ["01_first.failed.ipynb", "02_second.ipynb"]


@pytest.mark.parametrize(
    "error",
    [nbclient.exceptions.DeadKernelError("Kernel died"), nbclient.exceptions.CellTimeoutError("A cell timed out")],
    ids=["dead kernel", "timeout"],
)
def test_a_kernel_that_dies_or_hangs_fails_its_lesson_only(
    course: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    limits = []

    def execute(given: Path, executed: Path, parameters: dict[str, Any], **options: Any) -> None:
        limits.append(options["execution_timeout"])
        if len(limits) == 1:
            raise error
        stand_in(given, executed, parameters, **options)

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    assert run.run("full", "sample", [], 3) == 1
    assert f"{type(error).__name__}: {error}" in capsys.readouterr().err
    assert list(read(course.results / "sample-full.json")["lessons"]) == ["02_second"]
    assert limits == [run.LIMIT_S["full"]] * 2
    assert sorted(contents(course.executed.parent)) == ["notebooks/02_second.ipynb"]


def test_ctrl_c_leaves_the_results_as_they_were(
    course: SimpleNamespace, quick: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run.run("fast", "sample", [], 3)
    before = contents(course.results)

    def execute(given: Path, executed: Path, parameters: dict[str, Any], **options: Any) -> None:
        if "02_Second" in Path(given).read_text():
            raise KeyboardInterrupt
        stand_in(given, executed, parameters, **options)

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    capsys.readouterr()
    assert run.run("fast", "sample", [], 4, keep_as_reference=True) == 130
    assert contents(course.results) == before
    assert "Stopped." in capsys.readouterr().out
    assert sorted(contents(course.executed.parent)) == ["notebooks/01_first.ipynb", "notebooks/02_second.ipynb"]


@pytest.mark.parametrize(
    ("profile", "data", "numbers", "message"),
    [
        ("slow", "sample", [], "profile='slow' is unknown; choose one of fast, full"),
        ("fast", "sample", ["01", "09"], "there is no lesson 09; choose from 01 02"),
        ("fast", "mnist", [], "dataset='mnist' is unknown; choose one of auto, iot23, sample"),
    ],
)
def test_what_is_unknown_is_refused_before_anything_runs(
    course: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, profile: str, data: str, numbers: list[str], message: str
) -> None:
    def locate(dataset: str, *, seed: int) -> iot23.Source:
        assert dataset not in iot23.DATASETS, "nothing may be made for a run that is refused"
        raise ValueError(f"dataset={dataset!r} is unknown; choose one of {', '.join(iot23.DATASETS)}")

    monkeypatch.setattr(iot23, "locate", locate)
    monkeypatch.setattr(papermill, "execute_notebook", lambda *_, **__: pytest.fail("a lesson was run"))
    with pytest.raises(ValueError, match=message):
        run.run(profile, data, numbers, 3)
    assert not course.results.exists()
    assert not course.executed.exists()


# --- the summary cell --------------------------------------------------------------------------------------------------


def executed(*texts: str, others: tuple[Any, ...] = ()) -> nbformat.NotebookNode:
    """A notebook with one cell tagged `summary` for each text that it printed."""
    cells = [new_markdown_cell("# Title"), new_code_cell("1")]
    for text in texts:
        outputs = [*others, new_output("stream", name="stdout", text=text)]
        cells.append(new_code_cell("print(...)", outputs=outputs, metadata={"tags": ["summary"]}))
    return new_notebook(cells=cells)


def test_the_summary_is_what_its_cell_printed() -> None:
    noise = (new_output("stream", name="stderr", text="a warning"), new_output("display_data", data={"text/plain": "a figure"}))
    assert run.summary(executed('{"AUC": 0.5, "model": "forest"}\n')) == {"AUC": 0.5, "model": "forest"}
    assert run.summary(executed("{}", others=noise)) == {}
    in_two = executed('"rows": 3}\n', others=(new_output("stream", name="stdout", text="{"),))
    assert run.summary(in_two) == {"rows": 3}


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (executed(), "one cell tagged summary, this one has 0"),
        (executed("{}", "{}"), "one cell tagged summary, this one has 2"),
        (executed("AUC: 0.5"), "must print one JSON object and printed 'AUC: 0.5'"),
        (executed('{"AUC": 0.5}\n{"AUC": 0.6}'), "must print one JSON object"),
        (executed("[0.5]"), "must print a JSON object and printed a list"),
        (executed("0.5"), "must print a JSON object and printed a float"),
    ],
)
def test_a_summary_of_another_kind_is_refused(made: nbformat.NotebookNode, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run.summary(made)


# --- the page of results -----------------------------------------------------------------------------------------------


def a_set(data: str, simulated: bool, **numbers: Any) -> dict[str, Any]:
    lesson = {"title": "Autoencoder", "seed": 7, "seconds": 12.3, "peak_mb": 456, "numbers": numbers}
    return {"data": data, "simulated": simulated, "profile": "fast", "lessons": {"03_autoencoder": lesson}}


def test_the_page_shows_each_kind_of_figure() -> None:
    numbers = {
        "rows": 1234567,
        "AUC": 0.987654,
        "with interval": {"value": 0.51234, "low": 0.4, "high": 0.6},
        "without": {"value": 3, "low": None, "high": None},
        "best": "forest",
        "counts": {"DDoS": 1, "scan": 2},
        "found": True,
        "undefined": None,
    }
    page = run.results_page([a_set("iot23", False, **numbers)])
    assert page.startswith("# Results\n")
    assert "### 03 Autoencoder\n\nSeed 7, 12.3 s, 456 MB.\n\n| figure | value |\n|---|---|\n" in page
    assert page.splitlines()[-len(numbers) :] == [
        "| rows | 1,234,567 |",
        "| AUC | 0.9877 |",
        "| with interval | 0.5123 [0.4, 0.6] |",
        "| without | 3 |",
        "| best | forest |",
        "| counts | {'DDoS': 1, 'scan': 2} |",
        "| found | True |",
        "| undefined | None |",
    ]


def test_the_page_says_of_simulated_captures_that_they_are() -> None:
    page = run.results_page([a_set("iot23", False, AUC=0.9), a_set("sample", True, AUC=0.8)])
    real, simulated = page.split("## sample")
    assert "## iot23, profile fast (real IoT-23 captures)" in real
    assert "SIMULATED" not in real
    assert simulated.startswith(", profile fast (SIMULATED captures: values, and no verdict on real networks)")
    assert "real IoT-23" not in simulated
    assert "| AUC | 0.8 |" in simulated
    assert run.results_page([]).startswith("# Results")
