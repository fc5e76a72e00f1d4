"""The eight simulated captures: what happens in each, and how its flows become the rows of a conn log.

Rows are planned for a sample of DEFAULT_SIZE; other sizes keep rates and change the captures' length. Sizes of the classes
follow IoT-23's imbalance: scans and Okiru in thousands, downloads and Torii in a dozen or two.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Literal

import numpy as np
import polars as pl
from numpy.random import Generator

from fliot_lab.data.layout import BENIGN, JOIN, UNSET
from fliot_lab.data.sample.behaviours import Behaviour, Home
from fliot_lab.data.sample.devices import (
    address_answer,
    address_request,
    announcements,
    clock,
    cloud_session,
    failed_call,
    forgotten,
    lookup,
    neighbours,
    ping,
    reachability,
    service_discovery,
    unreachable,
    web_call,
)
from fliot_lab.data.sample.malware import (
    call_home,
    chat_control,
    file_download,
    heartbeat,
    hidden_control,
    raw_scan,
    syn_flood,
    telnet_scan,
    udp_flood,
    unsummed_flood,
)

#: Fewest rows of a behaviour, and the shortest capture in seconds: below, a behaviour would not be itself.
FEWEST_ROWS, SHORTEST = 4, 1800.0
# Seconds after its last packet at which Zeek (init-bare.zeek) writes a connection down: closed TCP after 5 s
# (`tcp_close_delay`), open TCP after 5 minutes (`tcp_inactivity_timeout`), UDP and ICMP after one. An attempt that nobody
# answers is written 5 s after its first SYN (`tcp_attempt_delay`).
CLOSE_DELAY, TCP_IDLE, OTHER_IDLE, ATTEMPT_DELAY = 5.0, 300.0, 60.0, 5.0
LEFT_OPEN = ("S1", "S2", "S3", "OTH")
# A DNS session is looked at every 10 s from its start (`dns_session_timeout`) and written when it was silent for a second less.
DNS_LOOK, DNS_IDLE = 10.0, 9.0
ALPHABET = np.frombuffer(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", dtype="S1")
# Documentation addresses (RFC 5737) of those who control the bots, hand out their binaries, and are flooded.
CHAT, HOME_1, HOME_2, BEAT_1, BEAT_2 = "203.0.113.5", "203.0.113.18", "203.0.113.31", "203.0.113.66", "203.0.113.92"
HIDDEN, BINARIES, VICTIM = "203.0.113.140", "203.0.113.177", "203.0.113.220"


@dataclass(frozen=True)
class Capture:
    """One simulated capture: who was watched for how long, what happened in how many rows, and the spelling of its file.

    `folder` is the conn log's within the capture's; `parents` what tunnel_parents holds ("" is written `(empty)`, None `-`).
    """

    name: str
    opened: datetime
    hours: float
    host: int
    plan: tuple[tuple[Behaviour, int], ...]
    folder: str = "bro"
    benign: str = BENIGN
    parents: str | None = None
    footer: Literal["plain", "missing", "labelled"] = "plain"


CAPTURES = (
    # A light bridge: a clock, announcements to the house, a cloud that it looks for again and again.
    Capture(
        "SIM-Honeypot-Capture-1-1",
        datetime(2024, 3, 4, 9, 12, 40, tzinfo=UTC),
        hours=24,
        host=132,
        plan=(
            (partial(clock, heard=1.0, port=None), 180),
            (partial(lookup, heard=0.97, names=(15, 19, 24)), 300),
            (announcements, 90),
            (service_discovery, 40),
            (cloud_session, 70),
            (reachability, 120),
            (web_call, 80),
            (address_request, 6),
        ),
        benign="benign",
        footer="labelled",
    ),
    # A smart speaker: many sessions with the cloud, and a busy local network.
    Capture(
        "SIM-Honeypot-Capture-2-1",
        datetime(2024, 4, 17, 13, 5, 2, tzinfo=UTC),
        hours=5.5,
        host=103,
        plan=(
            (partial(clock, heard=0.5, port=None), 130),
            (partial(lookup, heard=0.98, names=(18, 22, 26, 31)), 420),
            (cloud_session, 330),
            (web_call, 240),
            (reachability, 90),
            (forgotten, 90),
            (failed_call, 40),
            (service_discovery, 120),
            (partial(service_discovery, ipv6=True), 110),
            (address_request, 70),
            (partial(neighbours, kind="membership"), 25),
            (partial(neighbours, kind="detection"), 10),
            (ping, 70),
        ),
        benign="benign",
    ),
    # A door lock while it is being set up: an address, neighbours, a handful of sessions. Its folder has one level more.
    Capture(
        "SIM-Honeypot-Capture-3-1",
        datetime(2024, 5, 22, 7, 48, 15, tzinfo=UTC),
        hours=1.5,
        host=158,
        plan=(
            (address_request, 20),
            (address_answer, 6),
            (partial(neighbours, kind="solicitation"), 20),
            (partial(neighbours, kind="detection"), 20),
            (partial(neighbours, kind="membership"), 35),
            (partial(service_discovery, ipv6=True), 60),
            (ping, 20),
            (partial(lookup, heard=1.0), 12),
            (partial(clock, heard=1.0, port=None), 8),
            (partial(cloud_session, small=True), 12),
        ),
        folder="Lock-01/bro",
        benign="benign",
    ),
    # An IRC bot: control over chat, a scan with ordinary sockets, one flood, binaries from the controller.
    Capture(
        "SIM-Malware-Capture-1-1",
        datetime(2024, 6, 10, 15, 30, 31, tzinfo=UTC),
        hours=24,
        host=195,
        plan=(
            (partial(clock, heard=0.55), 700),
            (partial(lookup, heard=0.5), 250),
            (partial(failed_call, resp_p=80), 120),
            (unreachable, 70),
            (partial(chat_control, resp_h=CHAT), 700),
            (partial(call_home, resp_h=CHAT, resp_p=6667, tries=(3, 3, 4)), 900),
            (telnet_scan, 7000),
            (partial(unsummed_flood, resp_h=VICTIM), 1400),
            (partial(file_download, resp_h=CHAT, label="C&C-FileDownload"), 14),
        ),
        footer="missing",
    ),
    # Okiru: a raw scan for one router's service port, and a controller that it tells that it is alive.
    Capture(
        "SIM-Malware-Capture-2-1",
        datetime(2024, 7, 2, 12, 36, 54, tzinfo=UTC),
        hours=24,
        host=198,
        plan=(
            (partial(clock, heard=0.6), 900),
            (partial(lookup, heard=0.5), 200),
            (failed_call, 80),
            (unreachable, 50),
            (partial(heartbeat, resp_h=BEAT_1, resp_p=57_722), 420),
            (partial(raw_scan, ports=(37_215,), label="Okiru"), 6300),
        ),
    ),
    # A bot for hire: raw scans for several services, floods, and a heartbeat.
    Capture(
        "SIM-Malware-Capture-3-1",
        datetime(2024, 8, 19, 10, 2, 8, tzinfo=UTC),
        hours=24,
        host=111,
        plan=(
            (partial(clock, heard=0.9), 1000),
            (partial(lookup, heard=0.8), 350),
            (partial(failed_call, resp_p=8080), 80),
            (unreachable, 80),
            (partial(heartbeat, resp_h=BEAT_2, resp_p=666), 260),
            (partial(raw_scan, ports=(23, 2323), twice=0.4), 3600),
            (partial(raw_scan, ports=(52_869, 8081), twice=0.1), 1100),
            (partial(raw_scan, ports=(37_215,), label="Okiru"), 700),
            (partial(syn_flood, resp_h=VICTIM), 2700),
            (partial(udp_flood, resp_h=VICTIM), 900),
        ),
        parents="",
    ),
    # A bot whose controllers are gone: it calls in vain all day, and had its binaries from a third host.
    Capture(
        "SIM-Malware-Capture-4-1",
        datetime(2024, 9, 25, 18, 44, 23, tzinfo=UTC),
        hours=24,
        host=113,
        plan=(
            (partial(clock, heard=0.98), 1804),
            (partial(lookup, heard=0.9), 150),
            (failed_call, 80),
            (partial(call_home, resp_h=HOME_1, resp_p=50), 1300),
            (partial(call_home, resp_h=HOME_2, resp_p=50, tries=(6, 7)), 1100),
            (partial(file_download, resp_h=BINARIES, label="FileDownload"), 12),
        ),
        parents="",
    ),
    # Torii: next to nothing to see among the device's own traffic.
    Capture(
        "SIM-Malware-Capture-5-1",
        datetime(2024, 10, 14, 8, 20, 47, tzinfo=UTC),
        hours=24,
        host=120,
        plan=(
            (partial(clock, heard=0.68), 2100),
            (partial(lookup, heard=0.6), 600),
            (failed_call, 120),
            (partial(hidden_control, resp_h=HIDDEN), 16),
        ),
    ),
)
DEFAULT_SIZE = sum(rows for capture in CAPTURES for _, rows in capture.plan)
SMALLEST_SIZE = 1000


def allotted(size: int) -> list[list[int]]:
    """Rows of each behaviour of each capture, in proportion to the plan but at least FEWEST_ROWS; they add up to `size`."""
    planned = np.array([rows for capture in CAPTURES for _, rows in capture.plan])
    rare = planned * size < FEWEST_ROWS * DEFAULT_SIZE
    free = size - FEWEST_ROWS * int(rare.sum())
    rows = np.where(rare, FEWEST_ROWS, np.maximum(FEWEST_ROWS, planned * free // int(planned[~rare].sum())))
    rows[planned.argmax()] += size - int(rows.sum())
    ends = np.cumsum([len(capture.plan) for capture in CAPTURES])
    return [part.tolist() for part in np.split(rows, ends[:-1])]


def flows_of(capture: Capture, rows: list[int], rng: Generator) -> pl.DataFrame:
    """The capture's conn log, with `rows` flows of each behaviour, in the order in which Zeek would have written them."""
    planned = sum(count for _, count in capture.plan)
    seconds = max(SHORTEST, capture.hours * 3600 * sum(rows) / planned)
    home = Home(f"192.168.1.{capture.host}", f"fe80::5054:ff:fe00:{capture.host:x}", "192.168.1.1", seconds)
    parts = [behaviour(rng, count, home) for (behaviour, _), count in zip(capture.plan, rows, strict=True)]
    columns = sorted(parts[0].columns)
    flows = _in_writing_order(pl.concat(part.select(columns) for part in parts), seconds, rng)
    attack = pl.format("Malicious{}{}", pl.lit(JOIN), "label")
    return flows.with_columns(
        ts=pl.lit(capture.opened).dt.cast_time_unit("us") + pl.duration(microseconds=pl.col("ts") * 1e6),
        uid=pl.Series(_uids(len(flows), rng)),
        local_orig=pl.lit(None, pl.Boolean),
        local_resp=pl.lit(None, pl.Boolean),
        tunnel_parents=pl.lit(capture.parents, pl.String),
        label_original=pl.when(pl.col("label") == BENIGN).then(pl.lit(capture.benign + JOIN + UNSET)).otherwise(attack),
    )


