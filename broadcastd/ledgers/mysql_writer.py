"""The one coroutine that writes a MySQL ledger, and commits in groups (`groups`)."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa

from broadcastd import retry
from broadcastd.errors import BroadcastdError, LedgerUnavailableError
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
from broadcastd.ledgers.mysql_link import KEEP_ALIVE_S, Link
from broadcastd.ledgers.schema import meta
from broadcastd.metrics import Commits

T = TypeVar("T")

MOST_AT_ONCE = 50
"""Changes of a group. Each is some journeys to the server, and who waits at a socket has `sql.PATIENCE_S`."""
TROUBLES = (*DATABASE_ERRORS, LedgerUnavailableError)


class MysqlWriter:
    """Owns the link while it works."""

    def __init__(self, link: Link, answer_s: float, commits: Commits) -> None:
        self._link = link
        self._commits = commits
        self._answer_s = answer_s
        self._waiting: deque[Change] = deque()
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._names = CommitNames()
        self.trouble = ""
        """Why the last commit failed; empty when it is on disk."""
        self.task = asyncio.create_task(self._work(), name="ledger-writer")
        """Ends when it is closed, or with what ended it: another daemon has the ledger."""

    async def run(self, change: Callable[[sa.Connection], T], patience_s: float | None = None) -> T:
        """As `Writer.run`."""
        if self.task.done():
            raise LedgerUnavailableError(self.trouble or "the ledger is closed")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(Change(change, future))
        self._wake.set()
        return await confirmed(future, patience_s, lambda: self.trouble)

    async def close(self, within_s: float) -> None:
        """Commit what waits, and end the coroutine."""
        self._closing.set()
        self._wake.set()
        _, unended = await asyncio.wait([self.task], timeout=within_s)
        if unended:
            self.task.cancel()
            await asyncio.wait([self.task])

    async def _work(self) -> None:
        group: list[Change] = []
        try:
            while group := await self._next_group():
                await self._commit(group)
                hand_out(group)
        except BroadcastdError as error:
            self.trouble = str(error)
            raise
        finally:
            left = [*group, *self._waiting]
            fail(left, LedgerUnavailableError(self.trouble or "the ledger is closed"))
            hand_out(left)

    async def _next_group(self) -> list[Change]:
        """What waits, once something does; nothing when it is closed."""
        while not self._waiting and not self._closing.is_set():
            self._wake.clear()
            try:
                async with asyncio.timeout(KEEP_ALIVE_S):
                    await self._wake.wait()
            except TimeoutError:
                await self._keep_alive()
        return [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_AT_ONCE))]

    async def _keep_alive(self) -> None:
        """So that a lost connection, and with it the lock, is had again before it is needed."""
        try:
            async with self._link.patience(self._answer_s):
                await self._link.connection()
        except TROUBLES as error:
            self.trouble = f"the ledger cannot be reached: {self._in_words(error)}"
            await self._link.drop()
        else:
            self.trouble = ""

    async def _commit(self, group: list[Change]) -> None:
        name = self._names.next()
        committing = False
        started_s = time.monotonic()
        try:
            async with self._link.patience(self._answer_s):
                connection = await self._link.connection()
                await connection.run_sync(run_group, group, name)
            committing = True
            async with self._link.patience(self._answer_s):
                await connection.commit()
        except TROUBLES as error:
            self.trouble = f"the ledger cannot be written: {self._in_words(error)}"
            # A statement may still be under way on it, or its answer.
            await self._link.drop()
            if not (committing and await self._was_committed(name)):
                self._commits.failed += 1
                fail(group, LedgerUnavailableError(self.trouble))
                return
        self._commits.seconds.observe(time.monotonic() - started_s)
        self.trouble = ""

    async def _was_committed(self, name: str) -> bool:
        """Whether a commit whose answer was lost is on disk: what the ledger says, once it can be read.

        It is never just repeated: what was counted would be counted twice. By the time that the link has the
        lock again, the former connection has ended, and its transaction with it, either way.
        """
        tries = 0
        while True:
            try:
                async with self._link.patience(self._answer_s):
                    connection = await self._link.connection()
                    last = await connection.run_sync(_last_commit)
                    await connection.rollback()
                    return last == name
            except TROUBLES as error:
                tries += 1
                self.trouble = (
                    "whether the last commit is in the ledger cannot be read yet: " + self._in_words(error)
                )
                await self._link.drop()
                if await self._closed_within(retry.LEDGER.delay_s(tries)):
                    return False  # the next start reads it

    async def _closed_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._closing.wait()
        except TimeoutError:
            return False

    def _in_words(self, error: BaseException) -> str:
        if isinstance(error, TimeoutError):
            return f"no answer within {self._answer_s:g} s"
        return cause(error)


def _last_commit(connection: sa.Connection) -> str | None:
    """Read under a lock: it waits for a transaction that is about to write it."""
    query = sa.select(meta.c.value).where(meta.c.name == COMMIT).with_for_update()
    return connection.execute(query).scalar_one_or_none()
