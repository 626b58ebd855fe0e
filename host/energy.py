"""Meters operators of a table, and whole networks: the energy path, from a request to stored readings.

A gauge needs minutes for one operator, so only a share of a table is metered: those that tell most about the others
(``search.predictors.energy``), chosen anew after every few. What was metered is asked of the store, so a second call
goes on; each operator is stored as soon as it was metered, also one whose windows are refused, with the reason.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from host.bench import Bench, open_bench
from host.devices import Unit
from host.errors import HostError
from host.learning import learn
from host.metering import Gauging, Metering, open_gauging
from host.setting import Progress, Setting, Summary, Workload
from lut_db.energies import Metered, Network
from lut_db.lut import LatencyLut, Lowerings, resolve
from lut_db.store import LutStore
from ops_catalog.build import with_dtype
from ops_catalog.graphfile import graph_to_json
from ops_catalog.spec import Graph
from search.energies import energy_model
from search.predictors.energy import LEAST, choose

ROUND = 8
"""Operators that are metered before it is asked anew which tell most."""
IN_VAIN = 8
"""How many more may be refused than metered before it is given up: each may take a quarter of an hour."""


@dataclass(slots=True)
class EnergySummary:
    """What metering did.

    Attributes:
        source: what its energies are: measured, emulated or simulated.
        operators: of the table that were asked for; wanted: how many of them to meter; already: had an energy before.
        refused: operators without an energy, and why; gave_up: it ended early, since there were so many.
    """

    target: str
    meter: str
    source: str
    operators: int = 0
    wanted: int = 0
    already: int = 0
    metered: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    gave_up: bool = False
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a workload needs: its native operators that have a latency, and how often networks have each."""

    workload: Workload
    keys: frozenset[str]
    usage: Mapping[str, float] | None


def meter_operators(
    store: LutStore, unit: Unit, setting: Setting, workload: Workload, metering: Metering, progress: Progress
) -> EnergySummary:
    """Meters the share of a workload's operators that tells most about the rest; their latencies must be known.

    Raises:
        DeviceUnavailable: the agent does not start, or no meter can be read there.
        HostError: nothing of the workload was measured before.
    """
    started = time.perf_counter()
    with open_bench(store, unit, setting, progress) as bench, open_gauging(bench, unit, metering) as gauging:
        wanted = _wanted(bench, workload.in_dtype(setting.dtype))
        known = _known(gauging)
        summary = EnergySummary(bench.target.name, *gauging.choice, operators=len(wanted.keys))
        summary.wanted = wanted_of(metering.share, len(wanted.keys))
        summary.already = len(known.keys() & wanted.keys)
        before = store.energies.refused(bench.target, gauging.choice).keys()
        while keys := _next(gauging, wanted, summary, before):
            _meter_all(gauging, wanted, keys, summary, progress)
    summary.seconds = time.perf_counter() - started
    return summary


def wanted_of(share: float, operators: int) -> int:
    """How many operators to meter: fewer than LEAST tell nothing about the others."""
    return min(operators, max(LEAST, round(share * operators)))


def meter_networks(gauging: Gauging, graphs: Sequence[Graph], space: str, progress: Progress) -> dict[str, str]:
    """Meters whole networks and stores them, but those that were before; returns those refused, by name, and why."""
    store, target = gauging.bench.store, gauging.bench.target
    typed = [with_dtype(graph, target.dtype) for graph in graphs]
    known = {_network_key(metered) for metered in store.energies.networks(target, gauging.choice)}
    refused = {}
    for count, graph in enumerate(typed):
        progress.tell("networks", count, len(typed))
        network = Network(graph.name, space, graph_to_json(graph))
        if (network.name, network.space) in known:
            continue
        gauging.bench.await_moment(progress)
        row = gauging.meter_model(gauging.bench.put(graph), network)
        if isinstance(row, str):
            refused[graph.name] = row
            continue
        store.energies.append(target, [row])
        if reason := row.estimate.reason:
            refused[graph.name] = reason
    progress.tell("networks", len(typed), len(typed))
    return refused


