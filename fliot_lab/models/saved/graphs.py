"""Models as ONNX graphs, from raw features X (n, d) float32 to a score (n,) or to probabilities (n, c).

Written by hand, node by node: torch's exporter takes seconds and log1p apart, which loses what small numbers differ by.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from fliot_lab.models.autoencoder import Autoencoder, LinearAutoencoder, Scaler
from fliot_lab.models.baselines import ForestDetector
from fliot_lab.models.cnn import CNN1D
from fliot_lab.models.hybrid import LARGEST, SMALLEST, Hybrid, KnownAttacks, Part
from fliot_lab.models.saved.card import ModelError
from fliot_lab.models.trees import Boosting, Forest

OPSETS = {"": 18, "ai.onnx.ml": 3}
IR_VERSION = 9
INPUT, SCORE, PROBABILITY = "X", "score", "probability"


class Graph:
    """A graph that grows node by node; a value is known by the name that `node` or `constant` gave it."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        """The name of a constant array."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(np.asarray(value, dtype)), name))
        return name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """The name of what a new node of this operator makes of its inputs."""
        name = f"value_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def include(self, model: onnx.ModelProto) -> None:
        """Takes in the nodes of a converted model, which reads INPUT; its names for what it makes stay."""
        self.nodes += model.graph.node
        self.constants += model.graph.initializer

    def finished(self, value: str, name: str, d: int, *shape: int) -> bytes:
        """The file of the model that makes of n rows of d features this value, (n, *shape), and calls it `name`."""
        graph = helper.make_graph(
            [*self.nodes, helper.make_node("Identity", [value], [name])],
            "fliot_lab",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", d])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *shape])],
            self.constants,
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="fliot_lab")
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString(deterministic=True)

    def scaled(self, X: str, scaler: Scaler) -> str:
        """X as `scaler` transforms it."""
        return self.divided(self.log(X), scaler)

    def log(self, X: str) -> str:
        """X on the log scale of a `Scaler`."""
        size = self.node("Abs", X)
        one = self.constant(1)
        larger = self.node("Add", size, one)
        # log1p(s): what rounding took from s in 1 + s comes back as the logarithm's slope 1 / (1 + s) times it.
        lost = self.node("Sub", size, self.node("Sub", larger, one))
        log = self.node("Add", self.node("Log", larger), self.node("Div", lost, larger))
        return self.node("Mul", self.node("Sign", X), log)

    def divided(self, logs: str, scaler: Scaler) -> str:
        """Logarithms as `scaler` centres, divides and clips them."""
        centred = self.node("Sub", logs, self.constant(scaler.centre_))
        return self.node("Clip", self.node("Div", centred, self.constant(scaler.scale_)), self.constant(-20), self.constant(20))

    def linear(self, value: str, layer: nn.Module) -> str:
        """What a linear layer makes of a value (n, d)."""
        return self.node("Gemm", value, self.constant(_array(layer.weight.T)), self.constant(_array(layer.bias)))

    def through(self, value: str, layers: nn.Sequential) -> str:
        """What a chain of linear layers and ReLU makes of a value (n, d)."""
        for layer in layers:
            value = self.node("Relu", value) if isinstance(layer, nn.ReLU) else self.linear(value, layer)
        return value

    def mean_square(self, value: str) -> str:
        """The mean of the squares in each row of a value (n, m), (n,)."""
        return self.node("ReduceMean", self.node("Mul", value, value), self.constant([1], np.int64), keepdims=0)

    def error(self, scaled: str, model: Autoencoder) -> str:
        """The reconstruction error (n,) of scaled features (n, d)."""
        residuals = [self.node("Sub", self.through(scaled, member), scaled) for member in model.networks_]
        if model.whiten:
            whiteners = [self.constant(whitener.numpy()) for whitener in model.whiteners_]
            residuals = [self.node("MatMul", r, whitener) for r, whitener in zip(residuals, whiteners, strict=True)]
        return self.node("Mean", *(self.mean_square(residual) for residual in residuals))

    def log_odds(self, scaled: str, model: KnownAttacks) -> str:
        """The log odds (n,) that scaled features (n, d) are those of an attack."""
        centred = self.node("Sub", scaled, self.constant(model.deviations_.mean_))
        deviations = self.node("Div", centred, self.constant(model.deviations_.scale_))
        clipped = self.node("Clip", deviations, self.constant(-LARGEST), self.constant(LARGEST))
        line = self.node("MatMul", clipped, self.constant(model.model_.coef_[0]))
        return self.node("Add", line, self.constant(model.model_.intercept_[0]))


