# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Start here

# %% tags=["parameters"]
profile = "fast"  # "full" takes longer and draws more seeds
seed = 7  # every random choice comes from it
dataset = "auto"  # "iot23": real captures, "sample": simulated ones, "auto": real ones where they are present

# %%
import json, os, platform, sys
import importlib.metadata as metadata
import numpy as np, pandas as pd
from fliot_lab import evaluation, plots
from fliot_lab.course.checks import lesson_00 as check
from fliot_lab.data import iot23

# %%
source = iot23.locate(dataset, seed=seed)
print(source.banner)

# %% [markdown]
# ## The question
#
# A light bulb, a door lock and a loudspeaker share a network. One of them has been taken over and now takes part in attacks.
# Nobody looks at its screen, for it has none. **Can the network notice, without sending everybody's traffic to one place?**
#
# Thirteen lessons build an answer, and each adds one stage to the same pipeline. (The [index](index.ipynb) has those that are out.)
#
# ```text
#   flows -> features -> local training -> attack -> clip + noise -> mask
#    01       01 02       03 04             09 10     07              08
#
#         -> exchange -> aggregation rule -> model -> detector
#             05 06       05 09               03 04    11 12
# ```
#
# | | you learn to | | you learn to |
# |---|---|---|---|
# | 01 | turn a log of connections into features | 07 | bound what an update tells about its owner |
# | 02 | recognise a device by how it behaves | 08 | add updates up without seeing them |
# | 03 | flag what was never seen before | 09 | poison a federation, and resist that |
# | 04 | name the attack | 10 | flood a server, and keep it up |
# | 05 | federate without a server | 11 | serve the detector |
# | 06 | federate with Flower | 12 | put it all together |

# %% [markdown] tags=["instructor"]
# **Teaching this lesson: 35 minutes.** The question and the map of the course 4, the machine 2, the five questions 5, the data and
# the first look 7, the formula with its exercise 15, quiz 2. With a mixed group send the five questions out a week before: they
# are the quickest way to learn who needs NumPy and who needs TCP. On the first day somebody's installation is broken;
# `make lab` on the machine beside it is faster than a repair.

# %% [markdown]
# ## Is this machine ready?
#
# The course needs no GPU and, once it is installed, no network. `make lab` (or `python -m fliot_lab lab`) set all of this up.

# %%
packages = [
    "numpy",
    "pandas",
    "polars",
    "scikit-learn",
    "torch",
    "flwr",
    "seaborn",
    "jupyterlab",
]
pd.DataFrame(
    {
        "on this machine": [
            f"Python {platform.python_version()}",
            f"{platform.system()} {platform.machine()}",
            f"{os.cpu_count()} cores",
            *[metadata.version(name) for name in packages],
        ]
    },
    index=["interpreter", "system", "processor", *packages],
)

# %%
wanted = "the course needs Python 3.11 to 3.13; `make lab` in the course's folder sets it up"
assert (3, 11) <= sys.version_info[:2] <= (3, 13), wanted
print("The interpreter fits, and the packages above are there.")

# %% [markdown]
# ## Are you ready?
#
# Answer each without looking. For each that you could not answer, read the page that the answer names first.
#
# <details><summary>1. <code>A</code> has shape (3, 4). What is the shape of <code>A.mean(axis=0)</code>?</summary>
#
# (4,): the axis that is named disappears. Read "NumPy: the absolute basics for beginners" in NumPy's documentation.
# </details>
#
# <details><summary>2. A detector flags 1 % of benign flows and 90 % of attacks. One flow in a thousand is an attack. What share of
# its alarms is real?</summary>
#
# Of 100,000 flows 100 are attacks: 90 true alarms, and 999 false ones. 90 / 1,089 = 8 %. Read about Bayes' rule and base rates.
# </details>
#
# <details><summary>3. What do a TCP connection's SYN, FIN and RST say?</summary>
#
# "I would like to talk", "I have said all", "stop this at once". Read chapter 3 of RFC 9293.
# </details>
#
# <details><summary>4. Why is a model judged on rows that it was not trained on?</summary>
#
# It may have learnt its rows by heart. Lesson 01 shows that "other rows" is not enough. Read scikit-learn's "Common pitfalls".
# </details>
#
# <details><summary>5. What does <code>loss.backward()</code> compute in PyTorch?</summary>
#
# The derivative of the loss with respect to every parameter. Read PyTorch's "Learn the basics".
# </details>

# %% [markdown]
# ## Which data is here?
#
# The course runs on real captures where they are present, on simulated ones where they are not. The same reader, the same
# features and the same lessons serve both, and at the top of every lesson a banner says which of the two you see.

