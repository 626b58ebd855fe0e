"""The normal form of an operator: of several ways to write the same thing, the one that parsing gives.

Padding is "same" where it amounts to that, else "valid", else four sizes; a reshape names its full shape; an axis
counts from the front, but softmax's last one is -1.
"""

from __future__ import annotations

from dataclasses import replace

from ops_catalog import ops
from ops_catalog.ops.window import Pads, pads, pads_of
from ops_catalog.spec import Graph, OpSpec, SpecError, TensorSpec, Value

WINDOWS = frozenset({"conv2d", "depthwise_conv2d", "max_pool", "average_pool"})


def normal_graph(graph: Graph) -> Graph:
    return replace(graph, nodes=tuple(replace(node, op=normal_op(node.op)) for node in graph.nodes))


def normal_op(op: OpSpec) -> OpSpec:
    """The same operator, written as parsing writes it."""
    a = ops.attributes(op)
    if op.type in WINDOWS:
        return _with(op, padding=padding_of(op.inputs[0], a, pads_of(op)))
    if op.type == "reshape":
        return _with(op, shape=ops.output(op).shape)
    if op.type == "concat":
        return _with(op, axis=a["axis"] % len(op.inputs[0].shape))
    if op.type == "softmax":
        rank = len(op.inputs[0].shape)
        return _with(op, axis=-1 if a["axis"] % rank == rank - 1 else a["axis"] % rank)
    return op


def padding_of(image: TensorSpec, attributes: dict[str, Value], sizes: Pads) -> Value:
    """How pixels added (top, bottom, left, right) are written: "same", "valid" or the four of them."""
    if len(image.shape) != 4:
        raise SpecError(f"a window needs an image of rank 4, but got {image.shape}")
    kernel, stride = attributes["kernel"], attributes.get("stride", (1, 1))
    dilation = attributes.get("dilation", (1, 1))
    if sizes == pads(image.shape[2:], kernel, stride, dilation, "same"):  # type: ignore[arg-type]
        return "same"
    return sizes if any(sizes) else "valid"


def _with(op: OpSpec, **attributes: Value) -> OpSpec:
    return ops.make_op(op.type, *op.inputs, **{**ops.attributes(op), **attributes})
