"""What lessons measured: the summary cell, what is kept, drift against the reference, and the page of results."""

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from fliot_lab.course import build, claims, results
from fliot_lab.data import iot23

# --- the summary cell --------------------------------------------------------------------------------------------------


def executed(*texts: str, others: tuple[Any, ...] = ()) -> nbformat.NotebookNode:
    """A notebook with one cell tagged `summary` for each text that it printed."""
    cells = [new_markdown_cell("# Title"), new_code_cell("1")]
    for text in texts:
        outputs = [*others, new_output("stream", name="stdout", text=text)]
        cells.append(new_code_cell("print(...)", outputs=outputs, metadata={"tags": ["summary"]}))
    return new_notebook(cells=cells)


def test_the_summary_is_what_its_cell_printed() -> None:
    noise = (new_output("stream", name="stderr", text="a warning"), new_output("display_data", data={"text/plain": "a figure"}))
    assert results.summary(executed('{"AUC": 0.5, "model": "forest"}\n')) == {"AUC": 0.5, "model": "forest"}
    assert results.summary(executed("{}", others=noise)) == {}
    in_two = executed('"rows": 3}\n', others=(new_output("stream", name="stdout", text="{"),))
    assert results.summary(in_two) == {"rows": 3}


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (executed(), "one cell tagged summary, this one has 0"),
        (executed("{}", "{}"), "one cell tagged summary, this one has 2"),
        (executed("AUC: 0.5"), "must print one JSON object and printed 'AUC: 0.5'"),
        (executed('{"AUC": 0.5}\n{"AUC": 0.6}'), "must print one JSON object"),
        (executed("[0.5]"), "must print a JSON object and printed a list"),
        (executed("0.5"), "must print a JSON object and printed a float"),
        (executed('{"AUC": NaN}'), "the summary's figure 'AUC' is nan: JSON has no such number"),
        (executed('{"AUC": {"value": 0.5, "high": Infinity}}'), "the summary's figure 'AUC, high' is inf"),
        (executed('{"by class": [0.5, -Infinity]}'), "the summary's figure 'by class, 1' is -inf"),
        (executed('{"AUC": 1e999}'), "the summary's figure 'AUC' is inf"),
    ],
)
def test_a_summary_of_another_kind_is_refused(made: nbformat.NotebookNode, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        results.summary(made)


# --- keeping -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where results are kept, for a course of two lessons."""
    for name in ("01_first", "02_second"):
        (tmp_path / f"{name}.py").write_text(f"# %% [markdown]\n# # {name[3:].title()}\n")
    monkeypatch.setattr(build, "SOURCE", tmp_path)
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def source(name: str = "sample") -> iot23.Source:
    return iot23.Source(Path("somewhere"), name, name == "sample", "a banner")  # type: ignore[arg-type]


def outcome(number: int, failure: str = "", **numbers: Any) -> results.Outcome:
    return results.Outcome(build.lessons()[number - 1], 12.34, 456.7, numbers, failure)


def page_of(folder: Path) -> str:
    results.write_page()
    return (folder / "RESULTS.md").read_text("utf-8")


def test_a_lesson_is_kept_with_what_it_took(folder: Path) -> None:
    found = results.keep([outcome(1, AUC=0.5)], source(), "fast", 3)
    assert found == json.loads((folder / "sample-fast.json").read_text("utf-8")) == {
        "data": "sample", "simulated": True, "profile": "fast", "failed": {},
        "lessons": {"01_first": {"title": "First", "seed": 3, "seconds": 12.3, "peak_mb": 457, "numbers": {"AUC": 0.5}}},
    }  # fmt: skip
    assert [path.name for path in folder.iterdir()] == ["sample-fast.json"]  # no part of a file stays


def test_a_failed_lesson_is_marked_until_it_runs_again(folder: Path) -> None:
    mark = "**This lesson failed in the latest run; these numbers are from an earlier one.**"
    results.keep([outcome(1, AUC=0.5)], source(), "fast", 3)
    results.keep([outcome(1, "broken"), outcome(2, "broken")], source(), "fast", 4)
    page = page_of(folder)
    first, second = page.partition("### 01 First")[2].split("### 02 Second")
    assert mark in first
    assert "Seed 3," in first
    assert "| AUC | 0.5 |" in first
    assert mark not in second
    assert "This lesson failed in the latest run; it has no numbers." in second
    assert "failed" not in page_of(folder).partition("## sample")[0]
    results.keep([outcome(2, AUC=0.6)], source(), "fast", 5)  # the first did not run: still marked
    assert page_of(folder).count(mark) == 1
    results.keep([outcome(1, AUC=0.7)], source(), "full", 5)  # another set of results
    assert page_of(folder).count(mark) == 1
    results.keep([outcome(1, AUC=0.7)], source(), "fast", 5)
    assert "failed" not in page_of(folder)


def test_the_numbers_of_a_lesson_that_is_gone_go(folder: Path) -> None:
    found = results.keep([outcome(1, AUC=0.5), outcome(2, AUC=0.5)], source(), "fast", 3)
    results.keep_reference(found, ["01_first", "02_second"])
    (folder.parent / "02_second.py").rename(folder.parent / "02_other.py")
    found = results.keep([outcome(2, AUC=0.7)], source(), "fast", 3)
    assert list(found["lessons"]) == ["01_first", "02_other"]
    results.keep_reference(found, ["02_other"])
    assert list(results.reference()["sample-fast"]["lessons"]) == ["01_first", "02_other"]


def test_every_set_is_found_in_order_and_the_reference_is_none(folder: Path) -> None:
    for data in ("sample", "iot23", "iot23-study"):
        for profile in ("full", "fast"):
            found = results.keep([outcome(1, AUC=0.5)], source(data), profile, 3)
    results.keep_reference(found, ["01_first"])
    assert [(kept["data"], kept["profile"]) for kept in results.sets()] == [
        ("iot23", "fast"), ("iot23", "full"), ("iot23-study", "fast"), ("iot23-study", "full"),
        ("sample", "fast"), ("sample", "full"),
    ]  # fmt: skip


def test_a_damaged_file_is_named(folder: Path) -> None:
    folder.mkdir()
    for name, read in (("reference.json", results.reference), ("sample-fast.json", results.sets)):
        (folder / name).write_text('{"lessons": ')
        with pytest.raises(ValueError, match=rf"{name} is damaged .*; delete it"):
            read()


# --- the reference -----------------------------------------------------------------------------------------------------


def lesson(seed: int = 7, **numbers: Any) -> dict[str, Any]:
    return {"title": "Autoencoder", "seed": seed, "seconds": 12.3, "peak_mb": 456, "numbers": numbers}


def interval(value: float, half: float = 0.1) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "groups": 5, "redrawn": 0}


