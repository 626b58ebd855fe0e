"""Graph -> TFLite. Images are stored N x H x W x C, everything else in logical order.

Tensors keep the Graph's names; what an operator makes on its way is ``t4/0``. float16 means float16 constants that are
dequantised when the model is loaded, as TensorFlow's converter writes them: activations stay float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ops_catalog import ops
from ops_catalog.build import expand
from ops_catalog.export.flatbuffer import Operator, Tensor, write_model
from ops_catalog.export.quantise import Quant, assumed, from_range, quantise_weight, store
from ops_catalog.export.weights import Source, Weights, source_of
from ops_catalog.ops.contract import Array
from ops_catalog.spec import Graph, Node, SpecError

DTYPES = ("float32", "float16", "int8")
TO_IMAGE, TO_PLAIN = (0, 2, 3, 1), (0, 3, 1, 2)
PLAIN_OPERATORS = frozenset({"reshape", "transpose", "matmul", "softmax", "layer_norm"})
"""What reads a tensor of four dimensions in logical order; everything else takes it for an image."""


def export(
    graph: Graph, seed: int = 0, quant: Mapping[str, Quant] | None = None, weights: Weights | None = None
) -> bytes:
    """The serialised model. Raises SpecError for an operator that TFLite cannot express in the Graph's dtype."""
    if graph.dtype not in DTYPES:
        raise SpecError(
            f"a TFLite file must be of {', '.join(DTYPES)}, but got {graph.dtype}; measure it with engine torch or "
            "torch-cuda, or float32 with '--engine openvino --engine-option precision=bfloat16'"
        )
    model = _Model(graph, source_of(seed, weights), dict(quant or assumed(graph)) if graph.dtype == "int8" else {})
    for index, node in enumerate(expand(graph).nodes):
        model.add(node, index)
    return model.serialise()


def stored_as_image(graph: Graph) -> dict[str, bool]:
    """Whether each input and output of a Graph is stored N x H x W x C in its TFLite model."""
    model = _Model(graph, source_of(0, None), dict(assumed(graph)) if graph.dtype == "int8" else {})
    for index, node in enumerate(expand(graph).nodes):
        model.add(node, index)
    return {name: model.is_image(name) for name in (*(name for name, _ in graph.inputs), *graph.outputs)}


@dataclass(slots=True)
class _Stored:
    """A tensor of the model: its logical shape, how it is stored, and its quantisation."""

    index: int
    shape: tuple[int, ...]
    image: bool
    quant: Quant | None


