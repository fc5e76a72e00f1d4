"""Published claims: what claims.toml may say, which verdict each position of an interval gets, and how it is shown."""

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fliot_lab.course import claims
from fliot_lab.course.claims import Claim, Measured

LEVEL = Claim(
    "level", "It is 0.7.", "70 %", "study", "04", "accuracy", "iot23", "It is read so.", "equal", 0.7, 0.05, "higher", unit="%"
)
LOWER, NEITHER = replace(LEVEL, better="lower"), replace(LEVEL, better="")
FLOOR = replace(LEVEL, kind="at least", better="")
CEILING = replace(LEVEL, kind="at most", better="")
GOOD = Measured(0.7, 0.6, 0.8, 5, "iot23", "full", False)


def between(low: float, high: float) -> Measured:
    return replace(GOOD, value=(low + high) / 2, low=low, high=high)


# --- verdicts ----------------------------------------------------------------------------------------------------------

C, B, N = "confirmed", "beaten", "not reproduced"
# Every position of [low, high] beside 0.7 with tolerance 0.05, worked out by hand. The columns: "equal" where higher is better,
# lower is better, neither; "at least"; "at most".
POSITIONS = [
    ((0.10, 0.60), (N, B, N, N, C)),  # below, outside the tolerance
    ((0.10, 0.65), (N, B, N, N, C)),  # its upper end on the tolerance's lower end
    ((0.10, 0.69), (N, B, N, N, C)),  # reaches into the tolerance from below
    ((0.65, 0.69), (C, C, C, C, C)),  # inside the tolerance, below
    ((0.66, 0.70), (C, C, C, C, C)),  # its upper end on the value
    ((0.10, 0.70), (C, C, C, N, C)),
    ((0.66, 0.74), (C, C, C, C, C)),  # inside the tolerance, holds the value
    ((0.70, 0.70), (C, C, C, C, C)),
    ((0.10, 0.90), (C, C, C, N, N)),  # reaches out on both sides
    ((0.66, 0.90), (C, C, C, C, N)),  # from inside the tolerance upwards
    ((0.10, 0.74), (C, C, C, N, C)),  # from below into the tolerance
    ((0.70, 0.90), (C, C, C, C, N)),  # its lower end on the value
    ((0.71, 0.75), (C, C, C, C, C)),  # inside the tolerance, above
    ((0.71, 0.90), (B, N, N, C, N)),  # reaches out of the tolerance upwards
    ((0.75, 0.90), (B, N, N, C, N)),
    ((0.80, 0.90), (B, N, N, C, N)),  # above, outside the tolerance
]


@pytest.mark.parametrize(("interval", "expected"), POSITIONS)
def test_each_position_of_an_interval_has_its_verdict(interval: tuple[float, float], expected: tuple[str, ...]) -> None:
    figure = between(*interval)
    found = tuple(claims.verdict(claim, figure).word for claim in (LEVEL, LOWER, NEITHER, FLOOR, CEILING))
    assert found == expected
    for claim in (LEVEL, LOWER, NEITHER, FLOOR, CEILING):
        assert claims.verdict(claim, figure).reason
        assert claims.verdict(claim, figure).measured is figure


@pytest.mark.parametrize(
    ("low", "high", "floor", "ceiling"),
    [(0.1, 0.5, N, B), (0.1, 0.6, N, B), (0.1, 0.61, N, C), (0.75, 0.9, C, N), (0.8, 0.9, B, N), (0.79, 0.9, C, N)],
)
def test_a_bound_is_beaten_by_its_margin_only(low: float, high: float, floor: str, ceiling: str) -> None:
    figure = between(low, high)
    assert claims.verdict(replace(FLOOR, margin=0.1, value=0.7), figure).word == floor
    assert claims.verdict(replace(CEILING, margin=0.1, value=0.7), figure).word == ceiling


def test_ends_are_included_for_every_published_claim() -> None:
    for claim in claims.load():
        ends = [claim.value - claim.tolerance, claim.value + claim.tolerance]
        for end in ends if claim.kind == "equal" else ends[:1] if claim.kind == "at least" else ends[1:]:
            fair = replace(claim, comparable=True)
            for written in (end, round(end, 6)):  # in binary, and as a person writes it
                figure = Measured(written, written, written, 5, claim.data, "full", False, False)
                assert claims.verdict(fair, figure).word == "confirmed", (claim.id, written)


