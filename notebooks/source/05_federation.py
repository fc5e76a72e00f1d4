# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Learn together without a server

# %% tags=["parameters"]
profile = "fast"  # "full" takes longer and draws more seeds
seed = 7  # every random choice comes from it
dataset = "auto"  # "iot23": real captures, "sample": simulated ones, "auto": real ones where they are present

# %%
import dataclasses, json, math, matplotlib.figure, numpy as np, pandas as pd, torch
from fliot_lab import evaluation, features, plots, profiles
from fliot_lab.course.checks import lesson_05 as check
from fliot_lab.data import iot23, splits
from fliot_lab.federation import exchange, simulation, statistics, topology
from fliot_lab.models import autoencoder, batched

# %%
source = iot23.locate(dataset, seed=seed)
print(source.banner)
settings = profiles.settings("05_federation", profile)
flows = iot23.load("small", dataset=source.name, seed=seed)
every = math.ceil(len(flows) / settings.rows)
flows = flows.iloc[::every].reset_index(drop=True)
print(f"{len(flows):,} flows" + (f": of every {every} the first" if every > 1 else ""))
X, names = features.flow_features(flows)  # (n, 24) float32
classes, y = np.unique(flows["label"].astype(str), return_inverse=True)  # (c,), (n,)
captures = flows["capture"].astype(str).to_numpy()
earlier, later = splits.by_time(flows["ts"], captures, 0.3)  # to learn from, to be judged on
later = later[:: math.ceil(len(later) / 3_000)]

# %% [markdown]
# ## The question
#
# Sixteen networks want one detector. Each sees other devices and other attacks; none wants to show its flows, and nobody trusts any
# of the others with a server. **Can they learn one model by talking to a few neighbours each, and what does it cost?**
#
# So they are linked: in a ring, to begin with. The colour is the share of attacks among a node's flows.

# %%
K = 16
homes = splits.partition_dirichlet(
    y[earlier], K, alpha=0.3, seed=seed, least=20
)  # K arrays of rows
held = [earlier[home] for home in homes]
benign = list(classes).index("Benign")
shares = [float((y[rows] != benign).mean()) for rows in held]
fig = topology.draw(topology.ring(K), shares)
plots.show(
    fig, f"A ring of {K} nodes; shares of attacks from {min(shares):.2f} to {max(shares):.2f}."
)
print("flows a node:", ", ".join(str(len(rows)) for rows in held))

# %% [markdown]
# Real networks would hold what they saw. Here the flows of a few captures are dealt out so that labels are **skewed**: each node gets a
# share of every class that is drawn at random, and most nodes have much of one class and little of the others. `alpha` says how unequal these
# shares are (they come from a Dirichlet distribution): with 100 nearly all alike, with 0.1 most of a class at a few nodes.
#
# ## The idea
#
# In every round a node trains a little on its own flows, tells its neighbours its parameters, and takes a weighted mean of what it
# hears:
#
# $$ x_i(t + 1) = \sum_{j=1}^{K} W_{ij} \left( x_j(t) + u_j(t) \right) $$
#
# $x_i(t) \in \mathbb{R}^P$: the parameters of node $i$ after round $t$; $u_j(t)$: what training on its own flows adds at node $j$; $W \in
# \mathbb{R}^{K \times K}$: the **mixing matrix**, $W_{ij} > 0$ only where $i$ hears $j$ or $i = j$; its rows sum to 1. With all nodes in
# one matrix, a row each, it is $X \leftarrow W (X + U)$. There is no server in it. It is the *mean* of federated averaging, done by neighbours.

# %% [markdown] tags=["instructor"]
# **Teaching this lesson: 90 minutes.** Question and idea 10, the naive version 10, exercises 5.1 to 5.3 15 each, training 15, bytes 10. Ask
# early what the nodes of a star agree on, and come back to it.

