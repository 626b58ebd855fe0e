"""EES: an adaptive genetic algorithm that searches for all limits at once.

Every set of limits keeps a few elites; a child has parents from a limit's elites and its neighbours', and may become an
elite of any limit. The fitter its parent among the limit's elites, the less a child is disturbed. An elite that exceeds
its limits is ranked by its accuracy less a penalty, so that the search finds its way through the forbidden; the best
that meets its limits is kept beside. Halfway and at the end every best network is improved by exchanges of one gene or
two.

References:
    Dai et al., ChamNet, CVPR 2019 (EES); Srinivas & Patnaik, IEEE Trans. SMC 1994 (adaptive probabilities).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from search.cells import Array
from search.spaces.space import Genomes, SearchSpace

ELITES = 8
CONTENDERS = 4
"""Networks looked at for each place of an elite."""

GENES_PER_DIFFERENCE = 8
"""Two elites of a limit differ in at least one gene for so many: else all soon stand in one valley."""

PENALTY = 100.0
"""Accuracy points that an elite may be ahead for exceeding its limits by their whole: 1 % for one point."""

POLISH_ROUNDS = 12
PAIRS = 100
PAIR_SLACK = 0.002
"""How far the sum of two exchanges may exceed a limit and still be tried, relative: effects do not quite add up."""
DESCENT_STARTS = 32
START_BIASES = (1.0, 1.5, 2.5, 4.0)
START_SHARE = 5
"""Random networks at the start, in populations."""

UNIFORM_SHARE = 0.4
"""Of the mutated genes, how many draw any choice; the others step to a neighbouring one."""


@dataclass(frozen=True, slots=True)
class Objective:
    """What is searched for.

    Attributes:
        accuracy: genomes (n x d) -> accuracy in percent (n).
        costs: genomes (n x d) -> what is limited (n x m).
        limits: upper bounds, a row for each set of limits (l x m); neighbouring rows should be alike.
    """

    space: SearchSpace
    accuracy: Callable[[Genomes], Array]
    costs: Callable[[Genomes], Array]
    limits: Array


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to search; at least one child for each set of limits."""

    population: int = 500
    generations: int = 120


@dataclass(frozen=True, slots=True)
class Evolved:
    """The best networks of each set of limits, best first.

    Attributes:
        genomes: l x e x d.
        accuracy: l x e; -inf where a place is empty.
        excess: l: 0 where the limits can be met, else how far the nearest network found exceeds them, relative.
        nearest: l x d: that network.
    """

    genomes: Array
    accuracy: Array
    excess: Array
    nearest: Genomes
    evaluations: int


def evolve(objective: Objective, rng: np.random.Generator, effort: Effort | None = None) -> Evolved:
    """The most accurate networks within each set of limits. The same generator finds the same."""
    effort = effort or Effort()
    nearest, excess = _cheapest(objective, rng)
    feasible = np.flatnonzero(excess <= 0)
    width, count = len(objective.space.genes), len(objective.limits)
    genomes, accuracy = np.zeros((count, ELITES, width), np.int64), np.full((count, ELITES), -np.inf)
    evaluations = 0
    if len(feasible):
        search = _Search(objective, feasible, rng)
        search.offer(np.concatenate([nearest[feasible], search.random(START_SHARE * effort.population)]))
        for generation in range(effort.generations):
            search.offer(search.children(max(effort.population, len(feasible))))
            if generation == effort.generations // 2:
                search.polish(rounds=1)
                search.offer(search.best)
        search.polish(POLISH_ROUNDS)
        genomes[feasible], accuracy[feasible] = search.found()
        evaluations = search.evaluations
    return Evolved(genomes, accuracy, np.maximum(excess, 0.0), nearest, evaluations)


