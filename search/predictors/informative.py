"""Which outcomes would tell a Gaussian process the most."""

from __future__ import annotations

import numpy as np

from search.predictors import Array, Inputs
from search.predictors.gp import GaussianProcess


def most_informative(process: GaussianProcess, inputs: Inputs, count: int) -> Array:
    """Rows (count) of the largest variance, each once the outcomes of those before it are taken as known.

    References:
        Krause, Singh & Guestrin, Near-optimal sensor placements in Gaussian processes, JMLR 2008.
    """
    covariance = process.covariance(inputs)
    noise = process.noise
    chosen: list[int] = []
    for _ in range(min(count, len(inputs))):
        variance = np.diag(covariance).copy()
        variance[chosen] = -np.inf
        row = int(variance.argmax())
        chosen.append(row)
        column = covariance[:, row]
        covariance = covariance - np.outer(column, column) / (column[row] + noise)
    return np.array(chosen, np.int64)
