"""Random devices as they might be, by the meter that they are under; sizes are drawn evenly on a logarithmic scale."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.energy_devices import Battery, Device
from lut_db.energy_plans import PLANS

METERS = ("rapl", "nvml", "odpm", "ina3221", "monsoon", "battery_gauge", "battery_gauge", "battery_gauge")
"""Of the traces, in turn: gauges thrice, for they differ most. The first three are counters."""
PERIODS_S = {
    "rapl": (1e-3, 1e-3), "nvml": (0.02, 0.1), "odpm": (0.05, 0.5), "ina3221": (0.02, 0.2), "monsoon": (0.002, 0.01),
    "battery_gauge": (0.25, 10.0),
}  # fmt: skip
UNITS_UJ = {"nvml": 1000.0, "odpm": 1.0, "ina3221": 4000.0, "monsoon": 100.0}
"""What a counter counts in, or a power is rounded to."""
RAPL_UNITS_UJ, RAPL_WRAPS_UJ = (61.035, 15.259), (2.0**32, 65532610987.0, 262143328850.0)
CLOCK_S = 0.02
"""How well two computers' clocks are matched."""


class Draws:
    """Chance, in the forms that are needed."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def some(self, low: float, high: float) -> float:
        return float(np.exp(self.rng.uniform(np.log(low), np.log(high))))

    def maybe(self, low: float, high: float) -> float:
        """Nothing, half of the time."""
        return self.some(low, high) if self.rng.random() < 0.5 else 0.0

    def either_way(self, low: float, high: float) -> float:
        return float(self.rng.choice([-1, 1])) * self.maybe(low, high)

    def one(self, values: Any) -> float:
        return float(self.rng.choice(values))


def random_device(meter: str, rng: np.random.Generator) -> Device:
    """A device under this meter: 0.2 to 6 W of load, of a GPU 10 to 250 W."""
    draw, settle_s = Draws(rng), PLANS[meter].settle_s
    load_w = draw.some(10, 250) if meter == "nvml" else draw.some(0.2, 6)
    restless = draw.one([1.0, 1.0, 2.0])
    return Device(
        meter, _idle_w(meter, draw), load_w, load_w + draw.some(1, 4), draw.some(0.5e-3, 0.3),
        draw.some(*PERIODS_S[meter]), jitter=draw.some(0.01, 0.1), lost=draw.maybe(0.001, 0.05),
        drift=(draw.either_way(0.01, 0.15), draw.either_way(0.01, 0.15), draw.maybe(0.01, 0.1)),
        noise=(draw.some(0.02, 0.2), restless * draw.maybe(0.003, 0.03)),
        load_noise=(draw.some(0.02, 0.3), restless * draw.maybe(0.002, 0.02)),
        warm=draw.either_way(0.01, 0.15), tail=draw.maybe(0.005, 0.08), tail_s=settle_s * draw.some(0.1, 0.8),
        bursts=draw.maybe(0.5, 6), burst_w=draw.some(0.05, 0.5) * (load_w if meter == "nvml" else 1.0),
        burst_s=settle_s * draw.some(0.05, 0.4), clock_s=CLOCK_S * rng.standard_normal() * (meter == "monsoon"),
        battery=random_battery(draw) if meter == "battery_gauge" else None, **_counting(meter, draw),
    )  # fmt: skip


def _idle_w(meter: str, draw: Draws) -> float:
    return draw.some(*{"nvml": (20, 80), "rapl": (2, 12)}.get(meter, (0.3, 2)))


def _counting(meter: str, draw: Draws) -> dict[str, Any]:
    """Where a counter starts: every second one of a processor close to its wrap."""
    if meter == "rapl":
        wraps_uj = draw.one(RAPL_WRAPS_UJ)
        start_uj = wraps_uj - draw.some(1e6, 1e9) if draw.rng.random() < 0.5 else draw.rng.random() * wraps_uj
        return {"unit_uj": draw.one(RAPL_UNITS_UJ), "wraps_at_uj": wraps_uj, "starts_at_uj": start_uj}
    return {"unit_uj": UNITS_UJ.get(meter, 1.0), "starts_at_uj": draw.rng.random() * 1e12}


def random_battery(draw: Draws) -> Battery:
    """Either sign, micro- or milliamperes; a third of the gauges average over more than an update."""
    milli = draw.rng.random() < 0.35
    return Battery(
        sign=int(draw.one([-1, 1])), unit_ua=1000.0 if milli else 1.0,
        step_ua=1000.0 if milli else draw.one([1000.0, 305.2, 152.6, 976.6]),
        average=draw.one([0.0, 1.0, 1.0, 2.0, 4.0, -1.0]),
        open_v=draw.rng.uniform(3.6, 4.3), ohm=draw.rng.uniform(0.05, 0.2),
    )  # fmt: skip
