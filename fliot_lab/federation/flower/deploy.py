"""A SuperLink and its SuperNodes as processes on this machine: started, looked after, and stopped together.

Loopback only. What several hosts need beside, docs/DEPLOYING.md says.
"""

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import psutil
from safetensors.numpy import load_file

from fliot_lab import atomic
from fliot_lab.federation.flower import certificates, study

HOST = "127.0.0.1"
CONNECTION = "here"  # the SuperLink's name in Flower's configuration
LINK = "superlink"
START_S, STOP_S, POLL_S = 60.0, 8.0, 0.5
COLOURS = ("FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE")
TAIL = 15  # lines of a log that an error shows
#: What asks a process to stop: Ctrl-C, `kill`, and a terminal that is closed.
STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

APP = """[project]
name = "fliot-lab-study"
version = "{version}"
description = "The published study's federation"
dependencies = []

[tool.flwr.app]
publisher = "fliot-lab"

[tool.flwr.app.components]
serverapp = "{module}:server"
clientapp = "{module}:client"

[tool.flwr.app.config]
"""


class DeploymentError(RuntimeError):
    """A process did not do what it should; says which, and where its log is."""


@dataclass(frozen=True)
class Outcome:
    """A run that has ended well: its log, how long it took in seconds, and what the study wrote."""

    log: str
    seconds: float
    parameters: dict[str, np.ndarray]
    history: dict[str, list[dict[str, Any]]]


