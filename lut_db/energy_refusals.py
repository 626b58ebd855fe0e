"""What no energy is told from: each check raises Unusable with the reason. The limits are policy, stated here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from lut_db.energy_windows import Array, Level, Source, Unusable, Window, update_interval_s

LEAST_WINDOWS = 3
"""Load windows, and idle ones, that an interval rests on."""
LEAST_PERIODS = 20
"""Of the meter, in a window."""
LEAST_UPDATES = 30
"""Of a gauge that needs calibration, in a window."""
MOST_MISSING = 0.2
"""Share of a window without readings; a window that lacks more is left out."""
FROZEN_PERIODS = 10
"""A reading that stays so long after the load changed is frozen."""
FROZEN_SHARE, FROZEN_TIMES = 0.5, 4.0
"""And one that stays for so much of a window, and so many times longer than in others of its kind."""
RARER = 2.5
"""From so many times the declared period on, updates are taken to come as seldom as they are seen to."""
CHARGE_APART = 0.15
LEAST_LOAD_UA = 20e3
"""A device whose processor works draws more from its battery."""
NO_DIFFERENCE = "a load must draw more than idle, but no difference is certain; make the windows longer or more"
CHARGING_NAMES = ("status", "plugged", "suspended")


def check_charging(source: Source, windows: Sequence[Mapping[str, Any]]) -> None:
    """A battery's gauge tells what a device uses only while nothing charges it, from the first window to the last."""
    if source.scope != "battery":
        return
    told = [state for window in windows for _, state in window.get("state", ())]
    if not told or not any(state.get("status") or state.get("plugged") for state in told):
        raise Unusable(
            "the charging state must be told with a battery's readings, but was not; the gauge may be charging"
        )
    states = [tuple(str(state.get(name) or "") for name in CHARGING_NAMES) for state in told]
    if len(set(states)) > 1:
        changes = ", then ".join(dict.fromkeys(_charging_text(state) for state in states))
        raise Unusable(f"the charging state must not change while measuring, but was {changes}")
    if not _discharges(*states[0]):
        raise Unusable(
            f"a battery's gauge shows the device only while nothing feeds it, but it was {_charging_text(states[0])}; "
            "pull the cable (adb over Wi-Fi) or suspend charging"
        )


def _discharges(status: str, plugged: str, suspended: str) -> bool:
    """A charger that is plugged in may feed the device past its battery, also where that is not charged."""
    if plugged == "none":
        return status != "Charging"
    return status == "Discharging" and (bool(suspended) or not plugged)


def _charging_text(state: tuple[str, ...]) -> str:
    status, plugged, suspended = state
    return f"{status or 'of unknown status'} (plugged: {plugged or 'not told'}{', suspended' if suspended else ''})"


def check_count(windows: Sequence[Window], what: str = "") -> None:
    loads = sum(window.loaded for window in windows)
    idles = len(windows) - loads
    if min(loads, idles) < LEAST_WINDOWS:
        raise Unusable(
            f"at least {LEAST_WINDOWS} load and {LEAST_WINDOWS} idle windows must be {what or 'measured'}, but got "
            f"{loads} and {idles}; repeat more often"
        )
    if any(window.loaded and window.calls < 1 for window in windows):
        raise Unusable("a load window must hold at least one call, but one held none; make the windows longer")


def check_length(source: Source, windows: Sequence[Window], period_s: float) -> None:
    least = LEAST_UPDATES if source.gauge else LEAST_PERIODS
    shortest = min(window.length_s for window in windows)
    if shortest < 0.999 * least * period_s:
        raise Unusable(
            f"windows must last at least {least} updates of the meter, {least * period_s:.3g} s with one each "
            f"{period_s:.3g} s, but one lasted {shortest:.3g} s; lengthen them"
        )


def complete(windows: Sequence[Window], period_s: float) -> list[Window]:
    """The windows whose readings hardly failed."""
    longest = max(4 * _read_every_s(windows), 2 * period_s)
    return [window for window in windows if _missing_s(window, longest) <= MOST_MISSING * window.length_s]


