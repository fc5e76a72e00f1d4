"""The measuring harness sees known work and known memory, and the benchmarks run end to end on little data."""

import re
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks import __main__ as page
from benchmarks import classification, detection, measure, reading, serving
from fliot_lab.data import iot23

BURN = "import time\nwhile time.process_time() < {seconds}: pass"


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_cpu_seconds_are_those_of_the_work_and_not_those_of_waiting():
    spent = measure.interleaved({"work": lambda: burn(0.05), "wait": lambda: time.sleep(0.05)}, repetitions=3)
    assert {name: len(values) for name, values in spent.items()} == {"work": 3, "wait": 3}
    assert 0.05 <= min(spent["work"]) < 0.08
    assert min(spent["wait"]) < 0.02


def test_cpu_seconds_hold_those_of_children():
    before = measure.cpu_seconds()
    subprocess.run([sys.executable, "-S", "-c", BURN.format(seconds=0.2)], check=True)
    assert measure.cpu_seconds() - before >= 0.17  # the system counts children in steps of 0.01 s


def test_every_result_is_checked():
    seen = []
    measure.interleaved({"a": lambda: 1, "b": lambda: 2}, repetitions=2, check=lambda name, found: seen.append((name, found)))
    assert sorted(seen) == [("a", 1)] * 3 + [("b", 2)] * 3


def test_ratios_are_to_the_first_and_by_medians():
    assert measure.ratios({"first": [2, 1, 9], "second": [3, 5, 4]}) == {"first": 1, "second": 2}


def test_peak_memory_is_that_of_the_child_alone():
    ballast = b"\1" * 200_000_000  # a child starts from its parent's memory in some of the system's counts
    (none, _), (much, size) = (measure.peak_mb(eval, code, repetitions=1) for code in ("b''", "b'1' * 200_000_000"))
    assert size == 200_000_000
    assert 195 < much - none < 215
    assert none < 150
    del ballast


def test_a_child_that_fails_is_an_error_and_shows_why(capfd):
    with pytest.raises(subprocess.CalledProcessError):
        measure.peak_mb(eval, "1 / 0", repetitions=1)
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_reading_gives_a_line_for_every_reader_and_checks_their_rows():
    section = reading.run(rows=2000, repetitions=1, memory_repetitions=1)
    assert "SIMULATED" in section.splitlines()[0]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("|")]
    assert lines[0] == ["reader", "CPU s per million rows", "ratio to bare polars", "peak MB", "target", "met"]
    assert [line[0] for line in lines[2:-1]] == [reader.name for reader in reading.READERS]
    assert lines[2][2] == "1.00"
    assert all(float(line[3].replace(",", "")) > 20 for line in lines[2:])
    assert all((line[5] in ("yes", "no")) == bool(line[4]) for line in lines[2:])


def test_a_reader_that_loses_rows_is_an_error(monkeypatch):
    monkeypatch.setattr(reading, "READERS", (reading.Reader("forgetful", lambda path: 1999),))
    with pytest.raises(ValueError, match="forgetful gave 1,999 rows of a log of 2,000"):
        reading.run(rows=2000, repetitions=1, memory_repetitions=1)


@pytest.mark.parametrize(("ratio", "mb", "met"), [(1.6, 1100, "yes"), (1.7, 1100, "no"), (1.6, 1101, "no")])
def test_a_target_is_met_when_all_its_limits_are_kept(ratio, mb, met):
    reader = reading.Reader("any", reading.ours_pandas, most_ratio=1.6, most_mb=1100)
    assert reader.target() == "<= 1.6 x, <= 1,100 MB"
    assert reader.met(ratio, 99, mb) == met


def test_calibration_gives_rates_that_machines_have():
    multiplied, copied = page.calibration(repetitions=1)
    assert 0.5 < multiplied < 5000
    assert 0.2 < copied < 500


def test_the_page_describes_the_machine_and_appears_when_it_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "calibration", lambda: (95.8, 6.5))
    path = tmp_path / "results" / "BENCHMARKS.md"
    page.write_page([page.description(), "## One", "## Two"], path)
    text = path.read_text()
    assert text.startswith("# Benchmarks\n")
    assert "\n\nMeasured 20" in text
    assert "\nCALIBRATION: GEMM 95.8 GFLOP/s, memory copy 6.5 GB/s" in text
    assert text.endswith("## One\n\n## Two\n")
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_every_module_of_the_folder_but_the_harness_is_a_benchmark():
    assert "reading" in page.names()
    assert not {"measure", "__main__"} & set(page.names())


def test_serving_gives_a_line_for_each_cost() -> None:
    section = serving.run(rows=3000, trained=300, repetitions=1, dataset="sample")
    assert "SIMULATED" in section
    for what in ("context of 3,000 flows", "on 300 flows", "3,000 flows, ONNX Runtime", "one row of a forest"):
        assert what in section
    assert section.count(" met") + section.count(" missed") == 4


def test_detection_judges_every_capture_that_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = detection.networks("sample", set_ups=1)
    names = whole.captures[:2] + whole.captures[-1:]
    kept = np.flatnonzero(np.isin(whole.network, [*names, detection.TRAINED, detection.TESTED]))[::8]
    parts = (whole.X, whole.attack, whole.doubtful, whole.network)
    few = detection.Networks(whole.flows.iloc[kept].reset_index(drop=True), *(part[kept] for part in parts))
    monkeypatch.setattr(detection, "networks", lambda dataset, set_ups: few)
    some = {name: detection.CANDIDATES[name] for name in ("autoencoder, context", "all three")}
    monkeypatch.setattr(detection, "CANDIDATES", some)
    monkeypatch.setattr(detection, "BASELINES", {"PCA, flow": detection.BASELINES["PCA, flow"]})
    section = detection.run(seeds=1, dataset="sample")
    assert "SIMULATED" in section
    assert section.count(" *") == len(names)  # one chosen for each
    for name in names:
        assert (
            section.count(f"| {name} ") == 1 + 1 + 1 + 2 + 2 + 1
        )  # chosen, all three, baseline, two rules, two candidates, as given
    assert section.count("Target, attacks flagged >= 0.95") == 2


def test_naming_gives_a_line_for_each_model_and_split() -> None:
    section = classification.run(seeds=1, dataset="sample", every=40)
    assert "SIMULATED" in section
    for split in (classification.RANDOM, classification.TIME, classification.CAPTURE):
        for model in classification.MODELS:
            assert re.search(rf"\| {re.escape(split)} +\| +{model} ", section)
    flows = iot23.load("small", dataset="sample").iloc[::40]
    attacked = flows.loc[flows["label"] != "Benign", "capture"].unique()
    assert sum(f"{name} left out" in section for name in attacked) == len(attacked) > 1
    assert re.search(r"\| Okiru +\|", section)
