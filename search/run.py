"""The search path: from a stored look-up table and trained networks to the most accurate network within limits.

``search`` is the whole way. It measures nothing and trains nothing; ``host/verify.py`` holds what it finds against the
device.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from lut_db.errors import LutError
from lut_db.lut import LatencyLut, how_to_ask, resolve
from lut_db.records import Target
from lut_db.samples import AccuracySample
from lut_db.store import LutStore
from ops_catalog.build import op_with_dtype
from search.accuracy import Fitted, fit_accuracy
from search.cells import Arithmetic, Array, Cells, build_cells
from search.completion import Completed, complete_for_operators
from search.cost import CostModel, calibration_for
from search.energies import Energies, complete_energies, energy_note
from search.evolution import Effort, Evolved, Objective, evolve
from search.features import search_inputs
from search.limits import Costs, Limit, even_sweep, limit_rows
from search.pareto import front
from search.predictors import LEAST_SAMPLES, Predictor
from search.predictors.latency import fit_latency
from search.result import Candidate, SearchResult, Unmet
from search.samples import training_set
from search.spaces.space import Genomes, SearchSpace

Tell = Callable[[str, int, int], None]

FRONT_POINTS = 16
STAGES = ("prices", "predictor", "search")
FEW_NETWORKS = 60
"""Trained networks below which a user is warned."""


@dataclass(frozen=True, slots=True)
class Question:
    """What to search for.

    Attributes:
        fixed: genes that are to have these values only.
        limits: all must hold.
        sweep: values that the first limit takes one after the other; by default some up to its own.
        recipe: accuracies are predicted for it; "" for the most frequent one of the samples.
        interpolate: price operators that a table lacks by those it has.
        risk: probability at which a latency limit may be exceeded, judged by the calibration; None to take the mean.
    """

    space: SearchSpace
    targets: tuple[Target, ...]
    limits: tuple[Limit, ...]
    sweep: tuple[float, ...] = ()
    fixed: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    predictor: str = "gp"
    recipe: str = ""
    risk: float | None = None
    seed: int = 0
    effort: Effort = field(default_factory=Effort)
    interpolate: bool = False


def search(
    store: LutStore, samples: Sequence[AccuracySample], question: Question,
    tell: Tell = lambda stage, done, total: None, fitted: Fitted | None = None,
) -> SearchResult:  # fmt: skip
    """The best networks of a space within limits on measured targets.

    Args:
        fitted: what was learned before, in place of the samples.
        tell: is told each stage when it begins, and how many of all are done by then.

    Raises:
        MissingOpsError: a target's table lacks operators of the space.
        LutError: too few samples, no energies for an energy limit, or a limit that nothing meets.
    """
    clock = _Clock(tell)
    cells = build_cells(question.space.narrowed(question.fixed))
    tables = [_table(store, cells, target, question.interpolate) for target in question.targets]
    models = [_model(store, cells, table.energies.lut) for table in tables]
    clock.lap("prices")
    dtype = question.targets[0].dtype if question.targets else "float32"
    arithmetic = Arithmetic(cells, dtype)
    fitted = fitted or _fit(question, arithmetic, samples)
    predictor, recipe = fitted.predictor, fitted.recipe
    clock.lap("predictor")
    costs = Costs(arithmetic, models, [_risk_factor(model, question.risk) for model in models])
    objective = _objective(question, costs, predictor, recipe)
    evolved = evolve(objective, np.random.default_rng(question.seed), question.effort)
    clock.lap("search")
    _refuse_unmet(question, objective, evolved)
    candidates = _candidates(question, objective, costs, predictor, recipe, evolved)
    if tables:
        candidates = [_with_energy(candidate, question, tables[0]) for candidate in candidates]
    return SearchResult(
        space=question.space,
        dtype=dtype,
        targets=tuple(target.name for target in question.targets),
        limits=question.limits,
        candidates=tuple(candidates),
        unmet=tuple(
            Unmet(float(row[0]), float(excess))
            for row, excess in zip(objective.limits, evolved.excess, strict=True)
            if excess > 0
        ),
        predictor=fitted.facts,
        notes=tuple(_notes(models, question, fitted)),
        evaluations=evolved.evaluations,
        seconds=clock.laps,
    )


class _Clock:
    """Seconds of each stage; tells which one begins."""

    def __init__(self, tell: Tell) -> None:
        self.laps: dict[str, float] = {}
        self._tell = tell
        self._since = time.perf_counter()
        tell(STAGES[0], 0, len(STAGES))

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.laps[stage], self._since = now - self._since, now
        done = len(self.laps)
        self._tell((*STAGES, stage)[done], done, len(STAGES))


@dataclass(frozen=True, slots=True)
class _Table:
    """A target's table with all that can be known of latencies and energies, and their errors."""

    latencies: Completed
    energies: Energies


def _table(store: LutStore, cells: Cells, target: Target, interpolate: bool) -> _Table:
    known = Completed(store.lut(target), None, {})
    if interpolate:
        operators = [op_with_dtype(op, target.dtype) for op in cells.operators]
        known = replace(known, model=fit_latency(known.lut, store.staircases(target)))
        known = complete_for_operators(known, operators, estimate=True)
    return _Table(known, complete_energies(known.lut))


def _model(store: LutStore, cells: Cells, lut: LatencyLut) -> CostModel:
    return CostModel(cells, lut, calibration_for(cells.space, store.calibrations(lut.target)))


def _fit(question: Question, arithmetic: Arithmetic, samples: Sequence[AccuracySample]) -> Fitted:
    training = training_set(question.space, samples, LEAST_SAMPLES)
    return fit_accuracy(question.space, arithmetic, training, question.predictor, question.recipe, question.seed)


