"""What every channel gives: fingerprints, how many of them become a matrix, and how channels are fused.

A channel is a module with CHANNEL, `read(source) -> frame` and `fingerprint(frame) -> fingerprints`; `devices.CHANNELS`
lists them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """How one device behaved, as named numbers: `values` (d,) float64, NaN where a thing was not observed.

    `channel` says by what it was observed, `provenance` where the observation comes from: a file, and what part of it. Neither
    is a feature, and no name or address of the device is among the values.
    """

    channel: str
    names: tuple[str, ...]
    values: npt.NDArray[np.float64]
    provenance: str

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.names),):
            raise ValueError(f"{self.provenance}: {len(self.names)} names and values of shape {self.values.shape}")


class Channel(Protocol):
    """What a module must have to be a channel: a new kind of source is one file with these."""

    CHANNEL: str

    def read(self, source: Any) -> pd.DataFrame:
        """What was observed of one device, a frame with a row for each thing; `attrs["source"]` says where it comes from."""

    def fingerprint(self, frame: pd.DataFrame) -> list[Fingerprint]:
        """The fingerprints of what was observed: one, or one for each stretch of time; equal names in equal order."""


def matrix(fingerprints: Sequence[Fingerprint]) -> tuple[npt.NDArray[np.float64], list[str]]:
    """`(X (n, d) float64, names)` of n fingerprints, NaN where a thing was not observed.

    Raises ValueError where there are none, and where two differ in channel or names: those are not the same measurement.
    """
    if not fingerprints:
        raise ValueError("there are no fingerprints to make a matrix of")
    first = fingerprints[0]
    for other in fingerprints:
        if (other.channel, other.names) != (first.channel, first.names):
            raise ValueError(f"{first.provenance} and {other.provenance} have fingerprints of different kinds")
    return np.stack([fingerprint.values for fingerprint in fingerprints]), list(first.names)


def fuse(fingerprints: Sequence[Fingerprint]) -> Fingerprint:
    """One fingerprint of a device that several channels observed: all values, under `channel: name`.

    Raises ValueError where there are none and where a channel comes twice.
    """
    channels = [fingerprint.channel for fingerprint in fingerprints]
    if not channels or len(set(channels)) < len(channels):
        raise ValueError(f"fusing needs one fingerprint from each of one or more channels; given are {channels}")
    names = tuple(f"{fingerprint.channel}: {name}" for fingerprint in fingerprints for name in fingerprint.names)
    values = np.concatenate([fingerprint.values for fingerprint in fingerprints])
    sources = dict.fromkeys(fingerprint.provenance for fingerprint in fingerprints)
    return Fingerprint("+".join(channels), names, values, "; ".join(sources))


_QUANTILES = {"least": 0.0, "lower quarter": 0.25, "median": 0.5, "upper quarter": 0.75, "most": 1.0}


def spread(name: str, values: npt.NDArray[Any]) -> dict[str, float]:
    """Quantiles and mean of values (n,) under names that begin with `name`; NaN where there are none."""
    if not len(values):
        return dict.fromkeys([f"{name}, {word}" for word in (*_QUANTILES, "mean")], float("nan"))
    found = dict(zip(_QUANTILES, np.quantile(values, list(_QUANTILES.values())).tolist(), strict=True))
    return {f"{name}, {word}": value for word, value in (found | {"mean": float(values.mean())}).items()}


def name_of(source: Any) -> str:
    """What `provenance` calls a source: the last two parts of a path, which tell device and file apart, or the word itself."""
    return "/".join(Path(str(source)).parts[-2:])
