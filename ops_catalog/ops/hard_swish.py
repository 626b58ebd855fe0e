"""x * relu6(x + 3) / 6 of every element."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ops_catalog.ops import elementwise
from ops_catalog.ops.contract import OWN, Array, OnnxBuilder, TfliteBuilder
from ops_catalog.spec import OpSpec, Value

ATTRIBUTES: Mapping[str, Value] = {}
OUTPUT_QUANT = OWN
check, output, macs, weights = elementwise.check, elementwise.output, elementwise.macs, elementwise.weights


def compute(op: OpSpec, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    x = inputs[0]
    return x * np.clip(x + np.float32(3), 0, 6) / np.float32(6)


def to_onnx(op: OpSpec, build: OnnxBuilder, inputs: Sequence[str]) -> str:
    return build.node("HardSwish", inputs)


def to_tflite(op: OpSpec, build: TfliteBuilder, inputs: Sequence[str]) -> str:
    return elementwise.to_tflite("HARD_SWISH", op, build, inputs)
