"""Runs lessons with papermill, all from one process; `results` keeps what they measured."""

import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from types import FrameType
from typing import Any

import nbformat
import papermill
import psutil
from traitlets.config import Config

from fliot_lab import ROOT, profiles
from fliot_lab.course import build, claims, results
from fliot_lab.course.results import Outcome
from fliot_lab.data import iot23

EXECUTED = ROOT / "build" / "notebooks"
LIMIT_S = {"fast": 600, "full": 7200}  # of one cell; a lesson that hangs must not hang the run


def run(
    profile: str,
    data: str,
    numbers: list[str],
    seed: int,
    *,
    keep_as_reference: bool = False,
    shuffle: int | None = None,
) -> int:
    """0 when all the lessons with these `numbers` (empty: all) ran to their end, 1 when one failed, 130 after Ctrl-C.

    Executed notebooks go to build/notebooks/, headline numbers to results/<data>-<profile>.json and results/RESULTS.md. With
    `shuffle` the lessons run in an order drawn from that seed. 143 after SIGTERM. Raises ValueError for an unknown profile or
    lesson, iot23.DataMissing where the data asked for are not there.
    """
    if profile not in LIMIT_S:
        raise ValueError(f"profile={profile!r} is unknown; choose one of {', '.join(LIMIT_S)}")
    chosen = build.lessons(numbers)
    if named := os.environ.get("FLIOT_DATA"):  # kernels run in another folder
        os.environ["FLIOT_DATA"] = str(Path(named).expanduser().resolve())
    known = results.reference()
    source = iot23.locate(data, seed=seed)
    allowed = {lesson.name: profiles.ranges(lesson.name, profile, source.name) for lesson in chosen}
    print(f"{source.banner}\nprofile {profile}, seed {seed}", flush=True)
    outcomes = []
    try:
        with _stopped_by_sigterm():
            for lesson in _in_order(chosen, shuffle):
                given = {"profile": profile, "seed": seed, "dataset": source.name}
                outcomes.append(_run_lesson(lesson, given, allowed[lesson.name], LIMIT_S[profile]))
    except KeyboardInterrupt as stop:
        print("\nStopped. The lessons that were finished are in build/notebooks/, the results are as they were.")
        return 143 if isinstance(stop, _Terminated) else 130
    outcomes.sort(key=lambda outcome: outcome.lesson.number)
    return _end(outcomes, source, profile, seed, known, keep_as_reference=keep_as_reference)


def _end(
    outcomes: list[Outcome],
    source: iot23.Source,
    profile: str,
    seed: int,
    known: dict[str, dict[str, Any]],
    *,
    keep_as_reference: bool,
) -> int:
    """Keeps and prints the results of a run, beside the reference `known` before it; 1 where a lesson failed, else 0."""
    failed = any(outcome.failure for outcome in outcomes)
    good = [outcome.lesson.name for outcome in outcomes if not outcome.failure]
    found = results.keep(outcomes, source, profile, seed)
    compared = results.compared(found, known, good)
    if keep_as_reference and not failed:
        results.keep_reference(found, good)
    results.write_page()
    print(_table(outcomes))
    print(f"\n{claims.compact(claims.load(), results.sets())}\n")
    if good:
        print(compared)
    print("Executed lessons: build/notebooks/   Numbers: results/RESULTS.md", flush=True)
    for outcome in outcomes:
        if outcome.failure:
            print(f"\n--- lesson {outcome.lesson.number} failed ---\n{outcome.failure}", file=sys.stderr)
    if failed and keep_as_reference:
        print("results/reference.json is as it was: a reference needs a run without failures", file=sys.stderr)
    return 1 if failed else 0


def _in_order(chosen: list[build.Lesson], shuffle: int | None) -> list[build.Lesson]:
    """The lessons in the order in which they run; one that was drawn is printed."""
    if shuffle is None:
        return chosen
    drawn = random.Random(shuffle).sample(chosen, len(chosen))
    print(f"order drawn with SHUFFLE={shuffle}: {' '.join(lesson.number for lesson in drawn)}", flush=True)
    return drawn


class _Terminated(KeyboardInterrupt):
    """SIGTERM: ends the run as Ctrl-C does, so that its folders and its kernel go."""


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Within it SIGTERM raises _Terminated, as SIGINT raises KeyboardInterrupt. Signals reach the main thread only."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# --- one lesson --------------------------------------------------------------------------------------------------------


