"""One profile run with one fault: the host in a process of its own, when a fault comes, what is in the file afterwards.

The host is the command itself with small batches and the fake engine; this module, run with what to do differently and
the command's arguments, is that host.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partialmethod
from pathlib import Path

from agent.protocol import Sampling
from host import bench, cli, passes
from host.bundle import cache_folder
from ops_catalog.export import export_graph
from ops_catalog.ops import make_op
from ops_catalog.spec import Graph, TensorSpec
from tests.virtual_phone.phone import VirtualPhone

OPERATORS = tuple(make_op("relu", TensorSpec((1, side))) for side in range(2, 98))
PASSES = 2
BATCH = 16
QUICK = Sampling(gate_budget_ns=0)
SILENCE_S = 5.0
LIMIT_S = 180.0
HOME = "data/local/tmp/chamnet"


@dataclass
class Trial:
    """One run with one fault.

    Attributes:
        at: the moment: 0 while the bundle is sent, else the part of all rows that is stored.
        how: what the host is told to do differently, see ``be_host``.
        ends: exit statuses of the host, and of further ones that were started beside it.
    """

    at: float
    serial: str
    folder: Path
    how: dict[str, object] = field(default_factory=dict)
    ends: list[int] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    before: set[int] = field(default_factory=set)

    @property
    def db(self) -> Path:
        return self.folder / "lut.db"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def start(self, db: Path | None = None, patience_min: float = 2.0) -> subprocess.Popen[bytes]:
        options = ["--device", self.serial, "--engine", "fake", "--ops", str(self.folder / "ops.json")]
        options += ["--db", str(db or self.db), "--patience", str(patience_min)]
        if "python" in self.how:
            options += ["--agent-python", str(self.how["python"])]
        private = {"HOME": str(self.folder), "CHAMNET_CACHE": str(cache_folder())}
        with self.log.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "benchmarks.fault_trial", json.dumps(self.how), "profile", *options],
                env={**os.environ, **private}, stdout=subprocess.DEVNULL, stderr=log,
            )  # fmt: skip

    def finished(self, host: subprocess.Popen[bytes]) -> int:
        status = host.wait(LIMIT_S)
        said = [line for line in self.log.read_text().splitlines() if line.startswith("chamnet: ")]
        self.ends.append(status)
        self.told += said[-1:]
        return status


def be_host(how: dict[str, str], arguments: list[str]) -> None:
    """The command, with small batches and no wait for a quiet machine; one operator fails as told."""

    def export(graph: Graph, file_format: str, seed: int = 0) -> bytes:
        blob = export_graph(graph, file_format, seed)
        if [op.key for op in graph.operators] != [how.get("culprit")]:
            return blob
        return json.dumps({**json.loads(blob), "fail": how["fail"]}).encode()

    passes.BATCH, bench.BATCH_LIMIT_S, bench.export_graph = BATCH, SILENCE_S, export
    bench.Bench.measure = partialmethod(bench.Bench.measure, sampling=QUICK)
    if "home" in how:
        import host.transport.adb

        host.transport.adb.HOME = how["home"]
    cli.main(arguments)


def until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"it must come about within {LIMIT_S:.0f} s, but {condition} did not")
        time.sleep(0.005)


def row_ids(db: Path) -> set[int]:
    with contextlib.suppress(sqlite3.OperationalError), sqlite3.connect(f"file:{db}?mode=ro", uri=True) as connection:
        return {row[0] for row in connection.execute("select id from measurement")}
    return set()


def await_moment(trial: Trial, phone: VirtualPhone | None, host: subprocess.Popen[bytes]) -> None:
    if trial.at == 0 and phone is not None:
        until(lambda: host.poll() is not None or list((phone.root / HOME).glob("bundle-*.new/*")))
    else:
        rows = max(1, int(trial.at * len(OPERATORS) * PASSES))
        until(lambda: host.poll() is not None or len(row_ids(trial.db)) >= rows)
    if host.poll() is not None:
        raise RuntimeError(f"the host must be at work, but ended: {trial.log.read_text()}")
    trial.before = row_ids(trial.db)


def complete(trial: Trial) -> int:
    """Repeats the command until nothing is lacking; returns how often."""
    for count in range(5):
        if lacking(trial) == 0:
            return count
        status = trial.start().wait(LIMIT_S)
        if status not in (0, 3):
            raise RuntimeError(f"a repeated command must go through, but ended with {status}: {trial.log.read_text()}")
    return 5


def clean_passes(trial: Trial) -> Counter[str]:
    query = "select key, sum(clean) from measurement join operator on operator.id = operator_id group by key"
    with contextlib.suppress(sqlite3.OperationalError), sqlite3.connect(trial.db) as connection:
        return Counter(dict(connection.execute(query)))
    return Counter()


def lacking(trial: Trial) -> int:
    found = clean_passes(trial)
    return sum(found[op.key] < PASSES for op in OPERATORS if op.key != trial.how.get("culprit"))


def doubled(trial: Trial) -> int:
    return sum(max(0, count - PASSES) for count in clean_passes(trial).values())


if __name__ == "__main__":
    be_host(json.loads(sys.argv[1]), sys.argv[2:])
