"""The flows of one device as a fingerprint: with what, how often and how much it speaks, in the words of a conn log.

Ports enter as what they are for, hosts as how many there are and of which kind. No feature holds an address, and no port that
somebody chose: other addresses of the same kinds give the same fingerprint.
"""

import ipaddress
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fliot_lab.data import packets as captures
from fliot_lab.data import zeek
from fliot_lab.data.layout import CONN_FIELDS
from fliot_lab.features.devices import packets
from fliot_lab.features.devices.fingerprint import Fingerprint, name_of, spread
from fliot_lab.features.flows import FLOW_FEATURES_EXTENDED, flow_features

CHANNEL = "flows"
#: Ports whose meaning is fixed by a standard (IANA's registry): what a device asks for, in any network.
PORTS = {"dns": 53, "dhcp": 67, "http": 80, "ntp": 123, "https": 443, "ssdp": 1900, "mdns": 5353}
KINDS = ("group", "private", "public")
#: RFC 1918, 3927, 6598, 4193, 4291, and the address of who has none yet.
_NETWORKS = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10", "0.0.0.0/32")
_PRIVATE = [ipaddress.ip_network(network) for network in (*_NETWORKS, "fc00::/7", "fe80::/10", "::/128")]
# What is counted: the features of a flow that are 0 or 1, and the letters of its history.
_COUNTED = tuple(feature for feature in FLOW_FEATURES_EXTENDED if feature.unit in ("0 or 1", "count"))
_UNITS = ("bytes", "ip_bytes", "pkts")
Numbers = npt.NDArray[np.float64]


def read(source: str | os.PathLike[str] | pd.DataFrame, device: str | Collection[str] | None = None) -> pd.DataFrame:
    """The flows of one device, sorted by time: Zeek's columns, and `begun` (bool), whether the device is the originator.

    `source` is a conn log, a capture (`.pcap` or `.pcapng`, whose packets become flows), or a frame of Zeek's columns.
    `device` is the device's address, or all of them: an IPv4 and an IPv6 one, say. For None it is the host that begins the
    most flows; in a capture it is who `packets.read` takes for the device, and an Ethernet address is understood as well.
    Raises as the readers of these files, and ValueError where a column is missing or a device that is named has no flow.
    """
    if isinstance(source, pd.DataFrame):
        flows, name = source, str(source.attrs.get("source", "a frame of flows"))
    elif Path(source).suffix in (".pcap", ".pcapng"):
        (flows, device), name = _of_capture(source, device), name_of(source)
    else:
        flows, name = zeek.read_conn_log(source), name_of(source)
    if missing := [column for column in CONN_FIELDS if column not in flows]:
        raise ValueError(f"{name}: flows need Zeek's columns {', '.join(missing)}, which they lack")
    if device is None:
        device = _commonest(flows["id.orig_h"])
    hosts = {device} if isinstance(device, str) else set(device)
    own = flows[flows["id.orig_h"].isin(hosts) | flows["id.resp_h"].isin(hosts)]
    if own.empty and isinstance(device, str):
        raise ValueError(f"{name}: no flow has the host {device}; name an address that occurs, or none")
    own = own.sort_values("ts", kind="stable", ignore_index=True)
    own["begun"] = own["id.orig_h"].isin(hosts)
    own.attrs = {"source": name}
    return own


def fingerprint(frame: pd.DataFrame) -> list[Fingerprint]:
    """One fingerprint of all flows in what `read` gives. Counts grow with time: compare stretches of about equal length.

    Apart for flows that the device began and that it answered: how many, of which protocol, state, service, kind of port and
    kind of peer, with which letters in their histories, and to how many peers and ports. Then durations, and bytes and packets
    sent and received, apart for TCP and UDP, and times between one beginning and the next. NaN where there is nothing to
    measure.
    """
    found: dict[str, float] = {"flows": len(frame)}
    begun = frame["begun"].to_numpy(dtype=bool)
    for side, rows, peer in (("begun", begun, "resp"), ("answered", ~begun, "orig")):
        found |= {f"{side}: {name}": value for name, value in _counts(frame[rows], peer).items()}
    for proto in ("tcp", "udp"):
        found |= _sizes(frame[(frame["proto"] == proto).to_numpy(dtype=bool)], proto)
    starts = frame["ts"].to_numpy("datetime64[us]").astype(np.float64) / 1e6
    found |= spread("seconds between flows", np.diff(starts))
    found |= spread("seconds between flows begun", np.diff(starts[begun]))
    return [Fingerprint(CHANNEL, tuple(found), np.fromiter(found.values(), np.float64), str(frame.attrs.get("source", "")))]


