"""The embedded ledger: one SQLite file, one writing thread, one reading thread."""

import asyncio
import errno
import fcntl
import os
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import sqlalchemy as sa

from broadcastd.clock import Clock
from broadcastd.errors import LedgerInUseError, LedgerUnavailableError, LedgerVersionError
from broadcastd.ledgers.groups import cause
from broadcastd.ledgers.opening_changes import Guard
from broadcastd.ledgers.schema import VERSION, meta, metadata
from broadcastd.ledgers.sql import Change, SqlLedger
from broadcastd.ledgers.writer import Writer

T = TypeVar("T")

BUSY_TIMEOUT_S = 5
"""How long a commit waits for a reader from outside, such as an operator's sqlite3 shell."""

WAL_KEPT_BYTES = 64 * 1024 * 1024
"""The write-ahead file is cut back to this after a large change."""


class SqliteLedger(SqlLedger):
    """Implements `Ledger` on one file. An async context manager; `opening` tells what it found."""

    def __init__(self, path: Path, clock: Clock, guard: Guard) -> None:
        super().__init__(clock, guard)
        self._path = path.resolve()

    async def __aenter__(self) -> Self:
        self._lock = _Lock(self._path)
        try:
            await asyncio.to_thread(prepare, self._path)
            self._engine = _engine(self._path)
            self._reader = ThreadPoolExecutor(1, "ledger-reader")
            self._writer = Writer(self._engine)
            try:
                await self._settle_in()
            except BaseException:
                await self._close()
                raise
        except BaseException:
            self._lock.release()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()
        self._lock.release()

    async def _close(self) -> None:
        await self._writer.close()
        await asyncio.to_thread(self._reader.shutdown)
        self._engine.dispose()

    async def _write(self, change: Change[T], patience_s: float | None = None) -> T:
        return await self._writer.run(change, patience_s)

    async def _read(self, query: Change[T]) -> T:
        def run() -> T:
            try:
                with self._engine.connect().execution_options(reading=True) as connection:
                    return query(connection)
            except sa.exc.SQLAlchemyError as error:
                raise LedgerUnavailableError(f"the ledger cannot be read: {cause(error)}") from error

        return await asyncio.get_running_loop().run_in_executor(self._reader, run)

    async def watch(self) -> None:
        """See `SqlLedger`."""
        await asyncio.shield(self._writer.ended)

    @property
    def trouble(self) -> str:
        """See `Ledger`."""
        return self._writer.trouble

    def free_bytes(self) -> int | None:
        """See `Ledger`."""
        try:
            return shutil.disk_usage(self._path.parent).free
        except OSError:
            return None


class _Lock:
    """Held by the one daemon that works on a ledger. The kernel lets go of it when the process dies."""

    def __init__(self, ledger: Path) -> None:
        path = ledger.with_name(ledger.name + ".lock")
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LedgerUnavailableError(f"{path} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._file, 20).decode() or "unknown"
            os.close(self._file)
            if error.errno != errno.EWOULDBLOCK:
                raise
            raise LedgerInUseError(
                f"the ledger {ledger} is in use by another broadcastd, pid {holder}"
            ) from error
        os.ftruncate(self._file, 0)
        os.write(self._file, str(os.getpid()).encode())

    def release(self) -> None:
        """Let the next one in."""
        os.close(self._file)


def _engine(path: Path) -> sa.Engine:
    # Not as a text: SQLAlchemy would unquote a % in the path.
    url = sa.URL.create("sqlite", database=str(path))
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S})

    @sa.event.listens_for(engine, "connect")
    def set_up(driver: sqlite3.Connection, _: Any) -> None:
        driver.isolation_level = None  # transactions are begun below: pysqlite would begin them too late
        driver.execute("PRAGMA journal_mode = WAL")
        driver.execute("PRAGMA synchronous = FULL")  # a commit is on disk when it returns
        driver.execute("PRAGMA cache_size = -16384")
        driver.execute(f"PRAGMA journal_size_limit = {WAL_KEPT_BYTES}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        reading = connection.get_execution_options().get("reading", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def prepare(path: Path) -> None:
    """Make the tables of a new ledger; refuse one of another version."""
    try:
        engine = _engine(path)
        with engine.begin() as connection:
            if not sa.inspect(connection).has_table("meta"):
                os.chmod(path, 0o600)
                metadata.create_all(connection)
                connection.execute(sa.insert(meta).values(name="version", value=str(VERSION)))
            query = sa.select(meta.c.value).where(meta.c.name == "version")
            version = connection.execute(query).scalar_one()
        engine.dispose()
    except sa.exc.SQLAlchemyError as error:
        raise LedgerUnavailableError(f"the ledger {path} cannot be opened: {cause(error)}") from error
    if version != str(VERSION):
        raise LedgerVersionError(
            f"the ledger {path} has version {version}; this broadcastd works with version {VERSION}"
        )
