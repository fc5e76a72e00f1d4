"""The packets of one device as a fingerprint: how large, which way, in what rhythm, and how its protocols are written.

Counts and sizes come from the headers, traits from the few messages in which a program shows its hand. No feature holds an
address, a maker's prefix, a host's or a server's name: other addresses, and other names of equal length, give the same
fingerprint.
"""

import os

import numpy as np
import numpy.typing as npt
import pandas as pd

from fliot_lab.data import setups
from fliot_lab.data.packets import PROTOCOLS, read_packets
from fliot_lab.features.devices import traits
from fliot_lab.features.devices.fingerprint import Fingerprint, name_of, spread

CHANNEL = "packets"
FIRST, TALKS, LATER = 24, 6, 4  # packets, conversations, packets after an address that are looked at one by one; chosen
#: Payloads below EXACT bytes are counted size by size, larger ones in steps of STEP: the network cuts long messages.
EXACT, STEP, LARGEST = 600, 8, 1480
#: Ports whose meaning is fixed by a standard (IANA's registry).
PORTS = {"dns": 53, "dhcp": 67, "http": 80, "ntp": 123, "https": 443, "ssdp": 1900, "mdns": 5353, "mqtt": 8883}
BOXES = 32  # into which all other servers' ports fall; chosen
_SIZES = [f"{size} bytes" for size in range(EXACT)] + [
    f"{size} to {size + STEP - 1} bytes" for size in range(EXACT, LARGEST + 1, STEP)
]
_STREAMS = [(proto, way) for proto in ("tcp", "udp") for way in ("sent", "received")]
_SIZE_NAMES = {(proto, way): [f"{proto} {way}: messages of {size}" for size in _SIZES] for proto, way in _STREAMS}
Numbers = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class DeviceMissing(ValueError):
    """The device that was named neither sends nor receives a packet of the capture."""


def read(source: str | os.PathLike[str], device: str | None = None) -> pd.DataFrame:
    """The packets of a capture as `read_packets` gives them, with `sent` and `received` (bool): by the device, to it alone.

    `device` is its Ethernet address, or its IP address in a capture without Ethernet. For None it is what the set-up's folder
    says, else a guess: who asks for an address or joins a Wi-Fi network, else who sends most. Raises PacketError as
    `read_packets`, and DeviceMissing where there are packets, and the device that was named neither sends nor receives any.
    """
    packets = read_packets(source)
    layer = "eth" if packets["eth_src"].notna().any() else "ip"
    sender, receiver = packets[f"{layer}_src"], packets[f"{layer}_dst"]
    if device is None:
        noted = setups.address_of(source)
        address = noted if (sender == noted).any() else _joiner(packets, sender)
    else:
        address = device.lower()
        if len(packets) and not ((sender == address) | (receiver == address)).any():
            kind = "Ethernet" if layer == "eth" else "IP"
            raise DeviceMissing(f"{source}: no packet is from or to {device}; name an {kind} address that occurs, or none")
    sent = (sender == address).to_numpy(bool, na_value=False)
    if layer == "eth" and receiver.isna().all():  # Linux cooked: the link says who sends, and IP who receives
        received = packets["ip_dst"].isin(set(packets.loc[sent, "ip_src"].dropna())).to_numpy(bool)
    else:
        received = (receiver == address).to_numpy(bool, na_value=False)
    frame = packets.assign(sent=sent, received=received & ~sent)
    frame.attrs = packets.attrs | {"source": name_of(source), "device": address}
    return frame


def _joiner(packets: pd.DataFrame, sender: pd.Series) -> str | None:
    """The sender that joins the network: it asks by DHCP, else speaks EAPOL, else sends most; None where there is no packet."""
    asks = (packets["sport"] == 68) & (packets["dport"] == PORTS["dhcp"])
    for rows in (asks.fillna(False), packets["protocol"] == "eapol", sender.notna()):
        counts = sender[rows].value_counts(sort=False)
        if len(counts):
            return str(counts.idxmax())
    return None


