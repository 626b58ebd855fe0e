"""Lookups of single operators: they agree with the whole table, whatever was stored when, and are never old."""

from __future__ import annotations

import shutil
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from benchmarks import lookups as generated
from lut_db import database, inserts, repricing
from lut_db.aggregate import DISQUALIFYING
from lut_db.energies import EnergyMeasurement
from lut_db.energy import EnergyEstimate
from lut_db.errors import LutError, StoreUnavailable
from lut_db.lookups import OperatorRow, Price
from lut_db.raw import SIZES
from lut_db.records import Calibration, Lowering, Measurement, NetworkMeasurement, Quarantined, Session, Target
from lut_db.store import LutStore, open_store
from ops_catalog.ops import load_op
from ops_catalog.spec import NativeOp
from tests.test_lut_db import FROZEN

TARGET = Target("local-cpu", "onnxruntime", "1.32", "cpu", "float32", 1, (1,), "avx2", source="emulated")
OTHER = replace(TARGET, threads=2)
SESSION = Session(7.0, "1", "42", {"load1": 0.5}, {"load1": 0.7}, ((0.0, 1000), (0.5, 1100)))


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    path = tmp_path / "empty.db"
    with open_store(path) as store:
        for target in (TARGET, OTHER):
            store.put_target(target)
    return path


@pytest.fixture
def store(place: str) -> Iterator[LutStore]:
    with open_store(place) as opened:
        for target in (TARGET, OTHER):
            opened.put_target(target)
        yield opened


def measurement(key: str, ns: int = 1000, doubts: tuple[str, ...] = (), energy_uj: float | None = None) -> Measurement:
    return Measurement(key, ((ns, ns + 3, ns + 9),) * 2, (0.0, 0.25), 1, 100.0, 1, doubts, energy_uj)


def measure(store: LutStore, *rows: Measurement, target: Target = TARGET, at: float = 7.0) -> None:
    """A batch of its own."""
    store.append(target, replace(SESSION, started_at=at), rows, str(uuid.uuid4()))


def lower(store: LutStore, key: str, context: str, *natives: str, target: Target = TARGET) -> None:
    store.put_lowerings(target, [Lowering(key, context, natives, "plain", ("plain",))], [])


def told(store: LutStore, *keys: str, target: Target = TARGET) -> list[dict[str, Price] | None]:
    """Prices of each key by context."""
    found = store.lookups.lookup(target, keys)
    return [{price.context: price for price in one.contexts} if one else None for one in found]


def expected(store: LutStore, key: str) -> dict[str, Price] | None:
    """What the whole table says of an operator."""
    lut = store.lut(TARGET)
    plans = {context: row.natives for (op, context), row in lut.lowerings.items() if op == key}
    known = {context: natives for context, natives in plans.items() if lut.by_key.keys() >= set(natives)}
    if key in lut.by_key and (key,) not in known.values():
        known[""] = (key,)
    prices = {}
    for context, natives in known.items():
        entries = [lut.by_key[native] for native in natives]
        energies = [entry.energy_uj for entry in entries]
        prices[context] = Price(
            context,
            sum(entry.latency_ns for entry in entries),
            sum(entry.mad_ns for entry in entries),
            min((entry.samples for entry in entries), default=0),
            min((entry.passes for entry in entries), default=0),
            None if None in energies else sum(energy for energy in energies if energy is not None),
            "emulated",
            tuple(dict.fromkeys(doubt for entry in entries for doubt in entry.doubts)),
            natives,
        )
    return prices or None


KEYS = ("a", "b", "c", "d", "e")
DOUBTS = ("noisy", "loaded", "drifted", "few-samples")
times = st.integers(500, 2000)
doubts = st.lists(st.sampled_from(DOUBTS), max_size=2, unique=True).map(tuple)
rows = st.builds(measurement, st.sampled_from(KEYS), times, doubts, st.sampled_from([None, 2.5, 4.0]))
batches = st.lists(rows, min_size=1, max_size=4)
natives = st.lists(st.sampled_from(KEYS), max_size=3)
lowerings = st.tuples(st.sampled_from(KEYS), st.sampled_from(["*", "plain", "blocked>"]), natives)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(batches, lowerings), max_size=14))
def test_lookups_say_what_the_table_says(empty: Path, tmp_path: Path, steps: Sequence[object]) -> None:
    path = shutil.copy(empty, tmp_path / "lut.db")
    with open_store(path) as writer, open_store(path) as reader:
        for number, step in enumerate(steps):
            if isinstance(step, tuple):
                lower(writer, step[0], step[1], *step[2])
            else:
                writer.append(TARGET, SESSION, step, f"batch {number}")  # type: ignore[arg-type]
        assert told(reader, *KEYS) == [expected(reader, key) for key in KEYS]
        before = told(reader, *KEYS)
        with database.writing(writer._engine) as connection:
            repricing.reprice_all(connection)
        assert told(reader, *KEYS) == before