# %% [markdown]
# ## The naive version: everybody averages what they hear
#
# The published sketch, `train_round(node_id, local_data)`: train, fetch the neighbours' models, take the mean of all. To see what the
# mean does, a model is one number here, and training changes nothing.

# %%
neighbours = {0: [1, 2, 3, 4], 1: [0], 2: [0], 3: [0], 4: [0]}  # a star: node 0 is its hub
models = {0: 10.0, 1: 0.0, 2: 0.0, 3: 0.0, 4: 0.0}


def train_round(node_id, local_data):
    own = models[node_id]  # after training on local_data, which is left out here
    heard = [models[j] for j in neighbours[node_id]]  # fetched from the neighbours
    return np.mean([own, *heard])  # the consensus update


path = [dict(models)]
for _ in range(12):
    models = {i: train_round(i, None) for i in neighbours}
    path.append(dict(models))

# %%
lines = {f"node {i}": [state[i] for state in path] for i in neighbours}
lines["the mean at the start"] = [2.0] * len(path)
fig = plots.line(lines, ylabel="what the node holds", xlabel="round")
plots.show(
    fig, f"Five nodes of a star agree on {path[-1][1]:.2f}; the mean at the start was 2.00."
)

# %% [markdown]
# They agree, and on the wrong number. The hub is heard by four, each leaf by one, and who is heard more counts more. With models that is
# a detector that has learnt the hub's attacks best. The rows of this mixing matrix sum to 1 and its columns do not.

# %% [markdown]
# ## Weights that are fair
#
# If the **columns** of $W$ sum to 1 as well, every node gives away as much weight as it takes, and the mean over the nodes never moves. $W$
# is then called *doubly stochastic*. Two neighbours can find such weights alone, knowing nothing but how many neighbours each of them has:
#
# $$ W_{ij} = \frac{1}{1 + \max(d_i, d_j)} \text{ for neighbours}, \qquad W_{ii} = 1 - \sum_{j \ne i} W_{ij} $$
#
# $d_i$: the number of neighbours of node $i$. These are Metropolis weights (Xiao, Boyd and Kim 2007).
#
# ### Exercise 5.1: Metropolis weights
#
# Write `metropolis(A)`: from `A` (K, K), with `A[i, j] = 1` where i and j are neighbours and 0 elsewhere, also on the diagonal, make `W` (K, K).
#
# <details><summary>Hint</summary>
#
# `A.sum(axis=1)` are the degrees, and `np.maximum.outer(d, d)` holds the larger one of each pair. What the neighbours leave stays on the diagonal.
# </details>


# %% tags=["exercise"]
# Exercise 5.1: Metropolis weights
def metropolis(A):  # (K, K) -> (K, K)
    # solution
    d = A.sum(axis=1)
    W = A / (1 + np.maximum.outer(d, d))
    return W + np.diag(1 - W.sum(axis=1))
    # end solution


# %% tags=["check"]
check.metropolis(metropolis)

# %% [markdown] tags=["instructor"]
# **Exercise 5.1: 15 minutes.** Common mistakes: 1 / (1 + own degree), whose rows sum to 1 and whose columns do not (the naive version again);
# the smaller degree; a diagonal left empty. Ask back: what must a node know of its neighbours, and what of the rest of the network?

# %%
W = topology.mixing_matrix(topology.star(5))  # Metropolis weights, sparse
print(pd.DataFrame(W.toarray()).round(2).to_string(header=False, index=False))

# %% tags=["check"]
for graph in topology.TOPOLOGIES.values():
    made = graph(16, seed)
    expected = topology.mixing_matrix(made).toarray()
    assert np.allclose(metropolis(made.adjacency().toarray()), expected), made.name

# %% [markdown]
# ## Predict before you run
#
# Sixteen nodes; who agrees first, a ring, a star, a torus (a grid whose edges meet), or sixteen nodes that all hear each other? Write down an order
# before you go on. What would you guess for a thousand nodes?

