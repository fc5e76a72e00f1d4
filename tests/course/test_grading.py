"""Grading: what a student's process can say and do, what the verdict rests on, and what an instructor gets."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import types
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from submissions import Rows, Solved, make

from fliot_lab.course import checks, grading, source
from fliot_lab.course.checks import CheckFailed, Exercise, ask, number, passed, same
from fliot_lab.course.grading import process, reference, report, submissions, values, verdict

LIMITS = process.Limits(seconds=2, memory_mb=300)
NUMPY = "import numpy as np"

# --- a tiny lesson -----------------------------------------------------------------------------------------------------


def double(answer):
    for x in (1.5, -2.0):
        if number(ask(answer, x), "the result") != 2 * x:
            raise CheckFailed("twice x is x + x")
    passed("two numbers against x + x")


def total(answer):
    rows = np.arange(6.0).reshape(2, 3)
    if not same(ask(answer, rows), rows.sum(axis=1)):
        raise CheckFailed("one sum for each row; which axis did you take?")
    passed("the sums of a (2, 3) array")


def count(answer):
    if ask(answer, ["b", "a", "b"]) != {"a": 1, "b": 2}:
        raise CheckFailed("count each word")
    passed("three words")


def pair(answer):
    if ask(answer, 3) != (3, 9):
        raise CheckFailed("x and its square")
    passed("a number")


SOLUTIONS = {
    "98.1": "def double(x):\n    return 2 * x",
    "98.2": "def total(rows):\n    return np.sum(rows, axis=1)",
    "98.3": "def count(words):\n    return {word: words.count(word) for word in words}",
    "98.4 (extra)": "def pair(x):\n    return x, x**2",
}
CHECKS = {"98.1": Exercise(double, {}), "98.2": Exercise(total, {}), "98.3": Exercise(count, {}), "98.4": Exercise(pair, {})}


def notebook(cells: list[str]) -> dict:
    made = [{"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": cell} for cell in cells]
    title = {"cell_type": "markdown", "metadata": {}, "source": ["# A tiny lesson\n", "text"]}
    return {"cells": [title, *made], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def exercise(label: str, code: str) -> str:
    return f"# Exercise {label}: something to do\n{code}"


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Solved:
    """A lesson whose student notebook is where the grader looks."""
    module = types.ModuleType("fliot_lab.course.checks.lesson_98")
    module.EXERCISES = CHECKS
    monkeypatch.setitem(sys.modules, module.__name__, module)
    begin = ["import numpy as np\nfrom fliot_lab.course.checks import lesson_98 as check"]
    stubs = {label: f"{code.split(chr(10))[0]}\n    raise NotImplementedError('{label}')" for label, code in SOLUTIONS.items()}
    solution = notebook(begin + [exercise(label, code) for label, code in SOLUTIONS.items()])
    student = notebook(begin + [exercise(label, code) for label, code in stubs.items()])
    folder = tmp_path / "notebooks"
    folder.mkdir()
    (folder / "98_tiny.ipynb").write_text(json.dumps(student), "utf-8")
    monkeypatch.setattr(reference, "NOTEBOOKS", folder)
    return Solved("98_tiny", solution, student, {number: found.function for number, found in CHECKS.items()})


@pytest.fixture
def lesson(tiny: Solved) -> reference.Lesson:
    return reference.lessons(["98"])[0]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def graded(lesson: reference.Lesson, **cells: str | list[str]) -> dict[str, verdict.Verdict]:
    """Verdicts by function on cells given by function; a function that is not given is solved."""
    labels = {found.function: number for number, found in CHECKS.items()}
    given = {
        number: [next(code for label, code in SOLUTIONS.items() if label.startswith(number))] for number in labels.values()
    }
    given |= {labels[name]: [code] if isinstance(code, str) else code for name, code in cells.items()}
    with verdict.quiet_checks():
        found = verdict.of_lesson(lesson, given, LIMITS)
    return {result.task.check.function: result for result in found.verdicts}


# --- the five ----------------------------------------------------------------------------------------------------------


def test_five_hand_ins_give_the_right_five_rows(tiny: Solved, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "hand-ins"
    folder.mkdir()
    expected = make(folder, [tiny])
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    path = grading.grade(folder, tmp_path / "out", limit_s=2, memory_mb=500)
    rows = rows_of(path)
    assert [row["student"] for row in rows] == sorted(expected)
    assert found_rows(rows) == expected
    by_name = {row["student"]: row for row in rows}
    assert [by_name["perfect"][name] for name in ("core passed", "core total", "extra passed")] == ["3", "3", "1"]
    assert "98.1: the process crashed: signal 9 (SIGKILL)" in by_name["crashing"]["remarks"]
    assert "98.4: ran longer than 2 s and was stopped" in by_name["endless"]["remarks"]
    assert "98.2: not solved: the cell is as it was handed out" in by_name["half-done"]["remarks"]
    cheating = by_name["cheating"]["remarks"]
    assert "98.1: touches the checks (imports or overwrites the lesson's checks in line 2: take that line out)" in cheating
    assert "98.2: your function returned None" in cheating or "98.2: one sum for each row" in cheating
    assert "98.4: your function returned a Equal, which cannot be taken over" in cheating
    screen = capsys.readouterr()
    assert screen.out == ""
    assert "5/5 " in screen.err
    for name in expected:
        text = (tmp_path / "out" / "pages" / f"{name}.html").read_text("utf-8")
        assert Text.of(text)[0] == name
    assert "Tested: the sums of a (2, 3) array." in (tmp_path / "out" / "pages" / "perfect.html").read_text("utf-8")
    clean = json.loads((tmp_path / "out" / "notebooks" / "perfect" / "98_tiny.ipynb").read_text("utf-8"))
    assert ["".join(cell["source"]) for cell in clean["cells"]][:2] == [NUMPY, exercise("98.1", SOLUTIONS["98.1"])]
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


def found_rows(rows: list[dict[str, str]]) -> Rows:
    labels = {label: label.split(" ")[0] for label in rows[0] if re.match(r"\d+\.\d+", label)}
    return {row["student"]: {number: int(row[label]) for label, number in labels.items()} for row in rows}


def test_check_prints_a_line_for_each_exercise(tiny: Solved, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FileNotFoundError, match=r"98_tiny\.ipynb is missing; make lab"):
        grading.check_lesson("98", tmp_path)
    (tmp_path / "98_tiny.ipynb").write_text(json.dumps(tiny.solution), "utf-8")
    assert grading.check_lesson("98", tmp_path) == 0
    assert capsys.readouterr().out.splitlines() == [
        *[f"98.{place} something to do: passed" for place in (1, 2, 3)],
        "98.4 (extra) something to do: passed",
    ]
    (tmp_path / "98_tiny.ipynb").write_text(json.dumps(tiny.student), "utf-8")
    assert grading.check_lesson("98", tmp_path) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["98.1 something to do: not yet", "    not solved: the cell is as it was handed out"]
    (tmp_path / "98_tiny.ipynb").write_text("{", "utf-8")
    with pytest.raises(ValueError, match="it is no notebook"):
        grading.check_lesson("98", tmp_path)


# --- verdicts ----------------------------------------------------------------------------------------------------------


def test_each_wrong_cell_has_its_reason_and_the_others_pass(lesson: reference.Lesson) -> None:
    found = graded(lesson, double="def double(x:\n    return 1", total="x = 1", count="import sys; sys.exit()")
    assert [(result.passed, result.message) for result in found.values()] == [
        (False, "syntax error: '(' was never closed (line 1)"),
        (False, "the function total is not defined"),
        (False, "the cell exits: it calls sys.exit, exit or quit"),
        (True, "Passed. Tested: a number."),
    ]
    found = graded(
        lesson,
        double="def double(x):\n    raise SystemExit",
        total="def total(rows):\n    rows *= 2\n    return rows.sum(axis=1)",
        count="1 / 0\ndef count(words): return 1",
        pair="def pair(x):\n    return undefined",
    )
    assert [result.passed for result in found.values()] == [False] * 4
    assert re.match("your function (exits|raised SystemExit)", found["double"].message)
    assert "changes its argument 1 in place" in found["total"].message
    assert found["count"].message == (
        "the function count is not defined; the cell raised ZeroDivisionError: division by zero (line 1)"
    )
    assert found["pair"].message.startswith("your function raised NameError: name 'undefined' is not defined")
    assert found["pair"].message.endswith("in your line `return undefined`")
    missing = verdict.of_lesson(lesson, {}, LIMITS).verdicts[0]
    assert missing.message == "no cell begins with the line `# Exercise 98.1: ...`"
    huge = verdict.read(lesson, missing.task, ["x = 1\n" * 20_000])
    assert isinstance(huge, verdict.Verdict)
    assert "more than 100,000 characters" in huge.message


def test_limits_are_kept_and_named(lesson: reference.Lesson) -> None:
    start = time.monotonic()
    found = graded(
        lesson,
        double="while True: pass",
        total="def total(rows):\n    kept = np.ones(100_000_000)\n    return kept[:2]",
        count="import os\nos._exit(3)",
    )
    assert [(result.passed, result.message) for result in found.values()] == [
        (False, "ran longer than 2 s and was stopped: a loop without end?"),
        (False, "used more than 300 MB of memory and was stopped"),
        (False, "the process ended itself with exit code 3 (os._exit?)"),
        (True, "Passed. Tested: a number."),
    ]
    assert time.monotonic() - start < 15


def test_exercises_do_not_see_each_other(lesson: reference.Lesson) -> None:
    found = graded(lesson, double="helper = 2\ndef double(x): return helper * x", total="def total(rows): return helper")
    assert found["double"].passed
    assert "name 'helper' is not defined" in found["total"].message


def test_a_split_cell_works_and_what_goes_wrong_beside_the_function_is_a_note(lesson: reference.Lesson) -> None:
    found = graded(
        lesson,
        double=["%matplotlib inline\nfactor = 2", "def double(x): return factor * x\ndouble(X_train)"],
        total="import fliot_lab\ndef total(rows): return rows.sum(axis=1)\ncheck.total(total)",
    )
    assert found["double"].passed
    assert found["double"].notes == (
        "IPython commands left out: line 1 of its cell 1",
        "the cell raised NameError: name 'X_train' is not defined (line 2)",
    )
    assert found["total"].passed
    assert found["total"].notes == ("calls the package: line 1",)


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("from fliot_lab.course.checks import lesson_98", 1),
        ("x = 1\nimport fliot_lab.course.checks as c", 2),
        ("from fliot_lab import course", 1),
        ("def f():\n    import fliot_lab.course", 2),
        ("check = 3", 1),
        ("def check(): pass", 1),
        ("for check in []: pass", 1),
        ("if True:\n    del check", 2),
        ("check.double = print", 1),
        ("def f():\n    global check\n    check = 2", 2),
        ("setattr(check, 'double', print)", 1),
        ("import importlib\nimportlib.import_module('fliot_lab.course.checks')", 2),
        ("from importlib import import_module as load, import_module\nx = import_module('fliot_lab.course')", 2),
        ("[(check := 1) for _ in [2]]", 1),
        ("import fliot_lab\nfliot_lab.course.checks.CheckFailed = 1", 2),
        ("check.double(double)", None),
        ("def f(values):\n    check = sum(values)\n    return check", None),
        ("from fliot_lab import evaluation\ncheckers = 'fliot_lab'", None),
        ('def f():\n    """As fliot_lab.course.checks says."""  # fliot_lab.course', None),
        ("x = [check for check in range(3)]", None),
        (" + ".join(["1"] * 900), None),
    ],
)
def test_what_touches_the_checks(code: str, line: int | None) -> None:
    assert reference.touches_checks(code, ["check"]) == line


IMPORT = "from fliot_lab.course.checks import lesson_98 as check"


@pytest.mark.parametrize(
    ("code", "left"),
    [
        (f"import os\n{IMPORT}\nx = 1", "import os\npass\nx = 1"),
        (f"é = 'é'; {IMPORT} ; x = 'ö'  # why", "é = 'é'; pass ; x = 'ö'  # why"),
        (f"def f():\n    {IMPORT}\n    return check._answer()", "def f():\n    pass\n    return check._answer()"),
        (f"from fliot_lab.course.checks import (\n    lesson_98\n as check)\n{IMPORT}", "pass\\\n\\\n\npass"),
        ("from fliot_lab.course.checks import (\n    lesson_98 as check); x = 1", "pass\\\n; x = 1"),
        ("from fliot_lab.course.checks import lesson_97 as check", "from fliot_lab.course.checks import lesson_97 as check"),
        (f'"""\n{IMPORT}\n"""', f'"""\n{IMPORT}\n"""'),
    ],
)
def test_the_lessons_own_import_of_the_checks_is_left_out(code: str, left: str) -> None:
    found = reference.without_own_import(code, [IMPORT])
    assert found == left
    compile(found, "cell", "exec")


def test_the_lessons_imports_in_an_exercise_do_no_harm_and_give_no_answers(lesson: reference.Lesson) -> None:
    assert lesson.check_imports == (IMPORT,)
    found = graded(
        lesson,
        double=f"import numpy as np\n{IMPORT}\n\ndef double(x):\n    return 2 * x",
        total=f"{IMPORT}\ndef total(rows): return check.EXERCISES['98.2'].check(rows)",
    )
    assert (found["double"].passed, found["double"].notes) == (True, ())
    assert not found["total"].passed


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("import importlib\nm = importlib.import_module('fliot_lab.' + 'course.checks')", [1, 2]),
        ("from importlib import import_module", [1]),
        ("x = 1\n__import__('fli' + 'ot_lab')", [2]),
        ("exec('1')\neval('1')", [1, 2]),
        ("import sys\nm = [sys.modules[n] for n in sys.modules]", [2]),
        ("from sys import modules\nimport sys as s", [1, 2]),
        ("import inspect, gc", [1]),
        ("f'{1} fliot_lab'", [1]),
        ("print.__globals__", [1]),
        ('def f(model, table):\n    """From fliot_lab."""\n    return model.eval(), model.modules(), table.eval("a")', []),
        ("import re, sys\ngc = re.compile('x'), sys.path", []),
    ],
)
def test_what_looks_things_up(code: str, lines: list[int]) -> None:
    assert reference.looks_up(code) == lines


def test_what_looks_things_up_is_a_remark(lesson: reference.Lesson) -> None:
    code = "import importlib\ndef double(x):\n    return importlib.import_module('fliot_' + 'lab.data') and 2 * x"
    found = verdict.read(lesson, lesson.tasks["98.1"], [code])
    assert isinstance(found, verdict.Runnable)
    assert found.notes == ("looks things up at run time: line 1, 3",)


@pytest.mark.parametrize("code", ["files = !ls", "x = 1\nfor i in x:\n    y, z = %time f(x)"])
def test_a_command_of_ipython_is_named(lesson: reference.Lesson, code: str) -> None:
    found = verdict.read(lesson, lesson.tasks["98.1"], [code])
    assert isinstance(found, verdict.Verdict)
    assert found.message == f"IPython commands do not work in an exercise (line {len(code.splitlines())})"


@pytest.mark.parametrize("code", ["x = [" + "1," * 30_000 + "]" + ".a" * 150, "x = a" + ".a" * 900])
def test_reading_a_cell_takes_no_time(lesson: reference.Lesson, code: str) -> None:
    start = time.thread_time()
    assert isinstance(verdict.read(lesson, lesson.tasks["98.1"], [code]), verdict.Runnable)
    assert time.thread_time() - start < 3


def test_a_cell_that_uses_the_package_is_noted_unless_it_was_handed_out_so() -> None:
    handed_out = reference.Task(source.Heading("98.1", "x", False), "def f(x): return plots.show(x)", CHECKS["98.1"])
    code = "def f(x):\n    plots.show(x)\n    y = evaluation.score(x)\n    return evaluation.other(y)\n"
    code += "from fliot_lab.data import zeek"
    assert reference.calls_package(code, handed_out, ["plots", "evaluation"]) == [3, 4, 5]
    assert reference.calls_package("def f(x): return x", handed_out, ["plots", "evaluation"]) == []


# --- processes ---------------------------------------------------------------------------------------------------------


def test_nothing_that_a_process_starts_is_left(tmp_path: Path) -> None:
    code = """
