"""What trained networks teach about a space: a fitted predictor, and how far it can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lut_db.errors import LutError
from search.cells import Arithmetic
from search.features import training_inputs
from search.predictors import Predictor, fit_predictor
from search.predictors.evaluate import scores
from search.result import PredictorFacts
from search.samples import TrainingSet
from search.spaces.space import SearchSpace


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted predictor.

    Attributes:
        recipe: number of the training recipe that accuracies are predicted for, among ``recipes``.
    """

    predictor: Predictor
    facts: PredictorFacts
    recipe: int
    recipes: tuple[str, ...]


def fit_accuracy(
    space: SearchSpace, arithmetic: Arithmetic, training: TrainingSet, name: str = "gp", recipe: str = "", seed: int = 0
) -> Fitted:
    """Fits the predictor of a name, for a recipe, by default the most frequent one. Raises LutError."""
    number = _recipe_number(training, recipe)
    inputs = training_inputs(space, arithmetic, training.genomes, training.recipes)
    predictor = fit_predictor(name, inputs, training.accuracy_percent, seed)
    left_out: Mapping[str, float | None] = {}
    if hasattr(predictor, "leave_one_out"):
        mean, std, truth = predictor.leave_one_out()
        left_out = scores(mean, std, truth)
    errors = [left_out.get(score) for score in ("rmse", "kendall_tau", "coverage95")]
    facts = PredictorFacts(name, training.dataset, training.recipe_names[number], len(training.genomes), *errors)
    return Fitted(predictor, facts, number, training.recipe_names)


def _recipe_number(training: TrainingSet, asked: str) -> int:
    if asked and asked not in training.recipe_names:
        raise LutError(f"--recipe must be one of {', '.join(training.recipe_names)}, but got {asked!r}")
    return training.recipe_names.index(asked) if asked else int(np.bincount(training.recipes).argmax())
