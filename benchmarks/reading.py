"""How much CPU time and memory reading a conn log costs, ours beside what others offer.

Each reader imports its libraries itself, so that its memory, measured in a process of its own, is its own.
"""

import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice, takewhile
from pathlib import Path

from benchmarks import measure

SEED = 7
LONGER = 3  # to_parquet's memory is measured on a file that is so many times as long, too


def bare_polars(path: str) -> object:
    """The yardstick: polars' frame of whatever types it infers, nothing checked."""
    import polars as pl

    return pl.read_csv(path, separator="\t", comment_prefix="#", null_values="-", has_header=False, quote_char=None)


def bare_polars_skipping(path: str) -> object:
    """The same without its search for comments, for a file whose only comments are its header: polars at its best."""
    import polars as pl

    skipped = _header_lines(path)
    return pl.read_csv(path, separator="\t", skip_rows=skipped, null_values="-", has_header=False, quote_char=None)


def ours_scan(path: str) -> object:
    """Our polars frame: checked, typed, labelled."""
    from fliot_lab.data import zeek

    return zeek.scan_conn_log(path).collect()


def ours_pandas(path: str) -> object:
    """Our pandas frame."""
    from fliot_lab.data import zeek

    return zeek.read_conn_log(path)


def ours_parquet(path: str) -> object:
    """The number of rows that we wrote to a Parquet file beside the log."""
    from fliot_lab.data import zeek

    return zeek.to_parquet(path, f"{path}.parquet", progress=False)


def bare_pandas(path: str) -> object:
    """The frame of pandas' own C reader."""
    import pandas as pd

    return pd.read_csv(path, sep="\t", header=None, skiprows=_header_lines(path), na_values="-", quoting=3, engine="c")


def bare_pyarrow(path: str) -> object:
    """pyarrow's table."""
    from pyarrow import csv

    return csv.read_csv(
        path,
        read_options=csv.ReadOptions(skip_rows=_header_lines(path), autogenerate_column_names=True),
        parse_options=csv.ParseOptions(delimiter="\t", quote_char=False),
        convert_options=csv.ConvertOptions(null_values=["-"], strings_can_be_null=True),
    )


def bare_duckdb(path: str) -> object:
    """DuckDB's result as an Arrow table."""
    import duckdb

    log = duckdb.read_csv(path, sep="\t", header=False, skiprows=_header_lines(path), na_values="-", quotechar="")
    return log.to_arrow_table()


def _header_lines(path: str) -> int:
    """How many lines stand before the first row."""
    with open(path, "rb") as file:
        return next(number for number, line in enumerate(file) if not _is_comment(line))


def _is_comment(line: bytes) -> bool:
    """Whether the line is of the header or the footer."""
    return line.startswith(b"#")


@dataclass(frozen=True)
class Reader:
    """One line of the table; None where nothing is aimed at. Seconds are per million rows."""

    name: str
    read: Callable[[str], object]
    most_ratio: float | None = None
    most_seconds: float | None = None
    most_mb: float | None = None

    def target(self) -> str:
        """The limits in words."""
        limits = (("{:g} x", self.most_ratio), ("{:g} CPU s", self.most_seconds), ("{:,.0f} MB", self.most_mb))
        return ", ".join("<= " + text.format(limit) for text, limit in limits if limit is not None)

    def met(self, ratio: float, seconds: float, mb: float) -> str:
        """`yes`, `no`, or nothing where nothing is aimed at."""
        limits = [(ratio, self.most_ratio), (seconds, self.most_seconds), (mb, self.most_mb)]
        kept = [figure <= limit for figure, limit in limits if limit is not None]
        return "" if not kept else "yes" if all(kept) else "no"


READERS = (
    Reader("polars read_csv, bare", bare_polars),
    Reader("polars, bare, header skipped", bare_polars_skipping),
    Reader("ours: scan_conn_log().collect()", ours_scan, most_ratio=1.3),
    Reader("ours: read_conn_log, pandas", ours_pandas, most_ratio=1.6, most_mb=1100),
    Reader("ours: to_parquet", ours_parquet, most_seconds=5, most_mb=400),
    Reader("pandas read_csv, C reader", bare_pandas),
    Reader("pyarrow csv.read_csv", bare_pyarrow),
    Reader("DuckDB read_csv", bare_duckdb),
)


