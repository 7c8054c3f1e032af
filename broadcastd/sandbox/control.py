"""The control: what a test or a person asks of a running sandbox, as JSON over HTTP under /sandbox/."""

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from broadcastd.sandbox.asking import MAX_NUMBER, answer_errors, as_json, number_of, object_of
from broadcastd.sandbox.consents import MAX_CONSENTS
from broadcastd.sandbox.control_callback import callback_routes
from broadcastd.sandbox.followers import Interaction

if TYPE_CHECKING:
    from broadcastd.sandbox.server import Sandbox

# Deliveries are streamed so many lines at a time: a million of them are 30 MB.
_LINES_AT_ONCE = 1000
_MAX_CALLS = 100_000


class TokenChange(BaseModel):
    """What to do to the tokens, in this order."""

    model_config = ConfigDict(extra="forbid")
    expires_in_s: int | None = Field(None, ge=1)
    expire: bool = False
    invalidate: bool = False
    renew: bool = False


class FollowerChange(BaseModel):
    """What followers do, without a push, or what happens to them.

    `errcode` answers every send to them; 0 ends it. `consents`: a template id to the messages consented to.
    """

    model_config = ConfigDict(extra="forbid")
    openids: list[str] = Field(min_length=1)
    interaction: Interaction | None = None
    window: Literal["closed"] | None = None
    unfollow: bool = False
    errcode: int | None = None
    consents: dict[str, Annotated[int, Field(ge=0, le=MAX_CONSENTS)]] | None = None


def control_app(sandbox: "Sandbox") -> web.Application:
    """The control of `sandbox`."""
    control = _Control(sandbox)
    app = web.Application(middlewares=[answer_errors], client_max_size=64 << 20)
    app.add_routes(
        [
            web.get("/sandbox/", control.index),
            web.get("/sandbox/summary", control.summary),
            web.get("/sandbox/calls", control.calls),
            web.get("/sandbox/answered", control.answered),
            web.get("/sandbox/deliveries", control.deliveries),
            web.get("/sandbox/wait", control.wait),
            web.get("/sandbox/behaviour", control.behaviour),
            web.post("/sandbox/behaviour", control.behave),
            web.post("/sandbox/outages", control.add_outage),
            web.delete("/sandbox/outages", control.end_outages),
            web.get("/sandbox/token", control.token),
            web.post("/sandbox/token", control.change_token),
            web.get("/sandbox/followers", control.follower),
            web.post("/sandbox/followers", control.change_followers),
            web.post("/sandbox/clock", control.advance),
            web.post("/sandbox/reset", control.reset),
        ]
    )
    app.add_routes(callback_routes(sandbox))
    return app


