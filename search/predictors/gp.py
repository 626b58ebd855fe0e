"""Gaussian process for accuracy: Matern-5/2 over genes, another over costs, a Bayesian polynomial, and noise.

Each Matern part has a length scale per input; the polynomial is linear and quadratic in one-hot genes and log costs.
Every hyper-parameter has a log-normal prior: without one, forty numbers fitted on sixty networks claim far more than
they know. The prior of the length scales grows with the square root of the number of inputs. Accuracies are warped to
-log(ceiling - accuracy), in which equal steps are about equally hard; the ceiling is the likeliest of a few. A fit is a
few dozen steps of L-BFGS with analytic gradients, in which no array is larger than n x n.

References:
    Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006 (5.4.2 for leave-one-out).
    Hvarfner et al., Vanilla Bayesian optimization performs great in high dimensions, ICML 2024.
    Snelson et al., Warped Gaussian processes, NIPS 2003.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.predictors import Array, Inputs
from search.predictors.design import Design, learn_design

SQRT5 = math.sqrt(5.0)
CEILINGS = (0.1, 0.2, 0.4, 0.8)
"""Above the best accuracy, in ranges of the accuracies; 100 percent (and a little) is tried, too."""

HIGHEST = 100.1

PRIOR_LENGTH = (math.sqrt(2.0), 1.0)
PRIOR_SIGNAL = (math.log(0.5), 1.0)
PRIOR_LINEAR = (math.log(0.3), 1.0)
PRIOR_QUADRATIC = (math.log(0.5), 1.5)
PRIOR_NOISE = (math.log(0.07), 0.5)
"""Of each logarithm: mean and standard deviation. All but lengths are variances of a target of unit variance; the mean
of a length scale has half the logarithm of the number of inputs added."""

BOUND = 4.0
"""Standard deviations of its prior that a hyper-parameter may stray."""

MOST, MOST_TO_LEARN = 1000, 320
JITTER = 1e-8
CHUNK = 256


@dataclass(frozen=True, slots=True)
class GaussianProcess:
    """A fitted process. Made by ``fit``.

    Attributes:
        lengths: of every column, part after part.
        variances: of each Matern part, then linear, quadratic, noise; of a target of unit variance.
        numbers, basis, target: of the training samples (n x p, n x q, n).
        weights: K^-1 target (n).
        lower: Cholesky factor of K (n x n).
        shift, scale: warped accuracy = shift + scale * target.
    """

    design: Design
    lengths: Array
    variances: Array
    numbers: Array
    basis: Array
    target: Array
    weights: Array
    lower: Array
    shift: float
    scale: float
    ceiling: float

    def predict(self, inputs: Inputs) -> Array:
        """Median accuracy in percent (n)."""
        slopes, bends = self._polynomial()
        means = np.empty(len(inputs))
        for rows in _chunks(len(inputs)):
            part = inputs.part(rows)
            numbers, basis = self.design.numbers(part), self.design.one_hot(part)
            means[rows] = (
                basis @ slopes
                + ((basis @ bends) * basis).sum(axis=1)
                + self._materns(numbers, self.numbers) @ self.weights
            )
        return self._accuracy(means)

    def predict_std(self, inputs: Inputs) -> tuple[Array, Array]:
        """Median accuracy and standard deviation of a training's outcome, noise included, in percent (n each)."""
        mean, error = self.predict(inputs), np.empty(len(inputs))
        for rows in _chunks(len(inputs)):
            error[rows] = self._std(inputs.part(rows))
        return mean, self._percent(mean, error)

    def leave_one_out(self) -> tuple[Array, Array, Array]:
        """Accuracy and its standard deviation of each training sample from the others, and its own (n each)."""
        from scipy.linalg import cho_solve

        variance = 1.0 / np.diag(cho_solve((self.lower, True), np.eye(len(self.target))))
        mean = self._accuracy(self.target - self.weights * variance)
        return mean, self._percent(mean, np.sqrt(variance)), self._accuracy(self.target)

    @property
    def noise(self) -> float:
        """Variance of an outcome around what is predicted, of a target of unit variance."""
        return float(self.variances[-1])

    def covariance(self, inputs: Inputs) -> Array:
        """Posterior covariance of the target without noise (n x n)."""
        from scipy.linalg import solve_triangular

        numbers, basis = self.design.numbers(inputs), self.design.one_hot(inputs)
        known = solve_triangular(self.lower, self._prior(numbers, basis, self.numbers, self.basis).T, lower=True)
        return np.asarray(self._prior(numbers, basis, numbers, basis) - known.T @ known)

    def _prior(self, numbers: Array, basis: Array, others: Array, other_basis: Array) -> Array:
        """Prior covariance of networks with others (n x m)."""
        linear, quadratic, _ = self.variances[-3:]
        dot = basis @ other_basis.T / basis.shape[1]
        return np.asarray(self._materns(numbers, others) + linear * dot + quadratic * dot**2)

    def _accuracy(self, target: Array) -> Array:
        return np.asarray(self.ceiling - np.exp(-(self.shift + self.scale * target)))

    def _percent(self, mean: Array, error: Array) -> Array:
        """Standard deviation of ceiling - exp(-w) where w has this error around that median."""
        return np.asarray((self.ceiling - mean) * np.sqrt(np.expm1(np.minimum(self.scale * error, 3.0) ** 2)))

    def _polynomial(self) -> tuple[Array, Array]:
        """Posterior mean of the coefficients: linear (q) and quadratic (q x q)."""
        width, (linear, quadratic, _) = self.basis.shape[1], self.variances[-3:]
        slopes = linear / width * (self.basis.T @ self.weights)
        return slopes, quadratic / width**2 * (self.basis.T * self.weights) @ self.basis

    def _materns(self, numbers: Array, others: Array) -> Array:
        """Covariances of the Matern parts of networks with others (n x m)."""
        total = np.zeros((len(numbers), len(others)))
        for columns, variance in zip(self.design.parts, self.variances, strict=False):
            length = self.lengths[columns]
            total += variance * _matern(numbers[:, columns] / length, others[:, columns] / length)
        return total

    def _std(self, inputs: Inputs) -> Array:
        from scipy.linalg import solve_triangular

        numbers, basis = self.design.numbers(inputs), self.design.one_hot(inputs)
        *signals, linear, quadratic, noise = self.variances
        square = (basis**2).sum(axis=1) / basis.shape[1]
        prior = sum(signals) + linear * square + quadratic * square**2
        known = solve_triangular(self.lower, self._prior(numbers, basis, self.numbers, self.basis).T, lower=True)
        return np.asarray(np.sqrt(np.maximum(prior - (known**2).sum(axis=0), 0.0) + noise))


