"""Jobs as processes: what a runner makes of a command, and what survives when one of them is killed."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from host import job_runner, progress_lines, show
from host.api.job_requests import ProfileRequest, profile_arguments
from host.job_files import ABANDONED_S, absolute, remove_abandoned, shared_folder, work_folder
from host.job_runner import run_next
from host.jobs import Lanes, has_work
from host.lease import gone, new_owner
from lut_db.errors import StoreUnavailable
from lut_db.exchange import export_target
from lut_db.jobs import ATTEMPTS, ENDED, Job, JobStore
from lut_db.samples import open_samples
from lut_db.store import LutStore, open_store
from search.spaces import space_named
from tests.test_profile import OPERATORS, agents_of, count_rows, passes_of
from tests.test_search import fill, samples_of

LIMIT_S = 240.0
KEYS = [op.key for op in OPERATORS[:100]]
BATCH = 64
KEEPER = """
import asyncio, sys
from types import SimpleNamespace
from host.jobs import keep_jobs
from lut_db.store import open_store
config = SimpleNamespace(db=sys.argv[1])
asyncio.run(keep_jobs(SimpleNamespace(config=config, store=open_store(config.db))))
"""
DEAF = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.write(int(sys.argv[1]), b"x")
time.sleep(60)
"""
needs_proc = pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc to find the processes")


@pytest.fixture
def db(tmp_path: Path) -> str:
    return str(tmp_path / "lut.db")


@pytest.fixture
def store(db: str) -> Iterator[LutStore]:
    with open_store(db) as opened:
        yield opened


@pytest.fixture
def jobs(store: LutStore) -> JobStore:
    return store.jobs


def add_profile(jobs: JobStore, keys: list[str] = KEYS) -> Job:
    asked = ProfileRequest(device="local-cpu", engine="fake", operators=keys)
    return jobs.add("profile", asked.model_dump(mode="json"), profile_arguments(asked, "local-cpu"), "test")


def found(jobs: JobStore, uid: str) -> Job:
    job = jobs.get(uid)
    assert job is not None
    return job


def run(jobs: JobStore, db: str, kind: str, *arguments: str, **request: object) -> Job:
    job = jobs.add(kind, request, arguments, "test")
    run_next(jobs, kind, absolute(db))
    return found(jobs, job.uid)


