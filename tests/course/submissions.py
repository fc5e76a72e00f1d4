"""Five hand-ins, made from solved lessons: perfect, half-done, crashing, endless and cheating."""

import copy
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fliot_lab.course import build, checks, source

Rows = dict[str, dict[str, int]]  # {student: {exercise's number: 1 or 0}}
CRASHES = (
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "import os; os._exit(3)",
    "import ctypes; ctypes.string_at(0)",
)
FORGED = """
import json, os
for token in ("", None, "0" * 16):
    for kind in ("done", "passed"):
        message = json.dumps([token, kind, True]).encode()
        for descriptor in range(256):
            try:
                os.write(descriptor, len(message).to_bytes(8, "big") + message)
            except OSError:
                pass
"""
CHEATS = {
    "redefines the check": "class check:\n    {function} = staticmethod(print)\ndef {function}(*arguments): return None",
    "prints that it passed": "def {function}(*arguments): print('Passed. Tested: everything.')\n{function}()",
    "spoils the tools of the checks": "import sys\nimport numpy as np\n"
    "for tool in ('assert_allclose', 'assert_array_equal', 'assert_equal'): setattr(np.testing, tool, print)\n"
    "np.allclose = np.isclose = np.array_equal = lambda *_, **__: True\n"
    "for name, module in list(sys.modules.items()):\n"
    "    if name.endswith('course.checks'): module.CheckFailed = Warning; module.ask = lambda *_: 1\n"
    "def {function}(*arguments): return 1",
    "returns what equals everything": "class Equal(float):\n    def __eq__(self, other): return True\n    __hash__ = None\n"
    "def {function}(*arguments): return Equal()",
    "answers in the process's place": f"{FORGED}\ndef {{function}}(*arguments): return 0",
}


@dataclass(frozen=True)
class Solved:
    """A lesson's solution and student notebooks as JSON objects, and the functions of its exercises by their number."""

    name: str
    solution: dict[str, Any]
    student: dict[str, Any]
    functions: dict[str, str]


def of_course() -> list[Solved]:
    """The course's lessons that have exercises."""
    found = []
    for lesson in build.lessons():
        functions = {number: exercise.function for number, exercise in checks.of_lesson(lesson.number).items()}
        if functions:
            versions = [json.loads(json.dumps(build.notebook(lesson, version))) for version in ("solution", "student")]
            found.append(Solved(lesson.name, *versions, functions))
    return found


def make(folder: Path, lessons: Sequence[Solved]) -> Rows:
    """Writes the five hand-ins into `folder`, and gives the rows that grading must find."""
    half, crashing, endless, cheating = [], [], [], []
    ways = list(CHEATS.values())
    rows: Rows = {name: {} for name in ("perfect", "half-done", "crashing", "endless", "cheating")}
    for order, lesson in enumerate(lessons):
        numbers = list(lesson.functions)
        solved = numbers[::2]
        half.append(_changed(lesson, lambda number, code, lesson=lesson, done=solved: code if number in done else None))
        crash = "def {function}(*arguments):\n    " + CRASHES[order % len(CRASHES)]
        crashing.append(_changed(lesson, _in_one(lesson, numbers[0], crash)))
        endless.append(_changed(lesson, _in_one(lesson, numbers[-1], "def {function}(*arguments):\n    while True: pass")))
        given = {number: ways[(order + place) % len(ways)] for place, number in enumerate(numbers)}
        cheating.append(
            _changed(lesson, lambda number, code, lesson=lesson, given=given: _cell(lesson, number, code, given[number]))
        )
        for number in numbers:
            rows["perfect"][number] = 1
            rows["half-done"][number] = int(number in solved)
            rows["crashing"][number] = int(number != numbers[0])
            rows["endless"][number] = int(number != numbers[-1])
            rows["cheating"][number] = 0
    names = [lesson.name for lesson in lessons]
    _folder(folder / "perfect" / "work", names, [lesson.solution for lesson in lessons])
    _folder(folder / "crashing", names, crashing)
    _folder(folder / "endless", names, endless)
    _folder(folder / "cheating" / "hand-in" / "work", names, cheating)
    with zipfile.ZipFile(folder / "half-done.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, made in zip(names, half, strict=True):
            archive.writestr(f"work/{name}.ipynb", json.dumps(made))
    return rows


def _changed(lesson: Solved, change: Callable[[str, str], str | None]) -> dict[str, Any]:
    """The solution with `change(number, code)` as each exercise's cell; the stub where that is None."""
    stubs = {found.number: cell for cell in lesson.student["cells"] if (found := _heading(cell))}
    made = copy.deepcopy(lesson.solution)
    for cell in made["cells"]:
        if found := _heading(cell):
            code = change(found.number, "".join(cell["source"]))
            cell["source"] = stubs[found.number]["source"] if code is None else code
    return made


def _heading(cell: dict[str, Any]) -> source.Heading | None:
    return source.heading("".join(cell["source"])) if cell["cell_type"] == "code" else None


def _cell(lesson: Solved, number: str, code: str, body: str) -> str:
    """An exercise's cell with its heading, and this body for its function."""
    return code.split("\n")[0] + "\n" + body.replace("{function}", lesson.functions[number])


def _in_one(lesson: Solved, chosen: str, body: str) -> Callable[[str, str], str]:
    return lambda number, code: _cell(lesson, number, code, body) if number == chosen else code


def _folder(folder: Path, names: Sequence[str], notebooks: Sequence[dict[str, Any]]) -> None:
    folder.mkdir(parents=True)
    for name, made in zip(names, notebooks, strict=True):
        (folder / f"{name}.ipynb").write_text(json.dumps(made), "utf-8")
