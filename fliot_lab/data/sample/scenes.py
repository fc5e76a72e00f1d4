"""One simulated set-up of a device: what a capture at the home's router sees while a person connects a new device.

A set-up is the Wi-Fi handshake, DHCP, ARP, IPv6, multicast groups, mDNS and SSDP, DNS, the time, calls to the maker's servers
and a phone's app that talks to the device. Only packets from or to the device are in it, as in captures that are filtered by
its Ethernet address. The times between steps are the person's and the device's; chosen where no protocol fixes them.
"""

import zlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from fliot_lab.data.sample import messages, packets
from fliot_lab.data.sample.packets import NOBODY, NOBODY6, Connection, Endpoint, Tape, multicast, packed
from fliot_lab.data.sample.things import MDNS_GROUP, SSDP_GROUP, THINGS, Call, Form, Thing

BEGIN = 1_714_982_400  # 2024-05-06 08:00 UTC, chosen
# Remote servers have addresses that are reserved for documentation (RFC 5737).
SERVER_NETS = ("192.0.2", "198.51.100", "203.0.113")


@dataclass(frozen=True)
class Person:
    """Somebody who sets devices up, with a home of their own. All numbers are chosen."""

    letter: str
    pause: float  # median seconds before the app is used
    fumbles: float  # share of set-ups with a wrong password first
    keen: float  # factor on what is done with the app
    curious: float  # searches of the phone that a device answers
    network: str
    pings: float  # how often the router tries an address before it lends it
    air: float  # seconds from the router to the device
    distance: float  # seconds from the router to the near end of the Internet
    loss: float  # share of segments that are sent twice
    segment: int  # bytes of a TCP segment on the line to the Internet; 8 less with PPPoE (RFC 2516)
    asks_again: float  # seconds after which the router looks whether a device is still there
    build: int  # the firmware that devices have by then: C comes months after A and B


PEOPLE = (
    Person("A", 9.0, 0.10, 1.0, 2.0, "192.168.0", 0.9, 0.003, 0.020, 0.004, 1460, 25, 1),
    Person("C", 6.0, 0.15, 1.1, 3.0, "192.168.1", 0.5, 0.004, 0.026, 0.010, 1452, 40, 2),
    Person("B", 18.0, 0.35, 0.8, 1.0, "10.0.0", 0.0, 0.007, 0.045, 0.020, 1460, 15, 1),
)
TURNS = "ACACBCACAC"  # whose turn it is: A and C do most


@dataclass
class Scene:
    """One set-up as it goes on: who takes part, and the packets so far, with times in seconds since it began."""

    thing: Thing
    person: Person
    rng: Generator
    device: Endpoint
    router: Endpoint
    phone: Endpoint
    start: int  # seconds since 1970
    tape: Tape

    def put(self, time: float, frame: bytes) -> None:
        self.tape.append((time, frame))

    def some(self, mean: float) -> int:
        """A number of times around `mean`, by a tenth or so, rounded up or down at random."""
        return int(mean * self.rng.lognormal(0, 0.1) + self.rng.random())

    def built(self, what: str, spread: float = 0.15) -> float:
        """A factor from 1 - `spread` to 1 + `spread` by which this build of the device's firmware differs in `what`."""
        code = zlib.crc32(f"{self.thing.name} {self.person.build} {what}".encode())
        return 1 + spread * (code % 2001 / 1000 - 1)

    def about(self, seconds: float, spread: float = 0.25) -> float:
        """A duration around `seconds`."""
        return seconds * self.rng.lognormal(0, spread)

    def server(self, host: str) -> Endpoint:
        """The server `host`, the same in every set-up; it lies behind the router, 10 to 20 hops away."""
        code = zlib.crc32(host.encode())
        ip = packed(f"{SERVER_NETS[code % 3]}.{1 + code // 3 % 254}")
        return Endpoint(self.router.mac, ip, ttl=44 + code % 11, window=28_960, ident=int(self.rng.integers(1 << 16)))


# --- joining ------------------------------------------------------------------------------------------------------------


