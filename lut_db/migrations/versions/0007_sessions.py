"""What was measured in a session, found without looking at every row."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_measurement_session_id", "measurement", ["session_id"], unique=False)
    op.create_index("ix_network_measurement_session_id", "network_measurement", ["session_id"], unique=False)
