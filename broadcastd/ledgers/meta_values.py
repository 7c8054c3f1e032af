"""The ledger's table of single values. Some are read and written with every commit."""

import sqlalchemy as sa

from broadcastd.ledgers.record_statements import Insert, statements_for

_PUT = Insert("meta", ("name", "value"), ("name",), "replace")


def get(connection: sa.Connection, name: str) -> str | None:
    """One value, or None."""
    value: str | None = statements_for(connection).value("SELECT value FROM meta WHERE name = ?", [name])
    return value


def put(connection: sa.Connection, **values: str) -> None:
    """Write values by name."""
    statements_for(connection).insert(_PUT, list(values.items()))
