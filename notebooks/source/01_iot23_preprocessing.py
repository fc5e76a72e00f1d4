# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From Zeek's log to features

# %% tags=["parameters"]
profile = "fast"  # "full" takes longer and draws more seeds
seed = 7  # every random choice comes from it
dataset = "auto"  # "iot23": real captures, "sample": simulated ones, "auto": real ones where they are present

# %%
import dataclasses, json, numpy as np, pandas as pd
from sklearn.ensemble import RandomForestClassifier
from fliot_lab import ROOT, evaluation, plots, profiles
from fliot_lab.course.checks import lesson_01 as check
from fliot_lab.data import iot23, layout, splits, zeek
from fliot_lab.features.flows import FLOW_FEATURES, FLOW_FEATURES_EXTENDED, flow_features

# %%
source = iot23.locate(dataset, seed=seed)
print(source.banner)
settings = profiles.settings("01_iot23_preprocessing", profile)
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
with layout.open_log(logs[largest]) as file:  # also where it is compressed
    lines = file.read().decode().splitlines()
print(*[line[:90] for line in lines[:11]], sep="\n")

# %%
counts = flows["label"].value_counts()
counts = counts[counts > 0]
fig = plots.class_balance(
    counts.to_dict(), title=f"{len(flows):,} flows in {flows['capture'].nunique()} captures"
)
plots.show(
    fig,
    "Flows by class on a log scale. "
    + ", ".join(f"{name}: {count:,}" for name, count in counts.items())
    + ".",
)

# %% [markdown]
# The axis is logarithmic: the largest class has hundreds or thousands of times as many flows as the smallest. Accuracy is a
# question about the large classes.

# %% [markdown]
# ## The idea
#
# A flow becomes a vector $x \in \mathbb{R}^{24}$. Flows that become **the same** vector cannot be told apart by any model. So there is a
# best possible accuracy, a ceiling that depends on the features alone:
#
# $$ A^{*} = \frac{1}{n} \sum_{v \in V} \max_{c} \; n_{v,c} $$
#
# $n$: number of flows; $V$: the distinct vectors among them; $c$: a class; $n_{v,c}$: how many flows have vector $v$ and class $c$. In
# words: for each vector, answer with its commonest class. Nothing that sees only $x$ can do better on these flows, all of them together; on a part of
# them the ceiling is another.

# %% [markdown] tags=["instructor"]
# **Teaching this lesson: 95 minutes, in two sittings.** First the file, the traps and the ceiling: question and idea 10, reader and
# traps 15, features 5, exercise 1.1 15. Then events and splits: exercise 1.2 10, events 5, exercise 1.3 10, the four splits 15, doubt and
# quiz 10. The extra exercise 1.4 takes another 20 and makes good homework.
#
# Let somebody compute the ceiling of six flows on the board before the formula is read out: the sum over vectors is clear at once
# then. Common mistake: to call the ceiling what a good model reaches. Ask back: which model could reach it, and what would it have to
# know?

# %% [markdown]
# ## The naive version


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
# - **Unset is not zero.** A flow of which Zeek counted at most one packet has no duration. The published study (a 2025 undergraduate
#   study of autoencoders and Flower on IoT-23) writes 0 there, and so do we: the packet counts still tell the two apart.
#   "Unset together": the duration is missing in a row exactly where both byte counts are.
# - **Spelling.** `benign` in one capture and `Benign` in another are two classes to a program.
# - **IPv6.** Devices use both versions, and a split of addresses at the dots loses one of them.
# - **Turned round.** Where Zeek missed the first packet and guessed who began, it turns the flow and writes `^` into its history.
# - **Names.** Addresses and times name the capture. A model that sees them learns which file it is in.

# %% [markdown]
# ## From flow to vector

# %%
QUANTITIES = "duration orig_bytes resp_bytes missed_bytes orig_pkts orig_ip_bytes resp_pkts resp_ip_bytes"
STATES = "OTH REJ RSTO RSTOS0 RSTR RSTRH S0 S1 S2 S3 SF SH SHR"


def features_naively(flow):  # one row -> (24,)
    x = []
    for name in QUANTITIES.split():  # 8, with 0 for what is unset
        x.append(0.0 if pd.isna(flow[name]) else float(flow[name]))
    for name in ("icmp", "tcp", "udp"):  # 3
        x.append(float(flow["proto"] == name))
    for name in STATES.split():  # 13
        x.append(float(flow["conn_state"] == name))
    return np.array(x, dtype=np.float32)