# %%
print(source.banner)
flows = iot23.load("small", dataset=source.name, seed=seed)
table = flows.groupby("capture", observed=True).agg(
    flows=("ts", "size"), hours=("ts", lambda ts: round((ts.max() - ts.min()).total_seconds() / 3600, 1)),
    originators=("id.orig_h", "nunique"), attacks=("label", lambda label: int((label != "Benign").sum())),
)  # fmt: skip
table

# %% [markdown]
# A **capture** is what one sensor recorded in one network over some hours. A **flow** is one connection in it: who spoke to whom,
# over which protocol, for how long, how many bytes each way. What was said is not in it.
#
# To use real captures: `make data` shows their terms and fetches the nine small ones (about 6 MB) from the Stratosphere
# Laboratory; with your own copies, set `FLIOT_DATA` to the folder that holds `iot23/`.

# %% [markdown]
# ## A first look
#
# The capture with the most attacks, its first five flows in order of time:

# %%
busiest = table["attacks"].idxmax()
capture = flows[flows["capture"] == busiest].sort_values("ts")
columns = [
    "ts",
    "id.orig_h",
    "id.resp_h",
    "id.resp_p",
    "proto",
    "conn_state",
    "orig_ip_bytes",
    "label",
]
capture[columns].assign(ts=capture["ts"].dt.strftime("%H:%M:%S")).head()

# %%
fig = plots.timeline(
    capture["ts"],
    capture["label"].astype(str),
    title=f"{busiest}: when each kind of flow occurs",
)
kinds = capture["label"].value_counts()
plots.show(
    fig,
    f"Timeline of {busiest}: one strip for each class, a tick for each flow, over {table.loc[busiest, 'hours']} hours. "
    + ", ".join(f"{name}: {count:,} flows" for name, count in kinds[kinds > 0].items())
    + ".",
)

# %% [markdown]
# The next cell counts **events** beside flows: flows of one class that follow each other within a minute are one event. Look at
# the figure and guess before you run it: how many events has each class? The answer decides how much this capture can teach.

# %%
counted = evaluation.events(capture["ts"], capture["label"].astype(str), gap_s=60)
counted

# %% [markdown]
# Some classes have thousands of rows in a handful of events. A model that is tested on rows of an event whose other rows it was
# trained on has an easy life. Lesson 01 measures what such repetition does to a test.

# %% [markdown] tags=["instructor"]
# **The first look.** Ask for guesses aloud and write three on the board before anybody runs the cell; the count is remembered
# because it is so far off. Common mistake: to take rows for examples ("we have thousands of attacks"). Ask back: if you watched
# one flood for half an hour, how many floods have you seen?

# %% [markdown]
# ## The idea of the whole course, in one formula
#
# In a federation, each of $K$ clients trains on its own flows and sends only what it has learnt: an **update** of $P$ numbers.
# Stacked, they are the **update matrix** $U \in \mathbb{R}^{K \times P}$, one row a client. The simplest federation averages its rows:
#
# $$ w \leftarrow w + \sum_{k=1}^{K} p_k \, u_k $$
#
# $w$: the model's $P$ parameters; $u_k$: client $k$'s update, row $k$ of $U$; $p_k$: its weight, its share of all the flows, so
# that $\sum_k p_k = 1$. An attack changes rows of $U$, privacy adds noise to them, secure aggregation hides them, a topology says
# who sees which, and a robust rule replaces the sum. That is the course.

# %% [markdown]
# ## The naive version
#
# Written out for three clients and two parameters:

# %%
updates = np.array([[1.0, 0.0], [0.0, 3.0], [4.0, 2.0]])  # (K, P) = (3, 2)
flows_of_client = np.array([100, 100, 200])  # (K,)

first = (100 * 1.0 + 100 * 0.0 + 200 * 4.0) / 400  # the step's first parameter
second = (100 * 0.0 + 100 * 3.0 + 200 * 2.0) / 400  # and its second
print("step:", first, second)

# %% [markdown]
# What each client adds to the first parameter, and the step, their sum. Beside it the median of the three clients' numbers, which
# is another answer to "what do the clients say?":


# %%
def draw_step(factor):
    """The step's first parameter when client 3 multiplies its update."""
    changed = updates * np.array([[1], [1], [factor]])  # (K, P)
    shares = {1: 0.25, 2: 0.25, 3: 0.5}
    parts = {f"client {k} adds": p * float(changed[k - 1, 0]) for k, p in shares.items()}
    ends = {"step": sum(parts.values()), "median": float(np.median(changed[:, 0]))}
    fig = plots.bars(parts | ends, xlabel=f"first parameter; client 3's update times {factor}")
    words = ", ".join(f"{name} {value:.2f}" for name, value in (parts | ends).items())
    return fig, f"Bars at factor {factor}: {words}."


