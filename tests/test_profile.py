"""The profile path on the fake engine: what is measured, what is resumed, and what survives."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from host import bench, session
from host.devices import choose_cpus, find_unit
from host.profile import profile
from host.setting import Progress, Setting, Summary, Workload
from lut_db.store import LutStore, open_store
from ops_catalog.export import export_graph
from ops_catalog.export.fake import NS_PER_KBYTE
from ops_catalog.networks import build_network
from ops_catalog.ops import make_op
from ops_catalog.spec import Graph, OpSpec, TensorSpec

OPERATORS = tuple(make_op("relu", TensorSpec((1, side))) for side in range(2, 152))
CULPRIT = OPERATORS[70]
MOMENTS = 10


def run(store: LutStore, *operators: OpSpec, **setting: object) -> Summary:
    chosen = Setting("fake", choose_cpus(1), **setting)  # type: ignore[arg-type]
    return profile(store, find_unit("local-cpu"), chosen, Workload(operators=operators or OPERATORS), Progress())


def run_on(store: LutStore, *operators: OpSpec) -> Summary:
    """Until nothing is lacking: on a busy machine a pass may leave a few operators doubtful."""
    for _ in range(5):
        summary = run(store, *operators)
        if summary.measured == 0:
            return summary
    raise AssertionError("a run that finds everything measured must come within five")


def misbehave(monkeypatch: pytest.MonkeyPatch, **how: object) -> None:
    """Makes the culprit's model file misbehave."""

    def export(graph: Graph, file_format: str, seed: int = 0) -> bytes:
        blob = export_graph(graph, file_format, seed)
        if graph.operators != (CULPRIT,):
            return blob
        return json.dumps({**json.loads(blob), **how}).encode()

    monkeypatch.setattr(bench, "export_graph", export)


