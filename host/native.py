"""Cuts a model that ONNX Runtime optimised into one-node models, each a NativeOp of its own.

A saved optimised model tells no shapes for ONNX Runtime's own operators, so they are worked out here: from the
names that survived, and by a few rules for the blocked ones. A one-node model is valid only for the machine that
optimised it: the block size follows its instruction set.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ops_catalog.spec import NativeOp, format_shape

Shape = tuple[int, ...]

BLOCKED_DOMAIN = "com.microsoft.nchwc"
CONVERSIONS = frozenset({"ReorderInput", "ReorderOutput", "Transpose", "Cast", "DequantizeLinear"})
_EXPORTED_NODE = re.compile(r"t\d+(\.\d+)*(/\d+)?")


@dataclass(frozen=True, slots=True)
class Piece:
    """One node of an optimised model.

    Attributes:
        name: the node's name there.
        inputs: names of the activations it reads; ``output`` of the one it writes.
        converts: it only changes the form of a tensor, and no operator of the Graph asked for it.
        form: how its output lies in memory: plain, blocked or nhwc, and its element type where that is not the Graph's.
        model: the one-node model, not yet serialised.
    """

    op: NativeOp
    name: str
    inputs: tuple[str, ...]
    output: str
    converts: bool
    form: str
    model: Callable[[], bytes]


def cut(optimised: bytes, shapes: Mapping[str, Shape]) -> list[Piece]:
    """The nodes of an optimised model in its order.

    Args:
        shapes: logical shapes of the tensors that kept their exported names.
    """
    import onnx

    model = onnx.load_from_string(optimised)
    constants = {constant.name: constant for constant in model.graph.initializer}
    types = {entry.name: (_declared(entry, shapes), entry.type.tensor_type.elem_type) for entry in model.graph.input}
    layouts = dict.fromkeys(types, "plain")
    known = _Known(types, layouts, constants, _block(model, constants), next(iter(types.values()))[1])
    pieces = []
    for node in model.graph.node:
        arrays = [name for name in node.input if name and name not in constants]
        types[node.output[0]] = (_output_shape(node, known, shapes), _output_type(node, known))
        layouts[node.output[0]] = _layout(node, known)
        pieces.append(_piece(model, node, tuple(dict.fromkeys(arrays)), known))
    return pieces


@dataclass(frozen=True, slots=True)
class _Known:
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


def _block(model: Any, constants: Mapping[str, Any]) -> int:
    """Channels in a block: 16, or 8 where a blocked convolution has an odd number of eights."""
    blocked = (node for node in model.graph.node if node.domain == BLOCKED_DOMAIN and node.op_type == "Conv")
    return 8 if any(constants[node.input[1]].dims[0] % 16 for node in blocked) else 16


def _declared(entry: Any, shapes: Mapping[str, Shape]) -> Shape:
    return shapes.get(entry.name) or tuple(dim.dim_value for dim in entry.type.tensor_type.shape.dim)


def _piece(model: Any, node: Any, arrays: tuple[str, ...], known: _Known) -> Piece:
    weights = [known.constants[name] for name in dict.fromkeys(node.input) if name in known.constants]
    weight_bytes = sum(len(weight.raw_data) for weight in weights)
    read = [known.constants[name] for name in node.input if name in known.constants]
    key = _key(node, [known.types[name] for name in arrays], read)
    return Piece(
        NativeOp(key, weight_bytes),
        node.name,
        arrays,
        node.output[0],
        node.op_type in CONVERSIONS and not _EXPORTED_NODE.fullmatch(node.name),
        _form(node.output[0], known),
        lambda: _one_node_model(model, node, arrays, known.types, weights),
    )


def _layout(node: Any, known: _Known) -> str:
    """How a node leaves its output: as the node demands, else as its first input lies."""
    shape, _ = known.types[node.output[0]]
    if len(shape) != 4:
        return "plain"
    last = _channels_last(node)
    if node.op_type == "ReorderOutput":
        return "nhwc" if last else "plain"
    if node.domain == BLOCKED_DOMAIN:
        return "blocked"
    names = known.read_by(node)
    before = known.layouts[names[0]] if names else "plain"
    if node.op_type == "Transpose" and not _EXPORTED_NODE.fullmatch(node.name):
        return "plain" if before == "nhwc" else "nhwc"
    return "nhwc" if last else before


def _form(name: str, known: _Known) -> str:
    kind = known.types[name][1]
    return known.layouts[name] + ("" if kind == known.usual else f":{_type_name(kind)}")


def _key(node: Any, arrays: Sequence[tuple[Shape, int]], weights: Sequence[Any]) -> str:
    parts = ["|".join(f"{format_shape(shape)}:{_type_name(kind)}" for shape, kind in arrays)]
    if weights:
        parts.append(
            "w=" + "|".join(f"{format_shape(weight.dims)}:{_type_name(weight.data_type)}" for weight in weights)
        )
    parts += [f"{name}={_value_text(value)}" for name, value in sorted(_attributes(node).items())]
    domain = node.domain.removeprefix("com.microsoft.") if node.domain else "ai.onnx"
    return f"{domain}.{node.op_type}({';'.join(parts)})"


def _type_name(kind: int) -> str:
    import onnx

    return str(onnx.TensorProto.DataType.Name(kind)).lower()


def _value_text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, float):
        return f"{value:.6g}"
    return ",".join(map(_value_text, value)) if isinstance(value, list) else str(value)


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _channels_last(node: Any) -> bool:
    return bool(_attributes(node).get("channels_last")) or node.op_type.startswith("Nhwc")


def _one_node_model(
    model: Any, node: Any, arrays: Sequence[str], types: Mapping[str, Any], weights: Sequence[Any]
) -> bytes:
    import onnx
    from onnx import helper

    names = {name: f"i{index}" for index, name in enumerate(arrays)}
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    del copy.input[:]
    copy.input.extend(names.get(name, name) for name in node.input)
    del copy.output[:]
    copy.output.append("o")
    inputs = [helper.make_tensor_value_info(names[name], types[name][1], types[name][0]) for name in arrays]
    shape, kind = types[node.output[0]]
    graph = helper.make_graph([copy], "native", inputs, [helper.make_tensor_value_info("o", kind, shape)], weights)
    one = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return bytes(one.SerializeToString())


def _output_type(node: Any, known: _Known) -> int:
    import onnx

    if node.op_type == "Cast":
        return int(_attributes(node)["to"])
    if node.op_type == "DequantizeLinear":
        return int(onnx.TensorProto.FLOAT)
    if node.op_type == "QuantizeLinear":
        return int(known.constants[node.input[2]].data_type) if len(node.input) > 2 else int(onnx.TensorProto.UINT8)
    return known.first(node)[1]


def _output_shape(node: Any, known: _Known, shapes: Mapping[str, Shape]) -> Shape:
    name = node.output[0]
    if name in shapes:
        return shapes[name]
    first, _ = known.first(node)
    rule = _SHAPE_RULES.get(node.op_type)
    return rule(first, node, known) if rule else first


def _window(x: Shape, node: Any, known: _Known) -> Shape:
    attributes, last = _attributes(node), _channels_last(node)
    weight = known.weight_dims(node)
    channels = weight[0] if len(weight) == 4 else x[3 if last else 1]
    kernel = attributes.get("kernel_shape") or weight[2:]
    pads, strides = attributes.get("pads") or [0] * 4, attributes.get("strides") or [1, 1]
    dilations = attributes.get("dilations") or [1, 1]

    def slid(axis: int) -> int:
        size = x[axis + (1 if last else 2)] + pads[axis] + pads[axis + 2]
        return int((size - dilations[axis] * (kernel[axis] - 1) - 1) // strides[axis] + 1)

    return (x[0], slid(0), slid(1), channels) if last else (x[0], channels, slid(0), slid(1))


def _global_pool(x: Shape, node: Any, known: _Known) -> Shape:
    return (x[0], 1, 1, x[3]) if _channels_last(node) else (x[0], x[1], 1, 1)


def _reorder_input(x: Shape, node: Any, known: _Known) -> Shape:
    if _channels_last(node):
        x = (x[0], x[3], x[1], x[2])
    return (x[0], -(-x[1] // known.block) * known.block, x[2], x[3])


def _reorder_output(x: Shape, node: Any, known: _Known) -> Shape:
    channels = int(_attributes(node)["channels"])
    return (x[0], x[2], x[3], channels) if _channels_last(node) else (x[0], channels, x[2], x[3])


def _transpose(x: Shape, node: Any, known: _Known) -> Shape:
    return tuple(x[axis] for axis in _attributes(node)["perm"])


def _gemm(x: Shape, node: Any, known: _Known) -> Shape:
    weight = known.weight_dims(node)
    return (*x[:-1], weight[0] if _attributes(node).get("transB") else weight[-1])


def _concat(x: Shape, node: Any, known: _Known) -> Shape:
    axis = int(_attributes(node)["axis"]) % len(x)
    total = sum(known.shape(name)[axis] for name in known.read_by(node))
    return (*x[:axis], total, *x[axis + 1 :])


def _broadcast(x: Shape, node: Any, known: _Known) -> Shape:
    return max((known.shape(name) for name in known.read_by(node)), key=math.prod)


_SHAPE_RULES = {
    **dict.fromkeys(("Conv", "FusedConv", "NhwcFusedConv", "QLinearConv", "MaxPool", "AveragePool"), _window),
    **dict.fromkeys(("QLinearAveragePool", "NhwcMaxPool"), _window),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "QLinearGlobalAveragePool"), _global_pool),
    **dict.fromkeys(("Gemm", "QGemm", "MatMul", "QLinearMatMul"), _gemm),
    **dict.fromkeys(("Add", "Mul", "QLinearAdd", "QLinearMul"), _broadcast),
    **dict.fromkeys(("Concat", "QLinearConcat"), _concat),
    "ReorderInput": _reorder_input,
    "ReorderOutput": _reorder_output,
    "Transpose": _transpose,
}
