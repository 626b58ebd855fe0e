"""The batch as a part of operators' shapes: networks and spaces of several images, and what comes of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from host.cli import app
from host.predict import predictor_of
from lut_db.lut import LatencyLut
from lut_db.records import Calibration
from lut_db.samples import open_samples
from lut_db.store import open_store
from ops_catalog import ops
from ops_catalog.build import Network, expand, op_with_dtype, single, split_batch, with_batch
from ops_catalog.export import export_graph
from ops_catalog.export.onnx import UINT8_SHIFT
from ops_catalog.export.quantise import calibrated, evaluate, store
from ops_catalog.networks import NETWORKS, build_network, published
from ops_catalog.spec import Graph, OpSpec, SpecError, TensorSpec
from search.cells import Arithmetic, build_cells
from search.cost import CostModel
from search.spaces import SPACES, space_named
from tests.test_ops import CASES, LOOSE, NO_INT8_TFLITE, assert_close, draw_inputs, make, run_onnx, run_tflite
from tests.test_search import TARGET, anywhere, entries_of, space_of

BATCH = 4
FOUR = [with_batch(single(make(case)), BATCH).nodes[0].op for case in CASES if case[1] != "2x8x5x5|1x8x1x1"]
IDS = [op.key for op in FOUR]


def attention(heads: int = 2) -> Graph:
    """Scores of one image: heads beside the batch, or, with one head, in the place of it."""
    net = Network("attention", (1, 6, 8))
    shape = (1, 6, heads, 8 // heads) if heads > 1 else (6, 8)
    return net.finish(net.add("reshape", net.input, shape=shape))


def test_every_operator_type_is_tried_in_a_batch() -> None:
    assert {op.type for op in FOUR} == set(ops.OPS)


@pytest.mark.parametrize("op", FOUR, ids=IDS)
def test_float32_exports_of_a_batch_compute_what_the_operator_means(op: OpSpec, tmp_path: Path) -> None:
    graph, inputs = single(op), draw_inputs(op)
    wanted = evaluate(graph, inputs)["t0"]
    assert wanted.shape[0] == BATCH
    assert_close(run_onnx(graph, inputs, tmp_path), wanted, 1e-5)
    assert_close(run_tflite(graph, inputs, tmp_path), wanted, 1e-5)


@pytest.mark.parametrize("op", FOUR, ids=IDS)
def test_int8_exports_of_a_batch_are_within_a_step_of_the_reference(op: OpSpec, tmp_path: Path) -> None:
    graph, inputs = single(op_with_dtype(op, "int8")), draw_inputs(op)
    quant = calibrated(graph)
    stored = {name: store(array, quant[name]) for name, array in inputs.items()}
    wanted = store(evaluate(graph, inputs, quant=quant)["t0"], quant["t0"]).astype(int)
    steps = 2 if op.type in LOOSE else len(expand(graph).nodes)
    shifted = {name: (array.astype(int) + UINT8_SHIFT).astype(np.uint8) for name, array in stored.items()}
    onnx = run_onnx(graph, shifted, tmp_path, quant=quant).astype(int) - UINT8_SHIFT
    assert np.abs(onnx - wanted).max() <= steps
    if op.type not in NO_INT8_TFLITE:
        assert np.abs(run_tflite(graph, stored, tmp_path, quant=quant).astype(int) - wanted).max() <= steps


@pytest.mark.parametrize("op", FOUR, ids=IDS)
def test_float16_exports_of_a_batch_stay_near_float32(op: OpSpec, tmp_path: Path) -> None:
    graph, inputs = single(op_with_dtype(op, "float16")), draw_inputs(op)
    wanted = evaluate(single(op), inputs)["t0"]
    halves = {name: array.astype(np.float16) for name, array in inputs.items()}
    assert_close(run_onnx(graph, halves, tmp_path).astype(np.float32), wanted, 2e-2)
    assert_close(run_tflite(graph, inputs, tmp_path), wanted, 2e-2)


@pytest.mark.parametrize("op", FOUR, ids=IDS)
def test_each_image_of_a_batch_is_computed_as_if_it_were_alone(op: OpSpec) -> None:
    inputs = draw_inputs(op)
    together = evaluate(single(op), inputs)["t0"]
    for image in range(BATCH):
        alone = {name: array[image : image + 1] for name, array in inputs.items()}
        assert_close(together[image : image + 1], evaluate(with_batch(single(op), 1), alone)["t0"], 1e-5)


def test_the_fake_engine_takes_longer_for_a_batch() -> None:
    one, four = (json.loads(export_graph(build_network(f"resnet-18{end}"), "fake"))["ns"] for end in ("", "@b4"))
    assert 3 * one < four < 4 * one


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_a_batch_does_so_many_times_the_work_with_the_same_weights(name: str) -> None:
    one, many = build_network(name), build_network(f"{name}@b32")
    assert many.name == f"{name}@b32"
    assert many.inputs[0][1].shape == (32, *one.inputs[0][1].shape[1:])
    assert sum(map(ops.macs, many.operators)) == 32 * sum(map(ops.macs, one.operators))
    assert [ops.weights(node.op) for node in expand(many).nodes] == [ops.weights(node.op) for node in expand(one).nodes]
    assert ops.output(many.operators[-1]).shape[0] == 32
    assert with_batch(many, 1).nodes == one.nodes


def test_a_network_of_a_batch_gives_each_image_what_it_gives_it_alone(tmp_path: Path) -> None:
    one, four = build_network("mobilenet-v3-small"), build_network("mobilenet-v3-small@b4")
    images = np.random.default_rng(0).standard_normal((4, 3, 224, 224), dtype=np.float32)
    for run in (run_onnx, run_tflite):
        alone = np.concatenate([run(one, {"x0": image[None]}, tmp_path) for image in images])
        assert_close(run(four, {"x0": images}, tmp_path), alone, 1e-5)


def test_a_batch_of_one_is_the_plain_network_and_the_plain_space() -> None:
    assert build_network("resnet-50@b1") == build_network("resnet-50")
    assert space_named("macro@b1") is space_named("macro")
    assert split_batch("resnet-50") == ("resnet-50", 1)
    assert split_batch("a@b2@b032") == ("a@b2", 32)


def test_what_was_published_is_found_whatever_the_batch() -> None:
    assert published("resnet-50@b32") == published("resnet-50") is not None
    assert published("mobilenet-v2-1.0-224@b8") == published("mobilenet-v2")
    assert published("resnet-9@b8") is None


@pytest.mark.parametrize(
    "name", ["resnet-50@b0", "resnet-50@b9999999", "resnet-50@b", "resnet-50@32", "@b4", "x@b4@b4"]
)
def test_a_name_with_an_impossible_batch_is_refused(name: str) -> None:
    with pytest.raises(SpecError):
        build_network(name)
    with pytest.raises(SpecError):
        space_named(name.replace("resnet-50", "macro"))
    assert published(name) is None


def mixing(*shapes: tuple[int, ...], op_type: str, **attributes: object) -> Graph:
    return single(ops.make_op(op_type, *map(TensorSpec, shapes), **attributes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "graph",
    [
        attention(heads=1),
        mixing((1, 6, 8), op_type="reshape", shape=(6, -1)),
        mixing((1, 6, 8), op_type="reshape", shape=(-1, 8)),
        mixing((1, 6, 8), op_type="transpose", perm=(1, 0, 2)),
        mixing((1, 1, 8), op_type="transpose", perm=(1, 0, 2)),
        mixing((1, 8), (1, 8), op_type="concat", axis=0),
        mixing((1, 8), op_type="softmax", axis=0),
        mixing((1,), op_type="layer_norm"),
        mixing((1, 1), (1, 5), op_type="matmul"),
        mixing((1, 8), (1, 8), op_type="matmul", transpose_b=True),
        mixing((1, 8, 5, 5), (1, 5), op_type="add"),
        mixing((2, 8), (1, 8), op_type="add"),
        mixing((), op_type="relu"),
    ],
    ids=lambda graph: graph.name,
)
def test_what_mixes_the_images_of_a_batch_is_refused(graph: Graph) -> None:
    """For 5 too, where shapes would fit by chance."""
    for batch in (4, 5):
        with pytest.raises(SpecError, match="batch"):
            with_batch(graph, batch)


def test_heads_beside_the_batch_are_kept_apart_from_it() -> None:
    four = with_batch(attention(), BATCH)
    assert ops.output(four.operators[0]).shape == (BATCH, 6, 2, 4)


@pytest.mark.parametrize("name", SPACES)
def test_a_space_of_a_batch_has_the_same_genomes_and_operators_of_that_batch(name: str) -> None:
    plain, eight = space_of(name), space_of(name).with_batch(8)
    assert eight.name == f"{name}@b8"
    assert eight.genes == plain.genes
    assert eight.plain.name == name
    wanted = [with_batch(single(op), 8).nodes[0].op for op in plain.operators()]
    assert list(eight.operators()) == wanted
    for genome in plain.sample_many(np.random.default_rng(0), 3):
        genes = tuple(map(int, genome))
        graph = eight.decode(genes, "int8")
        assert graph.name == f"{name}@b8:{'-'.join(map(str, genes))}"
        assert graph.nodes == with_batch(plain.decode(genes, "int8"), 8).nodes
        assert {op_with_dtype(op, "float32") for op in graph.operators} <= set(wanted)


def test_a_space_of_a_batch_is_narrowed_and_priced_like_any_other() -> None:
    space = space_named("macro@b4").narrowed({"layer0": (1, 2)})
    assert (space.name, space.batch) == ("macro@b4", 4)
    cells, genomes = build_cells(space), space.sample_many(np.random.default_rng(1), 20)
    plain = Arithmetic(build_cells(space.plain))
    assert np.array_equal(Arithmetic(cells).macs(genomes), 4 * plain.macs(genomes))
    assert np.array_equal(Arithmetic(cells).params(genomes), plain.params(genomes))
    assert np.array_equal(Arithmetic(cells).memory_bytes(genomes), 4 * plain.memory_bytes(genomes))


def test_a_toml_space_takes_a_batch_and_none_in_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('resolution = 32\n[[stage]]\nblock = "conv"\nchannels = [8, 16]\n')
    space = space_named(f"{path}@b4")
    assert space.name == "mine@b4"
    assert space.decode((8,)).inputs[0][1].shape == (4, 3, 32, 32)
    path.write_text('name = "mine@b2"\nresolution = 32\n[[stage]]\nblock = "conv"\nchannels = [8, 16]\n')
    with pytest.raises(SpecError, match="without @bBATCH"):
        space_named(str(path))


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output + str(result.exception)
    return result.stdout


def profile_keys(db: Path) -> list[str]:
    with open_store(db) as opened:
        (target,) = [t for t in opened.targets() if dict(t.options).get("operators") != "exported"]
        return [entry.key for entry in opened.lut(target).entries]


def test_operators_of_a_batch_are_profiled_as_such(tmp_path: Path) -> None:
    db = tmp_path / "lut.db"
    run("profile", "--engine", "fake", "--network", "resnet-18@b4", "--db", str(db), "--json")
    keys = profile_keys(db)
    assert len(keys) == len(set(build_network("resnet-18").operators))
    assert all("(4x" in key for key in keys)


def test_calibrations_are_kept_for_each_batch_and_a_prediction_takes_that_of_its_own(tmp_path: Path) -> None:
    db, common = str(tmp_path / "lut.db"), ("--engine", "fake", "--networks", "3", "--calibration", "2", "--json")
    for space in ("macro@b4", "macro@b01", "macro@b2"):
        metrics = json.loads(run("validate", "--space", space, "--db", db, *common))
    assert metrics[0]["mape"] < 0.5
    with open_store(db) as opened:
        (target,) = [t for t in opened.targets() if dict(t.options).get("operators") != "exported"]
        assert set(opened.calibrations(target)) == {"macro", "macro@b2", "macro@b4"}
        assert {row.space for row in opened.network_measurements(target)} == {"macro", "macro@b2", "macro@b4"}
        families = [predictor_of(opened, target, batch=n).calibration for n in (1, 2, 4, 8)]
    assert [family.family for family in families if family] == ["macro", "macro@b2", "macro@b4", "macro@b2"]
    run("profile", "--engine", "fake", "--network", "resnet-18@b4", "--db", db, "--json")
    told = run("predict", "resnet-18@b4", "--db", db, "--json")
    (prediction,) = json.loads(told)["predictions"]
    assert (prediction["network"], prediction["calibration"]) == ("resnet-18@b4", "macro@b4")


def accuracies(space: str, db: Path) -> None:
    rows = [f"{'-'.join(map(str, genome))},{60 + number}" for number, genome in enumerate(genomes_of(12))]
    (db.parent / "samples.csv").write_text("\n".join(["genome,accuracy_percent", *rows]))
    source = str(db.parent / "samples.csv")
    run("samples", "import", source, "--space", space, "--dataset", "own", "--recipe", "short", "--db", str(db))


def genomes_of(count: int) -> Sequence[tuple[int, ...]]:
    drawn = space_named("macro").sample_many(np.random.default_rng(3), count)
    return list(dict.fromkeys(tuple(map(int, genome)) for genome in drawn))


def test_a_search_of_a_batch_uses_the_accuracies_of_the_plain_space(tmp_path: Path) -> None:
    db = tmp_path / "lut.db"
    accuracies("macro@b4", db)
    with open_samples(db) as samples:
        assert {sample.space for sample in samples.samples()} == {"macro"}
    with open_store(db) as opened:
        assert not opened.targets()
    small = ("--db", str(db), "--population", "40", "--generations", "8", "--json", "--whole")
    one = json.loads(run("search", "--space", "macro", "--macs-m", "100", *small))
    four = json.loads(run("search", "--space", "macro@b4", "--macs-m", "400", *small))
    assert four["space"] == "macro@b4"
    assert four["winner"] == one["winner"]
    best = [max(row["accuracy"] for row in found["candidates"]) for found in (one, four)]
    assert best[0] == pytest.approx(best[1], abs=1e-6)


def test_a_search_of_a_batch_keeps_to_the_latencies_of_its_own_operators(tmp_path: Path) -> None:
    db = tmp_path / "lut.db"
    accuracies("macro", db)
    run("profile", "--engine", "fake", "--space", "macro@b4", "--db", str(db), "--json")
    with open_store(db) as opened:
        (target,) = opened.targets()
        cells, lut = build_cells(space_named("macro@b4")), opened.lut(target)
        opened.put_calibration(target, Calibration("macro@b4", 2.0, 0.0, 0.0, ("a",), (0.01,), None))
    cost = CostModel(cells, lut)
    limit = 1.2 * float(cost.latency_ns(np.array(genomes_of(50))).min()) / 1e6
    common = ("--device", "local-cpu", "--db", str(db), "--population", "40", "--generations", "8", "--json")
    rows = json.loads(run("search", "--space", "macro@b4", "--latency-ms", str(2 * limit), *common))
    for row in rows:
        plain_ms = float(cost.latency_ns(np.array([row["genome"]]))[0]) / 1e6
        assert row["latency_ms"] == pytest.approx(2 * plain_ms)
        assert row["latency_ms"] <= 2 * limit
    failed = CliRunner().invoke(app, ["search", "--space", "macro", "--latency-ms", str(limit), *common])
    assert failed.exit_code != 0


def test_costs_of_a_batch_are_those_of_its_own_table() -> None:
    space = space_of("chamnet-res").with_batch(2).narrowed({"n3": (1, 2), "n2": (1, 2)})
    entries = entries_of(space)
    lut = LatencyLut(TARGET, tuple(entries), anywhere(entries))
    genomes = space.sample_many(np.random.default_rng(0), 5)
    found = CostModel(build_cells(space), lut).latency_ns(genomes)
    wanted = [lut.price(space.decode(tuple(map(int, genome)))).latency_ns.sum() for genome in genomes]
    assert found == pytest.approx(wanted)
