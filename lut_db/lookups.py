"""LookupStore: what single operators cost, quickly, in a database of any size. Whole tables are ``LutStore.lut``.

A lookup reads the table ``price`` by its key, and nothing else; ``repricing`` keeps it true. Of prices nothing is kept
between calls, so an answer is as fresh as the database, and nothing is to be loaded first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import BindParameter, Engine, Select, bindparam, func, select

from lut_db import overview, tables
from lut_db.database import reading
from lut_db.overview import Counts, OperatorRow
from lut_db.prices import Found, Price, natives_of
from lut_db.raw import RawReader
from lut_db.records import Measurement, Session, Target
from lut_db.rows import target_from_json

__all__ = ["Counts", "Found", "LookupStore", "OperatorRow", "Price"]


class LookupStore:
    """Quick queries of an open database; ``LutStore.lookups`` is it."""

    def __init__(self, engine: Engine, target_id: Callable[[Target], int]) -> None:
        self._engine = engine
        self._reader = RawReader(engine)
        self._target_id = target_id
        self._counts: dict[str, tuple[str, Counts]] = {}

    def version(self, target: Target) -> str:
        """Another text whenever anything of a target was added; a matter of microseconds. Raises LutError."""
        values = {"target": self._target_id(target)}
        with self._reader.snapshot() as cursor:
            (newest,) = self._reader.rows(cursor, _NEWEST, values)
            steps = self._reader.rows(cursor, _STAIRCASES, values)
        ids = ".".join(str(id or 0) for id in newest)
        return f"{ids}.{hashlib.sha256(repr(sorted(steps)).encode()).hexdigest()[:8]}" if steps else ids

    def lookup(self, target: Target, keys: Sequence[str]) -> list[Found | None]:
        """The prices of operators or native operators by key, in the order of ``keys``; None where there is none.

        A native operator's price is its entry in ``LutStore.lut``; an operator's in a context is the sum of what it
        becomes there, and a context with an unmeasured native operator has none. Raises LutError.
        """
        id, label = self._target_id(target), target.source
        with self._reader.snapshot() as cursor:
            rows = self._reader.rows_of_keys(cursor, _prices, sorted(set(keys)), (id,))
        found: dict[str, Found] = {}
        for key, context, latency_ns, mad_ns, samples, passes, energy_uj, doubts, natives in rows:
            told = tuple(doubts.split()) if doubts else ()
            made_of = natives_of(key, natives) if natives else (key,)
            price = Price(context, latency_ns, mad_ns, samples, passes, energy_uj, label, told, made_of)
            known = found.get(key)
            found[key] = Found(key, (price,) if known is None else (*known.contexts, price))
        return [found.get(key) for key in keys]

    def page_operators(
        self, target: Target, type: str = "", after: str = "", limit: int = 100, state: str = ""
    ) -> list[OperatorRow]:
        """Native operators of a target in the order of their keys, measured or quarantined.

        Args:
            type: what comes before the parenthesis in their keys, "" for all.
            after: the last key of the page before.
            state: of ``overview.STATES``, "" for all.

        Raises:
            LutError.
        """
        id = self._target_id(target)
        with reading(self._engine) as connection:
            return overview.page(connection, id, target.source, type, after, limit, state)

    def measurements(self, target: Target, key: str) -> list[tuple[Measurement, Session]]:
        """Raw measurements of one native operator in the order they were made, each with its batch. Raises LutError."""
        id = self._target_id(target)
        with reading(self._engine) as connection:
            return overview.measurements(connection, id, key)

    def counts(self) -> dict[str, Counts]:
        """How much there is of every target, by its key; counted again only where something was added."""
        with reading(self._engine) as connection:
            values = connection.execute(select(tables.target.c.value).order_by(tables.target.c.id)).scalars().all()
        return {target.key: self._counted(target) for target in map(target_from_json, values)}

    def _counted(self, target: Target) -> Counts:
        version, id = self.version(target), self._target_id(target)
        known = self._counts.get(target.key)
        if known is None or known[0] != version:
            with reading(self._engine) as connection:
                known = version, overview.counts(connection, id)
            self._counts[target.key] = known
        return known[1]


def _prices(keys: list[BindParameter[Any]]) -> Select[Any]:
    table = tables.price
    columns = (
        table.c.key, table.c.context, table.c.latency_ns, table.c.mad_ns, table.c.samples, table.c.passes,
        table.c.energy_uj, table.c.doubts, table.c.natives,
    )  # fmt: skip
    return select(*columns).where(table.c.target_id == bindparam("target"), table.c.key.in_(keys))


def _newest_of(table: Any) -> Any:
    return select(func.max(table.c.id)).where(table.c.target_id == bindparam("target")).scalar_subquery()


_NEWEST = select(
    *(
        _newest_of(table)
        for table in tables.metadata.sorted_tables
        if {"id", "target_id"} <= {*table.c.keys()} and "session_id" not in table.c and table is not tables.staircase
    )
)
"""Of the tables whose rows are a target's and are never replaced; what comes with a session, shows in its row."""
_STAIRCASES = select(tables.staircase.c.op_type, tables.staircase.c.axis, tables.staircase.c.step).where(
    tables.staircase.c.target_id == bindparam("target")
)
