"""Calls over aiohttp's connections: a run of POSTs right on one of them, any other call by its session.

aiohttp looks up, connects, encrypts, keeps connections and parses answers. A run is spared the objects for
request and response, the headers and the timers that a session makes for each call: three quarters of its
CPU, 17 us instead of 64, over HTTPS 24 instead of 75.
"""

import asyncio
import select
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, NamedTuple, Self
from weakref import WeakSet

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from broadcastd.outcomes import Answer
from broadcastd.settings import HttpSettings
from broadcastd.transport_ports import MAX_ANSWER_BYTES, CallSource, Raw
from broadcastd.transports.endings import NO_ANSWER, TOO_LONG, broken, by_status, no_connection
from broadcastd.transports.heads import HEADERS, Heads


class _NotAskedError(Exception):
    """The connection is there, and the call may not be made any more."""


TROUBLES = (
    _NotAskedError,
    UnicodeError,
    aiohttp.ClientError,
    HttpProcessingError,
    OSError,
    asyncio.IncompleteReadError,
)

TARGETS_KEPT = 16
"""A URL has a token in it, which changes every two hours."""

_may_ask: ContextVar[Callable[[], bool]] = ContextVar("may_ask")
"""Of the call that this coroutine makes: a connector is given the request only."""


class _Connector(aiohttp.TCPConnector):
    """Gives no kept connection that the server has hung up, or said something on that nobody asked for.

    What is written into the one gets no answer, and a call on the other the wrong one. And it looks once more
    whether the call may be made, when it has a connection for it.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._known: WeakSet[ResponseHandler] = WeakSet()

    async def connect(self, *arguments: Any, **options: Any) -> Connection:
        """See aiohttp."""
        connection = await super().connect(*arguments, **options)
        while not self._is_new(connection) and not _is_left_alone(connection):
            connection.close()
            connection = await super().connect(*arguments, **options)
        if not _may_ask.get()():
            connection.release()
            raise _NotAskedError
        return connection

    def _is_new(self, connection: Connection) -> bool:
        assert connection.protocol is not None
        if connection.protocol in self._known:
            return False
        self._known.add(connection.protocol)
        return True


def _is_left_alone(connection: Connection) -> bool:
    assert connection.protocol is not None
    assert connection.transport is not None
    if connection.protocol.should_close:
        return False
    # The loop may not have heard of it yet.
    poll = select.poll()
    poll.register(connection.transport.get_extra_info("socket"), select.POLLIN | select.POLLRDHUP)
    return not poll.poll(0)


class _Target(NamedTuple):
    """What is made once for all POSTs to one URL."""

    request: aiohttp.ClientRequest
    """For the connector, which asks it where to; it is never sent."""
    heads: Heads


class _Deadline:
    """Breaks a connection whose answer is late: one timer for all calls of a run."""

    def __init__(self, most_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._most_s = most_s
        self._ends_s = 0.0
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.passed = False

    def begin(self) -> None:
        """A call begins: its time is that from here."""
        self._ends_s = self._loop.time() + self._most_s

    def watch(self, transport: asyncio.Transport | None) -> None:
        """The calls have this connection now, or none."""
        self._transport = transport
        self.passed = False
        if self._timer is None and transport is not None:
            self._timer = self._loop.call_at(self._ends_s, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._transport is None:
            return
        if self._loop.time() < self._ends_s:
            self._timer = self._loop.call_at(self._ends_s, self._look)
        else:
            self.passed = True
            self._transport.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()


class AiohttpTransport:
    """Implements `Transport`."""

    full_rate_per_s = 25_000
    """What one core sends, making and recording the messages included."""
    chunk = 8

    def __init__(self, settings: HttpSettings, connections: int) -> None:
        # Of a single call: one timer. A limit on each read (sock_read) would be two more.
        self._timeout = aiohttp.ClientTimeout(
            total=settings.answer_timeout_s,
            connect=min(settings.connect_timeout_s, settings.answer_timeout_s),
        )
        # One more than sends: a token must not wait until one of them has come back.
        self._connector = _Connector(limit=connections + 1, ttl_dns_cache=60)
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            timeout=self._timeout,
            headers=HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._answer_timeout_s = settings.answer_timeout_s
        self._targets: dict[URL, _Target] = {}

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
        target = self._target(url)
        with _Deadline(self._answer_timeout_s) as deadline:
            while (body := source.next_call()) is not None:
                deadline.begin()
                try:
                    line = await self._connector.connect(target.request, [], self._timeout)
                except TimeoutError as error:
                    source.ended(no_connection(error))
                except TROUBLES as error:
                    source.ended(_trouble(error))
                else:
                    await _calls_on(line, target.heads, source, body, deadline)

    async def exchange(
        self, method: str, url: URL, body: bytes | None, may_ask: Callable[[], bool], most_bytes: int
    ) -> Raw | None:
        """See `Transport`."""
        _may_ask.set(may_ask)
        try:
            async with self._session.request(method, url, data=body, allow_redirects=False) as response:
                return await _answer(response.status, response.content, most_bytes)
        except TROUBLES as error:
            return _trouble(error)

    def _target(self, url: URL) -> _Target:
        target = self._targets.get(url)
        if target is None:
            if len(self._targets) == TARGETS_KEPT:
                self._targets.clear()
            loop = asyncio.get_running_loop()
            request = aiohttp.ClientRequest("POST", url, loop=loop, session=self._session)
            self._targets[url] = target = _Target(request, Heads(url))
        return target


async def _calls_on(
    line: Connection, heads: Heads, source: CallSource, body: bytes | None, deadline: _Deadline
) -> None:
    """Calls on this connection, the first with this body, for as long as it stays usable."""
    protocol, transport = line.protocol, line.transport
    assert protocol is not None
    assert transport is not None
    deadline.watch(transport)
    call_soon = asyncio.get_running_loop().call_soon
    protocol.set_response_params(read_until_eof=True)
    is_usable = True
    try:
        while body is not None and is_usable:
            raw: Raw
            try:
                # Those of one turn go out together: each wakes the receiver, unless it is awake already.
                call_soon(_write, transport, heads[len(body)] + body)
                message, content = await protocol.read()
                while message.code < 200 and message.code != 101:
                    message, content = await protocol.read()
                raw = await _answer(message.code, content, MAX_ANSWER_BYTES)
                is_usable = not protocol.should_close and protocol.is_connected()
            except TROUBLES as error:
                raw, is_usable = broken(error), False
            if deadline.passed:
                raw, is_usable = Answer(unanswered=NO_ANSWER), False
            source.ended(raw)
            if is_usable:
                body = source.next_call()
                deadline.begin()
    except BaseException:
        line.close()
        raise
    finally:
        deadline.watch(None)
        line.release()


def _write(transport: asyncio.Transport, text: bytes) -> None:
    if not transport.is_closing():  # cancelled meanwhile
        transport.write(text)


async def _answer(status: int, content: aiohttp.StreamReader, most_bytes: int) -> Raw:
    if status != 200:
        return by_status(status)
    # All of it is there, nearly always.
    raw = content.read_nowait(most_bytes + 1) if content.is_eof() else await content.read(most_bytes + 1)
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
