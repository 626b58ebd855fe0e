"""Predictors of accuracy: what a fit promises, its gradients, files, and where networks to train come from."""

from __future__ import annotations

import csv
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import check_grad

from host import cli
from lut_db.errors import LutError
from lut_db.samples import AccuracySample, open_samples
from search.cells import Arithmetic, Array, build_cells
from search.evaluators import Options, open_evaluator
from search.evaluators.process import KEPT_BYTES, run_command
from search.predictors import PREDICTORS, Inputs, fit_predictor, gp, plain_inputs
from search.predictors.design import learn_design
from search.predictors.evaluate import scores
from search.predictors.file import load, save
from search.predictors.informative import most_informative
from search.samples import read_csv, training_set, write_csv
from search.sampling import Plan, Round, architecture_pool, sample_rounds
from search.spaces import space_named
from search.spaces.space import SearchSpace

RNG = np.random.default_rng(0)
GENES = np.stack(
    [RNG.choice(c, 400) for c in ((1, 4, 6), (3, 5), (1, 2, 3), (0, 1), (16, 24, 32, 40, 48, 64, 80, 96, 128))], axis=1
)
COSTS = np.exp(0.5 * np.log(GENES[:, [0, 2]]) + 0.1 * GENES[:, [3]])
NETWORKS = plain_inputs(GENES, COSTS)


def truth(genes: Array) -> Array:
    return np.asarray(90 - 30 / (1 + np.log(genes[:, 0] + genes[:, 4] / 16) + 0.3 * genes[:, 2]) + 0.8 * genes[:, 3])


ACCURACY = truth(GENES) + RNG.normal(0, 0.2, 400)
SEEN, UNSEEN = np.arange(120), np.arange(200, 400)


@pytest.fixture(scope="module")
def process() -> gp.GaussianProcess:
    return gp.fit(NETWORKS.part(SEEN), ACCURACY[SEEN])


@pytest.mark.parametrize("name", PREDICTORS)
def test_a_predictor_ranks_networks_that_it_never_saw(name: str) -> None:
    predictor = fit_predictor(name, NETWORKS.part(SEEN), ACCURACY[SEEN])
    mean, std = predictor.predict_std(NETWORKS.part(UNSEEN))
    found = scores(mean, std, ACCURACY[UNSEEN])
    assert (found["kendall_tau"] or 0) > 0.75
    np.testing.assert_allclose(mean, predictor.predict(NETWORKS.part(UNSEEN)), rtol=1e-9)


def test_the_process_knows_how_far_it_is_off(process: gp.GaussianProcess) -> None:
    found = scores(*process.predict_std(NETWORKS.part(UNSEEN)), ACCURACY[UNSEEN])
    assert 0.85 <= (found["coverage95"] or 0) <= 1.0
    assert (found["rmse"] or 9) < 0.4


def test_the_gradient_of_the_objective_is_its_gradient() -> None:
    design = learn_design(NETWORKS.part(SEEN[:40]))
    few = NETWORKS.part(SEEN[:40])
    problem = gp._problem(design, design.numbers(few), design.one_hot(few), design.tallies(few))
    target = (ACCURACY[SEEN[:40]] - ACCURACY[SEEN[:40]].mean()) / ACCURACY[SEEN[:40]].std()
    theta = problem.prior[0] + np.random.default_rng(1).normal(0, 0.3, problem.prior.shape[1])
    away = check_grad(lambda t: problem.objective(t, target)[0], lambda t: problem.objective(t, target)[1], theta)
    assert away < 1e-3


def test_genes_of_the_same_choices_are_alike_and_their_choices_are_tallied() -> None:
    rng = np.random.default_rng(3)
    genes = np.stack([rng.choice(c, 50) for c in ((1, 2), (3, 5), (1, 2), (1, 2))], axis=1)
    design = learn_design(plain_inputs(genes))
    assert design.alike == [[0, 2, 3]]
    ones = (genes[:, [0, 2, 3]] == 1).mean(axis=1)
    np.testing.assert_allclose(design.tallies(plain_inputs(genes))[:, 0], (ones - 0.5) * 3**0.5)


