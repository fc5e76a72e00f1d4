"""Many small models of one shape, trained at once: each client its own rows, its own parameters, its own order of rows.

A round of 10,000 clients is 10,000 little trainings, and a loop over them spends its time on everything but arithmetic. Here
the parameters of a chunk of clients are stacked and every layer is one batched product. `train_loop` says the same thing
slowly, client by client with torch's own autograd and SGD; both draw the same batches, so they can be held equal.

The parameters of K models are one matrix (K, P), a row a model, in the order of `module.parameters()`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from fliot_lab.models.stacked import Loss, Stack, by_autograd, by_hand, cross_entropy, squared_error

__all__ = [
    "CHUNK",
    "SGD",
    "Clients",
    "Loss",
    "cross_entropy",
    "load",
    "outputs",
    "squared_error",
    "train",
    "train_loop",
    "vector",
]

CHUNK = {"cpu": 16, "cuda": 2_048}  # models at once: on a CPU what fits its cache, on a GPU what fills it


@dataclass(frozen=True)
class Clients:
    """What every client holds: rows `X` (n, d) and targets `y` (n, ...) of all, client after client; `starts` (K + 1,)."""

    X: Tensor
    y: Tensor
    starts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, X: npt.ArrayLike, y: npt.ArrayLike, parts: Sequence[npt.ArrayLike] | Mapping[str, npt.ArrayLike]) -> Self:
        """The clients whose rows of X (n, d) and y (n, ...) are `parts`: arrays of row numbers, as `data.splits` gives them.

        Floats become float32, classes int64. Raises ValueError for no client, a client without rows, lengths that differ, and
        NaN or infinity.
        """
        if np.asarray(y).dtype.kind not in "biuf":
            raise ValueError("y must be numbers; np.unique(y, return_inverse=True) gives names and class numbers")
        rows, targets = torch.as_tensor(np.asarray(X)).float(), torch.as_tensor(np.asarray(y))
        targets = targets.float() if targets.is_floating_point() else targets.long()
        parts = list(parts.values()) if isinstance(parts, Mapping) else parts
        if not len(parts):
            raise ValueError("a federation needs at least one client, got none")
        if rows.ndim != 2 or len(rows) != len(targets):
            raise ValueError(f"X must be (n, d) and y have as many rows, got {tuple(rows.shape)} and {tuple(targets.shape)}")
        for name, values in (("X", rows), ("y", targets)):
            if values.is_floating_point() and not values.isfinite().all():
                raise ValueError(f"{name} holds NaN or infinity, first in row {(~values.isfinite()).nonzero()[0, 0]}; drop it")
        places = [_rows(part, len(rows), client) for client, part in enumerate(parts)]
        sizes = np.array([len(part) for part in places])
        if not sizes.all():
            raise ValueError(f"client {int(np.argmin(sizes))} has no rows; leave it out or give it some")
        order = torch.from_numpy(np.concatenate(places))
        return cls(rows[order], targets[order], np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """How many rows each client has, (K,)."""
        return np.diff(self.starts)

    def rows(self, client: int) -> tuple[Tensor, Tensor]:
        """X (n_k, d) and y (n_k, ...) of one client."""
        here = slice(int(self.starts[client]), int(self.starts[client + 1]))
        return self.X[here], self.y[here]

    def to(self, device: str | torch.device) -> Self:
        """The same clients on `device`."""
        return type(self)(self.X.to(device), self.y.to(device), self.starts)


@dataclass(frozen=True)
class SGD:
    """How a client trains: `epochs` over its rows in batches, the last of an epoch smaller where they do not divide.

    `momentum` starts from rest in every call. `proximal` pulls back to the parameters it began with by the gradient of
    proximal / 2 |w - w_0|^2: FedProx, Li et al. 2020, arXiv 1812.06127.
    """

    epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 0.05
    momentum: float = 0.0
    proximal: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(f"epochs={self.epochs}, batch_size={self.batch_size}: both must be 1 or more")
        if not (self.learning_rate > 0 and 0 <= self.momentum < 1 and self.proximal >= 0):
            figures = f"learning_rate={self.learning_rate}, momentum={self.momentum}, proximal={self.proximal}"
            raise ValueError(f"{figures}: expected a rate above 0, a momentum in [0, 1) and a pull of 0 or more")


@contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread while the block runs: products so small gain nothing from more threads but waiting, which takes
    thirty times as long where another program has a core, and sums do not depend on the number of cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def vector(module: nn.Module) -> Tensor:
    """The parameters of `module` as one (P,) tensor of its own.

    Raises ValueError for a module without parameters, and for one with buffers such as batch norm's running statistics:
    averages of those mean nothing, and a client's would change while it only answers. Group or layer norm has none.
    """
    if buffers := [name for name, _ in module.named_buffers()]:
        raise ValueError(f"the model has buffers, {buffers[0]!r} first: take a layer without running statistics, as GroupNorm")
    if not (parts := [parameter.detach().flatten() for parameter in module.parameters()]):
        raise ValueError("the model has no parameters, so there is nothing to train")
    return torch.cat(parts).clone()


def load(module: nn.Module, parameters: Tensor) -> None:
    """Gives `module` the `parameters` (P,), copied."""
    nn.utils.vector_to_parameters(parameters.to(next(module.parameters()).device), module.parameters())


def train(
    module: nn.Module,
    parameters: Tensor,
    clients: Clients,
    how: SGD,
    *,
    seed: int,
    which: Sequence[int] | npt.NDArray[np.int64] | None = None,
    loss: Loss = cross_entropy,
    chunk: int | None = None,
    first: int = 0,
) -> Tensor:
    """Trains a row of `parameters` (S, P) for each of the clients `which` (S,), in place, and returns it.

    `module` says what a row means; its own parameters stay. `which` is all clients where it is not given. The orders of rows
    come from `seed` and the client's number alone, so neither `chunk` nor who else trains changes a result, but for rounding;
    layers that draw, as dropout, draw from `seed` as well, and other numbers in other chunks. `first` is the number of client 0
    where `clients` are some of a larger federation. Stacks of linear and convolutional layers and ReLUs with one of the two
    losses here go through products by hand, all else through torch.func.

    Runs where `parameters` are; `clients` must be there too. A client that diverges leaves infinities or NaN in its own row,
    which the caller finds. Raises ValueError where sizes do not fit, for frozen parameters, and for a loss that is not one
    value a row.
    """
    numbers = _numbers(module, parameters, clients, which)
    step = by_hand(module, loss) or by_autograd(module, loss)
    shapes = [parameter.shape for parameter in module.parameters()]
    draws = np.random.default_rng(seed).integers(2**63, size=first + len(clients))[first:]  # a seed for each, drawn or not
    chunk = chunk or CHUNK.get(parameters.device.type, CHUNK["cpu"])
    # Clients of like size share a chunk, the larger first: those that still have a batch are always the first ones.
    places = np.argsort(-clients.sizes[numbers], kind="stable")
    with one_thread(), torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        for begin in range(0, len(places), chunk):
            rows = torch.from_numpy(places[begin : begin + chunk]).to(parameters.device)
            chosen = numbers[places[begin : begin + chunk]]
            stack = Stack(parameters[rows], shapes, how)
            for batch in _batches(clients, chosen, draws[chosen], how):
                step(stack, *batch)
            parameters[rows] = stack.flat()
    return parameters


def train_loop(
    module: nn.Module,
    parameters: Tensor,
    clients: Clients,
    how: SGD,
    *,
    seed: int,
    which: Sequence[int] | npt.NDArray[np.int64] | None = None,
    loss: Loss = cross_entropy,
) -> Tensor:
    """What `train` does, one client after the other with torch's autograd and optimiser: slow, and easy to believe."""
    numbers = _numbers(module, parameters, clients, which)
    draws = np.random.default_rng(seed).integers(2**63, size=len(clients))
    before = vector(module)
    for row, client in enumerate(numbers):
        load(module, parameters[row])
        start = [parameter.detach().clone() for parameter in module.parameters()]
        optimiser = torch.optim.SGD(module.parameters(), lr=how.learning_rate, momentum=how.momentum)
        X, y = clients.rows(client)
        generator = torch.Generator().manual_seed(int(draws[client]))
        for _ in range(how.epochs):
            for batch in torch.randperm(len(X), generator=generator).split(how.batch_size):
                value = loss(module(X[batch]), y[batch]).mean()
                for parameter, first in zip(module.parameters(), start, strict=True):
                    value = value + how.proximal / 2 * (parameter - first).square().sum()
                optimiser.zero_grad()
                value.backward()
                optimiser.step()
        parameters[row] = vector(module)
    load(module, before)
    return parameters


