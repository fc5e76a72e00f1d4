"""The rows of a conn log as polars reads them, with the checks that polars does not make.

polars parses the columns. What it cannot know stands here: which rows are too short (it fills them up), what the joined last
field holds, and, when a row is refused, which line of the file that was.
"""

import gzip
import re
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from fliot_lab.data.layout import (
    EMPTY,
    JOIN,
    LABEL_FIELDS,
    MAX_FIELD_BYTES,
    MAX_LINE_BYTES,
    RANGES,
    ConnLogError,
    Layout,
    normalise_label,
    open_log,
    problem_of,
    row_lines,
)

OnError = Literal["raise", "skip"]
#: Columns with few distinct values, which become categories.
CATEGORIES = ("proto", "service", "conn_state", "history")
_PARSED: dict[str, pl.DataType] = {
    "time": pl.Float64(),
    "interval": pl.Float64(),
    "double": pl.Float64(),
    "count": pl.Int64(),
    "int": pl.Int64(),
    "port": pl.Int32(),
}
_HEADER = re.compile(rb"^#fields[^\r\n]*", re.MULTILINE)
_COMPLETE = "_complete"
_BLOCK_BYTES = 8 << 20


class ConnLogWarning(UserWarning):
    """Rows of a conn log were left out, as `on_error="skip"` asked."""


def _ignore(count: int) -> None:
    """Nobody asked to be told."""


def schema_of(layout: Layout) -> dict[str, pl.DataType]:
    """Column -> polars type of what is handed out."""
    handed: dict[str, pl.DataType] = {"time": pl.Datetime("us", "UTC"), "bool": pl.Boolean()}
    schema: dict[str, pl.DataType] = {}
    for name, kind in zip(layout.fields, layout.types, strict=True):
        schema[name] = pl.Categorical() if name in CATEGORIES else handed.get(kind, _PARSED.get(kind, pl.String()))
    if layout.labels != "none":
        schema = {name: kind for name, kind in schema.items() if name not in LABEL_FIELDS}
        schema |= {"tunnel_parents": pl.String(), "label": pl.Categorical(), "label_original": pl.Categorical()}
    return schema


def scan(
    layout: Layout,
    on_error: OnError,
    *,
    on_rows: Callable[[int], object] = _ignore,
    on_skip: Callable[[int], object] = _ignore,
) -> pl.LazyFrame:
    """The plan behind the public readers; tells `on_rows` how many rows came, `on_skip` how many were left out."""
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error={on_error!r} is unknown; choose 'raise' or 'skip'")
    schema = schema_of(layout)

    def source(
        columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_rows: int | None
    ) -> Iterator[pl.DataFrame]:
        wanted = schema if columns is None else {name: schema[name] for name in columns}
        with _without_bad_rows(layout, on_skip) if on_error == "skip" else nullcontext(layout) as sound:
            for batch in _batches(sound, wanted):
                on_rows(len(batch))
                if n_rows is not None:  # of the file, before the predicate
                    batch = batch.head(n_rows)
                    n_rows -= len(batch)
                yield batch if predicate is None else batch.filter(predicate)
                if n_rows == 0:
                    return

    return register_io_source(source, schema=schema)


