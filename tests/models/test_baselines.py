"""The baselines against naive loops over flows, and the ceiling that a table of the training rows reaches."""

from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import IsolationForest

from fliot_lab.data import iot23
from fliot_lab.evaluation import best_possible_accuracy, threshold_at_fpr
from fliot_lab.features.flows import flow_features
from fliot_lab.models.baselines import RULES, ForestDetector, Majority, Memory

UNFINISHED, BESIDE_TCP = RULES.values()


def coarse(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3) float32 of few distinct rows, and classes (n,) of which several share a row."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 3, (n, 3)).astype(np.float32), rng.choice(
        np.array(["a", "b", "c"], dtype=object), n, p=[0.2, 0.5, 0.3]
    )


X, y = coarse(120, 1)
NEW = coarse(200, 2)[0] + np.float32([0, 0, 1])  # a third of these were never seen


def test_the_majority_is_what_most_rows_are() -> None:
    model = Majority().fit(X, y)
    counts = Counter(y)
    assert set(model.predict(NEW)) == {counts.most_common(1)[0][0]}
    np.testing.assert_allclose(model.predict_proba(NEW), [[counts[name] / 120 for name in "abc"]] * 200)
    assert set(Majority().fit(X[:4], ["b", "c", "c", "b"]).predict(NEW)) == {"b"}  # the alphabetically first of equals


def test_the_table_remembers_as_a_naive_loop_does() -> None:
    seen: dict[tuple[float, ...], list[str]] = defaultdict(list)
    for row, name in zip(X, y, strict=True):
        seen[tuple(row)].append(name)
    assert 0 < sum(tuple(row) not in seen for row in NEW) < len(NEW)
    expected = [max(sorted(set(y)), key=seen.get(tuple(row), list(y)).count) for row in NEW]
    model = Memory().fit(X, y)
    assert list(model.predict(NEW)) == expected
    shares = [[seen.get(tuple(row), list(y)).count(name) / len(seen.get(tuple(row), y)) for name in "abc"] for row in NEW]
    np.testing.assert_allclose(model.predict_proba(NEW), shares)


def test_on_its_own_rows_the_table_is_the_ceiling() -> None:
    for seed in range(5):
        rows, names = coarse(60, seed)
        assert (Memory().fit(rows, names).predict(rows) == names).mean() == pytest.approx(best_possible_accuracy(rows, names))


def test_the_table_takes_minus_zero_for_zero_and_nothing_for_nearly() -> None:
    model = Memory().fit(np.float32([[0, 1], [2, 1], [2, 1], [2, 1]]), ["a", "b", "b", "b"])
    judged = np.float32([[-0.0, 1], [np.nextafter(np.float32(0), np.float32(1)), 1]])
    assert list(model.predict(judged)) == ["a", "b"]


def test_baselines_refuse_what_every_classifier_refuses() -> None:
    for model in (Majority(), Memory()):
        with pytest.raises(ValueError, match=r"call fit\(X, y\)"):
            model.predict(X)
        with pytest.raises(ValueError, match="one class, 'a'"):
            model.fit(X, ["a"] * len(X))
        with pytest.raises(ValueError, match="X has 2 features, and fit was given 3"):
            model.fit(X, y).predict(X[:, :2])


# ------------------------------------------------------------------------------------------------------- the rules


