"""Simulated meters over a simulated device's power, and whole measurements as an agent would tell them.

Counters count in units and wrap, gauges show what was, rounded, for as long as they hold it; what can go wrong does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.energy_devices import Array, Battery, Course, Device, Span, course_of, spans_of
from lut_db.energy_plans import MeterPlan

COUNTERS = ("rapl", "nvml", "odpm")
SCOPES = {"rapl": "package", "nvml": "gpu", "odpm": "rails", "ina3221": "rails", "monsoon": "device"}
FREE, CHARGING = {"status": "Discharging", "plugged": "none"}, {"status": "Charging", "plugged": "usb"}
BYPASS_W, BYPASS_NOISE_W = 0.02, 0.004


@dataclass(frozen=True)
class Faults:
    """What goes wrong; moments are shares of the measurement, None for never.

    Attributes:
        charge_from: a charger of charge_w comes; charge_told: "told" in the state, "lies" for not, "" for no state.
        frozen_from: readings stand still.
        lost: share of reads that fail.
        reset_at: a counter starts again at 0.
        bypass: a charger feeds the device past its battery.
        pause: share of each load window, at its end, in which nothing runs.
        slower: the meter updates so many times more seldom than it was.
        clock_s: how much further ahead the meter's clock is.
    """

    charge_from: float | None = None
    charge_w: float = 8.0
    charge_told: str = "told"
    frozen_from: float | None = None
    lost: float = 0.0
    reset_at: float | None = None
    bypass: bool = False
    pause: float = 0.0
    slower: float = 1.0
    clock_s: float = 0.0


SOUND = Faults()


@dataclass(frozen=True)
class Played:
    """A measurement as ``agent.protocol.Energised`` tells it, and what is true of it."""

    facts: dict[str, Any]
    windows: list[dict[str, Any]]
    net_uj: float
    total_uj: float


def play(
    device: Device, plan: MeterPlan, rng: np.random.Generator, faults: Faults = SOUND, full: bool = False
) -> Played:
    """Play a plan with the device's load, or with ``full`` with all that it has."""
    device = replace(device, load_w=device.full_w) if full else device
    spans = spans_of(device, plan, rng)
    course = course_of(device, spans, faults.pause, rng)
    meter = _Meter(device, course, faults, spans[-1].end_s + 1.0, rng)
    windows = [_window(device, span, plan, meter, rng) for span in spans]
    calls = sum(span.calls for span in spans)
    net, total = (1e6 * course.true_j(watts, spans) / calls for watts in (course.load_w, course.total_w))
    return Played(facts_of(device), windows, net, total)


def facts_of(device: Device) -> dict[str, Any]:
    """As ``agent.meters.MeterFacts`` has them."""
    return {
        "name": device.meter, "kind": "counter" if device.meter in COUNTERS else "power", "rails": [],
        "period_s": None if device.battery else device.period_s, "wraps_at": device.wraps_at_uj,
        "needs_calibration": device.battery is not None, "scope": SCOPES.get(device.meter, "battery"),
        "source": "simulated",
    }  # fmt: skip


