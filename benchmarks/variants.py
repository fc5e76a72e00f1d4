"""What variants of federated averaging win and lose: for each a setting where it should help and one where it should hurt.

All on Flower, on the clients and with the settings of the study; against FedAvg with the same division of rows and seed.
`python -m benchmarks.variants` prints the section alone.
"""

import argparse
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from flwr.app import Context

from benchmarks import measure
from benchmarks.__main__ import description
from fliot_lab import evaluation
from fliot_lab.data import iot23
from fliot_lab.evaluation import Interval
from fliot_lab.federation.flower import apps, boosting, grid, study

SEEDS, CLIENTS = range(12, 17), 8  # the settings were chosen on seeds 7 to 11
COMMON: dict[str, Any] = {"rows": 1_500, "rounds": 5, "epochs": 2, "fraction-train": 1.0, "fraction-evaluate": 1.0}
ALIKE = {"skew": "none"}
UNLIKE = {"skew": "labels", "alpha": 0.1}
TIMID = {"skew": "none", "epochs": 1, "learning-rate": 0.002}
FEW = {"skew": "labels", "alpha": 0.1, "epochs": 10, "learning-rate": 0.2, "fraction-train": 0.25}
LONG = {"skew": "labels", "alpha": 0.05, "epochs": 20, "learning-rate": 0.2}

Settings = Mapping[str, Any]


class Variant(NamedTuple):
    """What is changed, where that should help and where it should hurt, in the reader's words and as settings."""

    change: Settings
    helps: tuple[str, Settings]
    hurts: tuple[str, Settings]


VARIANTS = {
    "local tuning, 5 epochs": Variant({"tuned": 5}, ("skewed labels", UNLIKE), ("alike", ALIKE)),
    "FedPer, own last layer": Variant({"kept": "answer"}, ("skewed labels", UNLIKE), ("alike", ALIKE)),
    "FedProx, pull 1": Variant({"proximal": 1.0}, ("few and hasty", FEW), ("long alone", LONG)),
    "FedAdam, rate 0.01": Variant({"server-rate": 0.01}, ("timid clients", TIMID), ("skewed labels", UNLIKE)),
}
TREES = "federated XGBoost"
TREES_IN: tuple[tuple[str, Settings], ...] = (("alike", ALIKE), ("skewed labels", UNLIKE))


class Judged(NamedTuple):
    """Accuracy and loss on the rows that clients hold out, by their numbers, after the last round."""

    accuracy: float
    loss: float


def networks(settings: Settings, seed: int, data: str) -> Judged:
    """The study's network, federated."""
    return _last(grid.run(study.server, study.answer, CLIENTS, {**COMMON, **settings, "data": data, "seed": seed}))


def trees(settings: Settings, seed: int, data: str) -> Judged:
    """Federated XGBoost on the same clients, as many rounds; a step of four trees a class in each."""
    chosen = study.settings({**COMMON, **settings, "data": data, "seed": seed})
    classes = len(study.dealt(chosen, CLIENTS).classes)

    def strategy() -> boosting.Bagging:
        shares = {"fraction_train": 1.0, "fraction_evaluate": 1.0}
        return boosting.Bagging(boosting.Growth(classes, 24, trees=4), seed=seed, **shares)

    server = boosting.server_app(strategy, chosen["rounds"])
    return _last(
        grid.run(server, boosting.client_app(study.holding), CLIENTS, {**COMMON, **settings, "data": data, "seed": seed})
    )


def _last(context: Context) -> Judged:
    figures = apps.history(context).iloc[-1]
    return Judged(float(figures["accuracy"]), float(figures["loss"]))


@cache
def plain(settings: tuple[tuple[str, Any], ...], seed: int, data: str) -> Judged:
    """FedAvg, once for each setting and seed."""
    return networks(dict(settings), seed, data)


