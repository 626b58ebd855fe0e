"""Doubts about a measurement: what is wrong with it, as words that are stored, shown and filtered by.

The limits come from trials on shared cloud machines, where a quiet operator spreads by 1-3 % and neighbours move
whole networks by 5-17 % within minutes; each is the point where repeating paid off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from agent.protocol import Done, Measured
from host.gate import capped
from host.quality_gpu import gpu_doubts

NOISY = 0.25
"""Spread of a measurement, (median - p10) / p10, above which its p10 is not trusted to a few percent."""

MIN_SAMPLES = 9
"""Fewest clean samples for a low quantile."""

DRIFT = 0.10
"""Deviation of a batch's sentinel from the pass's median."""

THROTTLE = 0.05
"""Loss of clock frequency during a batch."""

STEAL = 0.05
"""Share of the batch's time on its processors that the hypervisor gave to others."""

SIBLING = 0.10
"""Share of the batch during which the other hardware thread of a used core was busy; no trial has set it yet."""

SLOW_SHARE = 0.5
"""Share of a batch that a phone's processors must spend at full clock."""

TICKS_PER_S = 100
COUNTERS = "time_in_state"


def doubts_of(measured: Measured) -> tuple[str, ...]:
    """What the samples themselves give away."""
    if measured.summary is not None:
        return _doubts_of_summary(measured.summary)
    samples = sorted(ns for burst in measured.bursts_ns for ns in burst)
    if len(samples) < MIN_SAMPLES:
        return ("few-samples",)
    low, middle = samples[len(samples) // 10], samples[len(samples) // 2]
    doubts = ["noisy"] if middle > (1 + NOISY) * low else []
    if measured.rejected > len(samples):
        doubts.append("interrupted")
    return tuple(doubts)


def _doubts_of_summary(summary: Mapping[str, float]) -> tuple[str, ...]:
    if summary["count"] < MIN_SAMPLES:
        return ("few-samples",)
    middle = summary.get("median_ns", summary["avg_ns"])
    low = summary.get("p5_ns", middle - summary.get("std_ns", 0.0))
    return ("noisy",) if middle > (1 + NOISY) * low else ()


def batch_doubts(
    done: Done, usual_sentinel_ns: float | None, seconds: float, cpus: Sequence[int] = (), on_gpu: bool = False
) -> tuple[str, ...]:
    """What the conditions around a batch give away.

    Args:
        cpus: those it ran on.
        on_gpu: it ran on none of them, whatever became of the host's.
    """
    doubts = []
    looks = [ns for _, ns in done.sentinel_ns]
    if looks and usual_sentinel_ns and abs(median(looks) / usual_sentinel_ns - 1) > DRIFT:
        doubts.append("drifted")
    if not on_gpu:
        doubts += _processor_doubts(done, seconds, cpus)
    doubts += gpu_doubts(done.before.get("gpu", {}), done.after.get("gpu", {}), seconds)
    return tuple(dict.fromkeys(doubts))


def _processor_doubts(done: Done, seconds: float, cpus: Sequence[int]) -> list[str]:
    doubts = []
    if _throttled(done, cpus):
        doubts.append("throttled")
    if _slow_clock(done, cpus):
        doubts.append("slow-clock")
    if {done.before.get("charging"), done.after.get("charging")} == {True, False}:
        doubts.append("charging-changed")
    for counter, limit, doubt in (("steal_ticks", STEAL, "stolen"), ("sibling_ticks", SIBLING, "busy-sibling")):
        if seconds > 0 and _growth(done, counter) / TICKS_PER_S > limit * seconds * max(1, len(cpus)):
            doubts.append(doubt)
    return doubts


def clocks_between(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The conditions around a batch, with the seconds at each clock (``clock_s``) in place of the running counters."""
    spent = {
        policy: {
            khz: (ticks - earlier.get(khz, 0)) / TICKS_PER_S
            for khz, ticks in times.items()
            if ticks > earlier.get(khz, 0)
        }
        for policy, times in after.get(COUNTERS, {}).items()
        for earlier in [before.get(COUNTERS, {}).get(policy, {})]
    }
    first, last = ({name: value for name, value in told.items() if name != COUNTERS} for told in (before, after))
    moved = {policy: clocks for policy, clocks in spent.items() if clocks}
    return first, {**last, **({"clock_s": moved} if moved else {})}


def _throttled(done: Done, cpus: Sequence[int]) -> bool:
    """Whether heat lowered a clock that was used, or a quota of a control group stopped the agent for a while."""
    lowered = _slowest_khz(done.after, cpus) < (1 - THROTTLE) * _slowest_khz(done.before, cpus)
    return lowered or _growth(done, "throttled_us") > 0 or _heated(done, cpus)


def _growth(done: Done, counter: str) -> int:
    """How far a counter went on during a batch; 0 where it was not read twice."""
    first, last = done.before.get(counter), done.after.get(counter)
    return 0 if first is None or last is None else int(last) - int(first)


def _heated(done: Done, cpus: Sequence[int]) -> bool:
    """Whether a phone had a thermal status or a capped clock around a batch."""
    return any(told.get("thermal_status", 0) > 0 or capped(told, cpus) for told in (done.before, done.after))


def _slow_clock(done: Done, cpus: Sequence[int]) -> bool:
    """Whether processors that were used spent most of a batch below their highest clock."""
    _, after = clocks_between(done.before, done.after)
    for policy, spent in after.get("clock_s", {}).items():
        members = tuple(after.get("cluster_cpus", {}).get(policy, ()))
        highest = after.get("caps_khz", {}).get(policy, (0, 0))[1]
        full = sum(seconds for khz, seconds in spent.items() if int(khz) >= (1 - THROTTLE) * highest)
        if set(cpus) & set(members) and full < SLOW_SHARE * sum(spent.values()):
            return True
    return False


def usual(sentinels_ns: Sequence[float]) -> float | None:
    """What the sentinel took in the batches so far, None before there are any."""
    return median(sentinels_ns) if sentinels_ns else None


def _slowest_khz(conditions: Mapping[str, Any], cpus: Sequence[int]) -> float:
    """Of the processors that were used: others idle at any clock."""
    told = conditions.get("freq_khz") or {}
    return float(min((khz for name, khz in told.items() if not cpus or name in {f"cpu{n}" for n in cpus}), default=0))
