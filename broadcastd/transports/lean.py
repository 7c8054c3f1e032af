"""Calls over keep-alive connections that it drives itself: callbacks, one future a run of calls.

All that runs for a message: `answer_received`, `_go_on` and `_next` of `_Connection`. Measured FIGURES.

What is rare stays with aiohttp (`_odd`): whatever is no POST, an address with a user in it, and a server that
compresses without being asked.
"""

import asyncio
import contextlib
import functools
import re
import select
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from yarl import URL

from broadcastd.outcomes import Answer
from broadcastd.settings import HttpSettings
from broadcastd.transport_ports import MAX_ANSWER_BYTES, CallSource, Raw
from broadcastd.transports.aiohttp_transport import HEADERS, AiohttpTransport
from broadcastd.transports.endings import NO_ANSWER, NO_CONNECTION, TOO_LONG, UNTRUSTED, by_status

HEAD_MOST_BYTES = 65536
"""Of what is not an answer's body: its head, the sizes of its chunks."""
KEPT_S = 15.0
"""An idle connection is closed after so long, as aiohttp does it."""
ADDRESSES_S = 60.0
"""A host is looked up again after so long."""
SWEEP_S = 0.25
"""How exact the limits of time are, at the worst."""
RECORD_BYTES = 16384
"""The most that one record of TLS holds."""
BRACE = ord("{")
HEADS_KEPT = 256
"""A run's bodies differ by the length of an openid."""

ENCODED = "an answer in an encoding that nobody asked for"
_HAS_LENGTH = re.compile(rb"\n(content-length|transfer-encoding)[ \t]*:", re.IGNORECASE)
_ENCODING = re.compile(rb"\ncontent-encoding[ \t]*:[ \t]*(?!identity[ \t]*\r?\n)", re.IGNORECASE)


class _Heads(dict[int, bytes]):
    """Whole request heads to one URL, by the length of the body."""

    def __init__(self, url: URL) -> None:
        super().__init__()
        lines = {"Host": url.host_port_subcomponent, **HEADERS}
        self._head = f"POST {url.raw_path_qs} HTTP/1.1\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in lines.items()
        )

    def __missing__(self, length: int) -> bytes:
        if len(self) >= HEADS_KEPT:
            self.clear()
        self[length] = head = f"{self._head}Content-Length: {length}\r\n\r\n".encode()
        return head


@dataclass(slots=True)
class _Calls:
    """A run of calls on one connection."""

    source: CallSource
    heads: _Heads
    most_bytes: int
    over: asyncio.Future[bool]
    """True: the source gives no more; False: the connection can go on no more."""

    def end(self, raw: Raw) -> None:
        """The last call on this connection."""
        try:
            self.source.ended(raw)
        except Exception as error:
            self.fail(error)
        else:
            if not self.over.done():
                self.over.set_result(False)

    def fail(self, error: Exception) -> None:
        """Whoever waits gets the source's own trouble."""
        if not self.over.done():
            self.over.set_exception(error)


@dataclass(slots=True)
class _Origin:
    """Scheme, host and port, and what is kept of them."""

    host: str
    port: int
    tls: bool
    odd: bool
    """Its calls are aiohttp's."""
    idle: "dict[_Connection, None]" = field(default_factory=dict)
    """In the order in which they became idle."""
    heads: dict[URL, _Heads] = field(default_factory=dict)
    addresses: list[tuple[int, Any]] = field(default_factory=list)
    """Families and socket addresses."""
    fresh_until_s: float = 0.0
    lookup: asyncio.Task[None] | None = None

    def heads_of(self, url: URL) -> _Heads:
        """Rendered once a URL, which has the access token in it: the last few are kept."""
        heads = self.heads.get(url)
        if heads is None:
            if len(self.heads) >= 8:
                self.heads.clear()
            heads = self.heads[url] = _Heads(url)
        return heads

    def usable(self) -> "_Connection | None":
        """The connection that has been idle for the shortest time, without a word from the server since."""
        while self.idle:
            connection, _ = self.idle.popitem()
            if connection.silent():
                return connection
            connection.give_up(None)
        return None


