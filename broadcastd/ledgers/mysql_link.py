"""The one connection to a MySQL ledger that writes. It holds the lock against a second daemon.

The lock (GET_LOCK) belongs to the very connection that commits: when that is lost, so is the lock, and
nothing can be written before it was taken again. The server closes the connection after a silence of
SILENCE_S: a machine that is gone for good does not keep the ledger locked, and one that was frozen comes back
without it.
"""

import asyncio
import contextlib
import hashlib
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import orjson
import sqlalchemy as sa

from broadcastd.async_engine import AsyncConnection, AsyncEngine
from broadcastd.errors import LedgerInUseError, LedgerUnavailableError
from broadcastd.ledgers import meta_values
from broadcastd.ledgers.groups import DATABASE_ERRORS

SILENCE_S = 60
"""The server's patience; the writer speaks at least every KEEP_ALIVE_S."""
KEEP_ALIVE_S = 15
FRESH_S = 1
"""A connection that was used so recently is taken to be there."""
LOCK_WAIT_S = 2
"""For the lock: a process that was killed just now may not have been noticed yet."""
HOLDER = "holder"
"""The value of `meta` that says who has the lock."""


class Link:
    """Opened, used by one coroutine at a time, dropped when it went wrong, opened again."""

    def __init__(self, engine: AsyncEngine, address: str) -> None:
        self._engine = engine
        self._address = address
        self._name = secrets.token_hex(8)
        self._own_lock = f"broadcastd.{self._name}"
        self._connection: AsyncConnection | None = None
        self._driver: Any = None
        self._used_s = 0.0
        self._settled = False
        self._deadline: asyncio.Timeout | None = None
        self._answer_s = 0.0

    @contextlib.asynccontextmanager
    async def patience(self, answer_s: float) -> AsyncIterator[None]:
        """Raise TimeoutError within, when one statement takes longer than this; many may."""
        async with asyncio.timeout(answer_s) as deadline:
            self._deadline, self._answer_s = deadline, answer_s
            try:
                yield
            finally:
                self._deadline = None

    def _statement_begun(self, *_: Any) -> None:
        if self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(asyncio.get_running_loop().time() + self._answer_s)

    async def connection(self) -> AsyncConnection:
        """The connection, with the lock, opened if need be.

        Raises one of DATABASE_ERRORS or LedgerUnavailableError when it cannot be had now, and
        LedgerInUseError when another daemon has the ledger.
        """
        if self._connection is not None and time.monotonic() - self._used_s > FRESH_S:
            await self._drop_if_dead(self._connection)
        if self._connection is None:
            self._connection = await self._open()
        self._used_s = time.monotonic()
        return self._connection

    async def note_holder(self) -> None:
        """Write who has the lock. From then on nobody else may have had it when it is taken again."""
        connection = await self.connection()
        values = {"pid": os.getpid(), "host": socket.gethostname(), "name": self._name}
        await connection.run_sync(lambda one: meta_values.put(one, **{HOLDER: orjson.dumps(values).decode()}))
        await connection.commit()
        self._settled = True

    async def drop(self) -> None:
        """Close it at once, whatever state it is in."""
        connection, driver = self._connection, self._driver
        self._connection = self._driver = None
        if connection is None:
            return
        if driver is not None:
            driver.close()  # no word of goodbye: nobody may be there to take it
        with contextlib.suppress(*DATABASE_ERRORS):
            await connection.invalidate()
        with contextlib.suppress(*DATABASE_ERRORS):
            await connection.close()
        with contextlib.suppress(*DATABASE_ERRORS):
            await self._engine.dispose()  # what is idle in its pool is no better: the next one is a new one

    async def close(self) -> None:
        """Let the next daemon in, and close."""
        if self._connection is not None:
            with contextlib.suppress(*DATABASE_ERRORS):
                await self._connection.run_sync(
                    lambda one: _scalar(one, "SELECT RELEASE_LOCK(%s)", _lock(one))
                )
        await self.drop()

    async def _open(self) -> AsyncConnection:
        self._connection = connection = await self._engine.open()
        try:
            sa.event.listen(connection.sync_connection, "before_cursor_execute", self._statement_begun)
            self._driver = await connection.driver_connection()
            await connection.run_sync(self._take)
            await connection.commit()
        except BaseException:
            await self.drop()
            raise
        return connection

    async def _drop_if_dead(self, connection: AsyncConnection) -> None:
        try:
            await connection.exec_driver_sql("SELECT 1")
            await connection.rollback()
        except sa.exc.DBAPIError:
            await self.drop()

    def _take(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        connection.exec_driver_sql(f"SET SESSION wait_timeout = {SILENCE_S}")
        self._end_former(connection)
        if _scalar(connection, "SELECT GET_LOCK(%s, %s)", _lock(connection), LOCK_WAIT_S) != 1:
            raise self._in_use(connection, "is in use by")
        _scalar(connection, "SELECT GET_LOCK(%s, %s)", self._own_lock, LOCK_WAIT_S)
        if self._settled and (_holder(connection) or {}).get("name") != self._name:
            # What it left is not what we know of: a fresh start reads it.
            raise self._in_use(connection, "was taken, while the connection to it was lost, by")

    def _end_former(self, connection: sa.Connection) -> None:
        """End the connection that was dropped, if the server has not noticed yet.

        It is known by a lock of its own, which no other connection has: a number alone may be somebody else's
        after the server was restarted.
        """
        former = _scalar(connection, "SELECT IS_USED_LOCK(%s)", self._own_lock)
        if former is None:
            return
        with contextlib.suppress(sa.exc.DBAPIError):  # it has ended meanwhile, or that is not permitted
            connection.exec_driver_sql(f"KILL {int(former)}")
        if _scalar(connection, "SELECT GET_LOCK(%s, %s)", self._own_lock, LOCK_WAIT_S) != 1:
            raise LedgerUnavailableError(
                f"the server of {self._address} still holds the connection that was lost (number {former})"
            )

    def _in_use(self, connection: sa.Connection, how: str) -> LedgerInUseError:
        holder = _holder(connection)
        other = f", pid {holder['pid']} on {holder['host']}" if holder else ""
        return LedgerInUseError(f"the ledger {self._address} {how} another broadcastd{other}")


def _scalar(connection: sa.Connection, sql: str, *values: Any) -> Any:
    return connection.exec_driver_sql(sql, values).scalar()


def _lock(connection: sa.Connection) -> str:
    return lock_name(str(_scalar(connection, "SELECT DATABASE()")))


def lock_name(database: str) -> str:
    """A server's locks are one namespace, of 64 characters; a database's name alone may have so many."""
    return f"broadcastd.{hashlib.sha256(database.encode()).hexdigest()[:32]}"


def _holder(connection: sa.Connection) -> dict[str, Any] | None:
    try:
        noted = meta_values.get(connection, HOLDER)
    except sa.exc.ProgrammingError:
        return None  # its tables are being made just now
    return None if noted is None else orjson.loads(noted)
