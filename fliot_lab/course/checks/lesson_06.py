"""Checks of lesson 06: what one client does, the weighted average, and how far half of the clients lead astray."""

import copy
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fliot_lab.course.checks import CheckFailed, Exercise, array, ask, number, passed, recognised, told_apart

__all__ = ["EXERCISES", "ask", "average", "sampling_variance", "train"]

Array = npt.NDArray[Any]
Case = tuple[nn.Module, Tensor, Tensor, list[Tensor], int, float]
State = dict[str, Tensor]


# ---------------------------------------------------------------------------------------------------- 6.1 what a client does


def train(answer: Callable[..., Any]) -> None:
    """Exercise 6.1: `answer(network, X, y, orders, batch_size, learning_rate)` is (the trained state, number of rows)."""
    cases = _clients()
    received = [_trained(ask(answer, *case), case) for case in cases]
    for case, found in zip(cases, received, strict=True):
        expected = _naive_train(*case)
        if not np.allclose(found, expected, rtol=1e-4, atol=1e-6):
            mistake = recognised(_TRAININGS, cases, received) or "Your network has learnt something else."
            worst = int(np.abs(found - expected).argmax())
            right, yours = told_apart(float(expected[worst]), float(found[worst]))
            _, X, _, orders, size, rate = case
            told = f"{len(X)} rows, {len(orders)} epochs, batches of {size}, rate {rate:g}"
            raise CheckFailed(f"{mistake} {told}: parameter {worst} of {len(found)} is {right}, and yours is {yours}")
    passed("4 to 23 rows, 2 and 3 classes, 1 to 5 epochs, batches that divide the rows and that do not")


def _clients() -> list[Case]:
    """A network, rows, classes, an order of the rows for each epoch, a batch size and a rate; the smallest first."""
    generator = torch.Generator().manual_seed(61)
    made: list[Case] = []
    for n, d, classes, epochs, size, rate in (
        (4, 2, 2, 1, 4, 0.5),
        (6, 2, 2, 1, 2, 0.5),
        (7, 3, 3, 2, 3, 0.2),
        (23, 4, 3, 5, 8, 0.1),
    ):
        network = nn.Sequential(nn.Linear(d, 5), nn.Tanh(), nn.Linear(5, classes))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        X = torch.randn(n, d, generator=generator)
        y = torch.randint(classes, (n,), generator=generator)
        made.append((network, X, y, [torch.randperm(n, generator=generator) for _ in range(epochs)], size, rate))
    return made


def _vector(network: nn.Module) -> Array:
    return np.concatenate([parameter.detach().numpy().ravel() for parameter in network.parameters()])


def _trained(received: Any, case: Case) -> Array:
    """The parameters (P,) that came back; CheckFailed where it is not a state and the number of rows."""
    if not isinstance(received, tuple | list) or len(received) != 2:
        found = "None" if received is None else f"a {type(received).__name__}"
        raise CheckFailed(f"return two things, the state and the number of rows; your function returned {found}")
    state, rows = received
    if not isinstance(state, Mapping):
        found = f"a {type(state).__name__}"
        raise CheckFailed(f"the first thing is the trained network's state, network.state_dict(), and yours is {found}")
    if number(rows, "the number of rows") != len(case[1]):
        raise CheckFailed(
            f"the server weighs a client by its rows: {len(case[1])} here, each counted once, however many epochs; "
            f"you return {rows}"
        )
    return _state(state, case[0].state_dict())


