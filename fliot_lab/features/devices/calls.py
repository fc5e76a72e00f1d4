"""Traces of system calls as fingerprints: how often a program makes each call, and which follow each other.

The calls of one, two and three in a row fall into a fixed number of boxes, so that the features have the same names whatever
is traced; few share a box. `unfamiliar` is another use of a trace: how much of it no training trace holds.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view

from fliot_lab.features.devices.fingerprint import Fingerprint, name_of

CHANNEL = "calls"
#: How many calls in a row -> how many boxes they fall into. A box for each call that Linux has, and chosen sizes for the rest.
BOXES = {1: 512, 2: 512, 3: 512}
NAMES = tuple(f"{n} in a row, box {box}" for n, boxes in BOXES.items() for box in range(boxes))
MOST = 2**31 - 1  # a call's number
Calls = npt.NDArray[np.int64]


def read(source: str | os.PathLike[str] | Sequence[int] | npt.NDArray[np.integer]) -> pd.DataFrame:
    """One trace as a frame with the column `call`, int64, in the order of the calls.

    `source` is a file of numbers with spaces or line ends between them, as ADFA-LD's, or the numbers themselves. Raises
    ValueError where there is none and where one is no whole number from 0 to MOST.
    """
    if isinstance(source, str | os.PathLike):
        words, name = Path(source).read_text("ascii", errors="replace").split(), name_of(source)
        if wrong := [word for word in words if not word.isdecimal() or len(word) > 10]:
            raise ValueError(f"{name}: {wrong[0][:40]!r} is no number of a system call")
        calls = np.array([int(word) for word in words], dtype=np.int64)
    else:
        calls, name = np.asarray(source), f"{len(source)} system calls"
    if calls.ndim != 1 or not calls.size or calls.dtype.kind not in "iu" or calls.min() < 0 or calls.max() > MOST:
        raise ValueError(f"{name}: a trace is one or more whole numbers from 0 to {MOST}, in one line")
    frame = pd.DataFrame({"call": calls.astype(np.int64)})
    frame.attrs = {"source": name}
    return frame


def fingerprint(frame: pd.DataFrame) -> list[Fingerprint]:
    """One fingerprint of a trace: the share of its n-grams of calls that fall into each box, NaN where it is shorter than n.

    The boxes are multiplicative hashes (Knuth, *The Art of Computer Programming* 3, 6.4), the same on every machine. System
    calls as bags, of single ones: Kang, Fuller and Honavar 2005.
    """
    calls = frame["call"].to_numpy(np.int64)
    shares = [_shares(calls, n, boxes) for n, boxes in BOXES.items()]
    return [Fingerprint(CHANNEL, NAMES, np.concatenate(shares), str(frame.attrs.get("source", "")))]


def unfamiliar(traces: Sequence[pd.DataFrame], known: Sequence[pd.DataFrame], n: int = 6) -> npt.NDArray[np.float64]:
    """(m,) the share of each trace's n-grams of calls that none of the `known` traces holds; an anomaly score from 0 to 1.

    A trace shorter than n is NaN. The method is stide: Forrest et al. 1996, doi 10.1109/SECPRI.1996.502675; 6 is its usual n.
    """
    normal = np.unique(np.concatenate([_grams(frame, n) for frame in known]), axis=0)
    seen = {row.tobytes() for row in normal}
    scores = []
    for frame in traces:
        grams, counts = np.unique(_grams(frame, n), axis=0, return_counts=True)
        new = np.array([row.tobytes() not in seen for row in grams], dtype=bool)
        scores.append(counts[new].sum() / counts.sum() if len(grams) else np.nan)
    return np.array(scores, dtype=np.float64)


def _grams(frame: pd.DataFrame, n: int) -> Calls:
    """The n-grams (m, n) of a trace in order; none where it is shorter."""
    calls = frame["call"].to_numpy(np.int64)
    return np.ascontiguousarray(sliding_window_view(calls, n)) if len(calls) >= n else np.empty((0, n), np.int64)


def _shares(calls: Calls, n: int, boxes: int) -> npt.NDArray[np.float64]:
    """The share (boxes,) of the n-grams of calls (m,) in each box."""
    if len(calls) < n:
        return np.full(boxes, np.nan)
    if n == 1:  # Linux numbers its calls from 0 to some 460: each has a box of its own
        return np.bincount(calls % boxes, minlength=boxes) / len(calls)
    code = np.zeros(len(calls) - n + 1, dtype=np.uint64)
    for place in range(n):
        # Each step multiplies by 2**64 over the golden ratio and wraps round; the highest bits depend on every call.
        code = (code ^ calls[place : place + len(code)].astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        code ^= code >> np.uint64(32)
    return np.bincount((code % np.uint64(boxes)).astype(np.intp), minlength=boxes) / len(code)
