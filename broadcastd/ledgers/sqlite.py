"""The embedded ledger: one SQLite file, one writing thread, one reading thread."""

import asyncio
import contextlib
import errno
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import sqlalchemy as sa
import structlog

from broadcastd.clock import Clock
from broadcastd.errors import LedgerInUseError, LedgerUnavailableError
from broadcastd.ledgers import backup, migration
from broadcastd.ledgers.groups import cause
from broadcastd.ledgers.migration import HEAD, Age, Found, Upgrade
from broadcastd.ledgers.opening_changes import Guard
from broadcastd.ledgers.sql import Change, SqlLedger
from broadcastd.ledgers.writer import Writer

log = structlog.get_logger()

T = TypeVar("T")

BUSY_TIMEOUT_S = 2
"""How long a commit waits for somebody at the file, such as an operator's sqlite3 shell. Twice this is less
than `sql.PATIENCE_S`: who waits behind another commit is told for certain that theirs failed, and why."""

WAL_KEPT_BYTES = 64 * 1024 * 1024
"""The write-ahead file is cut back to this after a large change."""

CACHE_KB = 512
"""Of each connection. What is written at one time lies in few pages; the kernel caches the rest."""


class SqliteLedger(SqlLedger):
    """Implements `Ledger` on one file. An async context manager; `opening` tells what it found."""

    def __init__(self, path: Path, clock: Clock, guard: Guard) -> None:
        super().__init__(clock, guard)
        self._path = path.resolve()
        self._folder = str(self._path.parent)
        self._gone = ""

    async def __aenter__(self) -> Self:
        self._lock = _Lock(self._path)
        try:
            await self._prepare()
            self._inode = self._path.stat().st_ino
            self._engine = _engine(self._path)
            self._reader = ThreadPoolExecutor(1, "ledger-reader")
            self._writer = Writer(self._engine, self.commits)
            try:
                await self._settle_in()
            except BaseException:
                await self._close()
                raise
        except BaseException:
            self._lock.release()
            raise
        return self

    async def _prepare(self) -> None:
        done = await asyncio.to_thread(prepare, self._path, self._clock.now())
        if done is not None:
            versions = {"from": done.before, "to": done.after}
            log.info("ledger_upgraded", path=str(self._path), **versions, backup=str(done.backup))

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
        if self._gone:
            raise LedgerUnavailableError(self._gone)
        return await self._writer.run(change, patience_s)

    async def alive(self, now: datetime) -> None:
        """See `Ledger`. Notices when somebody deletes or replaces the file: what is written is lost then."""
        try:
            there = self._path.stat().st_ino == self._inode
        except OSError:
            there = False
        self._gone = "" if there else f"the ledger {self._path} was deleted or replaced under the daemon"
        await super().alive(now)

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
        return self._gone or self._writer.trouble

    def free_bytes(self) -> int | None:
        """See `Ledger`."""
        try:
            disk = os.statvfs(self._folder)
            return disk.f_bavail * disk.f_frsize
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
        driver.execute(f"PRAGMA cache_size = -{CACHE_KB}")
        driver.execute(f"PRAGMA journal_size_limit = {WAL_KEPT_BYTES}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        reading = connection.get_execution_options().get("reading", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def make(path: Path) -> Found:
    """Make the tables if there are none; what was there before. Raises LedgerUnavailableError."""
    with _opened(path) as engine, engine.begin() as connection:
        found = migration.state_of(connection)
        if found.age is Age.NEW:
            os.chmod(path, 0o600)
            migration.make(connection)
    return found


def prepare(path: Path, now: datetime) -> Upgrade | None:
    """Make a new ledger's tables; upgrade an old one, after a backup. Only for who holds its lock.

    Raises LedgerVersionError for a newer one, and LedgerUnavailableError.
    """
    found = make(path)
    if found.age is Age.NEWER:
        backups = ", ".join(str(one) for one in backup.made_before(path, found.version))
        raise migration.newer_error(str(path), found, backups)
    return _upgrade(path, found, now) if found.age is Age.OLD else None


def _upgrade(path: Path, found: Found, now: datetime) -> Upgrade:
    copy = backup.back_up(path, HEAD, now)
    with _opened(path, f"upgraded to version {HEAD}") as engine, engine.begin() as connection:
        try:
            migration.upgrade(connection)
        except BaseException:
            # The ledger is as it was; a start that is tried again and again must not fill the disk.
            copy.unlink(missing_ok=True)
            raise
    return Upgrade(found.version, HEAD, copy)


def upgrade_file(path: Path, now: datetime) -> Upgrade:
    """As `prepare`, of a ledger that is there and that no daemon works on. Raises LedgerInUseError, too."""
    if not path.exists():
        raise LedgerUnavailableError(f"there is no ledger {path}; `broadcastd ledger init` makes one")
    lock = _Lock(path)
    try:
        return prepare(path, now) or Upgrade(HEAD, HEAD)
    finally:
        lock.release()


@contextlib.contextmanager
def _opened(path: Path, what_for: str = "opened") -> Iterator[sa.Engine]:
    engine = _engine(path)
    try:
        yield engine
    except sa.exc.SQLAlchemyError as error:
        raise LedgerUnavailableError(f"the ledger {path} cannot be {what_for}: {cause(error)}") from error
    finally:
        engine.dispose()