def test_an_undecided_bound_says_so() -> None:
    assert claims.verdict(FLOOR, between(0.5, 0.9)).reason == "undecided: the interval reaches below 70 %"
    assert claims.verdict(FLOOR, between(0.1, 0.2)).reason == "the whole interval lies below 70 %"
    assert claims.verdict(CEILING, between(0.5, 0.9)).reason == "undecided: the interval reaches above 70 %"
    assert claims.verdict(CEILING, between(0.8, 0.9)).reason == "the whole interval lies above 70 %"


number = st.floats(-100, 100)


@given(number, number, number, st.floats(0, 10), st.none() | st.floats(0, 10))
def test_at_most_is_at_least_upside_down(
    one: float, other: float, value: float, tolerance: float, margin: float | None
) -> None:
    """The law that joins the two bounds; and every interval gets one of the three verdicts."""
    low, high = sorted((one, other))
    floor = replace(FLOOR, value=value, tolerance=tolerance, margin=margin)
    ceiling = replace(CEILING, value=-value, tolerance=tolerance, margin=margin)
    found = claims.verdict(floor, between(low, high)).word
    assert found == claims.verdict(ceiling, between(-high, -low)).word
    assert found in (C, B, N)
    assert claims.verdict(replace(LEVEL, value=value, tolerance=tolerance), between(low, high)).word in (C, B, N)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"simulated": True, "data": "sample"}, "simulated data"),
        ({"profile": "fast"}, "fast profile"),
        ({"groups": 4}, "4 seeds"),
        ({"groups": 1, "low": None, "high": None}, "no interval over seeds"),
        ({"stale": True}, "the lesson failed since"),
        ({"simulated": True, "profile": "fast", "groups": 3}, "simulated data, fast profile, 3 seeds"),
    ],
)
def test_what_lacks_something_gets_no_verdict(change: dict[str, Any], reason: str) -> None:
    figure = replace(GOOD, **change)
    for claim in (LEVEL, FLOOR, CEILING, replace(LEVEL, comparable=False, why="another task")):
        assert claims.verdict(claim, figure) == claims.Verdict("", reason, figure)


def test_the_other_verdicts() -> None:
    assert claims.verdict(LEVEL, None) == claims.Verdict("not measured", "no figure of lesson 04 yet", None)
    other = claims.verdict(replace(LEVEL, data="iot23-study"), GOOD)
    assert (other.word, other.reason) == ("not comparable", "measured on iot23, and a verdict needs iot23-study")
    task = claims.verdict(replace(LEVEL, comparable=False, why="another task"), GOOD)
    assert (task.word, task.reason, task.measured) == ("not comparable", "another task", GOOD)
    # where traffic does not matter, simulated traffic is no hindrance
    assert claims.verdict(replace(FLOOR, data="any"), replace(between(0.8, 0.9), simulated=True, data="sample")).word == C
    words = {*(C, B, N), other.word, "not measured"}
    assert words == set(claims.VERDICTS)


# --- where the figures come from ---------------------------------------------------------------------------------------


def a_set(figure: Any, data: str = "iot23", profile: str = "full", **more: Any) -> dict[str, Any]:
    lessons = {"04_classifiers": {"title": "T", "seed": 7, "numbers": {"accuracy": figure}}}
    return {"data": data, "simulated": data == "sample", "profile": profile, "lessons": lessons} | more


def interval(value: float, groups: int = 5) -> dict[str, Any]:
    return {"value": value, "low": value - 0.01, "high": value + 0.01, "groups": groups, "redrawn": 0}


def test_the_best_set_is_taken_whatever_the_order() -> None:
    worst_first = [
        a_set(interval(0.1), "sample", "fast"),
        a_set(interval(0.2), "sample", "full"),
        a_set(interval(0.3), "iot23-study", "fast"),
        a_set(interval(0.4), "iot23-study", "full"),
        a_set(interval(0.5), "iot23", "fast"),
        a_set(interval(0.6), "iot23", "full"),
    ]
    for count in range(1, 7):
        for order in (worst_first[:count], worst_first[:count][::-1]):
            found = claims.measured(LEVEL, order)
            assert found is not None
            assert found.value == pytest.approx(count / 10)


