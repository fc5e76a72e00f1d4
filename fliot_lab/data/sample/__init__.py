"""The embedded default data set: simulated captures in IoT-23's layout, made from a seed in seconds.

Nobody's traffic was recorded for it. It lets every lesson run anywhere; a number measured on it says nothing about real
networks.
"""

import os
import shutil
from numbers import Integral
from pathlib import Path

import numpy as np

from fliot_lab.data import zeek
from fliot_lab.data.layout import JOIN, UNSET
from fliot_lab.data.sample.captures import CAPTURES, DEFAULT_SIZE, SMALLEST_SIZE, Capture, allotted, flows_of

__all__ = ["CAPTURES", "DEFAULT_SIZE", "SMALLEST_SIZE", "generate"]

CONN_LOG = "conn.log.labeled"
README = "README.txt"
#: The first line of README.txt, by which `generate` knows a folder that it made and may make anew.
MARK = "Simulated network captures, made by fliot_lab.data.sample"
PREFIX = "SIM-"


def generate(out: Path, seed: int, size: int = DEFAULT_SIZE) -> list[Path]:
    """The paths of eight simulated captures' `conn.log.labeled` under the folder `out`, which hold `size` flows in all.

    The same seed and size give the same bytes. A folder that `generate` made before is made anew; each log appears when it is
    complete. Raises ValueError where the seed is not a whole number from 0, where `size` is not a whole number from
    SMALLEST_SIZE, and where `out` is a file or a folder with anything else in it.
    """
    _check("seed", seed, 0)
    _check("size", size, SMALLEST_SIZE)
    out = Path(out)
    _check_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    _write(out / README, f"{MARK}\n\nUnfinished: run it again.\n")
    for stale in out.glob(f"{PREFIX}*"):
        if stale.name not in {capture.name for capture in CAPTURES}:
            shutil.rmtree(stale)
    streams = np.random.SeedSequence(int(seed)).spawn(len(CAPTURES))
    paths = [
        _write_capture(out, capture, rows, np.random.default_rng(stream))
        for capture, rows, stream in zip(CAPTURES, allotted(int(size)), streams, strict=True)
    ]
    _write(out / README, _about(int(seed), int(size)))
    return paths


def _check(name: str, value: object, least: int) -> None:
    """Raises ValueError unless `value` is a whole number and at least `least`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}={value!r}: expected a whole number, {least} or more")


def _check_folder(out: Path) -> None:
    """Raises ValueError unless `out` is free, empty, or a folder that `generate` made."""
    if not out.exists():
        return
    if not out.is_dir():
        raise ValueError(f"{out} is a file; name a folder for the simulated captures")
    readme = out / README
    ours = readme.is_file() and readme.read_text(encoding="utf-8", errors="replace").startswith(MARK)
    if not ours and any(out.iterdir()):
        raise ValueError(f"{out} holds other things; name a new or empty folder for the simulated captures")


def _write_capture(out: Path, capture: Capture, rows: list[int], rng: np.random.Generator) -> Path:
    """The path of the capture's conn log, written with the capture's own footer."""
    path = out / capture.name / capture.folder / CONN_LOG
    partial = path.with_name(f".{CONN_LOG}.{os.getpid()}.simulated")
    try:
        zeek.write_conn_log(flows_of(capture, rows, rng), partial)
        if capture.footer != "plain":
            body, _, close = partial.read_bytes().removesuffix(b"\n").rpartition(b"\n")
            label = f"{JOIN}{capture.benign}{JOIN}{UNSET}\n".encode()
            partial.write_bytes(body + b"\n" + (close + label if capture.footer == "labelled" else b""))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _write(path: Path, text: str) -> None:
    """Writes `text` to `path`, which appears when it is complete."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_text(text, encoding="utf-8", newline="\n")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _about(seed: int, size: int) -> str:
    """The README of the folder: what this is, and what it is not."""
    return f"""{MARK}

These captures are SIMULATED: computed from protocol rules with seed {seed}, {size} flows in all. No device, no malware
and no network was recorded, and no row is taken from a real capture. They have the layout of IoT-23's labelled Zeek logs
(conn.log.labeled), so that the same code reads both. What is measured on them is an example, never evidence about real
networks.

Remote addresses are reserved for documentation and benchmarks (RFC 5737, RFC 2544) and belong to nobody.
"""
