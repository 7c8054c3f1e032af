"""Starts jobs at their time (`not_before`), and ends them at their deadline (`not_after`)."""

import asyncio
import heapq
import itertools
from datetime import datetime, timedelta

import structlog

from broadcastd import retry
from broadcastd.clock import Clock
from broadcastd.delivery.dispatcher import Dispatcher
from broadcastd.delivery.open_jobs import OpenJobs
from broadcastd.errors import LedgerUnavailableError
from broadcastd.model import Job
from broadcastd.ports import Ledger
from broadcastd.states import JobState

log = structlog.get_logger()

LONGEST_SLEEP = timedelta(seconds=30)
"""The wall clock may be set meanwhile."""


class Timekeeper:
    """`run` must be running. Jobs without times cost nothing here."""

    def __init__(self, ledger: Ledger, jobs: OpenJobs, dispatcher: Dispatcher, clock: Clock) -> None:
        self._ledger = ledger
        self._jobs = jobs
        self._dispatcher = dispatcher
        self._clock = clock
        self._starts: list[tuple[datetime, int]] = []
        self._deadlines: list[tuple[datetime, int, Job]] = []
        self._turn = itertools.count()
        self._more = asyncio.Event()
        jobs.watch(self._watch)

    def _watch(self, job: Job) -> None:
        if job.not_before is not None:
            heapq.heappush(self._starts, (job.not_before, job.no))
            if self._starts[0][1] == job.no:  # else whoever is first is waited for already
                self._more.set()
        if job.not_after is not None:
            heapq.heappush(self._deadlines, (job.not_after, next(self._turn), job))
            if self._deadlines[0][2] is job:
                self._more.set()

    async def run(self) -> None:
        """Watch the clock."""
        while True:
            self._more.clear()
            now = self._clock.now()
            await self._expire(now)
            self._start(now)
            heads = [heap[0][0] for heap in (self._starts, self._deadlines) if heap]
            pause = min([LONGEST_SLEEP, *(moment - now for moment in heads)])
            try:
                async with asyncio.timeout(max(0.0, pause.total_seconds())):
                    await self._more.wait()
            except TimeoutError:
                pass

    def _start(self, now: datetime) -> None:
        while self._starts and self._starts[0][0] <= now:
            _, job_no = heapq.heappop(self._starts)
            entry = self._jobs.get(job_no)
            if entry is not None and not entry.due:
                entry.due = True
                log.info("job_due", job=entry.job.id)
                self._jobs.goes_on(job_no)

    async def _expire(self, now: datetime) -> None:
        late: list[Job] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            job = heapq.heappop(self._deadlines)[-1]
            late.append(job)
            entry = self._jobs.get(job.no)
            # In memory first, of all of them: nobody is asked late because a commit takes its time.
            if entry is not None and entry.job.round.no == job.round.no:
                entry.state = JobState.EXPIRING
                self._dispatcher.stop_job(entry)
        for job in late:
            await self._expire_one(job)

    async def _expire_one(self, job: Job) -> None:
        tries = 0
        while True:
            try:
                present = await self._ledger.job(job.id)
                if present is None or present.round.no != job.round.no:
                    return  # a retry has given it another deadline
                reason = f"past its deadline, not_after {job.not_after:%Y-%m-%d %H:%M:%S} UTC"
                if await self._ledger.move(job.no, JobState.EXPIRING, reason):
                    log.warning("job_expiring", job=job.id, account=job.account)
                    self._jobs.changed(await self._ledger.job(job.id) or present)
                return
            except LedgerUnavailableError as error:
                tries += 1
                log.warning("deadline_not_written", job=job.id, error=str(error))
                await self._clock.sleep(retry.LEDGER.delay_s(tries))