import os, subprocess, sys, time
def start(path):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            open(path, "w").write(str(os.getpid()))
            time.sleep(600)
        os._exit(0)
    wait = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
    others = [subprocess.Popen(wait, start_new_session=True, env=env).pid for env in (None, {})]
    if os.fork() == 0:
        os.setsid()
        orphan = subprocess.Popen(wait, start_new_session=True, env={}).pid
        open(path + "2", "w").write(str(orphan))
        os._exit(0)
    for name in (path, path + "2"):
        while not os.path.exists(name) or not open(name).read(): time.sleep(0.01)
        others.append(int(open(name).read()))
    return [os.getpid(), *others, os.getcwd()]
"""
    with process.Child("import os", [], LIMITS) as child:
        child.begin({"<cell>": code}, "start")
        *pids, folder = child.call("start", str(tmp_path / "pid"))
        assert len(pids) == 5
        assert all(psutil.pid_exists(pid) for pid in pids)
    assert not [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]
    assert not Path(folder).exists()


def test_what_a_process_started_ends_though_the_process_has_ended_before_it(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    code = f"""
import os, subprocess, sys, time
wait = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
open({str(path)!r}, "w").write(str(subprocess.Popen(wait, start_new_session=True, env={{}}).pid))
time.sleep(0.5)
os._exit(0)
"""
    with process.Child("", [], LIMITS) as child, pytest.raises(process.Stopped, match="exit code 0"):
        child.begin({"<cell>": code}, "f")
    pid = int(path.read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_shared_memory_counts_once() -> None:
    code = """
