"""The rule of tests/conftest.py: a test may be skipped only where tests/allowed_skips.txt lists it."""

import ast
from pathlib import Path

import pytest

from fliot_lab import ROOT

pytest_plugins = ["pytester"]
TESTS = ROOT / "tests"

SKIPS = """
import pytest

def test_passes(): pass

@pytest.mark.skip(reason="no captures here")
def test_listed(): pass

@pytest.mark.parametrize("kind", ["one", "two"])
def test_listed_with_parameters(kind): pytest.skip("no captures here")

@pytest.fixture
def captures(): pytest.skip("no captures here")

def test_listed_by_its_fixture(captures): pass
"""
LISTED = ["test_it.py::test_listed", "test_it.py::test_listed_with_parameters", "test_it.py::test_listed_by_its_fixture"]


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder with this suite's conftest.py and a list of three skips."""
    pytester.makeconftest((TESTS / "conftest.py").read_text("utf-8"))
    pytester.path.joinpath("allowed_skips.txt").write_text("# a comment\n\n" + "\n".join(LISTED) + "\n")
    return pytester


def test_listed_skips_pass(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=SKIPS)
    result = suite.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, skipped=4)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.no_fnmatch_line("*does not list*")


@pytest.mark.parametrize(
    "skip",
    [
        'def test_other(): pytest.skip("too slow today")',
        '@pytest.mark.skip(reason="too slow today")\ndef test_other(): pass',
        '@pytest.mark.skipif(True, reason="too slow today")\ndef test_other(): pass',
        'class TestListed:\n    def test_listed(self): pytest.skip("too slow today")',
    ],
    ids=["in the test", "mark", "condition", "in a class"],
)
def test_any_other_skip_fails_the_run_and_is_named(suite: pytest.Pytester, skip: str) -> None:
    suite.makepyfile(test_it=SKIPS, test_more="import pytest\n\n" + skip)
    result = suite.runpytest_inprocess("-p", "no:cacheprovider")
    assert result.parseoutcomes() == {"passed": 1, "skipped": 5}  # no test failed, and yet
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*skips that tests/allowed_skips.txt does not list*", "test_more.py::*test_*too slow today*"])
    result.stdout.no_fnmatch_line("test_it.py::*no captures here*")


def test_a_module_that_skips_itself_fails_the_run(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=SKIPS, test_more='import pytest\n\npytest.importorskip("no_such_library")')
    result = suite.runpytest_inprocess("-p", "no:cacheprovider")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["test_more.py: skipped while it was collected"])


def test_a_failure_stays_a_failure(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_it=SKIPS, test_more="def test_wrong(): assert False")
    result = suite.runpytest_inprocess("-p", "no:cacheprovider")
    assert result.parseoutcomes() == {"passed": 1, "skipped": 4, "failed": 1}
    assert result.ret == pytest.ExitCode.TESTS_FAILED


# --- the list itself ---------------------------------------------------------------------------------------------------


def is_mark(decorator: ast.expr, name: str) -> bool:
    """Whether the decorator is `pytest.mark.<name>`, called or not."""
    mark = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(mark) == f"pytest.mark.{name}"


def functions_of(path: Path) -> dict[str, ast.FunctionDef]:
    """Node id, without parameters -> test function."""
    tree = ast.parse(path.read_text("utf-8"))
    name = path.relative_to(ROOT).as_posix()
    return {f"{name}::{node.name}": node for node in tree.body if isinstance(node, ast.FunctionDef) and "test_" in node.name}


def test_the_list_holds_each_real_test_and_nothing_that_is_gone() -> None:
    lines = (TESTS / "allowed_skips.txt").read_text("utf-8").splitlines()
    listed = [line for line in lines if line.strip() and not line.startswith("#")]
    assert len(set(listed)) == len(listed)
    functions = {name: node for path in sorted(TESTS.rglob("test_*.py")) for name, node in functions_of(path).items()}
    real = {name for name, node in functions.items() if any(is_mark(mark, "real") for mark in node.decorator_list)}
    assert real, "the tests on real captures are not recognised any more"
    assert real <= set(listed), f"not in tests/allowed_skips.txt: {sorted(real - set(listed))}"
    assert set(listed) <= set(functions), f"in tests/allowed_skips.txt, but gone: {sorted(set(listed) - set(functions))}"
