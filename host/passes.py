"""One pass over native operators: batches in random order, each stored as soon as it is measured.

An operator that hangs the agent, ends it or fails is tried again alone; the second time it is quarantined and named.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from agent.protocol import Failure, Measured
from host import quality
from host.bench import Bench
from host.errors import DeviceUnavailable
from host.session import AgentDied, Batch
from host.setting import Progress, Summary
from lut_db.records import Measurement, Quarantined, Session

BATCH = 64
"""Models live in the agent at once: enough to spread a model's bursts over seconds, little enough for memory."""

STRIKES = 2
"""An operator that ends the agent, or fails, this often is quarantined."""

IDLE_DEATHS = 3
"""Deaths without a suspect after which the device counts as unavailable."""


def measure_pass(bench: Bench, files: Mapping[str, str], number: int, summary: Summary, progress: Progress) -> None:
    """Measures every file once, in an agent of its own.

    Raises:
        DeviceUnavailable: agents keep dying before they touch an operator.
    """
    bench.fresh()
    queue = deque(_batches(files, np.random.default_rng((bench.setting.seed, number))))
    strikes: Counter[str] = Counter()
    idle_deaths = 0
    sentinels: list[float] = []
    done = 0
    while queue:
        progress.tell(f"pass {number}", done, len(files))
        batch = queue.popleft()
        ids = {str(index): key for index, key in enumerate(batch)}
        started_at = time.time()
        try:
            with summary.timed("measure"):
                answer = bench.measure({id: files[key] for id, key in ids.items()}, seed=number)
        except AgentDied as death:
            bench.fresh()
            suspects = [ids[id] for id in death.suspects]
            idle_deaths = 0 if suspects else idle_deaths + 1
            if idle_deaths == IDLE_DEATHS:
                raise DeviceUnavailable(
                    f"the agent must live through a batch, but {death}, {IDLE_DEATHS} times"
                ) from None
            failed = {key: (death.reason, str(death)) for key in suspects}
        else:
            with summary.timed("store"):
                _store(bench, ids, answer, started_at, sentinels, summary)
            failed = {ids[failure.id]: _why(failure) for failure in answer.failures if failure.id}
            done += len(batch) - len(failed)
            suspects, batch = list(failed), list(failed)
        _retry(bench, queue, batch, failed, strikes, summary)
    progress.tell(f"pass {number}", len(files), len(files))


def _batches(files: Mapping[str, str], rng: np.random.Generator) -> list[list[str]]:
    keys = sorted(files)
    rng.shuffle(keys)
    return [keys[start : start + BATCH] for start in range(0, len(keys), BATCH)]


def _retry(
    bench: Bench,
    queue: deque[list[str]],
    batch: Sequence[str],
    failed: Mapping[str, tuple[str, str]],
    strikes: Counter[str],
    summary: Summary,
) -> None:
    """Puts a batch back that was not measured, its suspects alone; quarantines at the last strike."""
    innocent = [key for key in batch if key not in failed]
    if innocent:
        queue.appendleft(innocent)
    for key, (reason, message) in failed.items():
        strikes[key] += 1
        if strikes[key] < STRIKES:
            queue.append([key])
        else:
            bench.store.quarantine(bench.target, [Quarantined(key, reason, message)])
            summary.quarantined[key] = f"{reason}: {message}"


def _why(failure: Failure) -> tuple[str, str]:
    return failure.reason, failure.message


def _store(
    bench: Bench, ids: Mapping[str, str], answer: Batch, started_at: float, sentinels: list[float], summary: Summary
) -> None:
    origin = min((time_ns for reply in answer.measured for time_ns in reply.started_ns), default=0)
    seconds = time.time() - started_at
    looks = tuple(((at - origin) / 1e9, ns) for at, ns in answer.done.sentinel_ns)
    shared = quality.batch_doubts(answer.done, quality.usual(sentinels), seconds)
    sentinels += [float(ns) for _, ns in looks]
    rows = [_measurement(ids[reply.id], reply, origin, shared) for reply in answer.measured]
    session = Session(
        started_at, bench.version, str(bench.agent.hello.pid), answer.done.before, answer.done.after, looks
    )
    bench.store.append(bench.target, session, rows, batch_id=str(uuid.uuid4()))
    summary.measured += len(rows)
    summary.doubts.update(doubt for row in rows for doubt in row.doubts)


def _measurement(key: str, reply: Measured, origin: int, shared: Iterable[str]) -> Measurement:
    return Measurement(
        op_key=key,
        bursts_ns=tuple(tuple(burst) for burst in reply.bursts_ns),
        started_s=tuple((at - origin) / 1e9 for at in reply.started_ns),
        loops=reply.loops,
        overhead_ns=reply.overhead_ns,
        rejected=reply.rejected,
        doubts=(*quality.doubts_of(reply), *shared),
    )
