"""Tokens and jobs of the service: who may use it, and what it was asked to do, whoever ends when."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import select

from lut_db import database, tables
from lut_db.errors import LutError
from lut_db.jobs import ATTEMPTS, Job, JobStore
from lut_db.records import Target
from lut_db.store import LutStore, open_store


@pytest.fixture
def store(place: str) -> Iterator[LutStore]:
    with open_store(place) as opened:
        yield opened


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of day, which a test moves on."""
    now = [1_000_000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


def here(runner: str) -> bool:
    return False


def test_the_migrations_make_what_the_tables_say(store: LutStore) -> None:
    with store._engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []


def test_a_secret_finds_its_token_and_no_other_does(store: LutStore) -> None:
    secret = store.tokens.create("laptop", ["read"])
    assert secret.startswith("chamnet_")
    assert len(secret) == len("chamnet_") + 43
    found = store.tokens.find(secret)
    assert found is not None
    assert (found.name, found.scopes, found.revoked_at) == ("laptop", ("read",), None)
    for other in ("", "chamnet_", secret[:-1], secret + "x", secret.upper(), "\ud800", "ü"):
        assert store.tokens.find(other) is None


def test_the_database_does_not_hold_a_secret(store: LutStore) -> None:
    secret = store.tokens.create("laptop", ["write"])
    with database.reading(store._engine) as connection:
        kept = repr(connection.execute(select(tables.token)).all())
    assert "laptop" in kept
    assert secret.removeprefix("chamnet_") not in kept


def test_who_may_write_may_read(store: LutStore) -> None:
    found = store.tokens.find(store.tokens.create("ci", ["write"]))
    assert found is not None
    assert found.scopes == ("read", "write")


@pytest.mark.parametrize(
    ("name", "scopes", "told"),
    [
        ("ci", ["admin"], "read, write, but got admin"),
        ("ci", [], "but got none"),
        (" ", ["read"], "must have a name"),
        ("laptop", ["read"], "'laptop', which is there"),
        ("lost", ["read"], "'lost', which is there"),
    ],
)
def test_a_token_that_cannot_be_is_refused(store: LutStore, name: str, scopes: list[str], told: str) -> None:
    for known in ("laptop", "lost"):
        store.tokens.create(known, ["read"])
    store.tokens.revoke("lost")
    with pytest.raises(LutError, match=told):
        store.tokens.create(name, scopes)
    assert [token.name for token in store.tokens.all()] == ["laptop", "lost"]


def test_a_revoked_token_is_found_no_more(store: LutStore, clock: list[float]) -> None:
    secret, other = store.tokens.create("laptop", ["read"]), store.tokens.create("ci", ["read"])
    store.tokens.revoke("laptop")
    clock[0] += 1
    store.tokens.revoke("laptop")
    assert store.tokens.find(secret) is None
    assert store.tokens.find(other) is not None
    assert [token.revoked_at for token in store.tokens.all()] == [1_000_000.0, None]


def test_an_unknown_token_cannot_be_revoked_and_the_known_are_named(store: LutStore) -> None:
    with pytest.raises(LutError, match="known: none yet"):
        store.tokens.revoke("laptop")
    store.tokens.create("ci", ["read"])
    with pytest.raises(LutError, match="'laptop'; known: ci"):
        store.tokens.revoke("laptop")


def test_uses_within_a_minute_are_noted_once(store: LutStore, clock: list[float]) -> None:
    secret = store.tokens.create("laptop", ["read"])
    seen = []
    for _ in range(4):
        store.tokens.find(secret)
        (token,) = store.tokens.all()
        seen.append(token.last_used_at)
        clock[0] += 25
    assert seen == [1_000_000.0, 1_000_000.0, 1_000_000.0, 1_000_075.0]


def test_a_database_that_is_being_written_refuses_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.05)
    with open_store(tmp_path / "lut.db") as store:
        secret = store.tokens.create("laptop", ["read"])
        blocker = sqlite3.connect(tmp_path / "lut.db", isolation_level=None)
        blocker.execute("begin immediate")
        assert store.tokens.find(secret) is not None
        blocker.close()


