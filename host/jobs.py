"""Keeps jobs going as long as the service lives: a runner for each kind that has work and none that does it.

The service runs nothing itself. A runner lives on when it ends, and is seen by the next one; of a runner that is gone
the job waits again (``lut_db.jobs``), and a new runner is started for it.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from host.job_files import absolute, remove_abandoned, shared_folder
from host.job_runner import HOME, STALE_S
from host.lease import gone
from lut_db.errors import LutError
from lut_db.jobs import KINDS, Job, JobStore

if TYPE_CHECKING:
    from host.api.service import Service

TICK_S = 0.5
TIDY_S = 3600.0
PAUSE_S = 10.0
"""Before another runner where the last one could not run."""
MOST_KEPT = 1000

log = logging.getLogger("chamnet.jobs")


async def keep_jobs(service: Service) -> None:
    """Starts runners until it is cancelled; those that run then go on."""
    lanes, jobs, tidied_s = Lanes(service.config.db), service.store.jobs, -TIDY_S
    while True:
        try:
            await asyncio.to_thread(lanes.tend, jobs)
            if time.monotonic() - tidied_s >= TIDY_S:
                tidied_s = time.monotonic()
                await asyncio.to_thread(tidy, service.config.db, jobs)
        except (LutError, OSError) as error:
            log.warning("jobs wait: %s", error)
        except Exception:
            log.exception("jobs wait")
        await asyncio.sleep(TICK_S)


class Lanes:
    """One lane a kind: a profile and a search may run side by side, two profiles would disturb each other."""

    def __init__(self, db: str) -> None:
        self._db = absolute(db)
        self._runners: dict[str, subprocess.Popen[bytes]] = {}
        self._not_before_s: dict[str, float] = {}

    def tend(self, jobs: JobStore) -> None:
        """Starts a runner in each lane that has work and is free. Raises LutError, OSError."""
        for kind in KINDS:
            if self._is_free(kind) and has_work(jobs, kind):
                self._runners[kind] = start_runner(kind, self._db)

    def _is_free(self, kind: str) -> bool:
        runner = self._runners.get(kind)
        if runner is not None:
            status = runner.poll()
            if status is None:
                return False
            if status:
                log.warning("a runner of %s jobs ended with status %d", kind, status)
                self._not_before_s[kind] = time.monotonic() + (PAUSE_S if status > 0 else 0.0)
            del self._runners[kind]
        return time.monotonic() >= self._not_before_s.get(kind, 0.0)


def has_work(jobs: JobStore, kind: str) -> bool:
    """Whether a runner would find a job: one that waits while none runs, or one whose runner is gone."""
    running = jobs.page("running", kind, limit=1)
    return all(_is_lost(job) for _, job in running) and bool(running or jobs.count("queued", kind))


def start_runner(kind: str, db: str) -> subprocess.Popen[bytes]:
    """A runner that outlives this process; what it says when it fails is kept beside the uploads."""
    with (shared_folder(db) / "runners.log").open("ab") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "host.job_runner", kind, "--db", db],
            cwd=HOME, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True,
        )  # fmt: skip


def tidy(db: str, jobs: JobStore) -> None:
    """Removes uploads of jobs that were cancelled before they ran, or given up."""
    waiting = [
        job for state in ("queued", "running") for _, job in jobs.page(state, "import", limit=MOST_KEPT, whole=True)
    ]
    remove_abandoned(shared_folder(db), {str(job.request.get("upload")) for job in waiting})


def _is_lost(job: Job) -> bool:
    return gone(job.runner) or time.time() - (job.heartbeat_at or 0.0) >= STALE_S
