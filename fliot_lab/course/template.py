"""The parts that every lesson has, and their order: a student who knows one lesson finds the way in the next."""

import re
from itertools import pairwise
from pathlib import Path

from fliot_lab.course import source

MOST_IMPORT_LINES = 6
MOST_NAIVE_LINES = 12
HEADINGS = ("The question", "The idea", "The naive version", "Predict before you run", "Exercise", "Quiz", "Recap")
ORDER = ("The question", "The idea", "The naive version", "Quiz", "Recap")  # the others come where the lesson needs them
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
    return gaps + _order(cells) + _imports(code) + _naive(cells) + _exercises(cells)


def _order(cells: list[source.Cell]) -> list[str]:
    """The parameters come first, then the imports, then the headings of ORDER; a picture stands under the question."""
    named = ["the parameters", "the imports", *ORDER]
    places: list[tuple[float, str]] = []
    for place, cell in enumerate(cells):
        if "parameters" in cell.tags:
            places.append((place, "the parameters"))
        elif not cell.markdown and source.imports([cell.text]) and "summary" not in cell.tags:
            places.append((place, "the imports"))
        elif cell.markdown:
            found = [
                (text.start(), name) for name in ORDER for text in [re.search(rf"^# ##+ {name}", cell.text, flags=re.M)] if text
            ]
            places += [(place + start / 1e6, name) for start, name in found]
    met = [name for _, name in sorted(places)]
    gaps = [] if met == [name for name in named if name in met] else [f"the order {', '.join(named)} (it is {', '.join(met)})"]
    ends = [int(place) for place, name in places if name in ("The question", "The idea")]
    between = cells[ends[0] : ends[-1] + 1] if len(ends) == 2 else []
    if not any("plots.show(" in cell.text or "# ```" in cell.text for cell in between):
        gaps.append("a picture under the question: plots.show, or a drawing in text")
    return gaps


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


def _exercises(cells: list[source.Cell]) -> list[str]:
    """Right before each exercise stands its text, with its number and a hint that is folded away; after it, and before the
    next, it is asserted to be equal to the package's function."""
    gaps = []
    places = [place for place, cell in enumerate(cells) if "exercise" in cell.tags]
    for place, after in pairwise([*places, len(cells)]):
        found = source.heading(cells[place].text)
        assert found is not None  # source.check made sure of it
        text = cells[place - 1].text if cells[place - 1].markdown else ""
        if not re.search(rf"^# ##+ Exercise {re.escape(found.number)}\b", text, flags=re.M):
            gaps.append(f"the text of exercise {found.number} right before its cell, under the heading Exercise {found.number}")
        elif "<details><summary>Hint" not in text:
            gaps.append(f"a hint in <details> in the text of exercise {found.number}")
        checks = [cell.text for cell in cells[place:after] if "check" in cell.tags]
        if not any(re.search(r"^\s*assert\b", text, flags=re.M) for text in checks):
            gaps.append(f"a cell tagged check that asserts exercise {found.number} equal to the package's function")
    return gaps
