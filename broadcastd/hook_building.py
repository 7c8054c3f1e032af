"""Builds what tells each account's site of its jobs that have ended, from the settings.

Apart from the hooks themselves, since one lives with the site's database.
"""

import contextlib
from collections.abc import Mapping
from zoneinfo import ZoneInfo

from broadcastd.audiences.engine import open_database
from broadcastd.audiences.finish_statement import FinishStatement
from broadcastd.clock import Clock
from broadcastd.delivery.finish_hooks import FinishHooks
from broadcastd.hook_ports import FinishHook, TellingLedger
from broadcastd.hooks.webhook import Webhook
from broadcastd.notices import Notices
from broadcastd.settings import AccountSettings, Settings


def build(
    settings: Settings,
    ledger: TellingLedger,
    notices: Notices,
    clock: Clock,
    stack: contextlib.AsyncExitStack,
) -> Mapping[str, FinishHooks]:
    """By account, of those that have one. `stack` closes what they open."""
    return {
        name: FinishHooks(name, hooks, ledger, notices, clock)
        for name, account in settings.accounts.items()
        if (hooks := _hooks(account, stack))
    }


def _hooks(account: AccountSettings, stack: contextlib.AsyncExitStack) -> list[FinishHook]:
    hooks: list[FinishHook] = []
    if account.finished is None:
        return hooks
    if account.finished.sql:
        database = open_database(account.audience.model_copy(update={"pool_size": 1}), writable=True)
        stack.push_async_callback(database.close)
        hooks.append(FinishStatement(database, account.finished.sql, ZoneInfo(account.timezone)))
    if account.finished.url is not None:
        webhook = Webhook(account.finished)
        stack.push_async_callback(webhook.close)
        hooks.append(webhook)
    return hooks
