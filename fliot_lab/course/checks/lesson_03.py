"""Checks of lesson 03: what is found at a false alarm rate, the AUC by pairs.

The others stand in `linear_squeeze.py`, `threshold.py`, `unseen_attacks.py`, `whitening.py` and `host_window.py`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fliot_lab.course.checks import CheckFailed, Exercise, ask, number, passed, recognised, told_apart
from fliot_lab.course.checks.host_window import HOST_WINDOW, failures_before
from fliot_lab.course.checks.linear_squeeze import SQUEEZE, squeeze_error
from fliot_lab.course.checks.threshold import ROADS, THRESHOLD, asked, choose_threshold, naive_threshold
from fliot_lab.course.checks.unseen_attacks import UNSEEN, flagged_by_kind
from fliot_lab.course.checks.whitening import WHITENING, whitened_error

__all__ = [
    "EXERCISES",
    "ask",
    "auc_by_pairs",
    "choose_threshold",
    "failures_before",
    "flagged_by_kind",
    "found_at",
    "squeeze_error",
    "whitened_error",
]

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


# ------------------------------------------------------------------------------------------ 3.4 found at a false alarm rate


def found_at(answer: Callable[..., Any]) -> None:
    """Exercise 3.4: `answer(attack, scores, fpr)` is the share of attacks that a share `fpr` of false alarms buys."""
    cases = _judged()
    received = [
        number(asked(answer, (attack, scores, fpr), scores[~attack], fpr), "the share found") for attack, scores, fpr in cases
    ]
    for case, found in zip(cases, received, strict=True):
        expected = _naive_found(*case)
        if abs(found - expected) > 1e-6:
            mistake = recognised(_FOUND, cases, received) or "Your share is not that of the best threshold allowed."
            raise CheckFailed(f"{mistake} {_judgement(*case)} {{}}, and yours is {{}}".format(*told_apart(expected, found)))
    passed("2 to 400 flows in any order, mostly attacks and mostly benign, ties across both, false alarm rates from 0 to 0.4")


def _judged() -> list[tuple[Flags, Floats, float]]:
    """attack (n,), scores (n,) and fpr, the smallest first, each with attacks and benign flows."""
    rng = np.random.default_rng(33)
    found = [
        (np.array([1, 0, 1, 0, 1, 0, 1, 0], dtype=bool), np.array([5.0, 4, 2, 1, 3, 2, 4, 3]), 0.25),
        (np.array([False, True]), np.array([1.0, 2]), 0.0),
        (np.array([True, False]), np.array([3.0, 3]), 0.1),
        (np.array([1, 1, 1, 0, 0, 0, 0, 0, 0, 0], dtype=bool), np.array([6.5, 5.9, 5.5, 1, 2, 3, 4, 5, 6, 7]), 0.2),
        (np.arange(6) == 5, np.array([4.0, 3, 3, 2, 1, 3.5]), 0.4),
        (np.arange(10) == 9, np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 7.5]), 0.2),
    ]
    for n, share, fpr in ((60, 0.7, 0.1), (400, 0.2, 0.05), (400, 0.9, 0.3)):
        attack = rng.permutation(n) < share * n
        scores = (rng.normal(0, 2, n) + 2 * attack).round(1)
        found.append((attack, scores, fpr))
    return found


def _naive_found(attack: Flags, scores: Floats, fpr: float) -> float:
    """Every threshold is tried; the best of those that keep the promise counts."""
    rows = list(zip(attack.tolist(), scores.tolist(), strict=True))
    benign, attacks = [s for bad, s in rows if not bad], [s for bad, s in rows if bad]
    best = 0.0
    for threshold in sorted(set(scores.tolist())):
        if sum(s > threshold for s in benign) / len(benign) <= fpr:
            best = max(best, sum(s > threshold for s in attacks) / len(attacks))
    return best


def _judgement(attack: Flags, scores: Floats, fpr: float) -> str:
    if len(scores) <= 10:
        case = f"benign scores {sorted(scores[~attack].tolist())} and attack scores {sorted(scores[attack].tolist())}"
    else:
        case = f"{attack.sum()} attacks among {len(attack)} flows"
    return f"For {case} at fpr = {fpr:g} the share found is"


def _flagged(attack: Flags, scores: Floats, fpr: float) -> Flags:
    return scores > naive_threshold(scores[~attack], fpr)


def _over_all_scores(attack: Flags, scores: Floats, fpr: float) -> Any:
    return (scores[attack] > naive_threshold(scores, fpr)).mean()


def _quantile_of_all(attack: Flags, scores: Floats, fpr: float) -> Any:
    return (scores[attack] > np.quantile(scores, 1 - fpr)).mean()


def _over_attack_scores(attack: Flags, scores: Floats, fpr: float) -> Any:
    return (scores[attack] > naive_threshold(scores[attack], fpr)).mean()


def _precision(attack: Flags, scores: Floats, fpr: float) -> Any:
    flagged = _flagged(attack, scores, fpr)
    return attack[flagged].mean() if flagged.any() else 0.0


def _false_alarms(attack: Flags, scores: Floats, fpr: float) -> Any:
    return _flagged(attack, scores, fpr)[~attack].mean()


def _of_all_flows(attack: Flags, scores: Floats, fpr: float) -> Any:
    return (_flagged(attack, scores, fpr) & attack).mean()


def _ties_flagged(attack: Flags, scores: Floats, fpr: float) -> Any:
    return (scores[attack] >= naive_threshold(scores[~attack], fpr)).mean()


def _cut_by(road: Callable[..., Any]) -> Callable[..., Any]:
    """What is found with a mistake of exercise 3.2, on the right scores."""

    def cut(attack: Flags, scores: Floats, fpr: float) -> Any:
        return (scores[attack] > road(scores[~attack], fpr)).mean()

    cut.__name__ = f"_cut_by{road.__name__}"
    return cut


_FOUND: dict[Callable[..., Any], str] = dict.fromkeys(
    (_over_all_scores, _quantile_of_all),
    "You set the threshold on all scores. A false alarm rate is a share of the benign flows: among mostly attacks your "
    "threshold lies far too high. Use scores[~attack] for it.",
) | {
    _over_attack_scores: "You set the threshold on the attacks' scores. A false alarm rate is a share of the benign flows: use "
    "scores[~attack] for it.",
    _precision: "You return the precision, the share of the alarms that are attacks. Asked is the share of the attacks that "
    "are flagged, the recall: divide by the number of attacks. Precision moves with how many attacks there are.",
    _false_alarms: "You return the share of benign flows flagged, the false alarm rate itself. Asked is the share of the "
    "attacks above the same threshold.",
    _of_all_flows: "You divide by the number of all flows. Asked is a share of the attacks.",
    _ties_flagged: "You flag flows at the threshold as well. An alarm is strictly above it: a benign flow of equal score "
    "would be flagged too, and the promise broken.",
    **{
        _cut_by(road): f"{words} Write out once more what you wrote for exercise 3.2, and use it on the benign scores."
        for road, words in ROADS.items()
    },
}


# ------------------------------------------------------------------------------------------------------ 3.5 the AUC by pairs


def auc_by_pairs(answer: Callable[..., Any]) -> None:
    """Exercise 3.5: `answer(attack_scores, benign_scores)`: how often a random attack outscores a random benign flow."""
    cases = _two_kinds()
    received = [number(ask(answer, *case), "the AUC") for case in cases]
    for (attacks, benign), found in zip(cases, received, strict=True):
        expected = _naive_auc(attacks, benign)
        if abs(found - expected) > 1e-6:
            mistake = recognised(_AUCS, cases, received) or "Your share is not that of the pairs that the attack wins."
            pairs = f"{len(attacks)} attacks and {len(benign)} benign flows"
            text = f"attacks {attacks.tolist()} and benign flows {benign.tolist()}" if len(attacks) <= 6 else pairs
            raise CheckFailed(f"{mistake} For {text} it is {{}}, and yours is {{}}".format(*told_apart(expected, found)))
    passed("1 to 60 attacks against 1 to 80 benign flows, ties, all alike, scores without overlap, an AUC below one half")


def _two_kinds() -> list[tuple[Floats, Floats]]:
    """Scores of attacks (h,) and of benign flows (m,), the smallest first."""
    rng = np.random.default_rng(34)
    return [
        (np.array([2.0, 4]), np.array([1.0, 2, 3])),
        (np.array([1.0]), np.array([1.0])),
        (np.array([5.0, 6]), np.array([1.0])),
        (np.full(3, 2.0), np.full(4, 2.0)),
        (np.array([1.0, 2]), np.array([2.0, 3, 4])),
        (rng.integers(2, 9, 60).astype(float), rng.integers(0, 7, 80).astype(float)),
    ]


def _naive_auc(attacks: Floats, benign: Floats) -> float:
    won = 0.0
    for high in attacks.tolist():
        for low in benign.tolist():
            won += 1 if high > low else 0.5 if high == low else 0
    return won / (len(attacks) * len(benign))


def _ties_won(attacks: Floats, benign: Floats) -> Any:
    return (attacks[:, None] >= benign).mean()


def _ties_lost(attacks: Floats, benign: Floats) -> Any:
    return (attacks[:, None] > benign).mean()


def _swapped(attacks: Floats, benign: Floats) -> Any:
    return _naive_auc(benign, attacks)


def _never_below_half(attacks: Floats, benign: Floats) -> Any:
    return max(_naive_auc(attacks, benign), 1 - _naive_auc(attacks, benign))


def _pairs_counted(attacks: Floats, benign: Floats) -> Any:
    return _naive_auc(attacks, benign) * len(attacks) * len(benign)


_AUCS: dict[Callable[..., Any], str] = {
    _ties_won: "You count ties as wins. A detector that gives every flow the same score would then have an AUC of 1, and it "
    "cannot tell anything apart: a tie counts half.",
    _ties_lost: "You count ties as losses. A detector that gives every flow the same score is no worse than a coin, and a coin "
    "has 0.5: a tie counts half.",
    _swapped: "Your roles are swapped: you ask how often the benign flow scores higher. A good detector would "
    "have an AUC near 0.",
    _never_below_half: "You never give less than one half. An AUC below 0.5 is a finding: the detector scores benign flows "
    "higher than attacks. Nobody may turn the scores round after a look at the answers.",
    _pairs_counted: "You count the pairs won. Asked is their share: divide by the number of pairs, h times m.",
}

EXERCISES = {
    "3.1": SQUEEZE,
    "3.2": THRESHOLD,
    "3.3": UNSEEN,
    "3.4": Exercise(
        found_at,
        {
            _over_all_scores: "on all scores",
            _quantile_of_all: "on all scores",
            _over_attack_scores: "on the attacks' scores",
            _precision: "the precision",
            _false_alarms: "false alarm rate itself",
            _of_all_flows: "number of all flows",
            _ties_flagged: "strictly above",
            **{_cut_by(road): words for road, words in THRESHOLD.wrong.items() if road in ROADS},
        },
    ),
    "3.5": Exercise(
        auc_by_pairs,
        {
            _ties_won: "ties as wins",
            _ties_lost: "ties as losses",
            _swapped: "swapped",
            _never_below_half: "less than one half",
            _pairs_counted: "divide by the number of pairs",
        },
    ),
    "3.6": WHITENING,
    "3.7": HOST_WINDOW,
}
