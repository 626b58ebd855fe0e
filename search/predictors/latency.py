"""Latencies of operators that were never measured, learned from those that were.

One Gaussian process an operator type, on log latency: a straight line in the logarithms of sizes, a Matern-5/2 part
around it, and noise, every hyper-parameter with a prior (``search.predictors.gp``). Its joint covariance is what makes
intervals of whole networks honest: operators of a kind err together. A process may learn the difference from another
target's, so that a device of a known family needs a few dozen measurements only.

References:
    Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006.
    Kennedy & O'Hagan, Predicting the output from a complex computer code, Biometrika 2000 (learning from a relative).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lut_db.errors import LutError
from lut_db.lut import LatencyLut
from ops_catalog import ops
from ops_catalog.spec import OpSpec
from search.predictors import Array
from search.predictors.additive import surprise
from search.predictors.gp import JITTER, Problem, matern
from search.predictors.op_features import LOGS, SIZES, Steps, describe_all
from search.predictors.threads import one_thread

Row = tuple[OpSpec, str]
"""An operator in a context."""

LEAST = 6
"""Fewer measured operators of a type than this tell nothing about others."""

MOST, MOST_TO_LEARN = 1500, 300
FLOOR_NS = 50.0
"""Below it a latency is mostly the clock's own error."""

SLACK = 0.1
"""How far outside the measured sizes, in natural logarithms, still counts as between them."""

CHUNK = 512


@dataclass(frozen=True, slots=True)
class Process:
    """What is known of one operator type. Made by ``_fit_process``.

    Attributes:
        columns: of the description, those that vary (q).
        mean, std: of these columns (q).
        lengths, variances: Matern, linear, quadratic, noise; of a target of unit variance.
        numbers, weights, lower: training rows (n x q), K^-1 target (n), Cholesky factor of K (n x n).
        slope: log latency = slope . (1, numbers) + scale * target, the line being fitted first (q + 1).
        lows, highs: range of every column of the description (p).
        stretch: of standard deviations, so that intervals cover what they say of each training row left out.
    """

    columns: Array
    mean: Array
    std: Array
    lengths: Array
    variances: Array
    numbers: Array
    weights: Array
    lower: Array
    slope: Array
    scale: float
    lows: Array
    highs: Array
    stretch: float

    def predict(self, described: Array) -> Array:
        """Log latencies in ns (m)."""
        x = self._numbers(described)
        return np.asarray(self._line(x) + self.scale * (self._prior(x, self.numbers) @ self.weights))

    def variance(self, described: Array) -> Array:
        """Of the errors of log latencies, noise included (m)."""
        from scipy.linalg import solve_triangular

        x = self._numbers(described)
        known = solve_triangular(self.lower, self._prior(x, self.numbers).T, lower=True)
        signal, linear, quadratic, noise = self.variances
        square = (x**2).sum(axis=1) / max(1, x.shape[1])
        total = signal + linear * square + quadratic * square**2 + noise - (known**2).sum(axis=0)
        return np.asarray((self.stretch * self.scale) ** 2 * np.maximum(total, noise))

    def covariance(self, described: Array) -> Array:
        """Of the errors of log latencies, noise included (m x m)."""
        from scipy.linalg import solve_triangular

        x = self._numbers(described)
        known = solve_triangular(self.lower, self._prior(x, self.numbers).T, lower=True)
        total = self._prior(x, x) - known.T @ known
        total[np.diag_indices_from(total)] += self.noise
        return np.asarray((self.stretch * self.scale) ** 2 * total)

    @property
    def noise(self) -> float:
        return float(self.variances[-1])

    def within(self, described: Array) -> Array:
        """Which rows lie among the measured ones, in every size and kind (m)."""
        slack = np.full(len(self.lows), 1e-9)
        slack[: len(SIZES)] = SLACK
        slack[len(LOGS) : len(SIZES)] = np.inf
        return np.asarray(((described >= self.lows - slack) & (described <= self.highs + slack)).all(axis=1))

    def _numbers(self, described: Array) -> Array:
        return np.asarray((described[:, self.columns] - self.mean) / self.std)

    def _line(self, x: Array) -> Array:
        return np.asarray(self.slope[0] + x @ self.slope[1:])

    def _prior(self, x: Array, y: Array) -> Array:
        return _covariance(x, y, self.lengths, self.variances)


@dataclass(frozen=True)
class LatencyModel:
    """Processes of a target by operator type, and what they were told.

    Attributes:
        base: the model of another target from which these processes learned the difference.
    """

    processes: Mapping[str, Process]
    steps: Steps = field(default_factory=dict)
    base: LatencyModel | None = None

    def knows(self, op_type: str) -> bool:
        return op_type in self.processes

    def within(self, rows: Sequence[Row]) -> Array:
        """Which rows lie among the measured operators of their type (n)."""
        found = np.zeros(len(rows), bool)
        for op_type, places, described in self._by_type(rows):
            found[places] = self.processes[op_type].within(described)
        return found

    def predict(self, rows: Sequence[Row]) -> tuple[Array, Array]:
        """Latencies in ns, and the standard deviations of their logarithms (n each); NaN for unknown types."""
        latency, error = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
        for op_type, places, described in self._by_type(rows):
            for start in range(0, len(places), CHUNK):
                part = slice(start, start + CHUNK)
                process, some = self.processes[op_type], [rows[i] for i in places[part]]
                with one_thread():
                    latency[places[part]] = np.exp(process.predict(described[part]) + self._base(some))
                    error[places[part]] = np.sqrt(process.variance(described[part]))
        return latency, error

    def network_error(self, rows: Sequence[Row], latency_ns: Array) -> float:
        """Standard deviation in ns of the sum of predicted operators, which err together where they are alike."""
        total, sums = 0.0, dict.fromkeys(rows, 0.0)
        for row, ns in zip(rows, latency_ns, strict=True):
            sums[row] += float(ns)
        for op_type, places, described in self._by_type(list(sums)):
            weights = np.array(list(sums.values()))[places]
            with one_thread():
                total += float(weights @ self.processes[op_type].covariance(described) @ weights)
        return float(np.sqrt(total))

    def _base(self, rows: Sequence[Row]) -> Array:
        return np.zeros(len(rows)) if self.base is None else log_latency(self.base, rows)

    def _by_type(self, rows: Sequence[Row]) -> list[tuple[str, Array, Array]]:
        """Type, places of its rows, their descriptions; types without a process are left out."""
        groups: dict[str, list[int]] = {}
        for place, (op, _) in enumerate(rows):
            if op.type in self.processes:
                groups.setdefault(op.type, []).append(place)
        return [
            (op_type, np.array(places), describe_all([rows[i] for i in places], self.steps))
            for op_type, places in groups.items()
        ]


