"""Topologies: the same graphs as networkx makes, and what each function refuses."""

import time
from collections.abc import Callable

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fliot_lab.federation import graphs
from fliot_lab.federation.graphs import Topology

quick = settings(deadline=None, max_examples=40)
# few nodes, so that isolated ones, repeated links and several components are common
pairs = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)).filter(lambda pair: pair[0] != pair[1]), max_size=14)


def as_networkx(topology: Topology) -> nx.Graph:
    graph = nx.DiGraph() if topology.directed else nx.Graph()
    graph.add_nodes_from(range(topology.nodes))
    graph.add_edges_from(topology.edges.tolist())
    return graph


def powers(nodes: int) -> list[int]:
    return [2**m for m in range(20) if 2**m < nodes]


def grid(nodes: int) -> nx.Graph:
    """The torus from its definition: next in the row, next in the column, both modulo the size."""
    rows = max(divisor for divisor in range(1, nodes) if nodes % divisor == 0 and divisor**2 <= nodes)
    columns = nodes // rows
    graph = nx.Graph()
    for row in range(rows):
        for column in range(columns):
            graph.add_edge(row * columns + column, row * columns + (column + 1) % columns)
            graph.add_edge(row * columns + column, (row + 1) % rows * columns + column)
    return graph


FAMILIES: dict[str, tuple[Callable[[int], Topology], Callable[[int], nx.Graph]]] = {
    "star": (graphs.star, lambda nodes: nx.star_graph(nodes - 1)),
    "ring": (graphs.ring, lambda nodes: nx.circulant_graph(nodes, [1])),
    "complete": (graphs.complete, nx.complete_graph),
    "exponential": (graphs.exponential, lambda nodes: nx.circulant_graph(nodes, powers(nodes))),
    "directed ring": (graphs.directed_ring, lambda nodes: nx.cycle_graph(nodes, nx.DiGraph)),
    "directed exponential": (
        graphs.directed_exponential,
        lambda nodes: nx.DiGraph([(i, (i + power) % nodes) for i in range(nodes) for power in powers(nodes)]),
    ),
    "small world": (
        lambda nodes: graphs.small_world(nodes, 2, 0, seed=0),
        lambda nodes: nx.watts_strogatz_graph(nodes, 2, 0, seed=0),
    ),
    "torus": (graphs.torus, grid),
}


@pytest.mark.parametrize("nodes", [4, 6, 9, 12, 16, 35, 64])
@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_is_the_graph_that_networkx_makes(family: str, nodes: int) -> None:
    ours, theirs = (make(nodes) for make in FAMILIES[family])
    expected = {edge if ours.directed else tuple(sorted(edge)) for edge in theirs.edges()}
    assert ours.name == family
    assert ours.edges.dtype == np.int64
    assert len(ours.edges) == len(expected)
    assert set(map(tuple, ours.edges.tolist())) == expected
    assert ours.is_connected


@pytest.mark.parametrize("rows_columns", [(3, 4), (8, 8), (5, 7)])
def test_a_torus_has_the_shape_that_its_text_says(rows_columns) -> None:
    theirs = nx.grid_2d_graph(*rows_columns, periodic=True)
    assert nx.is_isomorphic(as_networkx(graphs.torus(rows_columns[0] * rows_columns[1])), theirs)


@pytest.mark.parametrize(
    "make", [graphs.star, graphs.ring, graphs.complete, graphs.exponential, graphs.directed_ring, graphs.directed_exponential]
)
def test_one_node_has_no_link_and_two_have_one(make) -> None:
    assert len(make(1).edges) == 0
    assert make(1).is_connected
    two = make(2)
    assert two.edges.tolist() == ([[0, 1], [1, 0]] if two.directed else [[0, 1]])


# what a topology says about itself


@quick
@given(pairs, st.booleans())
def test_degrees_neighbours_and_components_are_those_of_networkx(links, directed) -> None:
    topology = graphs.from_edges(links, nodes=9, directed=directed)
    graph = nx.DiGraph() if directed else nx.Graph()
    graph.add_nodes_from(range(9))
    graph.add_edges_from(links)
    heard = graph.predecessors if directed else graph.neighbors
    assert [topology.neighbours(i).tolist() for i in range(9)] == [sorted(heard(i)) for i in range(9)]
    assert topology.degrees.tolist() == [len(list(heard(i))) for i in range(9)]
    assert np.array_equal(topology.adjacency().toarray(), nx.to_numpy_array(graph, weight=None).T)
    number, labels = topology.components()
    parts = nx.strongly_connected_components(graph) if directed else nx.connected_components(graph)
    assert sorted(map(sorted, parts)) == sorted(np.flatnonzero(labels == part).tolist() for part in range(number))
    assert topology.is_connected == (nx.is_strongly_connected(graph) if directed else nx.is_connected(graph))


