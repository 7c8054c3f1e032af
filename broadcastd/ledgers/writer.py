"""The one thread that writes the embedded ledger, and commits in groups (`groups`).

Two settings of pace: what somebody waits for at a socket is committed at once; what the recorder writes is
paced, since commits back to back cost the event loop its share of the interpreter lock.
"""

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeVar

import sqlalchemy as sa

from broadcastd.errors import LedgerUnavailableError
from broadcastd.ledgers import meta_values
from broadcastd.ledgers.groups import (
    COMMIT,
    DATABASE_ERRORS,
    Change,
    CommitNames,
    cause,
    confirmed,
    fail,
    hand_out,
    run_group,
)
from broadcastd.metrics import Commits

T = TypeVar("T")

MOST_IN_A_GROUP = 500
MOST_OTHERS = 8
"""Changes of a commit that nobody waits for at a socket: each takes 2 to 20 ms."""
LOOK_AGAIN_S = 1.0


class Writer:
    """Owns the writing connection. `run` may be called from the event loop it was made in only."""

    def __init__(self, engine: sa.Engine, commits: Commits | None = None) -> None:
        self._engine = engine
        self._commits = commits or Commits()
        self._loop = asyncio.get_running_loop()
        self._waiting: queue.SimpleQueue[Change | None] = queue.SimpleQueue()
        """None: nothing more will come."""
        self._urgent: list[Change] = []
        self._others: deque[Change] = deque()
        self._urgent_next = False
        self._all_came = False
        self._closing = threading.Event()
        self._names = CommitNames()
        self.trouble = ""
        """Why the last commit failed; empty when it is on disk."""
        self.ended: asyncio.Future[None] = self._loop.create_future()
        """Done when nothing is written any more: closed, or with what killed the thread."""
        self._thread = threading.Thread(target=self._live, name="ledger-writer", daemon=True)
        self._thread.start()

    async def run(self, change: Callable[[sa.Connection], T], patience_s: float | None = None) -> T:
        """Commit `change` and return its result.

        Raises LedgerUnavailableError when it is not on disk, and the BroadcastdError that `change` raised.
        After `patience_s` it raises too: the change may still come to be on disk then.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting.put(Change(change, future, urgent=patience_s is not None))
        return await confirmed(future, patience_s, lambda: self.trouble)

    async def close(self) -> None:
        """Commit what waits, and end the thread."""
        self._closing.set()
        self._waiting.put(None)
        await asyncio.to_thread(self._thread.join)

    def _live(self) -> None:
        error: BaseException | None = None
        try:
            self._work()
        except BaseException as death:
            error = death
        # The loop is closed already when the process was told to die at once: nobody waits then.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._note_end, error)

    def _note_end(self, error: BaseException | None) -> None:
        if error is not None:
            self.ended.set_exception(error)
        else:
            self.ended.set_result(None)

    def _work(self) -> None:
        while group := self._next_group():
            self._commit(group)
            with contextlib.suppress(RuntimeError):  # as above
                self._loop.call_soon_threadsafe(hand_out, group)

    def _next_group(self) -> list[Change]:
        """What is to be committed next; nothing when all is, and it is closed.

        Those that somebody waits for at a socket take turns with the others, of which there are a few at a
        time: while a job sends at full speed, that takes a third off the time to a reply.
        """
        self._sort_in()
        self._urgent_next = not self._urgent_next if self._urgent and self._others else bool(self._urgent)
        if self._urgent_next:
            group, self._urgent = self._urgent, []
            return group
        return [self._others.popleft() for _ in range(min(len(self._others), MOST_OTHERS))]

    def _sort_in(self) -> None:
        """Take all that waits; wait for something when there is nothing to do."""
        while not self._all_came and len(self._urgent) < MOST_IN_A_GROUP:
            try:
                change = self._waiting.get(block=not (self._urgent or self._others))
            except queue.Empty:
                return
            if change is None:
                self._all_came = True
            elif change.urgent:
                self._urgent.append(change)
            else:
                self._others.append(change)

    def _commit(self, group: list[Change]) -> None:
        name = self._names.next()
        committing = False
        started_s = time.monotonic()
        try:
            with self._connection() as connection:
                run_group(connection, group, name)
                committing = True
                connection.commit()
        except DATABASE_ERRORS as error:
            self.trouble = f"the ledger cannot be written: {cause(error)}"
            if not (committing and self._was_committed(name)):
                self._commits.failed += 1
                fail(group, LedgerUnavailableError(self.trouble))
                return
        self._commits.seconds.observe(time.monotonic() - started_s)
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
                self.trouble = f"the ledger cannot be relied on after a commit that failed: {cause(error)}"
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
