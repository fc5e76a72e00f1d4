"""How well boards, programs and whole devices are recognised by their hardware and their system calls, by honest protocols.

Real records where `data.hardware` finds all of them, simulated ones elsewhere; each heading says which. Models, features and
lengths are fixed here before anything is measured, or chosen on the part of the training data that a table names.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks import measure
from fliot_lab import evaluation
from fliot_lab.data import hardware
from fliot_lab.data.sample.programs import NORMAL
from fliot_lab.data.sample.things import BY_NAME
from fliot_lab.features.devices import CHANNELS, Fingerprint, calls, fuse, hosts, matrix

Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[Any]
TREES, SEEDS = 100, 3
LENGTHS = (1, 10)  # consecutive measurements that are one observation of a board
RANDOM, CHRONOLOGICAL = "random", "by time"
USED = 60  # rows of telemetry in a fingerprint of a board in use: some seven minutes
RESAMPLES = 200
COMPONENTS = 20


def trees(seed: int, least: int = 1) -> ExtraTreesClassifier:
    """A forest that has seen nothing yet."""
    return ExtraTreesClassifier(TREES, min_samples_leaf=least, random_state=seed, n_jobs=1)


# --- boards by their clocks ---------------------------------------------------------------------------------------------

#: What one of is chosen, on the part before the test, for each length and each set of features.
CANDIDATES: dict[str, Callable[[int], Any]] = {
    "trees": trees,
    "blunt trees": lambda seed: trees(seed, 5),
    "naive Bayes": lambda seed: make_pipeline(StandardScaler(), GaussianNB()),
    "discriminant": lambda seed: make_pipeline(StandardScaler(), LinearDiscriminantAnalysis()),
    "neighbours": lambda seed: make_pipeline(StandardScaler(), KNeighborsClassifier(15)),
}


def observed(rows: pd.DataFrame, length: int) -> tuple[pd.DataFrame, Matrix, Matrix]:
    """(board, kind and `when` from 0 to 1, features of the cycles, mean temperature) of each `length` measurements in a row."""
    keys, clocks, warmths = [], [], []
    for (board, kind), own in rows.sort_values("turn").groupby(["board", "kind"]):
        n = len(own) // length
        cycles, heat = (own[name].to_numpy()[: n * length].reshape(n, length) for name in ("cycles", "temperature_c"))
        spread = [*np.quantile(cycles, [0.1, 0.25, 0.75, 0.9], axis=1), cycles.mean(1), cycles.std(1)] if length > 1 else []
        keys.append(pd.DataFrame({"board": board, "kind": kind, "when": np.arange(n) / n}))
        clocks.append(np.column_stack([np.median(cycles, axis=1), *spread]))
        warmths.append(heat.mean(1, keepdims=True))
    return pd.concat(keys, ignore_index=True), np.concatenate(clocks), np.concatenate(warmths)


def named(make: Callable[[int], Any], seed: int, X: Matrix, keys: pd.DataFrame, train: Vector, test: Vector) -> Vector:
    """The boards that are answered for the rows `test`, by a model for each kind: which kind it is, the cycles say at once."""
    answers = np.empty(int(test.sum()), dtype=object)
    kind, board = keys["kind"].to_numpy(object), keys["board"].to_numpy(object)
    for each in pd.unique(kind):
        asked = kind[test] == each
        if asked.any():
            model = make(seed).fit(X[train & (kind == each)], board[train & (kind == each)])
            answers[asked] = model.predict(X[test & (kind == each)])
    return answers


def parts(keys: pd.DataFrame, split: str, seed: int) -> tuple[Vector, Vector, Vector]:
    """Which rows train, which choose, which test: half, a quarter, a quarter of each board's, by time or at random."""
    place = keys["when"].to_numpy() if split == CHRONOLOGICAL else np.random.default_rng(seed).random(len(keys))
    return place < 0.5, (place >= 0.5) & (place < 0.75), place >= 0.75