# %% [markdown]
# ### Exercise 5.2: one step, and where it ends
#
# Write `gossip(W, x)` for a mixing matrix `W` (K, K) whose **rows** sum to 1, any such matrix of a connected network, and `x` (K, P), a row a node. Return two
# things: the parameters (K, P) after one round without training, and the parameters (P,) that all nodes end up with after very many.
#
# <details><summary>Hint</summary>
#
# Many rounds are a high power of $W$: `np.linalg.matrix_power(W, 10_000)`. All its rows are alike; what do they say? For a fair $W$ the answer
# is shorter, and the check asks about both kinds.
# </details>


# %% tags=["exercise"]
# Exercise 5.2: one step, and where it ends
def gossip(W, x):  # (K, K), (K, P) -> (K, P), (P,)
    # solution
    shares = np.linalg.matrix_power(W, 10_000)[0]  # (K,): how much each node counts in the end
    return W @ x, shares @ x
    # end solution


# %% tags=["check"]
check.gossip(gossip)

# %% [markdown] tags=["instructor"]
# **Exercise 5.2: 15 minutes.** The mean over the nodes is right for a doubly stochastic W and for no other: let them find out on the star of
# the naive version. Its shares are 5/13 for the hub and 2/13 for each leaf, in proportion to 1 + degree.

# %%
plain = topology.star(5).adjacency().toarray() + np.eye(5)
plain = plain / plain.sum(axis=1, keepdims=True)  # the naive version's matrix
start = np.array([[10.0], [0], [0], [0], [0]])
ends = {
    name: np.linalg.matrix_power(matrix, 1_000) @ start
    for name, matrix in {"plain mean": plain, "Metropolis": W.toarray()}.items()
}
for name, end in ends.items():
    print(f"{name}: all five nodes end at {end.min():.3f} to {end.max():.3f}")

# %% tags=["check"]
one, limit = gossip(W.toarray(), start)
assert np.allclose(one, exchange.mix(torch.from_numpy(start.copy()), W).numpy())
assert np.allclose(limit, start.mean(0))
assert np.allclose(gossip(plain, start)[1], ends["plain mean"][0])

# %% [markdown]
# ## How fast?
#
# Let $e(t)$ be how far the nodes are from their mean. One round multiplies what is left of the differences by the eigenvalues of $W$ other than the 1 that belongs to
# the mean, so with $\lambda_2$, the largest of them **without its sign**,
#
# $$ e(t) \le |\lambda_2|^t \, e(0) $$
#
# $1 - |\lambda_2|$ is the **spectral gap**: the wider, the faster. It is known before anybody has trained anything.
#
# ### Exercise 5.3: the gap predicts convergence
#
# Write `rounds_needed(W, error)`: for a symmetric, doubly stochastic `W` (K, K), the smallest number of rounds t from 1 for which
# $|\lambda_2|^t$ is `error` or less.
#
# <details><summary>Hint</summary>
#
# `np.linalg.eigvalsh(W)` are the eigenvalues, ascending; the last is 1. The logarithms of two numbers below 1 are both negative. A complete
# graph's $\lambda_2$ is 0, or $10^{-17}$ by rounding: it needs one round.
# </details>


# %% tags=["exercise"]
# Exercise 5.3: the gap predicts convergence
def rounds_needed(W, error):  # (K, K), float -> int
    # solution
    second = np.abs(np.linalg.eigvalsh(W)[:-1]).max()
    return max(1, math.ceil(math.log(error) / math.log(max(second, 1e-12))))
    # end solution


# %% tags=["check"]
check.rounds_needed(rounds_needed)

# %% [markdown] tags=["instructor"]
# **Exercise 5.3: 15 minutes.** Common mistakes: the second of the ascending eigenvalues, an eigenvalue of -0.9 forgotten, rounding down. Ask
# back: a ring of a thousand nodes has a gap of about 0.00001; what follows for messages that must go half around?