import os, time
kept = bytearray(b"1") * 50_000_000
def f(more):
    for _ in range(8):
        if os.fork() == 0:
            own = bytearray(b"1") * more
            time.sleep(600)
    time.sleep(0.3 + more)
    return os.getpid()
"""
    with process.Child("", [], process.Limits(seconds=5, memory_mb=200)) as child:
        child.begin({"<cell>": code}, "f")
        pid = child.call("f", 0)
        assert sum(found.memory_info().rss for found in psutil.Process(pid).children()) > 400e6
        with pytest.raises(process.Stopped, match="used more than 200 MB"):
            child.call("f", 30_000_000)


def test_a_flood_of_answers_stays_in_the_pipe() -> None:
    code = """
import os, threading
message = (1_000_000).to_bytes(8, "big") + b" " * 1_000_000
def flood(n):
    while True:
        try: os.write(n, message)
        except OSError: return
def f():
    for n in range(3, 20): threading.Timer(0.3, flood, (n,)).start()
"""
    threads, used = threading.active_count(), psutil.Process().memory_info().rss
    with process.Child("", [], LIMITS) as child:
        child.begin({"<cell>": code}, "f")
        child.call("f")
        time.sleep(0.8)
        assert psutil.Process().memory_info().rss - used < 20e6
        with pytest.raises(process.Stopped, match=r"answers of its own|cannot be read"):
            child.call("f")
    start = time.monotonic()
    while threading.active_count() > threads and time.monotonic() - start < 5:
        time.sleep(0.01)
    assert threading.active_count() == threads


def test_closing_does_not_wait_for_who_does_not_take_answers() -> None:
    code = """
