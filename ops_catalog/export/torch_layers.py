"""What every operator type does to PyTorch tensors: FORWARD, and the constants that some need beside their weights.

Written as PyTorch's own networks are: symmetric padding belongs to the window, an activation that is part of an
operator works in place. PyTorch is imported here only when an operator runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ops_catalog import ops
from ops_catalog.ops.window import pads_of
from ops_catalog.spec import OpSpec

Layer = Any
"""A torch.nn.Module with the constants of one operator as parameters, further ones as buffers."""

Forward = Callable[[OpSpec, Layer, Sequence[Any], Any], Any]

PLAIN_OPERATORS = frozenset({"layer_norm", "matmul", "softmax"})
"""What reads a tensor of four dimensions in the order of its dimensions; everything else takes it for an image."""


def add_constants(op: OpSpec, layer: Layer) -> None:
    """Gives a layer the constants that are no weights: not trained, not part of a checkpoint."""
    import torch

    if op.type == "average_pool" and not _symmetric(op):
        counted = _summed(op, torch.ones(1, 1, *op.inputs[0].shape[2:]))
        layer.register_buffer("shares", 1 / counted, persistent=False)
    if op.type == "batch_norm":
        channels = op.inputs[0].shape[1]
        layer.register_buffer("mean", torch.zeros(channels), persistent=False)
        layer.register_buffer("variance", torch.ones(channels), persistent=False)


def _convolution(op: OpSpec, layer: Layer, inputs: Sequence[Any], norm: Any) -> Any:
    from torch.nn import functional

    a = ops.attributes(op)
    groups = a.get("groups", op.inputs[0].shape[1])
    bias = layer.get("bias")
    x, pads = (inputs[0], pads_of(op)[::2]) if _even(op) else (_padded(op, inputs[0], 0.0), (0, 0))
    y = functional.conv2d(x, layer["weight"], bias, a["stride"], pads, a["dilation"], groups)
    return _activated(a["activation"], y if norm is None else norm(y))


def _activated(activation: str, x: Any) -> Any:
    """In place: ``x`` was made by this operator."""
    from torch.nn import functional

    if activation == "relu":
        return functional.relu(x, inplace=True)
    return functional.relu6(x, inplace=True) if activation == "relu6" else x


def _even(op: OpSpec) -> bool:
    """Whether as many pixels are added on one side as on the other."""
    top, bottom, left, right = pads_of(op)
    return (top, left) == (bottom, right)


def _symmetric(op: OpSpec) -> bool:
    """Whether a pool can add the pixels itself: evenly, and at most half its window."""
    height, width = ops.attributes(op)["kernel"]
    top, _, left, _ = pads_of(op)
    return _even(op) and top <= height // 2 and left <= width // 2


def _padded(op: OpSpec, x: Any, value: float) -> Any:
    from torch.nn import functional

    top, bottom, left, right = pads_of(op)
    return functional.pad(x, (left, right, top, bottom), value=value)


def _max_pool(op: OpSpec, layer: Layer, inputs: Sequence[Any], norm: Any) -> Any:
    from torch.nn import functional

    a = ops.attributes(op)
    if _symmetric(op):
        return functional.max_pool2d(inputs[0], a["kernel"], a["stride"], pads_of(op)[::2])
    return functional.max_pool2d(_padded(op, inputs[0], float("-inf")), a["kernel"], a["stride"])


def _average_pool(op: OpSpec, layer: Layer, inputs: Sequence[Any], norm: Any) -> Any:
    """Padding does not count."""
    from torch.nn import functional

    a = ops.attributes(op)
    if _symmetric(op):
        return functional.avg_pool2d(inputs[0], a["kernel"], a["stride"], pads_of(op)[::2], count_include_pad=False)
    return _summed(op, inputs[0]) * layer.shares


def _summed(op: OpSpec, x: Any) -> Any:
    from torch.nn import functional

    a = ops.attributes(op)
    return functional.avg_pool2d(_padded(op, x, 0.0), a["kernel"], a["stride"], divisor_override=1)


def _linear(op: OpSpec, layer: Layer, inputs: Sequence[Any], norm: Any) -> Any:
    from torch.nn import functional

    return _activated(ops.attributes(op)["activation"], functional.linear(inputs[0], layer["weight"], layer["bias"]))


def _binary(op: OpSpec, layer: Layer, inputs: Sequence[Any], norm: Any) -> Any:
    y = inputs[0] + inputs[1] if op.type == "add" else inputs[0] * inputs[1]
    return _activated(ops.attributes(op)["activation"], y)


def _reshape(op: OpSpec, layer: Layer, inputs: Sequence[Any], norm: Any) -> Any:
    """Keeps the batch where the operator does."""
    shape, batch = ops.output(op).shape, op.inputs[0].shape[0]
    return inputs[0].reshape(inputs[0].shape[0], *shape[1:]) if shape[0] == batch else inputs[0].reshape(shape)


def _resize(op: OpSpec, layer: Layer, inputs: Sequence[Any], norm: Any) -> Any:
    from torch.nn import functional

    a = ops.attributes(op)
    if a["mode"] == "nearest":
        return functional.interpolate(inputs[0], a["size"], mode="nearest-exact")
    return functional.interpolate(inputs[0], a["size"], mode="bilinear", align_corners=False)


def _pad(op: OpSpec, layer: Layer, inputs: Sequence[Any], norm: Any) -> Any:
    from torch.nn import functional

    top, bottom, left, right = ops.attributes(op)["pads"]
    return functional.pad(inputs[0], (left, right, top, bottom))


def _layer_norm(op: OpSpec, layer: Layer, inputs: Sequence[Any], norm: Any) -> Any:
    from torch.nn import functional

    shape = (inputs[0].shape[-1],)
    return functional.layer_norm(inputs[0], shape, layer["scale"], layer["bias"], ops.attributes(op)["epsilon"])


def _batch_norm(op: OpSpec, layer: Layer, inputs: Sequence[Any], norm: Any) -> Any:
    """A batch norm whose statistics are part of scale and bias."""
    from torch.nn import functional

    scale = layer["scale"].view(-1)
    return functional.batch_norm(inputs[0], layer.mean, layer.variance, scale, layer["bias"], eps=0.0)


def _matmul(op: OpSpec, layer: Layer, inputs: Sequence[Any], norm: Any) -> Any:
    return inputs[0] @ (inputs[1].transpose(-1, -2) if ops.attributes(op)["transpose_b"] else inputs[1])


def _concat(op: OpSpec, layer: Layer, inputs: Sequence[Any], norm: Any) -> Any:
    import torch

    return torch.cat(list(inputs), dim=ops.attributes(op)["axis"])


def _global_average_pool(op: OpSpec, layer: Layer, inputs: Sequence[Any], norm: Any) -> Any:
    return inputs[0].mean(dim=(2, 3), keepdim=True)


def _softmax(op: OpSpec, layer: Layer, inputs: Sequence[Any], norm: Any) -> Any:
    return inputs[0].softmax(dim=ops.attributes(op)["axis"])


def _transpose(op: OpSpec, layer: Layer, inputs: Sequence[Any], norm: Any) -> Any:
    return inputs[0].permute(ops.attributes(op)["perm"])


def _gelu(op: OpSpec, layer: Layer, inputs: Sequence[Any], norm: Any) -> Any:
    from torch.nn import functional

    return functional.gelu(inputs[0], approximate=ops.attributes(op)["approximate"])


def _pointwise(name: str) -> Forward:
    def apply(op: OpSpec, layer: Layer, inputs: Sequence[Any], norm: Any) -> Any:
        from torch.nn import functional

        return getattr(functional, name)(inputs[0])

    return apply


FORWARD: dict[str, Forward] = {
    "add": _binary, "average_pool": _average_pool, "batch_norm": _batch_norm, "concat": _concat,
    "conv2d": _convolution, "depthwise_conv2d": _convolution, "gelu": _gelu,
    "global_average_pool": _global_average_pool, "hard_sigmoid": _pointwise("hardsigmoid"),
    "hard_swish": _pointwise("hardswish"), "layer_norm": _layer_norm, "linear": _linear, "matmul": _matmul,
    "max_pool": _max_pool, "mul": _binary, "pad": _pad, "relu": _pointwise("relu"), "relu6": _pointwise("relu6"),
    "reshape": _reshape, "resize": _resize, "sigmoid": _pointwise("sigmoid"), "silu": _pointwise("silu"),
    "softmax": _softmax, "transpose": _transpose,
}  # fmt: skip
"""Of every operator type what it does to tensors; ``norm`` is the batch norm that follows a convolution, or None."""
