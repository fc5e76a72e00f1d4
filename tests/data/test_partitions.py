"""Partitions of rows among clients: the laws that each obeys, how much skew it makes, and what it refuses."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fliot_lab.data import splits

quick = settings(deadline=None, max_examples=60)
seeds = st.integers(0, 2**32 - 1)
alphas = st.one_of(st.floats(0.01, 100), st.sampled_from([5e-324, 1e-10, 1e12, 1.7e308]))


@st.composite
def rows_and_clients(draw) -> tuple[int, int, int]:
    """Rows, clients, and the least that each must have: often all that there is."""
    clients, least = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    return clients * least + draw(st.sampled_from([0, 1, 5, 60])), clients, least


def assert_partition(parts, n: int, least: int = 1) -> None:
    assert all(rows.dtype == np.int64 and len(rows) >= least for rows in parts)
    assert all((np.diff(rows) > 0).all() for rows in parts)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(n))


def same(one, other) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def shares(parts, labels: np.ndarray) -> np.ndarray:
    """The share (clients, labels) of each label among the rows of each client."""
    return np.array([np.bincount(labels[rows], minlength=labels.max() + 1) / len(rows) for rows in parts])


def entropy(p: np.ndarray) -> np.ndarray:
    """In bits, of each row of `p`."""
    return -(p * np.log2(np.where(p > 0, p, 1))).sum(axis=1)


# alike


@quick
@given(rows_and_clients(), seeds)
def test_iid_divides_evenly_and_repeats_with_the_seed(shape, seed) -> None:
    n, clients, _ = shape
    parts = splits.partition_iid(n, clients, seed)
    assert len(parts) == clients
    assert_partition(parts, n)
    sizes = [len(rows) for rows in parts]
    assert max(sizes) - min(sizes) <= 1
    assert same(parts, splits.partition_iid(n, clients, np.random.default_rng(seed)))


def test_iid_clients_have_each_label_as_often_as_chance_allows() -> None:
    labels = np.repeat([0, 1, 2], [14_000, 5_000, 1_000])
    found = shares(splits.partition_iid(len(labels), 20, 0), labels)
    p = np.bincount(labels) / len(labels)
    assert (np.abs(found - p) < 4.5 * np.sqrt(p * (1 - p) / 1000)).all()  # 1,000 rows each, 60 shares
    assert found.std(axis=0).min() > 0.001  # and not stratified


# by capture, by device


@quick
@given(st.lists(st.sampled_from(["34-1", "8-1", "4-1", "Philips HUE"]), min_size=1, max_size=30))
def test_groups_are_those_of_pandas_in_natural_order(groups) -> None:
    parts = splits.partition_by(groups)
    assert_partition(list(parts.values()), len(groups))
    expected = pd.Series(groups).groupby(groups).indices
    assert list(parts) == [name for name in ("4-1", "8-1", "34-1", "Philips HUE") if name in expected]
    assert all(np.array_equal(rows, expected[name]) for name, rows in parts.items())


def test_groups_come_as_columns_and_as_numbers() -> None:
    frame = pd.DataFrame({"device": ["b", "a", "b"]})
    for column in (frame["device"], frame["device"].astype("category")):
        assert {name: rows.tolist() for name, rows in splits.partition_by(column).items()} == {"a": [1], "b": [0, 2]}
    assert list(splits.partition_by(np.array([10, 9, 10]))) == ["9", "10"]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([], "groups must be one name per row"),
        ([["a"], ["b"]], "groups must be one name per row"),
        (["a", None], "1 rows have no group; drop them or name their group"),
        ([1, "1", 2], "of the groups 1, 1, 2, some differ in type only"),
    ],
)
def test_by_group_refuses(groups, message) -> None:
    with pytest.raises(ValueError, match=message):
        splits.partition_by(groups)


# label skew


@quick
@given(rows_and_clients(), alphas, seeds)
def test_label_skew_divides_with_the_least_asked_and_repeats_with_the_seed(shape, alpha, seed) -> None:
    n, clients, least = shape
    labels = np.random.default_rng(seed).choice(["Benign", "DDoS", "C&C"], n)
    parts = splits.partition_dirichlet(labels, clients, alpha, seed, least)
    assert len(parts) == clients
    assert_partition(parts, n, least)
    assert same(parts, splits.partition_dirichlet(labels, clients, alpha, np.random.default_rng(seed), least))


def test_a_large_alpha_makes_labels_alike_and_a_small_one_lets_one_label_prevail() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3], [8_000, 6_000, 4_000, 2_000]))
    even, skewed, extreme = (shares(splits.partition_dirichlet(labels, 20, alpha, 0), labels) for alpha in (1e5, 0.3, 0.01))
    assert np.abs(even - [0.4, 0.3, 0.2, 0.1]).max() < 0.01
    overall = entropy(np.array([[0.4, 0.3, 0.2, 0.1]]))[0]
    assert entropy(even).min() > overall - 0.02
    assert 0.2 < np.median(entropy(skewed)) < overall - 0.3
    assert np.median(extreme.max(axis=1)) > 0.99
    assert np.median(entropy(extreme)) < 0.05


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_each_label_is_divided_by_a_dirichlet_draw_of_its_own(alpha) -> None:
    """For K clients the squares of the shares sum to (alpha + 1) / (K alpha + 1) on average: the moments of a Dirichlet."""
    labels, K, draws = np.repeat([0, 1], 5000), 8, 150
    rng = np.random.default_rng(1)
    held = (
        np.array(
            [
                [np.bincount(labels[rows], minlength=2) for rows in splits.partition_dirichlet(labels, K, alpha, rng)]
                for _ in range(draws)
            ]
        )
        / 5000
    )  # (draws, K, 2)
    squares = (held**2).sum(axis=1)
    error = squares.std(axis=0) / np.sqrt(draws)
    assert (np.abs(squares.mean(axis=0) - (alpha + 1) / (K * alpha + 1)) < 4 * error + 1e-3).all()
    assert abs(np.corrcoef(squares.T)[0, 1]) < 4 / np.sqrt(draws)  # labels are drawn independently


def test_a_client_of_too_few_rows_gets_some_and_the_middling_ones_stay() -> None:
    labels = np.random.default_rng(2).integers(0, 3, 2000)
    free, held = (splits.partition_dirichlet(labels, 30, 0.1, 3, least) for least in (1, 20))
    sizes = np.array([len(rows) for rows in free])
    assert sizes.min() < 20
    assert_partition(held, 2000, 20)
    top = max(len(rows) for rows in held)
    between = np.flatnonzero((sizes >= 20) & (sizes < top - 1))
    assert len(between) > 3
    assert all(np.array_equal(free[client], held[client]) for client in between)
    small = np.flatnonzero((sizes > 1) & (sizes < 20))  # a client of one row may have had none, and got another one
    assert len(small) > 3
    assert all(set(free[client]) <= set(held[client]) and len(held[client]) == 20 for client in small)


def test_the_rows_of_a_label_are_dealt_and_moved_at_random() -> None:
    for alpha, least in ((1e12, 1), (1e-10, 100)):  # two halves; all rows for one client, of which the other then gets 100
        fewer = min(splits.partition_dirichlet(["a"] * 1000, 2, alpha, 0, least), key=len)
        assert len(fewer) == (500 if least == 1 else 100)
        assert abs(fewer.mean() - 499.5) < 4 * 289 / np.sqrt(len(fewer))


def test_ten_thousand_clients_of_a_hundred_thousand_rows() -> None:
    labels = np.random.default_rng(0).integers(0, 10, 100_000)
    parts = splits.partition_dirichlet(labels, 10_000, 0.1, 0)
    assert len(parts) == 10_000
    assert_partition(parts, 100_000)


# quantity skew


@quick
@given(rows_and_clients(), alphas, seeds)
def test_quantity_skew_divides_with_the_least_asked_and_repeats_with_the_seed(shape, alpha, seed) -> None:
    n, clients, least = shape
    parts = splits.partition_quantity(n, clients, alpha, seed, least)
    assert len(parts) == clients
    assert_partition(parts, n, least)
    assert same(parts, splits.partition_quantity(n, clients, alpha, np.random.default_rng(seed), least))


@pytest.mark.parametrize("alpha", [0.3, 1.0, 10.0])
def test_sizes_are_those_of_gamma_draws_over_their_sum(alpha) -> None:
    K, n, draws = 6, 3000, 300
    rng = np.random.default_rng(4)
    found = np.sort([[len(rows) for rows in splits.partition_quantity(n, K, alpha, rng)] for _ in range(draws)]) / n
    gamma = np.random.default_rng(5).gamma(alpha, size=(20_000, K))
    expected = np.sort(gamma / gamma.sum(axis=1, keepdims=True))
    error = expected.std(axis=0) / np.sqrt(draws)
    assert (np.abs(found.mean(axis=0) - expected.mean(axis=0)) < 4 * error + 1 / n).all()


def test_quantity_skew_leaves_labels_alike() -> None:
    labels = np.repeat([0, 1], 10_000)  # sorted, so that a share of neighbouring rows would be one label
    parts = splits.partition_quantity(len(labels), 10, 1.0, 0, least=100)
    error = 0.5 / np.sqrt([len(rows) for rows in parts])
    assert (np.abs(shares(parts, labels)[:, 0] - 0.5) < 4 * error).all()


def test_the_largest_remainders_are_rounded_up() -> None:
    class Drawn:
        def dirichlet(self, alphas):
            return np.array([0.55, 0.26, 0.19])

    assert splits._drawn_sizes(10, 3, 1.0, Drawn()).tolist() == [5, 3, 2]


@quick
@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.integers(1, 5))
def test_what_the_small_lack_comes_off_the_largest_one_by_one(sizes, least) -> None:
    if sum(sizes) < len(sizes) * least:
        return
    expected = np.array(sizes)
    while expected.min() < least:
        expected[expected.argmax()] -= 1
        expected[expected.argmin()] += 1
    assert splits._at_least(np.array(sizes), least).tolist() == expected.tolist()


# bad input


def iid(n=10, clients=2, **_):
    return splits.partition_iid(n, clients, 0)


def label_skew(n=10, clients=2, alpha=1.0, least=1):
    return splits.partition_dirichlet(["a"] * n, clients, alpha, 0, least)


def quantity_skew(n=10, clients=2, alpha=1.0, least=1):
    return splits.partition_quantity(n, clients, alpha, 0, least)


@pytest.mark.parametrize("partition", [iid, label_skew, quantity_skew])
@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"clients": 0}, "clients=0, least=1: expected at least one client"),
        ({"clients": -3}, "clients=-3, least=1: expected at least one client"),
        ({"clients": 11}, "10 rows are too few for 11 clients of at least 1; ask for fewer"),
    ],
)
def test_every_draw_refuses_clients_without_rows(partition, asked, message) -> None:
    with pytest.raises(ValueError, match=message):
        partition(**asked)


@pytest.mark.parametrize("partition", [label_skew, quantity_skew])
@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"alpha": 0.0}, "alpha=0.0: expected a number above 0"),
        ({"alpha": -1.0}, "alpha=-1.0: expected a number above 0"),
        ({"alpha": float("nan")}, "alpha=nan: expected a number above 0"),
        ({"alpha": float("inf")}, "alpha=inf: expected a number above 0"),
        ({"least": 0}, "clients=2, least=0: expected at least one client, and one row for each"),
        ({"least": 6}, "10 rows are too few for 2 clients of at least 6"),
    ],
)
def test_every_skew_refuses(partition, asked, message) -> None:
    with pytest.raises(ValueError, match=message):
        partition(**asked)


@pytest.mark.parametrize(
    ("labels", "message"),
    [([], "labels must be one name per row"), (["a", None, None], "2 rows have no label; drop them or name their label")],
)
def test_label_skew_refuses_rows_without_a_label(labels, message) -> None:
    with pytest.raises(ValueError, match=message):
        splits.partition_dirichlet(labels, 1, 1.0, 0)
