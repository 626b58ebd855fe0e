"""Graph -> a PyTorch module and its file (.pt2): to measure it, to train it, to bring its weights into other files.

A module has one layer for each operator of the expanded Graph; a sigmoid and the product with its own input run as
the one SiLU they are. For training, convolutions are followed by batch norm instead of their bias;
``folded_weights`` folds it back, so that the exported file and the trained module agree. The number of images in a
module's batch is free, in a file it is the Graph's. PyTorch is imported here only when a module is built.

A file says how its tensors lie in memory: images and the kernels of convolutions channels last (N x H x W x C), the
rest in the order of its dimensions. What reads it may lay them out otherwise.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from ops_catalog import ops
from ops_catalog.build import expand
from ops_catalog.export.quantise import Quant
from ops_catalog.export.torch_layers import FORWARD, PLAIN_OPERATORS, add_constants
from ops_catalog.export.weights import Weights, source_of
from ops_catalog.ops.contract import Array
from ops_catalog.spec import Graph, Node, OpSpec, SpecError, TensorSpec

CONVOLUTIONS = ("conv2d", "depthwise_conv2d")
DTYPES = ("float32", "float16", "bfloat16")
MISSING = "a .pt2 file must be written by PyTorch, but it is not installed here; pip install 'chamnet[train]'"


def export(
    graph: Graph, seed: int = 0, quant: Mapping[str, Quant] | None = None, weights: Weights | None = None
) -> bytes:
    """The serialised torch.export program, without example inputs and without the places in the source it came from.

    Takes some 20 ms for an operator, seconds for the first one.

    Raises:
        SpecError: an int8 network, or PyTorch is not installed.
    """
    try:
        import torch
    except ModuleNotFoundError:
        raise SpecError(MISSING) from None
    module, images = build_module(graph, seed, weights).eval(), _image_inputs(graph)
    for parameter in module.parameters():
        parameter.data = _laid(parameter.data, parameter.ndim == 4)
    inputs = tuple(_laid(_blank(tensor), name in images) for name, tensor in graph.inputs)
    file = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, inputs, strict=False)
        program.example_inputs = None
        for node in program.graph.nodes:
            node.meta = {"val": node.meta["val"]} if "val" in node.meta else {}
        torch.export.save(program, file)
    return file.getvalue()


def build_module(graph: Graph, seed: int = 0, weights: Weights | None = None, batch_norm: bool = False) -> Any:
    """A torch.nn.Module that computes a network in its float type: takes and returns its inputs and outputs in order.

    Args:
        weights: of the expanded operators; seeded ones by default.
        batch_norm: whether convolutions get batch norm in place of their bias, for training.

    Raises:
        SpecError: the network is int8.
        ModuleNotFoundError: PyTorch is not installed (``pip install chamnet[train]``).
    """
    import torch

    if graph.dtype not in DTYPES:
        raise SpecError(
            f"a PyTorch network must be one of {', '.join(DTYPES)}, but got {graph.dtype}; "
            "measure it with engine onnxruntime, litert or openvino"
        )
    expanded, source = expand(graph), source_of(seed, weights)
    layers, norms = torch.nn.ModuleList(), torch.nn.ModuleDict()
    for index, node in enumerate(expanded.nodes):
        values = source(node.op, index)
        if batch_norm and node.op.type in CONVOLUTIONS:
            values = {"weight": values["weight"]}
            norms[str(index)] = torch.nn.BatchNorm2d(ops.output(node.op).shape[1])
        parameters = {name: torch.nn.Parameter(torch.from_numpy(np.array(v))) for name, v in values.items()}
        layers.append(torch.nn.ParameterDict(parameters))
        add_constants(node.op, layers[-1])
    return _module_type()(expanded, layers, norms).to(getattr(torch, graph.dtype))


def folded_weights(module: Any) -> list[dict[str, Array]]:
    """The constants of every operator of the expanded network, batch norms folded into their convolutions."""
    found = []
    for index, layer in enumerate(module.layers):
        values = {name: parameter.detach().cpu().numpy() for name, parameter in layer.items()}
        if str(index) in module.norms:
            norm = module.norms[str(index)]
            shift, mean = norm.bias.detach().cpu().numpy(), norm.running_mean.cpu().numpy()
            factor = (norm.weight.detach() / (norm.running_var + norm.eps).sqrt()).cpu().numpy()
            values = {"weight": values["weight"] * factor[:, None, None, None], "bias": shift - mean * factor}
        found.append(values)
    return found


@lru_cache(maxsize=1)
def _module_type() -> Any:
    import torch

    class NetworkModule(torch.nn.Module):
        """``layers``: constants of every operator of the expanded Graph; ``norms``: batch norms by its index."""

        def __init__(self, expanded: Graph, layers: Any, norms: Any) -> None:
            super().__init__()
            self.layers, self.norms = layers, norms
            self._names, self._outputs = [name for name, _ in expanded.inputs], expanded.outputs
            self._steps = _steps(expanded)

        def forward(self, *images: Any) -> Any:
            tensors = dict(zip(self._names, images, strict=True))
            norms = dict(self.norms.items())
            for index, node in self._steps:
                inputs = [tensors[name] for name in node.inputs]
                tensors[node.output] = FORWARD[node.op.type](node.op, self.layers[index], inputs, norms.get(str(index)))
            outputs = [tensors[name] for name in self._outputs]
            return outputs[0] if len(outputs) == 1 else tuple(outputs)

    return NetworkModule


def _steps(expanded: Graph) -> list[tuple[int, Node]]:
    """What runs, with its index in the expanded Graph."""
    read = [name for node in expanded.nodes for name in node.inputs] + list(expanded.outputs)
    steps: list[tuple[int, Node]] = []
    for index, node in enumerate(expanded.nodes):
        gate = steps[-1][1] if steps else None
        if gate is not None and _is_silu(gate, node) and read.count(gate.output) == 1:
            steps[-1] = (index, Node(ops.make_op("silu", *gate.op.inputs), gate.inputs, node.output))
        else:
            steps.append((index, node))
    return steps


def _is_silu(gate: Node, node: Node) -> bool:
    return (
        gate.op.type == "sigmoid"
        and node.op == OpSpec("mul", gate.op.inputs * 2)
        and {*node.inputs} == {*gate.inputs, gate.output}
    )


def _image_inputs(graph: Graph) -> set[str]:
    """The inputs that an operator takes for images."""
    readers = [node for node in expand(graph).nodes if node.op.type not in PLAIN_OPERATORS]
    read = {name for node in readers for name in node.inputs}
    return {name for name, tensor in graph.inputs if name in read and len(tensor.shape) == 4}


def _blank(tensor: TensorSpec) -> Any:
    import torch

    return torch.empty(tensor.shape, dtype=getattr(torch, tensor.dtype))


def _laid(values: Any, image: bool) -> Any:
    import torch

    return values.contiguous(memory_format=torch.channels_last) if image else values
