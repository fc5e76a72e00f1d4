"""Many small models of one shape, trained at once: each client its own rows, its own parameters, its own order of rows.

A round of 10,000 clients is 10,000 little trainings, and a loop over them spends its time on everything but arithmetic. Here
the parameters of a chunk of clients are stacked and every layer is one batched product. `train_loop` says the same thing
slowly, client by client with torch's own autograd and SGD; both draw the same batches, so they can be held equal.

The parameters of K models are one matrix (K, P), a row a model, in the order of `module.parameters()`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

CHUNK = {"cpu": 16, "cuda": 2_048}  # models at once: on a CPU what fits its cache, on a GPU what fills it

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss (B,) of logits (B, c) whose classes are `targets` (B,) int64."""
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss (B,) of outputs (B, m) that should be `targets` (B, m): the mean of the squares, as an autoencoder's."""
    return (outputs - targets).square().flatten(1).mean(1)


@dataclass(frozen=True)
class Clients:
    """What every client holds: rows `X` (n, d) and targets `y` (n, ...) of all, client after client; `starts` (K + 1,)."""

    X: Tensor
    y: Tensor
    starts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, X: npt.ArrayLike, y: npt.ArrayLike, parts: Sequence[npt.ArrayLike]) -> Self:
        """The clients whose rows of X (n, d) and y (n, ...) are `parts`: arrays of row numbers, as `data.splits` gives them.

        Floats become float32, classes int64. Raises ValueError for no client, a client without rows, lengths that differ, and
        NaN or infinity.
        """
        rows, targets = torch.as_tensor(np.asarray(X)).float(), torch.as_tensor(np.asarray(y))
        targets = targets.float() if targets.is_floating_point() else targets.long()
        if not len(parts):
            raise ValueError("a federation needs at least one client, got none")
        if rows.ndim != 2 or len(rows) != len(targets):
            raise ValueError(f"X must be (n, d) and y have as many rows, got {tuple(rows.shape)} and {tuple(targets.shape)}")
        for name, values in (("X", rows), ("y", targets)):
            if values.is_floating_point() and not values.isfinite().all():
                raise ValueError(f"{name} holds NaN or infinity, first in row {(~values.isfinite()).nonzero()[0, 0]}; drop it")
        places = [np.asarray(part, dtype=np.int64) for part in parts]
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
    come from `seed` and the client's number alone, so neither `chunk` nor who else trains changes a result, but for rounding.
    `first` is the number of client 0 where `clients` are some of a larger federation.
    Stacks of `nn.Linear` and `nn.ReLU` with one of the two losses here go through products by hand, all else through
    torch.func. Runs where `parameters` are; `clients` must be there too. A client that diverges leaves infinities or NaN in
    its own row, which the caller finds. Raises ValueError where sizes do not fit.
    """
    numbers = _numbers(module, parameters, clients, which)
    step = _by_hand(module, loss) or _by_autograd(module, loss)
    shapes = [parameter.shape for parameter in module.parameters()]
    draws = np.random.default_rng(seed).integers(2**63, size=first + len(clients))[first:]  # a seed for each, drawn or not
    chunk = chunk or CHUNK.get(parameters.device.type, CHUNK["cpu"])
    # Clients of like size share a chunk, the larger first: those that still have a batch are always the first ones.
    places = np.argsort(-clients.sizes[numbers], kind="stable")
    with torch.no_grad():
        for begin in range(0, len(places), chunk):
            rows = torch.from_numpy(places[begin : begin + chunk]).to(parameters.device)
            chosen = numbers[places[begin : begin + chunk]]
            stack = _Stack(parameters[rows], shapes, how)
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
    """What each model, a row of `parameters` (K, P), answers to the rows X (n, d): (chunk, n, ...), chunk after chunk."""
    shapes = [parameter.shape for parameter in module.parameters()]
    names = [name for name, _ in module.named_parameters()]
    chunk = chunk or CHUNK.get(parameters.device.type, CHUNK["cpu"])
    with torch.no_grad():
        for begin in range(0, len(parameters), chunk):
            stack = _Stack(parameters[begin : begin + chunk], shapes, SGD())
            weights = dict(zip(names, stack.values, strict=True))
            yield vmap(lambda weights: functional_call(module, weights, (X,)))(weights)


class _Stack:
    """The parameters of some models (C, P), cut into a contiguous buffer (C, *shape) a layer, and one step of SGD on them.

    Batched products fall back to a loop over models on the strided views that a cut of the matrix itself would be.
    """

    def __init__(self, parameters: Tensor, shapes: Sequence[torch.Size], how: SGD):
        sizes = [shape.numel() for shape in shapes]
        parts = parameters.split(sizes, dim=1)
        self.how = how
        self.values = [part.reshape(len(parameters), *shape).contiguous() for part, shape in zip(parts, shapes, strict=True)]
        if len(self.values) == 1:
            self.values[0] = self.values[0].clone()  # the one cut that is still the matrix itself
        self.first = [value.clone() for value in self.values] if how.proximal else []
        self.speed = [torch.zeros_like(value) for value in self.values] if how.momentum else []

    def flat(self) -> Tensor:
        """The parameters as (C, P) again."""
        return torch.cat([value.flatten(1) for value in self.values], dim=1)

    def product(self, i: int, left: Tensor, right: Tensor) -> None:
        """A step by the gradient `left` (a, p, B) @ `right` (a, B, q) of parameter `i`, for the first a models."""
        a, how = len(left), self.how
        if how.momentum:
            self.gradient(i, left @ right)
            return
        self.values[i][:a].baddbmm_(left, right, beta=1 - how.learning_rate * how.proximal, alpha=-how.learning_rate)
        if how.proximal:
            self.values[i][:a].add_(self.first[i][:a], alpha=how.learning_rate * how.proximal)

    def gradient(self, i: int, slope: Tensor) -> None:
        """A step by the gradient `slope` (a, *shape) of parameter `i`, for the first a models."""
        a, how = len(slope), self.how
        value = self.values[i][:a]
        if how.proximal:
            slope = slope.add(value - self.first[i][:a], alpha=how.proximal)
        if how.momentum:
            slope = self.speed[i][:a].mul_(how.momentum).add_(slope)
        value.sub_(slope, alpha=how.learning_rate)


Step = Callable[[_Stack, Tensor, Tensor, Tensor], None]


@dataclass
class _Layer:
    """A linear layer: the places of its weight and its bias, None without one, among the parameters; whether a ReLU follows."""

    weight: int
    bias: int | None
    bends: bool = False


def _by_hand(module: nn.Module, loss: Loss) -> Step | None:
    """A step with the gradients of a stack of linear layers written out; None where `module` or `loss` is something else."""
    layers = _linear(list(module) if isinstance(module, nn.Sequential) else [module])
    if not layers or layers[-1].bends or loss not in (cross_entropy, squared_error):
        return None
    backward = torch.ops.aten.threshold_backward.grad_input

    def step(stack: _Stack, X: Tensor, y: Tensor, weight: Tensor) -> None:
        a, signals = len(X), [X]  # (a, B, d), then (a, B, width of each layer)
        for layer in layers:
            W = stack.values[layer.weight][:a].transpose(1, 2)  # (a, in, out)
            if layer.bias is None:
                signals.append(signals[-1] @ W)
            else:
                signals.append(torch.baddbmm(stack.values[layer.bias][:a].unsqueeze(1), signals[-1], W))
            if layer.bends:
                signals[-1].relu_()
        slope = _slope(signals.pop(), y, loss).mul_(weight.unsqueeze(2))  # (a, B, c), what the outputs do to the loss
        for i, layer in reversed(list(enumerate(layers))):
            earlier = slope @ stack.values[layer.weight][:a] if i else slope  # before the step changes the weights
            stack.product(layer.weight, slope.transpose(1, 2), signals[i])
            if layer.bias is not None:
                stack.gradient(layer.bias, slope.sum(1))
            if i and layers[i - 1].bends:
                backward(earlier, signals[i], 0, grad_input=earlier)  # nothing passes where the bend cut
            slope = earlier

    return step


def _linear(modules: Sequence[nn.Module]) -> list[_Layer]:
    """The linear layers of a stack of those and ReLUs; none where there is any other layer."""
    layers: list[_Layer] = []
    place = 0
    for module in modules:
        if type(module) is nn.Linear:
            layers.append(_Layer(place, None if module.bias is None else place + 1))
            place += 1 + (module.bias is not None)
        elif type(module) is nn.ReLU and layers:
            layers[-1].bends = True
        else:
            return []
    return layers


def _slope(outputs: Tensor, y: Tensor, loss: Loss) -> Tensor:
    """The gradient (a, B, c) of each row's loss by its outputs (a, B, c)."""
    if loss is squared_error:
        return (outputs - y).mul_(2 / outputs.shape[2])
    chances = outputs.softmax(2)
    return chances.scatter_add_(2, y.unsqueeze(2), chances.new_full((1, 1, 1), -1.0).expand(*y.shape, 1))


