"""Sliding windows: padding and output sizes of convolutions and pools.

``padding`` is "same" (as TensorFlow pads: the odd pixel goes after), "valid", or (top, bottom, left, right).
"""

from __future__ import annotations

import numpy as np

from ops_catalog import ops
from ops_catalog.ops.contract import TfliteBuilder
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


def output_size(size: Pair, kernel: Pair, stride: Pair, dilation: Pair, padding: Value) -> Pair:
    """Height and width after the window has slid over the image.

    Raises:
        SpecError: the window is larger than the padded image.
    """
    top, bottom, left, right = pads(size, kernel, stride, dilation, padding)
    height = (size[0] + top + bottom - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
    width = (size[1] + left + right - dilation[1] * (kernel[1] - 1) - 1) // stride[1] + 1
    if height < 1 or width < 1:
        raise SpecError(f"a window of {kernel} must fit into the padded image, but got an image of {size}")
    return height, width


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


def tflite_padded(op: OpSpec, build: TfliteBuilder, x: str, needed: Pads) -> tuple[str, str]:
    """The image as TFLite's window operators want it, and their padding option.

    TFLite knows only SAME and VALID: any other padding becomes a PAD of its own before the window.
    """
    a = ops.attributes(op)
    x = build.image(x)
    batch, channels, height, width = op.inputs[0].shape
    if not any(needed):
        return x, "VALID"
    if needed == pads((height, width), a["kernel"], a["stride"], a.get("dilation", (1, 1)), "same"):
        return x, "SAME"
    top, bottom, left, right = needed
    sizes = build.constant(np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32))
    shape = (batch, channels, height + top + bottom, width + left + right)
    return build.emit("PAD", [x, sizes], shape, image=True, quant=build.quant_of(x)), "VALID"


def _same(size: int, kernel: int, stride: int, dilation: int) -> Pair:
    total = max((-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
    return total // 2, total - total // 2
