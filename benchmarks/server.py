"""The paper's comparison on a server, on the hardware at hand: ResNets beside networks found at their latencies.

ResNet-50, 101 and 152 are measured whole. Candidates of chamnet-res whose predicted latency is that of each of them (at
most 2 % below) are chosen without any accuracy, for the most multiply-accumulates; or, with ``--samples``, for the
accuracy that is predicted from these, at that latency or below. They are chosen again as their operators are measured.
All are then measured whole, side by side. Accuracies of the ResNets are the published ones; candidates have none but
those predicted from samples.

    python -m benchmarks.server --device local-gpu --engine torch-cuda --batch 32 --html server.html
    python -m benchmarks.server --engine onnxruntime --fix resolution=224 --profile-networks 30
    python -m benchmarks.server --engine litert --samples trained.csv

References:
    Dai et al., ChamNet, CVPR 2019.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.server_choice import Choice, cost_model, most_accurate, most_arithmetic, resnet_genomes
from host.bench import open_bench
from host.cli_options import Asked, settings_of
from host.devices import LOCAL_CPU, Unit, find_unit
from host.errors import HostError
from host.page import draw_png, draw_svg, html_table, open_frame, write_page
from host.profile import profile
from host.setting import Progress, Setting, Workload
from host.transport import Launch
from host.truth import TURNS, measure_networks
from host.validate import Question, Validation, sample_networks, validate
from lut_db.errors import LutError
from lut_db.store import LutStore, open_store
from ops_catalog import ops
from ops_catalog.build import batch_suffix
from ops_catalog.networks import build_network, published
from ops_catalog.spec import Graph, SpecError
from search.cells import build_cells
from search.evolution import Effort
from search.samples import read_csv
from search.spaces import space_named
from search.spaces.space import SearchSpace, fixed_genes

SPACE = "chamnet-res"
RESNETS = "resnet-50,resnet-101,resnet-152"


@dataclass(frozen=True, slots=True)
class Row:
    """One network. MACs and parameters are of one image, latencies of the whole batch.

    Attributes:
        at: the ResNet whose latency it was chosen for; "" for a ResNet itself.
        top1_percent: published, on ImageNet, with its recipe; None for every candidate.
        accuracy: predicted from samples; None without any.
    """

    network: str
    at: str
    predicted_ms: float
    measured_ms: float
    macs_m: float
    params_m: float
    top1_percent: float | None
    recipe: str
    accuracy: float | None
    accuracy_std: float | None

    @property
    def error_percent(self) -> float:
        return 100 * (self.predicted_ms / self.measured_ms - 1)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Where networks of a space are compared, and what was asked."""

    store: LutStore
    unit: Unit
    setting: Setting
    space: SearchSpace
    asked: argparse.Namespace


def compare(comparison: Comparison) -> tuple[Validation, list[Row]]:
    """Measures, chooses, and measures what was chosen. Raises HostError, LutError, SpecError."""
    store, unit, setting, space = comparison.store, comparison.unit, comparison.setting, comparison.space
    asked, progress = comparison.asked, Progress()
    names = tuple(f"{name}{batch_suffix(asked.batch)}" for name in asked.named.split(","))
    _say("operators")
    profile(store, unit, setting, _workload(space.narrowed(asked.fix), asked), progress)
    _say("calibration, and whole ResNets")
    question = Question(space.name, asked.networks, names, asked.calibration, asked.seed, asked.agents)
    validation = validate(store, unit, setting, question, progress)
    named = {result.graph.name: result for result in validation.results if result.role == "named"}
    latencies = {name: result.measured_ns / 1e6 for name, result in named.items()}
    _say(f"networks at {', '.join(f'{ms:.2f} ms' for ms in latencies.values())}")
    chosen = choose_measured(comparison, validation.target, latencies)
    graphs = [space.decode(choice.genome, setting.dtype) for choice in chosen]
    _say(f"{len(graphs)} candidates beside the ResNets")
    with open_bench(store, unit, setting, progress) as bench:
        everything = [*(result.graph for result in named.values()), *graphs]
        truth = measure_networks(bench, everything, space.name, progress, asked.agents)
    whole = {name: ns / 1e6 for name, ns in truth.latency_ns.items()}
    rows = [
        _resnet(result.graph, result.predicted_ns / 1e6, whole[name], asked.batch) for name, result in named.items()
    ]
    rows += [_candidate(graph, c, whole[graph.name], asked.batch) for graph, c in zip(graphs, chosen, strict=True)]
    return validation, sorted(rows, key=lambda row: (latencies[row.at or row.network], row.at, row.measured_ms))