def test_passes_combine_as_in_the_table(store: LutStore) -> None:
    for ns in (1500, 1000, 1300):
        measure(store, measurement("a", ns))
    measure(store, measurement("b", 900, ("drifted",)), measurement("c", 900, ("drifted",)))
    measure(store, measurement("b", 1400, ("noisy",)))
    a, b, c = told(store, "a", "b", "c")
    assert a is not None
    assert b is not None
    assert c is not None
    assert (a[""].latency_ns, a[""].passes, a[""].samples) == (1200, 3, 18)
    assert (b[""].latency_ns, b[""].doubts) == (1300, ("noisy",))
    assert (c[""].latency_ns, c[""].doubts) == (800, ("drifted",))


def test_an_operator_costs_the_sum_of_what_it_becomes(store: LutStore) -> None:
    lower(store, "conv", "plain", "reorder", "nchwc", "reorder")
    lower(store, "conv", "blocked", "nchwc")
    assert told(store, "conv") == [None]
    measure(store, measurement("nchwc", 1000, ("noisy",)))
    assert told(store, "conv")[0].keys() == {"blocked"}  # type: ignore[union-attr]
    measure(store, measurement("reorder", 300), measurement("reorder", 310, ("loaded",)))
    (found,) = told(store, "conv")
    assert found is not None
    plain = found["plain"]
    assert plain.latency_ns == 900 + 2 * 200
    assert (plain.samples, plain.passes, plain.label) == (6, 1, "emulated")
    assert set(plain.doubts) == {"loaded", "noisy"}
    assert plain.natives == ("reorder", "nchwc", "reorder")


def test_an_operator_that_runs_nothing_costs_nothing(store: LutStore) -> None:
    lower(store, "reshape", "*")
    (found,) = told(store, "reshape")
    assert found == {"*": Price("*", 0.0, 0.0, 0, 0, 0.0, "emulated", (), ())}


def test_an_operator_that_stays_as_it_is_has_one_price(store: LutStore) -> None:
    lower(store, "a", "*", "a")
    measure(store, measurement("a"))
    (found,) = told(store, "a")
    assert found is not None
    assert found.keys() == {"*"}


def test_a_price_has_the_energy_that_a_meter_told(store: LutStore, monkeypatch: pytest.MonkeyPatch) -> None:
    told_uj: dict[str, float | None] = {}

    def fake(facts: dict[str, str], *_: object) -> EnergyEstimate:
        found = told_uj[facts["of"]]
        return EnergyEstimate(found, found, found, found, found, found, 1, 1, 1.0, 2.0, "" if found else "frozen")

    monkeypatch.setattr("lut_db.energies.estimate", fake)
    lower(store, "op", "*", "a", "b")
    measure(store, measurement("a"), measurement("b"), measurement("c"))
    for at, uj in enumerate((3.0, 2.0, None)):
        told_uj |= {"a": uj, "b": 4.0}
        rows = [EnergyMeasurement(key, "replay", TARGET.source, float(at), {"of": key}, ()) for key in ("a", "b")]
        store.energies.append(TARGET, rows)
    assert told(store, "a", "b", "c", "op") == [expected(store, key) for key in ("a", "b", "c", "op")]
    found = told(store, "op", "c")
    assert [price.energy_uj for one in found if one for price in one.values()] == [6.0, None]


def test_answers_are_in_the_order_of_the_questions(store: LutStore) -> None:
    names = [f"op{number}" for number in range(2 * SIZES[-1] + SIZES[1] + 3)]
    measure(store, *(measurement(name, 1000 + number) for number, name in enumerate(names)))
    asked = [*reversed(names), "unknown", names[5], "", "x" * 100_000, "unknown"]
    found = store.lookups.lookup(TARGET, asked)
    assert [one.key if one else None for one in found] == [*reversed(names), None, names[5], None, None, None]
    assert [one.contexts[0].latency_ns for one in found[:3] if one] == [2912, 2911, 2910]
    assert store.lookups.lookup(TARGET, []) == []


def test_targets_do_not_mix(store: LutStore) -> None:
    measure(store, measurement("a", 1000))
    assert told(store, "a", target=OTHER) == [None]
    measure(store, measurement("a", 2000), target=OTHER)
    assert told(store, "a")[0][""].latency_ns == 900  # type: ignore[index]
    with pytest.raises(LutError, match="must be in the database"):
        store.lookups.lookup(replace(TARGET, threads=4), ["a"])


def test_a_batch_that_failed_changes_no_price(store: LutStore, monkeypatch: pytest.MonkeyPatch) -> None:
    measure(store, measurement("a", 1000))
    before = told(store, "a", "b")

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lut_db.store.reprice", fail)
    with pytest.raises(KeyboardInterrupt):
        measure(store, measurement("a", 500), measurement("b", 500))
    assert told(store, "a", "b") == before
    assert store.counts(TARGET)["measurement"] == 1


