"""Captures: who was watched, what infected whom, and how a network's flows become an IoT-23 conn log, block by block."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import polars as pl
from numpy.random import Generator, SeedSequence

from fliot_lab import atomic
from fliot_lab.data import zeek
from fliot_lab.data.layout import BENIGN, JOIN, UNSET
from fliot_lab.data.sample.behaviours import Site
from fliot_lab.data.sample.devices import DELAYS, SCENARIOS, actors_of, network
from fliot_lab.data.sample.families import INFECTED, infection
from fliot_lab.data.sample.network import Actor, watched

CONN_LOG = "conn.log.labeled"
PREFIX = "SIM-"
ALPHABET = np.frombuffer(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", dtype="S1")
#: Lines above the first flow in a log that `zeek.write_conn_log` writes.
HEADER_LINES = 8
#: A network is rehearsed to learn how many flows it makes in an hour: as if watched for so many seconds, until so many flows.
REHEARSED, REHEARSED_FLOWS = 6 * 3600.0, 3000


@dataclass(frozen=True)
class Capture:
    """One simulated capture: the devices that were watched, what infected one of them, and the spelling of its file.

    `flows` are its own in a sample of DEFAULT_SIZE, and its share of one of another size. `floods` says whether anybody orders
    some. `delay` and `twice` are its devices', `first` ends the first one's address. `folder` is the conn log's within the
    capture's; `parents` what tunnel_parents holds ("" is written `(empty)`, None `-`).
    """

    name: str
    opened: datetime
    devices: tuple[str, ...]
    flows: int
    families: tuple[str, ...] = ()
    floods: bool = True
    delay: float = 0.03
    twice: float = 0.0
    first: int = 100
    folder: str = "bro"
    benign: str = BENIGN
    parents: str | None = None
    footer: Literal["plain", "missing", "labelled"] = "plain"


#: The default set: as in IoT-23 each capture watches one device, three that are clean and five boards that are infected, and
#: nearly all floods are in one of them.
CAPTURES = (
    Capture(
        "SIM-Honeypot-Capture-1-1",
        datetime(2024, 3, 4, 9, 12, 40, tzinfo=UTC),
        ("light bridge",),
        700,
        first=132,
        benign="benign",
        footer="labelled",
    ),
    Capture(
        "SIM-Honeypot-Capture-2-1",
        datetime(2024, 4, 17, 13, 5, 2, tzinfo=UTC),
        ("speaker",),
        1700,
        first=103,
        benign="benign",
    ),
    # Its folder has one level more, as one of IoT-23's has.
    Capture(
        "SIM-Honeypot-Capture-3-1",
        datetime(2024, 5, 22, 7, 48, 15, tzinfo=UTC),
        ("door lock",),
        800,
        first=158,
        folder="Lock-01/bro",
        benign="benign",
    ),
    Capture(
        "SIM-Malware-Capture-1-1",
        datetime(2024, 6, 10, 15, 30, 31, tzinfo=UTC),
        ("board",),
        22_000,
        families=("mirai",),
        delay=0.006,
        twice=0.35,
        first=195,
        footer="missing",
    ),
    Capture(
        "SIM-Malware-Capture-2-1",
        datetime(2024, 7, 2, 12, 36, 54, tzinfo=UTC),
        ("board",),
        12_400,
        families=("okiru",),
        floods=False,
        delay=0.005,
        twice=0.2,
        first=198,
    ),
    Capture(
        "SIM-Malware-Capture-3-1",
        datetime(2024, 8, 19, 10, 2, 8, tzinfo=UTC),
        ("board",),
        7_000,
        families=("hide-and-seek",),
        delay=0.012,
        twice=0.12,
        first=111,
        parents="",
    ),
    Capture(
        "SIM-Malware-Capture-4-1",
        datetime(2024, 9, 25, 18, 44, 23, tzinfo=UTC),
        ("board",),
        11_900,
        families=("hakai",),
        floods=False,
        delay=0.004,
        first=113,
        parents="",
    ),
    Capture(
        "SIM-Malware-Capture-5-1",
        datetime(2024, 10, 14, 8, 20, 47, tzinfo=UTC),
        ("board",),
        3_500,
        families=("torii",),
        delay=0.003,
        first=120,
    ),
)
DEFAULT_SIZE = sum(capture.flows for capture in CAPTURES)
SMALLEST_SIZE = 1000
#: When the captures of a scenario were opened (chosen), a fortnight apart.
OPENED = datetime(2025, 2, 3, 8, 0, 0, tzinfo=UTC)


def of_scenario(scenario: str, families: Sequence[str]) -> tuple[Capture, ...]:
    """Captures of one place: one that is clean, then one for each family, which infects one of its devices."""
    devices, title = SCENARIOS[scenario], scenario.capitalize()
    clean = Capture(
        f"{PREFIX}{title}-Honeypot-Capture-1-1", OPENED, devices, 1, delay=DELAYS[scenario], benign="benign", footer="labelled"
    )
    infected = [
        Capture(
            f"{PREFIX}{title}-Malware-Capture-{number}-1",
            OPENED.replace(month=2 + number % 10, hour=8 + number),
            devices,
            2,
            families=(family,),
            delay=DELAYS[scenario],
        )
        for number, family in enumerate(families, start=1)
    ]
    return (clean, *infected)


def allotted(captures: Sequence[Capture], size: int) -> list[int]:
    """The flows of each capture, in proportion to its share; they add up to `size`."""
    shares = np.array([capture.flows for capture in captures])
    rows = shares * size // shares.sum()
    rows[shares.argmax()] += size - rows.sum()
    return [int(count) for count in rows]


def write(out: Path, capture: Capture, count: int, stream: SeedSequence) -> Path:
    """The path of the capture's conn log with `count` flows, which appears when it is complete."""
    path = out / capture.name / capture.folder / CONN_LOG
    with atomic.replacing(path) as partial, partial.open("wb") as log, TemporaryDirectory() as folder:
        begun = False
        for block in flows_of(capture, count, stream):
            part = Path(folder) / CONN_LOG
            zeek.write_conn_log(block, part)
            *lines, close = part.read_bytes().splitlines(keepends=True)
            log.writelines(lines[HEADER_LINES if begun else 0 :])
            begun = True
        log.write(_footer(capture, close))
    return path


