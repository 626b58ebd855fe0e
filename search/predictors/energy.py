"""Energies of operators that were not metered, learned from a few that were; and which to meter.

Energy is power times latency. Latency is in the table; power differs by class of operator and by how busy it keeps the
chip, within a factor of a few, so that a tenth of the operators tells it. Log power is a Gaussian process: a level, one
of every class (partially pooled), lines and smooth terms in the logarithms of latency, rates and sizes, shared and of
each class, and noise beyond the meter's own. Energies of a kind err together, and the error of a network's sum says so.

What it does not know: an error that all readings of a meter share, such as a wrong shunt.

References:
    Gelman & Hill, Data analysis using regression and multilevel models, 2007 (partial pooling).
    Smyth, Linear models and empirical Bayes methods, SAGMB 2004 (what few windows tell of an error).
    Krause, Singh & Guestrin, Near-optimal sensor placements in Gaussian processes, JMLR 2008.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lut_db.errors import LutError
from lut_db.records import LutEntry
from search.predictors import Z95, Array
from search.predictors.additive import Points, Process, student_factor, surprise
from search.predictors.additive_fit import fit, prior_process
from search.predictors.power_features import NOISE, TERMS, Operators, describe_operators
from search.predictors.threads import one_thread

LEAST = 6
"""Fewer metered operators than this tell nothing about others."""

POOLED = 4.0
"""Windows' worth of what all operators tell of a meter's error, beside an operator's own."""

MOST, MOST_CANDIDATES, CHUNK = 1500, 1500, 1024
METER_SD = 0.03
"""What a meter is thought to err by, relative, where it is to be chosen what it reads."""

LEAST_FREEDOM, MANY, TINY = 3.0, 1e6, 1e-30


@dataclass(frozen=True, slots=True)
class Metered:
    """An operator's energy a call as a meter told it, with its 95 % interval, in microjoules.

    Attributes:
        windows: that the interval rests on, by Student's t; 0 where its width is known as of a normal error.
    """

    energy_uj: float
    low_uj: float
    high_uj: float
    windows: int = 0


@dataclass(frozen=True, slots=True)
class Energy:
    """An operator's energy a call with its 95 % interval, in microjoules; label: measured or predicted."""

    energy_uj: float
    low_uj: float
    high_uj: float
    label: str


@dataclass(frozen=True)
class EnergyModel:
    """What is known of a target's energies. Made by ``fit_energy``.

    Attributes:
        learned: keys of the metered operators, in the order of the process's rows.
        meter_variance: of their log energies (n).
        stretch: of standard deviations, so that intervals cover what they say of each metered operator left out, and of
            what few readings leave open.
    """

    operators: Operators
    metered: Mapping[str, Metered]
    process: Process
    learned: tuple[str, ...]
    meter_variance: Array
    stretch: float

    def predict(self, keys: Sequence[str]) -> tuple[Array, Array]:
        """Energies in uJ, and the standard deviations of their logarithms, of operators as if not metered (n each)."""
        energy, error = np.empty(len(keys)), np.empty(len(keys))
        for start in range(0, len(keys), CHUNK):
            part = slice(start, start + CHUNK)
            points, log_ns = self.operators.part(keys[part])
            with one_thread():
                energy[part] = np.exp(self.process.predict(points) + log_ns)
                error[part] = np.sqrt(self.process.variance(points) + self.process.noise_sd**2)
        return energy, self.stretch * error

    def energies(self) -> dict[str, Energy]:
        """Of every operator of the table, by key."""
        known = {key: Energy(m.energy_uj, m.low_uj, m.high_uj, "measured") for key, m in self.metered.items()}
        unknown = [key for key in self.operators.places if key not in known]
        energy, error = self.predict(unknown)
        factor = np.exp(Z95 * error)
        values = zip(unknown, energy.tolist(), (energy / factor).tolist(), (energy * factor).tolist(), strict=True)
        return known | {key: Energy(middle, low, high, "predicted") for key, middle, low, high in values}

    def network_error_uj(self, counts: Mapping[str, float]) -> float:
        """Standard deviation of a sum of energies, each so many times; those predicted err together.

        A meter's error of an operator errs in the same direction what was learned from it.
        """
        unknown = [key for key in counts if key not in self.metered]
        energy, _ = self.predict(unknown)
        weights = energy * np.array([counts[key] for key in unknown])
        own = np.array([counts.get(key, 0.0) * self.metered[key].energy_uj for key in self.learned])
        points, _ = self.operators.part(unknown)
        with one_thread():
            covariance, influence = self.process.covariance(points), self.process.influence(points)
        covariance[np.diag_indices_from(covariance)] += self.process.noise_sd**2
        predicted = self.stretch**2 * float(weights @ covariance @ weights)
        shared = 2.0 * float((own * self.meter_variance) @ influence @ weights)
        alone = float(own**2 @ self.meter_variance) + sum(
            (counts[key] * (m.high_uj - m.low_uj) / (2.0 * Z95)) ** 2
            for key, m in self.metered.items()
            if key in counts and key not in self.learned
        )
        return math.sqrt(max(0.0, predicted + shared + alone))


