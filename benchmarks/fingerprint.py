"""How well device types are recognised from the packets of their set-up, and how fast.

Real set-ups where `data.setups` finds them, simulated ones elsewhere; the heading says which. What may be chosen, the share of
the features that a tree looks at, is chosen by inner folds of each training part. The features themselves and the constants
of the score for unknown devices were developed on four fifths of the real set-ups, which the outer folds test again: a little
of that choice is in the figures.
"""

import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import StratifiedKFold

from benchmarks import measure
from fliot_lab import evaluation
from fliot_lab.data import setups
from fliot_lab.data.packets import PacketWarning
from fliot_lab.features.devices import matrix, packets
from fliot_lab.models.identification import UNKNOWN, DeviceIdentifier, NeuralIdentifier, rejection_curve

SEEDS, FOLDS, INNER, TRIAL_TREES = 3, 5, 3, 60
SHARES = (0.03, 0.1, 0.3)  # candidates: the root of the number of features, and more for features that mostly say nothing
EARLY, LEFT_OUT, DRAWS, PERSONS = 20, 5, 5, ("A", "C")
CHOSEN, PLAIN, NETWORK = "forest, share chosen inside", "ExtraTrees on plain statistics", "network"
TYPES, FAMILIES, FIRST = "types", "families of siblings", f"types, first {EARLY} packets"
TARGETS = {TYPES: 0.95, FAMILIES: 0.995, FIRST: 0.85, "A": 0.92, "C": 0.85}
AUROC_TARGET, READ_TARGET_S, LIVE_TARGET_MS = 0.95, 60.0, 50.0

Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[Any]
Answers = Callable[["Captures", Vector, Vector, int], Vector]  # (captures, training rows, test rows, seed) -> types


@dataclass(frozen=True)
class Captures:
    """Fingerprints of set-ups, one a row, and what is known of each."""

    X: Matrix  # (n, d)
    names: list[str]
    listed: pd.DataFrame  # as `setups.listing`

    @property
    def y(self) -> Vector:
        """The device types (n,)."""
        return self.listed["device_type"].to_numpy(str)

    @property
    def person(self) -> Vector:
        """Who set the device up (n,)."""
        return self.listed["person"].to_numpy(str)

    @property
    def family(self) -> dict[str, str]:
        """Type -> family of siblings."""
        return dict(zip(self.listed["device_type"], self.listed["family"], strict=True))


# --- models -------------------------------------------------------------------------------------------------------------


def folds(y: Vector, count: int, seed: int) -> Iterator[tuple[Vector, Vector]]:
    """(training, test) rows of folds in which each type has its share; a type of fewer rows than folds is in some alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield from StratifiedKFold(count, shuffle=True, random_state=seed).split(y, y)


def chosen_share(X: Matrix, y: Vector, seed: int) -> float:
    """The candidate of SHARES with the most right answers over inner folds of a training part (n, d); the smaller of equals."""
    right = dict.fromkeys(SHARES, 0)
    for train, test in folds(y, INNER, seed):
        for share in SHARES:
            model = DeviceIdentifier(seed=seed, trees=TRIAL_TREES, features=share, rejected=None).fit(X[train], y[train])
            right[share] += int((model.top(X[test]) == y[test]).sum())
    return max(SHARES, key=lambda share: (right[share], -share))


def forest(c: Captures, train: Vector, seed: int, rejected: float | None = None) -> DeviceIdentifier:
    """The identifier with the share of features that inner folds choose, fitted to the training rows."""
    X, y = c.X[train], c.y[train]
    return DeviceIdentifier(seed=seed, features=chosen_share(X, y, seed), rejected=rejected).fit(X, y)


def plain(c: Captures) -> list[int]:
    """The places of the plain statistics: counts, sizes and gaps, no message's content and no size of its own."""
    words = ("packets", "share", "bytes", "seconds", "sizes", "turns", "packet ")
    told = ("messages of", "dhcp", "tls", "http", "address", "begun")
    return [j for j, name in enumerate(c.names) if any(w in name for w in words) and not any(w in name for w in told)]


