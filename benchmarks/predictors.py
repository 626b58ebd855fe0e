"""Accuracy predictors in one run: ours, gradient boosting, ridge, and scikit-learn's Gaussian process, on the
benchmarks' trained networks; then iterative sampling against random samples, and the regret of picks under limits.

    python -m benchmarks.predictors [--seeds 8] [--macro FILE.csv]

mbconv: the shipped Accel-NASBench networks, the last 1000 for testing. macro: a CSV file of NAS-Bench-Macro with
columns arch, acc1, params, flops.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from search.builtin import builtin_samples
from search.cells import Arithmetic, Array, build_cells
from search.features import search_inputs
from search.predictors import Inputs, gp
from search.predictors.design import learn_design
from search.predictors.evaluate import evaluate, scores
from search.samples import training_set
from search.sampling import choose
from search.spaces import space_named

TESTED = 1000
SIZES = (30, 60, 120, 240)
LIMITS, VERIFIED = 20, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--macro", type=Path)
    asked = parser.parse_args()
    networks, accuracy = mbconv()
    show("mbconv", networks, accuracy, asked.seeds)
    if asked.macro is not None:
        networks, accuracy, flops = macro(asked.macro)
        show("macro", networks, accuracy, asked.seeds)
        show_regret(networks, accuracy, flops, asked.seeds)


def mbconv() -> tuple[Inputs, Array]:
    space = space_named("mbconv")
    training = training_set(space, builtin_samples("mbconv"))
    return search_inputs(Arithmetic(build_cells(space)), training.genomes), training.accuracy_percent


def macro(path: Path) -> tuple[Inputs, Array, Array]:
    """In random order: the file is sorted."""
    space = space_named("macro")
    with path.open() as lines:
        rows = list(csv.DictReader(lines))
    order = np.random.default_rng(0).permutation(len(rows))
    genomes = np.array([[int(digit) for digit in rows[i]["arch"]] for i in order])
    assert space.same is not None
    inputs = search_inputs(Arithmetic(build_cells(space)), space.same(genomes))
    columns = [np.array([float(rows[i][name]) for i in order]) for name in ("acc1", "flops")]
    return inputs, columns[0], columns[1]


def show(name: str, networks: Inputs, accuracy: Array, seeds: int) -> None:
    train, test = np.arange(len(networks) - TESTED), np.arange(len(networks) - TESTED, len(networks))
    rows = evaluate(networks.part(train), accuracy[train], networks.part(test), accuracy[test], SIZES, seeds)
    for strategy in ("mixed", "variance"):
        rows += _iterative(networks, accuracy, train, test, strategy, seeds)
    rows += _library(networks, accuracy, train, test, seeds)
    print(f"{name:20s}    n   rmse    tau  coverage   fit s")
    for row in rows:
        coverage = "" if row["coverage95"] is None else f"{row['coverage95']:.2f}"
        numbers = f"{row['rmse']:6.3f} {row['kendall_tau']:6.3f} {coverage:>9s} {row['fit_s']:7.2f}"
        print(f"{row['model']:20s} {row['n']:4d} {numbers}")


def _iterative(
    networks: Inputs, accuracy: Array, train: Array, test: Array, strategy: str, seeds: int
) -> list[dict[str, Any]]:
    found: dict[int, list[list[float]]] = {size: [] for size in SIZES[1:]}
    for seed in range(seeds):
        for known in rounds(networks, accuracy, train, strategy, seed):
            if len(known) in found:
                found[len(known)].append(_scores(gp.fit, networks, accuracy, known, test))
    return [_row(f"gp, {strategy}", size, runs) for size, runs in found.items()]


def rounds(networks: Inputs, accuracy: Array, pool: Array, strategy: str, seed: int) -> Iterator[Array]:
    """Networks known after each round: ten more from twenty on, twenty more from sixty on, to the largest size."""
    known = np.random.default_rng(seed).choice(pool, 20, replace=False)
    while len(known) < SIZES[-1]:
        process, left = gp.fit(networks.part(known), accuracy[known]), np.setdiff1d(pool, known)
        count = 10 if len(known) < 60 else 20
        last = strategy == "mixed" and len(known) + count >= SIZES[-1]
        rows = choose(process, networks.part(left), float(accuracy[known].max()), strategy, count, last)
        known = np.concatenate([known, left[rows]])
        yield known


def _library(networks: Inputs, accuracy: Array, train: Array, test: Array, seeds: int) -> list[dict[str, Any]]:
    """scikit-learn's process with the same kernel, its hyper-parameters at their likeliest, without priors."""
    runs: dict[int, list[list[float]]] = {60: [], 240: []}
    for size, found in runs.items():
        for seed in range(min(seeds, 4)):
            rows = np.random.default_rng(seed).choice(train, size, replace=False)
            found.append(_scores(_fit_library, networks, accuracy, rows, test))
    return [_row("scikit-learn gp", size, found) for size, found in runs.items()]


