"""Simulated hosts: what a device's own computer would report, as telemetry over hours and as traces of system calls.

The devices are those of `things`, so that one seed gives a device's packets, load, heat and programs. Every device has a Linux
processor here; where its network code is a small stack, that is its radio's. The models are first principles with chosen
numbers: a load with a daily rhythm, heat that follows it with a lag, a crystal that drifts with heat, and malware on top.
Nothing is measured on a real device.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from numpy.random import Generator
from scipy.signal import lfilter

from fliot_lab import atomic
from fliot_lab.data.sample import programs
from fliot_lab.data.sample.folders import README, check_whole, claim
from fliot_lab.data.sample.programs import ATTACKS, KINDS, NORMAL
from fliot_lab.data.sample.setups import asked_for
from fliot_lab.data.sample.things import BY_NAME, KERNEL, LINUX, LINUX_LATER, LINUX_NEW, LINUX_OLD, TINY, Thing

Array = npt.NDArray[Any]

#: The first line of README.txt, by which `write_hosts` knows a folder that it made and may make anew.
MARK = "Simulated host records, made by fliot_lab.data.sample"
START = "2024-05-06"  # chosen; midnight, UTC
MOST_HOURS = 31 * 24.0
FEWEST_CALLS, MOST_CALLS = 1, 100_000


@dataclass(frozen=True)
class Board:
    """A computer in a device. All numbers are chosen."""

    memory: float  # MB in all
    used: float  # share of it in use at rest
    processes: int
    load: float  # CPU % at rest
    heat: float  # degrees that a CPU load of 100 % adds
    lag: float  # seconds in which the temperature makes 63 % of its way


BOARDS = {
    LINUX: Board(59.9, 0.52, 46, 9.0, 24.0, 240.0),
    LINUX_OLD: Board(28.3, 0.61, 33, 14.0, 18.0, 180.0),
    LINUX_NEW: Board(494.6, 0.31, 88, 6.0, 34.0, 320.0),
    KERNEL: Board(122.4, 0.44, 27, 11.0, 20.0, 420.0),
    TINY: Board(13.9, 0.66, 21, 5.0, 12.0, 150.0),
}
SMALL = Board(28.1, 0.55, 24, 6.0, 14.0, 160.0)  # beside a newer small stack


@dataclass(frozen=True)
class Malware:
    """What a family does to a host that it has infected. Chosen, but for what is said beside it."""

    load: float  # CPU % while it scans
    duty: float  # share of the time in which it scans, in stretches of minutes
    packets: float  # packets a second while it scans
    size: int  # bytes of each
    beat: float  # bytes a second to its controller, all the time
    memory: float  # MB
    processes: int
    floods: float  # attacks a day on command, of a minute or so each
    written: float  # bytes a second to flash


#: Mirai scans with 160 bare SYNs of 40 bytes a second (bot/scanner.h, SCANNER_RAW_PPS), 54 with the Ethernet header, and
#: Okiru as its descendant; Torii does not scan and hides (Avast 2018); Hide and Seek speaks peer to peer and stays in flash.
MALWARE = {
    "mirai": Malware(9.0, 0.95, 160, 54, 0.3, 0.6, 3, 3.0, 0.0),
    "okiru": Malware(12.0, 0.8, 300, 54, 0.3, 0.5, 2, 1.0, 0.0),
    "hakai": Malware(7.0, 0.4, 40, 74, 0.5, 0.9, 2, 4.0, 0.0),
    "torii": Malware(0.0, 0.0, 0, 0, 6.0, 1.4, 2, 0.0, 2.0),
    "hide-and-seek": Malware(5.0, 0.5, 60, 74, 90.0, 1.8, 4, 0.0, 40.0),
}
# Bytes a second of a minute's flood from a small device, and its load: chosen.
FLOOD_BYTES, FLOOD_LOAD = 250_000.0, 45.0


# --- telemetry ----------------------------------------------------------------------------------------------------------


def telemetry(
    seed: int,
    *,
    device: str = "JuntoxCam",
    hours: float = 24.0,
    infected_at: float | None = None,
    malware: str = "mirai",
    unit: int = 0,
    run: int = 0,
    every: float = 10.0,
    room_c: float | None = None,
) -> pd.DataFrame:
    """What a simulated device reports every `every` seconds over `hours`, from midnight, one row an interval.

    Columns: ts (UTC, the interval's end), cpu_percent, memory_used_mb, memory_total_mb, temperature_c (of the processor),
    processes, sent_bytes, received_bytes, read_bytes, written_bytes (in the interval), clock_ppm (how fast the board's crystal
    runs against true time), infected (bool). `unit` is which board of the type: boards differ a little in heat and crystal;
    `run` is which recording of it. `room_c` is the mean temperature of the room, drawn by unit and run where None: it moves
    temperature_c and clock_ppm as much as the device does. With `infected_at`, in hours, `malware` (a name in MALWARE) runs
    from there on; the rows before are those without it. Raises ValueError where an argument is out of its range.
    """
    _check_telemetry(seed, hours, infected_at, malware, unit, run, every, room_c)
    thing = _thing(device)
    board, code = board_of(thing), zlib.crc32(device.encode())
    traits = np.random.default_rng([int(seed), code, int(unit)])
    rng, hostile = np.random.default_rng([int(seed), code, int(unit), int(run)]).spawn(2)
    rows = max(1, round(hours * 3600 / every))
    seconds = every * np.arange(1, rows + 1)
    work = _daily_work(rng, thing, board, seconds, every)
    infected = np.zeros(rows, bool) if infected_at is None else seconds > infected_at * 3600
    if infected.any():
        _infect(hostile, MALWARE[malware], work, infected, every)
    work["cpu_percent"] = np.clip(work["cpu_percent"], 0.3, 100.0)
    room = rng.uniform(17, 28) if room_c is None else room_c
    heat, crystal = _warmth(traits, rng, board, work["cpu_percent"], room, seconds, every)
    return _frame(board, work, heat, crystal, infected, seconds, every)


def _daily_work(rng: Generator, thing: Thing, board: Board, seconds: Array, every: float) -> dict[str, Array]:
    """Column -> values (n,) of a healthy device: rest, use by day, calls home, and jobs on the hour and at night."""
    rows, hour = len(seconds), seconds / 3600 % 24
    own = np.random.default_rng(zlib.crc32(thing.name.encode()))
    busy = 1 + 0.1 * sum(call.rounds * call.times for call in thing.calls)  # the talkative have more to do
    awake = 0.5 + 0.5 * np.cos(2 * np.pi * (hour - 19.5) / 24)  # most in the evening
    used = np.convolve(rng.random(rows) < 0.02 * busy * (0.1 + awake) * every / 10, np.ones(max(1, int(40 / every))))[:rows]
    used = np.minimum(used, 2.0) * own.uniform(0.8, 1.2)
    hourly = ((seconds + own.uniform(0, 3600)) % 3600) < 30  # logs turned over
    nightly = (hour > 3.2) & (hour < 3.2 + own.uniform(0.1, 0.3) * rng.lognormal(0, 0.4))  # a look for updates
    # Households and days differ: two recordings of one type may be further apart than two siblings.
    strain, talk, extra = rng.lognormal(0, 0.1), rng.lognormal(0, 0.3), int(rng.integers(-2, 3))
    effort = rng.lognormal(0, 0.2)  # as much as there is to turn over
    load = strain * board.load * own.uniform(0.85, 1.15) + _wander(rng, rows, every, 100, 0.8 + 0.04 * board.load)
    load = load + 6 * own.uniform(0.7, 1.3) * used + effort * (18 * hourly + 25 * nightly)
    chatter = rng.lognormal(0, 0.35, rows) * every
    rate = talk * own.uniform(12, 30) * busy  # bytes a second at rest
    leaked = 0.03 * ((seconds / 86_400 + own.random()) % 1)  # what a daily restart gives back
    held = board.memory * (leaked + 0.015 * used + _wander(rng, rows, every, 1_200, 0.008))
    tasks = np.minimum(used, 1) + 2 * hourly + 3 * nightly + _wander(rng, rows, every, 900, 0.9)
    return {
        "cpu_percent": load + rng.normal(0, 0.8, rows),
        "memory_used_mb": board.memory * board.used * own.uniform(0.94, 1.06) + held,
        "processes": np.round(board.processes + own.integers(-3, 4) + extra + tasks),
        "sent_bytes": chatter * rate * (1 + 40 * used) + 2_000 * effort * nightly * every,
        "received_bytes": chatter * rate * (0.8 + 12 * used) + 9_000 * effort * nightly * every,
        "read_bytes": every * effort * (200 * used + 4_000 * hourly + 30_000 * nightly) * rng.lognormal(0, 0.3, rows),
        "written_bytes": every * effort * (40 + 120 * used + 9_000 * hourly + 12_000 * nightly) * rng.lognormal(0, 0.3, rows),
    }


def _wander(rng: Generator, rows: int, every: float, lag: float, spread: float) -> Array:
    """A slow random walk (rows,) around zero of deviation `spread`, which forgets itself in `lag` seconds."""
    keeps = math.exp(-every / lag)
    return lfilter([spread * math.sqrt(1 - keeps**2)], [1.0, -keeps], rng.normal(0, 1, rows))


def _infect(rng: Generator, family: Malware, work: dict[str, Array], infected: Array, every: float) -> None:
    """Adds to `work` (n,) what `family` does where `infected` (n,)."""
    rows = len(infected)
    slot = np.arange(rows) * every // 600  # it scans, or not, for ten minutes at a time
    scans = infected & (rng.random(int(slot[-1]) + 1)[slot.astype(int)] < family.duty)
    starts = rng.random(rows) < family.floods * every / 86_400
    floods = infected & (np.convolve(starts, np.ones(max(1, round(60 / every))))[:rows] > 0)
    pace = rng.lognormal(0, 0.1, rows) * every
    sent = scans * family.packets * family.size + floods * FLOOD_BYTES + infected * family.beat
    work["cpu_percent"] = work["cpu_percent"] + scans * family.load * rng.lognormal(0, 0.2, rows) + floods * FLOOD_LOAD
    work["memory_used_mb"] = work["memory_used_mb"] + infected * family.memory
    work["processes"] = work["processes"] + infected * family.processes
    work["sent_bytes"] = work["sent_bytes"] + pace * sent
    # One scanned host in fifty answers, with a packet as long (chosen).
    work["received_bytes"] = work["received_bytes"] + pace * (
        0.02 * scans * family.packets * family.size + infected * family.beat
    )
    work["written_bytes"] = work["written_bytes"] + pace * infected * family.written


def _warmth(
    traits: Generator, rng: Generator, board: Board, load: Array, room_c: float, seconds: Array, every: float
) -> tuple[Array, Array]:
    """(processor's temperature in degrees, crystal's speed in ppm), (n,) each.

    The temperature goes the share 1 - exp(-every / lag) of the way to room + rest + heat * load in each interval. A watch
    crystal loses 0.034 ppm per square degree away from 25 degrees; boards differ by some 8 ppm (Kohno et al. 2005 tell hosts
    apart by less).
    """
    rest, gain = 9 + traits.normal(0, 0.8), board.heat * traits.normal(1, 0.04)
    sensor, crystal = traits.normal(0, 0.7), traits.normal(0, 8.0)
    room = room_c + 1.2 * np.sin(2 * np.pi * (seconds / 3600 - 10) / 24)  # warmest in the afternoon
    aim = room + rest + gain * load / 100
    step = 1 - math.exp(-every / board.lag)
    begin = room[0] + rest + gain * load[0] / 100
    warm, _ = lfilter([step], [1.0, step - 1], aim, zi=[(1 - step) * begin])
    drift = crystal - 0.034 * (warm - 25) ** 2
    return warm + sensor + rng.normal(0, 0.05, len(load)), drift + rng.normal(0, 0.3, len(load))


def _frame(
    board: Board, work: dict[str, Array], heat: Array, crystal: Array, infected: Array, seconds: Array, every: float
) -> pd.DataFrame:
    """The columns of `telemetry`, rounded as a device would report them."""
    whole = {name: work[name].astype(np.int64) for name in ("processes", "sent_bytes", "received_bytes")}
    for name in ("read_bytes", "written_bytes"):  # in pages of 4,096 bytes, when one is full
        whole[name] = np.diff(np.cumsum(work[name]).astype(np.int64) // 4096 * 4096, prepend=0)
    micros = np.round(seconds * 1e6).astype("timedelta64[us]")
    return pd.DataFrame(
        {
            "ts": pd.to_datetime(np.datetime64(START, "us") + micros, utc=True),
            "cpu_percent": work["cpu_percent"].round(1),
            "memory_used_mb": np.minimum(work["memory_used_mb"], 0.99 * board.memory).round(2),
            "memory_total_mb": np.full(len(seconds), board.memory),
            "temperature_c": heat.round(1),
            **whole,
            "clock_ppm": crystal.round(2),
            "infected": infected,
        }
    )


def board_of(thing: Thing) -> Board:
    """The computer in a device: devices with one system have one kind of board, which the memory gives away."""
    return BOARDS.get(LINUX if thing.stack == LINUX_LATER else thing.stack, SMALL)


# --- system calls -------------------------------------------------------------------------------------------------------


def system_calls(
    seed: int, *, kind: str = NORMAL, device: str = "JuntoxCam", run: int = 0, length: int | None = None
) -> npt.NDArray[np.int64]:
    """A trace of system calls as (length,) numbers of Linux on 32-bit ARM; `programs.NUMBERS` has their names.

    `kind` is "normal" or one of `programs.ATTACKS`, then the attack takes part of what the device's program does. Where
    `length` is None it is drawn: 300 typically, 75 to 4,500, about as ADFA-LD's traces. Raises ValueError where the kind or
    the device is unknown and where a number is out of its range.
    """
    check_whole("seed", seed, 0)
    check_whole("run", run, 0)
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}: expected one of {', '.join(KINDS)}")
    thing = _thing(device)
    rng = np.random.default_rng([int(seed), zlib.crc32(f"{device} {kind}".encode()), int(run)])
    drawn = int(np.clip(300 * rng.lognormal(0, 0.9), 75, 4_500))
    if length is not None:
        check_whole("length", length, FEWEST_CALLS, MOST_CALLS)
    return programs.trace(rng, thing, kind, drawn if length is None else int(length))


# --- files --------------------------------------------------------------------------------------------------------------


def write_hosts(
    out: Path, seed: int, *, devices: Sequence[str] | None = None, hours: float = 24.0, traces: int = 12
) -> list[Path]:
    """The paths of simulated telemetry and system calls of `devices` (all for None) under the folder `out`.

    `telemetry/<Device>-<unit>.csv` are the rows of `telemetry` of two boards each; the second is infected after half the
    hours, by one family after the other. `system-calls/` is laid out as ADFA-LD: numbers with spaces between them, a file a
    trace, in `Training_Data_Master` and `Validation_Data_Master` (`traces` normal ones a device each) and in
    `Attack_Data_Master/<Kind>_<n>` (a trace of each kind a device); `calls.csv` has the numbers' names. A folder that
    `write_hosts` made before is made anew. Raises ValueError as `telemetry`, and as `setups.generate_setups` for the rest.
    """
    _check_telemetry(seed, hours, None, "mirai", 0, 0, 10.0, None)
    check_whole("traces", traces, 1, 10_000)
    things, out = asked_for(devices), Path(out)
    claim(out, MARK, ["telemetry", "system-calls"])
    paths = [path for thing in things for path in _write_telemetry(out, seed, thing, hours)]
    for number, thing in enumerate(things):
        paths += _write_traces(out / "system-calls", seed, thing, number, traces)
    names = "".join(f"{number},{name}\n" for name, number in programs.NUMBERS.items())
    atomic.write(out / "system-calls" / "calls.csv", "number,name\n" + names)
    atomic.write(out / README, _about(int(seed), len(things), hours))
    return paths


def _write_telemetry(out: Path, seed: int, thing: Thing, hours: float) -> list[Path]:
    """The paths of a healthy board's telemetry and of an infected one's."""
    family = list(MALWARE)[list(BY_NAME).index(thing.name) % len(MALWARE)]
    paths = []
    for unit, infected_at in ((0, None), (1, hours / 2)):
        frame = telemetry(seed, device=thing.name, hours=hours, unit=unit, infected_at=infected_at, malware=family)
        paths.append(out / "telemetry" / f"{thing.name}-{unit}.csv")
        with atomic.replacing(paths[-1]) as partial:
            frame.to_csv(partial, index=False, lineterminator="\n")
    return paths


def _write_traces(out: Path, seed: int, thing: Thing, number: int, traces: int) -> list[Path]:
    """The paths of a device's traces; ten devices' attacks of a kind share a folder, as ten runs do in ADFA-LD."""
    wanted = [("Training_Data_Master", NORMAL, run) for run in range(traces)]
    wanted += [("Validation_Data_Master", NORMAL, run) for run in range(traces, 2 * traces)]
    wanted += [(f"Attack_Data_Master/{kind}_{1 + number % 10}", kind, 0) for kind in ATTACKS]
    paths = []
    for folder, kind, run in wanted:
        calls = system_calls(seed, kind=kind, device=thing.name, run=run)
        paths.append(out / folder / f"SIM-{thing.name}-{run:04d}.txt")
        atomic.write(paths[-1], " ".join(map(str, calls.tolist())) + "\n")
    return paths


def _about(seed: int, devices: int, hours: float) -> str:
    """The README of the folder."""
    return f"""{MARK}

These records are SIMULATED: computed with seed {seed} for {devices} invented devices, {hours:g} hours of telemetry each. No
device was measured and no program was traced. What is measured on them is an example, never evidence about real devices.

telemetry/<Device>-<unit>.csv: a row every 10 s; units are in the columns' names, bytes are of the interval. Unit 1 is infected
in the second half: column `infected`. memory_total_mb gives the kind of board away, and temperature_c is the room's as well.
system-calls/: the layout of ADFA-LD, numbers of Linux on 32-bit ARM (ADFA-LD: x86); calls.csv has their names.
"""


# --- checks -------------------------------------------------------------------------------------------------------------


def _thing(device: str) -> Thing:
    """The device of this name. Raises ValueError where there is none."""
    if device not in BY_NAME:
        raise ValueError(f"device={device!r}: no simulated device is called so; there are {', '.join(BY_NAME)}")
    return BY_NAME[device]


def _check_telemetry(
    seed: int,
    hours: float,
    infected_at: float | None,
    malware: str,
    unit: int,
    run: int,
    every: float,
    room_c: float | None,
) -> None:
    """Raises ValueError unless `telemetry` can take these."""
    for name, whole in (("seed", seed), ("unit", unit), ("run", run)):
        check_whole(name, whole, 0)
    _check_within("hours", hours, 1 / 3600, MOST_HOURS)
    _check_within("every", every, 0.1, 3600)
    if infected_at is not None:
        _check_within("infected_at", infected_at, 0, hours)
    if malware not in MALWARE:
        raise ValueError(f"malware={malware!r}: expected one of {', '.join(MALWARE)}")
    if room_c is not None:
        _check_within("room_c", room_c, -40, 60)


def _check_within(name: str, value: object, least: float, most: float) -> None:
    """Raises ValueError unless `value` is a number from `least` to `most`."""
    if not isinstance(value, Real) or isinstance(value, bool) or not least <= float(value) <= most:
        raise ValueError(f"{name}={value!r}: expected a number from {least:g} to {most:g}")
