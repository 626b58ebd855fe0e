"""Search spaces: genomes, the networks they stand for, the published points, and all operators of a space."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.engines import litert, onnxrt
from ops_catalog import ops
from ops_catalog.export import export_graph
from ops_catalog.graphfile import graph_from_json, graph_to_json
from ops_catalog.networks import build_network
from ops_catalog.networks.chamnet import RELEASED, MobileStages
from ops_catalog.networks.resnet import CHANNELS, DEPTHS, BottleneckStages
from ops_catalog.spec import Graph, OpSpec, SpecError
from search.spaces import SPACES, chamnet_mobile, chamnet_res, space_named
from search.spaces.space import Genome, SearchSpace

MOBILENET_V2 = MobileStages(
    224,
    32,
    ((0, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
    1280,
)
RANDOM = settings(max_examples=40, deadline=None)
spaces = st.sampled_from(sorted(SPACES)).map(space_named)
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def operators() -> dict[str, frozenset[OpSpec]]:
    """Every operator of each space."""
    return {name: frozenset(space_named(name).operators()) for name in SPACES}


def sampled(space: SearchSpace, seed: int) -> Genome:
    return space.sample(np.random.default_rng(seed))


def resnet(layers: int) -> BottleneckStages:
    middles = tuple(channels // 4 for channels in CHANNELS)
    return BottleneckStages(224, 64, CHANNELS, middles, DEPTHS[layers])


def unnamed(graph: Graph) -> Graph:
    return replace(graph, name="")


@RANDOM
@given(spaces, seeds)
def test_a_sampled_genome_lies_on_the_steps_of_its_space(space: SearchSpace, seed: int) -> None:
    genome = sampled(space, seed)
    space.check(genome)
    assert all(value in gene.choices for gene, value in zip(space.genes, genome, strict=True))


@RANDOM
@given(spaces, seeds)
def test_the_same_seed_samples_the_same_genome(space: SearchSpace, seed: int) -> None:
    assert sampled(space, seed) == sampled(space, seed)


@RANDOM
@given(spaces, seeds, st.sampled_from(["float32", "int8"]))
def test_a_decoded_network_is_well_formed(space: SearchSpace, seed: int, dtype: str) -> None:
    graph = space.decode(sampled(space, seed), dtype)
    assert graph_from_json(graph_to_json(graph)) == graph
    assert graph.dtype == dtype


@RANDOM
@given(spaces, seeds, seeds)
def test_networks_have_one_name_exactly_if_they_have_one_genome(space: SearchSpace, one: int, other: int) -> None:
    genomes = sampled(space, one), sampled(space, other)
    names = [space.decode(genome).name for genome in genomes]
    assert (names[0] == names[1]) == (genomes[0] == genomes[1])


def test_the_operators_of_a_space_are_all_that_its_networks_need(operators: dict[str, frozenset[OpSpec]]) -> None:
    rng = np.random.default_rng(7)
    for name in SPACES:
        space = space_named(name)
        for _ in range(100):
            assert operators[name].issuperset(space.decode(space.sample(rng)).operators)


@pytest.mark.parametrize(
    "name, count", [("chamnet-mobile", 47_032), ("chamnet-res", 3_890), ("mbconv", 251), ("macro", 40)]
)
def test_a_space_has_as_many_operators_as_it_says(
    operators: dict[str, frozenset[OpSpec]], name: str, count: int
) -> None:
    assert len(operators[name]) == count


@pytest.mark.parametrize("name, count", [("chamnet-mobile", 9_702), ("chamnet-res", 992)])
def test_the_operators_of_one_resolution_come_once_and_in_a_fixed_order(name: str, count: int) -> None:
    part = space_named(name).narrowed({"resolution": [192]})
    listed = [list(part.operators("int8")) for _ in range(2)]
    assert listed[0] == listed[1]
    assert len(set(listed[0])) == len(listed[0]) == count
    assert {op.dtype for op in listed[0]} == {"int8"}


@pytest.mark.parametrize("letter", RELEASED)
def test_a_released_chamnet_is_a_point_of_the_mobile_space(letter: str) -> None:
    space = space_named("chamnet-mobile")
    decoded = space.decode(chamnet_mobile.encode(RELEASED[letter]))
    assert unnamed(decoded) == unnamed(build_network(f"chamnet-{letter}"))


def test_mobilenet_v2_is_a_point_of_the_mobile_space() -> None:
    space = space_named("chamnet-mobile")
    assert unnamed(space.decode(chamnet_mobile.encode(MOBILENET_V2))) == unnamed(build_network("mobilenet-v2"))


@pytest.mark.parametrize("layers", [50, 101, 152])
def test_a_deep_resnet_is_a_point_of_the_residual_space(layers: int) -> None:
    space = space_named("chamnet-res")
    assert unnamed(space.decode(chamnet_res.encode(resnet(layers)))) == unnamed(build_network(f"resnet-{layers}"))


def test_a_channel_count_between_the_steps_is_a_point() -> None:
    space = space_named("chamnet-mobile")
    genome = chamnet_mobile.encode(RELEASED["b"])
    assert genome[[gene.name for gene in space.genes].index("c4")] == 92
    space.check(genome)


@pytest.mark.parametrize("name", SPACES)
def test_the_largest_network_of_a_space_costs_the_most(name: str) -> None:
    space = space_named(name)
    largest = sum(map(ops.macs, space.decode(tuple(gene.choices[-1] for gene in space.genes)).operators))
    smallest = sum(map(ops.macs, space.decode(tuple(gene.choices[0] for gene in space.genes)).operators))
    random = sum(map(ops.macs, space.decode(sampled(space, 3)).operators))
    assert smallest < random < largest


@pytest.mark.parametrize("name", SPACES)
def test_a_genome_of_another_length_is_refused(name: str) -> None:
    space = space_named(name)
    with pytest.raises(SpecError, match=f"must have {len(space.genes)} genes, but got 3"):
        space.check((224, 32, 1))


@pytest.mark.parametrize("name", SPACES)
def test_a_value_outside_its_gene_is_refused_by_name(name: str) -> None:
    space = space_named(name)
    for position, gene in enumerate(space.genes):
        genome = list(sampled(space, 0))
        genome[position] = gene.choices[-1] + 1
        with pytest.raises(SpecError, match=f"{gene.name} of {name} must be "):
            space.decode(tuple(genome))


def test_an_architecture_of_other_strides_is_no_point() -> None:
    stages = tuple((t, c, n, 1) for t, c, n, _ in MOBILENET_V2.stages)
    with pytest.raises(SpecError, match="must have strides"):
        chamnet_mobile.encode(replace(MOBILENET_V2, stages=stages))


def test_an_architecture_outside_the_space_is_no_point() -> None:
    with pytest.raises(SpecError, match="head of chamnet-mobile"):
        chamnet_mobile.encode(replace(MOBILENET_V2, head=4096))


def test_an_unknown_space_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SpecError, match=r"mbconv, macro, or a \.toml file, but got 'mobile'"):
        space_named("mobile")


def test_macs_and_parameters_of_the_macro_space_are_the_benchmarks() -> None:
    graph = space_named("macro").decode((0, 0, 0, 0, 0, 0, 1, 0))
    normed = sum(ops.output(op).shape[1] for op in graph.operators if op.type in ("conv2d", "depthwise_conv2d"))
    assert sum(map(ops.params, graph.operators)) + normed == 791_594
    assert sum(map(ops.macs, graph.operators)) == 14_115_328


def test_parameters_of_the_mbconv_space_are_the_benchmarks() -> None:
    genome = (6, 3, 1, 0, 4, 5, 2, 0, 6, 3, 3, 0, 6, 5, 3, 0, 6, 5, 2, 0, 1, 3, 2, 0, 1, 3, 2, 0)
    graph = space_named("mbconv").decode(genome)
    normed = sum(ops.output(op).shape[1] for op in graph.operators if op.type in ("conv2d", "depthwise_conv2d"))
    assert sum(map(ops.params, graph.operators)) + normed == 2_501_160


def test_genomes_of_one_macro_network_have_one_form() -> None:
    space = space_named("macro")
    every = np.array(np.meshgrid(*[range(3)] * 8, indexing="ij")).reshape(8, -1).T.astype(np.int64)
    assert space.same is not None
    forms = space.same(every)
    assert len(np.unique(forms, axis=0)) == 3969
    assert unnamed(space.decode((1, 0, 0, 2, 0, 1, 0, 0))) == unnamed(space.decode((1, 0, 0, 2, 0, 1, 0, 0)))
    one, other = (space.decode(genome).operators for genome in ((1, 0, 0, 0, 2, 1, 0, 2), (1, 0, 0, 2, 0, 1, 2, 0)))
    assert one == other


DESCRIBED = """
name = "own"
resolution = [32, 48]
classes = 10
[stem]
channels = [8, 16]
[[stage]]
block = "inverted_residual"
channels = [8, 16]
expansion = [1, 3]
kernel = [3, 5]
depth = [1, 3]
squeeze_excite = [0, 4]
activation = ["relu", "hard_swish"]
stride = 2
[[stage]]
block = "bottleneck"
channels = 32
middle = [8, 16]
depth = 2
[[stage]]
block = "basic_residual"
channels = [32, 48]
[[stage]]
block = "conv"
channels = 64
kernel = [1, 3]
stride = 2
[head]
channels = 96
"""


def described(tmp_path: Path, text: str = DESCRIBED) -> SearchSpace:
    (tmp_path / "own.toml").write_text(text)
    return space_named(str(tmp_path / "own.toml"))


def test_a_described_space_has_genes_where_there_is_a_choice(tmp_path: Path) -> None:
    space = described(tmp_path)
    names = ["resolution", "stem_channels", "stage1_channels", "stage1_expansion", "stage1_kernel", "stage1_depth"]
    assert [gene.name for gene in space.genes][:6] == names
    graph = space.decode(tuple(gene.choices[-1] for gene in space.genes))
    types = [op.type for op in graph.operators]
    assert types.count("depthwise_conv2d") == 3
    assert ops.output(graph.operators[-1]).shape == (1, 10)
    assert dict(graph.operators[1].attributes)["activation"] == "hard_swish"


def test_networks_of_a_described_space_export_and_run(tmp_path: Path) -> None:
    space = described(tmp_path)
    rng = np.random.default_rng(0)
    for _ in range(3):
        graph = space.decode(space.sample(rng))
        for file_format, engine in (("onnx", onnxrt), ("tflite", litert)):
            path = tmp_path / f"m.{file_format}"
            path.write_bytes(export_graph(graph, file_format))
            engine.open_model(str(path), {}).run(1)


@pytest.mark.parametrize("name", ["mbconv", "macro"])
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_networks_of_the_benchmark_spaces_export_and_run(name: str, dtype: str, tmp_path: Path) -> None:
    graph = space_named(name).decode(sampled(space_named(name), 4), dtype)
    for file_format, engine in (("onnx", onnxrt), ("tflite", litert)):
        path = tmp_path / f"m.{file_format}"
        path.write_bytes(export_graph(graph, file_format))
        engine.open_model(str(path), {}).run(1)


@pytest.mark.parametrize(
    "old, new, message",
    [
        ('block = "conv"', 'block = "dense"', "the block of a stage must be one of"),
        ("middle = [8, 16]", "", "must have middle"),
        ("classes = 10", "colour = 3", "only, but got colour"),
        ("kernel = [1, 3]", "kernel = [0, 3]", "stage4_kernel must be from 1"),
        ("kernel = [1, 3]", "kernel = [3, 3]", "different values"),
        ("stride = 2\\n[[stage]]", "stride = [1, 2]\\n[[stage]]", "must be one value"),
        ('"hard_swish"', '"tanh"', "activation must be among"),
        ("resolution = [32, 48]", "resolution = [", "readable TOML"),
        ("depth = 2", 'depth = "two"', "stage2_depth must be from 1"),
        ("resolution = [32, 48]", "resolution = [[32], [48]]", "a value or a list of them"),
        ("classes = 10", "classes = [10, 20]", "classes must be one value"),
        ("classes = 10", 'activation = ["relu", "relu6"]', "lists go in stages"),
        ('name = "own"', 'name = "mbconv"', "a name of its own"),
        (
            "middle = [8, 16]",
            "middle = [8, 16]\nkernel = [3, 5]",
            "of block bottleneck must have .* only, but got kernel",
        ),
    ],
)
def test_a_description_that_cannot_be_meant_is_refused(old: str, new: str, message: str, tmp_path: Path) -> None:
    text = DESCRIBED.replace(old.replace("\\n", "\n"), new.replace("\\n", "\n"))
    assert text != DESCRIBED
    with pytest.raises(SpecError, match=message):
        described(tmp_path, text)
