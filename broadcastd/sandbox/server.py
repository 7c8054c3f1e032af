"""The sandbox as servers: the imitated API on one port, its control on another that always stays up."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from math import inf
from typing import Any

from aiohttp import web

from broadcastd.sandbox.acts import Act, Acts
from broadcastd.sandbox.answer import answer
from broadcastd.sandbox.behaviour import Behaviour
from broadcastd.sandbox.callback import Callback, callback_spec
from broadcastd.sandbox.calls import Calls
from broadcastd.sandbox.control import control_app
from broadcastd.sandbox.events import Event
from broadcastd.sandbox.followers import Followers
from broadcastd.sandbox.listener import Listener, PortTaken, base_url, bind
from broadcastd.sandbox.options import Options
from broadcastd.sandbox.outages import WHOLE_ANSWER, play
from broadcastd.sandbox.pushes import Push, Pusher
from broadcastd.sandbox.report import describe_call, summarize
from broadcastd.sandbox.tokens import Tokens, new_text
from broadcastd.sandbox.wechat import WeChat

# Whoever still waits at the control when it closes is cut (0 would mean to wait for ever).
_CUT_S = 0.1


class Sandbox:
    """A running imitation. Made by `start`; `close` ends it.

    `url` is the base of the imitated API (`{url}/cgi-bin/…`), `control_url` that of the control.
    """

    def __init__(self, options: Options) -> None:
        # One first token for good, so that it is valid again after a reset.
        self.options = replace(options, token=options.token or new_text())
        self._ahead_s = 0.0
        self._in_flight = 0
        self._in_flight_max = 0
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._settling = asyncio.Lock()
        self._reopening: asyncio.Task[None] | None = None
        self._api = Listener(self._handle)
        self._control: web.AppRunner | None = None
        self.url = self.control_url = ""
        self._begin()

    @property
    def behaviour(self) -> Behaviour:
        """The present misbehaviour; change it with `behave`, so that `refuse` is acted on at once."""
        return self.wechat.behaviour

    @property
    def followers(self) -> Followers:
        """Who follows the account."""
        return self.wechat.followers

    @property
    def tokens(self) -> Tokens:
        """The account's tokens."""
        return self.wechat.tokens

    @property
    def record(self) -> Calls:
        """The record itself, in columns."""
        return self.wechat.calls

    @property
    def token(self) -> str:
        """The latest classic token: what the site's own table would hold."""
        return self.tokens.current

    @property
    def listening(self) -> bool:
        """Whether the API port accepts connections just now."""
        return self._api.is_open

    def now(self) -> float:
        """The sandbox's time: the machine's, and what `advance` added. Seconds since 1970."""
        return time.time() + self._ahead_s

    def address(self) -> dict[str, str]:
        """What a caller needs to know."""
        return {
            "url": self.url,
            "control": self.control_url,
            "token": self.token,
            "app_id": self.options.app_id,
            "app_secret": self.options.app_secret,
        }

    def summary(self) -> dict[str, Any]:
        """Totals of all calls and deliveries since the start or the last `reset`."""
        return summarize(self.wechat) | {
            "in_flight": self._in_flight,
            "in_flight_max": self._in_flight_max,
            "pushes": self.pusher.totals.describe(),
        }

    def calls(self, openid: str | None = None, since: int = 0, limit: int = 1000) -> list[dict[str, Any]]:
        """Calls in order, from number `since` on, of everybody or of one openid."""
        row = None if openid is None else self.followers.row(openid, self.now())
        return [describe_call(self.wechat, number) for number in self.record.numbers(since, limit, row)]

    def deliveries(self, text: str = "") -> Iterator[tuple[str, int]]:
        """(openid, messages got) of everybody who got one, of messages that contain `text`."""
        found = self.record.deliveries_with(text) if text else self.record.deliveries
        return ((self.followers.name(row), count) for row, count in found)

    async def behave(self, change: Mapping[str, Any]) -> None:
        """Apply a `behaviour.Change`; `ValueError` says what is wrong with it."""
        self.behaviour.change(change, self.now())
        await self._settle()

    async def add_outage(self, kind: str, **spec: Any) -> None:
        """One outage more: a `behaviour.OutageSpec`."""
        self.behaviour.add_outage({"kind": kind, **spec}, self.now())
        await self._settle()

    async def advance(self, seconds: float) -> None:
        """Let time pass at once: tokens age, windows close, outages end."""
        self._ahead_s += seconds
        self.pusher.release()
        await self._settle()

    async def reset(self) -> None:
        """Everything as at the start: followers, behaviour, time, first token, and an empty record."""
        await self.pusher.close()
        self._begin()
        await self._settle()

    def change_callback(self, change: Mapping[str, Any]) -> None:
        """Push to another callback from now on, or otherwise; a `CallbackSpec`, what is not named stays."""
        spec = callback_spec(change, self.pusher.callback.spec)
        self.pusher.callback = Callback(spec, self.options.app_id)
        self.wechat.account.results.are_told = bool(spec.url)

    def act(self, act: Mapping[str, Any]) -> list[Push]:
        """Followers do something (an `acts.Act`): it changes the state, and is pushed to the callback."""
        return self.pusher.add(self.acts.do(Act.model_validate(dict(act)), self.now()))

    async def wait_for(
        self, calls: int = 0, delivered: int = 0, listening: bool = False, pushed: int = 0
    ) -> None:
        """Return once so many calls were recorded, so many delivered, so many pushes have ended.

        And, if asked, the port is open.
        """

        def has_come() -> bool:
            record = self.record
            enough = len(record) >= calls and record.deliveries.total >= delivered
            enough = enough and self.pusher.totals.ended >= pushed
            return enough and (self.listening or not listening)

        if not has_come():
            arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((has_come, arrived))
            await arrived

    async def open(self) -> None:
        """Listen on both ports; `PortTaken` when one cannot be had."""
        options = self.options
        self.url = base_url(options.host, self._api.reserve(options.host, options.port))
        self.control_url = base_url(options.host, await self._open_control())
        await self._settle()

    async def close(self) -> None:
        """Stop listening and cut all connections."""
        if self._reopening is not None:
            self._reopening.cancel()
            await asyncio.gather(self._reopening, return_exceptions=True)
        await self._api.close()
        await self.pusher.close()
        if self._control is not None:
            await self._control.cleanup()

    async def _open_control(self) -> int:
        options = self.options
        control = bind(options.host, options.control_port)
        port: int = control.getsockname()[1]
        self._control = web.AppRunner(control_app(self), access_log=None, shutdown_timeout=_CUT_S)
        await self._control.setup()
        try:
            await web.SockSite(self._control, control).start()
        except OSError as error:
            control.close()
            raise PortTaken(options.host, port, "the port is in use") from error
        return port

    def _begin(self) -> None:
        self._ahead_s = 0.0
        self._in_flight_max = self._in_flight
        options, now = self.options, self.now()
        behaviour = Behaviour(options.seed)
        behaviour.change(
            {"latency_ms": options.latency_ms, "errors": options.errors, "outages": list(options.outages)},
            now,
        )
        self.wechat = WeChat(options, behaviour, now)
        self.acts = Acts(self.wechat.account)
        spec = callback_spec(options.callback)
        self.pusher = Pusher(Callback(spec, options.app_id), self.now, self._wake)
        self.wechat.account.results.are_told = bool(spec.url)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self._in_flight += 1
        self._in_flight_max = max(self._in_flight_max, self._in_flight)
        try:
            body = await request.read()
            wechat = self.wechat
            reply = wechat.ask(request.method, request.raw_path, body, self.now())
            if self._waiting:
                self._wake()
            if reply.events:
                await self._tell(reply.events)
            # Delivered first, answered later: a caller that does not wait is left in doubt, as in life.
            latency_s = self.behaviour.latency_s()
            if latency_s:
                await asyncio.sleep(latency_s)
            if reply.outage:
                body = reply.body or WHOLE_ANSWER
                return await play(reply.outage, request, body, self.behaviour.outage_s)
            wechat.calls.answer(reply.number, self.now())
            return answer(request, reply.body, keep=self._api.is_open)
        finally:
            self._in_flight -= 1

    async def _tell(self, events: tuple[Event, ...]) -> None:
        pushes = self.pusher.add(events)
        if self.wechat.account.results.event_first:
            for push in pushes:
                await self.pusher.end_of(push)

    def _wake(self) -> None:
        for has_come, arrived in self._waiting:
            if not arrived.done() and has_come():
                arrived.set_result(None)
        self._waiting = [waiting for waiting in self._waiting if not waiting[1].done()]

    async def _settle(self) -> None:
        """Make the API port listen, or refuse, as the behaviour has it now."""
        async with self._settling:
            if self._reopening is not None and self._reopening is not asyncio.current_task():
                self._reopening.cancel()
                self._reopening = None
            now = self.now()
            until = self.behaviour.refused_until(now)
            if not until:
                await self._api.listen()
                self._wake()
                return
            await self._api.refuse()
            if until != inf:
                self._reopening = asyncio.create_task(
                    self._reopen(until - now), name="sandbox reopens its port"
                )

    async def _reopen(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        await self._settle()


async def start(options: Options) -> Sandbox:
    """A sandbox that listens; `PortTaken` when a port cannot be had, `ValueError` for a wrong fault."""
    sandbox = Sandbox(options)
    try:
        await sandbox.open()
    except BaseException:
        await sandbox.close()
        raise
    return sandbox


@asynccontextmanager
async def running_sandbox(options: Options | None = None) -> AsyncIterator[Sandbox]:
    """A sandbox for the length of a test, on free ports unless the options name some."""
    sandbox = await start(options or Options())
    try:
        yield sandbox
    finally:
        await sandbox.close()


def serve(options: Options, started: Callable[[Sandbox], None]) -> None:
    """Run until SIGINT or SIGTERM; `started` is called once both ports listen. Errors as of `start`."""
    import uvloop  # noqa: PLC0415  # only a process of its own needs it

    uvloop.run(_serve(options, started))


async def _serve(options: Options, started: Callable[[Sandbox], None]) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with running_sandbox(options) as sandbox:
        started(sandbox)
        await stopped.wait()