X, names = flow_features(flows)  # (n, 24) float32
some = np.random.default_rng(seed).choice(len(flows), 200, replace=False)
assert np.array_equal(X[some], np.array([features_naively(flows.iloc[i]) for i in some]))
pd.DataFrame(
    [[f.name, f.unit, f.meaning] for f in FLOW_FEATURES], columns=["feature", "unit", "meaning"]
).head(12)

# %% [markdown] tags=["instructor"]
# **Traps and features: 20 minutes.** Let pairs find one trap each in the table and say what a program that does not know it would get
# wrong. Common mistakes: to drop flows without a duration, which drops whole floods; to keep the addresses "because
# accuracy is better". Ask back: what would the model say if the bot moved to another address?

# %% [markdown]
# ## Predict before you run
#
# How many of the flows share their vector with another flow? How many share it with a flow of **another class**? And how high is
# the ceiling $A^{*}$ then? Write down three numbers.

# %%
y = flows["label"].astype(str).to_numpy()  # (n,)
captures = flows["capture"].astype(str).to_numpy()  # (n,)
seconds = (flows["ts"] - flows["ts"].min()).dt.total_seconds().to_numpy()  # (n,)

# %% [markdown]
# ### Exercise 1.1: the ceiling
#
# Write `ceiling(X, y)`: from vectors (n, d) and their classes (n,) the best possible accuracy $A^{*}$ of the formula, one number.
# Vectors are compared exactly: values may be fractions, or large.
#
# <details><summary>Hint</summary>
#
# You need the counts $n_{v,c}$. A row of an array cannot be a dictionary's key, but `tuple(row)` can: a dictionary of
# `collections.Counter`s does it. With NumPy: `np.unique(X, axis=0, return_inverse=True)` numbers the vectors, and the same on `y`
# numbers the classes.
# </details>


# %% tags=["exercise"]
# Exercise 1.1: the ceiling
def ceiling(X, y):  # (n, d), (n,) -> float
    # solution
    vectors, v = np.unique(X, axis=0, return_inverse=True)
    classes, c = np.unique(y, return_inverse=True)
    counts = np.zeros((len(vectors), len(classes)))  # n_{v,c}
    np.add.at(counts, (v.ravel(), c), 1)
    return counts.max(axis=1).sum() / len(y)
    # end solution


# %% tags=["check"]
check.ceiling(ceiling)

# %% [markdown] tags=["solution"]
# `np.add.at` adds once for each flow; `counts[v, c] += 1` would add once for each pair that occurs.

# %% [markdown]
# The package counts the conflicts as well:

# %%
found = evaluation.conflicts(X, y)
vectors, size = np.unique(X, axis=0, return_counts=True)
print(f"{found.rows:,} flows, {found.vectors:,} distinct vectors")
print(
    f"{100 * size[size > 1].sum() / len(X):.1f} % of the flows share their vector with another flow"
)
print(f"{100 * found.conflicted:.1f} % share it with a flow of another class")
print(f"best possible accuracy: {found.best_possible_accuracy:.3f}")

# %% tags=["check"]
part = slice(None, None, 20)  # a part, so that a slow answer is no long wait
known = evaluation.best_possible_accuracy(X[part], y[part])
assert np.isclose(ceiling(X[part], y[part]), known)

# %% [markdown]
# The ceiling is a fact about features, not about models: with more features it never falls. Whether a model in a new network could use
# them is another question, to which the last part of this lesson and lesson 04 come.

# %%
X_extended, _ = flow_features(flows, FLOW_FEATURES_EXTENDED)  # (n, 59)
X_port = np.c_[X, flows["id.resp_p"]]  # (n, 25)
ceilings = {
    "24 features": found,
    "and history, service, port class": evaluation.conflicts(X_extended, y),
    "24 features and the responder's port": evaluation.conflicts(X_port, y),
}
pd.DataFrame({name: dataclasses.asdict(value) for name, value in ceilings.items()}).T.round(4)

# %% [markdown]
# ## Rows and events
#
# Flows of one class in one capture that follow each other within a minute are one event: one scan, one flood.

