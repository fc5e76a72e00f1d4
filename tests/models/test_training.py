"""From conn logs to a saved model: what is held out stays out, thresholds keep their promise, and bad logs are named."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fliot_lab.data import iot23, sample, zeek
from fliot_lab.features import matrix
from fliot_lab.models import saved, training
from fliot_lab.models.autoencoder import LinearAutoencoder
from fliot_lab.models.cascade import Cascade
from fliot_lab.models.saved import ServedCascade, ServedDetector, alerts
from fliot_lab.models.training import EARLY, FEATURES, Capture, Learning, train
from fliot_lab.models.trees import forest


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector and a classifier that learn in milliseconds: what is tested is what they are given."""
    monkeypatch.setattr(training, "detector", lambda seed, rate: LinearAutoencoder(bottleneck=2, false_alarm_rate=rate))
    monkeypatch.setattr(training, "forest", partial(forest, trees=5))


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Logs of eight simulated captures, three of them benign, in natural order."""
    root = tmp_path_factory.mktemp("captures") / "sim"
    sample.generate(root, seed=7, size=4000)
    return list(iot23.captures(root).values())


@pytest.fixture(scope="module")
def unlabelled(logs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The benign flows of three of them as a sensor writes them, without labels and away from what says simulated."""
    folder = tmp_path_factory.mktemp("sensors")
    paths = []
    for place, log in enumerate(logs[3:6]):
        flows = zeek.read_conn_log(log)
        paths.append(folder / f"office-{place}" / f"conn.{place}.log.gz")
        paths[-1].parent.mkdir()
        zeek.write_conn_log(flows[flows["label"] == "Benign"].drop(columns=["label", "label_original"]), paths[-1])
    return paths


