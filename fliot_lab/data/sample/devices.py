"""What devices do on the network, with or without malware on them: one vectorised function per behaviour."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.random import Generator

from fliot_lab.data.sample.behaviours import (
    Home,
    anywhere,
    between,
    calls,
    ended,
    ephemeral,
    evenly,
    round_trip,
    targets,
    to_cloud,
)
from fliot_lab.data.sample.connections import ICMP4, ICMP6, icmp, refused, stray_fin, udp

# Chosen, in 192.0.2.0/24 and 198.51.100.0/24 (RFC 5737). The last one is a server that is down.
TIME_SERVERS = ("192.0.2.11", "192.0.2.42", "192.0.2.76", "192.0.2.120", "192.0.2.201")
GONE = "198.51.100.250"
# ICMPv6 type, the type that Zeek shows as the responder's port, bytes after the 8-byte header, header bytes a packet, group:
# router solicitation with its sender's link address (RFC 4861, 4.1); neighbour solicitation for duplicate address detection
# (RFC 4862, 5.4.2: 24 bytes, so 16 after the header); MLDv2 report of one record, behind a hop-by-hop header (RFC 3810, 5.2).
NEIGHBOURS = {
    "solicitation": (133, 134, 8, ICMP6, "ff02::2"),
    "detection": (135, 136, 16, ICMP6, "ff02::1:ff00:"),
    "membership": (143, 0, 20, ICMP6 + 8, "ff02::16"),
}


def clock(rng: Generator, count: int, home: Home, *, heard: float = 0.7, port: int | None = 123) -> pl.DataFrame:
    """NTP polls, of which the share `heard` is answered; from port 123 as ntpd does, or from any (`port` None)."""
    # Two polls closer than Zeek's UDP timeout of a minute are one row; a poll is due every 64 s or later (RFC 5905, 7.3).
    polls = 1 + (rng.random(count) < 0.08)
    answers = polls * (rng.random(count) < heard)
    seconds = (polls - 1) * rng.uniform(25, 59, count) + (answers > 0) * round_trip(rng, count)
    flows = udp(48 * polls, polls, 48 * answers, answers, seconds=seconds)  # an NTP packet is 48 bytes (RFC 5905, 7.3)
    ports = ephemeral(rng, count) if port is None else port
    return between(flows, evenly(rng, flows, home), home, ports, rng.choice(TIME_SERVERS, count), 123, "udp")


def lookup(rng: Generator, count: int, home: Home, *, heard: float = 0.8, names: Sequence[int] = (21, 27)) -> pl.DataFrame:
    """DNS look-ups of names of `names` characters at the router, of which the share `heard` is answered."""
    # Header of 12 bytes, the name with its first length and last zero, type and class of 4 bytes (RFC 1035, 4.1).
    question = 12 + (rng.choice(np.asarray(names), count) + 2) + 4
    answered = rng.random(count) < heard
    both = 1 + (rng.random(count) < 0.5)  # the C library may ask for IPv4 and IPv6 from one port
    again = 1 + (rng.random(count) < 0.8)  # unanswered, it asks again after 5 s (resolv.conf(5), timeout)
    queries = np.where(answered, both, again)
    # An address record with a compressed name takes 16 bytes (RFC 1035, 4.1.4); one to four are usual.
    answer = question + 16 * rng.integers(1, 5, count)
    waited = (again - 1) * (5 + rng.uniform(0, 0.006, count))
    seconds = np.where(answered, both * round_trip(rng, count), waited)
    flows = udp(question * queries, queries, answer * both * answered, both * answered, seconds=seconds)
    at = anywhere(rng, flows, home)
    return between(flows, at, home, ephemeral(rng, count), home.router, 53, "udp", service="dns")


def announcements(rng: Generator, count: int, home: Home) -> pl.DataFrame:
    """UPnP announcements to the SSDP group: sets of 6 messages, repeated every 15 s for a while."""
    # A root device announces 3 messages, and more for each service (UPnP Device Architecture 1.1, 1.2.2). The rest: chosen.
    sets = rng.geometric(0.25, count).clip(1, 60)
    flows = udp(314 * 6 * sets, 6 * sets, 0, 0, seconds=15 * (sets - 1) + rng.uniform(0.1, 0.5, count))
    return between(flows, anywhere(rng, flows, home), home, 1900, "239.255.255.250", 1900, "udp")


def service_discovery(rng: Generator, count: int, home: Home, *, ipv6: bool = False) -> pl.DataFrame:
    """Multicast DNS questions, asked again 1, 2 and 4 s later (RFC 6762, 5.2)."""
    questions = rng.integers(1, 5, count)
    size = 12 + rng.choice([30, 42, 58], count) + 2 + 4  # as a DNS question, for service names of chosen lengths
    seconds = 2.0 ** (questions - 1) - 1 + rng.uniform(0.001, 0.12, count)
    flows = udp(size * questions, questions, 0, 0, seconds=seconds, ipv6=ipv6)
    sender, group = (home.address6, "ff02::fb") if ipv6 else (home.address, "224.0.0.251")
    at = anywhere(rng, flows, home)
    return between(flows, at, home, 5353, group, 5353, "udp", service="dns", orig_h=sender)


def address_request(rng: Generator, count: int, home: Home) -> pl.DataFrame:
    """DHCP broadcasts of a device without an address, repeated after 4, 8 and 16 s (RFC 2131, 4.1)."""
    tries = rng.integers(1, 5, count)
    seconds = 4 * (2.0 ** (tries - 1) - 1) + rng.uniform(-1, 1, count)
    flows = udp(300 * tries, tries, 0, 0, seconds=seconds)  # a DHCP message fills BOOTP's 300 bytes (RFC 1542, 2.1)
    at = anywhere(rng, flows, home)
    return between(flows, at, home, 68, "255.255.255.255", 67, "udp", service="dhcp", orig_h="0.0.0.0")


def address_answer(rng: Generator, count: int, home: Home) -> pl.DataFrame:
    """DHCP answers (offer, acknowledgement) to broadcasts, which are another row, so that Zeek sees one side only."""
    flows = udp(0, np.zeros(count, dtype=np.int64), 600, 2, seconds=rng.uniform(0.003, 0.02, count))
    return between(flows, anywhere(rng, flows, home), home, 68, home.router, 67, "udp", service="dhcp")


def neighbours(rng: Generator, count: int, home: Home, *, kind: str) -> pl.DataFrame:
    """ICMPv6 of a `kind` of NEIGHBOURS, up to three packets 4 s apart (RFC 4861, 10: three solicitations, 4 s)."""
    icmp_type, counterpart, payload, header, group = NEIGHBOURS[kind]
    alone = kind == "detection"
    packets = np.ones(count, dtype=np.int64) if alone else rng.integers(1, 4, count)
    seconds = (packets - 1) * 4 + rng.uniform(0, 0.05, count)
    flows = icmp(payload * packets, packets, 0, 0, seconds=seconds, header=header)
    if alone:  # asked of the group of its last 24 bits (RFC 4291, 2.7.1)
        group += home.address6.rpartition(":")[2]
    sender = "::" if alone else home.address6  # while it is being checked, an address is not in use
    return between(flows, anywhere(rng, flows, home), home, icmp_type, group, counterpart, "icmp", orig_h=sender)


def ping(rng: Generator, count: int, home: Home) -> pl.DataFrame:
    """Echo requests to the router, one a second, with the 56 bytes of data that ping sends."""
    echoes = rng.integers(1, 11, count)
    seconds = echoes - 1 + rng.uniform(0.002, 0.03, count)
    flows = icmp(56 * echoes, echoes, 56 * echoes, echoes, seconds=seconds, header=ICMP4)
    return between(flows, anywhere(rng, flows, home), home, 8, home.router, 0, "icmp")


def cloud_session(rng: Generator, count: int, home: Home, *, small: bool = False) -> pl.DataFrame:
    """TLS sessions with the maker's cloud: short calls, and some that stay open with a message a minute."""
    held = (rng.random(count) < 0.15) * rng.exponential(900, count).clip(0, home.seconds / 3)
    messages = 2 + held // 60
    # A client hello has some 200 to 500 bytes, a certificate chain 2.5 to 5 kB (RFC 8446, 4.1.2 and 4.4.2). The rest: chosen.
    sent = rng.integers(200, 520, count) + rng.lognormal(6.2, 1.0, count) + 90 * messages
    received = rng.integers(2500, 5000, count) + rng.lognormal(6.5, 1.4, count) + 80 * messages
    seconds = 5 * round_trip(rng, count) + rng.lognormal(0.5, 1.2, count).clip(0, 300) + held
    endings = {
        "server closes": 0.3,
        "client closes": 0.25,
        "server resets": 0.2,
        "server half-closes": 0.1,
        "client half-closes": 0.05,
        "client resets": 0.1,
    }
    flows = ended(rng, endings, sent=sent, received=received, seconds=seconds, pieces=messages, small=small)
    return to_cloud(rng, flows, home, 443, "ssl")