def fit_energy(entries: Sequence[LutEntry], metered: Mapping[str, Metered], seed: int = 0) -> EnergyModel:
    """Learns a target's power from the operators that were metered.

    What drew nothing beyond rest, as far as the meter could tell, has no logarithm: it keeps its energy, and nothing is
    learned from it.

    Args:
        entries: all of the table.
        metered: energies by the key of their entry.

    Raises:
        LutError: too few energies, one outside its own interval, or of operators that the table lacks.
    """
    operators = describe_operators(entries)
    _check(operators, metered)
    usable = sorted(key for key, m in metered.items() if m.energy_uj > 0.0)
    learned = tuple(usable[i] for i in np.random.default_rng(seed).permutation(len(usable))[:MOST])
    points, log_ns = operators.part(learned)
    target = np.log([metered[key].energy_uj for key in learned]) - log_ns
    variance = _meter_variance([metered[key] for key in learned])
    with one_thread():
        process = fit(TERMS, points, target, NOISE, variance)
        stretch = _stretch(process)
    return EnergyModel(operators, metered, process, learned, variance, stretch)


def _check(operators: Operators, metered: Mapping[str, Metered]) -> None:
    if unknown := [key for key in metered if key not in operators.places]:
        raise LutError(f"a metered operator must be in the table, but {unknown[0]!r} is not; measure its latency first")
    for key, m in metered.items():
        if not -math.inf < m.low_uj <= m.energy_uj <= m.high_uj < math.inf:
            raise LutError(f"an energy must be a number within its interval, but that of {key!r} is {m}")
    usable = sum(m.energy_uj > 0.0 for m in metered.values())
    if usable < LEAST:
        raise LutError(f"at least {LEAST} operators must have an energy to predict others', but got {usable}")


def _meter_variance(metered: Sequence[Metered]) -> Array:
    """Of log energies (n): what an operator's few windows tell, pooled with what those of all operators tell."""
    from scipy.stats import chi2, t

    freedom = np.array([m.windows - 1.0 if m.windows > 1 else MANY for m in metered])
    half = np.array([max((m.high_uj - m.low_uj) / 2.0, m.high_uj - m.energy_uj) / m.energy_uj for m in metered])
    own = (half / t.ppf(0.975, freedom)) ** 2
    usual = float(np.median(own * freedom / chi2.ppf(0.5, freedom)))
    trust = np.where(freedom < MANY, freedom / (freedom + POOLED), 1.0)
    return np.asarray(trust * own + (1.0 - trust) * usual)


def _stretch(process: Process) -> float:
    error, variance = process.leave_one_out()
    freedom = max(len(error) - process.parameters, LEAST_FREEDOM)
    return max(1.0, surprise(error / np.sqrt(variance))) * student_factor(freedom)


def choose(
    entries: Sequence[LutEntry], count: int, usage: Mapping[str, float] | None = None, model: EnergyModel | None = None,
    seed: int = 0,
) -> list[str]:  # fmt: skip
    """Keys of the operators to meter, best first.

    Each lowers the most what is expected of two squared errors, both as shares of what they are now: that of a random
    network's energy, and that of log energies of all operators alike. Neither alone will do: the first forgets what is
    small, the second what counts.

    Args:
        usage: how often a random network has each entry; every one equally often where it is not told.
        model: what was learned so far of a table with these entries; what it has metered is not chosen again.
    """
    operators = model.operators if model else describe_operators(entries)
    keys = [entry.key for entry in entries if model is None or entry.key not in model.metered]
    points, log_ns = operators.part(keys)
    often = np.array([1.0 if usage is None else usage.get(key, 0.0) for key in keys])
    weights = often * np.exp(log_ns)
    some, others = np.split(_shuffled(weights, seed), [MOST_CANDIDATES])
    process = model.process if model else prior_process(TERMS, points, NOISE)
    with one_thread():
        order = _most_telling(process, points.part(some), weights[some], count)
    return [keys[i] for i in (*some[order], *others)][:count]


def _shuffled(weights: Array, seed: int) -> Array:
    """Places of operators: the heaviest, then the others at random; covariances of the first so many fit in memory."""
    order = np.argsort(-weights, kind="stable")
    heavy, light = np.split(order, [MOST_CANDIDATES // 2])
    return np.concatenate([heavy, np.random.default_rng(seed).permutation(light)])


def _most_telling(process: Process, points: Points, weights: Array, count: int) -> list[int]:
    """Greedy choices of rows, each once the readings of those before it are taken as known."""
    covariance, known = process.covariance(points), np.zeros((0, len(points)))
    noise = process.noise_sd**2 + METER_SD**2
    variance, network, squares = np.diag(covariance).copy(), weights @ covariance, (covariance**2).sum(axis=0)
    chosen: list[int] = []
    for _ in range(min(count, len(points))):
        gain = network**2 / max(weights @ network, TINY) + squares / max(variance.sum(), TINY)
        gain /= variance + noise
        gain[chosen] = -1.0
        best = int(gain.argmax())
        chosen.append(best)
        column = (covariance[best] - known[:, best] @ known) / math.sqrt(variance[best] + noise)
        along = covariance @ column - (known @ column) @ known
        squares += column**2 * (column @ column) - 2.0 * column * along
        network, variance = network - (weights @ column) * column, np.maximum(variance - column**2, 0.0)
        known = np.vstack([known, column])
    return chosen
