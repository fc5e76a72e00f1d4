# mypy: ignore-errors
"""What the scripts of this folder share: the work, a count of what is really trained, the line of JSON at the end.

They run in environments of their own (`python -m benchmarks.federation --install-rivals`), each alone in a process, and reach
no network.
"""

import json
import sys
import time
from importlib import metadata
from importlib.machinery import ModuleSpec
from unittest.mock import MagicMock

import torch
from torch import nn

INPUTS, WIDTH, CLASSES, ROWS, BATCH, RATE = 24, 128, 5, 200, 32, 0.05
SEED = 0

trained = {"rows": 0, "steps": 0}

try:
    import torchvision  # noqa: F401
except (ImportError, RuntimeError):  # one for another build of torch; the libraries want its data sets, which are not used
    for module in ("", ".datasets", ".datasets.utils", ".models", ".transforms"):
        sys.modules["torchvision" + module] = MagicMock(__spec__=ModuleSpec("torchvision" + module, None))


class MLP(nn.Sequential):
    """The network that all engines train; counts the rows that pass through it in training."""

    def __init__(self):
        layers = (nn.Linear(INPUTS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, CLASSES))
        super().__init__(*layers)

    def forward(self, x):
        trained["rows"] += len(x) * self.training
        return super().forward(x)


class SGD(torch.optim.SGD):
    """torch's own, which counts its steps."""

    def step(self, closure=None):
        trained["steps"] += 1
        return super().step(closure)


def data(clients):
    """X (clients * ROWS, INPUTS) and y of clients of ROWS rows each."""
    generator = torch.Generator().manual_seed(SEED)
    rows = clients * ROWS
    return torch.randn(rows, INPUTS, generator=generator), torch.randint(0, CLASSES, (rows,), generator=generator)


def alone(event, arguments):
    """Refuses connections: what is measured here must not wait for anybody, or tell anybody."""
    # The second argument of connect is an address: a name of a file for sockets of this machine, else a tuple.
    if event == "socket.getaddrinfo" or (event == "socket.connect" and isinstance(arguments[1], tuple)):
        raise ConnectionError(f"{event} {arguments[1:]}: benchmarks reach no network")


def told(library, federate):
    """Runs `federate(clients, rounds)`, which returns its CPU seconds, for each CLIENTS:ROUNDS of the command line; prints."""
    sys.addaudithook(alone)
    torch.set_num_threads(1)
    batches = -(-ROWS // BATCH)
    for pair in sys.argv[1:]:
        clients, rounds = map(int, pair.split(":"))
        seconds = federate(clients, rounds)
        epochs, steps = trained["rows"] / ROWS, trained["steps"]
        if steps != epochs * batches:
            raise SystemExit(f"{epochs} epochs are {epochs * batches} batches, but the optimiser made {steps} steps")
        version = f"{library} {metadata.version(library)}"
        print(json.dumps({"clients": clients, "client_epochs": epochs, "cpu_seconds": seconds, "version": version}))


class Clock:
    """CPU seconds of this process from `start` on; what was counted before is forgotten."""

    def start(self):
        trained.update(rows=0, steps=0)
        self.began = time.process_time()

    def seconds(self):
        return time.process_time() - self.began
