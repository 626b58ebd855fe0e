"""Largest value under a sliding window, channel by channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np

from ops_catalog.ops import pool
from ops_catalog.ops.contract import INPUT, Array, OnnxBuilder, TfliteBuilder
from ops_catalog.ops.window import taps, tflite_padded, tflite_padding
from ops_catalog.spec import OpSpec

ATTRIBUTES = pool.ATTRIBUTES
OUTPUT_QUANT = INPUT
check, output, macs, weights = pool.check, pool.output, pool.macs, pool.weights

LOWEST = -3.4e38


def compute(op: OpSpec, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    return np.asarray(reduce(np.maximum, (x for _, _, x in taps(op, inputs[0], -np.inf))))


def to_onnx(op: OpSpec, build: OnnxBuilder, inputs: Sequence[str]) -> str:
    return pool.to_onnx("MaxPool", op, build, inputs)


def to_tflite(op: OpSpec, build: TfliteBuilder, inputs: Sequence[str]) -> str:
    """Explicit padding has the lowest value, which no window can prefer."""
    fill = None if tflite_padding(op) else build.like(inputs[0], LOWEST)
    return pool.to_tflite("MAX_POOL_2D", op, build, *tflite_padded(op, build, inputs[0], fill))
