"""Packets become the connections that Zeek would log: by its documentation, by laws, and by rows that Zeek itself wrote."""

import re
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

import dpkt
import numpy as np
import pandas as pd
import pytest

from fliot_lab.data import setups, zeek
from fliot_lab.data.packets import read_packets, to_conn_log
from fliot_lab.data.packets.endpoints import Stream
from fliot_lab.features.flows import FLOW_FEATURES, FLOW_FEATURES_EXTENDED, flow_features
from fliot_lab.two_sample import two_sample_auc

Packets = list[tuple[float, bytes]]
CLIENT, SERVER = "192.0.2.10", "198.51.100.5"
START = 1_600_000_000
_TOKEN = re.compile(r"(?P<way>[<>])(?P<flags>[SFRA]*)(?P<what>[DOLCWN]?)(?P<size>\d*)|\+(?P<pause>[\d.]+)")
_BITS = {"F": 1, "S": 2, "R": 4, "A": 16, "D": 16, "O": 16, "L": 16, "C": 16, "W": 16, "N": 0}


def frame(source: str, target: str, inner: dpkt.Packet, protocol: int) -> bytes:
    """An Ethernet frame around a transport packet; dpkt computes lengths and checksums."""
    ends = {"src": ip_address(source).packed, "dst": ip_address(target).packed}
    if ":" in source:
        network = dpkt.ip6.IP6(**ends, nxt=protocol, hlim=64, plen=len(inner), data=inner)
        network.extension_hdrs, network.all_extension_headers = {}, []
        return bytes(dpkt.ethernet.Ethernet(type=0x86DD, data=network))
    return bytes(dpkt.ethernet.Ethernet(type=0x0800, data=dpkt.ip.IP(**ends, p=protocol, len=20 + len(inner), data=inner)))


def udp(source: str, target: str, sport: int, dport: int, payload: bytes) -> bytes:
    return frame(source, target, dpkt.udp.UDP(sport=sport, dport=dport, ulen=8 + len(payload), data=payload), 17)


def icmp(source: str, target: str, kind: int, code: int, size: int = 20) -> bytes:
    return frame(source, target, dpkt.icmp.ICMP(type=kind, code=code, data=bytes(4 + size)), 1)


def play(
    script: str, *, port: int = 80, isn: tuple[int, int] = (1000, 5000), says: tuple[bytes, bytes] = (b"", b"")
) -> Packets:
    """The packets of a TCP connection, 0.1 s apart, as a script has them: the client's begin with >, the server's with <.

    S, F, R and A set the flags; D12 sends 12 bytes, O5 the first 5 again, L9 nine that were not captured, C7 seven with a wrong
    checksum, W closes the window, SN is a SYN with a new number; +5 waits 5 s. `says` is what the bytes of both begin with.
    """
    found, now, sent, seq = [], 0.0, [0, 0], [isn[0] + 1, isn[1] + 1]
    for token in script.split():
        match = _TOKEN.fullmatch(token)
        assert match, token
        if match["pause"]:
            now += float(match["pause"])
            continue
        side, what, size = "><".index(match["way"]), match["what"], int(match["size"] or 0)
        flags = sum({_BITS[letter] for letter in match["flags"] + what})
        number = isn[side] + 50_000 * (what == "N") if flags & 2 else isn[side] + 1 if what == "O" else seq[side]
        ports = ((40_000, port), (port, 40_000))[side]
        text = (says[side] + b"x" * 1000)[0 if what == "O" else sent[side] :][:size]
        numbers = {"seq": number % 2**32, "ack": seq[1 - side] % 2**32 if flags & 16 else 0, "win": 0 if what == "W" else 1000}
        segment = dpkt.tcp.TCP(sport=ports[0], dport=ports[1], flags=flags, data=text, **numbers)
        data = frame(*((CLIENT, SERVER), (SERVER, CLIENT))[side], segment, 6)
        if what != "L":
            found.append((now, data[:-1] + bytes([data[-1] ^ (what == "C")])))
        if what != "O":
            sent[side] += size
            seq[side] += size + flags % 2
        now += 0.1
    return found


def save(path: Path, packets: Iterable[tuple[float, bytes]]) -> Path:
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file)
        for at, data in packets:
            writer.writepkt(data, START + at)
    return path


