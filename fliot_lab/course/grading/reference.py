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
MACHINERY = frozenset({"importlib", "pkgutil", "runpy", "inspect", "gc", "builtins"})
LOOKUPS = frozenset({"importlib", "__import__", "__builtins__", "exec", "eval"})
INNARDS = frozenset({"__import__", "__builtins__", "__globals__", "_getframe"})  # attributes that lead to everything


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

    `prelude` are the import statements but for the checks', `checks` the names under which it imports those with
    `check_imports`, `package` the names that it imports from fliot_lab.
    """

    name: str
    title: str
    prelude: str
    checks: tuple[str, ...]
    check_imports: tuple[str, ...]
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
    prelude, names, check_imports = _without_checks(source.imports(codes))
    title = re.search(r"^# (.+)$", words, flags=re.M)
    package = frozenset(_imported(ast.parse(prelude), "fliot_lab"))
    return Lesson(path.stem, title[1].strip() if title else path.stem, prelude, names, check_imports, package, tasks)


def _without_checks(imports: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """(imports without those of the course's own modules, the names that those bind, those)."""
    kept: list[str] = []
    taken: list[str] = []
    names: list[str] = []
    for node in ast.parse(imports).body:
        bound = list(_imported(node, COURSE))
        names += bound
        (taken if bound else kept).append(ast.unparse(node))
    return "\n".join(kept), tuple(names), tuple(taken)


def _imported(tree: ast.AST, package: str) -> Iterable[str]:
    """Names that import statements in `tree` bind to things from `package`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [(alias.name, alias.asname or alias.name.split(".")[0]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found = [(f"{node.module}.{alias.name}", alias.asname or alias.name) for alias in node.names]
        else:
            continue
        yield from (name for origin, name in found if f"{origin}.".startswith(f"{package}."))


# --- what a student's cell does, by reading it -------------------------------------------------------------------------


def without_own_import(code: str, imports: Iterable[str]) -> str:
    """`code` with `pass` for each import of the checks that stands as the lesson has it; lines keep their numbers.

    Whoever copies the lesson's imports into an exercise does no harm; the checks are not imported there. Raises SyntaxError.
    """
    wanted = set(imports)
    lines = code.encode().split(b"\n")
    found = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom | ast.Import)]
    for node in sorted(found, key=lambda node: (node.lineno, node.col_offset), reverse=True):  # from the end
        if node.end_lineno is None or node.end_col_offset is None or ast.unparse(node) not in wanted:
            continue
        first, last = node.lineno - 1, node.end_lineno - 1
        rest = lines[last][node.end_col_offset :]
        lines[first] = lines[first][: node.col_offset] + b"pass"
        lines[first + 1 : last + 1] = [b""] * (last - first)
        lines[first : last + 1] = [line + b"\\" for line in lines[first:last]] + [lines[last]]
        lines[last] += rest
    return b"\n".join(lines).decode()


def touches_checks(code: str, names: Iterable[str]) -> int | None:
    """The line in which a cell imports the course's modules or changes what the lesson knows under `names`; None where it
    does nothing of that. Raises SyntaxError."""
    known = set(names)
    tree = ast.parse(code)
    lines = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.stmt | ast.expr) and _touches(node, known)]
    lines += [line for name, line in source.bound(tree) if name in known]
    return min(lines, default=None)


def calls_package(code: str, task: Task, package: Iterable[str]) -> list[int]:
    """The lines in which a cell uses what is imported from fliot_lab and was not used in the cell that was handed out."""
    given = {node.id for node in ast.walk(ast.parse(task.code)) if isinstance(node, ast.Name)}
    wanted = set(package) - given
    tree = ast.parse(code)
    lines = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in wanted]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and any(_imported(node, "fliot_lab")):
            lines.append(node.lineno)
    return sorted(set(lines))


def looks_up(code: str) -> list[int]:
    """The lines in which a cell finds things in ways that reading it does not follow: by the machinery of imports, or by
    the package's name in a text. A text that stands alone (a docstring) is none. Raises SyntaxError."""
    tree = ast.parse(code)
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}
    return sorted({node.lineno for node in ast.walk(tree) if id(node) not in alone and _looks_up(node)})  # type: ignore[attr-defined]


def _looks_up(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and "fliot_lab" in node.value
    if isinstance(node, ast.Name):
        return node.id in LOOKUPS
    if isinstance(node, ast.Attribute):
        return node.attr in INNARDS or (node.attr == "modules" and _last(node.value) == "sys")
    if isinstance(node, ast.Import):
        return any(alias.name.split(".")[0] in MACHINERY or (alias.name == "sys" and alias.asname) for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        named = {alias.name for alias in node.names}
        return (node.module or "").split(".")[0] in MACHINERY or (node.module == "sys" and bool(named & {"modules", "*"}))
    return False


def _touches(node: ast.AST, names: set[str]) -> bool:
    """Whether this node imports the course, names it in a text, or changes an attribute of one of `names`."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return any(_imported(node, COURSE))
    if isinstance(node, ast.Attribute):
        changed = not isinstance(node.ctx, ast.Load) and _root(node) in names
        return changed or (isinstance(node.value, ast.Name) and f"{node.value.id}.{node.attr}" == COURSE)
    if isinstance(node, ast.Global):
        return bool(names & set(node.names))
    if isinstance(node, ast.Call) and node.args:
        called, first = _last(node.func), node.args[0]
        if called in ("import_module", "__import__"):
            named = first.value if isinstance(first, ast.Constant) else None
            return isinstance(named, str) and f"{named}.".startswith(f"{COURSE}.")
        return called in ("setattr", "delattr") and _root(first) in names
    return False


def _last(node: ast.AST) -> str:
    """The name with which `a.b.c` ends; nothing where it ends with something else."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _root(node: ast.AST) -> str:
    """The name with which `a.b.c` begins; nothing where it begins with something else."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
