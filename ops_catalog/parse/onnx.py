"""ONNX file -> Parsed. Weights are not needed and not read, least of all from other files.

The only parser that knows the library ``onnx``; what the nodes mean is told by ``onnx_nodes``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, defs, helper, numpy_helper
from onnx.shape_inference import infer_node_outputs

from ops_catalog.parse.draft import Shape, Tensor
from ops_catalog.parse.finish import finish
from ops_catalog.parse.nodes import FileNode
from ops_catalog.parse.onnx_constants import LARGEST
from ops_catalog.parse.onnx_nodes import Translator
from ops_catalog.parse.onnx_wire import lighten
from ops_catalog.parse.result import (
    MALFORMED,
    MAX_LINKS,
    MAX_NODES,
    MAX_RANK,
    MAX_TENSORS,
    Parsed,
    ParseError,
    check_shape,
    one_line,
)
from ops_catalog.spec import SpecError

FLOATS = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16"}
NEWEST = defs.onnx_opset_version()
OWN_DOMAINS = ("", "ai.onnx")
EXAMPLE_SIDES = {2: (1, 64), 3: (1, 64, 64), 4: (1, 3, 224, 224)}


@dataclass(slots=True)
class OnnxFile:
    """What is read of a file.

    Attributes:
        inputs: tensors that are given from outside, with their element type and sides; None for a side not fixed.
        declared: shapes that the file claims for what nodes make.
        protos: the nodes as they are in the file, by their first output.
        given: names of tensors whose shape the caller knows better.
        kinds: element types of constants.
    """

    name: str
    version: int
    nodes: list[FileNode] = field(default_factory=list)
    inputs: dict[str, tuple[int, tuple[int | None, ...] | None]] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    constants: dict[str, Tensor] = field(default_factory=dict)
    declared: dict[str, Shape] = field(default_factory=dict)
    protos: dict[str, NodeProto] = field(default_factory=dict)
    given: frozenset[str] = frozenset()
    kinds: dict[str, int] = field(default_factory=dict)
    float_type: str = "float32"
    notes: list[str] = field(default_factory=list)

    def infer(self, node: FileNode, inputs: Mapping[str, tuple[int, Tensor]]) -> Mapping[str, tuple[int, Shape | None]]:
        """Types and shapes of a node's outputs, as the library infers them; fewer or none where it cannot."""
        proto = self.protos.get(node.outputs[0]) if node.outputs else None
        if proto is None or proto.domain not in OWN_DOMAINS or any(entry.g.node for entry in proto.attribute):
            return {}
        try:
            types = {name: helper.make_tensor_type_proto(kind, tensor.shape) for name, (kind, tensor) in inputs.items()}
            data = {
                name: numpy_helper.from_array(tensor.values)
                for name, (_, tensor) in inputs.items()
                if tensor.values is not None
            }
            schema = defs.get_schema(proto.op_type, min(self.version, NEWEST), "")
            found = infer_node_outputs(schema, proto, types, data)
            return {name: (kind.tensor_type.elem_type, _static(kind)) for name, kind in found.items()}
        except Exception:  # the library's errors have no base of their own
            return {}


def parse(data: bytes, shapes: Mapping[str, Shape], name: str) -> Parsed:
    """Raises ParseError."""
    file = _read(data, name)
    inputs = _fixed(file, shapes)
    file.declared |= {name: shape for name, shape in shapes.items() if name not in inputs}
    file.given = frozenset(shapes)
    translator = Translator(file, file.float_type)
    for note in file.notes:
        translator.draft.note(note)
    return finish(translator.translate(inputs))


def _read(data: bytes, name: str) -> OnnxFile:
    model = ModelProto()
    try:
        model.ParseFromString(lighten(data))
    except ParseError:
        raise
    except Exception as error:  # protobuf's errors have no base of their own
        raise ParseError(f"a model must be a whole ONNX file, but got {one_line(error)}; export it again") from None
    graph = model.graph
    if not graph.node:
        raise ParseError("an ONNX model must have nodes, but got none; export it again")
    if len(graph.node) > MAX_NODES or len(graph.initializer) + len(graph.value_info) > MAX_TENSORS:
        raise ParseError(
            f"a model must have at most {MAX_NODES} nodes and {MAX_TENSORS} tensors, but got {len(graph.node)} and "
            f"{len(graph.initializer) + len(graph.value_info)}; split the model"
        )
    file = OnnxFile(name or one_line(graph.name) or "model", _version(model))
    _read_tensors(file, model)
    _read_nodes(file, graph.node)
    if file.version > NEWEST:
        file.notes.append(f"operator set {file.version} is read as {NEWEST}, the newest that is known here")
    return file


def _version(model: ModelProto) -> int:
    """Of the standard operator set."""
    versions = [int(entry.version) for entry in model.opset_import if entry.domain in OWN_DOMAINS]
    version = max(versions, default=0)
    if not 0 <= version < 1000 or (versions and version == 0):
        raise ParseError(f"a model must name its operator set, 1 to {NEWEST}, but got {version}; export it again")
    return version or NEWEST