class _Connection(asyncio.Protocol):
    """One connection, and the call that is under way on it."""

    def __init__(self, pool: "LeanTransport", origin: _Origin, descriptor: int) -> None:
        self.ready: asyncio.Future[None] = pool.loop.create_future()
        self.since_s = 0.0
        """When its last call was written, or when it became idle."""
        self._pool, self._origin, self._descriptor = pool, origin, descriptor
        self._now = pool.loop.time
        self._calls: _Calls | None = None
        self._pieces: list[bytes] = []
        """Of the answer so far. An empty one comes first, when its head is whole."""
        self.on_headers_complete = functools.partial(self._pieces.append, b"")
        self.on_body = self._pieces.append
        self._parser = HttpResponseParser(self)
        self._whole = self._stays = False
        self._raw = bytearray()
        """Of an answer that is not whole at once: all of it."""
        self.write: Callable[[bytes], None]

    # -- a run of calls --------------------------------------------------------------------------------

    def begin(self, calls: _Calls) -> None:
        """Make them. Nothing else is under way."""
        self._calls = calls
        self._pool.busy.add(self)
        self._next(calls)

    def give_up(self, raw: Raw | None) -> None:
        """The call under way has ended with this (None: nobody wants to know), and the connection with it."""
        calls, self._calls = self._calls, None
        self._pool.busy.discard(self)
        self._transport.abort()
        if calls is not None and raw is not None:
            calls.end(raw)

    def _next(self, calls: _Calls) -> None:
        body = calls.source.next_call()
        if body is not None:
            self.since_s = self._now()
            self.write(calls.heads[len(body)] + body)
            return
        self._calls = None
        self.since_s = self._now()
        self._pool.busy.discard(self)
        self._origin.idle[self] = None
        if not calls.over.done():
            calls.over.set_result(True)

    # -- an answer -------------------------------------------------------------------------------------

    def answer_received(self, data: bytes) -> None:
        """Of the call under way: the usual answer at its fullest speed, the others by `_unusual`."""
        calls = self._calls
        if calls is None:
            self._transport.abort()  # nobody has asked
            return
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._stays = False  # what follows a whole answer is nobody's, and no reason to doubt that one
            self._unusual(calls, data, error)
            return
        pieces = self._pieces
        if (
            self._stays
            and not self._raw
            and len(pieces) == 2
            and pieces[1][0] == BRACE
            and len(data) <= calls.most_bytes
            and self._parser.get_status_code() == 200
        ):
            self._go_on(calls, pieces[1])
        else:
            self._unusual(calls, data)

    data_received = answer_received

    def on_message_complete(self) -> None:
        """See httptools. Whether the connection stays open can be asked only here."""
        status = self._parser.get_status_code()
        if status < 200 and status != 101:
            self._pieces.clear()  # the answer is still to come
            return
        self._stays = not self._whole and self._parser.should_keep_alive()
        self._whole = True

    def _go_on(self, calls: _Calls, raw: Raw) -> None:
        self._pieces.clear()
        self._whole = self._stays = False
        try:
            calls.source.ended(raw)
            self._next(calls)
        except Exception as error:
            self.give_up(None)
            calls.fail(error)

    def _unusual(self, calls: _Calls, text: bytes, error: Exception | None = None) -> None:
        self._raw += text
        status = self._parser.get_status_code()
        most_bytes = HEAD_MOST_BYTES + (calls.most_bytes if self._pieces else 0)
        if self._whole:
            self._settle(calls, status)
        elif self._pieces and status != 200:
            self.give_up(by_status(status))  # whatever the rest of it is
        elif error is not None:
            self.give_up(_broken(error))
        elif len(self._raw) > most_bytes:
            self.give_up(Answer(unanswered=TOO_LONG))

    def _settle(self, calls: _Calls, status: int) -> None:
        body = b"".join(self._pieces)
        raw: Raw = body
        if status != 200:
            raw = by_status(status)
        elif len(body) > calls.most_bytes or len(self._raw) - len(body) > HEAD_MOST_BYTES:
            raw, self._stays = Answer(unanswered=TOO_LONG), False
        elif body[:1] != b"{" and _ENCODING.search(self._raw):
            raw, self._stays, self._origin.odd = Answer(unanswered=ENCODED), False, True
        self._raw.clear()
        if self._stays:
            self._go_on(calls, raw)
        else:
            self.give_up(raw)

    # -- the connection itself -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast(asyncio.Transport, transport)
        self._pool.connections_open.add(self)
        self.write = self._transport.write
        self.ready.set_result(None)

    def eof_received(self) -> None:
        """See asyncio: it closes the connection now."""
        if self._calls is not None and self._pieces and not _HAS_LENGTH.search(self._raw):
            self._settle(self._calls, 200)  # an answer as long as the connection

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio."""
        error = error or ConnectionError("the server hung up")
        self._pool.connections_open.discard(self)
        self._pool.look()
        self._origin.idle.pop(self, None)
        if not self.ready.done():
            self.ready.set_exception(error)
            self.ready.exception()  # nobody may be waiting any more
        if self._calls is not None:
            self.give_up(_broken(error))
        del self._parser, self.write  # both hold this object, and garbage is rarely looked for

    def silent(self) -> bool:
        """Whether the server has said nothing while it was idle, not even what is still unread."""
        probe = select.poll()
        probe.register(self._descriptor, select.POLLIN | select.POLLRDHUP)
        return not probe.poll(0)

    def leave(self) -> None:
        """Close it in order. Nothing is under way."""
        self._transport.close()


class _TlsConnection(_Connection):
    """TLS is driven here: twice as fast as by the loop."""

    def __init__(self, pool: "LeanTransport", origin: _Origin, descriptor: int) -> None:
        super().__init__(pool, origin, descriptor)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = origin.host.rstrip(".")
        self._tls = pool.tls.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._secure = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast(asyncio.Transport, transport)
        self._pool.connections_open.add(self)
        self.write = self._encrypt
        self._shake_hands()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        incoming = self._incoming
        incoming.write(data)
        if not self._secure:
            self._shake_hands()
        while incoming.pending and self._secure:  # to be told that there is nothing to read costs 2 us
            try:
                text = self._tls.read(RECORD_BYTES)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLError as error:
                self.give_up(_broken(error))
                return
            if not text:
                super().eof_received()
                self.leave()
                return
            self.answer_received(text)
        if self._outgoing.pending:  # new keys
            self._transport.write(self._outgoing.read())

    def eof_received(self) -> None:
        """See asyncio. Without a goodbye an answer may be cut."""

    def leave(self) -> None:
        """Say goodbye, and close it."""
        with contextlib.suppress(ssl.SSLError):  # the server's own goodbye is not waited for
            self._tls.unwrap()
        self._transport.write(self._outgoing.read())
        super().leave()

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            if not self.ready.done():
                self.ready.set_exception(error)
                self.ready.exception()
            self._transport.write(self._outgoing.read())  # it is told why
            self._transport.close()
            return
        else:
            self._secure = True
            if not self.ready.done():
                self.ready.set_result(None)
        self._transport.write(self._outgoing.read())

    def _encrypt(self, text: bytes) -> None:
        try:
            written = self._tls.write(text)
            while written < len(text):
                written += self._tls.write(text[written:])
        except ssl.SSLError as error:
            self.give_up(_broken(error))
        else:
            self._transport.write(self._outgoing.read())


class LeanTransport:
    """Implements `Transport`. It opens as many connections as there are calls: who calls bounds that."""

    full_rate_per_s = 45_000

    def __init__(self, settings: HttpSettings, connections: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.busy: set[_Connection] = set()
        """A call is under way."""
        self.connections_open: set[_Connection] = set()
        self._settings, self._most = settings, connections
        self._origins: dict[tuple[str, str, int], _Origin] = {}
        self._opening = 0
        self._sweep_s = min(SWEEP_S, settings.answer_timeout_s / 4)
        self._sweeper: asyncio.TimerHandle | None = None
        self._all_closed: asyncio.Future[None] | None = None
        self._aiohttp: AiohttpTransport | None = None

    @property
    def connections(self) -> tuple[int, int]:
        """See `Transport`."""
        others = self._aiohttp.connections[0] if self._aiohttp else 0
        return len(self.busy) + self._opening + others, self._most

    @functools.cached_property
    def tls(self) -> ssl.SSLContext:
        """What is trusted: the system's CAs, or SSL_CERT_FILE."""
        context = ssl.create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        return context

    async def exchange(
        self, method: str, url: URL, body: bytes | None, may_ask: Callable[[], bool], most_bytes: int
    ) -> Raw | None:
        """See `Transport`."""
        if method != "POST" or body is None:
            return await self._others.exchange(method, url, body, may_ask, most_bytes)
        call = _OneCall(body, may_ask)
        await self._make_calls(url, call, most_bytes)
        return call.raw

    async def make_calls(self, url: URL, source: CallSource) -> None:
        """See `Transport`."""
        await self._make_calls(url, source, MAX_ANSWER_BYTES)

    async def _make_calls(self, url: URL, source: CallSource, most_bytes: int) -> None:
        origin = self._origin(url)
        while not origin.odd:
            connection = origin.usable() or await self._open(origin)
            if isinstance(connection, Answer):
                if source.next_call() is None:
                    return
                source.ended(connection)
                continue
            calls = _Calls(source, origin.heads_of(url), most_bytes, self.loop.create_future())
            try:
                connection.begin(calls)
                if await calls.over:
                    return
            except BaseException:
                connection.give_up(None)
                raise
        while (body := source.next_call()) is not None:
            source.ended(await self._others.exchange("POST", url, body, source.still, most_bytes))

    async def close(self) -> None:
        """See `Transport`."""
        self._all_closed = self.loop.create_future()
        for origin in self._origins.values():
            if origin.lookup is not None:
                origin.lookup.cancel()
        for connection in list(self.connections_open):
            if connection in self.busy:
                connection.give_up(_broken(ConnectionAbortedError()))
            else:
                connection.leave()
        self.look()
        await self._all_closed
        if self._aiohttp is not None:
            await self._aiohttp.close()

    def look(self) -> None:
        """A connection has been opened or closed."""
        if not self.connections_open:
            if self._sweeper is not None:
                self._sweeper.cancel()
                self._sweeper = None
            if self._all_closed is not None and not self._all_closed.done():
                self._all_closed.set_result(None)
        elif self._sweeper is None:
            self._sweeper = self.loop.call_later(self._sweep_s, self._sweep)

    def _sweep(self) -> None:
        """End what takes or is idle for too long: no call has a timer of its own."""
        self._sweeper = None
        now_s = self.loop.time()
        for connection in [one for one in self.busy if now_s - one.since_s > self._settings.answer_timeout_s]:
            connection.give_up(Answer(unanswered=NO_ANSWER))
        for origin in self._origins.values():
            for connection in [one for one in origin.idle if now_s - one.since_s > KEPT_S]:
                del origin.idle[connection]
                connection.leave()
        self.look()

    @property
    def _others(self) -> AiohttpTransport:
        if self._aiohttp is None:
            self._aiohttp = AiohttpTransport(self._settings, self._most)
        return self._aiohttp

    def _origin(self, url: URL) -> _Origin:
        host, port = url.raw_host or "", url.port or 0
        key = (url.scheme, host, port)
        origin = self._origins.get(key)
        if origin is None:
            odd = url.user is not None or url.password is not None
            origin = self._origins[key] = _Origin(host, port, url.scheme == "https", odd)
        return origin

    # -- connecting ------------------------------------------------------------------------------------

    async def _open(self, origin: _Origin) -> _Connection | Answer:
        """A new connection, or why there is none."""
        if self._all_closed is not None:
            raise RuntimeError("the transport is closed")
        self._opening += 1
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                return await self._connect(origin)
        except TimeoutError:
            return Answer(refused=NO_CONNECTION)
        except ssl.SSLCertVerificationError:
            return Answer(refused=UNTRUSTED)
        except (OSError, UnicodeError) as error:
            return Answer(refused=f"no connection: {getattr(error, 'strerror', None) or error}")
        finally:
            self._opening -= 1

    async def _connect(self, origin: _Origin) -> _Connection:
        """The first of the host's addresses that takes it; each is given its share of the time."""
        addresses = await self._addresses(origin)
        for left in range(len(addresses), 1, -1):
            try:
                async with asyncio.timeout(self._settings.connect_timeout_s / left):
                    return await self._connect_to(origin, *addresses[-left])
            except OSError:
                continue
        return await self._connect_to(origin, *addresses[-1])

    async def _connect_to(self, origin: _Origin, family: int, address: Any) -> _Connection:
        sock = socket.socket(family, socket.SOCK_STREAM)
        kind = _TlsConnection if origin.tls else _Connection
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            await self.loop.sock_connect(sock, address)
            transport, connection = await self.loop.create_connection(
                lambda: kind(self, origin, sock.fileno()), sock=sock
            )
        except BaseException:
            sock.close()
            raise
        self.look()
        try:
            await connection.ready
        except BaseException:
            transport.abort()
            raise
        if transport.is_closing():
            raise ConnectionResetError("the server hung up at once")
        return connection

    async def _addresses(self, origin: _Origin) -> list[tuple[int, Any]]:
        """Of the host, from another one on each time."""
        if self.loop.time() >= origin.fresh_until_s:
            if origin.lookup is None:
                origin.lookup = self.loop.create_task(self._look_up(origin), name=f"look-up of {origin.host}")
            await asyncio.shield(origin.lookup)
        origin.addresses.append(origin.addresses.pop(0))
        return list(origin.addresses)

    async def _look_up(self, origin: _Origin) -> None:
        try:
            found = await self.loop.getaddrinfo(
                origin.host, origin.port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
            )
            origin.addresses = [(one[0], one[4]) for one in found]
            origin.fresh_until_s = self.loop.time() + ADDRESSES_S
        finally:
            origin.lookup = None


class _OneCall:
    """A `CallSource` of one call."""

    def __init__(self, body: bytes, may_ask: Callable[[], bool]) -> None:
        self.raw: Raw | None = None
        self._body: bytes | None = body
        self.still = may_ask

    def next_call(self) -> bytes | None:
        """See `CallSource`."""
        body, self._body = self._body, None
        return body if body is not None and self.still() else None

    def ended(self, raw: Raw | None) -> None:
        """See `CallSource`."""
        self.raw = raw


def _broken(error: Exception) -> Answer:
    return Answer(unanswered=f"the connection broke: {type(error).__name__}")
