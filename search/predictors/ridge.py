"""Bayesian ridge regression on one-hot genes and log costs: the plain baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from search.predictors import Array, Inputs
from search.predictors.design import Design, learn_design


@dataclass(frozen=True, slots=True)
class Ridge:
    """A fitted regression."""

    design: Design
    model: Any

    def predict(self, inputs: Inputs) -> Array:
        return np.asarray(self.model.predict(self.design.one_hot(inputs)))

    def predict_std(self, inputs: Inputs) -> tuple[Array, Array]:
        mean, std = self.model.predict(self.design.one_hot(inputs), return_std=True)
        return np.asarray(mean), np.asarray(std)


def fit(inputs: Inputs, accuracy_percent: Array, seed: int = 0) -> Ridge:
    from sklearn.linear_model import BayesianRidge

    design = learn_design(inputs)
    return Ridge(design, BayesianRidge().fit(design.one_hot(inputs), accuracy_percent))