def flows(folder: Path, packets: Iterable[tuple[float, bytes]], **options: bool) -> pd.DataFrame:
    """The connections of packets, through a file."""
    return to_conn_log(read_packets(save(folder / "capture.pcap", packets), on_error="raise"), **options)


def words(found: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(found["conn_state"].astype(str), found["history"].astype(object).fillna("-"), strict=True))


@pytest.fixture(scope="module")
def scene() -> list[Path]:
    """Simulated set-ups, one of each device."""
    listed = setups.listing(setups.locate("sample").root)
    return listed.groupby("folder")["path"].first().tolist()


OPEN = ">S <SA >A"
# What Zeek's documentation says of conn_state, played.
STATES = {
    "S0, an attempt without a reply": (">S", "S0", "S"),
    "S1, established, not terminated": (OPEN, "S1", "ShA"),
    "SF, normal": (OPEN + " >D9 <A <D7 >A >FA <FA >A", "SF", "ShADadFf"),
    "REJ, rejected": (">S <RA", "REJ", "Sr"),
    "S2, the originator closes, no answer": (OPEN + " >FA", "S2", "ShAF"),
    "S3, the responder closes, no answer": (OPEN + " <FA", "S3", "ShAf"),
    "RSTO, the originator aborts": (OPEN + " >R", "RSTO", "ShAR"),
    "RSTR, the responder aborts": (OPEN + " >D9 <R", "RSTR", "ShADr"),
    "RSTOS0, a SYN and a RST": (">S >R", "RSTOS0", "SR"),
    "RSTRH, a SYN ACK and a RST of the responder": ("<SA <R", "RSTRH", "^hr"),
    "SH, a SYN and a FIN": (">S >F", "SH", "SF"),
    "SHR, a SYN ACK and a FIN of the responder": ("<SA <FA", "SHR", "^hf"),
    "OTH, midstream": (">D9 <D9", "OTH", "Dd"),
}


@pytest.mark.parametrize("name", STATES)
def test_states_are_those_of_zeeks_documentation(name: str, tmp_path: Path) -> None:
    script, state, history = STATES[name]
    found = flows(tmp_path, play(script))
    assert words(found) == [(state, history)]
    row = found.iloc[0]
    assert (row["id.orig_h"], row["id.orig_p"], row["id.resp_h"], row["id.resp_p"]) == (CLIENT, 40_000, SERVER, 80)


# The same, of letters: repetitions, directions, times.
LETTERS = {
    "a letter comes once for each side": (OPEN + " >D1 >D1 >D1 <D1 >A <D1", "S1", "ShADd"),
    "a SYN with the same number is the same": (">S >S >S <SA <SA >A", "S1", "ShA"),
    "retransmissions at 1, 10 and 100": (OPEN + " >D9" + 101 * " >O5", "S1", "ShADTTT"),
    "zero windows at 1 and 10": (OPEN + 12 * " <W", "S1", "ShAaww"),
    "wrong checksums at 1 and 10": (OPEN + 12 * " >C3", "S1", "ShACC"),
    "SYN and FIN at once": (">SF", "SH", "Q"),
    "FIN and RST at once": (OPEN + " >FR", "RSTO", "ShAI"),
    "a FIN and then a RST is no abort, once both closed": (OPEN + " >FA <FA >R", "SF", "ShAFfR"),
}


@pytest.mark.parametrize("name", LETTERS)
def test_letters_are_written_by_zeeks_rules(name: str, tmp_path: Path) -> None:
    script, state, history = LETTERS[name]
    assert words(flows(tmp_path, play(script))) == [(state, history)]


def test_a_syn_that_was_captured_after_its_answer_turns_the_two(tmp_path: Path) -> None:
    found = flows(tmp_path, play("<SA >S >A", port=1234))
    assert words(found) == [("S1", "Hs^A")]
    assert found["id.resp_h"].tolist() == [SERVER]