def passes_of(path: Path) -> Counter[int]:
    """How many operators have how many clean measurements, straight from the file."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute("select count(*) from measurement where clean group by operator_id").fetchall()
    return Counter(count for (count,) in rows)


def test_every_operator_gets_two_passes_and_exact_times(tmp_path: Path) -> None:
    with open_store(tmp_path / "lut.db") as store:
        summary = run(store)
        lut = store.lut(store.target_named(summary.target))
    assert (summary.wanted, summary.already, summary.measured - summary.repeated) == (150, 0, 300)
    moved_bytes = 2 * 4 * 151
    assert lut.by_key["relu(1x151;float32)"].latency_ns == pytest.approx(moved_bytes * NS_PER_KBYTE // 1000)
    assert {entry.label for entry in lut.entries} == {"simulated"}


def test_a_second_run_measures_nothing(tmp_path: Path) -> None:
    with open_store(tmp_path / "lut.db") as store:
        run(store)
        again = run_on(store)
    assert again.already == 150


def test_a_larger_workload_measures_only_what_it_adds(tmp_path: Path) -> None:
    with open_store(tmp_path / "lut.db") as store:
        run_on(store, *OPERATORS[:100])
        again = run(store)
    assert (again.already, again.measured - again.repeated) == (100, 100)


def test_targets_never_mix(tmp_path: Path) -> None:
    with open_store(tmp_path / "lut.db") as store:
        run(store, *OPERATORS[:3])
        other = run(store, *OPERATORS[:3], malloc="default")
        assert other.measured - other.repeated == 6
        assert len(store.targets()) == 2


def test_a_network_can_be_priced_after_its_profile(tmp_path: Path) -> None:
    graph = build_network("mobilenet-v2-0.35-96")
    with open_store(tmp_path / "lut.db") as store:
        setting = Setting("fake", choose_cpus(1))
        summary = profile(store, find_unit("local-cpu"), setting, Workload(graphs=(graph,)), Progress())
        prices = store.lut(store.target_named(summary.target)).price(graph)
    assert len(prices.latency_ns) == len(graph.nodes)
    assert (prices.latency_ns > 0).all()


@pytest.mark.parametrize("how", ["crash", "exit", "load", "run", "memory"])
def test_an_operator_that_always_fails_is_quarantined_and_named(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    misbehave(monkeypatch, fail=how)
    with open_store(tmp_path / "lut.db") as store:
        summary = run(store)
        run_on(store)
    assert list(summary.quarantined) == [CULPRIT.key]
    assert summary.measured - summary.repeated == 298
    assert passes_of(tmp_path / "lut.db") == {2: 149}


def test_an_operator_that_hangs_is_quarantined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "BATCH_LIMIT_S", 4.0)
    misbehave(monkeypatch, fail="hang")
    with open_store(tmp_path / "lut.db") as store:
        summary = run(store)
    assert list(summary.quarantined) == [CULPRIT.key]
    assert "said nothing" in summary.quarantined[CULPRIT.key]
    assert passes_of(tmp_path / "lut.db") == {2: 149}


def test_an_operator_that_fails_once_is_measured_after_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    misbehave(monkeypatch, fail="crash", fail_once=str(tmp_path / "failed"))
    with open_store(tmp_path / "lut.db") as store:
        summary = run(store)
    assert (tmp_path / "failed").exists()
    assert not summary.quarantined
    assert passes_of(tmp_path / "lut.db") == {2: 150}


def test_what_cannot_be_exported_is_refused_and_the_rest_measured(tmp_path: Path) -> None:
    refused = make_op("layer_norm", TensorSpec((1, 4, 8)))
    with open_store(tmp_path / "lut.db") as store:
        setting = Setting("litert", choose_cpus(1), dtype="int8")
        workload = Workload(operators=(refused, OPERATORS[0]))
        summary = profile(store, find_unit("local-cpu"), setting, workload, Progress())
    assert len(summary.refused) == 1
    assert summary.wanted == 1


def start_host(db: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "host.profile", "--engine", "fake", "--space", "chamnet-res", "--limit", "1500"]
    return subprocess.Popen(
        [*command, "--db", str(db)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def agents_of(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(entry.parent.name))
    return found


def count_rows(db: Path) -> int:
    try:
        with sqlite3.connect(f"file:{db}?mode=ro", uri=True) as connection:
            return int(connection.execute("select count(*) from measurement").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc to find the processes")
def test_killing_the_host_at_random_moments_loses_and_doubles_no_row(tmp_path: Path) -> None:
    db, rng, rows = tmp_path / "lut.db", random.Random(0), 0
    for _ in range(MOMENTS):
        host = start_host(db)
        wait_for_rows(host, db, rows + rng.randrange(1, 400))
        host.send_signal(signal.SIGKILL)
        host.wait()
        now = count_rows(db)
        assert now >= rows
        rows = now
    finish(db)
    assert passes_of(db) == {2: 1500}


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc to find the processes")
def test_killing_the_agent_at_random_moments_loses_and_doubles_no_row(tmp_path: Path) -> None:
    db, rng = tmp_path / "lut.db", random.Random(1)
    host = start_host(db)
    for _ in range(MOMENTS):
        wait_for_rows(host, db, count_rows(db) + rng.randrange(1, 250))
        for agent in agents_of(host.pid):
            os.kill(agent, signal.SIGKILL)
    assert host.wait() == 0
    finish(db)
    assert passes_of(db) == {2: 1500}


def finish(db: Path) -> None:
    """Runs on until nothing is lacking: on a busy machine a pass may leave a few operators doubtful."""
    for _ in range(5):
        rows = count_rows(db)
        assert start_host(db).wait() == 0
        if count_rows(db) == rows:
            return
    raise AssertionError("a run that finds everything measured must come within five")


def wait_for_rows(host: subprocess.Popen[bytes], db: Path, rows: int) -> None:
    while host.poll() is None and count_rows(db) < rows:
        time.sleep(0.002)


def test_an_agent_of_another_protocol_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session.protocol, "VERSION", 99)
    with open_store(tmp_path / "lut.db") as store, pytest.raises(session.DeviceUnavailable, match="protocol 99"):
        run(store)
