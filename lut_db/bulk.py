"""Many rows at once, the quickest way that a database has: COPY in PostgreSQL, else one prepared statement."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, insert

CHUNK = 500
"""Rows, or keys in one query: below the limits of every database."""
V = TypeVar("V")


def chunks(values: Iterable[V]) -> Iterator[list[V]]:
    left = iter(values)
    while part := list(islice(left, CHUNK)):
        yield part


def insert_rows(connection: Connection, table: Table, rows: Iterable[Mapping[str, Any]]) -> int:
    """Adds rows, all with the columns of the first; a part of the caller's transaction. Returns how many."""
    told = iter(rows)
    first = next(told, None)
    if first is None:
        return 0
    names, all_rows = list(first), chain([first], told)
    if connection.dialect.name == "postgresql":
        return _copy(connection, table, names, all_rows)
    return _insert(connection, table, all_rows)


def _copy(connection: Connection, table: Table, names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> int:
    quoted = connection.dialect.identifier_preparer.quote
    columns = ", ".join(map(quoted, names))
    processors = [_processor(connection, table, name) for name in names]
    driver: Any = connection.connection.driver_connection
    count = 0
    with driver.cursor() as cursor, cursor.copy(f"COPY {quoted(table.name)} ({columns}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row([process(row[name]) for name, process in zip(names, processors, strict=True)])
            count += 1
    return count


def _processor(connection: Connection, table: Table, name: str) -> Callable[[Any], Any]:
    """What SQLAlchemy does to a value of this column before the driver gets it."""
    known = table.c[name].type.dialect_impl(connection.dialect).bind_processor(connection.dialect)
    return known or (lambda value: value)


def _insert(connection: Connection, table: Table, rows: Iterable[Mapping[str, Any]]) -> int:
    count = 0
    for some in chunks(rows):
        connection.execute(insert(table), [dict(row) for row in some])
        count += len(some)
    return count