def await_that(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < deadline, "what is waited for must come"
        time.sleep(0.01)


def pid_of(runner: str) -> int:
    return int(runner.split(":")[1])


def finish(jobs: JobStore, db: str) -> None:
    """Profiles on until nothing is lacking: on a busy machine a pass may leave a few operators doubtful."""
    for _ in range(5):
        job = add_profile(jobs)
        run_next(jobs, "profile", absolute(db))
        ended = found(jobs, job.uid)
        assert ended.state == "done", ended.error
        if ended.result[0]["measured"] == 0:
            return
    raise AssertionError("a run that finds everything measured must come within five")


def test_a_profile_is_run_and_tells_its_progress_and_its_summary(jobs: JobStore, db: str) -> None:
    uid = add_profile(jobs, KEYS[:5]).uid
    run_next(jobs, "profile", absolute(db))
    job = found(jobs, uid)
    assert (job.state, job.exit_status, job.error, job.attempts) == ("done", 0, "", 1)
    assert job.result[0]["measured"] == 10
    assert job.progress is not None
    assert (job.progress["title"], job.progress["stage"]) == ("fake float32 t1", "pass 3")
    assert job.revision > 3


def test_a_search_tells_all_about_itself(jobs: JobStore, db: str) -> None:
    words = ("--macs-m=300", "--population=60", "--generations=3", "--fix=resolution=224")
    job = run(jobs, db, "search", "search", "--json", "--whole", "--space=chamnet-mobile", *words)
    assert (job.state, job.error) == ("done", "")
    result = job.result
    assert result["limits"] == [{"quantity": "macs_m", "at_most": 300.0, "target": 0}]
    assert (result["space"], result["genes"][0]["name"]) == ("chamnet-mobile", "resolution")
    assert result["winner"] == max(result["candidates"], key=lambda row: row["accuracy"])["genome"]
    assert result["predictor"]["networks"] > 8
    assert set(result["seconds"]) == {"prices", "predictor", "search"}
    assert job.progress is not None
    assert (job.progress["done"], job.progress["total"]) == (3, 3)


def test_a_search_finds_networks_on_the_tables_that_are_named(jobs: JobStore, store: LutStore, db: str) -> None:
    space = space_named("macro")
    target = fill(store, space)
    with open_samples(db) as samples:
        samples.put(samples_of(space))
    words = (f"--target={target.key}", f"--limit={target.key}:latency_ms=9", "--population=60", "--generations=3")
    job = run(jobs, db, "search", "search", "--json", "--whole", "--space=macro", *words)
    assert (job.state, job.error) == ("done", "")
    assert job.result["targets"] == [target.name]
    assert all(row["latencies_ms"][target.name] <= 9 for row in job.result["candidates"])


def test_an_import_tells_its_targets_and_its_upload_is_gone(
    jobs: JobStore, store: LutStore, db: str, tmp_path: Path
) -> None:
    add_profile(jobs, KEYS[:3])
    run_next(jobs, "profile", absolute(db))
    (target,) = store.targets()
    export_target(store, target, tmp_path / "out.jsonl")
    other = str(tmp_path / "other.db")
    upload = (tmp_path / "out.jsonl").rename(shared_folder(other) / "5f0c.jsonl")
    with open_store(other) as filled:
        job = run(filled.jobs, other, "import", "lut", "import", "table.jsonl", "--json", upload="5f0c.jsonl")
    assert (job.state, job.error) == ("done", "")
    assert job.result == {"targets": [{"name": target.name, "measurements": 6}], "refused": []}
    assert not upload.exists()


def test_a_command_that_fails_leaves_its_last_line_without_paths(jobs: JobStore, db: str) -> None:
    job = run(jobs, db, "search", "search", "--json", "--space=macro", "--macs-m=9")
    assert (job.state, job.exit_status) == ("failed", 1)
    assert job.error.startswith("the accuracy predictor of macro must have at least 8 trained networks")
    (shared_folder(db) / "5f0c.jsonl").write_text("{}\n")
    job = run(jobs, db, "import", "lut", "import", "table.jsonl", "--json", upload="5f0c.jsonl")
    assert job.error.startswith("table.jsonl: line 1 must be a JSON object with 'is'")


def test_a_search_names_the_operators_that_a_table_lacks(jobs: JobStore, db: str) -> None:
    add_profile(jobs, KEYS[:1])
    run_next(jobs, "profile", absolute(db))
    words = ("--space=macro", "--device=local-cpu", "--latency-ms=9")
    job = run(jobs, db, "search", "search", "--json", "--whole", *words)
    assert job.state == "failed"
    assert 0 < len(job.result["missing"]) <= job.result["missing_count"]
    assert "no latency for" in job.error


def test_a_command_that_cannot_start_fails(jobs: JobStore, db: str) -> None:
    job = run(jobs, db, "search", "search", "--space=ma\0cro")
    assert (job.state, "null byte" in job.error) == ("failed", True)


def test_a_command_works_in_a_folder_of_its_own_that_is_gone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left, used = tmp_path / "chamnet-job-left", tmp_path / "chamnet-job-used"
    for folder, pid in ((left, ended.pid), (used, os.getppid())):
        folder.mkdir()
        (folder / "owner").write_text(new_owner().replace(f":{os.getpid()}:", f":{pid}:"))
    with work_folder(new_owner()) as folder:
        assert (folder.stat().st_mode & 0o777, len(list(folder.iterdir()))) == (0o700, 1)
    assert list(tmp_path.iterdir()) == [used]


def test_uploads_are_private_and_removed_where_no_job_needs_them(db: str) -> None:
    folder = shared_folder(db)
    assert (folder.name, folder.stat().st_mode & 0o777) == ("lut.db.jobs", 0o700)
    old = time.time() - ABANDONED_S - 1
    for name in ("needed.jsonl", "left.jsonl", "half.part", "runners.log"):
        (folder / name).write_text("")
        os.utime(folder / name, (old, old))
    (folder / "new.jsonl").write_text("")
    remove_abandoned(folder, {"needed.jsonl"})
    assert {path.name for path in folder.iterdir()} == {"needed.jsonl", "new.jsonl", "runners.log"}


def test_nothing_is_run_where_nothing_waits(jobs: JobStore, db: str) -> None:
    run_next(jobs, "profile", absolute(db))
    assert not has_work(jobs, "profile")


def test_a_cancelled_profile_ends_and_keeps_what_it_has(jobs: JobStore, db: str) -> None:
    uid = add_profile(jobs).uid
    runner = threading.Thread(target=run_next, args=(jobs, "profile", absolute(db)))
    runner.start()
    await_that(lambda: count_rows(Path(db)) >= BATCH)
    asked = jobs.ask_cancel(uid)
    assert asked is not None
    runner.join(LIMIT_S)
    job = found(jobs, uid)
    assert (job.state, job.error) == ("cancelled", "")
    assert job.ended_at is not None
    assert asked.heartbeat_at is not None
    assert job.ended_at - asked.heartbeat_at < job_runner.GRACE_S
    assert count_rows(Path(db)) % BATCH in (0, len(KEYS) % BATCH)
    finish(jobs, db)
    assert passes_of(Path(db)) == {2: len(KEYS)}


def test_a_command_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_runner, "GRACE_S", 0.2)
    reading, writing = os.pipe()
    child = subprocess.Popen([sys.executable, "-c", DEAF, str(writing)], pass_fds=(writing,))
    os.close(writing)
    assert os.read(reading, 1) == b"x"
    assert job_runner.follow(child, reading, lambda told: False)
    assert child.returncode == -signal.SIGKILL


