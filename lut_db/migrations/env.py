"""Runs migrations on the connection that ``lut_db.database`` hands over."""

from alembic import context

from lut_db.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
