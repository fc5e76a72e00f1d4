# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From Zeek's log to features
#
# Before: [00 Start here](00_start_here.ipynb) · Next: [03 Flag what was never seen](03_autoencoder.ipynb)

# %% [markdown]
# | you will be able to | before | minutes | runs in |
# |---|---|---|---|
# | read a conn log and name its traps; turn flows into 24 numbers; say how well any model can possibly do on them; tell an honest split from a flattering one | lesson 00; pandas | 60 | 15 s |

# %% tags=["parameters"]
profile = "fast"  # "full" takes longer and draws more seeds
seed = 7  # every random choice comes from it
dataset = "auto"  # "iot23": real captures, "sample": simulated ones, "auto": real ones where they are present

# %%
import dataclasses, json
import numpy as np, pandas as pd
from sklearn.ensemble import RandomForestClassifier
from fliot_lab import evaluation, plots
from fliot_lab.data import iot23, splits, zeek
from fliot_lab.data.layout import open_log

# %%
source = iot23.locate(dataset, seed=seed)
print(source.banner)
logs = iot23.captures(source.root)

# %% [markdown]
# ## The question
#
# A sensor has written a text file. **What can a model learn from it, and what could no model learn from it, however clever?**
#
# Look at the file first: its header, and three of its rows.

# %%
flows = iot23.load("small", dataset=source.name, seed=seed)
attacks = flows["label"] != "Benign"
largest = flows.loc[attacks, "capture"].value_counts().idxmax()
with open_log(logs[largest]) as file:  # also where it is compressed
    lines = file.read().decode().splitlines()
print(*[line[:90] for line in lines[:11]], sep="\n")

# %%
counts = flows["label"].value_counts()
counts = counts[counts > 0]
fig = plots.class_balance(
    counts.to_dict(), title=f"{len(flows):,} flows in {len(logs)} captures"
)
plots.show(
    fig,
    "Flows by class on a log scale. "
    + ", ".join(f"{name}: {count:,}" for name, count in counts.items())
    + ".",
)

# %% [markdown]
# The axis is logarithmic: the largest class has hundreds or thousands of times as many flows as the smallest. Accuracy is a
# question about the largest.

# %% [markdown]
# ## The idea
#
# A flow becomes a vector $x \in \mathbb{R}^{24}$. Flows that become **the same** vector cannot be told apart by any model. So there is a
# best possible accuracy, a ceiling that depends on the features alone:
#
# $$ A^{*} = \frac{1}{n} \sum_{v \in V} \max_{c} \; n_{v,c} $$
#
# $n$: number of flows; $V$: the distinct vectors among them; $c$: a class; $n_{v,c}$: how many flows have vector $v$ and class $c$. In
# words: for each vector, answer with its commonest class. Nothing that sees only $x$ can do better on these flows.

# %% [markdown]
# ## The naive version: a reader in eleven lines


# %%
def read_naively(lines):
    names, rows = [], []
    for line in lines:
        if line.startswith("#fields"):
            names = line.split("\t")[1:-1] + ["tunnel_parents", "label", "detailed-label"]
        elif not line.startswith("#"):
            *values, last = line.split("\t")  # 21 fields, of which the last holds three
            values += last.split("   ")  # joined by three spaces: 23 values
            rows.append([None if value == "-" else value for value in values])
    return pd.DataFrame(rows, columns=names)  # (n, 23), all of it text


naive = read_naively(lines)
naive.iloc[:3, :12]

# %% [markdown]
# It works, slowly, and leaves every number a text. The package's reader does the same with types, checks each row, and names the
# file and the line when one is damaged. Both must agree:

# %%
capture = zeek.read_conn_log(logs[largest])  # (n, 23)
assert len(capture) == len(naive)
assert (capture["uid"].to_numpy() == naive["uid"].to_numpy()).all()
assert np.array_equal(
    capture["duration"].fillna(-1), naive["duration"].astype(float).fillna(-1)
)
assert np.array_equal(
    capture["orig_bytes"].fillna(-1), naive["orig_bytes"].astype(float).fillna(-1)
)
capture.dtypes.rename("type").to_frame().T.iloc[:, :12]

# %% [markdown]
# ## Traps in the file
#
# Each has cost somebody a result. Here they are, counted in what you have in front of you.


# %%
def traps(frame):
    known = frame.dropna(subset=["duration"])
    unset = frame[["duration", "orig_bytes", "resp_bytes"]].isna()
    return {
        "flows": len(frame),
        "out of order in time": int((frame["ts"].diff().dt.total_seconds() < 0).sum()),
        "duration unset, %": round(100 * (1 - len(known) / len(frame)), 1),
        "unset together": bool((unset.all(axis=1) == unset.any(axis=1)).all()),
        "spellings of benign": ", ".join(
            sorted(t.split()[0] for t in frame["label_original"].unique() if "enign" in t)
        ),
        "IPv6": int(frame["id.orig_h"].str.contains(":").sum()),
        "turned round (^)": int(frame["history"].astype("str").str.startswith("^").sum()),
    }


pd.DataFrame({name: traps(part) for name, part in flows.groupby("capture", observed=True)}).T

