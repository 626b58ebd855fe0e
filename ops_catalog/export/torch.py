"""Graph -> a PyTorch module: to train a network, and to bring its weights back into ONNX and TFLite files.

A module has one layer for each operator of the expanded Graph. For training, convolutions are followed by batch norm
instead of their bias; ``folded_weights`` folds it back, so that the exported file and the trained module agree. The
number of images in a batch is free. PyTorch is imported here only, when a module is built.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ops_catalog import ops
from ops_catalog.build import expand
from ops_catalog.export.weights import Weights, source_of
from ops_catalog.ops import resize
from ops_catalog.ops.contract import Array
from ops_catalog.ops.window import pads_of
from ops_catalog.spec import Graph, OpSpec, SpecError

CONVOLUTIONS = ("conv2d", "depthwise_conv2d")

Layer = Any
"""A torch.nn.Module with the constants of one operator as parameters."""


def build_module(graph: Graph, seed: int = 0, weights: Weights | None = None, batch_norm: bool = False) -> Any:
    """A torch.nn.Module that computes a float32 network: takes and returns its inputs and outputs in order.

    Args:
        weights: of the expanded operators; seeded ones by default.
        batch_norm: whether convolutions get batch norm in place of their bias, for training.

    Raises:
        SpecError: the network is not float32.
        ModuleNotFoundError: PyTorch is not installed (``pip install chamnet[train]``).
    """
    import torch

    if graph.dtype != "float32":
        raise SpecError(f"a PyTorch module must be of a float32 network, but got {graph.dtype}")
    expanded, source = expand(graph), source_of(seed, weights)
    module: Any = torch.nn.Module()
    module.layers = torch.nn.ModuleList()
    module.norms = torch.nn.ModuleDict()
    for index, node in enumerate(expanded.nodes):
        values = source(node.op, index)
        if batch_norm and node.op.type in CONVOLUTIONS:
            values = {"weight": values["weight"]}
            module.norms[str(index)] = torch.nn.BatchNorm2d(ops.output(node.op).shape[1])
        parameters = {name: torch.nn.Parameter(torch.from_numpy(np.array(v))) for name, v in values.items()}
        module.layers.append(torch.nn.ParameterDict(parameters))

    norms = {int(name): norm for name, norm in module.norms.items()}

    def forward(*images: Any) -> Any:
        tensors = dict(zip((name for name, _ in expanded.inputs), images, strict=True))
        for index, node in enumerate(expanded.nodes):
            norm = norms.get(index)
            inputs = [tensors[name] for name in node.inputs]
            tensors[node.output] = FORWARD[node.op.type](node.op, module.layers[index], inputs, norm)
        outputs = [tensors[name] for name in expanded.outputs]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    module.forward = forward
    return module


def folded_weights(module: Any) -> list[dict[str, Array]]:
    """The constants of every operator of the expanded network, batch norms folded into their convolutions."""
    found = []
    for index, layer in enumerate(module.layers):
        values = {name: parameter.detach().cpu().numpy() for name, parameter in layer.items()}
        if str(index) in module.norms:
            norm = module.norms[str(index)]
            shift, mean = norm.bias.detach().cpu().numpy(), norm.running_mean.cpu().numpy()
            factor = (norm.weight.detach() / (norm.running_var + norm.eps).sqrt()).cpu().numpy()
            values = {"weight": values["weight"] * factor[:, None, None, None], "bias": shift - mean * factor}
        found.append(values)
    return found


def _convolution(op: OpSpec, layer: Layer, inputs: Sequence[Any], norm: Any) -> Any:
    from torch.nn import functional

    a = ops.attributes(op)
    groups = a.get("groups", op.inputs[0].shape[1])
    bias = dict(layer.items()).get("bias")
    x = _padded(op, inputs[0], 0.0)
    y = functional.conv2d(x, layer["weight"], bias, a["stride"], 0, a["dilation"], groups)
    return _activated(a["activation"], y if norm is None else norm(y))


def _activated(activation: str, x: Any) -> Any:
    from torch.nn import functional

    if activation == "relu":
        return functional.relu(x)
    return functional.relu6(x) if activation == "relu6" else x


def _padded(op: OpSpec, x: Any, value: float) -> Any:
    from torch.nn import functional

    top, bottom, left, right = pads_of(op)
    return functional.pad(x, (left, right, top, bottom), value=value) if top + bottom + left + right else x


def _max_pool(op: OpSpec, layer: Layer, inputs: Sequence[Any], norm: Any) -> Any:
    from torch.nn import functional

    a = ops.attributes(op)
    return functional.max_pool2d(_padded(op, inputs[0], float("-inf")), a["kernel"], a["stride"])


def _average_pool(op: OpSpec, layer: Layer, inputs: Sequence[Any], norm: Any) -> Any:
    """Padding does not count."""
    import torch
    from torch.nn import functional

    a = ops.attributes(op)
    total, counted = (
        functional.avg_pool2d(_padded(op, x, 0.0), a["kernel"], a["stride"], divisor_override=1)
        for x in (inputs[0], torch.ones_like(inputs[0][:1, :1]))
    )
    return total / counted


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
    import torch

    a, sides = ops.attributes(op), op.inputs[0].shape[2:]
    blends = [resize.blend(a["mode"], side, size) for side, size in zip(sides, a["size"], strict=True)]
    rows, columns = (torch.as_tensor(np.asarray(b, np.float32), device=inputs[0].device) for b in blends)
    return rows @ inputs[0] @ columns.T


def _pad(op: OpSpec, layer: Layer, inputs: Sequence[Any], norm: Any) -> Any:
    from torch.nn import functional

    top, bottom, left, right = ops.attributes(op)["pads"]
    return functional.pad(inputs[0], (left, right, top, bottom))


def _layer_norm(op: OpSpec, layer: Layer, inputs: Sequence[Any], norm: Any) -> Any:
    from torch.nn import functional

    shape = (inputs[0].shape[-1],)
    return functional.layer_norm(inputs[0], shape, layer["scale"], layer["bias"], ops.attributes(op)["epsilon"])


def _batch_norm(op: OpSpec, layer: Layer, inputs: Sequence[Any], norm: Any) -> Any:
    return inputs[0] * layer["scale"].reshape(-1, 1, 1) + layer["bias"].reshape(-1, 1, 1)


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


def _pointwise(name: str) -> Callable[..., Any]:
    def apply(op: OpSpec, layer: Layer, inputs: Sequence[Any], norm: Any) -> Any:
        from torch.nn import functional

        return getattr(functional, name)(inputs[0])

    return apply


FORWARD: dict[str, Callable[[OpSpec, Layer, Sequence[Any], Any], Any]] = {
    "add": _binary, "average_pool": _average_pool, "batch_norm": _batch_norm, "concat": _concat,
    "conv2d": _convolution, "depthwise_conv2d": _convolution, "gelu": _gelu,
    "global_average_pool": _global_average_pool, "hard_sigmoid": _pointwise("hardsigmoid"),
    "hard_swish": _pointwise("hardswish"), "layer_norm": _layer_norm, "linear": _linear, "matmul": _matmul,
    "max_pool": _max_pool, "mul": _binary, "pad": _pad, "relu": _pointwise("relu"), "relu6": _pointwise("relu6"),
    "reshape": _reshape, "resize": _resize, "sigmoid": _pointwise("sigmoid"), "silu": _pointwise("silu"),
    "softmax": _softmax, "transpose": _transpose,
}  # fmt: skip
"""Of every operator type what it does to tensors; ``norm`` is the batch norm that follows a convolution, or None."""