# %% [markdown]
# Your prediction, and one graph more: in an **exponential graph** node $i$ is linked with nodes $i \pm 1, i \pm 2, i \pm 4, i \pm 8$ and so on, counted
# around a ring.

# %%
GRAPHS = {
    name: topology.TOPOLOGIES[name](K, seed)
    for name in ("ring", "star", "torus", "exponential", "complete")
}
rows = {}
for name, graph in GRAPHS.items():
    W = topology.mixing_matrix(graph)
    rows[name] = {
        "links": len(graph.edges),
        "spectral gap": topology.spectral_gap(W),
        "rounds to 1/1000": topology.rounds_to(W, 1e-3),
        "the same for 1,024 nodes": topology.rounds_to(
            topology.mixing_matrix(topology.TOPOLOGIES[name](1024, seed)), 1e-3
        ),
    }
pd.DataFrame(rows).T.round(3)

# %% tags=["check"]
for graph in GRAPHS.values():
    W = topology.mixing_matrix(graph)
    assert rounds_needed(W.toarray(), 1e-3) == topology.rounds_to(W, 1e-3), graph.name

# %% [markdown]
# Was your order right? The star is fast for few nodes, and its hub carries every message; the exponential graph needs some thirty rounds for a
# thousand nodes, with some twenty links a node. Counted, beside what the gap predicts:

# %%
scattered = torch.randn(
    K, 50, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
)
curves = {}
for name in ("ring", "star", "torus"):
    W, x = topology.mixing_matrix(GRAPHS[name]), scattered.clone()
    first = simulation.consensus(x)
    distances = [simulation.consensus(exchange.mix(x, W)) / first for _ in range(40)]
    curves[name] = distances
    curves[f"{name}, predicted"] = (topology.second_eigenvalue(W) ** np.arange(1, 41)).tolist()
fig = plots.line(curves, ylabel="distance from the mean", xlabel="round", log=True)
plots.show(
    fig,
    "Distance from the mean by round on a log scale; after 40 rounds "
    + ", ".join(f"{name} {values[-1]:.2g}" for name, values in curves.items())
    + ".",
)

# %% [markdown]
# Straight lines on a log scale, each parallel to its prediction after a few rounds and never above it.
#
# ## Now they learn
#
# A small network, whose parameters begin alike at all nodes. Features are scaled alike too, and nobody may pool the rows for that: each node sends the
# number of its rows, the sum of each feature's logarithm and the sum of its square (`statistics.feature_sums`). The means and deviations of all rows
# follow from the sums of these sums.


# %%
def network(state):
    """A network 24-32-c whose start comes from `state` alone."""
    with torch.random.fork_rng():
        torch.manual_seed(state)
        hidden, answer = torch.nn.Linear(24, 32), torch.nn.Linear(32, len(classes))
        return torch.nn.Sequential(hidden, torch.nn.ReLU(), answer)


def arranged(state, alpha=0.3, nodes=K):
    """(clients, test rows scaled alike) of a skewed division that comes from `state`."""
    homes = splits.partition_dirichlet(y[earlier], nodes, alpha, seed=state, least=20)
    parts = [earlier[home] for home in homes]
    scaled_by = statistics.scaler(sum(statistics.feature_sums(X[part]) for part in parts))
    return batched.Clients.of(scaled_by.transform(X), y, parts), scaled_by.transform(X[later])


def federate(state, graph, rounds=settings.rounds, alpha=0.3, local=None, **options):
    """A federation that has run."""
    clients, Z = arranged(state, alpha)
    local = local or batched.SGD(epochs=1, learning_rate=0.1)
    made = simulation.Federation(
        network(state), clients, graph, seed=state, local=local, test=(Z, y[later]), **options
    )
    made.run(rounds)
    return made


# %% [markdown]
# Rivals, on the same rows and with the same seeds: each node **alone** (a mixing matrix of ones on the diagonal), a **server** that averages
# all (federated averaging, lesson 06), and **one network with all rows**, which nobody wanted, trained for as many epochs.

