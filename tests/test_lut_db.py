"""The database: what goes in comes out, whoever ends when, and what is no database is told so."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from lut_db import database
from lut_db.aggregate import FLOOR_NS, combine, differ, statistics
from lut_db.codec import pack, unpack
from lut_db.errors import ExchangeError, LutError, NotADatabase, SchemaError, StoreUnavailable
from lut_db.exchange import export_target, import_file
from lut_db.lut import MissingOpsError, resolve
from lut_db.records import (
    Calibration,
    Device,
    Lowering,
    Measurement,
    NetworkMeasurement,
    Quarantined,
    Session,
    Target,
)
from lut_db.store import LutStore, open_store
from ops_catalog.build import Network
from ops_catalog.spec import Graph, NativeOp

FROZEN = Path(__file__).parent / "frozen"
TARGET = Target("local-cpu", "litert", "2.3.0", "cpu", "float32", 1, (1,), "avx2")
SESSION = Session(1.0, "1", "42", {"load1": 0.5}, {"load1": 0.7}, ((0.0, 1000), (0.5, 1100)))


def network() -> Graph:
    net = Network("tiny", (1, 8, 4, 4))
    x = net.add("conv2d", net.input, out_channels=8, kernel=(1, 1))
    return net.finish(net.add("relu", net.add("add", x, net.input)))


KEYS = tuple(op.key for op in network().operators)


def measurement(key: str, ns: int = 1000, doubts: tuple[str, ...] = ()) -> Measurement:
    return Measurement(key, ((ns, ns + 1, ns + 2), (ns, ns + 5)) * 3, (0.0, 0.25) * 3, 1, 100.0, 1, doubts)


def lowering(key: str, count: int) -> Lowering:
    return Lowering(key, "*", (key,), "plain", ("plain",) * count)


def fill(store: LutStore, *latencies: int, target: Target = TARGET) -> None:
    """Every operator of the network measured once per latency."""
    store.put_device(Device("local-cpu", "a CPU", {"cpus": [0, 1]}))
    store.put_target(target)
    rows = [lowering(op.key, len(op.inputs)) for op in network().operators]
    store.put_lowerings(target, rows, [NativeOp(key, 32) for key in KEYS])
    for number, ns in enumerate(latencies):
        store.append(target, SESSION, [measurement(key, ns) for key in KEYS], f"batch {number}")


@pytest.fixture
def store(place: str):  # type: ignore[no-untyped-def]
    with open_store(place) as opened:
        yield opened


bursts = st.lists(st.lists(st.integers(0, 2**40), max_size=5).map(tuple), max_size=4).map(tuple)


@given(bursts)
def test_samples_survive_packing(samples: tuple[tuple[int, ...], ...]) -> None:
    started = tuple(float(i) / 4 for i in range(len(samples)))
    assert unpack(pack(samples, started)) == (samples, started)


def test_a_sample_takes_about_two_bytes() -> None:
    rng = np.random.default_rng(0)
    samples = [[int(ns) for ns in rng.integers(20_000, 24_000, 10)] for _ in range(8)]
    assert len(pack(samples, [0.0] * 8)) <= 2 * 80 + 64


def test_a_latency_is_the_lowest_tenth_less_the_overhead() -> None:
    found = statistics([[1000 + i for i in range(101)]], loops=1, overhead_ns=10)
    assert found.latency_ns == pytest.approx(1000)
    assert found.samples == 101


def test_loops_are_divided_out() -> None:
    assert statistics([[5000] * 10], loops=5, overhead_ns=100).latency_ns == 900


def test_a_time_below_the_overhead_is_never_negative_and_doubted() -> None:
    found = statistics([[50] * 10], loops=1, overhead_ns=100)
    assert found.latency_ns == FLOOR_NS
    assert found.below_overhead


@given(st.lists(st.floats(1, 1e9), min_size=1, max_size=7))
def test_an_entry_lies_within_its_passes(latencies: list[float]) -> None:
    assert min(latencies) <= combine(latencies) <= max(latencies)


def test_two_passes_differ_above_five_percent() -> None:
    assert differ([100, 106])
    assert not differ([100, 104])
    assert not differ([100, 200, 300])


def test_measurements_come_back_as_they_went_in(store: LutStore) -> None:
    fill(store, 1000, 1200)
    found = list(store.measurements(TARGET, KEYS[0]))
    assert found == [measurement(KEYS[0], 1000), measurement(KEYS[0], 1200)]


def test_a_batch_stored_twice_is_there_once(store: LutStore) -> None:
    fill(store, 1000)
    store.append(TARGET, SESSION, [measurement(KEYS[0])], "batch 0")
    assert store.clean_passes(TARGET)[KEYS[0]] == 1


def test_passes_settle_unless_they_differ(store: LutStore) -> None:
    fill(store, 1000, 1010)
    store.append(TARGET, SESSION, [measurement(KEYS[0], 500)], "odd")
    assert store.settled(TARGET, 2) == set(KEYS)
    fill(store, target=replace(TARGET, threads=2))
    assert store.settled(replace(TARGET, threads=2), 2) == set()


def test_two_passes_apart_ask_for_a_third(store: LutStore) -> None:
    fill(store, 1000, 1500)
    assert store.disagreeing(TARGET) == set(KEYS)
    assert store.settled(TARGET, 2) == set()
    fill(store, 1000, 1500, 1400)
    assert store.disagreeing(TARGET) == set()
    assert store.lut(TARGET).by_key[KEYS[0]].latency_ns == pytest.approx(1300, abs=3)


def test_a_doubtful_measurement_counts_only_alone(store: LutStore) -> None:
    fill(store)
    store.append(TARGET, SESSION, [measurement(KEYS[0], 500, ("throttled",))], "hot")
    assert store.clean_passes(TARGET) == {}
    assert store.lut(TARGET).by_key[KEYS[0]].doubts == ("throttled",)
    store.append(TARGET, SESSION, [measurement(KEYS[0], 2000)], "cool")
    entry = store.lut(TARGET).by_key[KEYS[0]]
    assert entry.latency_ns == pytest.approx(1900, abs=2)
    assert entry.doubts == ()


def test_targets_are_found_by_name_or_a_part_only_one_has(store: LutStore) -> None:
    fill(store)
    fill(store, target=replace(TARGET, dtype="int8"))
    assert store.target_named("int8").dtype == "int8"
    assert store.target_named(TARGET.name) == TARGET
    with pytest.raises(LutError, match=r"known: .*float32.*int8"):
        store.target_named("local-cpu")
    with pytest.raises(LutError, match="got 0; known"):
        store.target_named("pixel")


def test_quarantined_operators_are_listed_with_their_reason(store: LutStore) -> None:
    fill(store)
    for _ in range(2):
        store.quarantine(TARGET, [Quarantined(KEYS[1], "crash", "signal SIGSEGV")])
    assert store.quarantined(TARGET) == {KEYS[1]: Quarantined(KEYS[1], "crash", "signal SIGSEGV")}


def test_the_newest_calibration_of_a_family_holds(store: LutStore) -> None:
    fill(store)
    for scale in (1.1, 1.2):
        store.put_calibration(TARGET, Calibration("space", scale, 0.0, 0.0, ("a",), (0.01,), None, 5.0, scale))
    assert store.calibrations(TARGET)["space"].scale == 1.2


def test_network_measurements_come_back(store: LutStore) -> None:
    fill(store)
    row = NetworkMeasurement("tiny", "space", {"nodes": []}, ((5, 6), (7,)), (0.0, 0.5), 1, 0.5, ("drifted",))
    for batch in ("a", "a", "b"):
        store.append_network(TARGET, SESSION, [row], batch)
    assert store.network_measurements(TARGET) == [row, row]


def test_a_network_costs_the_sum_of_its_operators(store: LutStore) -> None:
    fill(store, 1000)
    lut = store.lut(TARGET)
    assert lut.price(network()).latency_ns == pytest.approx([900] * 3, abs=1)
    assert lut.predict(network()) == pytest.approx(2700, abs=3)
    calibration = Calibration("", 2.0, 0.5, 10.0, (), ())
    assert lut.predict(network(), calibration) == pytest.approx(2 * 2700 + 0.5 * 96 + 30, abs=6)
    capped = replace(calibration, weight_cap_bytes=10)
    assert lut.predict(network(), capped) == pytest.approx(2 * 2700 + 0.5 * 30 + 30, abs=6)


def test_missing_operators_are_all_named_and_never_zero(store: LutStore) -> None:
    fill(store)
    store.append(TARGET, SESSION, [measurement(KEYS[0])], "one")
    with pytest.raises(MissingOpsError, match=r"no latency for 2 operators.*chamnet profile") as caught:
        store.lut(TARGET).price(network())
    assert [op.key for op in caught.value.operators] == list(KEYS[1:])


def test_context_follows_the_form_of_every_tensor() -> None:
    graph = network()
    conv, add, relu = KEYS
    rows = [
        Lowering(conv, "plain", ("reorder", "conv"), "blocked", ("blocked+plain",)),
        Lowering(add, "blocked,blocked+plain", ("add",), "blocked", ("blocked", "blocked+plain")),
        Lowering(relu, "blocked>", ("relu", "reorder back"), "plain", ("blocked",)),
    ]
    steps = resolve(graph, {(row.op_key, row.context): row for row in rows})
    assert [step.natives for step in steps if step] == [("reorder", "conv"), ("add",), ("relu", "reorder back")]


def test_a_narrower_context_goes_before_the_plain_one() -> None:
    graph, conv = network(), KEYS[0]
    rows = [Lowering(conv, context, (context,), "plain", ("plain",)) for context in ("plain", "plain then add", "*")]
    found = {(row.op_key, row.context): row for row in rows}
    assert resolve(graph, found)[0] == rows[1]
    del found[conv, "plain then add"]
    assert resolve(graph, found)[0] == rows[0]
    del found[conv, "plain"]
    assert resolve(graph, found)[0] == rows[2]


def test_the_digest_changes_with_any_latency(store: LutStore) -> None:
    fill(store, 1000)
    before = store.lut(TARGET).digest
    assert store.lut(TARGET).digest == before
    store.append(TARGET, SESSION, [measurement(KEYS[0], 900)], "more")
    assert store.lut(TARGET).digest != before


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_table_survives_export_and_import_twice(store: LutStore, kind: str, tmp_path: Path) -> None:
    fill(store, 1000, 1200)
    file = tmp_path / f"table.{kind}"
    export_target(store, TARGET, file)
    with open_store(tmp_path / "other.db") as other:
        for _ in range(2):
            assert import_file(other, file) == (TARGET, 6)
        assert other.lut(TARGET).digest == store.lut(TARGET).digest
        assert list(other.measurements(TARGET)) == list(store.measurements(TARGET))


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_table_that_is_imported_where_it_came_from_brings_only_what_lacks(
    store: LutStore, kind: str, tmp_path: Path
) -> None:
    fill(store, 1000, 1000)
    file = tmp_path / f"table.{kind}"
    export_target(store, TARGET, file)
    before = list(store.measurements(TARGET))
    import_file(store, file)
    assert list(store.measurements(TARGET)) == before
    with open_store(tmp_path / "other.db") as other:
        fill(other, 1000)
        import_file(other, file)
        assert sorted(map(repr, other.measurements(TARGET))) == sorted(map(repr, before))


def test_csv_has_one_row_an_entry(store: LutStore, tmp_path: Path) -> None:
    fill(store, 1000)
    assert export_target(store, TARGET, tmp_path / "table.csv") == 3
    lines = (tmp_path / "table.csv").read_text().splitlines()
    assert lines[0].startswith("key,latency_us")
    assert sorted(line.split(",")[0] for line in lines[1:]) == sorted(KEYS)
    assert {line.split(",")[1] for line in lines[1:]} == {"0.900"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [*lines[:-1], "no json"],
        lambda lines: [*lines[:-1], '{"is":"measurement"}'],
        lambda lines: [*lines, '{"is":"poem"}'],
        lambda lines: lines[1:],
        lambda lines: [line.replace('"loops":1', '"loops":0') for line in lines],
    ],
)
def test_a_damaged_file_is_refused_whole(store: LutStore, damage, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    fill(store, 1000)
    file = tmp_path / "table.jsonl"
    export_target(store, TARGET, file)
    file.write_text("\n".join(damage(file.read_text().splitlines())) + "\n")
    with open_store(tmp_path / "other.db") as other:
        with pytest.raises(ExchangeError):
            import_file(other, file)
        assert other.targets() == []


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lut.db").write_text("just some text, long enough to be looked at as a header\n" * 50)
    with pytest.raises(NotADatabase, match="another kind of file"):
        open_store(tmp_path / "lut.db")


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "lut.db") as connection:
        connection.execute("create table recipes (name text)")
    with pytest.raises(NotADatabase, match="other tables"):
        open_store(tmp_path / "lut.db")


def test_a_missing_database_is_not_made_where_one_is_to_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotADatabase, match="there is none"):
        open_store(tmp_path / "lut.db", create=False)
    assert not (tmp_path / "lut.db").exists()


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="folder must exist"):
        open_store(tmp_path / "nowhere" / "lut.db")


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    with open_store(tmp_path / "lut.db"):
        pass
    with sqlite3.connect(tmp_path / "lut.db") as connection:
        connection.execute("update alembic_version set version_num = '9999'")
    for opening in (open_store, database.upgrade):
        with pytest.raises(SchemaError, match="9999 of a newer chamnet"):
            opening(tmp_path / "lut.db")


def test_an_older_schema_is_refused_until_it_is_upgraded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_store(tmp_path / "lut.db"):
        pass
    newest = database.head()
    monkeypatch.setattr(database, "head", lambda: "9999")
    with pytest.raises(SchemaError, match=f"older {newest}; 'chamnet lut upgrade'"):
        open_store(tmp_path / "lut.db")


@pytest.mark.parametrize("frozen", sorted(FROZEN.glob("schema_*.sql")), ids=lambda path: path.stem)
def test_a_frozen_database_of_every_schema_upgrades_and_reads(frozen: Path, tmp_path: Path) -> None:
    path = tmp_path / "lut.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(frozen.read_text())
    assert database.upgrade(path)[1] == database.head()
    with open_store(path) as store:
        (target,) = store.targets()
        assert store.lut(target).predict(network()) == pytest.approx(2700, abs=3)


def test_every_schema_has_a_frozen_database() -> None:
    assert {path.stem.removeprefix("schema_") for path in FROZEN.glob("*.sql")} == set(database.revisions())


def test_a_locked_database_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.1)
    with open_store(tmp_path / "lut.db") as store:
        blocker = sqlite3.connect(tmp_path / "lut.db", isolation_level=None)
        blocker.execute("begin immediate")
        with pytest.raises(StoreUnavailable, match="another process holds it"):
            store.put_target(TARGET)
        blocker.execute("rollback")
        store.put_target(TARGET)
        blocker.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write what is read-only")
def test_a_read_only_database_can_be_read_and_not_written(tmp_path: Path) -> None:
    with open_store(tmp_path / "lut.db") as store:
        fill(store, 1000)
    (tmp_path / "lut.db").chmod(0o444)
    tmp_path.chmod(0o555)
    with open_store(tmp_path / "lut.db") as store, pytest.raises(StoreUnavailable, match="write permission"):
        store.put_target(replace(TARGET, threads=2))


def test_a_read_only_connection_is_told(tmp_path: Path) -> None:
    with open_store(tmp_path / "lut.db") as store:
        fill(store, 1000)
    with open_store(f"sqlite:///file:{tmp_path / 'lut.db'}?mode=ro&uri=true") as store:
        assert len(store.lut(TARGET).entries) == 3
        with pytest.raises(StoreUnavailable, match="write permission"):
            store.put_target(replace(TARGET, threads=2))


def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path) -> None:
    with open_store(tmp_path / "lut.db") as store:
        fill(store, 1000)
        with store._engine.connect() as connection:
            pages = connection.exec_driver_sql("pragma page_count").scalar_one()
            connection.exec_driver_sql(f"pragma max_page_count={pages}")
        with pytest.raises(StoreUnavailable, match="make room"):
            store.append(TARGET, SESSION, [measurement(KEYS[0])] * 5000, "too much")
        before = sum(1 for _ in store.measurements(TARGET))
    with open_store(tmp_path / "lut.db") as store:
        assert sum(1 for _ in store.measurements(TARGET)) == before >= 3


WRITER = """
import sys
from tests.test_lut_db import *
with open_store(sys.argv[1]) as store:
    fill(store)
    for number in range(int(sys.argv[3])):
        store.append(TARGET, SESSION, [measurement(key, 1000 + number) for key in KEYS], f"{sys.argv[2]} {number}")
        print(number, flush=True)
