"""The event loop: devices act in order of simulated time, and their flows come out in the order in which Zeek writes them.

Memory does not grow with the number of flows: what is known to be over is given away in blocks as time advances.
"""

import heapq
from collections.abc import Iterable, Iterator

import numpy as np
import polars as pl
from numpy.random import Generator

from fliot_lab.data.sample.behaviours import Behaviour, Device, Draw, Event, Site
from fliot_lab.data.sample.connections import Array

#: Flows that are drawn at once: enough for vectors to pay, few enough for little memory.
BLOCK = 40_000
# Seconds after its last packet at which Zeek (init-bare.zeek) writes a connection down: closed TCP after 5 s
# (`tcp_close_delay`), open TCP after 5 minutes (`tcp_inactivity_timeout`), UDP and ICMP after one. An attempt that nobody
# answers is written 5 s after its first SYN (`tcp_attempt_delay`).
CLOSE_DELAY, TCP_IDLE, OTHER_IDLE, ATTEMPT_DELAY = 5.0, 300.0, 60.0, 5.0
LEFT_OPEN = ("S1", "S2", "S3", "OTH")
# A DNS session is looked at every 10 s from its start (`dns_session_timeout`) and written when it was silent for a second less.
DNS_LOOK, DNS_IDLE = 10.0, 9.0
LASTS = pl.col("duration").fill_null(0)

Actor = tuple[Behaviour, Device]


def happenings(site: Site, actors: Iterable[Actor]) -> Iterator[Event]:
    """All events of all behaviours in order of time, without end unless all behaviours end."""
    queue = []
    for number, (behaviour, device) in enumerate(actors):
        stream = behaviour(site, device)
        if event := next(stream, None):
            queue.append((event[0], number, event, stream))
    heapq.heapify(queue)
    while queue:
        _, number, event, stream = queue[0]
        yield event
        if following := next(stream, None):
            heapq.heapreplace(queue, (following[0], number, following, stream))
        else:
            heapq.heappop(queue)


def watched(site: Site, actors: Iterable[Actor], count: int) -> Iterator[pl.DataFrame]:
    """Blocks of the first `count` flows that begin in the network, in Zeek's columns and in the order of writing.

    Zeek writes a connection when it forgets it. What is left when the capture ends is written then, in no order. Raises
    RuntimeError where nothing happens any more before there are so many.
    """
    waiting: dict[Draw, list[Array]] = {}
    table: list[pl.DataFrame] = []  # connections that Zeek still remembers
    drawn = written = 0
    for at, draw, flows in happenings(site, actors):
        # Time has come to `at`: all that begins before is known. Attempts have several rows, so that fewer draws may do.
        if drawn >= min(BLOCK, max(count - written - sum(map(len, table)), count // 20)):
            table.append(_draw_all(site.rng, waiting))
            known = pl.concat(table)
            begun = int((known["ts"] <= at).sum())
            if written + begun >= count:
                yield _at_the_end(site.rng, known, count - written)
                return
            over, left = _parted(known, at)
            yield over
            written, drawn, waiting, table = written + len(over), 0, {}, [left]
        waiting.setdefault(draw, []).append(np.full(flows, at))
        drawn += flows
    raise RuntimeError("no device does anything any more; a network needs one behaviour at least that goes on")


def _draw_all(rng: Generator, waiting: dict[Draw, list[Array]]) -> pl.DataFrame:
    """The flows of all events, drawn kind by kind, with `written`: when Zeek forgets them."""
    frames = [draw(rng, np.concatenate(at)) for draw, at in waiting.items()]
    columns = sorted(frames[0].columns)
    return pl.concat([frame.select(columns) for frame in frames]).with_columns(written=_forgotten_at())


def _forgotten_at() -> pl.Expr:
    """Seconds of the capture at which Zeek forgets a connection, and so writes it."""
    ends = pl.col("ts") + LASTS
    return (
        pl.when(pl.col("service") == "dns")
        .then(pl.col("ts") + DNS_LOOK * ((LASTS + DNS_IDLE) / DNS_LOOK).ceil())
        .when(pl.col("proto") != "tcp")
        .then(ends + OTHER_IDLE)
        .when(pl.col("conn_state") == "S0")
        .then(pl.col("ts") + ATTEMPT_DELAY)
        .when(pl.col("conn_state").is_in(LEFT_OPEN))
        .then(ends + TCP_IDLE)
        .otherwise(ends + CLOSE_DELAY)
    )


def _parted(known: pl.DataFrame, now: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The connections that Zeek has written by `now`, in that order, and those that it remembers."""
    return known.filter(pl.col("written") <= now).sort("written", maintain_order=True), known.filter(pl.col("written") > now)


def _at_the_end(rng: Generator, known: pl.DataFrame, count: int) -> pl.DataFrame:
    """The last `count` connections to begin: as Zeek forgets them, and what it remembers at the end in no order."""
    last = known.sort("ts", maintain_order=True).head(count)
    end = last.select((pl.col("ts") + LASTS).max()).item()
    shuffled = last[rng.permutation(count)]
    return shuffled.sort(pl.min_horizontal("written", pl.lit(end)), maintain_order=True)
