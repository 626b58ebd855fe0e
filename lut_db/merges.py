"""MergeStore: one table of several units of one model, made of their own tables, which stay as they are.

It is made anew each time, since what a unit is corrected by changes with what is measured. A copied session says whose
it is and what its times were multiplied by, so that raw samples are never lost in it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Engine, delete, exists, insert, select

from lut_db import tables
from lut_db.bulk import chunks, insert_rows
from lut_db.database import reading, writing
from lut_db.inserts import insert_missing_lowerings
from lut_db.records import Measurement, Target
from lut_db.repricing import put_parts, reprice, turn_of
from lut_db.rows import measurement_from_row, measurement_to_row


@dataclass(frozen=True, slots=True)
class Portion:
    """What one unit gives to a merged table.

    Attributes:
        target: of the unit's own table.
        keys: native operators of which its clean measurements are taken.
        scale: what its times are multiplied by.
        about: is kept with each session: the unit's name, its factor and the like; values for JSON.
    """

    target: Target
    keys: Collection[str]
    scale: float
    about: Mapping[str, Any]


class MergeStore:
    """The merged tables of an open database; ``LutStore.merges`` makes it."""

    def __init__(self, engine: Engine, target_id: Callable[[Target], int]) -> None:
        self._engine = engine
        self._target_id = target_id

    def replace(self, merged: Target, portions: Sequence[Portion]) -> int:
        """Makes a merged table anew, all or nothing; returns its measurements.

        Args:
            merged: its target, which is in the database.
        """
        id = self._target_id(merged)
        with writing(self._engine, turn_of(id)) as connection:
            _clear(connection, id)
            count = sum(_copy_rows(connection, id, self._target_id(portion.target), portion) for portion in portions)
            sources = [self._target_id(portion.target) for portion in portions]
            for source in sources:
                _copy_lowerings(connection, id, source)
            _copy_quarantine(connection, id, sources)
            reprice(connection, id, _priced(connection, id))
        return count

    def sources(self, merged: Target) -> set[str]:
        """The units whose measurements a merged table holds, by name; none of a table that is not merged."""
        table = tables.session
        unit = table.c.before["merged", "unit"].as_string()
        query = select(unit).where(table.c.target_id == self._target_id(merged), unit.is_not(None)).distinct()
        with reading(self._engine) as connection:
            return set(connection.scalars(query))


def _clear(connection: Connection, id: int) -> None:
    """All but networks that were measured, and their sessions."""
    for table in (tables.measurement, tables.lowering, tables.part, tables.price, tables.quarantine):
        connection.execute(delete(table).where(table.c.target_id == id))
    networks = tables.network_measurement
    needed = exists().where(networks.c.session_id == tables.session.c.id)
    connection.execute(delete(tables.session).where(tables.session.c.target_id == id, ~needed))


def _copy_rows(connection: Connection, id: int, source: int, portion: Portion) -> int:
    table, count, sessions = tables.measurement, 0, dict[int, int]()
    known = select(tables.operator.c.key, table).join(tables.operator)
    for some in chunks(sorted(portion.keys)):
        mine = (table.c.target_id == source, table.c.clean, tables.operator.c.key.in_(some))
        found = connection.execute(known.where(*mine).order_by(table.c.id)).all()
        for row in found:
            if row.session_id not in sessions:
                sessions[row.session_id] = _copy_session(connection, id, row.session_id, portion)
        values = [
            {
                **measurement_to_row(scaled(measurement_from_row(row), portion.scale)),
                "target_id": id,
                "session_id": sessions[row.session_id],
                "operator_id": row.operator_id,
            }
            for row in found
        ]
        count += insert_rows(connection, table, values)
    return count


def scaled(row: Measurement, scale: float) -> Measurement:
    """The same, all times multiplied."""
    if scale == 1:
        return row
    told = row.summary and {
        name: value * scale if name.endswith("_ns") else value for name, value in row.summary.items()
    }
    bursts = tuple(tuple(round(ns * scale) for ns in burst) for burst in row.bursts_ns)
    return replace(row, bursts_ns=bursts, overhead_ns=row.overhead_ns * scale, summary=told)


def _copy_session(connection: Connection, id: int, source: int, portion: Portion) -> int:
    table = tables.session
    row = dict(connection.execute(select(table).where(table.c.id == source)).mappings().one())
    before = {**row["before"], "merged": {**portion.about, "batch": row["batch"], "scale": portion.scale}}
    batch = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{id} {row['batch']}"))
    del row["id"]
    result = connection.execute(insert(table).values({**row, "target_id": id, "batch": batch, "before": before}))
    assert result.inserted_primary_key is not None
    return int(result.inserted_primary_key[0])


def _copy_lowerings(connection: Connection, id: int, source: int) -> None:
    table = tables.lowering
    query = select(table, tables.operator.c.key).join(tables.operator).where(table.c.target_id == source)
    for some in connection.execute(query).mappings().partitions(500):
        keys = {row["operator_id"]: row["key"] for row in some}
        rows = [{**{name: row[name] for name in row if name not in ("id", "key")}, "target_id": id} for row in some]
        put_parts(connection, insert_missing_lowerings(connection, rows), keys)


def _copy_quarantine(connection: Connection, id: int, sources: Sequence[int]) -> None:
    """Operators that none of the units measured."""
    table, measured = tables.quarantine, tables.measurement
    there = select(measured.c.operator_id).where(measured.c.target_id == id)
    query = select(table.c.operator_id, table.c.reason, table.c.message)
    rows = connection.execute(query.where(table.c.target_id.in_(sources), table.c.operator_id.not_in(there))).all()
    for row in {row.operator_id: row for row in rows}.values():
        connection.execute(insert(table).values(**row._mapping, target_id=id))


def _priced(connection: Connection, id: int) -> set[int]:
    found = (
        connection.scalars(select(table.c.operator_id).where(table.c.target_id == id).distinct())
        for table in (tables.measurement, tables.lowering)
    )
    return {operator_id for ids in found for operator_id in ids}
