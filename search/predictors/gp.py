"""Gaussian process for accuracy: Matern-5/2 over genes, another over costs, a Bayesian polynomial, and noise.

Each Matern part has a length scale per input; the polynomial is linear and quadratic in one-hot genes and log costs.
Every hyper-parameter has a log-normal prior: without one, forty numbers fitted on sixty networks claim far more than
they know. The prior of the length scales grows with the square root of the number of inputs, and genes of the same
choices share it: what is learned of the kernel size of one stage tells something of that of another. Accuracies are
warped to -log(ceiling - accuracy), in which equal steps are about equally hard; the ceiling is the likeliest of a few.
A fit is a few dozen steps of L-BFGS with analytic gradients, in which no array is larger than n x n.

References:
    Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006 (5.4.2 for leave-one-out).
    Hvarfner et al., Vanilla Bayesian optimization performs great in high dimensions, ICML 2024.
    Snelson et al., Warped Gaussian processes, NIPS 2003.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from search.predictors import Array, Inputs
from search.predictors.design import Design, learn_design
from search.predictors.threads import one_thread

Described = tuple[Array, tuple[Array, Array]]
"""Networks as standardised numbers (n x p), and as a basis (n x q) and tallies (n x t) for polynomials."""

SQRT5 = math.sqrt(5.0)
CEILINGS = (0.1, 0.2, 0.4, 0.8)
"""Above the best accuracy, in ranges of the accuracies; 100 percent (and a little) is tried, too."""

HIGHEST = 100.1

PRIOR_LENGTH = (math.sqrt(2.0), 1.0)
PRIOR_SIGNAL = (0.0, 1.0)
PRIOR_LINEAR = (math.log(0.3), 1.0)
PRIOR_QUADRATIC = (math.log(0.5), 1.5)
PRIOR_TALLIES = (math.log(0.1), 1.5), (math.log(0.1), 1.5)
PRIOR_NOISE = (math.log(0.07), 0.5)
"""Of each logarithm: mean and standard deviation. All but lengths are variances of a target of unit variance; the mean
of a length scale has half the logarithm of the number of inputs added."""

LENGTH_OF_GENE = 0.3
"""Standard deviation of a gene's log length scale around that of the genes of the same choices."""

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
        variances: of each Matern part; linear and quadratic, of the basis, then of the tallies; noise; of a target of
            unit variance.
        numbers, basis, tallies, target: of the training samples (n x p, n x q, n x t, n).
        weights: K^-1 target (n).
        lower: Cholesky factor of K (n x n).
        shift, scale: warped accuracy = shift + scale * target.
    """

    design: Design
    lengths: Array
    variances: Array
    numbers: Array
    basis: Array
    tallies: Array
    target: Array
    weights: Array
    lower: Array
    shift: float
    scale: float
    ceiling: float

    def predict(self, inputs: Inputs) -> Array:
        """Median accuracy in percent (n)."""
        polynomials, means = self._polynomials(), np.empty(len(inputs))
        with one_thread():
            for rows in _chunks(len(inputs)):
                numbers, bases = self._described(inputs.part(rows))
                means[rows] = self._materns(numbers, self.numbers) @ self.weights
                for x, (slopes, bends) in zip(bases, polynomials, strict=True):
                    means[rows] += x @ slopes + ((x @ bends) * x).sum(axis=1)
        return self._accuracy(means)

    def predict_std(self, inputs: Inputs) -> tuple[Array, Array]:
        """Median accuracy and standard deviation of a training's outcome, noise included, in percent (n each)."""
        mean, error = self.predict(inputs), np.empty(len(inputs))
        with one_thread():
            for rows in _chunks(len(inputs)):
                error[rows] = self._std(inputs.part(rows))
        return mean, self._percent(mean, error)

    def leave_one_out(self) -> tuple[Array, Array, Array]:
        """Accuracy and its standard deviation of each training sample from the others, and its own (n each)."""
        from scipy.linalg import cho_solve

        with one_thread():
            variance = 1.0 / np.diag(cho_solve((self.lower, True), np.eye(len(self.target))))
        mean = self._accuracy(self.target - self.weights * variance)
        return mean, self._percent(mean, np.sqrt(variance)), self._accuracy(self.target)

    def believing(self, inputs: Inputs) -> GaussianProcess:
        """This process once it is told that these networks turned out just as it predicts.

        Its means stay, its doubts about them and their like shrink; hyper-parameters are not learned again.

        References:
            Ginsbourger et al., Kriging is well-suited to parallelize optimization, 2010 (kriging believer).
        """
        from scipy.linalg import solve_triangular

        x, old, new = self._described(inputs), len(self.target), len(inputs)
        cross = self._prior(x, self._seen)
        lower = np.zeros((old + new, old + new))
        with one_thread():
            side = solve_triangular(self.lower, cross.T, lower=True)
            rest = self._prior(x, x) + (self.noise + JITTER) * np.eye(new) - side.T @ side
            lower[:old, :old], lower[old:, :old], lower[old:, old:] = self.lower, side.T, np.linalg.cholesky(rest)
        numbers, (basis, tallies) = x
        return replace(
            self,
            numbers=np.vstack([self.numbers, numbers]),
            basis=np.vstack([self.basis, basis]),
            tallies=np.vstack([self.tallies, tallies]),
            target=np.concatenate([self.target, cross @ self.weights]),
            weights=np.concatenate([self.weights, np.zeros(new)]),
            lower=lower,
        )

    @property
    def noise(self) -> float:
        """Variance of an outcome around what is predicted, of a target of unit variance."""
        return float(self.variances[-1])

    def covariance(self, inputs: Inputs) -> Array:
        """Posterior covariance of the target without noise (n x n)."""
        from scipy.linalg import solve_triangular

        x = self._described(inputs)
        with one_thread():
            known = solve_triangular(self.lower, self._prior(x, self._seen).T, lower=True)
            return np.asarray(self._prior(x, x) - known.T @ known)

    @property
    def _seen(self) -> Described:
        return self.numbers, (self.basis, self.tallies)

    def _described(self, inputs: Inputs) -> Described:
        return self.design.numbers(inputs), (self.design.one_hot(inputs), self.design.tallies(inputs))

    def _prior(self, some: Described, others: Described) -> Array:
        """Prior covariance of networks with others (n x m)."""
        total = self._materns(some[0], others[0])
        for x, y, (linear, quadratic) in zip(some[1], others[1], self._of_polynomials, strict=True):
            dot = _dot(x, y)
            total += linear * dot + quadratic * dot**2
        return total

    @property
    def _of_polynomials(self) -> Array:
        """Variances, linear and quadratic, of the basis and of the tallies (2 x 2)."""
        return self.variances[-5:-1].reshape(2, 2)

    def _accuracy(self, target: Array) -> Array:
        return np.asarray(self.ceiling - np.exp(-(self.shift + self.scale * target)))

    def _percent(self, mean: Array, error: Array) -> Array:
        """Standard deviation of ceiling - exp(-w) where w has this error around that median."""
        return np.asarray((self.ceiling - mean) * np.sqrt(np.expm1(np.minimum(self.scale * error, 3.0) ** 2)))

    def _polynomials(self) -> list[tuple[Array, Array]]:
        """Posterior means of the coefficients, linear (q) and quadratic (q x q), of the basis and of the tallies."""
        found = []
        for x, (linear, quadratic) in zip(self._seen[1], self._of_polynomials, strict=True):
            width = max(1, x.shape[1])
            slopes = linear / width * (x.T @ self.weights)
            found.append((slopes, quadratic / width**2 * (x.T * self.weights) @ x))
        return found

    def _materns(self, numbers: Array, others: Array) -> Array:
        """Covariances of the Matern parts of networks with others (n x m)."""
        total = np.zeros((len(numbers), len(others)))
        for columns, variance in zip(self.design.parts, self.variances, strict=False):
            length = self.lengths[columns]
            total += variance * matern(numbers[:, columns] / length, others[:, columns] / length)
        return total

    def _std(self, inputs: Inputs) -> Array:
        from scipy.linalg import solve_triangular

        x = self._described(inputs)
        prior = np.full(len(inputs), self.variances[:-5].sum())
        for basis, (linear, quadratic) in zip(x[1], self._of_polynomials, strict=True):
            square = (basis**2).sum(axis=1) / max(1, basis.shape[1])
            prior += linear * square + quadratic * square**2
        known = solve_triangular(self.lower, self._prior(x, self._seen).T, lower=True)
        return np.asarray(np.sqrt(np.maximum(prior - (known**2).sum(axis=0), 0.0) + self.noise))


