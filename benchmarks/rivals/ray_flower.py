# mypy: ignore-errors
"""The study's federation on Flower's own simulation, whose one backend is Ray: actors of one core each. Argument: ROUNDS."""

import os
import sys

from benchmarks import flower  # first: it switches off what Flower would tell others
from fliot_lab.federation.flower import apps, study

# isort: split
from flwr.app import Context
from flwr.clientapp import ClientApp
from flwr.server.superlink.fleet.vce.backend import raybackend  # noqa: F401 (else imported, with Ray, while the clock runs)
from flwr.serverapp import ServerApp
from flwr.simulation import run_simulation

CHOSEN = flower.CHOSEN | {"rounds": int(sys.argv[1])}

server, client = ServerApp(), ClientApp()


def with_settings(context):
    """The context with this run's settings: this way to run apps has no place to give them, and forbids to change its own."""
    return Context(context.run_id, context.node_id, context.node_config, context.state, CHOSEN)


@server.main()
def serve(grid, context):
    study.serve(grid, with_settings(context))


def answer(message, context):
    return study.answer(message, with_settings(context))


for asked in (client.train(), client.evaluate(), client.query(apps.SUMS)):
    asked(answer)


if __name__ == "__main__":
    init = {
        "num_cpus": flower.WORKERS,
        "_node_ip_address": "127.0.0.1",  # it neither looks for another nor listens on it
        "_temp_dir": os.getcwd(),
        "log_to_driver": False,
    }
    with flower.stopped() as watch:
        run_simulation(
            server,
            client,
            flower.CLIENTS,
            backend_config={"init_args": init, "client_resources": {"num_cpus": 1, "num_gpus": 0}},
        )
    watch.tell("ray", "flwr")
