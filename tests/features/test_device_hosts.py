"""Telemetry as fingerprints: what must not show, what must, and a machine that reports less than another."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from scipy.signal import lfilter

from fliot_lab.data.sample.hosts import telemetry
from fliot_lab.features.devices import hosts, matrix
from fliot_lab.features.devices.hosts import COLUMNS, COUNTERS, fingerprint, observe, read

CAMERA = "JuntoxCam"


@pytest.fixture
def frame() -> pd.DataFrame:
    return telemetry(3, device=CAMERA, hours=0.5)


def values(frame: pd.DataFrame, **options: Any) -> dict[str, float]:
    found = fingerprint(frame, window=len(frame), **options)
    assert len(found) == 1
    return dict(zip(found[0].names, found[0].values.tolist(), strict=True))


# --- what must not show -------------------------------------------------------------------------------------------------


def test_size_of_memory_and_host_name_change_nothing(frame: pd.DataFrame, tmp_path: Path) -> None:
    other = frame.assign(memory_total_mb=8_192.0, host="kitchen-camera", address="192.168.1.9", infected=True)
    other.to_csv(tmp_path / "kitchen-camera.csv", index=False)
    again = values(read(tmp_path / "kitchen-camera.csv"))
    assert again == values(read(frame))
    assert not any("total" in name or "host" in name for name in again)


@pytest.mark.parametrize("column", ["temperature_c", "memory_used_mb", "clock_ppm"])
def test_a_level_of_heat_memory_or_clock_does_not_show(frame: pd.DataFrame, column: str) -> None:
    moved = values(frame.assign(**{column: frame[column] + 12.5}))
    assert moved == pytest.approx(values(frame), rel=1e-6, abs=1e-6, nan_ok=True)


def test_another_room_shows_in_levels_alone() -> None:
    cool, warm = (telemetry(5, device=CAMERA, hours=1, room_c=room) for room in (18.0, 27.0))
    one, other = values(cool, levels=True), values(warm, levels=True)
    assert other["temperature: mean"] - one["temperature: mean"] == pytest.approx(9, abs=0.02)
    assert other["clock: mean"] < one["clock: mean"] - 1
    assert set(one) - set(values(cool)) == {"temperature: mean", "clock: mean"}
    # Rounded to a tenth of a degree, the same movement in another room is not quite the same numbers.
    for name in values(cool):
        assert other[name] == pytest.approx(one[name], rel=0.1, abs=0.1), name


# --- what must show -----------------------------------------------------------------------------------------------------


def test_heat_that_follows_the_load_gives_its_degrees_back(frame: pd.DataFrame) -> None:
    """Heat made by the model that a lag stands for: 20 degrees for full load, on top of a room that says nothing."""
    for lag in hosts.LAGS:
        keep = np.exp(-10 / lag)
        load = frame["cpu_percent"].to_numpy()
        smooth, _ = lfilter([1 - keep], [1, -keep], load, zi=[keep * load[0]])
        found = values(frame.assign(temperature_c=31 + 0.2 * smooth))
        assert found[f"temperature: degrees for full load over {lag:g} s"] == pytest.approx(20)
        assert found[f"temperature: goes with load over {lag:g} s"] == pytest.approx(1)


def test_levels_and_motion_are_those_of_the_columns(frame: pd.DataFrame) -> None:
    found = values(frame)
    load, tasks = frame["cpu_percent"], frame["processes"]
    assert found["load: mean"] == pytest.approx(load.mean())
    assert found["load: high"] == pytest.approx(load.quantile(0.9))
    assert found["load: typical step"] == pytest.approx(load.diff().abs().mean())
    assert found["load: keeps"] == pytest.approx(np.corrcoef(load[1:], load[:-1])[0, 1])
    assert found["processes: range"] == tasks.max() - tasks.min()
    assert found["memory: deviation"] == pytest.approx(frame["memory_used_mb"].std(ddof=0))
    assert found["sent_bytes: mean"] == pytest.approx(np.log1p(frame["sent_bytes"] / 10).mean())
    assert found["written_bytes: share of rows with any"] == (frame["written_bytes"] > 0).mean()
    assert found["sent_bytes: goes with load"] == pytest.approx(np.corrcoef(frame["sent_bytes"], load)[0, 1])
    ramp = values(frame.assign(memory_used_mb=np.arange(len(frame)) * 0.5))  # half a megabyte in ten seconds
    assert ramp["memory: rise an hour"] == pytest.approx(180)


def test_bytes_are_rates(frame: pd.DataFrame) -> None:
    """Twice the bytes in twice the time is the same traffic."""
    start = frame["ts"].iloc[0]
    slow = frame.assign(ts=start + 2 * (frame["ts"] - start), **{name: 2 * frame[name] for name in COUNTERS})
    one, other = values(frame), values(slow)
    for name in one:
        if name.startswith(COUNTERS) and "hour" not in name:
            assert other[name] == pytest.approx(one[name]), name


def test_windows_are_stretches_one_after_the_other(frame: pd.DataFrame) -> None:
    frame.attrs["source"] = "telemetry/JuntoxCam-0.csv"
    found = fingerprint(frame, window=50)
    assert len(found) == 180 // 50
    assert [each.provenance for each in found][1] == "telemetry/JuntoxCam-0.csv, rows 50 to 99"
    alone = fingerprint(frame.iloc[100:150], window=50)[0]
    np.testing.assert_array_equal(found[2].values, alone.values)
    X, names = matrix(found)
    assert X.shape == (3, len(names))
    assert np.isfinite(X).sum() > 0.9 * X.size


def test_what_was_not_observed_is_nan_and_the_rest_stays(frame: pd.DataFrame) -> None:
    known, unknown = values(frame), values(read(frame.drop(columns=["temperature_c", "clock_ppm"])))
    for name, value in unknown.items():
        assert np.isnan(value) if name.startswith("temperature") else value == known[name], name


def test_what_never_moves_has_no_correlation(frame: pd.DataFrame) -> None:
    found = values(frame.assign(cpu_percent=5.0))
    assert found["load: deviation"] == 0
    assert np.isnan(found["load: keeps"])
    assert np.isnan(found["temperature: degrees for full load over 120 s"])


# --- this machine -------------------------------------------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A machine on which 100 bytes more are sent and 4,096 written each time that one looks; what was slept, in seconds."""
    looks, slept, now = {"net": 0, "disk": 0}, [], [50.0]

    def cards(pernic: bool) -> dict[str, Any]:
        looks["net"] += 1
        card = SimpleNamespace(bytes_sent=1_000 + 100 * looks["net"], bytes_recv=7)
        return {"lo": SimpleNamespace(bytes_sent=10**9 * looks["net"], bytes_recv=10**9), "eth0": card, "wlan0": card}

    def disks() -> Any:
        looks["disk"] += 1
        return SimpleNamespace(read_bytes=10_000 - looks["disk"], write_bytes=4_096 * looks["disk"])

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(psutil, "net_io_counters", cards)
    monkeypatch.setattr(psutil, "disk_io_counters", disks)
    monkeypatch.setattr(psutil, "cpu_percent", lambda: 12.5)
    monkeypatch.setattr(psutil, "pids", lambda: list(range(31)))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(used=40e6, total=64e6))
    monkeypatch.setattr(psutil, "sensors_temperatures", dict, raising=False)
    monkeypatch.setattr(hosts, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: now[0]))
    return slept


