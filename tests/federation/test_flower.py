"""Flower's apps in this process: the simulator's numbers, and a round that no answer can spoil or fake."""

import json
import logging
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from safetensors.numpy import load_file
from torch import Tensor, nn

from fliot_lab import ROOT
from fliot_lab.aggregation import rules
from fliot_lab.federation import statistics
from fliot_lab.federation.exchange import ServerAdam
from fliot_lab.federation.flower import apps, grid, study
from fliot_lab.federation.flower.strategy import RoundFailed, RuleStrategy
from fliot_lab.federation.simulation import Federation
from fliot_lab.models import autoencoder, batched
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


def unsure(answer: Message, message: Message) -> Message:
    answer.content["metrics"] = MetricRecord({"num-examples": 5, "loss": float("nan")})
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
        (lambda: app_with(unsure), "its metrics are {'num-examples': 5, 'loss': nan}"),
        (lambda: app_with(empty), "lacks parameters or metrics"),
    ],
    ids=["NaN", "shape", "raises", "weight", "metrics", "empty"],
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


def named(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_layers_that_are_kept_stay_with_their_client() -> None:
    """All kept: each trains alone. None: FedAvg. One: the server's part is the mean, the clients' are their own."""
    sent: list[set[str]] = []

    def listening(app):
        def answered(message: Message, context: Context) -> Message:
            answer = app(message, context)
            if message.metadata.message_type == "train":
                sent.append(set(answer.content.array_records["arrays"]))
            return answer

        return answered

    def federated(kept: tuple[str, ...]) -> tuple[Context, dict[int, dict[str, Tensor]]]:
        server = apps.server_app(
            model, lambda: RuleStrategy(seed=5, fraction_train=1.0, fraction_evaluate=1.0), 2, LOCAL, kept=kept
        )
        made = grid.InProcessGrid(listening(apps.client_app(holding, kept=kept)), K)
        state = Context(1, 1, {}, RecordDict(), {})
        server(made, state)
        own = {
            node - 2: context.state.array_records["own"].to_torch_state_dict()
            for node, context in made._contexts.items()
            if "own" in context.state
        }
        return state, own

    shared, own = federated(("2.",))
    assert all(names == {"0.weight", "0.bias"} for names in sent)
    assert {client: set(part) for client, part in own.items()} == {k: {"2.weight", "2.bias"} for k in range(K)}
    assert set(shared.state["arrays"]) == {"0.weight", "0.bias"}
    # By hand: two rounds of the plain loop, in which only the first layer is averaged.
    made = simulated(rounds=0)
    clients, seeds = made.clients, [int(np.random.default_rng([5, t, 1]).integers(2**63)) for t in range(2)]
    W = made.average().expand(K, -1).clone()
    first = sum(value.numel() for name, value in named(model()).items() if name.startswith("0."))
    for seed in seeds:
        batched.train_loop(model(), W, clients, LOCAL, seed=seed)
        W[:, :first] = torch.from_numpy(np.average(W[:, :first].numpy(), axis=0, weights=clients.sizes))
    for client, part in own.items():
        assert torch.allclose(torch.cat([part["2.weight"].flatten(), part["2.bias"]]), W[client, first:], atol=1e-5)
    assert torch.allclose(parameters(shared), W[0, :first], atol=1e-5)


def test_tuning_before_judging_leaves_the_rounds_as_they_were() -> None:
    plain, tuned = trained(rounds=2), trained(rounds=2, client=apps.client_app(holding, tuned=20))
    assert torch.equal(parameters(plain), parameters(tuned))
    assert apps.figures(tuned)["loss"].mean() < apps.figures(plain)["loss"].mean()


def test_worker_processes_change_nothing() -> None:
    settings = {"data": "sample", "rows": 400, "rounds": 2, "epochs": 1, "kept": "answer", "tuned": 1}
    one, two = (grid.run(study.server, study.answer, 4, settings, workers=workers) for workers in (1, 2))
    assert torch.equal(parameters(one), parameters(two))
    assert apps.figures(one).equals(apps.figures(two))
    with pytest.raises(ValueError, match="give a function that a module holds by name, or take workers=1"):
        grid.InProcessGrid(lambda message, context: message, 2, workers=2)


def test_the_app_of_the_repository_has_the_settings_of_the_study() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["flwr"]["app"]
    assert told["config"] == study.DEFAULTS
    assert told["components"] == {
        "serverapp": f"{study.__name__}:server",
        "clientapp": f"{study.__name__}:client",
    }
    assert isinstance(study.client, ClientApp)
    assert isinstance(study.server, ServerApp)
    with pytest.raises(ValueError, match="there is no setting round; there are data, "):
        study.settings({"round": 3})
    with pytest.raises(ValueError, match="rule='krum' is unknown; choose one of mean, median, trimmed-mean"):
        grid.run(study.server, study.client, 2, {"data": "sample", "rule": "krum"})
    with pytest.raises(ValueError, match="skew='label' is unknown"):
        study.study("sample", 7, 400, 2, 1, "label")


def test_the_study_writes_its_result(tmp_path: Path) -> None:
    settings = {"data": "sample", "rows": 400, "rounds": 2, "epochs": 1, "fraction-evaluate": 1.0, "out": str(tmp_path / "a")}
    context = grid.run(study.server, study.client, 3, settings | {"skew": "labels"})
    stored = load_file(tmp_path / "a" / study.PARAMETERS)
    assert {name: value.tolist() for name, value in stored.items()} == {
        name: array.numpy().tolist() for name, array in context.state["arrays"].items()
    }
    told = json.loads((tmp_path / "a" / study.HISTORY).read_text("utf-8"))
    assert told["rounds"] == apps.history(context).to_dict("records")
    assert [row["client"] for row in told["clients"]] == [0, 1, 2] * 2


@pytest.mark.parametrize("stopped", [1, 3])
def test_a_strategy_goes_on_from_its_checkpoint(stopped: int, tmp_path: Path) -> None:
    path = tmp_path / "strategy.safetensors"
    whole = trained(rounds=4, server=ServerAdam(0.05), fraction_train=0.5)
    trained(rounds=stopped, server=ServerAdam(0.05), fraction_train=0.5, checkpoint=path)
    rest = trained(rounds=4, server=ServerAdam(0.05), fraction_train=0.5, checkpoint=path)
    assert torch.equal(parameters(whole), parameters(rest))
    assert apps.figures(whole).equals(apps.figures(rest))
    assert whole.state["best"] == rest.state["best"]
    with pytest.raises(ValueError, match="was saved by another federation"):
        trained(rounds=4, server=ServerAdam(0.05), checkpoint=path)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="is no checkpoint of a strategy"):
        trained(rounds=4, server=ServerAdam(0.05), fraction_train=0.5, checkpoint=path)
    assert path.read_bytes() == b"nothing"


