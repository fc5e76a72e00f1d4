"""The classifiers against scikit-learn, XGBoost, imbalanced-learn and a convolution in loops, and the laws of a classifier."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from imblearn.over_sampling import SMOTE
from sklearn.ensemble import RandomForestClassifier
from sklearn.utils.class_weight import compute_class_weight
from xgboost import XGBClassifier

from fliot_lab.models.autoencoder import Scaler
from fliot_lab.models.classifier import Classifier, class_weights, labelled, oversampled
from fliot_lab.models.cnn import CNN1D, network
from fliot_lab.models.trees import boosting, forest

D = 6
SIZES = {"DDoS": 120, "Benign": 60, "C&C": 30, "Okiru": 10}


def flows(seed: int, sizes: dict[str, int] = SIZES) -> tuple[np.ndarray, np.ndarray]:
    """(n, 6) float32 like flows, over many orders of magnitude, and their classes (n,), which have a centre each."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(5, 3, (len(sizes), D))
    y = rng.permutation(np.repeat(list(sizes), list(sizes.values())))
    logs = centres[[list(sizes).index(name) for name in y]] + rng.normal(0, 0.7, (len(y), D))
    X = np.expm1(np.abs(logs)).round()
    X[:, -1] = rng.random(len(y)) < 0.2  # a flag that says nothing
    return X.astype(np.float32), y.astype(object)


X, y = flows(1)
NEW, NEW_y = flows(2)
KINDS: dict[str, Callable[..., Classifier]] = {
    "forest": lambda **options: forest(**{"seed": 3, "trees": 10} | options),
    "boosting": lambda **options: boosting(**{"seed": 3, "trees": 10} | options),
    "CNN1D": lambda **options: CNN1D(
        **{"seed": 3, "channels": (4, 8), "epochs": 10, "batch_size": 16, "learning_rate": 1e-2} | options
    ),
}
each_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
each_balance = pytest.mark.parametrize("balance", [None, "weights", "smote"])


@each_kind
@each_balance
def test_classes_that_lie_apart_are_learnt(make, balance) -> None:
    model = make(balance=balance).fit(X, y)
    assert (model.predict(NEW) == NEW_y).mean() > 0.95
    for name in SIZES:
        assert (model.predict(NEW)[NEW_y == name] == name).mean() > 0.8


@each_kind
def test_the_answer_is_the_likeliest_class_by_name(make) -> None:
    model = make().fit(X, y)
    chances = model.predict_proba(NEW)
    assert list(model.classes_) == sorted(SIZES)
    assert chances.shape == (len(NEW), len(SIZES))
    assert chances.dtype == np.float64
    np.testing.assert_allclose(chances.sum(axis=1), 1, atol=1e-6)
    assert (chances >= 0).all()
    assert [str(model.classes_[row.argmax()]) for row in chances] == list(model.predict(NEW))
    assert all(type(name) is str for name in model.predict(NEW[:5]))
    assert model.predict(NEW[:0]).shape == (0,)
    assert model.predict_proba(NEW[:0]).shape == (0, len(SIZES))


@each_kind
@each_balance
def test_equal_seeds_give_equal_models_and_others_do_not(make, balance) -> None:
    rows, names = X[::3], y[::3]
    chances = make(balance=balance).fit(rows, names).predict_proba(NEW)
    torch.manual_seed(12345)  # nobody else's seed matters
    np.random.seed(12345)  # noqa: NPY002
    assert np.array_equal(make(balance=balance).fit(rows, names).predict_proba(NEW), chances)
    if make is not KINDS["boosting"]:  # which draws nothing as it is set up here
        assert not np.array_equal(make(balance=balance, seed=4).fit(rows, names).predict_proba(NEW), chances)