def _footer(capture: Capture, close: bytes) -> bytes:
    """The capture's own spelling of a log's last line."""
    if capture.footer == "missing":
        return b""
    label = f"{JOIN}{capture.benign}{JOIN}{UNSET}" if capture.footer == "labelled" else ""
    return close.removesuffix(b"\n") + label.encode() + b"\n"


def flows_of(capture: Capture, count: int, stream: SeedSequence) -> Iterator[pl.DataFrame]:
    """The capture's conn log of `count` flows in blocks, in the order in which Zeek would have written them."""
    rng = np.random.default_rng(stream)
    site = Site(rng, 3600 * count / _flows_an_hour(capture), capture.opened.hour + capture.opened.minute / 60)
    for block in watched(site, _actors(capture, site), count):
        yield _as_logged(block, capture, rng)


def _actors(capture: Capture, site: Site, *, at_once: bool = False) -> list[Actor]:
    """The behaviours of all devices, and of what infects them. The seed says which device, and when."""
    devices = network(capture.devices, first=capture.first, delay=capture.delay, twice=capture.twice)
    actors = actors_of(devices)
    for family in capture.families:
        victim = devices[int(site.rng.integers(len(devices)))]
        at = 0.0 if at_once else site.seconds * site.rng.uniform(*INFECTED)
        actors += [(behaviour, victim) for behaviour in infection(family, at, ordered=capture.floods)]
    return actors


@cache
def _flows_an_hour(capture: Capture) -> float:
    """The flows that begin in an hour of this network, infected from the beginning, as a rehearsal tells.

    It says how long a capture of so many flows will take, so that bursts can be spread over it. The same for every seed.
    """
    site = Site(np.random.default_rng(0), REHEARSED)
    begins = pl.concat(block["ts"] for block in watched(site, _actors(capture, site, at_once=True), REHEARSED_FLOWS))
    return REHEARSED_FLOWS / float(begins.max()) * 3600  # type: ignore[arg-type]


def _as_logged(flows: pl.DataFrame, capture: Capture, rng: Generator) -> pl.DataFrame:
    """`flows` in the columns and the spelling of the capture's log."""
    attack = pl.format("Malicious{}{}", pl.lit(JOIN), "label")
    return flows.with_columns(
        ts=pl.lit(capture.opened).dt.cast_time_unit("us") + pl.duration(microseconds=pl.col("ts") * 1e6),
        uid=pl.Series(_uids(len(flows), rng), dtype=pl.String),
        local_orig=pl.lit(None, pl.Boolean),
        local_resp=pl.lit(None, pl.Boolean),
        tunnel_parents=pl.lit(capture.parents, pl.String),
        label_original=pl.when(pl.col("label") == BENIGN).then(pl.lit(capture.benign + JOIN + UNSET)).otherwise(attack),
    )


def _uids(count: int, rng: Generator) -> list[str]:
    """Zeek's connection identifiers (count,): C and 17 letters or digits."""
    letters = ALPHABET[rng.integers(0, len(ALPHABET), (count, 17))]
    return [f"C{uid.decode()}" for uid in letters.view("S17")[:, 0]]