def autoencoder(model: Autoencoder) -> bytes:
    """The graph of an autoencoder: features to score."""
    graph = Graph()
    return graph.finished(graph.error(graph.scaled(INPUT, model.scaler_), model), SCORE, len(model.scaler_.centre_))


def hybrid(model: Hybrid) -> bytes:
    """The graph of a hybrid: features to score, the most that any part lies above its threshold."""
    graph = Graph()
    logs = graph.log(INPUT)  # once: it is most of the work
    above = []
    for part in model.parts_:
        own = graph.node("Gather", logs, graph.constant(part.columns, np.int64), axis=1)
        learnt = of_part(part)
        scaled = graph.divided(own, learnt.scaler_)
        if isinstance(learnt, KnownAttacks):
            value = graph.log_odds(scaled, learnt)
        else:
            value = graph.node("Log", graph.node("Max", graph.error(scaled, learnt), graph.constant(SMALLEST)))
        above.append(graph.node("Sub", value, graph.constant(part.threshold)))
    return graph.finished(graph.node("Max", *above), SCORE, model.n_features_in_)


def of_part(part: Part) -> Autoencoder | KnownAttacks:
    """The model of a hybrid's part; ModelError where it is one that a saved hybrid cannot hold."""
    if not isinstance(part.model, Autoencoder | KnownAttacks):
        raise ModelError(f"a hybrid with a part {type(part.model).__name__} cannot be saved; take Autoencoder and KnownAttacks")
    return part.model


def linear(model: LinearAutoencoder) -> bytes:
    """The graph of a linear autoencoder: features to score. In float64 as the model: where little is lost, float32 is noise."""
    graph = Graph()
    scaled = graph.node("Cast", graph.scaled(INPUT, model.scaler_), to=TensorProto.DOUBLE)
    centred = graph.node("Sub", scaled, graph.constant(model.pca_.mean_, np.float64))
    code = graph.node("MatMul", centred, graph.constant(model.pca_.components_.T, np.float64))
    rebuilt = graph.node("MatMul", code, graph.constant(model.pca_.components_, np.float64))
    score = graph.node("Cast", graph.mean_square(graph.node("Sub", centred, rebuilt)), to=TensorProto.FLOAT)
    return graph.finished(score, SCORE, len(model.scaler_.centre_))


def cnn(model: CNN1D) -> bytes:
    """The graph of a 1D-CNN: features to probabilities."""
    graph = Graph()
    value = graph.node("Unsqueeze", graph.scaled(INPUT, model.scaler_), graph.constant([1], np.int64))  # (n, 1, d)
    network: Any = model.network_
    for layer in network.convolutions[::2]:  # a bend follows each
        weights = graph.constant(_array(layer.weight)), graph.constant(_array(layer.bias))
        value = graph.node("Relu", graph.node("Conv", value, *weights, pads=[*layer.padding, *layer.padding]))
    logits = graph.linear(graph.node("Flatten", value), network.answer)
    return graph.finished(graph.node("Softmax", logits), PROBABILITY, len(model.scaler_.centre_), len(model.classes_))


def forest(model: Forest) -> bytes:
    """The graph of a random forest: features to probabilities."""
    from skl2onnx import convert_sklearn  # imports for a second
    from skl2onnx.common.data_types import FloatTensorType

    d = model.model_.n_features_in_
    types = [(INPUT, FloatTensorType([None, d]))]
    converted = convert_sklearn(model.model_, "forest", types, target_opset=OPSETS, options={"zipmap": False})
    return _probabilities(converted, d, len(model.classes_))


def isolation_forest(model: ForestDetector) -> bytes:
    """The graph of an isolation forest: features to score."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    d = model.model_.n_features_in_
    types, options = [(INPUT, FloatTensorType([None, d]))], {"score_samples": True}
    graph = Graph()
    graph.include(convert_sklearn(model.model_, "isolation", types, target_opset=OPSETS, options=options))
    score = graph.node("Reshape", graph.node("Neg", "score_samples"), graph.constant([-1], np.int64))
    return graph.finished(score, SCORE, d)


def boosting(model: Boosting) -> bytes:
    """The graph of boosted trees: features to probabilities."""
    from onnxmltools import convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    d = model.model_.n_features_in_
    converted = convert_xgboost(model.model_, "boosting", [(INPUT, FloatTensorType([None, d]))], target_opset=15)
    return _probabilities(converted, d, len(model.classes_))


def _probabilities(converted: onnx.ModelProto, d: int, classes: int) -> bytes:
    """The graph of a converted classifier without the labels that it answers as well: the card has the classes' names."""
    graph = Graph()
    graph.include(converted)
    return graph.finished("probabilities", PROBABILITY, d, classes)


def _array(tensor: Any) -> npt.NDArray[Any]:
    return tensor.detach().cpu().numpy()
