"""Every row along the last axis brought to mean 0 and variance 1, then scaled and shifted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ops_catalog import ops
from ops_catalog.ops import elementwise
from ops_catalog.ops.contract import OWN, Array, OnnxBuilder, TfliteBuilder, Weight
from ops_catalog.spec import OpSpec, Value

ATTRIBUTES: Mapping[str, Value] = {"epsilon": 1e-5}
OUTPUT_QUANT = OWN
check, output, macs = elementwise.check, elementwise.output, elementwise.macs


def weights(op: OpSpec) -> tuple[Weight, ...]:
    side = op.inputs[0].shape[-1:]
    return (Weight("scale", side, 1, channel_axis=None), Weight("bias", side, 0))


def compute(op: OpSpec, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    x = inputs[0]
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    normal = centred / np.sqrt(variance + np.float32(ops.attributes(op)["epsilon"]))
    return np.asarray(normal * weights["scale"] + weights["bias"], np.float32)


def to_onnx(op: OpSpec, build: OnnxBuilder, inputs: Sequence[str]) -> str:
    """An int8 model keeps its scale and bias in float: no integer kernel takes them."""
    entries = [inputs[0], build.float_weight("scale"), build.float_weight("bias")]
    return build.node("LayerNormalization", entries, axis=-1, epsilon=ops.attributes(op)["epsilon"])


def to_tflite(op: OpSpec, build: TfliteBuilder, inputs: Sequence[str]) -> str:
    """TFLite has no such builtin: mean, difference, variance, reciprocal root, scale, shift."""
    if build.int8:
        raise build.refuse("its parts lose too much in int8; use float32, or the ONNX format")
    x, shape = build.plain(inputs[0]), op.inputs[0].shape
    rows, none = (*shape[:-1], 1), {"FusedActivationFunction": "NONE"}
    last = build.constant(np.array([len(shape) - 1], np.int32))
    mean = build.emit("MEAN", [x, last], rows, {"KeepDims": True})
    centred = build.emit("SUB", [x, mean], shape, none)
    squares = build.emit("MUL", [centred, centred], shape, none)
    variance = build.emit("MEAN", [squares, last], rows, {"KeepDims": True})
    epsilon = build.operand(np.full((1,), ops.attributes(op)["epsilon"]))
    root = build.emit("RSQRT", [build.emit("ADD", [variance, epsilon], rows, none)], rows)
    normal = build.emit("MUL", [centred, root], shape, none)
    scaled = build.emit("MUL", [normal, build.weight("scale")], shape, none)
    return build.emit("ADD", [scaled, build.weight("bias")], shape, none)
