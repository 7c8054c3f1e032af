"""The embedded ledger: one SQLite file, one writing thread, one reading thread."""

import asyncio
import errno
import fcntl
import os
import socket
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import sqlalchemy as sa

from broadcastd.clock import Clock, to_ms
from broadcastd.errors import LedgerInUseError, LedgerUnavailableError, LedgerVersionError
from broadcastd.ledgers import job_changes, record_changes, slice_changes
from broadcastd.ledgers.rows import load_jobs
from broadcastd.ledgers.schema import VERSION, jobs, meta, metadata, slices
from broadcastd.ledgers.writer import Writer
from broadcastd.model import Batch, Job, Lease, NewJob, Settled, Split
from broadcastd.ports import Accepted, Opening
from broadcastd.states import JOB_OPEN, JobState

T = TypeVar("T")

BUSY_TIMEOUT_S = 5
"""How long a commit waits for a reader from outside, such as an operator's sqlite3 shell."""


class SqliteLedger:
    """Implements `Ledger` on one file. An async context manager; `opening` tells what it found."""

    opening: Opening

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock

    async def __aenter__(self) -> Self:
        self._lock = _Lock(self._path)
        try:
            await asyncio.to_thread(prepare, self._path)
            self._engine = _engine(self._path)
            self._writer = Writer(self._engine)
            self._reader = ThreadPoolExecutor(1, "ledger-reader")
            self.opening = await self._writer.run(self._open)
        except BaseException:
            self._lock.release()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._writer.close()
        await asyncio.to_thread(self._reader.shutdown)
        self._engine.dispose()
        self._lock.release()

    def _open(self, connection: sa.Connection) -> Opening:
        start = _next_start(connection)
        self._owner = f"{socket.gethostname()}:{start}"
        # The lock says that nobody else works here: whatever is leased was leased by a former start.
        reopened, in_doubt = slice_changes.recover(connection, sa.true(), self._clock.now())
        return Opening(self._owner, reopened, in_doubt)

    async def _read(self, query: Callable[[sa.Connection], T]) -> T:
        def run() -> T:
            try:
                with self._engine.connect().execution_options(reading=True) as connection:
                    return query(connection)
            except sa.exc.SQLAlchemyError as error:
                raise LedgerUnavailableError(f"the ledger cannot be read: {error}") from error

        return await asyncio.get_running_loop().run_in_executor(self._reader, run)

    async def accept(self, job: NewJob, dedupe_window: timedelta) -> Accepted:
        """See `Ledger`."""
        return await self._writer.run(lambda connection: job_changes.accept(connection, job, dedupe_window))

    async def add_slices(
        self, job_no: int, slices: Sequence[Sequence[int]], *, planned: bool, may_be_empty: bool = False
    ) -> None:
        """See `Ledger`."""
        now = self._clock.now()
        await self._writer.run(
            lambda connection: job_changes.add_slices(
                connection, job_no, slices, now, planned=planned, may_be_empty=may_be_empty
            )
        )

    async def hold(self, job_no: int, reason: str) -> bool:
        """See `Ledger`."""
        return await self._writer.run(
            lambda connection: job_changes.move(connection, job_no, JobState.HELD, reason)
        )

    async def resume(self, job_no: int) -> bool:
        """See `Ledger`."""
        return await self._writer.run(lambda connection: job_changes.resume(connection, job_no))

    async def finish(self, job_no: int, now: datetime) -> Job | None:
        """See `Ledger`."""
        return await self._writer.run(lambda connection: job_changes.finish(connection, job_no, now))

    async def open_slices(self, now: datetime) -> Mapping[int, int]:
        """See `Ledger`."""
        return await self._read(lambda connection: slice_changes.open_slices(connection, now))

    async def next_due_at(self) -> datetime | None:
        """See `Ledger`."""
        return await self._read(slice_changes.next_due_at)

    async def lease(self, shares: Mapping[int, int], now: datetime, until: datetime) -> Sequence[Lease]:
        """See `Ledger`."""
        return await self._writer.run(
            lambda connection: slice_changes.lease(connection, shares, now, self._owner, until)
        )

    async def renew(self, now: datetime, until: datetime) -> None:
        """See `Ledger`."""
        await self._writer.run(lambda connection: slice_changes.renew(connection, self._owner, now, until))

    async def record(self, batch: Batch, now: datetime) -> frozenset[int]:
        """See `Ledger`."""
        return await self._writer.run(lambda connection: record_changes.record(connection, batch, now))

    async def split(self, splits: Sequence[Split], now: datetime, until: datetime) -> Sequence[Lease | None]:
        """See `Ledger`."""
        return await self._writer.run(
            lambda connection: [
                slice_changes.split(connection, one, now, self._owner, until) for one in splits
            ]
        )

    async def settle(self, lease: Lease, now: datetime) -> Settled:
        """See `Ledger`."""
        return await self._writer.run(lambda connection: slice_changes.settle(connection, lease, now))

    async def recover(self, working: Collection[int], now: datetime) -> int:
        """See `Ledger`."""
        run_out = sa.and_(slices.c.lease_until <= to_ms(now), slices.c.lease.not_in(working))
        found, _ = await self._writer.run(lambda connection: slice_changes.recover(connection, run_out, now))
        return found

    async def job(self, job_id: str) -> Job | None:
        """See `Ledger`."""
        query = sa.select(jobs).where(jobs.c.id == job_id)
        found = await self._read(lambda connection: load_jobs(connection, query))
        return found[0] if found else None

    async def jobs(self, limit: int, *, only_open: bool = False) -> Sequence[Job]:
        """See `Ledger`."""
        if only_open:
            query = sa.select(jobs).where(jobs.c.state.in_(JOB_OPEN)).order_by(jobs.c.no)
        else:
            query = sa.select(jobs).order_by(jobs.c.no.desc())
        return await self._read(lambda connection: load_jobs(connection, query.limit(limit)))


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
        cause = getattr(error, "orig", None) or error
        raise LedgerUnavailableError(f"the ledger {path} cannot be opened: {cause}") from error
    if version != str(VERSION):
        raise LedgerVersionError(
            f"the ledger {path} has version {version}; this broadcastd works with version {VERSION}"
        )


def _next_start(connection: sa.Connection) -> int:
    query = sa.select(meta.c.value).where(meta.c.name == "starts")
    start = int(connection.execute(query).scalar_one_or_none() or 0) + 1
    connection.execute(sa.delete(meta).where(meta.c.name == "starts"))
    connection.execute(sa.insert(meta).values(name="starts", value=str(start)))
    return start