@each_kind
def test_a_second_fit_forgets_the_first_and_the_data_stay(make) -> None:
    before = X.copy(), y.copy()
    model = make(balance="smote").fit(NEW[:, :4], np.where(NEW_y == "DDoS", "one", "other"))
    assert np.array_equal(model.fit(X, y).predict_proba(NEW), make(balance="smote").fit(X, y).predict_proba(NEW))
    assert np.array_equal(X, before[0])
    assert np.array_equal(y, before[1])


@each_kind
def test_the_order_of_judged_rows_changes_nothing(make) -> None:
    model, order = make().fit(X, y), np.random.default_rng(0).permutation(len(NEW))
    np.testing.assert_allclose(model.predict_proba(NEW[order]), model.predict_proba(NEW)[order], rtol=1e-5, atol=1e-7)


@each_kind
def test_names_may_come_as_lists_categories_or_columns_and_be_any_text(make) -> None:
    odd = {"Benign": "", "DDoS": "ßenign", "C&C": "a\x00b", "Okiru": "with space"}
    names = np.array([odd[name] for name in y], dtype=object)
    expected = make().fit(X, names).predict(NEW)
    assert set(expected) == set(odd.values())
    for same in (
        list(names),
        pd.Series(names),
        pd.Series(names).astype("category"),
        pd.Series(names, index=range(5, 5 + len(y))),
    ):
        assert np.array_equal(make().fit(X.tolist(), same).predict(NEW), expected)


# ------------------------------------------------------------------------------------------- against the libraries


@each_balance
def test_the_forest_is_scikit_learns(balance) -> None:
    weight = "balanced" if balance == "weights" else None
    rows, names = resampled() if balance == "smote" else (X, y)
    theirs = RandomForestClassifier(10, class_weight=weight, random_state=3).fit(rows, names.astype(str))
    ours = forest(seed=3, trees=10, balance=balance).fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(NEW), theirs.predict_proba(NEW), rtol=1e-9)
    assert np.array_equal(ours.predict(NEW), theirs.predict(NEW))


@each_balance
def test_boosting_is_xgboosts(balance) -> None:
    rows, names = resampled() if balance == "smote" else (X, y)
    codes = np.array([sorted(SIZES).index(name) for name in names])
    sizes = {name: list(names).count(name) for name in SIZES}
    weights = [len(names) / (4 * sizes[name]) for name in names] if balance == "weights" else None
    theirs = XGBClassifier(n_estimators=10, max_depth=1, random_state=3).fit(rows, codes, sample_weight=weights)
    ours = boosting(seed=3, trees=10, depth=1, balance=balance).fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(NEW), theirs.predict_proba(NEW), rtol=1e-5)


def test_two_classes_are_enough() -> None:
    for make in KINDS.values():
        names = np.where(y == "Benign", "Benign", "Attack")
        model = make().fit(X, names)
        assert model.predict_proba(NEW).shape == (len(NEW), 2)
        assert (model.predict(NEW) == np.where(NEW_y == "Benign", "Benign", "Attack")).mean() > 0.95


# ------------------------------------------------------------------------------------------------ weights and SMOTE


def codes_of(names: np.ndarray) -> np.ndarray:
    return np.unique(names.astype(str), return_inverse=True)[1]


def resampled() -> tuple[np.ndarray, np.ndarray]:
    """X and y as `oversampled` gives them back, with names."""
    rows, codes = oversampled(X, codes_of(y), seed=3)
    return rows, np.array(sorted(SIZES), dtype=object)[codes]


def test_weights_let_each_class_count_alike() -> None:
    codes = codes_of(y)
    weights = class_weights(codes)
    np.testing.assert_allclose(weights, compute_class_weight("balanced", classes=np.arange(4), y=codes))
    np.testing.assert_allclose(np.bincount(codes, weights=weights[codes]), len(y) / 4)
    assert weights[codes].mean() == pytest.approx(1)


