"""What the published study's federation costs by who runs it: Flower's Ray simulation, our two grids, the simulator.

The same in all: clients, 1D-CNN, local epochs, who is drawn, the seed, and so the parameters at the end. Each run is a fresh
process. `python -m benchmarks.flower` prints the section alone; `--install-rivals` first makes Ray's environment, under build/.
"""

import argparse
import json
import math
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib import metadata
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import psutil
import torch

from benchmarks import measure
from benchmarks.__main__ import description
from benchmarks.federation import SILENT, line
from fliot_lab import ROOT
from fliot_lab.data import iot23
from fliot_lab.federation import statistics as sums
from fliot_lab.federation.flower import grid, study
from fliot_lab.federation.flower.strategy import RuleStrategy
from fliot_lab.federation.simulation import Federation
from fliot_lab.models import batched

CLIENTS, ROUNDS, WORKERS = 10, 41, 2
CHOSEN: dict[str, Any] = {"data": "sample", "nodes": CLIENTS}  # all else is the study's

START_TARGET, TWO_TARGET, SIMULATOR_TARGET = 1.0, 2, 8  # seconds; times Ray's rounds per second
CLOSE = 0.02  # how far parameters may lie apart: where a ReLU is at its bend, rounding decides, and 41 rounds add up
LIMIT_S = 180  # for one run, imports and all

RAY, HERE, TWO, SIMULATOR = "Flower, Ray simulation", "grid, in process", f"grid, {WORKERS} workers", "simulator"
HOME = ROOT / "build" / "rivals-ray"
PYTHON = HOME / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
SCRIPT = Path(__file__).parent / "rivals" / "ray_flower.py"
# What the package itself imports there, besides Flower and Ray.
NEEDED = ("numpy", "pandas", "polars", "psutil", "pyarrow", "safetensors", "scikit-learn", "scipy", "torch", "tqdm")

Handles = dict[int, psutil.Process]


# --- a run, as the process that is measured sees it ---------------------------------------------------------------------


class Stopwatch:
    """Notes when the first round begins, when it has ended, and when the last has: times, and CPU seconds of all processes.

    The first round warms up and has a figure of its own; the rates come from the others.
    """

    def __init__(self) -> None:
        self.called = time.perf_counter()

    def begin(self, number: int) -> None:
        """Round `number`, from 1, begins; at the first all is imported, read and connected."""
        self.rounds = number
        if number == 1:
            self.begun = time.perf_counter()
        if number == 2:
            self.warm, self.spent = time.perf_counter(), tree_cpu_seconds()

    def end(self, parameters: torch.Tensor) -> None:
        """The last round has ended, with these parameters (P,)."""
        now, spent = time.perf_counter(), tree_cpu_seconds()
        self.found = {
            "start_s": self.begun - self.called,
            "first_s": self.warm - self.begun,
            "seconds": now - self.warm,
            "cpu_seconds": spent - self.spent,
            "rounds": self.rounds - 1,
            "processes": len(tree(psutil.Process())),
            "parameters": parameters.tolist(),
        }

    def tell(self, *libraries: str) -> None:
        """Prints what was found as a line of JSON, for the process that waits for it."""
        print(json.dumps(self.found | {"versions": [f"{name} {metadata.version(name)}" for name in libraries]}), flush=True)


@contextmanager
def stopped() -> Iterator[Stopwatch]:
    """A stopwatch for the study's server app, whichever grid it runs on."""
    watch = Stopwatch()

    class Timed(RuleStrategy):
        def start(self, *given: Any, **named: Any) -> Any:
            result = super().start(*given, **named)
            watch.end(torch.cat([value.flatten() for value in result.arrays.to_torch_state_dict().values()]))
            return result

        def configure_train(self, server_round: int, *given: Any, **named: Any) -> Any:
            watch.begin(server_round)
            return super().configure_train(server_round, *given, **named)

    with mock.patch.object(study, "RuleStrategy", Timed):
        yield watch


def on_grid(rounds: int, workers: int = 1) -> Stopwatch:
    """The study on our grid."""
    with stopped() as watch:
        grid.run(study.server, study.answer, CLIENTS, CHOSEN | {"rounds": rounds}, workers)
    return watch