def test_a_machine_is_observed_by_the_interval(machine: list[float]) -> None:
    frame = observe(6, 2.0)
    assert machine == pytest.approx([2, 2, 2])
    assert list(frame) == list(COLUMNS)
    assert frame["sent_bytes"].tolist() == [200, 200, 200]  # of two cards; the loopback stays inside
    assert frame["written_bytes"].tolist() == [4_096] * 3
    assert frame["read_bytes"].tolist() == [0] * 3  # a counter that fell began anew
    assert frame[["cpu_percent", "memory_used_mb", "memory_total_mb", "processes"]].iloc[-1].tolist() == [12.5, 40, 64, 31]
    assert frame["temperature_c"].isna().all()
    assert frame.attrs["source"] == "this machine"


@pytest.mark.parametrize(
    ("sensors", "expected"),
    [
        ({"nvme": [SimpleNamespace(current=70.0)], "cpu_thermal": [SimpleNamespace(current=48.5)]}, 48.5),
        ({"coretemp": [SimpleNamespace(current=None), SimpleNamespace(current=51.0)]}, 51.0),
        ({"nvme": [SimpleNamespace(current=70.0)]}, np.nan),  # a disk is no processor
        ({"acpitz": []}, np.nan),
    ],
)
def test_the_temperature_is_the_processors(
    machine: list[float], monkeypatch: pytest.MonkeyPatch, sensors: dict[str, Any], expected: float
) -> None:
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: sensors, raising=False)
    assert observe(1, 1)["temperature_c"].tolist() == pytest.approx([expected], nan_ok=True)


