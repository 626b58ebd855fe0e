"""What a battery gauge's readings mean on one device: found by experiment, for neither sign nor unit can be believed.

Kernels count microamperes negative while discharging, Android positive while charging, and devices do either, in
microamperes or milliamperes, and show a new value every 0.25 to 30 s, some of them averaged over longer than that. So a
device is calibrated before its energies count: its load is switched on and off while the gauge is read ten times a
second. What is seen then must make sense, else nothing is calibrated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from host.errors import HostError
from lut_db.energy import MeterCalibration
from lut_db.energy_plans import MeterPlan
from lut_db.energy_refusals import CHARGE_APART, check_charging
from lut_db.energy_windows import Source, Unusable

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Windows = Sequence[Mapping[str, Any]]
Measure = Callable[[MeterPlan], Windows]
"""Plays a plan on the device, idle against full load; returns windows as ``agent.protocol.Energised`` has them."""

SQUARE_WAVES = (
    MeterPlan(10.0, 10.0, 4, 0.0, 0.1),
    MeterPlan(60.0, 60.0, 4, 0.0, 0.1),
    MeterPlan(180.0, 180.0, 3, 0.0, 0.1),
)
"""Tried in order, until a load window lasts SETTLED times as long as the gauge takes to show a change."""
SETTLED = 4.0
LEAST_CHANGES = 8
PLAUSIBLE_UA = (50e3, 6e6)
"""What a phone draws at full load."""
UNITS_UA = (1.0, 1000.0)
"""Microamperes and milliamperes."""
LEAST_RISE = 1.15
LEAST_CHARGE_UAH = 5000.0
"""Change of the charge counter that its own steps do not blur."""


def calibrate(measure: Measure, now: Callable[[], float], charge_s: float = 0.0) -> MeterCalibration:
    """Find what a gauge's readings mean.

    Args:
        charge_s: for how long to compare current and charge counter afterwards, 600 s or more; 0 for not at all.

    Raises:
        HostError: what was seen makes no sense, with the reason.
    """
    windows, period_s = _square_wave(measure)
    sign, scale = sign_and_scale(windows)
    ratio = charge_ratio(measure(_long_plan(charge_s)), sign, scale) if charge_s else None
    if ratio is not None and abs(ratio - 1) > CHARGE_APART:
        raise HostError(
            f"current and charge counter must agree within {CHARGE_APART:.0%}, but the current makes {ratio:.2f} times "
            "the counter's change; this gauge cannot be used"
        )
    return MeterCalibration(sign, scale, period_s, now(), ratio)


def _square_wave(measure: Measure) -> tuple[Windows, float]:
    for plan in SQUARE_WAVES:
        windows = measure(plan)
        _check_discharging(windows)
        period_s = update_period_s(windows)
        if period_s is not None:
            new_s = max(period_s, response_s(windows, period_s))
            if SETTLED * new_s <= plan.window_s:
                return windows, new_s
    raise HostError(
        f"a gauge must show a load within {plan.window_s / SETTLED:.0f} s, but this one does not; it is too slow"
    )


def _long_plan(seconds: float) -> MeterPlan:
    return MeterPlan(seconds / 2, seconds / 4, 1, 0.0, 0.25)


def _check_discharging(windows: Windows) -> None:
    try:
        check_charging(Source(False, True, "battery", None), windows)
    except Unusable as unusable:
        raise HostError(str(unusable)) from None


def sign_and_scale(windows: Windows) -> tuple[int, float]:
    """The sign of the raw current while the device draws from its battery, and microamperes a raw unit.

    Raises:
        HostError: the current does not rise under load, or is plausible in no unit.
    """
    idle, load = (
        np.array([_late_current(window) for window in windows if window["kind"] == kind]) for kind in ("idle", "load")
    )
    middle = float(np.median(load))
    sign = 1 if middle > 0 else -1
    if (sign * load).min() <= max(LEAST_RISE * float(np.median(sign * idle)), float((sign * idle).max())):
        raise HostError(
            f"the current must rise under full load, but was {np.median(idle):.6g} at rest and {middle:.6g} then; "
            "make sure that nothing charges the device and that nothing else runs"
        )
    scales = [scale for scale in UNITS_UA if PLAUSIBLE_UA[0] <= abs(middle) * scale <= PLAUSIBLE_UA[1]]
    if len(scales) != 1:
        raise HostError(
            f"the current under full load must be 0.05 to 6 A, but the gauge shows {middle:.6g}, which is neither in "
            "microamperes nor in milliamperes; this gauge cannot be used"
        )
    return sign, scales[0]


def _late_current(window: Mapping[str, Any]) -> float:
    """The raw current in the second half of a window."""
    rows = window["readings"]
    if len(rows) < 4:
        raise HostError(
            f"a gauge must be read all along, but a window holds {len(rows)} readings; {window.get('error', '')}"
        )
    return float(np.median([row[2] for row in rows[len(rows) // 2 :]]))


def update_period_s(windows: Windows) -> float | None:
    """The time between updates of a gauge that was read far more often; None if it hardly changed.

    Where an update brings the same value again, a change is missed: intervals are then multiples of the period.
    """
    read_s = float(np.median(np.concatenate([np.diff(_times_s(window)) for window in windows])))
    intervals = np.concatenate([_change_intervals_s(window) for window in windows])
    if len(intervals) < LEAST_CHANGES:
        return None
    short = float(np.quantile(intervals, 0.2))
    once = intervals[np.abs(intervals - short) <= max(2 * read_s, 0.3 * short)]
    period = float(once.mean())
    multiples = np.maximum(1, np.round(intervals / period))
    some = multiples <= 4
    return max(float(intervals[some].sum() / multiples[some].sum()), read_s)


def _times_s(window: Mapping[str, Any]) -> Array:
    return np.array([row[0] - window["from_ns"] for row in window["readings"]], np.float64) / 1e9


def _change_intervals_s(window: Mapping[str, Any]) -> Array:
    current = np.array([row[2] for row in window["readings"]], np.float64)
    return np.diff(_times_s(window)[1:][np.diff(current) != 0])


def response_s(windows: Windows, period_s: float) -> float:
    """How long a gauge mixes old current into new, beyond its updates: the time it averages over.

    Seen from the steps at the windows' borders: when nine tenths of the change are shown, on average over all steps.
    """
    length = min(_times_s(window)[-1] for window in windows[1:])
    bins = np.arange(0.0, length, max(period_s / 2, 0.1))
    shown = np.array([_progress(before, after, bins) for before, after in pairwise(windows)])
    done = np.convolve(np.median(shown, axis=0) >= 0.9, np.ones(3), "valid") == 3
    done_s = float(bins[int(done.argmax())]) if done.any() else length
    return max(0.0, (done_s - period_s / 2) / 0.9)


def _progress(before: Mapping[str, Any], after: Mapping[str, Any], at_s: Array) -> Array:
    """What share of a step is shown at these times after it."""
    times, current = _times_s(after), np.array([row[2] for row in after["readings"]], np.float64)
    start, end = _late_current(before), _late_current(after)
    held = current[np.clip(np.searchsorted(times, at_s, side="right") - 1, 0, None)]
    return np.asarray((held - start) / (end - start if end != start else 1.0))


def charge_ratio(windows: Windows, sign: int, scale: float) -> float | None:
    """The integral of the current over the charge counter's change; None where that is not told or hardly moved."""
    told = [window.get("charge_uah") or {} for window in windows]
    first, last = told[0].get("before"), told[-1].get("after")
    if not first or not last or abs(first - last) < LEAST_CHARGE_UAH:
        return None
    rows = [row for window in windows for row in window["readings"]]
    times_h = np.array([row[0] for row in rows], np.float64) / 3.6e12
    current_ua = sign * scale * np.array([row[2] for row in rows], np.float64)
    charge_uah = float((np.diff(times_h) * (current_ua[1:] + current_ua[:-1]) / 2).sum())
    return charge_uah / float(first - last)
