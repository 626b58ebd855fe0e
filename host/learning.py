"""From a workload to model files of native operators: what must be measured, and the mapping that leads there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from host.bench import Bench
from host.errors import HostError
from host.lowering import Lowered, carriers, lower, lower_as_exported
from host.session import AgentDied
from host.setting import Progress, Summary, Workload
from lut_db.lut import resolve
from ops_catalog.build import single
from ops_catalog.spec import Graph, SpecError
from ops_catalog.sweep import distinct_operators

Files = dict[str, str | None]
"""Native operators of a workload: key -> model file on the device, None where no measuring is needed."""


def learn(bench: Bench, workload: Workload, settled: set[str], summary: Summary, progress: Progress) -> Files:
    """The native operators that a workload needs; the mapping to them goes into the store.

    What cannot be exported or optimised is listed in ``summary.refused`` and left out.

    Args:
        settled: keys of natives that are measured well enough.
    """
    if bench.setting.lowers:
        return _learn_lowered(bench, workload, settled, summary, progress)
    return _learn_as_exported(bench, workload, settled, summary, progress)


def _learn_as_exported(
    bench: Bench, workload: Workload, settled: set[str], summary: Summary, progress: Progress
) -> Files:
    files: Files = {}
    rows = []
    operators = distinct_operators(workload.graphs, workload.operators)
    for count, op in enumerate(operators):
        progress.tell("export", count, len(operators))
        try:
            files[op.key] = None if op.key in settled else bench.put(single(op))
        except SpecError as refusal:
            summary.refused[op.key] = str(refusal)
            continue
        rows.append(lower_as_exported(op))
    bench.store.put_lowerings(bench.target, [row for row, _ in rows], [native for _, native in rows])
    return files


def _learn_lowered(bench: Bench, workload: Workload, settled: set[str], summary: Summary, progress: Progress) -> Files:
    files: Files = {}
    mapping = bench.store.lowerings(bench.target)
    graphs = [*workload.graphs, *carriers(workload.operators)]
    for count, graph in enumerate(graphs):
        progress.tell("lower", count, len(graphs))
        steps = resolve(graph, mapping)
        keys = {key for step in steps if step for key in step.natives}
        if None not in steps and keys <= settled:
            files.update(dict.fromkeys(keys, None))
            continue
        for lowered in _lowered(bench, graph, summary):
            mapping.update({(row.op_key, row.context): row for row in lowered.lowerings})
            _keep(bench, lowered, settled, files)
    return files


def _keep(bench: Bench, lowered: Lowered, settled: set[str], files: Files) -> None:
    pieces = lowered.pieces
    bench.store.put_lowerings(bench.target, lowered.lowerings, [piece.op for piece in pieces.values()])
    for key, piece in pieces.items():
        if files.get(key) is None:
            files[key] = None if key in settled else bench.put_file(key, piece.model())


def _lowered(bench: Bench, graph: Graph, summary: Summary) -> Iterator[Lowered]:
    """The lowered Graph; where it cannot be, that of each of its operators which can."""
    try:
        optimised = bench.optimise(bench.put(graph))
        yield lower(graph, bench.transport.fetch(optimised))
    except (SpecError, HostError) as problem:
        if isinstance(problem, AgentDied):
            bench.fresh()
        if len(graph.nodes) == 1:
            summary.refused[graph.operators[0].key] = str(problem)
            return
        for op in dict.fromkeys(graph.operators):
            yield from _lowered(bench, single(op), summary)


