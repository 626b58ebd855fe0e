"""Cells: every segment of a space under every choice of its genes, and what follows from the operators alone.

Genomes become cell numbers by table look-ups, so that whatever adds up over segments (MACs, parameters, latency) is a
gather and a sum, for a million networks a second and core.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ops_catalog import ops
from ops_catalog.build import tensors
from ops_catalog.spec import DTYPE_BYTES, Graph, OpSpec, SpecError
from search.spaces.space import Gene, Genomes, SearchSpace, Segment

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]

Wiring = tuple[tuple[str, tuple[str, ...], str], ...]
"""Of each operator its type, the tensors it reads, and the one it makes."""

OFF_STEPS = -1
CHUNK = 4096


@dataclass(frozen=True, slots=True)
class Group:
    """Cells of a segment whose operators are wired alike.

    Attributes:
        cells: their numbers (m).
        operators: positions in ``Cells.operators`` (m x operators of a cell).
        output: name of the tensor that the segment makes; that of its input where it has no operators.
    """

    wiring: Wiring
    output: str
    cells: Array
    operators: Array


@dataclass(frozen=True, slots=True)
class CellTable:
    """One segment: how genomes find its cells, and what is in them.

    Attributes:
        strides: of every gene position it depends on, what one choice more adds to the cell number.
        count: position of the gene that says how often it comes; None for once.
        most: the most often it comes.
    """

    segment: Segment
    genes: tuple[int, ...]
    strides: tuple[int, ...]
    size: int
    groups: tuple[Group, ...]
    count: int | None
    most: int


@dataclass(frozen=True, slots=True)
class Places:
    """Where n networks are in the tables of a space.

    Attributes:
        numbers: of the cell in each segment (n each).
        times: how often each segment comes (n each); None for once.
    """

    size: int
    numbers: tuple[Array, ...]
    times: tuple[Array | None, ...]


@dataclass(frozen=True, slots=True)
class Cells:
    """All segments of a space. Made by ``build_cells``.

    Attributes:
        operators: distinct, float32.
        choice: per gene, value less the lowest -> number of the choice, OFF_STEPS between them.
    """

    space: SearchSpace
    operators: tuple[OpSpec, ...]
    tables: tuple[CellTable, ...]
    choice: tuple[Array, ...]

    def locate(self, genomes: Genomes) -> Places:
        """Where networks are in the tables. Raises SpecError for values that are no choice of their gene."""
        columns = np.ascontiguousarray(genomes.T)
        choices = [
            _choices(gene, column, table)
            for gene, column, table in zip(self.space.genes, columns, self.choice, strict=True)
        ]
        numbers, times = [], []
        for table in self.tables:
            number = np.zeros(len(genomes), np.int64)
            for gene, stride in zip(table.genes, table.strides, strict=True):
                number += choices[gene] if stride == 1 else choices[gene] * stride
            numbers.append(number)
            times.append(None if table.count is None else columns[table.count] - table.segment.less)
        return Places(len(genomes), tuple(numbers), tuple(times))

    def per_cell(self, table: CellTable, of_operator: Array) -> Array:
        """Sum over the operators of each cell (cells) of a quantity known per operator."""
        total = np.zeros(table.size)
        for group in table.groups:
            total[group.cells] = of_operator[group.operators].sum(axis=1)
        return total


def build_cells(space: SearchSpace) -> Cells:
    """Takes a space apart; seconds where it has tens of thousands of operators."""
    known: dict[OpSpec, int] = {}
    tables = tuple(_table(space, segment, known) for segment in space.segments)
    return Cells(space, tuple(known), tables, tuple(map(_choice_table, space.genes)))


def _table(space: SearchSpace, segment: Segment, known: dict[OpSpec, int]) -> CellTable:
    found: dict[tuple[Wiring, str], tuple[list[int], list[list[int]]]] = {}
    size = 0
    for values in space.combinations(segment):
        graph = segment.graph(values)
        wiring = tuple((node.op.type, node.inputs, node.output) for node in graph.nodes)
        cells, rows = found.setdefault((wiring, graph.outputs[0]), ([], []))
        cells.append(size)
        rows.append([known.setdefault(node.op, len(known)) for node in graph.nodes])
        size += 1
    groups = tuple(
        Group(wiring, output, np.array(cells), np.array(rows, np.int64))
        for (wiring, output), (cells, rows) in found.items()
    )
    genes = tuple(space.index[name] for name in segment.genes)
    lengths = [len(space.genes[gene].choices) for gene in genes]
    strides = tuple(int(np.prod(lengths[position + 1 :], dtype=np.int64)) for position in range(len(genes)))
    count = space.index[segment.count] if segment.count else None
    most = 1 if count is None else max(space.genes[count].choices) - segment.less
    return CellTable(segment, genes, strides, size, groups, count, most)


def _choice_table(gene: Gene) -> Array:
    table = np.full(gene.choices[-1] - gene.choices[0] + 1, OFF_STEPS, np.int64)
    table[np.array(gene.choices) - gene.choices[0]] = np.arange(len(gene.choices))
    return table


def peak_bytes(cells: Cells, table: CellTable, dtype: str) -> Array:
    """The most that the tensors alive at one time need in each cell (cells), in bytes, the engine's own not counted."""
    made = np.array([ops.output(op).size for op in cells.operators])
    hidden = np.array([hidden_size(op) for op in cells.operators])
    read = [[tensor.size for tensor in op.inputs] for op in cells.operators]
    most = np.zeros(table.size)
    for group in table.groups:
        if group.wiring:
            sizes = {output: made[group.operators[:, i]] for i, (*_, output) in enumerate(group.wiring)}
            first = next(i for i, (_, inputs, _) in enumerate(group.wiring) if "x0" in inputs)
            place = group.wiring[first][1].index("x0")
            sizes["x0"] = np.array([read[op][place] for op in group.operators[:, first]])
            most[group.cells] = _most_alive(group, sizes, hidden)
    return np.asarray(most * DTYPE_BYTES[dtype])