import os, time
def f():
    for n in range(3, 20):
        try: [os.write(n, (1).to_bytes(8, "big") + b"1") for _ in range(1000)]
        except OSError: pass
    time.sleep(600)
"""
    threads = threading.active_count()
    with process.Child("", [], LIMITS) as child:
        child.begin({"<cell>": code}, "f")
        with pytest.raises(process.Stopped):
            child.call("f")
        start = time.monotonic()
        child.close()
        assert time.monotonic() - start < 3
    assert threading.active_count() == threads


PLAIN_RANGE = '{"range": [0, 0, 1], "name": null}'
ANSWERS = ['"done", 5', '"done", "abc"', '"done", ["a", "b", "c"]', '"done", [1]', f'"done", {{"index": {PLAIN_RANGE}}}',
           '"failed", [1]', '{"array": ["<f8", [2], "AAAAAAAAAAAAAAAAAAAAAA=="]}, 1', '"what", 1', '"done"']  # fmt: skip


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_of_the_wrong_kind_is_the_exercises_failure(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process.Child, "_next", lambda child: f'["{token}", {answer}]'.encode())
    monkeypatch.setattr(process.secrets, "token_hex", lambda size: token)
    token = "0" * 16
    child = process.Child.__new__(process.Child)
    child.alive, child.ended, child._writers, child._limits = True, "", [], LIMITS
    child._write = lambda message: None  # type: ignore[method-assign]
    child.close = lambda: None  # type: ignore[method-assign]
    with pytest.raises(process.Stopped, match=r"answers of its own|cannot be read"):
        child.begin({"<cell>": "x = 1"}, "f")
    assert child.ended


def test_an_answer_in_the_place_of_the_cells_is_one_exercises_failure(lesson: reference.Lesson) -> None:
    code = """
import json, os, sys
frame = sys._getframe()
while "token" not in frame.f_locals: frame = frame.f_back
message = json.dumps([frame.f_locals["token"], "done", 5]).encode()
for n in range(3, 20):
    try: os.write(n, len(message).to_bytes(8, "big") + message)
    except OSError: pass
