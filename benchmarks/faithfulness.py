"""How faithful simulated captures are to real ones: whether they can be told apart, and whether they teach the same.

Real captures are those of `iot23.locate("iot23")`; beside their folder may lie `iot23_by_class/flows_by_class.csv`, rows of
every class without times, captures and histories. Limits that say `chosen` are fixed here and nowhere else.
"""

import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import combinations, pairwise, product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier

from benchmarks import measure
from fliot_lab import evaluation
from fliot_lab.data import iot23, sample, splits
from fliot_lab.data.layout import BENIGN, normalise_label
from fliot_lab.features.flows import flow_features
from fliot_lab.models.autoencoder import Autoencoder
from fliot_lab.two_sample import two_sample_auc

LARGE_ROWS, LARGE_VECTORS = 1000, 50  # below, a class has no target
FEWEST_BENIGN = 100  # benign rows of a capture that is compared on its own; chosen
CHANCE = 0.02  # what chance adds to a two-sample AUC at 0.5, as of two halves of one capture; the less the nearer to 1; chosen
CONFLICTED, CEILING = (0.15, 0.35), (0.65, 0.85)  # targets of the simulated set, both bounds included
MODEL_ROWS, RARE_ROWS = 12_000, 200  # of a world that models see; a class of fewer than RARE_ROWS is kept whole; chosen
DRAWS, EQUAL = 2, 0.02  # of these rows; models whose figures differ by no more, as from draw to draw, have no order; chosen
# A smaller change has no sign; changes that differ by so much, or by such a share of the real one, have one size; chosen.
NO_CHANGE, ROUGH, ROUGH_SHARE = 0.02, 0.10, 0.5
AUTOENCODER = "autoencoder"
MODELS, KINDS = ("decision tree", "random forest", "XGBoost", AUTOENCODER), ("accuracy", "balanced accuracy", "AUC")
PLAIN, MORE = "24", "24 + port and service"

Matrix = npt.NDArray[np.float32]
Vector = npt.NDArray[Any]
Pair = tuple[str, str]
Each = Callable[..., Iterable[Any]]  # `map`, or that of a pool of processes
Scores = dict[tuple[str, str, str, str], dict[str, float]]  # (data, features, split, model) -> one figure of each of KINDS


@dataclass(frozen=True)
class World:
    """Flows of one origin, one a row: features, classes, captures and times (None where they are not known)."""

    name: str
    X: dict[str, Matrix]  # PLAIN: (n, 24); MORE: (n, 24 + port and a column for each service)
    y: Vector  # (n,) str
    capture: Vector  # (n,) str
    ts: Vector | None  # (n,)

    def of(self, label: str) -> Matrix:
        """The 24 features of the rows of one class."""
        return self.X[PLAIN][self.y == label]

    def sources(self, label: str) -> dict[str, Matrix]:
        """The rows of one class by capture, where they are enough; of the whole world where they are so only together."""
        enough = is_large if label != BENIGN else lambda X: len(X) >= FEWEST_BENIGN
        captures = sorted(set(self.capture), key=splits.natural)
        parts = {name: self.X[PLAIN][(self.y == label) & (self.capture == name)] for name in captures}
        kept = {name: X for name, X in parts.items() if enough(X)}
        return kept or ({self.name: self.of(label)} if enough(self.of(label)) else {})


def world(name: str, flows: pd.DataFrame) -> World:
    """The flows of a frame as `iot23.load` gives it, or of one that has no `capture` and no `ts`."""
    X, _ = flow_features(flows)
    services = pd.get_dummies(flows["service"].astype(object), dummy_na=True).to_numpy(np.float32)
    more = np.c_[X, flows["id.resp_p"].to_numpy(np.float32), services]
    capture = flows["capture"].to_numpy(str) if "capture" in flows else np.full(len(flows), name)
    ts = flows["ts"].to_numpy() if "ts" in flows else None
    return World(name, {PLAIN: X, MORE: more}, flows["label"].to_numpy(str), capture, ts)


def simulated_world(seed: int = 7, size: int | None = None) -> World:
    """The simulated captures of the seed, of the default size unless another is given, made in a folder that goes again."""
    with tempfile.TemporaryDirectory(prefix="fliot-bench-") as folder:
        sample.generate(Path(folder), seed, sample.DEFAULT_SIZE if size is None else size)
        return world("simulated", iot23.load(root=folder))


