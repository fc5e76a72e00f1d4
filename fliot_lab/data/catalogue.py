"""What is known of the 23 captures of IoT-23 before a byte of them is fetched: `data/catalogue.csv`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fliot_lab import ROOT
from fliot_lab.data.splits import natural

SMALL_ROWS = 50_000  # captures with fewer rows are the small ones, fetched by default
_LINE_COUNT_SLACK = 0.01  # how far the official figure, a count of lines, may be from the true rows


@dataclass(frozen=True)
class Entry:
    """One capture. `rows` is None where nobody has counted them, `labels` empty where only the labels' names are known."""

    capture: str
    rows: int | None
    official_flows: int
    labels: Mapping[str, int]
    url: str
    path: str

    def whole(self) -> tuple[int, int]:
        """(the fewest, the most) rows that the whole capture can have."""
        if self.rows is not None:
            return self.rows, self.rows
        slack = int(self.official_flows * _LINE_COUNT_SLACK)
        return self.official_flows - slack, self.official_flows + slack

    def disagreement(self, counts: Mapping[str, int], rows: int | None = None) -> str:
        """How a log with these label counts cannot be this capture, or its first `rows` rows, in words; '' where it can."""
        total = sum(counts.values())
        low, high = self.whole()
        if rows is not None:
            low, high = min(low, rows), min(high, rows)
        if not low <= total <= high:
            return f"{total:,} rows where {low:,}" + (f" to {high:,}" if high > low else "") + " were expected"
        for label in sorted({*counts, *self.labels}) if self.labels else []:
            count, most = counts.get(label, 0), self.labels.get(label, 0)
            if count > most or (total == self.rows and count < most):
                return f"{count:,} rows labelled {label} where the whole capture has {most:,}"
        return ""


def catalogue() -> pd.DataFrame:
    """The 23 captures of IoT-23, one a row, in the data set's own order.

    scenario, kind ("malicious" or "benign"), capture, malware_or_device, hours, packets, rows (Int64; NA where nobody has
    counted them), official_flows (a line count, 1 or 9 above the true rows), size_gb (of the packets), labels
    ("Benign=1923;C&C=6706", "" where unknown), label_names, labels_source, infected_ip, infected_ip_inferred, url (of the
    capture's folder) and path (of its log below the url). Text that is not known is "".
    """
    table = pd.read_csv(_catalogue_file(), dtype={"rows": "Int64"})
    return table.fillna(dict.fromkeys(table.select_dtypes("str").columns, ""))


def _catalogue_file() -> Path:
    """The catalogue in a wheel, or in the checkout. In this order: an installed package's ROOT is just the current folder."""
    for path in (Path(__file__).with_name("catalogue.csv"), ROOT / "data" / "catalogue.csv"):
        if path.is_file():
            return path
    raise FileNotFoundError(f"catalogue.csv is neither in the installed package nor in {ROOT / 'data'}; install it again")


def entries(names: str | Iterable[str] | None = None) -> list[Entry]:
    """The named captures in natural order: None is the small ones, "all" all of them. Raises ValueError as `resolve`."""
    table = catalogue()
    if names is None:
        table = table[table["rows"].fillna(SMALL_ROWS) < SMALL_ROWS]
    elif names != "all":
        table = table[table["capture"].isin(resolve(names, table["capture"], "IoT-23"))]
    return sorted((_entry(row) for row in table.to_dict("records")), key=lambda entry: natural(entry.capture))


def _entry(row: Mapping[Any, Any]) -> Entry:
    return Entry(
        capture=row["capture"],
        rows=None if pd.isna(row["rows"]) else int(row["rows"]),
        official_flows=int(row["official_flows"]),
        labels={name: int(count) for name, count in (pair.split("=") for pair in row["labels"].split(";") if pair)},
        url=row["url"],
        path=row["path"],
    )


def resolve(names: str | Iterable[str], known: Iterable[str], where: str) -> list[str]:
    """The full names for `names`, each once, in natural order.

    A name may be the end of one: 34-1, Malware-7-1. Raises ValueError for a name that fits none or several of `known`, the
    captures of `where`, and when there is no name at all.
    """
    known = sorted(known, key=natural)
    wanted = [names] if isinstance(names, str) else list(names)
    if not wanted:
        raise ValueError(f"no capture is named; {where} has {', '.join(known)}")
    chosen = set()
    for name in wanted:
        fitting = [full for full in known if full == name] or [full for full in known if _is_short(name, full)]
        if len(fitting) != 1:
            problem = f"may be {' or '.join(fitting)}" if fitting else "is not there"
            raise ValueError(f"capture {name!r} {problem}; {where} has {', '.join(known)}")
        chosen.update(fitting)
    return sorted(chosen, key=natural)


def _is_short(name: str, full: str) -> bool:
    return full.endswith(f"-{name}") or full.replace("Capture-", "").endswith(f"-{name}")
