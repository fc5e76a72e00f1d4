# mypy: ignore-errors
"""Nodes of p2pfl on its memory protocol, fully connected, all of them training in every round. CLIENTS:ROUNDS."""

import logging

from common import BATCH, MLP, RATE, ROWS, SGD, Clock, data, told
from p2pfl.settings import Settings

Settings.general.DISABLE_RAY = True  # before anything else asks for it: one process, as everywhere here

import lightning  # noqa: E402
from datasets import Dataset, DatasetDict  # noqa: E402
from p2pfl.communication.protocols.protobuff.memory import MemoryCommunicationProtocol  # noqa: E402
from p2pfl.learning.dataset.p2pfl_dataset import P2PFLDataset  # noqa: E402
from p2pfl.learning.frameworks.pytorch.lightning_learner import LightningLearner  # noqa: E402
from p2pfl.learning.frameworks.pytorch.lightning_model import LightningModel  # noqa: E402
from p2pfl.management.logger import logger  # noqa: E402
from p2pfl.node import Node  # noqa: E402
from p2pfl.utils.topologies import TopologyFactory, TopologyType  # noqa: E402
from p2pfl.utils.utils import set_standalone_settings, wait_convergence, wait_to_finish  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402


class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layers = MLP()

    def training_step(self, batch, number):
        return cross_entropy(self.layers(batch["x"]), batch["y"])

    def configure_optimizers(self):
        return SGD(self.parameters(), lr=RATE)


class Learner(LightningLearner):
    """Theirs, without an evaluation before each round."""

    def evaluate(self):
        return {}


def federate(clients, rounds):
    X, y = data(clients)
    parts = [Dataset.from_dict({"x": a.numpy(), "y": b.numpy()}) for a, b in zip(X.split(ROWS), y.split(ROWS), strict=True)]
    nodes = [
        Node(
            LightningModel(Model()),
            P2PFLDataset(DatasetDict({"train": part, "test": part}), batch_size=BATCH),
            addr=f"node-{i}",
            learner=Learner(),
            protocol=MemoryCommunicationProtocol(),
        )
        for i, part in enumerate(parts)
    ]
    for node in nodes:
        node.start()
    TopologyFactory.connect_nodes(TopologyFactory.generate_matrix(TopologyType.FULL, clients), nodes)
    wait_convergence(nodes, clients - 1, wait=60)
    clock = Clock()
    clock.start()
    nodes[0].set_start_learning(rounds=rounds, epochs=1, trainset_size=clients)
    wait_to_finish(nodes, timeout=110)
    spent = clock.seconds()
    for node in nodes:
        node.stop()
    return spent


if __name__ == "__main__":
    set_standalone_settings()
    Settings.gossip.PERIOD = 0.1  # s, the library's default: those settings let every node look for messages without a pause
    Settings.general.LOG_LEVEL = "ERROR"
    logger.set_level("ERROR")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    told("p2pfl", federate)
