"""The report of what was metered on a target: power over time, what each class of operators draws, what was refused."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from host.energy_validate import NetworkEnergy, compare_networks
from host.errors import HostError
from host.page import draw_svg, html_table, open_frame, write_page
from host.power_course import Course, course_of, draw_course
from lut_db.energies import EnergyMeasurement, Metered, Network
from lut_db.energy_choice import Choice
from lut_db.lut import LatencyLut
from lut_db.records import LutEntry, Target
from lut_db.store import LutStore
from ops_catalog.graphfile import graph_from_json
from search.energies import MADE_UP, Energies, complete_energies, energy_note
from search.predictors.power_features import shape_of

LOUD = "background:#d6562a;color:#fff;padding:0.8em 1em;font-size:1.2em"
COURSES = 4
SHOWN = 60
BLUE, ORANGE, GREY = "#2a78d6", "#d6562a", "#9aa5b1"


@dataclass(frozen=True, slots=True)
class Reported:
    """What the page is about.

    Attributes:
        metered, refused: operators by key.
    """

    target: Target
    choice: Choice | None
    lut: LatencyLut
    energies: Energies
    metered: Mapping[str, Metered]
    refused: Mapping[str, str]
    networks: Sequence[NetworkEnergy]
    courses: Sequence[Course]


def write_energy_report(store: LutStore, target: Target, path: Path) -> None:
    """Writes the page; the folder must exist. Raises HostError where nothing was metered."""
    reported = _reported(store, target)
    body = _warning(reported) + _summary(reported) + _courses(reported) + _classes(reported) + _against(reported)
    write_page(
        path, f"What {target.device} draws", body + _networks(reported) + _operators(reported) + _refused(reported)
    )


def _reported(store: LutStore, target: Target) -> Reported:
    metered, refused = store.energies.operators(target), store.energies.refused(target)
    networks = store.energies.networks(target)
    if not (metered or refused or networks):
        raise HostError(
            f"something must have been metered on {target.name!r}, but nothing was; "
            f"'chamnet profile --energy --device {target.device} --engine {target.engine}' does it"
        )
    some = next(iter([*metered.values(), *networks]), None)
    choice = None if some is None else Choice(some.meter, some.source)
    graphs = [graph_from_json(row.of.graph) for row in networks if isinstance(row.of, Network)]
    compared = compare_networks(store, target, choice, graphs) if choice else []
    lut = store.lut(target)
    courses = [course_of(row) for key in _telling(metered, refused) if (row := _newest(store, target, key, choice))]
    return Reported(target, choice, lut, complete_energies(lut), metered, refused, compared, courses)


def _telling(metered: Mapping[str, Metered], refused: Mapping[str, str]) -> list[str]:
    """Operators to show the power of: the dearest, a middling one, the least certain, and one that was refused."""
    dear = sorted(metered, key=lambda key: -(metered[key].estimate.net_uj or 0.0))
    unsure = sorted(metered, key=lambda key: -_width(metered[key]))
    chosen = [*dear[:1], *dear[len(dear) // 2 :][:1], *unsure[:1], *list(refused)[:1]]
    return list(dict.fromkeys(chosen))[:COURSES]


def _width(metered: Metered) -> float:
    found = metered.estimate
    if found.net_uj is None or found.net_high_uj is None or found.net_low_uj is None:
        return 0.0
    return (found.net_high_uj - found.net_low_uj) / found.net_uj


def _newest(store: LutStore, target: Target, key: str, choice: Choice | None) -> EnergyMeasurement | None:
    rows = store.energies.measurements(target, key)
    mine = [row for row in rows if choice is None or (row.meter, row.source) == choice]
    told = [row for row in mine if not row.estimate.reason]
    return next(reversed(told or mine), None)


def _warning(reported: Reported) -> str:
    source = reported.choice.source if reported.choice else reported.target.source
    if source not in MADE_UP:
        return ""
    return (
        f"<p style='{LOUD}'><strong>{source.upper()}.</strong> No real device drew any of this: the power "
        "was made up, to show how metering works.</p>"
    )


def _summary(reported: Reported) -> str:
    choice, name = reported.choice, reported.target.name
    meter = "no meter told anything" if choice is None else f"by {choice.meter}"
    known = energy_note(reported.energies.lut) or f"no energies of {name}"
    return (
        f"<p>{escape(known)}. {len(reported.lut.entries)} operators are in the table, {len(reported.refused)} were "
        f"refused, {escape(meter)}. Net energy is what a call adds to the device at rest; total is all that the "
        "meter's scope drew meanwhile.</p>"
    )


def _courses(reported: Reported) -> str:
    plots = (
        f"<figure>{draw_svg(f'c{number}', partial(draw_course, course), (9.0, 2.6))}"
        f"<figcaption>{escape(course.title)}. {escape(course.outcome)}</figcaption></figure>"
        for number, course in enumerate(reported.courses)
    )
    told = "".join(plots)
    return f"<h2>Power over time; grey bands are windows at rest, white ones under load</h2>{told}" if told else ""


def _classes(reported: Reported) -> str:
    """Mean net power while an operator runs, by class."""
    points = _powers(reported)
    if not points:
        return ""
    plot = draw_svg("classes", lambda axis: _draw_classes(axis, points), (7.2, 0.5 * len(points) + 1.4))
    rows = [
        [kind, str(len(powers)), f"{np.mean([p[0] for p in powers]):.0f}", f"{min(p[0] for p in powers):.0f}",
         f"{max(p[0] for p in powers):.0f}"]
        for kind, powers in points.items()
    ]  # fmt: skip
    table = html_table(["class", "metered", "mean mW", "least mW", "most mW"], rows)
    caption = "What metered operators add to the device at rest while they run, with 95 % intervals."
    return f"<h2>Power of each class</h2><figure>{plot}<figcaption>{caption}</figcaption></figure>{table}"


def _powers(reported: Reported) -> dict[str, list[tuple[float, float, float]]]:
    """By class: net power of each metered operator in mW, with its interval."""
    found: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for entry in reported.lut.entries:
        told = (entry.energy_uj, entry.energy_low_uj, entry.energy_high_uj)
        if entry.latency_ns > 0 and None not in told:
            middle, low, high = (1e6 * uj / entry.latency_ns for uj in told if uj is not None)
            found[shape_of(entry).kind].append((middle, low, high))
    return dict(sorted(found.items()))


def _draw_classes(axis: Any, points: Mapping[str, Sequence[tuple[float, float, float]]]) -> None:
    for place, powers in enumerate(points.values()):
        middle, low, high = np.array(powers).T
        spread = np.linspace(-0.25, 0.25, len(middle)) if len(middle) > 1 else np.zeros(1)
        axis.errorbar(
            middle, place + spread, xerr=[middle - low, high - middle], fmt="o", color=BLUE, ecolor=GREY, markersize=4
        )
    axis.set_yticks(range(len(points)), list(points))
    axis.set(xlabel="mW beyond rest")
    axis.set_xlim(left=0)
    axis.invert_yaxis()
    open_frame(axis)


def _against(reported: Reported) -> str:
    """Metered operators against what the others tell of each."""
    model = reported.energies.model
    if model is None:
        return ""
    error, _ = model.process.leave_one_out()
    metered = np.array([model.metered[key].energy_uj for key in model.learned])
    told = metered / np.exp(error)
    off = 100 * np.abs(told / metered - 1)
    plot = draw_svg("against", lambda axis: _draw_against(axis, metered / 1e3, told / 1e3), (5.4, 4.6))
    return (
        f"<h2>Metered and predicted</h2><figure>{plot}<figcaption>Each metered operator, predicted from the others: "
        f"median error {np.median(off):.1f} %, largest {off.max():.0f} %.</figcaption></figure>"
    )


def _draw_against(axis: Any, metered: np.ndarray[Any, Any], told: np.ndarray[Any, Any]) -> None:
    ends = [min(metered.min(), told.min()), max(metered.max(), told.max())]
    axis.plot(ends, ends, color=GREY, linewidth=1)
    axis.scatter(metered, told, s=24, color=BLUE, edgecolors="white", linewidths=0.5)
    axis.set(xscale="log", yscale="log", xlabel="metered, mJ", ylabel="predicted from the others, mJ")
    open_frame(axis)


def _networks(reported: Reported) -> str:
    if not reported.networks:
        return ""
    rows = [
        [row.network, f"{row.measured_mj:.4g}", f"{row.low_mj:.4g} to {row.high_mj:.4g}", f"{row.predicted_mj:.4g}",
         f"{row.predicted_low_mj:.4g} to {row.predicted_high_mj:.4g}", f"{row.error_percent:+.1f}"]
        for row in reported.networks
    ]  # fmt: skip
    headings = ["network", "metered mJ", "95 % interval", "sum of operators mJ", "95 % interval", "error %"]
    return "<h2>Whole networks</h2>" + html_table(headings, rows)


def _operators(reported: Reported) -> str:
    entries = [entry for entry in reported.energies.lut.entries if entry.energy_uj is not None]
    if not entries:
        return ""
    dear = sorted(entries, key=lambda entry: -(entry.energy_uj or 0.0))[:SHOWN]
    headings = ["operator", "us", "net uJ", "95 % interval", "total uJ", "windows", "energy"]
    title = "Operators" if len(dear) == len(entries) else f"The {len(dear)} operators that draw most"
    return f"<h2>{title}</h2>" + html_table(headings, [_operator(reported, entry) for entry in dear])


def _operator(reported: Reported, entry: LutEntry) -> list[str]:
    metered = reported.metered.get(entry.key)
    found = metered.estimate if metered else None
    interval = ""
    if entry.energy_low_uj is not None and entry.energy_high_uj is not None:
        interval = f"{entry.energy_low_uj:.4g} to {entry.energy_high_uj:.4g}"
    total = "" if found is None or found.total_uj is None else f"{found.total_uj:.4g}"
    told = f"metered ({metered.source})" if metered else entry.energy_label
    return [
        entry.key, f"{entry.latency_ns / 1e3:.1f}", f"{entry.energy_uj:.4g}", interval, total,
        str(found.windows) if found else "", told,
    ]  # fmt: skip


def _refused(reported: Reported) -> str:
    if not reported.refused:
        return ""
    return "<h2>Refused, and why</h2>" + html_table(
        ["operator", "reason"], [[*row] for row in reported.refused.items()]
    )
