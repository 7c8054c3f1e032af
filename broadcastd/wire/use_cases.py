"""What the ops call, and what several of them need."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from broadcastd.clock import Clock
from broadcastd.delivery.controls import Controls
from broadcastd.delivery.intake import Intake
from broadcastd.delivery.open_jobs import OpenJobs
from broadcastd.delivery.quota_table import QuotaTable
from broadcastd.delivery.rates import Rates
from broadcastd.delivery.status import Status
from broadcastd.life import Life
from broadcastd.model import Job
from broadcastd.ports import Ledger
from broadcastd.refusals import ErrorCode, Refusal
from broadcastd.wire.frames import Frame, Name
from broadcastd.wire.views import Reply, job_line, job_view

Lines = AsyncIterator[Reply | Refusal | Sequence[Reply]]
"""Of an op that answers with many lines; several may come at once."""


@dataclass(frozen=True, slots=True)
class ToTheEnd:
    """Lines that go on while the daemon drains: their connection is the last to be hung up."""

    lines: Lines


Replies = Reply | Refusal | Lines | ToTheEnd


@dataclass(frozen=True, slots=True)
class UseCases:
    """What the ops call."""

    intake: Intake
    ledger: Ledger
    jobs: OpenJobs
    controls: Controls
    rates: Rates
    quotas: QuotaTable
    status: Status
    clock: Clock
    life: Life

    async def find(self, job_id: str) -> Job | Refusal:
        """A job by its id."""
        found = await self.ledger.job(job_id)
        return found or Refusal(ErrorCode.UNKNOWN_JOB, f"no job {job_id!r} in the ledger")

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
