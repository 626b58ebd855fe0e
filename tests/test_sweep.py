"""What to measure: distinct operators, operators files in their three forms, and networks as JSON."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops_catalog import ops
from ops_catalog.graphfile import graph_from_json, graph_to_json
from ops_catalog.networks import NETWORKS, build_network
from ops_catalog.ops import load_op
from ops_catalog.spec import SpecError
from ops_catalog.sweep import Sweep, distinct_operators, load_sweep, save_sweep
from tests.networks import random_network

RELU, RELU6 = "relu(1x8x4x4;float32)", "relu6(1x8x4x4;float32)"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Writes a file of a name and text; returns its path."""

    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write_file


def keys(sweep: Sweep) -> list[str]:
    return [op.key for op in sweep.operators]


def test_distinct_operators_keep_the_order_of_first_appearance() -> None:
    graph = build_network("mobilenet-v2")
    distinct = distinct_operators([graph, graph])
    assert len(distinct) == len(set(graph.operators))
    assert [graph.operators.index(op) for op in distinct] == sorted(graph.operators.index(op) for op in distinct)


def test_operators_of_no_network_come_after_those_of_networks() -> None:
    graph = build_network("chamnet-f")
    extra = load_op(RELU)
    assert distinct_operators([graph], [extra, graph.operators[0]])[-1] == extra


def test_the_released_chamnets_share_their_operators() -> None:
    graphs = [build_network(f"chamnet-{letter}") for letter in "abcdef"]
    windows = [op for op in distinct_operators(graphs) if op.type in ("conv2d", "depthwise_conv2d", "linear")]
    plain = {
        (op.type, op.inputs[0], tuple(pair for pair in op.attributes if pair[0] != "activation")) for op in windows
    }
    assert len(plain) == 191


def test_a_text_file_lists_a_key_a_line(write: Callable[[str, str], Path]) -> None:
    path = write("ops.txt", f"# activations\n{RELU}\n\n  {RELU6}   # clipped\n")
    assert keys(load_sweep(path)) == [RELU, RELU6]


def test_a_grid_is_every_combination_of_its_lists(write: Callable[[str, str], Path]) -> None:
    path = write(
        "ops.toml",
        '[[grid]]\ntype = "conv2d"\ninput = ["1x8x14x14", "1x16x14x14"]\nkernel = ["1x1", "3x3"]\n'
        "out_channels = [8, 24]\n",
    )
    assert keys(load_sweep(path)) == [
        f"conv2d(1x{inputs}x14x14;kernel={kernel};out_channels={outputs};float32)"
        for inputs in (8, 16)
        for kernel in ("1x1", "3x3")
        for outputs in (8, 24)
    ]


def test_a_grid_takes_one_shape_as_numbers_and_an_element_type(write: Callable[[str, str], Path]) -> None:
    path = write("ops.toml", '[[grid]]\ntype = "relu"\ninput = [1, 8, 4, 4]\ndtype = ["float32", "int8"]\n')
    assert keys(load_sweep(path)) == [RELU, "relu(1x8x4x4;int8)"]


def test_a_grid_takes_several_tensors(write: Callable[[str, str], Path]) -> None:
    path = write("ops.toml", '[[grid]]\ntype = "mul"\ninput = "1x8x4x4|1x8x1x1"\n')
    assert keys(load_sweep(path)) == ["mul(1x8x4x4|1x8x1x1;float32)"]


def test_combinations_of_two_grids_are_measured_once(write: Callable[[str, str], Path]) -> None:
    grid = '[[grid]]\ntype = "relu"\ninput = "1x8x4x4"\n'
    assert keys(load_sweep(write("ops.toml", grid + grid))) == [RELU]


def test_a_saved_sweep_loads_as_it_was(tmp_path: Path) -> None:
    sweep = Sweep((load_op(RELU),), (build_network("chamnet-f"), build_network("mobilenet-v3-small", "int8")))
    save_sweep(tmp_path / "missing.json", sweep)
    assert load_sweep(tmp_path / "missing.json") == sweep


