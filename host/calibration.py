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
PULLS = tuple(np.array(pull) for pull in ((1.0, 0.0, 0.0), (1.0, 0.02, 500.0), (1.0, 0.06, 500.0)))
"""How far each coefficient may stray before the ridge is felt: scale, ns per byte, ns per node.

Streaming weights from memory takes 0-60 us/MB on the machines this was tried on. How much of it a few networks can
tell apart from noise differs, so the one of these that predicts each network best from the others is taken.
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
    coefficients = _solve(relative, min(PULLS, key=lambda pull: _left_out_error(relative, pull)))
    residuals = relative @ coefficients - 1.0
    scale, per_byte, per_node = (float(value) for value in coefficients)
    return Calibration(family, scale, per_byte, per_node, tuple(names), tuple(map(float, residuals)))


def _solve(relative: Array, pull: Array) -> Array:
    """Coefficients (3) that bring relative features (n x 3) nearest to 1."""
    start = np.array([1.0, 0.0, 0.0])
    system = np.vstack([relative * pull, np.sqrt(RIDGE) * np.eye(3)])
    rest = np.concatenate([1.0 - relative @ start, np.zeros(3)])
    step, *_ = np.linalg.lstsq(system, rest, rcond=None)
    return np.asarray(start + step * pull)


def _left_out_error(relative: Array, pull: Array) -> float:
    """Mean relative error of each network under the fit of the others."""
    errors = [row @ _solve(np.delete(relative, i, axis=0), pull) - 1.0 for i, row in enumerate(relative)]
    return float(np.mean(np.abs(errors)))


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
