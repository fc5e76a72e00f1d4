"""What protocols give away about a device: DHCP, TLS, TCP, ARP, mDNS, SSDP, DNS and HTTP as named numbers.

What is read is how a program writes its messages: which options in which order, how many of what. No address and no name is
among them, nor a number made of one. A length that a message states is checked against what is there: a capture is a
stranger's file, and a message that ends too early gives what came before.
"""

import itertools
import re
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

NAN = float("nan")
Traits = dict[str, float]

DHCP_OPTIONS, DHCP_REQUESTED = 12, 16  # places that are kept; chosen
DHCP_MESSAGES = {1: "discover", 3: "request", 4: "decline", 7: "release", 8: "inform"}  # RFC 2132, 9.6
#: IANA, TLS ExtensionType values
TLS_EXTENSIONS = {0: "server name", 10: "groups", 11: "points", 13: "signatures", 16: "alpn", 35: "ticket", 43: "versions"}
TLS_PADDING = 21
DNS_TYPES = {1: "a", 12: "ptr", 16: "txt", 28: "aaaa", 33: "srv", 47: "nsec", 255: "any"}  # IANA, resource record types
HTTP_METHODS = (b"GET ", b"POST", b"PUT ", b"HEAD", b"SUBS")
HTTP_ANSWER = b"HTTP"
#: A header's line begins with a name, a token of RFC 9110, 5.6.2, and a colon.
HTTP_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:")


def number(content: bytes) -> float:
    """A number from 0 to 1 that stands for the content, the same on every machine; NaN for none."""
    return zlib.crc32(content) / 2**32 if content else NAN


def dhcp(messages: Sequence[bytes]) -> Traits:
    """How the device asks for an address: its options in their order, what it wants to be told (RFC 2131, RFC 2132)."""
    parsed = [options for message in messages if (options := _dhcp_options(message)) is not None]
    kinds = [options.get(53, b"\0")[:1] for options in parsed]
    found: Traits = {f"dhcp: {word}s": float(kinds.count(bytes([kind]))) for kind, word in DHCP_MESSAGES.items()}
    for word, kind in (("discover", b"\1"), ("request", b"\3")):
        place = kinds.index(kind) if kind in kinds else None
        options = {} if place is None else parsed[place]
        found |= _places(f"dhcp {word}: option", options, DHCP_OPTIONS)
        found |= {f"dhcp {word}: options": float(len(options)) if options else NAN}
        found |= {f"dhcp {word}: longest answer": float(int.from_bytes(options[57])) if len(options.get(57, b"")) == 2 else NAN}
        found |= {f"dhcp {word}: bytes of vendor class": float(len(options.get(60, b""))) if options else NAN}
        wanted = options.get(55, b"")
        found |= _places(f"dhcp {word}: wants", wanted, DHCP_REQUESTED)
        found |= {f"dhcp {word}: wanted": float(len(wanted)) if options else NAN}
    first = messages[0] if messages else b""
    found["dhcp: broadcast asked for"] = float(first[10] >> 7) if len(first) > 10 else NAN
    return found


def _dhcp_options(message: bytes) -> dict[int, bytes] | None:
    """Option code -> content in the order of the message; None where it is no DHCP message."""
    if message[236:240] != b"\x63\x82\x53\x63":
        return None
    found: dict[int, bytes] = {}
    at = 240
    while at + 1 < len(message) and message[at] != 255:
        if message[at]:  # 0 is padding
            found.setdefault(message[at], message[at + 2 : at + 2 + message[at + 1]])
            at += 1 + message[at + 1]
        at += 1
    return found


def _places(name: str, values: Iterable[int], places: int) -> Traits:
    """The values one by one, NaN behind the last."""
    kept = [float(value) for value in values][:places]
    return {f"{name} {place + 1}": kept[place] if place < len(kept) else NAN for place in range(places)}