def _in_writing_order(flows: pl.DataFrame, seconds: float, rng: Generator) -> pl.DataFrame:
    """`flows` as Zeek writes them: when it forgets a connection, and what is left when the capture ends in no order."""
    lasts = pl.col("duration").fill_null(0)
    ends = pl.col("ts") + lasts
    forgotten_at = (
        pl.when(pl.col("service") == "dns")
        .then(pl.col("ts") + DNS_LOOK * ((lasts + DNS_IDLE) / DNS_LOOK).ceil())
        .when(pl.col("proto") != "tcp")
        .then(ends + OTHER_IDLE)
        .when(pl.col("conn_state") == "S0")
        .then(pl.col("ts") + ATTEMPT_DELAY)
        .when(pl.col("conn_state").is_in(LEFT_OPEN))
        .then(ends + TCP_IDLE)
        .otherwise(ends + CLOSE_DELAY)
    )
    shuffled = flows[rng.permutation(len(flows))]
    return shuffled.sort(pl.min_horizontal(forgotten_at, pl.lit(seconds)), maintain_order=True)


def _uids(count: int, rng: Generator) -> list[str]:
    """Zeek's connection identifiers (count,): C and 17 letters or digits."""
    letters = ALPHABET[rng.integers(0, len(ALPHABET), (count, 17))]
    return [f"C{uid.decode()}" for uid in letters.view("S17")[:, 0]]
