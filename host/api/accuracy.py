"""Accuracies of networks of a space, predicted from those that were trained, and what the prediction rests on."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter
from pydantic import BaseModel, Field

from host.api.access import READ
from host.api.limits import check_batch
from host.api.problems import Problem, answers
from host.api.schemas import example
from host.api.service import Service, Serving
from host.api.spaces import known_space
from lut_db.samples import AccuracySample
from search.accuracy import Fitted, fit_accuracy
from search.builtin import builtin_samples
from search.cells import Arithmetic, build_cells
from search.features import training_inputs
from search.predictors import LEAST_SAMPLES
from search.samples import TrainingSet, training_set
from search.spaces.space import Genomes, SearchSpace, parse_genome

router = APIRouter(prefix="/v1", tags=["accuracies"], dependencies=[READ], responses=answers(404))

BETWEEN = 500
"""Networks between the steps of a space in one request: each is built, which takes milliseconds."""

_GENOME = "-".join(["6-3-2-1"] * 7)
_ROW = {"genome": _GENOME, "accuracy_percent": 71.2, "std_percent": 0.4}
_BASIS = {
    "dataset": "imagenet", "recipe": "shortened", "recipes": ["shortened"], "predictor": "gp", "networks": 2000,
    "rmse_percent": 0.42, "kendall_tau": 0.92, "coverage95": 0.95,
}  # fmt: skip


class AccuracyRequest(BaseModel):
    """Which networks, and what their accuracies are to be predicted from."""

    model_config = example(space="mbconv", genomes=[_GENOME], dataset="imagenet", recipe="", predictor="gp")

    space: str = Field(max_length=100)
    genomes: list[Annotated[str, Field(max_length=400)]] = Field(min_length=1)
    dataset: str = Field(default="", max_length=200, description="needed where networks were trained on several")
    recipe: str = Field(default="", max_length=200, description="how they are trained; by default the most frequent")
    predictor: Literal["gp"] = "gp"


class AccuracyRow(BaseModel):
    """One network's accuracy."""

    model_config = example(**_ROW)

    genome: str
    accuracy_percent: float = Field(description="expected top-1")
    std_percent: float | None = Field(description="its standard deviation")


class AccuracyBasis(BaseModel):
    """What the accuracies rest on; errors are of each network predicted from the others."""

    model_config = example(**_BASIS)

    dataset: str
    recipe: str
    recipes: list[str] = Field(description="those that could be asked for")
    predictor: str
    networks: int = Field(description="trained networks it was fitted to")
    rmse_percent: float | None = Field(description="leave-one-out, in percent points")
    kendall_tau: float | None
    coverage95: float | None = Field(description="share of networks within their 95 % interval")


class Accuracies(BaseModel):
    """Accuracies in the order of the genomes."""

    model_config = example(accuracies=[_ROW], basis=_BASIS)

    accuracies: list[AccuracyRow]
    basis: AccuracyBasis


@router.post("/accuracies")
def predict_accuracies(asked: AccuracyRequest, service: Serving) -> Accuracies:
    """Predict accuracies of networks from those that were trained."""
    check_batch(len(asked.genomes), service.config.max_batch, "genomes")
    space = known_space(asked.space)
    genomes = _genomes(space, asked.genomes)
    arithmetic = service.fits.get(("arithmetic", space.name), lambda: Arithmetic(build_cells(space)))
    fitted = _fitted(service, space, arithmetic, asked)
    inputs = training_inputs(space, arithmetic, genomes, np.full(len(genomes), fitted.recipe))
    mean, std = fitted.predictor.predict_std(inputs)
    spread = [None] * len(mean) if std is None else [float(value) for value in std]
    rows = [
        AccuracyRow(genome=genome, accuracy_percent=float(percent), std_percent=one)
        for genome, percent, one in zip(asked.genomes, mean, spread, strict=True)
    ]
    return Accuracies(accuracies=rows, basis=_basis(fitted))


def _genomes(space: SearchSpace, texts: list[str]) -> Genomes:
    """n x d. Raises SpecError."""
    genomes = [parse_genome(text) for text in texts]
    for genome in genomes:
        space.check(genome)
    found = np.array(genomes, np.int64)
    on_steps = [np.isin(column, gene.choices) for column, gene in zip(found.T, space.genes, strict=True)]
    check_batch(int((~np.all(on_steps, axis=0)).sum()), BETWEEN, "genomes between the steps of the space")
    return found


def _fitted(service: Service, space: SearchSpace, arithmetic: Arithmetic, asked: AccuracyRequest) -> Fitted:
    samples = _samples(service, space.name, asked.dataset)
    usable = sum(sample.accuracy_percent is not None for sample in samples)
    key = ("accuracy", space.name, asked.dataset, asked.recipe, asked.predictor, usable)

    def fit() -> Fitted:
        training = training_set(space, samples, LEAST_SAMPLES)
        _check_recipe(training, asked.recipe)
        return fit_accuracy(space, arithmetic, training, asked.predictor, asked.recipe)

    return service.fits.get(key, fit)


def _samples(service: Service, space: str, dataset: str) -> list[AccuracySample]:
    """What is stored, and what ships; a reader stores nothing."""
    stored = service.samples.samples(space, dataset)
    known = {sample.key for sample in stored}
    ships = (sample for sample in builtin_samples(space) if dataset in ("", sample.dataset))
    return [*stored, *(sample for sample in ships if sample.key not in known)]


def _check_recipe(training: TrainingSet, asked: str) -> None:
    if asked and asked not in training.recipe_names:
        detail = f"a recipe must be one of {', '.join(training.recipe_names)}, but got {asked!r}"
        raise Problem(422, "Unknown recipe", detail, "unknown-recipe", {"known": list(training.recipe_names)})


def _basis(fitted: Fitted) -> AccuracyBasis:
    facts = fitted.facts
    return AccuracyBasis(
        dataset=facts.dataset, recipe=facts.recipe, recipes=list(fitted.recipes), predictor=facts.name,
        networks=facts.networks, rmse_percent=facts.rmse, kendall_tau=facts.kendall_tau, coverage95=facts.coverage95,
    )  # fmt: skip
