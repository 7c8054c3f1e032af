"""A TCP proxy in front of the database that goes wrong as told: it refuses, cuts, hangs, delays, fails over.

It runs in a thread of its own. An *answer* is what the server sends after the client's last bytes.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, cast

from bed.endpoint import turns
from bed.mariadb import PrivateMariaDb


@dataclass
class _Break:
    """What becomes of an answer of more than `after_bytes`, so many times."""

    after_bytes: int
    how: Literal["cut", "hang"]
    times: int


class DatabaseProxy:
    """Listens on a port of its own. What a test sets holds from the next bytes on, for all connections."""

    def __init__(self, target: int) -> None:
        self.target = target
        """The port that new connections are led to: set another one, and the database has failed over."""
        self.port = 0
        self.swallow_requests = False
        """Nothing reaches the server; connections are taken, and stay open."""
        self.swallow_answers = False
        """The server gets what it is asked, and nothing of its answers arrives."""
        self.delay_s = 0.0
        """Answers come so much later."""
        self.accepted = 0
        """Connections so far."""
        self.broken = 0
        """Answers cut or hung so far."""
        self.requests = 0
        """What clients sent so far, in pieces, whether it reached the server or not."""
        self.links: set[_Link] = set()
        self.next_break: _Break | None = None
        self.target_after_break: int | None = None
        """Where new connections are led once an answer was cut or hung."""
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(started,), name="proxy", daemon=True)
        self._thread.start()
        assert started.wait(10)

    def close(self) -> None:
        """Cut every connection and listen no more: who connects is refused."""
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._thread = None

    def break_answers(self, after_bytes: int, how: Literal["cut", "hang"], times: int = 1) -> None:
        """Let through so much of the next answer that is larger, then cut its connection or let it hang."""
        self.next_break = _Break(after_bytes, how, times)

    def cut(self) -> None:
        """Cut all connections now; new ones are taken."""
        done = threading.Event()

        def cut_all() -> None:
            for link in list(self.links):
                link.abort()
            done.set()

        self._loop.call_soon_threadsafe(cut_all)
        assert done.wait(10)

    def hang_open_ones(self) -> None:
        """Nothing comes through the connections that are open now, as when their server's machine is gone;
        new ones work."""
        for link in list(self.links):
            link.hangs = True

    def hang(self, *, on: bool = True) -> None:
        """Nothing comes through in either direction, whatever is connected; `on=False` ends it."""
        self.swallow_requests = self.swallow_answers = on

    def _serve(self, started: threading.Event) -> None:
        self._loop = asyncio.new_event_loop()
        server = self._loop.run_until_complete(
            self._loop.create_server(lambda: _ClientSide(_Link(self)), "127.0.0.1", self.port, backlog=500)
        )
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(turns())  # who was let in just now is a connection only then
        for link in list(self.links):
            link.abort()
        self._loop.run_until_complete(turns())
        self._loop.run_until_complete(server.wait_closed())
        self._loop.close()


class _Link:
    """One connection through the proxy."""

    def __init__(self, proxy: DatabaseProxy) -> None:
        self.proxy = proxy
        self.hangs = False
        self.client: asyncio.Transport | None = None
        self.server: asyncio.Transport | None = None
        self.connecting: asyncio.Task[None] | None = None
        self._answer_bytes = 0
        self._last_due = 0.0

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: _ServerSide(self), "127.0.0.1", self.proxy.target)
        except OSError:
            self.abort()

    def requested(self, data: bytes) -> None:
        self._answer_bytes = 0
        self.proxy.requests += 1
        if self.server is not None and not (self.hangs or self.proxy.swallow_requests):
            self.server.write(data)

    def answered(self, data: bytes) -> None:
        if self.hangs or self.proxy.swallow_answers:
            return
        limit, size = self.proxy.next_break, self._answer_bytes
        self._answer_bytes += len(data)
        if limit is None or self._answer_bytes <= limit.after_bytes:
            self._write_later(data)
            return
        limit.times -= 1
        if not limit.times:
            self.proxy.next_break = None
        if self.proxy.target_after_break is not None:
            self.proxy.target = self.proxy.target_after_break
        self.proxy.broken += 1
        self._write(data[: max(0, limit.after_bytes - size)])
        if limit.how == "hang":
            self.hangs = True
        elif self.client is not None:
            self.client.close()

    def _write_later(self, data: bytes) -> None:
        """In order, whatever the delay is set to meanwhile."""
        loop = asyncio.get_running_loop()
        due = max(loop.time() + self.proxy.delay_s, self._last_due + 1e-6)
        if due <= loop.time():
            self._write(data)
        else:
            self._last_due = due
            loop.call_at(due, self._write, data)

    def _write(self, data: bytes) -> None:
        if self.client is not None and not self.client.is_closing():
            self.client.write(data)

    def abort(self) -> None:
        for transport in (self.client, self.server):
            if transport is not None:
                transport.abort()


class _ClientSide(asyncio.Protocol):
    def __init__(self, link: _Link) -> None:
        self._link = link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._link.client = cast(asyncio.Transport, transport)
        self._link.client.pause_reading()
        self._link.proxy.accepted += 1
        self._link.proxy.links.add(self._link)
        self._link.connecting = asyncio.get_running_loop().create_task(self._link.connect())

    def data_received(self, data: bytes) -> None:
        self._link.requested(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._link.proxy.links.discard(self._link)
        if self._link.server is not None:
            self._link.server.abort()


class _ServerSide(asyncio.Protocol):
    def __init__(self, link: _Link) -> None:
        self._link = link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._link.server = cast(asyncio.Transport, transport)
        client = self._link.client
        if client is None or client.is_closing():
            transport.close()
        else:
            client.resume_reading()

    def data_received(self, data: bytes) -> None:
        self._link.answered(data)

    def connection_lost(self, error: Exception | None) -> None:
        # A connection that hangs stays open at the client's end.
        if self._link.client is not None and not self._link.hangs:
            self._link.client.close()


@contextmanager
def database_proxy(server: PrivateMariaDb) -> Iterator[DatabaseProxy]:
    """A proxy in front of this server."""
    proxy = DatabaseProxy(server.port)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.close()


def through(proxy: DatabaseProxy, server: PrivateMariaDb) -> str:
    """The server's URL, by way of the proxy."""
    return server.url.replace(f":{server.port}/", f":{proxy.port}/")
