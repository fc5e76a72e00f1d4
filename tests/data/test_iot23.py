"""fliot_lab.data.iot23: locating, loading and fetching captures, on tiny ones that the tests write and on the real ones."""

import gzip
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from log_server import LogServer, conn_log, serving

from fliot_lab.data import download, iot23, sample, zeek
from fliot_lab.data.catalogue import Entry, entries
from fliot_lab.data.sample import folders

LABELS_34 = {"Benign": 3, "C&C": 2}
LABELS_8 = {"DDoS": 2, "Benign": 1}
LABELS_44 = {"Benign": 211, "C&C": 14, "C&C-FileDownload": 11, "DDoS": 1}
HOST, HONEYPOT_4, HONEYPOT_7, MALWARE_8, MALWARE_34, MALWARE_44 = (
    "127.0.0.1",
    "CTU-Honeypot-Capture-4-1",
    "CTU-Honeypot-Capture-7-1",
    "CTU-IoT-Malware-Capture-8-1",
    "CTU-IoT-Malware-Capture-34-1",
    "CTU-IoT-Malware-Capture-44-1",
)


def put(root: Path, capture: str, labels: dict[str, int], *, folder: str = "bro", proto: str = "tcp") -> Path:
    path = root / capture / folder / "conn.log.labeled"
    path.parent.mkdir(parents=True)
    path.write_bytes(conn_log(labels, proto=proto))
    return path


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty checkout, without FLIOT_DATA."""
    monkeypatch.setattr(iot23, "ROOT", tmp_path / "checkout")
    monkeypatch.delenv("FLIOT_DATA", raising=False)
    return tmp_path / "checkout"


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A folder with three captures in both layouts, one of them compressed, and things that are none."""
    root = tmp_path / "iot23"
    put(root, HONEYPOT_7, {"Benign": 4}, folder="Somfy-01/bro", proto="udp")
    put(root, MALWARE_8, LABELS_8, proto="icmp")
    plain = put(root, MALWARE_34, LABELS_34)
    plain.with_name("conn.log.labeled.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    put(root, ".hidden", {"Benign": 1})
    (root / MALWARE_44 / "bro").mkdir(parents=True)
    (root / MALWARE_44 / "bro" / "conn.log.labeled.part").write_bytes(b"half")
    (root / "README.md").write_text("not a capture")
    return root


# --- captures ----------------------------------------------------------------------------------------------------------


def test_captures_are_found_in_both_layouts_and_compressed(three: Path) -> None:
    found = iot23.captures(three)
    assert list(found) == sorted([HONEYPOT_7, MALWARE_8, MALWARE_34])
    assert found[HONEYPOT_7] == three / HONEYPOT_7 / "Somfy-01" / "bro" / "conn.log.labeled"
    assert found[MALWARE_34].name == "conn.log.labeled.gz"


def test_a_plain_log_goes_before_its_compressed_copy(three: Path) -> None:
    plain = three / MALWARE_34 / "bro" / "conn.log.labeled"
    plain.write_bytes(conn_log(LABELS_34))
    assert iot23.captures(str(three))[MALWARE_34] == plain


def test_a_missing_folder_holds_no_captures(tmp_path: Path) -> None:
    assert iot23.captures(tmp_path / "nowhere") == {}


def test_two_devices_in_one_capture_are_not_chosen_between(three: Path) -> None:
    put(three, HONEYPOT_7, {"Benign": 1}, folder="Somfy-02/bro")
    with pytest.raises(ValueError, match=r"holds 2 logs, .*Somfy-01.* and .*Somfy-02"):
        iot23.captures(three)


# --- locate ------------------------------------------------------------------------------------------------------------


def test_auto_takes_the_real_captures_of_fliot_data(three: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(checkout / "data" / "raw", MALWARE_8, LABELS_8)
    monkeypatch.setenv("FLIOT_DATA", str(three.parent))
    for dataset in ("auto", "iot23"):
        source = iot23.locate(dataset)
        assert (source.root, source.name, source.simulated) == (three, "iot23", False)
        assert source.banner.startswith(f"Real data: 3 of 23 IoT-23 captures in {three}, Stratosphere Laboratory, Garcia")
        assert "doi 10.5281/zenodo.4743746" in source.banner


def test_auto_takes_what_was_fetched_to_the_checkout(checkout: Path) -> None:
    put(checkout / "data" / "raw", MALWARE_8, LABELS_8)
    assert iot23.locate().root == checkout / "data" / "raw"
    assert iot23.locate().simulated is False


def test_auto_without_captures_simulates_and_says_so(checkout: Path) -> None:
    source = iot23.locate(seed=3)
    assert (source.root, source.name, source.simulated) == (checkout / "data" / "sample" / "seed-3", "sample", True)
    assert source.banner.startswith("SIMULATED data, made from seed 3 by fliot_lab.data.sample: values here say nothing")
    assert sorted(iot23.captures(source.root)) == sorted(capture.name for capture in sample.CAPTURES)


def test_sample_is_simulated_even_beside_real_captures(
    three: Path, checkout: Path, small_generator: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLIOT_DATA", str(three.parent))
    assert iot23.locate("sample").simulated is True


@pytest.mark.parametrize("made", ["nothing", "an empty iot23 folder", "a half-fetched log"])
def test_fliot_data_without_captures_is_never_silent(
    tmp_path: Path, checkout: Path, small_generator: list[int], monkeypatch: pytest.MonkeyPatch, made: str
) -> None:
    mine = tmp_path / "mine"
    if made != "nothing":
        (mine / "iot23" / MALWARE_8 / "bro").mkdir(parents=True)
    if made == "a half-fetched log":
        (mine / "iot23" / MALWARE_8 / "bro" / "conn.log.labeled.part").write_bytes(b"half")
    monkeypatch.setenv("FLIOT_DATA", str(mine))
    put(checkout / "data" / "raw", MALWARE_8, LABELS_8)
    with pytest.raises(iot23.DataMissing, match=r"FLIOT_DATA=.*mine, but .*iot23 (does not exist|holds no)"):
        iot23.locate("iot23")
    with pytest.warns(UserWarning, match=r"FLIOT_DATA=.*mine, but .* Going on without it"):
        assert iot23.locate("auto").root == checkout / "data" / "raw"


def test_iot23_without_captures_says_what_to_do(checkout: Path) -> None:
    with pytest.raises(iot23.DataMissing, match=r"`make data` fetches the small ones .* set FLIOT_DATA"):
        iot23.locate("iot23")
    assert not checkout.exists()


def test_simulated_captures_never_pass_for_real_ones(
    tmp_path: Path, checkout: Path, small_generator: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(iot23.locate("sample").root, tmp_path / "mine" / "iot23")
    monkeypatch.setenv("FLIOT_DATA", str(tmp_path / "mine"))
    with pytest.raises(iot23.DataMissing, match="holds no IoT-23 capture"):
        iot23.locate("iot23")
    with pytest.warns(UserWarning, match="holds no IoT-23 capture"):
        assert iot23.locate("auto").simulated is True


def test_an_unknown_dataset_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match="dataset='iot-23' is unknown; choose one of auto, iot23, sample"):
        iot23.locate("iot-23")


def test_a_root_must_hold_what_is_asked_for(three: Path, tmp_path: Path, checkout: Path, small_generator: list[int]) -> None:
    simulated = iot23.locate("sample", seed=5).root
    assert iot23.locate(root=three).name == "iot23"
    assert iot23.locate("sample", root=simulated).banner.startswith("SIMULATED data, made from seed 5 ")
    for dataset, root, message in [
        ("iot23", simulated, "holds other captures .SIMULATED"),
        ("sample", three, "holds other captures .Real"),
        ("auto", tmp_path / "nowhere", "nowhere does not exist"),
        ("auto", three / MALWARE_8, "holds neither IoT-23 captures nor simulated ones"),
    ]:
        with pytest.raises(iot23.DataMissing, match=message):
            iot23.locate(dataset, root=root)


# --- the simulated sample ----------------------------------------------------------------------------------------------


@pytest.fixture
def small_generator(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Makes samples of two tiny captures instead of the true ones; the list holds the seed of each that was made."""
    seeds: list[int] = []

    def generate(out: Path, seed: int) -> list[Path]:
        seeds.append(seed)
        paths = [put(out, "SIM-Honeypot-Capture-1-1", {"Benign": 4}), put(out, "SIM-Malware-Capture-4-1", LABELS_34)]
        (out / sample.README).write_text(sample._about(seed, 9, sample.CAPTURES))
        return paths

    monkeypatch.setattr(iot23, "sample", SimpleNamespace(**{**vars(sample), "generate": generate}))
    return seeds


def test_a_sample_is_made_once_for_each_seed(checkout: Path, small_generator: list[int]) -> None:
    for seed in (7, 7, 8, 7):
        iot23.locate("sample", seed=seed)
    assert small_generator == [7, 8]
    assert sorted(path.name for path in (checkout / "data" / "sample").iterdir()) == ["seed-7", "seed-8"]


def test_a_sample_of_another_generator_is_made_again(
    checkout: Path, small_generator: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = iot23.locate("sample").root
    (root / "trace of the old one").write_text("")
    monkeypatch.setattr(folders, "generator_version", lambda: "another")
    assert iot23.locate("sample").root == root
    assert small_generator == [7, 7]
    assert not (root / "trace of the old one").exists()
    assert [path.name for path in root.parent.iterdir()] == ["seed-7"]


def test_a_process_that_died_leaves_nothing_in_use(
    checkout: Path, small_generator: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    half = checkout / "data" / "sample" / ".seed-7-dead"
    put(half, "SIM-Malware-Capture-1-1", {"Benign": 1})
    put(checkout / "data" / "sample" / "seed-7", "SIM-Malware-Capture-1-1", {"Benign": 1})  # made in place, and never finished

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(iot23.sample, "generate", killed)
        with pytest.raises(KeyboardInterrupt):
            iot23.locate("sample")
    assert len(iot23.captures(iot23.locate("sample").root)) == 2


def test_processes_that_make_the_same_sample_at_once_agree(checkout: Path, small_generator: list[int]) -> None:
    together = threading.Barrier(3, timeout=30)
    plain, found = iot23.sample.generate, []

    def generate(out: Path, seed: int) -> list[Path]:
        together.wait()
        return plain(out, seed)

    iot23.sample.generate = generate
    workers = [threading.Thread(target=lambda: found.append(iot23.locate("sample"))) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 3
    assert set(found) == {found[0]}
    assert [path.name for path in (checkout / "data" / "sample").iterdir()] == ["seed-7"]


@pytest.mark.parametrize("seed", [-1, "../elsewhere", 7.5])
def test_a_seed_that_is_none_makes_nothing(checkout: Path, seed: Any) -> None:
    with pytest.raises(ValueError, match="expected a whole number"):
        iot23.locate("sample", seed=seed)
    assert not checkout.exists()


def test_an_unfinished_sample_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "captures"
    put(root, "SIM-Malware-Capture-1-1", {"Benign": 1})
    (root / sample.README).write_text(f"{sample.MARK}\n\nUnfinished: run it again.\n")
    with pytest.raises(iot23.DataMissing, match="unfinished"):
        iot23.locate(root=root)


# --- load --------------------------------------------------------------------------------------------------------------


def test_load_keeps_every_flow_in_natural_order(three: Path) -> None:
    flows = iot23.load(root=three)
    assert list(flows.index) == list(range(12))
    assert list(flows["capture"]) == [HONEYPOT_7] * 4 + [MALWARE_8] * 3 + [MALWARE_34] * 5
    assert list(flows["capture"].cat.categories) == [HONEYPOT_7, MALWARE_8, MALWARE_34]
    assert list(flows["label"]) == ["Benign"] * 4 + ["DDoS", "DDoS", "Benign"] + ["Benign"] * 3 + ["C&C"] * 2
    pd.testing.assert_frame_equal(flows, iot23.load(root=str(three)))


def test_load_gives_what_the_reader_gives(three: Path) -> None:
    flows = iot23.load(root=three)
    for name, path in iot23.captures(three).items():
        alone = zeek.read_conn_log(path)
        part = flows[flows["capture"] == name].drop(columns="capture").reset_index(drop=True)
        pd.testing.assert_frame_equal(part, alone, check_categorical=False)


def test_categories_are_united_over_captures(three: Path) -> None:
    flows = iot23.load(root=three)
    assert list(flows["proto"].cat.categories) == ["icmp", "tcp", "udp"]
    assert list(flows["label"].cat.categories) == ["Benign", "C&C", "DDoS"]
    alone = iot23.load(MALWARE_34, root=three)
    assert {column: str(kind) for column, kind in alone.dtypes.items()} == {
        column: str(kind) for column, kind in flows.dtypes.items()
    }
    assert not flows["label"].cat.ordered
    assert not alone["label"].cat.ordered


@pytest.mark.parametrize("names", [["34-1", "8-1"], ("8-1", MALWARE_34, "34-1"), iter(["Malware-34-1", "8-1"])])
def test_names_may_be_short_and_in_any_order(three: Path, names: Any) -> None:
    assert list(iot23.load(names, root=three)["capture"].unique()) == [MALWARE_8, MALWARE_34]


def test_one_name_may_stand_alone(three: Path) -> None:
    assert len(iot23.load("7-1", root=three)) == 4


def test_small_leaves_the_large_captures_out(three: Path, tmp_path: Path) -> None:
    put(three, "CTU-IoT-Malware-Capture-1-1", {"Benign": 2})  # a million flows in truth
    assert set(iot23.load("small", root=three)["capture"]) == {HONEYPOT_7, MALWARE_8, MALWARE_34}
    put(tmp_path / "large", "CTU-IoT-Malware-Capture-1-1", {"Benign": 2})
    with pytest.raises(iot23.DataMissing, match="none of the small captures"):
        iot23.load("small", root=tmp_path / "large")


def test_an_unknown_capture_is_refused_with_those_present(three: Path) -> None:
    with pytest.raises(ValueError, match=f"'44-1' is not there; .*iot23 has {HONEYPOT_7}, {MALWARE_8}, {MALWARE_34}$"):
        iot23.load(["8-1", "44-1"], root=three)
    with pytest.raises(ValueError, match="no capture is named"):
        iot23.load([], root=three)


def test_a_folder_without_captures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(iot23.DataMissing, match="there are no captures in"):
        iot23.load(root=tmp_path)


def test_a_damaged_capture_is_an_error(three: Path) -> None:
    with (three / MALWARE_8 / "bro" / "conn.log.labeled").open("ab") as log:
        log.write(b"1545403816.5\tC1\n")
    with pytest.raises(zeek.ConnLogError, match=MALWARE_8):
        iot23.load(root=three)


def test_load_simulates_where_nothing_is_there(checkout: Path, small_generator: list[int]) -> None:
    flows = iot23.load("Malware-4-1", seed=9)
    assert small_generator == [9]
    assert list(flows["capture"].unique()) == ["SIM-Malware-Capture-4-1"]
    assert len(iot23.load(dataset="sample", seed=9)) == 9


def test_load_holds_a_root_against_the_dataset(three: Path) -> None:
    with pytest.raises(iot23.DataMissing, match="dataset='sample' was asked for"):
        iot23.load(root=three, dataset="sample")


# --- fetch -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LogServer]:
    monkeypatch.setenv("no_proxy", HOST)
    with serving() as running:
        running.files = {f"/{entry.capture}/{entry.path}": honest(entry) for entry in entries([MALWARE_44, HONEYPOT_7, "4-1"])}
        yield running


def honest(entry: Entry) -> bytes:
    """A log that agrees with the catalogue."""
    return conn_log(entry.labels)


class Fetch:
    """`iot23.fetch` into a folder from the local server; `said` is what a person was told."""

    def __init__(self, server: LogServer, root: Path) -> None:
        self.server, self.root, self.said = server, root, ""

    def __call__(self, *names: Any, **options: Any) -> list[Path]:
        def say(text: str) -> None:
            self.said += text + "\n"

        quiet = {"root": self.root, "base": self.server.base, "say": say, "progress": False, "sleep": lambda _: None}
        return iot23.fetch(*names, **{"consent": True, **quiet, **options})

    def files(self) -> list[str]:
        return sorted(path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())


@pytest.fixture
def fetch(server: LogServer, tmp_path: Path) -> Fetch:
    return Fetch(server, tmp_path / "raw")


def test_what_was_fetched_can_be_loaded(fetch: Fetch) -> None:
    paths = fetch(["44-1", HONEYPOT_7])
    assert paths == [
        fetch.root / HONEYPOT_7 / "Somfy-01" / "bro" / "conn.log.labeled",
        fetch.root / MALWARE_44 / "bro" / "conn.log.labeled",
    ]
    assert fetch.files() == [path.relative_to(fetch.root).as_posix() for path in paths]
    flows = iot23.load(root=fetch.root)
    assert dict(Counter(flows.loc[flows["capture"] == MALWARE_44, "label"])) == LABELS_44
    assert iot23.locate("iot23", root=fetch.root).banner.startswith("Real data: 2 of 23")


def test_terms_and_citation_come_first_and_nothing_without_consent(
    fetch: Fetch, server: LogServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = []
    answers = ["", "n", "no", "maybe", "Y"]

    def ask(question: str) -> str:
        heard.append((question, fetch.said))
        return answers.pop(0)

    for _ in answers[:-1]:
        with pytest.raises(iot23.ConsentMissing, match="nothing was downloaded"):
            fetch("44-1", consent=False, ask=ask)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False))
    with pytest.raises(iot23.ConsentMissing, match=r"no terminal .* --yes"):
        fetch("44-1", consent=False)
    assert server.requests == []
    assert not fetch.root.exists()
    question, told = heard[0]
    assert "[y/N]" in question
    for part in ("Stratosphere Laboratory (CTU Prague)", "Garcia, Parmisano, Erquiaga 2020", "10.5281/zenodo.4743746"):
        assert part in told
    assert "https://mcfp.felk.cvut.cz/publicDatasets/IoT-23-Dataset/IndividualScenarios/\n" in told
    assert len(fetch("44-1", consent=False, ask=ask)) == 1


def test_a_terminal_is_asked(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("builtins.input", lambda _: " yes ")
    assert len(fetch("44-1", consent=False)) == 1


def test_what_is_there_is_not_fetched_again_nor_asked_about(fetch: Fetch, server: LogServer) -> None:
    fetch("44-1")
    server.requests.clear()
    assert fetch("44-1", consent=False) == [fetch.root / MALWARE_44 / "bro" / "conn.log.labeled"]
    assert server.requests == []
    assert "1 are there" in fetch.said


def test_a_compressed_log_that_is_there_counts(fetch: Fetch, server: LogServer) -> None:
    path = fetch("44-1")[0]
    path.with_name("conn.log.labeled.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    server.requests.clear()
    assert fetch("44-1")[0].name == "conn.log.labeled.gz"
    assert server.requests == []


@pytest.mark.parametrize("damage", ["cut", "relabelled", "nonsense"])
def test_a_log_that_is_not_the_capture_is_named_and_replaced(fetch: Fetch, server: LogServer, damage: str) -> None:
    good = server.files[f"/{MALWARE_44}/bro/conn.log.labeled"]
    bad = {"cut": good[:5000], "relabelled": good.replace(b"DDoS", b"Okiru"), "nonsense": b"x"}[damage]
    path = fetch.root / MALWARE_44 / "bro" / "conn.log.labeled"
    path.parent.mkdir(parents=True)
    path.write_bytes(bad)
    fetch("44-1")
    assert path.read_bytes() == good
    assert f"to be replaced: {MALWARE_44}" in fetch.said


@pytest.mark.parametrize(
    ("served", "message"),
    [
        (b"<html><body>Not here any more</body></html>", "not a labelled conn log"),
        (b"", "not a labelled conn log"),
        (conn_log(LABELS_44)[:20_000] + b"\n", "not a labelled conn log: .*fields"),
        (conn_log({**LABELS_44, "Benign": 210}), "236 rows where 237 were expected"),
        (conn_log({**LABELS_44, "Benign": 210, "C&C": 15}), "210 rows labelled Benign where the whole capture has 211"),
        (conn_log(LABELS_44).replace(b"   label   detailed-label", b""), "not a labelled conn log"),
    ],
)
def test_a_log_that_contradicts_the_catalogue_never_takes_its_place(
    fetch: Fetch, server: LogServer, served: bytes, message: str
) -> None:
    server.files[f"/{MALWARE_44}/bro/conn.log.labeled"] = served
    with pytest.raises(download.DownloadError, match=f"{MALWARE_44}: .*{message}"):
        fetch("44-1")
    assert fetch.files() == []


def test_one_capture_that_fails_does_not_keep_the_others_away(fetch: Fetch, server: LogServer) -> None:
    server.files[f"/{HONEYPOT_4}/bro/conn.log.labeled"] = b"garbage"
    with pytest.raises(download.DownloadError, match=HONEYPOT_4):
        fetch(["44-1", "4-1", HONEYPOT_7])
    assert fetch.files() == [f"{HONEYPOT_7}/Somfy-01/bro/conn.log.labeled", f"{MALWARE_44}/bro/conn.log.labeled"]


def test_an_interrupted_fetch_goes_on_where_it_stopped(fetch: Fetch, server: LogServer) -> None:
    server.plan = [("cut", 9000), *["hang up"] * 5]
    with pytest.raises(download.DownloadError):
        fetch("44-1")
    assert iot23.captures(fetch.root) == {}
    fetch("44-1")
    assert sum(server.sent) == len(server.files[f"/{MALWARE_44}/bro/conn.log.labeled"])


def test_the_first_rows_of_a_large_capture(fetch: Fetch, server: LogServer) -> None:
    name = "CTU-IoT-Malware-Capture-43-1"
    server.files[f"/{name}/bro/conn.log.labeled"] = conn_log({"Okiru": 3000})
    assert len(iot23.load(root=fetch(name, 1000)[0].parents[2])) == 1000
    assert sum(server.sent) < 1000 * 200
    server.requests.clear()
    fetch(name, 1000)
    assert server.requests == []


def test_the_first_rows_of_a_small_capture_are_all_of_it_and_then_kept(fetch: Fetch, server: LogServer) -> None:
    path = fetch("44-1", iot23.STUDY_ROWS)[0]
    whole = path.read_bytes()
    assert whole == server.files[f"/{MALWARE_44}/bro/conn.log.labeled"]
    server.requests.clear()
    fetch("44-1")
    fetch("44-1", 100)
    assert path.read_bytes() == whole
    assert server.requests == []


def test_all_of_a_capture_replaces_its_first_rows(fetch: Fetch, server: LogServer) -> None:
    path = fetch("44-1", 100)[0]
    assert len(zeek.read_conn_log(path)) == 100
    fetch("44-1")
    assert path.read_bytes() == server.files[f"/{MALWARE_44}/bro/conn.log.labeled"]


def test_offline_says_so_and_what_works(fetch: Fetch) -> None:
    fetch.server.plan = ["hang up"] * 9
    with pytest.raises(download.Unreachable, match=f"{HOST}:.* could not be reached .*Everything but this works offline"):
        fetch(["44-1", "4-1"], tries=3)
    assert len(fetch.server.requests) == 3  # the second capture is not tried for
    assert fetch.files() == []


def test_the_default_is_the_small_captures_into_the_checkout(
    checkout: Path, server: LogServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, Path]] = []
    monkeypatch.setattr(download, "fetch_file", lambda url, target, **_: asked.append((url, target)))
    said: list[str] = []
    for names, count in ((None, 9), ("all", 23)):
        asked.clear()
        iot23.fetch(names, consent=True, say=said.append)
        assert len(asked) == count
        for (url, target), entry in zip(asked, entries(names), strict=True):
            assert url == entry.url + entry.path
            assert target == checkout / "data" / "raw" / entry.capture / entry.path
    assert "9 captures, about 6 MB" in said[0]
    assert "FLIOT_DATA" not in said[0]
    monkeypatch.setenv("FLIOT_DATA", str(checkout))
    iot23.fetch(consent=True, say=said.append)
    assert "FLIOT_DATA is set: the captures that it names are used before these" in said[-1]


def test_an_unknown_capture_is_refused_before_anything_is_asked(fetch: Fetch) -> None:
    with pytest.raises(ValueError, match="'7-1' may be CTU-Honeypot-Capture-7-1 or CTU-IoT-Malware-Capture-7-1"):
        fetch("7-1", consent=False)
    with pytest.raises(ValueError, match="rows is 0"):
        fetch("44-1", 0)


# --- real captures -----------------------------------------------------------------------------------------------------


SEVEN = (HONEYPOT_4, "CTU-Honeypot-Capture-5-1", HONEYPOT_7, MALWARE_8, "CTU-IoT-Malware-Capture-20-1", MALWARE_34, MALWARE_44)


@pytest.fixture
def seven(real_root: Path) -> dict[str, Path]:
    """Seven of the small captures, where all of them are there."""
    logs = iot23.captures(real_root)
    if missing := [name for name in SEVEN if name not in logs]:
        pytest.skip(f"{real_root} lacks {', '.join(missing)}")
    return {name: logs[name] for name in SEVEN}


@pytest.mark.real
def test_the_real_captures_have_the_rows_and_labels_of_the_catalogue(real_root: Path) -> None:
    small = [entry for entry in entries() if entry.capture in iot23.captures(real_root)]
    flows = iot23.load([entry.capture for entry in small], root=real_root)
    assert np.array_equal(flows.index, np.arange(len(flows)))
    for entry in small:
        assert Counter(flows.loc[flows["capture"] == entry.capture, "label"]) == entry.labels


@pytest.mark.real
def test_seven_real_captures_have_38_950_flows(seven: dict[str, Path], real_root: Path) -> None:
    flows = iot23.load(seven, root=real_root)
    attacks = {"DDoS": 14_395, "C&C": 14_942, "PartOfAHorizontalPortScan": 122, "C&C-Torii": 16, "C&C-FileDownload": 11}
    assert Counter(flows["label"]) == {**attacks, "Benign": 38_950 - sum(attacks.values())}
    assert len(flows) == 38_950


@pytest.mark.real
def test_real_captures_come_over_a_bad_connection_as_the_same_bytes(seven: dict[str, Path], fetch: Fetch) -> None:
    wanted = entries(name for name, path in seven.items() if path.suffix != ".gz")
    fetch.server.files = {f"/{entry.capture}/{entry.path}": seven[entry.capture].read_bytes() for entry in wanted}
    fetch.server.plan = [("cut", 30_000), 503]
    for entry, path in zip(wanted, fetch([entry.capture for entry in wanted]), strict=True):
        assert path.read_bytes() == seven[entry.capture].read_bytes()
