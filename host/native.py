"""Cuts a model that ONNX Runtime optimised into one-node models, each a NativeOp of its own.

A one-node model is valid only for machines like the one that optimised it: the block size follows its instruction
set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from host.native_shapes import (
    EXPORTED_NODE,
    Known,
    Shape,
    attributes_of,
    block_size,
    layout_of,
    output_shape,
    output_type,
)
from ops_catalog.spec import NativeOp, format_shape

CONVERSIONS = frozenset({"ReorderInput", "ReorderOutput", "Transpose", "Cast", "DequantizeLinear"})


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
    known = Known(types, layouts, constants, block_size(model, constants), next(iter(types.values()))[1])
    pieces = []
    for node in model.graph.node:
        arrays = [name for name in node.input if name and name not in constants]
        types[node.output[0]] = (output_shape(node, known, shapes), output_type(node, known))
        layouts[node.output[0]] = layout_of(node, known)
        pieces.append(_piece(model, node, tuple(dict.fromkeys(arrays)), known))
    return pieces


def _declared(entry: Any, shapes: Mapping[str, Shape]) -> Shape:
    return shapes.get(entry.name) or tuple(dim.dim_value for dim in entry.type.tensor_type.shape.dim)


def _piece(model: Any, node: Any, arrays: tuple[str, ...], known: Known) -> Piece:
    weights = [known.constants[name] for name in dict.fromkeys(node.input) if name in known.constants]
    weight_bytes = sum(len(weight.raw_data) for weight in weights)
    read = [known.constants[name] for name in node.input if name in known.constants]
    key = _key(node, [known.types[name] for name in arrays], read)
    return Piece(
        NativeOp(key, weight_bytes),
        node.name,
        arrays,
        node.output[0],
        node.op_type in CONVERSIONS and not EXPORTED_NODE.fullmatch(node.name),
        _form(node.output[0], known),
        lambda: _one_node_model(model, node, arrays, known.types, weights),
    )


def _form(name: str, known: Known) -> str:
    kind = known.types[name][1]
    return known.layouts[name] + ("" if kind == known.usual else f":{_type_name(kind)}")


def _key(node: Any, arrays: Sequence[tuple[Shape, int]], weights: Sequence[Any]) -> str:
    parts = ["|".join(f"{format_shape(shape)}:{_type_name(kind)}" for shape, kind in arrays)]
    if weights:
        parts.append(
            "w=" + "|".join(f"{format_shape(weight.dims)}:{_type_name(weight.data_type)}" for weight in weights)
        )
    parts += [f"{name}={_value_text(value)}" for name, value in sorted(attributes_of(node).items())]
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
