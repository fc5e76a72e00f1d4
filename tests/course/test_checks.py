"""Checks: each passes on the solution, names each planted wrong answer, changes nothing, and no constant satisfies it.

The exercises are taken out of the sources here once more, by hand, so that nothing rests on the code that builds notebooks.
"""

import ast
import copy
import io
import re
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from scipy.stats import rankdata
from sklearn.tree import DecisionTreeClassifier

from fliot_lab import ROOT, evaluation, plots
from fliot_lab.course import checks
from fliot_lab.course.checks import CheckFailed
from fliot_lab.course.grading import values
from fliot_lab.data import splits

SOURCES = {path.name[:2]: path for path in sorted((ROOT / "notebooks" / "source").glob("[0-9][0-9]_*.py"))}
MODULES = {path.stem[-2:] for path in Path(checks.__file__).parent.glob("lesson_[0-9][0-9].py")}
CODE_CELL = re.compile(r"^# %%(?: tags=\[(.*?)\])?\n(.*?)(?=^# %%|\Z)", flags=re.M | re.S)
SOLUTION = re.compile(r"^( *)# solution\n.*?# end solution$", flags=re.M | re.S)


def naive_exercises() -> Iterator[tuple[str, str, str, str]]:
    """(number, imports, code, code of the check) of every exercise in the sources."""
    for number, path in SOURCES.items():
        code_cells = [(tags or "", code) for tags, code in CODE_CELL.findall(path.read_text("utf-8"))]
        statements = [node for _, code in code_cells for node in ast.parse(code).body]
        imports = "\n".join(ast.unparse(node) for node in statements if isinstance(node, ast.Import | ast.ImportFrom))
        for place, (tags, code) in enumerate(code_cells):
            if '"exercise"' in tags:
                found = re.match(r"# Exercise (\d+\.\d+)", code)
                assert found, f"lesson {number}: {code[:60]!r}"
                yield found[1], imports, code, code_cells[place + 1][1]


EXERCISES = {number: (imports, code, checked) for number, imports, code, checked in naive_exercises()}
CHECKS = {exercise: known for number in sorted(SOURCES) for exercise, known in checks.of_lesson(number).items()}
every = pytest.mark.parametrize("number", EXERCISES)
planted = pytest.mark.parametrize(
    ("number", "wrong", "words"),
    [
        pytest.param(number, wrong, words, id=f"{number} {wrong.__name__}")
        for number, known in CHECKS.items()
        for wrong, words in known.wrong.items()
    ],
)


def function(number: str, code: str | None = None) -> Callable[..., Any]:
    """The function of exercise `number` as `code` (default: the source's solution) defines it, after the lesson's imports."""
    imports, solution, _ = EXERCISES[number]
    names: dict[str, Any] = {}
    exec(imports, names)
    exec(code or solution, names)
    defined: Callable[..., Any] = names[CHECKS[number].function]
    return defined


def complaint(number: str, answer: Callable[..., Any]) -> CheckFailed:
    with pytest.raises(CheckFailed) as failure:
        CHECKS[number].check(answer)
    assert len(str(failure.value)) > 20
    return failure.value


class Recorder:
    """The function, and what it was given and gave, call after call."""

    def __init__(self, answer: Callable[..., Any]) -> None:
        self.answer = answer
        self.given: list[tuple[Any, ...]] = []
        self.results: list[Any] = []

    def __call__(self, *arguments: Any) -> Any:
        self.given.append(copy.deepcopy(arguments))
        result = self.answer(*arguments)
        self.results.append(copy.deepcopy(result))
        return result


def recorded(number: str) -> Recorder:
    recorder = Recorder(function(number))
    CHECKS[number].check(recorder)
    return recorder


def identity(value: Any) -> Any:
    """`value` as plain Python that compares with ==, however deep the arrays in it lie."""
    if isinstance(value, torch.Tensor):
        value = value.detach().numpy()
    if isinstance(value, np.ndarray):
        return "array", str(value.dtype), value.shape, repr(value.tolist())
    if isinstance(value, list | tuple):
        return type(value).__name__, [identity(part) for part in value]
    if isinstance(value, torch.nn.Module):
        return type(value).__name__, [(name, identity(part)) for name, part in value.state_dict().items()]
    return type(value).__name__, repr(value) if not callable(value) else ""


