"""Alembic's entry: run the migrations on the connection `migrate` gives."""

from __future__ import annotations

from alembic import context

from lockboard.adapters.store.migrate import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
