"""Holds all jobs of an account that is in trouble at WeChat, and tries it again now and then.

The hold is on disk, as each job's own: a restart changes nothing. A try is one call (the gate is ajar): its
errcode says that nothing was sent, so it costs nobody anything.
"""

from datetime import timedelta

import structlog

from broadcastd.clock import Clock
from broadcastd.delivery.accounts import Account, OpenJob
from broadcastd.delivery.dispatcher import Dispatcher
from broadcastd.delivery.open_jobs import OpenJobs
from broadcastd.errors import LedgerUnavailableError
from broadcastd.model import Hold, HoldKind
from broadcastd.notices import Notice, NoticeKind, Notices
from broadcastd.ports import Ledger
from broadcastd.states import JobState

log = structlog.get_logger()

LOOK_S = 1.0
"""How often it looks whether a hold is over, and whether a new job belongs to an account that is held."""


class AccountHolds:
    """`run` must be running."""

    def __init__(
        self, ledger: Ledger, jobs: OpenJobs, dispatcher: Dispatcher, clock: Clock, notices: Notices
    ) -> None:
        self._ledger = ledger
        self._jobs = jobs
        self._dispatcher = dispatcher
        self._clock = clock
        self._notices = notices
        self._told: dict[str, Account] = {}
        """Whose trouble an operator knows of."""

    def restore(self) -> None:
        """After a start: what the ledger's jobs are held for is their accounts' trouble still."""
        now = self._clock.now()
        for entry in self._jobs:
            until = entry.job.hold.until
            if _is_held_so(entry) and until is not None and until > now:
                account = entry.account
                account.hold = entry.job.hold
                account.held_for = entry.job.reason.removeprefix(_prefix(account))
                account.gate.close((until - now).total_seconds(), account.held_for)
                self._tell(account, (until - now).total_seconds(), known=True)

    async def hold(self, account: Account, reason: str, for_s: float) -> None:
        """Hold the account's jobs until it is tried again. What is said twice is done once."""
        now = self._clock.now()
        if not account.is_held(now):
            log.error("account_held", account=account.name, reason=reason, tried_again_in_s=round(for_s))
        account.hold = Hold(HoldKind.ACCOUNT, now + timedelta(seconds=for_s))
        account.held_for = reason
        self._tell(account, for_s)
        account.gate.close(for_s, reason)
        for entry in self._jobs:
            if entry.account is account:
                await self._hold_one(entry)

    async def halt(self, job: OpenJob, reason: str, account_for_s: float | None = None) -> None:
        """Hold a job; with `account_for_s`, all jobs of its account, until they are tried again."""
        self._dispatcher.stop_job(job)
        try:
            if account_for_s is not None:
                await self.hold(job.account, reason, account_for_s)
            else:
                await self._jobs.hold(job, reason)
        except LedgerUnavailableError as error:
            # Held in memory all the same; after a restart its first trouble holds it again.
            log.warning("hold_not_durable", job=job.job.id, error=str(error))

    async def let_go(self, account: Account, reason: str) -> None:
        """Let the account's jobs go on, with one call first."""
        account.hold = None
        account.tried_again += 1
        account.streaks.begin_anew()
        account.gate.set_ajar(reason)
        account.tokens.ask_again()
        log.info("account_tried_again", account=account.name, reason=reason)
        for entry in self._jobs:
            if entry.account is account and _is_held_so(entry) and await self._ledger.resume(entry.no):
                present = await self._ledger.job(entry.job.id)
                if present is not None:
                    self._jobs.changed(present)
                    self._jobs.goes_on(entry.no)
                    await self._jobs.finish(entry)

    async def run(self) -> None:
        """Watch the clock."""
        while True:
            await self._clock.sleep(LOOK_S)
            try:
                await self._look()
            except LedgerUnavailableError as error:
                log.warning("holds_not_looked_after", error=str(error))

    async def _look(self) -> None:
        now = self._clock.now()
        for entry in self._jobs:
            until = entry.job.hold.until
            if _is_held_so(entry) and until is not None and until <= now and not entry.account.is_held(now):
                await self.let_go(entry.account, entry.job.reason)
            elif entry.going and entry.account.is_held(now):
                await self._hold_one(entry)
        for account in list(self._told.values()):
            # Let go, and a call has been answered since.
            if not account.is_held(now) and not account.gate.reason:
                del self._told[account.name]
                self._notices.tell(Notice(NoticeKind.ACCOUNT_HELD, account.name, over=True))

    def _tell(self, account: Account, for_s: float, *, known: bool = False) -> None:
        self._told[account.name] = account
        facts: dict[str, str | int] = {
            "account": account.name, "reason": account.held_for, "tried_again_in_s": round(for_s)
        }  # fmt: skip
        self._notices.tell(Notice(NoticeKind.ACCOUNT_HELD, account.name, facts, known=known))

    async def _hold_one(self, entry: OpenJob) -> None:
        account = entry.account
        if account.hold is None or not entry.going:
            return
        self._dispatcher.stop_job(entry)
        await self._jobs.hold(entry, f"{_prefix(account)}{account.held_for}", account.hold)


def _prefix(account: Account) -> str:
    return f"account {account.name}: "


def _is_held_so(entry: OpenJob) -> bool:
    return entry.state is JobState.HELD and entry.job.hold.kind is HoldKind.ACCOUNT
