"""The autoencoders against a forward pass and a decomposition in plain numpy, and the laws of a detector."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf

from fliot_lab.evaluation import threshold_at_fpr
from fliot_lab.models import autoencoder
from fliot_lab.models.autoencoder import Autoencoder, LinearAutoencoder, Scaler

D = 6


def benign(n: int, seed: int) -> np.ndarray:
    """(n, 6) float32, like flows: counts over many orders of magnitude that hang together, a rare flag and a constant."""
    rng = np.random.default_rng(seed)
    packets = np.exp(rng.normal(2, 1.5, n)).round()
    flag, constant = rng.random(n) < 0.1, np.full(n, 3.0)
    columns = [packets, packets * 60, packets * rng.integers(0, 3, n), rng.exponential(5, n), flag, constant]
    return np.column_stack(columns).astype(np.float32)


TRAIN, HELD_OUT = benign(400, 1), benign(150, 2)


def fitted(**options) -> Autoencoder:
    return Autoencoder(**{"seed": 7, "epochs": 6, "batch_size": 64} | options).fit(TRAIN, HELD_OUT)


@pytest.fixture(scope="module")
def model() -> Autoencoder:
    return fitted()


def scaled_by_hand(X: np.ndarray) -> np.ndarray:
    """X on the log scale, centred by TRAIN's medians and divided by its interquartile ranges where they are not 0."""
    logs = np.sign(TRAIN.astype(float)) * np.log1p(np.abs(TRAIN.astype(float)))
    spread = np.percentile(logs, 75, axis=0) - np.percentile(logs, 25, axis=0)
    spread[spread == 0] = 1
    numbers = np.sign(X.astype(float)) * np.log1p(np.abs(X.astype(float)))
    return np.clip((numbers - np.median(logs, axis=0)) / spread, -20, 20)


def scored_by_hand(model: Autoencoder, X: np.ndarray) -> np.ndarray:
    weights = {name: value.numpy().astype(float) for name, value in model.networks_[0].state_dict().items()}
    layers = sorted({int(name.split(".")[0]) for name in weights})
    scores = []
    for row in scaled_by_hand(X):
        signal = row
        for place, layer in enumerate(layers):
            signal = weights[f"{layer}.weight"] @ signal + weights[f"{layer}.bias"]
            if place in (0, 2):  # the two hidden layers; the code and the output are plain numbers
                signal = np.maximum(signal, 0)
        scores.append(np.mean((signal - row) ** 2))
    return np.array(scores)


def test_the_score_is_that_of_a_forward_pass_by_hand(model: Autoencoder) -> None:
    rows = np.concatenate([HELD_OUT, [[1e9, 0, -5, 1e30, 1, 0]]]).astype(np.float32)
    scores = model.score_samples(rows)
    assert scores.shape == (151,)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, scored_by_hand(model, rows), rtol=1e-4)
    sizes = [tuple(value.shape) for name, value in model.networks_[0].state_dict().items() if name.endswith("weight")]
    assert sizes == [(16, D), (4, 16), (16, 4), (D, 16)]


def test_equal_seeds_give_equal_scores_and_others_do_not(model: Autoencoder) -> None:
    scores = model.score_samples(HELD_OUT)
    torch.manual_seed(12345)  # nobody else's seed matters
    again = fitted()
    assert np.array_equal(again.score_samples(HELD_OUT), scores)
    assert again.threshold_ == model.threshold_
    assert again.history_ == model.history_
    assert not np.allclose(fitted(seed=8).score_samples(HELD_OUT), scores)


def test_a_second_fit_forgets_the_first(model: Autoencoder) -> None:
    twice = Autoencoder(seed=7, epochs=6, batch_size=64).fit(benign(60, 9)).fit(TRAIN, HELD_OUT)
    assert np.array_equal(twice.score_samples(HELD_OUT), model.score_samples(HELD_OUT))


def test_torchs_own_random_numbers_and_threads_and_the_data_are_left_alone() -> None:
    state, threads, before = torch.get_rng_state(), torch.get_num_threads(), (TRAIN.copy(), HELD_OUT.copy())
    fitted(epochs=1).predict(HELD_OUT)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert np.array_equal(TRAIN, before[0])
    assert np.array_equal(HELD_OUT, before[1])


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1, 0.5])
def test_so_many_held_out_rows_are_alarms_and_no_more(rate: float) -> None:
    model = fitted(epochs=1, false_alarm_rate=rate)
    alarms = model.predict(HELD_OUT)
    scores = model.score_samples(HELD_OUT)
    assert alarms.dtype == bool
    assert np.array_equal(alarms, scores > model.threshold_)
    assert alarms.mean() <= rate
    lower = scores[scores < model.threshold_].max()  # the threshold is the smallest that serves
    assert (scores > lower).mean() > rate