def recognised(X: Matrix, keys: pd.DataFrame, split: str) -> tuple[pd.DataFrame, float, str]:
    """(board, kind and share of seeds that were right for each test row, accuracy where the choice was made, what was chosen).

    The chosen candidate is fitted again to both parts before the test. With more than one seed the commonest choice is named.
    """
    board, found, chosen, validated = keys["board"].to_numpy(object), [], [], []
    for seed in range(SEEDS):
        train, choose, test = parts(keys, split, seed)
        scores = {
            name: float((named(make, seed, X, keys, train, choose) == board[choose]).mean())
            for name, make in CANDIDATES.items()
        }
        chosen.append(max(scores, key=scores.__getitem__))
        validated.append(scores[chosen[-1]])
        right = named(CANDIDATES[chosen[-1]], seed, X, keys, train | choose, test) == board[test]
        found.append(keys.loc[test, ["board", "kind"]].assign(right=right.astype(float)))
    return pd.concat(found, ignore_index=True), float(np.mean(validated)), max(chosen, key=chosen.count)


def clocks_table(rows: pd.DataFrame) -> str:
    """Accuracy of naming the board, for each length, features and split, with intervals over boards."""
    lines = []
    kinds = sorted(rows["kind"].unique())
    for length in LENGTHS:
        keys, clock, warmth = observed(rows, length)
        for name, X in (("cycles", clock), ("cycles, temperature", np.c_[clock, warmth])):
            for split in (RANDOM, CHRONOLOGICAL):
                found, validated, chosen = recognised(X, keys, split)
                own = found.groupby("kind")["right"].mean()
                of_kinds = [f"{own[kind]:.3f}" for kind in kinds] if len(kinds) > 1 else []
                value = evaluation.bootstrap(np.mean, found["right"], groups=found["board"], n=1000, seed=0)
                lines.append([str(length), name, split, str(value), *of_kinds, f"{validated:.3f}", chosen])
    of_kinds = [f"within {kind}" for kind in kinds] if len(kinds) > 1 else []
    return measure.table(["length", "features", "split", "accuracy", *of_kinds, "where chosen", "chosen"], lines)


def clocks(source: hardware.Source, identical: bool) -> str:
    """The part on single boards: of several kinds, or of one."""
    rows = hardware.boards(source, identical=identical)
    sizes = rows.groupby("kind")["board"].nunique()
    many = f"{sizes.sum()} boards of {len(sizes)} kinds" if not identical else f"{sizes.sum()} identical boards"
    return f"""### {many} by the cycles of one task, {len(rows) // int(sizes.sum()):,} measurements each

{clocks_table(rows)}

Who knows the kind alone is right in {len(sizes) / sizes.sum():.3f}. Length: consecutive measurements in one observation. By
time: half of each board's trains, the next quarter chooses among {len(CANDIDATES)} models, the chosen one learns both, the last
quarter tests. Where chosen: accuracy in the quarter of the choice, before the chosen one learnt it. Interval: over boards. The
temperature is of the place where a board lay, and of how long it has run: it helps as long as neither changes."""


# --- boards in use ------------------------------------------------------------------------------------------------------


def in_use(source: hardware.Source) -> str:
    """The part on boards in use, by run."""
    runs = [(key, hosts.fingerprint(hosts.read(frame), USED), frame) for key, frame in hardware.usage(source).items()]
    X, names = matrix([fingerprint for _, found, _ in runs for fingerprint in found])
    device, run = (np.array([key[place] for key, found, _ in runs for _ in found], dtype=object) for place in (0, 1))
    size = np.array([frame["memory_total_mb"].iloc[0] for _, found, frame in runs for _ in found])
    run = device + "/" + run
    first = np.array([name.split(":")[0] for name in names])
    base = ~np.isin(first, ["memory", "temperature"])
    sets = {
        "load, processes, traffic, disk": X[:, base],
        "the same, and how temperature moves": X[:, base | (first == "temperature")],
        "the same, and how memory moves": X,
        "the same, and the size of the memory": np.c_[X, size],
    }
    lines = [[name, str(part.shape[1]), *map(str, by_run(part, device, run))] for name, part in sets.items()]
    devices, most = pd.Series(device).value_counts(), len(set(device))
    return f"""### {most} boards in use, {len(runs)} runs, {len(X)} windows of {USED} rows

{measure.table(["features", "numbers", "accuracy by window", "accuracy by run"], lines)}

Five folds of whole runs, {SEEDS} seeds (interval: over seeds), {TREES} trees, nothing chosen; a run's answer is that of most of
its windows. Always the commonest board: {devices.iloc[0] / len(X):.3f}. {"" if source.simulated else REAL_BOARDS}""".rstrip()


