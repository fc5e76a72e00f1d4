"""The 25 simulated device types: what each one's network code, maker and purpose make it do while it is set up.

Every name is invented. Makers have several types where the course needs siblings: devices on one platform that differ in one
or two numbers, so that they are hard to tell apart. What protocols fix is said beside it; all other numbers are chosen for
what such a device might do, and none is measured on a real one.
"""

from dataclasses import dataclass, replace
from typing import Literal

Form = Literal["tls", "http", "raw"]
MDNS_GROUP, SSDP_GROUP = "224.0.0.251", "239.255.255.250"


@dataclass(frozen=True)
class Stack:
    """What an operating system's network code gives away, whatever the device is for."""

    ttl: int
    timestamps: bool
    window: int  # bytes of TCP's receive window at first
    pad: int  # bytes of a DHCP message: 300 of old, 308 in lwIP, 548 in udhcpc
    wait: float  # seconds from the Wi-Fi to the first DHCP message
    asks: bytes  # DHCP's list of wanted options (RFC 2132, 9.8)
    client: str  # DHCP's vendor class, "" for none
    probes: int  # ARP messages about its own address (RFC 5227)
    ciphers: int  # TLS cipher suites that it offers
    ticket: bool = False
    ipv6: bool = False


@dataclass(frozen=True)
class Call:
    """Connections to a server of the maker's: `times` of them, `rounds` questions each of `up` bytes with answers of `down`."""

    host: str
    form: Form
    up: float
    down: float
    rounds: float
    times: float = 1.0
    port: int = 443
    after: float = 0.5  # seconds from the address to the first
    every: float = 0.3  # seconds between the questions
    bound: bool = False  # begins when the person uses the app, not when the device has its address


@dataclass(frozen=True)
class App:
    """What the app on the phone does with the device at home: `rounds` questions of `up` bytes with answers of `down`."""

    form: Form
    port: int
    up: float
    down: float
    rounds: float
    every: float = 0.8
    times: float = 1.0  # connections that share the rounds


@dataclass(frozen=True)
class Beacon:
    """A datagram of the maker's own that asks the local network for the app."""

    port: int
    size: int
    times: float
    every: float = 0.5


@dataclass(frozen=True)
class Thing:
    """A device type. Numbers of times are means."""

    name: str
    maker: str
    stack: Stack
    calls: tuple[Call, ...] = ()
    app: App | None = None
    beacon: Beacon | None = None
    wired: bool = False  # no Wi-Fi handshake
    mac_of: str = ""  # the type with whose address it speaks: what hangs on a bridge has none of its own
    service: str = ""  # in mDNS
    announced: float = 0.0  # times that mDNS announces the service
    text: int = 60  # bytes of the service's text record
    notified: float = 0.0  # rounds of SSDP announcements
    kinds: int = 3  # announcements in a round
    clocks: float = 0.0  # times that it asks for the time
    groups: tuple[str, ...] = ()  # that it joins beside mDNS's and SSDP's
    settles: float = 5.0  # seconds until the person sees that it is done


# --- platforms ----------------------------------------------------------------------------------------------------------

LINUX = Stack(64, True, 5_840, 548, 1.6, bytes([1, 3, 6, 12, 15, 28, 42]), "udhcp 1.20.2", 1, 26)
LINUX_NEW = Stack(64, True, 29_200, 300, 0.5, bytes([1, 33, 3, 6, 15, 26, 28, 51, 58, 59]), "", 2, 14, True, True)
LINUX_OLD = Stack(64, True, 5_840, 300, 2.4, bytes([1, 3, 6, 12, 15, 17, 40, 41]), "udhcp 1.15.3", 1, 19)
TINY = Stack(255, False, 2_144, 308, 0.02, bytes([1, 3, 28, 6]), "", 3, 6)
TINY_NEW = Stack(255, False, 5_744, 308, 0.05, bytes([1, 3, 28, 6, 15, 44, 46]), "", 2, 10, False, True)
KERNEL = Stack(128, False, 8_192, 300, 0.3, bytes([1, 3, 6, 15]), "MSFT 5.0", 1, 12)
# Later builds of a system, which only DHCP's list of options shows: the messages are as long.
LINUX_LATER = replace(LINUX, asks=bytes([1, 3, 6, 12, 15, 28, 43]), client="udhcp 1.22.1")
TINY_LATER = replace(TINY_NEW, asks=bytes([1, 3, 28, 6, 15, 46, 44]))

