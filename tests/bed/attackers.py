"""Who means ill, in a process of its own: `python -m bed.attackers PORT JSON`. Nothing of broadcastd in it.

Four kinds, each as many as an `Attack` says, each again a while after it was cut off, from addresses all over
127.0.0.0/8. Says "up" once everyone was connected; at the end of its input it tells what became of them.
"""

import asyncio
import contextlib
import itertools
import json
import os
import random
import resource
import select
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ESTABLISHED = 1
"""The first byte of TCP_INFO, as <netinet/tcp.h> has it."""
UP_WITHIN_S = 120
ARRIVALS_PER_S = 1000
"""At the beginning; a crowd that comes at once only waits in the kernel's backlog."""
LOOK_S = 5.0
"""How often an idle attacker looks whether it was cut off: thousands of them share a CPU with the rest."""
DEAF_BUFFER_BYTES = 4096


IP_BIND_ADDRESS_NO_PORT = 24
"""ip(7); Python has no name for it."""


@dataclass(frozen=True, slots=True)
class Attack:
    """How many of each kind, and how hard they try."""

    idle: int = 0
    """Connect, and never say a word."""
    slow: int = 0
    """Send one byte a second: `begins`, and then on and on."""
    begins: str = '{"content":"'
    deaf: int = 0
    """Ask `who`, `tail` and a thousand pings, and never read an answer."""
    garbage_per_s: float = 0
    """Connections that bring something unreadable, and leave."""
    back_after_s: float = 1
    """How long who was cut off stays away."""
    idle_back_after_s: float = 5
    """The same, of the idle ones: thousands that come again at once are another kind of attack."""
    who: str = "none"
    """A job that has ended: the deaf ones ask who its recipients are."""
    tail: str = "none"
    """A job that has not: they follow it."""
    over_s: float = 0
    """The slow and the deaf come one by one over so long: then they are not all cut at once either."""
    addresses: int = 200
    """From how many addresses they come."""