class _Columns:
    """The columns of one device's packets as arrays, in order of time, without what others tell everybody or each other."""

    def __init__(self, frame: pd.DataFrame):
        """Takes what `read` gives."""
        order = np.argsort(frame["ts"].to_numpy("datetime64[us]"), kind="stable")
        group = frame["eth_dst"].astype(object).map(_is_group).to_numpy(bool)
        sent = frame["sent"].to_numpy(bool)
        order = order[(sent | frame["received"].to_numpy(bool))[order]]
        self.sent, self.group = sent[order], group[order]
        ts = frame["ts"].to_numpy("datetime64[us]").astype(np.int64)[order]
        self.ts = (ts - ts[0]) / 1e6 if len(ts) else ts.astype(np.float64)
        self.size = frame["size"].to_numpy(np.int64)[order]
        self.protocol = frame["protocol"].to_numpy(object)[order]
        numbers = ("ttl", "payload_bytes", "tcp_flags", "window", "sport", "dport")
        columns = {name: frame[name].to_numpy(np.int64, na_value=-1)[order] for name in numbers}
        self.ttl, self.payload_bytes, self.flags, self.window, self.sport, self.dport = columns.values()
        self.payload, self.options = (frame[name].to_numpy(object)[order] for name in ("payload", "options"))
        self.peer = np.where(self.sent, *(frame[name].to_numpy(object)[order] for name in ("ip_dst", "ip_src")))

    def payloads(self, rows: Flags) -> list[bytes]:
        """What was captured of the payloads of these rows (n,)."""
        return list(self.payload[rows])


def _is_group(address: object) -> bool:
    """Whether an Ethernet address means several stations (IEEE 802, the lowest bit of the first byte)."""
    return isinstance(address, str) and address[1] in "13579bdf"


def fingerprint(frame: pd.DataFrame, first: int | None = None) -> list[Fingerprint]:
    """One fingerprint of what `read` gives, or of its first `first` packets.

    Which protocols, how large the packets are and how far apart, the first ones one by one, the sizes of all TCP and UDP
    messages, the conversations, and traits of single protocols. What others send to everybody is left out: it is theirs.
    Raises ValueError where `first` is below 1.
    """
    if first is not None and first < 1:
        raise ValueError(f"first={first!r}: expected a number of packets from 1, or None for all")
    columns = _Columns(frame if first is None else frame.iloc[:first])
    found = _mix(columns) | _rhythm(columns) | _sequence(columns) | _conversations(columns) | _traits(columns)
    boxes = [_sizes(columns, proto, way) for proto, way in _STREAMS]
    names = (*found, *(name for stream in _STREAMS for name in _SIZE_NAMES[stream]))
    values = np.concatenate([np.fromiter(found.values(), np.float64), *boxes])
    return [Fingerprint(CHANNEL, names, values, str(frame.attrs.get("source", "")))]


def _mix(c: _Columns) -> dict[str, float]:
    """How many packets of which protocol the device sends and receives, to one and to many."""
    found = {"packets": float(len(c.sent)), "seconds": float(c.ts[-1]) if len(c.ts) else 0.0}
    found["share sent"] = float(c.sent.mean()) if len(c.sent) else np.nan
    found["share to groups"] = float(c.group.mean()) if len(c.sent) else np.nan
    for proto in PROTOCOLS:
        rows = c.protocol == proto
        for way, part in (("sent", c.sent), ("received", ~c.sent)):
            found[f"{proto} {way}: packets"] = float((rows & part).sum())
        found[f"{proto} sent: share"] = float((rows & c.sent).sum() / max(1, c.sent.sum()))
    for kind in (128, 130, 133, 135, 136, 143):  # RFC 4443, RFC 4861, RFC 3810
        found[f"icmp6 sent: of type {kind}"] = float(((c.protocol == "icmp6") & c.sent & (c.sport == kind)).sum())
    for kind in (0, 3, 8):
        found[f"icmp sent: of type {kind}"] = float(((c.protocol == "icmp") & c.sent & (c.sport == kind)).sum())
    return found


