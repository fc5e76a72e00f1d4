"""A real SuperLink and real SuperNodes: what they refuse, what they survive, and that nothing is left running.

Loopback only, or network namespaces of this machine. Every process is ended by its own handle, also where a test fails.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml

from fliot_lab import ROOT
from fliot_lab.federation.flower import certificates, deploy, grid, study

LIMIT_S = 150.0  # for a run; this machine may be busy with others
NODES = 3

APP = """[project]
name = "{name}"
version = "1.0.0"
description = "Numbers"
[tool.flwr.app]
publisher = "tests"
[tool.flwr.app.components]
serverapp = "numbers_app:server"
clientapp = "numbers_app:client"
[tool.flwr.app.config]
"""

# Client k answers half way between the server's numbers and k + 1: after round t all hold 2 - 2 / 2**t, by hand.
NUMBERS = """
import json
import time
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

client = ClientApp()
server = ServerApp()


@client.train()
def train(message, context):
    config, number = context.run_config, context.node_config["partition-id"]
    numbers = (message.content["arrays"]["numbers"].numpy() + number + 1) / 2
    time.sleep(config["seconds"])
    if number == 2 and config["misdeed"] == "NaN":
        numbers[1] = np.nan
    if number == 2 and config["misdeed"] == "shape":
        numbers = numbers[:-1]
    if number == 2 and config["misdeed"] == "silence":
        time.sleep(3600)
    arrays = ArrayRecord({"numbers": Array(numbers.astype(np.float32))})
    metrics = MetricRecord({"num-examples": 1, "number": float(number)})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@server.main()
def main(grid, context):
    from fliot_lab.federation.flower.strategy import RuleStrategy

    config = context.run_config
    while len(list(grid.get_node_ids())) < config["nodes"]:
        time.sleep(0.2)
    strategy = RuleStrategy(seed=1, fraction_train=1.0, fraction_evaluate=0.0, min_evaluate_nodes=0)
    begun = ArrayRecord({"numbers": Array(np.zeros(4, dtype=np.float32))})
    result = strategy.start(grid, begun, config["rounds"], config["timeout"])
    answered = [metrics["number"] for metrics in result.train_metrics_clientapp.values()]  # a mean over who answered
    told = {"numbers": result.arrays["numbers"].numpy().tolist(), "answered": answered}
    Path(config["out"]).write_text(json.dumps(told))
