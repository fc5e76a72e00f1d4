"""The laws of simulated telemetry and system calls: what is constant, what lags, and what an infection changes."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fliot_lab.data.sample import hosts, programs
from fliot_lab.data.sample.hosts import MALWARE, MARK, board_of, system_calls, telemetry, write_hosts
from fliot_lab.data.sample.programs import ACTIONS, ATTACKS, NUMBERS
from fliot_lab.data.sample.things import BY_NAME, SIBLINGS

DEVICES = ["ZindleKettle", "WumbrelSpeaker", "QuorvexWater"]
CAMERA = "JuntoxCam"


# --- telemetry ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
def test_telemetry_keeps_to_what_can_be(device: str) -> None:
    frame = telemetry(3, device=device, infected_at=10.0)
    assert len(frame) == 24 * 360
    assert frame["ts"].diff().dropna().eq(pd.Timedelta(seconds=10)).all()
    assert frame["ts"].dt.tz is not None
    assert frame["cpu_percent"].between(0, 100).all()
    assert frame["memory_total_mb"].nunique() == 1
    assert (frame["memory_used_mb"] < frame["memory_total_mb"]).all()
    assert frame["temperature_c"].between(0, 90).all()
    assert (frame[["processes", "sent_bytes", "received_bytes", "read_bytes", "written_bytes"]] >= 0).all(axis=None)
    assert not frame.isna().any(axis=None)
    assert frame["infected"].sum() == 14 * 360
    assert frame["infected"].is_monotonic_increasing


def test_memory_gives_the_kind_of_board_away_and_not_the_device() -> None:
    totals = {name: telemetry(3, device=name, hours=0.1)["memory_total_mb"].iloc[0] for name in BY_NAME}
    for group in SIBLINGS:
        assert len({totals[name] for name in group}) == 1
    assert 3 < len(set(totals.values())) < 10


def recovered_lag(frame: pd.DataFrame, every: float) -> tuple[float, float]:
    """(seconds, degrees for a load of 100 %) by least squares on the change of the temperature from row to row.

    The sensor's noise would bias a regression on the last value, so that the change is taken over twelve intervals of a model
    that is linear in the load filtered with each candidate lag; the room's daily wave is regressed out.
    """
    hour = 2 * np.pi * np.arange(len(frame)) * every / 86_400
    best = (np.inf, 0.0, 0.0)
    for lag in np.arange(60, 700, 5.0):
        share = 1 - np.exp(-every / lag)
        warm, filtered = frame["cpu_percent"].iloc[0], []
        for load in frame["cpu_percent"]:
            warm += share * (load - warm)
            filtered.append(warm)
        design = np.column_stack([filtered, np.ones(len(hour)), np.sin(hour), np.cos(hour)])[60:]
        solved, squares, *_ = np.linalg.lstsq(design, frame["temperature_c"].to_numpy()[60:], rcond=None)
        best = min(best, (float(squares[0]), float(lag), 100 * float(solved[0])))
    return best[1], best[2]


@pytest.mark.parametrize("device", ["WumbrelSpeaker", "KestwynThermostat"])
def test_temperature_follows_the_load_with_the_boards_lag(device: str) -> None:
    frame = telemetry(4, device=device, hours=24, infected_at=6.0, malware="hakai", every=30.0)
    board = board_of(BY_NAME[device])
    lag, gain = recovered_lag(frame, 30.0)
    assert lag == pytest.approx(board.lag, rel=0.1)
    assert gain == pytest.approx(board.heat, rel=0.2)  # boards differ by 4 %


def test_a_warmer_room_is_a_warmer_processor_and_a_slower_crystal() -> None:
    cool, warm = (telemetry(5, device=CAMERA, hours=3, room_c=room) for room in (18.0, 26.0))
    np.testing.assert_allclose(warm["temperature_c"] - cool["temperature_c"], 8, atol=0.11)  # rounded to a tenth twice
    assert (warm["clock_ppm"] < cool["clock_ppm"]).all()
    unmoved = [name for name in cool if name not in ("temperature_c", "clock_ppm")]
    pd.testing.assert_frame_equal(cool[unmoved], warm[unmoved])


def test_the_room_outweighs_what_tells_two_boards_apart() -> None:
    """The false friend: one board in two rooms differs more in temperature than two boards in one room."""

    def mean(unit: int, room: float) -> float:
        return float(telemetry(6, device=CAMERA, hours=2, unit=unit, room_c=room)["temperature_c"].mean())

    apart = [abs(mean(unit, 20.0) - mean(unit + 1, 20.0)) for unit in range(0, 12, 2)]
    assert np.median(apart) < abs(mean(0, 20.0) - mean(0, 25.0))
    assert min(apart) > 0


def test_boards_keep_their_crystal_and_recordings_differ() -> None:
    def crystal(unit: int, run: int) -> float:
        return float(telemetry(7, device=CAMERA, hours=1, unit=unit, run=run, room_c=21.0)["clock_ppm"].mean())

    own = [abs(crystal(unit, 0) - crystal(unit, 1)) for unit in range(5)]
    others = [abs(one - other) for one, other in pairwise(crystal(unit, 0) for unit in range(6))]
    assert max(own) < np.median(others) / 5
    assert not telemetry(7, device=CAMERA, hours=1, run=0).equals(telemetry(7, device=CAMERA, hours=1, run=1))


@pytest.mark.parametrize("malware", MALWARE)
def test_an_infection_shows_from_its_time_on_and_not_before(malware: str) -> None:
    healthy = telemetry(8, device=CAMERA, hours=24)
    ill = telemetry(8, device=CAMERA, hours=24, infected_at=9.0, malware=malware)
    begins = 9 * 360
    before = [name for name in ill if name != "infected"]
    pd.testing.assert_frame_equal(ill[before][:begins], healthy[before][:begins])
    assert not ill["infected"][:begins].any()
    assert ill["infected"][begins:].all()
    more = (ill[before[1:]] - healthy[before[1:]])[begins:].mean()
    family = MALWARE[malware]
    assert more["sent_bytes"] > 0
    assert more["processes"] == pytest.approx(family.processes)
    assert more["memory_used_mb"] == pytest.approx(family.memory, rel=0.05)
    assert more["temperature_c"] >= 0
    assert (more["cpu_percent"] > 1) == (family.duty > 0)  # who does not scan, hides
    assert (more["written_bytes"] > 0) == (family.written > 0)


def test_a_scan_sends_its_packets() -> None:
    """Mirai: 160 SYNs of 54 bytes a second, on top of what the device sends; floods are taken out as a median does."""
    healthy, ill = (telemetry(9, device=CAMERA, hours=4, infected_at=start) for start in (None, 0.0))
    rate = float((ill["sent_bytes"] - healthy["sent_bytes"]).median()) / 10
    assert rate == pytest.approx(160 * 54, rel=0.05)


def test_the_evening_is_busier_than_the_night_and_jobs_run_at_night() -> None:
    frame = pd.concat([telemetry(10, device="WumbrelSpeaker", run=run) for run in range(4)])
    hour = frame["ts"].dt.hour
    assert frame["sent_bytes"][hour.between(18, 21)].mean() > 1.2 * frame["sent_bytes"][hour.between(5, 8)].mean()
    assert frame["read_bytes"][hour == 3].mean() > 5 * frame["read_bytes"][hour == 5].mean()


# --- system calls -------------------------------------------------------------------------------------------------------


def test_actions_are_made_of_known_calls_and_all_are_reachable() -> None:
    used = {step.rstrip("*") for calls in ACTIONS.values() for step in calls.split()}
    assert used <= set(NUMBERS)
    assert len(set(NUMBERS.values())) == len(NUMBERS)
    done = {name for weights in ATTACKS.values() for name in weights} | set(programs.habits(BY_NAME[CAMERA])) | {"start"}
    assert done == set(ACTIONS)


@pytest.mark.parametrize("kind", programs.KINDS)
def test_a_trace_is_made_of_whole_actions(kind: str) -> None:
    """Every call of a trace is explained by actions in turn, whatever their repetitions; in another order it is not."""
    calls = system_calls(11, kind=kind, device=CAMERA, length=300).tolist()
    assert explained(calls)
    assert not explained(np.random.default_rng(0).permutation(calls).tolist())


def explained(calls: list[int]) -> bool:
    """Whether some sequence of actions, the last cut short, makes these calls."""
    reached, waiting = {0}, [0]
    while waiting:
        begin = waiting.pop()
        for action in ACTIONS:
            found = matches(calls, begin, action) - reached
            reached |= found
            waiting += [end for end in found if end < len(calls)]
    return len(calls) in reached


def matches(calls: list[int], begin: int, action: str) -> set[int]:
    """Where `action` may end if it starts at `begin`; the trace's end cuts it short."""
    places = {begin}
    for step in ACTIONS[action].split():
        number, following = NUMBERS[step.rstrip("*")], set()
        for place in places:
            if place >= len(calls):
                following.add(place)
            while place < len(calls) and calls[place] == number:
                place += 1
                following.add(place)
                if not step.endswith("*"):
                    break
        places = following
    return places


