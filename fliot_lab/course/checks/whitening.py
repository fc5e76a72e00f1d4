"""Check of exercise 3.6: residuals measured in units of what is usual among benign flows."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fliot_lab.course.checks import CheckFailed, Exercise, array, ask, lists_told_apart, passed, recognised, told_apart

Floats = npt.NDArray[np.float64]


def whitened_error(answer: Callable[..., Any]) -> None:
    """Exercise 3.6: `answer(R_fit, R_new, shrinkage)`, (n, d), (m, d) and a share, is each row's squared length over d (m,)."""
    cases = _residuals()
    received = [_scores(ask(answer, *case), *case) for case in cases]
    for case, found in zip(cases, received, strict=True):
        expected = _naive_lengths(*case)
        if not np.allclose(found, expected, rtol=1e-5, atol=1e-7):
            mistake = recognised(_WHITENINGS, cases, received) or "Your scores are not those of the formula."
            raise CheckFailed(f"{mistake} {_whitened(*case, expected, found)}")
    passed("4 to 90 benign residuals that are not centred, 1 to 12 others, 2 to 6 features, a shrinkage from 0 to 0.9")


def _residuals() -> list[tuple[Floats, Floats, float]]:
    """R_fit (n, d), R_new (m, d), shrinkage, the smallest first: S is [[2, 1], [1, 1]] and its inverse [[1, -1], [-1, 2]]."""
    rng = np.random.default_rng(36)
    few = np.array([[2.0, 1], [0, 1], [2, 1], [0, -1]]), np.array([[1.0, 0], [0, 1], [1, 1]])
    found: list[tuple[Floats, Floats, float]] = [(*few, 0.0), (*few, 0.5)]
    for n, m, d, shrinkage in ((20, 5, 3, 0.1), (50, 1, 4, 0.3), (90, 12, 6, 0.0), (30, 7, 5, 0.9)):
        mix = rng.normal(size=(d, d)) + np.eye(d)  # (d, d): features that err together
        R_fit, R_new = (rng.normal(0.3, 1, (rows, d)) @ mix for rows in (n, m))
        found.append((R_fit, R_new, shrinkage))
    return found


def _naive_lengths(R_fit: Floats, R_new: Floats, shrinkage: float) -> Floats:
    """One row at a time: S is the mean of r r^T, and C^-1 r the solution v of C v = r."""
    n, d = R_fit.shape
    S = sum(np.outer(r, r) for r in R_fit) / n
    C = (1 - shrinkage) * S + shrinkage * sum(S[i, i] for i in range(d)) / d * np.eye(d)
    return np.array([sum(r * np.linalg.solve(C, r)) / d for r in R_new])


def _scores(received: Any, R_fit: Floats, R_new: Floats, shrinkage: float) -> Floats:
    """`received` as scores (m,); CheckFailed where it is of another shape."""
    m, d = R_new.shape
    per_row = f"and must return one for each of the {m} rows of R_new"
    known = {
        (): f"your function returns one score for all, {per_row}: sum over the features only",
        (
            d,
        ): f"your function returns one score for each of the {d} features, {per_row}. The axis that is summed over disappears",
        (
            m,
            m,
        ): f"your function multiplies each row with each, {per_row}. What you seek is on the diagonal: multiply element by "
        "element and sum over the features",
    }
    shape = np.shape(received)
    if shape != (m,) and shape in known and received is not None:
        raise CheckFailed(known[shape])
    return array(received, (m,), "the array of scores")


def _whitened(R_fit: Floats, R_new: Floats, shrinkage: float, expected: Floats, found: Floats) -> str:
    """The case in words: whole where it is small, otherwise the row that is furthest off."""
    if R_fit.size <= 8:
        all_right, all_yours = lists_told_apart(expected, found)
        given = f"R_fit = {R_fit.tolist()}, R_new = {R_new.tolist()} and shrinkage = {shrinkage:g}"
        return f"For {given} the scores are {all_right}, and yours are {all_yours}"
    worst = int(np.abs(found - expected).argmax())
    right, yours = told_apart(expected[worst], found[worst])
    return (
        f"With {len(R_fit)} rows in R_fit, {R_fit.shape[1]} features and shrinkage = {shrinkage:g}, the score of "
        f"R_new[{worst}] is {right}, and yours is {yours}"
    )


# ----------------------------------------------------------------------------------------------------------------- mistakes


def _usual(R_fit: Floats, R_new: Floats) -> Floats:
    """S (d, d)."""
    return np.asarray(R_fit.T @ R_fit / len(R_fit))


def _shrunk(S: Floats, shrinkage: float) -> Floats:
    """C (d, d)."""
    return np.asarray((1 - shrinkage) * S + shrinkage * np.trace(S) / len(S) * np.eye(len(S)))


def _length(C: Floats, R: Floats) -> Any:
    return (np.linalg.solve(C, R.T) * R.T).sum(axis=0) / len(C)


def _whitener(
    usual: Callable[[Floats, Floats], Floats] = _usual,
    shrunk: Callable[[Floats, float], Floats] = _shrunk,
    length: Callable[[Floats, Floats], Any] = _length,
) -> Callable[[Floats, Floats, float], Any]:
    """An answer in which one step may be another than the right one."""

    def whitened(R_fit: Floats, R_new: Floats, shrinkage: float) -> Any:
        return length(shrunk(usual(R_fit, R_new), shrinkage), R_new)

    return whitened


