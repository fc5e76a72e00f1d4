"""Autoencoders, linear and not, that learn benign flows and flag what they cannot rebuild."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fliot_lab.evaluation import threshold_at_fpr
from fliot_lab.models.batched import one_thread

Matrix = npt.NDArray[np.float32]
Vector = npt.NDArray[np.float64]
_SCORE_ROWS = 65_536  # rows scored at once, so that memory stays bounded


class Scaler:
    """Features on a log scale (they span nine orders of magnitude), centred by median and divided by interquartile range.

    A few huge flows move neither. `fit` sets `centre_` (d,) and `scale_` (d,), float32.
    """

    def fit(self, X: npt.ArrayLike) -> Self:
        """Learns centre and scale from X (n, d), n > 0; ValueError where it is empty, no matrix or not finite."""
        logs = logarithms(checked(X, None))
        if not len(logs):
            raise ValueError("X has no rows, so it has no median; give at least one flow")
        low, self.centre_, high = np.quantile(logs, [0.25, 0.5, 0.75], axis=0).astype(np.float32)
        # A column that hardly varies (a rare state, missed bytes) has no range to scale by: its log or its 0 and 1 stay.
        self.scale_ = np.where(high > low, high - low, np.float32(1))
        return self

    def transform(self, X: npt.ArrayLike) -> Matrix:
        """X (m, d) scaled, as (m, d) float32; clipped to 20 either way, so that one absurd value does not swamp the rest."""
        if not hasattr(self, "scale_"):
            raise ValueError("this scaler has not seen anything yet: call fit(X) with benign flows first")
        return np.clip((logarithms(checked(X, len(self.centre_))) - self.centre_) / self.scale_, -20.0, 20.0)

    def inverse_transform(self, scaled: npt.ArrayLike) -> Matrix:
        """The rows (m, d) float32 whose `transform` is `scaled` (m, d), but for rounding and for what `transform` clipped.

        A number beyond float32 becomes its largest.
        """
        if not hasattr(self, "scale_"):
            raise ValueError("this scaler has not seen anything yet: call fit(X) with benign flows first")
        logs = checked(scaled, len(self.centre_)).astype(np.float64) * self.scale_ + self.centre_
        numbers = np.sign(logs) * np.expm1(np.minimum(np.abs(logs), 100))  # e^100 lies beyond float32 already
        return numbers.clip(-np.finfo(np.float32).max, np.finfo(np.float32).max).astype(np.float32)


class Autoencoder:
    """An anomaly detector: the score of a flow is the mean squared error of its reconstruction.

    Fitted to benign flows only. The threshold lies where a share `false_alarm_rate` of benign flows that were held out lie
    above it. A `Scaler` comes first.

    `whiten` divides the errors by what is usual for benign flows, correlations included: the score is the squared Mahalanobis
    length of the residual over d. Some features are always rebuilt, so the covariance is shrunk (Ledoit and Wolf 2004, doi
    10.1016/S0047-259X(03)00096-4). `members` networks that differ by their start are an ensemble; the score is their mean.

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
        whiten: bool = False,
        members: int = 1,
    ):
        if members < 1:
            raise ValueError(f"members={members!r}: an ensemble has one network or more")
        self.seed, self.hidden, self.bottleneck = seed, hidden, bottleneck
        self.whiten, self.members = whiten, members
        self.false_alarm_rate = false_alarm_rate
        self.epochs, self.patience, self.batch_size, self.learning_rate = epochs, patience, batch_size, learning_rate

    def fit(self, X: npt.ArrayLike, X_held_out: npt.ArrayLike | None = None) -> Self:
        """Trains on benign flows X (n, d); early stopping and the threshold come from the benign flows X_held_out (m, d).

        Without X_held_out the last quarter of X is held out: rows in order of time make it later than the rest, as in use.
        Raises ValueError for fewer than 20 rows of either together, NaN or infinity. Sets `threshold_`, `scaler_`, `networks_`,
        `whiteners_` ((d, d) each; empty without `whiten`) and `history_` (mean squared error per epoch of the first network,
        training and held-out).
        """
        train, rest = divided(X, X_held_out)
        self.scaler_ = Scaler().fit(train)
        generator = torch.Generator().manual_seed(self.seed)
        scaled, scaled_rest = (torch.from_numpy(self.scaler_.transform(rows)) for rows in (train, rest))
        self.networks_ = [layers(train.shape[1], self.hidden, self.bottleneck, generator) for _ in range(self.members)]
        with one_thread():
            histories = [self._train(member, scaled, scaled_rest, generator) for member in self.networks_]
        self.history_ = histories[0]
        self.whiteners_ = [_whitener(member, scaled) for member in self.networks_] if self.whiten else []
        self.threshold_ = threshold_at_fpr(self.score_samples(rest), self.false_alarm_rate)
        return self

    def score_samples(self, X: npt.ArrayLike) -> Vector:
        """Reconstruction error of each row of X (n, d), as (n,) float64; higher is more suspicious."""
        if not hasattr(self, "networks_"):
            raise ValueError("this autoencoder has not learnt anything yet: call fit(X) with benign flows first")
        scores = []
        with torch.inference_mode():
            for block in _blocks(X, self.scaler_):
                rows = torch.from_numpy(block)  # (rows, d)
                residuals = [member(rows) - rows for member in self.networks_]  # (rows, d) each
                if self.whiten:
                    residuals = [r @ whitener for r, whitener in zip(residuals, self.whiteners_, strict=True)]
                scores.append(torch.stack([r.square().mean(1) for r in residuals]).mean(0).numpy())
        return np.concatenate(scores, dtype=np.float64)

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether each row of X (n, d) is an alarm: its score lies above `threshold_`."""
        return self.score_samples(X) > self.threshold_

    def _train(
        self, member: nn.Sequential, train: torch.Tensor, rest: torch.Tensor, generator: torch.Generator
    ) -> dict[str, list[float]]:
        """Adam on the squared error until the held-out error stops falling; the best weights are kept."""
        optimiser = torch.optim.Adam(member.parameters(), lr=self.learning_rate, fused=True)
        history: dict[str, list[float]] = {"training": [], "held-out": []}
        best, weights = np.inf, member.state_dict()
        for _ in range(self.epochs):
            total = torch.zeros(())
            for batch in torch.randperm(len(train), generator=generator).split(self.batch_size):
                loss = (member(train[batch]) - train[batch]).square().mean()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += loss.detach() * len(batch)
            with torch.inference_mode():
                error = (member(rest) - rest).square().mean().item()
            history["training"].append(total.item() / len(train))
            history["held-out"].append(error)
            if error < best:
                best = error
                weights = {name: value.clone() for name, value in member.state_dict().items()}
            elif len(history["held-out"]) - 1 - int(np.argmin(history["held-out"])) >= self.patience:
                break
        member.load_state_dict(weights)
        return history


class LinearAutoencoder:
    """The best autoencoder without a bend: projection on `bottleneck` principal components of benign flows, and back.

    The simple rival of `Autoencoder`, with its interface, its `Scaler`, score and threshold, but nothing is drawn at random.
    No linear encoder and decoder rebuild the training flows with a smaller squared error: Baldi and Hornik 1989,
    doi 10.1016/0893-6080(89)90014-2.
    """

    def __init__(self, *, bottleneck: int = 4, false_alarm_rate: float = 0.01):
        self.bottleneck, self.false_alarm_rate = bottleneck, false_alarm_rate

    def fit(self, X: npt.ArrayLike, X_held_out: npt.ArrayLike | None = None) -> Self:
        """Finds the components of benign flows X (n, d); the threshold comes from the benign flows X_held_out (m, d).

        Without X_held_out the last quarter of X is held out. Raises ValueError for fewer than 20 rows of either together,
        NaN or infinity, and unless 1 <= bottleneck <= d and bottleneck < n. Sets `threshold_`, `scaler_` and `pca_`.
        """
        train, rest = divided(X, X_held_out)
        n, d = train.shape
        if not 1 <= self.bottleneck <= min(d, n - 1):
            limits = f"1 to {d}, the features, and below {n}, the training rows"
            raise ValueError(f"bottleneck is {self.bottleneck}, and must be {limits}")
        self.scaler_ = Scaler().fit(train)
        from sklearn.decomposition import PCA

        self.pca_ = PCA(self.bottleneck, svd_solver="full").fit(self.scaler_.transform(train).astype(np.float64))
        self.threshold_ = threshold_at_fpr(self.score_samples(rest), self.false_alarm_rate)
        return self

    def score_samples(self, X: npt.ArrayLike) -> Vector:
        """Mean squared reconstruction error of each row of X (n, d), as (n,) float64; higher is more suspicious."""
        if not hasattr(self, "pca_"):
            raise ValueError("this autoencoder has not learnt anything yet: call fit(X) with benign flows first")
        scores = []
        for block in _blocks(X, self.scaler_):
            centred = block - self.pca_.mean_  # (rows, d) float64
            rebuilt = centred @ self.pca_.components_.T @ self.pca_.components_  # (rows, bottleneck), and back to (rows, d)
            scores.append(np.square(centred - rebuilt).mean(axis=1))
        return np.concatenate(scores)

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether each row of X (n, d) is an alarm: its score lies above `threshold_`."""
        return self.score_samples(X) > self.threshold_


