"""Federated boosting: XGBoost's own numbers from one client, sums of trees from many, and no thresholds that are rows."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
import xgboost
from flwr.app import Array, ArrayRecord, Context, Message
from numpy.testing import assert_allclose

from fliot_lab.federation.flower import apps, boosting, grid
from fliot_lab.federation.flower.boosting import ENSEMBLE, GRID, Bagging, Growth, gridded
from fliot_lab.federation.flower.strategy import RoundFailed

K, CLASSES = 4, 3
RANDOM = np.random.default_rng(3)
Y = RANDOM.integers(0, CLASSES, 600)
X = np.exp(RANDOM.standard_normal((600, 4)) + RANDOM.standard_normal((CLASSES, 4))[Y]).astype(np.float32)
TEST = np.arange(480, 600)
# Skewed: client k has few rows of class k, client 3 none of class 2.
OWNERS = np.where(RANDOM.random(480) < 0.85, (Y[:480] + 1 + RANDOM.integers(0, 2, 480)) % K, RANDOM.integers(0, K, 480))
OWNERS[(Y[:480] == 2) & (OWNERS == 3)] = 0
PARTS = [np.flatnonzero(k == OWNERS) for k in range(K)]
GROWTH = Growth(CLASSES, 4, depth=3)


def holding(context: Context, parts=PARTS, X=X, Y=Y) -> apps.Holding:
    rows = parts[int(context.node_config["partition-id"])]
    cut = len(rows) * 3 // 4
    return apps.Holding(torch.nn.Identity(), X[rows[:cut]], Y[rows[:cut]], X[rows[cut:]], Y[rows[cut:]])


def trained(rounds: int = 3, client=None, nodes: int = K, growth: Growth = GROWTH, **options) -> Context:
    chosen = {"seed": 5, "fraction_train": 1.0, "fraction_evaluate": 1.0, "min_train_nodes": 1, "min_evaluate_nodes": 1}
    server = boosting.server_app(lambda: Bagging(growth, **chosen | options), rounds)
    return grid.run(server, client or boosting.client_app(holding), nodes)


def sent(context: Context) -> bytes:
    return context.state["arrays"][ENSEMBLE].numpy().tobytes()


def told(document: bytes) -> list[dict]:
    return json.loads(document)["learner"]["gradient_booster"]["model"]["trees"]


def thresholds(document: bytes) -> np.ndarray:
    splits = [(tree["left_children"], tree["split_conditions"]) for tree in told(document) if len(tree["left_children"]) > 1]
    return np.array([value for left, values in splits for child, value in zip(left, values, strict=True) if child >= 0])


def walked(document: bytes, rows: np.ndarray, outputs: int) -> np.ndarray:
    """Margins (n, outputs) by following the JSON's trees, node by node."""
    found = np.zeros((len(rows), outputs))
    for place, tree in enumerate(told(document)):
        for number, row in enumerate(rows):
            node = 0
            while tree["left_children"][node] >= 0:
                left = row[tree["split_indices"][node]] < np.float32(tree["split_conditions"][node])
                node = tree["left_children" if left else "right_children"][node]
            found[number, place % outputs] += tree["split_conditions"][node]
    return found


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("trees", [1, 2])
def test_one_client_gets_what_xgboost_gets(classes: int, trees: int) -> None:
    y, growth = Y % classes, Growth(classes, 4, trees=trees, depth=3)
    own = boosting.client_app(lambda context: holding(context, [np.arange(480)], X, y))
    found = boosting.booster(trained(6, own, 1, growth)).predict(xgboost.DMatrix(X[TEST]))
    kind = {"objective": "binary:logistic"} if classes == 2 else {"objective": "multi:softprob", "num_class": classes}
    rows = xgboost.DMatrix(gridded(X[:360]), label=y[:360])
    plain = xgboost.train(kind | {"max_depth": 3, "eta": 0.3, "base_score": 0.5, "max_bin": len(GRID)}, rows, 6 * trees)
    assert_allclose(found, plain.predict(xgboost.DMatrix(gridded(X[TEST]))), atol=1e-5)
    assert np.ptp(found, axis=0).min() > 0.3


