"""Simulated devices and their true power over time: nothing here knows how energies are estimated.

A device's power is idle power that drifts (a line, a curve like a temperature's, a random walk), what its load adds
with a warm-up and a tail that cools down afterwards, white and 1/f noise of both, and bursts of others' activity. True
of a measurement are *net*, what the load adds in its windows, a call, and *total*, that and the idle power as it drifts
and wanders; both without quick noise, the load's noise and others' activity: repeated windows must average those out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from lut_db.energy_plans import MeterPlan

Array = np.ndarray[Any, np.dtype[np.float64]]

STEPS_S = {"rapl": 1e-3, "nvml": 4e-3, "odpm": 1e-2, "ina3221": 1e-2, "monsoon": 2e-3, "battery_gauge": 5e-2}
"""How finely time is simulated under a meter."""
SPEED = 0.003
"""How much the time of a call differs from window to window; the power of a slower window is as much lower."""
WALK_STEPS = 64
"""Steps of the grid in one of the random walk."""


@dataclass(frozen=True)
class Battery:
    """A battery and its gauge.

    Attributes:
        sign: of the raw current while discharging.
        unit_ua: microamperes a raw unit; step_ua: the smallest change it shows.
        average: updates that a value averages over; 0 for a moment's, below 0 for smoothing over that many.
    """

    sign: int = 1
    unit_ua: float = 1.0
    step_ua: float = 1000.0
    average: float = 1.0
    open_v: float = 4.0
    ohm: float = 0.1


@dataclass(frozen=True)
class Device:
    """What a device and its meter are like, in watts and seconds; ``battery`` where the meter is its gauge.

    Attributes:
        full_w: what it draws beyond idle at full load.
        drift: (line, curve, walk): change of the idle power over a measurement, relative to it.
        noise: (white at 10 ms, 1/f) of idle power, relative to it; load_noise: of the load's.
        warm: share that the load's power lacks at first (below 0: has too much); tail: share that stays after it.
        bursts: mean number in a measurement; burst_w: their mean power; burst_s: their mean length.
        jitter: of reading and update times, relative; lost: share of reads that fail.
        clock_s: how far the meter's clock is ahead.
    """

    meter: str
    idle_w: float
    load_w: float
    full_w: float
    call_s: float
    period_s: float
    drift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    noise: tuple[float, float] = (0.0, 0.0)
    load_noise: tuple[float, float] = (0.0, 0.0)
    warm: float = 0.0
    tail: float = 0.0
    tail_s: float = 1.0
    bursts: float = 0.0
    burst_w: float = 0.5
    burst_s: float = 1.0
    jitter: float = 0.05
    lost: float = 0.0
    clock_s: float = 0.0
    unit_uj: float = 1.0
    wraps_at_uj: float | None = None
    starts_at_uj: float = 0.0
    battery: Battery | None = None


@dataclass(frozen=True)
class Span:
    """A window, on the simulated clock."""

    loaded: bool
    start_s: float
    end_s: float
    calls: int

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s


@dataclass(frozen=True)
class Course:
    """Power over time on a grid of ``step_s``: what the load adds, that with idle power, and all that is drawn."""

    step_s: float
    load_w: Array
    total_w: Array
    all_w: Array
    sums_j: Array = field(repr=False)

    def energy_j(self, at_s: Array) -> Array:
        """Drawn until then."""
        return np.asarray(np.interp(at_s / self.step_s, np.arange(len(self.sums_j)), self.sums_j))

    def true_j(self, watts: Array, spans: Sequence[Span]) -> float:
        """The energy of a power in the load windows."""
        return sum(self._mean(watts, span) * span.length_s for span in spans if span.loaded)

    def _mean(self, watts: Array, span: Span) -> float:
        first = round(span.start_s / self.step_s)
        return float(watts[first : max(round(span.end_s / self.step_s), first + 1)].mean())


def spans_of(device: Device, plan: MeterPlan, rng: np.random.Generator) -> list[Span]:
    """The windows as an agent would lay them; load windows hold whole calls."""
    spans, now = [], plan.settle_s
    for number in range(2 * plan.repeats + 1):
        loaded = number % 2 == 1
        length = plan.window_s if loaded else plan.idle_s
        call_s = device.call_s * (1 + SPEED * rng.standard_normal())
        calls = int(np.ceil(length / call_s)) if loaded else 0
        end = now + (calls * call_s if loaded else length)
        spans.append(Span(loaded, now, end, calls))
        now = end + plan.settle_s * (1 + 0.05 * rng.random())
    return spans


def course_of(device: Device, spans: Sequence[Span], pause: float, rng: np.random.Generator) -> Course:
    """How a device's power goes; of each load window the last share ``pause`` is none."""
    step_s, length_s = STEPS_S[device.meter], spans[-1].end_s + 2.0
    at = np.arange(0.0, length_s, step_s)
    shape, tail = _shape(device, spans, at, pause)
    load, idle = device.load_w * shape, device.idle_w * _drifting(device, at / length_s, rng)
    fine = float(np.sqrt(0.01 / step_s))
    slow, slow_load = (1 + pink * _pink(len(at), rng) for _, pink in (device.noise, device.load_noise))
    quick, quick_load = (_white(white * fine, len(at), rng) for white, _ in (device.noise, device.load_noise))
    idle *= slow
    drawn = idle * quick + load * slow_load * quick_load + device.load_w * tail + _bursts(device, at, rng)
    return Course(step_s, load, idle + load, drawn, np.concatenate([[0.0], np.cumsum(drawn) * step_s]))