def _naive_train(
    network: nn.Module,
    X: Tensor,
    y: Tensor,
    orders: Sequence[Tensor],
    batch_size: int,
    learning_rate: float,
    *,
    zero: bool = True,
    reduction: str = "mean",
    sign: float = -1,
    last: bool = True,
) -> Array:
    """By hand: the batches' mean losses, a step down each slope."""
    network = copy.deepcopy(network)
    slopes = [torch.zeros_like(parameter) for parameter in network.parameters()]
    for order in orders:
        for begin in range(0, len(order), batch_size):
            batch = order[begin : begin + batch_size]
            if not last and len(batch) < batch_size:
                continue
            loss = nn.functional.cross_entropy(network(X[batch]), y[batch], reduction=reduction)
            found = torch.autograd.grad(loss, list(network.parameters()))
            slopes = [new if zero else old + new for old, new in zip(slopes, found, strict=True)]
            with torch.no_grad():
                for parameter, slope in zip(network.parameters(), slopes, strict=True):
                    parameter.add_(slope, alpha=sign * learning_rate)
    return _vector(network)


def _piled_up(*case: Any) -> Array:
    return _naive_train(*case, zero=False)


def _one_epoch(network: nn.Module, X: Tensor, y: Tensor, orders: list[Tensor], size: int, rate: float) -> Array:
    return _naive_train(network, X, y, orders[:1], size, rate)


def _all_at_once(network: nn.Module, X: Tensor, y: Tensor, orders: list[Tensor], size: int, rate: float) -> Array:
    return _naive_train(network, X, y, orders, len(X), rate)


def _unordered(network: nn.Module, X: Tensor, y: Tensor, orders: list[Tensor], size: int, rate: float) -> Array:
    return _naive_train(network, X, y, [torch.arange(len(X)) for _ in orders], size, rate)


def _summed(*case: Any) -> Array:
    return _naive_train(*case, reduction="sum")


def _upwards(*case: Any) -> Array:
    return _naive_train(*case, sign=1)


def _without_rest(*case: Any) -> Array:
    return _naive_train(*case, last=False)


def _untouched(network: nn.Module, *rest: Any) -> Array:
    return _vector(network)


_TRAININGS: Mapping[Callable[..., Any], str] = {
    _untouched: "Your network comes back as it was: does a step change its parameters?",
    _piled_up: "Slopes pile up in .grad from batch to batch: empty them before each backward().",
    _one_epoch: "You go through the rows once; there is one order for each epoch.",
    _all_at_once: "You take a step for all rows at once; take one for each batch.",
    _unordered: "You take the rows as they lie; each epoch has an order of its own.",
    _summed: "You add up the losses of a batch; take their mean, or a larger batch takes larger steps.",
    _upwards: "You climb: a step goes against the slope.",
    _without_rest: "You leave out the last batch of an epoch where it is smaller than the others.",
}


def _as_answer(road: Callable[..., Array], rows: Callable[[Tensor], int] = len) -> Callable[..., Any]:
    """A road to parameters as a student's function."""

    def answer(network: nn.Module, X: Tensor, *rest: Any) -> tuple[State, int]:
        learnt = copy.deepcopy(network)
        nn.utils.vector_to_parameters(torch.from_numpy(road(network, X, *rest)), learnt.parameters())
        return learnt.state_dict(), rows(X)

    return answer


# ----------------------------------------------------------------------------------------------------- 6.2 the weighted average


def average(answer: Callable[..., Any]) -> None:
    """Exercise 6.2: `answer(states, rows)` is the state that the server makes of the clients' states, weighed by their rows."""
    cases = _answers()
    received = [_state(ask(answer, *case), case[0][0]) for case in cases]
    for (states, rows), found in zip(cases, received, strict=True):
        expected = _naive_average(states, rows)
        if not np.allclose(found, expected, atol=1e-5):
            mistake = recognised(_AVERAGES, cases, received) or "Your average is another."
            worst = int(np.abs(found - expected).argmax())
            right, yours = told_apart(float(expected[worst]), float(found[worst]))
            theirs = [round(float(_flat(state)[worst]), 3) for state in states]
            raise CheckFailed(
                f"{mistake} Clients with {rows} rows say {theirs} for one parameter: {right}, and yours is {yours}"
            )
    passed("1 to 6 clients of equal and of very unequal numbers of rows, 1 to 3 tensors of up to three dimensions")


