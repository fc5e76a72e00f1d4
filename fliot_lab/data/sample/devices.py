"""Kinds of devices, each a list of behaviours with its own rhythm, and the places that are lists of devices.

Periods that a document fixes say so; the others are chosen, near what makers' manuals and measurement studies of such devices
name: seconds for heartbeats, minutes for status calls, hours for updates.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from fliot_lab.data.sample import services as say
from fliot_lab.data.sample.behaviours import Behaviour, Device, Event, Site, booting, sometimes, steadily

#: Seconds for which a maker's server stays away, and mean seconds between two such times (chosen).
OUTAGE, BETWEEN_OUTAGES = 900.0, 40_000.0


def keeping_time(*, every: float, reach: float, servers: int = 4, port: int | None = 123) -> Behaviour:
    """ntpd: `servers` asked in turn, each every `every` seconds (RFC 5905, 7.3: 64 s at least), after a burst at the start.

    Each server goes away and comes back; in the mean the share `reach` of the polls is answered.
    """

    def behaviour(site: Site, device: Device) -> Iterator[Event]:
        who = [partial(say.clock, device=device, server=server, port=port) for server in say.TIME_SERVERS[:servers]]
        polls = [(partial(one, heard=False), partial(one, heard=True)) for one in who]
        bursts = [(partial(one, heard=False, packets=6), partial(one, heard=True, packets=6)) for one in who]
        up = [site.chance(reach) for _ in who]
        at = site.rng.uniform(2, 20)
        for nth in range(servers):
            yield at, bursts[nth][up[nth]], 1
            at += site.rng.uniform(0.1, 2)
        at += 64.0
        while True:
            at += (
                max(64.0, every) / servers * site.rng.uniform(0.98, 1.06) if servers > 1 else every * site.rng.uniform(1, 1.06)
            )
            nth = (nth + 1) % servers
            if site.chance(0.1):
                up[nth] = site.chance(reach)
            yield at, (bursts if site.chance(0.01) else polls)[nth][up[nth]], 1

    return behaviour


def calling(
    draw: Callable[..., Any],
    *,
    every: float,
    port: int = 443,
    names: tuple[int, ...] = (21, 27),
    slack: float = 0.3,
    look_up: float = 0.5,
    **details: Any,
) -> Behaviour:
    """Calls to the maker's servers on a beat: a look-up where the name is forgotten, then `draw`; in vain during an outage."""

    def behaviour(site: Site, device: Device) -> Iterator[Event]:
        ask = partial(say.lookup, device=device, names=names)
        act = partial(draw, device=device, **details)
        fail = partial(say.call_in_vain, device=device, port=port)
        at = site.rng.uniform(0, min(every, 60.0))
        back, away = 0.0, site.pause(BETWEEN_OUTAGES)
        while True:
            if at > away:
                back = away + site.pause(OUTAGE)
                away = back + site.pause(BETWEEN_OUTAGES)
            if site.chance(look_up):
                yield at, ask, 1
            if at < back:  # a device that is not answered tries again soon
                yield at + 0.2, fail, 1
                at += site.rng.uniform(70, 140)
            else:
                yield at + 0.2, act, 1
                at += 0.3 + every * site.rng.uniform(1 - slack, 1 + slack)

    return behaviour


