"""Published claims that the course tests (claims.toml), and what the lessons' figures say of each: one of five verdicts."""

import textwrap
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from fliot_lab.profiles import is_number

FILE = Path(__file__).with_name("claims.toml")
VERDICTS = ("confirmed", "beaten", "not reproduced", "not comparable", "not measured")
WIDTH = 110  # columns of a terminal
MIN_SEEDS = 5  # fewer say too little about chance for a verdict
ROUNDING = 1e-9  # 0.947 + 0.0005 is a little less than 0.9475 in binary, and ends are included
_CHOICES = {
    "source": ("framework", "study"),
    "data": ("iot23", "iot23-study", "iot-sentinel", "hardware", "any"),
    "kind": ("equal", "at least", "at most"),
    "better": ("", "higher", "lower"),
}


@dataclass(frozen=True)
class Claim:
    """A published claim; the head of claims.toml says what each field means."""

    id: str
    claim: str
    published: str
    source: str
    lesson: str
    metric: str
    data: str
    reads: str
    kind: str
    value: float
    tolerance: float = 0.0
    better: str = ""
    margin: float | None = None
    comparable: bool = True
    why: str = ""
    unit: str = ""


@dataclass(frozen=True)
class Measured:
    """A lesson's figure: the bounds are None where it has no interval, `groups` is how many seeds that comes from."""

    value: float
    low: float | None
    high: float | None
    groups: int
    data: str
    profile: str
    simulated: bool
    stale: bool = False  # the lesson failed since


@dataclass(frozen=True)
class Verdict:
    """`word` is one of VERDICTS, or empty where the value stands alone; `reason` says why."""

    word: str
    reason: str
    measured: Measured | None


def load(path: Path | None = None) -> list[Claim]:
    """The claims in the file's order. Raises ValueError, with file and claim, for a key or a value that it cannot have."""
    path = path or FILE
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path.name} is no TOML: {error}") from error
    if list(content) != ["claim"]:
        raise ValueError(f"{path.name} holds tables [[claim]] and nothing else; it has {', '.join(content) or 'none'}")
    found: dict[str, Claim] = {}
    for place, table in enumerate(content["claim"], 1):
        where = f"{path.name}, claim {table.get('id', f'number {place}')!r}"
        if problem := _problem(table):
            raise ValueError(f"{where}: {problem}")
        if table["id"] in found:
            raise ValueError(f"{where}: this id stands there twice")
        found[table["id"]] = Claim(**table)
    return list(found.values())


def _problem(table: Mapping[str, Any]) -> str:
    """What is wrong with a claim's table; empty where nothing is."""
    known = {field.name: field for field in fields(Claim)}
    if unknown := [key for key in table if key not in known]:
        return f"unknown key {unknown[0]!r}; there are {', '.join(known)}"
    if missing := [name for name, field in known.items() if field.default is MISSING and name not in table]:
        return f"{missing[0]!r} is missing"
    for key, value in table.items():
        wanted: tuple[type, ...] = (str,)
        if key in ("value", "tolerance", "margin"):
            wanted = (int, float)
        elif key == "comparable":
            wanted = (bool,)
        if type(value) not in wanted:
            return f"{key} must be {' or '.join(kind.__name__ for kind in wanted)}, got {value!r}"
        if key in _CHOICES and value not in _CHOICES[key]:
            return f"unknown {key} {value!r}; choose one of {', '.join(filter(None, _CHOICES[key]))}"
    if not (len(table["lesson"]) == 2 and table["lesson"].isdecimal()):
        return f"lesson must have two digits, as '03', got {table['lesson']!r}"
    if min(table.get("tolerance", 0), table.get("margin", 0)) < 0:
        return "tolerance and margin must not be negative"
    if table.get("better") and table["kind"] != "equal":
        return f"better belongs to kind 'equal'; {table['kind']!r} names its side itself"
    if "margin" in table and table["kind"] == "equal":
        return "margin belongs to kinds 'at least' and 'at most'; 'equal' has better"
    if table.get("comparable", True) == bool(table.get("why")):
        return "comparable = false and why belong together"
    return ""


