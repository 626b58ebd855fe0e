"""From a workload to model files of native operators: what must be measured, and the mapping that leads there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from host.accelerators import runnable
from host.bench import Bench
from host.errors import DeviceUnavailable, HostError
from host.lowering import Lowered, carriers, lower, lower_as_exported
from host.native import Piece
from host.session import AgentDied
from host.setting import Progress, Summary, Workload
from lut_db.lut import Lowerings, resolve
from lut_db.records import Lowering
from ops_catalog.build import single
from ops_catalog.spec import Graph, OpSpec, SpecError
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
    operators, cannot = runnable(bench.setting.accelerator, distinct_operators(workload.graphs, workload.operators))
    summary.refused |= cannot
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
    mapping = dict(bench.store.lowerings(bench.target))
    wanted = {op.key for op in workload.operators}
    graphs: list[tuple[Graph, set[str] | None]] = [(graph, None) for graph in workload.graphs]
    graphs += [(graph, wanted) for graph in carriers(_unseen(workload, mapping, settled, files))]
    for count, (graph, only) in enumerate(graphs):
        progress.tell("lower", count, len(graphs))
        if only is None and _is_settled(resolve(graph, mapping), settled, files):
            continue
        for lowered in _lowered(bench, graph, mapping, summary):
            rows = [row for row in lowered.lowerings if only is None or row.op_key in only]
            mapping.update({(row.op_key, row.context): row for row in rows})
            _keep(bench, rows, lowered.pieces, settled, files)
    return files


def _unseen(workload: Workload, mapping: Lowerings, settled: set[str], files: Files) -> list[OpSpec]:
    """Operators, asked for by themselves, that were never lowered so or whose natives are not all settled."""
    return [op for op in workload.operators if not _is_settled(resolve(single(op), mapping), settled, files)]


def _is_settled(steps: Sequence[Lowering | None], settled: set[str], files: Files) -> bool:
    """Whether all is known of these steps; their natives then count as wanted."""
    keys = {key for step in steps if step for key in step.natives}
    if None in steps or not keys <= settled:
        return False
    files.update(dict.fromkeys(keys, None))
    return True


def _keep(bench: Bench, rows: Sequence[Lowering], pieces: Mapping[str, Piece], settled: set[str], files: Files) -> None:
    keys = {key for row in rows for key in row.natives}
    bench.store.put_lowerings(bench.target, rows, [pieces[key].op for key in keys])
    for key in keys:
        if files.get(key) is None:
            files[key] = None if key in settled else bench.put_file(pieces[key].model())


def _lowered(bench: Bench, graph: Graph, mapping: Lowerings, summary: Summary) -> Iterator[Lowered]:
    """The lowered Graph; where it cannot be, that of each of its operators which can."""
    try:
        optimised = bench.optimise(bench.put(graph))
        yield lower(graph, bench.fetch(optimised), mapping)
    except DeviceUnavailable:
        raise
    except (SpecError, HostError) as problem:
        if isinstance(problem, AgentDied):
            bench.fresh()
        if len(graph.nodes) == 1:
            summary.refused[graph.operators[0].key] = str(problem)
            return
        for op in dict.fromkeys(graph.operators):
            yield from _lowered(bench, single(op), mapping, summary)
