"""Operators that were never measured: predicted between those that were, with honest intervals, asked for in order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from host.budget import Budget, Point, measured_operators, parse_seconds, profile_within
from host.devices import choose_cpus, find_unit
from host.errors import UsageError
from host.setting import Progress, Setting
from lut_db.errors import LutError
from lut_db.lut import LatencyLut, MissingOpsError
from lut_db.records import ANY_CONTEXT, Lowering, LutEntry, Target
from lut_db.store import LutStore, open_store
from ops_catalog import ops
from ops_catalog.build import Network
from ops_catalog.ops import make_op
from ops_catalog.spec import Graph, OpSpec, TensorSpec
from search.active import expected_error, first_operators, next_operators, usage_of
from search.completion import Completed, complete_for_graphs, complete_for_operators
from search.predictors.latency import LatencyModel, fit_latency
from search.predictors.op_features import canonical
from search.staircase import step_of

TARGET = Target("toy", "toy", "1", "cpu", "float32", 1, (0,), "neon")
SPACE = """
name = "toy"
resolution = [16, 32]
classes = 10
[stem]
channels = [8, 16]
[[stage]]
block = "inverted_residual"
channels = [8, 16, 24, 32]
expansion = [1, 2, 4]
kernel = [3, 5]
stride = 2
[[stage]]
block = "inverted_residual"
channels = [16, 24, 32, 48]
expansion = [1, 2, 4]
kernel = [3, 5]
[head]
channels = [32, 64]
"""


def conv(inner: int, outer: int, side: int = 14, kernel: int = 1) -> OpSpec:
    return make_op("conv2d", TensorSpec((1, inner, side, side)), out_channels=outer, kernel=(kernel, kernel))


def cost_ns(op: OpSpec) -> float:
    """A machine that multiplies sixteen output channels at a time."""
    outer = ops.output(op).shape[1]
    wide = -(-outer // 16) * 16 / outer
    return 800.0 + 0.05 * ops.macs(op) * wide + 0.4 * ops.bytes_moved(op)


def table(operators: list[OpSpec], noise: float = 0.01, contexts: tuple[str, ...] = (ANY_CONTEXT,)) -> LatencyLut:
    rng = np.random.default_rng(0)
    entries, lowerings = [], {}
    for op in operators:
        for context in contexts:
            key, slower = f"{op.key}@{context}", 1.0 if context != "plain" else 1.3
            ns = cost_ns(op) * slower * float(np.exp(noise * rng.standard_normal()))
            entries.append(LutEntry(key, ns, 1.0, 50, 2))
            lowerings[op.key, context] = Lowering(op.key, context, (key,), "blocked", ("plain+blocked",))
    return LatencyLut(TARGET, tuple(entries), lowerings)


def every_conv() -> list[OpSpec]:
    sizes = (8, 16, 24, 40, 64, 96, 160)
    return [conv(i, o, side, k) for i in sizes for o in sizes for side in (7, 14, 28) for k in (1, 3)]


@pytest.fixture(scope="module")
def halves() -> tuple[list[OpSpec], list[OpSpec]]:
    order = np.random.default_rng(1).permutation(len(every_conv()))
    operators = [every_conv()[i] for i in order]
    return operators[:80], operators[80:]


@pytest.fixture(scope="module")
def model(halves: tuple[list[OpSpec], list[OpSpec]]) -> LatencyModel:
    return fit_latency(table(halves[0]), {("conv2d", "out"): 16})


def test_operators_left_out_are_predicted_closely(
    halves: tuple[list[OpSpec], list[OpSpec]], model: LatencyModel
) -> None:
    predicted, _ = model.predict([(op, ANY_CONTEXT) for op in halves[1]])
    truth = np.array([cost_ns(op) for op in halves[1]])
    assert np.abs(predicted / truth - 1).mean() < 0.08


def test_intervals_cover_what_they_say(halves: tuple[list[OpSpec], list[OpSpec]], model: LatencyModel) -> None:
    predicted, error = model.predict([(op, ANY_CONTEXT) for op in halves[1]])
    off = np.log(predicted / np.array([cost_ns(op) for op in halves[1]]))
    assert 0.85 <= (np.abs(off) <= 1.96 * error).mean() <= 1.0


def test_an_unknown_operator_type_is_not_predicted(model: LatencyModel) -> None:
    latency, error = model.predict([(make_op("relu", TensorSpec((1, 8))), ANY_CONTEXT)])
    assert np.isnan(latency).all()
    assert np.isnan(error).all()


def test_too_small_a_table_is_an_error() -> None:
    with pytest.raises(LutError, match="at least 6 measured operators"):
        fit_latency(table([conv(8, 8)]), {})


def two_convs(first: OpSpec, second: OpSpec) -> Graph:
    network = Network("two", first.inputs[0].shape)
    made = network.add("conv2d", network.input, **dict(first.attributes))
    return network.finish(network.add("conv2d", made, **dict(second.attributes)))


def test_a_completed_table_prices_new_networks_and_says_so(
    halves: tuple[list[OpSpec], list[OpSpec]], model: LatencyModel
) -> None:
    lut, graph = table(halves[0]), two_convs(conv(24, 50, 14, 3), conv(50, 40, 14, 1))
    with pytest.raises(MissingOpsError):
        lut.predict(graph)
    known = complete_for_graphs(Completed(lut, model, {}), [graph])
    truth = sum(cost_ns(op) for op in graph.operators)
    assert known.lut.predict(graph) == pytest.approx(truth, rel=0.1)
    assert {e.label for e in known.lut.entries if e not in lut.entries} == {"interpolated"}
    assert known.error_ns(graph) > 0


def test_what_was_measured_keeps_its_price(halves: tuple[list[OpSpec], list[OpSpec]], model: LatencyModel) -> None:
    lut = table(halves[0])
    known = complete_for_operators(Completed(lut, model, {}), [*halves[0], *halves[1]])
    assert all(known.lut.by_key[entry.key] == entry for entry in lut.entries)


def test_beyond_the_measured_sizes_only_an_estimate_is_made_and_only_on_request(
    halves: tuple[list[OpSpec], list[OpSpec]], model: LatencyModel
) -> None:
    huge = two_convs(conv(160, 900, 28, 3), conv(900, 160, 28, 1))
    start = Completed(table(halves[0]), model, {})
    refused = complete_for_graphs(start, [huge])
    assert set(refused.outside) == set(huge.operators)
    with pytest.raises(MissingOpsError):
        refused.lut.predict(huge)
    estimated = complete_for_graphs(start, [huge], estimate=True)
    assert estimated.lut.predict(huge) > 0
    assert {e.label for e in estimated.lut.entries if e not in start.lut.entries} == {"estimated"}


def test_an_engine_with_layouts_is_completed_context_by_context(halves: tuple[list[OpSpec], list[OpSpec]]) -> None:
    lut = table(halves[0], contexts=("plain", "blocked"))
    op = halves[1][0]
    known = complete_for_operators(Completed(lut, fit_latency(lut, {}), {}), [op])
    (plain,), (blocked,) = (known.lut.lowerings[op.key, context].natives for context in ("plain", "blocked"))
    assert known.lut.by_key[plain].latency_ns > known.lut.by_key[blocked].latency_ns


def test_a_context_in_which_nothing_was_measured_borrows_the_nearest_one(
    halves: tuple[list[OpSpec], list[OpSpec]],
) -> None:
    lut, graph = table(halves[0], contexts=("blocked",)), two_convs(conv(24, 50, 14, 3), conv(50, 40, 14, 1))
    known = complete_for_graphs(Completed(lut, fit_latency(lut, {}), {}), [graph], estimate=True)
    assert known.lut.predict(graph) > 0


def test_operators_on_one_tread_cost_what_the_measured_one_does(
    halves: tuple[list[OpSpec], list[OpSpec]], model: LatencyModel
) -> None:
    measured = next(op for op in halves[0] if dict(op.attributes)["out_channels"] == 64)
    alike = make_op("conv2d", measured.inputs[0], **{**dict(measured.attributes), "out_channels": 57})
    assert canonical(alike, model.steps) == canonical(measured, model.steps)
    lut = table(halves[0])
    known = complete_for_operators(Completed(lut, model, {}), [alike])
    (native,) = known.lut.lowerings[alike.key, ANY_CONTEXT].natives
    assert known.lut.by_key[native].latency_ns == lut.by_key[f"{measured.key}@{ANY_CONTEXT}"].latency_ns


@pytest.mark.parametrize("step", [1, 8, 16, 32])
def test_the_step_of_a_staircase_is_found_through_noise(step: int) -> None:
    rng = np.random.default_rng(step)
    curve = {
        n: (900 + 25 * (-(-n // step) * step)) * float(np.exp(0.01 * rng.standard_normal())) for n in range(4, 133, 4)
    }
    assert step_of(curve) == step


def test_a_relative_s_table_lets_few_measurements_do(halves: tuple[list[OpSpec], list[OpSpec]]) -> None:
    relative = fit_latency(table(halves[0]), {("conv2d", "out"): 16})
    few = table(halves[1][:12])
    slower = replace(few, entries=tuple(replace(e, latency_ns=2.5 * e.latency_ns) for e in few.entries))
    rows = [(op, ANY_CONTEXT) for op in halves[1][12:]]
    truth = np.array([2.5 * cost_ns(op) for op, _ in rows])
    errors = {}
    for name, base in (("alone", None), ("with its relative", relative)):
        predicted, _ = fit_latency(slower, {("conv2d", "out"): 16}, base).predict(rows)
        errors[name] = float(np.abs(predicted / truth - 1).mean())
    assert errors["with its relative"] < 0.07
    assert errors["with its relative"] < 0.7 * errors["alone"]


def test_the_next_operators_are_those_that_networks_spend_their_time_in(
    halves: tuple[list[OpSpec], list[OpSpec]], model: LatencyModel
) -> None:
    heavy = conv(160, 160, 28, 3)
    usage = usage_of([two_convs(heavy, conv(160, 8, 28, 1)), two_convs(heavy, conv(160, 16, 28, 1))])
    assert next_operators(usage, [], model, 1, ANY_CONTEXT) == [heavy]
    assert heavy not in next_operators(usage, [heavy], model, 9, ANY_CONTEXT)


def test_measuring_lowers_the_expected_error(halves: tuple[list[OpSpec], list[OpSpec]], model: LatencyModel) -> None:
    usage = usage_of([two_convs(conv(24, 48, 14, 3), conv(48, 8, 14, 1))])
    before = expected_error(usage, [], model, ANY_CONTEXT)
    after = expected_error(usage, [usage.operators[0]], model, ANY_CONTEXT)
    assert 0 < after < before


def test_the_first_operators_are_of_every_type() -> None:
    network = Network("n", (1, 8, 8, 8))
    x = network.add("conv2d", network.input, out_channels=8, kernel=(1, 1))
    graph = network.finish(network.add("hard_swish", network.add("depthwise_conv2d", x, kernel=(3, 3))))
    assert {op.type for op in first_operators(usage_of([graph]), 2)} == {"conv2d", "depthwise_conv2d", "hard_swish"}


@pytest.fixture
def store(tmp_path: Path):  # type: ignore[no-untyped-def]
    (tmp_path / "toy.toml").write_text(SPACE)
    with open_store(tmp_path / "lut.db") as opened:
        yield opened


def run(store: LutStore, folder: Path, budget: Budget) -> tuple[list[Point], set[str]]:
    setting, told = Setting("fake", choose_cpus(1)), list[Point]()
    course = profile_within(
        store, find_unit("local-cpu"), setting, str(folder / "toy.toml"), budget, Progress(), tell=told.append
    )
    assert tuple(told) == course.points
    return told, measured_operators(store.lut(store.target_named(course.target)))


def test_a_budgeted_run_stops_at_its_share_and_gets_better(store: LutStore, tmp_path: Path) -> None:
    points, measured = run(store, tmp_path, Budget(fraction=0.5))
    assert points[-1].percent <= 51
    assert points[-1].error_percent is not None
    assert points[0].error_percent is not None
    assert points[-1].error_percent <= points[0].error_percent
    again, same = run(store, tmp_path, Budget(fraction=0.5))
    assert same == measured
    assert len(again) == 1


def test_a_budgeted_run_stops_when_it_is_good_enough(store: LutStore, tmp_path: Path) -> None:
    points, _ = run(store, tmp_path, Budget(error_percent=50.0))
    assert len(points) == 1


@pytest.mark.parametrize("text", ["ten", "10", "0m", "-5m", "1d"])
def test_a_budget_must_be_a_time(text: str) -> None:
    with pytest.raises(UsageError, match="--budget must read like"):
        parse_seconds(text)


def test_budgets_in_seconds_minutes_and_hours() -> None:
    assert [parse_seconds(text) for text in ("90s", "10m", "1.5h")] == [90, 600, 5400]
