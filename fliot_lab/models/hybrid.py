"""A detector of what is unlike all benign flows or like attacks that are known, for networks that it has not seen."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from fliot_lab.evaluation import threshold_at_fpr
from fliot_lab.features.context import CONTEXT_FEATURES
from fliot_lab.models.autoencoder import Autoencoder, LinearAutoencoder, Matrix, Scaler, Vector, checked
from fliot_lab.models.baselines import ForestDetector

Flags = npt.NDArray[np.bool_]
Detector = Autoencoder | LinearAutoencoder | ForestDetector
LARGEST = 5.0  # deviations that a feature may add to the score: an attack larger than all known ones is no surer one
SMALLEST = 1e-12  # of a reconstruction error, so that it has a logarithm


class KnownAttacks:
    """How like known attacks a flow is: the log odds of a logistic regression.

    A straight line on purpose: it can only learn in which direction attacks differ, which carries over to another network
    where a tree's corners do not. Attacks and benign flows count alike, and so do the networks within each, so that one
    capture's flood is not all that is learnt.
    """

    def __init__(self, *, strength: float = 0.1):
        self.strength = strength

    def fit(self, X: npt.ArrayLike, attack: npt.ArrayLike, groups: npt.ArrayLike) -> Self:
        """Learns from X (n, d), `attack` (n,) bool and the network of each row, `groups` (n,).

        Raises ValueError where attacks or benign rows are missing.
        """
        attack = np.asarray(attack, dtype=bool)
        if attack.all() or not attack.any():
            raise ValueError(f"{attack.sum()} of {len(attack)} rows are attacks: it takes both, attacks and benign flows")
        rows = np.asarray(X, dtype=np.float32)
        self.scaler_ = Scaler().fit(rows[~attack])
        self.deviations_ = StandardScaler().fit(self.scaler_.transform(rows))
        weights = _alike(attack, np.asarray(groups))
        # Newton's method, to the end: stopped early, the answer would depend on how many threads summed the gradient.
        model = LogisticRegression(C=self.strength, solver="newton-cholesky", tol=1e-8, max_iter=100)
        self.model_ = model.fit(self._scaled(rows).astype(np.float64), attack, sample_weight=weights)
        return self

    def score_samples(self, X: npt.ArrayLike) -> Vector:
        """The log odds (m,) that each row of X (m, d) is an attack, as if there were as many attacks as benign flows."""
        return self.model_.decision_function(self._scaled(np.asarray(X, dtype=np.float32)))

    def _scaled(self, rows: Matrix) -> Any:
        return np.clip(self.deviations_.transform(self.scaler_.transform(rows)), -LARGEST, LARGEST)


def _alike(attack: Flags, groups: npt.NDArray[Any]) -> Vector:
    """Weights (n,), 1 on average, such that both kinds weigh the same, and within a kind all of the `groups` (n,)."""
    both = 2 * np.unique(groups.astype(str), return_inverse=True)[1] + attack
    weights = 1 / np.bincount(both)[both]
    for kind in (True, False):
        weights[attack == kind] /= weights[attack == kind].sum()
    return weights * len(attack) / 2


@dataclass(frozen=True)
class Part:
    """A fitted part of a `Hybrid`: the places of its features in X, and the threshold on the logarithm of what it answers."""

    model: Detector | KnownAttacks
    columns: list[int]
    threshold: float

    def score(self, X: Matrix) -> Vector:
        """How far above its threshold each row of X (m, d) lies, as (m,)."""
        return _logarithm(self.model, X[:, self.columns]) - self.threshold


class Hybrid:
    """Detectors of what is unlike benign flows and of what is like known attacks, joined; thresholds are for unseen networks.

    Each part learns from all networks but one and judges that one's flows, every network in turn. Its threshold lies where a
    share of the benign flows so judged lie above: `false_alarm_rate` over the number of parts, so that all together keep the
    promise (Bonferroni). A row's score is the most that it lies above a threshold: of the logarithm of a detector's score, or
    of log odds. `threshold_` is 0.

    `parts` are models to copy and fit, each with the places of the features that it sees, None for all. Where training holds no
    attack, those of known attacks are left out. Anomaly and misuse detection joined: Depren et al. 2005,
    doi 10.1016/j.eswa.2005.05.002.
    """

    threshold_ = 0.0

    def __init__(
        self,
        parts: Sequence[tuple[Detector | KnownAttacks, Sequence[int] | None]],
        *,
        seed: int,
        false_alarm_rate: float = 0.01,
    ):
        if not parts:
            raise ValueError("a hybrid has no parts; give one or more, such as (Autoencoder(seed=0), None)")
        if not 0 < false_alarm_rate < 1:
            raise ValueError(f"false_alarm_rate={false_alarm_rate!r}: expected a share between 0 and 1, such as 0.01")
        self.parts, self.seed, self.false_alarm_rate = parts, seed, false_alarm_rate

    def fit(self, X: npt.ArrayLike, attack: npt.ArrayLike, groups: npt.ArrayLike) -> Self:
        """Learns from X (n, d), `attack` (n,) bool and the network of each row, `groups` (n,): two of them or more.

        Sets `parts_`, `n_features_in_` (d), and `held_out_` (n,): the score of each row when its own network was left out.
        Raises ValueError for lengths that differ, one network, and where what is left cannot be learnt from.
        """
        rows, attack, groups = np.asarray(X, dtype=np.float32), np.asarray(attack, dtype=bool), np.asarray(groups).astype(str)
        if rows.ndim != 2 or attack.shape != (len(rows),) or groups.shape != (len(rows),):
            raise ValueError(f"X has shape {rows.shape}, attack {attack.shape}, groups {groups.shape}; give one of each a row")
        if len(np.unique(groups)) < 2:
            raise ValueError("all rows are of one network: leaving it out leaves nothing to learn from; give two or more")
        used = [(m, columns) for m, columns in self.parts if not isinstance(m, KnownAttacks) or attack.any()]
        if not used:
            raise ValueError("no row is an attack, and no part learns from benign flows alone; add an Autoencoder")
        self.parts_, self.n_features_in_, judged = [], rows.shape[1], []
        for model, columns in used:
            places = list(range(rows.shape[1])) if columns is None else list(columns)
            scores = scores_left_out(model, rows[:, places], attack, groups, self.seed)
            threshold = threshold_at_fpr(scores[~attack & np.isfinite(scores)], self.false_alarm_rate / len(used))
            fitted = _fitted(model, rows[:, places], attack, groups, self.seed)
            self.parts_.append(Part(fitted, places, threshold))
            judged.append(scores - threshold)
        self.held_out_ = np.fmax.reduce(judged)
        return self

    def score_samples(self, X: npt.ArrayLike) -> Vector:
        """How suspicious each row of X (m, d) is, as (m,): above 0 for an alarm."""
        if not hasattr(self, "parts_"):
            raise ValueError("this hybrid has not learnt anything yet: call fit(X, attack, groups) first")
        rows = checked(X, self.n_features_in_)
        return np.max([part.score(rows) for part in self.parts_], axis=0)

    def predict(self, X: npt.ArrayLike) -> Flags:
        """Whether each row of X (m, d) is an alarm."""
        return self.score_samples(X) > self.threshold_


def three_parts(names: Sequence[str], *, seed: int, false_alarm_rate: float = 0.01) -> Hybrid:
    """The hybrid that `fliot train` fits, not fitted yet, for X (n, d) with the features of these `names` (d,).

    What came before a flow is unlike that of benign flows (an autoencoder of the context features, or of all features where
    none is of context); the flow is like known attacks; the calls to its service before it alone are like theirs.
    """
    around = {feature.name for feature in CONTEXT_FEATURES}
    context = [place for place, name in enumerate(names) if name in around]
    service = [place for place in context if names[place].startswith("service_")]
    unlike = Autoencoder(seed=seed, bottleneck=8, epochs=15, batch_size=512)
    parts: list[tuple[Detector | KnownAttacks, Sequence[int] | None]] = [(unlike, context or None), (KnownAttacks(), None)]
    if service:
        parts.append((KnownAttacks(), service))
    return Hybrid(parts, seed=seed, false_alarm_rate=false_alarm_rate)


def scores_left_out(model: Detector | KnownAttacks, X: Matrix, attack: Flags, groups: npt.NDArray[Any], seed: int) -> Vector:
    """What copies of the model, fitted without a row's own group, answer to each row of X (n, d), on a log scale, as (n,).

    NaN where the other groups hold no attack to learn from.
    """
    scores = np.full(len(X), np.nan)
    for group in np.unique(groups):
        own = groups == group
        if not isinstance(model, KnownAttacks) or attack[~own].any():
            fitted = _fitted(model, X[~own], attack[~own], groups[~own], seed)
            scores[own] = _logarithm(fitted, X[own])
    return scores


def _fitted(model: Any, X: Matrix, attack: Flags, groups: npt.NDArray[Any], seed: int) -> Any:
    """A copy of the model that learnt X (n, d)."""
    if isinstance(model, KnownAttacks):
        return copy.deepcopy(model).fit(X, attack, groups)
    # Mixed, since the last quarter serves early stopping and shall not be one network.
    return copy.deepcopy(model).fit(np.random.default_rng(seed).permutation(X[~attack]))


def _logarithm(model: Detector | KnownAttacks, X: Matrix) -> Vector:
    """The logarithm (m,) of a detector's score; odds have theirs already."""
    scores = model.score_samples(X)
    return scores if isinstance(model, KnownAttacks) else np.log(np.maximum(scores, SMALLEST))
