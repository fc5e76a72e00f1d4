"""Rounds worked out by hand: who paired with whom, what each then holds, and what is counted and said of it."""

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fliot_lab.federation import topology
from fliot_lab.federation.exchange import Gossip, PushSum, ServerAdam
from fliot_lab.federation.simulation import Federation
from fliot_lab.models.batched import SGD, Clients, load, vector

RATE = 0.3
RANDOM = np.random.default_rng(31)
TEST = RANDOM.standard_normal((37, 3)).astype(np.float32), RANDOM.integers(0, 3, 37)


def model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(8)
        return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 3))


P = len(vector(model()))


def clients(K: int) -> Clients:
    """K clients of 12 rows, less than a batch: a round of training is one step."""
    random = np.random.default_rng(K)
    return Clients.of(random.standard_normal((12 * K, 3)), random.integers(0, 3, 12 * K), np.split(np.arange(12 * K), K))


def federation(K: int, graph: topology.Topology | None = None, **options) -> Federation:
    return Federation(model(), clients(K), graph, **({"seed": 2, "local": SGD(learning_rate=RATE)} | options))


def one_step(start: Tensor, client: int, K: int) -> Tensor:
    """What one step on all rows of a client adds to the parameters `start` (P,), by torch's own gradient."""
    module = model()
    load(module, start)
    X, y = clients(K).rows(client)
    nn.functional.cross_entropy(module(X), y).backward()
    return -RATE * torch.cat([parameter.grad.flatten() for parameter in module.parameters()])


def messages(made: Federation) -> dict[tuple[int, int], int]:
    """Bytes by (sender, receiver) of all rounds so far."""
    return {(sender, receiver): size for sender, receiver, size in made.traffic().itertuples(index=False) if size}


def couples(before: dict[tuple[int, int], int], after: dict[tuple[int, int], int]) -> list[tuple[int, int]]:
    """The pairs of nodes that both told each other their parameters once, in between."""
    new = {link: size - before.get(link, 0) for link, size in after.items() if size > before.get(link, 0)}
    assert set(new.values()) <= {4 * P}
    assert all((j, i) in new for i, j in new)
    return [(i, j) for i, j in new if i < j]


# --- who told whom --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("links", [[(i, (i + 1) % 5) for i in range(5)], [(0, 1), (1, 2), (2, 0), (0, 3), (3, 4), (4, 0)]])
def test_push_sum_sends_along_the_arrows_alone(links: list[tuple[int, int]]) -> None:
    """Parameters of 4 bytes, and one weight of 8."""
    made = federation(5, topology.from_edges(links, directed=True), exchange=PushSum())
    history = made.run(3)
    assert messages(made) == dict.fromkeys(links, 3 * (4 * P + 8))
    assert history["bytes"].to_list() == [len(links) * (4 * P + 8)] * 3


def test_a_directed_ring_sends_to_the_next() -> None:
    made = federation(4, topology.directed_ring(4), exchange=PushSum())
    made.run(1)
    assert set(messages(made)) == {(0, 1), (1, 2), (2, 3), (3, 0)}


