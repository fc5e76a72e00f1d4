"""Connections as Zeek's conn.log records them: where states, histories, packets, bytes and durations are made to agree.

Every function gives a frame of the same ten columns, one connection a row. A column's law holds because the column is computed
from the packets, never drawn beside them: `ip_bytes` is payload plus the headers of each packet, a history lists what was sent,
and Zeek leaves duration and both byte counts unset exactly where it counted fewer than two packets.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import polars as pl
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[Any]
Numbers = Array | float

# Headers without options. IPv4: 20 bytes (RFC 791), IPv6: 40 (RFC 8200), UDP: 8 (RFC 768), ICMP: 8, TCP: 20 (RFC 9293).
UDP4, UDP6 = 20 + 8, 40 + 8
ICMP4, ICMP6 = 20 + 8, 40 + 8
TCP4 = 20 + 20
# The time stamp option takes 12 bytes of each segment with its padding (RFC 7323).
STAMPED = TCP4 + 12
# Linux opens with 20 bytes of options: maximum segment size, selective ACK, time stamp, window scale. The stacks of
# microcontrollers (lwIP) offer the segment size alone, and both sides then do without the rest.
LINUX_SYN, SMALL_SYN = TCP4 + 20, TCP4 + 4
# Ethernet carries 1500 bytes of IP.
MTU = 1500
# Linux sends a SYN again after 1, 2, 4 ... seconds (RFC 6298, `tcp_syn_retries` = 6).
MOST_SYNS = 7
# Zeek gives an attempt up after 5 s (`tcp_attempt_delay`): the first three SYNs are one row, each later one a row of its own.
SYNS_IN_FIRST_ROW = 3
# Kernel timers are coarse. Linux's timer wheel (kernel/time/timer.c since 4.8) rounds a timer up to the next tick of its level:
# 8 jiffies for timers of 0.64 to 5.12 s, 64 for those up to 41 s. A jiffy is 10 ms where CONFIG_HZ is 100, as on small boards.
FINE_TICK, COARSE_TICK = 0.08, 0.64
# What a capture adds to a packet's time, in seconds: interrupts and queues (chosen).
CAPTURE_SLACK = 2e-4


@dataclass(frozen=True)
class Ending:
    """How a TCP connection ends: Zeek's state, the letters of its history, and the packets after the data of each side."""

    state: str
    letters: str
    orig: int = 0
    resp: int = 0
    orig_resets: int = 0
    resp_resets: int = 0
    resp_acks: bool = False


# A FIN is answered by an ACK, on the other side's own FIN where that follows at once.
ENDINGS = {
    "server closes": Ending("SF", "fF", orig=1, resp=2, resp_acks=True),
    "client closes": Ending("SF", "Ff", orig=2, resp=1),
    "server half-closes": Ending("S3", "f", orig=1, resp=1),
    "client half-closes": Ending("S2", "F", orig=1, resp=1, resp_acks=True),
    "client resets": Ending("RSTO", "R", orig_resets=1),
    "server resets": Ending("RSTR", "r", resp_resets=1),
    "open": Ending("S1", ""),
}
_PLACES = {name: place for place, name in enumerate(ENDINGS)}


