"""The ops on what WeChat allows a day: its table, and its reset."""

import asyncio
from typing import Any

from broadcastd.refusals import Refusal
from broadcastd.wire.frames import Name, check
from broadcastd.wire.use_cases import OpFrame, Replies, UseCases
from broadcastd.wire.views import quota_view


class QuotaFrame(OpFrame):
    """Of one account, or of all."""

    account: Name | None = None


class ClearQuotaFrame(OpFrame):
    """Of one account."""

    account: Name = "default"


async def quota(use: UseCases, fields: dict[str, Any]) -> Replies:
    """What WeChat says is left, channel by channel."""
    frame = check(QuotaFrame, fields)
    if isinstance(frame, Refusal):
        return frame
    account = use.named(frame.account)
    if isinstance(account, Refusal):
        return account
    names = use.quotas.accounts if account is None else [account]
    accounts: dict[str, Any] = {}
    # At once: one account's trouble must not keep another's figures back.
    for name, rows in zip(names, await asyncio.gather(*map(use.quotas.rows, names)), strict=True):
        if isinstance(rows, Refusal):
            return rows
        accounts[name] = {"channels": {row.channel: quota_view(row) for row in rows}}
    return {"ok": True, "op": "quota", "accounts": accounts}


async def clear_quota(use: UseCases, fields: dict[str, Any]) -> Replies:
    """Have WeChat forget the day's calls: it allows that 10 times a month."""
    frame = check(ClearQuotaFrame, fields)
    if isinstance(frame, Refusal):
        return frame
    refusal = use.not_covered(frame.account) or await use.quotas.clear(frame.account)
    return refusal or {"ok": True, "op": "clear_quota", "account": frame.account}
