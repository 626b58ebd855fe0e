"""Whole networks in both formats: the same results, valid files, the same bytes for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ops_catalog.build import Network, with_dtype
from ops_catalog.export import export_graph
from ops_catalog.export.onnx import IR_VERSION, OPSET, UINT8_SHIFT
from ops_catalog.export.quantise import calibrated, evaluate, load, store
from ops_catalog.networks import NETWORKS, build_network
from ops_catalog.ops.contract import Array
from ops_catalog.spec import Graph, SpecError
from search.spaces import SPACES, space_named
from tests.networks import random_network
from tests.test_ops import assert_close, run_onnx, run_tflite

SMALL = ("mobilenet-v2-0.35-96", "mobilenet-v3-small", "chamnet-f", "resnet-18")


def one_input(graph: Graph, seed: int = 0) -> dict[str, Array]:
    name, tensor = graph.inputs[0]
    return {name: np.random.default_rng(seed).standard_normal(tensor.shape, dtype=np.float32)}


def cosine(a: Array, b: Array) -> float:
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


@pytest.mark.parametrize("name", NETWORKS)
def test_both_formats_of_a_network_agree(name: str, tmp_path: Path) -> None:
    graph = build_network(name)
    inputs = one_input(graph)
    assert_close(run_onnx(graph, inputs, tmp_path), run_tflite(graph, inputs, tmp_path), 1e-5)


@pytest.mark.parametrize("space", SPACES)
def test_both_formats_of_random_networks_of_a_space_agree(space: str, tmp_path: Path) -> None:
    chosen, rng = space_named(space), np.random.default_rng(7)
    for _ in range(3):
        graph = chosen.decode(chosen.sample(rng))
        inputs = one_input(graph)
        assert_close(run_onnx(graph, inputs, tmp_path), run_tflite(graph, inputs, tmp_path), 1e-5)


def test_both_formats_of_small_networks_compute_what_numpy_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    for _ in range(10):
        graph = random_network(rng)
        inputs = one_input(graph)
        wanted = evaluate(graph, inputs)[graph.outputs[0]]
        assert_close(run_onnx(graph, inputs, tmp_path), wanted, 1e-5)
        assert_close(run_tflite(graph, inputs, tmp_path), wanted, 1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_int8_networks_point_where_float32_ones_do(name: str, tmp_path: Path) -> None:
    graph = build_network(name)
    integer, inputs = with_dtype(graph, "int8"), one_input(graph)
    quant = calibrated(integer)
    (entering, array), leaving = next(iter(inputs.items())), graph.outputs[0]
    wanted = run_onnx(graph, inputs, tmp_path)
    stored = store(array, quant[entering])
    shifted = {entering: (stored.astype(int) + UINT8_SHIFT).astype(np.uint8)}
    onnx = run_onnx(integer, shifted, tmp_path, quant=quant).astype(int) - UINT8_SHIFT
    tflite = run_tflite(integer, {entering: stored}, tmp_path, quant=quant)
    assert cosine(load(onnx, quant[leaving]), wanted) >= 0.99
    assert cosine(load(tflite, quant[leaving]), wanted) >= 0.99


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("name", SMALL)
def test_onnx_files_pass_the_checker_and_shape_inference(name: str, dtype: str) -> None:
    import onnx

    blob = export_graph(build_network(name, dtype), "onnx")
    onnx.checker.check_model(blob, full_check=True)
    model = onnx.load_from_string(blob)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    assert (model.opset_import[0].version, model.ir_version) == (OPSET, IR_VERSION)


@pytest.mark.parametrize("file_format", ["onnx", "tflite"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(file_format: str, dtype: str) -> None:
    graph = build_network("mobilenet-v3-small", dtype)
    first = export_graph(graph, file_format, seed=1)
    assert export_graph(graph, file_format, seed=1) == first
    assert export_graph(graph, file_format, seed=2) != first


def test_tflite_files_are_named_so_inside() -> None:
    blob = export_graph(build_network("mobilenet-v2-0.35-96"), "tflite")
    assert blob[4:8] == b"TFL3"


def test_an_unknown_format_is_refused_with_those_there_are() -> None:
    with pytest.raises(SpecError, match="onnx, tflite, pt2, fake, but got 'coreml'"):
        export_graph(random_network(np.random.default_rng(0)), "coreml")


def test_images_and_plain_tensors_change_layout_where_they_meet(tmp_path: Path) -> None:
    net = Network("tokens", (1, 8, 6, 5))
    x = net.add("conv2d", net.input, out_channels=12, kernel=(1, 1))
    tokens = net.add("transpose", net.add("reshape", x, shape=(1, 12, 30)), perm=(0, 2, 1))
    tokens = net.add("layer_norm", tokens)
    scores = net.add("softmax", net.add("matmul", tokens, tokens, transpose_b=True))
    mixed = net.add("linear", net.add("matmul", scores, tokens), out_features=12)
    image = net.add("reshape", net.add("transpose", mixed, perm=(0, 2, 1)), shape=(1, 12, 6, 5))
    graph = net.finish(net.add("conv2d", net.add("add", image, x), out_channels=4, kernel=(3, 3)))
    inputs = one_input(graph)
    wanted = evaluate(graph, inputs)[graph.outputs[0]]
    assert_close(run_onnx(graph, inputs, tmp_path), wanted, 1e-5)
    assert_close(run_tflite(graph, inputs, tmp_path), wanted, 1e-5)
