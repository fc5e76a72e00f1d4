"""Packets in the order of their capture as Zeek's connections: who talks with whom, from when on, until when."""

import heapq
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from fliot_lab.data.packets import services
from fliot_lab.data.packets.tcp import ACK, SYN, Packet, Side, Tcp

#: Zeek's timeout of UDP and ICMP, in microseconds.
QUIET = 60_000_000
#: Ports by which Zeek tells the server where the beginning of a conversation is missing: `likely_server_ports` as the scripts
#: of its protocols fill it.
# fmt: off
LIKELY_SERVERS = {
    "tcp": frozenset((
        21, 22, 25, 53, 80, 81, 88, 135, 139, 143, 443, 445, 502, 563, 585, 587, 614, 631, 636, 989, 990, 992, 993, 995, 1080,
        1434, 2811, 3128, 3306, 3389, 5222, 5223, 5269, 6666, 6667, 6668, 6669, 8000, 8080, 8888, 20000,
    )),
    "udp": frozenset((53, 67, 88, 137, 161, 162, 443, 514, 1812, 2123, 2152, 3544, 4789, 5060, 5072, 5353, 5355, 20000)),
}
# fmt: on
#: ICMP types that answer each other, so that both directions are one conversation. RFC 792, 1256, 950, 4443, 4861, 2710, 6275.
_PAIRS = {
    "icmp": ((0, 8), (9, 10), (13, 14), (15, 16), (17, 18)),
    "icmp6": ((128, 129), (130, 131), (133, 134), (135, 136), (139, 140), (144, 145)),
}
_ANSWERS = {name: {**dict(pairs), **{two: one for one, two in pairs}} for name, pairs in _PAIRS.items()}


@dataclass
class Half:
    """What one side of a conversation without a connection sent."""

    packets: int = 0
    ip_bytes: int = 0
    size: int = 0  # bytes of payload


class Datagrams:
    """A conversation without a connection, of UDP or ICMP: it is over when nothing comes for QUIET."""

    missed = 0

    def __init__(self, packet: Packet, orig: Side, resp: Side, history: str, *, udp: bool):
        self.start = self.last = packet.micros
        self.orig_id, self.resp_id = orig, resp
        self.orig, self.resp = Half(), Half()
        self.history = history
        self.timers = [(self.start + QUIET, "inactive")]
        self.generation = 0
        self.service: str | None = None
        self._udp = udp
        self._wrong = {"C": 0, "c": 0}
        self._talked = False

    def reused(self, packet: Packet) -> bool:
        """Never: nothing tells where another conversation begins."""
        return False

    def expired(self, which: str, now: int) -> bool:
        """Whether nothing came for long enough; if something did, the timer is set again."""
        if self.last + QUIET > now:
            self.timers.append((self.last + QUIET, which))
        return self.last + QUIET <= now

    def packet(self, packet: Packet) -> None:
        """Counts one packet. One with a wrong checksum leaves a letter (of UDP) and nothing else."""
        sends = packet.source == self.orig_id
        if not packet.right:
            self._count_wrong("C" if sends else "c")
            return
        self.last = packet.micros
        half = self.orig if sends else self.resp
        if self._udp:
            letter = "D" if sends else "d"
            self.history += letter * (letter not in self.history)
            self.service = self.service or services.of_datagram(self.resp_id[1], packet.payload)
            if sends and not self._talked and self._answers(packet.payload):
                self.orig_id, self.resp_id = self.resp_id, self.orig_id
                self.history += "^"
        self._talked = True
        half.packets += 1
        half.ip_bytes += packet.ip_bytes
        half.size += packet.length

    def _answers(self, payload: bytes) -> bool:
        """Whether the first datagram is an answer in DNS to somebody whose question was not seen. Zeek then turns the two."""
        group = ipaddress.ip_address(self.resp_id[0]).is_multicast
        return self.resp_id[1] in services.DNS_PORTS and len(payload) >= 12 and payload[2] >= 0x80 and not group

    def _count_wrong(self, letter: str) -> None:
        self._wrong[letter] = count = self._wrong[letter] + 1
        if self._udp and count == 10 ** (len(str(count)) - 1):
            self.history += letter

    @property
    def conn_state(self) -> str:
        """Zeek's word for who took part."""
        if not self._udp:
            return "OTH"
        spoke, heard = "D" in self.history, "d" in self.history
        return {(True, True): "SF", (True, False): "S0", (False, True): "SHR"}.get((spoke, heard), "OTH")


