"""`fliot train` and `fliot detect`, as a person types them."""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import Result
from typer.testing import CliRunner

from fliot_lab import cli
from fliot_lab.data import iot23, sample, zeek
from fliot_lab.models import saved, training
from fliot_lab.models.trees import forest


def fliot(*words: Any) -> Result:
    """What `fliot WORDS` does, in this process. An error that it did not expect is raised."""
    answer = CliRunner().invoke(cli.app, [str(word) for word in words], env={"COLUMNS": "200", "NO_COLOR": "1"})
    if answer.exception is not None and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    return answer


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of simulated captures."""
    root = tmp_path_factory.mktemp("captures") / "sim"
    sample.generate(root, seed=7, size=3000)
    return root


@pytest.fixture(scope="module")
def trained(sim: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """What `fliot train` said of four of them, and the model."""
    model = tmp_path_factory.mktemp("models") / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "forest", partial(forest, trees=5))
        return fliot("train", *list(iot23.captures(sim).values())[2:6], model, "--false-alarm-rate", 0.02), model


def test_training_says_what_it_read_how_it_did_and_where_it_lies(trained: tuple[Result, Path]) -> None:
    answer, model = trained
    assert answer.exit_code == 0
    card = saved.load(model).card
    assert card["training"]["contradictions"] == "as given"
    for row in card["training"]["logs"]:
        assert f"{row['log']}: {row['flows']:,} flows, " in answer.stderr
    assert answer.stderr.count("Leaving out") == 4
    assert "Judged by capture, by models that had not learnt it; 2.00% false alarms promised:" in answer.stdout
    for row in card["evaluation"]["captures"]:
        assert f"{row['capture']}: {row['false_alarms']:,} false alarms on {row['benign']:,} benign flows" in answer.stdout
    assert "Mind: Learnt from SIMULATED flows (4 of 4 logs)" in answer.stdout
    assert f"{model}: Cascade of {len(card['features'])} features, which names " in answer.stdout


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_detection_tells_the_alarms_and_writes_them(
    suffix: str, sim: Path, trained: tuple[Result, Path], tmp_path: Path
) -> None:
    log, alarms = list(iot23.captures(sim).values())[3], tmp_path / "new" / f"alarms{suffix}"
    answer = fliot("detect", log, "--model", trained[1], "--out", alarms)
    assert answer.exit_code == 0
    assert "The model learnt from SIMULATED flows" in answer.stderr
    flows = zeek.read_conn_log(log)
    told = re.search(r"([\d,]+) flows, ([\d,]+) alarms", answer.stdout)
    assert told is not None
    assert told[1] == f"{len(flows):,}"
    written = pd.read_csv(alarms) if suffix == ".csv" else pd.DataFrame(map(json.loads, alarms.read_text().splitlines()))
    assert told[2] == f"{len(written):,}"
    assert f"{len(written):,} alarms in {alarms}" in answer.stdout
    assert set(written["uid"]) < set(flows["uid"])
    assert "Benign" not in set(written["answer"])
    flagged = written["label"] != "Benign"
    assert f"By the log's labels: {flagged.sum():,} of {(flows['label'] != 'Benign').sum():,} attacks flagged" in answer.stdout
    assert len(re.findall(r"^  \S+ -> \S+ port \d+/\w+: .*, [\d,]+ flows, score ", answer.stdout, re.MULTILINE)) <= 10


def test_a_quiet_log_is_no_error(sim: Path, trained: tuple[Result, Path], tmp_path: Path) -> None:
    flows = zeek.read_conn_log(next(iter(iot23.captures(sim).values())))
    zeek.write_conn_log(flows[:0].drop(columns=["label", "label_original"]), tmp_path / "conn.log")
    answer = fliot("detect", tmp_path / "conn.log", "--model", trained[1], "--out", tmp_path / "alarms.csv")
    assert answer.exit_code == 0
    assert "0 flows, 0 alarms" in answer.stdout
    assert len((tmp_path / "alarms.csv").read_text().splitlines()) == 1


def test_a_model_that_was_changed_is_refused(sim: Path, trained: tuple[Result, Path], tmp_path: Path) -> None:
    log = list(iot23.captures(sim).values())[3]
    for path in sorted(trained[1].rglob("*.*")):
        copy = tmp_path / path.relative_to(trained[1])
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    card = tmp_path / "detector" / "card.json"
    card.write_text(card.read_text().replace('"threshold": ', '"threshold": 1'))
    answer = fliot("detect", log, "--model", tmp_path)
    assert answer.exit_code == 1
    assert "card.json is not the file that was saved; take an unchanged copy, or train again" in answer.stderr
    assert not answer.stdout


def test_errors_are_one_line_and_write_nothing(sim: Path, trained: tuple[Result, Path], tmp_path: Path) -> None:
    log = list(iot23.captures(sim).values())[3]
    (tmp_path / "conn.log").write_text("no log\n")
    cases = [
        (["train", tmp_path / "none", tmp_path / "model"], "does not exist; name conn logs, or folders that hold them"),
        (["train", tmp_path, tmp_path / "model"], "conn.log, line 1: has no #fields header"),
        (["train", log, sim], "exists and is no saved model, or not that alone; name a new folder"),
        (["train", log, tmp_path / "model", "--benign"], "was said to be benign, and its labels name"),
        (["train", log, tmp_path / "model", "--features", "x"], "features='x' is unknown; choose one of flows, context"),
        (
            ["train", log, tmp_path / "model", "--contradictions", "x"],
            "contradictions='x' is unknown; choose one of as given, d",
        ),
        (["detect", log, "--model", sim], "has no card.json, so it is no saved model"),
        (["detect", tmp_path / "conn.log", "--model", trained[1]], "conn.log, line 1: has no #fields header"),
        (["detect", log, "--model", trained[1], "--out", tmp_path / "a.txt"], "alarms are written as .csv or .jsonl"),
    ]
    for words, message in cases:
        answer = fliot(*words)
        assert answer.exit_code == 1
        assert message in answer.stderr
        assert answer.stderr.splitlines()[-1].startswith("fliot: ")
    assert [path.name for path in tmp_path.iterdir()] == ["conn.log"]


def test_both_commands_explain_themselves() -> None:
    assert "train [OPTIONS] LOGS... OUT" in fliot("train", "--help").stdout
    assert "detect [OPTIONS] LOG" in fliot("detect", "--help").stdout
    assert fliot("detect", "conn.log").exit_code == 2  # without --model
