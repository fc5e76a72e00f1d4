"""Who talks to whom in a federation without a server, and how much each node listens to the others.

A `Topology` says who hears whom. A mixing matrix W (K, K) says how much: in one round of gossip node i replaces its vector by
the mean of those that it hears, weighted with row i, so that one round for all nodes is `W @ updates` (K, P). Where W is doubly
stochastic (rows and columns sum to 1) the average over the nodes never changes, and for symmetric W the distance from it
shrinks each round to `second_eigenvalue(W)` of what it was, or less:

    W = mixing_matrix(ring(64))
    rounds_to(W, error=1e-3)  # 2149; a star takes 439, a torus 56, an exponential graph 18

Over a directed topology that mean would drift. There push-sum sends with `C = column_stochastic(topology)` the values (K, P)
and a mass (K, 1) that starts at 1: after each `values, mass = C @ values, C @ mass`, the estimates are `values / mass`.
"""

import math
from collections.abc import Iterator
from itertools import count, repeat
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, eigsh

from fliot_lab.federation.graphs import (
    TOPOLOGIES,
    Seed,
    Topology,
    check_chance,
    complete,
    directed_exponential,
    directed_ring,
    exponential,
    from_edges,
    from_networkx,
    powers,
    random_regular,
    ring,
    rows,
    small_world,
    star,
    torus,
    whole,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "TOPOLOGIES", "Topology", "check_doubly_stochastic", "churn", "column_stochastic", "complete", "directed_exponential",
    "directed_ring", "draw", "exponential", "failing", "from_edges", "from_networkx", "matchings", "mixing_matrix",
    "one_peer_exponential", "random_regular", "ring", "rounds_to", "second_eigenvalue", "small_world", "spectral_gap", "star",
    "torus",
]  # fmt: skip

Weights = Literal["metropolis", "lazy"]
Working = tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]

DENSE = 1_500  # nodes up to which all eigenvalues take less than half a second
DRAWN = 200  # nodes that a figure can show


def mixing_matrix(topology: Topology, weights: Weights = "metropolis") -> sparse.csr_array:
    """W (K, K) float64, symmetric and doubly stochastic: how much node i takes of what it hears from j.

    "metropolis": W[i, j] = 1 / (1 + max(d_i, d_j)) for linked nodes of d_i and d_j neighbours, which a pair can settle alone
    (Xiao, Boyd & Kim 2007, J. Parallel Distrib. Comput. 67). "lazy": W[i, j] = 1 / (2 max d), so that each keeps at least half.
    In both W[i, i] is what remains. Raises ValueError for directed topologies and other weights.
    """
    if topology.directed:
        raise ValueError(
            f"{topology.name} is directed, so listening alone would move the average; use push-sum, column_stochastic"
        )
    a, b = topology.edges.T
    degrees = topology.degrees
    if weights == "metropolis":
        shares = 1 / (1 + np.maximum(degrees[a], degrees[b]))
    elif weights == "lazy":
        shares = np.full(len(a), 1 / (2 * max(1, degrees.max())))
    else:
        raise ValueError(f'weights={weights!r}: expected "metropolis" or "lazy"')
    W = sparse.csr_array((np.tile(shares, 2), (np.concatenate([a, b]), np.concatenate([b, a]))), shape=(topology.nodes,) * 2)
    W = sparse.csr_array(W + sparse.diags_array(1 - W.sum(axis=1)))
    check_doubly_stochastic(W)
    return W


def check_doubly_stochastic(W: Any, tolerance: float = 1e-9) -> None:
    """Nothing where W (K, K), dense or sparse, has no negative entry and rows and columns that sum to 1 within `tolerance`.

    Else raises ValueError that names the worst entry, row or column, and says what to do.
    """
    matrix = _square(W)
    if matrix.data.min(initial=0) < -tolerance:
        worst = matrix.tocoo()
        at = worst.data.argmin()
        raise ValueError(f"W[{worst.row[at]}, {worst.col[at]}] = {worst.data[at]:.6g}: weights must not be negative")
    sums = {"row": matrix.sum(axis=1), "column": matrix.sum(axis=0)}
    wrong = {kind: int(abs(found - 1).argmax()) for kind, found in sums.items() if (abs(found - 1) > tolerance).any()}
    if not wrong:
        return
    found = " and ".join(f"{kind} {at} sums to {sums[kind][at]:.9g}" for kind, at in wrong.items())
    if list(wrong) == ["column"]:
        found = f"W is row-stochastic only, {found}, so the average over the nodes moves"
    raise ValueError(
        f"{found}, expected 1; use Metropolis weights (mixing_matrix), or push-sum with column_stochastic(topology)"
    )


