"""What every engine over asyncmy needs, whoever it is for."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from broadcastd import database_tls

RECEIVED_BYTES = 64 * 1024
"""Of an answer without end, what the system holds for its reader; it makes twice that of it."""


def address_of(url: str) -> tuple[sa.URL, dict[str, Any]]:
    """A mysql:// url as the engine wants it, and the driver's arguments for its TLS. Raises SettingsError."""
    context = database_tls.context(url)
    address = sa.make_url(url).set(drivername="mysql+asyncmy").difference_update_query(database_tls.KEYS)
    return address.update_query_dict({"charset": "utf8mb4"}), {"ssl": context} if context else {}


def hang_up_at_once(engine: sa.Engine) -> None:
    """Have a connection that went wrong closed without a goodbye.

    SQLAlchemy lets the driver take its leave first, and waits for that without end; it does so also when a
    query is given up, so the timeout that gave it up has gone off by then. Nobody may be there to take it.
    """

    def hang_up(connection: Any) -> None:
        connection.driver_connection.close()

    engine.dialect.do_terminate = hang_up  # type: ignore[assignment, method-assign]


class Tap:
    """Lets an answer without end come in only while somebody reads it.

    The driver takes all that has come, and makes rows of it at once: while its reader waits for a disk, those
    would be a hundred megabytes. It has no way of its own to have the server wait.
    """

    def __init__(self, driver: Any) -> None:
        self._transport = getattr(driver, "_transport", None)
        connected = self._transport and self._transport.get_extra_info("socket")
        if connected:
            # What has come while it was shut is taken whole, too: Linux would hold up to 6 MB.
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVED_BYTES)

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Let it come in."""
        if self._transport is None or self._transport.is_closing():
            yield  # there is nothing to come
            return
        self._transport.resume_reading()
        try:
            yield
        finally:
            if not self._transport.is_closing():
                self._transport.pause_reading()
