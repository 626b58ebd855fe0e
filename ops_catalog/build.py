"""Builds Graphs operator by operator, and rewrites them: other element type, composite operators expanded.

    network = Network("tiny", (1, 3, 32, 32))
    x = network.add("conv2d", network.input, out_channels=8, kernel=(3, 3))
    graph = network.finish(x)

Tensors are named ``x0``, ``x1`` ... for inputs and ``t0``, ``t1`` ... for the output of each operator; what an
expanded operator makes on its way is ``t4.0``, ``t4.1`` ... These names survive into exported files.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from ops_catalog import ops
from ops_catalog.spec import Graph, Node, OpSpec, TensorSpec, Value


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
