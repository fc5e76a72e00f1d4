"""fliot_lab.data.download against a local server that misbehaves in the ways that servers and networks do."""

import json
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from log_server import LogServer, conn_log, serving

from fliot_lab.data import download

LOG = conn_log({"Benign": 900, "DDoS": 1100})
OTHER = conn_log({"Benign": 905, "DDoS": 1100}, proto="udp")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LogServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as running:
        running.files["/log"] = LOG
        yield running


class Fetcher:
    """Fetches /log to a file, and notes the pauses and what there was to verify."""

    def __init__(self, base: str, folder: Path) -> None:
        self.base, self.target = base, folder / "capture" / "conn.log.labeled"
        self.part = self.target.with_name("conn.log.labeled.part")
        self.pauses: list[float] = []
        self.accepted = [LOG]

    def verify(self, path: Path) -> None:
        if path.read_bytes() not in self.accepted:
            raise download.Rejected("this is another file")

    def __call__(self, **options: Any) -> bytes:
        url = options.pop("url", f"{self.base}/log")
        options = {"verify": self.verify, "progress": False, "sleep": self.pauses.append, "timeout": 5.0, **options}
        download.fetch_file(url, self.target, **options)
        return self.target.read_bytes()

    def left(self) -> list[str]:
        return sorted(path.name for path in self.target.parent.iterdir())


@pytest.fixture
def fetch(server: LogServer, tmp_path: Path) -> Fetcher:
    return Fetcher(server.base, tmp_path)


def data_rows(text: bytes) -> list[bytes]:
    return [line for line in text.splitlines() if not line.startswith(b"#")]


def head(rows: int, log: bytes = LOG) -> bytes:
    """The oracle for a fetch of the first rows: the lines up to that row."""
    lines, seen = [], 0
    for line in log.splitlines(keepends=True):
        lines.append(line)
        seen += not line.startswith(b"#")
        if seen == rows:
            break
    return b"".join(lines)


# --- a whole file ------------------------------------------------------------------------------------------------------


def test_one_request_brings_a_file_and_leaves_nothing_else(fetch: Fetcher, server: LogServer) -> None:
    assert fetch() == LOG
    assert server.requests == [("/log", None)]
    assert fetch.left() == ["conn.log.labeled"]
    assert fetch.pauses == []


def test_a_cut_connection_is_resumed_with_only_the_rest(fetch: Fetcher, server: LogServer) -> None:
    server.plan = [("cut", 100_000), ("cut", 50_000)]
    assert fetch() == LOG
    assert [wanted for _, wanted in server.requests] == [None, "bytes=100000-", "bytes=150000-"]
    assert sum(server.sent) == len(LOG)


def test_a_fetch_that_failed_is_resumed_by_the_next_with_only_the_rest(fetch: Fetcher, server: LogServer) -> None:
    server.plan = [("cut", 70_000), *["hang up"] * 3]
    with pytest.raises(download.DownloadError, match="70,000 bytes are kept"):
        fetch(tries=3)
    assert not fetch.target.exists()
    assert fetch.part.read_bytes() == LOG[:70_000]
    assert fetch() == LOG
    assert sum(server.sent) == len(LOG)
    assert fetch.left() == ["conn.log.labeled"]


@pytest.mark.parametrize("step", [404, 408, 429, 500, 502, 503, 504, "hang up"])
def test_an_answer_that_passes_is_waited_for(fetch: Fetcher, server: LogServer, step: Any) -> None:
    server.plan = [step, step, step]
    assert fetch() == LOG
    assert len(server.requests) == 4
    assert fetch.pauses == ([1.0, 2.0, 4.0] if step == "hang up" else [7.0, 7.0, 7.0])  # the server's Retry-After


def test_tries_are_bounded_and_counted_without_progress_only(fetch: Fetcher, server: LogServer) -> None:
    server.plan = [503] * 50
    with pytest.raises(download.DownloadError, match=r"given up after 4 tries, because 127.0.0.1:.* answers 503"):
        fetch(tries=4)
    assert len(server.requests) == 4
    server.plan = [("cut", 20_000)] * 10
    assert fetch(tries=2) == LOG


