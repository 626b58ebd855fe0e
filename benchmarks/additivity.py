"""How well do sums of operators predict networks, by engine, element type, number of threads and kind of network?

Each row is ``chamnet validate`` on random networks of a space: its operators are profiled, other networks measured
whole, a few fit the calibration, and the errors are those of the rest. Named networks are validated beside the space
that they are alike to. Rows are told as they come; what fails is a row that says why.

    python -m benchmarks.additivity --engines litert,litert:xnnpack=off,onnxruntime --dtypes float32,int8 \\
        --threads 1,2 --spaces chamnet-mobile,chamnet-res,mbconv --networks 16 \\
        --named resnet-50,chamnet-a --resume additivity.jsonl
    python -m benchmarks.additivity --device local-gpu --engines torch-cuda --spaces chamnet-res@b32
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.additivity_table import key_of, markdown
from host.cli_options import Asked, settings_of
from host.devices import LOCAL_CPU, Unit, find_unit
from host.errors import HostError
from host.setting import Progress
from host.transport import Launch
from host.truth import TURNS
from host.validate import Question, Validation, validate
from lut_db.errors import LutError
from lut_db.store import LutStore, open_store
from ops_catalog.build import split_batch
from ops_catalog.spec import SpecError

ALIKE = {"chamnet": "chamnet-mobile", "mobilenet": "chamnet-mobile", "mnasnet": "mbconv", "efficientnet": "mbconv",
         "resnet": "chamnet-res"}  # fmt: skip
"""The space that a family of named networks is calibrated with."""


@dataclass(frozen=True, slots=True)
class Case:
    """One row to measure; ``engine`` with its options: litert:xnnpack=off."""

    engine: str
    dtype: str
    threads: int
    space: str
    named: tuple[str, ...]

    @property
    def key(self) -> tuple[str, ...]:
        return key_of(self.as_json())

    def as_json(self) -> dict[str, Any]:
        told = {"engine": self.engine, "dtype": self.dtype, "threads": self.threads, "space": self.space}
        return {**told, "asked": list(self.named)}


def cases(asked: argparse.Namespace) -> list[Case]:
    """Every combination, networks of one target one after the other."""
    spaces = asked.spaces.split(",")
    named = _beside([name for name in asked.named.split(",") if name], spaces)
    chosen = product(asked.engines.split(","), asked.dtypes.split(","), asked.threads.split(","), spaces)
    return [Case(engine, dtype, int(threads), space, named[space]) for engine, dtype, threads, space in chosen]


def _beside(names: Iterable[str], spaces: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Named networks by the space of their kind and batch; the first one where that is not asked for."""
    found: dict[str, list[str]] = {space: [] for space in spaces}
    for name in names:
        plain, batch = split_batch(name)
        alike = (ALIKE.get(plain.partition("-")[0], ""), batch)
        found[next((space for space in spaces if split_batch(space) == alike), spaces[0])].append(name)
    return {space: tuple(inside) for space, inside in found.items()}


def measure(store: LutStore, unit: Unit, case: Case, asked: argparse.Namespace) -> dict[str, Any]:
    """A row: figures, or why there are none."""
    engine, *options = case.engine.split(":")
    wanted = Asked(engine, case.dtype, str(case.threads), asked.cpus, asked.seed, options=options)
    question = Question(case.space, asked.networks, case.named, asked.calibration, asked.seed, asked.agents)
    start, row = time.perf_counter(), {**case.as_json(), "load_before": os.getloadavg()[0]}
    try:
        (setting,) = settings_of(unit, wanted)
        row |= figures(validate(store, unit, setting, question, Progress()))
    except (HostError, LutError, SpecError) as error:
        row["failed"] = str(error)
    return {**row, "seconds": round(time.perf_counter() - start, 1), "load_after": os.getloadavg()[0]}


