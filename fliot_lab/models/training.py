"""From conn logs to a saved detector, with a threshold and figures for networks that it has not seen.

Each log counts as the capture of one network. From benign flows alone a detector learns what is usual; with attacks among the
labels a classifier joins it, which names what was flagged (`Cascade`). Memory: a log at a time, and the features of all logs,
together about 1 GB for a million flows.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fliot_lab.data import sample, zeek
from fliot_lab.data.layout import BENIGN
from fliot_lab.data.splits import natural
from fliot_lab.evaluation import auc, threshold_at_fpr
from fliot_lab.features import matrix
from fliot_lab.features.context import CONTEXT_FEATURES
from fliot_lab.features.flows import FLOW_FEATURES
from fliot_lab.models import saved
from fliot_lab.models.autoencoder import Autoencoder
from fliot_lab.models.cascade import UNKNOWN_ATTACK, Cascade, Detector
from fliot_lab.models.saved.alerts import ALARM
from fliot_lab.models.saved.card import require_free
from fliot_lab.models.trees import forest

#: What the classifier sees.
FLOW = tuple(feature.name for feature in FLOW_FEATURES)
#: What the detector sees, by the name of the choice.
FEATURES = {"flows": FLOW, "context": (*FLOW, *(feature.name for feature in CONTEXT_FEATURES))}
LEAST = 100  # benign flows to learn from: with fewer, a threshold at 1 % false alarms rests on next to nothing; chosen
MOST = 50_000  # flows of one class that a model is fitted to; of more, so many are drawn
FOLDS = 10  # up to so many captures are left out one at a time, more of them in so many groups
EARLY = 0.75  # share of a capture's benign flows, from its beginning, that a detector is fitted to; the others stop it


Matrix = npt.NDArray[np.float32]
Names = npt.NDArray[np.object_]
Say = Callable[[str], Any]


def detector(seed: int, false_alarm_rate: float) -> Detector:
    """The detector that `train` fits."""
    return Autoencoder(seed=seed, false_alarm_rate=false_alarm_rate)


@dataclass(frozen=True)
class Trained:
    """A saved model's folder, and its card: what it learnt from, how it did on what it had not seen, and what to expect."""

    folder: Path
    card: dict[str, Any]


@dataclass(frozen=True)
class Capture:
    """The flows of one log in order of time: features X (n, d), classes y (n,), and what the card says of the log."""

    name: str
    X: Matrix
    y: Names
    facts: dict[str, Any]

    def part(self, start: float, stop: float) -> "Capture":
        """The flows between two shares of the log, as 0 and 0.75 for the first three quarters."""
        rows = slice(round(start * len(self.y)), round(stop * len(self.y)))
        return Capture(self.name, self.X[rows], self.y[rows], self.facts)


def train(
    logs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    seed: int,
    features: str = "context",
    false_alarm_rate: float = 0.01,
    benign: bool = False,
    say: Say = lambda line: None,
) -> Trained:
    """A detector learnt from conn logs, or from the `conn.*` logs in folders, and saved in `out`.

    Its threshold lies where a share `false_alarm_rate` of the benign flows of captures that were left out lie above it; for one
    log alone, of its last quarter. The figures in the card are of captures left out as well, which did not move the threshold
    that judged them. `features`: "context" or "flows". `benign` asserts that every flow is harmless. `say` is given lines.

    Raises ConnLogError or FileNotFoundError for a log that cannot be read; ValueError for fewer than LEAST benign flows, an
    attack in what is `benign`, an empty log, an unknown choice; ModelError where `out` is taken.
    """
    if features not in FEATURES:
        raise ValueError(f"features={features!r} is unknown; choose one of {', '.join(FEATURES)}")
    if not 0 < false_alarm_rate < 1:
        raise ValueError(f"false_alarm_rate={false_alarm_rate!r}: expected a share between 0 and 1, such as 0.01")
    require_free(Path(out))
    paths = _logs([Path(log) for log in logs])
    seen = FEATURES[features]
    names = list(dict.fromkeys((*seen, *FLOW)))
    captures = [_read(name, path, names, benign, say) for name, path in paths.items()]
    learning = Learning(captures, [names.index(n) for n in seen], [names.index(n) for n in FLOW], seed, false_alarm_rate)
    if (found := len(learning.benign(learning.everything))) < LEAST:
        raise ValueError(f"the logs hold {found} benign flows; learning what is usual takes {LEAST} or more")
    evaluation = evaluated(captures, learning, say)
    say("Learning from everything")
    model = learning.model(learning.everything)
    simulated = [name for name, path in paths.items() if _is_simulated(path)]
    training = {"seed": seed, "simulated": simulated, "logs": [capture.facts for capture in captures]}
    card = {"training": training, "evaluation": evaluation, "limits": _limits(captures, simulated, evaluation)}
    saved.save(model, out, features=names if isinstance(model, Cascade) else seen, card=card)
    return Trained(Path(out), saved.load(out).card)