def tls(segments: Iterable[bytes]) -> Traits:
    """The device's TLS greetings, and how the first is written (RFC 5246, 7.4.1.2; RFC 8446, 4.1.2); not whom it greets."""
    hellos = [segment for segment in segments if len(segment) > 43 and segment[0] == 22 and segment[1] == 3 and segment[5] == 1]
    ciphers, extensions = _hello(hellos[0]) if hellos else ([], {})
    seen = bool(hellos)
    found: Traits = {"tls: greetings": float(len(hellos))}
    found["tls: forms of greeting"] = float(len({number(_list_of(_hello(hello)[0])) for hello in hellos}))
    found["tls: record version"] = float(hellos[0][2]) if seen else NAN
    found["tls: version"] = float(hellos[0][10]) if seen else NAN
    found["tls: ciphers"] = float(len(ciphers)) if seen else NAN
    found["tls: ciphers as a number"] = number(_list_of(ciphers))
    found["tls: extensions"] = float(len(extensions)) if seen else NAN
    found["tls: extensions as a number"] = number(_list_of(extensions))
    for kind, word in TLS_EXTENSIONS.items():
        found[f"tls: extension {word}"] = float(kind in extensions) if seen else NAN
    for kind in (10, 13):
        found[f"tls: bytes of {TLS_EXTENSIONS[kind]}"] = float(len(extensions[kind])) if kind in extensions else NAN
    return found


def _hello(segment: bytes) -> tuple[list[int], dict[int, bytes]]:
    """(ciphers, extensions by kind) in the order of the ClientHello, without GREASE (RFC 8701) and padding (RFC 7685).

    Whether a hello is padded depends on how long the server's name is.
    """
    at = 44 + segment[43]
    ciphers = _pairs(segment[at + 2 : at + 2 + int.from_bytes(segment[at : at + 2])])
    at += 2 + int.from_bytes(segment[at : at + 2])
    at += 1 + int.from_bytes(segment[at : at + 1])
    end = at + 2 + int.from_bytes(segment[at : at + 2])
    at += 2
    extensions: dict[int, bytes] = {}
    while at + 4 <= min(end, len(segment)):
        kind, length = struct.unpack_from(">HH", segment, at)
        if kind & 0x0F0F != 0x0A0A and kind != TLS_PADDING:
            extensions[kind] = segment[at + 4 : at + 4 + length]
        at += 4 + length
    return ciphers, extensions


