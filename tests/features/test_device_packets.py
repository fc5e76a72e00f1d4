"""Packets of one device as fingerprints: against other writers of the same protocols, and under other addresses and names."""

import ipaddress
import random
import re
import ssl
import struct
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import dpkt
import numpy as np
import pandas as pd
import pytest

from fliot_lab.data import setups
from fliot_lab.data.packets import PacketError, PacketWarning
from fliot_lab.data.sample import things
from fliot_lab.features.devices import traits
from fliot_lab.features.devices.packets import PROTOCOLS, fingerprint, read

DEVICE, ROUTER, OTHER = "02:00:00:00:00:07", "02:00:00:00:00:01", "02:00:00:00:00:05"
EVERYBODY = "ff:ff:ff:ff:ff:ff"
FEW = ("JuntoxCam", "ZindleKettle", "HibrasVacuum", "QuorvexSiren", "DrovanaBridge", "KestwynThermostat")


def values(frame: pd.DataFrame, first: int | None = None) -> dict[str, float]:
    (found,) = fingerprint(frame, first)
    assert len(set(found.names)) == len(found.names)
    return dict(zip(found.names, found.values.tolist(), strict=True))


def same(one: dict[str, float], other: dict[str, float]) -> None:
    assert one == pytest.approx(other, abs=1e-9, nan_ok=True)


def ethernet(source: str, target: str, kind: int, inner: bytes) -> bytes:
    return bytes.fromhex(target.replace(":", "")) + bytes.fromhex(source.replace(":", "")) + kind.to_bytes(2) + inner


def udp(source: str, target: str, sport: int, dport: int, payload: bytes) -> bytes:
    """A datagram between the stations, whose IP addresses end as their Ethernet addresses do."""
    inner = dpkt.udp.UDP(sport=sport, dport=dport, ulen=8 + len(payload), data=payload)
    ends = {name: bytes([192, 168, 1, int(text[-2:], 16)]) for name, text in (("src", source), ("dst", target))}
    return ethernet(source, target, 0x0800, bytes(dpkt.ip.IP(**ends, p=17, len=28 + len(payload), data=inner)))


