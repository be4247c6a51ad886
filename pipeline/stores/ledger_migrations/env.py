"""Alembic's entry: run the migrations on the connection that `Ledger.migrate` hands over."""

from alembic import context

from pipeline.stores.ledger import Row

context.configure(connection=context.config.attributes["connection"], target_metadata=Row.metadata)
with context.begin_transaction():
    context.run_migrations()
