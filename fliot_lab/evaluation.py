"""Measures of a detector or classifier, with the interval and the ceiling that belong beside each figure.

Classification: `metrics`, `per_class_recall`. Detection from scores (higher is more suspicious; a row is flagged when
its score lies strictly above the threshold): `auc`, `tpr_at_fpr`, `detection_metrics`, `threshold_at_fpr`. Uncertainty:
`bootstrap` over captures, `interval_over_seeds`. What the data allow: `best_possible_accuracy`, `conflicts`. Events
beside rows: `events`. The table of every lesson: `results_table`.

A measure that the data leave undefined (an AUC without an attack) is NaN; input that makes no sense raises ValueError.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import stdtrit

Floats = npt.NDArray[np.float64]
FPRS = (0.01, 0.001)  # the two false alarm rates at which every lesson reports detection
HEADINGS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
    "auc": "AUC",
    "tpr_at_fpr_0.01": "TPR at 1 % FPR",
    "tpr_at_fpr_0.001": "TPR at 0.1 % FPR",
}


# ---------------------------------------------------------------------------------------------------- classification


def metrics(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, labels: Sequence[Any] | None = None) -> dict[str, float]:
    """{accuracy, balanced_accuracy, macro_f1} of the classes `y_pred` (n,) against `y_true` (n,).

    Balanced accuracy is the mean recall over the classes of `y_true`; macro-F1 the mean F1 over the classes of either,
    so a class that is predicted and never occurs counts as 0. `labels` narrows both to these classes, of which those
    that never occur are left out of the mean; accuracy is over all rows.
    """
    true, pred, classes = _class_codes(y_true, y_pred)
    chosen = range(len(classes)) if labels is None else [classes.index(label) for label in labels if label in classes]
    if not len(chosen):
        raise ValueError(f"none of the labels {list(labels or [])} occurs; the classes are {classes[:12]}")
    # Imported here, as all of scikit-learn: it takes a second, and on Flower each message to a node begins a new process.
    from sklearn.metrics import precision_recall_fscore_support

    _, recall, f1, _ = precision_recall_fscore_support(true, pred, labels=list(chosen), zero_division=np.nan)
    occurring = recall[~np.isnan(recall)]
    return {
        "accuracy": float((true == pred).mean()),
        "balanced_accuracy": float(occurring.mean()) if occurring.size else math.nan,
        "macro_f1": float(np.nanmean(f1)),
    }


def per_class_recall(y_true: npt.ArrayLike, y_pred: npt.ArrayLike) -> pd.DataFrame:
    """Recall of every class of `y_true` (n,), with its support in rows, the largest class first; the index is the class.

    Read the two together: a recall of 1.0 on five rows says little.
    """
    true, pred, classes = _class_codes(y_true, y_pred)
    support = np.bincount(true, minlength=len(classes))
    hits = np.bincount(true[true == pred], minlength=len(classes))
    occurring = support > 0
    table = pd.DataFrame(
        {"recall": hits[occurring] / support[occurring], "support": support[occurring]},
        index=pd.Index([name for name, kept in zip(classes, occurring, strict=True) if kept], name="class"),
    )
    return table.sort_index(key=lambda names: names.map(str)).sort_values("support", ascending=False, kind="stable")


# ---------------------------------------------------------------------------------------------------------- detection


def auc(y_true: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Chance that a random attack scores above a random benign row, ties counting half; NaN where one kind is missing.

    `y_true` (n,) is True or 1 for an attack, `scores` (n,) float, higher is more suspicious, infinities allowed. The
    area under the ROC curve equals this Mann-Whitney statistic: Hanley and McNeil 1982, doi
    10.1148/radiology.143.1.7063747.
    """
    attack, scores = _detection(y_true, scores)
    positives, negatives = int(attack.sum()), int((~attack).sum())
    if not positives or not negatives:
        return math.nan
    _, rank, size = np.unique(scores, return_inverse=True, return_counts=True)
    middle = np.cumsum(size) - (size - 1) / 2  # rank of each distinct score, 1 to n, tied rows at the middle of theirs
    return float((middle[rank[attack]].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def tpr_at_fpr(y_true: npt.ArrayLike, scores: npt.ArrayLike, fpr: float = 0.01) -> float:
    """Share of attacks found at the threshold that flags at most `fpr` of the benign rows; NaN where one kind is missing.

    Nothing is interpolated: rows of equal score, benign or attack, are flagged together or not at all, so the rate can
    lie below `fpr` and never above. With fewer than 1/`fpr` benign rows it is the share found without any false alarm. The
    threshold comes from the rows being judged, as in a ROC curve; to report what a deployed detector would do, take
    `threshold_at_fpr` on held-out benign rows instead.
    """
    attack, scores = _detection(y_true, scores)
    if attack.all() or not attack.any():
        return math.nan
    return float((scores[attack] > threshold_at_fpr(scores[~attack], fpr)).mean())


def detection_metrics(attack: npt.ArrayLike, scores: npt.ArrayLike) -> dict[str, float]:
    """{auc, tpr_at_fpr_0.01, tpr_at_fpr_0.001} of `scores` (n,), higher is more suspicious, for `attack` (n,) bool."""
    return {"auc": auc(attack, scores)} | {f"tpr_at_fpr_{fpr}": tpr_at_fpr(attack, scores, fpr) for fpr in FPRS}


def threshold_at_fpr(benign_scores: npt.ArrayLike, fpr: float = 0.01) -> float:
    """Smallest threshold with at most a share `fpr` of `benign_scores` (n,) strictly above it: flag when score > threshold.

    The scores must be of benign rows that the model was not fitted to. Below 1/`fpr` rows it is their largest score.
    """
    scores = np.asarray(benign_scores, dtype=np.float64)
    if scores.ndim != 1 or not scores.size or np.isnan(scores).any():
        raise ValueError(f"benign scores must be numbers, shape (n,), n > 0, without NaN; got shape {scores.shape}")
    if not 0 <= fpr < 1:
        raise ValueError(f"fpr must lie in [0, 1), got {fpr}; 0.01 means one false alarm in a hundred benign rows")
    n = len(scores)
    near = math.floor(fpr * n)  # may be off by one: 0.29 * 100 is 28.999..., and 29 of 100 are allowed
    allowed = max(k for k in range(max(near - 1, 0), near + 2) if k / n <= fpr)
    return float(np.partition(scores, n - 1 - allowed)[n - 1 - allowed])


# -------------------------------------------------------------------------------------------------------- uncertainty


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its interval, from `groups` captures or seeds; the bounds are None where one group says nothing."""

    value: float
    low: float | None
    high: float | None
    groups: int
    redrawn: int = 0

    def __str__(self) -> str:
        bounds = "[no interval]" if self.low is None or self.high is None else f"[{self.low:.3f}, {self.high:.3f}]"
        return f"{self.value:.3f} {bounds}" + (f" ({self.redrawn} resamples redrawn)" if self.redrawn else "")


def bootstrap(
    statistic: Callable[..., float],
    *arrays: npt.ArrayLike,
    groups: npt.ArrayLike,
    n: int = 1000,
    seed: int | np.random.Generator,
    level: float = 0.95,
) -> Interval:
    """`statistic(*arrays)` with its percentile bootstrap interval at `level`, resampling whole groups with replacement.

    `arrays` have one entry or row per row, `groups` (n,) names each row's capture. Rows of one capture are not
    independent, so captures are drawn, not rows; with few of them the interval is wide, and below about ten it still
    covers less often than `level` says. One group gives no interval. A resample on which the statistic is NaN (no
    attack drawn, say) is redrawn and counted in `redrawn`. Raises ValueError where the statistic is NaN on all the rows
    or on nine resamples in ten. Efron 1979, doi 10.1214/aos/1176344552; whole groups: Field and Welsh 2007, J. R. Stat.
    Soc. B 69(3).
    """
    data = [np.asarray(array) for array in arrays]
    members = _members(groups, [len(array) for array in data])
    _check_level(level)
    if n < 1:
        raise ValueError(f"n must be at least 1 resample, got {n}; 1000 serves a 95 % interval")
    value = float(statistic(*data))
    if math.isnan(value):
        raise ValueError("the statistic is NaN on all the rows, so there is nothing to put an interval around")
    if len(members) == 1:
        return Interval(value, None, None, 1)
    found, redrawn = _resamples(statistic, data, members, n, np.random.default_rng(seed))
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), len(members), redrawn)


def _resamples(
    statistic: Callable[..., float],
    data: list[npt.NDArray[Any]],
    members: list[npt.NDArray[np.intp]],
    n: int,
    generator: np.random.Generator,
) -> tuple[list[float], int]:
    """`n` values of the statistic on resamples of whole groups, and how many resamples it was undefined on."""
    found: list[float] = []
    for tries in range(1, 10 * n + 1):
        rows = np.concatenate([members[i] for i in generator.integers(len(members), size=len(members))])
        drawn = float(statistic(*(array[rows] for array in data)))
        if not math.isnan(drawn):
            found.append(drawn)
        if len(found) == n:
            return found, tries - n
    raise ValueError(f"the statistic is NaN on {10 * n - len(found)} of {10 * n} resamples; use more groups")


def interval_over_seeds(
    values: Sequence[float] | Floats, level: float = 0.95, bounds: tuple[float, float] = (-math.inf, math.inf)
) -> Interval:
    """Mean of `values` (one per seed) with Student's t interval at `level`; one value alone has no interval.

    A measure that cannot leave `bounds`, as a share cannot leave (0, 1), has its interval cut there. It
    covers what the seed moves (initial weights, sampling, noise), not what other captures would: see `bootstrap`.
    """
    seeds = np.asarray(values, dtype=np.float64)
    if seeds.ndim != 1 or not seeds.size or not np.isfinite(seeds).all():
        raise ValueError(f"values must be finite numbers, one per seed, at least one; got {values!r}")
    _check_level(level)
    if len(seeds) == 1:
        return Interval(float(seeds[0]), None, None, 1)
    mean = float(seeds.mean())
    half = float(stdtrit(len(seeds) - 1, (1 + level) / 2) * seeds.std(ddof=1) / math.sqrt(len(seeds)))
    return Interval(mean, max(mean - half, bounds[0]), min(mean + half, bounds[1]), len(seeds))


# ----------------------------------------------------------------------------------------------- what the data allow


@dataclass(frozen=True, slots=True)
class Conflicts:
    """How far `rows` rows can be told apart at all: they hold `vectors` distinct feature vectors.

    `conflicted` is the share of rows whose vector carries more than one class, `best_possible_accuracy` the ceiling.
    """

    rows: int
    vectors: int
    conflicted: float
    best_possible_accuracy: float


def conflicts(X: npt.ArrayLike, y: npt.ArrayLike) -> Conflicts:
    """Distinct vectors, share of rows in vectors with several classes, and the ceiling, of `X` (n, d) and `y` (n,).

    Vectors are compared exactly; NaN equals NaN and -0.0 equals 0.0.
    """
    vector = _vector_ids(X)
    label, _ = pd.factorize(_classes(y, "y"))
    if len(label) != len(vector):
        raise ValueError(f"X has {len(vector)} rows and y {len(label)}; give one label per row")
    pairs, sizes = np.unique(vector * (label.max() + 1) + label, return_counts=True)  # each (vector, class) and its rows
    of_pair = pairs // (label.max() + 1)
    starts = np.flatnonzero(np.diff(of_pair, prepend=-1))
    rows_of_vector = np.add.reduceat(sizes, starts)
    classes_of_vector = np.diff(starts, append=len(pairs))
    return Conflicts(
        rows=len(vector),
        vectors=len(starts),
        conflicted=float(rows_of_vector[classes_of_vector > 1].sum() / len(vector)),
        best_possible_accuracy=float(np.maximum.reduceat(sizes, starts).sum() / len(vector)),
    )


def best_possible_accuracy(X: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Accuracy on these rows that no classifier can beat which sees only `X` (n, d): each vector's commonest class in `y`.

    It is a ceiling and no forecast: it knows the answers, and where every vector is unique it is 1.0.
    """
    return conflicts(X, y).best_possible_accuracy


def events(ts: npt.ArrayLike, label: npt.ArrayLike, *keys: npt.ArrayLike, gap_s: float = 60.0) -> pd.DataFrame:
    """Rows and events of each class in `label` (n,), the class with most rows first; the index is the class.

    Rows of one class are one event as long as each follows the one before within less than `gap_s` seconds. `ts` (n,)
    is in seconds or a datetime, in any order. Further `keys` (n,), such as capture or source address, keep events
    apart. A burst of 14,260 flows in 30 s is 14,260 rows and one event: a detector that finds it has found one thing.
    """
    seconds = _seconds(ts)
    if not gap_s > 0:
        raise ValueError(f"gap_s must be a positive number of seconds, got {gap_s}")
    codes, classes = pd.factorize(_classes(label, "label"))
    group = np.zeros(len(seconds), dtype=np.int64)
    for name, key in (("label", label), *((f"key {i}", key) for i, key in enumerate(keys, start=1))):
        values = _classes(key, name)
        if len(values) != len(seconds):
            raise ValueError(f"ts has {len(seconds)} rows and {name} {len(values)}; give one of each per row")
        group = pd.factorize(group * (len(seconds) + 1) + pd.factorize(values)[0])[0]
    order = np.lexsort((seconds, group))
    first = (np.diff(group[order], prepend=-1) != 0) | (np.diff(seconds[order], prepend=-np.inf) >= gap_s)
    table = pd.DataFrame(
        {
            "rows": np.bincount(codes, minlength=len(classes)),
            "events": np.bincount(codes[order][first], minlength=len(classes)),
        },
        index=pd.Index(classes, name="class"),
    )
    return table.sort_index(key=lambda names: names.map(str)).sort_values("rows", ascending=False, kind="stable")


# ---------------------------------------------------------------------------------------------------------- the table


def results_table(rows: Mapping[Any, Sequence[Any] | Mapping[str, float]], benign: Any = "Benign") -> pd.DataFrame:
    """One row per model with accuracy, balanced accuracy, macro-F1, AUC and TPR at 1 % and 0.1 % FPR, NaN where missing.

    `rows` maps a name, or a pair (model, split), to `(y_true, y_pred)`, to `(y_true, y_pred, scores)`, or to metrics by
    name as `metrics` and `detection_metrics` give them. With scores, the attacks are the rows of `y_true` that are not
    `benign`; booleans and 0/1 are taken as attacks already. Figures are plain floats: round them where they are shown.
    """
    records = []
    for name, result in rows.items():
        model, split = name if isinstance(name, tuple) else (name, None)
        found = dict(result) if isinstance(result, Mapping) else _measured(name, result, benign)
        unknown = [key for key in found if key not in HEADINGS]
        if unknown:
            raise ValueError(f"{name}: unknown metrics {unknown}; the table has {list(HEADINGS)}")
        figures = {heading: float(found.get(key, math.nan)) for key, heading in HEADINGS.items()}
        records.append({"model": model, "split": split} | figures)
    table = pd.DataFrame(records, columns=["model", "split", *HEADINGS.values()])
    return table if table["split"].notna().any() else table.drop(columns="split")


def _measured(name: Any, result: Sequence[Any], benign: Any) -> dict[str, float]:
    if len(result) not in (2, 3):
        raise ValueError(f"{name}: give (y_true, y_pred) or (y_true, y_pred, scores), got {len(result)} values")
    found = metrics(result[0], result[1])
    if len(result) == 3:
        true = _classes(result[0], "y_true")
        if not set(pd.unique(true)) <= {0, 1}:
            if benign not in true:
                raise ValueError(f"{name}: no row of y_true is {benign!r}; name the harmless class with benign=...")
            true = true != benign
        found |= detection_metrics(true.astype(bool), result[2])
    return found


# ------------------------------------------------------------------------------------------------- what comes in is checked


def _classes(y: npt.ArrayLike, name: str) -> npt.NDArray[Any]:
    """`y` (n,) as Python objects, so that text and numbers keep their kind; no row may be missing."""
    classes = np.asarray(y, dtype=object)
    if classes.ndim != 1:
        raise ValueError(f"{name} must hold one value per row, shape (n,), got shape {classes.shape}")
    if pd.isna(classes).any():
        raise ValueError(f"{name} is missing in {pd.isna(classes).sum()} rows; drop them or fill them in first")
    return classes


def _class_codes(y_true: npt.ArrayLike, y_pred: npt.ArrayLike) -> tuple[npt.NDArray[Any], npt.NDArray[Any], list[Any]]:
    """Codes of the true and of the predicted classes, (n,) each, and the classes that they stand for."""
    true, pred = _classes(y_true, "y_true"), _classes(y_pred, "y_pred")
    if len(true) != len(pred) or not len(true):
        raise ValueError(f"y_true has {len(true)} rows and y_pred {len(pred)}; give the same rows of both, at least one")
    if isinstance(true[0], str) != isinstance(pred[0], str):
        raise ValueError(f"y_true holds {true[0]!r} and y_pred {pred[0]!r}; give names in both or numbers in both")
    codes, classes = pd.factorize(np.concatenate([true, pred]))
    return codes[: len(true)], codes[len(true) :], list(classes)


def _detection(y_true: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[npt.NDArray[np.bool_], Floats]:
    attack, values = np.asarray(y_true), np.asarray(scores, dtype=np.float64)
    if attack.ndim != 1 or attack.shape != values.shape or not len(attack):
        raise ValueError(f"y_true {attack.shape} and scores {values.shape} must have the same shape (n,), n > 0")
    if attack.dtype.kind not in "biuf" or not np.isin(attack, (0, 1)).all():
        raise ValueError("y_true must be True or 1 for an attack and False or 0 for benign; try y_true != 'benign'")
    if np.isnan(values).any():
        raise ValueError(f"{np.isnan(values).sum()} scores are NaN, so no threshold can judge them; did training diverge?")
    return attack.astype(bool), values


def _members(groups: npt.ArrayLike, lengths: list[int]) -> list[npt.NDArray[np.intp]]:
    """The rows of each group, in the order in which the groups first occur."""
    codes, names = pd.factorize(_classes(groups, "groups"))
    if not lengths or not len(codes) or set(lengths) != {len(codes)}:
        raise ValueError(f"groups has {len(codes)} rows and the arrays {lengths}; give one group per row, at least one row")
    ends = np.cumsum(np.bincount(codes, minlength=len(names)))
    return np.split(np.argsort(codes, kind="stable"), ends[:-1])


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}; 0.95 is a 95 % interval")


def _vector_ids(X: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """A number for each row of `X` (n, d), the same for equal rows: rows are sorted as bytes, so the answer is exact."""
    rows = np.asarray(X)
    if rows.ndim != 2 or not rows.size or rows.dtype.kind not in "biuf":
        raise ValueError(f"X must be numbers of shape (n, d), got {rows.dtype} {rows.shape}; encode text columns first")
    if rows.dtype.kind == "f":
        rows = rows + rows.dtype.type(0)  # -0.0 becomes 0.0, and the caller's array stays as it is
        rows[np.isnan(rows)] = np.nan  # one bit pattern for every NaN
    whole = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    return np.unique(whole, return_inverse=True)[1]


def _seconds(ts: Any) -> Floats:
    """Seconds (n,) of times that are numbers already, or datetimes of any zone, from their earliest."""
    series = pd.Series(ts if isinstance(ts, pd.Series | pd.Index) else np.asarray(ts))
    if series.isna().any():
        raise ValueError(f"{series.isna().sum()} rows have no time (NaN or NaT); drop them before counting events")
    if pd.api.types.is_datetime64_any_dtype(series):
        return (series - series.min()).dt.total_seconds().to_numpy()
    if len(series) and not pd.api.types.is_numeric_dtype(series):
        raise ValueError(f"ts must be seconds or datetimes, got {series.dtype}; convert it, for example with pd.to_datetime")
    return series.to_numpy(dtype=np.float64)
