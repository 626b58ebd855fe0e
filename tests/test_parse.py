"""Model files -> Graph: our own come back the same, others as the engines would fuse them, damaged ones are refused."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.fuzz_models import FORMATS, damaged, outcome
from ops_catalog import ops
from ops_catalog.build import Network, op_with_dtype, single, with_dtype
from ops_catalog.export import export_graph
from ops_catalog.networks import NETWORKS, build_network
from ops_catalog.ops.inverted_residual import inside
from ops_catalog.parse import Parsed, ParseError, format_of, parse_model
from ops_catalog.parse.normal import normal_graph
from ops_catalog.spec import Graph, Node
from search.spaces import SPACES, space_named
from tests.test_ops import CASES, IDS, NO_INT8_TFLITE, make

DTYPES = ("float32", "float16", "int8")
AS_DEPTHWISE = {("batch_norm", "tflite", "float32"), ("batch_norm", "tflite", "int8"), ("batch_norm", "onnx", "int8")}
"""What comes back as a depthwise 1x1 convolution, since that is what is written."""
IMAGE = (1, 8, 6, 6)


def wiring(graph: Graph) -> tuple[object, ...]:
    """A network up to the names of its tensors."""
    places = {name: f"x{i}" for i, (name, _) in enumerate(graph.inputs)}
    rows = []
    for i, node in enumerate(graph.nodes):
        rows.append((node.op.key, tuple(places[name] for name in node.inputs)))
        places[node.output] = f"t{i}"
    return tuple(tensor for _, tensor in graph.inputs), rows, tuple(places[name] for name in graph.outputs)


def without_blocks(graph: Graph) -> Graph:
    """Blocks as their parts: a file does not say what was a block."""
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op.type != "inverted_residual":
            nodes.append(node)
            continue
        names = {"x0": node.inputs[0]}
        for part in inside(node.op).nodes:
            names[part.output] = f"{node.output}/{part.output}"
            nodes.append(Node(part.op, tuple(names[name] for name in part.inputs), names[part.output]))
        nodes[-1] = Node(nodes[-1].op, nodes[-1].inputs, node.output)
    return Graph(graph.name, graph.inputs, tuple(nodes), graph.outputs)


def assert_comes_back(graph: Graph, file_format: str) -> None:
    parsed = parse_model(export_graph(graph, file_format))
    assert not parsed.unknown
    assert wiring(parsed.graph) == wiring(normal_graph(without_blocks(graph)))


def keys(parsed: Parsed) -> list[str]:
    return [node.op.key for node in parsed.graph.nodes]


def onnx_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Sequence[Any]],
    outputs: Sequence[str],
    constants: dict[str, np.ndarray] | None = None,  # type: ignore[type-arg]
    opset: int = 17,
) -> bytes:
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    stored = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), "made", given, made, stored)
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]).SerializeToString())


def conv_weight(out: int = 8, inner: int = 8, kernel: int = 3) -> np.ndarray:  # type: ignore[type-arg]
    return np.zeros((out, inner, kernel, kernel), np.float32)


def vector(size: int = 8) -> np.ndarray:  # type: ignore[type-arg]
    return np.ones(size, np.float32)


def number(value: float) -> np.ndarray:  # type: ignore[type-arg]
    return np.array(value, np.float32)


def conv_node(x: str, y: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node("Conv", [x, "w"], [y], pads=[1, 1, 1, 1], **attributes)


CONV = "conv2d(1x8x6x6;kernel=3x3;out_channels=8;float32)"


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("number", range(len(NETWORKS)), ids=list(NETWORKS))
def test_every_named_network_comes_back(number: int, file_format: str) -> None:
    name = list(NETWORKS)[number]
    shift = FORMATS.index(file_format)
    assert_comes_back(build_network(name, DTYPES[(number + shift) % 3]), file_format)


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("space", SPACES)
def test_random_networks_of_a_space_come_back(space: str, file_format: str) -> None:
    chosen, rng = space_named(space), np.random.default_rng(11)
    for dtype in DTYPES:
        assert_comes_back(with_dtype(chosen.decode(chosen.sample(rng)), dtype), file_format)


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("case", CASES, ids=IDS)
@pytest.mark.filterwarnings("ignore:overflow")
def test_single_operators_come_back(case: tuple[str, str, dict[str, object]], file_format: str) -> None:
    for dtype in DTYPES:
        op = op_with_dtype(make(case), dtype)
        if file_format == "tflite" and (dtype == "float16" or (dtype == "int8" and op.type in NO_INT8_TFLITE)):
            continue
        if (op.type, file_format, dtype) in AS_DEPTHWISE:
            (node,) = parse_model(export_graph(single(op), file_format)).graph.nodes
            assert node.op.type == "depthwise_conv2d"
            continue
        assert_comes_back(single(op), file_format)


@pytest.mark.parametrize("file_format", FORMATS)
def test_tokens_and_images_of_one_network_come_back(file_format: str) -> None:
    net = Network("tokens", (1, 8, 6, 5))
    x = net.add("conv2d", net.input, out_channels=12, kernel=(1, 1))
    tokens = net.add("transpose", net.add("reshape", x, shape=(1, 12, 30)), perm=(0, 2, 1))
    tokens = net.add("layer_norm", tokens)
    scores = net.add("softmax", net.add("matmul", tokens, tokens, transpose_b=True))
    mixed = net.add("linear", net.add("matmul", scores, tokens), out_features=12, activation="gelu")
    image = net.add("reshape", net.add("transpose", mixed, perm=(0, 2, 1)), shape=(1, 12, 6, 5))
    assert_comes_back(
        net.finish(net.add("conv2d", net.add("mul", image, x), out_channels=4, kernel=(3, 3))), file_format
    )


@pytest.mark.parametrize("file_format", FORMATS)
def test_tensors_keep_their_names(file_format: str) -> None:
    graph = build_network("mobilenet-v2-0.35-96")
    parsed = parse_model(export_graph(graph, file_format), name="mine").graph
    assert parsed.name == "mine"
    assert [node.output for node in parsed.nodes] == [node.output for node in graph.nodes]


def test_a_format_is_told_by_the_content(tmp_path: Path) -> None:
    graph = build_network("mobilenet-v2-0.35-96")
    path = tmp_path / "net.onnx"
    path.write_bytes(export_graph(graph, "tflite"))
    assert format_of(path.read_bytes()) == "tflite"
    assert parse_model(path).graph.name == "net"


def test_batch_norm_and_activation_become_part_of_the_convolution() -> None:
    nodes = [
        conv_node("x", "a"),
        helper.make_node("BatchNormalization", ["a", "v", "v", "v", "v"], ["b"]),
        helper.make_node("Clip", ["b", "zero", "six"], ["y"]),
    ]
    constants = {"w": conv_weight(), "v": vector(), "zero": number(0), "six": number(6)}
    parsed = parse_model(onnx_model(nodes, {"x": IMAGE}, ["y"], constants))
    assert keys(parsed) == ["conv2d(1x8x6x6;activation=relu6;kernel=3x3;out_channels=8;float32)"]


def test_a_batch_norm_whose_convolution_has_another_reader_stays() -> None:
    nodes = [
        conv_node("x", "a"),
        helper.make_node("BatchNormalization", ["a", "v", "v", "v", "v"], ["b"]),
        helper.make_node("Mul", ["a", "b"], ["y"]),
    ]
    parsed = parse_model(onnx_model(nodes, {"x": IMAGE}, ["y"], {"w": conv_weight(), "v": vector()}))
    assert [key.split("(")[0] for key in keys(parsed)] == ["conv2d", "batch_norm", "mul"]


def test_a_batch_norm_written_out_is_folded_and_noted() -> None:
    nodes = [
        conv_node("x", "a"),
        helper.make_node("Mul", ["a", "scale"], ["b"]),
        helper.make_node("Add", ["b", "scale"], ["y"]),
    ]
    constants = {"w": conv_weight(), "scale": np.ones((1, 8, 1, 1), np.float32)}
    parsed = parse_model(onnx_model(nodes, {"x": IMAGE}, ["y"], constants))
    assert keys(parsed) == [CONV]
    assert any("constant factor or offset" in note for note in parsed.notes)


def test_a_residual_and_its_activation_become_part_of_the_convolution() -> None:
    nodes = [conv_node("x", "a"), helper.make_node("Add", ["x", "a"], ["b"]), helper.make_node("Relu", ["b"], ["y"])]
    parsed = parse_model(onnx_model(nodes, {"x": IMAGE}, ["y"], {"w": conv_weight()}))
    assert keys(parsed) == ["conv2d(1x8x6x6|1x8x6x6;activation=relu;kernel=3x3;out_channels=8;float32)"]


PATTERNS = (
    ("silu", "Sigmoid(x)a Mul(x a)y"),
    ("silu", "Mul(x one)s Sigmoid(s)a Mul(x a)y"),
    ("hard_swish", "HardSigmoid(x)a Mul(a x)y"),
    ("hard_sigmoid", "Add(x three)a Clip(a zero six)b Div(b six)y"),
    ("hard_swish", "Add(x three)a Clip(a zero six)b Mul(x b)c Div(c six)y"),
    ("gelu", "Div(x root)a Erf(a)b Add(b one)c Mul(x c)d Mul(d half)y"),
    ("gelu", "Mul(x half)h Div(x root)a Erf(a)b Add(one b)c Mul(h c)y"),
    (
        "layer_norm",
        "ReduceMean(x)m Sub(x m)c Pow(c two)s ReduceMean(s)v Add(v tiny)e Sqrt(e)r Div(c r)n Mul(n row)k Add(k row)y",
    ),
)
"""What other exporters write: operator, what it reads, what it makes."""


@pytest.mark.parametrize(("wanted", "text"), PATTERNS)
def test_operators_written_as_several_are_found_again(wanted: str, text: str) -> None:
    attributes: dict[str, dict[str, Any]] = {"ReduceMean": {"axes": [-1]}, "HardSigmoid": {"alpha": 1 / 6}}
    protos = [
        helper.make_node(kind, reads.split(), [makes], **attributes.get(kind, {}))
        for kind, reads, makes in re.findall(r"(\w+)\(([^)]*)\)(\w+)", text)
    ]
    named = {"three": 3, "zero": 0, "six": 6, "root": 2**0.5, "one": 1, "half": 0.5, "two": 2, "tiny": 1e-5}
    constants = {name: number(value) for name, value in named.items()} | {"row": vector(16)}
    parsed = parse_model(onnx_model(protos, {"x": (1, 4, 16)}, ["y"], constants))
    assert keys(parsed) == [f"{wanted}(1x4x16;float32)"]


def test_what_computes_shapes_disappears() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "first"], ["n"]),
        helper.make_node("Unsqueeze", ["n", "axes"], ["batch"]),
        helper.make_node("Concat", ["batch", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["x", "shape"], ["y"]),
    ]
    constants = {"first": np.array(0), "axes": np.array([0]), "rest": np.array([-1])}
    parsed = parse_model(onnx_model(nodes, {"x": ("n", 8, 2, 2)}, ["y"], constants), {"x": (1, 8, 2, 2)})
    assert keys(parsed) == ["reshape(1x8x2x2;shape=1x32;float32)"]


def test_constants_and_identities_are_folded() -> None:
    weight = numpy_helper.from_array(conv_weight(), "value")
    nodes = [
        helper.make_node("Constant", [], ["c"], value=weight),
        helper.make_node("Identity", ["c"], ["w"]),
        helper.make_node("Identity", ["x"], ["i"]),
        helper.make_node("Dropout", ["i"], ["d"]),
        conv_node("d", "y"),
    ]
    assert keys(parse_model(onnx_model(nodes, {"x": IMAGE}, ["y"]))) == [CONV]


def test_a_pool_that_rounds_up_has_the_padding_that_this_means() -> None:
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    (pool,) = parse_model(onnx_model([node], {"x": (1, 4, 6, 6)}, ["y"])).graph.nodes
    assert ops.output(pool.op).shape == (1, 4, 3, 3)


def test_padding_before_a_convolution_becomes_part_of_it() -> None:
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["p"]),
        helper.make_node("Conv", ["p", "w"], ["y"], strides=[2, 2]),
    ]
    constants = {"w": conv_weight(), "pads": np.array([0, 0, 0, 0, 0, 0, 1, 1])}
    parsed = parse_model(onnx_model(nodes, {"x": IMAGE}, ["y"], constants))
    assert keys(parsed) == ["conv2d(1x8x6x6;kernel=3x3;out_channels=8;stride=2x2;float32)"]


def test_layers_of_sequences_take_their_batch_norm_and_activation() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1]),
        helper.make_node("BatchNormalization", ["a", "v", "v", "v", "v"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Conv", ["c", "w"], ["y"], pads=[1, 1]),
    ]
    constants = {"w": np.zeros((8, 8, 3), np.float32), "v": vector()}
    parsed = parse_model(onnx_model(nodes, {"x": (1, 8, 20)}, ["y"], constants))
    assert [op.type for op in parsed.graph.operators] == ["reshape", "conv2d", "conv2d", "reshape"]
    assert dict(parsed.graph.operators[1].attributes)["activation"] == "relu"


class Noise:
    """Calibration data for ONNX Runtime's quantiser."""

    def __init__(self, graph: Graph) -> None:
        name, tensor = graph.inputs[0]
        self.left = [{name: np.random.default_rng(0).standard_normal(tensor.shape, dtype=np.float32)}]

    def get_next(self) -> dict[str, np.ndarray] | None:  # type: ignore[type-arg]
        return self.left.pop() if self.left else None