def simulated(rounds: int) -> Stopwatch:
    """The study in the simulator, which judges each round on the held-out rows of all clients."""
    watch, chosen = Stopwatch(), study.settings(CHOSEN)
    _, X, y, classes, parts, _ = study.study(chosen["data"], chosen["data-seed"], chosen["rows"], CLIENTS, chosen["seed"])
    kept, others = zip(*(study.held_out(part) for part in parts), strict=True)
    Z = sums.scaler(sum(sums.feature_sums(X[rows]) for rows in kept)).transform(X)
    rest = np.concatenate(others)
    federation = Federation(
        study.network(chosen["seed"], len(classes)),
        batched.Clients.of(Z, y, kept),
        seed=chosen["seed"],
        local=study.local(chosen),
        sampled=chosen["fraction-train"],
        test=(Z[rest], y[rest]),
    )
    for number in range(1, rounds + 1):
        watch.begin(number)
        federation.run(1)
    watch.end(federation.average())
    return watch


OURS: dict[str, Callable[[int], Stopwatch]] = {
    HERE: on_grid,
    TWO: partial(on_grid, workers=WORKERS),
    SIMULATOR: simulated,
}
NAMES = (RAY, *OURS)


# --- a run, as the process that waits for it sees it --------------------------------------------------------------------


class Run(NamedTuple):
    """Figures of one run: seconds until the first round, of it, and of the `rounds` after it; MB of all processes at once."""

    start_s: float
    first_s: float
    seconds: float
    cpu_seconds: float
    rounds: int
    processes: int
    parameters: list[float]
    versions: list[str]
    peak_mb: float

    @property
    def rate(self) -> float:
        """Rounds per second."""
        return self.rounds / self.seconds

    @property
    def cpu_rate(self) -> float:
        """Rounds per CPU second."""
        return self.rounds / self.cpu_seconds


def tree(process: psutil.Process) -> list[psutil.Process]:
    """The process, and all that it and its children have started; none where it has ended."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def tree_cpu_seconds() -> float:
    """User and system seconds of this process and its children, those that still run too."""
    spent = 0.0
    for process in tree(psutil.Process()):
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            spent += sum(process.cpu_times()[:4])  # the last two are those of its children that have ended
    return spent


def footprint_mb(processes: Iterable[psutil.Process]) -> float:
    """Memory of processes together; what several share is counted once where the system can tell."""
    total = 0
    for process in processes:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            found = process.memory_full_info()
            total += getattr(found, "pss", found.rss)
    return total / 1e6


def watched(process: subprocess.Popen[Any], seen: Handles, limit_s: float) -> float:
    """Waits until `process` ends; its peak memory in MB, children included. Notes in `seen` who they were.

    Raises subprocess.TimeoutExpired after `limit_s` seconds.
    """
    peak, end, root = 0.0, time.monotonic() + limit_s, psutil.Process(process.pid)
    while process.poll() is None:
        began = time.monotonic()
        if began > end:
            raise subprocess.TimeoutExpired(process.args, limit_s)
        there = tree(root)
        seen.update((one.pid, one) for one in there)
        peak = max(peak, footprint_mb(there))
        # Looking costs time that those who are measured lack: a twentieth of a core at most.
        pause = max(0.05, 20 * (time.monotonic() - began))
        with suppress(subprocess.TimeoutExpired):
            process.wait(min(pause, max(end - time.monotonic(), 0.0)))
    return peak


def end_all(session: int, seen: Handles) -> None:
    """Kills what is left of a run: those that were seen, and all of its session. RuntimeError where one outlives that.

    Ray's processes leave their process group, and those whose parent dies are nobody's children; the session stays.
    """
    end = time.monotonic() + 10
    while left := [process for process in {*seen.values(), *members(session)} if lives(process)]:
        if time.monotonic() > end:
            raise RuntimeError(f"processes {[process.pid for process in left]} outlive the run that began them; end them")
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.02)


def members(session: int) -> list[psutil.Process]:
    """The processes of a session, which has the number of the one that began it; none where the system has no sessions."""
    found = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, PermissionError):
            if sys.platform != "win32" and os.getsid(process.pid) == session:
                found.append(process)
    return found


def lives(process: psutil.Process) -> bool:
    """Whether it has not ended; one that nobody has asked for its exit status has."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def alone(command: Sequence[str], limit_s: float = LIMIT_S) -> Run:
    """What `command` says of itself in a line of JSON, and its peak memory; none of its processes outlives the call.

    Raises subprocess.SubprocessError where it fails or takes more than `limit_s` seconds.
    """
    environment = os.environ | SILENT | {"PYTHONPATH": str(ROOT)}
    seen: Handles = {}
    # Ray names sockets in its folder, and such names have 107 letters at most.
    short = "/tmp" if os.path.isdir("/tmp") else None
    with tempfile.TemporaryDirectory(dir=short, ignore_cleanup_errors=True) as folder:
        said, wrong = Path(folder, "out"), Path(folder, "err")
        with said.open("wb") as out, wrong.open("wb") as err:
            process = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=out, stderr=err, stdin=subprocess.DEVNULL, start_new_session=True
            )
            try:
                peak = watched(process, seen, limit_s)
            finally:
                end_all(process.pid, seen)
                process.wait()
        answers = [text for text in said.read_text(errors="replace").splitlines() if text.startswith('{"start_s"')]
        if process.returncode or not answers:
            complaint = wrong.read_text(errors="replace")
            raise subprocess.CalledProcessError(process.returncode, list(command), stderr=complaint)
    return Run(**json.loads(answers[-1]), peak_mb=peak)