def no_disks() -> None:
    raise NotImplementedError("no /proc/diskstats")


def no_sensors() -> None:
    raise OSError("no /sys")


@pytest.mark.parametrize("disks", [lambda: None, no_disks])
@pytest.mark.parametrize("sensors", [None, no_sensors])
def test_macos_windows_and_containers_report_less(
    machine: list[float], monkeypatch: pytest.MonkeyPatch, disks: Callable[[], None], sensors: Callable[[], None] | None
) -> None:
    if sensors is None:
        monkeypatch.delattr(psutil, "sensors_temperatures")
    else:
        monkeypatch.setattr(psutil, "sensors_temperatures", sensors)
    monkeypatch.setattr(psutil, "disk_io_counters", disks)
    monkeypatch.setattr(psutil, "net_io_counters", lambda pernic: {})
    frame = observe(12, 1)
    assert frame["temperature_c"].isna().all()
    assert (frame[list(COUNTERS)] == 0).all(axis=None)
    assert len(fingerprint(frame, window=12)) == 1


def test_this_machine_itself_can_be_observed() -> None:
    frame = observe(1.0, 0.1)
    assert len(frame) == 10
    assert frame["ts"].is_monotonic_increasing
    assert frame["memory_used_mb"].between(1, frame["memory_total_mb"].iloc[0]).all()
    assert (frame["processes"] > 0).all()
    assert fingerprint(frame, window=10)[0].names == fingerprint(telemetry(1, hours=0.1), window=10)[0].names


# --- bad input ----------------------------------------------------------------------------------------------------------


def test_rows_in_any_order_are_read_by_time(frame: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(read(frame.sample(frac=1, random_state=1)), read(frame))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda frame: frame.drop(columns=["processes", "ts"]), "needs the columns ts, processes"),
        (lambda frame: frame.assign(cpu_percent="idle"), "this is no telemetry: could not convert"),
        (lambda frame: frame.assign(sent_bytes=np.inf), "sent_bytes: a row holds an infinity"),
        (lambda frame: frame.assign(ts="yesterday"), "this is no telemetry"),
        (lambda frame: frame.assign(ts=pd.NaT), "each row needs a time of its own"),
        (lambda frame: frame.assign(ts=frame["ts"].iloc[0]), "each row needs a time of its own"),
    ],
)
def test_what_is_no_telemetry_is_refused_by_name(
    frame: pd.DataFrame, tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], says: str
) -> None:
    change(frame).to_csv(tmp_path / "host.csv", index=False)
    with pytest.raises(ValueError, match=says) as caught:
        read(tmp_path / "host.csv")
    assert "host.csv" in str(caught.value)


@pytest.mark.parametrize("window", [9, 181])
def test_a_window_must_fit(frame: pd.DataFrame, window: int) -> None:
    with pytest.raises(ValueError, match=f"window={window}: expected from 10 rows to the 180"):
        fingerprint(frame, window=window)


@pytest.mark.parametrize(("seconds", "every"), [(0, 1), (1, 0.05), (1, 2), (5, -1)])
def test_a_span_must_hold_an_interval(seconds: float, every: float) -> None:
    with pytest.raises(ValueError, match=r"expected 0\.1 <= every <= seconds"):
        observe(seconds, every)
