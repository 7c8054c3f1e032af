"""Builds the callbacks of all accounts that have one, from the settings.

What serves them (XML, an HTTP server) is imported only where there is one: 2 MB.
"""

import contextlib
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from broadcastd.audiences.engine import Database
from broadcastd.audiences.registry import SqlRegistry
from broadcastd.callback_settings import PREFIX, AccountCallbackSettings, CallbackSettings
from broadcastd.clock import Clock
from broadcastd.delivery.applier import Applier
from broadcastd.delivery.opt_outs import OptOuts
from broadcastd.delivery.reception import Receiver, Reception
from broadcastd.ports import Ledger
from broadcastd.pushes import NewPush, Word
from broadcastd.settings import AccountSettings

if TYPE_CHECKING:
    from broadcastd.callback.endpoint import Endpoint


def opt_outs_of(settings: AccountSettings, clock: Clock) -> OptOuts | None:
    """What the sender looks at; None for an account without a callback."""
    if settings.callback is None:
        return None
    return OptOuts(clock, lasting=not settings.callback.opt_out_sql)


@dataclass(frozen=True, slots=True)
class Site:
    """One account's own side: what of it a callback needs."""

    settings: AccountSettings
    database: Database
    """One that takes changes."""
    opt_outs: OptOuts


@dataclass(slots=True)
class Callbacks:
    """All of them. Nothing listens where no account has one."""

    endpoints: "list[Endpoint]" = field(default_factory=list)
    appliers: dict[str, Applier] = field(default_factory=dict)
    reception: Reception | None = None

    async def restore(self) -> None:
        """Before anything is sent."""
        for applier in self.appliers.values():
            await applier.restore()

    def loops(self) -> Mapping[str, Coroutine[Any, Any, None]]:
        """Background coroutines, by name."""
        if self.reception is None:
            return {}
        appliers = {f"applier of {name}": one.run() for name, one in self.appliers.items()}
        return {"reception": self.reception.run(), **appliers}

    def listening(self, settings: CallbackSettings) -> contextlib.AbstractAsyncContextManager[Any]:
        """The listener, to be entered."""
        if not self.endpoints:
            return contextlib.nullcontext()
        from broadcastd.callback.listener import Listener  # noqa: PLC0415 - see the module's docstring

        return Listener(settings, self.endpoints)

    def view(self, account: str) -> dict[str, Any] | None:
        """How an account's callback is, for `info`; None: it has none."""
        if account not in self.appliers:
            return None
        endpoint = next(one for one in self.endpoints if one.account == account)
        applier = self.appliers[account]
        return {
            "path": f"{PREFIX}{account}",
            "received": endpoint.received,
            "refused": endpoint.refused,
            "applied": applier.applied,
            "waiting": applier.waiting,
            "site": applier.trouble or "ok",
            "forward_failures": 0 if endpoint.forwarder is None else endpoint.forwarder.failures,
        }


def build(
    sites: Mapping[str, Site], ledger: Ledger, clock: Clock, stack: contextlib.AsyncExitStack
) -> Callbacks:
    """The callbacks of these accounts. `stack` closes what they open."""
    built = Callbacks()
    receivers = {}
    for name, site in sites.items():
        settings = _callback(site)
        registry = SqlRegistry(site.database, settings)
        applier = built.appliers[name] = Applier(name, registry, ledger, site.opt_outs, clock)
        receivers[name] = Receiver(_words(settings), registry.kinds, site.opt_outs, _wakes(applier))
    if not receivers:
        return built
    built.reception = Reception(ledger, receivers, clock)
    for name, site in sites.items():
        built.endpoints.append(_endpoint(name, site, built.reception, clock, stack))
    return built


def _endpoint(
    name: str, site: Site, reception: Reception, clock: Clock, stack: contextlib.AsyncExitStack
) -> "Endpoint":
    from broadcastd.callback.endpoint import Endpoint  # noqa: PLC0415 - see the module's docstring
    from broadcastd.callback.envelope import Envelope  # noqa: PLC0415
    from broadcastd.callback.forwarding import Forwarder  # noqa: PLC0415

    settings = _callback(site)
    forwarder = None
    if settings.forward_to is not None:
        forwarder = Forwarder(settings.forward_to.get_secret_value(), settings.forward_timeout_s, name)
        stack.push_async_callback(forwarder.close)
    envelope = Envelope(settings, site.settings.app_id)
    replies = {Word.OPT_OUT: settings.opt_out_reply, Word.OPT_IN: settings.opt_in_reply}
    return Endpoint(name, envelope, replies, reception, clock, forwarder)


def _callback(site: Site) -> AccountCallbackSettings:
    assert site.settings.callback is not None
    return site.settings.callback


def _words(settings: AccountCallbackSettings) -> Mapping[str, Word]:
    out = dict.fromkeys(settings.opt_out_words, Word.OPT_OUT)
    return {**out, **dict.fromkeys(settings.opt_in_words, Word.OPT_IN)}


def _wakes(applier: Applier) -> Any:
    def heard(push: NewPush) -> None:
        if push.waits:
            applier.wake()

    return heard
