"""The control: what a test or a person asks of a running sandbox, as JSON over HTTP under /sandbox/."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from broadcastd.sandbox.followers import Interaction

if TYPE_CHECKING:
    from broadcastd.sandbox.server import Sandbox

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
# Deliveries are streamed so many lines at a time: a million of them are 30 MB.
_LINES_AT_ONCE = 1000
_MAX_CALLS = 100_000
# Of a query: keeps "inf" and the like out of int(), and times of this century in.
_MAX_NUMBER = float((1 << 32) - 1)


class TokenChange(BaseModel):
    """What to do to the tokens, in this order."""

    model_config = ConfigDict(extra="forbid")
    expires_in_s: int | None = Field(None, ge=1)
    expire: bool = False
    invalidate: bool = False
    renew: bool = False


class FollowerChange(BaseModel):
    """What followers do, or what happens to them. `errcode` answers every send to them; 0 ends it."""

    model_config = ConfigDict(extra="forbid")
    openids: list[str] = Field(min_length=1)
    interaction: Interaction | None = None
    window: Literal["closed"] | None = None
    unfollow: bool = False
    errcode: int | None = None


def control_app(sandbox: "Sandbox") -> web.Application:
    """The control of `sandbox`."""
    control = _Control(sandbox)
    app = web.Application(middlewares=[_answer_errors], client_max_size=64 << 20)
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
    return app


@web.middleware
async def _answer_errors(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ConnectionError:
        # The caller had enough in the middle of a stream: what is returned goes nowhere.
        return web.Response()
    except ValidationError as error:
        first = error.errors()[0]
        return _json({"error": f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"}, 400)
    except ValueError as error:
        return _json({"error": str(error)}, 400)


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


async def _object(request: web.Request) -> dict[str, Any]:
    try:
        value = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise ValueError(f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError("the body must be a JSON object")  # noqa: TRY004  # the caller's mistake
    return value


def _number(request: web.Request, name: str, default: float) -> float:
    text = request.query.get(name)
    try:
        number = default if text is None else float(text)
    except ValueError:
        number = -1.0
    # Also false for "nan".
    if not 0 <= number <= _MAX_NUMBER:
        raise ValueError(f"{name} must be a number from 0 on, not {text}")
    return number


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
        return _json(
            {**self._sandbox.address(), "routes": sorted(route for route in routes if "HEAD" not in route)}
        )

    async def summary(self, _: web.Request) -> web.Response:
        """Totals."""
        return _json(self._sandbox.summary())

    async def calls(self, request: web.Request) -> web.Response:
        """The calls from number `since` on, of one `openid` if named; `next` goes on from there."""
        since = int(_number(request, "since", 0))
        limit = min(int(_number(request, "limit", 1000)), _MAX_CALLS)
        found = self._sandbox.calls(request.query.get("openid"), since, limit)
        following = found[-1]["number"] + 1 if found else since
        return _json({"calls": found, "next": following, "total": len(self._sandbox.record)})

    async def answered(self, request: web.Request) -> web.Response:
        """How many calls were answered from `since` to `until`, in seconds since 1970."""
        since, until = _number(request, "since", 0), _number(request, "until", _MAX_NUMBER)
        return _json({"answered": self._sandbox.record.answered(since, until)})

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
        """Answer once so many `calls` came, so many were `delivered`, and the port is open if `listening=1`.

        Or after `timeout_s`, with `reached` false.
        """
        calls, delivered = int(_number(request, "calls", 0)), int(_number(request, "delivered", 0))
        reached = True
        try:
            async with asyncio.timeout(_number(request, "timeout_s", 60)):
                await self._sandbox.wait_for(calls, delivered, _number(request, "listening", 0) > 0)
        except TimeoutError:
            reached = False
        sandbox = self._sandbox
        return _json(
            {
                "reached": reached,
                "calls": len(sandbox.record),
                "delivered": sandbox.record.deliveries.total,
                "listening": sandbox.listening,
            }
        )

    async def behaviour(self, _: web.Request) -> web.Response:
        """The present behaviour."""
        sandbox = self._sandbox
        return _json({**sandbox.behaviour.describe(sandbox.now()), "listening": sandbox.listening})

    async def behave(self, request: web.Request) -> web.Response:
        """Apply a `behaviour.Change`."""
        await self._sandbox.behave(await _object(request))
        return await self.behaviour(request)

    async def add_outage(self, request: web.Request) -> web.Response:
        """One outage more."""
        outage = await _object(request)
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
        return _json(
            {"token": sandbox.token, "errcode": errcode, "expires_in_s": sandbox.tokens.expires_in_s}
        )

    async def change_token(self, request: web.Request) -> web.Response:
        """Apply a `TokenChange`."""
        change = TokenChange.model_validate(await _object(request))
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
        return _json(self._describe(name))

    async def change_followers(self, request: web.Request) -> web.Response:
        """Apply a `FollowerChange`."""
        change = FollowerChange.model_validate(await _object(request))
        followers, now = self._sandbox.followers, self._sandbox.now()
        for name in change.openids:
            row = followers.row(name, now)
            if change.interaction:
                followers.interact(row, change.interaction, now)
            if change.window == "closed":
                followers.close_window(row)
            if change.unfollow:
                followers.leave(row)
            if change.errcode is not None:
                followers.force(row, change.errcode)
        return _json({"followers": [self._describe(name) for name in change.openids[:100]]})

    async def advance(self, request: web.Request) -> web.Response:
        """Let `advance_s` seconds pass."""
        seconds = (await _object(request)).get("advance_s")
        if not isinstance(seconds, int | float) or seconds < 0:
            raise ValueError("advance_s must be a number from 0 on")
        await self._sandbox.advance(seconds)
        return _json({"now": self._sandbox.now()})

    async def reset(self, request: web.Request) -> web.Response:
        """Everything as at the start."""
        await self._sandbox.reset()
        return await self.summary(request)

    def _describe(self, name: str) -> dict[str, object]:
        now = self._sandbox.now()
        return self._sandbox.followers.describe(self._sandbox.followers.row(name, now), now)


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
