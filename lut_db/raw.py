"""Reads through the database's driver, without SQLAlchemy's rows: a lookup of one key takes 15 us so, not 120.

Statements are SQLAlchemy's all the same, compiled once for the database's dialect, so any database will do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import BindParameter, Engine, Select, bindparam
from sqlalchemy.exc import OperationalError

from lut_db.database import explained

SIZES = (1, 10, 100, 1000)
"""Keys in one statement: few sizes, so that drivers keep them prepared; a shorter list repeats its last key."""

MAPPED_BYTES = 1 << 40
"""SQLite reads through a mapping of the file, as much of it as it can: a fifth quicker in a large database."""

Row = tuple[Any, ...]
Cursor = Any
OfKeys = Callable[[list[BindParameter[Any]]], Select[Any]]
"""The statement for parameters that stand for keys; what else it binds comes before them in its text, once."""
Prepared = tuple[str, tuple[str, ...]]
"""Text of a statement, and the names of its parameters in their order."""


class RawReader:
    """An engine's quick way to read."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._url = str(engine.url)
        self._is_sqlite = engine.dialect.name == "sqlite"
        self._is_positional = engine.dialect.positional
        self._prepared: dict[object, Prepared] = {}

    @contextmanager
    def snapshot(self) -> Iterator[Cursor]:
        """A driver's cursor in one transaction, so that several queries see one state. Raises LutError."""
        with explained(self._url):
            try:
                connection = self._engine.raw_connection()
                try:
                    cursor = connection.cursor()
                    if self._is_sqlite:
                        if "mapped" not in connection.info:
                            connection.info["mapped"] = cursor.execute(f"PRAGMA mmap_size={MAPPED_BYTES}").fetchall()
                        cursor.execute("BEGIN")
                    yield cursor
                finally:
                    connection.close()
            except self._engine.dialect.loaded_dbapi.Error as error:
                raise OperationalError(None, None, error) from error

    def rows(self, cursor: Cursor, statement: Select[Any], values: Mapping[str, Any]) -> list[Row]:
        """All rows of a statement that is kept, such as a constant of a module."""
        sql, names = self._prepared.get(statement) or self._prepare(statement, statement)
        cursor.execute(sql, [values[name] for name in names] if self._is_positional else values)
        found: list[Row] = cursor.fetchall()
        return found

    def rows_of_keys(self, cursor: Cursor, statement: OfKeys, keys: Sequence[Any], first: Row) -> list[Row]:
        """All rows of a statement for keys, in chunks.

        Args:
            keys: sorted ones find their neighbours' pages at hand.
            first: what the statement binds before them.
        """
        found: list[Row] = []
        start, count = 0, len(keys)
        while start < count:
            size = next((size for size in SIZES if size >= count - start), SIZES[-1])
            part = list(keys[start : start + size])
            values = (*first, *part, *part[-1:] * (size - len(part)))
            sql, names = self._prepared.get((statement, size)) or self._prepare((statement, size), _of(statement, size))
            cursor.execute(sql, values if self._is_positional else dict(zip(names, values, strict=True)))
            found += cursor.fetchall()
            start += size
        return found

    def _prepare(self, name: object, statement: Select[Any]) -> Prepared:
        compiled = statement.compile(dialect=self._engine.dialect)
        made = compiled.string, tuple(compiled.positiontup or compiled.params)
        self._prepared[name] = made
        return made


def _of(statement: OfKeys, size: int) -> Select[Any]:
    return statement([bindparam(f"key_{number}") for number in range(size)])
