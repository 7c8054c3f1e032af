"""The callbacks' own listener: HTTP, one path an account, and nothing else."""

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Self

import structlog
from aiohttp import web

from broadcastd.bounded_http import BACKLOG, BoundedServer, Bounds, body_of
from broadcastd.callback.endpoint import NOT_TAKEN, Endpoint, Reply, Request
from broadcastd.callback_settings import PREFIX, CallbackSettings
from broadcastd.errors import CannotListenError

log = structlog.get_logger()

ANSWER_S = 4.5
"""From a request's head to its answer. WeChat hangs up after 5 s, and pushes again."""
LAST_ANSWERS_S = 5.0


class Listener:
    """An async context manager: listens while it is entered."""

    def __init__(self, settings: CallbackSettings, endpoints: Iterable[Endpoint]) -> None:
        self._settings = settings
        self._endpoints = {f"{PREFIX}{one.account}": one for one in endpoints}

    async def __aenter__(self) -> Self:
        settings = self._settings
        self._http = BoundedServer(self._serve, Bounds(settings.max_connections, settings.idle_timeout_s))
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
                body = await body_of(request, self._settings.max_push_bytes)
                if body is None:
                    return Reply(413)
                return await endpoint.push(Request(request.query, raw_query, request.headers, body))
        return Reply(405)
