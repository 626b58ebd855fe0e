"""Fits the processes of ``additive``.

Every standard deviation and length has a log-normal prior in the target's own units, so that a term which the data do
not ask for shrinks away. Each row may have a known variance of its own; what varies beyond it is learned, and may have
heavy tails: rows far off then count less (a Student-t distribution as a scale mixture). A fit is some dozen steps of
L-BFGS with analytic gradients.

References:
    Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006.
    Lange, Little & Taylor, Robust statistical modeling using the t distribution, JASA 1989.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from search.predictors import Array
from search.predictors.additive import LEVEL, Noise, Points, Process, Term, dot
from search.predictors.gp import JITTER, distances

LENGTH_SPREAD, BOUND = 0.7, 4.0
"""Of log lengths: standard deviation of the prior. How many standard deviations a hyper-parameter may stray."""

FREEDOM, ROUNDS, SETTLED = 4.0, 3, 30
"""Of the heavy tails: degrees of freedom; rounds in which weights of rows settle with, and without hyper-parameters."""

SMALLEST = 1e-6
MOST_TO_LEARN = 320


def fit(
    terms: Sequence[Term], points: Points, target: Array, noise: Noise, known: Array | None = None,
    worth: Array | None = None,
) -> Process:  # fmt: skip
    """Fits a process; of many rows, the first MOST_TO_LEARN decide the hyper-parameters.

    Args:
        known: variance of each row that is known beforehand (n), such as a meter's.
        worth: of each row, where that is settled already.
    """
    own = np.zeros(len(target)) if known is None else known
    level, spread = typical(target)
    rest = target - level
    heavy = noise.heavy and worth is None
    if worth is None:
        worth = _worth(rest**2 / spread**2) if heavy else np.ones(len(target))
    few = slice(0, MOST_TO_LEARN)
    theta, some = Problem(tuple(terms), points.part(few), noise, own[few]).learn(rest[few], worth[few], heavy)
    problem = Problem(tuple(terms), points, noise, own)
    if heavy:
        worth = some if len(some) == len(worth) else problem.worth(rest, theta, worth)
    lower, weights = problem.posterior(rest, theta, worth)
    variances = own + np.exp(2 * theta[-1]) / worth
    evidence = -problem.objective(theta, rest, worth)[0]
    return Process(tuple(terms), theta, points, level, weights, lower, variances, worth, evidence)


def prior_process(terms: Sequence[Term], points: Points, noise: Noise) -> Process:
    """A process that has seen nothing: every hyper-parameter at the median of its prior."""
    problem = Problem(tuple(terms), points.part(slice(0, 0)), noise, np.zeros(0))
    none = np.zeros(0)
    return Process(tuple(terms), problem.start, problem.points, 0.0, none, np.zeros((0, 0)), none, none)


def typical(values: Array) -> tuple[float, float]:
    """Where most values lie and how far they spread: centre and scale of the likeliest Student-t distribution."""
    centre = float(np.median(values))
    scale = 1.4826 * float(np.median(np.abs(values - centre)))
    for _ in range(SETTLED):
        scale = max(scale, SMALLEST)
        worth = _worth((values - centre) ** 2 / scale**2)
        centre = float((worth * values).sum() / worth.sum())
        scale = float(np.sqrt((worth * (values - centre) ** 2).mean()))
    return centre, max(scale, SMALLEST)


def _worth(square: Array) -> Array:
    """How much rows count that are so many squared standard deviations off."""
    return np.asarray((FREEDOM + 1.0) / (FREEDOM + square))


class Problem:
    """The hyper-parameters of one training set.

    Attributes:
        start, spread: mean and standard deviation of the prior of each.
    """

    def __init__(self, terms: tuple[Term, ...], points: Points, noise: Noise, own: Array) -> None:
        self.terms, self.points, self.own = terms, points, own
        self.smooth = [k for k, term in enumerate(terms) if term.smooth]
        lengths = [0.5 * math.log(2.0 * points.columns[k].shape[1]) for k in self.smooth]
        self.start = np.array([*lengths, *(math.log(term.sd) for term in terms), math.log(noise.sd)])
        spreads = [*[LENGTH_SPREAD] * len(lengths), *(term.spread for term in terms), noise.spread]
        self.spread = np.array(spreads)
        same = points.groups[:, None] == points.groups[None, :]
        self._masks = [same if term.within else None for term in terms]
        self._bases = [
            distances(columns, columns) if term.smooth else dot(columns, columns)
            for term, columns in zip(terms, points.columns, strict=True)
        ]

    def learn(self, target: Array, worth: Array, heavy: bool) -> tuple[Array, Array]:
        """The likeliest hyper-parameters, and the worth of rows, which tails that are heavy decide with them."""
        theta = self.start
        for _ in range(ROUNDS if heavy else 1):
            theta = self.solve(target, theta, worth)
            worth = self.worth(target, theta, worth) if heavy else worth
        return theta, worth

    def solve(self, target: Array, start: Array, worth: Array) -> Array:
        """The likeliest hyper-parameters."""
        from scipy.optimize import minimize

        bounds = list(zip(self.start - BOUND * self.spread, self.start + BOUND * self.spread, strict=True))
        found = minimize(
            self.objective, start, args=(target, worth), jac=True, method="L-BFGS-B", bounds=bounds,
            options={"maxiter": 60, "ftol": 1e-6},
        )  # fmt: skip
        return np.asarray(found.x)

    def objective(self, theta: Array, target: Array, worth: Array) -> tuple[float, Array]:
        """Negative log posterior and its gradient."""
        from scipy.linalg import cho_solve

        kernels, slopes = self._kernels(theta)
        lower, weights = self._factor(theta, kernels, target, worth)
        outer = cho_solve((lower, True), np.eye(len(target))) - np.outer(weights, weights)
        lengths = [0.5 * float((outer * slope).sum()) for slope in slopes]
        deviations = [float((outer * kernel).sum()) for kernel in kernels]
        noise = float((np.diag(outer) / worth).sum() * np.exp(2 * theta[-1]))
        away = (theta - self.start) / self.spread
        value = 0.5 * target @ weights + np.log(np.diag(lower)).sum() + 0.5 * away @ away
        return float(value), np.array([*lengths, *deviations, noise]) + away / self.spread

    def posterior(self, target: Array, theta: Array, worth: Array) -> tuple[Array, Array]:
        return self._factor(theta, self._kernels(theta)[0], target, worth)

    def worth(self, target: Array, theta: Array, worth: Array) -> Array:
        """How much each row counts, by how far off it is expected to be (n)."""
        from scipy.linalg import cho_solve

        lower, weights = self.posterior(target, theta, worth)
        noise = np.exp(2 * theta[-1])
        variance = self.own + noise / worth
        precision = np.diag(cho_solve((lower, True), np.eye(len(target))))
        square = (variance * weights) ** 2 + np.maximum(variance - variance**2 * precision, 0.0)
        return _worth(np.maximum(square - self.own, 0.0) / noise)

    def _factor(self, theta: Array, kernels: Sequence[Array], target: Array, worth: Array) -> tuple[Array, Array]:
        from scipy.linalg import cho_solve

        total = LEVEL**2 + sum(kernels, np.zeros((len(target), len(target))))
        total[np.diag_indices_from(total)] += self.own + np.exp(2 * theta[-1]) / worth + JITTER
        lower = np.linalg.cholesky(total)
        return lower, cho_solve((lower, True), target)

    def _kernels(self, theta: Array) -> tuple[list[Array], list[Array]]:
        """Of each term its covariance, of each smooth one the derivative by its log length."""
        kernels, slopes = [], []
        for k, (term, base, mask) in enumerate(zip(self.terms, self._bases, self._masks, strict=True)):
            variance = math.exp(2 * theta[len(self.smooth) + k])
            if not term.smooth:
                kernel = variance * base
            else:
                r = base * math.exp(-theta[self.smooth.index(k)])
                decay = np.exp(-r)
                kernel = variance * (1.0 + r + r**2 / 3.0) * decay
                slope = variance * (r**2 / 3.0) * (1.0 + r) * decay
                slopes.append(slope if mask is None else slope * mask)
            kernels.append(kernel if mask is None else kernel * mask)
        return kernels, slopes
