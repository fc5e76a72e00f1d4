"""Flows of one device as fingerprints: against counting by hand, and under other addresses, other times and the other side."""

import ipaddress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fliot_lab.data import iot23, setups, zeek
from fliot_lab.data.layout import CONN_FIELDS
from fliot_lab.data.packets import read_packets
from fliot_lab.features.devices.flows import fingerprint, read

CAMERA, ROUTER, SERVER, GROUP = "192.168.1.7", "192.168.1.1", "203.0.113.9", "239.255.255.250"
# Who to whom, port, protocol, state, service, history, duration, bytes and packets each way, seconds from the first.
ROWS: list[tuple[Any, ...]] = [
    (CAMERA, ROUTER, 53, "udp", "SF", "dns", "Dd", 0.5, 40, 120, 1, 1, 0.0),
    (CAMERA, SERVER, 443, "tcp", "SF", "ssl", "ShADadFf", 9.0, 900, 4_000, 12, 10, 1.0),
    (CAMERA, SERVER, 443, "tcp", "S0", None, "S", None, None, None, 1, 0, 4.0),
    (CAMERA, GROUP, 1900, "udp", "S0", None, "D", 2.0, 300, 0, 3, 0, 5.0),
    (SERVER, CAMERA, 50_000, "tcp", "REJ", None, "Sr", 0.1, 0, 0, 1, 1, 9.0),
    (ROUTER, CAMERA, 0, "icmp", "OTH", None, None, 1.0, 56, 0, 2, 0, 10.0),
    (ROUTER, SERVER, 123, "udp", "SF", None, "Dd", 0.1, 48, 48, 1, 1, 11.0),  # none of the camera's business
]


