"""Costs of cells for an engine that changes how tensors lie in memory: what a segment costs depends on its neighbours.

A segment is entered in a form (plain, blocked ...) and leaves its output in one; what reads the output may count, too.
So a cell has a price for each form it can be entered in and each kind of reader after it, and a segment that comes
several times has one for each number of times. Networks are priced by following forms from the first segment to the
last, all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lut_db.lut import Lowerings, Step, follow
from lut_db.records import Lowering
from search.cells import Array, Cells, CellTable, Group, Places, in_chunks
from search.spaces.space import Genomes

Price = Callable[[Lowering | None], float]

PASSES = -1
"""The reader of a cell without operators: whatever reads after it."""


@dataclass(frozen=True, slots=True)
class SegmentForms:
    """Prices of one segment.

    Attributes:
        cost, leaves: price, and number of the form left behind (times x cells x forms x readers), flat.
        readers: what reads a cell's input, by number (cells).
    """

    cost: Array
    leaves: Array
    readers: Array


@dataclass(frozen=True, slots=True)
class FormTables:
    """All segments. Made by ``build_forms``.

    Attributes:
        missing: operators that no known price was found for in any context.
    """

    cells: Cells
    segments: tuple[SegmentForms, ...]
    forms: int
    readers: int
    missing: tuple[int, ...]

    def sums(self, genomes: Genomes) -> Array:
        """Price of each network (n); NaN where an operator is not known in its context."""
        return in_chunks(genomes, lambda part: self._sum_at(self.cells.locate(part)))

    def _sum_at(self, places: Places) -> Array:
        after = self._readers_after(places)
        total, form = np.zeros(places.size), np.zeros(places.size, np.int64)
        for i, (table, segment) in enumerate(zip(self.cells.tables, self.segments, strict=True)):
            count = places.times[i]
            times = 1 if count is None else count
            place = ((times * table.size + places.numbers[i]) * self.forms + form) * self.readers + after[i]
            total += segment.cost[place]
            form = segment.leaves[place]
        return total

    def _readers_after(self, places: Places) -> list[Array]:
        reader: Array = np.zeros(places.size, np.int64)
        found: list[Array] = []
        if self.readers == 1:
            return [reader] * len(places.numbers)
        for segment, number, times in zip(self.segments[::-1], places.numbers[::-1], places.times[::-1], strict=True):
            found.append(reader)
            own = segment.readers[number]
            reads = own != PASSES if times is None else (times > 0) & (own != PASSES)
            reader = np.where(reads, own, reader)
        return found[::-1]


def build_forms(cells: Cells, keys: Sequence[str], lowerings: Lowerings, price: Price) -> FormTables:
    """Prices every cell in every form it may be entered in.

    Args:
        keys: of ``cells.operators``, in the element type of the table.
    """
    builder = _Builder(cells, keys, lowerings, price)
    entered, parts = {0}, []
    for position in range(len(cells.tables)):
        parts.append(builder.segment(position, entered))
        entered = parts[-1].entered if cells.tables[position].count is not None else set()
        entered = entered | parts[-1].left
    forms, readers = len(builder.forms), len(builder.labels)
    segments = tuple(part.flat(table, forms, readers) for part, table in zip(parts, cells.tables, strict=True))
    return FormTables(cells, segments, forms, readers, tuple(sorted(builder.missing)))


@dataclass(slots=True)
class _Part:
    """Prices of one pass through a segment, by (form, reader): cost and form left behind (cells each)."""

    cost: dict[tuple[int, int], Array]
    leaves: dict[tuple[int, int], Array]
    readers: Array
    entered: set[int]
    left: set[int]

    def flat(self, table: CellTable, forms: int, readers: int) -> SegmentForms:
        shape = (table.most + 1, table.size, forms, readers)
        cost, leaves = np.full(shape, np.nan), np.zeros(shape, np.int64)
        cells = np.arange(table.size)
        cost[0], leaves[0] = 0.0, np.arange(forms)[:, None]
        once, next_form = np.full(shape[1:], np.nan), np.zeros(shape[1:], np.int64)
        for (form, reader), values in self.cost.items():
            once[:, form, reader], next_form[:, form, reader] = values, self.leaves[form, reader]
        own = np.maximum(self.readers, 0)
        for form in range(forms):
            now, before = np.full(table.size, form), np.zeros(table.size)
            for times in range(1, table.most + 1):
                cost[times, :, form] = before[:, None] + once[cells, now]
                leaves[times, :, form] = next_form[cells, now]
                before = before + once[cells, now, own]
                now = next_form[cells, now, own]
        return SegmentForms(cost.ravel(), leaves.ravel(), self.readers)


class _Builder:
    """Walks cells through the table; numbers forms and readers as they come up."""

    def __init__(self, cells: Cells, keys: Sequence[str], lowerings: Lowerings, price: Price) -> None:
        self.cells = cells
        self.keys = keys
        self.lowerings = lowerings
        self.price = price
        self.forms = {"plain": 0}
        self.looks_ahead = any(" then " in context for _, context in lowerings)
        self.labels = {"": 0}
        self.readers = [self._readers(table) for table in cells.tables]
        self.missing: set[int] = set()
        self._prices: dict[int, float] = {}

    def segment(self, position: int, entered: set[int]) -> _Part:
        """One pass through a segment, for all forms it can be entered in and all readers that may follow."""
        table, last = self.cells.tables[position], position == len(self.cells.tables) - 1
        part = _Part({}, {}, self.readers[position], set(entered), set())
        todo, after = sorted(entered), self._after(position)
        known = np.zeros(table.size, bool)
        while todo:
            form = todo.pop()
            for reader in after:
                cost, leaves = self._walk(table, form, reader, last)
                part.cost[form, reader], part.leaves[form, reader] = cost, leaves
                known |= ~np.isnan(cost)
                part.left |= set(np.unique(leaves).tolist())
            if table.most > 1:
                todo += sorted(part.left - part.entered)
                part.entered |= part.left
        for group in table.groups:
            for row in group.operators[~known[group.cells]]:
                self.missing |= {op for op in row.tolist() if not self._known_anywhere(op)} or set(row.tolist())
        return part

    def _walk(self, table: CellTable, form: int, reader: int, last: bool) -> tuple[Array, Array]:
        cost, leaves = np.zeros(table.size), np.zeros(table.size, np.int64)
        name, label = list(self.forms)[form], list(self.labels)[reader]
        for group in table.groups:
            readers = _readers_inside(group, label)
            outputs = (group.output,) if last else ()
            for cell, row in zip(group.cells.tolist(), group.operators.tolist(), strict=True):
                steps = [Step(self.keys[op], *wire[1:]) for op, wire in zip(row, group.wiring, strict=True)]
                forms = {"x0": name}
                found = follow(steps, forms, readers, outputs, self.lowerings)
                cost[cell] = sum([self._price(lowering) for lowering in found])
                leaves[cell] = self.forms.setdefault(forms[group.output], len(self.forms))
        return cost, leaves

    def _price(self, lowering: Lowering | None) -> float:
        if id(lowering) not in self._prices:
            self._prices[id(lowering)] = self.price(lowering)
        return self._prices[id(lowering)]

    def _known_anywhere(self, op: int) -> bool:
        contexts = [row for (key, _), row in self.lowerings.items() if key == self.keys[op]]
        return any(not np.isnan(self._price(row)) for row in contexts)

    def _readers(self, table: CellTable) -> Array:
        """What reads the input of each cell."""
        found = np.zeros(table.size, np.int64)
        for group in table.groups:
            types = sorted(op_type for op_type, inputs, _ in group.wiring if "x0" in inputs)
            if not group.wiring:
                found[group.cells] = PASSES
            elif self.looks_ahead:
                found[group.cells] = self.labels.setdefault("+".join(types), len(self.labels))
        return found

    def _after(self, position: int) -> list[int]:
        """Readers that can follow a segment."""
        found: set[int] = set()
        own = self.cells.tables[position]
        if own.most > 1:
            found |= set(self.readers[position].tolist())
        for table, readers in zip(self.cells.tables[position + 1 :], self.readers[position + 1 :], strict=True):
            found |= set(readers.tolist())
            if PASSES not in readers and table.count is None:
                break
        else:
            found.add(0)
        return sorted(found - {PASSES})


def _readers_inside(group: Group, label: str) -> dict[str, str]:
    """What reads each tensor that a cell makes; the label for the one it leaves."""
    found = {output: [] for _, _, output in group.wiring}  # type: dict[str, list[str]]
    for op_type, inputs, _ in group.wiring:
        for name in set(inputs) & found.keys():
            found[name].append(op_type)
    return {name: "+".join(sorted(types)) for name, types in found.items()} | {group.output: label}