def test_weights_find_more_of_a_rare_class_that_mixes_with_a_common_one() -> None:
    rng = np.random.default_rng(5)

    def rows(kind: int, n: int) -> np.ndarray:
        return rng.normal(kind, 1, (n, 3)).astype(np.float32)

    train, new = np.concatenate([rows(0, 1000), rows(1, 20)]), rows(1, 500)
    names = np.repeat(np.array(["Benign", "rare"], dtype=object), [1000, 20])
    for kind, options in (("forest", {"trees": 30}), ("boosting", {"depth": 2}), ("CNN1D", {"epochs": 3})):
        found = {
            balance: (KINDS[kind](balance=balance, **options).fit(train, names).predict(new) == "rare").mean()
            for balance in (None, "weights", "smote")
        }
        assert found["smote"] > found[None] + 0.2, kind
        if kind != "forest":  # its trees learn each row by heart, so that weights hardly move them
            assert found["weights"] > found[None] + 0.2, kind


def test_smote_is_imbalanced_learns_on_the_scalers_scale() -> None:
    scaler, codes = Scaler().fit(X), codes_of(y)
    theirs, their_codes = SMOTE(random_state=3).fit_resample(scaler.transform(X), codes)
    rows, our_codes = oversampled(X, codes, seed=3)
    assert np.array_equal(our_codes, their_codes)
    assert np.array_equal(rows[: len(X)], X)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(scaler.transform(rows), theirs, rtol=1e-4, atol=1e-5)
    assert np.bincount(our_codes).tolist() == [120] * 4


def test_each_synthetic_row_lies_between_two_neighbours_of_its_class() -> None:
    rows, names = flows(4, {"Benign": 60, "few": 4, "two": 2, "alone": 1, "many": 30})
    codes = codes_of(names)
    more, more_codes = oversampled(rows, codes, seed=1)
    alone = sorted(set(names)).index("alone")
    assert [int((more_codes == code).sum()) for code in range(5)] == [1 if code == alone else 60 for code in range(5)]
    scaler = Scaler().fit(rows)
    scaled = scaler.transform(rows).astype(float)
    for new, code in zip(scaler.transform(more[len(rows) :]).astype(float), more_codes[len(rows) :], strict=True):
        assert min(off_the_line(new, scaled[codes == code])) < 1e-4


def off_the_line(new: np.ndarray, own: np.ndarray) -> list[float]:
    """How far `new` (d,) lies from the lines between each row of `own` (m, d) and its five nearest others."""
    found = []
    for row in own:
        nearest = sorted(own, key=lambda other: float(((other - row) ** 2).sum()))[1:6]
        for other in nearest:
            along = other - row
            place = np.clip((new - row) @ along / max(along @ along, 1e-12), 0, 1)
            found.append(float(np.abs(row + place * along - new).max()))
    return found


def test_what_neighbours_share_stays_bit_for_bit() -> None:
    """A constant that came back rounded would tell synthetic rows from given ones."""
    rows = np.repeat(np.array([[60, 1, 0, 1e9], [60, 0, 12345, 1e9]], dtype=np.float32), [30, 8], axis=0)
    rows[30:, 2] += np.arange(8)
    more, codes = oversampled(rows, np.repeat([0, 1], [30, 8]), seed=0)
    synthetic = more[38:]
    assert len(synthetic) == 22
    assert (codes[38:] == 1).all()
    assert (synthetic[:, [0, 1, 3]] == np.float32([60, 0, 1e9])).all()
    assert len(np.unique(synthetic[:, 2])) > 5
    assert (synthetic[:, 2] >= 12345).all()
    assert (synthetic[:, 2] <= 12352).all()


def test_smote_of_large_and_negative_numbers_stays_finite() -> None:
    rows = np.random.default_rng(0).choice(np.float32([3e38, -3e38, 0, 1]), (40, 3))
    more, _ = oversampled(rows, np.repeat([0, 1], [30, 10]), seed=0)
    assert np.isfinite(more).all()


