"""A foreign HTTP endpoint that counts: it knows nothing of broadcastd, and runs in a thread of its own."""

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import orjson

OK = b'{"errcode":0,"errmsg":"ok"}'
QUOTA_GET = "/cgi-bin/openapi/quota/get"
PLENTY = b'{"errcode":0,"errmsg":"ok","quota":{"daily_limit":1000000000,"used":0,"remain":1000000000}}'

Answer = Callable[[str, dict[str, object]], bytes]


class CountingEndpoint:
    """Takes any POST and counts `touser`. `answer` (path, body) may be set by a test."""

    def __init__(self, latency_s: float = 0.0) -> None:
        self.received: Counter[str] = Counter()
        """openid to how many messages reached it."""
        self.bodies: list[dict[str, object]] = []
        self.keep_bodies = False
        self.calls = 0
        """Those that ask for a quota are none of them."""
        self.quota_asked = 0
        self.latency_s = latency_s
        self.answer: Answer = lambda path, body: OK
        self.port = 0
        self._thread: threading.Thread | None = None
        self._listening: socket.socket | None = None
        self.connections: set[asyncio.Transport] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(started,), name="endpoint", daemon=True)
        self._thread.start()
        assert started.wait(10)

    @contextmanager
    def slow_to_accept(self) -> Iterator[None]:
        """Listen, and accept nobody until the end of this: who connects waits, and is not refused."""
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        listening.listen(0)
        try:
            yield
        finally:
            # In place: the same socket's backlog grows, and who waits for a connection gets one.
            listening.listen(2000)
            self._listening = listening
            self.start()

    def close(self) -> None:
        """Cut every connection and listen no more: who calls is refused."""
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._thread = None

    def _serve(self, started: threading.Event) -> None:
        self._loop = asyncio.new_event_loop()
        there, self._listening = self._listening, None
        server = self._loop.run_until_complete(
            self._loop.create_server(lambda: _Http(self), sock=there, backlog=2000)
            if there is not None
            else self._loop.create_server(lambda: _Http(self), "127.0.0.1", self.port, backlog=2000)
        )
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(turns())  # who was let in just now is a connection only then
        for transport in list(self.connections):
            transport.abort()
        self._loop.run_until_complete(server.wait_closed())
        self._loop.run_until_complete(turns())
        self._loop.close()

    def count(self, path: str, raw: bytes) -> bytes:
        body = orjson.loads(raw)
        if QUOTA_GET in path:
            self.quota_asked += 1
            return PLENTY
        self.calls += 1
        if self.keep_bodies:
            self.bodies.append(body)
        answer = self.answer(path, body)
        if answer == OK:
            self.received[str(body["touser"])] += 1
        return answer


async def turns() -> None:
    """As many turns of the loop as an accepted socket takes to be a connection."""
    for _ in range(5):
        await asyncio.sleep(0)


class _Http(asyncio.Protocol):
    """As much HTTP/1.1 as a POST with a Content-Length needs."""

    def __init__(self, endpoint: CountingEndpoint) -> None:
        self._endpoint = endpoint
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._endpoint.connections.add(self._transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._endpoint.connections.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            at = head.lower().find(b"content-length:")
            size = int(head[at + 15 :].split(b"\r\n", 1)[0])
            if len(self._buffer) < end + 4 + size:
                return
            body = self._buffer[end + 4 : end + 4 + size]
            self._buffer = self._buffer[end + 4 + size :]
            answer = self._endpoint.count(head.split(b" ", 2)[1].decode(), body)
            if self._endpoint.latency_s:
                loop = asyncio.get_running_loop()
                loop.call_later(self._endpoint.latency_s, self._reply, answer)
            else:
                self._reply(answer)

    def _reply(self, answer: bytes) -> None:
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json; encoding=utf-8\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(answer), answer)
        )


@contextmanager
def counting_endpoint(latency_s: float = 0.0) -> Iterator[CountingEndpoint]:
    endpoint = CountingEndpoint(latency_s)
    endpoint.start()
    try:
        yield endpoint
    finally:
        endpoint.close()