def _read_tensors(file: OnnxFile, model: ModelProto) -> None:
    graph = model.graph
    kinds: dict[str, int] = {"float32": 0, "float16": 0}
    for tensor in graph.initializer:
        file.constants[tensor.name] = _constant(tensor)
        file.kinds[tensor.name] = int(tensor.data_type)
        if tensor.data_type in FLOATS:
            kinds[FLOATS[tensor.data_type]] += prod(tensor.dims)
        if tensor.data_location == TensorProto.EXTERNAL and not file.notes:
            file.notes.append("weights in other files are not read: shapes are all that is needed")
    for sparse in graph.sparse_initializer:
        file.constants[sparse.values.name] = Tensor(tuple(sparse.dims), True)
    file.float_type = "float16" if kinds["float16"] > kinds["float32"] else "float32"
    for entry in graph.input:
        if entry.name not in file.constants:
            file.inputs[entry.name] = (int(entry.type.tensor_type.elem_type), _sides(entry))
    float_inputs = [FLOATS[kind] for kind, _ in file.inputs.values() if kind in FLOATS]
    if float_inputs and not any(kinds.values()):
        file.float_type = float_inputs[0]
    file.outputs = tuple(entry.name for entry in graph.output)
    for entry in (*graph.value_info, *graph.output):
        sides = _sides(entry)
        if sides is not None and None not in sides:
            file.declared[entry.name] = tuple(side or 1 for side in sides)


def _read_nodes(file: OnnxFile, protos: Iterable[NodeProto]) -> None:
    left = MAX_LINKS
    for proto in protos:
        left -= len(proto.input) + len(proto.output) + len(proto.attribute)
        if left < 0:
            raise ParseError(f"nodes must have at most {MAX_LINKS} inputs, outputs and attributes; split the model")
        outputs = tuple(proto.output)
        attributes = {}
        for entry in proto.attribute:
            value = _attribute(entry)
            if value is not None:
                attributes[entry.name] = value
        kind = proto.op_type if proto.domain in OWN_DOMAINS else f"{proto.domain}::{proto.op_type}"
        name = proto.name or next(filter(None, outputs), proto.op_type)
        file.nodes.append(FileNode(name, kind, tuple(proto.input), outputs, attributes))
        if outputs:
            file.protos.setdefault(outputs[0], proto)


def _attribute(entry: AttributeProto) -> Any:
    """Its value; None where it is a graph, too long, or of no known type."""
    kind = entry.type
    if kind == AttributeProto.TENSOR:
        return _constant(entry.t)
    if kind == AttributeProto.STRING:
        return entry.s.decode("utf-8", "replace")
    if kind in (AttributeProto.INT, AttributeProto.FLOAT):
        return int(entry.i) if kind == AttributeProto.INT else float(entry.f)
    if kind in (AttributeProto.INTS, AttributeProto.FLOATS):
        values = entry.ints if kind == AttributeProto.INTS else entry.floats
        return tuple(values) if len(values) <= LARGEST else None
    return None


def _constant(tensor: TensorProto) -> Tensor:
    """Shape, and the values where there are few."""
    shape = tuple(int(side) for side in tensor.dims)
    values = None
    if len(shape) <= 8 and 0 <= prod(shape) <= LARGEST and tensor.data_location != TensorProto.EXTERNAL:
        try:
            values = numpy_helper.to_array(tensor)
        except MALFORMED:
            values = None
    if values is not None and values.dtype.kind not in "fiub":
        values = None
    return Tensor(shape, True, values)


def _sides(entry: ValueInfoProto) -> tuple[int | None, ...] | None:
    """Sides of a tensor, None for one that is not fixed; None where it is no tensor or of unknown rank."""
    if not entry.type.HasField("tensor_type") or not entry.type.tensor_type.HasField("shape"):
        return None
    return tuple(
        int(side.dim_value) if side.HasField("dim_value") and side.dim_value > 0 else None
        for side in entry.type.tensor_type.shape.dim
    )


def _static(kind: Any) -> Shape | None:
    if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    sides = kind.tensor_type.shape.dim
    if not all(side.HasField("dim_value") and side.dim_value > 0 for side in sides):
        return None
    return tuple(int(side.dim_value) for side in sides)


def _fixed(file: OnnxFile, shapes: Mapping[str, Shape]) -> dict[str, tuple[int, Shape]]:
    """Element type and shape of every input. Raises ParseError for a shape that must still be given."""
    made = {name for node in file.nodes for name in node.outputs}
    if strange := [name for name in shapes if name not in file.inputs and name not in made]:
        listed = ", ".join(file.inputs) or "none"
        raise ParseError(
            f"a shape must be given for one of the inputs {one_line(listed)} or a node's output, but got "
            f"{one_line(strange[0])!r}"
        )
    fixed = {}
    for name, (kind, sides) in file.inputs.items():
        shape = shapes.get(name)
        if shape is None and sides is not None and None not in sides:
            shape = tuple(side or 1 for side in sides)
        if shape is None or (sides is not None and len(sides) != len(shape)):
            raise ParseError(_dynamic(name, sides, shape))
        try:
            check_shape(shape, f"input {one_line(name, 60)!r}")
        except SpecError as error:
            raise ParseError(f"{error}; give another with --shape") from None
        fixed[name] = (kind, shape)
    return fixed


def _dynamic(name: str, sides: tuple[int | None, ...] | None, given: Shape | None) -> str:
    if len(sides or ()) > MAX_RANK:
        count = len(sides or ())
        return f"input {one_line(name, 60)!r} must have up to {MAX_RANK} sides, but got {count}; export it again"
    found = "x".join("?" if side is None else str(side) for side in sides or ()) or "no shape"
    example = EXAMPLE_SIDES.get(len(sides or ()), (1,) * max(1, len(sides or ())))
    advice = "x".join(str(side or example[i]) for i, side in enumerate(sides or example))
    got = found if given is None else f"{'x'.join(map(str, given))} for {found}"
    label = one_line(name, 60)
    return f"input {label!r} must have a fixed shape, but got {got}; give one with --shape {label}={advice}"
