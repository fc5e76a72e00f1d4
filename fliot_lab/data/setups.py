"""Captures of device set-ups: the IoT Sentinel set where it is present, simulated ones elsewhere.

Miettinen et al. 2017, *IoT Sentinel*, ICDCS, arXiv 1611.04880: packets of 31 smart-home devices (27 types) while three
persons set them up. The files are `<Device>/Setup-<person>-<n>-STA.pcap`. Aalto University hands the set out; nothing here
fetches it. Devices are told apart by their folder: two bridges share their address with a device behind them.
"""

import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from fliot_lab import ROOT
from fliot_lab.data.iot23 import DataMissing
from fliot_lab.data.layout import BENIGN
from fliot_lab.data.packets import PacketWarning, read_packets, to_conn_log
from fliot_lab.data.sample.folders import made_once
from fliot_lab.data.sample.setups import MAC_FILE, generate_setups
from fliot_lab.data.sample.things import SIBLINGS as SIMULATED_SIBLINGS

CITATION = "Miettinen et al. 2017, arXiv 1611.04880"
DATASETS = ("auto", "iot23", "iot-sentinel", "sample")
#: A folder's name with the number of the unit at its end; the type is the name without it.
UNITS = {f"{name}{unit}": name for name in ("EdimaxCam", "EdnetCam") for unit in (1, 2)}
UNITS |= {f"{name}2": name for name in ("WeMoInsightSwitch", "WeMoSwitch")}
#: Types that differ in little but their name: the published study's confusions. A family is named after its members.
SIBLINGS = (
    ("D-LinkSwitch", "D-LinkWaterSensor", "D-LinkSiren", "D-LinkSensor"),
    ("TP-LinkPlugHS100", "TP-LinkPlugHS110"),
    ("EdimaxPlug1101W", "EdimaxPlug2101W"),
    ("SmarterCoffee", "iKettle2"),
)
_FILE = re.compile(r"Setup-(?P<person>[A-Z])-(?P<number>\d+)-STA\.(pcap|pcapng)")


@dataclass(frozen=True)
class Source:
    """Where the set-ups of this run come from. `root` holds one folder per device."""

    root: Path
    name: Literal["iot-sentinel", "sample"]
    simulated: bool
    banner: str


def locate(dataset: str = "auto", *, seed: int = 7) -> Source:
    """The source of set-ups that `dataset` asks for: `iot-sentinel` the real ones, `sample` simulated ones made from `seed`.

    `auto` and `iot23` (real captures, in the lessons' words) take the real set-ups where `$FLIOT_DATA/iot-sentinel` has them
    and else the simulated ones: IoT-23 itself has no set-ups. Raises DataMissing, and ValueError for another word.
    """
    if dataset not in DATASETS:
        raise ValueError(f"dataset={dataset!r} is unknown; choose one of {', '.join(DATASETS)}")
    named = os.environ.get("FLIOT_DATA")
    real = (Path(named).expanduser() if named else ROOT / "data" / "raw") / "iot-sentinel"
    if dataset != "sample" and (count := len(_captures(real))):
        return Source(real, "iot-sentinel", False, f"Real data: {count} set-ups of the IoT Sentinel set in {real}, {CITATION}")
    if dataset == "iot-sentinel":
        raise DataMissing(
            f"{real} holds no set-ups, <Device>/Setup-<person>-<n>-STA.pcap. Ask Aalto University for the IoT Sentinel set "
            "and name the folder that holds iot-sentinel/ in FLIOT_DATA; dataset='sample' needs none"
        )
    folder = ROOT / "data" / "sample" / f"setups-seed-{seed}"
    root = made_once(folder, lambda folder: generate_setups(folder, seed))
    warning = "values here say nothing about real devices"
    return Source(root, "sample", True, f"SIMULATED set-ups, made from seed {seed} by fliot_lab.data.sample: {warning}")


def listing(root: str | os.PathLike[str]) -> pd.DataFrame:
    """The set-ups below `root`, one a row: path, folder, device_type, family, person, number; sorted by folder, person, number.

    `device_type` is the folder without the number of the unit; `family` joins the types that are siblings of one platform.
    Raises DataMissing where there are none.
    """
    found = _captures(Path(root))
    if not found:
        raise DataMissing(f"{root} holds no set-ups; expected <Device>/Setup-<person>-<n>-STA.pcap")
    families = {name: "/".join(group) for group in (*SIBLINGS, *SIMULATED_SIBLINGS) for name in group}
    rows = []
    for path, match in found:
        device = UNITS.get(path.parent.name, path.parent.name)
        rows.append((path, path.parent.name, device, families.get(device, device), match["person"], int(match["number"])))
    frame = pd.DataFrame(rows, columns=["path", "folder", "device_type", "family", "person", "number"])
    return frame.sort_values(["folder", "person", "number"], ignore_index=True)


def flows(listed: pd.DataFrame) -> pd.DataFrame:
    """The flows of the set-ups in a `listing`, one a row: Zeek's columns, label (all benign), capture, device_type and person.

    A capture is `<folder>/<file>`. Checksums are ignored: the machine that captured the real set-ups left many to its network
    card. Raises PacketError for a file that holds no packets.
    """
    parts = []
    for path, folder, device, person in zip(*(listed[c] for c in ("path", "folder", "device_type", "person")), strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PacketWarning)  # a cut or damaged frame costs its flow a packet, and no more
            found = to_conn_log(read_packets(path), ignore_checksums=True)
        parts.append(found.assign(label=BENIGN, capture=f"{folder}/{path.stem}", device_type=device, person=person))
    return pd.concat(parts, ignore_index=True)


def address_of(capture: str | os.PathLike[str]) -> str | None:
    """The Ethernet address, as aa:bb:cc:dd:ee:ff, that the set-up's folder gives for its device; None where it gives none."""
    named = Path(capture).parent / MAC_FILE
    return named.read_text("utf-8").strip().lower() if named.is_file() else None


def _captures(root: Path) -> list[tuple[Path, re.Match[str]]]:
    """The set-ups' files below `root` and what their names say."""
    paths = root.glob("[!.]*/Setup-*") if root.is_dir() else ()
    return [(path, match) for path in paths if (match := _FILE.fullmatch(path.name))]
