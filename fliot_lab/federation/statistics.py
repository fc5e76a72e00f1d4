"""What clients say about their rows instead of showing them: sums, whose length does not depend on how many rows there are.

Scaling and thresholds need the statistics of all rows. Each client sends one vector, the vectors are added (and could be added
under secure aggregation), and only the total is looked at. A sum over one row is that row: a client with few rows says much.
"""

import numpy as np
import numpy.typing as npt
from torch import nn

from fliot_lab.models.autoencoder import Autoencoder, Scaler, checked, logarithms

#: Lower ends of the intervals in which scores are counted: 20 a decade, so a threshold is at most 12 % above the exact one.
GRID = np.concatenate([[0.0], np.logspace(-8, 6, 281)])

Vector = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def feature_sums(X: npt.ArrayLike) -> Vector:
    """What a client sends so that all can scale alike: (1 + 2 d,), its number of rows, then the sums over its rows X (n, d) of
    each feature's logarithm and of its square. Raises ValueError for NaN, infinity and no rows.
    """
    logs = logarithms(checked(X, None)).astype(np.float64)
    if not len(logs):
        raise ValueError("X has no rows, so there is nothing to sum; a client without rows sends nothing")
    return np.concatenate([[len(logs)], logs.sum(0), np.square(logs).sum(0)])


def scaler(total: npt.ArrayLike) -> Scaler:
    """A `Scaler` of all clients' rows from the `total` (1 + 2 d,) of their `feature_sums`.

    Centred by mean and divided by standard deviation, where one that sees all rows takes median and quartiles, which are no
    sums. A feature that never varies keeps its scale. Raises ValueError for what is no such total.
    """
    sums = np.asarray(total, dtype=np.float64)
    if sums.ndim != 1 or len(sums) < 3 or len(sums) % 2 == 0 or not np.isfinite(sums).all() or sums[0] < 1:
        raise ValueError(f"expected the sum of the clients' feature_sums, (1 + 2 d,) and finite, got {sums.shape}")
    mean, square = np.split(sums[1:] / sums[0], 2)
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    made = Scaler()
    made.centre_ = mean.astype(np.float32)
    made.scale_ = np.where(deviation > 1e-6, deviation, 1).astype(np.float32)
    return made


def score_counts(scores: npt.ArrayLike) -> Counts:
    """What a client sends so that all can share a threshold: how many of its benign `scores` (n,) lie in each interval of GRID.

    (282,) int64. Raises ValueError for scores that are negative, NaN or infinite.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all() or (values < 0).any():
        raise ValueError(f"scores must be finite and 0 or more, one per row, got {values.dtype} {values.shape}")
    return np.bincount(np.searchsorted(GRID, values, side="right") - 1, minlength=len(GRID)).astype(np.int64)


def threshold(total: npt.ArrayLike, false_alarm_rate: float) -> float:
    """The lowest end of an interval of GRID at or above which at most `false_alarm_rate` of the benign scores lie.

    `total` (282,) is the sum of the clients' `score_counts`. An alarm is a score above it. Raises ValueError for no scores and
    a rate outside (0, 1).
    """
    counts = np.asarray(total)
    if counts.shape != GRID.shape or counts.sum() < 1 or not 0 < false_alarm_rate < 1:
        raise ValueError(f"expected counts {GRID.shape} of at least one score and a rate between 0 and 1, got {counts.shape}")
    above = counts[::-1].cumsum()[::-1]  # scores at or above each end
    enough = np.flatnonzero(above <= false_alarm_rate * counts.sum())
    return float(GRID[enough[0]]) if len(enough) else float("inf")


def autoencoder(network: nn.Sequential, scaled_by: Scaler, cut: float) -> Autoencoder:
    """The detector that a federation trained: `network` rebuilds scaled rows (n, d), alarms are scores above `cut`.

    It scores, flags and is saved as any `Autoencoder`. Where the cut is not known yet, 0 serves until scores are counted.
    """
    if not isinstance(network, nn.Sequential) or len(network) != 6 or not isinstance(network[0], nn.Linear):
        raise ValueError("expected a network as autoencoder.layers() makes it")
    first, code = network[0], network[2]
    assert isinstance(code, nn.Linear)
    made = Autoencoder(seed=0, hidden=first.out_features, bottleneck=code.out_features)
    made.scaler_, made.networks_, made.whiteners_, made.threshold_ = scaled_by, [network], [], float(cut)
    made.history_ = {"training": [], "held-out": []}
    return made