def fit(inputs: Inputs, accuracy_percent: Array, seed: int = 0) -> GaussianProcess:
    """Fits the process to trained networks.

    Of more than MOST, as many random ones are used, and of more than MOST_TO_LEARN, so many for the hyper-parameters.
    """
    rows = np.random.default_rng(seed).permutation(len(inputs))[:MOST]
    inputs, accuracy_percent = inputs.part(rows), accuracy_percent[rows]
    design = learn_design(inputs)
    numbers, basis = design.numbers(inputs), design.one_hot(inputs)
    few = slice(0, MOST_TO_LEARN)
    theta, ceiling = _learn(_problem(design, numbers[few], basis[few]), accuracy_percent[few], accuracy_percent)
    warped = -np.log(ceiling - accuracy_percent)
    shift, scale = float(warped.mean()), float(warped.std()) or 1.0
    target = (warped - shift) / scale
    lower, weights = _problem(design, numbers, basis).posterior(theta, target)
    split = numbers.shape[1]
    return GaussianProcess(
        design,
        np.exp(theta[:split]),
        np.exp(theta[split:]),
        numbers,
        basis,
        target,
        weights,
        lower,
        shift,
        scale,
        ceiling,
    )


def _problem(design: Design, numbers: Array, basis: Array) -> _Problem:
    return _Problem([numbers[:, columns] for columns in design.parts], basis @ basis.T / basis.shape[1])


def _learn(problem: _Problem, accuracy_percent: Array, every_percent: Array) -> tuple[Array, float]:
    """The likeliest hyper-parameters and ceiling."""
    start, found = problem.prior[0], []
    for ceiling in _ceilings(every_percent):
        warped = -np.log(ceiling - accuracy_percent)
        scale = float(warped.std()) or 1.0
        theta, value = problem.solve((warped - warped.mean()) / scale, start)
        found.append((value + len(warped) * math.log(scale) - float(warped.sum()), ceiling, theta))
        start = theta
    _, ceiling, theta = min(found, key=lambda row: row[0])
    return theta, ceiling


def _ceilings(accuracy_percent: Array) -> list[float]:
    best, spread = float(accuracy_percent.max()), float(np.ptp(accuracy_percent))
    nearer = [best + share * spread for share in CEILINGS if spread and best + share * spread < HIGHEST]
    return [HIGHEST, *reversed(nearer)]