def figures(found: Validation) -> dict[str, Any]:
    """What a validation showed; latencies in ms, errors in percent."""
    names = ("networks", "mape", "bias", "within_5", "within_10", "worst", "spearman", "noise_floor",
             "uncalibrated_mape", "naive_mape", "flops_mape")  # fmt: skip
    named = [
        {
            "network": result.graph.name, "predicted_ms": result.predicted_ns / 1e6,
            "measured_ms": result.measured_ns / 1e6, "error": 100 * (result.predicted_ns / result.measured_ns - 1),
        }
        for result in found.results if result.role == "named"
    ]  # fmt: skip
    machine = {name: found.device.get(name) for name in ("cpu_model", "isa", "kernel")}
    gpu = found.device.get("gpu", {}).get("name")
    told = {"target": found.target, **{name: found.metrics[name] for name in names}, "named": named}
    return {**told, "machine": {**machine, **({"gpu": gpu} if gpu else {})}}


def read_rows(path: Path | None) -> dict[tuple[str, ...], dict[str, Any]]:
    """Rows of an earlier run that did not fail, by their key."""
    if path is None or not path.exists():
        return {}
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return {key_of(row): row for row in rows if "failed" not in row}


def tell(row: Mapping[str, Any]) -> None:
    """One line while it goes on."""
    title = f"{row['engine']:24s} {row['dtype']:9s} t{row['threads']} {row['space']:20s}"
    if "failed" in row:
        told = f"FAILED: {row['failed']}"
    else:
        told = f"MAPE {row['mape']:5.2f} %  within 10 %: {row['within_10']:5.1f} %  floor {row['noise_floor']:.2f} %"
    print(f"{title} {told}  ({row['seconds']:.0f} s)", file=sys.stderr, flush=True)


def main() -> None:
    asked = arguments()
    try:
        rows = measure_all(asked)
    except (HostError, LutError) as error:
        raise SystemExit(str(error)) from None
    if asked.json:
        print(json.dumps(rows, indent=1))
    else:
        print(f"{asked.device}, {platform.machine()}, {time.strftime('%Y-%m-%d', time.gmtime())}\n\n{markdown(rows)}")
    if all("failed" in row for row in rows):
        raise SystemExit(1)


def measure_all(asked: argparse.Namespace) -> list[dict[str, Any]]:
    """A row of each case. Raises HostError or LutError without a device or a database."""
    wanted, known, rows = cases(asked), read_rows(asked.resume), []
    unit = find_unit(asked.device, Launch(asked.agent_python))
    with tempfile.TemporaryDirectory() as folder, open_store(asked.db or Path(folder) / "lut.db") as store:
        for case in wanted:
            row = known.get(case.key)
            if row is None:
                row = measure(store, unit, case, asked)
                if asked.resume is not None:
                    with asked.resume.open("a") as lines:
                        lines.write(json.dumps(row) + "\n")
            tell(row)
            rows.append(row)
    return rows


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default=LOCAL_CPU)
    parser.add_argument("--engines", default="litert", help="comma-separated; with options: litert:xnnpack=off")
    parser.add_argument("--dtypes", default="float32")
    parser.add_argument("--threads", default="1")
    parser.add_argument("--spaces", default="chamnet-mobile", help="comma-separated; with a batch: chamnet-res@b32")
    parser.add_argument("--networks", type=int, default=16, help="unseen random networks of a row, at least 3")
    parser.add_argument("--calibration", type=int, default=8, help="further ones that the calibration is fitted on")
    parser.add_argument("--agents", type=int, choices=(2, 4, 8, 16), default=TURNS, help="that measure a network whole")
    parser.add_argument("--named", default="", help="networks by name, each validated beside the space of its kind")
    parser.add_argument("--cpus", default="", help="processors to pin to, such as 0,1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--agent-python", default="", help="the Python that runs the agent")
    parser.add_argument("--db", type=Path, help="keep the measurements here")
    parser.add_argument("--resume", type=Path, help="rows are appended here; those that it has are not measured again")
    parser.add_argument("--json", action="store_true", help="print all rows as JSON")
    asked = parser.parse_args()
    if asked.networks < 3:
        parser.error(f"--networks must be at least 3, but got {asked.networks}")
    if asked.resume is not None and not asked.resume.parent.is_dir():
        parser.error(f"the folder of --resume must exist, but {asked.resume.parent} does not")
    return asked


if __name__ == "__main__":
    main()
