"""ONNX Runtime's GPU engines, driven here by its CPU provider in place of theirs, and by a driver that is made up."""

from __future__ import annotations

import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from agent.engines import EngineUnavailable, FellBack, cuda_stream, onnxrt, onnxrt_cuda, onnxrt_gpu, onnxrt_tensorrt
from agent.engines.onnxrt_gpu import OpenModel, Provider, optimise_with, package_version
from agent.failures import failure
from host.lowering import lower
from host.native import cut
from ops_catalog.build import Network, expand, single, tensors
from ops_catalog.export import export_graph
from ops_catalog.networks import build_network
from ops_catalog.ops import make_op
from ops_catalog.spec import Graph, TensorSpec
from tests.fake_cuda import FakeDriver, use_driver

CPU = Provider("CPUExecutionProvider", {}, "cpu", alone=False)
CALLS_NOTHING = Provider("AzureExecutionProvider", {}, "cpu")
"""A provider that is there, starts, and takes no node: what ONNX Runtime does then is what it does with any other."""
CONV = make_op("conv2d", TensorSpec((2, 8, 8, 8)), out_channels=16, kernel=(3, 3))
ABSENT = Provider("CUDAExecutionProvider", {}, "cpu")
pytestmark = pytest.mark.filterwarnings("ignore:Specified provider")


class HostClock:
    """In place of a stream: the host's time, and what was asked for; calls return late or at once."""

    def __init__(self, late: bool = False) -> None:
        self.asked: list[tuple[int, bool]] = []
        self._late = late

    def waits(self, call: Callable[[], Any]) -> bool:
        return self._late

    def time_ns(self, call: Callable[[], Any], calls: int, ask_ns: int, hold: bool) -> int:
        self.asked.append((calls, hold))
        start = time.perf_counter_ns()
        for _ in range(calls):
            call()
        return time.perf_counter_ns() - start


def model_file(folder: Path, graph: Graph | None = None) -> str:
    path = folder / "a.onnx"
    path.write_bytes(export_graph(graph or single(CONV), "onnx"))
    return str(path)


# Whether it can run here.


def test_without_its_provider_it_says_what_to_install_and_where(monkeypatch: pytest.MonkeyPatch) -> None:
    use_driver(monkeypatch, FakeDriver())
    for engine in (onnxrt_cuda, onnxrt_tensorrt):
        with pytest.raises(EngineUnavailable, match=r"onnxruntime-gpu' .*overwrites.*--agent-python"):
            engine.version()


def test_without_onnx_runtime_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    use_driver(monkeypatch, FakeDriver())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineUnavailable, match="the package onnxruntime does not import"):
        onnxrt_cuda.version()


def test_where_all_is_there_the_version_names_the_libraries_that_decide_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    use_driver(monkeypatch, FakeDriver())
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [onnxrt_cuda.NAME, onnxrt_tensorrt.NAME])
    assert onnxrt_cuda.version() == onnxruntime.__version__
    with pytest.raises(EngineUnavailable, match="'pip install tensorrt' brings them"):
        onnxrt_tensorrt.version()
    versions = {"nvidia-cudnn-cu12": "9.10.2", "tensorrt-cu12": "10.13.3"}
    monkeypatch.setattr(onnxrt_gpu, "package_version", lambda name: versions.get(name))
    monkeypatch.setattr(onnxrt_tensorrt, "find_spec", lambda name: object())
    assert onnxrt_cuda.version() == f"{onnxruntime.__version__}/9.10.2"
    assert onnxrt_tensorrt.version() == f"{onnxruntime.__version__}/10.13.3"


def test_a_packages_version_is_told_by_its_name() -> None:
    assert package_version("onnx") == f"onnx-{onnx.__version__}"
    assert package_version("nvidia-none-cu12") is None


# How a model is run.


