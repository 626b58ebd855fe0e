"""Model files that other tools wrote: parsed, their operators measured and summed, and the file itself measured whole.

    python -m benchmarks.foreign_models FOLDER [--db FILE]

Every .onnx and .tflite file below the folder is tried; what cannot be parsed or run is listed with the reason. Sums are
plain, without a calibration, since each file is of a family of its own.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

from agent.protocol import Sampling
from host.bench import open_bench
from host.devices import choose_cpus, find_unit
from host.errors import HostError
from host.predict import predictor_of
from host.profile import profile
from host.setting import Progress, Setting, Workload
from lut_db.aggregate import statistics
from lut_db.store import LutStore, open_store
from ops_catalog.parse import parse_model
from ops_catalog.spec import SpecError

ENGINES = {".onnx": "onnxruntime", ".tflite": "litert"}
SAMPLING = Sampling(sample_ns=0, burst_ns=20_000_000, burst_min=4, burst_max=10, rounds=4, max_rounds=4, warmup_runs=2)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One file; latencies in ms, None where there is none, and why."""

    file: str
    engine: str
    operators: int = 0
    unknown: int = 0
    unknown_macs_percent: float = 0.0
    predicted_ms: float | None = None
    measured_ms: float | None = None
    reason: str = ""

    @property
    def row(self) -> str:
        told = ["" if value is None else f"{value:.3f}" for value in (self.predicted_ms, self.measured_ms)]
        both = self.predicted_ms is not None and self.measured_ms is not None
        error = f"{100 * (self.predicted_ms / self.measured_ms - 1):+.1f}" if both else ""  # type: ignore[operator]
        unknown = f"{self.unknown} ({self.unknown_macs_percent:.1f} % of MACs)" if self.unknown else ""
        cells = [self.file, self.engine, str(self.operators or ""), unknown, *told, error, self.reason]
        return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--db", type=Path)
    asked = parser.parse_args()
    files = sorted(path for path in asked.folder.rglob("*") if path.suffix in ENGINES)
    print("| file | engine | operators | not understood | predicted ms | measured ms | error % | |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, open_store(asked.db or Path(folder) / "lut.db") as store:
        for path in files:
            print(outcome_of(store, path, asked.folder).row, flush=True)


def outcome_of(store: LutStore, path: Path, folder: Path) -> Outcome:
    name, engine = str(path.relative_to(folder)), ENGINES[path.suffix]
    setting = Setting(engine, choose_cpus(1))
    try:
        parsed = parse_model(path)
    except SpecError as error:
        return Outcome(name, engine, reason=f"not parsed: {error}"[:160])
    share = 100 * parsed.macs_share_unknown
    told = Outcome(name, engine, len(parsed.graph.nodes), len(parsed.unknown), share)
    try:
        setting = Setting(engine, choose_cpus(1), parsed.graph.dtype)
        summary = profile(store, find_unit("local-cpu"), setting, Workload(graphs=(parsed.graph,)), Progress())
        prediction = predictor_of(store, store.target_named(summary.target), estimate=True).predict(parsed.graph)
        measured, reason = measured_ms(store, setting, path.read_bytes())
    except (HostError, SpecError) as error:
        return Outcome(name, engine, told.operators, told.unknown, share, reason=str(error)[:160])
    lacking = f"{len(prediction.missing)} operators without a price" if prediction.missing else ""
    return Outcome(
        name, engine, told.operators, told.unknown, share, prediction.latency_ms, measured, reason or lacking
    )


def measured_ms(store: LutStore, setting: Setting, blob: bytes) -> tuple[float | None, str]:
    """The latency of a file as it is, or why there is none."""
    with open_bench(store, find_unit("local-cpu"), setting) as bench:
        answer = bench.measure({"0": bench.put_file(blob)}, seed=0, whole=True, sampling=SAMPLING)
    for failure in answer.failures:
        return None, f"does not run: {failure.message}"[:160]
    (reply,) = answer.measured
    found = statistics(reply.bursts_ns, reply.loops, reply.overhead_ns)
    return (found.latency_ns / 1e6, "") if found.samples else (None, "every sample was interrupted")


if __name__ == "__main__":
    main()
