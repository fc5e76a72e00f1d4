"""The simulator: its rounds are those of the published methods, and nothing but updates leaves a client."""

import itertools
import multiprocessing
import os
import signal
import threading
import time

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from torch import Tensor, nn

from fliot_lab.aggregation import rules
from fliot_lab.federation import checkpoint, topology
from fliot_lab.federation.exchange import (
    Compressed,
    Gossip,
    Neighbourhood,
    PushSum,
    ServerAdam,
    Upload,
    matrix,
    mix,
    size_of,
    top_k,
    when_changed,
)
from fliot_lab.federation.simulation import Federation, consensus
from fliot_lab.models.batched import SGD, Clients, load, squared_error, train, vector

K = 8
CENTRES = np.random.default_rng(9).standard_normal((3, 4)) * 2


def rows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """X (n, 4) around one of three centres, and which one, y (n,)."""
    random = np.random.default_rng(seed)
    y = random.integers(0, 3, n)
    return random.standard_normal((n, 4)) + CENTRES[y], y


X, Y = rows(40 * K, 0)
TEST = rows(200, 1)
EVEN = np.split(np.arange(len(X)), K)
CLIENTS = Clients.of(X, Y, EVEN)


def classifier() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


def federation(graph=None, clients: Clients = CLIENTS, model: nn.Module | None = None, **options) -> Federation:
    return Federation(
        model or classifier(), clients, graph, **({"seed": 5, "test": TEST, "local": SGD(learning_rate=0.2)} | options)
    )


