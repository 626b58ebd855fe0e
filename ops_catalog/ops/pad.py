"""Zeros around an image: ``pads`` is (top, bottom, left, right)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ops_catalog import ops
from ops_catalog.ops import elementwise
from ops_catalog.ops.contract import INPUT, REQUIRED, Array, OnnxBuilder, TfliteBuilder
from ops_catalog.spec import OpSpec, SpecError, TensorSpec, Value

ATTRIBUTES: Mapping[str, Value] = {"pads": REQUIRED}
OUTPUT_QUANT = INPUT
macs, weights = elementwise.macs, elementwise.weights


def check(op: OpSpec) -> None:
    pads = ops.attributes(op)["pads"]
    if len(op.inputs) != 1 or len(op.inputs[0].shape) != 4:
        raise SpecError(f"pad needs one image, but got {[tensor.shape for tensor in op.inputs]}")
    if not isinstance(pads, tuple) or len(pads) != 4 or min(pads) < 0:
        raise SpecError(f"pads must be four sizes such as 1x1x0x0, but got {pads!r}")


def output(op: OpSpec) -> TensorSpec:
    top, bottom, left, right = ops.attributes(op)["pads"]
    batch, channels, height, width = op.inputs[0].shape
    return TensorSpec((batch, channels, height + top + bottom, width + left + right), op.dtype)


def compute(op: OpSpec, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    top, bottom, left, right = ops.attributes(op)["pads"]
    return np.pad(inputs[0], ((0, 0), (0, 0), (top, bottom), (left, right)))


def to_onnx(op: OpSpec, build: OnnxBuilder, inputs: Sequence[str]) -> str:
    top, bottom, left, right = ops.attributes(op)["pads"]
    return build.node("Pad", [inputs[0], build.constant(np.array([0, 0, top, left, 0, 0, bottom, right], np.int64))])


def to_tflite(op: OpSpec, build: TfliteBuilder, inputs: Sequence[str]) -> str:
    top, bottom, left, right = ops.attributes(op)["pads"]
    x = build.image(inputs[0])
    sizes = build.constant(np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32))
    return build.emit("PAD", [x, sizes], output(op).shape, image=True, quant=build.quant_of(x))