class _Problem:
    """The hyper-parameters of one training set: log lengths, then log variances."""

    def __init__(self, parts: Sequence[Array], linear: Array) -> None:
        self.parts = parts
        self.linear = linear
        self.quadratic = linear**2
        lengths = [
            (PRIOR_LENGTH[0] + 0.5 * math.log(part.shape[1]), PRIOR_LENGTH[1])
            for part in parts
            for _ in range(part.shape[1])
        ]
        rest = [*[PRIOR_SIGNAL] * len(parts), PRIOR_LINEAR, PRIOR_QUADRATIC, PRIOR_NOISE]
        self.prior = np.array([*lengths, *rest]).T
        self.split = len(lengths)

    def solve(self, target: Array, start: Array) -> tuple[Array, float]:
        """The likeliest hyper-parameters and their negative log posterior."""
        from scipy.optimize import minimize

        bounds = [(mean - BOUND * std, mean + BOUND * std) for mean, std in self.prior.T]
        found = minimize(
            self.objective, start, args=(target,), jac=True, method="L-BFGS-B", bounds=bounds,
            options={"maxiter": 100, "ftol": 1e-6},
        )  # fmt: skip
        return np.asarray(found.x), float(found.fun)

    def posterior(self, theta: Array, target: Array) -> tuple[Array, Array]:
        """Cholesky factor of the covariance, and the weights."""
        from scipy.linalg import cho_solve

        lower = np.linalg.cholesky(self._covariance(theta, [_decays(x)[0] for x in self._scaled(theta)]))
        return lower, cho_solve((lower, True), target)

    def objective(self, theta: Array, target: Array) -> tuple[float, Array]:
        """Negative log posterior and its gradient."""
        from scipy.linalg import cho_solve

        scaled = self._scaled(theta)
        materns = [_decays(x) for x in scaled]
        lower = np.linalg.cholesky(self._covariance(theta, [matern for matern, _ in materns]))
        weights = cho_solve((lower, True), target)
        outer = 0.5 * (cho_solve((lower, True), np.eye(len(target))) - np.outer(weights, weights))
        variances = np.exp(theta[self.split :])
        gradient = [
            _length_gradient(outer * (variance * slope), x)
            for x, (_, slope), variance in zip(scaled, materns, variances, strict=False)
        ]
        kernels = [*(matern for matern, _ in materns), self.linear, self.quadratic]
        of_variances = [float((outer * kernel).sum()) for kernel in kernels] + [float(np.trace(outer))]
        away = (theta - self.prior[0]) / self.prior[1]
        value = 0.5 * target @ weights + np.log(np.diag(lower)).sum() + 0.5 * (away**2).sum()
        return float(value), np.concatenate([*gradient, variances * of_variances]) + away / self.prior[1]

    def _scaled(self, theta: Array) -> list[Array]:
        lengths, scaled, start = np.exp(theta[: self.split]), [], 0
        for part in self.parts:
            scaled.append(part / lengths[start : start + part.shape[1]])
            start += part.shape[1]
        return scaled

    def _covariance(self, theta: Array, materns: Sequence[Array]) -> Array:
        *signals, linear, quadratic, noise = np.exp(theta[self.split :])
        total = linear * self.linear + quadratic * self.quadratic
        for variance, matern in zip(signals, materns, strict=True):
            total += variance * matern
        total[np.diag_indices_from(total)] += noise + JITTER
        return np.asarray(total)


def _chunks(count: int) -> list[Array]:
    return [np.arange(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]


def _distances(a: Array, b: Array) -> Array:
    """sqrt(5) times the distances of points (n x p, m x p) -> (n x m)."""
    square = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :] - 2.0 * a @ b.T
    return np.asarray(SQRT5 * np.sqrt(np.maximum(square, 0.0)))


def _matern(a: Array, b: Array) -> Any:
    r = _distances(a, b)
    return (1.0 + r + r**2 / 3.0) * np.exp(-r)


def _decays(x: Array) -> tuple[Array, Array]:
    """Matern-5/2 correlations of points (n x p), and what multiplies squared differences in the lengths' gradient."""
    r = _distances(x, x)
    decay = np.exp(-r)
    return (1.0 + r + r**2 / 3.0) * decay, (1.0 + r) * decay * (5.0 / 3.0)


def _length_gradient(spread: Array, x: Array) -> Array:
    """Sum over pairs of spread * (x_j - x'_j)^2 (p), without an array of n x n x p."""
    return np.asarray(2.0 * ((x**2).T @ spread.sum(axis=1) - (x * (spread @ x)).sum(axis=0)))