def _by_autograd(module: nn.Module, loss: Loss) -> Step:
    """A step for any module: torch.func's gradient of the loss of one model, over all models at once."""
    names = [name for name, _ in module.named_parameters()]

    def total(weights: dict[str, Tensor], X: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        return (loss(functional_call(module, weights, (X,)), y) * weight).sum()

    slopes = vmap(grad(total), randomness="different")

    def step(stack: _Stack, X: Tensor, y: Tensor, weight: Tensor) -> None:
        found: dict[str, Any] = slopes(
            {name: value[: len(X)] for name, value in zip(names, stack.values, strict=True)}, X, y, weight
        )
        for i, name in enumerate(names):
            stack.gradient(i, found[name])

    return step


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


def _numbers(
    module: nn.Module, parameters: Tensor, clients: Clients, which: Sequence[int] | npt.NDArray[np.int64] | None
) -> npt.NDArray[np.int64]:
    """`which` as (S,) int64; ValueError where it does not fit `clients`, or `parameters` do not fit it and `module`."""
    numbers = np.arange(len(clients)) if which is None else np.asarray(which, dtype=np.int64)
    if numbers.ndim != 1 or (len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(clients)):
        raise ValueError(f"which must be client numbers from 0 to {len(clients) - 1}, got {which}")
    P = len(vector(module))
    if parameters.shape != (len(numbers), P):
        raise ValueError(f"parameters must be ({len(numbers)}, {P}), a row a client, got {tuple(parameters.shape)}")
    if parameters.device.type != clients.X.device.type:
        raise ValueError(f"parameters are on {parameters.device} and the clients' rows on {clients.X.device}; move one of them")
    return numbers