def test_leaving_one_out_is_what_refitting_without_it_gives(process: gp.GaussianProcess) -> None:
    mean, std, own = process.leave_one_out()
    np.testing.assert_allclose(np.sort(own), np.sort(ACCURACY[SEEN]), rtol=1e-6)
    row = 7
    kept = np.delete(np.arange(len(own)), row)
    covariance = process.lower @ process.lower.T
    weights = np.linalg.solve(covariance[np.ix_(kept, kept)], process.target[kept])
    again = process._accuracy(np.array([covariance[row, kept] @ weights]))
    assert mean[row] == pytest.approx(again[0])
    assert (std > 0).all()


def test_predictions_and_variances_agree_with_the_full_covariance(process: gp.GaussianProcess) -> None:
    few = NETWORKS.part(UNSEEN[:9])
    _, std = process.predict_std(few)
    wanted = process._percent(process.predict(few), np.sqrt(np.diag(process.covariance(few)) + process.noise))
    np.testing.assert_allclose(std, wanted, rtol=1e-6)


def test_a_saved_process_predicts_the_same(process: gp.GaussianProcess, tmp_path: Path) -> None:
    save(process, tmp_path / "p.npz")
    again = load(tmp_path / "p.npz")
    np.testing.assert_array_equal(again.predict(NETWORKS), process.predict(NETWORKS))
    (tmp_path / "bad.npz").write_bytes(b"no")
    with pytest.raises(LutError, match="chamnet predictor fit"):
        load(tmp_path / "bad.npz")


def test_recipes_shift_accuracies_and_the_process_learns_by_how_much() -> None:
    recipe = np.random.default_rng(2).integers(0, 2, 120)
    inputs = Inputs(GENES[SEEN], COSTS[SEEN], recipe)
    process = gp.fit(inputs, ACCURACY[SEEN] - 3.0 * recipe)
    asked = [Inputs(GENES[UNSEEN], COSTS[UNSEEN], np.full(200, number)) for number in (0, 1)]
    gap = process.predict(asked[0]) - process.predict(asked[1])
    assert np.median(gap) == pytest.approx(3.0, abs=0.4)


def test_what_a_predictor_cannot_learn_from_is_refused() -> None:
    with pytest.raises(LutError, match="at least 8"):
        fit_predictor("gp", NETWORKS.part(SEEN[:5]), ACCURACY[:5])
    with pytest.raises(LutError, match="must be a number"):
        fit_predictor("gp", NETWORKS.part(SEEN), np.full(120, np.nan))


def test_equal_accuracies_are_learned_without_trouble() -> None:
    process = gp.fit(NETWORKS.part(SEEN[:20]), np.full(20, 71.0))
    np.testing.assert_allclose(process.predict(NETWORKS.part(UNSEEN)), 71.0, atol=0.5)


def test_the_most_informative_network_is_the_least_known_once_those_before_it_are(process: gp.GaussianProcess) -> None:
    few = NETWORKS.part(UNSEEN[:40])
    chosen, covariance = most_informative(process, few, 5), process.covariance(few)
    for place in range(5):
        taken = chosen[:place]
        inner = covariance[np.ix_(taken, taken)] + process.noise * np.eye(place)
        left = np.diag(covariance - covariance[:, taken] @ np.linalg.solve(inner, covariance[taken]))
        assert left[chosen[place]] == pytest.approx(np.delete(left, taken).max())


@pytest.mark.parametrize("unbalanced", [False, True])
def test_a_pool_holds_distinct_networks_of_the_space(unbalanced: bool) -> None:
    for name in ("mbconv", "macro"):
        space = space_named(name)
        pool = architecture_pool(space, 512, Plan(1, 1, unbalanced=unbalanced))
        assert len(np.unique(pool, axis=0)) == len(pool)
        for genome in pool[:50]:
            space.check(genome.tolist())


def macro_table(path: Path, count: int = 200) -> None:
    space = space_named("macro")
    genomes = np.unique(space.sample_many(np.random.default_rng(0), count), axis=0)
    accuracy = 60 + 10 * np.log1p(genomes).sum(axis=1) / 8
    with path.open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["arch", "acc"])
        writer.writerows([["".join(map(str, g)), f"{a:.4f}"] for g, a in zip(genomes, accuracy, strict=True)])


