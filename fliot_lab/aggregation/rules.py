"""Aggregation rules: plain functions that make one update (P,) of the update matrix (K, P), and know nothing of federations.

A rule is called as `rule(updates, weights, ...)`. Updates are float32 or float64, on any device, where the result stays too; no
gradient passes through. Every rule refuses NaN and infinity, and names the rows: the average of a client that has diverged and
99 that have not is NaN, and nobody would see which one it was.

Only `mean` heeds the weights. The robust rules take them, so that all rules are called alike, and let them play no part, not
even that of being checked: a client states its own number of rows, and one that lies would weigh more than all others.
"""

from numbers import Integral

import torch
from torch import Tensor

AT_ONCE = 2**23  # values sorted at a time: 10,000 updates of 20,000 parameters take 100 MB more, and not 2.4 GB


def mean(updates: Tensor, weights: Tensor | None = None) -> Tensor:
    """Average (P,) of `updates` (K, P), by `weights` (K,) where given, such as each client's number of rows: FedAvg.

    Weights count relative to their sum. One attacker can move it anywhere. Raises ValueError for weights that are negative,
    not finite, all 0 or not K. McMahan et al. 2017, arXiv 1602.05629.
    """
    updates = _checked(updates)
    return _even(updates) if weights is None else _normalised(weights, len(updates)).to(updates) @ updates


def median(updates: Tensor, weights: Tensor | None = None) -> Tensor:
    """Coordinate-wise median (P,) of `updates` (K, P): the middle value, the mean of the two middle ones for even K.

    Resists fewer than K / 2 attackers. `weights` play no part. Yin et al. 2018, arXiv 1803.01498.
    """
    updates = _checked(updates)
    return _trimmed(updates, (len(updates) - 1) // 2)


def trimmed_mean(updates: Tensor, weights: Tensor | None = None, *, f: int) -> Tensor:
    """Coordinate-wise mean (P,) of `updates` (K, P) without the `f` largest and `f` smallest values.

    Resists `f` attackers. `weights` play no part. Raises ValueError unless 0 <= 2 * f < K. Yin et al. 2018, arXiv 1803.01498.
    """
    updates = _checked(updates)
    K = len(updates)
    if not isinstance(f, Integral) or not 0 <= 2 * f < K:
        raise ValueError(
            f"f={f} of {K} updates: expected a whole number with 0 <= 2 * f < {K}, so that a value is left to average"
        )
    return _trimmed(updates, f)


def _trimmed(updates: Tensor, f: int) -> Tensor:
    """The average (P,) of what each column of `updates` (K, P) holds without its `f` largest and `f` smallest values."""
    K = len(updates)
    columns = updates.split(max(1, AT_ONCE // K), dim=1)
    return torch.cat([_even(part.sort(dim=0).values[f : K - f]) for part in columns])


def _even(updates: Tensor) -> Tensor:
    """The average (P,) of `updates` (K, P), each divided before they are added: a sum of large ones might be infinite."""
    return updates.new_full((len(updates),), 1 / len(updates)) @ updates


def _checked(updates: Tensor) -> Tensor:
    """`updates` (K, P) without their gradients, K and P at least 1, every value finite."""
    shape, dtype = tuple(updates.shape), updates.dtype
    if len(shape) != 2 or not all(shape) or dtype not in (torch.float32, torch.float64):
        raise ValueError(f"updates must be float32 or float64 (K, P), one row per client and at least one, got {dtype} {shape}")
    updates = updates.detach()
    low, high = updates.aminmax(dim=1)  # NaN where a row holds one; isfinite would take as much memory as the updates
    wrong = torch.nonzero(~(low.isfinite() & high.isfinite())).flatten().tolist()
    if wrong:
        raise ValueError(
            f"updates hold NaN or infinity in {_rows(wrong)}; leave these clients out, or lower their learning rate"
        )
    return updates


def _normalised(weights: Tensor, K: int) -> Tensor:
    """`weights` (K,) as float64 of sum 1, on the CPU, since not every device knows float64."""
    weights = torch.as_tensor(weights, device="cpu").detach().to(torch.float64)
    if weights.shape != (K,):
        raise ValueError(f"weights have shape {tuple(weights.shape)} for {K} updates; give one weight per update, shape ({K},)")
    wrong = torch.nonzero(~(weights.isfinite() & (weights >= 0))).flatten().tolist()
    if wrong:
        raise ValueError(f"weights are negative, NaN or infinite in {_rows(wrong)}; give a finite weight of 0 or more")
    if not weights.any():
        raise ValueError(f"all {K} weights are 0; give at least one update a weight above 0")
    weights = weights / weights.max()  # first, since the sum of large ones might be infinite
    return weights / weights.sum()


def _rows(rows: list[int], most: int = 12) -> str:
    more = f" and {len(rows) - most} more" if len(rows) > most else ""
    return ("row " if len(rows) == 1 else "rows ") + ", ".join(map(str, rows[:most])) + more
