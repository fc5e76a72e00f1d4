"""`python -m fliot_lab TARGET [NAME=value ...]` does what `make TARGET NAME=value` does; the Makefile only calls this.

Standard library only, and nothing newer than Python 3.8 knows: it runs before anything is installed, also on an interpreter
that is too old, to say so.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "fliot-stamp.txt"
CONDA_NAME = "fliot-lab"
PYTHONS = ((3, 11), (3, 13))

TARGETS = {
    "all": "set up, run the lessons, write results/RESULTS.md",
    "lab": "copy missing lessons to work/ and open JupyterLab there",
    "test": "set up, lint, run the tests",
    "test-slow": "run the tests that take minutes",
    "lint": "ruff, mypy and the import rules",
    "data": "fetch the nine small real captures (asks for your consent to their terms)",
    "notebooks": "rebuild notebooks/*.ipynb from notebooks/source/*.py",
    "bench": "measure side by side, write results/BENCHMARKS.md",
    "reference": "run the lessons and keep their numbers as results/reference.json",
    "clean": "remove what was built and measured; keeps work/, data/raw and .venv",
}
CHOICES = {"PROFILE": ("fast", "full"), "DATA": ("auto", "sample", "iot23")}
COURSE = ("PROFILE", "DATA", "LESSONS", "SEED", "SHUFFLE")
NEEDS_SOURCES = ("all", "test", "test-slow", "lint", "notebooks", "bench", "reference")
VARIABLES = {
    "PROFILE": "fast (default) or full",
    "DATA": "auto (default: real captures where they are present), sample or iot23",
    "LESSONS": 'numbers, as "01 03" (default: all)',
    "SEED": "a whole number (default 7)",
    "SHUFFLE": "a whole number: run the lessons in an order drawn with it",
    "PYTHON": "the interpreter to make .venv with, 3.11 to 3.13",
    "TORCH_INDEX": "address of a package index to take torch from, such as that of its CPU builds",
}

# JupyterLab asks its makers for news and updates unless it is told not to.
OFFLINE = ("--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate")
LAB = ("--LabApp.default_url=/lab/tree/index.ipynb", *OFFLINE)
STOPPED = (
    "the installation stopped (the reason stands above). It needs the package registry once; "
    "after that everything runs offline. Run the same command to try again."
)


class UsageError(Exception):
    """What was asked cannot be done, in words for the person who asked."""


def usage() -> str:
    lines = ["FLIoT Lab: make TARGET [NAME=value ...], or python -m fliot_lab TARGET [NAME=value ...]", ""]
    lines += [f"  {name:10} {text}" for name, text in TARGETS.items()]
    lines += ["", "Variables:", ""] + [f"  {name:11} {text}" for name, text in VARIABLES.items()]
    return "\n".join(lines)


def lesson_numbers() -> list:
    """The two-digit numbers of the lessons that exist, in order."""
    folder = ROOT / "notebooks"  # a student's copy has no sources
    return sorted({path.name[:2] for path in [*folder.glob("source/[0-9][0-9]_*.py"), *folder.glob("[0-9][0-9]_*.ipynb")]})


def parse(arguments: list) -> tuple:
    """(target, {NAME: value}) from the command line. Raises UsageError before anything is run."""
    targets = [word for word in arguments if "=" not in word]
    settings = dict(word.split("=", 1) for word in arguments if "=" in word)
    if len(targets) != 1 or targets[0] not in TARGETS:
        raise UsageError(f"one target is needed, got {' '.join(targets) or 'none'}\n\n{usage()}")
    for name, value in settings.items():
        if name not in VARIABLES:
            raise UsageError(f"{name} is not a variable of this course; there are {', '.join(VARIABLES)}")
        if name in CHOICES and value not in CHOICES[name]:
            raise UsageError(f"{name}={value} is unknown; choose one of {', '.join(CHOICES[name])}")
    for name in ("SEED", "SHUFFLE"):
        if not re.fullmatch(r"\d{1,9}", settings.get(name, "0")):
            raise UsageError(f"{name}={settings[name]} is not a whole number from 0 to 999999999")
    if targets[0] in NEEDS_SOURCES and not (ROOT / "notebooks" / "source").is_dir():
        raise UsageError(f"this is a student's copy, without solutions: {targets[0]} is not in it. Use lab, data or clean")
    known = lesson_numbers()
    unknown = [number for number in re.split(r"[\s,]+", settings.get("LESSONS", "").strip()) if number and number not in known]
    if unknown:
        raise UsageError(f"LESSONS: there is no lesson {', '.join(unknown)}; choose from {' '.join(known)}")
    return targets[0], settings


def check_python() -> None:
    low, high = PYTHONS
    if not low <= sys.version_info[:2] <= high:
        raise UsageError(
            f"this is Python {sys.version_info[0]}.{sys.version_info[1]} ({sys.executable}), and the course needs "
            f"{low[0]}.{low[1]} to {high[0]}.{high[1]}. Name another interpreter: make PYTHON=python3.12 ..."
        )


def venv_python() -> Path:
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def set_up(settings: dict) -> Path:
    """The interpreter that the course runs on, in an environment that holds exactly requirements.lock.

    Makes `.venv` once for each content of the lock and pyproject.toml. An active conda environment called `fliot-lab`
    (environment.yml) is used as it is.
    """
    if os.environ.get("CONDA_DEFAULT_ENV") == CONDA_NAME:
        return Path(sys.executable)
    key = hashlib.sha256()
    for name in ("requirements.lock", "pyproject.toml"):
        key.update((ROOT / name).read_bytes())
    wanted = f"{key.hexdigest()} {settings.get('TORCH_INDEX', '')}".strip()
    made = [*(STAMP.read_text().splitlines() if STAMP.is_file() else []), "", ""]
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    # Without PYTHON= an environment made with another interpreter stays in use; without TORCH_INDEX= its torch does too.
    same_lock = made[0] == wanted if "TORCH_INDEX" in settings else made[0].split(" ")[0] == key.hexdigest()
    if same_lock and ("PYTHON" not in settings or made[1] == version) and venv_python().is_file():
        return venv_python()
    check_python()
    if Path(sys.prefix).resolve() == VENV:
        raise UsageError("the environment in .venv is out of date and cannot renew itself: deactivate it, then run this again")
    print(
        f"Setting up .venv with Python {version}: about a minute with uv, up to ten with pip. This happens once.",
        flush=True,
    )
    STAMP.unlink(missing_ok=True)
    try:
        venv.EnvBuilder(clear=True, with_pip=True, symlinks=os.name != "nt").create(VENV)
    except (subprocess.CalledProcessError, OSError) as error:
        raise UsageError(
            f".venv could not be made: {error}. Debian and Ubuntu keep what makes it in the package python3-venv; "
            "or name another interpreter with PYTHON="
        ) from error
    install(venv_python(), settings.get("TORCH_INDEX"))
    STAMP.write_text(f"{wanted}\n{version}\n")
    return venv_python()


def install(python: Path, torch_index: "str | None") -> None:
    """Installs requirements.lock and this package (editable) for `python`, with uv where it can be had, else with pip."""
    pins = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "requirements.lock").read_text(), flags=re.M))
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "VIRTUAL_ENV": str(VENV)}
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    uv = run([*pip, f"uv=={pins['uv']}"], environment)
    if uv == 130:
        raise UsageError(STOPPED)
    if uv == 0:
        # pip compiles what it installs, uv only when told to; without it the first kernels take half a minute to start.
        pip = [str(python), "-m", "uv", "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python)]
        if "PIP_FIND_LINKS" in environment:  # pip's local wheels (a torch build, say); uv separates places with commas
            environment.setdefault("UV_FIND_LINKS", ",".join(environment["PIP_FIND_LINKS"].split()))
    else:
        print("uv could not be had; pip does it, and takes minutes.", flush=True)
    steps = [[*pip, "-r", "requirements.lock"], [*pip, "--no-deps", "--editable", "."]]
    if torch_index:
        steps.insert(0, [*pip, "--no-deps", "--index-url", torch_index, f"torch=={pins['torch']}"])
    for step in steps:
        if run(step, environment) != 0:
            raise UsageError(STOPPED)


def run(command: list, environment: "dict | None" = None) -> int:
    """The exit status of `command`, run in the course's folder; 130 where Ctrl-C ended it, which the child does itself."""
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    interrupted = False
    while True:
        try:
            status = process.wait()
            return 130 if interrupted and status else status
        except KeyboardInterrupt:
            interrupted = True


