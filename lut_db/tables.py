"""The tables. What changes here needs a migration in ``migrations/versions``."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    literal_column,
    not_,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _id() -> Column[int]:
    return Column("id", Integer, primary_key=True)


def _to(table: str) -> Column[int]:
    return Column(f"{table}_id", Integer, ForeignKey(f"{table}.id"), nullable=False)


device = Table(
    "device",
    metadata,
    _id(),
    Column("name", String, nullable=False, unique=True),
    Column("model", String, nullable=False),
    Column("facts", JSON, nullable=False),
)
target = Table(
    "target",
    metadata,
    _id(),
    Column("key", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False, index=True),
    Column("value", JSON, nullable=False),
)
operator = Table(
    "operator",
    metadata,
    _id(),
    Column("key", Text, nullable=False, unique=True),
    Column("weight_bytes", Integer, nullable=False),
)
session = Table(
    "session",
    metadata,
    _id(),
    _to("target"),
    Column("batch", String(36), nullable=False, unique=True),
    Column("started_at", Float, nullable=False),
    Column("agent_version", String, nullable=False),
    Column("process", String, nullable=False),
    Column("before", JSON, nullable=False),
    Column("after", JSON, nullable=False),
    Column("sentinel_ns", JSON, nullable=False),
    Index("ix_session_target_id_id", "target_id", "id", "started_at"),
)
measurement = Table(
    "measurement",
    metadata,
    _id(),
    _to("target"),
    _to("operator"),
    _to("session"),
    Column("samples", LargeBinary, nullable=False),
    Column("loops", Integer, nullable=False),
    Column("overhead_ns", Float, nullable=False),
    Column("rejected", Integer, nullable=False),
    Column("doubts", String, nullable=False),
    Column("clean", Boolean, nullable=False),
    Column("latency_ns", Float, nullable=False),
    Column("mad_ns", Float, nullable=False),
    Column("count", Integer, nullable=False),
    Column("energy_uj", Float),
    Column("summary", JSON(none_as_null=True)),
    Index("ix_measurement_target_id_operator_id", "target_id", "operator_id"),
    Index("ix_measurement_session_id", "session_id"),
)
lowering = Table(
    "lowering",
    metadata,
    _id(),
    _to("target"),
    _to("operator"),
    Column("context", String, nullable=False),
    Column("natives", JSON, nullable=False),
    Column("output_form", String, nullable=False),
    Column("input_forms", JSON, nullable=False),
    UniqueConstraint("target_id", "operator_id", "context"),
    Index("ix_lowering_target_id_id", "target_id", "id"),
)
part = Table(
    "part",
    metadata,
    Column("target_id", Integer, ForeignKey("target.id"), primary_key=True),
    Column("native", Text, primary_key=True),
    Column("operator_id", Integer, ForeignKey("operator.id"), primary_key=True),
    Column("context", String, primary_key=True),
    sqlite_with_rowid=False,
)
price = Table(
    "price",
    metadata,
    Column("target_id", Integer, ForeignKey("target.id"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("context", String, primary_key=True),
    Column("natives", Text, nullable=False),
    Column("latency_ns", Float, nullable=False),
    Column("mad_ns", Float, nullable=False),
    Column("samples", Integer, nullable=False),
    Column("passes", Integer, nullable=False),
    Column("energy_uj", Float),
    Column("doubts", String, nullable=False),
    Column("clean", Boolean, nullable=False),
    Column("measured_at", Float),
    sqlite_with_rowid=False,
)
ITSELF = price.c.natives == literal_column("''")
"""Prices of native operators themselves. Constants in the text of a query, since that is how a database sees that a
partial index will do."""
DOUBTFUL = and_(ITSELF, not_(price.c.clean))
Index("ix_price_doubtful", price.c.target_id, price.c.key, sqlite_where=DOUBTFUL, postgresql_where=DOUBTFUL)
quarantine = Table(
    "quarantine",
    metadata,
    _id(),
    _to("target"),
    _to("operator"),
    Column("reason", String, nullable=False),
    Column("message", Text, nullable=False),
    UniqueConstraint("target_id", "operator_id"),
)
calibration = Table(
    "calibration",
    metadata,
    _id(),
    _to("target"),
    Column("family", String, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("value", JSON, nullable=False),
)
network = Table(
    "network",
    metadata,
    _id(),
    Column("digest", String(64), nullable=False, unique=True),
    Column("name", String, nullable=False),
    Column("space", String, nullable=False),
    Column("graph", JSON, nullable=False),
)
network_measurement = Table(
    "network_measurement",
    metadata,
    _id(),
    _to("target"),
    _to("network"),
    _to("session"),
    Column("samples", LargeBinary, nullable=False),
    Column("loops", Integer, nullable=False),
    Column("overhead_ns", Float, nullable=False),
    Column("doubts", String, nullable=False),
    Column("latency_ns", Float, nullable=False),
    Column("summary", JSON(none_as_null=True)),
    Index("ix_network_measurement_target_id_network_id", "target_id", "network_id"),
    Index("ix_network_measurement_session_id", "session_id"),
)
accuracy_sample = Table(
    "accuracy_sample",
    metadata,
    _id(),
    Column("space", String, nullable=False),
    Column("genome", String, nullable=False),
    Column("dataset", String, nullable=False),
    Column("recipe", String, nullable=False),
    Column("seed", Integer, nullable=False),
    Column("accuracy_percent", Float),
    Column("failure", Text, nullable=False),
    Column("cost_s", Float),
    Column("source", String, nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("space", "genome", "dataset", "recipe", "seed"),
)
lease = Table(
    "lease",
    metadata,
    _id(),
    Column("unit", String, nullable=False, unique=True),
    Column("owner", String, nullable=False),
    Column("acquired_at", Float, nullable=False),
    Column("heartbeat_at", Float, nullable=False),
)
staircase = Table(
    "staircase",
    metadata,
    _id(),
    _to("target"),
    Column("op_type", String, nullable=False),
    Column("axis", String, nullable=False),
    Column("step", Integer, nullable=False),
    UniqueConstraint("target_id", "op_type", "axis"),
)
token = Table(
    "token",
    metadata,
    _id(),
    Column("name", String, nullable=False, unique=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("scopes", String, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("revoked_at", Float),
    Column("last_used_at", Float),
)
job = Table(
    "job",
    metadata,
    _id(),
    Column("uid", String(32), nullable=False, unique=True),
    Column("kind", String, nullable=False),
    Column("request", JSON, nullable=False),
    Column("arguments", JSON, nullable=False),
    Column("state", String, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("ended_at", Float),
    Column("heartbeat_at", Float),
    Column("attempts", Integer, nullable=False),
    Column("runner", String, nullable=False),
    Column("progress", JSON(none_as_null=True)),
    Column("result", JSON(none_as_null=True)),
    Column("error", Text, nullable=False),
    Column("exit_status", Integer),
    Column("cancel_asked", Boolean, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("made_by", String, nullable=False),
    Index("ix_job_kind_state", "kind", "state"),
)
meter = Table(
    "meter",
    metadata,
    _id(),
    Column("device", String, nullable=False),
    Column("name", String, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("calibration", JSON, nullable=False),
    Index("ix_meter_device_name", "device", "name"),
)
energy = Table(
    "energy",
    metadata,
    _id(),
    _to("target"),
    Column("operator_id", Integer, ForeignKey("operator.id")),
    Column("network_id", Integer, ForeignKey("network.id")),
    Column("meter", String, nullable=False),
    Column("source", String, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("facts", JSON, nullable=False),
    Column("calibration", JSON(none_as_null=True)),
    Column("overhead_ns", Float, nullable=False),
    Column("windows", LargeBinary, nullable=False),
    Column("estimate", JSON, nullable=False),
    Index("ix_energy_target_id_operator_id", "target_id", "operator_id"),
    Index("ix_energy_target_id_network_id", "target_id", "network_id"),
)