def real_worlds() -> list[World]:
    """The small real captures of this machine, and the sample by class beside them; empty where there are no captures."""
    try:
        root = iot23.locate("iot23").root
        flows = iot23.load("small", root=root, dataset="iot23")
    except iot23.DataMissing as error:
        if os.environ.get("FLIOT_DATA"):  # somebody believes that they are there
            warnings.warn(str(error), stacklevel=2)
        return []
    table = root.parent / "iot23_by_class" / "flows_by_class.csv"
    return [world("captures", flows), *([world("by class", read_by_class(table))] if table.is_file() else [])]


def read_by_class(path: Path) -> pd.DataFrame:
    """The flows of a sample by class, with `label` as elsewhere; a star marks classes whose finer labels were merged."""
    flows = pd.read_csv(path, na_values=["-", ""], keep_default_na=False)
    pairs = zip(flows["label"], flows["detailed-label"].fillna("-"), strict=True)
    return flows.assign(label=pd.Series([normalise_label(label, detailed.rstrip("*")) for label, detailed in pairs], dtype=str))


def is_large(X: Matrix) -> bool:
    """Whether the rows (n, d) of a class are enough for it to have a target."""
    return len(X) >= LARGE_ROWS and len(np.unique(X, axis=0)) >= LARGE_VECTORS


def labels(worlds: Sequence[World]) -> dict[str, bool]:
    """All classes, benign first, and whether each is large in the first world and in another one, if there is one."""
    names = sorted({str(label) for w in worlds for label in np.unique(w.y)}, key=lambda label: (label != BENIGN, label))
    enough = {label: [is_large(w.of(label)) for w in worlds] for label in names}
    return {label: first and (any(rest) or not rest) for label, (first, *rest) in enough.items()}


@dataclass(frozen=True)
class Comparison:
    """Two-sample AUCs of one class between pairs of sources, and between whole worlds."""

    label: str
    between: dict[Pair, float]  # (simulated source, real source)
    real: dict[Pair, float]
    simulated: dict[Pair, float]
    pooled: dict[Pair, float]


def mean_auc(a: Matrix, b: Matrix, seeds: int, rows: int) -> float:
    """The mean `two_sample_auc` of so many seeds."""
    return float(np.mean([two_sample_auc(a, b, seed=seed, rows=rows) for seed in range(seeds)]))


def compare(label: str, worlds: Sequence[World], seeds: int, rows: int, each: Each = map) -> Comparison:
    """The comparison of one class. The sample by class, which repeats rows of captures, counts where no capture does."""
    ours = worlds[0].sources(label)
    theirs = next((found for w in worlds[1:] if (found := w.sources(label))), {})
    whole = {w.name: w.of(label) for w in worlds if is_large(w.of(label))}
    everything = ours | theirs | whole
    kinds = product(ours, theirs), combinations(theirs, 2), combinations(ours, 2), combinations(whole, 2)

    def aucs(pairs: list[Pair]) -> dict[Pair, float]:
        mean = partial(mean_auc, seeds=seeds, rows=rows)
        found = each(mean, [everything[a] for a, _ in pairs], [everything[b] for _, b in pairs])
        return dict(zip(pairs, found, strict=True))

    return Comparison(label, *(aucs(list(kind)) for kind in kinds))


def apart(found: Sequence[Comparison], worlds: Sequence[World]) -> str:
    """The table of two-sample tests, a line for each class."""
    pairs = list(combinations([w.name for w in worlds], 2))
    columns = ["class", "simulated x real", "real x real", "simulated x simulated", *(f"{a} x {b}, pooled" for a, b in pairs)]
    rows = [[c.label, *map(spread, (c.between, c.real, c.simulated)), *(figure(c.pooled.get(p)) for p in pairs)] for c in found]
    return measure.table(columns, rows)


def each_pair(found: Comparison) -> str:
    """The table of a comparison's AUCs, a line for each capture and a column for each real one; nothing without real ones."""
    ours, real = (sorted({pair[side] for pair in found.between}, key=splits.natural) for side in (0, 1))
    known = found.between | found.real | {(b, a): value for (a, b), value in found.real.items()}
    lines = [[short(a), *(figure(known.get((a, b))) for b in real)] for a in [*ours, *real]]
    return measure.table(["benign traffic", *map(short, real)], lines) if real else ""


