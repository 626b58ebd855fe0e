"""Gaussian process whose covariance is a sum of terms, for quantities of which little is known, such as log power.

A term is linear or smooth (Matern-5/2 with one length scale) in columns of its own, perhaps only among rows of one
group; groups that share a term borrow from each other, groups that have one of their own differ (partial pooling).
How it is fitted is in ``additive_fit``.

References:
    Duvenaud, Nickisch & Rasmussen, Additive Gaussian processes, NIPS 2011.
    Gelman & Hill, Data analysis using regression and multilevel models, 2007 (partial pooling).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from search.predictors import Z95, Array
from search.predictors.gp import matern

LEVEL = 1.0
"""Standard deviation of the target's level around that of the training rows: as good as unknown."""

COVERED = 0.95


@dataclass(frozen=True, slots=True)
class Term:
    """One part of the covariance.

    Attributes:
        sd: median of its prior standard deviation, in the target's units.
        spread: standard deviation of the logarithm of that.
        within: holds only among rows of one group.
    """

    name: str
    smooth: bool
    sd: float
    spread: float = 1.0
    within: bool = False


@dataclass(frozen=True, slots=True)
class Noise:
    """What varies beyond the known variances: prior of its standard deviation, and whether its tails are heavy."""

    sd: float
    spread: float = 0.7
    heavy: bool = False


@dataclass(frozen=True, slots=True)
class Points:
    """Rows as the terms see them: per term n x p, and the group of each (n)."""

    columns: tuple[Array, ...]
    groups: Array

    def __len__(self) -> int:
        return len(self.groups)

    def part(self, rows: Array | slice) -> Points:
        return Points(tuple(column[rows] for column in self.columns), self.groups[rows])


@dataclass(frozen=True, slots=True)
class Process:
    """A fitted process. Made by ``additive_fit``.

    Attributes:
        theta: log lengths of the smooth terms, log standard deviations of all terms, that of the noise.
        level: mean of the target.
        weights, lower: K^-1 (target - level) (n), Cholesky factor of K (n x n).
        variances: of each training row's own noise (n).
        worth: of each training row: about 1, less where it lies far off (n).
        evidence: log probability of the target with these hyper-parameters, plus that of these beside their medians.
    """

    terms: tuple[Term, ...]
    theta: Array
    points: Points
    level: float
    weights: Array
    lower: Array
    variances: Array
    worth: Array
    evidence: float = 0.0

    @property
    def noise_sd(self) -> float:
        return float(np.exp(self.theta[-1]))

    def predict(self, points: Points) -> Array:
        """Posterior means (m)."""
        return np.asarray(self.level + self.prior(points, self.points) @ self.weights)

    def variance(self, points: Points) -> Array:
        """Posterior variances without noise (m)."""
        known = self._known(points)
        prior = prior_variance(self.terms, self.theta, points)
        return np.asarray(np.maximum(prior - (known**2).sum(axis=0), 0.0))

    def covariance(self, points: Points) -> Array:
        """Posterior covariance without noise (m x m)."""
        known = self._known(points)
        return np.asarray(self.prior(points, points) - known.T @ known)

    @property
    def parameters(self) -> float:
        """How many free parameters the fit amounts to: each row counts by how much its own target decides its mean."""
        from scipy.linalg import cho_solve

        precision = np.diag(cho_solve((self.lower, True), np.eye(len(self.weights))))
        return float((1.0 - self.variances * precision).sum())

    def prior(self, some: Points, others: Points) -> Array:
        """Covariance before any data (n x m)."""
        return sum_of_terms(self.terms, self.theta, some, others)

    def influence(self, points: Points) -> Array:
        """By how much each training row's target moves the mean of each point (n x m)."""
        from scipy.linalg import cho_solve

        return np.asarray(cho_solve((self.lower, True), self.prior(self.points, points)))

    def leave_one_out(self) -> tuple[Array, Array]:
        """Each training row's target less its prediction from the others, and the variance of that (n each)."""
        from scipy.linalg import cho_solve

        variance = 1.0 / np.diag(cho_solve((self.lower, True), np.eye(len(self.weights))))
        return self.weights * variance, variance

    def _known(self, points: Points) -> Array:
        """What the training rows explain of points, L^-1 of their prior covariance (n x m)."""
        from scipy.linalg import solve_triangular

        prior = self.prior(self.points, points)
        return np.asarray(solve_triangular(self.lower, prior, lower=True)) if len(prior) else prior


def surprise(errors: Array) -> float:
    """How many times too narrow standard deviations are, by errors divided by them, that 95 % be within 1.96 (n)."""
    rank = min(1.0, COVERED * (1.0 + 1.0 / len(errors)))
    return float(np.quantile(np.abs(errors), rank)) / Z95


def student_factor(freedom: float) -> float:
    """By how much a normal interval of 95 % must grow where its width rests on so few degrees of freedom."""
    from scipy.stats import t

    return float(t.ppf(0.5 + COVERED / 2.0, freedom)) / Z95


def sum_of_terms(terms: Sequence[Term], theta: Array, some: Points, others: Points) -> Array:
    """Prior covariance of rows with others (n x m), that of the level included."""
    smooth = sum(term.smooth for term in terms)
    lengths, total = iter(np.exp(theta[:smooth])), np.full((len(some), len(others)), LEVEL**2)
    same = some.groups[:, None] == others.groups[None, :]
    for term, x, y, sd in zip(terms, some.columns, others.columns, np.exp(theta[smooth:-1]), strict=True):
        if term.smooth:
            length = next(lengths)
            kernel = sd**2 * matern(x / length, y / length)
        else:
            kernel = sd**2 * dot(x, y)
        total += kernel * same if term.within else kernel
    return np.asarray(total)


def prior_variance(terms: Sequence[Term], theta: Array, points: Points) -> Array:
    """Prior variances of rows, without noise (n)."""
    deviations = np.exp(theta[sum(term.smooth for term in terms) : -1])
    total = np.full(len(points), LEVEL**2)
    for term, x, sd in zip(terms, points.columns, deviations, strict=True):
        total += sd**2 * (1.0 if term.smooth else (x**2).sum(axis=1) / max(1, x.shape[1]))
    return np.asarray(total)


def dot(a: Array, b: Array) -> Array:
    """Mean over the columns of products (n x p, m x p) -> (n x m)."""
    return np.asarray(a @ b.T / max(1, a.shape[1]))