def column_stochastic(topology: Topology) -> sparse.csr_array:
    """C (K, K) float64 for push-sum: C[i, j] is the share of its mass that j gives to i, equal for i = j and all who hear j.

    Columns sum to 1, rows need not. Kempe, Dobra & Gehrke 2003, FOCS. Raises ValueError for what is no Topology.
    """
    if not isinstance(topology, Topology):
        raise ValueError(f"expected a Topology, got {type(topology).__name__}; from_edges and from_networkx make one")
    shared = topology.adjacency() + sparse.eye_array(topology.nodes)
    return sparse.csr_array(shared @ sparse.diags_array(1 / shared.sum(axis=0)))


def second_eigenvalue(W: Any) -> float:
    """The second largest absolute eigenvalue of W (K, K), symmetric and doubly stochastic: the error's worst factor per round.

    Raises ValueError where W is not symmetric or not doubly stochastic.
    """
    check_doubly_stochastic(W)
    matrix = _square(W)
    nodes = matrix.shape[0]
    if abs(matrix - matrix.T).max() > 1e-9:
        raise ValueError("W is not symmetric, so its eigenvalues do not bound the error; measure the rounds by simulation")
    if nodes <= DENSE:  # less 1 / K everywhere: the eigenvalue 1, of the average, becomes 0
        found = abs(np.linalg.eigvalsh(matrix.toarray() - 1 / nodes)).max()
    else:
        deflated = LinearOperator(matrix.shape, matvec=lambda x: matrix @ x - x.mean(), dtype=np.float64)
        start = np.random.default_rng(0).standard_normal(nodes)  # seeded, for equal results
        found = abs(eigsh(deflated, k=1, v0=start, ncv=100, return_eigenvectors=False)[0])
    return min(1.0, float(found))


def spectral_gap(W: Any) -> float:
    """1 - `second_eigenvalue(W)`: 0 where nodes never agree, 1 where one round suffices. Raises ValueError as it does."""
    return 1 - second_eigenvalue(W)


def rounds_to(W: Any, error: float = 1e-3) -> int:
    """Rounds of W (K, K) until any initial distance from the average is at most `error` of what it was.

    That is the least t with second_eigenvalue(W) ** t <= error. Raises ValueError unless 0 < error < 1, where the nodes never
    agree, and as `second_eigenvalue` does.
    """
    if not 0 < error < 1:
        raise ValueError(f"error={error}: expected a share of the initial error between 0 and 1, such as 1e-3")
    factor = second_eigenvalue(W)
    parts = sparse.csgraph.connected_components(_square(W) > 0, directed=False)[0]
    if parts > 1:
        raise ValueError(f"W leaves the nodes in {parts} parts that never hear of each other; connect the topology")
    if factor >= 1 - 1e-12:
        raise ValueError('W has the eigenvalue -1, so values swap for ever; use weights="lazy" or "metropolis"')
    if factor <= error:
        return 1
    return math.ceil(math.log(error) / math.log(factor) - 1e-9)  # less a trifle, so that rounding adds no round


def every_round(source: Any, nodes: int, *, directed: bool = False) -> Iterator[sparse.csr_array]:
    """A checked mixing matrix (K, K) for each round: of a `Topology`, of one matrix for all rounds, or of an iterable of them.

    Doubly stochastic, or column stochastic for push-sum where `directed`. Raises ValueError for another number of nodes, for
    a topology that is not connected, and for matrices that are neither.
    """
    if isinstance(source, Topology):
        if source.nodes != nodes:
            raise ValueError(f"the topology has {source.nodes} nodes and there are {nodes} clients; give one node a client")
        if not source.is_connected:
            raise ValueError(
                f"the topology {source.name} falls into {source.components()[0]} parts, which can never agree; connect them, "
                "or give an iterable of mixing matrices where links come and go"
            )
        return repeat(column_stochastic(source) if directed else mixing_matrix(source))
    if sparse.issparse(source) or isinstance(source, np.ndarray):
        return repeat(_fits(source, nodes, directed))
    if not hasattr(source, "__iter__") or hasattr(source, "nodes") or isinstance(source, str):
        raise ValueError(f"{source!r} is no topology; networkx graphs go through from_networkx, names through TOPOLOGIES")
    return (_fits(W, nodes, directed) for W in source)