def test_it_stops_when_nothing_gets_better_and_keeps_the_best() -> None:
    """A rule that learns for three rounds and forgets from then on."""
    rounds = []

    def rule(updates: Tensor, weights: Tensor) -> Tensor:
        rounds.append(rules.mean(updates, weights))
        return rounds[-1] if len(rounds) <= 3 else -torch.stack(rounds[:3]).sum(0)

    found = trained(rounds=20, rule=rule, patience=2)
    losses = apps.history(found)["loss"]
    assert len(losses) == 5
    assert losses.argmin() == 2
    best = torch.cat([value.flatten() for value in found.state["best"].to_torch_state_dict().values()])
    assert torch.allclose(best, parameters(trained(rounds=3)), atol=1e-5)
    assert not torch.equal(best, parameters(found))


def test_overlapping_rounds_change_nothing_but_how_often_the_server_asks(tmp_path: Path) -> None:
    found, asked = {}, {}
    for overlap in (False, True):
        pushed: list[int] = []

        class Counting(grid.InProcessGrid):
            def push_messages(self, messages, pushed=pushed):
                messages = list(messages)
                pushed.append(len(messages))
                return super().push_messages(messages)

        found[overlap] = Context(1, 1, {}, RecordDict(), {})
        plan = RuleStrategy(seed=5, overlap=overlap, server=ServerAdam(0.05), checkpoint=tmp_path / str(overlap))
        apps.serve(Counting(apps.client_app(holding), K), found[overlap], model(), plan, 3, LOCAL)
        asked[overlap] = pushed
    assert asked == {False: [K, 3, 3, 3, 3, 3, 3], True: [K, 3, 6, 6, 3]}
    assert torch.equal(parameters(found[False]), parameters(found[True]))
    assert apps.figures(found[False]).equals(apps.figures(found[True]))
    assert len(apps.figures(found[True])) == 9
    one, other = (load_file(tmp_path / name) for name in ("False", "True"))
    assert one.keys() == other.keys()
    assert all(np.array_equal(value, other[name]) for name, value in one.items())


