"""Check of exercise 4.2: accuracy, macro-F1 and accuracy on classes that were taught, of one split."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fliot_lab.course.checks import CheckFailed, Exercise, array, ask, passed, told_apart

Array = npt.NDArray[Any]
Case = tuple[Callable[..., Any], Array, Array, Array, Array]
NAMES = ("the accuracy", "the macro-F1", "the accuracy on classes that were taught")
TAUGHT = 10  # training rows from which on a class counts as taught


def judge(answer: Callable[..., Any]) -> None:
    """Exercise 4.2: `answer(fit_predict, X, y, train, test)` is (3,): accuracy, macro-F1, accuracy on classes taught."""
    cases = _splits()
    received = [array(ask(answer, *case), (3,), "the answer") for case in cases]
    for place in range(len(NAMES)):
        for case, found in zip(cases, received, strict=True):
            if not np.isclose(found[place], _naive(*case)[place]):
                raise CheckFailed(f"{_mistake(place, cases, received)} {_shown(case, place, found[place])}")
    passed("26 to 300 rows, classes with 9, 10 and 11 training rows and none, rows in neither part, answers that never occur")


def nearest(X_fit: Array, y_fit: Array, X_new: Array) -> Array:
    """The class (m,) of the nearest row of X_fit (n, d) for each row of X_new (m, d): a model that remembers."""
    return y_fit[np.abs(X_new[:, None] - X_fit).sum(axis=2).argmin(axis=1)]


def _splits() -> list[Case]:
    """fit_predict, X (n, d), y (n,), train and test, the smallest first."""
    rng = np.random.default_rng(42)
    found: list[Case] = []
    x = np.r_[np.arange(21), 0.2, 1.2, 12.2, 13.2, 99].astype(np.float32)[:, None]
    y = np.array(["Benign"] * 10 + ["Scan"] * 11 + ["Benign", "DDoS", "Scan", "Benign", "Okiru"])
    found.append((nearest, x, y, np.arange(21), np.arange(21, 25)))
    for n in (120, 300):
        y = rng.choice(["Benign", "C&C", "DDoS", "Scan", "Torii"], n, p=[0.35, 0.25, 0.15, 0.15, 0.1])
        X = (rng.normal(0, 1.2, (n, 2)) + np.unique(y, return_inverse=True)[1][:, None]).astype(np.float32)
        order = rng.permutation(n)
        train, test = order[: n // 2], order[n // 2 : -n // 10]  # some rows are in neither
        train = train[y[train] != "DDoS"]  # a class that is never taught
        for name, most in (("Torii", 9), ("Scan", 10)):
            rows = np.flatnonzero(y[train] == name)
            train = np.delete(train, rows[most:])
        found.append((nearest, X, y, np.sort(train), np.sort(test[y[test] != "C&C"] if n == 300 else test)))
    return found


def _naive(fit_predict: Callable[..., Any], X: Array, y: Array, train: Array, test: Array) -> list[float]:
    return _told(y[test].tolist(), fit_predict(X[train], y[train], X[test]).tolist(), y[train].tolist())


def _told(true: list[str], answered: list[str], learnt: list[str]) -> list[float]:
    """The three numbers, by counting."""
    pairs = list(zip(true, answered, strict=True))
    scores = []
    for name in {*true, *answered}:
        hits = sum(t == name and a == name for t, a in pairs)
        scores.append(2 * hits / (true.count(name) + answered.count(name)))
    taught = [(t, a) for t, a in pairs if learnt.count(t) >= TAUGHT]
    right, right_taught = ([t == a for t, a in rows] for rows in (pairs, taught))
    return [sum(right) / len(right), sum(scores) / len(scores), sum(right_taught) / max(len(right_taught), 1)]


def _mistake(place: int, cases: list[Case], received: list[Array]) -> str:
    """What is wrong with the number at `place`: with all three where it is a mistake of that kind."""
    for road, words in _WHOLE.items():
        if all(np.allclose(road(*case), found) for case, found in zip(cases, received, strict=True)):
            return words
    mistakes = (
        words
        for road, words in _MISTAKES[place].items()
        if all(np.isclose(road(*case), found[place]) for case, found in zip(cases, received, strict=True))
    )
    return f"{NAMES[place]} is wrong. {next(mistakes, 'Look at each test row once: which class is it, which was answered?')}"


def _shown(case: Case, place: int, found: float) -> str:
    right, yours = told_apart(_naive(*case)[place], found)
    train, test = case[3:]
    return f"For {len(train)} training and {len(test)} test rows {NAMES[place]} is {right}, and yours is {yours}"


# ------------------------------------------------------------------------------------------------ mistakes, number by number


def _answered(fit_predict: Callable[..., Any], X: Array, y: Array, train: Array, test: Array) -> tuple[Array, Array]:
    """(true, answered), (m,) each."""
    return y[test], fit_predict(X[train], y[train], X[test])


def _recalls(*case: Any) -> Any:
    true, answered = _answered(*case)
    return np.mean([(answered[true == name] == name).mean() for name in np.unique(true)])


def _precisions(*case: Any) -> Any:
    true, answered = _answered(*case)
    return np.mean([(true[answered == name] == name).mean() for name in np.unique(answered)])


def _f1(true: Array, answered: Array, name: Any) -> float:
    both = (true == name).sum() + (answered == name).sum()
    return float(2 * ((true == name) & (answered == name)).sum() / both) if both else 0.0


def _over_true(*case: Any) -> Any:
    true, answered = _answered(*case)
    return np.mean([_f1(true, answered, name) for name in np.unique(true)])


def _over_answered(*case: Any) -> Any:
    true, answered = _answered(*case)
    return np.mean([_f1(true, answered, name) for name in np.unique(answered)])


def _over_all_of_y(fit_predict: Callable[..., Any], X: Array, y: Array, train: Array, test: Array) -> Any:
    true, answered = _answered(fit_predict, X, y, train, test)
    return np.mean([_f1(true, answered, name) for name in np.unique(y)])


def _weighted(*case: Any) -> Any:
    true, answered = _answered(*case)
    names, sizes = np.unique(true, return_counts=True)
    return np.average([_f1(true, answered, name) for name in names], weights=sizes)


def _without_two(*case: Any) -> Any:
    return _naive(*case)[1] / 2


def _accuracy(*case: Any) -> Any:
    return _naive(*case)[0]


def _training_accuracy(fit_predict: Callable[..., Any], X: Array, y: Array, train: Array, test: Array) -> Any:
    return (fit_predict(X[train], y[train], X[train]) == y[train]).mean()


def _count(*case: Any) -> Any:
    return _naive(*case)[0] * len(case[4])


def _taught_from(least: int) -> Callable[..., Any]:
    def taught(fit_predict: Callable[..., Any], X: Array, y: Array, train: Array, test: Array) -> Any:
        true, answered = _answered(fit_predict, X, y, train, test)
        names, sizes = np.unique(y[train], return_counts=True)
        kept = np.isin(true, names[sizes >= least])
        return (true == answered)[kept].mean()

    taught.__name__ = f"_taught_from_{least}"
    return taught


def _of_all_rows(*case: Any) -> Any:
    true = _answered(*case)[0]
    names, sizes = np.unique(case[2][case[3]], return_counts=True)
    return _naive(*case)[2] * np.isin(true, names[sizes >= TAUGHT]).mean()


def _by_the_answer(*case: Any) -> Any:
    true, answered = _answered(*case)
    names, sizes = np.unique(case[2][case[3]], return_counts=True)
    return (true == answered)[np.isin(answered, names[sizes >= TAUGHT])].mean()


_MISTAKES: tuple[dict[Callable[..., Any], str], ...] = (
    {
        _training_accuracy: "You judge the training rows. What the model has seen it may remember: answer X[test].",
        _count: "You count the right answers: divide by the number of test rows.",
        _recalls: "You take the mean of the classes' recalls. The accuracy is the share of all test rows answered rightly.",
    },
    {
        _recalls: "You take the mean recall (balanced accuracy). F1 also counts rows that were wrongly given the class.",
        _precisions: "You take the mean precision. F1 also counts rows of the class that were missed.",
        _over_true: "You take the mean over the classes that occur among the test rows. A class that is answered and never "
        "occurs counts too, with an F1 of 0: np.union1d of both.",
        _over_answered: "You take the mean over the classes that were answered. A class that occurs and is never answered "
        "counts too, with an F1 of 0: np.union1d of both.",
        _over_all_of_y: "You take the mean over all classes of y, also those that neither occur among the test rows nor were "
        "answered: of these nothing can be said.",
        _weighted: "You weigh the classes by their rows. Then the large ones rule again, as in the accuracy: a plain mean.",
        _without_two: "You forget the 2: with all answers right, F1 must be 1.",
        _accuracy: "You give the accuracy again.",
    },
    {
        _taught_from(1): "You take each class that occurs in training at all. Ten rows or more count as taught.",
        _taught_from(TAUGHT + 1): "You ask for more than ten training rows. Ten count as taught: >=.",
        _of_all_rows: "You divide by all test rows. Divide by those whose class was taught: of the others nobody asks.",
        _by_the_answer: "You choose the rows by the class that was answered. Choose them by the class that they are.",
        _accuracy: "You give the accuracy again: leave out the test rows whose class was not taught.",
    },
)


def _on_everything(fit_predict: Callable[..., Any], X: Array, y: Array, train: Array, test: Array) -> Any:
    return np.array(_told(y[test].tolist(), fit_predict(X, y, X[test]).tolist(), y[train].tolist()))


def _sides_swapped(fit_predict: Callable[..., Any], X: Array, y: Array, train: Array, test: Array) -> Any:
    return np.array(_told(y[train].tolist(), fit_predict(X[test], y[test], X[train]).tolist(), y[test].tolist()))


_WHOLE: dict[Callable[..., Any], str] = {
    _on_everything: "You train on all rows, the test rows among them: the model has seen the answers. Train on X[train].",
    _sides_swapped: "You train on the test rows and judge the training rows: train and test are swapped.",
}


def _with(place: int, road: Callable[..., Any]) -> Callable[..., Any]:
    """The right answer but for one number."""

    def wrong(*case: Any) -> Any:
        numbers = _naive(*case)
        numbers[place] = road(*case)
        return np.array(numbers)

    wrong.__name__ = f"{road.__name__}_as_number_{place + 1}"
    return wrong


NUMBERS = Exercise(
    judge,
    {_with(place, road): words for place, roads in enumerate(_MISTAKES) for road, words in roads.items()} | _WHOLE,
)
