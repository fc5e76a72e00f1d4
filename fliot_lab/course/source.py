"""Lesson sources, `notebooks/source/NN_topic.py` in jupytext's percent format: their cells, their exercises, their mistakes.

A source is the solution version. What it must look like stands in docs/DEVELOPING.md; `check` says what is wrong, and where.
"""

import ast
import builtins
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

TAGS = frozenset({"parameters", "exercise", "solution", "check", "instructor", "summary"})
TEXT_TAGS = frozenset({"solution", "instructor"})
BEGIN, END = "# solution", "# end solution"
_CELL = re.compile(r'# %%( \[markdown\])?(?: tags=\["(\w+)"\])?')
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
    """The cells of a source in order. Raises SourceError for a line that nearly begins a cell, and for an unknown tag."""
    lines = path.read_text("utf-8").splitlines()
    starts = [place for place, line in enumerate(lines) if re.match(r"#\s*%%", line)]
    if not starts:
        raise SourceError(path, 1, "no cell begins here: a cell begins with a line `# %%`")
    found = []
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        begins = _CELL.fullmatch(lines[start])
        if begins is None:
            raise SourceError(
                path, start + 1, f'`{lines[start]}` must be `# %%` or `# %% [markdown]`, with ` tags=["check"]` or none'
            )
        tags = frozenset(filter(None, [begins[2]]))
        if tags - TAGS:
            raise SourceError(path, start + 1, f"unknown tag {begins[2]!r}; there are {', '.join(sorted(TAGS))}")
        if begins[1] and tags - TEXT_TAGS:
            raise SourceError(
                path, start + 1, f"the tag {begins[2]!r} is for code; a text may be {' or '.join(sorted(TEXT_TAGS))}"
            )
        found.append(Cell("\n".join(lines[start + 1 : end]).rstrip("\n"), start + 1, tags, begins[1] is not None))
    return found