def _fits(W: Any, nodes: int, directed: bool) -> sparse.csr_array:
    W = sparse.csr_array(W, copy=True)
    W.eliminate_zeros()  # a weight of 0 is no link
    if W.shape != (nodes, nodes):
        raise ValueError(f"a mixing matrix has the shape {W.shape}, and there are {nodes} clients")
    if not directed:
        check_doubly_stochastic(W)
    elif abs(W.sum(axis=0) - 1).max() > 1e-9 or W.data.min() < 0:
        raise ValueError("push-sum needs columns that sum to 1 without negative entries; take topology.column_stochastic")
    return W


def matchings(nodes: int, seed: Seed) -> Iterator[sparse.csr_array]:
    """W (K, K) for each of endless rounds: all nodes in random pairs that average, one node idle where K is odd.

    Boyd et al. 2006, IEEE Trans. Inf. Theory 52, let one pair meet at a time. Raises ValueError for fewer than one node.
    """
    nodes, rng = whole(nodes, "nodes"), np.random.default_rng(seed)
    paired = (rng.permutation(nodes)[: nodes - nodes % 2].reshape(-1, 2) for _ in count())
    return (mixing_matrix(Topology("matching", nodes, pairs)) for pairs in paired)


def one_peer_exponential(nodes: int) -> Iterator[sparse.csr_array]:
    """W (K, K) for each of endless rounds t: i averages with what it hears from i + 2^t, modulo K, t modulo log2 K rounded up.

    Doubly stochastic, not symmetric; where K is a power of two, log2 K rounds give the exact average. Ying et al. 2021, arXiv
    2110.13363. Raises ValueError for fewer than one node.
    """
    steps, own = powers(nodes) or [0], np.arange(nodes)
    halves, place = np.full(2 * nodes, 0.5), np.tile(own, 2)
    return (
        sparse.csr_array((halves, (place, np.concatenate([own, (own + steps[t % len(steps)]) % nodes]))), shape=(nodes, nodes))
        for t in count()
    )


def failing(topology: Topology, link: float = 0.1, node: float = 0.0, *, seed: Seed) -> Iterator[sparse.csr_array]:
    """Metropolis weights W (K, K) of what works in each of endless rounds.

    In a round each link fails with chance `link` and each node, with all its links, with chance `node`. A node without a link
    keeps its value. Raises ValueError for chances outside 0 to 1 and for directed topologies.
    """
    check_chance(link, "link")
    check_chance(node, "node")
    rng = np.random.default_rng(seed)
    works = ((rng.random(len(topology.edges)) >= link, rng.random(topology.nodes) >= node) for _ in count())
    return _at_work(topology, works)


def churn(topology: Topology, leave: float = 0.05, join: float = 0.5, *, seed: Seed) -> Iterator[sparse.csr_array]:
    """Metropolis weights W (K, K) among the nodes present in each of endless rounds; the others keep their value.

    All are present at first; before each round a node that is present leaves with chance `leave`, and one that is not returns
    with chance `join`. Raises ValueError for chances outside 0 to 1 and for directed topologies.
    """
    check_chance(leave, "leave")
    check_chance(join, "join")
    rng = np.random.default_rng(seed)

    def rounds() -> Iterator[Working]:
        up, every = np.ones(topology.nodes, dtype=bool), np.ones(len(topology.edges), dtype=bool)
        while True:
            chance = rng.random(topology.nodes)
            up = np.where(up, chance >= leave, chance < join)
            yield every, up

    return _at_work(topology, rounds())


