"""Batch normalisation as it stands at inference: every channel of an image scaled and shifted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ops_catalog.ops import elementwise
from ops_catalog.ops.contract import OWN, Array, OnnxBuilder, TfliteBuilder, Weight
from ops_catalog.spec import OpSpec, SpecError, Value

ATTRIBUTES: Mapping[str, Value] = {}
OUTPUT_QUANT = OWN
output, macs = elementwise.output, elementwise.macs


def check(op: OpSpec) -> None:
    if len(op.inputs) != 1 or len(op.inputs[0].shape) != 4:
        raise SpecError(f"batch_norm needs one image, but got {[tensor.shape for tensor in op.inputs]}")


def weights(op: OpSpec) -> tuple[Weight, ...]:
    channels = op.inputs[0].shape[1]
    return (Weight("scale", (channels, 1, 1, 1), 1), Weight("bias", (channels,), 0))


def compute(op: OpSpec, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    return inputs[0] * weights["scale"].reshape(-1, 1, 1) + weights["bias"][:, None, None]


def to_onnx(op: OpSpec, build: OnnxBuilder, inputs: Sequence[str]) -> str:
    """A depthwise 1x1 convolution in an int8 model, whose kernel is exact; mean 0 and variance 1 otherwise."""
    channels = op.inputs[0].shape[1]
    if op.dtype == "int8":
        entries = [inputs[0], build.weight("scale"), build.weight("bias")]
        return build.node("Conv", entries, kernel_shape=(1, 1), group=channels)
    scale = build.node("Reshape", [build.weight("scale"), build.constant(np.array([channels], np.int64))])
    zeros, ones = np.zeros(channels, np.float32), np.ones(channels, np.float32)
    entries = [inputs[0], scale, build.weight("bias"), build.constant(zeros), build.constant(ones)]
    return build.node("BatchNormalization", entries, epsilon=0.0)


def to_tflite(op: OpSpec, build: TfliteBuilder, inputs: Sequence[str]) -> str:
    """TFLite has no such builtin; a depthwise 1x1 convolution does the same in one."""
    x, weight = build.image(inputs[0]), build.weight("scale", order=(1, 2, 3, 0))
    options = {"Padding": "VALID", "StrideH": 1, "StrideW": 1, "DepthMultiplier": 1}
    bias = build.bias("bias", x, weight)
    return build.emit("DEPTHWISE_CONV_2D", [x, weight, bias], output(op).shape, options, image=True)
