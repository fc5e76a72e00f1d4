"""Mixing: the laws of gossip, eigenvalues against numpy and closed forms, and what each function refuses."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.quiver import Quiver
from scipy import sparse

from fliot_lab.federation import topology as gossip
from fliot_lab.federation.graphs import TOPOLOGIES

quick = settings(deadline=None, max_examples=30)
links = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)).filter(lambda pair: pair[0] != pair[1]), max_size=14)
seeds = st.integers(0, 2**32 - 1)


def assert_doubly_stochastic(W) -> None:
    assert isinstance(W, sparse.csr_array)
    assert W.dtype == np.float64
    dense = W.toarray()
    assert dense.min() >= 0
    assert np.allclose(dense.sum(axis=0), 1, rtol=0, atol=1e-12)
    assert np.allclose(dense.sum(axis=1), 1, rtol=0, atol=1e-12)


def distance(x: np.ndarray) -> float:
    return float(np.linalg.norm(x - x.mean()))


# one mixing matrix


@quick
@given(links)
def test_the_weights_are_those_of_the_formulas(pairs) -> None:
    topology = gossip.from_edges(pairs, nodes=9)
    degrees = topology.degrees
    for weights in ("metropolis", "lazy"):
        expected = np.zeros((9, 9))
        for i, j in topology.edges:
            share = 1 / (1 + max(degrees[i], degrees[j])) if weights == "metropolis" else 1 / (2 * max(degrees))
            expected[i, j] = expected[j, i] = share
        expected += np.diag(1 - expected.sum(axis=1))
        W = gossip.mixing_matrix(topology, weights)
        assert_doubly_stochastic(W)
        assert np.allclose(W.toarray(), expected, rtol=0, atol=1e-15)
        assert weights == "metropolis" or W.diagonal().min() >= 0.5


@pytest.mark.parametrize("name", ["ring", "star", "torus", "small_world", "random_regular", "exponential"])
def test_the_error_falls_at_the_rate_of_the_second_eigenvalue_and_the_average_stays(name: str) -> None:
    W = gossip.mixing_matrix(TOPOLOGIES[name](64, 3))
    rate = gossip.second_eigenvalue(W)
    x = np.random.default_rng(0).normal(size=64)
    mean, first = x.mean(), distance(x)
    for t in range(1, gossip.rounds_to(W, 1e-9) + 1):
        x = W @ x
        assert distance(x) <= rate**t * first * (1 + 1e-6), t
        assert abs(x.mean() - mean) < 1e-12
    assert distance(x) <= 1e-9 * first
    for _ in range(500):  # the error alone, made large again each round, so that rounding does not drown it
        x = W @ ((x - x.mean()) / distance(x))
    assert distance(x) == pytest.approx(rate, abs=1e-3)


CLOSED_FORMS = {
    "ring": 1 - 2 / 3 * (1 - np.cos(2 * np.pi / 64)),
    "star": 1 - 1 / 64,
    "torus": 1 - 2 / 5 * (1 - np.cos(2 * np.pi / 8)),
    "exponential": 2 / 3,
    "complete": 0,
}


@pytest.mark.parametrize(
    ("name", "rounds"), [("ring", 2149), ("star", 439), ("torus", 56), ("exponential", 18), ("complete", 1)]
)
def test_rounds_at_64_nodes(name: str, rounds: int) -> None:
    """The exact distances from the average after so many rounds, and after one less, are the oracle."""
    W = gossip.mixing_matrix(TOPOLOGIES[name](64, 0))
    assert gossip.second_eigenvalue(W) == pytest.approx(CLOSED_FORMS[name], abs=1e-12)
    assert gossip.spectral_gap(W) == pytest.approx(1 - CLOSED_FORMS[name], abs=1e-12)
    assert gossip.rounds_to(W, error=1e-3) == rounds
    before, after = (np.linalg.norm(np.linalg.matrix_power(W.toarray(), t) - 1 / 64, 2) for t in (rounds - 1, rounds))
    assert after <= 1e-3 < before


def test_random_4_regular_topologies_of_64_nodes_need_some_fifty_rounds() -> None:
    rounds = [gossip.rounds_to(gossip.mixing_matrix(gossip.random_regular(64, 4, seed))) for seed in range(10)]
    assert min(rounds) > 30
    assert max(rounds) < 75


def test_rounding_adds_no_round() -> None:
    W = 0.1 * np.eye(4) + 0.9 / 4  # all other eigenvalues are 0.1
    assert [gossip.rounds_to(W, error) for error in (0.5, 0.1, 0.01, 1e-3, 1e-6)] == [1, 1, 2, 3, 6]


@quick
@given(links.filter(len), st.sampled_from(["metropolis", "lazy"]))
def test_the_second_eigenvalue_is_that_of_numpy(pairs, weights) -> None:
    W = gossip.mixing_matrix(gossip.from_edges(pairs, nodes=9), weights)
    expected = np.sort(np.abs(np.linalg.eigvals(W.toarray())))[-2]
    assert gossip.second_eigenvalue(W) == pytest.approx(expected, abs=1e-7)
    assert gossip.second_eigenvalue(W.toarray()) == gossip.second_eigenvalue(W)


@pytest.mark.parametrize("side", [10, 800])
def test_the_second_eigenvalue_may_be_negative_for_few_nodes_and_for_many(side: int) -> None:
    """Complete bipartite: eigenvalues 1, 0.1 and -0.8."""
    half = np.full((side, side), 0.9 / side)
    W = sparse.csr_array(sparse.block_array([[None, half], [half, None]]) + 0.1 * sparse.eye_array(2 * side))
    assert gossip.second_eigenvalue(W) == pytest.approx(0.8, abs=1e-9)


def test_many_nodes_have_the_second_eigenvalue_of_the_closed_form() -> None:
    W = gossip.mixing_matrix(gossip.torus(1600))
    assert gossip.second_eigenvalue(W) == pytest.approx(1 - 2 / 5 * (1 - np.cos(2 * np.pi / 40)), abs=1e-9)
    assert gossip.second_eigenvalue(W) == gossip.second_eigenvalue(W)


def test_one_node_agrees_with_itself_at_once() -> None:
    W = gossip.mixing_matrix(gossip.ring(1))
    assert (W.toarray().tolist(), gossip.second_eigenvalue(W), gossip.rounds_to(W)) == ([[1.0]], 0.0, 1)


def test_ten_thousand_nodes_mix() -> None:
    W = gossip.mixing_matrix(gossip.random_regular(10_000, 4, seed=0))
    assert W.nnz == 50_000
    assert np.allclose(W.data, 0.2, rtol=0, atol=1e-15)
    gossip.check_doubly_stochastic(W)


# push-sum


def test_push_sum_finds_the_mean_where_listening_alone_does_not() -> None:
    topology = gossip.from_edges([(0, 1), (1, 2), (2, 0), (0, 2), (2, 3), (3, 0), (0, 3)], directed=True)
    C = gossip.column_stochastic(topology)
    assert C.toarray()[:, 0].tolist() == [0.25, 0.25, 0.25, 0.25]  # node 0 sends to 1, 2, 3 and keeps a share
    assert C.toarray()[:, 1].tolist() == [0, 0.5, 0.5, 0]
    start = np.array([[1.0], [2.0], [3.0], [10.0]])
    values, mass = start, np.ones((4, 1))
    for _ in range(200):
        values, mass = C @ values, C @ mass
    assert np.allclose(values / mass, 4, rtol=0, atol=1e-12)
    assert np.abs(values - 4).max() > 0.1
    listening = topology.adjacency().toarray() + np.eye(4)
    listening /= listening.sum(axis=1, keepdims=True)
    assert np.abs(np.linalg.matrix_power(listening, 200) @ start - 4).max() > 0.1


@quick
@given(links, st.booleans())
def test_push_sum_weights_keep_all_mass(pairs, directed) -> None:
    topology = gossip.from_edges(pairs, nodes=9, directed=directed)
    C = gossip.column_stochastic(topology).toarray()
    assert np.allclose(C.sum(axis=0), 1, rtol=0, atol=1e-12)
    assert np.array_equal(C > 0, topology.adjacency().toarray() + np.eye(9) > 0)


# a matrix for each round


ROUNDS = {
    "matchings": lambda nodes, seed: gossip.matchings(nodes, seed),
    "one_peer_exponential": lambda nodes, seed: gossip.one_peer_exponential(nodes),
    "failing": lambda nodes, seed: gossip.failing(gossip.star(nodes), link=0.3, node=0.2, seed=seed),
    "churn": lambda nodes, seed: gossip.churn(gossip.exponential(nodes), leave=0.4, join=0.4, seed=seed),
}


@pytest.mark.parametrize("name", ROUNDS)
@quick
@given(st.integers(1, 20), seeds)
def test_each_round_is_doubly_stochastic_and_the_same_for_a_seed(name: str, nodes: int, seed: int) -> None:
    first, again = (list(islice(ROUNDS[name](nodes, seed), 4)) for _ in range(2))
    for W, same in zip(first, again, strict=True):
        assert W.shape == (nodes, nodes)
        assert_doubly_stochastic(W)
        assert np.array_equal(W.toarray(), same.toarray())


@pytest.mark.parametrize("name", ["matchings", "failing", "churn"])
def test_another_seed_gives_other_rounds(name: str) -> None:
    one, other = (np.stack([W.toarray() for W in islice(ROUNDS[name](20, seed), 5)]) for seed in (0, 1))
    assert not np.array_equal(one, other)
    assert not np.array_equal(one[0], one[1])


@pytest.mark.parametrize("nodes", [10, 11])
def test_in_a_matching_all_are_paired_but_the_odd_one(nodes: int) -> None:
    met = np.zeros((nodes, nodes))
    for W in islice(gossip.matchings(nodes, seed=0), 600):
        dense = W.toarray()
        assert np.allclose(dense @ dense, dense)  # a pair that has averaged changes no more
        assert (dense.diagonal() == 1).sum() == nodes % 2
        met += dense > 0
    each = 1 / (nodes - 1 + nodes % 2)  # a pair meets as often as another
    np.fill_diagonal(met, 600 * each)
    assert np.abs(met / 600 - each).max() < 0.05


def product(matrices: Iterator[sparse.csr_array], rounds: int) -> np.ndarray:
    found = next(matrices).toarray()
    for W in islice(matrices, rounds - 1):
        found = W @ found
    return found


@pytest.mark.parametrize("exponent", [1, 2, 3, 6])
def test_one_peer_exponential_averages_exactly_after_log2_rounds(exponent: int) -> None:
    nodes = 2**exponent
    assert np.abs(product(gossip.one_peer_exponential(nodes), exponent) - 1 / nodes).max() < 1e-15
    if exponent > 1:
        assert np.abs(product(gossip.one_peer_exponential(nodes), exponent - 1) - 1 / nodes).max() > 0.1 / nodes


def test_one_peer_exponential_goes_round_its_steps_for_other_numbers() -> None:
    for t, W in enumerate(islice(gossip.one_peer_exponential(12), 9)):
        step = 2 ** (t % 4)
        assert np.array_equal(W.toarray(), (np.eye(12) + np.roll(np.eye(12), step, axis=1)) / 2)


def test_what_never_fails_is_the_mixing_matrix_and_what_always_fails_changes_nothing() -> None:
    topology, unchanged = gossip.small_world(20, 4, 0.2, seed=0), np.eye(20)
    W = gossip.mixing_matrix(topology).toarray()
    for matrices, expected in [
        (gossip.failing(topology, link=0, node=0, seed=0), W),
        (gossip.failing(topology, link=1, seed=0), unchanged),
        (gossip.failing(topology, link=0, node=1, seed=0), unchanged),
        (gossip.churn(topology, leave=0, join=0, seed=0), W),
        (gossip.churn(topology, leave=1, join=0, seed=0), unchanged),
    ]:
        assert all(np.array_equal(found.toarray(), expected) for found in islice(matrices, 3))


def test_links_and_nodes_fail_as_often_as_asked() -> None:
    complete = gossip.complete(30)
    working = [(W.nnz - 30) / (30 * 29) for W in islice(gossip.failing(complete, link=0.3, seed=0), 150)]
    assert np.mean(working) == pytest.approx(0.7, abs=0.01)
    working = [(W.nnz - 30) / (30 * 29) for W in islice(gossip.failing(complete, link=0.3, node=0.2, seed=0), 150)]
    assert np.mean(working) == pytest.approx(0.7 * 0.8**2, abs=0.02)


def test_nodes_come_and_go_as_a_markov_chain_does() -> None:
    """On a complete graph a node is away where its row is that of the identity; all that are present share one mean."""
    away = np.array([W.diagonal() == 1 for W in islice(gossip.churn(gossip.complete(60), leave=0.1, join=0.3, seed=0), 400)])
    assert away[0].mean() == pytest.approx(0.1, abs=0.1)
    assert away[100:].mean() == pytest.approx(0.1 / (0.1 + 0.3), abs=0.02)
    assert away[1:][~away[:-1]].mean() == pytest.approx(0.1, abs=0.01)
    assert away[1:][away[:-1]].mean() == pytest.approx(0.7, abs=0.02)


def test_gossip_reaches_the_average_over_failing_links() -> None:
    x = np.arange(16.0)
    for W in islice(gossip.failing(gossip.ring(16), link=0.3, node=0.1, seed=0), 800):
        x = W @ x
    assert np.allclose(x, 7.5, rtol=0, atol=1e-9)


# figures


@pytest.mark.parametrize(("topology", "lines"), [(gossip.ring(12), 12), (gossip.star(12), 11), (gossip.torus(12), 24 + 3 + 4)])
def test_a_figure_has_a_dot_for_each_node_and_a_line_for_each_link(topology, lines) -> None:
    fig = gossip.draw(topology)
    assert isinstance(fig, Figure)
    (dots,) = (part for part in fig.axes[0].collections if isinstance(part, PathCollection))
    (drawn,) = (part for part in fig.axes[0].collections if isinstance(part, LineCollection))
    places = np.asarray(dots.get_offsets())
    assert len(np.unique(places.round(6), axis=0)) == 12
    assert len(drawn.get_segments()) == lines  # those that close a torus are cut in two
    assert all(len(segment) == 2 for segment in drawn.get_segments())
    lengths = [np.linalg.norm(np.subtract(*segment)) for segment in drawn.get_segments()]
    assert max(lengths) < 1.01
    assert topology.name != "star" or np.array_equal(places[0], [0, 0])


def test_a_directed_topology_has_arrows_and_values_have_a_scale() -> None:
    fig = gossip.draw(gossip.directed_ring(5), values=[5, 4, 3, 2, 1])
    parts = fig.axes[0].collections
    assert [part.N for part in parts if isinstance(part, Quiver)] == [5]
    assert [part.get_array().tolist() for part in parts if isinstance(part, PathCollection)] == [[5, 4, 3, 2, 1]]
    assert [ax.get_ylabel() for ax in fig.axes] == ["", "value"]


def test_a_figure_takes_the_axes_that_it_is_given() -> None:
    fig = Figure()
    left, right = fig.subplots(1, 2)
    assert gossip.draw(gossip.ring(5), ax=right) is fig
    assert (len(left.collections), len(right.collections)) == (0, 2)


# what is refused


@pytest.mark.parametrize(
    ("W", "message"),
    [
        (np.full((2, 3), 0.5), r"W must be square, .* got shape \(2, 3\)"),
        (np.ones(3), r"W must be square, .* got shape \(3,\)"),
        (np.empty((0, 0)), r"W must be square, .* got shape \(0, 0\)"),
        ([[0.5, 0.5], [np.nan, 0.5]], r"W\[1, 0\] = nan: weights must be finite"),
        ([[1.5, -0.5], [-0.5, 1.5]], r"W\[0, 1\] = -0.5: weights must not be negative"),
        ([[0.5, 0.5], [1, 0]], "W is row-stochastic only, column 0 sums to 1.5, .* Metropolis weights .* or push-sum"),
        ([[0.5, 1], [0.5, 0]], "^row 0 sums to 1.5, expected 1"),
        ([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 0.7]], "row 2 sums to 0.7 and column 2 sums to 0.7, expected 1"),
    ],
)
def test_a_matrix_that_is_not_doubly_stochastic_is_refused_dense_and_sparse(W, message) -> None:
    for form in (W, sparse.csr_array(np.asarray(W)), sparse.coo_array(np.asarray(W))):
        for check in (gossip.check_doubly_stochastic, gossip.second_eigenvalue, gossip.spectral_gap, gossip.rounds_to):
            with pytest.raises(ValueError, match=message):
                check(form)


def test_the_tolerance_is_what_is_allowed() -> None:
    W = np.full((2, 2), 0.5) + 1e-6
    gossip.check_doubly_stochastic(W, tolerance=1e-5)
    with pytest.raises(ValueError, match=r"sums to 1\.000002"):
        gossip.check_doubly_stochastic(W)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gossip.mixing_matrix(gossip.directed_ring(4)), "directed ring is directed, .* push-sum, column_stochastic"),
        (lambda: gossip.mixing_matrix(gossip.ring(4), "uniform"), 'weights=\'uniform\': expected "metropolis" or "lazy"'),
        (lambda: gossip.column_stochastic(np.eye(3)), "expected a Topology, got ndarray"),
        (lambda: gossip.second_eigenvalue(next(gossip.one_peer_exponential(8))), "W is not symmetric"),
        (lambda: gossip.rounds_to(np.eye(3)), "W leaves the nodes in 3 parts that never hear of each other"),
        (lambda: gossip.rounds_to([[0, 1], [1, 0]]), "W has the eigenvalue -1, .*lazy"),
        (lambda: gossip.rounds_to(np.eye(1), error=0), "error=0: expected a share"),
        (lambda: gossip.matchings(0, seed=0), "nodes=0: expected at least 1"),
        (lambda: gossip.one_peer_exponential(0), "nodes=0: expected at least 1"),
        (lambda: gossip.failing(gossip.ring(4), link=1.5, seed=0), "link=1.5: expected a chance from 0 to 1"),
        (lambda: gossip.failing(gossip.ring(4), node=float("nan"), seed=0), "node=nan: expected a chance from 0 to 1"),
        (lambda: gossip.failing(gossip.directed_ring(4), seed=0), "directed ring is directed"),
        (lambda: gossip.churn(gossip.ring(4), leave=-0.1, seed=0), "leave=-0.1: expected a chance from 0 to 1"),
        (lambda: gossip.churn(gossip.directed_ring(4), seed=0), "directed ring is directed"),
        (lambda: gossip.draw(gossip.ring(201)), "201 nodes are too many .* draw 200 or fewer"),
        (lambda: gossip.draw(gossip.ring(4), values=[1, 2, 3]), r"values \(3,\) must be one finite number per node, \(4,\)"),
        (lambda: gossip.draw(gossip.ring(3), values=[1, 2, np.nan]), "must be one finite number per node"),
    ],
)
def test_what_cannot_be_is_refused_at_the_call_with_what_to_do(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_topology_that_failures_have_divided_needs_no_number_of_rounds() -> None:
    divided = gossip.ring(8).without(edges=[(0, 1), (4, 5)])
    assert gossip.spectral_gap(gossip.mixing_matrix(divided)) == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="in 2 parts"):
        gossip.rounds_to(gossip.mixing_matrix(divided))
