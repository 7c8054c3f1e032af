"""Calls over keep-alive connections that it drives itself: by callbacks, with one future a run of calls.

What is rare is aiohttp's: look-ups, to connect, single calls, an address with a user in it, a server that
compresses unasked.
"""

import asyncio
import functools
import select
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp
import structlog
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from yarl import URL

from broadcastd.outcomes import Answer
from broadcastd.settings import HttpSettings
from broadcastd.transport_ports import MAX_ANSWER_BYTES, CallSource, Raw
from broadcastd.transports.aiohttp_transport import AiohttpTransport
from broadcastd.transports.endings import ENCODED, NO_ANSWER, TOO_LONG, broken, by_status, no_connection
from broadcastd.transports.heads import HAS_ENCODING, HAS_LENGTH, HEAD_MOST_BYTES, LENIENT, Heads

RECORD_BYTES = 16384  # the most that a record of TLS holds
KEPT_S = 15.0  # an idle connection, as aiohttp does it
ADDRESSES_S = 60  # a host is looked up again after so long
SWEEP_S = 0.25  # how late an answer's time is over, at the most


class _Outbox(list["tuple[_Connection, CallSource, bytes]"]):
    """Requests of one turn of the loop, written together at its end.

    A write wakes its receiver, which costs more than the write itself when that has just fallen asleep. Those
    of one turn wake it once: 1.5 of a message's 24 us.
    """

    def write_all(self) -> None:
        waiting = self.copy()
        self.clear()
        for connection, source, text in waiting:
            if not connection.transport.is_closing():
                connection.asked = source
                connection.write(text)


@dataclass(slots=True)
class _Origin:
    """Scheme, host and port, and what is kept of them."""

    where: aiohttp.ClientRequest  # as aiohttp's connector is told of a host and port
    tls: ssl.SSLContext | None
    outbox: _Outbox
    connections: "set[_Connection]"  # all of the transport
    idle: "dict[_Connection, None]" = field(default_factory=dict)  # in the order in which they became so
    odd: bool = False  # its calls are aiohttp's
    usual: tuple[bytes, bytes] = b"", b""
    """All that came as the last good answer, and the body in it. A server says the same again and again, byte
    for byte, which comes to the same and need not be read again: 1 of a call's 8 us."""
    session: ssl.SSLSession | None = None
    """What handshakes take up again, at 0.6 of their CPU. Its certificate was checked, and for this host."""

    def usable(self) -> "_Connection | None":
        """Of the idle ones the latest that the server has left alone."""
        while self.idle:
            connection, _ = self.idle.popitem()
            if connection.silent():
                return connection
            connection.give_up(None)
        return None


