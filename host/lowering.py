"""What an engine makes of the operators it is given: a network as the engine optimised it, cut into one-node models.

ONNX Runtime fuses nodes, stores images in blocks of channels and converts between the two where neighbours need it.
So the unit of measuring is the NativeOp, one node of the optimised model, and ``lower`` finds out which nodes each
operator of the Graph became. That depends on the operator and on the form its inputs are in (its context):

* a tensor is "plain" where it keeps its exported name, "blocked" as ONNX Runtime's channel blocks, "nhwc" channels last;
* a conversion belongs to the first operator that needs it, and leaves its input in both forms;
* the conversion back at the end belongs to the operator that makes the network's output (``>`` in the context).

An engine that runs operators as exported (LiteRT) has one NativeOp per operator, in any context.

The exporter names every node and tensor after the Graph's tensors (``t7``, parts ``t7.0``), and ONNX Runtime keeps
these names or derives its own from them (``t7_nchwc``), which is how nodes are told apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from host.errors import HostError
from host.native import Piece, cut
from lut_db.records import ANY_CONTEXT, Lowering
from ops_catalog import ops
from ops_catalog.build import Network, expand, tensors
from ops_catalog.spec import Graph, NativeOp, OpSpec

_TENSOR = re.compile(r"[tx]\d+")
_EXPORTED = re.compile(r"[tx]\d+([./]\w+)*")


class LoweringError(HostError):
    """An optimised model that cannot be traced back to its operators."""


@dataclass(frozen=True, slots=True)
class Lowered:
    """What one network taught: the mapping, and a model file for every native operator in it."""

    lowerings: tuple[Lowering, ...]
    pieces: Mapping[str, Piece]


def lower_as_exported(op: OpSpec) -> tuple[Lowering, NativeOp]:
    """The mapping of an engine that runs what it is given."""
    plain = ("plain",) * len(op.inputs)
    return Lowering(op.key, ANY_CONTEXT, (op.key,), "plain", plain), NativeOp(op.key, ops.weight_bytes(op))


def lower(graph: Graph, optimised: bytes) -> Lowered:
    """Attributes every node of the optimised model to an operator of the Graph.

    Raises:
        LoweringError: a node belongs to no operator.
    """
    pieces = cut(optimised, {name: tensor.shape for name, tensor in tensors(expand(graph)).items()})
    return Lowered(tuple(_walk(graph, pieces)), {piece.op.key: piece for piece in pieces})


def carriers(operators: Sequence[OpSpec], size: int = 24) -> Iterator[Graph]:
    """Graphs that show operators in the contexts a network has, many operators a Graph.

    Each stands twice in its carrier: alone, and with images that a convolution made before it and a convolution
    that reads it after.
    """
    for start in range(0, len(operators), size):
        yield _carrier(operators[start : start + size])


def _carrier(operators: Sequence[OpSpec]) -> Graph:
    shapes = [tensor.shape for op in operators for tensor in (*op.inputs, *op.inputs)]
    network = Network(f"carrier of {len(operators)}", *shapes, dtype=operators[0].dtype)
    free = iter([f"x{i}" for i in range(len(shapes))])
    ends = []
    for op in operators:
        attributes = ops.attributes(op)
        ends.append(network.add(op.type, *(next(free) for _ in op.inputs), **attributes))
        made = [_same_image(network, next(free)) for _ in op.inputs]
        ends.append(_same_image(network, network.add(op.type, *made, **attributes)))
    return network.finish(*ends)


def _same_image(network: Network, tensor: str) -> str:
    shape = network.shape(tensor)
    return network.add("conv2d", tensor, out_channels=shape[1], kernel=(1, 1)) if len(shape) == 4 else tensor


@dataclass(slots=True)
class _Forms:
    """Where each tensor of the Graph lies: its forms by label, and the optimised model's tensor of each form."""

    labels: dict[str, list[str]] = field(default_factory=dict)
    owner: dict[str, tuple[str, str]] = field(default_factory=dict)

    def add(self, tensor: str, label: str, native_tensor: str) -> None:
        known = self.labels.setdefault(tensor, [])
        if label not in known:
            known.append(label)
        self.owner[native_tensor] = (tensor, label)

    def text(self, tensor: str) -> str:
        return "+".join(sorted(self.labels[tensor]))


def _walk(graph: Graph, pieces: Sequence[Piece]) -> Iterator[Lowering]:
    owned = _owned(graph, pieces)
    forms = _Forms()
    for name, _ in graph.inputs:
        forms.add(name, "plain", name)
    for node in graph.nodes:
        context = ",".join(forms.text(name) for name in node.inputs) + (">" if node.output in graph.outputs else "")
        mine = owned.get(node.output, [])
        _trace(forms, node.output, node.inputs, mine)
        natives = tuple(piece.op.key for piece in mine)
        inputs = tuple(forms.text(name) for name in node.inputs)
        yield Lowering(node.op.key, context, natives, _output_form(forms, node.output, node.inputs), inputs)


def _output_form(forms: _Forms, output: str, inputs: Sequence[str]) -> str:
    """An operator that vanished leaves its output as its first input lies."""
    if output not in forms.labels:
        forms.labels[output] = list(forms.labels[inputs[0]])
    return forms.text(output)


def _trace(forms: _Forms, output: str, inputs: Sequence[str], mine: Sequence[Piece]) -> None:
    """Follows one operator's nodes: conversions add a form to a tensor, the last node makes the output."""
    for piece in mine:
        source = next((forms.owner[name] for name in piece.inputs if name in forms.owner), None)
        converts = piece.converts and source is not None
        label = "plain" if _EXPORTED.fullmatch(piece.output) else piece.label or (source[1] if source else "plain")
        if converts and source is not None and source[0] in inputs:
            forms.add(source[0], label, piece.output)
        else:
            forms.labels.pop(output, None) if not converts else None
            forms.add(output, label, piece.output)


def _owned(graph: Graph, pieces: Sequence[Piece]) -> dict[str, list[Piece]]:
    """The nodes of each operator, by the operator's output; conversions go to their first reader."""
    order = {node.output: position for position, node in enumerate(graph.nodes)}
    owners: dict[int, str] = {}
    for index, piece in enumerate(pieces):
        match = _TENSOR.match(piece.name) if not piece.converts else None
        if match and match[0] in order:
            owners[index] = match[0]
    for index in reversed(range(len(pieces))):
        if index not in owners:
            owners[index] = _first_reader(pieces, index, owners, order)
    owned: dict[str, list[Piece]] = {}
    for index, piece in enumerate(pieces):
        owned.setdefault(owners[index], []).append(piece)
    return owned


def _first_reader(pieces: Sequence[Piece], index: int, owners: Mapping[int, str], order: Mapping[str, int]) -> str:
    """The earliest operator that reads what a conversion makes; the one that made it, at the end of the network."""
    made = pieces[index].output
    readers = [owners[i] for i in range(index + 1, len(pieces)) if made in pieces[i].inputs and i in owners]
    if readers:
        return min(readers, key=order.__getitem__)
    match = _TENSOR.match(made)
    if match and match[0] in order:
        return match[0]
    raise LoweringError(f"every optimised node must belong to an operator, but got {pieces[index].name!r} of none")
