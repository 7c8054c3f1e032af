"""Listening sockets: bound as the settings say, and accepted from without ever spinning."""

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence

BACKLOG = 1024
ACCEPTS_AT_ONCE = 64
"""In one turn of the loop: a flood must not keep the senders waiting."""
RETRY_S = 0.5
"""After the process had no descriptor left for a connection."""
ROOM_S = 0.05
"""The same, when some were hung up to have one."""
RECEIVE_BYTES = 65536
SEND_BYTES = 65536
"""The kernel's own buffers, of each connection: what a client who never reads, or never ends, can fill."""
OUT_OF_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


async def bind(host: str, port: int) -> list[socket.socket]:
    """One for each address of `host`, all on one port. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    bound: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listening = socket.socket(family, kind, protocol)
            bound.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # Port 0 is any free one, and then the same for the other addresses.
            listening.bind((address[0], bound[0].getsockname()[1] if len(bound) > 1 else port, *address[2:]))
            listening.listen(BACKLOG)
    except OSError:
        for one in bound:
            one.close()
        raise
    return bound


class Doorway:
    """Accepts from listening sockets while it is open, and hands each connection on."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        accepted: Callable[[socket.socket], None],
        out_of_files: Callable[[OSError], bool],
    ) -> None:
        """`out_of_files`: no connection can be had; whether it makes room. It is tried again anyhow."""
        self._sockets = sockets
        self._accepted = accepted
        self._out_of_files = out_of_files
        self._loop = asyncio.get_running_loop()
        self._pauses: dict[socket.socket, asyncio.TimerHandle] = {}
        for one in sockets:
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
            self._watch(one)

    def close(self) -> None:
        """Accept nobody more, and close the sockets."""
        for pause in self._pauses.values():
            pause.cancel()
        for one in self._sockets:
            self._loop.remove_reader(one.fileno())
            one.close()

    def _watch(self, listening: socket.socket) -> None:
        self._pauses.pop(listening, None)
        self._loop.add_reader(listening.fileno(), self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                connection, _ = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue  # whoever it was has gone already
            except OSError as error:
                room = error.errno in OUT_OF_FILES and self._out_of_files(error)
                pause_s = ROOM_S if room else RETRY_S
                # The socket stays readable: without a pause this would be asked again at once, for ever.
                self._loop.remove_reader(listening.fileno())
                self._pauses[listening] = self._loop.call_later(pause_s, self._watch, listening)
                return
            connection.setblocking(False)
            self._accepted(connection)