class Deployment:
    """A SuperLink and `nodes` SuperNodes. A context manager: entering starts all and waits for them, leaving stops all.

    `secure`: TLS with a certificate made for the purpose, and nodes that are known by their keys. Keys, certificates, logs and
    Flower's own files (FLWR_HOME) lie in `folder`, a new one, which is kept; without one, in a temporary folder, which is not.
    Ports are free ones; `port` names the SuperLink's. Raises DeploymentError where a process is not up within `limit_s`.
    """

    def __init__(
        self,
        nodes: int = 3,
        *,
        secure: bool = False,
        folder: Path | None = None,
        port: int | None = None,
        limit_s: float = START_S,
    ):
        if nodes < 1:
            raise ValueError(f"nodes={nodes}: a deployment has at least one SuperNode")
        self.nodes, self.secure, self.limit_s = nodes, secure, limit_s
        self._temporary = folder is None
        self.folder = Path(tempfile.mkdtemp(prefix="fliot-flower-")) if folder is None else Path(folder).resolve()
        if not self._temporary and self.folder.exists() and any(self.folder.iterdir()):
            raise ValueError(f"{self.folder} is not empty; a deployment writes its own keys and logs, so give it a new folder")
        self.port = port or _free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def address(self) -> str:
        """Where the SuperLink listens."""
        return f"{HOST}:{self.port}"

    def __enter__(self) -> Self:
        try:
            self._prepare()
            self._start(LINK, "flower-superlink", self._link_options())
            self._wait("the SuperLink to listen", self._listens, LINK)
            for number in range(self.nodes):
                if self.secure:
                    self.register(certificates.node_key(self.folder / "keys", _name(number))[1])
                self.start_node(number)
            self._wait(f"{self.nodes} SuperNodes to be online", lambda: self.online() >= self.nodes)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start_node(self, number: int, *, key: Path | None = None, authority: Path | None = None) -> None:
        """Starts SuperNode `number`, client `number` of the federation; `key` and `authority` are its own where not given."""
        options = ["--superlink", self.address, "--host", HOST, "--port", str(_free_port())]
        options += ["--node-config", f"partition-id={number} num-partitions={self.nodes}"]
        if self.secure:
            options += ["--root-certificates", str(authority or self.folder / certificates.AUTHORITY)]
            options += ["--auth-supernode-private-key", str(key or self.folder / "keys" / _name(number))]
        self._start(_name(number), "flower-supernode", options if self.secure else ["--insecure", *options])

    def kill_node(self, number: int) -> None:
        """Kills SuperNode `number` and what it has started at once, as a power cut would."""
        _end([self._processes.pop(_name(number))], patience=0)

    def register(self, public_key: Path) -> None:
        """Makes a node's key known to the SuperLink; others are turned away."""
        self._flwr("supernode", "register", str(public_key), CONNECTION)

    def online(self) -> int:
        """How many SuperNodes the SuperLink calls online."""
        told = self._asked("supernode", "list", CONNECTION)
        return sum(node["status"] == "online" for node in told["nodes"])

    def logs(self, name: str = LINK) -> str:
        """What the process `name` has said so far: "superlink", "supernode-0", ..."""
        path = self.folder / f"{name}.log"
        return path.read_text("utf-8", errors="replace") if path.exists() else ""

    @property
    def command(self) -> str:
        """What runs the study on it from another terminal."""
        return f"FLWR_HOME={self.folder / 'flwr'} flwr run {self._study()} {CONNECTION} --stream"

    def follow(self) -> Iterator[str]:
        """New lines of all logs, each with its process's name, for ever. Raises DeploymentError where a process ends."""
        seen = dict.fromkeys(self._processes, 0)
        while True:
            for name in seen:
                with (self.folder / f"{name}.log").open("rb") as file:
                    file.seek(seen[name])
                    lines = file.read()
                whole = lines[: lines.rfind(b"\n") + 1]
                seen[name] += len(whole)
                yield from (f"{name}: {line}" for line in whole.decode("utf-8", errors="replace").splitlines() if line.strip())
            self._look_after()
            time.sleep(POLL_S)

    def run(self, settings: Mapping[str, Any] | None = None, *, limit_s: float = 300, app: Path | None = None) -> Outcome:
        """Runs the study with `settings` (`study.DEFAULTS`), or another `app`, and waits for its end.

        Raises DeploymentError with the end of its log where it fails or takes more than `limit_s` seconds; a run that takes
        too long is stopped.
        """
        out = Path(tempfile.mkdtemp(prefix="run-", dir=self.folder))
        begin = time.monotonic()
        arguments = [] if app else ["--run-config", _toml(study.settings({**(settings or {}), "out": str(out)}))]
        number = self._asked("run", str(app or self._study()), CONNECTION, *arguments)["run-id"]
        log = self._followed(number, out / "run.log", limit_s)
        seconds = time.monotonic() - begin
        status = self._asked("list", CONNECTION, "--run-id", number)["runs"][0]["status"]
        if status != "finished:completed":
            raise DeploymentError(f"run {number} ended as {status}; the end of its log:\n{_tail(log)}")
        wrote = (out / study.PARAMETERS).exists()
        parameters = load_file(out / study.PARAMETERS) if wrote else {}
        history = json.loads((out / study.HISTORY).read_text("utf-8")) if wrote else {}
        return Outcome(log, seconds, parameters, history)

    def stop(self) -> None:
        """Stops all processes, and those that they have started; nodes first, so that they can say good-bye."""
        with _uninterrupted():
            self._stop()

    def _stop(self) -> None:
        link = self._processes.pop(LINK, None)
        nodes = list(self._processes.values())
        self._processes.clear()
        _end(nodes, STOP_S)
        _end([link] if link else [], STOP_S)
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = ["[superlink]", f'default = "{CONNECTION}"', f"[superlink.{CONNECTION}]", f'address = "{self.address}"']
        if self.secure:
            certificates.make(self.folder)
            lines.append(f"root-certificates = {json.dumps(str(self.folder / certificates.AUTHORITY))}")
        else:
            lines.append("insecure = true")
        atomic.write(self.folder / "flwr" / "config.toml", "\n".join(lines) + "\n")

    def _link_options(self) -> list[str]:
        options = ["--host", HOST, "--port", str(self.port)]
        if not self.secure:
            return ["--insecure", *options]
        files = {"ca-certfile": certificates.AUTHORITY, "certfile": certificates.CERTIFICATE, "keyfile": certificates.KEY}
        for option, name in files.items():
            options += [f"--ssl-{option}", str(self.folder / name)]
        return [*options, "--enable-supernode-auth"]

    def _study(self) -> Path:
        """A folder with nothing but the names of the study's apps: the package itself is installed where the nodes run."""
        path = self.folder / "app"
        settings = "".join(f"{name} = {json.dumps(value)}\n" for name, value in study.DEFAULTS.items())
        atomic.write(path / "pyproject.toml", APP.format(version="1.0.0", module=study.__name__) + settings)
        return path

    def _followed(self, number: str, path: Path, limit_s: float) -> str:
        """The log of run `number`, written to `path`, when it has ended; a run that takes too long is stopped."""
        with path.open("wb") as file:
            follower = subprocess.Popen(
                [_command("flwr"), "log", number, CONNECTION, "--stream"],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            end = time.monotonic() + limit_s
            try:
                while follower.poll() is None:
                    self._look_after()
                    if time.monotonic() > end:
                        self._flwr("stop", number, CONNECTION)
                        log = _tail(path.read_text("utf-8", errors="replace"))
                        raise DeploymentError(
                            f"run {number} took more than {limit_s:g} s and is stopped; its log ends so:\n{log}"
                        )
                    time.sleep(POLL_S)
            finally:
                _end([follower], 0)
        return path.read_text("utf-8", errors="replace")

    def _start(self, name: str, command: str, options: list[str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [_command(command), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                start_new_session=True,  # Ctrl-C is for us, and we stop them in their order
            )

    def _flwr(self, *arguments: str) -> str:
        """What Flower's command says; DeploymentError with its words where it fails."""
        try:
            done = subprocess.run(
                [_command("flwr"), *arguments],
                env=self._environment(),
                capture_output=True,
                text=True,
                timeout=self.limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            self._look_after()
            raise DeploymentError(f"flwr {' '.join(arguments[:2])} took more than {self.limit_s:g} s") from None
        if done.returncode:
            self._look_after()
            raise DeploymentError(f"flwr {' '.join(arguments[:2])} failed: {_tail(done.stderr + done.stdout)}")
        return done.stdout

    def _asked(self, *arguments: str) -> dict[str, Any]:
        """What Flower's command answers in JSON, where a failure is told without an exit code."""
        told: dict[str, Any] = json.loads(self._flwr(*arguments, "--format", "json"))
        if not told["success"]:
            raise DeploymentError(f"flwr {' '.join(arguments[:2])} failed: {told['error-message'].strip()}")
        return told

    def _environment(self) -> dict[str, str]:
        # Flower's switches against calling home are in os.environ since the package was imported.
        there = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        ours = {"FLWR_HOME": str(self.folder / "flwr"), "PATH": there, "PYTHONUNBUFFERED": "1"}
        # All share this machine's cores, and each message starts a process: one thread for it, and no second of waiting.
        found = {"OMP_NUM_THREADS": "1", "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2"} | os.environ | ours
        # In a notebook commands are told to colour what they say, and coloured JSON is none.
        return {name: value for name, value in found.items() if name not in COLOURS}

    def _listens(self) -> bool:
        context = ssl.create_default_context(cafile=str(self.folder / certificates.AUTHORITY)) if self.secure else None
        address = f"http{'s' if self.secure else ''}://{self.address}/health"
        try:
            with urllib.request.urlopen(address, timeout=2, context=context) as answer:
                return bool(answer.status == 200)
        except OSError:  # not yet
            return False

    def _wait(self, what: str, done: Callable[[], bool], name: str | None = None) -> None:
        end = time.monotonic() + self.limit_s
        while not done():
            self._look_after()
            if time.monotonic() > end:
                shown = [name] if name else list(self._processes)
                logs = "\n".join(f"{process}: {_tail(self.logs(process), 5)}" for process in shown)
                raise DeploymentError(f"waited {self.limit_s:g} s for {what}. The logs in {self.folder} end so:\n{logs}")
            time.sleep(POLL_S)

    def _look_after(self) -> None:
        """DeploymentError where a process has ended by itself."""
        for name, process in list(self._processes.items()):  # a node may be killed by another thread
            if (code := process.poll()) is not None:
                raise DeploymentError(
                    f"{name} ended with exit code {code}; its log in {self.folder} ends so:\n{_tail(self.logs(name))}"
                )


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """No signal that asks to stop has an effect inside, so that what is being stopped is stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _name(number: int) -> str:
    return f"supernode-{number}"


def _command(name: str) -> str:
    """A command of Flower's, of the environment that this process runs in."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if not found:
        raise DeploymentError(f"there is no command {name}; is flwr installed beside {sys.executable}?")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _toml(settings: Mapping[str, Any]) -> str:
    """Settings as `flwr run --run-config` reads them."""
    return " ".join(f"{name}={json.dumps(value)}" for name, value in settings.items())


def _tail(log: str, lines: int = TAIL) -> str:
    return "\n".join(log.strip().split("\n")[-lines:])


def _end(processes: list[subprocess.Popen[bytes]], patience: float) -> None:
    """Ends `processes` and all that they have started: asked first, and killed when `patience` seconds are over."""
    family: list[psutil.Process] = []
    for process in processes:
        try:
            root = psutil.Process(process.pid)
            family += [*root.children(recursive=True), root]
        except psutil.NoSuchProcess:  # it has ended by itself, and its children with it
            continue
    if patience:
        for process in processes:
            process.terminate()
        _, family = psutil.wait_procs(family, timeout=patience)
    for relative in family:
        try:
            relative.kill()
        except psutil.NoSuchProcess:  # just now
            continue
    psutil.wait_procs(family, timeout=STOP_S)
    for process in processes:
        process.wait()
