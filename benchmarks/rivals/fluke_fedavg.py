# mypy: ignore-errors
"""FedAvg of fluke: its clients, server and data loaders, evaluation off. Arguments: CLIENTS:ROUNDS."""

import fluke_common
from common import told
from fluke.algorithms.fedavg import FedAVG


def federate(clients, rounds):
    algorithm = FedAVG(clients, fluke_common.splitter(clients), fluke_common.settings(server={"weighted": True}))
    return fluke_common.seconds(algorithm, lambda: algorithm.run(n_rounds=rounds, eligible_perc=1.0))


if __name__ == "__main__":
    fluke_common.warm_up(federate)
    told("fluke-fl", federate)