def told(trained: Trained) -> str:
    """What was learnt and how well, in a few lines, for a terminal."""
    card, evaluation = trained.card, trained.card["evaluation"]
    lines = []
    if evaluation["split"] != "none":
        promised = f"{evaluation['promised']:.2%} false alarms promised"
        lines.append(f"Judged {evaluation['split']}, by models that had not learnt it; {promised}:")
        for row in [*evaluation["captures"], {**evaluation, "capture": "in all"}]:
            line = f"  {row['capture']}: {row['false_alarms']:,} false alarms on {row['benign']:,} benign flows"
            if row["attacks"]:
                line += f"; {row['flagged']:,} of {row['attacks']:,} attacks flagged, {row['named']:,} by their name"
            lines.append(line + (f"; AUC {row['auc']:.3f}" if row.get("auc") is not None else ""))
    lines += [f"Mind: {limit}" for limit in card["limits"]]
    classes = f", which names {', '.join(card['classes'])}" if "classes" in card else ""
    return "\n".join([*lines, f"{trained.folder}: {card['kind']} of {len(card['features'])} features{classes}"])


def _limits(captures: Sequence[Capture], simulated: Sequence[str], evaluation: Mapping[str, Any]) -> list[str]:
    """What whoever uses the model must know, in plain words."""
    limits = [
        f"Its false alarms are promised for networks like the {len(captures)} it learnt from; a network of other devices may "
        "bring more."
    ]
    if evaluation["split"] != "by capture":
        limits.append("No network could be left out while it learnt: what a new network brings was not measured.")
    if simulated:
        limits.append(
            f"Learnt from SIMULATED flows ({len(simulated)} of {len(captures)} logs): no figure says anything about real ones."
        )
    if unlabelled := [capture.name for capture in captures if not capture.facts["labelled"]]:
        limits.append(f"{len(unlabelled)} logs had no labels and were taken as benign: malware in them was learnt as harmless.")
    if not any(set(capture.facts["classes"]) - {BENIGN} for capture in captures):
        limits.append("No attack was among the logs: how many attacks it finds was not measured.")
    return limits


# --- logs --------------------------------------------------------------------------------------------------------------


def _logs(given: Sequence[Path]) -> dict[str, Path]:
    """Name -> path of each conn log: files as they are named, and of folders what a sensor calls `conn.*` anywhere in them."""
    found: list[Path] = []
    for place in given:
        if not place.exists():
            raise FileNotFoundError(f"{place} does not exist; name conn logs, or folders that hold them")
        logs = [place]
        if place.is_dir():
            logs = sorted((p for p in place.rglob("conn.*") if p.is_file() and ".log" in p.name), key=natural)
            if not logs:
                raise FileNotFoundError(f"{place} holds no conn log (conn.log, conn.log.labeled, conn.*.log.gz)")
        found += [log.resolve() for log in logs]
    if not found:
        raise ValueError("there is no log to learn from; name conn logs, or folders that hold them")
    paths = list(dict.fromkeys(found))
    root = Path(os.path.commonpath([path.parent for path in paths]))
    return {path.relative_to(root).as_posix(): path for path in paths}


