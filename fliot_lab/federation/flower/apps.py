"""Flower apps for the course's models: what a client answers and what the server asks, in Flower's Message API.

One conversation: the server asks every node for its number and the sums of its features (`query.sums`), scales all alike, and
then trains and evaluates round by round. No row is in any answer.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from torch import nn

from fliot_lab.federation import statistics
from fliot_lab.federation.flower.strategy import ARRAYS, CONFIG, EXAMPLES, METRICS, RoundFailed, RuleStrategy, answers
from fliot_lab.models import batched
from fliot_lab.models.autoencoder import Matrix, Scaler

SUMS, SCORES, OWN, CLIENT = "sums", "scores", "own", "partition-id"
TIMEOUT_S = 3_600.0  # for the answers of a round
POLL_S = 0.5  # between two looks at who is connected


@dataclass(frozen=True)
class Holding:
    """What one client has: a module, whose parameters are the server's in every round, and rows with their targets.

    `X` (n, d) float32 as they were measured, `y` (n,) int64 classes; None for an autoencoder, whose targets are the scaled
    rows. `X_held_out` and `y_held_out` judge and never train.
    """

    model: nn.Module
    X: Matrix
    y: np.ndarray | None
    X_held_out: Matrix
    y_held_out: np.ndarray | None


def client_app(holding: Callable[[Context], Holding], *, kept: Sequence[str] = (), tuned: int = 0) -> ClientApp:
    """The app of a client whose data `holding(context)` gives; `partition-id` in its `node_config` says which client it is.

    Parameters whose names begin with one of `kept` are the client's own and never leave it: FedPer, Arivazhagan et al. 2019,
    arXiv 1912.00818; the server leaves out the same ones. Before a client judges it trains `tuned` epochs from the server's
    parameters, for itself alone.
    """
    app = ClientApp()

    @app.query(SUMS)
    def sums(message: Message, context: Context) -> Message:
        summed = ArrayRecord([statistics.feature_sums(holding(context).X)])
        number = MetricRecord({CLIENT: int(context.node_config[CLIENT])})
        return Message(RecordDict({ARRAYS: summed, METRICS: number}), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        mine = holding(context)
        _take_over(mine.model, message, context)
        _learn(mine, message, context)
        learnt = mine.model.state_dict()
        if own := {name: value for name, value in learnt.items() if _is_kept(name, kept)}:
            context.state[OWN] = ArrayRecord(own)
        answer = ArrayRecord({name: value for name, value in learnt.items() if name not in own})
        return Message(RecordDict({ARRAYS: answer, METRICS: MetricRecord({EXAMPLES: len(mine.X)})}), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        mine = holding(context)
        _take_over(mine.model, message, context)
        if tuned:
            _learn(mine, message, context, epochs=tuned)
        Z = torch.from_numpy(_scaler(_config(message)).transform(mine.X_held_out))
        with torch.inference_mode():
            outputs = mine.model(Z)
        if mine.y_held_out is None:
            found: dict[str, float] = {"loss": float(batched.squared_error(outputs, Z).mean())}
        else:
            y = torch.from_numpy(mine.y_held_out)
            hits = (outputs.argmax(1) == y).float().mean()
            found = {"loss": float(batched.cross_entropy(outputs, y).mean()), "accuracy": float(hits)}
        return Message(RecordDict({METRICS: MetricRecord({EXAMPLES: len(Z), **found})}), reply_to=message)

    @app.query(SCORES)
    def scores(message: Message, context: Context) -> Message:
        mine = holding(context)
        _take_over(mine.model, message, context)
        assert isinstance(mine.model, nn.Sequential)
        scorer = statistics.autoencoder(mine.model, _scaler(_config(message)), 0)
        counted = ArrayRecord([statistics.score_counts(scorer.score_samples(mine.X_held_out))])
        return Message(RecordDict({ARRAYS: counted}), reply_to=message)

    return app


def server_app(
    model: Callable[[], nn.Module],
    strategy: Callable[[], RuleStrategy],
    rounds: int,
    local: batched.SGD,
    *,
    kept: Sequence[str] = (),
    nodes: int = 1,
    timeout: float = TIMEOUT_S,
    false_alarm_rate: float | None = None,
) -> ServerApp:
    """The app of the server, which does what `serve` says."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        serve(
            grid,
            context,
            model(),
            strategy(),
            rounds,
            local,
            kept=kept,
            nodes=nodes,
            timeout=timeout,
            false_alarm_rate=false_alarm_rate,
        )

    return app


def serve(
    grid: Grid,
    context: Context,
    model: nn.Module,
    strategy: RuleStrategy,
    rounds: int,
    local: batched.SGD,
    *,
    kept: Sequence[str] = (),
    nodes: int = 1,
    timeout: float = TIMEOUT_S,
    false_alarm_rate: float | None = None,
) -> None:
    """Starts all from the parameters of `model` and asks for `rounds` with the training `local`; the server has no rows.

    It begins when `nodes` are connected, and waits for them, and for the answers of a round, `timeout` seconds.

    Afterwards `context.state` holds the parameters ("arrays"), those of the best round ("best"), the scaling ("scaling":
    centre and scale, (d,) each), and what `history` and `figures` read. With a `false_alarm_rate` `model` is an autoencoder and
    "threshold" holds the cut above which that share of the clients' held-out rows scores. Raises RoundFailed.
    """
    wait(grid, nodes, timeout)
    numbers, scaled_by = _introduced(grid, timeout)
    strategy.order = sorted(numbers, key=lambda node: numbers[node])
    config: dict[str, Any] = asdict(local) | {"centre": scaled_by.centre_.tolist(), "scale": scaled_by.scale_.tolist()}
    shared = {name: value for name, value in model.state_dict().items() if not _is_kept(name, kept)}
    result = strategy.start(
        grid,
        ArrayRecord(shared),
        rounds,
        timeout,
        train_config=ConfigRecord(config),
        evaluate_config=ConfigRecord(config),
    )
    context.state[ARRAYS] = result.arrays
    context.state["best"] = strategy.best_arrays or result.arrays
    context.state["scaling"] = ArrayRecord([scaled_by.centre_, scaled_by.scale_])
    for row, found in enumerate(strategy.figures):
        context.state[f"figures {row}"] = MetricRecord({**found})
    if false_alarm_rate is not None:
        question = RecordDict({ARRAYS: result.arrays, CONFIG: ConfigRecord(config)})
        counts = ask_all(grid, SCORES, question, timeout)
        cut = statistics.threshold(sum(_array(answer) for answer in counts), false_alarm_rate)
        context.state["threshold"] = MetricRecord({"threshold": cut})


