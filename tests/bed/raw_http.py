"""A server below HTTP, which says what a test has it say, and the sources of calls to it."""

import asyncio
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Self

from yarl import URL

from broadcastd.transport_ports import Raw, Transport

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OK = b'{"errcode":0,"errmsg":"ok"}'


def answer(body: bytes = OK, head: bytes = b"", status: bytes = b"200 OK") -> bytes:
    """A whole answer. `head`: further lines of it."""
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), head, body)


def chunked(*pieces: bytes, head: bytes = b"", extension: bytes = b"", trailer: bytes = b"") -> bytes:
    """A whole answer in chunks."""
    chunks = b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece) for piece in pieces)
    start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%s\r\n" % head
    return b"%s%s0\r\n%s\r\n" % (start, chunks, trailer)


async def request(reader: asyncio.StreamReader) -> bytes:
    """The body of the next one. Raises IncompleteReadError."""
    head = await reader.readuntil(b"\r\n\r\n")
    size = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    return await reader.readexactly(size)


def reset(writer: asyncio.StreamWriter) -> None:
    """Hang up so that the client is told of an error."""
    linger_on_for_0_s = (1).to_bytes(4, "little") + bytes(4)
    writer.get_extra_info("socket").setsockopt(1, 13, linger_on_for_0_s)  # SOL_SOCKET, SO_LINGER
    writer.transport.abort()


class RawServer:
    """`handle` gets the streams of each connection, which is closed when it returns."""

    def __init__(self, handle: Handle, context: ssl.SSLContext | None = None) -> None:
        self._handle, self._context = handle, context
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        scheme = "http" if self._context is None else "https"
        self.port = self._server.sockets[0].getsockname()[1]
        self.base = f"{scheme}://127.0.0.1:{self.port}"
        return self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            with suppress(asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
                await self._handle(reader, writer)
                writer.close()
                await writer.wait_closed()
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def left(self) -> None:
        """Until no connection is there any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await self.left()


async def said(writer: asyncio.StreamWriter, piece: bytes) -> None:
    """Write it, and give a client in this loop the turns that it takes to read it before the next one."""
    writer.write(piece)
    await writer.drain()
    for _ in range(3):
        await asyncio.sleep(0)


def saying(*pieces: bytes, calls: int = 1_000_000) -> Handle:
    """Answers each request with these pieces, each a write of its own, and hangs up after so many calls."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(calls):
            await request(reader)
            for piece in pieces:
                await said(writer, piece)

    return handle


class Bodies:
    """A `CallSource` of these bodies. Notes how each call has ended, and asserts what it is promised."""

    def __init__(self, *bodies: bytes, go: Callable[[], bool] = lambda: True) -> None:
        self.left = list(bodies)
        self.ends: list[tuple[bytes, Raw | None]] = []
        self._go = go
        self._taken: bytes | None = None

    def next_call(self) -> bytes | None:
        assert self._taken is None, "the call before has not ended"
        self._taken = self.left.pop(0) if self.left and self._go() else None
        return self._taken

    def still(self) -> bool:
        return self._go()

    def ended(self, raw: Raw | None) -> None:
        assert self._taken is not None, "it has ended already"
        self.ends.append((self._taken, raw))
        self._taken = None

    @property
    def raws(self) -> list[Raw | None]:
        return [raw for _, raw in self.ends]

    @property
    def asked(self) -> Counter[bytes]:
        return Counter(body for body, _ in self.ends)


async def one_call(transport: Transport, base: str) -> Raw | None:
    """How a run of one call ends."""
    source = Bodies(b"{}")
    await transport.make_calls(URL(base), source)
    ((_, raw),) = source.ends
    return raw
