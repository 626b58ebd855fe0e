"""min(max(x, 0), 6) of every element."""

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
    return np.clip(inputs[0], 0, 6)


def to_onnx(op: OpSpec, build: OnnxBuilder, inputs: Sequence[str]) -> str:
    return build.node(
        "Clip", [inputs[0], build.constant(np.array(0, np.float32)), build.constant(np.array(6, np.float32))]
    )


def to_tflite(op: OpSpec, build: TfliteBuilder, inputs: Sequence[str]) -> str:
    return elementwise.to_tflite("RELU6", op, build, inputs)