def changed(value: Any) -> bool:
    """Whether `value` could be changed in place, which it then is: every number in it is another one."""
    if isinstance(value, np.ndarray) and value.size:
        value[...] = ~value if value.dtype.kind == "b" else "?" if value.dtype.kind in "UO" else value + 1
        return True
    if isinstance(value, torch.Tensor) and value.numel():
        value.copy_(value + 1)
        return True
    if isinstance(value, list):
        value.append(0)
        return True
    return False


# --- what every exercise's check does --------------------------------------------------------------------------------


def test_every_exercise_has_a_check_and_every_check_an_exercise() -> None:
    assert set(EXERCISES) == set(CHECKS)
    assert set(SOURCES) >= MODULES, "checks of a lesson that is not there"
    assert EXERCISES, "no exercise found"
    for number in ("0.1", "1.1", "1.2", "1.3", "1.4"):
        assert number in EXERCISES


@every
def test_the_lesson_checks_its_exercise_right_below_it(number: str) -> None:
    name = CHECKS[number].function
    assert EXERCISES[number][2].strip() == f"check.{name}({name})"
    assert f"def {name}(" in EXERCISES[number][1]


@every
def test_the_solution_passes_and_the_check_says_what_it_tested(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    CHECKS[number].check(function(number))
    assert re.fullmatch(r"Passed\. Tested: \S.{20,}\.\n", capsys.readouterr().out)


@every
def test_the_grader_can_take_over_what_a_solution_returns(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Answers of handed-in notebooks come from another process, as JSON."""
    solution = function(number)
    CHECKS[number].check(lambda *given: values.decode(values.encode(solution(*given))))
    assert capsys.readouterr().out.startswith("Passed.")


@every
def test_the_check_calls_an_untouched_stub_unsolved(number: str) -> None:
    stub, cut = SOLUTION.subn(r'\1raise NotImplementedError("Exercise, as it is handed out")', EXERCISES[number][1])
    assert cut
    assert "not solved yet" in str(complaint(number, function(number, stub)))


@every
def test_at_least_two_wrong_answers_are_planted(number: str) -> None:
    assert len(CHECKS[number].wrong) >= 2


@planted
def test_the_check_names_the_mistake(number: str, wrong: Callable[..., Any], words: str) -> None:
    failure = complaint(number, wrong)
    message = str(failure)
    assert len(words) > 6
    assert words in message
    for accident in ("your function raised", "must have shape"):
        assert accident not in message or accident in words, message
    assert words not in str(complaint(number, lambda *_: None)), "words that each failure has name nothing"
    if failure.draw is not None:
        figure, text = failure.draw()
        assert isinstance(figure, Figure)
        assert len(text.split()) >= 3
        figure.savefig(io.BytesIO())


@pytest.fixture
def one_thread() -> Iterator[None]:
    """On a busy machine torch's threads wait for each other, and their waiting counts as work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@every
def test_the_check_takes_less_than_a_second(number: str, one_thread: None) -> None:
    answer = function(number)
    CHECKS[number].check(answer)  # imports and caches
    before = time.process_time()
    CHECKS[number].check(answer)
    assert time.process_time() - before < 1


@every
def test_the_check_asks_the_same_each_time_whatever_happened_before(number: str) -> None:
    runs = []
    for state in (1, 2):
        np.random.seed(state)  # noqa: NPY002  the global state, which a check must not depend on
        torch.manual_seed(state)
        runs.append(recorded(number))
        complaint(number, lambda *_: None)
    one, other = runs
    assert len(one.given) >= 2
    assert [identity(given) for given in one.given] == [identity(given) for given in other.given]


@every
def test_an_answer_that_changes_its_arguments_fails(number: str) -> None:
    answer = function(number)
    spoilt: list[int] = []
    for place in range(len(recorded(number).given[0])):
        changes: list[bool] = []

        def spoiling(*arguments: Any, place: int = place, changes: list[bool] = changes) -> Any:
            result = copy.deepcopy(answer(*arguments))
            changes.append(changed(arguments[place]))
            return result

        try:
            CHECKS[number].check(spoiling)
            message = "passed"
        except CheckFailed as failure:
            message = str(failure)
        if any(changes):
            assert f"changes its argument {place + 1} in place" in message
            spoilt.append(place)
    assert spoilt, "no argument is an array"
    CHECKS[number].check(answer)  # and nothing of it is left


@every
def test_no_constant_satisfies_the_check(number: str) -> None:
    results = recorded(number).results
    nan = [np.full_like(result, np.nan) for result in results if isinstance(result, np.ndarray) and result.dtype.kind == "f"]
    for constant in [*results, *nan, None, 0, 1, True, False, -1.0, float("nan"), float("inf"), "", [], {}, (), np.zeros(3)]:
        complaint(number, lambda *_, constant=constant: copy.deepcopy(constant))


@every
def test_an_answer_that_is_not_a_function_of_these_arguments_is_told_so(number: str) -> None:
    assert "TypeError" in str(complaint(number, lambda: 0))


# --- the solutions of lessons 00 and 01 against the package -----------------------------------------------------------


def package_step(updates: np.ndarray, flows: np.ndarray) -> Any:
    return np.average(updates, axis=0, weights=flows)


def package_events(ts: np.ndarray, gap_s: float) -> Any:
    return evaluation.events(ts, ["DDoS"] * len(ts), gap_s=gap_s)["events"].sum()


def package_twins(X_train: np.ndarray, X_test: np.ndarray) -> Any:
    fresh = np.full((1, X_test.shape[1]), 1e6)  # a row without a twin, since an empty side is refused
    X = np.vstack([X_train, X_test, fresh])
    train, test = np.arange(len(X_train)), np.arange(len(X_train), len(X))
    return ~np.isin(test, splits.without_duplicates(X, train, test)[1])[:-1]


PACKAGE = {
    "0.1": package_step,
    "1.1": evaluation.best_possible_accuracy,
    "1.2": package_events,
    "1.3": package_twins,
    "1.4": splits.by_time,
}


@pytest.mark.parametrize("number", PACKAGE)
def test_the_package_gives_what_the_check_expects(number: str) -> None:
    CHECKS[number].check(PACKAGE[number])


def test_events_are_drawn_as_they_are_and_as_they_were_counted() -> None:
    failure = complaint("1.2", lambda ts, gap_s: len(ts))
    assert failure.draw is not None
    figure, text = failure.draw()
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["expected: 2", "yours: 4"]
    assert len(ax.patches) == 2 + 4
    assert "gap_s = 60" in ax.get_xlabel()
    assert text == "Time line. Expected events, 2: 0 to 100 s, 300 s. Received, 4: 0 s, 50 s, 100 s, 300 s."


def test_a_loop_or_a_list_is_as_good_as_numpy() -> None:
    def step(updates: np.ndarray, flows: np.ndarray) -> list[float]:
        total = sum(flows)
        return [sum(u * n for u, n in zip(column, flows, strict=True)) / total for column in updates.T]

    CHECKS["0.1"].check(step)
    CHECKS["1.3"].check(lambda X_train, X_test: [any((row == other).all() for other in X_train) for row in X_test])
    CHECKS["1.4"].check(lambda *asked: tuple(side.tolist()[::-1] for side in splits.by_time(*asked)))


def naive_threshold(scores: np.ndarray, allowed: float) -> Any:
    return np.sort(scores)[::-1][int(allowed * len(scores))]


def single_squeeze(Z_fit: np.ndarray, Z_new: np.ndarray, b: int) -> Any:
    Z_fit, Z_new = Z_fit.astype(np.float32), Z_new.astype(np.float32)
    mean = Z_fit.mean(axis=0)
    V = np.linalg.svd(Z_fit - mean)[2][:b]
    return np.square((Z_new - mean) - (Z_new - mean) @ V.T @ V).mean(axis=1)


def pairs_in_torch(attacks: np.ndarray, benign: np.ndarray) -> Any:
    gap = torch.from_numpy(attacks).float()[:, None] - torch.from_numpy(benign).float()
    return torch.sign(gap).mean() / 2 + 0.5


def counted(X: np.ndarray, y: np.ndarray) -> Any:
    pairs = Counter((row.tobytes(), label) for row, label in zip(X, y, strict=True))
    best: Counter[bytes] = Counter()
    for (row, _), size in pairs.items():
        best[row] = max(best[row], size)
    return best.total() / len(y)


def full_tree(X: np.ndarray, y: np.ndarray, depth: int | None = None) -> Any:
    return DecisionTreeClassifier(max_depth=depth, random_state=0).fit(X, y).score(X, y)


RIGHT = {
    "the step in single precision": ("0.1", lambda u, n: (n / n.sum()).astype(np.float32) @ u.astype(np.float32)),
    "a tree that splits until nothing is left to split": ("1.1", full_tree),
    "counts in a dictionary": ("1.1", counted),
    "each with each": ("1.3", lambda X_train, X_test: (X_test[:, None] == X_train).all(axis=2).any(axis=1)),
    "the squeeze in single precision": ("3.1", single_squeeze),
    "the scores sorted": ("3.2", naive_threshold),
    "NumPy's quantile without interpolation": ("3.2", lambda s, a: np.quantile(s, 1 - a, method="inverted_cdf")),
    "a mean in single precision": (
        "3.4", lambda attack, s, fpr: (s[attack] > naive_threshold(s[~attack], fpr)).astype(np.float32).mean()),
    "pairs in single precision": ("3.5", pairs_in_torch),
    "the ranks of the test by Mann and Whitney": (
        "3.5", lambda h, m: (rankdata(np.r_[h, m])[: len(h)].mean() - (len(h) + 1) / 2) / len(m)),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_another_right_answer_passes(name: str) -> None:
    number, answer = RIGHT[name]
    CHECKS[number].check(answer)


# --- words for mistakes that are not planted -----------------------------------------------------------------------------


def test_a_shallow_tree_is_told_that_vectors_are_taken_for_one() -> None:
    assert "such as a shallow tree" in str(complaint("1.1", lambda X, y: full_tree(X, y, depth=6)))


def test_a_capture_without_training_row_is_named_where_an_index_fails() -> None:
    def answer(ts: np.ndarray, captures: np.ndarray, test_fraction: float) -> Any:
        is_test = np.zeros(len(ts), dtype=bool)
        for name in np.unique(captures):
            rows = captures == name
            is_test[rows] = ts[rows] > np.sort(ts[rows])[-round(test_fraction * rows.sum()) - 1]
        return np.flatnonzero(~is_test), np.flatnonzero(is_test)

    message = str(complaint("1.4", answer))
    assert message.startswith("A capture of 1 row at a fraction of 0.6 has round(0.6) = 1 test row")
    assert "IndexError: index -2 is out of bounds" in message


@pytest.mark.parametrize("number", ["3.2", "3.4"])
def test_an_index_after_the_last_score_is_told_how_many_may_lie_above(number: str) -> None:
    def cut(scores: np.ndarray, allowed: float) -> Any:
        return np.sort(scores)[::-1][int(np.ceil(allowed * len(scores)))]

    answers = {"3.2": cut, "3.4": lambda attack, scores, fpr: (scores[attack] > cut(scores[~attack], fpr)).mean()}
    message = str(complaint(number, answers[number]))
    assert "index 1 is out of bounds" in message
    assert "Benign scores: 1; allowed above the threshold: 0, since 1 would be more than a share of 0.1." in message


@pytest.mark.parametrize("offset", [1e-9, 1e-7, -1e-6])
def test_a_threshold_that_is_nearly_right_reads_differently_from_the_right_one(offset: float) -> None:
    message = str(complaint("3.2", lambda scores, allowed: naive_threshold(scores, allowed) * (1 + offset)))
    assert "return one of the scores, unrounded" in message
    right, yours = re.findall(r"threshold is ([\d.]+) .* yours is ([\d.]+)", message)[0]
    assert right != yours


# --- the parts that checks are made of -------------------------------------------------------------------------------


def test_ask_gives_what_the_answer_gives_and_leaves_the_arguments_alone() -> None:
    X = np.arange(6.0).reshape(2, 3)
    assert checks.ask(lambda X, k: X.sum() * k, X, 2) == 30
    with pytest.raises(CheckFailed, match="changes its argument 1 in place"):
        checks.ask(lambda X, k: X.sort(axis=0) or X.fill(k), X, 2)
    assert X.tolist() == [[0, 1, 2], [3, 4, 5]]


def append(values: Any) -> None:
    values.append(1)


def fill(values: Any) -> None:
    values[:] = "x"


def negate(values: Any) -> None:
    values.mul_(-1)


def set_column(values: Any) -> None:
    values["a"] = 0


@pytest.mark.parametrize(
    ("change", "argument"),
    [
        (append, [1, 2]),
        (fill, np.array(["a", "b"])),
        (fill, np.array(["a", "b"], dtype=object)),
        (fill, [["a"]]),
        (negate, torch.ones(2)),
        (set_column, pd.DataFrame({"a": [1]})),
        (set_column, {"a": [1]}),
    ],
)
def test_ask_notices_a_change_in_any_kind_of_argument(change: Callable[[Any], None], argument: Any) -> None:
    assert checks.ask(len, argument) == len(argument)
    with pytest.raises(CheckFailed, match="changes its argument 2 in place"):
        checks.ask(lambda _, given: change(given), 0, argument)


def test_ask_names_the_line_that_raised_and_keeps_the_error() -> None:
    def divide(X: Any) -> Any:
        return X / np.zeros(7)

    with pytest.raises(
        CheckFailed, match=r"your function raised ValueError: .*in your line `return X / np.zeros\(7\)`"
    ) as failure:
        checks.ask(divide, np.ones(3))
    assert isinstance(failure.value.__cause__, ValueError)
    with pytest.raises(CheckFailed, match=r"raised TypeError: .*takes 1 positional argument but 2 were given$"):
        checks.ask(divide, 1, 2)


def test_ask_says_of_a_name_that_is_not_there_that_an_exercise_is_run_alone() -> None:
    def unknown() -> Any:
        return naive_treshold  # noqa: F821

    def too_early() -> Any:
        found += 1  # noqa: F821
        return found

    with pytest.raises(CheckFailed, match=r"NameError: name 'naive_treshold' .*alone.*define it in this cell\) in your line"):
        checks.ask(unknown)
    with pytest.raises(CheckFailed, match="UnboundLocalError") as failure:
        checks.ask(too_early)
    assert "run alone" not in str(failure.value)


@pytest.mark.parametrize(
    ("one", "other", "texts"),
    [
        (0.5, 2.0, ("0.5", "2")),
        (0.76741, 0.76742, ("0.76741", "0.76742")),
        (4.144, 4.144 + 1e-12, ("4.144", "4.144000000001")),
        (1.0, 1.0, ("1", "1")),
        (0.1, 0.1 + 2**-56, ("0.10000000000000001", "0.10000000000000002")),
    ],
)
def test_two_numbers_are_told_apart(one: float, other: float, texts: tuple[str, str]) -> None:
    assert checks.told_apart(one, other) == texts


def test_two_lists_are_told_apart() -> None:
    assert checks.lists_told_apart(np.array([1.0, 2 / 3]), np.array([1.0, 2.0])) == ([1, 0.667], [1, 2])
    assert checks.lists_told_apart(np.array([2 / 3]), np.array([0.66672])) == ([0.66667], [0.66672])
    assert checks.lists_told_apart(np.array([2.0]), np.array([2.0])) == ([2], [2])


def test_ask_says_that_an_exercise_is_not_solved_yet() -> None:
    def stub() -> None:
        raise NotImplementedError("Exercise 3.1: the linear squeeze")

    with pytest.raises(CheckFailed, match=r"^not solved yet\. Exercise 3\.1: the linear squeeze$"):
        checks.ask(stub)


def test_ask_survives_an_answer_that_leaves() -> None:
    with pytest.raises(CheckFailed, match="your function raised SystemExit: 3"):
        checks.ask(lambda: exit(3))


def test_ask_lets_the_message_of_a_check_within_the_answer_through() -> None:
    def answer() -> None:
        raise CheckFailed("as it is")

    with pytest.raises(CheckFailed, match=r"^as it is$"):
        checks.ask(answer)


@pytest.mark.parametrize("given", [3, 3.0, np.int64(3), np.float32(3), np.array(3), np.array([3.0]), torch.tensor(3.0)])
def test_number_takes_any_kind_of_number(given: Any) -> None:
    found = checks.number(given, "it")
    assert found == 3
    assert type(found) is float


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, r"the rate is missing: your function returned None\. Does it end with `return"),
        (np.ones(2), r"the rate must be one number, and your function returned a ndarray of shape \(2,\)"),
        ("0.5", r"the rate must be one number, and your function returned a str, '0\.5'"),
        (float("nan"), r"the rate is nan: a division by zero"),
        (1 + 2j, "the rate must be one number"),
        ([[1], [1, 2]], r"the rate cannot be read as numbers: your function returned a list"),
    ],
)
def test_number_says_what_it_got_instead(given: Any, words: str) -> None:
    with pytest.raises(CheckFailed, match=words):
        checks.number(given, "the rate")


