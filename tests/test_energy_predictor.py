"""Energies that were not metered: of operators from a few readings, of whole networks from genes and latencies."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import check_grad

from benchmarks.power_boards import make_board
from benchmarks.power_devices import Bench, make_bench
from host import cli
from lut_db.errors import LutError
from lut_db.records import LutEntry
from search.predictors import Array
from search.predictors.additive import Noise, Points, Term, surprise
from search.predictors.additive_fit import Problem, fit, prior_process, typical
from search.predictors.energy import LEAST, EnergyModel, Metered, choose, fit_energy
from search.predictors.energy_evaluate import constant_power, errors_of, evaluate_energy
from search.predictors.network_power import Mixture, Networks, fit_power
from search.predictors.power_features import shape_of

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 3))
GROUPS = RNG.integers(0, 3, 60)
TERMS = (
    Term("class", smooth=False, sd=0.3, within=True),
    Term("line", smooth=False, sd=0.2),
    Term("curve", smooth=True, sd=0.2),
    Term("curve of a class", smooth=True, sd=0.1, within=True),
)
POINTS = Points((np.ones((60, 1)), X, X[:, :1], X), GROUPS)
TARGET = 0.3 * GROUPS + 0.2 * X[:, 0] + 0.1 * np.sin(2 * X[:, 1]) + 0.02 * RNG.standard_normal(60)


def entry(key: str, ns: float = 1000.0, weights: int = 0) -> LutEntry:
    return LutEntry(key, ns, 1.0, 50, 2, weights)


# Processes


def test_the_gradient_of_the_objective_is_its_gradient() -> None:
    problem = Problem(TERMS, POINTS, Noise(0.05), np.full(60, 0.001))
    theta, worth = problem.start + 0.3, np.linspace(0.2, 1.2, 60)
    wrong = check_grad(
        lambda t: problem.objective(t, TARGET, worth)[0], lambda t: problem.objective(t, TARGET, worth)[1], theta
    )
    assert wrong < 1e-3 * np.abs(problem.objective(theta, TARGET, worth)[1]).max()


def test_a_process_tells_groups_and_curves_apart() -> None:
    process = fit(TERMS, POINTS.part(slice(0, 45)), TARGET[:45], Noise(0.05))
    unseen = POINTS.part(slice(45, 60))
    error, sd = process.predict(unseen) - TARGET[45:], np.sqrt(process.variance(unseen) + process.noise_sd**2)
    assert np.abs(error).mean() < 0.05
    assert (np.abs(error) <= 2.5 * sd).mean() >= 0.8


def test_covariance_and_variance_agree() -> None:
    process = fit(TERMS, POINTS.part(slice(0, 45)), TARGET[:45], Noise(0.05))
    unseen = POINTS.part(slice(45, 60))
    np.testing.assert_allclose(np.diag(process.covariance(unseen)), process.variance(unseen), rtol=1e-6)


def test_leaving_a_row_out_is_what_it_says() -> None:
    process = fit(TERMS, POINTS, TARGET, Noise(0.05))
    rest = np.arange(1, 60)
    again = Problem(TERMS, POINTS.part(rest), Noise(0.05), np.zeros(59))
    lower, weights = again.posterior(TARGET[1:] - process.level, process.theta, np.ones(59))
    without = replace(process, points=POINTS.part(rest), weights=weights, lower=lower)
    first = POINTS.part(slice(0, 1))
    error, variance = process.leave_one_out()
    assert error[0] == pytest.approx(TARGET[0] - without.predict(first)[0], rel=1e-3)
    assert variance[0] == pytest.approx(without.variance(first)[0] + process.noise_sd**2, rel=1e-3)


def test_rows_far_off_count_less() -> None:
    spoiled = TARGET.copy()
    spoiled[:3] += 2.0
    process = fit(TERMS, POINTS, spoiled, Noise(0.05, heavy=True))
    assert process.worth[:3].max() < 0.2 * np.median(process.worth)
    assert np.abs(process.predict(POINTS)[3:] - TARGET[3:]).mean() < 0.05


def test_a_process_that_saw_nothing_knows_nothing() -> None:
    process = prior_process(TERMS, POINTS, Noise(0.05))
    assert (process.predict(POINTS) == 0).all()
    assert process.variance(POINTS).min() >= 1.0


def test_the_typical_value_is_not_moved_by_outliers() -> None:
    values = np.concatenate([RNG.normal(1.0, 0.03, 100), [9.0, -9.0, 9.0]])
    centre, scale = typical(values)
    assert centre == pytest.approx(1.0, abs=0.02)
    assert scale < 0.06


def test_surprise_is_the_factor_that_lacks() -> None:
    assert surprise(3.0 * RNG.standard_normal(4000)) == pytest.approx(3.0, rel=0.1)


# Operators


@pytest.mark.parametrize(
    "key, kind, work, outer",
    [
        ("conv2d(1x32x14x14;kernel=1x1;out_channels=64;float32)", "conv2d/pointwise", 32 * 64 * 196, 64),
        ("conv2d(1x3x32x32;kernel=3x3;out_channels=8;stride=2x2;float32)", "conv2d/wide", 3 * 8 * 9 * 256, 8),
        ("~depthwise_conv2d(1x8x14x14;kernel=3x3;float32)@blocked>/1", "depthwise_conv2d", 8 * 9 * 196, 8),
        (
            "nchwc.Conv(1x32x14x14:float;w=64x32x1x1:float|64:float;group=1;kernel_shape=1,1;strides=1,1)",
            "conv/pointwise", 32 * 64 * 196, 64,
        ),
        ("nchwc.Conv(1x16x14x14:float;w=16x1x3x3:float;group=16;strides=2,2)", "conv/depthwise", 16 * 9 * 49, 16),
        ("ai.onnx.Gemm(1x512:float;w=10x512:float|10:float;transB=1)", "gemm", 5120, 10),
        ("nchwc.ReorderInput(1x16x14x14:float;channels_last=0)", "reorderinput", 0, 16),
        ("something else", "something else", 0, 1),
    ],
)  # fmt: skip
def test_a_key_tells_class_and_sizes(key: str, kind: str, work: float, outer: float) -> None:
    shape = shape_of(entry(key))
    assert (shape.kind, shape.work, shape.outer) == (kind, work, outer)


@pytest.fixture(scope="module")
def bench() -> Bench:
    return make_bench("mbconv", 3)


@pytest.fixture(scope="module")
def metered(bench: Bench) -> dict[str, Metered]:
    return bench.meter(choose(bench.entries, 50, bench.usage), np.random.default_rng(5))


@pytest.fixture(scope="module")
def model(bench: Bench, metered: dict[str, Metered]) -> EnergyModel:
    return fit_energy(bench.entries, metered)


def test_energies_that_were_not_metered_are_predicted_closely(bench: Bench, model: EnergyModel) -> None:
    error = relative(bench, model)
    assert np.median(np.abs(error)) < 0.05


def test_intervals_cover_what_they_say(bench: Bench, model: EnergyModel) -> None:
    found = model.energies()
    inside = [found[k].low_uj <= bench.truth[i] <= found[k].high_uj for k, i in bench.places.items()]
    assert 0.88 <= np.mean(inside) <= 1.0


def test_each_value_says_whether_it_was_metered(metered: dict[str, Metered], model: EnergyModel) -> None:
    found = model.energies()
    assert {key for key, energy in found.items() if energy.label == "measured"} == metered.keys()
    key, reading = next(iter(metered.items()))
    assert (found[key].energy_uj, found[key].low_uj, found[key].high_uj) == (
        reading.energy_uj, reading.low_uj, reading.high_uj,
    )  # fmt: skip


def test_operators_of_a_network_err_together(bench: Bench, model: EnergyModel) -> None:
    counts = bench.networks[0]
    unknown = [key for key in counts if key not in model.metered]
    energy, error = model.predict(unknown)
    alone = float(np.sqrt(((energy * error * [counts[key] for key in unknown]) ** 2).sum()))
    assert alone < model.network_error_uj(counts) < float((energy * error * [counts[k] for k in unknown]).sum()) * 1.1


def test_sums_of_networks_lie_within_their_error() -> None:
    inside = []
    for seed in range(6):
        bench = make_bench("mbconv", seed)
        readings = bench.meter(choose(bench.entries, 30, bench.usage), np.random.default_rng(seed))
        model = fit_energy(bench.entries, readings)
        inside += [abs(told - true) <= 1.96 * error for told, true, error in sums(bench, model)]
    assert 0.85 <= np.mean(inside) < 1.0


def test_a_network_of_metered_operators_errs_as_the_meter_does(metered: dict[str, Metered], model: EnergyModel) -> None:
    key = next(iter(metered))
    place = model.learned.index(key)
    error = metered[key].energy_uj * float(np.sqrt(model.meter_variance[place]))
    assert model.network_error_uj({key: 2.0}) == pytest.approx(2.0 * error)


def test_a_class_that_was_never_metered_is_known_less_well(bench: Bench, metered: dict[str, Metered]) -> None:
    some = {key: reading for key, reading in metered.items() if not key.startswith("mul")}
    without = fit_energy(bench.entries, some)
    muls = [key for key in bench.places if key.startswith("mul")]
    others = [key for key in bench.places if key.startswith("depthwise") and key not in metered]
    assert np.median(without.predict(muls)[1]) > 2.0 * np.median(without.predict(others)[1])


def test_operators_are_chosen_once_and_of_every_class(bench: Bench) -> None:
    chosen = choose(bench.entries, 30, bench.usage)
    assert len(set(chosen)) == 30
    kinds = {shape_of(bench.entries[bench.places[key]]).kind for key in chosen}
    assert kinds >= {"conv2d/pointwise", "conv2d/wide", "depthwise_conv2d", "linear", "mul", "global_average_pool"}


def test_what_is_metered_is_not_chosen_again(bench: Bench, model: EnergyModel) -> None:
    more = choose(bench.entries, 40, bench.usage, model)
    assert len(set(more)) == 40
    assert not set(more) & model.metered.keys()
    assert more == choose(list(reversed(bench.entries)), 40, bench.usage, model)


def test_as_many_are_chosen_as_asked_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.predictors.energy.MOST_CANDIDATES", 40)
    assert len(set(choose(bench.entries, 100))) == 100
    assert len(set(choose(bench.entries, 9999))) == len(bench.entries)


def test_chosen_operators_tell_more_of_networks_than_random_ones() -> None:
    ours, at_random = [], []
    for seed in range(3):
        bench, rng = make_bench("mbconv", seed), np.random.default_rng(seed)
        keys = [bench.entries[i].key for i in rng.permutation(len(bench.entries))[:25]]
        ours.append(
            network_error(bench, fit_energy(bench.entries, bench.meter(choose(bench.entries, 25, bench.usage), rng)))
        )
        at_random.append(network_error(bench, fit_energy(bench.entries, bench.meter(keys, rng))))
    assert np.mean(ours) < 0.6 * np.mean(at_random)


def test_intervals_of_few_windows_are_read_as_such(bench: Bench, metered: dict[str, Metered]) -> None:
    """The same interval from three windows means a smaller error than one that is known as of a normal error."""
    plain = fit_energy(bench.entries, {key: replace(m, windows=0) for key, m in metered.items()})
    few = fit_energy(bench.entries, {key: replace(m, windows=3) for key, m in metered.items()})
    assert np.median(few.meter_variance) < 0.5 * np.median(plain.meter_variance)


def test_nothing_is_learned_from_what_drew_nothing(bench: Bench, metered: dict[str, Metered]) -> None:
    key = next(iter(metered))
    model = fit_energy(bench.entries, {**metered, key: Metered(0.0, -1.0, 2.0, 3)})
    assert key not in model.learned
    assert model.energies()[key].energy_uj == 0.0
    assert model.network_error_uj({key: 1.0}) == pytest.approx(3.0 / 3.92, rel=0.01)


def test_readings_that_cannot_be_learned_from_are_refused(bench: Bench, metered: dict[str, Metered]) -> None:
    few = dict(list(metered.items())[: LEAST - 1])
    with pytest.raises(LutError, match=f"at least {LEAST} operators must have an energy"):
        fit_energy(bench.entries, few)
    with pytest.raises(LutError, match="must be in the table, but 'other' is not"):
        fit_energy(bench.entries, {**metered, "other": Metered(1.0, 0.9, 1.1)})
    with pytest.raises(LutError, match="a number within its interval"):
        fit_energy(bench.entries, {**metered, next(iter(metered)): Metered(1.0, 1.2, 1.4)})


def relative(bench: Bench, model: EnergyModel) -> Array:
    found = model.energies()
    return np.array([
        found[key].energy_uj / bench.truth[place] - 1.0
        for key, place in bench.places.items() if key not in model.metered
    ])  # fmt: skip


def sums(bench: Bench, model: EnergyModel) -> list[tuple[float, float, float]]:
    """Of each network: its energy as told and in truth, and its error."""
    found = model.energies()
    return [
        (
            sum(found[key].energy_uj * n for key, n in counts.items()),
            float(sum(bench.truth[bench.places[key]] * n for key, n in counts.items())),
            model.network_error_uj(counts),
        )
        for counts in bench.networks
    ]


def network_error(bench: Bench, model: EnergyModel) -> float:
    return float(np.mean([abs(told / true - 1.0) for told, true, _ in sums(bench, model)]))


# Networks


def part(board: Networks, start: int, stop: int) -> Networks:
    return board.part(np.arange(start, stop))


def typical_share(mixture: Mixture) -> float:
    """How much of the average is the typical power alone."""
    return float(sum(share for share, terms in zip(mixture.shares, mixture.terms, strict=True) if not terms))


@pytest.mark.parametrize(
    "kind",
    ["constant, 3 % noise", "falls with size", "heavy tails, 5 %", "two clocks, by length", "outliers", "memory-bound",
     "three choices much", "latency 10 % off", "skewed up"],
)  # fmt: skip
def test_networks_are_never_predicted_worse_than_by_one_power(kind: str) -> None:
    board = make_board("mbconv", kind, 0)
    rows = evaluate_energy(part(board, 0, 500), part(board, 500, 1400), [60], 3)
    scores = {row["model"]: row for row in rows}
    ours, ten = scores["power-gp"], scores["constant-power"]
    assert ours["mape"] <= ten["mape"]
    assert ours["median_ape"] <= ten["median_ape"]
    assert 0.88 <= ours["coverage95"] <= 0.99


def test_where_power_is_constant_one_number_is_all_that_is_learned() -> None:
    board = make_board("mbconv", "constant, 3 % noise", 1)
    mixture = fit_power(part(board, 0, 200))
    assert typical_share(mixture) > 0.6
    energy, _ = mixture.predict(part(board, 200, 1400))
    power = energy / board.lat_ms[200:]
    assert power.std() / power.mean() < 0.005


def test_where_power_depends_on_genes_it_is_learned() -> None:
    board = make_board("mbconv", "three choices much", 2)
    mixture, unseen = fit_power(part(board, 0, 240)), part(board, 240, 1400)
    assert typical_share(mixture) < 0.05
    ours = errors_of(*mixture.predict(unseen), unseen.energy_mj)
    ten = errors_of(*constant_power(part(board, 0, 240), unseen), unseen.energy_mj)
    assert ours["mape"] < 0.75 * ten["mape"]


def test_where_errors_are_skewed_predictions_lean_towards_their_median() -> None:
    board = make_board("mbconv", "skewed up", 0)
    mixture, unseen = fit_power(part(board, 0, 120)), part(board, 120, 1400)
    leaning, upright = (m.predict(unseen) for m in (mixture, replace(mixture, shift=0.0)))
    assert mixture.shift < 0
    assert errors_of(*leaning, unseen.energy_mj)["mape"] < errors_of(*upright, unseen.energy_mj)["mape"]
    np.testing.assert_array_equal(leaning[1], upright[1])


def test_a_board_without_noise_is_predicted_exactly() -> None:
    board = make_board("macro", "constant, 3 % noise", 0)
    exact = replace(board, energy_mj=5.0 * board.lat_ms)
    energy, error = fit_power(part(exact, 0, 30)).predict(part(exact, 30, 200))
    np.testing.assert_allclose(energy, exact.energy_mj[30:200], rtol=1e-4)
    assert (error > 0).all()


def test_beyond_the_latencies_seen_power_is_as_at_their_edge() -> None:
    board = make_board("mbconv", "falls with size", 0)
    known = part(board, 0, 120)
    mixture, slowest = fit_power(known), known.part(np.array([int(known.lat_ms.argmax())]))
    far = replace(slowest, lat_ms=100.0 * slowest.lat_ms)
    assert mixture.predict(far)[0] == pytest.approx(100.0 * mixture.predict(slowest)[0])


def test_energies_of_the_networks_to_predict_are_not_looked_at() -> None:
    board = make_board("mbconv", "falls with size", 0)
    mixture, unseen = fit_power(part(board, 0, 60)), part(board, 60, 100)
    blind = replace(unseen, energy_mj=np.full(40, np.nan))
    np.testing.assert_array_equal(mixture.predict(unseen)[0], mixture.predict(blind)[0])


def test_too_few_or_impossible_networks_are_refused() -> None:
    board = make_board("mbconv", "falls with size", 0)
    with pytest.raises(LutError, match="at least 10 networks"):
        fit_power(part(board, 0, 9))
    with pytest.raises(LutError, match="every energy must be a positive number"):
        fit_power(replace(part(board, 0, 20), energy_mj=np.zeros(20)))


# The command


def write(path: Path, board: Networks, extra: Sequence[str] = (), spoil: tuple[int, str, str] | None = None) -> Path:
    """A file of networks; ``spoil``: a line, a column, and what is there instead."""
    genes = [f"g{j}" for j in range(board.genes.shape[1])]
    with path.open("w", newline="") as text:
        writer = csv.DictWriter(text, [*extra, *genes, "lat_ms", "energy_mj"])
        writer.writeheader()
        for i in range(len(board)):
            row = dict(zip(genes, board.genes[i].tolist(), strict=True))
            row |= {"lat_ms": board.lat_ms[i], "energy_mj": board.energy_mj[i]}
            row |= {name: f"{i}" if name == "id" else f"net {i}" for name in extra}
            if spoil and spoil[0] == i + 2:
                row[spoil[1]] = spoil[2]
            writer.writerow(row)
    return path


@pytest.fixture
def board() -> Networks:
    return make_board("macro", "falls with size", 0)


def run(tmp_path: Path, *options: str) -> int:
    files = ["--train", str(tmp_path / "a.csv"), "--test", str(tmp_path / "b.csv")]
    return cli.run(["energy", "evaluate", *files, *options])


def test_evaluate_prints_a_row_for_every_model_and_size(
    tmp_path: Path, board: Networks, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a.csv", part(board, 0, 100), ("id", "arch"))
    write(tmp_path / "b.csv", part(board, 100, 300), ("id", "arch"))
    assert run(tmp_path, "--n", "20,40", "--seeds", "2", "--json") == 0
    told = capsys.readouterr()
    rows = json.loads(told.out)
    assert {(row["model"], row["n"]) for row in rows} >= {("power-gp", 20), ("power-gp", 40), ("constant-power", 40)}
    assert all({"model", "n", "mape", "median_ape", "coverage95"} <= row.keys() for row in rows)
    assert all(0 < row["median_ape"] < 20 and 0.5 < row["coverage95"] <= 1 for row in rows)
    assert "left aside: id, arch" in told.err.replace("\n", " ")


def test_evaluate_takes_the_genes_it_is_told(
    tmp_path: Path, board: Networks, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a.csv", part(board, 0, 60))
    write(tmp_path / "b.csv", part(board, 60, 100))
    assert run(tmp_path, "--n", "20", "--seeds", "1", "--features", "g0,g[3-5]", "--json") == 0
    assert "4 genes: g0, g3, g4, g5" in capsys.readouterr().err


@pytest.mark.parametrize(
    "spoil, message",
    [
        ((7, "energy_mj", ""), "line 7 must have a positive number in energy_mj, but got ''"),
        ((3, "lat_ms", "-1"), "line 3 must have a positive number in lat_ms, but got '-1'"),
        ((2, "lat_ms", "nan"), "line 2 must have a positive number in lat_ms, but got 'nan'"),
        ((9, "g2", ""), "line 9 must have a whole number in g2, but got ''"),
        ((9, "g2", "2.5"), "line 9 must have a whole number in g2, but got '2.5'"),
    ],
)
def test_a_cell_that_cannot_be_used_is_named_with_its_line(
    tmp_path: Path, board: Networks, capsys: pytest.CaptureFixture[str], spoil: tuple[int, str, str], message: str
) -> None:
    write(tmp_path / "a.csv", part(board, 0, 60), spoil=spoil)
    write(tmp_path / "b.csv", part(board, 60, 100))
    assert run(tmp_path, "--n", "20", "--seeds", "1") == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, status, message",
    [
        (["--n", "500"], 1, "--n must be from 10 to the 60 networks to train on, but got 500"),
        (["--n", "5"], 2, "--n must be numbers from 10 up"),
        (["--n", "x"], 2, "--n must be numbers from 10 up"),
        (["--n", "20", "--target", "joules"], 1, "must have columns joules"),
        (["--n", "20", "--features", "h*"], 1, "must have columns h*"),
    ],
)
def test_what_cannot_be_evaluated_is_said(
    tmp_path: Path, board: Networks, capsys: pytest.CaptureFixture[str], options: list[str], status: int, message: str
) -> None:
    write(tmp_path / "a.csv", part(board, 0, 60))
    write(tmp_path / "b.csv", part(board, 60, 100))
    assert run(tmp_path, *options) == status
    assert message in capsys.readouterr().err


def test_networks_in_both_files_are_an_error(
    tmp_path: Path, board: Networks, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a.csv", part(board, 0, 60))
    write(tmp_path / "b.csv", part(board, 50, 100))
    assert run(tmp_path, "--n", "20") == 1
    assert "10 of 50 are, such as row 1 of the test file, row 51 of the training file" in capsys.readouterr().err


def test_a_file_that_is_none_is_an_error(tmp_path: Path, board: Networks, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.csv", part(board, 0, 60))
    (tmp_path / "b.csv").write_text("")
    assert run(tmp_path, "--n", "20") == 1
    assert "must have a line of column names and rows" in capsys.readouterr().err
    (tmp_path / "b.csv").unlink()
    assert run(tmp_path, "--n", "20") == 1
    assert "must be in a readable CSV file" in capsys.readouterr().err
