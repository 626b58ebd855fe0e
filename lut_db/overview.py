"""What a person sees of a target first: how much there is, operators page by page, one operator's measurements.

Functions on a connection; ``lookups.LookupStore`` calls them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NamedTuple, TypedDict

from sqlalchemy import ColumnElement, Connection, Select, and_, func, select, union

from lut_db import tables
from lut_db.errors import LutError
from lut_db.records import Measurement, Session
from lut_db.rows import measurement_from_row
from lut_db.tables import DOUBTFUL, ITSELF

STATES = ("measured", "doubtful", "quarantined")
_CONDITIONS = {"measured": and_(ITSELF, tables.price.c.clean), "doubtful": DOUBTFUL}


class Counts(TypedDict):
    """How much there is of a target.

    Attributes:
        operators: native operators that were measured.
        doubtful: those of them whose every measurement has a disqualifying doubt.
        newest_at: when its newest batch began, seconds since the epoch, UTC; None where nothing was measured.
    """

    operators: int
    doubtful: int
    measurement: int
    quarantine: int
    network_measurement: int
    newest_at: float | None


class OperatorRow(NamedTuple):
    """One native operator.

    Attributes:
        state: of STATES; what was measured all the same is not quarantined.
        latency_ns, mad_ns, measured_at: None for a quarantined one.
        measured_at: when its newest measurement was made, seconds since the epoch, UTC.
    """

    key: str
    state: str
    latency_ns: float | None
    mad_ns: float | None
    samples: int
    passes: int
    label: str
    doubts: tuple[str, ...]
    measured_at: float | None


def counts(connection: Connection, target_id: int) -> Counts:
    """How much there is of one target; each number is counted along an index."""

    def counted(table: Any, what: Any = None) -> int:
        query = select(func.count() if what is None else func.count(what.distinct())).select_from(table)
        return connection.scalar(query.where(table.c.target_id == target_id)) or 0

    # so written that SQLite takes the partial index
    price = tables.price.c
    doubtful = select(price.key).where(price.target_id == target_id, DOUBTFUL, price.key > "").distinct().subquery()
    newest = select(func.max(tables.session.c.started_at)).where(tables.session.c.target_id == target_id)
    return {
        "operators": counted(tables.measurement, tables.measurement.c.operator_id),
        "doubtful": connection.scalar(select(func.count()).select_from(doubtful)) or 0,
        "measurement": counted(tables.measurement),
        "quarantine": counted(tables.quarantine),
        "network_measurement": counted(tables.network_measurement),
        "newest_at": connection.scalar(newest),
    }


def page(
    connection: Connection, target_id: int, label: str, type: str, after: str, limit: int, state: str
) -> list[OperatorRow]:
    """Native operators after a key; see ``LookupStore.page_operators``."""
    if state not in ("", *STATES):
        raise LutError(f"a state must be one of {', '.join(STATES)}, but got {state!r}; name one of them")
    measured, refused = (
        query.where(*_of_type(connection, query.selected_columns[0], type, after))
        for query in (_measured(target_id, state), _refused(target_id))
    )
    if state == "":
        query: Any = union(measured, refused).order_by("key")
    else:
        query = (refused if state == "quarantined" else measured).distinct().order_by("key")
    keys = connection.scalars(query.limit(limit)).all()
    rows = _rows(connection, target_id, label, keys)
    return [rows.get(key) or OperatorRow(key, "quarantined", None, None, 0, 0, label, (), None) for key in keys]


def measurements(connection: Connection, target_id: int, key: str) -> list[tuple[Measurement, Session]]:
    """Raw measurements of one native operator; see ``LookupStore.measurements``."""
    table, batch = tables.measurement, tables.session
    told = [batch.c[field.name] for field in fields(Session)]
    query = select(table, tables.operator.c.key, *told).join(tables.operator).join(batch)
    query = query.where(table.c.target_id == target_id, tables.operator.c.key == key).order_by(table.c.id)
    return [(measurement_from_row(row), _session(row)) for row in connection.execute(query)]


def _of_type(connection: Connection, key: ColumnElement[str], type: str, after: str) -> list[ColumnElement[bool]]:
    """Conditions on a column of keys: of a type, and after a key."""
    if not type:
        return [key > after]
    if connection.dialect.name == "sqlite":
        # its LIKE uses no index; it orders texts by their bytes, so that a type is a range
        return [key > max(after, f"{type}("), key < f"{type})"]
    return [key > after, key.startswith(f"{type}(", autoescape=True)]


def _measured(target_id: int, state: str) -> Select[tuple[str]]:
    """Keys of measured native operators."""
    condition = _CONDITIONS.get(state, ITSELF)
    return select(tables.price.c.key).where(tables.price.c.target_id == target_id, condition)


def _refused(target_id: int) -> Select[tuple[str]]:
    """Keys of quarantined operators that were not measured."""
    table, price = tables.quarantine, tables.price
    known = select(price.c.key).where(price.c.target_id == target_id, price.c.key == tables.operator.c.key, ITSELF)
    mine = table.c.target_id == target_id, ~known.exists()
    return select(tables.operator.c.key).join(table).where(*mine)


def _rows(connection: Connection, target_id: int, label: str, keys: Sequence[str]) -> dict[str, OperatorRow]:
    """Measured native operators, by key."""
    table = tables.price
    query = select(table).where(table.c.target_id == target_id, ITSELF, table.c.key.in_(keys))
    return {
        row.key: OperatorRow(
            row.key, "measured" if row.clean else "doubtful", row.latency_ns, row.mad_ns, row.samples, row.passes,
            label, tuple(row.doubts.split()), row.measured_at,
        )
        for row in connection.execute(query)
    }  # fmt: skip


def _session(row: Any) -> Session:
    sentinel = tuple((at, ns) for at, ns in row.sentinel_ns)
    return Session(row.started_at, row.agent_version, row.process, row.before, row.after, sentinel)
