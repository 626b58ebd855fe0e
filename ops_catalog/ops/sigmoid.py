"""1 / (1 + exp(-x)) of every element."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ops_catalog.ops import elementwise
from ops_catalog.ops.contract import Array, OnnxBuilder, TfliteBuilder
from ops_catalog.spec import OpSpec, Value

ATTRIBUTES: Mapping[str, Value] = {}
OUTPUT_QUANT = (1 / 256, -128)
check, output, macs, weights = elementwise.check, elementwise.output, elementwise.macs, elementwise.weights


def compute(op: OpSpec, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    return np.asarray(1 / (1 + np.exp(-inputs[0])), np.float32)


def to_onnx(op: OpSpec, build: OnnxBuilder, inputs: Sequence[str]) -> str:
    return build.node("Sigmoid", inputs)


def to_tflite(op: OpSpec, build: TfliteBuilder, inputs: Sequence[str]) -> str:
    return elementwise.to_tflite("LOGISTIC", op, build, inputs)
