"""Shape, element type and layout of every tensor of a model that ONNX Runtime optimised.

A saved optimised model does not tell them for ONNX Runtime's own operators: they follow from the names that survived,
and from a few rules for the blocked and the integer operators.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Shape = tuple[int, ...]

BLOCKED_DOMAIN, LAST_DOMAIN = "com.microsoft.nchwc", "com.ms.internal.nhwc"
EXPORTED_NODE = re.compile(r"t\d+(\.\d+)*(/\d+)?")


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a model: shape, element type and layout of every tensor so far; its constants.

    Attributes:
        block: channels in a block.
        usual: the element type of the Graph.
    """

    types: dict[str, tuple[Shape, int]]
    layouts: dict[str, str]
    constants: Mapping[str, Any]
    block: int
    usual: int

    def shape(self, name: str) -> Shape:
        return self.types[name][0]

    def read_by(self, node: Any) -> list[str]:
        return [name for name in node.input if name in self.types]

    def first(self, node: Any) -> tuple[Shape, int]:
        """Shape and type of the first activation a node reads, else of its first constant."""
        names = self.read_by(node)
        if names:
            return self.types[names[0]]
        constant = self.constants[node.input[0]]
        return tuple(constant.dims), int(constant.data_type)

    def weight_dims(self, node: Any) -> Shape:
        """Of the constant with the most dimensions."""
        return max(
            (tuple(self.constants[name].dims) for name in node.input if name in self.constants), key=len, default=()
        )


def block_size(model: Any, constants: Mapping[str, Any]) -> int:
    """Channels in a block: 16, or 8 where a blocked convolution has an odd number of eights."""
    blocked = (node for node in model.graph.node if node.domain == BLOCKED_DOMAIN and node.op_type == "Conv")
    return 8 if any(constants[node.input[1]].dims[0] % 16 for node in blocked) else 16


def layout_of(node: Any, known: Known) -> str:
    """How a node leaves its output: as the node demands, else as its first input lies."""
    shape, _ = known.types[node.output[0]]
    if len(shape) != 4:
        return "plain"
    last = channels_last(node)
    if node.op_type == "ReorderOutput":
        return "nhwc" if last else "plain"
    if node.domain == BLOCKED_DOMAIN:
        return "blocked"
    names = known.read_by(node)
    before = known.layouts[names[0]] if names else "plain"
    if node.op_type == "Transpose" and not EXPORTED_NODE.fullmatch(node.name):
        return "plain" if before == "nhwc" else "nhwc"
    return "nhwc" if last else before


def attributes_of(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def channels_last(node: Any) -> bool:
    last = node.domain == LAST_DOMAIN or node.op_type.startswith("Nhwc")
    return last or bool(attributes_of(node).get("channels_last"))


def output_type(node: Any, known: Known) -> int:
    import onnx

    if node.op_type == "Cast":
        return int(attributes_of(node)["to"])
    if node.op_type == "DequantizeLinear":
        return int(onnx.TensorProto.FLOAT)
    if node.op_type == "QuantizeLinear":
        return int(known.constants[node.input[2]].data_type) if len(node.input) > 2 else int(onnx.TensorProto.UINT8)
    return known.first(node)[1]


def output_shape(node: Any, known: Known, shapes: Mapping[str, Shape]) -> Shape:
    name = node.output[0]
    if name in shapes:
        return shapes[name]
    first, _ = known.first(node)
    rule = _SHAPE_RULES.get(node.op_type)
    return rule(first, node, known) if rule else first


def _window(x: Shape, node: Any, known: Known) -> Shape:
    attributes, last = attributes_of(node), channels_last(node)
    weight = known.weight_dims(node)
    channels = weight[0] if len(weight) == 4 else x[3 if last else 1]
    kernel = attributes.get("kernel_shape") or weight[2:]
    pads, strides = attributes.get("pads") or [0] * 4, attributes.get("strides") or [1, 1]
    dilations = attributes.get("dilations") or [1, 1]

    def slid(axis: int) -> int:
        size = x[axis + (1 if last else 2)] + pads[axis] + pads[axis + 2]
        return int((size - dilations[axis] * (kernel[axis] - 1) - 1) // strides[axis] + 1)

    return (x[0], slid(0), slid(1), channels) if last else (x[0], channels, slid(0), slid(1))


def _global_pool(x: Shape, node: Any, known: Known) -> Shape:
    return (x[0], 1, 1, x[3]) if channels_last(node) else (x[0], x[1], 1, 1)


def _reorder_input(x: Shape, node: Any, known: Known) -> Shape:
    if channels_last(node):
        x = (x[0], x[3], x[1], x[2])
    return (x[0], -(-x[1] // known.block) * known.block, x[2], x[3])


def _reorder_output(x: Shape, node: Any, known: Known) -> Shape:
    channels = int(attributes_of(node)["channels"])
    return (x[0], x[2], x[3], channels) if channels_last(node) else (x[0], channels, x[2], x[3])


def _transpose(x: Shape, node: Any, known: Known) -> Shape:
    return tuple(x[axis] for axis in attributes_of(node)["perm"])


def _gemm(x: Shape, node: Any, known: Known) -> Shape:
    weight = known.weight_dims(node)
    return (*x[:-1], weight[0] if attributes_of(node).get("transB") else weight[-1])


def _concat(x: Shape, node: Any, known: Known) -> Shape:
    axis = int(attributes_of(node)["axis"]) % len(x)
    total = sum(known.shape(name)[axis] for name in known.read_by(node))
    return (*x[:axis], total, *x[axis + 1 :])


def _broadcast(x: Shape, node: Any, known: Known) -> Shape:
    return max((known.shape(name) for name in known.read_by(node)), key=math.prod)


_SHAPE_RULES = {
    **dict.fromkeys(("Conv", "FusedConv", "NhwcFusedConv", "QLinearConv", "MaxPool", "AveragePool"), _window),
    **dict.fromkeys(("QLinearAveragePool", "NhwcMaxPool"), _window),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "QLinearGlobalAveragePool"), _global_pool),
    **dict.fromkeys(("Gemm", "QGemm", "MatMul", "FusedMatMul", "QLinearMatMul"), _gemm),
    **dict.fromkeys(("Add", "Mul", "QLinearAdd", "QLinearMul"), _broadcast),
    **dict.fromkeys(("Concat", "QLinearConcat"), _concat),
    "ReorderInput": _reorder_input,
    "ReorderOutput": _reorder_output,
    "Transpose": _transpose,
}