def lint(python: Path) -> int:
    scripts = python.parent
    commands = (
        [str(python), "-m", "ruff", "check", "."],
        [str(python), "-m", "ruff", "format", "--check", "."],
        [str(python), "-m", "mypy"],
        [str(scripts / "lint-imports")],
    )
    return max([run(command) for command in commands])


def test(python: Path, *arguments: str) -> int:
    return run([str(python), "-m", "pytest", *arguments])


def lab(python: Path) -> int:
    """Opens JupyterLab on work/, where every lesson that is missing has been copied. What is there is never overwritten."""
    work = ROOT / "work"
    work.mkdir(exist_ok=True)
    for lesson in sorted((ROOT / "notebooks").glob("*.ipynb")):
        if not (work / lesson.name).exists():
            shutil.copyfile(lesson, work / lesson.name)
            print(f"copied {lesson.name} to work/")
    return run([str(python), "-m", "jupyter", "lab", "--notebook-dir", str(work), *LAB])


def clean() -> int:
    """Removes what the course made itself: results, builds, the simulated captures, caches."""
    generated = [ROOT / "build", ROOT / "data" / "sample", ROOT / ".mypy_cache", ROOT / ".ruff_cache"]
    generated += [ROOT / ".import_linter_cache", ROOT / ".hypothesis"]
    generated += [*list((ROOT / "results").glob("*-*.json")), ROOT / "results" / "RESULTS.md"]
    for path in generated:
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()
    return 0


def main(arguments: list) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    try:
        target, settings = parse(arguments)
        if target == "clean":
            return clean()
        if os.environ.get("FLIOT_DATA"):  # relative to where the person stands, not to where a kernel runs
            os.environ["FLIOT_DATA"] = str(Path(os.environ["FLIOT_DATA"]).expanduser().resolve())
        python = set_up(settings)
    except UsageError as error:
        print(f"fliot_lab: {error}", file=sys.stderr)
        return 2
    fliot = [str(python), "-m", "fliot_lab.cli"]
    course = [word for name in COURSE if name in settings for word in (f"--{name.lower()}", settings[name])]
    actions = {
        "all": lambda: run([*fliot, "course", "run", *course]),
        "reference": lambda: run([*fliot, "course", "run", "--reference", *course]),
        "notebooks": lambda: run([*fliot, "course", "build"]),
        "data": lambda: run([*fliot, "data", "fetch"]),
        "bench": lambda: run([str(python), "-m", "benchmarks"]),
        "lab": lambda: lab(python),
        "lint": lambda: lint(python),
        "test": lambda: lint(python) or test(python, "--ignore=tests/slow"),
        "test-slow": lambda: test(python, "tests/slow"),
    }
    return actions[target]()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
