"""Shared fixtures, and the rule that only listed skips are allowed."""

import os
from pathlib import Path

import pytest

from fliot_lab import ROOT

ALLOWED_SKIPS = {
    line.strip()
    for line in (Path(__file__).parent / "allowed_skips.txt").read_text().splitlines()
    if line.strip() and not line.startswith("#")
}
_unexpected: list[str] = []


@pytest.fixture(scope="session")
def real_root() -> Path:
    """The folder of real IoT-23 captures: `$FLIOT_DATA/iot23`, data/raw or ../shared/data/iot23. Skips where there is none."""
    places = [Path(os.environ["FLIOT_DATA"]) / "iot23"] if os.environ.get("FLIOT_DATA") else []
    for place in [*places, ROOT / "data" / "raw", ROOT.parent / "shared" / "data" / "iot23"]:
        if any(place.glob("CTU-*")):
            return place
    pytest.skip("no real IoT-23 captures on this machine")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with iot-sentinel/, pcap/, hw/ and syscalls/: `$FLIOT_DATA` or ../shared/data. Skips where there is none."""
    for place in [Path(os.environ.get("FLIOT_DATA", "")), ROOT.parent / "shared" / "data"]:
        if (place / "iot-sentinel").is_dir():
            return place
    pytest.skip("no real device data on this machine")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if report.nodeid.split("[")[0] not in ALLOWED_SKIPS:
            _unexpected.append(f"{report.nodeid}: {reason}")


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        _unexpected.append(f"{report.nodeid}: skipped while it was collected")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _unexpected:
        terminalreporter.section("skips that tests/allowed_skips.txt does not list", red=True)
        for line in _unexpected:
            terminalreporter.line(line)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _unexpected and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