@pytest.mark.parametrize(
    ("before", "now", "equal"),
    [
        (0.5, 0.5, True),
        (0.5, 0.5 + 1e-9, True),
        (0.5, 0.50001, False),
        (1e6, 1e6 + 0.1, True),
        (0.0, 1e-10, True),
        (3, 3, True),
        (3, 4, False),
        (1_000_000_000, 1_000_000_001, False),  # a count is exact
        (1, 1.0, True),  # one machine's JSON may say 1, another's 1.0
        (1, True, False),
        (1.0, True, False),
        ("forest", "forest", True),
        ("forest", "tree", False),
        (None, None, True),
        (None, 0.5, False),
        (interval(0.5), interval(0.5), True),
        (interval(0.5), interval(0.5, half=0.2), False),  # the value is the same, the interval is not
        (interval(0.5), 0.5, False),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ([1, 2.0], [1, 2.0 + 1e-9], True),
        ([1, 2], [1, 2, 3], False),
        ([], {}, False),
    ],
)
def test_what_differs_by_more_than_rounding_is_drift(before: Any, now: Any, equal: bool) -> None:
    for one, other in ((before, now), (now, before)):
        found = results.drift(lesson(AUC=one), lesson(AUC=other))
        assert found == results.Drift(int(equal), () if equal else (("AUC", other, one),))


def test_new_figures_and_those_that_are_gone_are_listed() -> None:
    found = results.drift(lesson(kept=1, more=2, moved=3), lesson(kept=1, less=2, moved=4, least=5))
    assert found == results.Drift(1, (("moved", 4, 3),), ("more",), ("less", "least"))


def test_another_seed_is_no_drift() -> None:
    assert results.drift(lesson(8, AUC=0.5), lesson(7, AUC=0.6)) == results.Drift(seed=7)


def reference_of(**lessons: dict[str, Any]) -> dict[str, Any]:
    return {"sample-fast": {"lessons": {f"0{key[1:]}": value for key, value in lessons.items()}}}


def found_of(**lessons: dict[str, Any]) -> dict[str, Any]:
    return {"data": "sample", "simulated": True, "profile": "fast"} | reference_of(**lessons)["sample-fast"]


NAMES = ["01_first", "02_second"]


def test_one_line_counts_the_figures_of_all_lessons_that_ran() -> None:
    found = found_of(l1_first=lesson(a=1, b=2.0, c=3), l2_second=lesson(a=1, b=3))
    same = reference_of(l1_first=lesson(a=1, b=2.0, c=3), l2_second=lesson(a=1, b=3))
    assert results.compared(found, same, NAMES) == "Reference: 5 figures as in the reference, 0 differ."
    assert results.compared(found, same, NAMES[:1]) == "Reference: 3 figures as in the reference, 0 differ."
    other = reference_of(l1_first=lesson(a=1, b=2.5, d=4), l2_second=lesson(a=2, b=3))
    line = "Reference: 2 figures as in the reference, 2 differ, 1 new, 1 gone. See results/RESULTS.md."
    assert results.compared(found, other, NAMES) == line
    assert results.compared(found, other, ["02_second"]).startswith("Reference: 1 figure as in the reference, 1 differs.")


