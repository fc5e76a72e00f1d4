"""Federated gradient boosting by bagging: each client grows trees on its own rows, and the server joins them to one ensemble.

Flower ships the same idea as FedXgbBagging. Here a tree counts by its client's share of the round's rows, as a client does in
FedAvg: trees that are added whole overshoot, the more the more clients there are. XGBoost: Chen and Guestrin 2016, doi
10.1145/2939672.2939785.

What trees tell: XGBoost splits where rows differ, so the thresholds that it finds are values of single rows. Here it only sees
rows whose values were rounded down to GRID, which is the same for all and depends on no data: a threshold says that some row of
the client lies in a cell of about 10 %, and of a small count exactly which it is. The value of a leaf still says much about the
few rows that fall into it. Sums of gradients and numbers of rows in a node, which XGBoost writes down as well, are not sent.

XGBoost's own reader trusts what it reads: no bytes at all abort the process, and a tree that leads back to itself ends it. So
all that comes in is read and checked here, and XGBoost gets what is written anew from checked numbers.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from safetensors import SafetensorError, safe_open
from scipy.special import log_softmax

from fliot_lab.federation.flower.apps import CLIENT, TIMEOUT_S, Holding, ask_all, client_numbers, wait
from fliot_lab.federation.flower.strategy import ARRAYS, CONFIG, EXAMPLES, METRICS, RuleStrategy
from fliot_lab.models.autoencoder import Matrix, checked

if TYPE_CHECKING:
    from xgboost import Booster

Tree = dict[str, Any]  # of XGBoost's JSON: a row goes left where its feature lies below the condition, a leaf's is its margin

NUMBER, ENSEMBLE, BEST = "number", "ensemble", "best"

_UP = np.expm1(np.arange(1, 321) / 10)  # to 8e13: what flows count is less
#: The values (641,) float32 that features are rounded down to, and so all thresholds: steps of 0.1 of log(1 + x).
GRID = np.concatenate([-_UP[::-1], [0], _UP]).astype(np.float32)


@dataclass(frozen=True)
class Growth:
    """How clients grow trees: each `trees` a round, for every one of `classes` (one for both where there are two), of `depth`.

    `features` is the width d of a row. The server fixes all this, since a client may lack classes. `learning_rate` is the step
    that a round's trees take together.
    """

    classes: int
    features: int
    trees: int = 1
    depth: int = 6
    learning_rate: float = 0.3

    def __post_init__(self) -> None:
        if self.classes < 2 or min(self.features, self.trees, self.depth) < 1 or not 0 < self.learning_rate <= 1:
            raise ValueError(f"{self}: expected 2 classes or more, all else from 1, and a rate above 0 and at most 1")

    @property
    def outputs(self) -> int:
        """Trees in one step of boosting: one for each class, one alone for two."""
        return self.classes if self.classes > 2 else 1

    @property
    def parameters(self) -> dict[str, Any]:
        """All this in XGBoost's words. Margins begin at the same for all, where XGBoost would begin at the own rows' mean."""
        kind = (
            {"objective": "multi:softprob", "num_class": self.classes} if self.classes > 2 else {"objective": "binary:logistic"}
        )
        size = {"max_depth": self.depth, "eta": self.learning_rate, "base_score": 0.5}
        return kind | size | {"tree_method": "hist", "max_bin": len(GRID), "nthread": 1}


def gridded(X: npt.ArrayLike) -> Matrix:
    """X (n, d) with each value rounded down to GRID, or to its lowest. Raises ValueError for NaN, infinity and no matrix.

    An ensemble answers alike with and without: its thresholds are values of GRID.
    """
    return GRID[np.maximum(np.searchsorted(GRID, checked(X, None), side="right") - 1, 0)]


def client_app(holding: Callable[[Context], Holding]) -> ClientApp:
    """The app of a client whose data `holding(context)` gives, of which the model plays no part.

    `partition-id` in its `node_config` says which client it is. What it answers holds no row; see above for what trees tell.
    """
    app = ClientApp()

    @app.query(NUMBER)
    def number(message: Message, context: Context) -> Message:
        return Message(RecordDict({METRICS: MetricRecord({CLIENT: int(context.node_config[CLIENT])})}), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        mine, growth, ensemble = holding(context), *_told(message)
        grown = grow(mine.X, _classes(mine.y, growth), ensemble, growth)
        answer = MetricRecord({EXAMPLES: len(mine.X)})
        return Message(RecordDict({ARRAYS: _record(write(grown, growth)), METRICS: answer}), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        mine, growth, ensemble = holding(context), *_told(message)
        y, found = _classes(mine.y_held_out, growth), margins(mine.X_held_out, ensemble, growth)
        found = found if growth.classes > 2 else np.concatenate([np.zeros_like(found), found], axis=1)
        loss = -log_softmax(found, axis=1)[np.arange(len(y)), y].mean()
        judged = {"loss": float(loss), "accuracy": float((found.argmax(1) == y).mean())}
        return Message(RecordDict({METRICS: MetricRecord({EXAMPLES: len(y), **judged})}), reply_to=message)

    return app


def server_app(strategy: Callable[[], "Bagging"], rounds: int, *, nodes: int = 1, timeout: float = TIMEOUT_S) -> ServerApp:
    """The app of the server: `rounds` from an empty ensemble, when `nodes` are connected.

    It waits for them, and for the answers of a round, `timeout` seconds. Afterwards `booster` reads the ensemble from its
    context, `apps.history` and `apps.figures` what the clients measured. Raises RoundFailed.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        plan = strategy()
        wait(grid, nodes, timeout)
        answers = ask_all(grid, NUMBER, RecordDict(), timeout)
        numbers = client_numbers(answers)
        plan.order = sorted(numbers, key=lambda node: numbers[node])
        configs = [ConfigRecord(asdict(plan.growth)) for _ in range(2)]
        result = plan.start(
            grid, _record(write([], plan.growth)), rounds, timeout, train_config=configs[0], evaluate_config=configs[1]
        )
        context.state[ARRAYS], context.state[BEST] = result.arrays, plan.best_arrays or result.arrays
        for row, found in enumerate(plan.figures):
            context.state[f"figures {row}"] = MetricRecord({**found})

    return app


