"""Flower's apps in this process: the simulator's numbers, and a round that no answer can spoil or fake."""

import logging

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from torch import Tensor, nn

from fliot_lab.aggregation import rules
from fliot_lab.federation import statistics
from fliot_lab.federation.exchange import ServerAdam
from fliot_lab.federation.flower import apps, grid
from fliot_lab.federation.flower.strategy import RoundFailed, RuleStrategy
from fliot_lab.federation.simulation import Federation
from fliot_lab.models.batched import SGD, Clients

K = 6
RANDOM = np.random.default_rng(3)
Y = RANDOM.integers(0, 3, 60 * K)
X = np.exp(RANDOM.standard_normal((60 * K, 4)) + RANDOM.standard_normal((3, 4))[Y] * 2).astype(np.float32)
PARTS = np.split(np.arange(len(X)), np.cumsum([20, 90, 40, 60, 100]))
LOCAL = SGD(epochs=2, batch_size=16, learning_rate=0.1)


def model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


def holding(context: Context) -> apps.Holding:
    rows = PARTS[int(context.node_config["partition-id"])]
    cut = len(rows) * 3 // 4
    return apps.Holding(model(), X[rows[:cut]], Y[rows[:cut]], X[rows[cut:]], Y[rows[cut:]])


def trained(rounds: int = 3, client=None, **options) -> Context:
    strategy = {"seed": 5, "fraction_train": 1.0, "fraction_evaluate": 1.0} | options
    server = apps.server_app(model, lambda: RuleStrategy(**strategy), rounds, LOCAL)
    return grid.run(server, client or apps.client_app(holding), K)


def parameters(context: Context) -> Tensor:
    return torch.cat([value.flatten() for value in context.state["arrays"].to_torch_state_dict().values()])


def simulated(rounds: int = 3, **options) -> Federation:
    kept = [rows[: len(rows) * 3 // 4] for rows in PARTS]
    scaled_by = statistics.scaler(sum(statistics.feature_sums(X[rows]) for rows in kept))
    made = Federation(model(), Clients.of(scaled_by.transform(X), Y, kept), seed=5, local=LOCAL, **options)
    made.run(rounds)
    return made


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"rule": rules.median}, {"rule": rules.median}),
        ({"fraction_train": 0.5}, {"sampled": 0.5}),
        ({"server": ServerAdam(0.05)}, {"server": ServerAdam(0.05)}),
    ],
    ids=["FedAvg", "median", "half of the clients", "FedAdam"],
)
def test_flower_and_the_simulator_get_the_same_numbers(ours: dict, theirs: dict) -> None:
    assert torch.allclose(parameters(trained(**ours)), simulated(**theirs).average(), atol=1e-5)


