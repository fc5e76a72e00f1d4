"""Records of hardware and of programs: boards told apart by their clocks, boards in use, traces of system calls.

Real ones where they are present, in `hw/` and `syscalls/` of the folder that FLIOT_DATA names; simulated ones elsewhere, made
when they are asked for. Each `Source` says in its banner which of the two it is. Nothing here fetches anything.
"""

import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from fliot_lab import ROOT
from fliot_lab.data import setups
from fliot_lab.data.iot23 import DataMissing
from fliot_lab.data.sample import hosts
from fliot_lab.data.sample.folders import check_whole
from fliot_lab.data.sample.programs import ATTACKS, NORMAL

DATASETS = ("auto", "iot23", "hardware", "sample")
CITATIONS = (
    "LwHBench: Sanchez Sanchez et al. 2023, doi 10.1016/j.iot.2023.100764",
    "Raspberry Pi usage: Telecommunications Research Lab, Queen's University",
    "ADFA-LD: Creech and Hu 2013, doi 10.1109/WCNC.2013.6555301",
)
CYCLES, IDENTICAL = Path("hw/rpi_cycles/lwhbench_test_dataset.csv"), Path("hw/rpi_cycles/stability_test_4min_2.csv")
USAGE, CALLS = Path("hw/rpi_usage/data"), Path("syscalls/ADFA-LD.zip")
TRAINING, VALIDATION, ATTACK = "training", "validation", "attack"
_PARTS = {f"{part.capitalize()}_Data_Master": part for part in (TRAINING, VALIDATION, ATTACK)}
#: How exactly a program can say when a second is over: chosen, as much as the crystals of two boards differ.
JITTER_PPM = 8.0
_TRACE = ["part", "kind", "run", "name", "calls"]
#: How long the telemetry is that goes with a simulated set-up, in hours: chosen.
HOURS = 2.0


@dataclass(frozen=True)
class Source:
    """Where the records of this run come from: the folder `root` for real ones, a `seed` for simulated ones."""

    root: Path | None
    seed: int
    name: Literal["hardware", "sample"]
    simulated: bool
    banner: str


def locate(dataset: str = "auto", *, seed: int = 7) -> Source:
    """The source of records that `dataset` asks for: `hardware` the real ones, `sample` simulated ones made from `seed`.

    `auto` and `iot23` (real captures, in the lessons' words) take the real ones where all of them are present: CYCLES,
    IDENTICAL, USAGE and CALLS below `$FLIOT_DATA` or the checkout's data/raw. Raises DataMissing, and ValueError for another
    word.
    """
    if dataset not in DATASETS:
        raise ValueError(f"dataset={dataset!r} is unknown; choose one of {', '.join(DATASETS)}")
    named = os.environ.get("FLIOT_DATA")
    root = Path(named).expanduser() if named else ROOT / "data" / "raw"
    missing = [str(part) for part in (CYCLES, IDENTICAL, USAGE, CALLS) if not (root / part).exists()]
    if dataset != "sample" and not missing:
        return Source(root, seed, "hardware", False, f"Real data: hw/ and syscalls/ in {root}. {'; '.join(CITATIONS)}")
    if dataset == "hardware":
        raise DataMissing(
            f"{root} lacks {', '.join(missing)}. Name the folder that holds hw/ and syscalls/ in FLIOT_DATA; "
            "dataset='sample' needs none"
        )
    check_whole("seed", seed, 0)
    warning = "values here say nothing about real boards or programs"
    return Source(None, seed, "sample", True, f"SIMULATED records, made from seed {seed} by fliot_lab.data.sample: {warning}")


# --- boards told apart by their clocks ----------------------------------------------------------------------------------


