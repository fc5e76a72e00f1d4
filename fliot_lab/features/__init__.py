"""Numbers that a model sees: of a flow (`flows`), of what its originator did before (`context`), of a device (`devices`)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fliot_lab.features.context import CONTEXT_FEATURES, context_features
from fliot_lab.features.flows import FLOW_FEATURES_EXTENDED, flow_features


def matrix(flows: Any, names: Sequence[str]) -> npt.NDArray[np.float32]:
    """The features (n, d) float32 of these names, in this order, of `flows`, which both makers of features take.

    What is not asked for is not computed. Raises ValueError for a name that neither has, and as these two do.
    """
    own = {feature.name: feature for feature in FLOW_FEATURES_EXTENDED}
    around = {feature.name for feature in CONTEXT_FEATURES}
    if unknown := [name for name in names if name not in own and name not in around]:
        raise ValueError(f"there are no features {', '.join(unknown)}; flows.py and context.py name those that there are")
    parts = []
    if wanted := [own[name] for name in names if name in own]:
        parts.append(flow_features(flows, wanted))
    if any(name in around for name in names):
        parts.append(context_features(flows))
    told = [name for _, part in parts for name in part]
    return np.concatenate([X for X, _ in parts], axis=1)[:, [told.index(name) for name in names]]