def captures(*sizes: int, attacks: int = 0) -> list[Capture]:
    """Captures of so many benign flows each, and attacks of two kinds, in 6 features; each capture is shifted a little."""
    found = []
    for place, size in enumerate(sizes):
        generator = np.random.default_rng(place)
        X = generator.normal(place / 10, 1, (size + attacks, 6)).astype(np.float32)
        X[size:, :2] += 4000
        X[size : size + attacks // 2, 2] += 40
        y = np.array(["Benign"] * size + ["DDoS"] * (attacks // 2) + ["C&C"] * (attacks - attacks // 2), dtype=object)
        order = generator.permutation(len(y))
        found.append(Capture(f"log {place}", X[order], y[order], {"labelled": True, "classes": {}}))
    return found


def learning(given: list[Capture], rate: float = 0.05) -> Learning:
    return Learning(given, [0, 1, 2, 3], [2, 3, 4, 5], 7, rate)


# ------------------------------------------------------------------------------------------------------------- the folds


def test_the_threshold_is_that_of_flows_whose_capture_was_left_out() -> None:
    given = captures(200, 300, 400)
    scores = []
    for left_out in range(3):  # by hand
        others = [capture.X[:, :4] for place, capture in enumerate(given) if place != left_out]
        cut = [round(EARLY * len(rows)) for rows in others]
        early, late = (
            np.concatenate([rows[s] for rows, s in zip(others, parts, strict=True)])
            for parts in (
                [slice(0, c) for c in cut],
                [slice(c, None) for c in cut],
            )
        )
        scores.append(LinearAutoencoder(bottleneck=2).fit(early, late).score_samples(given[left_out].X[:, :4]))
    pooled = np.concatenate(scores)
    threshold = learning(given).threshold(frozenset({0, 1, 2}))
    assert (pooled > threshold).mean() == pytest.approx(0.05, abs=1 / 900)
    assert threshold in pooled
    model = learning(given).model(frozenset({0, 1, 2}))
    assert model.threshold_ == threshold


def test_one_capture_sets_its_threshold_by_its_last_quarter() -> None:
    (only,) = captures(400)
    by_hand = LinearAutoencoder(bottleneck=2, false_alarm_rate=0.05).fit(only.X[:300, :4], only.X[300:, :4])
    assert learning([only]).threshold(frozenset({0})) == by_hand.threshold_


def test_a_capture_does_not_move_the_figures_by_which_it_is_judged() -> None:
    """Its benign flows become absurd, and no model or threshold that judges it changes; those of the others do."""
    given = captures(200, 300, 400, attacks=20)
    changed = [Capture(c.name, c.X * 50 if place == 1 else c.X, c.y, c.facts) for place, c in enumerate(given)]
    for left_out, same in ((1, True), (0, False)):
        among = frozenset({0, 1, 2}) - {left_out}
        models = [learning(side).model(among) for side in (given, changed)]
        assert all(isinstance(model, Cascade) for model in models)
        scores = [model.score_samples(given[left_out].X) - model.detector.threshold_ for model in models]  # type: ignore[union-attr]
        assert np.array_equal(*scores) == same
    judged = [training.evaluated(side, learning(side), lambda line: None)["captures"] for side in (given, changed)]
    assert judged[0][0] != judged[1][0]


def test_the_evaluation_counts_what_each_left_out_capture_brings() -> None:
    given = captures(200, 300, 400, attacks=20)
    evaluation = training.evaluated(given, learning(given), lambda line: None)
    assert evaluation["split"] == "by capture"
    for place, row in enumerate(evaluation["captures"]):
        model = learning(given).model(frozenset({0, 1, 2}) - {place})
        answers, attack = model.predict(given[place].X), given[place].y != "Benign"
        assert row["false_alarms"] == (answers[~attack] != "Benign").sum()
        assert row["flagged"] == (answers[attack] != "Benign").sum()
        assert row["named"] == (answers == given[place].y)[attack].sum()
        assert (row["benign"], row["attacks"]) == ((200, 300, 400)[place], 20)
    for name in ("benign", "false_alarms", "attacks", "flagged", "named", "unknown"):
        assert evaluation[name] == sum(row[name] for row in evaluation["captures"])
    assert evaluation["flagged"] == 60  # they lie far away
    assert all(row["auc"] == 1.0 for row in evaluation["captures"])


@pytest.mark.parametrize(
    ("sizes", "split"), [((200,), "by time"), ((200, 30), "by time"), ((110,), "none"), ((150, 150), "by capture")]
)
def test_what_is_left_out_depends_on_what_stays(sizes: tuple[int, ...], split: str) -> None:
    given = captures(*sizes)
    evaluation = training.evaluated(given, learning(given), lambda line: None)
    assert evaluation["split"] == split
    if split == "by time":
        assert evaluation["benign"] == sum(size - round(EARLY * size) for size in sizes)


def test_many_captures_are_left_out_in_groups() -> None:
    given = captures(*[30] * 23)
    fits = learning(given)
    assert len(fits.groups) == training.FOLDS
    assert sorted(c.name for group in fits.groups for c in group) == sorted(c.name for c in given)
    evaluation = training.evaluated(given, fits, lambda line: None)
    assert sorted(row["capture"] for row in evaluation["captures"]) == sorted(c.name for c in given)


def test_of_many_flows_so_many_of_each_class_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "MOST", 50)
    given = captures(200, 300, attacks=120)
    everything = learning(given)
    assert len(everything.benign({0, 1})) == 50
    _, classes = everything.attacks({0, 1})
    assert pd.Series(classes).value_counts().to_dict() == {"DDoS": 50, "C&C": 50}
    assert np.array_equal(everything.benign({0, 1}), learning(given).benign({0, 1}))


def test_a_class_of_one_flow_is_not_learnt() -> None:
    (only,) = captures(200, attacks=3)
    assert set(learning([only]).attacks({0})[1]) == {"C&C"}
    (less,) = captures(200, attacks=1)
    assert not isinstance(learning([less]).model(frozenset({0})), Cascade)


# --------------------------------------------------------------------------------------------------------- whole trainings


def test_labelled_logs_become_a_cascade_that_answers_as_it_says(logs: list[Path], tmp_path: Path) -> None:
    lines: list[str] = []
    trained = train([logs[0].parents[2]], tmp_path / "model", seed=7, say=lines.append)
    served = saved.load(trained.folder)
    assert isinstance(served, ServedCascade)
    assert trained.card == served.card
    assert served.detector.features == FEATURES["context"]
    assert served.classifier is not None
    assert served.classifier.features == training.FLOW
    flows = {log.relative_to(logs[0].parents[2]).as_posix(): zeek.read_conn_log(log) for log in logs}
    told = served.card["training"]["logs"]
    assert [row["log"] for row in told] == list(flows)
    assert sum(row["flows"] for row in told) == 4000
    for row in told:
        assert row["classes"] == flows[row["log"]]["label"].value_counts().loc[lambda counts: counts > 0].to_dict()
    evaluation = served.card["evaluation"]
    assert evaluation["split"] == "by capture"
    assert [row["capture"] for row in evaluation["captures"]] == list(flows)
    assert evaluation["benign"] + evaluation["attacks"] == 4000
    assert evaluation["captures"][0]["auc"] is None  # a honeypot
    assert any("SIMULATED" in limit for limit in served.card["limits"])
    assert len(served.card["training"]["simulated"]) == 8
    assert any("244 " in line or "Benign" in line for line in lines[:8])
    text = training.told(trained)
    assert "Judged by capture" in text
    assert "SIMULATED" in text
    assert "Cascade of" in text


def test_equal_seeds_and_logs_give_equal_files(logs: list[Path], tmp_path: Path) -> None:
    folders = [train(order, tmp_path / str(n), seed=7, features="flows").folder for n, order in enumerate([logs[:4], logs[:4]])]
    first, second = ({p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()} for f in folders)
    assert first == second


def test_logs_without_labels_are_taken_as_benign_and_that_is_said(unlabelled: list[Path], tmp_path: Path) -> None:
    lines: list[str] = []
    trained = train(unlabelled, tmp_path / "model", seed=7, features="flows", say=lines.append)
    served = saved.load(tmp_path / "model", training.FLOW)
    assert isinstance(served, ServedDetector)
    assert all("taken as benign: the log has no labels" in line for line in lines[:3])
    assert any("3 logs had no labels and were taken as benign" in limit for limit in trained.card["limits"])
    assert any("No attack was among the logs" in limit for limit in trained.card["limits"])
    assert not any("SIMULATED" in limit for limit in trained.card["limits"])
    assert trained.card["training"]["simulated"] == []
    assert trained.card["evaluation"]["split"] == "by capture"


def test_one_log_is_judged_by_its_end(unlabelled: list[Path], tmp_path: Path) -> None:
    trained = train(unlabelled[:1], tmp_path / "model", seed=7, benign=True)
    assert trained.card["evaluation"]["split"] == "by time"
    assert any("what a new network brings was not measured" in limit for limit in trained.card["limits"])
    served = saved.load(tmp_path / "model")
    assert isinstance(served, ServedDetector)
    flows = zeek.read_conn_log(unlabelled[0]).sort_values("ts", kind="stable")
    X = matrix(flows, served.features)
    rest = X[round(EARLY * len(X)) :]
    assert served.predict(rest).mean() <= 0.01 + 1 / len(rest)  # the promise on the flows that set the threshold


def test_times_do_not_depend_on_the_order_of_rows(unlabelled: list[Path], tmp_path: Path) -> None:
    flows = zeek.read_conn_log(unlabelled[0])
    zeek.write_conn_log(flows.sample(frac=1, random_state=0), tmp_path / "conn.log")
    zeek.write_conn_log(flows.sort_values("ts"), tmp_path / "sorted" / "conn.log")
    cards = [
        train([log], tmp_path / "model", seed=7, features="flows").card
        for log in (tmp_path / "conn.log", tmp_path / "sorted" / "conn.log")
    ]
    assert cards[0]["threshold"] == cards[1]["threshold"]
    assert cards[0]["evaluation"] == cards[1]["evaluation"]


def test_a_folder_gives_its_conn_logs_and_no_others(unlabelled: list[Path], tmp_path: Path) -> None:
    zeek.write_conn_log(zeek.read_conn_log(unlabelled[0]), tmp_path / "spool" / "conn.log")
    (tmp_path / "spool" / "dns.log").write_text("#fields\tts\tquery\n")
    (tmp_path / "spool" / "conn-summary.log").write_text("summary")
    (tmp_path / "conn.state").write_text("other")
    found = training._logs([tmp_path, tmp_path / "spool" / "conn.log"])
    assert list(found) == ["conn.log"]


# -------------------------------------------------------------------------------------------------------------- bad input


def log_of(flows: pd.DataFrame, path: Path) -> Path:
    zeek.write_conn_log(flows, path)
    return path


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"features": "packets"}, ValueError, "features='packets' is unknown; choose one of flows, context"),
        ({"false_alarm_rate": 0.0}, ValueError, "false_alarm_rate=0.0: expected a share between 0 and 1"),
        ({"logs": []}, ValueError, "there is no log to learn from"),
        ({"logs": ["none.log"]}, FileNotFoundError, r"none\.log does not exist; name conn logs"),
        ({"benign": True}, ValueError, "was said to be benign, and its labels name"),
    ],
)
def test_what_cannot_be_learnt_is_refused(
    arguments: dict[str, Any], error: type[Exception], message: str, logs: list[Path], tmp_path: Path
) -> None:
    given = {"logs": logs, "out": tmp_path / "model", "seed": 7} | arguments
    with pytest.raises(error, match=message):
        train(given.pop("logs"), given.pop("out"), **given)
    assert not list(tmp_path.iterdir())