@pytest.mark.parametrize("way", ["QDQ", "QOperator", "dynamic"])
@pytest.mark.filterwarnings("ignore")
def test_what_onnx_runtime_quantised_is_the_same_network_in_int8(way: str, tmp_path: Path) -> None:
    from onnxruntime import quantization

    graph = build_network("mobilenet-v3-small-0.35-64")
    source, made = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    source.write_bytes(export_graph(graph, "onnx"))
    if way == "dynamic":
        quantization.quantize_dynamic(source, made)
    else:
        form = quantization.QuantFormat[way]
        quantization.quantize_static(source, made, Noise(graph), quant_format=form, per_channel=True)
    parsed = parse_model(made)
    assert not parsed.unknown
    wanted = [(op.type, ops.output(op)) for op in with_dtype(graph, "int8").operators]
    assert [(op.type, ops.output(op)) for op in parsed.graph.operators] == wanted


def test_an_open_shape_is_asked_for_and_can_be_given() -> None:
    data = onnx_model([conv_node("x", "y")], {"x": ("batch", 8, "h", "w")}, ["y"], {"w": conv_weight()})
    with pytest.raises(ParseError, match=r"input 'x' must .* got \?x8x\?x\?; .* --shape x=1x8x224x224"):
        parse_model(data)
    assert keys(parse_model(data, {"x": (1, 8, 6, 6)})) == [CONV]
    with pytest.raises(ParseError, match="one of the inputs x"):
        parse_model(data, {"image": (1, 8, 6, 6)})
    with pytest.raises(ParseError, match="--shape"):
        parse_model(data, {"x": (1, 8)})


