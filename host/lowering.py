"""What an engine makes of the operators it is given: a network as the engine optimised it, cut into one-node models.

ONNX Runtime fuses nodes, stores images in blocks of channels and converts between the two where neighbours need it.
So the unit of measuring is the NativeOp, one node of the optimised model, and ``lower`` finds out which nodes each
operator of the Graph became. That depends on the operator and on the form its inputs are in (its context):

* a tensor is "plain" as exported, "blocked" in ONNX Runtime's channel blocks, "nhwc" with channels last;
* a conversion belongs to the first operator that needs it, and leaves its input in both forms;
* the conversion back at the end belongs to the operator that makes the network's output (``>`` in the context).

An engine that runs operators as exported (LiteRT) has one NativeOp per operator, in any context.

The exporter names every node and tensor after the Graph's tensors (``t7``, parts ``t7.0``), and ONNX Runtime keeps
these names or derives its own from them (``t7_nchwc``), which is how nodes are told apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

from host.errors import HostError
from host.native import Piece, cut
from lut_db.lut import Lowerings, narrower_context, readers_of
from lut_db.records import ANY_CONTEXT, Lowering
from ops_catalog import ops
from ops_catalog.build import Network, expand, tensors
from ops_catalog.spec import Graph, NativeOp, OpSpec, TensorSpec

_TENSOR = re.compile(r"(?:InsertedPrecisionFreeCast_)?([tx]\d+)")


CARRIED = 12
"""Operators in one carrier: enough to share the cost of optimising, few enough for one refusal not to cost much."""


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


def lower(graph: Graph, optimised: bytes, known: Lowerings | None = None) -> Lowered:
    """Attributes every node of the optimised model to an operator of the Graph.

    Args:
        known: what was learned before. Where the same operator in the same context became something else, the row
            is kept under a narrower context that also names what reads its output.

    Raises:
        LoweringError: a node belongs to no operator.
    """
    pieces = cut(optimised, {name: tensor.shape for name, tensor in tensors(expand(graph)).items()})
    known, new, readers = known or {}, dict[tuple[str, str], Lowering](), readers_of(graph)
    rows = []
    for node, row in zip(graph.nodes, _walk(graph, pieces), strict=True):
        place = (row.op_key, row.context)
        seen = known.get(place) or new.setdefault(place, row)
        rows.append(row if seen == row else replace(row, context=narrower_context(row.context, readers[node.output])))
    return Lowered(tuple(rows), {piece.op.key: piece for piece in pieces})


def carriers(operators: Sequence[OpSpec]) -> Iterator[Graph]:
    """Graphs that show operators in the contexts a network can have, several operators a Graph.

    Each operator stands in it once alone, making the network's output, and once for every way its images can lie:
    plain, as a convolution made them, or both.
    """
    for start in range(0, len(operators), CARRIED):
        yield _carrier(operators[start : start + CARRIED])


def _carrier(operators: Sequence[OpSpec]) -> Graph:
    cases = [(op, ways) for op in operators for ways in (None, *product(*map(_ways, op.inputs)))]
    shapes = [tensor.shape for op, _ in cases for tensor in op.inputs]
    network = Network(f"carrier of {operators[0].key} and {len(operators) - 1} more", *shapes, dtype=operators[0].dtype)
    free = iter([f"x{i}" for i in range(len(shapes))])
    ends: list[str] = []
    for op, ways in cases:
        inputs = [next(free) for _ in op.inputs]
        if ways is None:
            ends.append(network.add(op.type, *inputs, **ops.attributes(op)))
            continue
        laid = [_laid(network, name, way, ends) for name, way in zip(inputs, ways, strict=True)]
        ends.append(_read(network, network.add(op.type, *laid, **ops.attributes(op))))
    return network.finish(*ends)


def _ways(tensor: TensorSpec) -> tuple[str, ...]:
    return ("plain", "made", "made and kept") if len(tensor.shape) == 4 else ("plain",)


def _laid(network: Network, tensor: str, way: str, ends: list[str]) -> str:
    """A tensor as it is, made by a convolution, or made and then read in plain form, hence there in both."""
    if way == "plain":
        return tensor
    made = network.add("conv2d", tensor, out_channels=network.shape(tensor)[1], kernel=(1, 1))
    if way == "made and kept":
        ends.append(network.add("softmax", made))
    return made


def _read(network: Network, tensor: str) -> str:
    """Something that reads a tensor, so that it is not the network's output."""
    shape = network.shape(tensor)
    if len(shape) == 4:
        return network.add("conv2d", tensor, out_channels=shape[1], kernel=(1, 1))
    return network.add("softmax", tensor)


@dataclass(slots=True)
class _Forms:
    """The forms each tensor of the Graph is in by now, and which tensor an optimised model's tensor is a form of."""

    known: dict[str, set[str]] = field(default_factory=dict)
    source: dict[str, str] = field(default_factory=dict)

    def add(self, tensor: str, form: str, native_tensor: str) -> None:
        self.known.setdefault(tensor, set()).add(form)
        self.source[native_tensor] = tensor

    def text(self, tensor: str) -> str:
        return "+".join(sorted(self.known[tensor]))


def _walk(graph: Graph, pieces: Sequence[Piece]) -> Iterator[Lowering]:
    owned = _owned(graph, pieces)
    forms = _Forms()
    for name, _ in graph.inputs:
        forms.add(name, "plain", name)
    for node in graph.nodes:
        context = ",".join(forms.text(name) for name in node.inputs) + (">" if node.output in graph.outputs else "")
        mine = owned.get(node.output, [])
        _trace(forms, node.output, node.inputs, mine)
        natives = tuple(sorted(piece.op.key for piece in mine))
        inputs = tuple(forms.text(name) for name in node.inputs)
        yield Lowering(node.op.key, context, natives, forms.text(node.output), inputs)


def _trace(forms: _Forms, output: str, inputs: Sequence[str], mine: Sequence[Piece]) -> None:
    """Follows one operator's nodes: a conversion adds a form to an input, the last other node makes the output.

    An operator that vanished leaves its output as its first input lies.
    """
    forms.known[output] = set()
    for piece in mine:
        source = next((forms.source[name] for name in piece.inputs if name in forms.source), output)
        if piece.converts and source in inputs:
            forms.add(source, piece.form, piece.output)
            continue
        if not piece.converts:
            forms.known[output] = set()
        forms.add(output, piece.form, piece.output)
    if not forms.known[output]:
        forms.known[output] = set(forms.known[inputs[0]])


def _owned(graph: Graph, pieces: Sequence[Piece]) -> dict[str, list[Piece]]:
    """The nodes of each operator, by the operator's output; conversions go to their first reader."""
    order = {node.output: position for position, node in enumerate(graph.nodes)}
    owners: dict[int, str] = {}
    for index, piece in enumerate(pieces):
        match = _TENSOR.match(piece.name) if not piece.converts else None
        if match and match[1] in order:
            owners[index] = match[1]
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
    if match and match[1] in order:
        return match[1]
    raise LoweringError(f"every optimised node must belong to an operator, but got {pieces[index].name!r} of none")
