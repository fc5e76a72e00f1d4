"""Zeek conn logs in and out: pandas for what fits in memory, polars for what does not."""

import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from tqdm import tqdm

from fliot_lab import atomic
from fliot_lab.data.layout import (
    BENIGN,
    CONN_FIELDS,
    EMPTY,
    JOIN,
    LABEL_FIELDS,
    UNSET,
    ConnLogError,
    normalise_label,
    open_log,
    read_layout,
)
from fliot_lab.data.parsing import ConnLogWarning, OnError, scan

__all__ = ["ConnLogError", "ConnLogWarning", "read_conn_log", "scan_conn_log", "to_parquet", "write_conn_log"]


def read_conn_log(path: str | os.PathLike[str], *, on_error: OnError = "raise") -> pd.DataFrame:
    """The flows of a conn log, one a row, under Zeek's column names and in the file's order.

    Reads Zeek's TSV (plain or `.gz`), IoT-23's `conn.log.labeled`, its copies separated by `|`, and Zeek's JSON. ts is
    datetime64[us, UTC]; duration float64 seconds; counts Int64 (bytes, packets); ports int32; local_* boolean; proto, service,
    conn_state and history categories; uid and addresses str. Unset is NA, an empty set of tunnel_parents "". A labelled log
    adds `label` (one spelling: `Benign` or the attack's class) and `label_original` (both label fields as in the file).

    Raises ConnLogError, naming file, line and what is wrong. With `on_error="skip"` bad rows are left out, counted in a
    ConnLogWarning and in `frame.attrs["skipped_rows"]`.
    """
    skipped: list[int] = []
    flows = _to_pandas(scan(read_layout(Path(path)), on_error, on_skip=skipped.append).collect(engine="streaming"))
    if skipped:
        flows.attrs["skipped_rows"] = skipped[0]
    return flows


def scan_conn_log(path: str | os.PathLike[str], *, on_error: OnError = "raise") -> pl.LazyFrame:
    """The flows of a conn log as a polars plan, which reads the file in batches when it is collected or sunk.

    Columns as in `read_conn_log`, with polars' Categorical for categories. The header is checked now, rows when they are
    read: ConnLogError comes from `collect()`. `on_error="skip"` reads the file once more, before, and needs room for a copy.
    """
    return scan(read_layout(Path(path)), on_error)


def to_parquet(
    path: str | os.PathLike[str], out: str | os.PathLike[str], *, on_error: OnError = "raise", progress: bool = True
) -> int:
    """The number of rows written to the Parquet file `out`, in bounded memory however large the log is.

    `out` appears when it is complete, never before. Raises ConnLogError as `scan_conn_log`.
    """
    layout = read_layout(Path(path))
    if Path(out).resolve() == layout.path.resolve():
        raise ValueError(f"{out} is the log itself; name another file for the Parquet copy")
    total = _estimated_rows(layout.path)
    with (
        atomic.replacing(Path(out)) as partial,
        tqdm(total=total, unit=" flows", unit_scale=True, desc=layout.path.name, disable=not progress) as bar,
    ):
        scan(layout, on_error, on_rows=bar.update).sink_parquet(partial)
        return int(pl.scan_parquet(partial).select(pl.len()).collect().item())


def write_conn_log(flows: pd.DataFrame | pl.DataFrame, path: str | os.PathLike[str]) -> None:
    """Writes flows in Zeek's TSV layout, labelled as in IoT-23 where they have labels, compressed where `path` ends in `.gz`.

    Takes what `read_conn_log` gives (reading the file again gives the same frame) or a polars frame of the same columns.
    Columns that are not Zeek's, such as `capture`, are left out. Times are written to the microsecond, as Zeek does. Where
    `label_original` is missing or means another class, `label` says what is written. Raises
    ValueError where a column of Zeek's is missing or a value holds a tab or a line end. `path` appears when it is complete.
    """
    frame = pl.from_pandas(flows) if isinstance(flows, pd.DataFrame) else flows
    if missing := [name for name in CONN_FIELDS if name not in frame.columns]:
        raise ValueError(f"a conn log needs all of Zeek's columns; the frame lacks {', '.join(missing)}")
    if unset := [n for n, kind in CONN_FIELDS.items() if kind in ("time", "port", "enum") and frame[n].null_count()]:
        raise ValueError(f"{', '.join(unset)}: a flow without one is no flow, and nobody could read it back")
    labelled = "label" in frame.columns
    columns = [_as_text(name, kind) for name, kind in CONN_FIELDS.items()]
    if labelled:
        columns[-1] = pl.concat_str(columns[-1], pl.lit(JOIN), _label_text(frame))
    text = frame.select(columns)
    broken = text.select(pl.col(pl.String).str.contains("[\t\r\n]").any())
    if bad := [name for name in broken.columns if broken[name][0]]:
        raise ValueError(f"{', '.join(bad)}: a value holds a tab or a line end, which a conn log cannot")
    # The data's time, not the clock's: equal frames give equal files.
    stamp = frame.select(pl.col("ts").min().dt.strftime("%Y-%m-%d-%H-%M-%S")).item() or "1970-01-01-00-00-00"
    names, types = list(CONN_FIELDS), list(CONN_FIELDS.values())
    if labelled:
        names[-1], types[-1] = JOIN.join((names[-1], *LABEL_FIELDS)), JOIN.join((types[-1], "string", "string"))
    header = [
        "#separator \\x09",
        "#set_separator\t,",
        f"#empty_field\t{EMPTY}",
        f"#unset_field\t{UNSET}",
        "#path\tconn",
        f"#open\t{stamp}",
        "#fields\t" + "\t".join(names),
        "#types\t" + "\t".join(types),
    ]
    with atomic.replacing(Path(path)) as partial, _opened(partial, compressed=Path(path).suffix == ".gz") as file:
        file.write("\n".join(header).encode() + b"\n")
        text.write_csv(file, separator="\t", include_header=False, null_value=UNSET, quote_style="never", float_precision=6)
        file.write(f"#close\t{stamp}\n".encode())


