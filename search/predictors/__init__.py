"""Predictors of accuracy: PREDICTORS, name -> module with ``fit(inputs, accuracy_percent, seed) -> Predictor``."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, cast

import numpy as np

from lut_db.errors import LutError

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]

PREDICTORS = {
    "gp": "search.predictors.gp",
    "gradient-boosting": "search.predictors.boosting",
    "ridge": "search.predictors.ridge",
}

Z95 = 1.959964
"""Standard deviations that 95 % of a normal distribution lie within."""

LEAST_SAMPLES = 8
"""Fewer trained networks than this tell a predictor nothing."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What networks are described by.

    Attributes:
        genes: integer choices (n x d).
        costs: positive quantities such as MACs, of which the logarithm counts (n x c).
        recipe: number of the recipe that each was, or would be, trained with (n).
    """

    genes: Array
    costs: Array
    recipe: Array

    def __len__(self) -> int:
        return len(self.genes)

    def part(self, rows: Array) -> Inputs:
        return Inputs(self.genes[rows], self.costs[rows], self.recipe[rows])


class Predictor(Protocol):
    """A fitted model of accuracy."""

    def predict(self, inputs: Inputs) -> Array:
        """Expected accuracy in percent (n)."""

    def predict_std(self, inputs: Inputs) -> tuple[Array, Array | None]:
        """Expected accuracy and its standard deviation in percent (n each); None where the model has none."""


class PredictorModule(Protocol):
    """What a module of PREDICTORS offers."""

    def fit(self, inputs: Inputs, accuracy_percent: Array, seed: int = 0) -> Predictor: ...


def fit_predictor(name: str, inputs: Inputs, accuracy_percent: Array, seed: int = 0) -> Predictor:
    """Fits a predictor by its name.

    Raises:
        LutError: no such predictor, or too few or unusable samples.
    """
    if name not in PREDICTORS:
        raise LutError(f"a predictor must be one of {', '.join(PREDICTORS)}, but got {name!r}")
    if len(inputs) < LEAST_SAMPLES:
        raise LutError(f"a predictor must have at least {LEAST_SAMPLES} trained networks, but got {len(inputs)}")
    if not np.isfinite(accuracy_percent).all():
        raise LutError("every accuracy must be a number, but some are not; leave out the failed trainings")
    return cast(PredictorModule, import_module(PREDICTORS[name])).fit(inputs, accuracy_percent, seed)


def plain_inputs(genes: Array, costs: Array | None = None) -> Inputs:
    """Inputs of one recipe."""
    none = np.zeros((len(genes), 0))
    return Inputs(genes, none if costs is None else costs, np.zeros(len(genes), np.int64))
