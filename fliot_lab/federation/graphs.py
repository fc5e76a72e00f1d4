"""Topologies: which nodes of a federation hear which, as rings, tori, random graphs and what else is used; `Topology` is one.

Each function makes one of a number of nodes K. How much the nodes listen is the matter of `fliot_lab.federation.topology`,
which has all of these functions too.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from operator import index
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

Edges = npt.NDArray[np.int64]
Seed = int | np.random.Generator

DRAWS = 100  # of a random topology before its parameters are blamed, and of a switch of links before the draw is


@dataclass(frozen=True, eq=False)
class Topology:
    """Links `edges` (E, 2) int64 between `nodes` K nodes: i < j, for both ways, or i -> j (i sends to j) where `directed`.

    A link given twice is kept once, and the links are sorted. Raises ValueError for no node, for a link of a node with itself,
    and for nodes outside 0 to K - 1.
    """

    name: str
    nodes: int
    edges: Edges
    directed: bool = False

    def __post_init__(self) -> None:
        nodes = whole(self.nodes, "nodes")
        edges = np.stack(np.divmod(np.unique(_codes(self.edges, nodes, self.directed)), nodes), axis=1)
        edges.setflags(write=False)
        object.__setattr__(self, "nodes", nodes)
        object.__setattr__(self, "edges", edges)

    def adjacency(self) -> sparse.csr_array:
        """A (K, K) float64 with A[i, j] = 1 where i hears j, else and on the diagonal 0; symmetric unless directed."""
        sender, hearer = self.edges.T
        if not self.directed:
            sender, hearer = np.concatenate([sender, hearer]), np.concatenate([hearer, sender])
        return sparse.csr_array((np.ones(len(sender)), (hearer, sender)), shape=(self.nodes, self.nodes))

    @property
    def degrees(self) -> npt.NDArray[np.int64]:
        """Number (K,) of nodes that each node hears."""
        ends = self.edges[:, 1] if self.directed else self.edges.ravel()
        return np.bincount(ends, minlength=self.nodes).astype(np.int64)

    def neighbours(self, i: int) -> npt.NDArray[np.int64]:
        """Nodes (d,), ascending, whose messages node `i` receives. Raises ValueError for a node that is not there."""
        _check_within(np.array([i]), self.nodes)
        first, second = self.edges.T
        heard = first[second == i]
        return heard if self.directed else np.concatenate([heard, second[first == i]])

    def components(self) -> tuple[int, npt.NDArray[np.int32]]:
        """Number of components, and the component (K,) of each node; strongly connected ones if directed."""
        number, labels = sparse.csgraph.connected_components(self.adjacency(), self.directed, "strong")
        return int(number), labels

    @property
    def is_connected(self) -> bool:
        """Whether every node can reach every other, along the direction of the links."""
        return self.components()[0] == 1

    def without(self, edges: Iterable[Any] = (), nodes: Iterable[int] = ()) -> "Topology":
        """The topology without the links `edges` and without the links of `nodes`, which stay, isolated, under their number.

        Raises ValueError for a link or a node that is not there.
        """
        lost, gone = _codes(list(edges), self.nodes, self.directed), np.asarray(list(nodes))
        unknown = lost[~np.isin(lost, self._coded)]
        if unknown.size:
            a, b = divmod(int(unknown[0]), self.nodes)
            raise ValueError(f"{self.name} has no link {a}-{b}, so it cannot fail; `edges` lists those that there are")
        _check_within(gone, self.nodes)
        return self.only(~np.isin(self._coded, lost) & ~np.isin(self.edges, gone).any(axis=1))

    def only(self, kept: npt.NDArray[np.bool_]) -> "Topology":
        """The topology of those links that the mask `kept` (E,) keeps."""
        return replace(self, edges=self.edges[kept])

    @property
    def _coded(self) -> Edges:
        return self.edges @ np.array([self.nodes, 1])


def star(nodes: int) -> Topology:
    """A star of K nodes: node 0, the hub, is linked with each other node, as a server would be."""
    nodes = whole(nodes, "nodes")
    return Topology("star", nodes, np.stack([np.zeros(nodes - 1, dtype=np.int64), np.arange(1, nodes)], axis=1))


def ring(nodes: int) -> Topology:
    """A ring of K nodes: i is linked with i - 1 and i + 1, modulo K."""
    return _circle("ring", nodes, [1])


def torus(nodes: int) -> Topology:
    """A grid of K nodes, row by row, whose rows and whose columns close to rings; 64 nodes are 8 x 8, 12 are 3 x 4.

    It is as square as K allows, with two rows or more. Raises ValueError where K has no such grid: 1, or a prime.
    """
    nodes = whole(nodes, "nodes")
    if rows(nodes) < 2:
        raise ValueError(
            f"{nodes} nodes make no torus of two rows or more; take a number that is not prime, such as {max(4, nodes + 1)}"
        )
    grid = np.arange(nodes).reshape(rows(nodes), -1)
    shifted = [np.stack([grid, np.roll(grid, -1, axis)], axis=-1).reshape(-1, 2) for axis in (0, 1)]
    return Topology("torus", nodes, np.concatenate(shifted))


def complete(nodes: int) -> Topology:
    """All K nodes linked with each other."""
    nodes = whole(nodes, "nodes")
    return Topology("complete", nodes, np.stack(np.triu_indices(nodes, 1), axis=1))


def exponential(nodes: int) -> Topology:
    """The exponential graph of K nodes: i is linked with i + 2^m and i - 2^m, modulo K, for each 2^m < K.

    Few links, about 2 log2 K per node, and few rounds. Ying et al. 2021, arXiv 2110.13363.
    """
    return _circle("exponential", nodes, powers(nodes))


def directed_ring(nodes: int) -> Topology:
    """A ring of K nodes in which i sends to i + 1, modulo K, alone."""
    return _circle("directed ring", nodes, [1], directed=True)


def directed_exponential(nodes: int) -> Topology:
    """The exponential graph of K nodes as published: i sends to i + 2^m, modulo K, for each 2^m < K. arXiv 2110.13363."""
    return _circle("directed exponential", nodes, powers(nodes), directed=True)


def small_world(nodes: int, degree: int, rewired: float, seed: Seed) -> Topology:
    """A ring of K nodes, each linked with its `degree` nearest, of whose links a share `rewired` then ends at random nodes.

    Drawn again until it is connected. Raises ValueError unless `degree` is even, 2 <= degree < K and 0 <= rewired <= 1, and
    where 100 draws are not connected. Watts & Strogatz 1998, Nature 393.
    """
    nodes, degree = whole(nodes, "nodes"), whole(degree, "degree")
    if degree % 2 or degree >= nodes:
        raise ValueError(f"degree={degree}: expected an even number from 2 to below the {nodes} nodes")
    check_chance(rewired, "rewired")
    rng = np.random.default_rng(seed)
    return _connected("small world", nodes, lambda: _rewired(nodes, degree, rewired, rng), "raise degree or lower rewired")


def random_regular(nodes: int, degree: int, seed: Seed) -> Topology:
    """A connected topology of K nodes with `degree` links each, drawn at random; most such are good expanders.

    Raises ValueError unless 1 <= degree < K with K * degree even, and for degree 1 of more than two nodes, which cannot be
    connected. Pairs link ends at random and switches those that collide (McKay & Wormald 1990, J. Algorithms 11): among few
    nodes some graphs come up more often than others, among many all alike.
    """
    nodes, degree = whole(nodes, "nodes"), whole(degree, "degree")
    if degree >= nodes or nodes * degree % 2:
        raise ValueError(f"{nodes} nodes cannot have degree={degree} each: expected degree < nodes, and nodes * degree even")
    if degree == 1 and nodes > 2:
        raise ValueError(f"{nodes} nodes of degree 1 are pairs and never connected; take degree 2 or more")
    rng, name = np.random.default_rng(seed), f"random {degree}-regular"
    if degree == 2:  # a ring in random order is all that is connected, and few draws are
        order = rng.permutation(nodes)
        return Topology(name, nodes, np.stack([order, np.roll(order, 1)], axis=1))
    return _connected(name, nodes, lambda: _regular(nodes, degree, rng), "take another degree")


def from_edges(edges: Iterable[Any], nodes: int | None = None, directed: bool = False) -> Topology:
    """The topology of the links `edges` (E, 2), of as many nodes as they name unless `nodes` says of how many.

    Raises ValueError as `Topology` does, and where there is neither a link nor a number of nodes.
    """
    pairs = np.asarray(list(edges))
    if nodes is None:
        if not pairs.size:
            raise ValueError("edges is empty; say with nodes=... how many nodes there are")
        nodes = max(1, int(pairs.max()) + 1) if pairs.dtype.kind in "iu" else 1
    return Topology("custom", nodes, pairs, directed)


def from_networkx(graph: Any) -> Topology:
    """The topology of a networkx graph: node i is the i-th of `graph.nodes`; weights play no part.

    Raises ValueError for what is no such graph, and as `Topology` does.
    """
    if not all(hasattr(graph, name) for name in ("nodes", "edges", "is_directed")):
        raise ValueError(f"expected a networkx graph, got {type(graph).__name__}; for a list of links there is from_edges")
    number = {node: i for i, node in enumerate(graph.nodes)}
    edges = [(number[a], number[b]) for a, b in graph.edges()]
    return Topology(getattr(graph, "name", "") or "networkx", len(number), np.asarray(edges), graph.is_directed())


TOPOLOGIES: dict[str, Callable[[int, int], Topology]] = {
    "ring": lambda nodes, seed: ring(nodes),
    "star": lambda nodes, seed: star(nodes),
    "torus": lambda nodes, seed: torus(nodes),
    "small_world": lambda nodes, seed: small_world(nodes, 4, 0.2, seed),
    "random_regular": lambda nodes, seed: random_regular(nodes, 4, seed),
    "exponential": lambda nodes, seed: exponential(nodes),
    "complete": lambda nodes, seed: complete(nodes),
}
"""Undirected topologies by name, each made of a number of nodes and a seed."""


def _circle(name: str, nodes: int, steps: list[int], directed: bool = False) -> Topology:
    own = np.arange(whole(nodes, "nodes"))
    pairs = np.concatenate([np.stack([own, (own + step) % nodes], axis=1) for step in steps] or [np.empty((0, 2), int)])
    return Topology(name, nodes, pairs if nodes > 1 else pairs[:0], directed)


def powers(nodes: int) -> list[int]:
    """1, 2, 4, ... below K, of which there are log2 K rounded up."""
    return [2**m for m in range((whole(nodes, "nodes") - 1).bit_length())]


def rows(nodes: int) -> int:
    """Rows of the squarest grid of K nodes: the largest divisor of K up to its root."""
    return next(divisor for divisor in range(math.isqrt(nodes), 0, -1) if nodes % divisor == 0)


def _connected(name: str, nodes: int, links: Callable[[], Edges | None], remedy: str) -> Topology:
    for _ in range(DRAWS):
        edges = links()
        if edges is not None and (topology := Topology(name, nodes, edges)).is_connected:
            return topology
    raise ValueError(f"none of {DRAWS} draws of a {name} topology of {nodes} nodes is connected; {remedy}")


def _rewired(nodes: int, degree: int, rewired: float, rng: np.random.Generator) -> Edges:
    """Links (E, 2) of a ring in which each knows its nearest, some of them moved to a random node not linked yet."""
    ends = (np.arange(nodes) + np.arange(1, degree // 2 + 1)[:, None]) % nodes  # (degree / 2, K)
    known = [{i} | {(i + step) % nodes for step in range(-(degree // 2), degree // 2 + 1)} for i in range(nodes)]
    for lag, i in np.argwhere(rng.random(ends.shape) < rewired):
        if len(known[i]) < nodes:
            new = next(j for j in iter(lambda: int(rng.integers(nodes)), None) if j not in known[i])
            old, ends[lag, i] = int(ends[lag, i]), new
            known[i].symmetric_difference_update({old, new})
            known[old].remove(int(i))
            known[new].add(int(i))
    return np.stack([np.tile(np.arange(nodes), len(ends)), ends.ravel()], axis=1)


def _regular(nodes: int, degree: int, rng: np.random.Generator) -> Edges | None:
    """Links (E, 2) of a simple graph in which all have `degree`, connected or not; None where the draw got stuck."""
    if 2 * degree >= nodes:  # few links are missing: draw those, since switching finds no free place among many links
        missing = _regular(nodes, nodes - 1 - degree, rng)
        return None if missing is None else complete(nodes).without(missing).edges
    ends = np.sort(rng.permutation(np.repeat(np.arange(nodes), degree)).reshape(-1, 2), axis=1)
    codes = ends @ np.array([nodes, 1])
    sound = np.zeros(len(ends), dtype=bool)
    sound[np.unique(codes, return_index=True)[1]] = True
    sound &= ends[:, 0] != ends[:, 1]
    present = set(codes[sound].tolist())
    for faulty in np.flatnonzero(~sound):
        a, b = ends[faulty].tolist()
        for other, turned in zip(rng.integers(len(ends), size=DRAWS), rng.random(DRAWS) < 0.5, strict=True):
            c, d = ends[other, :: -1 if turned else 1].tolist()
            old, new = min(c, d) * nodes + max(c, d), {min(a, c) * nodes + max(a, c), min(b, d) * nodes + max(b, d)}
            if sound[other] and a != c and b != d and len(new) == 2 and not new & present:
                present.discard(old)
                present.update(new)
                ends[faulty], ends[other], sound[faulty] = sorted((a, c)), sorted((b, d)), True
                break
        else:
            return None
    return ends


def _codes(edges: Any, nodes: int, directed: bool) -> Edges:
    """One number i * K + j (E,) for each link; raises ValueError for what is no link between two of K nodes."""
    pairs = np.asarray(edges)
    if not pairs.size:
        return np.empty(0, dtype=np.int64)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        raise ValueError(f"edges must be pairs of node numbers, whole and of shape (E, 2), got {pairs.dtype} {pairs.shape}")
    _check_within(pairs, nodes)
    loops = pairs[pairs[:, 0] == pairs[:, 1], 0]
    if loops.size:
        raise ValueError(
            f"edge {loops[0]}-{loops[0]} links node {loops[0]} with itself; leave it out, a node always hears itself"
        )
    return (pairs if directed else np.sort(pairs, axis=1)).astype(np.int64) @ np.array([nodes, 1])


def _check_within(numbers: npt.NDArray[Any], nodes: int) -> None:
    if not numbers.size:
        return
    if numbers.dtype.kind not in "iu":
        raise ValueError(f"nodes are known by whole numbers, 0 to {nodes - 1}, got {numbers.dtype}")
    wrong = numbers[(numbers < 0) | (numbers >= nodes)]
    if wrong.size:
        raise ValueError(f"there is no node {wrong[0]}: {nodes} nodes are numbered 0 to {nodes - 1}")


def whole(value: Any, name: str) -> int:
    """`value` as an int; raises ValueError, which calls it `name`, where it is no whole number from 1 on."""
    try:
        number = index(value)
    except TypeError:
        raise ValueError(f"{name}={value!r}: expected a whole number") from None
    if number < 1:
        raise ValueError(f"{name}={number}: expected at least 1")
    return number


def check_chance(chance: float, name: str) -> None:
    """Nothing; raises ValueError, which calls it `name`, where `chance` is not from 0 to 1."""
    if not 0 <= chance <= 1:
        raise ValueError(f"{name}={chance}: expected a chance from 0 to 1")
