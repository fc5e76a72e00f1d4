"""Ways to divide rows: into training and test, each as a pair of index arrays, and among the clients of a federation.

Two are honest (`by_capture`, `by_time`), one is a trap that lesson 01 shows (`random_rows`). All return `(train,
test)`: two ascending int64 index arrays without a common row, neither of them empty. They know nothing of flows:
captures, times and features come in as arrays or columns with one entry per row.

A validation set is the same functions once more, on the training rows alone:

    train, test = by_capture(capture, "CTU-IoT-Malware-Capture-34-1")
    fit, validation = (train[part] for part in by_time(ts[train], capture[train]))

A partition gives every row to exactly one client and no client nothing: one ascending int64 index array per client.
`partition_by` follows what the data are, a client per capture or per device; the others draw: `partition_iid` makes all
clients alike, `partition_quantity` skews how much each holds, `partition_dirichlet` how much of each label. Divide the
training rows, `[train[rows] for rows in partition_iid(len(train), 10, seed)]`, and keep the test rows whole.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Indices = npt.NDArray[np.int64]


def by_capture(captures: npt.ArrayLike, held_out: str | Iterable[str]) -> tuple[Indices, Indices]:
    """Training rows of all other captures and test rows of the `held_out` one (or ones), from `captures` (n,).

    The question behind it: does the detector work in a network that it has never seen? Raises ValueError for a capture
    that has no row, for rows without a capture, and where a side would be empty.
    """
    codes, names = _captures(captures)
    wanted: list[Any] = [held_out] if np.isscalar(held_out) else list(held_out)
    unknown = [name for name in wanted if name not in set(names)]
    if unknown:
        raise ValueError(f"no row has capture {_listed(unknown)}; there are {_listed(sorted(names, key=natural))}")
    is_test = np.isin(codes, [code for code, name in enumerate(names) if name in wanted])
    return _sides(is_test, f"hold out at least one and not all of {_listed(sorted(names, key=natural))}")


def leave_one_capture_out(captures: npt.ArrayLike) -> Iterator[tuple[str, Indices, Indices]]:
    """(capture, train, test) for every capture in `captures` (n,) in turn, in natural order: 4-1 before 34-1.

    Raises ValueError where there is one capture only, since then nothing is left to train on.
    """
    _, names = _captures(captures)
    for name in sorted(names, key=natural):
        yield name, *by_capture(captures, [name])


def by_time(ts: npt.ArrayLike, captures: npt.ArrayLike, test_fraction: float = 0.3) -> tuple[Indices, Indices]:
    """Training rows from the beginning of each capture, test rows from the last `test_fraction` of its rows.

    `ts` (n,) is in seconds or a datetime, in any order; `captures` (n,) names each row's capture. In every capture each
    test row is strictly later than each training row: rows that share the time of the last training row stay in
    training, so the test side can be smaller than asked, and a capture too short to give a test row gives none. Raises
    ValueError for a missing time, lengths that differ, a fraction outside (0, 1), and where a side would be empty.
    """
    _check_fraction(test_fraction)
    codes, names = _captures(captures)
    when = _time_ranks(ts)
    if len(when) != len(codes):
        raise ValueError(f"ts has {len(when)} rows and captures {len(codes)}; give one of each per row")
    order = np.lexsort((when, codes))
    sizes = np.bincount(codes, minlength=len(names))
    training = sizes - np.rint(test_fraction * sizes).astype(np.int64)
    last = np.cumsum(sizes) - sizes + training - 1
    cutoff = np.where(training > 0, when[order[last]], -1)  # (captures,): the time of the last training row, as a rank
    return _sides(when > cutoff[codes], "choose another test_fraction, or captures with more rows at different times")


def random_rows(n: int, test_fraction: float, seed: int | np.random.Generator) -> tuple[Indices, Indices]:
    """Training and test rows drawn at random from `n`: a trap, here to be shown and not to be used.

    Rows of one burst of traffic are near-identical. A random split puts some on each side, and the test then asks what
    the model remembers: on seven real IoT-23 captures three quarters of the test rows have a twin in training.
    `by_capture` and `by_time` ask what it has learnt. Raises ValueError for a fraction outside (0, 1) and where a side
    would be empty.
    """
    _check_fraction(test_fraction)
    is_test = np.zeros(n, dtype=bool)
    is_test[np.random.default_rng(seed).permutation(n)[: round(test_fraction * n)]] = True
    return _sides(is_test, "give more rows or another test_fraction")


def without_duplicates(X: npt.ArrayLike, train: npt.ArrayLike, test: npt.ArrayLike) -> tuple[Indices, Indices]:
    """`train` as it is, and `test` without the rows whose feature vector in `X` (n, d) also occurs in training.

    What remains measures the model on vectors it has not seen. Only copies ACROSS the split go: copies within training
    are what the traffic looks like, and copies within test keep the weight that they have there. Labels play no part,
    so a vector that is benign in training and an attack in test goes too: report what was dropped, and the figure on
    all test rows beside this one. NaN equals NaN here, and -0.0 equals 0.0. Raises ValueError where no test row
    remains, or where the two sides share a row.
    """
    rows = _as_bytes(X)
    train, test = _indices(train, len(rows), "train"), _indices(test, len(rows), "test")
    if np.intersect1d(train, test).size:
        raise ValueError("train and test have rows in common; split first, then remove duplicates")
    kept = test[~np.isin(rows[test], rows[train])]
    if not kept.size:
        raise ValueError(f"each of the {len(test)} test rows has a copy in training; hold out other rows or add features")
    return train, kept


def partition_iid(n: int, clients: int, seed: int | np.random.Generator) -> list[Indices]:
    """Rows of each client: the `n` rows dealt out at random, in equal numbers to within one.

    Clients that are all alike, the easy case that the literature starts from. Raises ValueError for fewer than one client and
    for more clients than rows.
    """
    _check_clients(n, clients)
    owner = np.empty(n, dtype=np.int64)
    owner[np.random.default_rng(seed).permutation(n)] = np.arange(n) % clients
    return _by_owner(owner, clients)


def partition_by(groups: npt.ArrayLike) -> dict[str, Indices]:
    """Rows of each client by name, one client per distinct value of `groups` (n,), in natural order: 4-1 before 34-1.

    `groups` names the capture or the device of each row, and so the household that would hold it: the skew is the one
    that the data have. Raises ValueError for rows without a group, and for two groups of the same text.
    """
    codes, names = _captures(groups, "group")
    if len({str(name) for name in names}) < len(names):
        raise ValueError(
            f"of the groups {_listed(sorted(names, key=natural))}, some differ in type only; make all of them text"
        )
    rows = _by_owner(codes, len(names))
    return {str(names[code]): rows[code] for code in sorted(range(len(names)), key=lambda code: natural(names[code]))}


def partition_dirichlet(
    labels: npt.ArrayLike, clients: int, alpha: float, seed: int | np.random.Generator, least: int = 1
) -> list[Indices]:
    """Rows of each client under label skew: the rows of each label in `labels` (n,) are divided by a Dirichlet(alpha) draw.

    A large `alpha` (100) makes clients alike, a small one (0.1) gives each most of its rows from few labels; sizes differ too.
    Clients that the draw leaves with fewer than `least` rows then get some from the largest ones, so that nothing is drawn
    again and the draw's other clients stay as they are; where that concerns many clients, read the sizes before you use them.
    Raises ValueError unless 0 < alpha < infinity, for rows without a label, and for too few rows. Yurochkin et al. 2019,
    arXiv 1905.12022; Hsu et al. 2019, arXiv 1909.06335, draw per client what this draws per label.
    """
    codes, names = _captures(labels, "label")
    _check_clients(len(codes), clients, least)
    rng = np.random.default_rng(seed)
    owner = np.empty(len(codes), dtype=np.int64)
    for rows in _by_owner(codes, len(names)):
        sizes = _drawn_sizes(len(rows), clients, alpha, rng)
        owner[rows] = rng.permutation(np.repeat(np.arange(clients), sizes))
    sizes = np.bincount(owner, minlength=clients)
    _move(owner, sizes - _at_least(sizes, least), rng)
    return _by_owner(owner, clients)


def partition_quantity(n: int, clients: int, alpha: float, seed: int | np.random.Generator, least: int = 1) -> list[Indices]:
    """Rows of each client under quantity skew: random rows of the `n`, as many as a Dirichlet(alpha) draw says.

    Labels are alike but for chance; a small `alpha` (0.1) gives few clients most rows. Clients of fewer than `least` rows get
    some from the largest ones. Raises ValueError unless 0 < alpha < infinity, and for too few rows. Li et al. 2022, arXiv
    2102.02079.
    """
    _check_clients(n, clients, least)
    rng = np.random.default_rng(seed)
    sizes = _at_least(_drawn_sizes(n, clients, alpha, rng), least)
    return _by_owner(rng.permutation(np.repeat(np.arange(clients), sizes)), clients)


def natural(name: Any) -> list[str | int]:
    """A key that sorts as people do: the numbers within a name by value, so that 4-1 comes before 34-1."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"([0-9]+)", str(name)))]


