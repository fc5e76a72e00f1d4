"""What a federation costs: local training by engine and number of clients, a mixing step, memory, and two processes.

The work is the same for all: clients of 200 rows, 24 inputs, 5 classes, a network of two hidden layers of 128, one local epoch
in batches of 32. `python -m benchmarks.federation` prints the section alone; `--install-rivals` first makes the environments
that the other libraries run in, under build/.
"""

import argparse
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor, nn

from benchmarks import measure
from benchmarks.__main__ import calibration, description
from fliot_lab import ROOT
from fliot_lab.federation import exchange, topology
from fliot_lab.federation.simulation import Federation
from fliot_lab.models import batched

INPUTS, WIDTH, CLASSES, ROWS, SEED = 24, 128, 5, 200, 0
HOW = batched.SGD(epochs=1, batch_size=32, learning_rate=0.05)
SIZES = (10, 100, 1_000, 10_000)
NODES, PAIRED, NEIGHBOURS = 10_000, 1_000, 4

RATE_TARGET, FLUKE_TARGET, FLAT_TARGET = 800, 10, 1.3  # from LARGE clients on
LARGE = 100
MIX_TARGET, GB_TARGET, PROCESSES_TARGET = 2.5, 2.2, 1.7
CLOSE = 1e-5  # how far the parameters of two engines may lie apart, by rounding
LEAST_S = 0.5  # CPU seconds that a figure comes from
LIMIT_S = 120  # for one run of a rival

Rates = dict[int, float]  # client-epochs per CPU second by number of clients


# --- the work -----------------------------------------------------------------------------------------------------------


def network() -> nn.Sequential:
    """The network that all train: 20,357 parameters."""
    return nn.Sequential(
        nn.Linear(INPUTS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, CLASSES)
    )  # fmt: skip


class Unknown(nn.Module):
    """The same network as a module that `batched.train` has no gradients by hand for."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = network()

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def flop() -> int:
    """Operations of an epoch of one client: products forward, for the weights, and back through all layers but the first."""
    first, *others = [m.weight.numel() for m in network() if isinstance(m, nn.Linear)]
    return ROWS * 2 * (2 * first + 3 * sum(others))


def clients(count: int) -> batched.Clients:
    """So many clients of ROWS rows each."""
    generator = torch.Generator().manual_seed(SEED)
    X = torch.randn(count * ROWS, INPUTS, generator=generator)
    y = torch.randint(0, CLASSES, (count * ROWS,), generator=generator)
    return batched.Clients(X, y, np.arange(count + 1) * ROWS)


def some(everyone: batched.Clients, count: int) -> batched.Clients:
    """The first `count` of them, not copied."""
    return batched.Clients(everyone.X[: count * ROWS], everyone.y[: count * ROWS], everyone.starts[: count + 1])


def start(count: int) -> Tensor:
    """Parameters (count, P) that all begin with."""
    torch.manual_seed(SEED)
    return batched.vector(network()).expand(count, -1).clone()


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch and for NumPy's products: threads that wait for work burn CPU seconds."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


# --- engines of this process --------------------------------------------------------------------------------------------


def by_hand(parameters: Tensor, clients: batched.Clients) -> None:
    """Trains a row of `parameters` (K, P) for each client in NumPy, the gradients written out; the batches of `batched`."""
    draws = np.random.default_rng(SEED).integers(2**63, size=len(clients))
    shapes = [tuple(parameter.shape) for parameter in network().parameters()]
    ends = np.cumsum([np.prod(shape) for shape in shapes])[:-1]
    for client, row in enumerate(parameters.numpy()):
        V, a, W, b, U, c = (part.reshape(shape) for part, shape in zip(np.split(row, ends), shapes, strict=True))  # views
        for X, y in shuffled(clients, client, int(draws[client])):
            first = np.maximum(X @ V.T + a, 0)  # (B, 128)
            second = np.maximum(first @ W.T + b, 0)  # (B, 128)
            outputs = second @ U.T + c  # (B, 5)
            chances = np.exp(outputs - outputs.max(axis=1, keepdims=True))
            slope = chances / chances.sum(axis=1, keepdims=True)
            slope[np.arange(len(y)), y] -= 1
            slope /= len(y)
            slope_2 = (slope @ U) * (second > 0)
            slope_1 = (slope_2 @ W) * (first > 0)
            for weight, bias, error, signal in ((U, c, slope, second), (W, b, slope_2, first), (V, a, slope_1, X)):
                weight -= HOW.learning_rate * (error.T @ signal)
                bias -= HOW.learning_rate * error.sum(axis=0)


def shuffled(clients: batched.Clients, client: int, draw: int) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Rows and classes of one client in batches, in the order that `batched.train_loop` takes them."""
    X, y = (part.numpy() for part in clients.rows(client))
    order = torch.randperm(len(X), generator=torch.Generator().manual_seed(draw)).numpy()
    for begin in range(0, len(X), HOW.batch_size):
        batch = order[begin : begin + HOW.batch_size]
        yield X[batch], y[batch]


