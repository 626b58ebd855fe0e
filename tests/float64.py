"""What operators mean, once more and apart from ``ops_catalog``: plain NumPy in float64, to hold engines against."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.special import erf, expit

from ops_catalog import ops
from ops_catalog.build import expand
from ops_catalog.export.quantise import HIGH, LOW, Quant, quantise_weight
from ops_catalog.export.weights import make_weights
from ops_catalog.ops.contract import Array
from ops_catalog.ops.window import pads_of
from ops_catalog.spec import Graph, OpSpec

Round = Callable[[Array], Array]


def evaluate64(
    graph: Graph, inputs: Mapping[str, Array], round_constants: Round = lambda array: array,
    quant: Mapping[str, Quant] | None = None,
) -> Array:  # fmt: skip
    """The first output of a network with its seeded weights (seed 0), in float64.

    Args:
        round_constants: what storing weights in a smaller type makes of them.
        quant: scale and zero point of every tensor, and weights in int8, as in an int8 model.
    """
    values = {name: _stored(np.asarray(array, np.float64), quant, name) for name, array in inputs.items()}
    for index, node in enumerate(expand(graph).nodes):
        drawn = make_weights(0, node.op, index)
        weights = {name: _weight(node.op, name, array, round_constants, quant) for name, array in drawn.items()}
        made = MEANING[node.op.type](node.op, ops.attributes(node.op), [values[name] for name in node.inputs], weights)
        values[node.output] = _stored(made, quant, node.output)
    return values[graph.outputs[0]]


def quantised(array: Array, quant: Quant) -> Array:
    """The integers that an int8 tensor holds."""
    return np.clip(np.rint(np.asarray(array, np.float64) / quant[0]) + quant[1], LOW, HIGH)


def _stored(array: Array, quant: Mapping[str, Quant] | None, name: str) -> Array:
    return array if quant is None else (quantised(array, quant[name]) - quant[name][1]) * quant[name][0]


def _weight(op: OpSpec, name: str, array: Array, rounded: Round, quant: Mapping[str, Quant] | None) -> Array:
    facts = next(weight for weight in ops.weights(op) if weight.name == name)
    if quant is None or facts.fan_in == 0:
        return np.asarray(rounded(array), np.float64)
    held = quantise_weight(array, facts.channel_axis)
    shape = (
        [-1 if axis == held.axis else 1 for axis in range(array.ndim)] if held.axis is not None else [1] * array.ndim
    )
    return held.values.astype(np.float64) * held.scales.astype(np.float64).reshape(shape)


def _activated(a: Mapping[str, Any], x: Array) -> Array:
    kind = a.get("activation", "none")
    return {"none": x, "relu": np.maximum(x, 0), "relu6": np.clip(x, 0, 6)}[kind]


def _windows(op: OpSpec, a: Mapping[str, Any], x: Array, fill: float) -> Array:
    """N x C x H x W x kernel, the output's H x W."""
    top, bottom, left, right = pads_of(op)
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    kernel, (down, across), spread = a["kernel"], a["stride"], a.get("dilation", (1, 1))
    spans = tuple((k - 1) * d + 1 for k, d in zip(kernel, spread, strict=True))
    seen = sliding_window_view(padded, spans, axis=(2, 3))
    return seen[:, :, ::down, ::across, :: spread[0], :: spread[1]]


