"""An autoencoder that learns benign flows and flags what it cannot rebuild."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fliot_lab.evaluation import threshold_at_fpr

Matrix = npt.NDArray[np.float32]
Vector = npt.NDArray[np.float64]
_SCORE_ROWS = 65_536  # rows scored at once, so that memory stays bounded


class Autoencoder:
    """An anomaly detector: the score of a flow is the mean squared error of its reconstruction.

    Fitted to benign flows only. The threshold lies where a share `false_alarm_rate` of benign flows that were held out lie
    above it. Features are put on a log scale (they span nine orders of magnitude), then centred and scaled by median and
    interquartile range, which a few huge flows do not move.

    Follows scikit-learn: `fit`, `score_samples` (higher is more suspicious), `predict` (True for an alarm). Equal seeds give
    equal models. Replicator networks as outlier detectors: Hawkins et al. 2002, doi 10.1007/3-540-46145-0_17.
    """

    def __init__(
        self,
        *,
        seed: int,
        hidden: int = 16,
        bottleneck: int = 4,
        false_alarm_rate: float = 0.01,
        epochs: int = 40,
        patience: int = 5,
        batch_size: int = 128,
        learning_rate: float = 1e-2,
    ):
        self.seed, self.hidden, self.bottleneck = seed, hidden, bottleneck
        self.false_alarm_rate = false_alarm_rate
        self.epochs, self.patience, self.batch_size, self.learning_rate = epochs, patience, batch_size, learning_rate

    def fit(self, X: npt.ArrayLike, X_held_out: npt.ArrayLike | None = None) -> Self:
        """Trains on benign flows X (n, d); early stopping and the threshold come from the benign flows X_held_out (m, d).

        Without X_held_out the last quarter of X is held out: rows in order of time make it later than the rest, as in use.
        Raises ValueError for fewer than 20 rows of either together, NaN or infinity. Sets `threshold_` and `history_` (mean
        squared error per epoch, training and held-out).
        """
        X = _checked(X, None)
        rest = X[-(len(X) // 4) :] if X_held_out is None else _checked(X_held_out, X.shape[1])
        train = X[: len(X) - len(X) // 4] if X_held_out is None else X
        if len(train) + len(rest) < 20 or not len(train) or not len(rest):
            raise ValueError(f"training needs benign rows, at least 20 in all; got {len(train)} and {len(rest)} held out")
        self._fit_scaler(train)
        generator = torch.Generator().manual_seed(self.seed)
        self.network_ = _network(X.shape[1], self.hidden, self.bottleneck, generator)
        with _one_thread():
            self.history_ = self._train(torch.from_numpy(self._scaled(train)), torch.from_numpy(self._scaled(rest)), generator)
        self.threshold_ = threshold_at_fpr(self.score_samples(rest), self.false_alarm_rate)
        return self

    def score_samples(self, X: npt.ArrayLike) -> Vector:
        """Mean squared reconstruction error of each row of X (n, d), as (n,) float64; higher is more suspicious."""
        if not hasattr(self, "network_"):
            raise ValueError("this autoencoder has not learnt anything yet: call fit(X) with benign flows first")
        X = _checked(X, len(self.centre_))
        scores = np.empty(len(X))
        with torch.inference_mode():
            for start in range(0, len(X), _SCORE_ROWS):
                rows = torch.from_numpy(self._scaled(X[start : start + _SCORE_ROWS]))  # (b, d)
                scores[start : start + len(rows)] = (self.network_(rows) - rows).square().mean(1).numpy()
        return scores

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether each row of X (n, d) is an alarm: its score lies above `threshold_`."""
        return self.score_samples(X) > self.threshold_

    def _fit_scaler(self, X: Matrix) -> None:
        logs = _log(X)
        low, self.centre_, high = np.quantile(logs, [0.25, 0.5, 0.75], axis=0).astype(np.float32)
        # A column that hardly varies (a rare state, missed bytes) has no range to scale by: its log or its 0 and 1 stay.
        self.scale_ = np.where(high > low, high - low, np.float32(1))

    def _scaled(self, X: Matrix) -> Matrix:
        """X (n, d) as the network sees it; clipped, so that one absurd value stays one alarm and does not swamp a batch."""
        return np.clip((_log(X) - self.centre_) / self.scale_, -20.0, 20.0)

    def _train(self, train: torch.Tensor, rest: torch.Tensor, generator: torch.Generator) -> dict[str, list[float]]:
        """Adam on the squared error until the held-out error stops falling; the best weights are kept."""
        optimiser = torch.optim.Adam(self.network_.parameters(), lr=self.learning_rate, fused=True)
        history: dict[str, list[float]] = {"training": [], "held-out": []}
        best, weights = np.inf, self.network_.state_dict()
        for _ in range(self.epochs):
            total = torch.zeros(())
            for batch in torch.randperm(len(train), generator=generator).split(self.batch_size):
                loss = (self.network_(train[batch]) - train[batch]).square().mean()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += loss.detach() * len(batch)
            with torch.inference_mode():
                error = (self.network_(rest) - rest).square().mean().item()
            history["training"].append(total.item() / len(train))
            history["held-out"].append(error)
            if error < best:
                best = error
                weights = {name: value.clone() for name, value in self.network_.state_dict().items()}
            elif len(history["held-out"]) - 1 - int(np.argmin(history["held-out"])) >= self.patience:
                break
        self.network_.load_state_dict(weights)
        return history


@contextmanager
def _one_thread() -> Iterator[None]:
    """torch on one thread while the block runs: batches so small gain nothing from more threads but waiting."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _network(d: int, hidden: int, bottleneck: int, generator: torch.Generator) -> nn.Sequential:
    """d -> hidden -> bottleneck -> hidden -> d, with weights drawn from `generator` alone."""
    sizes = [d, hidden, bottleneck, hidden, d]
    layers: list[nn.Module] = []
    for place, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        layer = nn.utils.skip_init(nn.Linear, fan_in, fan_out)
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
        nn.init.zeros_(layer.bias)
        # The code and the output are plain numbers: cut at 0, a unit of so narrow a code is easily lost for good.
        layers += [layer, nn.ReLU()] if place in (0, 2) else [layer]
    return nn.Sequential(*layers)


def _log(X: Matrix) -> Matrix:
    return np.sign(X) * np.log1p(np.abs(X))


def _checked(X: npt.ArrayLike, d: int | None) -> Matrix:
    """X as a (n, d) float32 matrix of finite numbers."""
    matrix = np.asarray(X, dtype=np.float32)
    if matrix.ndim != 2:
        raise ValueError(f"X must be a matrix (n, d) with one row a flow, got shape {matrix.shape}")
    if d is not None and matrix.shape[1] != d:
        raise ValueError(f"X has {matrix.shape[1]} features, and the autoencoder was fitted to {d}")
    if not np.isfinite(matrix).all():
        row, column = np.argwhere(~np.isfinite(matrix))[0]
        raise ValueError(f"X holds NaN or infinity, first in row {row}, column {column}; fill or drop it")
    return matrix
