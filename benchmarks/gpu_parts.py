"""The parts of ``benchmarks.gpu``: each a command of its own, its limit, and how its figures are read.

A part that runs out of time, or fails, is read all the same: what it had written by then counts. What an earlier run
left never does: a part names the files that it writes, and they go before it runs.
"""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from host.engines import engine_use
from host.errors import HostError
from lut_db.errors import LutError
from lut_db.store import open_store

Figures = Mapping[str, Any]
LUT = "all.db"
"""Shared by parts that need the same operators."""

UNTIL = "PART_UNTIL"
"""Variable that tells a part the moment (``time.monotonic``) by which it had better end by itself."""

AGENT_PYTHON = "CONTRACT_PYTHON"
"""Variable that tells the contract suite which Python runs its agent."""

PASSES = 2
"""Measurements that make an operator count as measured."""

FIXED = ("--fix", "resolution=224", "--fix", "stem=64", "--fix", "c4=2048")
"""Of the candidates beside the ResNets: as these have it, so that few operators tell the others."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of each part: networks to validate and calibrate on, operators to profile; how long limits are.

    Chosen for ten minutes by what exporting and opening models took on a processor, before any GPU was seen. Windows
    are the shortest that NVML's counter allows, operators and repeats the fewest that the energy path does.
    """

    spaces: tuple[str, ...] = ("chamnet-res", "chamnet-mobile")
    batch: str = "@b32"
    networks: int = 5
    calibration: int = 4
    agents: int = 2
    operators: int = 160
    repeated: int = 60
    sampled: int = 40
    metered: tuple[str, ...] = ("--operators", "6", "--networks", "1", "--window-s", "2", "--repeats", "3")
    compared: tuple[str, ...] = (
        "--batch", "32", "--networks", "3", "--calibration", "4", "--candidates", "1", "--profile-networks", "4",
        "--agents", "2", "--population", "200", "--generations", "40", "--rounds", "0", *FIXED,
    )  # fmt: skip
    patience: float = 1.0