def test_bad_logs_are_named(logs: list[Path], tmp_path: Path) -> None:
    flows = zeek.read_conn_log(logs[4])
    attacks, benign = flows[flows["label"] != "Benign"], flows[flows["label"] == "Benign"]
    (tmp_path / "empty.log").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    cases = [
        (tmp_path / "empty.log", r"empty\.log: is empty; a conn log starts with a header"),
        (log_of(flows[:0], tmp_path / "header.log"), r"header\.log holds no flows; leave it out"),
        (log_of(attacks, tmp_path / "attacks.log"), "the logs hold 0 benign flows; learning what is usual takes 100"),
        (log_of(benign[:99], tmp_path / "short.log"), "the logs hold 99 benign flows; learning what is usual takes 100"),
        (tmp_path / "folder", "folder holds no conn log"),
    ]
    for log, message in cases:
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            train([log], tmp_path / "model", seed=7)
    assert not (tmp_path / "model").exists()


def test_a_folder_of_other_things_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(saved.ModelError, match="exists and is no saved model, or not that alone; name a new folder"):
        train([tmp_path / "none.log"], tmp_path, seed=7)


def test_one_class_in_the_labels_needs_no_attack(logs: list[Path], tmp_path: Path) -> None:
    flows = zeek.read_conn_log(logs[4])
    log = log_of(flows[flows["label"] == "Benign"], tmp_path / "conn.log.labeled")
    train([log], tmp_path / "model", seed=7, features="flows")
    assert isinstance(saved.load(tmp_path / "model"), ServedDetector)


