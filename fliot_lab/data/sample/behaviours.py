"""What every behaviour is made of: the device, the end points of its flows, and when they happen.

A behaviour is `behaviour(rng, count, home, ...)` and gives `count` flows in Zeek's columns, with `ts` in seconds since the
capture began and the class in `label`. Numbers come from protocols and from published source code, said beside each; sizes and
rates that no document fixes are called "chosen". Nothing is copied from a real capture. Remote hosts have addresses that are
reserved for documentation (RFC 5737) or for benchmarks (RFC 2544), so that no third party appears as a server or a target.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.random import Generator

from fliot_lab.data.sample.connections import Array, tcp, unanswered

# Chosen, in 198.51.100.0/24 (RFC 5737).
CLOUD = ("198.51.100.7", "198.51.100.24", "198.51.100.81", "198.51.100.143", "198.51.100.190")
#: Seconds at a capture's end in which no burst begins, so that what a burst starts ends within the capture.
MARGIN = 120.0


@dataclass(frozen=True)
class Home:
    """The device under capture, its addresses, its router, and the capture's length in seconds."""

    address: str
    address6: str
    router: str
    seconds: float


Behaviour = Callable[[Generator, int, Home], pl.DataFrame]


# --- end points ---------------------------------------------------------------------------------------------------------


def between(
    flows: pl.DataFrame,
    at: Array,
    home: Home,
    orig_p: Array | int,
    resp_h: Array | str,
    resp_p: Array | int,
    proto: str,
    *,
    service: str | None = None,
    orig_h: Array | str | None = None,
    label: str = "Benign",
) -> pl.DataFrame:
    """`flows` with their times (n,), end points, service and label; from the device itself unless `orig_h` says otherwise."""
    ends: dict[str, Any] = {
        "ts": at,
        "id.orig_h": home.address if orig_h is None else orig_h,
        "id.orig_p": orig_p,
        "id.resp_h": resp_h,
        "id.resp_p": resp_p,
        "proto": proto,
        "label": label,
    }
    columns = [pl.Series(name, np.broadcast_to(np.asarray(value), len(flows))) for name, value in ends.items()]
    ports = pl.col("id.orig_p", "id.resp_p").cast(pl.Int64)
    return flows.with_columns(*columns, service=pl.lit(service, pl.String)).with_columns(ports)


def to_cloud(rng: Generator, flows: pl.DataFrame, home: Home, resp_p: int, service: str | None = None) -> pl.DataFrame:
    """`flows` over TCP from any port to the makers' servers, at any time."""
    servers = rng.choice(CLOUD, len(flows))
    at = anywhere(rng, flows, home)
    return between(flows, at, home, ephemeral(rng, len(flows)), servers, resp_p, "tcp", service=service)


def calls(
    rng: Generator, count: int, home: Home, tries: Sequence[int], resp_h: str, resp_p: int, *, label: str = "Benign"
) -> pl.DataFrame:
    """`count` rows of unanswered TCP attempts at any time, the rows of one attempt from one port."""
    attempt, begins, flows = unanswered(rng, count, tries)
    at = rng.uniform(0, home.seconds - MARGIN, count)[attempt] + begins
    return between(flows, at, home, ephemeral(rng, count)[attempt], resp_h, resp_p, "tcp", label=label)


def ephemeral(rng: Generator, count: int) -> Array:
    """Source ports (count,) from Linux's `ip_local_port_range`."""
    return rng.integers(32_768, 61_000, count)


def targets(rng: Generator, count: int) -> Array:
    """Addresses (count,) of scanned hosts, drawn from 198.18.0.0/15."""
    number = rng.integers(0, 1 << 17, count)
    frame = pl.DataFrame({"second": 18 + (number >> 16), "third": (number >> 8) & 255, "last": number & 255})
    return frame.select(pl.format("198.{}.{}.{}", "second", "third", "last")).to_series().to_numpy()


# --- connections that end in several ways -------------------------------------------------------------------------------


def ended(
    rng: Generator,
    endings: Mapping[str, float],
    *,
    sent: Array,
    received: Array,
    seconds: Array,
    pieces: Array | int = 1,
    server_first: bool = False,
    small: bool = False,
) -> pl.DataFrame:
    """TCP connections that end in each of `endings` with its share, one ending after the other; else as `connections.tcp`."""
    count = len(sent)
    shares = rng.multinomial(count, list(endings.values()))
    pieces = np.broadcast_to(pieces, count)
    return pl.concat(
        tcp(
            rng,
            len(rows),
            ending,
            sent=sent[rows],
            received=received[rows],
            seconds=seconds[rows],
            pieces=pieces[rows],
            server_first=server_first,
            small=small,
        )
        for ending, rows in zip(endings, np.split(np.arange(count), np.cumsum(shares)[:-1]), strict=True)
    )


# --- times --------------------------------------------------------------------------------------------------------------


def anywhere(rng: Generator, flows: pl.DataFrame, home: Home) -> Array:
    """Times (n,) at random at which `flows` begin and still end within the capture."""
    return rng.random(len(flows)) * (home.seconds - _lasting(flows))


def evenly(rng: Generator, flows: pl.DataFrame, home: Home) -> Array:
    """Times (n,) on a jittered beat at which `flows` begin and still end within the capture."""
    beat = home.seconds / max(1, len(flows))
    at = (np.arange(len(flows)) + rng.uniform(0, 0.2, len(flows))) * beat
    return np.minimum(at, home.seconds - _lasting(flows))


def bursts(rng: Generator, count: int, home: Home, *, each: int, seconds: float) -> Array:
    """Times (count,), shuffled, in bursts of up to `each` flows over `seconds` that are spread over the capture."""
    number = -(-count // each)
    slot = max(0.0, home.seconds - seconds - MARGIN) / max(1, number)
    begins = (np.arange(number) + rng.random(number)) * slot
    return rng.permutation(np.repeat(begins, each)[:count] + rng.uniform(0, seconds, count))


def round_trip(rng: Generator, count: int, typical: float = 0.03) -> Array:
    """Round-trip times (count,) in seconds: log-normal around `typical`, never below half a millisecond (chosen)."""
    return np.maximum(rng.lognormal(np.log(typical), 0.6, count), 5e-4)


def _lasting(flows: pl.DataFrame) -> Array:
    """Seconds (n,) that `flows` last; none where Zeek saw one packet."""
    return flows["duration"].fill_null(0).to_numpy()
