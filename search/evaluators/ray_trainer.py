"""Accuracies by training networks in PyTorch on whatever processors and GPUs a Ray cluster has, many at once.

One training is one trial of Ray Tune: a process with resources of its own, tried again where it or its node dies. After
every epoch it writes its checkpoint and reports its held-out accuracy. With early stopping, asynchronous successive
halving ends those that are in the worse half after a quarter of the epochs, after a half of them, and so on; what was
ended has a reason and no accuracy, for it had a shorter recipe than the others.

A training is that of the torch evaluator with a fixed number of threads: it has the same outcome as there, wherever it
runs and whatever runs beside it, as long as the processors are alike. Which network is ended early, and which is picked
next, depends on the order in which outcomes come.

References:
    Li et al., A system for massively parallel hyperparameter tuning, MLSys 2020 (ASHA).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from lut_db.errors import LutError
from search.evaluators import WORK, Ask, Evaluation, Options
from search.evaluators.ray_cluster import connected, room
from search.evaluators.ray_trials import Line, Tell, Training, run_trials
from search.evaluators.torch_trainer import TorchTrainer
from search.evaluators.torch_trainer import open_evaluator as open_torch
from search.spaces.space import Genome, Genomes, SearchSpace

END_S = 30.0
"""How long trainings that are not wanted any more may take to end."""


class RayTrainer:
    """Trains networks side by side.

    Args:
        training: trains one network; raises FloatingPointError where trying again is of no use.
        begun: tells the networks whose training goes on from a checkpoint.
    """

    def __init__(
        self, training: Training, recipe: str, options: Options, begun: Callable[[], list[Genome]] = list
    ) -> None:
        self.pool: Genomes | None = None
        self.recipe = recipe
        self.begun = begun
        self._training = training
        self._options = _settled(options)

    def evaluate(self, genomes: Sequence[Genome]) -> Iterator[Evaluation]:
        """Outcomes as they come."""
        waiting = iter(genomes)
        return self.stream(lambda pending: next(waiting, None))

    def stream(self, ask: Ask) -> Generator[Evaluation]:
        """Keeps the cluster busy until no network is given any more and the last has ended.

        Raises:
            LutError: there is no such cluster, or no node of it has room for a training.
        """
        first, options = ask(()), self._options
        if first is None:
            return
        with connected(options.address):
            fitting = room(options.cpus_each, options.gpus_each)
            with _running(self._training, options, options.jobs or fitting) as line:
                yield from _keep_busy(line, ask, first, options.jobs or fitting)


def _keep_busy(line: Line, ask: Ask, first: Genome, at_once: int) -> Iterator[Evaluation]:
    pending, more = [first], True
    line.wanted.put(first)
    while True:
        while more and len(pending) < at_once:
            genome = ask(tuple(pending))
            if genome is None:
                more = False
            else:
                pending.append(genome)
                line.wanted.put(genome)
        if not pending:
            return
        evaluation = line.outcome()
        pending.remove(evaluation.genome)
        yield evaluation


@contextmanager
def _running(training: Training, options: Options, at_once: int) -> Iterator[Line]:
    """Ray Tune in a thread of its own; ends its trainings with the block."""
    line = Line()
    tune = threading.Thread(target=run_trials, args=(training, options, at_once, line), daemon=True)
    tune.start()
    try:
        yield line
    finally:
        line.closed.set()
        tune.join(END_S)


def _settled(options: Options) -> Options:
    """With what ray takes where nothing is said."""
    return replace(options, cpus_each=options.cpus_each or 1.0, work=str(Path(options.work or WORK).absolute()))


def _train(trainer: TorchTrainer, genome: Genome, tell: Tell) -> float:
    return trainer.train(genome, tell).held_out_percent


def open_evaluator(space: SearchSpace, options: Options) -> RayTrainer:
    """Raises LutError where Ray or PyTorch is missing, or the data cannot be used."""
    missing = [name for name, module in (("Ray", "ray"), ("PyTorch", "torch")) if find_spec(module) is None]
    if missing:
        raise LutError(
            f"the ray evaluator must have Ray and PyTorch, but {' and '.join(missing)} cannot be imported; "
            "pip install 'chamnet[fleet,train]'"
        )
    options = _settled(options)
    trainer = open_torch(space, options)
    return RayTrainer(partial(_train, trainer), trainer.recipe, options, trainer.begun)