def too_small(worlds: Sequence[World]) -> str:
    """The classes without a target, each with its rows and vectors in every world that has it."""
    found: dict[str, list[str]] = {label: [] for label, is_enough in labels(worlds).items() if not is_enough}
    for label, w in product(found, worlds):
        if len(X := w.of(label)):
            found[label].append(f"{w.name}: {len(X):,} rows, {len(np.unique(X, axis=0)):,} vectors")
    return "; ".join(f"{label} ({', '.join(held)})" for label, held in found.items()) or "none"


def short(capture: str) -> str:
    """The capture's name without what all names share."""
    return re.sub("CTU-|IoT-|Malware-|Capture-", "", capture)


def figure(value: float | None) -> str:
    """Three decimals, or a dash."""
    return "-" if value is None or np.isnan(value) else f"{value:.3f}"


def median(values: Mapping[Any, float]) -> float | None:
    """The median, if there are any values."""
    return float(np.nanmedian(list(values.values()))) if values else None


def spread(values: Mapping[Any, float]) -> str:
    """Median of the values, the lowest, the highest and how many they are."""
    if not values:
        return "-"
    low, middle, high = np.nanquantile(list(values.values()), [0, 0.5, 1])
    return f"{middle:.3f} [{low:.3f}, {high:.3f}] ({len(values)})"


def limits(worlds: Sequence[World]) -> str:
    """The table of duplicates, conflicts and ceilings, of each world and of each capture."""
    rows = []
    for w in worlds:
        names = sorted(set(w.capture), key=splits.natural)
        parts = [(f"**{w.name}**", np.ones(len(w.y), bool)), *((short(n), w.capture == n) for n in names if len(names) > 1)]
        for name, part in parts:
            plain, more = (evaluation.conflicts(w.X[kind][part], w.y[part]) for kind in (PLAIN, MORE))
            shares = [1 - plain.vectors / plain.rows, plain.conflicted, more.conflicted]
            ceilings = [figure(plain.best_possible_accuracy), figure(more.best_possible_accuracy)]
            numbers = [len(set(w.y[part])), plain.rows, plain.vectors]
            rows.append([name, *(f"{n:,}" for n in numbers), *(f"{share:.1%}" for share in shares), *ceilings])
    titles = ["labels", "rows", "vectors", "copies", "in conflict, 24", "in conflict, more", "ceiling, 24", "ceiling, more"]
    return measure.table(["", *titles], rows)


def some_rows(w: World, seed: int, rows: int) -> World:
    """About so many rows of the world: rare classes whole, the same share of all others."""
    rng, kept = np.random.default_rng(seed), []
    for label in np.unique(w.y):
        of_class = np.flatnonzero(w.y == label)
        count = max(min(len(of_class), RARE_ROWS), round(len(of_class) * min(1, rows / len(w.y))))
        kept.append(rng.choice(of_class, count, replace=False))
    part = np.sort(np.concatenate(kept))
    ts = None if w.ts is None else w.ts[part]
    return World(w.name, {name: X[part] for name, X in w.X.items()}, w.y[part], w.capture[part], ts)


def splits_of(w: World, seed: int) -> Iterable[tuple[str, list[tuple[Vector, Vector]]]]:
    """(name, pairs of training and test rows) of each kind of split that the world allows."""
    yield "random", [splits.random_rows(len(w.y), 0.3, seed)]
    if w.ts is not None:
        yield "by time", [splits.by_time(w.ts, w.capture)]
        yield "by capture", [(train, test) for _, train, test in splits.leave_one_capture_out(w.capture)]


def answers(model: str, X: Matrix, y: Vector, train: Vector, test: Vector, seed: int) -> tuple[Vector, Vector]:
    """(class, suspicion) of each test row of X (n, d); autoencoders know no classes, and say the suspicion twice."""
    if model == AUTOENCODER:
        benign = np.random.default_rng(seed).permutation(train[y[train] == BENIGN])
        suspicion = Autoencoder(seed=seed).fit(X[benign]).score_samples(X[test])
        return suspicion, suspicion
    forest = {
        "decision tree": DecisionTreeClassifier(random_state=seed),
        "random forest": RandomForestClassifier(50, random_state=seed),
        "XGBoost": XGBClassifier(n_estimators=50, random_state=seed, n_jobs=1),
    }[model]
    classes, codes = np.unique(y[train], return_inverse=True)
    chances = forest.fit(X[train], codes).predict_proba(X[test])
    return classes[chances.argmax(1)], 1 - chances[:, list(classes).index(BENIGN)]