"""
    found = graded(lesson, double=code)
    assert [result.passed for result in found.values()] == [False, True, True, True]
    assert "answers of its own" in found["double"].message


def test_a_folder_too_deep_to_be_removed_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process.tempfile, "tempdir", str(tmp_path))
    code = "import os\nfor _ in range(1100): os.mkdir('d'); os.chdir('d')\ndef f(): return 1"
    try:
        with process.Child("", [], LIMITS) as child:
            child.begin({"<cell>": code}, "f")
            assert child.call("f") == 1
    finally:
        subprocess.run(["rm", "-rf", *tmp_path.iterdir()], check=True)


def test_a_process_that_leaves_a_child_with_its_line_is_seen_to_end(lesson: reference.Lesson) -> None:
    start = time.monotonic()
    found = graded(lesson, double="import os, time\nif os.fork() == 0: time.sleep(600)\nos._exit(7)")
    assert "exit code 7" in found["double"].message
    assert time.monotonic() - start < 2 + 5


def test_a_process_has_no_network_where_it_says_so() -> None:
    code = "import socket\ndef names(): return [name for _, name in socket.if_nameindex()]\n"
    code += "def reach():\n    socket.create_connection(('127.0.0.1', PORT), 1)\n"
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server, process.Child("", [], LIMITS) as child:
        child.begin({"<cell>": code.replace("PORT", str(server.getsockname()[1]))}, "reach")
        if child.network_cut:
            with pytest.raises(process.Refused, match=r"OSError|unreachable|refused"):
                child.call("reach")
            assert child.call("names") == ["lo"]
        else:
            assert child.call("reach") is None


def test_the_environment_is_scrubbed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "xyz")
    with process.Child("import os", [], LIMITS) as child:
        child.begin({"<cell>": "def names(): return dict(os.environ)"}, "names")
        found = child.call("names")
    assert "A_SECRET" not in found
    assert (found["OMP_NUM_THREADS"], found["CUDA_VISIBLE_DEVICES"]) == ("1", "")


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (b"\xff" * 64, "cannot be read"),
        ((10**9).to_bytes(8, "big"), "a message of 1,000,000,000 bytes"),
        ((3).to_bytes(8, "big") + b"[1]", "cannot be read"),
        ((16).to_bytes(8, "big") + b'["", "done", 42]', "answers of its own"),
    ],
)
def test_what_a_process_writes_itself_is_its_failure(written: bytes, reason: str) -> None:
    code = f"import os\ndef f():\n for n in range(3, 20):\n  try: os.write(n, {written!r})\n  except OSError: pass\n"
    with process.Child("", [], LIMITS) as child:
        child.begin({"<cell>": code}, "f")
        with pytest.raises(process.Stopped, match=reason):
            child.call("f")
        assert not child.alive


def test_answers_written_ahead_count_against_the_exercise_that_wrote_them(lesson: reference.Lesson) -> None:
    late = "import os, threading, time\ndef double(x):\n    threading.Thread(target=forge).start()\n    return 2 * x\n"
    late += 'def forge():\n    message = b\'["", "done", 42]\'\n    for n in range(3, 9):\n        try: os.write(n, '
    late += "len(message).to_bytes(8, 'big') + message)\n        except OSError: pass\n"
    found = graded(lesson, double=late)
    assert [result.passed for result in found.values()] == [False, True, True, True]
    assert "answers of its own" in found["double"].message


def test_stopping_the_run_ends_its_processes() -> None:
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    with process.Child("", [], process.Limits(seconds=60), stop) as child, pytest.raises(process.Interrupted):
        child.begin({"<cell>": "while True: pass"}, "f")
    assert not child.alive


def test_ctrl_c_leaves_whole_files_and_no_process(tiny: Solved, tmp_path: Path) -> None:
    folder, out = tmp_path / "hand-ins", tmp_path / "out"
    for name, code in (("a", "def double(x): return 2 * x"), ("b", "while True: pass")):
        (folder / name).mkdir(parents=True)
        cells = [exercise("98.1", code)]
        (folder / name / "98_tiny.ipynb").write_text(json.dumps(notebook(cells)), "utf-8")
    before = set(processes_of_grading())
    # A run that a shell put in the background is told to ignore Ctrl-C, and python then installs no handler for it.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)

    def press() -> None:
        while not (out / "grades.csv").exists() or not set(processes_of_grading()) - before:
            time.sleep(0.05)
        os.kill(os.getpid(), 2)

    threading.Thread(target=press, daemon=True).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            grading.grade(folder, out, limit_s=60, jobs=1)
    finally:
        signal.signal(signal.SIGINT, previous)
    assert [(row["student"], row["98.1"]) for row in rows_of(out / "grades.csv")] == [("a", "1")]
    assert not set(processes_of_grading()) - before
    assert sorted(path.name for path in out.iterdir()) == ["grades.csv", "notebooks", "pages"]


def processes_of_grading() -> list[int]:
    """Living processes below this one that run student's code."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if "fliot_lab.course.grading.child" in child.cmdline():
                found.append(child.pid)
        except psutil.Error:  # it has just ended
            continue
    return found


def test_imports_that_fail_are_no_students_fault(lesson: reference.Lesson) -> None:
    import dataclasses

    broken = dataclasses.replace(lesson, prelude="import not_there_at_all")
    found = verdict.of_lesson(broken, {"98.1": ["def double(x): return 2 * x"]}, LIMITS).verdicts[0]
    assert found.message == (
        "not graded: the lesson's imports do not run here: ModuleNotFoundError: No module named 'not_there_at_all'"
    )


def test_the_child_imports_little_before_it_cuts_the_network() -> None:
    code = (
        "import sys, fliot_lab.course.grading.child as c; print([m for m in ('numpy', 'psutil', 'torch') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# --- values ------------------------------------------------------------------------------------------------------------

DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(),
    hnp.unsigned_integer_dtypes(),
    hnp.floating_dtypes(),
    hnp.complex_number_dtypes(),
    hnp.unicode_string_dtypes(max_len=5),
    hnp.datetime64_dtypes(),
)
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, min_side=0, max_side=4))
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    ARRAYS,
    ARRAYS.filter(lambda a: a.size).map(lambda a: a.flat[0]),
)
TREES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.one_of(st.text(), st.integers(), st.tuples(st.integers(), st.booleans())), inner, max_size=4),
    ),
    max_leaves=10,
)


