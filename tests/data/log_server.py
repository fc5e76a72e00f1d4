"""A file server on 127.0.0.1 for the tests, which misbehaves on demand, and the small logs that it serves."""

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FIELDS = (
    "ts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tservice\tduration\torig_bytes\tresp_bytes\tconn_state\t"
    "local_orig\tlocal_resp\tmissed_bytes\thistory\torig_pkts\torig_ip_bytes\tresp_pkts\tresp_ip_bytes"
)
TYPES = "time string addr port addr port enum string interval count count string bool bool count string count count count count"


def conn_log(labels: Mapping[str, int], *, footer: bool = True, proto: str = "tcp") -> bytes:
    """A conn.log.labeled in IoT-23's layout with so many rows of each label, in that order."""
    lines = ["#separator \\x09", "#set_separator\t,", "#empty_field\t(empty)", "#unset_field\t-", "#path\tconn"]
    lines.append("#fields\t" + FIELDS + "\ttunnel_parents   label   detailed-label")
    lines.append("#types\t" + TYPES.replace(" ", "\t") + "\tset[string]   string   string")
    for label, count in labels.items():
        last = "-   benign   -" if label == "Benign" else f"(empty)   Malicious   {label}"
        for _ in range(count):
            number = len(lines)
            row = f"{1545403816 + number}.500000 C{number:06d} 192.168.1.195 41040 185.244.25.235 80 {proto} - 3.139211 0 0 S0"
            lines.append("\t".join(f"{row} - - 0 S 3 180 0 0".split()) + "\t" + last)
    return ("\n".join([*lines, *(["#close\t2019-03-15-14-50-49"] if footer else [])]) + "\n").encode()


class LogServer(ThreadingHTTPServer):
    """Serves `files` (path -> bytes) with ETag and Range; `plan` says for each request to come how it is mistreated.

    A step of the plan: an int is a status to answer, ("cut", n) promises all and sends n bytes; "no range", "wrong range",
    "bare 416", "html", "text", "gzip", "hang up", "no size" and "no etag" are what they say. When the plan is used up,
    requests are answered as they should be.
    """

    daemon_threads = False  # so that closing the server waits for them

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.plan: list[Any] = []
        self.requests: list[Any] = []  # (path, Range or None) of each
        self.sent: list[int] = []  # body bytes of each answer
        self.base = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: LogServer

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        step = server.plan.pop(0) if server.plan else "as it should be"
        server.requests.append((self.path, self.headers["Range"]))
        server.sent.append(0)
        body = server.files.get(self.path)
        if step == "hang up":
            return
        if step in ("html", "text"):
            self.answer(200, b"<html><body>Please log in</body></html>\n", {"Content-Type": f"text/{step}"})
        elif step == "gzip":
            self.answer(200, b"\x1f\x8b", {"Content-Encoding": "gzip"})
        elif isinstance(step, int):
            self.answer(step, b"no", {"Retry-After": "7"})
        elif body is None:
            self.answer(404, b"no", {})
        else:
            self.serve(body, step)

    def serve(self, body: bytes, step: Any) -> None:
        tag = f'"{hashlib.sha256(body).hexdigest()}"'
        headers = {} if step in ("no etag", "no size") else {"ETag": tag}
        wanted = self.headers["Range"] if self.headers["If-Range"] in (None, tag) and step != "no range" else None
        limit = step[1] if isinstance(step, tuple) else None
        if not wanted:
            self.answer(200, body, headers, limit, sized=step != "no size")
            return
        first, last = wanted.removeprefix("bytes=").split("-")
        first = "10" if step == "wrong range" else first
        if int(first) >= len(body):
            self.answer(416, b"", {} if step == "bare 416" else {**headers, "Content-Range": f"bytes */{len(body)}"})
            return
        end = min(int(last or len(body)), len(body) - 1)
        headers["Content-Range"] = f"bytes {first}-{end}/{len(body)}"
        self.answer(206, body[int(first) : end + 1], headers, limit)

    def answer(
        self, status: int, body: bytes, headers: Mapping[str, str], limit: int | None = None, sized: bool = True
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if sized:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            for start in range(0, len(body[:limit]), 1 << 16):
                piece = body[:limit][start : start + (1 << 16)]
                self.wfile.write(piece)
                self.server.sent[-1] += len(piece)
        except ConnectionError:  # the client has what it needs, and says so by closing
            self.close_connection = True


@contextmanager
def serving() -> Iterator[LogServer]:
    """A running server, stopped and its threads ended when the block ends."""
    with LogServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
