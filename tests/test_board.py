"""A Linux board end to end: ``chamnet profile --device ssh:...`` against a real sshd."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent import protocol
from agent.protocol import Message, Opening, Sampling
from host.devices import choose_cpus, find_unit
from host.profile import profile
from host.setting import Progress, Setting, Summary, Workload
from host.transport import Launch
from lut_db.store import open_store
from ops_catalog.ops import make_op
from ops_catalog.spec import TensorSpec
from tests.board import Board

REPOSITORY = Path(__file__).parent.parent
OPERATORS = tuple(make_op("relu", TensorSpec((1, side))) for side in range(2, 202))
FEW = ("--network", "mobilenet-v2-0.35-96", "--limit", "3", "--engine", "litert,onnxruntime", "--json")
RUNS = 5
"""At most: what a busy machine made doubtful is measured again."""

BREAKS = 3
ENGINES = {"litert", "onnxruntime"}


def profiled(board: Board, db: Path, *options: str) -> list[dict[str, object]]:
    """What the command says of each engine."""
    command = [sys.executable, "-m", "host.profile", "--device", f"ssh:{board.address}", "--db", str(db), *FEW]
    done = subprocess.run([*command, *options], cwd=REPOSITORY, env={**os.environ}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


@pytest.mark.parametrize("options", [(), ("--agent-python", sys.executable)], ids=["bundle", "its own Python"])
def test_a_board_is_measured_on_and_a_run_that_lacks_nothing_sends_nothing(
    board: Board, tmp_path: Path, options: tuple[str, ...]
) -> None:
    first = profiled(board, tmp_path / "lut.db", *options)
    again = next(
        run
        for run in (profiled(board, tmp_path / "lut.db", *options) for _ in range(RUNS))
        if not any(summary["measured"] for summary in run)
    )
    with sqlite3.connect(tmp_path / "lut.db") as connection:
        targets = [json.loads(body) for (body,) in connection.execute("select value from target")]
        agents = {name for (name,) in connection.execute("select agent_version from session")}
    assert {target["engine"] for target in targets} == ENGINES
    assert {target["source"] for target in targets} == {"measured"}
    assert all(name.count("/bundle-") == (not options) for name in agents)
    assert all(int(str(summary["measured"])) >= 6 for summary in first)
    assert [summary["sent_bytes"] for summary in again] == [0, 0]
    left = [path.name for path in (board.home / ".cache/chamnet").iterdir()]
    assert "models" not in left
    assert "lock" not in left


@pytest.mark.parametrize("moment", ["between batches", "while files are sent", "in a batch"])
def test_a_broken_connection_loses_and_doubles_no_row(
    board: Board, tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks, waits = iter(range(BREAKS)), []

    def tell(stage: str, done: int, total: int) -> None:
        if moment != "in a batch" and stage.startswith("pass") and 0 < done < total and next(breaks, None) is not None:
            board.pull_cable_after(1 if moment == "between batches" else 20_000)

    def decode(line: str) -> Message:
        message = protocol.decode(line)
        midway = isinstance(message, Opening) and message.id == "30"
        if moment == "in a batch" and midway and next(breaks, None) is not None:
            board.pull_cable()
        return message

    def wait(reason: str) -> None:
        waits.append(reason)
        board.plug_cable()

    monkeypatch.setattr("host.session.protocol", SimpleNamespace(**{**vars(protocol), "decode": decode}))
    summary = run_fake(board, tmp_path / "lut.db", Progress(tell, wait))
    assert len(waits) >= BREAKS
    assert (summary.measured, summary.quarantined) == (400, {})
    with sqlite3.connect(tmp_path / "lut.db") as connection:
        rows = connection.execute("select count(*) from measurement where clean group by operator_id").fetchall()
    assert Counter(count for (count,) in rows) == {2: 200}


def run_fake(board: Board, db: Path, progress: Progress) -> Summary:
    unit = find_unit(f"ssh:{board.address}", Launch(python=sys.executable))
    sampling = Sampling(gate_budget_ns=0)
    setting = Setting("fake", choose_cpus(1, (), unit.clusters), patience_s=60.0, sampling=sampling)
    with open_store(db) as store:
        return profile(store, unit, setting, Workload(operators=OPERATORS), progress)
