"""Measures whole networks, in two sets of agents that take turns: the truth that predictions are held against.

Each set gives every network a latency of its own; their mean difference is the noise floor, below which no
prediction can be told from another. Every turn is brought to the usual speed of the machine by the sentinel that was
timed all through it: its median over a turn of some seconds, since single looks scatter more than the machine drifts.
Networks follow the sentinel only as far as what slows it concerns them, too; how far is fitted over all turns. On a
machine with busy neighbours it was 0.2 to 0.9, and the turns of seven runs scattered by 10.8 % as measured, by 11.5 %
where all of the sentinel was taken out, and by 8.7 % so.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from agent.protocol import Measured, Sampling
from host import quality
from host.bench import Bench, Moment
from host.errors import HostError
from host.session import Batch
from host.setting import Progress
from lut_db.aggregate import summary_statistics
from lut_db.records import NetworkMeasurement, Session
from ops_catalog.graphfile import graph_to_json
from ops_catalog.spec import Graph

TURNS = 8
"""Agents that measure one after the other, odd ones in one set and even ones in the other."""

NETWORK_SAMPLING = Sampling(
    sample_ns=0, burst_ns=15_000_000, burst_min=4, burst_max=10, rounds=3, max_rounds=3, warmup_runs=2
)
"""Three bursts a turn: twelve moments and at least fifty samples for each set. For quiet moments they wait as
the engine's operators do."""

LIVE_NETWORKS = 64
QUANTILE = 0.10

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Truth:
    """Latencies of whole networks in ns, by name: of all samples, and of the two sets apart."""

    latency_ns: Mapping[str, float]
    sets_ns: Mapping[str, tuple[float, float]]
    sentinel_ns: float

    def noise_floor(self, names: Sequence[str]) -> float:
        """Mean difference between the two sets, in percent of their mean."""
        pairs = np.array([self.sets_ns[name] for name in names])
        return 100 * float((np.abs(pairs[:, 0] - pairs[:, 1]) / pairs.mean(axis=1)).mean())


@dataclass(frozen=True, slots=True)
class Timed:
    """A network's samples of one turn, in ns per call (n), and how slow the sentinel was in it."""

    set: int
    slowness: float
    samples_ns: Array


@dataclass(frozen=True, slots=True)
class _Turn:
    answer: Batch
    names: Mapping[str, str]
    set: int


def measure_networks(
    bench: Bench, graphs: Sequence[Graph], space: str, progress: Progress, agents: int = TURNS
) -> Truth:
    """Measures networks whole; stores every turn.

    Args:
        agents: an even number of turns, each of an agent of its own.

    Raises:
        HostError: a network cannot be loaded or run.
        AgentDied: one ends the agent.
    """
    paths = {graph.name: bench.put(graph) for graph in graphs}
    groups = [graphs[start : start + LIVE_NETWORKS] for start in range(0, len(graphs), LIVE_NETWORKS)]
    turns: list[_Turn] = []
    for number in range(agents):
        for group in groups:
            progress.tell("networks", len(turns), agents * len(groups))
            turns.append(_take_turn(bench, group, paths, space, number, progress))
    progress.tell("networks", len(turns), len(turns))
    return _truth([graph.name for graph in graphs], turns)


def _take_turn(
    bench: Bench, group: Sequence[Graph], paths: Mapping[str, str], space: str, number: int, progress: Progress
) -> _Turn:
    bench.fresh()
    names = {str(index): graph.name for index, graph in enumerate(group)}
    files = {id: paths[name] for id, name in names.items()}
    moment = bench.await_moment(progress)
    sampling = replace(NETWORK_SAMPLING, gate_budget_ns=bench.setting.use.sampling.gate_budget_ns)
    answer = bench.measure(files, seed=number, whole=True, sampling=sampling)
    for failure in answer.failures:
        raise HostError(f"network {names.get(failure.id or '', '?')!r} must run, but got: {failure.message}")
    _store(bench, dict(zip(names, group, strict=True)), answer, space, moment)
    return _Turn(answer, names, number % 2)


def _store(bench: Bench, graphs: Mapping[str, Graph], answer: Batch, space: str, moment: Moment) -> None:
    origin = min((at for reply in answer.measured for at in reply.started_ns), default=0)
    looks = tuple(((at - origin) / 1e9, ns) for at, ns in answer.done.sentinel_ns)
    before, after = quality.clocks_between(answer.done.before, answer.done.after)
    session = Session(moment.started_at, bench.version, str(bench.agent.hello.pid), before, after, looks)
    rows = [
        NetworkMeasurement(
            name=graphs[reply.id].name,
            space=space,
            graph=graph_to_json(graphs[reply.id]),
            bursts_ns=tuple(map(tuple, reply.bursts_ns or [[]])),
            started_s=tuple((at - origin) / 1e9 for at in reply.started_ns),
            loops=reply.loops,
            overhead_ns=reply.overhead_ns,
            doubts=moment.unfit,
            summary=reply.summary,
        )
        for reply in answer.measured
    ]
    bench.store.append_network(bench.target, session, rows, batch_id=str(uuid.uuid4()))


def _truth(names: Sequence[str], turns: Sequence[_Turn]) -> Truth:
    usual = float(np.median([ns for turn in turns for _, ns in turn.answer.done.sentinel_ns]))
    timed: dict[str, list[Timed]] = {name: [] for name in names}
    for turn in turns:
        slowness = float(np.median([ns for _, ns in turn.answer.done.sentinel_ns])) / usual
        for reply in turn.answer.measured:
            timed[turn.names[reply.id]].append(Timed(turn.set, slowness, samples_of(reply)))
    response = response_of(timed)

    def low(name: str, *sets: int) -> float:
        return _low([row for row in timed[name] if row.set in sets], response)

    return Truth(
        {name: low(name, 0, 1) for name in names}, {name: (low(name, 0), low(name, 1)) for name in names}, usual
    )


def samples_of(reply: Measured) -> Array:
    """Samples in ns per call, less the time of a call that does nothing (n); of a summary, its one latency."""
    if reply.summary is not None:
        return np.array([summary_statistics(reply.summary, reply.overhead_ns).latency_ns])
    return np.array([ns for burst in reply.bursts_ns for ns in burst], float) / reply.loops - reply.overhead_ns


def response_of(timed: Mapping[str, Sequence[Timed]]) -> float:
    """How far networks follow the sentinel, from 0 to 1: the slope of the logarithms of their low quantiles."""
    along = across = 0.0
    for rows in timed.values():
        seen = [row for row in rows if row.samples_ns.size and np.quantile(row.samples_ns, QUANTILE) > 0]
        if seen:
            slowness = np.log([row.slowness for row in seen])
            slowness -= slowness.mean()
            along += float(slowness @ np.log([np.quantile(row.samples_ns, QUANTILE) for row in seen]))
            across += float(slowness @ slowness)
    return float(np.clip(along / across, 0.0, 1.0)) if across else 0.0


def _low(rows: Sequence[Timed], response: float) -> float:
    """At the usual speed, in ns. Raises HostError where every sample was interrupted."""
    clean = np.concatenate([row.samples_ns / row.slowness**response for row in rows])
    if not clean.size:
        raise HostError(
            "a network must be timed undisturbed, but every sample was interrupted; repeat on a quieter machine"
        )
    return float(np.quantile(clean, QUANTILE))