def _batches(layout: Layout, wanted: dict[str, pl.DataType]) -> Iterator[pl.DataFrame]:
    """The log's rows in order, checked, with the `wanted` columns."""
    plan = _json_plan if layout.kind == "json" else _tsv_plan
    labelled = layout.labels != "none"
    raw = sorted({"tunnel_parents" if labelled and name in ("label", "label_original") else name for name in wanted})
    kinds = dict(zip(layout.fields, layout.types, strict=True))
    try:
        for block in _blocks(layout):
            if _has_comments(block) and any(line != layout.header for line in _HEADER.findall(block)):
                raise _refusal(layout, "a second header differs from the first")
            batch = plan(block, layout).select(_COMPLETE, *raw).collect()
            if not _is_sound(batch, kinds):
                raise _refusal(layout, "a row cannot be read")
            if not wanted:  # only the number of rows is asked for
                yield pl.DataFrame(height=len(batch))
                continue
            parts = _label_parts(batch["tunnel_parents"], layout) if labelled and "tunnel_parents" in raw else {}
            yield batch.select(
                parts[name] if name in parts else _finished(name, kinds.get(name, ""), dtype) for name, dtype in wanted.items()
            )
    except (pl.exceptions.PolarsError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _refusal(layout, " ".join(str(error).split())) from error


def _blocks(layout: Layout) -> Iterator[bytes]:
    """The log in blocks of whole lines, which bound the memory whatever the size of the file, compressed or not."""
    with open_log(layout.path) as file:
        for _ in range(layout.header_lines):
            file.readline()
        while block := file.read(_BLOCK_BYTES):
            line = file.readline(MAX_LINE_BYTES)
            if len(line) == MAX_LINE_BYTES:
                raise _refusal(layout, "a line does not end")
            block += line
            yield block if block.endswith(b"\n") else block + b"\n"  # else polars forgives one empty field too many at the end


def _has_comments(block: bytes) -> bool:
    """Whether a line may start with `#`. One byte is found far faster than two, and most blocks have none."""
    return b"#" in block and (block.startswith(b"#") or b"\n#" in block)


def _tsv_plan(block: bytes, layout: Layout) -> pl.LazyFrame:
    """polars' plan for the raw columns and `_COMPLETE`: the last field shows whether a row has all of them.

    polars fills a short row with nulls, so the last field is read with no null value of its own. Of a labelled log,
    tunnel_parents is the three label fields joined.
    """
    last = layout.fields[-1]
    as_they_are = {last, "tunnel_parents", *LABEL_FIELDS} if layout.labels != "none" else {last}
    raw = {
        name: pl.Categorical() if name in CATEGORIES else _PARSED.get(kind, pl.String())
        for name, kind in zip(layout.fields, layout.types, strict=True)
    }
    raw[last] = pl.Categorical() if layout.labels == "joined" else pl.String()
    plan = pl.scan_csv(
        block,
        separator=layout.separator,
        has_header=False,
        schema=raw,
        comment_prefix="#" if _has_comments(block) else None,  # looking for comments costs polars a third
        null_values={name: layout.unset for name in layout.fields if name not in as_they_are},
        quote_char=None,
    ).with_columns(pl.col(last).is_not_null().alias(_COMPLETE))
    if layout.labels == "columns":
        joined = pl.concat_str("tunnel_parents", *LABEL_FIELDS, separator=JOIN)
        return plan.with_columns(joined.cast(pl.Categorical).alias("tunnel_parents"))
    if layout.labels == "none":
        known = pl.when(pl.col(last) != layout.unset).then(pl.col(last))
        kind = pl.Categorical() if last in CATEGORIES else _PARSED.get(layout.types[-1], pl.String())
        return plan.with_columns(known.cast(kind).alias(last))
    return plan


def _json_plan(block: bytes, layout: Layout) -> pl.LazyFrame:
    """polars' plan for the same raw columns from Zeek's JSON, where an unset field is left out and a set is a list."""
    raw = {name: _PARSED.get(kind, pl.String()) for name, kind in zip(layout.fields, layout.types, strict=True)}
    raw |= {"local_orig": pl.Boolean(), "local_resp": pl.Boolean(), "tunnel_parents": pl.List(pl.String())}
    plan = pl.scan_ndjson(block, schema=raw).with_columns(
        pl.col("tunnel_parents").list.join(","),
        *(
            pl.when(name).then(pl.lit("T")).when(~pl.col(name)).then(pl.lit("F")).alias(name)
            for name in ("local_orig", "local_resp")
        ),
        *(pl.col(name).cast(pl.Categorical) for name in CATEGORIES),
        pl.lit(True).alias(_COMPLETE),
    )
    if layout.labels == "none":
        return plan
    parts = [pl.col(name).fill_null(layout.unset) for name in ("tunnel_parents", *LABEL_FIELDS)]
    return plan.with_columns(pl.concat_str(parts, separator=JOIN).cast(pl.Categorical).alias("tunnel_parents"))


def _is_sound(batch: pl.DataFrame, kinds: dict[str, str]) -> bool:
    """Whether no row of the raw batch breaks a rule of `layout.problem_of`; this is its fast twin."""
    bad = [~pl.col(_COMPLETE).all()]
    for name in batch.columns:
        column, kind = pl.col(name), kinds.get(name)
        if kind in ("time", "port", "enum"):
            bad.append(column.is_null().any())
        if kind in ("time", "interval", "double"):
            bad.append((~column.is_finite()).any())
        if kind in RANGES:
            low, high = RANGES[kind]
            bad.append((column.min() < low) | (column.max() > high))
        elif kind == "bool":
            bad.append((~column.is_in(["T", "F"])).any())
        elif batch.schema[name] == pl.String:
            bad.append(column.str.len_bytes().max() > MAX_FIELD_BYTES)
        elif batch.schema[name] == pl.Categorical:
            bad.append(column.cat.len_bytes().max() > MAX_FIELD_BYTES)
    return not batch.select(pl.any_horizontal(expression.fill_null(False) for expression in bad)).item()


def _label_parts(texts: pl.Series, layout: Layout) -> dict[str, pl.Expr]:
    """tunnel_parents, label and label_original from the joined `texts`. Each distinct text is taken apart once."""
    distinct = texts.unique()
    table = pl.DataFrame(
        [_decode(text, layout) for text in distinct.cast(pl.String)],
        schema={"tunnel_parents": pl.String, "label": pl.Categorical, "label_original": pl.Categorical},
        orient="row",
    )
    codes = distinct.to_physical().to_numpy()
    place = np.zeros(int(codes.max()) + 1 if len(codes) else 0, dtype=np.uint32)
    place[codes] = np.arange(len(distinct))
    by_code = table[place]
    return {name: pl.lit(by_code[name]).gather(pl.col("tunnel_parents").to_physical()).alias(name) for name in table.columns}


def _decode(text: str, layout: Layout) -> tuple[str | None, str | None, str]:
    """(tunnel_parents, label, label_original) from the last field of a labelled row."""
    parts = text.split(JOIN)
    if len(parts) != 3:
        raise _refusal(layout, f"the last field {text[:60]!r} does not hold tunnel_parents, label and detailed label")
    parents, label, detailed = parts
    known = None if parents == layout.unset else "" if parents == layout.empty else parents
    return known, normalise_label(label, detailed), label + JOIN + detailed


def _finished(name: str, kind: str, dtype: pl.DataType) -> pl.Expr:
    """The column as it is handed out, from the raw one."""
    column = pl.col(name)
    if kind == "time":
        return (column * 1e6).round().cast(pl.Int64).cast(dtype)
    if kind == "bool":
        return column == "T"
    if kind == "set[string]":
        return pl.when(column != EMPTY).then(column).when(column.is_not_null()).then(pl.lit("")).alias(name)
    return column


def _refusal(layout: Layout, fallback: str) -> ConnLogError:
    """The error that names the first bad line, found by reading the file again, slowly."""
    try:
        for number, line in row_lines(layout):
            if problem := problem_of(line, layout):
                return ConnLogError(layout.path, problem, number)
    except (EOFError, OSError, zlib.error) as error:
        return ConnLogError(layout.path, f"cannot be read to its end ({error})")
    return ConnLogError(layout.path, fallback)


@contextmanager
def _without_bad_rows(layout: Layout, on_skip: Callable[[int], object]) -> Iterator[Layout]:
    """The layout of a temporary copy that holds the good rows only; the others are counted and reported."""
    skipped, first = 0, ""
    with tempfile.TemporaryDirectory(prefix="fliot-") as folder:
        copy = Path(folder) / "conn.log"
        with copy.open("wb") as out:
            for number, line in row_lines(layout):
                if problem := problem_of(line, layout):
                    skipped, first = skipped + 1, first or f"line {number}: {problem}"
                else:
                    out.write(line + b"\n")
        on_skip(skipped)
        if skipped:
            warnings.warn(f"{layout.path}: {skipped:,} rows left out; the first: {first}", ConnLogWarning, stacklevel=2)
        yield replace(layout, path=copy, header_lines=0)
