"""How well energies of whole networks are predicted: errors and coverage on networks that no model ever saw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lut_db.errors import LutError
from search.predictors import Z95, Array
from search.predictors.network_power import Networks, fit_direct, fit_power

TEN = 10
"""Networks that the power of the baseline comes from."""

Predicted = tuple[Array, Array]
"""Energies in mJ, and standard deviations of their logarithms."""


def power_gp(known: Networks, unseen: Networks) -> Predicted:
    """Ours: processes of log power, averaged by their evidence."""
    return fit_power(known).predict(unseen)


def energy_gp(known: Networks, unseen: Networks) -> Predicted:
    """One process of log energy, from genes and latency."""
    return fit_direct(known).predict(unseen)


def pooled_power(known: Networks, unseen: Networks) -> Predicted:
    """The mean power of all known networks, times latency."""
    return _constant(known, unseen)


def constant_power(known: Networks, unseen: Networks) -> Predicted:
    """The mean power of the first ten, times latency."""
    return _constant(known.part(np.arange(TEN)), unseen)


MODELS: dict[str, Callable[[Networks, Networks], Predicted]] = {
    "power-gp": power_gp,
    "constant-power": constant_power,
    "pooled-power": pooled_power,
    "energy-gp": energy_gp,
}


def evaluate_energy(train: Networks, test: Networks, sizes: Sequence[int], seeds: int) -> list[dict[str, Any]]:
    """Every model on random training samples of these sizes, means over the seeds; a larger sample holds the smaller.

    Raises:
        LutError: a size below ten or beyond the training networks, or networks that are in both.
    """
    if min(sizes) < TEN or max(sizes) > len(train):
        raise LutError(
            f"--n must be from {TEN} to the {len(train)} networks to train on, but got {','.join(map(str, sizes))}"
        )
    check_apart(train, test)
    orders = [np.random.default_rng(seed).permutation(len(train)) for seed in range(seeds)]
    found = []
    for name, model in MODELS.items():
        for size in sizes:
            runs = [errors_of(*model(train.part(order[:size]), test), test.energy_mj) for order in orders]
            means = {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}
            found.append({"model": name, "n": size, **means})
    return found


def check_apart(train: Networks, test: Networks) -> None:
    """Raises LutError where a network to test on, with its very values, is one to train on, too."""
    known = {_row(train, i): i for i in range(len(train))}
    both = [(known[_row(test, i)], i) for i in range(len(test)) if _row(test, i) in known]
    if both:
        raise LutError(
            f"networks to test on must not be among those to train on, but {len(both)} of {len(test)} are, such as "
            f"row {both[0][1] + 1} of the test file, row {both[0][0] + 1} of the training file; leave them out of one"
        )


def _row(networks: Networks, i: int) -> tuple[float, ...]:
    return (*map(float, networks.genes[i]), float(networks.lat_ms[i]), float(networks.energy_mj[i]))


def _constant(known: Networks, unseen: Networks) -> Predicted:
    from scipy.stats import t

    power = known.energy_mj / known.lat_ms
    wider = float(t.ppf(0.975, len(power) - 1)) / Z95 * np.sqrt(1.0 + 1.0 / len(power))
    error = float(np.log(power).std(ddof=1)) * wider
    return power.mean() * unseen.lat_ms, np.full(len(unseen), error)


def errors_of(predicted: Array, error: Array, truth: Array) -> dict[str, float]:
    """Mean and median absolute error in percent, share within the 95 % interval."""
    off = 100.0 * np.abs(predicted / truth - 1.0)
    inside = np.abs(np.log(truth / predicted)) <= Z95 * error
    return {"mape": float(off.mean()), "median_ape": float(np.median(off)), "coverage95": float(inside.mean())}
