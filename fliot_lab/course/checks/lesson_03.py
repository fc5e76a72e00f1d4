"""Checks of lesson 03: the threshold, what is found at a false alarm rate, the AUC by pairs; the squeeze is in its own file."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fliot_lab.course.checks import CheckFailed, Draw, Exercise, ask, number, passed, recognised
from fliot_lab.course.checks.linear_squeeze import SQUEEZE, squeeze_error

__all__ = ["EXERCISES", "auc_by_pairs", "choose_threshold", "found_at", "squeeze_error"]

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


# ------------------------------------------------------------------------------------------------------- 3.2 the threshold


def choose_threshold(answer: Callable[..., Any]) -> None:
    """Exercise 3.2: `answer(benign_scores, allowed)` is the smallest threshold with at most a share `allowed` above it."""
    cases = _benign_scores()
    received = [number(ask(answer, *case), "the threshold") for case in cases]
    for (scores, allowed), found in zip(cases, received, strict=True):
        expected = _naive_threshold(scores, allowed)
        if abs(found - expected) > 1e-9:
            mistake = recognised(_THRESHOLDS, cases, received) or _too_high_or_low(scores, allowed, expected, found)
            raise CheckFailed(f"{mistake} {_cut(scores, allowed, expected, found)}", _draw_cut(scores, expected, found))
    passed("1 to 500 scores in any order, with ties and all alike, allowed shares from 0 to 0.4")


def _benign_scores() -> list[tuple[Floats, float]]:
    """Scores (n,) and the share allowed, the smallest first. No share is one that floating point pushes below a whole count."""
    rng = np.random.default_rng(32)
    return [
        (np.array([3.0, 1, 5, 2, 4]), 0.2),
        (np.array([2.0, 1, 2, 9, 2]), 0.4),
        (np.array([7.0, 1, 4, 6, 2, 3, 5]), 0.2),
        (np.array([0.5]), 0.1),
        (np.full(6, 2.0), 0.25),
        (np.array([8.0, 3, 5]), 0.0),
        (rng.exponential(1, 200), 0.01),
        (rng.integers(0, 20, 500).astype(float), 0.1),
    ]


def _naive_threshold(scores: Floats, allowed: float) -> float:
    """The definition: the smallest score with few enough above it. Between two scores no threshold flags fewer."""
    return min(t for t in scores.tolist() if sum(score > t for score in scores.tolist()) / len(scores) <= allowed)


def _too_high_or_low(scores: Floats, allowed: float, expected: float, found: float) -> str:
    if found < expected:
        return "Your threshold is too low: it flags more benign flows than allowed."
    return "Your threshold is too high: a smaller one keeps the promise too, and finds more attacks."


def _cut(scores: Floats, allowed: float, expected: float, found: float) -> str:
    text = f"benign_scores = {scores.tolist()}" if len(scores) <= 8 else f"{len(scores)} benign scores"
    above = [int((scores > threshold).sum()) for threshold in (expected, found)]
    return (
        f"For {text} and allowed = {allowed:g} the threshold is {expected:.4g} ({above[0]} of {len(scores)} strictly above), "
        f"and yours is {found:.4g} ({above[1]} above)"
    )


def _draw_cut(scores: Floats, expected: float, found: float) -> Draw:
    def draw() -> tuple[Any, str]:
        from fliot_lab import plots

        n = len(scores)
        rows = {"benign scores": sorted(scores.tolist()), "expected threshold": [expected] * n, "yours": [found] * n}
        figure = plots.line(rows, ylabel="score", xlabel="benign flow, the lowest score first", title="What lies above?")
        above = f"{(scores > expected).sum()} and {(scores > found).sum()} of {n} scores strictly above"
        return figure, f"Sorted benign scores with two thresholds: expected {expected:.4g}, yours {found:.4g}; {above}."

    return draw


def _interpolated(scores: Floats, allowed: float) -> Any:
    return np.quantile(scores, 1 - allowed)


def _wrong_tail(scores: Floats, allowed: float) -> Any:
    return min(t for t in scores if np.mean(scores > t) <= 1 - allowed)


def _lower_tail(scores: Floats, allowed: float) -> Any:
    return np.quantile(scores, allowed)


def _at_or_above(scores: Floats, allowed: float) -> Any:
    return min((t for t in scores if np.mean(scores >= t) <= allowed), default=scores.max())


def _off_by_one(scores: Floats, allowed: float) -> Any:
    return np.sort(scores)[::-1][max(int(allowed * len(scores) + 1e-9) - 1, 0)]


def _next_too_low(scores: Floats, allowed: float) -> Any:
    return np.sort(scores)[::-1][min(int(np.ceil(allowed * len(scores) - 1e-9)), len(scores) - 1)]


def _maximum(scores: Floats, allowed: float) -> Any:
    return scores.max()


_THRESHOLDS: dict[Callable[..., Any], str] = {
    _interpolated: "You use np.quantile as it is: it interpolates between two scores, and so does not return the smallest "
    "threshold, and sometimes one with too many above. Count what lies strictly above each score instead.",
    _wrong_tail: "You cut at the wrong tail: with you a share `allowed` of benign flows is NOT flagged, and the rest is. A "
    "high score is suspicious; few benign flows may lie above the threshold.",
    _lower_tail: "You cut at the wrong tail: np.quantile(scores, allowed) has a share `allowed` below it. A high score is "
    "suspicious; few benign flows may lie above the threshold.",
    _at_or_above: "You count scores at or above the threshold. An alarm is a score strictly above it, so the flow that sets "
    "the threshold, and every tie with it, is not flagged: a smaller threshold serves.",
    _off_by_one: "You are one too high: where k flows may lie above, the threshold is the score after the k largest, since an "
    "alarm is strictly above it. Python counts from 0.",
    _next_too_low: "You round up: where a share allows 1.4 flows, one may lie above and not two.",
    _maximum: "You take the largest score: then nothing is flagged. That keeps the promise, and misses attacks that a smaller "
    "threshold finds. `allowed` has to matter.",
}


# ------------------------------------------------------------------------------------------ 3.3 found at a false alarm rate


def found_at(answer: Callable[..., Any]) -> None:
    """Exercise 3.3: `answer(attack, scores, fpr)` is the share of attacks that a share `fpr` of false alarms buys."""
    cases = _judged()
    received = [number(ask(answer, *case), "the share found") for case in cases]
    for case, found in zip(cases, received, strict=True):
        expected = _naive_found(*case)
        if abs(found - expected) > 1e-9:
            mistake = recognised(_FOUND, cases, received) or "Your share is not that of the best threshold allowed."
            raise CheckFailed(f"{mistake} {_judgement(*case, expected, found)}")
    passed("2 to 400 flows in any order, mostly attacks and mostly benign, ties across both, false alarm rates from 0 to 0.3")


def _judged() -> list[tuple[Flags, Floats, float]]:
    """attack (n,), scores (n,) and fpr, the smallest first, each with attacks and benign flows."""
    rng = np.random.default_rng(33)
    found = [
        (np.array([1, 0, 1, 0, 1, 0, 1, 0], dtype=bool), np.array([5.0, 4, 2, 1, 3, 2, 4, 3]), 0.25),
        (np.array([False, True]), np.array([1.0, 2]), 0.0),
        (np.array([True, False]), np.array([3.0, 3]), 0.1),
        (np.array([1, 1, 1, 0, 0, 0, 0, 0, 0, 0], dtype=bool), np.array([6.5, 5.9, 1, 1, 2, 3, 4, 5, 6, 7]), 0.2),
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


def _judgement(attack: Flags, scores: Floats, fpr: float, expected: float, found: float) -> str:
    if len(scores) <= 10:
        case = f"benign scores {sorted(scores[~attack].tolist())} and attack scores {sorted(scores[attack].tolist())}"
    else:
        case = f"{attack.sum()} attacks among {len(attack)} flows"
    return f"For {case} at fpr = {fpr:g} the share found is {expected:.4g}, and yours is {found:.4g}"


def _flagged(attack: Flags, scores: Floats, fpr: float) -> Flags:
    return scores > _naive_threshold(scores[~attack], fpr)


def _over_all_scores(attack: Flags, scores: Floats, fpr: float) -> Any:
    return (scores[attack] > _naive_threshold(scores, fpr)).mean()


def _quantile_of_all(attack: Flags, scores: Floats, fpr: float) -> Any:
    return (scores[attack] > np.quantile(scores, 1 - fpr)).mean()


def _over_attack_scores(attack: Flags, scores: Floats, fpr: float) -> Any:
    return (scores[attack] > _naive_threshold(scores[attack], fpr)).mean()


def _precision(attack: Flags, scores: Floats, fpr: float) -> Any:
    flagged = _flagged(attack, scores, fpr)
    return attack[flagged].mean() if flagged.any() else 0.0


def _false_alarms(attack: Flags, scores: Floats, fpr: float) -> Any:
    return _flagged(attack, scores, fpr)[~attack].mean()


def _of_all_flows(attack: Flags, scores: Floats, fpr: float) -> Any:
    return (_flagged(attack, scores, fpr) & attack).mean()


def _ties_flagged(attack: Flags, scores: Floats, fpr: float) -> Any:
    return (scores[attack] >= _naive_threshold(scores[~attack], fpr)).mean()


def _interpolated_cut(attack: Flags, scores: Floats, fpr: float) -> Any:
    return (scores[attack] > np.quantile(scores[~attack], 1 - fpr)).mean()


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
    _interpolated_cut: "Your threshold comes from np.quantile, which interpolates between two scores: it is not the smallest "
    "that keeps the promise, and sometimes does not keep it. Use what you wrote for exercise 3.2, on benign scores.",
}


# ------------------------------------------------------------------------------------------------------ 3.4 the AUC by pairs


def auc_by_pairs(answer: Callable[..., Any]) -> None:
    """Exercise 3.4: `answer(attack_scores, benign_scores)`: how often a random attack outscores a random benign flow."""
    cases = _two_kinds()
    received = [number(ask(answer, *case), "the AUC") for case in cases]
    for (attacks, benign), found in zip(cases, received, strict=True):
        expected = _naive_auc(attacks, benign)
        if abs(found - expected) > 1e-9:
            mistake = recognised(_AUCS, cases, received) or "Your share is not that of the pairs that the attack wins."
            pairs = f"{len(attacks)} attacks and {len(benign)} benign flows"
            text = f"attacks {attacks.tolist()} and benign flows {benign.tolist()}" if len(attacks) <= 6 else pairs
            raise CheckFailed(f"{mistake} For {text} it is {expected:.4g}, and yours is {found:.4g}")
    passed("1 to 60 attacks against 1 to 80 benign flows, ties, all alike, and scores without overlap")


def _two_kinds() -> list[tuple[Floats, Floats]]:
    """Scores of attacks (h,) and of benign flows (m,), the smallest first."""
    rng = np.random.default_rng(34)
    return [
        (np.array([2.0, 4]), np.array([1.0, 2, 3])),
        (np.array([1.0]), np.array([1.0])),
        (np.array([5.0, 6]), np.array([1.0])),
        (np.full(3, 2.0), np.full(4, 2.0)),
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


def _pairs_counted(attacks: Floats, benign: Floats) -> Any:
    return _naive_auc(attacks, benign) * len(attacks) * len(benign)


_AUCS: dict[Callable[..., Any], str] = {
    _ties_won: "You count ties as wins. A detector that gives every flow the same score would then have an AUC of 1, and it "
    "cannot tell anything apart: a tie counts half.",
    _ties_lost: "You count ties as losses. A detector that gives every flow the same score is no worse than a coin, and a coin "
    "has 0.5: a tie counts half.",
    _swapped: "Your roles are swapped: you ask how often the benign flow scores higher. A good detector would "
    "have an AUC near 0.",
    _pairs_counted: "You count the pairs won. Asked is their share: divide by the number of pairs, h times m.",
}

EXERCISES = {
    "3.1": SQUEEZE,
    "3.2": Exercise(
        choose_threshold,
        {
            _interpolated: "interpolates",
            _wrong_tail: "wrong tail",
            _lower_tail: "wrong tail",
            _at_or_above: "at or above",
            _off_by_one: "one too high",
            _next_too_low: "round up",
            _maximum: "largest score",
        },
    ),
    "3.3": Exercise(
        found_at,
        {
            _over_all_scores: "on all scores",
            _quantile_of_all: "on all scores",
            _over_attack_scores: "on the attacks' scores",
            _precision: "the precision",
            _false_alarms: "false alarm rate itself",
            _of_all_flows: "number of all flows",
            _ties_flagged: "strictly above",
            _interpolated_cut: "interpolates",
        },
    ),
    "3.4": Exercise(
        auc_by_pairs,
        {
            _ties_won: "ties as wins",
            _ties_lost: "ties as losses",
            _swapped: "swapped",
            _pairs_counted: "divide by the number of pairs",
        },
    ),
}