def web_call(rng: Generator, count: int, home: Home) -> pl.DataFrame:
    """Short HTTP calls: is there an Internet, is there an update. Sizes of a small request and answer (chosen)."""
    sent, received = rng.integers(80, 240, count), rng.lognormal(6, 0.5, count) + 150
    seconds = 3 * round_trip(rng, count) + rng.exponential(0.1, count)
    endings = {"server closes": 0.7, "client closes": 0.3}
    flows = ended(rng, endings, sent=sent, received=received, seconds=seconds)
    return to_cloud(rng, flows, home, 80, "http")


def reachability(rng: Generator, count: int, home: Home) -> pl.DataFrame:
    """Connections to the cloud that are opened and closed without a word, to see whether it is there."""
    nothing = np.zeros(count)
    flows = ended(rng, {"client closes": 1.0}, sent=nothing, received=nothing, seconds=2 * round_trip(rng, count))
    return to_cloud(rng, flows, home, 443)


def forgotten(rng: Generator, count: int, home: Home) -> pl.DataFrame:
    """Late FINs of HTTP connections that were idle for longer than Zeek remembers."""
    return to_cloud(rng, stray_fin(count), home, 80)


def failed_call(rng: Generator, count: int, home: Home, *, resp_p: int = 443) -> pl.DataFrame:
    """A benign device's calls to a server that is down: silence mostly, one refusal in ten (chosen)."""
    turned_away = count // 10
    refusals = refused(turned_away, seconds=round_trip(rng, turned_away))
    at = anywhere(rng, refusals, home)
    return pl.concat(
        [
            between(refusals, at, home, ephemeral(rng, turned_away), GONE, resp_p, "tcp"),
            calls(rng, count - turned_away, home, (3, 5, 6, 7), GONE, resp_p),
        ]
    )


def unreachable(rng: Generator, count: int, home: Home) -> pl.DataFrame:
    """ICMP errors that routers send to a scanning device, quoting 28 bytes (RFC 792) or the whole SYN (RFC 1812, 4.3.2.3)."""
    packets = 1 + (rng.random(count) < 0.15)
    quoted = rng.choice([28, 40, 60], count) * packets
    flows = icmp(quoted, packets, 0, 0, seconds=rng.integers(2, 10, count) * 1e-6, header=ICMP4)
    # Zeek's "ports" of an ICMP error are its type, 3, and its code: no host, no port, filtered (RFC 1812, 5.2.7.1).
    codes = rng.choice([1, 3, 13], count)
    at = anywhere(rng, flows, home)
    return between(flows, at, home, 3, home.address, codes, "icmp", orig_h=targets(rng, count))
