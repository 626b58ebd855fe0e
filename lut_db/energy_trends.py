"""What a window's own parts tell of its mean: the noise within, and trends that all windows of a kind share.

Noise within a window, with the correlation of neighbouring parts, is the least that its mean can be unsure by. A trend
that returns in every window is no noise: after a load an idle device cools down, after a rest a busy one warms up, and
where the clocks of meter and device differ the neighbouring windows show at the ends. Repeats do not reveal how far
that shifts all means the same way, so it counts in full, where it is more than noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np

from lut_db.energy_interval import Mask, Series
from lut_db.energy_windows import BLOCKS, Array, Level, Unusable

QUARTER = BLOCKS // 4
UNSTEADY = 0.2
"""A trend across the load windows, relative to what the load adds, that no warming up explains."""
CLEAR = 2.0
"""Standard errors from which on a trend is one."""
MEDIAN_SIGMAS = 1.25
"""Standard error of a median, in those of a mean."""
LEAST_SHARE = 0.1
"""Of the variance that is seen, what stays when neighbours seem to make up for each other."""
NO_NOISE = 1e-9
"""Of a power: standard deviation where nothing shows."""


@dataclass(frozen=True, slots=True)
class Shared:
    """How far what all windows share may shift the power of a load, idle subtracted and in total."""

    net_uw: float
    total_uw: float


@dataclass(frozen=True, slots=True)
class _Kind:
    """The windows of one kind.

    Attributes:
        trend_uw: last quarter less first quarter, the drift from window to window taken off; 0 where it is mere noise.
        least_trend_uw: what is left of its size when the noise is taken off, too.
        bound_uw: what the meter's steps may hold all of them off by.
    """

    trend_uw: float
    least_trend_uw: float
    bound_uw: float


def noise_uw(loaded: Mask, levels: Sequence[Level]) -> Array:
    """The standard deviation of each window's mean power (n), as far as that shows within the windows of its kind."""
    noise = np.empty(len(levels))
    for on in (False, True):
        kind = list(compress(levels, loaded == on))
        steps = float(np.mean([level.resolution_uw**2 for level in kind]))
        usual = float(np.mean([level.power_uw for level in kind]))
        noise[loaded == on] = max(math.sqrt(_part_variance(kind) / BLOCKS + steps), NO_NOISE * usual)
    return noise


def shared(series: Series, levels: Sequence[Level]) -> Shared:
    """What repeats do not reveal.

    Raises:
        Unusable: the power changes within the load windows.
    """
    loaded, power = series.loaded, series.power_uw
    drift = _drift_uw_per_s(series)
    idle, load = (_kind(list(compress(levels, loaded == on)), drift, skip=not on) for on in (False, True))
    added = float(power[loaded].mean() - power[~loaded].mean())
    if load.least_trend_uw > UNSTEADY * added:
        raise Unusable(
            "power must be steady within the load windows, but it changes in all of them: they are not settled, or the "
            "clocks of meter and load differ"
        )
    of_load = abs(load.trend_uw) / 2 + load.bound_uw
    return Shared(of_load + abs(idle.trend_uw) + idle.bound_uw, of_load)


def _drift_uw_per_s(series: Series) -> float:
    """The slope of the power over the whole measurement."""
    line = series.middle_s - series.middle_s.mean()
    design = np.column_stack([np.ones(len(line)), series.loaded.astype(float), line])
    return float(np.linalg.lstsq(design, series.power_uw, rcond=None)[0][2])


def _kind(levels: Sequence[Level], drift_uw_per_s: float, skip: bool) -> _Kind:
    """Of the windows of one kind; ``skip`` leaves the first out of the trend, which nothing came before."""
    blocks = np.array([level.blocks_uw for level in levels])
    drifted = drift_uw_per_s * np.array([level.span_s for level in levels]) * (1 - QUARTER / BLOCKS)
    trends = (blocks[:, -QUARTER:].mean(axis=1) - blocks[:, :QUARTER].mean(axis=1) - drifted)[int(skip) :]
    of_quarters = 2 * _part_variance(levels) / QUARTER + 4 * _dating(levels) / QUARTER**2
    unsure = MEDIAN_SIGMAS * math.sqrt(of_quarters / len(trends))
    trend = float(np.median(trends))
    return _Kind(
        trend if abs(trend) > CLEAR * unsure else 0.0,
        max(abs(trend) - CLEAR * unsure, 0.0),
        float(np.mean([level.bound_uw for level in levels])),
    )


def _part_variance(levels: Sequence[Level]) -> float:
    """The variance that independent parts would have whose mean is as noisy as the mean of these windows' parts.

    Neighbours are alike where noise is slow. A border that is dated wrongly gives one part what it takes from the next,
    and the mean nothing. The lines that are taken off, for a drift is no noise, hide some likeness.
    """
    blocks = np.array([level.blocks_uw for level in levels])
    residuals = blocks - _lines(blocks)
    seen = float((residuals**2).sum()) / (len(residuals) * (BLOCKS - 2))
    neighbours = float((residuals[:, 1:] * residuals[:, :-1]).mean())
    hidden = 2 / BLOCKS * max(seen - 2 * _dating(levels), 0.0)
    return max(seen + 2 * (neighbours + hidden), LEAST_SHARE * seen)


def _dating(levels: Sequence[Level]) -> float:
    return float(np.mean([level.dating_uw**2 for level in levels]))


def _lines(blocks: Array) -> Array:
    """The straight line through each row."""
    place = np.arange(BLOCKS) - (BLOCKS - 1) / 2
    slopes = blocks @ place / (place @ place)
    return np.asarray(blocks.mean(axis=1, keepdims=True) + slopes[:, None] * place)