def _network_key(metered: Metered) -> tuple[str, str]:
    """Names of a space's networks are those of their genomes."""
    assert isinstance(metered.of, Network)
    return metered.of.name, metered.of.space


def _known(gauging: Gauging) -> Mapping[str, Metered]:
    return gauging.bench.store.energies.operators(gauging.bench.target, gauging.choice)


def _wanted(bench: Bench, workload: Workload) -> _Wanted:
    """Raises HostError where no latency of the workload is known."""
    known = bench.store.lut(bench.target).by_key.keys()
    found: set[str] = set()
    for part in workload.parts(bench.setting.lowers):
        found |= learn(bench, part, set(known), Summary(bench.target.name), Progress()).keys()
        bench.clear()
    if not found & known:
        raise HostError(
            f"latencies must be measured before energies, but {bench.target.name!r} has none of these operators; "
            "repeat the command without --energy first"
        )
    lowerings = bench.store.lowerings(bench.target)
    counts = Counter(key for graph in workload.graphs for key in _natives(graph, lowerings))
    return _Wanted(workload, frozenset(found & known), counts if workload.graphs else None)


def _natives(graph: Graph, lowerings: Lowerings) -> Iterable[str]:
    return (key for row in resolve(graph, lowerings) if row is not None for key in row.natives)


def _next(gauging: Gauging, wanted: _Wanted, summary: EnergySummary, before: Iterable[str]) -> list[str]:
    """Operators that tell most now, untried ones first, then those refused ``before`` this call; none when done."""
    known = _known(gauging)
    left = wanted.keys - known.keys() - summary.refused.keys()
    fresh = left - set(before) or left
    count = min(ROUND, len(fresh), summary.wanted - len(known.keys() & wanted.keys))
    summary.gave_up = count > 0 and len(summary.refused) >= summary.metered + IN_VAIN
    if count <= 0 or summary.gave_up:
        return []
    lut = gauging.bench.store.lut(gauging.bench.target, gauging.choice)
    entries = tuple(entry for entry in lut.entries if entry.key in fresh or entry.key in known)
    model = energy_model(LatencyLut(lut.target, entries, {}))
    some = entries if model else [entry for entry in entries if entry.key in fresh]
    return choose(some, count, wanted.usage, model, gauging.bench.setting.seed)


def _meter_all(
    gauging: Gauging, wanted: _Wanted, keys: Sequence[str], summary: EnergySummary, progress: Progress
) -> None:
    files = _files(gauging.bench, wanted.workload, keys)
    for key in keys:
        progress.tell("meter", summary.already + summary.metered, summary.wanted)
        gauging.bench.await_moment(progress)
        reason = _meter(gauging, key, files.get(key))
        if reason:
            summary.refused[key] = reason
        else:
            summary.metered += 1
    progress.tell("meter", summary.already + summary.metered, summary.wanted)
    gauging.bench.clear()


def _meter(gauging: Gauging, key: str, path: str | None) -> str:
    """Meters and stores one operator; why it has no energy, or ""."""
    if path is None:
        return "its model could not be made once more"
    row = gauging.meter_model(path, key)
    if isinstance(row, str):
        return row
    gauging.bench.store.energies.append(gauging.bench.target, [row])
    return row.estimate.reason


def _files(bench: Bench, workload: Workload, keys: Sequence[str]) -> dict[str, str]:
    """Model files of native operators, on the device, from as few networks and operators as hold them all."""
    lowerings, missing = bench.store.lowerings(bench.target), set(keys)
    settled = set(bench.store.lut(bench.target).by_key) - missing
    graphs, operators = [], []
    for graph in workload.graphs:
        if found := missing.intersection(_natives(graph, lowerings)):
            graphs.append(graph)
            missing -= found
    natives: dict[str, set[str]] = {}
    for row in lowerings.values():
        natives.setdefault(row.op_key, set()).update(row.natives)
    for op in workload.operators:
        if found := missing & natives.get(op.key, set()):
            operators.append(op)
            missing -= found
    needed = Workload(tuple(graphs), tuple(operators))
    files = learn(bench, needed, settled, Summary(bench.target.name), Progress())
    return {key: path for key, path in files.items() if path is not None}
