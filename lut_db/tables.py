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
)
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
