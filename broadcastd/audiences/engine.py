"""The engine of an account's own database: MySQL over asyncmy, or SQLite, both under SQLAlchemy."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from broadcastd.errors import AudienceUnavailableError
from broadcastd.settings import AudienceSettings

RECYCLE_S = 280
"""Connections are replaced before common firewalls and MySQL hosts drop idle ones (300 s)."""


Blocks = AsyncIterator[Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Database:
    """An account's database, which comes and goes."""

    engine: AsyncEngine
    query_timeout_s: float

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        """One connection from the pool, for one query that must end in time."""
        with self._wrapping():
            async with asyncio.timeout(self.query_timeout_s), self.engine.connect() as connection:
                yield connection

    @contextlib.asynccontextmanager
    async def blocks(self, statement: sa.TextClause, values: Any, size: int) -> AsyncIterator[Blocks]:
        """The rows of a query in blocks, through a server-side cursor. Each block must come in time."""
        with self._wrapping():
            async with contextlib.AsyncExitStack() as stack:
                async with asyncio.timeout(self.query_timeout_s):
                    connection = await stack.enter_async_context(self.engine.connect())
                    result = await connection.stream(statement, values)
                stack.push_async_callback(result.close)
                yield self._timed(result.partitions(size))

    async def _timed(self, partitions: Blocks) -> Blocks:
        while True:
            async with asyncio.timeout(self.query_timeout_s):
                block = await anext(partitions, None)
            if block is None:
                return
            yield block

    @contextlib.contextmanager
    def _wrapping(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise AudienceUnavailableError(f"no answer within {self.query_timeout_s:g} s") from error
        except sa.exc.TimeoutError as error:
            raise AudienceUnavailableError("all connections of the pool are busy") from error
        except (sa.exc.SQLAlchemyError, OSError) as error:
            raise AudienceUnavailableError(_in_words(error)) from error

    async def close(self) -> None:
        """Close the pool."""
        await self.engine.dispose()


def open_database(settings: AudienceSettings) -> Database:
    """Build the pool; nothing is connected before it is needed."""
    url = sa.make_url(settings.url.get_secret_value())
    if url.get_backend_name() == "sqlite":
        # As a URI, which alone can ask for read-only: # and % in a folder's name must be quoted in it.
        read_only = f"file:{quote(Path(url.database or '').as_posix())}"
        there = sa.URL.create("sqlite+aiosqlite", database=read_only, query={"mode": "ro", "uri": "true"})
        engine = create_async_engine(there, pool_size=settings.pool_size, max_overflow=0)
    else:
        engine = create_async_engine(
            url.set(drivername="mysql+asyncmy").update_query_dict({"charset": "utf8mb4"}),
            connect_args={"connect_timeout": settings.connect_timeout_s},
            pool_size=settings.pool_size,
            max_overflow=0,
            pool_pre_ping=True,
            pool_recycle=RECYCLE_S,
            pool_timeout=settings.query_timeout_s,
            isolation_level="AUTOCOMMIT",  # each read sees the present, none holds a snapshot open
        )
    return Database(engine, settings.query_timeout_s)


def own_statement(sql: str, *parameters: str) -> sa.TextClause:
    """The site's own SQL. A colon within its literals is no parameter; only `parameters` are."""
    ours = "|".join(parameters) or "(?!)"
    return sa.text(re.sub(rf"(?<![:\w\\]):(?=\w)(?!(?:{ours})\b)", r"\\:", sql))


def _in_words(error: Exception) -> str:
    """The driver's own message, without the statement and its parameters."""
    cause = getattr(error, "orig", None) or error
    return str(cause).splitlines()[0][:300]