def capture(path: Path, frames: list[bytes], link: int = 1) -> Path:
    """A capture file with a frame every tenth of a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file, linktype=link)
        for place, frame in enumerate(frames):
            writer.writepkt(frame, 1_700_000_000 + place / 10)
    return path


@pytest.fixture(scope="module")
def paths() -> list[Path]:
    """Simulated set-ups of a few devices that have little in common."""
    root = setups.locate("sample").root
    return [root / name / "Setup-C-1-STA.pcap" for name in FEW]


@pytest.fixture(scope="module")
def frames(paths: list[Path]) -> list[pd.DataFrame]:
    return [read(path) for path in paths]


# --- whose packets ------------------------------------------------------------------------------------------------------


def test_the_device_is_who_is_named_or_noted_beside_the_file_or_joins(tmp_path: Path) -> None:
    chat = [udp(OTHER, ROUTER, 5000, 6000, b"x")] * 9 + [udp(ROUTER, OTHER, 6000, 5000, b"y")] * 5
    asks, joins = udp(DEVICE, EVERYBODY, 68, 67, b"?"), ethernet(DEVICE, ROUTER, 0x888E, bytes(20))
    said = udp(DEVICE, ROUTER, 5000, 53, b"z")

    def senders(path: Path, device: str | None = None) -> set[str]:
        frame = read(path, device)
        return set(frame.loc[frame["sent"], "eth_src"])

    path = capture(tmp_path / "chat.pcap", [*chat, said])
    assert senders(path) == {OTHER}  # sends most
    assert senders(path, DEVICE) == senders(path, DEVICE.upper()) == {DEVICE}
    assert senders(capture(tmp_path / "joins.pcap", [*chat, joins])) == {DEVICE}
    assert senders(capture(tmp_path / "asks.pcap", [*chat, asks])) == {DEVICE}
    noted = capture(tmp_path / "Lamp" / "chat.pcap", [*chat, asks])
    (noted.parent / "_iotdevice-mac.txt").write_text(f"{ROUTER.upper()}\n")
    assert senders(noted) == {ROUTER}
    (noted.parent / "_iotdevice-mac.txt").write_text("02:00:00:00:00:99\n")  # of another device
    assert senders(noted) == {DEVICE}
    assert read(noted).attrs["source"] == "Lamp/chat.pcap"


def test_without_ethernet_the_device_is_an_ip_address(tmp_path: Path) -> None:
    datagrams = [udp(OTHER, ROUTER, 5000, 6000, b"x")[14:]] * 3 + [udp(ROUTER, OTHER, 6000, 5000, b"y")[14:]]
    path = capture(tmp_path / "raw.pcap", datagrams, link=101)
    assert read(path)["sent"].tolist() == [True, True, True, False]
    assert read(path, "192.168.1.1")["sent"].tolist() == [False, False, False, True]
    assert values(read(path))["udp sent: packets"] == 3


def test_a_device_that_is_not_there_and_a_file_that_is_no_capture_are_refused(tmp_path: Path) -> None:
    path = capture(tmp_path / "a.pcap", [udp(OTHER, ROUTER, 5000, 6000, b"x")])
    with pytest.raises(ValueError, match=r"a\.pcap: no packet is from or to 02:00:00:00:00:07; name an Ethernet address"):
        read(path, DEVICE)
    (tmp_path / "b.pcap").write_bytes(b"no capture at all, but long enough to look at")
    with pytest.raises(PacketError, match=r"b\.pcap"):
        read(tmp_path / "b.pcap")
    for first in (0, -3):
        with pytest.raises(ValueError, match="first="):
            fingerprint(read(path), first)


def test_a_capture_without_packets_has_the_same_features(tmp_path: Path, frames: list[pd.DataFrame]) -> None:
    empty = read(capture(tmp_path / "empty.pcap", []), DEVICE)
    found = values(empty)
    assert list(found) == list(values(frames[0]))
    assert found["packets"] == found["tcp sent: messages of 40 bytes"] == 0
    assert np.isnan([found["share sent"], found["sent: bytes, mean"], found["packet 1 sent: bytes"]]).all()
    assert all(list(values(frame)) == list(found) for frame in frames)


# --- what must not show -------------------------------------------------------------------------------------------------

_MASK = 0x1A35C7  # flips bits of the last three bytes: as well in the IPv6 and group addresses that are made of them
_MAKER = 0x5C1A35 << 24  # and of the first three, but for those that say "group" and "locally administered"


def another(address: str) -> tuple[bytes, bytes]:
    """(bytes of an address, bytes of another of the same kind): Ethernet, IPv4 with as many digits, IPv6."""
    if address.count(":") == 5 and len(address) == 17:
        old = bytes.fromhex(address.replace(":", ""))
        same = address == EVERYBODY or (old[0] & 1 and old[:3] != b"\x33\x33\xff")
        mask = _MASK if old[0] & 1 else _MASK | _MAKER
        return old, old if same else (int.from_bytes(old) ^ mask).to_bytes(6)
    ip = ipaddress.ip_address(address)
    if ip.version == 6:
        solicited = ip in ipaddress.ip_network("ff02::1:ff00:0/104")
        fixed = (ip.is_multicast and not solicited) or ip.is_unspecified
        mask = _MASK if ip.is_multicast else _MASK | 0x1A << 64 | _MAKER << 16  # another network, another maker
        return ip.packed, ip.packed if fixed else (int(ip) ^ mask).to_bytes(16)
    if ip.is_multicast or address in ("0.0.0.0", "255.255.255.255"):
        return ip.packed, ip.packed

    def turned(octet: int, end: int = 256) -> int:
        low, count = ((0, 10), (10, 90), (100, end - 100))[len(str(octet)) - 1]
        return low + (octet - low + 7) % count

    a, b, c, d = ip.packed
    return ip.packed, bytes([turned(a, 224), turned(b), turned(c), turned(d)])  # 224 and above are groups


def rewritten(content: bytes, packets: pd.DataFrame) -> bytes:
    """The capture with other addresses wherever they stand, as bytes and as text, and with other names of equal length."""
    columns = ("eth_src", "eth_dst", "ip_src", "ip_dst")
    pairs = [another(address) for address in pd.unique(pd.concat([packets[name] for name in columns]).dropna())]
    pairs += [(".".join(map(str, old)).encode(), ".".join(map(str, new)).encode()) for old, new in pairs if len(old) == 4]
    turned = bytes.maketrans(b"abcdefghijklmnopqrstuvwxyz0123456789", b"nopqrstuvwxyzabcdefghijklm5678901234")
    names = {thing.maker.encode() for thing in things.THINGS} | {b"whitelabel"}
    names |= set(re.findall(rb"dev-[0-9a-f]{4}", content))
    table = dict(pairs) | {name: name.translate(turned) for name in names}
    words = re.compile(b"|".join(re.escape(old) for old in sorted(table, key=len, reverse=True)), re.DOTALL)
    data, at = content[:24], 24
    while at < len(content):  # each packet alone: no address begins in one and ends in the next
        length = struct.unpack_from("<I", content, at + 8)[0]
        data += content[at : at + 16] + words.sub(lambda found: table[found[0]], content[at + 16 : at + 16 + length])
        at += 16 + length
    return data


def test_addresses_and_names_do_not_show(paths: list[Path], frames: list[pd.DataFrame], tmp_path: Path) -> None:
    for path, frame in zip(paths, frames, strict=True):
        content = path.read_bytes()
        data = rewritten(content, frame)
        assert len(data) == len(content)
        (tmp_path / "another.pcap").write_bytes(data)
        device, new = another(str(setups.address_of(path)))
        assert device not in data
        changed = read(tmp_path / "another.pcap", new.hex(":"))
        stays = {"0.0.0.0", "255.255.255.255", "::"}
        own = {a for a in set(frame["ip_src"].dropna()) - stays if not ipaddress.ip_address(a).is_multicast}
        assert own
        assert own.isdisjoint(set(changed["ip_src"].dropna()) | set(changed["ip_dst"].dropna()))
        assert not any(thing.maker.encode() in data for thing in things.THINGS)
        same(values(changed), values(frame))
        same(values(changed, 20), values(frame, 20))


def test_the_rewriting_would_show_a_makers_prefix(frames: list[pd.DataFrame]) -> None:
    for frame in frames:
        for address in frame["eth_src"].dropna().unique():
            old, new = another(str(address))
            assert old[:3] != new[:3]
            assert (old[0] & 3) == (new[0] & 3)
        for address in set(frame["ip_src"].dropna()) - {"0.0.0.0", "::"}:
            old, new = another(str(address))
            assert old[:1] != new[:1] or len(old) == 16
            assert old[:-3] != new[:-3]


@pytest.mark.parametrize("link", [1, 101, 113])  # Ethernet, raw IP, Linux cooked
def test_what_others_tell_each_other_does_not_show(link: int, tmp_path: Path) -> None:
    """A sensor that hears a whole network gives the fingerprint of the device alone, but for how long it took."""

    def linked(frame: bytes) -> bytes:
        cooked = bytes([0, 0, 0, 1, 0, 6]) + frame[6:12] + bytes(2) + frame[12:]
        return {1: frame, 101: frame[14:], 113: cooked}[link]

    own = [udp(DEVICE, ROUTER, 5000, 53, bytes(30)), udp(ROUTER, DEVICE, 53, 5000, bytes(60))]
    stranger = "02:00:00:00:00:77"
    strangers = [udp(stranger, ROUTER, 4000, 4001 + i, bytes(100 + i)) for i in range(20)]
    strangers += [udp(stranger, "01:00:5e:00:00:fb", 5353, 5353, bytes(40))]
    device = f"192.168.1.{int(DEVICE[-2:], 16)}" if link == 101 else DEVICE
    alone = read(capture(tmp_path / "alone.pcap", [linked(frame) for frame in own], link), device)
    heard = read(capture(tmp_path / "heard.pcap", [linked(f) for f in (own[0], *strangers, own[1])], link), device)
    assert alone["sent"].sum() == heard["sent"].sum() == 1
    assert alone["received"].sum() == heard["received"].sum() == 1
    found, expected = values(heard), values(alone)
    differ = {name for name in found if found[name] != expected[name] and not np.isnan(found[name])}
    assert all("second" in name for name in differ), differ


@pytest.mark.real
def test_real_addresses_do_not_show(real_data: Path, tmp_path: Path) -> None:
    listed = setups.listing(real_data / "iot-sentinel").groupby("folder").head(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PacketWarning)
        for path in listed["path"]:
            frame = read(path)
            (tmp_path / "another.pcap").write_bytes(rewritten(path.read_bytes(), frame))
            changed = read(tmp_path / "another.pcap", another(str(setups.address_of(path)))[1].hex(":"))
            same(values(changed), values(frame))


def test_other_days_and_another_order_of_rows_do_not_show(frames: list[pd.DataFrame]) -> None:
    for frame in frames:
        later = frame.assign(ts=frame["ts"] + pd.Timedelta(days=400))
        assert values(later) == pytest.approx(values(frame), abs=1e-6, nan_ok=True)
    apart = frames[0].drop_duplicates("ts")
    same(values(apart.sample(frac=1, random_state=1)), values(apart))


def test_what_others_tell_everybody_does_not_show(tmp_path: Path) -> None:
    own = [udp(DEVICE, EVERYBODY, 68, 67, b"?"), udp(DEVICE, ROUTER, 4000, 53, b"1"), udp(ROUTER, DEVICE, 53, 4000, b"2")]
    noise = udp(OTHER, EVERYBODY, 7000, 7000, b"noise")
    quiet, loud = read(capture(tmp_path / "quiet.pcap", own)), read(capture(tmp_path / "loud.pcap", [*own, noise, noise]))
    assert len(loud) == 5
    same(values(loud), values(quiet))


def test_the_first_packets_are_those_of_the_file(frames: list[pd.DataFrame]) -> None:
    for frame in frames:
        for first in (1, 5, 20):
            same(values(frame, first), values(frame.iloc[:first]))
        same(values(frame, len(frame)), values(frame))
        same(values(frame, 10**6), values(frame))


# --- what is counted ----------------------------------------------------------------------------------------------------


def test_packets_sizes_and_gaps_are_those_of_a_plain_count(frames: list[pd.DataFrame]) -> None:
    for frame in frames:
        found = values(frame)
        group = frame["eth_dst"].str[1].isin(list("13579bdf"))
        own = frame[frame["sent"] | ~group].sort_values("ts", kind="stable")
        sent = own[own["sent"]]
        gaps = sent["ts"].diff().dropna().dt.total_seconds()
        expected = {
            "packets": len(own),
            "share sent": len(sent) / len(own),
            "sent: bytes, median": sent["size"].median(),
            "sent: bytes, deviation": sent["size"].std(ddof=0),
            "sent: seconds between, mean": gaps.mean(),
            "sent: seconds between, upper quarter": gaps.quantile(0.75),
            "received: bytes in all": own.loc[~own["sent"], "size"].sum(),
            "packet 1 sent: bytes": sent["size"].iloc[0],
            "packet 3 sent: protocol": PROTOCOLS.index(sent["protocol"].iloc[2]),
            "packet 5 sent: seconds since the one before": gaps.iloc[3],
            "turns": np.mean(own["sent"].to_numpy()[1:] != own["sent"].to_numpy()[:-1]),
        }
        expected |= {f"{proto} sent: packets": int((sent["protocol"] == proto).sum()) for proto in PROTOCOLS}
        assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_each_message_is_in_one_box_of_sizes(frames: list[pd.DataFrame]) -> None:
    for frame in frames:
        found = values(frame)
        for proto in ("tcp", "udp"):
            for way, sent in (("sent", True), ("received", False)):
                rows = frame[(frame["protocol"] == proto) & (frame["sent"] == sent) & (frame["payload_bytes"] > 0)]
                boxes = {name: n for name, n in found.items() if name.startswith(f"{proto} {way}: messages of ") and n}
                counts: Counter[str] = Counter()
                for size in rows["payload_bytes"]:
                    low = 600 + (min(size, 1480) - 600) // 8 * 8
                    counts[f"{size} bytes" if size < 600 else f"{low} to {low + 7} bytes"] += 1
                assert boxes == {f"{proto} {way}: messages of {box}": n for box, n in counts.items()}


def test_conversations_are_told_by_who_begins_and_with_whom(tmp_path: Path) -> None:
    said = [
        udp(DEVICE, ROUTER, 4000, 53, b"12345"),
        udp(ROUTER, DEVICE, 53, 4000, b"1234567"),
        udp(DEVICE, ROUTER, 4000, 53, b"12"),
        udp(DEVICE, OTHER, 4001, 9999, b"1"),
        udp(OTHER, DEVICE, 5000, 80, b"asked"),
        udp(DEVICE, OTHER, 80, 5000, b"answered"),
    ]
    found = values(read(capture(tmp_path / "a.pcap", said), DEVICE))
    expected = {"conversations begun": 2, "conversations answered": 1, "peers": 2, "ports served": 1}
    assert {name: found[f"udp: {name}"] for name in expected} == expected
    assert (found["udp begun: port dns"], found["udp begun: port http"]) == (1, 0)
    assert sum(value for name, value in found.items() if name.startswith("udp begun: another port")) == 1
    assert (found["udp begun 1: bytes sent"], found["udp begun 1: bytes received"]) == (7, 7)
    assert (found["udp begun 2: bytes sent"], found["udp begun 2: bytes received"]) == (1, 0)
    assert np.isnan(found["udp begun 3: bytes sent"])


# --- traits -------------------------------------------------------------------------------------------------------------


def test_dhcp_is_read_as_dpkt_writes_it() -> None:
    wanted = bytes([1, 33, 3, 6, 15])
    options = [(53, b"\1"), (57, b"\2\x40"), (60, b"udhcp 1.20"), (55, wanted)]
    discover = bytes(dpkt.dhcp.DHCP(opts=options))
    request = bytes(dpkt.dhcp.DHCP(opts=[(53, b"\3"), (55, wanted[:2])]))
    found = traits.dhcp([discover, request, request])
    assert [found[f"dhcp discover: option {place}"] for place in range(1, 5)] == [53, 57, 60, 55]
    assert [found[f"dhcp discover: wants {place}"] for place in range(1, 6)] == list(wanted)
    assert np.isnan([found["dhcp discover: option 5"], found["dhcp discover: wants 6"]]).all()
    assert (found["dhcp discover: longest answer"], found["dhcp discover: bytes of vendor class"]) == (576, 10)
    assert (found["dhcp: discovers"], found["dhcp: requests"], found["dhcp request: wanted"]) == (1, 2, 2)
    assert found["dhcp: broadcast asked for"] == 0


def hello(server: str, ciphers: str | None = None) -> tuple[bytes, ssl.SSLContext]:
    """What OpenSSL would send to greet the server, and how it was set up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ciphers:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=server).do_handshake()
    return outgoing.read(), context


