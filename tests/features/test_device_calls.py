"""Traces as fingerprints, against loops over Python's own numbers, and the laws of shares."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fliot_lab import evaluation
from fliot_lab.data.sample.hosts import system_calls
from fliot_lab.data.sample.programs import ATTACKS
from fliot_lab.features.devices import matrix
from fliot_lab.features.devices.calls import BOXES, MOST, NAMES, fingerprint, read, unfamiliar

TRACES = st.lists(st.integers(0, 460), min_size=1, max_size=60)
WRAP = 2**64


def naive_box(gram: tuple[int, ...], boxes: int) -> int:
    """The box of one n-gram by whole numbers that wrap at 64 bits by hand."""
    if len(gram) == 1:
        return gram[0] % boxes
    code = 0
    for call in gram:
        code = ((code ^ call) * 0x9E3779B97F4A7C15) % WRAP
        code ^= code >> 32
    return code % boxes


def naive(calls: list[int]) -> list[float]:
    """Every feature of a trace, gram by gram."""
    found: list[float] = []
    for n, boxes in BOXES.items():
        grams = [tuple(calls[place : place + n]) for place in range(len(calls) - n + 1)]
        counts = Counter(naive_box(gram, boxes) for gram in grams)
        found += [counts[box] / len(grams) if grams else np.nan for box in range(boxes)]
    return found


@given(TRACES)
@settings(max_examples=60, deadline=None)
def test_shares_are_those_of_counting_by_hand(calls: list[int]) -> None:
    made = fingerprint(read(calls))[0]
    assert made.names == NAMES
    np.testing.assert_allclose(made.values, naive(calls), rtol=1e-12)


def test_shares_of_each_length_sum_to_one_and_none_are_nan_where_a_trace_is_too_short() -> None:
    whole = fingerprint(read(system_calls(1)))[0].values
    assert whole.sum() == pytest.approx(len(BOXES))
    short = fingerprint(read([3, 4]))[0].values
    assert np.isnan(short).sum() == BOXES[3]
    assert np.nansum(short) == pytest.approx(2)


def test_single_calls_do_not_know_the_order_and_pairs_do() -> None:
    one, other = fingerprint(read([1, 2, 3, 4, 5]))[0].values, fingerprint(read([5, 1, 4, 2, 3]))[0].values
    np.testing.assert_array_equal(one[: BOXES[1]], other[: BOXES[1]])
    assert not np.array_equal(one[BOXES[1] :], other[BOXES[1] :])


def test_few_pairs_of_calls_share_a_box() -> None:
    """As few as if each pair had been thrown into a box: n grams in b boxes fill b (1 - (1 - 1/b)^n) of them."""
    for n in (2, 3):
        calls = np.concatenate([system_calls(1, run=run) for run in range(5)])
        grams = {tuple(calls[place : place + n].tolist()) for place in range(len(calls) - n + 1)}
        filled = len({naive_box(gram, BOXES[n]) for gram in grams})
        assert filled == pytest.approx(BOXES[n] * (1 - (1 - 1 / BOXES[n]) ** len(grams)), rel=0.1)


def test_siblings_of_a_maker_are_nearer_than_strangers() -> None:
    def of(device: str) -> np.ndarray:
        traces = [read(system_calls(3, device=device, run=run, length=1_000)) for run in range(5)]
        return matrix([fingerprint(trace)[0] for trace in traces])[0].mean(axis=0)

    bulb = of("PlimboBulb")
    assert np.abs(bulb - of("PlimboLamp")).sum() < np.abs(bulb - of("DrovanaSwitch")).sum()


# --- what is unfamiliar -------------------------------------------------------------------------------------------------


def naive_unfamiliar(trace: list[int], known: list[list[int]], n: int) -> float:
    seen = {tuple(calls[place : place + n]) for calls in known for place in range(len(calls) - n + 1)}
    grams = [tuple(trace[place : place + n]) for place in range(len(trace) - n + 1)]
    return float(np.mean([gram not in seen for gram in grams])) if grams else float("nan")


FEW = st.lists(st.integers(0, 3), min_size=1, max_size=20)


@given(st.lists(FEW, min_size=1, max_size=4), st.lists(FEW, min_size=1, max_size=4), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_unfamiliar_shares_are_those_of_a_set(traces: list[list[int]], known: list[list[int]], n: int) -> None:
    found = unfamiliar([read(trace) for trace in traces], [read(trace) for trace in known], n)
    np.testing.assert_allclose(found, [naive_unfamiliar(trace, known, n) for trace in traces])


def test_what_was_learnt_is_familiar_and_attacks_are_less_so() -> None:
    normal = [read(system_calls(5, run=run)) for run in range(120)]
    attacks = [read(system_calls(5, kind=kind, run=run)) for kind in ATTACKS for run in range(5)]
    assert (unfamiliar(normal[:80], normal[:80]) == 0).all()
    scores = unfamiliar([*normal[80:], *attacks], normal[:80])
    assert evaluation.auc(np.arange(len(scores)) >= 40, scores) > 0.6


# --- files and bad input ------------------------------------------------------------------------------------------------


def test_a_file_of_numbers_is_read_as_the_numbers(tmp_path: Path) -> None:
    path = tmp_path / "Adduser_1" / "UAD-0001.txt"
    path.parent.mkdir()
    path.write_text("6 11  45\n33 192\r\n")
    frame = read(path)
    assert frame["call"].tolist() == [6, 11, 45, 33, 192]
    assert frame.attrs["source"] == "Adduser_1/UAD-0001.txt"
    pd.testing.assert_frame_equal(read(np.array([6, 11, 45, 33, 192])), frame)
    assert fingerprint(frame)[0].provenance == "Adduser_1/UAD-0001.txt"


@pytest.mark.parametrize("text", ["", " \n", "6 read 4", "6 -4", "1.5", "6 ٣", "99999999999", "4 4294967296"])
def test_a_file_that_is_no_trace_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "trace.txt").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=r"trace\.txt"):
        read(tmp_path / "trace.txt")


@pytest.mark.parametrize("numbers", [[], [-1], [MOST + 1], [0.5], [[1, 2], [3, 4]]])
def test_numbers_that_are_no_trace_are_refused(numbers: list[int]) -> None:
    with pytest.raises(ValueError, match="whole numbers from 0"):
        read(numbers)
