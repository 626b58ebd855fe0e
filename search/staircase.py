"""Staircases: a target computes channels in multiples of a step, so that 60 cost as much as 64.

A sweep measures one operator at many channel counts; the step is the largest under which latency is flat within each
tread and rises from tread to tread, told by the Bayesian information criterion against a straight line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from lut_db.lut import LatencyLut, resolve
from ops_catalog.build import single
from ops_catalog.ops import make_op
from ops_catalog.spec import OpSpec, TensorSpec
from search.predictors import Array

CANDIDATES = (8, 16, 32)
COUNTS = tuple(range(4, 133, 4))
SIDE, OTHER, WIDE = 28, 64, 4096
DEPTHWISE = ("depthwise_conv2d", "in")
"""Its channels go out as they come in."""

LEAST = 12
"""Fewer measured counts than this tell no step."""


def probes(dtype: str) -> Iterator[tuple[str, str, int, OpSpec]]:
    """What to measure: type, axis, channels, operator."""
    for count in COUNTS:
        image, narrow = TensorSpec((1, OTHER, SIDE, SIDE), dtype), TensorSpec((1, count, SIDE, SIDE), dtype)
        yield "conv2d", "out", count, make_op("conv2d", image, out_channels=count, kernel=(1, 1))
        yield "conv2d", "in", count, make_op("conv2d", narrow, out_channels=OTHER, kernel=(1, 1))
        yield "depthwise_conv2d", "in", count, make_op("depthwise_conv2d", narrow, kernel=(3, 3))
        yield "linear", "out", count, make_op("linear", TensorSpec((1, WIDE), dtype), out_features=count)


def detect(lut: LatencyLut) -> dict[tuple[str, str], int]:
    """The steps of a target whose probes were measured; an axis that shows none, or was not measured, is left out."""
    curves: dict[tuple[str, str], dict[int, float]] = {}
    for op_type, axis, count, op in probes(lut.target.dtype):
        if (latency := _latency(lut, op)) is not None:
            curves.setdefault((op_type, axis), {})[count] = latency
    found = {place: step_of(curve) for place, curve in curves.items() if len(curve) >= LEAST}
    steps = {place: step for place, step in found.items() if step > 1}
    if (step := steps.get(DEPTHWISE)) is not None:
        steps[DEPTHWISE[0], "out"] = step
    return steps


def step_of(curve: Mapping[int, float]) -> int:
    """The step of latencies by channel count; 1 where a straight line explains them as well."""
    counts = np.array(sorted(curve))
    latency = np.array([curve[count] for count in counts.tolist()])
    scores = {1: _criterion(latency, _line(counts))}
    for step in CANDIDATES:
        treads = -(-counts // step) * step
        if len(np.unique(treads)) < len(counts):
            scores[step] = _criterion(latency, _line(treads))
    best = min(scores.values())
    return max(step for step, score in scores.items() if score <= best + 2.0)


def _line(counts: Array) -> Array:
    """Offset, slope and bend (n x 3)."""
    return np.stack([np.ones(len(counts)), counts, counts**2], axis=1).astype(float)


def _criterion(latency: Array, design: Array) -> float:
    """n log(mean square) + parameters log(n), of relative errors."""
    relative = design / latency[:, None]
    solution, *_ = np.linalg.lstsq(relative, np.ones(len(latency)), rcond=None)
    square = float(((relative @ solution - 1.0) ** 2).mean())
    return len(latency) * float(np.log(max(square, 1e-8))) + design.shape[1] * float(np.log(len(latency)))


def _latency(lut: LatencyLut, op: OpSpec) -> float | None:
    (step,) = resolve(single(op), lut.lowerings)
    if step is None or any(key not in lut.by_key for key in step.natives):
        return None
    return sum(lut.by_key[key].latency_ns for key in step.natives)
