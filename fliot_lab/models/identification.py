"""Which device type a fingerprint belongs to, or none that is known: a forest, and a small network that can be federated."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.ensemble import ExtraTreesClassifier
from torch import nn

from fliot_lab.models.autoencoder import logarithms
from fliot_lab.models.batched import one_thread

#: The answer where the likeliest type fits too badly.
UNKNOWN = "unknown device"
FOLDS = 5  # in which training rows are held out to see how known devices score; chosen
RARE = 0.3  # a feature that at most this share of the training rows shows tells most by being there; chosen
WEIGHT = 1.0  # a type's held-out rows are joined by so many of an average type; chosen

Matrix = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Names = npt.NDArray[Any]
Codes = npt.NDArray[np.intp]
Chances = Callable[[Matrix], Floats]  # fingerprints (m, d) -> probability (m, c) of each type


class _Identifier(ABC):
    """What every identifier does with the probabilities of types; `_learnt` says how a kind of model comes by them."""

    def __init__(self, *, seed: int, rejected: float | None):
        if rejected is not None and not 0 <= rejected < 1:
            raise ValueError(f"rejected={rejected!r}: expected a share of known devices from 0 up to 1, or None")
        self.seed, self.rejected = seed, rejected

    @abstractmethod
    def _learnt(self, X: Matrix, codes: Codes, trial: bool) -> Chances:
        """The probabilities of all types of `classes_`, learnt from X (n, d) and codes (n,) that may lack some of them.

        A `trial` is one of the models that are thrown away after they have shown how known devices score.
        """

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike, groups: npt.ArrayLike | None = None) -> Self:
        """Learns the types y (n,) of fingerprints X (n, d), NaN where a thing was not observed, and a threshold.

        The threshold comes from training rows that were held out in FOLDS folds; rows of one of the `groups` (n,), say a
        person or a unit, are held out together. The promise holds for devices like those: with rows of known persons in every
        fold, more of a new person's devices are rejected. Raises ValueError for fewer than two types, for lengths that
        differ, and for infinity.
        """
        rows, types, together = _checked(X, None), np.asarray(y), np.arange(len(np.asarray(y)))
        if groups is not None:
            together = np.unique(np.asarray(groups), return_inverse=True)[1]
        if types.shape != (len(rows),) or together.shape != (len(rows),):
            raise ValueError(f"{len(rows)} fingerprints, y of shape {types.shape} and groups of shape {together.shape}")
        self.classes_, codes = np.unique(types, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y holds {len(self.classes_)} type: telling devices apart takes two or more")
        self.usual_ = _usual(rows)
        self._chances = self._learnt(rows, codes, trial=False)
        if self.rejected is not None:
            self._shown = _Shown(rows, codes, len(self.classes_))
            self._expect(rows, codes, together, self.rejected)
        return self

    def _expect(self, rows: Matrix, codes: Codes, groups: Codes, rejected: float) -> None:
        """Keeps how training rows score when they are held out: mean and deviation by type, and the threshold."""
        evidence = np.full((len(rows), 3), np.nan)
        for train, test in _folds(codes, groups, self.seed):
            test = test[np.isin(codes[test], codes[train])]
            if not len(test):
                continue
            chances = self._learnt(rows[train], codes[train], trial=True)
            evidence[test] = _evidence(chances(rows[test]), _Shown(rows[train], codes[train], len(self.classes_)), rows[test])
        judged = np.isfinite(evidence).all(axis=1)
        if not judged.any():
            raise ValueError("no type has rows in two groups, so no row can be held out: give more rows, or other groups")
        evidence, codes = evidence[judged], codes[judged]
        overall, spread = evidence.mean(axis=0), evidence.var(axis=0) + 1e-6
        one_hot = codes == np.arange(len(self.classes_))[:, None]  # (c, m)
        counts = one_hot.sum(axis=1)[:, None] + WEIGHT  # (c, 1)
        self._centre = (one_hot @ evidence + WEIGHT * overall) / counts
        squares = np.stack([((evidence - self._centre[c]) ** 2)[one_hot[c]].sum(axis=0) for c in range(len(self.classes_))])
        self._scale = np.sqrt((squares + WEIGHT * spread) / counts)
        self.threshold_ = float(np.quantile(self._score(evidence, codes), rejected))

    def _fits(self, rows: Matrix, chances: Floats) -> Floats:
        """The `known_score` (m,) of rows (m, d) with these chances (m, c)."""
        if self.rejected is None:
            raise ValueError("with rejected=None no threshold was learnt; ask `top`, or fit with a share such as 0.05")
        return self._score(_evidence(chances, self._shown, rows), chances.argmax(axis=1))

    def _score(self, evidence: Floats, codes: Codes) -> Floats:
        """How evidence (m, 3) for the types compares with what is usual for them; one thing alone cannot outweigh all."""
        return np.clip((evidence - self._centre[codes]) / self._scale[codes], -6, 6).sum(axis=1)

    def predict_proba(self, X: npt.ArrayLike) -> Floats:
        """The probability (m, c) of each type of `classes_` for fingerprints X (m, d), as if the device were one of them."""
        rows = self._rows(X)
        return self._chances(rows)

    def known_score(self, X: npt.ArrayLike) -> Floats:
        """How well each fingerprint of X (m, d) fits its likeliest type, (m,): about 0 or more for a known device.

        Three things are compared with what they are for held-out devices of that type, in deviations: the type's probability,
        how much of what the fingerprint shows the type has never shown, and how much is missing that the type always shows.
        What only few devices show counts in the last two.
        """
        rows = self._rows(X)
        return self._fits(rows, self._chances(rows))

    def top(self, X: npt.ArrayLike) -> Names:
        """The likeliest type (m,) for each fingerprint of X (m, d), however badly it fits."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def top_k(self, X: npt.ArrayLike, k: int = 3) -> list[list[tuple[str, float]]]:
        """The k likeliest types for each fingerprint of X (m, d) with their probabilities, the likeliest first."""
        if k < 1:
            raise ValueError(f"k={k!r}: expected a number of answers from 1")
        chances = self.predict_proba(X)
        best = np.argsort(-chances, axis=1, kind="stable")[:, :k]
        return [[(str(self.classes_[c]), float(row[c])) for c in order] for row, order in zip(chances, best, strict=True)]

    def predict(self, X: npt.ArrayLike) -> Names:
        """The likeliest type (m,) for each fingerprint of X (m, d), UNKNOWN where `known_score` lies below `threshold_`."""
        rows = self._rows(X)
        chances = self._chances(rows)
        unknown = self._fits(rows, chances) < self.threshold_
        return np.where(unknown, UNKNOWN, self.classes_[chances.argmax(axis=1)].astype(object))

    def predict_family(self, X: npt.ArrayLike, family: Mapping[str, str]) -> Names:
        """The likeliest family (m,) for each fingerprint: its types have the largest probability together.

        `family` is type -> family; a type that it lacks is a family of its own.
        """
        chances = self.predict_proba(X)
        names, owner = np.unique([family.get(str(name), str(name)) for name in self.classes_], return_inverse=True)
        return names[np.stack([chances[:, owner == f].sum(axis=1) for f in range(len(names))], axis=1).argmax(axis=1)]

    def explain(self, x: npt.ArrayLike, names: Sequence[str]) -> list[tuple[str, float]]:
        """(feature, how far it speaks for the answer) for one fingerprint x (d,) whose features have `names`, strongest first.

        That is how much the likeliest type's probability falls when the feature alone gets the value that is usual among all
        training rows; below 0 for a feature that speaks against it. Features that say the same twice have little effect each.
        """
        row = self._rows(np.atleast_2d(np.asarray(x)))
        if len(row) != 1 or len(names) != row.shape[1]:
            raise ValueError(f"expected one fingerprint and a name for each feature, got {row.shape} and {len(names)} names")
        unusual = np.flatnonzero(~((row[0] == self.usual_) | (np.isnan(row[0]) & np.isnan(self.usual_))))
        variants = np.repeat(row, len(unusual) + 1, axis=0)
        variants[np.arange(len(unusual)), unusual] = self.usual_[unusual]
        chances = self._chances(variants)
        falls = chances[-1].max() - chances[:-1, chances[-1].argmax()]
        effect = np.zeros(len(names))
        effect[unusual] = falls
        return sorted(zip(names, effect.tolist(), strict=True), key=lambda item: -item[1])

    def _rows(self, X: npt.ArrayLike) -> Matrix:
        if not hasattr(self, "_chances"):
            raise ValueError("this identifier has not learnt anything yet: call fit(X, y) with known devices first")
        return _checked(X, len(self.usual_))