def test_prices_of_more_operators_than_a_query_takes_are_kept(store: LutStore) -> None:
    names = [f"op{number}" for number in range(2 * inserts.CHUNK + 1)]
    rows = [Lowering(name, "*", ("shared", name), "plain", ("plain",)) for name in names]
    store.put_lowerings(TARGET, rows, [NativeOp("shared", 0)])
    measure(store, *(measurement(name) for name in names))
    assert told(store, *names[:2]) == [{"": expected(store, name)[""]} for name in names[:2]]  # type: ignore[index]
    measure(store, measurement("shared", 400))
    found = told(store, *names)
    assert {price["*"].latency_ns for price in found if price} == {900 + 300}
    assert None not in found


def test_reading_goes_by_the_key_alone(empty: Path) -> None:
    with open_store(empty) as store:
        _check_plans(store, empty)


def _check_plans(store: LutStore, path: Path) -> None:
    statements: list[str] = []
    with store.lookups._reader.snapshot() as cursor:
        cursor.connection.set_trace_callback(statements.append)
    store.lookups.lookup(TARGET, ["a", "b"])
    store.lookups.version(TARGET)
    queries = [text for text in statements if text.startswith("SELECT")]
    with sqlite3.connect(path) as connection:
        plans = [row[3] for text in queries for row in connection.execute(f"explain query plan {text}")]
    assert "SEARCH price USING PRIMARY KEY (target_id=? AND key=?)" in plans
    assert any("session USING COVERING INDEX ix_session_target_id_id" in step for step in plans)
    assert any("lowering USING COVERING INDEX ix_lowering_target_id_id" in step for step in plans)


def test_a_database_that_lacks_a_table_is_told(store: LutStore) -> None:
    measure(store, measurement("a"))
    with database.writing(store._engine) as connection:
        connection.execute(text("drop table price"))
    with pytest.raises(StoreUnavailable, match=r"(no such table:|relation) .?price"):
        store.lookups.lookup(TARGET, ["a"])


@pytest.mark.parametrize("frozen", sorted(FROZEN.glob("schema_*.sql")), ids=lambda path: path.stem)
def test_an_upgraded_database_has_prices(frozen: Path, tmp_path: Path) -> None:
    path = tmp_path / "lut.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(frozen.read_text())
    database.upgrade(path)
    with open_store(path) as store:
        (target,) = store.targets()
        entries = store.lut(target).by_key
        found = store.lookups.lookup(target, list(entries))
        prices = {one.key: price.latency_ns for one in found if one for price in one.contexts}
        assert prices == {key: entry.latency_ns for key, entry in entries.items()}
        assert len(prices) == 3


def test_the_version_changes_with_whatever_is_added(store: LutStore) -> None:
    network = NetworkMeasurement("tiny", "space", {"nodes": []}, ((5, 6), (7,)), (0.0, 0.5), 1, 0.5)
    additions = [
        lambda: lower(store, "a", "*", "a"),
        lambda: measure(store, measurement("a")),
        lambda: store.quarantine(TARGET, [Quarantined("b", "crash", "signal")]),
        lambda: store.append_network(TARGET, SESSION, [network], "network"),
        lambda: store.put_calibration(TARGET, Calibration("", 1.0, 0.0, 0.0, (), ())),
        lambda: store.put_staircases(TARGET, {("conv2d", "out"): 8}),
        lambda: store.put_staircases(TARGET, {("conv2d", "out"): 16}),
        lambda: lower(store, "a", "plain", "a"),
    ]
    seen, other = [store.lookups.version(TARGET)], store.lookups.version(OTHER)
    for add in additions:
        add()
        seen.append(store.lookups.version(TARGET))
        assert store.lookups.version(TARGET) == seen[-1]
    assert len(set(seen)) == len(additions) + 1
    assert store.lookups.version(OTHER) == other


def test_pages_hold_every_operator_once_in_order(store: LutStore) -> None:
    names = [f"{type}({number})" for type in ("conv2d", "conv2d_x", "CONV2D", "add", "xconv2d") for number in range(7)]
    measure(store, *(measurement(name) for name in names))
    lower(store, "conv2d(3)", "*", "conv2d(3)")
    lower(store, "conv2d(3)", "plain", "conv2d(3)")
    lower(store, "relu(1)", "*", "add(1)")
    store.quarantine(TARGET, [Quarantined("conv2d(99)", "crash", ""), Quarantined("conv2d(1)", "crash", "")])
    pages, after = [], ""
    while part := store.lookups.page_operators(TARGET, after=after, limit=4):
        pages.append([row.key for row in part])
        after = part[-1].key
    assert [key for page in pages for key in page] == sorted([*names, "conv2d(99)"])
    assert {len(page) for page in pages} == {4}
    of_type = store.lookups.page_operators(TARGET, "conv2d")
    assert [row.key for row in of_type] == [*(f"conv2d({number})" for number in range(7)), "conv2d(99)"]
    assert [row.key for row in store.lookups.page_operators(TARGET, "conv2d", "conv2d(5)")] == [
        "conv2d(6)",
        "conv2d(99)",
    ]
    assert store.lookups.page_operators(OTHER) == []


