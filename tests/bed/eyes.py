"""A look into MariaDB from outside, fast enough for thousands, and from within a running event loop too."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import asyncmy


class Eyes:
    """One connection of root's, in a thread with an event loop of its own; opened when it is first needed."""

    def __init__(self, server_socket: Path) -> None:
        self._socket = server_socket
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: Any = None

    def rows(self, sql: str, database: str) -> list[tuple[Any, ...]]:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="eyes", daemon=True)
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(self._rows(sql, database), self._loop).result(60)

    def close(self) -> None:
        if self._loop is None:
            return
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self._loop = None

    async def _rows(self, sql: str, database: str) -> list[tuple[Any, ...]]:
        if self._connection is None:
            self._connection = await asyncmy.connect(
                unix_socket=str(self._socket), user="root", charset="utf8mb4", autocommit=True
            )
        await self._connection.select_db(database)
        async with self._connection.cursor() as cursor:
            await cursor.execute(sql)
            found = await cursor.fetchall() if cursor.description else ()
        return [tuple(_plain(value) for value in row) for row in found]

    async def _close(self) -> None:
        if self._connection is not None:
            await self._connection.ensure_closed()
            self._connection = None


def _plain(value: Any) -> Any:
    """Texts that are kept as bytes (`ExactText`) as they read in SQLite."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