def test_outputs_are_those_of_the_cpu_and_inputs_can_change(tmp_path: Path) -> None:
    path = model_file(tmp_path)
    opened, reference = OpenModel(path, {}, CPU, HostClock()), onnxrt.open_model(path, {})
    for seed in (0, 1):
        image = np.random.default_rng(seed).random((2, 8, 8, 8), dtype=np.float32)
        np.testing.assert_allclose(opened.infer([image])[0], reference.infer([image])[0], atol=1e-6)


def test_only_with_a_graph_is_the_device_timed_without_its_host(tmp_path: Path) -> None:
    for graph, held in (({}, True), ({"graph": "on"}, True), ({"graph": "off"}, False)):
        clock = HostClock()
        opened = OpenModel(model_file(tmp_path), graph, CPU, clock)
        assert not any(hold for _, hold in clock.asked)
        assert opened.run(7) > 0
        assert clock.asked[-1] == (7, held)
        assert opened.device_alone is held


def test_where_replays_are_waited_for_nothing_is_held_back(tmp_path: Path) -> None:
    clock = HostClock(late=True)
    opened = OpenModel(model_file(tmp_path), {"graph": "on"}, CPU, clock)
    assert opened.run(7) > 0
    assert clock.asked[-1] == (7, False)
    assert not opened.device_alone


def test_it_is_warm_when_it_is_open(tmp_path: Path) -> None:
    clock = HostClock()
    OpenModel(model_file(tmp_path), {}, CPU, clock)
    assert sum(calls for calls, _ in clock.asked) >= 2 * onnxrt_gpu.WARM_CALLS


def test_a_model_that_is_to_run_once_runs_until_its_graph_is_recorded_and_no_longer(tmp_path: Path) -> None:
    clock = HostClock()
    OpenModel(model_file(tmp_path), {"settle": "off"}, CPU, clock)
    assert clock.asked == [(1, False)] * onnxrt_gpu.WARM_CALLS


def test_an_open_shape_is_refused(tmp_path: Path) -> None:
    model = onnx.load_from_string(export_graph(single(CONV), "onnx"))
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "n"
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(ValueError, match="must have a fixed shape"):
        onnxrt_gpu._buffer(types.SimpleNamespace(name="o", shape=["n", 4], type="tensor(float)"), "cpu")


def test_its_optimised_model_is_the_providers(tmp_path: Path) -> None:
    path = model_file(tmp_path, build_network("resnet-18"))
    optimise_with(path, str(tmp_path / "ours"), {"graph": "off"}, CPU)
    onnxrt.optimise(path, str(tmp_path / "usual"), {})
    ours, usual = (onnx.load(tmp_path / name).graph.node for name in ("ours", "usual"))
    assert [node.op_type for node in ours] == [node.op_type for node in usual]
    assert len(ours) > 10


def test_a_graph_of_two_engines_runs_end_to_end_on_a_made_up_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = FakeDriver()
    use_driver(monkeypatch, driver)
    monkeypatch.setattr(cuda_stream, "_STREAMS", [])
    monkeypatch.setitem(sys.modules, "tensorrt", types.ModuleType("tensorrt"))
    monkeypatch.setenv(onnxrt_tensorrt.TF32, "1")
    for engine in (onnxrt_cuda, onnxrt_tensorrt):
        monkeypatch.setattr(engine, "provider_of", lambda *arguments: CPU)
        monkeypatch.setattr(engine, "preload", lambda: None)
        opened = engine.open_model(model_file(tmp_path), {"graph": "on"})
        driver.writes = 0
        assert opened.run(3) >= 0
        assert driver.writes > 0
        assert engine.live({}) > 1
    assert len(cuda_stream._STREAMS) == 1


# What it is told to do.


