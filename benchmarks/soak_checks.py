"""What must hold of a database after a soak, however often its service and its runners were killed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lut_db.aggregate import differ
from lut_db.jobs import ENDED

CLOCKS_APART_S = 0.1
DOUBLED = "select count(*) from (select 1 from measurement group by session_id, operator_id having count(*) > 1)"
BETWEEN = """
select count(*) from measurement join session on session.id = measurement.session_id
where session.started_at >= ? and session.started_at <= ?
"""
CLEAN = "select operator_id, latency_ns from measurement where clean order by operator_id, id"
JOBS = "select uid, kind, state, attempts, created_at, started_at, ended_at, result, error from job order by id"


def check(db: Path, acknowledged: Sequence[str], runners_killed: int) -> tuple[dict[str, Any], list[str]]:
    """Figures, and what is wrong.

    Args:
        acknowledged: uids that the service answered with.
    """
    with sqlite3.connect(db) as connection:
        connection.row_factory = sqlite3.Row
        jobs = connection.execute(JOBS).fetchall()
        wrong = [
            *_of_the_file(connection), *_of_rows(connection), *_of_jobs(jobs, acknowledged, runners_killed),
            *_of_sums(connection, jobs),
        ]  # fmt: skip
        return _figures(connection, jobs), wrong


def _of_the_file(connection: sqlite3.Connection) -> Iterator[str]:
    found = [row[0] for row in connection.execute("PRAGMA integrity_check")]
    if found != ["ok"]:
        yield f"the database must be whole, but got {found[:3]}"
    if broken := connection.execute("PRAGMA foreign_key_check").fetchall():
        yield f"every reference must lead somewhere, but {len(broken)} do not"


def _of_rows(connection: sqlite3.Connection) -> Iterator[str]:
    sessions, batches = connection.execute("select count(*), count(distinct batch) from session").fetchone()
    if sessions != batches:
        yield f"every batch must be stored once, but {sessions} sessions have {batches} batch ids"
    if doubled := connection.execute(DOUBLED).fetchone()[0]:
        yield f"a batch must measure an operator once, but {doubled} are there twice"
    passes: dict[int, list[float]] = {}
    for id, latency in connection.execute(CLEAN):
        passes.setdefault(id, []).append(latency)
    many = [times for times in passes.values() if len(times) > (3 if differ(times[:2]) else 2)]
    if many:
        yield f"an operator needs two passes, three where two differ, but {len(many)} have more"


def _of_jobs(jobs: Sequence[sqlite3.Row], acknowledged: Sequence[str], runners_killed: int) -> Iterator[str]:
    known = {job["uid"]: job for job in jobs}
    if lost := [uid for uid in acknowledged if uid not in known]:
        yield f"every job that was acknowledged must be there, but {len(lost)} are not"
    for job in jobs:
        if job["state"] not in ENDED:
            yield f"every job must have ended, but {job['kind']} {job['uid']} is {job['state']}"
        elif job["state"] != "done":
            yield f"every job must be done, but {job['kind']} {job['uid']} is {job['state']}: {job['error']}"
    again = sum(job["attempts"] - 1 for job in jobs)
    if again != runners_killed:
        yield f"a job must begin again where its runner was killed, {runners_killed} times, but did {again} times"


def _of_sums(connection: sqlite3.Connection, jobs: Sequence[sqlite3.Row]) -> Iterator[str]:
    """What each profile says that it measured, in its last attempt, must be what is stored of that time."""
    profiles = [job for job in jobs if job["kind"] == "profile" and job["state"] == "done"]
    first_attempts = 0
    for job in profiles:
        said = sum(summary["measured"] for summary in json.loads(job["result"]))
        stored = connection.execute(BETWEEN, (job["started_at"] - CLOCKS_APART_S, job["ended_at"])).fetchone()[0]
        if said != stored:
            yield f"profile {job['uid']} says that it measured {said} times, but {stored} rows are stored of its time"
        since = job["created_at"], job["started_at"] - CLOCKS_APART_S
        first_attempts += said + (connection.execute(BETWEEN, since).fetchone()[0] if job["attempts"] > 1 else 0)
    rows = connection.execute("select count(*) from measurement").fetchone()[0]
    if rows != first_attempts:
        yield f"every row must be of a profile, but {rows} are stored and {first_attempts} accounted for"


def _figures(connection: sqlite3.Connection, jobs: Sequence[sqlite3.Row]) -> dict[str, Any]:
    states: dict[str, int] = {}
    for job in jobs:
        name = f"{job['kind']} {job['state']}"
        states[name] = states.get(name, 0) + 1
    count = "select count(*), count(distinct operator_id), count(distinct session_id), sum(clean) from measurement"
    rows, operators, batches, clean = connection.execute(count).fetchone()
    return {"jobs": states, "rows": rows, "clean_rows": clean, "operators": operators, "batches": batches}
