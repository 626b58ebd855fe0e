"""TFLite file -> Parsed. Of several subgraphs the first is read; weights are not."""

from __future__ import annotations

from collections.abc import Mapping

from ops_catalog.parse import tflite_algebra, tflite_windows
from ops_catalog.parse.draft import Draft, Shape
from ops_catalog.parse.estimate import estimate_macs
from ops_catalog.parse.finish import finish
from ops_catalog.parse.nodes import FileNode, in_order
from ops_catalog.parse.result import MALFORMED, Parsed, ParseError, UnknownNode, check_shape, one_line
from ops_catalog.parse.tflite_file import FileTensor, TfliteFile, read_file
from ops_catalog.parse.tflite_here import Here
from ops_catalog.parse.tflite_layout import find_images, logical
from ops_catalog.spec import SpecError

LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL", "TRANSPOSE_CONV")
HANDLERS = {**tflite_windows.HANDLERS, **tflite_algebra.HANDLERS}
PASSING = ("QUANTIZE", "DEQUANTIZE", "DENSIFY")
INTEGERS = ("int8", "uint8", "int16")


def parse(data: bytes, shapes: Mapping[str, Shape], name: str) -> Parsed:
    """Raises ParseError."""
    file = read_file(data)
    translator = _Translator(file, name or "model", shapes)
    return finish(translator.translate())


class _Translator:
    """Nodes -> steps. ``names`` says which of the draft's tensors a tensor of the file is."""

    def __init__(self, file: TfliteFile, name: str, shapes: Mapping[str, Shape]) -> None:
        self._file = file
        self._images = find_images(file.tensors, file.nodes)
        self._names: dict[str, str] = {}
        self._reshaped = bool(shapes) or any(tensor.open for tensor in file.tensors)
        self.draft = Draft(name, dtype=_dtype(file))
        self._enter_inputs(shapes)
        for index, tensor in enumerate(file.tensors):
            if tensor.constant:
                self._names[str(index)] = self.draft.constant(
                    tensor.shape or (), tensor.values, one_line(tensor.name) or f"constant {index}"
                )

    def translate(self) -> Draft:
        draft = self.draft
        if self._file.subgraphs > 1:
            draft.note(f"only the first of {self._file.subgraphs} subgraphs is priced")
        mixed = sum(_is_hybrid(self._file, node) for node in self._file.nodes)
        if mixed:
            draft.note(f"{mixed} layers of float activations have integer weights and are priced as float")
        ordered, refused = in_order(self._file.nodes, set(self._names))
        for node in ordered:
            self._translate(node)
        for node, reason in refused:
            self._refuse(node, reason)
        draft.outputs = [self._names[str(i)] for i in self._file.outputs if str(i) in self._names]
        return draft

    def _enter_inputs(self, shapes: Mapping[str, Shape]) -> None:
        """Raises ParseError for a shape that does not fit."""
        labels = {i: one_line(self._tensor(i).name) or f"input {i}" for i in self._file.inputs}
        if strange := [name for name in shapes if name not in labels.values()]:
            listed = ", ".join(labels.values()) or "none"
            raise ParseError(f"a shape must be given for one of the inputs {listed}, but got {one_line(strange[0])!r}")
        for index in self._file.inputs:
            tensor, label = self._tensor(index), labels[index]
            shape = shapes.get(label, tensor.shape)
            if shape is None or (tensor.shape is not None and len(shape) != len(tensor.shape)):
                sides = len(tensor.shape or (1,))
                example = "x".join("1" * sides)
                raise ParseError(
                    f"input {label!r} must have a fixed shape, but got {shape}; give one with --shape {label}={example}"
                )
            if tensor.open and label not in shapes:
                given = "x".join(map(str, shape))
                self.draft.note(f"{label} is taken as {given}, its open sides as in the file; --shape sets another")
            try:
                check_shape(shape, f"input {label!r}")
            except SpecError as error:
                raise ParseError(f"{error}; give another with --shape") from None
            self._names[str(index)] = self.draft.enter(label, logical(shape, self._images[index]))

    def _translate(self, node: FileNode) -> None:
        draft, steps = self.draft, len(self.draft.steps)
        draft.origin = (one_line(self._label(node), 80), one_line(node.type, 80))
        if missing := [name for name in node.inputs if name and name not in self._names]:
            return self._refuse(node, f"it reads tensor {missing[0]}, which nothing makes")
        try:
            made = self._made(node)
        except MALFORMED as error:
            draft.roll_back(steps)
            known = isinstance(error, SpecError)
            return self._refuse(node, str(error) if known else f"it is malformed: {error!r}")
        self._names[node.outputs[0]] = made
        label = self._tensor(int(node.outputs[0])).name
        if label:
            draft.labels.setdefault(made, one_line(label))
        return None

    def _made(self, node: FileNode) -> str:
        """The draft's tensor that is the node's output. Raises SpecError, or anything on nonsense."""
        draft, inputs = self.draft, tuple(self._names[name] if name else "" for name in node.inputs)
        if len(node.outputs) != 1:
            raise SpecError(f"operators of one output are known, but got {len(node.outputs)}")
        if node.type in PASSING and (node.type != "DENSIFY" or draft.tensors[inputs[0]].constant):
            if not draft.tensors[inputs[0]].constant:
                draft.note(f"{node.type} is taken to be free")
            return inputs[0]
        if node.type not in HANDLERS:
            raise SpecError("there is no such operator in ops_catalog/ops")
        claimed = self._claimed(node.outputs[0])
        made = HANDLERS[node.type](
            Here(
                draft,
                inputs,
                tuple(self._origin(name) if name else None for name in node.inputs),
                tuple(bool(name) and self._images[int(name)] for name in node.inputs),
                self._images[int(node.outputs[0])],
                claimed,
                dict(node.attributes),
            )
        )
        if claimed is not None and claimed != draft.shape(made):
            raise SpecError(f"its output must be {draft.shape(made)}, but the file says {claimed}")
        return made

    def _origin(self, name: str) -> FileTensor:
        """A tensor of the file; a dequantised constant counts as the constant."""
        index = int(name)
        made = self.draft.tensors[self._names[name]]
        tensor = self._tensor(index)
        if made.constant and not tensor.constant:
            return FileTensor(tensor.name, tensor.shape or made.shape, tensor.dtype, True, made.values)
        return tensor

    def _claimed(self, name: str) -> Shape | None:
        """The logical shape that the file gives a tensor, where no input was given another one."""
        tensor = self._tensor(int(name))
        return None if self._reshaped or tensor.shape is None else logical(tensor.shape, self._images[int(name)])

    def _refuse(self, node: FileNode, reason: str) -> None:
        """Lists a node as unknown; what it makes enters the network."""
        draft = self.draft
        inside = [self._names[name] for name in node.inputs if name in self._names]
        made = [self._believed(name) for name in node.outputs]
        activations = [draft.tensors[name].shape for name in inside if not draft.tensors[name].constant]
        constants = [draft.shape(name) for name in inside if draft.tensors[name].constant]
        macs = estimate_macs(node.type, activations, constants, made)
        kind = one_line(node.type, 80)
        if macs is None:
            draft.note(f"what {kind} costs cannot be told")
        draft.unknown.append(UnknownNode(one_line(self._label(node), 80), kind, one_line(reason), macs))
        for name in inside:
            draft.needed[name] += 1
        for name, shape in zip(node.outputs, made, strict=True):
            if name not in self._names:
                label = self._tensor(int(name)).name if int(name) < len(self._file.tensors) else name
                self._names[name] = draft.enter(one_line(label) or f"tensor {name}", shape)

    def _believed(self, name: str) -> Shape | None:
        """The shape that the file gives a tensor, if it may be."""
        if not 0 <= int(name) < len(self._file.tensors):
            return None
        tensor = self._tensor(int(name))
        shape = None if tensor.shape is None else logical(tensor.shape, self._images[int(name)])
        try:
            check_shape(shape or (), "an output")
        except SpecError:
            return None
        return shape

    def _label(self, node: FileNode) -> str:
        outputs = [int(name) for name in node.outputs if int(name) < len(self._file.tensors)]
        return (self._tensor(outputs[0]).name if outputs else "") or node.name

    def _tensor(self, index: int) -> FileTensor:
        if not 0 <= index < len(self._file.tensors):
            raise SpecError(f"tensors are 0 to {len(self._file.tensors) - 1}, but got {index}")
        return self._file.tensors[index]