def _answers() -> list[tuple[list[State], list[int]]]:
    """What clients sent, the smallest first: a number that can be averaged in the head."""
    generator = torch.Generator().manual_seed(62)
    made = [([{"w": torch.tensor([4.0])}, {"w": torch.tensor([8.0])}], [30, 10])]
    for rows in ([5], [10, 10, 10], [1, 2, 3], [400, 8, 8, 90], [7, 1, 1, 1, 1, 2]):
        shapes = {"first.weight": (3, 1, 3), "first.bias": (3,), "answer": (2, 4)}
        made.append(([{name: torch.randn(shape, generator=generator) for name, shape in shapes.items()} for _ in rows], rows))
    return made


def _flat(state: Mapping[str, Any]) -> Array:
    return np.concatenate([np.asarray(value).ravel() for value in state.values()])


def _state(received: Any, like: State) -> Array:
    """The numbers (P,) of a returned state; CheckFailed where names or shapes differ."""
    if not isinstance(received, Mapping):
        found = "None" if received is None else f"a {type(received).__name__}"
        raise CheckFailed(f"return one state, a dict of name to tensor; your function returned {found}")
    if set(received) != set(like):
        raise CheckFailed(f"the state has the names {sorted(like)}, and yours has {sorted(map(str, received))}")
    return _flat({name: array(received[name], tuple(value.shape), name) for name, value in like.items()})


def _naive_average(states: list[State], rows: list[int]) -> Array:
    total = np.zeros_like(_flat(states[0]), dtype=np.float64)
    for state, n in zip(states, rows, strict=True):
        for _ in range(n):  # as if each row had brought its client's model along
            total += _flat(state)
    return total / sum(rows)


def _unweighted(states: list[State], rows: list[int]) -> Array:
    return np.mean([_flat(state) for state in states], axis=0)


def _undivided(states: list[State], rows: list[int]) -> Array:
    return np.sum([n * _flat(state) for state, n in zip(states, rows, strict=True)], axis=0)


def _divided_twice(states: list[State], rows: list[int]) -> Array:
    return _naive_average(states, rows) / len(rows)


def _largest(states: list[State], rows: list[int]) -> Array:
    return _flat(states[int(np.argmax(rows))])


def _inverse(states: list[State], rows: list[int]) -> Array:
    return np.average([_flat(state) for state in states], axis=0, weights=1 / np.array(rows))


def _by_the_largest(states: list[State], rows: list[int]) -> Array:
    return _undivided(states, rows) / max(rows)


_AVERAGES: Mapping[Callable[..., Any], str] = {
    _unweighted: "You count every client alike; a client counts by its rows.",
    _undivided: "You add up without dividing: the weights sum to 1.",
    _divided_twice: "You divide once too often: weights that sum to 1 already make an average.",
    _largest: "You take the largest client's model; all count, by their rows.",
    _inverse: "You weigh the other way round: more rows count more.",
    _by_the_largest: "You divide by the largest number of rows; the weights sum to 1 when divided by all rows together.",
}


def _as_state(road: Callable[..., Array]) -> Callable[..., Any]:
    """A road to numbers as a student's function."""

    def answer(states: list[State], rows: list[int]) -> State:
        parts = np.split(road(states, rows), np.cumsum([value.numel() for value in states[0].values()])[:-1])
        named = zip(states[0].items(), parts, strict=True)
        return {name: torch.from_numpy(np.asarray(part)).reshape(value.shape) for (name, value), part in named}

    return answer


# ------------------------------------------------------------------------------ 6.3 how far half of the clients lead astray


