"""TLS over a plain connection, on the server's side.

The loop's own TLS keeps 256 KiB a connection, and hangs up on a client without telling it why: there a wrong
certificate looks like a network that is down. This one sends the alert, and holds what is under way only.
"""

import asyncio
import contextlib
import ssl

RECORD_BYTES = 16384
"""The most that one record of TLS holds."""


class TlsStream:
    """Reads like a `StreamReader` and writes like a `StreamWriter`, once `shake_hands` has returned."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._session = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def shake_hands(self) -> None:
        """Agree on keys. Raises ssl.SSLError, after the client was told why, and OSError when it has left."""
        while True:
            try:
                self._session.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                if not await self._receive():
                    raise ConnectionAbortedError from None
            except ssl.SSLError:
                self._flush()
                with contextlib.suppress(OSError):
                    await self._writer.drain()
                raise
            else:
                self._flush()
                return

    async def read(self, most: int) -> bytes:
        """What the client has sent, up to `most` bytes; nothing: it has ended its side."""
        while True:
            try:
                received = self._session.read(most)
            except ssl.SSLWantReadError:
                self._flush()
                await self._receive()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            except ssl.SSLError as error:
                self._flush()
                raise ConnectionResetError from error
            else:
                self._flush()
                return received

    def write(self, text: bytes) -> None:
        """Encrypt it, and have it sent. Raises ConnectionResetError."""
        try:
            for begin in range(0, len(text), RECORD_BYTES):
                self._session.write(text[begin : begin + RECORD_BYTES])
                self._flush()
        except ssl.SSLError as error:
            raise ConnectionResetError from error

    async def drain(self) -> None:
        """See `StreamWriter`."""
        await self._writer.drain()

    def close(self) -> None:
        """Say goodbye, and hang up once it is sent."""
        with contextlib.suppress(ssl.SSLError):  # the client's own goodbye is not waited for
            self._session.unwrap()
        self._flush()
        self._writer.close()

    async def wait_closed(self) -> None:
        """See `StreamWriter`."""
        await self._writer.wait_closed()

    @property
    def transport(self) -> asyncio.WriteTransport:
        """Of the plain connection."""
        return self._writer.transport

    async def _receive(self) -> bool:
        received = await self._reader.read(RECORD_BYTES)
        if received:
            self._incoming.write(received)
        else:
            self._incoming.write_eof()
        return bool(received)

    def _flush(self) -> None:
        if self._outgoing.pending and not self._writer.is_closing():
            self._writer.write(self._outgoing.read())
