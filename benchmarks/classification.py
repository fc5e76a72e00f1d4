"""How well models name the class of a flow, by split, beside the ceiling and what can be had without learning.

On the 24 flow features of the captures that the lessons run on: real ones where they are present, simulated ones elsewhere. No
setting was tuned. The random split is the trap that published figures often come from.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks import measure
from fliot_lab import evaluation
from fliot_lab.data import iot23, splits
from fliot_lab.data.layout import BENIGN
from fliot_lab.features.flows import FLOW_FEATURES, FLOW_FEATURES_EXTENDED, flow_features
from fliot_lab.models.baselines import Majority, Memory
from fliot_lab.models.classifier import Classifier
from fliot_lab.models.cnn import CNN1D
from fliot_lab.models.trees import boosting, forest

SEEDS, EPOCHS, TREES = 5, 4, 50
MODELS: dict[str, Callable[[int], Classifier]] = {
    "majority": lambda seed: Majority(),
    "table that remembers": lambda seed: Memory(),
    "forest": lambda seed: forest(seed=seed, trees=TREES),
    "XGBoost": lambda seed: boosting(seed=seed, trees=TREES),
    "1D-CNN": lambda seed: CNN1D(seed=seed, epochs=EPOCHS, batch_size=256, learning_rate=3e-3),
}
LEARNT = ("forest", "XGBoost", "1D-CNN")
RANDOM, TIME, CAPTURE = "random (the trap)", "by time", "by capture"
FIGURES = ("accuracy", "balanced_accuracy", "macro_f1")

Matrix = npt.NDArray[np.float32]
Names = npt.NDArray[Any]
Split = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


def parts(flows: pd.DataFrame, attack: npt.NDArray[np.bool_], seed: int) -> dict[str, list[Split]]:
    """Split -> (training, test) rows; by capture there is a pair for each capture that holds attacks."""
    captures = flows["capture"].astype(str).to_numpy()
    left_out = [pair for _, *pair in splits.leave_one_capture_out(captures) if attack[pair[1]].any()]
    return {
        RANDOM: [splits.random_rows(len(flows), 0.3, seed)],
        TIME: [splits.by_time(flows["ts"], captures, 0.3)],
        CAPTURE: [(train, test) for train, test in left_out],
    }


def judged(model: Classifier, X: Matrix, y: Names, split: Split) -> tuple[dict[str, float], Names]:
    """Figures of a model on a split, on test rows without a twin too, and its answers."""
    train, test = split
    said = model.fit(X[train], y[train]).predict(X[test])
    found = evaluation.metrics(y[test], said)
    own = np.isin(y[test], np.unique(y[train]))
    _, new = splits.without_duplicates(X, train, test)
    return found | {
        "taught": float((said == y[test])[own].mean()),
        "new": float((said == y[test])[np.isin(test, new)].mean()),
    }, said


def interval(values: Sequence[float]) -> str:
    """The mean over seeds with its interval."""
    return f"{values[0]:.3f}" if len(values) == 1 else str(evaluation.interval_over_seeds(list(values), bounds=(0, 1)))


def table_of_splits(figures: Mapping[tuple[str, str], list[dict[str, float]]]) -> str:
    """A line for each split and model."""
    keys = (*FIGURES, "taught", "new")
    rows = [[split, model, *(interval([f[key] for f in found]) for key in keys)] for (split, model), found in figures.items()]
    headings = ["accuracy", "balanced accuracy", "macro-F1", "accuracy, classes in training", "accuracy, rows without a twin"]
    return measure.table(["split", "model", *headings], rows)


def table_of_recalls(y: Names, answers: Mapping[tuple[str, str], list[tuple[Names, Names]]]) -> str:
    """A line for each class: its recall on two splits, mean over seeds, beside the test rows of the first seed."""
    rows = []
    for name in pd.Series(y).value_counts().index:
        cells = [f"{(y == name).sum():,}"]
        for split in (RANDOM, TIME):
            cells.append(f"{(answers[split, LEARNT[0]][0][0] == name).sum():,}")
            for model in LEARNT:
                recalls = [(said == true)[true == name].mean() for true, said in answers[split, model] if (true == name).any()]
                cells.append(f"{np.mean(recalls):.2f}" if recalls else "-")
        rows.append([str(name), *cells])
    headings = [f"{split}: {what}" for split in ("random", "by time") for what in ("test rows", *LEARNT)]
    return measure.table(["class", "rows", *headings], rows)


def table_of_features(flows: pd.DataFrame, y: Names, seeds: int) -> str:
    """A line for each set of features: a forest's accuracy on random rows and on each capture with attacks left out."""
    more = [feature for feature in FLOW_FEATURES_EXTENDED if feature.source in ("service", "id.resp_p")]
    captures = flows["capture"].astype(str).to_numpy()
    rows, headings = [], ["features", "best possible", "random rows"]
    for name, chosen in (("24", FLOW_FEATURES), ("24, service and class of port", (*FLOW_FEATURES, *more))):
        X, _ = flow_features(flows, chosen)
        told = [f"{evaluation.best_possible_accuracy(X, y):.3f}"]
        for split, pairs in parts(flows, y != BENIGN, 0).items():
            for train, test in pairs if split != TIME else []:
                if split == CAPTURE and (heading := f"{captures[test[0]]} left out") not in headings:
                    headings.append(heading)
                models = (forest(seed=seed, trees=TREES).fit(X[train], y[train]) for seed in range(seeds))
                told.append(interval([float((model.predict(X[test]) == y[test]).mean()) for model in models]))
        rows.append([name, *told])
    return measure.table(headings, rows)


