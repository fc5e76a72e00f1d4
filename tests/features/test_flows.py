"""Flow features against a naive version of them, against pandas' one-hot encoding, and the laws that they obey."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fliot_lab import evaluation
from fliot_lab.data import iot23
from fliot_lab.features.flows import FLOW_FEATURES, FLOW_FEATURES_EXTENDED, FlowFeature, flow_features

BYTES_AND_PACKETS = ["orig_bytes", "resp_bytes", "missed_bytes", "orig_pkts", "orig_ip_bytes", "resp_pkts", "resp_ip_bytes"]
QUANTITIES = ["duration", *BYTES_AND_PACKETS]
PROTOS = ["icmp", "tcp", "udp"]
STATES = ["OTH", "REJ", "RSTO", "RSTOS0", "RSTR", "RSTRH", "S0", "S1", "S2", "S3", "SF", "SH", "SHR"]
LETTERS = "SHADFRCGTWIQ"
SERVICES = ["dhcp", "dns", "http", "irc", "ssh", "ssl"]
PUBLISHED = [*QUANTITIES, *(f"proto_{name}" for name in PROTOS), *(f"conn_state_{name}" for name in STATES)]
ADDED = [
    *(f"history_orig_{letter}" for letter in LETTERS),
    *(f"history_resp_{letter}" for letter in LETTERS),
    "history_flip",
    *(f"service_{name}" for name in ["unset", *SERVICES]),
    *(f"resp_port_{name}" for name in ("system", "user", "dynamic")),
]
BOTH = pytest.mark.parametrize("features", [FLOW_FEATURES, FLOW_FEATURES_EXTENDED], ids=["published", "extended"])
COLUMNS = [*QUANTITIES, "proto", "conn_state", "service", "history", "id.resp_p"]
# One row of each kind: tcp with everything, unset counts, a state and a service without a feature, ICMP, a flow turned round.
ROWS: list[dict[str, Any]] = [
    dict(zip(COLUMNS, values, strict=True))
    for values in (
        (3.139211, 149, 171_750, 11_584, 122, 7_741, 9, 99, "tcp", "SF", "http", "ShADadttfFWwqQ", 80),
        (None, None, None, 0, 1, 76, 0, 0, "udp", "S0", None, "D", 123),
        (0.5, 0, 0, 0, 3, 180, 0, 0, "tcp", "S9", "mqtt", "S", 1883),
        (44.242223, 0, 0, 0, 2, 96, 0, 0, "icmp", "OTH", None, None, 134),
        (0.004564, 0, 3_900, 0, 0, 0, 13, 4_264, "udp", "SHR", "dhcp", "^d", 67),
        (1e6, 2**62, 1, 7, 5, 6, 8, 9, "tcp", "RSTRH", "irc", "^hCcGgTtIiRrAaHh", 65_535),
        (0.0, 1, 2, 3, 4, 5, 6, 7, "sctp", None, "", "", 49_152),
        (None, 1, None, None, None, None, None, None, None, "REJ", "ssl", "Sr", 49_151),
        (1.0, 1, 1, 1, 1, 1, 1, 1, "udp", "SF", "dns,ssl", "Dd", 1_024),
        (1.0, 1, 1, 1, 1, 1, 1, 1, "tcp", "SF", "ssh", "SSSS", 1_023),
    )
]


def naive(row: dict[str, Any]) -> dict[str, float]:
    """Every feature of one row, as a newcomer would write it down."""
    found = {name: 0.0 if row[name] is None else float(row[name]) for name in QUANTITIES}
    for name in PROTOS:
        found[f"proto_{name}"] = 1.0 if row["proto"] == name else 0.0
    for name in STATES:
        found[f"conn_state_{name}"] = 1.0 if row["conn_state"] == name else 0.0
    history = row["history"] or ""
    for letter in LETTERS:
        found[f"history_orig_{letter}"] = float(sum(seen == letter for seen in history))
        found[f"history_resp_{letter}"] = float(sum(seen == letter.lower() for seen in history))
    found["history_flip"] = float(history.count("^"))
    found["service_unset"] = 0.0 if row["service"] else 1.0
    for name in SERVICES:
        found[f"service_{name}"] = 1.0 if row["service"] == name else 0.0
    port = row["id.resp_p"]
    kind = "system" if port < 1024 else "user" if port < 49_152 else "dynamic"
    return found | {f"resp_port_{name}": float(name == kind) for name in ("system", "user", "dynamic")}


def naive_matrix(rows: list[dict[str, Any]], features: tuple[FlowFeature, ...]) -> np.ndarray:
    X = np.zeros((len(rows), len(features)), dtype=np.float32)
    for place, row in enumerate(rows):
        numbers = naive(row)
        X[place] = [numbers[feature.name] for feature in features]
    return X


def as_lists(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in COLUMNS}


def as_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The frame that `read_conn_log` gives of such rows: its dtypes, and the columns that no feature may take."""
    kinds = {"duration": "float64", "id.resp_p": "int32", **dict.fromkeys(BYTES_AND_PACKETS, "Int64")}
    columns: dict[str, Any] = {name: pd.array(values, kinds.get(name, "category")) for name, values in as_lists(rows).items()}
    n = len(rows)
    return pd.DataFrame(
        columns
        | {
            "ts": pd.date_range("2019-01-01", periods=n, freq="s", tz="UTC"),
            "uid": [f"C{place}" for place in range(n)],
            "id.orig_h": "192.168.1.195",
            "id.orig_p": 41_040,
            "id.resp_h": "185.244.25.235",
        }
    )


