"""Fully connected layer with bias on the last axis; optionally activated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ops_catalog import ops
from ops_catalog.ops import activation
from ops_catalog.ops.contract import OWN, REQUIRED, Array, OnnxBuilder, Steps, TfliteBuilder, Weight
from ops_catalog.ops.window import check_count
from ops_catalog.spec import OpSpec, SpecError, TensorSpec, Value

ATTRIBUTES: Mapping[str, Value] = {"out_features": REQUIRED, "activation": "none"}
OUTPUT_QUANT = OWN


def check(op: OpSpec) -> None:
    if len(op.inputs) != 1 or len(op.inputs[0].shape) not in (2, 3):
        raise SpecError(f"linear needs one input of rank 2 or 3, but got {[tensor.shape for tensor in op.inputs]}")
    check_count("out_features", ops.attributes(op)["out_features"])
    activation.check(ops.attributes(op)["activation"])


def output(op: OpSpec) -> TensorSpec:
    return TensorSpec((*op.inputs[0].shape[:-1], ops.attributes(op)["out_features"]), op.dtype)


def macs(op: OpSpec) -> int:
    return output(op).size * op.inputs[0].shape[-1]


def weights(op: OpSpec) -> tuple[Weight, ...]:
    inner, outer = op.inputs[0].shape[-1], ops.attributes(op)["out_features"]
    return (Weight("weight", (outer, inner), inner, channel_axis=None), Weight("bias", (outer,), 0))


def expand(op: OpSpec, steps: Steps, inputs: Sequence[str]) -> None:
    a = ops.attributes(op)
    if a["activation"] not in activation.FUSED:
        activation.expand(a["activation"], steps, steps("linear", inputs[0], out_features=a["out_features"]))


def compute(op: OpSpec, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    y = inputs[0] @ weights["weight"].T + weights["bias"]
    return activation.compute(ops.attributes(op)["activation"], y)


def to_onnx(op: OpSpec, build: OnnxBuilder, inputs: Sequence[str]) -> str:
    weight, bias = build.weight("weight"), build.weight("bias")
    if len(op.inputs[0].shape) == 2:
        y = build.node("Gemm", [inputs[0], weight, bias], transB=1)
    else:
        turned = build.node("Transpose", [weight], perm=(1, 0))
        y = build.node("Add", [build.node("MatMul", [inputs[0], turned]), bias])
    return activation.to_onnx(ops.attributes(op)["activation"], build, y)


def to_tflite(op: OpSpec, build: TfliteBuilder, inputs: Sequence[str]) -> str:
    weight = build.weight("weight")
    options = {
        "FusedActivationFunction": activation.TFLITE_FUSED[ops.attributes(op)["activation"]],
        "KeepNumDims": len(op.inputs[0].shape) == 3,
    }
    entries = [inputs[0], weight, build.bias("bias", inputs[0], weight)]
    return build.emit("FULLY_CONNECTED", entries, output(op).shape, options)