# %% [markdown]
# ### Exercise 1.2: count events
#
# Write `count_events(ts, gap_s)`: the number of events among flows of one class in one capture. `ts` (n,) holds their times in
# seconds, in any order, at least one. A flow belongs to the event of the flow before it, in time, when it follows within **less
# than** `gap_s` seconds; otherwise it begins the next event.
#
# <details><summary>Hint</summary>
#
# Sort first. `np.diff` gives the time from each flow to the next. How many of these part two events, and how many events are
# there when none does?
# </details>


# %% tags=["exercise"]
# Exercise 1.2: count events
def count_events(ts, gap_s):  # (n,), seconds -> int
    # solution
    pauses = np.diff(np.sort(ts))  # (n - 1,)
    return 1 + int((pauses >= gap_s).sum())
    # end solution


# %% tags=["check"]
check.count_events(count_events)

# %% [markdown] tags=["instructor"]
# **Exercise 1.2: 10 minutes.** Common mistakes: no sorting; gaps counted instead of events; each flow compared with the first of its
# event, so that a long flood falls apart. A failed check draws the last one: put that drawing on the screen. Ask back: is a flood
# that pauses for 61 seconds one event or two, and who decides that?

# %% [markdown]
# The package counts for all classes and captures at once, and says which class has how many:


# %%
def draw_events(gap):
    by_class = evaluation.events(flows["ts"], y, captures, gap_s=gap)["events"]
    fig = plots.class_balance(by_class, title=f"events at a gap of {gap} s", xlabel="events")
    words = ", ".join(f"{name} {count:,}" for name, count in by_class.items())
    return fig, f"Events by class at a gap of {gap} s: {words}."


plots.show(*draw_events(60))
evaluation.events(flows["ts"], y, captures, gap_s=60)

# %% tags=["check"]
for name in np.unique(y[captures == largest]):
    ts = seconds[(captures == largest) & (y == name)]
    counted = evaluation.events(ts, np.full(len(ts), name), gap_s=60)
    assert count_events(ts, 60) == counted.loc[name, "events"]

# %% [markdown]
# What is "one event"? Move the slider. A class whose count hardly changes is either bursts (far fewer events than rows) or lone flows
# (as many).

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

# %% [markdown]
# ### Exercise 1.3: who has a twin?
#
# A **twin** of a test row is a training row with the same vector: exactly the same value in every feature. Write `has_twin(X_train, X_test)`:
# from (n, d) and (m, d) an array (m,) of True and False, True where the test row has a twin in training.
#
# <details><summary>Hint</summary>
#
# Compare whole rows, not columns. Comparing each row with each is right and slow: all of these flows would need hundreds of millions.
# A `set` of `tuple`s answers "is it in there?" at once. `X.tolist()` makes rows that `tuple` takes quickly.
# </details>


# %% tags=["exercise"]
# Exercise 1.3: who has a twin?
def has_twin(X_train, X_test):  # (n, d), (m, d) -> (m,) bool
    # solution
    seen = set(map(tuple, X_train.tolist()))
    return np.array([tuple(row) in seen for row in X_test.tolist()])
    # end solution


# %% tags=["check"]
check.has_twin(has_twin)

# %% [markdown]
# The package drops the test rows that have a twin. On a random split:

# %%
train, test = splits.random_rows(len(y), 0.3, seed)
_, unseen = splits.without_duplicates(X, train, test)
print(
    f"random rows: {len(test):,} test rows, {len(test) - len(unseen):,} with a twin in training"
)

# %% tags=["check"]
a, b = train[::20], test[::20]  # a part, so that comparing each with each fits into memory
assert np.array_equal(b[~has_twin(X[a], X[b])], splits.without_duplicates(X, a, b)[1])

# %% [markdown] tags=["instructor"]
# **Exercise 1.3: 10 minutes.** Common mistakes: columns compared one by one, so that a row counts whose values all occur but never
# together; the complement. Comparing each row with each passes as well: ask how many comparisons the whole split would
# take, a good moment to speak of hashing. Ask back: if 80 % of the test rows have a twin, what does an accuracy of 95 % say?

