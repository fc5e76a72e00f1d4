# mypy: ignore-errors
"""What both benchmarks of fluke share: data, hyperparameters, a clock that runs from the first round to the last."""

from common import BATCH, CLASSES, MLP, RATE, ROWS, SEED, SGD, Clock, data
from fluke import DDict, FlukeENV
from fluke.data import DataSplitter, DummyDataContainer, FastDataLoader
from fluke.utils import FederationObserver


class Rounds(FederationObserver):
    """CPU seconds between the beginning of the first round and the end of the last."""

    def __init__(self):
        self.clock, self.spent = Clock(), 0.0

    def start_round(self, round, global_model):
        if round == 1:
            self.clock.start()

    def end_round(self, round):
        self.spent = self.clock.seconds()


def splitter(clients):
    """The rows of each client, and none to evaluate on."""
    X, y = data(clients)
    parts = [
        FastDataLoader(a, b, num_labels=CLASSES, batch_size=BATCH, shuffle=True)
        for a, b in zip(X.split(ROWS), y.split(ROWS), strict=True)
    ]
    return DataSplitter(DummyDataContainer(parts, [None] * clients, None, CLASSES))


def settings(server=None, **client):
    """The hyperparameters: one local epoch, what `client` adds."""
    optimizer, scheduler = DDict(name=SGD, lr=RATE), DDict(name="StepLR", step_size=1, gamma=1)
    own = DDict(batch_size=BATCH, local_epochs=1, loss="CrossEntropyLoss", optimizer=optimizer, scheduler=scheduler, **client)
    return DDict(client=own, server=DDict(**(server or {})), model=MLP())


def seconds(algorithm, run):
    """CPU seconds of the rounds of `run`."""
    rounds = Rounds()
    algorithm.set_callbacks(rounds)
    run()
    return rounds.spent


def warm_up(federate):
    """A tiny federation, so that what is measured pays for no first times."""
    FlukeENV().set_seed(SEED)
    FlukeENV().set_eval_cfg(pre_fit=False, post_fit=False, locals=False, server=False)
    federate(6, 1)
