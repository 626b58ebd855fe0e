"""Mean of every channel of an image: N x C x H x W -> N x C x 1 x 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ops_catalog.ops.contract import OWN, Array, OnnxBuilder, TfliteBuilder, Weight
from ops_catalog.spec import OpSpec, SpecError, TensorSpec, Value

ATTRIBUTES: Mapping[str, Value] = {}
OUTPUT_QUANT = OWN


def check(op: OpSpec) -> None:
    if len(op.inputs) != 1 or len(op.inputs[0].shape) != 4:
        raise SpecError(f"global_average_pool needs one image, but got {[tensor.shape for tensor in op.inputs]}")


def output(op: OpSpec) -> TensorSpec:
    return TensorSpec((*op.inputs[0].shape[:2], 1, 1), op.dtype)


def macs(op: OpSpec) -> int:
    return 0


def weights(op: OpSpec) -> tuple[Weight, ...]:
    return ()


def compute(op: OpSpec, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    return np.asarray(inputs[0].mean(axis=(2, 3), keepdims=True, dtype=np.float32))


def to_onnx(op: OpSpec, build: OnnxBuilder, inputs: Sequence[str]) -> str:
    return build.node("GlobalAveragePool", inputs)


def to_tflite(op: OpSpec, build: TfliteBuilder, inputs: Sequence[str]) -> str:
    axes = build.constant(np.array([1, 2], np.int32))
    return build.emit("MEAN", [build.image(inputs[0]), axes], output(op).shape, {"KeepDims": True}, image=True)
