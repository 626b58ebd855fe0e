"""Cuts a model that ONNX Runtime optimised into one-node models, each a NativeOp of its own.

A saved optimised model tells no shapes for ONNX Runtime's own operators, so they are worked out here: from the
names that survived, and by a few rules for the blocked ones. A one-node model is valid only for the machine that
optimised it: the block size follows its instruction set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ops_catalog.spec import NativeOp, format_shape

Shape = tuple[int, ...]

CONVERSIONS = {"ReorderInput": "blocked", "ReorderOutput": "plain", "Transpose": "nhwc"}


@dataclass(frozen=True, slots=True)
class Piece:
    """One node of an optimised model.

    Attributes:
        name: the node's name there.
        inputs: names of the activations it reads; ``output`` of the one it writes.
        converts: it only changes how a tensor lies in memory.
        label: the form it leaves its output in, "" where it is that of its input.
        model: the one-node model, not yet serialised.
    """

    op: NativeOp
    name: str
    inputs: tuple[str, ...]
    output: str
    converts: bool
    label: str
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
    pieces = []
    for node in model.graph.node:
        arrays = [name for name in node.input if name and name not in constants]
        for name in node.output[:1]:
            types[name] = (_output_shape(node, types, constants, shapes), _output_type(node, types, constants))
        pieces.append(_piece(model, node, tuple(dict.fromkeys(arrays)), types, constants))
    return pieces


def _declared(entry: Any, shapes: Mapping[str, Shape]) -> Shape:
    return shapes.get(entry.name) or tuple(dim.dim_value for dim in entry.type.tensor_type.shape.dim)


def _piece(model: Any, node: Any, arrays: tuple[str, ...], types: Mapping[str, Any], constants: Mapping[str, Any]) -> Piece:
    weights = [constants[name] for name in dict.fromkeys(node.input) if name in constants]
    weight_bytes = sum(len(weight.raw_data) for weight in weights)
    key = _key(node, [types[name] for name in arrays], weights)
    return Piece(
        NativeOp(key, weight_bytes),
        node.name,
        arrays,
        node.output[0],
        node.op_type in CONVERSIONS,
        _label(node),
        lambda: _one_node_model(model, node, arrays, types, weights),
    )


def _label(node: Any) -> str:
    if node.op_type in CONVERSIONS:
        return CONVERSIONS[node.op_type]
    return "blocked" if node.domain == "com.microsoft.nchwc" else "nhwc" if _attributes(node).get("channels_last") else ""


def _key(node: Any, arrays: Sequence[tuple[Shape, int]], weights: Sequence[Any]) -> str:
    parts = ["|".join(f"{format_shape(shape)}:{_type_name(kind)}" for shape, kind in arrays)]
    if weights:
        parts.append("w=" + "|".join(f"{format_shape(weight.dims)}:{_type_name(weight.data_type)}" for weight in weights))
    parts += [f"{name}={_value_text(value)}" for name, value in sorted(_attributes(node).items())]
    domain = node.domain.removeprefix("com.microsoft.") if node.domain else "ai.onnx"
    return f"{domain}.{node.op_type}({';'.join(parts)})"


def _type_name(kind: int) -> str:
    import onnx

    return onnx.TensorProto.DataType.Name(kind).lower()


def _value_text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, float):
        return f"{value:.6g}"
    return ",".join(map(_value_text, value)) if isinstance(value, list) else str(value)


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _one_node_model(model: Any, node: Any, arrays: Sequence[str], types: Mapping[str, Any], weights: Sequence[Any]) -> bytes:
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


def _output_type(node: Any, types: Mapping[str, Any], constants: Mapping[str, Any]) -> int:
    import onnx

    if node.op_type == "Cast":
        return int(_attributes(node)["to"])
    if node.op_type == "DequantizeLinear":
        return int(onnx.TensorProto.FLOAT)
    if node.op_type == "QuantizeLinear":
        return int(constants[node.input[2]].data_type) if len(node.input) > 2 else int(onnx.TensorProto.UINT8)
    return int(next(types[name][1] for name in node.input if name in types))


def _output_shape(node: Any, types: Mapping[str, Any], constants: Mapping[str, Any], shapes: Mapping[str, Shape]) -> Shape:
    name = node.output[0]
    if name in shapes:
        return shapes[name]
    first = next(types[name][0] for name in node.input if name in types)
    rule = _SHAPE_RULES.get(node.op_type)
    return rule(first, node, types, constants) if rule else first


def _window(x: Shape, node: Any, types: Mapping[str, Any], constants: Mapping[str, Any]) -> Shape:
    attributes = _attributes(node)
    last = bool(attributes.get("channels_last"))
    weight = max((constants[name].dims for name in node.input if name in constants), key=len, default=())
    channels = weight[0] if len(weight) == 4 else x[3 if last else 1]
    kernel = attributes.get("kernel_shape") or list(weight[2:])
    pads, strides = attributes.get("pads") or [0] * 4, attributes.get("strides") or [1, 1]
    dilations = attributes.get("dilations") or [1, 1]
    size = [
        (x[axis + (1 if last else 2)] + pads[axis] + pads[axis + 2] - dilations[axis] * (kernel[axis] - 1) - 1) // strides[axis] + 1
        for axis in (0, 1)
    ]
    return (x[0], *size, channels) if last else (x[0], channels, *size)


def _global_pool(x: Shape, node: Any, types: Mapping[str, Any], constants: Mapping[str, Any]) -> Shape:
    return (x[0], 1, 1, x[3]) if _attributes(node).get("channels_last") else (x[0], x[1], 1, 1)


def _reorder_input(x: Shape, node: Any, types: Mapping[str, Any], constants: Mapping[str, Any]) -> Shape:
    if _attributes(node).get("channels_last"):
        x = (x[0], x[3], x[1], x[2])
    return (x[0], -(-x[1] // BLOCK) * BLOCK, x[2], x[3])


def _reorder_output(x: Shape, node: Any, types: Mapping[str, Any], constants: Mapping[str, Any]) -> Shape:
    attributes = _attributes(node)
    plain = (x[0], int(attributes["channels"]), x[2], x[3])
    return (plain[0], plain[2], plain[3], plain[1]) if attributes.get("channels_last") else plain


def _transpose(x: Shape, node: Any, types: Mapping[str, Any], constants: Mapping[str, Any]) -> Shape:
    return tuple(x[axis] for axis in _attributes(node)["perm"])


def _gemm(x: Shape, node: Any, types: Mapping[str, Any], constants: Mapping[str, Any]) -> Shape:
    weight = max((constants[name].dims for name in node.input if name in constants), key=len)
    return (*x[:-1], weight[0] if _attributes(node).get("transB") else weight[-1])


def _concat(x: Shape, node: Any, types: Mapping[str, Any], constants: Mapping[str, Any]) -> Shape:
    axis = int(_attributes(node)["axis"]) % len(x)
    total = sum(types[name][0][axis] for name in node.input if name in types)
    return (*x[:axis], total, *x[axis + 1 :])


def _broadcast(x: Shape, node: Any, types: Mapping[str, Any], constants: Mapping[str, Any]) -> Shape:
    every = [types[name][0] for name in node.input if name in types]
    return max(every, key=math.prod)


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
