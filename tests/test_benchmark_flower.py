"""The benchmark of Flower: equal parameters whoever runs it, no process that outlives it, and failures by name."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks import __main__ as page
from benchmarks import flower

RUN = flower.Run(0.5, 1.0, 10.0, 20.0, 40, 3, [1.0, 2.0], ["other 1.0"], 300.4)


@pytest.fixture(scope="module")
def watches() -> dict[str, flower.Stopwatch]:
    return {name: flower.OURS[name](3) for name in (flower.HERE, flower.SIMULATOR)}


def test_the_grid_and_the_simulator_end_with_the_same_parameters(watches):
    one, other = (np.asarray(watch.found["parameters"]) for watch in watches.values())
    assert one.shape == other.shape
    assert np.abs(one - other).max() < 1e-3
    assert np.abs(one - other).mean() < 1e-5
    assert np.abs(one).max() > 0.01


def test_a_stopwatch_tells_what_a_run_reads(watches, capsys):
    for watch in watches.values():
        watch.tell("numpy")
        said = flower.json.loads(capsys.readouterr().out)
        found = flower.Run(**said, peak_mb=1.0)
        assert found.rounds == 2  # the first is not among them
        assert min(found.start_s, found.first_s, found.seconds) > 0.0
        assert found.cpu_seconds > 0.02
        assert found.processes >= 1
        assert found.versions == [f"numpy {np.__version__}"]


def test_cpu_seconds_hold_those_of_children_that_run():
    code = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ntime.sleep(60)"
    before = flower.tree_cpu_seconds()
    with subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        spent, there = flower.tree_cpu_seconds() - before, flower.tree(psutil.Process())
        child.kill()
    assert 0.25 < spent < 3
    assert child.pid in [process.pid for process in there]


# Starts a process that leaves the group, as Ray's do, and whose parent ends before it.
LEAVES = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"], process_group=0)
open({file!r}, "w").write(str(child.pid))
"""


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("ends", "limit_s", "why"),
    [
        ("raise SystemExit('no such thing')", 30, "exit status 1, no such thing"),
        ("import os; os.abort()", 30, "ended by SIGABRT, without a word"),
        ("time.sleep(600)", 0.5, "not done after 0.5 s"),
        ("print('nothing of use')", 30, "exit status 0, without a word"),
    ],
)
def test_a_run_that_fails_says_why_and_leaves_no_process(ends, limit_s, why, tmp_path):
    file = tmp_path / "pid"
    with pytest.raises(subprocess.SubprocessError) as caught:
        flower.alone([sys.executable, "-S", "-c", LEAVES.format(file=str(file)) + ends], limit_s)
    assert flower.reason(caught.value) == why
    assert gone(int(file.read_text()))


def test_a_run_tells_its_figures_and_its_memory():
    said = RUN._asdict()
    del said["peak_mb"]
    code = f"import time; ballast = b'1' * 100_000_000; time.sleep(0.5); print('hello'); print('''{flower.json.dumps(said)}''')"
    found = flower.alone([sys.executable, "-S", "-c", code])
    assert found == RUN._replace(peak_mb=found.peak_mb)
    assert 100 < found.peak_mb < 200


def lines(section: str) -> dict[str, list[str]]:
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("|")]
    return {line[0]: line[1:] for line in cells}


def runs(rates: dict[str, float], said: dict[str, Exception]):
    """In place of `alone`: runs with these rounds per second, or an error."""

    def alone(command: list[str]) -> flower.Run:
        name = next((name for name in flower.OURS if repr(name) in command[-1]), flower.RAY)
        if name in said:
            raise said[name]
        return RUN._replace(seconds=RUN.rounds / rates[name])

    return alone


def test_the_section_has_a_line_for_each_and_for_each_target(monkeypatch):
    rates = {flower.RAY: 2.0, flower.HERE: 3.0, flower.TWO: 5.0, flower.SIMULATOR: 15.0}
    monkeypatch.setattr(flower, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(flower, "alone", runs(rates, {}))
    section = flower.run(repetitions=2)
    assert section.startswith("## Flower\n\nSIMULATED")
    found = lines(section)
    assert found[flower.RAY] == ["0.50", "1.00", "2.00", "2.00", "300", "3"]
    assert found[flower.SIMULATOR][2] == "15.00"
    assert found["start-up of the grid, in process"] == ["0.50 s", "< 1 s", "met"]
    assert found["rounds per s: grid, 2 workers, by Ray"] == ["2.50", ">= 2", "met"]
    assert found["rounds per s: simulator, by Ray"] == ["7.50", ">= 8", "missed"]
    assert found["parameters of any two, furthest apart"] == ["0.0e+00", "<= 0.02", "met"]
    assert "failed" not in section
    assert f"{flower.RAY}: other 1.0, 2 actors" in section


def test_ray_that_fails_is_named_and_has_no_verdict(monkeypatch):
    monkeypatch.setattr(flower, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(
        flower, "alone", runs(dict.fromkeys(flower.NAMES, 3.0), {flower.RAY: subprocess.TimeoutExpired([], 180)})
    )
    section = flower.run(repetitions=2)
    assert lines(section)[flower.RAY] == ["-"] * 6
    assert lines(section)["rounds per s: simulator, by Ray"] == ["-", ">= 8", ""]
    assert f"{flower.RAY}: 2 of 2 runs failed: not done after 180 s." in section


def test_ray_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(flower, "PYTHON", Path("nowhere"))
    monkeypatch.setattr(flower, "alone", runs(dict.fromkeys(flower.OURS, 3.0), {}))
    section = flower.run(repetitions=1)
    assert f"{flower.RAY}: not measured: not installed: python -m benchmarks.flower --install-rivals." in section


def test_ours_that_fails_is_an_error(monkeypatch):
    said = {flower.TWO: subprocess.CalledProcessError(1, [], stderr="a\nno memory\n")}
    monkeypatch.setattr(flower, "PYTHON", Path("nowhere"))
    monkeypatch.setattr(flower, "alone", runs(dict.fromkeys(flower.OURS, 3.0), said))
    with pytest.raises(RuntimeError, match="grid, 2 workers: exit status 1, no memory"):
        flower.run(repetitions=1)


def test_parameters_that_differ_show():
    found = {flower.HERE: [RUN], flower.TWO: [], flower.SIMULATOR: [RUN, RUN._replace(parameters=[1.0, 2.5])]}
    assert flower.apart(found) == 0.5
    assert flower.apart({flower.HERE: [RUN]}) == 0


def test_it_is_part_of_the_page():
    assert "flower" in page.names()
