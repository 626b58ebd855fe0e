"""EnergyStore: what meters read, kept raw, and what a device's gauge means; in the same database as the look-up tables.

Of several measurements of one operator the newest that yielded an energy counts, of several meters one
(``energy_choice``). Measurements that were refused are kept with their reason.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import Column, Connection, Engine, Row, Select, insert, select

from lut_db import tables
from lut_db.database import reading, writing
from lut_db.energy import EnergyEstimate, MeterCalibration, estimate
from lut_db.energy_choice import TOLD, Choice, counted, metered_ids, of
from lut_db.inserts import insert_missing
from lut_db.records import LutEntry, Target
from lut_db.repricing import reprice, turn_of
from lut_db.rows import network_row

Windows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Network:
    """A whole network that was metered; ``graph`` is its JSON (``ops_catalog.sweep``)."""

    name: str
    space: str
    graph: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EnergyMeasurement:
    """Raw windows of one operator, or one whole network, on one Target.

    Attributes:
        of: key of a NativeOp, or a network.
        meter: a name of the agent's meters.
        source: "measured", or "simulated" of a meter that replays a trace.
        started_at: seconds since the epoch, UTC.
        facts, windows: as ``agent.protocol.Energised`` has them.
        calibration: of the gauge, when it was measured; None where the meter needs none, or had none.
        overhead_ns: of a call that does nothing, which latencies are told without, and so energies, too.
    """

    of: str | Network
    meter: str
    source: str
    started_at: float
    facts: Mapping[str, Any]
    windows: Windows
    calibration: MeterCalibration | None = None
    overhead_ns: float = 0.0

    @property
    def estimate(self) -> EnergyEstimate:
        """The energy of a call without its overhead, which is taken to draw what the rest of it does."""
        return without_overhead(estimate(self.facts, self.windows, self.calibration), self.overhead_ns)


@dataclass(frozen=True, slots=True)
class Metered:
    """What a measurement came to, without its readings."""

    of: str | Network
    meter: str
    source: str
    started_at: float
    estimate: EnergyEstimate


def without_overhead(found: EnergyEstimate, overhead_ns: float) -> EnergyEstimate:
    """Energies for the part of a call that is not overhead; refused where there is no such part."""
    if found.total_uj is None or found.load_uw is None or not overhead_ns:
        return found
    share = 1.0 - overhead_ns * found.load_uw / (1e9 * found.total_uj)
    told: dict[str, Any] = {name: share * getattr(found, name) for name in _ENERGIES}
    if share <= 0:
        return EnergyEstimate(None, None, None, None, None, None, found.calls, found.windows, None, None, NO_LONGER)
    return replace(found, **told)


NO_LONGER = "a call must take longer than one that does nothing, but does not"
_ENERGIES = ("total_uj", "net_uj", "total_low_uj", "total_high_uj", "net_low_uj", "net_high_uj")


def with_energy(entry: LutEntry, metered: Metered | None) -> LutEntry:
    """The entry with what a meter told of it; what was imported with it stays where there was none."""
    if metered is None:
        return entry
    found = metered.estimate
    return replace(
        entry, energy_uj=found.net_uj, energy_low_uj=found.net_low_uj, energy_high_uj=found.net_high_uj,
        energy_label=metered.source, energy_windows=found.windows,
    )  # fmt: skip


class EnergyStore:
    """The energies of an open database; ``LutStore.energies`` makes it. Raises LutError for an unknown target."""

    def __init__(self, engine: Engine, target_id: Callable[[Target], int]) -> None:
        self._engine = engine
        self._target_id = target_id

    def put_calibration(self, device: str, meter: str, calibration: MeterCalibration) -> None:
        """What a device's gauge means from now on."""
        row = {"device": device, "name": meter, "created_at": calibration.verified_at}
        with writing(self._engine) as connection:
            connection.execute(insert(tables.meter).values(**row, calibration=asdict(calibration)))

    def calibration(self, device: str, meter: str) -> MeterCalibration | None:
        """The newest of a device's meter; None where it was never calibrated."""
        table = tables.meter
        query = select(table.c.calibration).where(table.c.device == device, table.c.name == meter)
        with reading(self._engine) as connection:
            found = connection.scalar(query.order_by(table.c.created_at.desc(), table.c.id.desc()).limit(1))
        return None if found is None else MeterCalibration(**found)

    def append(self, target: Target, rows: Sequence[EnergyMeasurement]) -> int:
        """Stores measurements, all or none, and makes prices anew; returns how many were new."""
        id = self._target_id(target)
        with writing(self._engine, turn_of(id)) as connection:
            before = counted(connection, id)
            values = _to_rows(connection, id, rows)
            if values:
                connection.execute(insert(tables.energy), values)
                touched = [row["operator_id"] for row in values]
                others = counted(connection, id) != before
                reprice(connection, id, metered_ids(connection, id) if others else filter(None, touched))
        return len(values)

    def operators(self, target: Target, choice: Choice | None = None) -> dict[str, Metered]:
        """The newest energy of each operator, by key; refused ones left out.

        Args:
            choice: the meter; by default the one that counts (``energy_choice``).
        """
        return {row.key: _metered(row.key, row) for row in self._told(target, choice) if not row.estimate["reason"]}

    def refused(self, target: Target, choice: Choice | None = None) -> dict[str, str]:
        """Operators that were metered without result, and the reason; those with an energy left out."""
        rows = self._told(target, choice)
        reasons = {row.key: str(row.estimate["reason"]) for row in rows}
        known = {row.key for row in rows if not row.estimate["reason"]}
        return {key: reason for key, reason in reasons.items() if key not in known}

    def networks(self, target: Target, choice: Choice | None = None) -> list[Metered]:
        """Whole networks that were metered with a result, the newest of each, in the order of time."""
        table, network, id = tables.energy, tables.network, self._target_id(target)
        query = select(network.c.digest, network.c.name, network.c.space, network.c.graph, *_TOLD).join(table)
        with reading(self._engine) as connection:
            chosen = choice or counted(connection, id)
            if chosen is None:
                return []
            rows = connection.execute(query.where(table.c.target_id == id, of(chosen), TOLD).order_by(table.c.id)).all()
        found = {row.digest: _metered(Network(row.name, row.space, row.graph), row) for row in rows}
        return list(found.values())

    def measurements(self, target: Target, key: str | None = None) -> Iterator[EnergyMeasurement]:
        """Raw measurements of operators by any meter in the order they were made, of one or all."""
        query = _of_operators(self._target_id(target), *tables.energy.c)
        if key is not None:
            query = query.where(tables.operator.c.key == key)
        with reading(self._engine) as connection:
            for row in connection.execute(query):
                yield _from_row(row.key, row)

    def _told(self, target: Target, choice: Choice | None) -> Sequence[Row[Any]]:
        """What a meter told of operators; where none has told anything yet, what any did."""
        id = self._target_id(target)
        query = _of_operators(id, *_TOLD)
        with reading(self._engine) as connection:
            chosen = choice or counted(connection, id)
            return connection.execute(query if chosen is None else query.where(of(chosen))).all()


