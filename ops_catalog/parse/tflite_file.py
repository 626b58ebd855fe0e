"""Reads a TFLite flatbuffer as nodes and tensors. The only parser module that knows the package ``tflite``.

Every count and offset in a file may be a lie: vectors are bounded before they are walked, constants are views.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import tflite

from ops_catalog.ops.contract import Array
from ops_catalog.parse.nodes import FileNode
from ops_catalog.parse.result import MALFORMED, MAX_LINKS, MAX_NODES, MAX_RANK, MAX_TENSORS, ParseError

MAX_TEXT = 200
SMALL = 4096
DTYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8"}
BUILTINS = {value: name for name, value in vars(tflite.BuiltinOperator).items() if isinstance(value, int)}
WINDOW = ("Padding", "StrideH", "StrideW", "FusedActivationFunction")
DILATED = (*WINDOW, "DilationHFactor", "DilationWFactor")
POOL = (*WINDOW, "FilterHeight", "FilterWidth")
FUSED = ("FusedActivationFunction",)
OPTIONS = {
    "CONV_2D": ("Conv2DOptions", DILATED),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", DILATED),
    "AVERAGE_POOL_2D": ("Pool2DOptions", POOL),
    "MAX_POOL_2D": ("Pool2DOptions", POOL),
    "FULLY_CONNECTED": ("FullyConnectedOptions", (*FUSED, "KeepNumDims", "WeightsFormat")),
    "BATCH_MATMUL": ("BatchMatMulOptions", ("AdjX", "AdjY")),
    "ADD": ("AddOptions", FUSED),
    "SUB": ("SubOptions", FUSED),
    "MUL": ("MulOptions", FUSED),
    "DIV": ("DivOptions", FUSED),
    "CONCATENATION": ("ConcatenationOptions", (*FUSED, "Axis")),
    "MEAN": ("ReducerOptions", ("KeepDims",)),
    "GELU": ("GeluOptions", ("Approximate",)),
    "RESIZE_BILINEAR": ("ResizeBilinearOptions", ("AlignCorners", "HalfPixelCenters")),
    "RESIZE_NEAREST_NEIGHBOR": ("ResizeNearestNeighborOptions", ("AlignCorners", "HalfPixelCenters")),
}


@dataclass(frozen=True, slots=True)
class FileTensor:
    """A tensor as it is stored.

    Attributes:
        shape: None where it has too many sides or negative ones.
        values: of a small constant, dequantised.
        lowest: whether a constant of one element is the least that its type can hold.
        open: whether the file leaves a side open.
    """

    name: str
    shape: tuple[int, ...] | None
    dtype: str
    constant: bool
    values: Array | None = None
    lowest: bool = False
    open: bool = False


@dataclass(frozen=True, slots=True)
class TfliteFile:
    """The first subgraph of a file. Nodes name tensors by their number."""

    tensors: tuple[FileTensor, ...]
    nodes: tuple[FileNode, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    subgraphs: int


def read_file(data: bytes) -> TfliteFile:
    """Raises ParseError, or one of MALFORMED."""
    model = tflite.Model.GetRootAs(data, 0)
    if model.SubgraphsLength() < 1:
        raise ParseError("a TFLite model must have a subgraph, but got none; export it again")
    graph = model.Subgraphs(0)
    if graph.OperatorsLength() > MAX_NODES or graph.TensorsLength() > MAX_TENSORS:
        raise ParseError(
            f"a model must have at most {MAX_NODES} nodes and {MAX_TENSORS} tensors, but got "
            f"{graph.OperatorsLength()} and {graph.TensorsLength()}; split the model"
        )
    inputs, outputs = _indices(graph, "Inputs"), _indices(graph, "Outputs")
    nodes = _nodes(model, graph)
    made = {name for node in nodes for name in node.outputs}
    given = {*made, *map(str, inputs)}
    tensors = [_tensor(model, graph.Tensors(i), str(i) not in given) for i in range(graph.TensorsLength())]
    return TfliteFile(tuple(tensors), tuple(nodes), inputs, outputs, model.SubgraphsLength())


def _nodes(model: Any, graph: Any) -> list[FileNode]:
    kinds = [_kind(model.OperatorCodes(i)) for i in range(min(model.OperatorCodesLength(), MAX_NODES))]
    nodes, left = [], MAX_LINKS
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        left -= operator.InputsLength() + operator.OutputsLength()
        if left < 0:
            raise ParseError(f"nodes must read and make at most {MAX_LINKS} tensors together; split the model")
        kind = kinds[operator.OpcodeIndex()]
        inputs = tuple(str(j) if j >= 0 else "" for j in _indices(operator, "Inputs"))
        outputs = tuple(str(j) for j in _indices(operator, "Outputs"))
        nodes.append(FileNode(f"{kind} {i}", kind, inputs, outputs, _options(operator, kind)))
    return nodes


def _kind(code: Any) -> str:
    number = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
    name: str = BUILTINS.get(number, f"builtin {number}")
    if name != "CUSTOM":
        return name
    return f"custom::{_text(code, 6) or '?'}"


def _options(operator: Any, kind: str) -> dict[str, Any]:
    """The options of a builtin; none where the file has those of another."""
    if kind not in OPTIONS:
        return {}
    table_name, fields = OPTIONS[kind]
    table, options = operator.BuiltinOptions(), getattr(tflite, table_name)()
    if table is None or operator.BuiltinOptionsType() != getattr(tflite.BuiltinOptions, table_name):
        return {}
    options.Init(table.Bytes, table.Pos)
    return {field: getattr(options, field)() for field in fields}


def _tensor(model: Any, tensor: Any, may_be_constant: bool) -> FileTensor:
    shape = None
    if tensor.ShapeLength() <= MAX_RANK:
        shape = _indices(tensor, "Shape")
        shape = shape if all(side > 0 for side in shape) else None
    dtype = DTYPES.get(tensor.Type(), "other")
    open_side = 0 < tensor.ShapeSignatureLength() <= MAX_RANK and -1 in _indices(tensor, "ShapeSignature")
    name = _text(tensor, 10)
    if not may_be_constant or tensor.Buffer() >= model.BuffersLength() or tensor.IsVariable():
        return FileTensor(name, shape, dtype, False, open=open_side)
    buffer = model.Buffers(tensor.Buffer())
    if buffer.DataLength() == 0 and buffer.Offset() <= 1:
        return FileTensor(name, shape, dtype, False, open=open_side)
    raw = _raw(buffer, dtype, shape)
    return FileTensor(name, shape, dtype, True, _dequantised(tensor, raw), _is_lowest(raw))


def _raw(buffer: Any, dtype: str, shape: tuple[int, ...] | None) -> Array | None:
    """The stored values of a small constant."""
    if shape is None or prod(shape) > SMALL or dtype == "other" or buffer.DataLength() == 0:
        return None
    kind = np.dtype(dtype)
    if buffer.DataLength() != prod(shape) * kind.itemsize:
        return None
    return np.asarray(buffer.DataAsNumpy()).view(kind).reshape(shape)


def _dequantised(tensor: Any, raw: Array | None) -> Array | None:
    quant = tensor.Quantization()
    if raw is None or raw.dtype.itemsize > 1 or quant is None or quant.ScaleLength() == 0:
        return raw
    if quant.ScaleLength() != 1:
        return None
    zero = quant.ZeroPoint(0) if quant.ZeroPointLength() else 0
    return np.asarray((raw.astype(np.float64) - zero) * quant.Scale(0))


def _is_lowest(raw: Array | None) -> bool:
    if raw is None or raw.size != 1:
        return False
    value = raw.reshape(-1)[0]
    return float(value) <= -1e30 if raw.dtype.kind == "f" else bool(value == np.iinfo(raw.dtype).min)


def _indices(table: Any, field: str) -> tuple[int, ...]:
    """A vector of integers. Raises ParseError where it is longer than the file may have."""
    count = getattr(table, f"{field}Length")()
    if count > MAX_LINKS:
        raise ParseError(f"a model must be a whole TFLite file, but got a list of {count}; export it again")
    found: Sequence[Any] = getattr(table, f"{field}AsNumpy")() if count else ()
    return tuple(int(entry) for entry in found)


def _text(table: Any, slot: int) -> str:
    """The beginning of a string field: a name may claim to be as long as the file."""
    tab = table._tab
    offset = tab.Offset(slot)
    if not offset:
        return ""
    try:
        start = tab.Vector(offset)
        length = min(tab.VectorLen(offset), MAX_TEXT)
        return bytes(tab.Bytes[start : start + length]).decode("utf-8", "replace")
    except MALFORMED:
        return ""