def _risk_factor(model: CostModel, risk: float | None) -> float:
    if risk is None:
        return 1.0
    if not 0.0 < risk <= 0.5:
        raise LutError(f"--risk must be a probability above 0 and up to 0.5, such as 0.05, but got {risk:g}")
    if model.latency_std is None:
        raise LutError(
            f"--risk must have a calibration to judge by, but {model.target.name!r} has none for {model.space.name}; "
            f"make one with '{_how_to_calibrate(model)}'"
        )
    from scipy.stats import norm

    return 1.0 + float(norm.ppf(1.0 - risk)) * model.latency_std


def _how_to_calibrate(model: CostModel) -> str:
    target = model.target
    return f"chamnet validate --device {target.device} --space {model.space.name} {how_to_ask(target)}"


def _objective(question: Question, costs: Costs, predictor: Predictor, recipe: int) -> Objective:
    def accuracy(genomes: Genomes) -> Array:
        return predictor.predict(search_inputs(costs.arithmetic, genomes, recipe))

    def limited(genomes: Genomes) -> Array:
        return costs.limited(question.limits, genomes)

    within = costs.arithmetic.cells.space
    lowest = np.array([[gene.choices[0] for gene in within.genes]])
    sweep = question.sweep or even_sweep(costs, question.limits, lowest, FRONT_POINTS)
    return Objective(within, accuracy, limited, limit_rows(question.limits, sweep))


def _refuse_unmet(question: Question, objective: Objective, evolved: Evolved) -> None:
    """Raises LutError where no row of limits can be met, naming the limits that the nearest network exceeds."""
    if (evolved.excess > 0).all():
        row = int(evolved.excess.argmin())
        nearest = evolved.nearest[row]
        costs = objective.costs(nearest[None])[0]
        over = [
            f"{limit.quantity} (at least {cost:.4g}, {100 * (cost / bound - 1):.1f} % above {bound:.4g})"
            for limit, cost, bound in zip(question.limits, costs, objective.limits[row], strict=True)
            if cost > bound
        ]
        raise LutError(
            f"some network of {question.space.name} must meet the limits, but the nearest found, "
            f"{'-'.join(map(str, nearest))}, exceeds {', '.join(over)}; raise them or choose another space"
        )


def _candidates(
    question: Question, objective: Objective, costs: Costs, predictor: Predictor, recipe: int, evolved: Evolved
) -> list[Candidate]:
    """The best of each row of limits that none other beats, cheapest first."""
    rows = np.flatnonzero(np.isfinite(evolved.accuracy[:, 0]))
    genomes, firsts = np.unique(evolved.genomes[rows, 0], axis=0, return_index=True)
    mean, std = predictor.predict_std(search_inputs(costs.arithmetic, genomes, recipe))
    used = objective.costs(genomes)
    kept = front(mean, used)
    kept = kept[np.argsort(used[kept, 0], kind="stable")]
    limits = objective.limits[rows[firsts], 0]
    spread = np.zeros(len(genomes)) if std is None else std
    of = {name: costs.of(name, 0, genomes) for name in ("macs_m", "params_m", "memory_mb")}
    latencies = [costs.of("latency_ms", i, genomes) for i in range(len(costs.models))]
    energies = costs.models[0].energy_uj(genomes) if costs.models else None
    return [
        Candidate(
            genome=tuple(map(int, genomes[i])), accuracy=float(mean[i]), accuracy_std=float(spread[i]),
            latency_ms=float(latencies[0][i]) if latencies else None,
            energy_mj=None if energies is None else float(energies[i]) / 1e3,
            macs_m=float(of["macs_m"][i]), params_m=float(of["params_m"][i]), memory_mb=float(of["memory_mb"][i]),
            limit=float(limits[i]),
            latencies_ms={t.name: float(ms[i]) for t, ms in zip(question.targets, latencies, strict=True)},
        )
        for i in kept
    ]  # fmt: skip


def _with_energy(candidate: Candidate, question: Question, table: _Table) -> Candidate:
    """The same with the interval of its energy, where that is known."""
    lut = table.energies.lut
    graph = question.space.decode(candidate.genome, lut.target.dtype)
    counts = Counter(key for row in resolve(graph, lut.lowerings) if row is not None for key in row.natives)
    found = table.energies.sum(counts, table.latencies.error_ns(graph))
    if found is None or candidate.energy_mj is None:
        return candidate
    low, high = found.low_uj / 1e3, found.high_uj / 1e3
    return replace(candidate, energy_low_mj=low, energy_high_mj=high, energy_label=found.label)


def _notes(models: Sequence[CostModel], question: Question, fitted: Fitted) -> list[str]:
    """What a user should know about these numbers."""
    notes = [
        f"latencies on {model.target.name} are plain sums; calibrate them with '{_how_to_calibrate(model)}'"
        for model in models
        if model.calibration is None
    ]
    for model in models:
        labels = Counter(entry.label for entry in model.lut.entries if entry.label in ("interpolated", "estimated"))
        if labels:
            listed = " and ".join(f"{count} {label}" for label, count in sorted(labels.items()))
            notes.append(f"of the table of {model.target.name}, {listed} operators; --verify measures networks")
        if told := energy_note(model.lut):
            notes.append(told)
    if any("shortened" in name for name in fitted.recipes):
        notes.append("accuracies are those of a shortened training recipe; full training reaches more")
    if fitted.facts.networks < FEW_NETWORKS:
        notes.append(
            f"the accuracy predictor knows {fitted.facts.networks} networks only: far from them it is a guess, and its "
            "standard deviation says so"
        )
    return notes
