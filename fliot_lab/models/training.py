"""From conn logs to a saved detector, with a threshold and figures for networks that it has not seen.

Each log counts as the capture of one network. The detector is a `Hybrid`; with attacks among the labels a classifier joins it,
which names what was flagged (`Cascade`). Memory: a log at a time, and the features of all logs, together about 1 GB for a
million flows.
"""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fliot_lab.data import sample, zeek
from fliot_lab.data.contradictions import CHOICES, contradictory, settled
from fliot_lab.data.layout import BENIGN
from fliot_lab.data.splits import natural
from fliot_lab.evaluation import auc
from fliot_lab.features import matrix
from fliot_lab.features.context import CONTEXT_FEATURES
from fliot_lab.features.flows import FLOW_FEATURES
from fliot_lab.models import saved
from fliot_lab.models.cascade import UNKNOWN_ATTACK, Cascade
from fliot_lab.models.hybrid import Hybrid, three_parts
from fliot_lab.models.saved.alerts import ALARM
from fliot_lab.models.saved.card import require_free
from fliot_lab.models.trees import forest

#: What the classifier sees.
FLOW = tuple(feature.name for feature in FLOW_FEATURES)
#: What the detector sees, by the name of the choice.
FEATURES = {"flows": FLOW, "context": (*FLOW, *(feature.name for feature in CONTEXT_FEATURES))}
LEAST = 100  # benign flows to learn from: with fewer, a threshold at 1 % false alarms rests on next to nothing; chosen
LEFT = 50  # benign flows that must stay when a group is left out to set thresholds; chosen
MOST = 50_000  # flows of one class that a model is fitted to; of more, so many are drawn
FOLDS = 5  # up to so many captures are left out one at a time, more of them in so many groups
STRETCHES = 4  # in which a log alone is divided by time, to leave out one at a time; chosen
EARLY = 0.75  # share of a log, by its benign flows, that is learnt where the rest shall judge
#: What was done with contradictory flows, by the name of the choice.
DONE = {"as given": "learnt as benign", "dropped": "not learnt", "relabelled": "learnt as attacks"}

Matrix = npt.NDArray[np.float32]
Names = npt.NDArray[np.object_]
Say = Callable[[str], Any]
Groups = list[list["Capture"]]


