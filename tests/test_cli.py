"""The commands: they start quickly, ask before they download, and say what is wrong in one line."""

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import Result
from typer.testing import CliRunner

from fliot_lab import ROOT, cli
from fliot_lab.course import build, grading, release, run
from fliot_lab.data import download, iot23, packets, sample, zeek
from fliot_lab.data.sample.packets import Endpoint, packed, udp, write_pcap
from fliot_lab.data.sample.setups import generate_setups

HEAVY = {"numpy", "pandas", "polars", "pyarrow", "scipy", "sklearn", "torch", "matplotlib", "papermill", "jupytext"}


def fliot(*words: Any) -> Result:
    """What `fliot WORDS` does, in this process and without a terminal. An error that it did not expect is raised."""
    answer = CliRunner().invoke(cli.app, [str(word) for word in words], env={"COLUMNS": "200", "NO_COLOR": "1"})
    if answer.exception is not None and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    return answer


def said(answer: Result) -> str:
    """The error message on one line, without the frame that Typer draws around it."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", answer.stderr).split())


def test_help_imports_nothing_heavy() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "fliot_lab.cli", "--help"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0
    for word in ("Usage:", "data", "course", "federated learning"):
        assert word in answer.stdout
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in answer.stderr.splitlines()}
    assert "typer" in imported  # the list is one
    assert imported.isdisjoint(HEAVY)


def test_every_command_explains_itself() -> None:
    commands = {
        "data": ["fetch", "sample", "setups", "hosts", "parquet", "flows"],
        "course": ["build", "run", "check", "grade", "release"],
    }
    for words in (["fingerprint"], *([group, name] for group, names in commands.items() for name in names)):
        answer = fliot(*words, "--help")
        assert answer.exit_code == 0
        assert f"{' '.join(words)} [OPTIONS]" in answer.stdout
    assert fliot().exit_code != 0
    assert fliot("data", "nonsense").exit_code == 2
    assert "No such command 'nonsense'" in said(fliot("data", "nonsense"))


def test_the_installed_script_is_this_program() -> None:
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]["fliot"]
    module, _, name = entry.partition(":")
    assert getattr(importlib.import_module(module), name) is cli.app


# --- data --------------------------------------------------------------------------------------------------------------


def test_sample_writes_captures_and_says_where(tmp_path: Path) -> None:
    out = tmp_path / "sample"
    answer = fliot("data", "sample", out, "--seed", 3, "--size", 2000)
    assert answer.exit_code == 0
    paths = [Path(line) for line in answer.stdout.splitlines()]
    assert len(paths) == 8
    assert sum(len(zeek.read_conn_log(path)) for path in paths) == 2000
    assert set(paths) == set(iot23.captures(out).values())
    first = [path.read_bytes() for path in paths]
    assert fliot("data", "sample", out, "--seed", 3, "--size", 2000).exit_code == 0
    assert [path.read_bytes() for path in paths] == first
    assert fliot("data", "sample", out, "--seed", 4, "--size", 2000).exit_code == 0
    assert [path.read_bytes() for path in paths] != first


def test_sample_writes_a_scenario_with_its_malware(tmp_path: Path) -> None:
    options = ("--seed", 3, "--size", 1500, "--scenario", "city", "--malware", "mirai, torii")
    answer = fliot("data", "sample", tmp_path / "city", *options)
    assert answer.exit_code == 0
    paths = [Path(line) for line in answer.stdout.splitlines()]
    assert paths == list(iot23.captures(tmp_path / "city").values())
    assert [path.parts[-3] for path in paths] == [
        f"SIM-City-{kind}-1"
        for kind in (
            "Honeypot-Capture-1",
            "Malware-Capture-1",
            "Malware-Capture-2",
        )
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "1"], f"fliot: size=1: expected a whole number, {sample.SMALLEST_SIZE} or more"),
        (["--seed", "-1"], "fliot: seed=-1: expected a whole number, 0 or more"),
        (["--scenario", "farm"], "fliot: scenario='farm' is unknown; choose one of home, hospital, factory, city"),
        (["--malware", "zeus"], f"fliot: malware='zeus' is unknown; choose from {', '.join(sample.FAMILIES)}"),
    ],
)
def test_sample_refuses(tmp_path: Path, options: list[str], message: str) -> None:
    answer = fliot("data", "sample", tmp_path / "new", *options)
    assert (answer.exit_code, answer.stderr.strip()) == (1, message)
    assert not (tmp_path / "new").exists()
    (tmp_path / "mine.txt").write_text("mine")
    answer = fliot("data", "sample", tmp_path)
    assert answer.exit_code == 1
    assert "holds other things" in answer.stderr


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that were fetched from, of which nothing comes."""
    urls: list[str] = []
    monkeypatch.setattr(download, "fetch_file", lambda url, *_, **__: urls.append(url))
    return urls


