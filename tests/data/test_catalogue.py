"""fliot_lab.data.catalogue: what the 23 captures are, and which log can be which of them."""

from pathlib import Path

import pytest

from fliot_lab.data import catalogue as known
from fliot_lab.data.layout import normalise_label

SMALL = [
    *(f"CTU-Honeypot-Capture-{n}-1" for n in (4, 5, 7)),
    *(f"CTU-IoT-Malware-Capture-{n}-1" for n in (8, 20, 21, 34, 42, 44)),
]


def entry(name: str) -> known.Entry:
    return known.entries(name)[0]


def test_the_catalogue_has_the_23_captures_once_each() -> None:
    table = known.catalogue()
    assert list(table["scenario"]) == list(range(1, 24))
    assert table["capture"].is_unique
    assert table["kind"].value_counts().to_dict() == {"malicious": 20, "benign": 3}
    assert list(table["rows"].isna()) == [not rows for rows in table["rows"].fillna(0)]
    assert not table.drop(columns="rows").isna().any(axis=None)


def test_addresses_join_to_the_log_of_the_capture() -> None:
    for one in known.entries("all"):
        assert one.url.startswith("https://")
        assert one.url.endswith(f"/{one.capture}/")
        assert one.path == ("Somfy-01/" if one.capture == "CTU-Honeypot-Capture-7-1" else "") + "bro/conn.log.labeled"


def test_label_counts_add_up_to_the_rows_in_the_spelling_of_the_reader() -> None:
    counted = 0
    for one in known.entries("all"):
        if one.labels:
            counted += 1
            assert sum(one.labels.values()) == one.rows
    for names in known.catalogue()["label_names"]:
        for name in names.split(";"):
            assert normalise_label("benign" if name == "Benign" else "Malicious", name) == name
    assert counted == 14


def test_the_official_figure_counts_lines_and_is_1_or_9_above_the_rows() -> None:
    table = known.catalogue().dropna(subset="rows")
    assert len(table) == 15
    assert set(table["official_flows"] - table["rows"]) == {1, 9}


def test_the_small_captures_are_the_default_in_natural_order() -> None:
    assert [one.capture for one in known.entries()] == SMALL
    assert sum(one.rows or 0 for one in known.entries()) == 46_662


def test_all_captures_come_in_natural_order() -> None:
    names = [one.capture for one in known.entries("all")]
    assert names[:4] == [*SMALL[:3], "CTU-IoT-Malware-Capture-1-1"]
    assert names[-1] == "CTU-IoT-Malware-Capture-60-1"


@pytest.mark.parametrize(
    ("names", "full"),
    [
        ("34-1", ["CTU-IoT-Malware-Capture-34-1"]),
        ("4-1", ["CTU-Honeypot-Capture-4-1"]),
        (["34-1", "CTU-IoT-Malware-Capture-8-1", "34-1"], ["CTU-IoT-Malware-Capture-8-1", "CTU-IoT-Malware-Capture-34-1"]),
        ("Honeypot-7-1", ["CTU-Honeypot-Capture-7-1"]),
        ("Malware-Capture-7-1", ["CTU-IoT-Malware-Capture-7-1"]),
    ],
)
def test_a_name_may_be_short(names: str | list[str], full: list[str]) -> None:
    assert [one.capture for one in known.entries(names)] == full


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("7-1", "may be CTU-Honeypot-Capture-7-1 or CTU-IoT-Malware-Capture-7-1"),
        ("99-1", "'99-1' is not there; IoT-23 has CTU-Honeypot-Capture-4-1, "),
        (["34-1", ""], "'' is not there"),
        ([], "no capture is named"),
    ],
)
def test_a_name_that_fits_none_or_several_is_refused(names: str | list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        known.entries(names)


@pytest.mark.parametrize(
    ("capture", "counts", "rows", "problem"),
    [
        ("44-1", {"Benign": 211, "C&C": 14, "C&C-FileDownload": 11, "DDoS": 1}, None, ""),
        ("44-1", {"Benign": 211, "C&C": 14, "C&C-FileDownload": 11}, None, "236 rows where 237 were expected"),
        ("44-1", {"Benign": 212, "C&C": 13, "C&C-FileDownload": 11, "DDoS": 1}, None, "212 rows labelled Benign where"),
        ("44-1", {"Benign": 211, "C&C": 14, "C&C-FileDownload": 11, "Okiru": 1}, None, "0 rows labelled DDoS where"),
        ("44-1", {}, None, "0 rows where 237"),
        ("44-1", {"Benign": 100}, 100, ""),
        ("44-1", {"Benign": 100}, 101, "100 rows where 101"),
        ("44-1", {"C&C": 100}, 100, "100 rows labelled C&C where the whole capture has 14"),
        ("44-1", {"Benign": 211, "C&C": 14, "C&C-FileDownload": 11, "DDoS": 1}, 100_000, ""),
        ("60-1", {"DDoS": 3_581_028}, None, ""),
        ("60-1", {"DDoS": 3_581_029}, None, "3,581,029 rows where 3,581,028"),
        ("43-1", {"Okiru": 67_321_809}, None, ""),
        ("43-1", {"Okiru": 60_000_000}, None, "60,000,000 rows where 66,648,592 to 67,995,028"),
        ("43-1", {"Okiru": 100_000}, 100_000, ""),
        ("43-1", {"Okiru": 99_999}, 100_000, "99,999 rows where 100,000 were"),
    ],
)
def test_a_log_is_held_against_rows_and_labels(capture: str, counts: dict[str, int], rows: int | None, problem: str) -> None:
    found = entry(capture).disagreement(counts, rows)
    assert found.startswith(problem) if problem else found == ""


def test_the_catalogue_of_a_wheel_lies_beside_the_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    packaged = tmp_path / "package" / "catalogue.csv"
    packaged.parent.mkdir()
    packaged.write_bytes((known.ROOT / "data" / "catalogue.csv").read_bytes())
    monkeypatch.setattr(known, "ROOT", tmp_path / "somewhere")
    monkeypatch.setattr(known, "__file__", str(packaged.with_name("catalogue.py")))
    assert len(known.catalogue()) == 23
    packaged.unlink()
    with pytest.raises(FileNotFoundError, match=r"catalogue.csv is neither in the installed package nor in"):
        known.catalogue()
