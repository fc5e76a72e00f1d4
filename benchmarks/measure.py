"""The measuring harness: CPU seconds in interleaved repetitions, peak memory in fresh processes, tables.

Wall-clock time says what else the machine was doing; CPU seconds (user + system, children included) say what the work costs.
Contenders take turns, so that a slow minute of the machine is everybody's. This module imports little: it is part of every
process whose memory it measures.
"""

import gc
import importlib
import json
import os
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING, cast

from fliot_lab import ROOT

if TYPE_CHECKING:
    from fliot_lab.data.iot23 import Source


def cpu_seconds() -> float:
    """User and system seconds of this process since it started, with those of its children that have ended."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def origin(source: "Source") -> str:
    """What the data are, without where they lie on this machine: the page that says it is committed."""
    return source.banner.replace(f" in {source.root}", "")


def interleaved(
    contenders: Mapping[str, Callable[[], object]],
    repetitions: int = 5,
    check: Callable[[str, object], object] = lambda name, result: None,
) -> dict[str, list[float]]:
    """CPU seconds of each contender, one for each repetition, after one that does not count.

    A repetition runs all of them, in an order of its own, so that none always follows the same one. `check(name, result)`
    sees what each returned and raises where that is wrong; neither it nor freeing the result is timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    orders = random.Random(0)
    for repetition in range(repetitions + 1):
        gc.collect()
        for name in orders.sample(list(contenders), len(contenders)):
            start = cpu_seconds()
            result = contenders[name]()
            spent = cpu_seconds() - start
            check(name, result)
            del result
            if repetition:
                seconds[name].append(spent)
    return seconds


def ratios(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Median of each contender divided by the median of the first, which is the yardstick."""
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    first = next(iter(medians.values()))
    return {name: median / first for name, median in medians.items()}


def peak_mb(function: Callable[..., object], *arguments: str, repetitions: int = 3) -> tuple[float, int]:
    """(median peak memory in MB, result) of `function(*arguments)`, each repetition alone in a fresh process.

    The result is what the function returned if that is a number, else how long it is. The function is imported by its name
    in the process, so the libraries that it needs are part of its memory; let it import them itself.
    """
    command = [sys.executable, "-m", "benchmarks.measure", function.__module__, function.__name__, *arguments]
    answers = []
    for _ in range(repetitions):
        answer = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        answers.append(json.loads(answer.stdout.splitlines()[-1]))
    return statistics.median(answer["peak_mb"] for answer in answers), answers[-1]["size"]


def size(result: object) -> int:
    """The result itself if it is a whole number, else how long it is."""
    return result if isinstance(result, int) else len(cast(Sized, result))


def own_peak_mb() -> float:
    """Largest memory that this process has had, in MB (10**6 bytes)."""
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / 1e6
    status = Path("/proc/self/status")
    # On Linux ru_maxrss starts from the memory of the process that started this one; VmHWM does not.
    if status.is_file() and (found := re.search(r"VmHWM:\s*(\d+) kB", status.read_text())):
        return int(found[1]) * 1024 / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The rows as a table in Markdown, padded so that it reads well as plain text; all columns but the first to the right."""
    cells = [list(columns), *(list(row) for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(columns))]
    lines = [
        "| " + " | ".join(f"{cell:{'<' if place == 0 else '>'}{widths[place]}}" for place, cell in enumerate(row)) + " |"
        for row in cells
    ]
    rule = "|" + "|".join("-" * (width + 1) + ("-" if place == 0 else ":") for place, width in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


if __name__ == "__main__":
    module, name, *arguments = sys.argv[1:]
    returned = getattr(importlib.import_module(module), name)(*arguments)
    print(json.dumps({"peak_mb": own_peak_mb(), "size": size(returned)}))