@quick
@given(pairs.filter(len), st.booleans(), st.data())
def test_without_removes_what_networkx_removes_and_keeps_the_numbers(links, directed, data) -> None:
    topology = graphs.from_edges(links, nodes=9, directed=directed)
    edges = data.draw(st.lists(st.sampled_from(links)))
    nodes = data.draw(st.lists(st.integers(0, 8), max_size=3))
    graph = as_networkx(topology)
    graph.remove_edges_from(edges)
    graph.remove_edges_from([edge for edge in list(graph.edges) if set(edge) & set(nodes)])
    left = topology.without(edges=edges, nodes=nodes)
    assert (left.nodes, left.directed, left.name) == (9, directed, "custom")
    assert {frozenset(e) if not directed else tuple(e) for e in left.edges.tolist()} == {
        frozenset(e) if not directed else e for e in graph.edges
    }
    assert len(topology.edges) == len(set(links) if directed else set(map(frozenset, links)))  # the original stays


def test_links_are_merged_sorted_and_kept_from_change() -> None:
    topology = graphs.from_edges([(3, 1), (1, 3), (0, 2)])
    assert topology.nodes == 4
    assert topology.edges.tolist() == [[0, 2], [1, 3]]
    with pytest.raises(ValueError, match="read-only"):
        topology.edges[0, 0] = 3


@pytest.mark.parametrize("kind", [nx.Graph, nx.DiGraph, nx.MultiGraph])
def test_a_networkx_graph_of_named_nodes_keeps_their_order(kind) -> None:
    graph = kind([("camera", "hub"), ("lock", "hub"), ("camera", "hub")])
    graph.add_node("lamp")
    topology = graphs.from_networkx(graph)
    assert topology.directed == graph.is_directed()
    assert topology.nodes == 4
    assert topology.edges.tolist() == ([[0, 1], [2, 1]] if topology.directed else [[0, 1], [1, 2]])


# random topologies


@quick
@given(st.integers(2, 30), st.data(), st.integers(0, 2**32 - 1))
def test_random_regular_is_regular_simple_and_connected(nodes, data, seed) -> None:
    degree = data.draw(st.integers(1 if nodes == 2 else 2, nodes - 1).filter(lambda degree: nodes * degree % 2 == 0))
    topology = graphs.random_regular(nodes, degree, seed)
    graph = as_networkx(topology)  # merges repeated links, so that the degrees show them
    assert {found for _, found in graph.degree} == {degree}
    assert nx.is_connected(graph)
    assert np.array_equal(topology.edges, graphs.random_regular(nodes, degree, seed).edges)


def test_random_regular_draws_every_graph_there_is() -> None:
    """There are 70 cubic graphs of six numbered nodes, and nearly all must turn up in so many draws."""
    draws = {graphs.random_regular(6, 3, seed).edges.tobytes() for seed in range(700)}
    assert 66 <= len(draws) <= 70


@pytest.mark.parametrize("degree", [3, 4])
def test_random_regular_has_as_many_triangles_as_theory_says(degree: int) -> None:
    """A Poisson number of mean (degree - 1)^3 / 6 in the limit of many nodes (Bollobás 1980)."""
    found = [sum(nx.triangles(as_networkx(graphs.random_regular(200, degree, seed))).values()) / 3 for seed in range(150)]
    expected = (degree - 1) ** 3 / 6
    assert np.mean(found) == pytest.approx(expected, abs=3 * np.sqrt(expected / 150))


def test_ten_thousand_nodes_take_less_than_a_second() -> None:
    start = time.perf_counter()
    topology = graphs.random_regular(10_000, 4, seed=0)
    assert time.perf_counter() - start < 1
    assert len(topology.edges) == 20_000
    assert set(topology.degrees) == {4}
    assert topology.is_connected


