"""Accuracies that were found before, in a CSV file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from lut_db.errors import LutError
from search.evaluators import Evaluation, Options
from search.samples import read_csv
from search.spaces.space import Genome, Genomes, SearchSpace, parse_genome


class Table:
    """Looks networks up."""

    recipe = "table"

    def __init__(self, known: dict[Genome, float]) -> None:
        self._known = known
        self.pool: Genomes | None = np.array(list(known), np.int64)

    def evaluate(self, genomes: Sequence[Genome]) -> Iterator[Evaluation]:
        for genome in genomes:
            accuracy = self._known.get(genome)
            failure = "" if accuracy is not None else "the table does not have this network"
            yield Evaluation(genome, accuracy, failure, 0.0)


def open_evaluator(space: SearchSpace, options: Options) -> Table:
    """Raises LutError where the file has no networks of the space."""
    found = read_csv(space, Path(options.source), options.accuracy, "", "")
    if not found.samples:
        reason = found.refused[0] if found.refused else (1, "it is empty")
        raise LutError(f"{options.source} must have networks of {space.name}, but line {reason[0]}: {reason[1]}")
    return Table({parse_genome(s.genome): float(s.accuracy_percent or 0.0) for s in found.samples})