def test_fetch_without_consent_fetches_nothing_and_says_how_to_agree(tmp_path: Path, fetched: list[str]) -> None:
    answer = fliot("data", "fetch", "--root", tmp_path / "raw")
    assert answer.exit_code == 1
    assert fetched == []
    assert "doi 10.5281/zenodo.4743746" in answer.stdout  # the terms come first
    assert answer.stderr.startswith("fliot: nothing was downloaded")
    assert "--yes" in answer.stderr
    assert "Traceback" not in answer.output
    assert len(answer.stderr.splitlines()) == 1
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize(
    ("words", "captures", "rows"),
    [([], 9, None), (["34-1"], 1, None), (["--study"], 23, iot23.STUDY_ROWS), (["--all"], 23, None)],
)
def test_fetch_takes_what_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fetched: list[str], words: list[str], captures: int, rows: int | None
) -> None:
    asked = []
    monkeypatch.setattr(download, "fetch_file", lambda url, *_, **options: (fetched.append(url), asked.append(options["rows"])))
    assert fliot("data", "fetch", *words, "--yes", "--root", tmp_path).exit_code == 0
    assert len(fetched) == captures
    assert set(asked) == {rows}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--study", "--all"], "--study is the beginning of every capture, --all the whole of it; choose one"),
        (["34-1", "--study"], "--study and --all take every capture; name captures or give one of the two"),
        (["34-1", "--all"], "--study and --all take every capture; name captures or give one of the two"),
    ],
)
def test_fetch_refuses_what_contradicts_itself(fetched: list[str], words: list[str], message: str) -> None:
    answer = fliot("data", "fetch", "--yes", *words)
    assert answer.exit_code == 2
    assert message in said(answer)
    assert fetched == []


def test_fetch_says_what_went_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fetched: list[str]) -> None:
    answer = fliot("data", "fetch", "99-1", "--yes", "--root", tmp_path)
    assert answer.exit_code == 1
    assert answer.stderr.startswith("fliot: capture '99-1' is not there; IoT-23 has ")

    def unreachable(url: str, *_: Any, **__: Any) -> None:
        raise download.Unreachable(f"{url} cannot be reached")

    monkeypatch.setattr(download, "fetch_file", unreachable)
    answer = fliot("data", "fetch", "34-1", "--yes", "--root", tmp_path)
    assert answer.exit_code == 1
    assert "cannot be reached. Everything but this works offline, with dataset='sample'" in answer.stderr
    assert "Traceback" not in answer.output


def test_parquet_converts_and_refuses(tmp_path: Path) -> None:
    (log, *_) = sample.generate(tmp_path / "sample", seed=3, size=2000)
    out = tmp_path / "flows.parquet"
    flows = zeek.read_conn_log(log)
    answer = fliot("data", "parquet", log, out)
    assert (answer.exit_code, answer.stdout.strip()) == (0, f"{len(flows):,} flows in {out}")
    assert out.is_file()
    bad = tmp_path / "bad.log"
    bad.write_text("no conn log\n")
    for path in (tmp_path / "missing.log", bad):
        answer = fliot("data", "parquet", path, tmp_path / "none.parquet")
        assert answer.exit_code == 1
        assert answer.stderr.startswith("fliot: ")
        assert str(path) in answer.stderr
        assert not (tmp_path / "none.parquet").exists()


@pytest.mark.parametrize(("command", "option"), [("setups", "--setups"), ("hosts", "--hours")])
def test_packets_and_hosts_are_simulated_into_a_folder_of_their_own(tmp_path: Path, command: str, option: str) -> None:
    answer = fliot("data", command, tmp_path / "out", "--seed", 3, option, 1)
    assert answer.exit_code == 0, answer.stderr
    made = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert int(answer.stdout.split()[0]) <= len(made)
    assert "SIMULATED" in (tmp_path / "out" / "README.txt").read_text()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    answer = fliot("data", command, tmp_path / "mine")
    assert (answer.exit_code, len(answer.stderr.splitlines())) == (1, 1)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


# --- course ------------------------------------------------------------------------------------------------------------


