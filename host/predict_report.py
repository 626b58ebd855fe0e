"""The report of a prediction, one HTML file: what a network costs on each target, in which layers, and how hard these
compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from host.page import draw_svg, html_table, open_frame, write_page
from host.predict import LABELS, OperatorCost, Prediction, roofline
from ops_catalog import ops
from ops_catalog.parse import Parsed

COLOURS = {"measured": "#2a78d6", "interpolated": "#d6962a", "estimated": "#d6562a", "missing": "#9aa5b1"}
SHOWN = 25
STRIP_HEIGHT = 46
PLAIN_SUM = "Without a calibration the interval is that of the sum of operators, not of the whole network."
LEAST_WIDTH_PERCENT = 0.15


def write_prediction_report(
    predictions: Sequence[Prediction], measured_ms: Mapping[str, float], parsed: Parsed, path: Path
) -> None:
    """Writes the page; the folder must exist."""
    network = predictions[0].network if predictions else parsed.graph.name
    body = _summary(predictions, measured_ms, parsed) + _unknown(parsed)
    body += "".join(_section(number, prediction) for number, prediction in enumerate(predictions))
    write_page(path, f"What {network} costs, and where", body)


def _summary(predictions: Sequence[Prediction], measured_ms: Mapping[str, float], parsed: Parsed) -> str:
    headings = [
        "target",
        "latency ms",
        "95 % interval",
        "measured ms",
        "error %",
        "energy mJ",
        "95 % interval",
        "energy",
        *LABELS,
        "calibrated on",
    ]
    rows = []
    for p in predictions:
        measured = measured_ms.get(p.target.name)
        partly = bool(p.missing or parsed.unknown)
        error = "" if measured is None or partly else f"{100 * (p.latency_ms / measured - 1):+.1f}"
        rows.append([
            p.target.name, f"{'more than ' if partly else ''}{p.latency_ms:.3f}", f"{p.low_ms:.3f} to {p.high_ms:.3f}",
            "" if measured is None else f"{measured:.3f}", error,
            "" if p.energy_mj is None else f"{p.energy_mj:.3g}", _energy_interval(p), p.energy_label,
            *(f"{p.share(label):.0f} %" for label in LABELS), p.calibration or "nothing",
        ])  # fmt: skip
    told = [i for i in range(len(headings)) if any(row[i] for row in rows)]
    note = "" if all(p.calibration for p in predictions) else f"<p>{PLAIN_SUM}</p>"
    return html_table([headings[i] for i in told], [[row[i] for i in told] for row in rows]) + note


def _energy_interval(p: Prediction) -> str:
    if p.energy_low_mj is None or p.energy_high_mj is None:
        return ""
    return f"{p.energy_low_mj:.3g} to {p.energy_high_mj:.3g}"


def _unknown(parsed: Parsed) -> str:
    if not parsed.unknown:
        return ""
    rows = [
        [node.name, node.type, node.reason, "" if node.macs is None else f"{node.macs / 1e6:.2f}"]
        for node in parsed.unknown
    ]
    return "<h2>Not understood, and not in the sum</h2>" + html_table(["node", "type", "why", "MMACs"], rows)


def _section(number: int, prediction: Prediction) -> str:
    if not any(cost.label != "missing" for cost in prediction.operators):
        return f"<section><h2>{escape(prediction.target.name)}</h2><p>Nothing of it is known.</p></section>"
    return (
        f"<section><h2>{escape(prediction.target.name)}</h2><h3>Layers, in their order; width is time</h3>"
        f"{_strip(prediction)}{_missing(prediction)}<h3>The dearest operators</h3>{_dearest(prediction)}"
        f"{_computing(number, prediction)}</section>"
    )


def _computing(number: int, prediction: Prediction) -> str:
    """The roofline; nothing where no operator multiplies."""
    if not len(roofline(prediction)[0]):
        return ""
    plot = draw_svg(f"r{number}", lambda axis: _draw_roofline(axis, prediction), (6.4, 4.2))
    return (
        f"<h3>How hard they compute</h3><figure>{plot}<figcaption>Each operator that multiplies: its rate against how "
        "much it computes for each byte it moves. The line is the best rate seen at that intensity or below."
        "</figcaption></figure>"
    )


def _missing(prediction: Prediction) -> str:
    if not prediction.missing:
        return ""
    rows = [[op.key, f"{ops.macs(op) / 1e6:.2f}"] for op in prediction.missing]
    return "<h3>Without a price, and not in the sum</h3>" + html_table(["operator", "MMACs"], rows)


def _strip(prediction: Prediction) -> str:
    """Every layer as a box as wide as its time, in the colour of what its price rests on; its text on hovering."""
    known = [cost for cost in prediction.operators if cost.label != "missing"]
    total = sum(cost.latency_ns for cost in known) or 1.0
    boxes, left = [], 0.0
    for cost in known:
        width = 100 * cost.latency_ns / total
        if width >= LEAST_WIDTH_PERCENT:
            title = f"{cost.op.key}: {cost.latency_ns / 1e3:.1f} us, {width:.1f} %, {cost.label}"
            boxes.append(
                f"<rect x='{left:.2f}%' width='{max(0.05, width - 0.05):.2f}%' height='{STRIP_HEIGHT}' "
                f"fill='{COLOURS[cost.label]}'><title>{escape(title)}</title></rect>"
            )
        left += width
    return f"<svg role='img' width='100%' height='{STRIP_HEIGHT}'>{''.join(boxes)}</svg>{_legend()}"


def _legend() -> str:
    marks = (
        f"<span style='color:{colour}'>&#9632;</span> {label}"
        for label, colour in COLOURS.items()
        if label != "missing"
    )
    return f"<p>{' &nbsp; '.join(marks)}</p>"


def _dearest(prediction: Prediction) -> str:
    known = [cost for cost in prediction.operators if cost.label != "missing"]
    total = sum(cost.latency_ns for cost in known) or 1.0
    ordered = sorted(known, key=lambda cost: -cost.latency_ns)[:SHOWN]
    return html_table(["operator", "us", "share %", "MMACs", "price"], [_row(cost, total) for cost in ordered])


def _row(cost: OperatorCost, total_ns: float) -> list[str]:
    return [
        cost.op.key, f"{cost.latency_ns / 1e3:.1f}", f"{100 * cost.latency_ns / total_ns:.1f}",
        f"{ops.macs(cost.op) / 1e6:.2f}", cost.label,
    ]  # fmt: skip


def _draw_roofline(axis: Any, prediction: Prediction) -> None:
    intensity, rate, kinds = roofline(prediction)
    for kind in dict.fromkeys(kinds):
        chosen = np.array([name == kind for name in kinds])
        axis.scatter(intensity[chosen], rate[chosen], s=26, label=kind, edgecolors="white", linewidths=0.5)
    order = intensity.argsort()
    axis.plot(intensity[order], np.maximum.accumulate(rate[order]), color="#7d8793", linewidth=1)
    axis.set(xscale="log", yscale="log", xlabel="multiply-accumulates a byte", ylabel="thousand millions a second")
    if kinds:
        axis.legend(frameon=False, fontsize=9)
    open_frame(axis)
