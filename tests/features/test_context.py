"""Context features against a loop over all pairs of flows, and the laws that they must obey."""

import math
import statistics
import subprocess
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fliot_lab.features import matrix
from fliot_lab.features.context import CONTEXT_FEATURES, FAILED, LAST, WINDOW_S, context_features
from fliot_lab.features.flows import FLOW_FEATURES

NAMES = [feature.name for feature in CONTEXT_FEATURES]


def drawn(n: int, seed: int, hosts: int = 3, span_s: float = 300.0, captures: bool = True) -> pd.DataFrame:
    """Flows of a few hosts; many end at the same time, some have no duration, payload or known state."""
    rng = np.random.default_rng(seed)
    flows = pd.DataFrame(
        {
            "ts": (rng.random(n) * span_s).round(1) + 1.5e9,
            "id.orig_h": rng.choice([f"10.0.0.{i}" for i in range(hosts)], n),
            "id.resp_h": rng.choice(["1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4"], n),
            "id.resp_p": rng.choice([23, 80, 443], n),
            "proto": rng.choice(["tcp", "udp"], n),
            "conn_state": rng.choice(["S0", "SF", "REJ", "OTH"], n),
            "duration": np.where(rng.random(n) < 0.3, np.nan, rng.choice([0.0, 0.1, 5.0, 90.0], n)),
            "orig_bytes": np.where(rng.random(n) < 0.3, np.nan, rng.integers(0, 2000, n)),
            "resp_bytes": np.where(rng.random(n) < 0.3, np.nan, rng.integers(0, 90000, n)),
        }
    )
    return flows.assign(capture=rng.choice(["one", "two"], n)) if captures else flows


def naive(flows: pd.DataFrame) -> np.ndarray:
    """The definition, flow by flow: all that ended by then, of the same originator (and service), in time or the last ones."""
    rows = flows.to_dict("records")
    for place, row in enumerate(rows):
        row["ended"] = round(row["ts"] * 1e6) + (0 if math.isnan(row["duration"]) else round(row["duration"] * 1e6))
        row["size"] = sum(0 if math.isnan(row[name]) else row[name] for name in ("orig_bytes", "resp_bytes"))
        row["key"] = (row["ended"], place)
    return np.array([naive_row(row, rows) for row in rows])


def naive_row(row: dict[str, Any], rows: list[dict[str, Any]]) -> list[float]:
    own = [r for r in rows if r.get("capture") == row.get("capture") and r["id.orig_h"] == row["id.orig_h"]]
    own.sort(key=lambda r: r["key"])
    called = [r for r in own if (r["id.resp_h"], r["id.resp_p"]) == (row["id.resp_h"], row["id.resp_p"])]
    found = []
    for scope, flows in (("host", own), ("service", called)):
        minute = [r for r in flows if row["ended"] - WINDOW_S * 10**6 < r["ended"] <= row["ended"]]
        for stretch in (minute, [r for r in flows if r["key"] <= row["key"]][-LAST:]):
            found += naive_stretch(stretch, scope)
    return found


def naive_stretch(flows: list[dict[str, Any]], scope: str) -> list[float]:
    tcp = [r for r in flows if r["proto"] == "tcp"]
    failures = sum(r["conn_state"] in FAILED for r in tcp)
    pauses = [min((b["ended"] - a["ended"]) / 1e6, 600) for a, b in pairwise(flows)]
    gap = statistics.fmean(pauses) if pauses else 600.0
    jitter = statistics.pstdev(pauses) / gap if pauses and gap else 0.0
    told = [len(flows), failures, failures / max(len(tcp), 1), gap, jitter]
    if scope == "service":
        return told
    sizes = [r["size"] for r in flows]
    parts = [size / sum(sizes) for size in sizes if size]
    peers = len({r["id.resp_h"] for r in flows})
    entropy = -sum(p * math.log2(p) for p in parts)
    ports = len({r["id.resp_p"] for r in flows})
    return [*told, len(tcp) / len(flows), sum(sizes), entropy, peers, ports, peers / len(flows)]


@pytest.mark.parametrize(("n", "span_s"), [(1, 10), (2, 0), (60, 30), (120, 300), (150, 4000)])
def test_features_are_what_the_definition_says(n: int, span_s: float) -> None:
    for seed in range(3):
        flows = drawn(n, seed, span_s=span_s)
        X, names = context_features(flows)
        assert names == NAMES
        assert X.shape == (n, len(NAMES))
        assert X.dtype == np.float32
        np.testing.assert_allclose(X, naive(flows), rtol=2e-3, atol=2e-3, err_msg=f"seed {seed}")


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 60), st.integers(0, 10**6), st.floats(0.1, 0.9))
def test_what_ends_later_changes_nothing(n: int, seed: int, share: float) -> None:
    flows = drawn(n, seed)
    ended = flows["ts"] + flows["duration"].fillna(0)
    cut = np.quantile(ended, share)
    past = ended.to_numpy() <= cut
    if past.any():
        np.testing.assert_array_equal(context_features(flows)[0][past], context_features(flows[past])[0])


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 60), st.integers(0, 10**6))
def test_the_order_of_rows_says_nothing_where_no_two_end_together(n: int, seed: int) -> None:
    flows = drawn(n, seed)
    rng = np.random.default_rng(seed)
    flows["duration"] = 0.0
    flows["ts"] = 1.5e9 + rng.permutation(10 * n)[:n]
    order = rng.permutation(n)
    np.testing.assert_array_equal(context_features(flows)[0][order], context_features(flows.iloc[order])[0])


