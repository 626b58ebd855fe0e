"""How one sweep is split over units: what lacks, what every unit measures, how much one is given at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from itertools import pairwise

import numpy as np

from host.setting import Workload
from lut_db.lut import Lowerings, resolve
from ops_catalog import ops
from ops_catalog.build import single
from ops_catalog.spec import Graph, OpSpec
from ops_catalog.sweep import distinct_operators

Item = Graph | OpSpec
"""What is handed out: an operator, or a network, which must stay whole where it tells what operators become."""

OVERLAP = 0.05
LEAST_OVERLAP, MOST_OVERLAP = 30, 64
"""Operators that every unit measures, whatever the share: enough for a factor's interval of a percent, and no more than
fit into one batch."""
LEAST_CHUNK, MOST_CHUNK = 64, 256
"""Operators that a unit is given at a time: fewer are not worth the three agents that they start, more are too many to
lose."""


def items_of(workload: Workload, lowers: bool) -> list[Item]:
    if lowers:
        return [*workload.graphs, *workload.operators]
    return list(distinct_operators(workload.graphs, workload.operators))


def as_workload(items: Sequence[Item]) -> Workload:
    graphs = tuple(item for item in items if isinstance(item, Graph))
    return Workload(graphs, tuple(item for item in items if isinstance(item, OpSpec)))


def weight(item: Item) -> int:
    """Its operators."""
    return len(item.nodes) if isinstance(item, Graph) else 1


def overlap_of(workload: Workload, share: float, seed: int) -> tuple[OpSpec, ...]:
    """The operators that every unit measures: one at random of each of equally many, from the lightest to the heaviest.

    What they take is not known before; their arithmetic and the bytes that they move stand for it. The same workload,
    share and seed give the same operators, so a sweep that goes on does not choose others.
    """
    operators = sorted(distinct_operators(workload.graphs, workload.operators), key=lambda op: (_work(op), op.key))
    wanted = min(len(operators), max(LEAST_OVERLAP, min(MOST_OVERLAP, round(share * len(operators)))))
    rng = np.random.default_rng((seed, len(operators)))
    edges = np.linspace(0, len(operators), wanted + 1).astype(int)
    return tuple(operators[int(rng.integers(low, high))] for low, high in pairwise(edges))


def _work(op: OpSpec) -> float:
    return ops.macs(op) + ops.bytes_moved(op)


def is_settled(item: Item, settled: Collection[str], lowerings: Lowerings) -> bool:
    """Whether a unit has measured all that an item becomes.

    Args:
        settled: native operators of which no more is to be asked.
    """
    steps = resolve(item if isinstance(item, Graph) else single(item), lowerings)
    return all(step is not None and all(key in settled for key in step.natives) for step in steps)


def take(queue: deque[Item], units: int, most: int = MOST_CHUNK) -> list[Item]:
    """The next chunk: two thirds of what is left, shared by the units, so that all end at about the same time.

    Args:
        most: items in it.
    """
    left = sum(map(weight, queue))
    size = min(MOST_CHUNK, max(LEAST_CHUNK, 2 * left // (3 * max(1, units))))
    chunk: list[Item] = []
    while queue and len(chunk) < most and (not chunk or sum(map(weight, chunk)) + weight(queue[0]) <= size):
        chunk.append(queue.popleft())
    return chunk