def boards(source: Source, *, identical: bool = False) -> pd.DataFrame:
    """Measurements of single boards, one a row: board, kind, turn (a board's own order in time, from 0), temperature_c, cycles.

    `cycles` is how much of its own clock a board spends on a fixed task: kinds of board differ by far, boards of a kind by
    parts in ten thousand. Real: 37 boards of three kinds, 400 each; with `identical` 5 of one kind, 1,600 each. Addresses of
    boards become numbers in their order. Raises ValueError where a file is not laid out so.
    """
    if source.root is None:
        return _simulated_boards(source.seed, identical)
    path = source.root / (IDENTICAL if identical else CYCLES)
    try:
        table = pd.read_csv(path, header=None)
        wanted = table[[2, 5, 6]] if identical else table[[0, 1, 2]]
        found = wanted.set_axis(["temperature_c", "cycles", "address"], axis="columns")
        found = found.astype({"temperature_c": np.float64, "cycles": np.float64})
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{path}: expected rows that end in temperature, cycles and address, without a header: {error}"
        ) from error
    numbers, _ = pd.factorize(found["address"], sort=True)
    found["board"] = [f"board {number + 1:02d}" for number in numbers]
    found["turn"] = found.groupby("board").cumcount()
    found["kind"] = found["board"].map(_kinds(found.groupby("board")["cycles"].median()))
    return found[["board", "kind", "turn", "temperature_c", "cycles"]].sort_values(["board", "turn"], ignore_index=True)


def _kinds(medians: "pd.Series[float]") -> dict[Any, str]:
    """Board -> kind: a new kind begins where the cycles of one board are more than half as many again as of the one before."""
    ordered = medians.sort_values()
    number = (ordered.to_numpy() > 1.5 * ordered.shift(fill_value=np.inf).to_numpy()).cumsum()
    return {board: f"kind {place + 1}" for board, place in zip(ordered.index, number, strict=True)}


def _simulated_boards(seed: int, identical: bool) -> pd.DataFrame:
    """Boards of three invented devices, or of one, that count their cycles while a second passes; each in a room of its own."""
    nominal = {"JuntoxCam": 9.0e8} if identical else {"JuntoxCam": 9.0e8, "KestwynThermostat": 1.2e9, "WumbrelSpeaker": 1.4e9}
    frames = []
    for number, (device, speed) in enumerate(nominal.items()):
        for unit in range(5):
            rows = hosts.telemetry(seed, device=device, unit=unit, hours=24, every=216)
            frame = pd.DataFrame(
                {"board": f"board {5 * number + unit + 1:02d}", "kind": f"kind {number + 1}"}, index=rows.index
            )
            frame["turn"], frame["temperature_c"] = np.arange(len(rows)), rows["temperature_c"]
            jitter = np.random.default_rng([seed, number, unit]).normal(0, JITTER_PPM, len(rows))
            frame["cycles"] = speed * (1 + (rows["clock_ppm"] + jitter) / 1e6)
            frames.append(frame)
    return pd.concat(frames, ignore_index=True)


# --- boards in use ------------------------------------------------------------------------------------------------------


def usage(source: Source) -> dict[tuple[str, str], pd.DataFrame]:
    """(device, run) -> telemetry of boards in use, in the columns of `features.devices.hosts`; NaN where not recorded.

    Real: 3 Raspberry Pi 4 in 48 runs of some seven seconds a row. Memory was recorded in tenths of a percent: the megabytes
    here take its size from the folder's name. What the disk read and wrote is of the one program that recorded. Raises
    ValueError where a file lacks a column.
    """
    if source.root is None:
        devices = ("JuntoxCam", "KestwynThermostat", "WumbrelSpeaker")
        return {
            (device, f"run {run}"): hosts.telemetry(source.seed, device=device, run=run, hours=2).drop(columns="infected")
            for device in devices
            for run in range(8)
        }
    paths = sorted((source.root / USAGE).glob("RPi*/usage_data_*.csv"))
    if not paths:
        raise DataMissing(f"{source.root / USAGE} holds no RPi*/usage_data_*.csv")
    return {(path.parent.name, path.stem.removeprefix("usage_data_")): _usage(path) for path in paths}


