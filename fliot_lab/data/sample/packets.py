"""Packets as bytes, from Ethernet to TCP, and the capture file that holds them.

Lengths and checksums are right, so that any reader of packets can read them. Addresses are packed bytes: six for Ethernet,
four for IPv4, sixteen for IPv6. Formats: RFC 791 (IPv4), 8200 (IPv6), 826 (ARP), 792 and 4443 (ICMP), 2236 (IGMPv2), 768 (UDP),
9293 (TCP), IEEE 802.11 (four-way handshake), and the libpcap file format (draft-ietf-opsawg-pcap).
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from numpy.random import Generator

from fliot_lab import atomic

BROADCAST = b"\xff" * 6
NOBODY, NOBODY6, EVERYBODY = bytes(4), bytes(16), b"\xff" * 4
IPV4, ARP, IPV6, EAPOL = 0x0800, 0x0806, 0x86DD, 0x888E
ICMP, IGMP, TCP, UDP, ICMP6 = 1, 2, 6, 17, 58
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
MSS = 1460  # bytes: Ethernet's 1500 less two headers of 20
ROUTER_ALERT = b"\x94\x04\x00\x00"  # RFC 2113; IGMP messages carry it (RFC 2236, 2)
# libpcap: microseconds, version 2.4, snapshot length 262,144, Ethernet.
PCAP_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1)

#: Packets with the time in seconds at which the capture saw each; in any order until they are written.
Tape = list[tuple[float, bytes]]


@dataclass
class Endpoint:
    """A sender of packets: its addresses, and what its IP stack writes. A server behind a router has the router's `mac`."""

    mac: bytes
    ip: bytes
    ttl: int = 64
    ip6: bytes = NOBODY6
    #: Header options in TCP: time stamps and window scaling, as Linux has them, or the segment size alone, as small stacks.
    timestamps: bool = True
    window: int = 14_600
    #: The identification of its next IPv4 packet.
    ident: int = 0
    next_port: int = 49_152

    def port(self) -> int:
        """A source port that this endpoint has not used."""
        self.next_port += 1
        return self.next_port - 1


def packed(address: str) -> bytes:
    """The bytes of an IPv4 or IPv6 address in text."""
    return ip_address(address).packed


def multicast(ip: bytes) -> Endpoint:
    """The group `ip` as a receiver: IPv4's low 23 bits after 01:00:5e (RFC 1112), IPv6's low 32 after 33:33 (RFC 2464)."""
    if len(ip) == 16:
        return Endpoint(b"\x33\x33" + ip[12:], NOBODY, ip6=ip)
    return Endpoint(b"\x01\x00\x5e" + bytes([ip[1] & 127]) + ip[2:], ip)


def link_local(mac: bytes) -> bytes:
    """The IPv6 link-local address that `mac` gives (RFC 4291, appendix A)."""
    return b"\xfe\x80" + bytes(6) + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]


def checksum(data: bytes) -> int:
    """The Internet checksum of `data` (RFC 1071), as if a zero byte followed where the length is odd."""
    number = int.from_bytes(data + b"\0" if len(data) % 2 else data, "big")
    # 65,536 is 1 modulo 65,535, so the remainder of the whole number is the sum of its 16-bit words with the carries added.
    remainder = number % 0xFFFF
    return 0xFFFF - (0xFFFF if number and not remainder else remainder)


# --- link layer ---------------------------------------------------------------------------------------------------------


def ethernet(target: bytes, source: bytes, kind: int, payload: bytes) -> bytes:
    """An Ethernet frame as a capture on Wi-Fi shows it: without padding to 60 bytes."""
    return target + source + struct.pack(">H", kind) + payload


def key_frame(station: Endpoint, router: Endpoint, rng: Generator, *, last: bool) -> bytes:
    """Message 2 or, `last`, 4 of WPA2's four-way handshake: what a station sends. 22 bytes of RSN element go with message 2."""
    element = b"" if last else bytes.fromhex("30140100000fac040100000fac040100000fac020000")
    info, nonce = (0x030A, bytes(32)) if last else (0x010A, rng.bytes(32))
    counter = struct.pack(">Q", 2 if last else 1)
    body = struct.pack(">BHH", 2, info, 0) + counter + nonce + bytes(32) + rng.bytes(16) + struct.pack(">H", len(element))
    return ethernet(router.mac, station.mac, EAPOL, struct.pack(">BBH", 1, 3, len(body) + len(element)) + body + element)


def exchange_identification(station: Endpoint) -> bytes:
    """The 802.2 XID frame that an access point sends in a new station's name, so that switches learn where it is."""
    return BROADCAST + station.mac + struct.pack(">H", 6) + b"\x00\x01\xaf\x81\x01\x00"


