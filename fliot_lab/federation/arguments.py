"""What a federation's arguments must be, said before anything runs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import issparse
from torch import Tensor, nn

from fliot_lab.aggregation import rules
from fliot_lab.federation.exchange import Compressed, Exchange, Upload
from fliot_lab.federation.graphs import Topology
from fliot_lab.models import batched


def check_exchange(topology: Any, exchange: Any, rule: Any, *, asynchronous: bool) -> None:
    """ValueError where an exchange, a rule and a topology do not go together."""
    name = type(exchange).__name__
    if exchange is not None and not isinstance(exchange, Exchange | Upload):
        raise ValueError(f"exchange={exchange!r}: derive it from exchange.Exchange, or for a server from exchange.Upload")
    if topology is None and isinstance(exchange, Exchange):
        raise ValueError(f"{name} is talk among neighbours: give a topology, or an Upload for a server")
    if topology is not None and isinstance(exchange, Upload):
        raise ValueError("an Upload goes to a server, and a topology has none: take Compressed, or leave the topology out")
    if topology is not None and exchange is not None and rule is not rules.mean:
        raise ValueError("give a rule or an exchange: a rule among neighbours is the exchange Neighbourhood(rule)")
    changes = asynchronous or (topology is not None and not isinstance(topology, Topology) and not issparse(topology))
    if isinstance(exchange, Compressed) and changes:
        raise ValueError(
            "Compressed needs the same links in every round, on which neighbours keep each other's copies; take Gossip where "
            "links change or rounds are asynchronous"
        )
    if asynchronous and isinstance(exchange, Exchange) and exchange.directed:
        raise ValueError(
            f"asynchronous nodes average in pairs, and {name} goes one way; take Gossip, or leave out asynchronous"
        )


def check_settings(*, topology: Any, seed: Any, sampled: float, dropped: float, server: Any, workers: int, judged: int) -> None:
    """ValueError for numbers out of their range, and for what a federation without a server has no use for."""
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed={seed!r}: every random choice comes from it, so give a whole number from 0")
    if workers < 1 or judged < 1:
        raise ValueError(f"workers={workers}, judged={judged}: expected 1 or more of both")
    if topology is not None and (sampled != 1 or dropped or server is not None):
        raise ValueError(
            "sampled, dropped and server are of a federation with a server; without one, links and nodes fail in the "
            "matrices that topology.failing and topology.churn give"
        )
    if not 0 < sampled <= 1 or not 0 <= dropped < 1:
        raise ValueError(f"sampled={sampled}, dropped={dropped}: expected a share above 0, and one in [0, 1)")


def check_clients(K: int, slowness: npt.NDArray[Any], attack: Any, attackers: npt.NDArray[np.int64]) -> None:
    """ValueError where slowness or attackers do not fit the K clients."""
    if slowness.shape != (K,) or slowness.dtype.kind not in "iu" or slowness.min() < 1:
        raise ValueError(f"slowness must be a whole number from 1 for each of the {K} clients, got {slowness}")
    if len(attackers) and not 0 <= attackers[0] <= attackers[-1] < K:
        raise ValueError(f"attackers must be client numbers from 0 to {K - 1}, got {attackers.tolist()}")
    if (attack is None) != (not len(attackers)):
        raise ValueError("attack and attackers belong together: say what is done, and which clients do it")
    if attack is not None and len(attackers) == K:
        raise ValueError(f"all {K} clients are attackers; an attack needs an honest client")


def check_fit(model: nn.Module, clients: batched.Clients, loss: batched.Loss) -> None:
    """ValueError where the model cannot take the clients' rows, or cross entropy not their targets."""
    numbers = next(model.parameters()).dtype
    if numbers != clients.X.dtype:
        raise ValueError(f"the model's parameters are {numbers} and the clients' rows {clients.X.dtype}; make them alike")
    with torch.no_grad():
        outputs = next(batched.outputs(model, batched.vector(model)[None].to(clients.X.device), clients.X[:1]))[0]
    if loss is not batched.cross_entropy:
        return
    if clients.y.is_floating_point() or clients.y.ndim != 1 or outputs.ndim != 2:
        raise ValueError(
            f"cross entropy needs class numbers (n,) and outputs (n, classes); y is {clients.y.dtype} of shape "
            f"{tuple(clients.y.shape)}, an output has the shape {tuple(outputs.shape[1:])}"
        )
    low, high = int(clients.y.min()), int(clients.y.max())
    if low < 0 or high >= outputs.shape[1]:
        raise ValueError(f"the classes go from {low} to {high} and the model has {outputs.shape[1]} outputs, for 0 and on")


def judging_rows(test: Sequence[npt.ArrayLike], clients: batched.Clients, device: str) -> tuple[Tensor, Tensor]:
    """`test` (X (m, d), y (m, ...)) as tensors of the clients' types; ValueError for none, for NaN and for infinity."""
    X, y = (torch.as_tensor(np.asarray(part)).to(device) for part in test)
    X = X.to(clients.X.dtype)
    y = y.to(clients.X.dtype) if y.is_floating_point() else y.long()
    if not len(X) or len(X) != len(y):
        raise ValueError(
            f"test must be rows X (m, d) and as many targets, some of both, got {tuple(X.shape)} and {tuple(y.shape)}"
        )
    for name, values in (("X", X), ("y", y)):
        if values.is_floating_point() and not values.isfinite().all():
            raise ValueError(f"{name} of test holds NaN or infinity; drop those rows")
    return X, y