def tcp(
    rng: Generator,
    count: int,
    ending: str | Array,
    *,
    sent: Numbers,
    received: Numbers,
    seconds: Numbers,
    server_first: bool = False,
    small: bool = False,
    pieces: Numbers = 1,
    lost: Numbers = 0,
    repeated: Numbers = 0,
) -> pl.DataFrame:
    """`count` established connections with `sent` and `received` payload bytes over `seconds`; `ending` are keys of ENDINGS.

    Payload goes in as few full segments as it needs, but in at least `pieces` segments a side that sends. Of the answer, `lost`
    full segments never reached Zeek (a content gap: `missed_bytes`) and `repeated` were sent twice; ValueError where the answer
    is not that long. A `small` TCP stack uses no options beyond the segment size.
    """
    end = {field.name: _of_endings(ending, count, field.name) for field in fields(Ending)}
    header, syn = (TCP4, SMALL_SYN) if small else (STAMPED, LINUX_SYN)
    sent, received, lost, repeated = (_whole(value, count) for value in (sent, received, lost, repeated))
    segment = MTU - header
    out, back = (_segments(payload, segment, pieces) for payload in (sent, received))
    if np.any(lost + repeated > np.maximum(received // segment - 1, 0)):
        raise ValueError("the answer has fewer full segments than are lost or repeated")
    orig_acks, resp_acks = 1 + _acks(rng, back), _acks(rng, out)
    orig_plain, resp_plain = orig_acks + out + end["orig"], resp_acks + back - lost + repeated + end["resp"]
    return _connections(
        state=end["state"],
        history=_history(end, server_first, sent > 0, received > 0, resp_acks > 0, lost > 0, repeated),
        seconds=seconds,
        sent=sent,
        received=received,
        missed=lost * segment,
        orig_pkts=1 + orig_plain + end["orig_resets"],
        orig_ip_bytes=syn + sent + header * orig_plain + TCP4 * end["orig_resets"],
        resp_pkts=1 + resp_plain + end["resp_resets"],
        resp_ip_bytes=syn + received + segment * (repeated - lost) + header * resp_plain + TCP4 * end["resp_resets"],
    )


def _of_endings(ending: str | Array, count: int, field: str) -> Array:
    """The `field` of each connection's ending (count,)."""
    values = np.array([getattr(one, field) for one in ENDINGS.values()])
    if isinstance(ending, str):
        return np.broadcast_to(values[_PLACES[ending]], count)
    names, place = np.unique(ending, return_inverse=True)
    return values[[_PLACES[name] for name in names]][place]


def unanswered(rng: Generator, count: int, tries: Sequence[int]) -> tuple[Array, Array, pl.DataFrame]:
    """The rows of `count` attempts that nobody answers: (attempt (rows,), seconds since its first SYN (rows,), connections).

    Each attempt sends one of `tries` SYNs (1 to 7) at Linux's times. As Zeek sees it, that is a first row of up to three SYNs,
    then rows of one SYN from the same port: S0, with nothing to tell a bot's attempt from any other program's.
    """
    syns = rng.choice(np.asarray(tries), count)
    rows = 1 + np.maximum(syns - SYNS_IN_FIRST_ROW, 0)
    attempt = np.repeat(np.arange(count), rows)
    nth = np.arange(len(attempt)) - (np.cumsum(rows) - rows)[attempt]
    times = _syn_times(rng, count)
    packets = np.where(nth == 0, np.minimum(syns[attempt], SYNS_IN_FIRST_ROW), 1)
    begins = np.where(nth == 0, 0.0, times[attempt, np.maximum(nth + SYNS_IN_FIRST_ROW - 1, 0)])
    return attempt, begins, syn_only(packets, seconds=times[attempt, packets - 1], syn_bytes=LINUX_SYN)


def _syn_times(rng: Generator, count: int) -> Array:
    """Seconds (count, 7) from an attempt's first SYN to each of its SYNs, by Linux's timer wheel."""
    waits = np.zeros((count, MOST_SYNS))
    waits[:, 1] = 1 + rng.uniform(0, FINE_TICK, count)  # the first SYN goes at any time, what follows on the wheel's ticks
    waits[:, 2], waits[:, 3] = 2 + FINE_TICK, 4 + FINE_TICK
    waits[:, 4] = 8 + FINE_TICK * rng.integers(1, 9, count)  # from a fine tick to a coarse one
    waits[:, 5], waits[:, 6] = 16 + COARSE_TICK, 32 + COARSE_TICK
    times = waits.cumsum(axis=1)
    times[:, 1:] += rng.uniform(0, CAPTURE_SLACK, (count, MOST_SYNS - 1))
    return times


def syn_only(packets: Array, *, seconds: Numbers, syn_bytes: int = TCP4) -> pl.DataFrame:
    """Connections of `packets` (n,) unanswered SYNs over `seconds`: S0. A SYN from a raw socket has no options: 40 bytes."""
    return _connections("S0", "S", seconds, 0, 0, packets, packets * syn_bytes, 0, 0)


def refused(
    rng: Generator, count: int, *, seconds: Numbers, syn_bytes: int = LINUX_SYN, tries: Sequence[int] = (1,)
) -> pl.DataFrame:
    """`count` attempts of which a closed port answers the last SYN with a reset, after `seconds`: REJ. A reset has 40 bytes.

    One of `tries` SYNs is sent, at Linux's times: what comes before the last was lost on its way.
    """
    syns = rng.choice(np.asarray(tries), count)
    waited = _syn_times(rng, count)[np.arange(count), syns - 1]
    return _connections("REJ", "Sr", waited + seconds, 0, 0, syns, syn_bytes * syns, np.ones_like(syns), TCP4)


def seen_twice(rng: Generator, flows: pl.DataFrame, share: float) -> pl.DataFrame:
    """`flows`, attempts without data, where the sensor saw both copies of each packet in the `share` of the rows.

    A mirror port may show a packet where it comes in and where it goes out, microseconds later; Zeek counts both.
    """
    if not share:
        return flows
    both = pl.Series(rng.random(len(flows)) < share)
    alone = both & (flows["orig_pkts"] + flows["resp_pkts"] == 1)
    gap = pl.Series(rng.integers(2, 7, len(flows)) * 1e-6)  # of the order of a packet's own length on the wire (chosen)
    counts = ("orig_pkts", "orig_ip_bytes", "resp_pkts", "resp_ip_bytes")
    return flows.with_columns(
        pl.when(alone).then(gap).otherwise("duration").alias("duration"),
        *(pl.when(alone).then(0).otherwise(name).alias(name) for name in ("orig_bytes", "resp_bytes")),
        *(pl.when(both).then(2 * pl.col(name)).otherwise(name).alias(name) for name in counts),
    )


def half_open(count: int, *, seconds: Numbers) -> pl.DataFrame:
    """`count` bare SYNs that an open port answers, and that the scanner's own kernel resets: RSTO.

    The kernel knows nothing of a raw socket's connection (RFC 9293, 3.5.2); a SYN-ACK carries the segment size: 44 bytes.
    """
    ones = np.ones(count, dtype=np.int64)
    return _connections("RSTO", "ShR", seconds, 0, 0, 2 * ones, 2 * TCP4, ones, SMALL_SYN)


def stray_fin(count: int) -> pl.DataFrame:
    """`count` FINs of connections that Zeek had forgotten (5 minutes without a packet): SH, one packet without options."""
    return _connections("SH", "F", 0.0, 0, 0, np.ones(count, dtype=np.int64), TCP4, 0, 0)


def bad_checksum(count: int) -> pl.DataFrame:
    """`count` packets whose TCP checksum is wrong, which Zeek notes (C) but does not count: no packets, no bytes, OTH."""
    return _connections("OTH", "C", 0.0, 0, 0, np.zeros(count, dtype=np.int64), 0, 0, 0)


def udp(
    sent: Numbers, sent_packets: Array, received: Numbers, received_packets: Numbers, *, seconds: Numbers, ipv6: bool = False
) -> pl.DataFrame:
    """UDP flows with the payload bytes and packets of each side: SF both ways, S0 one way, SHR the answer alone."""
    header = UDP6 if ipv6 else UDP4
    out, back = np.broadcast_arrays(np.asarray(sent_packets), np.asarray(received_packets))
    state = np.where(out == 0, "SHR", np.where(back == 0, "S0", "SF"))
    # A history that begins with ^ was turned round: Zeek saw the answer only and took its sender for the responder.
    history = np.where(out == 0, "^d", np.where(back == 0, "D", "Dd"))
    return _connections(state, history, seconds, sent, received, out, sent + header * out, back, received + header * back)


def icmp(
    sent: Numbers, sent_packets: Array, received: Numbers, received_packets: Numbers, *, seconds: Numbers, header: int
) -> pl.DataFrame:
    """ICMP exchanges with payload bytes and packets of each side, `header` bytes a packet: OTH, and no history."""
    out, back = np.asarray(sent_packets), np.asarray(received_packets)
    return _connections("OTH", None, seconds, sent, received, out, sent + header * out, back, received + header * back)


def _segments(payload: Array, segment: int, pieces: Numbers) -> Array:
    """Segments (n,) that carry `payload` (n,): none for none, and never more than one a byte."""
    return np.minimum(np.maximum(-(-payload // segment), _whole(pieces, len(payload))), payload)


def _acks(rng: Generator, segments: Array) -> Array:
    """Pure ACKs (n,) for received segments: one for every second (RFC 9293, 3.8.6.3) and some for the others."""
    return -(-segments // 2) + rng.binomial(segments // 2, 0.5)


def _history(
    end: dict[str, Array], server_first: bool, out: Array, back: Array, acks: Array, gap: Array, repeated: Array
) -> Array:
    """Histories (n,) of established connections: Zeek adds a letter when a side does something for the first time."""
    request = np.strings.add(np.where(out, "D", ""), np.where(acks, "a", ""))
    # The letters of trouble repeat on a logarithmic scale: the second t stands for at least ten retransmissions.
    answer = np.strings.add(np.where(back, "d", ""), np.where(gap, "g", ""))
    answer = np.strings.add(answer, np.where(repeated >= 10, "tt", np.where(repeated > 0, "t", "")))
    if server_first:
        opening = np.strings.add("ShA", np.strings.add(answer, request))
    else:
        opening = np.strings.add("ShA", np.strings.add(request, answer))
    first_ack = np.where(end["resp_acks"] & ~acks, "a", "")
    return np.strings.add(np.strings.add(opening, end["letters"]), first_ack)


def _connections(
    state: str | Array,
    history: str | Array | None,
    seconds: Numbers,
    sent: Numbers,
    received: Numbers,
    orig_pkts: Array,
    orig_ip_bytes: Numbers,
    resp_pkts: Numbers,
    resp_ip_bytes: Numbers,
    missed: Numbers = 0,
) -> pl.DataFrame:
    """The frame that all of the above give, one connection a row, with Zeek's unset values in place."""
    count = len(orig_pkts)
    # Two packets are at least a microsecond apart: the resolution of a capture.
    measured = {
        "duration": np.maximum(np.round(np.broadcast_to(seconds, count).astype(np.float64), 6), 1e-6),
        "orig_bytes": _whole(sent, count),
        "resp_bytes": _whole(received, count),
    }
    whole = {
        "missed_bytes": missed,
        "orig_pkts": orig_pkts,
        "orig_ip_bytes": orig_ip_bytes,
        "resp_pkts": resp_pkts,
        "resp_ip_bytes": resp_ip_bytes,
    }
    several = pl.col("orig_pkts") + pl.col("resp_pkts") > 1
    return pl.DataFrame(
        {
            **measured,
            "conn_state": np.broadcast_to(state, count).astype(np.str_),
            **{name: _whole(value, count) for name, value in whole.items()},
        }
    ).with_columns(
        *(pl.when(several).then(pl.col(name)) for name in measured),
        history=pl.lit(None, pl.String) if history is None else pl.Series(np.broadcast_to(history, count).astype(np.str_)),
    )


def _whole(value: Numbers, count: int) -> Array:
    """`value` as whole numbers (count,)."""
    return np.broadcast_to(np.asarray(value).astype(np.int64), count)
