"""Flow features: numbers from the columns of a conn log, one row a flow.

`FLOW_FEATURES` are the 24 of the published IoT-23 study, `FLOW_FEATURES_EXTENDED` adds history, service and port class. None
holds a time stamp, an address or a raw port: those name the capture, and a model that learns them learns the capture.

pandas is not imported here: a service that has columns but no frames uses the same code.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class FlowFeature:
    """One number of a flow: the column it comes from, its unit, what it says, and how the column becomes it.

    `compute` is given the column's values as (n,) float64 with 0 for unset, or, of a text column, its distinct words with ""
    for unset: what depends on the word alone is computed once for each word, not for each row.
    """

    name: str
    source: str
    unit: str
    meaning: str
    is_text: bool
    compute: Callable[[Array], Array]


def numbers(column: Any) -> Array:
    """The column as (n,) float64, 0 where it is unset, as in the published study."""
    return np.nan_to_num(np.asarray(column, dtype=np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf)


def words(column: Any) -> tuple[Array, Array]:
    """(distinct words, position of each row's word among them); "" stands for unset. A pandas category knows them already."""
    if hasattr(column, "cat") and hasattr(column.cat, "codes"):
        words = np.array([*column.cat.categories, ""], dtype=np.str_)  # code -1, unset, finds the last
        return words, column.cat.codes.to_numpy()
    values = np.array(column, dtype=object)
    # pandas' own NA cannot be compared; None and NaN can, element by element.
    values[column.isna() if hasattr(column, "isna") else (values == None) | (values != values)] = ""  # noqa: E711
    return np.unique(values.astype(np.str_), return_inverse=True)


def _quantity(column: str, unit: str, meaning: str) -> FlowFeature:
    return FlowFeature(column, column, unit, meaning, False, lambda numbers: numbers)


def _one_hot(column: str, value: str, meaning: str) -> FlowFeature:
    return FlowFeature(f"{column}_{value or 'unset'}", column, "0 or 1", meaning, True, lambda words: words == value)


def _letter_count(letter: str, meaning: str) -> FlowFeature:
    name = "flip" if letter == "^" else f"{'orig' if letter.isupper() else 'resp'}_{letter.upper()}"
    return FlowFeature(f"history_{name}", "history", "count", meaning, True, lambda words: np.strings.count(words, letter))


def _port_class(name: str, low: int, high: int) -> FlowFeature:
    meaning = f"responder's port is {low} to {high} (RFC 6335)"
    return FlowFeature(
        f"resp_port_{name}", "id.resp_p", "0 or 1", meaning, False, lambda ports: (low <= ports) & (ports <= high)
    )


_STATES = {
    "OTH": "no SYN seen, just midstream traffic",
    "REJ": "attempt rejected",
    "RSTO": "established, originator aborted",
    "RSTOS0": "originator sent a SYN, then a RST; no reply",
    "RSTR": "established, responder aborted",
    "RSTRH": "responder sent a SYN ACK, then a RST; no SYN seen",
    "S0": "attempt seen, no reply",
    "S1": "established, not terminated",
    "S2": "established, originator tried to close, no reply",
    "S3": "established, responder tried to close, no reply",
    "SF": "normal establishment and end",
    "SH": "originator sent a SYN, then a FIN; no reply (half open)",
    "SHR": "responder sent a SYN ACK, then a FIN; no SYN seen",
}
_LETTERS = {
    "S": "SYN without ACK",
    "H": "SYN with ACK",
    "A": "pure ACK",
    "D": "packet with payload",
    "F": "packet with FIN",
    "R": "packet with RST",
    "C": "packet with a bad checksum",
    "G": "content gap",
    "T": "retransmitted payload",
    "W": "zero window",
    "I": "inconsistent packet (SYN and RST, say)",
    "Q": "multi-flag packet (SYN and FIN, say)",
}

#: The 24 features of the published IoT-23 study. States and quantities: Zeek's conn.log documentation.
FLOW_FEATURES: tuple[FlowFeature, ...] = (
    _quantity("duration", "s", "from first to last packet"),
    _quantity("orig_bytes", "bytes", "payload from the originator"),
    _quantity("resp_bytes", "bytes", "payload from the responder"),
    _quantity("missed_bytes", "bytes", "payload that the sensor lost"),
    _quantity("orig_pkts", "packets", "packets from the originator"),
    _quantity("orig_ip_bytes", "bytes", "IP bytes, headers included, from the originator"),
    _quantity("resp_pkts", "packets", "packets from the responder"),
    _quantity("resp_ip_bytes", "bytes", "IP bytes, headers included, from the responder"),
    *(_one_hot("proto", value, f"transport protocol is {value}") for value in ("icmp", "tcp", "udp")),
    *(_one_hot("conn_state", value, meaning) for value, meaning in _STATES.items()),
)
#: The same and: letters of the history by side, service, class of the responder's port.
FLOW_FEATURES_EXTENDED: tuple[FlowFeature, ...] = (
    *FLOW_FEATURES,
    *(_letter_count(letter, f"{meaning}, from the originator") for letter, meaning in _LETTERS.items()),
    *(_letter_count(letter.lower(), f"{meaning}, from the responder") for letter, meaning in _LETTERS.items()),
    _letter_count("^", "Zeek took the responder's first packet for the originator's and turned the flow round"),
    *(
        _one_hot("service", value, f"Zeek recognised {value or 'no service'}")
        for value in ("", "dhcp", "dns", "http", "irc", "ssh", "ssl")
    ),
    _port_class("system", 0, 1023),
    _port_class("user", 1024, 49151),
    _port_class("dynamic", 49152, 65535),
)


def flow_features(flows: Any, features: Sequence[FlowFeature] = FLOW_FEATURES) -> tuple[npt.NDArray[np.float32], list[str]]:
    """`(X (n, d) float32, names)` of `flows`: a pandas frame, or a mapping from Zeek's column names to arrays of equal length.

    Unset values become 0, a state or service that has no feature of its own is all zeros. Raises ValueError where a column is
    missing, holds text for numbers, or has another length than the rest.
    """
    needed = dict.fromkeys(feature.source for feature in features)
    if missing := [name for name in needed if name not in flows]:
        raise ValueError(f"the features need the columns {', '.join(missing)}, which the flows lack")
    columns: Mapping[str, Any] = {name: flows[name] for name in needed}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the flows' columns differ in length: {lengths}")
    X = np.empty((next(iter(lengths.values()), 0), len(features)), dtype=np.float32)
    for name, column in columns.items():
        wanted = [(place, feature) for place, feature in enumerate(features) if feature.source == name]
        try:
            values, codes = words(column) if wanted[0][1].is_text else (numbers(column), slice(None))
        except (ValueError, TypeError) as error:
            raise ValueError(f"column {name} cannot become {wanted[0][1].name}: {error}") from error
        for place, feature in wanted:
            X[:, place] = feature.compute(values)[codes]
    return X, [feature.name for feature in features]
