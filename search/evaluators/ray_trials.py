"""Trainings as trials of Ray Tune, which takes networks from a queue and puts outcomes into another."""

from __future__ import annotations

import logging
import math
import os
import queue
import shutil
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lut_db.errors import LutError
from search.evaluators import STOPPED_EARLY, Evaluation, Options
from search.spaces.space import Genome

Tell = Callable[[int, float], None]
"""Takes epochs done and held-out accuracy in percent; does not come back where the training is to end."""

Training = Callable[[Genome, Tell], float]
"""Trains a network; tells after every epoch but the last; returns held-out accuracy in percent after the last."""

HALVED = 2
"""Of the networks that got to a rung, one in so many goes on; the next rung is at so many times the epochs."""

FIRST_RUNG = 0.25
"""Share of the epochs that every network is trained for."""

SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # outcomes go into the database
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a training that failed reports no accuracy
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}
SHOWN = 200


@dataclass(frozen=True, slots=True)
class Line:
    """What passes between a caller and Ray Tune in another thread.

    Attributes:
        outcomes: last of all, why Ray Tune came to an end.
        closed: no network is wanted any more; what still trains is to end.
    """

    wanted: queue.Queue[Genome] = field(default_factory=queue.Queue)
    outcomes: queue.Queue[Evaluation | BaseException] = field(default_factory=queue.Queue)
    closed: threading.Event = field(default_factory=threading.Event)

    def __reduce__(self) -> Any:
        """Ray Tune writes down all it is given, to be able to go on; from that nothing goes on here."""
        return Line, ()

    def outcome(self) -> Evaluation:
        """The next. Raises LutError where Ray Tune came to an end before."""
        found = self.outcomes.get()
        if isinstance(found, BaseException):
            reason = (str(found).strip() or type(found).__name__).splitlines()[-1][:SHOWN]
            raise LutError(
                f"Ray Tune must go on to the last training, but: {reason}; the same command goes on from there"
            ) from found
        return found


def run_trials(training: Training, options: Options, at_once: int, line: Line) -> None:
    """Runs Ray Tune until the line is closed. However it ends, whoever waits at the line is told."""
    ended: BaseException = RuntimeError("it ended by itself")
    try:
        _fit(training, options, at_once, line)
    except BaseException as error:  # in a thread an exit, too, would go unheard
        ended = error
    line.outcomes.put(ended)


def _fit(training: Training, options: Options, at_once: int, line: Line) -> None:
    """Ray Tune's own books are of no use after it, and go."""
    from ray import tune

    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    books = f"tune-{uuid.uuid4().hex[:12]}"
    trainable = tune.with_resources(
        tune.with_parameters(_trial, training=training, epochs=options.epochs, gpus=options.gpus_each),
        {"cpu": options.cpus_each, "gpu": options.gpus_each},
    )
    try:
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=_searcher(line), scheduler=_scheduler(options), num_samples=-1, reuse_actors=True,
                max_concurrent_trials=at_once, trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=tune.RunConfig(
                name=books, storage_path=options.work, verbose=0, stop=_stopper(line),
                callbacks=[_reporter(line, options.epochs)],
                failure_config=tune.FailureConfig(max_failures=options.retries),
            ),
        ).fit()  # fmt: skip
    finally:
        shutil.rmtree(Path(options.work) / books, ignore_errors=True)


def _trial(config: dict[str, Any], training: Training, epochs: int, gpus: float) -> None:
    """One training, in a process of the cluster."""
    from ray import tune

    start = time.monotonic()
    if not gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""

    def tell(epoch: int, percent: float) -> None:
        tune.report({"epoch": epoch, "accuracy": percent, "seconds": time.monotonic() - start})

    try:
        tell(epochs, training(tuple(config["genome"]), tell))
    except FloatingPointError as error:
        tune.report({"failure": str(error), "seconds": time.monotonic() - start})


def _evaluation(genome: Genome, last: dict[str, Any], failed: bool, error: str, epochs: int) -> Evaluation:
    """The outcome of a trial that has ended, from the last that it reported."""
    seconds = last.get("seconds")
    if failed or "failure" in last or "epoch" not in last:
        reason = last.get("failure") or error or "its process told nothing"
        return Evaluation(genome, None, f"the training failed: {reason[:SHOWN]}", seconds)
    if last["epoch"] >= epochs:
        return Evaluation(genome, float(last["accuracy"]), "", seconds)
    reason = (
        f"{STOPPED_EARLY} at epoch {last['epoch']} of {epochs}: {last['accuracy']:.2f} % of the held-out images right, "
        "less than the median of the networks that had got so far"
    )
    return Evaluation(genome, None, reason, seconds)


def _searcher(line: Line) -> Any:
    from ray.tune.search import Searcher

    class Wanted(Searcher):
        """Suggests what is wanted."""

        def suggest(self, trial_id: str) -> Any:
            if line.closed.is_set():
                return Searcher.FINISHED
            try:
                return {"genome": list(line.wanted.get_nowait())}
            except queue.Empty:
                return None

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            pass

        def save(self, checkpoint_path: str) -> None:
            pass

        def restore(self, checkpoint_path: str) -> None:
            pass

    return Wanted()


def _reporter(line: Line, epochs: int) -> Any:
    from ray.tune import Callback

    class Reporter(Callback):
        """Puts the outcome of every trial on the line once it has ended, in whatever way."""

        def __init__(self) -> None:
            self.told: set[str] = set()

        def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
            for trial in trials:
                if trial.is_finished() and trial.trial_id not in self.told:
                    self.told.add(trial.trial_id)
                    failed = trial.status == trial.ERROR
                    reason = _reason(trial) if failed else ""
                    genome, last = tuple(trial.config["genome"]), trial.last_result or {}
                    line.outcomes.put(_evaluation(genome, last, failed, reason, epochs))

    return Reporter()


def _reason(trial: Any) -> str:
    """Why a trial failed, in one line."""
    if trial.error_file is None:
        return ""
    _, *lines = Path(trial.error_file).read_text().rpartition("Failure # ")[2].strip().splitlines()
    in_code = any("ray::" in line or "Traceback" in line for line in lines)
    return lines[-1 if in_code else 0].strip() if lines else ""


def _stopper(line: Line) -> Any:
    from ray.tune.stopper import Stopper

    class Closed(Stopper):
        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            return line.closed.is_set()

    return Closed()


def _scheduler(options: Options) -> Any:
    from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler

    if not options.stop_early:
        return FIFOScheduler()
    return AsyncHyperBandScheduler(
        time_attr="epoch", metric="accuracy", mode="max", max_t=options.epochs,
        grace_period=max(1, math.ceil(options.epochs * FIRST_RUNG)), reduction_factor=HALVED,
    )  # fmt: skip