def scattered(graph, P: int = 5, **options) -> Federation:
    """Nodes that hold random numbers and only exchange."""
    made = federation(graph, local=None, test=None, **options)
    made.parameters = torch.randn(K, P, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return made


# --- exchanges alone ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("P", [1, 95, 96, 97, 200])
def test_mixing_is_a_product_of_matrices(P: int) -> None:
    W = topology.mixing_matrix(topology.random_regular(30, 4, 0))
    before = torch.randn(30, P, generator=torch.Generator().manual_seed(P))
    assert np.allclose(mix(before.clone(), W), W @ before.numpy(), atol=1e-6)


def test_gossip_contracts_at_the_rate_of_the_second_eigenvalue() -> None:
    for graph in (
        topology.ring(K),
        topology.star(K),
        topology.torus(K),
        topology.exponential(K),
        topology.small_world(K, 4, 0.3, 1),
    ):
        nodes = scattered(graph)
        mean, first = nodes.average(), consensus(nodes.parameters)
        factor = topology.second_eigenvalue(topology.mixing_matrix(graph))
        history = nodes.run(60)["consensus"].to_numpy()
        allowed = first * factor ** np.arange(1, 61)
        assert (history <= allowed * (1 + 1e-6) + 1e-13).all(), graph.name
        late = history[:40][history[:40] > 1e-9]
        assert late[-1] / late[-2] == pytest.approx(factor, abs=1e-3), graph.name
        assert torch.allclose(nodes.average(), mean, atol=1e-13, rtol=0)


def test_one_peer_at_a_time_is_exact_after_three_rounds() -> None:
    nodes = scattered(topology.one_peer_exponential(K))
    assert nodes.run(2)["consensus"].iloc[-1] > 1e-3
    assert nodes.run(1)["consensus"].iloc[-1] < 1e-14


def test_push_sum_finds_the_mean_where_gossip_would_not() -> None:
    graph = topology.from_edges([(0, 1), (1, 2), (2, 0), (0, 3), (3, 4), (4, 5), (5, 6), (6, 7), (7, 0)], directed=True)
    nodes = scattered(graph, exchange=PushSum())
    mean = nodes.average()
    nodes.run(300)
    assert torch.allclose(nodes.parameters, mean.expand(K, -1), atol=1e-10)
    with pytest.raises(ValueError, match="directed"):
        scattered(graph, exchange=Gossip())


def test_push_sum_trains_as_gossip_does_where_both_can() -> None:
    """On a regular graph its weights stay 1, and Metropolis weights are the even shares that push-sum sends."""
    pushed, gossiped = federation(topology.ring(K), exchange=PushSum()), federation(topology.ring(K))
    pushed.run(4), gossiped.run(4)
    assert torch.allclose(pushed.parameters, gossiped.parameters, atol=1e-5)


def test_a_compressor_keeps_the_largest_values() -> None:
    given = torch.tensor([[3.0, -5.0, 1.0, 0.5], [0.0, 0.0, 0.0, 2.0]])
    assert top_k(0.5)(given).tolist() == [[3, -5, 0, 0], [0, 0, 0, 2]]
    assert size_of(top_k(0.25)(given)).tolist() == [8, 8]
    assert size_of(given).tolist() == [16, 8]  # four values, or one with its place
    assert when_changed(2.5)(given).tolist() == [given[0].tolist(), [0, 0, 0, 0]]
    assert when_changed(0)(torch.zeros(1, 3)).tolist() == [[0, 0, 0]]


def test_compressed_gossip_finds_the_mean_with_fewer_bytes() -> None:
    plain, small = scattered(topology.ring(K), P=40), scattered(topology.ring(K), P=40, exchange=Compressed(top_k(0.2), 0.2))
    mean = plain.average()
    cost = [part.run(400)["bytes"].sum() for part in (plain, small)]
    for part in (plain, small):
        assert torch.allclose(part.parameters, mean.expand(K, -1), atol=1e-6)
    assert cost[1] == pytest.approx(0.3 * cost[0], rel=0.01)  # a fifth of the values, 8 bytes each, with their places


def test_who_has_hardly_changed_keeps_silent() -> None:
    nodes = scattered(topology.complete(K), exchange=Compressed(when_changed(1e-3)))
    mean = nodes.average()
    history = nodes.run(20)
    assert history["bytes"].iloc[0] > 0 == history["bytes"].iloc[-1]
    assert torch.allclose(nodes.parameters, mean.expand(K, -1), atol=1e-2)
    assert torch.allclose(nodes.average(), mean, atol=1e-12)


def test_error_feedback_gets_where_plain_top_k_does_not() -> None:
    """Two clients that pull hardest on what they disagree about: all they ever send cancels out."""
    rows_ = np.array([[1.0, 0.0], [0.0, 1.0]] * 2)
    clients = Clients.of(rows_, np.array([[3.0], [1.0], [-3.0], [1.0]]), [[0, 1], [2, 3]])
    found = {}
    for feedback in (True, False):
        line = nn.Linear(2, 1, bias=False)
        load(line, torch.zeros(2))
        made = Federation(
            line, clients, seed=1, loss=squared_error, local=SGD(learning_rate=0.05), exchange=Upload(top_k(0.5), feedback)
        )
        made.run(200)
        found[feedback] = made.average()
    assert found[False].tolist() == pytest.approx([0, 0], abs=1e-6)
    assert found[True].tolist() == pytest.approx([0, 1], abs=0.2)


def test_a_neighbourhood_applies_any_rule_to_whom_it_hears() -> None:
    before = torch.arange(15.0).reshape(5, 3) ** 2
    after = before.clone()
    told = []

    def own_last(updates: Tensor, weights: None, *, own: int) -> Tensor:
        told.append(own)
        return updates.median(0).values

    Neighbourhood(own_last)(after, topology.mixing_matrix(topology.ring(5)))
    expected = [torch.stack([before[(i + j) % 5] for j in (-1, 0, 1)]).median(0).values for i in range(5)]
    assert torch.equal(after, torch.stack(expected))
    assert told == [0, 1, 1, 1, 2]  # the places of 0 in (0, 1, 4), of 1 in (0, 1, 2), ...


def test_a_neighbourhoods_mean_is_even_gossip() -> None:
    """The mean of a node and its two neighbours, each a third: a ring's Metropolis weights."""
    one, other = scattered(topology.ring(K)), scattered(topology.ring(K), exchange=Neighbourhood(rules.mean))
    one.run(3), other.run(3)
    assert torch.allclose(one.parameters, other.parameters, atol=1e-12)


def test_the_server_adam_is_the_papers() -> None:
    made, m, v, x = ServerAdam(0.1, 0.9, 0.99, 1e-3), 0.0, 1e-6, 0.0
    for update in (0.5, -0.2, 0.3):
        m, v = 0.9 * m + 0.1 * update, 0.99 * v + 0.01 * update**2
        x += 0.1 * m / (v**0.5 + 1e-3)
    total = sum(made(torch.tensor([update], dtype=torch.float64)) for update in (0.5, -0.2, 0.3))
    assert total.item() == pytest.approx(x, rel=1e-9)


# --- rounds -------------------------------------------------------------------------------------------------------------


def test_a_round_with_a_server_is_fedavg() -> None:
    uneven = Clients.of(X, Y, [EVEN[0], np.concatenate(EVEN[1:4])])
    made = federation(clients=uneven)
    before, seen = made.average(), []
    made.rule = lambda updates, weights: seen.append((updates, weights)) or rules.mean(updates, weights)
    made.run(1)
    (updates, weights) = seen[0]
    assert weights.tolist() == [40, 120]
    assert torch.allclose(made.average(), before + (updates[0] + 3 * updates[1]) / 4, atol=1e-6)
    seeds = [np.random.default_rng([5, 0, 1]).integers(2**63)]
    trained = train(made.model, before.repeat(2, 1), uneven, SGD(learning_rate=0.2), seed=int(seeds[0]))
    assert torch.allclose(before + updates, trained, atol=1e-6)


def test_without_a_server_on_a_complete_graph_it_is_fedavg_too() -> None:
    alone, served = federation(topology.complete(K)), federation()
    histories = alone.run(6), served.run(6)
    assert torch.allclose(alone.parameters, served.average().expand(K, -1), atol=1e-5)
    assert histories[0]["accuracy"].to_list() == pytest.approx(histories[1]["accuracy"].to_list(), abs=0.006)
    assert histories[0]["consensus"].max() < 1e-6
    assert histories[0]["loss"].iloc[-1] < 0.7 * histories[0]["loss"].iloc[0]


def test_all_learn_together_what_none_could_alone() -> None:
    """Each client holds one class: whoever learns alone knows no other."""
    skewed = Clients.of(X, Y, [np.flatnonzero(k == Y) for k in range(3)])
    together = federation(topology.ring(3), skewed, local=SGD(epochs=1, learning_rate=0.02)).run(60)
    alone = federation(topology.from_edges([(0, 1), (1, 2)]), skewed, exchange=Silence()).run(60)
    assert together["accuracy"].iloc[-1] > 0.85
    assert alone["accuracy"].iloc[-1] < 0.5


class Silence(Gossip):
    """Nobody says anything."""

    def __call__(self, parameters, W):
        return np.zeros(len(parameters), dtype=np.int64)


@pytest.mark.parametrize("options", [{}, {"graph": topology.ring(K)}, {"sampled": 0.5, "dropped": 0.3}], ids=str)
def test_equal_seeds_give_equal_rounds(options: dict) -> None:
    graph = options.get("graph")
    rest = {name: value for name, value in options.items() if name != "graph"}
    first, again, other = (federation(graph, **rest, **seed) for seed in ({}, {}, {"seed": 6}))
    for made in (first, again, other):
        made.run(3)
    assert torch.equal(first.average(), again.average())
    assert not torch.allclose(first.average(), other.average())
    pd.testing.assert_frame_equal(first.history.drop(columns="seconds"), again.history.drop(columns="seconds"))


def test_a_server_asks_some_and_hears_fewer() -> None:
    made = federation(sampled=0.5, dropped=0.5)
    P, history = len(made.average()), made.run(40)
    assert 0 < history["trained"].mean() < 4
    assert history["bytes"].to_list() == [4 * P * (4 + trained) for trained in history["trained"]]  # down to four, up from some
    links = made.traffic()
    assert links["bytes"].sum() == history["bytes"].sum()
    assert set(links["sender"]) | set(links["receiver"]) == {*range(K), "server"}


def test_bytes_are_counted_for_every_link() -> None:
    made = federation(topology.star(K))
    P, history = len(made.average()), made.run(3)
    links = made.traffic()
    assert history["bytes"].to_list() == [2 * (K - 1) * 4 * P] * 3
    assert len(links) == 2 * (K - 1)
    assert (links["bytes"] == 3 * 4 * P).all()
    assert all(0 in pair for pair in zip(links["sender"], links["receiver"], strict=True))


def test_a_network_that_falls_apart_keeps_two_opinions_and_heals() -> None:
    halves = topology.from_edges([(0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4)])
    apart, whole = topology.mixing_matrix(halves), topology.mixing_matrix(topology.ring(K))
    nodes = scattered(itertools.chain([apart] * 100, itertools.repeat(whole)))
    means = nodes.parameters[:4].mean(0), nodes.parameters[4:].mean(0)
    nodes.run(100)
    for part, mean in zip((nodes.parameters[:4], nodes.parameters[4:]), means, strict=True):
        assert torch.allclose(part, mean.expand(4, -1), atol=1e-9)
    nodes.run(300)
    assert torch.allclose(nodes.parameters, ((means[0] + means[1]) / 2).expand(K, -1), atol=1e-9)
    with pytest.raises(ValueError, match="falls into 2 parts"):
        scattered(halves)


# --- slots --------------------------------------------------------------------------------------------------------------


def test_every_slot_takes_a_function() -> None:
    calls = []

    def opposite(honest: Tensor, attackers: int, generator: torch.Generator) -> Tensor:
        calls.append(("attack", honest.shape, attackers))
        return -honest.mean(0).expand(attackers, -1)

    def halved(updates: Tensor, generator: torch.Generator) -> Tensor:
        calls.append(("privacy", updates.shape, torch.rand(1, generator=generator).item()))
        return updates / 2

    plain, made = federation(), federation(attack=opposite, attackers=[1, 6], privacy=halved, rule=rules.median)
    P, before = len(made.average()), made.average()
    updates = []
    plain.rule = lambda given, weights: updates.append(given) or rules.mean(given, weights)
    plain.run(1), made.run(1)
    honest = updates[0][[0, 2, 3, 4, 5, 7]]
    all_of_them = updates[0].clone()
    all_of_them[[1, 6]] = -honest.mean(0)
    expected = np.median(all_of_them.numpy() / 2, axis=0)
    assert np.allclose((made.average() - before).numpy(), expected, atol=1e-6)
    assert [call[:2] for call in calls] == [("attack", (6, P)), ("privacy", (K, P))]
    gossip = federation(topology.ring(K), attack=opposite, attackers=[1], privacy=lambda updates, generator: 0 * updates)
    gossip.run(2)
    assert torch.allclose(gossip.parameters, before.expand(K, -1), atol=1e-6)  # nobody moves


def test_a_rule_resists_in_every_neighbourhood() -> None:
    def huge(honest: Tensor, attackers: int, generator: torch.Generator) -> Tensor:
        return torch.full((attackers, honest.shape[1]), 1e6)

    options = {"attack": huge, "attackers": [3]}
    weak, strong = (federation(topology.complete(K), rule=rule, **options) for rule in (rules.mean, rules.median))
    weak.run(1), strong.run(1)
    assert weak.parameters.abs().max() > 1e4
    assert strong.parameters.abs().max() < 100


# --- slow ones ----------------------------------------------------------------------------------------------------------


def test_synchronous_rounds_wait_for_the_slowest() -> None:
    slow = [1] * (K - 1) + [9]
    assert federation(slowness=slow).run(3)["time"].to_list() == [9, 18, 27]
    assert federation(topology.ring(K), slowness=slow).run(2)["time"].to_list() == [9, 18]


def test_where_all_are_fast_asynchronous_is_synchronous() -> None:
    one, other = federation(), federation(asynchronous=True)
    one.run(4), other.run(4)
    assert torch.allclose(one.average(), other.average(), atol=1e-7)


def test_a_late_update_counts_when_it_comes() -> None:
    made = federation(asynchronous=True, slowness=[1] * (K - 1) + [3])
    seen = []
    fresh = federation(sampled=1.0)  # its first round is that of the late one's, from the same parameters
    for one, kept in ((made, seen), (fresh, first := [])):
        one.rule = lambda updates, weights, kept=kept: kept.append((updates.clone(), weights)) or rules.mean(updates, weights)
    history = made.run(6)
    fresh.run(1)
    assert [len(weights) for _, weights in seen] == [7, 7, 8, 7, 7, 8]
    assert set(seen[2][1].tolist()) == {40}
    assert torch.allclose(seen[2][0][-1], first[0][0][-1] / 3**0.5)  # two rounds old: scaled, and not only against the others
    assert history["time"].to_list() == [1, 2, 3, 4, 5, 6]


def test_asynchronous_gossip_learns_and_each_average_is_of_two() -> None:
    made = federation(topology.complete(K), asynchronous=True, slowness=[1, 1, 1, 1, 2, 2, 3, 5])
    history = made.run(100)
    assert history["accuracy"].iloc[-1] > 0.9
    assert history["trained"].iloc[:2].to_list() == [4, 6]
    P = len(made.average())
    assert (history["bytes"] % (2 * 4 * P) == 0).all()
    assert history["bytes"].max() <= K * 4 * P


def test_a_schedule_moves_the_learning_rate() -> None:
    still = federation(schedule=lambda round_: 1.0 if round_ < 2 else 1e-9)
    still.run(2)
    before = still.average()
    still.run(2)
    assert torch.allclose(still.average(), before, atol=1e-6)


# --- what leaves a client -----------------------------------------------------------------------------------------------


def test_what_a_client_holds_travels_one_link_a_round() -> None:
    """Other rows in client 0 change nothing elsewhere before they could have got there, and only by its update."""
    other = X.copy()
    other[EVEN[0]] *= 3
    one, two = (federation(topology.ring(K), Clients.of(rows_, Y, EVEN)) for rows_ in (X, other))
    for rounds in range(1, 4):
        one.run(1), two.run(1)
        changed = [i for i in range(K) if not torch.equal(one.parameters[i], two.parameters[i])]
        assert set(changed) == {i % K for i in range(-rounds, rounds + 1)}


def test_a_row_is_in_nothing_that_a_client_sends() -> None:
    canary = 123.456
    marked = X.copy()
    marked[EVEN[2][5]] = canary
    sent = []

    def listen(updates: Tensor, weights: Tensor) -> Tensor:
        sent.append(updates)
        return rules.mean(updates, weights)

    made = federation(clients=Clients.of(marked / 100, Y, EVEN), rule=listen)
    made.run(2)
    assert all(update.shape == (K, len(made.average())) for update in sent)
    assert all((update - canary / 100).abs().min() > 1e-6 for update in sent)


# --- keeping and stopping -----------------------------------------------------------------------------------------------

KEPT = {
    "server": lambda: federation(sampled=0.5, server=ServerAdam(), exchange=Upload(top_k(0.3))),
    "late": lambda: federation(asynchronous=True, slowness=[1, 2, 3, 4] * 2),
    "gossip": lambda: federation(topology.matchings(K, 2)),
    "compressed": lambda: federation(topology.torus(K), exchange=Compressed(top_k(0.5), 0.5)),
    "push-sum": lambda: federation(topology.directed_exponential(K), exchange=PushSum()),
    "late gossip": lambda: federation(topology.ring(K), asynchronous=True, slowness=[1, 2] * 4),
}


@pytest.mark.parametrize("name", KEPT)
def test_a_checkpoint_goes_on_to_the_same_numbers(name: str, tmp_path) -> None:
    whole, part = KEPT[name](), KEPT[name]()
    whole.run(5), part.run(3)
    checkpoint.save(part, tmp_path / "state")
    again = checkpoint.resume(KEPT[name](), tmp_path / "state")
    again.run(2)
    assert torch.equal(again.average(), whole.average())
    pd.testing.assert_frame_equal(again.history.drop(columns="seconds"), whole.history.drop(columns="seconds"))
    assert again.traffic().equals(whole.traffic())
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_only_its_own_federation_takes_up_a_checkpoint(tmp_path) -> None:
    made = federation()
    made.run(1)
    checkpoint.save(made, tmp_path / "state")
    with pytest.raises(ValueError, match=r"differs in seed \(5 there, 6 here\)"):
        checkpoint.resume(federation(seed=6), tmp_path / "state")
    with pytest.raises(ValueError, match=r"differs in .*server"):
        checkpoint.resume(federation(topology.ring(K)), tmp_path / "state")
    with pytest.raises(ValueError, match="has run 1 rounds already"):
        checkpoint.resume(made, tmp_path / "state")
    (tmp_path / "text").write_text("no checkpoint")
    for missing in ("text", "nowhere"):
        with pytest.raises(ValueError, match="no checkpoint of a federation"):
            checkpoint.resume(federation(), tmp_path / missing)


def test_ctrl_c_ends_the_run_after_its_round() -> None:
    made = federation(topology.ring(K))
    before = signal.getsignal(signal.SIGINT)

    def press() -> None:
        while not made.round:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    history = made.run(100_000)
    assert 1 <= len(history) == made.round < 100_000
    assert signal.getsignal(signal.SIGINT) is before
    again = federation(topology.ring(K))
    again.run(len(history) + 2)
    made.run(2)
    assert torch.equal(made.parameters, again.parameters)


def test_two_processes_get_the_same_numbers_and_end_with_the_run() -> None:
    uneven = Clients.of(X, Y, np.split(np.arange(len(X)), [5, 90, 100, 230]))
    one, two = federation(topology.ring(5), uneven), federation(topology.ring(5), uneven, workers=2)
    one.run(2), two.run(2)
    assert torch.allclose(two.parameters, one.parameters, atol=1e-6)
    assert not multiprocessing.active_children()


# --- what cannot be -----------------------------------------------------------------------------------------------------


def test_a_client_that_diverges_is_named() -> None:
    wild = X.copy()
    wild[EVEN[4]] *= 1e18
    made = federation(clients=Clients.of(wild, Y, EVEN), local=SGD(epochs=5))
    with pytest.raises(ValueError, match=r"in round 1 training diverged for 1 clients, 4 first.*learning rate"):
        made.run(3)
    assert made.history.empty


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"graph": topology.ring(5)}, "5 nodes and there are 8 clients"),
        ({"graph": topology.from_edges([(0, 1)], nodes=K)}, "falls into 7 parts"),
        ({"graph": topology.mixing_matrix(topology.ring(5))}, r"shape \(5, 5\)"),
        ({"graph": topology.column_stochastic(topology.star(K))}, "expected 1; use Metropolis"),
        ({"graph": topology.mixing_matrix(topology.star(K)) * 0.5, "exchange": PushSum()}, "columns that sum to 1"),
        ({"graph": topology.ring(K), "sampled": 0.5}, "of a federation with a server"),
        ({"graph": topology.ring(K), "server": ServerAdam()}, "of a federation with a server"),
        ({"graph": topology.ring(K), "exchange": Upload(top_k(0.5))}, "goes to a server"),
        ({"graph": topology.ring(K), "exchange": Gossip(), "rule": rules.median}, "a rule or an exchange"),
        ({"graph": iter(())}, "ran out after 0 rounds"),
        ({"exchange": Gossip()}, "give a topology"),
        ({"exchange": Gossip}, "derive it from exchange.Exchange"),
        ({"graph": topology.matchings(K, 1), "exchange": Compressed(top_k(0.5))}, "the same links in every round"),
        ({"graph": topology.ring(K), "exchange": Compressed(top_k(0.5)), "asynchronous": True}, "the same links"),
        ({"graph": topology.directed_ring(K), "exchange": PushSum(), "asynchronous": True}, "PushSum goes one way"),
        ({"graph": "ring"}, "'ring' is no topology"),
        ({"seed": None}, "seed=None"),
        ({"judged": 0}, "judged=0"),
        ({"test": (X[:3], np.zeros(2))}, "as many targets"),
        ({"test": (X[:3] * np.nan, np.zeros(3))}, "X of test holds NaN"),
        ({"clients": Clients.of(X, Y + 9, EVEN)}, "classes go from 9 to"),
        ({"clients": Clients.of(X, np.eye(12)[Y], EVEN)}, "cross entropy needs class numbers"),
        (
            {"clients": Clients.of(X, Y, EVEN), "attack": lambda honest, F, generator: honest[:F] / 0, "attackers": [1]},
            "attack gave",
        ),
        ({"privacy": lambda updates, generator: updates * np.nan}, "the privacy mechanism gave updates with NaN"),
        ({"sampled": 0}, "sampled=0"),
        ({"workers": 0}, "workers=0"),
        ({"dropped": 1}, "dropped=1"),
        ({"slowness": [1, 2]}, "each of the 8 clients"),
        ({"slowness": [0] * K}, "whole number from 1"),
        ({"attackers": [2]}, "belong together"),
        ({"attack": lambda *given: None, "attackers": [9]}, "from 0 to 7"),
        ({"attack": lambda *given: None, "attackers": range(K)}, "an honest client"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_federations_that_cannot_be(options: dict, said: str) -> None:
    graph = options.get("graph")
    with pytest.raises(ValueError, match=said):
        federation(graph, **{name: value for name, value in options.items() if name != "graph"}).run(1)


def test_what_is_given_to_two_federations_is_shared_by_none() -> None:
    """Neither the model, nor what an exchange or a server remembers."""
    made = classifier()
    one = federation(topology.ring(K), model=made, exchange=(exchange := Compressed(top_k(0.3), 0.5)))
    one.run(3)
    assert not exchange.state
    assert one.fitted(0) is not one.fitted(1) is not made
    again = federation(topology.ring(K), model=made, exchange=exchange)
    again.run(3)
    assert torch.equal(one.parameters, again.parameters)
    served, again = (federation(server=(adam := ServerAdam())) for _ in range(2))
    served.run(2), again.run(2)
    assert torch.equal(served.average(), again.average())
    assert not adam.state
    assert torch.equal(vector(served.fitted(2)), served.average())


def test_a_weight_of_nothing_is_no_link() -> None:
    W = topology.mixing_matrix(topology.ring(K)) * 0 + sparse.eye_array(K)
    W = sparse.csr_array(W)
    assert W.nnz >= K
    nodes = scattered(W)
    assert nodes.run(1)["bytes"].iloc[0] == 0


def test_one_output_is_no_choice_of_classes() -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], targets.float(), reduction="none")

    made = federation(model=nn.Linear(X.shape[1], 1), clients=Clients.of(X, Y > 0, EVEN), loss=loss, test=(X, Y > 0))
    assert "accuracy" not in made.run(1)


