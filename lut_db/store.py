"""LutStore: what was measured goes in, what is known comes out. The only place with SQL.

A batch of measurements is one transaction under an id of its own: an end at any moment loses or doubles none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from types import TracebackType

from sqlalchemy import Connection, delete, func, insert, select

from lut_db import tables
from lut_db.aggregate import differ
from lut_db.bulk import insert_rows
from lut_db.database import connect, reading, writing
from lut_db.energies import EnergyStore, with_energy
from lut_db.energy_choice import Choice
from lut_db.errors import LutError
from lut_db.inserts import insert_missing, insert_missing_lowerings, put_session
from lut_db.jobs import JobStore
from lut_db.leases import LeaseStore
from lut_db.lookups import LookupStore
from lut_db.lut import LatencyLut, Lowerings, digest_of
from lut_db.merges import MergeStore
from lut_db.records import (
    Calibration,
    Device,
    Lowering,
    LutEntry,
    Measurement,
    NetworkMeasurement,
    Quarantined,
    Session,
    Target,
    targets_named,
)
from lut_db.repricing import put_parts, reprice, turn_of
from lut_db.rows import (
    entry_from_rows,
    measurement_from_row,
    measurement_to_row,
    network_measurement_from_row,
    network_measurement_to_row,
    network_row,
    target_from_json,
)
from lut_db.tokens import TokenStore
from ops_catalog.spec import NativeOp


class LutStore:
    """An open database; use it as a context manager. Made by ``open_store``."""

    def __init__(self, path_or_url: str | Path, create: bool = True) -> None:
        self._engine = connect(path_or_url, create)
        self._target_ids: dict[str, int] = {}
        self._operator_ids: dict[str, int] = {}
        self.lookups = LookupStore(self._engine, self._target_id)

    def __enter__(self) -> LutStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.dispose()

    @property
    def leases(self) -> LeaseStore:
        """Who measures on which unit now."""
        return LeaseStore(self._engine)

    @property
    def merges(self) -> MergeStore:
        """Tables of several units of one model."""
        return MergeStore(self._engine, self._target_id)

    @property
    def energies(self) -> EnergyStore:
        """What meters read."""
        return EnergyStore(self._engine, self._target_id)

    @property
    def jobs(self) -> JobStore:
        """What a service was asked to do, and how far it is."""
        return JobStore(self._engine)

    @property
    def tokens(self) -> TokenStore:
        """Who may use a service."""
        return TokenStore(self._engine)

    def put_device(self, device: Device) -> None:
        """Adds a device, or refreshes what is known about it."""
        row = {"name": device.name, "model": device.model, "facts": dict(device.facts)}
        table = tables.device
        with writing(self._engine, f"device {device.name}") as connection:
            if connection.scalar(select(table.c.id).where(table.c.name == device.name)) is None:
                connection.execute(insert(table).values(row))
            else:
                connection.execute(table.update().where(table.c.name == device.name).values(row))

    def devices(self) -> list[Device]:
        with reading(self._engine) as connection:
            rows = connection.execute(select(tables.device).order_by(tables.device.c.name)).all()
        return [Device(row.name, row.model, row.facts) for row in rows]

    def put_target(self, target: Target) -> None:
        """Adds a target; harmless when it is there."""
        with writing(self._engine) as connection:
            row = {"key": target.key, "name": target.name, "value": asdict(target)}
            insert_missing(connection, tables.target, "key", [row])

    def targets(self) -> list[Target]:
        with reading(self._engine) as connection:
            rows = connection.execute(select(tables.target.c.value).order_by(tables.target.c.id)).scalars().all()
        return [target_from_json(row) for row in rows]

    def target_named(self, name: str) -> Target:
        """The target of that name or key, or the only one whose name contains every word of the text;
        of several, the one that has operators.

        Raises:
            LutError: none, or several.
        """
        known = self.targets()
        found = targets_named(known, name)
        if len(found) > 1:
            found = [target for target in found if self.counts(target)["operators"]] or found
        if len(found) == 1:
            return found[0]
        listed = ", ".join(target.name for target in found or known) or "none yet"
        raise LutError(f"one target must match {name!r}, but got {len(found)}; known: {listed}")

    def counts(self, target: Target) -> dict[str, int]:
        """How many operators, measurements, lowerings and quarantined operators a target has."""
        id = self._target_id(target)
        with reading(self._engine) as connection:
            found = {
                table.name: connection.scalar(select(func.count()).select_from(table).where(table.c.target_id == id))
                or 0
                for table in (tables.measurement, tables.lowering, tables.quarantine, tables.network_measurement)
            }
            distinct = select(func.count(tables.measurement.c.operator_id.distinct()))
            operators = connection.scalar(distinct.where(tables.measurement.c.target_id == id)) or 0
        return {"operators": operators, **found}

    def measuring_s(self, target: Target) -> float:
        """Seconds that a target's batches took, as their sentinels were looked at from the first moment to the last."""
        table = tables.session
        query = select(table.c.sentinel_ns).where(table.c.target_id == self._target_id(target))
        with reading(self._engine) as connection:
            return float(sum(looks[-1][0] for looks in connection.scalars(query) if looks))

    def put_lowerings(self, target: Target, lowerings: Sequence[Lowering], natives: Sequence[NativeOp]) -> None:
        """Adds what operators become on a target, and the native operators they become; what is there stays."""
        id = self._target_id(target)
        with self._writing(id) as connection:
            known = [(native.key, native.weight_bytes) for native in natives]
            self._put_operators(connection, [*known, *((row.op_key, 0) for row in lowerings)])
            rows = [
                {
                    "target_id": id,
                    "operator_id": self._operator_ids[row.op_key],
                    "context": row.context,
                    "natives": list(row.natives),
                    "output_form": row.output_form,
                    "input_forms": list(row.input_forms),
                }
                for row in lowerings
            ]
            new = insert_missing_lowerings(connection, rows)
            put_parts(connection, new, {self._operator_ids[row.op_key]: row.op_key for row in lowerings})
            reprice(connection, id, [row["operator_id"] for row in new])

    def lowerings(self, target: Target) -> Lowerings:
        """What operators become on a target, by operator key and context."""
        return {(row.op_key, row.context): row for row in self.each_lowering(target)}

    def each_lowering(self, target: Target) -> Iterator[Lowering]:
        """What operators become on a target, one after the other: a large table need not fit into memory."""
        table = tables.lowering
        query = (
            select(tables.operator.c.key, table.c.context, table.c.natives, table.c.output_form, table.c.input_forms)
            .join(tables.operator)
            .where(table.c.target_id == self._target_id(target))
        )
        with reading(self._engine) as connection:
            for key, context, natives, form, forms in connection.execute(query):
                yield Lowering(key, context, tuple(natives), form, tuple(forms))

    def append(self, target: Target, session: Session, rows: Sequence[Measurement], batch_id: str) -> None:
        """Stores one batch, all or nothing; a batch id that is there already changes nothing."""
        id = self._target_id(target)
        with self._writing(id) as connection:
            session_id = put_session(connection, id, session, batch_id)
            if session_id is None or not rows:
                return
            self._put_operators(connection, [(row.op_key, 0) for row in rows])
            values = [
                {
                    **measurement_to_row(row),
                    "target_id": id,
                    "session_id": session_id,
                    "operator_id": self._operator_ids[row.op_key],
                }
                for row in rows
            ]
            insert_rows(connection, tables.measurement, values)
            reprice(connection, id, [row["operator_id"] for row in values])

    def measurements(self, target: Target, op_key: str | None = None) -> Iterator[Measurement]:
        """Raw measurements in the order they were made, of one native operator or all."""
        table = tables.measurement
        query = (
            select(tables.operator.c.key, table)
            .join(tables.operator)
            .where(table.c.target_id == self._target_id(target))
        )
        if op_key is not None:
            query = query.where(tables.operator.c.key == op_key)
        with reading(self._engine) as connection:
            for row in connection.execute(query.order_by(table.c.id)):
                yield measurement_from_row(row)

    def quarantine(self, target: Target, rows: Sequence[Quarantined]) -> None:
        """Marks operators that cannot be measured on a target."""
        id = self._target_id(target)
        with self._writing(id) as connection:
            self._put_operators(connection, [(row.op_key, 0) for row in rows])
            for row in rows:
                values = {"target_id": id, "operator_id": self._operator_ids[row.op_key]}
                found = select(tables.quarantine.c.id).filter_by(**values)
                if connection.scalar(found) is None:
                    connection.execute(
                        insert(tables.quarantine).values(**values, reason=row.reason, message=row.message)
                    )

    def quarantined(self, target: Target) -> dict[str, Quarantined]:
        """Operators that cannot be measured on a target, by key."""
        table = tables.quarantine
        query = select(tables.operator.c.key, table.c.reason, table.c.message).join(tables.operator)
        with reading(self._engine) as connection:
            rows = connection.execute(query.where(table.c.target_id == self._target_id(target))).all()
        return {key: Quarantined(key, reason, message) for key, reason, message in rows}

    def clean_passes(self, target: Target) -> dict[str, int]:
        """How many clean measurements each native operator has."""
        return {key: len(latencies) for key, latencies in self._clean_latencies(target).items()}

    def disagreeing(self, target: Target) -> set[str]:
        """Native operators whose two passes differ so much that a third must tell."""
        return {key for key, latencies in self._clean_latencies(target).items() if differ(latencies)}

    def settled(self, target: Target, passes: int) -> set[str]:
        """Native operators that need no measuring: enough clean passes, which agree."""
        found = self._clean_latencies(target)
        return {key for key, latencies in found.items() if len(latencies) >= passes and not differ(latencies)}

    def append_network(
        self, target: Target, session: Session, rows: Sequence[NetworkMeasurement], batch_id: str
    ) -> None:
        """Stores one turn of whole networks, all or nothing."""
        id = self._target_id(target)
        with self._writing(id) as connection:
            session_id = put_session(connection, id, session, batch_id)
            if session_id is None:
                return
            networks = [network_row(row.name, row.space, row.graph) for row in rows]
            ids = insert_missing(connection, tables.network, "digest", networks)
            values = [
                {
                    **network_measurement_to_row(row),
                    "target_id": id,
                    "session_id": session_id,
                    "network_id": ids[known["digest"]],
                }
                for row, known in zip(rows, networks, strict=True)
            ]
            connection.execute(insert(tables.network_measurement), values)

    def network_measurements(self, target: Target) -> list[NetworkMeasurement]:
        """Whole networks measured on a target, in the order they were."""
        table = tables.network_measurement
        known = (tables.network.c.name, tables.network.c.space, tables.network.c.graph)
        query = select(table, *known).join(tables.network).where(table.c.target_id == self._target_id(target))
        with reading(self._engine) as connection:
            rows = connection.execute(query.order_by(table.c.id)).all()
        return [network_measurement_from_row(row) for row in rows]

    def put_calibration(self, target: Target, calibration: Calibration) -> None:
        row = {"family": calibration.family, "created_at": calibration.created_at, "value": asdict(calibration)}
        id = self._target_id(target)
        with self._writing(id) as connection:
            connection.execute(insert(tables.calibration).values(target_id=id, **row))

    def calibrations(self, target: Target) -> dict[str, Calibration]:
        """The newest calibration of each family."""
        table = tables.calibration
        query = select(table.c.value).where(table.c.target_id == self._target_id(target)).order_by(table.c.created_at)
        with reading(self._engine) as connection:
            values = connection.execute(query).scalars().all()
        found = (
            Calibration(**{**v, "networks": tuple(v["networks"]), "residuals": tuple(v["residuals"])}) for v in values
        )
        return {calibration.family: calibration for calibration in found}

    def put_staircases(self, target: Target, steps: Mapping[tuple[str, str], int]) -> None:
        """In which steps a target computes channels, by operator type and axis; replaces what was known."""
        id, table = self._target_id(target), tables.staircase
        rows = [
            {"target_id": id, "op_type": op_type, "axis": axis, "step": step} for (op_type, axis), step in steps.items()
        ]
        with self._writing(id) as connection:
            connection.execute(delete(table).where(table.c.target_id == id))
            if rows:
                connection.execute(insert(table), rows)

    def staircases(self, target: Target) -> dict[tuple[str, str], int]:
        """The steps of a target by operator type and axis; empty where none was looked for, or found."""
        query = select(tables.staircase).where(tables.staircase.c.target_id == self._target_id(target))
        with reading(self._engine) as connection:
            return {(row.op_type, row.axis): row.step for row in connection.execute(query)}

    def lut(self, target: Target, choice: Choice | None = None) -> LatencyLut:
        """A snapshot of everything known about one target.

        Args:
            choice: the meter whose energies are taken, and no other; by default the one that counts.
        """
        return LatencyLut(target, tuple(self.each_entry(target, choice)), self.lowerings(target))

    def digest(self, target: Target) -> str:
        """That of ``lut``, without its memory."""
        return digest_of(target, self.each_entry(target), self.each_lowering(target))

    def each_entry(self, target: Target, choice: Choice | None = None) -> Iterator[LutEntry]:
        """The entries of a target's table, one after the other: a large one need not fit into memory."""
        table = tables.measurement
        query = (
            select(
                tables.operator.c.key, tables.operator.c.weight_bytes, table.c.latency_ns, table.c.mad_ns,
                table.c.count, table.c.clean, table.c.doubts, table.c.energy_uj,
            )
            .join(tables.operator)
            .where(table.c.target_id == self._target_id(target))
            .order_by(table.c.operator_id, table.c.id)
        )  # fmt: skip
        metered = self.energies.operators(target, choice)
        with reading(self._engine) as connection:
            for (key, weight_bytes), rows in groupby(connection.execute(query), key=lambda row: row[:2]):
                entry = entry_from_rows(key, weight_bytes, list(rows), target.source)
                told = entry if choice is None else replace(entry, energy_uj=None, energy_label="")
                yield with_energy(told, metered.get(key))

    def _clean_latencies(self, target: Target) -> dict[str, list[float]]:
        table = tables.measurement
        query = (
            select(tables.operator.c.key, table.c.latency_ns)
            .join(tables.operator)
            .where(table.c.target_id == self._target_id(target), table.c.clean)
        )
        found: dict[str, list[float]] = {}
        with reading(self._engine) as connection:
            for key, latency in connection.execute(query):
                found.setdefault(key, []).append(latency)
        return found

    @contextmanager
    def _writing(self, target_id: int) -> Iterator[Connection]:
        """A transaction of a target; ids of operators that it did not keep are forgotten."""
        try:
            with writing(self._engine, turn_of(target_id)) as connection:
                yield connection
        except BaseException:
            self._operator_ids.clear()
            raise

    def _target_id(self, target: Target) -> int:
        if target.key not in self._target_ids:
            query = select(tables.target.c.id).where(tables.target.c.key == target.key)
            with reading(self._engine) as connection:
                id = connection.scalar(query)
            if id is None:
                known = ", ".join(target.name for target in self.targets()) or "none yet"
                raise LutError(f"a target must be in the database, but got {target.name!r}; known: {known}")
            self._target_ids[target.key] = id
        return self._target_ids[target.key]

    def _put_operators(self, connection: Connection, operators: Sequence[tuple[str, int]]) -> None:
        lacking = [(key, size) for key, size in dict(reversed(operators)).items() if key not in self._operator_ids]
        rows = [{"key": key, "weight_bytes": size} for key, size in lacking]
        self._operator_ids.update(insert_missing(connection, tables.operator, "key", rows))


def open_store(path_or_url: str | Path, create: bool = True) -> LutStore:
    """Opens a database, by default making one where there is none. Raises LutError."""
    return LutStore(path_or_url, create)