def test_the_last_quarter_is_held_out_where_nothing_else_is(model: Autoencoder) -> None:
    rows = benign(203, 3)
    alone = Autoencoder(seed=7, epochs=2).fit(rows)
    explicit = Autoencoder(seed=7, epochs=2).fit(rows[:153], rows[153:])
    assert alone.threshold_ == explicit.threshold_ == threshold_at_fpr(alone.score_samples(rows[-50:]), 0.01)
    assert np.array_equal(alone.score_samples(rows), explicit.score_samples(rows))


def test_an_obvious_outlier_is_an_alarm_and_fresh_benign_rows_are_not() -> None:
    model = fitted(epochs=30, learning_rate=1e-2)
    outliers = np.array([[5, 6e7, 0, 1e6, 0, 3], [20_000, 0, 900, 0, 1, 3], [7, 420, 7, 5, 0, 40_000]], dtype=np.float32)
    assert model.predict(outliers).all()
    assert model.predict(benign(2000, 4)).mean() < 0.05
    assert model.history_["training"][-1] < 0.5 * model.history_["training"][0]


def test_constant_columns_and_rare_flags_divide_by_nothing() -> None:
    rows = np.zeros((100, 4), dtype=np.float32)
    rows[:, 1] = 3e38
    rows[:, 2] = -7
    rows[::10, 3] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = Autoencoder(seed=1, epochs=3).fit(rows)
        scores = model.score_samples(rows)
    assert np.isfinite(scores).all()
    assert np.array_equal(model.scaler_.scale_, [1, 1, 1, 1])
    changed = rows[1:2] + np.array([[50, 0, 0, 0]], dtype=np.float32)
    assert model.score_samples(changed)[0] > scores.max()


