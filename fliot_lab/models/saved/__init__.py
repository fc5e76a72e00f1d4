"""Saved models: a folder with weights (safetensors), a graph for serving (ONNX) and a card. Nothing in it runs code when read.

`save` writes one, `load` serves it by ONNX Runtime alone, `restore` makes the model again for further training.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fliot_lab.models.saved import card as cards
from fliot_lab.models.saved.card import ModelError
from fliot_lab.models.saved.serving import Served, ServedCascade, ServedClassifier, ServedDetector, load

__all__ = ["ModelError", "Served", "ServedCascade", "ServedClassifier", "ServedDetector", "load", "restore", "save"]


def save(model: Any, folder: str | os.PathLike[str], *, features: Sequence[str], card: Mapping[str, Any]) -> Path:
    """The folder that now holds the fitted `model`, whole: it appears when it is complete, and replaces a saved model there.

    `features` are the names of the d columns that the model was fitted to; `card` says `training` (on which data), `evaluation`
    and `limits`, in numbers, text and lists. Raises ModelError for a model that is not fitted or of a kind that cannot be
    saved, for other features or another card, and where the folder holds something else; nothing is written then.
    """
    from fliot_lab.models.saved import kinds  # torch and scikit-learn, which whoever only serves does without

    if set(card) != set(cards.TOLD):
        raise ModelError(f"the card has {sorted(card)}; it takes {', '.join(cards.TOLD)}, and the model says the rest")
    cards.write(Path(folder), kinds.contents(model, list(features), card))
    return Path(folder)


def restore(folder: str | os.PathLike[str]) -> Any:
    """The Autoencoder, LinearAutoencoder or CNN1D saved in a folder, as it was, to go on with in Python.

    Its scores equal those of `load(folder)` up to rounding. Raises ModelError as `load`, and for a kind that only serves.
    """
    from fliot_lab.models.saved import kinds

    return kinds.restored(*cards.read(Path(folder)))
