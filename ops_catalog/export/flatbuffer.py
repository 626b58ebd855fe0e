"""Writes a TFLite flatbuffer: tensors, constants and builtin operators, without TensorFlow.

The schema is that of the package ``tflite``, whose generated functions are called by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
import tflite

from ops_catalog.ops.contract import Array

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
TYPES = {
    "float32": tflite.TensorType.FLOAT32,
    "float16": tflite.TensorType.FLOAT16,
    "int8": tflite.TensorType.INT8,
    "int32": tflite.TensorType.INT32,
}
OPTIONS = {
    "ADD": "AddOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "CONCATENATION": "ConcatenationOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "GELU": "GeluOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "MUL": "MulOptions",
    "RESHAPE": "ReshapeOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "SOFTMAX": "SoftmaxOptions",
    "SQUARED_DIFFERENCE": "SquaredDifferenceOptions",
    "SUB": "SubOptions",
    "TRANSPOSE": "TransposeOptions",
}
VERSIONS = {
    "ADD": (1, 2),
    "AVERAGE_POOL_2D": (1, 2),
    "BATCH_MATMUL": (1, 2),
    "CONCATENATION": (1, 2),
    "CONV_2D": (1, 3),
    "DEPTHWISE_CONV_2D": (2, 3),
    "DEQUANTIZE": (3, 3),
    "FULLY_CONNECTED": (1, 4),
    "GELU": (1, 2),
    "LOGISTIC": (1, 2),
    "MAX_POOL_2D": (1, 2),
    "MEAN": (1, 2),
    "MUL": (1, 2),
    "PAD": (1, 2),
    "PADV2": (1, 2),
    "QUANTIZE": (2, 2),
    "RELU": (1, 2),
    "RELU6": (1, 2),
    "RESIZE_BILINEAR": (3, 3),
    "RESIZE_NEAREST_NEIGHBOR": (3, 3),
    "SOFTMAX": (1, 2),
    "SUB": (1, 2),
    "TRANSPOSE": (1, 2),
}
"""Version of a builtin in a float and in an int8 model; 1 where it is not listed. Delegates refuse newer ones."""

KEEPS_AXES = 5
"""Version of a fully connected layer on more than a matrix."""

ENUMS = {"Padding": tflite.Padding, "FusedActivationFunction": tflite.ActivationFunctionType}


@dataclass(slots=True)
class Tensor:
    """A tensor as it is stored.

    Attributes:
        data: a constant's values, None for an activation.
        scales: one for the tensor, or one for each index of ``axis``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    data: Array | None = None
    scales: Array | None = None
    zero: int = 0
    axis: int = 0


@dataclass(frozen=True, slots=True)
class Operator:
    """A builtin operator; tensors by index, options as the schema names them (enum values by their name)."""

    builtin: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any]
    int8: bool


def write_model(
    tensors: Sequence[Tensor], operators: Sequence[Operator], inputs: Sequence[int], outputs: Sequence[int]
) -> bytes:
    """The file's bytes."""
    size = sum(tensor.data.nbytes for tensor in tensors if tensor.data is not None)
    builder = flatbuffers.Builder(1024 + size + 512 * len(tensors))
    codes = list(dict.fromkeys((operator.builtin, _version(operator)) for operator in operators))
    buffers = _write_buffers(builder, tensors)
    subgraph = _write_subgraph(builder, tensors, operators, codes, inputs, outputs)
    code_offsets = [_write_code(builder, *code) for code in codes]
    description = builder.CreateString("chamnet")
    tables = {
        "OperatorCodes": _vector(builder, tflite.ModelStartOperatorCodesVector, code_offsets),
        "Subgraphs": _vector(builder, tflite.ModelStartSubgraphsVector, [subgraph]),
        "Buffers": _vector(builder, tflite.ModelStartBuffersVector, buffers),
    }
    builder.Finish(
        _table(builder, "Model", {"Version": SCHEMA_VERSION, "Description": description, **tables}), IDENTIFIER
    )
    return bytes(builder.Output())


def _version(operator: Operator) -> int:
    if operator.builtin == "FULLY_CONNECTED" and operator.options["KeepNumDims"]:
        return KEEPS_AXES
    return VERSIONS.get(operator.builtin, (1, 1))[operator.int8]


