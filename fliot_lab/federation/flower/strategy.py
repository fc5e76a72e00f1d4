"""A Flower strategy for any aggregation rule of the course, which draws from a seed and takes no silence for success."""

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from fliot_lab import atomic
from fliot_lab.aggregation import rules

ARRAYS, CONFIG, METRICS, EXAMPLES = "arrays", "config", "metrics", "num-examples"
POLL_S = 0.1  # before the second look at who has answered

log = logging.getLogger(__name__)


class RoundFailed(RuntimeError):
    """Too few nodes answered with something that can be used."""


class RuleStrategy(Strategy):
    """Rounds with a rule of ours: global parameters + server(rule(updates (S, P), weights (S,))).

    A share `fraction_train` of the nodes trains in a round, at least `min_train_nodes`, and the same for evaluating; which
    ones, comes from `seed` and the round. No answer in time, errors, NaN, infinity and other shapes are left out and named in
    the log; fewer than `quorum` good answers raise RoundFailed, where Flower's own strategies go on as if nothing had happened.

    With `overlap` the nodes that judge a round are asked together with those that train the next one, which changes no number
    where clients keep nothing from message to message, and saves a wait in each round; a node that does both answers within one
    timeout. It excludes `patience`, which must know the judgement first.

    `best_arrays` are those of the round `best_round` with the least loss on the clients' held-out rows; after `patience` rounds
    without a lesser one it stops, None never does. `figures` holds what each client measured: `round`, `client` and its
    metrics. After each round all this is written to the file `checkpoint`; where that exists, `start` goes on from it.

    `order` names the nodes in the order of their client numbers, so that equal seeds draw equal clients whatever numbers Flower
    gave the nodes; without it they are drawn in ascending order.
    """

    def __init__(
        self,
        *,
        seed: int,
        rule: Callable[..., Tensor] = rules.mean,
        server: Callable[[Tensor], Tensor] | None = None,
        fraction_train: float = 0.5,
        fraction_evaluate: float = 0.5,
        min_train_nodes: int = 2,
        min_evaluate_nodes: int = 2,
        quorum: int = 1,
        patience: int | None = None,
        overlap: bool = False,
        checkpoint: Path | None = None,
    ):
        if not (0 < fraction_train <= 1 and 0 <= fraction_evaluate <= 1 and quorum >= 1):
            figures = f"fraction_train={fraction_train}, fraction_evaluate={fraction_evaluate}, quorum={quorum}"
            raise ValueError(f"{figures}: expected shares up to 1, the first above 0, and a quorum of 1 or more")
        if patience is not None and (patience < 1 or not fraction_evaluate):
            raise ValueError(
                f"patience={patience}, fraction_evaluate={fraction_evaluate}: expected 1 or more and some who judge"
            )
        if patience is not None and overlap:
            raise ValueError(f"patience={patience} with overlap: whether to go on is known before the next round; choose one")
        self.seed, self.rule, self.server, self.quorum = seed, rule, server, quorum
        self.fraction_train, self.min_train_nodes = fraction_train, min_train_nodes
        self.fraction_evaluate, self.min_evaluate_nodes = fraction_evaluate, min_evaluate_nodes
        self.patience, self.overlap, self.checkpoint = patience, overlap, checkpoint
        self.order: list[int] = []
        self.figures: list[dict[str, float]] = []
        self.best_round, self.best_loss = 0, math.inf
        self.best_arrays: ArrayRecord | None = None
        self._global = ArrayRecord()

    def summary(self) -> None:
        """Logs what this strategy will do."""
        shares = f"{self.fraction_train:.0%} of the nodes train, {self.fraction_evaluate:.0%} judge, quorum {self.quorum}"
        log.info("%s: rule %s, %s, seed %d", type(self).__name__, getattr(self.rule, "__name__", self.rule), shares, self.seed)

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Runs the rounds that are missing to `num_rounds`; `timeout` is for the answers of a round, in seconds.

        Flower's own loop, but for early stopping, checkpoints and nodes that do not answer. Raises RoundFailed.
        """
        self.summary()
        result, arrays, done = Result(), initial_arrays, 0
        if self.checkpoint is not None and self.checkpoint.exists():
            arrays, done = self._taken_up(self.checkpoint, initial_arrays)
        result.arrays = arrays
        judging: list[Message] = []  # the messages of the round before that are still to be sent
        for number in range(done + 1, num_rounds + 1):
            if self.patience is not None and self.best_round and number - 1 - self.best_round >= self.patience:
                log.info("stopped after round %d: none was better than round %d", number - 1, self.best_round)
                break
            training = list(self.configure_train(number, arrays, train_config or ConfigRecord(), grid))
            replies = answers(grid, judging + training, timeout)
            if judging:
                self._judged(result, number - 1, judging, replies[: len(judging)], timeout)
            good = self._heard(number, training, replies[len(judging) :], timeout)
            found, trained = self.aggregate_train(number, good)
            arrays = result.arrays = found or arrays
            if trained is not None:
                result.train_metrics_clientapp[number] = trained
            if (central := evaluate_fn(number, arrays) if evaluate_fn else None) is not None:
                result.evaluate_metrics_serverapp[number] = central
            judging = list(self.configure_evaluate(number, arrays, evaluate_config or ConfigRecord(), grid))
            if not (self.overlap and judging and number < num_rounds):
                self._judged(result, number, judging, answers(grid, judging, timeout), timeout)
                judging = []
        return result

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """The round's messages to the nodes drawn, with the round's own seed for the clients."""
        self._global = arrays
        return self._asked(server_round, arrays, config, grid, MessageType.TRAIN)

    def configure_evaluate(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """The round's messages to the nodes drawn to judge; none where `fraction_evaluate` is 0."""
        return self._asked(server_round, arrays, config, grid, MessageType.EVALUATE) if self.fraction_evaluate else []

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The new global parameters, and what the clients said of their training; RoundFailed below the quorum."""
        good = self._good(server_round, replies, self._wrong_arrays)
        return self._combined(good), self._averaged(good)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """The clients' figures, averaged by their rows; None where nobody was asked, RoundFailed below the quorum."""
        if not self.fraction_evaluate:
            return None
        good = self._good(server_round, replies)
        for reply in good:
            figures = {name: value for name, value in _metrics(reply).items() if isinstance(value, int | float)}
            self.figures.append({"round": server_round, "client": self._place(reply)[0], **figures})
        return self._averaged(good)

    def _judged(self, result: Result, number: int, asked: list[Message], replies: list[Message | None], timeout: float) -> None:
        """Ends round `number`, whose parameters are `result.arrays`, with the judges' answers."""
        judged = self.aggregate_evaluate(number, self._heard(number, asked, replies, timeout))
        if judged is not None:
            result.evaluate_metrics_clientapp[number] = judged
        self._compare(number, result.arrays, judged)
        log.info("round %d: %s", number, dict(judged or {}))
        if self.checkpoint is not None:
            self._save(self.checkpoint, result.arrays, number)

    def _heard(self, number: int, asked: list[Message], replies: list[Message | None], timeout: float) -> list[Message]:
        """The answers that came; who gave none is named."""
        for message, reply in zip(asked, replies, strict=True):
            if reply is None:
                node = message.metadata.dst_node_id
                log.warning("round %d: node %d is left out: no answer within %g s", number, node, timeout)
        return [reply for reply in replies if reply is not None]

    def _combined(self, good: list[Message]) -> ArrayRecord:
        """The new global parameters from answers that can be used."""
        before = _flat(self._global)
        updates = torch.stack([_flat(reply.content.array_records[ARRAYS]) - before for reply in good])  # (S, P)
        step = self.rule(updates, torch.tensor([float(_metrics(reply)[EXAMPLES]) for reply in good]))  # type: ignore[arg-type]
        return _shaped(before + (self.server(step) if self.server else step), self._global)

    def _wrong_arrays(self, found: ArrayRecord) -> str:
        """Why an answer's parameters cannot be used; nothing where they can."""
        shapes, expected = ({name: tuple(array.shape) for name, array in part.items()} for part in (found, self._global))
        if shapes != expected:
            return f"its parameters have the shapes {shapes}, expected {expected}"
        return (
            "" if all(np.isfinite(array.numpy()).all() for array in found.values()) else "its parameters hold NaN or infinity"
        )

    def _asked(self, number: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid, kind: str) -> list[Message]:
        train = kind == MessageType.TRAIN
        drawn = self._drawn(
            grid,
            self._random(number, 0 if train else 2),
            self.fraction_train if train else self.fraction_evaluate,
            self.min_train_nodes if train else self.min_evaluate_nodes,
        )
        seed = int(self._random(number, 1 if train else 3).integers(2**63))
        config = ConfigRecord({**config, "server-round": number, "seed": seed})
        return [Message(RecordDict({ARRAYS: arrays, CONFIG: config}), node, kind) for node in drawn]

    def _good(
        self, number: int, replies: Iterable[Message], wrong_arrays: Callable[[ArrayRecord], str] | None = None
    ) -> list[Message]:
        """The answers that can be used, in the order of their clients; RoundFailed below the quorum."""
        replies, good = sorted(replies, key=self._place), []
        for reply in replies:
            if problem := _wrong(reply, wrong_arrays):
                log.warning("round %d: node %d is left out: %s", number, reply.metadata.src_node_id, problem)
            else:
                good.append(reply)
        if len(good) < self.quorum:
            raise RoundFailed(
                f"round {number}: {len(good)} of {len(replies)} answers can be used and the quorum is {self.quorum}; "
                "look at the clients' logs, or lower the quorum"
            )
        return good

    def _averaged(self, good: list[Message]) -> MetricRecord:
        """The metrics of answers, averaged by their rows."""
        weights = np.array([_metrics(reply)[EXAMPLES] for reply in good], dtype=np.float64)
        names = [name for name in _metrics(good[0]) if name != EXAMPLES]
        values = {name: np.array([_metrics(reply).get(name, np.nan) for reply in good], dtype=np.float64) for name in names}
        return MetricRecord({name: float(np.average(found, weights=weights)) for name, found in values.items()})

    def _compare(self, number: int, arrays: ArrayRecord, judged: MetricRecord | None) -> None:
        """Keeps the round's parameters where they are the best so far."""
        loss = judged.get("loss") if judged else None
        if isinstance(loss, float) and loss < self.best_loss:
            self.best_round, self.best_loss, self.best_arrays = number, loss, arrays

    def _drawn(self, grid: Grid, random: np.random.Generator, fraction: float, least: int) -> list[int]:
        """The nodes of a round, in their order."""
        present = set(grid.get_node_ids())
        known = [node for node in self.order if node in present]
        nodes = known + sorted(present - set(known))
        size = max(round(fraction * len(nodes)), least)
        if size > len(nodes):
            raise RoundFailed(f"{size} nodes are needed and {len(nodes)} are connected")
        return [nodes[place] for place in np.sort(random.permutation(len(nodes))[:size])]

    def _place(self, reply: Message) -> tuple[int, int]:
        node = reply.metadata.src_node_id
        return (self.order.index(node) if node in self.order else len(self.order), node)

    def _random(self, server_round: int, stream: int) -> np.random.Generator:
        """As the simulator draws: of the seed, the round from 0, and a purpose."""
        return np.random.default_rng([self.seed, server_round - 1, stream])

    def _said(self) -> dict[str, Any]:
        """What must be alike where a checkpoint is taken up."""
        names = ("seed", "fraction_train", "fraction_evaluate", "min_train_nodes", "min_evaluate_nodes", "quorum")
        functions = {"rule": self.rule, "server": type(self.server)}
        said = {part: getattr(function, "__name__", str(function)) for part, function in functions.items()}
        return said | {name: getattr(self, name) for name in names}

    def _save(self, path: Path, arrays: ArrayRecord, number: int) -> None:
        tensors = {f"arrays/{name}": array.numpy() for name, array in arrays.items()}
        tensors |= {f"best/{name}": array.numpy() for name, array in (self.best_arrays or {}).items()}
        tensors |= {f"server/{name}": value.numpy() for name, value in getattr(self.server, "state", {}).items()}
        said = {"settings": self._said(), "round": number, "figures": self.figures, "best": [self.best_round, self.best_loss]}
        with atomic.replacing(path) as partial:
            save_file(tensors, partial, {"strategy": json.dumps(said)})

    def _taken_up(self, path: Path, like: ArrayRecord) -> tuple[ArrayRecord, int]:
        """The parameters and the number of rounds of a checkpoint; ValueError where it is another federation's or none."""
        try:
            with safe_open(path, "np") as stored:
                said = json.loads(stored.metadata()["strategy"])
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (no mapping)
        except (SafetensorError, KeyError, TypeError, OSError) as error:
            raise ValueError(f"{path} is no checkpoint of a strategy ({error}); give another path or remove it") from None
        parts: dict[str, dict[str, np.ndarray]] = {"arrays": {}, "best": {}, "server": {}}
        for name, value in tensors.items():
            part, _, own = name.partition("/")
            parts[part][own] = value
        shapes = {name: tuple(array.shape) for name, array in like.items()}
        if said["settings"] != self._said() or {n: v.shape for n, v in parts["arrays"].items()} != shapes:
            raise ValueError(f"{path} was saved by another federation, {said['settings']}; give another path or remove it")
        if parts["server"]:
            assert self.server is not None
            self.server.state = {name: torch.from_numpy(value) for name, value in parts["server"].items()}  # type: ignore[attr-defined]
        self.figures, (self.best_round, self.best_loss) = said["figures"], said["best"]
        self.best_arrays = _record(parts["best"], like) if parts["best"] else None
        return _record(parts["arrays"], like), said["round"]