def _pairs(content: bytes) -> list[int]:
    """The two-byte numbers in the content, without GREASE values."""
    numbers = struct.unpack(f">{len(content) // 2}H", content[: len(content) // 2 * 2])
    return [value for value in numbers if value & 0x0F0F != 0x0A0A]


def _list_of(numbers: Iterable[int]) -> bytes:
    return b"".join(value.to_bytes(2) for value in numbers)


def tcp_opening(side: str, segment: tuple[int, bytes, int] | None) -> Traits:
    """How the network code opens a connection: `segment` is (window, option bytes, TTL) of its first SYN, None for none."""
    window, options, ttl = segment or (NAN, b"", NAN)
    kinds = list(_tcp_options(options))
    values = dict(kinds)
    found: Traits = {f"tcp {side}: window": float(window), f"tcp {side}: ttl": float(ttl)}
    found |= _places(f"tcp {side}: option", [kind for kind, _ in kinds], 6)
    for kind, length, word in ((2, 2, "mss"), (3, 1, "window scale")):  # RFC 9293, 3.7.1; RFC 7323, 2.2
        value = values.get(kind, b"")
        found[f"tcp {side}: {word}"] = float(int.from_bytes(value)) if len(value) == length else NAN
    return found


def _tcp_options(content: bytes) -> Iterator[tuple[int, bytes]]:
    """(kind, content) of TCP options in their order (RFC 9293, 3.1)."""
    at = 0
    while at < len(content) and content[at]:
        if content[at] == 1:
            yield 1, b""
            at += 1
        elif at + 1 < len(content) and content[at + 1] >= 2:
            yield content[at], content[at + 2 : at + content[at + 1]]
            at += content[at + 1]
        else:
            return


def arp(messages: Sequence[bytes]) -> Traits:
    """What the device asks about addresses (RFC 826), its own among them (RFC 5227); how often, never which."""
    kinds: Counter[str] = Counter()
    asked = set()
    for message in messages:
        if len(message) < 28 or message[:6] != b"\0\1\x08\0\6\4":
            continue
        sender, target = message[14:18], message[24:28]
        if message[7] == 2:
            kinds["announcements" if sender == target else "answers"] += 1
        elif sender == bytes(4):
            kinds["probes"] += 1
        elif sender == target:
            kinds["announcements"] += 1
        else:
            kinds["questions"] += 1
            asked.add(target)
    found = {f"arp: {kind}": float(kinds[kind]) for kind in ("probes", "announcements", "questions", "answers")}
    return found | {"arp: hosts asked for": float(len(asked))}


def igmp(messages: Sequence[bytes]) -> Traits:
    """How the device joins groups: messages by version and purpose (RFC 1112, 2236, 3376), and how many groups."""
    kinds = Counter(message[0] for message in messages if message)
    groups = {message[4:8] for message in messages if len(message) >= 8 and message[0] in (0x12, 0x16)}
    groups |= {message[12:16] for message in messages if len(message) >= 16 and message[0] == 0x22}
    names = {0x12: "v1 reports", 0x16: "v2 reports", 0x17: "leaves", 0x22: "v3 reports"}
    return {f"igmp: {word}": float(kinds[kind]) for kind, word in names.items()} | {"igmp: groups": float(len(groups))}


def dns(name: str, messages: Sequence[bytes]) -> Traits:
    """What the device asks and tells in DNS messages (RFC 1035, 4): kinds and numbers of records, and how many names."""
    found = dict.fromkeys(["questions", "answers", "in one message at most", "names"], 0.0)
    types: Counter[int] = Counter()
    names = set()
    for message in messages:
        if len(message) < 12:
            continue
        flags, questions, *sections = struct.unpack_from(">5H", message, 2)
        found["answers" if flags >> 15 else "questions"] += 1
        found["in one message at most"] = max(found["in one message at most"], float(questions + sum(sections)))
        for kind, owner in _records(message, questions, sum(sections)):
            types[kind] += 1
            names.add(owner)
    found["names"] = float(len(names))
    found |= {f"records {word}": float(types[kind]) for kind, word in DNS_TYPES.items()}
    return {f"{name}: {key}": value for key, value in found.items()}


def _records(message: bytes, questions: int, answers: int) -> Iterator[tuple[int, bytes]]:
    """(type, name as it is written) of each question and record."""
    at = 12
    for place in range(min(questions + answers, 64)):  # no honest message of a device has more
        start = at
        while at < len(message) and message[at] and message[at] < 192:
            at += 1 + message[at]
        at += 2 if at < len(message) and message[at] >= 192 else 1
        if at + 4 > len(message):
            return
        yield int.from_bytes(message[at : at + 2]), message[start:at]
        at += 4
        if place >= questions:
            at += 6 + int.from_bytes(message[at + 4 : at + 6])


def ssdp(messages: Sequence[bytes]) -> Traits:
    """Searches, announcements and answers of UPnP's discovery, and the lines of the first (UPnP Device Architecture, 1)."""
    starts = Counter(message[:6] for message in messages)
    found = {"ssdp: searches": float(starts[b"M-SEAR"]), "ssdp: announcements": float(starts[b"NOTIFY"])}
    found["ssdp: answers"] = float(starts[b"HTTP/1"])
    found["ssdp: lines"] = float(messages[0].count(b"\r\n")) if messages else NAN
    return found


def ntp(messages: Sequence[bytes]) -> Traits:
    """Questions for the time, and the first byte of the first: leap, version and mode (RFC 5905, 7.3)."""
    found = {"ntp: questions": float(len(messages))}
    return found | {"ntp: first byte": float(messages[0][0]) if messages and messages[0] else NAN}


def http(segments: Sequence[bytes]) -> Traits:
    """Questions and answers in plain HTTP, and how the first question is written (RFC 9112): its header's length and names."""
    starts = Counter(segment[:4] for segment in segments)
    found = {f"http: {method.decode().strip()}": float(starts[method]) for method in HTTP_METHODS}
    found["http: answers"] = float(starts[HTTP_ANSWER])
    for word, methods in (("question", HTTP_METHODS), ("answer", (HTTP_ANSWER,))):
        first = next((segment for segment in segments if segment[:4] in methods), b"")
        lines = first.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
        # A line that has no name, and what follows it, is no header: its text is content, which must not show.
        fields = [line.partition(b":")[0] for line in itertools.takewhile(HTTP_NAME.match, lines)]
        found[f"http {word}: header lines"] = float(len(lines)) if first else NAN
        found[f"http {word}: header names as a number"] = number(b",".join(fields))
    return found
