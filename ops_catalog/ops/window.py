"""Sliding windows: what convolutions and pools share.

``padding`` is "same" (as TensorFlow pads: the odd pixel goes after), "valid", or (top, bottom, left, right).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ops_catalog import ops
from ops_catalog.ops import activation
from ops_catalog.ops.contract import Array, OnnxBuilder, TfliteBuilder
from ops_catalog.spec import OpSpec, SpecError, Value

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]


def pads(size: Pair, kernel: Pair, stride: Pair, dilation: Pair, padding: Value) -> Pads:
    """Pixels added (top, bottom, left, right) to an image of ``size`` = (height, width).

    Raises:
        SpecError: ``padding`` is none of the three forms.
    """
    if padding == "valid":
        return (0, 0, 0, 0)
    if padding == "same":
        top, bottom = _same(size[0], kernel[0], stride[0], dilation[0])
        left, right = _same(size[1], kernel[1], stride[1], dilation[1])
        return (top, bottom, left, right)
    if isinstance(padding, tuple) and len(padding) == 4 and min(padding) >= 0:
        return (padding[0], padding[1], padding[2], padding[3])
    raise SpecError(f"padding must be same, valid or four sizes such as 1x1x0x0, but got {padding!r}")


def pads_of(op: OpSpec) -> Pads:
    """Pixels that an operator adds to its image."""
    return _pads_as(op, ops.attributes(op)["padding"])


def output_size(op: OpSpec) -> Pair:
    """Height and width after the window has slid over the image.

    Raises:
        SpecError: the window is larger than the padded image.
    """
    a, (height, width) = ops.attributes(op), op.inputs[0].shape[2:]
    top, bottom, left, right = pads_of(op)
    dilation = a.get("dilation", (1, 1))
    rows = (height + top + bottom - dilation[0] * (a["kernel"][0] - 1) - 1) // a["stride"][0] + 1
    columns = (width + left + right - dilation[1] * (a["kernel"][1] - 1) - 1) // a["stride"][1] + 1
    if rows < 1 or columns < 1:
        raise SpecError(f"a window of {a['kernel']} must fit into the padded image, but got {(height, width)}")
    return int(rows), int(columns)


def check_window(op: OpSpec) -> None:
    """Raises SpecError where an operator's kernel, stride or dilation is not a pair of positive sizes."""
    a = ops.attributes(op)
    for name in ("kernel", "stride", "dilation"):
        check_sizes(name, a.get(name, (1, 1)), 2)


def check_sizes(name: str, value: object, count: int) -> None:
    """Raises SpecError where an attribute is not that many positive sizes."""
    if not isinstance(value, tuple) or len(value) != count or min(value) < 1:
        raise SpecError(f"{name} must be {count} sizes such as {'x'.join('3' * count)}, but got {value!r}")


def check_count(name: str, value: object) -> None:
    """Raises SpecError where an attribute is not a positive number."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise SpecError(f"{name} must be a positive number, but got {value!r}")


def taps(op: OpSpec, x: Array, fill: float = 0.0) -> Iterator[tuple[int, int, Array]]:
    """Each position (i, j) of the window, and the pixels under it (N x C x H x W), padded with ``fill``."""
    a, (height, width) = ops.attributes(op), output_size(op)
    top, bottom, left, right = pads_of(op)
    dilation, stride = a.get("dilation", (1, 1)), a["stride"]
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    for i in range(a["kernel"][0]):
        for j in range(a["kernel"][1]):
            first = (i * dilation[0], j * dilation[1])
            rows = slice(first[0], first[0] + (height - 1) * stride[0] + 1, stride[0])
            columns = slice(first[1], first[1] + (width - 1) * stride[1] + 1, stride[1])
            yield i, j, padded[:, :, rows, columns]


def onnx_convolution(op: OpSpec, build: OnnxBuilder, x: str, groups: int) -> str:
    """An ONNX convolution with the operator's weight, bias and fused activation."""
    a = ops.attributes(op)
    top, bottom, left, right = pads_of(op)
    y = build.node(
        "Conv",
        [x, build.weight("weight"), build.weight("bias")],
        kernel_shape=a["kernel"],
        strides=a["stride"],
        dilations=a["dilation"],
        pads=(top, left, bottom, right),
        group=groups,
    )
    return activation.to_onnx(a["activation"], build, y)


def tflite_convolution_options(op: OpSpec, padding: str) -> dict[str, Any]:
    a = ops.attributes(op)
    return {
        "Padding": padding,
        "StrideH": a["stride"][0],
        "StrideW": a["stride"][1],
        "DilationHFactor": a["dilation"][0],
        "DilationWFactor": a["dilation"][1],
        "FusedActivationFunction": activation.TFLITE_FUSED[a["activation"]],
    }


def tflite_padding(op: OpSpec) -> str | None:
    """TFLite's word for the operator's padding; None where it has none: it knows only SAME and VALID."""
    needed = pads_of(op)
    if not any(needed):
        return "VALID"
    return "SAME" if needed == _pads_as(op, "same") else None


def tflite_padded(op: OpSpec, build: TfliteBuilder, x: str, fill: str | None = None) -> tuple[str, str]:
    """The image as TFLite's window operators want it, and their padding option.

    Other padding than SAME and VALID becomes an operator of its own before the window: zeros, or the constant ``fill``.
    """
    x, padding = build.image(x), tflite_padding(op)
    if padding is not None:
        return x, padding
    top, bottom, left, right = pads_of(op)
    sizes = build.constant(np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32))
    batch, channels, height, width = op.inputs[0].shape
    shape = (batch, channels, height + top + bottom, width + left + right)
    builtin, inputs = ("PAD", [x, sizes]) if fill is None else ("PADV2", [x, sizes, fill])
    return build.emit(builtin, inputs, shape, image=True, quant=build.quant_of(x)), "VALID"


def _pads_as(op: OpSpec, padding: Value) -> Pads:
    a, (height, width) = ops.attributes(op), op.inputs[0].shape[2:]
    return pads((height, width), a["kernel"], a["stride"], a.get("dilation", (1, 1)), padding)


def _same(size: int, kernel: int, stride: int, dilation: int) -> Pair:
    total = max((-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
    return total // 2, total - total // 2