def _join(scene: Scene) -> float:
    """When the device is on the network: after its Wi-Fi handshake, which a wrong password makes longer."""
    if scene.thing.wired:
        return 0.0
    time = 0.0
    if scene.rng.random() < scene.person.fumbles:
        for _ in range(int(scene.rng.integers(2, 5))):  # hostapd asks four times, a second apart
            scene.put(time, packets.key_frame(scene.device, scene.router, scene.rng, last=False))
            time += 1.0 + 0.01 * scene.rng.random()
        time += scene.about(scene.person.pause, 0.4)
    scene.put(time, packets.key_frame(scene.device, scene.router, scene.rng, last=False))
    time += scene.about(0.01)
    scene.put(time, packets.key_frame(scene.device, scene.router, scene.rng, last=True))
    if scene.rng.random() < 0.15:
        scene.put(time + 0.002, packets.exchange_identification(scene.device))
    return time


def _lease(scene: Scene, time: float) -> float:
    """When the device has its address, by DHCP; the router may try the address first, and the device may ask again."""
    device, router, rng = scene.device, scene.router, scene.rng
    number = int(rng.integers(1 << 32))
    time += scene.about(scene.thing.stack.wait)
    _ask(scene, time, messages.DISCOVER, number)
    if rng.random() < 0.25:
        time += scene.about(2.0, 0.1)
        _ask(scene, time, messages.DISCOVER, number)
    if rng.random() < scene.person.pings:
        time += 0.01
        scene.put(time, packets.ping(router, device, 0, bytes(20)))
        time += scene.about(0.4)
    time += scene.about(0.003)
    _lend(scene, time, messages.OFFER, number)
    time += scene.about(0.008)
    _ask(scene, time, messages.REQUEST, number)
    time += scene.about(0.05)
    _lend(scene, time, messages.ACKNOWLEDGE, number)
    return _claim(scene, time + 0.005)


def _ask(scene: Scene, time: float, kind: int, number: int) -> None:
    """A DHCP message of the device's, with what its system says of itself."""
    stack, device = scene.thing.stack, scene.device
    options = [(61, b"\x01" + device.mac), (57, b"\x02\x40"), (55, stack.asks)]
    options += [(60, stack.client.encode())] if stack.client else []
    options += [(12, f"dev-{device.mac[-2:].hex()}".encode())] if stack.ipv6 else []
    options += [(50, device.ip), (54, scene.router.ip)] if kind == messages.REQUEST else []
    nobody, everybody = replace(device, ip=NOBODY), Endpoint(packets.BROADCAST, packets.EVERYBODY)
    device.ident += 1
    message = messages.dhcp(kind, number, device.mac, options, pad=stack.pad)
    scene.put(time, packets.udp(nobody, everybody, 68, 67, message))


def _lend(scene: Scene, time: float, kind: int, number: int) -> None:
    """A DHCP message of the router's: server, a day, mask, router, names."""
    device, own = scene.device, scene.router.ip
    options = [(54, own), (51, b"\x00\x01\x51\x80"), (1, b"\xff\xff\xff\x00"), (3, own), (6, own)]
    message = messages.dhcp(kind, number, device.mac, options, offered=device.ip, server=own)
    scene.put(time, packets.udp(scene.router, device, 67, 68, message))


def _claim(scene: Scene, time: float) -> float:
    """When the device has said that the address is its own and knows where the router is."""
    device, router = scene.device, scene.router
    for _ in range(scene.thing.stack.probes):
        scene.put(time, packets.arp(device, device.ip, sender_ip=NOBODY if scene.thing.stack.probes > 1 else None))
        time += scene.about(0.5, 0.05) if scene.thing.stack.probes > 1 else 0.01
    scene.put(time, packets.arp(device, router.ip))
    scene.put(time + 0.0005, packets.arp(router, device.ip, sender_ip=router.ip, to=device.mac))
    return time + 0.002


def _configure6(scene: Scene, up: float) -> None:
    """Group report, duplicate address detection and router solicitation (RFC 3810, RFC 4862), with the router's answer."""
    device, router = scene.device, scene.router
    own = packed("ff02::1:ff00:0")[:13] + device.ip6[13:]
    report = b"\0\0\0\1" + b"\4\0\0\0" + own
    nobody = Endpoint(device.mac, NOBODY, ip6=NOBODY6)
    time = up + scene.rng.random()
    scene.put(time, packets.icmp6(nobody, multicast(packed("ff02::16")), 143, report, alert=True))
    scene.put(time + 0.1, packets.icmp6(nobody, multicast(own), 135, bytes(4) + device.ip6))
    time += 1.1
    scene.put(time, packets.icmp6(device, multicast(packed("ff02::2")), 133, bytes(4) + b"\1\1" + device.mac))
    if scene.person.letter != "B":  # whose router has no IPv6
        lives = bytes([64, 0]) + (1800).to_bytes(2, "big") + bytes(8) + b"\1\1" + router.mac
        scene.put(time + 0.01, packets.icmp6(router, Endpoint(device.mac, NOBODY, ip6=device.ip6), 134, lives))


