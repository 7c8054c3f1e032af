"""Hands alerts to a child process, which has apprise and may hang: the daemon waits for no mail server.

What an address does not take is tried again after growing pauses, for about two hours, in order; the newest
alerts stay when they become too many.
"""

import asyncio
import contextlib
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
import structlog

from broadcastd.alerts.texts import Text
from broadcastd.alerts.urls import shown
from broadcastd.retry import Backoff

log = structlog.get_logger()

# -P: nothing of the folder that broadcastd was started in is imported.
COMMAND = (sys.executable, "-P", "-m", "broadcastd.alerts.child")
LONGEST_S = 60.0
"""Then the child is killed; who has not answered is tried again."""
GONE_WITHIN_S = 5.0
"""A killed child's pipes are closed, unless a process of its own holds them."""
PAUSES = Backoff(first_s=5, longest_s=900)
MOST_TRIES = 15
MOST_WAITING = 50
TOO_SLOW = "it did not answer in time"
NO_CHILD = "the process that sends it failed: is apprise installed?"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one alert at one address."""

    url: str
    """A secret."""
    ok: bool
    why: str = ""
    hopeless: bool = False
    """Not to be tried again: the address itself is wrong."""

    @property
    def service(self) -> str:
        """What may be shown of the address."""
        return shown(self.url)


@dataclass(slots=True, eq=False)
class _Waiting:
    """An alert that an address has not taken yet."""

    text: Text
    kind: str
    look: str
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an address is waited for."""

    pauses: Backoff = PAUSES
    longest_s: float = LONGEST_S


class Sending:
    """Sends to several addresses, none of which waits for another. `run` must be running."""

    def __init__(self, urls: Sequence[str], patience: Patience | None = None) -> None:
        self._lines = [_Line(url, patience or Patience()) for url in urls]

    def put(self, text: Text, kind: str, look: str) -> None:
        """Have an alert sent. Never waits; when too many wait, the oldest is given up."""
        for line in self._lines:
            line.put(_Waiting(text, kind, look))

    async def all_tried(self) -> None:
        """Return when each alert that was put in has been tried once, or waits behind one that was."""
        for line in self._lines:
            await line.tried.wait()

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number, line in enumerate(self._lines, 1):
                group.create_task(line.run(), name=f"alerts to address {number}")


class _Line:
    """What waits for one address, in order: that a trouble is over must not be read before the trouble."""

    def __init__(self, url: str, patience: Patience) -> None:
        self._url = url
        self._patience = patience
        self._waiting: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self.tried = asyncio.Event()
        self.tried.set()

    def put(self, one: _Waiting) -> None:
        """One more. What waits longer is tried at once, too: the address may be back."""
        self._waiting.append(one)
        if len(self._waiting) > MOST_WAITING:
            dropped = self._waiting.popleft()
            log.error("alert_dropped", kind=dropped.kind, service=shown(self._url), waiting=MOST_WAITING)
        self.tried.clear()
        self._wake.set()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            self._wake.clear()
            while self._waiting and await self._is_through(self._waiting[0]):
                pass
            if not self._wake.is_set():
                self.tried.set()
            await self._rest()

    async def _is_through(self, one: _Waiting) -> bool:
        """Try one; whether the next one may be tried now."""
        delivery = await self._deliver(one)
        one.tries += 1
        given_up = not delivery.ok and (delivery.hopeless or one.tries >= MOST_TRIES)
        if delivery.ok:
            log.info("alert_sent", kind=one.kind, service=delivery.service, tries=one.tries)
        else:
            log.warning(
                "alert_not_sent", kind=one.kind, service=delivery.service, error=delivery.why,
                tries=one.tries, tried_again=not given_up,
            )  # fmt: skip
        if (delivery.ok or given_up) and self._waiting and self._waiting[0] is one:
            self._waiting.popleft()
        return delivery.ok or given_up

    async def _rest(self) -> None:
        """Until there is one more, or what waits is to be tried again."""
        with contextlib.suppress(TimeoutError):
            delay_s = self._patience.pauses.delay_s(self._waiting[0].tries) if self._waiting else None
            async with asyncio.timeout(delay_s):
                await self._wake.wait()

    async def _deliver(self, one: _Waiting) -> Delivery:
        try:
            return await _hand_over(self._url, one, self._patience.longest_s)
        except OSError as error:
            return Delivery(self._url, ok=False, why=f"no process for it: {error.strerror or error}")
        except Exception as error:
            # Telling must not end the sending of posts, whatever is wrong with it.
            log.exception("alert_failed", kind=one.kind)
            return Delivery(self._url, ok=False, why=type(error).__name__)


async def _hand_over(url: str, one: _Waiting, longest_s: float) -> Delivery:
    child = await asyncio.create_subprocess_exec(
        *COMMAND,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    lines: list[bytes] = []
    silent = NO_CHILD
    try:
        async with asyncio.timeout(longest_s):
            await _talk(child, _asked(one.text, [url], one.look), lines)
    except TimeoutError:
        silent = TOO_SLOW
    finally:
        # Also when the daemon stops: nobody else would end it.
        await _end(child)
    return _deliveries([url], lines, silent)[0]


async def _end(child: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.kill()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GONE_WITHIN_S):
            await child.communicate()


async def _talk(child: asyncio.subprocess.Process, asked: bytes, lines: list[bytes]) -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    with contextlib.suppress(ConnectionError):
        child.stdin.write(asked)
        await child.stdin.drain()
        child.stdin.close()
    while line := await child.stdout.readline():
        lines.append(line)
    await child.wait()


def send_now(urls: Sequence[str], text: Text, look: str, longest_s: float = LONGEST_S) -> list[Delivery]:
    """Send one alert, once, and wait for what became of it: for commands, which have no loop."""
    return _ask(urls, _asked(text, urls, look), longest_s)


def check(urls: Sequence[str]) -> list[Delivery]:
    """Which addresses apprise can use (`ok`), and why others not. Nothing is sent."""
    return _ask(urls, orjson.dumps({"urls": list(urls), "check": True}), LONGEST_S)


def _ask(urls: Sequence[str], asked: bytes, longest_s: float) -> list[Delivery]:
    with subprocess.Popen(  # noqa: S603 - this very program
        COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        silent = NO_CHILD
        try:
            out, _ = child.communicate(asked, longest_s)
        except subprocess.TimeoutExpired:
            silent = TOO_SLOW
            child.kill()
            out, _ = child.communicate()
    return _deliveries(urls, out.splitlines(), silent)


def _asked(text: Text, urls: Sequence[str], look: str) -> bytes:
    return orjson.dumps({"urls": list(urls), "title": text.title, "body": text.body, "look": look})


def _deliveries(urls: Sequence[str], lines: Sequence[bytes], silent: str) -> list[Delivery]:
    """One for each address; `silent`: why there is no line of one."""
    said = {}
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            found = orjson.loads(line)
            said[found["n"]] = found
    return [
        Delivery(
            url,
            ok=bool(said[number]["ok"]),
            why=str(said[number].get("why", "")),
            hopeless=bool(said[number].get("hopeless")),
        )
        if number in said
        else Delivery(url, ok=False, why=silent)
        for number, url in enumerate(urls)
    ]
