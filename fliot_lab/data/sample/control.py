"""How a bot is controlled: calls to a controller, heartbeats, IRC, hidden sessions, peers."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl
from numpy.random import Generator

from fliot_lab.data.sample.behaviours import (
    Behaviour,
    Device,
    Event,
    Site,
    attempts,
    between,
    endings,
    ephemeral,
    round_trip,
    targets,
)
from fliot_lab.data.sample.connections import Array, refused, seen_twice, tcp, udp
from fliot_lab.data.sample.malware import bursts

CONTROL, HEARTBEAT = "C&C", "C&C-HeartBeat"


@dataclass(frozen=True)
class Controller:
    """Who controls a bot, on which port, and how IoT-23 labels what goes there."""

    address: str
    port: int
    label: str = HEARTBEAT

    def joined(
        self, rng: Generator, flows: pl.DataFrame, at: Array, device: Device, service: str | None = None
    ) -> pl.DataFrame:
        """`flows` of the device to the controller, at `at` (n,), from any port."""
        ports = ephemeral(rng, len(flows))
        return between(flows, at, device, ports, self.address, self.port, "tcp", service=service, label=self.label)


def control(
    per_hour: float,
    to: Controller,
    *,
    moods: tuple[float, float, float] = (0.45, 0.2, 0.35),
    tries: tuple[int, ...] = (3, 3, 4),
    chat: bool = False,
) -> Behaviour:
    """Calls to a controller that for a while is gone, refuses or listens (`moods`: shares of the calls, in this order).

    Where it listens the bot stays, with heartbeats or over IRC (`chat`); where it does not the bot sends one of `tries` SYNs.
    """
    rows_a_call = moods[0] * float(np.mean([max(1, one - 2) for one in tries])) + moods[1] + moods[2]

    def behaviour(site: Site, device: Device) -> Iterator[Event]:
        talk = partial(_chat if chat else _heartbeats, device=device, to=to, longest=site.seconds / 3)
        vain, refusal = partial(_call_in_vain, device=device, to=to, tries=tries), partial(_turned_away, device=device, to=to)
        acts = (vain, refusal, talk)
        every = 3600 * rows_a_call / per_hour
        at, until, mood = site.rng.uniform(0, every), 0.0, 0
        while True:
            if at >= until:
                mood = int(site.rng.choice(3, p=moods))
                until = at + site.pause(6 * every)
            yield at, acts[mood], 1
            at += every * site.rng.uniform(0.7, 1.3)

    return behaviour


def _call_in_vain(rng: Generator, at: Array, *, device: Device, to: Controller, tries: tuple[int, ...]) -> pl.DataFrame:
    """Calls that nobody answers: nothing tells them from those of any other program."""
    return attempts(rng, at, device, tries, to.address, to.port, label=to.label)


def _turned_away(rng: Generator, at: Array, *, device: Device, to: Controller) -> pl.DataFrame:
    """Calls to a controller's host on which nothing listens; the first SYN may get lost on the way (one in seven: chosen)."""
    late = round_trip(rng, len(at), 0.05)
    flows = seen_twice(rng, refused(rng, len(at), seconds=late, tries=(1, 1, 1, 1, 1, 1, 2)), device.twice)
    return to.joined(rng, flows, at, device)


def _heartbeats(rng: Generator, at: Array, *, device: Device, to: Controller, longest: float) -> pl.DataFrame:
    """A bot's keep-alive: two bytes each way a minute (Mirai, bot/main.c)."""
    count = len(at)
    beats = rng.geometric(0.15, count).clip(1, max(1, int(longest / 60)))
    seconds = 60 * (beats - 1) + 2 * round_trip(rng, count, 0.05) + rng.uniform(0, 0.5, count)
    ends = endings(rng, count, {"server resets": 0.5, "client closes": 0.3, "open": 0.2})
    # Mirai first says four bytes of version and a name with its length; 11 bytes for a name of six.
    flows = tcp(rng, count, ends, sent=11 + 2 * beats, received=2 * beats, seconds=seconds, pieces=beats)
    return to.joined(rng, flows, at, device)