# --- the local network --------------------------------------------------------------------------------------------------


def _multicast(scene: Scene, up: float, used: float) -> None:
    """Groups joined, the mDNS service and the SSDP device announced, and the phone's searches, from `used` on, answered."""
    thing, device, rng = scene.thing, scene.device, scene.rng
    spoken = [MDNS_GROUP] * bool(thing.announced) + [SSDP_GROUP] * bool(thing.notified)
    for group in (*spoken, *thing.groups):
        for _ in range(1 + int(rng.random() < 0.6)):  # repeated within 10 s (RFC 2236, 8.10)
            scene.put(up + 0.1 + rng.uniform(0, 8), packets.join_group(device, packed(group)))
    if thing.announced:
        _announce(scene, up, used)
    if thing.notified:
        _notify(scene, up, used)


def _announce(scene: Scene, up: float, used: float) -> None:
    """Three probes 250 ms apart (RFC 6762, 8.1), announcements, and answers to the phone's questions."""
    thing, device, rng = scene.thing, scene.device, scene.rng
    host, group = f"dev-{device.mac[-2:].hex()}.local", multicast(packed(MDNS_GROUP))
    port = thing.app.port if thing.app else 80
    text = ("id=" + "x" * (thing.text - 3 + int(rng.integers(0, 3)))).encode()
    time = up + rng.uniform(0.1, 0.4)
    for step in range(3):
        scene.put(time + 0.25 * step, packets.udp(device, group, 5353, 5353, messages.mdns_probe(host, device.ip), ttl=255))
    record = messages.mdns_announcement(host, thing.service, device.ip, port, text)
    often = thing.announced * scene.built("mdns")
    own = scene.some(0.6 * often)
    asked = scene.some(0.4 * often * scene.person.curious / 2)
    times = [up + 1.0 + np.cumsum(rng.exponential(1.6, own)), used + np.cumsum(rng.exponential(0.9, asked))]
    for moment in np.concatenate(times):
        scene.put(float(moment), packets.udp(device, group, 5353, 5353, record, ttl=255))


def _notify(scene: Scene, up: float, used: float) -> None:
    """Rounds of NOTIFY, and answers to the phone's searches, sent within a second (UPnP 1.1, 1.3.3)."""
    thing, device, rng = scene.thing, scene.device, scene.rng
    where, serial = f"http://{'.'.join(map(str, device.ip))}:49152/description.xml", rng.bytes(16).hex()
    kinds = ["upnp:rootdevice", *(f"urn:schemas-upnp-org:service:{thing.name[-5:]}{step}:1" for step in range(thing.kinds - 1))]
    group, port, time = multicast(packed(SSDP_GROUP)), device.port(), up + rng.uniform(0.5, 1.5)
    for _ in range(scene.some(thing.notified)):
        for kind in kinds:
            message = messages.ssdp_notify(where, kind, serial, "sim/1.0 UPnP/1.1")
            scene.put(time, packets.udp(device, group, port, 1900, message, ttl=4))
            time += scene.about(0.05)
        time += scene.about(3.0)
    for _ in range(scene.some(scene.person.curious)):
        answer = messages.ssdp_answer(where, kinds[0], serial, "sim/1.0 UPnP/1.1")
        scene.put(used + rng.uniform(0, 3), packets.udp(device, scene.phone, 1900, 50_123, answer))


def _beacons(scene: Scene, up: float) -> None:
    """The maker's own datagrams to everybody, until the app answers or the device gives up."""
    if (beacon := scene.thing.beacon) is None:
        return
    everybody, port, time = Endpoint(packets.BROADCAST, packets.EVERYBODY), scene.device.port(), up + scene.about(0.4)
    for _ in range(scene.some(beacon.times * scene.built("beacon"))):
        scene.put(time, packets.udp(scene.device, everybody, port, beacon.port, scene.rng.bytes(beacon.size)))
        time += scene.about(beacon.every, 0.1)