def test_a_figure_is_read_with_what_it_has() -> None:
    assert claims.measured(LEVEL, [a_set(interval(0.5, 3))]) == Measured(0.5, 0.49, 0.51, 3, "iot23", "full", False)
    assert claims.measured(LEVEL, [a_set(0.5)]) == Measured(0.5, None, None, 0, "iot23", "full", False)
    own = claims.measured(LEVEL, [a_set(interval(0.5) | {"data": "iot-sentinel"}, "sample")])
    assert own is not None
    assert (own.data, own.simulated) == ("iot-sentinel", False)
    failed = claims.measured(LEVEL, [a_set(0.5, failed={"04_classifiers": "T"})])
    assert failed is not None
    assert failed.stale


@pytest.mark.parametrize("figure", [None, "0.5", True, {"value": None}, {"low": 0.1, "high": 0.2}, [0.5]])
def test_what_is_no_number_is_not_measured(figure: Any) -> None:
    assert claims.measured(LEVEL, [a_set(figure)]) is None
    assert claims.measured(LEVEL, []) is None
    assert claims.measured(replace(LEVEL, lesson="05"), [a_set(0.5)]) is None
    assert claims.measured(replace(LEVEL, metric="AUC"), [a_set(0.5)]) is None


# --- tables ------------------------------------------------------------------------------------------------------------


def test_the_table_has_a_row_for_each_claim() -> None:
    rows = claims.table([LEVEL, replace(LEVEL, id="b", lesson="05", claim="a | b")], [a_set(interval(0.7123))]).splitlines()
    assert rows[0] == "| claim | source | published | measured | interval | data set | verdict |"
    assert rows[2:] == [
        "| It is 0.7. (lesson 04) | study | 70 % | 71.23 % | [70.23, 72.23] | iot23, full "
        "| **confirmed**: within 5 % of 70 % |",
        "| a \\| b (lesson 05) | study | 70 % |  |  |  | **not measured**: no figure of lesson 05 yet |",
    ]


def test_on_simulated_data_the_value_stands_alone() -> None:
    (row,) = claims.table([LEVEL], [a_set(interval(0.7, 3), "sample", "fast")]).splitlines()[2:]
    assert row.endswith("| 70 % | [69, 71] | simulated, fast | value alone: simulated data, fast profile, 3 seeds |")
    assert not [word for word in claims.VERDICTS if word in row]


def test_the_compact_table_fits_a_terminal() -> None:
    published = claims.load()
    numbers = {claim.metric: {"value": 12345.678, "low": -98765.4, "high": 98765.4, "groups": 5} for claim in published}
    lessons = {f"{claim.lesson}_any": {"title": "T", "seed": 7, "numbers": numbers} for claim in published}
    full = {"data": "iot23-study", "simulated": False, "profile": "full", "lessons": lessons}
    for sets in ([], [full]):
        lines = claims.compact(published, sets).splitlines()
        assert max(map(len, lines)) <= 110
        assert [line.split()[1] for line in lines[1 : 1 + len(published)]] == [claim.id for claim in published]
    assert any(line.endswith("not measured") for line in claims.compact(published, []).splitlines())
    assert "    level: simulated data" in claims.compact([LEVEL], [a_set(interval(0.7), "sample")])


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.947, "%", "94.7 %"), (0.9, "%", "90 %"), (0.00123, "%", "0.12 %"), (50, "ms", "50 ms"), (12.3456, "ms", "12.35 ms"),
     (10000, "", "10,000"), (0.5, "", "0.5"), (-0.021, "%", "-2.1 %")],
)  # fmt: skip
def test_a_figure_is_shown_in_its_unit(value: float, unit: str, text: str) -> None:
    assert claims.shown(value, unit) == text


# --- the file ----------------------------------------------------------------------------------------------------------

FIELDS = {
    "id": '"one"', "claim": '"C."', "published": '"70 %"', "source": '"study"', "lesson": '"04"', "metric": '"m"',
    "data": '"iot23"', "reads": '"R."', "kind": '"equal"', "value": "0.7",
}  # fmt: skip


def written(folder: Path, *changes: dict[str, str | None]) -> Path:
    path = folder / "claims.toml"
    tables = [{key: value for key, value in (FIELDS | change).items() if value is not None} for change in changes]
    path.write_text("".join("[[claim]]\n" + "".join(f"{k} = {v}\n" for k, v in table.items()) for table in tables))
    return path


