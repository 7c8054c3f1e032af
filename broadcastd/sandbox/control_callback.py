"""The control of quotas, of what becomes of messages, of the callback, and of what followers do."""

from typing import TYPE_CHECKING, Any

from aiohttp import web

from broadcastd.sandbox.asking import as_json, number_of, object_of
from broadcastd.sandbox.pushes import KEPT

if TYPE_CHECKING:
    from broadcastd.sandbox.server import Sandbox


def callback_routes(sandbox: "Sandbox") -> list[web.RouteDef]:
    """The routes of this part."""
    control = _CallbackControl(sandbox)
    return [
        web.get("/sandbox/quotas", control.quotas),
        web.post("/sandbox/quotas", control.change_quotas),
        web.get("/sandbox/results", control.results),
        web.post("/sandbox/results", control.change_results),
        web.get("/sandbox/callback", control.callback),
        web.post("/sandbox/callback", control.change_callback),
        web.post("/sandbox/callback/verify", control.verify),
        web.post("/sandbox/acts", control.act),
        web.get("/sandbox/pushes", control.pushes),
    ]


class _CallbackControl:
    """The handlers, one a route."""

    def __init__(self, sandbox: "Sandbox") -> None:
        self._sandbox = sandbox

    async def quotas(self, _: web.Request) -> web.Response:
        """Limits and calls of today, and the resets that are left."""
        return as_json(self._sandbox.wechat.account.quotas.describe(self._sandbox.now()))

    async def change_quotas(self, request: web.Request) -> web.Response:
        """Endpoint, path or `all` to a `QuotaSpec` or a number of calls a day; 0 is no limit."""
        quotas = self._sandbox.wechat.account.quotas
        quotas.change(await object_of(request), self._sandbox.now())
        return await self.quotas(request)

    async def results(self, _: web.Request) -> web.Response:
        """What becomes of accepted messages."""
        return as_json(self._sandbox.wechat.account.results.describe())

    async def change_results(self, request: web.Request) -> web.Response:
        """Apply a `ResultsChange`."""
        self._sandbox.wechat.account.results.change(await object_of(request))
        return await self.results(request)

    async def callback(self, _: web.Request) -> web.Response:
        """Where pushes go, and their totals."""
        return as_json(self._describe())

    async def change_callback(self, request: web.Request) -> web.Response:
        """Apply a `CallbackSpec`; what is not named stays."""
        self._sandbox.change_callback(await object_of(request))
        return as_json(self._describe())

    async def verify(self, _: web.Request) -> web.Response:
        """Ask the callback as WeChat does when its URL is entered."""
        return as_json(await self._sandbox.pusher.verify())

    async def act(self, request: web.Request) -> web.Response:
        """Followers do something (an `Act`); the numbers of the pushes that follow."""
        pushes = self._sandbox.act(await object_of(request))
        return as_json({"pushes": [push.number for push in pushes]})

    async def pushes(self, request: web.Request) -> web.Response:
        """The pushes from number `since` on, of one `openid` or `kind` if named; 20,000 are kept."""
        since, limit = int(number_of(request, "since", 0)), int(number_of(request, "limit", 1000))
        wanted = {name: request.query.get(name, "") for name in ("openid", "kind")}
        found = self._sandbox.pusher.find(since, min(limit, KEPT), **wanted)
        following = found[-1]["number"] + 1 if found else since
        return as_json({"pushes": found, "next": following, **self._sandbox.pusher.totals.describe()})

    def _describe(self) -> dict[str, Any]:
        pusher = self._sandbox.pusher
        return pusher.callback.spec.model_dump() | pusher.totals.describe()