def test_messages_that_a_superlink_does_not_take_are_an_error() -> None:
    class Full(grid.InProcessGrid):
        def push_messages(self, messages):
            return []

    with pytest.raises(RoundFailed, match=f"did not take {K} messages; .* too large"):
        apps.serve(
            Full(apps.client_app(holding), K), Context(1, 1, {}, RecordDict(), {}), model(), RuleStrategy(seed=5), 1, LOCAL
        )


def test_an_autoencoder_and_its_threshold() -> None:
    rows = [X[part] for part in PARTS]

    def network() -> nn.Sequential:
        return autoencoder.layers(4, 6, 2, torch.Generator().manual_seed(1))

    def watched(context: Context) -> apps.Holding:
        own = rows[int(context.node_config["partition-id"])]
        cut = len(own) * 3 // 4
        return apps.Holding(network(), own[:cut], None, own[cut:], None)

    server = apps.server_app(network, lambda: RuleStrategy(seed=5, fraction_train=1.0), 3, LOCAL, false_alarm_rate=0.1)
    found = grid.run(server, apps.client_app(watched), K)
    # The same by the simulator's parts.
    fit = [part[: len(part) * 3 // 4] for part in PARTS]
    scaled_by = statistics.scaler(sum(statistics.feature_sums(X[part]) for part in fit))
    Z = scaled_by.transform(X)
    made = Federation(network(), Clients.of(Z, Z, fit), seed=5, local=LOCAL, loss=batched.squared_error)
    made.run(3)
    assert torch.allclose(parameters(found), made.average(), atol=1e-5)
    scorer = statistics.autoencoder(made.fitted(), scaled_by, 0)
    counts = sum(statistics.score_counts(scorer.score_samples(X[part[len(part) * 3 // 4 :]])) for part in PARTS)
    assert found.state["threshold"]["threshold"] == statistics.threshold(counts, 0.1)
    assert list(apps.history(found)) == ["round", "loss"]


def test_who_does_not_answer_is_named_and_the_round_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    class Deaf(grid.InProcessGrid):
        def pull_messages(self, message_ids):
            return [
                reply for reply in super().pull_messages(message_ids) if not (self.silent and reply.metadata.src_node_id == 4)
            ]

    made = Deaf(apps.client_app(holding), K)
    made.silent = False
    app = apps.client_app(holding)

    def answers(message: Message, context: Context) -> Message:
        made.silent = message.metadata.message_type == "train"
        return app(message, context)

    made._app = answers
    state = Context(1, 1, {}, RecordDict(), {})
    with caplog.at_level(logging.WARNING, logger="fliot_lab"):
        apps.serve(made, state, model(), RuleStrategy(seed=5, fraction_train=1.0), 1, LOCAL, timeout=0.3)
    assert caplog.messages == ["round 1: node 4 is left out: no answer within 0.3 s"]
    with pytest.raises(RoundFailed, match=f"{K} of 7 nodes are connected after 0 s"):
        apps.serve(made, state, model(), RuleStrategy(seed=5), 1, LOCAL, nodes=7, timeout=0)


def test_two_nodes_with_one_number_are_refused() -> None:
    def same(context: Context) -> apps.Holding:
        context.node_config["partition-id"] = 1
        return holding(context)

    with pytest.raises(RoundFailed, match="two nodes have the same partition-id"):
        trained(client=apps.client_app(same))


def test_strategies_that_cannot_be() -> None:
    for wrong in (
        {"fraction_train": 0},
        {"fraction_evaluate": 1.5},
        {"quorum": 0},
        {"patience": 0},
        {"patience": 1, "overlap": True},
    ):
        with pytest.raises(ValueError, match="|".join(wrong)):
            RuleStrategy(seed=1, **wrong)


def test_nothing_calls_home() -> None:
    import os

    assert os.environ["FLWR_TELEMETRY_ENABLED"] == "0"
    assert os.environ["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert os.environ["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