# %% [markdown]
# - **Order.** Zeek writes a flow when it is over, so a long flow comes late. Sort by `ts` before you split by time.
# - **Unset is not zero.** A flow of one packet has no duration. The published study writes 0 there, and so do we: the packet count
#   still tells the two apart.
# - **Spelling.** `benign` in one capture and `Benign` in another are two classes to a program.
# - **Names.** Addresses and times name the capture. A model that sees them learns which file it is in.

# %% [markdown]
# ## From flow to vector

# %%
from fliot_lab.features.flows import FLOW_FEATURES, FLOW_FEATURES_EXTENDED, flow_features

QUANTITIES = [
    "duration",
    "orig_bytes",
    "resp_bytes",
    "missed_bytes",
    "orig_pkts",
    "orig_ip_bytes",
    "resp_pkts",
    "resp_ip_bytes",
]
STATES = [
    "OTH",
    "REJ",
    "RSTO",
    "RSTOS0",
    "RSTR",
    "RSTRH",
    "S0",
    "S1",
    "S2",
    "S3",
    "SF",
    "SH",
    "SHR",
]


def features_naively(flow):  # one row -> (24,)
    numbers = [0.0 if pd.isna(flow[name]) else float(flow[name]) for name in QUANTITIES]  # 8
    protocol = [float(flow["proto"] == name) for name in ("icmp", "tcp", "udp")]  # 3
    return np.array(
        numbers + protocol + [float(flow["conn_state"] == name) for name in STATES],
        dtype=np.float32,
    )  # 13


X, names = flow_features(flows)  # (n, 24) float32
some = np.random.default_rng(seed).choice(len(flows), 200, replace=False)
assert np.array_equal(X[some], np.array([features_naively(flows.iloc[i]) for i in some]))
pd.DataFrame(
    [[f.name, f.unit, f.meaning] for f in FLOW_FEATURES], columns=["feature", "unit", "meaning"]
).head(12)

# %% [markdown]
# ## Predict before you run
#
# How many of the flows share their vector with another flow? How many share it with a flow of **another class**? Write down two
# percentages.

# %%
y = flows["label"].astype(str).to_numpy()
captures = flows["capture"].astype(str).to_numpy()
found = evaluation.conflicts(X, y)
vectors, size = np.unique(X, axis=0, return_counts=True)
print(f"{found.rows:,} flows, {found.vectors:,} distinct vectors")
print(
    f"{100 * size[size > 1].sum() / len(X):.1f} % of the flows share their vector with another flow"
)
print(f"{100 * found.conflicted:.1f} % share it with a flow of another class")
print(f"best possible accuracy: {found.best_possible_accuracy:.3f}")

# %% [markdown]
# The ceiling is a fact about features, not about models: with more features it rises. Whether a model in a new network could use
# them is another question, to which the last part of this lesson and lesson 04 come.

# %%
X_extended, _ = flow_features(flows, FLOW_FEATURES_EXTENDED)  # (n, 59)
ceilings = {
    "24 features": found,
    "with history, service, port class": evaluation.conflicts(X_extended, y),
}
pd.DataFrame({name: dataclasses.asdict(value) for name, value in ceilings.items()}).T.round(3)

# %% [markdown]
# ## Rows and events
#
# Flows of one class in one capture that follow each other within a minute are one event: one scan, one flood.


# %%
def draw_events(gap):
    by_class = evaluation.events(flows["ts"], y, captures, gap_s=gap)["events"]
    fig = plots.class_balance(by_class, title=f"events at a gap of {gap} s", xlabel="events")
    return fig, f"Events by class at a gap of {gap} s: {by_class.to_dict()}"


plots.show(*draw_events(60))
evaluation.events(flows["ts"], y, captures, gap_s=60)

# %% [markdown]
# What is "one event"? Move the slider, and look for the classes whose count hardly changes: those are the bursts.

# %%
plots.slider(draw_events, options=[1, 10, 60, 600, 3600], start=60, name="gap in s")

# %% [markdown]
# ## Why a random split lies
#
# A forest is trained on one part of the flows and asked about the other. Four ways to part them:
#
# | split | the question it asks |
# |---|---|
# | random rows | can the model recall a flow whose twin it has seen? |
# | random rows, twins removed | can it name a vector that it has not seen, from the same minutes? |
# | by time | can it name what comes later in the networks that it knows? |
# | by capture | can it name what happens in a network that it has never seen? |
#
# **Predict before you run:** order the four by accuracy, and guess the last one.


# %%
def forest(train, test, state):
    model = RandomForestClassifier(30, n_jobs=2, random_state=state)
    return model.fit(X[train], y[train]).predict(X[test])


def by_capture(state):
    """Every capture is left out once; the answers for all of them, together."""
    parts = [
        (test, forest(train, test, state))
        for _, train, test in splits.leave_one_capture_out(captures)
    ]
    order, answers = (np.concatenate(part) for part in zip(*parts, strict=True))
    return order, answers


