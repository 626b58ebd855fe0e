"""Which operators a delegate does not take, each with the reason. Pure; the chip does not matter here.

Hexagon: the rules of TFLite's delegate (its README, and ``IsNodeSupportedByHexagon`` in
``tflite/delegates/hexagon/utils.cc``), applied to what ``to_tflite`` writes for an operator. QNN: Qualcomm documents
what HTP can do, but not all that its TFLite delegate takes over, and nothing was seen on hardware here: the list holds
only plain convolutional operators, and leaves out what may well run. A wrong "may run" costs a refused measurement, a
wrong "may not" an operator; no number depends on either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ops_catalog.ops import attributes, output
from ops_catalog.ops.window import tflite_padding
from ops_catalog.spec import OpSpec

MAX_RANK = 4
MAX_STRIDE = 3
MAX_BILINEAR = 65
MAX_SAME_POOL = 12
MIN_DEPTHWISE_HEIGHT = 2

Rule = Callable[[OpSpec, dict[str, Any]], str | None]


def rank_objection(op: OpSpec) -> str | None:
    """Tensors of more than four axes are beyond every delegate."""
    ranks = [len(tensor.shape) for tensor in (*op.inputs, output(op))]
    return f"tensors must have at most {MAX_RANK} axes, not {max(ranks)}" if max(ranks) > MAX_RANK else None


def hexagon_objection(op: OpSpec) -> str | None:
    """Why TFLite's Hexagon delegate does not take an int8 operator."""
    return _first_objection(op, HEXAGON, "the Hexagon delegate")


def qnn_objection(op: OpSpec) -> str | None:
    """Why it is not certain that QNN's HTP takes an int8 operator."""
    return _first_objection(op, QNN, "QNN's HTP, as far as is known here,")


def _first_objection(op: OpSpec, rules: dict[str, Rule], who: str) -> str | None:
    if op.type not in rules:
        return f"{who} does not take {op.type}"
    return rank_objection(op) or rules[op.type](op, attributes(op)) or _activation(op, rules, who)


def _activation(op: OpSpec, rules: dict[str, Rule], who: str) -> str | None:
    """An activation that is written as an operator of its own must be taken as well."""
    activation = attributes(op).get("activation", "none")
    if activation == "none" or activation in rules:
        return None
    return f"{who} does not take {activation}, which comes after {op.type}"


def _anything(op: OpSpec, a: dict[str, Any]) -> str | None:
    return None


def _conv2d(op: OpSpec, a: dict[str, Any]) -> str | None:
    if max(a["stride"]) > MAX_STRIDE:
        return f"stride must be at most {MAX_STRIDE}, not {a['stride']}"
    if a["dilation"] != (1, 1):
        return f"conv2d must not be dilated, but it is by {a['dilation']}"
    return _ungrouped(op, a)


def _ungrouped(op: OpSpec, a: dict[str, Any]) -> str | None:
    return None if a["groups"] == 1 else f"conv2d must be of one group, not {a['groups']}"


def _depthwise(op: OpSpec, a: dict[str, Any]) -> str | None:
    if a["kernel"][0] < MIN_DEPTHWISE_HEIGHT:
        return f"a depthwise filter must be at least {MIN_DEPTHWISE_HEIGHT} high, not {a['kernel'][0]}"
    if max(a["stride"]) > MAX_STRIDE:
        return f"stride must be at most {MAX_STRIDE}, not {a['stride']}"
    if a["dilation"] != (1, 1) and a["stride"] != (1, 1):
        return f"a dilated depthwise convolution must have stride 1, not {a['stride']}"
    return None


def _batch_norm(op: OpSpec, a: dict[str, Any]) -> str | None:
    return "batch_norm becomes a depthwise 1x1 filter, which must be at least 2 high; fold it into the convolution"


def _max_pool(op: OpSpec, a: dict[str, Any]) -> str | None:
    padding = tflite_padding(op)
    if padding is None:
        return f"padding must be zeros or a plain 'same' or 'valid', not {a['padding']} with the lowest value"
    if padding == "SAME" and max(a["kernel"]) > MAX_SAME_POOL:
        return f"a padded max pool must be at most {MAX_SAME_POOL} wide and high, not {a['kernel']}"
    return None


def _linear(op: OpSpec, a: dict[str, Any]) -> str | None:
    rank = len(op.inputs[0].shape)
    return None if rank == 2 else f"linear must be on a matrix, not on {rank} axes, which it would have to keep"


def _resize(op: OpSpec, a: dict[str, Any]) -> str | None:
    if a["mode"] == "bilinear" and max(a["size"]) > MAX_BILINEAR:
        return f"a bilinear resize must be to at most {MAX_BILINEAR}, not {a['size']}"
    return None


HEXAGON: dict[str, Rule] = {
    "add": _anything,
    "average_pool": _anything,
    "batch_norm": _batch_norm,
    "concat": _anything,
    "conv2d": _conv2d,
    "depthwise_conv2d": _depthwise,
    "global_average_pool": _anything,
    "hard_sigmoid": _anything,
    "hard_swish": _anything,
    "linear": _linear,
    "max_pool": _max_pool,
    "mul": _anything,
    "pad": _anything,
    "relu": _anything,
    "relu6": _anything,
    "reshape": _anything,
    "resize": _resize,
    "sigmoid": _anything,
    "silu": _anything,
    "softmax": _anything,
    "transpose": _anything,
}
"""hard_sigmoid and silu are written as Add, Mul and Logistic."""

QNN: dict[str, Rule] = {
    **{name: rule for name, rule in HEXAGON.items() if name not in ("batch_norm", "hard_sigmoid")},
    "conv2d": _ungrouped,
    "depthwise_conv2d": _anything,
    "max_pool": lambda op, a: None if tflite_padding(op) else f"padding must be 'same' or 'valid', not {a['padding']}",
    "resize": _anything,
}