def test_operators_that_nobody_needs_are_left_out_and_noted() -> None:
    nodes = [conv_node("x", "y"), helper.make_node("Relu", ["x"], ["unread"])]
    parsed = parse_model(onnx_model(nodes, {"x": IMAGE}, ["y"], {"w": conv_weight()}))
    assert keys(parsed) == [CONV]
    assert parsed.notes == ("1 operators whose results nobody needs are left out",)


def test_an_unknown_node_in_the_middle_leaves_a_partial_network_with_its_share() -> None:
    nodes = [
        conv_node("x", "a"),
        helper.make_node("ConvTranspose", ["a", "t"], ["b"], strides=[2, 2]),
        helper.make_node("Relu", ["b"], ["y"]),
    ]
    constants = {"w": conv_weight(), "t": np.zeros((8, 8, 2, 2), np.float32)}
    parsed = parse_model(onnx_model(nodes, {"x": IMAGE}, ["y"], constants))
    assert keys(parsed) == [CONV, "relu(1x8x12x12;float32)"]
    assert [(node.type, node.macs) for node in parsed.unknown] == [("ConvTranspose", 36 * 8 * 8 * 4)]
    assert parsed.macs_share_unknown == pytest.approx(4 / 13)
    assert [name for name, _ in parsed.graph.inputs] == ["x", "b"]
    assert parsed.graph.outputs == ("y", "a")


