"""Jobs and tokens of the service, and what makes its lookups as quick in a large database as in a small one.

* ``price`` holds what every operator costs, so that a lookup reads one row by its key and no measurements; the table is
  its own index. ``part`` says whose prices a native operator's measurement changes. Both are filled after the upgrade.
* ix_price_doubtful: the few that are doubtful among many.
* ix_session_target_id_id, ix_lowering_target_id_id: whether a target has changed, which every request asks.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "token",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("revoked_at", sa.Float(), nullable=True),
        sa.Column("last_used_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_token")),
        sa.UniqueConstraint("name", name=op.f("uq_token_name")),
        sa.UniqueConstraint("digest", name=op.f("uq_token_digest")),
    )
    op.create_table(
        "job",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("arguments", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=True),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("heartbeat_at", sa.Float(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("runner", sa.String(), nullable=False),
        sa.Column("progress", sa.JSON(), nullable=True),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("exit_status", sa.Integer(), nullable=True),
        sa.Column("cancel_asked", sa.Boolean(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("made_by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
        sa.UniqueConstraint("uid", name=op.f("uq_job_uid")),
    )
    op.create_index("ix_job_kind_state", "job", ["kind", "state"], unique=False)
    op.create_table(
        "part",
        sa.Column("target_id", sa.Integer(), nullable=False),
        sa.Column("native", sa.Text(), nullable=False),
        sa.Column("operator_id", sa.Integer(), nullable=False),
        sa.Column("context", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["target_id"], ["target.id"], name=op.f("fk_part_target_id")),
        sa.ForeignKeyConstraint(["operator_id"], ["operator.id"], name=op.f("fk_part_operator_id")),
        sa.PrimaryKeyConstraint("target_id", "native", "operator_id", "context", name=op.f("pk_part")),
        sqlite_with_rowid=False,
    )
    price = op.create_table(
        "price",
        sa.Column("target_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("context", sa.String(), nullable=False),
        sa.Column("natives", sa.Text(), nullable=False),
        sa.Column("latency_ns", sa.Float(), nullable=False),
        sa.Column("mad_ns", sa.Float(), nullable=False),
        sa.Column("samples", sa.Integer(), nullable=False),
        sa.Column("passes", sa.Integer(), nullable=False),
        sa.Column("energy_uj", sa.Float(), nullable=True),
        sa.Column("doubts", sa.String(), nullable=False),
        sa.Column("clean", sa.Boolean(), nullable=False),
        sa.Column("measured_at", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["target_id"], ["target.id"], name=op.f("fk_price_target_id")),
        sa.PrimaryKeyConstraint("target_id", "key", "context", name=op.f("pk_price")),
        sqlite_with_rowid=False,
    )
    doubtful = sa.and_(price.c.natives == "", sa.not_(price.c.clean))
    op.create_index(
        "ix_price_doubtful", "price", ["target_id", "key"], unique=False,
        sqlite_where=doubtful, postgresql_where=doubtful,
    )  # fmt: skip
    op.create_index("ix_session_target_id_id", "session", ["target_id", "id", "started_at"], unique=False)
    op.create_index("ix_lowering_target_id_id", "lowering", ["target_id", "id"], unique=False)
