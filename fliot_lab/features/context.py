"""What a host did just before: each flow in the light of the flows that its originator began in the last minute.

A single unanswered SYN is ordinary; the thirtieth to one port of one address is not. Each flow is judged when it ends, since
a sensor logs it then, and its features count flows that had ended by then: nothing of the future. Hosts of different captures
are different hosts. No feature holds an address, a port or a time of day.

pandas is not imported here: a service that has columns but no frames uses the same code.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt

from fliot_lab.features.flows import numbers, words

Array = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
#: Zeek's states of a TCP connection that came to nothing: no answer, a refusal, or half a handshake.
FAILED = ("S0", "REJ", "RSTOS0", "RSTRH", "SH", "SHR")
WINDOW_S, LAST = 60, 20  # the stretches: so many seconds, and so many flows, up to the one that is judged
COLUMNS = ("ts", "id.orig_h", "id.resp_h", "id.resp_p", "proto", "conn_state", "duration", "orig_bytes", "resp_bytes")
_LONGEST_US = 600_000_000  # a pause counts as at most this long, so that sums of squares stay exact
_UNIT = 1024  # of a fixed-point number of bits


@dataclass(frozen=True)
class ContextFeature:
    """One number of what came before a flow: of whose flows, over which stretch, its unit, what it says."""

    name: str
    scope: str
    stretch: str
    unit: str
    meaning: str


_SERVICE = {
    "flows": ("count", "flows"),
    "failures": ("count", "TCP flows that failed"),
    "failed": ("share", "TCP flows that failed, of TCP flows"),
    "gap": ("s", "mean time between ends, each at most 600 s; 600 where there is one flow"),
    "jitter": ("ratio", "standard deviation of these times over their mean"),
}
_HOST = _SERVICE | {
    "tcp": ("share", "flows over TCP"),
    "bytes": ("bytes", "payload both ways"),
    "entropy": ("bits", "entropy of how that payload is divided among the flows"),
    "peers": ("count", "distinct responders"),
    "ports": ("count", "distinct ports of responders"),
    "fan_out": ("share", "distinct responders for each flow"),
}
_STRETCHES = {f"{WINDOW_S}s": f"the last {WINDOW_S} s", f"{LAST}f": f"the last {LAST} flows"}
_SCOPES = {
    "host": ("flows of the same originator", _HOST),
    "service": ("its flows to the same port of the same host", _SERVICE),
}
#: Four views of what came before: of the originator, or of it and the service that it calls, over a minute or the last flows.
CONTEXT_FEATURES: tuple[ContextFeature, ...] = tuple(
    ContextFeature(f"{scope}_{short}_{name}", whose, stretch, unit, meaning)
    for scope, (whose, told) in _SCOPES.items()
    for short, stretch in _STRETCHES.items()
    for name, (unit, meaning) in told.items()
)


def context_features(flows: Any) -> tuple[npt.NDArray[np.float32], list[str]]:
    """`(X (n, d) float32, names)` of `flows`: a pandas frame, or a mapping from Zeek's column names to arrays of equal length.

    Needs COLUMNS; a column `capture`, where there is one, tells networks apart. Rows may stand in any order. Of flows that end
    at the same time all count for the minute, and those that stand earlier in `flows` for the last ones. Raises ValueError
    where a column is missing, has another length than the rest or holds no number, and where a flow has no time.
    """
    facts = _Facts.of(flows)
    names = [feature.name for feature in CONTEXT_FEATURES]
    X = np.zeros((len(facts.ended), len(names)), dtype=np.float32)
    if len(X):
        for scope, owner in (("host", facts.host), ("service", facts.service)):
            order = np.lexsort((facts.ended, owner))
            begins = np.flatnonzero(np.r_[True, np.diff(owner[order]) != 0])  # where each owner's flows begin
            start = np.repeat(begins, np.diff(np.r_[begins, len(order)]))
            for short, (low, high) in zip(_STRETCHES, _stretches(facts.ended[order], start), strict=True):
                told = _told(facts, order, start, low, high, scope)
                places = [names.index(f"{scope}_{short}_{name}") for name in told]
                X[order, places[0] : places[-1] + 1] = np.stack(
                    list(told.values()), axis=1, dtype=np.float32, casting="same_kind"
                )
    return X, names


@dataclass(frozen=True)
class _Facts:
    """Whole numbers (n,) of each flow, so that sums over stretches are exact whatever else the log holds."""

    ended: Integers  # microseconds
    host: Integers  # which originator in which capture
    peer: Integers  # which responder
    port: Integers
    service: Integers  # which port of which responder, as this originator's
    tcp: Integers  # 0 or 1
    failed: Integers  # 0 or 1
    size: Integers  # bytes of payload

    @classmethod
    def of(cls, flows: Any) -> "_Facts":
        if missing := [name for name in COLUMNS if name not in flows]:
            raise ValueError(f"context needs the columns {', '.join(missing)}, which the flows lack")
        columns: Mapping[str, Any] = {name: flows[name] for name in (*COLUMNS, *(["capture"] if "capture" in flows else []))}
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the flows' columns differ in length: {lengths}")
        try:
            duration, sent, answered, port = (
                numbers(columns[name]) for name in ("duration", "orig_bytes", "resp_bytes", "id.resp_p")
            )
        except (ValueError, TypeError) as error:
            raise ValueError(f"duration, orig_bytes, resp_bytes and id.resp_p must be numbers: {error}") from error
        host, peer = _codes(columns["id.orig_h"]), _codes(columns["id.resp_h"])
        if "capture" in columns:
            host = _joined(_codes(columns["capture"]), host)
        tcp = _among(columns["proto"], ("tcp",))
        return cls(
            ended=_microseconds(columns["ts"]) + np.rint(duration * 1e6).astype(np.int64),
            host=host,
            peer=peer,
            port=port.astype(np.int64),
            service=_joined(_joined(host, peer), port.astype(np.int64)),
            tcp=tcp,
            failed=tcp * _among(columns["conn_state"], FAILED),
            size=(sent + answered).astype(np.int64),
        )


def _told(facts: _Facts, order: Integers, start: Integers, low: Integers, high: Integers, scope: str) -> dict[str, Floats]:
    """Name -> values (n,) for flows in `order`, whose stretches are the places `low` (n,) up to, not including, `high` (n,)."""

    def total(values: Integers) -> Floats:
        # Differences of sums that wrapped round are right as long as the sum of one stretch fits.
        sums = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
        return (sums[high] - sums[low]).astype(np.float64)

    flows = (high - low).astype(np.float64)
    tcp, failures = total(facts.tcp[order]), total(facts.failed[order])
    ended = facts.ended[order]
    gaps = np.minimum(np.diff(ended, prepend=ended[0]), _LONGEST_US)
    gaps[start == np.arange(len(order))] = 0
    squares = np.concatenate([[0], np.cumsum(gaps * gaps, dtype=np.int64)])
    sums = np.concatenate([[0], np.cumsum(gaps, dtype=np.int64)])
    pauses = np.maximum(flows - 1, 1)
    mean = np.where(flows > 1, (sums[high] - sums[low + 1]) / pauses, _LONGEST_US)
    variance = np.maximum((squares[high] - squares[low + 1]) / pauses - mean**2, 0)
    told = {
        "flows": flows,
        "failures": failures,
        "failed": failures / np.maximum(tcp, 1),
        "gap": mean / 1e6,
        "jitter": np.where((flows > 1) & (mean > 0), np.sqrt(variance) / np.maximum(mean, 1), 0),
    }
    if scope == "service":
        return told
    size = facts.size[order]
    payload = total(size)
    bits = total(np.rint(_UNIT * size * np.log2(np.maximum(size, 1))).astype(np.int64)) / _UNIT
    entropy = np.where(payload > 0, np.log2(np.maximum(payload, 1)) - bits / np.maximum(payload, 1), 0)
    peers = _distinct(_joined(facts.host, facts.peer)[order], low, high)
    ports = _distinct(_joined(facts.host, facts.port)[order], low, high)
    return told | {
        "tcp": tcp / flows,
        "bytes": payload,
        "entropy": np.clip(entropy, 0, None),
        "peers": peers,
        "ports": ports,
        "fan_out": peers / flows,
    }


def _stretches(ended: Integers, start: Integers) -> list[tuple[Integers, Integers]]:
    """The last WINDOW_S seconds and the last LAST flows of each flow, as places (low (n,), high (n,)) among flows of one owner.

    `ended` (n,) rises within each owner, whose flows begin at the places `start` (n,).
    """
    times, rank = np.unique(ended, return_inverse=True)
    owner = start * (len(times) + 1)  # times of one owner come before those of the next
    key = owner + rank
    earliest = np.searchsorted(times, ended - WINDOW_S * 1_000_000, side="right")  # exactly a minute ago is too long ago
    place = np.arange(len(ended))
    minute = np.searchsorted(key, owner + earliest, side="left"), np.searchsorted(key, key, side="right")
    return [minute, (np.maximum(start, place - LAST + 1), place + 1)]


def _distinct(codes: Integers, low: Integers, high: Integers) -> Floats:
    """How many distinct `codes` (n,) stand in the places low[i] up to high[i], as (n,); low and high never fall.

    A code counts where it stands last in a stretch. The stretches in which a place is the last of its code follow one another,
    so that each place adds 1 from the first of them and takes it off after the last.
    """
    n = len(codes)
    order = np.argsort(codes, kind="stable")
    following = np.full(n, n + 1)
    again = np.flatnonzero(codes[order[1:]] == codes[order[:-1]])
    following[order[again]] = order[again + 1]
    place = np.arange(n)
    first = np.searchsorted(high, place, side="right")
    last = np.minimum(np.searchsorted(low, place, side="right"), np.searchsorted(high, following, side="right"))
    counted = first < last
    change = np.bincount(first[counted], minlength=n + 1) - np.bincount(last[counted], minlength=n + 1)
    return np.cumsum(change)[:n].astype(np.float64)


def _codes(column: Any) -> Integers:
    """A number (n,) for each row of a column, equal for equal values; unset values are equal."""
    known: dict[Any, int] = defaultdict(count().__next__)
    values = np.asarray(column, dtype=object).tolist()
    return np.fromiter((known[str(value)] for value in values), dtype=np.int64, count=len(values))


def _joined(first: Integers, second: Integers) -> Integers:
    """A number (n,) for each pair of whole numbers from 0, equal for equal pairs."""
    width = int(second.max(initial=0)) + 1
    if (int(first.max(initial=0)) + 1) * width > np.iinfo(np.int64).max:
        first = np.unique(first, return_inverse=True)[1].astype(np.int64)
    return first * width + second


def _among(column: Any, wanted: tuple[str, ...]) -> Integers:
    """1 where the word of a column (n,) is one of those wanted, and 0 elsewhere."""
    distinct, codes = words(column)
    return np.isin(distinct, wanted)[codes].astype(np.int64)


def _microseconds(ts: Any) -> Integers:
    """Whole microseconds (n,) of times that are seconds or datetimes, from the earliest."""
    column = ts if hasattr(ts, "dtype") else np.asarray(ts)
    if column.dtype.kind in "fiu":
        seconds = np.asarray(column, dtype=np.float64)
        if not np.isfinite(seconds).all():
            raise ValueError(f"{(~np.isfinite(seconds)).sum()} flows have no time (ts); drop them")
        return np.rint((seconds - seconds.min(initial=np.inf)) * 1e6).astype(np.int64)
    try:
        moments = np.asarray(column, dtype="datetime64[us]")  # with a zone it becomes UTC
    except (ValueError, TypeError) as error:
        raise ValueError(f"ts must be seconds or datetimes: {error}") from error
    if np.isnat(moments).any():
        raise ValueError(f"{np.isnat(moments).sum()} flows have no time (ts); drop them")
    return moments.astype(np.int64) - moments.astype(np.int64).min(initial=np.iinfo(np.int64).max)
