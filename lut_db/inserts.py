"""Inserts that leave alone what is there already; parts of the transactions of ``store``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Insert, Table, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from lut_db import tables
from lut_db.bulk import CHUNK, insert_rows
from lut_db.records import Session


def insert_missing(
    connection: Connection, table: Table, unique: str, rows: Sequence[Mapping[str, Any]]
) -> dict[str, int]:
    """Adds the rows whose unique column is new; returns the ids of all of them by it.

    Another transaction may add the same meanwhile: they go in by one order, so that no two wait for each other.
    """
    values = [row[unique] for row in rows]
    found = _ids(connection, table, unique, values)
    lacking = {row[unique]: row for row in rows if row[unique] not in found}
    if lacking:
        connection.execute(_insert(connection, table), [lacking[value] for value in sorted(lacking)])
        found |= _ids(connection, table, unique, list(lacking))
    return found


def _insert(connection: Connection, table: Table) -> Insert:
    """Leaves alone what is there."""
    dialect = {"sqlite": sqlite, "postgresql": postgresql}.get(connection.dialect.name)
    return insert(table) if dialect is None else dialect.insert(table).on_conflict_do_nothing()


def _ids(connection: Connection, table: Table, unique: str, values: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for start in range(0, len(values), CHUNK):
        query = select(table.c[unique], table.c.id).where(table.c[unique].in_(values[start : start + CHUNK]))
        found.update({row[0]: row[1] for row in connection.execute(query)})
    return found


def insert_missing_lowerings(connection: Connection, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds the rows whose operator and context are new; returns those."""
    table = tables.lowering
    lacking = {(row["operator_id"], row["context"]): row for row in rows}
    ids = sorted({operator_id for operator_id, _ in lacking})
    for start in range(0, len(ids), CHUNK):
        query = select(table.c.operator_id, table.c.context).where(
            table.c.target_id == rows[0]["target_id"], table.c.operator_id.in_(ids[start : start + CHUNK])
        )
        for operator_id, context in connection.execute(query):
            lacking.pop((operator_id, context), None)
    insert_rows(connection, table, lacking.values())
    return list(lacking.values())


def put_session(connection: Connection, target_id: int, session: Session, batch_id: str) -> int | None:
    """The new session's id; None where the batch is stored already."""
    if connection.scalar(select(tables.session.c.id).where(tables.session.c.batch == batch_id)) is not None:
        return None
    row = {**asdict(session), "target_id": target_id, "batch": batch_id}
    result = connection.execute(insert(tables.session).values(row))
    assert result.inserted_primary_key is not None
    return int(result.inserted_primary_key[0])
