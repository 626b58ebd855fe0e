"""Pareto fronts."""

from __future__ import annotations

import numpy as np

from search.cells import Array


def front(accuracy: Array, costs: Array) -> Array:
    """Positions of what nothing beats: no other is at least as accurate and as cheap in all, and better in one.

    Args:
        accuracy: n.
        costs: n x m.

    Returns:
        Ascending positions; of equals the first.
    """
    kept = []
    for i in range(len(accuracy)):
        no_worse = (accuracy >= accuracy[i]) & (costs <= costs[i]).all(axis=1)
        better = (accuracy > accuracy[i]) | (costs < costs[i]).any(axis=1)
        earlier = np.arange(len(accuracy)) < i
        if not (no_worse & (better | earlier)).any():
            kept.append(i)
    return np.array(kept, np.int64)
