"""Named networks: their MACs and parameters are those published, and their Graphs are built as engines want them."""

from __future__ import annotations

import csv
from decimal import Decimal
from importlib.resources import files

import pytest

from ops_catalog import ops
from ops_catalog.networks import NETWORKS, build_network, published
from ops_catalog.spec import Graph, OpSpec, SpecError

with files("ops_catalog.networks").joinpath("published.csv").open() as lines:
    ROWS = {row["name"]: row for row in csv.DictReader(lines)}

CHAMNETS = {"a": 552.9, "b": 323.3, "c": 211.6, "d": 120.0, "e": 53.7, "f": 30.8}
LITES = [f"efficientnet-lite{variant}" for variant in range(5)]


def macs_m(graph: Graph) -> float:
    return sum(map(ops.macs, graph.operators)) / 1e6


def params_m(graph: Graph, batch_norm_values: int = 1) -> float:
    """Parameters as a source counts them, with so many values per channel of a convolution for batch norm."""
    channels = sum(ops.output(op).shape[1] for op in convolutions(graph))
    return (sum(map(ops.params, graph.operators)) + (batch_norm_values - 1) * channels) / 1e6


def convolutions(graph: Graph) -> list[OpSpec]:
    return [op for op in graph.operators if op.type in ("conv2d", "depthwise_conv2d")]


def agrees(value: float, text: str) -> bool:
    """Within one unit of the last digit: sources round, cut off or round up."""
    unit = float(Decimal(1).scaleb(int(Decimal(text).as_tuple().exponent)))
    return abs(value - float(text)) <= unit


def as_published(name: str) -> bool:
    graph, row = build_network(name), ROWS[name]
    params = params_m(graph, int(row["batch_norm_values"]))
    return agrees(macs_m(graph), row["macs_m"]) and agrees(params, row["params_m"])


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if not row["deviation"]])
def test_macs_and_parameters_are_those_published(name: str) -> None:
    assert as_published(name)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row["deviation"]])
def test_a_listed_deviation_is_one(name: str) -> None:
    assert not as_published(name)


@pytest.mark.parametrize("letter", CHAMNETS)
def test_macs_of_chamnets_agree_to_a_tenth_of_a_million(letter: str) -> None:
    assert macs_m(build_network(f"chamnet-{letter}")) == pytest.approx(CHAMNETS[letter], abs=0.05)


@pytest.mark.parametrize("name", LITES)
def test_efficientnet_lite_has_the_published_macs_with_three_per_output_element(name: str) -> None:
    graph = build_network(name)
    elements = sum(ops.output(op).size for op in convolutions(graph)) / 1e6
    assert macs_m(graph) + 3 * elements == pytest.approx(float(ROWS[name]["macs_m"]), rel=0.005)


@pytest.mark.parametrize(("name", "before"), [("mobilenet-v3-small", 576), ("mobilenet-v3-small-0.75-224", 432)])
def test_mobilenet_v3_small_has_the_published_parameters_with_a_last_layer_of_1280(name: str, before: int) -> None:
    wider = (1280 - 1024) * (before + 1000) / 1e6
    assert agrees(params_m(build_network(name), 2) + wider, ROWS[name]["params_m"])


def test_every_network_has_its_published_accuracy() -> None:
    assert all((found := published(name)) is not None and found.top1_percent for name in NETWORKS)


def test_every_published_name_builds_the_network_of_that_name() -> None:
    assert [build_network(name).name for name in ROWS] == list(ROWS)


def test_spellings_of_one_network_have_one_name() -> None:
    spellings = ["mobilenet-v2", "mobilenet-v2-1.0", "mobilenet-v2-1-224", "mobilenet-v2-1.0-224"]
    assert {build_network(name).name for name in spellings} == {"mobilenet-v2"}
    assert {published(name) for name in spellings} == {published("mobilenet-v2")}


def test_width_and_resolution_given_apart_are_those_of_the_name() -> None:
    assert build_network("mobilenet-v2", width=0.75, resolution=192) == build_network("mobilenet-v2-0.75-192")


def test_a_network_in_another_element_type_has_the_same_shapes() -> None:
    graph = build_network("mobilenet-v3-small", dtype="int8")
    assert graph.dtype == "int8"
    assert macs_m(graph) == macs_m(build_network("mobilenet-v3-small"))


UNKNOWN = [
    "",
    "mobilenet",
    "mobilenet-v2-",
    "mobilenet-v2-wide",
    "mobilenet-v2-nan",
    "mobilenet-v2-1-224-8",
    "resnet-9",
]


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(SpecError, match="mobilenet-v2, mobilenet-v3-large"):
        build_network(name)


def test_a_network_of_one_size_is_refused_at_another() -> None:
    with pytest.raises(SpecError, match="of one of mobilenet-v1"):
        build_network("chamnet-a", resolution=192)


@pytest.mark.parametrize(
    "name", ["mobilenet-v2-0-224", "mobilenet-v2-99-224", "mobilenet-v2-1-0", "mobilenet-v1-1-9999"]
)
def test_a_width_or_resolution_out_of_range_is_refused(name: str) -> None:
    with pytest.raises(SpecError, match="width must be above 0"):
        build_network(name)


def test_nothing_is_published_about_an_unknown_network() -> None:
    assert published("mobilenet-v2-0.6-224") is None
    assert published("no-such-network") is None


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_ends_in_a_score_per_class(name: str) -> None:
    graph = build_network(name)
    assert graph.operators[-1].type == "linear"
    assert ops.output(graph.operators[-1]).shape == (1, 1000)


@pytest.mark.parametrize("name", ["resnet-18", "resnet-50"])
def test_a_shortcut_is_made_before_the_convolution_that_adds_it(name: str) -> None:
    graph = build_network(name)
    made = {node.output: position for position, node in enumerate(graph.nodes)}
    residuals = [node for node in graph.nodes if node.op.type == "conv2d" and len(node.inputs) == 2]
    assert residuals
    assert all(made[node.inputs[1]] < made[node.inputs[0]] for node in residuals)


def test_chamnets_keep_the_convolution_of_expansion_one() -> None:
    first = build_network("chamnet-a").operators[1]
    assert (first.type, first.inputs[0].shape[1], ops.output(first).shape[1]) == ("conv2d", 32, 32)


def test_mobilenet_v2_begins_without_an_expansion() -> None:
    assert build_network("mobilenet-v2").operators[1].type == "depthwise_conv2d"
