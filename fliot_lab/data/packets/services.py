"""The service of a connection by what was said in it, as Zeek's protocol detection finds it: dns, dhcp, http, irc, ssh or ssl.

A service that both ends must take part in is named when both did. After the signatures in Zeek's `dpd.sig` files, simplified,
and the ports at which Zeek tries an analyzer without one.
"""

import re

DNS_PORTS = frozenset((53, 137, 5353, 5355))
DHCP_PORTS = frozenset((67, 68))
IRC_PORTS = frozenset(range(6666, 6670))
HTTP_PORTS = frozenset((80, 81, 631, 1080, 3128, 8000, 8080, 8888))
_DHCP_COOKIE = b"\x63\x82\x53\x63"  # RFC 2131, 3
_IRC_LINE = re.compile(rb"(?:^|[\r\n])(?::[^ \r\n]* )?[ ]*[^\s:][^\r\n]{2}")
_IRC_LOGIN = (
    re.compile(rb"(?:^|[\r\n]) *USER +[^\r\n]+[\r\n]", re.I),
    re.compile(rb"(?:^|[\r\n]) *NICK +[^\r\n]+[\r\n]", re.I),
)
_IRC_REPLY = re.compile(rb"(?:^|[\r\n])(?::[^ \r\n]+ )?\d{3} ")
_TLS = rb"\x16\x03[\x00-\x03].."
_HTTP_REQUEST = re.compile(rb"\s*[\w!#$%&'*+.^`|~-]+[ \t]+\S", re.ASCII)
#: Service -> what the beginnings of the originator's and the responder's streams look like.
_BOTH = {
    "http": (re.compile(rb"\s*[A-Z][A-Z_-]+\s"), re.compile(rb"HTTP/\d")),
    "ssh": (re.compile(rb"SSH-[12]\.", re.I), re.compile(rb"SSH-[12]\.", re.I)),
    "ssl": (re.compile(_TLS + rb"\x01...\x03", re.S), re.compile(rb"(?:\x15\x03.....)?" + _TLS + rb"\x02...\x03", re.S)),
}


def of_stream(port: int, orig: bytes, resp: bytes) -> str | None:
    """The service of a TCP connection to `port`, from the beginnings of what the originator and the responder sent."""
    for name, (asks, answers) in _BOTH.items():
        if asks.match(orig) and answers.match(resp):
            return name
    if port in HTTP_PORTS and _HTTP_REQUEST.match(orig) and not resp:
        return "http"
    if port in IRC_PORTS and _IRC_LINE.search(orig):
        return "irc"
    if all(word.search(orig) for word in _IRC_LOGIN) and _IRC_REPLY.search(resp):
        return "irc"
    # A DNS message behind its length, RFC 1035, 4.2.2.
    if port == 53 and len(orig) >= 14 and int.from_bytes(orig[:2]) >= 12:
        return "dns"
    return None


def of_datagram(port: int, payload: bytes) -> str | None:
    """The service of a UDP conversation to `port` that one datagram with this payload reveals."""
    if port in DNS_PORTS and len(payload) >= 12:
        return "dns"
    if port in DHCP_PORTS and payload[236:240] == _DHCP_COOKIE:
        return "dhcp"
    return None
