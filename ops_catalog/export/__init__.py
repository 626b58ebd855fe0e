"""Graph -> model file. EXPORTERS: file format -> module with ``export(graph, seed, quant, weights) -> bytes``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from ops_catalog.export.weights import Weights
from ops_catalog.spec import Graph, SpecError

EXPORTERS = {
    "onnx": "ops_catalog.export.onnx",
    "tflite": "ops_catalog.export.tflite",
    "pt2": "ops_catalog.export.torch",
    "fake": "ops_catalog.export.fake",
}


def export_graph(
    graph: Graph,
    file_format: str,
    seed: int = 0,
    quant: Mapping[str, tuple[float, int]] | None = None,
    weights: Weights | None = None,
) -> bytes:
    """The model file of a network or a single operator, with seeded weights or trained ones.

    Args:
        quant: scale and zero point of every tensor of an int8 Graph; assumed ones by default.

    Raises:
        SpecError: unknown format, or an operator that the format cannot express in the Graph's dtype.
    """
    if file_format not in EXPORTERS:
        raise SpecError(f"a file format must be one of {', '.join(EXPORTERS)}, but got {file_format!r}")
    return bytes(import_module(EXPORTERS[file_format]).export(graph, seed=seed, quant=quant, weights=weights))