REAL_BOARDS = """The three boards differ in memory (2, 4, 8 GB) and run
at clocks that were set for them (600, 1,000, 1,500 MHz), so that one load is another share of each: this tells settings apart
as much as boards. The temperature was not recorded in 18 runs."""


def by_run(X: Matrix, device: Vector, run: Vector) -> tuple[evaluation.Interval, evaluation.Interval]:
    """Accuracy of naming the device of a window, and of a run by most of its windows, in folds of whole runs."""
    windows, whole = [], []
    for seed in range(SEEDS):
        answers = np.empty(len(device), dtype=object)
        for train, test in StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(X, device, run):
            answers[test] = trees(seed).fit(X[train], device[train]).predict(X[test])
        found = pd.DataFrame({"run": run, "device": device, "answer": answers})
        windows.append(float((found["device"] == found["answer"]).mean()))
        voted = found.groupby("run").agg(device=("device", "first"), answer=("answer", lambda votes: votes.mode()[0]))
        whole.append(float((voted["device"] == voted["answer"]).mean()))
    return tuple(evaluation.interval_over_seeds(values, bounds=(0, 1)) for values in (windows, whole))  # type: ignore[return-value]


# --- system calls -------------------------------------------------------------------------------------------------------


def programs(source: hardware.Source) -> str:
    """The part on attacks in traces of system calls."""
    found = hardware.traces(source)
    frames = [calls.read(each) for each in found["calls"]]
    X = np.nan_to_num(matrix([calls.fingerprint(frame)[0] for frame in frames])[0])
    part, kind, run = (found[name].to_numpy(object) for name in ("part", "kind", "run"))
    training, kinds = part == hardware.TRAINING, sorted(set(found["kind"]) - {NORMAL})
    scores: dict[str, Vector] = {
        "unfamiliar 6-grams": calls.unfamiliar(frames, [frame for frame, own in zip(frames, training, strict=True) if own]),
        "nearest": nearest(X, training),
        "components": rebuilt(X, training),
        "trees, kind known": supervised(X, training, kind != NORMAL, run),
    }
    lines = []
    for attack in kinds:
        asked = (part == hardware.VALIDATION) | (kind == attack)
        own = [score[asked] for score in scores.values()]
        own.append(judged(X, training, (kind != NORMAL) & (kind != attack), asked))
        figures = [area(kind[asked] == attack, score, run[asked]) for score in own]
        lines.append([attack, f"{(kind == attack).sum()}", *figures])
    heads = ["attack", "traces", *scores, "trees, kind new"]
    normal = int(training.sum()), int((part == hardware.VALIDATION).sum())
    return f"""### System calls: {len(kinds)} attacks against normal, AUC by trace

{measure.table(heads, lines)}

Learnt on {normal[0]:,} normal traces, tested on {normal[1]:,} others and on the attacks (the parts of Creech and Hu 2013).
Interval: over runs, {RESAMPLES} resamples. The first three columns have seen no attack: the share of 6-grams that training
lacks, the distance to the nearest training trace, what {COMPONENTS} principal components do not rebuild (both of the square
roots of the fingerprint's shares). Trees have: of every kind, in runs other than those that are tested (two folds), or of the
other kinds only. Nothing is chosen."""


def nearest(X: Matrix, training: Vector) -> Vector:
    """Hellinger's distance of each row to the nearest training row; of a training row that is itself, and no test."""
    return NearestNeighbors(n_neighbors=1).fit(np.sqrt(X[training])).kneighbors(np.sqrt(X))[0][:, 0]


def rebuilt(X: Matrix, training: Vector) -> Vector:
    """What COMPONENTS principal components of the training rows do not rebuild of each row."""
    components = PCA(COMPONENTS, random_state=0).fit(np.sqrt(X[training]))
    return ((np.sqrt(X) - components.inverse_transform(components.transform(np.sqrt(X)))) ** 2).sum(1)