def test_blocks_score_as_the_whole_does(model: Autoencoder, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = model.score_samples(HELD_OUT)
    for size in (1, 7, 150, 151):
        monkeypatch.setattr(autoencoder, "_SCORE_ROWS", size)
        np.testing.assert_allclose(model.score_samples(HELD_OUT), whole, rtol=1e-5, atol=1e-7)
    order = np.random.default_rng(0).permutation(len(HELD_OUT))
    np.testing.assert_allclose(model.score_samples(HELD_OUT[order]), whole[order], rtol=1e-5, atol=1e-7)
    assert model.score_samples(HELD_OUT[:0]).shape == (0,)


def test_training_stops_early_and_keeps_the_best_epoch() -> None:
    model = fitted(epochs=60, patience=2, learning_rate=0.05)
    held_out = model.history_["held-out"]
    best = int(np.argmin(held_out))
    assert len(held_out) == len(model.history_["training"]) == best + 1 + 2 < 60
    assert held_out[-1] > held_out[best]
    assert model.score_samples(HELD_OUT).mean() == pytest.approx(held_out[best], rel=1e-4)


def test_lists_and_other_numbers_are_taken(model: Autoencoder) -> None:
    expected = model.score_samples(HELD_OUT[:5])
    assert np.array_equal(model.score_samples(HELD_OUT[:5].tolist()), expected)
    assert np.array_equal(model.score_samples(HELD_OUT[:5].astype(np.float64)), expected)


def with_value(value: float) -> np.ndarray:
    rows = TRAIN.copy()
    rows[17, 2] = value
    return rows


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((with_value(np.nan),), "NaN or infinity, first in row 17, column 2"),
        ((with_value(np.inf),), "NaN or infinity, first in row 17, column 2"),
        ((TRAIN, with_value(-np.inf)), "NaN or infinity, first in row 17, column 2"),
        ((TRAIN[0],), r"matrix \(n, d\).*got shape \(6,\)"),
        ((TRAIN, HELD_OUT[:, :5]), "X has 5 features, and fit was given 6"),
        ((TRAIN[:19],), "at least 20 in all; got 15 and 4 held out"),
        ((TRAIN[:3],), "at least 20 in all"),
        ((TRAIN[:0],), "at least 20 in all; got 0 and 0 held out"),
        ((TRAIN, TRAIN[:0]), "got 400 and 0 held out"),
        ((TRAIN[:0], TRAIN), "got 0 and 400 held out"),
    ],
)
def test_fit_refuses(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        Autoencoder(seed=7).fit(*arguments)


def test_scoring_refuses(model: Autoencoder) -> None:
    for ask in (Autoencoder(seed=7).score_samples, Autoencoder(seed=7).predict):
        with pytest.raises(ValueError, match="not learnt anything yet: call fit"):
            ask(TRAIN)
    for ask in (model.score_samples, model.predict):
        with pytest.raises(ValueError, match="X has 4 features, and fit was given 6"):
            ask(TRAIN[:, :4])
        with pytest.raises(ValueError, match="NaN or infinity"):
            ask(with_value(np.nan))
        with pytest.raises(ValueError, match="matrix"):
            ask(TRAIN[0])


# ---------------------------------------------------------------------------------------------------------- the scaler


def test_the_scaler_scales_as_by_hand_and_clips() -> None:
    scaler = Scaler().fit(TRAIN)
    rows = np.concatenate([HELD_OUT, [[1e9, 0, -5, 1e30, 1, 0]]]).astype(np.float32)
    scaled = scaler.transform(rows)
    assert scaled.dtype == scaler.centre_.dtype == scaler.scale_.dtype == np.float32
    np.testing.assert_allclose(scaled, scaled_by_hand(rows), rtol=1e-4, atol=1e-5)
    assert scaled.max() == 20
    assert Scaler().fit(TRAIN).transform(TRAIN[:0]).shape == (0, D)
    assert np.array_equal(fitted(epochs=1).scaler_.transform(rows), scaled)
    assert np.array_equal(LinearAutoencoder().fit(TRAIN, HELD_OUT).scaler_.transform(rows), scaled)


def test_the_scaler_refuses() -> None:
    with pytest.raises(ValueError, match=r"not seen anything yet: call fit"):
        Scaler().transform(TRAIN)
    with pytest.raises(ValueError, match="X has no rows"):
        Scaler().fit(TRAIN[:0])
    with pytest.raises(ValueError, match="X has 4 features, and fit was given 6"):
        Scaler().fit(TRAIN).transform(TRAIN[:, :4])
    with pytest.raises(ValueError, match="NaN or infinity, first in row 17, column 2"):
        Scaler().fit(with_value(np.nan))


# -------------------------------------------------------------------------------------------------- the linear squeeze


def squeezed_by_hand(X: np.ndarray, bottleneck: int) -> np.ndarray:
    """Errors (n,) of X rebuilt from the first directions of the singular value decomposition of TRAIN, scaled by hand."""
    fit, new = scaled_by_hand(TRAIN), scaled_by_hand(X)
    mean = fit.mean(axis=0)
    directions = np.linalg.svd(fit - mean)[2][:bottleneck]
    rebuilt = sum((np.outer((new - mean) @ v, v) for v in directions), start=np.tile(mean, (len(X), 1)))
    return np.mean((new - rebuilt) ** 2, axis=1)


@pytest.mark.parametrize("bottleneck", [1, 2, 4])
def test_the_linear_squeeze_is_that_of_a_decomposition_by_hand(bottleneck: int) -> None:
    rows = np.concatenate([HELD_OUT, [[1e9, 0, -5, 1e30, 1, 0]]]).astype(np.float32)
    linear = LinearAutoencoder(bottleneck=bottleneck).fit(TRAIN, HELD_OUT)
    scores = linear.score_samples(rows)
    assert scores.shape == (151,)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, squeezed_by_hand(rows, bottleneck), rtol=1e-3, atol=1e-8)
    assert linear.threshold_ == threshold_at_fpr(linear.score_samples(HELD_OUT), 0.01)
    assert np.array_equal(linear.predict(rows), scores > linear.threshold_)
    assert LinearAutoencoder(false_alarm_rate=0.2).fit(TRAIN, HELD_OUT).predict(HELD_OUT).mean() == pytest.approx(0.2)


def test_where_nothing_is_squeezed_nothing_is_lost() -> None:
    errors = [LinearAutoencoder(bottleneck=b).fit(TRAIN, HELD_OUT).score_samples(TRAIN).mean() for b in range(1, D + 1)]
    assert errors == sorted(errors, reverse=True)  # the law of principal components: one more never rebuilds worse
    assert errors[-1] < 1e-12 < 1e-4 < errors[0]