def test_tls_is_read_as_openssl_writes_it_and_the_server_does_not_show() -> None:
    one, context = hello("a.example")
    found = traits.tls([b"", b"GET / HTTP/1.1", one])
    codes = {int(cipher["id"]) & 0xFFFF for cipher in context.get_ciphers()}
    assert found["tls: ciphers"] - len(codes) in (0, 1)  # and the signal for safe renegotiation (RFC 5746)
    assert (found["tls: version"], found["tls: greetings"], found["tls: extension server name"]) == (3, 1, 1)
    for name in ("b.example", "much-longer-name.example", f"{'x' * 60}.{'y' * 60}.{'z' * 60}.example"):
        same(traits.tls([hello(name)[0]]), found)
    old = traits.tls([hello("a.example", "ECDHE-RSA-AES128-GCM-SHA256")[0]])
    assert old["tls: ciphers as a number"] != found["tls: ciphers as a number"]
    assert old["tls: ciphers"] < found["tls: ciphers"]
    assert (old["tls: extension versions"], found["tls: extension versions"]) == (0, 1)


def test_tls_leaves_grease_out() -> None:
    ciphers = [0x0A0A, 0x1301, 0xC02F, 0xFAFA]
    extensions = struct.pack(">HHB", 0x2A2A, 1, 0) + struct.pack(">HH", 35, 0)
    body = b"\3\3" + bytes(32) + b"\0" + struct.pack(">H4H", 8, *ciphers) + b"\1\0" + len(extensions).to_bytes(2) + extensions
    found = traits.tls([b"\x16\3\1" + (len(body) + 4).to_bytes(2) + b"\1" + len(body).to_bytes(3) + body])
    assert (found["tls: ciphers"], found["tls: extensions"], found["tls: extension ticket"]) == (2, 1, 1)


