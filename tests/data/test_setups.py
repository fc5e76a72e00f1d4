"""Where captures of device set-ups lie, what their names say, and what is told where there are none."""

from pathlib import Path

import pytest

from fliot_lab.data import packets, setups
from fliot_lab.data.iot23 import DataMissing
from fliot_lab.data.sample import things


def put(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_simulated_set_ups_have_every_type_and_their_families() -> None:
    source = setups.locate("sample")
    assert source.simulated
    assert "SIMULATED" in source.banner
    listed = setups.listing(source.root)
    assert set(listed["device_type"]) == set(things.BY_NAME)
    members = listed.groupby("family")["device_type"].agg(set)
    assert {frozenset(group) for group in members} >= {frozenset(group) for group in things.SIBLINGS}
    assert listed["family"].nunique() == len(things.BY_NAME) - sum(len(group) - 1 for group in things.SIBLINGS)


def test_names_say_unit_person_and_number_and_natural_order_holds(tmp_path: Path) -> None:
    put(tmp_path, "EdimaxCam2/Setup-C-10-STA.pcap", "EdimaxCam2/Setup-C-9-STA.pcap", "EdimaxCam1/Setup-A-1-STA.pcapng")
    put(
        tmp_path,
        "D-LinkSiren/Setup-A-1-STA.pcap",
        "D-LinkSiren/Setup-A-1-STA.txt",
        "D-LinkSiren/_iotdevice-mac.txt",
        ".x/Setup-A-1-STA.pcap",
    )
    listed = setups.listing(tmp_path)
    assert listed["folder"].tolist() == ["D-LinkSiren", "EdimaxCam1", "EdimaxCam2", "EdimaxCam2"]
    assert listed["device_type"].tolist() == ["D-LinkSiren", "EdimaxCam", "EdimaxCam", "EdimaxCam"]
    assert listed["number"].tolist() == [1, 1, 9, 10]
    assert listed["family"].tolist()[1:] == ["EdimaxCam"] * 3
    assert "D-LinkSwitch" in listed["family"][0]


def test_real_set_ups_come_first_where_real_data_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIOT_DATA", str(tmp_path))
    assert setups.locate("auto").simulated
    assert setups.locate("iot23").simulated  # real flows, and no set-ups beside them
    with pytest.raises(DataMissing, match="holds no set-ups"):
        setups.locate("iot-sentinel")
    put(tmp_path / "iot-sentinel", "Aria/Setup-A-1-STA.pcap")
    for word in ("auto", "iot23", "iot-sentinel"):
        found = setups.locate(word)
        assert (found.name, found.simulated) == ("iot-sentinel", False)
        assert found.root == tmp_path / "iot-sentinel"
    assert setups.locate("sample").simulated


def test_unknown_words_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dataset='mine' is unknown; choose one of auto"):
        setups.locate("mine")
    with pytest.raises(DataMissing, match="holds no set-ups; expected"):
        setups.listing(tmp_path)
    with pytest.raises(DataMissing, match="holds no set-ups"):
        setups.listing(tmp_path / "nowhere")


def test_the_address_comes_from_the_folder_or_from_nowhere(tmp_path: Path) -> None:
    put(tmp_path, "Aria/Setup-A-1-STA.pcap")
    assert setups.address_of(tmp_path / "Aria" / "Setup-A-1-STA.pcap") is None
    (tmp_path / "Aria" / "_iotdevice-mac.txt").write_text("20:F8:5E:ca:91:52\n")
    assert setups.address_of(tmp_path / "Aria" / "Setup-A-1-STA.pcap") == "20:f8:5e:ca:91:52"


def test_the_flows_of_set_ups_are_those_of_each_capture(tmp_path: Path) -> None:
    listed = setups.listing(setups.locate("sample").root).iloc[[0, 25, 60]]
    flows = setups.flows(listed)
    for row in listed.to_dict("records"):
        own = flows[flows["capture"] == f"{row['folder']}/{row['path'].stem}"]
        alone = packets.to_conn_log(packets.read_packets(row["path"]), ignore_checksums=True)
        assert len(own) == len(alone) > 0
        assert own["orig_bytes"].tolist() == alone["orig_bytes"].tolist()
        assert set(own["person"]) == {row["person"]}
        assert set(own["device_type"]) == {row["device_type"]}
    assert set(flows["label"]) == {"Benign"}
    assert flows["capture"].nunique() == 3


@pytest.mark.real
def test_the_real_set_has_its_27_types_and_three_persons(real_data: Path) -> None:
    listed = setups.listing(real_data / "iot-sentinel")
    counts = [listed[column].nunique() for column in ("path", "folder", "device_type", "family")]
    assert counts == [390, 31, 27, 21]
    assert listed["person"].value_counts().to_dict() == {"C": 262, "A": 120, "B": 8}
