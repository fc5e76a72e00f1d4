"""The simulator at its full size, and its processes where a run fails."""

import multiprocessing

import numpy as np
import pytest
import torch
from torch import nn

from fliot_lab.federation import topology
from fliot_lab.federation.simulation import Federation
from fliot_lab.models.batched import SGD, Clients, train_loop, vector

K, ROWS = 10_000, 200


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(24, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 5))


def test_ten_thousand_nodes_train_and_talk() -> None:
    """Each as a loop would have trained it, and mixed as the matrix says."""
    random = np.random.default_rng(0)
    X, y = random.standard_normal((K * ROWS, 24), dtype=np.float32), random.integers(0, 5, K * ROWS)
    clients = Clients.of(X, y, np.arange(K * ROWS).reshape(K, ROWS))
    graph = topology.random_regular(K, 4, seed=1)
    made = Federation(network(), clients, graph, seed=2)
    history = made.run(1)
    assert history["bytes"].iloc[0] == 4 * K * 20_357 * 4
    W = topology.mixing_matrix(graph)
    for node in (0, 4_321, K - 1):
        heard = W.indices[W.indptr[node] : W.indptr[node + 1]]
        seed = int(np.random.default_rng([2, 0, 1]).integers(2**63))
        start = vector(made.model).repeat(len(heard), 1)
        trained = train_loop(made.model, start, clients, SGD(), seed=seed, which=heard)
        expected = torch.from_numpy(W[[node]][:, heard].toarray()[0]).float() @ trained
        assert torch.allclose(made.parameters[node], expected, atol=1e-5)


def test_processes_end_where_a_run_fails() -> None:
    random = np.random.default_rng(0)
    clients = Clients.of(random.standard_normal((40, 24)), random.integers(0, 5, 40), np.arange(40).reshape(4, 10))
    made = Federation(network(), clients, seed=1, workers=2, local=SGD(learning_rate=1e20, epochs=5))
    with pytest.raises(ValueError, match="diverged"):
        made.run(1)
    assert not multiprocessing.active_children()
