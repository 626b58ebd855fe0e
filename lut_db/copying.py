"""Copies a database into an empty one of any kind and compares both: a table may move to a server and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, func, select

from lut_db import tables
from lut_db.bulk import insert_rows
from lut_db.database import connect, place_of, snapshot, url_of, writing
from lut_db.errors import LutError
from lut_db.store import open_store

LEFT = ("lease",)
"""Tables that say what happens now, there."""
FETCH = 1000

Tell = Callable[[str, int, int], None]
"""What is told of the progress: a table, rows of it done, and in all."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy came to.

    Attributes:
        rows: of every table, in the source and in the copy.
        digests: of every target's table by the target's key, likewise.
    """

    rows: Mapping[str, tuple[int, int]]
    digests: Mapping[str, tuple[str, str]]

    @property
    def equal(self) -> bool:
        return all(before == after for pairs in (self.rows, self.digests) for before, after in pairs.values())

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "equal": self.equal}


def copy_database(source: str | Path, into: str | Path, tell: Tell = lambda table, done, total: None) -> Copied:
    """Copies all that a database holds, in one transaction, but the leases; returns both sides' counts and digests.

    Others may write into the source meanwhile: what it holds is what it held at the beginning, its digests included.

    Raises:
        LutError: the source is not there, the copy is not empty, or either cannot be opened.
    """
    if url_of(source) == url_of(into):
        raise LutError(f"a copy must go into another database, but got {place_of(url_of(source))} twice")
    before, after = connect(source, create=False), connect(into)
    try:
        with snapshot(before) as there:
            return Copied(_copy_all(there, after, tell), _digests(source, into))
    finally:
        before.dispose()
        after.dispose()


def _copy_all(there: Connection, into: Engine, tell: Tell) -> dict[str, tuple[int, int]]:
    chosen = [table for table in tables.metadata.sorted_tables if table.name not in LEFT]
    with writing(into, "copy") as here:
        if filled := [table.name for table in chosen if _count(here, table)]:
            raise LutError(f"a copy must go into an empty database, but it has rows in {', '.join(filled)}")
        for table in chosen:
            _copy(there, here, table, tell)
        return {table.name: (_count(there, table), _count(here, table)) for table in chosen}


def _copy(there: Connection, here: Connection, table: Table, tell: Tell) -> None:
    total, done = _count(there, table), 0
    rows = there.execution_options(stream_results=True).execute(select(table))
    for some in rows.mappings().partitions(FETCH):
        done += insert_rows(here, table, map(dict, some))
        tell(table.name, done, total)
    if here.dialect.name == "postgresql" and "id" in table.c:
        _count_on(here, table)


def _count_on(connection: Connection, table: Table) -> None:
    """Has the next row's number follow the largest that was copied."""
    largest = select(func.coalesce(func.max(table.c.id) + 1, 1)).scalar_subquery()
    connection.execute(select(func.setval(func.pg_get_serial_sequence(table.name, "id"), largest, False)))


def _count(connection: Connection, table: Table) -> int:
    return connection.scalar(select(func.count()).select_from(table)) or 0


def _digests(source: str | Path, into: str | Path) -> dict[str, tuple[str, str]]:
    """To be called in the snapshot of the source, which its own are then of."""
    with open_store(source, create=False) as before, open_store(into, create=False) as after:
        return {target.key: (before.digest(target), after.digest(target)) for target in before.targets()}