def test_the_scaler_goes_back_to_where_it_came_from() -> None:
    scaler = Scaler().fit(X)
    kept = np.abs(scaler.transform(NEW)).max(axis=1) < 20
    np.testing.assert_allclose(scaler.inverse_transform(scaler.transform(NEW))[kept], NEW[kept], rtol=1e-4, atol=1e-5)
    negative = np.array([[-7, 3e38, -3e38, 0, 1e-3, 0]], dtype=np.float32)
    wide = Scaler().fit(np.concatenate([negative, -negative, 0 * negative]))
    np.testing.assert_allclose(wide.inverse_transform(wide.transform(negative)), negative, rtol=1e-3)
    back = scaler.inverse_transform(np.full((1, D), 1e30))
    assert (back == np.finfo(np.float32).max).all()
    assert back.dtype == np.float32
    with pytest.raises(ValueError, match="not seen anything yet: call fit"):
        Scaler().inverse_transform(X)
    with pytest.raises(ValueError, match="X has 4 features, and fit was given 6"):
        scaler.inverse_transform(X[:, :4])


# ------------------------------------------------------------------------------------------------------ the network


def convolved_by_hand(model: CNN1D, rows: np.ndarray) -> np.ndarray:
    """Logits (n, c) of scaled rows (n, d), one product at a time."""
    state = {name: value.numpy().astype(float) for name, value in model.network_.state_dict().items()}
    logits = []
    for row in rows.astype(float):
        signal = row[None]  # (1, d)
        for layer in range(len(model.channels)):
            weight, bias = state[f"convolutions.{layer}.weight"], state[f"convolutions.{layer}.bias"]
            margin = weight.shape[2] // 2
            out = np.zeros((len(weight), len(row)))
            for channel in range(len(weight)):
                for place in range(len(row)):
                    total = bias[channel]
                    for before in range(len(signal)):
                        for step in range(weight.shape[2]):
                            at = place + step - margin
                            total += weight[channel, before, step] * signal[before, at] if 0 <= at < len(row) else 0
                    out[channel, place] = max(total, 0)
            signal = out
        logits.append(state["answer.weight"] @ signal.ravel() + state["answer.bias"])
    return np.array(logits)


@pytest.mark.parametrize(("channels", "kernel"), [((2, 3), 3), ((3,), 1), ((2, 2, 2), 5)])
def test_the_network_convolves_as_by_hand(channels, kernel) -> None:
    model = CNN1D(seed=3, channels=channels, kernel=kernel, epochs=1).fit(X, y)
    scaled = Scaler().fit(X).transform(NEW[:6])
    assert np.array_equal(scaled, model.scaler_.transform(NEW[:6]))
    logits = convolved_by_hand(model, scaled)
    np.testing.assert_allclose(model.network_(torch.from_numpy(scaled)).detach().numpy(), logits, rtol=1e-4, atol=1e-4)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(model.predict_proba(NEW[:6]), odds / odds.sum(axis=1, keepdims=True), rtol=1e-3, atol=1e-6)


def test_networks_of_one_form_have_one_shape_whatever_they_learnt_from() -> None:
    def shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
        return {name: tuple(value.shape) for name, value in model.state_dict().items()}

    made = network(D, 4, (16, 32), 3, torch.Generator().manual_seed(3))
    again = network(D, 4, (16, 32), 3, torch.Generator().manual_seed(3))
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), again.parameters(), strict=True))
    learnt = CNN1D(seed=5, epochs=1).fit(X[::2], y[::2])
    assert shapes(made) == shapes(learnt.network_)
    made.load_state_dict(learnt.network_.state_dict())
    rows = torch.from_numpy(learnt.scaler_.transform(NEW))
    assert torch.equal(made(rows), learnt.network_(rows))


