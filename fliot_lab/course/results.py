"""What lessons measured: reading it from an executed lesson, keeping it, comparing it with the reference, showing it."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat

from fliot_lab import ROOT, atomic
from fliot_lab.course import build, claims
from fliot_lab.data import iot23
from fliot_lab.profiles import PROFILES, is_number

RESULTS = ROOT / "results"
ROUNDING = 1e-6  # relative: what the order of additions may change, from one processor to another


@dataclass
class Outcome:
    """What became of one lesson. `numbers` is what its summary cell printed, `failure` is empty when it ran to its end."""

    lesson: build.Lesson
    seconds: float = 0.0
    peak_mb: float = 0.0
    numbers: dict[str, Any] = field(default_factory=dict)
    failure: str = ""


def summary(executed: nbformat.NotebookNode) -> dict[str, Any]:
    """The headline numbers that the cell tagged `summary` printed as one JSON object.

    Raises ValueError where it did not, and for NaN and infinity, which JSON does not have.
    """
    cells = [cell for cell in executed.cells if "summary" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ValueError(f"a lesson has one cell tagged summary, this one has {len(cells)}")
    text = "".join(output.text for output in cells[0].outputs if output.output_type == "stream" and output.name == "stdout")
    try:
        numbers = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"the summary cell must print one JSON object and printed {text[:80]!r}") from error
    if not isinstance(numbers, dict):
        raise ValueError(f"the summary cell must print a JSON object and printed a {type(numbers).__name__}")
    for figure, value in _leaves(numbers):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"the summary's figure {figure!r} is {value}: JSON has no such number; print null or leave it out")
    return numbers


# --- keeping -----------------------------------------------------------------------------------------------------------


def keep(outcomes: Iterable[Outcome], source: iot23.Source, profile: str, seed: int) -> dict[str, Any]:
    """The set of results of this data and profile, with the numbers of the lessons that ran to their end, written to its file.

    A lesson that did not run keeps its numbers; one that failed keeps them too and is marked. Those of lessons that are gone
    go. Raises ValueError where the file is damaged.
    """
    path = RESULTS / f"{source.name}-{profile}.json"
    kept = _read(path)
    lessons, failed = kept.get("lessons", {}), kept.get("failed", {})
    for outcome in outcomes:
        name = outcome.lesson.name
        failed.pop(name, None)
        if outcome.failure:
            failed[name] = outcome.lesson.title
        else:
            lessons[name] = {
                "title": outcome.lesson.title,
                "seed": seed,
                "seconds": round(outcome.seconds, 1),
                "peak_mb": round(outcome.peak_mb),
                "numbers": outcome.numbers,
            }
    here = {lesson.name for lesson in build.lessons()}
    found = {
        "data": source.name,
        "simulated": source.simulated,
        "profile": profile,
        "lessons": {name: lesson for name, lesson in sorted(lessons.items()) if name in here},
        "failed": {name: title for name, title in sorted(failed.items()) if name in here},
    }
    atomic.write(path, json.dumps(found, indent=1) + "\n")
    return found


def sets() -> list[dict[str, Any]]:
    """Every set of results that is kept: real data before simulated ones, fast before full."""
    found = [_read(path) for profile in PROFILES for path in RESULTS.glob(f"*-{profile}.json")]
    return sorted(found, key=lambda kept: (kept["simulated"], kept["data"], PROFILES.index(kept["profile"])))


def write_page() -> None:
    """Writes RESULTS.md anew from everything that is kept."""
    atomic.write(RESULTS / "RESULTS.md", page(sets(), reference()))


def _read(path: Path) -> dict[str, Any]:
    """What a file of results holds; nothing where there is none."""
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); delete it, the next run writes it anew") from error
    return found


# --- the reference -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drift:
    """How a lesson's figures differ from the reference's: (figure, there, here) where by more than rounding.

    `seed` is the reference's where this run had another: then nothing is compared.
    """

    same: int = 0
    differ: tuple[tuple[str, Any, Any], ...] = ()
    new: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    seed: int | None = None


def reference() -> dict[str, dict[str, Any]]:
    """Set of data and profile, as "sample-fast", -> {"lessons": ...} as in a set, from reference.json; empty without it."""
    return _read(RESULTS / "reference.json")


def keep_reference(found: Mapping[str, Any], names: Iterable[str]) -> None:
    """Makes the numbers of the lessons `names` of a set of results the reference."""
    known = reference()
    now = {name: found["lessons"][name] for name in names}
    here = {lesson.name for lesson in build.lessons()}
    lessons = {name: lesson for name, lesson in (_lessons(known, found) | now).items() if name in here}
    known[_key(found)] = {key: found[key] for key in ("data", "simulated", "profile")} | {"lessons": lessons}
    atomic.write(RESULTS / "reference.json", json.dumps(known, indent=1, sort_keys=True) + "\n")


def drift(lesson: Mapping[str, Any], known: Mapping[str, Any]) -> Drift:
    """A lesson's results beside those in the reference, each {seed, numbers}."""
    if lesson["seed"] != known["seed"]:
        return Drift(seed=known["seed"])
    now, before = lesson["numbers"], known["numbers"]
    both = [figure for figure in now if figure in before]
    differ = tuple((figure, before[figure], now[figure]) for figure in both if not _equal(before[figure], now[figure]))
    new, gone = tuple(figure for figure in now if figure not in before), tuple(f for f in before if f not in now)
    return Drift(len(both) - len(differ), differ, new, gone)


