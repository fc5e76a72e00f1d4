"""IoT-23 captures: the catalogue, where they lie on this machine, loading them, and fetching them from their laboratory.

Garcia, Parmisano, Erquiaga 2020, doi 10.5281/zenodo.4743746. Where no real capture is present a simulated sample in the same
folder layout takes its place, and every `Source` says in its banner which of the two it is.
"""

import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import polars as pl

from fliot_lab import ROOT
from fliot_lab.data import download, sample, zeek
from fliot_lab.data.catalogue import Entry, catalogue, entries, resolve
from fliot_lab.data.sample.folders import made_once

DATASETS = ("auto", "iot23", "sample")
CITATION = "Garcia, Parmisano, Erquiaga 2020, doi 10.5281/zenodo.4743746"
LOG = "conn.log.labeled"
STUDY_ROWS = 100_000  # the published study took the first rows of every capture, this many
_ROW_BYTES = 133  # of a row in the small captures, on average


class DataMissing(FileNotFoundError):
    """There are no captures where they were looked for; the text says what to do."""


class ConsentMissing(RuntimeError):
    """Nothing was downloaded, because nobody agreed to the data set's terms."""


@dataclass(frozen=True)
class Source:
    """Where the captures of this run come from. `root` holds one folder per capture."""

    root: Path
    name: Literal["iot23", "sample"]
    simulated: bool
    banner: str


# --- locating ----------------------------------------------------------------------------------------------------------


def captures(root: str | os.PathLike[str]) -> dict[str, Path]:
    """Capture -> its conn.log.labeled (or .gz) for the captures present below `root`, sorted by name; empty if there are none.

    Knows both of the data set's layouts, `<capture>/bro/` and `<capture>/<device>/bro/`. Raises ValueError where a capture
    has the logs of several devices.
    """
    return _logs(Path(root))


