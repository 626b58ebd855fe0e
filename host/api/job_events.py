"""A job's changes as server-sent events: how many streams there may be, and what each is told.

The database is asked a few times a second for each job that is followed, however many follow it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from fastapi import Request
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.concurrency import run_in_threadpool

from host.api.problems import Problem
from lut_db.errors import LutError
from lut_db.jobs import ENDED, Job, JobStore

POLL_S = 0.25
KEEP_ALIVE_S = 15.0
FORGOTTEN_S = 1.0
MOST_STREAMS = 64


class Streams:
    """The streams of one service that are open, and the jobs they follow as they were last seen."""

    def __init__(self) -> None:
        self.open = 0
        self._seen: dict[str, tuple[float, Job]] = {}

    def enter(self) -> None:
        """Raises Problem where too many are open."""
        if self.open >= MOST_STREAMS:
            detail = f"at most {MOST_STREAMS} streams of events may be open, but all are; ask /v1/jobs/UID now and then"
            raise Problem(429, "Too many streams", detail, "too-many-streams", headers={"Retry-After": "15"})
        self.open += 1

    def leave(self) -> None:
        self.open -= 1
        if not self.open:
            self._seen.clear()

    async def job(self, jobs: JobStore, uid: str) -> Job | None:
        """A job as it is now, or was a moment ago."""
        at, job = self._seen.get(uid, (-POLL_S, None))
        if time.monotonic() - at >= POLL_S / 2:
            job = await run_in_threadpool(_newest, jobs, uid, job)
            now = time.monotonic()
            self._seen = {uid: seen for uid, seen in self._seen.items() if now - seen[0] < FORGOTTEN_S}
            if job is not None:
                self._seen[uid] = (now, job)
        return job


def _newest(jobs: JobStore, uid: str, job: Job | None) -> Job | None:
    """A job, which is read whole only where it has changed."""
    return job if job is not None and jobs.revision(uid) == job.revision else jobs.get(uid)


async def stream_slot(request: Request) -> AsyncIterator[Streams]:
    """Dependency: one of the streams, until the answer is sent. Raises Problem."""
    state = request.app.state
    if not hasattr(state, "job_streams"):
        state.job_streams = Streams()
    streams: Streams = state.job_streams
    streams.enter()
    try:
        yield streams
    finally:
        streams.leave()


async def events(
    streams: Streams, jobs: JobStore, uid: str, seen: int, write: Callable[[Job], str], ending: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """A job's states until its last, each when it comes.

    Args:
        seen: the revision that the reader knows; -1 for none.
        write: a job as the text of an event.
        ending: whether the service is about to end; the reader comes back to the next.
    """
    told_s = time.monotonic()
    while True:
        try:
            job = await streams.job(jobs, uid)
        except LutError:
            return  # the reader comes back, as EventSource does
        if job is None:
            return
        now = time.monotonic()
        if job.revision != seen:
            yield format_sse_event(data_str=write(job), id=str(job.revision))
            seen, told_s = job.revision, now
        elif now - told_s >= KEEP_ALIVE_S:
            yield KEEPALIVE_COMMENT
            told_s = now
        if job.state in ENDED or ending():
            return
        await asyncio.sleep(POLL_S)
