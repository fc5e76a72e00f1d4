"""Saved models at work: read from their folder, checked, and run by ONNX Runtime on one thread, without torch."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from fliot_lab.data.layout import BENIGN
from fliot_lab.models.saved.card import GRAPH, LOGARITHM, NAME, ModelError, read

BLOCK = 4096  # rows that one run takes: their intermediate values fit a processor's cache
#: A served number may differ from the trained model's by this share, as float32 sums do in another order. What lies so close to
#: a threshold counts as at it: else the many flows that equal the held-out flow which set it might all become alarms. In a
#: score that is a logarithm a share of the number is an addend, and is added whatever the threshold (a hybrid's is 0).
SLACK = 2e-5

Matrix = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]


class _Served:
    """A saved model that can be asked: its `folder`, its `card` and the names of its `features` (d,) in order."""

    def __init__(self, folder: Path, card: dict[str, Any], graph: bytes):
        self.folder, self.card, self.features = folder, card, tuple(card["features"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def _run(self, X: npt.ArrayLike) -> Iterator[Floats]:
        """What the graph makes of the rows of X (m, d), block by block; no block where there is no row."""
        rows = _checked(X, self.folder, self.features)
        for start in range(0, len(rows), BLOCK):
            yield self._session.run(None, {"X": rows[start : start + BLOCK]})[0]


class ServedDetector(_Served):
    """A detector: scores, and alarms above a threshold."""

    @property
    def threshold(self) -> float:
        """The score above which a row is an alarm: the card's, and SLACK."""
        threshold = float(self.card["threshold"])
        return threshold + SLACK * (1.0 if self.card.get("score") == LOGARITHM else abs(threshold))

    def score_samples(self, X: npt.ArrayLike) -> Floats:
        """The score (n,) of each row of X (n, d); higher is more suspicious. ModelError for other shapes, NaN, infinity."""
        return np.concatenate([np.empty(0), *self._run(X)])

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether each row of X (n, d) is an alarm."""
        return self.score_samples(X) > self.threshold


class ServedClassifier(_Served):
    """A classifier: the probability of each of its `classes` (c,)."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the columns of `predict_proba`."""
        return tuple(self.card["classes"])

    def predict_proba(self, X: npt.ArrayLike) -> Floats:
        """The probability (n, c) of each class for each row of X (n, d). ModelError for other shapes, NaN, infinity."""
        return np.concatenate([np.empty((0, len(self.classes))), *self._run(X)])

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[Any]:
        """The likeliest class (n,) of each row of X (n, d)."""
        return np.array(self.classes, dtype=object)[self.predict_proba(X).argmax(axis=1)]


class ServedCascade:
    """A detector that flags and a classifier that names: `folder`, `card` and `features` as of the other saved models.

    `detector` and `classifier` see the features that their own cards name; `classifier` is None where training had one class.
    """

    def __init__(self, folder: Path, card: dict[str, Any], detector: ServedDetector, classifier: ServedClassifier | None):
        self.folder, self.card, self.features = folder, card, tuple(card["features"])
        self.detector, self.classifier = detector, classifier

    @property
    def threshold(self) -> float:
        """The score above which a row is flagged."""
        return self.detector.threshold

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the attacks that it knows."""
        return tuple(self.card["classes"])

    def score_samples(self, X: npt.ArrayLike) -> Floats:
        """The detector's score (n,) of each row of X (n, d); higher is more suspicious. ModelError as of the detector."""
        return self.detector.score_samples(self._seen_by(self.detector, X))

    def flags(self, X: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether the detector flags each row of X (n, d)."""
        return self.score_samples(X) > self.threshold

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[Any]:
        """BENIGN for each row of X (n, d) that is not flagged, else what `named` says, (n,)."""
        flagged = self.flags(X)
        answers = np.full(len(flagged), BENIGN, dtype=object)
        answers[flagged] = self.named(np.asarray(X)[flagged])
        return answers

    def named(self, X: npt.ArrayLike) -> npt.NDArray[Any]:
        """The class of each row of X (m, d), flagged or not, or the card's `unknown` where none fits, (m,)."""
        names = np.array(self.classes, dtype=object)
        if self.classifier is None:
            return np.repeat(names, len(np.asarray(X)))
        chances = self.classifier.predict_proba(self._seen_by(self.classifier, X))
        fits = chances.max(axis=1) >= self.card["rejection_threshold"] - SLACK
        return np.where(fits, names[chances.argmax(axis=1)], self.card["unknown"])

    def _seen_by(self, model: _Served, X: npt.ArrayLike) -> Matrix:
        return _checked(X, self.folder, self.features)[:, [self.features.index(name) for name in model.features]]


Served = ServedDetector | ServedClassifier | ServedCascade


def load(folder: str | os.PathLike[str], features: Sequence[str] | None = None) -> Served:
    """The saved model in a folder, ready to be asked; its class says what it can be asked.

    `features` are the names of the columns that the caller has. Raises ModelError where the folder is no saved model or of
    another format, a file is missing or was changed, or the model was trained on other features or in another order.
    """
    place = Path(folder)
    card, files = read(place)
    if features is not None and list(features) != card["features"]:
        raise ModelError(_difference(place, card["features"], list(features)))
    return _served(place, card, files)


def _served(place: Path, card: dict[str, Any], files: Mapping[str, bytes]) -> Served:
    if card["kind"] != "Cascade":
        return (ServedDetector if "threshold" in card else ServedClassifier)(place, card, files[GRAPH])
    inner: dict[str, Any] = {}
    for name in ("detector", "classifier"):
        mine = {file.removeprefix(f"{name}/"): content for file, content in files.items() if file.startswith(f"{name}/")}
        inner[name] = _served(place / name, json.loads(mine[NAME]), mine) if mine else None
    return ServedCascade(place, card, **inner)


def _difference(folder: Path, wanted: list[str], given: list[str]) -> str:
    """What to say where the features are not those of the card."""
    if missing := [name for name in wanted if name not in given]:
        problem = f"lacks {', '.join(missing)}"
    elif extra := [name for name in given if name not in wanted]:
        problem = f"has {', '.join(extra)} as well"
    else:
        problem = "has them in another order"
    return f"{folder} was trained on {len(wanted)} features, and what is given {problem}; give the card's features in its order"


def _checked(X: npt.ArrayLike, folder: Path, features: tuple[str, ...]) -> Matrix:
    """X as (n, d) float32, finite numbers of these features."""
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such
        rows = np.ascontiguousarray(np.asarray(X), dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] != len(features):
        wanted = f"(n, {len(features)}), the features of its card in their order"
        raise ModelError(f"{folder}: X has shape {np.shape(X)}, and the model takes {wanted}")
    if not np.isfinite(rows).all():
        row, column = np.argwhere(~np.isfinite(rows))[0]
        raise ModelError(f"{folder}: X holds NaN or infinity, first in row {row}, {features[column]}; fill it or drop the row")
    return rows