def test_another_network_of_the_same_addresses_changes_nothing() -> None:
    flows = drawn(80, 1, captures=False)
    both = pd.concat([flows.assign(capture="one"), drawn(80, 2, captures=False).assign(capture="two")], ignore_index=True)
    np.testing.assert_array_equal(context_features(flows)[0], context_features(both)[0][:80])


def test_addresses_ports_and_the_time_of_day_say_nothing() -> None:
    flows = drawn(100, 3)
    other = flows.assign(
        **{
            "ts": flows["ts"] + 40_000,
            "id.orig_h": "fe80::" + flows["id.orig_h"].str[-1],
            "id.resp_h": flows["id.resp_h"].str.replace(".", "7"),
            "id.resp_p": flows["id.resp_p"] + 20_000,
        }
    )
    np.testing.assert_array_equal(context_features(flows)[0], context_features(other)[0])


def test_a_frame_a_mapping_and_datetimes_are_served_alike() -> None:
    flows = drawn(90, 4)
    expected = context_features(flows)[0]
    np.testing.assert_array_equal(expected, context_features({name: flows[name].to_numpy() for name in flows})[0])
    moments = pd.to_datetime((flows["ts"] * 1e6).round().astype("int64"), unit="us", utc=True)
    zoned = flows.assign(ts=moments.dt.tz_convert("Asia/Tokyo"), proto=flows["proto"].astype("category"))
    np.testing.assert_array_equal(expected, context_features(zoned)[0])


def test_a_controller_that_does_not_answer_stands_out() -> None:
    calls = pd.DataFrame({"ts": np.arange(30) * 10.0, "id.orig_h": "h", "id.resp_h": "c", "id.resp_p": 50, "proto": "tcp"})
    calls = calls.assign(conn_state="S0", duration=np.nan, orig_bytes=np.nan, resp_bytes=np.nan)
    X, names = context_features(calls)
    assert X[-1, names.index("service_20f_failures")] == LAST
    assert X[-1, names.index("service_60s_failures")] == 6  # the seventh is a whole minute old
    assert X[-1, names.index("service_20f_gap")] == 10
    assert X[-1, names.index("service_20f_jitter")] == 0


def test_no_flows_give_no_rows() -> None:
    X, names = context_features(drawn(5, 0).iloc[:0])
    assert X.shape == (0, len(names))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.drop(columns="conn_state"), "columns conn_state"),
        (lambda f: {**{n: f[n].to_numpy() for n in f}, "duration": np.zeros(3)}, "differ in length"),
        (lambda f: f.assign(ts=np.nan), "no time"),
        (lambda f: f.assign(ts=pd.NaT), "no time"),
        (lambda f: f.assign(ts="noon"), "seconds or datetimes"),
        (lambda f: f.assign(duration="long"), "must be numbers"),
    ],
)
def test_bad_flows_are_refused_with_what_is_wrong(change: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        context_features(change(drawn(10, 0)))


def test_features_are_found_by_name_and_in_the_order_asked_for() -> None:
    flows = drawn(40, 5).assign(missed_bytes=0, orig_pkts=1, orig_ip_bytes=40, resp_pkts=0, resp_ip_bytes=0)
    wanted = ["service_20f_failures", "duration", "host_60s_peers", "proto_tcp"]
    X = matrix(flows, wanted)
    around, names = context_features(flows)
    np.testing.assert_array_equal(X[:, 0], around[:, names.index("service_20f_failures")])
    np.testing.assert_array_equal(X[:, 1], flows["duration"].fillna(0).astype(np.float32))
    np.testing.assert_array_equal(X[:, 2], around[:, names.index("host_60s_peers")])
    np.testing.assert_array_equal(X[:, 3], (flows["proto"] == "tcp").astype(np.float32))
    assert matrix(flows, [feature.name for feature in FLOW_FEATURES]).shape == (40, 24)
    with pytest.raises(ValueError, match="no features colour"):
        matrix(flows, ["duration", "colour"])


def test_pandas_is_not_needed() -> None:
    code = "import sys; sys.modules['pandas'] = None; import fliot_lab.features.context"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
