# mypy: ignore-errors
"""Gossip of fluke: each node sends its model to a random neighbour of 4, and trains when it has got some. CLIENTS:ROUNDS."""

import fluke_common
import networkx
from common import SEED, told
from fluke.algorithms.decentralized import GossipDFL, Topology

NEIGHBOURS = 4


def federate(clients, rounds):
    graph = networkx.random_regular_graph(NEIGHBOURS, clients, seed=SEED)
    settings = fluke_common.settings(policy="aggregate")
    algorithm = GossipDFL(clients, fluke_common.splitter(clients), settings, topology=Topology(graph))
    return fluke_common.seconds(algorithm, lambda: algorithm.run(n_rounds=rounds))


if __name__ == "__main__":
    fluke_common.warm_up(federate)
    told("fluke-fl", federate)
