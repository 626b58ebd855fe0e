"""Operators as numbers, for predicting what they cost: sizes by their logarithm, kinds as yes or no.

Channels count as the target computes them: rounded up to the steps of its staircases, where these are known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from ops_catalog import ops
from ops_catalog.spec import OpSpec
from search.predictors import Array

Steps = Mapping[tuple[str, str], int]
"""Of an operator type and its axis (in, out): channels are computed in multiples of so many."""

LOGS = (
    "macs", "input", "output", "weights", "in_channels", "out_channels", "in_area", "out_area", "kernel", "stride",
)  # fmt: skip
SIZES = (*LOGS, "in_rest", "out_rest", "area_rest")
"""Logarithms, and what is left of channels and areas beyond whole blocks."""

KINDS = ("residual", "relu", "relu6", "other_activation", "grouped", "dilated", "plain", "blocked", "nhwc", "end")
BLOCK, AREA_BLOCK = 16, 8


def describe(op: OpSpec, context: str, steps: Steps) -> Array:
    """An operator in a context (p): SIZES, then KINDS."""
    return np.array([*_sizes(op, tuple(sorted(steps.items()))), *_kinds(op, context)])


def describe_all(rows: Sequence[tuple[OpSpec, str]], steps: Steps) -> Array:
    """Operators in their contexts (n x p)."""
    return np.array([describe(op, context, steps) for op, context in rows]).reshape(len(rows), len(SIZES) + len(KINDS))


def canonical(op: OpSpec, steps: Steps) -> tuple[object, ...]:
    """What two operators share that cost the same on a target with these steps."""
    made = ops.output(op).shape
    attributes = {name: value for name, value in op.attributes if name not in ("out_channels", "out_features")}
    channels = (_padded(_channels(op.inputs[0].shape), op, "in", steps), _padded(_channels(made), op, "out", steps))
    shapes = tuple(_without_channels(tensor.shape) for tensor in op.inputs)
    return (op.type, op.dtype, shapes, _without_channels(made), channels, tuple(sorted(attributes.items())))


@lru_cache(maxsize=1 << 16)
def _sizes(op: OpSpec, steps: tuple[tuple[tuple[str, str], int], ...]) -> tuple[float, ...]:
    known, a = dict(steps), ops.attributes(op)
    shape, made = op.inputs[0].shape, ops.output(op).shape
    inner, outer = _channels(shape), _channels(made)
    wide_in, wide_out = _padded(inner, op, "in", known), _padded(outer, op, "out", known)
    wider = wide_in * wide_out / (inner * outer) if ops.macs(op) else 1.0
    area_in, area_out = _area(shape), _area(made)
    logs = (
        ops.macs(op) * wider, sum(tensor.size for tensor in op.inputs), math.prod(made), ops.params(op), wide_in,
        wide_out, area_in, area_out, math.prod(a.get("kernel", (1, 1))), a.get("stride", (1, 1))[0],
    )  # fmt: skip
    rests = (inner % BLOCK / BLOCK, outer % BLOCK / BLOCK, area_out % AREA_BLOCK / AREA_BLOCK)
    return (*(math.log1p(value) for value in logs), *rests)


def _kinds(op: OpSpec, context: str) -> tuple[float, ...]:
    a = ops.attributes(op)
    activation = a.get("activation", "none")
    forms = set(context.rstrip(">").replace("+", ",").split(","))
    flags = (
        len(op.inputs) > 1, activation == "relu", activation == "relu6",
        activation not in ("none", "relu", "relu6"), a.get("groups", 1) > 1, max(a.get("dilation", (1, 1))) > 1,
        "plain" in forms, "blocked" in forms, "nhwc" in forms, context.endswith(">"),
    )  # fmt: skip
    return tuple(map(float, flags))


def _channels(shape: Sequence[int]) -> int:
    return shape[1] if len(shape) == 4 else shape[-1] if shape else 1


def _area(shape: Sequence[int]) -> int:
    return math.prod(shape) // max(1, _channels(shape))


def _without_channels(shape: Sequence[int]) -> tuple[int, ...]:
    return (*shape[:1], *shape[2:]) if len(shape) == 4 else tuple(shape[:-1])


def _padded(channels: int, op: OpSpec, axis: str, steps: Steps) -> int:
    step = steps.get((op.type, axis), 1)
    return -(-channels // step) * step