def _dtype(file: TfliteFile) -> str:
    """What most layers read; float16 where float layers have float16 weights."""
    layers = [_first(file, node) for node in file.nodes if node.type in LAYERS] or [
        _first(file, node) for node in file.nodes
    ]
    integers = sum(tensor is not None and tensor.dtype in INTEGERS for tensor in layers)
    if 2 * integers > len(layers):
        return "int8"
    halves = sum(tensor.constant and tensor.dtype == "float16" for tensor in file.tensors)
    floats = sum(
        tensor.constant and tensor.dtype == "float32" and len(tensor.shape or ()) > 1 for tensor in file.tensors
    )
    return "float16" if halves > floats else "float32"


def _is_hybrid(file: TfliteFile, node: FileNode) -> bool:
    if node.type not in LAYERS[:3] or len(node.inputs) < 2 or not node.inputs[1]:
        return False
    index, image = int(node.inputs[1]), _first(file, node)
    weight = file.tensors[index] if index < len(file.tensors) else None
    return weight is not None and image is not None and image.dtype == "float32" and weight.dtype in INTEGERS


def _first(file: TfliteFile, node: FileNode) -> FileTensor | None:
    if not node.inputs or not node.inputs[0] or int(node.inputs[0]) >= len(file.tensors):
        return None
    return file.tensors[int(node.inputs[0])]
