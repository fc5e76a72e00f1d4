"""A small network that slides over the features of a flow as over a sequence."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fliot_lab.models.autoencoder import Scaler
from fliot_lab.models.batched import one_thread
from fliot_lab.models.classifier import Balance, Classifier, Codes, Floats, Matrix

_ROWS = 8_192  # judged at once, so that memory stays bounded


class CNN1D(Classifier):
    """A classifier of one-dimensional convolutions over a row of features, as the published IoT-23 study used one.

    A `Scaler` comes first, which sees training rows only; there is no early stopping, and a batch counts by its weights. The
    order of the features matters, though it is chance. Learns and answers on `device` ("cpu", "cuda"), where `network_` stays.
    Equal seeds give equal models on a CPU. Convolutional networks: LeCun et al. 1998, doi 10.1109/5.726791.
    """

    def __init__(
        self,
        *,
        seed: int,
        channels: Sequence[int] = (16, 32),
        kernel: int = 3,
        epochs: int = 20,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        balance: Balance = None,
        device: str = "cpu",
    ):
        super().__init__(seed=seed, balance=balance)
        self.channels, self.kernel, self.device = tuple(channels), kernel, device
        self.epochs, self.batch_size, self.learning_rate = epochs, batch_size, learning_rate

    def _learn(self, X: Matrix, codes: Codes, weights: Floats | None) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        self.network_ = network(X.shape[1], len(self.classes_), self.channels, self.kernel, generator).to(self.device)
        self.scaler_ = Scaler().fit(X)
        rows, answers = torch.from_numpy(self.scaler_.transform(X)).to(self.device), torch.from_numpy(codes).to(self.device)
        counts = None if weights is None else torch.from_numpy(weights).float().to(self.device)
        optimiser = torch.optim.Adam(self.network_.parameters(), lr=self.learning_rate, fused=True)
        with one_thread():
            for _ in range(self.epochs):
                for batch in torch.randperm(len(rows), generator=generator).to(self.device).split(self.batch_size):
                    loss = nn.functional.cross_entropy(self.network_(rows[batch]), answers[batch], weight=counts)
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()

    def _chances(self, X: Matrix) -> npt.NDArray[np.floating[Any]]:
        found = []
        with torch.inference_mode():
            for start in range(0, len(X), _ROWS):
                rows = torch.from_numpy(self.scaler_.transform(X[start : start + _ROWS])).to(self.device)  # (rows, d)
                found.append(self.network_(rows).double().softmax(dim=1).cpu().numpy())  # (rows, c)
        return np.concatenate(found)


def network(d: int, classes: int, channels: Sequence[int], kernel: int, generator: torch.Generator) -> nn.Module:
    """A network from scaled rows (n, d) to logits (n, classes), with weights drawn from `generator` alone.

    One convolution of `kernel` neighbours for each of `channels`, each with a bend, then one linear layer. The state's shapes
    follow from d, classes, channels and kernel, so that networks which learnt elsewhere can be averaged. Raises ValueError for
    an even kernel, which has no middle, and for sizes below 1.
    """
    sizes = (d, classes, kernel, len(channels), *channels)
    if min(sizes) < 1 or kernel % 2 == 0:
        raise ValueError(f"d={d}, classes={classes}, channels={tuple(channels)}, kernel={kernel}: all from 1, kernel odd")
    bends: OrderedDict[str, nn.Module] = OrderedDict()
    # Torch draws weights that are not wanted. Its skip_init would not, and imports half a second of other things.
    with torch.random.fork_rng(devices=[]):
        for before, after in zip((1, *channels), channels, strict=False):
            bends[f"{len(bends) // 2}"] = nn.Conv1d(before, after, kernel, padding=kernel // 2)
            bends[f"bend {len(bends) // 2}"] = nn.ReLU()
        convolutions, answer = nn.Sequential(bends), nn.Linear(channels[-1] * d, classes)
    for layer in (*convolutions.children(), answer):
        if isinstance(layer, nn.Conv1d | nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    # One channel, (n, 1, d); zeros at both ends keep the length; (n, channels, d) as one row.
    parts = {"signal": nn.Unflatten(1, (1, d)), "convolutions": convolutions, "row": nn.Flatten(), "answer": answer}
    return nn.Sequential(OrderedDict(parts))
