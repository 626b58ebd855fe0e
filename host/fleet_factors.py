"""How units of one model differ: a factor for each, from operators that all of them measured, with its interval.

A factor is the median, over these operators, of the unit's latency by the units' geometric mean. One whose 95 %
interval holds 1 corrects nothing. A unit that is too far off the units' median is another device than the rest,
whatever it is called, and is left out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np

LIMIT = 0.10
LEAST, MOST = 8, 256
"""Operators in common with which a unit can be compared, and beyond which an interval gains nothing."""
RESAMPLES = 2000
INTERVAL = (2.5, 97.5)

Latencies = Mapping[str, float]
"""Operators in ns, by key."""


@dataclass(frozen=True, slots=True)
class Factor:
    """How many times a unit's latencies are those of the typical unit.

    Attributes:
        low, high: its 95 % interval.
        operators: that it rests on.
    """

    factor: float
    low: float
    high: float
    operators: int

    @property
    def applied(self) -> float:
        """What the unit's times are divided by: 1 where the units may as well be alike."""
        return 1.0 if self.low <= 1 <= self.high else self.factor

    def times(self, scale: float) -> Factor:
        """The same against units whose middle is so many times lower."""
        return Factor(self.factor * scale, self.low * scale, self.high * scale, self.operators)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "applied": self.applied}

    @classmethod
    def of_json(cls, told: Mapping[str, Any]) -> Factor:
        return cls(**{name: told[name] for name in cls.__slots__})


ALONE = Factor(1.0, 1.0, 1.0, 0)
"""That of a unit which is its model's only one."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The units that may be merged with their factors, and the others with the reason; both by name."""

    factors: Mapping[str, Factor]
    refused: Mapping[str, str]


def judge(
    tables: Mapping[str, Latencies],
    known: Mapping[str, Factor],
    limit: float,
    least: int = LEAST,
    away: Collection[str] = (),
) -> Verdict:
    """Compares units by what all of them have measured.

    Args:
        tables: each unit's latencies of what it has settled; where none can tell who is usual, the fuller one counts.
        known: the factors that units had.
        limit: how far a factor may be from 1.
        least: operators in common that a comparison needs.
        away: units that are not here; one with too little in common keeps the factor that it had, on the new ones'
            scale.
    """
    kept, refused, left = dict[str, Factor](), dict[str, str](), dict(tables)
    while len(left) > 1:
        common = set.intersection(*(set(latencies) for latencies in left.values()))
        if len(common) < least:
            unit = _least_alike(left, away)
            if unit in away and unit in known:
                kept[unit] = known[unit]
            else:
                refused[unit] = f"it must have {least} operators in common with the others, but has {len(common)}"
            del left[unit]
            continue
        keys = _spread(common)
        compared = {unit: [latencies[key] for key in keys] for unit, latencies in left.items()}
        factors = _factors(compared, np.median)
        unit = max(left, key=lambda name: (round(_distance(factors[name]), 9), -len(left[name]), name))
        if _distance(factors[unit]) <= math.log1p(limit):
            return Verdict(_joined(kept, _factors(compared, np.mean), known), refused)
        refused[unit] = _why(factors[unit], limit, len(left))
        del left[unit]
    alone = {unit: known.get(unit, ALONE) if unit in away else ALONE for unit in left}
    return Verdict(_joined(kept, alone, known), refused)


def _joined(kept: Mapping[str, Factor], new: Mapping[str, Factor], known: Mapping[str, Factor]) -> dict[str, Factor]:
    """Kept factors, which are against the middle of other units, put against that of the new ones; and these."""
    ratios = [math.log(factor.factor / known[unit].factor) for unit, factor in new.items() if unit in known]
    scale = math.exp(fmean(ratios)) if ratios else 1.0
    return {**{unit: factor.times(scale) for unit, factor in kept.items()}, **new}


def _least_alike(tables: Mapping[str, Latencies], away: Collection[str]) -> str:
    """The unit without which the others have most in common; one that is away before one that is here."""
    counts = Counter(key for latencies in tables.values() for key in latencies)

    def others_share(unit: str) -> int:
        return sum(count - (key in tables[unit]) == len(tables) - 1 for key, count in counts.items())

    return max(tables, key=lambda unit: (unit in away, others_share(unit), -len(tables[unit]), unit))


def _spread(keys: Collection[str]) -> list[str]:
    """At most MOST of them, evenly over their order."""
    ordered, count = sorted(keys), min(MOST, len(keys))
    return [ordered[number * len(ordered) // count] for number in range(count)]


def _distance(factor: Factor) -> float:
    return abs(math.log(factor.factor))


def _why(factor: Factor, limit: float, units: int) -> str:
    told = f"{factor.factor:.3f} ({factor.low:.3f}-{factor.high:.3f})"
    doubt = "; of two units none can tell which is the usual one, so the fuller table counts" if units == 2 else ""
    return f"its factor must be within {limit:.0%} of 1, but is {told}{doubt}"


def _factors(latencies: Mapping[str, list[float]], middle: Callable[..., Any]) -> dict[str, Factor]:
    """Each unit's factor against the middle of all units."""
    logs = np.log(np.array(list(latencies.values())))
    ratios = logs - middle(logs, axis=0)
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, ratios.shape[1], (RESAMPLES, ratios.shape[1]))
    lows, highs = np.percentile(np.median(ratios[:, chosen], axis=2), INTERVAL, axis=1)
    numbers = zip(np.exp(np.median(ratios, axis=1)), np.exp(lows), np.exp(highs), strict=True)
    return {
        unit: Factor(float(median), float(low), float(high), ratios.shape[1])
        for unit, (median, low, high) in zip(latencies, numbers, strict=True)
    }
