"""The same federation on Flower: apps, strategy, and a grid without a network. The only package that imports flwr.

Nothing calls home: Flower's telemetry, its check for updates and its installing of dependencies at run time are switched off
before it is imported, unless the environment says otherwise.
"""

import os

for _name, _value in (
    ("FLWR_TELEMETRY_ENABLED", "0"),
    ("FLWR_DISABLE_UPDATE_CHECK", "1"),
    ("FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION", "1"),
):
    os.environ.setdefault(_name, _value)