def test_a_custom_operator_is_listed_and_its_shape_can_be_given() -> None:
    custom = helper.make_node("Warp", ["a"], ["b"], domain="com.example")
    data = onnx_model([conv_node("x", "a"), custom, conv_node("b", "y")], {"x": IMAGE}, ["y"], {"w": conv_weight()})
    parsed = parse_model(data)
    assert [(node.type, node.macs) for node in parsed.unknown] == [("com.example::Warp", None), ("Conv", None)]
    assert any("cannot be told" in note for note in parsed.notes)
    assert keys(parse_model(data, {"b": IMAGE})) == [CONV, CONV]


def test_nothing_understood_is_an_error_that_names_what_there_is() -> None:
    data = onnx_model([helper.make_node("Warp", ["x"], ["y"], domain="com.example")], {"x": IMAGE}, ["y"])
    with pytest.raises(ParseError, match=r"com\.example::Warp"):
        parse_model(data)


def test_external_weights_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnx.load_from_string(onnx_model([conv_node("x", "y")], {"x": IMAGE}, ["y"], {"w": conv_weight()}))
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../../../etc/passwd")
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    opened = []
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *rest: opened.append(self) or real(self, *rest))  # type: ignore[func-returns-value]
    monkeypatch.setattr("builtins.open", lambda *rest, **named: opened.append(rest[0]))
    parsed = parse_model(path)
    monkeypatch.undo()
    assert opened == [path]
    assert keys(parsed) == [CONV]
    assert any("not read" in note for note in parsed.notes)


