"""Runs one job: ``python -m host.job_runner KIND --db URL`` takes the oldest that waits, and starts its command.

The runner is a process of its own, so that a service that ends harms no job; the command is its child, which ends with
it. It tells the database how far the command is, whether it was asked to stop, and what came of it.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from logging.config import dictConfig
from pathlib import Path
from typing import Any

import host
from host import progress_lines
from host.errors import EXIT_DONE, EXIT_PARTLY
from host.job_files import FILE_URL, absolute, shared_folder, work_folder
from host.lease import gone, new_owner
from host.logs import log_config
from lut_db.errors import LutError
from lut_db.jobs import KINDS, Job, JobStore
from lut_db.store import open_store

log = logging.getLogger("chamnet.runner")

HOME = str(Path(host.__file__).resolve().parent.parent)
START = "import sys; sys.path[0] = sys.argv.pop(1); from host.cli import main; main(sys.argv[1:])"
"""The command ``chamnet``, of this program wherever the child works."""

STALE_S = 120.0
"""A runner that was not heard of for so long is gone."""
TELL_S, BEAT_S, LOOK_S = 0.5, 2.0, 0.25
"""Between two writes of progress, between two heartbeats, between two looks at the child."""
GRACE_S = 30.0
"""For a command that is to stop, to store what it has."""
END_TRIES, END_PAUSE_S = 12, 5.0
IMPORT_MEMORY_BYTES = 8 << 30
LONGEST_ERROR, MOST_OPERATORS = 2000, 10_000

OPERATORS, TABLE, MISSING = "operators.txt", "table", "missing.json"
"""Files in a job's folder: what its arguments name, and what a command writes that lacks operators."""

Told = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a job."""

    state: str
    result: Any = None
    error: str = ""
    exit_status: int | None = None


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m host.job_runner", description="Runs the oldest job that waits.")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--db", required=True, help="the database: a file, or any SQLAlchemy URL")
    asked = parser.parse_args(arguments)
    dictConfig(log_config("json", "INFO"))
    with open_store(asked.db, create=False) as store:
        run_next(store.jobs, asked.kind, absolute(asked.db))


def run_next(jobs: JobStore, kind: str, db: str) -> None:
    """Runs the oldest job of a kind that waits, to its end; nothing where there is none, or one of the kind runs."""
    runner = new_owner()
    job = jobs.claim(kind, runner, STALE_S, gone)
    if job is None:
        return
    facts = {"job": job.uid, "kind": kind, "attempt": job.attempts}
    log.info("job taken", extra={"facts": facts})
    outcome = _run(jobs, job, runner, db)
    log.info("job over", extra={"facts": {**facts, "state": outcome.state, "error": outcome.error}})
    if _end(jobs, job, runner, outcome):
        _drop_upload(job, db)


def _run(jobs: JobStore, job: Job, runner: str, db: str) -> Outcome:
    def beat(told: Told | None) -> bool:
        try:
            return jobs.beat(job.uid, runner, told)
        except LutError:
            return True  # the database cannot be written now: the command goes on

    with work_folder(runner) as folder:
        try:
            _supply(job, folder, db)
            child, lines = _start(job, folder, db)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            return Outcome("failed", error=f"the command must start, but got: {reason}")
        with suppress(LutError):
            jobs.started(job.uid, runner)
        stopped = follow(child, lines, beat)
        return outcome_of(child.returncode, stopped, folder, db)


def _supply(job: Job, folder: Path, db: str) -> None:
    """Puts what the arguments name into the job's folder."""
    if operators := job.request.get("operators"):
        (folder / OPERATORS).write_text("\n".join(operators) + "\n")
    if upload := job.request.get("upload"):
        os.symlink(shared_folder(db) / upload, folder / f"{TABLE}{Path(upload).suffix}")


def _start(job: Job, folder: Path, db: str) -> tuple[subprocess.Popen[bytes], int]:
    """The command as a child, and the descriptor to read its progress from."""
    reading, writing = os.pipe()
    environment = {**os.environ, progress_lines.VARIABLE: str(writing), "TMPDIR": str(folder)}
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        child = subprocess.Popen(
            [sys.executable, "-c", START, HOME, *job.arguments, f"--db={db}"],
            cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err, pass_fds=(writing,),
            preexec_fn=partial(_bind, os.getpid(), IMPORT_MEMORY_BYTES if job.kind == "import" else None),
        )  # fmt: skip
    os.close(writing)
    return child, reading


