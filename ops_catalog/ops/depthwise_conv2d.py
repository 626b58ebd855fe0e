"""Depthwise 2-D convolution with bias: every channel is filtered by itself; optionally activated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ops_catalog import ops
from ops_catalog.ops import activation
from ops_catalog.ops.contract import OWN, REQUIRED, Array, OnnxBuilder, Steps, TfliteBuilder, Weight
from ops_catalog.ops.window import Pads, check_window, output_size, pads, tflite_padded
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
    a = ops.attributes(op)
    batch, channels, height, width = op.inputs[0].shape
    size = output_size((height, width), a["kernel"], a["stride"], a["dilation"], a["padding"])
    return TensorSpec((batch, channels, *size), op.dtype)


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
    a = ops.attributes(op)
    kernel, stride, dilation = a["kernel"], a["stride"], a["dilation"]
    top, bottom, left, right = _pads(op)
    x = np.pad(inputs[0], ((0, 0), (0, 0), (top, bottom), (left, right)))
    _, channels, height, width = output(op).shape
    y = np.zeros((x.shape[0], channels, height, width), np.float32)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            rows = slice(i * dilation[0], i * dilation[0] + (height - 1) * stride[0] + 1, stride[0])
            columns = slice(j * dilation[1], j * dilation[1] + (width - 1) * stride[1] + 1, stride[1])
            y += x[:, :, rows, columns] * weights["weight"][:, 0, i, j, None, None]
    return activation.compute(a["activation"], y + weights["bias"][:, None, None])


def to_onnx(op: OpSpec, build: OnnxBuilder, inputs: Sequence[str]) -> str:
    a = ops.attributes(op)
    top, bottom, left, right = _pads(op)
    y = build.node(
        "Conv",
        [inputs[0], build.weight("weight"), build.weight("bias")],
        kernel_shape=a["kernel"],
        strides=a["stride"],
        dilations=a["dilation"],
        pads=(top, left, bottom, right),
        group=op.inputs[0].shape[1],
    )
    return activation.to_onnx(a["activation"], build, y)


def to_tflite(op: OpSpec, build: TfliteBuilder, inputs: Sequence[str]) -> str:
    a = ops.attributes(op)
    x, padding = tflite_padded(op, build, inputs[0], _pads(op))
    weight = build.weight("weight", order=(1, 2, 3, 0))
    options = {
        "Padding": padding,
        "StrideH": a["stride"][0],
        "StrideW": a["stride"][1],
        "DilationHFactor": a["dilation"][0],
        "DilationWFactor": a["dilation"][1],
        "DepthMultiplier": 1,
        "FusedActivationFunction": activation.TFLITE_FUSED[a["activation"]],
    }
    bias = build.bias("bias", x, weight)
    return build.emit("DEPTHWISE_CONV_2D", [x, weight, bias], output(op).shape, options, image=True)


def _pads(op: OpSpec) -> Pads:
    a = ops.attributes(op)
    height, width = op.inputs[0].shape[2:]
    return pads((height, width), a["kernel"], a["stride"], a["dilation"], a["padding"])