def _to_pandas(frame: pl.DataFrame) -> pd.DataFrame:
    """The pandas twin of a frame; categories in alphabetical order, so that equal files give equal frames."""
    mapping = {
        pa.int64(): pd.Int64Dtype(),
        pa.bool_(): pd.BooleanDtype(),
        pa.large_string(): pd.StringDtype(na_value=np.nan),
    }
    columns = {}
    for column in frame.iter_columns():
        if column.dtype == pl.Categorical:
            names = column.unique().drop_nulls().cast(pl.String).sort()
            column = column.cast(pl.Enum(names))
        series = column.to_arrow(compat_level=pl.CompatLevel.oldest()).to_pandas(types_mapper=mapping.get)
        columns[column.name] = series.cat.as_unordered() if column.dtype == pl.Enum else series
    return pd.DataFrame(columns, copy=False)


def _estimated_rows(path: Path) -> int | None:
    """About how many rows a plain file holds, for a progress bar."""
    if path.suffix == ".gz":
        return None
    with open_log(path) as file:
        head = file.read(1_000_000)
    return round(path.stat().st_size / max(len(head), 1) * head.count(b"\n"))


def _as_text(name: str, kind: str) -> pl.Expr:
    """The column as Zeek writes it; floats are left to `write_csv`, which gives them six decimals."""
    column = pl.col(name)
    if kind == "time":
        micros = column.dt.epoch("us")
        return pl.format("{}.{}", micros // 1_000_000, (micros % 1_000_000).cast(pl.String).str.zfill(6)).alias(name)
    if kind == "bool":
        return pl.when(column).then(pl.lit("T")).when(~column).then(pl.lit("F")).alias(name)
    if kind == "set[string]":
        return pl.when(column == "").then(pl.lit(EMPTY)).otherwise(column.fill_null(UNSET)).alias(name)
    return column.cast(pl.Float64 if kind == "interval" else pl.Int64 if kind in ("count", "port") else pl.String)


def _label_text(frame: pl.DataFrame) -> pl.Expr:
    """Both label fields, joined: as they were in the file where they still mean `label`, else made from it."""
    label = pl.col("label").cast(pl.String)
    made = (
        pl.when(label.is_null())
        .then(pl.lit(UNSET + JOIN + UNSET))
        .when(label == BENIGN)
        .then(pl.lit(BENIGN + JOIN + UNSET))
        .otherwise(pl.format("Malicious{}{}", pl.lit(JOIN), label))
    )
    if "label_original" not in frame.columns:
        return made
    original = pl.col("label_original").cast(pl.String)
    texts = frame.select(original.unique().drop_nulls()).to_series().to_list()
    meanings = {text: normalise_label(*text.split(JOIN)) for text in texts if text.count(JOIN) == 1}
    meaning = original.replace_strict(meanings, default=None, return_dtype=pl.String)
    return pl.when(meaning.eq_missing(label) & original.is_in(list(meanings))).then(original).otherwise(made)


@contextmanager
def _opened(path: Path, *, compressed: bool) -> Iterator[BinaryIO]:
    """`path` opened for writing; compressed output carries no time stamp, so that equal frames give equal files."""
    with path.open("wb") as file:
        if not compressed:
            yield file
            return
        with gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) as packed:
            yield cast(BinaryIO, packed)
