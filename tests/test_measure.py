"""The measuring loop, on a clock that only advances when something runs."""

from __future__ import annotations

import random

import pytest

from agent.measure import Gauge, Sentinel, Surroundings, calibrate, measure_all, overhead_ns, take_burst
from agent.protocol import Sampling


class Machine:
    """A clock, models of exact or noisy speed, and interruptions."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.interrupted = 0
        self.waits: list[int] = []

    def model(self, ns: int, noise: float = 0.0, interrupts: int = 0, seed: int = 0):  # type: ignore[no-untyped-def]
        rng = random.Random(seed)
        calls = 0

        def run(loops: int) -> int:
            nonlocal calls
            calls += 1
            if interrupts and calls % interrupts == 0:
                self.interrupted += 1
            took = int(loops * ns * (1 + noise * rng.random()))
            self.now_ns += took
            return took

        return run

    def wait_quiet(self, budget_ns: int) -> int:
        self.waits.append(budget_ns)
        return 10

    @property
    def around(self) -> Surroundings:
        return Surroundings(lambda: self.interrupted, self.wait_quiet, lambda: self.now_ns)


SAMPLING = Sampling()


def null(machine: Machine) -> Gauge:
    return calibrate("null", machine.model(250), SAMPLING)


@pytest.mark.parametrize(("ns", "loops", "burst"), [(1_000, 20, 12), (50_000, 1, 6), (5_000_000, 1, 3)])
def test_samples_are_long_enough_and_bursts_bounded(ns: int, loops: int, burst: int) -> None:
    gauge = calibrate("a", Machine().model(ns), SAMPLING)
    assert (gauge.loops, gauge.burst) == (loops, burst)


def test_a_burst_warms_up_outside_its_samples() -> None:
    machine = Machine()
    gauge = calibrate("a", machine.model(50_000), SAMPLING)
    before = machine.now_ns
    take_burst(gauge, SAMPLING, machine.around)
    assert gauge.bursts_ns == [[50_000] * 6]
    assert gauge.started_ns == [before + 50_000]
    assert machine.now_ns == before + 7 * 50_000


def test_interrupted_samples_are_dropped_and_counted() -> None:
    machine = Machine()
    gauge = calibrate("a", machine.model(50_000, interrupts=3), SAMPLING)
    take_burst(gauge, SAMPLING, machine.around)
    assert len(gauge.bursts_ns[0]) + gauge.rejected == 6
    assert gauge.rejected == 2


def test_a_steady_model_stops_after_its_rounds_and_a_noisy_one_goes_on() -> None:
    machine = Machine()
    steady = calibrate("steady", machine.model(40_000), SAMPLING)
    noisy = calibrate("noisy", machine.model(40_000, noise=3.0), SAMPLING)
    measure_all([steady, noisy], null(machine), Sentinel(None), SAMPLING, machine.around, seed=0)
    assert len(steady.bursts_ns) == SAMPLING.rounds
    assert SAMPLING.rounds < len(noisy.bursts_ns) <= SAMPLING.max_rounds


def test_bursts_of_different_models_are_interleaved_in_changing_order() -> None:
    machine = Machine()
    gauges = [calibrate(str(i), machine.model(40_000 + i), SAMPLING) for i in range(5)]
    measure_all(gauges, null(machine), Sentinel(None), SAMPLING, machine.around, seed=1)
    rounds = list(zip(*(gauge.started_ns for gauge in gauges), strict=True))
    orders = {tuple(sorted(range(5), key=started.__getitem__)) for started in rounds}
    assert max(rounds[0]) < min(rounds[1])
    assert len(orders) > 1


def test_the_overhead_is_the_time_of_a_call_that_does_nothing() -> None:
    machine = Machine()
    nothing = null(machine)
    measure_all([calibrate("a", machine.model(9_000), SAMPLING)], nothing, Sentinel(None), SAMPLING, machine.around, 0)
    assert overhead_ns(nothing) == pytest.approx(250)


def test_the_sentinel_is_looked_at_first_last_and_now_and_then_between() -> None:
    machine = Machine()
    sentinel = Sentinel(machine.model(1_000_000), lambda: machine.now_ns)
    gauges = [calibrate(str(i), machine.model(20_000_000), SAMPLING) for i in range(20)]
    started = machine.now_ns
    measure_all(gauges, null(machine), sentinel, SAMPLING, machine.around, seed=0)
    assert sentinel.looks[0][0] - started < 50_000_000
    assert all(ns == 1_000_000 for _, ns in sentinel.looks)
    gaps = [after[0] - before[0] for before, after in zip(sentinel.looks, sentinel.looks[1:], strict=False)]
    assert len(sentinel.looks) > 5
    assert max(gaps) < 450_000_000


def test_waiting_for_quiet_has_a_budget_for_the_whole_batch() -> None:
    machine = Machine()
    sampling = Sampling(gate_budget_ns=25)
    gauges = [calibrate(str(i), machine.model(40_000), sampling) for i in range(4)]
    waited = measure_all(gauges, null(machine), Sentinel(None), sampling, machine.around, seed=0)
    assert machine.waits[:4] == [25, 15, 5, 0]
    assert waited == 10 * len(machine.waits)