def scored(model: str, X: Matrix, y: Vector, pairs: Sequence[tuple[Vector, Vector]], seed: int) -> tuple[float, float, float]:
    """KINDS of the model: accuracies over the test rows of all pairs, NaN for autoencoders; the AUC is the pairs' mean."""
    found = [(y[test], *answers(model, X, y, train, test, seed)) for train, test in pairs]
    auc = float(np.nanmean([evaluation.auc(true != BENIGN, suspicion) for true, _, suspicion in found]))
    if model == AUTOENCODER:
        return np.nan, np.nan, auc
    true, predicted = (np.concatenate([part[place] for part in found]) for place in (0, 1))
    figures = evaluation.metrics(true, predicted)
    return figures["accuracy"], figures["balanced_accuracy"], auc


def scores_of(worlds: Sequence[World], each: Each = map) -> Scores:
    """The figures of every model in every world, under each split and on both sets of features: means over DRAWS draws."""
    tasks = [
        ((w.name, features, split, model), (model, X, part.y, pairs, seed))
        for w, seed in product(worlds, range(DRAWS))
        for part in [some_rows(w, seed, MODEL_ROWS)]
        for split, pairs in splits_of(part, seed)
        for features, X in part.X.items()
        for model in MODELS
    ]
    found = list(zip((key for key, _ in tasks), each(scored, *zip(*(task for _, task in tasks), strict=True)), strict=True))
    draws = {key: [figures for other, figures in found if other == key] for key, _ in tasks}
    return {key: dict(zip(KINDS, np.mean(figures, axis=0).tolist(), strict=True)) for key, figures in draws.items()}


def target(name: str, met: bool | None, found: str) -> str:
    """The line of a target; `met` is None where nothing real says what to compare with."""
    return f"- target: {name}: **{'not measured' if met is None else 'met' if met else 'missed'}**: {found}"


def targets_apart(comparisons: Sequence[Comparison]) -> list[str]:
    """A line for each class: simulated against real no higher than real against real, or than that of benign traffic."""
    lines = []
    for found in comparisons:
        value, limit = median(found.between), median(found.real or comparisons[0].real)
        met = None if limit is None or value is None else value <= max(limit + 2 * CHANCE * (1 - limit), 0.5 + CHANCE)
        text = f"{figure(value)}, real against real {figure(limit)}" + ("" if found.real else " (of benign traffic)")
        lines.append(target(f"two-sample AUC, {found.label}", met, text))
    return lines


def targets_limits(simulated: World) -> list[str]:
    """The lines on conflicts and ceiling of the simulated set, which need no real captures."""
    found = evaluation.conflicts(simulated.X[PLAIN], simulated.y)
    (few, many), (low, high), ceiling = CONFLICTED, CEILING, found.best_possible_accuracy
    return [
        target(f"rows in conflict, {few:.0%} to {many:.0%}", few <= found.conflicted <= many, f"{found.conflicted:.1%}"),
        target(f"best possible accuracy, {low} to {high}", low <= ceiling <= high, f"{ceiling:.3f}"),
    ]


def order(figures: Mapping[str, float]) -> str:
    """The models from the best to the worst with their figures; `=` where one is within EQUAL of the one before."""
    names = sorted(figures, key=lambda name: -figures[name])
    signs = ["", *(" = " if figures[a] - figures[b] <= EQUAL else " > " for a, b in pairwise(names))]
    return "".join(f"{sign}{name} {figures[name]:.3f}" for sign, name in zip(signs, names, strict=True))