values = st.none() | st.integers(0, 2**62)
rows_of_flows = st.lists(
    st.fixed_dictionaries(
        {
            **dict.fromkeys(QUANTITIES, values),
            "duration": st.none() | st.floats(0, 1e7),
            "proto": st.none() | st.sampled_from([*PROTOS, "unknown_transport"]),
            "conn_state": st.none() | st.sampled_from([*STATES, "S9"]),
            "service": st.none() | st.sampled_from([*SERVICES, "", "mqtt", "DNS"]),
            "history": st.none() | st.text(LETTERS + LETTERS.lower() + "^x", max_size=12),
            "id.resp_p": st.integers(0, 65_535),
        }
    ),
    max_size=10,
)
quick = settings(deadline=None, max_examples=40)


@pytest.mark.parametrize(("features", "names"), [(FLOW_FEATURES, PUBLISHED), (FLOW_FEATURES_EXTENDED, [*PUBLISHED, *ADDED])])
def test_the_names_are_those_of_the_study_in_its_order(features, names) -> None:
    X, found = flow_features(as_frame(ROWS), features)
    assert found == names
    assert X.shape == (len(ROWS), len(names))
    assert X.dtype == np.float32
    assert len(set(found)) == len(found)
    assert flow_features(as_frame(ROWS))[1] == PUBLISHED  # the default
    assert len(PUBLISHED) == 24
    assert all(feature.unit and feature.meaning for feature in features)


@BOTH
def test_each_kind_of_value_becomes_what_the_naive_version_says(features) -> None:
    X, _ = flow_features(as_frame(ROWS), features)
    assert np.array_equal(X, naive_matrix(ROWS, features))


@quick
@given(rows_of_flows)
def test_a_frame_and_a_mapping_give_the_naive_matrix(rows) -> None:
    expected = naive_matrix(rows, FLOW_FEATURES_EXTENDED)
    lists = as_lists(rows)
    arrays: dict[str, np.ndarray] = {name: np.array(column, dtype=object) for name, column in lists.items()}
    with_nan = arrays | {
        name: np.array([math.nan if value is None else value for value in lists[name]], dtype=np.float64) for name in QUANTITIES
    }
    for flows in (as_frame(rows), lists, arrays, with_nan):
        X, _ = flow_features(flows, FLOW_FEATURES_EXTENDED)
        assert X.dtype == np.float32
        assert np.array_equal(X, expected)


def test_text_columns_may_be_of_any_kind() -> None:
    frame = as_frame(ROWS)
    expected, _ = flow_features(frame, FLOW_FEATURES_EXTENDED)
    text = ["proto", "conn_state", "service", "history"]
    plain = frame.assign(**{name: frame[name].astype("str") for name in text})  # unset is NaN
    nullable = frame.assign(**{name: frame[name].astype("string") for name in text})  # unset is pandas.NA
    objects = frame.assign(**{name: frame[name].astype(object) for name in text})
    filled = {name: np.array(frame[name].astype("str").fillna("")) for name in COLUMNS if name in text}
    unused = frame.assign(**{name: frame[name].cat.add_categories(["never seen"]) for name in text})
    for flows in (plain, nullable, objects, dict(frame) | filled, unused):
        assert np.array_equal(flow_features(flows, FLOW_FEATURES_EXTENDED)[0], expected)


@BOTH
def test_no_flows_are_no_rows(features) -> None:
    for flows in (as_frame(ROWS)[:0], as_lists([])):
        X, names = flow_features(flows, features)
        assert X.shape == (0, len(names))
        assert X.dtype == np.float32


@quick
@given(rows_of_flows, st.randoms(use_true_random=False))
def test_a_row_says_nothing_of_the_others(rows, random) -> None:
    frame = as_frame(rows)
    X, _ = flow_features(frame, FLOW_FEATURES_EXTENDED)
    order = list(range(len(rows)))
    random.shuffle(order)
    assert np.array_equal(flow_features(frame.iloc[order], FLOW_FEATURES_EXTENDED)[0], X[order])
    for place in range(len(rows)):
        assert np.array_equal(flow_features(frame.iloc[[place]], FLOW_FEATURES_EXTENDED)[0][0], X[place])


@BOTH
def test_time_addresses_uid_and_the_originators_port_change_nothing(features) -> None:
    frame = as_frame(ROWS)
    X, _ = flow_features(frame, features)
    other = frame.assign(
        ts=frame["ts"] + pd.Timedelta("400D"),
        uid="other",
        **{"id.orig_h": "fe80::1", "id.resp_h": "10.0.0.1", "id.orig_p": np.arange(len(frame)) * 7},
    )
    for flows in (other, frame[[name for name in COLUMNS if name in frame]]):
        assert np.array_equal(flow_features(flows, features)[0], X)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 65_535), min_size=len(ROWS), max_size=len(ROWS)))
