"""relu6(x + 3) / 6 of every element."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ops_catalog.ops import elementwise
from ops_catalog.ops.contract import Array, OnnxBuilder, TfliteBuilder
from ops_catalog.spec import OpSpec, Value

ATTRIBUTES: Mapping[str, Value] = {}
OUTPUT_QUANT = (1 / 255, -128)
RELU6_QUANT = (6 / 255, -128)
check, output, macs, weights = elementwise.check, elementwise.output, elementwise.macs, elementwise.weights


def compute(op: OpSpec, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    return np.clip(inputs[0] / np.float32(6) + np.float32(0.5), 0, 1)


def to_onnx(op: OpSpec, build: OnnxBuilder, inputs: Sequence[str]) -> str:
    return build.node("HardSigmoid", inputs, alpha=1 / 6, beta=0.5)


def to_tflite(op: OpSpec, build: TfliteBuilder, inputs: Sequence[str]) -> str:
    """TFLite has no such builtin: x + 3 activated by relu6, then a sixth of it."""
    image, shape = build.is_image(inputs[0]), op.inputs[0].shape
    one = (1,) * len(shape)
    fused = {"FusedActivationFunction": "RELU6"}
    three, sixth = build.operand(np.full(one, 3.0)), build.operand(np.full(one, 1 / 6))
    shifted = build.emit(
        "ADD", [inputs[0], three], shape, fused, image=image, quant=RELU6_QUANT if build.int8 else None
    )
    return build.emit("MUL", [shifted, sixth], shape, {"FusedActivationFunction": "NONE"}, image=image)