_SENSOR = Thing(
    "QuorvexMotion",
    "quorvex",
    LINUX,
    calls=(
        Call("api.quorvex.example", "tls", 420, 900, 6, times=3.0, after=1.5),
        Call("push.quorvex.example", "tls", 140, 90, 5, after=4.0, every=6.0, port=8883, bound=True),
        Call("fw.quorvex.example", "http", 0, 700, 1, port=80, after=2.5),
    ),
    app=App("http", 80, 260, 1_250, 22, 1.2, 8.0),
    service="_hnap._tcp.local",
    announced=18,
    text=74,
    clocks=2,
    settles=20,
)
_PLUG = Thing(
    "MorvanePlugS",
    "morvane",
    LINUX_OLD,
    calls=(Call("devs.morvane.example", "tls", 230, 260, 5, port=50_443, after=0.3, every=4.0),),
    app=App("raw", 9_999, 46, 580, 3, 2.0),
    clocks=1.5,
    settles=9,
)
_TWIN_PLUG = Thing(
    "BrelkoPlug10",
    "brelko",
    TINY_NEW,
    calls=(Call("mq.whitelabel.example", "raw", 88, 60, 9, port=8_086, after=0.6, every=2.5),),
    app=App("http", 10_000, 320, 410, 3),
    beacon=Beacon(20_560, 114, 16),
    clocks=1,
    settles=24,
)
_KITCHEN = Thing(
    "ZindleKettle", "zindle", TINY, app=App("raw", 2_081, 5, 9, 0.35, 3.0), groups=("239.1.1.1",), clocks=0, settles=4.5
)
_LIGHT = Thing(
    "PlimboBulb",
    "plimbo",
    TINY_NEW,
    calls=(Call("mq.whitelabel.example", "tls", 190, 120, 7, port=8_883, after=0.8, every=1.5),),
    beacon=Beacon(6_667, 172, 9, 1.2),
    app=App("raw", 6_668, 110, 95, 6, 0.6),
    settles=15,
)
_CAMERA = Thing(
    "OskennaCam1",
    "oskenna",
    LINUX_OLD,
    calls=(
        Call("p2p.oskenna.example", "raw", 48, 48, 8, port=32_100, after=1.0, every=0.8),
        Call("www.oskenna.example", "http", 0, 420, 1, port=80, after=2.0),
    ),
    app=App("http", 80, 180, 2_600, 9, 0.7, 3.0),
    service="_http._tcp.local",
    announced=5,
    notified=3,
    settles=25,
)