def _usage(path: Path) -> pd.DataFrame:
    """The telemetry of one run; its first row, before which nothing was counted, is left out."""
    table = pd.read_csv(path)
    counted = {
        "sent_bytes": "net_sent",
        "received_bytes": "net_recv",
        "read_bytes": "io_counters_read_bytes_ipykernel",
        "written_bytes": "io_counters_write_bytes_ipykernel",
    }
    if missing := [name for name in ("time", "cpu", "memory", *counted.values()) if name not in table]:
        raise ValueError(f"{path}: expected the columns {', '.join(missing)}, which it lacks")
    size = re.match(r"RPi(\d+)_", path.parent.name)
    total = 1024.0 * int(size[1]) if size else np.nan
    found = pd.DataFrame(
        {
            "ts": pd.to_datetime(table["time"], unit="s", utc=True).dt.as_unit("us"),
            "cpu_percent": table["cpu"].astype(np.float64),
            "memory_used_mb": table["memory"] / 100 * total,
            "memory_total_mb": total,
            "temperature_c": table.get("temp", np.nan),
            "processes": np.nan,
        }
    )
    for name, column in counted.items():
        found[name] = table[column].diff().clip(lower=0)  # a counter starts anew with the machine
    found["clock_ppm"] = np.nan
    return found.iloc[1:].drop_duplicates("ts").reset_index(drop=True)


# --- system calls -------------------------------------------------------------------------------------------------------


def traces(source: Source) -> pd.DataFrame:
    """Traces of system calls, one a row: part (training, validation, attack), kind, run, name, calls (an int64 array of each).

    `kind` is "normal" or the kind of attack; attacks of a kind were done in some ten runs, whose traces belong together, while
    a normal trace is a run of its own. Real: ADFA-LD, read from its archive: 833, 4,372 and 746 of six kinds. Raises ValueError
    where the archive is none, or holds a file that is no trace.
    """
    if source.root is None:
        return _simulated_traces(source.seed)
    rows, path = [], source.root / CALLS
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                part, *between = Path(name).parts[1:-1] or ("",)
                if part in _PARTS and name.endswith(".txt"):
                    run = between[0] if between else Path(name).stem
                    kind = run.rsplit("_", 1)[0] if between else NORMAL
                    calls = _calls(archive.read(name), f"{path}, {name}")
                    rows.append((_PARTS[part], kind, run, Path(name).stem, calls))
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: this is no archive of ADFA-LD: {error}") from error
    return pd.DataFrame(rows, columns=_TRACE)


def _calls(text: bytes, where: str) -> npt.NDArray[np.int64]:
    try:
        return np.array([int(word) for word in text.split()], dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{where}: expected numbers of system calls with spaces between them: {error}") from error


def _simulated_traces(seed: int) -> pd.DataFrame:
    """Traces of one invented camera's program, healthy and attacked."""
    wanted = [(TRAINING, NORMAL, run, f"SIM-{run:04d}") for run in range(100)]
    wanted += [(VALIDATION, NORMAL, run, f"SIM-{run:04d}") for run in range(100, 400)]
    wanted += [(ATTACK, kind, run, f"{kind}_{1 + run // 2}") for kind in ATTACKS for run in range(20)]
    rows = [
        (part, kind, group, f"SIM-{run:04d}", hosts.system_calls(seed, kind=kind, run=run)) for part, kind, run, group in wanted
    ]
    return pd.DataFrame(rows, columns=_TRACE)


# --- one simulated device by every channel ------------------------------------------------------------------------------


def observations(seed: int, device: str, run: int) -> dict[str, Any]:
    """Channel -> what its `read` takes, of one simulated device: its set-up number `run`, and a record of its own computer.

    Packets and flows come from the set-up's capture, telemetry from HOURS of another board of the type in another room for
    each run, calls from a trace of its program. The captures are made on first use. Raises ValueError where the device is
    unknown and where it has no such run.
    """
    check_whole("run", run, 0)
    telemetry = hosts.telemetry(seed, device=device, unit=run, run=run, hours=HOURS)
    folder = setups.locate("sample", seed=seed).root / device
    captures = sorted(folder.glob("Setup-*.pcap"))
    if run >= len(captures):
        raise ValueError(f"run={run}: {device} has {len(captures)} simulated set-ups, numbered from 0")
    telemetry.attrs["source"] = f"{device}, run {run}"
    calls = hosts.system_calls(seed, device=device, run=run)
    return {"packets": captures[run], "flows": captures[run], "hosts": telemetry, "calls": calls}