def figures(context: Context) -> pd.DataFrame:
    """What each client measured in each round, from the server's context: `round`, `client`, `num-examples`, `loss`, ..."""
    found = (name for name in context.state.metric_records if name.startswith("figures "))
    rows = [dict(context.state.metric_records[name]) for name in sorted(found, key=lambda name: int(name.split()[1]))]
    return pd.DataFrame(rows).astype({"round": int, "client": int, EXAMPLES: int}) if rows else pd.DataFrame()


def history(context: Context) -> pd.DataFrame:
    """The means of `figures` by round, weighted by the clients' rows: a column `round` and one for each metric."""
    each = figures(context)
    if each.empty:
        return each
    names = [name for name in each if name not in ("round", "client", EXAMPLES)]
    weighted = each[names].mul(each[EXAMPLES], axis=0).groupby(each["round"]).sum()
    return weighted.div(each.groupby("round")[EXAMPLES].sum(), axis=0).reset_index()


def wait(grid: Grid, nodes: int, timeout: float) -> None:
    """Returns when `nodes` are connected; RoundFailed where they are not within `timeout` seconds."""
    end = time.monotonic() + timeout
    while (there := len(list(grid.get_node_ids()))) < nodes:
        if time.monotonic() > end:
            raise RoundFailed(f"{there} of {nodes} nodes are connected after {timeout:g} s; start the others, or ask for fewer")
        time.sleep(POLL_S)


def _introduced(grid: Grid, timeout: float) -> tuple[dict[int, int], Scaler]:
    """The client number of each node, and the scaling of all nodes' rows, from the sums that they send."""
    told = ask_all(grid, SUMS, RecordDict(), timeout)
    numbers = client_numbers(told)
    in_order = sorted(told, key=lambda answer: numbers[answer.metadata.src_node_id])  # a sum's rounding depends on it
    return numbers, statistics.scaler(sum(_array(answer) for answer in in_order))


def ask_all(grid: Grid, question: str, content: RecordDict, timeout: float) -> list[Message]:
    """The answers of all nodes to a question, of which none may fail."""
    nodes = list(grid.get_node_ids())
    received = answers(grid, [Message(content, node, f"query.{question}") for node in nodes], timeout)
    found = [answer for answer in received if answer is not None]
    if lost := [answer.error.reason for answer in found if answer.has_error()]:
        raise RoundFailed(f"{len(lost)} of {len(found)} nodes could not send their {question}; the first said: {lost[0]}")
    if not found:
        raise RoundFailed(f"no node sent its {question} within {timeout:g} s; are any connected?")
    return found


def client_numbers(told: list[Message]) -> dict[int, int]:
    """The client number that each node has answered with; RoundFailed where two have the same."""
    numbers = {a.metadata.src_node_id: int(a.content.metric_records[METRICS][CLIENT]) for a in told}  # type: ignore[arg-type]
    if len(set(numbers.values())) < len(numbers):
        raise RoundFailed(f"two nodes have the same {CLIENT}: {sorted(numbers.values())}; give each node its own")
    return numbers


def _array(answer: Message) -> np.ndarray:
    """The one array of an answer."""
    return answer.content.array_records[ARRAYS].to_numpy_ndarrays()[0]


def _is_kept(name: str, kept: Sequence[str]) -> bool:
    return name.startswith(tuple(kept))


def _take_over(model: nn.Module, message: Message, context: Context) -> None:
    """Gives `model` the server's parameters, and the client's own where it keeps some."""
    records = context.state.array_records
    own = records[OWN].to_torch_state_dict() if OWN in records else {}
    given = message.content.array_records[ARRAYS].to_torch_state_dict()
    model.load_state_dict(model.state_dict() | own | given)


def _learn(mine: Holding, message: Message, context: Context, epochs: int | None = None) -> None:
    """Trains the holding's model as the server's message says."""
    config = _config(message)
    how = {field.name: config[field.name] for field in fields(batched.SGD)} | ({"epochs": epochs} if epochs else {})
    Z = _scaler(config).transform(mine.X)
    loss, targets = (batched.squared_error, Z) if mine.y is None else (batched.cross_entropy, mine.y)
    clients = batched.Clients.of(Z, targets, [np.arange(len(Z))])
    parameters, number = batched.vector(mine.model)[None], int(context.node_config[CLIENT])  # (1, P)
    batched.train(mine.model, parameters, clients, batched.SGD(**how), seed=config["seed"], first=number, loss=loss)
    batched.load(mine.model, parameters[0])


def _config(message: Message) -> dict[str, Any]:
    return dict(message.content.config_records[CONFIG])


def _scaler(config: dict[str, Any]) -> Scaler:
    """The scaling that the server sent along."""
    made = Scaler()
    made.centre_, made.scale_ = (np.asarray(config[name], dtype=np.float32) for name in ("centre", "scale"))
    return made
