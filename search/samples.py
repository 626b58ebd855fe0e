"""Accuracy samples in and out of CSV files, and as arrays for the predictors.

A file has one row a network: a column for every gene, or one column ``genome`` (24-3-1 or, where every gene is one
digit, 2431), and the accuracy in percent; perhaps seed and cost_s.
"""

from __future__ import annotations

import csv
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lut_db.errors import LutError
from lut_db.samples import AccuracySample
from ops_catalog.spec import SpecError
from search.cells import Array
from search.spaces.space import Genome, Genomes, SearchSpace, format_genome, parse_genome


@dataclass(frozen=True, slots=True)
class Imported:
    """What a file had: samples, and lines that are none, with the reason."""

    samples: tuple[AccuracySample, ...]
    refused: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Accuracies to learn from.

    Attributes:
        genomes: n x d.
        accuracy_percent: n.
        recipes: of each sample, the number of its recipe in ``recipe_names``.
    """

    genomes: Genomes
    accuracy_percent: Array
    recipes: Array
    recipe_names: tuple[str, ...]
    dataset: str


def read_csv(
    space: SearchSpace, path: Path, accuracy: str, dataset: str, recipe: str, genome: str = "genome"
) -> Imported:
    """Reads samples; rows that are none are named with their line.

    Args:
        accuracy, genome: names of columns.

    Raises:
        LutError: the file cannot be read, or lacks columns.
    """
    try:
        with path.open(newline="") as lines:
            reader = csv.DictReader(lines)
            columns, rows = reader.fieldnames or [], list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LutError(f"samples must be a readable CSV file, but {path} is not: {error}") from None
    names = [genome] if genome in columns else [gene.name for gene in space.genes]
    if missing := [name for name in (*names, accuracy) if name not in columns]:
        raise LutError(f"{path} must have columns {', '.join(missing)}, but got {', '.join(columns) or 'none'}")
    samples: dict[tuple[str, int], AccuracySample] = {}
    refused: list[tuple[int, str]] = []
    for line, row in enumerate(rows, 2):
        try:
            sample = _sample(space, row, names, accuracy, AccuracySample(space.name, "", dataset, recipe, 0.0))
        except (SpecError, ValueError, TypeError) as error:
            refused.append((line, str(error)))
            continue
        first = samples.setdefault((sample.genome, sample.seed), sample)
        if first is not sample:
            refused.append((line, f"a genome must come once for each seed, but {sample.genome} comes again"))
    return Imported(tuple(samples.values()), tuple(refused))


def _sample(
    space: SearchSpace, row: Mapping[str, str], names: Sequence[str], accuracy: str, blank: AccuracySample
) -> AccuracySample:
    values = [row[name] for name in names]
    if not all(values):
        raise ValueError("every gene must have a value, but got none")
    genome = _genome(space, values)
    space.check(genome)
    percent = _number("an accuracy", row[accuracy])
    if not (math.isfinite(percent) and 0 <= percent <= 100):
        raise ValueError(f"an accuracy must be from 0 to 100 percent, but got {row[accuracy]}")
    seed, cost = _number("a seed", row.get("seed") or "0"), row.get("cost_s")
    return AccuracySample(
        blank.space, format_genome(genome), blank.dataset, blank.recipe, percent, int(seed),
        cost_s=_number("cost_s", cost) if cost else None, source=row.get("source") or "csv", created_at=time.time(),
    )  # fmt: skip


def _number(name: str, text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        raise ValueError(f"{name} must be a number, but got {text or 'nothing'}") from None


def _genome(space: SearchSpace, values: Sequence[str]) -> Genome:
    if len(values) > 1 or len(space.genes) == 1:
        return tuple(_whole(value) for value in values)
    text = values[0]
    return tuple(map(int, text)) if "-" not in text and len(text) == len(space.genes) else parse_genome(text)


def _whole(text: str) -> int:
    number = _number("a gene", text)
    if not number.is_integer():
        raise ValueError(f"a gene must be a whole number, but got {text}")
    return int(number)


def write_csv(space: SearchSpace, samples: Sequence[AccuracySample], path: Path) -> None:
    """Writes samples with a column for every gene."""
    facts = ("accuracy_percent", "dataset", "recipe", "seed", "cost_s", "failure", "source")
    with path.open("w", newline="") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow([gene.name for gene in space.genes] + list(facts))
        for sample in samples:
            cells = [getattr(sample, name) for name in facts]
            writer.writerow([*parse_genome(sample.genome), *("" if cell is None else cell for cell in cells)])


def training_set(space: SearchSpace, samples: Sequence[AccuracySample], least: int = 1) -> TrainingSet:
    """Successful samples of one data set as arrays, several seeds of a network as their mean.

    Raises:
        LutError: fewer networks than ``least``, or samples of several data sets.
    """
    good = [sample for sample in samples if sample.accuracy_percent is not None]
    datasets = Counter(sample.dataset for sample in good)
    if len(datasets) > 1:
        listed = ", ".join(f"{name} ({count})" for name, count in datasets.items())
        raise LutError(f"samples must be of one data set, but {space.name} has {listed}; choose one with --dataset")
    groups: dict[tuple[str, str], list[float]] = {}
    for sample in good:
        groups.setdefault((sample.genome, sample.recipe), []).append(float(sample.accuracy_percent or 0.0))
    if len(groups) < least:
        raise LutError(
            f"the accuracy predictor of {space.name} must have at least {least} trained networks, but got "
            f"{len(groups)}; train some with 'chamnet sample --space {space.name}', or 'chamnet samples import' some"
        )
    recipes = sorted(recipe for recipe, _ in Counter(recipe for _, recipe in groups).most_common())
    genomes = np.array([parse_genome(genome) for genome, _ in groups], np.int64)
    for genome in genomes:
        space.check(tuple(map(int, genome)))
    numbers = np.array([recipes.index(recipe) for _, recipe in groups])
    means = np.array([float(np.mean(values)) for values in groups.values()])
    return TrainingSet(genomes, means, numbers, tuple(recipes), next(iter(datasets)))
