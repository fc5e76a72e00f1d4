"""Checks of lesson 00: the step of a federation, its clients weighted by their flows."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fliot_lab.course.checks import CheckFailed, Exercise, array, ask, lists_told_apart, passed, recognised, told_apart

Floats = npt.NDArray[np.floating[Any]]
Flows = npt.NDArray[np.int64]


def weighted_step(answer: Callable[..., Any]) -> None:
    """Exercise 0.1: `answer(updates, flows)`, (K, P) and (K,), is the sum of the rows, each times its share of the flows."""
    cases = _federations()
    received = [_step(ask(answer, *case), *case) for case in cases]
    for (updates, flows), found in zip(cases, received, strict=True):
        expected = _naive_step(updates, flows)
        if not np.allclose(found, expected, rtol=1e-4, atol=1e-4):
            mistake = recognised(_ROADS, cases, received) or "Your step is not the sum of the rows times their shares."
            raise CheckFailed(f"{mistake} {_example(updates, flows, expected, found)}")
    passed("1 to 50 clients, 2 to 20 parameters, equal and unequal shares, a client without flows")


def _federations() -> list[tuple[Floats, Flows]]:
    """Updates (K, P) and flows (K,), the smallest first: three clients whose step can be worked out by hand."""
    rng = np.random.default_rng(0)
    found: list[tuple[Floats, Flows]] = [
        (np.array([[2.0, 0.0], [0.0, 2.0], [8.0, 4.0]]), np.array([10, 10, 20])),
        (np.array([[1.0, -2.0, 3.0, 0.5]]), np.array([7])),
        (np.array([[1.0, 2.0, 3.0], [5.0, 6.0, -7.0]]), np.array([40, 0])),
    ]
    for clients, parameters in ((4, 4), (50, 20)):
        updates = rng.integers(-9, 10, (clients, parameters)).astype(np.float32)
        found.append((updates, rng.integers(1, 1000, clients)))
    return found


def _naive_step(updates: Floats, flows: Flows) -> Floats:
    step = np.zeros(updates.shape[1])
    for row, count in zip(updates.tolist(), flows.tolist(), strict=True):
        for p, value in enumerate(row):
            step[p] += value * count / sum(flows.tolist())
    return step


def _step(received: Any, updates: Floats, flows: Flows) -> Floats:
    """`received` as a step (P,); CheckFailed where it is of another shape."""
    clients, parameters = updates.shape
    if isinstance(received, np.ndarray) and received.shape == (clients,) and clients != parameters:
        raise CheckFailed(
            f"your step has one number for each client, {clients}, and must have one for each parameter, {parameters}: "
            "the sum goes over the clients, the rows, which is axis 0. The axis that is summed over disappears"
        )
    return array(received, (parameters,), "the step")


def _example(updates: Floats, flows: Flows, expected: Floats, found: Floats) -> str:
    """The case in words: whole where it is small, otherwise the parameter that is furthest off."""
    if updates.size <= 16:
        right, yours = lists_told_apart(expected, found)
        return f"For updates = {updates.tolist()} and flows = {flows.tolist()} the step is {right}, and yours is {yours}"
    worst = int(np.abs(found - expected).argmax())
    return (
        f"With {len(flows)} clients and {updates.shape[1]} parameters, parameter {worst} of the step is "
        "{}, and yours is {}".format(*told_apart(expected[worst], found[worst]))
    )


# ------------------------------------------------------------------------------------------------------- wrong answers


def _plain_mean(updates: Floats, flows: Flows) -> Any:
    return updates.mean(axis=0)


def _not_divided(updates: Floats, flows: Flows) -> Any:
    return flows @ updates


def _divided_by_clients(updates: Floats, flows: Flows) -> Any:
    return (flows[:, None] * updates).mean(axis=0)


def _divided_twice(updates: Floats, flows: Flows) -> Any:
    return (flows / flows.sum() @ updates) / len(flows)


def _over_the_parameters(updates: Floats, flows: Flows) -> Any:
    return flows / flows.sum() * updates.mean(axis=1)


def _in_place(updates: Floats, flows: Flows) -> Any:
    updates *= (flows / flows.sum())[:, None]
    return updates.sum(axis=0)


_ROADS: dict[Callable[..., Any], str] = {
    _plain_mean: "Your step is the plain mean of the rows: every client counts the same. In the first case client 3 holds half "
    "of the flows, and counts for a third with you. Multiply row k by its share, flows[k] / flows.sum().",
    _not_divided: "You multiply each row by its number of flows and not by its share: your weights sum to the number of all "
    "flows, and must sum to 1. Divide by flows.sum().",
    _divided_by_clients: "You divide by the number of clients: the weights must sum to 1, and yours sum to the mean number of "
    "flows. Divide by flows.sum() instead.",
    _divided_twice: "You divide twice: the shares sum to 1 already, so the sum of the rows times their shares is a mean. "
    "Take the sum over the clients, not the mean.",
}

EXERCISES = {
    "0.1": Exercise(
        weighted_step,
        {
            _plain_mean: "plain mean of the rows",
            _not_divided: "not by its share",
            _divided_by_clients: "divide by the number of clients",
            _divided_twice: "divide twice",
            _over_the_parameters: "one number for each client",
            _in_place: "changes its argument 1 in place",
        },
    )
}