def run(seeds: int = SEEDS, dataset: str = "auto", every: int = 1) -> str:
    """The section for results/BENCHMARKS.md, on every so manieth flow."""
    start = measure.cpu_seconds()
    source = iot23.locate(dataset)
    flows = iot23.load("small", dataset=source.name).iloc[::every].reset_index(drop=True)
    y = flows["label"].astype(str).to_numpy()
    X, _ = flow_features(flows)
    figures: dict[tuple[str, str], list[dict[str, float]]] = {}
    answers: dict[tuple[str, str], list[tuple[Names, Names]]] = {}
    for model, make in MODELS.items():
        for seed in range(seeds):
            for split, pairs in parts(flows, y != BENIGN, seed).items():
                found = [judged(make(seed), X, y, pair) for pair in pairs]
                mean = {key: float(np.mean([f[key] for f, _ in found])) for key in found[0][0]}
                figures.setdefault((split, model), []).append(mean)
                answers.setdefault((split, model), []).append((y[pairs[0][1]], found[0][1]))
    train, test = parts(flows, y != BENIGN, 0)[RANDOM][0]
    twins = 1 - len(splits.without_duplicates(X, train, test)[1]) / len(test)
    ordered = {(split, model): figures[split, model] for split in (RANDOM, TIME, CAPTURE) for model in MODELS}
    ceiling = evaluation.best_possible_accuracy(X, y)
    told = [
        f"## Naming the class of a flow\n\n{measure.origin(source)}",
        f"{len(flows):,} flows, 24 features, {seeds} seeds. Best possible accuracy: {ceiling:.3f}. On random rows "
        f"{100 * twins:.0f} % of the test rows have a twin in training. Forest and XGBoost have {TREES} trees, the 1D-CNN "
        f"{EPOCHS} epochs. By capture: mean over the captures with attacks, each left out.",
        table_of_splits(ordered),
        "Recall by class:",
        table_of_recalls(y, answers),
        "A forest with more features: what service and port are worth where they were learnt, and elsewhere:",
        table_of_features(flows, y, seeds),
        f"{measure.cpu_seconds() - start:.0f} CPU s.",
    ]
    return "\n\n".join(told)
