"""The parts that every lesson has, in the order in which it has them (docs/DEVELOPING.md says why)."""

import re
from itertools import pairwise
from pathlib import Path

from fliot_lab.course import source

MOST_IMPORT_LINES = 6
MOST_NAIVE_LINES = 12
HEADINGS = ("The question", "The idea", "The naive version", "Predict before you run", "Exercise", "Quiz", "Recap")
RECAP = ("**Limits.**", "**Ethics.**", "**References.**")


def missing(path: Path) -> list[str]:
    """What a lesson's source lacks, in words; empty for a complete one. Raises SourceError where it is malformed."""
    cells = source.check(path)
    text = "\n".join(cell.text for cell in cells if cell.markdown)
    code = [cell for cell in cells if not cell.markdown]
    gaps = [] if re.match(r"# # \S[^\n]*$", cells[0].text) else ["a first cell with the title and nothing else"]
    gaps += [f"a heading that begins with {name!r}" for name in HEADINGS if not re.search(rf"^# ##+ {name}", text, flags=re.M)]
    gaps += [f"a paragraph {part} in the recap" for part in RECAP if part not in text]
    gaps += [] if "$$" in text else ["a formula set apart by $$"]
    for tag in ("parameters", "summary"):
        if (count := sum(tag in cell.tags for cell in code)) != 1:
            gaps.append(f"one cell tagged {tag} (there are {count})")
    if not code or "summary" not in code[-1].tags:
        gaps.append("the summary as its last code cell")
    if not any("instructor" in cell.tags for cell in cells):
        gaps.append("a cell tagged instructor")
    shown = "\n".join(cell.text for cell in code)
    gaps += [f"a call of plots.{name}" for name in ("show", "slider") if f"plots.{name}(" not in shown]
    return gaps + _imports(code) + _naive(cells) + _hints(cells)


def _imports(code: list[source.Cell]) -> list[str]:
    """The first code cell after the parameters holds the imports, all of them, in at most six lines."""
    holding = [cell for cell in code if source.imports([cell.text]) and "summary" not in cell.tags]
    if len(holding) != 1:
        return [f"one cell with all the imports (there are {len(holding)} with some)"]
    lines = len([line for line in holding[0].text.split("\n") if line.strip()])
    return [] if lines <= MOST_IMPORT_LINES else [f"imports in at most {MOST_IMPORT_LINES} lines (there are {lines})"]


def _naive(cells: list[source.Cell]) -> list[str]:
    """Every code cell between "The naive version" and the next heading has at most twelve lines of code."""
    inside, gaps = False, []
    for cell in cells:
        if cell.markdown and re.search(r"^# ##+ ", cell.text, flags=re.M):
            inside = bool(re.search(r"^# ##+ The naive version", cell.text, flags=re.M))
        elif inside and not cell.markdown:
            lines = [line for line in cell.text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
            if len(lines) > MOST_NAIVE_LINES:
                gaps.append(
                    f"a naive version of at most {MOST_NAIVE_LINES} lines (line {cell.line} begins one of {len(lines)})"
                )
    return gaps


def _hints(cells: list[source.Cell]) -> list[str]:
    """Right before each exercise stands its text, with its number and a hint that is folded away."""
    gaps = []
    for before, cell in pairwise(cells):
        if "exercise" not in cell.tags:
            continue
        found = source.heading(cell.text)
        assert found is not None  # source.check made sure of it
        if not before.markdown or not re.search(rf"^# ##+ Exercise {re.escape(found.number)}\b", before.text, flags=re.M):
            gaps.append(f"the text of exercise {found.number} right before its cell, under the heading Exercise {found.number}")
        elif "<details><summary>Hint" not in before.text:
            gaps.append(f"a hint in <details> in the text of exercise {found.number}")
    return gaps
