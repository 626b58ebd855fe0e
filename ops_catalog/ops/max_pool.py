"""Largest value under a sliding window, channel by channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np

from ops_catalog.ops import pool
from ops_catalog.ops.contract import INPUT, Array, OnnxBuilder, TfliteBuilder
from ops_catalog.ops.window import Pads
from ops_catalog.spec import OpSpec

ATTRIBUTES = pool.ATTRIBUTES
OUTPUT_QUANT = INPUT
check, output, macs, weights = pool.check, pool.output, pool.macs, pool.weights

LOWEST = -3.4e38


def compute(op: OpSpec, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    return np.asarray(reduce(np.maximum, pool.taps(op, inputs[0], -np.inf)))


def to_onnx(op: OpSpec, build: OnnxBuilder, inputs: Sequence[str]) -> str:
    return pool.to_onnx("MaxPool", op, build, inputs)


def to_tflite(op: OpSpec, build: TfliteBuilder, inputs: Sequence[str]) -> str:
    """Explicit padding is PADV2 with the lowest value, which no window can prefer."""

    def pad(x: str, needed: Pads) -> str:
        top, bottom, left, right = needed
        batch, channels, height, width = op.inputs[0].shape
        sizes = build.constant(np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32))
        lowest = build.like(x, LOWEST)
        shape = (batch, channels, height + top + bottom, width + left + right)
        return build.emit("PADV2", [x, sizes, lowest], shape, image=True, quant=build.quant_of(x))

    return pool.to_tflite("MAX_POOL_2D", op, build, inputs, pad)
