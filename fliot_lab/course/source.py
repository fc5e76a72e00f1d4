"""Lesson sources, `notebooks/source/NN_topic.py` in jupytext's percent format: their cells, their exercises, their mistakes.

A source is the solution version. What it must look like stands in docs/DEVELOPING.md; `problems` finds what is wrong.
"""

import ast
import builtins
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

TAGS = frozenset({"parameters", "exercise", "solution", "check", "instructor", "summary"})
BEGIN, END = "# solution", "# end solution"
_HEADING = re.compile(r"^# Exercise (\d+\.\d+)( \(extra\))?: (\S.*)$", flags=re.M)


class SourceError(ValueError):
    """A lesson's source is malformed; says in which file and line."""

    def __init__(self, path: Path, line: int, problem: str) -> None:
        super().__init__(f"{path.name}:{line}: {problem}")
        self.path, self.line = path, line


@dataclass(frozen=True)
class Heading:
    """The first line of an exercise's code cell: `# Exercise 3.1: title`, or `# Exercise 3.1 (extra): title`."""

    number: str
    title: str
    extra: bool

    def __str__(self) -> str:
        return f"Exercise {self.number}: {self.title}"


@dataclass(frozen=True)
class Cell:
    """A cell of a source: `text` as it stands in the file, without the `# %%` line, which is line number `line`."""

    text: str
    line: int
    tags: frozenset[str]
    markdown: bool


def heading(code: str) -> Heading | None:
    """The heading of an exercise's code cell, None where the cell has none."""
    found = _HEADING.search(code)
    return Heading(found[1], found[3].strip(), found[2] is not None) if found else None


def imports(codes: Iterable[str]) -> str:
    """The top-level import statements of code cells, a line each. A cell that Python cannot parse (magics) has none."""
    found = []
    for code in codes:
        try:
            statements = ast.parse(code).body
        except SyntaxError:
            continue
        found += [ast.unparse(node) for node in statements if isinstance(node, ast.Import | ast.ImportFrom)]
    return "\n".join(found)


def cells(path: Path) -> list[Cell]:
    """The cells of a source in order. Raises SourceError for an unknown tag and for text before the first cell."""
    lines = path.read_text("utf-8").splitlines()
    starts = [place for place, line in enumerate(lines) if re.match(r"# %%(\s|$)", line)]
    if not starts:
        raise SourceError(path, 1, "no cell begins here: a cell begins with a line `# %%`")
    found = []
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        given = re.search(r"tags=\[([^]]*)\]", lines[start])
        tags = frozenset(re.findall(r'"([^"]*)"', given[1])) if given else frozenset()
        if unknown := sorted(tags - TAGS):
            raise SourceError(path, start + 1, f"unknown tag {unknown[0]!r}; there are {', '.join(sorted(TAGS))}")
        text = "\n".join(lines[start + 1 : end]).rstrip("\n")
        found.append(Cell(text, start + 1, tags, "[markdown]" in lines[start]))
    return found


def without_solution(code: str, stub: str) -> str:
    """An exercise's code with `stub` in place of what stands between `# solution` and `# end solution`, at its indent."""
    kept, inside = [], False
    for line in code.split("\n"):
        if line.strip() == BEGIN:
            inside = True
            kept.append(line[: len(line) - len(line.lstrip())] + stub)
        elif line.strip() == END:
            inside = False
        elif not inside:
            kept.append(line)
    return "\n".join(kept)


def without_markers(code: str) -> str:
    """An exercise's code with its solution, without the lines that mark it."""
    return "\n".join(line for line in code.split("\n") if line.strip() not in (BEGIN, END))


def check(path: Path) -> list[Cell]:
    """The cells of a source that is well formed. Raises SourceError with file and line where it is not.

    Each exercise has a heading with this lesson's number, found once, a solution that is marked and closed, and a check
    before the next exercise. An exercise stands alone: it uses the lesson's imports and itself. What comes after it does
    without it, but for cells tagged `check` or `solution`, so that a lesson runs to its end with nothing solved.
    """
    found = cells(path)
    known = _bound(imports(cell.text for cell in found if not cell.markdown)) | set(dir(builtins))
    seen: dict[str, int] = {}
    defined: dict[str, str] = {}
    unchecked: tuple[str, int] | None = None  # number of the exercise that waits for its check, and its line
    for cell in found:
        _check_markers(path, cell)
        if cell.markdown:
            continue
        if "exercise" in cell.tags:
            _no_check_missing(path, unchecked)
            number = _check_exercise(path, cell, seen, known)
            unchecked = number, cell.line
            defined |= dict.fromkeys(_bound(without_markers(cell.text)), number)
        elif title := heading(cell.text):
            raise SourceError(path, cell.line, f"{title}: the cell must be tagged exercise")
        elif "check" in cell.tags:
            if unchecked and unchecked[0] in {defined.get(name) for name, _ in _used(cell.text)}:
                unchecked = None
        elif not cell.tags & {"solution", "instructor"}:
            _check_independent(path, cell, defined)
    _no_check_missing(path, unchecked)
    return found


