"""Do energies of operators add up to those of networks? On a GPU with NVML, else on a processor with RAPL, for real.

Operators of random networks are timed, some of them metered (those that tell most), the others predicted from these;
the sums are held against the networks metered whole. On a GPU PyTorch runs them, many images at once and many times in
one CUDA graph, so that starting kernels is no part of it; on a processor LiteRT does. Where neither meter can be read
it says why and measures nothing; ``--rehearse`` then goes the same way on a made-up trace, and says so.

    python -m benchmarks.gpu_energy [--operators 30] [--networks 5] [--images 32] [--window-s 3] [--rehearse]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agent.energy import Bench, lengthened, measure_windows
from agent.engines.litert import OpenModel
from agent.loads import Looped
from agent.meters import Meter, MeterError, open_meter
from agent.protocol import Plan
from agent.timekeeping import RealTime
from host.validate import sample_networks
from lut_db.energy import EnergyEstimate, estimate
from lut_db.records import LutEntry
from ops_catalog.build import single
from ops_catalog.export import export_graph
from ops_catalog.ops import load_op
from ops_catalog.spec import Graph
from search.predictors.energy import LEAST, EnergyModel, Metered, choose, fit_energy

MADE_UP = {"kind": "counter", "period_s": 0.01, "points": [[0, 20_000_000]], "load_uw": 60_000_000}
REPLAYS = 20
"""Runs of a model in one CUDA graph."""
TIMED_S = 0.2


class OnGpu:
    """A model on the first GPU. ``runs`` of it are one call."""

    power_uw = None
    runs = REPLAYS

    def __init__(self, graph: Graph, images: int) -> None:
        import torch

        from ops_catalog.export.torch import build_module

        self._torch = torch
        shapes = [(images * tensor.shape[0], *tensor.shape[1:]) for _, tensor in graph.inputs]
        module, self._inputs = build_module(graph).cuda().eval(), [torch.rand(shape, device="cuda") for shape in shapes]
        with torch.inference_mode():
            side = torch.cuda.Stream()
            with torch.cuda.stream(side):
                for _ in range(3):
                    module(*self._inputs)
            torch.cuda.current_stream().wait_stream(side)
            self._replayed = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._replayed):
                for _ in range(self.runs):
                    module(*self._inputs)

    def run(self, loops: int) -> int:
        start = time.perf_counter_ns()
        for _ in range(loops):
            self._replayed.replay()
        self._torch.cuda.synchronize()
        return time.perf_counter_ns() - start


class OnCpu:
    """A model in LiteRT, one thread."""

    power_uw = None
    runs = 1

    def __init__(self, graph: Graph, images: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.tflite"
            path.write_bytes(export_graph(graph, "tflite"))
            self._model = OpenModel(str(path), {"threads": 1})

    def run(self, loops: int) -> int:
        return self._model.run(loops)


@dataclass(frozen=True)
class Rig:
    """What models run on, so many times a call, and what meters them."""

    make: Callable[[Graph, int], Any]
    runs: int
    images: int
    meter: Meter
    plan: Plan

    def time_ns(self, graph: Graph) -> float:
        """Of one run, the quickest of many."""
        model, best, until = self.make(graph, self.images), float("inf"), time.perf_counter() + TIMED_S
        model.run(1)
        while time.perf_counter() < until:
            best = min(best, model.run(1) / self.runs)
        return best

    def meter_uj(self, graph: Graph) -> EnergyEstimate:
        """Energies of one call, which are ``runs`` of the model."""
        keeper = RealTime()
        bench = Bench(self.meter, keeper, lengthened(self.plan, self.meter.facts), {})
        windows = measure_windows(bench, Looped(self.make(graph, self.images), keeper))
        return estimate(asdict(self.meter.facts), windows, None)


def open_rig(arguments: argparse.Namespace) -> tuple[Rig | None, str]:
    """The rig that this machine has, or None; and what it is, or why there is none."""
    plan = Plan(arguments.window_s, arguments.window_s, arguments.repeats, 0.5, 0.02)
    reasons = []
    for name, make in (("nvml", OnGpu), ("rapl", OnCpu)):
        try:
            meter = open_meter(name, {})
        except MeterError as reason:
            reasons.append(f"{name}: {reason}")
            continue
        if make is OnGpu and (lacking := why_no_cuda()):
            reasons.append(f"{name}: {lacking}")
            meter.close()
            continue
        return Rig(make, make.runs, arguments.images, meter, plan), ", ".join(meter.facts.rails)
    if arguments.rehearse:
        return Rig(OnCpu, OnCpu.runs, 1, open_meter("replay", {"trace": MADE_UP}), plan), "SIMULATED: a made-up trace"
    return None, "skipped, since no meter can be read. " + ". ".join(reasons)


def why_no_cuda() -> str:
    try:
        import torch
    except ImportError:
        return "PyTorch must be there to load the GPU; 'pip install torch' brings it"
    return "" if torch.cuda.is_available() else "PyTorch must see the GPU, but CUDA is not available to it"


def learn(rig: Rig, networks: Sequence[Graph], count: int) -> tuple[EnergyModel, dict[str, str]]:
    """Times all operators, meters those that tell most; returns what was learned, and what was refused and why."""
    usage = Counter(op for graph in networks for op in graph.operators)
    entries = [LutEntry(op.key, rig.time_ns(single(op)), 0.0, 1, 1) for op in usage]
    often = {op.key: float(times) for op, times in usage.items()}
    metered, refused = {}, {}
    for key in choose(entries, min(count, len(entries)), often):
        found = rig.meter_uj(single(load_op(key)))
        if found.net_uj is None or found.net_low_uj is None or found.net_high_uj is None:
            refused[key] = found.reason
            print(f"  refused {key}: {found.reason}")
            continue
        energy_uj, low_uj, high_uj = (uj / rig.runs for uj in (found.net_uj, found.net_low_uj, found.net_high_uj))
        metered[key] = Metered(energy_uj, low_uj, high_uj, found.windows)
        print(f"  {key}: {metered[key].energy_uj:.4g} uJ, {metered[key].low_uj:.4g} to {metered[key].high_uj:.4g}")
    if len(metered) < LEAST:
        raise SystemExit(f"at least {LEAST} operators must be metered, but got {len(metered)}; lengthen the windows")
    return fit_energy(entries, metered), refused


def compare(rig: Rig, model: EnergyModel, graph: Graph) -> dict[str, Any]:
    """A network metered whole beside the sum of its operators, in mJ."""
    energies, counts = model.energies(), Counter(op.key for op in graph.operators)
    total = sum(energies[key].energy_uj * times for key, times in counts.items()) / 1e3
    reach = 1.96 * model.network_error_uj(counts) / 1e3
    found = rig.meter_uj(graph)
    row: dict[str, Any] = {
        "network": graph.name,
        "sum_mj": total,
        "sum_low_mj": total - reach,
        "sum_high_mj": total + reach,
    }
    if found.net_uj is None or found.net_low_uj is None or found.net_high_uj is None:
        return {**row, "refused": found.reason}
    runs = 1e3 * rig.runs
    low, whole, high = found.net_low_uj / runs, found.net_uj / runs, found.net_high_uj / runs
    return {**row, "whole_mj": whole, "low_mj": low, "high_mj": high, "error_percent": 100 * (total / whole - 1)}


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    errors = np.array([row["error_percent"] for row in rows if "error_percent" in row])
    if not len(errors):
        return "no network was metered"
    return f"sums against whole networks: mean error {np.abs(errors).mean():.1f} %, bias {errors.mean():+.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operators", type=int, default=30, help="to meter")
    parser.add_argument("--networks", type=int, default=5)
    parser.add_argument("--space", default="mbconv")
    parser.add_argument("--images", type=int, default=32, help="in a batch, on a GPU")
    parser.add_argument("--window-s", type=float, default=3.0)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--rehearse", action="store_true", help="without a meter: on a made-up trace")
    parser.add_argument("--json", type=Path, help="write all of it here")
    arguments = parser.parse_args()
    rig, what = open_rig(arguments)
    print(what)
    if rig is None:
        return
    networks = sample_networks(arguments.space, arguments.networks, 0)
    model, refused = learn(rig, networks, arguments.operators)
    rows = [compare(rig, model, graph) for graph in networks]
    for row in rows:
        print(
            "  "
            + ", ".join(f"{key} {value:.4g}" if isinstance(value, float) else str(value) for key, value in row.items())
        )
    print(f"{len(model.metered)} of {len(model.operators.places)} operators metered; {summary(rows)}")
    if arguments.json is not None:
        metered = {key: asdict(found) for key, found in model.metered.items()}
        told = {"meter": what, "operators": metered, "refused": refused, "networks": rows}
        arguments.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