class Table:
    """The conversations of one capture. `done` holds those that are over, with their protocol."""

    def __init__(self) -> None:
        self.done: list[tuple[str, Tcp | Datagrams]] = []
        self._open: dict[tuple[str, Side, Side], Tcp | Datagrams] = {}
        self._timers: list[tuple[int, int, tuple[str, Side, Side], Tcp | Datagrams, int, str]] = []
        self._ticket = 0  # keeps equal times in the order in which they were set
        self._now = 0

    def packet(self, proto: str, packet: Packet) -> None:
        """Gives a packet of tcp, udp, icmp or icmp6 to its conversation, a new one where there is none."""
        packet, one_way = (packet, False) if proto in ("tcp", "udp") else _paired(proto, packet)
        turned = packet.source > packet.target and not one_way
        key = (proto, packet.target, packet.source) if turned else (proto, packet.source, packet.target)
        talk = self._open.get(key)
        if talk is not None and talk.reused(packet):
            self.done.append((proto, talk))
            talk = None
        if talk is None:
            talk = self._open[key] = _begin(proto, packet)
        talk.packet(packet)
        if talk.timers:
            self._set(key, talk)

    def tick(self, micros: int) -> None:
        """Lets time pass until `micros`, never backwards: ends what has run out."""
        self._now = max(self._now, micros)
        while self._timers and self._timers[0][0] <= self._now:
            _, _, key, talk, generation, which = heapq.heappop(self._timers)
            if generation != talk.generation or self._open.get(key) is not talk:
                continue
            if talk.expired(which, self._now):
                self.done.append((key[0], self._open.pop(key)))
            elif talk.timers:
                self._set(key, talk)

    def close(self) -> None:
        """Ends all that is open, as at the end of a capture."""
        self.done += [(key[0], talk) for key, talk in self._open.items()]
        self._open.clear()

    def _set(self, key: tuple[str, Side, Side], talk: Tcp | Datagrams) -> None:
        """Winds the timers that the conversation asks for."""
        for when, which in talk.timers:
            self._ticket += 1
            heapq.heappush(self._timers, (when, self._ticket, key, talk, talk.generation, which))
        talk.timers = []


def conversations(packets: Iterable[tuple[str, Packet]]) -> list[tuple[str, Tcp | Datagrams]]:
    """(protocol, conversation) of every conversation of a capture; packets of other protocols only let time pass."""
    table = Table()
    for proto, packet in packets:
        table.tick(packet.micros)
        if proto in ("tcp", "udp", "icmp", "icmp6"):
            table.packet(proto, packet)
    table.close()
    return table.done


def _begin(proto: str, packet: Packet) -> Tcp | Datagrams:
    """A new conversation. Who began it is who sent its first packet, unless the ports say that this was the server."""
    servers = LIKELY_SERVERS.get(proto, frozenset())
    source, target = packet.source[1] in servers, packet.target[1] in servers
    turned = False
    if proto == "udp":
        turned = source and not target
    elif proto == "tcp" and packet.flags & (SYN | ACK) != SYN:
        lower = not packet.flags & SYN and packet.source[1] < packet.target[1]
        turned = source and (not target or lower)
    orig, resp = (packet.target, packet.source) if turned else (packet.source, packet.target)
    if proto == "tcp":
        return Tcp(packet, orig, resp, "^" * turned)
    return Datagrams(packet, orig, resp, "^" * turned, udp=proto == "udp")


def _paired(proto: str, packet: Packet) -> tuple[Packet, bool]:
    """An ICMP packet with ports as Zeek has them, type and the type that answers it or else code, and whether nothing does."""
    answer = _ANSWERS[proto].get(packet.source[1])
    if answer is None:
        return packet, True
    return packet._replace(target=(packet.target[0], answer)), False
