"""The ledger in a database of its own, in MySQL or MariaDB."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Self, TypeVar

import sqlalchemy as sa
import structlog

from broadcastd.async_engine import AsyncEngine, create_async_engine
from broadcastd.clock import Clock
from broadcastd.errors import LedgerUnavailableError
from broadcastd.ledgers import migration
from broadcastd.ledgers.groups import DATABASE_ERRORS, cause
from broadcastd.ledgers.migration import HEAD, Age, Upgrade
from broadcastd.ledgers.mysql_link import Link
from broadcastd.ledgers.mysql_writer import MysqlWriter
from broadcastd.ledgers.opening_changes import Guard
from broadcastd.ledgers.schema import meta
from broadcastd.ledgers.sql import Change, SqlLedger
from broadcastd.mysql_engine import address_of, hang_up_at_once

log = structlog.get_logger()

T = TypeVar("T")

CONNECT_S = 10
ANSWER_S = 30.0
"""How long a statement, or a whole group of changes, may take before its connection counts as lost."""
CLOSE_S = 5.0
READERS = 4
RECYCLE_S = 280
"""Idle connections are replaced before common firewalls drop them (300 s)."""

LOCK_WAIT_S = 5
"""For who holds a row, such as an operator's open transaction: as `sqlite.BUSY_TIMEOUT_S`."""
SQL_MODE = "STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION"
"""A value that does not fit is an error, whatever the server's default says."""


