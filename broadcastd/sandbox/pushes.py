"""Events on their way to the callback: tried up to three times, and recorded."""

import asyncio
import heapq
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from broadcastd.sandbox.callback import Callback
from broadcastd.sandbox.events import Event
from broadcastd.sandbox.replies import PassiveReply

# The latest so many are kept whole; the totals count all.
KEPT = 20_000
_MAX_REPLY_BYTES = 1 << 16


@dataclass(slots=True)
class Try:
    """One request: `status` is 0 when no answer came, and `error` says why."""

    at: float
    took_s: float
    status: int
    error: str = ""


@dataclass(slots=True)
class Push:
    """One event. It has ended when it was answered with 200, or when its tries are used up."""

    number: int
    event: Event
    tries: list[Try] = field(default_factory=list)
    reply: PassiveReply = field(default_factory=PassiveReply)
    state: str = "waiting"
    waiter: asyncio.Future[None] | None = None

    def describe(self) -> dict[str, Any]:
        """For the control."""
        return {
            "number": self.number,
            "kind": self.event.kind,
            "openid": self.event.openid,
            "at": self.event.at,
            "state": self.state,
            "tries": [
                {"at": each.at, "took_s": round(each.took_s, 4), "status": each.status, "error": each.error}
                for each in self.tries
            ],
            "reply_type": self.reply.kind,
            "reply": self.reply.text,
            "wrong": self.reply.wrong,
            "xml": self.event.xml(),
        }


class Totals:
    """Of all pushes so far, by kind."""

    def __init__(self) -> None:
        self.pushed = 0
        self.ended = 0
        self._by_kind: dict[str, dict[str, float]] = {}

    def add(self, push: Push) -> None:
        """A push has ended."""
        self.ended += 1
        first = {"answered": 0, "given_up": 0, "tries": 0, "wrong_replies": 0, "slowest_s": 0.0}
        sums = self._by_kind.setdefault(push.event.kind, first)
        sums[push.state] += 1
        sums["tries"] += len(push.tries)
        sums["wrong_replies"] += bool(push.reply.wrong)
        slowest_s = max((each.took_s for each in push.tries), default=0.0)
        sums["slowest_s"] = max(sums["slowest_s"], round(slowest_s, 4))

    def describe(self) -> dict[str, Any]:
        """For the control."""
        return {"pushed": self.pushed, "ended": self.ended, "by_kind": self._by_kind}


class Pusher:
    """Pushes to one callback, so many at a time; `on_end` is called whenever a push has ended."""

    def __init__(self, callback: Callback, now: Callable[[], float], on_end: Callable[[], None]) -> None:
        self.callback = callback
        self.totals = Totals()
        self._now = now
        self._on_end = on_end
        self._kept: dict[int, Push] = {}
        self._later: list[tuple[float, int, Push]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._due: asyncio.Queue[Push] = asyncio.Queue()
        self._workers: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None

    def add(self, events: Iterable[Event]) -> list[Push]:
        """Push these, each when it is due; nothing is pushed when there is no callback."""
        if not self.callback.spec.url:
            return []
        self._start()
        added = [self._add(event) for event in events]
        self.release()
        return added

    def release(self) -> None:
        """Let go what is due by now, and set the timer for the next; also called when time was moved."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._now()
        while self._later and self._later[0][0] <= now:
            self._due.put_nowait(heapq.heappop(self._later)[2])
        if self._later:
            self._timer = asyncio.get_running_loop().call_later(self._later[0][0] - now, self.release)

    async def end_of(self, push: Push) -> None:
        """Return once the push has ended; for one caller."""
        if push.state == "waiting":
            push.waiter = asyncio.get_running_loop().create_future()
            await push.waiter

    def find(self, since: int, limit: int, openid: str = "", kind: str = "") -> list[dict[str, Any]]:
        """Pushes in order, from number `since` on, of one openid or kind if named."""
        wanted = (
            push
            for push in self._kept.values()
            if push.number >= since and openid in ("", push.event.openid) and kind in ("", push.event.kind)
        )
        return [push.describe() for push, _ in zip(wanted, range(limit), strict=False)]

    async def verify(self) -> dict[str, Any]:
        """Ask the callback what WeChat asks when the URL is entered: whether it echoes, and what it said."""
        self._start()
        echostr = str(secrets.randbelow(10**19))
        status, body, error = await self._send("GET", self.callback.verification(echostr, self._now()), b"")
        echoed = status == 200 and body.decode("utf-8", "replace") == echostr
        return {"verified": echoed, "status": status, "error": error}

    async def close(self) -> None:
        """Stop; what waits is not pushed."""
        if self._timer is not None:
            self._timer.cancel()
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def _start(self) -> None:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
            )
        for number in range(len(self._workers), self.callback.spec.in_flight):
            worker = asyncio.create_task(self._work(), name=f"sandbox pushes {number}")
            worker.add_done_callback(_report_death)
            self._workers.append(worker)

    def _add(self, event: Event) -> Push:
        push = Push(self.totals.pushed, event)
        self.totals.pushed += 1
        self._kept[push.number] = push
        if len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        heapq.heappush(self._later, (event.at, push.number, push))
        return push

    async def _work(self) -> None:
        while True:
            push = await self._due.get()
            await self._push(push)
            self.totals.add(push)
            if push.waiter is not None and not push.waiter.done():
                push.waiter.set_result(None)
            self._on_end()

    async def _push(self, push: Push) -> None:
        spec = self.callback.spec
        for number in range(spec.tries):
            if number and spec.pause_s:
                await asyncio.sleep(spec.pause_s)
            now, began = self._now(), time.perf_counter()
            request = self.callback.request(push.event, now)
            status, body, error = await self._send("POST", request.url, request.body)
            push.tries.append(Try(now, time.perf_counter() - began, status, error))
            if status == 200:
                push.reply = self.callback.read(body, push.event)
                push.state = "answered"
                return
        push.state = "given_up"

    async def _send(self, method: str, url: str, body: bytes) -> tuple[int, bytes, str]:
        """Status (0 when there is no answer), body, and what went wrong."""
        if self._session is None:
            raise RuntimeError("not started")
        try:
            async with (
                asyncio.timeout(self.callback.spec.timeout_s),
                self._session.request(
                    method,
                    url,
                    data=body or None,
                    headers={"Content-Type": "text/xml"},
                    allow_redirects=False,
                ) as answer,
            ):
                return answer.status, await answer.content.read(_MAX_REPLY_BYTES), ""
        except TimeoutError:
            return 0, b"", "no answer in time"
        except aiohttp.ClientError as error:
            return 0, b"", type(error).__name__


def _report_death(worker: asyncio.Task[None]) -> None:
    """A worker only ends when it is cancelled: anything else is a bug, to be seen at once."""
    error = None if worker.cancelled() else worker.exception()
    if error is not None:
        worker.get_loop().call_exception_handler(
            {"message": f"{worker.get_name()} died", "exception": error, "task": worker}
        )
