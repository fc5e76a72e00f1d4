"""environment.yml, requirements.lock and pyproject.toml say the same, and no file names a registry."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from fliot_lab import ROOT
from fliot_lab.__main__ import CONDA_NAME, TARGETS

#: conda-forge's name of a package that has another one elsewhere. The first two say: without parts for a GPU.
CONDA_NAMES = {
    "torch": "pytorch-cpu",
    "xgboost": "py-xgboost",
    "duckdb": "python-duckdb",
    "matplotlib": "matplotlib-base",
    "seaborn": "seaborn-base",
}
STAND_INS = {"xgboost": {"xgboost", "xgboost-cpu"}}  # in the lock; .ci/lock says why
USED_BY = re.compile(rf"(\d\d((, | to )\d\d)*|all lessons|make ({'|'.join(TARGETS)})|fliot( [a-z]+)?): \S.*")


def pyproject() -> dict[str, SpecifierSet]:
    """Every direct dependency, developers' included, with its bounds."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    requirements = [Requirement(text) for text in project["dependencies"] + project["optional-dependencies"]["dev"]]
    assert len({requirement.name for requirement in requirements}) == len(requirements)
    return {requirement.name: requirement.specifier for requirement in requirements}


def lock() -> list[Requirement]:
    lines = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]


def locked_versions(name: str) -> set[str]:
    """The versions that the lock pins for any Python or system, one for most packages."""
    pins = [requirement for requirement in lock() if requirement.name in STAND_INS.get(name, {name})]
    return {specifier.version for requirement in pins for specifier in requirement.specifier}


def environment_lines() -> dict[str, tuple[str, str]]:
    """Entry of environment.yml -> (conda or pip, the comment on its line)."""
    text = (ROOT / "environment.yml").read_text("utf-8")
    *conda, last = yaml.safe_load(text)["dependencies"]
    assert list(last) == ["pip"], "pip's part comes last"
    comments = dict(re.findall(r"^ +- (\S+|-e \.)(?: +# (.*))?$", text, flags=re.M))
    entries = [(entry, "conda") for entry in conda] + [(entry, "pip") for entry in last["pip"]]
    assert len(dict(entries)) == len(entries)
    return {entry: (tool, comments[entry]) for entry, tool in entries}


def parsed(entry: str, tool: str) -> tuple[str, set[str]]:
    """(name, versions) of `name=version`, `name=one|other`, `name=version=build` (conda), or `name==version` (pip)."""
    found = re.fullmatch(r"([\w-]+)==([\w.]+)" if tool == "pip" else r"([\w-]+)=([\w.|]+)(?:=[\w*]+)?", entry)
    assert found, f"{entry} is not pinned exactly"
    return found[1], set(found[2].split("|"))


def test_the_environment_is_conda_forges_and_has_the_name_that_make_looks_for() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    assert environment["name"] == CONDA_NAME
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    assert set(environment) == {"name", "channels", "dependencies"}
    python, pip, *_ = environment["dependencies"]
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["requires-python"]
    assert (python, pip) == (f"python{requires}", "pip")


def test_the_environment_holds_each_dependency_once_in_the_locks_version() -> None:
    expected = {name: locked_versions(name) for name in pyproject()}
    found = {}
    for entry, (tool, _) in environment_lines().items():
        if entry not in ("pip", "-e .") and not entry.startswith("python>="):
            name, versions = parsed(entry, tool)
            found[(tool, name)] = versions
    named = {
        ("pip", name) if ("pip", name) in found else ("conda", CONDA_NAMES.get(name, name)): versions
        for name, versions in expected.items()
    }
    assert found == named
    assert environment_lines()["-e ."][0] == "pip"  # a kernel that runs in work/ finds the course's package, too


def test_every_line_says_who_needs_it() -> None:
    for entry, (_, comment) in environment_lines().items():
        if entry != "pip" and not entry.startswith("python>="):
            assert USED_BY.fullmatch(comment), f"{entry}: say which lesson or command uses it, got {comment!r}"
            assert all(int(number) <= 12 for number in re.findall(r"^\d\d|(?<=, )\d\d|(?<=to )\d\d", comment.partition(":")[0]))


def test_the_lock_pins_every_dependency_exactly_and_within_its_bounds() -> None:
    for name, bounds in pyproject().items():
        versions = locked_versions(name)
        assert versions, f"{name} is not in requirements.lock; run .ci/lock"
        for version in versions:
            assert Version(version) in bounds, f"{name} {version} is not {bounds}"


def test_the_lock_is_exact_and_names_no_index() -> None:
    for requirement in lock():
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", requirement
        assert not specifier.version.endswith("*"), requirement
        assert requirement.url is None, requirement
    text = (ROOT / "requirements.lock").read_text("utf-8")
    assert not re.search(r"^\s*-|://|\+cpu|\+cu\d", text, flags=re.M)


@pytest.mark.parametrize("name", sorted(pyproject()))
def test_each_python_and_system_gets_one_version(name: str) -> None:
    pins = [requirement for requirement in lock() if requirement.name in STAND_INS.get(name, {name})]
    for python in ("3.11.0", "3.11.9", "3.12.4", "3.13.1"):
        for system, machine in (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("win32", "AMD64")):
            here = {
                "python_version": python.rpartition(".")[0],
                "python_full_version": python,
                "sys_platform": system,
                "platform_machine": machine,
                "implementation_name": "cpython",
                "platform_python_implementation": "CPython",
                "os_name": "nt" if system == "win32" else "posix",
            }
            fitting = [pin for pin in pins if pin.marker is None or pin.marker.evaluate(here)]
            assert len(fitting) == 1, (python, system, fitting)


def own_files() -> list[Path]:
    """Every file of the repository that git tracks or would track; without git, all but what is generated."""
    if shutil.which("git") is not None and (ROOT / ".git").exists():
        command = ["git", "ls-files", "-z", "-c", "-o", "--exclude-standard"]
        names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30).stdout.split("\0")
        return [ROOT / name for name in names if name and (ROOT / name).is_file()]
    generated = {".venv", "build", "work", "results", "raw", "__pycache__", ".mypy_cache", ".ruff_cache", ".hypothesis"}
    return [path for path in ROOT.rglob("*") if path.is_file() and not generated & set(path.relative_to(ROOT).parts)]


def test_no_file_names_a_registry() -> None:
    """Where packages come from is each user's own setting, a mirror perhaps."""
    hosts = [".".join(parts) for parts in (("pypi", "org"), ("anaconda", "org"), ("download", "pytorch", "org"))]
    hosts = [host.encode() for host in [*hosts, "python" + "hosted"]]
    files = own_files()
    assert {ROOT / "pyproject.toml", ROOT / "requirements.lock", ROOT / "environment.yml", Path(__file__)} <= set(files)
    found = [(path.relative_to(ROOT), host) for path in files for host in hosts if host in path.read_bytes().lower()]
    assert not found
