"""Packets are read as dpkt reads them, from every container; what is cut, damaged or hostile is refused or left out."""

import functools
import io
import pickle
import random
import struct
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import dpkt
import numpy as np
import pandas as pd
import pytest

from fliot_lab.data import setups
from fliot_lab.data.packets import COLUMNS, PacketError, PacketWarning, read_packets, to_conn_log

pytestmark = pytest.mark.filterwarnings("error")
SECONDS = 2.0  # that a capture of some kilobytes may take
TIMES = [1_600_000_000.000001, 1_600_000_001.5, 1_600_000_002.999999]
NETWORK = [name for name in COLUMNS if name not in ("eth_src", "eth_dst", "ethertype", "size")]


def packet(size: int = 10, **network: object) -> bytes:
    """An IPv4 packet with `size` bytes over UDP."""
    datagram = dpkt.udp.UDP(sport=4000, dport=4001, ulen=8 + size, data=bytes(at % 256 for at in range(size)))
    ends = {"src": bytes([192, 0, 2, 1]), "dst": bytes([192, 0, 2, 2]), "p": 17, "len": 28 + size}
    return bytes(dpkt.ip.IP(data=datagram, **{**ends, **network}))


def segment(**fields: object) -> bytes:
    """An IPv4 packet with ten bytes over TCP."""
    inner = dpkt.tcp.TCP(**{"sport": 4000, "dport": 80, "flags": 24, "seq": 7, "ack": 9, "data": b"0123456789", **fields})
    return bytes(dpkt.ip.IP(src=bytes([192, 0, 2, 1]), dst=bytes([192, 0, 2, 2]), p=6, len=20 + len(inner), data=inner))


def ethernet(inner: bytes, kind: int = 0x0800, tags: bytes = b"") -> bytes:
    return bytes([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]) + tags + kind.to_bytes(2, "big") + inner


def pcap(records: list[bytes], link: int = 1, order: str = "<", nanos: bool = False, cut: int = 0) -> bytes:
    """A pcap file; `cut` bytes of each packet were not captured."""
    data = struct.pack(order + "IHHiIII", 0xA1B23C4D if nanos else 0xA1B2C3D4, 2, 4, 0, 0, 65_535, link)
    for at, record in zip(TIMES, records, strict=False):
        ticks = round(at % 1 * 1e6) * (1000 if nanos else 1)
        data += struct.pack(order + "IIII", int(at), ticks, len(record) - cut, len(record)) + record[: len(record) - cut]
    return data


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + length + body + length


def pcapng(records: list[bytes], link: int = 1, order: str = "<", resolution: int = 6, offset: int = 0) -> bytes:
    """A pcapng file: section, interface with `resolution` as in if_tsresol, a packet in each block."""
    ticks = 2 ** (resolution & 0x7F) if resolution & 0x80 else 10**resolution
    options = struct.pack(order + "HHBxxx", 9, 1, resolution) + struct.pack(order + "HHq", 14, 8, offset)
    data = block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)
    data += block(1, struct.pack(order + "HHI", link, 0, 65_535) + options + bytes(4), order)
    for at, record in zip(TIMES, records, strict=False):
        stamp = (round(at * 1e6) - offset * 10**6) * ticks // 10**6
        sizes = struct.pack(order + "IIIII", 0, stamp >> 32, stamp & 0xFFFFFFFF, len(record), len(record))
        data += block(6, sizes + record, order) + block(5, b"statistics", order)
    return data


def read(folder: Path, data: bytes, on_error: str = "raise") -> pd.DataFrame:
    path = folder / "capture"
    path.write_bytes(data)
    return read_packets(path, on_error=on_error)  # type: ignore[arg-type]


