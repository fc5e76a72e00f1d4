"""The hybrid keeps its promise for networks left out, learns what it is given and nothing of the left-out one."""

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from fliot_lab.models.autoencoder import Autoencoder
from fliot_lab.models.hybrid import Hybrid, KnownAttacks, scores_left_out

Array = np.ndarray[Any, Any]


def networks(seed: int = 0, n: int = 300, attacks: tuple[str, ...] = ("a", "b")) -> tuple[Array, Array, Array]:
    """X (n, 4), attack (n,), groups (n,): four networks; attacks call a service that fails (feature 0), in two of them."""
    rng = np.random.default_rng(seed)
    X, bad, groups = [], [], []
    for shift, group in enumerate("abcd"):
        rows = rng.normal(3 + 0.1 * shift, 1, (n, 4)).clip(0)
        is_bad = (np.arange(n) < n // 4) & (group in attacks)
        rows[is_bad, 0] += 60
        X.append(rows)
        bad.append(is_bad)
        groups += [group] * n
    return np.concatenate(X).astype(np.float32), np.concatenate(bad), np.array(groups)


def small(seed: int = 0) -> Autoencoder:
    return Autoencoder(seed=seed, hidden=4, bottleneck=2, epochs=5)


def both(seed: int = 0, rate: float = 0.05) -> Hybrid:
    return Hybrid([(small(seed), [1, 2, 3]), (KnownAttacks(), None)], seed=seed, false_alarm_rate=rate)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
def test_no_more_benign_flows_of_left_out_networks_are_flagged_than_promised(rate: float) -> None:
    X, attack, groups = networks()
    model = both(rate=rate).fit(X, attack, groups)
    assert (model.held_out_[~attack] > 0).mean() <= rate
    for part in model.parts_:
        assert np.isfinite(part.threshold)


def test_known_attacks_are_found_in_another_network_where_the_autoencoder_cannot_see_them() -> None:
    X, attack, groups = networks()
    learnt = groups != "b"
    blind = Hybrid([(small(), [1, 2, 3])], seed=0).fit(X[learnt], attack[learnt], groups[learnt])
    seeing = both().fit(X[learnt], attack[learnt], groups[learnt])
    new = ~learnt & attack
    assert blind.predict(X[new]).mean() < 0.2
    assert seeing.predict(X[new]).all()
    assert seeing.predict(X[~learnt & ~attack]).mean() < 0.15


def test_scores_left_out_are_those_of_a_model_without_the_group() -> None:
    X, attack, groups = networks(n=80)
    told = scores_left_out(KnownAttacks(), X, attack, groups, seed=0)
    for group in "abcd":
        own = groups == group
        alone = KnownAttacks().fit(X[~own], attack[~own], groups[~own])
        np.testing.assert_allclose(told[own], alone.score_samples(X[own]))


def test_a_network_that_holds_all_attacks_has_no_score_for_known_ones() -> None:
    X, attack, groups = networks(n=80, attacks=("a",))
    told = scores_left_out(KnownAttacks(), X, attack, groups, seed=0)
    assert np.isnan(told[groups == "a"]).all()
    assert np.isfinite(told[groups != "a"]).all()
    model = both().fit(X, attack, groups)
    assert np.isfinite(model.held_out_).all()  # the autoencoder judges them


def test_the_score_is_the_most_above_a_threshold() -> None:
    X, attack, groups = networks(n=60)
    model = both().fit(X, attack, groups)
    expected = np.maximum(
        np.log(model.parts_[0].model.score_samples(X[:, [1, 2, 3]])) - model.parts_[0].threshold,
        model.parts_[1].model.score_samples(X) - model.parts_[1].threshold,
    )
    np.testing.assert_allclose(model.score_samples(X), expected, rtol=1e-5, atol=1e-5)
    sure = np.abs(expected) > 1e-4
    np.testing.assert_array_equal(model.predict(X)[sure], expected[sure] > 0)


def test_without_attacks_the_autoencoder_stands_alone() -> None:
    X, attack, groups = networks(attacks=())
    model = both().fit(X, attack, groups)
    assert [type(part.model) for part in model.parts_] == [Autoencoder]
    assert (model.held_out_ > 0).mean() <= 0.05


def test_equal_seeds_give_equal_models() -> None:
    X, attack, groups = networks(n=60)
    first, second, other = (both(seed).fit(X, attack, groups).score_samples(X) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_known_attacks_weigh_kinds_and_networks_alike() -> None:
    rng = np.random.default_rng(3)
    X = rng.exponential(5, (600, 3)).astype(np.float32)
    attack, groups = rng.random(600) < 0.2, rng.choice(["a", "a", "a", "b"], 600)
    model = KnownAttacks(strength=1.0).fit(X, attack, groups)
    weights = [1 / (2 * 2 * ((attack == bad) & (groups == g)).sum()) * 600 for bad, g in zip(attack, groups, strict=True)]
    scaled = np.clip(model.deviations_.transform(model.scaler_.transform(X)), -5, 5)
    oracle = LogisticRegression(C=1.0, max_iter=1000).fit(scaled, attack, sample_weight=weights)
    np.testing.assert_allclose(model.score_samples(X), oracle.decision_function(scaled), rtol=1e-3, atol=1e-3)


def test_a_network_many_times_as_large_changes_little() -> None:
    X, attack, groups = networks(n=100)
    own = np.flatnonzero(groups == "a")
    rows = np.concatenate([np.arange(len(X)), *[own] * 20])
    once, often = KnownAttacks().fit(X, attack, groups), KnownAttacks().fit(X[rows], attack[rows], groups[rows])
    assert np.corrcoef(once.score_samples(X), often.score_samples(X))[0, 1] > 0.99


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda X, y, g: (X, y, np.full(len(y), "a")), "all rows are of one network"),
        (lambda X, y, g: (X, y[:-1], g), "give one of each a row"),
        (lambda X, y, g: (np.where(X > 5, np.nan, X), y, g), "NaN or infinity"),
    ],
)
def test_bad_input_is_refused(change: Any, words: str) -> None:
    X, attack, groups = networks(n=40)
    with pytest.raises(ValueError, match=words):
        both().fit(*change(X, attack, groups))


def test_what_makes_no_detector_is_refused() -> None:
    X, attack, groups = networks(n=40, attacks=())
    with pytest.raises(ValueError, match="add an Autoencoder"):
        Hybrid([(KnownAttacks(), None)], seed=0).fit(X, attack, groups)
    with pytest.raises(ValueError, match="no parts"):
        Hybrid([], seed=0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        Hybrid([(small(), None)], seed=0, false_alarm_rate=1)
    with pytest.raises(ValueError, match="not learnt anything"):
        both().score_samples(X)
    with pytest.raises(ValueError, match="takes both"):
        KnownAttacks().fit(X, attack, groups)