TINY = Sizes(
    ("chamnet-mobile",), "@b2", 3, 1, 2, 6, 3, 1,
    ("--operators", "7", "--networks", "1", "--window-s", "0.4", "--repeats", "4"),
    ("--named", "resnet-50", "--networks", "3", "--calibration", "1", "--candidates", "1", "--population", "20",
     "--agents", "2", "--generations", "2", "--profile-networks", "3", "--rounds", "0", *FIXED),
    4.0,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rig:
    """What is measured, where, and where what comes of it goes.

    Attributes:
        providers: further engines, whose agents ``agent_python`` runs; empty for this Python.
    """

    device: str
    engine: str
    sizes: Sizes
    folder: Path
    providers: tuple[str, ...] = ("onnxruntime-cuda", "onnxruntime-tensorrt")
    agent_python: str = ""

    @property
    def rehearsed(self) -> bool:
        return self.sizes is TINY


@dataclass(frozen=True, slots=True)
class Part:
    """A command, its limit in seconds, and what reads its figures from what it left.

    Attributes:
        limit_s: what it may always take; more where no later part needs it. 0 for what is left at its turn.
        skip: why it does not run; empty where it does.
        leaves: the files that it writes.
    """

    name: str
    limit_s: float
    command: Sequence[str]
    read: Callable[[], Figures]
    skip: str = ""
    leaves: Sequence[Path] = ()


def parts_of(rig: Rig, missing: Mapping[str, str]) -> list[Part]:
    """In the order in which they matter.

    Args:
        missing: why an engine, or ``pytest``, cannot run, by its name.
    """
    torch, spaces = rig.engine, rig.sizes.spaces
    batched, modes = [space + rig.sizes.batch for space in spaces], engine_use(torch).choices.get("mode", ())
    single = [torch, *(f"{torch}:mode={mode}" for mode in modes[1:] if mode == "eager")]
    absent = missing.get(torch, "")
    parts = [
        _additivity("torch-batch", 190.0, rig, [torch], batched, absent),
        _additivity("torch-single", 105.0, rig, single, list(spaces), absent),
        _profile("rate", 60.0, rig, rig.sizes.operators, absent),
        _profile("again", 30.0, rig, rig.sizes.repeated, absent),
        _contract(rig, torch, 45.0, missing),
        _server(rig, 70.0, absent),
    ]
    for name in rig.providers:
        parts.append(_contract(rig, name, 20.0, missing))
        parts.append(_additivity(name, 0.0, rig, [name], batched[:1], missing.get(name, ""), rig.agent_python))
    parts.append(_energy(rig, 0.0))
    return [replace(part, limit_s=part.limit_s * rig.sizes.patience) for part in parts]


def _python(*words: str) -> list[str]:
    return [sys.executable, "-m", *words]


def _contract(rig: Rig, engine: str, limit_s: float, missing: Mapping[str, str]) -> Part:
    """Of all modes of the engine, by the ids of the tests."""
    name, python = f"contract-{engine}", rig.agent_python if engine in rig.providers else ""
    report = rig.folder / f"{name}.xml"
    words = ("tests/test_engine_contract.py", "-k", f"{engine}] or {engine}-mode", f"--junitxml={report}")
    command = ["env", f"{AGENT_PYTHON}={python}", *_python("pytest", *words)]
    made_up = "" if engine_use(engine).source == "measured" else f"{engine!r} is made up and computes nothing"
    skip = made_up or missing.get(engine, "") or missing.get("pytest", "")
    return Part(name, limit_s, command, lambda: read_contract(report), skip, [report])


def read_contract(report: Path) -> Figures:
    """Tests passed, failed and skipped, the first reasons with them; a report is written only at the end."""
    if not report.exists():
        return {}
    counts, reasons = Counter[str](), []
    for case in ElementTree.parse(report).iter("testcase"):
        ended = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
        counts["passed" if ended is None else ended.tag] += 1
        if ended is not None:
            reasons.append(f"{case.get('name')}: {(ended.get('message') or '').splitlines()[0][:200]}")
    return {**counts, "reasons": list(dict.fromkeys(reasons))[:12]}


def _additivity(
    name: str, limit_s: float, rig: Rig, engines: list[str], spaces: list[str], skip: str, python: str = ""
) -> Part:
    rows = rig.folder / f"{name}.jsonl"
    command = _python(
        "benchmarks.additivity", "--device", rig.device, "--engines", ",".join(engines), "--spaces", ",".join(spaces),
        "--networks", str(rig.sizes.networks), "--calibration", str(rig.sizes.calibration), "--resume", str(rows),
        "--agents", str(rig.sizes.agents), "--db", str(rig.folder / LUT), "--agent-python", python,
    )  # fmt: skip
    return Part(name, limit_s, command, lambda: read_additivity(rows), skip, [rows])


def read_additivity(rows: Path) -> Figures:
    """The rows so far: errors in percent; what cannot be measured with the reason."""
    if not rows.exists():
        return {}
    return {"rows": [_row(json.loads(line)) for line in rows.read_text().splitlines()]}


def _row(told: Mapping[str, Any]) -> dict[str, Any]:
    row = {name: told[name] for name in ("engine", "space", "seconds")}
    if "failed" in told:
        return {**row, "failed": told["failed"]}
    kept = ("target", "networks", "mape", "bias", "worst", "spearman", "noise_floor", "uncalibrated_mape")
    return {**row, **{name: told[name] for name in kept}, "outside_percent": 100.0 - told["within_10"]}


def _profile(name: str, limit_s: float, rig: Rig, operators: int, skip: str) -> Part:
    """The same operators, so many of them, into a database of its own."""
    db = rig.folder / f"{name}.db"
    command = _python(
        "host.profile", "--device", rig.device, "--engine", rig.engine, "--space", f"chamnet-mobile{rig.sizes.batch}",
        "--networks", str(rig.sizes.sampled), "--limit", str(operators), "--db", str(db), "--json",
    )  # fmt: skip
    said = rig.folder / f"{name}.out"
    read = (lambda: read_profile(db, said)) if name == "rate" else (lambda: compare(rig.folder / "rate.db", db))
    return Part(name, limit_s, command, read, skip, [db])


def entries_of(db: Path) -> dict[str, float]:
    """Latency in ns by native operator; empty where nothing was measured."""
    try:
        with open_store(db, create=False) as store:
            return {entry.key: entry.latency_ns for target in store.targets() for entry in store.each_entry(target)}
    except (HostError, LutError, OSError):
        return {}


def read_profile(db: Path, said: Path) -> Figures:
    """Operators measured as often as they should be, the doubts about their measurements, and how long a run that came
    to its end worked once it had started.

    Those of a run that did not end count by their measurements: half of them done twice are no more than all done once.
    """
    if not db.exists():
        return {}
    with open_store(db, create=False) as store:
        rows = [row for target in store.targets() for row in store.measurements(target)]
    doubts = Counter(doubt for row in rows for doubt in row.doubts)
    operators = min(len({row.op_key for row in rows}), len(rows) // PASSES)
    figures: dict[str, Any] = {"operators": operators, "measurements": len(rows), "doubts": dict(doubts)}
    if summaries := read_json(said).get("told"):
        figures["worked_s"] = sum(summaries[0]["seconds"].values())
    return figures


def compare(first: Path, second: Path) -> Figures:
    """How well two runs agree on the operators that both measured."""
    before, after = entries_of(first), entries_of(second)
    ratios = [after[key] / before[key] for key in before.keys() & after.keys()]
    if not ratios:
        return {}
    deviations = [100 * abs(ratio - 1) for ratio in ratios]
    return {
        "operators": len(ratios),
        "median_ratio": median(ratios),
        "median_deviation_percent": median(deviations),
        "within_2_percent": 100 * sum(deviation <= 2 for deviation in deviations) / len(deviations),
    }


def _energy(rig: Rig, limit_s: float) -> Part:
    told = rig.folder / "energy.json"
    words = ["benchmarks.gpu_energy", *rig.sizes.metered, "--json", str(told)]
    command = _python(*words, *(["--rehearse"] if rig.rehearsed else []))
    return Part("energy", limit_s, command, lambda: read_json(told), "", [told])


def _server(rig: Rig, limit_s: float, skip: str) -> Part:
    words = ["--device", rig.device, "--engine", rig.engine, "--db", str(rig.folder / LUT), "--json"]
    command = _python("benchmarks.server", *words, *rig.sizes.compared)
    return Part("server", limit_s, command, lambda: read_json(rig.folder / "server.out"), skip)


def read_json(path: Path) -> Figures:
    return {"told": json.loads(path.read_text())} if path.exists() and path.stat().st_size else {}


def remove(paths: Iterable[Path]) -> None:
    """Files, and what SQLite keeps beside them."""
    for path in paths:
        for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            path.with_name(name).unlink(missing_ok=True)
