"""Flows of every class of IoT-23, Okiru among them, as the published study had them: the nearest to it that is present.

The study took the first 100,000 rows of each of the 23 captures (`fliot data fetch --study`). A sample of flows by class, drawn
by a third party from the same captures, has fewer rows and fewer columns; simulated captures take their place elsewhere.
Garcia, Parmisano, Erquiaga 2020, doi 10.5281/zenodo.4743746.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
import polars as pl

from fliot_lab import ROOT
from fliot_lab.data import iot23, zeek
from fliot_lab.data.catalogue import catalogue
from fliot_lab.data.layout import normalise_label

#: What a sample by class has of a flow, under Zeek's names; no history, no time, no address.
COLUMNS = (
    "id.resp_p",
    "proto",
    "service",
    "duration",
    "orig_bytes",
    "resp_bytes",
    "conn_state",
    "missed_bytes",
    "orig_pkts",
    "orig_ip_bytes",
    "resp_pkts",
    "resp_ip_bytes",
)
BY_CLASS = Path("iot23_by_class") / "flows_by_class.csv"


@dataclass(frozen=True)
class Source:
    """Where flows of every class come from: a folder of captures, or the file of a sample by class."""

    path: Path
    name: Literal["iot23-study", "iot23-by-class", "sample"]
    simulated: bool
    banner: str


def locate(dataset: str = "auto", *, seed: int = 7) -> Source:
    """The source that is nearest to the study's: all 23 captures, else BY_CLASS below `$FLIOT_DATA`, else simulated captures.

    `dataset` is "auto", "iot23" or, for simulated captures made from `seed`, "sample". Raises ValueError for another word, and
    as `iot23.locate` does.
    """
    captures = iot23.locate(dataset, seed=seed)
    if not captures.simulated and set(iot23.captures(captures.root)) >= set(catalogue()["capture"]):
        rows = f"the first {iot23.STUDY_ROWS:,} rows of each of 23 IoT-23 captures"
        return Source(captures.root, "iot23-study", False, f"Real data, the study's: {rows}, {iot23.CITATION}")
    named = os.environ.get("FLIOT_DATA")
    file = (Path(named).expanduser() if named else ROOT / "data" / "raw") / BY_CLASS
    if dataset != "sample" and file.is_file():
        banner = f"Real data: a sample of IoT-23's flows by class, not the study's rows, {file}, {iot23.CITATION}"
        return Source(file, "iot23-by-class", False, banner)
    simulated = captures if captures.simulated else iot23.locate("sample", seed=seed)
    return Source(simulated.root, "sample", True, simulated.banner)


def load(source: Source) -> pd.DataFrame:
    """The flows (n rows) of a `source`: COLUMNS, with unset values NA, and `label` as in `zeek.read_conn_log`, as text.

    Raises ValueError where the file lacks a column or holds no number where one belongs, zeek.ConnLogError.
    """
    if source.name == "iot23-by-class":
        return _by_class(source.path)
    plans = [zeek.scan_conn_log(log).head(iot23.STUDY_ROWS) for log in iot23.captures(source.path).values()]
    text = [pl.col(name).cast(pl.String) for name in ("proto", "service", "conn_state", "label")]
    wanted = [pl.col(name) for name in (*COLUMNS, "label")]
    return pl.concat([plan.select(wanted).with_columns(text).collect() for plan in plans]).to_pandas()


def _by_class(file: Path) -> pd.DataFrame:
    """The flows of a sample by class: a table with commas in which "-" and nothing both mean unset."""
    texts = ("proto", "service", "conn_state", "label", "detailed-label")
    try:
        flows = pd.read_csv(
            file,
            usecols=[*COLUMNS, "label", "detailed-label"],
            dtype={name: "str" if name in texts else "float64" for name in (*COLUMNS, *texts)},
            na_values=["-", ""],
            keep_default_na=False,
        )
    except ValueError as error:
        raise ValueError(f"{file} is no sample of flows by class: {error}") from error
    if unlabelled := int(flows["label"].isna().sum()):
        raise ValueError(f"{file}: {unlabelled} of {len(flows)} flows have no label; take them out")
    # "C&C*" stands for C&C and what the sample merged with it.
    detailed = flows.pop("detailed-label").fillna("-").str.removesuffix("*")
    kinds = {pair: normalise_label(*pair) for pair in set(zip(flows["label"], detailed, strict=True))}
    flows["label"] = [kinds[pair] for pair in zip(flows["label"], detailed, strict=True)]
    return flows[[*COLUMNS, "label"]]
