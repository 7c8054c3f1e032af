"""The port itself: bounded HTTP, TLS if there is a certificate, and the door before the routes."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

import structlog
from aiohttp import web

from broadcastd import tls
from broadcastd.bounded_http import BACKLOG, BoundedServer, Bounds, body_of
from broadcastd.errors import CannotListenError
from broadcastd.http_settings import HttpPortSettings
from broadcastd.networks import Allowed, Notes
from broadcastd.ops.answers import HEADERS, Answer, bad, refused
from broadcastd.ops.door import Knock, closed_to, names_of
from broadcastd.ops.routes import Asked, Routes
from broadcastd.ops.sources import Requests
from broadcastd.refusals import ErrorCode, Refusal
from broadcastd.wire.connection import WRONG_TOKEN_S
from broadcastd.wire.port_holder import port_holder

log = structlog.get_logger()

ANSWER_S = 30.0
"""From a request's head to its answer. A commit's fate is known within 5 s; a dry run may take longer."""
BODY_S = 10.0
"""How long a body may take."""
LAST_ANSWERS_S = 5.0
LOG_EVERY_S = 60.0
"""Anybody can knock: one line a minute, with how many."""


class Listener:
    """Listens while `listening` is entered."""

    def __init__(self, settings: HttpPortSettings, routes: Routes, requests: Requests) -> None:
        self._settings = settings
        self._routes = routes
        self._requests = requests
        self._names = names_of(settings.host, settings.hosts)
        self._unlogged = 0
        self._log_at_s = 0.0
        self._allowed = Allowed(settings.allow)
        self._notes = Notes()
        self._context: tls.FollowingContext | None = None
        self.port = 0
        """Known once it listens."""

    @contextlib.asynccontextmanager
    async def listening(self, ready_made: Sequence[socket.socket] = ()) -> AsyncIterator[None]:
        """Listen, on sockets that are handed in or on the settings' address.

        Raises CannotListenError, and SettingsError for a certificate that cannot be used.
        """
        settings = self._settings
        bounds = Bounds(settings.max_connections, settings.idle_timeout_s, self._admits)
        self._http = BoundedServer(self._serve, bounds)
        servers = await self._open(ready_made)
        self.port = servers[0].sockets[0].getsockname()[1]
        log.info("http_listening", host=settings.host, port=self.port, tls=bool(settings.tls_cert))
        try:
            yield
        finally:
            for server in servers:
                server.close()
            self._http.pre_shutdown()
            await self._http.shutdown(LAST_ANSWERS_S)

    async def _open(self, ready_made: Sequence[socket.socket]) -> list[asyncio.Server]:
        settings, loop = self._settings, asyncio.get_running_loop()
        context = self._context = tls.FollowingContext.of(settings, "http")
        shake_s = None if context is None else tls.HANDSHAKE_S
        secure: dict[str, Any] = {"ssl": context, "ssl_handshake_timeout": shake_s, "backlog": BACKLOG}
        if ready_made:
            return [await loop.create_server(self._http, sock=one, **secure) for one in ready_made]
        try:
            return [await loop.create_server(self._http, settings.host, settings.port, **secure)]
        except OSError as error:
            raise CannotListenError(_why(error, settings)) from error

    def renew(self) -> None:
        """Read the certificate's files again, for new connections. Raises SettingsError: nothing changes."""
        if self._context is not None:
            self._context.renew()

    def _admits(self, address: str) -> bool:
        admitted = self._allowed.admits(address)
        if not admitted:
            unsaid = self._notes.note(address, asyncio.get_running_loop().time())
            if unsaid is not None:
                log.warning("address_refused", address=address, port="http", unsaid=unsaid)
        return admitted

    async def _serve(self, request: web.BaseRequest) -> web.Response:
        self._http.busy(request.protocol)
        answer = refused(Refusal(ErrorCode.BUSY, "not answered in time; send it again"), 503)
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await self._answer(request)
                if answer.guessed:
                    # Who guesses has to wait, and keeps nobody else from a place meanwhile.
                    self._http.waiting(request.protocol)
                    await asyncio.sleep(WRONG_TOKEN_S)
        except ConnectionError:
            if request.transport is not None:  # else it has left, or another needed its place
                log.exception("request_failed", path=request.path[:100])
        except TimeoutError:
            log.warning("request_not_answered_in_time", path=request.path[:100])
        except Exception:
            log.exception("request_failed", path=request.path[:100])
            answer = refused(Refusal(ErrorCode.INTERNAL, "an internal error, in the log of broadcastd"))
        self._requests.answered(self._routes.route(request.path) or "none", answer.status)
        response = web.Response(
            status=answer.status,
            body=answer.body,
            headers={**HEADERS, **answer.headers, "Content-Type": answer.content_type},
        )
        # One request a connection: a machine asks now and then, and an attacker's second one costs a new one.
        response.force_close()
        self._http.idle(request.protocol)
        return response

    async def _answer(self, request: web.BaseRequest) -> Answer:
        transport = request.transport
        if transport is None:
            return bad(400, "gone")
        address = transport.get_extra_info("sockname")
        knock = Knock(
            request.headers.getall("Host", []),
            request.headers.get("Origin"),
            request.headers.get("Sec-Fetch-Site"),
            "https" if self._settings.tls_cert else "http",
            address[0] if isinstance(address, tuple) else "",
        )
        closed = closed_to(knock, self._names)
        if closed is not None:
            self._note_refused(request, closed.status)
            return closed

        async def body() -> bytes | None:
            self._http.waiting(request.protocol)
            async with asyncio.timeout(BODY_S):
                if request.headers.get("Expect", "").lower() == "100-continue":
                    # An older curl waits a second for this before a body of more than a kilobyte.
                    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                    request.writer.output_size = 0
                whole = await body_of(request, self._settings.max_body_bytes)
            self._http.busy(request.protocol)
            return whole

        if len(set(request.query)) < len(request.query):
            return bad(400, "query string: a name stands there twice")
        return await self._routes.answer(
            Asked(request.method, request.path, request.query, request.headers, _peer(request), body)
        )

    def _note_refused(self, request: web.BaseRequest, status: int) -> None:
        self._unlogged += 1
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._log_at_s:
            path, peer = request.path[:100], _peer(request)
            log.warning("request_refused", peer=peer, status=status, path=path, refused=self._unlogged)
            self._unlogged = 0
            self._log_at_s = now_s + LOG_EVERY_S


def _peer(request: web.BaseRequest) -> str:
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    return f"http {peer[0]}:{peer[1]}" if peer else "http"


def _why(error: OSError, settings: HttpPortSettings) -> str:
    where = f"{settings.host}:{settings.port}"
    if error.errno == errno.EADDRINUSE:
        return (
            f"{where} is in use by {port_holder(settings.port)}; choose another with http.port"
            " (http.enabled = false: no HTTP port at all)"
        )
    if error.errno in (errno.EADDRNOTAVAIL, socket.EAI_NONAME):
        return f"{settings.host} is no address of this machine (http.host)"
    return f"cannot listen on {where} (http.host, http.port): {error.strerror or error}"