def compared(
    way: Callable[[Settings, int, str], Judged], setting: Settings, data: str
) -> tuple[Judged, Judged, Interval, Interval]:
    """FedAvg's mean figures, the way's, and what the way won in accuracy and in loss, seed by seed."""
    pairs = [(plain(tuple(setting.items()), seed, data), way(setting, seed, data)) for seed in SEEDS]
    both = np.array(pairs)  # (seeds, 2, figures)
    won = [evaluation.interval_over_seeds(both[:, 1, figure] - both[:, 0, figure]) for figure in (0, 1)]
    return Judged(*both[:, 0].mean(0)), Judged(*both[:, 1].mean(0)), won[0], won[1]


def line(name: str, where: str, expected: str, found: tuple[Judged, Judged, Interval, Interval]) -> list[str]:
    """A row of the table."""
    before, after, accuracy, loss = found
    low, high = (np.array([getattr(won, end) for won in (accuracy, loss)], dtype=np.float64) for end in ("low", "high"))
    helped, hurt = low[0] > 0 or high[1] < 0, high[0] < 0 or low[1] > 0
    verdict = "both" if helped and hurt else "helps" if helped else "hurts" if hurt else "undecided"
    figures = [f"{before.accuracy:.3f}", f"{after.accuracy:.3f}", _signed(accuracy), _signed(loss)]
    return [name, where, *figures, expected, verdict]


def _signed(won: Interval) -> str:
    return f"{won.value:+.3f} [{won.low:+.3f}, {won.high:+.3f}]"


def table(source: iot23.Source) -> str:
    """All variants on the captures of one source."""
    rows = []
    for name, variant in VARIANTS.items():
        way = partial(_changed, variant.change)
        for expected, (where, setting) in (("helps", variant.helps), ("hurts", variant.hurts)):
            rows.append(line(name, where, expected, compared(way, setting, source.name)))
    for expected, place in zip(("helps", "hurts"), TREES_IN, strict=True):
        where, setting = place
        rows.append(line(TREES, where, expected, compared(trees, setting, source.name)))
    heads = ["variant", "clients", "FedAvg", "variant's", "accuracy won", "loss won", "meant to", "found"]
    return f"{measure.origin(source)}\n\n{measure.table(heads, rows)}"


def run(dataset: str = "auto") -> str:
    """The section for results/BENCHMARKS.md: the captures that there are, and simulated ones, which are harder."""
    sources = [iot23.locate(name) for name in dict.fromkeys((dataset, "sample"))]
    shown = {source.name: table(source) for source in sources}  # no table twice where "auto" is the sample
    told = (
        f"{CLIENTS} clients, {COMMON['rounds']} rounds of {COMMON['epochs']} epochs in which all train, where nothing else is "
        f"said; {len(SEEDS)} seeds; each client judges on its own latest rows, which are skewed as it is. Alike: rows dealt "
        f"out at random; skewed labels: Dirichlet {UNLIKE['alpha']}; timid clients: one epoch at a learning rate of "
        f"{TIMID['learning-rate']}; few and hasty: skewed labels, a quarter of the clients a round, {FEW['epochs']} epochs at "
        f"{FEW['learning-rate']}; long alone: Dirichlet {LONG['alpha']}, {LONG['epochs']} epochs at {LONG['learning-rate']}. "
        "Won: against FedAvg with the same division and seed, mean with a 95 % interval; helps or hurts where the interval of "
        "accuracy or of loss does not hold 0. A model of the client's own (tuning, FedPer) is judged where it is used; the "
        "others are one model for all."
    )
    return "\n\n".join(["## Variants of federated averaging", told, *shown.values()])


def _changed(change: Settings, setting: Settings, seed: int, data: str) -> Judged:
    return networks({**setting, **change}, seed, data)


def main() -> None:
    """Prints the section alone, after a line on the machine."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.variants")
    parser.add_argument("--data", default="auto", help="auto, sample or iot23")
    dataset = parser.parse_args().data
    print(f"{description()}\n\n{run(dataset)}")


if __name__ == "__main__":
    main()