class _Library:
    def __init__(self, design: Any, model: Any, ceiling: float) -> None:
        self.design, self.model, self.ceiling = design, model, ceiling

    def predict_std(self, inputs: Inputs) -> tuple[Array, Array]:
        mean, std = self.model.predict(self.design.numbers(inputs), return_std=True)
        accuracy = self.ceiling - np.exp(-mean)
        return accuracy, (self.ceiling - accuracy) * np.sqrt(np.expm1(std**2))


def _fit_library(inputs: Inputs, accuracy: Array) -> _Library:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern, WhiteKernel

    design = learn_design(inputs)
    numbers = design.numbers(inputs)
    kernel = ConstantKernel() * Matern(np.ones(numbers.shape[1]), nu=2.5) + DotProduct() + WhiteKernel(0.1)
    model = GaussianProcessRegressor(kernel, normalize_y=True)
    return _Library(design, model.fit(numbers, -np.log(gp.HIGHEST - accuracy)), gp.HIGHEST)


def _scores(fit: Callable[..., Any], networks: Inputs, accuracy: Array, rows: Array, test: Array) -> list[float]:
    start = time.perf_counter()
    process = fit(networks.part(rows), accuracy[rows])
    seconds = time.perf_counter() - start
    found = scores(*process.predict_std(networks.part(test)), accuracy[test])
    return [float(found[name] or 0.0) for name in ("rmse", "kendall_tau", "coverage95")] + [seconds]


def _row(model: str, size: int, runs: list[list[float]]) -> dict[str, Any]:
    means = np.mean(runs, axis=0)
    return {"model": model, "n": size, **dict(zip(("rmse", "kendall_tau", "coverage95", "fit_s"), means, strict=True))}


def show_regret(networks: Inputs, accuracy: Array, flops: Array, seeds: int) -> None:
    """Best accuracy within a limit less that of the pick, over all rows; limits are quantiles of FLOPs."""
    limits = np.quantile(flops, np.linspace(0, 1, LIMITS + 1)[1:])
    for strategy in ("random", "mixed", "variance"):
        first, verified = [], []
        for seed in range(seeds):
            every = np.arange(len(networks))
            rows = np.random.default_rng(seed).choice(every, SIZES[-1], replace=False)
            if strategy != "random":
                *_, rows = rounds(networks, accuracy, every, strategy, seed)
            predicted = gp.fit(networks.part(rows), accuracy[rows]).predict(networks)
            for limit in limits:
                within = np.flatnonzero(flops <= limit)
                best = accuracy[within].max()
                top = within[np.argsort(-predicted[within], kind="stable")[:VERIFIED]]
                first.append(best - accuracy[top[0]])
                verified.append(best - accuracy[top].max())
        print(
            f"macro, {strategy}: regret of the pick under {LIMITS} limits {np.mean(first):.3f}, of the best of the top "
            f"{VERIFIED} once trained {np.mean(verified):.3f}"
        )


if __name__ == "__main__":
    main()
