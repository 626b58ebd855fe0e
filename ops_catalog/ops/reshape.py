"""The same elements in another shape; one side may be given as -1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from ops_catalog import ops
from ops_catalog.ops import elementwise
from ops_catalog.ops.contract import INPUT, REQUIRED, Array, OnnxBuilder, TfliteBuilder
from ops_catalog.spec import OpSpec, SpecError, TensorSpec, Value

ATTRIBUTES: Mapping[str, Value] = {"shape": REQUIRED}
OUTPUT_QUANT = INPUT
macs, weights = elementwise.macs, elementwise.weights


def check(op: OpSpec) -> None:
    elementwise.check(op)
    shape, size = ops.attributes(op)["shape"], op.inputs[0].size
    if not isinstance(shape, tuple) or output(op).size != size:
        raise SpecError(f"reshape needs a shape of {size} elements, but got {shape}")


def output(op: OpSpec) -> TensorSpec:
    shape = ops.attributes(op)["shape"]
    rest = op.inputs[0].size // max(1, -prod(shape))
    return TensorSpec(tuple(rest if side == -1 else side for side in shape), op.dtype)


def compute(op: OpSpec, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    return inputs[0].reshape(output(op).shape)


def to_onnx(op: OpSpec, build: OnnxBuilder, inputs: Sequence[str]) -> str:
    return build.node("Reshape", [inputs[0], build.constant(np.array(output(op).shape, np.int64))])


def to_tflite(op: OpSpec, build: TfliteBuilder, inputs: Sequence[str]) -> str:
    x = inputs[0] if op.inputs[0].shape[2:] == (1, 1) else build.plain(inputs[0])
    shape = output(op).shape
    return build.emit("RESHAPE", [x, build.constant(np.array(shape, np.int32))], shape, quant=build.quant_of(x))