def test_requests_are_bounded_whatever_the_server_does(
    fetch: Fetcher, server: LogServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_REQUESTS", 6)
    server.plan = [("cut", 10)] * 50
    with pytest.raises(download.DownloadError, match="6 requests were not enough"):
        fetch()
    assert len(server.requests) == 6
    assert fetch.part.read_bytes() == LOG[:60]


@pytest.mark.parametrize("status", [400, 403, 410])
def test_a_refusal_is_not_repeated(fetch: Fetcher, server: LogServer, status: int) -> None:
    server.plan = [status]
    with pytest.raises(download.DownloadError, match=f"answers {status}"):
        fetch()
    assert len(server.requests) == 1
    assert fetch.left() == []


def test_a_server_without_ranges_starts_over_and_still_succeeds(fetch: Fetcher, server: LogServer) -> None:
    server.plan = [("cut", 90_000), "no range"]
    assert fetch() == LOG
    assert server.requests[1] == ("/log", "bytes=90000-")
    assert sum(server.sent) == 90_000 + len(LOG)


def test_a_piece_from_elsewhere_in_the_file_is_not_used(fetch: Fetcher, server: LogServer) -> None:
    server.plan = [("cut", 90_000), "wrong range"]
    assert fetch() == LOG
    assert [wanted for _, wanted in server.requests] == [None, "bytes=90000-", None]


@pytest.mark.parametrize("last", ["no etag", "no range", "as it should be"])
def test_a_file_that_changed_meanwhile_is_fetched_anew_never_spliced(fetch: Fetcher, server: LogServer, last: str) -> None:
    server.plan = [("cut", 90_000), *["hang up"] * 2]
    with pytest.raises(download.DownloadError):
        fetch(tries=2)
    server.files["/log"] = OTHER
    server.plan = [last]
    fetch.accepted = [OTHER]
    assert fetch() == OTHER


def test_pieces_are_not_joined_where_the_server_tells_nothing_of_the_version(fetch: Fetcher, server: LogServer) -> None:
    fetch.part.parent.mkdir()
    fetch.part.write_bytes(LOG[:90_000])
    fetch.part.with_name(fetch.part.name + ".json").write_text(json.dumps({"url": f"{fetch.base}/log"}))
    server.files["/log"] = OTHER
    server.plan = ["no etag"]
    fetch.accepted = [OTHER]
    assert fetch() == OTHER
    assert server.requests == [("/log", "bytes=90000-"), ("/log", None)]


@pytest.mark.parametrize("record", [None, "{", "[]", '{"url": "http://elsewhere/log", "size": 5}', '{"unknown": 1}'])
def test_bytes_of_unknown_origin_are_not_used(fetch: Fetcher, server: LogServer, record: str | None) -> None:
    fetch.part.parent.mkdir()
    fetch.part.write_bytes(b"something else")
    if record:
        fetch.part.with_name(fetch.part.name + ".json").write_text(record)
    assert fetch() == LOG
    assert server.requests == [("/log", None)]


def left_behind(fetch: Fetcher, server: LogServer, *, size: int | None) -> None:
    """What a process leaves that died between the last byte and the renaming."""
    with urllib.request.urlopen(f"{fetch.base}/log") as response:
        etag = response.headers["ETag"]
        assert response.read() == LOG
    for _ in range(500):  # the server counts a piece after it was sent
        if sum(server.sent) == len(LOG):
            break
        time.sleep(0.01)
    server.requests.clear()
    server.sent.clear()
    fetch.part.parent.mkdir()
    fetch.part.write_bytes(LOG)
    record = {"url": f"{fetch.base}/log", "size": size, "etag": etag, "modified": None}
    fetch.part.with_name(fetch.part.name + ".json").write_text(json.dumps(record))


def test_a_complete_part_needs_no_request(fetch: Fetcher, server: LogServer) -> None:
    left_behind(fetch, server, size=len(LOG))
    assert fetch() == LOG
    assert server.requests == []


def test_416_on_a_complete_part_of_unknown_size_completes_it(fetch: Fetcher, server: LogServer) -> None:
    left_behind(fetch, server, size=None)
    assert fetch() == LOG
    assert server.requests == [("/log", f"bytes={len(LOG)}-")]
    assert sum(server.sent) == 0


def test_416_that_tells_nothing_starts_over(fetch: Fetcher, server: LogServer) -> None:
    left_behind(fetch, server, size=None)
    server.plan = ["bare 416"]
    assert fetch() == LOG
    assert [wanted for _, wanted in server.requests] == [f"bytes={len(LOG)}-", None]


def test_416_because_the_file_shrank_starts_over(fetch: Fetcher, server: LogServer) -> None:
    left_behind(fetch, server, size=None)
    server.files["/log"] = shorter = LOG[:1000]
    server.plan = ["as it should be"]
    fetch.accepted = [shorter]
    assert fetch() == shorter


@pytest.mark.parametrize("step", ["html", "text"])
def test_garbage_never_takes_the_place_of_a_file(fetch: Fetcher, server: LogServer, step: str) -> None:
    fetch.target.parent.mkdir()
    fetch.target.write_bytes(b"what was there")
    server.plan = [step]
    with pytest.raises(download.DownloadError, match="a web page came" if step == "html" else "another file"):
        fetch()
    assert fetch.target.read_bytes() == b"what was there"
    assert fetch.left() == ["conn.log.labeled"]
    assert fetch() == LOG


def test_a_login_page_does_not_cost_the_bytes_that_are_there(fetch: Fetcher, server: LogServer) -> None:
    server.plan = [("cut", 90_000), "html"]
    with pytest.raises(download.DownloadError, match="web page"):
        fetch()
    assert fetch.part.read_bytes() == LOG[:90_000]


def test_a_compressed_answer_is_refused(fetch: Fetcher, server: LogServer) -> None:
    server.plan = ["gzip"]
    with pytest.raises(download.DownloadError, match="as gzip, which was not asked for"):
        fetch()
    assert fetch.left() == []


def test_a_secure_address_must_not_lead_to_an_open_one() -> None:
    complaint = download._complaint("https://example.org/log", SimpleNamespace(url="http://example.org/log"))
    assert "not encrypted" in complaint


def test_a_short_file_is_thrown_away(fetch: Fetcher, server: LogServer) -> None:
    server.files["/log"] = LOG[:1000]
    with pytest.raises(download.Rejected, match="another file"):
        fetch()
    assert fetch.left() == []


def test_a_file_of_unknown_size_comes_whole(fetch: Fetcher, server: LogServer) -> None:
    server.plan = ["no size"]
    assert fetch() == LOG


def test_more_than_any_capture_has_is_refused(fetch: Fetcher, server: LogServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "LARGEST", 100_000)
    with pytest.raises(download.DownloadError, match="no capture has"):
        fetch()
    assert not fetch.target.exists()


def test_an_interrupt_keeps_what_has_come(fetch: Fetcher, server: LogServer) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    server.plan = [("cut", 80_000)]
    with pytest.raises(KeyboardInterrupt):
        fetch(sleep=interrupt)
    assert fetch() == LOG
    assert sum(server.sent) == len(LOG)


def test_a_full_disk_is_not_taken_for_a_broken_connection(
    fetch: Fetcher, server: LogServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download._Part, "begin", full)
    with pytest.raises(OSError, match="No space left"):
        fetch()
    assert len(server.requests) == 1


# --- the first rows ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 700, 1999, 2000])
@pytest.mark.parametrize("step", ["as it should be", "no range"])
def test_the_first_rows_end_after_the_row(fetch: Fetcher, server: LogServer, rows: int, step: str) -> None:
    server.plan = [step]
    fetch.accepted = [head(rows)]
    got = fetch(rows=rows)
    assert len(data_rows(got)) == rows
    assert got.endswith(b"\n")


def test_the_first_rows_cost_little_more_than_their_bytes(fetch: Fetcher, server: LogServer) -> None:
    fetch.accepted = [head(500)]
    fetch(rows=500)
    assert server.requests == [("/log", f"bytes=0-{500 * download.ROW_BYTES - 1}")]
    assert sum(server.sent) == 500 * download.ROW_BYTES


def test_the_range_grows_until_there_are_enough_rows(
    fetch: Fetcher, server: LogServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "ROW_BYTES", 40)
    fetch.accepted = [head(1000)]
    assert fetch(rows=1000) == head(1000)
    assert [wanted for _, wanted in server.requests][:3] == ["bytes=0-39999", "bytes=40000-79999", "bytes=80000-119999"]
    assert fetch.pauses == []
    assert sum(server.sent) < len(head(1000)) + 40_000


def test_more_rows_than_there_are_is_the_whole_file(fetch: Fetcher, server: LogServer) -> None:
    assert fetch(rows=10_000) == LOG
    assert fetch(rows=2_001) == LOG


def test_the_first_rows_are_resumed_too(fetch: Fetcher, server: LogServer) -> None:
    server.plan = [("cut", 50_000)]
    fetch.accepted = [head(1000)]
    assert fetch(rows=1000) == head(1000)
    assert server.requests[1][1].startswith("bytes=50000-")
    assert sum(server.sent) < len(head(1000)) + 1000 * download.ROW_BYTES


def test_rows_are_counted_anew_where_a_server_without_ranges_starts_over(fetch: Fetcher, server: LogServer) -> None:
    server.plan = [("cut", 50_000), "no range"]
    fetch.accepted = [head(1000)]
    assert fetch(rows=1000) == head(1000)


def test_a_server_without_ranges_need_not_send_everything(fetch: Fetcher, server: LogServer) -> None:
    server.files["/log"] = big = LOG + b"".join(line + b"\n" for line in data_rows(LOG)) * 60
    server.plan = ["no range"]
    fetch.accepted = [head(100)]
    fetch(rows=100)
    assert server.sent[0] < len(big)


def test_rows_that_are_there_already_need_no_request(fetch: Fetcher, server: LogServer) -> None:
    server.plan = [("cut", 200_000), *["hang up"] * 2]
    with pytest.raises(download.DownloadError):
        fetch(tries=2)
    server.requests.clear()
    fetch.accepted = [head(100)]
    assert fetch(rows=100) == head(100)
    assert server.requests == []


@given(lines=st.lists(st.sampled_from([b"#x", b"row", b"", b"a#b", b"\r"]), max_size=30), cuts=st.lists(st.integers(1, 9)))
def test_rows_are_counted_alike_however_the_bytes_are_cut(lines: list[bytes], cuts: list[int]) -> None:
    text = b"".join(line + b"\n" for line in lines)
    rows = [number for number, line in enumerate(lines) if line in (b"row", b"a#b")]
    for limit in range(1, len(rows) + 2):
        counter, position, end = download.RowCounter(limit), 0, None
        for size in [*cuts, len(text) + 1]:
            chunk = text[position : position + size]
            if (end := counter.feed(chunk)) is not None:
                end += position
                break
            position += len(chunk)
        enough = limit <= len(rows)
        assert end == (sum(len(line) + 1 for line in lines[: rows[limit - 1] + 1]) if enough else None)


# --- the network -------------------------------------------------------------------------------------------------------


def test_no_answer_at_all_names_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets the port, and nobody answers
        host = f"127.0.0.1:{unused.getsockname()[1]}"
        fetch = Fetcher(f"http://{host}", tmp_path)
        with pytest.raises(download.Unreachable, match=f"{host} could not be reached"):
            fetch(tries=3)
    assert fetch.pauses == [1.0, 2.0]
    assert fetch.left() == []


def test_a_name_that_cannot_be_resolved_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> Any:
        raise urllib.error.URLError(socket.gaierror(-3, "Temporary failure in name resolution"))

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    with pytest.raises(download.Unreachable, match=r"example.org could not be reached .*name resolution"):
        Fetcher("https://example.org", tmp_path)()


def test_certificates_are_verified_and_a_bad_one_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contexts = []

    def impostor(*_: Any, context: ssl.SSLContext, **__: Any) -> Any:
        contexts.append(context)
        raise urllib.error.URLError(ssl.SSLCertVerificationError(1, "self-signed certificate"))

    monkeypatch.setattr(urllib.request, "urlopen", impostor)
    with pytest.raises(download.DownloadError, match=r"example.org shows a certificate that cannot be trusted.*self-signed"):
        Fetcher("https://example.org", tmp_path)()
    assert [(context.verify_mode, context.check_hostname) for context in contexts] == [(ssl.CERT_REQUIRED, True)]


@pytest.mark.parametrize("wrong", [{"rows": 0}, {"rows": -1}, {"url": "file:///etc/hosts"}, {"url": "ftp://x/y"}])
def test_bad_input_is_refused_before_anything_is_made(fetch: Fetcher, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"rows is|not an http or https address"):
        fetch(**wrong)
    assert not fetch.target.parent.exists()


def test_progress_is_shown_on_request(fetch: Fetcher, capsys: pytest.CaptureFixture[str]) -> None:
    fetch(progress=True, description="34-1")
    assert "34-1" in capsys.readouterr().err
