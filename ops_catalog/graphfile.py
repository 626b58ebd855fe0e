"""Graph <-> JSON: a network as its inputs and the keys of its operators. Everything is checked on loading."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ops_catalog import ops
from ops_catalog.spec import Graph, Node, OpSpec, SpecError, TensorSpec, format_shape, parse_shape


def graph_to_json(graph: Graph) -> dict[str, Any]:
    return {
        "name": graph.name,
        "dtype": graph.dtype,
        "inputs": {name: format_shape(tensor.shape) for name, tensor in graph.inputs},
        "nodes": [[node.output, node.op.key, *node.inputs] for node in graph.nodes],
        "outputs": list(graph.outputs),
    }


def graph_from_json(body: Mapping[str, Any]) -> Graph:
    """The Graph of a JSON object.

    Raises:
        SpecError: a field is missing, an operator unknown, or a tensor read before it is made or of another shape.
    """
    try:
        inputs = tuple((name, TensorSpec(parse_shape(shape), body["dtype"])) for name, shape in body["inputs"].items())
        rows = [(str(output), str(key), tuple(map(str, names))) for output, key, *names in body["nodes"]]
        name, outputs = str(body["name"]), tuple(map(str, body["outputs"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SpecError(f"a network must have name, dtype, inputs, nodes and outputs, but got {error!r}") from None
    known = dict(inputs)
    nodes = []
    for output, key, names in rows:
        op = _located(name, output, key)
        if output in known:
            raise SpecError(f"every tensor of network {name!r} must be made once, but got {output!r} twice")
        if [known.get(name) for name in names] != list(op.inputs):
            raise SpecError(
                f"{output!r} of network {name!r} must read tensors of its shapes made before, but got {names}"
            )
        known[output] = ops.output(op)
        nodes.append(Node(op, names, output))
    if not inputs or not outputs or not set(outputs) <= known.keys():
        raise SpecError(f"network {name!r} must have inputs and make its outputs, but got {outputs}")
    return Graph(name, inputs, tuple(nodes), outputs)


def _located(network: str, output: str, key: str) -> OpSpec:
    try:
        return ops.load_op(key)
    except SpecError as error:
        raise SpecError(f"{output!r} of network {network!r}: {error}") from None
