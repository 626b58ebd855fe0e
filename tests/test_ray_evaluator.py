"""Trainings side by side on Ray, and the networks that are picked meanwhile (chamnet[fleet]; some chamnet[train])."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from host import cli
from lut_db.errors import LutError
from lut_db.samples import AccuracySample, SampleStore, open_samples
from search.cells import Arithmetic, build_cells
from search.evaluators import STOPPED_EARLY, Ask, Evaluation, Options
from search.evaluators import ray_trainer as module
from search.evaluators.ray_cluster import connected, room
from search.evaluators.ray_trainer import RayTrainer
from search.evaluators.ray_trials import Line, run_trials
from search.features import search_inputs
from search.predictors import fit_predictor
from search.predictors.gp import GaussianProcess
from search.predictors.informative import most_informative
from search.sampling import Plan, Round, architecture_pool, next_network, sample_rounds
from search.spaces import space_named
from search.spaces.space import Genome, Genomes, format_genome
from search.spaces.toml import load_space

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install chamnet[fleet]")

SPACE = space_named("macro")
ARITHMETIC = Arithmetic(build_cells(SPACE))
LONGEST_S = 60.0
NO_NUMBER, WRONG, DIES_ONCE, WAITS = 5, 6, 7, 8


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=80_000_000, log_to_driver=False)
    yield
    ray.shutdown()


def trained(folder: Path, genome: Genome, tell: Callable[[int, float], None]) -> float:
    """A training of four epochs whose accuracy is a gene's, and that can go wrong; leaves a file for each try."""
    kind = genome[0]
    tries = len(list(folder.glob(f"{kind}-*")))
    (folder / f"{kind}-{tries}").touch()
    for epoch in range(1, 4):
        tell(epoch, float(kind))
    if kind == NO_NUMBER:
        raise FloatingPointError("the loss is no number any more")
    if kind == WRONG:
        raise ValueError("no such image")
    if kind == DIES_ONCE and not tries:
        os.kill(os.getpid(), signal.SIGKILL)
    began = time.monotonic()
    while kind == WAITS and not (folder / "seen").exists() and time.monotonic() - began < LONGEST_S:
        time.sleep(0.05)
    return float(kind) if kind != WAITS or (folder / "seen").exists() else 0.0


Outcomes = tuple[Path, list[Evaluation]]