def test_bytes_come_from_sequence_numbers_and_packets_from_counting(tmp_path: Path) -> None:
    row = flows(tmp_path, play(OPEN + " >D9 <A <D7 >L100 >D5 <A >FA <FA >A")).iloc[0]
    assert (row["orig_bytes"], row["resp_bytes"], row["missed_bytes"]) == (9 + 100 + 5, 7, 100)
    assert (row["orig_pkts"], row["resp_pkts"]) == (6, 5)
    assert (row["orig_ip_bytes"], row["resp_ip_bytes"]) == (6 * 40 + 14, 5 * 40 + 7)
    assert row["history"] == "ShADadGFf"
    assert row["duration"] == pytest.approx(1.0)  # without the last ACK, after both have closed


@pytest.mark.parametrize("isn", [(0, 0), (2**32 - 5, 2**32 - 1), (2**31 - 4, 2**31)])
def test_numbers_that_wrap_change_nothing(isn: tuple[int, int], tmp_path: Path) -> None:
    script = OPEN + " >D9 <A <D30 >A >L8 >D5 <A >O5 >FA <FA >A"
    plain, other = (flows(tmp_path, play(script, isn=numbers)) for numbers in ((1000, 5000), isn))
    pd.testing.assert_frame_equal(plain, other)


def test_a_duration_and_bytes_are_unset_together_where_one_packet_came(tmp_path: Path) -> None:
    row = flows(tmp_path, play(">S")).iloc[0]
    assert row[["duration", "orig_bytes", "resp_bytes"]].isna().all()
    assert (row["orig_pkts"], row["resp_pkts"], row["missed_bytes"]) == (1, 0, 0)


# Script -> (state, history, packets of both sides) of each connection.
TIMES = {
    "a SYN is tried for 5 s": (">S +0.9 >S +1.9 >S +3.9 >S", [("S0", "S", 3), ("S0", "S", 1)]),
    "5 s after both closed it is forgotten": (OPEN + " >FA <FA +4 >A +5 >A", [("SF", "ShAFf", 6), ("OTH", "A", 1)]),
    "5 s after a RST as well": (OPEN + " >R +4 <A +5 <A", [("RSTO", "ShARa", 5), ("OTH", "^a", 1)]),
    "an open one is forgotten after 5 minutes": (OPEN + " +299 >D1 +301 >D1", [("S1", "ShAD", 4), ("OTH", "D", 1)]),
    "a new SYN begins a new one": (OPEN + " +9 >SN <SA", [("S1", "ShA", 3), ("S1", "Sh", 2)]),
}


@pytest.mark.parametrize("name", TIMES)
def test_connections_end_when_zeek_ends_them(name: str, tmp_path: Path) -> None:
    script, expected = TIMES[name]
    found = flows(tmp_path, play(script))
    packets = found["orig_pkts"] + found["resp_pkts"]
    assert [(*word, count) for word, count in zip(words(found), packets, strict=True)] == expected


@pytest.mark.parametrize(("gap", "rows"), [(59, 1), (61, 2)])
def test_udp_and_icmp_end_after_a_minute(gap: float, rows: int, tmp_path: Path) -> None:
    question, answer = udp(CLIENT, SERVER, 4000, 4001, b"hello"), udp(SERVER, CLIENT, 4001, 4000, b"hi")
    found = flows(tmp_path, [(0, question), (1, answer), (1 + gap, question)])
    assert len(found) == rows
    assert found["conn_state"].iloc[0] == "SF"
    assert found["history"].iloc[0] == "Dd"
    assert found["orig_bytes"].iloc[0] == (10 if rows == 1 else 5)
    echo = [(0, icmp(CLIENT, SERVER, 8, 0)), (1, icmp(SERVER, CLIENT, 0, 0)), (1 + gap, icmp(CLIENT, SERVER, 8, 0))]
    assert len(flows(tmp_path, echo)) == rows


def test_icmp_has_types_for_ports_and_pairs_answers_with_questions(tmp_path: Path) -> None:
    echo = [(0, icmp(CLIENT, SERVER, 8, 0)), (1, icmp(SERVER, CLIENT, 0, 0))]
    unreachable = [(2, icmp(CLIENT, SERVER, 3, 1, 28)), (3, icmp(SERVER, CLIENT, 3, 1))]
    found = flows(tmp_path, echo + unreachable)
    assert found[["id.orig_p", "id.resp_p"]].to_numpy().tolist() == [[8, 0], [3, 1], [3, 1]]
    assert found["proto"].eq("icmp").all()
    assert words(found) == [("OTH", "-")] * 3
    row = found.iloc[0]
    assert (row["orig_bytes"], row["resp_bytes"], row["orig_ip_bytes"], row["duration"]) == (20, 20, 48, 1.0)


