"""A federation's state in one safetensors file: taken up again, its rounds go on to the same numbers."""

import json
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from scipy.sparse import csr_array
from torch import Tensor

from fliot_lab import atomic
from fliot_lab.federation.simulation import Federation


def save(federation: Federation, path: Path) -> None:
    """Writes all that `resume` needs to `path`, which appears, or changes, when all of it is written.

    The clients' rows, the model's shape and the functions in the slots are not in it: they are the caller's.
    """
    tensors = dict(federation.state())
    links = federation.links.tocoo()
    tensors["links"] = torch.from_numpy(np.stack([*links.coords, links.data]).astype(np.int64))
    said = {"settings": _settings(federation), "round": federation.round, "clock": federation.clock}
    said["records"] = federation.records
    with atomic.replacing(Path(path)) as partial:
        save_file(
            {name: value.contiguous() for name, value in tensors.items()},
            partial,
            {"federation": json.dumps(said, default=lambda number: number.item())},
        )


def resume(federation: Federation, path: Path) -> Federation:
    """`federation`, just made with the arguments of the one that was saved, where that one stood.

    Raises ValueError for a file that is no checkpoint, where seed, sizes or settings differ, and for a federation that has
    run already; then nothing changes. Topology, functions and how an exchange compresses are not compared.
    """
    said, tensors = _read(path)
    here = _settings(federation)
    differ = [
        f"{name} ({said['settings'].get(name)} there, {value} here)"
        for name, value in here.items()
        if said["settings"].get(name) != value
    ]
    if differ:
        raise ValueError(f"{path} was saved by another federation, which differs in {', '.join(differ)}")
    if federation.round:
        raise ValueError(f"this federation has run {federation.round} rounds already; make a new one to resume {path} with")
    senders, receivers, sent = tensors.pop("links").numpy()
    federation.links = csr_array((sent, (senders, receivers)), shape=federation.links.shape)
    federation.round, federation.clock = said["round"], said["clock"]
    federation.records = said["records"]
    federation.restore(tensors)
    next(islice(federation.matrices, federation.round, federation.round), None)  # those of the rounds that were run
    return federation


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as stored:
            names = list(stored.keys())
            return json.loads(stored.metadata()["federation"]), {name: stored.get_tensor(name) for name in names}
    except (SafetensorError, KeyError, TypeError, OSError) as error:
        raise ValueError(f"{path} is no checkpoint of a federation ({error}); give the path that save() was given") from None


def _settings(federation: Federation) -> dict[str, Any]:
    """What must be alike where a checkpoint is taken up, as JSON has it."""
    names = ("seed", "sampled", "dropped", "asynchronous")
    return {name: getattr(federation, name) for name in names} | {
        "clients": len(federation.clients),
        "rows": int(federation.clients.starts[-1]),
        "parameters": len(federation.global_),
        "exchange": type(federation.exchange).__name__,
        "server": federation.parameters is None,
        "local": {name: float(value) for name, value in asdict(federation.local).items()} if federation.local else None,
        "slowness": federation.slowness.tolist(),
        "attackers": federation.attackers.tolist(),
    }