"""


def app(folder: Path, rounds: int, *, misdeed: str = "", timeout: float = 60.0, seconds: float = 0.0) -> Path:
    """A Flower app of NUMBERS, which leaves its result in `folder`/result.json."""
    folder.mkdir(parents=True)
    out, name = str(folder / "result.json"), folder.name
    config = {"rounds": rounds, "misdeed": misdeed, "timeout": timeout, "seconds": seconds, "nodes": NODES, "out": out}
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in config.items())
    (folder / "pyproject.toml").write_text(APP.format(name=name) + lines)
    (folder / "numbers_app.py").write_text(NUMBERS)
    return folder


def result(folder: Path) -> np.ndarray:
    return np.array(json.loads((folder / "result.json").read_text())["numbers"])


def until(true: Callable[[], object], what: str, limit_s: float = 60.0) -> None:
    end = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end, f"waited {limit_s:g} s for {what}"
        time.sleep(0.1)


def alive(family: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those of `family` that run; what has ended and whose parent has not asked yet, does not."""
    return [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def left_out(log: str) -> dict[int, str]:
    """Round -> why a node was left out of it, from the server's log."""
    return {int(number): why for number, why in re.findall(r"round (\d+): node \d+ is left out: (.+)", log)}


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[deploy.Deployment]:
    """Three SuperNodes with TLS and keys, for all tests that leave them as they were."""
    with deploy.Deployment(NODES, secure=True, folder=tmp_path_factory.mktemp("there") / "deployment") as made:
        yield made


def test_five_rounds_of_the_study_get_the_numbers_of_this_process(there: deploy.Deployment) -> None:
    settings = {"data": "sample", "rounds": 5, "epochs": 1, "nodes": NODES, "fraction-train": 1.0, "fraction-evaluate": 0.4}
    outcome = there.run(settings, limit_s=LIMIT_S * 2)
    near = grid.run(study.server, study.client, NODES, settings)
    for name, array in near.state["arrays"].items():
        assert np.allclose(array.numpy(), outcome.parameters[name], atol=1e-5), name
    assert [row["round"] for row in outcome.history["rounds"]] == [1, 2, 3, 4, 5]
    print(f"five rounds, {NODES} SuperNodes: {outcome.seconds:.0f} s")


def test_a_node_that_trusts_another_authority_never_connects(there: deploy.Deployment, tmp_path: Path) -> None:
    certificates.make(tmp_path / "other")
    there.register(certificates.node_key(there.folder / "keys", deploy._name(7))[1])
    try:
        there.start_node(7, authority=tmp_path / "other" / certificates.AUTHORITY)
        process = there._processes[deploy._name(7)]
        until(lambda: process.poll() is not None, "the SuperNode to give up")
        with pytest.raises(
            deploy.DeploymentError, match=r"(?s)supernode-7 ended with exit code 1; .*CERTIFICATE_VERIFY_FAILED"
        ):
            there._look_after()
    finally:
        there.kill_node(7)
    assert there.online() == NODES


def test_a_node_with_an_unknown_key_is_turned_away(there: deploy.Deployment, tmp_path: Path) -> None:
    try:
        there.start_node(8, key=certificates.node_key(tmp_path, "stranger")[0])
        process = there._processes[deploy._name(8)]
        until(lambda: process.poll() is not None, "the SuperNode to give up")
        with pytest.raises(
            deploy.DeploymentError, match=r"(?s)supernode-8 ended with exit code 1; .*Failed to activate SuperNode"
        ):
            there._look_after()
    finally:
        there.kill_node(8)
    assert "No SuperNode found with the given public key" in there.logs()
    assert there.online() == NODES


@pytest.mark.parametrize(
    ("misdeed", "named"), [("NaN", "NaN|not finite|infinit"), ("shape", r"shape|\(3,\)")], ids=["NaN", "wrong shape"]
)
def test_a_round_goes_on_without_a_useless_answer(there: deploy.Deployment, tmp_path: Path, misdeed: str, named: str) -> None:
    folder = app(tmp_path / f"with-{misdeed.lower()}", rounds=2, misdeed=misdeed)
    outcome = there.run(app=folder, limit_s=LIMIT_S)
    assert np.allclose(result(folder), 1.5 * (1 - 1 / 4))  # clients 0 and 1 alone, twice half way to 1.5
    reasons = left_out(outcome.log)
    assert set(reasons) == {1, 2}
    assert all(re.search(named, reason) for reason in reasons.values()), reasons


def test_a_killed_node_comes_back_and_the_run_ends_close_to_the_undisturbed_one(
    there: deploy.Deployment, tmp_path: Path
) -> None:
    """Killed while it works in the second round, so that its answer is lost for good, and started again as soon as it may.

    That is when the SuperLink has missed two of its signs of life, a minute later.
    """
    rounds, name = 10, deploy._name(2)
    folder = app(tmp_path / "disturbed", rounds=rounds, timeout=20.0, seconds=4.0)
    heard = there.logs(name).count("Receiving: train")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(there.run, app=folder, limit_s=LIMIT_S * 2)
        until(lambda: running.done() or there.logs(name).count("Receiving: train") == heard + 2, "round 2", LIMIT_S)
        there.kill_node(2)
        until(lambda: running.done() or there.online() == NODES - 1, "the SuperLink to miss the node", 90)
        there.start_node(2)
        outcome = running.result()
    answered = json.loads((folder / "result.json").read_text())["answered"]  # the mean number of who did: 1.0, or 0.5 without
    assert set(answered) == {1.0, 0.5}
    assert answered[0] == 1.0
    assert answered[1] == 0.5
    assert left_out(outcome.log)[2] == "no answer within 20 s"
    assert answered[-2:] == [1.0, 1.0]  # it was back before the end
    numbers = 0.0
    for mean in answered:
        numbers = (numbers + mean + 1) / 2
    assert np.allclose(result(folder), numbers, atol=1e-5)
    assert np.allclose(result(folder), 2 - 2 / 2**rounds, atol=0.13)  # undisturbed
    until(lambda: there.online() == NODES, "all to be online again")


def test_a_round_goes_on_without_a_client_that_never_answers(tmp_path: Path) -> None:
    folder = app(tmp_path / "app", rounds=1, misdeed="silence", timeout=15.0)
    before = set(psutil.Process().children(recursive=True))
    with deploy.Deployment(NODES, folder=tmp_path / "there") as made:
        outcome = made.run(app=folder, limit_s=LIMIT_S)
        running = set(psutil.Process().children(recursive=True)) - before
    assert np.allclose(result(folder), 0.75)
    assert left_out(outcome.log) == {1: "no answer within 15 s"}
    assert not alive(running)  # the silent client among them


def test_an_app_that_is_none_is_refused(there: deploy.Deployment, tmp_path: Path) -> None:
    folder = app(tmp_path / "app", rounds=1)
    (folder / "numbers_app.py").write_text("server = None\n")
    with pytest.raises(deploy.DeploymentError, match=r"(?s)flwr run \S+/app failed: .*Unable to find attribute client"):
        there.run(app=folder)


def test_a_run_that_fails_says_why(there: deploy.Deployment) -> None:
    with pytest.raises(deploy.DeploymentError, match=r"(?s)run \d+ ended as finished:failed; .*rule='krum' is unknown"):
        there.run({"data": "sample", "rule": "krum"}, limit_s=LIMIT_S)


def test_a_run_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    before = set(psutil.Process().children(recursive=True))
    with deploy.Deployment(1, folder=tmp_path / "there") as made:
        with pytest.raises(deploy.DeploymentError, match="took more than 3 s and is stopped"):
            made.run({"data": "sample", "nodes": 1, "min-train-nodes": 1, "min-evaluate-nodes": 1}, limit_s=3)
        running = set(psutil.Process().children(recursive=True)) - before
    assert not alive(running)


# --- the command ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[bytes], Path]]]:
    """Starts `fliot flower up`; whatever is left of it at the end of the test is killed."""
    started: list[subprocess.Popen[bytes]] = []
    family: set[psutil.Process] = set()

    def start(*options: str) -> tuple[subprocess.Popen[bytes], Path]:
        said = tmp_path / "said.txt"
        with said.open("wb") as file:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "fliot_lab.cli", "flower", "up", *options],
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=heard,
                )
            )
        return started[-1], said

    yield start
    for process in started:
        if process.poll() is None:
            family |= {*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)}
    for relative in family:
        if relative.is_running():
            relative.kill()
    for process in started:
        process.wait()


