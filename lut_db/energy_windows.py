"""From a window's raw readings to its mean power. No statistics over windows, no policy of what is refused for what.

A counter's reading is exact for the moment of its last update, not for the moment when it was read: so the power is
taken between the first and the last reading that brought a new value, each dated half a step back. A sampled gauge
still shows what was before a change until its next updates: so LAG_PERIODS of its periods are left out after it, and
EDGE of the window at its ends, where clocks that differ a little would let its neighbours in. What is left out is taken
to be like the rest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

EDGE = 0.04
LAG_PERIODS = 3.0
BLOCKS = 8
"""Parts of a window that are compared with each other."""
JUMP = 50.0
"""How much more than usual a part may have used before it cannot be true."""


class Unusable(Exception):
    """Windows that no energy can be told from; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Source:
    """What the readings of a meter mean.

    Attributes:
        counter: readings are cumulative microjoules, else microwatts (of a gauge: current and voltage).
        gauge: power is ``sign * scale * current_raw`` microamperes times the voltage.
        period_s: the time after which a reading is new; None where it must be seen from the readings.
        wraps_at_uj: where a counter starts again; None unknown.
    """

    counter: bool
    gauge: bool
    scope: str
    period_s: float | None
    wraps_at_uj: float | None = None
    sign: int = 1
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Window:
    """One window, times in seconds since the first window began.

    Attributes:
        call_s: time of one call, 0 for an idle window.
        times_s: of the readings within the window (n).
        values: microjoules as counted, or microwatts (n).
        raw: what was read, without a calibration's meaning (n x 1 or n x 2).
    """

    loaded: bool
    start_s: float
    end_s: float
    calls: int
    times_s: Array
    values: Array
    raw: Array

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s

    @property
    def call_s(self) -> float:
        return self.length_s / self.calls if self.loaded else 0.0


@dataclass(frozen=True, slots=True)
class Level:
    """The mean power of a window.

    Attributes:
        span_s: the part of the window that it rests on.
        blocks_uw: the power of its parts, in order (BLOCKS).
        resolution_uw: standard deviation that the meter's steps alone leave, independent from window to window.
        dating_uw: what not knowing the moment of a part's border adds to that part and takes from the next.
        bound_uw: how far off a step may hold it, the same way in window after window.
    """

    power_uw: float
    span_s: float
    blocks_uw: Array
    resolution_uw: float
    dating_uw: float
    bound_uw: float


def parse_windows(source: Source, windows: Sequence[Mapping[str, Any]]) -> list[Window]:
    """The idle and load windows in order of time.

    Raises:
        Unusable: a reading without what its meter promises.
    """
    ordered = sorted((w for w in windows if w["kind"] in ("idle", "load")), key=lambda window: int(window["from_ns"]))
    return [_parse(source, window, int(ordered[0]["from_ns"])) for window in ordered]


def _parse(source: Source, window: Mapping[str, Any], origin_ns: int) -> Window:
    told = sorted(window["readings"], key=lambda row: row[0])
    new = [row for before, row in zip([None, *told], told, strict=False) if before is None or row[0] > before[0]]
    inside = [row for row in new if window["from_ns"] <= row[0] <= window["to_ns"]]
    if source.gauge and any(len(row) < 4 for row in inside):
        raise Unusable("a gauge's readings must carry current and voltage, but got power alone")
    times = np.array([row[0] - origin_ns for row in inside], np.float64) / 1e9
    raw = np.array([row[2:4] if source.gauge else row[1:2] for row in inside], np.float64).reshape(
        len(inside), 1 + source.gauge
    )
    values = source.sign * source.scale * raw[:, 0] * raw[:, 1] / 1e6 if source.gauge else raw.sum(axis=1)
    loaded, calls = window["kind"] == "load", int(window["calls"])
    start, end = ((int(window[name]) - origin_ns) / 1e9 for name in ("from_ns", "to_ns"))
    return Window(loaded, start, end, calls, times, values, raw)


def update_interval_s(window: Window) -> float | None:
    """The median time between readings that differ from the one before; None if fewer than three do."""
    changed = np.flatnonzero((np.diff(window.raw, axis=0) != 0).any(axis=1)) + 1
    return float(np.median(np.diff(window.times_s[changed]))) if len(changed) > 3 else None