def _rhythm(c: _Columns) -> dict[str, float]:
    """The spread of sizes and of the seconds between packets, and when each protocol is first sent."""
    found: dict[str, float] = {}
    for way, rows in (("sent", c.sent), ("received", ~c.sent)):
        found |= _spread(f"{way}: bytes", c.size[rows]) | _spread(f"{way}: seconds between", np.diff(c.ts[rows]))
        found[f"{way}: bytes in all"] = float(c.size[rows].sum())
        found[f"{way}: sizes"] = float(len(np.unique(c.size[rows])))
        for proto in ("tcp", "udp"):
            part = rows & (c.protocol == proto)
            found |= _spread(f"{proto} {way}: bytes", c.payload_bytes[part & (c.payload_bytes > 0)])
            found[f"{proto} {way}: bytes in all"] = float(c.payload_bytes[part].sum())
    found |= _waits(c)
    turns = c.sent[1:] != c.sent[:-1]
    found["turns"] = float(turns.mean()) if len(turns) else np.nan
    found["seconds before an answer"] = _median(np.diff(c.ts)[turns & ~c.sent[:-1]])
    return found


def _waits(c: _Columns) -> dict[str, float]:
    """The seconds from the request for an address to what is sent first afterwards: these timers are the device's own."""
    kinds = {proto: c.sent & (c.protocol == proto) for proto in ("arp", "igmp", "icmp6", "tcp", "udp")}
    kinds |= {name: c.sent & (c.dport == PORTS[name]) for name in ("dns", "ntp", "ssdp", "mdns")}
    asked = np.flatnonzero(c.sent & (c.dport == PORTS["dhcp"]))
    found = {"dhcp: seconds between first and last": float(np.ptp(c.ts[asked])) if len(asked) else np.nan}
    for name, rows in kinds.items():
        later = c.ts[rows & (np.arange(len(c.ts)) > asked[-1])][:LATER] - c.ts[asked[-1]] if len(asked) else np.empty(0)
        padded = [*later.tolist(), *[np.nan] * LATER]
        found |= {f"{name} sent: seconds from the address to number {place + 1}": padded[place] for place in range(LATER)}
    return found


def _sequence(c: _Columns) -> dict[str, float]:
    """The first packets that the device sends one by one, and when: what runs on a timer does not vary with the person."""
    rows = np.flatnonzero(c.sent)[:FIRST]
    joining = rows[(c.protocol[rows] == "eapol") | (c.dport[rows] == PORTS["dhcp"])]
    codes = {proto: place for place, proto in enumerate(PROTOCOLS)}
    parts = {
        "bytes": c.size[rows].astype(np.float64),
        "protocol": np.array([codes[proto] for proto in c.protocol[rows]], dtype=np.float64),
        "answers before": np.diff(rows, prepend=rows[:1]) - 1.0,
        "seconds since the one before": np.diff(c.ts[rows], prepend=np.nan),
        "seconds since it joins": c.ts[rows] - (c.ts[joining[0]] if len(joining) else np.nan),
    }
    found: dict[str, float] = {}
    for word, values in parts.items():
        padded = np.full(FIRST, np.nan)
        padded[: len(values)] = values
        found |= {f"packet {place + 1} sent: {word}": value for place, value in enumerate(padded.tolist())}
    return found


def _conversations(c: _Columns) -> dict[str, float]:
    """With how many peers and ports the device speaks, who begins, and the bytes of the first conversations that it begins."""
    found: dict[str, float] = {}
    for proto in ("tcp", "udp"):
        talks = _talks(c, proto)
        begun = [(port, up, down) for (_, _, port), (up, down, first) in talks.items() if first]
        answered = [own for (own, _, _), (_, _, first) in talks.items() if not first]
        found |= {f"{proto}: conversations begun": len(begun), f"{proto}: conversations answered": len(answered)}
        found |= {f"{proto}: peers": len({peer for _, peer, _ in talks}), f"{proto}: ports served": len(set(answered))}
        ports = [port for port, _, _ in begun]
        found |= {f"{proto} begun: port {name}": ports.count(port) for name, port in PORTS.items()}
        # Knuth, The Art of Computer Programming 3, 6.4: boxes that are the same on every machine.
        boxes = [(port * 0x9E3779B1 >> 16) % BOXES for port in ports if port not in PORTS.values()]
        found |= {f"{proto} begun: another port, box {box}": boxes.count(box) for box in range(BOXES)}
        for place in range(TALKS):
            _, up, down = begun[place] if place < len(begun) else (0, np.nan, np.nan)
            found |= {f"{proto} begun {place + 1}: bytes sent": up, f"{proto} begun {place + 1}: bytes received": down}
    return found