Train = Callable[[Tensor, batched.Clients], object]


@dataclass(frozen=True)
class Engine:
    """A way to train, and the most clients that it is measured with, so that a run ends within 20 seconds or so."""

    name: str
    train: Train
    most: int


OURS = "ours"
KNOWN, UNKNOWN = network(), Unknown()
ENGINES = (
    Engine("plain loop", lambda P, some: batched.train_loop(KNOWN, P, some, HOW, seed=SEED), 1_000),
    Engine("NumPy by hand per client", by_hand, 10_000),
    Engine("torch.func.vmap", lambda P, some: batched.train(UNKNOWN, P, some, HOW, seed=SEED), 10_000),
    Engine(OURS, lambda P, some: batched.train(KNOWN, P, some, HOW, seed=SEED), 10_000),
)


def epochs(train: Train, these: batched.Clients) -> float:
    """Client-epochs that `train` really does: the rows that it takes in batches, each counted, divided by those of a client."""
    rows = 0

    def count(many: int) -> None:
        nonlocal rows
        rows += many

    def counting(make: Callable[..., Any], many: Callable[[Any], int]) -> Callable[..., Any]:
        def batches(*arguments: Any) -> Iterator[Any]:
            for batch in make(*arguments):
                count(many(batch))
                yield batch

        return batches

    with ExitStack() as stack:
        # Each engine passes one of these three: rows that fill a batch up have no weight.
        of_stacks = counting(batched._batches, lambda batch: int((batch[2] > 0).sum()))
        stack.enter_context(mock.patch.object(batched, "_batches", of_stacks))
        of_hand = counting(shuffled, lambda batch: len(batch[0]))
        stack.enter_context(mock.patch.object(sys.modules[__name__], "shuffled", of_hand))
        plain = KNOWN.forward

        def forward(rows: Tensor) -> Tensor:
            count(len(rows))
            return plain(rows)

        stack.enter_context(mock.patch.object(KNOWN, "forward", forward))  # no hook: it would make a plain chain another thing
        train(start(len(these)), these)
    return rows / ROWS


def check(engines: Sequence[Engine], these: batched.Clients) -> None:
    """Raises ValueError unless all engines make the same of the same clients."""
    expected = start(len(these))
    batched.train_loop(KNOWN, expected, these, HOW, seed=SEED)
    for engine in engines:
        found = start(len(these))
        engine.train(found, these)
        if (apart := float((found - expected).abs().max())) > CLOSE:
            raise ValueError(f"{engine.name} ends {apart:.2g} away from the plain loop, expected up to {CLOSE:g}")


def rates_of(engine: Engine, everyone: batched.Clients, done: Mapping[int, float]) -> Rates:
    """Client-epochs per CPU second for each number of clients in `done`, which says how many epochs a run does."""
    rates = {}
    for size, count in done.items():
        these, P = some(everyone, size), start(size)
        gc.collect()
        times, spent, before = 0, 0.0, measure.cpu_seconds()
        while spent < LEAST_S:
            engine.train(P, these)
            times, spent = times + 1, measure.cpu_seconds() - before
        rates[size] = times * count / spent
    return rates


# --- rivals, each in an environment of its own --------------------------------------------------------------------------