def command(name: str, rounds: int) -> list[str]:
    """What runs one of NAMES."""
    if name == RAY:
        return [str(PYTHON), str(SCRIPT), str(rounds)]
    return [sys.executable, "-c", f"from benchmarks.flower import OURS; OURS[{name!r}]({rounds}).tell()"]


def reason(error: subprocess.SubprocessError) -> str:
    """Why a run failed, in a line."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"not done after {error.timeout:g} s"
    said = [text.strip() for text in (getattr(error, "stderr", None) or "").splitlines() if text.strip()]
    code = getattr(error, "returncode", 0)
    ended = f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
    return f"{ended}, {said[-1] if said else 'without a word'}"


# --- what is measured ---------------------------------------------------------------------------------------------------


def install() -> None:
    """Makes Ray's environment with pip: Flower and what the package imports, in the versions of this environment."""
    versions = {name: metadata.version(name).partition("+")[0] for name in ("flwr", *NEEDED)}
    wanted = [f"flwr[simulation]=={versions.pop('flwr')}", *(f"{name}=={version}" for name, version in versions.items())]
    venv.create(HOME, clear=True, with_pip=True)
    subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", *wanted], check=True)


def measured(rounds: int, repetitions: int) -> tuple[dict[str, list[Run]], dict[str, list[str]]]:
    """The runs of all that are there, in an order of its own in each repetition, and by name why others did not succeed."""
    found: dict[str, list[Run]] = {name: [] for name in NAMES}
    failed: dict[str, list[str]] = {}
    if not PYTHON.is_file():
        failed[RAY] = ["not installed: python -m benchmarks.flower --install-rivals"]
    names = [name for name in NAMES if name not in failed]
    orders = random.Random(0)
    for _ in range(repetitions):
        for name in orders.sample(names, len(names)):
            try:
                found[name].append(alone(command(name, rounds)))
            except subprocess.SubprocessError as error:
                if name != RAY:  # ours do not fail
                    raise RuntimeError(f"{name}: {reason(error)}") from error
                failed.setdefault(name, []).append(reason(error))
    return found, failed


def median(runs: Sequence[Run], figure: str) -> float:
    """Of one figure of the runs; NaN where there are none."""
    return statistics.median(getattr(run, figure) for run in runs) if runs else math.nan


def apart(found: Mapping[str, Sequence[Run]]) -> float:
    """The largest difference of a parameter between any two runs."""
    ends = [np.asarray(run.parameters) for runs in found.values() for run in runs]
    return max((float(np.abs(one - other).max()) for one, other in combinations(ends, 2)), default=0.0)


# --- the page -----------------------------------------------------------------------------------------------------------


