"""Freezes a job's audience in one pass, committing slices as it reads.

It never waits for the senders, and reads on while what it has read is committed. After a kill or a cut
connection it goes on after the last frozen id; `planned` is set last, with the final slices.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from functools import partial

import structlog

from broadcastd import retry
from broadcastd.clock import Clock
from broadcastd.delivery.accounts import OpenJob
from broadcastd.delivery.cutting import Cutter, NotAscendingError
from broadcastd.delivery.one_behind import OneBehind
from broadcastd.delivery.open_jobs import OpenJobs
from broadcastd.errors import (
    AlreadyFrozenError,
    AudienceUnavailableError,
    JobEndedError,
    LedgerUnavailableError,
)
from broadcastd.frozen import Ids
from broadcastd.model import FLAG_PAGE, NOBODY, TOO_MANY_GONE, Job
from broadcastd.ports import IdBlocks, Ledger
from broadcastd.settings import PoolSettings

log = structlog.get_logger()

AT_ONCE = 4
"""Audiences of one account that are read at the same time; each takes a connection of its database."""


RETRIED_AT_ONCE = 5000
"""Ids of one read of the ledger, for a retry."""


PACE_S = 0.05
"""The least time from one commit's start to the next one's, where an audience comes fast: a commit takes some
milliseconds, which reading needs, too."""


MOST_READY = 20_000
"""Slices that wait for a disk: some 15 MB."""


class _BadAudienceError(Exception):
    """The audience cannot be frozen; the text says why."""


class Planner:
    """Plans each open job once. `run` must be running."""

    def __init__(
        self, ledger: Ledger, jobs: OpenJobs, settings: PoolSettings, clock: Clock, wake: asyncio.Event
    ) -> None:
        self._ledger = ledger
        self._jobs = jobs
        self._settings = settings
        self._clock = clock
        self._wake_dispatcher = wake
        self._turns: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))
        self._planning: set[int] = set()
        self._once_more: set[int] = set()
        self._queue: asyncio.Queue[OpenJob] = asyncio.Queue()
        jobs.listen(self._take)

    def _take(self, job: OpenJob) -> None:
        if not job.job.books.planned and job.going:
            self._queue.put_nowait(job)

    async def run(self) -> None:
        """Plan jobs as they come, each in a coroutine of its own: none waits for another's database."""
        async with asyncio.TaskGroup() as group:
            while True:
                job = await self._queue.get()
                group.create_task(self._plan(job), name=f"planner of {job.job.id}")

    async def _plan(self, job: OpenJob) -> None:
        if job.no in self._planning:
            # Paused and resumed: who is at it may be about to stop.
            self._once_more.add(job.no)
            return
        self._planning.add(job.no)
        try:
            await self._freeze_audience(job)
        finally:
            self._planning.remove(job.no)
        if job.no in self._once_more:
            self._once_more.remove(job.no)
            # A retry may have made it anew meanwhile.
            present = self._jobs.get(job.no)
            if present is not None:
                self._take(present)

    async def _freeze_audience(self, job: OpenJob) -> None:
        """Plan one job, for as long as it takes: a database or disk that is away delays it, no more."""
        tries = 0
        while job.going:
            try:
                async with self._turns[job.account.name]:
                    frozen = await self._freeze_round(job)
                await self._planned(job, frozen)
                return
            except (AlreadyFrozenError, JobEndedError) as error:
                log.info("planning_ended", job=job.job.id, reason=str(error))
                return
            except NotAscendingError as error:
                await self._jobs.hold(
                    job, f"the audience query yields id {error.repeated} more than once: ids must be unique"
                )
            except _BadAudienceError as error:
                await self._jobs.hold(job, str(error))
            except (AudienceUnavailableError, LedgerUnavailableError) as error:
                tries += 1
                job.waits_for = f"it cannot be planned: {error}"
                pause_s = retry.DATABASE.delay_s(tries)
                log.warning("job_not_planned", job=job.job.id, error=str(error), retry_in_s=round(pause_s, 1))
                await self._clock.sleep(pause_s)
            # A bug, or an audience that nobody thought of, holds its job and leaves the others alone.
            except Exception:
                log.exception("planning_failed", job=job.job.id)
                await self._jobs.hold(job, "an internal error: see planning_failed in the log")

    async def _planned(self, job: OpenJob, frozen: int) -> None:
        job.waits_for = ""
        log.info("job_planned", job=job.job.id, account=job.account.name, recipients=frozen)
        self._jobs.planned(job, frozen)
        if not frozen and job.going and self._jobs.get(job.no) is not None:
            self._jobs.held(job, NOBODY)  # by the same commit that planned it
        # A job may have been sent whole before its planning came to an end.
        await self._jobs.finish(job)

    async def _freeze_round(self, job: OpenJob) -> int:
        """Freeze whom the present round is for; how many are frozen in it."""
        at_start = await self._ledger.job(job.job.id)
        assert at_start is not None
        last = at_start.planned_through
        if at_start.round.no > 1:
            return await self._all(job, at_start, _one_by_one(self._retried(job.no, last)))
        if job.job.flag is not None:
            return await self._page(job)
        if last is not None and job.job.to is None:
            await self._check_frozen(job, last, at_start.round.recipients)
        return await self._all(job, at_start, job.audience.ids(job.job.time, last))

    async def _retried(self, job_no: int, last: int | None) -> AsyncIterator[Sequence[int]]:
        while ids := await self._ledger.retried_ids(job_no, last, RETRIED_AT_ONCE):
            last = ids[-1]
            yield ids

    async def _all(self, job: OpenJob, at_start: Job, source: IdBlocks) -> int:
        """Freeze everybody that `source` yields after the last frozen id; how many are frozen in all."""
        frozen = at_start.round.recipients
        cutter = Cutter(at_start.planned_through, self._settings.tasks, self._settings.slice_size)
        next_s = 0.0
        async with source as blocks, OneBehind(f"commits of the planner of {job.job.id}") as commits:
            try:
                async for block in blocks:
                    if not job.going:
                        raise JobEndedError("the job stands still; it is planned on when it goes on")
                    cutter.add(block)
                    frozen += len(block)
                    now_s = self._clock.monotonic_s()
                    if cutter.ready >= MOST_READY or (cutter.ready and now_s >= next_s and not commits.busy):
                        job.being_read, next_s = True, now_s + PACE_S
                        await commits.do(partial(self._freeze, job, cutter.take(), planned=False))
            finally:
                job.being_read = False
            await commits.do(partial(self._freeze, job, cutter.take_rest(), planned=True))
        return frozen

    async def _check_frozen(self, job: OpenJob, last: int, frozen: int) -> None:
        """Planning goes on where it was cut off, maybe on another server of the site.

        An empty or lagging one would end it too soon, and whoever is not frozen yet would never be asked.
        """
        gone = frozen - await job.audience.count(job.job.time, through=last)
        if gone > job.account.max_gone_share * frozen and not job.gone_allowed:
            raise _BadAudienceError(
                f"{gone} of the {frozen} recipients frozen so far are gone from the audience, {TOO_MANY_GONE}"
            )

    async def _page(self, job: OpenJob) -> int:
        """Freeze one 500 of the audience, as the old program did."""
        assert job.job.flag is not None
        now = job.job.time
        ids = await job.audience.page(now, job.job.flag, FLAG_PAGE)
        cutter = Cutter(None, self._settings.tasks, self._settings.slice_size)
        cutter.add(ids)
        slices = cutter.take_rest()
        # A caller that loops over flags asks beyond the end: nothing to do, and nothing wrong.
        beyond_end = not ids and await job.audience.count(now) > 0
        await self._ledger.add_slices(job.no, slices, planned=True, may_be_empty=beyond_end)
        job.ended += 1
        self._wake_dispatcher.set()
        if beyond_end:
            await self._jobs.ended(job)
        return len(ids)

    async def _freeze(self, job: OpenJob, slices: Sequence[Ids], *, planned: bool) -> None:
        await self._ledger.add_slices(job.no, slices, planned=planned)
        job.ended += 1
        self._wake_dispatcher.set()


@contextlib.asynccontextmanager
async def _one_by_one(blocks: AsyncIterator[Sequence[int]]) -> AsyncIterator[AsyncIterator[Sequence[int]]]:
    yield blocks
