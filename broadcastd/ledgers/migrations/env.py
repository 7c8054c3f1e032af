"""What alembic runs to reach the ledger: on the caller's connection, in the caller's transaction."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
# No transaction is begun here: on SQLite all steps are to be on disk at once, or none.
context.run_migrations()
