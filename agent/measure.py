"""How long is a call? Bursts of timed calls, spread over a whole batch in random order, interrupted ones dropped.

Pure: what runs, what tells interruptions and what waits for a quiet moment are given. It keeps raw samples and
computes no statistics beyond what it needs to decide when to stop.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import Callable, List, Sequence, Tuple

from agent.protocol import Sampling

Run = Callable[[int], int]
"""Makes that many calls, returns ns for all of them."""

MAX_LOOPS = 1_000
NULL_EVERY = 16
SENTINEL_EVERY_NS = 250_000_000
SENTINEL_CALLS = 5


@dataclass
class Gauge:
    """One model under measurement."""

    id: str
    run: Run
    loops: int = 1
    burst: int = 1
    bursts_ns: List[List[int]] = field(default_factory=list)
    started_ns: List[int] = field(default_factory=list)
    rejected: int = 0

    def settled(self, sampling: Sampling) -> bool:
        """Whether its two quickest bursts agree."""
        quick = sorted(_quartile(burst) for burst in self.bursts_ns if burst)
        return len(quick) > 1 and quick[1] <= (1 + sampling.tolerance) * quick[0]


@dataclass(frozen=True)
class Surroundings:
    """What the loop asks of the machine.

    Attributes:
        interruptions: how often this thread was interrupted so far.
        wait_quiet: waits for a quiet moment within a budget in ns; returns ns waited.
    """

    interruptions: Callable[[], int]
    wait_quiet: Callable[[int], int]
    clock_ns: Callable[[], int] = time.perf_counter_ns


def calibrate(id: str, run: Run, sampling: Sampling) -> Gauge:
    """Chooses how many calls make a sample and how many samples a burst, from a few calls."""
    run(1)
    call_ns = max(1, min(run(1), run(1)))
    loops = min(MAX_LOOPS, max(1, -(-sampling.sample_ns // call_ns)))
    burst = sampling.burst_ns // (loops * call_ns)
    return Gauge(id, run, loops, int(min(max(burst, sampling.burst_min), sampling.burst_max)))


def take_burst(gauge: Gauge, sampling: Sampling, around: Surroundings) -> None:
    """One burst: warm up, then samples; those during which the thread was interrupted are dropped."""
    for _ in range(sampling.warmup_runs):
        gauge.run(1)
    gauge.started_ns.append(around.clock_ns())
    clean = []
    for _ in range(gauge.burst):
        before = around.interruptions()
        ns = gauge.run(gauge.loops)
        if around.interruptions() == before:
            clean.append(ns)
        else:
            gauge.rejected += 1
    gauge.bursts_ns.append(clean)


def measure_all(
    gauges: Sequence[Gauge], null: Gauge, sentinel: "Sentinel", sampling: Sampling, around: Surroundings, seed: int
) -> int:
    """Fills the gauges round by round, until each has settled or had its rounds; returns ns waited for quiet."""
    rng = random.Random(seed)
    open_gauges = list(gauges)
    waited = 0
    for number in range(sampling.max_rounds):
        rng.shuffle(open_gauges)
        for count, gauge in enumerate(open_gauges):
            if count % NULL_EVERY == 0:
                take_burst(null, sampling, around)
            sentinel.look_if_due()
            waited += around.wait_quiet(max(0, sampling.gate_budget_ns - waited))
            take_burst(gauge, sampling, around)
        if number + 1 >= sampling.rounds:
            open_gauges = [gauge for gauge in open_gauges if not gauge.settled(sampling)]
        if not open_gauges:
            break
    sentinel.look()
    return waited


class Sentinel:
    """A network timed now and then beside what is measured; without one it does nothing."""

    def __init__(self, run: "Run | None", clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self._run = run
        self._clock_ns = clock_ns
        self._due_ns = 0
        self.looks: List[Tuple[int, int]] = []

    def look_if_due(self) -> None:
        if self._clock_ns() >= self._due_ns:
            self.look()

    def look(self) -> None:
        """Warms it up, then keeps the quickest of a few calls."""
        if self._run is None:
            return
        self._run(1)
        started = self._clock_ns()
        self.looks.append((started, min(self._run(1) for _ in range(SENTINEL_CALLS))))
        self._due_ns = self._clock_ns() + SENTINEL_EVERY_NS


def overhead_ns(null: Gauge) -> float:
    """Time of one call that does nothing: the lowest tenth of its samples."""
    samples = sorted(ns / null.loops for burst in null.bursts_ns for ns in burst)
    return samples[len(samples) // 10] if samples else 0.0


def _quartile(burst: Sequence[int]) -> float:
    ordered = sorted(burst)
    return ordered[len(ordered) // 4]
