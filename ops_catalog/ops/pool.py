"""What max and average pools share: windows over every channel, padding that counts for neither."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ops_catalog import ops
from ops_catalog.ops.contract import REQUIRED, OnnxBuilder, TfliteBuilder, Weight
from ops_catalog.ops.window import check_window, output_size, pads_of
from ops_catalog.spec import OpSpec, SpecError, TensorSpec, Value

ATTRIBUTES: Mapping[str, Value] = {"kernel": REQUIRED, "stride": (1, 1), "padding": "same"}


def check(op: OpSpec) -> None:
    if len(op.inputs) != 1 or len(op.inputs[0].shape) != 4:
        raise SpecError(f"{op.type} needs one image, but got {[tensor.shape for tensor in op.inputs]}")
    check_window(op)
    output(op)


def output(op: OpSpec) -> TensorSpec:
    return TensorSpec((*op.inputs[0].shape[:2], *output_size(op)), op.dtype)


def macs(op: OpSpec) -> int:
    return 0


def weights(op: OpSpec) -> tuple[Weight, ...]:
    return ()


def to_onnx(op_type: str, op: OpSpec, build: OnnxBuilder, inputs: Sequence[str]) -> str:
    a = ops.attributes(op)
    top, bottom, left, right = pads_of(op)
    return build.node(op_type, inputs, kernel_shape=a["kernel"], strides=a["stride"], pads=(top, left, bottom, right))


def to_tflite(builtin: str, op: OpSpec, build: TfliteBuilder, x: str, padding: str) -> str:
    """The builtin on an image that is padded as far as ``padding`` does not do it."""
    a = ops.attributes(op)
    options = {
        "Padding": padding,
        "StrideH": a["stride"][0],
        "StrideW": a["stride"][1],
        "FilterHeight": a["kernel"][0],
        "FilterWidth": a["kernel"][1],
    }
    return build.emit(builtin, [x], output(op).shape, options, image=True, quant=build.quant_of(x))
