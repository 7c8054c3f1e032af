"""The engine of an account's own database: MySQL over asyncmy, or SQLite, both under SQLAlchemy."""

import asyncio
import contextlib
import functools
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from weakref import WeakSet

import sqlalchemy as sa

from broadcastd.async_engine import AsyncConnection, AsyncEngine, create_async_engine
from broadcastd.audiences.trouble import DATABASE, in_words, out_of_time
from broadcastd.errors import AudienceUnavailableError
from broadcastd.mysql_engine import Tap, address_of, hang_up_at_once
from broadcastd.settings import AudienceSettings

GOODBYE_S = 5.0
RECYCLE_S = 280
"""Connections are replaced before common firewalls and MySQL hosts drop idle ones (300 s)."""


KEPT_STATEMENTS = 64

Row = tuple[Any, ...]
Values = Mapping[str, Any]
Blocks = AsyncIterator[Sequence[Row]]
Fetch = Callable[[sa.Connection], Sequence[Row]]


class _SqliteConnection(sqlite3.Connection):
    """Closes its cursors with it.

    Else SQLite keeps it open, and the site's file locked, for as long as anything holds on to a cursor in the
    middle of a query: a traceback does, until somebody looks for garbage.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._cursors: WeakSet[sqlite3.Cursor] = WeakSet()

    def cursor(self, *arguments: Any, **options: Any) -> Any:
        """See sqlite3."""
        cursor = super().cursor(*arguments, **options)
        self._cursors.add(cursor)
        return cursor

    def close(self) -> None:
        """See sqlite3."""
        for cursor in self._cursors:
            cursor.close()
        super().close()


class Database:
    """An account's database, which comes and goes."""

    def __init__(self, engine: AsyncEngine, settings: AudienceSettings) -> None:
        self.engine = engine
        self._is_mysql = engine.dialect.name == "mysql"
        self._driver_error: type[Exception] = engine.dialect.loaded_dbapi.Error
        self._compiled = functools.lru_cache(KEPT_STATEMENTS)(self._compile)
        self._pool_size = settings.pool_size
        # Not the pool's own waiting: a query's time must not run while others are being answered.
        self._free = asyncio.Semaphore(settings.pool_size)
        self._query_timeout_s = settings.query_timeout_s
        self._ping_timeout_s = min(settings.connect_timeout_s, settings.query_timeout_s / 2)

    @property
    def connections(self) -> tuple[int, int]:
        """How many are in use, and how many may be."""
        pool = self.engine.pool
        return pool.checkedout() if isinstance(pool, sa.QueuePool) else 0, self._pool_size

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        """One connection from the pool, for one query that must end in time."""
        async with self._slot():
            with self._wrapping():
                async with asyncio.timeout(self._query_timeout_s), self._connected() as connection:
                    yield connection

    async def rows(self, statement: sa.TextClause, values: Values) -> Sequence[Row]:
        """All rows of a query."""
        async with self.connection() as connection:
            return await connection.run_sync(self._fetched, statement, values)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """One connection of a writable database, for changes that are committed together, or not at all.

        When it raises AudienceUnavailableError, the commit may have gone through all the same: look.
        """
        async with self.connection() as connection:
            # SQLite would else take its lock with the first change, and refuse it to whoever has read before.
            await connection.exec_driver_sql("BEGIN" if self._is_mysql else "BEGIN IMMEDIATE")
            yield connection
            await connection.exec_driver_sql("COMMIT")

    @contextlib.asynccontextmanager
    async def blocks(self, statement: sa.TextClause, values: Values, size: int) -> AsyncIterator[Blocks]:
        """The rows of a query in blocks, through a server-side cursor. Each block must come in time."""
        async with self._slot(), contextlib.AsyncExitStack() as stack:
            with self._wrapping():
                async with asyncio.timeout(self._query_timeout_s):
                    connection = await stack.enter_async_context(self._connected())
                    # Not used again: reading the rest of an answer, to be able to, may take for ever.
                    stack.push_async_callback(connection.invalidate)
                    if self._is_mysql:
                        await connection.exec_driver_sql(_bound(0))
                    tap = Tap(await connection.driver_connection())
                    cursor = await connection.run_sync(self._asked, statement, values, server_side=True)
            yield self._timed(connection, lambda _: cursor.fetchmany(size), tap)

    async def _timed(self, connection: AsyncConnection, fetch: Fetch, tap: Tap) -> Blocks:
        while True:
            with self._wrapping(), self._as_sqlalchemy_says(), tap.opened():
                async with asyncio.timeout(self._query_timeout_s):
                    block = await connection.run_sync(fetch)
            if not block:
                return
            yield block

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """A turn to have a connection."""
        try:
            async with asyncio.timeout(self._query_timeout_s):
                await self._free.acquire()
        except TimeoutError as error:
            busy = f"all {self._pool_size} connections to {DATABASE} are busy (audience.pool_size)"
            raise AudienceUnavailableError(busy) from error
        try:
            yield
        finally:
            self._free.release()

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        """A connection that answers, and goes back to the pool only if all went well with it."""
        async with self.engine.connect() as connection:
            try:
                if self._is_mysql:
                    await self._check(connection)
                yield connection
            except BaseException:
                # What is left of an answer must never meet another query.
                await connection.invalidate()
                raise

    async def _check(self, connection: AsyncConnection) -> None:
        """Replace a connection that was cut while it was idle, or leads nowhere any more.

        SQLAlchemy's own pre-ping would wait for as long as nobody answers, and then go on to the next one.
        """
        if connection.info.setdefault("fresh", True):
            connection.info["fresh"] = False
            return
        try:
            async with asyncio.timeout(self._ping_timeout_s):
                await connection.exec_driver_sql("DO 0")
        except (TimeoutError, sa.exc.DBAPIError):
            await connection.invalidate()
            # Now the next statement opens one, for `_trust_no_other` has given up the idle ones.
            await connection.rollback()

    # SQLAlchemy's connection, but the driver's cursor: its rows cost 1 µs each, so that reading the ids of a
    # million people takes 1.1 s of CPU, and 0.2 s so.

    def _fetched(self, connection: sa.Connection, statement: sa.TextClause, values: Values) -> Sequence[Row]:
        cursor = self._asked(connection, statement, values)
        try:
            rows: Sequence[Row] = cursor.fetchall()
            return rows
        finally:
            cursor.close()

    def _asked(
        self,
        connection: sa.Connection,
        statement: sa.TextClause,
        values: Values,
        *,
        server_side: bool = False,
    ) -> Any:
        sql, names = self._compiled(statement)
        with self._as_sqlalchemy_says():
            cursor = connection.connection.cursor(server_side=server_side)
            cursor.execute(sql, tuple(values[name] for name in names))
        return cursor

    def _compile(self, statement: sa.TextClause) -> tuple[str, Sequence[str]]:
        """A statement in the driver's words, and which values it takes, in order."""
        compiled = statement.compile(dialect=self.engine.dialect)
        return str(compiled), compiled.positiontup or ()

    @contextlib.contextmanager
    def _as_sqlalchemy_says(self) -> Iterator[None]:
        """What the driver raises when it is asked directly, as the error that it is everywhere else."""
        try:
            yield
        except self._driver_error as error:
            raise sa.exc.DBAPIError(None, None, error) from error

    @contextlib.contextmanager
    def _wrapping(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise AudienceUnavailableError(out_of_time(self._query_timeout_s)) from error
        # The driver raises whatever comes when half a packet, or another server's greeting, is all it gets.
        except Exception as error:
            raise AudienceUnavailableError(in_words(error, self._query_timeout_s)) from error

    async def close(self) -> None:
        """Close the pool, with a goodbye to those who take it in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await self.engine.dispose()


def open_database(settings: AudienceSettings, *, writable: bool = False) -> Database:
    """Build the pool; nothing is connected before it is needed. Each statement is committed by itself.

    `writable`: in SQLite. What may be written in MySQL is a matter of the user's rights there.
    """
    given = settings.url.get_secret_value()
    url = sa.make_url(given)
    if url.get_backend_name() == "sqlite":
        # As a URI, which alone can ask for read-only: # and % in a folder's name must be quoted in it.
        file = f"file:{quote(Path(url.database or '').as_posix())}"
        mode = {"mode": "rw" if writable else "ro", "uri": "true"}
        engine = create_async_engine(
            sa.URL.create("sqlite+aiosqlite", database=file, query=mode),
            connect_args={
                "timeout": settings.query_timeout_s / 2,  # for the lock of another writer
                "factory": _SqliteConnection,
            },
            pool_size=settings.pool_size,
            max_overflow=0,
            isolation_level="AUTOCOMMIT",
        )
    else:
        there, tls = address_of(given)
        engine = create_async_engine(
            there,
            connect_args={
                **tls,
                "connect_timeout": settings.connect_timeout_s,
                "init_command": _bound(settings.query_timeout_s),
            },
            pool_size=settings.pool_size,
            max_overflow=0,
            pool_recycle=RECYCLE_S,
            isolation_level="AUTOCOMMIT",  # each read sees the present, none holds a snapshot open
            skip_autocommit_rollback=True,  # one more question that a database that hangs would not answer
        )
        sa.event.listen(engine.sync_engine, "handle_error", _trust_no_other)
        hang_up_at_once(engine.sync_engine)
    return Database(engine, settings)


def _bound(most_s: float) -> str:
    """How long the server may take for a query; 0: as long as it takes. In the words of MariaDB and of MySQL.

    Else queries that were given up here go on there, one more with each try, until it has no connections
    left for the site itself. MariaDB leaves out comments for MySQL 5.7 and later, MySQL those with an M.
    """
    return (
        "SET SESSION autocommit = 1"
        f" /*M!100101 , SESSION max_statement_time = {most_s:f} */"
        f" /*!50708 , SESSION max_execution_time = {round(most_s * 1000)} */"
    )


def _trust_no_other(trouble: sa.ExceptionContext) -> None:
    """After a connection that was cut or does not answer, the idle ones may lead nowhere, too."""
    trouble.invalidate_pool_on_disconnect = True


def own_statement(sql: str, *parameters: str) -> sa.TextClause:
    """The site's own SQL. A colon within its literals is no parameter; only `parameters` are."""
    ours = "|".join(parameters) or "(?!)"
    return sa.text(re.sub(rf"(?<![:\w\\]):(?=\w)(?!(?:{ours})\b)", r"\\:", sql))
