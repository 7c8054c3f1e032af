"""The rates and numbers in flight of the accounts' channels: shown, and changed while jobs run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from broadcastd.delivery.accounts import Account
from broadcastd.delivery.lane import Lane
from broadcastd.refusals import ErrorCode, Refusal

log = structlog.get_logger()

Table = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Account to channel to what `lane_view` says of it."""


def lane_view(lane: Lane) -> dict[str, Any]:
    """A channel's present values."""
    return {
        "rate_per_s": lane.rate_per_s,
        "in_flight": lane.in_flight,
        "limit": lane.limit,
        "max_in_flight": lane.most,
        "state": lane.reason or "ok",
    }


@dataclass(frozen=True, slots=True)
class Wanted:
    """A change of rates: None leaves as it is."""

    account: str | None = None
    channel: str | None = None
    per_s: float | None = None
    """Infinite: unlimited."""
    in_flight: int | None = None
    """0: as many as the pool allows."""

    @property
    def is_change(self) -> bool:
        """Whether it asks for more than a look."""
        return self.per_s is not None or self.in_flight is not None


class Rates:
    """What is changed lasts until the next start: the settings keep it."""

    def __init__(self, accounts: Mapping[str, Account], most: int) -> None:
        self._accounts = accounts
        self._most = most

    def apply(self, wanted: Wanted) -> Table | Refusal:
        """Change what is asked for; the present values of the channels that are named."""
        refusal = self._why_not(wanted)
        if refusal is not None:
            return refusal
        found = list(self._named(wanted))
        if wanted.is_change:
            for account, lane in found:
                self._change(account, lane, wanted)
        table: dict[str, dict[str, dict[str, Any]]] = {}
        for account, lane in found:
            table.setdefault(account.name, {})[lane.channel] = lane_view(lane)
        return table

    def _named(self, wanted: Wanted) -> Iterator[tuple[Account, Lane]]:
        for name, account in self._accounts.items():
            if wanted.account in (None, name):
                for channel, lane in account.lanes.items():
                    if wanted.channel in (None, channel):
                        yield account, lane

    def _change(self, account: Account, lane: Lane, wanted: Wanted) -> None:
        rate = lane.rate_per_s if wanted.per_s is None else wanted.per_s
        most = lane.most if wanted.in_flight is None else wanted.in_flight or self._most
        lane.change(None if rate == float("inf") else rate, most)
        log.warning(
            "rate_changed",
            account=account.name,
            channel=lane.channel,
            rate_per_s=lane.rate_per_s,
            max_in_flight=lane.most,
        )

    def _why_not(self, wanted: Wanted) -> Refusal | None:
        names = ", ".join(sorted(self._accounts))
        if wanted.account is not None and wanted.account not in self._accounts:
            return Refusal(
                ErrorCode.UNKNOWN_ACCOUNT, f"unknown account {wanted.account!r}; accepted: {names}"
            )
        if wanted.is_change and wanted.account is None and len(self._accounts) > 1:
            return Refusal(ErrorCode.BAD_FRAME, f"account is missing: which one? accepted: {names}")
        if not any(True for _ in self._named(wanted)):
            known = {lane.channel for _, lane in self._named(Wanted(wanted.account))}
            return Refusal(
                ErrorCode.BAD_FRAME,
                f"channel: unknown {wanted.channel!r}; accepted: {', '.join(sorted(known))}",
            )
        if wanted.in_flight is not None and wanted.in_flight > self._most:
            return Refusal(
                ErrorCode.BAD_FRAME,
                f"in_flight: {wanted.in_flight} is more than all tasks have,"
                f" {self._most} (pool.tasks x pool.sends_per_task)",
            )
        return None