def test_clients_judge_on_rows_that_they_hold_out() -> None:
    found = trained(rounds=12)
    history, each = apps.history(found), apps.figures(found)
    assert history["round"].tolist() == list(range(1, 13))
    assert history["accuracy"].iloc[-1] > max(0.8, history["accuracy"].iloc[0])
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    last = each[each["round"] == 12]
    assert last["client"].tolist() == list(range(K))
    assert last["num-examples"].tolist() == [len(rows) - len(rows) * 3 // 4 for rows in PARTS]
    assert history["loss"].iloc[-1] == pytest.approx(np.average(last["loss"], weights=last["num-examples"]))


def app_with(change):
    """The client app, but what client 2 answers to training goes through `change` first."""
    app, plain = apps.client_app(holding), apps.client_app(holding)
    del app._registered_funcs["train.default"]

    @app.train()
    def train(message: Message, context: Context) -> Message:
        answer = plain(message, context)
        return change(answer, message) if context.node_config["partition-id"] == 2 else answer

    return app


def arrays_of(change):
    """Client 2's answer with its arrays changed one by one."""

    def changed(answer: Message, message: Message) -> Message:
        own = answer.content.array_records["arrays"].to_torch_state_dict()
        answer.content["arrays"] = ArrayRecord({name: change(value) for name, value in own.items()})
        return answer

    return app_with(changed)


def refusing(answer: Message, message: Message) -> Message:
    raise OSError("the disk is full")


def weightless(answer: Message, message: Message) -> Message:
    answer.content["metrics"] = MetricRecord({"num-examples": -5})
    return answer


def empty(answer: Message, message: Message) -> Message:
    return Message(RecordDict(), reply_to=message)


@pytest.mark.parametrize(
    ("client", "said"),
    [
        (lambda: arrays_of(lambda value: value * float("nan")), "NaN or infinity"),
        (lambda: arrays_of(lambda value: value[:1]), "have the shapes"),
        (lambda: app_with(refusing), "OSError: the disk is full"),
        (lambda: app_with(weightless), "num-examples=-5"),
        (lambda: app_with(empty), "lacks parameters or metrics"),
    ],
    ids=["NaN", "shape", "raises", "weight", "empty"],
)
def test_a_bad_answer_is_left_out_and_named(client, said: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="fliot_lab"):
        found = trained(rounds=1, client=client())
    assert caplog.text.count("round 1: node 4 is left out: ") == 1 == caplog.text.count("is left out")
    assert said in caplog.text
    made = simulated(rounds=0)
    seen = []
    made.rule = lambda updates, weights: seen.append((updates, weights)) or rules.mean(updates, weights)
    made.run(1)
    kept = [0, 1, 3, 4, 5]
    expected = simulated(rounds=0).average() + rules.mean(seen[0][0][kept], seen[0][1][kept])
    assert torch.allclose(parameters(found), expected, atol=1e-5)


def test_a_round_without_enough_answers_is_no_success() -> None:
    with pytest.raises(RoundFailed, match="round 1: 5 of 6 answers can be used and the quorum is 6"):
        trained(client=app_with(refusing), quorum=6)
    broken = apps.client_app(lambda context: 1 / 0)
    with pytest.raises(RoundFailed, match="6 of 6 nodes could not send their sums; the first said: ZeroDivisionError"):
        trained(client=broken)
    with pytest.raises(RoundFailed, match="9 nodes are needed and 6 are connected"):
        trained(min_train_nodes=9)


def test_nothing_that_a_client_sends_holds_a_row() -> None:
    """A canary in client 2's rows is searched for in every answer, as a number and as its logarithm."""
    canary, sent = 77_777.0, []

    def marked(context: Context) -> apps.Holding:
        own = holding(context)
        if context.node_config["partition-id"] == 2:
            own.X[3] = canary
        return own

    plain = apps.client_app(marked)

    def listening(message: Message, context: Context) -> Message:
        answer = plain(message, context)
        sent.append(answer.content)
        return answer

    before = X.copy()
    try:
        grid.run(apps.server_app(model, lambda: RuleStrategy(seed=5), 2, LOCAL), listening, K)
    finally:
        X[:] = before
    values = np.concatenate(
        [a.numpy().ravel() for part in sent for record in part.array_records.values() for a in record.values()]
    )
    assert len(values) > 100
    for known in (canary, np.log1p(canary)):
        assert np.abs(values - known).min() > 1e-4


def test_messages_are_copies() -> None:
    given = ConfigRecord({"n": 1})
    kept = []

    def keeps(message: Message, context: Context) -> Message:
        kept.append(message.content)
        message.content["config"]["n"] = 2
        context.state["seen"] = MetricRecord({"n": len(kept)})
        return Message(message.content, reply_to=message)

    made = grid.InProcessGrid(keeps, 2)
    nodes = list(made.get_node_ids())
    answers = [*made.send_and_receive([Message(RecordDict({"config": given}), nodes[0], "query")])]
    assert given["n"] == 1
    assert answers[0].content["config"]["n"] == 2
    kept[0]["config"]["n"] = 3
    assert answers[0].content["config"]["n"] == 2
    assert not [*made.pull_messages([answers[0].metadata.reply_to_message_id])]
    with pytest.raises(ValueError, match="there is no node 99"):
        made.push_messages([Message(RecordDict(), 99, "query")])
    with pytest.raises(ValueError, match="nodes=0"):
        grid.InProcessGrid(keeps, 0)


def test_strategies_that_cannot_be() -> None:
    for wrong in ({"fraction_train": 0}, {"fraction_evaluate": 1.5}, {"quorum": 0}):
        with pytest.raises(ValueError, match="|".join(wrong)):
            RuleStrategy(seed=1, **wrong)


def test_nothing_calls_home() -> None:
    import os

    assert os.environ["FLWR_TELEMETRY_ENABLED"] == "0"
    assert os.environ["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert os.environ["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