def _chat(rng: Generator, at: Array, *, device: Device, to: Controller, longest: float) -> pl.DataFrame:
    """IRC control: the server greets, the bot says NICK and USER (RFC 2812, 3.1), and mostly is turned away within seconds."""
    count = len(at)
    idle = (rng.random(count) < 0.06) * rng.exponential(1800, count).clip(0, longest)
    pings = idle // 90  # servers ping an idle client every 90 s or so; PING and PONG take some 20 bytes
    # "NICK n" and "USER n 0 * :n" take 20 + 3n bytes for a name of n letters; a server greets with a notice or two (chosen).
    sent, received = 20 + 3 * rng.choice([13, 14, 18], count) + 20 * pings, rng.choice([120, 240, 260], count) + 22 * pings
    seconds = rng.choice([1.0, 2.0, 4.0], count) + 3 * round_trip(rng, count) + idle
    ends = endings(rng, count, {"server half-closes": 0.8, "server resets": 0.12, "open": 0.04, "client closes": 0.04})
    flows = tcp(rng, count, ends, sent=sent, received=received, seconds=seconds, pieces=2 + 2 * pings, server_first=True)
    return to.joined(rng, flows, at, device, "irc")


def registration(to: Controller) -> Behaviour:
    """The one call by which a new bot tells its controller what it is, soon after the infection (18 packets or so: chosen)."""

    def behaviour(site: Site, device: Device) -> Iterator[Event]:
        act = partial(_registration, device=device, to=to)
        yield site.rng.uniform(1, 5), act, 1
        yield site.rng.uniform(6, 9), act, 1

    return behaviour


def _registration(rng: Generator, at: Array, *, device: Device, to: Controller) -> pl.DataFrame:
    sent, seconds = rng.integers(10, 16, len(at)), 5 * round_trip(rng, len(at), 0.06)
    flows = tcp(rng, len(at), "client resets", sent=sent, received=61, seconds=seconds, pieces=8)
    return to.joined(rng, flows, at, device)


def hidden_control(per_hour: float, to: Controller) -> Behaviour:
    """Torii's control on port 443: mostly silent; one call in eight is answered, and lasts for hours."""

    def behaviour(site: Site, device: Device) -> Iterator[Event]:
        longest = min(site.seconds, 36 * 3600)  # chosen
        vain = partial(_call_in_vain, device=device, to=to, tries=(3, 4))
        session = partial(_long_session, device=device, to=to, longest=longest)
        every = min(1.5 * 3600 / per_hour, site.seconds / 8)  # a call in vain makes a row and a half in the mean
        at = site.rng.uniform(5, 30)
        for nth in itertools.count():
            yield at, session if nth % 8 == 0 else vain, 1
            at += every * site.rng.uniform(0.7, 1.3)

    return behaviour


def _long_session(rng: Generator, at: Array, *, device: Device, to: Controller, longest: float) -> pl.DataFrame:
    """Sessions with 8 bytes each way every 5 s (chosen), for a fifth to two fifths of the `longest`."""
    beats = np.maximum(longest * rng.uniform(0.2, 0.4, len(at)) // 5, 1)
    ends = endings(rng, len(at), {"open": 0.4, "server resets": 0.3, "client half-closes": 0.3})
    flows = tcp(rng, len(at), ends, sent=8 * beats, received=8 * beats, seconds=5 * beats, pieces=beats)
    return to.joined(rng, flows, at, device)


def peers(per_hour: float, *, label: str = CONTROL) -> Behaviour:
    """Peers asked by UDP for commands, since there is no controller (Hide and Seek, as analysed by Bitdefender, 2018)."""

    def behaviour(site: Site, device: Device) -> Iterator[Event]:
        act = partial(_ask_peers, device=device, label=label, source=int(ephemeral(site.rng, 1)[0]))
        for at, rows in bursts(site, per_hour):
            yield at, act, rows

    return behaviour


def _ask_peers(rng: Generator, at: Array, *, device: Device, label: str, source: int) -> pl.DataFrame:
    count = len(at)
    heard = rng.random(count) < 0.3
    size = rng.choice([34, 70, 106], count)  # sizes and the share that answers: chosen
    flows = udp(
        size, np.ones(count, dtype=np.int64), size * heard, heard.astype(np.int64), seconds=round_trip(rng, count, 0.12)
    )
    when = at + rng.uniform(0, 120, count)
    return between(flows, when, device, source, targets(rng, count), rng.integers(1024, 65_536, count), "udp", label=label)
