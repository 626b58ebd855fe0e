"""x * sigmoid(x) of every element."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ops_catalog.ops import elementwise
from ops_catalog.ops.contract import OWN, Array, OnnxBuilder, Steps, TfliteBuilder
from ops_catalog.spec import OpSpec, Value

ATTRIBUTES: Mapping[str, Value] = {}
OUTPUT_QUANT = OWN
check, output, macs, weights = elementwise.check, elementwise.output, elementwise.macs, elementwise.weights


def expand(op: OpSpec, steps: Steps, inputs: Sequence[str]) -> None:
    """Neither format has it as one operator."""
    steps("mul", inputs[0], steps("sigmoid", inputs[0]))


def compute(op: OpSpec, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    return np.asarray(inputs[0] / (1 + np.exp(-inputs[0])), np.float32)


def to_onnx(op: OpSpec, build: OnnxBuilder, inputs: Sequence[str]) -> str:
    return build.node("Mul", [inputs[0], build.node("Sigmoid", inputs)])


def to_tflite(op: OpSpec, build: TfliteBuilder, inputs: Sequence[str]) -> str:
    gate = elementwise.to_tflite("LOGISTIC", op, build, inputs)
    options = {"FusedActivationFunction": "NONE"}
    return build.emit("MUL", [inputs[0], gate], op.inputs[0].shape, options, image=build.is_image(inputs[0]))
