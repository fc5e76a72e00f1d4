"""Runs lessons with papermill, all from one process, and keeps what they measured."""

import json
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import papermill
import psutil
from traitlets.config import Config

from fliot_lab import ROOT
from fliot_lab.course import build
from fliot_lab.data import iot23

EXECUTED = ROOT / "build" / "notebooks"
RESULTS = ROOT / "results"
LIMIT_S = {"fast": 600, "full": 7200}  # of one cell; a lesson that hangs must not hang the run


@dataclass
class Outcome:
    """What became of one lesson. `numbers` is what its summary cell printed, `failure` is empty when it ran to its end."""

    lesson: build.Lesson
    seconds: float = 0.0
    peak_mb: float = 0.0
    numbers: dict[str, Any] = field(default_factory=dict)
    failure: str = ""


def run(profile: str, data: str, numbers: list[str], seed: int, *, keep_as_reference: bool = False) -> int:
    """0 when all the lessons with these `numbers` (empty: all) ran to their end, 1 when one failed, 130 after Ctrl-C.

    Executed notebooks go to build/notebooks/, headline numbers to results/<data>-<profile>.json and results/RESULTS.md. Raises
    ValueError for an unknown profile or lesson, iot23.DataMissing where the data asked for are not there.
    """
    if profile not in LIMIT_S:
        raise ValueError(f"profile={profile!r} is unknown; choose one of {', '.join(LIMIT_S)}")
    chosen = build.lessons(numbers)
    if named := os.environ.get("FLIOT_DATA"):  # kernels run in another folder
        os.environ["FLIOT_DATA"] = str(Path(named).expanduser().resolve())
    source = iot23.locate(data, seed=seed)
    print(f"{source.banner}\nprofile {profile}, seed {seed}", flush=True)
    outcomes = []
    try:
        for lesson in chosen:
            outcomes.append(_run_lesson(lesson, {"profile": profile, "seed": seed, "dataset": source.name}, LIMIT_S[profile]))
    except KeyboardInterrupt:
        print("\nStopped. The lessons that were finished are in build/notebooks/, the results are as they were.")
        return 130
    failed = any(outcome.failure for outcome in outcomes)
    _keep(outcomes, source, profile, seed, reference=keep_as_reference and not failed)
    print(_table(outcomes))
    for outcome in outcomes:
        if outcome.failure:
            print(f"\n--- lesson {outcome.lesson.number} failed ---\n{outcome.failure}", file=sys.stderr)
    if failed and keep_as_reference:
        print("results/reference.json is as it was: a reference needs a run without failures", file=sys.stderr)
    return 1 if failed else 0


def _run_lesson(lesson: build.Lesson, parameters: dict[str, Any], limit_s: int) -> Outcome:
    """Executes one lesson; a failed one is kept beside the others as `<name>.failed.ipynb`."""
    EXECUTED.mkdir(parents=True, exist_ok=True)
    outcome = Outcome(lesson)
    done, failed = EXECUTED / f"{lesson.name}.ipynb", EXECUTED / f"{lesson.name}.failed.ipynb"
    bar = {"desc": f"{lesson.number} {lesson.title}", "disable": None, "unit": "cell"}  # None: no bar where no terminal is
    # The sockets have a folder of their own with a short path: systems allow about 100 characters for one.
    with (
        tempfile.TemporaryDirectory(prefix=".run-", dir=EXECUTED.parent) as folder,
        tempfile.TemporaryDirectory(prefix="fliot-") as sockets,
    ):
        given, executed = Path(folder) / "given.ipynb", Path(folder) / "executed.ipynb"
        nbformat.write(build.notebook(lesson), given)
        start = time.perf_counter()
        try:
            with _PeakMemory() as memory:
                papermill.execute_notebook(
                    given,
                    executed,
                    parameters,
                    kernel_name="python3",
                    cwd=EXECUTED,
                    progress_bar=bar,
                    execution_timeout=limit_s,
                    config=_kernel_settings(sockets),
                )
            outcome.numbers = summary(nbformat.read(executed, as_version=4))
        except papermill.PapermillExecutionError as error:
            outcome.failure = f"cell [{error.exec_count}]:\n{error.source}\n\n{error.ename}: {error.evalue}"
        except Exception as error:  # a dead kernel, a time-out, a full disk: this lesson's failure, not the run's
            outcome.failure = f"{type(error).__name__}: {error}"
        outcome.seconds, outcome.peak_mb = time.perf_counter() - start, memory.peak_mb
        for stale in (done, failed):
            stale.unlink(missing_ok=True)
        if executed.exists():
            executed.replace(failed if outcome.failure else done)
    if not sys.stderr.isatty():
        print(
            f"{lesson.number} {lesson.title}: {'FAILED' if outcome.failure else 'done'} in {outcome.seconds:.1f} s", flush=True
        )
    return outcome


