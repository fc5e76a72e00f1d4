"""The published study's federation as a Flower app: `flwr run .`, a SuperLink and the in-process grid run the same two apps.

FedAvg over half of the clients, two at least, five local epochs of a 1D-CNN on IoT-23. What can be set is in DEFAULTS, which
pyproject.toml repeats for `flwr run --run-config`.
"""

import json
import logging
import math
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from safetensors.numpy import save_file
from torch import Tensor, nn

from fliot_lab import atomic
from fliot_lab.aggregation import rules
from fliot_lab.data import iot23, splits
from fliot_lab.features import flow_features
from fliot_lab.federation.exchange import ServerAdam
from fliot_lab.federation.flower import apps
from fliot_lab.federation.flower.strategy import ARRAYS, RuleStrategy
from fliot_lab.models import batched, cnn

#: Setting: what the study did, or where it does not say, what we take. `data-seed` is that of simulated captures, `seed` all
#: else's; `rows` is the most that all clients hold together; `skew` is "none" (rows dealt out at random), "labels" or
#: "quantity", by a Dirichlet draw of `alpha`; `server-rate` above 0 is FedAdam's; a client's parameters that begin with `kept`
#: (several with commas between) stay with it; the server waits for so many `nodes`, and `timeout` seconds for them and for
#: each round's answers; `out` is a folder for the result, on the machine that the server runs on.
DEFAULTS: dict[str, int | float | str] = {
    "data": "auto",
    "data-seed": 7,
    "seed": 7,
    "rows": 3000,
    "skew": "none",
    "alpha": 0.3,
    "rounds": 5,
    "epochs": 5,
    "batch-size": 32,
    "learning-rate": 0.05,
    "momentum": 0.0,
    "proximal": 0.0,
    "fraction-train": 0.5,
    "fraction-evaluate": 0.5,
    "min-train-nodes": 2,
    "min-evaluate-nodes": 2,
    "nodes": 2,
    "rule": "mean",
    "server-rate": 0.0,
    "quorum": 1,
    "kept": "",
    "tuned": 0,
    "timeout": 600.0,
    "checkpoint": "",
    "out": "",
}

RULES: dict[str, Callable[..., Tensor]] = {
    "mean": rules.mean,
    "median": rules.median,
    "trimmed-mean": partial(rules.trimmed_mean, f=1),
}
CHANNELS, KERNEL = (16, 32), 3
PARAMETERS, HISTORY = "parameters.safetensors", "history.json"
HELD_OUT = 0.2  # of a client's rows, the latest
LEAST = 10  # rows that every client has

Indices = npt.NDArray[np.int64]

log = logging.getLogger(__name__)


class Study(NamedTuple):
    """All rows, and who holds which: X (n, 24) as measured, y (n,), class names, the clients' rows, and those to judge by."""

    source: iot23.Source
    X: npt.NDArray[np.float32]
    y: npt.NDArray[np.int64]
    classes: list[str]
    parts: list[Indices]
    later: Indices


@lru_cache(maxsize=16)
def study(data: str, data_seed: int, rows: int, clients: int, seed: int, skew: str = "none", alpha: float = 0.3) -> Study:
    """The captures of `data` ("sample", "iot23", "auto"), thinned to at most `rows`, their earlier 70 % dealt to `clients`.

    Raises ValueError for a `skew` that there is not, and where there are too few rows for so many clients.
    """
    source, X, y, classes, earlier, later, progress = _flows(data, data_seed, rows)
    if skew == "labels":
        homes = splits.partition_dirichlet(y[earlier], clients, alpha, seed, least=LEAST)
    elif skew == "quantity":
        homes = splits.partition_quantity(len(earlier), clients, alpha, seed, least=LEAST)
    elif skew == "none":
        homes = splits.partition_iid(len(earlier), clients, seed)
    else:
        raise ValueError(f"skew={skew!r} is unknown; choose none, labels or quantity")
    # Rows of a client in the order of how far their captures have come, so that it can hold out the latest of each.
    parts = [earlier[home][np.argsort(progress[earlier[home]], kind="stable")] for home in homes]
    return Study(source, X, y, classes, parts, later)


@lru_cache(maxsize=2)
def _flows(data: str, seed: int, rows: int) -> tuple[iot23.Source, Any, Indices, list[str], Indices, Indices, Any]:
    """Where they come from, X, y, the classes' names, the earlier and the later rows, how far its capture was at each row."""
    source = iot23.locate(data, seed=seed)
    flows = iot23.load("small", dataset=source.name, seed=seed)
    flows = flows.iloc[:: math.ceil(len(flows) / rows)].reset_index(drop=True)
    classes, y = np.unique(flows["label"].astype(str), return_inverse=True)
    captures = flows["capture"].astype(str)
    earlier, later = splits.by_time(flows["ts"], captures.to_numpy(), 0.3)
    progress = flows.groupby(captures)["ts"].rank(method="first", pct=True).to_numpy()
    return source, flow_features(flows)[0], y, classes.tolist(), earlier, later, progress


