"""A federation on one machine: local training of all clients at once, then a server or the neighbours make something of it.

A round is one pipeline over the update matrix (K, P): local training, an attack, a privacy mechanism, an exchange, an
aggregation rule. Each stage but the first is any function that fits its slot.
"""

import copy
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn
from tqdm.auto import tqdm

from fliot_lab.aggregation import rules
from fliot_lab.federation import arguments
from fliot_lab.federation import topology as topologies
from fliot_lab.federation.exchange import Exchange, Gossip, Neighbourhood, ServerAdam, Upload, matrix
from fliot_lab.federation.workers import Workers
from fliot_lab.models import batched

ROWS = 512  # of the matrix looked at together, so that no copy of it is made

Rule = Callable[..., Tensor]
Attack = Callable[[Tensor, int, torch.Generator], Tensor]
Mechanism = Callable[[Tensor, torch.Generator], Tensor]


class Federation:
    """Clients that train together, round by round; with a server where no topology is given, and among themselves where one is.

    `model` is any torch module and gives the parameters that all begin with; `clients` hold their rows, `local` says how they
    train on them: None, and only what they hold is exchanged. Every random choice comes from `seed` and the round's number.

    With a server (FedAvg): each round draws a share `sampled` of the clients; of these a share `dropped` never answers, each by
    chance. `rule(updates (S, P), weights (S,))` aggregates, weighted by the clients' rows; `server` makes a step of that, None
    takes it as it is. `exchange` may be an `Upload`. FedProx is `local.proximal`.

    Among themselves: `topology` is a `Topology` (its Metropolis weights are used; it must be connected), a mixing matrix, or an
    iterable of one matrix a round, such as `topology.matchings`. `exchange` is `Gossip` where none is given, or, where `rule`
    is another than `mean`, a `Neighbourhood` of that rule.

    `attack(honest (H, P), F, generator) -> (F, P)` replaces the updates of those F of the clients `attackers` that take part in
    a round, and leaves a round without honest clients alone; `privacy(updates (S, P), generator) -> (S, P)` comes after it.

    `slowness` (K,) says how many units of time each client's training takes, 1 where it is not given. Synchronous rounds last
    as long as their slowest client. In `asynchronous` ones every round lasts 1; a client trains on from the parameters that it
    had when it began, and its update counts when it is done; among themselves such a client then averages with one neighbour
    (AD-PSGD, Lian et al. 2018, arXiv 1710.06952), with a server its update is scaled by 1 / sqrt(1 + its age in rounds)
    (FedBuff, Nguyen et al. 2022, arXiv 2106.06639).

    `schedule(round)` is a factor on the learning rate. `test` is (X (m, d), y (m, ...)), on which the global model is judged,
    or up to `judged` nodes. `workers` processes train, started anew by each `run` of more than one.
    """

    def __init__(
        self,
        model: nn.Module,
        clients: batched.Clients,
        topology: topologies.Topology | csr_array | Iterable[csr_array] | None = None,
        *,
        seed: int,
        rule: Rule = rules.mean,
        attack: Attack | None = None,
        attackers: Sequence[int] = (),
        privacy: Mechanism | None = None,
        exchange: Exchange | Upload | None = None,
        server: ServerAdam | Callable[[Tensor], Tensor] | None = None,
        local: batched.SGD | None = batched.SGD(),  # noqa: B008 (frozen)
        loss: batched.Loss = batched.cross_entropy,
        schedule: Callable[[int], float] | None = None,
        sampled: float = 1.0,
        dropped: float = 0.0,
        slowness: npt.ArrayLike | None = None,
        asynchronous: bool = False,
        test: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
        judged: int = 100,
        device: str = "cpu",
        workers: int = 1,
    ):
        settings: dict[str, Any] = {"topology": topology, "seed": seed, "sampled": sampled, "dropped": dropped}
        arguments.check_settings(**settings, server=server, workers=workers, judged=judged)
        arguments.check_exchange(topology, exchange, rule, asynchronous=asynchronous)
        self.model, self.clients = copy.deepcopy(model), clients.to(device)
        self.seed, self.rule, self.attack, self.privacy = seed, rule, attack, privacy
        # What they remember is of this federation alone, though the next may be given the same ones.
        self.server, exchange = copy.deepcopy(server), copy.deepcopy(exchange)
        self.local, self.loss, self.schedule = local, loss, schedule
        self.sampled, self.dropped, self.asynchronous, self.judged = sampled, dropped, asynchronous, judged
        self.workers = workers
        self._crew: Workers | None = None  # while it runs
        self.attackers = np.unique(np.asarray(attackers, dtype=np.int64))
        self.slowness = np.ones(len(clients), dtype=np.int64) if slowness is None else np.asarray(slowness)
        self.test = None if test is None else arguments.judging_rows(test, clients, device)
        arguments.check_clients(len(clients), self.slowness, attack, self.attackers)
        arguments.check_fit(self.model, self.clients, loss)
        self.round, self.clock = 0, 0
        self.records: list[dict[str, Any]] = []  # a round each
        self.global_ = batched.vector(model).to(device)  # (P,)
        self.links = csr_array((len(clients) + 1, len(clients) + 1), dtype=np.int64)  # the last is the server
        self._due = np.zeros(len(clients), dtype=np.int64)  # when the training that a client is at will be done
        self._begun = np.full(len(clients), -1)  # when it began; -1: it does not train
        self._late: Tensor | None = None  # (K, P), asynchronous: the updates of those who are still training
        self.exchange: Exchange | Upload | None
        self.parameters: Tensor | None
        self.matrices: Iterator[csr_array]
        if topology is None:
            self.exchange, self.parameters, self.matrices = exchange, None, iter(())
        else:
            self.exchange = exchange or (Gossip() if rule is rules.mean else Neighbourhood(rule))
            self.parameters = matrix(len(clients), len(self.global_), self.global_).copy_(self.global_)  # (K, P)
            directed = getattr(self.exchange, "directed", False)
            self.matrices = topologies.every_round(topology, len(clients), directed=directed)

    def run(self, rounds: int, progress: bool = False) -> pd.DataFrame:
        """Runs `rounds` more rounds and returns the history, a row a round since the beginning.

        Columns: `round`, `time` (units of `slowness`), `trained` (clients), `accuracy` (of classes) and `loss` on `test`,
        `consensus` (root mean square distance of the nodes from their average), `bytes` sent, `seconds` it took. Ctrl-C ends
        the run after the round at hand, so that nothing is half done; a second one ends it at once. Raises ValueError for a
        client that diverges: its round is not in the history, and without a server its nodes have lost their parameters.
        """
        with _patient() as interrupted, ExitStack() as stack:
            if self.workers > 1:
                self._crew = stack.enter_context(Workers(self.workers, self.model, self.clients, self.loss))
                stack.callback(setattr, self, "_crew", None)
            for _ in tqdm(range(rounds), unit="round", disable=not progress):
                self.records.append(self._one_round())
                if interrupted.is_set():
                    break
        return self.history

    @property
    def history(self) -> pd.DataFrame:
        """What `run` returns, of all rounds so far."""
        return pd.DataFrame(self.records)

    def traffic(self) -> pd.DataFrame:
        """Bytes that went over each link so far: columns `sender`, `receiver` (numbers, or "server") and `bytes`."""
        links, K = self.links.tocoo(), len(self.clients)
        ends = [[("server" if node == K else int(node)) for node in side] for side in links.coords]
        return pd.DataFrame({"sender": ends[0], "receiver": ends[1], "bytes": links.data})

    def average(self) -> Tensor:
        """The global model's parameters (P,): the server's, or the mean of all nodes'."""
        return self.global_ if self.parameters is None else self.parameters.mean(0)

    def fitted(self, node: int | None = None) -> nn.Module:
        """A copy of `model` with the parameters of one `node`, or with `average()`, which with a server all have."""
        with torch.inference_mode(False):  # or a copy made inside of it could not be trained, nor convolve
            made = copy.deepcopy(self.model)
            batched.load(made, self.average() if self.parameters is None or node is None else self.parameters[node])
        return made

    def state(self) -> dict[str, Tensor]:
        """All that changes from round to round and is not a figure, by name: what a checkpoint keeps."""
        tensors = {"global": self.global_, "due": torch.from_numpy(self._due), "begun": torch.from_numpy(self._begun)}
        tensors |= {name: value for name, value in (("nodes", self.parameters), ("late", self._late)) if value is not None}
        for part, owner in (("exchange", self.exchange), ("server", self.server)):
            tensors |= {f"{part}.{name}": value for name, value in getattr(owner, "state", {}).items()}
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes over what `state` gave."""
        tensors = {name: value.to(self.global_.device) for name, value in tensors.items()}
        self.global_, self._late = tensors["global"], tensors.get("late")
        if self.parameters is not None:
            self.parameters.copy_(tensors["nodes"])
        self._due, self._begun = tensors["due"].cpu().numpy(), tensors["begun"].cpu().numpy()
        for part, owner in (("exchange", self.exchange), ("server", self.server)):
            if owner is not None and hasattr(owner, "state"):
                owner.state = {name.split(".")[1]: value for name, value in tensors.items() if name.startswith(f"{part}.")}

    def _one_round(self) -> dict[str, Any]:
        """One round, and what there is to say of it."""
        start = time.perf_counter()
        trained, sent = self._server_round() if self.parameters is None else self._gossip_round()
        self.links = self.links + sent
        self.round += 1
        said = {"round": self.round, "time": self.clock, "trained": trained, **self._judge()}
        if self.parameters is not None:
            said["consensus"] = consensus(self.parameters)
        return said | {"bytes": int(sent.sum()), "seconds": time.perf_counter() - start}

    def _server_round(self) -> tuple[int, csr_array]:
        K, whole = len(self.clients), len(self.global_) * self.global_.element_size()
        chosen = self._drawn() if not self.asynchronous else np.intersect1d(self._drawn(), np.flatnonzero(self._begun < 0))
        answer = chosen[self._random(2).random(len(chosen)) >= self.dropped]
        updates = self._trained(self.global_.expand(len(answer), -1).clone(), answer)
        updates, done, ages = self._arrived(updates, answer)
        if len(done) and isinstance(self.exchange, Upload):
            updates, up = self.exchange(updates, done, K)
        else:
            up = np.full(len(done), whole)
        if len(done):
            aged = torch.from_numpy(1 / np.sqrt(1 + ages)).to(updates)[:, None]
            step = self.rule(updates * aged, torch.from_numpy(self.clients.sizes[done]).to(updates))
            self.global_ = self.global_ + (self.server(step) if self.server else step)
        senders = np.concatenate([np.full(len(chosen), K), done])
        receivers = np.concatenate([chosen, np.full(len(done), K)])
        amounts = np.concatenate([np.full(len(chosen), whole), up])
        return len(answer), csr_array((amounts, (senders, receivers)), shape=self.links.shape)

    def _gossip_round(self) -> tuple[int, csr_array]:
        assert self.parameters is not None
        assert isinstance(self.exchange, Exchange)
        W, everyone = next(self.matrices, None), np.arange(len(self.clients))
        if W is None:
            raise ValueError(f"the mixing matrices ran out after {self.round} rounds; give as many as there are rounds")
        if self.asynchronous:
            ready = np.flatnonzero(self._begun < 0)
            updates, done, _ = self._arrived(self._trained(self.parameters[ready], ready), ready)
            self.parameters[torch.from_numpy(done).to(updates.device)] += updates
            W, trained = self._pairs(W, done), len(done)
        else:
            self._move_all(everyone)
            self.clock, trained = self.clock + int(self.slowness.max()), len(everyone) if self.local else 0
        amounts = self.exchange(self.parameters, W)
        heard = W.tocoo()
        links = heard.coords[0] != heard.coords[1]
        senders, receivers = heard.coords[1][links], heard.coords[0][links]
        return trained, csr_array((amounts[senders], (senders, receivers)), shape=self.links.shape)

    def _move_all(self, everyone: npt.NDArray[np.int64]) -> None:
        """Trains all nodes; in place where no stage between needs the updates by themselves."""
        assert self.parameters is not None
        if self.attack is None and self.privacy is None:
            self._train(self.parameters, everyone)
        else:
            self.parameters += self._trained(self.parameters, everyone)

    def _trained(self, start: Tensor, which: npt.NDArray[np.int64]) -> Tensor:
        """The updates (S, P) of the clients `which` from parameters `start` (S, P), attacked and privatised."""
        updates = self._train(start.clone(), which).sub_(start)
        generator = torch.Generator(device=updates.device).manual_seed(int(self._random(3).integers(2**63)))
        evil = np.isin(which, self.attackers)
        if self.attack is not None and evil.any() and not evil.all():
            rows = torch.from_numpy(np.flatnonzero(evil)).to(updates.device)
            updates[rows] = self.attack(updates[torch.from_numpy(~evil).to(updates.device)], len(rows), generator)
            _check_finite(updates, "the attack")
        if self.privacy is not None and len(which):
            updates = self.privacy(updates, generator)
            _check_finite(updates, "the privacy mechanism")
        return updates

    def _train(self, parameters: Tensor, which: npt.NDArray[np.int64]) -> Tensor:
        """Trains `parameters` (S, P) of the clients `which` in place; ValueError where one diverges."""
        if self.local is None or not len(which):
            return parameters
        factor = 1.0 if self.schedule is None else self.schedule(self.round)
        how = replace(self.local, learning_rate=self.local.learning_rate * factor)
        seed = int(self._random(1).integers(2**63))
        if self._crew is None:
            batched.train(self.model, parameters, self.clients, how, seed=seed, which=which, loss=self.loss)
        else:
            self._crew.train(parameters, how, seed=seed, which=which)
        ends = [torch.stack(part.aminmax(dim=1)).isfinite().all(0) for part in parameters.split(ROWS)]  # NaN is either's end
        lost = ~torch.cat(ends)  # (S,)
        if lost.any():
            names = ", ".join(map(str, which[lost.cpu().numpy()][:5]))
            figures = f"learning_rate={how.learning_rate:g}, momentum={how.momentum:g}"
            raise ValueError(
                f"in round {self.round + 1} training diverged for {int(lost.sum())} clients, {names} first: their parameters "
                f"hold NaN or infinity; lower the learning rate ({figures}) or scale their rows"
            )
        return parameters

    def _arrived(
        self, updates: Tensor, which: npt.NDArray[np.int64]
    ) -> tuple[Tensor, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """(updates, their clients, their ages in rounds) that are there at the end of the round, which this brings about."""
        if not self.asynchronous:
            self.clock += int(self.slowness[which].max(initial=1))
            return updates, which, np.zeros(len(which), dtype=np.int64)
        if self._late is None:
            self._late = self.global_.new_zeros(len(self.clients), len(self.global_))
        self._late[torch.from_numpy(which).to(updates.device)] = updates
        self._begun[which], self._due[which] = self.clock, self.clock + self.slowness[which]
        self.clock += 1
        done = np.flatnonzero((self._begun >= 0) & (self._due <= self.clock))
        ages = self.clock - 1 - self._begun[done]
        self._begun[done] = -1
        return self._late[torch.from_numpy(done).to(updates.device)], done, ages

    def _pairs(self, W: csr_array, done: npt.NDArray[np.int64]) -> csr_array:
        """The mixing matrix of this round in which each node that is `done` averages with one neighbour, both once at most."""
        free, random = np.ones(W.shape[0], dtype=bool), self._random(4)
        pairs = []
        for i in random.permutation(done):
            heard = W.indices[W.indptr[i] : W.indptr[i + 1]]
            heard = heard[free[heard] & (heard != i)]
            if free[i] and len(heard):
                j = int(random.choice(heard))
                free[[i, j]] = False
                pairs.append((int(i), j))
        return topologies.mixing_matrix(topologies.from_edges(pairs, nodes=W.shape[0]))

    def _judge(self) -> dict[str, float]:
        """Accuracy and loss on the test rows: of the global model, or the mean over up to `judged` nodes, evenly picked."""
        if self.test is None:
            return {}
        X, y = self.test
        models = self.global_[None]
        if self.parameters is not None:
            picked = np.unique(np.linspace(0, len(self.parameters) - 1, self.judged).round().astype(int))
            models = self.parameters[torch.from_numpy(picked).to(X.device)]
        losses, hits = [], []
        for answers in batched.outputs(self.model, models, X):  # (chunk, m, ...)
            losses += [float(self.loss(answer, y).mean()) for answer in answers]
            if not y.is_floating_point() and answers.ndim == 3 and answers.shape[2] > 1:  # one output is no choice of classes
                hits += [float((answer.argmax(1) == y).float().mean()) for answer in answers]
        return ({"accuracy": float(np.mean(hits))} if hits else {}) | {"loss": float(np.mean(losses))}

    def _drawn(self) -> npt.NDArray[np.int64]:
        """The clients that the server asks this round, in ascending order."""
        K = len(self.clients)
        return np.sort(self._random(0).permutation(K)[: max(1, round(self.sampled * K))])

    def _random(self, stream: int) -> np.random.Generator:
        """Random numbers of this round, for one purpose: nothing else that is drawn, or not, changes them."""
        return np.random.default_rng([self.seed, self.round, stream])


def _check_finite(updates: Tensor, stage: str) -> None:
    if not updates.isfinite().all():
        raise ValueError(f"{stage} gave updates with NaN or infinity")


def consensus(parameters: Tensor) -> float:
    """Root mean square distance of the rows of `parameters` (K, P) from their average: 0 where all nodes agree."""
    average = parameters.mean(0)
    return float(
        torch.stack([(part - average).square().sum(dtype=torch.float64) for part in parameters.split(ROWS)])
        .sum()
        .div(len(parameters))
        .sqrt()
    )


@contextmanager
def _patient() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets instead of interrupting; a second one interrupts. As ever, outside the main thread."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def stop(number: int, frame: Any) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
