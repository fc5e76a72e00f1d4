"""Channels together: a simulated device that is seen by all of them is known at least as well as by the best of them."""

import re

import numpy as np
import pytest

from benchmarks import hardware as benchmark
from fliot_lab.data.sample.things import SIBLINGS
from fliot_lab.features.devices import fuse, matrix

CHANNELS = ["packets", "flows", "hosts", "calls"]
# Each beside a sibling, so that no channel has it easy.
DEVICES = [name for group in SIBLINGS[:3] for name in group[:2]]
RUNS = 8


@pytest.fixture(scope="module")
def accuracies() -> dict[str, list[float]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "SEEDS", 2)
        patch.setattr(benchmark, "TREES", 60)
        return benchmark.fusion(7, RUNS, DEVICES)


def test_all_channels_together_are_no_worse_than_the_best(accuracies: dict[str, list[float]]) -> None:
    means = {name: float(np.mean(values)) for name, values in accuracies.items()}
    assert list(means) == [*CHANNELS, "fused"]
    assert all(len(values) == 2 for values in accuracies.values())
    # Of 48 answers, two may fall the other way by chance.
    assert means["fused"] >= max(means[name] for name in CHANNELS) - 2 / (RUNS * len(DEVICES))


def test_every_channel_knows_something(accuracies: dict[str, list[float]]) -> None:
    for name in CHANNELS:
        assert np.mean(accuracies[name]) > 1.5 / len(DEVICES), name


def test_a_fused_fingerprint_holds_every_channels_values_and_no_name() -> None:
    one, other = (benchmark.fingerprints(7, "JuntoxCam", run) for run in (0, 1))
    assert [fingerprint.channel for fingerprint in one] == CHANNELS
    X, names = matrix([fuse(one), fuse(other)])
    assert X.shape == (2, sum(len(fingerprint.names) for fingerprint in one))
    assert len(set(names)) == len(names)
    assert not np.array_equal(X[0], X[1], equal_nan=True)
    assert not any("Juntox" in name or "192.168" in name for name in names)


def test_equal_seeds_give_equal_fingerprints() -> None:
    for one, other in zip(*(benchmark.fingerprints(7, "ZindleKettle", 2) for _ in range(2)), strict=True):
        np.testing.assert_array_equal(one.values, other.values)


def test_the_benchmark_runs_from_end_to_end_on_simulated_records(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TREES": 5, "SEEDS": 1, "RESAMPLES": 20, "LENGTHS": (10,)}.items():
        monkeypatch.setattr(benchmark, name, value)
    monkeypatch.setattr(benchmark, "fusion", lambda seed, runs: {"packets": [0.5, 0.75], "fused": [1.0, 1.0]})
    section = benchmark.run(dataset="sample")
    assert section.startswith("## Hardware and system calls (SIMULATED)\n\nSIMULATED records, made from seed 7")
    tables = [part for part in section.split("\n\n") if part.startswith("|")]
    assert [len(table.splitlines()) - 2 for table in tables] == [4, 4, 4, 6, 2]
    assert "| fused   | 1.000 [1.000, 1.000] |" in tables[-1]
    assert not re.search(r"\bnan\b", section)


def test_a_split_by_time_trains_on_the_past_and_tests_on_the_future() -> None:
    rows = benchmark.hardware.boards(benchmark.hardware.locate("sample"), identical=True)
    keys, clock, warmth = benchmark.observed(rows, 10)
    assert clock.shape == (len(rows) // 10, 7)
    own = rows[rows["board"] == "board 02"]["cycles"].to_numpy()
    np.testing.assert_allclose(clock[keys["board"] == "board 02"][3, 0], np.median(own[30:40]))
    assert warmth.shape == (len(clock), 1)
    for split in (benchmark.CHRONOLOGICAL, benchmark.RANDOM):
        train, choose, test = benchmark.parts(keys, split, 0)
        assert (train.astype(int) + choose + test == 1).all()
        assert np.mean(train) == pytest.approx(0.5, abs=0.1)
        assert np.mean(test) == pytest.approx(0.25, abs=0.1)
        by_time = keys["when"][train].max() < keys["when"][choose].min() < keys["when"][choose].max() < keys["when"][test].min()
        assert by_time == (split == benchmark.CHRONOLOGICAL)