@settings(max_examples=60, deadline=None)
@given(TREES)
def test_values_come_back_the_same(value: object) -> None:
    assert same(values.decode(values.encode(value)), value)


@pytest.mark.parametrize(
    "value",
    [
        torch.arange(6.0).reshape(2, 3).T,
        torch.tensor(3, dtype=torch.int64),
        torch.zeros(0, 2, requires_grad=True),
        pd.Series([1.5, np.nan], index=["a", "b"], name="x"),
        pd.Series(["a", None, "c"]),
        pd.Series([1, "mixed", None], dtype=object),
        pd.Series(["x", "y", "x"], dtype="category"),
        pd.Series(pd.to_datetime(["2024-01-01", "2024-05-06"])),
        pd.DataFrame({"a": [1, 2], "b": ["x", "y"], 3: [True, False]}, index=pd.Index([5, 7], name="row")),
        pd.DataFrame([[1, 2.5]], columns=["a", "a"]),
        pd.DataFrame(),
        pd.RangeIndex(2, 8, 3),
    ],
    ids=repr,
)
def test_tensors_and_pandas_objects_come_back_the_same(value) -> None:
    found = values.decode(values.encode({"value": [value]}))["value"][0]
    assert same(found, value)
    if isinstance(value, pd.DataFrame):
        pd.testing.assert_frame_equal(found, value)
    if isinstance(value, pd.Series):
        pd.testing.assert_series_equal(found, value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (object(), "a object"),
        (lambda: 1, "a function"),
        ([{1, 2}], "a set"),
        (np.array([object()]), "an array of dtype object"),
        (np.ma.array([1]), "a MaskedArray"),
        (torch.zeros(2, dtype=torch.bfloat16), "a tensor of dtype torch.bfloat16"),
        (pd.MultiIndex.from_tuples([(1, 2)]), "a pandas MultiIndex"),
        (pd.Series([1], dtype="Int64"), "a column of dtype Int64"),
        (10**5000, "a int"),
        (np.zeros(9_000_000), "an array of 72 MB"),
        ("x" * 2_000_001, "more than 2 MB"),
        (pd.RangeIndex(400_000_000), "a pandas RangeIndex of 400,000,000 rows"),
        (pd.DataFrame(index=range(0, -3_000_000, -2)), "a pandas RangeIndex of 1,500,000 rows"),
    ],
    ids=range(13),
)
def test_what_is_not_taken_is_named(value: object, words: str) -> None:
    with pytest.raises(values.NotTaken, match=re.escape(words)):
        values.encode(value)


def test_an_array_that_is_not_plain_comes_with_advice(lesson: reference.Lesson) -> None:
    found = graded(lesson, total="def total(rows):\n    return np.asmatrix(rows), np.ma.array(rows)")
    assert found["total"].message == (
        "your function returned a matrix, which cannot be taken over; return a plain array: np.asarray(...)"
    )


def test_the_largest_message_takes_little_memory() -> None:
    tenth = b"[" + b",".join([b"[]"] * (values.MOST_BYTES // 30)) + b"]"
    tracemalloc.start()
    try:
        assert len(values.decode(tenth)) == values.MOST_BYTES // 30
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
    with pytest.raises(values.Malformed, match="a message of"):
        values.read_frame(io.BytesIO((2_000_001).to_bytes(8, "big") + b" " * 2_000_001))


@given(st.integers(-100, 100), st.integers(-100, 100), st.integers(-9, 9).filter(bool))
def test_ranges_have_the_length_of_pythons(start: int, stop: int, step: int) -> None:
    assert values._range_bytes(start, stop, step) == 8 * len(range(start, stop, step))


def test_a_list_in_itself_is_not_taken() -> None:
    endless: list = []
    endless.append(endless)
    with pytest.raises(values.NotTaken, match="nested too deeply"):
        values.encode(endless)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff",
        b"[" * 100_000,
        b'{"tuple": 3}',
        b'{"what": 3}',
        b'{"array": ["O", [1], "AAAAAAAAAAA="]}',
        b'{"array": ["<f8", [1000000000000], ""]}',
        b'{"array": ["<f8", [-1], "AAAAAAAAAAA="]}',
        b'{"array": ["<f8,<f8", [0], ""]}',
        b'{"dict": [[[1], 2]]}',
        b'{"series": [{"dtype": "Int64", "list": []}, {"range": [0, 1, 1], "name": null}, null]}',
        b'{"scalar": ["<f8", [], "AA=="], "tuple": []}',
        b"9" * 5000,
        b'{"index": {"range": [0, 400000000, 1], "name": null}}',
        b"[" + b",".join([b'{"index": {"range": [0, 200000, 1], "name": null}}'] * 2) + b"]",
        f'{{"frame": [[{{"array": ["<f8", [], "AAAAAAAAAAA="]}}], {PLAIN_RANGE}, {PLAIN_RANGE}]}}'.replace(
            "0, 0", "0, 1"
        ).encode(),
        b'{"array": ["<U0", [1000000000], ""]}',
        json.dumps({"dict": [[place * (2**61 - 1), 0] for place in range(200)]}).encode(),
        f'[{",".join([f"""{{"frame": [[], {PLAIN_RANGE}, {PLAIN_RANGE}]}}"""] * 5001)}]'.encode(),
    ],
    ids=range(19),
)
def test_a_message_that_is_none_is_malformed(message: bytes) -> None:
    with pytest.raises(values.Malformed):
        values.decode(message)