def outputs(module: nn.Module, parameters: Tensor, X: Tensor, chunk: int | None = None) -> Iterator[Tensor]:
    """What each model, a row of `parameters` (K, P), answers to the rows X (n, d): (chunk, n, ...), chunk after chunk.

    `module` answers as it does when it is used: `module.eval()` first where it drops out.
    """
    shapes = [parameter.shape for parameter in module.parameters()]
    names = [name for name, _ in module.named_parameters()]
    chunk = chunk or CHUNK.get(parameters.device.type, CHUNK["cpu"])
    with torch.no_grad():
        for begin in range(0, len(parameters), chunk):
            stack = Stack(parameters[begin : begin + chunk], shapes, SGD())
            weights = dict(zip(names, stack.values, strict=True))
            with one_thread():
                answers = vmap(lambda weights: functional_call(module, weights, (X,)))(weights)
            yield answers


def _batches(
    clients: Clients, chosen: npt.NDArray[np.int64], draws: npt.NDArray[np.int64], how: SGD
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """X (a, B, d), y (a, B, ...) and weights (a, B) of the first a of the `chosen` clients (C,), the larger ones first.

    A client's weights sum to 1. Where its batch is shorter than B, rows of its own with weight 0 fill it.
    """
    sizes = clients.sizes[chosen]
    generators = [torch.Generator().manual_seed(int(draw)) for draw in draws]
    B, place = how.batch_size, np.arange(sizes[0])
    device = clients.X.device
    for _ in range(how.epochs):
        order = np.zeros((len(chosen), sizes[0]), dtype=np.int64)
        for row, (size, generator) in enumerate(zip(sizes, generators, strict=True)):
            order[row, :size] = torch.randperm(int(size), generator=generator).numpy()
        order += clients.starts[chosen, None]
        for begin in range(0, int(sizes[0]), B):
            a = int((sizes > begin).sum())
            width = min(B, int(sizes[0]) - begin)
            real = place[None, begin : begin + width] < sizes[:a, None]  # (a, width)
            weight = torch.from_numpy((real / real.sum(1, keepdims=True)).astype(np.float32)).to(device)
            rows = torch.from_numpy(order[:a, begin : begin + width]).to(device)
            yield clients.X[rows], clients.y[rows], weight.to(clients.X.dtype)


def _rows(part: npt.ArrayLike, n: int, client: int) -> npt.NDArray[np.int64]:
    """A client's row numbers; ValueError for a mask, for fractions and for rows that there are not."""
    found = np.asarray(part)
    whole = found.ndim == 1 and (found.dtype.kind in "iu" or not found.size)
    if not whole or (found.size and not 0 <= found.min() <= found.max() < n):
        raise ValueError(
            f"the rows of client {client} must be whole numbers from 0 to {n - 1}, got {found.dtype} {found.shape}; a mask "
            "becomes rows by np.flatnonzero"
        )
    return found.astype(np.int64)


def _numbers(
    module: nn.Module, parameters: Tensor, clients: Clients, which: Sequence[int] | npt.NDArray[np.int64] | None
) -> npt.NDArray[np.int64]:
    """`which` as (S,) int64; ValueError where it does not fit `clients`, or `parameters` do not fit it and `module`."""
    if not all(parameter.requires_grad for parameter in module.parameters()):
        raise ValueError("some of the model's parameters are frozen, and here all are trained; give the others as a module")
    numbers = np.arange(len(clients)) if which is None else np.asarray(which, dtype=np.int64)
    if numbers.ndim != 1 or (len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(clients)):
        raise ValueError(f"which must be client numbers from 0 to {len(clients) - 1}, got {which}")
    P = len(vector(module))
    if parameters.shape != (len(numbers), P):
        raise ValueError(f"parameters must be ({len(numbers)}, {P}), a row a client, got {tuple(parameters.shape)}")
    if parameters.device.type != clients.X.device.type:
        raise ValueError(f"parameters are on {parameters.device} and the clients' rows on {clients.X.device}; move one of them")
    return numbers