def test_run_hands_over_what_was_asked_and_the_status_back(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def record(*arguments: Any, **options: Any) -> int:
        calls.append((arguments, options))
        return 130

    monkeypatch.setattr(run, "run", record)
    assert fliot("course", "run").exit_code == 130
    words = ["--profile", "full", "--data", "iot23", "--lessons", "01, 03 05", "--seed", 3, "--reference", "--shuffle", 5]
    assert fliot("course", "run", *words).exit_code == 130
    assert calls == [
        (("fast", "auto", [], 7), {"keep_as_reference": False, "shuffle": None}),
        (("full", "iot23", ["01", "03", "05"], 3), {"keep_as_reference": True, "shuffle": 5}),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--profile", "slow"], "fliot: profile='slow' is unknown; choose one of fast, full"),
        (["--lessons", "77"], "fliot: there is no lesson 77; choose from "),
        (["--data", "mnist"], "fliot: dataset='mnist' is unknown; choose one of auto, iot23, sample"),
    ],
)
def test_run_refuses_what_is_unknown(words: list[str], message: str) -> None:
    answer = fliot("course", "run", *words)
    assert answer.exit_code == 1
    assert answer.stderr.startswith(message)
    assert len(answer.stderr.splitlines()) == 1


def test_run_says_where_data_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIOT_DATA", str(tmp_path))
    answer = fliot("course", "run", "--data", "iot23")
    assert answer.exit_code == 1
    assert answer.stderr.startswith(f"fliot: FLIOT_DATA={tmp_path}, but ")


def test_build_names_what_it_wrote_and_what_a_lesson_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / "01_first.ipynb", tmp_path / "02_second.ipynb"]
    monkeypatch.setattr(build, "build", lambda: paths)
    answer = fliot("course", "build")
    assert (answer.exit_code, answer.stdout.splitlines(), answer.stderr) == (0, [str(path) for path in paths], "")
    (tmp_path / "03_bare.py").write_text("# %% [markdown]\n# # Bare\n")
    monkeypatch.setattr(build, "SOURCE", tmp_path)
    answer = fliot("course", "build")
    assert answer.exit_code == 1
    assert "03_bare.py lacks a formula set apart by $$" in answer.stderr


def test_build_says_where_a_source_is_malformed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "03_bare.py").write_text('# %% tags=["chekc"]\n1\n')
    entry = {"objectives": "", "before": "", "minutes": 1, "words": []}
    monkeypatch.setattr(build, "SOURCE", tmp_path)
    monkeypatch.setattr(build, "facts", lambda: {"lesson": {"03_bare": entry}, "glossary": {}})
    answer = fliot("course", "build")
    assert (answer.exit_code, len(answer.stderr.splitlines())) == (1, 1)
    assert answer.stderr.startswith("fliot: 03_bare.py:1: unknown tag 'chekc'")


def test_check_hands_over_the_lesson_and_the_status_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(grading, "check_lesson", lambda *arguments: calls.append(arguments) or 1)
    monkeypatch.chdir(tmp_path)
    assert fliot("course", "check", "3").exit_code == 1
    (tmp_path / "work").mkdir()
    assert fliot("course", "check", "03").exit_code == 1
    assert fliot("course", "check", "03", "--work", tmp_path).exit_code == 1
    assert calls == [("03", Path()), ("03", Path("work")), ("03", tmp_path)]


def test_grade_hands_over_what_was_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def record(*arguments: Any, **options: Any) -> Path:
        calls.append((arguments, options))
        return tmp_path / "grades.csv"

    monkeypatch.setattr(grading, "grade", record)
    answer = fliot("course", "grade", tmp_path)
    assert (answer.exit_code, answer.stdout.splitlines()) == (0, [str(tmp_path / "grades.csv")])
    words = ["--out", tmp_path / "out", "--lessons", "01, 03", "--limit-s", 2.5, "--memory-mb", 512, "--jobs", 1]
    assert fliot("course", "grade", tmp_path, *words).exit_code == 0
    assert calls == [
        ((tmp_path, Path("grades")), {"numbers": [], "limit_s": 10, "memory_mb": 2048, "jobs": 2}),
        ((tmp_path, tmp_path / "out"), {"numbers": ["01", "03"], "limit_s": 2.5, "memory_mb": 512, "jobs": 1}),
    ]


def test_release_names_the_zip_or_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "release", lambda out: out / "course.zip")
    assert fliot("course", "release", tmp_path).stdout.splitlines() == [str(tmp_path / "course.zip")]

    def refuse(out: Path) -> Path:
        raise ValueError("this is a student's copy")

    monkeypatch.setattr(release, "release", refuse)
    answer = fliot("course", "release", tmp_path)
    assert (answer.exit_code, answer.stderr) == (1, "fliot: this is a student's copy\n")


