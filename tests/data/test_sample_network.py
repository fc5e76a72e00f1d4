"""The event loop, the rhythms, the places and the families: what holds whatever the seed."""

from collections.abc import Iterator
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fliot_lab.data import iot23, sample, zeek
from fliot_lab.data.sample import behaviours, captures, connections, devices, families, network, services
from fliot_lab.data.sample.behaviours import Behaviour, Device, Event, Site
from tests.data.test_sample import inversions, joined, rows, shares, written

DEVICE = Device("board", "192.168.1.9", "fe80::9", "192.168.1.1")
WORM = {"PartOfAHorizontalPortScan", "Attack"}
# What each family does, as published, in IoT-23's words; Torii neither scans nor floods.
LABELS = {
    "mirai": WORM | {"C&C-Mirai", "C&C-FileDownload", "C&C", "C&C-HeartBeat", "DDoS"},
    "okiru": {"Okiru", "PartOfAHorizontalPortScan", "C&C-FileDownload", "C&C-HeartBeat", "DDoS"},
    "torii": {"FileDownload", "C&C-Torii"},
    "hakai": WORM | {"FileDownload", "C&C-HeartBeat-Attack", "C&C", "C&C-HeartBeat", "DDoS"},
    "hide-and-seek": WORM | {"FileDownload", "C&C"},
}


def site(seed: int = 0, seconds: float = 86_400.0, hour: float = 0.0) -> Site:
    return Site(np.random.default_rng(seed), seconds, hour)


def times(behaviour: Behaviour, count: int, **of_site: Any) -> np.ndarray:
    """When the behaviour's first events are (count,)."""
    return np.array([at for at, _, _ in islice(behaviour(site(**of_site), DEVICE), count)])


def logs(folder: Path) -> dict[str, pl.DataFrame]:
    return {name: rows(path) for name, path in iot23.captures(folder).items()}


# --- rhythms and the loop --------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32), every=st.floats(1, 1e5), slack=st.floats(0, 0.9))
@settings(max_examples=20, deadline=None)
def test_a_steady_behaviour_keeps_its_beat(seed: int, every: float, slack: float) -> None:
    gaps = np.diff(times(behaviours.steadily(services.ping, every=every, slack=slack), 50, seed=seed))
    assert ((gaps >= every * (1 - slack) - 1e-6) & (gaps <= every * (1 + slack) + 1e-6)).all()


def test_what_happens_sometimes_happens_as_often_as_it_says_and_less_at_night() -> None:
    per_hour, hours, most = 30.0, 24 * 20, 40_000
    at = times(behaviours.sometimes(services.ping, per_hour=per_hour, asleep=0.1), most) / 3600
    at = at[at < hours]
    day = (at % 24 >= behaviours.AWAKE[0]) & (at % 24 < behaviours.AWAKE[1])
    for found, expected in ((day.sum(), per_hour * 16 * 20), ((~day).sum(), 0.1 * per_hour * 8 * 20)):
        assert abs(found - expected) < 5 * np.sqrt(expected)  # a Poisson count
    assert np.diff(times(behaviours.sometimes(services.ping, per_hour=3600, apart=70), 200)).min() >= 70


@given(seed=st.integers(0, 2**32), scenario=st.sampled_from(sorted(sample.SCENARIOS)))
@settings(max_examples=10, deadline=None)
def test_events_come_in_order_of_time_from_every_behaviour(seed: int, scenario: str) -> None:
    kinds = sample.SCENARIOS[scenario]
    actors = devices.actors_of(devices.network(kinds))
    events = list(islice(network.happenings(site(seed), actors), 3000))
    assert all(first[0] <= second[0] for first, second in pairwise(events))
    assert {draw.keywords["device"].address for _, draw, _ in events} == {one.address for one in devices.network(kinds)}  # type: ignore[attr-defined]


def test_a_network_that_falls_silent_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="no device does anything any more"):
        list(network.watched(site(), [(behaviours.booting(services.ping), DEVICE)], 10))


