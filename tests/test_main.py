"""`python -m fliot_lab` and make: what they understand, how they set up, and what they leave alone. Nothing is installed."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fliot_lab import ROOT
from fliot_lab import __main__ as main

LOCK = "# made by a test\nnumpy==2.4.6 ; python_version < '3.12'\ntorch==2.13.0\nuv==0.12.24\n"
THIS = f"{sys.version_info[0]}.{sys.version_info[1]}"
INDEX = "https://index.example/cpu"


class Course:
    """A checkout in a temporary folder, and what was run in it. `status` says how a command ends."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.commands: list[list[str]] = []
        self.environments: list[dict[str, str]] = []
        self.made = 0
        self.status: Callable[[list[str]], int] = lambda command: 0

    def run(self, command: list[str], environment: dict[str, str] | None = None) -> int:
        self.commands.append(command)
        self.environments.append(environment or {})
        return self.status(command)

    def words(self) -> list[str]:
        """The commands, with .venv's interpreter left out."""
        python = str(main.venv_python())
        return [" ".join(word for word in command if word != python) for command in self.commands]

    def builder(self, **options: Any) -> SimpleNamespace:
        assert options["clear"]
        assert options["with_pip"]
        return SimpleNamespace(create=self.create)

    def create(self, folder: Path) -> None:
        self.made += 1
        shutil.rmtree(folder, ignore_errors=True)
        main.venv_python().parent.mkdir(parents=True)
        main.venv_python().touch()


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Course:
    root = tmp_path / "course"
    for folder in ("notebooks/source", "results", "data"):
        (root / folder).mkdir(parents=True)
    (root / "requirements.lock").write_text(LOCK)
    (root / "pyproject.toml").write_text("[project]\n")
    for name in ("01_first", "03_third"):
        (root / "notebooks" / "source" / f"{name}.py").write_text("")
        (root / "notebooks" / f"{name}.ipynb").write_text(f"{name} as given out")
    made = Course(root)
    monkeypatch.setattr(main, "ROOT", root)
    monkeypatch.setattr(main, "VENV", root / ".venv")
    monkeypatch.setattr(main, "STAMP", root / ".venv" / "fliot-stamp.txt")
    monkeypatch.setattr(main, "run", made.run)
    monkeypatch.setattr(main.venv, "EnvBuilder", made.builder)
    for name in ("CONDA_DEFAULT_ENV", "PIP_FIND_LINKS", "UV_FIND_LINKS", "FLIOT_DATA"):
        monkeypatch.delenv(name, raising=False)
    return made


def python_is(monkeypatch: pytest.MonkeyPatch, *version: int) -> None:
    like_sys = SimpleNamespace(version_info=(*version, 0), executable="/usr/bin/pythonX", prefix="/usr", stderr=sys.stderr)
    monkeypatch.setattr(main, "sys", like_sys)


