"""Calls over one aiohttp session with keep-alive."""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import aiohttp
from aiohttp.connector import Connection
from yarl import URL

from broadcastd.outcomes import Answer
from broadcastd.settings import HttpSettings
from broadcastd.transport_ports import MAX_ANSWER_BYTES, CallSource, Raw
from broadcastd.transports.endings import NO_ANSWER, TOO_LONG, broken, by_status, no_connection
from broadcastd.transports.heads import HEADERS


class _NotAskedError(Exception):
    """The connection is there, and the call may not be made any more."""


TROUBLES = (_NotAskedError, UnicodeError, aiohttp.ClientError, OSError, asyncio.IncompleteReadError)

_may_ask: ContextVar[Callable[[], bool]] = ContextVar("may_ask")
"""Of the call that this coroutine makes: a connector is given the request only."""


class _Connector(aiohttp.TCPConnector):
    """Looks once more whether the call may be made, when it has a connection for it."""

    async def connect(self, *arguments: Any, **options: Any) -> Connection:
        """See aiohttp."""
        connection = await super().connect(*arguments, **options)
        if not _may_ask.get()():
            connection.release()
            raise _NotAskedError
        return connection


class AiohttpTransport:
    """Implements `Transport`."""

    full_rate_per_s = 12_000
    """Measured: 10,500 to 13,000."""
    chunk = 8

    def __init__(self, settings: HttpSettings, connections: int) -> None:
        # One timer a call. A limit on each read (sock_read) would be two more, 5 % of a call's CPU time.
        timeout = aiohttp.ClientTimeout(
            total=settings.answer_timeout_s,
            connect=min(settings.connect_timeout_s, settings.answer_timeout_s),
        )
        # One more than sends: a token must not wait until one of them has come back.
        self._connector = _Connector(limit=connections + 1, ttl_dns_cache=60)
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            timeout=timeout,
            headers=HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    @property
    def connections(self) -> tuple[int, int]:
        """See `Transport`."""
        return len(self._connector._acquired), self._connector.limit  # aiohttp tells it in no other way

    async def close(self) -> None:
        """See `Transport`."""
        await self._session.close()

    async def make_calls(self, url: URL, source: CallSource) -> None:
        """See `Transport`."""
        _may_ask.set(source.still)
        while (body := source.next_call()) is not None:
            raw: Raw | None
            # As in `exchange`, which would be one more coroutine to go through at every step of a call.
            try:
                async with self._session.post(url, data=body, allow_redirects=False) as response:
                    raw = await _answer(response, MAX_ANSWER_BYTES)
            except TROUBLES as error:
                raw = _trouble(error)
            source.ended(raw)

    async def exchange(
        self, method: str, url: URL, body: bytes | None, may_ask: Callable[[], bool], most_bytes: int
    ) -> Raw | None:
        """See `Transport`."""
        _may_ask.set(may_ask)
        try:
            async with self._session.request(method, url, data=body, allow_redirects=False) as response:
                return await _answer(response, most_bytes)
        except TROUBLES as error:
            return _trouble(error)


async def _answer(response: aiohttp.ClientResponse, most_bytes: int) -> Raw:
    if response.status != 200:
        return by_status(response.status)
    content = response.content
    raw = await content.read(most_bytes + 1)
    while raw and not content.at_eof() and len(raw) <= most_bytes:
        raw += await content.read(most_bytes + 1 - len(raw))
    return raw if len(raw) <= most_bytes else Answer(unanswered=TOO_LONG)


def _trouble(error: Exception) -> Answer | None:
    """How a call ended that raised this. A UnicodeError: that is no name of a host."""
    if isinstance(error, _NotAskedError):
        return None
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return no_connection(error.certificate_error)
    if isinstance(error, aiohttp.ConnectionTimeoutError | UnicodeError):
        return no_connection(error)
    if isinstance(error, aiohttp.ClientConnectorError):
        return no_connection(error.os_error)
    if isinstance(error, TimeoutError):
        return Answer(unanswered=NO_ANSWER)
    return broken(error)
