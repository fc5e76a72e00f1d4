"""Packets of captures as a frame, one a row, and the connections that they make as a conn log."""

import hashlib
import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fliot_lab.data.layout import CONN_FIELDS
from fliot_lab.data.packets.conversations import Datagrams, conversations
from fliot_lab.data.packets.files import OnError, PacketError, PacketWarning, Troubles, records
from fliot_lab.data.packets.headers import IP_WRONG, RIGHT, WRONG, BadPacket, Row, read_headers
from fliot_lab.data.packets.tcp import Packet, Tcp
from fliot_lab.data.parsing import CATEGORIES

__all__ = ["PROTOCOLS", "PacketError", "PacketWarning", "read_packets", "to_conn_log"]

PROTOCOLS = ("arp", "eapol", "tcp", "udp", "icmp", "icmp6", "igmp", "llc", "ip", "ip6", "other")
_STR = pd.StringDtype(na_value=np.nan)
#: Column -> dtype of what `read_packets` gives, in its order.
COLUMNS: dict[str, Any] = {
    "ts": "datetime64[us, UTC]",
    "eth_src": _STR,
    "eth_dst": _STR,
    "ethertype": "Int32",
    "protocol": pd.CategoricalDtype(list(PROTOCOLS)),
    "ip_src": _STR,
    "ip_dst": _STR,
    "ip_proto": "Int16",
    "sport": "Int32",
    "dport": "Int32",
    "ttl": "Int16",
    "size": "int64",
    "ip_bytes": "Int64",
    "payload_bytes": "Int64",
    "tcp_flags": "Int16",
    "seq": "Int64",
    "ack": "Int64",
    "window": "Int32",
    "options": object,
    "payload": object,
    "checksum": pd.CategoricalDtype([RIGHT, WRONG, IP_WRONG]),
}


def read_packets(path: str | os.PathLike[str], *, on_error: OnError = "skip") -> pd.DataFrame:
    """The packets of a capture, one a row, in the file's order, under the names and dtypes of COLUMNS.

    Reads pcap (both byte orders, micro- and nanoseconds) and pcapng, of Ethernet with or without VLAN tags, Linux cooked
    captures, loopback and raw IP. For what fits in memory: the frame takes some times the file.

    ts is the time in UTC to the microsecond; size the bytes on the wire; ip_bytes IP's total length; payload_bytes those of
    the transport's payload by that length, where payload holds what was captured of it (what follows the IP header of ICMP and
    others, what follows the link's header of no IP). options are TCP's or else IP's, and IPv6's extension headers; b"" without.
    sport and dport of ICMP are type and code. A further fragment has no ports and is of protocol ip or ip6. What a packet has
    not is NA. checksum is "right", "wrong" (the transport's) or "ip wrong", NA where there is none or not all was captured.
    `frame.attrs` has "source", "skipped" (reason -> packets left out) and "truncated" (the last record is cut).

    Raises PacketError, naming file, place and what is wrong, where the file is no capture or of another link type. A packet
    whose headers are cut or contradict each other is left out with a reason, as is what follows damage in the file; a
    PacketWarning tells. With `on_error="raise"` the first such packet raises PacketError.
    """
    path = Path(path)
    troubles = Troubles(path, on_error)
    rows: list[Row] = []
    for record in records(path, troubles):
        try:
            rows.append(read_headers(record))
        except BadPacket as reason:
            troubles.skip(str(reason))
    _check_links(path, rows, troubles)
    frame = _frame(rows)
    frame.attrs = {"source": str(path), "skipped": troubles.skipped, "truncated": troubles.truncated}
    if troubles.skipped or troubles.truncated:
        told = [f"left out {reason} ({count:,})" for reason, count in troubles.skipped.items()]
        told += ["the file ends inside a record"] * troubles.truncated
        warnings.warn(f"{path}: {'; '.join(told)}", PacketWarning, stacklevel=2)
    return frame


def _check_links(path: Path, rows: list[Row], troubles: Troubles) -> None:
    """Raises PacketError where nothing could be read for the link type alone."""
    unread = [reason for reason in troubles.skipped if reason.startswith("link type")]
    if unread and not rows:
        known = "Ethernet, Linux cooked, loopback and raw IP are"
        raise PacketError(path, f"{unread[0]} ({known})")