def _talks(c: _Columns, proto: str) -> dict[tuple[int, object, int], list[float]]:
    """(own port, peer, its port) -> bytes sent, bytes received, 1 where the device sent first; in the order of beginning."""
    talks: dict[tuple[int, object, int], list[float]] = {}
    rows = np.flatnonzero((c.protocol == proto) & (c.sport >= 0))
    sent, peer, size = c.sent[rows], c.peer[rows], c.payload_bytes[rows]
    own, other = np.where(sent, c.sport[rows], c.dport[rows]), np.where(sent, c.dport[rows], c.sport[rows])
    columns = (own.tolist(), peer.tolist(), other.tolist(), sent.tolist(), size.tolist())
    for mine, who, port, out, count in zip(*columns, strict=True):
        talks.setdefault((mine, who, port), [0.0, 0.0, float(out)])[0 if out else 1] += count
    return talks


def _traits(c: _Columns) -> dict[str, float]:
    """What single protocols give away."""
    tcp, udp = (c.sent & (c.protocol == proto) for proto in ("tcp", "udp"))
    asked = {name: c.payloads(udp & (c.dport == PORTS[name])) for name in ("dhcp", "dns", "mdns", "ntp")}
    segments = c.payloads(tcp & (c.payload_bytes > 0))
    found = traits.dhcp(asked["dhcp"]) | traits.tls(segments) | traits.http(segments) | traits.ntp(asked["ntp"])
    found |= traits.dns("dns", asked["dns"]) | traits.dns("mdns", asked["mdns"])
    found |= traits.ssdp(c.payloads(udp & ((c.dport == PORTS["ssdp"]) | (c.sport == PORTS["ssdp"]))))
    found |= traits.arp(c.payloads(c.sent & (c.protocol == "arp"))) | traits.igmp(c.payloads(c.sent & (c.protocol == "igmp")))
    for side, flags in (("asks", 0x02), ("answers", 0x12)):  # SYN; SYN and ACK
        rows = np.flatnonzero(tcp & ((c.flags & 0x12) == flags))
        opening = (int(c.window[rows[0]]), c.options[rows[0]], int(c.ttl[rows[0]])) if len(rows) else None
        found |= traits.tcp_opening(side, opening) | {f"tcp {side}: openings": float(len(rows))}
    ttl = c.ttl[udp & ~c.group & (c.ttl >= 0)]
    return found | {"udp sent: ttl": float(ttl[0]) if len(ttl) else np.nan, "udp sent: ttls": float(len(np.unique(ttl)))}


def _sizes(c: _Columns, proto: str, way: str) -> Numbers:
    """How many messages of each size, in the order of `_SIZES`; segments without a payload are none."""
    size = c.payload_bytes[(c.protocol == proto) & (c.sent == (way == "sent"))]
    size = np.minimum(size[size > 0], LARGEST)
    box = np.where(size < EXACT, size, EXACT + (size - EXACT) // STEP)
    return np.bincount(box, minlength=len(_SIZES)).astype(np.float64)


def _spread(name: str, values: npt.NDArray[np.number]) -> dict[str, float]:
    """Quantiles, mean and deviation of values (n,); NaN where there are none."""
    return spread(name, values) | {f"{name}, deviation": float(values.std()) if len(values) else np.nan}


def _median(values: Numbers) -> float:
    return float(np.median(values)) if len(values) else np.nan