def heard() -> None:
    """Signals have their effect, also where the tests run under nohup or a shell's &, which ignore some."""
    for number in deploy.STOPPING:
        signal.signal(number, signal.SIG_DFL)


def offspring(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def survivors(family: list[psutil.Process], folder: Path) -> list[str]:
    """What still runs of `family`, or of anything else that was started for `folder`."""
    found = {process.pid for process in alive(family)}
    for process in psutil.process_iter():
        try:
            if process.environ().get("FLWR_HOME") == str(folder / "flwr"):
                found.add(process.pid)
        except psutil.Error:  # another user's, or gone
            continue
    return [" ".join(psutil.Process(pid).cmdline()) for pid in found if psutil.pid_exists(pid)]


@pytest.mark.parametrize(
    "signals",
    [[signal.SIGINT], [signal.SIGINT, signal.SIGINT], [signal.SIGTERM, signal.SIGTERM], [signal.SIGHUP]],
    ids=["Ctrl-C", "Ctrl-C twice", "TERM twice", "the terminal is closed"],
)
def test_a_signal_leaves_nothing_behind(command, tmp_path: Path, signals: list[signal.Signals]) -> None:
    folder = tmp_path / "there"
    process, said = command("--nodes", "2", "--folder", str(folder))
    until(lambda: "Ctrl-C stops all" in said.read_text() or process.poll() is not None, "all to be up")
    assert process.poll() is None, said.read_text()
    family = offspring(process)
    assert len(family) >= 6  # a SuperLink, two SuperNodes, and a SuperExec of each
    for number in signals:
        process.send_signal(number)
        time.sleep(0.3)  # the second one comes while it stops
    assert process.wait(60) == 0
    assert "stopped" in said.read_text()
    assert not survivors(family, folder)
    assert (folder / "superlink.log").exists()


def test_ctrl_c_while_it_starts_leaves_nothing_behind(command, tmp_path: Path) -> None:
    folder = tmp_path / "there"
    process, said = command("--nodes", "2", "--folder", str(folder))
    until(lambda: (folder / "superlink.log").exists() and offspring(process), "the first process")
    family = offspring(process)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert "Ctrl-C stops all" not in said.read_text()
    assert not survivors(family, folder)


def test_a_port_that_is_taken_is_named(command, tmp_path: Path, there: deploy.Deployment) -> None:
    """By another SuperLink, too, which answers as ours would."""
    process, said = command("--nodes", "1", "--folder", str(tmp_path / "there"), "--port", str(there.port))
    assert process.wait(90) == 1
    text = said.read_text()
    assert text.startswith("fliot: superlink ended with exit code"), text
    assert str(there.port) in text
    assert "address already in use" in text
    assert "Traceback" not in text
    assert there.online() == NODES


# --- several hosts -------------------------------------------------------------------------------------------------------

COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, list[str]] = {name: service["command"] for name, service in COMPOSE["services"].items()}