@settings(max_examples=100, deadline=None)
@given(TREES, st.data())
def test_a_damaged_message_is_a_value_or_malformed(value: object, data: st.DataObject) -> None:
    message = bytearray(values.encode(value))
    place = data.draw(st.integers(0, len(message) - 1))
    message[place] = data.draw(st.integers(0, 255))
    try:
        found = values.decode(bytes(message))
    except values.Malformed:
        return
    values.encode(found)


# --- hand-ins ----------------------------------------------------------------------------------------------------------


def test_hand_ins_are_folders_and_archives_and_no_two_have_one_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no folder"):
        submissions.hand_ins(tmp_path / "none")
    with pytest.raises(ValueError, match="holds no hand-in"):
        submissions.hand_ins(tmp_path)
    for name in ("anna", "__MACOSX", ".git"):
        (tmp_path / name).mkdir()
    for name in ("anna.zip", "bob.ZIP", "notes.txt"):
        (tmp_path / name).write_text("")
    found, others = submissions.hand_ins(tmp_path)
    assert [hand_in.student for hand_in in found] == ["anna", "anna.zip", "bob"]
    assert others == ["notes.txt"]
    for name in ("bob.zip", "anna.zip.zip"):
        (tmp_path / name).write_text("")
    found, _ = submissions.hand_ins(tmp_path)
    assert [hand_in.student for hand_in in found] == ["anna", "anna.zip", "anna.zip.zip", "bob.ZIP", "bob.zip"]
    assert all(hand_in.path.name == hand_in.student for hand_in in found)


def cells_of(path: Path, lesson: reference.Lesson) -> tuple[dict[str, list[str]] | None, list[str]]:
    taken, remarks = submissions.exercise_cells(submissions.HandIn("x", path), [lesson])
    return taken.get(lesson.name), remarks


def test_a_notebook_is_found_wherever_it_lies(lesson: reference.Lesson, tmp_path: Path) -> None:
    text = json.dumps(notebook([exercise("98.1", "a"), exercise("98.1", "b"), "# other"]))
    deep = tmp_path / "x" / "one" / "two"
    deep.mkdir(parents=True)
    (deep / "98_tiny.ipynb").write_text(text, "utf-8-sig")
    expected = {"98.1": [exercise("98.1", "a"), exercise("98.1", "b")]}
    assert cells_of(tmp_path / "x", lesson) == (expected, [])
    (tmp_path / "x" / "98_tiny-Copy1.ipynb").write_text(json.dumps(notebook([])), "utf-8")
    (tmp_path / "x" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "x" / ".ipynb_checkpoints" / "98_tiny.ipynb").write_text("{}", "utf-8")
    assert cells_of(tmp_path / "x", lesson) == (expected, ["2 notebooks for lesson 98: graded one/two/98_tiny.ipynb"])
    (tmp_path / "y").mkdir()
    with zipfile.ZipFile(tmp_path / "y" / "work.zip", "w") as archive:
        archive.writestr("../../work\\98_tiny.ipynb", text)
        archive.writestr("__MACOSX/work/._98_tiny.ipynb", "rubbish")
    assert cells_of(tmp_path / "y", lesson) == (expected, [])
    assert cells_of(tmp_path / "y" / "work.zip", lesson) == (expected, [])
    assert {path.name for path in tmp_path.rglob("*.ipynb")} == {"98_tiny.ipynb", "98_tiny-Copy1.ipynb"}


def test_a_notebook_that_was_renamed_on_its_way_is_found(lesson: reference.Lesson, tmp_path: Path) -> None:
    def hand_in(*names: str) -> tuple[object, list[str]]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for name in names:
            (folder / name).write_text(json.dumps(notebook([exercise("98.1", name)])), "utf-8")
        taken, remarks = cells_of(folder, lesson)
        return taken and taken["98.1"][0].split("\n")[1], remarks

    for name in ("smith_98_tiny.ipynb", "98_tiny (1).ipynb", "Smith_77_assignsubmission_file_98_Tiny-2.ipynb"):
        assert hand_in(name) == (name, [])
    assert hand_in("a_98_tiny.ipynb", "98_tiny.ipynb") == ("98_tiny.ipynb", ["2 notebooks for lesson 98: graded 98_tiny.ipynb"])
    assert hand_in("b 98_tiny.ipynb", "a 98_tiny.ipynb") == (
        "a 98_tiny.ipynb",
        ["2 notebooks for lesson 98: graded a 98_tiny.ipynb"],
    )