def _bind(parent: int, memory_bytes: int | None) -> None:
    """In the child: it ends with its parent, and a file that unpacks to more than any table is an error."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    if memory_bytes is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))


_LIBC, _PR_SET_PDEATHSIG = ctypes.CDLL(None), 1


def follow(child: subprocess.Popen[bytes], lines: int, beat: Callable[[Told | None], bool]) -> bool:
    """Tells how far the child is until it ends; returns whether it was made to.

    Args:
        lines: the descriptor that it writes progress to; closed in the end.
        beat: takes what is new; false where the child is to stop.
    """
    told: Told | None = None
    stopped_s, beaten_s = None, -BEAT_S
    with os.fdopen(lines, "rb", buffering=0) as pipe:
        while child.poll() is None:
            told, now = _newest(pipe.fileno(), LOOK_S) or told, time.monotonic()
            if now - beaten_s >= (TELL_S if told else BEAT_S):
                if not beat(told) and stopped_s is None:
                    child.terminate()
                    stopped_s = now
                told, beaten_s = None, now
            if stopped_s is not None and now - stopped_s >= GRACE_S:
                child.kill()
        if told := _newest(pipe.fileno(), 0.0) or told:
            beat(told)
    return stopped_s is not None


def _newest(pipe: int, wait_s: float) -> Told | None:
    """The last line that was written since; waits for one, or for the end of the child."""
    if not select.select([pipe], [], [], wait_s)[0]:
        return None
    read = os.read(pipe, 1 << 16)
    if not read:
        time.sleep(min(wait_s, 0.05))  # closed: the child is about to end
    found = [told for line in read.splitlines() if (told := progress_lines.parse_line(line)) is not None]
    return found[-1] if found else None


def outcome_of(status: int, stopped: bool, folder: Path, db: str) -> Outcome:
    """What a command's exit status and output mean."""
    if status in (EXIT_DONE, EXIT_PARTLY):
        try:
            return Outcome("done", json.loads((folder / "stdout").read_bytes()), exit_status=status)
        except (OSError, ValueError) as error:
            return Outcome(
                "failed", error=f"what the command prints must be JSON, but got: {error}", exit_status=status
            )
    if stopped:
        return Outcome("cancelled", exit_status=status)
    return Outcome("failed", _missing(folder), _error(status, folder, db), status)


def _missing(folder: Path) -> Any:
    """What a table lacks, where a command failed by that: how many operators, and as many as one job measures."""
    with suppress(OSError, ValueError):
        keys = json.loads((folder / MISSING).read_text())["operators"]
        return {"missing": keys[:MOST_OPERATORS], "missing_count": len(keys)}
    return None


def _error(status: int, folder: Path, db: str) -> str:
    """The last line that a command said, without the paths of this computer."""
    said = [line for line in (folder / "stderr").read_text(errors="replace").splitlines() if line.strip()]
    if said:
        line = said[-1].removeprefix("chamnet: ").replace(db.removeprefix(FILE_URL), "the database")
        return line.replace(f"{folder}/", "")[:LONGEST_ERROR]
    if status < 0:
        return f"the command must end by itself, but signal {signal.Signals(-status).name} ended it"
    return f"the command must succeed, but ended with status {status}"


def _end(jobs: JobStore, job: Job, runner: str, outcome: Outcome) -> bool:
    """Stores what came of a job, though the database be busy; False when it is another runner's now.

    Raises:
        LutError: the database stays busy.
    """
    for _ in range(END_TRIES):
        with suppress(LutError):
            return jobs.end(job.uid, runner, outcome.state, outcome.result, outcome.error, outcome.exit_status)
        time.sleep(END_PAUSE_S)
    return jobs.end(job.uid, runner, outcome.state, outcome.result, outcome.error, outcome.exit_status)


def _drop_upload(job: Job, db: str) -> None:
    if upload := job.request.get("upload"):
        (shared_folder(db) / upload).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
