"""LeaseStore: who measures on which unit now, so that no two processes that share a database do at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine, delete, insert, select, update

from lut_db import tables
from lut_db.database import reading, writing
from lut_db.errors import LutError


class LeaseHeld(LutError):
    """Another process holds the unit."""

    def __init__(self, unit: str, owner: str) -> None:
        super().__init__(f"unit {unit!r} must be free, but {owner!r} holds it; wait for its end")
        self.owner = owner


@dataclass(frozen=True, slots=True)
class Held:
    """Who holds a unit, since when, and when it was last heard of; seconds since the epoch, UTC."""

    owner: str
    acquired_at: float
    heartbeat_at: float


class LeaseStore:
    """The leases of an open database; ``LutStore.leases`` makes it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def held(self) -> dict[str, Held]:
        """Every lease by its unit, those too whose holder has not been heard of for long."""
        with reading(self._engine) as connection:
            rows = connection.execute(select(tables.lease)).all()
        return {row.unit: Held(row.owner, row.acquired_at, row.heartbeat_at) for row in rows}

    def acquire(self, unit: str, owner: str, stale_s: float, gone: Callable[[str], bool]) -> None:
        """Takes a unit that nobody holds, or whose holder is ``gone`` or was not heard of for so long.

        Raises:
            LeaseHeld: another owner holds it.
        """
        table, now = tables.lease, time.time()
        with writing(self._engine, f"lease {unit}") as connection:
            held = connection.execute(select(table.c.owner, table.c.heartbeat_at).where(table.c.unit == unit)).first()
            if held is not None and now - held.heartbeat_at < stale_s and not gone(held.owner):
                raise LeaseHeld(unit, held.owner)
            connection.execute(delete(table).where(table.c.unit == unit))
            connection.execute(insert(table).values(unit=unit, owner=owner, acquired_at=now, heartbeat_at=now))

    def renew(self, unit: str, owner: str) -> None:
        """The heartbeat. Raises LeaseHeld where the unit is no longer the owner's."""
        table = tables.lease
        mine = (table.c.unit == unit, table.c.owner == owner)
        with writing(self._engine) as connection:
            if connection.execute(update(table).where(*mine).values(heartbeat_at=time.time())).rowcount == 0:
                raise LeaseHeld(unit, connection.scalar(select(table.c.owner).where(table.c.unit == unit)) or "nobody")

    def release(self, unit: str, owner: str) -> None:
        """Gives a unit back; harmless when it is no longer the owner's."""
        table = tables.lease
        with writing(self._engine) as connection:
            connection.execute(delete(table).where(table.c.unit == unit, table.c.owner == owner))
