"""What only a database server can get wrong: writers at the same time, bulk loading, query plans, copies both ways."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import MetaData, create_engine, event, insert, select, text

from lut_db import database, tables
from lut_db.copying import copy_database
from lut_db.errors import LutError, StoreUnavailable
from lut_db.leases import LeaseHeld
from lut_db.lookups import LookupStore
from lut_db.records import Device, Lowering, Quarantined
from lut_db.samples import AccuracySample, open_samples
from lut_db.store import LutStore, open_store
from tests.postgres import PostgresServer
from tests.test_cli import run
from tests.test_energy_store import metered
from tests.test_lut_db import FROZEN, KEYS, SESSION, TARGET, fill, lowering, measurement

WRITERS, BATCHES = 6, 8
SHARED = tuple(f"relu(1x{side};float32)" for side in range(2, 66))


def at_once(count: int, act: Callable[[int], object]) -> list[object]:
    """Results of threads that begin together; an error of one is its result."""
    gate, found = threading.Barrier(count), [None] * count

    def go(number: int) -> None:
        gate.wait()
        try:
            found[number] = act(number)  # type: ignore[call-overload]
        except Exception as error:
            found[number] = error  # type: ignore[call-overload]

    threads = [threading.Thread(target=go, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return list(found)


@pytest.mark.parametrize("targets", [1, 3])
def test_writers_at_the_same_time_lose_and_double_nothing(place: str, targets: int) -> None:
    """All bring the same new operators, in another order each."""
    chosen = [replace(TARGET, threads=1 + number) for number in range(targets)]

    def write(number: int) -> None:
        target = chosen[number % targets]
        with open_store(place) as store:
            store.put_device(Device("local-cpu", "a CPU", {}))
            store.put_target(target)
            turned = SHARED[number * 7 :] + SHARED[: number * 7]
            store.put_lowerings(target, [lowering(key, 1) for key in turned], [])
            for batch in range(BATCHES):
                rows = [measurement(key, 1000 + batch) for key in turned]
                store.append(target, SESSION, rows, f"{number} {batch}")
                store.append(target, SESSION, rows, f"{number} {batch}")
                store.quarantine(target, [Quarantined("slow", "time", "never ended")])

    with open_store(place):
        pass
    assert at_once(WRITERS, write) == [None] * WRITERS
    with open_store(place) as store:
        assert len(store.targets()) == targets
        for target in chosen:
            passes = WRITERS // targets * BATCHES
            assert store.clean_passes(target) == dict.fromkeys(SHARED, passes)
            assert len(store.lowerings(target)) == len(SHARED)
            assert list(store.quarantined(target)) == ["slow"]
            entries = store.lut(target).by_key
            for found in store.lookups.lookup(target, list(SHARED)):
                assert found is not None
                assert found.contexts[0].latency_ns == entries[found.key].latency_ns


def test_a_unit_has_one_holder_however_many_ask(place: str) -> None:
    with open_store(place) as store:
        found = at_once(8, lambda number: store.leases.acquire("phone", f"owner {number}", 60, lambda owner: False))
        assert [type(answer) for answer in found].count(LeaseHeld) == 7
        assert len(store.leases.held()) == 1


def test_a_token_is_made_once_however_many_ask(place: str) -> None:
    with open_store(place) as store:
        found = at_once(6, lambda number: store.tokens.create("laptop"))
        assert [isinstance(answer, LutError) for answer in found].count(True) == 5


def test_a_sample_is_there_once_however_many_bring_it(place: str) -> None:
    failed = AccuracySample("macro", "1-2-0", "cifar10", "as is", None, failure="out of memory")
    trained = replace(failed, accuracy_percent=92.5, failure="")
    with open_store(place), open_samples(place) as samples:
        assert samples.put([failed]) == 1
        assert sorted(at_once(6, lambda number: samples.put([trained]))) == [0] * 5 + [1]  # type: ignore[type-var]
        assert samples.samples() == [trained]


def test_an_empty_database_is_made_by_one_of_those_who_open_it(postgres: PostgresServer) -> None:
    with postgres.database("template1") as url:
        found = at_once(4, lambda number: open_store(url).__exit__(None, None, None))
        assert found == [None] * 4
        with open_store(url) as store:
            assert store.targets() == []


@pytest.mark.parametrize("frozen", sorted(FROZEN.glob("schema_*.sql")), ids=lambda path: path.stem)
def test_an_older_schema_is_brought_up_with_what_it_holds(
    postgres: PostgresServer, frozen: Path, tmp_path: Path
) -> None:
    """The same rows in an older file and on a server come to the same table."""
    file = tmp_path / "lut.db"
    with sqlite3.connect(file) as connection:
        connection.executescript(frozen.read_text())
    with postgres.database("template1") as url:
        revision = bring_over(file, url)
        if revision != database.head():
            with pytest.raises(LutError, match="'chamnet lut upgrade' brings it up"):
                open_store(url)
        for place in (str(file), url):
            assert database.upgrade(place) == (revision, database.head())
        with open_store(file) as older, open_store(url) as upgraded:
            (target,) = upgraded.targets()
            assert upgraded.digest(target) == older.digest(target)
            keys = [entry.key for entry in upgraded.lut(target).entries]
            assert upgraded.lookups.lookup(target, keys) == older.lookups.lookup(target, keys)


def bring_over(file: Path, url: str) -> str:
    """Makes the schema that a file has on the server, and copies its rows; returns the revision."""
    source, into = create_engine(f"sqlite:///{file}"), create_engine(url)
    there, here, config = MetaData(), MetaData(), Config()
    config.set_main_option("script_location", str(database.MIGRATIONS))
    with source.connect() as reader, into.begin() as writer:
        revision = str(reader.scalar(text("select version_num from alembic_version")))
        config.attributes["connection"] = writer
        command.upgrade(config, revision)
        there.reflect(reader)
        here.reflect(writer)
        for table in here.sorted_tables:
            rows = reader.execute(select(there.tables[table.name])).mappings().all()
            if rows and table.name != "alembic_version":
                writer.execute(insert(table), [dict(row) for row in rows])
    source.dispose()
    into.dispose()
    return revision


def test_a_server_that_is_not_there_is_told_without_its_password() -> None:
    with pytest.raises(StoreUnavailable, match="must be readable and writable") as caught:
        open_store("postgresql+psycopg://me:secret@127.0.0.1:1/lut?connect_timeout=2")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


# Copies.


def everything(store: LutStore) -> None:
    fill(store, 1000, 1200)
    store.energies.append(TARGET, [metered(KEYS[0])])
    store.quarantine(TARGET, [Quarantined("slow", "time", "never ended")])
    store.jobs.add("search", {"space": "mbconv", "limits": [1.5]}, ["search"], "ci")
    store.tokens.create("laptop")
    store.leases.acquire("phone", "me", 60, lambda owner: False)


def test_a_database_moves_to_a_server_and_back(
    postgres: PostgresServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first, last = str(tmp_path / "first.db"), str(tmp_path / "last.db")
    with open_store(first) as store:
        everything(store)
        digest = store.digest(TARGET)
    with postgres.database("template1") as url:
        for source, into in ((first, url), (url, last)):
            status, out, _ = run(capfd, "db", "copy", source, into, "--json")
            told = json.loads(out)
            assert (status, told["equal"], told["digests"]) == (0, True, {TARGET.key: [digest, digest]})
            assert (told["rows"]["measurement"], told["rows"]["energy"], told["rows"]["job"]) == (
                [6, 6],
                [1, 1],
                [1, 1],
            )
        with open_store(url) as there:
            there.append(TARGET, SESSION, [measurement(KEYS[0])], "one more")
            assert there.leases.held() == {}
        status, _, err = run(capfd, "db", "copy", first, url)
        assert (status, "must go into an empty database, but it has rows in device" in err) == (1, True)
    with open_store(last) as store:
        assert list(store.measurements(TARGET)) == [measurement(key, ns) for ns in (1000, 1200) for key in KEYS]
        assert store.energies.operators(TARGET).keys() == {KEYS[0]}


@pytest.mark.parametrize(
    "url", ["nothing://here/lut", "postgresql+psycopg://host:port/lut", "postgresql+nodriver://h/lut"]
)
def test_what_is_no_url_of_a_database_is_told(url: str) -> None:
    with pytest.raises(StoreUnavailable, match="must be one that SQLAlchemy knows"):
        open_store(url)


def test_a_copy_into_itself_or_of_nothing_is_refused(place: str, tmp_path: Path) -> None:
    with pytest.raises(LutError, match="another database"):
        copy_database(place, place)
    with pytest.raises(LutError, match="there is none"):
        copy_database(tmp_path / "nothing.db", place)


# Plans of the queries that a service and a profile make all day.


@pytest.fixture(scope="module")
def large(postgres: PostgresServer):  # type: ignore[no-untyped-def]
    """10,000 measurements of 5,000 operators on each of two targets, and what PostgreSQL knows of them."""
    with postgres.database() as url, open_store(url) as store:
        keys = [f"relu(1x{side};float32)" for side in range(1, 5_001)]
        for target in (TARGET, replace(TARGET, threads=2)):
            store.put_target(target)
            store.put_lowerings(target, [lowering(key, 1) for key in keys], [])
            made = [Lowering(f"whole {key}", "*", (key, "glue"), "plain", ("plain",)) for key in keys]
            store.put_lowerings(target, made, [])
            for number in range(2):
                store.append(target, SESSION, [measurement(key) for key in keys], f"{target.threads} {number}")
        postgres_analyse(url)
        yield store


def postgres_analyse(url: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("ANALYZE"))
    engine.dispose()


def test_no_query_of_every_day_reads_a_whole_table(large: LutStore) -> None:
    seen: list[tuple[str, object]] = []
    engine = large._engine
    event.listen(engine, "before_cursor_execute", lambda c, cursor, sql, values, *_: seen.append((sql, values)))
    key = "relu(1x77;float32)"
    LookupStore(engine, large._target_id).lookup(TARGET, [key])
    LookupStore(engine, large._target_id).version(TARGET)
    list(large.measurements(TARGET, key))
    large.append(TARGET, SESSION, [measurement(key)], "another")
    large.energies.append(TARGET, [metered(key)])
    queries = [(sql, values) for sql, values in seen if sql.lstrip().startswith("SELECT") and "advisory" not in sql]
    assert len(queries) > 8
    with database.reading(engine) as connection:
        for sql, values in queries:
            plan = connection.exec_driver_sql(f"EXPLAIN {sql}", values).scalars().all()  # type: ignore[arg-type]
            whole = [step for step in plan for name in LARGE if f"Seq Scan on {name}" in step]
            assert whole == [], f"{sql}\n" + "\n".join(plan)


LARGE = ("measurement", "operator", "price", "lowering", "part")


def test_many_rows_go_in_as_they_are(place: str) -> None:
    from lut_db.bulk import insert_rows

    with open_store(place) as store:
        fill(store)
        with database.writing(store._engine) as connection:
            value = {"ü\t\\N": [1, None, "\x01"], "n": None}
            rows = [{"name": f"d\t{n}\n\\.", "model": "", "facts": value} for n in range(1200)]
            assert insert_rows(connection, tables.device, rows) == 1200
            assert insert_rows(connection, tables.device, []) == 0
        with database.reading(store._engine) as connection:
            found = connection.execute(select(tables.device).where(tables.device.c.model == "")).all()
        assert {row.name for row in found} == {row["name"] for row in rows}
        assert all(row.facts == value for row in found)
        with database.writing(store._engine) as connection:
            connection.execute(insert(tables.device).values(name="next", model="", facts={}))
