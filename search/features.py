"""What predictors are told about networks: their genes, MACs and parameters, and the recipe they are trained with."""

from __future__ import annotations

import numpy as np

from ops_catalog import ops
from search.cells import Arithmetic, Array
from search.predictors import Inputs
from search.spaces.space import Genomes, SearchSpace


def search_inputs(arithmetic: Arithmetic, genomes: Genomes, recipe: int = 0) -> Inputs:
    """Inputs of many networks on the steps of a space, fast."""
    costs = np.stack([arithmetic.macs(genomes), arithmetic.params(genomes)], axis=1)
    return Inputs(genomes, costs, np.full(len(genomes), recipe))


def training_inputs(space: SearchSpace, arithmetic: Arithmetic, genomes: Genomes, recipes: Array) -> Inputs:
    """Inputs of trained networks, which may lie between the steps of a space, or outside the part searched."""
    within = arithmetic.cells.space
    known = np.all(
        [np.isin(column, gene.choices) for column, gene in zip(genomes.T, within.genes, strict=True)], axis=0
    )
    costs = np.empty((len(genomes), 2))
    costs[known] = search_inputs(arithmetic, genomes[known]).costs
    for row in np.flatnonzero(~known):
        operators = space.decode(tuple(map(int, genomes[row]))).operators
        costs[row] = sum(map(ops.macs, operators)), sum(map(ops.params, operators))
    return Inputs(genomes, costs, recipes)
