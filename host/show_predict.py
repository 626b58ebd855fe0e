"""What a person sees of predictions and of a learning curve in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from host.budget import Course, Point
from host.predict import LABELS, Prediction
from host.show import output
from lut_db.lut import how_to_ask
from ops_catalog import ops
from ops_catalog.parse import Parsed


def show_predictions(
    parsed: Parsed, predictions: Sequence[Prediction], measured_ms: Mapping[str, float], top: int
) -> None:
    """A line a target, its dearest operators, and what was not understood."""
    macs = sum(map(ops.macs, parsed.graph.operators)) / 1e6
    table = Table(
        title=f"{parsed.graph.name}: {len(parsed.graph.nodes)} operators, {macs:.1f} MMACs", title_justify="left"
    )
    for heading in (
        "target",
        "latency ms",
        "95 % interval",
        "measured ms",
        "error %",
        *(f"{label} %" for label in LABELS),
    ):
        table.add_column(heading, justify="left" if heading == "target" else "right", overflow="fold")
    for p in predictions:
        measured = measured_ms.get(p.target.name)
        whole = not (p.missing or parsed.unknown)
        error = "" if measured is None or not whole else f"{100 * (p.latency_ms / measured - 1):+.1f}"
        shares = (f"{p.share(label):.0f}" for label in LABELS)
        known = "" if measured is None else f"{measured:.3f}"
        partly = "" if whole else "> "
        told = f"{partly}{p.latency_ms:.3f}" if p.known else "nothing known"
        interval = f"{p.low_ms:.3f}-{p.high_ms:.3f}" if p.known else ""
        table.add_row(p.target.name, told, interval, known, error, *shares)
    output.print(table)
    for p in predictions:
        _show_energy(p)
    for p in predictions:
        _show_operators(p, top)
    for p in predictions:
        if p.known and not p.calibration and p.target.source == "measured":
            output.print(
                f"[yellow]note[/] {p.target.name} has no calibration: its interval is that of the sum of operators, "
                f"not of the whole network; 'chamnet validate --device {p.target.device} {how_to_ask(p.target)}' makes "
                "one",
                highlight=False,
            )  # fmt: skip
    for note in parsed.notes:
        output.print(f"[yellow]note[/] {note}", highlight=False)
    if parsed.unknown:
        output.print(
            f"not understood, {100 * parsed.macs_share_unknown:.1f} % of the multiply-accumulates that are known of:"
        )
        for node in parsed.unknown:
            output.print(f"  {node.name} ({node.type}): {node.reason}", highlight=False, markup=False)


def _show_energy(p: Prediction) -> None:
    if p.energy_mj is not None and p.energy_low_mj is not None and p.energy_high_mj is not None:
        told = f"{p.energy_mj:.3g} mJ, 95 % interval {p.energy_low_mj:.3g}-{p.energy_high_mj:.3g}, {p.energy_label}"
        text = f"energy on {p.target.name}, beyond what it draws at rest: {told}"
        output.print(text, highlight=False, soft_wrap=True)


def _show_operators(prediction: Prediction, top: int) -> None:
    known = [cost for cost in prediction.operators if cost.label != "missing"]
    total = sum(cost.latency_ns for cost in known)
    if not top or not total:
        return
    table = Table(title=prediction.target.name, title_justify="left")
    for heading in ("operator", "us", "share %", "price"):
        table.add_column(heading, justify="right" if heading in ("us", "share %") else "left", overflow="fold")
    for cost in sorted(known, key=lambda cost: -cost.latency_ns)[:top]:
        share = 100 * cost.latency_ns / total
        table.add_row(cost.op.key, f"{cost.latency_ns / 1e3:.1f}", f"{share:.1f}", cost.label)
    output.print(table)


def show_point(point: Point) -> None:
    """One round of a budgeted run."""
    error = "not known yet" if point.error_percent is None else f"{point.error_percent:.2f} %"
    output.print(
        f"{point.measured} operators measured ({point.percent:.1f} % of the space) after {point.seconds:.0f} s: "
        f"expected error of a network {error}"
    )


def show_course(course: Course) -> None:
    output.print(f"[bold]{course.target}[/]: {course.measurements} measurements in {len(course.points)} rounds")
    for key, reason in course.left_out.items():
        output.print(f"  [yellow]left out[/] {key}: {reason}", highlight=False)
