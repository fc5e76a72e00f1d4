"""The headers of one packet, from the link to the transport: what they say, or in words why they cannot be believed."""

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from dpkt import ethernet, ip, pcap

from fliot_lab.data.packets.files import Record

_IP4, _IP6, _ARP, _EAPOL = ethernet.ETH_TYPE_IP, ethernet.ETH_TYPE_IP6, ethernet.ETH_TYPE_ARP, 0x888E
_VLAN = (ethernet.ETH_TYPE_8021Q, ethernet.ETH_TYPE_8021AD, 0x9100)
_LINK_RAW = (12, 14, 101, 228, 229)  # of any system, of files, of IPv4 alone, of IPv6 alone
_LINK_SLL2 = 276
_FAMILIES = {2: _IP4, 10: _IP6, 24: _IP6, 28: _IP6, 30: _IP6}  # IPv6 has a number of its own on each system
_BY_IP4 = {ip.IP_PROTO_ICMP: "icmp", ip.IP_PROTO_IGMP: "igmp", ip.IP_PROTO_TCP: "tcp", ip.IP_PROTO_UDP: "udp"}
_BY_IP6 = {ip.IP_PROTO_ICMP6: "icmp6", ip.IP_PROTO_TCP: "tcp", ip.IP_PROTO_UDP: "udp"}
_EXTENSIONS = (ip.IP_PROTO_HOPOPTS, ip.IP_PROTO_ROUTING, ip.IP_PROTO_DSTOPTS, ip.IP_PROTO_AH)
_IP4_HEADER, _IP6_HEADER = struct.Struct(">BBHHHBBH4s4s"), struct.Struct(">IHBB16s16s")
_TCP_HEADER, _PORTS, _SHORT = struct.Struct(">HHIIHH"), struct.Struct(">HH"), struct.Struct(">H")
#: What is known of the checksums: all add up, the transport's does not, IP's does not.
RIGHT, WRONG, IP_WRONG = "right", "wrong", "ip wrong"


class BadPacket(Exception):
    """Why a packet cannot be read, in words."""


class _Link(NamedTuple):
    source: bytes | None
    target: bytes | None
    ethertype: int | None  # None where the link type has none, and of a frame with a length in its place
    kind: int | None  # ethertype of what follows; None for LLC
    offset: int  # where it begins


class _Network(NamedTuple):
    source: bytes
    target: bytes
    proto: int
    ttl: int
    size: int  # of the record, on the wire
    total: int  # of the IP packet


#: One packet: the columns of `packets.COLUMNS`, with addresses as bytes.
Row = tuple[Any, ...]


def read_headers(record: Record) -> Row:
    """One record as a row. Raises BadPacket."""
    parse = _LINKS.get(record.link)
    if parse is None:
        raise BadPacket(f"link type {record.link} is not read")
    data = record.data
    link = parse(data)
    begin = (record.micros, *link[:3])
    if link.kind == _IP4:
        return begin + _ip4(data, link.offset, record.size)
    if link.kind == _IP6:
        return begin + _ip6(data, link.offset, record.size)
    name = {None: "llc", _ARP: "arp", _EAPOL: "eapol"}.get(link.kind, "other")
    return (*begin, name, *(None,) * 6, record.size, *(None,) * 6, b"", data[link.offset :], None)


def _ethernet(data: bytes) -> _Link:
    if len(data) < 14:
        raise BadPacket("an Ethernet header that is cut")
    (kind,), offset = _SHORT.unpack_from(data, 12), 14
    while kind in _VLAN:
        if len(data) < offset + 4:
            raise BadPacket("a VLAN tag that is cut")
        (kind,) = _SHORT.unpack_from(data, offset + 2)
        offset += 4
    if kind < 1536:  # the length of an IEEE 802.3 frame
        return _Link(data[6:12], data[:6], None, None, offset)
    return _Link(data[6:12], data[:6], kind, kind, offset)


def _cooked(data: bytes) -> _Link:
    """Linux "any" in its first version; only the sender's address is in it."""
    if len(data) < 16:
        raise BadPacket("a Linux cooked header that is cut")
    length, address, kind = struct.unpack_from(">H8sH", data, 4)
    return _cooked_link(length, address, kind, 16)


def _cooked2(data: bytes) -> _Link:
    if len(data) < 20:
        raise BadPacket("a Linux cooked header that is cut")
    kind, length, address = struct.unpack_from(">H9xB8s", data)
    return _cooked_link(length, address, kind, 20)


def _cooked_link(length: int, address: bytes, kind: int, offset: int) -> _Link:
    known = kind if kind >= 1536 else None
    return _Link(address[:6] if length == 6 else None, None, known, known, offset)


def _loopback(data: bytes) -> _Link:
    """BSD's loopback, whose address family is in the byte order of the machine that wrote it."""
    if len(data) < 4:
        raise BadPacket("a loopback header that is cut")
    family = min(struct.unpack_from("<I", data)[0], struct.unpack_from(">I", data)[0])
    return _Link(None, None, None, _FAMILIES.get(family, 0), 4)


def _raw(data: bytes) -> _Link:
    if not data:
        raise BadPacket("an IP header that is cut")
    return _Link(None, None, None, {4: _IP4, 6: _IP6}.get(data[0] >> 4, 0), 0)


