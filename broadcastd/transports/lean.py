"""Calls over keep-alive connections that it drives itself: by callbacks, with one future a run of calls.

What is rare is aiohttp's: what is no POST, an address with a user in it, a server that compresses unasked.
"""

import asyncio
import functools
import re
import select
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from yarl import URL

from broadcastd.outcomes import Answer
from broadcastd.settings import HttpSettings
from broadcastd.transport_ports import MAX_ANSWER_BYTES, CallSource, Raw
from broadcastd.transports.aiohttp_transport import AiohttpTransport
from broadcastd.transports.dialing import Host
from broadcastd.transports.endings import ENCODED, NO_ANSWER, TOO_LONG, broken, by_status, no_connection
from broadcastd.transports.heads import Heads
from broadcastd.transports.one_call import OneCall
from broadcastd.transports.outbox import Outbox
from broadcastd.transports.tls_client import TlsClient

HEAD_MOST_BYTES = 65536  # of what is not an answer's body: its head, the sizes of its chunks
KEPT_S = 15.0  # an idle connection, as aiohttp does it
SWEEP_S = 0.25  # how late an answer's time is over, at the most
LENIENT = dict.fromkeys(
    ("lenient_headers", "lenient_optional_cr_before_lf", "lenient_spaces_after_chunk_size"), True
)  # as aiohttp is
BRACE = ord("{")
USUAL_PIECES = 3
HAS_LENGTH = re.compile(rb"\n(content-length|transfer-encoding)[ \t]*:", re.IGNORECASE)
HAS_ENCODING = re.compile(rb"\ncontent-encoding[ \t]*:(?![ \t]*identity[ \t]*\r?\n)", re.IGNORECASE)


@dataclass(slots=True)
class _Calls:
    """A run of calls on one connection."""

    source: CallSource
    heads: Heads
    most_bytes: int
    over: asyncio.Future[bool]
    """True: the source gives no more. False: its connection has ended."""

    def end(self, how: bool | Exception) -> None:
        if not self.over.done():  # whoever waited may have been cancelled
            self.over.set_exception(how) if isinstance(how, Exception) else self.over.set_result(how)


@dataclass(slots=True)
class _Origin:
    """Scheme, host and port, and what is kept of them."""

    host: Host
    tls: ssl.SSLContext | None
    odd: bool
    """Its calls are aiohttp's."""
    outbox: Outbox
    idle: "dict[_Connection, None]" = field(default_factory=dict)
    """In the order in which they became idle."""

    def usable(self) -> "_Connection | None":
        """Of the idle ones the latest that the server has left alone."""
        while self.idle:
            connection, _ = self.idle.popitem()
            if connection.silent():
                return connection
            connection.give_up(None)
        return None


