"""Axes in another order: output axis i is input axis ``perm[i]``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ops_catalog import ops
from ops_catalog.ops import elementwise
from ops_catalog.ops.contract import INPUT, REQUIRED, Array, OnnxBuilder, TfliteBuilder
from ops_catalog.spec import OpSpec, SpecError, TensorSpec, Value

ATTRIBUTES: Mapping[str, Value] = {"perm": REQUIRED}
OUTPUT_QUANT = INPUT
macs, weights = elementwise.macs, elementwise.weights


def check(op: OpSpec) -> None:
    elementwise.check(op)
    perm, rank = ops.attributes(op)["perm"], len(op.inputs[0].shape)
    if not isinstance(perm, tuple) or sorted(perm) != list(range(rank)):
        raise SpecError(f"perm must order the {rank} axes, but got {perm!r}")


def output(op: OpSpec) -> TensorSpec:
    return TensorSpec(tuple(op.inputs[0].shape[axis] for axis in ops.attributes(op)["perm"]), op.dtype)


def compute(op: OpSpec, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    return inputs[0].transpose(ops.attributes(op)["perm"])


def to_onnx(op: OpSpec, build: OnnxBuilder, inputs: Sequence[str]) -> str:
    return build.node("Transpose", inputs, perm=ops.attributes(op)["perm"])


def to_tflite(op: OpSpec, build: TfliteBuilder, inputs: Sequence[str]) -> str:
    x = build.plain(inputs[0])
    perm = build.constant(np.array(ops.attributes(op)["perm"], np.int32))
    return build.emit("TRANSPOSE", [x, perm], output(op).shape, quant=build.quant_of(x))
