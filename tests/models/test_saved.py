"""Saved models answer as the models that were saved, and a folder that is not as it was written is refused."""

import dataclasses
import json
import pickletools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from fliot_lab.data import iot23
from fliot_lab.features.flows import flow_features
from fliot_lab.models import saved
from fliot_lab.models.autoencoder import Autoencoder, LinearAutoencoder
from fliot_lab.models.baselines import ForestDetector, Majority
from fliot_lab.models.cascade import UNKNOWN_ATTACK, Cascade
from fliot_lab.models.cnn import CNN1D
from fliot_lab.models.hybrid import Hybrid, KnownAttacks
from fliot_lab.models.saved import ModelError, ServedCascade, ServedClassifier, ServedDetector, card, serving
from fliot_lab.models.trees import boosting, forest

D = 6
FEATURES = ["duration", "sent", "received", "state", "jitter", "packets"]
TOLD: dict[str, Any] = {"training": {"logs": ["a"]}, "evaluation": {"auc": None}, "limits": ["simulated"]}


def flows(n: int, seed: int) -> np.ndarray:
    """Rows (n, D) such as flows give: bytes over nine orders, a flag, and times of which the last microseconds differ."""
    generator = np.random.default_rng(seed)
    X = generator.lognormal(0, 4, (n, D))
    X[:, 3] = generator.integers(0, 2, n)
    X[:, 4] = 1e-6 * generator.integers(0, 5, n)
    X[:, 5] = X[:, 1] * 2
    return X.astype(np.float32)


TRAIN = flows(600, 0)
Y = np.select([TRAIN[:, 0] > 20, TRAIN[:, 1] > 20, TRAIN[:, 2] > 20], ["C&C", "DDoS", "Okiru"], "Benign").astype(object)
EXTREMES = np.array([[0] * D, [1e9] * D, [-1e9] * D, [3e38] * D, [1e-7] * D, [-1e-30] * D], dtype=np.float32)
JUDGED = np.concatenate([TRAIN, flows(400, 1), EXTREMES])
DETECTORS = {
    "autoencoder": lambda: Autoencoder(seed=7, epochs=3).fit(TRAIN),
    "ensemble": lambda: Autoencoder(seed=7, epochs=2, whiten=True, members=3).fit(TRAIN),
    "linear": lambda: LinearAutoencoder(bottleneck=2).fit(TRAIN),
    "isolation forest": lambda: ForestDetector(seed=7, trees=5).fit(TRAIN),
}
CLASSIFIERS = {
    "forest": lambda: forest(seed=7, trees=20).fit(TRAIN, Y),
    "boosting": lambda: boosting(seed=7, trees=10).fit(TRAIN, Y),
    "boosting of two classes": lambda: boosting(seed=7, trees=10).fit(TRAIN, np.where(Y == "Benign", Y, "attack")),
    "cnn": lambda: CNN1D(seed=7, channels=(4, 6), epochs=2).fit(TRAIN, Y),
}


def cascade(y: np.ndarray = Y) -> Cascade:
    parts = Autoencoder(seed=7, epochs=3, false_alarm_rate=0.2), forest(seed=7, trees=20)
    return Cascade(*parts, rejected=0.2, detector_columns=[0, 1, 2, 4], classifier_columns=[2, 0, 1, 5]).fit(TRAIN, y)


NETWORKS = np.arange(len(TRAIN)) % 3


def hybrid(attack: np.ndarray = Y != "Benign", **options: Any) -> Hybrid:
    """A hybrid of two autoencoders and two lines, which see other features in another order each."""
    small = Autoencoder(seed=7, epochs=2, **options)
    parts = [(small, [4, 1, 0]), (KnownAttacks(), None), (small, None), (KnownAttacks(), [5, 2])]
    return Hybrid(parts, seed=7, false_alarm_rate=0.1).fit(TRAIN, attack, NETWORKS)


