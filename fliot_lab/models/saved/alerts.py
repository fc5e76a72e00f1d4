"""A saved model at work on a conn log: the score of every flow, what it is taken for, and the alarms as a file."""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from fliot_lab import atomic
from fliot_lab.data import zeek
from fliot_lab.data.layout import BENIGN
from fliot_lab.features import matrix
from fliot_lab.models.saved.card import ModelError
from fliot_lab.models.saved.serving import Served, ServedCascade, ServedDetector

#: What a detector that has no classifier answers where it flags.
ALARM = "alarm"
#: What an alarm says of its flow, in Zeek's names.
COLUMNS = ("ts", "uid", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto", "conn_state")
SUFFIXES = (".csv", ".jsonl")
WORST = 10  # of the services that alarms are about, so many are told


def detect(log: str | os.PathLike[str], model: Served) -> pd.DataFrame:
    """The flows of a conn log in its order, one a row: COLUMNS, `label` where the log has labels, `score` and `answer`.

    `answer` is BENIGN, an attack's class, what the model calls an unknown one, or ALARM of a detector without classes. The log
    must fit in memory: about 0.5 kB a flow. Raises ConnLogError for a log that cannot be read, ModelError for a model that does
    not flag.
    """
    if not isinstance(model, ServedDetector | ServedCascade):
        raise ModelError(f"{model.folder} is a {model.card['kind']}, which names classes and flags nothing; give a detector")
    flows = zeek.read_conn_log(log)
    X = matrix(flows, model.features)
    scores = model.score_samples(X)
    flagged = scores > model.threshold
    named = np.full(len(X), ALARM, dtype=object)
    if isinstance(model, ServedCascade):
        named[flagged] = model.named(X[flagged])
    found = flows[[*COLUMNS, *(["label"] if "label" in flows else [])]].copy()
    found["score"], found["answer"] = scores, np.where(flagged, named, BENIGN)
    return found


def told(found: pd.DataFrame) -> str:
    """What `detect` found in a few lines, for a terminal: how many alarms of which class, and where they are worst."""
    alarms = found[found["answer"] != BENIGN]
    share = f" ({len(alarms) / len(found):.2%})" if len(found) else ""
    lines = [f"{len(found):,} flows, {len(alarms):,} alarms{share}"]
    lines += [f"  {count:,} {answer}" for answer, count in alarms["answer"].value_counts().items()]
    if len(alarms):
        where = ["id.orig_h", "id.resp_h", "id.resp_p", "proto", "answer"]
        services = alarms.groupby(where, observed=True, sort=False)["score"].agg(["max", "size"])
        lines.append(f"Worst of {len(services):,} services:" if len(services) > WORST else "By service:")
        for row in services.nlargest(WORST, "max").reset_index().itertuples(index=False, name=None):
            host, peer, port, proto, answer, score, size = row
            lines.append(f"  {host} -> {peer} port {port}/{proto}: {answer}, {size:,} flows, score {score:.3g}")
    if "label" in found:
        lines.append(_right(found[found["label"].notna()]))
    return "\n".join(lines)


def _right(found: pd.DataFrame) -> str:
    """How the answers compare with the log's own labels."""
    label, answer = found["label"].astype(object), found["answer"]
    attack, flagged = label != BENIGN, answer != BENIGN
    return (
        f"By the log's labels: {(flagged & attack).sum():,} of {attack.sum():,} attacks flagged, "
        f"{(flagged & (label == answer)).sum():,} of them by their name; "
        f"{(flagged & ~attack).sum():,} false alarms on {(~attack).sum():,} benign flows"
    )


def check_suffix(path: Path) -> None:
    """Raises ValueError where a file for alarms has a name that does not say how it is to be written."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: alarms are written as {' or '.join(SUFFIXES)}; name such a file")


def write(found: pd.DataFrame, path: str | os.PathLike[str]) -> int:
    """The number of alarms written to `path`, as CSV or as a JSON object a line by its suffix; complete or not at all."""
    place = Path(path)
    check_suffix(place)
    alarms = found[found["answer"] != BENIGN]
    with atomic.replacing(place) as partial:
        if place.suffix == ".csv":
            alarms.to_csv(partial, index=False, date_format="%Y-%m-%dT%H:%M:%S.%fZ", lineterminator="\n")
        else:
            alarms.to_json(partial, orient="records", lines=True, date_format="iso", date_unit="us")
    return len(alarms)