def test_neighbours_of_ipv6_are_icmp_too(tmp_path: Path) -> None:
    ask, tell = (dpkt.icmp6.ICMP6(type=kind, code=0, data=bytes(20)) for kind in (135, 136))
    found = flows(tmp_path, [(0, frame("fe80::1", "fe80::2", ask, 58)), (1, frame("fe80::2", "fe80::1", tell, 58))])
    assert len(found) == 1
    assert found.loc[0, ["proto", "id.orig_h", "id.orig_p", "id.resp_p"]].tolist() == ["icmp", "fe80::1", 135, 136]


def test_the_server_is_told_by_its_port_where_the_beginning_was_missed(tmp_path: Path) -> None:
    found = flows(tmp_path, [(0, udp(SERVER, CLIENT, 53, 4000, bytes(20))), (1, udp(CLIENT, SERVER, 4000, 53, bytes(20)))])
    assert words(found) == [("SF", "^dD")]
    assert found["id.resp_h"].tolist() == [SERVER]
    both = flows(tmp_path, [(0, udp(SERVER, CLIENT, 53, 5353, bytes(20)))])
    assert words(both) == [("S0", "D")]
    answer = bytes([0, 0, 0x84, 0, *bytes(20)])  # mDNS: the question was asked of a group
    assert words(flows(tmp_path, [(0, udp(SERVER, CLIENT, 5353, 5353, answer))])) == [("S0", "D^")]
    assert words(flows(tmp_path, [(0, udp(SERVER, "224.0.0.251", 5353, 5353, answer))])) == [("S0", "D")]
    assert words(flows(tmp_path, play("<D9 >A", port=81))) == [("OTH", "^dA")]
    assert words(flows(tmp_path, play("<D9 >A", port=4444))) == [("OTH", "Da")]