@pytest.mark.parametrize(
    "given", [[[1, 2, 3]], np.ones((1, 3), bool), torch.ones(1, 3, requires_grad=True), pd.DataFrame([[1, 2, 3]])]
)
def test_array_takes_what_holds_numbers(given: Any) -> None:
    found = checks.array(given, (1, 3), "it")
    assert isinstance(found, np.ndarray)
    assert found.shape == (1, 3)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "the scores is missing"),
        (np.ones((3, 2)), r"must have shape \(2, 3\), and yours has \(3, 2\); is it transposed\?"),
        (np.ones(6), r"must have shape \(2, 3\), and yours has \(6,\)$"),
        (5, r"must be an array of shape \(2, 3\), and your function returned a int, 5"),
        ([["a", "b", "c"]] * 2, r"must be an array of shape \(2, 3\), and your function returned a list"),
        (np.full((2, 3), np.inf), "holds NaN or infinity"),
        ([[1, 2, 3], [1]], "cannot be read as numbers"),
    ],
)
def test_array_says_what_it_got_instead(given: Any, words: str) -> None:
    with pytest.raises(CheckFailed, match=words):
        checks.array(given, (2, 3), "the scores")


def test_a_road_is_recognised_when_it_leads_to_every_answer() -> None:
    roads = {np.sum: "the sum", np.max: "the largest"}
    cases = [(np.array([0.0, 5.0]),), (np.array([1.0, 2.0]),)]
    assert checks.recognised(roads, cases, [5, 3]) == "the sum"
    assert checks.recognised(roads, iter(cases), [5, 2]) == "the largest"
    assert checks.recognised(roads, cases, [5, 4]) is None