def arp(sender: Endpoint, asked: bytes, *, sender_ip: bytes | None = None, to: bytes | None = None) -> bytes:
    """Who has `asked`? From the sender's address, from none for a probe (RFC 5227); with `to`, the answer to that station."""
    operation = 1 if to is None else 2
    own = sender.ip if sender_ip is None else sender_ip
    body = struct.pack(">HHBBH", 1, IPV4, 6, 4, operation) + sender.mac + own + (to or bytes(6)) + asked
    return ethernet(to or BROADCAST, sender.mac, ARP, body)


# --- network layer ------------------------------------------------------------------------------------------------------


def ip(sender: Endpoint, target: Endpoint, protocol: int, payload: bytes, *, ttl: int = 0, options: bytes = b"") -> bytes:
    """An IPv4 frame with the checksum of its header, of the sender's TTL unless `ttl` says otherwise."""
    sender.ident = (sender.ident + 1) & 0xFFFF
    start = struct.pack(
        ">BBHHHBBH",
        0x45 + len(options) // 4,
        0,
        20 + len(options) + len(payload),
        sender.ident,
        0x4000 if protocol == TCP else 0,  # do not fragment: path MTU discovery (RFC 1191)
        ttl or sender.ttl,
        protocol,
        0,
    )
    header = start + sender.ip + target.ip + options
    return ethernet(target.mac, sender.mac, IPV4, header[:10] + struct.pack(">H", checksum(header)) + header[12:] + payload)


def ip6(sender: Endpoint, target: Endpoint, following: int, payload: bytes, *, hops: int = 255) -> bytes:
    """An IPv6 frame from the sender's address; `following` is the number of what `payload` begins with."""
    header = struct.pack(">IHBB", 6 << 28, len(payload), following, hops) + sender.ip6 + target.ip6
    return ethernet(target.mac, sender.mac, IPV6, header + payload)


def _sum4(sender: Endpoint, target: Endpoint, protocol: int, segment: bytes) -> int:
    """The checksum of a segment with IPv4's pseudo-header (RFC 9293, 3.1)."""
    return checksum(sender.ip + target.ip + struct.pack(">HH", protocol, len(segment)) + segment)


def _sum6(sender: Endpoint, target: Endpoint, protocol: int, segment: bytes) -> int:
    """The checksum of a segment with IPv6's pseudo-header (RFC 8200, 8.1)."""
    return checksum(sender.ip6 + target.ip6 + struct.pack(">II", len(segment), protocol) + segment)


def ping(sender: Endpoint, target: Endpoint, number: int, data: bytes, *, answer: bool = False) -> bytes:
    """An ICMP echo request, or its answer."""
    head, rest = (0 if answer else 8), struct.pack(">HH", 1, number) + data
    total = checksum(struct.pack(">BBH", head, 0, 0) + rest)
    return ip(sender, target, ICMP, struct.pack(">BBH", head, 0, total) + rest)


def join_group(sender: Endpoint, group: bytes) -> bytes:
    """An IGMPv2 membership report for `group`, to the group itself, with a TTL of 1."""
    total = checksum(b"\x16\0\0\0" + group)
    return ip(sender, multicast(group), IGMP, struct.pack(">BBH", 0x16, 0, total) + group, ttl=1, options=ROUTER_ALERT)


def icmp6(sender: Endpoint, target: Endpoint, kind: int, body: bytes, *, alert: bool = False) -> bytes:
    """An ICMPv6 frame of type `kind` with `body` after its checksum; with `alert` behind a router alert (RFC 2711)."""
    total = _sum6(sender, target, ICMP6, struct.pack(">BBH", kind, 0, 0) + body)
    message = struct.pack(">BBH", kind, 0, total) + body
    if not alert:
        return ip6(sender, target, ICMP6, message)
    return ip6(sender, target, 0, bytes([ICMP6, 0, 5, 2, 0, 0, 1, 0]) + message, hops=1)


# --- transport ----------------------------------------------------------------------------------------------------------


def udp(sender: Endpoint, target: Endpoint, source: int, port: int, data: bytes, *, ttl: int = 0) -> bytes:
    """A UDP frame, over IPv6 where the target has no IPv4 address. A checksum of zero is sent as ones (RFC 768)."""
    over6 = target.ip == NOBODY
    head = struct.pack(">HHH", source, port, 8 + len(data))
    total = (_sum6 if over6 else _sum4)(sender, target, UDP, head + b"\0\0" + data) or 0xFFFF
    segment = head + struct.pack(">H", total) + data
    return ip6(sender, target, UDP, segment) if over6 else ip(sender, target, UDP, segment, ttl=ttl)


