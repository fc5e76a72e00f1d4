"""What is saved of each kind of model, and how those of torch and numpy are made again, for further training."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
import torch
from sklearn.decomposition import PCA
from torch import nn

from fliot_lab import __version__
from fliot_lab.models.autoencoder import Autoencoder, LinearAutoencoder, Scaler, layers
from fliot_lab.models.baselines import ForestDetector
from fliot_lab.models.cascade import UNKNOWN_ATTACK, Cascade, OnlyClass
from fliot_lab.models.cnn import CNN1D, network
from fliot_lab.models.hybrid import Hybrid, KnownAttacks
from fliot_lab.models.saved import card as cards
from fliot_lab.models.saved import graphs
from fliot_lab.models.saved.card import GRAPH, LOGARITHM, WEIGHTS, ModelError
from fliot_lab.models.trees import Boosting, Forest

INNER = ("detector", "classifier", "parts")  # models that a model is given to learn with, which are no settings
Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Parts:
    """What is saved of one model: its number of features, its files, what its card says of what it learnt, and inner models.

    `inner` is name -> (model, the places of its features among the outer one's, None for all). d is None for a model that is
    made of inner ones alone.
    """

    d: int | None
    files: dict[str, bytes]
    learnt: dict[str, Any]
    inner: dict[str, tuple[Any, Sequence[int] | None]] = field(default_factory=dict)


# --- to the folder -----------------------------------------------------------------------------------------------------


def contents(model: Any, features: Sequence[str], told: Mapping[str, Any]) -> dict[str, bytes]:
    """The files by name of the saved model, its card among them, which says what is `told` beside what the model knows.

    Raises ModelError for a kind that is not known, a model that is not fitted, and another number of features.
    """
    try:
        made = parts(model)
    except AttributeError as error:
        raise ModelError(f"this {type(model).__name__} has not learnt anything yet: call fit first ({error})") from error
    if len(set(features)) != len(features) or made.d not in (None, len(features)):
        raise ModelError(f"the model was fitted to {made.d} features; got {len(features)} names, {len(set(features))} distinct")
    files = dict(made.files)
    for name, (inner, places) in made.inner.items():
        if places is not None and max(places) >= len(features):
            raise ModelError(f"the {name} sees feature {max(places)}, and {len(features)} names were given, counted from 0")
        seen = features if places is None else [features[place] for place in places]
        files |= {f"{name}/{file}": content for file, content in contents(inner, seen, told).items()}
    card = {"version": __version__, **_kind(model), "features": list(features)}
    return cards.whole({**card, **made.learnt, **told}, files)


@singledispatch
def parts(model: Any) -> Parts:
    """What is saved of a fitted model. Raises ModelError for a kind that is not known, AttributeError for one not fitted."""
    raise ModelError(f"a {type(model).__name__} cannot be saved; the kinds that can: {', '.join(kinds())}")


@parts.register
def _(model: Autoencoder) -> Parts:
    return _scaled(model, graphs.autoencoder(model), _trained(model), _threshold(model))


@parts.register
def _(model: LinearAutoencoder) -> Parts:
    weights = {"mean": model.pca_.mean_, "components": model.pca_.components_}
    return _scaled(model, graphs.linear(model), weights, _threshold(model))


@parts.register
def _(model: CNN1D) -> Parts:
    return _scaled(model, graphs.cnn(model), _states([model.network_]), {"classes": list(model.classes_)})


@parts.register
def _(model: Forest) -> Parts:
    return Parts(model.model_.n_features_in_, {GRAPH: graphs.forest(model)}, {"classes": list(model.classes_)})


@parts.register
def _(model: Boosting) -> Parts:
    return Parts(model.model_.n_features_in_, {GRAPH: graphs.boosting(model)}, {"classes": list(model.classes_)})


@parts.register
def _(model: ForestDetector) -> Parts:
    return Parts(model.model_.n_features_in_, {GRAPH: graphs.isolation_forest(model)}, _threshold(model))


@parts.register
def _(model: Hybrid) -> Parts:
    weights = {
        f"{n}.{name}": array for n, part in enumerate(model.parts_) for name, array in _arrays(graphs.of_part(part)).items()
    }
    told = [{**_kind(part.model), "columns": part.columns, "threshold": part.threshold} for part in model.parts_]
    files = {GRAPH: graphs.hybrid(model), WEIGHTS: _tensors(weights)}
    return Parts(model.n_features_in_, files, {**_threshold(model), "score": LOGARITHM, "parts": told})


@parts.register
def _(model: Cascade) -> Parts:
    inner = {"detector": (model.detector, model.detector_columns)}
    if not isinstance(model.classifier_, OnlyClass):
        inner["classifier"] = (model.classifier_, model.classifier_columns)
    learnt = {"rejection_threshold": model.threshold_, "classes": list(model.classes_), "unknown": UNKNOWN_ATTACK}
    return Parts(None, {}, learnt, inner)


def kinds() -> list[str]:
    """The names of the kinds of model that can be saved."""
    return sorted(kind.__name__ for kind in parts.registry if kind is not object)


def _kind(model: Any) -> dict[str, Any]:
    """What a model is, and the settings that it was made with."""
    settings = {name: getattr(model, name) for name in inspect.signature(type(model)).parameters if name not in INNER}
    return {"kind": type(model).__name__, "settings": settings}


def _threshold(model: Any) -> dict[str, Any]:
    return {"threshold": model.threshold_, "false_alarm_rate": model.false_alarm_rate}


def _scaled(model: Any, graph: bytes, weights: Arrays, learnt: dict[str, Any]) -> Parts:
    """The parts of a model with a `Scaler` and weights."""
    scaler = {"centre": model.scaler_.centre_.tolist(), "scale": model.scaler_.scale_.tolist()}
    files = {GRAPH: graph, WEIGHTS: _tensors(weights)}
    return Parts(len(model.scaler_.centre_), files, {**learnt, "scaler": scaler})


def _tensors(weights: Arrays) -> bytes:
    """The file of these arrays. They are made contiguous first: as an array lies in memory, so it is written."""
    return safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in weights.items()})


def _arrays(part: Autoencoder | KnownAttacks) -> Arrays:
    """All numbers that a part of a hybrid learnt, by name."""
    learnt = _trained(part) if isinstance(part, Autoencoder) else _straight(part)
    return {"centre": part.scaler_.centre_, "scale": part.scaler_.scale_, **learnt}


def _trained(model: Autoencoder) -> Arrays:
    """The weights of an autoencoder by name."""
    return _states(model.networks_) | {f"{n}.whitener": whitener.numpy() for n, whitener in enumerate(model.whiteners_)}


def _straight(model: KnownAttacks) -> Arrays:
    """The line of a logistic regression, and the deviations that it runs through, by name."""
    line = {"coefficients": model.model_.coef_[0], "intercept": model.model_.intercept_}
    return {"mean": model.deviations_.mean_, "deviation": model.deviations_.scale_, **line}


def _states(networks: Sequence[nn.Module]) -> Arrays:
    """The weights of networks by name; a network's names begin with its place."""
    return {
        f"{place}.{name}": weights.cpu().numpy()
        for place, one in enumerate(networks)
        for name, weights in one.state_dict().items()
    }


# --- and back ----------------------------------------------------------------------------------------------------------


Restored = Autoencoder | LinearAutoencoder | CNN1D


def restored(card: Mapping[str, Any], files: Mapping[str, bytes]) -> Restored:
    """The model as it was when it was saved, from its card and files. Raises ModelError for a kind that is served only."""
    if card["kind"] not in _RESTORED:
        raise ModelError(f"a saved {card['kind']} only serves; train it again, or restore one of {', '.join(_RESTORED)}")
    return _RESTORED[card["kind"]](card, safetensors.numpy.load(files[WEIGHTS]))


def _autoencoder(card: Mapping[str, Any], weights: Arrays) -> Autoencoder:
    model = Autoencoder(**card["settings"])
    model.scaler_, model.threshold_ = _scaler(card), card["threshold"]
    d = len(card["features"])
    empty = [layers(d, model.hidden, model.bottleneck, torch.Generator()) for _ in range(model.members)]
    model.networks_ = [_loaded(member, weights, place) for place, member in enumerate(empty)]
    model.whiteners_ = [torch.from_numpy(weights[f"{n}.whitener"]) for n in range(model.members)] if model.whiten else []
    return model


def _linear(card: Mapping[str, Any], weights: Arrays) -> LinearAutoencoder:
    model = LinearAutoencoder(**card["settings"])
    model.scaler_, model.threshold_ = _scaler(card), card["threshold"]
    model.pca_ = PCA(model.bottleneck, svd_solver="full")
    model.pca_.mean_, model.pca_.components_ = weights["mean"], weights["components"]
    return model


def _cnn(card: Mapping[str, Any], weights: Arrays) -> CNN1D:
    model = CNN1D(**{**card["settings"], "device": "cpu"})
    model.scaler_, model.classes_ = _scaler(card), np.array(card["classes"], dtype=object)
    d, c = len(card["features"]), len(card["classes"])
    model._features = d
    model.network_ = _loaded(network(d, c, model.channels, model.kernel, torch.Generator()), weights, 0)
    return model


def _scaler(card: Mapping[str, Any]) -> Scaler:
    scaler = Scaler()
    scaler.centre_, scaler.scale_ = (np.array(card["scaler"][name], dtype=np.float32) for name in ("centre", "scale"))
    return scaler


def _loaded(empty: nn.Module, weights: Arrays, place: int) -> Any:
    """The network with the weights of the one that was saved at this place."""
    mine = {name: torch.from_numpy(weights[f"{place}.{name}"]) for name in empty.state_dict()}
    empty.load_state_dict(mine)
    return empty


_RESTORED: dict[str, Callable[[Mapping[str, Any], Arrays], Restored]] = {
    "Autoencoder": _autoencoder,
    "LinearAutoencoder": _linear,
    "CNN1D": _cnn,
}