@dataclass(frozen=True)
class Rival:
    """Another library: its script in benchmarks/rivals, its environment in build/, and the rounds by number of clients."""

    name: str
    script: str
    home: str
    rounds: Mapping[int, int]

    @property
    def python(self) -> Path:
        """The interpreter that it is installed for."""
        return ROOT / "build" / self.home / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


# What each environment holds besides torch. p2pfl 0.4.4 asks for an old NumPy, datasets and torchvision, and names neither what
# goes with these nor all that it imports.
HOMES = {
    "rivals": ("fluke-fl==0.8.1", "gossipy-dfl==0.0.1"),
    "rivals-p2pfl": ("p2pfl[dp]==0.4.4", "lightning==2.5.0", "torchvision", "pyarrow<18", "huggingface-hub<1"),
}
FLUKE = "fluke, FedAvg"
RIVALS = (
    Rival("p2pfl, memory protocol", "p2pfl_memory.py", "rivals-p2pfl", {10: 2}),
    Rival(FLUKE, "fluke_fedavg.py", "rivals", {10: 20, 100: 2, 1_000: 1}),
    Rival("fluke, gossip", "fluke_gossip.py", "rivals", {10: 20, 100: 2, 1_000: 1}),
    Rival("gossipy, push", "gossipy_push.py", "rivals", {10: 20, 100: 2, 1_000: 1}),
)
SILENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "WANDB_MODE": "disabled",
    "HF_HUB_OFFLINE": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def install() -> None:
    """Makes the rivals' environments with pip: the torch of this environment, and what HOMES names."""
    torch_version = metadata.version("torch").partition("+")[0]
    for home, wanted in HOMES.items():
        venv.create(ROOT / "build" / home, clear=True, with_pip=True)
        python = next(rival.python for rival in RIVALS if rival.home == home)
        subprocess.run([python, "-m", "pip", "install", "--quiet", f"torch=={torch_version}", *wanted], check=True)


def rates_of_rival(rival: Rival, sizes: Sequence[int], versions: set[str]) -> Rates:
    """What its script says of the sizes that it is measured with, of epochs that it counted; its version goes to `versions`."""
    chosen = [f"{size}:{rounds}" for size, rounds in rival.rounds.items() if size in sizes]
    script = Path(__file__).parent / "rivals" / rival.script
    with tempfile.TemporaryDirectory() as folder:  # some write logs where they are run
        answer = subprocess.run(
            [rival.python, script, *chosen],
            cwd=folder,
            env=os.environ | SILENT,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=True,
        )
    told = [json.loads(line) for line in answer.stdout.splitlines() if line.startswith('{"clients"')]
    versions.update(line["version"] for line in told)
    return {line["clients"]: line["client_epochs"] / line["cpu_seconds"] for line in told}


def absent(rivals: Sequence[Rival]) -> dict[str, str]:
    """Why each of these is not measured, by name; those that are installed are not in it."""
    how = "not installed: python -m benchmarks.federation --install-rivals"
    return {rival.name: how for rival in rivals if not rival.python.is_file()}


# --- what is measured ---------------------------------------------------------------------------------------------------


@dataclass
class Speeds:
    """Median rates by engine and number of clients, how far repetitions lay apart, and what is not there and why."""

    rates: dict[str, Rates]
    apart: float
    versions: set[str]
    missing: dict[str, str]


def speeds(sizes: Sequence[int], repetitions: int, rivals: Sequence[Rival] = RIVALS) -> Speeds:
    """All engines and rivals in turn, in an order of its own in each repetition; the epochs are counted before."""
    everyone = clients(max(sizes))
    check(ENGINES, some(everyone, min(sizes)))
    missing, versions = absent(rivals), set[str]()
    units: dict[str, Callable[[], Rates]] = {}
    for engine in ENGINES:  # the run that is counted warms up, too
        done = {size: epochs(engine.train, some(everyone, size)) for size in sizes if size <= engine.most}
        units[engine.name] = partial(rates_of, engine, everyone, done)
    for rival in rivals:
        if rival.name not in missing and set(sizes) & set(rival.rounds):
            units[rival.name] = partial(rates_of_rival, rival, sizes, versions)
    found: dict[str, list[Rates]] = {name: [] for name in units}
    orders = random.Random(SEED)
    for _ in range(repetitions):
        for name in orders.sample(list(units), len(units)):
            try:
                if name not in missing:
                    found[name].append(units[name]())
            except subprocess.SubprocessError as error:
                said = (getattr(error, "stderr", None) or str(error)).strip()
                missing[name] = f"failed: {said.splitlines()[-1]}"
    kept = {name: runs for name, runs in found.items() if name not in missing}
    rates = {name: {K: statistics.median(run[K] for run in runs) for K in runs[0]} for name, runs in kept.items()}
    apart = max(max(run[K] for run in runs) / min(run[K] for run in runs) for runs in kept.values() for K in runs[0])
    return Speeds(rates, apart, versions, missing)