def tcp(
    sender: Endpoint, target: Endpoint, ports: tuple[int, int], numbers: tuple[int, int], bits: int, options: bytes, data: bytes
) -> bytes:
    """A TCP frame from and to `ports`, with sequence and acknowledgement `numbers` modulo 2^32, and the flags `bits`."""
    acknowledged = numbers[1] & 0xFFFFFFFF if bits & ACK else 0
    head = struct.pack(">HHII", *ports, numbers[0] & 0xFFFFFFFF, acknowledged)
    head += struct.pack(">BBH", (20 + len(options)) // 4 << 4, bits, sender.window)
    total = _sum4(sender, target, TCP, head + b"\0\0\0\0" + options + data)
    return ip(sender, target, TCP, head + struct.pack(">HH", total, 0) + options + data)


@dataclass
class Connection:
    """A TCP connection that writes its packets on `tape` at the times at which a capture at the router sees them.

    Side 0 opens it. `delays` are the seconds from the capture to each side and back, `loss` is the share of segments that are
    sent once more. `time` moves on with what is said.
    """

    tape: Tape
    rng: Generator
    sides: tuple[Endpoint, Endpoint]
    port: int
    time: float
    delays: tuple[float, float]
    loss: float = 0.0
    most: int = MSS  # bytes in a segment; routers lower it where the line to the Internet takes less (PPPoE, RFC 2516)
    ports: tuple[int, int] = field(init=False)
    numbers: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.ports = (self.sides[0].port(), self.port)
        self.numbers = self.rng.integers(0, 1 << 32, 2).tolist()
        self.echoes = self.rng.integers(0, 1 << 31, 2).tolist()

    def open(self) -> None:
        """The three packets of the handshake."""
        for side, flags in ((0, SYN), (1, SYN | ACK), (0, ACK)):
            self.time += self._delay(side) if flags != SYN else 0.0
            self._put(side, flags)
            self.numbers[side] += 1 if flags & SYN else 0

    def say(self, side: int, data: bytes, *, after: float = 0.0, answered: bool = False) -> None:
        """`data` from `side`, `after` seconds later, in segments; acknowledged, the end not if an answer does that."""
        self.time += after + self._delay(side)
        room = self.most - 12 * self._stamped()  # options take their part of a segment (RFC 6691)
        parts = [data[start : start + room] for start in range(0, len(data), room)]
        for number, part in enumerate(parts, 1):
            final = number == len(parts)
            self._put(side, PSH | ACK if final else ACK, part)
            if self.rng.random() < self.loss:
                self.time += 0.2 + 2 * self.delays[1 - side]  # Linux waits 200 ms at least (TCP_RTO_MIN)
                self._put(side, PSH | ACK if final else ACK, part)
            self.numbers[side] += len(part)
            self.time += 0.0001
            if number % 2 == 0 or (final and not answered):
                self.time += self._delay(1 - side)
                self._put(1 - side, ACK)

    def close(self, side: int, *, after: float = 0.0) -> None:
        """A FIN of each side, `side` first, and the last acknowledgement."""
        self.time += after
        for who in (side, 1 - side):
            self.time += self._delay(who)
            self._put(who, FIN | ACK)
            self.numbers[who] += 1
        self.time += self._delay(side)
        self._put(side, ACK)

    def _delay(self, side: int) -> float:
        return self.delays[side] * (0.8 + 0.4 * self.rng.random())

    def _stamped(self) -> bool:
        """Both sides use time stamps if both can (RFC 7323)."""
        return self.sides[0].timestamps and self.sides[1].timestamps

    def _put(self, side: int, flags: int, data: bytes = b"") -> None:
        """Writes one segment."""
        options = b""
        if self._stamped():
            stamps = [(echo + int(self.time * 250)) & 0xFFFFFFFF for echo in self.echoes]
            options = struct.pack(">BBBBII", 1, 1, 8, 10, stamps[side], stamps[1 - side] if flags & ACK else 0)
        if flags & SYN:
            size = struct.pack(">BBH", 2, 4, self.most)
            options = size + (b"\x04\x02" + options[2:] + b"\x01\x03\x03\x04" if options else b"")
        ports = self.ports if side == 0 else self.ports[::-1]
        numbers = (self.numbers[side], self.numbers[1 - side])
        self.tape.append((self.time, tcp(self.sides[side], self.sides[1 - side], ports, numbers, flags, options, data)))


# --- files --------------------------------------------------------------------------------------------------------------


def write_pcap(path: Path, packets: Iterable[tuple[float, bytes]], start: int = 0) -> None:
    """Writes packets in the order of their times, in seconds after `start` (seconds since 1970), rounded to microseconds."""
    rows = sorted((start * 1_000_000 + round(time * 1e6), number, frame) for number, (time, frame) in enumerate(packets))
    with atomic.replacing(Path(path)) as partial, partial.open("wb") as file:
        file.write(PCAP_HEADER)
        for micros, _, frame in rows:
            file.write(struct.pack("<IIII", *divmod(micros, 1_000_000), len(frame), len(frame)) + frame)
