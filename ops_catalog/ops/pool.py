"""What max and average pools share: windows over every channel, padding that counts for neither."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from ops_catalog import ops
from ops_catalog.ops.contract import REQUIRED, Array, OnnxBuilder, TfliteBuilder, Weight
from ops_catalog.ops.window import Pads, check_window, output_size, pads
from ops_catalog.spec import OpSpec, SpecError, TensorSpec, Value

ATTRIBUTES: Mapping[str, Value] = {"kernel": REQUIRED, "stride": (1, 1), "padding": "same"}


def check(op: OpSpec) -> None:
    if len(op.inputs) != 1 or len(op.inputs[0].shape) != 4:
        raise SpecError(f"{op.type} needs one image, but got {[tensor.shape for tensor in op.inputs]}")
    check_window(op)
    output(op)


def output(op: OpSpec) -> TensorSpec:
    a = ops.attributes(op)
    batch, channels, height, width = op.inputs[0].shape
    size = output_size((height, width), a["kernel"], a["stride"], (1, 1), a["padding"])
    return TensorSpec((batch, channels, *size), op.dtype)


def macs(op: OpSpec) -> int:
    return 0


def weights(op: OpSpec) -> tuple[Weight, ...]:
    return ()


def window_pads(op: OpSpec) -> Pads:
    a = ops.attributes(op)
    height, width = op.inputs[0].shape[2:]
    return pads((height, width), a["kernel"], a["stride"], (1, 1), a["padding"])


def taps(op: OpSpec, x: Array, fill: float) -> Iterator[Array]:
    """The image under each position of the window, padded with ``fill``."""
    a = ops.attributes(op)
    top, bottom, left, right = window_pads(op)
    _, _, height, width = output(op).shape
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    for i in range(a["kernel"][0]):
        for j in range(a["kernel"][1]):
            rows = slice(i, i + (height - 1) * a["stride"][0] + 1, a["stride"][0])
            columns = slice(j, j + (width - 1) * a["stride"][1] + 1, a["stride"][1])
            yield padded[:, :, rows, columns]


def to_onnx(op_type: str, op: OpSpec, build: OnnxBuilder, inputs: Sequence[str]) -> str:
    a = ops.attributes(op)
    top, bottom, left, right = window_pads(op)
    return build.node(op_type, inputs, kernel_shape=a["kernel"], strides=a["stride"], pads=(top, left, bottom, right))


def to_tflite(
    builtin: str, op: OpSpec, build: TfliteBuilder, inputs: Sequence[str], pad: Callable[[str, Pads], str]
) -> str:
    """``pad`` writes an explicit padding that is neither SAME nor VALID."""
    a = ops.attributes(op)
    x, needed = build.image(inputs[0]), window_pads(op)
    height, width = op.inputs[0].shape[2:]
    padding = "SAME"
    if not any(needed):
        padding = "VALID"
    elif needed != pads((height, width), a["kernel"], a["stride"], (1, 1), "same"):
        x, padding = pad(x, needed), "VALID"
    options = {
        "Padding": padding,
        "StrideH": a["stride"][0],
        "StrideW": a["stride"][1],
        "FilterHeight": a["kernel"][0],
        "FilterWidth": a["kernel"][1],
    }
    return build.emit(builtin, [x], output(op).shape, options, image=True, quant=build.quant_of(x))
