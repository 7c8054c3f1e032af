"""What an operator does to a job. Each is on disk when it returns, and may be repeated.

Each answers with the job as it is then. Calls of WeChat that are under way are let end; no new one begins.
"""

import asyncio
import dataclasses
from collections.abc import Collection
from datetime import datetime
from weakref import WeakValueDictionary

import structlog

from broadcastd.clock import Clock
from broadcastd.delivery.account_holds import AccountHolds
from broadcastd.delivery.closer import Closer
from broadcastd.delivery.dispatcher import Dispatcher
from broadcastd.delivery.open_jobs import OpenJobs
from broadcastd.model import TOO_MANY_GONE, HoldKind, Job
from broadcastd.outcomes import Outcome
from broadcastd.ports import Ledger
from broadcastd.refusals import ErrorCode, Refusal
from broadcastd.states import JOB_GOING, JobState, sources_of

log = structlog.get_logger()

CLOSES_WITHIN_S = 2.0
"""How long `cancel` waits for the calls under way, so that most answers are the last word."""


class Controls:
    """Changes of one job come one after the other, however many ask at once."""

    def __init__(
        self,
        ledger: Ledger,
        jobs: OpenJobs,
        dispatcher: Dispatcher,
        closer: Closer,
        account_holds: AccountHolds,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._jobs = jobs
        self._dispatcher = dispatcher
        self._closer = closer
        self._account_holds = account_holds
        self._clock = clock
        self._turns: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()

    async def pause(self, job: Job) -> Job | Refusal:
        """Ask nobody more of a job until it is resumed."""
        return await self._stop(job, JobState.PAUSED, "pause", (JobState.PAUSED,))

    async def cancel(self, job: Job) -> Job | Refusal:
        """End a job: who is left is `skipped`, who may have been reached `unknown`."""
        cancelled = (JobState.CANCELLING, JobState.CANCELLED)
        found = await self._stop(job, JobState.CANCELLING, "cancel", cancelled)
        if isinstance(found, Refusal) or found.state is not JobState.CANCELLING:
            return found
        await self._closer.wait_ended(job.no, CLOSES_WITHIN_S)
        return await self._present(job)

    async def _stop(
        self, job: Job, target: JobState, verb: str, already: Collection[JobState]
    ) -> Job | Refusal:
        async with self._turn(job):
            job = self._aligned(await self._present(job))
            if job.state in already:
                return job
            if job.state not in sources_of(target):
                return _wrong_state(job, f"there is nothing to {verb}")
            moved = await self._ledger.move(job.no, target, _by_an_operator(target, job))
            if moved:
                self._aligned(dataclasses.replace(job, state=target))
            job = self._aligned(await self._present(job))
            if not moved and job.state not in already:  # it ended between the two looks
                return _wrong_state(job, f"there is nothing to {verb}")
            log.warning(f"job_{target.value}", job=job.id, account=job.account)
            return job

    def _aligned(self, job: Job) -> Job:
        """Have the memory agree with the ledger, whatever became of an earlier answer."""
        self._jobs.changed(job)
        entry = self._jobs.get(job.no)
        if entry is not None and job.state not in JOB_GOING:
            self._dispatcher.stop_job(entry)
        return job

    async def resume(self, job: Job) -> Job | Refusal:
        """Let a held or paused job go on. Of one that was held for it, whoever is gone may be skipped."""
        async with self._turn(job):
            job = await self._present(job)
            if job.state in JOB_GOING:
                return job
            if job.state not in (JobState.HELD, JobState.PAUSED):
                return _wrong_state(job, "there is nothing to resume")
            if self._ledger.copied:
                return _wrong_state(job, self._ledger.copied)
            # Who lets a job go on that was held for a quota has not said that its recipients may be gone.
            gone_allowed = job.state is JobState.HELD and job.reason.endswith(TOO_MANY_GONE)
            account_too = job.hold.kind is HoldKind.ACCOUNT
            await self._ledger.resume(job.no)
            job = self._aligned(await self._present(job))
            log.info("job_resumed", job=job.id, account=job.account)
            await self._go_on(job, gone_allowed=gone_allowed, account_too=account_too)
            return await self._present(job)

    async def _go_on(self, job: Job, *, gone_allowed: bool, account_too: bool = False) -> None:
        entry = self._jobs.get(job.no)
        if entry is None:
            return  # its account is not in the settings
        entry.gone_allowed |= gone_allowed
        # Whoever lets a job go on says that what held it is mended: one call tries.
        for name in job.channels:
            entry.account.lanes[name].try_now()
        if entry.account.hold is not None or account_too:
            await self._account_holds.let_go(entry.account, entry.account.held_for)
        self._jobs.goes_on(job.no)
        await self._jobs.finish(entry)

    async def retry(
        self, job: Job, only: Collection[Outcome], round_no: int | None, not_after: datetime | None
    ) -> Job | Refusal:
        """Begin a new round of a job that has ended, for those that ended so."""
        async with self._turn(job):
            job = await self._present(job)
            wanted = round_no or job.round.no + 1
            if wanted <= job.round.no:  # a repeat, whose first answer may have come too late
                self._jobs.add(job)
                return job
            refusal = self._may_retry(job, only, wanted, not_after)
            if refusal is not None:
                return refusal
            deadline = not_after or job.not_after
            now = self._clock.now()
            begun = await self._ledger.retry(job.no, wanted, only, now, deadline)
            job = await self._present(job)
            # A commit that was given up waiting for may have come between the two looks.
            if not begun and job.round.no != wanted:
                return _wrong_state(job, "it has changed meanwhile; look again")
            log.info("job_retried", job=job.id, account=job.account, round=wanted, only=sorted(only))
            self._jobs.add(job)
            return job

    def _may_retry(
        self, job: Job, only: Collection[Outcome], wanted: int, not_after: datetime | None
    ) -> Refusal | None:
        now = self._clock.now()
        if not_after is not None and not_after <= now:
            return Refusal(ErrorCode.BAD_FRAME, f"not_after: {not_after.isoformat()} has passed")
        why = ""
        if not job.state.is_terminal:
            why = "only one that has ended can be retried"
        elif wanted > job.round.no + 1:
            why = f"its next round is {job.round.no + 1}, not {wanted}"
        elif job.purged_at is not None:
            why = "its recipients are no longer kept (ledger.keep_days)"
        elif not any(job.books.outcomes.get(one) for one in only):
            why = f"none of its recipients is {' or '.join(sorted(only))}"
        elif not_after is None and job.not_after is not None and job.not_after <= now:
            why = "its deadline has passed: give it a new `not_after`"
        elif self._ledger.copied:
            why = self._ledger.copied
        return _wrong_state(job, why) if why else None

    async def adopt(self) -> int:
        """Take a copied or restored ledger for the true one; how many jobs go on."""
        released = await self._ledger.adopt()
        log.warning("ledger_adopted", jobs=released)
        for entry in self._jobs:
            present = await self._present(entry.job)
            if present.state is not entry.state:
                self._aligned(present)
                await self._go_on(present, gone_allowed=False)
        return released

    def _turn(self, job: Job) -> asyncio.Lock:
        return self._turns.setdefault(job.no, asyncio.Lock())

    async def _present(self, job: Job) -> Job:
        return await self._ledger.job(job.id) or job


def _by_an_operator(target: JobState, job: Job) -> str:
    reason = f"{'paused' if target is JobState.PAUSED else 'cancelled'} by an operator"
    if job.state is JobState.PAUSED:
        return f"{reason}; before that {job.reason}"
    return f"{reason}; before that {job.state.value}: {job.reason}" if job.reason else reason


def _wrong_state(job: Job, why: str) -> Refusal:
    return Refusal(
        ErrorCode.WRONG_STATE, f"job {job.id} is {job.state.value}: {why}", job.id, job.state.value
    )
