"""The search engine against others, on one objective in one run: seconds, and how far from the best that is known.

Twenty latency limits over chamnet-mobile (4e17 networks). The objective is a Gaussian process fitted to 240 networks of
a made-up accuracy, and a table of made-up operator latencies: this is a test of search, not of any device. The best
known comes from many runs with a hundred times the evaluations, and from everything the others find. Then sub-spaces
small enough to enumerate: how often the exact best is found.

    pip install chamnet[bench]
    python -m benchmarks.search [--seeds 5] [--optuna-trials 6000] [--nevergrad-budget 300] [--only-ours]
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import product

import numpy as np

from lut_db.lut import LatencyLut
from lut_db.records import ANY_CONTEXT, Lowering, LutEntry, Target
from ops_catalog import ops
from search.cells import Arithmetic, Array, Cells, build_cells
from search.cost import CostModel
from search.evolution import Effort, Objective, evolve
from search.features import search_inputs
from search.predictors.gp import fit
from search.spaces import space_named
from search.spaces.space import Genomes, SearchSpace

LIMITS, TRAINED = 20, 240
BEST_EFFORT = Effort(2000, 600)
BEST_RUNS = 4
ENUMERABLE, SUBSPACES = 400_000, 8
TARGET = Target("made-up", "fake", "1", "cpu", "float32", 1, (0,), "none", source="simulated")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--optuna-trials", type=int, default=6000)
    parser.add_argument("--nevergrad-budget", type=int, default=300, help="evaluations for each limit")
    parser.add_argument("--only-ours", action="store_true")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    start = time.perf_counter()
    cells = build_cells(space_named("chamnet-mobile"))
    objective = make_objective(cells)
    print(f"tables of {cells.space.name}: {time.perf_counter() - start:.2f} s")
    show_rates(objective, cells)
    found = {"ours": _timed(lambda seed: evolve(objective, np.random.default_rng(seed)).accuracy[:, 0], asked.seeds)}
    if not asked.only_ours:
        for name, run in others(objective, asked.optuna_trials, asked.nevergrad_budget).items():
            found[name] = _timed(run, 1)
    best = np.max([accuracy for _, runs in found.values() for accuracy in runs], axis=0)
    for seed in range(BEST_RUNS):
        best = np.maximum(best, evolve(objective, np.random.default_rng(1000 + seed), BEST_EFFORT).accuracy[:, 0])
    print(f"{LIMITS} limits at once          seconds   x ours   mean gap   worst gap   limits met")
    ours = found["ours"][0]
    for name, (seconds, runs) in found.items():
        met = np.isfinite(runs)
        gaps = np.where(met, best - np.array(runs), np.nan)
        print(
            f"{name:24s} {seconds:9.2f} {seconds / ours:8.1f} {np.nanmean(gaps):10.4f} {np.nanmax(gaps):11.4f} "
            f"{100 * met.mean():9.0f} %"
        )
    show_exactness(cells.space)


def make_objective(cells: Cells, seed: int = 0) -> Objective:
    """A made-up accuracy that grows with MACs and bends with every gene, and made-up latencies."""
    space, rng, arithmetic = cells.space, np.random.default_rng(seed), Arithmetic(cells)
    model = CostModel(cells, made_up_lut(cells))
    genomes = space.sample_many(rng, TRAINED)
    logs = np.log(np.maximum(genomes, 1))
    mean, std = logs.mean(axis=0), logs.std(axis=0) + 1e-9
    straight, bent = rng.normal(size=len(space.genes)), rng.normal(size=(len(space.genes),) * 2)
    sizes = np.log(arithmetic.macs(genomes))
    x = (logs - mean) / std
    accuracy = 70 + 7 * np.tanh(0.7 * (sizes - sizes.mean()) / sizes.std()) + 0.3 * x @ np.abs(straight)
    process = fit(search_inputs(arithmetic, genomes), accuracy + 0.15 * np.sin(0.12 * x @ bent).sum(axis=1))
    latencies = model.latency_ns(space.sample_many(rng, 4000))
    limits = np.geomspace(0.4 * np.quantile(latencies, 0.02), np.quantile(latencies, 0.9), LIMITS)
    return Objective(
        space,
        lambda g: process.predict(search_inputs(arithmetic, g)),
        lambda g: model.latency_ns(g)[:, None],
        limits[:, None],
    )


def made_up_lut(cells: Cells) -> LatencyLut:
    """20 GMAC/s, 5 GB/s and 2 us an operator."""
    entries = tuple(
        LutEntry(op.key, ops.macs(op) / 20 + ops.bytes_moved(op) / 5 + 2000, 0.0, 1, 1, label="simulated")
        for op in cells.operators
    )
    lowerings = {(e.key, ANY_CONTEXT): Lowering(e.key, ANY_CONTEXT, (e.key,), "plain", ("plain",)) for e in entries}
    return LatencyLut(TARGET, entries, lowerings)


def show_rates(objective: Objective, cells: Cells) -> None:
    genomes = cells.space.sample_many(np.random.default_rng(1), 200_000)
    for name, count, evaluate in (
        ("latency", len(genomes), objective.costs), ("accuracy", 20_000, objective.accuracy),
    ):  # fmt: skip
        start = time.perf_counter()
        evaluate(genomes[:count])
        print(f"{name}: {count / (time.perf_counter() - start):,.0f} networks/s")


def others(objective: Objective, trials: int, budget: int) -> dict[str, Callable[[int], Array]]:
    """Other engines, each on the same functions; those that find a front answer all limits from it."""
    return {
        "pymoo NSGA-II": lambda seed: pymoo_front(objective, seed),
        f"pymoo GA x {LIMITS}": lambda seed: pymoo_single(objective, seed),
        f"Optuna NSGA-II, {trials}": lambda seed: optuna_front(objective, seed, trials),
        f"nevergrad x {LIMITS}, {budget} each": lambda seed: nevergrad_single(objective, seed, budget),
    }


def _timed(run: Callable[[int], Array], seeds: int) -> tuple[float, list[Array]]:
    start = time.perf_counter()
    runs = [run(seed) for seed in range(seeds)]
    return (time.perf_counter() - start) / seeds, runs


def _values(space: SearchSpace, numbers: Array) -> Genomes:
    """Genomes from numbers of choices (n x d)."""
    columns = np.rint(np.asarray(numbers, float)).astype(np.int64).T
    return np.stack([np.array(g.choices)[column] for g, column in zip(space.genes, columns, strict=True)], axis=1)


def _best_within(objective: Objective, accuracy: Array, costs: Array) -> Array:
    met = costs[None, :, 0] <= objective.limits
    return np.asarray(np.where(met, accuracy[None], -np.inf).max(axis=1))


def _pymoo_problem(objective: Objective, limit: float | None):  # type: ignore[no-untyped-def]
    from pymoo.core.problem import Problem

    highest = np.array([len(gene.choices) - 1 for gene in objective.space.genes])

    class Networks(Problem):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(
                n_var=len(highest), n_obj=2 if limit is None else 1, n_ieq_constr=0 if limit is None else 1,
                xl=np.zeros(len(highest)), xu=highest, vtype=int,
            )  # fmt: skip

        def _evaluate(self, x, out, *arguments, **named):  # type: ignore[no-untyped-def]
            genomes = _values(objective.space, x)
            accuracy, cost = objective.accuracy(genomes), objective.costs(genomes)[:, 0]
            if limit is None:
                out["F"] = np.stack([-accuracy, cost], axis=1)
            else:
                out["F"], out["G"] = -accuracy[:, None], (cost / limit - 1)[:, None]

    return Networks()


def _pymoo_operators():  # type: ignore[no-untyped-def]
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling

    return {
        "sampling": IntegerRandomSampling(),
        "crossover": SBX(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        "mutation": PM(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        "eliminate_duplicates": True,
    }


def pymoo_front(objective: Objective, seed: int) -> Array:
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.optimize import minimize

    algorithm = NSGA2(pop_size=400, **_pymoo_operators())
    found = minimize(_pymoo_problem(objective, None), algorithm, ("n_gen", 120), seed=seed)
    return _best_within(objective, -found.F[:, 0], found.F[:, 1:])


def pymoo_single(objective: Objective, seed: int) -> Array:
    from pymoo.algorithms.soo.nonconvex.ga import GA
    from pymoo.optimize import minimize

    best = []
    for limit in objective.limits[:, 0]:
        algorithm = GA(pop_size=100, **_pymoo_operators())
        found = minimize(_pymoo_problem(objective, float(limit)), algorithm, ("n_gen", 100), seed=seed)
        best.append(-np.inf if found.F is None else -float(found.F[0]))
    return np.array(best)


def optuna_front(objective: Objective, seed: int, trials: int) -> Array:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=optuna.samplers.NSGAIISampler(population_size=200, seed=seed)
    )

    def evaluate(trial):  # type: ignore[no-untyped-def]
        numbers = [trial.suggest_int(gene.name, 0, len(gene.choices) - 1) for gene in objective.space.genes]
        genomes = _values(objective.space, np.array([numbers]))
        return float(objective.accuracy(genomes)[0]), float(objective.costs(genomes)[0, 0])

    study.optimize(evaluate, n_trials=trials)
    values = np.array([trial.values for trial in study.trials])
    return _best_within(objective, values[:, 0], values[:, 1:])


def nevergrad_single(objective: Objective, seed: int, budget: int) -> Array:
    import nevergrad

    best = []
    for limit in objective.limits[:, 0]:
        choices = [nevergrad.p.TransitionChoice(range(len(gene.choices))) for gene in objective.space.genes]
        parameters = nevergrad.p.Tuple(*choices)
        parameters.random_state.seed(seed)
        optimiser = nevergrad.optimizers.DiscreteOnePlusOne(parametrization=parameters, budget=budget)
        reached = -np.inf
        for _ in range(budget):
            asked = optimiser.ask()
            genomes = _values(objective.space, np.array([asked.value]))
            accuracy, cost = float(objective.accuracy(genomes)[0]), float(objective.costs(genomes)[0, 0])
            if cost <= limit:
                reached = max(reached, accuracy)
            optimiser.tell(asked, -accuracy + 100.0 * max(0.0, cost / limit - 1))
        best.append(reached)
    return np.array(best)


def show_exactness(space: SearchSpace) -> None:
    """Random sub-spaces, every network of which is evaluated."""
    exact, cases, worst = 0, 0, 0.0
    for seed in range(SUBSPACES):
        objective = make_objective(build_cells(_part(space, np.random.default_rng(seed))), seed)
        found = evolve(objective, np.random.default_rng(seed)).accuracy[:, 0]
        truth = np.full(LIMITS, -np.inf)
        for genomes in _all(objective.space):
            accuracy, costs = objective.accuracy(genomes), objective.costs(genomes)
            truth = np.maximum(truth, _best_within(objective, accuracy, costs))
        possible = np.isfinite(truth)
        gaps = (truth - found)[possible]
        exact, cases, worst = exact + int((gaps < 1e-6).sum()), cases + len(gaps), max(worst, float(gaps.max()))
    print(
        f"exact best of {ENUMERABLE:,} networks: {exact} of {cases} cases, {100 * exact / cases:.1f} %; "
        f"worst gap {worst:.4f}"
    )


def _part(space: SearchSpace, rng: np.random.Generator) -> SearchSpace:
    """Some genes free, the others at one value, so that about ENUMERABLE networks are left."""
    choices, left = {}, ENUMERABLE
    for position in rng.permutation(len(space.genes)):
        gene = space.genes[position]
        kept = min(len(gene.choices), 5, left)
        chosen = rng.choice(np.array(gene.choices), kept, replace=False)
        choices[gene.name] = tuple(sorted(map(int, chosen)))
        left //= kept
    return space.narrowed(choices)


def _all(space: SearchSpace) -> Iterator[Genomes]:
    genomes = np.array(list(product(*(gene.choices for gene in space.genes))), np.int64)
    yield from np.array_split(genomes, max(1, len(genomes) // 20_000))


if __name__ == "__main__":
    main()