@pytest.mark.parametrize("block", [50, 700, 40_000])
def test_blocks_hold_all_flows_in_the_order_of_writing(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(network, "BLOCK", block)
    actors = devices.actors_of(devices.network(("speaker",)))
    found = list(network.watched(site(), actors, 4000))
    everything = pl.concat(found)
    assert len(everything) == 4000
    assert len(found) == 1 if block > 4000 else len(found) > 4000 // (5 * block)
    assert everything["written"][: -len(found[-1]) or None].is_sorted()
    # What Zeek remembers at once is little, however long the log: memory is a block and that.
    assert max(map(len, found)) < 2 * block + 2000


def test_the_first_flows_to_begin_are_the_ones_that_are_kept() -> None:
    """A longer log of the same events begins with the same flows, as a set: those that began first."""

    def beat(_: Site, device: Device) -> Iterator[Event]:
        draw = partial(services.clock, device=device, heard=False)
        yield from ((float(100 * nth), draw, 1) for nth in range(1000))

    short, longer = (pl.concat(network.watched(site(), [(beat, DEVICE)], count)) for count in (37, 400))
    assert sorted(short["ts"]) == sorted(longer["ts"])[:37] == [100.0 * nth for nth in range(37)]


# --- packets --------------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_syns_fire_on_the_ticks_of_linuxs_timer_wheel(seed: int) -> None:
    """The third comes 3.08 to 3.16 s after the first; later ones on steps of 80 ms, then of 640 ms."""
    times = connections._syn_times(np.random.default_rng(seed), 50)
    low, high = np.array([0, 1, 3.08, 7.16, 15.24, 31.88, 64.52]), np.array([0, 1.08, 3.16, 7.24, 15.88, 32.52, 65.16])
    assert (times >= low - 1e-9).all()
    assert (times <= high + connections.CAPTURE_SLACK + 1e-9).all()


@pytest.mark.real
def test_real_syns_fire_on_the_same_ticks(real_root: Path) -> None:
    real = rows(real_root / "CTU-IoT-Malware-Capture-8-1/bro/conn.log.labeled")
    third = real.filter((pl.col("conn_state").cast(pl.String) == "S0") & (pl.col("orig_pkts") == 3))["duration"]
    assert third.is_between(3.08, 3.16 + 2 * connections.CAPTURE_SLACK).mean() > 0.99  # type: ignore[operator]


def test_what_is_seen_twice_has_twice_the_packets_and_the_same_state() -> None:
    rng = np.random.default_rng(0)
    once = pl.concat([connections.refused(rng, 3, seconds=0.1), connections.syn_only(np.array([1, 3]), seconds=3.1)])
    twice = connections.seen_twice(rng, once, 1.0)
    for name in ("orig_pkts", "orig_ip_bytes", "resp_pkts", "resp_ip_bytes"):
        assert (twice[name] == 2 * once[name]).all()
    assert (twice["conn_state"] == once["conn_state"]).all()
    assert once["duration"].null_count() == 1
    assert twice["duration"].null_count() == 0
    assert connections.seen_twice(rng, once, 0.0).equals(once)


# --- places and families -------------------------------------------------------------------------------------------------


def logs_of(out: Path, seed: int, size: int, scenario: str | None, malware: Any) -> dict[str, pl.DataFrame]:
    """Capture -> rows, in the order in which `generate` gives them."""
    paths = sample.generate(out, seed, size, scenario, malware)
    return {path.relative_to(out).parts[0]: rows(path) for path in paths}


@pytest.fixture(scope="module", params=sorted(sample.SCENARIOS))
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pl.DataFrame]:
    """The captures of a scenario with every family."""
    return logs_of(tmp_path_factory.mktemp(request.param), 11, 9000, request.param, list(sample.FAMILIES))


def test_a_scenario_is_a_clean_capture_and_one_for_each_family(place: dict[str, pl.DataFrame]) -> None:
    clean, *infected = place
    scenario = clean.split("-")[1].lower()
    assert clean == f"SIM-{scenario.capitalize()}-Honeypot-Capture-1-1"
    assert set(place[clean]["label"].cast(pl.String)) == {"Benign"}
    chosen = captures.of_scenario(scenario, list(sample.FAMILIES))
    assert [len(capture) for capture in place.values()] == captures.allotted(chosen, 9000)
    for family, name in zip(sample.FAMILIES, infected, strict=True):
        assert set(place[name]["label"].cast(pl.String)) - {"Benign"} == LABELS[family], family


