"""int8: a scale and a zero point for every tensor of a network, the same in every file format.

``assumed`` takes ranges for granted: latency does not depend on values. ``calibrated`` observes them by computing
the network in NumPy. real = scale * (stored - zero point); weights are symmetric, with a scale per output channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ops_catalog import ops
from ops_catalog.build import expand
from ops_catalog.export.weights import make_weights
from ops_catalog.ops.contract import INPUT, Array
from ops_catalog.spec import Graph, Node

LOW, HIGH = -128, 127
ASSUMED_RANGE = (-4.0, 4.0)
RELU6_RANGE = (0.0, 6.0)

Quant = tuple[float, int]


@dataclass(frozen=True, slots=True)
class QuantWeight:
    """An int8 constant: values, and the scale of each index of ``axis`` (one scale where axis is None)."""

    values: Array
    scales: Array
    axis: int | None


def from_range(low: float, high: float) -> Quant:
    """Scale and zero point of a range, widened to hold zero exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / (HIGH - LOW) or 1.0
    scale = float(np.float32(scale))
    return scale, round(LOW - low / scale)


def assumed(graph: Graph) -> dict[str, Quant]:
    """Quantisation of every tensor of the expanded Graph, from assumed ranges."""
    return _propagate(expand(graph), {})


def calibrated(graph: Graph, seed: int = 0, samples: int = 2) -> dict[str, Quant]:
    """Quantisation from the ranges that seeded normal inputs lead to."""
    expanded = expand(graph)
    rng = np.random.default_rng(seed)
    ranges: dict[str, tuple[float, float]] = {}
    for _ in range(samples):
        inputs = {name: rng.standard_normal(tensor.shape, dtype=np.float32) for name, tensor in graph.inputs}
        for name, values in evaluate(expanded, inputs, seed).items():
            low, high = ranges.get(name, (0.0, 0.0))
            ranges[name] = (min(low, float(values.min())), max(high, float(values.max())))
    return _propagate(expanded, ranges)


def evaluate(
    graph: Graph, inputs: Mapping[str, Array], seed: int = 0, quant: Mapping[str, Quant] | None = None
) -> dict[str, Array]:
    """Every tensor of a network, computed in NumPy float32.

    Args:
        quant: with it, weights and every tensor are rounded as an int8 model would: the reference of int8 exports.
    """
    values = {name: fake(array, quant[name]) if quant else array for name, array in inputs.items()}
    for index, node in enumerate(expand(graph).nodes):
        weights = make_weights(seed, node.op, index)
        if quant:
            weights = {name: _round_weight(node, name, array) for name, array in weights.items()}
        result = ops.operator(node.op.type).compute(node.op, [values[name] for name in node.inputs], weights)
        values[node.output] = fake(result, quant[node.output]) if quant else np.asarray(result, np.float32)
    return values


def store(array: Array, quant: Quant) -> Array:
    """float32 -> int8, rounding half to even and saturating."""
    scale, zero = quant
    return np.asarray(np.clip(np.rint(array / np.float32(scale)) + zero, LOW, HIGH), np.int8)


def load(array: Array, quant: Quant) -> Array:
    """int8 -> float32."""
    scale, zero = quant
    return np.asarray((array.astype(np.float32) - np.float32(zero)) * np.float32(scale))


def fake(array: Array, quant: Quant) -> Array:
    """What is left of float values after they were stored as int8."""
    return load(store(array, quant), quant)


def quantise_weight(array: Array, axis: int | None) -> QuantWeight:
    """Symmetric int8 values in -127..127."""
    others = tuple(i for i in range(array.ndim) if i != axis) if axis is not None else None
    peak = np.abs(array).max(axis=others)
    scales = np.atleast_1d(np.where(peak > 0, peak / HIGH, 1.0)).astype(np.float32)
    shape = [-1 if i == axis else 1 for i in range(array.ndim)]
    spread = scales.reshape(shape) if axis is not None else scales[0]
    return QuantWeight(np.clip(np.rint(array / spread), -HIGH, HIGH).astype(np.int8), scales, axis)


def _round_weight(node: Node, name: str, array: Array) -> Array:
    weight = next(weight for weight in ops.weights(node.op) if weight.name == name)
    if weight.fan_in == 0:
        return array
    rounded = quantise_weight(array, weight.channel_axis)
    shape = [-1 if i == rounded.axis else 1 for i in range(array.ndim)]
    scales = rounded.scales.reshape(shape) if rounded.axis is not None else rounded.scales[0]
    return rounded.values.astype(np.float32) * scales


def _propagate(graph: Graph, ranges: Mapping[str, tuple[float, float]]) -> dict[str, Quant]:
    quant = {name: from_range(*ranges.get(name, ASSUMED_RANGE)) for name, _ in graph.inputs}
    for node in graph.nodes:
        kind = ops.operator(node.op.type).OUTPUT_QUANT
        if isinstance(kind, tuple):
            quant[node.output] = kind
        elif kind == INPUT:
            quant[node.output] = quant[node.inputs[0]]
        else:
            quant[node.output] = _own(node, ranges)
    return quant


def _own(node: Node, ranges: Mapping[str, tuple[float, float]]) -> Quant:
    low, high = ranges.get(node.output, ASSUMED_RANGE)
    activation = node.op.type if node.op.type.startswith("relu") else ops.attributes(node.op).get("activation", "none")
    if activation == "relu6":
        return from_range(*RELU6_RANGE)
    return from_range(0.0 if activation == "relu" else low, high)
