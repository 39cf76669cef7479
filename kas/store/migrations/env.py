"""What Alembic runs: the steps, on the connection and in the transaction of whoever asked (kas/store/migrating.py)."""

from __future__ import annotations

from alembic import context

from kas.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
