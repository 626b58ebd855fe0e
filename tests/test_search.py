"""Costs of genomes, the evolution over them, limits, and the whole search path from a stored table to model files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host.cli_search import choose_target
from host.errors import HostError, UsageError
from host.verify import Verification, choose, recalibrate
from lut_db.errors import LutError
from lut_db.lut import LatencyLut, MissingOpsError, how_to_ask
from lut_db.records import ANY_CONTEXT, Calibration, Device, Lowering, LutEntry, Measurement, Session, Target
from lut_db.samples import AccuracySample, SampleStore, open_samples
from lut_db.store import LutStore, open_store
from ops_catalog import ops
from ops_catalog.build import op_with_dtype
from ops_catalog.spec import NativeOp, SpecError
from search.builtin import builtin_samples
from search.cells import Arithmetic, build_cells, network_peak_bytes
from search.cost import CostModel
from search.evolution import Effort, Objective, evolve
from search.limits import Limit
from search.pareto import front
from search.result import export_winner, macs_by_scale, write_front
from search.run import Question, search
from search.spaces import SPACES, space_named
from search.spaces.space import SearchSpace, format_genome

TARGET = Target("bench", "fake", "1", "cpu", "float32", 1, (0,), "none", source="simulated")
SMALL = Effort(60, 15)
NARROW = {"resolution": (96, 224), "c5": (56, 256), "c6": (56, 256), "c7": (96, 480), "head": (1024,), "c4": (32, 160)}


def space_of(name: str) -> SearchSpace:
    """The space; the largest one narrowed, so that its tables build in no time."""
    space = space_named(name)
    genes = {gene.name: gene for gene in space.genes}
    return space.narrowed({k: v for k, v in NARROW.items() if k in genes and set(v) <= set(genes[k].choices)})


def entries_of(space: SearchSpace, dtype: str = "float32", energy: bool = False) -> list[LutEntry]:
    found = []
    for op in space.operators(dtype):
        latency = 1000.0 + ops.macs(op) / 20 + ops.bytes_moved(op) / 5
        found.append(
            LutEntry(op.key, latency, 0.0, 9, 2, ops.weight_bytes(op), energy_uj=latency / 500 if energy else None)
        )
    return found


def anywhere(entries: list[LutEntry]) -> dict[tuple[str, str], Lowering]:
    return {(e.key, ANY_CONTEXT): Lowering(e.key, ANY_CONTEXT, (e.key,), "plain", ("plain",) * (e.key.count("|") + 1))
            for e in entries}  # fmt: skip


def plain_lut(space: SearchSpace, **more: bool) -> LatencyLut:
    entries = entries_of(space, **more)  # type: ignore[arg-type]
    return LatencyLut(TARGET, tuple(entries), anywhere(entries))


def shifting_lut(space: SearchSpace) -> LatencyLut:
    """An engine that stores wide images in blocks: costs depend on what an operator reads, and on who reads it."""
    entries = {e.key: e for e in entries_of(space)}
    lowerings = {}
    for op in space.operators():
        wide = op.type == "conv2d" and ops.output(op).shape[1] % 16 == 0
        for form in ("plain", "blocked"):
            for last in ("", ">"):
                dear = f"{op.key} from {form}{last}"
                entries[dear] = LutEntry(
                    dear, entries[op.key].latency_ns * (1.5 if form == "plain" else 1.0), 0, 9, 2, 64
                )
                other = ",".join([form] * len(op.inputs)) + last
                context = [other]
                if len(op.inputs) == 2:
                    context += [f"{a},{b}{last}" for a in ("plain", "blocked") for b in ("plain", "blocked")]
                for c in context:
                    into = "blocked" if wide else "plain"
                    lowerings[op.key, c] = Lowering(op.key, c, (dear,), into, tuple(c.rstrip(">").split(",")))
                    if op.type == "depthwise_conv2d":
                        ahead = f"{c} then conv2d"
                        lowerings[op.key, ahead] = Lowering(op.key, ahead, (dear, op.key), "blocked", (form,))
    return LatencyLut(TARGET, tuple(entries.values()), lowerings)


def samples_of(space: SearchSpace, count: int = 60, seed: int = 0) -> list[AccuracySample]:
    arithmetic, genomes = Arithmetic(build_cells(space)), space.sample_many(np.random.default_rng(seed), count)
    accuracy = 40 + 5 * np.log(arithmetic.macs(genomes) / 1e6)
    return [
        AccuracySample(space.name, format_genome(g.tolist()), "made-up", "none", float(a), source="test")
        for g, a in zip(genomes, accuracy, strict=True)
    ]


def fill(store: LutStore, space: SearchSpace, target: Target = TARGET) -> Target:
    """Stores a table of made-up latencies."""
    store.put_device(Device("bench", "none"))
    store.put_target(target)
    entries = entries_of(space)
    lowerings = list(anywhere(entries).values())
    store.put_lowerings(target, lowerings, [NativeOp(e.key, e.weight_bytes) for e in entries])
    rows = [Measurement(e.key, ((int(e.latency_ns * 10),) * 6,), (0.0,), 10, 0.0) for e in entries]
    store.append(target, Session(0.0, "1", "1", {}, {}), rows, f"batch of {target.name}")
    return target


@pytest.mark.parametrize("name", SPACES)
def test_arithmetic_of_genomes_is_that_of_their_networks(name: str) -> None:
    space = space_of(name)
    arithmetic, genomes = Arithmetic(build_cells(space)), space.sample_many(np.random.default_rng(1), 25)
    macs, params, memory = arithmetic.macs(genomes), arithmetic.params(genomes), arithmetic.memory_bytes(genomes)
    for row, genome in enumerate(genomes):
        graph = space.decode(genome.tolist())
        assert macs[row] == sum(map(ops.macs, graph.operators))
        assert params[row] == sum(map(ops.params, graph.operators))
        assert memory[row] == network_peak_bytes(graph)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("make", [plain_lut, shifting_lut])
def test_costs_of_genomes_are_what_the_table_says_of_their_networks(name: str, make) -> None:  # type: ignore[no-untyped-def]
    space = space_of(name)
    lut, calibration = make(space), Calibration(name, 1.1, 0.002, 7.0, (), (0.01, -0.02), 5000)
    model, genomes = CostModel(build_cells(space), lut, calibration), space.sample_many(np.random.default_rng(2), 40)
    wanted = [lut.predict(space.decode(genome.tolist()), calibration) for genome in genomes]
    np.testing.assert_allclose(model.latency_ns(genomes), wanted, rtol=1e-12)


def test_energies_add_up_where_all_are_known_and_are_none_elsewhere() -> None:
    space = space_named("macro")
    genomes = space.sample_many(np.random.default_rng(0), 5)
    assert CostModel(build_cells(space), plain_lut(space)).energy_uj(genomes) is None
    model = CostModel(build_cells(space), plain_lut(space, energy=True))
    energies = model.energy_uj(genomes)
    assert energies is not None
    np.testing.assert_allclose(energies, model.latency_ns(genomes) / 500)


@pytest.mark.parametrize("make", [plain_lut, shifting_lut])
def test_a_missing_operator_is_named_with_the_command_that_measures_it(make) -> None:  # type: ignore[no-untyped-def]
    space = space_named("macro")
    lut = make(space)
    gone = next(op for op in space.operators() if op.type == "depthwise_conv2d")
    kept = tuple(entry for entry in lut.entries if not entry.key.startswith(gone.key))
    with pytest.raises(MissingOpsError, match="chamnet profile --device bench") as caught:
        CostModel(build_cells(space), LatencyLut(TARGET, kept, lut.lowerings))
    assert caught.value.operators == (gone,)


def test_a_table_of_another_element_type_lacks_the_operators() -> None:
    space = space_named("macro")
    lut = plain_lut(space)
    eight = Target(**{**{f: getattr(TARGET, f) for f in TARGET.__slots__}, "dtype": "int8"})
    with pytest.raises(MissingOpsError) as caught:
        CostModel(build_cells(space), LatencyLut(eight, lut.entries, lut.lowerings))
    assert {op.dtype for op in caught.value.operators} == {"int8"}


def test_a_value_between_the_steps_has_no_cell_but_is_refused_by_name() -> None:
    space = space_of("chamnet-mobile")
    arithmetic, genome = Arithmetic(build_cells(space)), space.sample_many(np.random.default_rng(0), 1)
    genome[0, 0] = 160
    with pytest.raises(SpecError, match="resolution must be among"):
        arithmetic.macs(genome)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=30))
def test_a_front_is_what_nothing_beats(points: list[tuple[int, int, int]]) -> None:
    accuracy, costs = np.array([p[0] for p in points]), np.array([p[1:] for p in points])
    kept = set(front(accuracy, costs).tolist())
    for i in range(len(points)):
        beaten = any(
            accuracy[j] >= accuracy[i]
            and (costs[j] <= costs[i]).all()
            and (accuracy[j], *costs[j]) != (accuracy[i], *costs[i])
            for j in range(len(points))
        )
        again = any(points[j] == points[i] for j in range(i))
        assert (i in kept) == (not beaten and not again)


def objective_of(space: SearchSpace, limits: list[list[float]]) -> Objective:
    arithmetic = Arithmetic(build_cells(space))
    weights = np.random.default_rng(5).random(len(space.genes))
    return Objective(
        space,
        lambda g: 50 + np.log(np.maximum(g, 1)) @ weights,
        lambda g: np.stack([arithmetic.macs(g), arithmetic.params(g)], axis=1),
        np.array(limits),
    )


def test_the_evolution_finds_the_exact_best_of_what_can_be_enumerated() -> None:
    space = space_named("macro")
    every = np.array(np.meshgrid(*[range(3)] * 8, indexing="ij")).reshape(8, -1).T.astype(np.int64)
    objective = objective_of(space, [[m, p] for m in (6e6, 2e7, 6e7) for p in (3e5, 1e6, 4e6)])
    accuracy, costs = objective.accuracy(space.same(every)), objective.costs(every)  # type: ignore[misc]
    found = evolve(objective, np.random.default_rng(0), Effort(100, 30))
    for row, limit in enumerate(objective.limits):
        met = (costs <= limit).all(axis=1)
        assert found.accuracy[row, 0] == pytest.approx(accuracy[met].max()) if met.any() else found.excess[row] > 0


def test_the_same_seed_finds_the_same_networks() -> None:
    objective = objective_of(space_named("mbconv"), [[2e8, 4e6], [4e8, 6e6]])
    one, other = (evolve(objective, np.random.default_rng(3), SMALL) for _ in range(2))
    assert (one.genomes == other.genomes).all()
    assert (one.accuracy == other.accuracy).all()


def test_every_network_found_meets_all_of_its_limits() -> None:
    objective = objective_of(space_named("mbconv"), [[m, p] for m in (1e8, 2e8, 4e8) for p in (2.5e6, 4e6)])
    found = evolve(objective, np.random.default_rng(0), SMALL)
    for row, limit in enumerate(objective.limits):
        for genome in found.genomes[row][np.isfinite(found.accuracy[row])]:
            assert (objective.costs(genome[None])[0] <= limit).all()


def test_limits_that_nothing_meets_end_with_how_far_the_nearest_is() -> None:
    objective = objective_of(space_named("mbconv"), [[1e3, 1e9]])
    found = evolve(objective, np.random.default_rng(0))
    cheapest = objective.costs(np.array([[g.choices[0] for g in objective.space.genes]]))[0, 0]
    assert found.evaluations == 0
    assert found.excess[0] == pytest.approx(cheapest / 1e3 - 1)


@pytest.fixture
def stored(tmp_path: Path):  # type: ignore[no-untyped-def]
    with open_store(tmp_path / "lut.db") as store:
        fill(store, space_named("macro"))
        yield store


def question(**more: object) -> Question:
    asked = {"limits": (Limit("latency_ms", 3.0),), "effort": SMALL, **more}
    return Question(space_named("macro"), (TARGET,), **asked)  # type: ignore[arg-type]


def test_the_search_path_goes_from_a_stored_table_to_model_files(stored: LutStore, tmp_path: Path) -> None:
    result = search(stored, samples_of(space_named("macro")), question())
    write_front(result, tmp_path)
    written, refused = export_winner(result, tmp_path)
    rows = json.loads((tmp_path / "front.json").read_text())
    assert not refused
    assert {path.name for path in written} == {"winner.onnx", "winner.tflite"}
    onnx.checker.check_model(onnx.load(tmp_path / "winner.onnx"))
    assert result.winner is not None
    assert rows[-1]["genome"] == list(result.winner.genome)
    assert rows[-1]["latency_ms"] <= 3.0
    lut = stored.lut(TARGET)
    assert rows[-1]["latency_ms"] == pytest.approx(lut.predict(result.network(result.winner)) / 1e6)
    assert [row["accuracy"] for row in rows] == sorted(row["accuracy"] for row in rows)


def test_several_limits_are_answered_at_once_and_each_is_met(stored: LutStore) -> None:
    asked = question(limits=(Limit("latency_ms", 4.0), Limit("params_m", 1.0)), sweep=(1.0, 2.0, 4.0))
    for candidate in search(stored, samples_of(space_named("macro")), asked).candidates:
        assert candidate.latency_ms is not None
        assert candidate.latency_ms <= candidate.limit
        assert candidate.params_m <= 1.0


def test_a_network_for_several_targets_meets_the_limit_of_each(stored: LutStore) -> None:
    other = Target(**{**{f: getattr(TARGET, f) for f in TARGET.__slots__}, "device": "other"})
    stored.put_target(other)
    entries = entries_of(space_named("macro"))
    stored.put_lowerings(other, list(anywhere(entries).values()), [NativeOp(e.key, e.weight_bytes) for e in entries])
    rows = [Measurement(e.key, ((int(e.latency_ns * 20),) * 6,), (0.0,), 10, 0.0) for e in entries]
    stored.append(other, Session(0.0, "1", "1", {}, {}), rows, "other")
    limits = (Limit("latency_ms", 3.0, 0), Limit("latency_ms", 4.0, 1))
    asked = Question(space_named("macro"), (TARGET, other), limits, effort=SMALL)
    winner = search(stored, samples_of(space_named("macro")), asked).winner
    assert winner is not None
    assert winner.latencies_ms[TARGET.name] <= 3.0
    assert winner.latencies_ms[other.name] <= 4.0


def test_a_risk_keeps_away_from_the_limit_by_the_calibrations_error(stored: LutStore) -> None:
    known = samples_of(space_named("macro"))
    with pytest.raises(LutError, match="chamnet validate --device bench --space macro"):
        search(stored, known, question(risk=0.05))
    stored.put_calibration(TARGET, Calibration("macro", 1.0, 0.0, 0.0, ("a", "b"), (0.1, -0.1)))
    careful = search(stored, known, question(risk=0.05)).winner
    assert careful is not None
    assert careful.latency_ms is not None
    assert careful.latency_ms * (1 + 1.645 * np.sqrt(0.02)) <= 3.0 * 1.001


def test_a_table_without_operators_is_not_what_a_name_means(stored: LutStore) -> None:
    stored.put_target(replace(TARGET, dtype="bfloat16"))
    assert choose_target(stored, TARGET.device) == TARGET
    assert stored.target_named(TARGET.device) == TARGET


def test_without_options_the_usual_table_of_an_engine_is_meant(stored: LutStore) -> None:
    quick = fill(stored, space_named("macro"), replace(TARGET, options=(("mode", "quick"),)))
    with pytest.raises(UsageError, match=f"but got 2: {TARGET.name}, {quick.name}; a search takes one by name"):
        choose_target(stored, TARGET.device)
    assert choose_target(stored, TARGET.device, TARGET.engine, TARGET.dtype) == TARGET
    assert stored.target_named("fake quick") == quick


def test_a_device_without_a_table_is_told_how_to_have_one(stored: LutStore) -> None:
    with pytest.raises(UsageError, match="none does: bench was measured; 'chamnet profile --device local-gpu'"):
        choose_target(stored, "local-gpu")


def test_advice_names_all_that_means_a_table() -> None:
    target = replace(TARGET, engine="openvino", options=(("malloc", "default"), ("precision", "bfloat16")))
    assert how_to_ask(target) == "--engine openvino --dtype float32 --threads 1 --engine-option precision=bfloat16"
    on_gpu = replace(TARGET, engine="torch-cuda", accelerator="cuda", options=(("gpu", "sm90"), ("tf32", "on")))
    assert how_to_ask(on_gpu) == "--engine torch-cuda --dtype float32 --threads 1 --engine-option tf32=on"
    delegated = replace(TARGET, engine="benchmark_model", accelerator="hexagon")
    assert how_to_ask(delegated) == "--engine benchmark_model --accelerator hexagon --dtype float32 --threads 1"


def test_fixed_genes_keep_their_values(stored: LutStore) -> None:
    result = search(stored, samples_of(space_named("macro")), question(fixed={"layer0": (1,)}))
    assert {candidate.genome[0] for candidate in result.candidates} == {1}


def test_a_gene_fixed_twice_to_one_value_has_it_once() -> None:
    assert space_named("macro").narrowed({"layer0": (1, 2, 1)}).genes[0].choices == (1, 2)


def test_what_cannot_be_searched_is_an_error_that_says_why(stored: LutStore) -> None:
    known = samples_of(space_named("macro"))
    with pytest.raises(LutError, match=r"exceeds latency_ms \(at least [\d.]+, [\d.]+ % above 0.001\); raise"):
        search(stored, known, question(limits=(Limit("latency_ms", 0.001), Limit("params_m", 100.0))))
    with pytest.raises(LutError, match=r"exceeds params_m \("):
        search(stored, known, question(limits=(Limit("latency_ms", 100.0), Limit("params_m", 0.01))))
    with pytest.raises(LutError, match=r"--risk must be a probability above 0 and up to 0.5"):
        search(stored, known, question(risk=1.5))
    with pytest.raises(LutError, match="at least 8 trained networks, but got 3"):
        search(stored, known[:3], question())
    with pytest.raises(LutError, match="must have energies"):
        search(stored, known, question(limits=(Limit("energy_mj", 1.0),)))
    with pytest.raises(LutError, match="--recipe must be one of none"):
        search(stored, known, question(recipe="long"))
    with pytest.raises(LutError, match="a predictor must be one of gp"):
        search(stored, known, question(predictor="oracle"))


def test_the_builtin_samples_lie_in_their_spaces() -> None:
    assert len(builtin_samples("mbconv")) == 2000
    published = builtin_samples("chamnet-mobile")
    assert len(published) == 28
    assert {sample.recipe for sample in published} == {"chamnet", "slim-v2"}
    assert builtin_samples("macro") == ()


def test_few_builtin_samples_show_as_uncertainty_far_from_them(tmp_path: Path) -> None:
    from search.features import training_inputs
    from search.predictors.gp import fit
    from search.samples import training_set

    space = space_named("chamnet-mobile")
    part = space_of("chamnet-mobile")
    training = training_set(space, builtin_samples(space.name))
    arithmetic = Arithmetic(build_cells(part))
    process = fit(training_inputs(space, arithmetic, training.genomes, training.recipes), training.accuracy_percent)
    _, near = process.predict_std(training_inputs(space, arithmetic, training.genomes, training.recipes))
    far = part.sample_many(np.random.default_rng(0), 200)
    _, away = process.predict_std(training_inputs(space, arithmetic, far, np.zeros(200, np.int64)))
    assert np.median(away) > 2 * np.median(near)


def test_macs_by_scale_sum_to_all_of_them() -> None:
    from ops_catalog.networks import build_network

    shares = macs_by_scale(build_network("mobilenet-v2"))
    assert sum(shares.values()) == pytest.approx(100)
    assert list(shares) == [2, 4, 8, 16, 32, 224]
    assert shares[4] < shares[16]


def test_samples_are_stored_once_and_a_success_replaces_a_failure(tmp_path: Path) -> None:
    failed = AccuracySample("macro", "0-0-0-0-0-0-0-1", "d", "r", None, failure="it broke")
    better = AccuracySample("macro", "0-0-0-0-0-0-0-1", "d", "r", 71.0)
    with open_samples(tmp_path / "s.db") as store:
        assert isinstance(store, SampleStore)
        assert [store.put([failed]), store.put([better]), store.put([better]), store.put([failed])] == [1, 1, 0, 0]
        assert [sample.accuracy_percent for sample in store.samples("macro")] == [71.0]
        assert store.samples("macro", dataset="other") == []


def test_an_operator_has_the_same_key_in_the_tables_and_in_the_space() -> None:
    op = next(iter(space_named("mbconv").operators("int8")))
    assert op == op_with_dtype(next(iter(space_named("mbconv").operators())), "int8")


def test_a_calibration_on_verified_networks_prices_them_as_measured(stored: LutStore) -> None:
    result = search(stored, samples_of(space_named("macro")), question(sweep=(2.5, 3.0, 3.5, 4.0, 5.0, 6.0)))
    chosen = choose(result, 4, spread=True)
    assert chosen[0] == result.winner
    assert len({candidate.genome for candidate in chosen}) == 4
    slower = {c.genome: 1.3 * c.latency_ms for c in chosen if c.latency_ms is not None}
    recalibrate(stored, TARGET, result, Verification(slower, 1.0, None))
    again = search(stored, samples_of(space_named("macro")), question())
    assert again.winner is not None
    plain = stored.lut(TARGET).predict(result.network(again.winner)) / 1e6
    assert again.winner.latency_ms == pytest.approx(1.3 * plain, rel=0.02)
    with pytest.raises(HostError, match="at least 4 networks, but 1 were verified"):
        recalibrate(stored, TARGET, result, Verification(dict([next(iter(slower.items()))]), 1.0, None))