class Watched(Gossip):
    """Gossip that keeps the mixing matrices it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[np.ndarray] = []

    def __call__(self, parameters, W):
        self.seen.append(W.toarray())
        return super().__call__(parameters, W)


def drawn_couples(graph: topology.Topology, rounds: int, **options) -> list[list[tuple[int, int]]]:
    """Who averaged with whom in each round of asynchronous gossip without training."""
    made = federation(graph.nodes, graph, asynchronous=True, local=None, exchange=Watched(), **options)
    history = made.run(rounds)
    found = []
    for W in made.exchange.seen:
        found.append([(i, j) for i, j in combinations(range(graph.nodes), 2) if W[i, j]])
        expected = np.eye(graph.nodes)
        for i, j in found[-1]:
            expected[[i, i, j, j], [i, j, i, j]] = 0.5
        assert np.allclose(W, expected)
        assert len({i for pair in found[-1] for i in pair}) == 2 * len(found[-1]), "a node averages once"
    assert history["bytes"].to_list() == [2 * len(pairs) * 4 * P for pairs in found]
    return found


def test_on_a_complete_graph_all_find_a_partner_and_every_couple_is_as_likely() -> None:
    """Of 6 nodes 3 couples a round; each of the 15 couples is there in a fifth of the rounds."""
    found = drawn_couples(topology.complete(6), 400)
    assert {len(pairs) for pairs in found} == {3}
    counts = [sum(pair in pairs for pairs in found) for pair in combinations(range(6), 2)]
    assert min(counts) > 80 - 4 * 8  # four standard deviations
    assert max(counts) < 80 + 4 * 8


def test_on_a_path_any_node_may_ask_first() -> None:
    """Nodes 1 and 2 pair where one of them is first and draws the other, in a quarter of the rounds; 0 and 3 then idle."""
    found = drawn_couples(topology.from_edges([(0, 1), (1, 2), (2, 3)]), 200)
    middle = [pairs for pairs in found if pairs == [(1, 2)]]
    assert 50 - 4 * 6.1 < len(middle) < 50 + 4 * 6.1  # four standard deviations
    assert all(pairs == [(0, 1), (2, 3)] for pairs in found if pairs not in middle)


def test_only_who_is_done_looks_for_a_partner() -> None:
    """Node 0 in every round, and in every fourth the others, who are then done together."""
    found = drawn_couples(topology.complete(6), 12, slowness=[1, 4, 4, 4, 4, 4])
    assert [len(pairs) for pairs in found] == [1, 1, 1, 3] * 3
    assert all(pairs[0][0] == 0 for pairs in found)
    assert len({pairs[0] for pairs in found}) > 2


# --- what they then hold --------------------------------------------------------------------------------------------------


def test_two_rounds_of_asynchronous_gossip_by_hand() -> None:
    """Node 2 takes two rounds, in which it may be averaged with; what it learnt meanwhile is added in the second."""
    K, made = 4, federation(4, topology.ring(4), asynchronous=True, slowness=[1, 1, 2, 1])
    start = vector(model())
    nodes = [start.clone() for _ in range(K)]
    slow, before = one_step(start, 2, K), {}
    for done in ([0, 1, 3], [0, 1, 2, 3]):
        history = made.run(1)
        for i in done:
            nodes[i] = nodes[i] + (slow if i == 2 else one_step(nodes[i], i, K))
        pairs, before = couples(before, messages(made)), messages(made)
        assert pairs
        for i, j in pairs:
            nodes[i] = nodes[j] = (nodes[i] + nodes[j]) / 2
        assert torch.allclose(made.parameters, torch.stack(nodes), atol=1e-6)
        assert history["trained"].iloc[-1] == len(done)
        assert history["time"].iloc[-1] == len(history)
    assert slow.abs().max() > 1e-3


def test_two_rounds_of_gossip_by_hand() -> None:
    """Each node takes a step, then the mean of itself and its two neighbours."""
    K, made = 5, federation(5, topology.ring(5))
    nodes = [vector(model()) for _ in range(K)]
    for _ in range(2):
        history = made.run(1)
        moved = [node + one_step(node, i, K) for i, node in enumerate(nodes)]
        nodes = [(moved[i - 1] + moved[i] + moved[(i + 1) % K]) / 3 for i in range(K)]
        assert torch.allclose(made.parameters, torch.stack(nodes), atol=1e-6)
    mean = sum(nodes) / K
    apart = (sum(float((node - mean).square().sum()) for node in nodes) / K) ** 0.5
    assert history["consensus"].iloc[-1] == pytest.approx(apart, rel=1e-4)


def test_two_rounds_of_push_sum_by_hand() -> None:
    """Each node hands out its sum and its weight in even shares; a step is added to the sum."""
    K, links = 5, [(0, 1), (1, 2), (2, 0), (0, 3), (3, 4), (4, 0)]
    made = federation(K, topology.from_edges(links, directed=True), exchange=PushSum())
    sums, weights = [vector(model()).double() for _ in range(K)], [1.0] * K
    for _ in range(2):
        made.run(1)
        sums = [
            total + one_step((total / weight).float(), i, K)
            for i, (total, weight) in enumerate(zip(sums, weights, strict=True))
        ]
        new, new_weights = [torch.zeros_like(total) for total in sums], [0.0] * K
        for i in range(K):
            hearers = [i, *(j for sender, j in links if sender == i)]
            for j in hearers:
                new[j] += sums[i] / len(hearers)
                new_weights[j] += weights[i] / len(hearers)
        sums, weights = new, new_weights
        expected = torch.stack([total / weight for total, weight in zip(sums, weights, strict=True)])
        assert torch.allclose(made.parameters.double(), expected, atol=1e-5)
    assert max(weights) > 1.2


def test_two_rounds_of_fedadam_by_hand() -> None:
    """Algorithm 2 of Reddi et al. 2021, with v at the square of tau to begin with."""
    K, (eta, beta1, beta2, tau) = 3, (0.05, 0.8, 0.95, 0.01)
    made = federation(K, server=ServerAdam(eta, beta1, beta2, tau))
    x = vector(model()).double().numpy()
    m, v = np.zeros(P), np.full(P, tau**2)
    for _ in range(2):
        made.run(1)
        delta = sum(one_step(torch.from_numpy(x).float(), i, K).double().numpy() for i in range(K)) / K
        for p in range(P):
            m[p] = beta1 * m[p] + (1 - beta1) * delta[p]
            v[p] = beta2 * v[p] + (1 - beta2) * delta[p] ** 2
            x[p] = x[p] + eta * m[p] / (v[p] ** 0.5 + tau)
        assert np.allclose(made.average().numpy(), x, atol=1e-5)


# --- what is said of it ---------------------------------------------------------------------------------------------------


def judged(module: nn.Module) -> tuple[float, float]:
    """(loss, accuracy) on the test rows, row by row: the mean of -log of what softmax gives the right class, and of hits."""
    losses, hits = [], []
    for row, right in zip(*TEST, strict=True):
        with torch.no_grad():
            answers = module(torch.from_numpy(row)).double().numpy()
        losses.append(np.log(np.exp(answers).sum()) - answers[right])
        hits.append(answers.argmax() == right)
    return float(np.mean(losses)), float(np.mean(hits))


def test_loss_and_accuracy_are_means_over_the_test_rows() -> None:
    made = federation(4, test=TEST)
    for _ in range(2):
        last = made.run(1).iloc[-1]
        loss, accuracy = judged(made.fitted())
        assert last["loss"] == pytest.approx(loss, rel=1e-4)
        assert last["accuracy"] == pytest.approx(accuracy, abs=1e-6)


@pytest.mark.parametrize(("limit", "nodes"), [(100, range(7)), (3, [0, 3, 6])])
def test_among_neighbours_they_are_means_over_the_judged_nodes(limit: int, nodes: list[int]) -> None:
    made = federation(7, topology.ring(7), test=TEST, judged=limit)
    last = made.run(2).iloc[-1]
    by_node = [judged(made.fitted(i)) for i in nodes]
    assert last["loss"] == pytest.approx(np.mean([loss for loss, _ in by_node]), rel=1e-4)
    assert last["accuracy"] == pytest.approx(np.mean([accuracy for _, accuracy in by_node]), abs=1e-6)


def test_trained_is_how_many_trained() -> None:
    assert federation(5, topology.ring(5)).run(2)["trained"].to_list() == [5, 5]
    assert federation(5, topology.ring(5), local=None).run(1)["trained"].to_list() == [0]
    assert federation(5).run(2)["trained"].to_list() == [5, 5]
    assert federation(5, sampled=0.4).run(2)["trained"].to_list() == [2, 2]
    slow = federation(5, topology.ring(5), asynchronous=True, slowness=[1, 1, 2, 2, 3])
    assert slow.run(6)["trained"].to_list() == [2, 4, 3, 4, 2, 5]