def _frame(rows: list[Row]) -> pd.DataFrame:
    """The rows as columns of COLUMNS' dtypes; each address is written once."""
    columns = dict(zip(COLUMNS, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(COLUMNS, ())
    found: dict[str, Any] = {}
    for name, values in columns.items():
        kind = COLUMNS[name]
        if name == "ts":
            found[name] = pd.Series(np.array(values, "int64").view("datetime64[us]")).dt.tz_localize("UTC")
        elif kind == _STR:
            text = _mac if name.startswith("eth") else _address
            spelled = {value: text(value) for value in set(values)}
            found[name] = pd.array([spelled[value] for value in values], dtype=_STR)
        elif kind is object:
            found[name] = pd.Series(values, dtype=object)
        elif isinstance(kind, pd.CategoricalDtype):
            found[name] = _category(values, kind)
        else:
            found[name] = _numbers(values, kind)
    return pd.DataFrame(found, copy=False)


def _category(values: tuple[str | None, ...], kind: pd.CategoricalDtype) -> pd.Categorical:
    """Words as codes, in a fraction of the time that pandas takes to look for them."""
    codes = {None: -1, **{word: code for code, word in enumerate(kind.categories)}}
    return pd.Categorical.from_codes([codes[value] for value in values], dtype=kind)


def _numbers(values: tuple[int | None, ...], kind: str) -> Any:
    """Whole numbers as an array of `kind`, which holds None as NA where it begins with a capital."""
    if kind[0] == "i":
        return np.array(values, kind)
    gaps = np.array([value is None for value in values], dtype=bool)
    whole = np.array([0 if value is None else value for value in values], kind.lower())
    return pd.arrays.IntegerArray(whole, gaps)


def _mac(address: bytes | None) -> str | None:
    return None if address is None else address.hex(":")


def _address(address: bytes | None) -> str | None:
    if address is None:
        return None
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)


def to_conn_log(packets: pd.DataFrame, *, ignore_checksums: bool = False) -> pd.DataFrame:
    """The connections of a capture as `zeek.read_conn_log` gives them, without labels, sorted by ts.

    Takes what `read_packets` gives, in the order of the capture. Rows are those that Zeek (3 and 4, default settings) would
    write: TCP's states and history, byte counts by sequence numbers, time-outs (5 minutes for TCP, 1 for UDP and ICMP), roles.
    local_orig, local_resp and tunnel_parents are unset, as where no network is named local; a uid is made from the connection
    alone. Packets of other protocols make no connection. A packet with a wrong checksum counts for nothing but a `C` in the
    history; on a machine whose network card computes checksums all packets sent have wrong ones: `ignore_checksums=True` (as
    Zeek's `-C`) believes them. Fragments are not joined: the first stands for the packet, with its own length.

    Raises ValueError where a column is missing. Rules: docs.zeek.org, base/protocols/conn/main.zeek and base/init-bare.zeek.
    """
    if missing := [name for name in ("ts", *_WORDS, *_NUMBERS) if name not in packets]:
        raise ValueError(f"packets lack the columns {', '.join(missing)}; read_packets gives them")
    rows = [_flow(proto, talk) for proto, talk in conversations(_packets(packets, ignore_checksums))]
    rows.sort(key=lambda row: row[0])
    columns = dict(zip(CONN_FIELDS, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(CONN_FIELDS, ())
    flows = pd.DataFrame({name: _column(name, values) for name, values in columns.items()}, copy=False)
    flows.attrs = {"source": packets.attrs.get("source", "")}
    return flows


_WORDS = ("protocol", "ip_src", "ip_dst", "payload", "checksum")
_NUMBERS = ("sport", "dport", "tcp_flags", "seq", "ack", "window", "ip_bytes", "payload_bytes")


def _packets(packets: pd.DataFrame, ignore_checksums: bool) -> Iterator[tuple[str, Packet]]:
    """(protocol, packet) as `conversations` takes them, of those that Zeek would look at."""
    micros = packets["ts"].to_numpy("datetime64[us]").astype(np.int64).tolist()
    words = zip(*(packets[name].tolist() for name in _WORDS), strict=True)
    numbers = zip(*(packets[name].to_numpy(np.int64, na_value=0).tolist() for name in _NUMBERS), strict=True)
    for at, (proto, source, target, payload, checksum), (sport, dport, *tcp, ip_bytes, length) in zip(
        micros, words, numbers, strict=True
    ):
        if checksum == IP_WRONG and not ignore_checksums:
            proto = "ip"
        length -= 8 * (proto in ("icmp", "icmp6"))
        right = checksum != WRONG or ignore_checksums
        flags, seq, ack, window = tcp
        yield proto, Packet(at, (source, sport), (target, dport), right, flags, seq, ack, window, ip_bytes, length, payload)


def _flow(proto: str, talk: Tcp | Datagrams) -> tuple[Any, ...]:
    """A conversation as a row of a conn log."""
    lasted = talk.last - talk.start
    orig, resp = talk.orig, talk.resp
    name = f"{talk.start} {proto} {talk.orig_id} {talk.resp_id}".encode()
    ends = (*talk.orig_id, *talk.resp_id, "icmp" if proto == "icmp6" else proto, talk.service)
    size = (lasted / 1e6, orig.size, resp.size) if lasted > 0 else (None,) * 3
    counts = (orig.packets, orig.ip_bytes, resp.packets, resp.ip_bytes)
    state = (talk.conn_state, None, None, talk.missed, talk.history or None)
    return (talk.start, _uid(name), *ends, *size, *state, *counts, None)


def _uid(name: bytes) -> str:
    """A word of Zeek's form, C and base 62, by hash."""
    number, letters = int.from_bytes(hashlib.blake2b(name, digest_size=12).digest()), ""
    while number:
        number, digit = divmod(number, 62)
        letters += _DIGITS[digit]
    return "C" + letters


_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _column(name: str, values: tuple[Any, ...]) -> Any:
    """One column with the dtype that `zeek.read_conn_log` gives it."""
    kind = CONN_FIELDS[name]
    if kind == "time":
        return pd.Series(np.array(values, "int64").view("datetime64[us]")).dt.tz_localize("UTC")
    if name in CATEGORIES:
        return _category(values, pd.CategoricalDtype(sorted(set(values) - {None})))
    if kind == "port":
        return np.array(values, "int32")
    dtypes: dict[str, Any] = {"interval": "float64", "count": "Int64", "bool": "boolean"}
    return pd.array(values, dtype=dtypes.get(kind, _STR))