def test_a_busy_database_stops_no_command(jobs: JobStore, db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*arguments: object, **more: object) -> bool:
        raise StoreUnavailable("the database must be readable and writable, but got: locked")

    uid = add_profile(jobs, KEYS[:2]).uid
    monkeypatch.setattr(JobStore, "beat", busy)
    monkeypatch.setattr(JobStore, "started", busy)
    run_next(jobs, "profile", absolute(db))
    assert found(jobs, uid).state == "done"


def test_a_runner_whose_job_is_another_s_stops_its_command_and_stores_nothing(jobs: JobStore, db: str) -> None:
    uid = add_profile(jobs).uid
    runner = threading.Thread(target=run_next, args=(jobs, "profile", absolute(db)))
    runner.start()
    await_that(lambda: count_rows(Path(db)) >= BATCH)
    taken = jobs.claim("profile", "elsewhere:1:boot:id", LIMIT_S, lambda runner: True)
    assert taken is not None
    runner.join(LIMIT_S)
    job = found(jobs, uid)
    assert (job.state, job.runner, job.result) == ("running", "elsewhere:1:boot:id", None)


def tend_until(lanes: Lanes, jobs: JobStore, holds: Callable[[], object]) -> None:
    def tended() -> object:
        lanes.tend(jobs)
        return holds()

    await_that(tended)


def measures(jobs: JobStore, db: str, uid: str, attempt: int, rows: int) -> bool:
    """Whether the command of an attempt is there, and so many rows are."""
    job = found(jobs, uid)
    assert job.state not in ENDED, "the job must not end before its runner is killed"
    return job.attempts == attempt and count_rows(Path(db)) >= rows and bool(agents_of(pid_of(job.runner)))


def has_rows(jobs: JobStore, db: str, uid: str, rows: int) -> bool:
    return count_rows(Path(db)) >= rows and found(jobs, uid).state == "running"


def is_running(pid: int) -> bool:
    return not gone(new_owner().replace(f":{os.getpid()}:", f":{pid}:"))


@needs_proc
def test_a_killed_runner_takes_its_command_along_and_the_job_goes_on_without_a_lost_or_doubled_row(
    jobs: JobStore, db: str
) -> None:
    uid, lanes = add_profile(jobs).uid, Lanes(db)
    for attempt, rows in ((1, 1), (2, BATCH + 1)):
        tend_until(lanes, jobs, lambda attempt=attempt, rows=rows: measures(jobs, db, uid, attempt, rows))
        runner = pid_of(found(jobs, uid).runner)
        (command,) = agents_of(runner)
        os.kill(runner, signal.SIGKILL)
        await_that(lambda command=command: not is_running(command))
        assert count_rows(Path(db)) < 2 * len(KEYS), "the command must not have come to its end"
        assert found(jobs, uid).state == "running"
        assert has_work(jobs, "profile")
    tend_until(lanes, jobs, lambda: found(jobs, uid).state in ENDED)
    job = found(jobs, uid)
    assert (job.state, job.attempts, job.error) == ("done", 3, "")
    finish(jobs, db)
    assert passes_of(Path(db)) == {2: len(KEYS)}


