"""What a Zeek conn log looks like: its header, its columns, its labels, and what is wrong with a line.

The formats that circulate: Zeek's own TSV; IoT-23's `conn.log.labeled`, whose last field holds tunnel_parents, label and
detailed label joined by three spaces; copies of it with 23 proper columns separated by `|`; Zeek's JSON, an object a line.
"""

import gzip
import json
import math
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

#: Zeek's conn fields in order, with Zeek's own types (docs.zeek.org, scripts/base/protocols/conn/main.zeek).
CONN_FIELDS = {
    "ts": "time",
    "uid": "string",
    "id.orig_h": "addr",
    "id.orig_p": "port",
    "id.resp_h": "addr",
    "id.resp_p": "port",
    "proto": "enum",
    "service": "string",
    "duration": "interval",
    "orig_bytes": "count",
    "resp_bytes": "count",
    "conn_state": "string",
    "local_orig": "bool",
    "local_resp": "bool",
    "missed_bytes": "count",
    "history": "string",
    "orig_pkts": "count",
    "orig_ip_bytes": "count",
    "resp_pkts": "count",
    "resp_ip_bytes": "count",
    "tunnel_parents": "set[string]",
}
LABEL_FIELDS = ("label", "detailed-label")
JOIN = "   "  # between tunnel_parents, label and detailed label in IoT-23's last field, and in our `label_original`
UNSET, EMPTY = "-", "(empty)"
#: No field of a connection is longer; a longer one is a damaged file, and would fill the memory.
MAX_FIELD_BYTES = 65_536
MAX_LINE_BYTES = 32 * MAX_FIELD_BYTES
#: The parts of IoT-23's attack labels, spelled as in its documentation. A compound such as `C&C-HeartBeat-Attack` joins them.
LABEL_PARTS = (
    "Attack",
    "C&C",
    "DDoS",
    "FileDownload",
    "HeartBeat",
    "Mirai",
    "Okiru",
    "PartOfAHorizontalPortScan",
    "Torii",
)
BENIGN = "Benign"
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)", re.ASCII | re.IGNORECASE)
_NUMBERS = {"time": _DECIMAL, "interval": _DECIMAL, "double": _DECIMAL, "count": _WHOLE, "int": _WHOLE, "port": _WHOLE}
#: Zeek type -> lowest and highest value. Times end where float64 stops to hold microseconds exactly (2**53, in the year 2255).
RANGES = {"time": (0, 9_007_199_254), "count": (0, 2**63 - 1), "int": (-(2**63), 2**63 - 1), "port": (0, 65_535)}
_SPELLING = {part.lower(): part for part in LABEL_PARTS}


class ConnLogError(ValueError):
    """A conn log that cannot be read. Names the file, the line (counted from 1) where there is one, and what is wrong."""

    def __init__(self, path: Path, problem: str, line: int | None = None):
        super().__init__(f"{path}{'' if line is None else f', line {line}'}: {problem}")
        self.path, self.problem, self.line = path, problem, line

    def __reduce__(self) -> tuple[type["ConnLogError"], tuple[Path, str, int | None]]:
        """How to make it again, in the process that waits for a worker."""
        return type(self), (self.path, self.problem, self.line)


@dataclass(frozen=True)
class Layout:
    """How the rows of one conn log are written."""

    path: Path
    kind: str  # "tsv" or "json"
    fields: tuple[str, ...]  # as the parser sees them: IoT-23's joined last field counts as one, called tunnel_parents
    types: tuple[str, ...]
    separator: str = "\t"
    unset: str = UNSET
    empty: str = EMPTY
    labels: str = "none"  # "none", "joined" (in the last field) or "columns"
    header_lines: int = 0  # lines before the first row that do not start with `#`
    header: bytes = b""  # the #fields line, where there is one


def normalise_label(label: str, detailed: str) -> str | None:
    """One spelling for IoT-23's two label fields: `Benign`, or the attack's class such as `C&C-HeartBeat`.

    Captures differ in case (`benign` in honeypots). A malicious row without a detailed label is `Malicious`, an unset label
    None; a part that is not in LABEL_PARTS stays as it is written.
    """
    if label.lower() == BENIGN.lower():
        return BENIGN
    if detailed in (UNSET, EMPTY, ""):
        return None if label in (UNSET, EMPTY, "") else label
    return "-".join(_SPELLING.get(part.lower(), part) for part in detailed.split("-"))