def drawn_flows(n: int, seed: int) -> pd.DataFrame:
    """Flows of few hosts, captures and minutes, so that windows hold several, and in no order."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "ts": 1_540_000_000 + rng.integers(0, 600_000, n) / 1000,
            "id.orig_h": rng.choice(["192.168.1.2", "192.168.1.3", "fe80::1"], n),
            "proto": pd.Categorical(rng.choice(["tcp", "udp", "icmp"], n, p=[0.1, 0.6, 0.3])),
            "conn_state": pd.Categorical(rng.choice(["S0", "S1", "S3", "SF", "OTH", "RSTR", "REJ"], n)),
            "capture": pd.Categorical(rng.choice(["one", "two"], n)),
        }
    )


def unfinished_by_hand(flows: pd.DataFrame) -> list[bool]:
    return [
        proto == "tcp" and state in {"S0", "S3", "OTH", "RSTR"}
        for proto, state in zip(flows["proto"], flows["conn_state"], strict=True)
    ]


def beside_tcp_by_hand(flows: pd.DataFrame) -> list[bool]:
    windows = [
        (row.get("capture"), row["id.orig_h"], float(getattr(row["ts"], "timestamp", lambda row=row: row["ts"])()) // 60)
        for row in flows.to_dict("records")
    ]
    with_tcp = {window for window, proto in zip(windows, flows["proto"], strict=True) if proto == "tcp"}
    return [window in with_tcp for window in windows]


@pytest.mark.parametrize("seed", range(3))
def test_the_rules_flag_what_naive_loops_flag(seed: int) -> None:
    flows = drawn_flows(150, seed)
    for rule, by_hand in ((UNFINISHED, unfinished_by_hand), (BESIDE_TCP, beside_tcp_by_hand)):
        flagged = rule(flows)
        assert flagged.dtype == bool
        assert list(flagged) == by_hand(flows)
        assert 0 < flagged.mean() < 1
    assert list(BESIDE_TCP(flows.drop(columns="capture"))) == beside_tcp_by_hand(flows.drop(columns="capture"))
    assert list(BESIDE_TCP(flows)) != list(BESIDE_TCP(flows.drop(columns="capture")))


def test_frames_mappings_datetimes_and_other_orders_are_flagged_alike() -> None:
    flows = drawn_flows(150, 5)
    moments = pd.to_datetime(flows["ts"], unit="s", utc=True)
    order = np.random.default_rng(0).permutation(len(flows))
    for rule in RULES.values():
        expected = list(rule(flows))
        for same in (
            flows.set_axis(np.arange(len(flows)) * 7 + 3),
            {name: column.to_numpy() for name, column in flows.items()},
            {name: column.astype(object).to_list() for name, column in flows.items()},
            flows.assign(ts=moments),
            flows.assign(ts=moments.dt.tz_convert("Asia/Kolkata")),  # half an hour off, and still the same minutes
            flows.assign(ts=moments.dt.as_unit("ns").dt.tz_localize(None)),
        ):
            assert list(rule(same)) == expected
        assert list(rule(flows.iloc[order])) == [expected[place] for place in order]
        assert rule(flows[:0]).shape == (0,)


def test_windows_follow_the_clock_and_not_the_first_flow() -> None:
    noon = datetime(2018, 9, 14, 12, 0, tzinfo=timezone(timedelta(hours=2)))
    times = [noon + timedelta(seconds=second) for second in (59.999999, 60, 119.999999, 120)]
    flows = {"ts": times, "id.orig_h": ["h"] * 4, "proto": ["udp", "tcp", "udp", "udp"]}
    assert list(BESIDE_TCP(flows)) == [False, True, True, False]
    assert list(BESIDE_TCP(flows | {"ts": [moment.astimezone(UTC).timestamp() for moment in times]})) == [
        False,
        True,
        True,
        False,
    ]
    assert list(BESIDE_TCP(flows | {"ts": [-1.0, -0.5, -60.0, 0.0]})) == [True, True, True, False]  # before 1970, too


def test_the_rules_name_what_they_lack() -> None:
    flows = drawn_flows(20, 0)
    with pytest.raises(ValueError, match="needs the columns proto, conn_state, which the flows lack"):
        UNFINISHED({"ts": [1.0]})
    with pytest.raises(ValueError, match=r"needs the columns ts, id\.orig_h"):
        BESIDE_TCP(flows[["proto"]])
    with pytest.raises(ValueError, match=r"1 flows have no time \(ts\)"):
        BESIDE_TCP(flows.assign(ts=[np.nan, *flows["ts"][1:]]))
    with pytest.raises(ValueError, match="ts must be seconds or datetimes"):
        BESIDE_TCP(flows.assign(ts="noon"))


@pytest.mark.real
def test_the_rules_on_real_flows(real_root) -> None:
    """Naive loops flag the same of real captures, and the table is the ceiling there, too."""
    flows = iot23.load("small", root=real_root)
    flagged = BESIDE_TCP(flows)
    assert list(flagged) == beside_tcp_by_hand(flows[["ts", "id.orig_h", "proto", "capture"]])
    assert list(UNFINISHED(flows)) == unfinished_by_hand(flows)
    X, _ = flow_features(flows)
    y = flows["label"].astype(str).to_numpy()
    assert (Memory().fit(X, y).predict(X) == y).mean() == pytest.approx(best_possible_accuracy(X, y))


# --------------------------------------------------------------------------------------------- the isolation forest

RNG = np.random.default_rng(8)
BENIGN, HELD_OUT = (np.exp(RNG.normal(2, 1, (n, 4))).astype(np.float32) for n in (400, 150))


def test_the_isolation_forest_is_scikit_learns_behind_the_detectors_interface() -> None:
    model = ForestDetector(seed=4, trees=30).fit(BENIGN, HELD_OUT)
    theirs = IsolationForest(n_estimators=30, random_state=4).fit(BENIGN)
    scores = model.score_samples(HELD_OUT)
    assert np.array_equal(scores, -theirs.score_samples(HELD_OUT))
    assert model.threshold_ == threshold_at_fpr(scores, 0.01)
    assert np.array_equal(model.predict(HELD_OUT), scores > model.threshold_)
    assert model.predict(HELD_OUT).mean() <= 0.01
    assert model.predict(np.full((3, 4), 1e6)).all()
    assert model.score_samples(HELD_OUT[:0]).shape == (0,)
    alone = ForestDetector(seed=4, trees=30).fit(BENIGN)
    assert alone.threshold_ == ForestDetector(seed=4, trees=30).fit(BENIGN[:300], BENIGN[300:]).threshold_
    assert not np.array_equal(ForestDetector(seed=5, trees=30).fit(BENIGN, HELD_OUT).score_samples(HELD_OUT), scores)


def test_the_isolation_forest_refuses() -> None:
    with pytest.raises(ValueError, match=r"call fit\(X\) with benign flows first"):
        ForestDetector(seed=4).score_samples(BENIGN)
    with pytest.raises(ValueError, match="at least 20 in all; got 8 and 2 held out"):
        ForestDetector(seed=4).fit(BENIGN[:10])
    with pytest.raises(ValueError, match="X has 3 features, and fit was given 4"):
        ForestDetector(seed=4, trees=2).fit(BENIGN).predict(BENIGN[:, :3])
    with pytest.raises(ValueError, match="NaN or infinity"):
        ForestDetector(seed=4).fit(np.where(BENIGN > 50, np.nan, BENIGN))
