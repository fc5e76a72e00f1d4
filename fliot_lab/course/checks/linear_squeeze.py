"""Check of exercise 3.1: the error of flows that a linear squeeze rebuilds."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fliot_lab.course.checks import CheckFailed, Draw, Exercise, array, ask, lists_told_apart, passed, recognised, told_apart

Floats = npt.NDArray[np.float64]


def squeeze_error(answer: Callable[..., Any]) -> None:
    """Exercise 3.1: `answer(Z_fit, Z_new, b)`, (n, d), (m, d) and int, is each row's mean squared error (m,)."""
    cases = _squeezes()
    received = [_errors(ask(answer, *case), *case) for case in cases]
    for case, found in zip(cases, received, strict=True):
        expected = _naive_squeeze(*case)
        if not np.allclose(found, expected, rtol=1e-5, atol=1e-7):
            mistake = recognised(_SQUEEZES, cases, received) or "Your errors are not those of the formula."
            raise CheckFailed(f"{mistake} {_squeezed(*case, expected, found)}", _draw_errors(expected, found))
    passed("3 to 60 flows to fit, 1 to 25 to rebuild, 2 to 8 features, a bottleneck of 1, of some and of all directions")


def _squeezes() -> list[tuple[Floats, Floats, int]]:
    """Z_fit (n, d), Z_new (m, d) and b, the smallest first: a mean and a direction that can be read off the numbers."""
    rng = np.random.default_rng(31)
    found = [
        (np.array([[0.0, 3], [2, 3], [4, 3]]), np.array([[2.0, 5], [9, 3], [4, 4], [2, 1]]), 1),
        (np.array([[1.0, 0, 2], [1, 6, 2], [1, 3, 1], [1, 3, 3]]), np.array([[1.0, 5, 2], [1, 3, 5]]), 1),
        (np.array([[0.0, 2], [1, 3], [2, 4]]), np.array([[1.0, 5], [7, 9], [3, 3]]), 1),
        (np.array([[0.0, 3], [2, 3], [4, 3]]), np.array([[2.0, 5]]), 1),
    ]
    for n, m, d, b in ((20, 1, 4, 1), (30, 5, 3, 3), (60, 25, 8, 3)):
        turn = np.linalg.qr(rng.normal(size=(d, d)))[0]  # (d, d): a direction a row
        spread = 3.0 / 1.6 ** np.arange(d)  # (d,): no two alike, or the order of directions would be chance
        found.append((*(rng.normal(size=(rows, d)) * spread @ turn + rng.normal(1, 2, d) for rows in (n, m)), b))
    return found


def _naive_squeeze(Z_fit: Floats, Z_new: Floats, b: int) -> Floats:
    """One flow and one direction at a time; the directions are those of the covariance matrix, not of a decomposition of Z."""
    mean = Z_fit.mean(axis=0)
    directions = np.linalg.eigh(np.cov(Z_fit.T))[1].T[::-1][:b]  # eigh begins with the smallest and gives columns
    errors = []
    for z in Z_new:
        rebuilt = mean + sum(((z - mean) @ v) * v for v in directions)
        errors.append(sum((z - rebuilt) ** 2) / len(z))
    return np.array(errors)


def _errors(received: Any, Z_fit: Floats, Z_new: Floats, b: int) -> Floats:
    """`received` as errors (m,); CheckFailed where it is of another shape."""
    m, d = Z_new.shape
    shape = np.shape(received)
    if shape == () and isinstance(received, int | float | np.number):
        raise CheckFailed(
            f"your function returns one error for all {m} rows: a detector needs a score for each flow. Take the mean along "
            "a row, which is axis=1, and not over everything"
        )
    if shape == (d,) and m != d:
        raise CheckFailed(
            f"your function returns one error for each of the {d} features, and must return one for each of the {m} rows: take "
            "the mean along a row, which is axis=1. The axis that is averaged over disappears"
        )
    return array(received, (m,), "the array of errors")


