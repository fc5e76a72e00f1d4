"""Many models at once: equal to a loop over clients with torch's own autograd and optimiser, whatever the model."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fliot_lab.data import splits
from fliot_lab.models import autoencoder, batched, cnn

SIZES = (200, 33, 1, 64, 40, 7)
PLACES = np.split(np.arange(sum(SIZES)), np.cumsum(SIZES)[:-1])


class Two(nn.Module):
    """A module of a user's own: two roads that meet, a layer norm, a parameter by itself, a weight without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(24, 6), nn.Linear(24, 6, bias=False)
        self.norm, self.answer = nn.LayerNorm(6), nn.Linear(6, 5)
        self.pull = nn.Parameter(torch.full((6,), 0.5))

    def forward(self, rows: Tensor) -> Tensor:
        return self.answer(self.norm(self.left(rows).tanh() + self.pull * self.right(rows).sigmoid()))


def seeded(make):
    """`make()` with torch's own random start drawn from a fixed seed, and the caller's state left alone."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return make()


def generator():
    return torch.Generator().manual_seed(2)


MODELS = {
    "MLP": lambda: nn.Sequential(nn.Linear(24, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 5)),
    "linear": lambda: nn.Linear(24, 5),
    "linear layers in a row": lambda: nn.Sequential(nn.Linear(24, 6), nn.Linear(6, 5)),
    "without biases": lambda: nn.Sequential(nn.Linear(24, 6, bias=False), nn.ReLU(), nn.Linear(6, 5, bias=False)),
    "autoencoder": lambda: autoencoder.layers(24, 16, 4, generator()),
    "1D-CNN": lambda: cnn.network(24, 5, (3, 4), 3, generator()),
    "of a user": Two,
}
WAYS = {
    "SGD": batched.SGD(epochs=2),
    "momentum": batched.SGD(epochs=2, momentum=0.9),
    "FedProx": batched.SGD(epochs=2, proximal=0.5),
    "both, small batches": batched.SGD(momentum=0.5, proximal=0.5, batch_size=16, learning_rate=0.02),
    "one batch a client": batched.SGD(epochs=3, batch_size=500),
}


def task(name: str):
    """(module, clients, loss) of a model: the autoencoder rebuilds its rows, all others name one of five classes."""
    random = np.random.default_rng(0)
    X = random.standard_normal((sum(SIZES), 24))
    rebuilds = name == "autoencoder"
    y = X if rebuilds else random.integers(0, 5, len(X))
    loss = batched.squared_error if rebuilds else batched.cross_entropy
    return seeded(MODELS[name]), batched.Clients.of(X, y, PLACES), loss


def starts(module: nn.Module, K: int) -> Tensor:
    """(K, P): the module's parameters, a little different for every model."""
    noise = torch.randn(K, len(batched.vector(module)), generator=torch.Generator().manual_seed(1))
    return batched.vector(module) + 0.05 * noise


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", MODELS)
def test_a_batch_of_models_learns_what_a_loop_learns(name: str, way: str) -> None:
    module, clients, loss = task(name)
    start = starts(module, len(clients))
    found = batched.train(module, start.clone(), clients, WAYS[way], seed=3, loss=loss, chunk=4)
    expected = batched.train_loop(module, start.clone(), clients, WAYS[way], seed=3, loss=loss)
    assert (found - start).abs().max(dim=1).values.min() > 1e-3  # every client has moved
    assert torch.allclose(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["MLP", "1D-CNN"])
