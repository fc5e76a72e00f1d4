"""`python -m benchmarks`: runs every benchmark of this folder in turn, prints its tables, writes results/BENCHMARKS.md."""

import importlib
import os
import pkgutil
import platform
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np

import benchmarks
from benchmarks import measure
from fliot_lab import ROOT

TITLE = "# Benchmarks\n\nWritten by `make bench`. CPU seconds are user + system, of the process and its children."
LIBRARIES = ("numpy", "pandas", "polars", "pyarrow", "duckdb", "torch", "scikit-learn", "flwr")
PAGE = ROOT / "results" / "BENCHMARKS.md"


def names() -> list[str]:
    """The modules of this folder that measure something, in alphabetical order."""
    found = sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__))
    return [name for name in found if name not in ("__main__", "measure")]


def write_page(sections: Sequence[str], page: Path = PAGE) -> None:
    """Writes the sections under a heading; `page` appears, or changes, when all of it is written."""
    page.parent.mkdir(exist_ok=True)
    partial = page.with_name(f".{page.name}.{os.getpid()}.part")
    try:
        partial.write_text("\n\n".join([TITLE, *sections]) + "\n", encoding="utf-8")
        partial.replace(page)
    finally:
        partial.unlink(missing_ok=True)


def description() -> str:
    """What the figures were measured with: date, cores, versions, and how fast this machine does two things all know."""
    versions = []
    for name in LIBRARIES:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            versions.append(f"{name} missing")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    multiplied, copied = calibration()
    return "\n".join(
        [
            f"Measured {datetime.now(UTC):%Y-%m-%d} on {cores} cores, {platform.system()} {platform.machine()}, Python "
            f"{platform.python_version()}, {', '.join(versions)}.",
            "",
            f"CALIBRATION: GEMM {multiplied:.1f} GFLOP/s, memory copy {copied:.1f} GB/s, both per CPU second (float32, 1024 x "
            "1024; 128 MB, each byte counted once). Compare CPU seconds between machines in proportion to these.",
        ]
    )


def calibration(repetitions: int = 7) -> tuple[float, float]:
    """(GFLOP, GB copied) per CPU second of this machine: medians for a float32 matrix product and for a copy of 128 MB."""
    matrix = np.random.default_rng(0).standard_normal((1024, 1024), dtype=np.float32)
    product, source, target = np.empty_like(matrix), np.ones(16_000_000), np.zeros(16_000_000)

    def multiply() -> None:
        for _ in range(3):
            np.matmul(matrix, matrix, out=product)

    seconds = measure.interleaved({"multiply": multiply, "copy": lambda: np.copyto(target, source)}, repetitions)
    return 3 * 2 * 1.024**3 / statistics.median(seconds["multiply"]), 0.128 / statistics.median(seconds["copy"])


def main() -> None:
    """Measures and prints. A target that is missed is a figure in a table, not an error."""
    sections = [description()]
    print(sections[0], flush=True)
    for name in names():
        sections.append(importlib.import_module(f"benchmarks.{name}").run())
        print(f"\n{sections[-1]}", flush=True)
    write_page(sections)
    print(f"\nWritten to {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