def test_lengths_are_as_asked_or_as_long_as_traces_are() -> None:
    assert [len(system_calls(1, length=size)) for size in (1, 80, 5_000)] == [1, 80, 5_000]
    drawn = [len(system_calls(1, run=run)) for run in range(60)]
    assert min(drawn) >= 75
    assert max(drawn) <= 4_500
    assert 200 < np.median(drawn) < 450
    assert system_calls(1).dtype == np.int64


def shares(kind: str, runs: range, device: str = CAMERA) -> np.ndarray:
    """Share of each call number in long traces of a kind."""
    counts = sum(np.bincount(system_calls(12, kind=kind, device=device, run=run, length=2_000), minlength=300) for run in runs)
    return np.asarray(counts / np.sum(counts))


def test_attacks_show_and_do_not_shout() -> None:
    normal, again = shares("normal", range(6)), shares("normal", range(6, 12))
    itself = np.abs(normal - again).sum()
    for kind in ATTACKS:
        attack = shares(kind, range(6))
        assert np.abs(normal - attack).sum() > 2 * itself, kind
        # Nearly all that an attack calls, the device calls too.
        assert attack[normal + again == 0].sum() < 0.2, kind


def test_programs_of_siblings_are_nearer_than_those_of_strangers() -> None:
    sibling = np.abs(shares("normal", range(6), "PlimboBulb") - shares("normal", range(6), "PlimboLamp")).sum()
    stranger = np.abs(shares("normal", range(6), "PlimboBulb") - shares("normal", range(6), "DrovanaSwitch")).sum()
    assert sibling < stranger / 2