# %%
states = range(seed, seed + settings.seeds)
ARRANGEMENTS = {
    "alone": topology.mixing_matrix(topology.from_edges([], nodes=K)),
    "ring": topology.ring(K),
    "torus": topology.torus(K),
    "random, 4 neighbours": topology.random_regular(K, 4, seed),
    "complete": topology.complete(K),
    "server": None,
}
runs = {name: [federate(s, graph) for s in states] for name, graph in ARRANGEMENTS.items()}

# %%
pooled = []
for state in states:
    clients, Z = arranged(state)
    everyone = batched.Clients.of(clients.X, clients.y, [np.arange(len(clients.X))])
    alone = simulation.Federation(
        network(state),
        everyone,
        seed=state,
        local=batched.SGD(learning_rate=0.1),
        test=(Z, y[later]),
    )
    pooled.append(alone.run(settings.rounds)["accuracy"].iloc[-1])
finals = {
    name: [made.history["accuracy"].iloc[-1] for made in found] for name, found in runs.items()
}
finals["all rows in one place"] = pooled
accuracy = {
    name: evaluation.interval_over_seeds(values, bounds=(0, 1))
    for name, values in finals.items()
}
majority = float((y[later] == np.bincount(y[earlier]).argmax()).mean())
fig = plots.bars(
    accuracy | {"always the commonest": majority},
    xlabel="accuracy on later flows, mean over nodes",
)
plots.show(fig, "; ".join(f"{name} {value}" for name, value in accuracy.items()) + ".")

# %%
macro = {}
for name, found in runs.items():
    f1s = []
    for made in found:
        _, Z = arranged(made.seed)
        with torch.inference_mode():
            said = made.fitted(0)(torch.from_numpy(Z)).argmax(1).numpy()
        f1s.append(evaluation.metrics(classes[y[later]], classes[said])["macro_f1"])
    macro[name] = float(np.mean(f1s))
pd.DataFrame(
    {
        "accuracy": {name: str(accuracy[name]) for name in runs},
        "macro-F1 of node 0": macro,
        "distance between nodes": {
            n: f[0].history["consensus"].iloc[-1] if n != "server" else 0
            for n, f in runs.items()
        },
    }
).round(3)

# %% [markdown]
# On the complete graph all nodes are alike after every round, as with the server; the server weighs each by its rows, neighbours count each other alike.
# These are accuracies in the **same** networks, later. Lessons 03 and 04 say what becomes of it in a network that nobody has seen; a
# federation changes who holds the flows, not what they are good for.
#
# One figure for a topology: who is linked, how the distance between nodes goes, how the accuracy does. Then move the slider.


# %%
def draw_topology(name):
    """The graph, the distance between nodes and the accuracy by round."""
    made = runs[name][0]
    fig = matplotlib.figure.Figure(figsize=(plots.WIDTH, 3.2), layout="constrained")
    left, middle, right = fig.subplots(1, 3)
    topology.draw(ARRANGEMENTS[name], ax=left)
    for axes, column in ((middle, "consensus"), (right, "accuracy")):
        axes.plot(made.history["round"], made.history[column])
        axes.set(
            xlabel="round", title={"consensus": "distance between nodes"}.get(column, column)
        )
    right.set_ylim(0, 1)
    last = made.history.iloc[-1]
    words = f"{name}: after {int(last['round'])} rounds distance {last['consensus']:.3f}, accuracy {last['accuracy']:.3f}."
    return fig, words


plots.show(*draw_topology("ring"))

# %%
choices = ["ring", "torus", "random, 4 neighbours", "complete"]
plots.slider(draw_topology, options=choices, start="ring", name="topology")