def test_the_line_says_where_nothing_can_be_compared() -> None:
    found = found_of(l1_first=lesson(8, a=1), l2_second=lesson(8, a=1))
    nothing = "Reference: results/reference.json has none of these lessons for sample, profile fast."
    assert results.compared(found, {}, NAMES) == nothing
    assert results.compared(found, {"sample-full": reference_of(l1_first=lesson())["sample-fast"]}, NAMES) == nothing
    seeds = results.compared(found, reference_of(l1_first=lesson(7, a=1)), NAMES)
    assert seeds == "Reference: its numbers are of seed 7, these of another: not compared."
    mixed = results.compared(found, reference_of(l1_first=lesson(7, a=1), l2_second=lesson(8, a=1)), NAMES)
    assert mixed == "Reference: 1 figure as in the reference, 0 differ; 1 lesson with another seed is not compared."


def test_the_page_shows_what_moved() -> None:
    now = lesson(rows=12, AUC=interval(0.98765), best="forest", flag=True, same=1, a=1)
    known = lesson(rows=10, AUC=interval(0.9), best="tree", flag=False, same=1, b=1)
    page = results.page([found_of(l3_autoencoder=now)], reference_of(l3_autoencoder=known))
    expected = """
1 figure as in the reference, 4 differ, 1 new, 1 gone.

| figure | reference | now | change |
|---|---|---|---|
| rows | 10 | 12 | +2 |
| AUC | 0.9 [0.8, 1] | 0.98765 [0.88765, 1.08765] | +0.088 |
| best | tree | forest |  |
| flag | False | True |  |

New: a.

Gone: b.
"""
    assert expected in page
    assert "| a | 1 |" in page
    seeded = results.page([found_of(l3_autoencoder=lesson(8, a=1))], reference_of(l3_autoencoder=known))
    assert "Not compared: the reference has seed 7." in seeded
    assert "1 figure as in the reference" not in seeded
    assert "reference" not in results.page([found_of(l3_autoencoder=now)], {})


# --- the page of results -----------------------------------------------------------------------------------------------


def a_set(data: str, simulated: bool, **numbers: Any) -> dict[str, Any]:
    lesson = {"title": "Autoencoder", "seed": 7, "seconds": 12.3, "peak_mb": 456, "numbers": numbers}
    return {"data": data, "simulated": simulated, "profile": "fast", "lessons": {"03_autoencoder": lesson}}


def test_the_page_shows_each_kind_of_figure() -> None:
    numbers = {
        "rows": 1234567,
        "AUC": 0.987654,
        "with interval": {"value": 0.51234, "low": 0.4, "high": 0.6},
        "without": {"value": 3, "low": None, "high": None},
        "best": "forest",
        "counts": {"DDoS": 1, "scan": 2},
        "found": True,
        "undefined": None,
    }
    page = results.page([a_set("iot23", False, **numbers)], {})
    assert page.startswith("# Results\n")
    assert "### 03 Autoencoder\n\nSeed 7, 12.3 s, 456 MB.\n\n| figure | value |\n|---|---|\n" in page
    after = page.partition("|---|---|\n| rows")[2]
    assert ("| rows" + after).splitlines()[: len(numbers)] == [
        "| rows | 1,234,567 |",
        "| AUC | 0.9877 |",
        "| with interval | 0.5123 [0.4, 0.6] |",
        "| without | 3 |",
        "| best | forest |",
        "| counts | {'DDoS': 1, 'scan': 2} |",
        "| found | True |",
        "| undefined | None |",
    ]


def test_the_page_says_of_simulated_captures_that_they_are() -> None:
    page = results.page([a_set("iot23", False, AUC=0.9), a_set("sample", True, AUC=0.8)], {})
    real, simulated = page.partition("## iot23")[2].split("## sample")
    assert real.startswith(", profile fast (real IoT-23 captures)")
    assert "SIMULATED" not in real
    assert simulated.startswith(", profile fast (SIMULATED captures: values, and no verdict on real networks)")
    assert "real IoT-23" not in simulated
    assert "| AUC | 0.8 |" in simulated
    assert results.page([], {}).startswith("# Results")


def test_the_page_begins_with_the_published_claims() -> None:
    page = results.page([a_set("sample", True, AUC=0.8)], {})
    assert page.index("## Published claims") < page.index(claims.table(claims.load(), [])) < page.index("## sample")
    assert page.endswith(claims.readings(claims.load()) + "\n")


def test_a_bar_in_a_figures_name_does_not_split_its_row() -> None:
    assert "| P(a \\| b) | 0.5 |" in results.page([a_set("sample", True, **{"P(a | b)": 0.5})], {})
