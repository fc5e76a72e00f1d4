# mypy: ignore-errors
"""Push gossip of gossipy: each node sends its model to a random node once a round, who merges it and trains. CLIENTS:ROUNDS."""

import logging

import gossipy
from common import BATCH, MLP, RATE, SEED, SGD, Clock, data, told
from gossipy.core import AntiEntropyProtocol, ConstantDelay, CreateModelMode, StaticP2PNetwork
from gossipy.data import DataDispatcher
from gossipy.data.handler import ClassificationDataHandler
from gossipy.model import TorchModel
from gossipy.model.handler import TorchModelHandler
from gossipy.node import GossipNode
from gossipy.simul import GossipSimulator
from torch.nn import CrossEntropyLoss

ROUND = 10  # time steps


class Model(TorchModel):
    def __init__(self):
        super().__init__()
        self.layers = MLP()

    def init_weights(self):
        for layer in list(self.layers)[::2]:
            layer.reset_parameters()

    def forward(self, x):
        return self.layers(x)


def federate(clients, rounds):
    X, y = data(clients)
    dispatcher = DataDispatcher(ClassificationDataHandler(X, y, test_size=0), n=clients, eval_on_user=False)
    nodes = {
        i: GossipNode(
            i,
            dispatcher[i],
            ROUND,
            TorchModelHandler(
                Model(), SGD, {"lr": RATE}, CrossEntropyLoss(), batch_size=BATCH, create_model_mode=CreateModelMode.MERGE_UPDATE
            ),
            StaticP2PNetwork(clients),
        )
        for i in range(clients)
    }
    simulator = GossipSimulator(nodes, dispatcher, ROUND, AntiEntropyProtocol.PUSH, delay=ConstantDelay(0))
    simulator.init_nodes()  # trains every node once, which also warms up
    clock = Clock()
    clock.start()
    simulator.start(n_rounds=rounds)
    return clock.seconds()


if __name__ == "__main__":
    gossipy.LOG.setLevel(logging.ERROR)
    gossipy.set_seed(SEED)
    told("gossipy-dfl", federate)
