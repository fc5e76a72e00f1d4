"""A Flower grid without a network: the unchanged apps run in the calling process, one client after the other."""

import copy
from collections.abc import Iterable
from itertools import count
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

# Private names of flwr 1.41, here and nowhere else: who the process is, which a message asks for, and the number that a message
# gets when it is sent (`_message_id` below).
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

SERVER = 1  # the node number that Flower gives its SuperLink
RUN = 1
FAILED = 0  # the code of an error that nobody has foreseen


class InProcessGrid(Grid):
    """A grid whose nodes answer in the calling process; messages are copied, so that no side sees another's memory.

    Node k + 2 is client k of `nodes`; its `node_config` holds `partition-id` k and `num-partitions`, as Flower's simulation
    gives them, and `run_config` goes to all. Each node keeps its context, with its state, from message to message. A client
    that raises answers with an error, as on a SuperLink.
    """

    def __init__(self, app: ClientApp, nodes: int, run_config: dict[str, Any] | None = None):
        if nodes < 1:
            raise ValueError(f"nodes={nodes}: a federation has at least one node")
        self._app, self._numbers = app, count(1)
        self._contexts = {
            k + 2: Context(RUN, k + 2, {"partition-id": k, "num-partitions": nodes}, RecordDict(), dict(run_config or {}))
            for k in range(nodes)
        }
        self._replies: dict[str, Message] = {}
        self.set_run(Run.create_empty(RUN))

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
        numbers = []
        for message in messages:
            node = message.metadata.dst_node_id
            if node not in self._contexts:
                raise ValueError(f"there is no node {node}; the nodes are {list(self._contexts)}")
            number = str(next(self._numbers))
            message.metadata.__dict__["_message_id"] = number
            self._replies[number] = self._answer(copy.deepcopy(message), self._contexts[node])
            numbers.append(number)
        return numbers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The answers to messages that were pushed; each is handed out once."""
        return [self._replies.pop(number) for number in message_ids if number in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """The answers of all nodes to their messages. `timeout` plays no part: every client is waited for."""
        return self.pull_messages(self.push_messages(messages))

    def _answer(self, message: Message, context: Context) -> Message:
        try:
            return copy.deepcopy(self._app(message, context))
        except Exception as error:  # whatever a client does, the others go on: the server is told
            return Message(Error(FAILED, f"{type(error).__name__}: {error}"), reply_to=message)


def run(server: ServerApp, client: ClientApp, nodes: int, run_config: dict[str, Any] | None = None) -> Context:
    """Runs both apps to the end in this process; returns the server's context, whose state holds what it put there."""
    context = Context(RUN, SERVER, {}, RecordDict(), dict(run_config or {}))
    server(InProcessGrid(client, nodes, run_config), context)
    return context
