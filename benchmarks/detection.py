"""How many attacks a detector flags in networks that it has never seen, and at which price in false alarms.

Each capture is left out in turn. Which detector is used, and its thresholds, come from inner folds: each of the other captures
left out once more. Set-ups of devices join as benign flows: person A's in training, person C's in the test alone. The
features and the candidates were developed on these captures, which the outer folds test again: a little of that choice is
in the figures. Real captures where they are present, simulated ones elsewhere; the heading says which.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks import measure
from fliot_lab import evaluation
from fliot_lab.data import contradictions, iot23, setups
from fliot_lab.data.layout import BENIGN
from fliot_lab.data.splits import natural
from fliot_lab.features import matrix
from fliot_lab.features.context import COLUMNS, CONTEXT_FEATURES
from fliot_lab.features.flows import FLOW_FEATURES
from fliot_lab.models.autoencoder import Autoencoder, LinearAutoencoder
from fliot_lab.models.baselines import RULES, ForestDetector
from fliot_lab.models.hybrid import Hybrid, KnownAttacks, three_parts

SEEDS, PARTS, RATE = 5, 4, 0.01
TRAINED, TESTED = "A", "C"  # whose set-ups are in training, and whose in the test
TPR_TARGET, FPR_TARGET = 0.95, 0.02
FLOW = [feature.name for feature in FLOW_FEATURES]
AROUND = [feature.name for feature in CONTEXT_FEATURES]
NAMES = FLOW + AROUND
OWN = list(range(len(FLOW)))
CONTEXT = list(range(len(FLOW), len(NAMES)))
SERVICE = [place for place, name in enumerate(NAMES) if name.startswith("service")]

Flags = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.intp]


def surroundings(seed: int, **options: Any) -> Autoencoder:
    """The autoencoder of what came before a flow."""
    return Autoencoder(seed=seed, bottleneck=8, epochs=15, batch_size=512, **options)


#: What inner folds choose among: detectors by name, for a seed.
CANDIDATES: dict[str, Callable[[int], Hybrid]] = {
    "autoencoder, flow": lambda seed: Hybrid([(Autoencoder(seed=seed, epochs=15, batch_size=512), OWN)], seed=seed),
    "autoencoder, context": lambda seed: Hybrid([(surroundings(seed), CONTEXT)], seed=seed),
    "the same, whitened": lambda seed: Hybrid([(surroundings(seed, whiten=True), CONTEXT)], seed=seed),
    "context + known attacks": lambda seed: Hybrid([(surroundings(seed), CONTEXT), (KnownAttacks(), None)], seed=seed),
    "context + known services": lambda seed: Hybrid([(surroundings(seed), CONTEXT), (KnownAttacks(), SERVICE)], seed=seed),
    "all three": lambda seed: three_parts(NAMES, seed=seed),
}


#: What a detector must beat: other models of benign flows alone, on the same features and with the same thresholds.
BASELINES: dict[str, Callable[[int], Hybrid]] = {
    "PCA, flow": lambda seed: Hybrid([(LinearAutoencoder(), OWN)], seed=seed),
    "PCA, context": lambda seed: Hybrid([(LinearAutoencoder(bottleneck=8), CONTEXT)], seed=seed),
    "isolation forest, flow": lambda seed: Hybrid([(ForestDetector(seed=seed), OWN)], seed=seed),
    "isolation forest, context": lambda seed: Hybrid([(ForestDetector(seed=seed), CONTEXT)], seed=seed),
}


@dataclass(frozen=True)
class Networks:
    """Flows of captures and set-ups with their features X (n, d), and of each which network it belongs to."""

    flows: pd.DataFrame
    X: npt.NDArray[np.float32]
    attack: Flags
    doubtful: Flags  # labelled benign between two hosts of an attack
    network: npt.NDArray[Any]  # the capture, or the person of a set-up

    @property
    def captures(self) -> list[str]:
        """The captures of the data set, those with attacks first, the others in natural order."""
        names = sorted({name for name in self.network if name not in (TRAINED, TESTED)}, key=natural)
        return sorted(names, key=lambda name: not self.attack[self.network == name].any())

    def training(self, left_out: str, choice: str) -> tuple[Rows, npt.NDArray[Any]]:
        """Rows to learn from, and the group of each that inner folds leave out: a capture, or a part of the set-ups."""
        kept = (self.network != left_out) & (self.network != TESTED)
        if choice == "dropped":
            kept &= ~self.doubtful
        rows = np.flatnonzero(kept)
        group = self.network[rows].astype(object)
        own = group == TRAINED
        group[own] = [
            f"{TRAINED}, part {code % PARTS}" for code in pd.factorize(self.flows["capture"].to_numpy()[rows[own]])[0]
        ]
        return rows, group.astype(str)

    def windows(self, rows: Rows, flagged: Flags) -> tuple[int, int]:
        """(how many minutes of a host hold an attack among `rows`, in how many of them one is `flagged`)."""
        bad = self.attack[rows]
        part = self.flows.iloc[rows[bad]]
        minute = [part["id.orig_h"].to_numpy(), part["ts"].astype("int64").to_numpy() // 60_000_000]
        found = pd.Series(flagged[bad]).groupby(minute).any()
        return len(found), int(found.sum())


def networks(dataset: str, set_ups: int | None = None) -> Networks:
    """The captures that the lessons run on, and at most `set_ups` set-ups of each device by the two persons."""
    flows = iot23.load("small", dataset=dataset)
    listed = setups.listing(setups.locate(dataset).root)
    listed = listed[listed["person"].isin([TRAINED, TESTED])]
    if set_ups is not None:
        listed = listed.groupby(["folder", "person"]).head(set_ups)
    ours = setups.flows(listed)
    columns = [*dict.fromkeys([*COLUMNS, *(feature.source for feature in FLOW_FEATURES), "capture", "label"])]
    both = pd.concat(
        [frame[columns].astype({"ts": "datetime64[us, UTC]"}).astype(_plain(frame[columns])) for frame in (flows, ours)]
    )
    both = both.reset_index(drop=True)
    network = np.concatenate([flows["capture"].astype(str), ours["person"].astype(str)])
    attack = (both["label"] != BENIGN).to_numpy()
    return Networks(both, matrix(both, NAMES), attack, contradictions.contradictory(both), network)


def _plain(frame: pd.DataFrame) -> dict[str, str]:
    """Categories as objects: those of two frames differ, and do not join."""
    return dict.fromkeys(frame.select_dtypes("category").columns, "object")


# --- what is measured ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What a detector flags: of a capture left out, and of the set-ups of a person left out."""

    tpr: float
    fpr: float
    set_ups: float
    auc: float
    windows: int
    seen: int
    inner: float  # mean over captures with attacks of what the inner folds flagged there