def sampled(store, space: SearchSpace, evaluator, plan: Plan) -> list[Round]:  # type: ignore[no-untyped-def]
    told: list[Round] = []
    blank = AccuracySample(space.name, "", "made-up", "r", None)
    sample_rounds(store, blank, space, Arithmetic(build_cells(space)), evaluator, plan, told.append)
    return told


def script(tmp_path: Path, body: str) -> str:
    path = tmp_path / "train.py"
    path.write_text(f"import json, sys, time\nasked = json.loads(sys.stdin.readline())\n{body}\n")
    return f"{sys.executable} {path}"


GOOD = "print('epoch 1'); print(json.dumps({'accuracy': 60 + sum(asked['genome'])}))"


@pytest.mark.parametrize("strategy", ["mixed", "variance", "random"])
def test_sampling_trains_new_networks_and_goes_on_where_it_stopped(strategy: str, tmp_path: Path) -> None:
    space = space_named("macro")
    evaluator = open_evaluator("command", space, Options(script(tmp_path, GOOD), jobs=2))
    with open_samples(tmp_path / "s.db") as store:
        sampled(store, space, evaluator, Plan(1, 8, strategy))
        before = store.samples("macro")
        told = sampled(store, space, evaluator, Plan(3, 8, strategy))
        after = store.samples("macro")
    assert [len(before), len(after)] == [8, 24]
    assert after[:8] == before
    assert len({sample.genome for sample in after}) == 24
    assert told[-1].trained == 24


def test_sampling_stops_at_the_error_that_was_asked_for(tmp_path: Path) -> None:
    space = space_named("macro")
    evaluator = open_evaluator("command", space, Options(script(tmp_path, GOOD), jobs=2))
    with open_samples(tmp_path / "s.db") as store:
        told = sampled(store, space, evaluator, Plan(20, 8, until_rmse=50.0))
    assert told[-1].trained == 8


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("time.sleep(60)", "took longer than 1 s"),
        ("print('no json')", "the last line must be JSON"),
        ("print(json.dumps({'accuracy': 'NaN'}))", "from 0 to 100"),
        ("sys.exit('out of memory')", "status 1: out of memory"),
        ("print(json.dumps({'accuracy': 130}))", "from 0 to 100"),
    ],
)
def test_a_script_that_hangs_prints_garbage_or_dies_is_a_marked_row(body: str, reason: str, tmp_path: Path) -> None:
    space = space_named("macro")
    evaluator = open_evaluator("command", space, Options(script(tmp_path, body), timeout_s=1.0, retries=0))
    started = time.monotonic()
    with open_samples(tmp_path / "s.db") as store:
        told = sampled(store, space, evaluator, Plan(1, 1))
        (row,) = store.samples("macro")
    assert row.accuracy_percent is None
    assert reason in row.failure
    assert told[-1].failed == 1
    assert time.monotonic() - started < 30


def test_a_run_is_ended_though_something_it_left_behind_still_holds_its_output(tmp_path: Path) -> None:
    body = "import subprocess; subprocess.Popen(['sleep', '30'], start_new_session=True); time.sleep(30)"
    started = time.monotonic()
    assert "longer than 1 s" in failure_of(body, tmp_path)
    assert time.monotonic() - started < 15


def test_a_run_that_prints_for_ever_is_ended_and_only_its_end_is_kept(tmp_path: Path) -> None:
    ended = run_command(["sh", "-c", "yes"], "", 1.0, threading.Event())
    assert ended.status is None
    assert 0 < len(ended.out) <= KEPT_BYTES


def test_what_a_run_printed_last_is_kept_to_its_end(tmp_path: Path) -> None:
    body = "print('x' * 500_000); print(json.dumps({'accuracy': 71.5}))"
    evaluator = open_evaluator("command", space_named("macro"), Options(script(tmp_path, body)))
    (found,) = evaluator.evaluate([(0,) * 8])
    assert found.accuracy_percent == 71.5