def test_options_of_the_cuda_provider() -> None:
    usual = onnxrt_cuda.provider_of({}, 0xABC).options
    assert usual["user_compute_stream"] == str(0xABC)
    assert (usual["use_tf32"], usual["enable_cuda_graph"]) == ("0", "1")
    assert usual["cudnn_conv_algo_search"] == "EXHAUSTIVE"
    other = onnxrt_cuda.provider_of({"graph": "off", "tf32": "on"}, 1).options
    assert (other["use_tf32"], other["enable_cuda_graph"]) == ("1", "0")


@pytest.mark.parametrize("dtype, half, integer", [("float32", "0", "0"), ("float16", "1", "0"), ("int8", "0", "1")])
def test_tensorrt_may_compute_in_what_the_model_is_of(dtype: str, half: str, integer: str, tmp_path: Path) -> None:
    path = model_file(tmp_path, build_network("mobilenet-v2-0.35-96", dtype))
    told = onnxrt_tensorrt.provider_of(path, {"graph": "off"}, 1).options
    assert (told["trt_fp16_enable"], told["trt_int8_enable"]) == (half, integer)
    assert told["trt_cuda_graph_enable"] == "0"


def test_tensorrts_engines_lie_apart_by_content_and_what_it_learned_of_time_is_shared(tmp_path: Path) -> None:
    def told(name: str, channels: int) -> tuple[str, str]:
        conv = make_op("conv2d", TensorSpec((1, 8, 8, 8)), out_channels=channels, kernel=(1, 1))
        (tmp_path / name).mkdir(exist_ok=True)
        path = model_file(tmp_path / name, single(conv))
        options = onnxrt_tensorrt.provider_of(path, {}, 1).options
        return options["trt_engine_cache_path"], options["trt_timing_cache_path"]

    (first, timing), (second, same) = told("a", 8), told("a", 16)
    assert first != second
    assert Path(first).is_dir()
    assert Path(first).parent == Path(second).parent == tmp_path / "a" == Path(timing) == Path(same)
    assert told("a", 8)[0] == first
    assert Path(told("b", 8)[0]).name == Path(first).name


def test_what_tensorrt_compiled_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        onnxrt_tensorrt.optimise("a", "b", {})


# What is not to be believed.


def test_nodes_that_onnx_runtime_put_on_the_cpu_are_named_and_refused(tmp_path: Path) -> None:
    with pytest.raises(FellBack, match=r"ran nodes elsewhere than on Azure.*: t0 \(Conv\) on CPUExec") as caught:
        OpenModel(model_file(tmp_path), {}, CALLS_NOTHING, HostClock())
    refused = failure("x", "load", caught.value)
    assert (refused.id, refused.reason) == ("x", "fallback")


def test_of_many_strays_some_are_named_and_all_counted(tmp_path: Path) -> None:
    path = model_file(tmp_path, build_network("resnet-18"))
    with pytest.raises(FellBack, match=r" and \d\d more$"):
        OpenModel(path, {}, CALLS_NOTHING, HostClock())


def test_strays_are_found_even_where_onnx_runtime_was_not_forbidden_to_fall_back(tmp_path: Path) -> None:
    lenient = Provider(CALLS_NOTHING.name, {}, "cpu", alone=False)
    with pytest.raises(FellBack, match="ran nodes elsewhere"):
        OpenModel(model_file(tmp_path), {}, lenient, HostClock())


def test_where_this_version_does_not_name_them_they_are_refused_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(onnxruntime.InferenceSession.__base__, "get_provider_graph_assignment_info")
    with pytest.raises(FellBack, match=r"put nodes on the CPU: .*fallback"):
        OpenModel(model_file(tmp_path), {}, CALLS_NOTHING, HostClock())


class Assigned:
    """A session whose provider started and left its node to the CPU."""

    def __init__(self, provider: str) -> None:
        self._provider = provider

    def get_providers(self) -> list[str]:
        return [self._provider]

    def get_provider_graph_assignment_info(self) -> list[types.SimpleNamespace]:
        node = types.SimpleNamespace(name="t0", op_type="NonZero")
        return [types.SimpleNamespace(ep_name="CPUExecutionProvider", get_nodes=lambda: [node])]