def _logs(root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in sorted(root.glob("[!.]*/")):
        logs = [path for layout in ("bro", "*/bro") for path in sorted(folder.glob(f"{layout}/{LOG}"))]
        logs = logs or [path for layout in ("bro", "*/bro") for path in sorted(folder.glob(f"{layout}/{LOG}.gz"))]
        if len(logs) > 1:
            raise ValueError(f"{folder} holds {len(logs)} logs, {logs[0]} and {logs[1]}; keep one per capture")
        if logs:
            found[folder.name] = logs[0]
    return found


def locate(dataset: str = "auto", *, root: str | os.PathLike[str] | None = None, seed: int = 7) -> Source:
    """The source of captures that `dataset` asks for: `iot23` real ones, `sample` simulated ones, `auto` real where present.

    Real captures are looked for in `$FLIOT_DATA/iot23`, then in the checkout's data/raw. The simulated ones are made from
    `seed` on first use. With `root` nothing is looked for or made: it must hold what `dataset` asks for. Raises DataMissing,
    and ValueError for another word. Under `auto`, a FLIOT_DATA without captures is a warning.
    """
    if dataset not in DATASETS:
        raise ValueError(f"dataset={dataset!r} is unknown; choose one of {', '.join(DATASETS)}")
    if root is None:
        real = _find_real(demanded=dataset == "iot23") if dataset != "sample" else None
        return real or _simulated(seed)
    source = _describe(Path(root))
    if source is None:
        held = "holds neither IoT-23 captures nor simulated ones" if Path(root).is_dir() else "does not exist"
        raise DataMissing(f"{root} {held}; expected {Path(root, '<capture>', 'bro', LOG)}")
    if dataset not in ("auto", source.name):
        raise DataMissing(f"dataset={dataset!r} was asked for, and {root} holds other captures ({source.banner})")
    return source


def _describe(root: Path) -> Source | None:
    """The source that a folder of captures is, or None where it holds neither simulated captures nor any of IoT-23."""
    present = _logs(root)
    if present and (seed := _seed_of(root)) is not None:
        warning = "values here say nothing about real networks"
        banner = f"SIMULATED data, made from seed {seed} by fliot_lab.data.sample: {warning}"
        return Source(root, "sample", True, banner)
    known = catalogue()["capture"]
    real = known.isin(present).sum()
    if not real:
        return None
    banner = f"Real data: {real} of {len(known)} IoT-23 captures in {root}, Stratosphere Laboratory, {CITATION}"
    return Source(root, "iot23", False, banner)


def _seed_of(root: Path) -> int | None:
    """The seed of a folder of simulated captures, from its README; None for a folder of any other kind."""
    readme = root / sample.README
    text = readme.read_text("utf-8") if readme.is_file() else ""
    if not text.startswith(sample.MARK):
        return None
    if not (found := re.search(r"with seed (\d+)", text)):
        raise DataMissing(f"the simulated captures in {root} are unfinished; delete the folder and make them again")
    return int(found[1])


def _find_real(*, demanded: bool) -> Source | None:
    """The real captures on this machine, or None where there are none and none are demanded."""
    if named := os.environ.get("FLIOT_DATA"):
        folder = Path(named).expanduser() / "iot23"
        source = _describe(folder)
        if source and not source.simulated:
            return source
        held = "holds no IoT-23 capture" if folder.is_dir() else "does not exist"
        problem = f"FLIOT_DATA={named}, but {folder} {held}; it must name a folder with iot23/<capture>/bro/{LOG}"
        if demanded:
            raise DataMissing(f"{problem}. Correct it, or unset it and run `make data`")
        warnings.warn(f"{problem}. Going on without it", stacklevel=3)
    raw = ROOT / "data" / "raw"
    source = _describe(raw)
    if source and not source.simulated:
        return source
    if demanded:
        raise DataMissing(
            f"there are no IoT-23 captures in {raw}. `make data` fetches the small ones (about 6 MB); if you have your own "
            "copies, set FLIOT_DATA to the folder that holds iot23/; dataset='sample' needs none"
        )
    return None


def _simulated(seed: int) -> Source:
    """The simulated captures of `seed`, made now where they are missing or were made by another version of the generator."""
    root = made_once(ROOT / "data" / "sample" / f"seed-{seed}", lambda folder: sample.generate(folder, seed=seed))
    source = _describe(root)
    if source is None:
        raise DataMissing(f"somebody took the simulated captures out of {root}; delete the folder, and they are made again")
    return source


# --- loading -----------------------------------------------------------------------------------------------------------


def load(
    captures: str | Iterable[str] | None = None,
    root: str | os.PathLike[str] | None = None,
    dataset: str = "auto",
    seed: int = 7,
) -> pd.DataFrame:
    """The flows of the named captures (default: all that are present), one a row, with a categorical `capture` column.

    Columns as in `zeek.read_conn_log`; categories are the same in all captures. Rows are in the captures' natural order
    (8-1 before 20-1), then in the order of the file; the index is 0 .. n-1. A name may be short: "34-1", "Honeypot-7-1";
    "small" means those present that `fetch` takes by default, or all simulated ones: what the lessons run on.
    `root` is a folder of captures; without it `locate(dataset, seed=seed)` says where they are. Raises DataMissing,
    ValueError for a name that is not present, zeek.ConnLogError.

    For what fits in memory: about 0.4 kB a flow. Larger captures go through `zeek.to_parquet` and are read in parts.
    """
    folder = Path(root) if root is not None and dataset == "auto" else locate(dataset, root=root, seed=seed).root
    logs = _logs(folder)
    if not logs:
        raise DataMissing(f"there are no captures in {folder}; expected {folder / '<capture>' / 'bro' / LOG}")
    if captures == "small":
        large = {entry.capture for entry in entries("all")} - {entry.capture for entry in entries()}
        captures = [name for name in logs if name not in large]
        if not captures:
            raise DataMissing(f"{folder} holds none of the small captures that the lessons run on; `make data` fetches them")
    names = resolve(list(logs) if captures is None else captures, list(logs), str(folder))
    return _joined({name: zeek.read_conn_log(logs[name]) for name in names})


def _joined(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One frame of all frames' rows. Categories are united first: pandas makes objects of those that differ."""
    parts = list(frames.values())
    for column in parts[0].select_dtypes("category").columns:
        names = sorted(set().union(*(part[column].cat.categories for part in parts)))
        kind = pd.CategoricalDtype(names)
        parts = [part.assign(**{column: part[column].astype(kind)}) for part in parts]
    flows = pd.concat(parts, ignore_index=True)
    codes = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    flows["capture"] = pd.Categorical.from_codes(codes, categories=pd.Index(list(frames)))
    return flows


# --- fetching ----------------------------------------------------------------------------------------------------------


def fetch(
    captures: str | Iterable[str] | None = None,
    rows: int | None = None,
    *,
    root: str | os.PathLike[str] | None = None,
    consent: bool = False,
    ask: Callable[[str], str] | None = None,
    say: Callable[[str], Any] = print,
    base: str | None = None,
    progress: bool = True,
    tries: int = 5,
    sleep: Callable[[float], Any] = time.sleep,
) -> list[Path]:
    """The logs of the named captures, fetched to `root` (default: the checkout's data/raw) where they are not there yet.

    `captures`: names, short or full; None is the nine small ones (about 6 MB), "all" all 23. `rows` fetches only the first
    rows of each (`STUDY_ROWS` with "all" is the published study's set); a whole log that is there already is kept. Terms and
    citation are told by `say`, then consent is asked for with `ask` (default: the terminal, where there is one) unless
    `consent` gives it. A log takes its place when its rows and labels agree with the catalogue; what broke off is resumed by
    the next call. `base` is another address to use instead of the laboratory's.

    Raises ConsentMissing, download.Unreachable when offline, download.DownloadError after the other captures were
    fetched, ValueError for an unknown capture.
    """
    if rows is not None and rows < 1:
        raise ValueError(f"rows is {rows}, and must be at least 1")
    folder = ROOT / "data" / "raw" if root is None else Path(root)
    wanted = entries(captures)
    missing = [entry for entry in wanted if not _is_there(_path(folder, entry), entry, rows)]
    say(_terms(wanted, missing, rows, folder))
    if missing and not consent:
        _ask_consent(ask)
    fetch_file = partial(download.fetch_file, rows=rows, progress=progress, tries=tries, sleep=sleep)
    failures = []
    for entry in missing:
        url = (f"{base.rstrip('/')}/{entry.capture}/" if base else entry.url) + entry.path
        verify = partial(_verify, entry=entry, rows=rows)
        try:
            fetch_file(url, folder / entry.capture / entry.path, verify=verify, description=entry.capture)
        except download.Unreachable as error:
            raise download.Unreachable(f"{error}. Everything but this works offline, with dataset='sample'") from error
        except download.DownloadError as error:
            failures.append(str(error))
    if failures:
        raise download.DownloadError("\n".join(failures))
    return [_path(folder, entry) for entry in wanted]


def _path(folder: Path, entry: Entry) -> Path:
    """Where the capture's log is or shall be; somebody may have compressed it."""
    path = folder / entry.capture / entry.path
    compressed = path.with_name(f"{LOG}.gz")
    return compressed if compressed.is_file() and not path.exists() else path


def _terms(wanted: list[Entry], missing: list[Entry], rows: int | None, folder: Path) -> str:
    """What a person reads before anything is downloaded."""
    page = wanted[0].url.removesuffix("/").rpartition("/")[0] + "/"
    size = sum(min(entry.whole()[0], rows or entry.official_flows) for entry in missing) * _ROW_BYTES / 1e6
    lines = [
        "IoT-23 is provided by the Stratosphere Laboratory (CTU Prague). Please cite it:",
        f"  {CITATION}",
        f"Its terms of use stand on the laboratory's own page: {page}",
        f"To fetch into {folder}: {len(missing)} captures, about {size:,.0f} MB; {len(wanted) - len(missing)} are there.",
    ]
    replaced = [entry.capture for entry in missing if _path(folder, entry).exists()]
    if replaced:
        lines.append(f"There, but not what was asked for, and to be replaced: {', '.join(replaced)}")
    if os.environ.get("FLIOT_DATA") and folder == ROOT / "data" / "raw":
        lines.append("FLIOT_DATA is set: the captures that it names are used before these")
    return "\n".join(lines)


def _ask_consent(ask: Callable[[str], str] | None) -> None:
    """Returns when a person agrees. Raises ConsentMissing otherwise, also where there is nobody to ask."""
    if ask is None and not (sys.stdin and sys.stdin.isatty()):
        raise ConsentMissing(
            "nothing was downloaded: there is no terminal to ask for consent on. Agree with --yes (consent=True)"
        )
    answer = (ask or input)("Do you agree to the terms, and shall they be fetched? [y/N] ")
    if answer.strip().lower() not in ("y", "yes"):
        raise ConsentMissing("nothing was downloaded, as you wished")


def _is_there(path: Path, entry: Entry, rows: int | None) -> bool:
    """Whether `path` holds what was asked for, or more: all of the capture."""
    if not path.is_file():
        return False
    try:
        counts = _count_labels(path)
    except zeek.ConnLogError:  # to be replaced, and `_terms` says so
        return False
    return not entry.disagreement(counts, rows) or not entry.disagreement(counts)


def _verify(path: Path, *, entry: Entry, rows: int | None) -> None:
    """Raises download.Rejected where `path` is not the capture, or its first `rows` rows, as far as the catalogue knows it."""
    try:
        counts = _count_labels(path)
    except zeek.ConnLogError as error:
        raise download.Rejected(f"{entry.capture}: what came is not a labelled conn log: {error.problem}") from error
    if problem := entry.disagreement(counts, rows):
        raise download.Rejected(f"{entry.capture}: what came is not this capture: {problem}. It was thrown away")


def _count_labels(path: Path) -> dict[str, int]:
    """Label -> rows, in bounded memory."""
    flows = zeek.scan_conn_log(path)
    if "label" not in flows.collect_schema():
        raise zeek.ConnLogError(path, "it has no labels")
    table = flows.group_by("label").agg(pl.len().alias("rows")).collect()
    return {str(label): int(count) for label, count in table.iter_rows()}
