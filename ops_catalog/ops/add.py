"""Sum of two tensors, broadcast; optionally activated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ops_catalog import ops
from ops_catalog.ops import activation, binary
from ops_catalog.ops.contract import OWN, Array, OnnxBuilder, TfliteBuilder
from ops_catalog.spec import OpSpec

ATTRIBUTES = binary.ATTRIBUTES
OUTPUT_QUANT = OWN
check, output, macs, weights = binary.check, binary.output, binary.macs, binary.weights


def compute(op: OpSpec, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    return activation.compute(ops.attributes(op)["activation"], inputs[0] + inputs[1])


def to_onnx(op: OpSpec, build: OnnxBuilder, inputs: Sequence[str]) -> str:
    return binary.to_onnx("Add", op, build, inputs)


def to_tflite(op: OpSpec, build: TfliteBuilder, inputs: Sequence[str]) -> str:
    return binary.to_tflite("ADD", op, build, inputs)
