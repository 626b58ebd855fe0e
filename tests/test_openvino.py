"""OpenVINO: what it runs of our ONNX files, in which precision, and whether the results are right."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent import sysfiles
from agent.engines import EngineUnavailable, onnxrt, openvino_cpu
from agent.engines.openvino_edges import nodes
from agent.machine import BFLOAT16, read_features
from host.transport.local import AGENT_HOME
from ops_catalog.build import single, with_dtype
from ops_catalog.export import export_graph
from ops_catalog.networks import build_network
from ops_catalog.ops import make_op
from ops_catalog.spec import Graph, OpSpec, TensorSpec

pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="the package openvino is not installed")

NUMPY = {"float32": np.float32, "float16": np.float16, "int8": np.uint8}
TOLERANCE = {"float32": 1e-5, "float16": 1e-3}
STEPS = 1.0
"""Of an int8 result: where a value lies between two steps, engines round differently."""

CASES: dict[str, Callable[[str], OpSpec]] = {
    "conv": lambda dtype: make_op("conv2d", TensorSpec((1, 96, 14, 14), dtype), out_channels=64, kernel=(1, 1)),
    "residual": lambda dtype: make_op(
        "conv2d", *(TensorSpec((1, n, 14, 14), dtype) for n in (48, 96)), out_channels=96, kernel=(3, 3)
    ),
    "depthwise": lambda dtype: make_op(
        "depthwise_conv2d", TensorSpec((1, 32, 15, 14), dtype), kernel=(3, 3), stride=(2, 2), activation="relu6"
    ),
    "pool": lambda dtype: make_op("max_pool", TensorSpec((1, 16, 28, 28), dtype), kernel=(3, 3), stride=(2, 2)),
    "average": lambda dtype: make_op("global_average_pool", TensorSpec((1, 100, 7, 7), dtype)),
    "mul": lambda dtype: make_op("mul", *[TensorSpec((1, 64, 14, 14), dtype)] * 2),
    "gate": lambda dtype: make_op("mul", *(TensorSpec((1, 64, side, side), dtype) for side in (14, 1))),
    "add": lambda dtype: make_op("add", *[TensorSpec((1, 64, 14, 14), dtype)] * 2),
    "linear": lambda dtype: make_op("linear", TensorSpec((1, 128), dtype), out_features=100),
}


def write(graph: Graph, folder: Path) -> str:
    path = folder / "model.onnx"
    path.write_bytes(export_graph(graph, "onnx"))
    return str(path)


def inputs_of(op: OpSpec) -> list[Any]:
    rng = np.random.default_rng(0)
    kind = NUMPY[op.dtype]
    draw = (lambda shape: rng.integers(0, 256, shape)) if kind == np.uint8 else rng.standard_normal
    return [draw(tensor.shape).astype(kind) for tensor in op.inputs]


def kernels(model: openvino_cpu.OpenModel, *kinds: str) -> list[str]:
    return [primitive for kind, primitive, _ in nodes(model.compiled) if kind in kinds]


def own_bfloat16() -> bool:
    return bool(BFLOAT16 & read_features())


def assert_like_onnx_runtime(case: str, dtype: str, edges: str, folder: Path) -> None:
    op = CASES[case](dtype)
    path, arrays = write(single(op), folder), inputs_of(op)
    (expected,) = onnxrt.open_model(path, {}).infer(arrays)
    model = openvino_cpu.open_model(path, {"edges": edges})
    for _ in range(2):
        (found,) = model.infer(arrays)
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        allowed = STEPS if dtype == "int8" else TOLERANCE[dtype] * float(np.abs(expected).max())
        assert float(np.abs(found.astype(float) - expected.astype(float)).max()) <= allowed


@pytest.mark.parametrize("edges", ["plain", "native"])
@pytest.mark.parametrize("dtype", NUMPY)
@pytest.mark.parametrize("case", CASES)
def test_results_are_those_of_onnx_runtime(case: str, dtype: str, edges: str, tmp_path: Path) -> None:
    assert_like_onnx_runtime(case, dtype, edges, tmp_path)


@pytest.mark.parametrize("way", openvino_cpu.WAYS, ids=str)
@pytest.mark.parametrize("dtype", NUMPY)
@pytest.mark.parametrize("case", CASES)
def test_results_are_right_whichever_way_is_quickest(
    case: str, dtype: str, way: tuple[bool, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_cpu, "WAYS", (way,))
    assert_like_onnx_runtime(case, dtype, "native", tmp_path)


@pytest.mark.parametrize("edges", ["plain", "native"])
@pytest.mark.parametrize(
    ("dtype", "suffix"), [("float32", "_f32"), ("float16", "_f32"), ("int8", "_I8")], ids=["f32", "f16", "i8"]
)
@pytest.mark.parametrize("case", ["conv", "residual", "depthwise", "linear"])
def test_kernels_are_of_the_precision_that_the_target_says(
    case: str, dtype: str, suffix: str, edges: str, tmp_path: Path
) -> None:
    model = openvino_cpu.open_model(write(single(CASES[case](dtype)), tmp_path), {"edges": edges})
    found = kernels(model, "Convolution", "FullyConnected")
    assert len(found) == 1
    assert found[0].endswith(suffix)


@pytest.mark.parametrize(("dtype", "suffix"), [("float32", "_f32"), ("int8", "_I8")])
def test_a_whole_network_runs_all_convolutions_in_that_precision(dtype: str, suffix: str, tmp_path: Path) -> None:
    graph = with_dtype(build_network("mobilenet-v2-0.5-128"), dtype)
    convolutions = sum(node.op.type in {"conv2d", "depthwise_conv2d"} for node in graph.nodes)
    found = kernels(openvino_cpu.open_model(write(graph, tmp_path), {}), "Convolution")
    assert len(found) == convolutions
    assert all(kernel.endswith(suffix) for kernel in found)


def test_what_is_added_behind_a_convolution_is_no_node_of_its_own(tmp_path: Path) -> None:
    model = openvino_cpu.open_model(write(single(CASES["residual"]("float32")), tmp_path), {})
    assert not kernels(model, "Eltwise", "Subgraph")


@pytest.mark.skipif(not own_bfloat16(), reason="the CPU has no bfloat16 of its own")
@pytest.mark.parametrize("edges", ["plain", "native"])
@pytest.mark.parametrize("case", ["conv", "residual", "depthwise"])
def test_bfloat16_is_run_and_right_where_asked_for(case: str, edges: str, tmp_path: Path) -> None:
    op = CASES[case]("float32")
    path, arrays = write(single(op), tmp_path), inputs_of(op)
    model = openvino_cpu.open_model(path, {"precision": "bfloat16", "edges": edges})
    (found,), (expected,) = model.infer(arrays), onnxrt.open_model(path, {}).infer(arrays)
    error = float(np.abs(found - expected).max() / np.abs(expected).max())
    assert all(kernel.endswith("_bf16") for kernel in kernels(model, "Convolution"))
    assert found.dtype == np.float32
    assert 1e-5 < error < 2e-2


def test_bfloat16_without_the_cpus_own_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(single(CASES["conv"]("float32")), tmp_path)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("flags\t\t: avx2 avx512f avx512_vnni\n")
    monkeypatch.setattr(sysfiles, "ROOT", tmp_path)
    with pytest.raises(EngineUnavailable, match="bfloat16 must be the CPU's own"):
        openvino_cpu.open_model(path, {"precision": "bfloat16"})


def test_an_unknown_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="float32, bfloat16, but got 'float8'"):
        openvino_cpu.open_model(write(single(CASES["conv"]("float32")), tmp_path), {"precision": "float8"})


@pytest.mark.parametrize("dtype", NUMPY)
@pytest.mark.parametrize("case", ["conv", "depthwise"])
def test_native_edges_leave_no_conversion_that_runs(
    case: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, settings = write(single(CASES[case](dtype)), tmp_path), openvino_cpu._settings
    monkeypatch.setattr(openvino_cpu, "_settings", lambda options: {**settings(options), "PERF_COUNT": True})
    assert executed(openvino_cpu.open_model(path, {"edges": "plain"})).count("Reorder") == 2
    assert executed(openvino_cpu.open_model(path, {"edges": "native"})) in (["Convolution"], ["GroupConvolution"])


def executed(model: openvino_cpu.OpenModel) -> list[str]:
    """Kinds of the nodes that took time."""
    model.run(1)
    told = [(info.node_type, str(info.status)) for info in model.request.get_profiling_info()]
    return [kind for kind, status in told if status.endswith("EXECUTED") and kind not in {"Parameter", "Result"}]


def test_the_settings_are_those_asked_for(tmp_path: Path) -> None:
    path = write(single(CASES["conv"]("float32")), tmp_path)
    for threads in range(1, len(os.sched_getaffinity(0)) + 1):
        compiled = openvino_cpu.open_model(path, {"threads": threads}).compiled
        assert compiled.get_property("INFERENCE_NUM_THREADS") == threads
        assert compiled.get_property("NUM_STREAMS") == 1
        assert not compiled.get_property("ENABLE_CPU_PINNING")


def test_more_threads_than_processors_are_refused(tmp_path: Path) -> None:
    path, threads = write(single(CASES["conv"]("float32")), tmp_path), len(os.sched_getaffinity(0)) + 1
    with pytest.raises(ValueError, match=f"must run {threads} threads, but takes {threads - 1}"):
        openvino_cpu.open_model(path, {"threads": threads})


def test_a_model_whose_shape_is_open_is_refused(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "open", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    (tmp_path / "open.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="fixed shape"):
        openvino_cpu.open_model(str(tmp_path / "open.onnx"), {})


def test_more_calls_take_longer(tmp_path: Path) -> None:
    model = openvino_cpu.open_model(write(single(CASES["conv"]("float32")), tmp_path), {})
    model.run(5)
    assert model.run(200) > model.run(1) > 0


def test_telling_its_version_imports_nothing_and_running_it_sends_nothing(tmp_path: Path) -> None:
    path = write(single(CASES["linear"]("float32")), tmp_path)
    code = f"""
import sys
from agent.engines import openvino_cpu
assert openvino_cpu.version()
assert "openvino" not in sys.modules
openvino_cpu.open_model({path!r}, {{}}).run(1)
assert sys.modules.get("openvino_telemetry") is None
assert not [name for name in sys.modules if name.startswith("openvino_telemetry.")]
"""
    subprocess.run([sys.executable, "-c", code], cwd=AGENT_HOME, check=True)