def supervised(X: Matrix, training: Vector, attacks: Vector, run: Vector) -> Vector:
    """Scores of all rows but the training ones, by trees that learnt those and the attacks in the other half of the runs."""
    scores = np.zeros(len(X))
    runs = np.random.default_rng(0).permutation(pd.unique(run[~training]))
    for half in (runs[::2], runs[1::2]):
        asked = ~training & np.isin(run, half)
        scores[asked] = judged(X, training, attacks & ~asked, asked)
    return scores


def judged(X: Matrix, normal: Vector, attacks: Vector, asked: Vector) -> Vector:
    """Scores of the rows `asked` by trees that learnt the rows `normal` and `attacks`."""
    model = trees(0).fit(X[normal | attacks], attacks[normal | attacks])
    return model.predict_proba(X[asked])[:, 1]


def area(attack: Vector, scores: Vector, run: Vector) -> str:
    """AUC with its interval over runs, short."""
    found = evaluation.bootstrap(evaluation.auc, attack, scores, groups=run, n=RESAMPLES, seed=0)
    return f"{found.value:.3f} [{found.low:.2f}, {found.high:.2f}]"


# --- all channels of simulated devices ----------------------------------------------------------------------------------


def fingerprints(seed: int, device: str, run: int) -> list[Fingerprint]:
    """The fingerprints of one simulated device in one run, one for each channel."""
    found: list[Fingerprint] = []
    for name, source in hardware.observations(seed, device, run).items():
        frame = CHANNELS[name].read(source)
        found += hosts.fingerprint(frame, len(frame)) if name == hosts.CHANNEL else CHANNELS[name].fingerprint(frame)
    return found


def fusion(seed: int, runs: int, devices: Iterable[str] = tuple(BY_NAME)) -> dict[str, list[float]]:
    """Channel, or "fused" -> accuracy of naming the simulated device in five folds by run, one for each seed."""
    keys = [(device, run) for device in devices for run in range(runs)]
    taken = [fingerprints(seed, *key) for key in keys]
    X = {one.channel: matrix([own[place] for own in taken])[0] for place, one in enumerate(taken[0])}
    X["fused"] = matrix([fuse(own) for own in taken])[0]
    device = np.array([key[0] for key in keys], dtype=object)
    return {name: accuracies(part, device) for name, part in X.items()}


def accuracies(X: Matrix, device: Vector) -> list[float]:
    """Accuracy in stratified folds, one for each seed."""
    found = []
    for seed in range(SEEDS):
        right = []
        for train, test in StratifiedKFold(5, shuffle=True, random_state=seed).split(X, device):
            right.append(trees(seed).fit(X[train], device[train]).predict(X[test]) == device[test])
        found.append(float(np.concatenate(right).mean()))
    return found


def fused(seed: int, runs: int) -> str:
    """The part on fusion."""
    found = {name: evaluation.interval_over_seeds(values, bounds=(0, 1)) for name, values in fusion(seed, runs).items()}
    return f"""### SIMULATED devices by every channel, {len(BY_NAME)} types, {runs} runs each

{measure.table(["channel", "accuracy"], [[name, str(value)] for name, value in found.items()])}

Each run is another set-up, another board in another room ({hardware.HOURS:g} h of telemetry), another trace. Five stratified
folds by run, {SEEDS} seeds (interval: over seeds), {TREES} trees, nothing chosen."""


def run(seed: int = 7, runs: int = 20, dataset: str = "auto") -> str:
    """The section for results/BENCHMARKS.md, with its CPU seconds."""
    start, source = measure.cpu_seconds(), hardware.locate(dataset, seed=seed)
    sections = [clocks(source, False), clocks(source, True), in_use(source), programs(source), fused(seed, runs)]
    title = f"## Hardware and system calls{' (SIMULATED)' if source.simulated else ''}"
    origin = source.banner if source.simulated else f"Real: {'; '.join(hardware.CITATIONS)}."
    return "\n\n".join([title, origin, *sections, f"All of it took {measure.cpu_seconds() - start:.0f} CPU s."])
