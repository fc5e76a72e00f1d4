"""What benign devices say: a drawing function a protocol, `draw(rng, at, device=...)` for the flows that begin at `at` (n,)."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.random import Generator

from fliot_lab.data.sample.behaviours import Device, attempts, between, endings, ephemeral, round_trip, targets
from fliot_lab.data.sample.connections import ICMP4, ICMP6, Array, icmp, stray_fin, tcp, udp

# Chosen, in 192.0.2.0/24 and 198.51.100.0/24 (RFC 5737). The last one is a server that is down.
TIME_SERVERS = ("192.0.2.11", "192.0.2.42", "192.0.2.76", "192.0.2.120")
CLOUD = ("198.51.100.7", "198.51.100.24", "198.51.100.81", "198.51.100.143", "198.51.100.190")
GONE = "198.51.100.250"
# ICMPv6 type, the type that Zeek shows as the responder's port, bytes after the 8-byte header, header bytes a packet, group:
# router solicitation with its sender's link address (RFC 4861, 4.1); neighbour solicitation for duplicate address detection
# (RFC 4862, 5.4.2: 24 bytes, so 16 after the header); MLDv2 report of one record, behind a hop-by-hop header (RFC 3810, 5.2).
NEIGHBOURS = {
    "solicitation": (133, 134, 8, ICMP6, "ff02::2"),
    "detection": (135, 136, 16, ICMP6, "ff02::1:ff00:"),
    "membership": (143, 0, 20, ICMP6 + 8, "ff02::16"),
}
# How a session with a server ends: what TLS libraries and servers do (shares chosen).
TLS_ENDINGS = {
    "server closes": 0.35,
    "client closes": 0.3,
    "server resets": 0.13,
    "server half-closes": 0.07,
    "client half-closes": 0.05,
    "client resets": 0.1,
}
WEB_ENDINGS = {"server closes": 0.7, "client closes": 0.3}


# --- time, names, addresses ---------------------------------------------------------------------------------------------


def clock(
    rng: Generator,
    at: Array,
    *,
    device: Device,
    heard: bool,
    server: str = TIME_SERVERS[0],
    packets: int = 1,
    port: int | None = 123,
) -> pl.DataFrame:
    """NTP polls of `packets`, answered where `heard`; from port 123 as ntpd does, or from any (`port` None)."""
    polls = np.full(len(at), packets)
    answers = polls * heard
    # The packets of a burst follow each other after 2 s (RFC 5905, 13.2).
    seconds = 2 * (polls - 1) + heard * round_trip(rng, len(at), device.delay)
    flows = udp(48 * polls, polls, 48 * answers, answers, seconds=seconds)  # an NTP packet is 48 bytes (RFC 5905, 7.3)
    ports = ephemeral(rng, len(at)) if port is None else port
    return between(flows, at, device, ports, server, 123, "udp")


def lookup(
    rng: Generator, at: Array, *, device: Device, heard: float = 0.98, names: Sequence[int] = (21, 27), both: float = 0.4
) -> pl.DataFrame:
    """DNS look-ups of names of `names` characters at the router, of which the share `heard` is answered.

    The share `both` asks for IPv4 and IPv6 from one port, as the C library does.
    """
    count = len(at)
    # Header of 12 bytes, the name with its first length and last zero, type and class of 4 bytes (RFC 1035, 4.1).
    question = 12 + (rng.choice(np.asarray(names), count) + 2) + 4
    answered = rng.random(count) < heard
    asked = 1 + (rng.random(count) < both)
    again = 1 + (rng.random(count) < 0.75)  # unanswered, it asks again after 5 s (resolv.conf(5), timeout)
    queries = np.where(answered, asked, again)
    # An address record with a compressed name takes 16 bytes (RFC 1035, 4.1.4); one to four are usual, or none for IPv6.
    answer = question + 16 * rng.integers(0, 5, count)
    cached = rng.random(count) < 0.5  # the router knows the name already, and answers within a millisecond or so (chosen)
    waited = (again - 1) * (5 + rng.uniform(0, 0.006, count))
    seconds = np.where(
        answered, np.where(cached, rng.lognormal(-7.0, 0.5, count), round_trip(rng, count, device.delay)), waited
    )
    flows = udp(question * queries, queries, answer * asked * answered, asked * answered, seconds=seconds)
    return between(flows, at, device, ephemeral(rng, count), device.router, 53, "udp", service="dns")


def address_request(rng: Generator, at: Array, *, device: Device) -> pl.DataFrame:
    """DHCP broadcasts of a device without an address, repeated after 4, 8 and 16 s (RFC 2131, 4.1)."""
    tries = rng.integers(1, 5, len(at))
    seconds = 4 * (2.0 ** (tries - 1) - 1) + rng.uniform(-1, 1, len(at))
    flows = udp(300 * tries, tries, 0, 0, seconds=seconds)  # a DHCP message fills BOOTP's 300 bytes (RFC 1542, 2.1)
    return between(flows, at, device, 68, "255.255.255.255", 67, "udp", service="dhcp", orig_h="0.0.0.0")


def address_answer(rng: Generator, at: Array, *, device: Device) -> pl.DataFrame:
    """DHCP answers (offer, acknowledgement) to broadcasts, which are another row, so that Zeek sees one side only."""
    none = np.zeros(len(at), dtype=np.int64)
    flows = udp(0, none, 600, none + 2, seconds=rng.uniform(0.003, 0.02, len(at)))
    return between(flows, at, device, 68, device.router, 67, "udp", service="dhcp")


def address_renewal(rng: Generator, at: Array, *, device: Device) -> pl.DataFrame:
    """DHCP renewals, asked of the router itself when half of the lease is over (RFC 2131, 4.4.5)."""
    one = np.ones(len(at), dtype=np.int64)
    flows = udp(300, one, 300, one, seconds=rng.uniform(0.001, 0.02, len(at)))
    return between(flows, at, device, 68, device.router, 67, "udp", service="dhcp")


def neighbours(rng: Generator, at: Array, *, device: Device, kind: str) -> pl.DataFrame:
    """ICMPv6 of a `kind` of NEIGHBOURS, up to three packets 4 s apart (RFC 4861, 10: three solicitations, 4 s)."""
    icmp_type, counterpart, payload, header, group = NEIGHBOURS[kind]
    alone = kind == "detection"
    packets = np.ones(len(at), dtype=np.int64) if alone else rng.integers(1, 4, len(at))
    seconds = (packets - 1) * 4 + rng.uniform(0, 0.05, len(at))
    flows = icmp(payload * packets, packets, 0, 0, seconds=seconds, header=header)
    if alone:  # asked of the group of its last 24 bits (RFC 4291, 2.7.1)
        group += device.address6.rpartition(":")[2]
    sender = "::" if alone else device.address6  # while it is being checked, an address is not in use
    return between(flows, at, device, icmp_type, group, counterpart, "icmp", orig_h=sender)


# --- being found, and finding --------------------------------------------------------------------------------------------


def announcements(rng: Generator, at: Array, *, device: Device, messages: int = 6) -> pl.DataFrame:
    """UPnP announcements to the SSDP group: sets of messages, repeated every 15 s for a while."""
    # A root device announces 3 messages, and more for each service (UPnP Device Architecture 1.1, 1.2.2). The rest: chosen.
    sets = rng.geometric(0.25, len(at)).clip(1, 40)
    packets = messages * sets
    flows = udp(314 * packets, packets, 0, 0, seconds=15 * (sets - 1) + rng.uniform(0.1, 0.5, len(at)))
    return between(flows, at, device, 1900, "239.255.255.250", 1900, "udp")


def service_discovery(
    rng: Generator, at: Array, *, device: Device, ipv6: bool = False, names: Sequence[int] = (30, 42, 58)
) -> pl.DataFrame:
    """Multicast DNS questions, asked again 1, 2 and 4 s later (RFC 6762, 5.2)."""
    questions = rng.choice([1, 2, 3, 4], len(at), p=[0.4, 0.15, 0.15, 0.3])  # shares chosen
    size = 12 + rng.choice(np.asarray(names), len(at)) + 2 + 4  # as a DNS question
    seconds = 2.0 ** (questions - 1) - 1 + rng.uniform(0.001, 0.12, len(at))
    flows = udp(size * questions, questions, 0, 0, seconds=seconds, ipv6=ipv6)
    sender, group = (device.address6, "ff02::fb") if ipv6 else (device.address, "224.0.0.251")
    return between(flows, at, device, 5353, group, 5353, "udp", service="dns", orig_h=sender)


def ping(rng: Generator, at: Array, *, device: Device, echoes: int = 10) -> pl.DataFrame:
    """Echo requests to the router, one a second, with the 56 bytes of data that ping sends."""
    sent = np.full(len(at), echoes)
    seconds = sent - 1 + rng.uniform(0.002, 0.03, len(at))
    flows = icmp(56 * sent, sent, 56 * sent, sent, seconds=seconds, header=ICMP4)
    return between(flows, at, device, 8, device.router, 0, "icmp")


def unreachable(rng: Generator, at: Array, *, device: Device, seconds: float = 30.0) -> pl.DataFrame:
    """ICMP errors that routers send to a scanning device within so many seconds.

    They quote 28 bytes (RFC 792) or the whole SYN (RFC 1812, 4.3.2.3).
    """
    count = len(at)
    packets = 1 + (rng.random(count) < 0.15)
    quoted = rng.choice([28, 40, 60], count) * packets
    flows = icmp(quoted, packets, 0, 0, seconds=rng.integers(2, 10, count) * 1e-6, header=ICMP4)
    # Zeek's "ports" of an ICMP error are its type, 3, and its code: no host, no port, filtered (RFC 1812, 5.2.7.1).
    codes = rng.choice([1, 3, 13], count)
    when = at + rng.uniform(0, seconds, count)
    return between(flows, when, device, 3, device.address, codes, "icmp", orig_h=targets(rng, count))


# --- servers -------------------------------------------------------------------------------------------------------------


def secure_call(
    rng: Generator,
    at: Array,
    *,
    device: Device,
    hello: int = 310,
    certificate: int = 3600,
    says: float = 400.0,
    port: int = 443,
) -> pl.DataFrame:
    """TLS sessions with the maker's cloud: a handshake of fixed size, and messages of some `says` bytes each way.

    A client hello has some 200 to 500 bytes, a certificate chain 2.5 to 5 kB (RFC 8446, 4.1.2 and 4.4.2): of one device and
    one server they are always the same. What is said afterwards has few sizes too, since programs say it (chosen).
    """
    count = len(at)
    messages = rng.geometric(0.6, count).clip(1, 12)
    sent = hello + 90 + np.rint(says * rng.choice([0.5, 1.0, 1.6], count)).astype(np.int64) * messages
    received = certificate + np.rint(says * rng.choice([0.2, 0.8, 3.0], count)).astype(np.int64) * messages
    waits = rng.exponential(0.3, count) + (rng.random(count) < 0.3) * rng.choice([5.0, 15.0, 60.0], count)
    seconds = (4 + messages) * round_trip(rng, count, device.delay) + waits
    ends = endings(rng, count, TLS_ENDINGS)
    flows = tcp(rng, count, ends, sent=sent, received=received, seconds=seconds, pieces=1 + messages)
    return to_cloud(rng, flows, at, device, port, "ssl")


def held_session(
    rng: Generator, at: Array, *, device: Device, minutes: float = 30.0, beat: float = 60.0, says: int = 60, port: int = 8883
) -> pl.DataFrame:
    """TLS sessions that stay open for `minutes` in the mean, with a keep-alive each way every `beat` seconds (MQTT's PING)."""
    count = len(at)
    beats = 1 + rng.poisson(rng.exponential(60 * minutes / beat, count)).clip(0, 3000)
    seconds = beat * beats + rng.uniform(0, beat, count)
    ends = endings(rng, count, {"server closes": 0.3, "server resets": 0.3, "client resets": 0.2, "open": 0.2})
    flows = tcp(rng, count, ends, sent=420 + says * beats, received=3100 + says * beats, seconds=seconds, pieces=2 + beats)
    return to_cloud(rng, flows, at, device, port, "ssl")


def web_call(
    rng: Generator, at: Array, *, device: Device, sent: Sequence[int] = (120, 200), received: Sequence[int] = (240, 800)
) -> pl.DataFrame:
    """Short HTTP calls: is there an Internet, is there an update. A program asks the same each time: few sizes (chosen)."""
    count = len(at)
    seconds = 3 * round_trip(rng, count, device.delay) + rng.exponential(0.05, count)
    out, back = rng.choice(np.asarray(sent), count), rng.choice(np.asarray(received), count)
    flows = tcp(rng, count, endings(rng, count, WEB_ENDINGS), sent=out, received=back, seconds=seconds)
    return to_cloud(rng, flows, at, device, 80, "http")


def reachability(rng: Generator, at: Array, *, device: Device, small: bool = True) -> pl.DataFrame:
    """Connections to the cloud that are opened and closed without a word, to see whether it is there."""
    seconds = 2 * round_trip(rng, len(at), device.delay)
    flows = tcp(rng, len(at), "client closes", sent=0, received=0, seconds=seconds, small=small)
    return to_cloud(rng, flows, at, device, 443)


def forgotten(rng: Generator, at: Array, *, device: Device) -> pl.DataFrame:
    """Late FINs of HTTP connections that were idle for longer than Zeek remembers."""
    return to_cloud(rng, stray_fin(len(at)), at, device, 80)


def call_in_vain(
    rng: Generator, at: Array, *, device: Device, port: int = 443, tries: tuple[int, ...] = (3, 5, 6, 7)
) -> pl.DataFrame:
    """A benign device's calls to a server that is down: silence, and SYNs again until the program or the kernel gives up."""
    return attempts(rng, at, device, tries, GONE, port)


def upload(
    rng: Generator,
    at: Array,
    *,
    device: Device,
    bytes_a_second: float = 40_000.0,
    seconds: float = 20.0,
) -> pl.DataFrame:
    """What a camera sends when something moves: a clip of some seconds over TLS."""
    count = len(at)
    lasts = rng.exponential(seconds, count) + 3
    pace = rng.lognormal(np.log(bytes_a_second), 0.3, count)
    sent = (lasts * pace).astype(np.int64).clip(1000, 40_000_000)
    flows = tcp(rng, count, endings(rng, count, TLS_ENDINGS), sent=sent, received=3900, seconds=lasts, pieces=4)
    return to_cloud(rng, flows, at, device, 443, "ssl")


def report(
    rng: Generator, at: Array, *, device: Device, port: int = 5683, size: int = 62, heard: float = 0.98, server: str = CLOUD[1]
) -> pl.DataFrame:
    """A sensor's reading in one datagram, with the 4 bytes of an acknowledgement (CoAP, RFC 7252, 4.2) where it is `heard`."""
    count = len(at)
    answered = rng.random(count) < heard
    # Unheard, it says it again after 2 to 3 s and twice that (RFC 7252, 4.8).
    packets = np.where(answered, 1, 3)
    seconds = np.where(answered, round_trip(rng, count, device.delay), rng.uniform(6, 9, count))
    flows = udp(size * packets, packets, 4 * answered, answered.astype(np.int64), seconds=seconds)
    return between(flows, at, device, ephemeral(rng, count), server, port, "udp")


def log_line(rng: Generator, at: Array, *, device: Device, size: int = 118, host: str = "192.168.1.10") -> pl.DataFrame:
    """Syslog lines to the site's own server, which never answers (RFC 5426)."""
    lines = 1 + rng.poisson(0.4, len(at))
    flows = udp(size * lines, lines, 0, 0, seconds=rng.exponential(2.0, len(at)))
    return between(flows, at, device, ephemeral(rng, len(at)), host, 514, "udp", service="syslog")


def register_polls(
    rng: Generator, at: Array, *, device: Device, master: str = "192.168.1.10", reads: int = 20, registers: int = 10
) -> pl.DataFrame:
    """Modbus sessions of the plant's master with this controller: `reads` of some registers, one a second.

    A request takes 12 bytes, an answer 9 and two for each register (Modbus Messaging on TCP/IP 1.0b, 3.1.3).
    """
    count = len(at)
    asked = rng.poisson(reads, count).clip(1, None)
    seconds = asked * 1.0 + rng.uniform(0, 0.02, count)
    ends = endings(rng, count, {"client closes": 0.9, "client resets": 0.06, "server resets": 0.04})
    answer = 9 + 2 * registers
    flows = tcp(rng, count, ends, sent=12 * asked, received=answer * asked, seconds=seconds, pieces=asked, small=True)
    return between(flows, at, device, ephemeral(rng, count), device.address, 502, "tcp", service="modbus", orig_h=master)


def record(
    rng: Generator,
    at: Array,
    *,
    device: Device,
    server: str = "192.168.1.10",
    port: int = 2575,
    sizes: Sequence[int] = (340, 512),
) -> pl.DataFrame:
    """Records to the site's own server and its short acknowledgement, as HL7 has them on port 2575 (sizes chosen)."""
    count = len(at)
    seconds = rng.uniform(0.002, 0.08, count)
    out = rng.choice(np.asarray(sizes), count)
    flows = tcp(rng, count, endings(rng, count, WEB_ENDINGS), sent=out, received=92, seconds=seconds)
    return between(flows, at, device, ephemeral(rng, count), server, port, "tcp")


def to_cloud(
    rng: Generator, flows: pl.DataFrame, at: Array, device: Device, resp_p: int, service: str | None = None
) -> pl.DataFrame:
    """`flows` over TCP from any port to the makers' servers."""
    servers = np.asarray(CLOUD)[rng.integers(0, len(CLOUD), len(flows))]
    return between(flows, at, device, ephemeral(rng, len(flows)), servers, resp_p, "tcp", service=service)