# ----------------------------------------------------------------------------------------------------------------- alerts


def test_detection_answers_as_the_model_does_on_the_features(logs: list[Path], tmp_path: Path) -> None:
    train(logs[:5], tmp_path / "model", seed=7)
    served = saved.load(tmp_path / "model")
    assert isinstance(served, ServedCascade)
    found, flows = alerts.detect(logs[3], served), zeek.read_conn_log(logs[3])
    assert list(found["uid"]) == list(flows["uid"])
    X = matrix(flows, served.features)
    assert np.array_equal(found["answer"].to_numpy(), served.predict(X))
    assert np.array_equal(found["score"].to_numpy(), served.score_samples(X))
    alarms = found[found["answer"] != "Benign"]
    assert len(alarms)
    for suffix in (".csv", ".jsonl"):
        path = tmp_path / f"alerts{suffix}"
        assert alerts.write(found, path) == len(alarms)
        again = pd.read_csv(path) if suffix == ".csv" else pd.DataFrame(map(json.loads, path.read_text().splitlines()))
        assert list(again.columns) == [*alerts.COLUMNS, "label", "score", "answer"]
        assert list(again["uid"]) == list(alarms["uid"])
        assert list(again["answer"]) == list(alarms["answer"])
        assert list(pd.to_datetime(again["ts"], utc=True, format="ISO8601")) == list(alarms["ts"])
        np.testing.assert_allclose(again["score"], alarms["score"], rtol=1e-6)
    text = alerts.told(found)
    attack, flagged = (found["label"] != "Benign"), (found["answer"] != "Benign")
    assert f"{len(found):,} flows, {len(alarms):,} alarms" in text
    assert f"{(attack & flagged).sum():,} of {attack.sum():,} attacks flagged" in text
    assert f"{(flagged & ~attack).sum():,} false alarms on {(~attack).sum():,} benign flows" in text


def test_a_log_without_flows_or_labels_is_answered_too(logs: list[Path], unlabelled: list[Path], tmp_path: Path) -> None:
    train(unlabelled, tmp_path / "model", seed=7)
    served = saved.load(tmp_path / "model")
    nothing = alerts.detect(log_of(zeek.read_conn_log(logs[0])[:0], tmp_path / "conn.log"), served)
    assert "0 flows, 0 alarms" in alerts.told(nothing)
    assert alerts.write(nothing, tmp_path / "alerts.csv") == 0
    assert "By the log's labels" not in alerts.told(alerts.detect(unlabelled[0], served))
    assert set(alerts.detect(logs[3], served)["answer"]) == {"Benign", alerts.ALARM}


def test_what_cannot_flag_and_where_alarms_cannot_go_is_refused(logs: list[Path], tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(40, 2))
    model = forest(seed=7, trees=2).fit(X, np.where(X[:, 0] > 0, "a", "b"))
    told = {"training": {}, "evaluation": {}, "limits": []}
    saved.save(model, tmp_path / "forest", features=["duration", "orig_bytes"], card=told)
    with pytest.raises(saved.ModelError, match="is a Forest, which names classes and flags nothing; give a detector"):
        alerts.detect(logs[0], saved.load(tmp_path / "forest"))
    with pytest.raises(ValueError, match=r"alerts\.txt: alarms are written as \.csv or \.jsonl"):
        alerts.check_suffix(tmp_path / "alerts.txt")