# --- seeds, files and bad input -----------------------------------------------------------------------------------------


def test_equal_seeds_are_equal_and_others_are_not() -> None:
    pd.testing.assert_frame_equal(telemetry(2, hours=1), telemetry(2, hours=1))
    assert not telemetry(2, hours=1).equals(telemetry(3, hours=1))
    np.testing.assert_array_equal(system_calls(2), system_calls(2))
    assert system_calls(2, length=200).tolist() != system_calls(3, length=200).tolist()
    assert system_calls(2, length=200).tolist() != system_calls(2, length=200, run=1).tolist()


def test_files_hold_what_the_functions_give(tmp_path: Path) -> None:
    out = tmp_path / "hosts"
    paths = write_hosts(out, 13, devices=DEVICES[:2], hours=0.5, traces=2)
    assert sorted(paths) == sorted([*(out / "telemetry").glob("*.csv"), *(out / "system-calls").rglob("SIM-*.txt")])
    assert len(paths) == 2 * 2 + 2 * (2 + 2 + 6)
    text = (out / "README.txt").read_text()
    assert text.startswith(MARK)
    assert "SIMULATED" in text
    healthy = pd.read_csv(out / "telemetry" / "ZindleKettle-0.csv", parse_dates=["ts"])
    pd.testing.assert_frame_equal(healthy, telemetry(13, device="ZindleKettle", hours=0.5), check_dtype=False)
    assert pd.read_csv(out / "telemetry" / "ZindleKettle-1.csv")["infected"].sum() == 90
    trace = (out / "system-calls" / "Training_Data_Master" / "SIM-WumbrelSpeaker-0001.txt").read_text()
    np.testing.assert_array_equal([int(call) for call in trace.split()], system_calls(13, device="WumbrelSpeaker", run=1))
    folders = {path.name.rsplit("_", 1)[0] for path in (out / "system-calls" / "Attack_Data_Master").iterdir()}
    assert folders == set(ATTACKS)
    names = pd.read_csv(out / "system-calls" / "calls.csv")
    assert dict(zip(names["name"], names["number"], strict=True)) == NUMBERS
    before = {path: path.read_bytes() for path in paths}
    again = write_hosts(out, 13, devices=DEVICES[:1], hours=0.5, traces=2)
    assert set(again) < set(paths)
    assert {path: path.read_bytes() for path in again}.items() <= before.items()
    assert not list(out.rglob("*WumbrelSpeaker*"))
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seed": -1}, "seed=-1: expected a whole number"),
        ({"device": "Nobody"}, "device='Nobody': no simulated device is called so; there are Quorvex"),
        ({"hours": 0}, "hours=0: expected a number"),
        ({"hours": float("nan")}, "hours=nan"),
        ({"hours": 745}, "hours=745"),
        ({"infected_at": -1.0}, "infected_at=-1.0"),
        ({"infected_at": 3.0}, "infected_at=3.0: expected a number from 0 to 2"),
        ({"malware": "nimda"}, "malware='nimda': expected one of mirai"),
        ({"unit": 0.5}, "unit=0.5"),
        ({"run": -2}, "run=-2"),
        ({"every": 0}, "every=0"),
        ({"room_c": 400.0}, "room_c=400.0"),
    ],
)
def test_telemetry_refuses_bad_input(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        telemetry(**({"seed": 1, "hours": 2} | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seed": None}, "seed=None"),
        ({"kind": "adduser"}, "kind='adduser': expected one of normal, Adduser"),
        ({"device": "Nobody"}, "no simulated device"),
        ({"length": 0}, "length=0: expected a whole number, from 1 to 100000"),
        ({"length": 1.5}, "length=1.5"),
        ({"run": -1}, "run=-1"),
    ],
)
def test_system_calls_refuse_bad_input(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        system_calls(**({"seed": 1} | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes", [{"seed": "a"}, {"hours": 1e9}, {"traces": 0}, {"devices": ["Nobody"]}, {"devices": []}, {"hours": True}]
)
def test_files_are_not_begun_with_bad_input(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"expected|no simulated device"):
        write_hosts(tmp_path / "out", **({"seed": 1} | changes))  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_folder_of_somebody_elses_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "telemetry").mkdir()
    (tmp_path / "telemetry" / "mine.csv").write_text("mine")
    with pytest.raises(ValueError, match="holds other things"):
        write_hosts(tmp_path, 1, devices=DEVICES, hours=0.1)
    assert [path.name for path in tmp_path.rglob("*.*")] == ["mine.csv"]

    def breaks(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(hosts, "_write_traces", breaks)
    with pytest.raises(OSError, match="no space"):
        write_hosts(tmp_path / "out", 1, devices=DEVICES[:1], hours=0.1)
    assert "Unfinished" in (tmp_path / "out" / "README.txt").read_text()
