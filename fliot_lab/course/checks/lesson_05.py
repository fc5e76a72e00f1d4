"""Checks of lesson 05: Metropolis weights, a gossip step and where it ends, rounds from the spectral gap, bytes."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from fliot_lab.course.checks import CheckFailed, Exercise, array, ask, messages_counted, number, passed, recognised, told_apart
from fliot_lab.course.checks.messages_counted import adjacencies, bytes_sent
from fliot_lab.federation import topology

__all__ = ["EXERCISES", "ask", "bytes_sent", "gossip", "metropolis", "rounds_needed"]

Array = npt.NDArray[Any]


def _dense(received: Any, shape: tuple[int, ...], name: str) -> Array:
    """What `array` makes of it; a sparse one is told how to become dense."""
    if sparse.issparse(received):
        raise CheckFailed(f"{name} is a sparse {type(received).__name__}; make it dense: end with `.toarray()`")
    return array(received, shape, name)


# --------------------------------------------------------------------------------------------------- 5.1 Metropolis weights


def metropolis(answer: Callable[..., Any]) -> None:
    """Exercise 5.1: `answer(A)` is the mixing matrix (K, K) of the neighbours A (K, K), with Metropolis weights."""
    cases = [(A,) for A in adjacencies()]
    received = [_dense(ask(answer, *case), case[0].shape, "W") for case in cases]
    for (A,), found in zip(cases, received, strict=True):
        expected = _naive_metropolis(A)
        if not np.allclose(found, expected):
            mistake = recognised(_WEIGHTS, cases, received) or _which_law(found)
            i, j = np.argwhere(~np.isclose(found, expected))[0]
            right, yours = told_apart(expected[i, j], found[i, j])
            known = f"Of {len(A)} nodes with {A.sum(1).astype(int).tolist()} neighbours"
            raise CheckFailed(f"{mistake} {known} W[{i}, {j}] is {right}, and yours is {yours}")
    passed("2 to 16 nodes: a pair, a star, a ring, a complete graph, regular ones and some of mixed degrees")


def _naive_metropolis(A: Array) -> Array:
    K = len(A)
    W = np.zeros((K, K))
    for i in range(K):
        for j in range(K):
            if A[i, j]:
                W[i, j] = 1 / (1 + max(A[i].sum(), A[j].sum()))
        W[i, i] = 1 - W[i].sum()
    return W


def _which_law(W: Array) -> str:
    for axis, name in ((1, "row"), (0, "column")):
        sums = W.sum(axis)
        if not np.allclose(sums, 1):
            worst = int(np.abs(sums - 1).argmax())
            return f"Every {name} of W sums to 1; {name} {worst} of yours sums to {sums[worst]:.3g}."
    return "Rows and columns sum to 1, as they should, but the weights are others."


def _own_degree(A: Array) -> Array:
    W = A / (1 + A.sum(1, keepdims=True))
    return W + np.diag(1 - W.sum(1))


def _smaller_degree(A: Array) -> Array:
    d = A.sum(1)
    W = A / (1 + np.minimum.outer(d, d))
    return W + np.diag(1 - W.sum(1))


def _without_one(A: Array) -> Array:
    d = A.sum(1)
    W = A / np.maximum.outer(d, d)
    return W + np.diag(1 - W.sum(1))


def _empty_diagonal(A: Array) -> Array:
    d = A.sum(1)
    return A / (1 + np.maximum.outer(d, d))


def _not_only_neighbours(A: Array) -> Array:
    d = A.sum(1)
    W = 1 / (1 + np.maximum.outer(d, d))
    np.fill_diagonal(W, 0)
    return W + np.diag(1 - W.sum(1))


_WEIGHTS = {
    _own_degree: "You divide by the node's own number of neighbours: rows sum to 1, columns do not, and the mean moves.",
    _smaller_degree: "You take the smaller of the two numbers of neighbours, and a hub gives away more than it has.",
    _without_one: "You divide by the larger number of neighbours; it is one more, for the node itself.",
    _empty_diagonal: "Your diagonal is empty: what the neighbours leave of 1 is the node's own.",
    _not_only_neighbours: "You give weight to nodes that are no neighbours; A says who is heard.",
}


# ------------------------------------------------------------------------------------------- 5.2 one step, and where it ends


def gossip(answer: Callable[..., Any]) -> None:
    """Exercise 5.2: `answer(W, x)` is (x (K, P) after one round, what all nodes end up with (P,))."""
    cases = _mixtures()
    received = []
    for W, x in cases:
        found = ask(answer, W, x)
        if not isinstance(found, tuple | list) or len(found) != 2:
            asked = "return two things: the parameters (K, P) after one round, and those (P,) that all end up with"
            raise CheckFailed(f"{asked}; yours is a {type(found).__name__}")
        received.append((_dense(found[0], x.shape, "the first"), _dense(found[1], (x.shape[1],), "the second")))
    for place, roads in enumerate((_STEPS, _ENDS)):
        answers = [found[place] for found in received]
        for (W, x), found in zip(cases, answers, strict=True):
            expected = _naive_gossip(W, x)[place]
            if not np.allclose(found, expected, atol=1e-6):
                mistake = recognised(roads, cases, answers) or (_early(cases, answers, W, x) if place else None)
                by_hand = ("Follow one number through one round by hand.", "Look at the rows of a high power of W.")[place]
                where = tuple(np.argwhere(~np.isclose(found, expected, atol=1e-6))[0].tolist())
                what = f"after one round x[{where[0]}, {where[1]}]" if place == 0 else f"in the end x[:, {where[0]}]"
                right, yours = told_apart(float(expected[where]), float(found[where]))
                fair = "doubly stochastic" if np.allclose(W.sum(0), 1) else "whose columns do not sum to 1"
                asked = f"For a W of {len(W)} nodes, {fair}, {what} is {right}, and yours is {yours}"
                raise CheckFailed(f"{mistake or by_hand} {asked}")
    passed("2 to 20 nodes, 1 to 4 parameters, fair mixing matrices and plain means, networks that agree soon and late")


def _mixtures() -> list[tuple[Array, Array]]:
    """W (K, K) with rows that sum to 1 and x (K, P), the smallest first."""
    rng = np.random.default_rng(52)
    star = topology.star(4).adjacency().toarray() + np.eye(4)
    found = [
        (np.array([[0.75, 0.25], [0.25, 0.75]]), np.array([[4.0], [0.0]])),
        (np.array([[0.5, 0.5], [0.25, 0.75]]), np.array([[4.0], [0.0]])),
        (star / star.sum(1, keepdims=True), np.array([[10.0], [0], [0], [1]])),
    ]
    path = topology.from_edges([(i, i + 1) for i in range(19)])  # slow: half of the differences are left after 84 rounds
    for graph in (topology.ring(5), topology.star(6), topology.random_regular(12, 3, 52), path):
        A = graph.adjacency().toarray()
        plain = A + np.eye(len(A))
        x = rng.normal(0, 10, (len(A), int(rng.integers(1, 5))))
        found += [(_naive_metropolis(A), x), (plain / plain.sum(1, keepdims=True), x)]
    return found


def _naive_gossip(W: Array, x: Array) -> tuple[Array, Array]:
    """One step by loops; the end by taking so many."""
    K, P = x.shape
    one = np.array([[sum(W[i, j] * x[j, p] for j in range(K)) for p in range(P)] for i in range(K)])
    return one, _rounds(W, x)[-1, 0]


def _rounds(W: Array, x: Array) -> Array:
    """Parameters (3000, K, P) after 1, 2, 3, ... rounds: at the end of them all cases agree to ten digits."""
    found = np.empty((3_000, *x.shape))
    for t in range(len(found)):
        x = found[t] = W @ x
    return found


def _early(cases: list[tuple[Array, Array]], answers: list[Array], W: Array, x: Array) -> str | None:
    """Words for `answers` that are each what some node holds after some rounds: after how many, for the W and x of a case."""
    for (V, z), found in zip(cases, answers, strict=True):
        far = np.abs(_rounds(V, z) - found).max(axis=2).min(axis=1)  # (3000,): of the closest node
        if far.min() > 1e-6 + 1e-5 * np.abs(found).max():
            return None
        if V is W and z is x:
            t = int(far.argmin()) + 1
    return f"That is after {t} {'round' if t == 1 else 'rounds'}; go on until nothing changes."


def _from_left(W: Array, x: Array) -> Array:
    return W.T @ x


def _without_own(W: Array, x: Array) -> Array:
    V = W - np.diag(np.diag(W))
    return V @ x


def _two_rounds(W: Array, x: Array) -> Array:
    return W @ W @ x


def _mean(W: Array, x: Array) -> Array:
    return x.mean(0)


def _few_rounds(W: Array, x: Array, rounds: int = 3) -> Array:
    return (np.linalg.matrix_power(W, rounds) @ x)[0]


def _largest(W: Array, x: Array) -> Array:
    return x[W.sum(0).argmax()]


def _by_columns(W: Array, x: Array) -> Array:
    return W.sum(0) @ x / len(W)


_STEPS = {
    _from_left: "You go along the columns of W (its transpose); row i says whom node i hears.",
    _without_own: "You leave out what a node keeps of its own, the diagonal of W.",
    _two_rounds: "That is two rounds.",
}
_ENDS = {
    _mean: "The mean over the nodes is where a doubly stochastic W ends, and no other: who is heard more counts more.",
    _largest: "No single node decides.",
    _by_columns: "The sums of the columns say how much a node counts after one round, not in the end.",
}


# ------------------------------------------------------------------------------------- 5.3 the spectral gap predicts rounds


def rounds_needed(answer: Callable[..., Any]) -> None:
    """Exercise 5.3: `answer(W, error)` is the smallest t from 1 with |lambda_2|^t <= error."""
    cases = _fair()
    received = [_asked(answer, *case) for case in cases]
    for (W, error), found in zip(cases, received, strict=True):
        expected = _naive_rounds(W, error)
        if found != expected:
            mistake = _which_eigenvalue(cases, received)
            if isinstance(found, CheckFailed) and (mistake is None or not _divides(found)):
                raise found
            mistake = mistake or "Raise |lambda_2| to your number of rounds, and to one less."
            yours = "yours divides by 0, the logarithm of 1" if isinstance(found, CheckFailed) else f"yours is {found:g}"
            raise CheckFailed(f"{mistake} For {len(W)} nodes and an error of {error:g} it is {expected}, and {yours}")
    passed("2 to 30 nodes, errors from 0.5 to a millionth, a negative second eigenvalue, and a W that is done in one round")


def _fair() -> list[tuple[Array, float]]:
    """Symmetric, doubly stochastic W (K, K) and errors: pairs last, whose second eigenvalue from below is the 1."""
    path = topology.from_edges([(0, 1), (1, 2), (2, 3)])  # its eigenvalues are -0.14, 0.33, 0.80 and 1
    square = np.array([[0.02, 0.49, 0.0, 0.49], [0.49, 0.02, 0.49, 0.0], [0.0, 0.49, 0.02, 0.49], [0.49, 0.0, 0.49, 0.02]])
    found = [(_naive_metropolis(path.adjacency().toarray()), 1e-3)]
    found.append((square, 1e-3))  # its first eigenvalue is -0.96, and larger than the others
    found.append((np.full((6, 6), 1 / 6), 1e-3))
    for graph, error in ((topology.star(8), 1e-3), (topology.ring(30), 1e-6), (topology.random_regular(20, 4, 53), 0.2)):
        found.append((_naive_metropolis(graph.adjacency().toarray()), error))
    nearly_swapped = np.array([[0.1, 0.9], [0.9, 0.1]])  # its other eigenvalue is -0.8
    return [*found, (np.array([[0.75, 0.25], [0.25, 0.75]]), 0.5), (nearly_swapped, 0.01)]


def _asked(answer: Callable[..., Any], W: Array, error: float) -> float | CheckFailed:
    """The number of rounds, or why there is none."""
    try:
        return number(ask(answer, W, error), "the number of rounds")
    except CheckFailed as failure:
        if isinstance(failure.__cause__, ValueError) and ("domain" in str(failure) or "positive" in str(failure)):
            no_sign = "|lambda_2| has no sign, and where it is 0 take a trifle such as 1e-12"
            return CheckFailed(f"{failure}. A logarithm needs more than 0: {no_sign}")
        return failure


def _divides(failure: CheckFailed) -> bool:
    """Whether it is a division by 0, or the infinity that comes of it."""
    return isinstance(failure.__cause__, ZeroDivisionError | OverflowError) or "inf:" in str(failure)


def _which_eigenvalue(cases: list[tuple[Array, float]], received: list[float | CheckFailed]) -> str | None:
    """Words for a mistake in what was `received`, judged by the cases of more than two nodes that gave a number."""
    # By rounding, the eigenvalue 1 is a little less, exactly 1 or a little more: huge numbers, none, or those below 1.
    never = [_divides(found) if isinstance(found, CheckFailed) else abs(found) > 1e9 for found in received]
    if any(never) and all(lost or found == 1 for lost, found in zip(never, received, strict=True)):
        return _ONE_INCLUDED
    told = [(case, found) for case, found in zip(cases, received, strict=True) if len(case[0]) > 2]
    given = [(case, found) for case, found in told if not isinstance(found, CheckFailed)]
    return recognised(_ROUNDS, [case for case, _ in given], [found for _, found in given]) if len(given) > 2 else None


def _second(W: Array) -> float:
    values = sorted(np.abs(np.linalg.eigvalsh(W)))
    return float(values[-2])


def _naive_rounds(W: Array, error: float) -> int:
    factor, left, t = _second(W), 1.0, 0
    while left > error or t == 0:
        left, t = left * factor, t + 1
    return t


def _logs(factor: float, error: float) -> float:
    return math.log(error) / math.log(min(max(abs(factor), 1e-12), 1 - 1e-12))


def _sign_kept(W: Array, error: float) -> int:
    return max(1, math.ceil(_logs(np.linalg.eigvalsh(W)[-2], error)))


def _smallest(W: Array, error: float) -> int:
    return max(1, math.ceil(_logs(np.linalg.eigvalsh(W)[0], error)))


def _second_from_below(W: Array, error: float) -> int:
    return max(1, math.ceil(_logs(np.linalg.eigvalsh(W)[1], error)))


def _largest_of_all(W: Array, error: float) -> int:
    return max(1, math.ceil(_logs(np.linalg.eigvalsh(W)[-1], error)))


def _one_rounded(W: Array, error: float) -> int:
    """The largest as machines round it: exactly 1 (a division by 0), a little less or a little more."""
    return max(1, math.ceil(math.log(error) / math.log(1 + (len(W) % 3 - 1) * 1e-15)))


def _rounded_down(W: Array, error: float) -> int:
    return max(1, math.floor(_logs(_second(W), error)))


def _by_the_gap(W: Array, error: float) -> int:
    return max(1, math.ceil(math.log(1 / error) / (1 - _second(W))))


def _turned(W: Array, error: float) -> int:
    return max(1, math.ceil(1 / _logs(_second(W), error)))


_ONE_INCLUDED = "You take the largest eigenvalue, which is the 1 of the mean and never fades; leave it out."
_ROUNDS = {
    _second_from_below: "You take the second of the ascending eigenvalues: the 1 is the last of them, not the first.",
    _sign_kept: "You take the second of the eigenvalues with their signs; one of -0.96 fades more slowly than one of 0.02.",
    _smallest: "You take the smallest eigenvalue; it is the largest without its sign, other than the 1, that lasts longest.",
    _rounded_down: "You round down: one round earlier the nodes are still too far apart.",
    _by_the_gap: "log(1/error) / gap is an approximation for narrow gaps; the exact number needs the logarithm of |lambda_2|.",
    _turned: "Your quotient stands on its head.",
}

EXERCISES = {
    "5.1": Exercise(metropolis, {
        _own_degree: "own number of neighbours", _smaller_degree: "smaller of the two", _without_one: "one more",
        _empty_diagonal: "diagonal is empty", _not_only_neighbours: "no neighbours",
        lambda A: sparse.csr_array(_naive_metropolis(A)): "`.toarray()`",
    }),
    "5.2": Exercise(gossip, {
        lambda W, x: (_from_left(W, x), _naive_gossip(W, x)[1]): "transpose",
        lambda W, x: (_without_own(W, x), _naive_gossip(W, x)[1]): "the diagonal of W",
        lambda W, x: (_two_rounds(W, x), _naive_gossip(W, x)[1]): "two rounds",
        lambda W, x: (W @ x, _mean(W, x)): "doubly stochastic W ends, and no other",
        lambda W, x: (W @ x, _few_rounds(W, x)): "after 3 rounds; go on until nothing changes",
        lambda W, x: (W @ x, _few_rounds(W, x, 50)): "after 50 rounds; go on until nothing changes",
        lambda W, x: (W @ x, (W @ x)[-1]): "after 1 round; go on until nothing changes",
        lambda W, x: (W @ x, _largest(W, x)): "No single node",
        lambda W, x: (W @ x, _by_columns(W, x)): "sums of the columns",
        lambda W, x: W @ x: "yours is a ndarray",
        lambda W, x: (sparse.csr_array(W) @ sparse.csr_array(x), _naive_gossip(W, x)[1]): "`.toarray()`",
    }),
    "5.3": Exercise(rounds_needed, {
        _sign_kept: "with their signs", _smallest: "smallest eigenvalue", _rounded_down: "round down",
        _by_the_gap: "approximation for narrow gaps", _turned: "stands on its head",
        _second_from_below: "ascending eigenvalues", _largest_of_all: "never fades",
        lambda W, error: math.ceil(math.log(error) / math.log(np.linalg.eigvalsh(W)[1])): "ascending eigenvalues",
        lambda W, error: math.ceil(math.log(error) / math.log(round(np.linalg.eigvalsh(W)[-1], 9))): "never fades",
        _one_rounded: "never fades",
    }),
    "5.4": messages_counted.EXERCISE,
}  # fmt: skip