train, test = splits.random_rows(len(y), 0.3, seed)
_, unseen = splits.without_duplicates(X, train, test)
earlier, later = splits.by_time(flows["ts"], captures, 0.3)
everyone, answers = by_capture(seed)
rows = {
    "random rows": (y[test], forest(train, test, seed)),
    "random rows, twins removed": (y[unseen], forest(train, unseen, seed)),
    "by time": (y[later], forest(earlier, later, seed)),
    "by capture": (y[everyone], answers),
}
twins = 1 - len(unseen) / len(test)
print(f"{100 * twins:.0f} % of the random test rows have a twin in training")
results = evaluation.results_table(rows, benign="Benign").dropna(axis=1, how="all").round(3)
results

# %%
fig = plots.bars(
    {name: evaluation.metrics(*pair)["accuracy"] for name, pair in rows.items()},
    xlabel="accuracy of one forest",
)
plots.show(
    fig,
    "Accuracy of the same forest by split: "
    + ", ".join(f"{r.model} {r.accuracy:.2f}" for r in results.itertuples())
    + ".",
)

# %% [markdown]
# The same model, the same flows, the same features. Only the question changed. And the accuracy hides the small classes; their
# recall does not:

# %%
recalls = {name: evaluation.per_class_recall(*pair)["recall"] for name, pair in rows.items()}
support = pd.Series(y).value_counts().rename("flows")
pd.concat([support, *[recall.rename(name) for name, recall in recalls.items()]], axis=1).round(
    2
)

# %% [markdown]
# ### How sure are we?
#
# Two kinds of doubt. Another **seed** gives another forest; another set of **captures** gives another world. The second is the
# larger, and with so few captures an interval over them is wide. That is what we know.

# %%
more = range(seed + 1, seed + (5 if profile == "full" else 3))
runs = [(everyone, answers), *map(by_capture, more)]
over_seeds = evaluation.interval_over_seeds(
    [evaluation.metrics(y[order], given)["accuracy"] for order, given in runs], bounds=(0, 1)
)
over_captures = evaluation.bootstrap(
    lambda right: right.mean(),
    (y[everyone] == answers).astype(float),
    groups=captures[everyone],
    seed=seed,
)
print(f"accuracy by capture over {len(runs)} seeds: {over_seeds}")
print(f"accuracy by capture over captures:    {over_captures}")

# %% [markdown]
# ## Quiz
#
# <details><summary>1. A paper reports 99 % accuracy on IoT-23 with a random split. What do you ask first?</summary>
#
# How many test rows have a twin in training, and what a split by capture gives.
# </details>
#
# <details><summary>2. Adding the responder's port raises the ceiling. Is it a good feature?</summary>
#
# In these captures a class often uses one port, so the port names the class, here. In another network the bot uses another port.
# A ceiling that rises is permission, not a promise.
# </details>
#
# <details><summary>3. Why is the ceiling computed on all flows and not on the test flows of a split?</summary>
#
# It is a property of the features on a set of flows. It may be computed on any set; it always knows the answers, so it is never
# a forecast.
# </details>
#
# <details><summary>4. Fill unset durations with the mean instead of 0: what changes?</summary>
#
# A flow of one packet would look like an average conversation. Zero is wrong as well, but the packet counts make it recognisable.
# </details>

# %% [markdown]
# ## Recap
#
# - A conn log has traps; a reader that checks every row is worth its lines.
# - Features set a ceiling before any model is chosen. Measure it first.
# - Rows are not examples. Count events.
# - A random split of traffic asks whether the model can recall. Split by capture to ask whether it has learnt.
#
# **Limits.** A few captures of a few hours each, from one laboratory. Labels were made by analysts and by rules, and some flows
# called benign look like the attack around them. One forest stands for all models here; lesson 04 compares more.
#
# **Ethics.** Flows are personal data, even without their contents. Use captures under their terms, and cite the people who made them.
#
# **References.** Garcia, Parmisano, Erquiaga 2020, *IoT-23*, doi 10.5281/zenodo.4743746. Paxson 1999, *Bro: a system for detecting
# network intruders in real-time*, Computer Networks 31. Arp et al. 2022, *Dos and don'ts of machine learning in computer security*,
# USENIX Security, arXiv 2010.09470. Zeek's manual, *conn.log*.
#
# Next: [03 Flag what was never seen](03_autoencoder.ipynb)

# %% tags=["summary"]
print(
    json.dumps(
        {
            "flows": len(flows),
            **{f"flows labelled {name}": int(count) for name, count in counts.items()},
            "distinct vectors of the 24 features": found.vectors,
            "share of flows in vectors of several classes": found.conflicted,
            "best possible accuracy, 24 features": found.best_possible_accuracy,
            "share of random test rows with a twin in training": twins,
            "forest accuracy, random rows": evaluation.metrics(*rows["random rows"])[
                "accuracy"
            ],
            "forest accuracy, by time": evaluation.metrics(*rows["by time"])["accuracy"],
            "forest accuracy, by capture (interval over seeds)": dataclasses.asdict(over_seeds),
            "forest accuracy, by capture (interval over captures)": dataclasses.asdict(
                over_captures
            ),
        }
    )
)