def _read(name: str, path: Path, names: Sequence[str], benign: bool, say: Say) -> Capture:
    """The capture that a log holds. Flows that a labelled log leaves without a label are left out."""
    flows = zeek.read_conn_log(path).sort_values("ts", kind="stable", ignore_index=True)
    if flows.empty:
        raise ValueError(f"{path} holds no flows; leave it out")
    X = matrix(flows, names)
    labelled = "label" in flows
    y = flows["label"].astype(object).to_numpy() if labelled else np.full(len(flows), BENIGN, dtype=object)
    known = np.array([isinstance(label, str) for label in y])
    X, y = X[known], y[known]
    counts = dict(Counter(y.tolist()).most_common())
    if benign and set(counts) - {BENIGN}:
        raise ValueError(f"{path} was said to be benign, and its labels name {', '.join(sorted(set(counts) - {BENIGN}))}")
    facts = {
        "log": name,
        "flows": len(flows),
        "from": flows["ts"].iloc[0].isoformat(),
        "to": flows["ts"].iloc[-1].isoformat(),
        "labelled": labelled,
        "classes": counts,
    }
    told = ", ".join(f"{count:,} {label}" for label, count in counts.items()) or "none with a label"
    say(f"{name}: {len(flows):,} flows, {told}" + ("" if labelled else " (taken as benign: the log has no labels)"))
    return Capture(name, X, y, facts)


def _is_simulated(path: Path) -> bool:
    """Whether a log lies in a folder of simulated captures."""
    readmes = [folder / sample.README for folder in list(path.parents)[:4]]
    return any(r.is_file() and r.read_text("utf-8", errors="replace").startswith(sample.MARK) for r in readmes)


# --- learning ----------------------------------------------------------------------------------------------------------


class Learning:
    """Models of some of the captures, so that the others can judge them. A detector of the same captures is fitted once.

    `groups` are the captures, by what is left out together; `seen` the columns of the features that the detector sees.
    """

    def __init__(self, captures: Sequence[Capture], seen: list[int], named: list[int], seed: int, false_alarm_rate: float):
        self.groups = [list(captures[start::FOLDS]) for start in range(min(FOLDS, len(captures)))]
        self.everything = frozenset(range(len(self.groups)))
        self.seen, self.named, self.seed, self.false_alarm_rate = seen, named, seed, false_alarm_rate
        self._fitted: dict[frozenset[int], Detector] = {}

    def model(self, among: frozenset[int]) -> Detector | Cascade:
        """The model of these groups: a cascade where they hold attacks, else a detector. Its threshold is `threshold`."""
        attacks, classes = self.attacks(among)
        if not len(attacks):
            alone = copy(self._detector(among))
            alone.threshold_ = self.threshold(among)
            return alone
        early, late = self.benign(among, 0, EARLY), self.benign(among, EARLY, 1)
        harmless = np.full(max(len(early), len(late)), BENIGN, dtype=object)
        cascade = Cascade(
            detector(self.seed, self.false_alarm_rate),
            forest(seed=self.seed),
            detector_columns=self.seen,
            classifier_columns=self.named,
        )
        X, y = np.concatenate([early, attacks]), np.concatenate([harmless[: len(early)], classes])
        cascade.fit(X, y, late, harmless[: len(late)])
        cascade.detector.threshold_ = self.threshold(among)
        return cascade

    def threshold(self, among: frozenset[int]) -> float:
        """Where the promised share of benign flows lies above: of each group left out in turn; else of the late flows."""
        if not self.can_leave_out(among):
            return self._detector(among).threshold_
        scores = [self._detector(among - {group}).score_samples(self.benign({group})[:, self.seen]) for group in sorted(among)]
        return threshold_at_fpr(np.concatenate(scores), self.false_alarm_rate)

    def can_leave_out(self, among: frozenset[int]) -> bool:
        """Whether enough benign flows stay, whichever of these groups is left out."""
        return len(among) > 1 and all(len(self.benign(among - {group})) >= LEAST for group in among)

    def benign(self, among: Iterable[int], start: float = 0.0, stop: float = 1.0) -> Matrix:
        """Benign rows (m, d) of these groups, between two shares of each capture's, MOST of them."""
        parts = []
        for capture in self.captures(among):
            rows = capture.X[capture.y == BENIGN]
            parts.append(rows[round(start * len(rows)) : round(stop * len(rows))])
        rows = np.concatenate(parts)
        return rows[_drawn(len(rows), self.seed)]

    def attacks(self, among: Iterable[int]) -> tuple[Matrix, Names]:
        """Rows (m, d) and classes (m,) of the attacks in these groups, MOST of each class; none of a class of one row.

        One row cannot be held out, so nobody would know how sure a classifier should be of it.
        """
        captures = self.captures(among)
        X, y = np.concatenate([c.X[c.y != BENIGN] for c in captures]), np.concatenate([c.y[c.y != BENIGN] for c in captures])
        places = [np.flatnonzero(y == name) for name, rows in sorted(Counter(y.tolist()).items()) if rows > 1]
        kept = np.concatenate([np.empty(0, dtype=np.int64), *(p[_drawn(len(p), self.seed)] for p in places)])
        return X[kept], y[kept]

    def captures(self, among: Iterable[int]) -> list[Capture]:
        """The captures in these groups."""
        return [capture for group in sorted(among) for capture in self.groups[group]]

    def _detector(self, among: frozenset[int]) -> Detector:
        """The detector of the early flows of these groups; their late flows stop it and set its own threshold."""
        if among not in self._fitted:
            early, late = self.benign(among, 0, EARLY)[:, self.seen], self.benign(among, EARLY, 1)[:, self.seen]
            self._fitted[among] = detector(self.seed, self.false_alarm_rate)
            self._fitted[among].fit(early, late)
        return self._fitted[among]