def judged(n: Networks, left_out: str, make: Callable[[int], Hybrid], seed: int, choice: str) -> Found:
    """What a detector flags that learnt without this capture."""
    rows, group = n.training(left_out, choice)
    model = make(seed).fit(n.X[rows], n.attack[rows], group)
    flagged = model.held_out_ > 0
    bad = n.attack[rows]
    inner = mean(flagged[bad & (group == name)].mean() for name in np.unique(group[bad]))
    return flags(n, left_out, model.score_samples(n.X), inner)


def flags(n: Networks, left_out: str, scores: npt.NDArray[Any], inner: float = float("nan")) -> Found:
    """What scores (n,) of all rows flag where they lie above 0."""
    rows = np.flatnonzero(n.network == left_out)
    bad, flagged = n.attack[rows], scores[rows] > 0
    windows, seen = n.windows(rows, flagged)
    tpr = float(flagged[bad].mean()) if bad.any() else float("nan")
    set_ups = float((scores[n.network == TESTED] > 0).mean())
    return Found(tpr, float(flagged[~bad].mean()), set_ups, evaluation.auc(bad, scores[rows]), windows, seen, inner)


def chosen(n: Networks, left_out: str, choice: str) -> tuple[str, dict[str, Found]]:
    """The candidate that flags most in the inner folds without this capture, and what all of them find in it; one seed."""
    found = {name: judged(n, left_out, make, 0, choice) for name, make in CANDIDATES.items()}
    return max(found, key=lambda name: found[name].inner), found


# --- tables -------------------------------------------------------------------------------------------------------------


def share(values: Sequence[float]) -> str:
    """The mean of some shares over seeds with its interval, one value as it is, or a dash for what is not defined."""
    if np.isnan(values).any():
        return "-"
    return f"{values[0]:.3f}" if len(values) == 1 else str(evaluation.interval_over_seeds(list(values), bounds=(0, 1)))


def line(name: str, detector: str, found: Sequence[Found]) -> list[str]:
    """A row of the table of captures: means over seeds."""
    windows = f"{mean(f.seen for f in found):g} of {found[0].windows}" if found[0].windows else "-"
    return [name, detector, *(share([getattr(f, field) for f in found]) for field in ("tpr", "fpr", "set_ups", "auc")), windows]


HEADINGS = [
    "left out",
    "detector",
    "attacks flagged",
    "benign flagged",
    "set-ups flagged",
    "AUC",
    "minutes with an attack found",
]


