"""JobStore: what a service was asked to do, and how far it is. Which command does it, ``host.jobs`` knows.

A job that runs has a runner, who beats; whoever finds it gone puts its job back. Every change is one transaction that
names the runner, so a runner that was taken for gone changes nothing any more.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, Engine, Row, func, insert, select, update

from lut_db import tables
from lut_db.database import reading, writing
from lut_db.errors import LutError

KINDS = ("search", "profile", "import")
STATES = ("queued", "running", "done", "failed", "cancelled")
ENDED = ("done", "failed", "cancelled")
ATTEMPTS = 3
"""A job whose runner ended so often ends its runners itself."""


@dataclass(frozen=True, slots=True)
class Job:
    """One job as it stands.

    Attributes:
        uid: what it is called in URLs.
        kind: of KINDS.
        request: what was asked, as JSON.
        arguments: the command line after ``chamnet``.
        state: of STATES.
        created_at, started_at, ended_at, heartbeat_at: seconds since the epoch, UTC; started_at of the last attempt.
        attempts: how often a runner took it.
        runner: who runs it, or did last; "" before.
        progress: ``stage``, ``done``, ``total``, ``note``; None where nothing was told.
        error: why it failed, "" where it did not.
        revision: grows with every change that a person would see, which a mere heartbeat is not.
        made_by: name of the token.
    """

    uid: str
    kind: str
    request: Mapping[str, Any]
    arguments: tuple[str, ...]
    state: str
    created_at: float
    started_at: float | None
    ended_at: float | None
    heartbeat_at: float | None
    attempts: int
    runner: str
    progress: Mapping[str, Any] | None
    result: Any
    error: str
    exit_status: int | None
    cancel_asked: bool
    revision: int
    made_by: str


COLUMNS = [tables.job.c[field.name] for field in fields(Job)]
LARGE = ("request", "result")
"""What may be megabytes: a list of jobs is read without it."""


class JobStore:
    """The jobs of an open database; ``LutStore.jobs`` makes it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, kind: str, request: Mapping[str, Any], arguments: Sequence[str], made_by: str) -> Job:
        """Queues a job. Raises LutError for an unknown kind."""
        if kind not in KINDS:
            raise LutError(f"a job's kind must be one of {', '.join(KINDS)}, but got {kind!r}; name one of them")
        job = Job(
            uuid.uuid4().hex, kind, dict(request), tuple(arguments), "queued", time.time(), None, None, None, 0, "",
            None, None, "", None, False, 1, made_by,
        )  # fmt: skip
        with writing(self._engine) as connection:
            connection.execute(insert(tables.job).values(_row(job)))
        return job

    def get(self, uid: str) -> Job | None:
        with reading(self._engine) as connection:
            return _get(connection, uid)

    def revision(self, uid: str) -> int | None:
        """Of a job; None for an unknown one."""
        with reading(self._engine) as connection:
            return connection.scalar(select(tables.job.c.revision).where(tables.job.c.uid == uid))

    def count(self, state: str, kind: str) -> int:
        """How many jobs of a kind are in a state."""
        table = tables.job
        query = select(func.count()).select_from(table).where(table.c.state == state, table.c.kind == kind)
        with reading(self._engine) as connection:
            return connection.scalar(query) or 0

    def page(
        self, state: str = "", kind: str = "", before: int | None = None, limit: int = 100, whole: bool = False
    ) -> list[tuple[int, Job]]:
        """Jobs with their row ids, newest first; of one state or kind if named.

        Args:
            before: row id of the last job of the page before.
            whole: also what is LARGE, else empty.
        """
        table = tables.job
        columns = [column for column in COLUMNS if whole or column.name not in LARGE]
        query = select(table.c.id, *columns).order_by(table.c.id.desc()).limit(limit)
        for column, value in ((table.c.state, state), (table.c.kind, kind)):
            if value:
                query = query.where(column == value)
        if before is not None:
            query = query.where(table.c.id < before)
        with reading(self._engine) as connection:
            return [(row.id, _job(row)) for row in connection.execute(query)]

    def claim(self, kind: str, runner: str, stale_s: float, gone: Callable[[str], bool]) -> Job | None:
        """Takes the oldest queued job of a kind; None where there is none, or one of that kind runs.

        A job that runs, but whose runner is ``gone`` or was not heard of for so long, goes back to the queue first;
        after ATTEMPTS it fails.
        """
        table = tables.job
        mine = table.c.kind == kind, table.c.state.in_(("queued", "running"))
        query = select(*_STANDING).where(*mine).order_by(table.c.id)
        with writing(self._engine, f"jobs {kind}") as connection:
            # where writers are not one after another, the second waits for these rows
            rows = connection.execute(query.with_for_update()).all()
            running = [row for row in rows if row.state == "running"]
            lost = [row for row in running if gone(row.runner) or time.time() - row.heartbeat_at >= stale_s]
            for row in lost:
                _change(connection, row.uid, _put_back(row))
            if len(running) > len(lost):
                return None
            queued = select(table.c.uid).where(table.c.kind == kind, table.c.state == "queued").order_by(table.c.id)
            uid = connection.scalar(queued.limit(1))
            return _take(connection, uid, runner) if uid is not None else None

    def started(self, uid: str, runner: str) -> bool:
        """Notes that a job's command has begun; False when it should not go on."""
        return self._beat(uid, runner, None, {"started_at": time.time()})

    def beat(self, uid: str, runner: str, progress: Mapping[str, Any] | None = None) -> bool:
        """The heartbeat; False when the job is no longer this runner's or a cancel was asked.

        Args:
            progress: None leaves what was told before.
        """
        return self._beat(uid, runner, progress, {})

    def end(
        self, uid: str, runner: str, state: str, result: Any = None, error: str = "", exit_status: int | None = None
    ) -> bool:
        """Ends a job; False, and nothing changes, when it is no longer this runner's. Raises LutError."""
        if state not in ENDED:
            raise LutError(f"a job must end in one of {', '.join(ENDED)}, but got {state!r}; name one of them")
        values = {"state": state, "result": result, "error": error, "exit_status": exit_status, **_ended()}
        return self._as_runner(uid, runner, lambda row: {**values, "revision": row.revision + 1}) is not None

    def ask_cancel(self, uid: str) -> Job | None:
        """Cancels a queued job at once, and asks the runner of one that runs; None for an unknown job."""
        with writing(self._engine) as connection:
            job = _get(connection, uid, locked=True)
            if job is None or job.state in ENDED or job.cancel_asked:
                return job
            now = {"state": "cancelled", **_ended()} if job.state == "queued" else {}
            _change(connection, uid, {"cancel_asked": True, "revision": job.revision + 1, **now})
            return _get(connection, uid)

    def _beat(self, uid: str, runner: str, progress: Mapping[str, Any] | None, more: Mapping[str, Any]) -> bool:
        def values(row: Row[Any]) -> Mapping[str, Any]:
            told = {} if progress is None else {"progress": dict(progress)}
            changed = bool(more) or (progress is not None and told["progress"] != row.progress)
            return {"heartbeat_at": time.time(), **more, **told, "revision": row.revision + changed}

        row = self._as_runner(uid, runner, values)
        return row is not None and not row.cancel_asked

    def _as_runner(self, uid: str, runner: str, values: Callable[[Row[Any]], Mapping[str, Any]]) -> Row[Any] | None:
        """Changes a job that is the runner's; returns what it was."""
        table = tables.job
        mine = select(*_STANDING).where(table.c.uid == uid, table.c.runner == runner, table.c.state == "running")
        with writing(self._engine) as connection:
            row = connection.execute(mine.with_for_update()).first()
            if row is not None:
                _change(connection, uid, values(row))
            return row