def table_of_runs(found: Mapping[str, Sequence[Run]]) -> str:
    """A line for each of NAMES, medians; those that did not run are there, too."""
    figures = {
        "start-up, s": ("start_s", ".2f"),
        "first round, s": ("first_s", ".2f"),
        "rounds per s": ("rate", ".2f"),
        "rounds per CPU s": ("cpu_rate", ".2f"),
        "peak MB": ("peak_mb", ",.0f"),
        "processes": ("processes", ".0f"),
    }
    rows = []
    for name in NAMES:
        values = ((median(found[name], figure), how) for figure, how in figures.values())
        rows.append([name, *("-" if math.isnan(value) else f"{value:{how}}" for value, how in values)])
    return measure.table(["who runs it", *figures], rows)


def verdicts(found: Mapping[str, Sequence[Run]]) -> str:
    """A line for each target."""
    start, ray = median(found[HERE], "start_s"), median(found[RAY], "rate")
    two, simulator = (median(found[name], "rate") / ray for name in (TWO, SIMULATOR))
    far = apart(found)
    rows = [
        line(f"start-up of the {HERE}", start, f"{start:.2f} s", f"< {START_TARGET:g} s", start < START_TARGET),
        line(f"rounds per s: {TWO}, by Ray", two, f"{two:.2f}", f">= {TWO_TARGET}", two >= TWO_TARGET),
        line(
            f"rounds per s: {SIMULATOR}, by Ray",
            simulator,
            f"{simulator:.2f}",
            f">= {SIMULATOR_TARGET}",
            simulator >= SIMULATOR_TARGET,
        ),
        line("parameters of any two, furthest apart", far, f"{far:.1e}", f"<= {CLOSE:g}", far <= CLOSE),
    ]
    return measure.table(["what", "measured", "target", ""], rows)


def notes(found: Mapping[str, Sequence[Run]], failed: Mapping[str, Sequence[str]], repetitions: int) -> str:
    """What the figures rest on, and what is not there, and why."""
    runs = [run for some in found.values() for run in some]
    spread = {
        what: max(
            max(getattr(run, figure) for run in some) / min(getattr(run, figure) for run in some)
            for some in found.values()
            if some
        )
        for what, figure in (("per s", "rate"), ("per CPU s", "cpu_rate"))
    }
    parts = [
        f"Start-up (after imports, until the first round begins, with the rows read and their sums exchanged), first round and "
        f"rounds per s are wall-clock time; CPU s are those of all processes. Rates leave out the first round and rest on "
        f"{min(run.seconds for run in runs):.1f} s or more. Medians of {repetitions} in turn, which lie up to "
        f"{', '.join(f'{times:.2f} times ({what})' for what, times in spread.items())} apart. Memory that processes share is "
        "counted once."
    ]
    for name, reasons in failed.items():
        tried = f"{len(reasons)} of {len(reasons) + len(found[name])} runs failed" if PYTHON.is_file() else "not measured"
        parts.append(f"{name}: {tried}: {'; '.join(sorted(set(reasons)))}.")
    if versions := sorted({version for run in runs for version in run.versions}):
        parts.append(f"{RAY}: {', '.join(versions)}, {WORKERS} actors of one core each, no dashboard.")
    return " ".join(parts)


def run(rounds: int = ROUNDS, repetitions: int = 3) -> str:
    """The section for results/BENCHMARKS.md."""
    chosen = study.settings(CHOSEN)
    # Simulated captures are made here, once, where they are not there yet: no run pays for it.
    source = iot23.locate(chosen["data"], seed=chosen["data-seed"])
    found, failed = measured(rounds, repetitions)
    P = len(next(run for some in found.values() for run in some).parameters)
    parts = [
        "## Flower",
        f"{measure.origin(source)}\n\n"
        f"{CLIENTS} clients of up to {chosen['rows']:,} rows together, a 1D-CNN of {P:,} parameters, {rounds} rounds. In each, "
        f"{chosen['fraction-train']:.0%} of them train {chosen['epochs']} epochs, batches of {chosen['batch-size']}, and "
        f"{chosen['fraction-evaluate']:.0%} judge on rows that they hold out, on all of which the simulator judges. One thread "
        "a process.",
        table_of_runs(found),
        notes(found, failed, repetitions),
        verdicts(found),
    ]
    return "\n\n".join(part for part in parts if part)


def main() -> None:
    """Prints the section alone, after a line on the machine."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flower")
    parser.add_argument("--install-rivals", action="store_true", help="make Ray's environment, and measure")
    if parser.parse_args().install_rivals:
        install()
    print(f"{description()}\n\n{run()}")


if __name__ == "__main__":
    main()