def divided(X: npt.ArrayLike, X_held_out: npt.ArrayLike | None) -> tuple[Matrix, Matrix]:
    """Rows to train on and rows held out, which are the last quarter of X where none are given; at least 20 in all."""
    X = checked(X, None)
    quarter = len(X) // 4
    if X_held_out is None:
        train, rest = X[: len(X) - quarter], X[len(X) - quarter :]
    else:
        train, rest = X, checked(X_held_out, X.shape[1])
    if len(train) + len(rest) < 20 or not len(train) or not len(rest):
        raise ValueError(f"training needs benign rows, at least 20 in all; got {len(train)} and {len(rest)} held out")
    return train, rest


def _blocks(X: npt.ArrayLike, scaler: Scaler) -> Iterator[Matrix]:
    """The scaled rows of X (n, d), so many at once that memory stays bounded; one block without rows where X has none."""
    X = checked(X, len(scaler.centre_))
    for start in range(0, max(len(X), 1), _SCORE_ROWS):
        yield scaler.transform(X[start : start + _SCORE_ROWS])


def _whitener(member: nn.Sequential, scaled: torch.Tensor) -> torch.Tensor:
    """(d, d) float32 such that residuals of the training rows, times it, are about uncorrelated with variance 1."""
    with torch.inference_mode():
        residuals = (member(scaled) - scaled).numpy().astype(np.float64)
    from sklearn.covariance import LedoitWolf

    precision = LedoitWolf(assume_centered=True).fit(residuals).precision_
    return torch.from_numpy(np.linalg.cholesky(precision).astype(np.float32))