def test_the_order_of_rows_changes_nothing_and_blocks_score_as_the_whole_does(monkeypatch: pytest.MonkeyPatch) -> None:
    order = np.random.default_rng(0).permutation(len(TRAIN))
    linear, shuffled = LinearAutoencoder().fit(TRAIN, HELD_OUT), LinearAutoencoder().fit(TRAIN[order], HELD_OUT)
    whole = linear.score_samples(HELD_OUT)
    np.testing.assert_allclose(shuffled.score_samples(HELD_OUT), whole, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(linear.score_samples(HELD_OUT[::-1]), whole[::-1], rtol=1e-9, atol=1e-14)
    again = LinearAutoencoder().fit(TRAIN, HELD_OUT)
    assert np.array_equal(again.score_samples(HELD_OUT), whole)
    assert again.threshold_ == linear.threshold_
    monkeypatch.setattr(autoencoder, "_SCORE_ROWS", 7)
    np.testing.assert_allclose(linear.score_samples(HELD_OUT), whole, rtol=1e-9, atol=1e-14)
    assert linear.score_samples(HELD_OUT[:0]).shape == (0,)


def test_the_linear_squeeze_holds_out_the_last_quarter_too() -> None:
    rows = benign(203, 3)
    alone, explicit = LinearAutoencoder().fit(rows), LinearAutoencoder().fit(rows[:153], rows[153:])
    assert alone.threshold_ == explicit.threshold_ == threshold_at_fpr(alone.score_samples(rows[-50:]), 0.01)


@pytest.mark.parametrize("bottleneck", [0, -1, 7])
def test_a_bottleneck_that_does_not_fit_the_features_is_refused(bottleneck: int) -> None:
    with pytest.raises(ValueError, match=rf"bottleneck is {bottleneck}, and must be 1 to 6, the features, and below 400"):
        LinearAutoencoder(bottleneck=bottleneck).fit(TRAIN, HELD_OUT)


def test_the_linear_squeeze_refuses() -> None:
    with pytest.raises(ValueError, match="bottleneck is 4, and must be 1 to 6, the features, and below 4, the training rows"):
        LinearAutoencoder().fit(TRAIN[:4], HELD_OUT)
    with pytest.raises(ValueError, match="at least 20 in all; got 15 and 4 held out"):
        LinearAutoencoder().fit(TRAIN[:19])
    for ask in (LinearAutoencoder().score_samples, LinearAutoencoder().predict):
        with pytest.raises(ValueError, match="not learnt anything yet: call fit"):
            ask(TRAIN)
    linear = LinearAutoencoder().fit(TRAIN, HELD_OUT)
    with pytest.raises(ValueError, match="X has 4 features, and fit was given 6"):
        linear.score_samples(TRAIN[:, :4])
    with pytest.raises(ValueError, match="NaN or infinity, first in row 17, column 2"):
        linear.fit(with_value(np.inf), HELD_OUT)


def test_whitened_scores_are_mahalanobis_lengths_of_residuals() -> None:
    rng = np.random.default_rng(4)
    X = rng.exponential(50, (300, 6)).astype(np.float32)
    model = Autoencoder(seed=1, bottleneck=2, epochs=5, whiten=True).fit(X[:220], X[220:])

    def residuals(rows: np.ndarray) -> np.ndarray:
        scaled = torch.from_numpy(model.scaler_.transform(rows))
        return (model.networks_[0](scaled) - scaled).detach().numpy().astype(np.float64)

    covariance = LedoitWolf(assume_centered=True).fit(residuals(X[:220])).covariance_
    expected = [r @ np.linalg.solve(covariance, r) / 6 for r in residuals(X)]
    np.testing.assert_allclose(model.score_samples(X), expected, rtol=1e-3)
    assert abs(model.score_samples(X[:220]).mean() - 1) < 0.2  # about 1 by construction, where it learnt


def test_an_ensemble_is_the_mean_of_its_members() -> None:
    X = np.random.default_rng(5).exponential(50, (200, 5)).astype(np.float32)
    model = Autoencoder(seed=2, epochs=3, members=3).fit(X)
    scaled = torch.from_numpy(model.scaler_.transform(X))
    each = [(member(scaled) - scaled).square().mean(1).detach().numpy() for member in model.networks_]
    assert len(each) == 3
    assert not np.allclose(each[0], each[1])
    np.testing.assert_allclose(model.score_samples(X), np.mean(each, axis=0), rtol=1e-5)
    alone = Autoencoder(seed=2, epochs=3).fit(X)
    np.testing.assert_allclose(alone.score_samples(X).mean(), each[0].mean(), rtol=0.5)
    with pytest.raises(ValueError, match="members=0"):
        Autoencoder(seed=0, members=0)
