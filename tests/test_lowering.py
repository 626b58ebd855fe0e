"""What ONNX Runtime makes of operators: learned operator by operator, held against whole networks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from agent.engines import onnxrt
from host.lowering import carriers, lower, lower_as_exported
from host.native import cut
from lut_db.lut import resolve
from lut_db.records import Lowering
from ops_catalog.build import expand, single, tensors
from ops_catalog.export import export_graph
from ops_catalog.networks import build_network
from ops_catalog.ops import make_op
from ops_catalog.spec import Graph, TensorSpec
from ops_catalog.sweep import distinct_operators
from tests.networks import random_network

NETWORKS = 200


def optimised(graph: Graph, folder: Path) -> bytes:
    exported, into = folder / "exported.onnx", folder / "optimised.onnx"
    exported.write_bytes(export_graph(graph, "onnx"))
    onnxrt.optimise(str(exported), str(into), {"threads": 1})
    return into.read_bytes()


def natives_of(graph: Graph, folder: Path) -> Counter[str]:
    """What the whole network runs, straight from its optimised model."""
    shapes = {name: tensor.shape for name, tensor in tensors(expand(graph)).items()}
    return Counter(piece.op.key for piece in cut(optimised(graph, folder), shapes))


def mapped(graph: Graph, mapping: dict[tuple[str, str], Lowering]) -> Counter[str]:
    steps = resolve(graph, mapping)
    assert None not in steps
    return Counter(key for step in steps if step for key in step.natives)


def learn(graphs: list[Graph], folder: Path) -> dict[tuple[str, str], Lowering]:
    mapping: dict[tuple[str, str], Lowering] = {}
    for graph in graphs:
        rows = lower(graph, optimised(graph, folder), mapping).lowerings
        mapping.update({(row.op_key, row.context): row for row in rows})
    return mapping


def test_mapping_learned_from_networks_gives_the_nodes_of_each_whole_network(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    graphs = [random_network(rng) for _ in range(NETWORKS)]
    mapping = learn(graphs, tmp_path)
    for graph in graphs:
        assert mapped(graph, mapping) == natives_of(graph, tmp_path)


def test_mapping_learned_from_carriers_gives_the_nodes_of_networks_never_lowered(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    graphs = [random_network(rng) for _ in range(20)]
    mapping = learn(list(carriers(distinct_operators(graphs))), tmp_path)
    for graph in graphs:
        assert mapped(graph, mapping) == natives_of(graph, tmp_path)


@pytest.mark.parametrize("name", ["mobilenet-v2-0.35-96", "mobilenet-v3-small", "resnet-18", "mnasnet-a1"])
@pytest.mark.parametrize("dtype", ["float32", "int8", "float16"])
def test_named_networks_lower_in_every_dtype(name: str, dtype: str, tmp_path: Path) -> None:
    graph = build_network(name, dtype)
    mapping = learn([graph], tmp_path)
    assert mapped(graph, mapping) == natives_of(graph, tmp_path)


def test_one_node_models_run_as_they_stand(tmp_path: Path) -> None:
    graph = build_network("mobilenet-v3-small")
    lowered = lower(graph, optimised(graph, tmp_path))
    assert lowered.pieces
    for piece in lowered.pieces.values():
        path = tmp_path / "native.onnx"
        path.write_bytes(piece.model())
        assert onnxrt.open_model(str(path), {"threads": 1, "optimisation": "none"}).run(1) > 0


def test_engine_that_runs_what_it_is_given_maps_an_operator_to_itself_in_any_context() -> None:
    op = make_op("conv2d", TensorSpec((1, 8, 4, 4)), out_channels=16, kernel=(1, 1))
    row, native = lower_as_exported(op)
    assert native.key == op.key
    assert native.weight_bytes == 4 * (8 * 16 + 16)
    assert resolve(single(op), {(row.op_key, row.context): row}) == [row]