def test_outcomes_come_as_they_are_ready_and_the_rest_end_with_the_sampling(tmp_path: Path) -> None:
    body = f"time.sleep(60 if asked['genome'][0] else 0); {GOOD}"
    evaluator = open_evaluator("command", space_named("macro"), Options(script(tmp_path, body), jobs=2))
    started = time.monotonic()
    outcomes = evaluator.evaluate([(1,) * 8, (0,) * 8])
    assert next(outcomes).genome == (0,) * 8
    outcomes.close()  # type: ignore[attr-defined]
    assert time.monotonic() - started < 30


def failure_of(body: str, tmp_path: Path) -> str:
    options = Options(script(tmp_path, body), timeout_s=1.0, retries=0)
    (found,) = open_evaluator("command", space_named("macro"), options).evaluate([(0,) * 8])
    return found.failure


def test_a_second_try_can_succeed(tmp_path: Path) -> None:
    body = "sys.exit(1) if asked['try'] == 0 else print(json.dumps({'accuracy': 70}))"
    evaluator = open_evaluator("command", space_named("macro"), Options(script(tmp_path, body), retries=1))
    (found,) = evaluator.evaluate([(0, 1, 2, 0, 1, 2, 0, 1)])
    assert found.accuracy_percent == 70


def test_a_command_that_does_not_exist_is_a_marked_row() -> None:
    evaluator = open_evaluator("command", space_named("macro"), Options("/nowhere/train", retries=0))
    (found,) = evaluator.evaluate([(0,) * 8])
    assert "cannot be started" in found.failure


def test_a_csv_keeps_its_good_rows_and_names_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "genome,acc\n0-0-0-0-0-0-0-1,70\n0-0-0-0-0-0-0-1,71\n0-0-0-0-0-0-0-7,71\n,60\n0-0-0-0-0-0-1-1,nan\n00000012,71.5\n"
    )
    found = read_csv(space_named("macro"), tmp_path / "a.csv", "acc", "d", "r")
    assert [sample.genome for sample in found.samples] == ["0-0-0-0-0-0-0-1", "0-0-0-0-0-0-1-2"]
    assert [line for line, _ in found.refused] == [3, 4, 5, 6]
    assert "comes again" in found.refused[0][1]
    assert "layer7 of macro must be one of 0, 1, 2, but got 7" in found.refused[1][1]


def test_exported_samples_come_back_the_same(tmp_path: Path) -> None:
    space = space_named("macro")
    samples = [AccuracySample("macro", "0-1-2-0-1-2-0-1", "d", "r", 70.5, 3, cost_s=1.5, source="x")]
    write_csv(space, samples, tmp_path / "a.csv")
    (again,) = read_csv(space, tmp_path / "a.csv", "accuracy_percent", "d", "r").samples
    assert (again.genome, again.accuracy_percent, again.seed, again.cost_s) == ("0-1-2-0-1-2-0-1", 70.5, 3, 1.5)


def test_samples_of_several_data_sets_do_not_mix() -> None:
    samples = [AccuracySample("macro", "0-1-2-0-1-2-0-1", name, "r", 70.0) for name in ("a", "b")]
    with pytest.raises(LutError, match="one data set"):
        training_set(space_named("macro"), samples)


def run(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = cli.run(arguments)
    printed = capfd.readouterr()
    return status, printed.out, printed.err


def anonymous(path: Path, rows: Array) -> None:
    with path.open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["id", *(f"g{i}" for i in range(5)), "cost_a", "cost_b", "acc"])
        for row in rows:
            writer.writerow([row, *GENES[row], *COSTS[row], ACCURACY[row]])