def test_tcp_options_arp_and_groups_are_read_as_their_standards_say() -> None:
    options = bytes([2, 4, 5, 0xB4, 4, 2, 8, 10, *bytes(8), 1, 3, 3, 7])  # RFC 9293, 2018, 7323
    found = traits.tcp_opening("asks", (29_200, options, 64))
    assert [found[f"tcp asks: option {place}"] for place in range(1, 6)] == [2, 4, 8, 1, 3]
    assert [found[f"tcp asks: {name}"] for name in ("window", "ttl", "mss", "window scale")] == [29_200, 64, 1460, 7]
    assert all(np.isnan(value) for value in traits.tcp_opening("asks", None).values())

    def arp(operation: int, sender: int, target: int) -> bytes:
        return bytes(dpkt.arp.ARP(op=operation, spa=bytes([0, 0, 0, sender]), tpa=bytes([0, 0, 0, target])))

    said = [arp(1, 0, 7), arp(1, 0, 7), arp(1, 7, 7), arp(1, 7, 1), arp(1, 7, 1), arp(1, 7, 5), arp(2, 7, 1), b"short"]
    found = traits.arp(said)
    kinds = {"probes": 2, "announcements": 1, "questions": 3, "answers": 1, "hosts asked for": 2}
    assert found == {f"arp: {name}": count for name, count in kinds.items()}
    groups = [bytes([0x16, 0, 0, 0, 224, 0, 0, 251]), bytes([0x16, 0, 0, 0, 224, 0, 0, 252]), bytes([0x17, *bytes(7)])]
    found = traits.igmp([*groups, groups[0]])
    assert (found["igmp: v2 reports"], found["igmp: leaves"], found["igmp: groups"]) == (3, 1, 2)


