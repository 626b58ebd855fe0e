"""SearchResult: what a search found, as values, as JSON and CSV, and the winner as model files."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ops_catalog import ops
from ops_catalog.export import export_graph
from ops_catalog.spec import Graph, SpecError
from search.limits import Limit
from search.spaces.space import Genome, SearchSpace, genome_name

FILE_FORMATS = ("onnx", "tflite")
COLUMNS = (
    "genome", "accuracy", "accuracy_std", "latency_ms", "energy_mj", "macs_m", "params_m", "latency_measured_ms",
    "energy_low_mj", "energy_high_mj", "energy_label",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Candidate:
    """One network that was found.

    Attributes:
        accuracy, accuracy_std: predicted, in percent.
        latency_ms: predicted on the first target; None where the search had no target.
        energy_mj: predicted on the first target, beyond what it draws at rest; None where too little was metered. With
            it go its 95 % interval, and the weakest of what it rests on (``search.energies.LABELS``).
        latencies_ms: on every target, by its name.
        latency_measured_ms: of the exported network on the first target's device, once it was verified.
        limit: the value of the first limit that it is the best for.
    """

    genome: Genome
    accuracy: float
    accuracy_std: float
    latency_ms: float | None
    energy_mj: float | None
    macs_m: float
    params_m: float
    memory_mb: float
    limit: float
    latencies_ms: Mapping[str, float] = field(default_factory=dict)
    latency_measured_ms: float | None = None
    energy_low_mj: float | None = None
    energy_high_mj: float | None = None
    energy_label: str = ""

    def as_json(self) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in COLUMNS}
        more = {"memory_mb": self.memory_mb, "limit": self.limit, "latencies_ms": dict(self.latencies_ms)}
        return {**found, "genome": list(self.genome), **more}


@dataclass(frozen=True, slots=True)
class Unmet:
    """A value of the first limit that no network of the space meets: how far the nearest found exceeds it, relative."""

    limit: float
    excess: float


@dataclass(frozen=True, slots=True)
class PredictorFacts:
    """What the accuracies rest on; errors are those of each network predicted from the others, in percent points."""

    name: str
    dataset: str
    recipe: str
    networks: int
    rmse: float | None
    kendall_tau: float | None
    coverage95: float | None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Candidates from cheap to dear; the last is the winner."""

    space: SearchSpace
    dtype: str
    targets: tuple[str, ...]
    limits: tuple[Limit, ...]
    candidates: tuple[Candidate, ...]
    unmet: tuple[Unmet, ...]
    predictor: PredictorFacts
    notes: tuple[str, ...]
    evaluations: int
    seconds: Mapping[str, float]

    @property
    def winner(self) -> Candidate | None:
        return max(self.candidates, key=lambda candidate: candidate.accuracy, default=None)

    def as_json(self) -> dict[str, Any]:
        """All of it; the space by its name and its genes."""
        return {
            "space": self.space.name,
            "dtype": self.dtype,
            "genes": [{"name": gene.name, "choices": list(gene.choices)} for gene in self.space.genes],
            "targets": list(self.targets),
            "limits": [asdict(limit) for limit in self.limits],
            "candidates": [candidate.as_json() for candidate in self.candidates],
            "winner": None if self.winner is None else list(self.winner.genome),
            "unmet": [asdict(miss) for miss in self.unmet],
            "predictor": asdict(self.predictor),
            "notes": list(self.notes),
            "evaluations": self.evaluations,
            "seconds": dict(self.seconds),
        }

    def network(self, candidate: Candidate) -> Graph:
        return self.space.decode(candidate.genome, self.dtype)

    def measured(self, latencies_ms: Mapping[Genome, float]) -> SearchResult:
        """The same with latencies measured on the device."""
        candidates = [replace(c, latency_measured_ms=latencies_ms.get(c.genome)) for c in self.candidates]
        return replace(self, candidates=tuple(candidates))


def write_front(result: SearchResult, folder: Path) -> None:
    """Writes front.json and front.csv."""
    rows = [candidate.as_json() for candidate in result.candidates]
    (folder / "front.json").write_text(json.dumps(rows, indent=1) + "\n")
    with (folder / "front.csv").open("w", newline="") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(["network", *COLUMNS[1:], *(gene.name for gene in result.space.genes)])
        for candidate, row in zip(result.candidates, rows, strict=True):
            cells = ["" if row[name] is None else row[name] for name in COLUMNS[1:]]
            writer.writerow([genome_name(result.space.name, candidate.genome), *cells, *candidate.genome])


def export_winner(result: SearchResult, folder: Path) -> tuple[list[Path], list[str]]:
    """Writes the winner as winner.onnx and winner.tflite; returns the files, and what could not be written and why."""
    written, refused = [], []
    if result.winner is not None:
        graph = result.network(result.winner)
        for file_format in FILE_FORMATS:
            try:
                blob = export_graph(graph, file_format)
            except SpecError as error:
                refused.append(f"winner.{file_format}: {error}")
                continue
            path = folder / f"winner.{file_format}"
            path.write_bytes(blob)
            written.append(path)
    return written, refused


def macs_by_scale(graph: Graph) -> dict[int, float]:
    """Share of a network's MACs in percent, by how many times smaller than the input the images are."""
    side = graph.inputs[0][1].shape[-1]
    shares: dict[int, float] = {}
    total = sum(map(ops.macs, graph.operators))
    for op in graph.operators:
        made = ops.output(op).shape
        scale = round(side / made[-1]) if len(made) == 4 else side
        scale = 1 << max(0, scale - 1).bit_length() if scale < side else side
        shares[scale] = shares.get(scale, 0.0) + 100.0 * ops.macs(op) / total
    return dict(sorted(shares.items()))


def sparse_limits(limits: Sequence[Limit], targets: Sequence[str]) -> str:
    """Limits as a person writes them."""
    parts = []
    for limit in limits:
        where = f" on {targets[limit.target]}" if limit.quantity in ("latency_ms", "energy_mj") and targets else ""
        parts.append(f"{limit.quantity} <= {limit.at_most:g}{where}")
    return " and ".join(parts)