def _neighbours(scene: Scene, up: float, end: float) -> None:
    """The router's questions whether the device is still there, every half a minute or so (RFC 1122, 2.3.2.1)."""
    time = up + scene.about(0.6 * scene.person.asks_again, 0.4)
    while time < end:
        scene.put(time, packets.arp(scene.router, scene.device.ip, sender_ip=scene.router.ip))
        scene.put(time + scene.about(0.004), packets.arp(scene.device, scene.router.ip, to=scene.router.mac))
        time += scene.about(scene.person.asks_again, 0.4)


# --- servers and the app ------------------------------------------------------------------------------------------------


def _resolve(scene: Scene, host: str, time: float) -> float:
    """When the device knows the server's address; now and then it has to ask twice."""
    device, router = scene.device, scene.router
    port, number = device.port(), int(scene.rng.integers(1 << 16))
    for kind in [messages.A] + [messages.AAAA] * scene.thing.stack.ipv6:
        scene.put(time, packets.udp(device, router, port, 53, messages.question(number, host, kind)))
        if scene.rng.random() < 2 * scene.person.loss:
            time += scene.about(2.0, 0.02)
            scene.put(time, packets.udp(device, router, port, 53, messages.question(number, host, kind)))
        time += scene.about(scene.person.distance, 0.5)
        addresses = [scene.server(host).ip] if kind == messages.A else []
        scene.put(time, packets.udp(router, device, 53, port, messages.answer(number, host, addresses, kind=kind)))
    return time + scene.person.air


def _clock(scene: Scene, up: float) -> None:
    """Questions for the time."""
    host = f"time.{scene.thing.maker}.example"
    if not (times := scene.some(scene.thing.clocks)):
        return
    time, port = _resolve(scene, host, up + scene.about(0.2)), scene.device.port()
    server = scene.server(host)
    for _ in range(times):
        scene.put(time, packets.udp(scene.device, server, port, 123, messages.ntp(scene.start + time)))
        reply = time + scene.about(scene.person.distance + 0.01)
        scene.put(reply, packets.udp(server, scene.device, 123, port, messages.ntp(scene.start + reply, answer=True)))
        time += scene.about(4.0, 0.1)


def _call(scene: Scene, call: Call, time: float) -> float:
    """When the last of a call's connections ends."""
    time = _resolve(scene, call.host, time)
    server, code = scene.server(call.host), zlib.crc32(call.host.encode())
    far = scene.person.distance + 0.01 * (code % 9)  # up to 80 ms beyond the near end
    for _ in range(max(1, scene.some(call.times))):
        ends = (scene.person.air, far)
        line = Connection(
            scene.tape, scene.rng, (scene.device, server), call.port, time, ends, scene.person.loss, scene.person.segment
        )
        line.open()
        hello = 2_600 + code % 2_400 if call.form == "tls" else 0
        _talk(
            scene,
            line,
            call.form,
            (call.up, call.down),
            max(1, scene.some(call.rounds * scene.built(call.host))),
            call.every,
            call.host,
            hello,
        )
        line.close(int(scene.rng.random() < 0.5), after=scene.about(0.05))
        time = line.time + scene.about(0.4)
    return time


