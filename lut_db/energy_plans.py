"""Which plan suits which meter: how long and how often, so that an interval is worth having.

Of simulated devices (``python -m benchmarks.energy_traces --widths``, none is real) half the width of the net interval
was, by the number of load windows, in percent at the median:

    windows         3    4    5    6    8    12
    rapl            9.6  6.7  6.3  7.5  7.0  4.5     0.2 to 6 W beside 2 to 12 W of idle power
    nvml            2.5  2.0  2.1  1.4  1.2  0.9
    odpm            1.7  1.3  1.2  1.0  0.7  0.6
    ina3221         1.9  1.7  1.4  1.2  0.8  0.7
    monsoon         1.6  1.2  1.1  1.1  0.7  0.7
    battery_gauge   1.1  0.9  0.9  0.7  0.6  0.4     a minute or more each

With these plans a model takes half a minute (rapl), one (nvml), two to three (odpm, ina3221, monsoon), or twelve and
more (battery_gauge).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lut_db.energy_refusals import LEAST_PERIODS, LEAST_UPDATES

SPARE = 1.1
"""Windows are this much longer than the least."""
READINGS = 50
"""In a window, at least."""


@dataclass(frozen=True, slots=True)
class MeterPlan:
    """Windows idle - load - idle ... - idle, as ``agent.protocol.Plan`` has them, in seconds.

    Attributes:
        repeats: load windows.
        settle_s: waited after each change, outside of the windows.
    """

    window_s: float
    idle_s: float
    repeats: int
    settle_s: float
    read_every_s: float


PLANS: Mapping[str, MeterPlan] = {
    "rapl": MeterPlan(1.0, 1.0, 12, 0.25, 0.01),
    "nvml": MeterPlan(3.0, 3.0, 8, 0.5, 0.02),
    "odpm": MeterPlan(12.0, 12.0, 6, 1.0, 0.05),
    "ina3221": MeterPlan(5.0, 5.0, 8, 1.0, 0.05),
    "monsoon": MeterPlan(5.0, 5.0, 8, 1.0, 0.01),
    "battery_gauge": MeterPlan(60.0, 60.0, 5, 5.0, 0.25),
    "command": MeterPlan(30.0, 30.0, 5, 2.0, 0.1),
    "replay": MeterPlan(5.0, 5.0, 8, 1.0, 0.05),
}
"""Name of a meter -> its plan, where its period asks for no more."""


def plan_for(meter: str, period_s: float | None, gauge: bool, changes: Mapping[str, float] | None = None) -> MeterPlan:
    """The plan for a meter with this update period, as declared or calibrated; longer windows for a slow one.

    Args:
        changes: what was asked for instead, by field; windows stay as long as the meter needs, short ones are read more
            often.
    """
    told: dict[str, Any] = {name: int(v) if name == "repeats" else v for name, v in (changes or {}).items()}
    plan = replace(PLANS[meter], **told)
    least = SPARE * (LEAST_UPDATES if gauge else LEAST_PERIODS) * (period_s or 0.0)
    window_s, idle_s = max(plan.window_s, least), max(plan.idle_s, least)
    read_every_s = min(plan.read_every_s, min(window_s, idle_s) / READINGS)
    return replace(plan, window_s=window_s, idle_s=idle_s, read_every_s=read_every_s)


def planned_s(plan: MeterPlan) -> float:
    """How long the windows of one model take."""
    loads, idles = plan.repeats, plan.repeats + 1
    return loads * (plan.settle_s + plan.window_s) + idles * (plan.settle_s + plan.idle_s)