def answers(grid: Grid, messages: Sequence[Message], timeout: float) -> list[Message | None]:
    """The answer to each of the messages, in their order; None where it does not come within `timeout` seconds.

    Flower's `send_and_receive` looks every 3 s on a SuperLink; this one first after POLL_S, and the less often the longer it
    takes. Raises RoundFailed where the SuperLink does not take the messages.
    """
    numbers = list(grid.push_messages(messages))
    if len(numbers) != len(messages):
        raise RoundFailed(
            f"the SuperLink did not take {len(messages)} messages; its log says why, most likely they are too large"
        )
    waiting, found = {number for number in numbers if number}, dict[str, Message]()
    begin = time.monotonic()
    while waiting:
        found |= {reply.metadata.reply_to_message_id: reply for reply in grid.pull_messages(waiting)}
        waiting -= set(found)
        waited = time.monotonic() - begin
        if waited > timeout:
            break
        if waiting:
            time.sleep(POLL_S + min(waited / 20, 3))
    return [found.get(number) for number in numbers]


def _wrong(reply: Message, wrong_arrays: Callable[[ArrayRecord], str] | None) -> str:
    """Why an answer cannot be used; nothing where it can."""
    if reply.has_error():
        return reply.error.reason or "an error without a reason"
    if not reply.content.metric_records or (wrong_arrays and ARRAYS not in reply.content.array_records):
        return "its answer lacks parameters or metrics"
    figures = {name: value for name, value in _metrics(reply).items() if isinstance(value, int | float)}
    weight = figures.get(EXAMPLES)
    if weight is None or not 0 < weight < np.inf:
        return f"{EXAMPLES}={weight}"
    if not np.isfinite(list(figures.values())).all():
        return f"its metrics are {figures}"
    return wrong_arrays(reply.content.array_records[ARRAYS]) if wrong_arrays else ""


def _metrics(reply: Message) -> MetricRecord:
    return next(iter(reply.content.metric_records.values()))


def _flat(arrays: ArrayRecord) -> Tensor:
    return torch.from_numpy(np.concatenate([array.numpy().ravel() for array in arrays.values()]))


def _shaped(parameters: Tensor, like: ArrayRecord) -> ArrayRecord:
    shapes = {name: tuple(array.shape) for name, array in like.items()}
    parts = np.split(parameters.numpy(), np.cumsum([math.prod(shape) for shape in shapes.values()])[:-1])
    return ArrayRecord({name: Array(part.reshape(shapes[name])) for name, part in zip(shapes, parts, strict=True)})


def _record(arrays: dict[str, np.ndarray], like: ArrayRecord) -> ArrayRecord:
    return ArrayRecord({name: Array(arrays[name]) for name in like})
