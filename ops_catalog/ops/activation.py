"""Activations that other operators may carry as their attribute ``activation``.

relu and relu6 are part of the operator in every engine's file format; the others are written as an operator of
their own after it (``expand``).
"""

from __future__ import annotations

import numpy as np

from ops_catalog.ops.contract import Array, OnnxBuilder, Steps
from ops_catalog.spec import SpecError

FUSED = ("none", "relu", "relu6")
SEPARATE = ("hard_swish", "hard_sigmoid", "sigmoid", "silu", "gelu")
TFLITE_FUSED = {"none": "NONE", "relu": "RELU", "relu6": "RELU6"}


def check(activation: str) -> None:
    if activation not in (*FUSED, *SEPARATE):
        raise SpecError(f"activation must be one of {', '.join((*FUSED, *SEPARATE))}, but got {activation!r}")


def compute(activation: str, x: Array) -> Array:
    """The fused activations; the separate ones are operators."""
    if activation == "none":
        return x
    return np.clip(x, 0, 6 if activation == "relu6" else None)


def to_onnx(activation: str, build: OnnxBuilder, x: str) -> str:
    """The nodes of a fused activation; none in an int8 model, whose output saturates at the activation's limits."""
    if activation == "none" or build.int8:
        return x
    if activation == "relu":
        return build.node("Relu", [x])
    return build.node("Clip", [x, build.constant(np.array(0, np.float32)), build.constant(np.array(6, np.float32))])


def expand(activation: str, steps: Steps, x: str, residual: str | None = None) -> None:
    """Adds the residual and activates: what follows a convolution that can carry neither itself."""
    fused = activation if activation in FUSED else "none"
    if residual is not None:
        x = steps("add", x, residual, activation=fused)
    elif fused != "none":
        raise AssertionError("a fused activation without a residual stays in its operator")
    if activation in SEPARATE:
        steps(activation, x)
