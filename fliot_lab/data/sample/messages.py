"""What devices say, as bytes: DHCP, DNS, mDNS, SSDP, NTP, HTTP and TLS.

Formats: RFC 2131 and 2132 (DHCP), 1035 (DNS), 6762 and 6763 (mDNS and its services), UPnP Device Architecture 1.1 (SSDP),
5905 (NTP), 9112 (HTTP), 5246 (TLS 1.2). Names end in .example, which belongs to nobody (RFC 2606). What a cipher hides, and
certificates, are random bytes in records of the right form.
"""

import struct
from collections.abc import Sequence

from numpy.random import Generator

A, PTR, TXT, AAAA, SRV, ANY = 1, 12, 16, 28, 33, 255
DISCOVER, OFFER, REQUEST, ACKNOWLEDGE = 1, 2, 3, 5
FLUSH = 0x8001  # class IN with mDNS's cache-flush bit
CHANGE_CIPHER, ALERT, HANDSHAKE, DATA = 20, 21, 22, 23  # kinds of TLS record
LETTERS = bytes(97 + byte % 26 for byte in range(256))
#: TLS 1.2 cipher suites that an embedded client offers, in its order (IANA registry); a client offers the first so many.
CIPHERS = bytes.fromhex(
    "c02bc02fc02cc030cca9cca8c023c027c009c013c00ac014009c009d003c003d002f0035c012000ac024c028006b0067003900330016c0adc0acc0af"
)


# --- DHCP ---------------------------------------------------------------------------------------------------------------


def dhcp(
    kind: int,
    transaction: int,
    mac: bytes,
    options: Sequence[tuple[int, bytes]],
    *,
    pad: int = 300,
    offered: bytes = bytes(4),
    server: bytes = bytes(4),
) -> bytes:
    """A DHCP message of type `kind`, filled up to `pad` bytes: 300 of old, 308 in lwIP, 548 in udhcpc."""
    operation = 2 if kind in (OFFER, ACKNOWLEDGE) else 1
    head = struct.pack(">BBBBIHH", operation, 1, 6, 0, transaction, 0, 0) + bytes(4) + offered + server + bytes(4)
    body = b"".join(bytes([code, len(value)]) + value for code, value in ((53, bytes([kind])), *options))
    return (head + mac + bytes(10 + 64 + 128) + b"\x63\x82\x53\x63" + body + b"\xff").ljust(pad, b"\0")


# --- names --------------------------------------------------------------------------------------------------------------


def name(text: str) -> bytes:
    """A domain name as labels with their lengths."""
    return b"".join(bytes([len(label)]) + label.encode() for label in text.split(".")) + b"\0"


def question(number: int, host: str, kind: int = A) -> bytes:
    """A DNS query for one name."""
    return struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + name(host) + struct.pack(">HH", kind, 1)


def answer(number: int, host: str, addresses: Sequence[bytes], *, kind: int = A, seconds: int = 300) -> bytes:
    """The answer to `question`, with an address record for each of `addresses` under a pointer to the question's name."""
    head = struct.pack(">HHHHHH", number, 0x8180, 1, len(addresses), 0, 0) + name(host) + struct.pack(">HH", kind, 1)
    return head + b"".join(struct.pack(">HHHIH", 0xC00C, kind, 1, seconds, len(ip)) + ip for ip in addresses)


def _record(owner: str, kind: int, kind_class: int, data: bytes, seconds: int = 120) -> bytes:
    return name(owner) + struct.pack(">HHIH", kind, kind_class, seconds, len(data)) + data


def mdns_probe(host: str, ip: bytes) -> bytes:
    """Is anybody called `host`? With the record that the asker wants to have (RFC 6762, 8.1)."""
    head = struct.pack(">HHHHHH", 0, 0, 1, 0, 1, 0)
    return head + name(host) + struct.pack(">HH", ANY, 1) + _record(host, A, 1, ip)


def mdns_announcement(host: str, service: str, ip: bytes, port: int, text: bytes) -> bytes:
    """What `host` offers: pointer, place, text and address (RFC 6763, 4 to 6)."""
    instance = f"{host.split('.')[0]}.{service}"
    records = (
        _record(service, PTR, 1, name(instance)),
        _record(instance, SRV, FLUSH, struct.pack(">HHH", 0, 0, port) + name(host)),
        _record(instance, TXT, FLUSH, bytes([len(text)]) + text),
        _record(host, A, FLUSH, ip),
    )
    return struct.pack(">HHHHHH", 0, 0x8400, 0, len(records), 0, 0) + b"".join(records)


# --- text ---------------------------------------------------------------------------------------------------------------


def _lines(first: str, fields: dict[str, str], body: bytes = b"") -> bytes:
    return "".join([first, "\r\n", *(f"{key}: {value}\r\n" for key, value in fields.items()), "\r\n"]).encode() + body