def evaluated(captures: Sequence[Capture], learning: Learning, say: Say) -> dict[str, Any]:
    """What the card says of the model's quality: how models that had not learnt a capture, or its last quarter, did on it."""
    if learning.can_leave_out(learning.everything):
        split, answers = "by capture", _by_capture(learning, say)
    else:
        split, answers = "by time", _by_time(captures, learning, say)
    if not answers:
        return {"split": "none", "why": f"the first three quarters of the logs hold fewer than {LEAST} benign flows"}
    counts = ("benign", "false_alarms", "attacks", "flagged", "named", "unknown")
    totals = {name: sum(answer[name] for answer in answers) for name in counts}
    return {"split": split, "promised": learning.false_alarm_rate, **totals, "captures": answers}


def _by_capture(learning: Learning, say: Say) -> list[dict[str, Any]]:
    """How each capture was judged by a model of the other groups."""
    answers = []
    for group in sorted(learning.everything):
        left_out = learning.captures({group})
        say("Leaving out " + ", ".join(capture.name for capture in left_out))
        model = learning.model(learning.everything - {group})
        answers += [_judged(model, capture, learning) for capture in left_out]
    return answers


def _by_time(captures: Sequence[Capture], learning: Learning, say: Say) -> list[dict[str, Any]]:
    """How the last quarter of each capture was judged by a model of the first three; nothing where these hold too little."""
    before = Learning(
        [c.part(0, EARLY) for c in captures], learning.seen, learning.named, learning.seed, learning.false_alarm_rate
    )
    if len(before.benign(before.everything)) < LEAST:
        return []
    say("Leaving out the last quarter of each log")
    model = before.model(before.everything)
    after = [capture.part(EARLY, 1) for capture in captures]
    return [_judged(model, capture, learning) for capture in after if len(capture.y)]


def _judged(model: Detector | Cascade, capture: Capture, learning: Learning) -> dict[str, Any]:
    """How a model did on a capture: counts of flows, and the AUC of its scores, None where there is one kind of flow only.

    named: attacks flagged and given their class; unknown: attacks flagged and given none, as is right for a class not learnt.
    """
    attack = capture.y != BENIGN
    if isinstance(model, Cascade):
        scores, flags, answers = model.score_samples(capture.X), model.flags(capture.X), model.predict(capture.X)
    else:
        scores, answers = model.score_samples(capture.X[:, learning.seen]), np.full(len(attack), ALARM, dtype=object)
        flags = scores > model.threshold_
    both = attack.any() and not attack.all()
    return {
        "capture": capture.name,
        "benign": int((~attack).sum()),
        "false_alarms": int((flags & ~attack).sum()),
        "attacks": int(attack.sum()),
        "flagged": int((flags & attack).sum()),
        "named": int((flags & (answers == capture.y)).sum()),
        "unknown": int((flags & attack & (answers == UNKNOWN_ATTACK)).sum()),
        "auc": round(auc(attack, scores), 4) if both else None,
    }


def _drawn(n: int, seed: int) -> npt.NDArray[np.int64]:
    """The numbers of at most MOST of n rows, drawn and in their order."""
    return np.arange(n) if n <= MOST else np.sort(np.random.default_rng(seed).choice(n, MOST, replace=False))