def log_latency(model: LatencyModel, rows: Sequence[Row]) -> Array:
    """Log latencies that a related target's model predicts (n); 0 where it knows nothing."""
    latency, _ = model.predict(rows)
    return np.nan_to_num(np.log(latency))


def fit_latency(lut: LatencyLut, steps: Steps, base: LatencyModel | None = None, seed: int = 0) -> LatencyModel:
    """Learns a target's operators.

    Args:
        steps: its staircases.
        base: the model of a related target, to learn the difference from.

    Raises:
        LutError: no operator type has enough measured operators.
    """
    rows, latency = measured_rows(lut)
    target = np.log(np.maximum(latency, FLOOR_NS)) - (0.0 if base is None else log_latency(base, rows))
    places: dict[str, list[int]] = {}
    for place, (op, _) in enumerate(rows):
        places.setdefault(op.type, []).append(place)
    enough = {op_type: found for op_type, found in places.items() if len(found) >= LEAST}
    if not enough:
        raise LutError(
            f"a table must have at least {LEAST} measured operators of a type to predict others, but "
            f"{lut.target.name!r} has {len(rows)} in all; measure more with 'chamnet profile'"
        )
    rng = np.random.default_rng(seed)
    processes = {}
    for op_type, found in enough.items():
        chosen = rng.permutation(found)[:MOST]
        described = describe_all([rows[i] for i in chosen], steps)
        with one_thread():
            processes[op_type] = _fit_process(described, target[chosen])
    return LatencyModel(processes, steps, base)


def measured_rows(lut: LatencyLut) -> tuple[list[Row], Array]:
    """Operators in contexts whose native operators are all measured, and what they cost together in ns (n)."""
    rows, latency = [], []
    for lowering in lut.lowerings.values():
        entries = [lut.by_key[key] for key in lowering.natives if key in lut.by_key]
        usable = entries and len(entries) == len(lowering.natives) and " then " not in lowering.context
        if usable and all(entry.label == lut.target.source for entry in entries):
            rows.append((ops.load_op(lowering.op_key), lowering.context))
            latency.append(sum(entry.latency_ns for entry in entries))
    return rows, np.array(latency)


def _fit_process(described: Array, target: Array) -> Process:
    spread = described.std(axis=0)
    columns = np.flatnonzero(spread > 1e-9)
    mean, std = described[:, columns].mean(axis=0), spread[columns]
    x = (described[:, columns] - mean) / std
    slope = _ridge(x, target)
    rest = target - slope[0] - x @ slope[1:]
    scale = float(rest.std()) or 1e-3
    few = slice(0, MOST_TO_LEARN)
    nothing = np.zeros((len(x), len(x)))
    problem = Problem([x[few]], [x[few] @ x[few].T / max(1, x.shape[1]), nothing[few, few]])
    theta, _ = problem.solve(rest[few] / scale, problem.prior[0])
    lengths = np.exp(theta[: x.shape[1]])
    signal, linear, quadratic, *_, noise = np.exp(theta[x.shape[1] :])
    variances = np.array([signal, linear, quadratic, noise])
    covariance = _covariance(x, x, lengths, variances)
    covariance[np.diag_indices_from(covariance)] += noise + JITTER
    lower = np.linalg.cholesky(covariance)
    weights = np.linalg.solve(lower.T, np.linalg.solve(lower, rest / scale))
    return Process(
        columns, mean, std, lengths, variances, x, weights, lower, slope, scale, described.min(axis=0),
        described.max(axis=0), _stretch(lower, weights),
    )  # fmt: skip


def _stretch(lower: Array, weights: Array) -> float:
    """By how much standard deviations must grow for 95 % of the rows, each left out, to lie within 1.96 of them."""
    from scipy.linalg import cho_solve

    precision = np.diag(cho_solve((lower, True), np.eye(len(weights))))
    return max(1.0, surprise(weights / np.sqrt(precision)))


def _covariance(x: Array, y: Array, lengths: Array, variances: Array) -> Array:
    """Prior covariance of standardised rows with others, without noise (n x m)."""
    signal, linear, quadratic, _ = variances
    dot = x @ y.T / max(1, x.shape[1])
    return np.asarray(signal * matern(x / lengths, y / lengths) + linear * dot + quadratic * dot**2)


def _ridge(x: Array, target: Array) -> Array:
    """Offset and slopes (q + 1) of a line, the slopes held back a little."""
    design = np.vstack(
        [np.hstack([np.ones((len(x), 1)), x]), np.hstack([np.zeros((x.shape[1], 1)), np.eye(x.shape[1])])]
    )
    solution, *_ = np.linalg.lstsq(design, np.concatenate([target, np.zeros(x.shape[1])]), rcond=None)
    return np.asarray(solution)
