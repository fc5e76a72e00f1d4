"""A Flower strategy for any aggregation rule of the course, which draws from a seed and takes no silence for success."""

import logging
from collections.abc import Callable, Iterable

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from torch import Tensor

from fliot_lab.aggregation import rules

log = logging.getLogger(__name__)


class RoundFailed(RuntimeError):
    """Too few nodes answered with something that can be used."""


class RuleStrategy(FedAvg):
    """FedAvg's messages, with a rule of ours: global parameters + server(rule(updates (S, P), weights (S,))).

    A share `fraction_train` of the nodes trains in a round, at least `min_train_nodes`, and the same for evaluating; which
    ones, comes from `seed` and the round. Answers with errors, NaN, infinity or other shapes are left out and named in the
    log; fewer than `quorum` good ones raise RoundFailed, where Flower's own strategies go on as if nothing had happened.

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
    ):
        if not (0 < fraction_train <= 1 and 0 <= fraction_evaluate <= 1 and quorum >= 1):
            figures = f"fraction_train={fraction_train}, fraction_evaluate={fraction_evaluate}, quorum={quorum}"
            raise ValueError(f"{figures}: expected shares up to 1, the first above 0, and a quorum of 1 or more")
        super().__init__(
            fraction_train=fraction_train,
            fraction_evaluate=fraction_evaluate,
            min_train_nodes=min_train_nodes,
            min_evaluate_nodes=min_evaluate_nodes,
            min_available_nodes=max(min_train_nodes, min_evaluate_nodes),
        )
        self.seed, self.rule, self.server, self.quorum = seed, rule, server, quorum
        self.order: list[int] = []
        self._global: ArrayRecord | None = None

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """The round's messages to the nodes drawn, with the round's own seed for the clients."""
        self._global = arrays
        config["server-round"] = server_round
        config["seed"] = int(self._random(server_round, 1).integers(2**63))
        nodes = self._drawn(grid, self._random(server_round, 0), self.fraction_train, self.min_train_nodes)
        record = RecordDict({self.arrayrecord_key: arrays, self.configrecord_key: config})
        return self._construct_messages(record, nodes, MessageType.TRAIN)

    def configure_evaluate(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """The round's messages to the nodes drawn to judge; none where `fraction_evaluate` is 0."""
        if not self.fraction_evaluate:
            return []
        config["server-round"] = server_round
        nodes = self._drawn(grid, self._random(server_round, 2), self.fraction_evaluate, self.min_evaluate_nodes)
        record = RecordDict({self.arrayrecord_key: arrays, self.configrecord_key: config})
        return self._construct_messages(record, nodes, MessageType.EVALUATE)

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The new global parameters, and what the clients said of their training; RoundFailed below the quorum."""
        assert self._global is not None
        replies = sorted(replies, key=self._place)
        start = {name: array.numpy() for name, array in self._global.items()}
        before = _flat(start)
        updates, weights, good = [], [], []
        for reply in replies:
            if problem := self._problem(reply, start):
                log.warning("round %d: node %d is left out: %s", server_round, reply.metadata.src_node_id, problem)
                continue
            found = {name: array.numpy() for name, array in reply.content.array_records[self.arrayrecord_key].items()}
            updates.append(_flat(found) - before)
            weights.append(float(_metrics(reply)[self.weighted_by_key]))  # type: ignore[arg-type]
            good.append(reply.content)
        if len(good) < self.quorum:
            raise RoundFailed(
                f"round {server_round}: {len(good)} of {len(replies)} answers can be used and the quorum is {self.quorum}; "
                "look at the clients' logs, or lower the quorum"
            )
        step = self.rule(torch.stack(updates), torch.tensor(weights))
        after = before + (self.server(step) if self.server else step)
        return _shaped(after, start), self.train_metrics_aggr_fn(good, self.weighted_by_key)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """The clients' figures, averaged by their rows; RoundFailed where nodes were asked and none could answer."""
        replies = sorted(replies, key=self._place)
        if replies and all(reply.has_error() for reply in replies):
            raise RoundFailed(f"round {server_round}: all {len(replies)} nodes failed to judge: {replies[0].error.reason}")
        return super().aggregate_evaluate(server_round, replies)

    def _drawn(self, grid: Grid, random: np.random.Generator, fraction: float, least: int) -> list[int]:
        """The nodes of a round, in their order."""
        present = set(grid.get_node_ids())
        known = [node for node in self.order if node in present]
        nodes = known + sorted(present - set(known))
        size = max(round(fraction * len(nodes)), least)
        if size > len(nodes):
            raise RoundFailed(f"{size} nodes are needed and {len(nodes)} are connected")
        return [nodes[place] for place in np.sort(random.permutation(len(nodes))[:size])]

    def _problem(self, reply: Message, start: dict[str, np.ndarray]) -> str:
        """Why an answer cannot be used; nothing where it can."""
        if reply.has_error():
            return reply.error.reason or "an error without a reason"
        if self.arrayrecord_key not in reply.content.array_records or not reply.content.metric_records:
            return "its answer lacks parameters or metrics"
        found = reply.content.array_records[self.arrayrecord_key]
        shapes, expected = ({n: tuple(a.shape) for n, a in part.items()} for part in (found, start))
        if shapes != expected:
            return f"its parameters have the shapes {shapes}, expected {expected}"
        if not all(np.isfinite(array.numpy()).all() for array in found.values()):
            return "its parameters hold NaN or infinity"
        weight = _metrics(reply).get(self.weighted_by_key)
        return "" if isinstance(weight, int | float) and 0 < weight < np.inf else f"{self.weighted_by_key}={weight}"

    def _place(self, reply: Message) -> tuple[int, int]:
        node = reply.metadata.src_node_id
        return (self.order.index(node) if node in self.order else len(self.order), node)

    def _random(self, server_round: int, stream: int) -> np.random.Generator:
        """As the simulator draws: of the seed, the round from 0, and a purpose."""
        return np.random.default_rng([self.seed, server_round - 1, stream])


def _metrics(reply: Message) -> MetricRecord:
    return next(iter(reply.content.metric_records.values()))


def _flat(arrays: dict[str, np.ndarray]) -> Tensor:
    return torch.from_numpy(np.concatenate([array.ravel() for array in arrays.values()]))


def _shaped(parameters: Tensor, like: dict[str, np.ndarray]) -> ArrayRecord:
    parts = np.split(parameters.numpy(), np.cumsum([array.size for array in like.values()])[:-1])
    return ArrayRecord({name: Array(part.reshape(a.shape)) for (name, a), part in zip(like.items(), parts, strict=True)})
