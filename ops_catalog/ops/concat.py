"""Tensors joined along one axis, by default the channels of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ops_catalog import ops
from ops_catalog.ops import elementwise
from ops_catalog.ops.contract import OWN, Array, OnnxBuilder, TfliteBuilder
from ops_catalog.spec import OpSpec, SpecError, TensorSpec, Value

ATTRIBUTES: Mapping[str, Value] = {"axis": 1}
OUTPUT_QUANT = OWN
IMAGE_AXES = (0, 3, 1, 2)
macs, weights = elementwise.macs, elementwise.weights


def check(op: OpSpec) -> None:
    shapes, axis = [tensor.shape for tensor in op.inputs], ops.attributes(op)["axis"]
    if not isinstance(axis, int) or not -len(shapes[0]) <= axis < len(shapes[0]):
        raise SpecError(f"axis must be within a rank of {len(shapes[0])}, but got {axis}")
    others = {(*shape[: axis % len(shape)], *shape[axis % len(shape) + 1 :]) for shape in shapes if shape}
    if len(others) != 1 or len({len(shape) for shape in shapes}) != 1:
        raise SpecError(f"concat needs shapes that differ along axis {axis} alone, but got {shapes}")


def output(op: OpSpec) -> TensorSpec:
    shape = list(op.inputs[0].shape)
    axis = ops.attributes(op)["axis"] % len(shape)
    shape[axis] = sum(tensor.shape[axis] for tensor in op.inputs)
    return TensorSpec(tuple(shape), op.dtype)


def compute(op: OpSpec, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    return np.concatenate(list(inputs), axis=ops.attributes(op)["axis"])


def to_onnx(op: OpSpec, build: OnnxBuilder, inputs: Sequence[str]) -> str:
    return build.node("Concat", inputs, axis=ops.attributes(op)["axis"])


def to_tflite(op: OpSpec, build: TfliteBuilder, inputs: Sequence[str]) -> str:
    axis = ops.attributes(op)["axis"] % len(op.inputs[0].shape)
    image = any(build.is_image(name) for name in inputs)
    laid = [build.image(name) if image else name for name in inputs]
    options = {"Axis": IMAGE_AXES[axis] if image else axis, "FusedActivationFunction": "NONE"}
    return build.emit("CONCATENATION", [build.rescaled(name) for name in laid], output(op).shape, options, image=image)