class Attackers:
    """A running attack, as a test holds it: entered, it is up; `counts` are there once it was left."""

    def __init__(self, port: int, attack: Attack) -> None:
        self._port = port
        self._attack = attack
        self.counts: Counter[str] = Counter()
        """How many connections of each kind were made (`idle`), and were cut (`idle_cut`)."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bed.attackers", str(self._port), json.dumps(asdict(self._attack))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], UP_WITHIN_S)
        if not ready or self._process.stdout.readline() != b"up\n":
            self._process.kill()
            self._process.communicate()
            raise AssertionError(f"the attackers were not up within {UP_WITHIN_S} s")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        last, _ = self._process.communicate(timeout=60)
        self.counts.update(json.loads(last))


class _Crowd:
    """All attackers of one attack."""

    def __init__(self, port: int, attack: Attack) -> None:
        self._port = port
        self._attack = attack
        self._chance = random.Random(1)
        self._waiting = attack.idle + attack.slow + attack.deaf
        self._sockets: set[socket.socket] = set()
        self.counts: Counter[str] = Counter()
        self.up = asyncio.Event()

    async def run(self, ended: asyncio.Event) -> None:
        """Attack until `ended`."""
        kinds: list[tuple[str, int, Callable[[socket.socket], Awaitable[None]]]] = [
            ("idle", self._attack.idle, self._idle),
            ("slow", self._attack.slow, self._slow),
            ("deaf", self._attack.deaf, self._deaf),
        ]
        everyone = itertools.chain.from_iterable([(kind, act)] * many for kind, many, act in kinds)
        running = []
        for number, (kind, act) in enumerate(everyone):
            running.append(asyncio.create_task(self._again_and_again(kind, number, act)))
            if kind != "idle" and self._attack.over_s:
                await asyncio.sleep(self._attack.over_s / (self._attack.slow + self._attack.deaf))
            elif number % 100 == 0:
                await asyncio.sleep(100 / ARRIVALS_PER_S)
        if self._attack.garbage_per_s:
            running.append(asyncio.create_task(self._throw_garbage()))
        if not self._waiting:
            self.up.set()
        await ended.wait()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for one in list(self._sockets):
            one.close()

    async def _again_and_again(
        self, kind: str, number: int, act: Callable[[socket.socket], Awaitable[None]]
    ) -> None:
        first = True
        back_after_s = self._attack.idle_back_after_s if kind == "idle" else self._attack.back_after_s
        while True:
            one = await self._connected(number)
            if one is not None:
                self.counts[kind] += 1
                self._waiting -= first
                first = False
                if not self._waiting:
                    self.up.set()
                with contextlib.suppress(OSError):
                    await act(one)
                self.counts[f"{kind}_cut"] += 1
                self._left(one)
            await asyncio.sleep(back_after_s * self._chance.uniform(0.5, 1.5))

    async def _connected(self, number: int) -> socket.socket | None:
        one = socket.socket()
        one.setblocking(False)
        self._sockets.add(one)
        try:
            # No port before it connects: else each would keep one from all who listen.
            one.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            one.bind((f"127.7.{number % self._attack.addresses // 250}.{number % 250 + 1}", 0))
            await asyncio.get_running_loop().sock_connect(one, ("127.0.0.1", self._port))
        except OSError:
            self.counts["not_connected"] += 1
            self._left(one)
            return None
        return one

    def _left(self, one: socket.socket) -> None:
        self._sockets.discard(one)
        one.close()

    async def _idle(self, one: socket.socket) -> None:
        while _established(one):  # noqa: ASYNC110 - there is no event: nobody reads from this socket
            await asyncio.sleep(LOOK_S * self._chance.uniform(0.5, 1.5))

    async def _slow(self, one: socket.socket) -> None:
        for letter in itertools.chain(self._attack.begins.encode(), itertools.repeat(ord("x"))):
            if not _established(one):
                return
            one.send(bytes([letter]))
            await asyncio.sleep(1)

    async def _deaf(self, one: socket.socket) -> None:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, DEAF_BUFFER_BYTES)
        asked = [
            b'{"op":"who","job":"%s"}\n' % self._attack.who.encode() * 1000,
            b'{"op":"tail","job":"%s","every_s":0.1}\n' % self._attack.tail.encode() * 1000,
            b'{"op":"ping"}\n' * 10_000,
            b'{"op":"info"}\n' * 10_000,
        ]
        waiting = self._chance.choice(asked)
        while _established(one):
            with contextlib.suppress(BlockingIOError):
                waiting = waiting[one.send(waiting) :] or asked[2]
            await asyncio.sleep(1)

    async def _throw_garbage(self) -> None:
        for number in itertools.count():
            await asyncio.sleep(self._chance.expovariate(self._attack.garbage_per_s))
            one = await self._connected(number)
            if one is None:
                continue
            self.counts["garbage"] += 1
            try:
                one.send(self._garbage())
            except OSError:
                self.counts["garbage_cut"] += 1
            self._left(one)

    def _garbage(self) -> bytes:
        return self._chance.choice(
            [
                self._chance.randbytes(200),
                b"{" + self._chance.randbytes(200) + b"\n",
                b'{"content":' * 300 + b"\n",
                b'{"content":17,"op":null}\n',
                b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
                b'{"op":"tail","job":"none"}\n',
            ]
        )


def _established(one: socket.socket) -> bool:
    return one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == ESTABLISHED


async def _attack(port: int, attack: Attack) -> dict[str, Any]:
    crowd, ended = _Crowd(port, attack), asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
    running = asyncio.create_task(crowd.run(ended))
    up = asyncio.create_task(crowd.up.wait())
    await asyncio.wait([running, up], return_when=asyncio.FIRST_COMPLETED)
    print("up", flush=True)
    await running
    up.cancel()
    return dict(crowd.counts)


def main() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(json.dumps(asyncio.run(_attack(int(sys.argv[1]), Attack(**json.loads(sys.argv[2]))))), flush=True)


if __name__ == "__main__":
    main()
