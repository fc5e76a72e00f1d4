"""Contradictory labels on rows made for it, against a loop over all pairs of rows."""

import numpy as np
import pandas as pd
import pytest

from fliot_lab.data.contradictions import CHOICES, contradictory, settled

ROWS = pd.DataFrame(
    [
        ("one", "bot", "controller", "C&C"),
        ("one", "bot", "controller", "Benign"),  # contradictory
        ("one", "controller", "bot", "Benign"),  # contradictory, begun by the other
        ("one", "bot", "resolver", "Benign"),
        ("two", "bot", "controller", "Benign"),  # another network: another bot
        ("one", "bot", "controller", "DDoS"),
        ("one", "bot", "controller", "DDoS"),
        ("one", "bot", "victim", None),
    ],
    columns=["capture", "id.orig_h", "id.resp_h", "label"],
)
DOUBTFUL = [False, True, True, False, False, False, False, False]


def test_benign_rows_between_hosts_of_an_attack_are_contradictory() -> None:
    assert contradictory(ROWS).tolist() == DOUBTFUL
    assert contradictory(ROWS.assign(label=ROWS["label"].astype("category"))).tolist() == DOUBTFUL
    assert contradictory(ROWS.drop(columns="capture")).tolist() == [False, True, True, False, True, False, False, False]


def test_labels_stay_as_given_unless_asked() -> None:
    assert settled(ROWS) is ROWS
    assert CHOICES[0] == "as given"


@pytest.mark.parametrize("kind", ["object", "category"])
def test_contradictory_rows_are_dropped_or_take_the_commonest_attack_of_the_pair(kind: str) -> None:
    rows = ROWS.assign(label=ROWS["label"].astype(kind))
    before = rows.copy()
    assert settled(rows, "dropped").index.tolist() == [0, 3, 4, 5, 6, 7]
    after = settled(rows, "relabelled")["label"]
    assert after[:7].tolist() == ["C&C", "DDoS", "DDoS", "Benign", "Benign", "DDoS", "DDoS"]
    assert after[7:].isna().all()
    assert after.dtype == rows["label"].dtype
    pd.testing.assert_frame_equal(rows, before)


def test_random_rows_are_judged_as_by_a_loop() -> None:
    rng = np.random.default_rng(5)
    rows = pd.DataFrame({name: rng.choice(list("abcdef"), 200) for name in ("id.orig_h", "id.resp_h")})
    rows["label"] = rng.choice(["Benign", "Benign", "Benign", "scan"], 200)
    expected = [
        row.label == "Benign" and any(o.label == "scan" and {o[1], o[2]} == {row[1], row[2]} for o in rows.itertuples())
        for row in rows.itertuples()
    ]
    assert contradictory(rows).tolist() == expected


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="columns label, which"):
        contradictory(ROWS.drop(columns="label"))
    with pytest.raises(ValueError, match="as given, dropped, relabelled; got 'fixed'"):
        settled(ROWS, "fixed")
