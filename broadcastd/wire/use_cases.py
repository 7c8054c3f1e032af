"""What the ops call, and what several of them need."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from broadcastd.access import EVERYTHING, Access
from broadcastd.clock import Clock
from broadcastd.delivery.canary import Canary
from broadcastd.delivery.controls import Controls
from broadcastd.delivery.intake import Intake
from broadcastd.delivery.open_jobs import OpenJobs
from broadcastd.delivery.quota_table import QuotaTable
from broadcastd.delivery.rates import Rates
from broadcastd.delivery.status import Status
from broadcastd.life import Life
from broadcastd.model import Job
from broadcastd.notices import Notices
from broadcastd.ports import Ledger
from broadcastd.refusals import ErrorCode, Refusal
from broadcastd.wire.frames import Frame, Name
from broadcastd.wire.views import Reply, job_line, job_view

Lines = AsyncIterator[Reply | Refusal | Sequence[Reply]]
"""Of an op that answers with many lines; several may come at once."""
Replies = Reply | Refusal | Lines


@dataclass(frozen=True, slots=True)
class UseCases:
    """What the ops call, on behalf of one caller."""

    intake: Intake
    ledger: Ledger
    jobs: OpenJobs
    controls: Controls
    rates: Rates
    quotas: QuotaTable
    status: Status
    canary: Canary
    clock: Clock
    life: Life
    notices: Notices
    access: Access = EVERYTHING

    async def find(self, job_id: str) -> Job | Refusal:
        """A job by its id. One of an account that the caller may not know of is not there for it."""
        found = await self.ledger.job(job_id)
        if found is None or not self.access.covers(found.account):
            return Refusal(ErrorCode.UNKNOWN_JOB, f"no job {job_id!r} in the ledger")
        return found

    async def listed(self, limit: int, *, only_open: bool, account: str | None) -> Sequence[Job] | Refusal:
        """As `Ledger.jobs`, of the accounts that the caller may know of."""
        if self.access.accounts is None or account is not None:
            refusal = account and self.not_covered(account)
            return refusal or await self.ledger.jobs(limit, only_open=only_open, account=account)
        found: list[Job] = []
        for name in self.access.accounts:
            found += await self.ledger.jobs(limit, only_open=only_open, account=name)
        return sorted(found, key=lambda job: job.no, reverse=not only_open)[:limit]

    def not_covered(self, account: str) -> Refusal | None:
        """Why the caller may not know of an account; None when it may."""
        if self.access.covers(account):
            return None
        return Refusal(
            ErrorCode.FORBIDDEN, f"the token {self.access.name!r} is not for account {account[:40]!r}"
        )

    def named(self, account: str | None) -> str | Refusal | None:
        """The account that an op is about, None for all; of a caller for one account, that one."""
        accounts = self.access.accounts
        if account is not None:
            return self.not_covered(account) or account
        if accounts is None:
            return None
        if len(accounts) == 1:
            return next(iter(accounts))
        return Refusal(ErrorCode.BAD_FRAME, f"account is missing; accepted: {', '.join(sorted(accounts))}")

    def whole(self, job: Job) -> Reply:
        """A job as an answer."""
        return {"ok": True, **job_view(job, self.jobs.get(job.no), self.ledger.trouble)}

    def line(self, job: Job) -> Reply:
        """A job in a list."""
        return job_line(job, self.jobs.get(job.no), self.ledger.trouble)


class OpFrame(Frame):
    """`{"op": …}`."""

    op: str


class JobFrame(OpFrame):
    """An op on one job."""

    job: Name