def _of_capture(
    source: str | os.PathLike[str], device: str | Collection[str] | None
) -> tuple[pd.DataFrame, str | Collection[str]]:
    """The flows of a capture, and the IP addresses of the device in it."""
    ethernet = device if isinstance(device, str) and len(device) == 17 and device.count(":") == 5 else None
    seen = packets.read(source, ethernet)
    if device is None or ethernet:
        device = set(seen.loc[seen["sent"], "ip_src"].dropna())
        seen = seen[seen["sent"] | seen["ip_dst"].isin(device)]  # who asks for an address has none: 0.0.0.0 is everybody's
    # Where the recording machine answers itself (DHCP, DNS), its card computes the checksums later: they are not the device's.
    return captures.to_conn_log(seen, ignore_checksums=True), device


def _commonest(hosts: pd.Series) -> set[str]:
    """The host that occurs most often, of equals the one that comes first; none where there is no flow."""
    counts = hosts.value_counts(sort=False)
    return {str(counts.idxmax())} if len(counts) else set()


def _counts(flows: pd.DataFrame, peer: str) -> dict[str, float]:
    """How many flows there are of each kind; the other host stands in the columns of `peer`, orig or resp."""
    X, names = flow_features(flows, _COUNTED)
    found: dict[str, float] = {"flows": len(flows)}
    found |= dict(zip(names, X.sum(axis=0, dtype=np.float64).tolist(), strict=True))
    hosts, ports = flows[f"id.{peer}_h"], flows.loc[(flows["proto"] != "icmp").to_numpy(bool), "id.resp_p"]
    found |= {f"port {name}": float((ports == port).sum()) for name, port in PORTS.items()}
    kinds = hosts.map({host: _kind(host) for host in hosts.unique()})
    found |= {f"peer {kind}": float((kinds == kind).sum()) for kind in KINDS}
    shares = hosts.value_counts(normalize=True).to_numpy(np.float64)
    found |= {"peers": len(shares), "ports": ports.nunique(), "groups": hosts[kinds == "group"].nunique()}
    found["most with one peer"] = float(shares.max()) if len(shares) else np.nan
    return found


def _kind(host: Any) -> str:
    """Whether an address means a group (multicast, broadcast), a host of a private network, or one of the internet."""
    address = ipaddress.ip_address(host)
    if address.is_multicast or str(address) == "255.255.255.255":
        return "group"
    # The library's own `is_private` takes addresses for documentation, which simulated servers have, for private ones.
    return "private" if any(address in network for network in _PRIVATE) else "public"


def _sizes(flows: pd.DataFrame, proto: str) -> dict[str, float]:
    """The spread of durations and of what the device sent and received; unset is 0, as among the flow features."""
    begun = flows["begun"].to_numpy(dtype=bool)
    found = spread(f"{proto}: seconds", _numbers(flows["duration"]))
    for unit in _UNITS:
        of_orig, of_resp = _numbers(flows[f"orig_{unit}"]), _numbers(flows[f"resp_{unit}"])
        for verb, values in (("sent", np.where(begun, of_orig, of_resp)), ("received", np.where(begun, of_resp, of_orig))):
            found |= spread(f"{proto}: {unit} {verb}", values) | {f"{proto}: {unit} {verb}, in all": float(values.sum())}
    return found


def _numbers(column: pd.Series) -> Numbers:
    return np.asarray(column.astype("Float64").to_numpy(np.float64, na_value=0.0), dtype=np.float64)