def level(source: Source, window: Window, period_s: float, step_raw: float) -> Level:
    """The mean power of a window.

    Args:
        period_s: the time after which a reading is wholly new.
        step_raw: the smallest step of what a sampled meter reads, in its own unit.

    Raises:
        Unusable: too few readings in it, or a counter that cannot be followed.
    """
    edge, lag = (0.0, 0.0) if source.counter else (EDGE * window.length_s, LAG_PERIODS * period_s)
    start, end = window.start_s + max(lag, edge), window.end_s - edge
    found = np.flatnonzero((window.times_s >= start) & (window.times_s <= end))
    if len(found) < 2 * BLOCKS:
        raise Unusable(f"a window must hold at least {2 * BLOCKS} readings, but got {len(found)}; read more often")
    if source.counter:
        return _counted(unwrapped(source, window)[found], window.times_s[found], period_s)
    return _sampled(window.times_s[found], window.values[found], window.raw[found], step_raw)


def unwrapped(source: Source, window: Window) -> Array:
    """A counter's readings since the window's first, as if it never started again (uJ).

    Raises:
        Unusable: it fell and no single wrap explains that, or it may have wrapped unseen.
    """
    steps, gaps = np.diff(window.values), np.diff(window.times_s)
    fell = steps < 0
    usual_uw = float(np.max(steps[~fell] / gaps[~fell], initial=0.0))
    if fell.any() and source.wraps_at_uj is None:
        raise Unusable("the counter fell within a window, and where it wraps is not known")
    if source.wraps_at_uj is not None:
        steps = np.where(fell, steps + source.wraps_at_uj, steps)
        if (np.abs(steps[fell]) > 3 * usual_uw * gaps[fell]).any():
            raise Unusable("the counter fell within a window by what no wrap explains: it was set back")
        if usual_uw * gaps.max() > source.wraps_at_uj / 2:
            raise Unusable("the counter may have wrapped unseen between two readings; read more often")
    return np.concatenate([[0.0], np.cumsum(steps)])


def _counted(energy_uj: Array, times_s: Array, period_s: float) -> Level:
    new = np.flatnonzero(np.diff(energy_uj) > 0) + 1
    if len(new) < BLOCKS:
        raise Unusable("the counter stood still in a window: it is frozen, or far coarser than the window is long")
    brackets = np.minimum(np.diff(times_s)[new - 1], period_s)
    at, energy = times_s[new] - brackets / 2, energy_uj[new]
    power = float((energy[-1] - energy[0]) / (at[-1] - at[0]))
    borders = np.linspace(at[0], at[-1], BLOCKS + 1)
    blocks = np.diff(np.interp(borders, at, energy)) / np.diff(borders)
    if blocks.max() > JUMP * np.median(blocks):
        raise Unusable("the counter jumped within a window: it was set back, or counts something else, too")
    unsure_s = math.hypot(brackets[0], brackets[-1]) / math.sqrt(12)
    span_s = float(at[-1] - at[0])
    dating_uw = power * float(np.median(brackets)) / math.sqrt(12) / (span_s / BLOCKS)
    return Level(power, span_s, blocks, power * unsure_s / span_s, dating_uw, 0.0)


def _sampled(times_s: Array, power_uw: Array, raw: Array, step_raw: float) -> Level:
    """Each reading stands for the time since the one before it, but where reads failed not for all of that."""
    gaps = np.diff(times_s, prepend=times_s[0] - float(np.median(np.diff(times_s))))
    weights = np.minimum(gaps, 3 * float(np.median(gaps)))
    mean = float(weights @ power_uw / weights.sum())
    parts = zip(np.array_split(power_uw, BLOCKS), np.array_split(weights, BLOCKS), strict=True)
    blocks = np.array([power @ weight / weight.sum() for power, weight in parts])
    updates = 1 + np.count_nonzero((np.diff(raw, axis=0) != 0).any(axis=1))
    size = float(np.abs(raw[:, 0]).mean())
    step_uw = step_raw * abs(mean) / size if size else 0.0
    held = float(raw[:, 0].std()) < step_raw / 2
    bound_uw = step_uw / 2 if held else 0.0
    return Level(mean, float(weights.sum()), blocks, step_uw / math.sqrt(12 * updates), 0.0, bound_uw)


def step_of(windows: Sequence[Window]) -> float:
    """The smallest step between what was read, in the meter's unit; 0 where nothing ever changed."""
    seen = np.unique(np.concatenate([window.raw[:, 0] for window in windows]))
    return float(np.diff(seen).min()) if len(seen) > 1 else 0.0
