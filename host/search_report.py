"""The report of a search: the front with its uncertainty, its numbers, and where the winner computes."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from host.page import draw_svg, html_table, open_frame, plain_ticks, write_page
from ops_catalog.networks import build_network
from search.result import Candidate, SearchResult, macs_by_scale, sparse_limits

BASELINE = "mobilenet-v2"


def write_search_report(result: SearchResult, path: Path) -> None:
    """Writes the page; the folder must exist."""
    asked = sparse_limits(result.limits, result.targets)
    title = f"The most accurate networks of {result.space.name}"
    notes = "".join(f"<p>Note: {escape(note)}.</p>" for note in result.notes)
    body = (
        f"<p>{escape(asked)}. {escape(_predictor(result))}</p>{notes}"
        f"<figure>{draw_svg('front', lambda axis: draw_front(axis, result), (7.2, 4.8))}"
        "<figcaption>Predicted accuracy with one standard deviation; rings are latencies measured on the device."
        f"</figcaption></figure>{_table(result)}<h2>Where the winner computes</h2>{_shares(result)}"
    )
    write_page(path, title, body)


def draw_front(axis: Any, result: SearchResult) -> None:
    """Accuracy against what the first limit is about."""
    quantity = result.limits[0].quantity
    across = [_cost(candidate, quantity, result) for candidate in result.candidates]
    accuracy = [candidate.accuracy for candidate in result.candidates]
    spread = [candidate.accuracy_std for candidate in result.candidates]
    low = [a - s for a, s in zip(accuracy, spread, strict=True)]
    high = [a + s for a, s in zip(accuracy, spread, strict=True)]
    axis.fill_between(across, low, high, color="#2a78d6", alpha=0.12, linewidth=0)
    axis.plot(across, accuracy, color="#2a78d6", marker="o", markersize=5, label="predicted")
    measured = [c for c in result.candidates if c.latency_measured_ms is not None]
    if measured and quantity == "latency_ms":
        x, y = [c.latency_measured_ms for c in measured], [c.accuracy for c in measured]
        axis.scatter(
            x, y, s=90, facecolors="none", edgecolors="#d6562a", linewidths=1.6, label="measured latency", zorder=3
        )
    axis.set(xscale="log", xlabel=quantity.replace("_", ", "), ylabel=f"top-1 on {result.predictor.dataset}, %")
    plain_ticks(axis.xaxis, 0.8 * min(across), 1.25 * max(across))
    axis.legend(frameon=False, loc="lower right")
    open_frame(axis)


def _cost(candidate: Candidate, quantity: str, result: SearchResult) -> float:
    if quantity == "latency_ms":
        return candidate.latencies_ms[result.targets[result.limits[0].target]]
    return float(getattr(candidate, quantity))


def _predictor(result: SearchResult) -> str:
    facts = result.predictor
    text = f"Accuracy from a {facts.name} predictor on {facts.networks} networks of {facts.dataset} ({facts.recipe})"
    if facts.rmse is not None and facts.kendall_tau is not None:
        text += (
            f"; each predicted from the others within {facts.rmse:.2f} points, rank correlation {facts.kendall_tau:.2f}"
        )
    return text + "."


def _table(result: SearchResult) -> str:
    headings = ["network", "top-1 %", "+- %", "latency ms", "measured ms", "error %", "energy mJ", "MMACs", "Mparams",
                "energy, 95 % interval", "energy"]  # fmt: skip
    rows = []
    for c in reversed(result.candidates):
        error = (
            None if not (c.latency_measured_ms and c.latency_ms) else 100 * (c.latency_ms / c.latency_measured_ms - 1)
        )
        numbers = [
            (c.accuracy, ".2f"), (c.accuracy_std, ".2f"), (c.latency_ms, ".2f"), (c.latency_measured_ms, ".2f"),
            (error, "+.1f"), (c.energy_mj, ".3g"), (c.macs_m, ".0f"), (c.params_m, ".2f"),
        ]  # fmt: skip
        cells = ["" if value is None else format(value, form) for value, form in numbers]
        rows.append(["-".join(map(str, c.genome)), *cells, _energy_interval(c), c.energy_label])
    told = [i for i in range(len(headings)) if any(row[i] for row in rows)]
    return html_table([headings[i] for i in told], [[row[i] for i in told] for row in rows])


def _energy_interval(candidate: Candidate) -> str:
    if candidate.energy_low_mj is None or candidate.energy_high_mj is None:
        return ""
    return f"{candidate.energy_low_mj:.3g} to {candidate.energy_high_mj:.3g}"


def _shares(result: SearchResult) -> str:
    """Share of the MACs by image size, beside MobileNetV2's."""
    if result.winner is None:
        return ""
    ours, baseline = macs_by_scale(result.network(result.winner)), macs_by_scale(build_network(BASELINE))
    rows = [
        [f"1/{scale}", f"{ours.get(scale, 0.0):.1f}", f"{baseline.get(scale, 0.0):.1f}"]
        for scale in sorted(ours.keys() | baseline.keys())
    ]
    return html_table(["image size", "winner, % of MACs", f"{BASELINE}, % of MACs"], rows)
