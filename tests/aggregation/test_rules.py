"""Aggregation rules: against numpy and scipy, the laws that hold for each, and what each refuses."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import trim_mean

from fliot_lab.aggregation import rules

quick = settings(deadline=None, max_examples=60)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
EVERY_RULE = [rules.mean, rules.median, lambda updates, weights=None: rules.trimmed_mean(updates, weights, f=0)]
NAMES = ["mean", "median", "trimmed_mean"]
every_rule = pytest.mark.parametrize("rule", EVERY_RULE, ids=NAMES)

# few distinct values among many, so that ties are common
values = st.one_of(st.sampled_from([0.0, -0.0, 1.0, -3.5]), st.floats(-1e6, 1e6, width=32, allow_subnormal=False))
shapes = st.tuples(st.integers(1, 9), st.integers(1, 5))
matrices = arrays(np.float32, shapes, elements=values)


def close(found: torch.Tensor, expected, scale) -> bool:
    """Whether they agree to float32 rounding, relative to the largest value that went in."""
    return np.allclose(found.cpu().numpy(), expected, rtol=0, atol=1e-6 * max(1e-30, float(np.abs(scale).max())))


def count_below_half(K: int) -> st.SearchStrategy[int]:
    return st.integers(0, (K - 1) // 2)


# oracles


@quick
@given(matrices, st.data())
def test_the_rules_agree_with_numpy_and_scipy(updates, data) -> None:
    K = len(updates)
    weights = data.draw(arrays(np.float64, K, elements=st.floats(0, 1e4)).filter(lambda w: w.sum() > 1e-3))
    f = data.draw(count_below_half(K))
    tensor, exact = torch.from_numpy(updates), updates.astype(np.float64)
    assert close(rules.mean(tensor), exact.mean(axis=0), exact)
    assert close(rules.mean(tensor, torch.from_numpy(weights)), np.average(exact, axis=0, weights=weights), exact)
    assert close(rules.median(tensor), np.median(exact, axis=0), exact)
    # scipy cuts int(share * K) values, and f / K may come out a little short
    assert close(rules.trimmed_mean(tensor, f=f), trim_mean(exact, (f + 0.5) / K, axis=0), exact)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_result_has_the_type_and_device_of_the_updates_and_no_gradient(dtype, device) -> None:
    generator = torch.Generator().manual_seed(0)
    updates = torch.randn(6, 4, generator=generator, dtype=torch.float64).to(device, dtype).requires_grad_()
    before, exact = updates.detach().clone(), updates.detach().cpu().double().numpy()
    weights = torch.tensor([3, 0, 1, 1, 2, 5], device=device)
    for found, expected in [
        (rules.mean(updates, weights), np.average(exact, axis=0, weights=weights.cpu().numpy())),
        (rules.median(updates), np.median(exact, axis=0)),
        (rules.trimmed_mean(updates, f=2), trim_mean(exact, 0.4, axis=0)),
    ]:
        assert (found.dtype, found.device.type, found.shape) == (dtype, device, (4,))
        assert not found.requires_grad
        assert np.allclose(found.cpu().numpy(), expected, atol=1e-6 if dtype == torch.float32 else 1e-14)
    assert torch.equal(updates.detach(), before)


def test_the_median_of_an_even_number_is_the_mean_of_the_two_in_the_middle() -> None:
    updates = torch.tensor([[1.0], [9.0], [2.0], [4.0]])
    assert rules.median(updates).item() == 3  # torch.median says 2


@pytest.mark.parametrize("at_once", [1, 7, 8, 20, 10**6])
def test_columns_sorted_in_parts_give_what_they_give_at_once(monkeypatch, at_once) -> None:
    updates = torch.randn(7, 11, generator=torch.Generator().manual_seed(1))
    expected = trim_mean(updates.double().numpy(), 2.5 / 7, axis=0)
    monkeypatch.setattr(rules, "AT_ONCE", at_once)
    assert close(rules.trimmed_mean(updates, f=2), expected, updates.numpy())


# laws


@every_rule
@quick
@given(row=arrays(np.float32, st.integers(1, 5), elements=values), K=st.integers(1, 9))
def test_an_average_of_equal_rows_is_that_row(rule, row, K) -> None:
    assert close(rule(torch.from_numpy(row).expand(K, -1)), row, row)


@every_rule
@quick
@given(updates=matrices, random=st.randoms(use_true_random=False))
def test_a_permutation_of_the_clients_changes_nothing(rule, updates, random) -> None:
    order = random.sample(range(len(updates)), len(updates))
    weights = torch.arange(1.0, len(updates) + 1)
    tensor = torch.from_numpy(updates)
    assert close(rule(tensor[order], weights[order]), rule(tensor, weights).numpy(), updates)


@quick
@given(matrices)
def test_a_trimmed_mean_that_trims_nothing_is_the_mean(updates) -> None:
    tensor = torch.from_numpy(updates)
    assert close(rules.trimmed_mean(tensor, f=0), rules.mean(tensor).numpy(), updates)


@quick
@given(matrices, st.data())
def test_attackers_cannot_leave_the_range_of_the_honest(honest, data) -> None:
    F = data.draw(st.integers(0, len(honest) - 1))
    huge = st.sampled_from([3e38, -3e38, 1e30, -1e30, 0.0])
    attack = data.draw(arrays(np.float32, (F, honest.shape[1]), elements=huge))
    order = data.draw(st.permutations(range(len(honest) + F)))
    updates = torch.from_numpy(np.concatenate([honest, attack]))[order]
    slack = 1e-6 * np.abs(honest).max()
    for found in (rules.median(updates), rules.trimmed_mean(updates, f=F)):
        assert (found.numpy() >= honest.min(axis=0) - slack).all()
        assert (found.numpy() <= honest.max(axis=0) + slack).all()


def test_one_attacker_moves_the_mean_anywhere() -> None:
    assert rules.mean(torch.tensor([[1.0], [1.0], [1e30]])).item() > 1e29


@pytest.mark.parametrize("rule", EVERY_RULE[1:], ids=NAMES[1:])
def test_weights_play_no_part_in_a_robust_rule(rule) -> None:
    updates = torch.randn(5, 3, generator=torch.Generator().manual_seed(2))
    lies = torch.tensor([1e30, 1, 1, 1, float("nan")])
    assert torch.equal(rule(updates, lies), rule(updates))


@quick
@given(matrices, st.floats(-300, 300), st.data())
def test_only_the_proportions_of_the_weights_count(updates, magnitude, data) -> None:
    weights = torch.tensor(data.draw(st.lists(st.integers(1, 1000), min_size=len(updates), max_size=len(updates))))
    tensor = torch.from_numpy(updates)
    scaled = rules.mean(tensor, weights * torch.tensor(10.0**magnitude, dtype=torch.float64))
    assert close(scaled, rules.mean(tensor, weights).numpy(), updates)


def test_a_weight_of_zero_leaves_an_update_out_and_equal_weights_are_none() -> None:
    updates = torch.tensor([[1.0, 2.0], [3.0, 4.0], [50.0, 60.0]])
    assert rules.mean(updates, torch.tensor([7, 7, 0])).tolist() == [2, 3]
    assert torch.allclose(rules.mean(updates, torch.full((3,), 4)), rules.mean(updates))


@every_rule
def test_large_values_do_not_overflow(rule) -> None:
    assert torch.allclose(rule(torch.full((10, 2), 3e38), torch.full((10,), 1e308, dtype=torch.float64)), torch.tensor(3e38))


# bad input


@every_rule
@pytest.mark.parametrize(
    ("updates", "message"),
    [
        (torch.tensor(3.0), r"got torch.float32 \(\)"),
        (torch.zeros(3), r"float32 or float64 \(K, P\).* got torch.float32 \(3,\)"),
        (torch.zeros(2, 3, 1), r"got torch.float32 \(2, 3, 1\)"),
        (torch.zeros(0, 3), "at least one"),
        (torch.zeros(3, 0), "at least one"),
        (torch.zeros(2, 3, dtype=torch.int64), "got torch.int64"),
        (torch.zeros(2, 3, dtype=torch.float16), "got torch.float16"),
        (torch.tensor([[1.0, 2], [1, float("nan")], [1, 2]]), "NaN or infinity in row 1; leave"),
        (torch.tensor([[float("inf"), 2], [1, 2], [1, -float("inf")]]), "NaN or infinity in rows 0, 2; leave"),
        (torch.full((40, 2), torch.nan), "in rows 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 28 more;"),
    ],
)
def test_every_rule_refuses_what_is_no_update_matrix(rule, updates, message) -> None:
    with pytest.raises(ValueError, match=message):
        rule(updates)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, 2.0], r"shape \(2,\) for 3 updates; .* shape \(3,\)"),
        ([[1.0, 2.0, 3.0]], r"shape \(1, 3\) for 3 updates"),
        ([1.0, -1.0, 2.0], "negative, NaN or infinite in row 1;"),
        ([float("nan"), 1.0, float("inf")], "negative, NaN or infinite in rows 0, 2;"),
        ([0.0, 0.0, 0.0], "all 3 weights are 0"),
    ],
)
def test_mean_refuses_weights(weights, message) -> None:
    with pytest.raises(ValueError, match=message):
        rules.mean(torch.ones(3, 2), torch.tensor(weights))


@pytest.mark.parametrize("f", [-1, 2, 3, 0.5, float("nan")])
def test_trimmed_mean_refuses_to_trim_everything(f) -> None:
    with pytest.raises(ValueError, match=r"of 4 updates: expected a whole number with 0 <= 2 \* f < 4"):
        rules.trimmed_mean(torch.ones(4, 2), f=f)