_LINKS: dict[int, Callable[[bytes], _Link]] = {
    pcap.DLT_NULL: _loopback,
    pcap.DLT_LOOP: _loopback,
    pcap.DLT_EN10MB: _ethernet,
    pcap.DLT_LINUX_SLL: _cooked,
    _LINK_SLL2: _cooked2,
    **dict.fromkeys(_LINK_RAW, _raw),
}


def _ip4(data: bytes, offset: int, size: int) -> Row:
    """The columns from protocol on of an IPv4 packet that begins at `offset` of a record with `size` bytes on the wire."""
    if len(data) < offset + 20:
        raise BadPacket("an IP header that is cut")
    first, _, total, _, fragment, ttl, proto, _, source, target = _IP4_HEADER.unpack_from(data, offset)
    header = (first & 15) * 4
    total = total or size - offset  # 0 where the card cuts into segments
    if first >> 4 != 4 or header < 20 or total < header:
        raise BadPacket("an IP header that contradicts itself")
    if total > size - offset:
        raise BadPacket("an IP packet longer than its record")
    begin, end = offset + header, offset + total
    name = "ip" if fragment & 0x1FFF else _BY_IP4.get(proto, "ip")
    row = _transport(name, _Network(source, target, proto, ttl, size, total), data[offset + 20 : begin], data, begin, end)
    if not _adds_up(data[offset:begin]):
        return (*row[:-1], IP_WRONG)
    return (*row[:-1], None) if fragment & 0x3FFF else row


def _ip6(data: bytes, offset: int, size: int) -> Row:
    """As `_ip4`, of an IPv6 packet with its extension headers."""
    if len(data) < offset + 40:
        raise BadPacket("an IP header that is cut")
    first, length, proto, ttl, source, target = _IP6_HEADER.unpack_from(data, offset)
    total = length + 40 if length else size - offset
    if first >> 28 != 6:
        raise BadPacket("an IP header that contradicts itself")
    if total > size - offset:
        raise BadPacket("an IP packet longer than its record")
    begin, end, fragment, later = offset + 40, offset + total, False, False
    while (proto in _EXTENSIONS or proto == ip.IP_PROTO_FRAGMENT) and not later:
        if min(end, len(data)) < begin + 8:
            raise BadPacket("an IP header that is cut")
        step = (data[begin + 1] + 2) * 4 if proto == ip.IP_PROTO_AH else (data[begin + 1] + 1) * 8
        if proto == ip.IP_PROTO_FRAGMENT:
            fragment, step, later = True, 8, _SHORT.unpack_from(data, begin + 2)[0] >= 8
        proto, begin = data[begin], begin + step
    if begin > end:
        raise BadPacket("an IP header that contradicts itself")
    name = "ip6" if later else _BY_IP6.get(proto, "ip6")
    row = _transport(name, _Network(source, target, proto, ttl, size, total), data[offset + 40 : begin], data, begin, end)
    return (*row[:-1], None) if fragment else row


def _transport(name: str, net: _Network, options: bytes, data: bytes, begin: int, end: int) -> Row:
    """The columns from protocol on, for what stands between `begin` and `end`."""
    kept = min(end, len(data))
    ports: Row = (None, None)
    tcp: Row = (None,) * 4
    after = begin
    if name == "tcp":
        if kept < begin + 20:
            raise BadPacket("a TCP header that is cut")
        sport, dport, seq, ack, flags, window = _TCP_HEADER.unpack_from(data, begin)
        after = begin + (flags >> 12) * 4
        if not begin + 20 <= after <= end:
            raise BadPacket("a TCP header that contradicts itself")
        ports, tcp, options = (sport, dport), (flags & 0x1FF, seq, ack, window), data[begin + 20 : min(after, kept)]
    elif name == "udp":
        if kept < begin + 8:
            raise BadPacket("a UDP header that is cut")
        ports, after = _PORTS.unpack_from(data, begin), begin + 8
    elif name in ("icmp", "icmp6"):
        if kept < begin + 8:
            raise BadPacket("an ICMP header that is cut")
        ports = (data[begin], data[begin + 1])
    checked = _checked(name, net, data[begin:end]) if kept == end else None
    lengths = (net.ttl, net.size, net.total, end - after)
    return (name, net.source, net.target, net.proto, *ports, *lengths, *tcp, options, data[after:end], checked)


def _checked(name: str, net: _Network, segment: bytes) -> str | None:
    """Whether the checksum of a whole segment is right; None where there is none. RFC 768, 792, 4443, 9293."""
    if name in ("ip", "ip6", "igmp") or (name == "udp" and len(net.source) == 4 and segment[6:8] == b"\0\0"):
        return None
    pseudo = b"" if name == "icmp" else net.source + net.target + struct.pack(">HI", net.proto, len(segment))
    return RIGHT if _adds_up(pseudo + segment) else WRONG


def _adds_up(data: bytes) -> bool:
    """Whether the ones' complement sum of the 16-bit words is all ones (RFC 1071): whether 2**16 - 1 divides the number."""
    return int.from_bytes(data + b"\0" * (len(data) % 2)) % 0xFFFF == 0