def _workload(within: SearchSpace, asked: argparse.Namespace) -> Workload:
    """Every operator that a candidate can need, or those of some random ones; the rest is then interpolated."""
    if not asked.profile_networks:
        return Workload(operators=tuple(within.operators()))
    return Workload(graphs=tuple(sample_networks(within, asked.profile_networks, asked.seed + 1)))


def choose_measured(comparison: Comparison, target: str, latencies_ms: dict[str, float]) -> list[Choice]:
    """Candidates at latencies, by name, predicted from operators that were all measured.

    By interpolated prices a search finds what these take for too fast. So the chosen ones' operators are measured, and
    candidates chosen again, until there is nothing to measure; the last ones are priced by what was measured for them.

    Raises:
        HostError: none is at any of the latencies.
    """
    chosen = _choose(comparison, target, latencies_ms)
    for _ in range(comparison.asked.rounds):
        if not _measure_operators(comparison, chosen):
            return chosen
        chosen = _choose(comparison, target, latencies_ms)
    _measure_operators(comparison, chosen)
    cost = cost_model(comparison.store, build_cells(comparison.space), target)
    priced_ns = cost.latency_ns(np.array([choice.genome for choice in chosen]))
    return [replace(choice, predicted_ms=float(ns) / 1e6) for choice, ns in zip(chosen, priced_ns, strict=True)]


def _measure_operators(comparison: Comparison, chosen: Sequence[Choice]) -> int:
    """Measures what the table lacks of candidates; tells how many operators that was."""
    setting = comparison.setting
    graphs = tuple(comparison.space.decode(choice.genome, setting.dtype) for choice in chosen)
    summary = profile(comparison.store, comparison.unit, setting, Workload(graphs=graphs), Progress())
    for key, reason in {**summary.refused, **summary.quarantined}.items():
        _say(f"{key} stays interpolated: {reason}")
    lacking = summary.wanted - summary.already
    _say(f"{lacking} operators of {len(chosen)} candidates were lacking, and are measured")
    return lacking


def _choose(comparison: Comparison, target: str, latencies_ms: dict[str, float]) -> list[Choice]:
    store, space, asked = comparison.store, comparison.space, comparison.asked
    effort = Effort(asked.population, asked.generations)
    if asked.samples is None:
        cost = cost_model(store, build_cells(space.narrowed(asked.fix)), target)
        chosen = most_arithmetic(cost, latencies_ms, asked.candidates, resnet_genomes(), asked.seed, effort)
    else:
        found = read_csv(space.plain, asked.samples, "accuracy_percent", asked.dataset, "as in the file")
        for line, reason in found.refused:
            _say(f"line {line} of {asked.samples}: {reason}")
        chosen = most_accurate(store, target, space, asked.fix, found.samples, latencies_ms, asked.seed, effort)
    if not chosen:
        raise HostError("some network must be at the latency of a ResNet, but none is; widen --fix")
    return chosen


def _resnet(graph: Graph, predicted_ms: float, measured_ms: float, batch: int) -> Row:
    facts = published(graph.name)
    top1, recipe = (facts.top1_percent, facts.recipe) if facts else (None, "")
    return Row(graph.name, "", predicted_ms, measured_ms, *_size(graph, batch), top1, recipe, None, None)


def _candidate(graph: Graph, choice: Choice, measured_ms: float, batch: int) -> Row:
    size = _size(graph, batch)
    told = (choice.accuracy, choice.accuracy_std)
    return Row(graph.name, choice.at, choice.predicted_ms, measured_ms, *size, None, "", *told)


def _size(graph: Graph, batch: int) -> tuple[float, float]:
    """Million MACs of an image, and million parameters."""
    macs, params = (sum(map(count, graph.operators)) / 1e6 for count in (ops.macs, ops.params))
    return macs / batch, params


HEADINGS = ("network", "at the latency of", "predicted ms", "measured ms", "error %", "MMACs an image", "Mparams",
            "top-1 %, published", "top-1 %, predicted")  # fmt: skip


def cells(row: Row) -> list[str]:
    accuracy = "" if row.accuracy is None else f"{row.accuracy:.2f} +- {row.accuracy_std or 0.0:.2f}"
    top1 = "" if row.top1_percent is None else f"{row.top1_percent:.2f} ({row.recipe})"
    numbers = [f"{row.predicted_ms:.2f}", f"{row.measured_ms:.2f}", f"{row.error_percent:+.1f}", f"{row.macs_m:.0f}"]
    return [row.network, row.at, *numbers, f"{row.params_m:.1f}", top1, accuracy]


