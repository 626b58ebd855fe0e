"""What meters read, and what a device's gauge means."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "meter",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("calibration", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_meter")),
    )
    op.create_index("ix_meter_device_name", "meter", ["device", "name"], unique=False)
    op.create_table(
        "energy",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("target_id", sa.Integer(), nullable=False),
        sa.Column("operator_id", sa.Integer(), nullable=True),
        sa.Column("network_id", sa.Integer(), nullable=True),
        sa.Column("meter", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("calibration", sa.JSON(), nullable=True),
        sa.Column("overhead_ns", sa.Float(), nullable=False),
        sa.Column("windows", sa.LargeBinary(), nullable=False),
        sa.Column("estimate", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["target_id"], ["target.id"], name=op.f("fk_energy_target_id")),
        sa.ForeignKeyConstraint(["operator_id"], ["operator.id"], name=op.f("fk_energy_operator_id")),
        sa.ForeignKeyConstraint(["network_id"], ["network.id"], name=op.f("fk_energy_network_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_energy")),
    )
    op.create_index("ix_energy_target_id_operator_id", "energy", ["target_id", "operator_id"], unique=False)
    op.create_index("ix_energy_target_id_network_id", "energy", ["target_id", "network_id"], unique=False)
