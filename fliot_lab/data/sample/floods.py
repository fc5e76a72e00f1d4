"""Floods: what a bot sends when it is told to attack somebody."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import polars as pl
from numpy.random import Generator

from fliot_lab.data.sample.behaviours import Behaviour, Device, Event, Site, between
from fliot_lab.data.sample.connections import Array, bad_checksum, seen_twice, syn_only, udp
from fliot_lab.data.sample.malware import FLOOD, bursts

#: Seconds for which a flood is ordered (chosen: half a minute, as short orders are).
LASTS = 30.0
PORTS = 1024, 65_536


def flood(per_hour: float, kind: str, victim: str, port: int = 80) -> Behaviour:
    """A flood of a `kind` of KINDS on `victim`, ordered now and then."""

    def behaviour(site: Site, device: Device) -> Iterator[Event]:
        act = partial(KINDS[kind], device=device, victim=victim, port=port)
        for at, rows in bursts(site, per_hour):
            yield at, act, rows

    return behaviour


def _syn(rng: Generator, at: Array, *, device: Device, victim: str, port: int) -> pl.DataFrame:
    """SYNs through a raw socket from ports at random: 40 bytes, as in a scan."""
    flows = syn_only(np.ones(len(at), dtype=np.int64), seconds=0.0)
    return _sent(rng, seen_twice(rng, flows, device.twice), at, device, victim, port, "tcp")


def _unsummed(rng: Generator, at: Array, *, device: Device, victim: str, port: int) -> pl.DataFrame:
    """Packets whose checksum is left to a network card that does not do them: Zeek notes them and counts none."""
    return _sent(rng, bad_checksum(len(at)), at, device, victim, port, "tcp")


def _datagrams(rng: Generator, at: Array, *, device: Device, victim: str, port: int) -> pl.DataFrame:
    """UDP of 512 bytes a packet (Mirai, bot/attack_udp.c): a few packets from each of many ports, or all from one."""
    count = len(at)
    steady = rng.random(count) < 0.02  # "udpplain" keeps its socket: the whole attack is one row, at a chosen 400 a second
    seconds = np.where(steady, rng.uniform(5, 60, count), rng.uniform(0.01, LASTS, count))
    packets = np.where(steady, 400 * seconds, 1 + rng.poisson(0.3, count)).astype(np.int64)
    return _sent(rng, udp(512 * packets, packets, 0, 0, seconds=seconds), at, device, victim, port, "udp")


def _sent(rng: Generator, flows: pl.DataFrame, at: Array, device: Device, victim: str, port: int, proto: str) -> pl.DataFrame:
    """`flows` from ports at random, each port once while there are any: a port that is drawn again would join its row."""
    count, choices = len(flows), PORTS[1] - PORTS[0]
    ports = PORTS[0] + (rng.choice(choices, count, replace=False) if count <= choices else rng.integers(0, choices, count))
    when = at + rng.uniform(0, LASTS, count)
    return between(flows, when, device, ports, victim, port, proto, label=FLOOD)


KINDS: dict[str, Callable[..., pl.DataFrame]] = {
    "SYN": _syn,
    "unsummed": _unsummed,
    "UDP": _datagrams,
}
