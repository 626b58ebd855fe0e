"""From raw readings of a meter to the energy of a call, with an honest interval or with the reason why there is none.

The policy:

* ``total`` is what the meter's whole scope drew in the load windows, a call; ``net`` is what the calls added to idle:
  load windows against the idle ones around them, so that a drift of the idle power cancels;
* the intervals (95 %) come from the repeated windows (``energy_interval``), with the noise within the windows and the
  steps of the meter as the least there is. They grow by what repeats do not reveal (``energy_trends``): a device that
  still cools down, clocks that differ. They do not hold the error of the meter's own scale;
* a net energy whose interval reaches 0 is not told: nothing was measured then;
* windows that break the protocol are refused with a reason (``energy_refusals``): every energy is None then;
* which plan suits which meter is in ``energy_plans``.

Energies are microjoules, powers microwatts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lut_db import energy_refusals as refusals
from lut_db.energy_interval import Interval, Series, intervals
from lut_db.energy_trends import noise_uw, shared
from lut_db.energy_windows import Level, Source, Unusable, Window, level, parse_windows, step_of


@dataclass(frozen=True, slots=True)
class MeterCalibration:
    """What a gauge's readings were found to mean.

    Attributes:
        sign: of the raw current while the device draws from its battery.
        scale: microamperes a raw unit.
        update_period_s: the time after which a reading is wholly new: between updates, or averaged over if longer.
        verified_at: seconds since 1970.
        charge_ratio: integral of the current over the change of the battery's charge counter; None where not told.
    """

    sign: int
    scale: float
    update_period_s: float
    verified_at: float
    charge_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class EnergyEstimate:
    """The energy of one call, or why there is none: then every energy and power is None and ``reason`` says it.

    Attributes:
        total_uj: drawn in all, with its 95 % interval; of the meter's scope.
        net_uj: drawn beyond idle, with its 95 % interval.
        calls: of all load windows that counted; windows: how many those were.
    """

    total_uj: float | None
    net_uj: float | None
    total_low_uj: float | None
    total_high_uj: float | None
    net_low_uj: float | None
    net_high_uj: float | None
    calls: int
    windows: int
    idle_uw: float | None
    load_uw: float | None
    reason: str = ""


def estimate(
    facts: Mapping[str, Any], windows: Sequence[Mapping[str, Any]], calibration: MeterCalibration | None
) -> EnergyEstimate:
    """The energy of a call from one model's windows, as ``agent.protocol.Energised`` describes facts and windows."""
    try:
        source = source_of(facts, calibration)
        refusals.check_charging(source, windows)
        kept, levels = _levels(source, parse_windows(source, windows))
        return _estimate(kept, levels)
    except Unusable as unusable:
        loads = [window for window in windows if window["kind"] == "load"]
        calls = sum(int(window["calls"]) for window in loads)
        return EnergyEstimate(None, None, None, None, None, None, calls, len(loads), None, None, str(unusable))


def source_of(facts: Mapping[str, Any], calibration: MeterCalibration | None) -> Source:
    """What the readings mean.

    Raises:
        Unusable: the meter needs a calibration and has none, or one that contradicts itself.
    """
    kind, gauge = facts["kind"], bool(facts.get("needs_calibration"))
    if kind not in ("counter", "power"):
        raise Unusable(f"a meter must be a 'counter' or show 'power', but got {kind!r}")
    source = Source(kind == "counter", gauge, str(facts.get("scope", "")), facts.get("period_s"), facts.get("wraps_at"))
    if not gauge:
        return source
    if calibration is None:
        raise Unusable("the gauge's sign, unit and period must be known, but it was never calibrated; calibrate it")
    ratio = calibration.charge_ratio
    if ratio is not None and abs(ratio - 1) > refusals.CHARGE_APART:
        raise Unusable(
            f"current and charge counter must agree within 15 %, but their ratio is {ratio:.2f}; recalibrate"
        )
    period = max(calibration.update_period_s, source.period_s or 0.0)
    return replace(source, period_s=period, sign=calibration.sign, scale=calibration.scale)


def _levels(source: Source, windows: list[Window]) -> tuple[list[Window], list[Level]]:
    """The windows that count, and their mean powers."""
    refusals.check_count(windows)
    if source.period_s:
        refusals.check_length(source, windows, source.period_s)
    kept = refusals.complete(windows, source.period_s or 0.0)
    refusals.check_count(kept, "read without gaps")
    period = refusals.meter_period_s(source, kept)
    refusals.check_length(source, kept, period)
    refusals.check_frozen(source, kept, period)
    levels = [level(source, window, period, step_of(kept)) for window in kept]
    refusals.check_levels(source, kept, levels)
    return kept, levels


def _estimate(windows: list[Window], levels: list[Level]) -> EnergyEstimate:
    middle_s = np.array([(window.start_s + window.end_s) / 2 for window in windows])
    power_uw = np.array([level.power_uw for level in levels])
    call_s = np.array([window.call_s for window in windows])
    series = Series(middle_s, power_uw, call_s, noise_uw(call_s > 0, levels))
    loaded, usual_s = series.loaded, float(call_s[call_s > 0].mean())
    more = shared(series, levels)
    net, total = intervals(series)
    net, total = _widened(net, more.net_uw * usual_s), _widened(total, more.total_uw * usual_s)
    if net.low <= 0:
        raise Unusable(refusals.NO_DIFFERENCE)
    return EnergyEstimate(
        total.middle, net.middle, total.low, total.high, net.low, net.high,
        sum(window.calls for window in windows if window.loaded), int(loaded.sum()),
        float(power_uw[~loaded].mean()), float(power_uw[loaded].mean()),
    )  # fmt: skip


def _widened(found: Interval, by_uj: float) -> Interval:
    return Interval(found.middle, found.low - by_uj, found.high + by_uj)