class _Model:
    """A TFLite model under construction; also what operators emit through (``contract.TfliteBuilder``)."""

    def __init__(self, graph: Graph, source: Source, quant: dict[str, Quant]) -> None:
        self.int8 = graph.dtype == "int8"
        self._graph = graph
        self._source = source
        self._quant = quant
        self._tensors: list[Tensor] = []
        self._operators: list[Operator] = []
        self._stored: dict[str, _Stored] = {}
        self._weight_scales: dict[str, Array] = {}
        self._node: Node
        self._weights: dict[str, Array] = {}
        self._steps = 0
        for name, tensor in graph.inputs:
            self._add_activation(name, tensor.shape, self._enters_as_image(name), quant.get(name))

    def add(self, node: Node, index: int) -> None:
        """Writes one operator of the expanded Graph."""
        self._node, self._steps = node, 0
        self._weights = dict(self._source(node.op, index))
        made = ops.operator(node.op.type).to_tflite(node.op, self, node.inputs)
        entry = self._stored[node.output] = self._stored.pop(made)
        self._tensors[entry.index].name = node.output

    def image(self, tensor: str) -> str:
        return self._relaid(tensor, True)

    def plain(self, tensor: str) -> str:
        return self._relaid(tensor, False)

    def is_image(self, tensor: str) -> bool:
        return self._stored[tensor].image

    def quant_of(self, tensor: str) -> Quant | None:
        return self._stored[tensor].quant

    def emit(
        self,
        builtin: str,
        inputs: Sequence[str],
        shape: Sequence[int],
        options: Mapping[str, Any] | None = None,
        *,
        image: bool = False,
        quant: Quant | None = None,
    ) -> str:
        name = f"{self._node.output}/{self._steps}"
        self._steps += 1
        chosen = quant or self._quant.get(self._node.output)
        index = self._add_activation(name, tuple(shape), image, chosen)
        entries = tuple(self._stored[entry].index for entry in inputs)
        self._operators.append(Operator(builtin, entries, (index,), dict(options or {}), self.int8))
        return name

    def weight(self, name: str, order: Sequence[int] | None = None) -> str:
        array = self._weights[name]
        entry = next(weight for weight in ops.weights(self._node.op) if weight.name == name)
        order = tuple(order or range(array.ndim))
        full = f"{self._node.output}.{name}"
        array = np.ascontiguousarray(array.transpose(order))
        if not self.int8:
            return self._float_constant(full, array)
        axis = None if entry.channel_axis is None else order.index(entry.channel_axis)
        stored = quantise_weight(array, axis)
        self._weight_scales[full] = stored.scales
        return self._add_constant(full, stored.values, scales=stored.scales, axis=stored.axis)

    def bias(self, name: str, data: str, weight: str) -> str:
        """A bias: int32 in steps of data scale times weight scale in an int8 model."""
        full = f"{self._node.output}.{name}"
        if not self.int8:
            return self._float_constant(full, self._weights[name])
        quant = self._stored[data].quant
        assert quant is not None
        scales = (self._weight_scales[weight] * np.float32(quant[0])).astype(np.float32)
        values = np.rint(self._weights[name] / scales).astype(np.int32)
        return self._add_constant(full, values, scales=scales, axis=0)

    def constant(self, array: Array) -> str:
        return self._add_constant(f"{self._node.output}.{len(self._tensors)}", np.asarray(array))

    def operand(self, array: Array) -> str:
        """A float constant in logical order; an image's is stored as one."""
        array = np.asarray(array, np.float32)
        if array.ndim == 4:
            array = np.ascontiguousarray(array.transpose(TO_IMAGE))
        name = f"{self._node.output}.{len(self._tensors)}"
        if not self.int8:
            return self._add_constant(name, array)
        quant = from_range(float(array.min()), float(array.max()))
        return self._add_constant(name, store(array, quant), scales=np.array([quant[0]], np.float32), zero=quant[1])

    def like(self, tensor: str, value: float) -> str:
        quant = self._stored[tensor].quant
        name = f"{self._node.output}.{len(self._tensors)}"
        if quant is None:
            return self._add_constant(name, np.array(value, np.float32))
        stored = store(np.array(value, np.float32), quant)
        return self._add_constant(name, stored, scales=np.array([quant[0]], np.float32), zero=quant[1])

    def rescaled(self, tensor: str) -> str:
        entry, own = self._stored[tensor], self._quant.get(self._node.output)
        if entry.quant == own:
            return tensor
        return self.emit("QUANTIZE", [tensor], entry.shape, image=entry.image)

    def refuse(self, reason: str) -> SpecError:
        """The error of an operator that TFLite does not have in this dtype."""
        return SpecError(f"{self._node.op.type} must have a {self._graph.dtype} kernel in TFLite, but {reason}")

    def serialise(self) -> bytes:
        inputs = [self._stored[name].index for name, _ in self._graph.inputs]
        outputs = [self._stored[name].index for name in self._graph.outputs]
        return write_model(self._tensors, self._operators, inputs, outputs)

    def _enters_as_image(self, name: str) -> bool:
        readers = [node.op.type for node in expand(self._graph).nodes if name in node.inputs]
        rank = len(dict(self._graph.inputs)[name].shape)
        return rank == 4 and (not readers or readers[0] not in PLAIN_OPERATORS)

    def _relaid(self, tensor: str, image: bool) -> str:
        entry = self._stored[tensor]
        if entry.image == image or len(entry.shape) != 4:
            return tensor
        name = f"{tensor}/{'image' if image else 'plain'}"
        if name not in self._stored:
            self._add_activation(name, entry.shape, image, entry.quant)
            self._relay(entry, self._stored[name])
        return name

    def _relay(self, source: _Stored, into: _Stored) -> None:
        """TRANSPOSE, or RESHAPE where no element changes its place."""
        _, channels, height, width = source.shape
        if channels == 1 or height * width == 1:
            parameter = self.constant(np.array(_stored_shape(into.shape, into.image), np.int32))
            builtin = "RESHAPE"
        else:
            parameter = self.constant(np.array(TO_IMAGE if into.image else TO_PLAIN, np.int32))
            builtin = "TRANSPOSE"
        entries = (source.index, self._stored[parameter].index)
        self._operators.append(Operator(builtin, entries, (into.index,), {}, self.int8))

    def _float_constant(self, name: str, array: Array) -> str:
        if self._graph.dtype != "float16":
            return self._add_constant(name, array)
        half = self._add_constant(f"{name}.half", array.astype(np.float16))
        self._add_activation(name, array.shape, False, None)
        entries = (self._stored[half].index,)
        self._operators.append(Operator("DEQUANTIZE", entries, (self._stored[name].index,), {}, False))
        return name

    def _add_activation(self, name: str, shape: tuple[int, ...], image: bool, quant: Quant | None) -> int:
        scales, zero = (np.array([quant[0]], np.float32), quant[1]) if quant else (None, 0)
        kind = "int8" if quant else "float32"
        tensor = Tensor(name, _stored_shape(shape, image), kind, None, scales, zero)
        return self._add(name, tensor, _Stored(len(self._tensors), tuple(shape), image, quant))

    def _add_constant(
        self, name: str, array: Array, scales: Array | None = None, axis: int | None = None, zero: int = 0
    ) -> str:
        tensor = Tensor(name, array.shape, str(array.dtype), array, scales, zero, axis or 0)
        self._add(name, tensor, _Stored(len(self._tensors), array.shape, False, None))
        return name

    def _add(self, name: str, tensor: Tensor, entry: _Stored) -> int:
        self._tensors.append(tensor)
        self._stored[name] = entry
        return entry.index


def _stored_shape(shape: tuple[int, ...], image: bool) -> tuple[int, ...]:
    return tuple(shape[axis] for axis in TO_IMAGE) if image and len(shape) == 4 else tuple(shape)
