"""From conn logs to a saved model: what is held out stays out, contradictions are settled as asked, and bad logs are named."""

import json
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fliot_lab.data import contradictions, iot23, sample, zeek
from fliot_lab.features import matrix
from fliot_lab.features.context import CONTEXT_FEATURES
from fliot_lab.models import saved, training
from fliot_lab.models.autoencoder import Autoencoder, LinearAutoencoder
from fliot_lab.models.cascade import Cascade
from fliot_lab.models.hybrid import Hybrid, KnownAttacks, three_parts
from fliot_lab.models.saved import ServedCascade, ServedDetector, alerts
from fliot_lab.models.training import EARLY, FEATURES, STRETCHES, Capture, Plan, evaluated, learnt, train
from fliot_lab.models.trees import forest


def small(names: Sequence[str], *, seed: int, false_alarm_rate: float) -> Hybrid:
    """A hybrid that learns in milliseconds: what is tested is what it is given."""
    unlike = Autoencoder(seed=seed, hidden=4, bottleneck=2, epochs=2, batch_size=512)
    return Hybrid([(unlike, None), (KnownAttacks(), None)], seed=seed, false_alarm_rate=false_alarm_rate)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "three_parts", small)
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
    """Captures of so many benign flows each, and attacks of two kinds, in the flow features; each a little apart."""
    found = []
    for place, size in enumerate(sizes):
        generator = np.random.default_rng(place)
        X = generator.normal(place / 10, 1, (size + attacks, len(training.FLOW))).astype(np.float32)
        X[size:, :2] += 4000
        X[size : size + attacks // 2, 2] += 40
        y = np.array(["Benign"] * size + ["DDoS"] * (attacks // 2) + ["C&C"] * (attacks - attacks // 2), dtype=object)
        order = generator.permutation(len(y))
        found.append(Capture(f"log {place}", X[order], y[order], y[order], {}))
    return found


PLAN = Plan(training.FLOW, 7, 0.05)


def hybrid_of(model: Hybrid | Cascade) -> Any:
    return model.detector if isinstance(model, Cascade) else model


def thresholds(model: Hybrid | Cascade) -> list[float]:
    return [part.threshold for part in hybrid_of(model).parts_]


# ------------------------------------------------------------------------------------------------------------- the folds


@pytest.mark.parametrize("attacks", [0, 20])
def test_thresholds_are_those_of_flows_whose_capture_was_left_out(attacks: int) -> None:
    given = captures(200, 300, 400, attacks=attacks)
    X, y = np.concatenate([c.X for c in given]), np.concatenate([c.y for c in given])
    groups = np.repeat(["a", "b", "c"], [len(c.y) for c in given])
    by_hand = small(training.FLOW, seed=7, false_alarm_rate=0.05).fit(X, y != "Benign", groups)
    model = learnt(given, PLAN)
    assert thresholds(model) == thresholds(by_hand)
    assert isinstance(model, Cascade) == bool(attacks)
    assert np.array_equal(model.score_samples(X), by_hand.score_samples(X))


def test_a_log_alone_is_left_out_by_stretches_of_time() -> None:
    (only,) = captures(400, attacks=40)
    groups = training._groups([only])
    assert len(groups) == STRETCHES
    stretches = [stretch for (stretch,) in groups]
    assert [(stretch.y == "Benign").sum() for stretch in stretches] == [100] * 4
    assert np.array_equal(np.concatenate([stretch.X for stretch in stretches]), only.X)  # in order, nothing twice
    X, y, group = training._rows(groups, 7)
    assert np.array_equal(X, only.X)
    assert (np.diff(group) >= 0).all()
    by_hand = small(training.FLOW, seed=7, false_alarm_rate=0.05).fit(
        X, y != "Benign", np.repeat(list("abcd"), np.bincount(group))
    )
    assert thresholds(learnt([only], PLAN)) == thresholds(by_hand)


@pytest.mark.parametrize("pattern", ["bab", "baaa", "aaab", "aa", "b", "abbbbbbbba"])
def test_parts_of_a_log_hold_each_flow_once(pattern: str) -> None:
    y = np.array([{"a": "DDoS", "b": "Benign"}[kind] for kind in pattern], dtype=object)
    whole = Capture("log", np.arange(len(y), dtype=np.float32)[:, None], y, y, {})
    for cuts in ([0, 1], [0, EARLY, 1], [0, 0.25, 0.5, 0.75, 1]):
        parts = [whole.part(start, stop) for start, stop in pairwise(cuts)]
        assert np.array_equal(np.concatenate([part.X for part in parts]), whole.X)


def test_the_evaluation_counts_what_each_left_out_capture_brings_to_a_model_of_the_others() -> None:
    given = captures(200, 300, 400, attacks=20)
    evaluation = evaluated(given, PLAN, lambda line: None)
    assert evaluation["split"] == "by capture"
    for place, row in enumerate(evaluation["captures"]):
        model = learnt([capture for other, capture in enumerate(given) if other != place], PLAN)
        assert isinstance(model, Cascade)
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
    evaluation = evaluated(given, PLAN, lambda line: None)
    assert evaluation["split"] == split
    if split == "by time":
        assert evaluation["benign"] == sum(size - int(np.ceil(EARLY * size)) for size in sizes)


def test_a_log_alone_is_judged_by_a_model_of_its_first_three_quarters() -> None:
    (only,) = captures(400)
    (row,) = evaluated([only], PLAN, lambda line: None)["captures"]
    before = Capture(only.name, only.X[:300], only.y[:300], only.y[:300], {})
    assert (row["benign"], row["false_alarms"]) == (100, learnt([before], PLAN).predict(only.X[300:]).sum())


def test_many_captures_are_left_out_in_groups() -> None:
    given = captures(*[30] * 23)
    groups = training._groups(given)
    assert len(groups) == training.FOLDS
    assert sorted(c.name for group in groups for c in group) == sorted(c.name for c in given)
    evaluation = evaluated(given, PLAN, lambda line: None)
    assert sorted(row["capture"] for row in evaluation["captures"]) == sorted(c.name for c in given)


def test_many_logs_of_one_flow_are_learnt_too() -> None:
    assert np.isfinite(thresholds(learnt(captures(*[1] * training.LEAST), PLAN))).all()


def test_of_many_flows_so_many_of_each_class_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "MOST", 50)
    groups = [[capture] for capture in captures(200, 300, attacks=120)]
    X, y, group = training._rows(groups, 7)
    assert pd.Series(y).value_counts().to_dict() == {"Benign": 50, "DDoS": 50, "C&C": 50}
    for place, (capture,) in enumerate(groups):
        rows = (capture.X[None] == X[group == place][:, None]).all(2)  # each is a row of its capture, with its class
        assert np.array_equal(capture.y[rows.argmax(1)], y[group == place])
        assert rows.any(1).all()
    assert np.array_equal(X, training._rows(groups, 7)[0])
    assert not np.array_equal(X, training._rows(groups, 8)[0])


def test_a_class_of_one_flow_is_not_named() -> None:
    (only,) = captures(200, attacks=3)
    model = learnt([only], PLAN)
    assert isinstance(model, Cascade)
    assert list(model.classes_) == ["C&C"]
    (less,) = captures(200, attacks=1)
    assert isinstance(learnt([less], PLAN), Hybrid)


# ------------------------------------------------------------------------------------------------------- parts and names


def test_three_parts_find_their_features_by_name() -> None:
    names = [*FEATURES["context"][::-1], "resp_port_user", "service_dns"]
    around = {feature.name for feature in CONTEXT_FEATURES}
    (unlike, context), (every, everything), (calls, service) = three_parts(names, seed=3, false_alarm_rate=0.2).parts
    assert (type(unlike), type(every), type(calls)) == (Autoencoder, KnownAttacks, KnownAttacks)
    assert {names[place] for place in context or ()} == around
    assert everything is None
    assert {names[place] for place in service or ()} == {name for name in around if name.startswith("service_")}
    assert [columns for _, columns in three_parts(FEATURES["flows"], seed=3).parts] == [None, None]
    model = three_parts(names, seed=3, false_alarm_rate=0.2)
    assert (model.seed, model.parts[0][0].seed, model.false_alarm_rate) == (3, 3, 0.2)  # type: ignore[union-attr]


def named(X: np.ndarray, y: np.ndarray, groups: np.ndarray | None) -> Cascade:
    return Cascade(LinearAutoencoder(bottleneck=2).fit(X[:50]), forest(seed=7, trees=5), rejected=0.2).fit_names(X, y, groups)


def test_the_captures_are_what_is_left_out_for_names_too(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(Cascade, "fit_names", lambda cascade, X, y, groups: asked.extend([X, y, groups]))
    given = captures(200, 300, 400, attacks=20)
    learnt(given, PLAN)
    for place, capture in enumerate(given):
        assert np.array_equal(asked[0][asked[2] == place], capture.X[capture.y != "Benign"])
        assert np.array_equal(asked[1][asked[2] == place], capture.y[capture.y != "Benign"])


def test_names_are_rejected_by_what_was_left_out_with_its_group() -> None:
    given = captures(60, 60, 60, attacks=30)
    X, y = np.concatenate([c.X for c in given]), np.concatenate([c.y for c in given])
    groups, attack = np.repeat([0, 1, 2], 90), y != "Benign"
    surest = np.empty(0)
    for group in range(3):
        others, own = attack & (groups != group), attack & (groups == group)
        left_out = forest(seed=7, trees=5).fit(X[others], y[others])
        surest = np.append(surest, left_out.predict_proba(X[own]).max(axis=1))
    model = named(X, y, groups)
    assert np.mean(surest < model.threshold_) <= 0.2 < np.mean(surest < model.threshold_ + 2e-4)
    before = LinearAutoencoder(bottleneck=2).fit(X[:50])
    assert np.array_equal(model.score_samples(X), before.score_samples(X))  # the detector is as it came
    whole = forest(seed=7, trees=5).fit(X[attack], y[attack])
    assert np.array_equal(model.classifier_.predict_proba(X), whole.predict_proba(X))


def test_where_no_class_is_in_two_groups_folds_say_how_sure_names_are() -> None:
    (only,) = captures(60, attacks=60)
    only.X[:, 2] = 0  # unsure
    apart = np.where(only.y == "DDoS", "a", "b")
    assert named(only.X, only.y, apart).threshold_ == named(only.X, only.y, None).threshold_
    with pytest.raises(ValueError, match="all 60 rows are 'Benign', and a classifier names attacks: use the detector alone"):
        named(only.X[only.y == "Benign"], only.y[only.y == "Benign"], None)


# --------------------------------------------------------------------------------------------------------- contradictions


@pytest.fixture(scope="module")
def doubtful(logs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], pd.Series]:
    """Four logs, in the last of which some attacks of one pair of hosts were labelled benign; and these flows' classes."""
    flows = zeek.read_conn_log(logs[3]).sort_values("ts", kind="stable", ignore_index=True)
    attack = flows["label"] != "Benign"
    pair = flows.loc[attack, ["id.orig_h", "id.resp_h"]].value_counts().index[0]
    rows = flows.index[attack & (flows["id.orig_h"] == pair[0]) & (flows["id.resp_h"] == pair[1])]
    hidden = flows.loc[rows[: len(rows) // 3], "label"].astype(object)
    flows.loc[hidden.index, "label"] = "Benign"
    log = tmp_path_factory.mktemp("doubtful") / "b" / "conn.log.labeled"
    zeek.write_conn_log(flows, log)
    return [*logs[:3], log], hidden


@pytest.mark.parametrize("choice", contradictions.CHOICES)
def test_contradictions_are_settled_as_asked_and_that_is_said(
    choice: str, doubtful: tuple[list[Path], pd.Series], tmp_path: Path
) -> None:
    logs, hidden = doubtful
    lines: list[str] = []
    capture = training._read("b", logs[-1], training.FLOW, False, choice, lines.append)
    (places,) = np.nonzero(contradictions.contradictory(zeek.read_conn_log(logs[-1]).sort_values("ts", kind="stable")))
    assert set(places) >= set(hidden.index)
    assert (capture.y[places] == "Benign").all()  # by the labels as given a model is judged
    told = {"as given": "Benign", "dropped": None, "relabelled": None if choice == "dropped" else hidden.mode()[0]}[choice]
    assert set(capture.taught[hidden.index]) == {told}
    others = np.delete(np.arange(len(capture.y)), places)
    assert np.array_equal(capture.taught[others], capture.y[others])
    _, classes, _ = training._rows([[capture]], 7)
    assert len(classes) == len(capture.y) - (len(places) if choice == "dropped" else 0)
    done = {"as given": "learnt as benign", "dropped": "not learnt", "relabelled": "learnt as attacks"}[choice]
    assert lines[1] == f"b: {len(places):,} benign flows contradict the labels between the same two hosts; {done}"
    card = train(logs, tmp_path / "model", seed=7, features="flows", contradictions=choice).card
    assert card["training"]["contradictions"] == choice
    assert sum(log["contradictory"] for log in card["training"]["logs"]) >= len(places)
    assert any(f"flows are labelled benign between the two hosts of an attack: {done}" in limit for limit in card["limits"])
    assert card["evaluation"]["benign"] == sum(log["classes"].get("Benign", 0) for log in card["training"]["logs"])


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
    assert served.card["kind"] == "Hybrid"
    assert len(served.card["parts"]) == 1  # nothing is known of attacks


def test_times_do_not_depend_on_the_order_of_rows(unlabelled: list[Path], tmp_path: Path) -> None:
    flows = zeek.read_conn_log(unlabelled[0])
    zeek.write_conn_log(flows.sample(frac=1, random_state=0), tmp_path / "conn.log")
    zeek.write_conn_log(flows.sort_values("ts"), tmp_path / "sorted" / "conn.log")
    cards = [
        train([log], tmp_path / "model", seed=7, features="flows").card
        for log in (tmp_path / "conn.log", tmp_path / "sorted" / "conn.log")
    ]
    assert cards[0]["parts"] == cards[1]["parts"]
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
        ({"contradictions": "hidden"}, ValueError, "contradictions='hidden' is unknown; choose one of as given, dropped, rel"),
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
