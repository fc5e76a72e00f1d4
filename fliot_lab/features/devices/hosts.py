"""What a device's own computer reports as a fingerprint: how its load, heat, memory, traffic and disk move together.

How much memory there is names the kind of board, and how warm it is the room: both stay out. What is left is how things move.
"""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import psutil
from scipy.signal import lfilter

from fliot_lab.features.devices.fingerprint import Fingerprint, name_of

CHANNEL = "hosts"
COUNTERS = ("sent_bytes", "received_bytes", "read_bytes", "written_bytes")
#: The columns of a frame, a row an interval: ts is its end in UTC, the temperature the processor's, bytes are of the interval.
COLUMNS = ("ts", "cpu_percent", "memory_used_mb", "memory_total_mb", "temperature_c", "processes", *COUNTERS, "clock_ppm")
# What a file may lack: nobody reports a crystal's speed who has no better clock, and many machines hide their temperature.
_OPTIONAL = ("temperature_c", "clock_ppm")
#: Sensors of processors by the names that Linux's drivers give them (and, on a board without one of its own, ACPI's zone).
SENSORS = ("cpu_thermal", "cpu-thermal", "soc_thermal", "coretemp", "k10temp", "zenpower", "acpitz")
LAGS = (30.0, 120.0, 300.0)  # seconds in which heat may follow the load; chosen to span small boards
Numbers = npt.NDArray[np.float64]


# --- reading ------------------------------------------------------------------------------------------------------------


def read(source: str | os.PathLike[str] | pd.DataFrame) -> pd.DataFrame:
    """The telemetry of one host: COLUMNS by time, from a CSV file or from a frame that has them; NaN where not observed.

    Further columns are left out, and of a missing temperature_c or clock_ppm nothing was observed. Raises ValueError where
    another column is missing, where one holds text or an infinity, and where a time cannot be read or comes twice.
    """
    if isinstance(source, pd.DataFrame):
        frame, name = source, str(source.attrs.get("source", "a frame of telemetry"))
    else:
        frame, name = pd.read_csv(source), name_of(source)
    if missing := [column for column in COLUMNS if column not in frame and column not in _OPTIONAL]:
        raise ValueError(f"{name}: telemetry needs the columns {', '.join(missing)}, which it lacks")
    try:
        found = frame.reindex(columns=COLUMNS).astype(dict.fromkeys(COLUMNS[1:], np.float64))
        found["ts"] = pd.to_datetime(found["ts"], utc=True)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name}: this is no telemetry: {error}") from error
    found = found.sort_values("ts", kind="stable", ignore_index=True)
    if infinite := [column for column in COLUMNS[1:] if np.isinf(found[column]).any()]:
        raise ValueError(f"{name}: {', '.join(infinite)}: a row holds an infinity; leave such rows out")
    if found["ts"].isna().any() or found["ts"].duplicated().any():
        raise ValueError(f"{name}: each row needs a time of its own")
    found.attrs = {"source": name}
    return found


def observe(seconds: float = 60.0, every: float = 1.0) -> pd.DataFrame:
    """The telemetry of this machine as `read` gives it, observed for so many `seconds` with a row `every` so many.

    Linux, macOS and Windows. The temperature is NaN where the system shows none (macOS and Windows never do), bytes of disk
    are 0 where it counts none. Bytes through the loopback are left out. Raises ValueError unless 0.1 <= every <= seconds.
    """
    if not 0.1 <= every <= seconds:
        raise ValueError(f"every={every!r}, seconds={seconds!r}: expected 0.1 <= every <= seconds")
    rows, before = [], _counters()
    psutil.cpu_percent()  # the first answer is 0: it has nothing to compare with
    for _ in _ticks(round(seconds / every), every):
        memory, now = psutil.virtual_memory(), _counters()
        moved = {name: max(0, now[name] - before[name]) for name in COUNTERS}  # a counter starts anew when a device goes
        rows.append(
            {
                "ts": datetime.now(UTC),
                "cpu_percent": psutil.cpu_percent(),
                "memory_used_mb": memory.used / 1e6,
                "memory_total_mb": memory.total / 1e6,
                "temperature_c": _temperature(),
                "processes": len(psutil.pids()),
                **moved,
            }
        )
        before = now
    frame = read(pd.DataFrame(rows))
    frame.attrs = {"source": "this machine"}
    return frame


def _ticks(rows: int, every: float) -> Iterator[int]:
    """So many steps, one every so many seconds from now on, whatever is done between them."""
    start = time.monotonic()
    for row in range(rows):
        time.sleep(max(0.0, start + (row + 1) * every - time.monotonic()))
        yield row


def _counters() -> dict[str, int]:
    """Bytes since the machine started, by name in COUNTERS."""
    cards = [counts for name, counts in psutil.net_io_counters(pernic=True).items() if not name.lower().startswith("lo")]
    try:
        disk: Any = psutil.disk_io_counters()
    except (NotImplementedError, OSError, RuntimeError):  # a container that shows no disks
        disk = None
    return {
        "sent_bytes": sum(card.bytes_sent for card in cards),
        "received_bytes": sum(card.bytes_recv for card in cards),
        "read_bytes": disk.read_bytes if disk else 0,
        "written_bytes": disk.write_bytes if disk else 0,
    }