# %% [markdown]
# ## What it costs
#
# A node sends all its parameters, 4 bytes each, to each of its neighbours in every round.
#
# ### Exercise 5.4 (extra): messages counted
#
# Write `bytes_sent(A, P, rounds)`: the bytes that all nodes together send in `rounds` rounds, with `A` (K, K) as above and `P` parameters of 4
# bytes.
#
# <details><summary>Hint</summary>
#
# A link carries two messages a round, one each way; `A.sum()` counts both.
# </details>


# %% tags=["exercise"]
# Exercise 5.4 (extra): messages counted
def bytes_sent(A, P, rounds):  # (K, K), int, int -> int
    # solution
    return int(A.sum()) * P * 4 * rounds
    # end solution


# %% tags=["check"]
check.bytes_sent(bytes_sent)

# %%
P = len(batched.vector(network(seed)))
as_text = len(
    flows.iloc[earlier].to_csv(sep="\t", index=False).encode()
)  # as a log, a line a flow
costs = {}
for name, found in runs.items():
    sent = found[0].history["bytes"].sum()
    costs[name] = {
        "bytes sent, all rounds": sent,
        "per byte of the raw flows": sent / as_text,
        "accuracy": accuracy[name].value,
    }
print(f"{P:,} parameters; the flows that stayed where they are: {as_text:,} bytes as text")
pd.DataFrame(costs).T.round(3)

# %% tags=["check"]
for name in ("ring", "torus", "complete"):
    adjacency = ARRANGEMENTS[name].adjacency().toarray()
    assert bytes_sent(adjacency, P, settings.rounds) == runs[name][0].history["bytes"].sum()

# %% [markdown]
# A federation is said to save bandwidth. Where few flows are held, sending a model every round to every neighbour costs more than sending the
# flows once; a node with a million flows sees it the other way round. It is not for the bytes that the flows stay at home.
#
# Less can be sent: only the largest changes, with the rest kept for later (CHOCO), or nothing at all from a node that has hardly changed.

# %%
THRIFT = {
    "all parameters": exchange.Gossip,
    "a tenth of the changes": lambda: exchange.Compressed(exchange.top_k(0.1), step=0.3),
    "only who has changed": lambda: exchange.Compressed(exchange.when_changed(0.3)),
}
thrifty = {}
for name, make in THRIFT.items():
    made = federate(seed, topology.torus(K), exchange=make())
    last = made.history.iloc[-1]
    thrifty[name] = {
        "MB sent": made.history["bytes"].sum() / 1e6,
        "accuracy": last["accuracy"],
        "distance": last["consensus"],
    }
pd.DataFrame(thrifty).T.round(3)

# %% [markdown]
# ## Extra: the more unlike the nodes, the harder
#
# The smaller $\alpha$, the more skewed the labels. What helps on a ring? To talk more often than to train, to take smaller steps, or to be pulled
# back to where the round began (FedProx)?

# %%
ring = topology.mixing_matrix(topology.ring(K))
often = ring @ ring @ ring  # three rounds of talk for one of training
REMEDIES = {
    "as it is": (ring, {}),
    "three times the talk": (often, {}),
    "smaller steps": (ring, {"learning_rate": 0.03}),
    "FedProx": (ring, {"proximal": 0.1}),
}
skewed = {}
for alpha in (0.1, 100.0):
    for name, (W, change) in REMEDIES.items():
        how = dataclasses.replace(batched.SGD(learning_rate=0.1), **change)
        made = federate(seed, W, alpha=alpha, local=how)
        skewed[(name, f"alpha {alpha:g}")] = made.history["accuracy"].iloc[-1]
pd.Series(skewed).unstack().loc[list(REMEDIES)].round(3)

# %% [markdown]
# One seed and one data set: a difference of a point is none. Three times the talk also costs three times the bytes.
#
# ## Extra: a node dies, and the network splits
#
# Two rings of eight are joined by two links. They fail after the second round and come back after the sixtieth. Nothing is trained: each half keeps
# its own mean, and both find the common one when the links are back. A node that dies takes its links with it and is a half of one.