def run(rows: int = 1_000_000, repetitions: int = 5, memory_repetitions: int = 3) -> str:
    """The section for results/BENCHMARKS.md. Raises ValueError where a reader does not give all rows."""
    from fliot_lab.data import sample

    with tempfile.TemporaryDirectory(prefix="fliot-bench-") as folder:
        log, longer = Path(folder) / "conn.log.labeled", Path(folder) / "longer.log.labeled"
        captures = sample.generate(Path(folder) / "captures", SEED, size=max(sample.SMALLEST_SIZE, min(rows, 1_000_000)))
        _write_log(log, captures, rows)
        mb = log.stat().st_size / 1e6
        contenders = {reader.name: partial(reader.read, str(log)) for reader in READERS}
        seconds = measure.interleaved(contenders, repetitions, lambda name, found: _check(name, measure.size(found), rows))
        peaks = [_peak(reader, log, rows, memory_repetitions) for reader in READERS]
        _write_log(longer, captures, LONGER * rows)
        peak_of_longer = _peak(_parquet(), longer, LONGER * rows, memory_repetitions)
    lines = _lines(seconds, peaks, rows)
    lines.append([f"{_parquet().name}, {LONGER * rows:,} rows", "", "", *_memory_cells(peak_of_longer)])
    columns = ["reader", "CPU s per million rows", "ratio to bare polars", "peak MB", "target", "met"]
    return (
        f"## Reading {rows:,} rows ({mb:,.1f} MB) of a SIMULATED conn.log.labeled\n\n{measure.table(columns, lines)}\n\n"
        f"CPU seconds: median of {repetitions} interleaved repetitions in one process. Peak MB (10**6 bytes): median of "
        f"{memory_repetitions} fresh processes, their libraries included. Every reader gave every row."
    )


def _lines(seconds: dict[str, list[float]], peaks: list[float], rows: int) -> list[list[str]]:
    """The cells of the readers' lines."""
    ratios, lines = measure.ratios(seconds), []
    for reader, mb in zip(READERS, peaks, strict=True):
        cost, ratio = statistics.median(seconds[reader.name]) / rows * 1e6, ratios[reader.name]
        lines.append([reader.name, f"{cost:.2f}", f"{ratio:.2f}", f"{mb:,.0f}", reader.target(), reader.met(ratio, cost, mb)])
    return lines


def _memory_cells(mb: float) -> list[str]:
    """Peak, target and met for to_parquet's line on the longer file, where memory is all that is asked."""
    limit = Reader("", ours_parquet, most_mb=_parquet().most_mb)
    return [f"{mb:,.0f}", limit.target(), limit.met(0, 0, mb)]


def _parquet() -> Reader:
    """The reader whose memory is measured on a longer file, too."""
    return next(reader for reader in READERS if reader.read is ours_parquet)


def _peak(reader: Reader, log: Path, rows: int, repetitions: int) -> float:
    """Peak memory in MB of the reader alone."""
    mb, found = measure.peak_mb(reader.read, str(log), repetitions=repetitions)
    _check(reader.name, found, rows)
    return mb


def _check(name: str, found: int, rows: int) -> None:
    """Raises ValueError where a reader has lost or made rows: its figures would mean nothing."""
    if found != rows:
        raise ValueError(f"{name} gave {found:,} rows of a log of {rows:,}")


def _write_log(path: Path, captures: list[Path], rows: int) -> None:
    """Writes a labelled log of exactly so many rows: those of the captures, one after the other, again and again."""
    with captures[0].open("rb") as first, path.open("wb") as log:
        header = takewhile(_is_comment, first)
        log.writelines(header)
        log.writelines(islice(_rows_of(captures), rows))


def _rows_of(captures: list[Path]) -> Iterator[bytes]:
    """The rows of the captures without end."""
    while True:
        for capture in captures:
            with capture.open("rb") as file:
                yield from (line for line in file if not _is_comment(line))