def test_of_the_responders_port_only_its_class_is_seen(ports) -> None:
    frame = as_frame(ROWS)
    changed = frame.assign(**{"id.resp_p": ports})
    assert np.array_equal(flow_features(changed)[0], flow_features(frame)[0])
    assert np.array_equal(flow_features(frame.drop(columns="id.resp_p"))[0], flow_features(frame)[0])
    lowest = [49_152 if port >= 49_152 else 1024 if port >= 1024 else 0 for port in ports]
    X, names = flow_features(changed, FLOW_FEATURES_EXTENDED)
    assert np.array_equal(X, flow_features(frame.assign(**{"id.resp_p": lowest}), FLOW_FEATURES_EXTENDED)[0])
    classes = X[:, [names.index(name) for name in ADDED[-3:]]]
    assert np.array_equal(classes.sum(axis=1), np.ones(len(ROWS)))


def test_the_flows_are_left_as_they_were() -> None:
    arrays = {name: np.array(column, dtype=object) for name, column in as_lists(ROWS).items()}
    before = {name: column.copy() for name, column in arrays.items()}
    flow_features(arrays, FLOW_FEATURES_EXTENDED)
    for name, column in arrays.items():
        assert column.tolist() == before[name].tolist()


def test_pandas_is_not_imported() -> None:
    script = """
import sys
from fliot_lab.features.flows import FLOW_FEATURES_EXTENDED, flow_features
flows = {feature.source: ["tcp"] if feature.is_text else [80] for feature in FLOW_FEATURES_EXTENDED}
X, names = flow_features(flows, FLOW_FEATURES_EXTENDED)
assert X[0, names.index("proto_tcp")] == 1 and X[0, names.index("resp_port_system")] == 1
print(sorted({"pandas", "polars", "torch", "sklearn", "scipy"} & set(sys.modules)))
"""
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (answer.returncode, answer.stdout.strip()) == (0, "[]"), answer.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"duration": None, "history": None}, "need the columns duration, history, which the flows lack"),
        ({"orig_bytes": ["many"] * len(ROWS)}, "column orig_bytes cannot become orig_bytes: .*many"),
        ({"resp_pkts": [object()] * len(ROWS)}, "column resp_pkts cannot become resp_pkts"),
        ({"proto": ["tcp"]}, "columns differ in length: .*'proto': 1"),
        ({"id.resp_p": []}, "columns differ in length: .*'id.resp_p': 0"),
    ],
)
def test_flows_that_make_no_sense_are_refused(change, message) -> None:
    flows: dict[str, Any] = as_lists(ROWS) | change
    flows = {name: column for name, column in flows.items() if column is not None}
    with pytest.raises(ValueError, match=message):
        flow_features(flows, FLOW_FEATURES_EXTENDED)


# --- real captures -----------------------------------------------------------------------------------------------------

SEVEN = ["34-1", "8-1", "20-1", "44-1", "Honeypot-Capture-4-1", "Honeypot-Capture-5-1", "Honeypot-Capture-7-1"]


@pytest.fixture(scope="module")
def real_flows(real_root: Path) -> pd.DataFrame:
    """The flows of the seven captures, where all of them are there."""
    present = iot23.captures(real_root)
    if missing := [name for name in SEVEN if not any(full.endswith(f"-{name}") for full in present)]:
        pytest.skip(f"{real_root} lacks {', '.join(missing)}")
    return iot23.load(SEVEN, root=real_root)


@pytest.mark.real
def test_real_flows_are_encoded_as_pandas_encodes_them(real_flows: pd.DataFrame) -> None:
    X, names = flow_features(real_flows)
    oracle = pd.get_dummies(real_flows[[*PUBLISHED[:8], "proto", "conn_state"]], columns=["proto", "conn_state"])
    assert set(oracle.columns) <= set(names)
    oracle = oracle.reindex(columns=names, fill_value=False).fillna(0)
    assert np.array_equal(X, oracle.to_numpy(dtype=np.float32))


@pytest.mark.real
def test_real_flows_can_be_told_apart_only_so_far(real_flows: pd.DataFrame) -> None:
    X, _ = flow_features(real_flows)
    found = evaluation.conflicts(X, real_flows["label"])
    assert (found.rows, found.vectors) == (38_950, 9_020)
    assert round(100 * found.conflicted, 1) == 22.9
    assert round(found.best_possible_accuracy, 3) == 0.995
    exact = X.astype(np.float64)
    for place, name in enumerate(QUANTITIES):
        exact[:, place] = real_flows[name].to_numpy(dtype=np.float64, na_value=0)
    exact[np.isnan(exact)] = 0
    assert evaluation.conflicts(exact, real_flows["label"]).vectors == 9_021  # one pair differs below float32