class _Connection(asyncio.Protocol):
    """One connection, and the run of calls that is under way on it."""

    write: Callable[[bytes], None]

    def __init__(self, origin: _Origin, connections: "set[_Connection]", descriptor: int) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[Exception | None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.calls: _Calls | None = None
        self.since_s = loop.time()
        """When its last call began, or when it became idle."""
        self._now, self.origin, self._connections = loop.time, origin, connections
        self._descriptor = descriptor
        self._pieces: list[bytes] = []
        """Of the answer so far: an empty one when it begins, another one when its head is whole, its body."""
        self.on_message_begin = self.on_headers_complete = functools.partial(self._pieces.append, b"")
        self.on_body = self._pieces.append
        self._parser = HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(**LENIENT)
        self._whole = 0
        """How many of the pieces are the answer's; 0: it is not whole. What follows is no answer."""
        self._status, self._stays = 0, False
        """Its status, and whether the connection stays open after it."""
        self._raw = bytearray()
        """Of an answer that is not whole at once: all of it."""

    async def run(self, calls: _Calls, body: bytes, began_s: float) -> bool:
        """Make them, the first with this body. False: this connection has ended."""
        self.calls = calls
        try:
            self._ask(calls, body)
            self.since_s = began_s
            return await calls.over
        finally:
            if self.calls is calls:  # cancelled
                self.give_up(None)

    def rest(self) -> None:
        """Nothing is under way."""
        self.calls = None
        self.since_s = self._now()
        self.origin.idle[self] = None

    def give_up(self, raw: Raw | None) -> None:
        """The connection ends, and the call under way with this; None: nobody wants to know."""
        calls, self.calls = self.calls, None
        self._transport.abort()
        if calls is not None and raw is not None:
            try:
                calls.source.ended(raw)
                calls.end(False)
            except Exception as error:
                calls.end(error)

    def _ask(self, calls: _Calls, body: bytes) -> None:
        self.since_s = self._now()
        self.origin.outbox.put(self, calls, calls.heads[len(body)] + body)

    def answer_received(self, data: bytes) -> None:
        """The usual answer as fast as can be, others by `_unusual`."""
        calls = self.calls
        if calls is None:
            self._transport.abort()  # nobody has asked
            return
        pieces = self._pieces
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._stays = False  # what follows a whole answer is nobody's, and no reason to doubt that one
            self._unusual(calls, data, error)
            return
        if (
            self._whole == USUAL_PIECES == len(pieces)
            and self._stays
            and pieces[2][0] == BRACE
            and not self._raw
            and len(data) <= calls.most_bytes
            and self._status == 200
        ):
            self._go_on(calls, pieces[2])
        else:
            self._unusual(calls, data, None)

    data_received = answer_received

    def on_message_complete(self) -> None:
        """For the parser. Only here it can say whether the connection stays open."""
        status = self._parser.get_status_code()
        if status < 200 and status != 101:
            self._pieces.clear()  # the answer is still to come
        elif not self._whole:
            self._status, self._whole = status, len(self._pieces)
            self._stays = self._parser.should_keep_alive()

    def _go_on(self, calls: _Calls, raw: Raw) -> None:
        self._pieces.clear()
        self._whole = 0
        try:
            calls.source.ended(raw)
            body = calls.source.next_call()
        except Exception as error:
            self.give_up(None)
            calls.end(error)
            return
        if body is not None:
            self._ask(calls, body)
        else:
            self.rest()
            calls.end(True)

    def _unusual(self, calls: _Calls, data: bytes, error: Exception | None) -> None:
        self._raw += data
        if self._whole:
            self._settle(calls)
        elif len(self._pieces) > 1 and self._parser.get_status_code() != 200:
            self.give_up(by_status(self._parser.get_status_code()))  # whatever the rest of it is
        elif error is not None:
            self.give_up(broken(error))
        elif len(self._raw) > HEAD_MOST_BYTES + (calls.most_bytes if len(self._pieces) > 1 else 0):
            self.give_up(Answer(unanswered=TOO_LONG))

    def _settle(self, calls: _Calls) -> None:
        raw: Raw = (body := b"".join(self._pieces[: self._whole]))
        if self._status != 200:
            raw = by_status(self._status)
        elif len(body) > calls.most_bytes or len(self._raw) - len(body) > HEAD_MOST_BYTES:
            raw, self._stays = Answer(unanswered=TOO_LONG), False
        elif body[:1] != b"{" and HAS_ENCODING.search(self._raw):
            raw, self._stays, self.origin.odd = Answer(unanswered=ENCODED), False, True
        self._raw.clear()
        if self._stays and len(self._pieces) == self._whole:
            self._go_on(calls, raw)
        else:
            self.give_up(raw)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)
        self._start()

    def _start(self) -> None:
        self.write = self._transport.write
        self._be_ready()

    def _be_ready(self, trouble: Exception | None = None) -> None:
        if not self.ready.done():  # whoever waited may have been cancelled
            self.ready.set_result(trouble)

    def eof_received(self) -> None:
        if self.calls is not None and len(self._pieces) > 1 and not HAS_LENGTH.search(self._raw):
            # An answer as long as its connection.
            self._status, self._whole, self._stays = 200, len(self._pieces), False
            self._settle(self.calls)

    def connection_lost(self, error: Exception | None) -> None:
        error = error or ConnectionError("the server hung up")
        self._connections.discard(self)
        self.origin.idle.pop(self, None)
        self._be_ready(error)
        self.give_up(broken(error))
        del self._parser, self.write  # both hold this object, and garbage is rarely looked for
        self.closed.set_result(None)

    def silent(self) -> bool:
        """Whether the server has not hung up, and said nothing that is not read yet."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN | select.POLLRDHUP)
        return not self._transport.is_closing() and not poll.poll(0)


class _TlsConnection(_Connection):
    def _start(self) -> None:
        assert self.origin.tls is not None
        self._tls = TlsClient(self.origin.tls, self.origin.host.name, self._transport)
        self.write = self._tls.write
        self._tls.shake_hands()

    def data_received(self, data: bytes) -> None:
        self._tls.take(data)
        if not self._tls.secure and not self._shaken():
            return
        for text in self._tls.texts():
            if text:
                self.answer_received(text)
            else:
                super().eof_received()

    def _shaken(self) -> bool:
        try:
            if self._tls.shake_hands():
                self._be_ready()
        except ssl.SSLError as error:
            self._be_ready(error)
        return self._tls.secure

    def eof_received(self) -> None:
        """Without a goodbye: an answer as long as its connection may be cut."""


class LeanTransport:
    """Implements `Transport`. It opens as many connections as there are calls: the lanes bound those."""

    full_rate_per_s = 45_000
    """Half of what was measured: the other half of the core makes and records the messages."""
    chunk = 16

    def __init__(self, settings: HttpSettings, connections: int) -> None:
        self._settings, self._most = settings, connections
        self._loop = asyncio.get_running_loop()
        self._aiohttp, self._outbox = AiohttpTransport(settings, connections), Outbox()
        self._origins: dict[tuple[str, str, int], _Origin] = {}
        self._connections: set[_Connection] = set()
        self._opening = 0
        self._closed = False
        self._connect_s = min(settings.connect_timeout_s, settings.answer_timeout_s)
        self._sweep_s = min(SWEEP_S, settings.answer_timeout_s / 4)
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def connections(self) -> tuple[int, int]:
        """See `Transport`."""
        busy = sum(one.calls is not None for one in self._connections)
        return busy + self._opening + self._aiohttp.connections[0], self._most

    async def exchange(
        self, method: str, url: URL, body: bytes | None, may_ask: Callable[[], bool], most_bytes: int
    ) -> Raw | None:
        """See `Transport`."""
        if method != "POST" or body is None:
            return await self._aiohttp.exchange(method, url, body, may_ask, most_bytes)
        call = OneCall(body, may_ask)
        await self._make_calls(url, call, most_bytes)
        return call.raw

    async def make_calls(self, url: URL, source: CallSource) -> None:
        """See `Transport`."""
        await self._make_calls(url, source, MAX_ANSWER_BYTES)

    async def _make_calls(self, url: URL, source: CallSource, most_bytes: int) -> None:
        origin, heads = self._origin(url), Heads(url)
        while (body := source.next_call()) is not None:
            if origin.odd:
                source.ended(await self._aiohttp.exchange("POST", url, body, source.still, most_bytes))
                continue
            began_s = self._loop.time()
            connection = origin.usable() or await self._open(origin)
            if isinstance(connection, Answer):
                source.ended(connection)
            elif not source.still():
                connection.rest()
                source.ended(None)
            else:
                calls = _Calls(source, heads, most_bytes, self._loop.create_future())
                if await connection.run(calls, body, began_s):
                    return

    async def close(self) -> None:
        """See `Transport`. Calls under way break."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        connections = list(self._connections)
        for connection in connections:
            connection.give_up(broken(ConnectionAbortedError()))
        await asyncio.gather(*(one.closed for one in connections))
        for origin in self._origins.values():
            await origin.host.close()
        await self._aiohttp.close()

    def _origin(self, url: URL) -> _Origin:
        key = (url.scheme, url.raw_host or "", url.port or 0)
        if key not in self._origins:
            tls = ssl.create_default_context() if url.scheme == "https" else None
            self._origins[key] = _Origin(Host(*key[1:]), tls, url.user is not None, self._outbox)
        return self._origins[key]

    async def _open(self, origin: _Origin) -> _Connection | Answer:
        """A new connection, or why there is none."""
        if self._closed:
            raise RuntimeError("the transport is closed")
        self._opening += 1
        try:
            async with asyncio.timeout(self._connect_s):
                return await self._connect(origin)
        except (OSError, UnicodeError) as error:
            return no_connection(error)
        finally:
            self._opening -= 1

    async def _connect(self, origin: _Origin) -> _Connection:
        kind = _Connection if origin.tls is None else _TlsConnection
        sock = await origin.host.connect()
        try:
            transport, connection = await self._loop.create_connection(
                lambda: kind(origin, self._connections, sock.fileno()), sock=sock
            )
        except BaseException:
            sock.close()
            raise
        if self._sweeper is None:
            self._sweep()
        try:
            if error := await connection.ready:
                raise error
            if transport.is_closing():
                raise ConnectionResetError("the server hung up at once")
        except BaseException:
            transport.abort()
            raise
        return connection

    def _sweep(self) -> None:
        """End what takes or is idle for too long: no call has a timer of its own."""
        now_s = self._loop.time()
        for one in list(self._connections):
            late_s = now_s - one.since_s
            if one.calls is not None and late_s > self._settings.answer_timeout_s:
                one.give_up(Answer(unanswered=NO_ANSWER))
            elif one in one.origin.idle and late_s > KEPT_S:
                one.give_up(None)
        self._sweeper = self._loop.call_later(self._sweep_s, self._sweep) if self._connections else None