def fit(inputs: Inputs, accuracy_percent: Array, seed: int = 0) -> GaussianProcess:
    """Fits the process to trained networks.

    Of more than MOST, as many random ones are used, and of more than MOST_TO_LEARN, so many for the hyper-parameters.
    """
    rows = np.random.default_rng(seed).permutation(len(inputs))[:MOST]
    inputs, accuracy_percent = inputs.part(rows), accuracy_percent[rows]
    design = learn_design(inputs)
    numbers, basis, tallies = design.numbers(inputs), design.one_hot(inputs), design.tallies(inputs)
    few = slice(0, MOST_TO_LEARN)
    with one_thread():
        theta, ceiling = _learn(
            _problem(design, numbers[few], basis[few], tallies[few]), accuracy_percent[few], accuracy_percent
        )
        warped = -np.log(ceiling - accuracy_percent)
        shift, scale = float(warped.mean()), float(warped.std()) or 1.0
        target = (warped - shift) / scale
        lower, weights = _problem(design, numbers, basis, tallies).posterior(theta, target)
    split = numbers.shape[1]
    return GaussianProcess(
        design,
        np.exp(theta[:split]),
        np.exp(theta[split:]),
        numbers,
        basis,
        tallies,
        target,
        weights,
        lower,
        shift,
        scale,
        ceiling,
    )