def table_of_rules(n: Networks) -> str:
    """A line for each capture and one-line rule."""
    rows = []
    for rule, judge in RULES.items():
        scores = judge(n.flows).astype(float)
        rows += [line(name, rule, [flags(n, name, scores)]) for name in n.captures]
    return measure.table(HEADINGS, rows)


def table_of_candidates(found: Mapping[str, tuple[str, dict[str, Found]]]) -> str:
    """A line for each candidate, one seed: what it flags inside and outside; * marks what the inner folds chose."""
    rows = []
    for name, (best, all_found) in found.items():
        for candidate, f in all_found.items():
            figures = [f"{f.inner:.3f}", *("-" if np.isnan(v) else f"{v:.3f}" for v in (f.tpr, f.fpr, f.set_ups))]
            rows.append([name, candidate + (" *" if candidate == best else ""), *figures])
    return measure.table(["left out", "candidate", "inner folds: attacks flagged", *HEADINGS[2:5]], rows)


def verdicts(finals: Mapping[str, Sequence[Found]], attacked: Sequence[str]) -> str:
    """Whether the target is reached: attacks in the captures with the most, false alarms in those without and in set-ups."""
    tprs = {name: mean(f.tpr for f in finals[name]) for name in attacked}
    fprs = {name: mean(f.fpr for f in found) for name, found in finals.items() if np.isnan(found[0].tpr)}
    fprs["set-ups of " + TESTED] = mean(f.set_ups for found in finals.values() for f in found)
    told = [f"{name} {value:.3f} {'met' if value >= TPR_TARGET else 'missed'}" for name, value in tprs.items()]
    alarms = [f"{name} {value:.3f} {'met' if value <= FPR_TARGET else 'missed'}" for name, value in fprs.items()]
    return f"Target, attacks flagged >= {TPR_TARGET:g}: {', '.join(told)}; false alarms <= {FPR_TARGET:g}: {', '.join(alarms)}."


def run(seeds: int = SEEDS, dataset: str = "auto", set_ups: int | None = None) -> str:
    """The section for results/BENCHMARKS.md."""
    start = measure.cpu_seconds()
    source = iot23.locate(dataset)
    n = networks(source.name, set_ups)
    largest = sorted(n.captures, key=lambda name: -int(n.attack[n.network == name].sum()))[:2]
    inside = {name: chosen(n, name, "dropped") for name in n.captures}
    finals, given, together = {}, {}, {}
    for name, (best, found) in inside.items():
        more = [judged(n, name, CANDIDATES[best], seed, "dropped") for seed in range(1, seeds)]
        finals[name] = [found[best], *more]
        if best == "all three":
            together[name] = finals[name]
        else:
            together[name] = [found["all three"]] + [
                judged(n, name, CANDIDATES["all three"], s, "dropped") for s in range(1, seeds)
            ]
        given[name] = [judged(n, name, CANDIDATES[best], 0, "as given")]
    baselines = [
        line(name, what, [judged(n, name, make, seed, "dropped") for seed in range(seeds)])
        for name in n.captures
        for what, make in BASELINES.items()
    ]
    doubtful = ", ".join(
        f"{name}: {int(n.doubtful[n.network == name].sum())}" for name in n.captures if n.doubtful[n.network == name].any()
    )
    outer = [line(name, inside[name][0], found) for name, found in finals.items()]
    fixed = [line(name, "all three", found) for name, found in together.items()]
    parts = [
        f"## Detection in networks never seen\n\n{measure.origin(source)}",
        f"Learnt from the other captures and person {TRAINED}'s set-ups, contradictory flows dropped ({doubtful or 'none'}); "
        f"false alarms promised: {RATE:g}; {seeds} seeds. Benign and set-up flows flagged are false alarms.",
        measure.table(HEADINGS, outer),
        verdicts(finals, largest),
        "All three parts, whatever the inner folds say (nobody could have known beforehand how this compares):",
        measure.table(HEADINGS, fixed),
        verdicts(together, largest),
        "Baselines, which learn benign flows alone, over the same seeds:",
        measure.table(HEADINGS, baselines),
        "One-line rules, which learn nothing:",
        table_of_rules(n),
        "What the inner folds chose from (*), and what the others would have found:",
        table_of_candidates(inside),
        "The chosen detectors with labels as given, one seed:",
        measure.table(HEADINGS, [line(name, inside[name][0], found) for name, found in given.items()]),
        f"{measure.cpu_seconds() - start:.0f} CPU s.",
    ]
    return "\n\n".join(parts)