def _conv2d(op: OpSpec, a: Mapping[str, Any], inputs: Sequence[Array], w: Mapping[str, Array]) -> Array:
    seen, groups = _windows(op, a, inputs[0], 0.0), a["groups"]
    n, channels, rows, columns, *kernel = seen.shape
    grouped = seen.reshape(n, groups, channels // groups, rows, columns, *kernel)
    weight = w["weight"].reshape(groups, -1, channels // groups, *kernel)
    y = np.einsum("ngchwij,gocij->ngohw", grouped, weight, optimize=True).reshape(n, -1, rows, columns)
    return _activated(a, y + w["bias"][:, None, None])


def _depthwise(op: OpSpec, a: Mapping[str, Any], inputs: Sequence[Array], w: Mapping[str, Array]) -> Array:
    y = np.einsum("nchwij,cij->nchw", _windows(op, a, inputs[0], 0.0), w["weight"][:, 0])
    return _activated(a, y + w["bias"][:, None, None])


def _layer_norm(op: OpSpec, a: Mapping[str, Any], inputs: Sequence[Array], w: Mapping[str, Array]) -> Array:
    mean, variance = (f(inputs[0], axis=-1, keepdims=True) for f in (np.mean, np.var))
    return (inputs[0] - mean) / np.sqrt(variance + a["epsilon"]) * w["scale"] + w["bias"]


def _gelu(op: OpSpec, a: Mapping[str, Any], inputs: Sequence[Array], w: Mapping[str, Array]) -> Array:
    x = inputs[0]
    if a["approximate"] == "tanh":
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return np.asarray(0.5 * x * (1 + erf(x / np.sqrt(2))))


def _softmax(op: OpSpec, a: Mapping[str, Any], inputs: Sequence[Array], w: Mapping[str, Array]) -> Array:
    powers = np.exp(inputs[0] - inputs[0].max(axis=a["axis"], keepdims=True))
    return np.asarray(powers / powers.sum(axis=a["axis"], keepdims=True))


def _resize(op: OpSpec, a: Mapping[str, Any], inputs: Sequence[Array], w: Mapping[str, Array]) -> Array:
    """Half-pixel centres, the edge repeated beyond it."""
    x = inputs[0]
    for axis, size in zip((2, 3), a["size"], strict=True):
        count = x.shape[axis]
        centre = np.clip((np.arange(size) + 0.5) * count / size - 0.5, 0, count - 1)
        if a["mode"] == "nearest":
            x = np.take(x, np.floor(centre + 0.5).astype(int), axis)
            continue
        low, share = np.floor(centre).astype(int), centre - np.floor(centre)
        share = share.reshape([-1 if i == axis else 1 for i in range(4)])
        x = np.take(x, low, axis) * (1 - share) + np.take(x, np.minimum(low + 1, count - 1), axis) * share
    return x


MEANING: dict[str, Callable[[OpSpec, Mapping[str, Any], Sequence[Array], Mapping[str, Array]], Array]] = {
    "add": lambda op, a, x, w: _activated(a, x[0] + x[1]),
    "average_pool": lambda op, a, x, w: np.nanmean(_windows(op, a, x[0], np.nan), axis=(4, 5)),
    "batch_norm": lambda op, a, x, w: x[0] * w["scale"].reshape(-1, 1, 1) + w["bias"][:, None, None],
    "concat": lambda op, a, x, w: np.concatenate(list(x), a["axis"]),
    "conv2d": _conv2d,
    "depthwise_conv2d": _depthwise,
    "gelu": _gelu,
    "global_average_pool": lambda op, a, x, w: x[0].mean(axis=(2, 3), keepdims=True),
    "hard_sigmoid": lambda op, a, x, w: np.clip(x[0] / 6 + 0.5, 0, 1),
    "hard_swish": lambda op, a, x, w: x[0] * np.clip(x[0] + 3, 0, 6) / 6,
    "layer_norm": _layer_norm,
    "linear": lambda op, a, x, w: _activated(a, x[0] @ w["weight"].T + w["bias"]),
    "matmul": lambda op, a, x, w: x[0] @ (np.swapaxes(x[1], -1, -2) if a["transpose_b"] else x[1]),
    "max_pool": lambda op, a, x, w: _windows(op, a, x[0], -np.inf).max(axis=(4, 5)),
    "mul": lambda op, a, x, w: _activated(a, x[0] * x[1]),
    "pad": lambda op, a, x, w: np.pad(x[0], ((0, 0), (0, 0), a["pads"][:2], a["pads"][2:])),
    "relu": lambda op, a, x, w: np.maximum(x[0], 0),
    "relu6": lambda op, a, x, w: np.clip(x[0], 0, 6),
    "reshape": lambda op, a, x, w: x[0].reshape(a["shape"]),
    "resize": _resize,
    "sigmoid": lambda op, a, x, w: expit(x[0]),
    "silu": lambda op, a, x, w: x[0] * expit(x[0]),
    "softmax": _softmax,
    "transpose": lambda op, a, x, w: x[0].transpose(a["perm"]),
}
"""Of every operator type that an expanded network has."""