def compared(found: Mapping[str, Any], known: Mapping[str, Any], names: Iterable[str]) -> str:
    """One line: the figures of the lessons `names` of a set of results beside the reference."""
    lessons, there = found["lessons"], _lessons(known, found)
    drifts = [drift(lessons[name], there[name]) for name in names if name in lessons and name in there]
    if not drifts:
        return f"Reference: results/reference.json has none of these lessons for {found['data']}, profile {found['profile']}."
    others = [str(one.seed) for one in drifts if one.seed is not None]
    if len(others) == len(drifts):
        return f"Reference: its numbers are of seed {', '.join(sorted(set(others)))}, these of another: not compared."
    same, differ = sum(one.same for one in drifts), sum(len(one.differ) for one in drifts)
    new, gone = sum(len(one.new) for one in drifts), sum(len(one.gone) for one in drifts)
    line = f"Reference: {_counted(same, differ, new, gone)}"
    if others:
        line += (
            f"; {len(others)} lesson{'s' if others[1:] else ''} with another seed {'are' if others[1:] else 'is'} not compared"
        )
    return f"{line}." + (" See results/RESULTS.md." if differ + new + gone else "")


def _key(found: Mapping[str, Any]) -> str:
    return f"{found['data']}-{found['profile']}"


def _lessons(known: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """The lessons of the reference for a set's data and profile."""
    lessons: dict[str, Any] = known.get(_key(found), {}).get("lessons", {})
    return lessons


def _counted(same: int, differ: int, new: int, gone: int) -> str:
    parts = [f"{same} figure{'' if same == 1 else 's'} as in the reference", f"{differ} differ{'s' if differ == 1 else ''}"]
    return ", ".join(parts + ([f"{new} new"] if new else []) + ([f"{gone} gone"] if gone else []))


def _equal(one: Any, other: Any) -> bool:
    """Whether two figures, with what they hold, are equal but for rounding."""
    first, second = dict(_leaves({"": one})), dict(_leaves({"": other}))
    return first.keys() == second.keys() and all(_close(first[path], second[path]) for path in first)


def _close(one: Any, other: Any) -> bool:
    if isinstance(one, float) or isinstance(other, float):
        return is_number(one) and is_number(other) and math.isclose(one, other, rel_tol=ROUNDING, abs_tol=1e-9)
    return type(one) is type(other) and bool(one == other)


def _leaves(numbers: Mapping[str, Any] | Sequence[Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of every value in nested objects and lists; an empty one is a value."""
    for key, value in numbers.items() if isinstance(numbers, Mapping) else enumerate(numbers):
        path = f"{above}, {key}" if above else str(key)
        if isinstance(value, Mapping | list) and value:
            yield from _leaves(value, path)
        else:
            yield path, value


# --- the page ----------------------------------------------------------------------------------------------------------


def page(kept: Sequence[Mapping[str, Any]], known: Mapping[str, Any]) -> str:
    """Sets of results as a page of Markdown: the published claims, then each lesson's figures and what moved since `known`."""
    published = claims.load()
    lines = ["# Results", "", "What `make all` measured on this machine. An interval stands beside a figure that has one."]
    lines += ["", "## Published claims", "", claims.table(published, kept)]
    lines += [
        "",
        "A verdict needs the full profile, five seeds or more, and real data unless traffic does not matter to the claim.",
    ]
    for found in kept:
        kind = "SIMULATED captures: values, and no verdict on real networks" if found["simulated"] else "real IoT-23 captures"
        lines += ["", f"## {found['data']}, profile {found['profile']} ({kind})"]
        lessons, failed, there = found["lessons"], found.get("failed", {}), _lessons(known, found)
        for name in sorted(lessons | failed):
            if name in lessons:
                lines += _lesson_lines(name, lessons[name], there.get(name), failed=name in failed)
            else:
                lines += ["", f"### {name[:2]} {failed[name]}", "", "This lesson failed in the latest run; it has no numbers."]
    lines += ["", "## What decides each claim", "", claims.readings(published)]
    return "\n".join(lines) + "\n"


def _lesson_lines(name: str, lesson: Mapping[str, Any], known: Mapping[str, Any] | None, *, failed: bool) -> list[str]:
    lines = ["", f"### {name[:2]} {lesson['title']}", ""]
    if failed:
        lines += ["**This lesson failed in the latest run; these numbers are from an earlier one.**", ""]
    lines += [f"Seed {lesson['seed']}, {lesson['seconds']} s, {lesson['peak_mb']} MB.", ""]
    lines += ["| figure | value |", "|---|---|"]
    lines += [f"| {_cell(figure)} | {_cell(shown(value))} |" for figure, value in lesson["numbers"].items()]
    return lines + (_drift_lines(drift(lesson, known)) if known else [])


def _drift_lines(found: Drift) -> list[str]:
    if found.seed is not None:
        return ["", f"Not compared: the reference has seed {found.seed}."]
    lines = ["", f"{_counted(found.same, len(found.differ), len(found.new), len(found.gone))}."]
    if found.differ:
        lines += ["", "| figure | reference | now | change |", "|---|---|---|---|"]
        for figure, before, now in found.differ:
            cells = (figure, shown(before, 6), shown(now, 6), _change(before, now))
            lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    lines += ["", f"New: {'; '.join(found.new)}."] if found.new else []
    return lines + (["", f"Gone: {'; '.join(found.gone)}."] if found.gone else [])


def _change(before: Any, now: Any) -> str:
    """The difference of two figures with its sign; empty where they are no numbers."""
    one, other = _number(before), _number(now)
    if one is None or other is None:
        return ""
    return f"{other - one:+.2g}" if isinstance(other - one, float) else f"{other - one:+,}"


def _number(figure: Any) -> float | int | None:
    value = figure.get("value") if isinstance(figure, Mapping) else figure
    return value if is_number(value) else None


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def shown(value: Any, digits: int = 4) -> str:
    """A number, a number with its interval ({value, low, high}), or anything else as it is."""
    if isinstance(value, Mapping) and "value" in value:
        low, high = value.get("low"), value.get("high")
        return shown(value["value"], digits) + ("" if low is None else f" [{shown(low, digits)}, {shown(high, digits)}]")
    if isinstance(value, bool):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}g}" if isinstance(value, float) else str(value)