def test_predictors_are_compared_on_any_table_of_genes(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    anonymous(Path("a.csv"), SEEN)
    anonymous(Path("b.csv"), UNSEEN)
    common = ("predictor", "evaluate", "--train", "a.csv", "--test", "b.csv", "--target", "acc", "--features", "g*")
    status, out, _ = run(capfd, *common, "--log-features", "cost_a,cost_b", "--n", "30,60", "--seeds", "2", "--json")
    rows = json.loads(out)
    assert status == 0
    assert [(row["model"], row["n"]) for row in rows] == [(name, n) for name in PREDICTORS for n in (30, 60)]
    keys = {"model", "n", "rmse", "kendall_tau", "spearman", "coverage95", "fit_s", "predictions_per_s"}
    assert all(row.keys() == keys for row in rows)
    for extra, message in (
        (("--n", "500"), "at most the 120 networks"),
        (("--n", "two"), "--n must be numbers"),
        (("--log-features", "nope"), "must have columns nope"),
        (("--features", "x*"), "columns like x*"),
    ):
        status, _, err = run(capfd, *common, *extra)
        assert status in (1, 2)
        assert message in err


Arguments = tuple[str, ...]


def test_the_commands_around_samples_work_together(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    macro_table(Path("macro.csv"))
    call: Callable[..., tuple[int, str, str]] = lambda *arguments: run(capfd, *arguments)  # noqa: E731
    imported = ("samples", "import", "macro.csv", "--space", "macro", "--dataset", "cifar10", "--recipe", "full")
    status, _, err = call(*imported, "--accuracy", "acc", "--genome", "arch")
    assert (status, "0 lines refused" in err) == (0, True)
    assert call(*imported)[0] == 1
    status, out, _ = call("samples", "list", "--json")
    assert json.loads(out)[0]["recipe"] == "full"
    assert call("predictor", "fit", "--space", "macro", "--out", "p.npz")[0] == 0
    status, out, err = call(
        "search", "--space", "macro", "--macs-m", "40", "--out", "found", "--generations", "10", "--json"
    )
    assert status == 0, err
    assert json.loads(out) == json.loads(Path("found/front.json").read_text())
    assert {path.name for path in Path("found").iterdir()} == {
        "front.json", "front.csv", "report.html", "winner.onnx", "winner.tflite"
    }  # fmt: skip
    status, out, _ = call(
        "sample", "--space", "macro", "--evaluator", "table", "--source", "macro.csv", "--accuracy", "acc",
        "--rounds", "2",
        "--per-round", "10", "--json",
    )  # fmt: skip
    assert status == 1
    Path("t.csv").write_text(Path("macro.csv").read_text().replace("arch", "genome"))
    status, out, _ = call(
        "sample", "--space", "macro", "--evaluator", "table", "--source", "t.csv", "--accuracy", "acc", "--rounds", "2",
        "--per-round", "10", "--json",
    )  # fmt: skip
    assert (status, json.loads(out)["trained"]) == (0, 20)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--space", "outer", "--macs-m", "3"), "a search space must be one of"),
        (("--space", "macro"), "something must be limited"),
        (("--space", "macro", "--latency-ms", "3"), "must be of a device"),
        (("--space", "macro", "--macs-m", "-3"), "must be above 0"),
        (("--space", "macro", "--macs-m", "inf"), "must be above 0 and finite"),
        (("--space", "macro", "--latency-ms", "3", "--limits", "2:5:3"), "but got both"),
        (("--space", "macro", "--macs-m", "30", "--limits", "5"), "must read like 5:50:20"),
        (("--space", "macro", "--macs-m", "30", "--limits", "5:2:3"), "must go up"),
        (("--space", "macro", "--macs-m", "30", "--fix", "layer9=1"), "must have the gene"),
        (("--space", "macro", "--macs-m", "30", "--fix", "layer0=9"), "must be among"),
        (("--space", "macro", "--macs-m", "30", "--fix", "layer0"), "--fix must read like"),
        (("--space", "macro", "--limit", "latency_ms=3"), "--limit must read like"),
        (("--space", "macro", "--macs-m", "30"), "at least 8 trained networks, but got 0"),
        (("--space", "mbconv", "--macs-m", "1"), "exceeds macs_m"),
        (("--space", "macro", "--device", "phone", "--latency-ms", "3"), "a table must match --device phone"),
    ],
)
def test_a_search_that_cannot_be_meant_is_one_line(
    arguments: Arguments,
    message: str,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with open_samples("chamnet.db"):
        pass
    status, out, err = run(capfd, "search", *arguments)
    assert status in (1, 2)
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