# --- verdicts ----------------------------------------------------------------------------------------------------------


def measured(claim: Claim, sets: Iterable[Mapping[str, Any]]) -> Measured | None:
    """The claim's figure from the best of the `sets` of results that hold it, or None.

    Real data come before simulated ones, then the claim's own data, then the full profile; where any data will do, the full
    profile comes first. A figure {value, low, high, groups} may name its own `data`, where the lesson has other data than
    its captures.
    """
    found = []
    for kept in sets:
        for name, lesson in kept["lessons"].items():
            if name[:2] != claim.lesson or (figure := _figure(lesson["numbers"].get(claim.metric))) is None:
                continue
            data = figure.get("data", kept["data"])
            simulated = data == "sample" if "data" in figure else kept["simulated"]
            low, high, groups = figure.get("low"), figure.get("high"), figure.get("groups") or 0
            stale = name in kept.get("failed", {})
            found.append(Measured(figure["value"], low, high, groups, data, kept["profile"], simulated, stale))
    if claim.data == "any":  # then simulated data do as well
        return min(found, key=lambda m: (m.profile != "full", m.simulated), default=None)
    return min(found, key=lambda m: (m.simulated, m.data != claim.data, m.profile != "full"), default=None)


def _figure(given: Any) -> Mapping[str, Any] | None:
    """A summary's figure as {value, ...}; None where it holds no number."""
    figure = given if isinstance(given, Mapping) else {"value": given}
    return figure if is_number(figure.get("value")) else None


def verdict(claim: Claim, figure: Measured | None) -> Verdict:
    """What `figure` says of the claim. The head of claims.toml has the rules; the first that applies decides."""
    if figure is None:
        return Verdict("not measured", f"no figure of lesson {claim.lesson} yet", None)
    if lacking := _lacking(claim, figure):
        return Verdict("", ", ".join(lacking), figure)
    if not claim.comparable:
        return Verdict("not comparable", claim.why, figure)
    if claim.data not in ("any", figure.data):
        return Verdict("not comparable", f"measured on {figure.data}, and a verdict needs {claim.data}", figure)
    assert figure.low is not None, "figures without an interval lack something"
    assert figure.high is not None, "figures without an interval lack something"
    if claim.kind == "equal":
        word, reason = _against_level(claim, figure.low, figure.high)
    elif claim.kind == "at least":
        word, reason = _against_bound(claim, figure.low, figure.high, claim.value)
    else:  # the same, upside down
        word, reason = _against_bound(claim, -figure.high, -figure.low, -claim.value)
    return Verdict(word, reason, figure)


def _lacking(claim: Claim, figure: Measured) -> list[str]:
    """What a verdict needs and this figure does not have."""
    lacking = ["simulated data"] if figure.simulated and claim.data != "any" else []
    lacking += [f"{figure.profile} profile"] if figure.profile != "full" else []
    if figure.low is None or figure.high is None:
        lacking.append("no interval over seeds")
    elif figure.groups < MIN_SEEDS:
        lacking.append(f"{figure.groups} seeds")
    return lacking + (["the lesson failed since"] if figure.stale else [])


def _against_level(claim: Claim, low: float, high: float) -> tuple[str, str]:
    """(verdict, reason) of an interval beside a published level.

    Confirmed where the interval holds the level, or lies within the tolerance around it. Else all of it lies on one side:
    beaten where that is the claim's better one, not reproduced on the other and where no side is better.
    """
    level, tolerance = shown(claim.value, claim.unit), claim.tolerance + ROUNDING
    if low <= claim.value <= high:
        return "confirmed", f"the interval holds {level}"
    if claim.value - tolerance <= low and high <= claim.value + tolerance:
        return "confirmed", f"within {shown(claim.tolerance, claim.unit)} of {level}"
    side = "above" if low > claim.value else "below"
    won = {"above": "higher", "below": "lower"}[side] == claim.better
    return "beaten" if won else "not reproduced", f"the whole interval lies {side} {level}"


