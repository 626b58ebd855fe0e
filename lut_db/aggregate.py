"""From raw samples to a table's entry. The policy:

* a measurement's latency is the 10th percentile of its pooled clean samples, per call, less the time of a call that
  does nothing. Low quantiles repeat to about 1 % where medians move by 2-11 % with the neighbours' load; a minimum
  rests on one sample. It is never below FLOOR_NS; a measurement that would be is doubted as ``below-overhead``;
* where an engine tells only a summary of its calls, the latency is their median, else their average: of low quantiles
  it tells at most the 5th percentile in whole microseconds;
* an entry is the smaller of two passes, and the median of three or more: disturbances only ever add time;
* measurements with a disqualifying doubt count only where there are no others, and then the entry carries the doubt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

QUANTILE = 0.10
FLOOR_NS = 1.0
MADS_PER_STD = 1.4826
APART = 0.05
"""Relative difference of two passes that asks for a third."""

DISQUALIFYING = frozenset({"few-samples", "interrupted", "drifted", "throttled", "stolen", "below-overhead"})


@dataclass(frozen=True, slots=True)
class Statistics:
    """What one measurement comes to.

    Attributes:
        mad_ns: median absolute deviation of the samples, per call.
        samples: number of clean samples.
    """

    latency_ns: float
    mad_ns: float
    samples: int
    below_overhead: bool


def statistics(bursts_ns: Sequence[Sequence[int]], loops: int, overhead_ns: float) -> Statistics:
    """The statistics of raw samples, ns for ``loops`` calls each."""
    samples = sorted(ns / loops for burst in bursts_ns for ns in burst)
    if not samples:
        return Statistics(FLOOR_NS, 0.0, 0, True)
    latency = quantile(samples, QUANTILE) - overhead_ns
    middle = quantile(samples, 0.5)
    mad = quantile(sorted(abs(sample - middle) for sample in samples), 0.5)
    return Statistics(max(latency, FLOOR_NS), mad, len(samples), latency < FLOOR_NS)


def summary_statistics(summary: Mapping[str, float], overhead_ns: float) -> Statistics:
    """The statistics of a summary; its spread is told as a standard deviation, which of normal noise is 1.48 MADs."""
    latency = summary.get("median_ns", summary["avg_ns"]) - overhead_ns
    mad = summary.get("std_ns", 0.0) / MADS_PER_STD
    return Statistics(max(latency, FLOOR_NS), mad, int(summary["count"]), latency < FLOOR_NS)


def quantile(ordered: Sequence[float], share: float) -> float:
    """A quantile of sorted values, linear between neighbours; for some dozen values far quicker than NumPy's."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def is_clean(doubts: Iterable[str]) -> bool:
    return DISQUALIFYING.isdisjoint(doubts)


def combine(latencies_ns: Sequence[float]) -> float:
    """The entry of one operator's passes."""
    return min(latencies_ns) if len(latencies_ns) < 3 else quantile(sorted(latencies_ns), 0.5)


def differ(latencies_ns: Sequence[float]) -> bool:
    """Whether two passes leave it open which is right."""
    return len(latencies_ns) == 2 and max(latencies_ns) > (1 + APART) * min(latencies_ns)
