"""Depthwise 2-D convolution with bias: every channel is filtered by itself; optionally activated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ops_catalog import ops
from ops_catalog.ops import activation
from ops_catalog.ops.contract import OWN, REQUIRED, Array, OnnxBuilder, Steps, TfliteBuilder, Weight
from ops_catalog.ops.window import (
    check_window,
    onnx_convolution,
    output_size,
    taps,
    tflite_convolution_options,
    tflite_padded,
)
from ops_catalog.spec import OpSpec, SpecError, TensorSpec, Value

ATTRIBUTES: Mapping[str, Value] = {
    "kernel": REQUIRED,
    "stride": (1, 1),
    "dilation": (1, 1),
    "padding": "same",
    "activation": "none",
}
OUTPUT_QUANT = OWN


def check(op: OpSpec) -> None:
    if len(op.inputs) != 1 or len(op.inputs[0].shape) != 4:
        raise SpecError(f"depthwise_conv2d needs one image, but got {[tensor.shape for tensor in op.inputs]}")
    check_window(op)
    activation.check(ops.attributes(op)["activation"])
    output(op)


def output(op: OpSpec) -> TensorSpec:
    return TensorSpec((*op.inputs[0].shape[:2], *output_size(op)), op.dtype)


def macs(op: OpSpec) -> int:
    return output(op).size * weights(op)[0].fan_in


def weights(op: OpSpec) -> tuple[Weight, ...]:
    kernel = ops.attributes(op)["kernel"]
    channels = op.inputs[0].shape[1]
    return (Weight("weight", (channels, 1, *kernel), kernel[0] * kernel[1]), Weight("bias", (channels,), 0))


def expand(op: OpSpec, steps: Steps, inputs: Sequence[str]) -> None:
    a = ops.attributes(op)
    if a["activation"] in activation.FUSED:
        return
    y = steps("depthwise_conv2d", inputs[0], **{name: value for name, value in a.items() if name != "activation"})
    activation.expand(a["activation"], steps, y)


def compute(op: OpSpec, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    y = np.zeros(output(op).shape, np.float32)
    for i, j, x in taps(op, inputs[0]):
        y += x * weights["weight"][:, 0, i, j, None, None]
    return activation.compute(ops.attributes(op)["activation"], y + weights["bias"][:, None, None])


def to_onnx(op: OpSpec, build: OnnxBuilder, inputs: Sequence[str]) -> str:
    return onnx_convolution(op, build, inputs[0], op.inputs[0].shape[1])


def to_tflite(op: OpSpec, build: TfliteBuilder, inputs: Sequence[str]) -> str:
    x, padding = tflite_padded(op, build, inputs[0])
    weight = build.weight("weight", order=(1, 2, 3, 0))
    options = {**tflite_convolution_options(op, padding), "DepthMultiplier": 1}
    entries = [x, weight, build.bias("bias", x, weight)]
    return build.emit("DEPTHWISE_CONV_2D", entries, output(op).shape, options, image=True)