def _temperature() -> float:
    """The processor's temperature in degrees Celsius, NaN where the system has none."""
    sensors = getattr(psutil, "sensors_temperatures", None)  # psutil has it on Linux and FreeBSD only
    try:
        found = sensors() if sensors else {}
    except (NotImplementedError, OSError):
        found = {}
    for name in SENSORS:
        for entry in found.get(name, ()):
            if entry.current:
                return float(entry.current)
    return float("nan")


# --- fingerprints -------------------------------------------------------------------------------------------------------


def fingerprint(frame: pd.DataFrame, window: int = 60, levels: bool = False) -> list[Fingerprint]:
    """A fingerprint for each `window` rows of telemetry, one after the other; rows left over at the end are not used.

    Of load, processes, traffic and disk: level, spread and how fast they change. Of memory and temperature: changes alone, and
    how temperature goes with the load, smoothed over each of LAGS. Neither memory_total_mb nor a level of memory is used.
    With `levels` come temperature and clock as they are: the first is the room's as much as the device's, the second is of one
    board and moves with the first. Raises ValueError where the window is shorter than 10 rows or longer than the frame.
    """
    source = str(frame.attrs.get("source", ""))
    if not 10 <= window <= len(frame):
        raise ValueError(
            f"{source or 'telemetry'}: window={window!r}: expected from 10 rows to the {len(frame)} that there are"
        )
    found = []
    for first in range(0, len(frame) - window + 1, window):
        values = _measured(frame.iloc[first : first + window], levels)
        where = f"{source}, rows {first} to {first + window - 1}"
        found.append(Fingerprint(CHANNEL, tuple(values), np.fromiter(values.values(), np.float64), where))
    return found


def _measured(rows: pd.DataFrame, levels: bool) -> dict[str, float]:
    """Feature -> value for one window."""
    columns = {name: rows[name].to_numpy(np.float64) for name in COLUMNS[1:]}
    every = float(np.median(np.diff(rows["ts"].to_numpy("datetime64[us]").astype(np.float64)))) / 1e6
    load, heat = columns["cpu_percent"], columns["temperature_c"]
    found = _level("load", load) | _motion("load", load, every)
    found |= _motion("memory", columns["memory_used_mb"], every)
    found |= _level("processes", columns["processes"]) | _motion("processes", columns["processes"], every)
    for name in COUNTERS:
        rate = columns[name] / every
        found |= _level(name, np.log1p(rate)) | _motion(name, np.log1p(rate), every)
        found[f"{name}: share of rows with any"] = float((rate > 0).mean())
        found[f"{name}: goes with load"] = _correlation(rate, load)
    found["received_bytes: goes with sent_bytes"] = _correlation(columns["received_bytes"], columns["sent_bytes"])
    found |= _motion("temperature", heat, every) | _warming(load, heat, every)
    if levels:
        found |= {"temperature: mean": float(heat.mean()), "clock: mean": float(columns["clock_ppm"].mean())}
    return found


def _level(name: str, values: Numbers) -> dict[str, float]:
    """Mean and quantiles of values (n,)."""
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
    return {f"{name}: mean": float(values.mean())} | {f"{name}: low": low, f"{name}: median": middle, f"{name}: high": high}


def _motion(name: str, values: Numbers, every: float) -> dict[str, float]:
    """How values (n,) move, whatever their level: NaN where one is missing."""
    steps = np.diff(values)
    return {
        f"{name}: deviation": float(values.std()),
        f"{name}: range": float(np.ptp(values)),
        f"{name}: typical step": float(np.abs(steps).mean()),
        f"{name}: rise an hour": float(np.polyfit(np.arange(len(values)), values, 1)[0] * 3600 / every)
        if np.isfinite(values).all()
        else float("nan"),
        f"{name}: keeps": _correlation(values[1:], values[:-1]),
    }


def _warming(load: Numbers, heat: Numbers, every: float) -> dict[str, float]:
    """How temperature goes with load that is smoothed as heat would follow it: correlation, and degrees for a load of 100 %."""
    found = {}
    for lag in LAGS:
        keep = float(np.exp(-every / lag))
        smooth, _ = lfilter([1 - keep], [1.0, -keep], load, zi=[keep * load[0]])
        found[f"temperature: goes with load over {lag:g} s"] = _correlation(heat, smooth)
        spread = float(smooth.var())
        slope = 100 * float(((smooth - smooth.mean()) * (heat - heat.mean())).mean()) / spread if spread > 0 else float("nan")
        found[f"temperature: degrees for full load over {lag:g} s"] = slope
    return found


def _correlation(one: Numbers, other: Numbers) -> float:
    """Pearson's correlation; NaN where one of them does not vary or is missing."""
    one, other = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / scale if scale > 1e-9 else float("nan")
