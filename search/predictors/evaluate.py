"""How well predictors do on networks they never saw: error, rank correlation, coverage of their intervals, speed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from lut_db.errors import LutError
from search.predictors import PREDICTORS, Z95, Array, Inputs, Predictor, fit_predictor


def evaluate(
    train: Inputs, train_percent: Array, test: Inputs, test_percent: Array, sizes: Sequence[int], seeds: int
) -> list[dict[str, Any]]:
    """Every predictor on random training samples of these sizes, means over the seeds.

    Raises:
        LutError: fewer training networks than asked for.
    """
    if max(sizes) > len(train):
        raise LutError(f"--n must be at most the {len(train)} networks to train on, but got {max(sizes)}")
    found = []
    for name in PREDICTORS:
        for size in sizes:
            runs = []
            for seed in range(seeds):
                rows = np.random.default_rng(seed).choice(len(train), size, replace=False)
                runs.append(_run(name, train.part(rows), train_percent[rows], test, test_percent, seed))
            found.append({"model": name, "n": size, **_means(runs)})
    return found


def _run(name: str, train: Inputs, percent: Array, test: Inputs, truth: Array, seed: int) -> dict[str, float | None]:
    start = time.perf_counter()
    predictor = fit_predictor(name, train, percent, seed)
    fit_s = time.perf_counter() - start
    mean, std = predictor.predict_std(test)
    return {**scores(mean, std, truth), "fit_s": fit_s, "predictions_per_s": _rate(predictor, test)}


def scores(mean: Array, std: Array | None, truth: Array) -> dict[str, float | None]:
    """Root mean square error in percent points, rank correlations, share within the 95 % interval."""
    from scipy.stats import kendalltau, spearmanr

    error = mean - truth
    return {
        "rmse": float(np.sqrt((error**2).mean())),
        "kendall_tau": float(kendalltau(mean, truth).statistic),
        "spearman": float(spearmanr(mean, truth).statistic),
        "coverage95": None if std is None else float((np.abs(error) <= Z95 * std).mean()),
    }


def _rate(predictor: Predictor, test: Inputs) -> float:
    """Predictions a second, in batches as a search asks for them."""
    rows = np.resize(np.arange(len(test)), 20_000)
    many = test.part(rows)
    start = time.perf_counter()
    predictor.predict(many)
    return len(rows) / (time.perf_counter() - start)


def _means(runs: Sequence[dict[str, float | None]]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for key in runs[0]:
        values = [run[key] for run in runs]
        known = [value for value in values if value is not None]
        found[key] = float(np.mean(known)) if known else None
    return found