def _read_every_s(windows: Sequence[Window]) -> float:
    """The usual time between readings; 0 where there are none."""
    gaps = [gap for window in windows for gap in np.diff(window.times_s)]
    return float(np.median(gaps)) if gaps else 0.0


def _missing_s(window: Window, longest_s: float) -> float:
    gaps = np.diff(np.concatenate([[window.start_s], window.times_s, [window.end_s]]))
    return float(gaps[gaps > longest_s].sum())


def check_frozen(source: Source, windows: Sequence[Window], period_s: float) -> None:
    """A gauge that never noticed a change of load, or stood still for most of a window, unlike in its other windows."""
    if source.counter:
        return
    for before, after in pairwise(windows):
        if before.loaded != after.loaded and _standing_s(before.raw[-1], after) > _enough_s(after, period_s):
            raise Unusable("the meter's reading stood still while the load changed: it is frozen")
    for loaded in (False, True):
        runs = sorted(_longest_run_s(window) / window.length_s for window in windows if window.loaded == loaded)
        if runs[-1] > FROZEN_SHARE and runs[len(runs) // 2] < runs[-1] / FROZEN_TIMES:
            raise Unusable("the meter's reading stood still for most of a window, unlike in its others: it was frozen")


def _enough_s(window: Window, period_s: float) -> float:
    return min(max(FROZEN_PERIODS * period_s, 0.25 * window.length_s), 0.8 * window.length_s)


def _standing_s(value: Array, window: Window) -> float:
    """How long a window goes on with a value."""
    other = np.flatnonzero((window.raw != value).any(axis=1))
    return float(window.times_s[other[0]] - window.start_s) if len(other) else window.length_s


def _longest_run_s(window: Window) -> float:
    changed = np.flatnonzero((np.diff(window.raw, axis=0) != 0).any(axis=1)) + 1
    return float(np.diff(np.concatenate([[window.start_s], window.times_s[changed], [window.end_s]])).max())


def meter_period_s(source: Source, windows: Sequence[Window]) -> float:
    """The time after which a reading is wholly new: as declared, or as seen where updates come more seldom.

    Raises:
        Unusable: neither declared nor to be seen.
    """
    seen = [seconds for seconds in map(update_interval_s, windows) if seconds is not None]
    slowest = float(np.median(seen)) if len(seen) > len(windows) // 2 else None
    if source.period_s is None and slowest is None:
        raise Unusable("the meter's update period must be known, but its readings hardly changed; calibrate the meter")
    declared = source.period_s or 0.0
    rarer = slowest is not None and slowest > RARER * max(declared, _read_every_s(windows))
    return max(declared, slowest or 0.0) if rarer or not declared else declared


def check_levels(source: Source, windows: Sequence[Window], levels: Sequence[Level]) -> None:
    """Powers that cannot be: negative ones, a load that does not show, a load or a rest that was none."""
    if min(level.power_uw for level in levels) <= 0:
        raise Unusable("power must be positive, but a window's was not: the device charges, or the sign is wrong")
    loaded, power = np.array([window.loaded for window in windows]), np.array([level.power_uw for level in levels])
    starts, idle = np.array([window.start_s for window in windows]), power[~loaded]
    added = float(np.median(power[loaded] - np.interp(starts[loaded], starts[~loaded], idle)))
    if added <= 0:
        raise Unusable(NO_DIFFERENCE)
    if source.gauge and min(_current_ua(source, window) for window in windows if window.loaded) < LEAST_LOAD_UA:
        raise Unusable(
            "a working device must draw 20 mA or more, but its gauge shows less; a charger feeds it past its battery"
        )
    if np.ptp(idle) > max(added, 0.5 * float(np.median(idle))):
        raise Unusable("idle power changed by more than the load adds: something else runs, or a charger came or went")


def _current_ua(source: Source, window: Window) -> float:
    return float(source.sign * source.scale * window.raw[:, 0].mean())
