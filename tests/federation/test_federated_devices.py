"""Device types recognised by a federation of homes: what each home saw of its devices stays there."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from fliot_lab.data import setups, splits
from fliot_lab.features import devices
from fliot_lab.federation import statistics, topology
from fliot_lab.federation.simulation import Federation
from fliot_lab.models.batched import SGD, Clients, train, vector


def network(d: int, types: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(d, 32), nn.ReLU(), nn.Linear(32, types))


def right(network: nn.Module, X: np.ndarray, y: np.ndarray) -> float:
    with torch.inference_mode():
        return float((network(torch.from_numpy(X)).argmax(1).numpy() == y).mean())


def parts(rows: Iterable[np.ndarray], X: np.ndarray) -> np.ndarray:
    return sum(statistics.feature_sums(X[part]) for part in rows)


def test_homes_that_know_few_devices_learn_all_types_together() -> None:
    """Simulated set-ups; the last set-up of each person is the test, and each of six homes holds a few types."""
    listed = setups.listing(setups.locate("sample", seed=7).root)
    listed = listed[listed["device_type"].isin(sorted(set(listed["device_type"]))[:6])].reset_index(drop=True)
    frames = [devices.packets.read(path) for path in listed["path"]]
    X = np.nan_to_num(devices.matrix([devices.packets.fingerprint(frame)[0] for frame in frames])[0]).astype(np.float32)
    kinds, y = np.unique(listed["device_type"], return_inverse=True)
    order = listed.groupby("device_type").cumcount().to_numpy()
    earlier, later = np.flatnonzero(order % 4 != 3), np.flatnonzero(order % 4 == 3)
    homes = splits.partition_dirichlet(y[earlier], 6, alpha=0.3, seed=1, least=2)
    scaled_by = statistics.scaler(parts([earlier[home] for home in homes], X))
    Z = scaled_by.transform(X)
    clients = Clients.of(Z[earlier], y[earlier], homes)
    made = Federation(network(X.shape[1], len(kinds)), clients, topology.ring(6), seed=1, local=SGD(2, 8, 0.05))
    start = vector(made.model).repeat(6, 1)
    made.run(40)
    together = right(made.fitted(), Z[later], y[later])
    alone = train(made.model, start, clients, SGD(80, 8, 0.05), seed=1)
    by_themselves = []
    for row in alone:
        nn.utils.vector_to_parameters(row, made.model.parameters())
        by_themselves.append(right(made.model, Z[later], y[later]))
    assert together > 0.9
    assert together > np.mean(by_themselves) + 0.2
