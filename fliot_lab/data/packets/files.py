"""The records of capture files, pcap and pcapng: who wrote what is not trusted, so every length is checked before it is used.

dpkt knows both formats, but its readers hand out neither a packet's length on the wire nor its interface, take the first
interface's clock for all, and believe the lengths they find. The constants are dpkt's, the walk is ours.
Formats: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html and draft-ietf-opsawg-pcapng-03.html.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from dpkt import pcap, pcapng

OnError = Literal["raise", "skip"]
#: No interface hands out more at once: libpcap's own limit (MAXIMUM_SNAPLEN).
MAX_RECORD_BYTES = 262_144
#: Blocks that hold no packet (names, secrets) may be larger.
MAX_BLOCK_BYTES = 16 << 20
#: Times beyond are no times: float64 holds microseconds exactly until then (year 2255), as conn logs need it.
LAST_MICROSECOND = 2**53
#: magic -> byte order and ticks of its clock in a second
_MAGICS = {
    struct.pack(order + "I", magic): (order, ticks)
    for order in "<>"
    for magic, ticks in ((pcap.TCPDUMP_MAGIC, 10**6), (pcap.TCPDUMP_MAGIC_NANO, 10**9))
}
_ORDERS = {struct.pack(order + "I", pcapng.BYTE_ORDER_MAGIC): order for order in "<>"}
_SECTION = struct.pack("<I", pcapng.PCAPNG_BT_SHB)  # a palindrome, the same in both byte orders
_DAMAGED = "the rest of the file: a length that cannot be"


class PacketError(ValueError):
    """A capture that cannot be read. Names the file, where in it (a packet counted from 1, or a byte), and what is wrong."""

    def __init__(self, path: Path, problem: str, where: str = ""):
        super().__init__(f"{path}{where and f', {where}'}: {problem}")
        self.path, self.problem, self.where = path, problem, where

    def __reduce__(self) -> tuple[type["PacketError"], tuple[Path, str, str]]:
        """How to make it again, in the process that waits for a worker."""
        return type(self), (self.path, self.problem, self.where)


class PacketWarning(UserWarning):
    """Packets of a capture were left out, or its last one is cut."""


class Record(NamedTuple):
    """One packet as a file holds it."""

    micros: int  # since 1970, UTC
    link: int  # link type
    size: int  # bytes on the wire, of which `data` may hold fewer
    data: bytes


@dataclass
class Troubles:
    """What went wrong in one capture. With on_error="raise" the first trouble is the last one."""

    path: Path
    on_error: OnError
    skipped: dict[str, int] = field(default_factory=dict)  # reason -> packets
    truncated: bool = False
    number: int = 0  # of the packet that is read, counted from 1

    def skip(self, reason: str) -> None:
        """Counts a packet that is left out, or raises PacketError."""
        if self.on_error == "raise":
            raise PacketError(self.path, reason, f"packet {self.number}")
        self.skipped[reason] = self.skipped.get(reason, 0) + 1

    def cut(self, offset: int) -> None:
        """Notes that the file ends inside the record at `offset`, or raises PacketError."""
        if self.on_error == "raise":
            raise PacketError(self.path, "the file ends inside a record", f"byte {offset}")
        self.truncated = True

    def damaged(self, problem: str, offset: int) -> None:
        """Gives the rest of the file up; raises PacketError where nothing came before."""
        if self.on_error == "raise" or not self.number:
            raise PacketError(self.path, problem, f"byte {offset}")
        self.skipped[_DAMAGED] = 1
        self.truncated = True


def records(path: Path, troubles: Troubles) -> Iterator[Record]:
    """The records of a capture file in its order. Raises PacketError where it is no capture, OSError where it is missing."""
    if path.is_dir():
        raise PacketError(path, "is a folder, not a capture")
    data = path.read_bytes()
    if not data:
        raise PacketError(path, "is empty; a capture starts with a header")
    if data[:4] in _MAGICS:
        return _pcap(data, troubles)
    if data[:4] == _SECTION:
        return _pcapng(data, troubles)
    raise PacketError(path, f"starts with {data[:4].hex(' ')}, which is neither pcap nor pcapng")


def _pcap(data: bytes, troubles: Troubles) -> Iterator[Record]:
    order, ticks = _MAGICS[data[:4]]
    if len(data) < 24:
        raise PacketError(troubles.path, f"ends inside its header, after {len(data)} bytes")
    snap, link = struct.unpack_from(order + "II", data, 16)
    link &= 0x03FFFFFF  # above stands the length of a checksum
    limit = max(MAX_RECORD_BYTES, snap) if snap <= MAX_BLOCK_BYTES else MAX_RECORD_BYTES
    header, offset, end, nanos = struct.Struct(order + "IIII"), 24, len(data), ticks // 10**6
    while offset + 16 <= end:
        seconds, fraction, kept, size = header.unpack_from(data, offset)
        if kept > limit:
            return troubles.damaged(f"a record of {kept:,} bytes, where none has over {limit:,}", offset)
        stop = offset + 16 + kept
        if stop > end:
            break
        troubles.number += 1
        yield Record(seconds * 10**6 + fraction // nanos, link, max(size, kept), data[offset + 16 : stop])
        offset = stop
    if offset < end:
        troubles.cut(offset)
    return None


def _pcapng(data: bytes, troubles: Troubles) -> Iterator[Record]:
    offset, end, order = 0, len(data), "<"
    interfaces: list[_Interface] = []
    while offset + 12 <= end:
        if data[offset : offset + 4] == _SECTION:
            if data[offset + 8 : offset + 12] not in _ORDERS:
                return troubles.damaged("a section without a byte order", offset)
            order, interfaces = _ORDERS[data[offset + 8 : offset + 12]], []
        kind, length = struct.unpack_from(order + "II", data, offset)
        if length < 12 or length % 4 or length > MAX_BLOCK_BYTES:
            return troubles.damaged(f"a block of {length:,} bytes", offset)
        if offset + length > end:
            break
        if struct.unpack_from(order + "I", data, offset + length - 4)[0] != length:
            return troubles.damaged("a block with two different lengths", offset)
        body = data[offset + 8 : offset + length - 4]
        if kind == pcapng.PCAPNG_BT_IDB and len(body) >= 8:
            interfaces.append(_interface(body, order))
        elif kind in (pcapng.PCAPNG_BT_EPB, pcapng.PCAPNG_BT_PB, pcapng.PCAPNG_BT_SPB):
            troubles.number += 1
            record = _packet_block(kind, body, order, interfaces)
            if isinstance(record, str):
                troubles.skip(record)
            else:
                yield record
        offset += length
    if offset < end:
        troubles.cut(offset)
    return None


class _Interface(NamedTuple):
    link: int
    ticks: int  # of its clock in a second
    seconds: int  # to add to each time


def _interface(body: bytes, order: str) -> _Interface:
    """What an interface description block (its body) says; options that are cut are left out."""
    (link,) = struct.unpack_from(order + "H", body)
    ticks, seconds, offset = 10**6, 0, 8
    while offset + 4 <= len(body):
        code, length = struct.unpack_from(order + "HH", body, offset)
        value = body[offset + 4 : offset + 4 + length]
        if code == pcapng.PCAPNG_OPT_ENDOFOPT:
            break
        if code == pcapng.PCAPNG_OPT_IF_TSRESOL and value:
            ticks = (2 if value[0] & 0x80 else 10) ** (value[0] & 0x7F)
        elif code == pcapng.PCAPNG_OPT_IF_TSOFFSET and len(value) == 8:
            (seconds,) = struct.unpack(order + "q", value)
        offset += 4 + (length + 3) // 4 * 4
    return _Interface(link, ticks, seconds)


def _packet_block(kind: int, body: bytes, order: str, interfaces: list[_Interface]) -> Record | str:
    """The packet of a block (its body), or in words why there is none."""
    if kind == pcapng.PCAPNG_BT_SPB:
        return "a simple packet block, which has no time"
    if len(body) < 20:
        return "a packet block too short for its header"
    number, high, low, kept, size = struct.unpack_from(order + "IIIII", body)
    if kind == pcapng.PCAPNG_BT_PB:  # obsolete: a count of drops shares the field
        (number,) = struct.unpack_from(order + "H", body)
    if number >= len(interfaces):
        return "a packet of an interface that is not described"
    if kept > len(body) - 20 or kept > MAX_RECORD_BYTES:
        return "a packet longer than its block"
    link, ticks, seconds = interfaces[number]
    micros = (high << 32 | low) * 10**6 // ticks + seconds * 10**6
    if not 0 <= micros < LAST_MICROSECOND:
        return "a time before 1970 or after 2255"
    return Record(micros, link, max(size, kept), body[20 : 20 + kept])