def _check_independent(path: Path, cell: Cell, defined: dict[str, str]) -> None:
    """Raises SourceError where a cell uses a name that an exercise defines; `defined` says which exercise."""
    for name, line in _used(cell.text):
        if name in defined:
            raise SourceError(
                path, cell.line + line, f"uses {name}, which exercise {defined[name]} defines: a lesson must run with nothing "
                "solved; use the package's own function, or tag the cell check",
            )  # fmt: skip


def _check_markers(path: Path, cell: Cell) -> None:
    """Raises SourceError unless `# solution` and `# end solution` come in pairs, and in exercises only."""
    begun: int | None = None
    for place, line in enumerate(cell.text.split("\n"), cell.line + 1):
        text = line.strip()
        if text not in (BEGIN, END):
            continue
        if cell.markdown or "exercise" not in cell.tags:
            raise SourceError(path, place, f"`{text}` stands outside a code cell tagged exercise")
        if text == BEGIN and begun is not None:
            raise SourceError(path, place, f"`{BEGIN}` again before `{END}`; the first is in line {begun}")
        if text == END and begun is None:
            raise SourceError(path, place, f"`{END}` without `{BEGIN}`")
        begun = place if text == BEGIN else None
    if begun is not None:
        raise SourceError(path, begun, f"`{BEGIN}` is never closed: `{END}` is missing")


def _check_exercise(path: Path, cell: Cell, seen: dict[str, int], known: set[str]) -> str:
    """The number of an exercise cell. Raises SourceError for a number or a body that is not as it must be."""
    title = heading(cell.text)
    if title is None or not _HEADING.match(cell.text):
        form = "`# Exercise N.M: title` or `# Exercise N.M (extra): title`"
        raise SourceError(path, cell.line + 1, f"the first line of an exercise is {form}")
    if title.number.split(".")[0] != str(int(path.name[:2])):
        raise SourceError(path, cell.line + 1, f"exercise {title.number} stands in lesson {path.name[:2]}")
    if title.number in seen:
        raise SourceError(path, cell.line + 1, f"exercise {title.number} again; the first is in line {seen[title.number]}")
    seen[title.number] = cell.line + 1
    if BEGIN not in [line.strip() for line in cell.text.split("\n")]:
        raise SourceError(path, cell.line, f"exercise {title.number} has no solution: mark it with `{BEGIN}` and `{END}`")
    try:
        tree = ast.parse(cell.text)
    except SyntaxError as error:
        raise SourceError(path, cell.line + (error.lineno or 1), f"exercise {title.number}: {error.msg}") from error
    foreign = [(name, line) for name, line in _used(cell.text) if name not in known | _local(tree)]
    if foreign:
        name, line = foreign[0]
        raise SourceError(
            path, cell.line + line, f"exercise {title.number} uses {name}, which this cell does not define: an exercise is "
            "graded alone, with the lesson's imports before it",
        )  # fmt: skip
    return title.number


def _no_check_missing(path: Path, unchecked: tuple[str, int] | None) -> None:
    if unchecked is not None:
        number, line = unchecked
        raise SourceError(path, line, f"exercise {number} has no check: a cell tagged check that calls what it defines")


def _bound(code: str) -> set[str]:
    """Names that code binds at its top level."""
    return set(_targets(ast.parse(code).body))


def _targets(statements: Iterable[ast.stmt]) -> Iterator[str]:
    for node in statements:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).split(".")[0] for alias in node.names)
        else:
            yield from (
                inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)
            )


def _local(tree: ast.Module) -> set[str]:
    """Every name that code binds anywhere: assigned, defined, imported, or an argument."""
    names = set(_targets(node for node in ast.walk(tree) if isinstance(node, ast.stmt)))
    return names | {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}


def _used(code: str) -> Iterator[tuple[str, int]]:
    """(name, line within the code) of each name that code reads. Nothing for code that Python cannot parse (magics)."""
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id, node.lineno