def _captures(captures: npt.ArrayLike, kind: str = "capture") -> tuple[npt.NDArray[np.intp], npt.NDArray[Any]]:
    """Codes (n,) and names of the captures, or of another kind of group; every row must have one."""
    values = np.asarray(captures, dtype=object)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"{kind}s must be one name per row, shape (n,), got shape {values.shape}")
    codes, names = pd.factorize(values)
    if (codes < 0).any():
        raise ValueError(f"{(codes < 0).sum()} rows have no {kind}; drop them or name their {kind} first")
    return codes, names


def _time_ranks(ts: Any) -> npt.NDArray[np.int64]:
    """Rank of each time in `ts` (n,), equal for equal times; so seconds and datetimes of any zone are served alike."""
    series = pd.Series(ts if isinstance(ts, pd.Series | pd.Index) else np.asarray(ts))
    if not (pd.api.types.is_numeric_dtype(series) or pd.api.types.is_datetime64_any_dtype(series)):
        raise ValueError(f"ts must be seconds or datetimes, got {series.dtype}; convert it, for example with pd.to_datetime")
    if series.isna().any():
        raise ValueError(f"{series.isna().sum()} rows have no time (NaN or NaT); drop them before splitting by time")
    ranks, _ = pd.factorize(series, sort=True)
    return ranks.astype(np.int64)


