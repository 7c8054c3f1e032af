"""The listening socket: counts connections, and hands each to a `Connection`."""

import asyncio
import contextlib
import errno
import socket
from types import TracebackType
from typing import Self

import orjson
import structlog

from broadcastd.errors import CannotListenError
from broadcastd.refusals import ErrorCode, Refusal
from broadcastd.server_settings import ServerSettings
from broadcastd.wire.connection import Connection
from broadcastd.wire.desk import Desk
from broadcastd.wire.port_holder import port_holder
from broadcastd.wire.views import refusal_view

log = structlog.get_logger()

BACKLOG = 1024
LAST_REPLIES_S = 5.0
"""How long frames that were taken in may still be answered when the daemon stops."""


class Listener:
    """An async context manager: listens while it is entered."""

    def __init__(self, settings: ServerSettings, desk: Desk, stopping: asyncio.Event) -> None:
        self._settings = settings
        self._desk = desk
        self._stopping = stopping
        self._serving: dict[asyncio.Task[None], Connection] = {}

    async def __aenter__(self) -> Self:
        settings = self._settings
        try:
            self._server = await asyncio.start_server(
                self._accepted,
                settings.host,
                settings.port,
                backlog=BACKLOG,
                limit=2 * settings.max_frame_bytes,
            )
        except OSError as error:
            raise CannotListenError(_why(error, settings)) from error
        self.port: int = self._server.sockets[0].getsockname()[1]
        log.info("listening", host=settings.host, port=self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Accept nobody more, answer what was taken in, and hang up."""
        self._server.close()
        for task, connection in list(self._serving.items()):
            if not connection.replying:
                task.cancel()
        if self._serving:
            _, slow = await asyncio.wait(list(self._serving), timeout=LAST_REPLIES_S)
            for task in slow:
                task.cancel()
            await asyncio.gather(*slow, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer, self._desk, self._settings, self._stopping)
        task = asyncio.current_task()
        assert task is not None
        if len(self._serving) >= self._settings.max_connections:
            busy = Refusal(ErrorCode.BUSY, "too many connections (server.max_connections)")
            log.warning("connection_refused", error="busy", connections=len(self._serving))
            writer.write(orjson.dumps(refusal_view(busy), option=orjson.OPT_APPEND_NEWLINE))
            await connection.close()
            return
        self._serving[task] = connection
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await connection.serve()
            with contextlib.suppress(asyncio.CancelledError):  # told to stop while it hangs up
                await connection.close()
        finally:
            del self._serving[task]


def _why(error: OSError, settings: ServerSettings) -> str:
    where = f"{settings.host}:{settings.port}"
    if error.errno == errno.EADDRINUSE:
        return (
            f"{where} is in use by {port_holder(settings.port)}; choose another with server.port"
            " (9090 is also the default of Prometheus and Cockpit)"
        )
    if error.errno in (errno.EADDRNOTAVAIL, socket.EAI_NONAME):
        return f"{settings.host} is no address of this machine (server.host)"
    return f"cannot listen on {where}: {error.strerror or error}"
