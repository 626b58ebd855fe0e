"""Networks with their latencies and energies from CSV files: columns of integer genes, of milliseconds, of millijoules.

A column is a gene where most of its cells are whole numbers, and its name is none of a row's number. Others (text,
accuracies) are left aside and named. A cell that lacks in a column that is used is an error, with its line.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from host.errors import HostError
from search.predictors.network_power import Networks

WHOLE = re.compile(r"[+-]?(0|[1-9]\d*)(\.0*)?")
"""Leading zeros make a text, such as 0120 of four genes."""

ROW_NUMBERS = frozenset({"", "id", "index", "idx", "no", "row", "uid", "unnamed: 0", "arch_id", "network_id", "seed"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which columns are what; patterns of genes, none where all columns of whole numbers are."""

    latency: str
    energy: str
    patterns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sheet:
    """A file's cells as text, by column, and the line of each row."""

    path: Path
    columns: dict[str, list[str]]
    lines: list[int]


def read_pair(train: Path, test: Path, wanted: Wanted) -> tuple[Networks, Networks, list[str], list[str]]:
    """Networks to train on and to test on, the names of their genes, and those of columns left aside.

    Raises:
        HostError: a file that cannot be read, columns that lack, or a cell that cannot be used, with its line.
    """
    first, second = _read_sheet(train), _read_sheet(test)
    genes, aside = _genes(first, wanted)
    return _networks(first, genes, wanted), _networks(second, genes, wanted), genes, aside


def _read_sheet(path: Path) -> Sheet:
    try:
        with path.open(newline="", encoding="utf-8-sig") as text:
            reader = csv.DictReader(text, skipinitialspace=True)
            names = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = names
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise HostError(f"networks must be in a readable CSV file, but {path} is not: {error}") from None
    if not rows:
        raise HostError(f"{path} must have a line of column names and rows, but has {len(rows)} rows")
    if twice := [name for name in names if names.count(name) > 1]:
        raise HostError(f"every column of {path} must have a name of its own, but {twice[0]!r} comes twice")
    columns = {name: [(row[name] or "").strip() for _, row in rows] for name in names}
    return Sheet(path, columns, [line for line, _ in rows])


def _genes(sheet: Sheet, wanted: Wanted) -> tuple[list[str], list[str]]:
    """Columns that are genes, and the others that are neither latency nor energy."""
    _need(sheet, (wanted.latency, wanted.energy))
    others = [name for name in sheet.columns if name not in (wanted.latency, wanted.energy)]
    if wanted.patterns:
        genes = [name for name in others if any(fnmatch(name, pattern) for pattern in wanted.patterns)]
    else:
        genes = [name for name in others if name.lower() not in ROW_NUMBERS and _mostly_whole(sheet.columns[name])]
    if not genes:
        asked = ",".join(wanted.patterns) or "of integer genes"
        raise HostError(
            f"{sheet.path} must have columns {asked}, but got {', '.join(sheet.columns)}; name genes with --features"
        )
    return genes, [name for name in others if name not in genes]


def _mostly_whole(cells: Sequence[str]) -> bool:
    return 2 * sum(WHOLE.fullmatch(cell) is not None for cell in cells) > len(cells)


def _need(sheet: Sheet, names: Sequence[str]) -> None:
    if missing := [name for name in names if name not in sheet.columns]:
        raise HostError(f"{sheet.path} must have columns {', '.join(missing)}, but got {', '.join(sheet.columns)}")


def _networks(sheet: Sheet, genes: Sequence[str], wanted: Wanted) -> Networks:
    _need(sheet, (wanted.latency, wanted.energy, *genes))
    table = np.array([[_whole(sheet, name, i) for name in genes] for i in range(len(sheet.lines))], np.int64)
    latency, energy = (
        np.array([_positive(sheet, name, i) for i in range(len(sheet.lines))])
        for name in (wanted.latency, wanted.energy)
    )
    return Networks(table, latency, energy)


def _whole(sheet: Sheet, name: str, row: int) -> int:
    cell = sheet.columns[name][row]
    if not WHOLE.fullmatch(cell) or abs(float(cell)) > 2**53:
        raise _refused(sheet, name, row, "a whole number")
    return int(float(cell))


def _positive(sheet: Sheet, name: str, row: int) -> float:
    try:
        value = float(sheet.columns[name][row])
    except ValueError:
        value = math.nan
    if not 0.0 < value < math.inf:
        raise _refused(sheet, name, row, "a positive number")
    return value


def _refused(sheet: Sheet, name: str, row: int, needed: str) -> HostError:
    cell = sheet.columns[name][row]
    return HostError(
        f"{sheet.path}: line {sheet.lines[row]} must have {needed} in {name}, but got {cell!r}; leave the row out"
    )
