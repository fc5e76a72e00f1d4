"""What detection costs: context features, training, scoring a million flows, and one row of a forest, in CPU seconds.

Flows are the lessons' captures, repeated on later days where more are needed: real ones where they are present, simulated ones
elsewhere. The work does not depend on what the flows say.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks import measure
from fliot_lab.data import iot23
from fliot_lab.data.layout import BENIGN
from fliot_lab.features.context import COLUMNS, context_features
from fliot_lab.features.flows import flow_features
from fliot_lab.models import saved
from fliot_lab.models.autoencoder import Autoencoder
from fliot_lab.models.trees import forest

ROWS, TRAINED, SINGLE = 1_000_000, 50_000, 200
CONTEXT_TARGET, TRAIN_TARGET_S, SCORE_TARGET_S, SINGLE_TARGET_MS = 300_000, 20.0, 2.0, 0.5
CARD: dict[str, Any] = {"training": {}, "evaluation": {}, "limits": []}


def repeated(flows: pd.DataFrame, rows: int) -> pd.DataFrame:
    """So many flows: all of `flows`, again and again, each time a week later."""
    times = -(-rows // len(flows))
    many = pd.concat([flows] * times, ignore_index=True).iloc[:rows]
    weeks = pd.to_timedelta(7 * (np.arange(rows) // len(flows)), unit="D")
    return many.assign(ts=many["ts"] + weeks.to_numpy())


def single_ms(answer: Callable[[npt.NDArray[np.float32]], object], X: npt.NDArray[np.float32]) -> float:
    """Milliseconds of wall-clock time that one row takes: the median over as many rows as there are in X (n, d)."""
    spent = []
    for row in X:
        start = time.perf_counter()
        answer(row[None])
        spent.append(1000 * (time.perf_counter() - start))
    return statistics.median(spent)


def median_s(contenders: dict[str, Callable[[], object]], repetitions: int) -> list[float]:
    """The median CPU seconds of each contender."""
    return [statistics.median(values) for values in measure.interleaved(contenders, repetitions).values()]


def line(what: str, took: str, target: str, met: bool | None) -> list[str]:
    """A row of the table; no verdict for what stands beside for comparison."""
    return [what, took, target, "" if met is None else "met" if met else "missed"]


def run(rows: int = ROWS, trained: int = TRAINED, repetitions: int = 3, dataset: str = "auto") -> str:
    """The section for results/BENCHMARKS.md."""
    source = iot23.locate(dataset)
    flows = iot23.load("small", dataset=source.name)
    y = flows["label"].astype(str).to_numpy()
    X, names = flow_features(flows)
    many = repeated(flows[[*COLUMNS, "capture"]], rows)
    large, benign = (np.resize(part, (size, X.shape[1])) for part, size in ((X, rows), (X[y == BENIGN], trained)))
    model = Autoencoder(seed=0).fit(benign)
    some = np.random.default_rng(0).permutation(len(X))[:trained]
    grown = forest(seed=0).fit(X[some], y[some])
    with tempfile.TemporaryDirectory() as folder:
        served: list[Any] = [
            saved.load(saved.save(what, Path(folder) / name, features=names, card=CARD))
            for name, what in (("detector", model), ("forest", grown))
        ]
        (context,) = median_s({"context": lambda: context_features(many)}, repetitions)
        (train,) = median_s({"train": lambda: Autoencoder(seed=0).fit(benign)}, 1)
        graph, torch = median_s(
            {"graph": lambda: served[0].score_samples(large), "torch": lambda: model.score_samples(large)}, repetitions
        )
        few = X[np.random.default_rng(0).choice(len(X), SINGLE)]
        one, slow = single_ms(served[1].predict_proba, few), single_ms(grown.predict_proba, few)
    table = [
        line(f"context of {rows:,} flows", f"{context:.2f} CPU s", "", None),
        line("flows a second", f"{rows / context:,.0f}", f">= {CONTEXT_TARGET:,}", rows / context >= CONTEXT_TARGET),
        line(
            f"training the autoencoder on {trained:,} flows",
            f"{train:.1f} CPU s",
            f"< {TRAIN_TARGET_S:g}",
            train < TRAIN_TARGET_S,
        ),
        line(f"scoring {rows:,} flows, ONNX Runtime", f"{graph:.2f} CPU s", f"< {SCORE_TARGET_S:g}", graph < SCORE_TARGET_S),
        line("the same, torch", f"{torch:.2f} CPU s", "", None),
        line(
            "one row of a forest of 100 trees, ONNX Runtime", f"{one:.3f} ms", f"< {SINGLE_TARGET_MS:g}", one < SINGLE_TARGET_MS
        ),
        line("the same, scikit-learn", f"{slow:.1f} ms", "", None),
    ]
    told = f"{measure.origin(source)}\n\n"
    told += f"Medians of {repetitions} (training: of one); one row: wall-clock time, median of {SINGLE}."
    return f"## What detection costs\n\n{told}\n\n{measure.table(['what', 'took', 'target', ''], table)}"
