"""The whole loop on real training and a really measured table, without any download: scikit-learn's digits, upsampled.

For each seed three ways to find the most accurate network under three latency limits, each with the same number of
trainings: ours (iterative sampling, Gaussian process, search; the last trainings go to the winners), random search, and
a hand-scaled grid of widths and depths. What is chosen is chosen by the held-out accuracy; what is reported is that on
the test set, of a training with another seed. Latencies of single operators are measured on this machine first.

    pip install chamnet[train]
    python -m benchmarks.closed_loop [--trainings 40] [--seeds 2] [--epochs 10] [--out table.md]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from host.devices import choose_cpus, find_unit
from host.profile import profile
from host.setting import Progress, Setting, Workload
from lut_db.samples import AccuracySample, open_samples
from lut_db.store import open_store
from search.cells import Arithmetic, Array, build_cells
from search.cost import CostModel
from search.evaluators import Options
from search.evaluators.torch_trainer import TorchTrainer, open_evaluator
from search.evolution import Objective, evolve
from search.features import search_inputs
from search.predictors import fit_predictor
from search.sampling import Plan, sample_rounds
from search.spaces import space_named
from search.spaces.space import Genome, Genomes, SearchSpace, parse_genome

SPACE = Path(__file__).parent / "digits.toml"
QUANTILES = (0.1, 0.3, 0.6)
"""Of the latencies of random networks: the three limits."""

PER_ROUND, FOR_EACH_LIMIT = 7, 2
"""Trainings of a round of sampling, and of a round of winners for each limit."""

TRAINED_IMAGES = 1000
FINAL_SEEDS = 3

Found = dict[Genome, float]
"""Held-out accuracies of trained networks."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainings", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=Path, help="write the table here, as Markdown")
    asked = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        table = run(Path(folder), asked.trainings, asked.seeds, asked.epochs)
    text = f"{table}\n\n{asked.seeds} seeds, {asked.trainings} trainings of {asked.epochs} epochs each, "
    text += f"{(time.perf_counter() - start) / 60:.0f} minutes in all.\n"
    print(text)
    if asked.out is not None:
        asked.out.write_text(text)


def run(folder: Path, trainings: int, seeds: int, epochs: int) -> str:
    space = space_named(str(SPACE))
    write_digits(folder / "digits.npz")
    model = measured_costs(space, folder / "lut.db")
    sample = space.sample_many(np.random.default_rng(0), 4000)
    limits = np.quantile(model.latency_ns(sample), QUANTILES)
    results: dict[str, list[list[float]]] = {name: [[] for _ in limits] for name in WAYS}
    for seed in range(seeds):
        for name, way in WAYS.items():
            trainer = open_evaluator(space, Options(str(folder / "digits.npz"), epochs=epochs, seed=seed))
            found = way(trainer, model, limits, trainings, folder / f"{seed}.db")
            for row, limit in enumerate(limits):
                results[name][row].append(final_accuracy(space, folder, epochs, best_within(found, model, limit)))
            print(f"seed {seed} {name}: {[round(values[-1], 2) for values in results[name]]}", flush=True)
    return as_table(results, limits)


