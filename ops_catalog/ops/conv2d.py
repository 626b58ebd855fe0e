"""2-D convolution with bias; optionally a residual added and an activation applied to the sum.

Inputs: the image N x C x H x W and, for a fused residual, a second image of the output's shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ops_catalog import ops
from ops_catalog.ops import activation
from ops_catalog.ops.contract import OWN, REQUIRED, Array, OnnxBuilder, Steps, TfliteBuilder, Weight
from ops_catalog.ops.window import (
    check_count,
    check_window,
    onnx_convolution,
    output_size,
    taps,
    tflite_convolution_options,
    tflite_padded,
)
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
    return TensorSpec((op.inputs[0].shape[0], ops.attributes(op)["out_channels"], *output_size(op)), op.dtype)


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
    a, (batch, channels, height, width) = ops.attributes(op), output(op).shape
    groups = a["groups"]
    weight = weights["weight"].reshape(groups, channels // groups, -1, *a["kernel"])
    y = np.zeros((batch, groups, channels // groups, height * width), np.float32)
    for i, j, x in taps(op, inputs[0]):
        y += weight[:, :, :, i, j] @ x.reshape(batch, groups, -1, height * width)
    y = y.reshape(batch, channels, height, width) + weights["bias"][:, None, None]
    return activation.compute(a["activation"], y)


def to_onnx(op: OpSpec, build: OnnxBuilder, inputs: Sequence[str]) -> str:
    return onnx_convolution(op, build, inputs[0], ops.attributes(op)["groups"])


def to_tflite(op: OpSpec, build: TfliteBuilder, inputs: Sequence[str]) -> str:
    x, padding = tflite_padded(op, build, inputs[0])
    weight = build.weight("weight", order=(0, 2, 3, 1))
    entries = [x, weight, build.bias("bias", x, weight)]
    return build.emit("CONV_2D", entries, output(op).shape, tflite_convolution_options(op, padding), image=True)
