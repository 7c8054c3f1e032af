"""A port that can refuse connections and listen again, without ever losing its number."""

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable

from aiohttp import web

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
# Enough that a load test which opens all its connections at once meets no full queue.
_BACKLOG = 4096
# Cut connections cancel their handlers at once; 0 would mean to wait for ever (aiohttp's ceil_timeout).
_CUT_S = 1.0


class SandboxError(Exception):
    """The sandbox cannot do what was asked."""


class PortTaken(SandboxError):  # noqa: N818  # reads as what it is
    """The port cannot be had."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(f"cannot listen on {host}:{port}: {reason}")
        self.host = host
        self.port = port


def bind(host: str, port: int) -> socket.socket:
    """A bound TCP socket that does not listen yet; `PortTaken` says why there is none."""
    bound = None
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.setblocking(False)
        return bound
    except OSError as error:
        if bound is not None:
            bound.close()
        in_use = error.errno == errno.EADDRINUSE
        reason = "the port is in use" if in_use else os.strerror(error.errno or 0)
        if isinstance(error, socket.gaierror):
            reason = "no such address"
        raise PortTaken(host, port, reason) from error


def base_url(host: str, port: int) -> str:
    """Where a client on this machine finds the port."""
    if host in ("0.0.0.0", "::"):  # noqa: S104  # compared, not bound
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Listener:
    """The API's port. `reserve` first; then `listen` and `refuse` at will."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._reserved: socket.socket | None = None
        self._listening: asyncio.Server | None = None
        self._busy: set[object] = set()
        self._server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        self._host = ""
        self._port = 0

    def reserve(self, host: str, port: int) -> int:
        """Take the port, and keep it while it refuses: a bound socket that never listens."""
        self._reserved = bind(host, port)
        self._host, self._port = host, self._reserved.getsockname()[1]
        return self._port

    @property
    def is_open(self) -> bool:
        """Whether the port accepts connections."""
        return self._listening is not None

    async def listen(self) -> None:
        """Accept connections."""
        if self._listening is None:
            loop = asyncio.get_running_loop()
            bound = bind(self._host, self._port)
            try:
                self._listening = await loop.create_server(self._server, sock=bound, backlog=_BACKLOG)
            except OSError as error:
                bound.close()
                raise PortTaken(self._host, self._port, "the port is in use") from error

    async def refuse(self) -> None:
        """Refuse connections, close idle ones, and the busy ones after their answer."""
        if self._listening is None:
            return
        self._listening.close()
        self._listening = None
        for connection in self._server.connections:
            if connection in self._busy:
                connection.close()
            else:
                connection.force_close()

    async def close(self) -> None:
        """Stop for good; whoever waits for an answer is cut."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        for connection in self._server.connections:
            connection.force_close()
        await self._server.shutdown(_CUT_S)
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self._busy.add(request.protocol)
        try:
            return await self._handler(request)
        finally:
            self._busy.discard(request.protocol)
