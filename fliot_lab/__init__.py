"""FLIoT Lab: federated learning for IoT security, as a course and as software."""

from pathlib import Path

__version__ = "0.1.0"

_checkout = Path(__file__).resolve().parent.parent
#: The course's folder: the checkout, or the current folder when the package was installed without one.
ROOT = _checkout if (_checkout / "pyproject.toml").is_file() else Path.cwd()