def test_torchs_own_random_numbers_and_threads_are_left_alone() -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    CNN1D(seed=3, epochs=1).fit(X, y).predict(NEW)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_weights_move_the_loss_of_the_network() -> None:
    """With one batch a step, the first step is that of the weighted loss by hand."""
    trained = CNN1D(seed=3, epochs=1, batch_size=len(X), balance="weights").fit(X, y)
    generator = torch.Generator().manual_seed(3)
    by_hand = network(D, 4, (16, 32), 3, generator)
    rows, codes = torch.from_numpy(Scaler().fit(X).transform(X)), torch.from_numpy(codes_of(y))
    order = torch.randperm(len(X), generator=generator)
    sizes = np.array([SIZES[name] for name in sorted(SIZES)])
    weight = torch.tensor(len(X) / (4 * sizes))[codes[order]]
    chances = by_hand(rows[order]).log_softmax(dim=1)[torch.arange(len(X)), codes[order]]
    (-(weight * chances).sum() / weight.sum()).backward()
    torch.optim.Adam(by_hand.parameters(), lr=1e-3).step()
    for ours, theirs in zip(trained.network_.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize(
    "form", [{"channels": ()}, {"channels": (4, 0)}, {"kernel": 2}, {"kernel": 0}, {"kernel": -3}], ids=str
)
def test_a_network_that_cannot_be_is_refused(form) -> None:
    with pytest.raises(ValueError, match="all from 1, kernel odd"):
        CNN1D(seed=3, **form).fit(X, y)


# ---------------------------------------------------------------------------------------------------------- refusals


def with_value(value: float) -> np.ndarray:
    rows = X.copy()
    rows[17, 2] = value
    return rows


def with_name(name: object) -> np.ndarray:
    names = y.copy()
    names[17] = name
    return names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((with_value(np.nan), y), "NaN or infinity, first in row 17, column 2"),
        ((with_value(np.inf), y), "NaN or infinity, first in row 17, column 2"),
        ((X[0], y), r"matrix \(n, d\).*got shape \(6,\)"),
        ((X[:0], y[:0]), r"at least one row and one feature, got shape \(0, 6\); is the split empty"),
        ((X[:, :0], y), r"at least one row and one feature, got shape \(220, 0\)"),
        ((X, y[:-1]), r"X has 220 rows and y the shape \(219,\); give one class per row"),
        ((X, y[:, None]), r"X has 220 rows and y the shape \(220, 1\)"),
        ((X, np.full(len(X), "DDoS")), "one class, 'DDoS', in all 220 rows"),
        ((X, with_name(None)), "y holds None in row 17; a class is a text such as 'Benign'"),
        ((X, with_name(np.nan)), "y holds nan in row 17"),
        ((X, with_name(3)), "y holds 3 in row 17"),
        ((X, np.arange(len(X))), "y holds 0 in row 0"),
        ((X, np.full(len(X), None)), "y holds None in row 0"),
    ],
)
def test_fit_refuses(arguments, message) -> None:
    for make in KINDS.values():
        with pytest.raises(ValueError, match=message):
            make().fit(*arguments)


def test_answers_are_refused_before_fit_and_for_other_features() -> None:
    for make in KINDS.values():
        model = make()
        for ask in (model.predict, model.predict_proba):
            with pytest.raises(ValueError, match=r"not learnt anything yet: call fit\(X, y\)"):
                ask(X)
        model.fit(X, y)
        for ask in (model.predict, model.predict_proba):
            with pytest.raises(ValueError, match="X has 4 features, and fit was given 6"):
                ask(X[:, :4])
            with pytest.raises(ValueError, match="NaN or infinity, first in row 17, column 2"):
                ask(with_value(np.nan))
        with pytest.raises(ValueError, match='balance=\'adasyn\': expected None, "weights" or "smote"'):
            make(balance="adasyn")


def test_labels_are_given_back_by_their_codes() -> None:
    rows, codes, names = labelled(X.tolist(), y)
    assert rows.dtype == np.float32
    assert np.array_equal(names[codes], y)
    assert list(names) == sorted(set(y))
    with pytest.raises(ValueError, match="X has 6 features, and fit was given 5"):
        labelled(X, y, 5)
