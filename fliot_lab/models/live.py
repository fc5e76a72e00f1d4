"""Who is this: a capture or this machine, held against devices that are known, also while the capture grows."""

import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fliot_lab.data import setups
from fliot_lab.data.packets import PacketWarning
from fliot_lab.data.sample import things
from fliot_lab.data.sample.hosts import telemetry
from fliot_lab.features.devices import Fingerprint, hosts, matrix, packets
from fliot_lab.models.identification import UNKNOWN, DeviceIdentifier

#: Rows of telemetry in a fingerprint of a host that is known.
HOST_ROWS = 60
#: Bytes of the header of a pcap file: with fewer, nobody can say yet whether it is one.
HEADER = 24


@dataclass(frozen=True)
class Enrolled:
    """Devices that are known: a classifier of their fingerprints, the features' names, and each type's family."""

    identifier: DeviceIdentifier
    names: list[str]
    family: dict[str, str]


@dataclass(frozen=True)
class Answer:
    """What a fingerprint was recognised as: `device` is the likeliest type, or UNKNOWN; `best` the likeliest with their
    probabilities; `reasons` the features that decided, with how much the probability falls without each."""

    device: str
    best: list[tuple[str, float]]
    family: str
    reasons: list[tuple[str, float]]


def enrol(folder: str | os.PathLike[str], *, seed: int) -> Enrolled:
    """The devices whose set-ups lie below `folder`, as `<Device>/Setup-<person>-<n>-STA.pcap`.

    Raises DataMissing where there are none, ValueError where there are fewer than two types, PacketError for a file that is
    no capture.
    """
    listed = setups.listing(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PacketWarning)  # a bad packet in training changes nothing that anybody would do
        fingerprints = [packets.fingerprint(packets.read(path))[0] for path in listed["path"]]
    family = dict(zip(listed["device_type"], listed["family"], strict=True))
    # The device that will be asked about was set up by somebody else: the threshold is set on persons held out.
    persons = listed["person"].tolist() if listed["person"].nunique() > 1 else None
    return _learnt(fingerprints, listed["device_type"].tolist(), family, seed, persons)


def enrol_hosts(folder: str | os.PathLike[str] | None, *, seed: int) -> Enrolled:
    """The hosts whose telemetry lies in `folder` as `<device>-<unit>.csv`; for None the simulated ones of `seed`.

    Raises ValueError where a file is no telemetry, and where there are fewer than two devices.
    """
    sources: list[tuple[str, Path | pd.DataFrame]]
    if folder is None:
        sources = [
            (name, telemetry(seed, device=name, unit=unit, run=unit, hours=1.0, every=1.0).drop(columns="infected"))
            for name in things.BY_NAME
            for unit in range(2)
        ]
    else:
        paths = sorted(Path(folder).glob("*-*.csv"))
        sources = [(path.stem.rpartition("-")[0], path) for path in paths]
    fingerprints, devices = [], []
    for name, source in sources:
        found = hosts.fingerprint(hosts.read(source), window=HOST_ROWS)
        fingerprints += found
        devices += [name] * len(found)
    return _learnt(fingerprints, devices, {}, seed)


def _learnt(
    fingerprints: list[Fingerprint], devices: list[str], family: dict[str, str], seed: int, groups: list[str] | None = None
) -> Enrolled:
    if len(set(devices)) < 2:
        raise ValueError(f"{len(set(devices))} known devices: telling them apart takes two or more")
    X, names = matrix(fingerprints)
    return Enrolled(DeviceIdentifier(seed=seed).fit(X, np.array(devices), groups), names, family)


def identify(enrolled: Enrolled, fingerprint: Fingerprint, *, top: int = 3, reasons: int = 3) -> Answer:
    """What the device with this fingerprint is, of those that are enrolled, or UNKNOWN.

    The `top` likeliest, and the `reasons` strongest features; none are looked for where it is 0, which is much faster.
    """
    X = matrix([fingerprint])[0]
    best = enrolled.identifier.top_k(X, top)[0]
    decided = enrolled.identifier.explain(X[0], enrolled.names)[:reasons] if reasons else []
    likeliest = best[0][0]
    return Answer(str(enrolled.identifier.predict(X)[0]), best, enrolled.family.get(likeliest, likeliest), decided)


def follow(
    path: str | os.PathLike[str], *, device: str | None = None, every: float = 0.5, idle: float = 30.0
) -> Iterator[pd.DataFrame]:
    """The packets so far, as `packets.read` gives them, each time that the capture file has changed; all of them each time.

    Looks `every` so many seconds, and ends when nothing has changed for `idle` seconds. A packet of which only a part is
    written waits for the next look, and so does everything until the `device` that was named speaks or is spoken to. Raises
    FileNotFoundError where there is no file, and as `packets.read` for a file that is no capture.
    """
    seen, last = (0, 0), time.monotonic()
    while time.monotonic() - last < idle:
        state = os.stat(path)
        now = state.st_size, state.st_mtime_ns
        if now == seen or state.st_size < HEADER:
            time.sleep(every)
            continue
        seen, last = now, time.monotonic()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PacketWarning)
            try:
                frame = packets.read(path, device)
            except packets.DeviceMissing:  # others spoke first
                continue
        if len(frame):
            device = device or frame.attrs["device"]  # a guess is kept: the answers are about one device
            yield frame


def told(answer: Answer) -> str:
    """The answer in a few lines, for a terminal."""
    likeliest, chance = answer.best[0]
    who = f"{UNKNOWN}; nearest is {likeliest}" if answer.device == UNKNOWN else likeliest
    lines = [f"{who} (confidence {chance:.2f})"]
    if answer.family != likeliest:
        lines.append(f"  of the siblings {answer.family}")
    lines += [f"  or {name} ({value:.2f})" for name, value in answer.best[1:] if value > 0]
    lines += [f"  because of {name} (without it {-fall:+.2f})" for name, fall in answer.reasons if fall > 0]
    return "\n".join(lines)
