"""The PyTorch engines: files in and numbers out on the CPU, and on a GPU everything up to the device call."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.engines import POOL, EngineUnavailable, fill, torch_copies, torch_cpu, torch_cuda, torch_model, torch_timing
from agent.protocol import Measure, Model
from ops_catalog.build import op_with_dtype, single, with_dtype
from ops_catalog.export import export_graph
from ops_catalog.export.quantise import evaluate
from ops_catalog.networks import build_network
from ops_catalog.ops import load_op, make_op
from ops_catalog.spec import Graph, SpecError, TensorSpec
from tests.fake_torch_cuda import FakeGpu
from tests.test_agent import Agent, kind
from tests.test_ops import CASES, IDS, assert_close, draw_inputs, make, run_onnx

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install chamnet[train]")

CONV = load_op("conv2d(1x8x8x8;activation=relu;kernel=3x3;out_channels=16;float32)")
RELU = make_op("relu", TensorSpec((1,)))
NETWORKS = ("mobilenet-v2-0.35-96", "resnet-18", "resnet-50", "chamnet-f")


def written(folder: Path, graph: Graph, name: str = "model", **exported: Any) -> str:
    path = folder / f"{name}.pt2"
    path.write_bytes(export_graph(graph, "pt2", **exported))
    return str(path)


def run_file(path: str, *inputs: Any, **options: str) -> Any:
    return torch_cpu.open_model(path, options).infer(list(inputs))[0]


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_file_computes_what_the_operator_means(case: tuple[str, str, dict[str, object]], tmp_path: Path) -> None:
    graph, inputs = single(make(case)), draw_inputs(make(case))
    found = run_file(written(tmp_path, graph, seed=1), *inputs.values())
    assert_close(found, evaluate(graph, inputs, seed=1)["t0"], 1e-5)
    assert_close(found, run_onnx(graph, inputs, tmp_path, seed=1), 1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_file_of_16_bits_stays_near_float32(
    case: tuple[str, str, dict[str, object]], dtype: str, tmp_path: Path
) -> None:
    inputs = draw_inputs(make(case))
    found = run_file(written(tmp_path, single(op_with_dtype(make(case), dtype))), *inputs.values())
    assert found.dtype == (np.float16 if dtype == "float16" else np.float32)
    assert_close(found.astype(np.float32), evaluate(single(make(case)), inputs)["t0"], 2e-2)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_as_file_agrees_with_its_onnx_file(name: str, tmp_path: Path) -> None:
    graph = build_network(name)
    inputs = {"x0": np.random.default_rng(0).standard_normal(graph.inputs[0][1].shape, dtype=np.float32)}
    assert_close(run_file(written(tmp_path, graph), inputs["x0"]), run_onnx(graph, inputs, tmp_path), 1e-4)


def test_a_batch_is_part_of_the_file(tmp_path: Path) -> None:
    graph = single(load_op("conv2d(32x8x8x8;kernel=3x3;out_channels=16;float32)"))
    program = torch_model.load_program(written(tmp_path, graph))
    assert [tuple(program.arguments[index].shape) for index in program.inputs] == [(32, 8, 8, 8)]


def test_a_file_holds_its_weights_once_and_no_inputs(tmp_path: Path) -> None:
    op = load_op("conv2d(8x64x32x32;kernel=3x3;out_channels=128;float32)")
    size = Path(written(tmp_path, single(op))).stat().st_size
    assert 4 * 64 * 9 * 128 < size < 4 * 64 * 9 * 128 + 10_000


def test_the_same_operator_gives_the_same_file() -> None:
    assert export_graph(single(CONV), "pt2") == export_graph(single(CONV), "pt2")


def test_images_lie_channels_last_and_what_is_multiplied_does_not(tmp_path: Path) -> None:
    program = torch_model.load_program(written(tmp_path, single(CONV)))
    weight, image = program.arguments[1], program.arguments[2]
    assert (weight.stride(), image.stride()) == ((72, 1, 24, 8), (512, 1, 64, 8))
    product = torch_model.load_program(written(tmp_path, single(load_op("matmul(1x2x5x8|1x2x8x4;float32)"))))
    assert all(tensor.is_contiguous() for tensor in product.arguments)


def test_inputs_repeat_a_few_values_in_the_order_of_their_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large image is neither drawn whole nor reordered."""
    made: list[Any] = []

    def recorded(shape: Any, dtype: Any) -> Any:
        made.append(shape)
        return fill(shape, dtype)

    monkeypatch.setattr(torch_model, "fill", recorded)
    program = torch_model.load_program(written(tmp_path, single(load_op("relu(2x8x24x24;float32)"))))
    image = program.arguments[program.inputs[0]]
    assert made == [(POOL,)]
    assert tuple(image.shape) == (2, 8, 24, 24)
    assert image.stride() == (8 * 24 * 24, 1, 24 * 8, 8)
    assert np.array_equal(image.permute(0, 2, 3, 1).flatten().numpy(), fill((image.numel(),), "float32"))