# %% [markdown]
# ### Exercise 1.4 (extra): a split by time
#
# Write `split_by_time(ts, captures, test_fraction)`: row numbers `(train, test)`. Of each capture, by itself, the last
# `round(test_fraction * rows)` rows in time are the test, the rest is training. Every test row is strictly later than every training row of
# its capture: rows that share the time of the last training row stay in training. Where no training row is left, all rows of the
# capture are test. `round` is Python's: from a half it goes to the even number (2.5 to 2, 3.5 to 4). `ts` (n,) is in any order, and the
# rows of the captures may be mixed.
#
# <details><summary>Hint</summary>
#
# One capture at a time: sort its times, read off the time of its last training row, and compare every row of the capture with it.
# Collect the answers in one array of n booleans; `np.flatnonzero` makes row numbers of them.
# </details>


# %% tags=["exercise"]
# Exercise 1.4 (extra): a split by time
def split_by_time(ts, captures, test_fraction):  # (n,), (n,), share -> (train,), (test,)
    # solution
    is_test = np.zeros(len(ts), dtype=bool)
    for name in np.unique(captures):
        rows = np.flatnonzero(captures == name)
        size = round(test_fraction * len(rows))
        training = np.sort(ts[rows])[: len(rows) - size]
        is_test[rows] = ts[rows] > (training[-1] if len(training) else -np.inf)
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)
    # end solution


# %% tags=["check"]
check.split_by_time(split_by_time)

# %%
earlier, later = splits.by_time(seconds, captures, 0.3)

# %% tags=["check"]
mine = split_by_time(seconds, captures, 0.3)
assert np.array_equal(mine[0], earlier)
assert np.array_equal(mine[1], later)

# %% [markdown]
# **Predict before you run:** order the four splits by accuracy, and guess the last one.


# %%
def forest(train, test, state):
    model = RandomForestClassifier(20, n_jobs=2, random_state=state)
    return model.fit(X[train], y[train]).predict(X[test])


def leave_each_out(state):
    """(rows, answers): every capture is left out once; the answers for all of them, together."""
    order, answers = [], []
    for _, train, test in splits.leave_one_capture_out(captures):
        order.append(test)
        answers.append(forest(train, test, state))
    return np.concatenate(order), np.concatenate(answers)


def twins(train, test):
    """Share of the test rows whose vector occurs in training."""
    return 1 - len(splits.without_duplicates(X, train, test)[1]) / len(test)


# %%
order, answers = leave_each_out(seed)
rows = {
    "random rows": (y[test], forest(train, test, seed)),
    "random rows, twins removed": (y[unseen], forest(train, unseen, seed)),
    "by time": (y[later], forest(earlier, later, seed)),
    "by capture": (y[order], answers),
}
print(
    f"test rows with a twin in training: random {100 * twins(train, test):.0f} %, by time {100 * twins(earlier, later):.0f} %"
)

# %% [markdown]
# A model cannot name a class that it was never shown. So there is a fifth row: by capture, and only flows whose class has ten flows or
# more in training.


# %%
def taught(train, test):  # (m,) bool
    kinds, size = np.unique(y[train], return_counts=True)
    return np.isin(y[test], kinds[size >= 10])


known = np.concatenate([taught(a, b) for _, a, b in splits.leave_one_capture_out(captures)])
rows["by capture, classes it was taught"] = (y[order][known], answers[known])
results = evaluation.results_table(rows, benign="Benign").dropna(axis=1, how="all").round(3)
results.insert(1, "test flows", [len(pair[0]) for pair in rows.values()])
results

# %%
accuracy = {name: evaluation.metrics(*pair)["accuracy"] for name, pair in rows.items()}
fig = plots.bars(accuracy, xlabel="accuracy of one forest")
plots.show(
    fig, "Accuracy by split: " + ", ".join(f"{k} {v:.2f}" for k, v in accuracy.items()) + "."
)

# %% [markdown]
# The same model and the same features; the test flows differ, and with them the classes. Removing twins takes out vectors that the
# model knew **and** vectors that carry two classes, so accuracy can go either way, and even above the ceiling of all flows. A split by time has about as many twins as a random
# one: the same bot is still running. What falls is the answer about a new network. And accuracy hides the small classes; their
# recall, with the number of test flows, does not:


# %%
def recall(pair):
    table = evaluation.per_class_recall(*pair)
    return table.apply(lambda row: f"{row['recall']:.2f} of {row['support']:,.0f}", axis=1)


pd.DataFrame({name: recall(pair) for name, pair in rows.items()}).fillna("")

