"""What behaviours are made of: the device, the rhythms in which it acts, and the end points of its flows.

A behaviour is `behaviour(site, device)` and yields events in order of time: when, what, and how many flows begin there. What is
a drawing function `draw(rng, at, device=...)`: it gives the flows of events that begin at the times `at` (n,), in seconds since
the capture began, in Zeek's columns with the class in `label`. Deciding when is cheap and goes event by event; drawing is done
for many events of a kind at once.

Numbers come from protocols and from published source code, said beside each; sizes and rates that no document fixes are called
"chosen". Nothing is copied from a real capture. Remote hosts have addresses that are reserved for documentation (RFC 5737) or
for benchmarks (RFC 2544), so that no third party appears as a server or a target.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from numpy.random import Generator

from fliot_lab.data.layout import BENIGN
from fliot_lab.data.sample.connections import Array, seen_twice, unanswered

#: Seconds in which a device has joined its network, and within which Zeek has forgotten how it did.
JOINED = 120.0
#: Hours of the day in which people are about (chosen).
AWAKE = (7.0, 23.0)


@dataclass(frozen=True)
class Device:
    """A device under capture, its addresses and its router.

    `delay` is the round-trip time in seconds that is typical of its line to the world, `twice` the share of its attempts of
    which the sensor sees each packet twice.
    """

    kind: str
    address: str
    address6: str
    router: str
    delay: float = 0.03
    twice: float = 0.0


@dataclass(frozen=True)
class Site:
    """What all behaviours of a network share: chance, the seconds it is expected to last, and the hour of its beginning."""

    rng: Generator
    seconds: float
    hour: float = 0.0

    def pause(self, mean: float) -> float:
        """Seconds until something that happens at any time with equal chance."""
        return float(self.rng.exponential(mean))

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def awake(self, at: float) -> bool:
        """Whether people are about at `at` seconds of the capture."""
        return AWAKE[0] <= (self.hour + at / 3600) % 24 < AWAKE[1]


Draw = Callable[[Generator, Array], pl.DataFrame]
Event = tuple[float, Draw, int]
Behaviour = Callable[[Site, Device], Iterator[Event]]


# --- rhythms ------------------------------------------------------------------------------------------------------------


def steadily(draw: Callable[..., pl.DataFrame], *, every: float, slack: float = 0.05, **details: Any) -> Behaviour:
    """A behaviour with a beat of `every` seconds, each beat up to the share `slack` early or late."""

    def behaviour(site: Site, device: Device) -> Iterator[Event]:
        act = partial(draw, device=device, **details)
        at = JOINED + site.rng.uniform(0, every)
        while True:
            yield at, act, 1
            at += every * site.rng.uniform(1 - slack, 1 + slack)

    return behaviour


def sometimes(
    draw: Callable[..., pl.DataFrame], *, per_hour: float, asleep: float = 1.0, apart: float = 0.0, **details: Any
) -> Behaviour:
    """A behaviour at any time, `per_hour` in the mean, at night the share `asleep` of it, `apart` seconds apart at least."""

    def behaviour(site: Site, device: Device) -> Iterator[Event]:
        act = partial(draw, device=device, **details)
        at = JOINED
        while True:
            at += site.pause(3600 / per_hour)
            if asleep == 1.0 or site.awake(at) or site.chance(asleep):
                yield at, act, 1
                at += apart

    return behaviour


def booting(draw: Callable[..., pl.DataFrame], *, within: float = 20.0, **details: Any) -> Behaviour:
    """What a device does once, within seconds of being switched on, which is when the capture begins."""

    def behaviour(site: Site, device: Device) -> Iterator[Event]:
        yield site.rng.uniform(1, within), partial(draw, device=device, **details), 1

    return behaviour


# --- end points ---------------------------------------------------------------------------------------------------------


def between(
    flows: pl.DataFrame,
    at: Array,
    device: Device,
    orig_p: Array | int,
    resp_h: Array | str,
    resp_p: Array | int,
    proto: str,
    *,
    service: str | None = None,
    orig_h: Array | str | None = None,
    label: str = BENIGN,
) -> pl.DataFrame:
    """`flows` with their times (n,), end points, service and label; from the device itself unless `orig_h` says otherwise."""
    count = len(flows)
    text = {"id.orig_h": device.address if orig_h is None else orig_h, "id.resp_h": resp_h, "proto": proto, "label": label}
    ports = {"id.orig_p": orig_p, "id.resp_p": resp_p}
    return flows.with_columns(
        pl.Series("ts", at, pl.Float64),
        *(pl.lit(value).alias(name) if isinstance(value, str) else pl.Series(name, value) for name, value in text.items()),
        *(pl.Series(name, np.broadcast_to(np.asarray(value, dtype=np.int64), count)) for name, value in ports.items()),
        pl.lit(service, pl.String).alias("service"),
    )


def attempts(
    rng: Generator, at: Array, device: Device, tries: tuple[int, ...], resp_h: Array | str, resp_p: int, *, label: str = BENIGN
) -> pl.DataFrame:
    """The rows of TCP attempts at `at` (n,) that nobody answers, the rows of one attempt from one port."""
    attempt, begins, flows = unanswered(rng, len(at), tries)
    flows = seen_twice(rng, flows, device.twice)
    where = resp_h if isinstance(resp_h, str) else resp_h[attempt]
    return between(flows, at[attempt] + begins, device, ephemeral(rng, len(at))[attempt], where, resp_p, "tcp", label=label)


def ephemeral(rng: Generator, count: int) -> Array:
    """Source ports (count,) from Linux's `ip_local_port_range`."""
    return rng.integers(32_768, 61_000, count)


def targets(rng: Generator, count: int) -> Array:
    """Addresses (count,) of scanned hosts, drawn from 198.18.0.0/15."""
    number = rng.integers(0, 1 << 17, count)
    frame = pl.DataFrame({"second": 18 + (number >> 16), "third": (number >> 8) & 255, "last": number & 255})
    return frame.select(pl.format("198.{}.{}.{}", "second", "third", "last")).to_series().to_numpy()


def endings(rng: Generator, count: int, shares: Mapping[str, float]) -> Array:
    """How connections (count,) end, each ending with its share."""
    return rng.choice(list(shares), count, p=list(shares.values()))


def round_trip(rng: Generator, count: int, typical: float = 0.03) -> Array:
    """Round-trip times (count,) in seconds: log-normal around `typical`, never below half a millisecond (chosen)."""
    return np.maximum(rng.lognormal(np.log(typical), 0.6, count), 5e-4)