THREE = [packet(10), segment(), packet(300)]
CONTAINERS: dict[str, Callable[[list[bytes]], bytes]] = {
    "pcap": lambda records: pcap([ethernet(r) for r in records]),
    "pcap, big endian": lambda records: pcap([ethernet(r) for r in records], order=">"),
    "pcap, nanoseconds": lambda records: pcap([ethernet(r) for r in records], nanos=True),
    "pcap, nanoseconds, big endian": lambda records: pcap([ethernet(r) for r in records], nanos=True, order=">"),
    "pcapng": lambda records: pcapng([ethernet(r) for r in records]),
    "pcapng, big endian": lambda records: pcapng([ethernet(r) for r in records], order=">"),
    "pcapng, nanoseconds": lambda records: pcapng([ethernet(r) for r in records], resolution=9),
    "pcapng, powers of two": lambda records: pcapng([ethernet(r) for r in records], resolution=0x80 | 30),
    "pcapng, from another second on": lambda records: pcapng([ethernet(r) for r in records], offset=1_500_000_000),
    "VLAN": lambda records: pcap([ethernet(r, tags=b"\x81\x00\x00\x07") for r in records]),
    "two VLANs": lambda records: pcap([ethernet(r, tags=b"\x88\xa8\x00\x07\x81\x00\x00\x08") for r in records]),
    "raw IP": lambda records: pcap(records, link=101),
    "raw IPv4 in pcapng": lambda records: pcapng(records, link=228),
    "Linux cooked": lambda records: pcap([struct.pack(">HHH8sH", 0, 1, 6, b"\2\0\0\0\0\1", 0x800) + r for r in records], 113),
    "Linux cooked 2": lambda records: pcap(
        [struct.pack(">HHIHBB8s", 0x800, 0, 1, 1, 0, 6, b"\2\0\0\0\0\1") + r for r in records], 276
    ),
    "loopback": lambda records: pcap([struct.pack("<I", 2) + r for r in records], 0),
    "loopback of the other byte order": lambda records: pcap([struct.pack(">I", 2) + r for r in records], 108),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_the_same_packets_come_out_of_every_container(name: str, tmp_path: Path) -> None:
    plain = read(tmp_path, CONTAINERS["pcap"](THREE))
    found = read(tmp_path, CONTAINERS[name](THREE))
    if "powers of two" in name:  # 1/2**30 s is no whole number of microseconds
        assert (plain["ts"] - found["ts"]).max() <= pd.Timedelta(microseconds=1)
        found["ts"] = plain["ts"]
    pd.testing.assert_frame_equal(plain[NETWORK], found[NETWORK])
    assert found["ts"].astype("int64").tolist() == [round(at * 1e6) for at in TIMES]
    link = name.split(",")[0]
    assert found["eth_dst"].notna().all() == (link in ("pcap", "pcapng", "VLAN", "two VLANs"))
    assert found["eth_src"].notna().all() == (link not in ("raw IP", "raw IPv4 in pcapng") and "loopback" not in link)
    assert set(found["eth_src"].dropna()) <= {"02:00:00:00:00:01"}


def expected(data: bytes) -> dict[str, object]:
    """A frame's columns as dpkt reads it."""
    frame = dpkt.ethernet.Ethernet(data)
    found: dict[str, object] = {"eth_src": frame.src.hex(":"), "eth_dst": frame.dst.hex(":"), "size": len(data)}
    network = frame.data
    if not isinstance(network, dpkt.ip.IP | dpkt.ip6.IP6):
        return found
    four = isinstance(network, dpkt.ip.IP)
    found |= {"ip_src": str(ip_address(network.src)), "ip_dst": str(ip_address(network.dst)), "ip_proto": network.p}
    found |= {"ttl": network.ttl if four else network.hlim, "ip_bytes": network.len if four else network.plen + 40}
    inner = network.data
    if isinstance(inner, dpkt.tcp.TCP):
        found |= {"sport": inner.sport, "dport": inner.dport, "seq": inner.seq, "ack": inner.ack, "window": inner.win}
        found |= {"tcp_flags": inner.flags, "options": inner.opts, "payload": inner.data, "payload_bytes": len(inner.data)}
    elif isinstance(inner, dpkt.udp.UDP):
        found |= {"sport": inner.sport, "dport": inner.dport, "payload": bytes(inner.data), "payload_bytes": len(inner.data)}
    elif isinstance(inner, dpkt.icmp.ICMP | dpkt.icmp6.ICMP6):
        found |= {"sport": inner.type, "dport": inner.code, "payload": bytes(inner), "payload_bytes": len(inner)}
    if four and not isinstance(inner, dpkt.tcp.TCP):
        found["options"] = network.opts
    return found


def test_packets_are_what_dpkt_says() -> None:
    listed = setups.listing(setups.locate("sample").root)
    seen: set[str] = set()
    for path in listed.groupby("folder")["path"].first():
        packets = read_packets(path, on_error="raise")
        with path.open("rb") as file:
            records = list(dpkt.pcap.Reader(file))
        assert [round(float(at) * 1e6) for at, _ in records] == packets["ts"].astype("int64").tolist()
        rows = packets.to_dict("records")
        for (_, data), row in zip(records, rows, strict=True):
            for name, value in expected(data).items():
                assert row[name] == value, (path, name)
            assert row["checksum"] != "wrong"
        seen |= set(packets["protocol"])
    assert seen >= {"arp", "eapol", "tcp", "udp", "icmp", "icmp6", "igmp", "llc"}


@pytest.mark.real
def test_real_captures_are_read_whole(real_data: Path) -> None:
    left_out = 0
    for path in sorted(real_data.glob("iot-sentinel/*/Setup-A-1-STA.pcap")):
        with path.open("rb") as file:
            records = [len(data) for _, data in dpkt.pcap.Reader(file)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PacketWarning)
            packets = read_packets(path)
        left_out += sum(packets.attrs["skipped"].values())
        assert len(packets) + sum(packets.attrs["skipped"].values()) == len(records)
        assert not packets.attrs["truncated"]
    assert left_out <= 2  # the whole set has two packets that are longer than their records


def test_a_frame_has_its_columns_and_dtypes_whatever_is_in_it(tmp_path: Path) -> None:
    none, some = read(tmp_path, pcap([])), read(tmp_path, pcap([ethernet(r) for r in THREE]))
    assert list(none) == list(some) == list(COLUMNS)
    assert none.dtypes.equals(some.dtypes)
    assert len(none) == 0
    assert some.attrs == {"source": str(tmp_path / "capture"), "skipped": {}, "truncated": False}
    assert some.loc[1, ["protocol", "sport", "dport", "seq", "ack", "tcp_flags"]].tolist() == ["tcp", 4000, 80, 7, 9, 24]
    assert some.loc[0, ["seq", "window"]].isna().all()
    assert pickle.loads(pickle.dumps(some)).equals(some)


def test_lengths_are_those_of_the_wire_and_of_ip_not_of_what_was_captured(tmp_path: Path) -> None:
    row = read(tmp_path, pcap([ethernet(packet(300))], cut=280)).iloc[0]
    assert (row["size"], row["ip_bytes"], row["payload_bytes"], len(row["payload"])) == (342, 328, 300, 20)
    assert pd.isna(row["checksum"])  # nobody knows
    padded = read(tmp_path, pcap([ethernet(packet(2)) + bytes(16)])).iloc[0]
    assert (padded["size"], padded["ip_bytes"], padded["payload_bytes"], padded["payload"]) == (60, 30, 2, b"\x00\x01")


def test_what_is_no_ip_keeps_its_bytes(tmp_path: Path) -> None:
    arp, llc = ethernet(bytes(28), 0x0806), ethernet(b"\xaa\xaa\x03" + bytes(5), 8)
    found = read(tmp_path, pcap([arp, llc, ethernet(b"\x01\x03", 0x888E)]))
    assert found["protocol"].tolist() == ["arp", "llc", "eapol"]
    assert found["payload"].tolist() == [bytes(28), b"\xaa\xaa\x03" + bytes(5), b"\x01\x03"]
    assert found["ethertype"].fillna(-1).tolist() == [0x0806, -1, 0x888E]
    assert found[["ip_src", "sport", "ip_bytes", "payload_bytes", "checksum"]].isna().all(axis=None)


def test_fragments_and_extension_headers(tmp_path: Path) -> None:
    first, later = packet(16, mf=1), packet(16, offset=24)
    four = read(tmp_path, pcap([ethernet(first), ethernet(later)]))
    assert four["protocol"].tolist() == ["udp", "ip"]
    assert four["ip_proto"].tolist() == [17, 17]
    assert four["sport"].isna().tolist() == [False, True]
    assert four["checksum"].isna().all()
    datagram = bytes(dpkt.udp.UDP(sport=1, dport=2, ulen=12, data=b"abcd"))
    alert = bytes([17, 0, 5, 2, 0, 0, 1, 0])
    fragments = [bytes([17, 0, 0, more, 0, 0, 0, 1]) for more in (1, 8)]
    bodies = [(0, alert + datagram), *((44, fragment + datagram) for fragment in fragments)]
    six = [
        struct.pack(">IHBB", 6 << 28, len(body), kind, 64) + bytes(15) + b"\1" + bytes(15) + b"\2" + body
        for kind, body in bodies
    ]
    found = read(tmp_path, pcap([ethernet(r, 0x86DD) for r in six]))
    assert found["protocol"].tolist() == ["udp", "udp", "ip6"]
    assert found["options"].tolist() == [alert, *fragments]
    assert found["payload_bytes"].tolist()[:2] == [4, 4]
    assert found["ip_src"].tolist() == ["::1"] * 3


def test_every_flipped_bit_makes_a_checksum_wrong(tmp_path: Path) -> None:
    for data in (ethernet(packet(5)), ethernet(segment())):
        assert read(tmp_path, pcap([data]))["checksum"].tolist() == ["right"]
        header = 14 + 20
        for bit in range(header * 8, len(data) * 8, 5):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            if bit // 8 in (header + 12, header + 13) and len(data) > 60:
                continue  # where TCP's header ends, and its flags: other rows
            assert read(tmp_path, pcap([bytes(flipped)]))["checksum"].tolist() == ["wrong"]
        flipped = bytearray(data)
        flipped[14 + 8] ^= 1  # the TTL
        assert read(tmp_path, pcap([bytes(flipped)]))["checksum"].tolist() == ["ip wrong"]
    silent = bytearray(ethernet(packet(5)))
    silent[14 + 20 + 6 : 14 + 20 + 8] = bytes(2)
    assert read(tmp_path, pcap([bytes(silent)]))["checksum"].isna().all()  # UDP need not have one


@pytest.mark.parametrize("name", ["pcap", "pcapng", "pcap, big endian"])
def test_a_capture_that_ends_anywhere_gives_what_is_whole(name: str, tmp_path: Path) -> None:
    data = CONTAINERS[name](THREE)
    whole = read(tmp_path, data)
    least = 24 if name.startswith("pcap,") or name == "pcap" else 12
    counts = []
    for end in range(len(data) - 1, least, -7):
        path = tmp_path / "cut"
        path.write_bytes(data[:end])
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            found = read_packets(path)
        assert found.attrs["truncated"] == any("ends inside a record" in str(w.message) for w in told)
        pd.testing.assert_frame_equal(found, whole.iloc[: len(found)], check_index_type=False)
        counts.append(len(found))
        if found.attrs["truncated"]:
            with pytest.raises(PacketError, match="ends inside a record"):
                read_packets(path, on_error="raise")
    assert sorted(counts, reverse=True) == counts
    assert set(counts) == ({0, 1, 2, 3} if "ng" in name else {0, 1, 2})  # statistics follow a packet in pcapng


LONG = (1 << 31) - 4
REFUSED = {
    "is empty": b"",
    "neither pcap nor pcapng": b"PK\x03\x04 a zip, or anything",
    "ends inside its header": pcap([])[:20],
    r"link type 105 .*Ethernet": pcap([bytes(40)], link=105),
    "a record of 4,294,967,295 bytes": pcap([]) + struct.pack("<IIII", 0, 0, 2**32 - 1, 60) + bytes(60),
    "a block of 0 bytes": pcapng([]) + struct.pack("<II", 6, 0) + bytes(40),
    "a block of 3 bytes": pcapng([]) + struct.pack("<II", 6, 3) + bytes(40),
    f"a block of {LONG:,} bytes": pcapng([]) + struct.pack("<II", 6, LONG) + bytes(40),
    "without a byte order": pcapng([])[:8] + bytes(4) + pcapng([])[12:],
    "two different lengths": pcapng([]) + struct.pack("<II", 5, 12) + struct.pack("<I", 16),
}


@pytest.mark.parametrize("problem", REFUSED)
@pytest.mark.parametrize("on_error", ["skip", "raise"])
def test_what_is_no_capture_is_refused(problem: str, on_error: str, tmp_path: Path) -> None:
    tracemalloc.start()
    with pytest.raises(PacketError, match=problem.partition(" .*")[0]) as caught:
        read(tmp_path, REFUSED[problem], on_error)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(tmp_path / "capture") in str(caught.value)
    assert peak < 4 << 20  # no length in a file is believed
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.path) == (str(caught.value), tmp_path / "capture")


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_packets(tmp_path / "none.pcap")
    with pytest.raises(PacketError, match="is a folder"):
        read_packets(tmp_path)