class _Search:
    """Elites of every set of limits, best first (l x e)."""

    def __init__(self, objective: Objective, rows: Array, rng: np.random.Generator) -> None:
        self.objective = objective
        self.limits = objective.limits[rows]
        self.rng = rng
        self.choices = [np.array(gene.choices) for gene in objective.space.genes]
        self.lengths = np.array([len(choices) for choices in self.choices])
        self.genomes = np.zeros((len(rows), ELITES, len(self.choices)), np.int64)
        self.fitness = np.full((len(rows), ELITES), -np.inf)
        self.apart = max(1, len(self.choices) // GENES_PER_DIFFERENCE)
        self.best = np.zeros((len(rows), len(self.choices)), np.int64)
        self.best_accuracy = np.full(len(rows), -np.inf)
        self.evaluations = 0
        self._mix = np.random.default_rng(0).integers(1, 2**62, len(self.choices)) | 1

    def random(self, count: int) -> Genomes:
        """Random networks, from uniform ones to such that have low values only."""
        bias = self.rng.choice(START_BIASES, (count, 1))
        numbers = (self.rng.random((count, len(self.choices))) ** bias * self.lengths).astype(np.int64)
        return np.stack([choices[column] for choices, column in zip(self.choices, numbers.T, strict=True)], axis=1)

    def offer(self, genomes: Genomes) -> None:
        """Evaluates networks and keeps the best for each set of limits."""
        if self.objective.space.same is not None:
            genomes = self.objective.space.same(genomes)
        _, unique = np.unique(genomes @ self._mix, return_index=True)
        self._place(genomes[unique], *self._evaluated(genomes[unique]))

    def _evaluated(self, genomes: Genomes) -> tuple[Array, Array]:
        self.evaluations += len(genomes)
        return self.objective.accuracy(genomes), self.objective.costs(genomes)

    def _place(self, genomes: Genomes, accuracy: Array, costs: Array) -> None:
        excess = np.maximum((costs[None] / self.limits[:, None] - 1.0).max(axis=2), 0.0)
        fitness = accuracy[None] - PENALTY * excess
        self._keep_best(genomes, np.where(excess > 0, -np.inf, accuracy[None]))
        better = fitness > self.fitness[:, -1:]
        for row in np.flatnonzero(better.any(axis=1)):
            self._keep(int(row), genomes[better[row]], fitness[row, better[row]])

    def _keep_best(self, genomes: Genomes, accuracy: Array) -> None:
        """Keeps the best network that meets each set of limits."""
        places = accuracy.argmax(axis=1)
        found = accuracy[np.arange(len(accuracy)), places]
        better = found > self.best_accuracy
        self.best[better], self.best_accuracy[better] = genomes[places[better]], found[better]

    def _keep(self, row: int, genomes: Genomes, fitness: Array) -> None:
        """The fittest become elites, of those that are nearly the same network only one."""
        filled = np.isfinite(self.fitness[row])
        pool = np.concatenate([self.genomes[row][filled], genomes])
        worth = np.concatenate([self.fitness[row][filled], fitness])
        order = np.argsort(-worth, kind="stable")[: CONTENDERS * ELITES]
        apart = (pool[order][:, None] != pool[order][None]).sum(axis=2) >= self.apart
        chosen: list[int] = []
        free = np.ones(len(order), bool)
        while len(chosen) < ELITES and free.any():
            chosen.append(int(free.argmax()))
            free &= apart[chosen[-1]]
        kept = order[chosen]
        self.genomes[row, : len(kept)], self.fitness[row, : len(kept)] = pool[kept], worth[kept]
        self.fitness[row, len(kept) :] = -np.inf

    def children(self, count: int) -> Genomes:
        """Children of elites of a limit and of its neighbours."""
        rows = np.arange(count) % len(self.genomes)
        filled = np.isfinite(self.fitness).sum(axis=1)
        first = (self.rng.random(count) ** 1.5 * filled[rows]).astype(np.int64)
        others = np.clip(rows + self.rng.integers(-1, 2, count), 0, len(self.genomes) - 1)
        second = (self.rng.random(count) * filled[others]).astype(np.int64)
        mothers, fathers = self.genomes[rows, first], self.genomes[others, second]
        swapped = self.rng.random(mothers.shape) < self.rng.choice([0.0, 0.2, 0.5], (count, 1))
        return self._mutated(np.where(swapped, fathers, mothers), self._disturbance(rows, first))

    def _disturbance(self, rows: Array, places: Array) -> Array:
        """How much a child of each elite is changed: from .5 for the fittest to 1.5 for those below the mean."""
        finite = np.where(np.isfinite(self.fitness), self.fitness, np.nan)
        best, mean = finite[:, 0], np.nanmean(finite, axis=1)
        reach = (best[rows] - finite[rows, places]) / np.maximum(best[rows] - mean[rows], 1e-9)
        return np.asarray(0.5 + np.clip(reach, 0.0, 1.0))

    def _mutated(self, genomes: Genomes, disturbance: Array) -> Genomes:
        count, width = genomes.shape
        changed = self.rng.random((count, width)) < (1.5 * disturbance / width)[:, None]
        changed[np.arange(count), self.rng.integers(0, width, count)] |= ~changed.any(axis=1)
        any_choice = self.rng.random((count, width)) < UNIFORM_SHARE
        uniform = (self.rng.random((count, width)) * self.lengths).astype(np.int64)
        steps = self.rng.choice([-1, 1], (count, width))
        mutated = genomes.copy()
        for gene, choices in enumerate(self.choices):
            rows = np.flatnonzero(changed[:, gene])
            now = np.searchsorted(choices, genomes[rows, gene])
            near = np.clip(now + steps[rows, gene], 0, len(choices) - 1)
            mutated[rows, gene] = choices[np.where(any_choice[rows, gene], uniform[rows, gene], near)]
        return mutated

    def polish(self, rounds: int) -> None:
        """Exchanges one gene, or two that look best together, of the best networks until that helps none."""
        done: set[int] = set()
        for _ in range(rounds):
            marks = self.best @ self._mix
            todo = [row for row in range(len(self.best)) if int(marks[row]) not in done]
            if not todo:
                return
            done |= {int(mark) for mark in marks[todo]}
            starts = self.best[todo].copy()
            near = [neighbours(start[None], self.choices) for start in starts]
            together = np.concatenate([starts, *near])
            accuracy, costs = self._evaluated(together)
            self._place(together, accuracy, costs)
            pairs, begin = [], len(starts)
            for i, row in enumerate(todo):
                end = begin + len(near[i])
                gains, dearer = accuracy[begin:end] - accuracy[i], costs[begin:end] - costs[i]
                spare = self.limits[row] * (1.0 + PAIR_SLACK) - costs[i]
                pairs.append(promising_pairs(starts[i], near[i], gains, dearer, spare))
                begin = end
            if sum(map(len, pairs)):
                self.offer(np.concatenate(pairs))

    def found(self) -> tuple[Array, Array]:
        """The best network of each set of limits, then the elites that meet them (l x e x d); accuracies (l x e)."""
        genomes = np.concatenate([self.best[:, None], self.genomes], axis=1)
        accuracy = np.concatenate([self.best_accuracy[:, None], self.fitness], axis=1)
        flat = genomes.reshape(-1, genomes.shape[2])[np.isfinite(accuracy).ravel()]
        met = np.zeros(accuracy.shape, bool)
        limits = np.repeat(self.limits[:, None], accuracy.shape[1], axis=1)[np.isfinite(accuracy)]
        met[np.isfinite(accuracy)] = (self.objective.costs(flat) <= limits).all(axis=1)
        met[:, 1:] &= (self.genomes != self.best[:, None]).any(axis=2)
        accuracy = np.where(met, accuracy, -np.inf)
        order = np.argsort(-accuracy, axis=1, kind="stable")[:, :ELITES]
        return np.take_along_axis(genomes, order[:, :, None], axis=1), np.take_along_axis(accuracy, order, axis=1)


def neighbours(genomes: Genomes, choices: list[Array]) -> Genomes:
    """Every network that differs in one gene from one of these."""
    found = []
    for gene, values in enumerate(choices):
        copies = np.repeat(genomes, len(values), axis=0)
        copies[:, gene] = np.tile(values, len(genomes))
        found.append(copies[copies[:, gene] != np.repeat(genomes[:, gene], len(values))])
    return np.concatenate(found)


def promising_pairs(start: Array, near: Genomes, gains: Array, dearer: Array, spare: Array) -> Genomes:
    """Pairs of exchanges (k x d) that should gain most if effects of single ones add up and the cost stays within.

    Args:
        near: networks that differ from ``start`` in one gene (n x d).
        gains: of accuracy by each (n).
        dearer: what each costs more (n x m).
        spare: what may be spent (m).
    """
    gene = (near != start).argmax(axis=1)
    both = gains[:, None] + gains[None, :]
    fits = (dearer[:, None] + dearer[None, :] <= spare).all(axis=2) & (gene[:, None] < gene[None, :]) & (both > 0)
    first, second = np.nonzero(fits)
    best = np.argsort(-both[first, second], kind="stable")[:PAIRS]
    first, second = first[best], second[best]
    pairs = near[first]
    pairs[np.arange(len(pairs)), gene[second]] = near[second, gene[second]]
    return pairs


def _cheapest(objective: Objective, rng: np.random.Generator) -> tuple[Genomes, Array]:
    """For each set of limits the network found that exceeds it least (l x d), and by how much, relative (l)."""
    choices = [np.array(gene.choices) for gene in objective.space.genes]
    lowest = np.array([[values[0] for values in choices]])
    pool = np.concatenate([lowest, objective.space.sample_many(rng, DESCENT_STARTS)])
    excess = _excess(objective, pool)
    nearest, least = pool[excess.argmin(axis=1)], excess.min(axis=1)
    while (least > 0).any():
        pool = neighbours(np.unique(nearest[least > 0], axis=0), choices)
        excess = _excess(objective, pool)
        better = excess.min(axis=1) < least - 1e-12
        if not better.any():
            break
        nearest[better], least[better] = pool[excess.argmin(axis=1)[better]], excess.min(axis=1)[better]
    return nearest, least


def _excess(objective: Objective, genomes: Genomes) -> Array:
    """How far networks exceed the worst of each set of limits, relative (l x n)."""
    costs = objective.costs(genomes)
    return np.asarray((costs[None] / objective.limits[:, None] - 1.0).max(axis=2))