class MysqlLedger(SqlLedger):
    """Implements `Ledger` in one database. An async context manager; `opening` tells what it found."""

    def __init__(self, url: str, clock: Clock, guard: Guard, *, answer_s: float = ANSWER_S) -> None:
        super().__init__(clock, guard)
        self._url = url
        self._answer_s = answer_s

    async def __aenter__(self) -> Self:
        self._engine = _engine(self._url)
        self._link = Link(self._engine, address(self._url))
        try:
            await self._in_words("opened", self._prepare)
            self._writer = MysqlWriter(self._link, self._answer_s, self.commits)
            try:
                await self._settle_in()
            except BaseException:
                await self._writer.close(CLOSE_S)
                raise
        except BaseException:
            await self._let_go()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._writer.close(CLOSE_S)
        await self._let_go()

    async def _let_go(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._link.close()
        except TimeoutError:
            await self._link.drop()
        await self._engine.dispose()

    async def _prepare(self) -> None:
        connection = await self._link.connection()
        await connection.run_sync(prepare, address(self._url))
        await connection.run_sync(_warn_of_weakness)
        await connection.commit()
        await self._link.note_holder()

    async def _write(self, change: Change[T], patience_s: float | None = None) -> T:
        return await self._writer.run(change, patience_s)

    async def _read(self, query: Change[T]) -> T:
        async def run() -> T:
            # One snapshot (REPEATABLE READ): a job and its books are of the same moment.
            async with self._engine.connect() as connection:
                return await connection.run_sync(query)

        return await self._in_words("read", run)

    async def _in_words(self, what: str, run: Callable[[], Awaitable[T]]) -> T:
        place = address(self._url)
        try:
            async with asyncio.timeout(self._answer_s):
                return await run()
        except TimeoutError as error:
            raise LedgerUnavailableError(
                f"the ledger {place} cannot be {what}: no answer within {self._answer_s:g} s"
            ) from error
        except DATABASE_ERRORS as error:
            raise LedgerUnavailableError(f"the ledger {place} cannot be {what}: {cause(error)}") from error

    async def watch(self) -> None:
        """See `SqlLedger`."""
        await asyncio.shield(self._writer.task)

    @property
    def trouble(self) -> str:
        """See `Ledger`."""
        return self._writer.trouble

    def free_bytes(self) -> int | None:
        """See `Ledger`. A server does not tell."""
        return None


def address(url: str) -> str:
    """Where it is, without user and password: what is logged, and what a ledger's identity holds."""
    parts = sa.make_url(url)
    return f"mysql://{parts.host or 'localhost'}:{parts.port or 3306}/{parts.database}"


async def make(url: str) -> bool:
    """Make the tables of a new ledger; whether it was there before. One in use is not disturbed."""
    async with _alone(url, "opened") as (engine, link), asyncio.timeout(ANSWER_S):
        async with engine.connect() as connection:
            found = await connection.run_sync(migration.state_of)
        if found.age is Age.NEW:
            await (await link.connection()).run_sync(prepare, address(url))
    return found.age is not Age.NEW


async def upgrade(url: str) -> Upgrade:
    """Bring a ledger that no daemon works on to the present version; however long the server takes for it.

    The backup is the operator's. Raises LedgerInUseError, LedgerVersionError and LedgerUnavailableError.
    """
    place = address(url)
    async with _alone(url, f"upgraded to version {HEAD}") as (_, link):
        connection = await link.connection()
        found = await connection.run_sync(migration.state_of)
        if found.age is Age.NEW:
            raise LedgerUnavailableError(f"there is no ledger {place}; `broadcastd ledger init` makes one")
        if found.age is Age.NEWER:
            raise migration.newer_error(place, found)
        if found.age is Age.OLD:
            await link.note_holder()
            await connection.run_sync(migration.upgrade)
            await connection.commit()
    return Upgrade(found.version, HEAD)


@contextlib.asynccontextmanager
async def _alone(url: str, what_for: str) -> AsyncIterator[tuple[AsyncEngine, Link]]:
    """For a command: an engine, and the connection that keeps daemons out once it is opened."""
    engine = _engine(url)
    link = Link(engine, address(url))
    try:
        yield engine, link
    except DATABASE_ERRORS as error:
        text = f"the ledger {address(url)} cannot be {what_for}: {cause(error)}"
        raise LedgerUnavailableError(text) from error
    finally:
        await link.close()
        await engine.dispose()


def _engine(url: str) -> AsyncEngine:
    session = f"SET SESSION sql_mode = '{SQL_MODE}', innodb_lock_wait_timeout = {LOCK_WAIT_S}"
    there, tls = address_of(url)
    engine = create_async_engine(
        there,
        connect_args={"connect_timeout": CONNECT_S, "init_command": session, "binary_prefix": True, **tls},
        isolation_level="REPEATABLE READ",
        pool_size=READERS + 1,
        max_overflow=0,
        pool_pre_ping=True,
        pool_recycle=RECYCLE_S,
        pool_timeout=ANSWER_S,
    )
    hang_up_at_once(engine.sync_engine)
    return engine


def prepare(connection: sa.Connection, place: str) -> None:
    """Make the tables in an empty database; refuse one of another version, or of somebody else.

    An old one is not upgraded at a start: other programs may be at work on it.
    """
    found = migration.state_of(connection)
    if found.age is Age.OLD:
        raise migration.old_error(place, found)
    if found.age is Age.NEWER:
        raise migration.newer_error(place, found)
    if found.age is Age.NEW:
        tables = sa.inspect(connection).get_table_names()
        if tables and meta.name not in tables:
            some = ", ".join(sorted(tables)[:3])
            raise LedgerUnavailableError(
                f"{place} holds other tables ({some}): the ledger needs a database of its own"
            )
        meta.create(connection, checkfirst=True)  # first: by it a ledger is known that was made half
        migration.make(connection)
        connection.commit()


def _warn_of_weakness(connection: sa.Connection) -> None:
    row = connection.exec_driver_sql("SHOW VARIABLES LIKE 'innodb_flush_log_at_trx_commit'").one_or_none()
    if row is not None and row[1] != "1":
        log.warning(
            "ledger_weakly_kept",
            setting=f"innodb_flush_log_at_trx_commit = {row[1]}",
            reason="a crash of the database's machine can lose jobs that were answered ok; set it to 1",
        )
