"""The classifier two-sample test: whether a forest can tell two sets of rows apart, and how well.

It compares traffic of two networks, or simulated traffic with real: 0.5 where nothing tells them apart, 1.0 where each row
says where it comes from. Lopez-Paz and Oquab 2017, arXiv 1610.06545.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score


def two_sample_auc(
    a: npt.ArrayLike, b: npt.ArrayLike, *, seed: int | np.random.Generator, rows: int = 2000, folds: int = 5, trees: int = 15
) -> float:
    """AUC of a random forest that tells rows of `b` (m, d) from rows of `a` (n, d).

    As many rows of each are drawn without replacement, at most `rows`. A row's score comes from a forest that saw neither the
    row nor a copy of it, and is compared with scores of the same forest. By chance the AUC may lie a little below 0.5. NaN
    where no fold has rows of both in training and in test, as where one side is a single vector. Where one vector makes up
    half of a side, another seed may move it by 0.1: take the mean of several. Raises ValueError where a side has fewer than
    `folds` rows, or another width than the other.
    """
    sides = [np.asarray(side, dtype=np.float32) for side in (a, b)]
    size = min(*map(len, sides), rows)
    if any(side.ndim != 2 for side in sides) or sides[0].shape[1] != sides[1].shape[1]:
        raise ValueError(f"both sides must be matrices with the same features, got {sides[0].shape} and {sides[1].shape}")
    if folds < 2 or size < folds:
        raise ValueError(f"{folds} folds must be at least 2, and at most the rows of a side; those are {[*map(len, sides)]}")
    rng = np.random.default_rng(seed)
    X = np.concatenate([side[rng.choice(len(side), size, replace=False)] for side in sides])
    y = np.repeat([0, 1], size)
    fold = folds_of(X, y, folds, rng)
    aucs, pairs = [], []
    for test in (fold == number for number in range(folds)):
        if len(np.unique(y[test])) == len(np.unique(y[~test])) == 2:
            forest = RandomForestClassifier(trees, random_state=int(rng.integers(2**31))).fit(X[~test], y[~test])
            aucs.append(roc_auc_score(y[test], forest.predict_proba(X[test])[:, 1]))
            pairs.append(y[test].sum() * (1 - y[test]).sum())
    return float(np.average(aucs, weights=pairs)) if aucs else math.nan


def folds_of(X: npt.NDArray[Any], side: npt.NDArray[Any], folds: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """The fold, 0 to `folds` - 1, of each row of X (n, d), as (n,): equal rows share one, and each gets its part of both sides.

    `side` (n,) is 0 or 1. Vectors are sorted by the side that holds more of their rows and by their number, and each run of
    `folds` vectors is dealt out in a drawn order.
    """
    _, same, count = np.unique(X, axis=0, return_inverse=True, return_counts=True)
    same = same.ravel()
    leaning = np.sign(2 * np.bincount(same, weights=side) - count)
    hands = rng.permuted(np.tile(np.arange(folds), (len(count) // folds + 1, 1)), axis=1).ravel()
    dealt = np.empty(len(count), dtype=np.int64)
    dealt[np.lexsort((rng.random(len(count)), count, leaning))] = hands[: len(count)]
    return dealt[same]
