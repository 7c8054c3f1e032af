"""The steps between the versions of the ledger's schema: an alembic environment. See `migration.py`.

Only alembic loads what is in here, and only when a ledger is upgraded.
"""
