"""SQLAlchemy's engine for coroutines: what is used here of `sqlalchemy.ext.asyncio`, by the same names.

That package imports SQLAlchemy's ORM, which nobody here uses: 6 MB that each daemon would carry. This does
the same: the ordinary engine over an asynchronous driver, each call of it in a greenlet.
"""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy.util import greenlet_spawn

P = ParamSpec("P")
T = TypeVar("T")

Values = Mapping[str, Any]
if TYPE_CHECKING:
    # SQLAlchemy 2.1's; 2.0 takes one type.
    Result = sa.CursorResult[*tuple[Any, ...]]


class AsyncConnection:
    """A connection from the pool. One coroutine uses it at a time."""

    def __init__(self, sync_connection: sa.Connection) -> None:
        self.sync_connection = sync_connection

    @property
    def info(self) -> dict[Any, Any]:
        """What is kept with the driver's connection for as long as that lives."""
        return self.sync_connection.info

    async def run_sync(
        self, run: Callable[Concatenate[sa.Connection, P], T], *args: P.args, **named: P.kwargs
    ) -> T:
        """Call a plain function with SQLAlchemy's own connection, which it may use."""
        return await greenlet_spawn(functools.partial(run, self.sync_connection, *args, **named))

    async def execute(
        self, statement: sa.Executable, values: Values | Sequence[Values] | None = None
    ) -> "Result":
        """All rows of the answer are there."""
        return await greenlet_spawn(self.sync_connection.execute, statement, values)

    async def exec_driver_sql(self, statement: str) -> "Result":
        """As `execute`, a statement in the driver's own words."""
        return await greenlet_spawn(self.sync_connection.exec_driver_sql, statement)

    async def driver_connection(self) -> Any:
        """The driver's own; it is connected again if need be."""
        pooled = await greenlet_spawn(getattr, self.sync_connection, "connection")
        return pooled.driver_connection

    async def commit(self) -> None:
        """Without a transaction, nothing."""
        await greenlet_spawn(self.sync_connection.commit)

    async def rollback(self) -> None:
        """Of a connection that was invalidated, too: then the next statement connects again."""
        await greenlet_spawn(self.sync_connection.rollback)

    async def invalidate(self) -> None:
        """Close the driver's connection, and have the pool forget it."""
        await greenlet_spawn(self.sync_connection.invalidate)

    async def close(self) -> None:
        """Roll back, and give it back to the pool."""
        await greenlet_spawn(self.sync_connection.close)


class AsyncEngine:
    """A pool of connections. `dispose` closes them."""

    def __init__(self, sync_engine: sa.Engine) -> None:
        assert sync_engine.dialect.is_async, sync_engine.dialect.driver
        self.sync_engine = sync_engine

    @property
    def url(self) -> sa.URL:
        """As `sa.Engine` has it, like the two that follow."""
        return self.sync_engine.url

    @property
    def dialect(self) -> sa.Dialect:
        """See `url`."""
        return self.sync_engine.dialect

    @property
    def pool(self) -> sa.Pool:
        """See `url`."""
        return self.sync_engine.pool

    async def open(self) -> AsyncConnection:
        """A connection that the caller closes."""
        return AsyncConnection(await greenlet_spawn(self.sync_engine.connect))

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        """A connection that is closed at the end, whatever cancels that."""
        connection = await self.open()
        try:
            yield connection
        finally:
            await _to_its_end(connection.close())

    async def dispose(self) -> None:
        """Close all that are not in use."""
        await greenlet_spawn(self.sync_engine.dispose)


def create_async_engine(url: sa.URL, **options: Any) -> AsyncEngine:
    """Build one. `options` are those of `sqlalchemy.create_engine`; the url names an asynchronous driver."""
    return AsyncEngine(sa.create_engine(url, **options))


async def _to_its_end(closing: Coroutine[Any, Any, None]) -> None:
    """Wait for it although we are cancelled: a connection that is half given back is lost to its pool."""
    task = asyncio.create_task(closing, name="connection given back")
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    task.result()