def _write_buffers(builder: Any, tensors: Sequence[Tensor]) -> list[int]:
    """Buffer 0 is empty, as the format demands; a constant's buffer follows in tensor order."""
    offsets = [_table(builder, "Buffer", {})]
    for tensor in tensors:
        if tensor.data is not None:
            data = _aligned_bytes(builder, np.ascontiguousarray(tensor.data).view(np.uint8).reshape(-1))
            offsets.append(_table(builder, "Buffer", {"Data": data}))
    return offsets


def _aligned_bytes(builder: Any, data: Array) -> int:
    """A byte vector aligned to 16, as kernels want their weights."""
    builder.StartVector(1, data.size, 16)
    builder.head = builder.Head() - data.size
    builder.Bytes[builder.Head() : builder.Head() + data.size] = data.tobytes()
    return int(builder.EndVector())


def _write_subgraph(
    builder: Any,
    tensors: Sequence[Tensor],
    operators: Sequence[Operator],
    codes: Sequence[tuple[str, int]],
    inputs: Sequence[int],
    outputs: Sequence[int],
) -> int:
    constants = iter(range(1, len(tensors) + 1))
    tensor_offsets = [
        _write_tensor(builder, tensor, 0 if tensor.data is None else next(constants)) for tensor in tensors
    ]
    operator_offsets = [
        _write_operator(builder, operator, codes.index((operator.builtin, _version(operator))))
        for operator in operators
    ]
    fields = {
        "Tensors": _vector(builder, tflite.SubGraphStartTensorsVector, tensor_offsets),
        "Inputs": _int32_vector(builder, inputs),
        "Outputs": _int32_vector(builder, outputs),
        "Operators": _vector(builder, tflite.SubGraphStartOperatorsVector, operator_offsets),
    }
    return _table(builder, "SubGraph", fields)


def _write_tensor(builder: Any, tensor: Tensor, buffer: int) -> int:
    fields = {"Name": builder.CreateString(tensor.name), "Shape": _int32_vector(builder, tensor.shape)}
    if tensor.scales is not None:
        zeros = np.full(tensor.scales.size, tensor.zero, np.int64)
        quantisation = {
            "Scale": builder.CreateNumpyVector(tensor.scales.astype(np.float32)),
            "ZeroPoint": builder.CreateNumpyVector(zeros),
            "QuantizedDimension": tensor.axis,
        }
        fields["Quantization"] = _table(builder, "QuantizationParameters", quantisation)
    return _table(builder, "Tensor", {**fields, "Type": TYPES[tensor.dtype], "Buffer": buffer})


def _write_operator(builder: Any, operator: Operator, code: int) -> int:
    fields = {"Inputs": _int32_vector(builder, operator.inputs), "Outputs": _int32_vector(builder, operator.outputs)}
    kind = OPTIONS.get(operator.builtin)
    if kind is not None:
        fields["BuiltinOptionsType"] = getattr(tflite.BuiltinOptions, kind)
        fields["BuiltinOptions"] = _table(builder, kind, _options(builder, operator.options))
    return _table(builder, "Operator", {**fields, "OpcodeIndex": code})


def _options(builder: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    chosen = {name: getattr(ENUMS[name], value) if name in ENUMS else value for name, value in options.items()}
    return {name: _int32_vector(builder, v) if isinstance(v, tuple) else v for name, v in chosen.items()}


def _write_code(builder: Any, builtin: str, version: int) -> int:
    code = getattr(tflite.BuiltinOperator, builtin)
    fields = {"DeprecatedBuiltinCode": min(code, 127), "BuiltinCode": code, "Version": version}
    return _table(builder, "OperatorCode", fields)


def _table(builder: Any, kind: str, fields: Mapping[str, Any]) -> int:
    getattr(tflite, f"{kind}Start")(builder)
    for name, value in fields.items():
        getattr(tflite, f"{kind}Add{name}")(builder, value)
    return int(getattr(tflite, f"{kind}End")(builder))


def _vector(builder: Any, start: Callable[[Any, int], int], offsets: Sequence[int]) -> int:
    start(builder, len(offsets))
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _int32_vector(builder: Any, values: Sequence[int]) -> int:
    return int(builder.CreateNumpyVector(np.array(values, np.int32)))