class DeviceIdentifier(_Identifier):
    """A forest over fingerprints (n, d), which may hold NaN, with an answer for devices that it does not know.

    Follows scikit-learn: `fit`, `predict`, `predict_proba`, `classes_`. `predict` answers UNKNOWN where `known_score` lies
    below `threshold_`: a share `rejected` of known devices. With None no threshold is learnt, which takes less than half the
    time and is enough for all but these two. `features` is the share of the features that a tree looks at for each question.
    Equal seeds give equal models. Extremely randomised trees: Geurts, Ernst and Wehenkel 2006, doi 10.1007/s10994-006-6226-1.
    """

    def __init__(self, *, seed: int, trees: int = 200, features: float = 0.1, rejected: float | None = 0.05):
        super().__init__(seed=seed, rejected=rejected)
        self.trees, self.features = trees, features

    def _learnt(self, X: Matrix, codes: Codes, trial: bool) -> Chances:
        trees = max(20, self.trees // 3) if trial else self.trees
        return _Forest(X, codes, len(self.classes_), trees, self.features, self.seed)


class NeuralIdentifier(_Identifier):
    """A small network over fingerprints (n, d), with the interface of `DeviceIdentifier`.

    d -> hidden -> c with one bend, on features that are on a log scale, centred and divided by their deviation; what was not
    observed takes no side. `network_.state_dict()` has the same shapes whatever rows it learnt from, so that networks which
    learnt elsewhere can be averaged. Equal seeds give equal models.
    """

    def __init__(
        self,
        *,
        seed: int,
        hidden: int = 64,
        epochs: int = 40,
        batch_size: int = 32,
        learning_rate: float = 3e-3,
        rejected: float | None = 0.05,
    ):
        super().__init__(seed=seed, rejected=rejected)
        self.hidden, self.epochs, self.batch_size, self.learning_rate = hidden, epochs, batch_size, learning_rate

    def _learnt(self, X: Matrix, codes: Codes, trial: bool) -> Chances:
        generator = torch.Generator().manual_seed(self.seed)
        network = _network(X.shape[1], self.hidden, len(self.classes_), generator)
        scaled = _Scaled(X, network)
        rows, answers = torch.from_numpy(scaled.rows(X)), torch.from_numpy(codes)
        optimiser = torch.optim.Adam(network.parameters(), lr=self.learning_rate, fused=True)
        with one_thread():
            for _ in range(self.epochs):
                for batch in torch.randperm(len(rows), generator=generator).split(self.batch_size):
                    loss = nn.functional.cross_entropy(network(rows[batch]), answers[batch])
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()
        if not trial:
            self.network_ = network
        return scaled


def rejection_curve(correct: npt.ArrayLike, scores: npt.ArrayLike) -> pd.DataFrame:
    """Columns threshold, coverage, accuracy: what comes of answering only where the score is at least the threshold.

    `correct` (n,) says whether the likeliest type is right, which it never is for an unknown device; `scores` (n,) are
    `known_score` or any other, higher for surer answers. Coverage is the share that is answered, accuracy is over these; rows
    of equal score are answered together. Chow 1970, doi 10.1109/TIT.1970.1054406.
    """
    right, scores = np.asarray(correct, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if right.ndim != 1 or right.shape != scores.shape or not right.size or np.isnan(scores).any():
        raise ValueError(f"expected answers (n,) and scores (n,) without NaN, n > 0; got {right.shape} and {scores.shape}")
    order = np.argsort(-scores, kind="stable")
    answered = np.arange(1, len(order) + 1)
    accuracy = np.cumsum(right[order]) / answered
    curve = pd.DataFrame({"threshold": scores[order], "coverage": answered / len(order), "accuracy": accuracy})
    return curve.drop_duplicates("threshold", keep="last", ignore_index=True)


class _Forest:
    """Probabilities of `types` types from a forest that learnt X (n, d) and codes (n,)."""

    def __init__(self, X: Matrix, codes: Codes, types: int, trees: int, features: float, seed: int):
        low, high = np.fmin.reduce(X), np.fmax.reduce(X)  # (d,), NaN where nothing was observed
        self._kept = np.flatnonzero((high > low) | (np.isnan(X).any(axis=0) & np.isfinite(low)))
        # Trees ask whether a value lies below a limit, and a tenth of the range below the smallest is "not observed".
        self._fill = (low - 0.1 * np.where(high > low, high - low, 1)).astype(np.float32)[self._kept]
        most = max(1, round(features * len(self._kept)))
        self._types = types
        self._forest = ExtraTreesClassifier(trees, max_features=most, random_state=seed).fit(self._rows(X), codes)

    def _rows(self, X: Matrix) -> Matrix:
        kept = X[:, self._kept]
        return np.where(np.isnan(kept), self._fill, kept)

    def __call__(self, X: Matrix) -> Floats:
        """The probability (m, types) of each type for fingerprints X (m, d)."""
        rows, found = self._rows(X), np.zeros((len(X), self._types))
        for tree in self._forest.estimators_:  # the forest's own way costs ten times as much for one row
            found[:, self._forest.classes_] += tree.tree_.predict(rows)
        return found / found.sum(axis=1, keepdims=True)


class _Scaled:
    """A network behind the scales that rows X (n, d) give."""

    def __init__(self, X: Matrix, network: nn.Module):
        logs = logarithms(X)
        seen = ~np.isnan(logs)
        count, logs = np.maximum(seen.sum(axis=0), 1), np.where(seen, logs, 0)
        self._centre = (logs.sum(axis=0) / count).astype(np.float32)
        deviation = np.sqrt((np.where(seen, logs - self._centre, 0) ** 2).sum(axis=0) / count)
        # What hardly varies has no deviation to divide by: it stays as it is.
        self._scale = np.where(deviation > 0.05, deviation, 1).astype(np.float32)
        self._network = network

    def rows(self, X: Matrix) -> Matrix:
        """X (m, d) as the network sees it: clipped to 5 either way, 0 for what was not observed."""
        return np.nan_to_num(np.clip((logarithms(X) - self._centre) / self._scale, -5, 5))

    def __call__(self, X: Matrix) -> Floats:
        """The probability (m, types) of each type for fingerprints X (m, d)."""
        with torch.inference_mode():
            return self._network(torch.from_numpy(self.rows(X))).softmax(dim=1).double().numpy()


class _Shown:
    """Which rare features each of `types` types shows in training rows X (n, d): they are there, and not 0."""

    def __init__(self, X: Matrix, codes: Codes, types: int):
        shown = _shown(X)
        self._rare = np.flatnonzero(shown.mean(axis=0) <= RARE)
        own = [shown[codes == code][:, self._rare] for code in range(types)]
        self._ever = np.stack([rows.any(axis=0) for rows in own])  # (types, r)
        self._always = np.stack([rows.all(axis=0) & bool(len(rows)) for rows in own])  # (types, r)

    def strange(self, X: Matrix, codes: Codes) -> Floats:
        """(m, 2) for fingerprints X (m, d) and types (m,): which share of the rare features that a fingerprint shows its type
        has never shown, and which share of those that its type always shows is missing."""
        shown = _shown(X[:, self._rare])
        never, always = shown & ~self._ever[codes], self._always[codes]
        counts = (never.sum(axis=1), shown.sum(axis=1)), ((always & ~shown).sum(axis=1), always.sum(axis=1))
        return np.stack([part / np.maximum(1, whole) for part, whole in counts], axis=1)


def _shown(X: Matrix) -> npt.NDArray[np.bool_]:
    return ~np.isnan(X) & (X != 0)


def _evidence(chances: Floats, shown: _Shown, X: Matrix) -> Floats:
    """(m, 3) for fingerprints X (m, d): log odds of the likeliest type, and logs of how little is strange for it."""
    best = chances.max(axis=1)
    # No answer is certain, and one strange thing in a hundred is nothing: without the small numbers all would be infinite.
    odds = np.log((best + 0.02) / (1.02 - best))
    return np.column_stack([odds, -np.log(shown.strange(X, chances.argmax(axis=1)) + 0.01)])


def _usual(X: Matrix) -> Matrix:
    """The median (d,) of each feature of X (n, d), NaN where more than half of the rows have none."""
    order = np.sort(X, axis=0)  # NaN last
    return order[(len(X) - 1) // 2]


def _folds(codes: Codes, groups: Codes, seed: int) -> Iterator[tuple[Codes, Codes]]:
    """(training, test) rows of up to FOLDS folds: groups are never cut, and rows of one type are spread over the folds."""
    order = np.random.default_rng(seed).permutation(len(codes))
    order = order[np.argsort(codes[order], kind="stable")]
    first = np.unique(groups[order], return_index=True)[1]  # where each group begins in this order
    fold = (np.argsort(np.argsort(first)) % FOLDS)[groups]
    for held_out in range(min(FOLDS, len(first))):
        yield np.flatnonzero(fold != held_out), np.flatnonzero(fold == held_out)


def _network(d: int, hidden: int, types: int, generator: torch.Generator) -> nn.Sequential:
    """d -> hidden -> types, with weights drawn from `generator` alone."""
    layers = [nn.utils.skip_init(nn.Linear, d, hidden), nn.ReLU(), nn.utils.skip_init(nn.Linear, hidden, types)]
    for layer in layers[::2]:
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def _checked(X: npt.ArrayLike, d: int | None) -> Matrix:
    """X as a (n, d) float32 matrix of numbers and NaN."""
    matrix = np.asarray(X, dtype=np.float32)
    if matrix.ndim != 2 or not matrix.size:
        raise ValueError(f"X must be a matrix (n, d) with one row a fingerprint, got shape {matrix.shape}")
    if d is not None and matrix.shape[1] != d:
        raise ValueError(f"X has {matrix.shape[1]} features, and fit was given {d}")
    if np.isinf(matrix).any():
        row, column = np.argwhere(np.isinf(matrix))[0]
        raise ValueError(f"X holds infinity, first in row {row}, column {column}; NaN says that a thing was not observed")
    return matrix