def test_a_job_comes_back_as_it_was_added(store: LutStore) -> None:
    job = store.jobs.add("search", {"space": "mbconv", "limits": [1.5]}, ["search", "--space", "mbconv"], "ci")
    assert (job.state, job.attempts, job.revision, job.progress, job.result) == ("queued", 0, 1, None, None)
    assert store.jobs.get(job.uid) == job
    assert store.jobs.get("0" * 32) is None
    with pytest.raises(LutError, match="search, profile, import, but got 'poem'"):
        store.jobs.add("poem", {}, [], "ci")


def test_jobs_are_paged_newest_first(store: LutStore) -> None:
    made = [store.jobs.add("search" if number % 2 else "import", {}, [], "ci").uid for number in range(7)]
    store.jobs.claim("search", "a", 60, here)
    first = store.jobs.page(limit=4)
    assert [job.uid for _, job in first] == made[:2:-1]
    assert [job.uid for _, job in store.jobs.page(before=first[-1][0])] == made[2::-1]
    assert [job.uid for _, job in store.jobs.page(kind="search")] == made[5::-2]
    assert [job.uid for _, job in store.jobs.page(state="running")] == [made[1]]
    assert store.jobs.page(state="running", kind="import") == []


def test_the_oldest_job_of_a_kind_goes_first_and_alone(store: LutStore) -> None:
    first, second = (store.jobs.add("search", {}, [], "ci") for _ in range(2))
    other = store.jobs.add("profile", {}, [], "ci")
    claimed = claim(store.jobs, "a")
    assert (claimed.uid, claimed.state, claimed.runner, claimed.attempts) == (first.uid, "running", "a", 1)
    assert store.jobs.claim("search", "b", 60, here) is None
    assert claim(store.jobs, "b", "profile").uid == other.uid
    assert store.jobs.end(first.uid, "a", "done", {"front": 3}, "", 0)
    ended = get(store.jobs, first.uid)
    assert (ended.state, ended.result, ended.exit_status) == ("done", {"front": 3}, 0)
    assert claim(store.jobs, "b").uid == second.uid


def test_a_job_whose_runner_is_gone_is_taken_by_another(store: LutStore) -> None:
    uid = store.jobs.add("search", {}, [], "ci").uid
    claim(store.jobs, "a")
    taken = claim(store.jobs, "b", gone={"a"})
    assert (taken.uid, taken.runner, taken.attempts) == (uid, "b", 2)
    before = get(store.jobs, uid)
    assert not store.jobs.beat(uid, "a", {"stage": "too late"})
    assert not store.jobs.started(uid, "a")
    assert not store.jobs.end(uid, "a", "failed", None, "too late", 1)
    assert get(store.jobs, uid) == before


def test_a_runner_that_does_not_beat_is_taken_for_gone(store: LutStore, clock: list[float]) -> None:
    uid = store.jobs.add("search", {}, [], "ci").uid
    claim(store.jobs, "a")
    clock[0] += 50
    assert store.jobs.beat(uid, "a")
    clock[0] += 50
    assert store.jobs.claim("search", "b", 60, here) is None
    clock[0] += 10
    assert claim(store.jobs, "b").attempts == 2


def test_a_job_that_ends_its_runners_fails_at_last(store: LutStore) -> None:
    uid = store.jobs.add("search", {}, [], "ci").uid
    for attempt in range(ATTEMPTS):
        assert claim(store.jobs, str(attempt), gone={str(attempt - 1)}).attempts == attempt + 1
    assert store.jobs.claim("search", "z", 60, {str(ATTEMPTS - 1)}.__contains__) is None
    failed = get(store.jobs, uid)
    assert (failed.state, failed.attempts) == ("failed", ATTEMPTS)
    assert "3 ended before" in failed.error


def test_a_queued_job_is_cancelled_at_once_and_a_running_one_is_asked(store: LutStore) -> None:
    running, queued = (store.jobs.add("search", {}, [], "ci").uid for _ in range(2))
    claim(store.jobs, "a")
    assert asked(store.jobs, queued).state == "cancelled"
    assert store.jobs.beat(running, "a")
    assert (asked(store.jobs, running).state, asked(store.jobs, running).revision) == ("running", 3)
    assert not store.jobs.beat(running, "a")
    assert store.jobs.end(running, "a", "cancelled")
    ended = get(store.jobs, running)
    assert asked(store.jobs, running) == ended
    assert store.jobs.ask_cancel("0" * 32) is None