def test_what_is_damaged_is_a_remark(lesson: reference.Lesson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submissions, "MOST_MB", 1)
    path = tmp_path / "x.zip"
    path.write_bytes(b"PK rubbish")
    assert cells_of(path, lesson) == (None, ["x.zip is damaged: File is not a zip file", "no notebook 98_tiny.ipynb"])
    cases = {
        b"{": "98_tiny.ipynb: it is no notebook (JSONDecodeError)",
        b"[" * 100_000: "98_tiny.ipynb: it is no notebook (RecursionError)",
        b"[]": "98_tiny.ipynb: it is no notebook of format 4; open and save it in JupyterLab",
        b'{"worksheets": []}': "98_tiny.ipynb: it is no notebook of format 4; open and save it in JupyterLab",
        b'{"cells": [{"cell_type": "code", "source": 3}]}': "98_tiny.ipynb: it is no notebook of format 4; open and save it in "
        "JupyterLab",
        b"\xff\xfe": "98_tiny.ipynb: it is no text in UTF-8",
        b" " * 1_000_001: "98_tiny.ipynb: it has more than 1 MB",
    }
    for content, remark in cases.items():
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("98_tiny.ipynb", content)
        assert cells_of(path, lesson) == (None, [remark])
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("98_tiny.ipynb", b"A" * 1000)
    path.write_bytes(path.read_bytes().replace(b"A" * 10, b"B" * 10, 1))
    (remark,) = cells_of(path, lesson)[1]
    assert remark.startswith("98_tiny.ipynb: it cannot be unpacked: Bad CRC-32")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("98_tiny.ipynb", b"A" * 1000)
    content = bytearray(path.read_bytes())
    content[30 + len("98_tiny.ipynb") + 4] = 0xFF  # the properties of the stream
    path.write_bytes(content)
    (remark,) = cells_of(path, lesson)[1]
    assert remark.startswith("98_tiny.ipynb: it cannot be unpacked: ")


def test_a_link_out_of_the_hand_in_is_not_followed(lesson: reference.Lesson, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "98_tiny.ipynb").write_text(json.dumps(notebook([exercise("98.1", "a")])), "utf-8")
    (tmp_path / "x" / "98_tiny.ipynb").symlink_to(tmp_path / "98_tiny.ipynb")
    os.mkfifo(tmp_path / "x" / "98_tiny-2.ipynb")
    assert cells_of(tmp_path / "x", lesson) == (None, ["no notebook 98_tiny.ipynb"])


def test_an_odd_hand_in_does_not_stop_the_run(tiny: Solved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "hand-ins"
    (folder / "empty").mkdir(parents=True)
    (folder / "broken.zip").write_bytes(b"PK")
    (folder / "=cmd()").mkdir()
    real = submissions.exercise_cells
    monkeypatch.setattr(
        submissions, "exercise_cells", lambda hand_in, lessons: 1 / 0 if hand_in.student[0] == "=" else real(hand_in, lessons)
    )
    rows = {row["student"]: row for row in rows_of(grading.grade(folder, tmp_path / "out"))}
    assert {name: row["core passed"] for name, row in rows.items()} == {"'=cmd()": "0", "broken": "0", "empty": "0"}
    assert "the grader failed with ZeroDivisionError" in rows["'=cmd()"]["remarks"]
    assert "broken.zip is damaged" in rows["broken"]["remarks"]


def test_out_in_the_hand_ins_is_refused(tiny: Solved, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="would be taken for a hand-in"):
        grading.grade(tmp_path, tmp_path / "out")
    with pytest.raises(ValueError, match="there is no lesson 97"):
        grading.grade(tmp_path, tmp_path.parent / "out", numbers=["97"])


# --- reports -----------------------------------------------------------------------------------------------------------


class Text(HTMLParser):
    """The texts of a page, and its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: set[str] = set()

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    @classmethod
    def of(cls, page: str) -> list[str]:
        found = cls()
        found.feed(page)
        assert found.tags <= {"html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "ul", "li", "section",
                              "pre", "code"}  # fmt: skip
        return [text for text in found.texts if text.strip()]


def student(lesson: reference.Lesson, name: str, text: str) -> report.Student:
    task = lesson.tasks["98.1"]
    others = tuple(verdict.Verdict(task, True, "fine") for _ in range(3))
    return report.Student(name, [verdict.Graded(lesson, (verdict.Verdict(task, False, text, text, (text,)), *others))], (text,))


NASTY = "<script>alert('x')</script> & \"quoted\" </pre></section> \ud800 \x00"


def test_a_page_shows_markup_as_text(lesson: reference.Lesson, tmp_path: Path) -> None:
    report.write(tmp_path / "page.html", report.page(student(lesson, NASTY, NASTY)))
    texts = Text.of((tmp_path / "page.html").read_text("utf-8"))
    assert sum("<script>alert('x')</script> & \"quoted\" </pre></section> \\ud800" in text for text in texts) == 6
    assert [path.name for path in tmp_path.iterdir() if "page" in path.name] == ["page.html"]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(1)", " =1", "\t=1", "\r\n=1"])
def test_no_cell_of_the_table_is_a_formula(lesson: reference.Lesson, text: str) -> None:
    made = report.table([student(lesson, text, "x")], [lesson])
    (row,) = csv.DictReader(io.StringIO(made))
    assert row["student"][0] == "'"
    odd = report.Student("x", [verdict.none_passed(lesson, "no")], (text,))
    (row,) = csv.DictReader(io.StringIO(report.table([odd], [lesson])))
    assert row["remarks"][0] == "'"


@given(st.lists(st.text(max_size=100), unique=True, max_size=8))
def test_pages_have_names_of_their_own(students: list[str]) -> None:
    names = report.page_names(students)
    assert set(names) == set(students)
    assert len({name.casefold() for name in names.values()}) == len(students)
    assert all(re.fullmatch(r"[\w-]+\.html", name) and len(name.encode()) < 400 for name in names.values())


def test_names_that_differ_in_case_or_signs_have_two_pages() -> None:
    assert report.page_names(["Anna", "anna", "anna/", "../x"]) == {
        "../x": "x.html",
        "Anna": "Anna.html",
        "anna": "anna-2.html",
        "anna/": "anna-3.html",
    }


def test_an_exercise_without_a_check_is_an_error(tiny: Solved, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "of_lesson", lambda number: {})
    with pytest.raises(ValueError, match=r"98_tiny.ipynb: exercise 98.1 has no check in lesson_98.py"):
        reference.lessons(["98"])
