"""The paper's comparison on a device at hand: published networks, their accuracy, and their latency measured here."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from host.bench import open_bench
from host.devices import Unit
from host.page import draw_png, draw_svg, html_table, open_frame, plain_ticks, write_page
from host.setting import Progress, Setting
from host.truth import measure_networks
from lut_db.store import LutStore
from ops_catalog import ops
from ops_catalog.networks import build_network, published, published_names

FAMILIES = {"chamnet": "#d6562a", "mobilenet-v2": "#2a78d6"}


@dataclass(frozen=True, slots=True)
class Row:
    """One network: published accuracy in percent with its source, measured latency."""

    network: str
    family: str
    top1_percent: float
    latency_ms: float
    macs_m: float
    recipe: str
    source: str

    def as_json(self, target: str) -> dict[str, Any]:
        return {"target": target, **asdict(self)}


@dataclass(frozen=True, slots=True)
class Comparison:
    """All networks on one target, fastest first."""

    target: str
    rows: tuple[Row, ...]


def compare(store: LutStore, unit: Unit, setting: Setting, progress: Progress) -> Comparison:
    """Measures the published networks whole.

    Raises:
        HostError: a network cannot be measured; DeviceUnavailable: the device is not there.
    """
    names = [name for name in published_names() if _family(name)]
    graphs = [build_network(name, setting.dtype) for name in names]
    with open_bench(store, unit, setting, progress) as bench:
        truth = measure_networks(bench, graphs, "", progress)
        target = bench.target.name
    rows = []
    for name, graph in zip(names, graphs, strict=True):
        facts = published(name)
        if facts is not None and facts.top1_percent is not None:
            macs = sum(map(ops.macs, graph.operators)) / 1e6
            latency = truth.latency_ns[graph.name] / 1e6
            rows.append(Row(name, _family(name), facts.top1_percent, latency, macs, facts.recipe, facts.source))
    return Comparison(target, tuple(sorted(rows, key=lambda row: row.latency_ms)))


def write_comparison(comparisons: Sequence[Comparison], folder: Path) -> None:
    """Writes compare.csv, compare.html and compare.png; the folder must exist."""
    rows = [row.as_json(c.target) for c in comparisons for row in c.rows]
    with (folder / "compare.csv").open("w", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    draw_png(folder / "compare.png", lambda axis: draw(axis, comparisons[0]))
    sections = [
        f"<h2>{c.target}</h2><figure>{draw_svg(f'c{i}', partial(draw, comparison=c))}</figure>{_table(c)}"
        for i, c in enumerate(comparisons)
    ]
    about = (
        "<p>Accuracies are as published, on ImageNet in float32; the two families were trained with recipes of their "
        "own. Latencies are measured here, each network whole.</p>"
    )
    write_page(folder / "compare.html", "Published accuracy against latency on this device", about + "".join(sections))


def draw(axis: Any, comparison: Comparison) -> None:
    """Accuracy against latency, a colour for each family."""
    for family, colour in FAMILIES.items():
        rows = [row for row in comparison.rows if row.family == family]
        x, y = [row.latency_ms for row in rows], [row.top1_percent for row in rows]
        axis.scatter(x, y, s=40, color=colour, label=f"{family} ({len(rows)})", edgecolors="white", linewidths=0.6)
        for row in rows if family == "chamnet" else []:
            axis.annotate(
                row.network[-1].upper(), (row.latency_ms, row.top1_percent), (5, -4), textcoords="offset points"
            )
    latencies = [row.latency_ms for row in comparison.rows]
    axis.set(xscale="log", xlabel="latency, ms", ylabel="ImageNet top-1, %")
    plain_ticks(axis.xaxis, 0.8 * min(latencies), 1.25 * max(latencies))
    axis.legend(frameon=False, loc="lower right")
    open_frame(axis)


def _family(name: str) -> str:
    return next((family for family in FAMILIES if name.startswith(family)), "")


def _table(comparison: Comparison) -> str:
    rows = [
        [row.network, f"{row.top1_percent:.1f}", f"{row.latency_ms:.2f}", f"{row.macs_m:.0f}", row.recipe, row.source]
        for row in comparison.rows
    ]
    return html_table(["network", "top-1 %", "latency ms", "MMACs", "recipe", "source"], rows)
