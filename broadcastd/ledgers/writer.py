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
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

from broadcastd.errors import BroadcastdError, LedgerUnavailableError

T = TypeVar("T")

MOST_IN_A_GROUP = 500


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
        self._thread = threading.Thread(target=self._work, name="ledger-writer", daemon=True)
        self._thread.start()

    async def run(self, change: Callable[[sa.Connection], T]) -> T:
        """Commit `change` and return its result.

        Raises LedgerUnavailableError when it is not on disk, and the BroadcastdError that `change` raised.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting.put(_Change(change, future))
        return await future

    async def close(self) -> None:
        """Commit what waits, and end the thread."""
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
        try:
            with self._engine.connect() as connection, connection.begin():
                for change in group:
                    _run_one(connection, change)
        except (sa.exc.SQLAlchemyError, sqlite3.Error) as error:
            for change in group:
                change.error = LedgerUnavailableError(f"the ledger cannot be written: {_cause(error)}")


def _run_one(connection: sa.Connection, change: _Change) -> None:
    savepoint = connection.begin_nested()
    try:
        change.result = change.run(connection)
        savepoint.commit()
    except BroadcastdError as error:
        change.error = error
        savepoint.rollback()
    except (sa.exc.SQLAlchemyError, sqlite3.Error):
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