class _Control:
    """The handlers, one a route."""

    def __init__(self, sandbox: "Sandbox") -> None:
        self._sandbox = sandbox

    async def index(self, request: web.Request) -> web.Response:
        """Where everything is."""
        routes = {
            f"{route.method} {route.resource.canonical}"
            for route in request.app.router.routes()
            if route.resource
        }
        return as_json(
            {**self._sandbox.address(), "routes": sorted(route for route in routes if "HEAD" not in route)}
        )

    async def summary(self, _: web.Request) -> web.Response:
        """Totals."""
        return as_json(self._sandbox.summary())

    async def calls(self, request: web.Request) -> web.Response:
        """The calls from number `since` on, of one `openid` if named; `next` goes on from there."""
        since = int(number_of(request, "since", 0))
        limit = min(int(number_of(request, "limit", 1000)), _MAX_CALLS)
        found = self._sandbox.calls(request.query.get("openid"), since, limit)
        following = found[-1]["number"] + 1 if found else since
        return as_json({"calls": found, "next": following, "total": len(self._sandbox.record)})

    async def answered(self, request: web.Request) -> web.Response:
        """How many calls were answered from `since` to `until`, in seconds since 1970."""
        since, until = number_of(request, "since", 0), number_of(request, "until", MAX_NUMBER)
        return as_json({"answered": self._sandbox.record.answered(since, until)})

    async def deliveries(self, request: web.Request) -> web.StreamResponse:
        """Everybody who got something: `format` is json (one object), lines (JSON lines) or tsv.

        With `text`: who got a message that contains it.
        """
        form = request.query.get("format", "json")
        if form not in ("json", "lines", "tsv"):
            raise ValueError(f"format must be json, lines or tsv, not {form}")
        response = web.StreamResponse()
        response.content_type = "application/json" if form == "json" else "text/plain"
        await response.prepare(request)
        lines: list[str] = []
        for line in _delivery_lines(self._sandbox.deliveries(request.query.get("text", "")), form):
            lines.append(line)
            if len(lines) >= _LINES_AT_ONCE:
                await response.write("".join(lines).encode())
                lines.clear()
        await response.write_eof("".join(lines).encode())
        return response

    async def wait(self, request: web.Request) -> web.Response:
        """Answer once so many `calls` came, so many were `delivered`, so many pushes have ended (`pushed`).

        And the port is open, if `listening=1`.

        Or after `timeout_s`, with `reached` false.
        """
        calls, delivered = int(number_of(request, "calls", 0)), int(number_of(request, "delivered", 0))
        pushed, reached = int(number_of(request, "pushed", 0)), True
        try:
            async with asyncio.timeout(number_of(request, "timeout_s", 60)):
                await self._sandbox.wait_for(calls, delivered, number_of(request, "listening", 0) > 0, pushed)
        except TimeoutError:
            reached = False
        sandbox = self._sandbox
        return as_json(
            {
                "reached": reached,
                "calls": len(sandbox.record),
                "delivered": sandbox.record.deliveries.total,
                "pushed": sandbox.pusher.totals.ended,
                "listening": sandbox.listening,
            }
        )

    async def behaviour(self, _: web.Request) -> web.Response:
        """The present behaviour."""
        sandbox = self._sandbox
        return as_json({**sandbox.behaviour.describe(sandbox.now()), "listening": sandbox.listening})

    async def behave(self, request: web.Request) -> web.Response:
        """Apply a `behaviour.Change`."""
        await self._sandbox.behave(await object_of(request))
        return await self.behaviour(request)

    async def add_outage(self, request: web.Request) -> web.Response:
        """One outage more."""
        outage = await object_of(request)
        await self._sandbox.add_outage(str(outage.pop("kind", "")), **outage)
        return await self.behaviour(request)

    async def end_outages(self, request: web.Request) -> web.Response:
        """No outage from now on."""
        await self._sandbox.behave({"outages": []})
        return await self.behaviour(request)

    async def token(self, _: web.Request) -> web.Response:
        """The latest classic token, without a new one, and what a call with it would answer."""
        sandbox = self._sandbox
        errcode = sandbox.tokens.check(sandbox.token, sandbox.now())
        return as_json(
            {"token": sandbox.token, "errcode": errcode, "expires_in_s": sandbox.tokens.expires_in_s}
        )

    async def change_token(self, request: web.Request) -> web.Response:
        """Apply a `TokenChange`."""
        change = TokenChange.model_validate(await object_of(request))
        tokens, now = self._sandbox.tokens, self._sandbox.now()
        tokens.expires_in_s = change.expires_in_s or tokens.expires_in_s
        if change.expire:
            tokens.expire(now)
        if change.invalidate:
            tokens.invalidate(now)
        if change.renew:
            tokens.renew(now)
        return await self.token(request)

    async def follower(self, request: web.Request) -> web.Response:
        """What is known of one `openid`."""
        name = request.query.get("openid", "")
        if not name:
            raise ValueError("openid is missing")
        return as_json(self._describe(name))

    async def change_followers(self, request: web.Request) -> web.Response:
        """Apply a `FollowerChange`."""
        change = FollowerChange.model_validate(await object_of(request))
        followers, now = self._sandbox.followers, self._sandbox.now()
        for name in change.openids:
            row = followers.row(name, now)
            if change.interaction:
                followers.interact(row, change.interaction, now)
            if change.window == "closed":
                followers.close_window(row)
            if change.unfollow:
                followers.leave(row)
            for template_id, count in (change.consents or {}).items():
                self._sandbox.wechat.account.consents.give(row, template_id, count)
            if change.errcode is not None:
                followers.force(row, change.errcode)
        return as_json({"followers": [self._describe(name) for name in change.openids[:100]]})

    async def advance(self, request: web.Request) -> web.Response:
        """Let `advance_s` seconds pass."""
        seconds = (await object_of(request)).get("advance_s")
        if not isinstance(seconds, int | float) or seconds < 0:
            raise ValueError("advance_s must be a number from 0 on")
        await self._sandbox.advance(seconds)
        return as_json({"now": self._sandbox.now()})

    async def reset(self, request: web.Request) -> web.Response:
        """Everything as at the start."""
        await self._sandbox.reset()
        return await self.summary(request)

    def _describe(self, name: str) -> dict[str, object]:
        now = self._sandbox.now()
        row = self._sandbox.followers.row(name, now)
        consents = self._sandbox.wechat.account.consents.describe(row)
        return self._sandbox.followers.describe(row, now) | {"consents": consents}


def _delivery_lines(deliveries: Iterable[tuple[str, int]], form: str) -> Iterable[str]:
    if form == "tsv":
        yield from (f"{openid}\t{count}\n" for openid, count in deliveries)
        return
    pairs = ((orjson.dumps(openid).decode(), count) for openid, count in deliveries)
    if form == "lines":
        yield from (f'{{"openid":{openid},"count":{count}}}\n' for openid, count in pairs)
        return
    before = "{"
    for openid, count in pairs:
        yield f"{before}{openid}:{count}"
        before = ","
    yield "{}" if before == "{" else "}"
