"""The port of frames: who may come in, how many at once, with TLS or without; each gets a `Connection`."""

import asyncio
import contextlib
import functools
import socket
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import orjson
import structlog

from broadcastd import open_files, tls
from broadcastd.errors import CannotListenError
from broadcastd.networks import Allowed, Notes, neighbourhood
from broadcastd.refusals import ErrorCode, Refusal
from broadcastd.server_settings import ServerSettings
from broadcastd.wire.binding import bound, why_not
from broadcastd.wire.connection import Connection
from broadcastd.wire.desk import Desk
from broadcastd.wire.seats import Seat, Seats
from broadcastd.wire.sockets import Doorway
from broadcastd.wire.tls_stream import TlsStream
from broadcastd.wire.views import refusal_view

log = structlog.get_logger()

LAST_REPLIES_S = 5.0
"""How long frames that were taken in may still be answered when the daemon stops."""
FIRST_FRAME_S = 1.0
"""How long who has just come in may take to say what it wants, when the daemon stops. Above `quiet_ms`."""
BUFFERED_BYTES = 16384
"""How much of what a client sends ahead is taken in before it is looked at; twice that, to be exact."""
SHARE = 0.5
"""Of the files that the process may have open: the rest is for WeChat, the database and the ledger."""


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
        self._sockets = sockets
        self._serving: dict[asyncio.Task[None], Connection | None] = {}
        self._loop = asyncio.get_running_loop()
        self._seats = Seats(1, 0, self._loop.time)
        self._notes = Notes()

    async def __aenter__(self) -> Self:
        self._take_over(self._settings)
        sockets = self._sockets or bound(self._settings)
        self.port: int = sockets[0].getsockname()[1]
        self.hosts: Sequence[str] = [one.getsockname()[0] for one in sockets]
        try:
            self._door = Doorway(sockets, self._accepted, self._out_of_files)
        except OSError as error:
            for one in sockets:
                one.close()
            raise CannotListenError(why_not(error, self._settings)) from error
        log.info("listening", hosts=self.hosts, port=self.port, tls=self._context is not None)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shut()
        await self._end(self._serving)

    def change(self, settings: ServerSettings) -> None:
        """Other limits and tokens, from now on; the certificate's files are read anew. Host and port stay.

        Raises ValueError where these would open it to everybody, and SettingsError for files that cannot be
        used; then nothing is changed.
        """
        for host in self.hosts:
            settings.check_host(host)
        self._take_over(settings)
        self._desk.change(settings)
        for connection in filter(None, self._serving.values()):
            connection.change(settings)

    def _take_over(self, settings: ServerSettings) -> None:
        self._context = tls.FollowingContext.of(settings)
        self._settings = settings
        self._allowed = Allowed(settings.allow)
        most = int(open_files.limit() * SHARE)
        if settings.max_connections > most:
            log.warning(
                "connections_capped", most=most, why="the process may have few files open (ulimit -n)"
            )
        self._seats.most = min(settings.max_connections, most)
        self._seats.most_per_address = settings.max_connections_per_address

    async def shut(self) -> None:
        """Accept nobody more, and answer those who came in before."""
        self._door.close()
        late = [task for task, one in self._serving.items() if one is None or (one.awaits and not one.stays)]
        if late:
            await asyncio.wait(late, timeout=FIRST_FRAME_S)

    async def dismiss(self) -> None:
        """Hang up, once what was taken in is answered. Who is told how far the end is stays."""
        await self._end({task: one for task, one in self._serving.items() if one is None or not one.stays})

    async def _end(self, whom: Mapping[asyncio.Task[None], Connection | None]) -> None:
        tasks = list(whom)
        for task, connection in whom.items():
            if connection is None or not connection.replying:
                task.cancel()
        if tasks:
            _, slow = await asyncio.wait(tasks, timeout=LAST_REPLIES_S)
            for task in slow:
                task.cancel()
            await asyncio.gather(*slow, return_exceptions=True)

    def _accepted(self, sock: socket.socket) -> None:
        try:
            peer = sock.getpeername()
        except OSError:  # gone already
            sock.close()
            return
        address = str(peer[0]) if isinstance(peer, tuple) else ""
        if not self._allowed.admits(address):
            self._note("stranger_refused", neighbourhood(address), why="not in server.allow")
            sock.close()
            return
        address = neighbourhood(address)
        task: asyncio.Task[None]
        seat = self._seats.take(address, lambda: self._hang_up(task))
        if seat is None:
            self._refuse(sock, address)
            return
        task = self._loop.create_task(self._serve(sock, seat), name=f"connection of {address}")
        self._serving[task] = None
        task.add_done_callback(functools.partial(self._served, sock, seat))

    def _served(self, sock: socket.socket, seat: Seat, task: asyncio.Task[None]) -> None:
        # Here, since a task that is hung up before its first step runs none of its own.
        sock.close()
        seat.leave()
        del self._serving[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("connection_failed", exc_info=error)

    async def _serve(self, sock: socket.socket, seat: Seat) -> None:
        task = asyncio.current_task()
        assert task is not None
        with contextlib.suppress(asyncio.CancelledError):
            connection = await self._greet(sock, seat)
            if connection is None:
                return
            self._serving[task] = connection
            with contextlib.suppress(asyncio.CancelledError):
                await connection.serve()
            await connection.close()  # may be told to stop while it hangs up

    async def _greet(self, sock: socket.socket, seat: Seat) -> Connection | None:
        """The connection, once keys are agreed on if the port has TLS; None when that cannot be."""
        reader = asyncio.StreamReader(BUFFERED_BYTES, self._loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=self._loop)
        try:
            transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, sock)
        except OSError:  # gone already
            return None
        transport.set_write_buffer_limits(BUFFERED_BYTES)
        writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
        if self._context is None:
            return Connection(reader, writer, self._desk, self._settings, seat, self._stopping)
        stream = TlsStream(reader, writer, self._context)
        try:
            async with asyncio.timeout(tls.HANDSHAKE_S):
                await stream.shake_hands()
        except OSError as error:
            self._note("tls_failed", seat.address, why=tls.trouble(error))
            if tls.is_none(error):
                writer.write(_line(Refusal(ErrorCode.UNAUTHORIZED, "this port speaks TLS only")))
            writer.close()
            return None
        except BaseException:
            writer.close()
            raise
        return Connection(stream, stream, self._desk, self._settings, seat, self._stopping)

    def _refuse(self, sock: socket.socket, address: str) -> None:
        self._note("connection_refused", address, error="busy", connections=len(self._seats))
        busy = Refusal(ErrorCode.BUSY, "too many connections (server.max_connections)")
        with contextlib.suppress(OSError), sock:
            if self._context is None:
                sock.send(_line(busy))

    def _hang_up(self, task: asyncio.Task[None]) -> None:
        self._note("idle_hung_up", "", connections=len(self._seats), why="another needed its place")
        task.cancel()

    def _out_of_files(self, error: OSError) -> bool:
        self._note("connection_lost", "", error=error.strerror, connections=len(self._seats))
        wanted = 1 + len(self._seats) // 4  # one by one, a newcomer behind many would wait for long
        made = [self._seats.make_room() for _ in range(wanted)]
        return made[0]

    def _note(self, event: str, address: str, **facts: object) -> None:
        """A line a minute, an event and address: what a flood of them does must not fill the log."""
        unsaid = self._notes.note(f"{event} {facts.get('why')} {address}", self._loop.time())
        if unsaid is not None:
            log.warning(event, address=address or None, unsaid=unsaid or None, **facts)


def _line(refusal: Refusal) -> bytes:
    return orjson.dumps(refusal_view(refusal), option=orjson.OPT_APPEND_NEWLINE)