def by_plain(c: Captures, train: Vector, test: Vector, seed: int) -> Vector:
    """The answers (m,) of a forest of 300 trees as scikit-learn sets them, on plain statistics."""
    X = np.nan_to_num(c.X[:, plain(c)], nan=-1.0).astype(np.float32)
    return ExtraTreesClassifier(300, random_state=seed, n_jobs=1).fit(X[train], c.y[train]).predict(X[test])


def by_network(c: Captures, train: Vector, test: Vector, seed: int) -> Vector:
    """The answers (m,) of the network."""
    return NeuralIdentifier(seed=seed, rejected=None).fit(c.X[train], c.y[train]).top(c.X[test])


# --- what is measured ---------------------------------------------------------------------------------------------------


@dataclass
class Found:
    """What folds found: for each seed the share of right types and of right families; shares that were chosen; confusions."""

    types: list[float]
    families: list[float]
    shares: Counter[float]
    confused: Counter[tuple[str, str]]
    cpu_s: float


def over_folds(c: Captures, seeds: int, answers: Answers | None = None) -> Found:
    """Answers over FOLDS folds for each of so many seeds, of the forest unless others are given."""
    found, start = Found([], [], Counter(), Counter(), 0.0), measure.cpu_seconds()
    family = c.family
    for seed in range(seeds):
        types, families = np.empty(len(c.y), dtype=object), np.empty(len(c.y), dtype=object)
        for train, test in folds(c.y, FOLDS, seed):
            if answers is None:
                model = forest(c, train, seed)
                types[test], families[test] = model.top(c.X[test]), model.predict_family(c.X[test], family)
                found.shares[model.features] += 1
            else:
                types[test] = answers(c, train, test, seed)
                families[test] = [family[name] for name in types[test]]
        found.types.append(float((types == c.y).mean()))
        found.families.append(float((families == np.array([family[name] for name in c.y])).mean()))
        found.confused.update((true, told) for true, told in zip(c.y, types, strict=True) if true != told)
    found.cpu_s = measure.cpu_seconds() - start
    return found


def without_person(c: Captures, person: str, seeds: int) -> dict[str, list[float]]:
    """Model -> its accuracy on a person's set-ups, of types that the others set up as well, for each seed."""
    train = np.flatnonzero(c.person != person)
    test = np.flatnonzero((c.person == person) & np.isin(c.y, c.y[train]))
    found: dict[str, list[float]] = {CHOSEN: [], PLAIN: [], NETWORK: [], f"{CHOSEN}: families": []}
    for seed in range(seeds):
        model = forest(c, train, seed)
        answers = {CHOSEN: model.top(c.X[test])}
        answers |= {name: ask(c, train, test, seed) for name, ask in ((PLAIN, by_plain), (NETWORK, by_network))}
        for name, told in answers.items():
            found[name].append(float((told == c.y[test]).mean()))
        families = model.predict_family(c.X[test], c.family)
        found[f"{CHOSEN}: families"].append(float((families == c.listed["family"].to_numpy(str)[test]).mean()))
    return found


@dataclass(frozen=True)
class Strangers:
    """What one draw of types that are left out of training shows; means over folds of the known set-ups."""

    types: list[str]
    auroc: float
    lonely: float  # the same without types whose sibling is known; NaN where none is left
    rejected_known: float
    rejected_unknown: float
    half: float  # accuracy of the surer half of all answers


def left_out(c: Captures, draw: int, identifier: Callable[..., DeviceIdentifier | NeuralIdentifier]) -> Strangers:
    """Known against unknown where LEFT_OUT types, drawn with this number, are in no training fold."""
    types = np.unique(c.y)
    strange = np.isin(c.y, np.random.default_rng(draw).choice(types, LEFT_OUT, replace=False))
    known, unknown = np.flatnonzero(~strange), np.flatnonzero(strange)
    family = c.listed["family"].to_numpy(str)
    lonely = ~np.isin(family[unknown], family[known])
    rows = []
    for train, test in folds(c.y[known], FOLDS, draw):
        model = identifier(seed=draw).fit(c.X[known[train]], c.y[known[train]])
        asked = np.concatenate([known[test], unknown])
        score, is_known = model.known_score(c.X[asked]), ~strange[asked]
        rejected = model.predict(c.X[asked]) == UNKNOWN
        kept = np.concatenate([np.ones(len(test), dtype=bool), lonely])
        curve = rejection_curve(model.top(c.X[asked]) == c.y[asked], score)
        half = float(np.interp(0.5, curve["coverage"], curve["accuracy"]))
        aurocs = evaluation.auc(is_known, score), evaluation.auc(is_known[kept], score[kept])
        rows.append((*aurocs, rejected[is_known].mean(), rejected[~is_known].mean(), half))
    return Strangers(sorted(set(c.y[strange])), *pd.DataFrame(rows).mean().tolist())


