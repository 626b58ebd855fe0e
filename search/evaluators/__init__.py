"""Where accuracies come from: EVALUATORS, name -> module with ``open_evaluator(space, options) -> Evaluator``."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast, runtime_checkable

from lut_db.errors import LutError
from search.spaces.space import Genome, Genomes, SearchSpace

EVALUATORS = {
    "table": "search.evaluators.table",
    "command": "search.evaluators.command",
    "torch": "search.evaluators.torch_trainer",
    "ray": "search.evaluators.ray_trainer",
}

WORK = "checkpoints"
"""Folder for checkpoints of ray where none is named."""

STOPPED_EARLY = "stopped early"
"""What the failure of a training begins with that was ended because others did better; nothing went wrong."""

Ask = Callable[[Sequence[Genome]], Genome | None]
"""The next network, given those that are being trained; None once there are to be no more."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user says about where accuracies come from.

    Attributes:
        source: a CSV file (table), a command line (command), an image folder or .npz (torch, ray).
        accuracy: column of the table.
        timeout_s: longest run of a command.
        retries, jobs: of a command or of ray: further tries, how many at once (0 with ray: as many as fit).
        epochs, seed: of a training.
        work: folder where a training keeps its checkpoints; "" for none, with ray for WORK.
        cpus_each, gpus_each: of one training; 0 processors: one with ray, as many as torch likes without.
        address: of a running Ray cluster, "auto" for the one of this machine; "" starts one here.
        stop_early: end trainings that fall behind the others.
    """

    source: str
    accuracy: str = "accuracy_percent"
    timeout_s: float = 3600.0
    retries: int = 1
    jobs: int = 1
    epochs: int = 10
    seed: int = 0
    work: str = ""
    cpus_each: float = 0.0
    gpus_each: float = 0.0
    address: str = ""
    stop_early: bool = False


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The outcome for one network: accuracy in percent, or why there is none."""

    genome: Genome
    accuracy_percent: float | None
    failure: str = ""
    cost_s: float | None = None


class Evaluator(Protocol):
    """Finds out how accurate networks are.

    Attributes:
        pool: the only genomes it knows (n x d); None where it can evaluate any.
        recipe: how the networks are trained, in a few words.
    """

    pool: Genomes | None
    recipe: str

    def evaluate(self, genomes: Sequence[Genome]) -> Iterator[Evaluation]:
        """Outcomes one by one, as they come; a failed training is an outcome, too."""


@runtime_checkable
class AsynchronousEvaluator(Evaluator, Protocol):
    """Trains several networks at once, and asks for another whenever one has ended."""

    def stream(self, ask: Ask) -> Generator[Evaluation]:
        """Outcomes one by one, as they come, until no network is given any more and the last has ended."""

    def begun(self) -> list[Genome]:
        """Networks that an earlier call began; their trainings go on from where they were."""


class EvaluatorModule(Protocol):
    """What a module of EVALUATORS offers."""

    def open_evaluator(self, space: SearchSpace, options: Options) -> Evaluator: ...


def open_evaluator(name: str, space: SearchSpace, options: Options) -> Evaluator:
    """An evaluator by its name.

    Raises:
        LutError: no such evaluator, or its source cannot be used.
    """
    if name not in EVALUATORS:
        raise LutError(f"an evaluator must be one of {', '.join(EVALUATORS)}, but got {name!r}")
    return cast(EvaluatorModule, import_module(EVALUATORS[name])).open_evaluator(space, options)
