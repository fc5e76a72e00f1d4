"""Flows that a labelled log calls benign between two hosts whose other flows it calls an attack.

An analyst marks what a rule finds; calls to the same controller on another port slip through. In IoT-23's capture 34-1 there
are 69 of them. Nobody can prove a label wrong from the log alone: as given is the default, and what else was done is said.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fliot_lab.data.layout import BENIGN

#: What may be done with contradictory flows: nothing, take them out, or call them what the pair's other flows are called.
CHOICES = ("as given", "dropped", "relabelled")


def contradictory(flows: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Whether each flow (n,) is labelled benign while another between the same two hosts, in the same capture, is an attack.

    Who began the flow plays no part, nor do ports. Needs the columns label, id.orig_h and id.resp_h; `capture`, where there is
    one, tells networks apart. Raises ValueError where a column is missing.
    """
    if missing := [name for name in ("label", "id.orig_h", "id.resp_h") if name not in flows]:
        raise ValueError(f"contradictory labels show in the columns {', '.join(missing)}, which the flows lack")
    pair = _pairs(flows)
    attack = (flows["label"] != BENIGN).to_numpy(dtype=bool, na_value=False)
    return ~attack & flows["label"].notna().to_numpy() & np.isin(pair, pair[attack])


def settled(flows: pd.DataFrame, choice: str = "as given") -> pd.DataFrame:
    """The flows with contradictory ones `as given`, `dropped`, or `relabelled` as the commonest attack of the two hosts.

    `flows` itself stays as it is; rows keep their index. Raises ValueError for another choice, and as `contradictory`.
    """
    if choice not in CHOICES:
        raise ValueError(f"contradictory labels can be {', '.join(CHOICES)}; got {choice!r}")
    if choice == "as given":
        return flows
    doubtful = contradictory(flows)
    if choice == "dropped":
        return flows[~doubtful]
    pair, labels = _pairs(flows), flows["label"].astype(object)
    attack = (labels != BENIGN).to_numpy() & labels.notna().to_numpy()
    commonest = labels[attack].groupby(pair[attack]).agg(lambda names: sorted(names.mode())[0])
    labels[doubtful] = commonest.loc[pair[doubtful]].to_numpy()
    return flows.assign(label=labels.astype(flows["label"].dtype))


def _pairs(flows: pd.DataFrame) -> npt.NDArray[Any]:
    """A number (n,) for the two hosts of each flow, whichever began it, in its capture."""
    first, second = flows["id.orig_h"].astype(str), flows["id.resp_h"].astype(str)
    ordered: dict[str, Any] = {"low": first.where(first < second, second), "high": second.where(first < second, first)}
    if "capture" in flows:
        ordered["capture"] = flows["capture"].astype(str)
    return pd.DataFrame(ordered).groupby(list(ordered), sort=False).ngroup().to_numpy()