@pytest.mark.parametrize("classes", [2, 3])
def test_the_ensemble_is_the_weighted_sum_of_the_clients_trees(classes: int) -> None:
    y, growth = Y % classes, Growth(classes, 4, depth=3)
    plain, answers = boosting.client_app(lambda context: holding(context, PARTS, X, y)), []

    def listening(message: Message, context: Context) -> Message:
        answer = plain(message, context)
        if message.metadata.message_type == "train":
            answers.append((answer.content["arrays"][ENSEMBLE].numpy().tobytes(), answer.content["metrics"]["num-examples"]))
        return answer

    state = trained(2, listening, growth=growth)
    assert len(answers) == 2 * K
    total = sum(weight for _, weight in answers[:K])
    expected = sum(walked(document, X[TEST], growth.outputs) * weight / total for document, weight in answers)
    made = boosting.booster(state)
    assert made.num_boosted_rounds() == 2 * K
    found = made.predict(xgboost.DMatrix(X[TEST]), output_margin=True).reshape(len(TEST), -1)
    assert_allclose(found - expected, 0.0 if classes == 2 else 0.5, atol=1e-5)  # the base of all classes alike
    assert_allclose(walked(sent(state), X[TEST], growth.outputs), expected, atol=1e-5)


def test_together_clients_know_more_than_each_alone() -> None:
    def right(context: Context) -> float:
        return (boosting.booster(context).predict(xgboost.DMatrix(X[TEST])).argmax(1) == Y[TEST]).mean()

    together = trained(rounds=8)
    alone = [right(trained(8, boosting.client_app(lambda context, rows=rows: holding(context, [rows])), 1)) for rows in PARTS]
    assert right(together) > max(alone) + 0.03
    history, each = apps.history(together), apps.figures(together)
    assert history["loss"].iloc[-1] < history["loss"].iloc[0] < np.log(CLASSES)
    # What a client says of itself, by hand.
    rows = PARTS[1][len(PARTS[1]) * 3 // 4 :]
    chances = boosting.booster(together).predict(xgboost.DMatrix(X[rows]))
    said = each[(each["round"] == 8) & (each["client"] == 1)].iloc[0]
    assert said["num-examples"] == len(rows)
    assert said["accuracy"] == pytest.approx((chances.argmax(1) == Y[rows]).mean())
    assert said["loss"] == pytest.approx(-np.log(chances[np.arange(len(rows)), Y[rows]]).mean(), abs=1e-5)


def test_equal_seeds_give_equal_bytes(tmp_path: Path) -> None:
    path, half = tmp_path / "trees.safetensors", {"fraction_train": 0.5, "fraction_evaluate": 0.5}
    whole = trained(4, **half)
    assert sent(whole) == sent(trained(4, **half))
    assert sent(whole) != sent(trained(4, **half | {"seed": 6}))
    trained(2, checkpoint=path, **half)
    rest = trained(4, checkpoint=path, **half)
    assert sent(rest) == sent(whole)
    assert rest.state["best"] == whole.state["best"]
    assert apps.figures(rest).equals(apps.figures(whole))
    with pytest.raises(ValueError, match="was saved by another federation"):
        trained(4, checkpoint=path, growth=Growth(CLASSES, 4, depth=2), **half)


def test_early_stopping_keeps_the_best_ensemble() -> None:
    found = trained(30, patience=2, growth=Growth(CLASSES, 4, depth=6, learning_rate=1.0))
    losses = apps.history(found)["loss"]
    assert len(losses) == losses.argmin() + 3 < 30
    best = boosting.booster(found, boosting.BEST)
    assert best.num_boosted_rounds() == K * (losses.argmin() + 1)


def of_tree(**changes):
    """A document whose first tree has lists changed."""

    def changed(document: bytes) -> bytes:
        model = json.loads(document)
        tree = model["learner"]["gradient_booster"]["model"]["trees"][0]
        for name, change in changes.items():
            tree[name] = change(tree[name])
        return json.dumps(model).encode()

    return changed


GOOD = boosting.write(boosting.grow(X[:100], Y[:100], [], GROWTH), GROWTH)
BAD = {
    "nothing": (lambda _: b"", "no model that can be used"),
    "noise": (lambda _: bytes(range(256)), "no model that can be used"),
    "nested": (lambda _: b"[" * 100_000, "no model that can be used .RecursionError"),
    "no object": (lambda _: b"[1]", "no model that can be used"),
    "cut": (lambda good: good[:-500], "no model that can be used"),
    "classes": (lambda good: good.replace(b'"num_class":"3"', b'"num_class":"4"'), r"\[4, 4\], expected \[3, 4\]"),
    "features": (lambda good: good.replace(b'"num_feature":"4"', b'"num_feature":"9"'), r"\[3, 9\], expected \[3, 4\]"),
    "feature": (of_tree(split_indices=lambda was: [4] * len(was)), "by none of 4 features"),
    "circle": (of_tree(left_children=lambda was: [0, *was[1:]]), "does not lead from its root to its leaves"),
    "outside": (of_tree(left_children=lambda was: [99, *was[1:]]), "does not lead from its root to its leaves"),
    "text": (of_tree(left_children=lambda was: ["1", *was[1:]]), "are not numbers of one length"),
    "lengths": (of_tree(left_children=lambda was: was[1:]), "are not numbers of one length"),
    "threshold": (of_tree(split_conditions=lambda was: [1.2345, *was[1:]]), "splits off the grid"),
    "NaN": (of_tree(split_conditions=lambda was: [*was[:-1], float("nan")]), "its leaves are not finite"),
    "deep": (lambda _: boosting.write(boosting.grow(X, Y, [], Growth(3, 4, depth=9)), GROWTH), "or is too large"),
    "order": (lambda good: good.replace(b'"tree_info":[0,1,2]', b'"tree_info":[0,0,2]'), "do not go round the 3 outputs"),
    "many": (lambda _: boosting.write(2 * boosting.read(GOOD, GROWTH), GROWTH), "it sent 6 trees, expected 3"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_model_is_refused(name: str) -> None:
    change, said = BAD[name]
    wrong = change(GOOD)
    assert wrong != GOOD
    plan = Bagging(GROWTH, seed=1)
    record = ArrayRecord({ENSEMBLE: Array(np.frombuffer(GOOD, dtype=np.uint8))})
    assert plan._wrong_arrays(record) == ""
    record[ENSEMBLE] = Array(np.frombuffer(wrong, dtype=np.uint8))
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(plan._wrong_arrays(record))
    assert plan._wrong_arrays(ArrayRecord({"w": Array(np.ones(3))})) == "it holds the arrays ['w'], expected ensemble"


def test_a_bad_answer_is_left_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    plain, others = boosting.client_app(holding), [0, 1, 3]

    def bad(message: Message, context: Context) -> Message:
        answer = plain(message, context)
        if message.metadata.message_type == "train" and context.node_config["partition-id"] == 2:
            answer.content["arrays"][ENSEMBLE] = Array(np.frombuffer(b"", dtype=np.uint8))
        return answer

    with caplog.at_level(logging.WARNING, logger="fliot_lab"):
        found = trained(1, bad)
    assert caplog.text.count("round 1: node 4 is left out: it is no model that can be used") == 1
    parts = [PARTS[k] for k in others]
    assert sent(found) == sent(trained(1, boosting.client_app(lambda context: holding(context, parts)), 3))
    with pytest.raises(RoundFailed, match="3 of 4 answers can be used and the quorum is 4"):
        trained(1, bad, quorum=4)
    strange = boosting.client_app(lambda context: holding(context, PARTS, X, Y + CLASSES))
    with pytest.raises(RoundFailed), caplog.at_level(logging.WARNING, logger="fliot_lab"):
        trained(1, strange)
    assert "ValueError: y must be classes from 0 to 2" in caplog.text


@pytest.mark.parametrize("seed", range(3))
def test_no_threshold_is_a_value_of_a_row(seed: int) -> None:
    """A canary in client 2's rows, alone in its class, is what XGBoost splits at; on the grid nothing sent is near it."""
    canary, answers = 77_777.0, []
    rows, labels = X.copy(), Y.copy()
    labels[Y == 2] = seed % 2  # class 2 is the canary's alone, so that a split at it pays
    marked = PARTS[2][3:9]
    rows[marked, seed], labels[marked] = canary, 2
    plain = boosting.client_app(lambda context: holding(context, PARTS, rows, labels))

    def listening(message: Message, context: Context) -> Message:
        answers.append(plain(message, context).content)
        return plain(message, context)

    trained(2, listening)
    documents = [part["arrays"][ENSEMBLE].numpy().tobytes() for part in answers if "arrays" in part]
    found = np.concatenate([thresholds(document) for document in documents])
    assert len(found) > 30
    assert np.isin(found.astype(np.float32), GRID).all()
    assert not np.isin(found.astype(np.float32), rows[rows != 0]).any()
    numbers = np.concatenate([np.concatenate([t["split_conditions"], t["sum_hessian"]]) for d in documents for t in told(d)])
    for known in (canary, np.log1p(canary), np.log(canary)):
        assert np.abs(numbers - known).min() > 1e-3
    assert not any(np.any(tree["sum_hessian"]) or np.any(tree["base_weights"]) for d in documents for tree in told(d))
    # The oracle of the leak: the same client without the grid sends the canary itself.
    own = PARTS[2][: len(PARTS[2]) * 3 // 4]
    exact = xgboost.train(GROWTH.parameters, xgboost.DMatrix(rows[own], label=labels[own]), 1)
    leaked = thresholds(bytes(exact.save_raw("json"))).astype(np.float32)
    assert np.isin(leaked, rows[own]).all()
    assert canary in leaked


def test_the_grid_says_which_cell_a_value_lies_in() -> None:
    values = np.array([[-3.0, 0.0, 1.0, 2.0, 99.5, 3e38, -3e38]], dtype=np.float32)
    down = gridded(values)[0]
    assert np.isin(down, GRID).all()
    assert (down[:-1] <= values[0, :-1]).all()
    assert down[-1] == GRID[0]
    assert_allclose(np.diff(np.sign(GRID) * np.log1p(np.abs(GRID.astype(np.float64)))), 0.1, atol=1e-5)
    assert np.array_equal(gridded(gridded(values)), gridded(values))
    made = boosting.booster(trained(2))
    raw, cells = (made.predict(xgboost.DMatrix(rows)) for rows in (X, gridded(X)))
    assert np.array_equal(raw, cells)
    with pytest.raises(ValueError, match="NaN or infinity, first in row 0, column 1"):
        gridded([[1.0, np.nan]])


def test_what_cannot_be() -> None:
    for wrong in ({"classes": 1}, {"features": 0}, {"trees": 0}, {"depth": 0}, {"learning_rate": 0.0}):
        with pytest.raises(ValueError, match="expected 2 classes or more"):
            Growth(**{"classes": 3, "features": 4} | wrong)
    with pytest.raises(ValueError, match="rule: trees have no parameters"):
        Bagging(GROWTH, seed=1, rule=np.mean)
    with pytest.raises(RoundFailed, match="could not send their number; the first said: KeyError"):
        trained(1, lambda message, context: {}[0])
    same = boosting.client_app(holding)

    def one(message: Message, context: Context) -> Message:
        context.node_config["partition-id"] = 1
        return same(message, context)

    with pytest.raises(RoundFailed, match="two nodes have the same partition-id"):
        trained(1, one)
    start = boosting.booster(trained(0))
    assert start.num_boosted_rounds() == 0
    assert_allclose(start.predict(xgboost.DMatrix(X[:2])), 1 / CLASSES, atol=1e-6)
