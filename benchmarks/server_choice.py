"""Networks of a space at given latencies: those of the most arithmetic, or, with samples, of the highest accuracy.

No accuracy is made up: without samples a candidate is chosen for its multiply-accumulates alone, and has no accuracy.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from lut_db.samples import AccuracySample
from lut_db.store import LutStore
from ops_catalog.build import op_with_dtype
from ops_catalog.networks.resnet import CHANNELS, DEPTHS, BottleneckStages
from search.cells import Arithmetic, Cells
from search.completion import Completed, complete_for_operators
from search.cost import CostModel, calibration_for
from search.evolution import Effort, Objective, evolve
from search.limits import Limit
from search.predictors.latency import fit_latency
from search.run import Question, search
from search.spaces.chamnet_res import encode
from search.spaces.space import Genome, Genomes, SearchSpace

NEAR = 0.02
"""How far a candidate's predicted latency may be below the one it is chosen for, relative."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A candidate: predicted latency, and accuracy in percent where samples told it."""

    genome: Genome
    at: str
    predicted_ms: float
    accuracy: float | None = None
    accuracy_std: float | None = None


def cost_model(store: LutStore, cells: Cells, target: str) -> CostModel:
    """Prices the whole space; operators that were not measured by those that were. Raises LutError."""
    lut = store.lut(store.target_named(target))
    steps = store.staircases(lut.target)
    known = Completed(lut, fit_latency(lut, steps), {})
    wanted = [op_with_dtype(op, lut.target.dtype) for op in cells.operators]
    completed = complete_for_operators(known, wanted, estimate=True).lut
    return CostModel(cells, completed, calibration_for(cells.space, store.calibrations(lut.target)))


def most_arithmetic(
    cost: CostModel, latencies_ms: dict[str, float], count: int, without: Collection[Genome], seed: int, effort: Effort
) -> list[Choice]:
    """Of each latency, by name, the networks of most MACs at it, none of them among ``without``."""
    arithmetic = Arithmetic(cost.cells)
    limits = np.array(sorted(latencies_ms.values()))[:, None]
    most = float(arithmetic.macs(_largest(cost.space)).max())

    def share(genomes: Genomes) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return 100.0 * arithmetic.macs(genomes) / most

    def latency_ms(genomes: Genomes) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return cost.latency_ns(genomes)[:, None] / 1e6

    evolved = evolve(Objective(cost.space, share, latency_ms, limits), np.random.default_rng(seed), effort)
    found: list[Choice] = []
    names = sorted(latencies_ms, key=lambda name: latencies_ms[name])
    for name, genomes, shares in zip(names, evolved.genomes, evolved.accuracy, strict=True):
        kept = [tuple(map(int, genome)) for genome in genomes[np.isfinite(shares)]]
        rows = [Choice(g, name, float(latency_ms(np.array([g]))[0, 0])) for g in kept if g not in without]
        near = [row for row in rows if row.predicted_ms >= latencies_ms[name] * (1 - NEAR)]
        found += near[:count]
    return found


def most_accurate(
    store: LutStore, target: str, space: SearchSpace, fixed: dict[str, tuple[int, ...]],
    samples: Sequence[AccuracySample], latencies_ms: dict[str, float], seed: int, effort: Effort,
) -> list[Choice]:  # fmt: skip
    """The most accurate network within each latency, as ``chamnet search`` predicts it; it may be well below it."""
    question = Question(
        space, (store.target_named(target),), (Limit("latency_ms", max(latencies_ms.values())),),
        tuple(sorted(latencies_ms.values())), fixed, seed=seed, effort=effort, interpolate=True,
    )  # fmt: skip
    found = []
    for candidate in search(store, samples, question).candidates:
        assert candidate.latency_ms is not None
        name = min(latencies_ms, key=lambda name: abs(latencies_ms[name] - candidate.limit))
        told = (candidate.accuracy, candidate.accuracy_std)
        found.append(Choice(candidate.genome, name, candidate.latency_ms, *told))
    return found


def resnet_genomes() -> set[Genome]:
    """ResNet-50, 101 and 152 as points of chamnet-res."""
    middles = tuple(channels // 4 for channels in CHANNELS)
    return {encode(BottleneckStages(224, 64, CHANNELS, middles, DEPTHS[layers])) for layers in (50, 101, 152)}


def _largest(space: SearchSpace) -> Genomes:
    return np.array([[gene.choices[-1] for gene in space.genes]])
