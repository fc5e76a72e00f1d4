"""A Flower grid without a network: the unchanged apps run in the calling process, or in a few processes beside it."""

import copy
import pickle
import signal
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from multiprocessing import get_context
from types import TracebackType
from typing import Any, Self

import torch
from flwr.app import Context, Error, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

# Private names of flwr 1.41, here and nowhere else: who the process is, which a message asks for, and the number that a message
# gets when it is sent (`_message_id` below).
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

SERVER = 1  # the node number that Flower gives its SuperLink
RUN = 1
FAILED = 0  # the code of an error that nobody has foreseen

App = Callable[[Message, Context], Message]

_app: App  # of a worker process


class InProcessGrid(Grid):
    """A grid whose nodes answer in the calling process; messages are copied, so that no side sees another's memory.

    `app` is a ClientApp, or any function of a message and a context. Node k + 2 is client k of `nodes`; its `node_config` holds
    `partition-id` k and `num-partitions`, as Flower's simulation gives them, and `run_config` goes to all. Each node keeps its
    context, with its state, from message to message. A client that raises answers with an error, as on a SuperLink.

    With several `workers` the nodes answer in as many processes of one thread each, and `app` must be a function that a module
    holds by name, as `study.answer`. A context manager: leaving it stops them.
    """

    def __init__(self, app: App, nodes: int, run_config: dict[str, Any] | None = None, workers: int = 1):
        if nodes < 1 or workers < 1:
            raise ValueError(f"nodes={nodes}, workers={workers}: a grid has at least one of both")
        self._app, self._numbers = app, count(1)
        self._contexts = {
            k + 2: Context(RUN, k + 2, {"partition-id": k, "num-partitions": nodes}, RecordDict(), dict(run_config or {}))
            for k in range(nodes)
        }
        self._replies: dict[str, Message] = {}
        self._pool = _pool(app, workers) if workers > 1 else None
        self.set_run(Run.create_empty(RUN))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def set_run(self, run: Run) -> None:
        """Sets the `run` that this grid is of."""
        self._run = run
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run.run_id, SERVER, 1

    @property
    def run(self) -> Run:
        """The run that this grid is of."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A message to one node; Flower's older way, `Message(...)` is its newer one."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """The numbers of all nodes."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Has each message answered; returns their numbers, for `pull_messages`. Raises ValueError for an unknown node."""
        by_node: dict[int, list[Message]] = {}
        numbers = []
        for message in messages:
            node = message.metadata.dst_node_id
            if node not in self._contexts:
                raise ValueError(f"there is no node {node}; the nodes are {list(self._contexts)}")
            numbers.append(str(next(self._numbers)))
            message.metadata.__dict__["_message_id"] = numbers[-1]
            by_node.setdefault(node, []).append(message)
        for reply in self._answered(by_node):
            self._replies[reply.metadata.reply_to_message_id] = reply
        return numbers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The answers to messages that were pushed; each is handed out once."""
        return [self._replies.pop(number) for number in message_ids if number in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """The answers of all nodes to their messages. `timeout` plays no part: every client is waited for."""
        return self.pull_messages(self.push_messages(messages))

    def _answered(self, by_node: dict[int, list[Message]]) -> Iterable[Message]:
        """All replies; what a client leaves in its context stays there."""
        if self._pool is None:
            for node, messages in by_node.items():
                for message in messages:
                    yield copy.deepcopy(_reply(self._app, copy.deepcopy(message), self._contexts[node]))
            return
        asked = {node: self._pool.submit(_work, messages, self._contexts[node]) for node, messages in by_node.items()}
        for node, work in asked.items():
            replies, self._contexts[node] = work.result()
            yield from replies


def run(server: ServerApp, client: App, nodes: int, run_config: dict[str, Any] | None = None, workers: int = 1) -> Context:
    """Runs both apps to the end on an `InProcessGrid`; returns the server's context, whose state holds what it put there."""
    context = Context(RUN, SERVER, {}, RecordDict(), dict(run_config or {}))
    with InProcessGrid(client, nodes, run_config, workers) as grid:
        server(grid, context)
    return context


def _reply(app: App, message: Message, context: Context) -> Message:
    try:
        return app(message, context)
    except Exception as error:  # whatever a client does, the others go on: the server is told
        return Message(Error(FAILED, f"{type(error).__name__}: {error}"), reply_to=message)


def _pool(app: App, workers: int) -> ProcessPoolExecutor:
    try:
        pickle.dumps(app)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{app} cannot go to other processes ({error}); give a function that a module holds by name, or take workers=1"
        ) from None
    # Processes that begin anew: a fork of one whose torch has run threads can wait for a lock that nobody holds.
    return ProcessPoolExecutor(workers, get_context("spawn"), _begin, (app,))


def _begin(app: App) -> None:
    global _app
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that gives the work
    torch.set_num_threads(1)
    _app = app
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN, SERVER, 1


def _work(messages: list[Message], context: Context) -> tuple[list[Message], Context]:
    return [_reply(_app, message, context) for message in messages], context
