"""Check of exercise 3.3: what is flagged of the attacks that a classifier was shown, and of those that it never was."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fliot_lab.course.checks import CheckFailed, Exercise, ask, passed, told_apart

Text = npt.NDArray[np.str_]
Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Case = tuple[set[str], Text, Flags]
NAMES = ("Benign", "C&C", "DDoS", "Okiru", "Scan", "Torii")


def flagged_by_kind(answer: Callable[..., Any]) -> None:
    """Exercise 3.3: `answer(shown, y, flagged)` is (known, unseen): the shares flagged of attacks shown and never shown."""
    cases = _labelled()
    received = [_pair(ask(answer, *case)) for case in cases]
    for case, found in zip(cases, received, strict=True):
        expected = _naive_shares(*case)
        if not np.allclose(found, expected, rtol=0, atol=1e-6, equal_nan=True):
            raise CheckFailed(f"{_mistake(cases, received)} {_in_words(*case, expected, found)}")
    passed(
        "2 to 300 flows, classes of unlike size, classes shown that do not occur, attacks of one kind only, no attack at all"
    )


def _labelled() -> list[Case]:
    """shown, y (m,) and flagged (m,), the smallest first."""
    rng = np.random.default_rng(35)
    found = [
        ({"Benign", "Scan"}, ["Benign", "Scan", "Scan", "DDoS", "DDoS", "DDoS", "DDoS", "Benign"], [0, 1, 0, 1, 0, 0, 0, 0]),
        ({"Benign", "Scan", "Okiru"}, ["Scan", "Scan", "Scan", "Okiru", "Torii", "Benign"], [1, 1, 0, 0, 0, 0]),
        ({"Benign", "Scan"}, ["Scan", "Benign", "Scan"], [1, 1, 1]),
        ({"Benign"}, ["DDoS", "Benign", "Scan"], [1, 0, 0]),
        ({"Benign", "DDoS"}, ["Benign", "Benign"], [0, 1]),
    ]
    cases: list[Case] = [(shown, np.array(y), np.array(flagged, dtype=bool)) for shown, y, flagged in found]
    for m, shown in ((40, {"Benign", "C&C", "Scan"}), (300, {"Benign", "DDoS", "Okiru", "Torii"})):
        y = rng.choice(NAMES, m, p=[0.4, 0.25, 0.15, 0.1, 0.06, 0.04])
        sight = dict(zip(NAMES, rng.uniform(0.1, 0.9, len(NAMES)), strict=True))  # found more or less easily
        cases.append((shown, y, rng.random(m) < [sight[name] for name in y]))
    return cases


def _naive_shares(shown: set[str], y: Text, flagged: Flags) -> Floats:
    """(known, unseen), one flow at a time."""
    known: list[bool] = []
    unseen: list[bool] = []
    for name, alarm in zip(y.tolist(), flagged.tolist(), strict=True):
        if name != "Benign":
            (known if name in shown else unseen).append(alarm)
    return np.array([sum(kind) / len(kind) if kind else np.nan for kind in (known, unseen)])


def _pair(received: Any) -> Floats:
    """`received` as (known, unseen), NaN included; CheckFailed where it is anything else than two numbers."""
    try:
        known, unseen = (float(share) for share in received)
    except (TypeError, ValueError):
        raise CheckFailed(
            f"your function must return two numbers, the shares (known, unseen), and it returned {received!r:.60}. Does it end "
            "with `return known, unseen`? A share that does not exist is np.nan"
        ) from None
    return np.array([known, unseen])


def _mistake(cases: list[Case], received: list[Floats]) -> str:
    """What is wrong. The share of nothing is looked at last, so that it hides no other mistake and none hides it."""
    exists = [~np.isnan(_naive_shares(*case)) for case in cases]

    def same(road: Callable[..., Any]) -> bool:
        shares = (np.nan_to_num(np.array(road(*case), dtype=float)) for case in cases)
        return all(
            np.allclose(share[there], np.nan_to_num(found)[there])
            for share, found, there in zip(shares, received, exists, strict=True)
        )

    if same(_naive_shares):
        return _NOTHING
    return next(
        (words for road, words in _KINDS.items() if same(road)), "Your shares are not those of the two kinds of attack."
    )


def _in_words(shown: set[str], y: Text, flagged: Flags, expected: Floats, found: Floats) -> str:
    pairs = [told_apart(*both) for both in zip(expected.tolist(), found.tolist(), strict=True)]
    right, yours = (f"({', '.join(side)})" for side in zip(*pairs, strict=True))
    if len(y) <= 8:
        given = f"y = {y.tolist()} and flagged = {flagged.astype(int).tolist()}"
    else:
        given = f"{len(y)} flows of {len(set(y.tolist()))} classes"
    return f"With shown = {sorted(shown)}, {given} the shares (known, unseen) are {right}, and yours are {yours}"


# ----------------------------------------------------------------------------------------------------------------- mistakes


def _kinds(shown: set[str], y: Text) -> tuple[Flags, Flags]:
    """Which flows are attacks of a class shown, and which of one never shown, (m,) each."""
    was_shown = np.isin(y, list(shown))
    return was_shown & (y != "Benign"), ~was_shown


def _share(flagged: Flags, kind: Flags, y: Text) -> Any:
    return flagged[kind].mean() if kind.any() else np.nan


def _shares(kinds: Callable[..., Any] = _kinds, share: Callable[..., Any] = _share) -> Callable[..., Any]:
    """An answer that picks other rows than those of the two kinds, or makes another number of them."""

    def shares(shown: set[str], y: Text, flagged: Flags) -> Any:
        return tuple(share(flagged, kind, y) for kind in kinds(shown, y))

    return shares


def _over_classes(flagged: Flags, kind: Flags, y: Text) -> Any:
    return np.mean([flagged[y == name].mean() for name in np.unique(y[kind])]) if kind.any() else np.nan


def _among_alarms(flagged: Flags, kind: Flags, y: Text) -> Any:
    return kind[flagged].mean() if flagged.any() else np.nan


_benign_known = _shares(lambda shown, y: (np.isin(y, list(shown)), ~np.isin(y, list(shown))))
_benign_unseen = _shares(lambda shown, y: (_kinds(shown, y)[0], ~_kinds(shown, y)[0]))
_set_in_isin = _shares(lambda shown, y: (np.zeros(len(y), dtype=bool), np.ones(len(y), dtype=bool)))
_set_in_isin_attacks = _shares(lambda shown, y: (np.zeros(len(y), dtype=bool), y != "Benign"))
_swapped = _shares(lambda shown, y: _kinds(shown, y)[::-1])
_of_all_rows = _shares(share=lambda flagged, kind, y: (flagged & kind).mean())
_of_all_attacks = _shares(share=lambda flagged, kind, y: (flagged & kind).sum() / max((y != "Benign").sum(), 1))
_mean_of_classes = _shares(share=_over_classes)
_of_the_alarms = _shares(share=_among_alarms)
_counts = _shares(share=lambda flagged, kind, y: (flagged & kind).sum())
_missed = _shares(share=lambda flagged, kind, y: _share(~flagged, kind, y))
_zero_of_nothing = _shares(share=lambda flagged, kind, y: flagged[kind].mean() if kind.any() else 0.0)

_NOTHING = (
    "You give a share where there is no attack of that kind. Nothing was there to be found or missed: 0 would read as 'missed "
    "every one'. Return np.nan for it."
)
_KINDS: dict[Callable[..., Any], str] = {
    _benign_known: "You count Benign as known. It is in `shown`, but a benign flow is no attack, and flagging one is a false "
    "alarm: leave out the rows where y is 'Benign'.",
    _benign_unseen: "You count Benign as never shown. A benign flow is no attack, and flagging one is a false alarm: leave out "
    "the rows where y is 'Benign'.",
    **dict.fromkeys(
        (_set_in_isin, _set_in_isin_attacks),
        "With you no class was ever shown. np.isin(y, shown) takes a Python set for one single thing, and no label is a whole "
        "set: give it list(shown).",
    ),
    _swapped: "Your two shares are swapped: first the attacks of a class in `shown`, then the others.",
    _of_all_rows: "You divide by the number of all rows. Each share is one of its own kind: flagged[kind].mean(), and not "
    "(flagged & kind).mean(), which falls as soon as there is more benign traffic.",
    _of_all_attacks: "You divide by the number of all attacks. Each share is one of its own kind: divide by the number of "
    "attacks of that kind.",
    _mean_of_classes: "You take the mean over classes. Asked is the share of the flows of a kind, whatever their class: a "
    "class of three flows would weigh as much as one of three hundred.",
    _of_the_alarms: "You return what share of the alarms is of each kind. Asked is what share of each kind is flagged: divide "
    "by the number of attacks of that kind.",
    _counts: "You count the attacks that are flagged. Asked is their share: divide by the number of attacks of that kind.",
    _missed: "You return the shares that are missed. Asked is what is flagged.",
}

UNSEEN = Exercise(
    flagged_by_kind,
    {
        _benign_known: "count Benign as known",
        _benign_unseen: "count Benign as never shown",
        _set_in_isin: "list(shown)",
        _set_in_isin_attacks: "list(shown)",
        _swapped: "shares are swapped",
        _of_all_rows: "number of all rows",
        _of_all_attacks: "number of all attacks",
        _mean_of_classes: "mean over classes",
        _of_the_alarms: "share of the alarms",
        _counts: "You count the attacks",
        _missed: "shares that are missed",
        _zero_of_nothing: "no attack of that kind",
    },
)