def test_a_node_is_given_its_own_key_and_no_other() -> None:
    for name, service in COMPOSE["services"].items():
        own = ["ca.crt", "server.crt", "server.key"] if name == "superlink" else ["ca.crt", name]
        assert service["secrets"] == own
        used = set(re.findall(r"/run/secrets/(\S+)", " ".join(service["command"])))
        assert used == set(own)
        assert service["environment"]["FLWR_TELEMETRY_ENABLED"] == "0"
    assert not [name for name, service in COMPOSE["services"].items() if "ports" in service and name != "superlink"]


APART = ["unshare", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


def test_the_services_of_compose_yaml_on_hosts_of_their_own(tmp_path: Path) -> None:
    """Their commands, word by word, each in a network namespace with nothing but a wire to the SuperLink's.

    Needs a kernel that lets us make namespaces; on one that does not it fails, and says so.
    """
    certificates.make(tmp_path, ("superlink", "localhost", "127.0.0.1"))
    for name in SERVICES:
        if name != "superlink":
            certificates.node_key(tmp_path, name)
    folder = app(tmp_path / "app", rounds=2)
    home = tmp_path / "flwr"
    home.mkdir()
    root = json.dumps(str(tmp_path / certificates.AUTHORITY))
    (home / "config.toml").write_text(f'[superlink.there]\naddress = "superlink:8000"\nroot-certificates = {root}\n')
    placed = {"/run/secrets": str(tmp_path), "/state": str(tmp_path)}

    def here(words: list[str]) -> list[str]:
        return [re.sub("|".join(placed), lambda found: placed[found.group()], word) for word in words]

    plan = {
        "commands": {name: here(words) for name, words in SERVICES.items()},
        "healthy": here(COMPOSE["services"]["superlink"]["healthcheck"]["test"][1:]),
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"FLWR_HOME": str(home), "PATH": path}
    done = subprocess.run(
        [*APART, sys.executable, str(Path(__file__).parent / "flower_hosts.py"), str(tmp_path), json.dumps(plan)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    logs = {name: (tmp_path / f"{name}.log").read_text() for name in SERVICES if (tmp_path / f"{name}.log").exists()}
    assert done.returncode == 0, f"{done.stderr[-3000:]}\n" + "\n".join(f"{name}: {log[-800:]}" for name, log in logs.items())
    assert json.loads(done.stdout.splitlines()[-1]) == {"status": "finished:completed", "ended": []}
    assert np.allclose(result(folder), 2 - 2 / 4)