def _check_fraction(test_fraction: float) -> None:
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction must lie between 0 and 1, both excluded, got {test_fraction}")


def _sides(is_test: npt.NDArray[np.bool_], remedy: str) -> tuple[Indices, Indices]:
    for side, size in (("training", (~is_test).sum()), ("test", is_test.sum())):
        if not size:
            raise ValueError(f"the {side} side of the split is empty ({len(is_test)} rows in all); {remedy}")
    return np.flatnonzero(~is_test).astype(np.int64), np.flatnonzero(is_test).astype(np.int64)


def _indices(rows: npt.ArrayLike, n: int, name: str) -> Indices:
    indices = np.asarray(rows)
    if indices.ndim != 1 or indices.dtype.kind not in "iu" or not indices.size:
        raise ValueError(f"{name} must be row numbers, shape (m,), at least one; got {indices.dtype} {indices.shape}")
    if indices.min() < 0 or indices.max() >= n:
        raise ValueError(f"{name} has row numbers outside 0 to {n - 1}; X and the split must be of the same rows")
    return indices.astype(np.int64)


def _as_bytes(X: npt.ArrayLike) -> npt.NDArray[np.void]:
    """Each row of `X` (n, d) as one value (n,), so that rows compare as wholes and exactly."""
    rows = np.asarray(X)
    if rows.ndim != 2 or not rows.shape[1] or rows.dtype.kind not in "biuf":
        raise ValueError(f"X must be numbers of shape (n, d), got {rows.dtype} {rows.shape}; encode text columns first")
    if rows.dtype.kind == "f":
        rows = rows + rows.dtype.type(0)  # -0.0 becomes 0.0, and the caller's array stays as it is
        rows[np.isnan(rows)] = np.nan  # one bit pattern for every NaN
    return np.ascontiguousarray(rows).view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()


def _listed(names: Iterable[Any], most: int = 12) -> str:
    names = list(names)
    return ", ".join(map(str, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


def _check_clients(n: int, clients: int, least: int = 1) -> None:
    if clients < 1 or least < 1:
        raise ValueError(f"clients={clients}, least={least}: expected at least one client, and one row for each")
    if clients * least > n:
        raise ValueError(
            f"{n} rows are too few for {clients} clients of at least {least}; ask for fewer clients or give more rows"
        )


def _by_owner(owner: npt.NDArray[np.integer[Any]], clients: int) -> list[Indices]:
    """Ascending rows of each client 0, 1, ..., from the client (n,) that owns each row."""
    order = np.argsort(owner, kind="stable").astype(np.int64)
    return np.split(order, np.cumsum(np.bincount(owner, minlength=clients))[:-1])


def _drawn_sizes(n: int, clients: int, alpha: float, rng: np.random.Generator) -> Indices:
    """Sizes (clients,) of sum n: a symmetric Dirichlet draw, rounded so that the largest remainders are rounded up."""
    if not 0 < alpha < np.inf:
        raise ValueError(f"alpha={alpha}: expected a number above 0, small for much skew (0.1), large for little (100)")
    exact = n * rng.dirichlet(np.full(clients, min(alpha, 1e12)))  # equal shares by then; numpy's gamma draws overflow at 1e304
    sizes = exact.astype(np.int64)
    sizes[np.argsort(sizes - exact, kind="stable")[: n - sizes.sum()]] += 1
    return sizes


def _at_least(sizes: Indices, least: int) -> Indices:
    """`sizes` (clients,) with none below `least`: what the small ones lack is taken off the largest, one by one.

    At the end the largest share one level, some of them one below: that level is looked for, and nothing taken one by one.
    """
    lacking = int(np.maximum(least - sizes, 0).sum())
    if not lacking:
        return sizes
    level = bisect_left(range(sizes.max()), True, key=lambda level: np.maximum(sizes - level, 0).sum() <= lacking)
    even = np.clip(sizes, least, level)
    even[np.flatnonzero(sizes >= level)[: even.sum() - sizes.sum()]] -= 1
    return even


def _move(owner: Indices, surplus: Indices, rng: np.random.Generator) -> None:
    """Gives random rows of the clients with a `surplus` (clients,) to those where it is negative, in `owner` (n,)."""
    if not surplus.any():
        return
    rows = rng.permutation(len(owner))
    rows = rows[np.argsort(owner[rows], kind="stable")]  # by client, in random order within each
    sizes = np.bincount(owner, minlength=len(surplus))
    rank = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    moved = rows[rank < np.repeat(surplus, sizes)]
    owner[moved] = np.repeat(np.arange(len(surplus)), np.maximum(-surplus, 0))
