"""The one thread that writes the ledger, and commits in groups.

Every change of the ledger is a function of an open SQLAlchemy connection, handed to `Writer.run`. The thread
takes all that wait, runs them in one transaction (each in a savepoint, so that one's refusal does not undo
the others), commits once, and only then hands out the results. Two settings of pace: what somebody waits for
at a socket is committed at once; what the recorder writes is paced, since commits back to back cost the event
loop its share of the interpreter lock.
"""

import asyncio
import contextlib
import queue
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

from broadcastd.errors import BroadcastdError, LedgerUnavailableError
from broadcastd.ledgers import meta_values

T = TypeVar("T")

MOST_IN_A_GROUP = 500
COMMIT = "commit"
"""Each commit sets this value of `meta` to its own name: so a commit is found whose answer was lost."""
LOOK_AGAIN_S = 1.0
DATABASE_ERRORS = (sa.exc.SQLAlchemyError, sqlite3.Error)


@dataclass(slots=True)
class _Change:
    run: Callable[[sa.Connection], Any]
    future: "asyncio.Future[Any]"
    result: Any = None
    error: BaseException | None = None


class Writer:
    """Owns the writing connection. `run` may be called from the event loop it was made in only."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._waiting: queue.SimpleQueue[_Change | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._mine = secrets.token_hex(8)
        self._commits = 0
        self.trouble = ""
        """Why the last commit failed; empty when it is on disk."""
        self._thread = threading.Thread(target=self._work, name="ledger-writer", daemon=True)
        self._thread.start()

    async def run(self, change: Callable[[sa.Connection], T], patience_s: float | None = None) -> T:
        """Commit `change` and return its result.

        Raises LedgerUnavailableError when it is not on disk, and the BroadcastdError that `change` raised.
        After `patience_s` it raises too: the change may still come to be on disk then.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting.put(_Change(change, future))
        try:
            async with asyncio.timeout(patience_s):
                return await future
        except TimeoutError:
            raise LedgerUnavailableError(
                f"the ledger has not confirmed it within {patience_s:g} s"
                + (f": {self.trouble}" if self.trouble else "")
            ) from None

    async def close(self) -> None:
        """Commit what waits, and end the thread."""
        self._closing.set()
        self._waiting.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        while True:
            group, last = self._next_group()
            if group:
                self._commit(group)
                # The loop is closed already when the process was told to die at once: nobody waits then.
                with contextlib.suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(_hand_out, group)
            if last:
                return

    def _next_group(self) -> tuple[list[_Change], bool]:
        group: list[_Change] = []
        change = self._waiting.get()
        while change is not None:
            group.append(change)
            if len(group) >= MOST_IN_A_GROUP:
                return group, False
            try:
                change = self._waiting.get_nowait()
            except queue.Empty:
                return group, False
        return group, True

    def _commit(self, group: list[_Change]) -> None:
        self._commits += 1
        name = f"{self._mine}:{self._commits}"
        committing = False
        try:
            with self._connection() as connection:
                transaction = connection.begin()
                for change in group:
                    _run_one(connection, change)
                meta_values.put(connection, **{COMMIT: name})
                committing = True
                transaction.commit()
        except DATABASE_ERRORS as error:
            self.trouble = f"the ledger cannot be written: {_cause(error)}"
            if not (committing and self._was_committed(name)):
                for change in group:
                    change.error = LedgerUnavailableError(self.trouble)
                return
        self.trouble = ""

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sa.Connection]:
        """A connection that is dropped on any error: what it says of itself then is not to be relied on.

        Only this one: as long as the reader's is open, the ledger can be read, whatever the disk does.
        """
        with self._engine.connect() as connection:
            try:
                yield connection
            except DATABASE_ERRORS:
                connection.invalidate()
                raise

    def _was_committed(self, name: str) -> bool:
        """Whether a commit that raised is on disk all the same: what the ledger says, once it can be read.

        It is never just repeated: what was counted would be counted twice.
        """
        while True:
            try:
                with self._connection() as connection, connection.begin():
                    if meta_values.get(connection, COMMIT) != name:
                        return False
                self._bring_to_disk()
                return True
            except DATABASE_ERRORS as error:
                self.trouble = f"the ledger cannot be relied on after a commit that failed: {_cause(error)}"
                if self._closing.wait(LOOK_AGAIN_S):
                    return False  # the next start reads it

    def _bring_to_disk(self) -> None:
        """Copy the write-ahead file into the ledger, with an fsync that succeeds.

        What can be read after an fsync that failed may be in the kernel's memory only, and the kernel does
        not write it again (Rebello et al., "Can Applications Recover from fsync Failures?", 2020).
        """
        with self._connection() as connection:
            driver = connection.connection.driver_connection
            assert isinstance(driver, sqlite3.Connection)
            (busy, *_) = driver.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
        if busy:
            raise sqlite3.OperationalError("another process reads it")


def _run_one(connection: sa.Connection, change: _Change) -> None:
    savepoint = connection.begin_nested()
    try:
        change.result = change.run(connection)
        savepoint.commit()
    except BroadcastdError as error:
        change.error = error
        savepoint.rollback()
    except DATABASE_ERRORS:
        raise
    # A bug in one change must not take the others of its group down, nor this thread.
    except Exception as error:
        change.error = error
        savepoint.rollback()


def _cause(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0]


def _hand_out(group: list[_Change]) -> None:
    for change in group:
        if change.future.cancelled():
            continue
        if change.error is not None:
            change.future.set_exception(change.error)
        else:
            change.future.set_result(change.result)