def test_a_page_tells_the_state_of_operators(store: LutStore) -> None:
    measure(store, measurement("a", 1000, ("noisy",)), measurement("b", 800, ("drifted",)), at=5.0)
    measure(store, measurement("a", 1000), at=9.0)
    store.quarantine(TARGET, [Quarantined("c", "crash", ""), Quarantined("b", "crash", "")])
    a = OperatorRow("a", "measured", 900.0, 3.0, 12, 2, "emulated", ("noisy",), 9.0)
    b = OperatorRow("b", "doubtful", 700.0, 3.0, 6, 1, "emulated", ("drifted",), 5.0)
    c = OperatorRow("c", "quarantined", None, None, 0, 0, "emulated", (), None)
    assert store.lookups.page_operators(TARGET) == [a, b, c]
    for row in (a, b, c):
        assert store.lookups.page_operators(TARGET, state=row.state) == [row]
    with pytest.raises(LutError, match="measured, doubtful, quarantined, but got 'odd'"):
        store.lookups.page_operators(TARGET, state="odd")


def test_an_operator_with_a_clean_measurement_is_no_longer_doubtful(store: LutStore) -> None:
    measure(store, measurement("a", doubts=("drifted",)))
    assert store.lookups.counts()[TARGET.key]["doubtful"] == 1
    measure(store, measurement("a"))
    assert store.lookups.counts()[TARGET.key]["doubtful"] == 0
    assert store.lookups.page_operators(TARGET, state="doubtful") == []


def test_measurements_come_with_their_conditions(store: LutStore) -> None:
    measure(store, measurement("a", 1000), measurement("b", 500))
    measure(store, measurement("a", 900, ("noisy",)), at=8.0)
    measure(store, measurement("a", 100), target=OTHER)
    assert store.lookups.measurements(TARGET, "a") == [
        (measurement("a", 1000), SESSION),
        (measurement("a", 900, ("noisy",)), replace(SESSION, started_at=8.0)),
    ]
    assert store.lookups.measurements(TARGET, "c") == []


def test_counts_are_those_of_now(store: LutStore) -> None:
    nothing = dict.fromkeys(("operators", "doubtful", "measurement", "quarantine", "network_measurement"), 0)
    assert store.lookups.counts() == {target.key: {**nothing, "newest_at": None} for target in (TARGET, OTHER)}
    measure(store, measurement("a"), measurement("b", doubts=("drifted", "noisy")), at=9.0)
    measure(store, measurement("a"), measurement("c", doubts=("noisy",)), at=3.0)
    store.quarantine(TARGET, [Quarantined("d", "crash", "")])
    counted = store.lookups.counts()
    assert counted[TARGET.key] == {
        **nothing, "operators": 3, "doubtful": 1, "measurement": 4, "quarantine": 1, "newest_at": 9.0,
    }  # fmt: skip
    assert counted[OTHER.key]["measurement"] == 0


@pytest.mark.parametrize("target", [generated.PLAIN, generated.CHANGING], ids=lambda target: target.engine)
def test_generated_tables_are_marked_and_whole(tmp_path: Path, target: Target) -> None:
    path = tmp_path / "generated.db"
    assert generated.generated_store(path, 500, target) == target
    keys = [generated.operator_key(number) for number in range(500)]
    with open_store(path) as store:
        assert store.targets() == [target]
        found = store.lookups.lookup(target, keys)
        lut = store.lut(target)
        doubtful = [entry for entry in lut.entries if not DISQUALIFYING.isdisjoint(entry.doubts)]
        counted = store.lookups.counts()[target.key]
    assert {price.label for one in found if one for price in one.contexts} == {"simulated"}
    assert None not in found
    assert counted["operators"] == len(lut.entries) >= 500
    assert counted["doubtful"] == len(doubtful) > 0
    for refused in (path, tmp_path / "new.db"):
        with pytest.raises(ValueError, match="simulated and in a new file"):
            generated.generated_store(refused, 10, target if refused == path else replace(target, source="measured"))
    assert not (tmp_path / "new.db").exists()


def test_generated_operators_exist_and_are_all_different() -> None:
    keys = [generated.operator_key(number) for number in range(0, 1_000_000, 997)]
    assert [load_op(key).key for key in keys] == keys
    assert len({generated.operator_key(number) for number in range(300_000)}) == 300_000
