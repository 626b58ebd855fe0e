"""Product of two activations, batched over the leading axes; the second may be given transposed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ops_catalog import ops
from ops_catalog.ops import elementwise
from ops_catalog.ops.contract import OWN, Array, OnnxBuilder, TfliteBuilder
from ops_catalog.spec import OpSpec, SpecError, TensorSpec, Value

ATTRIBUTES: Mapping[str, Value] = {"transpose_b": False}
OUTPUT_QUANT = OWN
weights = elementwise.weights


def check(op: OpSpec) -> None:
    shapes = [tensor.shape for tensor in op.inputs]
    if len(shapes) != 2 or len(shapes[0]) != len(shapes[1]) or len(shapes[0]) < 2 or shapes[0][:-2] != shapes[1][:-2]:
        raise SpecError(f"matmul needs two inputs of one rank and batch, but got {shapes}")
    if shapes[0][-1] != _second(op)[0]:
        raise SpecError(f"matmul needs inner sides that agree, but got {shapes}")


def output(op: OpSpec) -> TensorSpec:
    return TensorSpec((*op.inputs[0].shape[:-1], _second(op)[1]), op.dtype)


def macs(op: OpSpec) -> int:
    return output(op).size * op.inputs[0].shape[-1]


def compute(op: OpSpec, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    other = np.swapaxes(inputs[1], -1, -2) if ops.attributes(op)["transpose_b"] else inputs[1]
    return np.asarray(inputs[0] @ other, np.float32)


def to_onnx(op: OpSpec, build: OnnxBuilder, inputs: Sequence[str]) -> str:
    other = inputs[1]
    if ops.attributes(op)["transpose_b"]:
        rank = len(op.inputs[1].shape)
        other = build.node("Transpose", [other], perm=(*range(rank - 2), rank - 1, rank - 2))
    return build.node("MatMul", [inputs[0], other])


def to_tflite(op: OpSpec, build: TfliteBuilder, inputs: Sequence[str]) -> str:
    options = {"AdjX": False, "AdjY": ops.attributes(op)["transpose_b"]}
    return build.emit("BATCH_MATMUL", [build.plain(name) for name in inputs], output(op).shape, options)


def _second(op: OpSpec) -> tuple[int, int]:
    """Inner and outer side of the second input."""
    rows, columns = op.inputs[1].shape[-2:]
    return (columns, rows) if ops.attributes(op)["transpose_b"] else (rows, columns)
