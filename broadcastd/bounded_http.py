"""aiohttp's server with bounds: how many may connect, and for how long they may say nothing whole."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

BACKLOG = 1024
READ_BYTES = 65536
LINGER_S = 1.0
"""What is still sent after an answer is read away so long, else its sender might not see the answer."""

PLAIN = {"Server": "-", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

_silent = logging.Logger("bounded_http", logging.CRITICAL)
"""aiohttp's own: what strangers send is not worth a line each."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one port."""

    connections: int
    idle_s: float
    """A request's head must be whole within this, an answer be read; an idle connection is closed."""
    admits: Callable[[str], bool] = lambda address: True
    """Whether whoever is at this address may connect."""


class _Handler(web.RequestHandler):
    """Of one connection."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is no HTTP at all. Nothing of it is repeated, nor what we are made of."""
        del request, exc, message
        answer = web.Response(status=status, text="this is no HTTP request\n", headers=PLAIN)
        answer.force_close()
        return answer


class BoundedServer(web.Server):
    """Whoever serves calls `busy` when a request's head is there, and `idle` with its answer."""

    def __init__(self, serve: Any, bounds: Bounds) -> None:
        options: dict[str, Any] = {
            "access_log": None,
            "logger": _silent,
            "auto_decompress": False,
            "lingering_time": LINGER_S,
            "keepalive_timeout": bounds.idle_s,
        }
        super().__init__(serve, **options)
        self._options = options
        self._bounds = bounds
        self._inside: set[Any] = set()
        """Who has a place. Who is hung up on has none from then on; aiohttp forgets them later."""
        self._ends: dict[Any, asyncio.TimerHandle | None] = {}
        """Who gives way to others, and when at the latest."""

    def __call__(self) -> web.RequestHandler:
        """See aiohttp."""
        return _Handler(self, loop=self._loop, **self._options)

    def connection_made(self, handler: Any, transport: asyncio.Transport) -> None:
        """Count it in. When all places are taken, who has been idle longest gives way, or else this one."""
        super().connection_made(handler, transport)
        peer = transport.get_extra_info("peername")
        address = peer[0] if isinstance(peer, tuple) else ""
        full = len(self._inside) >= self._bounds.connections
        if not self._bounds.admits(address) or (full and not self._hang_up_idle()):
            _abort_soon(transport)
        else:
            self._inside.add(handler)
            self.idle(handler)

    def _hang_up_idle(self) -> bool:
        """Without this, a few who drip their heads, and come again, would keep everybody out."""
        longest = next(iter(self._ends), None)
        if longest is None:
            return False
        self.busy(longest)
        self._inside.discard(longest)
        transport = self._connections.get(longest)
        if transport is not None:
            _abort_soon(transport)
        return True

    def connection_lost(self, handler: Any, exc: BaseException | None = None) -> None:
        """See aiohttp."""
        self.busy(handler)
        self._inside.discard(handler)
        super().connection_lost(handler, exc)

    def idle(self, handler: Any) -> None:
        """A request's head must be whole within the time from here on, however slowly it comes."""
        self.busy(handler)
        transport = self._connections.get(handler)
        if transport is not None and handler in self._inside:
            loop = asyncio.get_running_loop()
            self._ends[handler] = loop.call_later(self._bounds.idle_s, transport.abort)

    def waiting(self, handler: Any) -> None:
        """A request waits for its sender, and is bounded elsewhere: it gives way to who needs a place."""
        self.busy(handler)
        if handler in self._inside:
            self._ends[handler] = None

    def busy(self, handler: Any) -> None:
        """A request is being answered: that has a bound of its own."""
        timer = self._ends.pop(handler, None)
        if timer is not None:
            timer.cancel()


def _abort_soon(transport: asyncio.Transport) -> None:
    """Not within `connection_made`: what is lost before its first step is a bug to aiohttp."""
    asyncio.get_running_loop().call_soon(transport.abort)


async def body_of(request: web.BaseRequest, most_bytes: int) -> bytes | None:
    """The whole of it; None when it is longer. How long it may take is the caller's matter."""
    if (request.content_length or 0) > most_bytes:
        return None
    body = b""
    while piece := await request.content.read(READ_BYTES):
        body += piece
        if len(body) > most_bytes:
            return None
    return body