def write_digits(path: Path) -> None:
    """8 x 8 digits as 16 x 16 images; few to train on, so that networks differ."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.kron(digits.images, np.ones((2, 2))) * (255 / 16)
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order].astype(np.uint8), digits.target[order]
    train, test = slice(0, TRAINED_IMAGES), slice(TRAINED_IMAGES, None)
    np.savez(path, x_train=images[train], y_train=labels[train], x_test=images[test], y_test=labels[test])


def measured_costs(space: SearchSpace, db: Path) -> CostModel:
    """Measures every operator of the space on this machine."""
    with open_store(db) as store:
        setting = Setting("litert", choose_cpus(1, []))
        summary = profile(
            store, find_unit("local-cpu"), setting, Workload(operators=tuple(space.operators())), Progress()
        )
        return CostModel(build_cells(space), store.lut(store.target_named(summary.target)))


def ours(trainer: TorchTrainer, model: CostModel, limits: Array, trainings: int, db: Path) -> Found:
    """Iterative sampling, then rounds of the networks predicted best under each limit, learning from each round."""
    space, arithmetic = model.space, Arithmetic(model.cells)
    rounds = (trainings - 2 * FOR_EACH_LIMIT * len(limits)) // PER_ROUND
    with open_samples(db) as store:
        blank = AccuracySample(space.name, "", "digits", trainer.recipe, None)
        plan = Plan(rounds, PER_ROUND, seed=trainer.seed)
        sample_rounds(store, blank, space, arithmetic, trainer, plan, lambda state: None)
        found = {
            parse_genome(s.genome): s.accuracy_percent
            for s in store.samples(space.name)
            if s.accuracy_percent is not None
        }
    while len(found) < trainings:
        promising = _promising(found, model, limits, trainer.seed)[: FOR_EACH_LIMIT * len(limits)]
        found |= _trained(trainer, promising[: trainings - len(found)])
    return found


def _promising(found: Found, model: CostModel, limits: Array, seed: int) -> list[Genome]:
    """New networks, the best predicted of every limit first, then the second best."""
    arithmetic = Arithmetic(model.cells)
    genomes = np.array(list(found), np.int64)
    predictor = fit_predictor("gp", search_inputs(arithmetic, genomes), np.array(list(found.values())))
    objective = Objective(
        model.space,
        lambda g: predictor.predict(search_inputs(arithmetic, g)),
        lambda g: model.latency_ns(g)[:, None],
        limits[:, None],
    )
    evolved = evolve(objective, np.random.default_rng((seed, len(found))))
    ordered = [tuple(map(int, g)) for place in range(8) for g in evolved.genomes[:, place]]
    new = [genome for genome in dict.fromkeys(ordered) if genome not in found and any(genome)]
    return new or [model.space.sample(np.random.default_rng((seed, len(found))))]


def random_search(trainer: TorchTrainer, model: CostModel, limits: Array, trainings: int, db: Path) -> Found:
    """Random networks, as many below each limit."""
    rng, chosen = np.random.default_rng(trainer.seed), {}
    while len(chosen) < trainings:
        genome = model.space.sample(rng)
        latency, limit = model.latency_ns(np.array([genome]))[0], limits[len(chosen) % len(limits)]
        if latency <= limit:
            chosen[genome] = None
    return _trained(trainer, list(chosen))


def hand_scaled(trainer: TorchTrainer, model: CostModel, limits: Array, trainings: int, db: Path) -> Found:
    """One network scaled in width, expansion, depth, kernel and resolution together, from small to large."""
    space = model.space
    grid: dict[Genome, None] = {}
    for step in np.linspace(0, 1, 40 * trainings):
        for shift in (0.0, 0.25, -0.25):
            grid[tuple(_scaled(gene.name, gene.choices, step, shift) for gene in space.genes)] = None
    genomes = np.array(list(grid), np.int64)
    within = genomes[model.latency_ns(genomes) <= limits.max()]
    kept = within[np.unique(np.linspace(0, len(within) - 1, trainings).round().astype(int))]
    return _trained(trainer, [tuple(map(int, genome)) for genome in kept])


def _scaled(name: str, choices: tuple[int, ...], step: float, shift: float) -> int:
    """Widths lean one way, depths and expansions the other."""
    place = step + (shift if "channels" in name else -shift)
    return choices[int(np.clip(place * len(choices), 0, len(choices) - 1))]


WAYS: dict[str, Callable[[TorchTrainer, CostModel, Array, int, Path], Found]] = {
    "ours": ours, "random search": random_search, "hand-scaled": hand_scaled,
}  # fmt: skip


def _trained(trainer: TorchTrainer, genomes: list[Genome]) -> Found:
    return {e.genome: e.accuracy_percent for e in trainer.evaluate(genomes) if e.accuracy_percent is not None}


def best_within(found: Found, model: CostModel, limit: float) -> Genome:
    """The one with the best held-out accuracy among those within the limit."""
    genomes: Genomes = np.array(list(found), np.int64)
    met = model.latency_ns(genomes) <= limit
    accuracy = np.where(met, np.array(list(found.values())), -np.inf)
    return tuple(map(int, genomes[int(accuracy.argmax())]))


def final_accuracy(space: SearchSpace, folder: Path, epochs: int, genome: Genome) -> float:
    """Accuracy on the test set, mean of trainings with seeds of their own."""
    runs = [
        open_evaluator(space, Options(str(folder / "digits.npz"), epochs=epochs, seed=100 + seed)).train(genome)
        for seed in range(FINAL_SEEDS)
    ]
    return float(np.mean([run.test_percent for run in runs]))


def as_table(results: dict[str, list[list[float]]], limits: Array) -> str:
    heads = " | ".join(f"<= {limit / 1e3:.0f} us" for limit in limits)
    rows = [f"| test accuracy, % | {heads} |", "|---|" + "---|" * len(limits)]
    for name, per_limit in results.items():
        cells = " | ".join(f"{np.mean(values):.2f} +- {np.std(values):.2f}" for values in per_limit)
        rows.append(f"| {name} | {cells} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
