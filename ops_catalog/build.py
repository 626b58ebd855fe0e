"""Builds Graphs operator by operator, and rewrites them: other element type, other batch, composite operators expanded.

    network = Network("tiny", (1, 3, 32, 32))
    x = network.add("conv2d", network.input, out_channels=8, kernel=(3, 3))
    graph = network.finish(x)

Tensors are named ``x0``, ``x1`` ... for inputs and ``t0``, ``t1`` ... for the output of each operator; what an
expanded operator makes on its way is ``t4.0``, ``t4.1`` ... These names survive into exported files.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

from ops_catalog import ops
from ops_catalog.spec import Graph, Node, OpSpec, SpecError, TensorSpec, Value

MOST_BATCH = 4096
_BATCH_SUFFIX = re.compile(r"(?P<name>.*)@b(?P<batch>\d+)", re.ASCII | re.DOTALL)


class Network:
    """A Graph under construction."""

    def __init__(self, name: str, *input_shapes: tuple[int, ...], dtype: str = "float32") -> None:
        self.name = name
        self._inputs = tuple((f"x{i}", TensorSpec(shape, dtype)) for i, shape in enumerate(input_shapes))
        self._tensors = dict(self._inputs)
        self._nodes: list[Node] = []

    @property
    def input(self) -> str:
        return self._inputs[0][0]

    def shape(self, tensor: str) -> tuple[int, ...]:
        return self._tensors[tensor].shape

    def add(self, op_type: str, *inputs: str, **attributes: Value) -> str:
        """Appends an operator; returns the name of its output. Raises SpecError where it does not fit."""
        op, made = _op_and_output(op_type, tuple([self._tensors[name] for name in inputs]), tuple(attributes.items()))
        name = f"t{len(self._nodes)}"
        self._tensors[name] = made
        self._nodes.append(Node(op, inputs, name))
        return name

    def finish(self, *outputs: str) -> Graph:
        return Graph(self.name, self._inputs, tuple(self._nodes), outputs)


@lru_cache(maxsize=1 << 17)
def _op_and_output(
    op_type: str, inputs: tuple[TensorSpec, ...], attributes: tuple[tuple[str, Value], ...]
) -> tuple[OpSpec, TensorSpec]:
    """Kept, since the networks of a search space are made of the same operators again and again."""
    op = ops.make_op(op_type, *inputs, **dict(attributes))
    return op, ops.output(op)


def single(op: OpSpec) -> Graph:
    """The Graph of one operator."""
    inputs = tuple((f"x{i}", tensor) for i, tensor in enumerate(op.inputs))
    return Graph(op.key, inputs, (Node(op, tuple(name for name, _ in inputs), "t0"),), ("t0",))


def with_dtype(graph: Graph, dtype: str) -> Graph:
    """The same network in another element type."""
    inputs = tuple((name, replace(tensor, dtype=dtype)) for name, tensor in graph.inputs)
    nodes = tuple(replace(node, op=op_with_dtype(node.op, dtype)) for node in graph.nodes)
    return replace(graph, inputs=inputs, nodes=nodes)


def op_with_dtype(op: OpSpec, dtype: str) -> OpSpec:
    return replace(op, inputs=tuple(replace(tensor, dtype=dtype) for tensor in op.inputs))


def with_batch(graph: Graph, batch: int) -> Graph:
    """The same network for another number of images: axis 0 of every tensor; its name stays.

    Raises:
        SpecError: its inputs are not of one batch, or an operator mixes the images of a batch.
    """
    sides = {tensor.shape[:1] for _, tensor in graph.inputs}
    if len(sides) != 1 or sides == {()}:
        shapes = [tensor.shape for _, tensor in graph.inputs]
        raise SpecError(f"inputs must begin with one and the same batch, but those of {graph.name!r} are {shapes}")
    if not 1 <= batch <= MOST_BATCH:
        raise SpecError(f"a batch must be from 1 to {MOST_BATCH}, but got {batch}")
    inputs = tuple((name, _at_batch(tensor, batch)) for name, tensor in graph.inputs)
    known, nodes = dict(inputs), list[Node]()
    for node in graph.nodes:
        op, known[node.output] = _op_at_batch(node.op, tuple([known[name] for name in node.inputs]))
        nodes.append(replace(node, op=op))
    return replace(graph, inputs=inputs, nodes=tuple(nodes))


def batch_of(graph: Graph) -> int:
    """The number of images that a network takes at once; 1 where its first input has no axes."""
    return (*graph.inputs[0][1].shape, 1)[0]


def split_batch(name: str) -> tuple[str, int]:
    """A name such as ``resnet-50@b32`` without its suffix, and the batch; 1 without one. Raises SpecError."""
    match = _BATCH_SUFFIX.fullmatch(name)
    if match is None:
        return name, 1
    if not 1 <= int(match["batch"]) <= MOST_BATCH:
        raise SpecError(f"a batch must be from @b1 to @b{MOST_BATCH}, but got {name!r}")
    return match["name"], int(match["batch"])


def batch_suffix(batch: int) -> str:
    """What a name has for a batch: ``@b32``, nothing for one image."""
    return "" if batch == 1 else f"@b{batch}"


def _op_at_batch(op: OpSpec, inputs: tuple[TensorSpec, ...]) -> tuple[OpSpec, TensorSpec]:
    """An operator on other numbers of images, and its output. Raises SpecError where it mixes them."""
    attributes, batch, made = op.attributes, inputs[0].shape[0], ops.output(op)
    if op.type == "reshape" and made.shape[:1] == op.inputs[0].shape[:1]:
        (_, shape), *_ = attributes
        assert isinstance(shape, tuple)
        attributes = (("shape", (batch if shape[0] != -1 else -1, *shape[1:])),)
    try:
        rebuilt, output = _op_and_output(op.type, inputs, attributes)
    except SpecError as error:
        raise SpecError(
            f"{op.key} must keep the images of a batch apart, but it cannot take {batch}: {error}"
        ) from None
    if _mixes_images(op) or output != _at_batch(made, batch):
        raise SpecError(f"{op.key} must keep the images of a batch apart, but it mixes them; build it for {batch} anew")
    return rebuilt, output


def _mixes_images(op: OpSpec) -> bool:
    """What shapes do not show: axis 0 of a tensor met with another of its axes, or normalised over."""
    ranks = {len(tensor.shape) for tensor in op.inputs}
    along = {"softmax": ops.attributes(op).get("axis"), "layer_norm": -1}.get(op.type)
    return len(ranks) > 1 or (isinstance(along, int) and along % min(ranks) == 0)


def _at_batch(tensor: TensorSpec, batch: int) -> TensorSpec:
    return replace(tensor, shape=(batch, *tensor.shape[1:]))


def tensors(graph: Graph) -> dict[str, TensorSpec]:
    """Every tensor of a network by name."""
    return dict(graph.inputs) | {node.output: ops.output(node.op) for node in graph.nodes}


def expand(graph: Graph) -> Graph:
    """The network with composite operators as their parts: what both exporters write.

    The last part keeps the operator's output name, the others are numbered under it.
    """
    nodes: list[Node] = []
    for node in graph.nodes:
        nodes += _expand_node(node)
    return replace(graph, nodes=tuple(nodes))


def _expand_node(node: Node) -> list[Node]:
    parts = getattr(ops.operator(node.op.type), "expand", None)
    if parts is None:
        return [node]
    known = dict(zip(node.inputs, node.op.inputs, strict=True))
    made: list[Node] = []

    def steps(op_type: str, *inputs: str, **attributes: Value) -> str:
        op = ops.make_op(op_type, *(known[name] for name in inputs), **attributes)
        name = f"{node.output}.{len(made)}"
        known[name] = ops.output(op)
        made.append(Node(op, inputs, name))
        return name

    parts(node.op, steps, node.inputs)
    if not made:
        return [node]
    made = [part for step in made for part in _expand_node(step)]
    made[-1] = replace(made[-1], output=node.output)
    return made
