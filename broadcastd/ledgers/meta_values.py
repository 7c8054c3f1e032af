"""The ledger's table of single values. Some are read and written with every commit."""

import sqlalchemy as sa

from broadcastd.ledgers.plain_sql import Insert, plain_sql_of

_PUT = Insert("meta", ("name", "value"), ("name",), "replace")


def get(connection: sa.Connection, name: str) -> str | None:
    """One value, or None."""
    value: str | None = plain_sql_of(connection).value("SELECT value FROM meta WHERE name = ?", [name])
    return value


def put(connection: sa.Connection, **values: str) -> None:
    """Write values by name."""
    plain_sql_of(connection).insert(_PUT, list(values.items()))