@needs_proc
def test_a_job_whose_runners_all_end_fails(jobs: JobStore, db: str) -> None:
    uid, lanes = add_profile(jobs).uid, Lanes(db)
    for attempt in range(1, ATTEMPTS + 1):
        tend_until(lanes, jobs, lambda attempt=attempt: found(jobs, uid).attempts == attempt)
        os.kill(pid_of(found(jobs, uid).runner), signal.SIGKILL)
    tend_until(lanes, jobs, lambda: found(jobs, uid).state in ENDED)
    assert found(jobs, uid).state == "failed"
    assert found(jobs, uid).error.startswith("a job's runner must live until its end, but 3 ended before")


@needs_proc
def test_kinds_run_side_by_side_and_two_of_a_kind_one_after_the_other(jobs: JobStore, db: str) -> None:
    first, second = add_profile(jobs).uid, add_profile(jobs, KEYS[:3]).uid
    search = jobs.add("search", {}, ("search", "--json", "--space=macro", "--macs-m=9"), "test").uid
    lanes, together = Lanes(db), set()

    def ended() -> bool:
        together.add(frozenset(uid for uid in (first, second, search) if found(jobs, uid).state == "running"))
        return all(found(jobs, uid).state in ENDED for uid in (first, second, search))

    tend_until(lanes, jobs, ended)
    assert not any({first, second} <= names for names in together)
    assert {first, search} in together
    assert [found(jobs, uid).state for uid in (first, second, search)] == ["done", "done", "failed"]


@needs_proc
def test_a_killed_service_harms_no_job_and_the_next_one_sees_it(jobs: JobStore, db: str) -> None:
    uid = add_profile(jobs).uid
    first = start_keeper(db)
    await_that(lambda: has_rows(jobs, db, uid, 1))
    runner = found(jobs, uid).runner
    first.kill()
    first.wait()
    assert not gone(runner)
    rows, second = count_rows(Path(db)), start_keeper(db)
    try:
        await_that(lambda: found(jobs, uid).state in ENDED)
    finally:
        second.kill()
        second.wait()
    job = found(jobs, uid)
    assert (job.state, job.attempts, job.runner) == ("done", 1, runner)
    assert count_rows(Path(db)) > rows
    finish(jobs, db)
    assert passes_of(Path(db)) == {2: len(KEYS)}
    with sqlite3.connect(db) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def start_keeper(db: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", KEEPER, db], cwd=job_runner.HOME, start_new_session=True)


def test_progress_is_told_as_lines_where_a_program_asks_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    monkeypatch.setenv(progress_lines.VARIABLE, str(writing))
    with show.progress("litert") as progress:
        for done in range(1000):
            progress.tell("pass 1", done, 1000)
        progress.tell("pass 1", 1000, 1000)
        progress.wait("the battery is hot")
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        lines = [json.loads(line) for line in pipe]
    assert lines[0] == {"title": "litert", "stage": "pass 1", "done": 0, "total": 1000, "note": ""}
    assert lines[-2] == {"title": "litert", "stage": "pass 1", "done": 1000, "total": 1000, "note": ""}
    assert lines[-1]["note"] == "the battery is hot"
    assert len(lines) < 100


def test_a_command_never_waits_for_who_reads_its_progress() -> None:
    reading, writing = os.pipe()
    progress = progress_lines.lines_to(writing, "t")
    for number in range(5000):
        progress.wait(f"reason {number}")
    os.close(reading)
    progress.wait("nobody listens")
    os.close(writing)


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'{"stage": "x"}', b"\xff"])
def test_what_is_no_progress_is_not_understood(line: bytes) -> None:
    assert progress_lines.parse_line(line) is None