HELLO = b"\x16\x03\x01\x00\x2f%c\x00\x00\x2b\x03\x03" + bytes(36)
SERVICES = {
    "http": (80, b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"),
    "http elsewhere": (1234, b"POST /x HTTP/1.1\r\n\r\n", b"HTTP/1.0 404 No\r\n\r\n"),
    "ssl": (443, HELLO % 1, HELLO % 2),
    "ssl elsewhere": (1234, HELLO % 1, HELLO % 2),
    "ssh": (22, b"SSH-2.0-client\r\n", b"SSH-2.0-server\r\n"),
    "irc": (6667, b"NICK bot\r\n", b""),
    "irc elsewhere": (1234, b"NICK bot\r\nUSER bot 0 * :bot\r\n", b":irc.example 001 bot :Welcome\r\n"),
    "dns": (53, b"\x00\x1d" + bytes(29), b"\x00\x1d" + bytes(29)),
    "- by words": (1234, b"hello", b"hello"),
    "- by a port alone": (443, b"hello", b"hello"),
    "- by one side alone": (1234, HELLO % 1, b""),
}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_what_was_spoken(name: str, tmp_path: Path) -> None:
    port, asks, answers = SERVICES[name]
    script = f"{OPEN} >D{len(asks)} <A" + (f" <D{len(answers)} >A" if answers else "")
    (service,) = flows(tmp_path, play(script, port=port, says=(asks, answers)))["service"].astype(object).fillna("-")
    assert service == name.split()[0]


def test_a_service_is_not_guessed_from_the_middle(tmp_path: Path) -> None:
    _, asks, answers = SERVICES["http"]
    script = f">A >D{len(asks)} <D{len(answers)}"
    assert flows(tmp_path, play(script, says=(asks, answers)))["service"].isna().all()


def test_datagrams_have_services(tmp_path: Path) -> None:
    dhcp = bytes(236) + b"\x63\x82\x53\x63\x35\x01\x01\xff"
    packets = [(0, udp("0.0.0.0", "255.255.255.255", 68, 67, dhcp)), (1, udp(CLIENT, SERVER, 4000, 53, bytes(20)))]
    packets += [(2, udp(CLIENT, SERVER, 4001, 53, b"short")), (3, udp(CLIENT, SERVER, 68, 67, bytes(300)))]
    assert flows(tmp_path, packets)["service"].astype(object).fillna("-").tolist() == ["dhcp", "dns", "-", "-"]


def test_wrong_checksums_count_for_nothing_unless_they_are_believed(tmp_path: Path) -> None:
    script = ">S <SA >A >C9"
    lost, believed = flows(tmp_path, play(script)), flows(tmp_path, play(script), ignore_checksums=True)
    assert (words(lost), lost["orig_pkts"].tolist(), lost["orig_bytes"].tolist()) == ([("S1", "ShAC")], [2], [0])
    assert (words(believed), believed["orig_pkts"].tolist(), believed["orig_bytes"].tolist()) == ([("S1", "ShAD")], [3], [9])
    broken = udp(CLIENT, SERVER, 4000, 4001, b"hello")[:-1] + b"!"
    found = flows(tmp_path, [(0.1 * count, broken) for count in range(12)])
    assert (words(found), found["orig_pkts"].tolist()) == ([("OTH", "CC")], [0])
    ip_broken = bytearray(udp(CLIENT, SERVER, 4000, 4001, b"hello"))
    ip_broken[22] ^= 1  # its TTL: Zeek believes nothing of it
    assert len(flows(tmp_path, [(0, bytes(ip_broken))])) == 0


def test_headers_alone_count_and_their_bytes_are_missing(tmp_path: Path) -> None:
    whole = play(OPEN + " >D500 <A >FA <FA")
    path = save(tmp_path / "whole.pcap", whole)
    data = bytearray(path.read_bytes())
    data[-len(data) :] = b"".join([bytes(data[:24]), *(_snapped(at, packet) for at, packet in whole)])
    path.write_bytes(data)
    row = to_conn_log(read_packets(path, on_error="raise")).iloc[0]
    assert (row["orig_bytes"], row["orig_ip_bytes"], row["missed_bytes"]) == (500, 4 * 40 + 500, 500)


def _snapped(at: float, data: bytes) -> bytes:
    """A record with the first 54 bytes of a frame."""
    head = [START, round(at * 1e6), 54, len(data)]
    return b"".join(number.to_bytes(4, "little") for number in head) + data[:54]


# --- laws -----------------------------------------------------------------------------------------------------------------


def test_every_packet_is_in_one_connection(scene: list[Path]) -> None:
    for path in scene:
        packets = read_packets(path, on_error="raise")
        counted = packets[packets["protocol"].isin(["tcp", "udp", "icmp", "icmp6"]) & (packets["checksum"] != "wrong")]
        found = to_conn_log(packets)
        assert found["orig_pkts"].sum() + found["resp_pkts"].sum() == len(counted)
        assert found["orig_ip_bytes"].sum() + found["resp_ip_bytes"].sum() == counted["ip_bytes"].sum()
        assert found["uid"].is_unique
        assert found["ts"].is_monotonic_increasing


def test_other_addresses_change_addresses_and_uids_only(scene: list[Path]) -> None:
    for path in scene[::6]:
        packets = read_packets(path)
        hosts = sorted(set(packets["ip_src"].dropna()) | set(packets["ip_dst"].dropna()))
        groups = {host for host in hosts if ip_address(host).is_multicast or host in ("255.255.255.255", "0.0.0.0", "::")}
        other = {host: f"fd00::{999 - at}" if ":" in host else f"203.0.113.{254 - at}" for at, host in enumerate(hosts)}
        other |= {host: host for host in groups}  # that a group is asked, and not a host, means something
        renamed = packets.assign(**{name: packets[name].map(other, na_action="ignore") for name in ("ip_src", "ip_dst")})
        before, after = to_conn_log(packets), to_conn_log(renamed)
        assert after["id.orig_h"].tolist() == before["id.orig_h"].map(other).tolist()
        assert after["id.resp_h"].tolist() == before["id.resp_h"].map(other).tolist()
        ends = ["id.orig_h", "id.resp_h"]
        assert (after["uid"] != before["uid"]).tolist() == (after[ends] != before[ends]).any(axis=1).tolist()
        same = before.columns.drop(["uid", "id.orig_h", "id.resp_h"])
        pd.testing.assert_frame_equal(before[same], after[same])


def test_a_days_pause_ends_everything(scene: list[Path]) -> None:
    one, two = (read_packets(path) for path in scene[:2])
    two = two.assign(ts=two["ts"] - two["ts"].min() + one["ts"].max() + pd.Timedelta(days=1))
    apart = pd.concat([to_conn_log(one), to_conn_log(two)], ignore_index=True)
    together = to_conn_log(pd.concat([one, two], ignore_index=True))
    for name in apart:
        assert together[name].astype(object).fillna("-").tolist() == apart[name].astype(object).fillna("-").tolist(), name


def test_a_capture_without_connections_gives_a_log_without_rows(tmp_path: Path) -> None:
    found = flows(tmp_path, [])
    zeek.write_conn_log(found, tmp_path / "conn.log")
    pd.testing.assert_frame_equal(zeek.read_conn_log(tmp_path / "conn.log"), found, check_categorical=False)


def test_the_log_can_be_written_and_read_back(scene: list[Path], tmp_path: Path) -> None:
    for path in scene[::5]:
        found = to_conn_log(read_packets(path))
        zeek.write_conn_log(found, tmp_path / "conn.log")
        pd.testing.assert_frame_equal(zeek.read_conn_log(tmp_path / "conn.log"), found)


def test_a_frame_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lack the columns .*payload_bytes.*read_packets"):
        to_conn_log(pd.DataFrame({"ts": [], "protocol": []}))


@pytest.mark.parametrize("seed", range(20))
def test_a_stream_knows_what_a_set_of_bytes_knows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    stream, came, at = Stream(), set(), 1  # `at` is the first byte that nobody waits for
    for _ in range(60):
        first, size = int(rng.integers(1, 80)), int(rng.integers(1, 12))
        if rng.random() < 0.8:
            stream.insert(first, bytes(size))
            came |= set(range(first, first + size))
        else:
            missing = [number for number in range(at, first) if number not in came]
            runs = [len(run) for run in np.split(missing, np.flatnonzero(np.diff(missing) > 1) + 1)] if missing else []
            assert stream.acknowledge(max(first, at)) == runs
            at = max(first, at)
        while at in came:
            at += 1
        kept = [number for first, stop in stream.pending for number in range(first, stop)]
        assert (stream.seq, kept, stream.held) == (at, sorted(number for number in came if number > at), len(kept))


# --- Zeek's own rows --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def zeeks_and_ours(real_data: Path, real_root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of capture 34-1 to port 6667 as Zeek wrote them, and as we make them from the same packets."""
    name = "CTU-IoT-Malware-Capture-34-1"
    theirs = zeek.read_conn_log(real_root / name / "bro" / "conn.log.labeled")
    theirs = theirs[theirs["id.resp_p"] == 6667].drop(columns=["label", "label_original"])
    return theirs, to_conn_log(read_packets(real_data / "pcap" / f"{name}-irc.pcap"))


@pytest.mark.real
def test_our_connections_are_zeeks(zeeks_and_ours: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    theirs, ours = zeeks_and_ours
    keys = ["ts", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p"]
    both = theirs.merge(ours, on=keys, suffixes=("_theirs", "_ours"))
    assert len(both) == len(theirs) == len(ours)
    for name in theirs.columns.drop([*keys, "uid"]):
        one, other = (both[f"{name}_{whose}"].astype(object).fillna(-1) for whose in ("theirs", "ours"))
        if name == "duration":  # Zeek subtracts times as floats
            one, other = one.astype(float).round(5), other.astype(float).round(5)
        assert (one == other).mean() >= 0.99, name


@pytest.mark.real
def test_a_forest_cannot_tell_our_rows_from_zeeks(zeeks_and_ours: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    for features in (FLOW_FEATURES, FLOW_FEATURES_EXTENDED):
        theirs, ours = (flow_features(rows, features)[0] for rows in zeeks_and_ours)
        assert np.mean([two_sample_auc(theirs, ours, seed=seed) for seed in range(3)]) <= 0.6
