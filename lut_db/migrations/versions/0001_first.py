"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "device",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device")),
        sa.UniqueConstraint("name", name=op.f("uq_device_name")),
    )
    op.create_table(
        "network",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("space", sa.String(), nullable=False),
        sa.Column("graph", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_network")),
        sa.UniqueConstraint("digest", name=op.f("uq_network_digest")),
    )
    op.create_table(
        "operator",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("weight_bytes", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operator")),
        sa.UniqueConstraint("key", name=op.f("uq_operator_key")),
    )
    op.create_table(
        "target",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_target")),
        sa.UniqueConstraint("key", name=op.f("uq_target_key")),
    )
    op.create_index(op.f("ix_target_name"), "target", ["name"], unique=False)
    op.create_table(
        "calibration",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("target_id", sa.Integer(), nullable=False),
        sa.Column("family", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["target_id"], ["target.id"], name=op.f("fk_calibration_target_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calibration")),
    )
    op.create_table(
        "lowering",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("target_id", sa.Integer(), nullable=False),
        sa.Column("operator_id", sa.Integer(), nullable=False),
        sa.Column("context", sa.String(), nullable=False),
        sa.Column("natives", sa.JSON(), nullable=False),
        sa.Column("output_form", sa.String(), nullable=False),
        sa.Column("input_forms", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["operator_id"], ["operator.id"], name=op.f("fk_lowering_operator_id")),
        sa.ForeignKeyConstraint(["target_id"], ["target.id"], name=op.f("fk_lowering_target_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lowering")),
        sa.UniqueConstraint(
            "target_id", "operator_id", "context", name=op.f("uq_lowering_target_id_operator_id_context")
        ),
    )
    op.create_table(
        "quarantine",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("target_id", sa.Integer(), nullable=False),
        sa.Column("operator_id", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["operator_id"], ["operator.id"], name=op.f("fk_quarantine_operator_id")),
        sa.ForeignKeyConstraint(["target_id"], ["target.id"], name=op.f("fk_quarantine_target_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quarantine")),
        sa.UniqueConstraint("target_id", "operator_id", name=op.f("uq_quarantine_target_id_operator_id")),
    )
    op.create_table(
        "session",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("target_id", sa.Integer(), nullable=False),
        sa.Column("batch", sa.String(length=36), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("agent_version", sa.String(), nullable=False),
        sa.Column("process", sa.String(), nullable=False),
        sa.Column("before", sa.JSON(), nullable=False),
        sa.Column("after", sa.JSON(), nullable=False),
        sa.Column("sentinel_ns", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["target_id"], ["target.id"], name=op.f("fk_session_target_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_session")),
        sa.UniqueConstraint("batch", name=op.f("uq_session_batch")),
    )
    op.create_table(
        "measurement",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("target_id", sa.Integer(), nullable=False),
        sa.Column("operator_id", sa.Integer(), nullable=False),
        sa.Column("session_id", sa.Integer(), nullable=False),
        sa.Column("samples", sa.LargeBinary(), nullable=False),
        sa.Column("loops", sa.Integer(), nullable=False),
        sa.Column("overhead_ns", sa.Float(), nullable=False),
        sa.Column("rejected", sa.Integer(), nullable=False),
        sa.Column("doubts", sa.String(), nullable=False),
        sa.Column("clean", sa.Boolean(), nullable=False),
        sa.Column("latency_ns", sa.Float(), nullable=False),
        sa.Column("mad_ns", sa.Float(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("energy_uj", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["operator_id"], ["operator.id"], name=op.f("fk_measurement_operator_id")),
        sa.ForeignKeyConstraint(["session_id"], ["session.id"], name=op.f("fk_measurement_session_id")),
        sa.ForeignKeyConstraint(["target_id"], ["target.id"], name=op.f("fk_measurement_target_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_measurement")),
    )
    op.create_index("ix_measurement_target_id_operator_id", "measurement", ["target_id", "operator_id"], unique=False)
    op.create_table(
        "network_measurement",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("target_id", sa.Integer(), nullable=False),
        sa.Column("network_id", sa.Integer(), nullable=False),
        sa.Column("session_id", sa.Integer(), nullable=False),
        sa.Column("samples", sa.LargeBinary(), nullable=False),
        sa.Column("loops", sa.Integer(), nullable=False),
        sa.Column("overhead_ns", sa.Float(), nullable=False),
        sa.Column("doubts", sa.String(), nullable=False),
        sa.Column("latency_ns", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["network_id"], ["network.id"], name=op.f("fk_network_measurement_network_id")),
        sa.ForeignKeyConstraint(["session_id"], ["session.id"], name=op.f("fk_network_measurement_session_id")),
        sa.ForeignKeyConstraint(["target_id"], ["target.id"], name=op.f("fk_network_measurement_target_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_network_measurement")),
    )
    op.create_index(
        "ix_network_measurement_target_id_network_id", "network_measurement", ["target_id", "network_id"], unique=False
    )


def downgrade() -> None:
    op.drop_index("ix_network_measurement_target_id_network_id", table_name="network_measurement")
    op.drop_table("network_measurement")
    op.drop_index("ix_measurement_target_id_operator_id", table_name="measurement")
    op.drop_table("measurement")
    op.drop_table("session")
    op.drop_table("quarantine")
    op.drop_table("lowering")
    op.drop_table("calibration")
    op.drop_index(op.f("ix_target_name"), table_name="target")
    op.drop_table("target")
    op.drop_table("operator")
    op.drop_table("network")
    op.drop_table("device")