def mixing(nodes: int, repetitions: int) -> dict[str, list[float]]:
    """CPU seconds of a mixing step of all parameters (nodes, P) on a torus and on a random graph; first of a copy of them."""
    first = start(1)
    P = exchange.matrix(nodes, first.shape[1], first).copy_(first)  # laid out as a Federation's
    target = np.empty(P.shape, dtype=np.float32)
    graphs = topology.torus(nodes), topology.random_regular(nodes, NEIGHBOURS, seed=SEED)
    contenders: dict[str, Callable[[], object]] = {"copy": lambda: np.copyto(target, P.numpy())}
    contenders |= {graph.name: partial(exchange.mix, P, topology.mixing_matrix(graph)) for graph in graphs}
    return measure.interleaved(contenders, repetitions)


def federation(count: int, workers: int = 1) -> Federation:
    """Nodes that train and gossip on a random graph, their rows given as a user would: arrays, and row numbers by client."""
    made = clients(count)
    held = batched.Clients.of(made.X.numpy(), made.y.numpy(), list(np.arange(count * ROWS).reshape(count, ROWS)))
    graph = topology.random_regular(count, NEIGHBOURS, seed=SEED)
    return Federation(network(), held, graph, seed=SEED, local=HOW, workers=workers)


def whole(count: int, rounds: int = 2) -> dict[str, float]:
    """Peak memory of this process (GB) after some rounds of a federation, seconds and CPU seconds of a round."""
    with one_thread():
        simulated = federation(count)
        before = measure.cpu_seconds()
        history = simulated.run(rounds)
        spent = (measure.cpu_seconds() - before) / rounds
    return {"gb": measure.own_peak_mb() / 1000, "seconds": float(history["seconds"].median()), "cpu_seconds": spent}


def alone(count: int) -> dict[str, float]:
    """What `whole` returns, of a fresh process."""
    code = f"import json; from benchmarks.federation import whole; print(json.dumps(whole({count})))"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return found


