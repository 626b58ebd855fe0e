"""One pass over native operators: batches in random order, each stored as soon as it is measured.

An operator that hangs the agent, ends it or fails is tried again alone; the second time it is quarantined and named.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from agent.protocol import Measured
from host import quality
from host.bench import Bench, Moment
from host.errors import DeviceUnavailable
from host.session import AgentDied, Batch
from host.setting import Progress, Summary
from lut_db.records import Measurement, Quarantined, Session

BATCH = 64
"""Models live in the agent at once: enough to spread a model's bursts over seconds, little enough for memory."""

STRIKES = 2
"""An operator that ends the agent, or fails, this often is quarantined."""

IDLE_DEATHS = 3
"""Deaths without a suspect in a row after which the device counts as unavailable."""


@dataclass(slots=True)
class _Pass:
    """What is left to measure, and what was seen while measuring."""

    queue: deque[list[str]]
    strikes: Counter[str] = field(default_factory=Counter)
    idle_deaths: int = 0
    sentinels_ns: list[float] = field(default_factory=list)


def measure_pass(bench: Bench, files: Mapping[str, str], number: int, summary: Summary, progress: Progress) -> None:
    """Measures every file once, in an agent of its own.

    Raises:
        DeviceUnavailable: agents keep dying before they touch an operator.
    """
    bench.fresh()
    state = _Pass(deque(_batches(files, np.random.default_rng((bench.setting.seed, number)))))
    while state.queue:
        progress.tell(f"pass {number}", len(files) - sum(map(len, state.queue)), len(files))
        batch = state.queue.popleft()
        try:
            moment = bench.await_moment(progress)
            with summary.timed("measure"):
                answer = bench.measure({str(index): files[key] for index, key in enumerate(batch)}, seed=number)
        except AgentDied as death:
            bench.fresh()
            _after_death(bench, state, batch, death, summary)
        else:
            state.idle_deaths = 0
            with summary.timed("store"):
                _store(bench, batch, answer, moment, state.sentinels_ns, summary)
            for failure in answer.failures:
                _strike(bench, state, batch[int(failure.id or 0)], failure.reason, failure.message, summary)
    progress.tell(f"pass {number}", len(files), len(files))


def _batches(files: Mapping[str, str], rng: np.random.Generator) -> list[list[str]]:
    keys = sorted(files)
    rng.shuffle(keys)
    return [keys[start : start + BATCH] for start in range(0, len(keys), BATCH)]


def _after_death(bench: Bench, state: _Pass, batch: Sequence[str], death: AgentDied, summary: Summary) -> None:
    """Puts the batch back: suspects alone, the others together.

    A strike counts only against a single suspect: of several, one alone is to blame, and each is tried alone now.
    """
    suspects = [batch[int(id)] for id in death.suspects]
    state.idle_deaths = 0 if suspects else state.idle_deaths + 1
    if state.idle_deaths == IDLE_DEATHS:
        raise DeviceUnavailable(f"the agent must live through a batch, but {IDLE_DEATHS} times {death}") from None
    innocent = [key for key in batch if key not in suspects]
    if innocent:
        state.queue.appendleft(innocent)
    if len(suspects) == 1:
        _strike(bench, state, suspects[0], death.reason, str(death), summary)
    else:
        state.queue.extend([key] for key in suspects)


def _strike(bench: Bench, state: _Pass, key: str, reason: str, message: str, summary: Summary) -> None:
    """Tries an operator again, alone, or quarantines it at the last strike."""
    state.strikes[key] += 1
    if state.strikes[key] < STRIKES:
        state.queue.append([key])
        return
    bench.store.quarantine(bench.target, [Quarantined(key, reason, message)])
    summary.quarantined[key] = f"{reason}: {message}"


def _store(
    bench: Bench, batch: Sequence[str], answer: Batch, moment: Moment, sentinels: list[float], summary: Summary
) -> None:
    origin = min((time_ns for reply in answer.measured for time_ns in reply.started_ns), default=0)
    seconds, cpus, on_gpu = time.time() - moment.started_at, bench.setting.cpus, bench.setting.use.on_gpu
    looks = tuple(((at - origin) / 1e9, ns) for at, ns in answer.done.sentinel_ns)
    shared = (*moment.unfit, *quality.batch_doubts(answer.done, quality.usual(sentinels), seconds, cpus, on_gpu))
    sentinels += [float(ns) for _, ns in looks]
    rows = [_measurement(batch[int(reply.id)], reply, origin, shared) for reply in answer.measured]
    before, after = quality.clocks_between(answer.done.before, answer.done.after)
    session = Session(moment.started_at, bench.version, str(bench.agent.hello.pid), before, after, looks)
    bench.store.append(bench.target, session, rows, batch_id=str(uuid.uuid4()))
    summary.row_stored()
    summary.measured += len(rows)
    summary.doubts.update(doubt for row in rows for doubt in row.doubts)


def _measurement(key: str, reply: Measured, origin: int, shared: Iterable[str]) -> Measurement:
    return Measurement(
        op_key=key,
        bursts_ns=tuple(map(tuple, reply.bursts_ns or [[]])),
        started_s=tuple((at - origin) / 1e9 for at in reply.started_ns),
        loops=reply.loops,
        overhead_ns=reply.overhead_ns,
        rejected=reply.rejected,
        doubts=tuple(dict.fromkeys((*quality.doubts_of(reply), *shared))),
        summary=reply.summary,
    )
