"""The validation report: one HTML file with everything in it, no script and nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from host.page import draw_svg, open_frame, plain_ticks, write_page
from host.show import METRICS
from host.validate import NetworkResult, Validation
from ops_catalog import ops
from ops_catalog.networks import published

COLOURS = {"test": "#2a78d6", "calibration": "#9aa5b1", "named": "#d6562a"}
ROLES = {"test": "unseen", "calibration": "used to calibrate", "named": "named"}
SHOWN_OPERATORS = 12
INTRODUCTION = """<p>{facts}. One entry of the look-up table per operator; a network is the sum of its operators,
calibrated on a few measured networks and held against the others. The band is &plusmn;10&nbsp;%. The noise floor is how
much the measured networks differ between two sets of processes: no prediction can be seen to be better.</p>"""


def write_report(validations: Sequence[Validation], path: Path) -> None:
    """Writes the page; the folder must exist."""
    sections = "\n".join(_section(number, validation) for number, validation in enumerate(validations))
    device = validations[0].device
    facts = ", ".join(f"{name} {device[name]}" for name in ("cpu_model", "isa", "cpus", "kernel") if name in device)
    about = INTRODUCTION.format(facts=escape(facts))
    write_page(
        path, "Latency, predicted from single operators and measured whole", about + _summary(validations) + sections
    )


def save_picture(validations: Sequence[Validation], path: Path) -> None:
    """Writes the scatter plots side by side as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(validations), figsize=(5.2 * len(validations), 4.6), squeeze=False)
    for axis, validation in zip(axes[0], validations, strict=True):
        _plot(axis, validation)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _section(number: int, validation: Validation) -> str:
    named = [result for result in validation.results if result.role == "named"] or list(validation.results[:3])
    details = "\n".join(map(_breakdown, named))
    plot = draw_svg(f"p{number}", lambda axis: _plot(axis, validation))
    return (
        f"<section><h2>{escape(validation.target)}</h2><figure>{plot}</figure>"
        f"{_named_table(validation)}<h3>Where the time goes</h3>{details}</section>"
    )


def _summary(validations: Sequence[Validation]) -> str:
    head = "".join(
        f"<th>{escape(str(v.metrics['engine']))} {escape(str(v.metrics['dtype']))}</th>" for v in validations
    )
    rows = []
    for key, label in METRICS.items():
        unit = "" if key == "spearman" else " %"
        cells = "".join(f"<td>{v.metrics[key]:.{3 if key == 'spearman' else 1}f}{unit}</td>" for v in validations)
        rows.append(f"<tr><th scope=row>{escape(label)}</th>{cells}</tr>")
    return f"<table><thead><tr><th>unseen networks</th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _plot(axis, validation: Validation) -> None:  # type: ignore[no-untyped-def]
    """Predicted against measured latency, with the band of 10 %."""
    highest = 1.1 * max(max(r.measured_ns, r.predicted_ns) for r in validation.results) / 1e6
    lowest = 0.9 * min(min(r.measured_ns, r.predicted_ns) for r in validation.results) / 1e6
    ends = [lowest, highest]
    axis.fill_between(ends, [0.9 * e for e in ends], [1.1 * e for e in ends], color="#2a78d6", alpha=0.10, linewidth=0)
    axis.plot(ends, ends, color="#7d8793", linewidth=1)
    for role, label in ROLES.items():
        points = [r for r in validation.results if r.role == role]
        x, y = ([getattr(r, f"{kind}_ns") / 1e6 for r in points] for kind in ("measured", "predicted"))
        axis.scatter(
            x, y, s=34, color=COLOURS[role], label=f"{label} ({len(points)})", edgecolors="white", linewidths=0.6
        )
    axis.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="measured, ms", ylabel="sum of operators, ms")
    for side in (axis.xaxis, axis.yaxis):
        plain_ticks(side, lowest, highest)
    metrics = validation.metrics
    axis.set_title(f"{metrics['engine']} {metrics['dtype']}: mean error {metrics['mape']:.1f} %", fontsize=11)
    axis.legend(frameon=False, fontsize=9)
    open_frame(axis)


def _named_table(validation: Validation) -> str:
    rows = []
    for result in (r for r in validation.results if r.role == "named"):
        facts = published(result.graph.name)
        top1 = f"{facts.top1_percent:.1f}" if facts and facts.top1_percent else ""
        macs = sum(map(ops.macs, result.graph.operators)) / 1e6
        error = 100 * (result.predicted_ns / result.measured_ns - 1)
        numbers = (
            top1,
            f"{macs:.1f}",
            f"{result.predicted_ns / 1e6:.2f}",
            f"{result.measured_ns / 1e6:.2f}",
            f"{error:+.1f}",
        )
        cells = "".join(f"<td>{number}</td>" for number in numbers)
        rows.append(f"<tr><th scope=row>{escape(result.graph.name)}</th>{cells}</tr>")
    if not rows:
        return ""
    head = "".join(f"<th>{h}</th>" for h in ("network", "top-1 %", "MMACs", "predicted ms", "measured ms", "error %"))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _breakdown(result: NetworkResult) -> str:
    """A network's dearest operators as bars; what a bar shows is written beside it."""
    latencies = result.prices.latency_ns
    total = float(latencies.sum())
    order = latencies.argsort()[::-1][:SHOWN_OPERATORS]
    widest = float(latencies.max())
    bars = "".join(
        f"<li><span class=bar style='width:{100 * latencies[i] / widest:.1f}%'></span>"
        f"<b>{latencies[i] / 1e3:.1f} us, {100 * latencies[i] / total:.1f} %</b> "
        f"<code>{escape(result.graph.nodes[i].op.key)}</code></li>"
        for i in order
    )
    title = f"{escape(result.graph.name)}: {total / 1e6:.2f} ms in {len(latencies)} operators"
    return f"<details><summary>{title}</summary><ol>{bars}</ol></details>"