def processes(count: int, repetitions: int = 3, rounds: int = 3) -> dict[int, float]:
    """Wall-clock seconds of a round with one process and with two: medians over the rounds but the first, which starts them."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(repetitions):
        for workers, spent in seconds.items():
            spent.append(float(federation(count, workers).run(1 + rounds)["seconds"][1:].median()))
    return {workers: statistics.median(spent) for workers, spent in seconds.items()}


# --- the page -----------------------------------------------------------------------------------------------------------


def table_of_speeds(found: Speeds, sizes: Sequence[int], gflops: float) -> str:
    """A line for each engine, those that are missing too, and one for what arithmetic allows."""
    names = [rival.name for rival in RIVALS] + [engine.name for engine in ENGINES]
    rows = []
    for name in names:
        rates = found.rates.get(name, {})
        rows.append([name, *(f"{rates[K]:,.{0 if rates[K] >= 100 else 1}f}" if K in rates else "-" for K in sizes)])
    rows.append(["limit of one core", *[f"{1e9 * gflops / flop():,.0f}"] * len(sizes)])
    return measure.table(["client-epochs per CPU second", *(f"K = {K:,}" for K in sizes)], rows)


def notes(found: Speeds) -> str:
    """What the table leaves out, and why."""
    parts = ["-: not measured, a run would take more than 20 s or so, or the library is not there."]
    parts += [f"{name}: {why}." for name, why in found.missing.items()]
    if found.versions:
        parts.append(f"Rivals: {', '.join(sorted(found.versions))}; evaluation off.")
    return " ".join(parts)


def line(what: str, figure: float, shown: str, target: str, met: bool) -> list[str]:
    """A row of the table of targets; a figure that is not a number has no verdict."""
    return [what, "-" if np.isnan(figure) else shown, target, "" if np.isnan(figure) else "met" if met else "missed"]


def verdicts(found: Speeds, mixed: Mapping[str, Sequence[float]], grand: Mapping[str, float], two: Mapping[int, float]) -> str:
    """A line for each target."""
    ours = {K: rate for K, rate in found.rates[OURS].items() if K >= LARGE} or {0: float("nan")}
    fluke = found.rates.get(FLUKE, {})
    times = min((rate / fluke[K] for K, rate in ours.items() if K in fluke), default=float("nan"))
    flat, least = max(ours.values()) / min(ours.values()), min(ours.values())
    steps = {name: ratio for name, ratio in measure.ratios(mixed).items() if name != "copy"}
    faster, gb = two[1] / two[2], grand["gb"]
    rows = [
        line(f"client-epochs per CPU s, K >= {LARGE}", least, f"{least:,.0f}", f">= {RATE_TARGET}", least >= RATE_TARGET),
        line("the same, by fluke's FedAvg", times, f"{times:.1f}", f">= {FLUKE_TARGET}", times >= FLUKE_TARGET),
        line(f"cost of a client, most by least, K >= {LARGE}", flat, f"{flat:.2f}", f"<= {FLAT_TARGET}", flat <= FLAT_TARGET),
        *(
            line(f"mixing by copy, {name}", ratio, f"{ratio:.2f}", f"<= {MIX_TARGET}", ratio <= MIX_TARGET)
            for name, ratio in steps.items()
        ),
        line("peak memory", gb, f"{gb:.2f} GB", f"<= {GB_TARGET} GB", gb <= GB_TARGET),
        line("two processes by one", faster, f"{faster:.2f}", f">= {PROCESSES_TARGET}", faster >= PROCESSES_TARGET),
    ]
    return measure.table(["what", "measured", "target", ""], rows)


def run(
    sizes: Sequence[int] = SIZES,
    repetitions: int = 3,
    nodes: int = NODES,
    paired: int = PAIRED,
    rivals: Sequence[Rival] = RIVALS,
) -> str:
    """The section for results/BENCHMARKS.md."""
    with one_thread():
        gflops, _ = calibration()
        found = speeds(sizes, repetitions, rivals)
        mixed = mixing(nodes, repetitions + 2)
        two = processes(paired, repetitions)
    grand = alone(nodes)
    copied, *steps = (f"{name} {statistics.median(spent):.3f}" for name, spent in mixed.items())
    parameters = len(batched.vector(network()))
    parts = [
        "## Federation",
        f"{ROWS} rows a client, {INPUTS} inputs, {CLASSES} classes, {parameters:,} parameters, {flop() / 1e6:.1f} MFLOP an "
        f"epoch; one local epoch, batches of {HOW.batch_size}, SGD, one core. Epochs are counted. Medians of {repetitions} in "
        f"turn, which lie up to {found.apart:.2f} times apart; limit: {gflops:.0f} GFLOP/s.",
        table_of_speeds(found, sizes, gflops),
        notes(found),
        verdicts(found, mixed, grand, two),
        f"Mixing {nodes:,} nodes of {NEIGHBOURS} neighbours, CPU s: {', '.join(steps)}, {copied}. A federation of {nodes:,} on "
        f"a random graph: {grand['seconds']:.1f} s a round, {nodes / grand['cpu_seconds']:,.0f} node-rounds per CPU s. A round "
        f"of {paired:,} nodes: {two[1]:.3f} s with one process, {two[2]:.3f} s with two, wall-clock time.",
    ]
    return "\n\n".join(parts)


def main() -> None:
    """Prints the section alone, after a line on the machine."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.federation")
    parser.add_argument("--install-rivals", action="store_true", help="make the other libraries' environments, and measure")
    if parser.parse_args().install_rivals:
        install()
    print(f"{description()}\n\n{run()}")


if __name__ == "__main__":
    main()
