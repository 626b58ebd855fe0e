"""Operators profiled a second, end to end, beside the naive way: a process per operator, half a second of warm-up and a
second of runs, which is what the usual benchmark tools do by default.

    python -m benchmarks.profiling [--networks 24] [--naive 6]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from host.devices import choose_cpus, find_unit
from host.profile import profile
from host.setting import Progress, Setting, Summary, Workload
from host.validate import sample_networks
from lut_db.store import open_store
from ops_catalog.build import single
from ops_catalog.export import export_graph
from ops_catalog.spec import OpSpec
from ops_catalog.sweep import distinct_operators

NAIVE = """
import sys, time
from agent.engines import engine_module
run = engine_module(sys.argv[1]).open_model(sys.argv[2], {"threads": 1, "entry": "run"}).run
for seconds in (0.5, 1.0):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        run(1)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=24, help="random networks of chamnet-mobile to profile")
    parser.add_argument("--naive", type=int, default=6, help="operators to measure the naive way")
    arguments = parser.parse_args()
    graphs = tuple(sample_networks("chamnet-mobile", arguments.networks, seed=5))
    print(f"{'engine':12s} {'operators':>9s} {'seconds':>8s} {'per s':>7s} {'naive/s':>8s} {'ratio':>6s}  time goes to")
    for engine, file_format in (("litert", "tflite"), ("onnxruntime", "onnx")):
        summary, seconds = profiled(engine, Workload(graphs=graphs))
        rate = summary.wanted / seconds
        naive = naive_rate(engine, file_format, distinct_operators(graphs)[:: len(graphs)][: arguments.naive])
        rest = seconds - sum(summary.seconds.values())
        parts = ", ".join(f"{name} {value:.1f} s" for name, value in {**summary.seconds, "rest": rest}.items())
        print(f"{engine:12s} {summary.wanted:9d} {seconds:8.1f} {rate:7.0f} {naive:8.2f} {rate / naive:6.0f}  {parts}")


def profiled(engine: str, workload: Workload) -> tuple[Summary, float]:
    """A whole profile run into a new database: export, session, all passes, storing."""
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder) / "lut.db") as store:
        start = time.perf_counter()
        summary = profile(store, find_unit("local-cpu"), Setting(engine, choose_cpus(1)), workload, Progress())
        return summary, time.perf_counter() - start


def naive_rate(engine: str, file_format: str, operators: tuple[OpSpec, ...]) -> float:
    """Operators a second with a process each."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        for op in operators:
            path = Path(folder) / "model"
            path.write_bytes(export_graph(single(op), file_format))
            subprocess.run([sys.executable, "-c", NAIVE, engine, str(path)], check=True, stderr=subprocess.DEVNULL)
        return len(operators) / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