def draw(topology: Topology, values: npt.ArrayLike | None = None, ax: "Axes | None" = None) -> "Figure":
    """The figure of a topology: a torus on its grid, a star around its hub, others on a circle; arrows where directed.

    `values` (K,) colour the nodes, with a scale beside them. Give the figure its alternative text with `fliot_lab.plots.show`.
    Raises ValueError above 200 nodes, and for other than one finite value per node.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    from fliot_lab import plots

    if topology.nodes > DRAWN:
        raise ValueError(f"{topology.nodes} nodes are too many to tell apart in a figure; draw {DRAWN} or fewer")
    shades = None if values is None else np.asarray(values, dtype=np.float64)
    if shades is not None and (shades.shape != (topology.nodes,) or not np.isfinite(shades).all()):
        raise ValueError(f"values {shades.shape} must be one finite number per node, ({topology.nodes},)")
    axes = Figure(figsize=(plots.WIDTH, 0.7 * plots.WIDTH), layout="constrained").subplots() if ax is None else ax
    places, lines = _drawn(topology)
    if topology.directed:
        (x, y), (dx, dy) = lines[:, 0].T, 0.94 * (lines[:, 1] - lines[:, 0]).T  # so that the heads lie beside the nodes
        axes.quiver(x, y, dx, dy, angles="xy", scale_units="xy", scale=1, width=0.003, headwidth=5, color="0.5")
    else:
        axes.add_collection(LineCollection(list(lines), colors="0.6", linewidths=0.8, zorder=1))
    look: dict[str, Any] = {"color": plots.NEUTRAL} if shades is None else {"c": shades, "cmap": "cividis"}
    dots = axes.scatter(
        places[:, 0], places[:, 1], s=min(160, 12_000 / topology.nodes), edgecolors="black", linewidths=0.5, zorder=2, **look
    )
    if shades is not None:
        axes.figure.colorbar(dots, ax=axes, label="value")
    axes.set_title(f"{topology.name}, {topology.nodes} nodes, {len(topology.edges)} links", fontsize=11)
    axes.set_aspect("equal")
    axes.margins(0.08)
    axes.axis("off")
    return axes.figure  # type: ignore[return-value]


def _drawn(topology: Topology) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Place (K, 2) of each node and lines (L, 2, 2); what closes a torus leaves the grid on both sides, half a step long."""
    a, b = topology.edges.T
    if topology.name == "torus":
        row, column = np.divmod(np.arange(topology.nodes), topology.nodes // rows(topology.nodes))
        places = np.stack([column, -row], axis=1).astype(np.float64)
        step = places[b] - places[a]
        around = abs(step).max(axis=1) > 1.5
        out = 0.5 * np.sign(step[around])
        stubs = [np.stack([places[end], places[end] + out * side], axis=1) for end, side in ((a[around], -1), (b[around], 1))]
        return places, np.concatenate([np.stack([places[a], places[b]], axis=1)[~around], *stubs])
    hub = topology.name == "star"
    angles = np.pi / 2 - 2 * np.pi * np.arange(topology.nodes) / max(1, topology.nodes - hub)
    places = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    places[: int(hub)] = 0
    return places, np.stack([places[a], places[b]], axis=1)


def _at_work(topology: Topology, works: Iterator[Working]) -> Iterator[sparse.csr_array]:
    """Metropolis weights of the links that work between nodes that are up, for each (links (E,), nodes (K,)) of `works`."""
    mixing_matrix(topology)  # a directed topology is refused at once, not in the first round
    a, b = topology.edges.T
    return (mixing_matrix(topology.only(links & up[a] & up[b])) for links, up in works)


def _square(W: Any) -> sparse.csr_array:
    """W as a CSR array (K, K) float64; raises ValueError for other shapes, and for NaN and infinity."""
    matrix = sparse.csr_array(W if sparse.issparse(W) else np.asarray(W), dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.shape[0]:
        raise ValueError(f"W must be square, one row and one column per node, (K, K), got shape {matrix.shape}")
    bad = matrix.tocoo()
    at = np.flatnonzero(~np.isfinite(bad.data))
    if at.size:
        raise ValueError(f"W[{bad.row[at[0]]}, {bad.col[at[0]]}] = {bad.data[at[0]]}: weights must be finite numbers")
    return matrix