def ssdp_notify(location: str, kind: str, serial: str, server: str) -> bytes:
    """A device's announcement of itself or of one of its services (UPnP 1.1, 1.2.2)."""
    fields = {
        "HOST": "239.255.255.250:1900",
        "CACHE-CONTROL": "max-age=1800",
        "LOCATION": location,
        "NT": kind,
        "NTS": "ssdp:alive",
        "SERVER": server,
        "USN": f"uuid:{serial}::{kind}",
    }
    return _lines("NOTIFY * HTTP/1.1", fields)


def ssdp_answer(location: str, kind: str, serial: str, server: str) -> bytes:
    """A device's answer to a search for `kind` (UPnP 1.1, 1.3.3)."""
    fields = {
        "CACHE-CONTROL": "max-age=1800",
        "EXT": "",
        "LOCATION": location,
        "SERVER": server,
        "ST": kind,
        "USN": f"uuid:{serial}::{kind}",
    }
    return _lines("HTTP/1.1 200 OK", fields)


def http_request(host: str, path: str, size: int, rng: Generator) -> bytes:
    """A GET, or a POST with `size` bytes of body."""
    fields = {"Host": host, "User-Agent": "sim/1.0", "Accept": "*/*"}
    if not size:
        return _lines(f"GET {path} HTTP/1.1", fields)
    return _lines(f"POST {path} HTTP/1.1", fields | {"Content-Length": str(size)}, _text(size, rng))


def http_answer(size: int, rng: Generator) -> bytes:
    """An answer with `size` bytes of body."""
    return _lines("HTTP/1.1 200 OK", {"Content-Type": "text/plain", "Content-Length": str(size)}, _text(size, rng))


def _text(size: int, rng: Generator) -> bytes:
    """Letters at random."""
    return rng.bytes(size).translate(LETTERS)


def ntp(seconds: float, *, answer: bool = False) -> bytes:
    """An SNTP request at a time in seconds since 1970, or the answer of a server of stratum 2."""
    stamp = struct.pack(">II", int(seconds) + 2_208_988_800, int(seconds % 1 * (1 << 32)))  # NTP counts from 1900
    if not answer:
        return struct.pack(">BBbb", 0x23, 0, 6, 0).ljust(40, b"\0") + stamp
    return struct.pack(">BBbbIII", 0x24, 2, 6, -20, 900, 1200, 0xC6336401) + stamp * 4


# --- TLS 1.2 ------------------------------------------------------------------------------------------------------------


def record(kind: int, body: bytes) -> bytes:
    """A TLS record."""
    return struct.pack(">BHH", kind, 0x0303, len(body)) + body


def hidden(size: int, rng: Generator) -> bytes:
    """A record of `size` bytes of application data with the 24 bytes that AES-GCM adds (RFC 5288)."""
    return record(DATA, rng.bytes(size + 24))


def _handshake(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + len(body).to_bytes(3, "big") + body


def client_hello(host: str, ciphers: int, rng: Generator, *, ticket: bool = False) -> bytes:
    """A client hello with server name, curves, point formats, signature algorithms and, if `ticket`, a session ticket."""
    server = host.encode()
    extensions = [
        (0, struct.pack(">HBH", len(server) + 3, 0, len(server)) + server),
        (10, bytes.fromhex("0006001d00170018")),
        (11, bytes.fromhex("0100")),
        (13, bytes.fromhex("000a04030503040105010201")),
        *([(35, b"")] if ticket else []),
    ]
    tail = b"".join(struct.pack(">HH", code, len(value)) + value for code, value in extensions)
    offers = CIPHERS[: 2 * ciphers]
    body = b"\x03\x03" + rng.bytes(32) + b"\0" + struct.pack(">H", len(offers)) + offers + b"\x01\0"
    return record(HANDSHAKE, _handshake(1, body + struct.pack(">H", len(tail)) + tail))


def server_flight(certificate: int, rng: Generator) -> bytes:
    """Server hello, a certificate chain of `certificate` random bytes, key exchange and done, a record each."""
    hello = b"\x03\x03" + rng.bytes(32) + b"\x20" + rng.bytes(32) + CIPHERS[2:4] + b"\0"
    chain = certificate.to_bytes(3, "big") + rng.bytes(certificate)
    messages = (
        _handshake(2, hello),
        _handshake(11, len(chain).to_bytes(3, "big") + chain),
        _handshake(12, b"\x03\0\x17\x41\x04" + rng.bytes(64) + b"\x04\x01\x01\0" + rng.bytes(256)),
        _handshake(14, b""),
    )
    return b"".join(record(HANDSHAKE, message) for message in messages)


def client_finish(rng: Generator) -> bytes:
    """The client's key, the change of cipher and the hidden end of its handshake."""
    return record(HANDSHAKE, _handshake(16, b"\x41\x04" + rng.bytes(64))) + server_finish(rng)


def server_finish(rng: Generator) -> bytes:
    """The change of cipher and the hidden end of the handshake: 16 bytes and AES-GCM's 24."""
    return record(CHANGE_CIPHER, b"\x01") + record(HANDSHAKE, rng.bytes(40))


def farewell(rng: Generator) -> bytes:
    """The hidden alert that closes a session."""
    return record(ALERT, rng.bytes(26))
