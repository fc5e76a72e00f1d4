"""Lessons as the grader knows them, from the student notebooks: exercises, imports, and what a cell must leave alone."""

import ast
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fliot_lab import ROOT
from fliot_lab.course import checks, source

NOTEBOOKS = ROOT / "notebooks"
COURSE = "fliot_lab.course"


@dataclass(frozen=True)
class Task:
    """An exercise as it is handed out: its heading, its cell with the stub, and its check."""

    heading: source.Heading
    code: str
    check: checks.Exercise

    @property
    def column(self) -> str:
        """Its number, and (extra) where it is extra."""
        return self.heading.number + (" (extra)" if self.heading.extra else "")


@dataclass(frozen=True)
class Lesson:
    """A lesson's exercises by their number, in the notebook's order, and its imports.

    `prelude` are the import statements but for the checks', `checks` the names under which it imports those, `package` the
    names that it imports from fliot_lab.
    """

    name: str
    title: str
    prelude: str
    checks: tuple[str, ...]
    package: frozenset[str]
    tasks: Mapping[str, Task]

    @property
    def number(self) -> str:
        return self.name[:2]


def lessons(numbers: list[str] | None = None) -> list[Lesson]:
    """The lessons with exercises among those with these `numbers` (default: all), from the student notebooks.

    Raises ValueError for a number that no lesson has and for an exercise without a check.
    """
    paths = {path.name[:2]: path for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))}
    if unknown := [number for number in numbers or [] if number not in paths]:
        raise ValueError(f"there is no lesson {', '.join(unknown)} in {NOTEBOOKS}; choose from {' '.join(paths)}")
    found = [_lesson(path) for number, path in paths.items() if not numbers or number in numbers]
    return [lesson for lesson in found if lesson.tasks]


def cells(text: str, kind: str = "code") -> list[str]:
    """The cells of this kind of a notebook in nbformat 4. Raises ValueError where `text` is no such notebook."""
    try:
        return ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == kind]
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no notebook ({type(error).__name__})") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("it is no notebook of format 4; open and save it in JupyterLab") from error


def _lesson(path: Path) -> Lesson:
    text = path.read_text("utf-8")
    codes, words = cells(text), "\n".join(cells(text, "markdown"))
    known, tasks = checks.of_lesson(path.name[:2]), {}
    for code in codes:
        heading = source.heading(code)
        if heading is None:
            continue
        if heading.number not in known:
            raise ValueError(f"{path.name}: exercise {heading.number} has no check in lesson_{path.name[:2]}.py")
        tasks[heading.number] = Task(heading, code, known[heading.number])
    prelude, names = _without_checks(source.imports(codes))
    title = re.search(r"^# (.+)$", words, flags=re.M)
    package = frozenset(_imported(prelude, "fliot_lab"))
    return Lesson(path.stem, title[1].strip() if title else path.stem, prelude, names, package, tasks)


def _without_checks(imports: str) -> tuple[str, tuple[str, ...]]:
    """(imports without those of the course's own modules, the names that those bind)."""
    kept: list[str] = []
    names: list[str] = []
    for node in ast.parse(imports).body:
        bound = list(_imported(ast.unparse(node), COURSE))
        names += bound
        kept += [] if bound else [ast.unparse(node)]
    return "\n".join(kept), tuple(names)


def _imported(imports: str, package: str) -> Iterable[str]:
    """Names that import statements bind to things from `package`."""
    for node in ast.walk(ast.parse(imports)):
        if isinstance(node, ast.Import):
            found = [(alias.name, alias.asname or alias.name.split(".")[0]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found = [(f"{node.module}.{alias.name}", alias.asname or alias.name) for alias in node.names]
        else:
            continue
        yield from (name for origin, name in found if f"{origin}.".startswith(f"{package}."))


# --- what a student's cell does, by reading it -------------------------------------------------------------------------


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


def touches_checks(code: str, names: Iterable[str]) -> int | None:
    """The line in which a cell imports the course's modules, changes what the lesson knows under `names`, or names the
    course's modules in a text; None where it does nothing of that. Raises SyntaxError."""
    known = set(names)
    tree = ast.parse(code)
    lines = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.stmt | ast.expr) and _touches(node, known)]
    lines += [line for name, line in _bound_at_top(tree) if name in known]
    return min(lines, default=None)


def calls_package(code: str, task: Task, package: Iterable[str]) -> list[int]:
    """The lines in which a cell uses what is imported from fliot_lab and was not used in the cell that was handed out."""
    given = {node.id for node in ast.walk(ast.parse(task.code)) if isinstance(node, ast.Name)}
    wanted = set(package) - given
    tree = ast.parse(code)
    lines = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in wanted]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and any(_imported(ast.unparse(node), "fliot_lab")):
            lines.append(node.lineno)
    return sorted(set(lines))


def _touches(node: ast.AST, names: set[str]) -> bool:
    """Whether this node imports the course, names it in a text, or changes an attribute of one of `names`."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return any(_imported(ast.unparse(node), COURSE))
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and COURSE in node.value
    if isinstance(node, ast.Attribute):
        changed = not isinstance(node.ctx, ast.Load) and _root(node) in names
        return changed or f"{ast.unparse(node)}.".startswith(f"{COURSE}.")
    if isinstance(node, ast.Global):
        return bool(names & set(node.names))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("setattr", "delattr"):
        return bool(node.args) and _root(node.args[0]) in names
    return False


def _root(node: ast.AST) -> str:
    """The name with which `a.b.c` begins; nothing where it begins with something else."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _bound_at_top(tree: ast.AST) -> Iterable[tuple[str, int]]:
    """(name, line) of what a cell binds or deletes outside of functions and classes."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (((alias.asname or alias.name).split(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id, node.lineno
        elif not isinstance(node, ast.Lambda):
            yield from _bound_at_top(node)