# --- speed --------------------------------------------------------------------------------------------------------------


def fingerprints(listed: pd.DataFrame) -> tuple[Captures, Captures, float]:
    """(whole captures, their first EARLY packets, CPU seconds that reading and fingerprinting the whole ones took)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PacketWarning)
        start = measure.cpu_seconds()
        frames = [packets.read(path) for path in listed["path"]]
        X, names = matrix([packets.fingerprint(frame)[0] for frame in frames])
        spent = measure.cpu_seconds() - start
    early, _ = matrix([packets.fingerprint(frame, EARLY)[0] for frame in frames])
    return Captures(X, names, listed), Captures(early, names, listed), spent


def live_ms(c: Captures, repetitions: int = 20) -> tuple[float, float]:
    """Wall-clock milliseconds (median, most) from the packets of the capture of median length to an answer, once learnt."""
    model = DeviceIdentifier(seed=0).fit(c.X, c.y)
    sizes = [path.stat().st_size for path in c.listed["path"]]
    path = c.listed["path"].iloc[int(np.argsort(sizes, kind="stable")[len(sizes) // 2])]
    frame = packets.read(path)
    spent = []
    for _ in range(repetitions):
        start = time.perf_counter()
        model.predict(packets.fingerprint(frame)[0].values[None])
        spent.append(1000 * (time.perf_counter() - start))
    return statistics.median(spent), max(spent)


# --- tables -------------------------------------------------------------------------------------------------------------


def figure(values: Sequence[float]) -> str:
    """The mean over seeds with its interval."""
    return str(evaluation.interval_over_seeds(list(values), bounds=(0, 1)))


def decimals(value: float) -> str:
    """Three decimals, or a dash for what could not be measured."""
    return "-" if np.isnan(value) else f"{value:.3f}"


def met(value: float, target: float) -> str:
    """Whether a figure reaches its target."""
    return f"{target:g} {'met' if value >= target else 'missed'}"


def table_of_folds(found: dict[tuple[str, str], Found], real: bool) -> str:
    """A line for each model on each stretch of the captures."""
    rows = []
    for (stretch, model), f in found.items():
        types, families = statistics.mean(f.types), statistics.mean(f.families)
        goals = [met(types, TARGETS[stretch])] + ([met(families, TARGETS[FAMILIES])] if stretch == TYPES else [])
        target = "; ".join(goals) if real and model == CHOSEN else ""
        chosen = ", ".join(f"{share:g}: {count}" for share, count in sorted(f.shares.items())) or "-"
        rows.append([stretch, model, figure(f.types), figure(f.families), target, chosen, f"{f.cpu_s:.0f}"])
    return measure.table(["", "model", "accuracy", FAMILIES, "target", "chosen in folds", "CPU s"], rows)


def table_of_persons(found: dict[str, dict[str, list[float]]], rows_of: dict[str, int], real: bool) -> str:
    """A line for each person who is left out, a column for each model."""
    rows = []
    for person, models in found.items():
        target = met(statistics.mean(models[CHOSEN]), TARGETS[person]) if real else ""
        rows.append([person, f"{rows_of[person]}", *(f"{statistics.mean(v):.3f}" for v in models.values()), target])
    return measure.table(["left out", "set-ups", *next(iter(found.values())), "target"], rows)


def table_of_strangers(found: dict[str, list[Strangers]], real: bool) -> str:
    """A line for each draw and model, and one for the mean of each model."""
    columns = ["draw", "types left out", "AUROC", "no sibling known", "known rejected", "unknown rejected", "surer half right"]
    rows = []
    for model, draws in found.items():
        numbers = pd.DataFrame([(s.auroc, s.lonely, s.rejected_known, s.rejected_unknown, s.half) for s in draws])
        for draw, s in enumerate(draws):
            rows.append([f"{draw}, {model}", ", ".join(s.types), *map(decimals, numbers.iloc[draw]), ""])
        target = met(numbers[0].mean(), AUROC_TARGET) if real and model == "forest" else ""
        rows.append([f"mean, {model}", "", *map(decimals, numbers.mean()), target])
    return measure.table([*columns, "target"], rows)


def run(seeds: int = SEEDS, draws: int = DRAWS, set_ups: int | None = None, dataset: str = "auto") -> str:
    """The section for results/BENCHMARKS.md; at most `set_ups` set-ups of each folder."""
    start = measure.cpu_seconds()
    source = setups.locate(dataset)
    listed = setups.listing(source.root)
    if set_ups is not None:
        listed = listed.sample(frac=1, random_state=0).groupby("folder").head(set_ups).sort_index().reset_index(drop=True)
    whole, early, spent = fingerprints(listed)
    found = {(TYPES, CHOSEN): over_folds(whole, seeds)}
    found |= {(TYPES, name): over_folds(whole, seeds, ask) for name, ask in ((PLAIN, by_plain), (NETWORK, by_network))}
    found |= {(FIRST, CHOSEN): over_folds(early, seeds), (FIRST, PLAIN): over_folds(early, seeds, by_plain)}
    persons = {person: without_person(whole, person, seeds) for person in PERSONS}
    others = {p: whole.y[whole.person != p] for p in PERSONS}
    rows_of = {p: int(((whole.person == p) & np.isin(whole.y, others[p])).sum()) for p in PERSONS}
    strangers = {
        "forest": [left_out(whole, draw, DeviceIdentifier) for draw in range(draws)],
        NETWORK: [left_out(whole, draw, NeuralIdentifier) for draw in range(draws)],
    }
    median, most = live_ms(whole)
    thousand = 1000 * spent / len(listed)
    speed = [
        [
            "1,000 set-ups, read and fingerprinted",
            f"{thousand:.1f} CPU s",
            f"< {READ_TARGET_S:g}",
            yes(thousand < READ_TARGET_S),
        ],
        ["a live answer, median", f"{median:.1f} ms", f"< {LIVE_TARGET_MS:g}", yes(median < LIVE_TARGET_MS)],
        ["a live answer, most", f"{most:.1f} ms", "", ""],
    ]
    confused = [
        [f"{true} taken for {told}", f"{n / seeds:.1f}"] for (true, told), n in found[TYPES, CHOSEN].confused.most_common(8)
    ]
    kind = "SIMULATED set-ups" if source.simulated else f"real set-ups, {setups.CITATION}"
    return f"""## Device fingerprints from packets ({kind}: {len(listed)} of {len(set(whole.y))} types)

{table_of_folds(found, not source.simulated)}

Stratified {FOLDS}-fold by set-up, {seeds} seeds: mean with its interval. Chosen in folds: how often inner {INNER}-fold
cross-validation of the training part chose which share of the {len(whole.names):,} features for a tree to look at. Plain: no
sizes of single messages and nothing that messages hold, {len(plain(whole))} features.
The features were developed on four fifths of the real set-ups, so a little of that choice is in these figures.

{measure.table(["confused, forest, whole captures", "times a seed"], confused)}

{table_of_persons(persons, rows_of, not source.simulated)}

One person's set-ups tested by what the others taught, types that the others set up as well; mean of {seeds} seeds.

{table_of_strangers(strangers, not source.simulated)}

{LEFT_OUT} types in no training fold, mean over {FOLDS} folds of the others. No sibling known: AUROC without those types left
out that have a sibling in training. Surer half right: accuracy where only the better-scored half of all is answered.

{measure.table(["speed", "measured", "target", "met"], speed)}

The live answer is from packets in memory to type or unknown, with a model that has learnt. All of this took
{measure.cpu_seconds() - start:.0f} CPU s."""


def yes(kept: bool) -> str:
    """Yes or no."""
    return "yes" if kept else "no"