plots.show(*draw_step(1))

# %% [markdown]
# ## Predict before you run
#
# Client 3 is taken over and multiplies its update by -20. Write down two numbers: the step's first parameter then, and the median.
# The slider below the exercise shows both.

# %% [markdown]
# ### How exercises work
#
# Write your code in place of the line `raise NotImplementedError`, run the cell, and run the check below it: it says what is wrong
# until nothing is, as often as you like. The lesson goes on without your answer, so you may also leave one out and come back.

# %% [markdown]
# ### Exercise 0.1: the step of a federation
#
# Write `weighted_step(updates, flows)`: from the update matrix (K, P) and the clients' numbers of flows (K,) the sum
# $\sum_k p_k u_k$, of shape (P,), for any K and any P. One line is enough, and it needs no loop.
#
# <details><summary>Hint</summary>
#
# First the weights, of shape (K,): they sum to 1. Then a product of a vector and a matrix, `(K,) @ (K, P)`, gives (P,): it
# multiplies each row by its weight and adds the rows up.
# </details>


# %% tags=["exercise"]
# Exercise 0.1: the step of a federation
def weighted_step(updates, flows):  # (K, P), (K,) -> (P,)
    # solution
    return flows / flows.sum() @ updates  # (K,) @ (K, P)
    # end solution


# %% tags=["check"]
check.weighted_step(weighted_step)

# %% [markdown] tags=["instructor"]
# **Exercise 0.1: 8 minutes.** It teaches three things at once: the formula, axes, and how checks talk. Common mistakes, each named by
# the check: the plain mean of the rows; weights that are not divided; `mean` where `sum` is meant, which divides twice; the mean
# over the parameters. Ask back: what must the weights sum to? which axis disappears? A loop is right as well; ask those who wrote
# one how long it takes with 10,000 clients. Let a group that is done early ask what a client gains by lying about its number of flows.

# %% [markdown] tags=["solution"]
# `flows / flows.sum()` are the weights $p_k$, and the product with the matrix is the sum over k.

# %% [markdown]
# NumPy has the same as a weighted average:

# %%
step = np.average(updates, axis=0, weights=flows_of_client)  # (P,)
assert np.allclose(step, [first, second])
step

# %% tags=["check"]
assert np.allclose(weighted_step(updates, flows_of_client), step)

# %% [markdown]
# Now move the slider: client 3 is an attacker and multiplies its update. One row of three is enough to take the sum anywhere.

# %%
plots.slider(draw_step, options=range(-20, 21), start=1, name="factor")

# %% [markdown]
# ## Quiz
#
# <details><summary>1. Why does the course not simply collect everybody's flows?</summary>
#
# Flows tell who is at home, when, and with whom they speak. And there are too many of them: the largest capture of IoT-23 holds 74
# million.
# </details>
#
# <details><summary>2. In the slider, which of the two answers can one client not drag away, and what does that cost?</summary>
#
# The median: one row cannot move it beyond the others. It ignores how many flows each client has, and with honest clients that
# differ it is not their average. Lesson 09 weighs that.
# </details>
#
# <details><summary>3. A capture has 14,394 DDoS flows in three events. How many independent examples of DDoS is that?</summary>
#
# Nearer to 3 than to 14,394.
# </details>

# %% [markdown]
# ## Recap
#
# - A capture is a network's record, a flow one connection in it, an event a burst of flows that belong together.
# - The course is one pipeline over one matrix; every lesson adds a stage.
# - The banner says whether you look at real or at simulated traffic. On simulated data the course prints values, never a verdict.
#
# **Limits.** What runs on one laptop says little about a thousand homes. Each lesson says what it left out.
#
# **Ethics.** You will write attacks. They run against data, against models and against servers on this machine's loopback
# interface, never against anybody else's. Traffic is personal data: capture only networks whose people agreed.
#
# **References.** McMahan et al. 2017, *Communication-efficient learning of deep networks from decentralized data*, AISTATS,
# arXiv 1602.05629. Garcia, Parmisano, Erquiaga 2020, *IoT-23*, doi 10.5281/zenodo.4743746.

# %% tags=["summary"]
print(
    json.dumps(
        {
            "captures": len(table),
            "flows": len(flows),
            "attack flows": int(table["attacks"].sum()),
            f"attack events in {busiest}": int(
                counted.drop("Benign", errors="ignore")["events"].sum()
            ),
        }
    )
)