class _Meter:
    """What a meter shows at any moment."""

    def __init__(
        self, device: Device, course: Course, faults: Faults, length_s: float, rng: np.random.Generator
    ) -> None:
        self.device, self.course, self.faults, self.length_s = device, course, faults, length_s
        period = device.period_s * faults.slower
        steps = period * (1 + device.jitter * rng.standard_normal(int(length_s / period) + 8).clip(-3, 3))
        self.updates = rng.random() * period - period + np.cumsum(steps)
        if faults.frozen_from is not None:
            self.updates = self.updates[self.updates < max(faults.frozen_from * length_s, self.updates[0] + period)]
        self.shown = self._gauge(device.battery, rng) if device.battery else self._plain()

    def at(self, times_s: Array) -> Array:
        """Rows of what is shown: a value, or power, current and voltage."""
        seen_s = times_s - self.device.clock_s - self.faults.clock_s
        return np.asarray(self.shown[np.clip(np.searchsorted(self.updates, seen_s, side="right") - 1, 0, None)])

    def charging_since_s(self) -> float:
        return np.inf if self.faults.charge_from is None else self.faults.charge_from * self.length_s

    def _plain(self) -> Array:
        device, energy_uj = self.device, 1e6 * self.course.energy_j(self.updates)
        if device.meter not in COUNTERS:
            before = np.maximum(self.updates - device.period_s, 0.0)
            power = (energy_uj - 1e6 * self.course.energy_j(before)) / np.maximum(self.updates - before, 1e-9)
            return np.asarray(np.round(power / device.unit_uj) * device.unit_uj)[:, None]
        counted = np.floor((device.starts_at_uj + energy_uj) / device.unit_uj) * device.unit_uj
        if self.faults.reset_at is not None:
            late = self.updates > self.faults.reset_at * self.length_s
            counted[late] -= counted[late][0] if late.any() else 0.0
        return np.asarray(counted if device.wraps_at_uj is None else counted % device.wraps_at_uj)[:, None]

    def _gauge(self, battery: Battery, rng: np.random.Generator) -> Array:
        course = self.course
        at = np.arange(len(course.all_w)) * course.step_s
        power = course.all_w - np.where(at >= self.charging_since_s(), self.faults.charge_w, 0.0)
        if self.faults.bypass:
            power = BYPASS_W + BYPASS_NOISE_W * rng.standard_normal(len(power))
        open_v = battery.open_v - 0.05 * at / max(self.length_s, 600.0)
        current = (open_v - np.sqrt(open_v**2 - 4 * battery.ohm * power)) / (2 * battery.ohm)
        place = np.clip((self.updates / course.step_s).astype(int), 0, len(at) - 1)
        told = _averaged(np.asarray(current, np.float64), place, battery.average * self.device.period_s / course.step_s)
        raw = battery.sign * np.round(told * 1e6 / battery.step_ua) * battery.step_ua / battery.unit_ua
        microvolts = np.round((open_v - battery.ohm * current)[place] * 1e3) * 1e3
        return np.column_stack([raw * microvolts / 1e6, raw, microvolts])


def _averaged(values: Array, place: Any, steps: float) -> Array:
    """Values at places: as they are, the mean of so many steps before, or (below 0) smoothed over them."""
    if steps == 0:
        return np.asarray(values[place])
    if steps < 0:
        keep, state, smooth = float(np.exp(1 / steps)), float(values[0]), np.empty_like(values)
        for i, value in enumerate(values):
            state = keep * state + (1 - keep) * value
            smooth[i] = state
        return np.asarray(smooth[place])
    sums = np.concatenate([[0.0], np.cumsum(values)])
    first = np.maximum(place + 1 - max(round(steps), 1), 0)
    return np.asarray((sums[place + 1] - sums[first]) / (place + 1 - first))


def _window(device: Device, span: Span, plan: MeterPlan, meter: _Meter, rng: np.random.Generator) -> dict[str, Any]:
    times = np.arange(span.start_s, span.end_s, plan.read_every_s)
    times = np.clip(times + device.jitter * plan.read_every_s * rng.random(len(times)), span.start_s, span.end_s)
    kept = rng.random(len(times)) >= max(device.lost, meter.faults.lost)
    if device.meter in COUNTERS:
        times, kept = np.concatenate([[span.start_s], times, [span.end_s]]), np.concatenate([[True], kept, [True]])
    rows = [[round(1e9 * at), *row] for at, row in zip(times[kept], meter.at(times[kept]).tolist(), strict=True)]
    return {
        "kind": "load" if span.loaded else "idle", "calls": span.calls, "readings": rows,
        "from_ns": round(1e9 * span.start_s), "to_ns": round(1e9 * span.end_s),
        "state": _states(device, span, meter), "temp_mc": {"before": {}, "after": {}},
        "charge_uah": {"before": None, "after": None}, "errors": int((~kept).sum()), "error": "",
    }  # fmt: skip


def _states(device: Device, span: Span, meter: _Meter) -> Sequence[list[Any]]:
    told = meter.faults.charge_told
    if device.battery is None or not told:
        return []
    since_s = meter.charging_since_s() if told == "told" else np.inf
    before = [[round(1e9 * span.start_s), FREE]] if span.start_s < since_s else []
    return before + ([[round(1e9 * max(since_s, span.start_s)), CHARGING]] if span.end_s > since_s else [])
