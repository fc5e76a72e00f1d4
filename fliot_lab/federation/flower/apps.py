"""Flower apps for the course's models: what a client answers and what the server asks, in Flower's Message API.

One conversation: the server asks every node for its number and the sums of its features (`query.sums`), scales all alike, and
then trains and evaluates round by round. No row is in any answer.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from torch import Tensor, nn

from fliot_lab.federation import statistics
from fliot_lab.federation.flower.strategy import RoundFailed, RuleStrategy
from fliot_lab.models import batched
from fliot_lab.models.autoencoder import Matrix, Scaler

ARRAYS, CONFIG, METRICS, SUMS = "arrays", "config", "metrics", "sums"


@dataclass(frozen=True)
class Holding:
    """What one client has: a module, whose parameters are the server's in every round, and rows with their targets.

    `X` (n, d) float32 as they were measured, `y` (n,) int64; `X_held_out` and `y_held_out` judge and never train.
    """

    model: nn.Module
    X: Matrix
    y: np.ndarray
    X_held_out: Matrix
    y_held_out: np.ndarray


def client_app(holding: Callable[[Context], Holding]) -> ClientApp:
    """The app of a client whose data `holding(context)` gives; `partition-id` in its `node_config` says which client it is."""
    app = ClientApp()

    @app.query(SUMS)
    def sums(message: Message, context: Context) -> Message:
        own = ArrayRecord([statistics.feature_sums(holding(context).X)])
        number = MetricRecord({"partition-id": int(context.node_config["partition-id"])})
        return Message(RecordDict({ARRAYS: own, METRICS: number}), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        mine, config = holding(context), _config(message)
        parameters = _loaded(mine.model, message)[None].clone()  # (1, P)
        clients = batched.Clients.of(_scaler(config).transform(mine.X), mine.y, [np.arange(len(mine.X))])
        how = batched.SGD(**{field.name: config[field.name] for field in fields(batched.SGD)})
        number = int(context.node_config["partition-id"])
        batched.train(mine.model, parameters, clients, how, seed=config["seed"], first=number)
        batched.load(mine.model, parameters[0])
        learnt, size = ArrayRecord(mine.model.state_dict()), MetricRecord({"num-examples": len(mine.X)})
        return Message(RecordDict({ARRAYS: learnt, METRICS: size}), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        mine, config = holding(context), _config(message)
        _loaded(mine.model, message)
        X, y = torch.from_numpy(_scaler(config).transform(mine.X_held_out)), torch.from_numpy(mine.y_held_out)
        with torch.inference_mode():
            outputs = mine.model(X)
        figures = MetricRecord(
            {
                "num-examples": len(y),
                "accuracy": float((outputs.argmax(1) == y).float().mean()),
                "loss": float(batched.cross_entropy(outputs, y).mean()),
            }
        )
        return Message(RecordDict({METRICS: figures}), reply_to=message)

    return app


def server_app(
    model: Callable[[], nn.Module], strategy: Callable[[], RuleStrategy], rounds: int, local: batched.SGD
) -> ServerApp:
    """The app of the server, which has no rows: it starts all from `model()`, asks for `rounds` with the training `local`.

    Afterwards `context.state` holds the parameters ("arrays"), the scaling ("scaling": centre and scale, (d,) each) and for
    each round what the clients measured ("round 1", ...).
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        numbers, scaled_by = _introduced(grid)
        plan = strategy()
        plan.order = sorted(numbers, key=lambda node: numbers[node])
        config = ConfigRecord(asdict(local))
        scaling = {"centre": scaled_by.centre_.tolist(), "scale": scaled_by.scale_.tolist()}
        config.update(scaling)
        result = plan.start(
            grid, ArrayRecord(model().state_dict()), rounds, train_config=config, evaluate_config=ConfigRecord(scaling)
        )
        context.state[ARRAYS] = result.arrays
        context.state["scaling"] = ArrayRecord([scaled_by.centre_, scaled_by.scale_])
        for number, figures in result.evaluate_metrics_clientapp.items():
            context.state[f"round {number}"] = figures

    return app


def _introduced(grid: Grid) -> tuple[dict[int, int], Scaler]:
    """The client number of each node, and the scaling of all nodes' rows, from the sums that they send."""
    messages = [Message(RecordDict(), node, f"query.{SUMS}") for node in grid.get_node_ids()]
    answers = list(grid.send_and_receive(messages))
    if lost := [answer.error.reason for answer in answers if answer.has_error()]:
        raise RoundFailed(f"{len(lost)} of {len(answers)} nodes could not sum up their rows; the first said: {lost[0]}")
    if not answers:
        raise RoundFailed("no node answered when asked for its number; are any connected?")
    numbers = {a.metadata.src_node_id: int(a.content.metric_records[METRICS]["partition-id"]) for a in answers}  # type: ignore[arg-type]
    total = sum(answer.content.array_records[ARRAYS].to_numpy_ndarrays()[0] for answer in answers)
    return numbers, statistics.scaler(total)


def _config(message: Message) -> dict[str, Any]:
    return dict(message.content.config_records[CONFIG])


def _scaler(config: dict[str, Any]) -> Scaler:
    """The scaling that the server sent along."""
    made = Scaler()
    made.centre_, made.scale_ = (np.asarray(config[name], dtype=np.float32) for name in ("centre", "scale"))
    return made


def _loaded(model: nn.Module, message: Message) -> Tensor:
    """The parameters (P,) of a message, which `model` has taken over."""
    model.load_state_dict(message.content.array_records[ARRAYS].to_torch_state_dict())
    return batched.vector(model)
