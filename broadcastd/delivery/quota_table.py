"""What an operator sees and does about quotas: the table of an account, and its reset."""

from collections.abc import Mapping
from dataclasses import dataclass

from broadcastd.delivery.forecast import Seen
from broadcastd.delivery.quota_watch import QuotaWatch
from broadcastd.delivery.quotas import Trouble
from broadcastd.refusals import ErrorCode, Refusal


@dataclass(frozen=True, slots=True)
class QuotaRow:
    """One channel of an account."""

    account: str
    channel: str
    path: str
    seen: Seen | None
    """The last figures."""
    error: str
    """Why there are no newer ones; empty when they are of now."""
    held: str
    """Why it takes no calls; empty when it does."""


class QuotaTable:
    """Of all accounts."""

    def __init__(self, watches: Mapping[str, QuotaWatch]) -> None:
        self._watches = watches

    async def rows(self, account: str) -> list[QuotaRow] | Refusal:
        """Ask WeChat, a row a channel."""
        watch = self._watch(account)
        if isinstance(watch, Refusal):
            return watch
        quotas = watch.quotas
        rows = []
        for name, channel in quotas.account.channels.items():
            found = await quotas.look(name)
            error = found.words if isinstance(found, Trouble) else ""
            held = quotas.account.lanes[name].reason
            rows.append(QuotaRow(account, name, channel.path, quotas.seen.get(name), error, held))
        return rows

    async def clear(self, account: str) -> Refusal | None:
        """Have WeChat reset the account's calls of the day, then let go on what waits for them."""
        watch = self._watch(account)
        if isinstance(watch, Refusal):
            return watch
        if not watch.quotas.source.has_app_id:
            return Refusal(ErrorCode.WRONG_STATE, f"accounts.{account}.app_id is not in the settings")
        trouble = await watch.quotas.clear()
        if trouble is not None:
            return Refusal(ErrorCode.WECHAT_REFUSED, f"the quota was not reset: {trouble.words}")
        for channel in watch.quotas.account.channels:
            await watch.goes_on(channel)
        return None

    @property
    def accounts(self) -> list[str]:
        """Their names."""
        return list(self._watches)

    def _watch(self, account: str) -> QuotaWatch | Refusal:
        known = ", ".join(sorted(self._watches))
        return self._watches.get(account) or Refusal(
            ErrorCode.UNKNOWN_ACCOUNT, f"unknown account {account!r}; accepted: {known}"
        )
