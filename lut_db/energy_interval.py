"""How far the energies of repeated windows can be trusted: intervals from a handful of windows, not from many readings.

A window's mean power is taken as

    idle level + slow drift + (load window: energy of a call / time of a call) + noise,

with a drift that is a line plus a random walk. What a window's parts tell of its noise is the least of it. How much
more there is from window to window, of both kinds or of one, and how strong the walk is, seven to twenty windows hardly
tell. So many combinations are weighted, with how usual they are (WALKS, EXCESSES, PLAIN) times how well they explain
the windows (their restricted likelihood), and what is given are quantiles of the mixture. Where the windows agree no
worse than their parts let expect that is nearly the normal interval of a known noise, else nearly Student's. A drift
that is a line cancels, as it does when each load window is compared with its idle neighbours, but no idle window counts
twice.

How usual a combination is was chosen on simulated traces (``benchmarks/energy_traces.py``), so that few intervals miss
the truth and none by far.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Mask = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]

WALKS = {0.0: 6.0, 1.0: 1.0, 30.0: 1.0, 1000.0: 1.0}
"""Variance that the walk gains from one window to the next, relative to the noise of an idle window -> how usual."""
EXCESSES = {(1.0, 1.0): 6.0, (1.0, 4.0): 1.0, (4.0, 1.0): 1.0}
"""Factors of the variance of idle and load windows -> how usual."""
PLAIN = 0.65
"""How often noise within windows is all there is; else any factor of the variance, one of 1 and more the less usual."""
FACTORS = 16
BEYOND = 30.0
"""How many factors are tried, and up to where: so much beyond the one that fits best."""
CONFIDENCE = 0.95
NEGLIGIBLE = 1e-7
"""Weight of a part of the mixture that need not be looked at."""


@dataclass(frozen=True, slots=True)
class Series:
    """The mean powers of the windows of one measurement, in order.

    Attributes:
        middle_s: when each window was, at its middle (n).
        power_uw: its mean power (n).
        call_s: the time of one call in it, 0 for an idle one (n).
        noise_uw: the standard deviation of its mean power, as far as that shows within windows; above 0 (n).
    """

    middle_s: Array
    power_uw: Array
    call_s: Array
    noise_uw: Array

    @property
    def loaded(self) -> Mask:
        return np.asarray(self.call_s > 0)


@dataclass(frozen=True, slots=True)
class Interval:
    middle: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class _Fit:
    """One combination, with noise as it shows within the windows.

    Attributes:
        log_weight: without what depends on the factor.
        squares: of the residuals, in that noise.
        energies: of a call in uJ, net and total (2); scales: their standard deviations.
    """

    log_weight: float
    squares: float
    energies: Array
    scales: Array


def intervals(series: Series) -> tuple[Interval, Interval]:
    """The energy of a call in uJ, idle subtracted and in total, from at least five windows."""
    freedom = len(series.power_uw) - 3
    parts = [_parts(fit, freedom) for fit in _fits(series)]
    logs = np.concatenate([part[0] for part in parts])
    energies, scales = (np.concatenate([part[i] for part in parts]) for i in (1, 2))
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    seen = weights > NEGLIGIBLE
    net, total = (_mixture(weights[seen] / weights[seen].sum(), energies[seen, i], scales[seen, i]) for i in (0, 1))
    return net, total


def _parts(fit: _Fit, freedom: int) -> tuple[Array, Array, Array]:
    """Logs of the weights (FACTORS), energies and their standard deviations (FACTORS x 2) for factors from 1 on."""
    steps = np.linspace(0.0, math.log(BEYOND * max(fit.squares / freedom, 1.0)), FACTORS)
    usual = (1 - PLAIN) * steps[1] * np.exp(-steps)
    usual[0] += PLAIN
    logs = fit.log_weight + np.log(usual) - freedom / 2 * steps - fit.squares / 2 * np.exp(-steps)
    return logs, np.tile(fit.energies, (FACTORS, 1)), np.outer(np.exp(steps / 2), fit.scales)


def _fits(series: Series) -> Iterator[_Fit]:
    step = float(np.median(np.diff(series.middle_s)))
    walk = (np.minimum.outer(series.middle_s, series.middle_s) - series.middle_s[0]) / step
    walk *= float((series.noise_uw[~series.loaded] ** 2).mean())
    for (of_idle, of_load), usual in EXCESSES.items():
        noise = series.noise_uw**2 * np.where(series.loaded, of_load, of_idle)
        for strength, as_usual in WALKS.items():
            fit = _fit(series, np.diag(noise) + strength * of_idle * walk, noise)
            yield replace(fit, log_weight=fit.log_weight + math.log(usual * as_usual))


def _fit(series: Series, covariance: Array, noise: Array) -> _Fit:
    """The net energy by generalised least squares; the total is the mean of the load windows."""
    count, loaded = len(series.power_uw), series.loaded
    line = (series.middle_s - series.middle_s.mean()) / np.ptp(series.middle_s)
    call_s = float(series.call_s[loaded].mean())
    to_power = np.divide(call_s, series.call_s, out=np.zeros(count), where=loaded)
    to_total = loaded / loaded.sum()
    design = np.column_stack([np.ones(count), line, to_power])
    root = np.linalg.cholesky(covariance)
    seen, power = np.linalg.solve(root, design), np.linalg.solve(root, series.power_uw)
    inverse = np.linalg.inv(seen.T @ seen)
    coefficients = inverse @ (seen.T @ power)
    log_weight = float(np.linalg.slogdet(inverse)[1]) / 2 - float(np.log(np.diag(root)).sum())
    energies = call_s * np.array([coefficients[2], to_total @ series.power_uw])
    scales = call_s * np.sqrt([inverse[2, 2], to_total**2 @ noise])
    return _Fit(log_weight, float(((power - seen @ coefficients) ** 2).sum()), energies, scales)


def _mixture(weights: Array, middles: Array, scales: Array) -> Interval:
    """Mean and equal-tailed quantiles of a mixture of normal distributions."""
    middle = float(weights @ middles)
    reach = 10 * float(scales.max()) + float(np.abs(middles - middle).max())
    low, high = (
        _quantile(share, weights, middles, scales, (middle - reach, middle + reach))
        for share in ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
    )
    return Interval(middle, low, high)


def _quantile(share: float, weights: Array, middles: Array, scales: Array, between: tuple[float, float]) -> float:
    low, high = between
    for _ in range(50):
        place = (low + high) / 2
        below = float(weights @ _normal_cdf((place - middles) / scales)) < share
        low, high = (place, high) if below else (low, place)
    return (low + high) / 2


def _normal_cdf(values: Array) -> Array:
    return np.array([0.5 * math.erfc(-value) for value in (values / math.sqrt(2)).tolist()])