def booster(context: Context, record: str = ARRAYS) -> "Booster":
    """The ensemble in the server's `context`, for rows as they were measured; `record` BEST is that of the best round."""
    return _loaded(_document(context.state.array_records[record]))


class Bagging(RuleStrategy):
    """Rounds in which the drawn clients' new trees join the ensemble, each leaf times its client's share of their rows.

    Options are RuleStrategy's but `rule` and `server`, which are for parameters. An answer that is no model, or one of other
    classes, features or sizes or off the GRID, is left out and named; leaves may be of any finite size, so this resists no
    attacker.
    """

    def __init__(self, growth: Growth, *, seed: int, **options: Any):
        if unfit := {"rule", "server"} & set(options):
            raise ValueError(f"{', '.join(sorted(unfit))}: trees have no parameters to aggregate; leave it out")
        super().__init__(seed=seed, **options)
        self.growth = growth

    def _combined(self, good: list[Message]) -> ArrayRecord:
        weights = np.array([next(iter(reply.content.metric_records.values()))[EXAMPLES] for reply in good], dtype=np.float64)
        joined = list(read(_document(self._global), self.growth))
        for reply, share in zip(good, weights / weights.sum(), strict=True):
            joined += (_scaled(tree, share) for tree in read(_document(reply.content.array_records[ARRAYS]), self.growth))
        return _record(write(joined, self.growth))

    def _wrong_arrays(self, found: ArrayRecord) -> str:
        try:
            sent, expected = read(_document(found), self.growth), self.growth.trees * self.growth.outputs
        except ValueError as error:
            return str(error)
        return "" if len(sent) == expected else f"it sent {len(sent)} trees, expected {expected}"

    def _said(self) -> dict[str, Any]:
        return super()._said() | asdict(self.growth)

    def _taken_up(self, path: Path, like: ArrayRecord) -> tuple[ArrayRecord, int]:
        with suppress(SafetensorError, OSError), safe_open(path, "np") as stored:
            like = ArrayRecord({ENSEMBLE: Array(stored.get_tensor(f"arrays/{ENSEMBLE}"))})  # it grows: no length is expected
        return super()._taken_up(path, like)


def grow(X: Matrix, y: npt.NDArray[np.int64], ensemble: Sequence[Tree], growth: Growth) -> tuple[Tree, ...]:
    """New trees on top of an `ensemble`, from X (n, d) and the classes y (n,): `growth.trees` for each output."""
    import xgboost

    rows = xgboost.DMatrix(gridded(X), label=y, base_margin=margins(X, ensemble, growth))
    return read(bytes(xgboost.train(growth.parameters, rows, growth.trees).save_raw("json")), growth)


def margins(X: npt.ArrayLike, ensemble: Sequence[Tree], growth: Growth) -> npt.NDArray[np.float32]:
    """Logits (n, outputs) of X (n, d); the one of two classes is the second's, and the first has 0."""
    import xgboost

    rows = checked(X, growth.features)
    found = _loaded(write(ensemble, growth)).predict(xgboost.DMatrix(rows, nthread=1), output_margin=True)
    return found.reshape(len(rows), growth.outputs)