def _use(scene: Scene, time: float) -> float:
    """When the person has done with the app what a set-up needs."""
    if (app := scene.thing.app) is None or not (rounds := scene.some(app.rounds * scene.person.keen)):
        return time
    phone, device = scene.phone, scene.device
    scene.put(time, packets.arp(device, phone.ip, to=phone.mac))
    share = -(-rounds // max(1, scene.some(app.times)))
    while rounds > 0:
        ends = (scene.person.air, scene.person.air)
        line = Connection(scene.tape, scene.rng, (phone, device), app.port, time, ends, scene.person.loss)
        line.open()
        seal = 900 if app.form == "tls" else 0  # a certificate that the device signed itself
        _talk(scene, line, app.form, (app.up, app.down), min(share, rounds), app.every, scene.thing.maker, seal)
        line.close(int(scene.rng.random() < 0.5), after=scene.about(0.05))
        rounds -= share
        time = line.time + scene.about(app.every)
    return time


def _talk(
    scene: Scene, line: Connection, form: Form, sizes: tuple[float, float], rounds: int, every: float, host: str, seal: int
) -> None:
    """Questions and answers on an open connection. Each step has a size of its own; builds change it by a few bytes."""
    rng, ciphers, ticket = scene.rng, scene.thing.stack.ciphers, scene.thing.stack.ticket
    reckons = 0.15 if scene.thing.stack.ttl == 255 else 0.03  # seconds for a key: small processors take longer
    if form == "tls":
        line.say(0, messages.client_hello(host, ciphers, rng, ticket=ticket), after=scene.about(0.02), answered=True)
        line.say(1, messages.server_flight(seal, rng), after=scene.about(0.005))
        line.say(0, messages.client_finish(rng), after=scene.about(reckons), answered=True)
        line.say(1, messages.server_finish(rng), after=scene.about(0.003))
    for step in range(rounds):
        shape = (0.6 + 0.8 * (zlib.crc32(f"{host} {step}".encode()) % 1000) / 1000) * scene.built(f"{host} {step}", 0.03)
        # Numbers written as text, a few characters more or less.
        up, down = (int(size * shape * (1 + 0.03 * (rng.random() - 0.5))) + int(rng.integers(1, 4)) for size in sizes)
        if form == "http":
            parts = messages.http_request(host, f"/{step}", up if sizes[0] else 0, rng), messages.http_answer(down, rng)
        elif form == "tls":
            parts = messages.hidden(up, rng), messages.hidden(down, rng)
        else:
            parts = rng.bytes(up), rng.bytes(down)
        line.say(0, parts[0], after=scene.about(every) if step else scene.about(0.01), answered=True)
        line.say(1, parts[1], after=scene.about(0.01, 0.5))
    if form == "tls":
        line.say(0, messages.farewell(rng), after=0.01)


# --- a whole set-up -----------------------------------------------------------------------------------------------------


def _stage(thing: Thing, person: Person, seed: int, turn: int) -> Scene:
    """Who takes part in the set-up `turn`. Address and MAC of a device stay the same in all its set-ups, as at home."""
    rng = np.random.default_rng([seed, zlib.crc32(thing.name.encode()), turn])
    mac = device_mac(thing, seed)
    stack, lent = thing.stack, 100 + zlib.crc32(mac) % 100
    ident, port = int(rng.integers(1 << 16)), int(rng.integers(32_768, 60_000))
    device = Endpoint(mac, packed(f"{person.network}.{lent}"), stack.ttl, packets.link_local(mac), stack.timestamps)
    device.window, device.ident, device.next_port = stack.window, ident, port
    maker = bytes([0x02, 0x52, ord(person.letter)])
    router = Endpoint(maker + b"\0\0\1", packed(f"{person.network}.1"), ip6=packets.link_local(maker + b"\0\0\1"))
    phone = Endpoint(maker + b"\0\0\2", packed(f"{person.network}.20"), window=65_535)
    phone.next_port += int(rng.integers(10_000))
    router.ident, phone.ident = rng.integers(1 << 16, size=2).tolist()
    day = THINGS.index(thing) + 120 * (person.build - 1)
    begin = BEGIN + 86_400 * day + 1200 * turn + int(rng.integers(600))
    return Scene(thing, person, rng, device, router, phone, begin, [])


def device_mac(thing: Thing, seed: int) -> bytes:
    """The address of the one device of this type: locally administered (IEEE 802), and begins as its maker's do."""
    serial = np.random.default_rng([seed, zlib.crc32((thing.mac_of or thing.name).encode())]).bytes(3)
    return b"\x02" + zlib.crc32(thing.maker.encode()).to_bytes(4, "big")[:2] + serial


def setup(thing: Thing, person: Person, seed: int, turn: int) -> tuple[int, Tape]:
    """(seconds since 1970, packets) of the device's set-up number `turn`, until the person stops the capture."""
    scene = _stage(thing, person, seed, turn)
    up = _lease(scene, _join(scene))
    used = up + scene.about(scene.person.pause, 0.35)
    if scene.thing.stack.ipv6:
        _configure6(scene, up)
    _multicast(scene, up, used)
    _beacons(scene, up)
    if scene.thing.clocks:
        _clock(scene, up)
    done = [_use(scene, used)] if scene.thing.app else [up]
    for call in scene.thing.calls:
        done.append(_call(scene, call, (used if call.bound else up) + scene.about(call.after)))
    end = max(min(max(done), up + 4 * scene.thing.settles), up + scene.about(scene.thing.settles)) + scene.about(1.0)
    _neighbours(scene, up, end)
    return scene.start, [(time, frame) for time, frame in scene.tape if time <= end]