def markdown(rows: Sequence[Row]) -> str:
    lines = [HEADINGS, ("---", "---", *("---:" for _ in HEADINGS[2:])), *map(cells, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def draw(axis: Any, rows: Sequence[Row]) -> None:
    """MACs of an image against measured latency."""
    for label, colour, shown in (("ResNets", "#d6562a", ""), ("candidates", "#2a78d6", "at")):
        points = [row for row in rows if bool(row.at) == bool(shown)]
        x, y = [row.measured_ms for row in points], [row.macs_m / 1e3 for row in points]
        axis.scatter(x, y, s=40, color=colour, label=f"{label} ({len(points)})", edgecolors="white", linewidths=0.6)
    axis.set(xlabel="measured latency of the batch, ms", ylabel="GMACs an image")
    axis.legend(frameon=False, fontsize=9)
    open_frame(axis)


ABOUT = (
    "<p>Candidates were chosen by predicted latency and {by}, and measured whole beside the ResNets. Published "
    "accuracies are the ResNets' own; a candidate has none unless samples told it.</p>"
)


def write_html(path: Path, title: str, rows: Sequence[Row], by: str) -> None:
    figure = f"<figure>{draw_svg('server', lambda axis: draw(axis, rows))}</figure>"
    write_page(path, title, ABOUT.format(by=by) + figure + html_table(HEADINGS, [cells(row) for row in rows]))


def main() -> None:
    asked = arguments()
    options = Asked(
        asked.engine, asked.dtype, str(asked.threads), asked.cpus, asked.seed, options=asked.engine_option
    )  # fmt: skip
    try:
        with tempfile.TemporaryDirectory() as folder, open_store(asked.db or Path(folder) / "lut.db") as store:
            unit = find_unit(asked.device, Launch(asked.agent_python))
            (setting,) = settings_of(unit, options)
            space = space_named(f"{SPACE}{batch_suffix(asked.batch)}")
            validation, rows = compare(Comparison(store, unit, setting, space, asked))
    except (HostError, LutError, SpecError) as error:
        raise SystemExit(str(error)) from None
    if asked.json:
        told = [{**asdict(row), "error_percent": row.error_percent} for row in rows]
        print(json.dumps({"target": validation.target, "metrics": dict(validation.metrics), "rows": told}, indent=1))
    else:
        print(f"{validation.target}, batch {asked.batch}: MAPE {validation.metrics['mape']:.2f} % of "
              f"{asked.networks} random networks\n\n{markdown(rows)}")  # fmt: skip
    if asked.html is not None:
        write_html(asked.html, f"ResNets and {SPACE} on {validation.target}", rows, _by(asked))
    if asked.picture is not None:
        draw_png(asked.picture, lambda axis: draw(axis, rows))


def _by(asked: argparse.Namespace) -> str:
    return "the most multiply-accumulates" if asked.samples is None else "the accuracy predicted from samples"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default=LOCAL_CPU)
    parser.add_argument("--engine", default="", help="by default litert, on a GPU torch-cuda")
    parser.add_argument("--engine-option", action="append", default=[], help="NAME=VALUE; repeat for several")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpus", default="")
    parser.add_argument("--named", default=RESNETS)
    parser.add_argument("--fix", action="append", default=[], help="GENE=VALUE[,VALUE]: candidates of these only")
    parser.add_argument(
        "--profile-networks", type=int, default=0, help="measure the operators of so many random ones; 0 for all"
    )
    parser.add_argument("--networks", type=int, default=8, help="random networks that test the sum, at least 3")
    parser.add_argument("--calibration", type=int, default=8, help="further ones that the calibration is fitted on")
    parser.add_argument("--agents", type=int, choices=(2, 4, 8, 16), default=TURNS, help="that measure a network whole")
    parser.add_argument(
        "--candidates", type=int, choices=range(1, 9), default=3, help="at the latency of each ResNet, at most 8"
    )
    parser.add_argument(
        "--rounds", type=int, default=4, help="how often candidates may be chosen again, their operators measured"
    )
    parser.add_argument("--samples", type=Path, help="CSV of genomes and accuracy_percent, to choose by accuracy")
    parser.add_argument("--dataset", default="own", help="what the samples' accuracies are of")
    parser.add_argument("--population", type=int, default=400)
    parser.add_argument("--generations", type=int, default=80)
    parser.add_argument("--db", type=Path, help="keep the measurements here")
    parser.add_argument("--agent-python", default="")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--html", type=Path)
    parser.add_argument("--picture", type=Path)
    asked = parser.parse_args()
    try:
        asked.fix = fixed_genes(asked.fix)
        space_named(SPACE).narrowed(asked.fix)
        for name in asked.named.split(","):
            build_network(name)
    except SpecError as error:
        parser.error(str(error))
    if asked.networks < 3:
        parser.error(f"--networks must be at least 3, but got {asked.networks}")
    if asked.samples is not None and not asked.samples.is_file():
        parser.error(f"--samples must be a file, but {asked.samples} is none")
    return asked


if __name__ == "__main__":
    main()
