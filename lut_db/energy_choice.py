"""Which meter's energies count, where several metered on one target: those of different scopes never mix in a table.

What was really measured goes before what a trace made up, then the meter counts that told of the most, then the newest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, func, select

from lut_db import tables

TOLD = tables.energy.c.estimate["reason"].as_string() == ""
"""Rows that yielded an energy."""
WORTH = ("simulated", "emulated", "measured")


class Choice(NamedTuple):
    """A meter, and what its energies are: one of WORTH."""

    meter: str
    source: str


def counted(connection: Connection, target_id: int) -> Choice | None:
    """The meter whose energies count; None where there are none."""
    table = tables.energy
    many = func.count(table.c.operator_id.distinct()) + func.count(table.c.network_id.distinct())
    query = select(table.c.meter, table.c.source, many, func.max(table.c.id)).where(
        table.c.target_id == target_id, TOLD
    )
    rows = connection.execute(query.group_by(table.c.meter, table.c.source)).all()
    best = max(rows, key=lambda row: (_worth(row.source), *row[2:]), default=None)
    return None if best is None else Choice(best.meter, best.source)


def of(choice: Choice) -> ColumnElement[bool]:
    """The rows of a meter."""
    return and_(tables.energy.c.meter == choice.meter, tables.energy.c.source == choice.source)


def metered_ids(connection: Connection, target_id: int) -> Sequence[int]:
    """Operators that any meter told of."""
    table = tables.energy
    mine = table.c.target_id == target_id, table.c.operator_id.is_not(None)
    return connection.scalars(select(table.c.operator_id).where(*mine).distinct()).all()


def net_energies(connection: Connection, target_id: int, operator_ids: Sequence[int]) -> dict[int, float]:
    """What the meter that counts told, by operator: the newest that it told of each, in uJ of a call.

    Prices have no label of their own, so what a trace made up of a device that is measured is no part of them.
    """
    table, choice = tables.energy, counted(connection, target_id)
    if choice is None or choice.source != _source(connection, target_id):
        return {}
    mine = table.c.target_id == target_id, table.c.operator_id.in_(operator_ids), of(choice), TOLD
    rows = connection.execute(select(table.c.operator_id, table.c.estimate).where(*mine).order_by(table.c.id))
    return {id: float(estimate["net_uj"]) for id, estimate in rows}


def _source(connection: Connection, target_id: int) -> str:
    """What the rows of a target are."""
    query = select(tables.target.c.value).where(tables.target.c.id == target_id)
    return str(connection.scalars(query).one()["source"])


def _worth(source: str) -> int:
    return WORTH.index(source) if source in WORTH else -1