#: Groups of siblings first, then two of one maker that differ plainly, a bridge with what hangs on it, and the lone ones.
THINGS = (
    _SENSOR,
    replace(_SENSOR, name="QuorvexWater", app=App("http", 80, 260, 1_250, 19, 1.2, 8.0), announced=20),
    replace(
        _SENSOR, name="QuorvexSiren", stack=LINUX_LATER, app=App("http", 80, 260, 1_250, 20, 1.2, 8.0), announced=16, text=73
    ),
    replace(
        _SENSOR, name="QuorvexSocket", stack=LINUX_LATER, app=App("http", 80, 268, 1_320, 23, 1.2, 8.0), announced=14, clocks=3
    ),
    _TWIN_PLUG,
    replace(_TWIN_PLUG, name="BrelkoPlug20", beacon=Beacon(20_560, 114, 13), app=App("http", 10_000, 320, 414, 3.5)),
    _PLUG,
    replace(_PLUG, name="MorvanePlugM", app=App("raw", 9_999, 46, 640, 3.5, 2.0), settles=10),
    _KITCHEN,
    replace(_KITCHEN, name="ZindleCoffee", app=App("raw", 2_081, 5, 9, 0.6, 3.0), settles=5.0),
    _LIGHT,
    replace(_LIGHT, name="PlimboStrip", app=App("raw", 6_668, 112, 95, 7, 0.6)),
    replace(_LIGHT, name="PlimboLamp", stack=TINY_LATER, beacon=Beacon(6_667, 172, 11, 1.2)),
    _CAMERA,
    replace(_CAMERA, name="OskennaCam2", stack=LINUX_NEW, notified=1, announced=9, app=App("http", 80, 180, 3_900, 12, 0.7, 4)),
    Thing(
        "DrovanaBridge",
        "drovana",
        LINUX_NEW,
        calls=(
            Call("ws.drovana.example", "http", 210, 380, 24, times=3, port=80, after=1.0),
            Call("diag.drovana.example", "tls", 520, 240, 3, after=4.0),
        ),
        app=App("http", 80, 60, 1_900, 40, 0.5, 10.0),
        wired=True,
        service="_bridge._tcp.local",
        announced=7,
        notified=3,
        kinds=3,
        clocks=6,
        settles=40,
    ),
    Thing(
        "DrovanaSwitch",
        "drovana",
        LINUX_NEW,
        app=App("http", 80, 90, 520, 55, 0.5, 14.0),
        wired=True,
        mac_of="DrovanaBridge",
        service="_bridge._tcp.local",
        announced=2,
        notified=2,
        kinds=3,
        clocks=2,
        settles=35,
    ),
    Thing(
        "TalpideScale",
        "talpide",
        TINY,
        calls=(Call("scales.talpide.example", "http", 90, 34, 2, times=3, port=80, after=0.05),),
        settles=1.5,
    ),
    Thing(
        "KestwynThermostat",
        "kestwyn",
        KERNEL,
        calls=(
            Call("frontdoor.kestwyn.example", "tls", 610, 340, 4, port=9_543, after=1.2),
            Call("log.kestwyn.example", "tls", 1_900, 60, 2, after=5.0),
        ),
        clocks=4,
        settles=30,
    ),
    Thing(
        "WumbrelSpeaker",
        "wumbrel",
        LINUX_NEW,
        calls=(
            Call("voice.wumbrel.example", "tls", 380, 1_600, 8, times=4, after=0.8),
            Call("music.wumbrel.example", "tls", 240, 9_000, 4, after=6.0, bound=True),
        ),
        service="_speaker._tcp.local",
        announced=10,
        text=180,
        notified=2,
        kinds=5,
        app=App("tls", 8_009, 130, 210, 12, 0.6),
        clocks=2,
        settles=25,
    ),
    Thing(
        "YarroliteGateway",
        "yarrolite",
        KERNEL,
        calls=(Call("portal.yarrolite.example", "raw", 72, 130, 14, port=62_910, after=3.0, every=1.6),),
        beacon=Beacon(23_272, 26, 4, 1.0),
        wired=True,
        groups=("224.0.0.1",),
        clocks=2,
        settles=30,
    ),
    Thing(
        "FendaxLock",
        "fendax",
        TINY_NEW,
        calls=(Call("keys.fendax.example", "tls", 300, 180, 3, times=2, after=0.4, every=0.2),),
        service="_lock._tcp.local",
        announced=3,
        text=40,
        settles=8,
    ),
    Thing(
        "HibrasVacuum",
        "hibras",
        LINUX,
        calls=(
            Call("ott.hibras.example", "raw", 128, 96, 6, port=8_053, after=0.5, every=1.0),
            Call("maps.hibras.example", "tls", 4_200, 90, 3, after=8.0, bound=True),
        ),
        beacon=Beacon(54_321, 32, 5, 1.0),
        clocks=1,
        settles=22,
    ),
    Thing(
        "JuntoxCam",
        "juntox",
        LINUX,
        calls=(
            Call("relay.juntox.example", "tls", 260, 310, 5, after=1.5),
            Call("upload.juntox.example", "tls", 14_000, 40, 2, after=7.0, bound=True),
        ),
        service="_rtsp._tcp.local",
        announced=16,
        notified=9,
        kinds=4,
        app=App("http", 80, 40, 800, 8, 0.9, 3.0),
        clocks=1,
        settles=50,
    ),
    Thing(
        "LorquinDoorbell",
        "lorquin",
        TINY_NEW,
        calls=(
            Call("ring.lorquin.example", "tls", 340, 420, 6, after=0.6, every=0.5),
            Call("img.lorquin.example", "tls", 7_500, 40, 1, times=2, after=9.0, bound=True),
        ),
        service="_doorbell._tcp.local",
        announced=4,
        clocks=1,
        settles=20,
    ),
)

BY_NAME = {thing.name: thing for thing in THINGS}
#: Types of one platform that are hard to tell apart; a lesson may merge each group.
SIBLINGS = (
    ("QuorvexMotion", "QuorvexWater", "QuorvexSiren", "QuorvexSocket"),
    ("BrelkoPlug10", "BrelkoPlug20"),
    ("MorvanePlugS", "MorvanePlugM"),
    ("ZindleKettle", "ZindleCoffee"),
    ("PlimboBulb", "PlimboStrip", "PlimboLamp"),
)
