"""Fetching one file over HTTP: resumed where it broke off, retried, verified before it takes its place.

Needs nothing but the standard library. The bytes that have come so far lie beside the target in `<name>.part`; which
version of the file they belong to stands in `<name>.part.json`, so that the halves of two versions are never joined.
"""

import http.client
import json
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

CHUNK = 1 << 16  # bytes read at a time
LARGEST = 64 << 30  # bytes; the largest log of IoT-23 has about 11 GB, so that more than this is a server gone wrong
ROW_BYTES = 160  # a row of a conn.log has 110 to 140 bytes: asking for a little more mostly saves a second request
MAX_REQUESTS = 200  # per file, whatever happens
LONGEST_PAUSE = 60.0  # seconds
# Answers that may be others a moment later. 404 is one of them: a mirror that is being renewed gives it too.
PASSING = frozenset({404, 408, 425, 429, 500, 502, 503, 504})


class DownloadError(RuntimeError):
    """A file that could not be fetched, in words for the person who asked for it."""


class Unreachable(DownloadError):
    """No answer of any kind from the host: most likely this machine is offline."""


class Rejected(DownloadError):
    """A file that came whole and is not what was expected. Raised by a `verify` function; its bytes are thrown away."""


class _Broken(Exception):
    """A request that failed and is worth another try; `answered` tells whether the host said anything at all."""

    def __init__(self, reason: str, *, answered: bool = True, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.answered = answered
        self.pause = pause


@dataclass(frozen=True)
class Version:
    """What a server tells of a file: enough to know whether two answers are pieces of the same bytes."""

    url: str
    size: int | None = None
    etag: str | None = None
    modified: str | None = None

    def agrees(self, other: "Version") -> bool:
        """Whether all that both tell is the same, and that is more than the address."""
        told = [(mine, theirs) for mine, theirs in zip(astuple(self), astuple(other), strict=True) if mine and theirs]
        return len(told) > 1 and all(mine == theirs for mine, theirs in told)

    def condition(self) -> dict[str, str]:
        """The header that asks a server for the whole file instead of a piece when its version is another one."""
        strong = self.etag if self.etag and not self.etag.startswith("W/") else None
        return {"If-Range": strong or self.modified or ""} if strong or self.modified else {}


class RowCounter:
    """Counts the rows of a log, the lines that do not start with `#`, while its bytes go by, up to `limit`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.rows = 0
        self._first = b""  # the first byte of a line whose end has not come yet

    def feed(self, chunk: bytes) -> int | None:
        """The number of bytes of `chunk` up to the end of row `limit`, or None while that row has not ended."""
        start = 0
        while end := chunk.find(b"\n", start) + 1:
            self.rows += (self._first or chunk[start : start + 1]) not in (b"#", b"\n", b"\r")
            self._first = b""
            start = end
            if self.rows >= self.limit:
                return end
        self._first = self._first or chunk[start : start + 1]
        return None

    def scan(self, path: Path) -> int | None:
        """The same for a whole file."""
        before = 0
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                if (end := self.feed(chunk)) is not None:
                    return before + end
                before += len(chunk)
        return None


class _Part:
    """The bytes of a file that have come so far, and the version of the file that they belong to."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self.record = target.with_name(target.name + ".part.json")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def version(self, url: str) -> Version | None:
        """The version that the bytes belong to; None, so that they are of no use, where that is not known for `url`."""
        try:
            version = Version(**json.loads(self.record.read_text("utf-8")))
        except (FileNotFoundError, ValueError, TypeError):  # no record, or one that was cut off while it was written
            return None
        return version if version.url == url else None

    def begin(self, version: Version) -> None:
        """Starts over. The old bytes go first: a record must never stand beside bytes of another version."""
        self.discard()
        self.record.write_text(json.dumps(asdict(version)), "utf-8")
        self.path.touch()

    def cut(self, size: int) -> None:
        os.truncate(self.path, size)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)

    def finish(self, verify: Callable[[Path], None]) -> None:
        """Puts the file in its place when `verify` accepts it. Raises Rejected, the bytes thrown away, when not."""
        try:
            verify(self.path)
        except Rejected:
            self.discard()
            raise
        with open(self.path, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(self.path, self.target)
        self.record.unlink(missing_ok=True)


def fetch_file(
    url: str,
    target: Path,
    *,
    verify: Callable[[Path], None],
    rows: int | None = None,
    progress: bool = True,
    description: str = "",
    tries: int = 5,
    timeout: float = 30.0,
    sleep: Callable[[float], Any] = time.sleep,
) -> None:
    """Fetches `url` to `target`, or only the file's beginning up to its row number `rows` (lines with `#` do not count).

    `target` appears, or is replaced, in one step after `verify(path)` has accepted the file; until then what has come is
    kept as `<target>.part`, and the next call goes on from there. `tries` requests in a row may fail without progress, with
    pauses of 1, 2, 4 ... seconds between them; `timeout` is in seconds. Raises Unreachable, Rejected or another
    DownloadError, and OSError where the disk refuses the bytes.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"{url} is not an http or https address")
    if rows is not None and rows < 1:
        raise ValueError(f"rows is {rows}, and must be at least 1")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = _Part(target)
    failures = 0
    with tqdm(desc=description or target.name, unit="B", unit_scale=True, disable=not progress) as bar:
        for _ in range(MAX_REQUESTS):
            before = part.size()
            try:
                if _advance(url, part, rows, timeout, bar):
                    break
                failures = 0
            except _Broken as broken:
                failures = 1 if part.size() > before else failures + 1
                if failures >= tries:
                    raise _given_up(url, part, broken, failures) from broken
                sleep(min(max(2.0 ** (failures - 1), broken.pause), LONGEST_PAUSE))
        else:
            raise DownloadError(f"{url}: {MAX_REQUESTS} requests were not enough; the same command goes on from here")
    part.finish(verify)


def _given_up(url: str, part: _Part, broken: _Broken, failures: int) -> DownloadError:
    kept = f"; {part.size():,} bytes are kept, and the same command goes on from there" if part.size() else ""
    if not broken.answered:
        return Unreachable(f"{urlsplit(url).netloc} could not be reached ({broken}){kept}")
    return DownloadError(f"{url}: given up after {failures} tries, because {broken}{kept}")


def _advance(url: str, part: _Part, rows: int | None, timeout: float, bar: tqdm) -> bool:
    """Whether `part` holds all that was asked for, after one request at most. Raises _Broken, DownloadError."""
    known = part.version(url)
    if known is None:
        part.discard()
    have = part.size()
    counter = RowCounter(rows) if rows else None
    if have and counter and (end := counter.scan(part.path)) is not None:
        part.cut(end)
        return True
    if known and have and have == known.size:
        return True
    headers = dict(known.condition()) if known and have else {}
    if have or rows:
        headers["Range"] = f"bytes={have}-{have + rows * ROW_BYTES - 1 if rows else ''}"
    with _open(url, headers, timeout) as response:
        start, length, version = _describe(url, response)
        if response.status == 416 and known and version.agrees(replace(known, size=have)):
            return True  # nothing stands behind what is here
        expected = have if response.status == 206 else 0
        if response.status == 416 or start != expected or (start and not (known and version.agrees(known))):
            part.discard()
            raise _Broken("the file on the server has changed" if have else "the server refuses to send a part of it")
        if not start:
            part.begin(version)
            counter = RowCounter(rows) if rows else None
        bar.total, bar.n = None if rows else version.size, start
        received, enough = _copy(response, part, start, counter, bar)
    if enough:
        return True
    if length is not None and received < length:
        raise _Broken(f"the connection broke off after {received:,} of {length:,} bytes")
    return response.status == 200 or (start + received >= version.size if version.size is not None else not rows)


def _open(url: str, headers: dict[str, str], timeout: float) -> Any:
    """The response to a GET request, of status 200, 206 or 416. Raises _Broken if another try may help, else DownloadError."""
    host = urlsplit(url).netloc
    request = urllib.request.Request(url, headers={"User-Agent": "fliot-lab", "Accept-Encoding": "identity", **headers})
    context = ssl.create_default_context() if url.startswith("https:") else None
    try:
        response = urllib.request.urlopen(request, timeout=timeout, context=context)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            return error
        error.close()
        if error.code in PASSING:
            pause = _seconds(error.headers["Retry-After"])
            raise _Broken(f"{host} answers {error.code} {error.reason}", pause=pause) from error
        raise DownloadError(f"{url}: {host} answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise DownloadError(f"{host} shows a certificate that cannot be trusted: {reason}") from error
        raise _Broken(str(reason), answered=False) from error
    if complaint := _complaint(url, response):
        response.close()
        raise DownloadError(f"{url}: {complaint}")
    return response


def _complaint(url: str, response: Any) -> str:
    """Why an answer cannot be the file, before a byte of what is there already is given up for it; else ''."""
    if url.startswith("https:") and not response.url.startswith("https:"):
        return f"{urlsplit(url).netloc} sends on to {response.url}, which is not encrypted"
    if response.headers.get_content_type() == "text/html":
        return "a web page came instead of a file; perhaps this network wants you to log in first"
    if response.headers.get("Content-Encoding", "identity") != "identity":
        return f"the server sends the file as {response.headers['Content-Encoding']}, which was not asked for"
    return ""


def _seconds(retry_after: str | None) -> float:
    return float(retry_after) if retry_after and retry_after.isdigit() else 0.0


def _describe(url: str, response: Any) -> tuple[int, int | None, Version]:
    """(first byte, number of bytes, version of the whole file) of what an answer carries."""
    headers = response.headers
    length = int(headers["Content-Length"]) if (headers["Content-Length"] or "").isdigit() else None
    start, size = 0, length
    if response.status in (206, 416):
        found = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", headers["Content-Range"] or "")
        if not found and response.status == 206:
            raise DownloadError(f"{url}: a part of the file came with Content-Range {headers['Content-Range']!r}")
        size = int(found[3]) if found and found[3] != "*" else None
        if found and found[1]:
            start, length = int(found[1]), int(found[2]) - int(found[1]) + 1
    return start, length, Version(url, size, headers["ETag"], headers["Last-Modified"])


def _copy(response: Any, part: _Part, start: int, counter: RowCounter | None, bar: tqdm) -> tuple[int, bool]:
    """(bytes received, whether row number `counter.limit` ended in them), written to `part` from byte `start` on."""
    received = 0
    with open(part.path, "rb+") as out:
        out.seek(start)
        while chunk := _read(response):
            end = counter.feed(chunk) if counter else None
            out.write(chunk[:end])
            received += len(chunk)
            bar.update(len(chunk))
            if end is not None:
                return received, True
            if start + received > LARGEST:
                raise DownloadError(f"{response.url}: more than {LARGEST >> 30} GiB came, which no capture has")
    return received, False


def _read(response: Any) -> bytes:
    try:
        return response.read1(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(f"the connection broke off: {error or type(error).__name__}") from error