def _kernel_settings(sockets: str) -> Config:
    """Kernels are spoken to over sockets in the file system where there are such: a TCP port is open to all on the machine."""
    settings = {"NotebookClient": {"shutdown_kernel": "immediate"}}  # what a lesson leaves behind is in its notebook
    if os.name == "posix" and len(sockets) < 90:
        settings["KernelManager"] = {"transport": "ipc", "ip": f"{sockets}/kernel"}
    return Config(settings)


def summary(executed: nbformat.NotebookNode) -> dict[str, Any]:
    """The headline numbers that the cell tagged `summary` printed as one JSON object. Raises ValueError where it did not."""
    cells = [cell for cell in executed.cells if "summary" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ValueError(f"a lesson has one cell tagged summary, this one has {len(cells)}")
    text = "".join(output.text for output in cells[0].outputs if output.output_type == "stream" and output.name == "stdout")
    try:
        numbers = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"the summary cell must print one JSON object and printed {text[:80]!r}") from error
    if not isinstance(numbers, dict):
        raise ValueError(f"the summary cell must print a JSON object and printed a {type(numbers).__name__}")
    return numbers


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


# --- results -----------------------------------------------------------------------------------------------------------


def _keep(outcomes: list[Outcome], source: iot23.Source, profile: str, seed: int, *, reference: bool) -> None:
    """Writes the results of the lessons that ran to their end; those of other lessons stay as an earlier run left them."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{source.name}-{profile}.json"
    kept = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    lessons = kept.get("lessons", {})
    for outcome in outcomes:
        if not outcome.failure:
            lessons[outcome.lesson.name] = {
                "title": outcome.lesson.title,
                "seed": seed,
                "seconds": round(outcome.seconds, 1),
                "peak_mb": round(outcome.peak_mb),
                "numbers": outcome.numbers,
            }
    found = {"data": source.name, "simulated": source.simulated, "profile": profile, "lessons": dict(sorted(lessons.items()))}
    _write(path, json.dumps(found, indent=1) + "\n")
    files = [RESULTS / f"{data}-{kind}.json" for data in ("iot23", "sample") for kind in LIMIT_S]
    sets = [json.loads(file.read_text("utf-8")) for file in files if file.is_file()]
    _write(RESULTS / "RESULTS.md", results_page(sets))
    if reference:
        whole = RESULTS / "reference.json"
        known = json.loads(whole.read_text("utf-8")) if whole.is_file() else {}
        _write(whole, json.dumps(known | {path.stem: found}, indent=1, sort_keys=True) + "\n")


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    partial.write_text(text, "utf-8")
    partial.replace(path)


def results_page(sets: list[dict[str, Any]]) -> str:
    """The results as a page of Markdown: a table for each lesson of each set of data and profile."""
    lines = ["# Results", "", "What `make all` measured on this machine. An interval stands beside a figure that has one."]
    for found in sets:
        kind = "SIMULATED captures: values, and no verdict on real networks" if found["simulated"] else "real IoT-23 captures"
        lines += ["", f"## {found['data']}, profile {found['profile']} ({kind})"]
        for name, lesson in found["lessons"].items():
            lines += ["", f"### {name[:2]} {lesson['title']}", ""]
            lines += [f"Seed {lesson['seed']}, {lesson['seconds']} s, {lesson['peak_mb']} MB.", ""]
            lines += ["| figure | value |", "|---|---|"]
            lines += [f"| {figure} | {_shown(value)} |" for figure, value in lesson["numbers"].items()]
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    """A number, a number with its interval ({value, low, high}), or anything else as it is."""
    if isinstance(value, dict) and "value" in value:
        low, high = value.get("low"), value.get("high")
        return _shown(value["value"]) + ("" if low is None else f" [{_shown(low)}, {_shown(high)}]")
    if isinstance(value, bool):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(outcomes: list[Outcome]) -> str:
    """The table at the end of a run."""
    width = max(len(outcome.lesson.title) for outcome in outcomes)
    lines = ["", f"    {'lesson':{width}}  {'seconds':>7}  {'peak MB':>7}"]
    for outcome in outcomes:
        state = "FAILED" if outcome.failure else "ok"
        figures = f"{outcome.seconds:7.1f}  {outcome.peak_mb:7.0f}  {state}"
        lines.append(f"{outcome.lesson.number}  {outcome.lesson.title:{width}}  {figures}")
    total = sum(outcome.seconds for outcome in outcomes)
    return "\n".join(
        [
            *lines,
            f"    {'together':{width}}  {total:7.1f}",
            "",
            "Executed lessons: build/notebooks/   Numbers: results/RESULTS.md",
        ]
    )
