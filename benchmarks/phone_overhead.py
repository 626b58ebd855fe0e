"""What the host costs beside the agent's measuring, over ADB: real adb and adbd, the virtual phone at full speed.

    python -m benchmarks.phone_overhead [--operators 512] [--engine litert]

Counted as overhead: export, tar, push, session, the look before each batch, conditions, answers, storing. The goal is
15 ms an operator and measurement at the median over batches.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from host.devices import Unit, choose_cpus, find_unit
from host.profile import profile
from host.session import AgentSession
from host.setting import Progress, Setting, Summary, Workload
from lut_db.store import open_store
from ops_catalog.spec import OpSpec
from search.spaces import space_named
from tests.virtual_phone.adb_server import open_adb_server
from tests.virtual_phone.availability import missing
from tests.virtual_phone.phone import open_phone

GOAL_MS = 15.0
LOOKS = 9
REPEATS = 4
"""Further runs at most: what a busy machine made doubtful is measured again."""


@dataclass(slots=True)
class Clock:
    """When each batch began and how many operators were done by then."""

    starts: list[tuple[float, int]] = field(default_factory=list)

    def tell(self, stage: str, done: int, total: int) -> None:
        if stage.startswith("pass") and total:
            self.starts.append((time.perf_counter(), done))

    def batches(self) -> list[tuple[float, int]]:
        """Wall seconds and operators of each batch, in order."""
        pairs = zip(self.starts, self.starts[1:], strict=False)
        return [(after - before, done - had) for (before, had), (after, done) in pairs if done > had]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operators", type=int, default=512, help="operators of chamnet-mobile")
    parser.add_argument("--engine", default="litert")
    arguments = parser.parse_args()
    if reason := missing("x86_64"):
        raise SystemExit(reason)
    every = list(space_named("chamnet-mobile").operators())
    operators = tuple(every[:: max(1, len(every) // arguments.operators)][: arguments.operators])
    with (
        tempfile.TemporaryDirectory() as folder,
        open_adb_server() as server,
        open_phone("x86_64") as phone,
    ):
        server.connect(phone.serial)
        report(phone.serial, operators, arguments.engine, Path(folder) / "lut.db")


def report(serial: str, operators: tuple[OpSpec, ...], engine: str, db: Path) -> None:
    """Measures twice and prints what it took."""
    start = time.perf_counter()
    unit = find_unit(serial)
    found_s, clock = time.perf_counter() - start, Clock()
    first, wall_s = measured(unit, operators, engine, db, Progress(tell=clock.tell))
    agent_s, look_s = agent_seconds(db), look_seconds(unit)
    each_ms = [
        1000 * (wall - agent + look_s) / count for (wall, count), agent in zip(clock.batches(), agent_s, strict=True)
    ]
    all_ms = 1000 * (wall_s - sum(agent_s) + look_s * len(agent_s)) / first.measured
    export_ms = 1000 * first.seconds["learn"] / first.wanted
    median_ms = statistics.median(each_ms)
    print(f"{engine}: {first.wanted} operators, {first.measured} measurements")
    print(f"clean phone to the first row               {found_s + (first.first_row_s or 0.0):8.2f} s")
    print(f"sent: bundle, agent, models                {first.sent_bytes / 1e6:8.1f} MB")
    print(f"the agent's measuring, an operator         {1000 * sum(agent_s) / first.measured:8.2f} ms")
    print(f"export, an operator                        {export_ms:8.2f} ms")
    print(f"host in a batch, an operator: least        {min(each_ms):8.2f} ms (files are there already)")
    print(f"host in a batch, an operator: median       {median_ms:8.2f} ms (of {len(each_ms)} batches)")
    print(f"  largest (a small batch, or the first)      {max(each_ms):8.2f} ms")
    print(f"export and median                          {export_ms + median_ms:8.2f} ms (goal {GOAL_MS:.0f} ms)")
    print(f"all but measuring, of the whole run        {all_ms:8.2f} ms")
    print(f"doubts                                     {dict(first.doubts)}")
    print(f"this machine                               load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    for number in range(2, 2 + REPEATS):
        again, again_s = measured(unit, operators, engine, db, Progress())
        sent = f"{again.sent_bytes} bytes sent, {again.measured} measurements"
        print(f"run {number:<3d}                                    {again_s:8.2f} s, {sent}", flush=True)
        if not again.measured:
            break


def measured(
    unit: Unit, operators: tuple[OpSpec, ...], engine: str, db: Path, progress: Progress
) -> tuple[Summary, float]:
    setting = Setting(engine, choose_cpus(1, (), unit.clusters), gate=unit.gate)
    start = time.perf_counter()
    with open_store(db) as store:
        summary = profile(store, unit, setting, Workload(operators=operators), progress)
    return summary, time.perf_counter() - start


def agent_seconds(db: Path) -> list[float]:
    """What each batch took on the phone's own clock, its first reading of conditions included."""
    with closing(sqlite3.connect(db)) as connection:
        rows = connection.execute('select "before", "after" from session order by id').fetchall()
    return [(json.loads(after)["time_ns"] - json.loads(before)["time_ns"]) / 1e9 for before, after in rows]


def look_seconds(unit: Unit) -> float:
    """What one reading of conditions takes."""
    with closing(unit.open_transport()) as transport, AgentSession(transport, (), {}) as session:
        times = []
        for _ in range(LOOKS):
            start = time.perf_counter()
            session.look()
            times.append(time.perf_counter() - start)
    return statistics.median(times)


if __name__ == "__main__":
    main()
