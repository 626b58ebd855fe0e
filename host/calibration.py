"""From sums of operators to latencies of networks: the Target's calibration, and how good it is.

latency = scale * sum + ns_per_weight_byte * weight bytes + ns_per_node * native nodes, fitted on a few measured
networks by least squares on relative errors, with a ridge that pulls towards the plain sum.

Weights count because a network streams them from memory, while a single hot operator finds them in its cache. How many
of an operator's bytes that concerns depends on the machine: those that fit into its cache (the rest streamed in the
single operator, too), or all where the whole network exceeds the last cache. How much of it a few networks can tell
apart from noise differs as well. So several forms are tried, and the one is taken that predicts each network of the
fit best from the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lut_db.lut import Prices
from lut_db.records import Calibration

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

RIDGE = 0.02
USUAL_L2_BYTES = 1 << 20
GPU_ACCELERATORS = frozenset({"cuda", "tensorrt"})


@dataclass(frozen=True, slots=True)
class Form:
    """One way to count weights.

    Attributes:
        l2_share: an operator's bytes count up to this many times the second cache; None for all.
        per_byte_ns: how far the cost of a byte may stray before the ridge is felt; 0 for no such term.
    """

    l2_share: float | None
    per_byte_ns: float


FORMS = (Form(None, 0.0), Form(None, 0.02), Form(None, 0.06), Form(0.5, 0.06), Form(1.0, 0.06), Form(2.0, 0.06))
PER_NODE_NS = 500.0
"""How far the cost of a node may stray, where weights count at all."""


def features_of(prices: Sequence[Prices], cap_bytes: int | None = None) -> Array:
    """What a calibration sees of networks (n x 3): sum of operators in ns, weight bytes, native nodes."""
    return np.array(
        [[p.latency_ns.sum(), p.capped_weight_bytes(cap_bytes), p.native_nodes.sum()] for p in prices], float
    )


def predict(prices: Sequence[Prices], calibration: Calibration) -> Array:
    """Latencies of networks in ns (n)."""
    coefficients = (calibration.scale, calibration.ns_per_weight_byte, calibration.ns_per_node)
    return np.asarray(features_of(prices, calibration.weight_cap_bytes) @ np.array(coefficients), np.float64)


def fit(
    prices: Sequence[Prices], measured_ns: Array, names: Sequence[str], family: str, l2_bytes: int = USUAL_L2_BYTES
) -> Calibration:
    """The calibration of a few networks.

    Args:
        measured_ns: latency of each network (n).
        l2_bytes: size of the processor's second cache.
    """

    def relative(form: Form) -> Array:
        return features_of(prices, _cap(form, l2_bytes)) / measured_ns[:, None]

    form = min(FORMS, key=lambda form: _left_out_error(relative(form), form))
    coefficients = _solve(relative(form), form)
    residuals = relative(form) @ coefficients - 1.0
    scale, per_byte, per_node = (float(value) for value in coefficients)
    cap = _cap(form, l2_bytes)
    return Calibration(family, scale, per_byte, per_node, tuple(names), tuple(map(float, residuals)), cap)


def l2_bytes_of(machine: Mapping[str, Any], accelerator: str = "cpu") -> int:
    """The second cache of a machine, or of its GPU, as its agent read it; a usual size where it did not."""
    if accelerator in GPU_ACCELERATORS:
        return int(machine.get("gpu", {}).get("l2_bytes", USUAL_L2_BYTES))
    found = re.match(r"(\d+)([KM])", str(machine.get("caches", {}).get("L2 unified", "")))
    return int(found[1]) << (10 if found[2] == "K" else 20) if found else USUAL_L2_BYTES


def _cap(form: Form, l2_bytes: int) -> int | None:
    return None if form.l2_share is None else int(form.l2_share * l2_bytes)


def _solve(relative: Array, form: Form) -> Array:
    """Coefficients (3) that bring relative features (n x 3) nearest to 1."""
    pull = np.array([1.0, form.per_byte_ns, PER_NODE_NS if form.per_byte_ns else 0.0])
    start = np.array([1.0, 0.0, 0.0])
    system = np.vstack([relative * pull, np.sqrt(RIDGE) * np.eye(3)])
    rest = np.concatenate([1.0 - relative @ start, np.zeros(3)])
    step, *_ = np.linalg.lstsq(system, rest, rcond=None)
    return np.asarray(start + step * pull)


def _left_out_error(relative: Array, form: Form) -> float:
    """Mean relative error of each network under the fit of the others."""
    errors = [row @ _solve(np.delete(relative, i, axis=0), form) - 1.0 for i, row in enumerate(relative)]
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
