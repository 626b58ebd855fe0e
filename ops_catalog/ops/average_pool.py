"""Mean under a sliding window, channel by channel; padding does not count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ops_catalog.ops import pool
from ops_catalog.ops.contract import INPUT, Array, OnnxBuilder, TfliteBuilder
from ops_catalog.ops.window import pads_of, taps, tflite_padding
from ops_catalog.spec import OpSpec

ATTRIBUTES = pool.ATTRIBUTES
OUTPUT_QUANT = INPUT
check, output, macs, weights = pool.check, pool.output, pool.macs, pool.weights


def compute(op: OpSpec, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    total = sum(x for _, _, x in taps(op, inputs[0]))
    counted = sum(x for _, _, x in taps(op, np.ones_like(inputs[0])))
    return np.asarray(total / counted, np.float32)


def to_onnx(op: OpSpec, build: OnnxBuilder, inputs: Sequence[str]) -> str:
    return pool.to_onnx("AveragePool", op, build, inputs)


def to_tflite(op: OpSpec, build: TfliteBuilder, inputs: Sequence[str]) -> str:
    padding = tflite_padding(op)
    if padding is None:
        raise build.refuse(f"it pads average pools only as SAME or VALID, not by {pads_of(op)}")
    return pool.to_tflite("AVERAGE_POOL_2D", op, build, build.image(inputs[0]), padding)