def test_a_cycle_is_listed() -> None:
    nodes = [
        conv_node("x", "a"),
        helper.make_node("Add", ["a", "c"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
    ]
    parsed = parse_model(onnx_model(nodes, {"x": IMAGE}, ["c"], {"w": conv_weight()}))
    assert keys(parsed) == [CONV]
    assert {node.reason for node in parsed.unknown} == {"it is part of a cycle or reads from one"}


@pytest.mark.parametrize("side", [0, -1, 2**31, 2**62])
def test_sides_that_cannot_be_are_refused(side: int) -> None:
    data = onnx_model([conv_node("x", "y")], {"x": (1, 8, 6, side)}, ["y"], {"w": conv_weight()})
    with pytest.raises(ParseError, match="--shape"):
        parse_model(data)


def test_a_huge_constant_costs_no_memory() -> None:
    shape = helper.make_node("ConstantOfShape", ["s"], ["big"])
    nodes = [shape, helper.make_node("Add", ["x", "big"], ["a"]), helper.make_node("Relu", ["x"], ["y"])]
    data = onnx_model(nodes, {"x": IMAGE}, ["y", "a"], {"s": np.array([2**40, 2**40])})
    parsed = parse_model(data)
    assert keys(parsed) == ["relu(1x8x6x6;float32)"]
    assert {node.type for node in parsed.unknown} == {"ConstantOfShape", "Add"}


@pytest.mark.parametrize("version", [-1, 0, 5000])
def test_an_operator_set_that_cannot_be_is_refused(version: int) -> None:
    model = onnx.load_from_string(onnx_model([conv_node("x", "y")], {"x": IMAGE}, ["y"], {"w": conv_weight()}))
    model.opset_import[0].version = version
    with pytest.raises(ParseError, match="operator set"):
        parse_model(model.SerializeToString())


@pytest.mark.parametrize("data", [b"", b"\x00", b"hello world, I am no model", b"\x08\x07", b"\x1c\x00\x00\x00TFL3"])
def test_what_is_no_model_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(ParseError, match="but got") as caught:
        parse_model(data)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.onnx"):
        with pytest.raises(ParseError, match="check the path"):
            parse_model(path)


def test_a_chain_of_many_nodes_takes_little_time() -> None:
    nodes = [helper.make_node("Relu", [f"t{i}"], [f"t{i + 1}"]) for i in range(5000)]
    data = onnx_model(nodes[::-1], {"t0": IMAGE}, ["t5000"])
    assert len(parse_model(data).graph.nodes) == 5000
    too_many = onnx_model(nodes * 5, {"t0": IMAGE}, ["t5000"])
    with pytest.raises(ParseError, match="at most 20000 nodes"):
        parse_model(too_many)


@pytest.mark.parametrize("file_format", FORMATS)
def test_damaged_files_are_parsed_or_refused_and_nothing_else(file_format: str) -> None:
    counted = {"whole": 0, "partial": 0, "refused": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(10_000, 10_300):
            began = time.monotonic()
            counted[outcome(damaged(file_format, seed))] += 1
            assert time.monotonic() - began < 20
    assert all(counted.values())
