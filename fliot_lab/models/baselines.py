"""What a model must beat to matter: the majority, a table that remembers, one-line rules, and an isolation forest."""

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.ensemble import IsolationForest

from fliot_lab.evaluation import threshold_at_fpr
from fliot_lab.features.flows import words
from fliot_lab.models.autoencoder import Vector, checked, divided
from fliot_lab.models.classifier import Classifier, Codes, Floats, Matrix

Flags = npt.NDArray[np.bool_]
WINDOW_S = 60  # of the rule that looks at what else a host did


class Majority(Classifier):
    """Calls every row what most training rows are; its probabilities are the classes' shares of the training rows."""

    def __init__(self) -> None:
        super().__init__(seed=0)

    def _learn(self, X: Matrix, codes: Codes, weights: Floats | None) -> None:
        self._shares = np.bincount(codes) / len(codes)  # (c,)

    def _chances(self, X: Matrix) -> Floats:
        return np.tile(self._shares, (len(X), 1))


class Memory(Classifier):
    """Calls a row what most training rows of exactly the same features are, and a row of new features what most rows are.

    On its own training rows no classifier that sees only these features is more accurate: `best_possible_accuracy`. Features
    are compared exactly, but -0.0 equals 0.0.
    """

    def __init__(self) -> None:
        super().__init__(seed=0)

    def _learn(self, X: Matrix, codes: Codes, weights: Floats | None) -> None:
        self._place: dict[bytes, int] = {}
        places = [self._place.setdefault(key, len(self._place)) for key in _keys(X)]
        counts = np.zeros((len(self._place) + 1, len(self.classes_)))
        np.add.at(counts, (np.array(places), codes), 1)
        counts[-1] = np.bincount(codes)  # for new features
        self._shares = counts / counts.sum(axis=1, keepdims=True)  # (distinct rows + 1, c)

    def _chances(self, X: Matrix) -> Floats:
        return self._shares[[self._place.get(key, -1) for key in _keys(X)]]


class ForestDetector:
    """An isolation forest with the interface of `Autoencoder`: rows that few random cuts set apart are suspicious.

    Liu, Ting and Zhou 2008, doi 10.1109/ICDM.2008.17; scikit-learn's. Equal seeds give equal models.
    """

    def __init__(self, *, seed: int, trees: int = 100, false_alarm_rate: float = 0.01):
        self.seed, self.trees, self.false_alarm_rate = seed, trees, false_alarm_rate

    def fit(self, X: npt.ArrayLike, X_held_out: npt.ArrayLike | None = None) -> Self:
        """Learns benign flows X (n, d); the threshold comes from the benign flows X_held_out (m, d).

        Without X_held_out the last quarter of X is held out. Raises ValueError for fewer than 20 rows of either together, NaN
        or infinity. Sets `threshold_` and `model_`.
        """
        train, rest = divided(X, X_held_out)
        self.model_ = IsolationForest(n_estimators=self.trees, random_state=self.seed, n_jobs=1).fit(train)
        self.threshold_ = threshold_at_fpr(self.score_samples(rest), self.false_alarm_rate)
        return self

    def score_samples(self, X: npt.ArrayLike) -> Vector:
        """How easily each row of X (n, d) is set apart, as (n,) from 0 to 1; higher is more suspicious."""
        if not hasattr(self, "model_"):
            raise ValueError("this forest has not learnt anything yet: call fit(X) with benign flows first")
        rows = checked(X, self.model_.n_features_in_)
        return -self.model_.score_samples(rows) if len(rows) else np.empty(0)

    def predict(self, X: npt.ArrayLike) -> Flags:
        """Whether each row of X (n, d) is an alarm: its score lies above `threshold_`."""
        return self.score_samples(X) > self.threshold_


def _unfinished(flows: Any) -> Flags:
    """Whether each flow (n,) is TCP in a state of connections that came to nothing, or that nobody saw begin or end."""
    _need(flows, "proto", "conn_state")
    return _among(flows["proto"], "tcp") & _among(flows["conn_state"], "S0", "S3", "OTH", "RSTR")


def _beside_tcp(flows: Any) -> Flags:
    """Whether its originator began any TCP flow in the same minute of the clock, (n,); a host of another capture is another."""
    _need(flows, "proto", "ts", "id.orig_h")
    owner = [np.asarray(flows[name], dtype=object) for name in ("id.orig_h", "capture") if name in flows]
    tcp = pd.Series(_among(flows["proto"], "tcp"))
    return tcp.groupby([*owner, _windows(flows["ts"])], sort=False, dropna=False).transform("any").to_numpy(dtype=bool)


#: One-line detectors: flows, a pandas frame or a mapping from Zeek's column names to arrays (n,), to (n,) bool. The first needs
#: proto and conn_state; the second needs ts (seconds or datetimes), id.orig_h and proto, and heeds `capture` if it is there.
RULES: dict[str, Callable[[Any], Flags]] = {
    "TCP in state S0, S3, OTH or RSTR": _unfinished,
    f"any TCP in the {WINDOW_S} s window": _beside_tcp,
}


def _need(flows: Any, *columns: str) -> None:
    if missing := [name for name in columns if name not in flows]:
        raise ValueError(f"the rule needs the columns {', '.join(missing)}, which the flows lack")


def _among(column: Any, *wanted: str) -> Flags:
    """Whether the word of each row of a column (n,) is one of those wanted."""
    distinct, codes = words(column)
    return np.isin(distinct, wanted)[codes]


def _windows(ts: Any) -> npt.NDArray[np.int64]:
    """The number (n,) of the window since 1970 in which each time, in seconds or a datetime, lies."""
    times = pd.Series(ts if isinstance(ts, pd.Series | pd.Index) else np.asarray(ts))
    if times.isna().any():
        raise ValueError(f"{times.isna().sum()} flows have no time (ts); drop them")
    if pd.api.types.is_numeric_dtype(times):
        return np.floor(times.to_numpy(dtype=np.float64) / WINDOW_S).astype(np.int64)
    if not pd.api.types.is_datetime64_any_dtype(times):
        raise ValueError(f"ts must be seconds or datetimes, got {times.dtype}")
    return times.to_numpy(dtype="datetime64[us]").astype(np.int64) // (WINDOW_S * 1_000_000)


def _keys(X: Matrix) -> list[bytes]:
    """A key for each row of X (n, d), equal for equal rows."""
    return [row.tobytes() for row in X + np.float32(0)]  # -0.0 becomes 0.0