@pytest.fixture(scope="module")
def outcomes(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """Of trainings of every kind, in the order in which they came."""
    folder = tmp_path_factory.mktemp("tries")
    options = Options("", jobs=2, epochs=4, retries=1, work=str(folder / "work"))
    found = []
    for outcome in RayTrainer(partial(trained, folder), "r", options).evaluate(
        [(kind,) for kind in (WAITS, 1, NO_NUMBER, WRONG, DIES_ONCE, 2)]
    ):
        found.append(outcome)
        (folder / "seen").touch()
    return folder, found


def of(kind: int, outcomes: Outcomes) -> tuple[Evaluation, int]:
    """Its outcome, and how often it was tried."""
    folder, found = outcomes
    (outcome,) = (outcome for outcome in found if outcome.genome == (kind,))
    return outcome, len(list(folder.glob(f"{kind}-*")))


def test_outcomes_come_while_others_still_train(outcomes: Outcomes) -> None:
    assert len(outcomes[1]) == 6
    assert outcomes[1][0].genome != (WAITS,)
    assert of(WAITS, outcomes)[0].accuracy_percent == WAITS


@pytest.mark.parametrize("kind", [1, 2])
def test_an_accuracy_is_that_after_the_last_epoch(kind: int, outcomes: Outcomes) -> None:
    outcome, tries = of(kind, outcomes)
    assert (outcome.accuracy_percent, outcome.failure, tries) == (kind, "", 1)
    assert outcome.cost_s is not None


def test_a_loss_that_is_no_number_is_a_failure_that_is_not_tried_again(outcomes: Outcomes) -> None:
    outcome, tries = of(NO_NUMBER, outcomes)
    assert (outcome.accuracy_percent, tries) == (None, 1)
    assert outcome.failure == "the training failed: the loss is no number any more"


def test_a_training_that_goes_wrong_again_is_a_failure_with_its_reason(outcomes: Outcomes) -> None:
    outcome, tries = of(WRONG, outcomes)
    assert (outcome.accuracy_percent, tries) == (None, 2)
    assert outcome.failure == "the training failed: ValueError: no such image"


def test_a_training_whose_process_dies_is_tried_again(outcomes: Outcomes) -> None:
    outcome, tries = of(DIES_ONCE, outcomes)
    assert (outcome.accuracy_percent, tries) == (DIES_ONCE, 2)


def test_nothing_of_ray_tunes_own_stays_in_the_folder_of_checkpoints(outcomes: Outcomes) -> None:
    assert list((outcomes[0] / "work").iterdir()) == []


def test_a_training_that_falls_behind_is_ended_with_a_reason_and_no_accuracy(cluster: None, tmp_path: Path) -> None:
    options = Options("", jobs=1, epochs=4, stop_early=True, work=str(tmp_path / "work"))
    good, bad, better = RayTrainer(partial(trained, tmp_path), "r", options).evaluate([(3,), (1,), (4,)])
    assert (good.accuracy_percent, better.accuracy_percent) == (3.0, 4.0)
    assert bad.accuracy_percent is None
    assert bad.failure.startswith(f"{STOPPED_EARLY} at epoch 1 of 4: 1.00 %")


def test_no_room_for_a_training_is_told_before_it_is_waited_for(cluster: None, tmp_path: Path) -> None:
    assert room(0.5, 0.0) == 4
    options = Options("", gpus_each=0.5, work=str(tmp_path))
    with pytest.raises(LutError, match=r"1 CPU and 0.5 GPU for a training, but the cluster has 2 CPU, 0 GPU"):
        list(RayTrainer(partial(trained, tmp_path), "r", options).evaluate([(1,)]))


@pytest.mark.parametrize(
    ("address", "message"), [("nowhere", "must be auto or HOST:PORT"), ("127.0.0.1:1", "must answer at 127.0.0.1:1")]
)
def test_a_cluster_that_is_not_there_is_one_line(address: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(LutError, match=message), connected(address):
        pass


def test_what_is_not_installed_is_named(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert cli.run(("sample", "--space", "macro", "--evaluator", "ray", "--source", "x.npz")) == 1
    assert "Ray and PyTorch cannot be imported; pip install 'chamnet[fleet,train]'" in capfd.readouterr().err


@pytest.mark.parametrize("step", ["with_parameters", "with_resources", "Tuner"])
def test_whoever_waits_is_told_where_ray_tune_does_not_begin(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*given: object, **named: object) -> None:
        raise TypeError("cannot pickle it")

    monkeypatch.setattr(importlib.import_module("ray.tune"), step, fail)
    line = Line()
    run_trials(partial(trained, tmp_path), Options("", cpus_each=1.0, work=str(tmp_path)), 1, line)
    assert line.outcomes.qsize() == 1
    with pytest.raises(LutError, match="Ray Tune must go on to the last training, but: cannot pickle it"):
        line.outcome()


class Ends:
    """A Tuner that comes to an end although networks wait."""

    def __init__(self, *given: object, **named: object) -> None:
        pass

    def fit(self) -> None:
        pass


class Exits(Ends):
    def fit(self) -> None:
        raise SystemExit("no head any more")


@pytest.mark.parametrize(("tuner", "reason"), [(Ends, "it ended by itself"), (Exits, "no head any more")])
def test_whoever_waits_is_told_where_ray_tune_ends_before_the_last_training(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tuner: type[Ends], reason: str
) -> None:
    monkeypatch.setattr(importlib.import_module("ray.tune"), "Tuner", tuner)
    line = Line()
    run_trials(partial(trained, tmp_path), Options("", cpus_each=1.0, work=str(tmp_path)), 1, line)
    assert line.outcomes.qsize() == 1
    with pytest.raises(LutError, match=reason):
        line.outcome()


def test_a_cluster_is_joined_with_its_token_unless_the_person_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is in a cluster runs programs on its hosts."""
    joined: list[tuple[object, str]] = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda address, **named: joined.append((address, os.environ["RAY_AUTH_MODE"])))
    monkeypatch.setattr(ray, "shutdown", lambda: joined.append(("left", "")))
    for mode in ("", "disabled"):
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
        if not mode:
            monkeypatch.delenv("RAY_AUTH_MODE")
        with connected("auto"):
            joined.append(("searches", ""))
    assert joined == [("auto", "token"), ("searches", ""), ("left", ""),
                      ("auto", "disabled"), ("searches", ""), ("left", "")]  # fmt: skip


def test_a_cluster_that_lets_nobody_in_without_its_token_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(address: str, **named: object) -> None:
        raise ray.exceptions.AuthenticationError("no authentication token was found. Ensure that\n\nand more")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with (
        pytest.raises(LutError, match=r"but: no authentication token was found; .*~/.ray/auth_token"),
        connected("auto"),
    ):
        pass


class SideBySide:
    """Trains nothing, so many at once; whichever was given last ends first."""

    recipe = "r"
    pool: Genomes | None = None

    def __init__(self, at_once: int, begun: Sequence[Genome] = (), fails: bool = False) -> None:
        self.given: list[Genome] = []
        self.with_pending: list[int] = []
        self._at_once, self._begun, self._fails = at_once, list(begun), fails

    def begun(self) -> list[Genome]:
        return self._begun

    def evaluate(self, genomes: Sequence[Genome]) -> Iterator[Evaluation]:
        raise AssertionError("there are no rounds")

    def stream(self, ask: Ask) -> Generator[Evaluation]:
        pending: list[Genome] = []
        more = True
        while more or pending:
            while more and len(pending) < self._at_once:
                genome = ask(tuple(pending))
                more = genome is not None
                if genome is not None:
                    self.given.append(genome)
                    self.with_pending.append(len(pending))
                    pending.append(genome)
            if pending:
                genome = pending.pop()
                failed = self._fails and genome[0] == 0
                yield Evaluation(genome, None if failed else accuracy(genome), "out of memory" if failed else "")


def accuracy(genome: Genome) -> float:
    return 60.0 + sum(genome) + 0.5 * genome[0] * genome[1]


def sampled(store: SampleStore, evaluator: SideBySide, plan: Plan) -> list[Round]:
    told: list[Round] = []
    blank = AccuracySample(SPACE.name, "", "made-up", "r", None)
    sample_rounds(store, blank, SPACE, ARITHMETIC, evaluator, plan, told.append)
    return told


@pytest.mark.parametrize("strategy", ["mixed", "variance", "random"])
def test_a_network_that_has_ended_is_followed_by_the_next(strategy: str, tmp_path: Path) -> None:
    evaluator = SideBySide(at_once=3)
    with open_samples(tmp_path / "s.db") as store:
        told = sampled(store, evaluator, Plan(2, 9, strategy))
        rows = store.samples("macro")
    assert len(rows) == len(set(evaluator.given)) == 18
    assert evaluator.with_pending == [0, 1, *[2] * 16]
    assert [state.trained for state in told] == [0, 9, 18]


def test_asynchronous_sampling_goes_on_where_it_stopped_and_ends_at_once_when_done(tmp_path: Path) -> None:
    with open_samples(tmp_path / "s.db") as store:
        sampled(store, SideBySide(2), Plan(1, 10))
        sampled(store, second := SideBySide(2), Plan(2, 10))
        sampled(store, third := SideBySide(2), Plan(2, 10))
        assert len({sample.genome for sample in store.samples("macro")}) == 20
    assert (len(second.given), third.given) == (10, [])


def test_what_an_earlier_call_began_is_trained_first(tmp_path: Path) -> None:
    pool = architecture_pool(SPACE, 2048, Plan(1, 4))
    begun = [tuple(pool[700].tolist()), tuple(pool[40].tolist())]
    with open_samples(tmp_path / "s.db") as store:
        sampled(store, SideBySide(2), Plan(1, 9))
        sampled(store, evaluator := SideBySide(2, [*begun, (9,) * 8]), Plan(2, 9))
    assert evaluator.given[:2] == begun
    assert (9,) * 8 not in evaluator.given


def test_no_more_are_asked_for_once_the_error_is_small_enough(tmp_path: Path) -> None:
    evaluator = SideBySide(at_once=3)
    with open_samples(tmp_path / "s.db") as store:
        told = sampled(store, evaluator, Plan(20, 8, until_rmse=50.0))
        assert len(store.samples("macro")) == len(evaluator.given) == told[-1].trained == 10


def test_failures_count_and_are_not_tried_again(tmp_path: Path) -> None:
    with open_samples(tmp_path / "s.db") as store:
        told = sampled(store, evaluator := SideBySide(3, fails=True), Plan(3, 10))
    failed = sum(genome[0] == 0 for genome in evaluator.given)
    assert (told[-1].trained, told[-1].failed, told[-1].stopped_early) == (30 - failed, failed, 0)
    assert 0 < failed < 30
    assert len(set(evaluator.given)) == 30


def samples(genomes: Genomes) -> list[AccuracySample]:
    rows = [tuple(map(int, genome)) for genome in genomes]
    return [AccuracySample("macro", format_genome(row), "d", "r", accuracy(row)) for row in rows]


@pytest.mark.parametrize("strategy", ["mixed", "variance"])
def test_a_pick_keeps_away_from_what_is_being_trained(strategy: str) -> None:
    plan = Plan(10, 10, strategy)
    pool = architecture_pool(SPACE, 512, plan)
    known = samples(pool[:20])
    pending: list[Genome] = []
    for _ in range(6):
        genome = next_network(known, pending, pool, ARITHMETIC, plan)
        assert genome is not None
        assert genome not in pending
        pending.append(genome)
    picked = {format_genome(genome) for genome in pending}
    assert not picked & {sample.genome for sample in known}


def test_picks_one_by_one_are_those_that_tell_the_most_together() -> None:
    plan = Plan(10, 10, "variance")
    pool = architecture_pool(SPACE, 512, plan)
    known, left = samples(pool[:20]), pool[20:]
    percent = np.array([accuracy(tuple(genome)) for genome in pool[:20].tolist()])
    process = fit_predictor("gp", search_inputs(ARITHMETIC, pool[:20]), percent)
    assert isinstance(process, GaussianProcess)
    together = left[most_informative(process, search_inputs(ARITHMETIC, left), 5)].tolist()
    pending: list[Genome] = []
    for _ in range(5):
        genome = next_network(known, pending, pool, ARITHMETIC, plan)
        assert genome is not None
        pending.append(genome)
    assert pending == list(map(tuple, together))
    alone = process.predict_std(search_inputs(ARITHMETIC, left))[1].argsort()[::-1][:5]
    assert set(pending) != set(map(tuple, left[alone].tolist()))


def test_a_pool_of_which_all_are_in_training_gives_none_and_one_used_up_is_an_error() -> None:
    plan = Plan(2, 10)
    pool = architecture_pool(SPACE, 16, plan)
    pending = [tuple(map(int, genome)) for genome in pool[10:]]
    assert next_network(samples(pool[:10]), pending, pool, ARITHMETIC, plan) is None
    with pytest.raises(LutError, match="that were not tried"):
        next_network(samples(pool), [], pool, ARITHMETIC, plan)


def test_a_process_that_believes_keeps_its_means_and_doubts_less() -> None:
    pool = architecture_pool(SPACE, 256, Plan(1, 1))
    percent = np.array([accuracy(tuple(genome)) for genome in pool.tolist()])
    inputs = search_inputs(ARITHMETIC, pool)
    process = fit_predictor("gp", inputs.part(np.arange(30)), percent[:30])
    assert isinstance(process, GaussianProcess)
    believed, rest = inputs.part(np.arange(30, 36)), inputs.part(np.arange(30, len(pool)))
    other = process.believing(believed)
    mean, std = process.predict_std(rest)
    again, less = other.predict_std(rest)
    np.testing.assert_allclose(again, mean, rtol=1e-9)
    assert (less <= std * (1 + 1e-9)).all()
    assert (less[:6] < 0.99 * std[:6]).all()
    exact = np.linalg.cholesky(other.lower @ other.lower.T)
    np.testing.assert_allclose(other.lower, exact, atol=1e-9)
    np.testing.assert_allclose(other.lower @ (other.lower.T @ other.weights), other.target, atol=1e-6)


TINY = """
resolution = 16
classes = 3
[stem]
channels = 8
[[stage]]
block = "inverted_residual"
channels = [8, 12]
expansion = [1, 2, 3, 4]
depth = [1, 2]
stride = 2
"""


def write_stripes(path: Path, count: int = 160) -> None:
    """Images of three classes: bright left, right or in the middle, under noise."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, count)
    images = rng.random((count, 16, 16, 3)) * 150
    for image, label in zip(images, labels, strict=True):
        image[:, (0, 11, 5)[label] : (5, 16, 11)[label]] += 60
    np.savez(path, x_train=images[40:].astype(np.uint8), y_train=labels[40:], x_test=images[:40].astype(np.uint8),
             y_test=labels[:40])  # fmt: skip


def plain(tmp_path: Path, epochs: int, genomes: Sequence[Genome]) -> dict[Genome, float | None]:
    """One after the other, without Ray."""
    from search.evaluators.torch_trainer import open_evaluator

    options = Options(str(tmp_path / "images.npz"), epochs=epochs, cpus_each=1)
    trainer = open_evaluator(load_space(tmp_path / "space.toml"), options)
    return {outcome.genome: outcome.accuracy_percent for outcome in trainer.evaluate(genomes)}


def test_trainings_side_by_side_have_the_outcomes_of_one_after_the_other(cluster: None, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install chamnet[train]")
    (tmp_path / "space.toml").write_text(TINY)
    write_stripes(tmp_path / "images.npz")
    genomes = [(8, 1, 1), (12, 3, 2), (8, 4, 2), (12, 2, 1)]
    options = Options(str(tmp_path / "images.npz"), jobs=2, epochs=3, work=str(tmp_path / "work"))
    trainer = module.open_evaluator(load_space(tmp_path / "space.toml"), options)
    found = {outcome.genome: outcome.accuracy_percent for outcome in trainer.evaluate(genomes)}
    assert found == plain(tmp_path, 3, genomes)
    assert set(trainer.begun()) == set(genomes)
    other = module.open_evaluator(load_space(tmp_path / "space.toml"), replace(options, seed=1))
    assert other.begun() == []


def test_a_sampling_that_was_killed_goes_on_from_its_checkpoints(
    cluster: None, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install chamnet[train]")
    (tmp_path / "space.toml").write_text(TINY)
    write_stripes(tmp_path / "images.npz")
    epochs, work, db = 40, tmp_path / "work", tmp_path / "s.db"
    command = (
        "sample", "--space", str(tmp_path / "space.toml"), "--evaluator", "ray", "--work", str(work), "--db", str(db),
        "--source", str(tmp_path / "images.npz"), "--epochs", str(epochs), "--rounds", "1", "--per-round", "3",
        "--jobs", "2",
    )  # fmt: skip
    script = f"import sys; from host.cli import main; main({command!r})"
    running = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parent.parent)
    try:
        began = time.monotonic()
        while not list(work.glob("*.pt")) and time.monotonic() - began < LONGEST_S:
            time.sleep(0.02)
    finally:
        running.kill()
        running.wait()
    files = list(work.glob("*.pt"))
    assert files
    assert all(torch.load(path, weights_only=True)["epochs"] < epochs for path in files)
    assert cli.run(command) == 0, capfd.readouterr().err
    with open_samples(db) as store:
        rows = store.samples()
    assert len(rows) == 3
    assert {path.name.split("-", 1)[1].rsplit("-", 3)[0] for path in files} <= {row.genome for row in rows}
    wanted = plain(tmp_path, epochs, [tuple(map(int, row.genome.split("-"))) for row in rows])
    assert [row.accuracy_percent for row in rows] == list(wanted.values())