"""


def writer(path: Path, name: str, batches: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(batches)], stdout=subprocess.PIPE, text=True
    )


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    with open_store(tmp_path / "lut.db"):
        pass
    writers = [writer(tmp_path / "lut.db", name, 40) for name in ("a", "b")]
    assert [process.wait() for process in writers if process.communicate()] == [0, 0]
    with open_store(tmp_path / "lut.db") as store:
        assert store.clean_passes(TARGET) == dict.fromkeys(KEYS, 80)


def test_killing_a_writer_leaves_whole_batches_only(tmp_path: Path) -> None:
    process = writer(tmp_path / "lut.db", "a", 10_000)
    assert process.stdout is not None
    told = [process.stdout.readline() for _ in range(30)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    with open_store(tmp_path / "lut.db") as store:
        passes = store.clean_passes(TARGET)
    assert len(set(passes.values())) == 1
    assert passes[KEYS[0]] >= len(told)


def test_a_table_is_merged_anew_without_reading_all_measurements(store: LutStore) -> None:
    if store._engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL's plans do not tell how it checks references")
    fill(store, 1000)
    asked: list[tuple[str, tuple[object, ...]]] = []
    event.listen(store._engine, "before_cursor_execute", lambda c, cursor, sql, values, *_: asked.append((sql, values)))
    store.merges.replace(TARGET, [])
    removals = [(sql, values) for sql, values in asked if sql.startswith("DELETE FROM session")]
    assert removals
    with database.reading(store._engine) as connection:
        for sql, values in removals:
            steps = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)]
            assert not [step for step in steps if step.startswith("SCAN ")], steps
