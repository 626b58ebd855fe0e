"""The nodes of an ONNX model, one after the other, -> steps of a draft."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from ops_catalog.parse import onnx_algebra, onnx_quantised, onnx_windows
from ops_catalog.parse.draft import Draft, Shape, Tensor
from ops_catalog.parse.estimate import estimate_macs
from ops_catalog.parse.nodes import FileNode, in_order
from ops_catalog.parse.onnx_constants import compute
from ops_catalog.parse.result import MALFORMED, UnknownNode, check_shape, one_line
from ops_catalog.spec import SpecError

HANDLERS = {**onnx_windows.HANDLERS, **onnx_algebra.HANDLERS, **onnx_quantised.HANDLERS}
PASSING = frozenset({"Identity", "Dropout", "Cast", "CastLike", "QuantizeLinear", "DequantizeLinear"})
KEEP_SHAPE = PASSING | {"Neg", "Abs", "Sqrt", "Reciprocal", "Exp", "Log"}
KEEP_TYPE = PASSING | {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"}
FLOAT_LAYERS = frozenset({"Conv", "Gemm", "MatMul"})
FLOAT, INT64 = 1, 7


class File(Protocol):
    """What is needed of an ``onnx.OnnxFile``."""

    name: str
    version: int
    nodes: list[FileNode]
    outputs: tuple[str, ...]
    constants: dict[str, Tensor]
    declared: dict[str, Shape]
    kinds: dict[str, int]
    given: frozenset[str]

    def infer(
        self, node: FileNode, inputs: Mapping[str, tuple[int, Tensor]]
    ) -> Mapping[str, tuple[int, Shape | None]]: ...


class Translator:
    """Nodes -> steps. ``names`` says which of the draft's tensors a tensor of the file is."""

    def __init__(self, file: File, float_type: str) -> None:
        self.draft = Draft(file.name, folds_constants=True, dtype=float_type)
        self._file = file
        self._names: dict[str, str] = {}
        self._types = dict(file.kinds)
        self._unquantised = 0

    def translate(self, inputs: Mapping[str, tuple[int, Shape]]) -> Draft:
        for name, (kind, shape) in inputs.items():
            self._names[name] = self.draft.enter(name, shape)
            self._types[name] = kind
        for name, tensor in self._file.constants.items():
            if name not in inputs:
                self._names[name] = self._constant(tensor, name)
        ordered, refused = in_order(self._file.nodes, set(self._names))
        for node in ordered:
            self._translate(node)
        for node, reason in refused:
            self._refuse(node, reason)
        self.draft.outputs = [self._names[name] for name in self._file.outputs if name in self._names]
        if self.draft.dtype == "int8" and self._unquantised:
            self.draft.note(f"{self._unquantised} layers are not quantised in the file, but priced as int8")
        return self.draft

    def _translate(self, node: FileNode) -> None:
        draft, steps = self.draft, len(self.draft.steps)
        draft.origin = (one_line(node.name, 80), one_line(node.type, 80))
        if missing := [name for name in node.inputs if name and name not in self._names]:
            return self._refuse(node, f"it reads {missing[0]!r}, which nothing makes")
        try:
            made = self._made(node)
        except MALFORMED as error:
            draft.roll_back(steps)
            known = isinstance(error, SpecError)
            return self._refuse(node, str(error) if known else f"it is malformed: {error!r}")
        self._bind(node, made)
        return None

    def _made(self, node: FileNode) -> str:
        """The draft's tensor that is the node's first output. Raises SpecError, or anything on nonsense."""
        draft = self.draft
        inside = FileNode(node.name, node.type, self._inside(node.inputs), node.outputs, node.attributes)
        if node.type == "Constant":
            return self._constant_node(node)
        if node.type == "Shape":
            return self._shape_node(inside)
        if inside.inputs and all(draft.tensors[name].constant for name in inside.inputs if name):
            return self._folded(node, inside)
        if node.type in PASSING:
            return self._passed(inside)
        if node.type == "DynamicQuantizeLinear":
            return inside.inputs[0]
        handler = HANDLERS.get(node.type)
        if handler is None:
            raise SpecError("there is no such operator in ops_catalog/ops")
        made = handler(draft, inside, self._file.version)
        if node.type in onnx_quantised.DYNAMIC:
            draft.dtype = "int8"
            draft.note("a layer that is quantised as it runs is priced as an int8 one")
        elif node.type in onnx_quantised.HANDLERS:
            draft.dtype = "int8"
            self._quantised_output(node, inside, made)
        elif node.type in FLOAT_LAYERS and inside.inputs[0] not in draft.low:
            self._unquantised += 1
        return made

    def _bind(self, node: FileNode, made: str) -> None:
        self._names[node.outputs[0]] = made
        if node.type in KEEP_TYPE:
            self._types[node.outputs[0]] = node.attributes.get("to", self._types.get(node.inputs[0], FLOAT))
        self.draft.labels.setdefault(made, node.outputs[0])
        for name in filter(None, node.outputs[1:]):
            scale = node.type == "DynamicQuantizeLinear"
            self._names[name] = self.draft.constant((), None, name) if scale else self.draft.enter(name, None)

    def _inside(self, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(self._names[name] if name else "" for name in names)

    def _constant(self, tensor: Tensor, label: str) -> str:
        return self.draft.constant(tensor.shape or (), tensor.values, label)

    def _constant_node(self, node: FileNode) -> str:
        value = node.attributes.get("value")
        if isinstance(value, Tensor):
            return self._constant(value, node.outputs[0])
        for name in ("value_float", "value_floats", "value_int", "value_ints"):
            if name in node.attributes:
                array = np.array(node.attributes[name], np.float32 if "float" in name else np.int64)
                return self.draft.constant(array.shape, array, node.outputs[0])
        raise SpecError("a constant must be a tensor or numbers")

    def _shape_node(self, node: FileNode) -> str:
        shape = self.draft.shape(node.inputs[0])
        part = shape[node.attributes.get("start", 0) : node.attributes.get("end", len(shape))]
        array = np.array(part, np.int64)
        return self.draft.constant(array.shape, array, node.outputs[0])

    def _folded(self, node: FileNode, inside: FileNode) -> str:
        """A node of constants, as the constant that it makes."""
        tensors = [self.draft.tensors[name] if name else None for name in inside.inputs]
        if node.type in PASSING and node.type != "Cast":
            return inside.inputs[0]
        values = [None if tensor is None else tensor.values for tensor in tensors]
        if all(tensor is None or tensor.values is not None for tensor in tensors):
            made = compute(node, values, self._file.version)
            if made is not None:
                return self.draft.constant(made.shape, made, node.outputs[0])
        kept = tensors[0].shape if node.type in KEEP_SHAPE and tensors[0] else None
        shape = kept or self._inferred(node).get(node.outputs[0])
        if shape is None:
            raise SpecError("the shape of the constant that it makes is not known")
        check_shape(shape, "a constant")
        return self.draft.constant(shape, None, node.outputs[0])

    def _passed(self, node: FileNode) -> str:
        """A node that changes no element, or only how one is stored."""
        x = node.inputs[0]
        if node.type == "Dropout" and any(node.outputs[1:]):
            raise SpecError("a dropout that also gives its mask is not known")
        if node.type in ("QuantizeLinear", "DequantizeLinear"):
            self.draft.dtype = "int8"
            self._quantised(x, *node.inputs[1:3])
        elif node.type in ("Cast", "CastLike"):
            self.draft.note(f"{node.type} is taken to be free")
        return x

    def _quantised(self, x: str, scale: str = "", zero: str = "") -> None:
        """Remembers whether a tensor's stored integers begin at zero, and end at six."""
        step = self.draft.tensors[scale].scalar if scale else None
        zeros = self.draft.tensors[zero].values if zero else np.zeros(1, np.uint8)
        if zeros is None or zeros.size != 1 or zeros.dtype.kind not in "iu" or step is None:
            self.draft.low.setdefault(x, False)
            return
        self.draft.low[x] = int(zeros.reshape(())) == np.iinfo(zeros.dtype).min
        if abs(255 * step - 6) < 0.006:
            self.draft.six.add(x)

    def _quantised_output(self, node: FileNode, inside: FileNode, made: str) -> None:
        """Remembers what the operator itself says of its output."""
        place = onnx_quantised.OUTPUT_SCALES.get(node.type, len(inside.inputs))
        scale, zero = (*inside.inputs[place : place + 2], "", "")[:2]
        if scale:
            self._quantised(made, scale, zero)
        self.draft.low.setdefault(made, False)

    def _refuse(self, node: FileNode, reason: str) -> None:
        """Lists a node as unknown; what it makes enters the network."""
        draft = self.draft
        inside = [self._names[name] for name in node.inputs if name in self._names]
        shapes = self._inferred(node)
        made = [shapes.get(name) for name in node.outputs if name]
        activations = [draft.tensors[name].shape for name in inside if not draft.tensors[name].constant]
        constants = [draft.shape(name) for name in inside if draft.tensors[name].constant]
        macs = estimate_macs(node.type, activations, constants, made)
        kind = one_line(node.type, 80)
        if macs is None:
            draft.note(f"what {kind} costs cannot be told")
        draft.unknown.append(UnknownNode(one_line(node.name, 80), kind, one_line(reason), macs))
        for name in inside:
            draft.needed[name] += 1
        for name in filter(None, node.outputs):
            if name not in self._names:
                self._names[name] = draft.enter(name, shapes.get(name))

    def _inferred(self, node: FileNode) -> dict[str, Shape | None]:
        """Shapes of what a node makes, as the library infers them, else as the file claims."""
        known = {name: self._names[name] for name in node.inputs if name in self._names}
        inputs = {}
        for name, inside in known.items():
            tensor = self.draft.tensors[inside]
            default = INT64 if tensor.values is not None and tensor.values.dtype.kind in "iu" else FLOAT
            inputs[name] = (self._types.get(name, default), tensor)
        found = self._file.infer(node, inputs) if len(known) == len([name for name in node.inputs if name]) else {}
        shapes: dict[str, Shape | None] = {}
        for name in filter(None, node.outputs):
            self._types[name], shape = found.get(name, (FLOAT, None))
            if shape is None or name in self._file.given:
                shape = self._file.declared.get(name)
            try:
                check_shape(shape or (), "an output")
                shapes[name] = shape
            except SpecError:
                shapes[name] = None
        return shapes
