"""What clients tell about their rows: sums from which all learn what one that sees all rows would, nearly."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fliot_lab.evaluation import threshold_at_fpr
from fliot_lab.federation import statistics, topology
from fliot_lab.federation.simulation import Federation
from fliot_lab.models import autoencoder, saved
from fliot_lab.models.batched import SGD, Clients, squared_error

RANDOM = np.random.default_rng(0)
ROWS = np.concatenate([RANDOM.lognormal(3, 2, (400, 3)), RANDOM.integers(0, 2, (400, 1)), np.full((400, 1), 7)], axis=1)
PARTS = np.split(np.arange(400), [3, 120, 390])


def test_summed_up_the_rows_scale_as_pooled_ones() -> None:
    found = statistics.scaler(sum(statistics.feature_sums(ROWS[part]) for part in PARTS))
    logs = np.log1p(ROWS.astype(np.float32)).astype(float)
    assert np.allclose(found.centre_, logs.mean(0), atol=1e-5)
    assert np.allclose(found.scale_, np.where(logs.std(0) > 0, logs.std(0), 1), atol=1e-5)
    scaled = found.transform(ROWS)
    assert np.allclose(scaled.mean(0), 0, atol=1e-4)
    assert np.allclose(found.inverse_transform(scaled), ROWS, rtol=1e-3)


@settings(deadline=None, max_examples=60)
@given(
    scores=st.lists(st.floats(0, 1e5), min_size=1, max_size=80),
    rate=st.floats(0.01, 0.5),
    cut=st.integers(0, 80),
)
def test_a_counted_threshold_keeps_the_promise_and_lies_close(scores, rate, cut) -> None:
    values = np.array(scores)
    total = statistics.score_counts(values[:cut]) + statistics.score_counts(values[cut:])
    assert total.sum() == len(values)
    found, exact = statistics.threshold(total, rate), threshold_at_fpr(values, rate)
    assert (values > found).mean() <= rate
    assert exact <= found * (1 + 1e-9)
    assert found <= max(1.13 * exact, 1.01e-8)


def test_what_is_sent_is_of_one_length_and_holds_no_row() -> None:
    canary = ROWS.copy()
    canary[5] = 424_242.0
    for rows in (ROWS[:3], canary):
        sent = statistics.feature_sums(rows), statistics.score_counts(rows[:, 0])
        assert [part.shape for part in sent] == [(11,), (282,)]
        assert all(abs(part - known).min() > 1e-6 for part in sent for known in (424_242.0, np.log1p(424_242.0)))


def test_a_federation_trains_a_detector_that_is_an_autoencoder(tmp_path) -> None:
    """Scaled, trained and cut without one pooled row; as good as one that saw all of them, give or take a little."""
    random = np.random.default_rng(1)
    benign = np.exp(random.standard_normal((900, 2)) @ random.standard_normal((2, 6)))
    odd = np.exp(random.standard_normal((300, 6)))
    parts = np.array_split(np.arange(600), 5)
    scaled_by = statistics.scaler(sum(statistics.feature_sums(benign[part]) for part in parts))
    X = scaled_by.transform(benign[:600])
    network = autoencoder.layers(6, 8, 2, torch.Generator().manual_seed(0))
    made = Federation(
        network, Clients.of(X, X, parts), topology.ring(5), seed=1, loss=squared_error, local=SGD(2, 16, 0.05, momentum=0.9)
    )
    made.run(40)
    detector = statistics.autoencoder(made.fitted(), scaled_by, 0)
    held_out = np.array_split(benign[600:], 5)
    cut = statistics.threshold(sum(statistics.score_counts(detector.score_samples(rows)) for rows in held_out), 0.05)
    detector = statistics.autoencoder(made.fitted(), scaled_by, cut)
    assert detector.predict(benign[600:]).mean() <= 0.05
    pooled = autoencoder.Autoencoder(seed=1, hidden=8, bottleneck=2, false_alarm_rate=0.05).fit(benign[:600], benign[600:])
    assert detector.predict(odd).mean() > 0.8 * pooled.predict(odd).mean() > 0.4
    folder = saved.save(
        detector, tmp_path / "model", features=list("abcdef"), card={"training": {}, "evaluation": {}, "limits": ["a test"]}
    )
    assert np.allclose(saved.load(folder).score_samples(odd), detector.score_samples(odd), rtol=1e-3)


def test_sums_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="no rows"):
        statistics.feature_sums(np.empty((0, 3)))
    with pytest.raises(ValueError, match="NaN or infinity"):
        statistics.feature_sums(np.array([[np.nan]]))
    for total in ([1.0, 2.0], [0.0, 1.0, 1.0], [2.0, np.nan, 1.0], np.ones((2, 3))):
        with pytest.raises(ValueError, match="feature_sums"):
            statistics.scaler(total)
    for scores in ([-1.0], [np.nan], [[1.0]]):
        with pytest.raises(ValueError, match="0 or more"):
            statistics.score_counts(scores)
    for total, rate in ((np.zeros(282), 0.1), (np.ones(5), 0.1), (np.ones(282), 0), (np.ones(282), 1)):
        with pytest.raises(ValueError, match="expected counts"):
            statistics.threshold(total, rate)
    with pytest.raises(ValueError, match=r"autoencoder\.layers"):
        statistics.autoencoder(torch.nn.Sequential(torch.nn.Linear(2, 2)), statistics.scaler([1.0, 0.0, 0.0]), 1)