def test_a_claim_is_read_with_defaults(tmp_path: Path) -> None:
    (claim,) = claims.load(written(tmp_path, {}))
    assert claim == Claim("one", "C.", "70 %", "study", "04", "m", "iot23", "R.", "equal", 0.7)
    more: dict[str, str | None] = {"id": '"two"', "comparable": "false", "why": '"another task"', "tolerance": "1"}
    assert [claim.id for claim in claims.load(written(tmp_path, {}, more))] == ["one", "two"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": '"red"'}, "claim 'one': unknown key 'colour'; there are id, claim"),
        ({"metric": None}, "claim 'one': 'metric' is missing"),
        ({"id": None}, "claim 'number 1': 'id' is missing"),
        ({"kind": '"about"'}, "claim 'one': unknown kind 'about'; choose one of equal, at least, at most"),
        ({"source": '"a blog"'}, "unknown source 'a blog'; choose one of framework, study"),
        ({"data": '"mnist"'}, "unknown data 'mnist'; choose one of iot23, iot23-study, iot-sentinel, hardware, any"),
        ({"better": '"more"'}, "unknown better 'more'; choose one of higher, lower"),
        ({"value": '"0.7"'}, "value must be int or float, got '0.7'"),
        ({"value": "true"}, "value must be int or float, got True"),
        ({"lesson": "4"}, "lesson must be str, got 4"),
        ({"lesson": '"4"'}, "lesson must have two digits, as '03', got '4'"),
        ({"comparable": '"no"'}, "comparable must be bool, got 'no'"),
        ({"comparable": "false"}, "comparable = false and why belong together"),
        ({"why": '"so"'}, "comparable = false and why belong together"),
        ({"tolerance": "-1"}, "tolerance and margin must not be negative"),
        ({"margin": "1"}, "margin belongs to kinds 'at least' and 'at most'"),
        ({"kind": '"at least"', "better": '"higher"'}, "better belongs to kind 'equal'"),
    ],
)
def test_a_malformed_claim_is_named(tmp_path: Path, change: dict[str, str | None], message: str) -> None:
    with pytest.raises(ValueError, match=r"claims\.toml, claim ") as error:
        claims.load(written(tmp_path, change))
    assert message in str(error.value)


def test_a_malformed_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"claims\.toml, claim 'one': this id stands there twice"):
        claims.load(written(tmp_path, {}, {}))
    path = tmp_path / "claims.toml"
    for text, message in (("[[claim]", "is no TOML"), ("", "it has none"), ("[claims]\n", "it has claims")):
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"claims\.toml .*{message}"):
            claims.load(path)


# --- the course's own claims -------------------------------------------------------------------------------------------


def test_the_courses_claims_are_those_that_were_published() -> None:
    published = claims.load()
    figures = {(claim.published, claim.lesson) for claim in published}
    wanted = {
        ("94.7 %", "02"), ("epsilon 0.1", "07"), ("10,000 devices", "05"), ("10,000 devices", "11"), ("< 50 ms", "11"),
        ("96 %", "03"), ("73 %", "04"), ("69 %", "04"), ("69.3 %", "06"), ("near 0", "09"),
    }  # fmt: skip
    assert wanted <= figures
    assert 17 <= len(published) <= 19
    assert len({(claim.lesson, claim.metric) for claim in published}) == len(published)
    for claim in published:
        assert claim.claim.endswith("."), claim.id
        assert claim.reads.endswith("."), claim.id
        assert claim.metric.endswith(("(interval over seeds)", "(interval over runs)")), claim.id
        if claim.published[0].isdecimal() and claim.unit == "%":  # the two ways in which a figure is written agree
            assert claims.shown(claim.value, claim.unit) == claim.published, claim.id
        elif claim.published.strip("< ")[0].isdecimal():
            assert claims.shown(claim.value, claim.unit) == claim.published.strip("< ").removesuffix(" devices"), claim.id
    assert {claim.id for claim in published if claim.data == "iot23-study"} == {
        "random-forest-accuracy", "xgboost-accuracy", "cnn-accuracy", "federated-cnn-accuracy",
    }  # fmt: skip


def test_the_head_of_the_file_names_every_key() -> None:
    head = claims.FILE.read_text("utf-8").partition("[[claim]]")[0]
    used = {key for table in tomllib.loads(claims.FILE.read_text("utf-8"))["claim"] for key in table}
    assert not {key for key in used | {"margin"} if f"#   {key}" not in head and f", {key}" not in head}
