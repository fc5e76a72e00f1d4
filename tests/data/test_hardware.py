"""Records of hardware and programs: real layouts with made-up numbers in them, the real ones, and the simulated ones."""

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fliot_lab.data import hardware, setups
from fliot_lab.data.hardware import CALLS, CYCLES, IDENTICAL, USAGE, boards, locate, observations, traces, usage
from fliot_lab.data.iot23 import DataMissing
from fliot_lab.data.sample import hosts, programs
from fliot_lab.data.sample.things import BY_NAME

COUNTED = "net_sent,net_recv,io_counters_read_bytes_ipykernel,io_counters_write_bytes_ipykernel"
ADDRESSES = [f"02:00:00:00:00:{number:02x}" for number in (9, 1, 5, 3)]
SPEEDS = [4_087.0, 1.0e9, 4_089.0, 3.0e9]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder laid out as the real one: three measurements of four boards, two runs, a few traces. All numbers are made up."""
    for part in (CYCLES, USAGE / "RPi2_600" / "x", CALLS):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
    rows = [(30 + turn, speed + turn, a) for turn in range(3) for a, speed in zip(ADDRESSES, SPEEDS, strict=True)]
    (tmp_path / CYCLES).write_text("".join(f"{heat},{cycles},{address}\n" for heat, cycles, address in rows))
    (tmp_path / IDENTICAL).write_text("".join(f"3,turbo,{heat},5e-07,5e-07,{cycles},{a}\n" for heat, cycles, a in rows))
    seen = ["100,1,2,10.0,1000,500,0,0,41.5", "107,9,2,12.5,1800,500,4096,0,42.0", "114,5,2,11.5,100,900,4096,8192,41.0"]
    head = f"time,cpu,gpu,memory,{COUNTED}"
    (tmp_path / USAGE / "RPi2_600" / "usage_data_RPi2_600_WIFI.csv").write_text("\n".join([f"{head},temp", *seen]) + "\n")
    (tmp_path / USAGE / "RPi2_600" / "usage_data_RPi2_600_WIFI_2.csv").write_text(
        "\n".join([head, *(row.rpartition(",")[0] for row in seen)]) + "\n"
    )
    with zipfile.ZipFile(tmp_path / CALLS, "w") as archive:
        archive.writestr("ADFA-LD/ADFA-LD+Syscall+List.txt", "#define __NR_read 3\n")
        archive.writestr("ADFA-LD/Training_Data_Master/UTD-0001.txt", "6 6 63 ")
        archive.writestr("ADFA-LD/Validation_Data_Master/UVD-0001.txt", "4 3")
        for run in (1, 10):
            archive.writestr(f"ADFA-LD/Attack_Data_Master/Hydra_FTP_{run}/UAD-1.txt", f"{run} 265 168\n")
    monkeypatch.setenv("FLIOT_DATA", str(tmp_path))
    return tmp_path


# --- where records come from --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", ["auto", "iot23", "hardware"])
def test_real_records_are_taken_where_all_are_present(folder: Path, dataset: str) -> None:
    source = locate(dataset)
    assert (source.root, source.name, source.simulated) == (folder, "hardware", False)
    assert "Creech and Hu" in source.banner
    assert locate("sample").simulated


@pytest.mark.parametrize("missing", [CYCLES, IDENTICAL, CALLS])
def test_where_one_is_missing_all_are_simulated_and_say_so(folder: Path, missing: Path) -> None:
    (folder / missing).unlink()
    source = locate("auto", seed=5)
    assert (source.root, source.seed, source.name) == (None, 5, "sample")
    assert "SIMULATED records, made from seed 5" in source.banner
    with pytest.raises(DataMissing, match=rf"lacks {missing}.*FLIOT_DATA"):
        locate("hardware")


@pytest.mark.parametrize(("dataset", "seed"), [("real", 7), ("sample", -1), ("sample", 1.5)])
def test_a_source_that_cannot_be_is_refused(dataset: str, seed: int) -> None:
    with pytest.raises(ValueError, match=r"dataset='real' is unknown|seed="):
        locate(dataset, seed=seed)


# --- boards -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("identical", [False, True])
def test_boards_are_numbered_and_sorted_into_kinds(folder: Path, identical: bool) -> None:
    rows = boards(locate(), identical=identical)
    assert rows["turn"].tolist() == [0, 1, 2] * 4
    first = rows[rows["turn"] == 0].set_index("board")
    # In the order of the addresses, which are not shown: 01, 03, 05, 09.
    assert first["cycles"].tolist() == [1.0e9, 3.0e9, 4_089.0, 4_087.0]
    assert first["kind"].tolist() == ["kind 2", "kind 3", "kind 1", "kind 1"]
    assert rows.groupby("board")["cycles"].diff().dropna().eq(1).all()
    assert rows.groupby("turn")["temperature_c"].first().tolist() == [30, 31, 32]
    assert not rows.astype(str).apply(lambda column: column.str.contains("02:00")).any(axis=None)


def test_a_file_that_is_laid_out_otherwise_is_refused_by_name(folder: Path) -> None:
    for text in ("temperature,cycles,mac\n36.5,4094.7,02:00:00:00:00:01\n", "1,2\n", ""):
        (folder / CYCLES).write_text(text)
        with pytest.raises(ValueError, match=f"{CYCLES.name}: expected rows that end in temperature"):
            boards(locate())


def test_simulated_boards_keep_their_crystal_and_move_with_the_room() -> None:
    rows = boards(locate("sample", seed=3))
    assert rows.groupby("kind")["board"].nunique().to_dict() == {"kind 1": 5, "kind 2": 5, "kind 3": 5}
    assert rows.groupby("board")["turn"].apply(lambda turns: turns.tolist() == list(range(400))).all()
    pd.testing.assert_frame_equal(boards(locate("sample", seed=3)), rows)
    assert not boards(locate("sample", seed=4)).equals(rows)
    same = boards(locate("sample", seed=3), identical=True)
    assert same["kind"].nunique() == 1
    spread = same.groupby("board")["cycles"].median().std() / same["cycles"].median()
    assert 1e-6 < spread < 1e-4  # crystals differ by some 8 parts in a million


# --- boards in use ------------------------------------------------------------------------------------------------------


def test_a_run_is_telemetry(folder: Path) -> None:
    found = usage(locate())
    assert list(found) == [("RPi2_600", "RPi2_600_WIFI"), ("RPi2_600", "RPi2_600_WIFI_2")]
    warm, bare = found.values()
    assert warm["ts"].tolist() == [pd.Timestamp(107, unit="s", tz="UTC"), pd.Timestamp(114, unit="s", tz="UTC")]
    assert warm["cpu_percent"].tolist() == [9, 5]
    assert warm["memory_used_mb"].tolist() == pytest.approx([0.125 * 2_048, 0.115 * 2_048])
    assert warm["memory_total_mb"].tolist() == [2_048, 2_048]
    assert warm["sent_bytes"].tolist() == [800, 0]  # the counter began anew
    assert warm["received_bytes"].tolist() == [0, 400]
    assert warm["read_bytes"].tolist() == [4_096, 0]
    assert warm["written_bytes"].tolist() == [0, 8_192]
    assert warm["temperature_c"].tolist() == [42, 41]
    assert warm[["processes", "clock_ppm"]].isna().all(axis=None)
    pd.testing.assert_frame_equal(bare.drop(columns="temperature_c"), warm.drop(columns="temperature_c"))
    assert bare["temperature_c"].isna().all()


def test_runs_that_are_missing_or_lack_a_column_are_refused(folder: Path) -> None:
    paths = sorted((folder / USAGE).rglob("*.csv"))
    paths[0].write_text("time,cpu\n1,2\n")
    with pytest.raises(ValueError, match=f"{paths[0].name}: expected the columns memory, net_sent"):
        usage(locate())
    for path in paths:
        path.unlink()
    with pytest.raises(DataMissing, match="holds no RPi"):
        usage(locate())


def test_simulated_runs_have_the_columns_of_real_ones(folder: Path) -> None:
    real = next(iter(usage(locate()).values()))
    simulated = usage(locate("sample", seed=2))
    assert len({device for device, _ in simulated}) == 3
    assert all(list(frame) == list(real) for frame in simulated.values())


# --- system calls -------------------------------------------------------------------------------------------------------


def test_an_archive_is_read_by_part_kind_and_run(folder: Path) -> None:
    found = traces(locate())
    assert found[["part", "kind", "run", "name"]].to_numpy().tolist() == [
        ["attack", "Hydra_FTP", "Hydra_FTP_1", "UAD-1"],
        ["attack", "Hydra_FTP", "Hydra_FTP_10", "UAD-1"],
        ["training", "normal", "UTD-0001", "UTD-0001"],
        ["validation", "normal", "UVD-0001", "UVD-0001"],
    ]
    assert [calls.tolist() for calls in found["calls"]] == [[1, 265, 168], [10, 265, 168], [6, 6, 63], [4, 3]]


def test_a_broken_archive_is_refused_by_name(folder: Path) -> None:
    with zipfile.ZipFile(folder / CALLS, "w") as archive:
        archive.writestr("ADFA-LD/Training_Data_Master/UTD-0001.txt", "6 read")
    with pytest.raises(ValueError, match=r"ADFA-LD\.zip, ADFA-LD/Training_Data_Master/UTD-0001\.txt: expected numbers"):
        traces(locate())
    (folder / CALLS).write_bytes(b"PK\3\4 and no more")
    with pytest.raises(ValueError, match=r"ADFA-LD\.zip: this is no archive"):
        traces(locate())


def test_simulated_traces_have_the_parts_and_kinds_of_real_ones() -> None:
    found = traces(locate("sample", seed=2))
    assert set(found["part"]) == {"training", "validation", "attack"}
    assert set(found.loc[found["part"] == "attack", "kind"]) == set(programs.ATTACKS)
    assert set(found.loc[found["part"] != "attack", "kind"]) == {"normal"}
    assert found.loc[found["part"] == "attack"].groupby("kind")["run"].nunique().eq(10).all()
    np.testing.assert_array_equal(found["calls"].iloc[3], hosts.system_calls(2, run=3))


# --- one simulated device -----------------------------------------------------------------------------------------------


def test_a_simulated_device_is_observed_by_every_channel() -> None:
    found = observations(7, "WumbrelSpeaker", 3)
    assert list(found) == ["packets", "flows", "hosts", "calls"]
    assert found["packets"] == found["flows"]
    assert found["packets"].parent == setups.locate("sample", seed=7).root / "WumbrelSpeaker"
    assert len(found["hosts"]) == hardware.HOURS * 360
    assert found["hosts"].attrs["source"] == "WumbrelSpeaker, run 3"
    np.testing.assert_array_equal(found["calls"], hosts.system_calls(7, device="WumbrelSpeaker", run=3))
    other = observations(7, "WumbrelSpeaker", 4)
    assert other["packets"] != found["packets"]
    assert not other["hosts"].equals(found["hosts"])


@pytest.mark.parametrize(("device", "run", "says"), [("Nobody", 0, "no simulated device"), ("ZindleKettle", 99, "has 20 sim")])
def test_a_run_that_no_device_has_is_refused(device: str, run: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        observations(7, device, run)
    with pytest.raises(ValueError, match="run=-1"):
        observations(7, next(iter(BY_NAME)), -1)


# --- the real ones ------------------------------------------------------------------------------------------------------


@pytest.fixture
def real(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> hardware.Source:
    if not (real_data / CALLS).is_file():
        pytest.skip("no real records of hardware on this machine")
    monkeypatch.setenv("FLIOT_DATA", str(real_data))
    return locate("hardware")


@pytest.mark.real
def test_the_real_boards_are_37_of_three_kinds_and_5_of_one(real: hardware.Source) -> None:
    rows, same = boards(real), boards(real, identical=True)
    assert rows.groupby("board").size().tolist() == [400] * 37
    medians = rows.groupby("kind")["cycles"].median()
    assert medians.tolist() == pytest.approx([4.09e3, 1.08e9, 3.0e9], rel=0.01)
    assert same.groupby("board").size().tolist() == [1_600] * 5
    assert rows["temperature_c"].between(20, 90).all()


@pytest.mark.real
def test_the_real_runs_are_48_of_three_boards(real: hardware.Source) -> None:
    found = usage(real)
    assert len(found) == 48
    assert {device for device, _ in found} == {"RPi2_600", "RPi4_1000", "RPi8_1500"}
    assert sum(map(len, found.values())) == 19_372 - 48  # but for the first of each run
    assert sum(frame["temperature_c"].isna().all() for frame in found.values()) == 18


@pytest.mark.real
def test_the_real_traces_are_5951(real: hardware.Source) -> None:
    found = traces(real)
    assert found["part"].value_counts().to_dict() == {"validation": 4_372, "training": 833, "attack": 746}
    assert set(found.loc[found["part"] == "attack", "kind"]) == set(programs.ATTACKS)
    assert found["calls"].map(len).min() > 0
