"""Fitted Gaussian processes as files (.npz): arrays only, nothing that runs when it is read."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from lut_db.errors import LutError
from search.predictors import Array
from search.predictors.design import Design
from search.predictors.gp import GaussianProcess

FIELDS = (
    "lengths",
    "variances",
    "numbers",
    "basis",
    "tallies",
    "target",
    "weights",
    "lower",
    "shift",
    "scale",
    "ceiling",
)
SCALARS = ("shift", "scale", "ceiling")


def save(process: GaussianProcess, path: Path) -> None:
    """Writes a fitted process."""
    design = process.design
    levels = {f"levels_{j}": values for j, values in enumerate(design.levels) if values is not None}
    facts = {"logs": design.logs, "mean": design.mean, "std": design.std}
    counts = np.array([design.recipes, design.genes, len(design.levels)])
    fields = {name: getattr(process, name) for name in FIELDS}
    arrays: dict[str, Any] = {"counts": counts, **facts, **levels, **fields}
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load(path: Path) -> GaussianProcess:
    """Reads what ``save`` wrote. Raises LutError where it is something else."""
    try:
        with np.load(path) as file:
            data: dict[str, Array] = {name: file[name] for name in file.files}
        recipes, genes, count = map(int, data["counts"])
        levels = tuple(data.get(f"levels_{j}") for j in range(count))
        design = Design(data["logs"], data["mean"], data["std"], levels, recipes, genes)
        fields: dict[str, Any] = {name: float(data[name]) if name in SCALARS else data[name] for name in FIELDS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise LutError(f"a predictor must be a file of 'chamnet predictor fit', but {path} is not: {error}") from None
    return GaussianProcess(design, **fields)