def same_order(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    """Whether no two models are ordered one way in `a` and the other way in `b`, differences up to EQUAL left aside."""
    return not any(a[m] - a[n] > EQUAL and b[n] - b[m] > EQUAL for m in a for n in a)


def same_change(simulated: float, real: Sequence[float]) -> bool:
    """Whether a change has the rough size of the real ones, or lies between them, and is not clearly opposite to them all."""
    slack = [max(ROUGH, ROUGH_SHARE * abs(value)) for value in real]
    lowest, highest = (np.add(real, np.multiply(slack, side)) for side in (-1, 1))
    opposite = all(simulated * value < 0 and min(abs(simulated), abs(value)) > NO_CHANGE for value in real)
    return not opposite and bool(lowest.min() <= simulated <= highest.max())


def targets_orders(scores: Scores, names: Sequence[str]) -> list[str]:
    """The lines on the order of models on the 24 features, among the simulated captures and the real ones."""
    lines = []
    for split, kind in product(("random", "by time", "by capture"), ("accuracy", "AUC")):
        models = MODELS if kind == "AUC" else MODELS[:-1]
        found = {name: {model: scores[name, PLAIN, split, model][kind] for model in models} for name in names[:2]}
        met = same_order(*found.values()) if len(found) == 2 else None
        text = "; ".join(f"{name}: {order(figures)}" for name, figures in found.items())
        lines.append(target(f"order by {kind}, {split}", met, text))
    return lines


def targets_changes(scores: Scores, names: Sequence[str]) -> list[str]:
    """The lines on what models lose or gain, in accuracy (autoencoders: AUC), from split to split and with more features."""
    changes = [(f"{kind}, random to by capture", (kind, "random"), (kind, "by capture")) for kind in (PLAIN, MORE)]
    changes += [(f"{PLAIN} to {MORE}, {split}", (PLAIN, split), (MORE, split)) for split in ("random", "by capture")]
    lines = []
    for title, before, after in changes:
        kinds = {model: "AUC" if model == AUTOENCODER else "accuracy" for model in MODELS}
        moved = {
            name: [scores[name, *after, model][kind] - scores[name, *before, model][kind] for model, kind in kinds.items()]
            for name in names
            if (name, *before, AUTOENCODER) in scores and (name, *after, AUTOENCODER) in scores
        }
        simulated, *real = moved.values()
        met = all(map(same_change, simulated, zip(*real, strict=True))) if real else None
        found = [f"{model} " + ", ".join(f"{moved[n][place]:+.3f} {n}" for n in moved) for place, model in enumerate(MODELS)]
        lines.append(target(f"change, {title}", met, "; ".join(found)))
    return lines


def run(seed: int = 7, size: int | None = None, rows: int = 2000, seeds: int = 3, processes: int = 2) -> str:
    """The section for results/BENCHMARKS.md; two-sample tests draw at most `rows` rows a side, with each of so many `seeds`."""
    worlds = [simulated_world(seed, size), *real_worlds()]
    others = [label for label, enough in labels(worlds).items() if enough and label != BENIGN]
    with ProcessPoolExecutor(processes, get_context("spawn")) if processes > 1 else nullcontext() as pool:
        each = pool.map if pool else map
        # Of benign traffic there are many pairs; what few pairs say is repeated more often.
        comparisons = [compare(BENIGN, worlds, seeds, rows, each), *(compare(n, worlds, 2 * seeds, rows, each) for n in others)]
        scores = scores_of(worlds, each)
    names = [w.name for w in worlds]
    targets = targets_apart(comparisons) + targets_limits(worlds[0])
    targets += targets_orders(scores, names) + targets_changes(scores, names)
    models = [[f"{world}, {features}", *key, *map(figure, found.values())] for (world, features, *key), found in scores.items()]
    real = " and ".join(f"{w.name} ({len(w.y):,} flows)" for w in worlds[1:])
    return f"""## Faithfulness of SIMULATED captures (seed {seed}, {len(worlds[0].y):,} flows)

{f"Real: {real}." if real else "No real captures on this machine: the simulated side is measured alone."}

{apart(comparisons, worlds)}

AUC of telling two sources apart by the 24 features, 0.5 where that is impossible: median [lowest, highest] (pairs of captures).
At most {rows:,} rows a side, mean of {seeds} seeds (attacks: {2 * seeds}). A capture counts with {FEWEST_BENIGN} benign
rows, or with {LARGE_ROWS:,} rows and {LARGE_VECTORS} vectors of another class; where none has them, all together do.

Too small for a target: {too_small(worlds)}.

{each_pair(comparisons[0])}

{limits(worlds)}

Copies: rows less vectors. In conflict: rows whose vector has several classes. Ceiling: best possible accuracy. More: {MORE}.

{measure.table(["data and features", "split", "model", *KINDS], models)}

About {MODEL_ROWS:,} rows of each, classes below {RARE_ROWS} rows whole, mean of {DRAWS} draws. AUC: attacks against
benign rows, mean of the captures that hold both. Autoencoders learn benign rows only. By capture: each held out in turn.

{chr(10).join(targets)}"""