@pytest.mark.parametrize(
    "refusal",
    [
        "This session contains graph nodes that are assigned to the default CPU EP, but fallback to CPU EP has been "
        "explicitly disabled by the user.",
        "This session cannot use the graph capture feature as requested by the user as all compute graph nodes have "
        "not been partitioned to the CUDAExecutionProvider",
    ],
    ids=["no fallback", "no capture"],
)
@pytest.mark.parametrize(
    "provider",
    [lambda path: onnxrt_cuda.provider_of({}, 1), lambda path: onnxrt_tensorrt.provider_of(path, {}, 1)],
    ids=["cuda", "tensorrt"],
)
def test_nodes_on_the_cpu_are_named_also_where_a_cuda_graph_was_asked_for(
    refusal: str, provider: Callable[[str], Provider], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA graphs refuse such nodes before they can be named."""
    asked, fail = provider(model_file(tmp_path)), onnxruntime.capi.onnxruntime_pybind11_state.Fail

    def open_it(path: str, settings: Any, providers: list[tuple[str, dict[str, str]]], **_: Any) -> Assigned:
        ((name, options),) = providers
        if settings.get_session_config_entry(onnxrt_gpu.NO_FALLBACK) == "1":
            raise fail(refusal)
        if "1" in map(options.get, onnxrt_gpu.GRAPHS):
            raise fail("This session cannot use the graph capture feature")
        return Assigned(name)

    monkeypatch.setattr(onnxruntime, "InferenceSession", open_it)
    with pytest.raises(FellBack, match=r"ran nodes elsewhere .*: t0 \(NonZero\) on CPUExecutionProvider"):
        onnxrt_gpu.open_session("a.onnx", onnxruntime.SessionOptions, asked)
    assert "1" in map(asked.options.get, onnxrt_gpu.GRAPHS)


def test_a_provider_that_does_not_start_is_the_engines_fault_not_the_models(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match=r"CUDAExecutionProvider must start, but does not; .*onnxruntime-gpu"):
        OpenModel(model_file(tmp_path), {}, ABSENT, HostClock())


def test_another_failure_stays_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"no model")
    with pytest.raises(Exception, match=r"(?i)protobuf"):
        OpenModel(str(tmp_path / "a.onnx"), {}, CPU, HostClock())


# What CUDA's optimiser makes of operators, written by hand as it names and joins them.


def residual() -> Graph:
    """A block: two convolutions, the second's sum with the input, an activation, and a pool."""
    network = Network("block", (1, 8, 8, 8))
    first = network.add("conv2d", "x0", out_channels=8, kernel=(3, 3), activation="relu")
    second = network.add("conv2d", first, out_channels=8, kernel=(1, 1))
    total = network.add("add", second, "x0", activation="relu")
    return network.finish(network.add("global_average_pool", total))


def fused_by_hand(graph: Graph, domain: str = "com.microsoft", kind: str = "FusedConv") -> bytes:
    """The exported model with Conv, Add and Relu joined as the CUDA provider joins them: sum as the fourth input."""
    model = onnx.load_from_string(export_graph(graph, "onnx"))
    nodes = list(model.graph.node)
    by_output = {node.output[0]: node for node in nodes}
    kept = []
    for node in nodes:
        if node.op_type != "Relu":
            continue
        made = by_output[node.input[0]]
        conv = made if made.op_type == "Conv" else by_output[made.input[0]]
        rest = [name for name in made.input if made is not conv and name != conv.output[0]]
        fused = onnx.NodeProto()
        fused.CopyFrom(conv)
        fused.op_type, fused.domain = kind, domain
        fused.input.extend(rest)
        fused.output[0] = node.output[0]
        fused.attribute.append(helper.make_attribute("activation", "Relu"))
        kept.append(fused)
    (pool,) = (node for node in nodes if node.op_type == "GlobalAveragePool")
    del model.graph.node[:]
    model.graph.node.extend([*kept, pool])
    model.opset_import.append(helper.make_opsetid(domain, 1))
    return bytes(model.SerializeToString())


def test_a_convolution_that_swallowed_a_sum_is_one_native_operator_with_two_inputs(tmp_path: Path) -> None:
    graph = residual()
    optimised = fused_by_hand(graph)
    pieces = cut(optimised, {name: tensor.shape for name, tensor in tensors(expand(graph)).items()})
    assert [piece.op.key.split("(")[0] for piece in pieces] == [
        "com.microsoft.FusedConv", "com.microsoft.FusedConv", "ai.onnx.GlobalAveragePool"
    ]  # fmt: skip
    assert [len(piece.inputs) for piece in pieces] == [1, 2, 1]
    lowered = lower(graph, optimised)
    assert [len(row.natives) for row in lowered.lowerings] == [1, 1, 0, 1]
    assert {key for row in lowered.lowerings for key in row.natives} == set(lowered.pieces)
    image = np.random.default_rng(0).random((1, 8, 8, 8), dtype=np.float32)
    for number, piece in enumerate(pieces):
        (tmp_path / f"{number}.onnx").write_bytes(piece.model())
        opened = OpenModel(str(tmp_path / f"{number}.onnx"), {"optimisation": "none"}, CPU, HostClock())
        (made,) = opened.infer([image] * len(piece.inputs))
        assert made.shape == ((1, 8, 1, 1) if number == 2 else (1, 8, 8, 8))


def test_a_convolution_of_the_domain_with_channels_last_keeps_its_layout() -> None:
    weight = helper.make_tensor("w", TensorProto.FLOAT, (16, 8, 3, 3), np.zeros(16 * 8 * 9, np.float32).tolist())
    conv = helper.make_node("Conv", ["n", "w"], ["c"], "t0/0", domain="com.ms.internal.nhwc", pads=[1] * 4)
    turned = helper.make_node("Transpose", ["x0"], ["n"], "in", perm=[0, 2, 3, 1])
    back = helper.make_node("Transpose", ["c"], ["t0"], "out", perm=[0, 3, 1, 2])
    entry = helper.make_tensor_value_info("x0", TensorProto.FLOAT, (1, 8, 6, 4))
    end = helper.make_tensor_value_info("t0", TensorProto.FLOAT, (1, 16, 6, 4))
    model = helper.make_model(helper.make_graph([turned, conv, back], "g", [entry], [end], [weight]))
    pieces = cut(model.SerializeToString(), {"x0": (1, 8, 6, 4), "t0": (1, 16, 6, 4)})
    assert [piece.form for piece in pieces] == ["nhwc", "nhwc", "plain"]
    assert pieces[2].op.key.startswith("ai.onnx.Transpose(1x6x4x16")


def test_joined_products_have_the_shape_of_what_they_join() -> None:
    entry = helper.make_tensor_value_info("x0", TensorProto.FLOAT, (4, 8))
    weight = helper.make_tensor("w", TensorProto.FLOAT, (8, 5), np.zeros(40, np.float32).tolist())
    product = helper.make_node("FusedMatMul", ["x0", "w"], ["m"], "t0/0", domain="com.microsoft", alpha=0.5)
    curve = helper.make_node("QuickGelu", ["m"], ["t1"], "t1/0", domain="com.microsoft", alpha=1.0)
    end = helper.make_tensor_value_info("t1", TensorProto.FLOAT, (4, 5))
    model = helper.make_model(helper.make_graph([product, curve], "g", [entry], [end], [weight]))
    pieces = cut(model.SerializeToString(), {"x0": (4, 8), "t1": (4, 5)})
    assert pieces[1].op.key == "com.microsoft.QuickGelu(4x5:float;alpha=1)"
