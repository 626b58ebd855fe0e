"""2-D convolution with bias; optionally a residual added and an activation applied to the sum.

Inputs: the image N x C x H x W and, for a fused residual, a second image of the output's shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ops_catalog import ops
from ops_catalog.ops import activation
from ops_catalog.ops.contract import OWN, REQUIRED, Array, OnnxBuilder, Steps, TfliteBuilder, Weight
from ops_catalog.ops.window import Pads, check_count, check_window, output_size, pads, tflite_padded
from ops_catalog.spec import OpSpec, SpecError, TensorSpec, Value

ATTRIBUTES: Mapping[str, Value] = {
    "out_channels": REQUIRED,
    "kernel": REQUIRED,
    "stride": (1, 1),
    "dilation": (1, 1),
    "padding": "same",
    "groups": 1,
    "activation": "none",
}
OUTPUT_QUANT = OWN


def check(op: OpSpec) -> None:
    a = ops.attributes(op)
    if len(op.inputs) not in (1, 2) or len(op.inputs[0].shape) != 4:
        raise SpecError(f"conv2d needs an image (and a residual), but got {[tensor.shape for tensor in op.inputs]}")
    check_window(op)
    check_count("groups", a["groups"])
    check_count("out_channels", a["out_channels"])
    channels, made = op.inputs[0].shape[1], output(op)
    if channels % a["groups"] or a["out_channels"] % a["groups"]:
        raise SpecError(f"groups must divide {channels} and {a['out_channels']} channels, but got {a['groups']}")
    activation.check(a["activation"])
    if len(op.inputs) == 2 and op.inputs[1].shape != made.shape:
        raise SpecError(f"a residual must have the output's shape {made.shape}, but got {op.inputs[1].shape}")


def output(op: OpSpec) -> TensorSpec:
    a = ops.attributes(op)
    batch, _, height, width = op.inputs[0].shape
    size = output_size((height, width), a["kernel"], a["stride"], a["dilation"], a["padding"])
    return TensorSpec((batch, a["out_channels"], *size), op.dtype)


def macs(op: OpSpec) -> int:
    return output(op).size * weights(op)[0].fan_in


def weights(op: OpSpec) -> tuple[Weight, ...]:
    a = ops.attributes(op)
    inner = op.inputs[0].shape[1] // a["groups"]
    fan_in = inner * a["kernel"][0] * a["kernel"][1]
    return (Weight("weight", (a["out_channels"], inner, *a["kernel"]), fan_in), Weight("bias", (a["out_channels"],), 0))


def expand(op: OpSpec, steps: Steps, inputs: Sequence[str]) -> None:
    a = ops.attributes(op)
    residual = inputs[1] if len(inputs) == 2 else None
    if residual is None and a["activation"] in activation.FUSED:
        return
    y = steps("conv2d", inputs[0], **{name: value for name, value in a.items() if name != "activation"})
    activation.expand(a["activation"], steps, y, residual)


def compute(op: OpSpec, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    """The convolution of an expanded operator: one input, fused activation at most."""
    a = ops.attributes(op)
    groups, kernel, stride, dilation = a["groups"], a["kernel"], a["stride"], a["dilation"]
    top, bottom, left, right = _pads(op)
    x = np.pad(inputs[0], ((0, 0), (0, 0), (top, bottom), (left, right)))
    _, channels, height, width = output(op).shape
    weight = weights["weight"].reshape(groups, channels // groups, -1, *kernel)
    x = x.reshape(x.shape[0], groups, -1, *x.shape[2:])
    y = np.zeros((x.shape[0], groups, channels // groups, height, width), np.float32)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            rows = slice(i * dilation[0], i * dilation[0] + (height - 1) * stride[0] + 1, stride[0])
            columns = slice(j * dilation[1], j * dilation[1] + (width - 1) * stride[1] + 1, stride[1])
            y += np.einsum("ngchw,goc->ngohw", x[:, :, :, rows, columns], weight[:, :, :, i, j], optimize=True)
    y = y.reshape(x.shape[0], channels, height, width) + weights["bias"][:, None, None]
    return activation.compute(a["activation"], y)


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
        group=a["groups"],
    )
    return activation.to_onnx(a["activation"], build, y)


def to_tflite(op: OpSpec, build: TfliteBuilder, inputs: Sequence[str]) -> str:
    a = ops.attributes(op)
    x, padding = tflite_padded(op, build, inputs[0], _pads(op))
    weight = build.weight("weight", order=(0, 2, 3, 1))
    options = {
        "Padding": padding,
        "StrideH": a["stride"][0],
        "StrideW": a["stride"][1],
        "DilationHFactor": a["dilation"][0],
        "DilationWFactor": a["dilation"][1],
        "FusedActivationFunction": activation.TFLITE_FUSED[a["activation"]],
    }
    return build.emit("CONV_2D", [x, weight, build.bias("bias", x, weight)], output(op).shape, options, image=True)


def _pads(op: OpSpec) -> Pads:
    a = ops.attributes(op)
    height, width = op.inputs[0].shape[2:]
    return pads((height, width), a["kernel"], a["stride"], a["dilation"], a["padding"])