JOINING: tuple[Behaviour, ...] = (
    booting(say.address_request),
    booting(say.address_answer),
    booting(partial(say.neighbours, kind="solicitation")),
    booting(partial(say.neighbours, kind="detection")),
    booting(partial(say.neighbours, kind="membership")),
    steadily(say.address_renewal, every=43_200),  # half of a lease of a day
)
#: Kind -> behaviours.
KINDS: dict[str, tuple[Behaviour, ...]] = {
    "light bridge": (
        keeping_time(every=900, reach=0.99, servers=1, port=None),
        sometimes(say.announcements, per_hour=3.0, apart=700),
        calling(say.reachability, every=900, names=(15, 19, 24), look_up=0.9),
        calling(say.web_call, every=1800, port=80, sent=(1800, 900), received=(800, 1600), names=(19,), look_up=0.9),
        sometimes(say.secure_call, per_hour=1.5, asleep=0.2, hello=290, certificate=3100),
        sometimes(say.service_discovery, per_hour=1.0, apart=70),
    ),
    "speaker": (
        keeping_time(every=600, reach=0.5, servers=2, port=None),
        calling(say.secure_call, every=240, hello=517, certificate=4100, says=700, names=(18, 22, 26, 31)),
        calling(say.web_call, every=300, port=80, sent=(120, 160), received=(240, 800), names=(22, 31), look_up=0.3),
        sometimes(say.secure_call, per_hour=12.0, asleep=0.05, hello=517, certificate=4100, says=2400),
        sometimes(say.forgotten, per_hour=8.0),
        sometimes(say.service_discovery, per_hour=12.0, apart=70),
        sometimes(partial(say.service_discovery, ipv6=True), per_hour=12.0, apart=70),
        sometimes(say.ping, per_hour=8.0, apart=80),
        sometimes(say.address_request, per_hour=10.0, apart=120),
        sometimes(partial(say.neighbours, kind="membership"), per_hour=4.0, apart=70),
    ),
    "door lock": (
        keeping_time(every=1024, reach=0.97, servers=1, port=None),
        calling(say.secure_call, every=600, hello=226, certificate=2700, says=180, names=(24,)),
        sometimes(say.secure_call, per_hour=3.0, asleep=0.05, hello=226, certificate=2700, says=260),
        sometimes(partial(say.service_discovery, ipv6=True), per_hour=20.0, apart=70),
        sometimes(partial(say.neighbours, kind="solicitation"), per_hour=5.0, apart=70),
        sometimes(partial(say.neighbours, kind="membership"), per_hour=8.0, apart=70),
        sometimes(partial(say.ping, echoes=2), per_hour=4.0, apart=70),
    ),
    # A small Linux board, as hobbyists and makers of prototypes use: Debian's time servers, and a service that is gone.
    "board": (
        keeping_time(every=130, reach=0.62),
        sometimes(partial(say.lookup, names=(21,), heard=0.6), per_hour=12.0),  # "0.debian.pool.ntp.org"
        sometimes(partial(say.lookup, names=(23, 27), heard=0.85), per_hour=8.0),
        sometimes(say.call_in_vain, per_hour=3.5, tries=(1, 3, 5, 6)),
        sometimes(say.call_in_vain, per_hour=2, port=80, tries=(1, 3, 5, 6)),
    ),
    "camera": (
        keeping_time(every=256, reach=0.97, servers=2),
        calling(say.held_session, every=5400, port=8883),
        sometimes(say.upload, per_hour=6.0, asleep=0.3),
        sometimes(say.announcements, per_hour=2.0, apart=700),
        calling(say.web_call, every=21_600, port=80, names=(25,)),
    ),
    "plug": (
        keeping_time(every=3600, reach=0.99, servers=1, port=None),
        calling(say.held_session, every=7200, port=8883, names=(26,)),
        sometimes(say.secure_call, per_hour=0.6, asleep=0.1, hello=204, certificate=2500, says=120),
    ),
    "thermostat": (
        keeping_time(every=1024, reach=0.98, servers=1),
        calling(say.secure_call, every=300, hello=262, certificate=3300, says=320, names=(23,)),
        calling(say.web_call, every=43_200, port=80, names=(28,)),
        sometimes(say.service_discovery, per_hour=2.0, apart=70),
    ),
    "infusion pump": (
        keeping_time(every=512, reach=0.99, servers=1),
        steadily(say.record, every=60, slack=0.02),
        sometimes(say.log_line, per_hour=12.0),
        sometimes(say.record, per_hour=4.0, asleep=0.4, sizes=(1800, 2600)),
    ),
    "patient monitor": (
        keeping_time(every=256, reach=0.99, servers=2),
        steadily(say.record, every=30, slack=0.02, sizes=(1210, 1216, 1222)),
        sometimes(say.log_line, per_hour=6.0, size=131),
    ),
    "PLC": (
        steadily(say.register_polls, every=30, slack=0.01, reads=20),
        sometimes(say.log_line, per_hour=4.0, size=96),
        keeping_time(every=1024, reach=0.99, servers=1),
    ),
    "operator panel": (
        steadily(say.register_polls, every=120, slack=0.05, reads=60, registers=40),
        keeping_time(every=512, reach=0.98, servers=2),
        calling(say.web_call, every=3600, port=80, names=(29,)),
    ),
    "traffic sensor": (
        steadily(say.report, every=60, slack=0.1),
        keeping_time(every=2048, reach=0.95, servers=1, port=None),
        calling(say.held_session, every=10_800, minutes=120.0, names=(22,)),
    ),
    "street light": (
        steadily(say.report, every=600, slack=0.2, size=44),
        keeping_time(every=3600, reach=0.9, servers=1, port=None),
    ),
}
#: Place -> the kinds of its devices, one entry a device.
SCENARIOS: dict[str, tuple[str, ...]] = {
    "home": ("light bridge", "speaker", "door lock", "camera", "plug", "plug", "thermostat", "board"),
    "hospital": ("infusion pump",) * 6 + ("patient monitor",) * 4 + ("camera", "thermostat", "door lock", "board"),
    "factory": ("PLC",) * 8 + ("operator panel",) * 2 + ("camera", "camera", "board"),
    "city": ("traffic sensor",) * 10 + ("street light",) * 12 + ("camera",) * 4 + ("board",),
}
#: Seconds of round trip to the world that are typical of a place (chosen): fibre, a home's line, a mobile network.
DELAYS = {"home": 0.02, "hospital": 0.008, "factory": 0.012, "city": 0.06}


def network(kinds: tuple[str, ...], *, first: int = 100, delay: float = 0.03, twice: float = 0.0) -> list[Device]:
    """Devices of these kinds in one network, with private addresses from 192.168.1.`first` on."""
    router = "192.168.1.1"
    hosts = range(first, first + len(kinds))
    return [
        Device(kind, f"192.168.1.{host}", f"fe80::5054:ff:fe00:{host:x}", router, delay, twice)
        for kind, host in zip(kinds, hosts, strict=True)
    ]


def actors_of(devices: list[Device]) -> list[tuple[Behaviour, Device]]:
    """All behaviours of the devices, each with its device. The first is switched on as the capture begins; the others are on.

    Were they all switched on at once, Zeek would take their calls for an address for one: all come from 0.0.0.0.
    """
    joining = [(behaviour, devices[0]) for behaviour in JOINING]
    return joining + [(behaviour, device) for device in devices for behaviour in KINDS[device.kind]]