def test_a_program_is_made_where_it_is_to_run(tmp_path: Path) -> None:
    program = torch_model.load_program(written(tmp_path, single(CONV)), "meta")
    assert {tensor.device.type for tensor in program.arguments} == {"meta"}


def test_a_silu_runs_as_one_operator_and_its_parts_only_where_both_are_read(tmp_path: Path) -> None:
    graph = single(load_op("conv2d(1x8x8x8;activation=silu;kernel=1x1;out_channels=8;float32)"))
    assert torch_model.load_program(written(tmp_path, graph)).operators == 2
    gate = make_op("sigmoid", TensorSpec((1, 8)))
    both = single(gate).nodes[0]
    mul = type(both)(make_op("mul", TensorSpec((1, 8)), TensorSpec((1, 8))), ("x0", "t0"), "t1")
    read_twice = Graph("both", single(gate).inputs, (both, mul), ("t0", "t1"))
    program = torch_model.load_program(written(tmp_path, read_twice))
    assert program.operators == 2
    assert len(program.call(*program.arguments)) == 2


@pytest.mark.parametrize("file_format", ["onnx", "tflite"])
def test_other_formats_refuse_bfloat16_and_name_who_can(file_format: str) -> None:
    with pytest.raises(SpecError, match=r"bfloat16; measure it with engine torch"):
        export_graph(with_dtype(single(CONV), "bfloat16"), file_format)


def test_int8_is_refused_and_engines_that_can_are_named() -> None:
    with pytest.raises(SpecError, match="int8; measure it with engine onnxruntime"):
        export_graph(with_dtype(single(CONV), "int8"), "pt2")


def test_a_host_without_pytorch_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(SpecError, match=r"pip install 'chamnet\[train\]'"):
        export_graph(single(CONV), "pt2")


def test_the_version_is_told_without_importing_pytorch() -> None:
    code = "import sys; from agent.engines import torch_cpu as e; print(e.version(), 'torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert told == [torch.__version__, "False"]


def test_a_build_without_cuda_and_a_machine_without_a_gpu_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_gpu() -> None:
        raise EngineUnavailable("no NVIDIA GPU can be used")

    monkeypatch.setattr(torch_cuda, "require_gpu", no_gpu)
    monkeypatch.setattr(torch_cuda, "torch_build", lambda: ("2.9.0+cpu", None))
    with pytest.raises(EngineUnavailable, match="no NVIDIA GPU"):
        torch_cuda.version()
    monkeypatch.setattr(torch_cuda, "require_gpu", lambda: None)
    with pytest.raises(EngineUnavailable, match=r"built for CUDA, but 2.9.0\+cpu is not"):
        torch_cuda.version()
    monkeypatch.setattr(torch_cuda, "torch_build", lambda: ("2.9.0", "12.8"))
    assert torch_cuda.version() == "2.9.0+cu128"


def test_threads_are_those_that_were_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path, single(CONV))
    for threads in (2, 1):
        torch_cpu.open_model(path, {"threads": threads})
        assert (torch.get_num_threads(), torch.get_num_interop_threads()) == (threads, 1)


