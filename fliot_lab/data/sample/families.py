"""Families of malware: which of the five behaviours a bot has, towards whom, and how much of it in an hour.

What a family does follows what was published of it; the hourly rates are chosen, so that classes are as unequal as in IoT-23
and a day of a bot fits a sample. Labels are IoT-23's, which calls Okiru's scan by the bot's name. Addresses are for
documentation (RFC 5737).
"""

from collections.abc import Iterator

from fliot_lab.data.sample.behaviours import Behaviour, Device, Event, Site
from fliot_lab.data.sample.control import CONTROL, Controller, control, hidden_control, peers, registration
from fliot_lab.data.sample.floods import flood
from fliot_lab.data.sample.malware import OKIRU, brute_force, download, scan

VICTIM = "203.0.113.220"
FAMILIES: dict[str, tuple[Behaviour, ...]] = {
    # Source published in 2016: scan of telnet, 62 pairs of name and password, heartbeat of a minute, ten kinds of flood.
    "mirai": (
        registration(Controller("203.0.113.66", 23, "C&C-Mirai")),
        download("203.0.113.177", label="C&C-FileDownload", binaries=6),
        scan(102, (23, 2323)),
        brute_force(26, port=23),
        control(100, Controller("203.0.113.18", 48_101, CONTROL), moods=(0.95, 0.05, 0.0), tries=(1, 3, 3, 4)),
        control(55, Controller("203.0.113.66", 23), tries=(1, 3, 4)),
    ),
    # Mirai's code with an exploit of routers' service on port 37215 (Check Point, 2017) and of 52869.
    "okiru": (
        download("203.0.113.180", label="C&C-FileDownload", binaries=5),
        scan(195, (37_215,), label=OKIRU),
        scan(44, (52_869,)),
        control(105, Controller("203.0.113.92", 57_722), tries=(1, 3, 4)),
    ),
    # Encrypted control on port 443, several binaries, neither scan nor flood seen (Avast, 2018).
    "torii": (
        download("203.0.113.181", label="FileDownload", binaries=3),
        hidden_control(0.55, Controller("203.0.113.140", 443, "C&C-Torii")),
    ),
    # A descendant of Gafgyt (published in 2015): commands as lines of text, scans through ordinary sockets, exploits of 52869.
    "hakai": (
        download("203.0.113.182", label="FileDownload", binaries=4),
        scan(80, (80, 8080), sockets=True),
        scan(24, (52_869,)),
        brute_force(22, port=22),
        brute_force(2.5, port=23, label="C&C-HeartBeat-Attack", victim="203.0.113.31"),
        control(82, Controller("203.0.113.5", 50, CONTROL), moods=(1.0, 0.0, 0.0), tries=(6,)),
        control(50, Controller("203.0.113.31", 6667, CONTROL), moods=(0.15, 0.0, 0.85), chat=True),
        control(12, Controller("203.0.113.31", 666), tries=(1, 3, 4)),
    ),
    # Peers instead of a controller, and scans of telnet, web and data base ports (Bitdefender, 2018).
    "hide-and-seek": (
        download("203.0.113.183", label="FileDownload", binaries=3),
        scan(84, (80, 8080, 2480, 5984, 23, 9527), first=1 / 6),
        brute_force(24, port=22),
        peers(3.0),
    ),
}
#: What a family does to others when somebody orders it: a bot for hire may go for days without.
FLOODS: dict[str, tuple[Behaviour, ...]] = {
    "mirai": (
        flood(350, "unsummed", VICTIM),
        flood(75, "SYN", VICTIM, 25_565),
        flood(18, "UDP", VICTIM, 27_015),
    ),
    "okiru": (flood(30, "SYN", VICTIM, 443),),
    "hakai": (
        flood(36, "UDP", VICTIM, 80),
        flood(12, "SYN", VICTIM, 62_336),
    ),
}
#: The share of a capture's expected time before the infection: between these, as the seed decides (chosen).
INFECTED = 0.02, 0.12


def infection(family: str, at: float, *, ordered: bool = True) -> list[Behaviour]:
    """What malware of a `family` makes a device do from `at` seconds on, with the floods that are `ordered`."""
    return [_from(behaviour, at) for behaviour in FAMILIES[family] + (FLOODS.get(family, ()) if ordered else ())]


def _from(behaviour: Behaviour, begin: float) -> Behaviour:
    def later(site: Site, device: Device) -> Iterator[Event]:
        for at, draw, flows in behaviour(site, device):
            yield begin + at, draw, flows

    return later
