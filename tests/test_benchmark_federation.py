"""The benchmark of federations runs end to end on few clients, and counts the epochs that its engines do."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import __main__ as page
from benchmarks import federation
from fliot_lab.models import batched

COST = 22.886_400  # MFLOP of an epoch


def engine(name: str) -> federation.Engine:
    return next(engine for engine in federation.ENGINES if engine.name == name)


@pytest.mark.parametrize("engine", federation.ENGINES, ids=lambda engine: engine.name)
def test_every_engine_does_the_epochs_that_it_is_counted_for(engine):
    assert federation.epochs(engine.train, federation.clients(3)) == 3


def test_an_engine_that_skips_half_of_the_rows_does_half_of_the_epochs():
    def lazy(P, some):
        half = batched.Clients(some.X[::2], some.y[::2], some.starts // 2)
        return batched.train(federation.KNOWN, P, half, federation.HOW, seed=0)

    assert federation.epochs(lazy, federation.clients(4)) == 2


def test_an_engine_that_learns_something_else_is_an_error():
    other = federation.Engine("other", lambda P, some: P.mul_(2), 10)
    federation.check(federation.ENGINES, federation.clients(2))
    with pytest.raises(ValueError, match=r"other ends .* away from the plain loop, expected up to 1e-05"):
        federation.check([other], federation.clients(2))


def test_the_work_is_what_the_table_says():
    assert federation.flop() / 1e6 == COST
    assert federation.start(2).shape == (2, 20_357)
    assert len(federation.clients(3).X) == 600
    assert "federation" in page.names()
    assert not {"rivals", "common"} & set(page.names())


def test_threads_are_as_before_after_one_thread():
    before = torch.get_num_threads()
    with federation.one_thread():
        assert torch.get_num_threads() == 1
    with pytest.raises(ValueError, match="int"), federation.one_thread():
        int("none")
    assert torch.get_num_threads() == before


def test_the_section_has_a_line_for_each_engine_and_target(monkeypatch):
    monkeypatch.setattr(federation, "LEAST_S", 0.001)
    monkeypatch.setattr(federation, "LARGE", 4)
    monkeypatch.setattr(federation, "alone", federation.whole)  # without a process of its own
    monkeypatch.setattr(federation, "processes", lambda count, repetitions: {1: 3.0, 2: 2.0})
    monkeypatch.setattr(federation, "calibration", lambda: (COST, 1.0))
    away = federation.Rival("fluke, FedAvg", "fluke_fedavg.py", "rivals-nowhere", {3: 1})
    section = federation.run(sizes=(3, 5), repetitions=1, nodes=30, paired=20, rivals=[away])
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("|")]
    rates = {line[0]: line[1:] for line in lines if len(line) == 3}
    assert rates["client-epochs per CPU second"] == ["K = 3", "K = 5"]
    assert rates["limit of one core"] == ["1,000", "1,000"]
    assert rates["fluke, FedAvg"] == ["-", "-"]
    assert all(float(rate.replace(",", "")) > 1 for engine in federation.ENGINES for rate in rates[engine.name])
    assert "fluke, FedAvg: not installed: python -m benchmarks.federation --install-rivals" in section
    targets = {line[0]: line[1:] for line in lines if len(line) == 4}
    assert targets["two processes by one"] == ["1.50", ">= 1.7", "missed"]
    assert targets["the same, by fluke's FedAvg"] == ["-", ">= 10", ""]
    assert targets["peak memory"][2] in ("met", "missed")


def rival(folder: Path, code: str) -> federation.Rival:
    """A rival whose script, run by this interpreter, is `code`."""
    script = folder / "script.py"
    script.write_text(code)
    return type("Here", (federation.Rival,), {"python": Path(sys.executable)})("fluke, FedAvg", str(script), "", {3: 1, 9: 2})


def test_a_rival_says_what_it_counted(tmp_path):
    said = {"clients": 3, "client_epochs": 6.0, "cpu_seconds": 2.0, "version": "other 1.0"}
    versions: set[str] = set()
    here = rival(tmp_path, f"import sys; print('hello', sys.argv[1:]); print('''{json.dumps(said)}''')")
    assert federation.rates_of_rival(here, [3], versions) == {3: 3.0}
    assert versions == {"other 1.0"}


def test_a_rival_that_fails_is_named_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(federation, "ENGINES", (engine("ours"),))
    monkeypatch.setattr(federation, "LEAST_S", 0.001)
    found = federation.speeds([3], 1, [rival(tmp_path, "raise SystemExit('no such thing')")])
    assert found.missing == {"fluke, FedAvg": "failed: no such thing"}
    assert list(found.rates) == ["ours"]
    assert found.rates["ours"][3] > 1


def test_the_scripts_of_rivals_refuse_epochs_that_are_not_trained_and_the_network():
    # 200 rows are 7 steps: right for 7 clients, wrong for 6.
    code = """
import common, socket
def federate(clients, rounds):
    try:
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    except ConnectionError as error:
        print(error)
    common.trained.update(rows=200, steps=clients)
    return 0.5
common.told("torch", federate)
"""
    folder = Path(federation.__file__).parent / "rivals"
    answer = subprocess.run([sys.executable, "-c", code, "7:1", "6:1"], cwd=folder, capture_output=True, text=True)
    refused, line, *_ = answer.stdout.splitlines()
    assert "benchmarks reach no network" in refused
    assert json.loads(line) | {"version": ""} == {"clients": 7, "client_epochs": 1.0, "cpu_seconds": 0.5, "version": ""}
    assert answer.returncode == 1
    assert "1.0 epochs are 7.0 batches, but the optimiser made 6 steps" in answer.stderr


def test_the_speed_of_ours_is_not_that_of_an_empty_loop(monkeypatch):
    monkeypatch.setattr(federation, "LEAST_S", 0.01)
    done = {3: federation.epochs(engine("ours").train, federation.clients(3))}
    rate = federation.rates_of(engine("ours"), federation.clients(3), done)[3]
    assert 1 < rate < 1e6
    assert np.isfinite(rate)
