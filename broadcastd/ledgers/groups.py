"""Group commit: many changes, one transaction. What every database's writer does alike.

Every change of the ledger is a function of an open SQLAlchemy connection. A writer takes all that wait, runs
them in one transaction (those that are alike, as frames' jobs are, with the same statements; one's refusal
does not undo the others), commits once, and only then hands out the results.
"""

import asyncio
import secrets
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import sqlalchemy as sa

from broadcastd.database_tls import trouble as tls_trouble
from broadcastd.errors import BroadcastdError, LedgerSilentError, LedgerUnavailableError
from broadcastd.ledgers import meta_values

T = TypeVar("T")
ItemT = TypeVar("ItemT")

COMMIT = "commit"
"""Each commit sets this value of `meta` to its own name: so a commit is found whose answer was lost."""
DATABASE_ERRORS = (sa.exc.SQLAlchemyError, sqlite3.Error, OSError)
"""What a database or the way to it may do at any statement; a TimeoutError is an OSError."""


@dataclass(frozen=True, slots=True)
class Alike(Generic[ItemT, T]):
    """A change that is made together with all of its group that have the same `make`."""

    make: Callable[[sa.Connection, Sequence[ItemT]], Sequence[T | BroadcastdError]]
    """Makes several; of each the result, or why it is refused. What else it raises undoes them all."""
    item: ItemT

    def __call__(self, connection: sa.Connection) -> T:
        """Make it alone."""
        (result,) = self.make(connection, [self.item])
        if isinstance(result, BroadcastdError):
            raise result
        return result


@dataclass(slots=True)
class Change:
    """One change that waits for its commit, and who waits for its result."""

    run: Callable[[sa.Connection], Any]
    future: "asyncio.Future[Any]"
    urgent: bool = False
    """Somebody waits for it at a socket."""
    result: Any = None
    error: BaseException | None = None


class CommitNames:
    """A name for each commit of one writer: no other writer ever gives the same."""

    def __init__(self) -> None:
        self._mine = secrets.token_hex(8)
        self._commits = 0

    def next(self) -> str:
        """The next commit's."""
        self._commits += 1
        return f"{self._mine}:{self._commits}"


def run_group(connection: sa.Connection, group: Sequence[Change], name: str) -> None:
    """Run all changes in one transaction, and note its name. What is left is to commit.

    Raises one of DATABASE_ERRORS: then nothing of the group may be committed.
    """
    _begin(connection)
    try:
        _run_all(connection, group)
    except DATABASE_ERRORS:
        raise
    # One is refused, or has a bug. That is rare, and two statements for each change are dear: so it is only
    # now that each is run in a savepoint of its own, from the beginning.
    except Exception:
        connection.rollback()
        _begin(connection)
        for change in group:
            _run_apart(connection, change)
    meta_values.put(connection, **{COMMIT: name})


def _begin(connection: sa.Connection) -> None:
    # SQLAlchemy would begin with the first statement that it sees: it does not see those on the driver's own
    # connection, and each of them would be a transaction.
    if not connection.in_transaction():
        connection.begin()


def _run_all(connection: sa.Connection, group: Sequence[Change]) -> None:
    alike: defaultdict[Any, list[Change]] = defaultdict(list)
    for change in group:
        if isinstance(change.run, Alike):
            alike[change.run.make].append(change)
        else:
            change.result = change.run(connection)
    for make, changes in alike.items():
        results = make(connection, [cast("Alike[Any, Any]", change.run).item for change in changes])
        for change, result in zip(changes, results, strict=True):
            if isinstance(result, BroadcastdError):
                change.error = result
            else:
                change.result = result


def _run_apart(connection: sa.Connection, change: Change) -> None:
    savepoint = connection.begin_nested()
    change.result = change.error = None
    try:
        change.result = change.run(connection)
        savepoint.commit()
    except DATABASE_ERRORS:
        raise
    # A bug in one change must not take the others of its group down, nor the writer.
    except Exception as error:
        change.error = error
        savepoint.rollback()


def fail(group: Sequence[Change], error: BroadcastdError) -> None:
    """Nothing of the group is on disk."""
    for change in group:
        change.error = error


def hand_out(group: Sequence[Change]) -> None:
    """Tell who waits what became of it. In the event loop."""
    for change in group:
        if change.future.done():
            continue  # cancelled, or out of patience
        if change.error is not None:
            change.future.set_exception(change.error)
        else:
            change.future.set_result(change.result)


async def confirmed(future: "asyncio.Future[T]", patience_s: float | None, trouble: Callable[[], str]) -> T:
    """The result of a change once it is on disk.

    Raises LedgerUnavailableError after `patience_s`: the change may still come to be on disk then. It is a
    LedgerSilentError when nothing is known to be wrong.
    """
    try:
        async with asyncio.timeout(patience_s):
            return await future
    except TimeoutError:
        words, why = f"the ledger has not confirmed it within {patience_s:g} s", trouble()
        if not why:
            raise LedgerSilentError(words) from None
        raise LedgerUnavailableError(f"{words}: {why}") from None


def cause(error: BaseException) -> str:
    """What the database says, without the statement and its values."""
    said = getattr(error, "orig", None) or error
    if of_tls := tls_trouble(said):
        return of_tls
    match said.args:
        case (int(number), str(words)) if not isinstance(said, OSError):
            return f"{words.splitlines()[0]} ({number})"
    words = str(said).strip() or type(said).__name__
    return words.splitlines()[0]
