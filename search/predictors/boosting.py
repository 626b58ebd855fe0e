"""Gradient-boosted trees on genes and log costs: the baseline of accuracy benchmarks.

References:
    Friedman, Greedy function approximation: a gradient boosting machine, Annals of Statistics 2001.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from search.predictors import Array, Inputs
from search.predictors.design import Design, learn_design


@dataclass(frozen=True, slots=True)
class Boosting:
    """Fitted trees; they have no standard deviation."""

    design: Design
    model: Any

    def predict(self, inputs: Inputs) -> Array:
        return np.asarray(self.model.predict(self.design.numbers(inputs)))

    def predict_std(self, inputs: Inputs) -> tuple[Array, None]:
        return self.predict(inputs), None


def fit(inputs: Inputs, accuracy_percent: Array, seed: int = 0) -> Boosting:
    from sklearn.ensemble import GradientBoostingRegressor

    design = learn_design(inputs)
    model = GradientBoostingRegressor(
        n_estimators=300, learning_rate=0.05, max_depth=3, subsample=0.7, random_state=seed
    )
    return Boosting(design, model.fit(design.numbers(inputs), accuracy_percent))
