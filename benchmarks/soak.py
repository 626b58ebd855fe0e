"""A service under everything at once: readers, profiles that write one after the other, and kill -9 of it and of a job.

A real ``chamnet serve`` on a fresh database, measuring this machine with LiteRT. Prints figures as JSON and a verdict;
exit status 1 where anything is wrong: a row lost or doubled, a job that did not end, an error that no kill explains.

python -m benchmarks.soak [--minutes 30] [--seed 0] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from benchmarks.soak_checks import check
from lut_db.jobs import ENDED, Job
from lut_db.store import open_store

HOME = str(Path(__file__).parent.parent)
DEVICE = {"device": "local-cpu", "engine": "litert"}
NETWORK = "chamnet-f"
"""Measured first, so that it can be predicted all the time."""
SEARCH = {"space": "chamnet-mobile", "macs_m": 300, "population": 60, "generations": 10}
SEARCH_EVERY = 4
READY_S, END_S, TICK_S = 60.0, 900.0, 0.2
AFTER_KILL_S = 1.0
"""An answer may have been on its way."""


class Soak:
    """A service that is killed and started again, and what was asked of it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.db = folder / "soak.db"
        self.rng = random.Random(seed)
        self.port = _free_port()
        self.store = open_store(self.db)
        token = self.store.tokens.create("soak", ("read", "write"))
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers={"Authorization": f"Bearer {token}"}, timeout=READY_S
        )
        self.kills: list[tuple[float, float]] = []
        self.kills_amid_jobs, self.runners_killed = 0, 0
        self.acknowledged: list[str] = []
        self.service = self._start()

    def post(self, path: str, body: dict[str, Any]) -> str:
        answer = self.client.post(path, json=body)
        assert answer.status_code == 202, answer.text
        self.acknowledged.append(answer.json()["uid"])
        return self.acknowledged[-1]

    def job(self, uid: str) -> Job:
        """As the database has it, whether or not the service is there."""
        found = self.store.jobs.get(uid)
        assert found is not None, f"job {uid} is lost"
        return found

    def await_end(self, uid: str) -> Job:
        deadline = time.monotonic() + END_S
        while (job := self.job(uid)).state not in ENDED and time.monotonic() < deadline:
            time.sleep(TICK_S)
        return job

    def kill_service(self, amid: bool) -> None:
        """Kills it, and starts it again."""
        at = time.time()
        self.service.kill()
        self.service.wait()
        self.service = self._start()
        self.kills.append((at, time.time() + AFTER_KILL_S))
        self.kills_amid_jobs += amid

    def kill_runner(self, job: Job) -> None:
        with suppress(ProcessLookupError):
            os.kill(int(job.runner.split(":")[1]), signal.SIGKILL)
        self.runners_killed += self.job(job.uid).state == "running"  # else it had ended by then

    def _start(self) -> subprocess.Popen[str]:
        command = ["serve", "--db", str(self.db), "--port", str(self.port), "--rate", "0"]
        service = subprocess.Popen(
            [sys.executable, "-c", "from host.cli import main; main()", *command],
            cwd=HOME, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        assert service.stdout is not None
        line = service.stdout.readline()
        assert re.search(r"http://\S+", line), f"the service must tell its address, but said {line!r}"
        self._await_answer()
        return service

    def _await_answer(self) -> None:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            try:
                if self.client.get("/v1/health").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError("the service must answer")


def work(soak: Soak, seconds: float) -> None:
    """Profiles one after the other, a search now and then, and kills."""
    start, number, uid = time.monotonic(), 0, ""
    next_kill = soak.rng.uniform(0.1, 0.2) * seconds
    runner_kill = soak.rng.uniform(0.4, 0.6) * seconds
    while (now := time.monotonic() - start) < seconds:
        job = soak.job(uid) if uid else None
        if job is None or job.state in ENDED:
            number += 1
            if number % SEARCH_EVERY == 0:
                soak.post("/v1/searches", SEARCH | {"seed": number})
            uid = soak.post("/v1/profiles", DEVICE | {"space": "chamnet-mobile", "random_networks": 3, "seed": number})
        elif now >= next_kill and (measures(job) or soak.rng.random() < 0.05):
            soak.kill_service(amid=measures(job))
            next_kill = now + min(soak.rng.uniform(0.05, 0.2) * seconds, soak.rng.uniform(40, 240))
        elif not soak.runners_killed and now >= runner_kill and measures(job):
            soak.kill_runner(job)
        time.sleep(TICK_S)


def measures(job: Job) -> bool:
    return job.state == "running" and job.progress is not None and str(job.progress["stage"]).startswith("pass")


def run(folder: Path, minutes: float, seed: int) -> tuple[dict[str, Any], list[str]]:
    """Figures, and what is wrong."""
    soak = Soak(folder, seed)
    try:
        first = soak.await_end(soak.post("/v1/profiles", DEVICE | {"networks": [NETWORK]}))
        assert first.state == "done", first.error
        (target,) = soak.client.get("/v1/targets").json()["targets"]
        command = [sys.executable, "-m", "benchmarks.soak_readers", str(soak.client.base_url), target["id"], NETWORK]
        readers = subprocess.Popen(command, cwd=HOME, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            work(soak, 60 * minutes)
            for uid in soak.acknowledged:
                soak.await_end(uid)
        finally:
            told, _ = readers.communicate("", timeout=READY_S)
    finally:
        soak.service.terminate()
        soak.service.wait(READY_S)
    requests = json.loads(told)
    figures, wrong = check(soak.db, soak.acknowledged, soak.runners_killed)
    wrong += of_requests(requests, soak.kills) + of_kills(soak)
    shown = {kind: {**found, "broken": len(found["broken"])} for kind, found in requests.items()}
    kills = {
        "service": len(soak.kills),
        "service_amid_a_measurement": soak.kills_amid_jobs,
        "runner": soak.runners_killed,
    }
    away_s = [round(back - AFTER_KILL_S - at, 2) for at, back in soak.kills]
    return {"minutes": minutes, "kills": kills, "away_s": away_s, **figures, "requests": shown}, wrong


def of_requests(requests: dict[str, Any], kills: list[tuple[float, float]]) -> list[str]:
    """Errors that no kill explains."""
    wrong = []
    for kind, found in requests.items():
        if not found["answered"]:
            wrong.append(f"some {kind} must be answered, but none was")
        if found["wrong"]["count"]:
            wrong.append(f"{found['wrong']['count']} {kind} answers are wrong: {found['wrong']['first'][0]}")
        alone = [text for begin, end, text in found["broken"] if not any(begin <= b and end >= a for a, b in kills)]
        if alone:
            wrong.append(f"{len(alone)} {kind} requests broke while the service was there: {alone[0]}")
    return wrong


def of_kills(soak: Soak) -> list[str]:
    """What the soak must have done to tell anything."""
    met = {"service amid a measurement": soak.kills_amid_jobs, "runner": soak.runners_killed}
    return [f"the {name} must have been killed at least once, but was not" for name, count in met.items() if not count]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep the database here")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chamnet-soak-") as scratch:
        folder = (asked.folder or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        figures, wrong = run(folder, asked.minutes, asked.seed)
    print(json.dumps(figures, indent=1))
    print("\n".join(["verdict: wrong", *wrong]) if wrong else "verdict: nothing lost, nothing doubled, every job ended")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