@dataclass(frozen=True)
class Trained:
    """A saved model's folder, and its card: what it learnt from, how it did on what it had not seen, and what to expect."""

    folder: Path
    card: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How a model is made: of which features, from which seed, and with how many false alarms as its promise."""

    features: Sequence[str]
    seed: int
    false_alarm_rate: float


@dataclass(frozen=True)
class Capture:
    """The flows of one log in order of time: features X (n, d), classes y (n,) as its labels say, and what the card says of it.

    `taught` (n,) are the classes that a model learns: those of the labels, but for contradictory ones; None is not learnt.
    """

    name: str
    X: Matrix
    y: Names
    taught: Names
    facts: dict[str, Any]

    def part(self, start: float, stop: float) -> "Capture":
        """The flows between two shares of the log, as 0 and 0.75 for the first three quarters of its benign flows."""
        benign = self.y == BENIGN
        before = np.cumsum(benign) - benign  # an attack lies with the benign flow after it, or with the last
        share = np.minimum(before, benign.sum() - 1) / benign.sum() if benign.any() else np.arange(len(benign)) / len(benign)
        rows = (start <= share) & (share < stop)
        return Capture(self.name, self.X[rows], self.y[rows], self.taught[rows], self.facts)


def train(
    logs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    seed: int,
    features: str = "context",
    false_alarm_rate: float = 0.01,
    benign: bool = False,
    contradictions: str = "as given",
    say: Say = lambda line: None,
) -> Trained:
    """A detector learnt from conn logs, or from the `conn.*` logs in folders, and saved in `out`.

    Its thresholds are those at which it flags a share `false_alarm_rate` at most of the benign flows of captures left out; of
    one log alone, of stretches left out. The figures in the card are of captures left out as well, which moved no threshold
    that judged them, and by the labels as given. `features`: "context" or "flows". `benign` asserts that every flow is
    harmless. `contradictions`: what is learnt of flows labelled benign between the two hosts of an attack, one of CHOICES.
    `say` is given lines.

    Raises ConnLogError or FileNotFoundError for a log that cannot be read; ValueError for fewer than LEAST benign flows, an
    attack in what is `benign`, an empty log, an unknown choice; ModelError where `out` is taken.
    """
    for name, choice, choices in (("features", features, FEATURES), ("contradictions", contradictions, CHOICES)):
        if choice not in choices:
            raise ValueError(f"{name}={choice!r} is unknown; choose one of {', '.join(choices)}")
    if not 0 < false_alarm_rate < 1:
        raise ValueError(f"false_alarm_rate={false_alarm_rate!r}: expected a share between 0 and 1, such as 0.01")
    require_free(Path(out))
    paths = _logs([Path(log) for log in logs])
    plan = Plan(FEATURES[features], seed, false_alarm_rate)
    captures = [_read(name, path, plan.features, benign, contradictions, say) for name, path in paths.items()]
    if (found := _benign(captures)) < LEAST:
        raise ValueError(f"the logs hold {found} benign flows; learning what is usual takes {LEAST} or more")
    evaluation = evaluated(captures, plan, say)
    say("Learning from everything")
    model = learnt(captures, plan)
    simulated = [name for name, path in paths.items() if _is_simulated(path)]
    facts = [capture.facts for capture in captures]
    training = {"seed": seed, "contradictions": contradictions, "simulated": simulated, "logs": facts}
    limits = _limits(facts, contradictions, simulated, evaluation)
    saved.save(model, out, features=plan.features, card={"training": training, "evaluation": evaluation, "limits": limits})
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


def _limits(
    logs: Sequence[Mapping[str, Any]], contradictions: str, simulated: Sequence[str], evaluation: Mapping[str, Any]
) -> list[str]:
    """What whoever uses the model must know, in plain words."""
    limits = [
        f"Its false alarms are promised for networks like the {len(logs)} it learnt from; a network of other devices may "
        "bring more."
    ]
    if evaluation["split"] != "by capture":
        limits.append("No network could be left out while it learnt: what a new network brings was not measured.")
    if simulated:
        limits.append(
            f"Learnt from SIMULATED flows ({len(simulated)} of {len(logs)} logs): no figure says anything about real ones."
        )
    if unlabelled := [log for log in logs if not log["labelled"]]:
        limits.append(f"{len(unlabelled)} logs had no labels and were taken as benign: malware in them was learnt as harmless.")
    if doubtful := sum(log["contradictory"] for log in logs):
        limits.append(f"{doubtful:,} flows are labelled benign between the two hosts of an attack: {DONE[contradictions]}.")
    if not any(set(log["classes"]) - {BENIGN} for log in logs):
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


def _read(name: str, path: Path, names: Sequence[str], benign: bool, contradictions: str, say: Say) -> Capture:
    """The capture that a log holds. Flows that a labelled log leaves without a label are left out."""
    flows = zeek.read_conn_log(path).sort_values("ts", kind="stable", ignore_index=True)
    if flows.empty:
        raise ValueError(f"{path} holds no flows; leave it out")
    labelled = "label" in flows
    if not labelled:
        flows = flows.assign(label=BENIGN)
    X = matrix(flows, names)
    known = flows["label"].notna().to_numpy()
    y = flows["label"].astype(object).to_numpy()[known]
    counts = dict(Counter(y.tolist()).most_common())
    if benign and set(counts) - {BENIGN}:
        raise ValueError(f"{path} was said to be benign, and its labels name {', '.join(sorted(set(counts) - {BENIGN}))}")
    doubtful = int(contradictory(flows).sum())
    learnt_as = settled(flows, contradictions)["label"].astype(object)
    taught = np.array([learnt_as.get(row) for row in flows.index[known]], dtype=object)  # None for what was dropped
    facts = {
        "log": name,
        "flows": len(flows),
        "from": flows["ts"].iloc[0].isoformat(),
        "to": flows["ts"].iloc[-1].isoformat(),
        "labelled": labelled,
        "classes": counts,
        "contradictory": doubtful,
    }
    told = ", ".join(f"{count:,} {label}" for label, count in counts.items()) or "none with a label"
    say(f"{name}: {len(flows):,} flows, {told}" + ("" if labelled else " (taken as benign: the log has no labels)"))
    if doubtful:
        say(f"{name}: {doubtful:,} benign flows contradict the labels between the same two hosts; {DONE[contradictions]}")
    return Capture(name, X[known], y, taught, facts)


def _is_simulated(path: Path) -> bool:
    """Whether a log lies in a folder of simulated captures."""
    readmes = [folder / sample.README for folder in list(path.parents)[:4]]
    return any(r.is_file() and r.read_text("utf-8", errors="replace").startswith(sample.MARK) for r in readmes)


# --- learning ----------------------------------------------------------------------------------------------------------


def learnt(captures: Sequence[Capture], plan: Plan) -> Hybrid | Cascade:
    """The model of these captures: a cascade where they hold attacks, else the detector alone."""
    X, y, group = _rows(_groups(captures), plan.seed)
    detector = three_parts(plan.features, seed=plan.seed, false_alarm_rate=plan.false_alarm_rate)
    detector.fit(X, y != BENIGN, group)
    # One row of a class cannot be held out, so nobody would know how sure a classifier should be of it.
    counts = Counter(y.tolist())
    named = np.array([name != BENIGN and counts[name] > 1 for name in y])
    if not named.any():
        return detector
    columns = [plan.features.index(name) for name in FLOW]
    return Cascade(detector, forest(seed=plan.seed), classifier_columns=columns).fit_names(X[named], y[named], group[named])


def _groups(captures: Sequence[Capture]) -> Groups:
    """What is left out together to set thresholds: captures, or stretches of time of them all where too little would stay."""
    groups = _by_capture(captures)
    if _least_left(groups) >= LEFT:
        return groups
    return [[c.part(place / STRETCHES, (place + 1) / STRETCHES) for c in captures] for place in range(STRETCHES)]


def _by_capture(captures: Sequence[Capture]) -> Groups:
    """The captures in FOLDS groups or fewer."""
    return [list(captures[start::FOLDS]) for start in range(min(FOLDS, len(captures)))]


def _least_left(groups: Groups) -> int:
    """How many benign flows stay at least, whichever of the groups is left out."""
    sizes = [_benign(group) for group in groups]
    return sum(sizes) - max(sizes)


def _benign(captures: Sequence[Capture]) -> int:
    """How many flows a model learns as benign."""
    return sum(int((capture.taught == BENIGN).sum()) for capture in captures)


def _rows(groups: Groups, seed: int) -> tuple[Matrix, Names, npt.NDArray[np.int64]]:
    """Rows X (n, d) to learn, their classes (n,), and the group (n,) that each belongs to; MOST of each class are drawn."""
    everything = [(place, capture) for place, group in enumerate(groups) for capture in group]
    y = np.concatenate([capture.taught for _, capture in everything])
    group = np.repeat([place for place, _ in everything], [len(capture.taught) for _, capture in everything])
    names = sorted({name for name in y if name is not None})
    kept = np.sort(np.concatenate([_drawn(np.flatnonzero(y == name), seed) for name in names]))
    return np.concatenate([capture.X for _, capture in everything])[kept], y[kept], group[kept]


def _drawn(places: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """At most MOST of some places."""
    return places if len(places) <= MOST else np.random.default_rng(seed).choice(places, MOST, replace=False)


# --- judging -----------------------------------------------------------------------------------------------------------


def evaluated(captures: Sequence[Capture], plan: Plan, say: Say) -> dict[str, Any]:
    """What the card says of the model's quality: how models that had not learnt a capture, or its last quarter, did on it."""
    groups = _by_capture(captures)
    split, judge = ("by capture", _left_out) if _least_left(groups) >= LEAST else ("by time", _later)
    answers = judge(groups, plan, say)
    if not answers:
        return {"split": "none", "why": f"the first three quarters of the logs hold fewer than {LEAST} benign flows"}
    names = [capture.name for capture in captures]
    answers.sort(key=lambda answer: names.index(answer["capture"]))  # as the logs were given
    counts = ("benign", "false_alarms", "attacks", "flagged", "named", "unknown")
    totals = {name: sum(answer[name] for answer in answers) for name in counts}
    return {"split": split, "promised": plan.false_alarm_rate, **totals, "captures": answers}


