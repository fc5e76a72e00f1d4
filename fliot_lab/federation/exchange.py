"""What travels between nodes in a round: parameters mixed with those of neighbours, whole, compressed, or only when changed.

An exchange changes the parameters (K, P) of all nodes in place and says how many bytes each node sent to each of its
neighbours. `W` (K, K) is the round's mixing matrix: row i says how much node i listens to whom.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from torch import Tensor
from torch.nn.functional import embedding_bag

BLOCK = 96  # parameters mixed at a time: those of 10,000 nodes fit the cache, and the matrix is read only once
PLACE = 4  # bytes of a value's place, where only some are sent

Bytes = npt.NDArray[np.int64]
Compressor = Callable[[Tensor], Tensor]


def matrix(K: int, P: int, like: Tensor) -> Tensor:
    """A (K, P) of zeros, of the type and on the device of `like`, whose rows begin a whole number of blocks apart for `mix`."""
    return like.new_zeros(K, -(-P // BLOCK) * BLOCK)[:, :P]


def mix(parameters: Tensor, W: csr_array) -> Tensor:
    """`parameters` (K, P) times `W` (K, K) from the left, in place: each node takes the weighted mean of those it hears.

    No second matrix is needed where `parameters` came from `matrix`.
    """
    (K, P), device = parameters.shape, parameters.device
    places = torch.from_numpy(W.indices.astype(np.int64)).to(device)
    starts = torch.from_numpy(W.indptr.astype(np.int64)).to(device)
    weights = torch.from_numpy(W.data).to(device, parameters.dtype)
    used = -(-P // BLOCK)  # blocks of a row, the last perhaps in part
    last = parameters.storage_offset() + (K - 1) * parameters.stride(0) + used * BLOCK  # a view may end before
    fits = last * parameters.element_size() <= parameters.untyped_storage().nbytes()
    in_blocks = fits and parameters.stride(0) % BLOCK == 0 and parameters.stride(1) == 1
    rows = parameters if in_blocks else matrix(K, P, parameters).copy_(parameters)
    each = rows.stride(0) // BLOCK
    places = places * each
    blocks = rows.as_strided(((K - 1) * each + used, BLOCK), (BLOCK, 1))  # those of node i are rows i * each and on
    for block in range(used):
        # A weighted sum of looked-up rows is what an embedding bag is, and torch has vectorised it.
        mixed = embedding_bag(places, blocks[block:], starts, mode="sum", per_sample_weights=weights, include_last_offset=True)
        width = min(BLOCK, P - block * BLOCK)  # what lies behind the last parameter is not ours
        blocks[block::each, :width] = mixed[:, :width]
    return parameters if in_blocks else parameters.copy_(rows)


def _copy(parameters: Tensor) -> Tensor:
    return matrix(len(parameters), parameters.shape[1], parameters).copy_(parameters)


def top_k(share: float) -> Compressor:
    """A compressor that keeps the `share` of each row (K, P) that is largest without its sign, at least one value, else 0."""
    if not 0 < share <= 1:
        raise ValueError(f"share={share}: the share of values to send lies above 0 and at most at 1")

    def compress(rows: Tensor) -> Tensor:
        kept = rows.abs().topk(max(1, round(share * rows.shape[1])), dim=1).indices
        return torch.zeros_like(rows).scatter_(1, kept, rows.gather(1, kept))

    return compress


def when_changed(length: float) -> Compressor:
    """A compressor that lets a row pass whole where its Euclidean length is above `length`, and else sends nothing."""
    if not length >= 0:
        raise ValueError(f"length={length}: a length is 0 or more")
    return lambda rows: rows * (rows.norm(dim=1, keepdim=True) > length)


def size_of(rows: Tensor) -> Bytes:
    """Bytes (K,) that each of `rows` (K, P) takes to send: its values, or its values that are not 0 with their places."""
    values, each = rows.count_nonzero(dim=1).cpu().numpy(), rows.element_size()
    return np.minimum(values * (each + PLACE), rows.shape[1] * each).astype(np.int64)


def whole(rows: Tensor) -> Bytes:
    """Bytes (K,) that each of `rows` (K, P) takes to send whole."""
    return np.full(len(rows), rows.shape[1] * rows.element_size(), dtype=np.int64)


class Exchange(ABC):
    """One round of talk. `state` holds what an exchange remembers between rounds: tensors, kept by checkpoints."""

    directed = False  # whether W may be column stochastic instead of doubly stochastic

    def __init__(self) -> None:
        self.state: dict[str, Tensor] = {}

    @abstractmethod
    def __call__(self, parameters: Tensor, W: csr_array) -> Bytes:
        """Changes `parameters` (K, P) in place; returns the bytes (K,) that each node sends to each node that hears it."""


class Gossip(Exchange):
    """Each node takes the W-weighted mean of its own parameters and those of its neighbours.

    After a local step it is decentralised SGD (D-PSGD, Lian et al. 2017, arXiv 1705.09056, the mean taken after the step);
    without one it is gossip averaging (Boyd et al. 2006, doi 10.1109/TIT.2006.874516).
    """

    def __call__(self, parameters: Tensor, W: csr_array) -> Bytes:
        mix(parameters, W)
        return whole(parameters)


class PushSum(Exchange):
    """Gossip on a directed graph: W's columns sum to 1, and a weight that travels along says what a node's sum is worth.

    Parameters are the sums divided by their weights; a local step changes the sum. Kempe et al. 2003, doi
    10.1109/SFCS.2003.1238221; with SGD: Assran et al. 2019, arXiv 1811.10792.
    """

    directed = True

    def __call__(self, parameters: Tensor, W: csr_array) -> Bytes:
        if not self.state:
            self.state = {"sum": _copy(parameters), "weight": parameters.new_ones(len(parameters), 1, dtype=torch.float64)}
        total, weight = self.state["sum"], self.state["weight"]
        # What was trained is sum / weight: the change since then goes into the sum.
        total += parameters - self.state.get("parameters", total)
        mix(total, W)
        mix(weight, W)
        parameters.copy_(total / weight)
        self.state["parameters"] = parameters.clone()
        return whole(parameters) + weight.element_size()


class Compressed(Exchange):
    """Neighbours hold a copy of each node's parameters, and a node sends them a compressed change only: CHOCO-SGD.

    Every node moves by `step` towards the mean of the copies; what a compressor holds back stays in the difference and is
    sent later. The links must be the same in every round: who hears a node for the first time has no copy of it.
    `compressor` makes rows (K, P) of rows (K, P), as `top_k` or, for selective communication, `when_changed`. Koloskova et al.
    2019, arXiv 1902.00340.
    """

    def __init__(self, compressor: Compressor, step: float = 1.0):
        super().__init__()
        if not 0 < step <= 1:
            raise ValueError(f"step={step}: expected above 0 and at most 1; smaller where less is sent")
        self.compressor, self.step = compressor, step

    def __call__(self, parameters: Tensor, W: csr_array) -> Bytes:
        copies = self.state.setdefault("copies", torch.zeros_like(parameters))
        change = self.compressor(parameters - copies)
        copies += change
        parameters.add_(mix(_copy(copies), W).sub_(copies), alpha=self.step)
        return size_of(change)


class Neighbourhood(Exchange):
    """Each node applies an aggregation rule to the parameters of its neighbourhood, itself among them, weighted alike.

    `rule(rows (m, P), None) -> (P,)`; one that takes `own` is told which of the rows is the node's own.
    """

    def __init__(self, rule: Callable[..., Tensor]):
        super().__init__()
        self.rule, self.knows_own = rule, "own" in inspect.signature(rule).parameters

    def __call__(self, parameters: Tensor, W: csr_array) -> Bytes:
        before = parameters.clone()
        for i in range(len(parameters)):
            heard = np.union1d(W.indices[W.indptr[i] : W.indptr[i + 1]], [i])
            told: dict[str, Any] = {"own": int(np.searchsorted(heard, i))} if self.knows_own else {}
            parameters[i] = self.rule(before[torch.from_numpy(heard).to(before.device)], None, **told)
        return whole(parameters)


class Upload:
    """What clients send a server: a compressed update, with the rest kept for the next round where `feedback` is true.

    Error feedback: Stich et al. 2018, arXiv 1809.07599.
    """

    def __init__(self, compressor: Compressor, feedback: bool = True):
        self.compressor, self.feedback = compressor, feedback
        self.state: dict[str, Tensor] = {}

    def __call__(self, updates: Tensor, which: npt.NDArray[np.int64], clients: int) -> tuple[Tensor, Bytes]:
        """(updates (S, P) as the server gets them, bytes (S,)) of the clients `which` (S,) among `clients`."""
        rows = torch.from_numpy(which).to(updates.device)
        if self.feedback:
            kept = self.state.setdefault("kept", updates.new_zeros(clients, updates.shape[1]))
            updates = updates + kept[rows]
        sent = self.compressor(updates)
        if self.feedback:
            kept[rows] = updates - sent
        return sent, size_of(sent)


class ServerAdam:
    """A server that takes the rounds' mean updates (P,) for gradients: FedAdam, Reddi et al. 2021, arXiv 2003.00295."""

    def __init__(self, learning_rate: float = 1e-2, beta1: float = 0.9, beta2: float = 0.99, tau: float = 1e-3):
        if not (learning_rate > 0 and 0 <= beta1 < 1 and 0 <= beta2 < 1 and tau > 0):
            figures = f"learning_rate={learning_rate}, beta1={beta1}, beta2={beta2}, tau={tau}"
            raise ValueError(f"{figures}: expected a rate and tau above 0, and both betas in [0, 1)")
        self.learning_rate, self.beta1, self.beta2, self.tau = learning_rate, beta1, beta2, tau
        self.state: dict[str, Tensor] = {}

    def __call__(self, update: Tensor) -> Tensor:
        """The step (P,) that the global model takes for the round's aggregated `update` (P,)."""
        mean = self.state.setdefault("mean", torch.zeros_like(update))
        square = self.state.setdefault("square", torch.full_like(update, self.tau**2))
        mean.mul_(self.beta1).add_(update, alpha=1 - self.beta1)
        square.mul_(self.beta2).addcmul_(update, update, value=1 - self.beta2)
        return self.learning_rate * mean / (square.sqrt() + self.tau)