def test_neither_chunk_nor_company_changes_a_client(name: str) -> None:
    module, clients, loss = task(name)
    start = starts(module, len(clients))
    how = batched.SGD(epochs=2, batch_size=16)
    together = batched.train(module, start.clone(), clients, how, seed=3, loss=loss)
    for chunk in (1, 2, 5):
        again = batched.train(module, start.clone(), clients, how, seed=3, loss=loss, chunk=chunk)
        assert torch.allclose(again, together, atol=1e-6, rtol=0), chunk
    some = batched.train(module, start[[4, 1]].clone(), clients, how, seed=3, loss=loss, which=[4, 1])
    assert torch.allclose(some, together[[4, 1]], atol=1e-6, rtol=0)
    own = batched.Clients.of(*clients.rows(4), [np.arange(SIZES[4])])
    apart = batched.train(module, start[[4]].clone(), own, how, seed=3, loss=loss, first=4)
    assert torch.allclose(apart, together[[4]], atol=1e-6, rtol=0)
    other = batched.train(module, start.clone(), clients, how, seed=4, loss=loss)
    assert (other - together).abs().max() > 1e-4


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    batch_size=st.integers(1, 20),
    epochs=st.integers(1, 3),
    momentum=st.sampled_from([0.0, 0.7]),
    proximal=st.sampled_from([0.0, 1.0]),
    seed=st.integers(0, 1000),
)
def test_clients_of_any_size_learn_as_in_a_loop(sizes, batch_size, epochs, momentum, proximal, seed) -> None:
    random = np.random.default_rng(seed)
    X, y = random.standard_normal((sum(sizes), 3)), random.integers(0, 2, sum(sizes))
    clients = batched.Clients.of(X, y, np.split(random.permutation(len(X)), np.cumsum(sizes)[:-1]))
    module = seeded(lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)))
    how = batched.SGD(epochs, batch_size, 0.1, momentum, proximal)
    start = starts(module, len(sizes))
    found = batched.train(module, start.clone(), clients, how, seed=seed, chunk=2)
    expected = batched.train_loop(module, start.clone(), clients, how, seed=seed)
    assert torch.allclose(found, expected, atol=1e-5, rtol=0)


def test_a_full_batch_is_gradient_descent_in_float64() -> None:
    X, y = np.random.default_rng(1).standard_normal((30, 4)), np.arange(30) % 3
    clients = batched.Clients(torch.from_numpy(X), torch.from_numpy(y), np.array([0, 30]))
    start = torch.zeros(1, 15, dtype=torch.float64)
    found = batched.train(nn.Linear(4, 3).double(), start.clone(), clients, batched.SGD(1, 30, 0.3), seed=0)
    slope = (np.full((30, 3), 1 / 3) - np.eye(3)[y]) / 30  # softmax of nothing is even
    by_hand = -0.3 * np.concatenate([(slope.T @ X).ravel(), slope.sum(0)])
    assert np.allclose(found[0].numpy(), by_hand, atol=1e-12)


def test_the_answers_are_those_of_each_model() -> None:
    for name in MODELS:
        module, clients, _ = task(name)
        models = starts(module, 5)
        found = torch.cat(list(batched.outputs(module, models, clients.X[:9], chunk=2)))
        for row, answer in zip(models, found, strict=True):
            batched.load(module, row)
            assert torch.allclose(module(clients.X[:9]), answer, atol=1e-5), name


def test_a_model_that_trains_leaves_the_module_and_the_rows_alone() -> None:
    module, clients, loss = task("MLP")
    before, X = batched.vector(module), clients.X.clone()
    for road in (batched.train, batched.train_loop):
        road(module, starts(module, len(clients)), clients, batched.SGD(), seed=1, loss=loss)
        assert torch.equal(batched.vector(module), before)
        assert torch.equal(clients.X, X)


def test_a_vector_is_loaded_again() -> None:
    module = seeded(Two)
    before = batched.vector(module)
    batched.load(module, before + 1)
    assert torch.equal(batched.vector(module), before + 1)
    assert torch.equal(module.pull, torch.full((6,), 1.5))


def test_clients_hold_their_own_rows_in_order() -> None:
    X, y = np.arange(12).reshape(6, 2), np.array([0, 1, 0, 1, 0, 1])
    clients = batched.Clients.of(X, y, [[5, 0], [2], [1, 3, 4]])
    assert len(clients) == 3
    assert clients.sizes.tolist() == [2, 1, 3]
    assert clients.rows(0)[0].tolist() == [[10, 11], [0, 1]]
    assert clients.rows(2)[1].tolist() == [1, 1, 0]
    assert (clients.X.dtype, clients.y.dtype) == (torch.float32, torch.int64)