def test_damage_ends_a_capture_and_what_came_before_is_kept(tmp_path: Path) -> None:
    hostile = struct.pack("<IIII", 0, 0, 2**32 - 1, 60) + bytes(60)
    with pytest.warns(PacketWarning, match="a length that cannot be"):
        found = read(tmp_path, pcap([ethernet(r) for r in THREE]) + hostile, "skip")
    assert len(found) == 3
    assert found.attrs["truncated"]
    assert sum(found.attrs["skipped"].values()) == 1
    with pytest.raises(PacketError, match="a record of"):
        read(tmp_path, pcap([ethernet(r) for r in THREE]) + hostile)


def change(data: bytes, at: int, value: int, size: int = 1) -> bytes:
    return data[:at] + value.to_bytes(size, "big") + data[at + size :]


GOOD = ethernet(segment())
BAD = {
    "an Ethernet header that is cut": GOOD[:13],
    "a VLAN tag that is cut": GOOD[:12] + b"\x81\x00\x00",
    "an IP header that is cut": GOOD[:33],
    "an IP header that contradicts itself": change(GOOD, 14, 0x44),
    "an IP packet longer than its record": change(GOOD, 16, 60_000, 2),
    "a TCP header that is cut": change(GOOD[:50], 16, 36, 2),
    "a TCP header that contradicts itself": change(GOOD, 14 + 20 + 12, 0x40),
    "a UDP header that is cut": change(ethernet(packet())[:40], 16, 26, 2),
    "an ICMP header that is cut": change(change(GOOD[:38], 16, 24, 2), 23, 1),
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_packet_is_left_out_with_a_reason(reason: str, tmp_path: Path) -> None:
    data = pcap([GOOD, BAD[reason], GOOD])
    with pytest.warns(PacketWarning, match=reason):
        found = read(tmp_path, data, "skip")
    assert found.attrs["skipped"] == {reason: 1}
    assert len(found) == 2
    with pytest.raises(PacketError, match=f"packet 2: {reason}"):
        read(tmp_path, data)


BLOCKS = {
    "has no time": block(3, struct.pack("<I", len(GOOD)) + GOOD),
    "too short for its header": block(6, bytes(16)),
    "an interface that is not described": block(6, struct.pack("<IIIII", 7, 0, 0, len(GOOD), len(GOOD)) + GOOD),
    "a packet longer than its block": block(6, struct.pack("<IIIII", 0, 0, 0, 2**32 - 1, 60) + GOOD),
    "a time before 1970 or after 2255": block(6, struct.pack("<IIIII", 0, 2**32 - 1, 0, len(GOOD), len(GOOD)) + GOOD),
}


@pytest.mark.parametrize("reason", BLOCKS)
def test_a_bad_block_is_left_out_with_a_reason(reason: str, tmp_path: Path) -> None:
    data = pcapng([GOOD]) + BLOCKS[reason]
    with pytest.warns(PacketWarning, match=reason):
        assert len(read(tmp_path, data, "skip")) == 1
    with pytest.raises(PacketError, match=f"packet 2: .*{reason}"):
        read(tmp_path, data)


def test_interfaces_that_are_not_read_are_left_out_and_the_others_read(tmp_path: Path) -> None:
    other = block(1, struct.pack("<HHI", 220, 0, 65_535)) + block(6, struct.pack("<IIIII", 1, 0, 0, 40, 40) + bytes(40))
    with pytest.warns(PacketWarning, match=r"link type 220 is not read \(1\)"):
        assert len(read(tmp_path, pcapng([GOOD]) + other, "skip")) == 1


def test_old_packet_blocks_and_sections_that_follow_are_read(tmp_path: Path) -> None:
    stamp = round(TIMES[0] * 1e6)
    old = block(2, struct.pack("<HHIIII", 0, 3, stamp >> 32, stamp & 0xFFFFFFFF, len(GOOD), len(GOOD)) + GOOD)
    found = read(tmp_path, pcapng([GOOD]) + old + pcapng([GOOD], order=">"))
    assert found["seq"].tolist() == [7, 7, 7]
    assert found["ts"].nunique() == 1


def test_memory_and_time_stay_small(tmp_path: Path) -> None:
    many = struct.pack("<IIII", 1, 1, len(GOOD), len(GOOD)) + GOOD
    tracemalloc.start()
    found = read(tmp_path, pcap([]) + many * 20_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 20_000
    assert peak < 20 * 20_000 * len(many)


# --- mutated captures ---------------------------------------------------------------------------------------------------


@functools.cache
def seeds() -> tuple[bytes, ...]:
    """Small captures of several kinds, with the first packets of simulated set-ups in them."""
    listed = setups.listing(setups.locate("sample").root)
    found = []
    for path in listed.groupby("folder")["path"].first().tolist()[::5]:
        with path.open("rb") as file:
            packets = [data for _, data in dpkt.pcap.Reader(file)][:200]
        kinds = {data[12:14] + data[23:24]: data for data in packets}  # a packet of each protocol
        some = [*packets[:4], *kinds.values()][:12]
        found += [pcap(some), pcap(some, order=">"), pcapng(some)]
    return (*found, *(make(THREE) for make in CONTAINERS.values()))


def _flip(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.choice((1, 1, 3, 30))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _cut(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


def _overwrite(rng: random.Random, data: bytearray) -> None:
    """A number where a length may stand: huge, negative, zero, or a little off."""
    size = rng.choice((1, 2, 4))
    at = rng.randrange(max(1, len(data) - size))
    old = int.from_bytes(data[at : at + size], "little")
    new = rng.choice((0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), old + 1, max(old - 1, 0), 65_535, 262_145))
    data[at : at + size] = (new % 2 ** (8 * size)).to_bytes(size, rng.choice(("little", "big")))


def _repeat(rng: random.Random, data: bytearray) -> None:
    start, stop = sorted(rng.choices(range(len(data)), k=2))
    at = rng.choice((stop, len(data), rng.randrange(len(data))))
    data[at:at] = data[start:stop]


def _remove(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.choice((1, 4, 16, 60))]


def mutants(seed: int, count: int) -> Iterator[bytes]:
    """So many captures, each changed in one to four ways; the same for the same seed."""
    rng = random.Random(seed)
    ways = (_flip, _flip, _cut, _overwrite, _overwrite, _repeat, _remove)
    for _ in range(count):
        data = bytearray(rng.choice(seeds()))
        for way in rng.choices(ways, k=rng.randint(1, 4)):
            if data:
                way(rng, data)
        yield bytes(data)


def survive(data: bytes, folder: Path) -> bool:
    """Whether the bytes could be read, in time; an error other than PacketError is raised."""
    path = folder / "mutant"
    path.write_bytes(data)
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PacketWarning)
            packets = read_packets(path)
        flows = to_conn_log(packets)
    except PacketError:
        packets = None
    assert time.perf_counter() - start < SECONDS, data.hex()
    if packets is not None:
        assert len(flows) <= len(packets) <= len(data) / 16
    return packets is not None


def test_mutated_captures_are_read_or_refused(tmp_path: Path) -> None:
    answers = [survive(mutant, tmp_path) for mutant in mutants(seed=7, count=500)]
    assert 50 < np.sum(answers) < 500  # many are read, and not all


def test_dpkts_own_writers_are_understood(tmp_path: Path) -> None:
    for writer in (dpkt.pcap.Writer, dpkt.pcapng.Writer):
        file = io.BytesIO()
        made = writer(file)
        for at in TIMES:
            made.writepkt(GOOD, at)
        found = read(tmp_path, file.getvalue())
        assert found["ts"].astype("int64").tolist() == [round(at * 1e6) for at in TIMES]
        assert found["seq"].tolist() == [7, 7, 7]