def test_an_unknown_mode_and_a_missing_compiler_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, single(CONV))
    with pytest.raises(ValueError, match="mode must be one of eager, compile, but got 'graph'"):
        torch_cpu.open_model(path, {"mode": "graph"})
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match="a C\\+\\+ compiler, but found none of no-such-compiler"):
        torch_cpu.open_model(path, {"mode": "compile"})


def test_a_compiled_model_computes_the_same(tmp_path: Path) -> None:
    try:
        torch_model.require_compiler()
    except ValueError as reason:
        pytest.skip(str(reason))
    path, inputs = written(tmp_path, single(CONV)), draw_inputs(CONV)
    assert_close(run_file(path, *inputs.values(), mode="compile"), run_file(path, *inputs.values()), 1e-5)


def test_an_agent_measures_operators_and_names_a_broken_file(tmp_path: Path) -> None:
    null = written(tmp_path, single(RELU), "null")
    (tmp_path / "broken.pt2").write_bytes(b"junk")
    models = [Model("conv", written(tmp_path, single(CONV), "conv")), Model("broken", str(tmp_path / "broken.pt2"))]
    agent = Agent()
    try:
        told = agent.ask(Measure("torch", {"threads": 1}, models, null))
    finally:
        agent.process.kill()
        agent.process.wait()
    (measured,) = (message for message in told if kind(message) == "Measured")
    (failed,) = (message for message in told if kind(message) == "Failure")
    assert (measured.id, failed.id, failed.reason) == ("conv", "broken", "load")  # type: ignore[union-attr]
    assert all(ns > 0 for burst in measured.bursts_ns for ns in burst)  # type: ignore[union-attr]
    assert measured.overhead_ns > 0  # type: ignore[union-attr]


def test_operators_are_profiled_by_the_command(tmp_path: Path) -> None:
    from host.cli import main

    operators = tmp_path / "operators.txt"
    operators.write_text(f"{CONV.key}\n{RELU.key}\n")
    words = ["--engine", "torch", "--agent-python", sys.executable, "--ops", str(operators), "--limit", "2"]
    with pytest.raises(SystemExit) as ended:
        main(["profile", *words, "--db", str(tmp_path / "x.db"), "--json"])
    assert ended.value.code == 0


OnGpu = Callable[..., tuple[FakeGpu, Any]]


