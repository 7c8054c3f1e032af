"""The listening sockets: count connections, and hand each to a `Connection`."""

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import orjson
import structlog

from broadcastd.errors import CannotListenError
from broadcastd.refusals import ErrorCode, Refusal
from broadcastd.server_settings import ServerSettings
from broadcastd.wire.binding import bound, why_not
from broadcastd.wire.connection import Connection
from broadcastd.wire.desk import Desk
from broadcastd.wire.views import refusal_view

log = structlog.get_logger()

BACKLOG = 4096
"""The kernel's own bound (net.core.somaxconn): with socket activation, a restart's callers wait there."""
LAST_REPLIES_S = 5.0
"""How long frames that were taken in may still be answered when the daemon stops."""
FIRST_FRAME_S = 1.0
"""How long who has just come in may take to say what it wants, when the daemon stops. Above `quiet_ms`."""

LOOP_ROUNDS = 4
"""From a connection that the loop has accepted to its task."""


class Listener:
    """An async context manager: listens while it is entered.

    `sockets`: bound or listening ones from outside, to be used instead of `server.host` and `server.port`.
    Ours are closed at the end; where somebody else has them open too (systemd), who comes then waits there.
    """

    def __init__(
        self,
        settings: ServerSettings,
        desk: Desk,
        stopping: asyncio.Event,
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        self._settings = settings
        self._desk = desk
        self._stopping = stopping
        self._sockets = list(sockets)
        self._serving: dict[asyncio.Task[None], Connection] = {}
        self._servers: list[asyncio.Server] = []

    async def __aenter__(self) -> Self:
        settings = self._settings
        sockets = self._sockets = self._sockets or bound(settings)
        self.port: int = sockets[0].getsockname()[1]
        self.hosts: Sequence[str] = [one.getsockname()[0] for one in sockets]
        limit = 2 * settings.max_frame_bytes
        try:
            for one in sockets:
                self._servers.append(
                    await asyncio.start_server(self._accepted, sock=one, backlog=BACKLOG, limit=limit)
                )
        except OSError as error:
            await self.shut()
            raise CannotListenError(why_not(error, settings)) from error
        log.info("listening", hosts=self.hosts, port=self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shut()
        await self._hang_up(self._serving)

    def change(self, settings: ServerSettings) -> None:
        """Other limits and tokens, from now on. Raises ValueError where these would open it to everybody."""
        for host in self.hosts:
            settings.check_host(host)
        self._settings = settings
        self._desk.change(settings)
        for connection in self._serving.values():
            connection.change(settings)

    async def shut(self) -> None:
        """Accept nobody more, and answer those who came in before."""
        for server in self._servers:
            server.close()
        for _ in range(LOOP_ROUNDS):
            await asyncio.sleep(0)
        late = [task for task, one in self._serving.items() if one.awaits and not one.stays]
        if late:
            await asyncio.wait(late, timeout=FIRST_FRAME_S)

    async def dismiss(self) -> None:
        """Hang up, once what was taken in is answered. Who is told how far the end is stays."""
        await self._hang_up({task: one for task, one in self._serving.items() if not one.stays})

    async def _hang_up(self, whom: dict[asyncio.Task[None], Connection]) -> None:
        tasks = list(whom)
        for task, connection in whom.items():
            if not connection.replying:
                task.cancel()
        if tasks:
            _, slow = await asyncio.wait(tasks, timeout=LAST_REPLIES_S)
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
