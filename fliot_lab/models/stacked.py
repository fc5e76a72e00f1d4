"""One step of gradient descent for many models of one shape: their parameters in a stack, a batched product a layer.

For stacks of linear layers and 1D-convolutions with ReLUs between, the gradients are written out; torch.func's stand for
every other module.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

if TYPE_CHECKING:
    from fliot_lab.models.batched import SGD

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss (B,) of logits (B, c) whose classes are `targets` (B,) int64."""
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss (B,) of outputs (B, m) that should be `targets` (B, m): the mean of the squares, as an autoencoder's."""
    _same_shape(outputs, targets)
    return (outputs - targets).square().flatten(1).mean(1)


def _same_shape(outputs: Tensor, targets: Tensor) -> None:
    """ValueError where subtraction would make a table of them: targets (n,) and outputs (n, 1)."""
    if outputs.shape[1:] != targets.shape[1:]:
        found = f"outputs have the shape {tuple(outputs.shape)} and targets {tuple(targets.shape)}"
        raise ValueError(f"{found}; give y of shape (n, m), which for one output is y[:, None]")


class Stack:
    """The parameters of some models (C, P), cut into a contiguous buffer (C, *shape) a layer, and one step of SGD on them.

    Batched products fall back to a loop over models on the strided views that a cut of the matrix itself would be.
    """

    def __init__(self, parameters: Tensor, shapes: Sequence[torch.Size], how: "SGD"):
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
        """A step by the gradient `left` (a, p, B) @ `right` (a, B, q) of parameter `i` (C, p, q), for the first a models."""
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


Step = Callable[[Stack, Tensor, Tensor, Tensor], None]


