"""Flows of every class: which source is taken, and that the same flows come out of a capture and of a sample by class."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fliot_lab import evaluation
from fliot_lab.data import iot23, iot23_classes, zeek
from fliot_lab.data.catalogue import catalogue
from fliot_lab.data.iot23_classes import BY_CLASS, COLUMNS
from fliot_lab.features.flows import FLOW_FEATURES, FLOW_FEATURES_EXTENDED, flow_features

HEADER = ",".join([*COLUMNS, "label", "detailed-label"])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that FLIOT_DATA names."""
    monkeypatch.setenv("FLIOT_DATA", str(tmp_path))
    return tmp_path


def put_sample(folder: Path, *rows: str, header: str = HEADER) -> iot23_classes.Source:
    path = folder / BY_CLASS
    path.parent.mkdir()
    path.write_text("\n".join([header, *rows, ""]), "utf-8")
    return iot23_classes.Source(path, "iot23-by-class", False, "Real data, says the test")


def put_captures(folder: Path, names: list[str]) -> pd.DataFrame:
    """The same ten simulated flows as the log of each capture."""
    flows = zeek.read_conn_log(next(iter(iot23.captures(iot23.locate("sample").root).values()))).head(10)
    for name in names:
        log = folder / "iot23" / name / "bro" / iot23.LOG
        log.parent.mkdir(parents=True)
        zeek.write_conn_log(flows, log)
    return flows


@pytest.mark.filterwarnings("ignore:FLIOT_DATA")
def test_what_is_nearest_to_the_study_is_taken(here: Path) -> None:
    assert iot23_classes.locate("auto").simulated
    put_sample(here)
    assert iot23_classes.locate("auto").name == "iot23-by-class"
    names = catalogue()["capture"].tolist()
    put_captures(here, names[:-1])
    assert iot23_classes.locate("iot23").name == "iot23-by-class"  # one capture is lacking
    put_captures(here, names[-1:])
    for word in ("auto", "iot23"):
        found = iot23_classes.locate(word)
        assert (found.name, found.simulated) == ("iot23-study", False)
        assert "the study's" in found.banner
    found = iot23_classes.locate("sample")
    assert (found.name, found.simulated) == ("sample", True)
    assert "SIMULATED" in found.banner
    with pytest.raises(ValueError, match="unknown"):
        iot23_classes.locate("study")


def test_without_a_sample_by_class_real_captures_are_not_taken_for_it(here: Path) -> None:
    put_captures(here, catalogue()["capture"].tolist()[:2])
    assert iot23_classes.locate("iot23").name == "sample"


def test_the_study_is_the_first_rows_of_each_capture(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = catalogue()["capture"].tolist()
    flows = put_captures(here, names)
    monkeypatch.setattr(iot23, "STUDY_ROWS", 4)
    loaded = iot23_classes.load(iot23_classes.locate("iot23"))
    assert list(loaded.columns) == [*COLUMNS, "label"]
    assert len(loaded) == 4 * len(names)
    wanted, _ = flow_features(flows.head(4))
    X, _ = flow_features(loaded)
    assert np.array_equal(X, np.tile(wanted, (len(names), 1)))
    assert loaded["label"].tolist() == flows["label"].astype(str).tolist()[:4] * len(names)


def test_a_sample_by_class_has_the_features_of_its_flows(tmp_path: Path) -> None:
    source = put_sample(
        tmp_path,
        "23,tcp,-,-,,,S0,0,1,40,0,0,Malicious,Okiru*",
        "443,tcp,ssl,1.5,100.0,200.0,SF,0,4,300,3,360,benign,-",
        "6667,tcp,irc,2.25,10.0,0.0,,0,2,90,1,40,Malicious,C&C-HeartBeat*",
    )
    flows = iot23_classes.load(source)
    assert flows["label"].tolist() == ["Okiru", "Benign", "C&C-HeartBeat"]
    X, names = flow_features(flows, [feature for feature in FLOW_FEATURES_EXTENDED if feature.source != "history"])
    told = [{name: value for name, value in zip(names, row, strict=True) if value} for row in X.tolist()]
    assert told == [
        {"orig_pkts": 1, "orig_ip_bytes": 40, "proto_tcp": 1, "conn_state_S0": 1, "service_unset": 1, "resp_port_system": 1},
        {
            "duration": 1.5, "orig_bytes": 100, "resp_bytes": 200, "orig_pkts": 4, "orig_ip_bytes": 300, "resp_pkts": 3,
            "resp_ip_bytes": 360, "proto_tcp": 1, "conn_state_SF": 1, "service_ssl": 1, "resp_port_system": 1,
        },
        {
            "duration": 2.25, "orig_bytes": 10, "orig_pkts": 2, "orig_ip_bytes": 90, "resp_pkts": 1, "resp_ip_bytes": 40,
            "proto_tcp": 1, "service_irc": 1, "resp_port_user": 1,
        },
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("header", "row", "words"),
    [
        (HEADER.replace("proto,", ""), "23,-,1,1,1,S0,0,1,40,0,0,Malicious,Okiru", "no sample of flows by class: .*proto"),
        (HEADER, "23,tcp,-,soon,1,1,S0,0,1,40,0,0,Malicious,Okiru", "no sample of flows by class: .*soon"),
        (HEADER, "23,tcp,-,1,1,1,S0,0,1,40,0,0,-,Okiru", "1 of 1 flows have no label"),
    ],
)
def test_a_damaged_sample_is_refused(tmp_path: Path, header: str, row: str, words: str) -> None:
    source = put_sample(tmp_path, row, header=header)
    with pytest.raises(ValueError, match=words):
        iot23_classes.load(source)


@pytest.mark.filterwarnings("ignore:FLIOT_DATA")
def test_simulated_flows_take_the_place_in_the_same_form(here: Path) -> None:
    flows = iot23_classes.load(iot23_classes.locate("auto"))
    assert list(flows.columns) == [*COLUMNS, "label"]
    whole = iot23.load("small", dataset="sample")
    assert np.array_equal(flow_features(flows)[0], flow_features(whole)[0])
    assert (flows["label"] == whole["label"].astype(str)).all()


@pytest.mark.real
def test_the_real_sample_by_class_cannot_be_told_apart(real_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (real_root.parent / BY_CLASS).is_file():
        pytest.skip("no sample of flows by class on this machine")
    monkeypatch.setenv("FLIOT_DATA", str(real_root.parent))
    flows = iot23_classes.load(iot23_classes.locate("iot23"))
    assert len(flows) == 44_724
    X, _ = flow_features(flows, FLOW_FEATURES)
    okiru = (flows["label"] == "Okiru").to_numpy()
    assert okiru.sum() == 5000
    assert len(np.unique(X[okiru], axis=0)) == 22
    assert round(evaluation.best_possible_accuracy(X, flows["label"]), 3) == 0.681
