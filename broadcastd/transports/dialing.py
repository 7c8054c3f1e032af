"""Sockets to a host, for the `lean` transport."""

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

import aiohappyeyeballs

ADDRESSES_S = 60.0
"""They are looked up again after so long."""
NEXT_ADDRESS_S = 0.25
"""An address that is silent for so long has the next one tried beside it (RFC 8305)."""

Address = tuple[int, int, int, str, Any]
"""As `getaddrinfo` has it."""


class Host:
    """One host and port."""

    def __init__(self, name: str, port: int) -> None:
        self.name, self._port = name, port
        self._look_up: asyncio.Task[Sequence[Address]] | None = None
        self._fresh_until_s = 0.0
        self._dialed = 0

    async def connect(self) -> socket.socket:
        """A connected socket. Raises OSError, and UnicodeError for a name that cannot be looked up."""
        found = await self._addresses()
        self._dialed += 1
        first = self._dialed % len(found)  # not all to the same one
        addresses = [*found[first:], *found[:first]]
        sock = await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=NEXT_ADDRESS_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return sock

    async def close(self) -> None:
        """End a look-up that nobody waits for any more."""
        if self._look_up is not None:
            self._look_up.cancel()
            await asyncio.wait([self._look_up])

    async def _addresses(self) -> Sequence[Address]:
        """One look-up at a time, however many connect."""
        loop, kept = asyncio.get_running_loop(), self._look_up
        if kept is None or (kept.done() and (kept.exception() or loop.time() > self._fresh_until_s)):
            self._look_up = kept = loop.create_task(self._ask(), name=f"look-up of {self.name}")
            self._fresh_until_s = loop.time() + ADDRESSES_S
        return await asyncio.shield(kept)  # who is cancelled does not take the others' answer away

    async def _ask(self) -> Sequence[Address]:
        return await asyncio.get_running_loop().getaddrinfo(
            self.name, self._port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
