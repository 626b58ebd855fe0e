"""exp(x) over its sum along one axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ops_catalog import ops
from ops_catalog.ops import elementwise
from ops_catalog.ops.contract import Array, OnnxBuilder, TfliteBuilder
from ops_catalog.spec import OpSpec, SpecError, Value

ATTRIBUTES: Mapping[str, Value] = {"axis": -1}
OUTPUT_QUANT = (1 / 256, -128)
output, macs, weights = elementwise.output, elementwise.macs, elementwise.weights


def check(op: OpSpec) -> None:
    elementwise.check(op)
    axis, rank = ops.attributes(op)["axis"], len(op.inputs[0].shape)
    if not isinstance(axis, int) or not -rank <= axis < rank:
        raise SpecError(f"axis must be within a rank of {rank}, but got {axis}")


def compute(op: OpSpec, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    axis = ops.attributes(op)["axis"]
    powers = np.exp(inputs[0] - inputs[0].max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True), np.float32)


def to_onnx(op: OpSpec, build: OnnxBuilder, inputs: Sequence[str]) -> str:
    return build.node("Softmax", inputs, axis=ops.attributes(op)["axis"])


def to_tflite(op: OpSpec, build: TfliteBuilder, inputs: Sequence[str]) -> str:
    """TFLite's softmax is along the last axis: another one is brought there and back."""
    x, shape = build.plain(inputs[0]), op.inputs[0].shape
    axis = ops.attributes(op)["axis"] % len(shape)
    last = len(shape) - 1
    order = [*(i for i in range(last + 1) if i != axis), axis]
    if axis != last:
        x = _transposed(build, x, [shape[i] for i in order], order, build.quant_of(x))
    y = build.emit("SOFTMAX", [x], [shape[i] for i in order], {"Beta": 1.0})
    return (
        y
        if axis == last
        else _transposed(build, y, shape, [order.index(i) for i in range(last + 1)], build.quant_of(y))
    )


def _transposed(
    build: TfliteBuilder, x: str, shape: Sequence[int], order: Sequence[int], quant: tuple[float, int] | None
) -> str:
    return build.emit("TRANSPOSE", [x, build.constant(np.array(order, np.int32))], shape, quant=quant)