@lru_cache(maxsize=32)  # an ensemble comes to be judged and comes again to be grown
def read(document: bytes, growth: Growth) -> tuple[Tree, ...]:
    """The trees of XGBoost's JSON; ValueError where it is none, or holds what a model of such a `growth` cannot."""
    try:
        learner = json.loads(document)["learner"]
        sizes = [int(learner["learner_model_param"][name]) for name in ("num_class", "num_feature")]
        model = learner["gradient_booster"]["model"]
        info, trees = list(model["tree_info"]), tuple(_tree(said, growth) for said in model["trees"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"it is no model that can be used ({type(error).__name__}: {error})") from None
    expected = [growth.parameters.get("num_class", 0), growth.features]  # 0 where two classes share one output
    if sizes != expected:
        raise ValueError(f"its model has (classes, features) {sizes}, expected {expected}")
    if info != [place % growth.outputs for place in range(len(trees))] or len(trees) % growth.outputs:
        raise ValueError(f"its {len(trees)} trees do not go round the {growth.outputs} outputs in order")
    return trees


def write(trees: Sequence[Tree], growth: Growth) -> bytes:
    """XGBoost's JSON of an ensemble, with zeros for what it knows of its training."""
    import xgboost

    bare = xgboost.train(growth.parameters, xgboost.DMatrix(np.zeros((1, growth.features)), label=[0]), 0)
    document, step = json.loads(bare.save_raw("json")), growth.outputs
    document["learner"]["gradient_booster"]["model"] |= {
        "gbtree_model_param": {"num_parallel_tree": "1", "num_trees": str(len(trees))},
        "iteration_indptr": list(range(0, len(trees) + 1, step)),
        "tree_info": [place % step for place in range(len(trees))],
        "trees": [tree | {"id": place} for place, tree in enumerate(trees)],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _tree(said: Tree, growth: Growth) -> Tree:
    """What is checked of a tree; ValueError where following it could go wrong, or it is not of such a `growth`."""
    names = ("left_children", "right_children", "split_indices", "split_conditions")
    left, right, feature, value = parts = [np.asarray(said[name]) for name in names]  # (nodes,) each
    if left.ndim != 1 or {part.shape for part in parts} != {left.shape} or "".join(p.dtype.kind for p in parts) != "iiif":
        raise ValueError("a tree's lists are not numbers of one length")
    inner, value, nodes = left >= 0, value.astype(np.float32), len(left)
    children, places = np.concatenate([left[inner], right[inner]]), np.tile(np.flatnonzero(inner), 2)
    leads = nodes < 2 ** (growth.depth + 1) and (left[~inner] == -1).all() and (right[~inner] == -1).all()
    if not leads or not np.array_equal(np.sort(children), np.arange(1, nodes)) or (children <= places).any():
        raise ValueError(f"a tree of {nodes} nodes does not lead from its root to its leaves, or is too large")
    split, cut = feature[inner], value[inner]
    on_grid = GRID[np.minimum(np.searchsorted(GRID, cut), len(GRID) - 1)] == cut
    if not on_grid.all() or ((split < 0) | (split >= growth.features)).any() or not np.isfinite(value).all():
        raise ValueError(f"a tree splits off the grid, or by none of {growth.features} features, or its leaves are not finite")
    parents = np.full(nodes, 2**31 - 1)
    parents[children] = places
    kept = dict(zip((*names, "parents"), (part.tolist() for part in (left, right, feature, value, parents)), strict=True))
    sizes = {"num_deleted": 0, "num_feature": growth.features, "num_nodes": nodes, "size_leaf_vector": 1}
    zeros: Tree = dict.fromkeys(("default_left", "split_type"), (0,) * nodes)
    zeros |= dict.fromkeys(("base_weights", "loss_changes", "sum_hessian"), (0.0,) * nodes)
    empty = dict.fromkeys(("categories", "categories_nodes", "categories_segments", "categories_sizes"), ())
    return {**kept, **zeros, **empty, "tree_param": {name: str(size) for name, size in sizes.items()}}


def _scaled(tree: Tree, share: float) -> Tree:
    """The tree with its leaves' margins times `share`."""
    nodes = zip(tree["left_children"], tree["split_conditions"], strict=True)
    return tree | {"split_conditions": [value * share if left < 0 else value for left, value in nodes]}


def _loaded(document: bytes) -> "Booster":
    import xgboost

    made = xgboost.Booster({"nthread": 1})
    made.load_model(bytearray(document))
    return made


def _classes(y: npt.NDArray[np.int64] | None, growth: Growth) -> npt.NDArray[np.int64]:
    if y is None or not len(y) or y.min() < 0 or y.max() >= growth.classes:
        raise ValueError(f"y must be classes from 0 to {growth.classes - 1}, one a row, at least one")
    return y


def _told(message: Message) -> tuple[Growth, tuple[Tree, ...]]:
    """What the server's message says: how to grow, and the ensemble so far."""
    config = message.content.config_records[CONFIG]
    growth = Growth(**{name: config[name] for name in Growth.__annotations__})  # type: ignore[arg-type]
    return growth, read(_document(message.content.array_records[ARRAYS]), growth)


def _record(document: bytes) -> ArrayRecord:
    return ArrayRecord({ENSEMBLE: Array(np.frombuffer(document, dtype=np.uint8))})


def _document(record: ArrayRecord) -> bytes:
    if set(record) != {ENSEMBLE}:
        raise ValueError(f"it holds the arrays {sorted(record)}, expected {ENSEMBLE}")
    return record[ENSEMBLE].numpy().tobytes()
