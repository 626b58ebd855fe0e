"""Keeps the table ``price`` true: whoever stores what a price rests on has it made anew in the same transaction.

That transaction is the target's turn (``turn_of``), since the second one must see what the first stored.

The statistics are those of ``rows.entry_from_rows``, as in ``LutStore.lut``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, select

from lut_db import tables
from lut_db.bulk import CHUNK, chunks, insert_rows
from lut_db.database import await_turn
from lut_db.energy_choice import net_energies
from lut_db.prices import Measured, Plan, price_rows
from lut_db.rows import entry_from_rows


def turn_of(target_id: int) -> str:
    """The turn (``database.writing``) of whoever stores something of a target."""
    return f"target {target_id}"


def reprice(connection: Connection, target_id: int, operator_ids: Iterable[int]) -> None:
    """Makes the prices of operators anew, and of those that they are part of."""
    for some in chunks(sorted(set(operator_ids))):
        ids = {*some, *_consumers(connection, target_id, some)}
        for part in chunks(sorted(ids)):
            _reprice(connection, target_id, part)


def await_all_turns(connection: Connection) -> None:
    """Takes the turns of all targets. To be called before a table is locked that their writers wait for."""
    for target_id in connection.scalars(select(tables.target.c.id).order_by(tables.target.c.id)).all():
        await_turn(connection, turn_of(target_id))


def reprice_all(connection: Connection) -> None:
    """Makes all prices anew, and what native operators are part of; of whoever has the turns of all targets."""
    for table in (tables.price, tables.part):
        connection.execute(delete(table))
    for target_id in connection.scalars(select(tables.target.c.id)).all():
        _put_all_parts(connection, target_id)
        ids = [
            connection.scalars(select(table.c.operator_id).where(table.c.target_id == target_id).distinct()).all()
            for table in (tables.lowering, tables.measurement)
        ]
        for part in chunks(sorted({*ids[0], *ids[1]})):
            _reprice(connection, target_id, part)


def put_parts(connection: Connection, lowerings: Iterable[Mapping[str, Any]], keys: Mapping[int, str]) -> None:
    """Notes what native operators are part of, other than of the operator that they are themselves.

    Args:
        lowerings: new rows of ``lowering``.
        keys: of their operators, by id.
    """
    rows = [
        {"native": native, **{name: row[name] for name in ("target_id", "operator_id", "context")}}
        for row in lowerings
        for native in dict.fromkeys(row["natives"])
        if native != keys[row["operator_id"]]
    ]
    insert_rows(connection, tables.part, rows)


def _put_all_parts(connection: Connection, target_id: int) -> None:
    table = tables.lowering
    query = select(table.c.target_id, table.c.operator_id, table.c.context, table.c.natives, tables.operator.c.key)
    query = query.join(tables.operator).where(table.c.target_id == target_id)
    for rows in connection.execute(query).mappings().partitions(CHUNK):
        put_parts(connection, map(dict, rows), {row["operator_id"]: row["key"] for row in rows})


def _consumers(connection: Connection, target_id: int, operator_ids: Sequence[int]) -> Sequence[int]:
    """Operators that native operators are part of."""
    part, keys = tables.part, _keys(connection, operator_ids).values()
    mine = part.c.target_id == target_id, part.c.native.in_(keys)
    return connection.scalars(select(part.c.operator_id).where(*mine).distinct()).all()


def _reprice(connection: Connection, target_id: int, operator_ids: Sequence[int]) -> None:
    keys, plans = _keys(connection, operator_ids), _plans(connection, target_id, operator_ids)
    natives = {native for rows in plans.values() for _, names in rows for native in names} - set(keys.values())
    measured: dict[str, Measured] = {}
    for some in chunks(sorted(natives)):
        measured |= _measured(connection, target_id, _operators(connection, tables.operator.c.key.in_(some)))
    measured |= _measured(connection, target_id, keys)
    rows = [row for id, key in keys.items() for row in price_rows(key, plans.get(id, ()), measured)]
    table = tables.price
    connection.execute(delete(table).where(table.c.target_id == target_id, table.c.key.in_(keys.values())))
    insert_rows(connection, table, ({"target_id": target_id, **row} for row in rows))


def _keys(connection: Connection, operator_ids: Sequence[int]) -> dict[int, str]:
    return _operators(connection, tables.operator.c.id.in_(operator_ids))


def _operators(connection: Connection, condition: ColumnElement[bool]) -> dict[int, str]:
    """Keys of operators, by id."""
    rows = connection.execute(select(tables.operator.c.id, tables.operator.c.key).where(condition)).all()
    return {row.id: row.key for row in rows}


def _plans(connection: Connection, target_id: int, operator_ids: Sequence[int]) -> dict[int, list[Plan]]:
    """What operators become."""
    table = tables.lowering
    query = select(table.c.operator_id, table.c.context, table.c.natives)
    query = query.where(table.c.target_id == target_id, table.c.operator_id.in_(operator_ids))
    plans: dict[int, list[Plan]] = {}
    for id, context, natives in connection.execute(query).all():
        plans.setdefault(id, []).append((context, tuple(natives)))
    return plans


def _measured(connection: Connection, target_id: int, keys: Mapping[int, str]) -> dict[str, Measured]:
    """What measurements come to, by key.

    Args:
        keys: of native operators, by id.
    """
    table = tables.measurement
    query = (
        select(
            table.c.operator_id, tables.session.c.started_at, table.c.latency_ns, table.c.mad_ns, table.c.count,
            table.c.clean, table.c.doubts, table.c.energy_uj,
        )
        .join(tables.session)
        .where(table.c.target_id == target_id, table.c.operator_id.in_(list(keys)))
        .order_by(table.c.operator_id, table.c.id)
    )  # fmt: skip
    energies = net_energies(connection, target_id, list(keys))
    found: dict[str, Measured] = {}
    for id, group in groupby(connection.execute(query).all(), key=itemgetter(0)):
        rows = list(group)
        entry = entry_from_rows(keys[id], 0, rows, "")
        if id in energies:
            entry = replace(entry, energy_uj=energies[id])
        found[keys[id]] = entry, max([row[1] for row in rows])
    return found