def open_log(path: Path) -> BinaryIO:
    """The log's bytes, decompressed where the name ends in `.gz`."""
    return cast(BinaryIO, gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb"))


def read_layout(path: Path) -> Layout:
    """How `path` is written, from its first lines. Raises ConnLogError where it is no conn log, OSError where it is missing."""
    if path.is_dir():
        raise ConnLogError(path, "is a folder, not a conn log")
    try:
        with open_log(path) as file:
            head = file.read(262_144)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ConnLogError(path, f"is not a complete gzip file ({error})") from error
    if not head:
        raise ConnLogError(path, "is empty; a conn log starts with a header (#separator, #fields ...)")
    if b"\0" in head:
        raise ConnLogError(path, "is a binary file, not a conn log")
    lines = head.decode("utf-8", errors="replace").splitlines()
    if lines[0].lstrip().startswith("{"):
        return _json_layout(path, lines)
    if lines[0].startswith("ts") and len(lines[0]) > 2 and lines[0][2] in "|\t,":
        return _tsv_layout(path, lines[0].split(lines[0][2]), [], lines[0][2], header_lines=1)
    return _zeek_layout(path, lines)


def _zeek_layout(path: Path, lines: list[str]) -> Layout:
    separator, header, found = "\t", b"", {}
    for line in lines:
        if not line.startswith("#"):
            break
        if line.startswith("#separator "):
            separator = line.removeprefix("#separator ").encode().decode("unicode_escape")
            continue
        if line.startswith("#fields"):
            header = line.encode()
        name, *values = line[1:].split(separator)
        found[name] = values
    if not found.get("fields"):
        raise ConnLogError(path, "has no #fields header, so its columns are unknown; is it a Zeek conn log?", 1)
    layout = _tsv_layout(path, found["fields"], found.get("types", []), separator)
    unset, empty = (found.get(name, [default])[0] for name, default in (("unset_field", UNSET), ("empty_field", EMPTY)))
    return Layout(**{**vars(layout), "unset": unset, "empty": empty, "header": header})


def _tsv_layout(path: Path, fields: list[str], types: list[str], separator: str, header_lines: int = 0) -> Layout:
    labels = "none"
    if JOIN in fields[-1]:
        labels, fields = "joined", [*fields[:-1], fields[-1].split(JOIN)[0]]
    elif set(LABEL_FIELDS) <= set(fields):
        labels = "columns"
    if missing := [name for name in ("ts", "id.orig_h", "id.resp_h", "proto") if name not in fields]:
        raise ConnLogError(path, f"its header lacks {', '.join(missing)}; is it a Zeek conn log?", 1)
    if repeated := sorted({name for name in fields if fields.count(name) > 1}):
        raise ConnLogError(path, f"its header names {', '.join(repeated)} twice", 1)
    if len(types) == len(fields):
        types = [CONN_FIELDS.get(name, kind) for name, kind in zip(fields, types, strict=True)]
    else:
        types = [CONN_FIELDS.get(name, "string") for name in fields]
    return Layout(path, "tsv", tuple(fields), tuple(types), separator, labels=labels, header_lines=header_lines)


def _json_layout(path: Path, lines: list[str]) -> Layout:
    whole = lines[:-1] or lines  # the last line of the head may be cut
    try:
        keys = set().union(*(json.loads(line) for line in whole[:100]))
    except (json.JSONDecodeError, TypeError):
        keys = {"ts"}  # the row's own error, with its line, comes when it is read
    if "ts" not in keys:
        raise ConnLogError(path, "its objects have no ts; is it a Zeek conn log?", 1)
    fields = dict(CONN_FIELDS) | (dict.fromkeys(LABEL_FIELDS, "string") if "label" in keys else {})
    labels = "columns" if "label" in keys else "none"
    return Layout(path, "json", tuple(fields), tuple(fields.values()), labels=labels)


def row_lines(layout: Layout) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, line without its end) of every row of the log; comments and a header row are passed over.

    Raises ConnLogError at a further header, as in logs that were joined, that names other fields than the first.
    """
    with open_log(layout.path) as file:
        lines = iter(partial(file.readline, MAX_LINE_BYTES), b"")  # a longer line comes in pieces, each of them no row
        for number, line in enumerate(lines, 1):
            if line.startswith(b"#fields") and line.rstrip(b"\r\n") != layout.header:
                raise ConnLogError(
                    layout.path, "a second header names other fields than the first; split the file there", number
                )
            if number > layout.header_lines and not line.startswith(b"#"):
                yield number, line.rstrip(b"\r\n")


def problem_of(line: bytes, layout: Layout) -> str | None:
    """What is wrong with one row, in words, or None. The slow and readable twin of the checks in `parsing`."""
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        return f"is not UTF-8 text (byte {error.start + 1} of the line)"
    if layout.kind == "json":
        return _json_problem(text, layout)
    values = text.split(layout.separator)
    if len(values) != len(layout.fields) or not values[-1]:
        return f"{len(values)} fields where the header names {len(layout.fields)} ({text[:60]!r})"
    for name, kind, value in zip(layout.fields, layout.types, values, strict=True):
        value = value.lstrip(" ") if kind in _NUMBERS else value  # as polars reads numbers
        if problem := _value_problem(kind, None if value in (layout.unset, "") else value):
            return f"{name} {problem}"
    if layout.labels == "joined" and len(values[-1].split(JOIN)) != 3:
        return f"the last field {values[-1][:60]!r} is not tunnel_parents, label and detailed label joined by three spaces"
    return None


def _json_problem(text: str, layout: Layout) -> str | None:
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        return f"is not JSON: {error}"
    if not isinstance(row, dict):
        return "is not a JSON object"
    for name, kind in zip(layout.fields, layout.types, strict=True):
        value = row.get(name)
        if kind == "set[string]" and isinstance(value, list):
            continue
        if isinstance(value, bool):
            value = "T" if value else "F"
        if problem := _value_problem(kind, None if value is None else str(value)):
            return f"{name} {problem}"
    return None


def _value_problem(kind: str, value: str | None) -> str | None:
    if value is None:
        return "is unset" if kind in ("time", "port", "enum") else None
    if len(value.encode()) > MAX_FIELD_BYTES:
        return f"is {len(value.encode()):,} bytes long; no field of a connection is longer than {MAX_FIELD_BYTES:,}"
    if kind == "bool":
        return None if value in ("T", "F") else f"is {value[:40]!r}, neither T nor F"
    if kind not in _NUMBERS:
        return None
    if not _NUMBERS[kind].fullmatch(value):  # int() and float() take more than polars does
        return f"is {value[:40]!r}, not a {'whole ' if _NUMBERS[kind] is _WHOLE else ''}number"
    number = float(value)
    low, high = RANGES.get(kind, (-math.inf, math.inf))
    if not math.isfinite(number) or not low <= number <= high:
        return f"is {value[:40]!r}, out of range"
    return None