def test_flows_converts_packets_and_refuses(tmp_path: Path) -> None:
    assert fliot("data", "setups", tmp_path / "setups", "--seed", 3, "--setups", 1).exit_code == 0
    capture = sorted(tmp_path.glob("setups/*/*.pcap"))[0]
    seen = packets.read_packets(capture)
    flows, out = packets.to_conn_log(seen), tmp_path / "conn.log"
    answer = fliot("data", "flows", capture, out)
    assert (answer.exit_code, answer.stderr) == (0, "")
    assert answer.stdout.strip() == f"{len(flows):,} flows from {len(seen):,} packets in {out}"
    pd.testing.assert_frame_equal(zeek.read_conn_log(out), flows)

    damaged = tmp_path / "damaged.pcap"
    data = bytearray(capture.read_bytes()[:-1])
    data[24 + 16 + 60] ^= 1  # of the first packet's content
    damaged.write_bytes(data)
    answer = fliot("data", "flows", damaged, tmp_path / "damaged.log.gz")
    assert answer.exit_code == 0
    assert "the file ends inside a record" in answer.stderr
    assert f"from {len(seen) - 1:,} packets" in answer.stdout
    assert len(zeek.read_conn_log(tmp_path / "damaged.log.gz")) <= len(flows)

    before = capture.read_bytes()
    nonsense = tmp_path / "nonsense.pcap"
    nonsense.write_text("no packets")
    for path, target in ((capture, capture), (tmp_path / "missing.pcap", tmp_path / "none"), (nonsense, tmp_path / "none")):
        answer = fliot("data", "flows", path, target)
        assert answer.exit_code == 1
        assert answer.stderr.startswith("fliot: ")
        assert str(path) in answer.stderr
    assert capture.read_bytes() == before
    assert not (tmp_path / "none").exists()


def test_flows_tells_of_wrong_checksums(tmp_path: Path) -> None:
    capture = tmp_path / "wrong.pcap"
    source, target = Endpoint(bytes(6), packed("192.0.2.1")), Endpoint(bytes(6), packed("192.0.2.2"))
    right = udp(source, target, 4000, 4001, b"hello")
    write_pcap(capture, [(0.0, right), (1.0, right[:-1] + b"!")])
    answer = fliot("data", "flows", capture, tmp_path / "conn.log")
    assert "1 packets with wrong checksums do not count; see --ignore-checksums" in answer.stderr
    assert zeek.read_conn_log(tmp_path / "conn.log")["orig_pkts"].tolist() == [1]
    answer = fliot("data", "flows", capture, tmp_path / "conn.log", "--ignore-checksums")
    assert answer.stderr == ""
    assert zeek.read_conn_log(tmp_path / "conn.log")["orig_pkts"].tolist() == [2]


def test_fingerprint_names_a_known_device_and_says_what_is_wrong(tmp_path: Path) -> None:
    known = tmp_path / "known"
    generate_setups(known, 3, devices=["JuntoxCam", "ZindleKettle"], setups=5)
    asked = generate_setups(tmp_path / "asked", 4, devices=["ZindleKettle"], setups=1)[0]
    answer = fliot("fingerprint", asked, "--known", known)
    assert (answer.exit_code, answer.stderr) == (0, "")
    assert answer.stdout.splitlines()[0].partition(": ")[2].startswith("ZindleKettle (confidence ")
    assert "because of" in answer.stdout
    again = fliot("fingerprint", asked, "--known", known, "--follow", "--idle", 0.2)
    assert again.stdout == answer.stdout

    (tmp_path / "text.pcap").write_text("this is no capture, whatever it is called")
    (tmp_path / "one").mkdir()
    (known / "JuntoxCam").rename(tmp_path / "one" / "JuntoxCam")
    for words, problem in (
        (("fingerprint", tmp_path / "text.pcap", "--known", known), "text.pcap"),
        (("fingerprint", tmp_path / "missing.pcap", "--known", known), "missing.pcap"),
        (("fingerprint", asked, "--known", tmp_path / "one"), "telling them apart takes two or more"),
        (("fingerprint", asked, "--known", tmp_path / "nowhere"), "holds no set-ups"),
        (
            ("fingerprint", asked, "--device", "02:00:00:00:00:09", "--known", known),
            "no packet is from or to 02:00:00:00:00:09",
        ),
    ):
        answer = fliot(*words)
        assert (answer.exit_code, len(answer.stderr.splitlines())) == (1, 1), answer.stderr
        assert problem in answer.stderr
    for words in ((), (asked, "--host")):
        answer = fliot("fingerprint", *words)
        assert answer.exit_code == 2
        assert "name a capture, or give --host" in said(answer)
