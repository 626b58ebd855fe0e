"""Measures whole networks, in two sets of agents that take turns: the truth that predictions are held against.

A network's latency is a low quantile of its samples of all turns, which finds the quiet ones by itself. Each set gives
every network a latency of its own; their mean difference is the noise floor, below which no prediction can be told from
another.

Turns are not brought to one speed by the sentinel that is timed all through them: networks follow it by 0 to 0.9 of its
deviation only. In 17 runs of 10 to 26 networks on a machine with busy neighbours the noise floor was 3.7 % as measured,
7.7 % where the sentinel's deviation was taken out, and 5.0 % where as much was taken out as the other set followed it.
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
    """Latencies of whole networks in ns, by name: of all samples, and of the two sets apart.

    Attributes:
        sentinel_ns: median of the sentinel over all turns; None where it was never timed.
    """

    latency_ns: Mapping[str, float]
    sets_ns: Mapping[str, tuple[float, float]]
    sentinel_ns: float | None

    def noise_floor(self, names: Sequence[str]) -> float:
        """Mean difference between the two sets, in percent of their mean."""
        pairs = np.array([self.sets_ns[name] for name in names])
        return 100 * float((np.abs(pairs[:, 0] - pairs[:, 1]) / pairs.mean(axis=1)).mean())


@dataclass(frozen=True, slots=True)
class Turn:
    """What an agent measured: its answer, whose ids are those of the names, for set 0 or 1."""

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
    turns: list[Turn] = []
    for number in range(agents):
        for group in groups:
            progress.tell("networks", len(turns), agents * len(groups))
            turns.append(_take_turn(bench, group, paths, space, number, progress))
    progress.tell("networks", len(turns), len(turns))
    return truth_of([graph.name for graph in graphs], turns)


def _take_turn(
    bench: Bench, group: Sequence[Graph], paths: Mapping[str, str], space: str, number: int, progress: Progress
) -> Turn:
    bench.fresh()
    names = {str(index): graph.name for index, graph in enumerate(group)}
    files = {id: paths[name] for id, name in names.items()}
    moment = bench.await_moment(progress)
    sampling = replace(NETWORK_SAMPLING, gate_budget_ns=bench.setting.use.sampling.gate_budget_ns)
    answer = bench.measure(files, seed=number, whole=True, sampling=sampling)
    for failure in answer.failures:
        raise HostError(f"network {names.get(failure.id or '', '?')!r} must run, but got: {failure.message}")
    _store(bench, dict(zip(names, group, strict=True)), answer, space, moment)
    return Turn(answer, names, number % 2)


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


def truth_of(names: Sequence[str], turns: Sequence[Turn]) -> Truth:
    """What all turns come to. Raises HostError where every sample of a network was interrupted."""
    samples: dict[str, tuple[list[Array], list[Array]]] = {name: ([], []) for name in names}
    for turn in turns:
        for reply in turn.answer.measured:
            samples[turn.names[reply.id]][turn.set].append(_samples_of(reply))
    latencies = {name: _low(odd + even) for name, (odd, even) in samples.items()}
    sets = {name: (_low(odd), _low(even)) for name, (odd, even) in samples.items()}
    return Truth(latencies, sets, quality.usual([ns for turn in turns for _, ns in turn.answer.done.sentinel_ns]))


def _samples_of(reply: Measured) -> Array:
    """Samples in ns per call, less the time of a call that does nothing (n); of a summary, its one latency."""
    if reply.summary is not None:
        return np.array([summary_statistics(reply.summary, reply.overhead_ns).latency_ns])
    return np.array([ns for burst in reply.bursts_ns for ns in burst], float) / reply.loops - reply.overhead_ns


def _low(samples: Sequence[Array]) -> float:
    clean = np.concatenate(samples)
    if not clean.size:
        raise HostError(
            "a network must be timed undisturbed, but every sample was interrupted; repeat on a quieter machine"
        )
    return float(np.quantile(clean, QUANTILE))
