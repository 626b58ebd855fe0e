"""What operators on two tensors share: broadcasting, a fused activation, and how both formats write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ops_catalog import ops
from ops_catalog.ops import activation
from ops_catalog.ops.contract import OnnxBuilder, TfliteBuilder, Weight
from ops_catalog.spec import OpSpec, SpecError, TensorSpec, Value

ATTRIBUTES: Mapping[str, Value] = {"activation": "none"}


def check(op: OpSpec) -> None:
    if len(op.inputs) != 2:
        raise SpecError(f"{op.type} needs two inputs, but got {len(op.inputs)}")
    if ops.attributes(op)["activation"] not in activation.FUSED:
        raise SpecError(f"activation of {op.type} must be one of {', '.join(activation.FUSED)}")
    output(op)


def output(op: OpSpec) -> TensorSpec:
    shapes = [tensor.shape for tensor in op.inputs]
    try:
        return TensorSpec(tuple(map(int, np.broadcast_shapes(*shapes))), op.dtype)
    except ValueError:
        raise SpecError(f"{op.type} needs shapes that broadcast, but got {shapes}") from None


def macs(op: OpSpec) -> int:
    return 0


def weights(op: OpSpec) -> tuple[Weight, ...]:
    return ()


def to_onnx(op_type: str, op: OpSpec, build: OnnxBuilder, inputs: Sequence[str]) -> str:
    return activation.to_onnx(ops.attributes(op)["activation"], build, build.node(op_type, inputs))


def to_tflite(builtin: str, op: OpSpec, build: TfliteBuilder, inputs: Sequence[str]) -> str:
    """Both inputs stored alike: as images where one of them is."""
    image = any(build.is_image(name) for name in inputs)
    laid = [build.image(name) if image else name for name in inputs]
    options = {"FusedActivationFunction": activation.TFLITE_FUSED[ops.attributes(op)["activation"]]}
    return build.emit(builtin, laid, output(op).shape, options, image=image)