def layers(d: int, hidden: int, bottleneck: int, generator: torch.Generator) -> nn.Sequential:
    """d -> hidden -> bottleneck -> hidden -> d, with weights drawn from `generator` alone."""
    sizes = [d, hidden, bottleneck, hidden, d]
    stack: list[nn.Module] = []
    for place, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        layer = nn.utils.skip_init(nn.Linear, fan_in, fan_out)
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
        nn.init.zeros_(layer.bias)
        # The code and the output are plain numbers: cut at 0, a unit of so narrow a code is easily lost for good.
        stack += [layer, nn.ReLU()] if place in (0, 2) else [layer]
    return nn.Sequential(*stack)


def logarithms(X: Matrix) -> Matrix:
    """sign(x) log(1 + |x|) of each number of X (n, d): nothing stays nothing, and nine orders of magnitude become one."""
    return np.sign(X) * np.log1p(np.abs(X))


def checked(X: npt.ArrayLike, d: int | None) -> Matrix:
    """X as a (n, d) float32 matrix of finite numbers."""
    matrix = np.asarray(X, dtype=np.float32)
    if matrix.ndim != 2:
        raise ValueError(f"X must be a matrix (n, d) with one row a flow, got shape {matrix.shape}")
    if d is not None and matrix.shape[1] != d:
        raise ValueError(f"X has {matrix.shape[1]} features, and fit was given {d}")
    if not np.isfinite(matrix).all():
        row, column = np.argwhere(~np.isfinite(matrix))[0]
        raise ValueError(f"X holds NaN or infinity, first in row {row}, column {column}; fill or drop it")
    return matrix