def test_a_cancelled_job_whose_runner_is_gone_does_not_run_again(store: LutStore) -> None:
    uid = store.jobs.add("search", {}, [], "ci").uid
    claim(store.jobs, "a")
    store.jobs.ask_cancel(uid)
    assert store.jobs.claim("search", "b", 60, {"a"}.__contains__) is None
    assert get(store.jobs, uid).state == "cancelled"


def test_the_revision_grows_with_what_a_person_would_see(store: LutStore) -> None:
    uid = store.jobs.add("search", {}, [], "ci").uid
    claim(store.jobs, "a")
    told = {"stage": "training", "done": 1, "total": 8, "note": ""}
    steps = [None, told, told, None, {**told, "done": 2}]
    seen = []
    for progress in steps:
        store.jobs.beat(uid, "a", progress)
        seen.append(get(store.jobs, uid).revision)
    assert seen == [2, 3, 3, 3, 4]
    assert get(store.jobs, uid).progress == {**told, "done": 2}


def test_jobs_are_listed_without_what_is_large_unless_asked_for_whole(store: LutStore) -> None:
    uid = store.jobs.add("search", {"space": "macro"}, ["search"], "ci").uid
    claim(store.jobs, "a")
    assert store.jobs.revision(uid) == 2
    store.jobs.end(uid, "a", "done", {"front": 3}, "", 0)
    (light,), (whole,) = ([job for _, job in store.jobs.page(whole=all)] for all in (False, True))
    assert (light.request, light.result, light.arguments) == ({}, None, ("search",))
    assert whole == get(store.jobs, uid)
    assert [store.jobs.count(state, "search") for state in ("queued", "done")] == [0, 1]
    assert store.jobs.revision("nobody") is None


def test_a_job_ends_only_in_a_state_of_an_end(store: LutStore) -> None:
    uid = store.jobs.add("search", {}, [], "ci").uid
    claim(store.jobs, "a")
    with pytest.raises(LutError, match="done, failed, cancelled, but got 'running'"):
        store.jobs.end(uid, "a", "running")
    assert get(store.jobs, uid).state == "running"


RUNNER = """
import sys
from lut_db.store import open_store
with open_store(sys.argv[1]) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    while store.jobs.page("queued"):
        job = store.jobs.claim("import", sys.argv[2], 60, lambda runner: False)
        if job is not None:
            print(job.uid, flush=True)
            store.jobs.end(job.uid, sys.argv[2], "done")
"""


def test_no_two_processes_get_the_same_job(tmp_path: Path) -> None:
    path = tmp_path / "lut.db"
    with open_store(path) as store:
        made = [store.jobs.add("import", {}, [], "ci").uid for _ in range(60)]
    command = [sys.executable, "-c", RUNNER, str(path)]
    runners = [
        subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for name in "abc"
    ]
    for runner in runners:
        assert runner.stdout is not None
        assert runner.stdout.readline() == "ready\n"
    for runner in runners:
        assert runner.stdin is not None
        runner.stdin.write("go\n")
        runner.stdin.flush()
    claimed = [uid for runner in runners for uid in runner.communicate()[0].split()]
    assert [runner.returncode for runner in runners] == [0, 0, 0]
    assert Counter(claimed) == Counter(made)
    with open_store(path) as store:
        assert {(job.state, job.attempts) for _, job in store.jobs.page()} == {("done", 1)}


def test_an_id_is_the_same_in_every_database() -> None:
    target = Target("local-cpu", "litert", "2.3.0", "cpu", "float32", 1, (1,), "avx2")
    assert target.id == "101f38610e77"


def claim(jobs: JobStore, runner: str, kind: str = "search", gone: set[str] = frozenset()) -> Job:  # type: ignore[assignment]
    found = jobs.claim(kind, runner, 60, gone.__contains__)
    assert found is not None
    return found


def get(jobs: JobStore, uid: str) -> Job:
    found = jobs.get(uid)
    assert found is not None
    return found


def asked(jobs: JobStore, uid: str) -> Job:
    found = jobs.ask_cancel(uid)
    assert found is not None
    return found