def _squeezed(Z_fit: Floats, Z_new: Floats, b: int, expected: Floats, found: Floats) -> str:
    """The case in words: whole where it is small, otherwise the row that is furthest off."""
    if Z_fit.size <= 12:
        right, yours = lists_told_apart(expected, found)
        given = f"Z_fit = {Z_fit.tolist()}, Z_new = {Z_new.tolist()} and b = {b}"
        return f"For {given} the errors are {right}, and yours are {yours}"
    worst = int(np.abs(found - expected).argmax())
    return (
        f"With {len(Z_fit)} rows to fit, {Z_fit.shape[1]} features and b = {b}, the error of Z_new[{worst}] is "
        "{}, and yours is {}".format(*told_apart(expected[worst], found[worst]))
    )


def _draw_errors(expected: Floats, found: Floats) -> Draw:
    def draw() -> tuple[Any, str]:
        from fliot_lab import plots

        rows = {"expected": expected.tolist(), "yours": found.tolist()}
        figure = plots.line(rows, ylabel="mean squared error", xlabel="row of Z_new, the first is 1", title="Error of each row")
        right, yours = lists_told_apart(expected[:5], found[:5])
        text = f"Error of each of {len(expected)} rows, expected beside yours. The first rows: expected {right}, yours {yours}."
        return figure, text

    return draw


def _squeezer(
    centre: Callable[[Floats, Floats], Any] = lambda Z_fit, Z_new: Z_fit.mean(axis=0),
    directions: Callable[[Floats, int], Floats] = lambda V, b: V[:b],
    fitted_to: Callable[[Floats, Floats], Floats] = lambda Z_fit, Z_new: Z_fit,
    error: Callable[[Floats], Any] = lambda gap: (gap**2).mean(axis=1),
) -> Callable[[Floats, Floats, int], Any]:
    """A squeeze by singular value decomposition in which one step may be another than the right one."""

    def squeeze(Z_fit: Floats, Z_new: Floats, b: int) -> Any:
        mean = centre(Z_fit, Z_new)
        V = directions(np.linalg.svd(fitted_to(Z_fit, Z_new) - mean, full_matrices=False)[2], b)  # (b, d)
        return error((Z_new - mean) - (Z_new - mean) @ V.T @ V)

    return squeeze


_not_centred = _squeezer(centre=lambda Z_fit, Z_new: 0.0)
_centred_on_new = _squeezer(centre=lambda Z_fit, Z_new: Z_new.mean(axis=0))
_fitted_to_new = _squeezer(centre=lambda Z_fit, Z_new: Z_new.mean(axis=0), fitted_to=lambda Z_fit, Z_new: Z_new)
_last_directions = _squeezer(directions=lambda V, b: V[-b:])
_one_more = _squeezer(directions=lambda V, b: V[: b + 1])
_one_fewer = _squeezer(directions=lambda V, b: V[: b - 1])
_columns = _squeezer(directions=lambda V, b: V[:, :b].T)
_sum = _squeezer(error=lambda gap: (gap**2).sum(axis=1))
_norm = _squeezer(error=lambda gap: np.linalg.norm(gap, axis=1))
_absolute = _squeezer(error=lambda gap: np.abs(gap).mean(axis=1))
_root = _squeezer(error=lambda gap: np.sqrt((gap**2).mean(axis=1)))
_one_for_all = _squeezer(error=lambda gap: (gap**2).mean())
_over_the_rows = _squeezer(error=lambda gap: (gap**2).mean(axis=0))


def _own_mean(Z_fit: Floats, Z_new: Floats, b: int) -> Any:
    V = np.linalg.svd(Z_fit - Z_fit.mean(axis=0), full_matrices=False)[2][:b]
    gap = (Z_new - Z_new.mean(axis=0)) @ (np.eye(V.shape[1]) - V.T @ V)
    return (gap**2).mean(axis=1)


def _only_fit_centred(Z_fit: Floats, Z_new: Floats, b: int) -> Any:
    V = np.linalg.svd(Z_fit - Z_fit.mean(axis=0), full_matrices=False)[2][:b]
    return ((Z_new - Z_new @ V.T @ V) ** 2).mean(axis=1)


