"""The callbacks' own listener: HTTP, one path an account, and nothing else."""

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

import structlog
from aiohttp import web

from broadcastd.callback.endpoint import NOT_TAKEN, Endpoint, Reply, Request
from broadcastd.callback_settings import CallbackSettings
from broadcastd.errors import CannotListenError

log = structlog.get_logger()

PREFIX = "/wechat/"
ANSWER_S = 4.5
"""From a request's head to its answer. WeChat hangs up after 5 s, and pushes again."""
BACKLOG = 1024
LAST_ANSWERS_S = 5.0
READ_BYTES = 65536
LINGER_S = 1.0
"""What is still sent after an answer is read away so long, else its sender might not see the answer."""

_silent = logging.Logger("callback", logging.CRITICAL)
"""aiohttp's own: what strangers send is not worth a line each."""


class Listener:
    """An async context manager: listens while it is entered."""

    def __init__(self, settings: CallbackSettings, endpoints: Iterable[Endpoint]) -> None:
        self._settings = settings
        self._endpoints = {f"{PREFIX}{one.account}": one for one in endpoints}

    async def __aenter__(self) -> Self:
        settings = self._settings
        self._http = _Http(self._serve, settings)
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(self._http, settings.host, settings.port, backlog=BACKLOG)
        except OSError as error:
            where = f"{settings.host}:{settings.port}"
            raise CannotListenError(
                f"cannot listen on {where} (callback.host, callback.port): {error.strerror or error}"
            ) from error
        self.port: int = self._server.sockets[0].getsockname()[1]
        log.info("callback_listening", host=settings.host, port=self.port, paths=sorted(self._endpoints))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self._http.pre_shutdown()
        await self._http.shutdown(LAST_ANSWERS_S)

    async def _serve(self, request: web.BaseRequest) -> web.Response:
        self._http.busy(request.protocol)
        reply = NOT_TAKEN
        try:
            async with asyncio.timeout(ANSWER_S):
                reply = await self._reply(request)
        except TimeoutError:
            log.warning("push_not_answered_in_time", path=request.path)
        except Exception:
            log.exception("push_failed", path=request.path)
        response = web.Response(
            status=reply.status,
            body=reply.body,
            headers={"Content-Type": reply.content_type, "X-Content-Type-Options": "nosniff", "Server": "-"},
        )
        if reply.status != 200:
            response.force_close()
        self._http.idle(request.protocol)
        return response

    async def _reply(self, request: web.BaseRequest) -> Reply:
        endpoint = self._endpoints.get(request.path)
        if endpoint is None:
            return Reply(404)
        raw_query = request.rel_url.raw_query_string
        asked = Request(request.query, raw_query, request.headers)
        match request.method:
            case "GET":
                return endpoint.verify(asked)
            case "POST":
                body = await self._body(request)
                if body is None:
                    return Reply(413)
                return await endpoint.push(Request(request.query, raw_query, request.headers, body))
        return Reply(405)

    async def _body(self, request: web.BaseRequest) -> bytes | None:
        """The whole of it; None when it is longer than any push."""
        most = self._settings.max_push_bytes
        if (request.content_length or 0) > most:
            return None
        body = b""
        while piece := await request.content.read(READ_BYTES):
            body += piece
            if len(body) > most:
                return None
        return body


class _Http(web.Server):
    """aiohttp's server, with bounds on how many may connect, and for how long they may say nothing whole."""

    def __init__(self, serve: Any, settings: CallbackSettings) -> None:
        super().__init__(
            serve,
            access_log=None,
            logger=_silent,
            auto_decompress=False,
            lingering_time=LINGER_S,
            keepalive_timeout=settings.idle_timeout_s,
        )
        self._settings = settings
        self._ends: dict[Any, asyncio.TimerHandle] = {}

    def connection_made(self, handler: Any, transport: asyncio.Transport) -> None:
        """Count it in, or hang up."""
        super().connection_made(handler, transport)
        if len(self._connections) > self._settings.max_connections:
            transport.abort()
        else:
            self.idle(handler)

    def connection_lost(self, handler: Any, exc: BaseException | None = None) -> None:
        """See aiohttp."""
        self.busy(handler)
        super().connection_lost(handler, exc)

    def idle(self, handler: Any) -> None:
        """A request's head must be whole within the time from here on, however slowly it comes."""
        self.busy(handler)
        transport = self._connections.get(handler)
        if transport is not None:
            loop = asyncio.get_running_loop()
            self._ends[handler] = loop.call_later(self._settings.idle_timeout_s, transport.abort)

    def busy(self, handler: Any) -> None:
        """A request is being answered: that has a bound of its own."""
        with contextlib.suppress(KeyError):
            self._ends.pop(handler).cancel()
