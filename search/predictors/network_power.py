"""Energies of whole networks from their genes and measured latencies: power, learned from a few dozen, times latency.

The power of many boards is nearly constant; then one number, the typical power of the metered networks, is all that
can be known, and whoever fits more fits noise. So five processes of log power are fitted, from that number alone to
lines and smooth terms in latency and genes, and averaged by their evidence: what the data do not ask for gets no
weight. Tails are heavy, because boards have outliers, and means lean towards the median of the errors, because these
are skewed, too. Beyond the latencies and numbers seen, power is taken as at their edge.

References:
    Hoeting et al., Bayesian model averaging: a tutorial, Statistical Science 1999.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lut_db.errors import LutError
from search.predictors import Array, Inputs, plain_inputs
from search.predictors.additive import Noise, Points, Process, Term, student_factor, surprise
from search.predictors.additive_fit import fit
from search.predictors.design import Design, learn_design
from search.predictors.threads import one_thread

LEAST, LEAST_FREEDOM = 10, 3.0
"""Fewer metered networks than this tell nothing."""

POWER_TERMS = (
    Term("latency", smooth=False, sd=0.03),
    Term("curve", smooth=True, sd=0.03),
    Term("genes", smooth=False, sd=0.03),
    Term("everything", smooth=True, sd=0.02),
)
POWER_MODELS = ((), (0,), (0, 1), (0, 2), (0, 1, 2, 3))
"""Which terms each process has."""

CHARGE, EACH = 3.0, 0.5
"""Taken off the log evidence of a process with terms, and for each of them: simpler is likelier to begin with."""

TOWARDS_MEDIAN = 0.25
"""Share of the way to the median of the errors that means move: absolute errors are least there, but it is unsteady."""

ENERGY_TERMS = (
    Term("latency", smooth=False, sd=1.0),
    Term("curve", smooth=True, sd=0.1),
    Term("genes", smooth=False, sd=0.3),
    Term("everything", smooth=True, sd=0.1),
)
"""Of a process of log energy itself, which does not know that energy is power times latency."""

NOISE = Noise(sd=0.04, heavy=True)


@dataclass(frozen=True, slots=True)
class Networks:
    """Networks by their integer genes (n x d), measured latencies in ms and metered energies in mJ (n)."""

    genes: Array
    lat_ms: Array
    energy_mj: Array

    def __len__(self) -> int:
        return len(self.genes)

    def part(self, rows: Array) -> Networks:
        return Networks(self.genes[rows], self.lat_ms[rows], self.energy_mj[rows])


@dataclass(frozen=True, slots=True)
class Columns:
    """How networks become the columns of the terms.

    Attributes:
        lows, highs: of the training networks, of the one-hot and then the numerical columns.
    """

    design: Design
    lows: Array
    highs: Array

    def points(self, networks: Networks) -> Points:
        columns = np.clip(_described(self.design, networks), self.lows, self.highs)
        hot, numbers = np.split(columns, [columns.shape[1] - len(self.design.mean)], axis=1)
        latency = numbers[:, -1:]
        return Points((latency, latency, hot[:, :-1], numbers), np.zeros(len(networks), np.int64))


@dataclass(frozen=True)
class Mixture:
    """Processes of one target, averaged.

    Attributes:
        terms: which of the columns each process has.
        shares: of each process; they sum to one.
        of_power: the target is log power, else log energy.
        shift: of means, towards the median of each training row left out.
        stretch: of standard deviations, so that intervals cover what they say of each training row left out.
    """

    columns: Columns
    processes: tuple[Process, ...]
    terms: tuple[tuple[int, ...], ...]
    shares: Array
    of_power: bool
    shift: float
    stretch: float

    def predict(self, networks: Networks) -> tuple[Array, Array]:
        """Energies in mJ, and the standard deviations of their logarithms (n each); ``energy_mj`` is not looked at."""
        points = self.columns.points(networks)
        with one_thread():
            parts = [_chosen(points, terms) for terms in self.terms]
            means = np.array([p.predict(part) for p, part in zip(self.processes, parts, strict=True)])
            variances = np.array([p.variance(part) for p, part in zip(self.processes, parts, strict=True)])
        noise = np.array([[p.noise_sd**2] for p in self.processes])
        mean, variance = mixed(self.shares, means, variances + noise)
        energy = np.exp(mean + self.shift) * (networks.lat_ms if self.of_power else 1.0)
        return np.asarray(energy), self.stretch * np.sqrt(variance)


def fit_power(networks: Networks) -> Mixture:
    """Learns the power of networks. Raises LutError where they are too few, or have values that are not positive."""
    return _fit(networks, POWER_TERMS, POWER_MODELS, of_power=True)


def fit_direct(networks: Networks) -> Mixture:
    """Learns energies themselves, for comparison. Raises LutError as ``fit_power``."""
    return _fit(networks, ENERGY_TERMS, ((0, 1, 2, 3),), of_power=False)


def _fit(networks: Networks, terms: Sequence[Term], models: tuple[tuple[int, ...], ...], of_power: bool) -> Mixture:
    _check(networks)
    columns = _learn_columns(networks)
    points = columns.points(networks)
    target = np.log(networks.energy_mj / networks.lat_ms if of_power else networks.energy_mj)
    with one_thread():
        fullest = fit(terms, points, target, NOISE)
        processes = [
            fit([terms[k] for k in model], _chosen(points, model), target, NOISE, worth=fullest.worth)
            for model in models[:-1]
        ]
        processes.append(fullest)
        shares = _shares(processes)
        shift, stretch = _shift_and_stretch(processes, shares)
    return Mixture(columns, tuple(processes), models, shares, of_power, shift, stretch)


def mixed(shares: Array, means: Array, variances: Array) -> tuple[Array, Array]:
    """Mean and variance of a mixture (n each) of normal distributions (k x n)."""
    mean = shares @ means
    return mean, np.asarray(shares @ (variances + (means - mean) ** 2))


def _check(networks: Networks) -> None:
    if len(networks) < LEAST:
        raise LutError(f"at least {LEAST} networks must be metered to predict others' energy, but got {len(networks)}")
    for name, values in (("latency", networks.lat_ms), ("energy", networks.energy_mj)):
        if not ((values > 0) & np.isfinite(values)).all():
            raise LutError(f"every {name} must be a positive number, but some are not; leave these networks out")


def _learn_columns(networks: Networks) -> Columns:
    design = learn_design(_inputs(networks))
    described = _described(design, networks)
    return Columns(design, described.min(axis=0), described.max(axis=0))


def _inputs(networks: Networks) -> Inputs:
    return plain_inputs(networks.genes, networks.lat_ms[:, None])


def _described(design: Design, networks: Networks) -> Array:
    """One-hot columns and the latency, then all as numbers, the latency last."""
    inputs = _inputs(networks)
    return np.hstack([design.one_hot(inputs), design.numbers(inputs)])


def _chosen(points: Points, terms: Sequence[int]) -> Points:
    return Points(tuple(points.columns[k] for k in terms), points.groups)


def _shares(processes: Sequence[Process]) -> Array:
    logs = np.array([process.evidence - _charge(len(process.terms)) for process in processes])
    shares = np.exp(logs - logs.max())
    return np.asarray(shares / shares.sum())


def _charge(terms: int) -> float:
    return CHARGE + EACH * terms if terms else 0.0


def _shift_and_stretch(processes: Sequence[Process], shares: Array) -> tuple[float, float]:
    """From each row left out; a row far off is held against a usual row's noise, not its own."""
    errors, variances = zip(*(process.leave_one_out() for process in processes), strict=True)
    usual = [v - p.variances + p.noise_sd**2 for v, p in zip(variances, processes, strict=True)]
    error, variance = mixed(shares, np.array(errors), np.array(usual))
    shift = TOWARDS_MEDIAN * float(np.median(error))
    freedom = len(error) - float(shares @ [process.parameters for process in processes])
    return shift, surprise((error - shift) / np.sqrt(variance)) * student_factor(max(freedom, LEAST_FREEDOM))