def test_every_law_holds_in_every_place_with_every_family(place: dict[str, pl.DataFrame]) -> None:
    assert set(shares(pl.concat(place.values())).values()) <= {1.0, None}
    for name, capture in place.items():
        assert joined(capture) == 0, name
        assert inversions(written(capture.head(len(capture) * 9 // 10))) == 0, name
        assert capture["uid"].is_unique().all()


def test_one_device_is_infected_and_goes_on_with_what_it_did(place: dict[str, pl.DataFrame]) -> None:
    for name, capture in islice(place.items(), 1, None):
        attack = pl.col("label").cast(pl.String) != "Benign"
        (victim,) = set(capture.filter(attack)["id.orig_h"])
        first, last, begin = capture.filter(attack)["ts"].min(), capture["ts"].max(), capture["ts"].min()
        assert begin < first < begin + (last - begin) / 3, name  # type: ignore[operator]
        # A PLC is polled by its master, and originates little itself.
        own = capture.filter(~attack & (pl.col("id.orig_h") == victim) | (pl.col("id.resp_h") == victim))
        assert own.filter(pl.col("ts") > first).height > 0, name
        assert capture.filter(attack & (pl.col("ts") > begin + (last - begin) / 2)).height > 0, name


def test_the_seed_decides_which_device_is_infected_and_when(tmp_path: Path) -> None:
    found = set()
    for seed in range(6):
        home = logs_of(tmp_path / str(seed), seed, 1500, "home", "mirai")["SIM-Home-Malware-Capture-1-1"]
        attacks = home.filter(pl.col("label").cast(pl.String) != "Benign").sort("ts")
        found.add((attacks["id.orig_h"][0], round((attacks["ts"][0] - home["ts"].min()).total_seconds())))  # type: ignore[operator]
    assert len({address for address, _ in found}) > 1
    assert len({seconds for _, seconds in found}) > 1


def test_every_family_and_place_is_one_that_can_be_made() -> None:
    assert LABELS.keys() == families.FAMILIES.keys() == sample.FAMILIES.keys()
    assert set(sample.SCENARIOS) == {"home", "hospital", "factory", "city"} == set(devices.DELAYS)
    assert {kind for kinds in sample.SCENARIOS.values() for kind in kinds} <= set(devices.KINDS)


def test_equal_arguments_give_equal_bytes_and_other_ones_do_not(tmp_path: Path) -> None:
    def made(name: str, **wanted: Any) -> list[bytes]:
        arguments = {"seed": 1, "size": 1500, "scenario": "city", "malware": ["torii"]} | wanted
        return [path.read_bytes() for path in sample.generate(tmp_path / name, **arguments)]

    first = made("a")
    assert made("b") == first
    assert made("c", malware="torii") == first
    assert made("d", seed=2) != first
    assert made("e", scenario="factory") != first
    assert made("f", malware=("torii", "mirai"))[1] != first[1]


def test_malware_alone_infects_a_home_and_a_place_alone_is_clean(tmp_path: Path) -> None:
    assert list(logs_of(tmp_path / "a", 1, 1000, None, "okiru")) == [
        "SIM-Home-Honeypot-Capture-1-1",
        "SIM-Home-Malware-Capture-1-1",
    ]
    factory = logs_of(tmp_path / "b", 1, 1000, "factory", None)
    assert [len(capture) for capture in factory.values()] == [1000]
    assert set(next(iter(factory.values()))["label"].cast(pl.String)) == {"Benign"}


def test_another_kind_of_set_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    sample.generate(tmp_path, 1, 1000)
    sample.generate(tmp_path, 1, 1000, "city", None)
    assert list(iot23.captures(tmp_path)) == ["SIM-City-Honeypot-Capture-1-1"]
    assert "city" not in (tmp_path / "README.txt").read_text().splitlines()[0]
    assert "traffic sensor" in (tmp_path / "README.txt").read_text()


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"scenario": "farm"}, "scenario='farm' is unknown; choose one of home, hospital, factory, city"),
        ({"scenario": ""}, "scenario='' is unknown"),
        ({"malware": "wannacry"}, "malware='wannacry' is unknown; choose from mirai, okiru, torii, hakai, hide-and-seek"),
        ({"scenario": "home", "malware": ["mirai", "zeus"]}, "malware='zeus' is unknown"),
        ({"malware": ["mirai", "mirai"]}, "malware='mirai' is named 2 times"),
    ],
)
def test_an_unknown_place_or_family_is_refused(tmp_path: Path, wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample.generate(tmp_path / "out", 1, 1000, **wanted)
    assert not (tmp_path / "out").exists()


def test_a_large_log_is_one_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written in many blocks it has one header and one footer, and its rows are all there."""
    monkeypatch.setattr(network, "BLOCK", 300)
    (path,) = sample.generate(tmp_path, 1, 5000, "hospital")
    lines = path.read_text().splitlines()
    assert [line.startswith("#") for line in lines] == [True] * 8 + [False] * 5000 + [True]
    assert len(zeek.read_conn_log(path)) == 5000