_no_shrinkage = _whitener(shrunk=lambda S, shrinkage: S)
_plain_identity = _whitener(shrunk=lambda S, shrinkage: (1 - shrinkage) * S + shrinkage * np.eye(len(S)))
_whole_trace = _whitener(shrunk=lambda S, shrinkage: (1 - shrinkage) * S + shrinkage * np.trace(S) * np.eye(len(S)))
_everywhere = _whitener(shrunk=lambda S, shrinkage: (1 - shrinkage) * S + shrinkage * np.trace(S) / len(S))
_added = _whitener(shrunk=lambda S, shrinkage: S + shrinkage * np.trace(S) / len(S) * np.eye(len(S)))
_shares_swapped = _whitener(shrunk=lambda S, shrinkage: _shrunk(S, 1 - shrinkage))
_centred = _whitener(lambda R_fit, R_new: np.cov(R_fit.T))
_centred_over_n = _whitener(lambda R_fit, R_new: np.cov(R_fit.T, bias=True))
_of_new = _whitener(lambda R_fit, R_new: _usual(R_new, R_fit))
_sum_of_squares = _whitener(lambda R_fit, R_new: R_fit.T @ R_fit)
_over_n_less_one = _whitener(lambda R_fit, R_new: R_fit.T @ R_fit / (len(R_fit) - 1))
_not_divided = _whitener(length=lambda C, R: _length(C, R) * len(C))
_root = _whitener(length=lambda C, R: np.sqrt(_length(C, R)))
_root_not_divided = _whitener(length=lambda C, R: np.sqrt(_length(C, R) * len(C)))
_each_by_itself = _whitener(length=lambda C, R: (R**2 / np.diag(C)).mean(axis=1))
_not_inverted = _whitener(length=lambda C, R: (R @ C * R).mean(axis=1))
_inverted_by_element = _whitener(length=lambda C, R: (R @ C**-1 * R).mean(axis=1))
_each_with_each = _whitener(length=lambda C, R: R @ np.linalg.inv(C) @ R.T / len(C))
_one_for_all = _whitener(length=lambda C, R: _length(C, R).mean())
_over_the_rows = _whitener(length=lambda C, R: (R @ np.linalg.inv(C) * R).mean(axis=0))

_WHITENINGS: dict[Callable[..., Any], str] = {
    _no_shrinkage: "You do not shrink S. With few flows, or two features that always err together, it has next to no inverse: "
    "the part `shrinkage` of C is trace(S) / d times the identity.",
    _plain_identity: "You add the identity as it is. Its 1 means much among small residuals and nothing among large ones: "
    "trace(S) / d, the mean variance, gives it their size.",
    _whole_trace: "You scale the identity by trace(S). That is the sum of d variances, and what is wanted is the mean of them: "
    "divide the trace by d.",
    _everywhere: "You add to every element of S. The identity is 1 on the diagonal and 0 elsewhere: multiply by np.eye(d).",
    _added: "You add the identity and leave S whole. What one gains the other loses: S counts (1 - shrinkage).",
    _shares_swapped: "Your two parts are swapped: S counts (1 - shrinkage), and the identity counts shrinkage.",
    **dict.fromkeys(
        (_centred, _centred_over_n),
        "You centre the residuals; np.cov does so by itself. A residual's place to be is 0 and not the mean: an error that "
        "every benign flow shares is an error. S = R_fit.T @ R_fit / n.",
    ),
    _of_new: "You take S from R_new. These are the flows being judged: attacks would set their own measure. S comes from "
    "R_fit, which is benign.",
    _sum_of_squares: "Your S is a sum. It has to be a mean, or every score falls with the number of benign flows: divide by n.",
    _over_n_less_one: "You divide S by n - 1. That corrects for a mean that was estimated and taken off; here none is: divide "
    "by n.",
    _not_divided: "You do not divide by d. A score would then grow with the number of features, and a threshold mean something "
    "else.",
    **dict.fromkeys(
        (_root, _root_not_divided),
        "You take the square root. Asked is the squared length over d: the order of the flows stays, but a threshold on "
        "squared lengths would not fit.",
    ),
    _each_by_itself: "You use the diagonal of C alone, each feature by itself. Two errors that always come together then count "
    "twice: it takes the whole matrix.",
    _not_inverted: "You multiply by C and not by its inverse. What varies most among benign flows would then count most; the "
    "inverse makes it count least.",
    _inverted_by_element: "You invert the elements of C, each by itself: C ** -1 and 1 / C do that. The inverse of a matrix is "
    "np.linalg.inv(C), and np.linalg.solve(C, R.T) gives the product right away.",
}

WHITENING = Exercise(
    whitened_error,
    {
        _no_shrinkage: "do not shrink",
        _plain_identity: "identity as it is",
        _whole_trace: "divide the trace by d",
        _everywhere: "np.eye(d)",
        _added: "leave S whole",
        _shares_swapped: "parts are swapped",
        _centred: "centre the residuals",
        _centred_over_n: "centre the residuals",
        _of_new: "take S from R_new",
        _sum_of_squares: "Your S is a sum",
        _over_n_less_one: "divide S by n - 1",
        _not_divided: "do not divide by d",
        _root: "square root",
        _root_not_divided: "square root",
        _each_by_itself: "each feature by itself",
        _not_inverted: "not by its inverse",
        _inverted_by_element: "invert the elements",
        _each_with_each: "each row with each",
        _one_for_all: "one score for all",
        _over_the_rows: "one score for each of the",
    },
)