def _run_lesson(
    lesson: build.Lesson, parameters: dict[str, Any], allowed: dict[str, tuple[float, float]], limit_s: int
) -> Outcome:
    """Executes one lesson; a failed one is kept beside the others as `<name>.failed.ipynb`.

    It fails as well where a figure has no alternative text, or a number lies outside the `allowed` range of its name.
    """
    EXECUTED.mkdir(parents=True, exist_ok=True)
    outcome = Outcome(lesson)
    done, failed = EXECUTED / f"{lesson.name}.ipynb", EXECUTED / f"{lesson.name}.failed.ipynb"
    with tempfile.TemporaryDirectory(prefix=".run-", dir=EXECUTED.parent) as folder:
        executed = Path(folder) / "executed.ipynb"
        start = time.perf_counter()
        with _PeakMemory() as memory:
            try:
                made = _execute(lesson, executed, parameters, limit_s)
                outcome.numbers = results.summary(made)
                outcome.failure = "\n".join([*figures_without_text(made), *profiles.outside(outcome.numbers, allowed)])
            except papermill.PapermillExecutionError as error:
                outcome.failure = f"cell [{error.exec_count}]:\n{error.source}\n\n{error.ename}: {error.evalue}"
            except Exception as error:  # a dead kernel, a time-out, a full disk: this lesson's failure, not the run's
                outcome.failure = f"{_last_started(executed)}{type(error).__name__}: {error}"
        outcome.seconds, outcome.peak_mb = time.perf_counter() - start, memory.peak_mb
        for stale in (done, failed):
            stale.unlink(missing_ok=True)
        if executed.exists():
            executed.replace(failed if outcome.failure else done)
    if not sys.stderr.isatty():
        state = "FAILED" if outcome.failure else "done"
        print(f"{lesson.number} {lesson.title}: {state} in {outcome.seconds:.1f} s", flush=True)
    return outcome


def _execute(lesson: build.Lesson, executed: Path, parameters: dict[str, Any], limit_s: int) -> nbformat.NotebookNode:
    """The executed solution version, also written to `executed` cell by cell, run in an empty folder beside it."""
    given, here = executed.with_name("given.ipynb"), executed.with_name("here")
    here.mkdir()
    nbformat.write(build.notebook(lesson, "solution"), given)
    # The sockets have a folder of their own with a short path: systems allow about 100 characters for one.
    with tempfile.TemporaryDirectory(prefix="fliot-") as sockets:
        papermill.execute_notebook(
            given,
            executed,
            parameters,
            kernel_name="python3",
            cwd=here,
            progress_bar={"desc": f"{lesson.number} {lesson.title}", "disable": None, "unit": "cell"},  # None: a terminal only
            execution_timeout=limit_s,
            config=_kernel_settings(sockets),
        )
    return nbformat.read(executed, as_version=4)


def _kernel_settings(sockets: str) -> Config:
    """Kernels are spoken to over sockets in the file system where there are such: a TCP port is open to all on the machine."""
    settings = {"NotebookClient": {"shutdown_kernel": "immediate"}}  # what a lesson leaves behind is in its notebook
    if os.name == "posix" and len(sockets) < 90:
        settings["KernelManager"] = {"transport": "ipc", "ip": f"{sockets}/kernel"}
    return Config(settings)


def _last_started(executed: Path) -> str:
    """The cell that a kernel died in or hung in, for a failure's text; empty where none was begun."""
    if not executed.exists():
        return ""
    cells = nbformat.read(executed, as_version=4).cells
    begun = [cell for cell in cells if cell.cell_type == "code" and cell.metadata.get("papermill", {}).get("start_time")]
    if not begun:
        return ""
    cell = max(begun, key=lambda cell: cell.metadata.papermill.start_time)
    return f"cell number {cells.index(cell) + 1} of the notebook:\n{cell.source}\n\n"


class _PeakMemory:
    """Largest memory of this process's children (the kernel and what it starts) while the block runs, in MB, looked at every
    0.1 s: the system's own record of children is a maximum over all lessons."""

    peak_mb = 0.0

    def __enter__(self) -> "_PeakMemory":
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        this = psutil.Process()
        while not self._over.wait(0.1):
            total = 0
            for child in this.children(recursive=True):
                try:
                    total += child.memory_info().rss
                except psutil.NoSuchProcess:  # it ended between being listed and being asked
                    continue
            self.peak_mb = max(self.peak_mb, total / 1e6)


# --- alternative text --------------------------------------------------------------------------------------------------

