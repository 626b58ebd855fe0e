"""Which operators to measure next, so that networks of a space are predicted best from few.

An operator counts by how much of a network's latency it makes and how often networks use it; measuring it also tells of
those that err with it. The next operator is the one that lowers the expected squared error of a random network's sum
the most; after each choice the covariances are what they will be once it is known, so a batch does not ask twice.

References:
    Krause et al., Near-optimal sensor placements in Gaussian processes, JMLR 2008.
    Cohn et al., Active learning with statistical models, JAIR 1996.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ops_catalog import ops
from ops_catalog.spec import Graph, OpSpec
from search.predictors import Array
from search.predictors.latency import LEAST, LatencyModel, Row
from search.predictors.op_features import describe_all
from search.predictors.threads import one_thread

MOST_CANDIDATES = 1200
"""Of one operator type, those that count most: the covariances of all of a space would not fit."""


@dataclass(frozen=True, slots=True)
class Usage:
    """How often a random network of a space has each operator (in a context where it was seen)."""

    per_network: Mapping[OpSpec, float]

    @property
    def operators(self) -> tuple[OpSpec, ...]:
        return tuple(self.per_network)


def usage_of(graphs: Sequence[Graph]) -> Usage:
    """Counted in random networks."""
    counts = Counter(op for graph in graphs for op in graph.operators)
    return Usage({op: count / len(graphs) for op, count in counts.items()})


def first_operators(usage: Usage, count: int, seed: int = 0) -> list[OpSpec]:
    """To begin with: some of every type, as far apart in their sizes as can be, the most used one first."""
    chosen: list[OpSpec] = []
    types = Counter(op.type for op in usage.per_network)
    for op_type, known in types.items():
        share = max(LEAST, round(count * known / len(usage.per_network)))
        chosen += _spread([op for op in usage.operators if op.type == op_type], min(share, known), usage)
    return chosen


def next_operators(
    usage: Usage, measured: Iterable[OpSpec], model: LatencyModel, count: int, context: str
) -> list[OpSpec]:
    """The operators whose measurement lowers the error of networks the most, best first."""
    known = set(measured)
    left = [op for op in usage.operators if op not in known]
    unknown = [op for op in left if not model.knows(op.type)]
    gains: list[tuple[float, OpSpec]] = []
    for op_type in sorted({op.type for op in left if model.knows(op.type)}):
        gains += _gains([op for op in left if op.type == op_type], usage, model, count, context)
    ranked = [op for _, op in sorted(gains, key=lambda gain: -gain[0])]
    return [*unknown, *ranked][:count]


def expected_error(usage: Usage, measured: Iterable[OpSpec], model: LatencyModel, context: str) -> float:
    """Relative standard deviation of a random network's sum, as the model itself expects it.

    Whether a network has an operator is taken as independent of what else it has; those of a type err together. What is
    beyond the heaviest of a type is taken to err as these do.
    """
    known = set(measured)
    left = [op for op in usage.operators if op not in known and model.knows(op.type)]
    every = [(op, context) for op in usage.operators if model.knows(op.type)]
    latency, _ = model.predict(every)
    total = sum(usage.per_network[op] * ns for (op, _), ns in zip(every, latency, strict=True))
    square = 0.0
    for op_type in {op.type for op in left}:
        every_one = [op for op in left if op.type == op_type]
        all_weights, all_own = _weights(every_one, usage, model, context)
        some = _heaviest(every_one, usage, model, context)
        weights, own = _weights(some, usage, model, context)
        covariance = _covariance(some, model, context)
        together = float(weights @ covariance @ weights) * float(all_weights.sum() / weights.sum()) ** 2
        square += together + float(own @ np.diag(covariance)) * float(all_own.sum() / own.sum())
    return float(np.sqrt(square) / total) if total else float("inf")


def _gains(
    candidates: Sequence[OpSpec], usage: Usage, model: LatencyModel, count: int, context: str
) -> list[tuple[float, OpSpec]]:
    """Greedy choices of one type with what each lowers the squared error by."""
    some = _heaviest(candidates, usage, model, context)
    covariance = _covariance(some, model, context)
    weights, own = _weights(some, usage, model, context)
    noise = model.processes[some[0].type].noise * model.processes[some[0].type].scale ** 2
    found = []
    for _ in range(min(count, len(some))):
        variance = np.diag(covariance) + noise
        gain = ((weights @ covariance) ** 2 + own @ covariance**2) / variance
        best = int(gain.argmax())
        if gain[best] <= 0.0:
            break
        found.append((float(gain[best]), some[best]))
        column = covariance[:, best].copy()
        covariance -= np.outer(column, column) / variance[best]
    return found


def _heaviest(candidates: Sequence[OpSpec], usage: Usage, model: LatencyModel, context: str) -> list[OpSpec]:
    _, own = _weights(candidates, usage, model, context)
    return [candidates[i] for i in np.argsort(-own, kind="stable")[:MOST_CANDIDATES]]


def _weights(operators: Sequence[OpSpec], usage: Usage, model: LatencyModel, context: str) -> tuple[Array, Array]:
    """How the errors of log latencies come into a random network's squared error.

    Returns:
        What an operator adds to its latency on average, in ns (m); and what, beyond the square of that, it adds to the
        expected square because a network has it or has not, in ns^2 (m).
    """
    latency, _ = model.predict([(op, context) for op in operators])
    often = np.array([usage.per_network[op] for op in operators])
    return np.asarray(latency * often), np.asarray(latency**2 * often * np.maximum(0.02, 1.0 - often))


def _covariance(operators: Sequence[OpSpec], model: LatencyModel, context: str) -> Array:
    process = model.processes[operators[0].type]
    rows: list[Row] = [(op, context) for op in operators]
    with one_thread():
        total = process.covariance(describe_all(rows, model.steps))
    total[np.diag_indices_from(total)] -= (process.stretch * process.scale) ** 2 * process.noise
    return total


def _spread(operators: Sequence[OpSpec], count: int, usage: Usage) -> list[OpSpec]:
    """Each next one far from those chosen, the farther the less it is thought to cost."""
    x = describe_all([(op, "plain") for op in operators], {})
    worth = np.sqrt([usage.per_network[op] * (ops.macs(op) + ops.bytes_moved(op)) for op in operators])
    chosen = [int(worth.argmax())]
    distance = ((x - x[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < count:
        chosen.append(int((distance * worth).argmax()))
        distance = np.minimum(distance, ((x - x[chosen[-1]]) ** 2).sum(axis=1))
    return [operators[i] for i in chosen]
