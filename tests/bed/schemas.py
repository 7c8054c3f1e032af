"""Databases for the ledger's tables, and what the tables in one look like."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from bed.mariadb import USER, PrivateMariaDb
from broadcastd.ledgers import sqlite

T = TypeVar("T")


class CutOffError(Exception):
    """Raised in the middle of a change: what is committed by then stays, as after a kill."""


class Database(Protocol):
    """An empty one, to be made again and again."""

    def clear(self) -> None:
        """Drop all that is in it."""

    def run(self, change: Callable[[sa.Connection], T]) -> T:
        """One transaction."""


class SqliteDatabase:
    def __init__(self, path: Path) -> None:
        self.path = path

    def clear(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def run(self, change: Callable[[sa.Connection], T]) -> T:
        engine = sqlite._engine(self.path)
        try:
            with engine.begin() as connection:
                return change(connection)
        finally:
            engine.dispose()


class MariaDatabase:
    def __init__(self, server: PrivateMariaDb) -> None:
        self._server = server
        self._url = sa.make_url(server.url).set(drivername="mysql+asyncmy", database="ledger")

    def clear(self) -> None:
        self._server.run(
            "CREATE OR REPLACE DATABASE ledger CHARACTER SET utf8mb4;"
            f"GRANT ALL ON ledger.* TO '{USER}'@'127.0.0.1';"
        )

    def run(self, change: Callable[[sa.Connection], T]) -> T:
        return asyncio.run(self._run(change))

    async def _run(self, change: Callable[[sa.Connection], T]) -> T:
        engine = create_async_engine(self._url, poolclass=NullPool)
        async with engine.begin() as connection:
            return await connection.run_sync(change)


def cut_before(change: Callable[[sa.Connection], None], number: int) -> Callable[[sa.Connection], bool]:
    """`change`, cut off before its statement of this number, of those that write; whether it was."""

    def run(connection: sa.Connection) -> bool:
        written = 0

        def count(_: Any, __: Any, statement: str, *___: Any) -> None:
            nonlocal written
            written += statement.lstrip().upper().startswith(("CREATE", "ALTER", "INSERT", "UPDATE"))
            if written == number:
                raise CutOffError

        sa.event.listen(connection, "before_cursor_execute", count)
        change(connection)
        return False

    return run


def tables(connection: sa.Connection) -> dict[str, Any]:
    """All that the database says of its tables; the order of columns aside."""
    inspector = sa.inspect(connection)
    return {name: _table(inspector, name) for name in inspector.get_table_names()}


def _table(inspector: sa.Inspector, name: str) -> dict[str, Any]:
    columns = inspector.get_columns(name)
    assert columns
    return {
        "columns": {one["name"]: (repr(one["type"]), one["nullable"], one["default"]) for one in columns},
        "key": inspector.get_pk_constraint(name),
        "unique": inspector.get_unique_constraints(name),
        "indexes": sorted(inspector.get_indexes(name), key=lambda one: str(one["name"])),
        "options": inspector.get_table_options(name),
    }


def content(connection: sa.Connection) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table."""
    reflected = sa.MetaData()
    reflected.reflect(connection)
    rows = {}
    for name, table in reflected.tables.items():
        query = sa.select(table).order_by(*table.primary_key)
        rows[name] = [dict(row) for row in connection.execute(query).mappings()]
    return rows


def everything(connection: sa.Connection) -> tuple[Any, Any]:
    """Tables and rows."""
    return tables(connection), content(connection)
