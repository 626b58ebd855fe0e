"""CostModel: what genomes cost on one Target, from its look-up table turned into arrays.

The prices are those of ``LatencyLut``, operator by operator in context, with the Target's calibration; a table of every
segment of the space makes them a gather and a sum. An engine whose operators cost the same anywhere (LiteRT) needs one
price a cell; for others the forms of tensors are followed from segment to segment (``forms.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lut_db.errors import LutError
from lut_db.lut import LatencyLut, MissingOpsError
from lut_db.records import ANY_CONTEXT, Calibration, Lowering, Target
from ops_catalog.build import op_with_dtype
from search.cells import Array, Cells, sums
from search.forms import FormTables, build_forms
from search.spaces.space import Genomes, SearchSpace

PLAIN_SUM = Calibration("", 1.0, 0.0, 0.0, (), ())


class CostModel:
    """Latency and energy of the networks of a space on one target.

    Attributes:
        latency_std: relative, of the calibration's residuals; None where there is no calibration.
    """

    def __init__(self, cells: Cells, lut: LatencyLut, calibration: Calibration | None = None) -> None:
        """Raises MissingOpsError where the table lacks operators of the space, LutError for another element type."""
        self.cells = cells
        self.lut = lut
        self.calibration = calibration
        self.latency_std = calibration.spread if calibration else None
        prices = Prices(lut, calibration or PLAIN_SUM)
        self._latency = _tables(cells, lut, prices.latency_ns)
        self._energy = _tables(cells, lut, prices.energy_uj) if prices.has_energy else None

    @property
    def target(self) -> Target:
        return self.lut.target

    @property
    def space(self) -> SearchSpace:
        return self.cells.space

    def latency_ns(self, genomes: Genomes) -> Array:
        """Calibrated latencies (n). Raises MissingOpsError, SpecError for genomes off the steps of the space."""
        return self._sum(self._latency, genomes)

    def energy_uj(self, genomes: Genomes) -> Array | None:
        """Energies (n); None where the table has none."""
        return None if self._energy is None else self._sum(self._energy, genomes)

    def _sum(self, tables: Sequence[Array] | FormTables, genomes: Genomes) -> Array:
        if not isinstance(tables, FormTables):
            return sums(self.cells, genomes, tables)
        total = tables.sums(genomes)
        for genome in genomes[np.isnan(total)][:1]:
            self.lut.price(self.space.decode(tuple(map(int, genome)), self.target.dtype))
        return total


class Prices:
    """What a lowered operator costs, calibrated."""

    def __init__(self, lut: LatencyLut, calibration: Calibration) -> None:
        self._known = lut.by_key
        self._calibration = calibration
        self.has_energy = bool(lut.entries) and all(entry.energy_uj is not None for entry in lut.entries)

    def latency_ns(self, lowering: Lowering | None) -> float:
        """NaN where it is not known."""
        if lowering is None or any(key not in self._known for key in lowering.natives):
            return np.nan
        entries, fitted = [self._known[key] for key in lowering.natives], self._calibration
        weights = sum(entry.weight_bytes for entry in entries)
        counted = weights if fitted.weight_cap_bytes is None else min(weights, fitted.weight_cap_bytes)
        total = sum(entry.latency_ns for entry in entries)
        return fitted.scale * total + fitted.ns_per_weight_byte * counted + fitted.ns_per_node * len(entries)

    def energy_uj(self, lowering: Lowering | None) -> float:
        """NaN where it is not known."""
        if lowering is None or any(key not in self._known for key in lowering.natives):
            return np.nan
        return sum(self._known[key].energy_uj or 0.0 for key in lowering.natives)


def _tables(cells: Cells, lut: LatencyLut, price: Any) -> Sequence[Array] | FormTables:
    if lut.target.dtype not in ("float32", "float16", "int8"):
        raise LutError(f"the element type of a target must be known, but got {lut.target.dtype!r}")
    keys = [op_with_dtype(op, lut.target.dtype).key for op in cells.operators]
    anywhere = all(context == ANY_CONTEXT for _, context in lut.lowerings)
    if not anywhere:
        forms = build_forms(cells, keys, lut.lowerings, price)
        _refuse_missing(cells, lut, forms.missing)
        return forms
    of_operator = np.array([price(lut.lowerings.get((key, ANY_CONTEXT))) for key in keys])
    _refuse_missing(cells, lut, np.flatnonzero(np.isnan(of_operator)).tolist())
    return [cells.per_cell(table, of_operator) for table in cells.tables]


def _refuse_missing(cells: Cells, lut: LatencyLut, operators: Sequence[int]) -> None:
    if operators:
        raise MissingOpsError(lut.target, [op_with_dtype(cells.operators[i], lut.target.dtype) for i in operators])


def calibration_for(space: SearchSpace, calibrations: Mapping[str, Calibration]) -> Calibration | None:
    """The one fitted on networks of this space, None where there is none."""
    return calibrations.get(space.name)