# --- what is understood ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["all"], ("all", {})),
        (["PROFILE=full", "all", "DATA=iot23"], ("all", {"PROFILE": "full", "DATA": "iot23"})),
        (["all", "LESSONS=01 03"], ("all", {"LESSONS": "01 03"})),
        (["all", "LESSONS=03,01"], ("all", {"LESSONS": "03,01"})),
        (["all", "LESSONS=", "SEED=0"], ("all", {"LESSONS": "", "SEED": "0"})),
        (["test", "TORCH_INDEX=https://index.example/a?b=c"], ("test", {"TORCH_INDEX": "https://index.example/a?b=c"})),
        *(([target], (target, {})) for target in main.TARGETS),
    ],
)
def test_good_words_are_understood(course: Course, words: list[str], expected: tuple[str, dict[str, str]]) -> None:
    assert main.parse(words) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["al"], "one target is needed, got al\n\nFLIoT Lab: make TARGET"),
        (["all", "test"], "one target is needed, got all test"),
        (["SEED=7"], "one target is needed, got none"),
        (["all", "PROFIL=fast"], "PROFIL is not a variable of this course; there are PROFILE, DATA"),
        (["all", "profile=fast"], "profile is not a variable"),
        (["all", "PROFILE=slow"], "PROFILE=slow is unknown; choose one of fast, full"),
        (["all", "PROFILE="], "PROFILE= is unknown"),
        (["all", "DATA=mnist"], "DATA=mnist is unknown; choose one of auto, sample, iot23"),
        (["all", "LESSONS=02"], "LESSONS: there is no lesson 02; choose from 01 03"),
        (["all", "LESSONS=01 1,x"], "LESSONS: there is no lesson 1, x; choose from 01 03"),
        (["all", "SEED=seven"], "SEED=seven is not a whole number from 0 to 999999999"),
        (["all", "SEED=-1"], "SEED=-1 is not a whole number"),
        (["all", "SEED="], "SEED= is not a whole number"),
        (["all", "SEED=1234567890"], "SEED=1234567890 is not a whole number"),
        (["all", "SHUFFLE=yes"], "SHUFFLE=yes is not a whole number"),
    ],
)
def test_bad_words_are_refused_before_anything_is_run(
    course: Course, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    with pytest.raises(main.UsageError, match=re.escape(message)):
        main.parse(words)
    assert main.main(words) == 2
    assert capsys.readouterr().err.startswith(f"fliot_lab: {message.partition(chr(10))[0]}")
    assert (course.commands, course.made) == ([], 0)


def test_a_students_copy_says_what_is_not_in_it(course: Course, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(course.root / "notebooks" / "source")
    for target in main.TARGETS:
        if target in ("lab", "data", "clean"):
            assert main.parse([target]) == (target, {})
        else:
            assert main.main([target]) == 2
            assert f"a student's copy, without solutions: {target} is not in it" in capsys.readouterr().err
    assert (course.commands, course.made) == ([], 0)


def test_the_usage_names_every_target_and_variable(capsys: pytest.CaptureFixture[str]) -> None:
    text = main.usage()
    for name, meaning in [*main.TARGETS.items(), *main.VARIABLES.items()]:
        assert re.search(rf"^  {name} +{re.escape(meaning)}$", text, flags=re.M)
    for words in ([], ["help"], ["-h"], ["--help"]):
        assert main.main(words) == 0
        assert capsys.readouterr().out == text + "\n"
    assert set(main.CHOICES) | set(main.COURSE) <= set(main.VARIABLES)


def test_make_has_the_same_targets() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = re.search(r"^TARGETS := (.*)$", makefile, flags=re.M)
    assert targets is not None
    assert sorted(targets[1].split()) == sorted(main.TARGETS)


def test_each_target_runs_its_commands_in_the_environment(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "set_up", lambda settings: main.venv_python())
    lint = ["-m ruff check .", "-m ruff format --check .", "-m mypy", str(main.venv_python().parent / "lint-imports")]
    expected = {
        "all": ["-m fliot_lab.cli course run"],
        "reference": ["-m fliot_lab.cli course run --reference"],
        "notebooks": ["-m fliot_lab.cli course build"],
        "data": ["-m fliot_lab.cli data fetch"],
        "bench": ["-m benchmarks"],
        "lab": [f"-m jupyter lab --notebook-dir {course.root / 'work'} {' '.join(main.LAB)}"],
        "lint": lint,
        "test": [*lint, "-m pytest --ignore=tests/slow"],
        "test-slow": ["-m pytest tests/slow"],
    }
    assert {*expected, "clean"} == set(main.TARGETS)
    for target, commands in expected.items():
        course.commands.clear()
        assert main.main([target]) == 0
        assert course.words() == commands


def test_a_course_run_is_told_what_was_asked_and_its_status_comes_back(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "set_up", lambda settings: main.venv_python())
    course.status = lambda command: 130
    assert main.main(["all", "SEED=3", "LESSONS=01 03", "DATA=sample", "PROFILE=full", "SHUFFLE=5", "PYTHON=python3.12"]) == 130
    asked = ["--profile", "full", "--data", "sample", "--lessons", "01 03", "--seed", "3", "--shuffle", "5"]
    assert course.commands == [[str(main.venv_python()), "-m", "fliot_lab.cli", "course", "run", *asked]]


def test_every_lint_speaks_and_a_failing_one_stops_the_tests(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "set_up", lambda settings: main.venv_python())
    course.status = lambda command: 1 if "mypy" in command else 0
    assert main.main(["test"]) == 1
    assert len(course.commands) == 4
    assert not any("pytest" in command for command in course.commands)


def test_fliot_data_is_taken_from_where_the_person_stands(
    course: Course, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "set_up", lambda settings: main.venv_python())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLIOT_DATA", "mine")
    main.main(["all"])
    assert os.environ["FLIOT_DATA"] == str(tmp_path / "mine")


# --- setting up --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [(3, 8), (3, 10), (3, 14), (4, 0)])
def test_another_python_is_refused_with_what_to_do(course: Course, monkeypatch: pytest.MonkeyPatch, version, capsys) -> None:
    python_is(monkeypatch, *version)
    wanted = rf"this is Python {version[0]}\.{version[1]} \(/usr/bin/pythonX\), .* 3\.11 to 3\.13.*make PYTHON=python3\.12"
    with pytest.raises(main.UsageError, match=wanted):
        main.check_python()
    assert main.main(["all"]) == 2
    assert re.search(wanted, capsys.readouterr().err)
    assert (course.commands, course.made) == ([], 0)


@pytest.mark.parametrize("minor", [11, 12, 13])
def test_the_pythons_of_pyproject_are_taken(monkeypatch: pytest.MonkeyPatch, minor: int) -> None:
    python_is(monkeypatch, 3, minor)
    main.check_python()
    (low, high) = main.PYTHONS
    bounds = f'requires-python = ">=3.{low[1]},<3.{high[1] + 1}"'
    assert bounds in (ROOT / "pyproject.toml").read_text("utf-8")


def test_an_environment_is_made_once_for_each_lock(course: Course) -> None:
    assert main.set_up({}) == main.venv_python()
    assert (course.made, len(course.commands)) == (1, 3)
    for _ in range(2):
        assert main.set_up({}) == main.venv_python()
    assert main.set_up({"PYTHON": "python3"}) == main.venv_python()
    assert (course.made, len(course.commands)) == (1, 3)  # nothing more was done
    for name in ("requirements.lock", "pyproject.toml"):
        before = course.made
        (course.root / name).write_text((course.root / name).read_text() + "# changed\n")
        main.set_up({})
        main.set_up({})
        assert course.made == before + 1


def test_an_environment_is_made_anew_where_it_is_not_what_was_asked_for(course: Course) -> None:
    main.set_up({})
    main.venv_python().unlink()  # broken
    main.set_up({})
    assert course.made == 2
    main.set_up({"TORCH_INDEX": INDEX})  # another torch
    main.set_up({"TORCH_INDEX": INDEX})
    main.set_up({})  # nobody asks for another one
    assert course.made == 3
    main.STAMP.write_text(main.STAMP.read_text().replace(f"\n{THIS}\n", "\n3.0\n"))
    main.set_up({})  # made with another interpreter, and nobody asks for this one
    assert course.made == 3
    main.set_up({"PYTHON": sys.executable})
    assert course.made == 4


@pytest.mark.parametrize("stamp", ["", "\n", "half a hash", "\nno hash\n"])
def test_a_damaged_stamp_counts_as_none(course: Course, stamp: str) -> None:
    main.set_up({})
    main.STAMP.write_text(stamp)
    main.set_up({"PYTHON": sys.executable})
    assert course.made == 2


def test_an_active_conda_environment_is_used_as_it_is(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDA_DEFAULT_ENV", main.CONDA_NAME)
    assert main.set_up({}) == Path(sys.executable)
    assert (course.commands, course.made) == ([], 0)
    monkeypatch.setenv("CONDA_DEFAULT_ENV", "base")
    assert main.set_up({}) == main.venv_python()


def test_the_environment_does_not_renew_itself_from_within(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(main.VENV))
    with pytest.raises(main.UsageError, match="deactivate it"):
        main.set_up({})
    assert course.made == 0


def test_a_failing_install_leaves_no_stamp_and_is_tried_again(course: Course, capsys: pytest.CaptureFixture[str]) -> None:
    main.set_up({})
    (course.root / "requirements.lock").write_text(LOCK + "tqdm==4.70.1\n")
    course.status = lambda command: 1 if "requirements.lock" in command else 0
    for made in (2, 3):
        assert main.main(["lint"]) == 2
        assert "the installation stopped" in capsys.readouterr().err
        assert not main.STAMP.exists()
        assert course.made == made
    course.status = lambda command: 0
    assert main.set_up({}) == main.venv_python()
    assert main.STAMP.exists()


def test_an_environment_that_cannot_be_made_leaves_no_stamp(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    main.set_up({})
    (course.root / "requirements.lock").write_text(LOCK + "tqdm==4.70.1\n")

    def fail(folder: Path) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(course, "create", fail)
    with pytest.raises(main.UsageError, match=r"the disk is full.*python3-venv"):
        main.set_up({})
    assert not main.STAMP.exists()


# --- installing --------------------------------------------------------------------------------------------------------


def steps(course: Course) -> list[tuple[str, str]]:
    """(uv or pip, what it was told to install) of each command."""
    found = []
    for command in course.commands:
        tool, words = command[2], command[command.index("install") + 1 :]
        if tool == "uv":
            place = words.index("--python")
            assert words[place + 1] == command[0] == str(main.venv_python())
            del words[place : place + 2]
        found.append((tool, " ".join(word for word in words if word not in ("--quiet", "--compile-bytecode"))))
    return found


LAST_STEPS = ("-r requirements.lock", "--no-deps --editable .")


def test_uv_installs_the_lock_and_then_the_package(course: Course) -> None:
    main.install(main.venv_python(), None)
    assert steps(course) == [("pip", "uv==0.12.24"), *(("uv", step) for step in LAST_STEPS)]
    assert all(environment["VIRTUAL_ENV"] == str(main.VENV) for environment in course.environments)


def test_pip_installs_where_uv_cannot_be_had(course: Course, capsys: pytest.CaptureFixture[str]) -> None:
    course.status = lambda command: 1 if "uv==0.12.24" in command else 0
    main.install(main.venv_python(), None)
    assert steps(course)[1:] == [("pip", step) for step in LAST_STEPS]
    assert "uv could not be had" in capsys.readouterr().out


def test_ctrl_c_while_uv_is_fetched_stops_the_installation(course: Course) -> None:
    course.status = lambda command: 130
    with pytest.raises(main.UsageError, match="Run the same command to try again"):
        main.install(main.venv_python(), None)
    assert len(course.commands) == 1


@pytest.mark.parametrize("tool", ["uv", "pip"])
def test_torch_comes_first_and_alone_from_the_index_that_was_named(course: Course, tool: str) -> None:
    course.status = lambda command: 1 if tool == "pip" and "uv==0.12.24" in command else 0
    main.install(main.venv_python(), INDEX)
    torch = f"--no-deps --index-url {INDEX} torch==2.13.0"
    assert steps(course)[1:] == [(tool, step) for step in (torch, *LAST_STEPS)]


def test_pips_local_wheels_are_uvs_too(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip separates places with spaces, uv with commas."""
    monkeypatch.setenv("PIP_FIND_LINKS", "/opt/wheels  https://wheels.example/simple")
    main.install(main.venv_python(), None)
    places = [environment["UV_FIND_LINKS"] for environment in course.environments[1:]]
    assert places == ["/opt/wheels,https://wheels.example/simple"] * 2
    course.environments.clear()
    monkeypatch.setenv("UV_FIND_LINKS", "/my/own")
    main.install(main.venv_python(), None)
    assert [environment["UV_FIND_LINKS"] for environment in course.environments[1:]] == ["/my/own"] * 2


def test_the_real_lock_pins_what_install_looks_up() -> None:
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text("utf-8"), flags=re.M)
    assert {"uv", "torch"} <= set(pinned)


@pytest.mark.parametrize("step", ["torch==2.13.0", "requirements.lock", "--editable"])
def test_the_first_step_that_fails_ends_the_installation(course: Course, step: str) -> None:
    course.status = lambda command: 1 if step in command else 0
    with pytest.raises(main.UsageError, match="the installation stopped"):
        main.install(main.venv_python(), INDEX)
    assert step in course.commands[-1]


def test_a_command_runs_in_the_courses_folder_and_its_status_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "ROOT", tmp_path)
    script = "import os, pathlib, sys; pathlib.Path('here').write_text(os.environ['SAID']); sys.exit(5)"
    assert main.run([sys.executable, "-S", "-c", script], {**os.environ, "SAID": "hello"}) == 5
    assert (tmp_path / "here").read_text() == "hello"


# --- lab and clean -----------------------------------------------------------------------------------------------------


def test_lab_copies_what_is_missing_and_never_overwrites(course: Course, capsys: pytest.CaptureFixture[str]) -> None:
    work = course.root / "work"
    assert main.lab(main.venv_python()) == 0
    assert {path.name: path.read_text() for path in work.iterdir()} == {
        "01_first.ipynb": "01_first as given out", "03_third.ipynb": "03_third as given out",
    }  # fmt: skip
    (work / "01_first.ipynb").write_text("solved by a student")
    (work / "own.ipynb").write_text("her own")
    (work / "03_third.ipynb").unlink()
    (course.root / "notebooks" / "01_first.ipynb").write_text("a newer version")
    capsys.readouterr()
    assert main.lab(main.venv_python()) == 0
    assert {path.name: path.read_text() for path in work.iterdir()} == {
        "01_first.ipynb": "solved by a student", "03_third.ipynb": "03_third as given out", "own.ipynb": "her own",
    }  # fmt: skip
    assert capsys.readouterr().out == "copied 03_third.ipynb to work/\n"
    assert course.commands[-1][1:] == ["-m", "jupyter", "lab", "--notebook-dir", str(work), *main.LAB]


GENERATED = (
    "build/notebooks/01_first.ipynb",
    "data/sample/seed-7/SIM-1/bro/conn.log.labeled",
    "results/sample-fast.json",
    "results/iot23-full.json",
    "results/RESULTS.md",
    ".mypy_cache/x",
    ".ruff_cache/x",
    ".hypothesis/x",
    ".import_linter_cache/x",
)
KEPT = (
    "work/01_first.ipynb",
    "data/raw/CTU-IoT-Malware-Capture-34-1/bro/conn.log.labeled",
    "data/catalogue.csv",
    "results/reference.json",
    "results/BENCHMARKS.md",
    "notebooks/01_first.ipynb",
    "notebooks/source/01_first.py",
    ".venv/bin/tool",
    "requirements.lock",
)


def test_clean_removes_what_the_course_made_and_nothing_else(course: Course) -> None:
    for name in GENERATED + KEPT:
        (course.root / name).parent.mkdir(parents=True, exist_ok=True)
        (course.root / name).write_text("x")
    before = {path for path in course.root.rglob("*") if path.is_file()}
    assert main.main(["clean"]) == 0
    after = {path for path in course.root.rglob("*") if path.is_file()}
    assert before - after == {course.root / name for name in GENERATED}
    assert not (course.root / "build").exists()
    assert main.main(["clean"]) == 0  # where there is nothing
    assert {path for path in course.root.rglob("*") if path.is_file()} == after
    assert (course.commands, course.made) == ([], 0)  # no environment is needed for it


def test_what_clean_removes_is_ignored_by_git_and_the_rest_of_results_is_not() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text("utf-8").splitlines()}
        assert {"build", "work", "data/sample", "results/*"} <= ignored
        return
    command = ["git", "check-ignore", "--no-index", *GENERATED, *KEPT]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert set(answer.stdout.split()) == {*GENERATED, "work/01_first.ipynb", ".venv/bin/tool", KEPT[1]}


# --- make --------------------------------------------------------------------------------------------------------------


def make(*words: str) -> subprocess.CompletedProcess[str]:
    """make, as a person would call it: without the variables of a make that runs these tests."""
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name and name not in main.VARIABLES}
    command = ["make", "--no-print-directory", *words, f"PYTHON={sys.executable}"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make on this machine")


@needs_make
def test_make_alone_prints_the_usage() -> None:
    answer = make()
    assert (answer.returncode, answer.stdout.strip(), answer.stderr) == (0, main.usage().strip(), "")


@needs_make
def test_make_passes_variables_on_and_refuses_bad_ones() -> None:
    answer = make("all", "PROFILE=nonsense")
    assert answer.returncode != 0
    assert "fliot_lab: PROFILE=nonsense is unknown; choose one of fast, full" in answer.stderr
    assert "Traceback" not in answer.stderr
    answer = make("all", "LESSONS=98 99")  # a value with a space arrives whole
    assert answer.returncode != 0
    assert "LESSONS: there is no lesson 98, 99" in answer.stderr


@needs_make
def test_make_has_one_command_for_each_target() -> None:
    answer = make("-n", *main.TARGETS)
    assert answer.returncode == 0
    commands = [line.split()[1:4] for line in answer.stdout.splitlines()]
    assert commands == [["-m", "fliot_lab", target] for target in main.TARGETS]


# --- the file itself ---------------------------------------------------------------------------------------------------


def test_an_old_python_can_read_the_file_to_be_told_that_it_is_old() -> None:
    source = (ROOT / "fliot_lab" / "__main__.py").read_text("utf-8")
    tree = ast.parse(source, feature_version=(3, 8))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names
    for node in ast.walk(tree):  # annotations are evaluated: `list[str]` and `str | None` came after 3.8
        notes = [node.returns] if isinstance(node, ast.FunctionDef) else []
        notes += [node.annotation] if isinstance(node, ast.arg | ast.AnnAssign) else []
        for note in notes:
            assert note is None or isinstance(note, ast.Name | ast.Attribute | ast.Constant), ast.unparse(note)
    for name in ("fliot_lab/__init__.py",):  # is imported before it
        ast.parse((ROOT / name).read_text("utf-8"), feature_version=(3, 8))