def hidden_size(op: OpSpec) -> int:
    """Elements alive inside an operator made of parts, at its worst moment, besides its input and output."""
    inside = getattr(ops.operator(op.type), "inside", None)
    if inside is None:
        return 0
    peak = network_peak_bytes(inside(op)) // DTYPE_BYTES[op.dtype]
    return max(0, peak - op.inputs[0].size - ops.output(op).size)


def _most_alive(group: Group, sizes: dict[str, Array], hidden: Array) -> Array:
    last = {name: i for i, (_, inputs, _) in enumerate(group.wiring) for name in inputs} | {
        group.output: len(group.wiring)
    }
    alive, most = {"x0"}, np.zeros(len(group.cells))
    for i, (*_, output) in enumerate(group.wiring):
        alive.add(output)
        most = np.maximum(most, sum(sizes[name] for name in alive) + hidden[group.operators[:, i]])
        alive = {name for name in alive if last.get(name, i) > i}
    return most


def network_peak_bytes(graph: Graph) -> int:
    """The most that the tensors alive at one time need in a network."""
    sizes = {name: tensor.size_bytes for name, tensor in tensors(graph).items()}
    last = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
    last |= dict.fromkeys(graph.outputs, len(graph.nodes))
    alive, most = {name for name, _ in graph.inputs}, 0
    for i, node in enumerate(graph.nodes):
        alive.add(node.output)
        most = max(most, sum(sizes[name] for name in alive) + hidden_size(node.op) * DTYPE_BYTES[node.op.dtype])
        alive = {name for name in alive if last.get(name, i) > i}
    return most


def sums(cells: Cells, genomes: Genomes, per_cell: Sequence[Array]) -> Array:
    """Sum over the segments of each network (n) of a quantity known per cell, segment by segment."""
    return in_chunks(genomes, lambda part: sum_at(cells.locate(part), per_cell))


def sum_at(places: Places, per_cell: Sequence[Array]) -> Array:
    total = np.zeros(places.size)
    for number, times, values in zip(places.numbers, places.times, per_cell, strict=True):
        total += values[number] if times is None else values[number] * times
    return total


def largest_at(places: Places, per_cell: Sequence[Array]) -> Array:
    """Largest over the segments that come in each network (n)."""
    most = np.zeros(places.size)
    for number, times, values in zip(places.numbers, places.times, per_cell, strict=True):
        np.maximum(most, values[number] if times is None else np.where(times > 0, values[number], 0), out=most)
    return most


def in_chunks(genomes: Genomes, price: Callable[[Genomes], Array]) -> Array:
    """Prices genomes (n) in parts that stay in the processor's cache."""
    parts = [price(genomes[start : start + CHUNK]) for start in range(0, len(genomes), CHUNK)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _choices(gene: Gene, values: Array, table: Array) -> Array:
    """Numbers of the choices that values are (n)."""
    offsets = values - gene.choices[0]
    if len(offsets) and (offsets.min() < 0 or offsets.max() >= len(table)):
        wrong = values.min() if offsets.min() < 0 else values.max()
        raise SpecError(f"{gene.name} must be among {gene.choices}, but got {wrong}")
    found = table[offsets]
    if len(found) and found.min() == OFF_STEPS:
        raise SpecError(f"{gene.name} must be among {gene.choices}, but got {values[int(found.argmin())]}")
    return np.asarray(found)


class Arithmetic:
    """MACs, parameters and peak activation memory of genomes: what follows from a space without any device."""

    def __init__(self, cells: Cells, dtype: str = "float32") -> None:
        self.cells = cells
        self._macs = self._per_cell(ops.macs)
        self._params = self._per_cell(ops.params)
        self._dtype = dtype
        self._peaks: list[Array] | None = None

    def macs(self, genomes: Genomes) -> Array:
        """Multiply-accumulates (n)."""
        return sums(self.cells, genomes, self._macs)

    def params(self, genomes: Genomes) -> Array:
        """Learned values, batch norm folded (n)."""
        return sums(self.cells, genomes, self._params)

    def memory_bytes(self, genomes: Genomes) -> Array:
        """Peak activation memory (n)."""
        if self._peaks is None:
            self._peaks = [peak_bytes(self.cells, table, self._dtype) for table in self.cells.tables]
        peaks = self._peaks
        return in_chunks(genomes, lambda part: largest_at(self.cells.locate(part), peaks))

    def _per_cell(self, quantity: Callable[[OpSpec], int]) -> list[Array]:
        of_operator = np.array([float(quantity(op)) for op in self.cells.operators])
        return [self.cells.per_cell(table, of_operator) for table in self.cells.tables]