def frame_of(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    """The rows as `read_conn_log` gives them."""
    names = ["id.orig_h", "id.resp_h", "id.resp_p", "proto", "conn_state", "service", "history", "duration"]
    names += ["orig_bytes", "resp_bytes", "orig_pkts", "resp_pkts", "seconds"]
    frame = pd.DataFrame(rows, columns=names)
    frame["ts"] = pd.Timestamp("2024-05-06", tz="UTC") + pd.to_timedelta(frame.pop("seconds"), unit="s")
    frame = frame.assign(**{"id.orig_p": 40_000, "uid": "C1", "local_orig": True, "local_resp": False, "tunnel_parents": ""})
    counts = [name for name, kind in CONN_FIELDS.items() if kind == "count"]
    for side in ("orig", "resp"):
        frame[f"{side}_ip_bytes"] = frame[f"{side}_bytes"].fillna(0) + 28 * frame[f"{side}_pkts"]
    frame = frame.reindex(columns=list(CONN_FIELDS)).astype(dict.fromkeys(counts, "Int64") | {"duration": np.float64})
    return frame.astype(dict.fromkeys(("proto", "conn_state", "service", "history"), "category"))


@pytest.fixture
def flows() -> pd.DataFrame:
    return frame_of(ROWS)


@pytest.fixture(scope="module")
def capture() -> Path:
    """A simulated set-up of a camera, with its own Ethernet address beside it."""
    return setups.locate("sample").root / "JuntoxCam" / "Setup-A-1-STA.pcap"


def values(frame: pd.DataFrame) -> dict[str, float]:
    (found,) = fingerprint(frame)
    return dict(zip(found.names, found.values.tolist(), strict=True))


def test_flows_are_counted_as_by_hand(flows: pd.DataFrame) -> None:
    found = values(read(flows))
    expected = {
        "flows": 6,
        "begun: flows": 4,
        "answered: flows": 2,
        "begun: proto_tcp": 2,
        "begun: conn_state_S0": 2,
        "answered: conn_state_REJ": 1,
        "begun: history_orig_S": 2,
        "begun: history_resp_D": 2,
        "answered: history_resp_R": 1,
        "begun: service_unset": 2,
        "begun: service_ssl": 1,
        "begun: resp_port_user": 1,
        "answered: resp_port_dynamic": 1,
        "begun: port https": 2,
        "begun: port ssdp": 1,
        "begun: port ntp": 0,
        "begun: peers": 3,
        "begun: ports": 3,
        "begun: groups": 1,
        "begun: peer group": 1,
        "begun: peer private": 1,
        "begun: peer public": 2,
        "begun: most with one peer": 0.5,
        "answered: peers": 2,
        "answered: ports": 1,  # ICMP has none
        "answered: peer private": 1,
        "tcp: bytes sent, most": 900,
        "tcp: bytes sent, median": 0,
        "tcp: bytes received, in all": 4_000,
        "tcp: pkts received, in all": 11,  # ten of its server's, one that asked and was refused
        "tcp: pkts sent, in all": 14,
        "udp: ip_bytes sent, in all": 40 + 28 + 300 + 84,
        "udp: seconds, mean": 1.25,
        "tcp: seconds, least": 0,
        "seconds between flows, most": 4,
        "seconds between flows begun, median": 1,
        "seconds between flows begun, mean": 5 / 3,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)


# --- what must not show -------------------------------------------------------------------------------------------------


def renumbered(address: str) -> str:
    """Another address of the same kind, by flipping bits of its last part."""
    number = ipaddress.ip_address(address)
    if str(number) in ("0.0.0.0", "255.255.255.255", "::"):
        return address
    flipped = int(number) ^ (0x1A35 if number.version == 4 else 0x1A35_1A35)
    return str(ipaddress.IPv4Address(flipped) if number.version == 4 else ipaddress.IPv6Address(flipped))


def test_addresses_names_and_chosen_ports_do_not_show() -> None:
    logs = iot23.captures(iot23.locate("sample").root)
    flows = zeek.read_conn_log(next(path for name, path in logs.items() if "Honeypot" in name))
    changed = flows.assign(
        **{name: flows[name].map(renumbered) for name in ("id.orig_h", "id.resp_h")},
        **{"id.orig_p": 65_535 - flows["id.orig_p"], "uid": "C" + flows["uid"].str[:0:-1]},
        ts=flows["ts"] + pd.Timedelta(days=400),
    )
    changed.attrs["source"] = "kitchen"
    host = flows["id.orig_h"].value_counts().idxmax()
    assert values(read(changed, renumbered(host))) == pytest.approx(values(read(flows, host)), abs=1e-6, nan_ok=True)
    assert set(flows["id.orig_h"]).isdisjoint(set(changed["id.orig_h"]) - {"0.0.0.0", "::"})


def test_rows_in_another_order_are_the_same_flows(flows: pd.DataFrame) -> None:
    shuffled = flows.sample(frac=1, random_state=3, ignore_index=True)
    assert values(read(shuffled, CAMERA)) == pytest.approx(values(read(flows, CAMERA)), nan_ok=True)


def test_the_other_side_sees_the_same_flows_the_other_way_round(flows: pd.DataFrame) -> None:
    """What one of two hosts sent the other received, and who began was answered."""
    pair = flows[flows[["id.orig_h", "id.resp_h"]].isin([CAMERA, SERVER]).all(axis=1)]
    one, other = values(read(pair, CAMERA)), values(read(pair, SERVER))
    turned = {"sent": "received", "received": "sent", "begun": "answered", "answered": "begun"}
    compared = 0
    for name, value in one.items():
        words = name.replace(":", " :").replace(",", " ,").split(" ")
        twin = " ".join(turned.get(word, word) for word in words).replace(" :", ":").replace(" ,", ",")
        if twin in other and "peer" not in name and "between" not in name:
            assert other[twin] == pytest.approx(value, nan_ok=True), (name, twin)
            compared += 1
    assert compared > 150


# --- whose flows --------------------------------------------------------------------------------------------------------


def test_the_device_is_who_begins_most_or_who_is_named(flows: pd.DataFrame) -> None:
    assert len(read(flows)) == 6
    assert read(flows)["begun"].tolist() == [True] * 4 + [False] * 2
    assert len(read(flows, ROUTER)) == 3
    both = read(flows, [CAMERA, ROUTER])
    assert len(both) == 7
    assert both["begun"].sum() == 6
    with pytest.raises(ValueError, match=r"no flow has the host 10\.0\.0\.1"):
        read(flows, "10.0.0.1")


def test_a_log_is_read_as_its_frame(flows: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "home" / "conn.log"
    zeek.write_conn_log(flows, path)
    assert values(read(path)) == pytest.approx(values(read(flows)), nan_ok=True)
    assert fingerprint(read(path))[0].provenance == "home/conn.log"
    assert fingerprint(read(flows))[0].provenance == "a frame of flows"


def test_a_capture_becomes_flows_of_the_device_with_all_its_addresses(capture: Path) -> None:
    address = setups.address_of(capture)
    packets = read_packets(capture)
    own = set(packets.loc[packets["eth_src"] == address, "ip_src"].dropna())
    found = read(capture)
    assert len(own) > 1  # it asks for an address with none
    assert found.loc[found["begun"], "id.orig_h"].isin(own).all()
    assert (found["begun"] | found["id.resp_h"].isin(own)).all()
    assert (found["service"] == "dhcp").any()
    named = read(capture, address)
    assert values(named) == pytest.approx(values(found), nan_ok=True)
    lent = next(host for host in own if host.startswith("192.168."))
    assert len(read(capture, lent)) < len(found)


def test_who_has_no_flow_has_a_fingerprint_of_zeros(flows: pd.DataFrame) -> None:
    nothing, something = values(read(flows.iloc[:0])), values(read(flows))
    assert list(nothing) == list(something)
    assert {value for name, value in nothing.items() if "in all" in name or "port" in name} == {0}
    assert np.isnan(nothing["tcp: seconds, mean"])


def test_a_scanner_shows(tmp_path: Path) -> None:
    """In a simulated capture, an infected host speaks to more peers than a honeypot that is not."""
    found = {}
    for name, log in iot23.captures(iot23.locate("sample").root).items():
        found[name] = values(read(log))["begun: peers"]
    infected = [peers for name, peers in found.items() if "Malware" in name]
    assert np.median(infected) > max(peers for name, peers in found.items() if "Honeypot" in name)


def test_a_frame_that_holds_no_flows_is_refused(flows: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"a frame of flows: flows need Zeek's columns ts, history"):
        read(flows.drop(columns=["history", "ts"]))
