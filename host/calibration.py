"""From sums of operators to latencies of networks: the Target's calibration, and how good it is.

latency = scale * sum + ns_per_weight_byte * weight bytes + ns_per_node * native nodes, fitted on a few measured
networks by least squares on relative errors, with a ridge that pulls towards the plain sum. Weights count because a
network streams them from memory that a single hot operator keeps in cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lut_db.records import Calibration

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

RIDGE = 0.02
PULL = np.array([1.0, 0.06, 500.0])
"""How far each coefficient may stray before the ridge is felt: scale, ns per byte, ns per node.

Streaming weights from memory takes 20-60 us/MB on the machines this was tried on: tighter, ResNets are predicted 1-2
points worse, looser, small networks suffer.
"""


@dataclass(frozen=True, slots=True)
class Features:
    """What a calibration sees of networks: one row each (n x 3): sum of operators in ns, weight bytes, native nodes."""

    rows: Array

    def predict(self, calibration: Calibration) -> Array:
        """Latencies in ns (n)."""
        weights = (calibration.scale, calibration.ns_per_weight_byte, calibration.ns_per_node)
        return np.asarray(self.rows @ np.array(weights), np.float64)


def fit(features: Features, measured_ns: Array, names: Sequence[str], family: str) -> Calibration:
    """The calibration of a few networks.

    Args:
        measured_ns: latency of each network (n).
    """
    relative = features.rows / measured_ns[:, None]
    start = np.array([1.0, 0.0, 0.0])
    system = relative * PULL
    rest = 1.0 - relative @ start
    ridge = np.sqrt(RIDGE) * np.eye(3)
    step, *_ = np.linalg.lstsq(np.vstack([system, ridge]), np.concatenate([rest, np.zeros(3)]), rcond=None)
    scale, per_byte, per_node = (float(value) for value in start + step * PULL)
    residuals = relative @ np.array([scale, per_byte, per_node]) - 1.0
    return Calibration(family, scale, per_byte, per_node, tuple(names), tuple(map(float, residuals)))


def error_metrics(predicted: Array, measured: Array) -> dict[str, float]:
    """How well predictions meet measurements, in percent but for the rank correlation."""
    from scipy.stats import spearmanr

    relative = predicted / measured - 1.0
    size = np.abs(relative)
    return {
        "mape": 100 * float(size.mean()),
        "bias": 100 * float(relative.mean()),
        "spearman": float(spearmanr(predicted, measured).statistic) if len(measured) > 2 else float("nan"),
        "within_5": 100 * float((size <= 0.05).mean()),
        "within_10": 100 * float((size <= 0.10).mean()),
        "worst": 100 * float(size.max()),
    }


def fit_scale(values: Array, measured: Array) -> float:
    """The factor that turns values (such as MACs) into latencies with the least relative error."""
    ratio = values / measured
    return float(ratio.sum() / (ratio**2).sum())
