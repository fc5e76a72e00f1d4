"""Verdicts on exercises: the grader's own check, run here, on answers that come from the student's process."""

import contextlib
import io
import re
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from fliot_lab.course import source
from fliot_lab.course.checks import CheckFailed
from fliot_lab.course.grading import reference
from fliot_lab.course.grading.process import Child, Limits, Refused, Stopped, Unavailable

_TOUCHES = "touches the checks (imports or overwrites the lesson's checks in line {line}: take that line out)"
MOST_CODE = 100_000  # characters of one exercise's cells


@dataclass(frozen=True)
class Verdict:
    """On one exercise: `message` says what was tested when it passed, and why not when it did not. `code` is the student's."""

    task: reference.Task
    passed: bool
    message: str
    code: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Graded:
    """A lesson's verdicts in its order. `network_cut` is None where nothing had to be run."""

    lesson: reference.Lesson
    verdicts: tuple[Verdict, ...]
    network_cut: bool | None = None


def of_lesson(
    lesson: reference.Lesson, cells: Mapping[str, Sequence[str]], limits: Limits, stop: threading.Event | None = None
) -> Graded:
    """Verdicts on the exercise cells of one student, which are given by the exercise's number.

    All run in one process, each in names of its own. What one changes in the modules that were imported (numpy's random
    state, an attribute) the next ones see. Where the process ends, the exercises after that have a new one. Raises
    process.Interrupted when `stop` is set.
    """
    verdicts, cut = [], None
    with contextlib.ExitStack() as processes:
        child: Child | None = None
        for number, task in lesson.tasks.items():
            found = read(lesson, task, cells.get(number, ()))
            if isinstance(found, Verdict):
                verdicts.append(found)
                continue
            try:
                if child is None or not child.alive:
                    child = processes.enter_context(Child(lesson.prelude, lesson.checks, limits, stop))
                    cut = child.network_cut
                verdicts.append(_run(task, found, child))
            except Unavailable as error:
                verdicts.append(Verdict(task, False, f"not graded: {error}", found.code, found.notes))
    return Graded(lesson, tuple(verdicts), cut)


def none_passed(lesson: reference.Lesson, reason: str) -> Graded:
    """The lesson with nothing passed, for one reason."""
    return Graded(lesson, tuple(Verdict(task, False, reason) for task in lesson.tasks.values()))


@dataclass(frozen=True)
class Runnable:
    """An exercise's cells, by the name that errors in them go by."""

    cells: dict[str, str]
    notes: tuple[str, ...]

    @property
    def code(self) -> str:
        return "\n\n".join(self.cells.values())


def read(lesson: reference.Lesson, task: reference.Task, codes: Sequence[str]) -> Verdict | Runnable:
    """What is to be run for an exercise; a verdict where reading its cells is enough for one."""
    whole = "\n\n".join(codes)
    if not codes:
        return Verdict(task, False, f"no cell begins with the line `# Exercise {task.heading.number}: ...`")
    if whole.strip() == task.code.strip():
        return Verdict(task, False, "not solved: the cell is as it was handed out", whole)
    if len(whole) > MOST_CODE:
        return Verdict(task, False, f"the cell has more than {MOST_CODE:,} characters", whole[:MOST_CODE])
    runnable, notes = {}, []
    for place, given in enumerate(codes, 1):
        where = f" of its cell {place}" if len(codes) > 1 else ""
        code, magics = source.without_magics(given.replace("\r\n", "\n").replace("\r", "\n"))
        try:
            code = reference.without_own_import(code, lesson.check_imports)
            touched = reference.touches_checks(code, lesson.checks)
            calls = reference.calls_package(code, task, lesson.package)
            lookups = reference.looks_up(code)
        except SyntaxError as error:
            if _is_command(code, error.lineno):
                message = f"IPython commands do not work in an exercise (line {error.lineno}{where})"
                return Verdict(task, False, message, whole)
            return Verdict(task, False, f"syntax error: {error.msg} (line {error.lineno}{where})", whole)
        except (ValueError, RecursionError, MemoryError) as error:
            return Verdict(task, False, f"Python cannot read the cell ({type(error).__name__})", whole)
        if touched:
            return Verdict(task, False, _TOUCHES.format(line=f"{touched}{where}"), whole)
        notes += [f"calls the package: line {_listed(calls)}{where}"] if calls else []
        notes += [f"looks things up at run time: line {_listed(lookups)}{where}"] if lookups else []
        notes += [f"IPython commands left out: line {_listed(magics)}{where}"] if magics else []
        runnable[f"<exercise {task.heading.number}{', cell ' + str(place) if where else ''}>"] = code
    return Runnable(runnable, tuple(notes))


def _is_command(code: str, line: int | None) -> bool:
    """Whether this line, which Python does not understand, is like `files = !ls` or `x = %magic`."""
    return line is not None and bool(re.match(r"[^#'\"=]*=\s*[!%]", "".join(code.split("\n")[line - 1 : line])))


def _listed(lines: Sequence[int]) -> str:
    return ", ".join(map(str, lines))


def _run(task: reference.Task, runnable: Runnable, child: Child) -> Verdict:
    """The verdict on an exercise whose cells are run in `child`."""
    notes = list(runnable.notes)
    try:
        notes += child.begin(runnable.cells, task.check.function)
        tested = _tested(task, child)
        child.end()
        passed, message = True, tested
    except (Refused, Stopped, CheckFailed) as error:
        passed, message = False, child.ended or str(error)
    return Verdict(task, passed, message, runnable.code, tuple(notes))


def _tested(task: reference.Task, child: Child) -> str:
    """What the check says that it tested. Raises CheckFailed where the answers are wrong."""
    function = task.check.function

    def answer(*arguments: Any) -> Any:
        return child.call(function, *arguments)

    answer.__name__ = function
    with captured() as prints:
        try:
            task.check.check(answer)
        except CheckFailed:
            if child.alive:
                child.end()
            raise
        except Exception as error:
            raise CheckFailed(f"the check cannot use what your function returned ({type(error).__name__}: {error})") from error
    if child.ended:  # a check that asks again after a failure does not undo it
        raise CheckFailed(child.ended)
    return prints.getvalue().strip() or "Passed."


# --- what checks print -------------------------------------------------------------------------------------------------

_prints: ContextVar[io.StringIO | None] = ContextVar("_prints", default=None)


class _ByThread(io.TextIOBase):
    """A stdout that gives what is printed within `captured` to it, in each thread to its own, and all else to the screen."""

    def __init__(self, screen: Any) -> None:
        self._screen = screen

    def write(self, text: str) -> int:
        return int((_prints.get() or self._screen).write(text))

    def flush(self) -> None:
        self._screen.flush()


@contextlib.contextmanager
def quiet_checks() -> Iterator[None]:
    """For a whole run: `captured` works, in any number of threads, and checks warn of nothing."""
    with contextlib.redirect_stdout(_ByThread(sys.stdout)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def captured() -> Iterator[io.StringIO]:
    """What this thread prints meanwhile. Only within `quiet_checks`."""
    token = _prints.set(made := io.StringIO())
    try:
        yield made
    finally:
        _prints.reset(token)