def without_magics(code: str) -> tuple[str, list[int]]:
    """(code with a `pass` for each line that only IPython understands, the numbers of those lines). Python stays as it is."""
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        lines = code.split("\n")
        magic = [place for place, line in enumerate(lines) if re.match(r"\s*[%!?]|\s*[\w.]+\?{1,2}\s*$", line)]
        for place in magic:
            lines[place] = lines[place][: len(lines[place]) - len(lines[place].lstrip())] + "pass"
        return "\n".join(lines), [place + 1 for place in magic]
    return code, []


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

    The first cell is the title. Exercises count from 1; each has a heading with its number, a solution that is marked and
    closed, and a check, `check.NAME(NAME)`, before the next. An exercise stands alone: it uses the lesson's imports and
    itself, and defines the same names when its solution is cut. What comes after it does without it, but for cells tagged
    `check`, `solution` or `instructor`, so that a lesson runs to its end with nothing solved.
    """
    found = cells(path)
    if not found[0].markdown or not re.match(r"# # \S", found[0].text):
        raise SourceError(path, found[0].line, "the first cell holds the title: a markdown cell that begins with `# # Title`")
    known = set(dir(builtins))
    for cell in found:
        _check_markers(path, cell)
        if not cell.markdown:
            known |= {name for name, _ in bound(ast.parse(imports([cell.text])))} if _tree(path, cell) else set()
    defined: dict[str, str] = {}
    numbers: list[str] = []
    unchecked: tuple[str, int] | None = None  # number of the exercise that waits for its check, and its line
    for cell in found:
        if cell.markdown:
            continue
        if "exercise" in cell.tags:
            _no_check_missing(path, unchecked)
            names = _check_exercise(path, cell, numbers, defined, known)
            unchecked = numbers[-1], cell.line
            defined |= dict.fromkeys(names, numbers[-1])
        elif title := heading(cell.text):
            raise SourceError(path, cell.line, f"{title}: the cell must be tagged exercise")
        elif "check" in cell.tags:
            if unchecked and unchecked[0] in {defined.get(name) for name in _checked(_tree(path, cell))}:
                unchecked = None
        elif not cell.tags & {"solution", "instructor"}:
            _check_independent(path, cell, defined)
    _no_check_missing(path, unchecked)
    return found


def _tree(path: Path, cell: Cell) -> ast.Module:
    """A code cell as Python reads it. Raises SourceError where it cannot."""
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT  # as a notebook does
    try:
        tree = compile(cell.text, path.name, "exec", flags)
    except SyntaxError as error:
        raise SourceError(path, cell.line + (error.lineno or 1), f"Python cannot read this cell: {error.msg}") from error
    assert isinstance(tree, ast.Module)
    return tree


def _check_markers(path: Path, cell: Cell) -> None:
    """Raises SourceError unless `# solution` and `# end solution` come in pairs, in exercises only, and nothing looks like
    them: what is not cut reaches students."""
    begun: int | None = None
    lines = cell.text.split("\n")
    for place, (line, below) in enumerate(zip(lines, [*lines[1:], ""], strict=True), cell.line + 1):
        text = line.strip()
        if text not in (BEGIN, END):
            if not cell.markdown and re.search(r"#+\s*(end\s+|of\s+)*solution\W*$", text, flags=re.I):
                raise SourceError(path, place, f"`{text}` is nearly a marker: those are lines `{BEGIN}` and `{END}`")
            continue
        if "exercise" not in cell.tags:
            raise SourceError(path, place, f"`{text}` stands outside a code cell tagged exercise")
        if text == BEGIN and begun is not None:
            raise SourceError(path, place, f"`{BEGIN}` again before `{END}`; the first is in line {begun}")
        if text == END and begun is None:
            raise SourceError(path, place, f"`{END}` without `{BEGIN}`")
        if text == BEGIN and line.index("#") != len(below) - len(below.lstrip()):
            raise SourceError(path, place, f"`{BEGIN}` must have the indent of the line below it")
        begun = place if text == BEGIN else None
    if begun is not None:
        raise SourceError(path, begun, f"`{BEGIN}` is never closed: `{END}` is missing")


def _check_exercise(path: Path, cell: Cell, numbers: list[str], defined: dict[str, str], known: set[str]) -> set[str]:
    """The names that an exercise cell defines; its number joins `numbers`. Raises SourceError where it is not as it must be."""
    line = cell.line + 1
    title, lesson = heading(cell.text), int(path.name[:2])
    if title is None or not _HEADING.match(cell.text):
        form = "`# Exercise N.M: title` or `# Exercise N.M (extra): title`"
        raise SourceError(path, line, f"the first line of an exercise is {form}")
    if title.number.split(".")[0] != str(lesson):
        raise SourceError(path, line, f"exercise {title.number} stands in lesson {path.name[:2]}")
    if title.number in numbers or len(_HEADING.findall(cell.text)) > 1:
        raise SourceError(path, line, f"exercise {title.number} again, or two exercises in one cell")
    if title.number != (due := f"{lesson}.{len(numbers) + 1}"):
        raise SourceError(path, line, f"exercise {title.number} stands where {due} is due")
    numbers.append(title.number)
    tree = _tree(path, cell)
    if BEGIN not in [text.strip() for text in cell.text.split("\n")]:
        raise SourceError(path, cell.line, f"exercise {title.number} has no solution: mark it with `{BEGIN}` and `{END}`")
    own = known | _local(tree)
    for name, place in _used(tree):
        if name not in own:
            raise SourceError(
                path, cell.line + place, f"exercise {title.number} uses {name}, which this cell does not define: an exercise "
                "is graded alone, with the lesson's imports before it",
            )  # fmt: skip
    names = {name for name, _ in bound(tree)}
    if twice := sorted(names & defined.keys()):
        raise SourceError(path, line, f"exercise {title.number} defines {twice[0]}, as exercise {defined[twice[0]]} does")
    _check_cut(path, cell, title.number, names)
    return names


def _check_cut(path: Path, cell: Cell, number: str, names: set[str]) -> None:
    """Raises SourceError unless the exercise, its solution cut, is Python that defines the same names."""
    try:
        left = {name for name, _ in bound(ast.parse(without_solution(cell.text, "raise NotImplementedError")))}
    except SyntaxError as error:
        raise SourceError(
            path, cell.line, f"exercise {number} without its solution is not Python ({error.msg}): give the markers the indent "
            "of what they enclose, and let them enclose whole statements",
        ) from error  # fmt: skip
    if lost := sorted(names - left):
        raise SourceError(
            path, cell.line, f"exercise {number} without its solution does not define {lost[0]}: keep its first line"
        )


def _check_independent(path: Path, cell: Cell, defined: dict[str, str]) -> None:
    """Raises SourceError where a cell uses a name that an exercise defines; `defined` says which exercise."""
    tree = _tree(path, cell)
    own = _local(tree)
    used = [(name, line) for name, line in _used(tree) if name not in own]
    for line, text in enumerate(cell.text.split("\n"), 1):
        if re.match(r"\s*#\s*[%!]", text):  # what jupytext makes a command of IPython's
            used += [(name, line) for name in re.findall(r"\w+", text)]
    for name, line in used:
        if name in defined:
            raise SourceError(
                path, cell.line + line, f"uses {name}, which exercise {defined[name]} defines: a lesson must run with nothing "
                "solved; use the package's own function, or tag the cell check",
            )  # fmt: skip


def _no_check_missing(path: Path, unchecked: tuple[str, int] | None) -> None:
    if unchecked is not None:
        number, line = unchecked
        raise SourceError(path, line, f"exercise {number} has no check: a cell tagged check that calls `check.NAME(NAME)`")


def _checked(tree: ast.Module) -> set[str]:
    """Each NAME of a call `anything.NAME(NAME)`."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    given = [(call.func.attr, call.args[0]) for call in calls if isinstance(call.func, ast.Attribute) and call.args]
    return {name for name, argument in given if isinstance(argument, ast.Name) and argument.id == name}


def bound(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """(name, line) of what a cell binds or deletes outside of functions, classes and comprehensions."""
    waiting = list(ast.iter_child_nodes(tree))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (((alias.asname or alias.name).split(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id, node.lineno
        elif isinstance(node, ast.comprehension):  # its variables are its own
            waiting += [node.iter, *node.ifs]
        elif not isinstance(node, ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def _local(tree: ast.Module) -> set[str]:
    """Every name that code binds anywhere: assigned, defined, imported, caught, matched, or an argument."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
            names.add(node.name or "")
        elif isinstance(node, ast.MatchMapping):
            names.add(node.rest or "")
    return names


def _used(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """(name, line within the code) of each name that code reads."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id, node.lineno
