"""The course of a measurement's power, made of its raw readings, and its plot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from host.page import open_frame
from lut_db.energies import EnergyMeasurement
from lut_db.energy import source_of
from lut_db.energy_windows import Array, Source, Unusable, Window, parse_windows, unwrapped

POINTS = 120
"""Of a window that are drawn; more readings are drawn as means."""
BLUE, GREY = "#2a78d6", "#9aa5b1"


@dataclass(frozen=True, slots=True)
class Part:
    """One window: from when to when (s), and its power (mW) at some times (n each)."""

    loaded: bool
    start_s: float
    end_s: float
    at_s: Array
    power_mw: Array


@dataclass(frozen=True, slots=True)
class Course:
    """A measurement, as it is drawn.

    Attributes:
        title: what was metered; outcome: what came of it.
    """

    title: str
    outcome: str
    parts: tuple[Part, ...]


def course_of(row: EnergyMeasurement) -> Course:
    """Of a measurement whose readings mean nothing, there are no parts."""
    title = row.of if isinstance(row.of, str) else row.of.name
    try:
        source = source_of(row.facts, row.calibration)
        parts = tuple(_part(source, window) for window in parse_windows(source, row.windows) if len(window.times_s) > 1)
    except Unusable:
        parts = ()
    return Course(title, _outcome(row), parts)


def _outcome(row: EnergyMeasurement) -> str:
    found = row.estimate
    if found.net_uj is None or found.idle_uw is None or found.load_uw is None or found.total_uj is None:
        return f"No energy: {found.reason}."
    return (
        f"{found.idle_uw / 1e3:.0f} mW at rest, {found.load_uw / 1e3:.0f} mW under load: {found.net_uj:.4g} uJ net, "
        f"{found.total_uj:.4g} uJ in total a call, of {found.calls} calls."
    )


def _part(source: Source, window: Window) -> Part:
    borders = np.linspace(window.times_s[0], window.times_s[-1], min(POINTS, len(window.times_s)) + 1)
    at_s, power_uw = _counted(source, window, borders) if source.counter else _sampled(window, borders)
    return Part(window.loaded, window.start_s, window.end_s, at_s, power_uw / 1e3)


def _sampled(window: Window, borders: Array) -> tuple[Array, Array]:
    """Times and mean powers (uW) of the pieces between borders that hold readings."""
    places = np.clip(np.searchsorted(borders, window.times_s, side="right") - 1, 0, len(borders) - 2)
    counts = np.bincount(places, minlength=len(borders) - 1)
    some = counts > 0
    sums = np.bincount(places, window.values, len(borders) - 1)
    return ((borders[1:] + borders[:-1]) / 2)[some], sums[some] / counts[some]


def _counted(source: Source, window: Window, borders: Array) -> tuple[Array, Array]:
    """The same from a counter, by what it tells at the borders; nothing of one that cannot be followed.

    Between its updates it is taken to go on evenly, and pieces are as long as those at least.
    """
    try:
        energy_uj = unwrapped(source, window)
    except Unusable:
        return np.zeros(0), np.zeros(0)
    new = np.concatenate([[0], np.flatnonzero(np.diff(energy_uj) > 0) + 1])
    if len(new) < 3:
        return np.zeros(0), np.zeros(0)
    coarse = borders[:: max(1, 2 * len(borders) // len(new))]
    powers = np.diff(np.interp(coarse, window.times_s[new], energy_uj[new])) / np.diff(coarse)
    return (coarse[1:] + coarse[:-1]) / 2, powers


def draw_course(course: Course, axis: Any) -> None:
    """Power over time, windows at rest shaded."""
    for part in course.parts:
        if not part.loaded:
            axis.axvspan(part.start_s, part.end_s, color=GREY, alpha=0.22, linewidth=0)
        axis.plot(part.at_s, part.power_mw, color=BLUE, linewidth=1)
    axis.set(xlabel="s", ylabel="mW")
    axis.set_ylim(bottom=0)
    open_frame(axis)
