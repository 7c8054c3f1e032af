"""The HTTP port of one daemon, or none."""

import contextlib
import socket
from collections.abc import Sequence

from broadcastd.http_settings import HttpPortSettings
from broadcastd.ops.listener import Listener
from broadcastd.ops.routes import Routes
from broadcastd.ops.sources import Sources
from broadcastd.server_settings import LOOPBACK
from broadcastd.wire.desk import Desk


class HttpPort:
    """`http.enabled = false`: nothing listens."""

    def __init__(self, settings: HttpPortSettings, sources: Sources, desk: Desk) -> None:
        self.listener: Listener | None = None
        if settings.enabled:
            routes = Routes(sources, desk, bare=settings.host not in LOOPBACK)
            self.listener = Listener(settings, routes, sources.requests)

    def renew(self) -> None:
        """See `Listener.renew`."""
        if self.listener is not None:
            self.listener.renew()

    def listening(
        self, ready_made: Sequence[socket.socket] = ()
    ) -> contextlib.AbstractAsyncContextManager[None]:
        """To be entered; see `Listener.listening`."""
        if self.listener is None:
            return contextlib.nullcontext()
        return self.listener.listening(ready_made)
