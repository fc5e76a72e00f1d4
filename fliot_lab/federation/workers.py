"""Local training on several processes of one thread each, which two threads of one process do not make faster."""

import shutil
import signal
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
import torch.multiprocessing  # teaches pickle to hand over tensors in shared memory by name
from torch import Tensor, nn

from fliot_lab.models import batched

SHARED = Path("/dev/shm")

_task: tuple[nn.Module, batched.Clients, batched.Loss]  # of a worker process


class Workers:
    """`count` processes that train rows of one matrix in shared memory. A context manager: leaving it stops all of them.

    `module` and `loss` must be picklable: a loss of one's own is a function of a module, no lambda.
    """

    def __init__(self, count: int, module: nn.Module, clients: batched.Clients, loss: batched.Loss):
        if count < 1 or clients.X.device.type != "cpu":
            raise ValueError(f"workers={count} on {clients.X.device}: expected 1 or more, on the CPU")
        self.count, self._clients = count, clients
        for part in (clients.X, clients.y):
            _room(part)
            part.share_memory_()
        # Processes that begin anew: a fork of one whose torch has run threads can wait for a lock that nobody holds.
        self._pool = ProcessPoolExecutor(count, get_context("spawn"), _begin, (module, clients, loss))

    def train(self, parameters: Tensor, how: batched.SGD, *, seed: int, which: npt.NDArray[np.int64]) -> Tensor:
        """What `batched.train` does, on all processes: each gets a block of rows that holds its share of the clients' rows."""
        if not parameters.is_shared():
            _room(parameters)
            parameters.share_memory_()
        load = self._clients.sizes[which].cumsum()
        ends = [*np.searchsorted(load, load[-1] * np.arange(1, self.count) / self.count), len(which)] if len(which) else []
        blocks = [slice(int(begin), int(end)) for begin, end in pairwise([0, *ends]) if begin < end]
        for part in [self._pool.submit(_train, parameters, block, how, seed, which[block]) for block in blocks]:
            part.result()
        return parameters

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def _begin(module: nn.Module, clients: batched.Clients, loss: batched.Loss) -> None:
    global _task
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that gives the work
    torch.set_num_threads(1)
    _task = module, clients, loss


def _train(parameters: Tensor, block: slice, how: batched.SGD, seed: int, which: npt.NDArray[np.int64]) -> None:
    module, clients, loss = _task
    batched.train(module, parameters[block], clients, how, seed=seed, which=which, loss=loss)


def _room(part: Tensor) -> None:
    """ValueError where shared memory is too small, which would else end the process with a bus error."""
    needed = part.numel() * part.element_size()
    if not part.is_shared() and SHARED.is_dir() and shutil.disk_usage(SHARED).free < needed:
        raise ValueError(f"{SHARED} has no room for {needed / 1e6:.0f} MB that processes would share; take workers=1")
