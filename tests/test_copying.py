"""Whole databases: a copy is of one moment whoever writes meanwhile; an upgrade waits for writers, and does no more."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from lut_db import database, repricing
from lut_db.copying import copy_database
from lut_db.errors import StoreUnavailable
from lut_db.repricing import turn_of
from lut_db.store import open_store
from tests.postgres import PostgresServer
from tests.test_cli import run
from tests.test_lut_db import FROZEN, KEYS, SESSION, TARGET, fill, measurement
from tests.test_postgres import bring_over, everything

OLD = FROZEN / "schema_0004.sql"
AT_ONCE = "&options=-c%20lock_timeout%3D100"
"""For a URL: who would have to wait for a lock fails."""


@pytest.mark.parametrize("when", ["device", "measurement", "energy"])
def test_a_copy_is_of_one_moment_whoever_writes_meanwhile(place: str, tmp_path: Path, when: str) -> None:
    with open_store(place) as store:
        everything(store)
        digest = store.digest(TARGET)

        def write(table: str, done: int, total: int) -> None:
            if table == when:
                store.append(TARGET, SESSION, [measurement(KEYS[0], 5000)], f"meanwhile, {done}")

        copied = copy_database(place, tmp_path / "copy.db", write)
        assert store.digest(TARGET) != digest
    assert (copied.digests, copied.equal) == ({TARGET.key: (digest, digest)}, True)
    assert copied.rows["measurement"] == (6, 6)


def test_after_a_copy_the_source_is_read_as_it_is(place: str, tmp_path: Path) -> None:
    with open_store(place) as store:
        fill(store, 1000)
        copy_database(place, tmp_path / "copy.db")
        store.append(TARGET, SESSION, [measurement(KEYS[0], 5000)], "later")
        assert store.clean_passes(TARGET)[KEYS[0]] == 2


def test_an_upgrade_of_the_newest_schema_makes_no_price_anew(
    place: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with open_store(place) as store:
        fill(store, 1000)
    anew: list[object] = []
    monkeypatch.setattr(repricing, "reprice_all", anew.append)
    status, out, _ = run(capfd, "lut", "upgrade", "--db", place)
    assert (status, anew) == (0, [])
    assert f"schema {database.head()}, nothing to do" in " ".join(out.split())


def test_an_upgrade_of_an_older_schema_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with sqlite3.connect(tmp_path / "lut.db") as connection:
        connection.executescript(OLD.read_text())
    status, out, _ = run(capfd, "lut", "upgrade", "--db", str(tmp_path / "lut.db"))
    assert (status, f"schema 0004 -> {database.head()}" in " ".join(out.split())) == (0, True)


def test_an_upgrade_waits_for_whoever_stores_something_of_any_target(postgres: PostgresServer, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "lut.db") as connection:
        connection.executescript(OLD.read_text())
    with postgres.database("template1") as url:
        bring_over(tmp_path / "lut.db", url)
        writer = database._engine(url)
        with database.writing(writer, turn_of(1)), pytest.raises(StoreUnavailable, match="lock timeout"):
            database.upgrade(url + AT_ONCE)
        writer.dispose()
        assert database.upgrade(url + AT_ONCE) == ("0004", database.head())