class _Connection(asyncio.Protocol):
    """One connection, taken over from aiohttp, and the run of calls that is under way on it."""

    def __init__(self, origin: _Origin, transport: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.over: asyncio.Future[bool] = loop.create_future()
        """A run of calls (first of all: the greeting) has had its end; False: the connection has."""
        self.source: CallSource | None = None  # of the calls under way
        self.asked: CallSource | None = None
        """The same, once a request is written: what comes before that is no answer."""
        self._now, self._call_soon = loop.time, loop.call_soon
        self.since_s = loop.time()  # when its last call began, or when it became idle
        self._pieces: list[bytes] = []
        """Of the answer so far: an empty one when it begins, another one when its head is whole, its body."""
        self.on_message_begin = self.on_headers_complete = functools.partial(self._pieces.append, b"")
        self.on_body = self._pieces.append
        self._parser = HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(**LENIENT)
        self._end: tuple[int, int, bool] | None = None
        """Of a whole answer: how many of the pieces are its own, since what follows is no answer; its status;
        whether the connection stays open."""
        self._raw = bytearray()
        """All of the answer so far, and what there was before it."""
        self.origin, self.transport = origin, transport
        self.write: Callable[[bytes], None] = transport.write
        self._descriptor = transport.get_extra_info("socket").fileno()
        transport.set_protocol(self)
        origin.connections.add(self)
        self.greet()

    def greet(self) -> None:
        """Do what there is to do before calls."""
        self._finish(True)

    def _finish(self, how: bool | Exception) -> None:
        if not self.over.done():  # whoever waited may have been cancelled
            self.over.set_exception(how) if isinstance(how, Exception) else self.over.set_result(how)

    async def run(self, source: CallSource, heads: Heads, body: bytes, began_s: float) -> bool:
        """Make its calls, the first with this body. False: this connection has ended."""
        self.over = asyncio.get_running_loop().create_future()
        self.source, self._heads = source, heads
        try:
            self._ask(source, body)
            self.since_s = began_s
            return await self.over
        finally:
            if self.over.cancelled():
                self.give_up(None)

    def rest(self) -> None:
        """Nothing is under way."""
        self.source = self.asked = None
        self.since_s = self._now()
        self.origin.idle[self] = None

    def give_up(self, raw: Raw | None) -> None:
        """The connection ends, and the call under way with this; None: nobody wants to know."""
        source, self.source, self.asked = self.source, None, None
        self.transport.abort()
        if source is not None and raw is not None:
            self._ended(source, raw, False)

    def _ask(self, source: CallSource, body: bytes) -> None:
        self.asked = None
        self.since_s = self._now()
        outbox = self.origin.outbox
        if not outbox:
            self._call_soon(outbox.write_all)
        outbox.append((self, source, self._heads[len(body)] + body))

    def _ended(self, source: CallSource, raw: Raw, stays: bool) -> None:
        """So a call has. The next one begins, if the connection stays."""
        how: bool | Exception = stays and not self.transport.is_closing()
        try:
            source.ended(raw)
            if how and (body := source.next_call()) is not None:
                self._ask(source, body)
                return
        except Exception as error:
            how = error
        self.rest() if how is True else self.give_up(None)
        self._finish(how)

    def data_received(self, data: bytes) -> None:
        """The usual answer is not read again."""
        source, (usual, body) = self.asked, self.origin.usual
        if source is None:
            self.transport.abort()  # nobody has asked
        elif data == usual and not self._raw:
            self._ended(source, body, True)
        else:
            self._read(source, data)

    def _read(self, source: CallSource, data: bytes) -> None:
        error: Exception | None = None
        self._raw += data
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as trouble:
            error = trouble
        if self._end is not None:  # what follows it is nobody's, and no reason to doubt it
            whole, status, stays = self._end
            self._settle(source, whole, status, stays and whole == len(self._pieces) and error is None)
        elif len(self._pieces) > 1 and self._parser.get_status_code() != 200:
            self.give_up(by_status(self._parser.get_status_code()))  # whatever the rest of it is
        elif error is not None:
            self.give_up(broken(error))
        elif len(self._raw) > HEAD_MOST_BYTES + (MAX_ANSWER_BYTES if len(self._pieces) > 1 else 0):
            self.give_up(Answer(unanswered=TOO_LONG))

    def on_message_complete(self) -> None:
        """For the parser. Only here it can say whether the connection stays open."""
        status = self._parser.get_status_code()
        if status < 200 and status != 101:
            self._pieces.clear()  # the answer is still to come
        elif self._end is None:
            self._end = len(self._pieces), status, self._parser.should_keep_alive()

    def _settle(self, source: CallSource, whole: int, status: int, stays: bool) -> None:
        raw: Raw = (body := b"".join(self._pieces[:whole]))
        if status != 200:
            raw = by_status(status)
        elif len(body) > MAX_ANSWER_BYTES or len(self._raw) - len(body) > HEAD_MOST_BYTES:
            raw, stays = Answer(unanswered=TOO_LONG), False
        elif body[:1] != b"{" and HAS_ENCODING.search(self._raw):
            raw, stays, self.origin.odd = Answer(unanswered=ENCODED), False, True
            structlog.get_logger().warning("answers_encoded", host=self.origin.where.url.raw_host)
        elif stays:
            self.origin.usual = bytes(self._raw), body
        self._end = None
        self._pieces.clear()
        self._raw.clear()
        self._ended(source, raw, stays)

    def eof_received(self) -> None:
        if self.asked is not None and len(self._pieces) > 1 and not HAS_LENGTH.search(self._raw):
            self._settle(self.asked, len(self._pieces), 200, False)  # as long as its connection

    def connection_lost(self, error: Exception | None) -> None:
        error = error or ConnectionError("the server hung up")
        self.origin.connections.discard(self)
        self.origin.idle.pop(self, None)
        self.give_up(no_connection(error) if self.asked is None else broken(error))
        self._finish(error)
        del self._parser, self.write  # both hold this object, and garbage is rarely looked for
        self.closed.set_result(None)

    def silent(self) -> bool:
        """Whether the server has not hung up, and said nothing that is not read yet."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN | select.POLLRDHUP)
        return not self.transport.is_closing() and not poll.poll(0)


class _TlsConnection(_Connection):
    """With TLS in the protocol itself: it costs half of what the loop's own does."""

    def greet(self) -> None:
        """Shake hands."""
        origin = self.origin
        assert origin.tls is not None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._offered, name = origin.session, (origin.where.url.raw_host or "").rstrip(".")
        self._tls = origin.tls.wrap_bio(
            self._incoming, self._outgoing, server_hostname=name, session=self._offered
        )
        self._secure = False
        self.write = self._encrypt
        self.data_received(b"")  # the first word is ours

    def _encrypt(self, text: bytes) -> None:
        try:
            self._tls.write(text)
            self.transport.write(self._outgoing.read())
        except ssl.SSLError:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Its records make one text: what is there before the next call is written is no answer to that."""
        self._incoming.write(data)
        texts: list[bytes] = []
        try:
            if not self._secure:
                self._shake_hands()
            while self._incoming.pending:  # to ask and be told that nothing is left costs 2 us
                texts.append(self._tls.read(RECORD_BYTES))
                if not texts[-1]:
                    self.transport.close()  # the server's goodbye
                    break
        except ssl.SSLWantReadError:
            self.transport.write(self._outgoing.read())  # its greeting, or new keys
            self._remember()
        except ssl.SSLError as error:
            if not self._secure:
                self._finish(error)
            self.transport.write(self._outgoing.read())  # tells the server why
            self.transport.close()
        if text := b"".join(texts):
            _Connection.data_received(self, text)
        if texts and not texts[-1]:
            super().eof_received()

    def _shake_hands(self) -> None:
        self._tls.do_handshake()
        self._secure = True
        self.transport.write(self._outgoing.read())
        if not self._tls.session_reused and self._offered is self.origin.session:
            self.origin.session = None  # none yet, or too old
        self._remember()
        self._finish(True)

    def _remember(self) -> None:
        """The server's ticket, when it has given one. To look costs 120 us."""
        if self._secure and self.origin.session is None and (session := self._tls.session):
            self.origin.session = session if session.has_ticket else None

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
        self._aiohttp = AiohttpTransport(settings, connections)
        self.exchange = self._aiohttp.exchange  # single calls are rare
        self._connector = aiohttp.TCPConnector(limit=0, force_close=True, ttl_dns_cache=ADDRESSES_S)
        self._heads = functools.lru_cache(maxsize=64)(Heads)  # rendered once for all runs of a job
        self._outbox, self._opening = _Outbox(), 0
        self._origins: dict[URL, _Origin] = {}
        self._connections: set[_Connection] = set()
        self._connect_s = min(settings.connect_timeout_s, settings.answer_timeout_s)
        self._sweep_s = min(SWEEP_S, settings.answer_timeout_s / 4)
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def connections(self) -> tuple[int, int]:
        """See `Transport`."""
        busy = sum(one.source is not None for one in self._connections)
        return busy + self._opening + self._aiohttp.connections[0], self._most

    async def make_calls(self, url: URL, source: CallSource) -> None:
        """See `Transport`."""
        origin, heads = self._origin(url), self._heads(url)
        while not (origin.odd or url.user):
            if (body := source.next_call()) is None:
                return
            began_s = self._loop.time()
            connection = origin.usable() or await self._open(origin)
            if isinstance(connection, Answer):
                source.ended(connection)
            elif not source.still():
                connection.rest()
                source.ended(None)
            elif await connection.run(source, heads, body, began_s):
                return
        await self._aiohttp.make_calls(url, source)

    async def close(self) -> None:
        """See `Transport`. Calls under way break."""
        await self._connector.close()
        for connection in (connections := list(self._connections)):
            connection.give_up(broken(ConnectionAbortedError()))
        await asyncio.gather(*(one.closed for one in connections))
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self._aiohttp.close()

    def _origin(self, url: URL) -> _Origin:
        key = url.origin()
        if key not in self._origins:
            plain = URL.build(scheme="http", host=url.host or "", port=url.port)
            where = aiohttp.ClientRequest("POST", plain, loop=self._loop)
            tls = ssl.create_default_context() if url.scheme == "https" else None
            self._origins[key] = _Origin(where, tls, self._outbox, self._connections)
        return self._origins[key]

    async def _open(self, origin: _Origin) -> _Connection | Answer:
        """A new connection, or why there is none."""
        self._opening += 1
        try:
            async with asyncio.timeout(self._connect_s):
                return await self._connect(origin)
        except (OSError, UnicodeError) as error:
            return no_connection(error)
        finally:
            self._opening -= 1

    async def _connect(self, origin: _Origin) -> _Connection:
        held = await self._connector.connect(origin.where, [], aiohttp.ClientTimeout())
        transport, handler = held.transport, held.protocol
        if transport is None or handler is None or handler.should_close:  # the server has left, or has spoken
            held.close()
            raise ConnectionResetError("the server hung up at once")
        connection = (_Connection if origin.tls is None else _TlsConnection)(origin, transport)
        handler.connection_lost(None)  # for aiohttp that was it
        held.close()
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._sweep_s, self._sweep)
        try:
            await connection.over
        except BaseException:
            transport.abort()
            raise
        if transport.is_closing():
            raise ConnectionResetError("the server hung up at once")
        return connection

    def _sweep(self) -> None:
        """End what takes or is idle for too long: no call has a timer of its own."""
        now_s = self._loop.time()
        for one in list(self._connections):
            late_s = now_s - one.since_s
            if one.source is not None and late_s > self._settings.answer_timeout_s:
                one.give_up(Answer(unanswered=NO_ANSWER))
            elif one in one.origin.idle and late_s > KEPT_S:
                one.give_up(None)
        self._sweeper = self._loop.call_later(self._sweep_s, self._sweep) if self._connections else None