def test_a_client_that_diverges_ruins_no_other() -> None:
    module, clients, loss = task("MLP")
    start = starts(module, len(clients))
    start[2] = 1e30
    found = batched.train(module, start.clone(), clients, batched.SGD(), seed=3, loss=loss)
    assert not found[2].isfinite().all()
    whole = np.array([0, 1, 3, 4, 5])
    alone = batched.train(module, start[whole].clone(), clients, batched.SGD(), seed=3, loss=loss, which=whole)
    assert torch.allclose(found[whole], alone, atol=1e-6, rtol=0)


def test_one_that_drops_out_of_its_own_accord_is_drawn_for_each_model() -> None:
    module = seeded(lambda: nn.Sequential(nn.Linear(24, 8), nn.Dropout(0.5), nn.Linear(8, 5)))
    _, clients, loss = task("linear")
    twins = batched.Clients.of(clients.X[:40], clients.y[:40], [np.arange(40), np.arange(40)])
    start = batched.vector(module).repeat(2, 1)
    found, again = (batched.train(module, start.clone(), twins, batched.SGD(), seed=3, loss=loss) for _ in range(2))
    assert (found[0] - found[1]).abs().max() > 1e-3
    assert torch.equal(found, again)  # whatever was drawn from torch's generator in between


def test_other_devices_learn_the_same() -> None:
    """On a GPU where there is one; else on the CPU, where it must hold all the more."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for name in ("MLP", "1D-CNN"):
        module, clients, loss = task(name)
        start = starts(module, len(clients))
        here = batched.train(module, start.clone(), clients, batched.SGD(), seed=3, loss=loss)
        there = batched.train(module.to(device), start.clone().to(device), clients.to(device), batched.SGD(), seed=3, loss=loss)
        assert torch.allclose(there.cpu(), here, atol=1e-4)


@pytest.mark.parametrize(
    ("X", "y", "parts", "said"),
    [
        (np.ones((3, 2)), [0, 1, 0], [], "at least one client"),
        (np.ones((3, 2)), [0, 1, 0], [[0], []], "client 1 has no rows"),
        (np.ones((3, 2)), [0, 1], [[0]], "as many rows"),
        (np.ones(3), [0, 1, 0], [[0]], "X must be"),
        (np.array([[1.0], [np.nan]]), [0, 1], [[0]], "first in row 1"),
        (np.ones((3, 2)), ["a", "b", "a"], [[0]], "y must be numbers"),
        (np.ones((3, 2)), [0, 1, 0], [[0], [True, False, True]], "rows of client 1 must be .* np.flatnonzero"),
        (np.ones((3, 2)), [0, 1, 0], [[0.7]], "whole numbers from 0 to 2"),
        (np.ones((3, 2)), [0, 1, 0], [[-1]], "whole numbers from 0 to 2"),
        (np.ones((3, 2)), [0, 1, 0], [[[0, 1]]], "whole numbers from 0 to 2"),
    ],
)
def test_rows_that_are_no_clients(X, y, parts, said) -> None:
    with pytest.raises(ValueError, match=said):
        batched.Clients.of(X, y, parts)


class Signs(nn.Sequential):
    """A chain that does more than its parts say."""

    def forward(self, rows: Tensor) -> Tensor:
        return 3 * super().forward(torch.sign(rows))


def twice() -> nn.Module:
    layer = nn.Linear(24, 24)
    return nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(24, 5))


def hooked() -> nn.Module:
    made = nn.Sequential(nn.Linear(24, 5))
    made.register_forward_hook(lambda module, given, answer: 2 * answer)
    return made


@pytest.mark.parametrize(
    "make",
    [
        lambda: Signs(nn.Linear(24, 5)),
        twice,
        hooked,
        lambda: nn.Sequential(nn.Unflatten(1, (1, 24)), nn.Conv1d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(66, 5)),
        lambda: nn.Sequential(nn.Unflatten(1, (2, 12)), nn.Conv1d(2, 3, 3, padding=1), nn.Flatten(), nn.Linear(36, 5)),
        lambda: nn.Sequential(nn.Unflatten(1, (1, 24)), nn.Conv1d(1, 3, 5, padding=2), nn.Flatten(), nn.Linear(72, 5)),
    ],
    ids=["its own forward", "one layer twice", "a hook", "a shorter signal", "two channels", "no bend"],
)
def test_what_only_looks_like_a_plain_chain_learns_what_a_loop_learns(make) -> None:
    module, (_, clients, loss) = seeded(make), task("linear")
    start = starts(module, len(clients))
    found = batched.train(module, start.clone(), clients, batched.SGD(), seed=3, loss=loss)
    assert torch.allclose(
        found, batched.train_loop(module, start.clone(), clients, batched.SGD(), seed=3, loss=loss), atol=1e-5
    )


def test_targets_and_losses_that_do_not_fit() -> None:
    """Each would give a number, and a wrong one: a table of differences, a mean that counts the rows that fill a batch."""
    _, clients, _ = task("linear")
    for module in (nn.Linear(24, 1), nn.Sequential(nn.Linear(24, 4), nn.Tanh(), nn.Linear(4, 1))):
        column = batched.Clients(clients.X, clients.X[:, 0], clients.starts)
        for way in (batched.train, batched.train_loop):
            with pytest.raises(ValueError, match=r"which for one output is y\[:, None\]"):
                way(module, starts(module, 6), column, batched.SGD(), seed=0, loss=batched.squared_error)
    module = Two()
    with pytest.raises(ValueError, match="take reduction='none'"):
        batched.train(module, starts(module, 6), clients, batched.SGD(), seed=0, loss=nn.CrossEntropyLoss())
    module.left.weight.requires_grad_(False)
    with pytest.raises(ValueError, match="parameters are frozen"):
        batched.train(module, starts(module, 6), clients, batched.SGD(), seed=0)


def test_clients_are_what_a_partition_by_name_gives() -> None:
    X, y = np.arange(8.0).reshape(4, 2), [0, 1, 0, 1]
    named = batched.Clients.of(X, y, splits.partition_by(["b", "a", "b", "c"]))
    assert named.sizes.tolist() == [1, 2, 1]
    assert named.rows(1)[0].tolist() == X[[0, 2]].tolist()


def test_training_that_cannot_be() -> None:
    module, clients, _ = task("MLP")
    start = starts(module, 6)
    with pytest.raises(ValueError, match=r"parameters must be \(6, "):
        batched.train(module, start[:5], clients, batched.SGD(), seed=0)
    with pytest.raises(ValueError, match="client numbers from 0 to 5"):
        batched.train(module, start[:1], clients, batched.SGD(), seed=0, which=[6])
    with pytest.raises(ValueError, match="running statistics"):
        batched.vector(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    with pytest.raises(ValueError, match="nothing to train"):
        batched.vector(nn.ReLU())
    for wrong in ({"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0}, {"momentum": 1}, {"proximal": -1}):
        with pytest.raises(ValueError, match="|".join(wrong)):
            batched.SGD(**wrong)


def test_the_number_of_threads_changes_no_number_and_stays_as_it_was() -> None:
    X, y = torch.randn(300, 24, generator=torch.Generator().manual_seed(1)), torch.arange(300) % 5
    module = nn.Sequential(nn.Linear(24, 64), nn.ReLU(), nn.Linear(64, 5))
    clients, before, found = batched.Clients.of(X, y, [np.arange(300)]), torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            trained = batched.train(
                module, batched.vector(module)[None].clone(), clients, batched.SGD(learning_rate=0.1), seed=1
            )
            found.append(
                torch.cat([trained.flatten(), *(answers.flatten() for answers in batched.outputs(module, trained, X))])
            )
            assert torch.get_num_threads() == threads
        with pytest.raises(ValueError, match="none"), batched.one_thread():
            int("none")
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)