def _left_out(groups: Groups, plan: Plan, say: Say) -> list[dict[str, Any]]:
    """How each capture was judged by a model of the other groups."""
    answers = []
    for place, group in enumerate(groups):
        say("Leaving out " + ", ".join(capture.name for capture in group))
        model = learnt([capture for other in (*groups[:place], *groups[place + 1 :]) for capture in other], plan)
        answers += [_judged(model, capture) for capture in group]
    return answers


def _later(groups: Groups, plan: Plan, say: Say) -> list[dict[str, Any]]:
    """How the last quarter of each capture was judged by a model of the first three; nothing where these hold too little."""
    captures = [capture for group in groups for capture in group]
    before, after = ([capture.part(start, stop) for capture in captures] for start, stop in ((0, EARLY), (EARLY, 1)))
    if _benign(before) < LEAST:
        return []
    say("Leaving out the last quarter of each log")
    model = learnt(before, plan)
    return [_judged(model, capture) for capture in after if len(capture.y)]


def _judged(model: Hybrid | Cascade, capture: Capture) -> dict[str, Any]:
    """How a model did on a capture: counts of flows, and the AUC of its scores, None where there is one kind of flow only.

    named: attacks flagged and given their class; unknown: attacks flagged and given none, as is right for a class not learnt.
    """
    attack = capture.y != BENIGN
    scores = model.score_samples(capture.X)
    flags = scores > Hybrid.threshold_
    answers = model.predict(capture.X) if isinstance(model, Cascade) else np.full(len(attack), ALARM, dtype=object)
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