# %%
half = [(i, (i + 1) % 8) for i in range(8)]
halves = topology.from_edges([*half, *((a + 8, b + 8) for a, b in half)])
joined = topology.from_edges([*halves.edges.tolist(), (0, 8), (1, 9)])
apart, whole = topology.mixing_matrix(halves), topology.mixing_matrix(joined)
x = scattered[:, :1].clone()
x[8:] += 3
seen = []
for t in range(300):
    exchange.mix(x, apart if 2 <= t < 60 else whole)
    seen.append(x[:, 0].clone().numpy())
lines = {f"node {i}": [state[i] for state in seen] for i in (0, 4, 8, 12)}
fig = plots.line(lines, ylabel="what the node holds", xlabel="round")
plots.show(
    fig,
    f"After round 60 two opinions, {seen[59][4]:.2f} and {seen[59][12]:.2f}; "
    f"at the end all nodes hold {seen[-1].min():.2f} to {seen[-1].max():.2f}.",
)

# %% [markdown]
# `topology.failing` and `topology.churn` make such networks at random; any iterable of mixing matrices can be the topology of a `Federation`.
#
# ## Extra: a detector that nobody's flows left home for
#
# The autoencoder of lesson 03, trained on benign flows by the ring. Its threshold, too, comes from sums: each node counts how many scores of benign
# flows that it held out lie in each of 282 intervals, and the counts are added.