def _problem(design: Design, numbers: Array, basis: Array, tallies: Array) -> Problem:
    parts = [numbers[:, columns] for columns in design.parts]
    return Problem(parts, [_dot(basis, basis), _dot(tallies, tallies)], design.alike)


def _learn(problem: Problem, accuracy_percent: Array, every_percent: Array) -> tuple[Array, float]:
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


class Problem:
    """The hyper-parameters of one training set: log lengths, then log variances.

    Attributes:
        prior: mean and standard deviation of each (2 x h).
        precision: inverse of the prior's covariance (h x h).
    """

    def __init__(self, parts: Sequence[Array], linear: Sequence[Array], alike: Sequence[Sequence[int]] = ()) -> None:
        self.parts = parts
        self.polynomials = [kernel for dot in linear for kernel in (dot, dot**2)]
        lengths = [
            (PRIOR_LENGTH[0] + 0.5 * math.log(part.shape[1]), PRIOR_LENGTH[1])
            for part in parts
            for _ in range(part.shape[1])
        ]
        rest = [*[PRIOR_SIGNAL] * len(parts), *[PRIOR_LINEAR, PRIOR_QUADRATIC], *PRIOR_TALLIES, PRIOR_NOISE]
        mean, std = np.array([*lengths, *rest]).T
        covariance = np.diag(std**2)
        for columns in alike:
            covariance[columns, columns] = LENGTH_OF_GENE**2
            covariance[np.ix_(columns, columns)] += PRIOR_LENGTH[1] ** 2
        self.prior = np.array([mean, np.sqrt(np.diag(covariance))])
        self.precision = np.linalg.inv(covariance)
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
        kernels = [*(matern for matern, _ in materns), *self.polynomials]
        of_variances = [float((outer * kernel).sum()) for kernel in kernels] + [float(np.trace(outer))]
        away = theta - self.prior[0]
        pull = self.precision @ away
        value = 0.5 * target @ weights + np.log(np.diag(lower)).sum() + 0.5 * away @ pull
        return float(value), np.concatenate([*gradient, variances * of_variances]) + pull

    def _scaled(self, theta: Array) -> list[Array]:
        lengths, scaled, start = np.exp(theta[: self.split]), [], 0
        for part in self.parts:
            scaled.append(part / lengths[start : start + part.shape[1]])
            start += part.shape[1]
        return scaled

    def _covariance(self, theta: Array, materns: Sequence[Array]) -> Array:
        *variances, noise = np.exp(theta[self.split :])
        total = np.zeros_like(materns[0])
        for variance, kernel in zip(variances, [*materns, *self.polynomials], strict=True):
            total += variance * kernel
        total[np.diag_indices_from(total)] += noise + JITTER
        return np.asarray(total)


def _chunks(count: int) -> list[Array]:
    return [np.arange(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]


def _dot(a: Array, b: Array) -> Array:
    """Mean over the columns of products (n x q, m x q) -> (n x m)."""
    return np.asarray(a @ b.T / max(1, a.shape[1]))


def distances(a: Array, b: Array) -> Array:
    """sqrt(5) times the distances of points (n x p, m x p) -> (n x m)."""
    square = a @ (-2.0 * b.T)
    square += (a**2).sum(axis=1)[:, None]
    square += (b**2).sum(axis=1)[None, :]
    np.maximum(square, 0.0, out=square)
    np.sqrt(square, out=square)
    square *= SQRT5
    return np.asarray(square)


def matern(a: Array, b: Array) -> Array:
    """Matern-5/2 correlations (n x m), worked out in two arrays: making more takes as long as the arithmetic."""
    r = distances(a, b)
    bend = r * (1.0 / 3.0)
    bend += 1.0
    bend *= r
    bend += 1.0
    np.negative(r, out=r)
    np.exp(r, out=r)
    r *= bend
    return r


def _decays(x: Array) -> tuple[Array, Array]:
    """Matern-5/2 correlations of points (n x p), and what multiplies squared differences in the lengths' gradient."""
    r = distances(x, x)
    decay = np.exp(-r)
    return (1.0 + r + r**2 / 3.0) * decay, (1.0 + r) * decay * (5.0 / 3.0)


def _length_gradient(spread: Array, x: Array) -> Array:
    """Sum over pairs of spread * (x_j - x'_j)^2 (p), without an array of n x n x p."""
    return np.asarray(2.0 * ((x**2).T @ spread.sum(axis=1) - (x * (spread @ x)).sum(axis=0)))