BAD_FILES = {
    "unknown type in a line": (
        "ops.txt",
        f"{RELU}\nswish(1x8x4x4;float32)\n",
        "ops.txt: line 2: an operator type must be",
    ),
    "no key in a line": ("ops.txt", "relu\n", "line 1: an operator key must read like"),
    "unknown type in JSON": (
        "ops.json",
        '{"operators": ["x(1;float32)"]}',
        "ops.json: operator 1: .* conv2d, depthwise",
    ),
    "graph in JSON": ("ops.json", '{"graphs": [{"name": "g"}]}', "ops.json: graph 1: a network must have name"),
    "broken JSON": ("ops.json", '{"operators": [', "ops.json must be JSON"),
    "unknown part of JSON": ("ops.json", '{"ops": []}', "must hold operators and graphs, but got ops"),
    "no list in JSON": ("ops.json", '{"operators": "relu"}', "must hold lists"),
    "broken TOML": ("ops.toml", "[[grid]\n", "ops.toml must be TOML"),
    "misspelt grid": ("ops.toml", '[[grids]]\ntype = "relu"\n', "must hold grid, but got grids"),
    "a grid that is a table": ("ops.toml", '[grid]\ntype = "relu"\n', r"must hold lists under grid \(\[\[grid\]\]"),
    "a grid without input": (
        "ops.toml",
        '[[grid]]\ntype = "relu"\n',
        "grid 1: a grid must have type and input, but got type",
    ),
    "a grid of no shape": ("ops.toml", '[[grid]]\ntype = "relu"\ninput = "big"\n', "grid 1: a shape must read like"),
    "a grid of no type": (
        "ops.toml",
        '[[grid]]\ntype = "swish"\ninput = "1x8"\n',
        "grid 1: an operator type must be one of",
    ),
    "a grid of no attribute": ("ops.toml", '[[grid]]\ntype = "relu"\ninput = "1x8"\nslope = 1\n', "but got slope"),
    "a kernel of one number": (
        "ops.toml",
        '[[grid]]\ntype = "conv2d"\ninput = "1x8x4x4"\nout_channels = 8\nkernel = 3\n',
        "grid 1: kernel must be 2 sizes such as 3x3, but got 3",
    ),
    "nothing": ("ops.txt", "# to be filled\n", "must name at least one operator"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_refused_with_the_place(write: Callable[[str, str], Path], case: str) -> None:
    name, text, message = BAD_FILES[case]
    with pytest.raises(SpecError, match=message):
        load_sweep(write(name, text))


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="must be readable text"):
        load_sweep(tmp_path / "absent.json")


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(SpecError, match="must be readable text"):
        load_sweep(tmp_path / "model.onnx")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_named_network_survives_json(name: str) -> None:
    graph = build_network(name)
    assert graph_from_json(json.loads(json.dumps(graph_to_json(graph)))) == graph


@given(seed=st.integers(0, 2**32 - 1), dtype=st.sampled_from(["float32", "float16", "int8"]))
def test_a_random_network_survives_json(seed: int, dtype: str) -> None:
    graph = random_network(np.random.default_rng(seed), dtype)
    assert graph_from_json(json.loads(json.dumps(graph_to_json(graph)))) == graph


def spoil(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The JSON of a network with a change made to it."""
    body = copy.deepcopy(graph_to_json(build_network("chamnet-f")))
    change(body)
    return body


BAD_GRAPHS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a field missing": (lambda body: body.pop("nodes"), "must have name, dtype, inputs, nodes and outputs"),
    "read before it is made": (lambda body: body["nodes"].reverse(), "must read tensors of its shapes made before"),
    "another shape": (lambda body: body["inputs"].update(x0="1x3x64x64"), "'t0' of network 'chamnet-f' must read"),
    "another element type": (lambda body: body.update(dtype="int8"), "'t0' of network 'chamnet-f' must read"),
    "made twice": (lambda body: body["nodes"].append(body["nodes"][-1]), "must be made once"),
    "unknown operator": (lambda body: body["nodes"][3].__setitem__(1, "swish(1x8;float32)"), "'t3' .* got 'swish'"),
    "output not made": (lambda body: body.update(outputs=["t999"]), "make its outputs"),
    "a node of no operator": (lambda body: body["nodes"].append(["t999"]), "must have name, dtype"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_GRAPHS)
def test_a_bad_network_is_refused_with_the_place(case: str) -> None:
    change, message = BAD_GRAPHS[case]
    with pytest.raises(SpecError, match=message):
        graph_from_json(spoil(change))


@pytest.mark.parametrize("body", [None, [], "graph", 3])
def test_what_is_no_object_is_no_network(body: Any) -> None:
    with pytest.raises(SpecError, match="a network must have name"):
        graph_from_json(body)


def test_a_network_as_json_is_compact() -> None:
    graph = build_network("mobilenet-v2")
    assert len(json.dumps(graph_to_json(graph))) < 120 * len(graph.nodes)
    assert sum(map(ops.macs, graph.operators)) > 0
