"""Turns genes and costs into the numbers that predictors learn from, the same way for training and prediction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from search.predictors import Array, Inputs

MANY_LEVELS = 8
"""A gene with more different values than this is a number, not a choice."""


@dataclass(frozen=True, slots=True)
class Design:
    """Learned from the training inputs. Columns: genes, recipes (where there are several), costs and their ratios.

    Attributes:
        logs: which genes count by their logarithm (d): those that are always positive.
        mean, std: of each column (p).
        levels: per gene its different values, ascending; None where they are too many.
        recipes: number of recipes seen.
        genes: number of columns that are no costs.
    """

    logs: Array
    mean: Array
    std: Array
    levels: tuple[Array | None, ...]
    recipes: int
    genes: int

    @property
    def parts(self) -> list[slice]:
        """Columns of genes, and of costs if there are any."""
        both = [slice(0, self.genes), slice(self.genes, len(self.mean))]
        return both if len(self.mean) > self.genes else both[:1]

    @property
    def alike(self) -> list[list[int]]:
        """Genes that have the same choices, wherever there are any."""
        groups: dict[tuple[float, ...], list[int]] = {}
        for gene, levels in enumerate(self.levels):
            if levels is not None:
                groups.setdefault(tuple(levels.tolist()), []).append(gene)
        return [genes for genes in groups.values() if len(genes) > 1]

    def numbers(self, inputs: Inputs) -> Array:
        """Standardised columns (n x p)."""
        return (_columns(inputs, self.logs, self.recipes) - self.mean) / self.std

    def one_hot(self, inputs: Inputs) -> Array:
        """A column for each value of each gene, then the standardised columns of what is no choice (n x q)."""
        hot = [inputs.genes[:, [j]] == levels[None, :] for j, levels in enumerate(self.levels) if levels is not None]
        plain = [j for j, levels in enumerate(self.levels) if levels is None]
        plain += list(range(len(self.levels), len(self.mean)))
        return np.hstack([*hot, self.numbers(inputs)[:, plain]])

    def tallies(self, inputs: Inputs) -> Array:
        """Share of each choice among genes of the same choices, around what chance gives and about as wide (n x t)."""
        found = [np.zeros((len(inputs), 0))]
        for genes in self.alike:
            levels = self.levels[genes[0]]
            assert levels is not None
            share = (inputs.genes[:, genes, None] == levels).sum(axis=1, dtype=np.int16) / len(genes)
            found.append((share - 1.0 / len(levels)) * len(genes) ** 0.5)
        return np.hstack(found)


def learn_design(inputs: Inputs) -> Design:
    """What to do with columns, from those of the training samples."""
    logs = np.asarray((inputs.genes > 0).all(axis=0))
    recipes = int(inputs.recipe.max()) + 1
    columns = _columns(inputs, logs, recipes)
    std = columns.std(axis=0)
    levels = [np.unique(gene) for gene in inputs.genes.T]
    kept = tuple(values if len(values) <= MANY_LEVELS else None for values in levels)
    genes = inputs.genes.shape[1] + (recipes if recipes > 1 else 0)
    return Design(logs, columns.mean(axis=0), np.where(std > 1e-12, std, 1.0), kept, recipes, genes)


def _columns(inputs: Inputs, logs: Array, recipes: int) -> Array:
    genes = inputs.genes.astype(float)
    genes[:, logs] = np.log(np.maximum(genes[:, logs], 1e-9))
    costs = np.log(np.maximum(inputs.costs.astype(float), 1e-9))
    parts = [genes, costs, costs[:, 1:] - costs[:, :-1]]
    if recipes > 1:
        parts.insert(1, (inputs.recipe[:, None] == np.arange(recipes)[None, :]).astype(float))
    return np.hstack(parts)