_TOLD = (tables.energy.c.meter, tables.energy.c.source, tables.energy.c.started_at, tables.energy.c.estimate)


def _metered(of: str | Network, row: Any) -> Metered:
    return Metered(of, row.meter, row.source, row.started_at, EnergyEstimate(**row.estimate))


def _of_operators(target_id: int, *columns: Column[Any]) -> Select[Any]:
    query = select(tables.operator.c.key, *columns).select_from(tables.energy.join(tables.operator))
    return query.where(tables.energy.c.target_id == target_id).order_by(tables.energy.c.id)


def _to_rows(connection: Connection, target_id: int, rows: Sequence[EnergyMeasurement]) -> list[dict[str, Any]]:
    """Rows of the table ``energy`` that it lacks; operators and networks that are new are added."""
    networks = {
        id(row): network_row(row.of.name, row.of.space, row.of.graph) for row in rows if isinstance(row.of, Network)
    }
    keys = [{"key": row.of, "weight_bytes": 0} for row in rows if isinstance(row.of, str)]
    operator_ids = insert_missing(connection, tables.operator, "key", keys)
    network_ids = insert_missing(connection, tables.network, "digest", list(networks.values()))
    found = []
    for row in rows:
        ids = {
            "target_id": target_id,
            "operator_id": operator_ids[row.of] if isinstance(row.of, str) else None,
            "network_id": None if isinstance(row.of, str) else network_ids[networks[id(row)]["digest"]],
        }
        if not _is_stored(connection, row, ids):
            found.append({**_to_row(row), **ids})
    return found


def _is_stored(connection: Connection, row: EnergyMeasurement, ids: Mapping[str, int | None]) -> bool:
    """Whether what was metered then is there already, as where a file is imported twice."""
    table = tables.energy
    same = [table.c[name].is_(None) if value is None else table.c[name] == value for name, value in ids.items()]
    query = select(table.c.id).where(*same, table.c.meter == row.meter, table.c.started_at == row.started_at)
    return connection.scalar(query.limit(1)) is not None


def _to_row(row: EnergyMeasurement) -> dict[str, Any]:
    return {
        "meter": row.meter,
        "source": row.source,
        "started_at": row.started_at,
        "facts": dict(row.facts),
        "calibration": None if row.calibration is None else asdict(row.calibration),
        "windows": zlib.compress(json.dumps(list(row.windows), separators=(",", ":")).encode()),
        "estimate": asdict(row.estimate),
        "overhead_ns": row.overhead_ns,
    }


def _from_row(key: str, row: Any) -> EnergyMeasurement:
    calibration = None if row.calibration is None else MeterCalibration(**row.calibration)
    windows = json.loads(zlib.decompress(row.windows))
    return EnergyMeasurement(
        key, row.meter, row.source, row.started_at, row.facts, windows, calibration, row.overhead_ns
    )
