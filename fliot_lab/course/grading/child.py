"""The process that runs a student's cells: `python -m fliot_lab.course.grading.child`, started by process.py.

Requests come over stdin, pickled by the grader; answers go back over what was stdout when it began, encoded by values.py.
The code in here shares its process with the student's, so nothing that it says is believed but the values it returns, and
those are judged by the grader. This is not a sandbox: the student's code can do what the account that runs it can do.
"""

import contextlib
import ctypes
import linecache
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from typing import IO, Any

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, SIGKILL = 1, 36, 9
LARGEST_FILE = 100_000_000  # bytes
Answer = tuple[str, Any]  # ("done" or "failed", value or text)


class _NoChecks:
    """Stands where a lesson has its checks: whatever a student's cell calls there does nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


def main() -> None:
    """Answers requests until stdin ends: ("prelude", code, names of the checks), ("define", {cell's name: code}, function),
    ("call", function, arguments). Each comes with a token that its answer repeats."""
    requests, answers = _own_streams()
    cut = _cut_network()
    _set_limits()
    from fliot_lab.course.checks import ask
    from fliot_lab.course.grading import values

    names: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}
    space: dict[str, Any] = {}
    while (message := values.read_frame(requests, most=None)) is not None:
        token, request, *details = pickle.loads(message)
        if request == "prelude":
            kind, answer = _prelude(names, *details)
            answer = cut if kind == "done" else answer
        elif request == "define":
            space = dict(names)
            kind, answer = _defined(space, *details)
        elif request == "call":
            kind, answer = _called(ask, space, *details)
        else:
            kind, answer = "done", None
        try:
            encoded = values.encode([token, kind, answer])
        except values.NotTaken as error:
            advice = f"; {error.advice}" if error.advice else ""
            encoded = values.encode([token, "failed", f"your function returned {error}, which cannot be taken over{advice}"])
        values.write_frame(answers, encoded)


def _own_streams() -> tuple[IO[bytes], IO[bytes]]:
    """(requests, answers): copies of stdin and stdout, which are then nothing, so that prints do no harm."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    return requests, answers


def _cut_network() -> bool:
    """Whether this process now has a network of its own, with nothing in it. Linux lets a process with one thread ask for
    that, unless it was set up not to."""
    if sys.platform != "linux":
        return False
    user, group = os.getuid(), os.getgid()
    system = ctypes.CDLL(None, use_errno=True)
    if system.unshare(CLONE_NEWUSER | CLONE_NEWNET):
        return False
    with contextlib.suppress(OSError):  # the network is gone either way; this only keeps the account's name
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    return True


def _set_limits() -> None:
    """No core files, no huge files; on Linux an end when the grader ends, and what it starts stays below it.

    Whatever loses its parent there is this process's child from then on, so that the grader finds it in the tree.

    No limit on address space: torch reserves far more than it uses, so it would say nothing about memory. The grader
    watches the memory that is used.
    """
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
    if sys.platform == "linux":
        system = ctypes.CDLL(None)
        system.prctl(PR_SET_PDEATHSIG, SIGKILL)
        system.prctl(PR_SET_CHILD_SUBREAPER, 1)


def _prelude(names: dict[str, Any], code: str, checks: list[str]) -> Answer:
    """Runs the lesson's imports into `names`; the names of its checks stand for nothing."""
    try:
        exec(compile(code, "<the lesson's imports>", "exec"), names)
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}"
    names.update({name: _NoChecks() for name in checks})
    return "done", None


def _defined(space: dict[str, Any], cells: dict[str, str], function: str) -> Answer:
    """Runs an exercise's cells as a notebook does: an error ends its cell. The errors' texts, or failure where after all
    cells there is no such function."""
    errors = []
    for name, code in cells.items():
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)  # for the line in an error's text
        try:
            exec(compile(code, name, "exec", dont_inherit=True), space)
        except SystemExit:
            return "failed", "the cell exits: it calls sys.exit, exit or quit"
        except BaseException as error:
            lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename in cells]
            line = f" (line {lines[0]})" if lines else ""
            errors.append(f"the cell raised {type(error).__name__}: {error}"[:500] + line)
    if not callable(space.get(function)):
        return "failed", "; ".join([f"the function {function} is not defined", *errors])
    return "done", errors


def _called(ask: Callable[..., Any], space: dict[str, Any], function: str, arguments: tuple[Any, ...]) -> Answer:
    """What the student's function returns; failure in the words of `checks.ask` where it raises or changes its arguments."""
    try:
        return "done", ask(space[function], *arguments)
    except AssertionError as error:  # a CheckFailed
        return "failed", str(error)[:2000]
    except SystemExit:
        return "failed", "your function exits: it calls sys.exit, exit or quit"
    except BaseException as error:
        return "failed", f"your function raised {type(error).__name__}: {error}"[:2000]


if __name__ == "__main__":
    main()