def put(model: Any, folder: Path) -> Path:
    return saved.save(model, folder, features=FEATURES, card=TOLD)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a saved autoencoder and a saved cascade, to be read and copied."""
    folder = tmp_path_factory.mktemp("saved")
    put(DETECTORS["autoencoder"](), folder / "autoencoder")
    put(cascade(), folder / "cascade")
    put(hybrid(), folder / "hybrid")
    return folder


def copied(folder: Path, to: Path) -> Path:
    for name, content in contents(folder).items():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        (to / name).write_bytes(content)
    return to


# ---------------------------------------------------------------------------------------------- answers as of the model


@pytest.mark.parametrize("kind", DETECTORS)
def test_a_served_detector_scores_and_flags_as_the_one_that_was_saved(kind: str, tmp_path: Path) -> None:
    model = DETECTORS[kind]()
    served = saved.load(put(model, tmp_path / "model"), FEATURES)
    assert isinstance(served, ServedDetector)
    scores = served.score_samples(JUDGED)
    assert scores.shape == (len(JUDGED),)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, model.score_samples(JUDGED), rtol=1e-4, atol=1e-9)
    assert served.threshold == pytest.approx(model.threshold_, rel=1e-4)
    assert served.card["threshold"] == model.threshold_  # to the last digit
    assert np.array_equal(served.predict(JUDGED), model.predict(JUDGED))
    assert 0 < served.predict(JUDGED).sum() < len(JUDGED)
    assert served.features == tuple(FEATURES)


@pytest.mark.parametrize("kind", DETECTORS)
def test_copies_of_the_flow_that_set_the_threshold_are_no_alarms(kind: str, tmp_path: Path) -> None:
    model = DETECTORS[kind]()
    rest = TRAIN[-150:]  # which the model held out
    at = rest[model.score_samples(rest) == model.threshold_]
    assert len(at)
    served = saved.load(put(model, tmp_path / "model"))
    for rows in (np.repeat(at, 50, axis=0), at[:1], np.concatenate([TRAIN[:33], at])):
        assert not served.predict(rows)[-len(at) :].any()


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_a_served_classifier_answers_as_the_one_that_was_saved(kind: str, tmp_path: Path) -> None:
    model = CLASSIFIERS[kind]()
    served = saved.load(put(model, tmp_path / "model"), FEATURES)
    assert isinstance(served, ServedClassifier)
    assert served.classes == tuple(model.classes_)
    np.testing.assert_allclose(served.predict_proba(JUDGED), model.predict_proba(JUDGED), atol=1e-5)
    assert np.array_equal(served.predict(JUDGED), model.predict(JUDGED))


def test_a_served_cascade_answers_as_the_one_that_was_saved_and_so_do_its_parts(whole: Path) -> None:
    model, served = cascade(), saved.load(whole / "cascade", FEATURES)
    assert isinstance(served, ServedCascade)
    np.testing.assert_allclose(served.score_samples(JUDGED), model.score_samples(JUDGED), rtol=1e-4)
    assert np.array_equal(served.flags(JUDGED), model.flags(JUDGED))
    answers = served.predict(JUDGED)
    assert np.array_equal(answers, model.predict(JUDGED))
    assert {"Benign", "C&C", UNKNOWN_ATTACK} <= set(answers)
    assert served.classes == ("C&C", "DDoS", "Okiru")
    assert served.threshold == pytest.approx(model.detector.threshold_, rel=1e-4)
    detector, classifier = (saved.load(whole / "cascade" / name) for name in ("detector", "classifier"))
    assert detector.features == ("duration", "sent", "received", "jitter")
    assert classifier.features == ("received", "duration", "sent", "packets")
    assert isinstance(detector, ServedDetector)
    assert np.array_equal(detector.predict(JUDGED[:, [0, 1, 2, 4]]), served.flags(JUDGED))


def test_a_cascade_that_knows_one_class_has_no_classifier(tmp_path: Path) -> None:
    model = cascade(np.where(Y == "Benign", "Benign", "DDoS").astype(object))
    served = saved.load(put(model, tmp_path / "model"))
    assert isinstance(served, ServedCascade)
    assert not (tmp_path / "model" / "classifier").exists()
    assert served.classes == ("DDoS",)
    assert np.array_equal(served.predict(JUDGED), model.predict(JUDGED))


@pytest.mark.parametrize("options", [{}, {"whiten": True, "members": 2}])
def test_a_served_hybrid_scores_and_flags_as_the_one_that_was_saved(options: dict[str, Any], tmp_path: Path) -> None:
    model = hybrid(**options)
    served = saved.load(put(model, tmp_path / "model"), FEATURES)
    assert isinstance(served, ServedDetector)
    scores, expected = served.score_samples(JUDGED), model.score_samples(JUDGED)
    np.testing.assert_allclose(scores, expected, rtol=1e-6, atol=serving.SLACK)
    assert np.array_equal(served.predict(JUDGED), model.predict(JUDGED))
    assert 0 < served.predict(JUDGED).sum() < len(JUDGED)
    told = served.card["parts"]
    assert [(part["kind"], part["columns"], part["threshold"]) for part in told] == [
        (type(part.model).__name__, part.columns, part.threshold) for part in model.parts_
    ]
    assert told[0]["settings"]["epochs"] == 2
    assert served.card["settings"] == {"seed": 7, "false_alarm_rate": 0.1}
    for part in list(model.parts_):  # what one part says, another may outdo
        model.parts_ = [part]
        alone = saved.load(put(model, tmp_path / "part"))
        assert isinstance(alone, ServedDetector)
        np.testing.assert_allclose(alone.score_samples(JUDGED), model.score_samples(JUDGED), rtol=1e-5, atol=serving.SLACK)


def test_a_hybrid_that_knows_no_attacks_is_served_too(tmp_path: Path) -> None:
    model = hybrid(np.zeros(len(TRAIN), dtype=bool))
    served = saved.load(put(model, tmp_path / "model"), FEATURES)
    assert [part["columns"] for part in served.card["parts"]] == [[4, 1, 0], list(range(D))]
    assert isinstance(served, ServedDetector)
    np.testing.assert_allclose(served.score_samples(JUDGED), model.score_samples(JUDGED), atol=serving.SLACK)


def test_what_a_hybrid_rebuilds_without_error_scores_as_its_floor_says(tmp_path: Path) -> None:
    model = hybrid(np.zeros(len(TRAIN), dtype=bool))
    for part in model.parts_:
        assert isinstance(part.model, Autoencoder)
        part.model.scaler_.centre_ = np.zeros(len(part.columns), dtype=np.float32)
        part.model.networks_[0][-1].requires_grad_(False)
        part.model.networks_[0][-1].weight.zero_()
        part.model.networks_[0][-1].bias.zero_()
    served = saved.load(put(model, tmp_path / "model"))
    assert isinstance(served, ServedDetector)
    floor = np.log(1e-12) - min(part.threshold for part in model.parts_)
    np.testing.assert_allclose([served.score_samples([[0.0] * D])[0], model.score_samples([[0.0] * D])[0]], floor, rtol=1e-6)


def test_copies_of_a_flow_at_a_part_s_threshold_are_no_alarms(tmp_path: Path) -> None:
    model = hybrid()
    lowest = [dataclasses.replace(part, threshold=1e3) for part in model.parts_]
    for place, part in enumerate(model.parts_):
        for row in (3, 40, 500, len(JUDGED) - 5):
            at = float(dataclasses.replace(part, threshold=0.0).score(JUDGED[row : row + 1])[0])
            model.parts_ = [*lowest[:place], dataclasses.replace(part, threshold=at), *lowest[place + 1 :]]
            served = saved.load(put(model, tmp_path / "model"))
            assert isinstance(served, ServedDetector)
            for rows in (np.repeat(JUDGED[row : row + 1], 50, axis=0), JUDGED[row : row + 1], JUDGED[: row + 1]):
                assert not served.predict(rows)[-1]
            model.parts_[place] = dataclasses.replace(part, threshold=at - 1e-3)
            served = saved.load(put(model, tmp_path / "model"))
            assert isinstance(served, ServedDetector)
            assert served.predict(JUDGED[row : row + 1])[0]


def test_the_weights_of_a_hybrid_are_all_that_it_learnt(whole: Path) -> None:
    """Its score by numpy from the card and the weights alone."""
    told = json.loads((whole / "hybrid" / "card.json").read_text("utf-8"))
    weights = safetensors.numpy.load_file(whole / "hybrid" / "weights.safetensors")
    above = []
    for place, part in enumerate(told["parts"]):
        w = {name.removeprefix(f"{place}."): array for name, array in weights.items() if name.startswith(f"{place}.")}
        rows = JUDGED[:, part["columns"]].astype(np.float64)
        scaled = ((np.sign(rows) * np.log1p(abs(rows)) - w["centre"]) / w["scale"]).clip(-20, 20)
        if part["kind"] == "KnownAttacks":
            score = ((scaled - w["mean"]) / w["deviation"]).clip(-5, 5) @ w["coefficients"] + w["intercept"]
        else:
            code = (scaled @ w["0.0.weight"].T + w["0.0.bias"]).clip(0) @ w["0.2.weight"].T + w["0.2.bias"]
            opened = (code @ w["0.3.weight"].T + w["0.3.bias"]).clip(0)
            score = np.log(np.square(opened @ w["0.5.weight"].T + w["0.5.bias"] - scaled).mean(axis=1))
        above.append(score - part["threshold"])
    np.testing.assert_allclose(saved.load(whole / "hybrid").score_samples(JUDGED), np.max(above, axis=0), rtol=1e-3, atol=1e-3)  # type: ignore[union-attr]


def test_a_cascade_may_hold_a_hybrid(tmp_path: Path) -> None:
    columns = [5, 0, 1, 2]
    detector = Hybrid([(Autoencoder(seed=7, epochs=2), [1, 2, 3]), (KnownAttacks(), None)], seed=7, false_alarm_rate=0.1)
    detector.fit(TRAIN[:, columns], Y != "Benign", NETWORKS)
    model = Cascade(detector, forest(seed=7, trees=20), rejected=0.2, detector_columns=columns).fit_names(TRAIN, Y, NETWORKS)
    served = saved.load(put(model, tmp_path / "model"), FEATURES)
    assert isinstance(served, ServedCascade)
    assert served.detector.features == tuple(FEATURES[place] for place in columns)
    assert served.threshold == serving.SLACK
    assert np.array_equal(served.flags(JUDGED), model.flags(JUDGED))
    assert np.array_equal(served.predict(JUDGED), model.predict(JUDGED))
    assert {"Benign", "DDoS", "Okiru"} <= set(served.predict(JUDGED))


def test_no_rows_give_no_answers_and_blocks_answer_as_the_whole_does(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = saved.load(whole / "cascade")
    assert isinstance(served, ServedCascade)
    assert served.classifier is not None
    assert [len(ask(JUDGED[:0])) for ask in (served.score_samples, served.flags, served.predict, served.named)] == [0] * 4
    assert served.classifier.predict_proba(JUDGED[:0, :4]).shape == (0, 3)
    expected = served.score_samples(JUDGED), served.predict(JUDGED)
    monkeypatch.setattr(serving, "BLOCK", 7)
    np.testing.assert_allclose(served.score_samples(JUDGED), expected[0], rtol=1e-5)
    assert np.array_equal(served.predict(JUDGED), expected[1])
    assert served.predict(JUDGED[3:4])[0] == expected[1][3]


@pytest.mark.parametrize("kind", ["autoencoder", "ensemble", "linear", "cnn"])
def test_a_restored_model_is_the_one_that_was_saved(kind: str, tmp_path: Path) -> None:
    model = (DETECTORS | CLASSIFIERS)[kind]()
    again = saved.restore(put(model, tmp_path / "model"))
    assert type(again) is type(model)
    if kind == "cnn":
        assert np.array_equal(again.predict_proba(JUDGED), model.predict_proba(JUDGED))
        assert list(again.classes_) == list(model.classes_)
    else:
        assert np.array_equal(again.score_samples(JUDGED), model.score_samples(JUDGED))
        assert again.threshold_ == model.threshold_
    assert contents(put(again, tmp_path / "again")) == contents(tmp_path / "model")
    again.fit(TRAIN, *([Y] if kind == "cnn" else []))  # further training works, and by the same settings
    assert contents(put(again, tmp_path / "trained")) == contents(tmp_path / "model")


def test_trees_and_what_is_joined_serve_only(whole: Path, tmp_path: Path) -> None:
    for folder in (put(CLASSIFIERS["forest"](), tmp_path / "forest"), whole / "cascade", whole / "hybrid"):
        with pytest.raises(ModelError, match="only serves; train it again"):
            saved.restore(folder)
    assert isinstance(saved.restore(whole / "cascade" / "detector"), Autoencoder)


@pytest.mark.parametrize("kind", ["isolation forest", "forest", "boosting"])
def test_equal_models_give_equal_files(kind: str, tmp_path: Path) -> None:
    for name in ("first", "second"):
        put((DETECTORS | CLASSIFIERS)[kind](), tmp_path / name)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


@pytest.mark.real
def test_served_trees_answer_for_real_flows_as_the_trees_do(real_root: Path, tmp_path: Path) -> None:
    table = iot23.load(root=real_root)
    X, names = flow_features(table)
    y = table["label"].astype(object).to_numpy()
    some = np.random.default_rng(0).permutation(len(X))[:6000]
    for model in (forest(seed=7, trees=50), boosting(seed=7, trees=20)):
        model.fit(X[some], y[some])
        served = saved.load(saved.save(model, tmp_path / "model", features=names, card=TOLD))
        assert isinstance(served, ServedClassifier)
        np.testing.assert_allclose(served.predict_proba(X), model.predict_proba(X), atol=1e-5)
        assert np.array_equal(served.predict(X), model.predict(X))


# ------------------------------------------------------------------------------------------------------- what lies there


def test_the_card_says_what_the_model_is(whole: Path) -> None:
    told = json.loads((whole / "autoencoder" / "card.json").read_text("utf-8"))
    model = DETECTORS["autoencoder"]()
    assert told["kind"] == "Autoencoder"
    assert told["features"] == FEATURES
    assert told["settings"] == {name: getattr(model, name) for name in told["settings"]}
    assert told["settings"]["epochs"] == 3
    assert (told["threshold"], told["false_alarm_rate"]) == (model.threshold_, 0.01)
    assert np.array_equal(np.array(told["scaler"]["centre"], np.float32), model.scaler_.centre_)
    assert np.array_equal(np.array(told["scaler"]["scale"], np.float32), model.scaler_.scale_)
    assert {name: told[name] for name in TOLD} == TOLD
    assert set(told["files"]) == {"model.onnx", "weights.safetensors"}
    assert saved.load(whole / "autoencoder").card["settings"] == told["settings"]


def test_nothing_is_a_pickle(whole: Path) -> None:
    for name, content in contents(whole).items():
        assert Path(name).suffix in (".json", ".onnx", ".safetensors")
        with pytest.raises(ValueError, match=r"opcode|pickle"):
            list(pickletools.genops(content))


def test_serving_needs_neither_torch_nor_scikit_learn(whole: Path) -> None:
    code = (
        "import sys; from fliot_lab.models import saved; "
        f"print(saved.load({str(whole / 'cascade')!r}).predict([[0.0] * {D}])); "
        "print(sorted({'torch', 'sklearn', 'onnx', 'xgboost', 'skl2onnx'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert answer.stdout.splitlines()[1:] == ["[]"], answer.stderr


# ------------------------------------------------------------------------------------------------- what is not as it was


@pytest.mark.parametrize("kind", ["autoencoder", "cascade"])
def test_a_changed_byte_in_any_file_is_noticed(kind: str, whole: Path, tmp_path: Path) -> None:
    folder = copied(whole / kind, tmp_path / "model")
    for name, content in contents(folder).items():
        for place in np.linspace(0, len(content) - 1, 40).astype(int):
            changed = bytearray(content)
            changed[place] ^= 1
            (folder / name).write_bytes(changed)
            with pytest.raises(ModelError, match=Path(name).name):
                saved.load(folder)
            (folder / name).write_bytes(content)
        (folder / name).write_bytes(content[:-1])
        with pytest.raises(ModelError, match=Path(name).name):
            saved.load(folder)
        (folder / name).unlink()
        with pytest.raises(ModelError, match=f"{name} is missing or unreadable|no card.json"):
            saved.load(folder)
        (folder / name).write_bytes(content)
    saved.load(folder)


def edited(folder: Path, **changes: Any) -> None:
    text = json.loads((folder / "card.json").read_text("utf-8"))
    (folder / "card.json").write_text(json.dumps({**text, **changes}, indent=1) + "\n", "utf-8")


def test_an_edited_card_is_refused(whole: Path, tmp_path: Path) -> None:
    folder = copied(whole / "autoencoder", tmp_path / "model")
    for changes in ({"threshold": 1e9}, {"features": FEATURES[::-1]}, {"files": {}}, {"digest": None}):
        edited(folder, **changes)
        for ask in (saved.load, saved.restore):
            with pytest.raises(ModelError, match=r"card\.json was changed after it was written; take an unchanged copy"):
                ask(folder)
        copied(whole / "autoencoder", folder)
    edited(folder)  # the same card as it was written is the same card
    saved.load(folder)
    edited(folder, format=2)
    with pytest.raises(ModelError, match=r"is of format 2, and this version of fliot_lab reads format 1; use the version"):
        saved.load(folder)


@pytest.mark.parametrize("content", [b"", b"[1]", b"{}", b"{", b'{"format": 1}', b"\xff\xfe", b"null"])
def test_a_card_that_is_none_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "card.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"card\.json"):
        saved.load(tmp_path)


def test_what_is_no_saved_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    for place, held in (("none", "does not exist"), ("file", "is no folder"), (".", "has no card.json")):
        with pytest.raises(ModelError, match=f"{held}, so it is no saved model; name a folder that"):
            saved.load(tmp_path / place)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (FEATURES[:-1], "lacks packets"),
        ([*FEATURES, "port"], "has port as well"),
        ([*FEATURES[:-1], "port"], "lacks packets"),
        (FEATURES[::-1], "has them in another order"),
    ],
)
def test_other_features_are_refused(given: list[str], problem: str, whole: Path) -> None:
    for kind in ("autoencoder", "cascade"):
        with pytest.raises(ModelError, match=f"was trained on 6 features, and what is given {problem}; give"):
            saved.load(whole / kind, given)


def test_bad_rows_are_refused(whole: Path) -> None:
    for served in (saved.load(whole / "autoencoder"), saved.load(whole / "cascade")):
        assert isinstance(served, ServedDetector | ServedCascade)
        for value in (np.nan, np.inf, -np.inf, 1e39):
            rows = JUDGED.astype(np.float64)
            rows[17, 3] = value
            with pytest.raises(ModelError, match="NaN or infinity, first in row 17, state; fill it"):
                served.predict(rows)
        for shape in ((4, 5), (4, 7), (6,), (1, 4, 6)):
            with pytest.raises(ModelError, match=r"X has shape .*, and the model takes \(n, 6\)"):
                served.score_samples(np.zeros(shape))


# ----------------------------------------------------------------------------------------------------- how it is written


def test_an_interrupted_save_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = DETECTORS["linear"](), LinearAutoencoder(bottleneck=1).fit(TRAIN)
    put(first, tmp_path / "old")
    before = contents(tmp_path)
    write, rename = Path.write_bytes, Path.rename

    def disk_full(path: Path, content: bytes) -> int:
        if path.name == "card.json":
            raise OSError("no space left")
        return write(path, content)

    def interrupted(path: Path, target: Path) -> Path:
        if path.name.endswith(".part"):
            raise OSError("interrupted")
        return rename(path, target)

    for name, broken in (("write_bytes", disk_full), ("rename", interrupted)):
        with monkeypatch.context() as patch:
            patch.setattr(Path, name, broken)
            for place in ("new", "old"):
                with pytest.raises(OSError, match=r"no space left|interrupted"):
                    put(second, tmp_path / place)
        assert contents(tmp_path) == before
        assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_a_saved_model_is_replaced_as_a_whole_and_nothing_else_is(tmp_path: Path) -> None:
    put(cascade(), tmp_path / "model")
    put(DETECTORS["linear"](), tmp_path / "model")  # nothing of the cascade stays
    assert set(contents(tmp_path)) == {f"model/{name}" for name in ("card.json", "model.onnx", "weights.safetensors")}
    (tmp_path / "empty").mkdir()
    put(DETECTORS["linear"](), tmp_path / "empty")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "card.json").write_text('{"name": "visiting card"}')
    (tmp_path / "file").write_text("mine")
    put(DETECTORS["linear"](), tmp_path / "noted")
    (tmp_path / "noted" / "notes.txt").write_text("mine")
    before = contents(tmp_path)
    for name in ("mine", "file", "noted"):
        with pytest.raises(ModelError, match=f"{name} exists and is no saved model, or not that alone; name a new folder"):
            put(DETECTORS["linear"](), tmp_path / name)
    assert contents(tmp_path) == before


def test_a_damaged_model_can_be_replaced(whole: Path, tmp_path: Path) -> None:
    folder = copied(whole / "autoencoder", tmp_path / "model")
    (folder / "model.onnx").unlink()
    edited(folder, format=9)
    put(DETECTORS["linear"](), folder)
    saved.load(folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": Autoencoder(seed=7)}, "this Autoencoder has not learnt anything yet: call fit first"),
        ({"model": Hybrid([(KnownAttacks(), None)], seed=7)}, "this Hybrid has not learnt anything yet: call fit first"),
        (
            {"model": Hybrid([(LinearAutoencoder(bottleneck=2), None)], seed=7).fit(TRAIN, Y != "Benign", NETWORKS)},
            "a hybrid with a part LinearAutoencoder cannot be saved",
        ),
        ({"model": forest(seed=7)}, "this Forest has not learnt anything yet: call fit first"),
        ({"model": Majority().fit(TRAIN, Y)}, "a Majority cannot be saved; the kinds that can: Autoencoder, Boosting, CNN1D"),
        ({"model": "model"}, "a str cannot be saved"),
        ({"features": FEATURES[:-1]}, "fitted to 6 features; got 5 names, 5 distinct"),
        ({"features": ["a"] * 6}, "fitted to 6 features; got 6 names, 1 distinct"),
        ({"model": cascade(), "features": FEATURES[:-1]}, "the classifier sees feature 5, and 5 names were given"),
        ({"card": {}}, r"the card has \[\]; it takes training, evaluation, limits"),
        ({"card": TOLD | {"threshold": 1}}, "the card has .*'threshold'.*; it takes training, evaluation, limits"),
        ({"card": TOLD | {"evaluation": {"auc": np.nan}}}, "cannot be JSON .*; give finite numbers"),
        ({"card": TOLD | {"evaluation": {1, 2}}}, "cannot be JSON .*is a set.*; give finite numbers"),
    ],
)
def test_what_cannot_be_saved_is_refused_before_anything_is_written(arguments: dict, message: str, tmp_path: Path) -> None:
    given = {"model": DETECTORS["linear"](), "features": FEATURES, "card": TOLD} | arguments
    with pytest.raises(ModelError, match=message):
        saved.save(given["model"], tmp_path / "model", features=given["features"], card=given["card"])
    assert not list(tmp_path.iterdir())


def test_numbers_of_numpy_stand_in_a_card_as_numbers(tmp_path: Path) -> None:
    told = TOLD | {"evaluation": {"flagged": np.int64(3), "auc": np.float32(0.5), "all": np.arange(2)}}
    folder = saved.save(DETECTORS["linear"](), tmp_path / "model", features=FEATURES, card=told)
    assert saved.load(folder).card["evaluation"] == {"flagged": 3, "auc": 0.5, "all": [0, 1]}
    assert card.FORMAT == 1