# %% [markdown]
# Empty: no such flow in that test. Balanced accuracy averages over the classes that a test holds, which are others in each row.
#
# ### How sure are we?
#
# Two kinds of doubt. Another **seed** gives another forest; another set of **captures** gives another world. The second is the
# larger, and with so few captures an interval over them is wide: much of it is whether a large capture is drawn. (It redraws the
# tested captures and does not train again.)

# %%
more = range(seed + 1, seed + settings.seeds)
right = [
    (y[order] == answers).mean(),
    *[(y[o] == a).mean() for o, a in map(leave_each_out, more)],
]
over_seeds = evaluation.interval_over_seeds(right, bounds=(0, 1))
over_captures = evaluation.bootstrap(
    np.mean, (y[order] == answers) * 1.0, groups=captures[order], seed=seed
)
print(f"accuracy by capture, 95 % interval over {len(right)} seeds: {over_seeds}")
print(f"accuracy by capture, 95 % interval over captures: {over_captures}")

# %% [markdown]
# ## Simulated and real, side by side
#
# Whoever has no real captures has worked on simulated ones. How much is that worth? Here is what this lesson measured in the course's
# reference run on both: SIMULATED captures, and seven real ones of IoT-23.

# %%
reference = json.loads((ROOT / "results" / "reference.json").read_text("utf-8"))
worlds = {"SIMULATED": "sample-fast", "real": "iot23-fast"}
measured = {
    world: reference[key]["lessons"]["01_iot23_preprocessing"]["numbers"]
    for world, key in worlds.items()
    if key in reference
}
figures = [
    "flows",
    "distinct vectors of the 24 features",
    "share of flows in vectors of several classes",
    "best possible accuracy, 24 features",
    "share of test rows with a twin in training, random rows",
    "share of test rows with a twin in training, by time",
    *[f"forest accuracy, {name}" for name in rows],
]
pd.DataFrame(measured).loc[figures].astype(float).round(3)

# %% [markdown]
# What carries over: vectors repeat, a share of them stands for several classes, a split by time is hardly harder than a random one, and a new
# network costs far more than either. What does not: the level of nearly every figure. The simulated set holds twelve labels, Okiru among
# them, whose flows look like a scan's, so its ceiling is lower; its networks differ from each other in fewer ways, so that port and service
# help in a new one, and on the real captures they mislead. `make bench` measures how well a forest tells simulated flows from real ones,
# beside how well it tells two real networks apart. A figure on simulated captures is an example of how to measure, and never the answer.

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
# A flow of one packet, or none, would look like an average conversation. Zero is wrong as well, but the packet counts make it
# recognisable.
# </details>

# %% [markdown]
# ## Recap
#
# - A conn log has traps; a reader that checks every row is worth its lines.
# - Features set a ceiling before any model is chosen. Measure it first.
# - Rows are not examples. Count events.
# - A random split of traffic asks whether the model can recall; a split by time, in the same networks, is not much stricter. Split by
#   capture to ask whether it has learnt, and say which classes it could have learnt.
#
# **Limits.** A few captures of a few hours each, from one laboratory. Labels were made by analysts and by rules, and some flows
# called benign look like the attack around them. One forest stands for all models here; lesson 04 compares more.
#
# **Ethics.** Flows are personal data, even without their contents. Use captures under their terms, and cite the people who made them.
#
# **References.** Garcia, Parmisano, Erquiaga 2020, *IoT-23*, doi 10.5281/zenodo.4743746. Paxson 1999, *Bro: a system for detecting
# network intruders in real-time*, Computer Networks 31. Arp et al. 2022, *Dos and don'ts of machine learning in computer security*,
# USENIX Security, arXiv 2010.09470. Zeek's manual, *conn.log*.

# %% tags=["summary"]
numbers = {
    "flows": len(flows),
    **{f"flows labelled {name}": int(count) for name, count in counts.items()},
    "distinct vectors of the 24 features": found.vectors,
    "share of flows in vectors of several classes": found.conflicted,
    "best possible accuracy, 24 features": found.best_possible_accuracy,
    "share of test rows with a twin in training, random rows": twins(train, test),
    "share of test rows with a twin in training, by time": twins(earlier, later),
    **{f"forest accuracy, {name}": float(value) for name, value in accuracy.items()},
    "forest accuracy, by capture (interval over seeds)": dataclasses.asdict(over_seeds),
    "forest accuracy, by capture (interval over captures)": dataclasses.asdict(over_captures),
}
print(json.dumps(numbers))
