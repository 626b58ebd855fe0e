"""Every operator type, in both engines, against its NumPy meaning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agent.engines import litert, onnxrt
from agent.machine import read_machine
from ops_catalog import ops
from ops_catalog.build import expand, op_with_dtype, single
from ops_catalog.export import export_graph
from ops_catalog.export.onnx import UINT8_SHIFT
from ops_catalog.export.quantise import calibrated, evaluate, load, store
from ops_catalog.export.tflite import stored_as_image
from ops_catalog.ops.contract import Array
from ops_catalog.spec import Graph, OpSpec, SpecError, TensorSpec, parse_shape

CASES: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("add", "1x8x5x5|1x8x5x5", {}),
    ("add", "2x8x5x5|1x8x1x1", {"activation": "relu6"}),
    ("add", "3x7|3x7", {"activation": "relu"}),
    ("average_pool", "1x8x9x7", {"kernel": (3, 3), "stride": (2, 2)}),
    ("average_pool", "2x4x8x8", {"kernel": (2, 2), "stride": (2, 2), "padding": "valid"}),
    ("batch_norm", "1x8x5x7", {}),
    ("concat", "1x8x5x5|1x3x5x5", {}),
    ("concat", "2x3|2x5|2x1", {"axis": 1}),
    ("concat", "1x4x5x5|1x4x2x5", {"axis": 2}),
    ("conv2d", "1x3x17x17", {"out_channels": 16, "kernel": (3, 3), "stride": (2, 2), "activation": "relu6"}),
    ("conv2d", "2x8x9x9", {"out_channels": 12, "kernel": (1, 1), "activation": "hard_swish"}),
    ("conv2d", "1x8x9x11", {"out_channels": 8, "kernel": (3, 5), "dilation": (2, 1), "activation": "relu"}),
    ("conv2d", "1x8x9x9", {"out_channels": 16, "kernel": (3, 3), "groups": 2}),
    ("conv2d", "1x8x9x9", {"out_channels": 8, "kernel": (3, 3), "padding": (1, 0, 2, 1)}),
    ("conv2d", "1x8x9x9|1x16x9x9", {"out_channels": 16, "kernel": (1, 1), "activation": "relu"}),
    ("conv2d", "1x8x9x9", {"out_channels": 8, "kernel": (3, 3), "padding": "valid", "activation": "silu"}),
    ("depthwise_conv2d", "1x8x14x14", {"kernel": (3, 3), "stride": (2, 2), "activation": "relu6"}),
    ("depthwise_conv2d", "1x12x9x9", {"kernel": (5, 5), "activation": "hard_swish"}),
    ("depthwise_conv2d", "1x8x9x9", {"kernel": (3, 3), "dilation": (2, 2)}),
    ("gelu", "1x6x16", {}),
    ("gelu", "1x8x4x4", {"approximate": "tanh"}),
    ("global_average_pool", "1x8x7x7", {}),
    ("hard_sigmoid", "1x8x4x4", {}),
    ("hard_swish", "1x8x4x4", {}),
    ("inverted_residual", "1x8x9x9", {"middle": 24, "out_channels": 8, "activation": "hard_swish", "squeeze": 6}),
    ("inverted_residual", "1x8x9x9", {"middle": 8, "out_channels": 12, "stride": (2, 2), "expand": False}),
    ("layer_norm", "1x6x16", {}),
    ("linear", "1x32", {"out_features": 10}),
    ("linear", "2x5x16", {"out_features": 12, "activation": "relu"}),
    ("matmul", "2x5x8|2x8x4", {}),
    ("matmul", "1x2x5x8|1x2x4x8", {"transpose_b": True}),
    ("max_pool", "1x8x9x9", {"kernel": (3, 3), "stride": (2, 2)}),
    ("max_pool", "1x8x9x9", {"kernel": (2, 2), "stride": (2, 2), "padding": (1, 0, 0, 1)}),
    ("mul", "1x8x5x5|1x8x1x1", {}),
    ("mul", "1x8x5x5|1x8x5x5", {"activation": "relu"}),
    ("pad", "1x8x5x5", {"pads": (1, 2, 0, 3)}),
    ("relu", "1x8x5x5", {}),
    ("relu6", "2x10", {}),
    ("reshape", "1x8x4x4", {"shape": (1, -1)}),
    ("reshape", "1x16x8", {"shape": (1, 8, 4, 4)}),
    ("resize", "1x4x5x5", {"size": (10, 10)}),
    ("resize", "1x4x5x7", {"size": (11, 9), "mode": "bilinear"}),
    ("sigmoid", "1x8x4x4", {}),
    ("silu", "1x8x4x4", {}),
    ("softmax", "1x10", {}),
    ("softmax", "1x6x4x4", {"axis": 1}),
    ("transpose", "1x4x5x6", {"perm": (0, 2, 3, 1)}),
    ("transpose", "2x5x8", {"perm": (0, 2, 1)}),
)
IDS = [f"{op_type}-{shapes}-{number}" for number, (op_type, shapes, _) in enumerate(CASES)]

LOOSE = frozenset({"softmax", "gelu", "silu", "layer_norm"})
NO_INT8_TFLITE = frozenset({"layer_norm"})


def make(case: tuple[str, str, dict[str, object]]) -> OpSpec:
    op_type, shapes, attributes = case
    inputs = [TensorSpec(parse_shape(shape)) for shape in shapes.split("|")]
    return ops.make_op(op_type, *inputs, **attributes)  # type: ignore[arg-type]


def draw_inputs(op: OpSpec, seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {f"x{i}": rng.standard_normal(tensor.shape, dtype=np.float32) for i, tensor in enumerate(op.inputs)}


VNNI = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})


def run_onnx(graph: Graph, inputs: dict[str, Array], folder: Path, **exported: object) -> Array:
    """What an exported file computes. On processors without VNNI, whose integer kernels overflow, integer operators are
    not joined to these, and computed as they are written, between conversions."""
    path = folder / "model.onnx"
    path.write_bytes(export_graph(graph, "onnx", **exported))  # type: ignore[arg-type]
    machine = read_machine()
    overflows = machine["arch"] == "x86_64" and not VNNI & set(machine.get("features") or ())
    options = {"optimisation": "none"} if overflows and graph.operators[0].dtype == "int8" else {}
    return np.asarray(onnxrt.open_model(str(path), options).infer(list(inputs.values()))[0])


def run_tflite(graph: Graph, inputs: dict[str, Array], folder: Path, **exported: object) -> Array:
    path = folder / "model.tflite"
    path.write_bytes(export_graph(graph, "tflite", **exported))  # type: ignore[arg-type]
    image = stored_as_image(graph)
    laid = [x.transpose(0, 2, 3, 1) if image[name] else x for name, x in inputs.items()]
    found = np.asarray(litert.open_model(str(path), {}).infer(laid)[0])
    return found.transpose(0, 3, 1, 2) if image[graph.outputs[0]] else found


def assert_close(found: Array, wanted: Array, relative: float) -> None:
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= relative * max(1.0, float(np.abs(wanted).max()))


def test_every_operator_type_has_a_case() -> None:
    assert {case[0] for case in CASES} == set(ops.OPS)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_float32_exports_compute_what_the_operator_means(
    case: tuple[str, str, dict[str, object]], tmp_path: Path
) -> None:
    op = make(case)
    graph, inputs = single(op), draw_inputs(op)
    wanted = evaluate(graph, inputs)["t0"]
    onnx, tflite = run_onnx(graph, inputs, tmp_path), run_tflite(graph, inputs, tmp_path)
    assert_close(onnx, wanted, 1e-5)
    assert_close(tflite, wanted, 1e-5)
    assert_close(onnx, tflite, 1e-5)
    assert wanted.shape == ops.output(op).shape


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_int8_exports_are_within_a_step_of_the_reference(
    case: tuple[str, str, dict[str, object]], tmp_path: Path
) -> None:
    op = op_with_dtype(make(case), "int8")
    graph, inputs = single(op), draw_inputs(op)
    quant = calibrated(graph)
    stored = {name: store(array, quant[name]) for name, array in inputs.items()}
    wanted = store(evaluate(graph, inputs, quant=quant)["t0"], quant["t0"]).astype(int)
    steps = 2 if op.type in LOOSE else len(expand(graph).nodes)
    shifted = {name: (array.astype(int) + UINT8_SHIFT).astype(np.uint8) for name, array in stored.items()}
    onnx = run_onnx(graph, shifted, tmp_path, quant=quant).astype(int) - UINT8_SHIFT
    assert np.abs(onnx - wanted).max() <= steps
    if op.type not in NO_INT8_TFLITE:
        tflite = run_tflite(graph, stored, tmp_path, quant=quant).astype(int)
        assert np.abs(tflite - wanted).max() <= steps


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_float16_exports_run_and_stay_near_float32(case: tuple[str, str, dict[str, object]], tmp_path: Path) -> None:
    op = op_with_dtype(make(case), "float16")
    graph, inputs = single(op), draw_inputs(op)
    wanted = evaluate(single(make(case)), inputs)["t0"]
    halves = {name: array.astype(np.float16) for name, array in inputs.items()}
    assert_close(run_onnx(graph, halves, tmp_path).astype(np.float32), wanted, 2e-2)
    assert_close(run_tflite(graph, inputs, tmp_path), wanted, 2e-2)


def test_int8_operator_without_a_kernel_is_refused_with_the_reason() -> None:
    op = ops.make_op("layer_norm", TensorSpec((1, 6, 16), "int8"))
    with pytest.raises(SpecError, match="layer_norm must have a int8 kernel in TFLite"):
        export_graph(single(op), "tflite")


@pytest.mark.parametrize(
    ("key", "macs", "params", "moved"),
    [
        ("conv2d(1x3x8x8;kernel=3x3;out_channels=4;stride=2x2;float32)", 4 * 16 * 27, 112, 4 * (192 + 112 + 64)),
        ("conv2d(1x8x4x4;groups=2;kernel=1x1;out_channels=8;int8)", 8 * 16 * 4, 40, 128 + 40 + 128),
        ("depthwise_conv2d(1x8x4x4;kernel=3x3;float32)", 8 * 16 * 9, 80, 4 * (128 + 80 + 128)),
        ("linear(1x16;out_features=10;float16)", 160, 170, 2 * (16 + 170 + 10)),
        ("matmul(2x3x4|2x4x5;float32)", 120, 0, 4 * (24 + 40 + 30)),
        ("relu(1x8;float32)", 0, 0, 64),
        ("batch_norm(1x8x2x2;float32)", 0, 16, 4 * (32 + 16 + 32)),
    ],
)
def test_macs_parameters_and_bytes_are_counted(key: str, macs: int, params: int, moved: int) -> None:
    op = ops.load_op(key)
    assert (ops.macs(op), ops.params(op), ops.bytes_moved(op)) == (macs, params, moved)


@pytest.mark.parametrize(
    ("op_type", "shapes", "attributes"),
    [
        ("conv2d", "1x3x8x8", {"kernel": (3, 3)}),
        ("conv2d", "1x3x8x8", {"kernel": (3, 3), "out_channels": 4, "groups": 2}),
        ("conv2d", "1x3x8x8", {"kernel": (3, 3), "out_channels": 4, "activation": "swoosh"}),
        ("conv2d", "1x3x8x8|1x4x4x4", {"kernel": (3, 3), "out_channels": 4}),
        ("conv2d", "1x3x2x2", {"kernel": (3, 3), "out_channels": 4, "padding": "valid"}),
        ("conv2d", "1x3x8x8", {"kernel": (3, 3), "out_channels": 4, "colour": 1}),
        ("conv2d", "1x3x8x8", {"kernel": 3, "out_channels": 4}),
        ("conv2d", "1x3x8x8", {"kernel": (3, 3), "out_channels": 0}),
        ("conv2d", "1x3x8x8", {"kernel": (3, 3), "out_channels": 4, "stride": (0, 1)}),
        ("depthwise_conv2d", "3x8", {"kernel": (3, 3)}),
        ("linear", "1x3x8x8", {"out_features": 3}),
        ("linear", "1x8", {"out_features": "many"}),
        ("matmul", "2x3|4x5", {}),
        ("add", "1x3|1x4", {}),
        ("concat", "1x3x2x2|1x3x4x4", {}),
        ("reshape", "1x8", {"shape": (3, -1)}),
        ("reshape", "1x8", {"shape": (-1, -1)}),
        ("resize", "1x3x4x4", {"size": (0, 4)}),
        ("softmax", "1x8", {"axis": 2}),
        ("transpose", "1x8", {"perm": (0, 0)}),
        ("pad", "1x3x4x4", {"pads": (1, 1)}),
        ("gelu", "1x8", {"approximate": "roughly"}),
        ("relu", "1x0", {}),
        ("warp", "1x8", {}),
    ],
)
def test_impossible_operators_are_refused(op_type: str, shapes: str, attributes: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        make((op_type, shapes, attributes))


def test_composite_operators_expand_to_parts_that_end_in_their_name() -> None:
    op = ops.make_op("conv2d", TensorSpec((1, 8, 4, 4)), out_channels=8, kernel=(1, 1), activation="silu")
    nodes = expand(single(op)).nodes
    assert [node.op.type for node in nodes] == ["conv2d", "sigmoid", "mul"] or nodes[-1].output == "t0"


def test_stored_integers_come_back_within_half_a_step() -> None:
    values = np.linspace(-3, 5, 100, dtype=np.float32)
    quant = (8 / 255, round(-128 + 3 * 255 / 8))
    assert np.abs(load(store(values, quant), quant) - values).max() <= 0.51 * quant[0]