def test_jupyter_shows_the_message_alone_and_the_drawing_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[Any, str]] = []
    monkeypatch.setattr(plots, "show", lambda *what: shown.append(what))
    assert CheckFailed("too high")._render_traceback_() == ["CheckFailed: too high"]
    assert not shown
    figure = Figure()
    assert CheckFailed("too low", lambda: (figure, "two bars"))._render_traceback_() == ["CheckFailed: too low"]
    assert shown == [(figure, "two bars")]


def test_a_notebook_shows_the_message_and_no_frames_of_ours() -> None:
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    said: list[Any] = []
    shell._showtraceback = lambda _type, _value, lines: said.append(lines)
    code = """
    from fliot_lab.course.checks import lesson_00 as check
    check.weighted_step(lambda updates, flows: updates.mean(axis=0))
    """
    shell.run_cell(textwrap.dedent(code))
    ((line,),) = said
    assert line.startswith("CheckFailed: Your step is the plain mean of the rows")


def test_a_lesson_without_checks_has_none() -> None:
    assert checks.of_lesson("99") == {}


def test_a_failing_import_within_a_lessons_checks_is_not_taken_for_their_absence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lesson_98.py").write_text("import a_module_that_is_not_there\n", "utf-8")
    monkeypatch.setattr(checks, "__path__", [*checks.__path__, str(tmp_path)])
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        checks.of_lesson("98")


def test_of_lesson_gives_what_the_module_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lesson_97.py").write_text("EXERCISES = {'97.1': 'here'}\n", "utf-8")
    monkeypatch.setattr(checks, "__path__", [*checks.__path__, str(tmp_path)])
    assert checks.of_lesson("97") == {"97.1": "here"}


def test_an_exercise_is_named_as_its_check() -> None:
    def squeeze(answer: Callable[..., Any]) -> None:
        answer()

    assert checks.Exercise(squeeze, {}).function == "squeeze"


def test_same_compares_to_the_last_bit_and_by_kind() -> None:
    nan = float("nan")
    for one, other in [(nan, nan), (np.array([nan]), np.array([nan])), ({"a": [1, (2,)]}, {"a": [1, (2,)]})]:
        assert checks.same(one, other)
    different = [
        (1, 1.0),
        ([1], (1,)),
        (np.ones(2), np.ones((2, 1))),
        (np.ones(2), np.ones(2, int)),
        ({"a": 1}, {"b": 1}),
        ([1], [1, 2]),
    ]
    for one, other in different:
        assert not checks.same(one, other)
    thing = SimpleNamespace()
    assert checks.same(thing, thing)