_STANDING = [
    tables.job.c[name]
    for name in ("uid", "state", "runner", "heartbeat_at", "attempts", "cancel_asked", "revision", "progress")
]


def _take(connection: Connection, uid: str, runner: str) -> Job | None:
    now, table = time.time(), tables.job
    mine = {"state": "running", "runner": runner, "started_at": now, "heartbeat_at": now}
    grown = {"attempts": table.c.attempts + 1, "revision": table.c.revision + 1}
    _change(connection, uid, {**mine, **grown})
    return _get(connection, uid)


def _put_back(row: Row[Any]) -> Mapping[str, Any]:
    """What becomes of a job whose runner is gone."""
    revision = {"revision": row.revision + 1}
    if row.cancel_asked:
        return {"state": "cancelled", **_ended(), **revision}
    if row.attempts < ATTEMPTS:
        return {"state": "queued", "heartbeat_at": None, **revision}
    error = f"a job's runner must live until its end, but {row.attempts} ended before; see the service's log"
    return {"state": "failed", "error": error, **_ended(), **revision}


def _ended() -> dict[str, Any]:
    return {"ended_at": time.time()}


def _change(connection: Connection, uid: str, values: Mapping[str, Any]) -> None:
    connection.execute(update(tables.job).where(tables.job.c.uid == uid).values(**values))


def _get(connection: Connection, uid: str, locked: bool = False) -> Job | None:
    query = select(*COLUMNS).where(tables.job.c.uid == uid)
    row = connection.execute(query.with_for_update() if locked else query).first()
    return None if row is None else _job(row)


def _row(job: Job) -> dict[str, Any]:
    return {field.name: getattr(job, field.name) for field in fields(job)}


def _job(row: Row[Any]) -> Job:
    values = {**dict.fromkeys(LARGE), **{name: row._mapping[name] for name in row._mapping if name != "id"}}
    return Job(**{**values, "request": values["request"] or {}, "arguments": tuple(values["arguments"])})