def test_a_view_of_a_matrix_keeps_its_other_columns() -> None:
    W = topology.mixing_matrix(topology.ring(5))
    for P in (1, 95, 96, 97, 192):
        for start in (torch.rand(5, 400)[:, 3 : 3 + P], torch.rand(5, 192)[:, :P], exchange_matrix(5, P)):
            before, around = start.clone(), start._base.clone() if start._base is not None else start.clone()
            assert torch.allclose(mix(start, W), torch.from_numpy(W.toarray()).float() @ before, atol=1e-6)
            if start._base is not None and start._base.shape[1] in (192, 400) and P < 192:
                assert torch.equal(start._base[:, -1], around[:, -1])


def exchange_matrix(K: int, P: int) -> Tensor:
    return matrix(K, P, torch.zeros(1)).copy_(torch.rand(K, P))


def test_exchanges_that_cannot_be() -> None:
    for make in (lambda: top_k(0), lambda: top_k(1.5), lambda: when_changed(-1), lambda: when_changed(float("nan"))):
        with pytest.raises(ValueError, match=r"share=|length="):
            make()
    with pytest.raises(ValueError, match="step=2"):
        Compressed(top_k(0.5), 2)
    with pytest.raises(ValueError, match="beta1=1"):
        ServerAdam(beta1=1)


def test_the_fitted_model_is_the_federations() -> None:
    made = federation(topology.ring(K))
    made.run(2)
    assert torch.equal(vector(made.fitted(3)), made.parameters[3])
    assert torch.equal(vector(made.fitted()), made.average())