def install(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in gpu.stand_in().items():
        monkeypatch.setattr(torch.cuda, name, value)


def prepared(graph: Graph, folder: Path, monkeypatch: pytest.MonkeyPatch, **facts: int) -> tuple[FakeGpu, str]:
    """A fake GPU that the engine finds, and a file for it."""
    path, gpu, load = written(folder, graph), FakeGpu(**facts), torch_model.load_program
    install(gpu, monkeypatch)
    monkeypatch.setattr(torch_cuda, "DEVICE", "cpu")
    monkeypatch.setattr(torch_cuda, "load_program", lambda path, device: gpu.wrap(load(path, device)))
    monkeypatch.setattr(torch_timing, "FIRST_NS", 4 * torch_timing.WINDOW_NS)
    monkeypatch.setattr(torch_timing, "_side", [])
    return gpu, path


@pytest.fixture
def on_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OnGpu:
    """Opens an operator, or a network, on a fake GPU."""

    def open_it(graph: Graph, options: dict[str, str] | None = None, **facts: int) -> tuple[FakeGpu, Any]:
        gpu, path = prepared(graph, tmp_path, monkeypatch, **facts)
        return gpu, torch_cuda.open_model(path, options or {})

    return open_it


def test_a_model_is_warmed_up_on_a_side_stream_before_it_is_captured(on_gpu: OnGpu) -> None:
    gpu, _ = on_gpu(single(CONV))
    assert gpu.log[:5] == ["warm-up"] * torch_cuda.WARM_UP_CALLS + ["empty_cache", "capture 1"]
    assert "call" not in gpu.log


def test_both_graphs_of_a_model_share_memory_that_is_made_free_once_and_without_collecting_garbage(
    on_gpu: OnGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gc, "collect", lambda *_: pytest.fail("it takes a tenth of a second"))
    gpu, _ = on_gpu(single(CONV), call_ns=45_000)
    assert [word for word in gpu.log if word.startswith(("capture", "empty"))] == [
        "empty_cache", "capture 1", "capture 4"
    ]  # fmt: skip
    assert len(gpu.pools) == 2
    assert gpu.pools[0] is gpu.pools[1]


def test_a_graph_holds_the_calls_that_fill_its_time_and_is_timed_by_events(on_gpu: OnGpu) -> None:
    gpu, model = on_gpu(single(CONV), call_ns=45_000, launch_ns=5_000)
    gpu.log.clear()
    assert model.run(1) == round((5_000 + 4 * 45_000) / 4)
    assert gpu.log == ["replay 4", "replay 4"]


def test_more_calls_than_a_graph_holds_are_made_exactly(on_gpu: OnGpu) -> None:
    gpu, model = on_gpu(single(CONV), call_ns=45_000, launch_ns=5_000)
    gpu.log.clear()
    assert model.run(10) == 2 * (5_000 + 4 * 45_000) + 2 * 50_000
    assert gpu.log == ["replay 4"] * 2 + ["replay 1"] * 2


def test_a_long_call_is_alone_in_its_graph_and_follows_nothing(on_gpu: OnGpu) -> None:
    gpu, model = on_gpu(single(CONV), call_ns=3_000_000)
    assert gpu.log.count("capture 1") == len(gpu.pools) == 1
    gpu.log.clear()
    assert model.run(1) == 3_005_000
    assert gpu.log == ["replay 1"]


def test_eager_calls_are_launched_between_the_events(on_gpu: OnGpu) -> None:
    gpu, model = on_gpu(single(CONV), {"mode": "eager"})
    gpu.log.clear()
    assert model.run(3) == 3 * 55_000
    assert gpu.log == ["call"] * 3


@pytest.mark.parametrize(("mode", "alone"), [("graph", True), ("eager", False)])
def test_only_what_the_host_launches_call_by_call_is_timed_with_it(mode: str, alone: bool, on_gpu: OnGpu) -> None:
    assert on_gpu(single(CONV), {"mode": mode})[1].device_alone is alone


def test_consecutive_calls_take_the_next_copy_and_copies_exceed_the_cache(on_gpu: OnGpu) -> None:
    size = 4 * (16 + 16 * 8 * 9 + 8 * 64)
    gpu, model = on_gpu(single(CONV), {"mode": "eager"}, l2_bytes=4 * size)
    gpu.used.clear()
    model.run(10)
    first = gpu.used[:5]
    assert len(set(first)) == 5
    assert gpu.used == first * 2


def test_a_graph_goes_through_all_copies(on_gpu: OnGpu) -> None:
    size = 4 * (16 + 16 * 8 * 9 + 8 * 64)
    gpu, model = on_gpu(single(CONV), l2_bytes=7 * size, call_ns=95_000)
    captured = gpu.used[torch_cuda.WARM_UP_CALLS + 1 :]
    assert len(captured) == len(set(captured)) == 8
    assert model.run(8) == 5_000 + 8 * 95_000


@pytest.mark.parametrize(
    ("options", "facts"),
    [({"rotate": "off"}, {}), ({}, {"l2_bytes": 0})],
)
def test_one_copy_is_enough_where_nothing_is_to_be_evicted(
    options: dict[str, str], facts: dict[str, int], on_gpu: OnGpu
) -> None:
    gpu, _ = on_gpu(single(CONV), options, **{"l2_bytes": 50 << 20, **facts})
    assert len(set(gpu.used)) == 1


def test_copies_are_bounded_in_number_and_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(l2_bytes=50 << 20)
    install(gpu, monkeypatch)
    small = torch_model.Program(lambda *tensors: tensors, [torch.zeros(1)], [0], 1)
    assert len(torch_copies.copies_of(small)) == torch_copies.MOST_COPIES
    gpu.free_bytes = torch_copies.SHARE_OF_FREE * 3 * 4096
    large = small._replace(arguments=[torch.zeros(1024)])
    assert len(torch_copies.copies_of(large)) == 3
    assert len(torch_copies.copies_of(small._replace(operators=60))) == 1


def test_a_network_gets_one_copy(on_gpu: OnGpu) -> None:
    gpu, _ = on_gpu(build_network("mobilenet-v2-0.35-96"), l2_bytes=50 << 20)
    assert len(set(gpu.used)) == 1


@pytest.mark.parametrize("tf32", ["off", "on"])
def test_tf32_is_set_as_asked_and_algorithms_are_chosen_by_trial(tf32: str, on_gpu: OnGpu) -> None:
    on_gpu(single(CONV), {"tf32": tf32})
    backends = torch.backends
    assert (backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32) == (tf32 == "on", tf32 == "on")
    assert backends.cudnn.benchmark


@pytest.mark.parametrize(
    ("dtype", "options", "last"),
    [
        ("float32", {}, False),
        ("float32", {"tf32": "on"}, True),
        ("float16", {}, True),
        ("float16", {"layout": "contiguous"}, False),
        ("float32", {"layout": "channels_last"}, True),
    ],
)
def test_images_are_channels_last_where_tensor_cores_compute(
    dtype: str, options: dict[str, str], last: bool, on_gpu: OnGpu
) -> None:
    _, model = on_gpu(with_dtype(single(CONV), dtype), options)
    assert (model._program.arguments[2].stride(1) == 1) is last


def test_an_unknown_layout_is_an_error(on_gpu: OnGpu) -> None:
    with pytest.raises(ValueError, match="layout must be one of auto, channels_last, contiguous, but got 'nhwc'"):
        on_gpu(single(CONV), {"layout": "nhwc"})


@pytest.mark.parametrize("call", [0, 5], ids=["warming up", "capturing"])
def test_too_little_memory_is_one_error_and_what_was_taken_is_given_back(
    call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu, path = prepared(single(CONV), tmp_path, monkeypatch, fails_at=call)
    with pytest.raises(MemoryError, match="fit into the GPU's memory"):
        torch_cuda.open_model(path, {})
    assert gpu.log[-1] == "empty_cache"
    assert gpu.held is not None
    assert gpu.held() is None


@pytest.mark.parametrize(
    ("mode", "l2_bytes", "call_ns", "made"),
    [
        ("graph", 0, 50_000, "replay 4"),
        ("graph", 50 << 20, 50_000, f"replay {torch_copies.MOST_COPIES}"),
        ("graph", 0, 3_000_000, "replay 1"),
        ("eager", 50 << 20, 50_000, "call"),
    ],
    ids=["several calls", "copies", "one call", "eager"],
)
def test_outputs_are_computed_by_what_is_timed(
    mode: str, l2_bytes: int, call_ns: int, made: str, on_gpu: OnGpu
) -> None:
    gpu, model = on_gpu(single(CONV), {"mode": mode}, l2_bytes=l2_bytes, call_ns=call_ns)
    for factor in (1.0, -2.0):
        inputs = {name: factor * array for name, array in draw_inputs(CONV).items()}
        gpu.log.clear()
        assert_close(model.infer(list(inputs.values()))[0], evaluate(single(CONV), inputs)["t0"], 1e-5)
        assert gpu.log == [made]


def test_a_model_that_is_to_run_once_is_captured_and_not_waited_for(on_gpu: OnGpu) -> None:
    gpu, model = on_gpu(single(CONV), {"settle": "off"})
    assert gpu.log[-1] == "capture 4"
    inputs = draw_inputs(CONV)
    assert_close(model.infer(list(inputs.values()))[0], evaluate(single(CONV), inputs)["t0"], 1e-5)
    assert gpu.log[-1] == "replay 4"


def test_a_time_that_does_not_settle_ends_the_warm_up_all_the_same() -> None:
    class Restless:
        calls = 0

        def run(self, loops: int) -> int:
            self.calls += 1
            return 1000 * loops * (1 + self.calls % 2)

    region = Restless()
    torch_timing.settle(region.run)
    first = region.calls
    assert first <= torch_timing.FIRST_WINDOWS + 1
    torch_timing.settle(region.run)
    assert region.calls - first <= torch_timing.WINDOWS + 1