def network(seed: int, classes: int) -> nn.Module:
    """The 1D-CNN that all begin from."""
    return cnn.network(24, classes, CHANNELS, KERNEL, torch.Generator().manual_seed(seed))


def settings(run_config: Mapping[str, Any]) -> dict[str, Any]:
    """DEFAULTS with what `run_config` changes; ValueError for a setting that there is not."""
    if unknown := sorted(set(run_config) - set(DEFAULTS)):
        raise ValueError(f"there is no setting {', '.join(unknown)}; there are {', '.join(DEFAULTS)}")
    return DEFAULTS | dict(run_config)


def holding(context: Context) -> apps.Holding:
    """What client `partition-id` of `num-partitions` holds."""
    chosen = settings(context.run_config)
    number, clients = int(context.node_config["partition-id"]), int(context.node_config["num-partitions"])
    _, X, y, classes, parts, _ = dealt(chosen, clients)
    training, rest = held_out(parts[number])
    return apps.Holding(network(chosen["seed"], len(classes)), X[training], y[training], X[rest], y[rest])


def held_out(rows: Indices) -> tuple[Indices, Indices]:
    """A client's `rows` to train on, and its latest ones to judge by."""
    cut = len(rows) - max(1, round(HELD_OUT * len(rows)))
    return rows[:cut], rows[cut:]


def answer(message: Message, context: Context) -> Message:
    """What a client answers; a function that other processes find by its name."""
    chosen = settings(context.run_config)
    return apps.client_app(holding, kept=_kept(chosen), tuned=chosen["tuned"])(message, context)


def serve(grid: Grid, context: Context) -> None:
    """What the server does, with the settings of `context.run_config`; writes the result to the folder `out` if any."""
    chosen = settings(context.run_config)
    if chosen["rule"] not in RULES:
        raise ValueError(f"rule={chosen['rule']!r} is unknown; choose one of {', '.join(RULES)}")
    # The server has no rows, but the names of the classes are known to all.
    classes = dealt(chosen, 1).classes
    plan = RuleStrategy(
        seed=chosen["seed"],
        rule=RULES[chosen["rule"]],
        server=ServerAdam(chosen["server-rate"]) if chosen["server-rate"] else None,
        fraction_train=chosen["fraction-train"],
        fraction_evaluate=chosen["fraction-evaluate"],
        min_train_nodes=chosen["min-train-nodes"],
        min_evaluate_nodes=chosen["min-evaluate-nodes"],
        quorum=chosen["quorum"],
        overlap=not chosen["kept"],  # what a client keeps when it trains must not change how it judges the round before
        checkpoint=Path(chosen["checkpoint"]) if chosen["checkpoint"] else None,
    )
    apps.serve(
        grid,
        context,
        network(chosen["seed"], len(classes)),
        plan,
        chosen["rounds"],
        local(chosen),
        kept=_kept(chosen),
        nodes=chosen["nodes"],
        timeout=chosen["timeout"],
    )
    if chosen["out"]:
        _write(Path(chosen["out"]), context)


def local(chosen: Mapping[str, Any]) -> batched.SGD:
    """How a client trains with the settings `chosen`."""
    names = ("batch-size", "learning-rate", "momentum", "proximal")
    return batched.SGD(epochs=chosen["epochs"], **{name.replace("-", "_"): chosen[name] for name in names})


def dealt(chosen: Mapping[str, Any], clients: int) -> Study:
    """`study` with the settings `chosen`."""
    names = ("seed", "skew", "alpha")
    return study(chosen["data"], chosen["data-seed"], chosen["rows"], clients, *(chosen[name] for name in names))


def _write(folder: Path, context: Context) -> None:
    """The parameters and what the clients measured, as files."""
    arrays = {name: array.numpy() for name, array in context.state.array_records[ARRAYS].items()}
    with atomic.replacing(folder / PARAMETERS) as partial_file:
        save_file(arrays, partial_file)
    measured = {"rounds": apps.history(context), "clients": apps.figures(context)}
    atomic.write(folder / HISTORY, json.dumps({name: frame.to_dict("records") for name, frame in measured.items()}))
    log.info("the parameters and the history are in %s", folder)


def _kept(chosen: Mapping[str, Any]) -> tuple[str, ...]:
    """The beginnings of names that stay with a client."""
    return tuple(name for name in str(chosen["kept"]).split(",") if name)


client = ClientApp()
for _asked in (client.train(), client.evaluate(), client.query(apps.SUMS), client.query(apps.SCORES)):
    _asked(answer)

server = ServerApp()
server.main()(serve)