def _shape(device: Device, spans: Sequence[Span], at: Array, pause: float) -> tuple[Array, Array]:
    """The load's power relative to the steady one, and what stays of it afterwards."""
    shape, tail = np.zeros_like(at), np.zeros_like(at)
    for before, span in pairwise(spans):
        if span.loaded:
            off = span.end_s - pause * span.length_s
            on, later = (at >= before.end_s) & (at < off), at >= off
            speed = device.call_s * span.calls / span.length_s
            shape[on] = speed * (1 - device.warm * np.exp(-(at[on] - before.end_s) / device.tail_s))
            tail[later] += device.tail * np.exp(-(at[later] - off) / device.tail_s)
    tail[shape > 0] = 0.0
    return shape, tail


def _drifting(device: Device, share: Array, rng: np.random.Generator) -> Array:
    line, curve, walk = device.drift
    steps = np.repeat(rng.standard_normal(len(share) // WALK_STEPS + 1), WALK_STEPS)[: len(share)]
    walked = np.cumsum(steps) / np.sqrt(WALK_STEPS * len(share))
    return np.asarray(1 + line * share + curve * (1 - np.exp(-share / 0.3)) + walk * walked)


def _white(size: float, count: int, rng: np.random.Generator) -> Array:
    """Factors around 1, never below 0."""
    return np.asarray(np.exp(size * rng.standard_normal(count) - size**2 / 2))


def _pink(count: int, rng: np.random.Generator) -> Array:
    """Noise with a power of 1/f, mean 0 and standard deviation 1."""
    length = 1 << int(np.ceil(np.log2(count)))
    spectrum = rng.standard_normal(length // 2 + 1) + 1j * rng.standard_normal(length // 2 + 1)
    spectrum[0] = 0
    spectrum[1:] /= np.sqrt(np.arange(1, length // 2 + 1))
    noise = np.fft.irfft(spectrum)[:count]
    return np.asarray((noise - noise.mean()) / noise.std())


def _bursts(device: Device, at: Array, rng: np.random.Generator) -> Array:
    power = np.zeros_like(at)
    for _ in range(rng.poisson(device.bursts)):
        start = rng.random() * at[-1]
        power[(at >= start) & (at < start + rng.exponential(device.burst_s))] += rng.exponential(device.burst_w)
    return power
