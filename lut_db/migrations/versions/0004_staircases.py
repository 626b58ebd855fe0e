"""In which steps a target computes channels."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "staircase",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("target_id", sa.Integer(), nullable=False),
        sa.Column("op_type", sa.String(), nullable=False),
        sa.Column("axis", sa.String(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["target_id"], ["target.id"], name=op.f("fk_staircase_target_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_staircase")),
        sa.UniqueConstraint("target_id", "op_type", "axis", name=op.f("uq_staircase_target_id_op_type_axis")),
    )
