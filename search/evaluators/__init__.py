"""Where accuracies come from: EVALUATORS, name -> module with ``open_evaluator(space, options) -> Evaluator``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from lut_db.errors import LutError
from search.spaces.space import Genome, Genomes, SearchSpace

EVALUATORS = {
    "table": "search.evaluators.table",
    "command": "search.evaluators.command",
    "torch": "search.evaluators.torch_trainer",
}


@dataclass(frozen=True, slots=True)
class Options:
    """What a user says about where accuracies come from.

    Attributes:
        source: a CSV file (table), a command line (command), an image folder or .npz (torch).
        accuracy: column of the table.
        timeout_s, retries, jobs: of a command: longest run, further tries, how many at once.
        epochs, seed: of a training.
        work: folder where a training keeps its checkpoints; "" for none.
    """

    source: str
    accuracy: str = "accuracy_percent"
    timeout_s: float = 3600.0
    retries: int = 1
    jobs: int = 1
    epochs: int = 10
    seed: int = 0
    work: str = ""


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