def _against_bound(claim: Claim, low: float, high: float, bound: float) -> tuple[str, str]:
    """(verdict, reason) of an interval that must not reach below `bound`; for "at most" all three come negated.

    Beaten where all of it passes the bound by the claim's margin, if it has one; confirmed where all of it keeps the bound,
    less the tolerance; else not reproduced, which includes an interval that reaches across.
    """
    text, tolerance = shown(claim.value, claim.unit), claim.tolerance + ROUNDING
    if claim.margin is not None and low >= bound + claim.margin - ROUNDING:
        return "beaten", f"the whole interval is better than {text} by {shown(claim.margin, claim.unit)} or more"
    if low >= bound - tolerance:
        return "confirmed", f"the whole interval is {claim.kind} {text}"
    wrong = "below" if claim.kind == "at least" else "above"
    if high >= bound - tolerance:
        return "not reproduced", f"undecided: the interval reaches {wrong} {text}"
    return "not reproduced", f"the whole interval lies {wrong} {text}"


# --- tables ------------------------------------------------------------------------------------------------------------


def table(claims: Sequence[Claim], sets: Sequence[Mapping[str, Any]]) -> str:
    """The claims as a table of Markdown, a row each."""
    lines = ["| claim | source | published | measured | interval | data set | verdict |", "|---|---|---|---|---|---|---|"]
    for claim in claims:
        found = verdict(claim, measured(claim, sets))
        value, interval, data = _cells(claim, found.measured)
        word = f"**{found.word}**: {found.reason}" if found.word else f"value alone: {found.reason}"
        cells = [f"{claim.claim} (lesson {claim.lesson})", claim.source, claim.published, value, interval, data, word]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def compact(claims: Sequence[Claim], sets: Sequence[Mapping[str, Any]]) -> str:
    """The table for a terminal: a line for each claim, and below them the reason for each that has a figure."""
    verdicts = [(claim, verdict(claim, measured(claim, sets))) for claim in claims]
    lines = [f"    {'published claim':25} {'published':14} {'measured':24} {'data':18} verdict"]
    notes = []
    for claim, found in verdicts:
        value, interval, data = _cells(claim, found.measured)
        figure = f"{value} {interval}".strip()
        lines.append(f"{claim.lesson}  {claim.id:25} {claim.published:14} {figure:24} {data:18} {found.word or 'value alone'}")
        if found.measured is not None:
            notes += textwrap.wrap(f"{claim.id}: {found.reason}", WIDTH, initial_indent="    ", subsequent_indent="      ")
    return "\n".join([line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…" for line in lines] + notes)


def readings(claims: Sequence[Claim]) -> str:
    """What decides each claim, as a list of Markdown."""
    return "\n".join(f"- {claim.claim} {claim.reads}" for claim in claims)


def shown(value: float, unit: str = "") -> str:
    """A figure in the claim's unit."""
    if unit == "%":
        return f"{100 * value:.2f}".rstrip("0").rstrip(".") + " %"
    number = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{number} {unit}".strip()


def _cells(claim: Claim, figure: Measured | None) -> tuple[str, str, str]:
    """(value, interval, data set and profile) as texts."""
    if figure is None:
        return "", "", ""
    data = f"{'simulated' if figure.simulated else figure.data}, {figure.profile}"
    if figure.low is None or figure.high is None:
        return shown(figure.value, claim.unit), "", data
    low, high = (shown(bound, claim.unit).removesuffix(f" {claim.unit}") for bound in (figure.low, figure.high))
    return shown(figure.value, claim.unit), f"[{low}, {high}]", data