@quick
@given(st.integers(7, 30), st.sampled_from([4, 6]), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_small_world_keeps_the_number_of_links_and_is_connected(nodes, degree, rewired, seed) -> None:
    graph = as_networkx(graphs.small_world(nodes, degree, rewired, seed))
    assert graph.number_of_edges() == nodes * degree // 2
    assert nx.is_connected(graph)
    assert min(found for _, found in graph.degree) >= degree // 2  # a node keeps its own half of the links


def test_rewiring_moves_the_asked_share_of_links_and_shortens_paths() -> None:
    lattice, some = (graphs.small_world(400, 6, rewired, seed=1) for rewired in (0, 0.2))
    kept = set(map(tuple, lattice.edges.tolist())) & set(map(tuple, some.edges.tolist()))
    assert 1 - len(kept) / 1200 == pytest.approx(0.2, abs=0.04)
    before, after = (nx.average_shortest_path_length(as_networkx(topology)) for topology in (lattice, some))
    theirs = nx.average_shortest_path_length(nx.connected_watts_strogatz_graph(400, 6, 0.2, seed=1))
    assert after < before / 5
    assert after == pytest.approx(theirs, rel=0.1)


@pytest.mark.parametrize("name", graphs.TOPOLOGIES)
def test_each_topology_by_name_is_connected_undirected_and_the_same_for_a_seed(name: str) -> None:
    first, again = (graphs.TOPOLOGIES[name](36, 5) for _ in range(2))
    assert first.nodes == 36
    assert first.is_connected
    assert not first.directed
    assert np.array_equal(first.edges, again.edges)


# what is refused


@pytest.mark.parametrize("make", [graphs.star, graphs.ring, graphs.torus, graphs.complete, graphs.exponential])
@pytest.mark.parametrize(
    ("nodes", "message"), [(0, "nodes=0: expected at least 1"), (2.5, "nodes=2.5: expected a whole number")]
)
def test_a_number_of_nodes_that_is_none_is_refused(make, nodes, message) -> None:
    with pytest.raises(ValueError, match=message):
        make(nodes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: graphs.directed_ring(-1), "nodes=-1: expected at least 1"),
        (lambda: graphs.directed_exponential("8"), "nodes='8': expected a whole number"),
        (lambda: graphs.torus(13), "13 nodes make no torus of two rows or more; .* such as 14"),
        (lambda: graphs.torus(2), "such as 4"),
        (lambda: graphs.small_world(20, 3, 0.1, 0), "degree=3: expected an even number from 2"),
        (lambda: graphs.small_world(4, 4, 0.1, 0), "degree=4: expected an even number from 2 to below the 4 nodes"),
        (lambda: graphs.small_world(20, 4, float("nan"), 0), "rewired=nan: expected a chance from 0 to 1"),
        (lambda: graphs.random_regular(5, 3, 0), "5 nodes cannot have degree=3 each"),
        (lambda: graphs.random_regular(4, 4, 0), "4 nodes cannot have degree=4 each"),
        (lambda: graphs.random_regular(4, 1, 0), "4 nodes of degree 1 are pairs and never connected"),
        (lambda: graphs.from_edges([(0, 1), (2, 2)]), "edge 2-2 links node 2 with itself"),
        (lambda: graphs.from_edges([(0, 5)], nodes=4), "there is no node 5: 4 nodes are numbered 0 to 3"),
        (lambda: graphs.from_edges([(0, -1)]), "there is no node -1"),
        (lambda: graphs.from_edges([]), "edges is empty; say with nodes="),
        (lambda: graphs.from_edges([(0, 1, 2)]), r"edges must be pairs .* \(1, 3\)"),
        (lambda: graphs.from_edges([(0, float("nan"))]), "edges must be pairs of node numbers, whole"),
        (lambda: graphs.from_networkx([(0, 1)]), "expected a networkx graph, got list; .* from_edges"),
        (lambda: graphs.from_networkx(nx.Graph()), "nodes=0: expected at least 1"),
        (lambda: graphs.ring(4).without(edges=[(0, 2)]), "ring has no link 0-2"),
        (lambda: graphs.directed_ring(4).without(edges=[(1, 0)]), "directed ring has no link 1-0"),
        (lambda: graphs.ring(4).without(nodes=[4]), "there is no node 4: 4 nodes are numbered 0 to 3"),
        (lambda: graphs.ring(4).neighbours(-1), "there is no node -1"),
        (lambda: graphs.ring(4).neighbours(1.0), "nodes are known by whole numbers, 0 to 3, got float64"),
    ],
)
def test_what_makes_no_topology_is_refused_with_what_to_do(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_draws_that_are_never_connected_are_given_up(monkeypatch) -> None:
    monkeypatch.setattr(graphs, "DRAWS", 2)
    with pytest.raises(ValueError, match="none of 2 draws of a small world topology of 900 nodes is connected; raise degree"):
        graphs.small_world(900, 2, 1.0, seed=0)
