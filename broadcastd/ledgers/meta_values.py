"""The ledger's table of single values."""

import sqlalchemy as sa

from broadcastd.ledgers.schema import meta


def get(connection: sa.Connection, name: str) -> str | None:
    """One value, or None."""
    query = sa.select(meta.c.value).where(meta.c.name == name)
    return connection.execute(query).scalar_one_or_none()


_UPDATE = sa.update(meta).where(meta.c.name == sa.bindparam("the_name"))


def put(connection: sa.Connection, **values: str) -> None:
    """Write values by name."""
    for name, value in values.items():
        if not connection.execute(_UPDATE, {"the_name": name, "value": value}).rowcount:
            connection.execute(sa.insert(meta), {"name": name, "value": value})