def test_dns_is_read_as_dpkt_writes_it() -> None:
    def asked(*names: str, kind: int = 1) -> bytes:
        return bytes(dpkt.dns.DNS(qd=[dpkt.dns.DNS.Q(name=name, type=kind) for name in names], an=[], ns=[], ar=[]))

    answer = dpkt.dns.DNS(asked("a.example"))
    answer.qr = 1
    answer.an = [dpkt.dns.DNS.RR(name="a.example", type=1, rdata=bytes(4), ip=bytes(4))]
    found = traits.dns("dns", [asked("a.example"), asked("b.example", "c.d.example", kind=28), bytes(answer), b"\0" * 11])
    assert (found["dns: questions"], found["dns: answers"], found["dns: in one message at most"]) == (2, 1, 2)
    assert (found["dns: records a"], found["dns: records aaaa"], found["dns: records txt"]) == (3, 2, 0)


def test_texts_are_told_by_their_lines_and_not_by_what_they_say() -> None:
    def notified(host: str) -> bytes:
        return f"NOTIFY * HTTP/1.1\r\nHOST: {host}\r\nNTS: ssdp:alive\r\n\r\n".encode()

    found = traits.ssdp([notified("a"), notified("b"), b"M-SEARCH * HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
    assert list(found.values()) == [1, 2, 1, 4]

    def get(host: str, *more: str) -> bytes:
        return "\r\n".join(["GET / HTTP/1.1", f"Host: {host}", *more, "", ""]).encode()

    one = traits.http([get("a.example", "Accept: */*"), b"POST /x HTTP/1.1\r\n\r\n", b"HTTP/1.0 404 No\r\nServer: x\r\n\r\n"])
    assert (one["http: GET"], one["http: POST"], one["http: answers"], one["http question: header lines"]) == (1, 1, 1, 2)
    number = "http question: header names as a number"
    assert traits.http([get("b.example", "Accept: no")])[number] == one[number]
    assert traits.http([get("a.example", "Accept-Language: */*")])[number] != one[number]
    assert traits.ntp([b"\x23" + bytes(47)]) == {"ntp: questions": 1, "ntp: first byte": 0x23}


READERS: dict[str, Callable[[list[bytes]], dict[str, float]]] = {
    "dhcp": traits.dhcp,
    "tls": traits.tls,
    "arp": traits.arp,
    "igmp": traits.igmp,
    "dns": lambda messages: traits.dns("dns", messages),
    "ssdp": traits.ssdp,
    "ntp": traits.ntp,
    "http": traits.http,
    "tcp": lambda messages: traits.tcp_opening("asks", (1, messages[0], 64)),
}


@pytest.mark.parametrize("name", READERS)
def test_no_message_is_too_strange_to_read(name: str, frames: list[pd.DataFrame]) -> None:
    """Damaged honest messages and noise give the same names and plain numbers, and never an error."""
    chance = random.Random(4)
    seeds = [payload for frame in frames for payload in frame["payload"] if payload] + [hello("a.example")[0]]
    names = list(READERS[name]([b""]))
    for _ in range(600):
        message = bytearray(chance.choice(seeds))
        for _ in range(chance.randrange(8)):
            message[chance.randrange(len(message))] = chance.choice([0, 1, 0x7F, 0xC0, 0xFF, chance.randrange(256)])
        cut = bytes(message[: chance.randrange(len(message) + 1)])
        found = READERS[name]([cut, bytes(message), chance.randbytes(chance.randrange(60))])
        assert list(found) == names
        assert not np.isinf(list(found.values())).any()
