"""Hands alerts to a child process, which has apprise and may hang: the daemon waits for no mail server.

What an address does not take is tried again after growing pauses, for about two hours; the newest alerts stay
when they become too many.
"""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
import structlog

from broadcastd.alerts.texts import Text
from broadcastd.alerts.urls import shown
from broadcastd.clock import Clock
from broadcastd.retry import Backoff

log = structlog.get_logger()

# -P: nothing of the folder that broadcastd was started in is imported.
COMMAND = (sys.executable, "-P", "-m", "broadcastd.alerts.child")
LONGEST_S = 60.0
"""Then the child is killed; who has not answered is tried again."""
PAUSES = Backoff(first_s=5, longest_s=900)
MOST_TRIES = 15
MOST_WAITING = 50
NO_ANSWER = "it did not answer in time"


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
    """An alert that some address has not taken yet."""

    text: Text
    look: str
    kind: str
    urls: tuple[str, ...]
    due_s: float
    tries: int = 0


class Sending:
    """`run` must be running."""

    def __init__(
        self, urls: Sequence[str], clock: Clock, *, pauses: Backoff = PAUSES, longest_s: float = LONGEST_S
    ) -> None:
        self._urls = tuple(urls)
        self._clock = clock
        self._pauses = pauses
        self._longest_s = longest_s
        self._waiting: list[_Waiting] = []
        self._wake = asyncio.Event()
        self._tried_once = asyncio.Event()
        self._tried_once.set()

    def put(self, text: Text, kind: str, look: str) -> None:
        """Have an alert sent. Never waits; when too many wait, the oldest is given up."""
        self._waiting.append(_Waiting(text, look, kind, self._urls, self._clock.monotonic_s()))
        if len(self._waiting) > MOST_WAITING:
            dropped = self._waiting.pop(0)
            log.error("alert_dropped", kind=dropped.kind, tries=dropped.tries, waiting=MOST_WAITING)
        self._tried_once.clear()
        self._wake.set()

    async def all_tried(self) -> None:
        """Return when each alert that was put in has been tried once."""
        await self._tried_once.wait()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            if not any(one.tries == 0 for one in self._waiting):
                self._tried_once.set()
            self._wake.clear()
            now_s = self._clock.monotonic_s()
            due = next((one for one in self._waiting if one.due_s <= now_s), None)
            if due is None:
                await self._rest(now_s)
            else:
                await self._send(due)

    async def _rest(self, now_s: float) -> None:
        until_s = min((one.due_s for one in self._waiting), default=None)
        if until_s is None:
            await self._wake.wait()
            return
        sleeping = asyncio.ensure_future(self._clock.sleep(until_s - now_s))
        waking = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait((sleeping, waking), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            waking.cancel()

    async def _send(self, one: _Waiting) -> None:
        deliveries = await self._hand_over(one)
        one.tries += 1
        left = []
        for delivery in deliveries:
            if delivery.ok:
                log.info("alert_sent", kind=one.kind, service=delivery.service, tries=one.tries)
                continue
            again = not delivery.hopeless and one.tries < MOST_TRIES
            if again:
                left.append(delivery.url)
            log.warning(
                "alert_not_sent",
                kind=one.kind,
                service=delivery.service,
                error=delivery.why,
                tries=one.tries,
                tried_again=again,
            )
        one.urls = tuple(left)
        one.due_s = self._clock.monotonic_s() + self._pauses.delay_s(one.tries)
        if not left and one in self._waiting:
            self._waiting.remove(one)

    async def _hand_over(self, one: _Waiting) -> list[Delivery]:
        try:
            child = await asyncio.create_subprocess_exec(
                *COMMAND,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError as error:
            why = f"no process for it: {error.strerror or error}"
            return [Delivery(url, ok=False, why=why) for url in one.urls]
        lines: list[bytes] = []
        try:
            async with asyncio.timeout(self._longest_s):
                await _talk(child, _asked(one.text, one.urls, one.look), lines)
        except TimeoutError:
            pass
        finally:
            # Also when the daemon stops: nobody else would end it.
            with contextlib.suppress(ProcessLookupError):
                child.kill()
        await child.wait()
        return _deliveries(one.urls, lines)


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
        try:
            out, _ = child.communicate(asked, longest_s)
        except subprocess.TimeoutExpired:
            child.kill()
            out, _ = child.communicate()
    return _deliveries(urls, out.splitlines())


def _asked(text: Text, urls: Sequence[str], look: str) -> bytes:
    return orjson.dumps({"urls": list(urls), "title": text.title, "body": text.body, "look": look})


def _deliveries(urls: Sequence[str], lines: Sequence[bytes]) -> list[Delivery]:
    """One for each address; of whom there is no line, nothing was heard."""
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
        else Delivery(url, ok=False, why=NO_ANSWER)
        for number, url in enumerate(urls)
    ]