def sampling_variance(answer: Callable[..., Any]) -> None:
    """Exercise 6.3: `answer(updates, m)`, (K, P), int: mean squared distance of the mean of m from that of all K."""
    rng = np.random.default_rng(63)
    cases = [(np.array([[0.0], [2.0]]), 1), (np.array([[0.0], [3.0], [6.0]]), 2)]
    cases += [(rng.normal(size=(K, P)), m) for K, P, m in ((4, 3, 1), (5, 2, 4), (6, 10, 3), (7, 5, 7), (9, 4, 2))]
    received = [number(ask(answer, *case), "the variance") for case in cases]
    for (updates, m), found in zip(cases, received, strict=True):
        expected = _naive_variance(updates, m)
        if not np.isclose(found, expected, rtol=1e-6, atol=1e-9):
            mistake = recognised(_VARIANCES, cases, received) or "Try all ways of choosing m of K, and average."
            right, yours = told_apart(expected, found)
            raise CheckFailed(
                f"{mistake} {m} of {len(updates)} clients, {updates.shape[1]} parameters: {right}, and yours is {yours}"
            )
    passed("1 to 7 of 2 to 9 clients with 1 to 10 parameters, one and all of them included")


def _naive_variance(updates: Array, m: int) -> float:
    """Every way to choose, one after the other."""
    goal, ways = updates.mean(axis=0), combinations(range(len(updates)), m)
    return float(np.mean([((updates[list(some)].mean(axis=0) - goal) ** 2).sum() for some in ways]))


def _spread(updates: Array, ddof: int = 1) -> float:
    return float(((updates - updates.mean(axis=0)) ** 2).sum() / (len(updates) - ddof))


def _with_replacement(updates: Array, m: int) -> float:
    return _spread(updates, 0) / m


def _without_correction(updates: Array, m: int) -> float:
    return _spread(updates) / m


def _by_K(updates: Array, m: int) -> float:
    return (1 - m / len(updates)) * _spread(updates, 0) / m


def _per_parameter(updates: Array, m: int) -> float:
    return _naive_variance(updates, m) / updates.shape[1]


def _root(updates: Array, m: int) -> float:
    return _naive_variance(updates, m) ** 0.5


def _of_one(updates: Array, m: int) -> float:
    return (1 - m / len(updates)) * _spread(updates)


_VARIANCES: Mapping[Callable[..., Any], str] = {
    _with_replacement: "That is for clients drawn with replacement; no client is asked twice in a round.",
    _without_correction: "With m = K nothing is left to chance: a factor 1 - m/K is missing.",
    _by_K: "You divide the squares by K; with K - 1 the formula is exact.",
    _per_parameter: "You take the mean over the parameters; the distance adds up their squares.",
    _root: "You return a distance; the variance is its square.",
    _of_one: "You forget to divide by m: the mean of many strays less than one.",
}

EXERCISES = {
    "6.1": Exercise(train, {
        _as_answer(_untouched): "comes back as it was", _as_answer(_piled_up): "pile up",
        _as_answer(_one_epoch): "one order for each epoch", _as_answer(_all_at_once): "one for each batch",
        _as_answer(_unordered): "an order of its own", _as_answer(_summed): "take their mean",
        _as_answer(_upwards): "against the slope", _as_answer(_without_rest): "leave out the last batch",
        _as_answer(_naive_train, lambda X: 5 * len(X)): "each counted once",
        lambda network, *rest: network: "returned a Sequential",
        lambda network, X, *rest: (_vector(network), len(X)): "yours is a ndarray",
        lambda network, X, *rest: (network, len(X)): "yours is a Sequential",
    }),
    "6.2": Exercise(average, {
        _as_state(_unweighted): "every client alike", _as_state(_undivided): "without dividing",
        _as_state(_divided_twice): "once too often", _as_state(_largest): "largest client's model",
        _as_state(_inverse): "other way round", _as_state(_by_the_largest): "largest number of rows",
        lambda states, rows: list(states[0].values()): "returned a list",
        lambda states, rows: {"weight": 1.0}: "has the names",
    }),
    "6.3": Exercise(sampling_variance, {
        _with_replacement: "with replacement", _without_correction: "a factor 1 - m/K", _by_K: "with K - 1",
        _per_parameter: "over the parameters", _root: "its square", _of_one: "divide by m",
    }),
}  # fmt: skip
