"""Check of exercise 5.4: the bytes that all nodes of a network send."""

from collections.abc import Callable
from typing import Any

import numpy.typing as npt

from fliot_lab.course.checks import CheckFailed, Exercise, ask, number, passed, recognised
from fliot_lab.federation import topology

Array = npt.NDArray[Any]


def adjacencies() -> list[Array]:
    """Neighbours (K, K) of connected networks, the smallest first."""
    made = [
        topology.from_edges([(0, 1)]),
        topology.star(4),
        topology.from_edges([(0, 1), (1, 2), (2, 3), (3, 0), (0, 2)]),
        topology.complete(5),
        topology.ring(7),
        topology.random_regular(10, 3, 51),
        topology.small_world(16, 4, 0.5, 51),
    ]
    return [graph.adjacency().toarray() for graph in made]


def bytes_sent(answer: Callable[..., Any]) -> None:
    """Exercise 5.4: `answer(A, P, rounds)` is how many bytes all nodes send, with neighbours A (K, K) and P parameters."""
    cases = [
        (A, P, rounds)
        for A, P, rounds in zip(adjacencies(), (1, 10, 7, 100, 20_357, 3, 1_000), (1, 1, 5, 2, 3, 50, 4), strict=True)
    ]
    received = [number(ask(answer, *case), "the number of bytes") for case in cases]
    for (A, P, rounds), found in zip(cases, received, strict=True):
        expected = sum(4 * P for _ in range(rounds) for i in range(len(A)) for j in range(len(A)) if A[i, j])
        if found != expected:
            mistake = recognised(_BYTES, cases, received) or "Count the messages of one round first."
            told = f"{len(A)} nodes with {int(A.sum())} messages a round, {P} parameters, {rounds} rounds"
            raise CheckFailed(f"{mistake} {told}: {expected:,} bytes, and yours are {found:,.0f}")
    passed("2 to 16 nodes of equal and mixed degrees, 1 to 20,357 parameters, 1 to 50 rounds")


def _once_a_link(A: Array, P: int, rounds: int) -> float:
    return A.sum() / 2 * P * 4 * rounds


def _doubles(A: Array, P: int, rounds: int) -> float:
    return A.sum() * P * 8 * rounds


def _once_a_node(A: Array, P: int, rounds: int) -> float:
    return len(A) * P * 4 * rounds


def _one_round(A: Array, P: int, rounds: int) -> float:
    return A.sum() * P * 4


def _values(A: Array, P: int, rounds: int) -> float:
    return A.sum() * P * rounds


_BYTES = {
    _once_a_link: "A link carries two messages a round: each end tells the other.",
    _doubles: "A parameter takes 4 bytes here, not 8.",
    _once_a_node: "A node sends its parameters to each of its neighbours, not once.",
    _one_round: "That is one round; there are more.",
    _values: "You count values; each takes 4 bytes.",
}

EXERCISE = Exercise(bytes_sent, {
        _once_a_link: "two messages a round", _doubles: "4 bytes here, not 8", _once_a_node: "each of its neighbours",
        _one_round: "one round", _values: "each takes 4 bytes",
})  # fmt: skip
