"""The simulated set-ups, read back by a small reader of this test's own: lengths, sums, and the laws of each protocol."""

import shutil
import ssl
import struct
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fliot_lab.data.sample import setups
from fliot_lab.data.sample.packets import checksum, write_pcap
from fliot_lab.data.sample.setups import MARK, generate_setups
from fliot_lab.data.sample.things import BY_NAME, SIBLINGS

FIN, SYN, ACK = 1, 2, 16
# Private (RFC 1918), documentation (RFC 5737), multicast, and the two that stand for nobody and everybody.
ALLOWED = [
    ip_network(net)
    for net in (
        *("10.0.0.0/8", "192.168.0.0/16", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"),
        *("224.0.0.0/4", "0.0.0.0/32", "255.255.255.255/32", "fe80::/10", "ff02::/16", "::/128"),
    )
]


# --- a reader of its own ------------------------------------------------------------------------------------------------


def naive_sum(data: bytes) -> int:
    """RFC 1071 as its section 4.1 writes it: words added one by one, then the carries."""
    words = struct.unpack(f">{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2))
    total = sum(words)
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@dataclass
class Packet:
    """A frame with what this reader found in it; `body` is what the innermost known header carries."""

    time: int  # microseconds since 1970
    frame: bytes
    kind: str
    source: bytes = b""
    target: bytes = b""
    ports: tuple[int, int] = (0, 0)
    body: bytes = b""
    ttl: int = 0

    @property
    def ends(self) -> tuple[bytes, bytes, int, int]:
        return self.source, self.target, *self.ports


def read_pcap(path: Path) -> list[Packet]:
    data = path.read_bytes()
    magic, major, minor, _, _, snap, link = struct.unpack_from("<IHHiIII", data)
    assert (magic, major, minor, link) == (0xA1B2C3D4, 2, 4, 1)
    found, at = [], 24
    while at < len(data):
        seconds, micros, kept, whole = struct.unpack_from("<IIII", data, at)
        assert kept == whole <= snap
        assert micros < 1_000_000
        found.append(parse(seconds * 1_000_000 + micros, data[at + 16 : at + 16 + kept]))
        assert len(found[-1].frame) == kept
        at += 16 + kept
    assert at == len(data)
    return found


def parse(time: int, frame: bytes) -> Packet:
    """The packet of `frame`; fails where a length or a sum is wrong, or a kind unknown."""
    kind, payload = struct.unpack_from(">H", frame, 12)[0], frame[14:]
    assert len(frame) <= 1514
    if kind < 1536:
        assert kind == len(payload)
        return Packet(time, frame, "llc")
    if kind == 0x888E:
        assert payload[1] == 3
        assert struct.unpack_from(">H", payload, 2)[0] == len(payload) - 4
        assert struct.unpack_from(">H", payload, 97)[0] == len(payload) - 99  # the key data
        return Packet(time, frame, "eapol")
    if kind == 0x0806:
        assert payload[:6] == bytes.fromhex("000108000604")
        assert len(payload) == 28
        return Packet(time, frame, "arp", payload[14:18], payload[24:28])
    if kind == 0x0800:
        header, length = (payload[0] & 15) * 4, struct.unpack_from(">H", payload, 2)[0]
        assert length == len(payload)
        assert naive_sum(payload[:header]) == 0xFFFF
        source, target = payload[12:16], payload[16:20]
        return transport(Packet(time, frame, "", source, target, ttl=payload[8]), payload[9], payload[header:])
    assert kind == 0x86DD
    assert struct.unpack_from(">H", payload, 4)[0] == len(payload) - 40
    following, rest = payload[6], payload[40:]
    if following == 0:  # hop-by-hop options
        following, rest = rest[0], rest[8 * (1 + rest[1]) :]
    return transport(Packet(time, frame, "", payload[8:24], payload[24:40], ttl=payload[7]), following, rest)


def transport(packet: Packet, protocol: int, segment: bytes) -> Packet:
    pseudo = packet.source + packet.target + struct.pack(">II", len(segment), protocol)
    packet.kind = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 58: "icmp6"}[protocol]
    assert naive_sum(segment if protocol in (1, 2) else pseudo + segment) == 0xFFFF, packet.kind
    packet.body = segment
    if protocol in (6, 17):
        packet.ports = struct.unpack_from(">HH", segment)
    if protocol == 17:
        assert struct.unpack_from(">H", segment, 4)[0] == len(segment)
        packet.body = segment[8:]
    return packet


def dns_name(data: bytes, at: int) -> tuple[str, int]:
    """(name, place after it) of a name with labels and pointers."""
    labels: list[str] = []
    while data[at]:
        if data[at] >= 0xC0:
            rest, _ = dns_name(data, struct.unpack_from(">H", data, at)[0] & 0x3FFF)
            return ".".join([*labels, rest]), at + 2
        labels.append(data[at + 1 : at + 1 + data[at]].decode())
        at += 1 + data[at]
    return ".".join(labels), at + 1


def dns(data: bytes) -> tuple[int, int, list[str], list[tuple[str, int, bytes]]]:
    """(number, flags, questions, records) of a DNS message that ends where its counts say."""
    number, flags, asked, *others = struct.unpack_from(">HHHHHH", data)
    at, questions, records = 12, [], []
    for _ in range(asked):
        host, at = dns_name(data, at)
        questions.append(host)
        at += 4
    for _ in range(sum(others)):
        host, at = dns_name(data, at)
        kind, _, _, length = struct.unpack_from(">HHIH", data, at)
        records.append((host, kind, data[at + 10 : at + 10 + length]))
        at += 10 + length
    assert at == len(data)
    return number, flags, questions, records


def tls_records(stream: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(stream):
        kind, version, length = struct.unpack_from(">BHH", stream, at)
        assert version == 0x0303
        assert at + 5 + length <= len(stream)
        yield kind, stream[at + 5 : at + 5 + length]
        at += 5 + length


def http_messages(stream: bytes) -> Iterator[str]:
    """The first line of each HTTP message of a stream that ends where their lengths say."""
    while stream:
        head, _, stream = stream.partition(b"\r\n\r\n")
        first, *fields = head.decode().split("\r\n")
        size = next((int(line.split(": ")[1]) for line in fields if line.startswith("Content-Length: ")), 0)
        assert len(stream) >= size
        stream = stream[size:]
        yield first


def conversations(packets: list[Packet]) -> Iterator[list[Packet]]:
    """The packets of each TCP connection, in order."""
    found: dict[frozenset[tuple[bytes, int]], list[Packet]] = defaultdict(list)
    for packet in packets:
        if packet.kind == "tcp":
            found[frozenset(zip(packet.ends[:2], packet.ports, strict=True))].append(packet)
    yield from found.values()


def pieces(packet: Packet) -> tuple[int, int, int, bytes]:
    """(sequence number, acknowledgement, flags, payload) of a TCP segment."""
    number, acknowledged, offset, flags = struct.unpack_from(">IIBB", packet.body, 4)
    return number, acknowledged, flags, packet.body[(offset >> 4) * 4 :]


def streams(talk: list[Packet]) -> tuple[bytes, bytes]:
    """What each side of a connection said, without repetitions."""
    said: dict[tuple[bytes, int], dict[int, bytes]] = defaultdict(dict)
    for packet in talk:
        number, _, _, data = pieces(packet)
        if data:
            said[packet.source, packet.ports[0]][number] = data
    client = talk[0].source, talk[0].ports[0]
    server = talk[0].target, talk[0].ports[1]
    return b"".join(said[client].values()), b"".join(said[server].values())


# --- the captures -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("setups") / "iot-sentinel"
    generate_setups(out, 5, setups=3)
    return out


@pytest.fixture(scope="module")
def captures(folder: Path) -> dict[Path, list[Packet]]:
    return {path: read_pcap(path) for path in sorted(folder.glob("*/*.pcap"))}


def test_the_layout_is_that_of_the_real_set(folder: Path, captures: dict[Path, list[Packet]]) -> None:
    assert {path.parent.name for path in captures} == set(BY_NAME)
    assert Counter(path.name for path in captures) == {
        f"Setup-{which}-STA.pcap": len(BY_NAME) for which in ("A-1", "C-1", "A-2")
    }
    assert (folder / "README.txt").read_text().startswith(MARK)
    assert "SIMULATED" in (folder / "README.txt").read_text()
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")]


def test_every_packet_has_right_lengths_and_sums_in_order(captures: dict[Path, list[Packet]]) -> None:
    kinds: Counter[str] = Counter()
    for packets in captures.values():  # `parse` has looked at lengths and sums
        times = [packet.time for packet in packets]
        assert times == sorted(times)
        assert times[-1] - times[0] < 15 * 60 * 1_000_000
        kinds.update(packet.kind for packet in packets)
    assert set(kinds) == {"llc", "eapol", "arp", "icmp", "igmp", "icmp6", "udp", "tcp"}


def test_a_capture_holds_the_packets_of_its_device_and_nobodys_address(captures: dict[Path, list[Packet]]) -> None:
    for path, packets in captures.items():
        mac = bytes.fromhex((path.parent / "_iotdevice-mac.txt").read_text().strip().replace(":", ""))
        assert mac[0] & 3 == 2  # locally administered, one station's
        for packet in packets:
            assert mac in (packet.frame[6:12], packet.frame[:6]) or packet.frame[:6] == b"\xff" * 6
            for ip in (packet.source, packet.target):
                assert not ip or any(ip_address(ip) in net for net in ALLOWED), ip_address(ip)


def test_addresses_begin_with_the_makers_bytes(folder: Path) -> None:
    starts, macs = defaultdict(set), {}
    for thing in BY_NAME.values():
        macs[thing.name] = (folder / thing.name / "_iotdevice-mac.txt").read_text().strip()
        starts[thing.maker].add(macs[thing.name][:8])
    assert all(len(found) == 1 for found in starts.values())
    assert len(set.union(*starts.values())) == len(starts)
    assert macs["DrovanaSwitch"] == macs["DrovanaBridge"]
    assert len(set(macs.values())) == len(BY_NAME) - 1


def test_tcp_begins_with_a_handshake_and_numbers_advance_by_the_payload(captures: dict[Path, list[Packet]]) -> None:
    repeated = 0
    for packets in captures.values():
        for talk in conversations(packets):
            client = talk[0].source, talk[0].ports[0]
            flags = [pieces(packet)[2] for packet in talk]
            assert flags[:3] == [SYN, SYN | ACK, ACK][: len(talk)]
            assert not any(flag & SYN for flag in flags[2:])
            following: dict[bool, int] = {}
            seen: dict[bool, set[int]] = {True: set(), False: set()}
            for packet, flag in zip(talk, flags, strict=True):
                number, acknowledged, _, data = pieces(packet)
                side = (packet.source, packet.ports[0]) == client
                if side not in following:
                    following[side] = number
                if number != following[side]:
                    assert number in seen[side]  # sent once more
                    repeated += 1
                    continue
                if flag & ACK:
                    assert acknowledged == following[not side], "acknowledges all that was sent, and no more"
                if data:
                    seen[side].add(number)
                following[side] = (number + len(data) + bool(flag & SYN) + bool(flag & FIN)) % (1 << 32)
            closing = [number for number, flag in enumerate(flags) if flag & FIN]
            assert len(closing) <= 2
            assert not any(pieces(packet)[3] for number in closing[:1] for packet in talk[number:])
    assert repeated  # lines lose segments


def test_dhcp_lends_the_address_that_is_used(captures: dict[Path, list[Packet]]) -> None:
    for packets in captures.values():
        kinds, numbers, lent = [], set(), b""
        for packet in packets:
            if packet.ports not in ((68, 67), (67, 68)):
                continue
            assert packet.body[236:240] == bytes.fromhex("63825363")
            assert len(packet.body) >= 300  # RFC 1542, 2.1
            options, at = {}, 240
            while packet.body[at] != 255:
                options[packet.body[at]] = packet.body[at + 2 : at + 2 + packet.body[at + 1]]
                at += 2 + packet.body[at + 1]
            assert not any(packet.body[at + 1 :])
            kinds.append(options[53][0])
            numbers.add(packet.body[4:8])
            lent = packet.body[16:20] if packet.ports == (67, 68) else lent
        assert [kind for kind, before in zip(kinds, [0, *kinds], strict=False) if kind != before] == [1, 2, 3, 5]
        assert len(numbers) == 1
        own = {packet.source for packet in packets if packet.kind == "tcp"} | {
            packet.target for packet in packets if packet.kind == "tcp"
        }
        assert not own or lent in own


def test_names_are_asked_for_and_answered_before_they_are_called(captures: dict[Path, list[Packet]]) -> None:
    for path, packets in captures.items():
        asked, known, own = {}, set(), BY_NAME[path.parent.name]
        for packet in packets:
            if 53 in packet.ports:
                number, flags, questions, records = dns(packet.body)
                if packet.ports[1] == 53:
                    asked[number] = questions
                else:
                    assert flags & 0x8000
                    assert asked[number] == questions
                    known |= {data for _, kind, data in records if kind == 1}
            elif packet.kind == "tcp" and pieces(packet)[2] == SYN and packet.ports[1] != (own.app.port if own.app else 0):
                assert packet.target in known
            elif packet.ports[1] == 123:
                assert packet.target in known
                assert len(packet.body) == 48


def test_services_are_announced_with_a_ttl_that_stays_at_home(captures: dict[Path, list[Packet]]) -> None:
    found = set()
    for path, packets in captures.items():
        for packet in packets:
            if packet.ports[1] == 5353:
                assert packet.ttl == 255  # RFC 6762, 11
                _, flags, _, records = dns(packet.body)
                assert flags in (0, 0x8400)
                found.add(path.parent.name)
                if flags:
                    assert [kind for _, kind, _ in records] == [12, 33, 16, 1]
                    assert records[2][2][0] == len(records[2][2]) - 1
            elif packet.ports[1] == 1900:
                head, *fields, _, rest = packet.body.decode().split("\r\n")
                assert head == "NOTIFY * HTTP/1.1"
                assert rest == ""
                assert {line.split(": ")[0] for line in fields} >= {"HOST", "NT", "NTS", "USN", "LOCATION"}
            elif packet.kind == "igmp":
                assert packet.ttl == 1
    assert found == {thing.name for thing in BY_NAME.values() if thing.announced}


def test_tls_and_http_streams_are_whole_messages(captures: dict[Path, list[Packet]]) -> None:
    hellos = set()
    for packets in captures.values():
        for talk in conversations(packets):
            if sum(bool(pieces(packet)[2] & FIN) for packet in talk) < 2:
                continue  # the capture ended first
            client, server = streams(talk)
            if client[:2] == b"\x16\x03":
                kinds = [kind for kind, _ in tls_records(client)]
                assert kinds[:4] == [22, 22, 20, 22]
                assert set(kinds[4:-1]) == {23}
                assert kinds[-1] == 21
                assert [kind for kind, _ in tls_records(server)][:6] == [22, 22, 22, 22, 20, 22]
                hellos.add(client[: 5 + struct.unpack_from(">H", client, 3)[0]])
            elif client[:4] in (b"GET ", b"POST"):
                asked, given = list(http_messages(client)), list(http_messages(server))
                assert all(line.endswith(" HTTP/1.1") for line in asked)
                assert given == ["HTTP/1.1 200 OK"] * len(asked)
    assert len(hellos) > 20
    for hello in list(hellos)[::20]:
        assert understood(hello).endswith((".example", "wumbrel"))


def understood(hello: bytes) -> str:
    """The server name that OpenSSL reads in a client hello."""
    names: list[str] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = lambda connection, name, own: names.append(str(name))
    incoming = ssl.MemoryBIO()
    incoming.write(hello)
    server = context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True)
    with pytest.raises(ssl.SSLError, match=r"NO_SHARED_CIPHER|no shared cipher"):  # a server without a certificate
        server.do_handshake()
    return names[0]


# --- seeds and siblings -------------------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_bytes_whatever_else_is_asked_for(folder: Path, tmp_path: Path) -> None:
    few = ["ZindleKettle", "TalpideScale"]
    paths = generate_setups(tmp_path / "few", 5, devices=few, setups=2)
    assert [path.parent.name for path in paths] == [few[0]] * 2 + [few[1]] * 2
    for path in paths:
        assert path.read_bytes() == (folder / path.relative_to(tmp_path / "few")).read_bytes()
    for path in generate_setups(tmp_path / "other", 6, devices=few, setups=2):
        assert path.read_bytes() != (folder / path.relative_to(tmp_path / "other")).read_bytes()


def profile(packets: list[Packet]) -> np.ndarray:
    """Logarithms of how many packets there are of each kind and size class."""
    kinds = ("eapol", "arp", "icmp", "igmp", "icmp6", "udp", "tcp")
    sizes = np.histogram([len(packet.frame) for packet in packets], [0, 60, 80, 120, 200, 400, 800, 1515])[0]
    ports = [sum(port in packet.ports for packet in packets) for port in (53, 80, 123, 443, 1900, 5353)]
    return np.log1p([*(sum(packet.kind == kind for packet in packets) for kind in kinds), *sizes, *ports])


def test_siblings_are_nearer_than_strangers(captures: dict[Path, list[Packet]]) -> None:
    """Mean profiles of siblings lie at most a third as far apart as those of two devices at random typically do."""
    means = {
        name: np.mean([profile(got) for path, got in captures.items() if path.parent.name == name], axis=0) for name in BY_NAME
    }
    group = {name: members for members in SIBLINGS for name in members}
    apart = {pair: float(np.linalg.norm(means[pair[0]] - means[pair[1]])) for pair in combinations(BY_NAME, 2)}
    siblings = {pair: far for pair, far in apart.items() if pair[1] in group.get(pair[0], ())}
    strangers = [far for pair, far in apart.items() if pair not in siblings]
    assert max(siblings.values()) < np.median(strangers) / 3
    assert max(siblings.values()) < min(strangers)
    assert min(siblings.values()) > 0


# --- sums, files and bad input ------------------------------------------------------------------------------------------


@given(st.binary(max_size=64) | st.integers(0, 9).map(bytes) | st.integers(1, 9).map(lambda size: b"\xff" * size))
def test_the_checksum_is_that_of_the_naive_loop(data: bytes) -> None:
    assert checksum(data) == 0xFFFF - naive_sum(data)


def test_packets_are_written_in_the_order_of_their_times(tmp_path: Path) -> None:
    frames = [bytes(12) + struct.pack(">H", 3) + bytes([step] * 3) for step in range(3)]
    write_pcap(tmp_path / "a.pcap", [(2.5, frames[0]), (0.25, frames[1]), (2.5, frames[2])], 100)
    assert [(packet.time, packet.frame[-1]) for packet in read_pcap(tmp_path / "a.pcap")] == [
        (100_250_000, 1),
        (102_500_000, 0),
        (102_500_000, 2),
    ]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seed": -1}, "seed=-1: expected a whole number, 0 or more"),
        ({"seed": 1.5}, "seed=1.5"),
        ({"seed": True}, "seed=True"),
        ({"setups": 0}, "setups=0: expected a whole number, from 1 to 1000"),
        ({"setups": 1001}, "setups=1001"),
        ({"devices": []}, "one or more names"),
        ({"devices": "ZindleKettle"}, "expected a list"),
        ({"devices": ["ZindleKettle", "Nobody"]}, "no simulated device is called 'Nobody'; there are Quorvex"),
        ({"devices": ["ZindleKettle", "ZindleKettle"]}, "name each device once"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    arguments = {"seed": 1, "setups": 1, "devices": None} | changes
    with pytest.raises(ValueError, match=says):
        generate_setups(tmp_path / "out", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "ZindleKettle").mkdir()
    (tmp_path / "ZindleKettle" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other things"):
        generate_setups(tmp_path, 1, devices=["ZindleKettle"], setups=1)
    with pytest.raises(ValueError, match="is a file"):
        generate_setups(tmp_path / "ZindleKettle" / "thesis.txt", 1)
    assert [path.name for path in tmp_path.rglob("*.*")] == ["thesis.txt"]


def test_a_folder_of_ours_is_made_anew_after_a_break(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    generate_setups(out, 1, devices=["ZindleKettle", "TalpideScale"], setups=2)
    before = (out / "ZindleKettle" / "Setup-A-1-STA.pcap").read_bytes()

    def breaks(path: Path, *rest: object) -> None:
        if "C-1" in path.name:
            raise OSError("no space left")
        write_pcap(path, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(setups, "write_pcap", breaks)
        with pytest.raises(OSError, match="no space"):
            generate_setups(out, 1, devices=["ZindleKettle"], setups=2)
    assert "Unfinished" in (out / "README.txt").read_text()
    assert [path.name for path in out.rglob("*.pcap")] == ["Setup-A-1-STA.pcap"]
    generate_setups(out, 1, devices=["ZindleKettle"], setups=1)
    assert [path.read_bytes() for path in out.rglob("*.pcap")] == [before]
    shutil.rmtree(out)
