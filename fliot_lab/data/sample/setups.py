"""Simulated captures of device set-ups in the layout of the IoT Sentinel set: a folder a device, a pcap file a set-up.

Nobody's traffic was recorded: `things` says what the invented devices are, `scenes` plays one set-up, `packets` and `messages`
write its bytes. A number measured on them says nothing about real devices.
"""

from collections.abc import Sequence
from pathlib import Path

from fliot_lab import atomic
from fliot_lab.data.sample.folders import README, check_whole, claim
from fliot_lab.data.sample.packets import write_pcap
from fliot_lab.data.sample.scenes import PEOPLE, TURNS, device_mac, setup
from fliot_lab.data.sample.things import BY_NAME, SIBLINGS, Thing

DEFAULT_SETUPS = 20
MOST_SETUPS = 1000
#: The first line of README.txt, by which `generate_setups` knows a folder that it made and may make anew.
MARK = "Simulated device set-ups, made by fliot_lab.data.sample"
MAC_FILE = "_iotdevice-mac.txt"


def generate_setups(out: Path, seed: int, *, devices: Sequence[str] | None = None, setups: int = DEFAULT_SETUPS) -> list[Path]:
    """The paths of simulated captures `<Device>/Setup-<person>-<n>-STA.pcap` under the folder `out`, `setups` for each device.

    `devices` are names of `things.BY_NAME`, all of them where it is None. The same seed gives the same bytes, and a device's
    do not depend on which others are asked for; more set-ups begin with the same ones. A folder that `generate_setups` made
    before is made anew; each file appears when it is complete. Raises ValueError where the seed is not a whole number from 0,
    where `setups` is not one from 1 to MOST_SETUPS, where a device is unknown or named twice, and where `out` is a file or a
    folder with anything else in it.
    """
    check_whole("seed", seed, 0)
    check_whole("setups", setups, 1, MOST_SETUPS)
    things = asked_for(devices)
    out = Path(out)
    claim(out, MARK, BY_NAME)
    paths = [path for thing in things for path in _write_device(out, thing, int(seed), int(setups))]
    atomic.write(out / README, _about(int(seed), len(things), int(setups)))
    return paths


def _write_device(out: Path, thing: Thing, seed: int, setups: int) -> list[Path]:
    """The paths of the device's captures, written one after the other, and beside them its address."""
    people = {person.letter: person for person in PEOPLE}
    turns = [TURNS[turn % len(TURNS)] for turn in range(setups)]
    paths = []
    for turn, letter in enumerate(turns):
        start, tape = setup(thing, people[letter], seed, turn)
        paths.append(out / thing.name / f"Setup-{letter}-{turns[: turn + 1].count(letter)}-STA.pcap")
        write_pcap(paths[-1], tape, start)
    atomic.write(out / thing.name / MAC_FILE, device_mac(thing, seed).hex(":") + "\n")
    return paths


def asked_for(devices: Sequence[str] | None) -> list[Thing]:
    """The things of these names, all for None. Raises ValueError where a name is unknown or comes twice, or none does."""
    if devices is None:
        return list(BY_NAME.values())
    if isinstance(devices, str) or not len(devices):
        raise ValueError(f"devices={devices!r}: expected a list of one or more names, such as [{next(iter(BY_NAME))!r}]")
    if unknown := [name for name in devices if name not in BY_NAME]:
        raise ValueError(f"devices: no simulated device is called {unknown[0]!r}; there are {', '.join(BY_NAME)}")
    if len(set(devices)) < len(devices):
        raise ValueError(f"devices={list(devices)}: name each device once")
    return [BY_NAME[name] for name in devices]


def _about(seed: int, devices: int, setups: int) -> str:
    """The README of the folder: what this is, and what it is not."""
    siblings = "\n".join(f"  {', '.join(group)}" for group in SIBLINGS)
    return f"""{MARK}

These captures are SIMULATED: computed from protocol rules with seed {seed}, {devices} devices with {setups} set-ups each. No
device, no person and no network was recorded, makers and devices are invented, and no byte is taken from a real capture. They
have the layout of the IoT Sentinel set (<Device>/Setup-<person>-<n>-STA.pcap), so that the same code reads both. What is
measured on them is an example, never evidence about real devices.

Persons A and B set devices up with older firmware than C, each in a home of their own; B has few set-ups.

Siblings of one platform, hard to tell apart:
{siblings}
DrovanaSwitch speaks with the address of DrovanaBridge: tell devices apart by folder. The first three bytes of an address
give the maker away, and a home's router always lends a device the same IP address.

Addresses of stations are locally administered. Remote addresses are reserved for documentation (RFC 5737), names end in
.example (RFC 2606), and both belong to nobody.
"""
