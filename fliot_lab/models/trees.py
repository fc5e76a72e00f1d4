"""Classifiers made of trees: a random forest and gradient boosting, behind one interface."""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestClassifier

from fliot_lab.models.classifier import Balance, Classifier, Codes, Floats, Matrix


def forest(*, seed: int, trees: int = 100, balance: Balance = None) -> Classifier:
    """A random forest of so many trees: Breiman 2001, doi 10.1023/A:1010933404324."""
    return Forest(seed=seed, trees=trees, balance=balance)


def boosting(*, seed: int, trees: int = 100, depth: int = 6, balance: Balance = None) -> Classifier:
    """Gradient-boosted trees, so many for each class: XGBoost, Chen and Guestrin 2016, doi 10.1145/2939672.2939785."""
    return Boosting(seed=seed, trees=trees, depth=depth, balance=balance)


class Forest(Classifier):
    """`forest` makes it. `model_` is scikit-learn's, fitted to the places of the classes in `classes_`."""

    def __init__(self, *, seed: int, trees: int, balance: Balance):
        super().__init__(seed=seed, balance=balance)
        self.trees = trees

    def _learn(self, X: Matrix, codes: Codes, weights: Floats | None) -> None:
        class_weight = None if weights is None else dict(enumerate(weights.tolist()))
        self.model_ = RandomForestClassifier(self.trees, class_weight=class_weight, random_state=self.seed, n_jobs=1)
        self.model_.fit(X, codes)

    def _chances(self, X: Matrix) -> npt.NDArray[np.floating[Any]]:
        return self.model_.predict_proba(X)


class Boosting(Classifier):
    """`boosting` makes it. `model_` is XGBoost's, fitted to the places of the classes in `classes_`."""

    def __init__(self, *, seed: int, trees: int, depth: int, balance: Balance):
        super().__init__(seed=seed, balance=balance)
        self.trees, self.depth = trees, depth

    def _learn(self, X: Matrix, codes: Codes, weights: Floats | None) -> None:
        from xgboost import XGBClassifier  # takes half a second

        self.model_ = XGBClassifier(
            n_estimators=self.trees, max_depth=self.depth, tree_method="hist", n_jobs=1, random_state=self.seed
        )
        self.model_.fit(X, codes, sample_weight=None if weights is None else weights[codes])

    def _chances(self, X: Matrix) -> npt.NDArray[np.floating[Any]]:
        return self.model_.predict_proba(X)