WIDGET = "application/vnd.jupyter.widget-view+json"
WIDGETS = "application/vnd.jupyter.widget-state+json"


def figures_without_text(executed: nbformat.NotebookNode) -> list[str]:
    """A sentence for each cell that shows a figure which a person who does not see it cannot read.

    An <img> needs an `alt`, an <svg> a <title> or an `aria-label`; an image of another kind (what matplotlib shows by itself)
    cannot carry one. Looked at are outputs, the widgets that they show, and the pictures of texts.
    """
    widgets = executed.metadata.get("widgets", {}).get(WIDGETS, {}).get("state", {})
    found = []
    for place, cell in enumerate(executed.cells, 1):
        if cell.cell_type == "markdown":
            bare = _bare_markdown(cell.source)
            name = f"text cell number {place}"
        else:
            bare = any(_bare_output(output.get("data", {}), widgets) for output in cell.get("outputs", []))
            name = f"cell [{cell.execution_count}]"
        if bare:
            found.append(f"{name} draws a figure without alternative text; use plots.show(fig, alt)")
    return found


def _bare_output(data: dict[str, Any], widgets: dict[str, Any]) -> bool:
    """Whether an output, by its mime types, shows an image without alternative text."""
    for mime, content in data.items():
        if mime in ("text/html", "image/svg+xml"):
            bare = _bare_html("".join(content))
        elif mime == "text/markdown":
            bare = _bare_markdown("".join(content))
        elif mime == WIDGET:
            bare = _bare_widget(content["model_id"], widgets)
        else:  # an image that carries no text, or a drawing of plotly's or vega's
            bare = not mime.startswith("text/") and mime != "application/json"
        if bare:
            return True
    return False


def _bare_widget(model: str, widgets: dict[str, Any]) -> bool:
    """Whether a widget, or one inside it, shows such an image; an Image widget has no alternative text to carry."""
    state = widgets.get(model, {}).get("state", {})
    if state.get("_model_name") == "ImageModel" or _bare_html(str(state.get("value", ""))):
        return True
    if any(_bare_output(output.get("data", {}), widgets) for output in state.get("outputs", ())):
        return True
    inside = re.findall(r"IPY_MODEL_(\w+)", str(state.get("children", "")))
    return any(_bare_widget(child, widgets) for child in inside)


def _bare_markdown(text: str) -> bool:
    """Whether some Markdown, code in it left aside, holds an image without alternative text."""
    prose = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.S)
    return _bare_html(prose) or re.search(r"!\[\s*\][(\[]", prose) is not None


def _bare_html(text: str) -> bool:
    """Whether some HTML or SVG holds an image without alternative text."""
    reader = _Images()
    reader.feed(text)
    reader.close()
    return reader.bare or reader.untitled > 0


class _Images(HTMLParser):
    """Reads HTML: `bare` where an <img> has no `alt`, `untitled` for each <svg> so far with neither title nor label."""

    def __init__(self) -> None:
        super().__init__()
        self.bare, self.untitled = False, 0
        self._open: list[str] = []  # elements within an <svg> that has no title yet

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: (value or "").strip() for name, value in attrs}
        if (tag == "img" and not given.get("alt")) or tag == "canvas":
            self.bare = True
        elif self._open:
            self._open.append(tag)
        elif tag == "svg" and not (
            given.get("aria-label") or given.get("aria-labelledby") or given.get("aria-hidden") == "true"
        ):
            self.untitled += 1
            self._open = ["svg"]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            del self._open[len(self._open) - 1 - self._open[::-1].index(tag) :]

    def handle_data(self, data: str) -> None:
        if self._open == ["svg", "title"] and data.strip():  # its own title; one deeper inside is a part's tooltip
            self.untitled -= 1
            self._open = []


# --- the table ---------------------------------------------------------------------------------------------------------


def _table(outcomes: list[Outcome]) -> str:
    """The table at the end of a run."""
    width = max(len(outcome.lesson.title) for outcome in outcomes)
    lines = ["", f"    {'lesson':{width}}  {'seconds':>7}  {'peak MB':>7}"]
    for outcome in outcomes:
        state = "FAILED" if outcome.failure else "ok"
        figures = f"{outcome.seconds:7.1f}  {outcome.peak_mb:7.0f}  {state}"
        lines.append(f"{outcome.lesson.number}  {outcome.lesson.title:{width}}  {figures}")
    total = sum(outcome.seconds for outcome in outcomes)
    return "\n".join([*lines, f"    {'together':{width}}  {total:7.1f}"])
