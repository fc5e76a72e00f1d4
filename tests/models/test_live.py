"""Live identification: what is enrolled, answers, and a capture that grows while it is watched."""

import threading
import time
from pathlib import Path

import pytest

from fliot_lab.data import setups
from fliot_lab.data.iot23 import DataMissing
from fliot_lab.data.packets import PacketError
from fliot_lab.data.sample import hosts as simulated
from fliot_lab.data.sample.setups import generate_setups
from fliot_lab.features.devices import hosts, packets
from fliot_lab.models import live

DEVICES = ("JuntoxCam", "ZindleKettle", "HibrasVacuum", "QuorvexSiren")


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("known")
    generate_setups(root / "set-ups", 3, devices=DEVICES, setups=6)
    return root / "set-ups"


@pytest.fixture(scope="module")
def enrolled(known: Path) -> live.Enrolled:
    return live.enrol(known, seed=1)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set-up of another seed, so by another unit in another home."""
    return generate_setups(tmp_path_factory.mktemp("asked") / "set-ups", 4, devices=["HibrasVacuum"], setups=1)[0]


def test_another_unit_is_recognised_and_reasons_are_features(enrolled: live.Enrolled, asked: Path) -> None:
    answer = live.identify(enrolled, packets.fingerprint(packets.read(asked))[0])
    assert answer.best[0][0] == "HibrasVacuum"
    assert len(answer.best) == 3
    assert sum(chance for _, chance in answer.best) <= 1 + 1e-9
    assert {name for name, _ in answer.reasons} <= set(enrolled.names)
    assert "HibrasVacuum" in live.told(answer)


def test_what_is_told_names_siblings_and_strangers() -> None:
    best = [("QuorvexSiren", 0.5), ("QuorvexWater", 0.3), ("JuntoxCam", 0.0)]
    told = live.told(
        live.Answer("unknown device", best, "QuorvexSiren/QuorvexWater", [("tls: greetings", 0.25), ("packets", -0.1)])
    )
    assert told.splitlines() == [
        "unknown device; nearest is QuorvexSiren (confidence 0.50)",
        "  of the siblings QuorvexSiren/QuorvexWater",
        "  or QuorvexWater (0.30)",
        "  because of tls: greetings (without it -0.25)",
    ]


def test_a_growing_capture_is_read_again_until_it_rests(asked: Path, tmp_path: Path) -> None:
    content, growing = asked.read_bytes(), tmp_path / "growing.pcap"
    growing.touch()
    ends = [24, *range(len(content) // 5, len(content), len(content) // 5 + 7), len(content)]  # most within a packet

    def write() -> None:
        with growing.open("ab") as file:
            for begin, end in zip([0, *ends], ends, strict=False):
                file.write(content[begin:end])
                file.flush()
                time.sleep(0.1)

    writer = threading.Thread(target=write)
    writer.start()
    device = setups.address_of(asked)
    try:
        frames = list(live.follow(growing, device=device, every=0.02, idle=1.0))
    finally:
        writer.join(10)
    assert not writer.is_alive()
    lengths = [len(frame) for frame in frames]
    assert lengths == sorted(lengths)
    assert len(set(lengths)) >= 3
    whole = packets.read(asked)
    assert frames[-1].drop(columns=["payload", "options"]).equals(whole.drop(columns=["payload", "options"]))


def test_others_may_speak_before_the_device_that_is_named(asked: Path, tmp_path: Path) -> None:
    content, growing = asked.read_bytes(), tmp_path / "growing.pcap"
    late = "02:00:00:00:00:01"  # speaks in a packet that is added later: an Ethernet frame with an unknown type
    growing.write_bytes(content)
    frames = live.follow(growing, device=late, every=0.02, idle=5.0)
    packet = bytes.fromhex("ffffffffffff" + late.replace(":", "") + "88b5") + bytes(46)
    header = content[24:32] + len(packet).to_bytes(4, "little") * 2
    writer = threading.Timer(0.5, lambda: growing.write_bytes(content + header + packet))
    writer.start()
    try:
        frame = next(frames)
    finally:
        writer.join(10)
    assert frame["sent"].sum() == 1
    assert frame["sent"].iloc[-1]


def test_a_file_that_is_no_capture_is_refused_while_it_is_watched(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        next(live.follow(tmp_path / "nowhere.pcap"))
    (tmp_path / "text.pcap").write_text("this is no capture, whatever it is called")
    with pytest.raises(PacketError, match=r"text\.pcap"):
        next(live.follow(tmp_path / "text.pcap"))


def test_too_little_to_learn_from_is_refused(known: Path, tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="holds no set-ups"):
        live.enrol(tmp_path, seed=1)
    (tmp_path / "JuntoxCam").symlink_to(known / "JuntoxCam")
    with pytest.raises(ValueError, match="1 known devices: telling them apart takes two or more"):
        live.enrol(tmp_path, seed=1)
    with pytest.raises(ValueError, match="0 known devices"):
        live.enrol_hosts(tmp_path, seed=1)


def test_hosts_are_known_by_their_telemetry(tmp_path: Path) -> None:
    for device in DEVICES[:3]:
        for unit in range(2):
            frame = simulated.telemetry(5, device=device, unit=unit, hours=1.0)
            frame.to_csv(tmp_path / f"{device}-{unit}.csv", index=False)
    enrolled = live.enrol_hosts(tmp_path, seed=1)
    other = simulated.telemetry(6, device="HibrasVacuum", unit=9, run=9, hours=1.0).drop(columns="infected")
    found = [live.identify(enrolled, part, reasons=0).best[0][0] for part in hosts.fingerprint(hosts.read(other), window=60)]
    assert found.count("HibrasVacuum") > len(found) / 2
