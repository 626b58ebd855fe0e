"""Doubts about a measurement: what is wrong with it, as words that are stored, shown and filtered by.

The limits come from trials on shared cloud machines, where a quiet operator spreads by 1-3 % and neighbours move
whole networks by 5-17 % within minutes; each is the point where repeating paid off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from agent.protocol import Done, Measured

NOISY = 0.25
"""Spread of a measurement, (median - p10) / p10, above which its p10 is not trusted to a few percent."""

MIN_SAMPLES = 9
"""Fewest clean samples for a low quantile."""

DRIFT = 0.10
"""Deviation of a batch's sentinel from the pass's median."""

THROTTLE = 0.05
"""Loss of clock frequency during a batch."""

STEAL = 0.05
"""Share of the batch's time that the hypervisor gave to others."""

TICKS_PER_S = 100


def doubts_of(measured: Measured) -> tuple[str, ...]:
    """What the samples themselves give away."""
    samples = sorted(ns for burst in measured.bursts_ns for ns in burst)
    if len(samples) < MIN_SAMPLES:
        return ("few-samples",)
    low, middle = samples[len(samples) // 10], samples[len(samples) // 2]
    doubts = ["noisy"] if middle > (1 + NOISY) * low else []
    if measured.rejected > len(samples):
        doubts.append("interrupted")
    return tuple(doubts)


def batch_doubts(done: Done, usual_sentinel_ns: float | None, seconds: float) -> tuple[str, ...]:
    """What the conditions around a batch give away."""
    doubts = []
    looks = [ns for _, ns in done.sentinel_ns]
    if looks and usual_sentinel_ns and abs(median(looks) / usual_sentinel_ns - 1) > DRIFT:
        doubts.append("drifted")
    if _slowest_khz(done.after) < (1 - THROTTLE) * _slowest_khz(done.before):
        doubts.append("throttled")
    stolen = (done.after.get("steal_ticks", 0) - done.before.get("steal_ticks", 0)) / TICKS_PER_S
    if seconds > 0 and stolen / seconds > STEAL:
        doubts.append("stolen")
    return tuple(doubts)


def usual(sentinels_ns: Sequence[float]) -> float | None:
    """What the sentinel took in the batches so far, None before there are any."""
    return median(sentinels_ns) if sentinels_ns else None


def _slowest_khz(conditions: Mapping[str, Any]) -> float:
    frequencies = conditions.get("freq_khz") or {}
    return float(min(frequencies.values(), default=0)) if isinstance(frequencies, Mapping) else 0.0
