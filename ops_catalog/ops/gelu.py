"""x times the normal distribution function of x, exactly or by the tanh approximation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ops_catalog import ops
from ops_catalog.ops import elementwise
from ops_catalog.ops.contract import OWN, Array, OnnxBuilder, TfliteBuilder
from ops_catalog.spec import OpSpec, SpecError, Value

ATTRIBUTES: Mapping[str, Value] = {"approximate": "none"}
OUTPUT_QUANT = OWN
output, macs, weights = elementwise.output, elementwise.macs, elementwise.weights


def check(op: OpSpec) -> None:
    elementwise.check(op)
    if ops.attributes(op)["approximate"] not in ("none", "tanh"):
        raise SpecError(f"approximate must be none or tanh, but got {ops.attributes(op)['approximate']!r}")


def compute(op: OpSpec, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    from scipy.special import erf

    x = inputs[0]
    if ops.attributes(op)["approximate"] == "tanh":
        inner = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))
    else:
        inner = erf(x / np.sqrt(2))
    return np.asarray(0.5 * x * (1 + inner), np.float32)


def to_onnx(op: OpSpec, build: OnnxBuilder, inputs: Sequence[str]) -> str:
    return build.node("Gelu", inputs, approximate=ops.attributes(op)["approximate"])


def to_tflite(op: OpSpec, build: TfliteBuilder, inputs: Sequence[str]) -> str:
    options = {"Approximate": ops.attributes(op)["approximate"] == "tanh"}
    return elementwise.to_tflite("GELU", op, build, inputs, options)
