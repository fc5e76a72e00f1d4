"""The embedded default data set: simulated captures in IoT-23's layout, made from a seed in seconds.

Nobody's traffic was recorded for it. It lets every lesson run anywhere; a number measured on it says nothing about real
networks.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fliot_lab import atomic
from fliot_lab.data.sample.captures import (
    CAPTURES,
    DEFAULT_SIZE,
    PREFIX,
    SMALLEST_SIZE,
    Capture,
    allotted,
    of_scenario,
    write,
)
from fliot_lab.data.sample.devices import SCENARIOS
from fliot_lab.data.sample.families import FAMILIES
from fliot_lab.data.sample.folders import README, check_whole, claim

__all__ = ["CAPTURES", "DEFAULT_SIZE", "FAMILIES", "SCENARIOS", "SMALLEST_SIZE", "generate"]

#: About the bytes of a flow in a log.
FLOW_BYTES = 150
#: The first line of README.txt, by which `generate` knows a folder that it made and may make anew.
MARK = "Simulated network captures, made by fliot_lab.data.sample"


def generate(
    out: Path,
    seed: int,
    size: int = DEFAULT_SIZE,
    scenario: str | None = None,
    malware: str | Sequence[str] | None = None,
) -> list[Path]:
    """The paths of simulated captures' `conn.log.labeled` under the folder `out`, which hold `size` flows in all.

    Without `scenario` and `malware` the default set: eight captures of one device each. With a `scenario` of SCENARIOS (home
    where only `malware` is named), one capture of that network without malware, and one for each family of `malware`, a name of
    FAMILIES or several.

    Equal arguments give equal bytes. Memory does not grow with `size`. A folder that `generate` made before is made anew; each
    log appears when it is complete. Raises ValueError, before anything is written, where the seed is not a whole number from
    0, where `size` is not one from SMALLEST_SIZE, for an unknown scenario or family, where the disk has no room, and where
    `out` is a file or a folder with anything else in it.
    """
    check_whole("seed", seed, 0)
    check_whole("size", size, SMALLEST_SIZE)
    captures = _chosen(scenario, malware)
    out = Path(out)
    _check_room(out, int(size))
    named = {capture.name for capture in captures}
    claim(out, MARK, [path.name for path in out.glob(f"{PREFIX}*") if path.name not in named])
    streams = np.random.SeedSequence(int(seed)).spawn(len(captures))
    paths = [
        write(out, capture, count, stream)
        for capture, count, stream in zip(captures, allotted(captures, int(size)), streams, strict=True)
    ]
    atomic.write(out / README, _about(int(seed), int(size), captures))
    return paths


def _chosen(scenario: str | None, malware: str | Sequence[str] | None) -> tuple[Capture, ...]:
    """The captures that are asked for. Raises ValueError for an unknown scenario or family, and for a family named twice."""
    families = [malware] if isinstance(malware, str) else list(malware or ())
    if scenario is None and not families:
        return CAPTURES
    if scenario is not None and scenario not in SCENARIOS:
        raise ValueError(f"scenario={scenario!r} is unknown; choose one of {', '.join(SCENARIOS)}")
    for family in families:
        if family not in FAMILIES:
            raise ValueError(f"malware={family!r} is unknown; choose from {', '.join(FAMILIES)}")
        if families.count(family) > 1:
            raise ValueError(f"malware={family!r} is named {families.count(family)} times; name each family once")
    return of_scenario(scenario or "home", families)


def _check_room(out: Path, size: int) -> None:
    """Raises ValueError where the disk has no room for `size` flows."""
    there = next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())
    needed, free = size * FLOW_BYTES, shutil.disk_usage(there).free
    if needed > free:
        raise ValueError(
            f"size={size}: {needed / 1e9:,.1f} GB are needed in {out}, and {free / 1e9:,.1f} GB are free; ask for less"
        )


def _about(seed: int, size: int, captures: Sequence[Capture]) -> str:
    """The README of the folder: what this is, and what it is not."""
    told = "\n".join(
        f"{capture.name}: {', '.join(dict.fromkeys(capture.devices))}; {', '.join(capture.families) or 'no malware'}"
        for capture in captures
    )
    return f"""{MARK}

These captures are SIMULATED: computed from protocol rules with seed {seed}, {size} flows in all. No device, no malware
and no network was recorded, and no row is taken from a real capture. They have the layout of IoT-23's labelled Zeek logs
(conn.log.labeled), so that the same code reads both. What is measured on them is an example, never evidence about real
networks.

{told}

Remote addresses are reserved for documentation and benchmarks (RFC 5737, RFC 2544) and belong to nobody.
"""
