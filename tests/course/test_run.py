"""Running lessons: a stand-in for papermill shows every ending quickly, and one run shows that papermill behaves like it."""

import contextlib
import io
import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbclient.exceptions
import nbformat
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from fliot_lab import profiles
from fliot_lab.course import build, results, run
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
FACTS = "[glossary]\n" + "".join(
    f'[lesson.{name}]\nobjectives = "run"\nbefore = "nothing"\nminutes = 1\nwords = []\n' for name in ("01_first", "02_second")
)
PROFILES = "".join(f"[{name}.{profile}]\n" for name in ("01_first", "02_second") for profile in ("fast", "full"))
BANNER = "SIMULATED data, made for this test"


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A course of two good lessons in a folder of its own, on captures that nobody reads."""
    executed, kept = tmp_path / "build" / "notebooks", tmp_path / "results"
    folders = SimpleNamespace(source=tmp_path / "source", executed=executed, results=kept, asked=[])

    def locate(dataset: str, *, seed: int) -> iot23.Source:
        folders.asked.append((dataset, seed))
        return iot23.Source(tmp_path, "sample", True, BANNER)

    folders.source.mkdir()
    monkeypatch.setattr(build, "SOURCE", folders.source)
    monkeypatch.setattr(run, "EXECUTED", folders.executed)
    monkeypatch.setattr(results, "RESULTS", folders.results)
    for owner, name, content in ((build, "FACTS", FACTS), (profiles, "FILE", PROFILES)):
        (tmp_path / f"{name}.toml").write_text(content)
        monkeypatch.setattr(owner, name, tmp_path / f"{name}.toml")
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
    assert all(len(line) <= 110 for line in out.splitlines() if "/" not in line)
    assert "published claim" in out.partition("together")[2]
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
    assert run.run("fast", "sample", ["02"], 6) == 1
    found = read(course.results / "sample-fast.json")
    assert found["lessons"] == lessons
    assert found["failed"] == {"02_second": "02_Second"}
    assert "This lesson failed in the latest run; these" in (course.results / "RESULTS.md").read_text("utf-8")
    assert (course.executed / "02_second.failed.ipynb").exists()
    course.write("02_second", GOOD)
    assert run.run("fast", "sample", ["02"], 7) == 0
    assert sorted(contents(course.executed)) == ["01_first.ipynb", "02_second.ipynb"]  # the failed one is gone
    assert read(course.results / "sample-fast.json")["failed"] == {}
    assert "This lesson failed" not in (course.results / "RESULTS.md").read_text("utf-8")


def test_the_reference_is_written_only_when_asked_for(
    course: SimpleNamespace, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    course.results.mkdir()
    (course.results / "reference.json").write_text('{"iot23-full": {"lessons": {"kept": true}}}')
    run.run("fast", "sample", [], 3)
    assert read(course.results / "reference.json") == {"iot23-full": {"lessons": {"kept": True}}}
    assert "has none of these lessons for sample, profile fast" in capsys.readouterr().out
    run.run("fast", "sample", [], 3, keep_as_reference=True)
    found = read(course.results / "sample-fast.json")
    known = read(course.results / "reference.json")
    assert known.keys() == {"iot23-full", "sample-fast"}
    assert known["sample-fast"]["lessons"] == found["lessons"]
    course.write("02_second", GOOD.replace("0.98765", "0.9"))
    capsys.readouterr()
    run.run("fast", "sample", ["02"], 3)
    assert "Reference: 4 figures as in the reference, 1 differs. See results/RESULTS.md." in capsys.readouterr().out
    assert "| AUC | 0.98765 [0.5, 1] | 0.9 [0.5, 1] | -0.088 |" in (course.results / "RESULTS.md").read_text("utf-8")
    run.run("fast", "sample", ["02"], 3, keep_as_reference=True)  # what it replaces is shown first
    assert "1 differs" in capsys.readouterr().out
    assert "4 figures" not in (course.results / "RESULTS.md").read_text("utf-8")
    renewed = read(course.results / "reference.json")["sample-fast"]["lessons"]
    assert renewed["01_first"] == found["lessons"]["01_first"]  # it did not run
    assert renewed["02_second"]["numbers"]["AUC"]["value"] == 0.9
    course.write("02_second", PLANTED)
    assert run.run("fast", "sample", [], 4, keep_as_reference=True) == 1  # half a run is no reference
    assert read(course.results / "reference.json")["sample-fast"]["lessons"] == renewed


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


def test_a_drawn_order_is_printed_and_repeats_itself(
    course: SimpleNamespace, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    orders = {}
    for shuffle in (*range(8), 0):
        assert run.run("fast", "sample", [], 3, shuffle=shuffle) == 0
        out = capsys.readouterr().out
        printed = next(line for line in out.splitlines() if line.startswith(f"order drawn with SHUFFLE={shuffle}: "))
        order = printed.partition(": ")[2].split()
        assert [line[:2] for line in out.splitlines() if ": done in" in line] == order
        assert orders.setdefault(shuffle, order) == order
        assert list(read(course.results / "sample-fast.json")["lessons"]) == ["01_first", "02_second"]
        table = out.partition("peak MB")[2].splitlines()
        assert [line[:2] for line in table[1:3]] == ["01", "02"]
    assert {tuple(order) for order in orders.values()} == {("01", "02"), ("02", "01")}


def test_each_lesson_runs_in_an_empty_folder_that_is_gone_afterwards(
    course: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = []

    def execute(given: Path, executed: Path, parameters: dict[str, Any], **options: Any) -> None:
        folders.append(options["cwd"])
        assert list(options["cwd"].iterdir()) == []
        (options["cwd"] / "left.txt").write_text("by a lesson")
        stand_in(given, executed, parameters, **options)

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    assert run.run("fast", "sample", [], 3) == 0
    assert len(set(folders)) == 2
    assert not [folder for folder in folders if folder.exists()]
    assert sorted(contents(course.executed.parent)) == ["notebooks/01_first.ipynb", "notebooks/02_second.ipynb"]


def test_a_figure_outside_its_range_fails_its_lesson(
    course: SimpleNamespace, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with profiles.FILE.open("a") as file:
        file.write('[02_second.full.ranges.sample]\nrows = [0, 10]\nAUC = [0.9, 1]\n"gone" = [0, 1]\n')
    assert run.run("fast", "sample", [], 3) == 0  # ranges are the full profile's
    capsys.readouterr()
    assert run.run("full", "sample", [], 3) == 1
    err = capsys.readouterr().err
    assert "--- lesson 02 failed ---\n'rows' is 12345, outside [0, 10]\n'gone' must lie in [0, 1] and is missing\n" in err
    assert "AUC" not in err
    assert list(read(course.results / "sample-full.json")["lessons"]) == ["01_first"]
    assert (course.executed / "02_second.failed.ipynb").exists()


def test_a_lesson_without_a_profile_is_refused_before_anything_runs(course: SimpleNamespace, quick: None) -> None:
    profiles.FILE.write_text("[01_first.fast]\n[02_second.full]\n")
    with pytest.raises(ValueError, match=r"no table \[02_second\.fast\]"):
        run.run("fast", "sample", [], 3)
    assert not course.executed.exists()


def test_sigterm_ends_a_run_as_ctrl_c_does_and_leaves_nothing(
    course: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def execute(given: Path, executed: Path, parameters: dict[str, Any], **options: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
        pytest.fail("the signal did not stop the lesson")

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    assert run.run("fast", "sample", [], 3) == 143
    assert "Stopped." in capsys.readouterr().out
    assert signal.getsignal(signal.SIGTERM) is before
    assert list(course.executed.parent.rglob("*")) == [course.executed]
    assert not course.results.exists()


def test_a_dead_kernels_failure_names_the_cell_that_ran(
    course: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def execute(given: Path, executed: Path, parameters: dict[str, Any], **options: Any) -> None:
        made = nbformat.read(given, as_version=4)
        for minute, cell in enumerate(made.cells[:3]):  # papermill notes when it starts a cell, of texts as well
            cell.metadata["papermill"] = {"start_time": f"2026-01-01T00:0{minute}:00", "status": "completed"}
        nbformat.write(made, executed)
        raise nbclient.exceptions.DeadKernelError("Kernel died")

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    assert run.run("fast", "sample", ["01"], 3) == 1
    err = capsys.readouterr().err
    assert f"cell number 3 of the notebook:\n{GOOD}\n\nDeadKernelError: Kernel died" in err


# --- alternative text --------------------------------------------------------------------------------------------------


def shows(data: dict[str, Any], widgets: dict[str, Any] | None = None) -> list[str]:
    """What is said of a notebook whose cell [7] has one output of these mime types."""
    output = new_output("display_data", data=data)
    made = new_notebook(cells=[new_markdown_cell("# Title"), new_code_cell("draw()", outputs=[output], execution_count=7)])
    if widgets:
        made.metadata["widgets"] = {run.WIDGETS: {"state": widgets}}
    return run.figures_without_text(made)


FOUND = ["cell [7] draws a figure without alternative text; use plots.show(fig, alt)"]
BARE = {
    "matplotlib's own display": {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure size 640x480>"},
    "no alt": {"text/html": '<p>a</p><img src="data:,">'},
    "empty alt": {"text/html": '<img alt=" " src="data:,"/>'},
    "second image": {"text/html": '<img alt="a line"><img>'},
    "svg": {"text/html": "<svg><path/></svg>"},
    "svg with an empty title": {"image/svg+xml": "<svg><title> </title></svg>"},
    "second svg": {"text/html": "<svg><title>a line</title></svg><svg></svg>"},
    "svg with a tooltip deep inside": {"text/html": "<svg><g><title>7 flows</title></g></svg>"},
    "canvas": {"text/html": "<canvas></canvas>"},
    "a drawing of plotly's": {"application/vnd.plotly.v1+json": {}, "text/plain": "Figure"},
    "markdown": {"text/markdown": "![](data:,)"},
    "markdown with a reference": {"text/markdown": "![][line]"},
}


@pytest.mark.parametrize("data", BARE.values(), ids=BARE)
def test_a_figure_without_alternative_text_is_named(data: dict[str, Any]) -> None:
    assert shows(data) == FOUND


@pytest.mark.parametrize(
    "data",
    [
        {"text/html": '<img src="data:," alt="a rising line">'},
        {"text/html": "<svg aria-label='a rising line'></svg>"},
        {"text/html": "<svg aria-hidden='true'></svg>"},
        {"text/html": "<svg aria-labelledby='a'><text id='a'>a rising line</text></svg>"},
        {"text/html": "<svg><path/><title>a rising line</title><g><title>7 flows</title></g></svg>"},
        {"image/svg+xml": "<svg><title>a rising line</title><path/></svg>"},
        {"text/html": "<table><tr><td>&lt;img&gt;</td></tr></table>"},
        {"text/markdown": "![a rising line](data:,)"},
        {"text/plain": "<img>"},
        {"application/json": {"img": 1}},
    ],
)
def test_a_figure_that_can_be_read_is_let_pass(data: dict[str, Any]) -> None:
    assert shows(data) == []


def test_widgets_are_looked_into() -> None:
    def states(image: dict[str, Any]) -> dict[str, Any]:
        box = {"_model_name": "VBoxModel", "children": ["IPY_MODEL_a1", "IPY_MODEL_b2"]}
        slider = {"_model_name": "SelectionSliderModel", "value": 3}
        return {name: {"state": state} for name, state in (("c3", box), ("a1", slider), ("b2", image))}

    view = {run.WIDGET: {"model_id": "c3"}, "text/plain": "VBox(...)"}
    assert shows(view, states({"_model_name": "HTMLModel", "value": "<img alt='a rising line'>"})) == []
    assert shows(view, states({"_model_name": "HTMLModel", "value": "<img>"})) == FOUND
    assert shows(view, states({"_model_name": "ImageModel"})) == FOUND
    for data, found in (({"image/png": "iVBORw0KGgo="}, FOUND), ({"text/html": "<img alt='a rising line'>"}, [])):
        outputs = [{"output_type": "stream", "text": "drawn"}, {"output_type": "display_data", "data": data}]
        assert shows(view, states({"_model_name": "OutputModel", "outputs": outputs})) == found


def test_pictures_of_texts_need_it_as_well_but_not_code_in_them() -> None:
    code = "Write `<img>` so:\n```html\n<img>\n![](x)\n```\n"
    assert run.figures_without_text(new_notebook(cells=[new_markdown_cell(code)])) == []
    for bare in ("![](x.png)", "<img src='x.png'>"):
        (found,) = run.figures_without_text(new_notebook(cells=[new_markdown_cell(code), new_markdown_cell(bare)]))
        assert found.startswith("text cell number 2 draws")


def test_a_lesson_that_draws_without_it_fails(
    course: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def execute(given: Path, executed: Path, parameters: dict[str, Any], **options: Any) -> None:
        stand_in(given, executed, parameters, **options)
        made = nbformat.read(executed, as_version=4)
        made.cells[2].outputs, made.cells[2].execution_count = [new_output("display_data", data=BARE["no alt"])], 7
        nbformat.write(made, executed)

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    assert run.run("fast", "sample", ["02"], 3) == 1
    assert f"--- lesson 02 failed ---\n{FOUND[0]}" in capsys.readouterr().err
    assert (course.executed / "02_second.failed.ipynb").exists()