@dataclass
class _Layer:
    """A linear layer, or a convolution of `kernel` neighbours where that is not 0.

    The places of its weight and its bias, None without one, among the parameters; whether a ReLU follows. A signal between
    convolutions is (a, B, d, channels), so that a convolution is a linear layer on the neighbourhood of each place.
    """

    weight: int
    bias: int | None
    kernel: int = 0
    bends: bool = False

    def seen(self, signal: Tensor) -> Tensor:
        """What its weights are multiplied with: (a, rows, inputs)."""
        if not self.kernel:
            return signal if signal.ndim == 3 else signal.transpose(2, 3).flatten(2)  # channel after channel
        a, B, d, channels = signal.shape
        wide = nn.functional.pad(signal, (0, 0, self.kernel // 2, self.kernel // 2))
        near = [wide[:, :, place : place + d] for place in range(self.kernel)]
        return torch.cat(near, dim=3).view(a, B * d, self.kernel * channels)

    def weights(self, stack: Stack, a: int) -> Tensor:
        """The first a models' weights as matrices (a, outputs, inputs), in the order of what is `seen`."""
        values = stack.values[self.weight][:a]
        return values.transpose(2, 3).flatten(2) if self.kernel else values

    def learn(self, stack: Stack, slope: Tensor, seen: Tensor) -> None:
        """A step of its weights and its bias, by the gradient `slope` (a, rows, outputs) of what it made of `seen`."""
        if self.kernel:
            found = slope.transpose(1, 2) @ seen  # (a, outputs, kernel * channels)
            stack.gradient(self.weight, found.unflatten(2, (self.kernel, -1)).transpose(2, 3))
        else:
            stack.product(self.weight, slope.transpose(1, 2), seen)
        if self.bias is not None:
            stack.gradient(self.bias, slope.sum(1))

    def back(self, slope: Tensor, signal: Tensor) -> Tensor:
        """The gradient by the `signal` that it was given, from that by what it has `seen`; both (a, B, ...)."""
        if not self.kernel:
            if signal.ndim == 3:
                return slope
            a, B, d, channels = signal.shape
            return slope.view(a, B, channels, d).transpose(2, 3).contiguous()
        a, B, d, channels = signal.shape
        parts, half = slope.view(a, B, d, self.kernel, channels), self.kernel // 2
        wide = slope.new_zeros(a, B, d + 2 * half, channels)
        for place in range(self.kernel):
            wide[:, :, place : place + d] += parts[:, :, :, place]
        return wide[:, :, half : half + d].contiguous()


def by_hand(module: nn.Module, loss: Loss) -> Step | None:
    """A step with the gradients written out, for linear layers and 1D-convolutions; None for another `module` or `loss`."""
    layers = _layers(module)
    if not layers or layers[-1].bends or layers[-1].kernel or loss not in (cross_entropy, squared_error):
        return None
    backward = torch.ops.aten.threshold_backward.grad_input

    def step(stack: Stack, X: Tensor, y: Tensor, weight: Tensor) -> None:
        a, B = X.shape[:2]
        signals, seen = [X.unsqueeze(3) if layers[0].kernel else X], []  # (a, B, ...), what each layer was given
        for layer in layers:
            seen.append(layer.seen(signals[-1]))
            W = layer.weights(stack, a).transpose(1, 2)  # (a, in, out)
            if layer.bias is None:
                answer = seen[-1] @ W
            else:
                answer = torch.baddbmm(stack.values[layer.bias][:a].unsqueeze(1), seen[-1], W)
            if layer.bends:
                answer.relu_()
            signals.append(answer.view(a, B, -1, answer.shape[2]) if layer.kernel else answer)
        slope = _slope(signals[-1], y, loss).mul_(weight.unsqueeze(2))  # (a, B, c), what the outputs do to the loss
        for i, layer in reversed(list(enumerate(layers))):
            slope = slope.flatten(1, -2)  # (a, rows, outputs)
            earlier = slope @ layer.weights(stack, a) if i else slope  # before the step changes the weights
            layer.learn(stack, slope, seen[i])
            if i:
                slope = layer.back(earlier, signals[i])
                if layers[i - 1].bends:
                    backward(slope, signals[i], 0, grad_input=slope)  # nothing passes where the bend cut

    return step


def _layers(module: nn.Module) -> list[_Layer]:
    """The layers of a chain that `by_hand` knows; none where it has another one, or one twice, or does more than its layers."""
    chain, parameters = _chain(module), list(module.parameters())
    layers: list[_Layer] = []
    place = 0
    convolves = bool(chain) and type(chain[0]) is nn.Unflatten
    if convolves and (chain[0].dim != 1 or chain[0].unflattened_size[0] != 1 or len(chain[0].unflattened_size) != 2):
        return []
    for layer in chain[convolves:]:
        if (type(layer) is nn.Linear and not convolves) or (convolves and _keeps_length(layer)):
            layers.append(_Layer(place, None if layer.bias is None else place + 1, layer.kernel_size[0] if convolves else 0))
            place += 1 + (layer.bias is not None)
        elif type(layer) is nn.ReLU and layers:
            layers[-1].bends = True
        elif type(layer) is nn.Flatten and convolves and layers and (layer.start_dim, layer.end_dim) == (1, -1):
            convolves = False
        else:
            return []
    return layers if place == len(parameters) else []


def _chain(module: nn.Module) -> list[Any]:
    """The modules that a plain chain applies one after the other, chains within it spread out; hooks make it another thing."""
    if type(module) is nn.Sequential and not module._forward_hooks and not module._forward_pre_hooks:
        return [layer for part in module for layer in _chain(part)]
    return [None] if module._forward_hooks or module._forward_pre_hooks else [module]


def _keeps_length(layer: Any) -> bool:
    """Whether a layer is a convolution that gives as many places as it takes, by zeros at both ends."""
    if type(layer) is not nn.Conv1d or layer.padding_mode != "zeros" or layer.kernel_size[0] % 2 == 0:
        return False
    return (layer.stride, layer.dilation, layer.groups, layer.padding) == ((1,), (1,), 1, (layer.kernel_size[0] // 2,))


def _slope(outputs: Tensor, y: Tensor, loss: Loss) -> Tensor:
    """The gradient (a, B, c) of each row's loss by its outputs (a, B, c)."""
    if loss is squared_error:
        _same_shape(outputs, y)
        return (outputs - y).mul_(2 / outputs.shape[2])
    chances = outputs.softmax(2)
    return chances.scatter_add_(2, y.unsqueeze(2), chances.new_full((1, 1, 1), -1.0).expand(*y.shape, 1))


def by_autograd(module: nn.Module, loss: Loss) -> Step:
    """A step for any module: torch.func's gradient of the loss of one model, over all models at once."""
    names = [name for name, _ in module.named_parameters()]
    module = copy.deepcopy(module)  # functional_call leaves a module that has one layer twice with the call's tensors

    def total(weights: dict[str, Tensor], X: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        each = loss(functional_call(module, weights, (X,)), y)
        if each.shape != weight.shape:  # a mean over the batch would count the rows that fill it up
            raise ValueError(
                f"the loss of {len(y)} rows has the shape {tuple(each.shape)}, expected one value a row: take reduction='none'"
            )
        return (each * weight).sum()

    slopes = vmap(grad(total), randomness="different")

    def step(stack: Stack, X: Tensor, y: Tensor, weight: Tensor) -> None:
        found: dict[str, Any] = slopes(
            {name: value[: len(X)] for name, value in zip(names, stack.values, strict=True)}, X, y, weight
        )
        for i, name in enumerate(names):
            stack.gradient(i, found[name])

    return step