def _mean_not_added(Z_fit: Floats, Z_new: Floats, b: int) -> Any:
    mean = Z_fit.mean(axis=0)
    V = np.linalg.svd(Z_fit - mean, full_matrices=False)[2][:b]
    return ((Z_new - (Z_new - mean) @ V.T @ V) ** 2).mean(axis=1)


def _mean_not_taken_off(Z_fit: Floats, Z_new: Floats, b: int) -> Any:
    mean = Z_fit.mean(axis=0)
    V = np.linalg.svd(Z_fit - mean, full_matrices=False)[2][:b]
    return ((Z_new - Z_new @ V.T @ V - mean) ** 2).mean(axis=1)


def _squeezed_in_place(Z_fit: Floats, Z_new: Floats, b: int) -> Any:
    mean = Z_fit.mean(axis=0)
    V = np.linalg.svd(Z_fit - mean, full_matrices=False)[2][:b]
    Z_new -= mean
    return ((Z_new - Z_new @ V.T @ V) ** 2).mean(axis=1)


_SQUEEZES: dict[Callable[..., Any], str] = {
    _not_centred: "Your rows are not centred. The first direction then points from zero to the middle of the flows, and not "
    "along the way in which they differ. Take the mean of Z_fit off both Z_fit and Z_new.",
    _only_fit_centred: "You take the mean off Z_fit and not off Z_new. The directions start at the mean: take the mean of "
    "Z_fit off Z_new as well, before the projection.",
    **dict.fromkeys(
        (_centred_on_new, _own_mean),
        "You centre on the mean of Z_new. That is the mean of the flows being judged: the score of a flow would depend on who "
        "else is judged with it, and attacks would move the middle. Use the mean of Z_fit.",
    ),
    _fitted_to_new: "You fit to Z_new: its mean and directions, and so the attacks learn to rebuild themselves. Mean and "
    "directions come from Z_fit, which is benign.",
    _last_directions: "You keep the last directions, those along which benign flows differ least. np.linalg.svd gives the "
    "largest first: keep the first b rows.",
    _one_more: "You keep one direction too many: b of them, V[:b]. Python leaves out the end of a slice.",
    _one_fewer: "You keep one direction too few: b of them, V[:b]. Python leaves out the end of a slice, so 0 to b - 1 are b.",
    _columns: "You take columns where the directions are rows. np.linalg.svd returns its third matrix transposed already: row "
    "i is direction i, so take [:b], of shape (b, d).",
    _sum: "You add the squared errors of a row, and the formula has 1/d in front: take their mean. Otherwise a threshold means "
    "something else with every number of features.",
    _norm: "You return the length of the gap between a row and what is rebuilt of it (np.linalg.norm). The formula is the mean "
    "of the squares: (gap ** 2).mean(axis=1), without a root.",
    _absolute: "You forgot the square: you take the mean of the gaps' sizes. The formula squares each gap, so that one large "
    "gap counts more than many small ones.",
    _root: "You take the square root of the mean. The order of the flows stays, but the formula has none, and a threshold on "
    "squared errors would not fit.",
    _mean_not_added: "You compare Z_new with a rebuilt row from which the mean is still missing. Add the mean after the "
    "projection, or compare with the centred row.",
    _mean_not_taken_off: "You project Z_new without taking the mean of Z_fit off it first. The directions start at the mean.",
}

SQUEEZE = Exercise(
    squeeze_error,
    {
        _not_centred: "not centred",
        _centred_on_new: "centre on the mean of Z_new",
        _last_directions: "keep the last directions",
        _one_for_all: "one error for all",
        _over_the_rows: "one error for each of the",
        _own_mean: "centre on the mean of Z_new",
        _only_fit_centred: "not off Z_new",
        _one_more: "one direction too many",
        _one_fewer: "one direction too few",
        _norm: "length of the gap",
        _absolute: "forgot the square",
        _sum: "1/d in front",
        _root: "square root",
        _columns: "columns where the directions are rows",
        _fitted_to_new: "fit to Z_new",
        _mean_not_added: "mean is still missing",
        _mean_not_taken_off: "without taking the mean",
        _squeezed_in_place: "changes its argument 2 in place",
    },
)
