"""Graph -> ONNX. Images are N x C x H x W.

Nodes and tensors are named after the Graph's tensors: what makes ``t4`` is node ``t4``, what it makes on the way is
``t4/0``, its weights ``t4.weight``. An int8 Graph is written as QDQ: integer inputs and outputs, every operator
between DequantizeLinear and QuantizeLinear, so that an engine can fuse the three into its integer kernel. Its
activations are uint8, 128 more than the int8 of other formats: ONNX Runtime's quicker kernels on x86 want them so,
and where it converts by itself, tensors with several readers stay behind in int8 and fall back to float.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from ops_catalog import ops
from ops_catalog.build import expand, tensors
from ops_catalog.export.quantise import Quant, assumed, quantise_weight
from ops_catalog.export.weights import Source, Weights, source_of
from ops_catalog.ops.contract import Array
from ops_catalog.spec import Graph, Node, SpecError, TensorSpec

OPSET = 20
IR_VERSION = 10
TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "int8": TensorProto.UINT8}
UINT8_SHIFT = 128


def export(
    graph: Graph, seed: int = 0, quant: Mapping[str, Quant] | None = None, weights: Weights | None = None
) -> bytes:
    """The serialised model. Raises SpecError for an operator that ONNX cannot express in the Graph's dtype."""
    if graph.dtype not in TYPES:
        raise SpecError(
            f"an ONNX file must be of {', '.join(TYPES)}, but got {graph.dtype}; measure it with engine torch or "
            "torch-cuda, or float32 with '--engine openvino --engine-option precision=bfloat16'"
        )
    model = _Model(graph, source_of(seed, weights), dict(quant or assumed(graph)) if graph.dtype == "int8" else {})
    for index, node in enumerate(expand(graph).nodes):
        model.add(node, index)
    return model.serialise()


class _Model:
    """An ONNX model under construction; also what operators emit through (``contract.OnnxBuilder``)."""

    def __init__(self, graph: Graph, source: Source, quant: dict[str, Quant]) -> None:
        self.int8 = graph.dtype == "int8"
        self._graph = graph
        self._source = source
        self._quant = quant
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, TensorProto] = {}
        self._float_names: dict[str, str] = {}
        self._node: Node
        self._weights: dict[str, Array] = {}
        self._scales = np.ones(1, np.float32)
        self._steps = 0

    def add(self, node: Node, index: int) -> None:
        """Writes one operator of the expanded Graph."""
        self._node, self._steps = node, 0
        self._weights = dict(self._source(node.op, index))
        first = len(self._nodes)
        made = ops.operator(node.op.type).to_onnx(node.op, self, [self._float(name) for name in node.inputs])
        self._rename(made, node.output if not self._quant else f"{node.output}/float", first)
        if self._quant:
            self._quantise(node.output)

    def node(self, op_type: str, inputs: Sequence[str], **attributes: Any) -> str:
        name = f"{self._node.output}/{self._steps}"
        self._steps += 1
        self._nodes.append(helper.make_node(op_type, list(inputs), [name], name=name, **attributes))
        return name

    def weight(self, name: str) -> str:
        if self._quant:
            return self._quantised_weight(name, f"{self._node.output}.{name}", self._weights[name])
        return self.float_weight(name)

    def float_weight(self, name: str) -> str:
        array = self._weights[name]
        return self._constant(
            f"{self._node.output}.{name}", array.astype(np.float16) if self._graph.dtype == "float16" else array
        )

    def constant(self, array: Array) -> str:
        """A parameter, shared by all operators that need the same; floats in the Graph's type."""
        array = np.asarray(array)
        if array.dtype == np.float32 and self._graph.dtype == "float16":
            array = array.astype(np.float16)
        digest = hashlib.sha256(repr((array.dtype, array.shape)).encode() + array.tobytes()).hexdigest()
        return self._constant(f"constant.{digest[:16]}", array)

    def serialise(self) -> bytes:
        inputs = [_declare(name, tensor) for name, tensor in self._graph.inputs]
        known = tensors(self._graph)
        outputs = [_declare(name, known[name]) for name in self._graph.outputs]
        body = helper.make_graph(self._nodes, "chamnet", inputs, outputs, list(self._constants.values()))
        model: ModelProto = helper.make_model(
            body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="chamnet"
        )
        return bytes(model.SerializeToString(deterministic=True))

    def _rename(self, made: str, name: str, first: int) -> None:
        """Gives the operator's last tensor, and the node that makes it, the name it has in the Graph."""
        for node in self._nodes[first:]:
            node.input[:] = [name if entry == made else entry for entry in node.input]
            if made in node.output:
                node.output[:] = [name]
                node.name = self._node.output

    def _float(self, tensor: str) -> str:
        """The float view of a tensor: itself, or what is dequantised from it, once for all its readers."""
        if not self._quant:
            return tensor
        if tensor not in self._float_names:
            name = f"{tensor}.float"
            inputs = [tensor, *self._quant_constants(tensor)]
            self._nodes.append(helper.make_node("DequantizeLinear", inputs, [name], name=name))
            self._float_names[tensor] = name
        return self._float_names[tensor]

    def _quantise(self, tensor: str) -> None:
        inputs = [f"{tensor}/float", *self._quant_constants(tensor)]
        self._nodes.append(helper.make_node("QuantizeLinear", inputs, [tensor], name=f"{tensor}/quantise"))

    def _quant_constants(self, tensor: str) -> list[str]:
        scale, zero = self._quant[tensor]
        return [
            self._constant(f"{tensor}.quant_scale", np.array(scale, np.float32)),
            self._constant(f"{tensor}.quant_zero", np.array(zero + UINT8_SHIFT, np.uint8)),
        ]

    def _quantised_weight(self, name: str, full: str, array: Array) -> str:
        entry = next(weight for weight in ops.weights(self._node.op) if weight.name == name)
        if entry.fan_in == 0:
            return self._quantised_bias(full, array)
        stored = quantise_weight(array, entry.channel_axis)
        zeros = np.zeros(stored.scales.shape, np.int8)
        self._scales = stored.scales
        return self._dequantised(full, stored.values, stored.scales, zeros, stored.axis)

    def _quantised_bias(self, full: str, array: Array) -> str:
        """int32 in steps of input scale times weight scale, as integer kernels add it."""
        scales = (self._scales * np.float32(self._quant[self._node.inputs[0]][0])).astype(np.float32)
        values = np.rint(array / scales).astype(np.int32)
        return self._dequantised(full, values, scales, np.zeros(scales.shape, np.int32), 0)

    def _dequantised(self, full: str, values: Array, scales: Array, zeros: Array, axis: int | None) -> str:
        if scales.size == 1:
            scales, zeros, axis = scales.reshape(()), zeros.reshape(()), None
        parts = [(full, values), (f"{full}.quant_scale", scales), (f"{full}.quant_zero", zeros)]
        inputs = [self._constant(name, array) for name, array in parts]
        attributes = {} if axis is None else {"axis": axis}
        name = f"{full}.float"
        self._nodes.append(helper.make_node("DequantizeLinear", inputs, [name], name=name, **attributes))
        return name

    def _constant(self, name: str, array: Array) -> str:
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.array(array, order="C"), name)
        return name


def _declare(name: str, tensor: TensorSpec) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TYPES[tensor.dtype], tensor.shape)