# %%
harmless = [part[y[part] == benign] for part in held]
harmless = [part for part in harmless if len(part) >= 20]
fit, rest = (
    [part[: len(part) * 3 // 4] for part in harmless],
    [part[len(part) * 3 // 4 :] for part in harmless],
)
scaled_by = statistics.scaler(sum(statistics.feature_sums(X[part]) for part in fit))
Z = scaled_by.transform(X)  # each node scales its own rows; here they stand in one array
watchers = simulation.Federation(
    autoencoder.layers(24, 16, 4, torch.Generator().manual_seed(seed)),
    batched.Clients.of(Z, Z, fit),  # an autoencoder's target is its input
    topology.ring(len(fit)),
    seed=seed,
    loss=batched.squared_error,
    local=batched.SGD(learning_rate=0.02, momentum=0.9),
)
watchers.run(settings.rounds)

# %%
scorer = statistics.autoencoder(watchers.fitted(), scaled_by, 0)
counts = sum(statistics.score_counts(scorer.score_samples(X[part])) for part in rest)
together = statistics.autoencoder(
    watchers.fitted(), scaled_by, statistics.threshold(counts, 0.01)
)
collected = autoencoder.Autoencoder(seed=seed).fit(
    X[np.concatenate(fit)], X[np.concatenate(rest)]
)
bad = y[later] != benign
for name, detector in (("federated", together), ("all rows in one place", collected)):
    alarms, scores = detector.predict(X[later]), detector.score_samples(X[later])
    print(
        f"{name}: attacks flagged {alarms[bad].mean():.3f}, benign flagged "
        f"{alarms[~bad].mean():.3f}, AUC {evaluation.auc(bad, scores):.3f}"
    )

# %% [markdown]
# Both thresholds promise 1 % on flows that the nodes held out; see what later flows make of the promise. `together` is an `Autoencoder` as any other: it
# can be saved and served. It is judged in the same networks; lesson 03 says how little that says of another.
#
# ## How many?
#
# Ten thousand nodes in one process, if they are trained together: the parameters of many nodes are one stack, and every layer is one batched product
# (`models/batched.py`; a plain loop stands beside it). Each node draws 200 of the flows here, so nodes share flows: this counts nodes, not
# accuracy.

# %%
counted, seconds = [], []
for state in states:
    draw = np.random.default_rng(state)
    many = [draw.choice(earlier, 200, replace=False) for _ in range(settings.nodes)]
    clients, _ = arranged(state)
    Z = statistics.scaler(statistics.feature_sums(X[earlier])).transform(X)
    crowd = simulation.Federation(
        network(state),
        batched.Clients.of(Z, y, many),
        topology.random_regular(settings.nodes, 4, state),
        seed=state,
    )
    history = crowd.run(2)
    counted.append(len(crowd.clients) if len(history) == 2 else 0)
    seconds.append(history["seconds"].mean())
print(
    f"{min(counted):,} nodes, {np.mean(seconds):.2f} s a round, {crowd.history['bytes'].sum() / 1e6:,.0f} MB sent"
)

# %% [markdown]
# ## Quiz
#
# <details><summary>1. All nodes agree. Have they learnt?</summary>
#
# Agreement says nothing about what they agree on. The naive version agreed on the wrong number, and nodes that never train agree on their start.
# </details>
#
# <details><summary>2. A ring of 1,000 nodes and a star of 1,000 nodes: which would you build?</summary>
#
# Neither, if you can help it. The ring needs hundreds of thousands of rounds; the star's hub carries every message and everything ends with it. An exponential graph
# or a random one with a few links a node needs a few dozen rounds.
# </details>
#
# <details><summary>3. Why are features scaled by sums and not each node by its own?</summary>
#
# A parameter that is averaged must mean the same everywhere. Where one node divides bytes by a thousand and another by ten, the mean of their weights means nothing.
# </details>
#
# <details><summary>4. Nobody sees another's flows. Is that privacy?</summary>
#
# Not yet. Parameters tell about the rows that they were trained on; lessons 07 and 08 measure how much, and what hides it.
# </details>

# %% [markdown]
# ## Recap
#
# - Without a server, nodes take weighted means of their neighbours' parameters. Fair weights keep the mean of all.
# - How fast they agree is known beforehand: the spectral gap of the mixing matrix.
# - On a well-linked graph the nodes do what a server would have done; on a ring they lag, the more so the less alike their flows are.
# - Count the bytes. A federation keeps flows at home; it does not send less by itself.
#
# **Limits.** One machine plays all nodes, in step with each other, on flows dealt out from a few captures. Real nodes differ in speed (`slowness`,
# `asynchronous`), lie (lesson 09), and break (lesson 12 runs real peers).
#
# **Ethics.** "Your data never leaves your home" is true and not the whole truth: what is sent was made of it.
#
# **References.** Xiao, Boyd and Kim 2007, *Distributed average consensus with least-mean-square deviation*, doi 10.1016/j.jpdc.2006.08.010. Boyd et al. 2006, *Randomized
# gossip algorithms*, doi 10.1109/TIT.2006.874516. Lian et al. 2017, *Can decentralized algorithms outperform centralized algorithms?*, arXiv 1705.09056. McMahan et
# al. 2017, *Communication-efficient learning of deep networks from decentralized data*, arXiv 1602.05629. Koloskova et al. 2019, *Decentralized stochastic
# optimization and gossip algorithms with compressed communication*, arXiv 1902.00340. Ying et al. 2021, *Exponential graph is provably efficient*, arXiv 2110.13363.
# Li et al. 2020, *Federated optimization in heterogeneous networks* (FedProx), arXiv 1812.06127.

# %% tags=["summary"]
numbers = {"nodes": K, "parameters": P, "accuracy of always the commonest class": majority}
over = {"nodes simulated to the last round": counted}
ratios = [made.history["bytes"].sum() / as_text for made in runs["ring"]]
over["bytes of all rounds per byte of raw flows"] = ratios
for name, values in over.items():
    interval = evaluation.interval_over_seeds([float(value) for value in values])
    numbers[f"{name} (interval over seeds)"] = dataclasses.asdict(interval)
for name, interval in accuracy.items():
    numbers[f"accuracy, {name} (interval over seeds)"] = dataclasses.asdict(interval)
for name, row in thrifty.items():
    numbers[f"MB sent, {name}"] = float(row["MB sent"])
print(json.dumps(numbers))
