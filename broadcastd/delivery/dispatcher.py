"""Deals slices to the tasks: leases in turn between jobs, splits the last ones, keeps the leases alive."""

import asyncio
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from broadcastd import retry
from broadcastd.clock import Clock
from broadcastd.delivery.accounts import OpenJob
from broadcastd.delivery.open_jobs import OpenJobs
from broadcastd.delivery.slice_run import SliceRun
from broadcastd.delivery.turns import Asking, Busy, Order, deal, to_give_up
from broadcastd.errors import LedgerUnavailableError
from broadcastd.model import Lease
from broadcastd.ports import Ledger

log = structlog.get_logger()

LOOK_S = 5.0
"""How often it looks for work that nobody told it of."""

FAIR_S = 1.0
"""How often it looks whether some jobs have more than their share of tasks while others have too few."""

RENEWALS_A_LEASE = 4
"""How often a lease is renewed within its own length."""

MOST_IN_A_SLICE = 500
FEWEST_TO_SPLIT = 16
"""A slice with fewer left is not worth another task."""

LEASED_AT_ONCE = 8
"""Slices of one commit, 2 ms each: the first tasks begin while the others' slices are leased, and nobody at a
socket waits for all of them."""

BESIDE_READING_S = 0.03
"""From one such commit to the next while the job's audience is still being read. What is leased already sends
meanwhile; 60 tasks that pull their slices all at once would hold up both that and the reading."""


@dataclass(frozen=True, slots=True)
class Work:
    """A slice for a task. `rows` are known when it was split off a running one, else they must be pulled."""

    lease: Lease
    job: OpenJob
    rows: Sequence[tuple[int, str]] | None = None
    given_up: asyncio.Event = field(default_factory=asyncio.Event)
    """Another job needs the task: a slice that is not being sent yet goes back."""


class Dispatcher:
    """Hands out work. `run` and `keep_leases` must be running."""

    def __init__(
        self, ledger: Ledger, jobs: OpenJobs, clock: Clock, lease_s: float, wake: asyncio.Event
    ) -> None:
        self._ledger = ledger
        self._jobs = jobs
        self._clock = clock
        self._lease = timedelta(seconds=lease_s)
        self._wake = wake
        self._idle: deque[asyncio.Future[Work]] = deque()
        self._order = Order()
        """Of all jobs that go on, and some that did: there may be a hundred thousand others."""
        self._runs: dict[int, SliceRun] = {}
        self._working: dict[int, Work] = {}
        """Token of each lease that is out, from leasing to settling."""
        self._settled = asyncio.Event()
        self._draining = False
        self.tasks_busy = 0
        self._turned_s = clock.monotonic_s()
        jobs.listen(self._joined)
        jobs.at_end(lambda job: self._order.leave(job.no))

    # -- from the tasks --------------------------------------------------------------------------------

    async def next_work(self) -> Work:
        """Wait for a slice."""
        work: asyncio.Future[Work] = asyncio.get_running_loop().create_future()
        self._idle.append(work)
        self._wake.set()
        return await work

    def started(self, run: SliceRun) -> None:
        """A task sends this slice now."""
        self._runs[run.lease.token] = run
        work = self._working.get(run.lease.token)
        if self._draining or not run.job.going or (work is not None and work.given_up.is_set()):
            run.stop()

    def took(self) -> None:
        """A task has a slice."""
        self.tasks_busy += 1

    def gave_back(self) -> None:
        """A task is done with its slice."""
        self.tasks_busy -= 1
        self._settled.set()

    def ended(self, run: SliceRun) -> None:
        """A task has sent what could be sent of it."""
        self._runs.pop(run.lease.token, None)

    async def settle(self, work: Work) -> None:
        """Give the lease back; with the last slice the job may be done."""
        settled = await self._ledger.settle(work.lease, self._clock.now())
        self._working.pop(work.lease.token, None)
        log.info(
            "slice_done" if settled.done else "slice_released", job=work.job.job.id, slice=work.lease.slice_no
        )
        # Whatever became of this slice: when a former try settled it, the job may still have to be finished.
        if work.job.no in self._jobs.closing:
            self._jobs.closing_goes_on.set()
        elif not any(other.job is work.job for other in self._working.values()):
            await self._jobs.finish(work.job)
        self._wake.set()

    # -- from the rest ---------------------------------------------------------------------------------

    def stop_job(self, job: OpenJob) -> None:
        """Ask nobody more of this job."""
        for run in self._runs.values():
            if run.job is job:
                run.stop()

    def drain(self) -> None:
        """Lease nothing more, ask nobody more."""
        self._draining = True
        for run in self._runs.values():
            run.stop()

    def at_work(self) -> Counter[int]:
        """Job number to how many of its slices are with tasks."""
        return Counter(work.job.no for work in self._working.values())

    @property
    def silent_s(self) -> float:
        """For how long it has not looked for work, which it does every few seconds; 0 once it gives none."""
        return 0.0 if self._draining else self._clock.monotonic_s() - self._turned_s

    @property
    def has_idle_task(self) -> bool:
        """Whether a task waits for work."""
        self._drop_gone()
        return bool(self._idle)

    async def all_idle(self) -> None:
        """Return once no task works on a slice."""
        while self.tasks_busy or self._working:
            self._settled.clear()
            await self._settled.wait()

    # -- the loops -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Deal out slices whenever there may be some."""
        tries = 0
        while not self._draining:
            self._wake.clear()
            try:
                pause_s = await self._deal()
                tries = 0
                self._turned_s = self._clock.monotonic_s()
            except LedgerUnavailableError as error:
                tries += 1
                self._turned_s = self._clock.monotonic_s()
                pause_s = retry.LEDGER.delay_s(tries)
                log.warning("ledger_unavailable", error=str(error), retry_in_s=round(pause_s, 1))
            await self._woken_or(pause_s)

    async def keep_leases(self) -> None:
        """Renew what is being worked on, and take back what ran out."""
        while True:
            await self._clock.sleep(self._lease.total_seconds() / RENEWALS_A_LEASE)
            now = self._clock.now()
            try:
                await self._ledger.renew(now, now + self._lease)
                if await self._ledger.recover(self._working, now):
                    self._wake.set()
                    self._jobs.closing_goes_on.set()
            except LedgerUnavailableError as error:
                log.warning("leases_not_renewed", error=str(error))

    async def _woken_or(self, pause_s: float) -> None:
        try:
            async with asyncio.timeout(pause_s):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _deal(self) -> float:
        """Give work to idle tasks; for how long there is nothing more to do, in seconds."""
        self._drop_gone()
        now = self._clock.now()
        if not self._idle and not self._others_may_ask():
            return LOOK_S
        asking, busy = self._asking(await self._ledger.open_slices(now)), self._busy()
        if not self._idle:
            self._make_room(asking, busy)
            return FAIR_S
        shares = deal(min(len(self._idle), LEASED_AT_ONCE), asking, busy)
        if shares:
            self._order.turned(shares)
            for lease in await self._ledger.lease(shares, now, now + self._lease):
                job = self._jobs.get(lease.job_no)
                assert job is not None
                log.info("slice_leased", job=job.job.id, slice=lease.slice_no, recipients=len(lease.ids))
                self._hand(Work(lease, job))
            if self._idle and any(job.being_read for no in shares if (job := self._jobs.get(no))):
                await self._clock.sleep(BESIDE_READING_S)
            return 0 if self._idle else LOOK_S
        await self._split()
        due_at = await self._ledger.next_due_at()
        if due_at is None or due_at <= now:
            return LOOK_S
        return min(LOOK_S, (due_at - now).total_seconds() + 0.01)

    def _others_may_ask(self) -> bool:
        """Whether a job that could go on may be waiting for tasks that others have."""
        at_work = {work.job.no for work in self._working.values()}
        if len(at_work) > 1:
            return True
        stood = []
        try:
            for no in self._order:
                job = self._jobs.get(no)
                if job is None or not job.going:
                    stood.append(no)  # it joins again when it goes on
                elif no not in at_work:
                    return True
        finally:
            for no in stood:
                self._order.leave(no)
        return False

    def _asking(self, counts: Mapping[int, int]) -> list[Asking]:
        going = [job for no in counts if (job := self._jobs.get(no)) is not None and job.going]
        accounts = {job.no: job.account.name for job in going}
        return [Asking(no, accounts[no], counts[no]) for no in self._order.sorted(accounts)]

    def _busy(self) -> Busy:
        jobs = [work.job for work in self._working.values()]
        tasks = Counter(job.no for job in jobs)
        accounts = {job.no: job.account.name for job in jobs}
        return {no: (accounts[no], n) for no, n in tasks.items()}

    def _make_room(self, asking: Sequence[Asking], busy: Busy) -> None:
        """Have the largest give up slices, so that others come to their share; nobody is lost by it."""
        if any(work.given_up.is_set() for work in self._working.values()):
            return  # not all of what was given up last time has come back
        for job_no, many in to_give_up(len(self._working), asking, busy).items():
            works = [work for work in self._working.values() if work.job.no == job_no]
            for work in sorted(works, key=self._spare, reverse=True)[:many]:
                log.info("slice_given_up", job=work.job.job.id, slice=work.lease.slice_no)
                work.given_up.set()
                if (run := self._runs.get(work.lease.token)) is not None:
                    run.stop()

    def _spare(self, work: Work) -> int:
        """How many it would give back; most of all one whose rows are still waited for: nobody is asked."""
        run = self._runs.get(work.lease.token)
        return MOST_IN_A_SLICE if run is None else run.spare

    async def _split(self) -> None:
        """Let idle tasks take over half of what the fullest running slices have left."""
        splits, rows, jobs = [], [], []
        for _ in range(len(self._idle)):
            fullest = max(self._runs.values(), key=lambda run: run.spare, default=None)
            if fullest is None or fullest.spare < FEWEST_TO_SPLIT:
                break
            split, given = fullest.give_half()
            splits.append(split)
            rows.append(given)
            jobs.append(fullest.job)
        if not splits:
            return
        now = self._clock.now()
        leases = await self._ledger.split(splits, now, now + self._lease)
        for lease, given, job in zip(leases, rows, jobs, strict=True):
            if lease is not None:
                log.info("slice_split", job=job.job.id, slice=lease.slice_no, recipients=len(lease.ids))
                self._hand(Work(lease, job, given))

    def _hand(self, work: Work) -> None:
        self._working[work.lease.token] = work
        self._drop_gone()
        if self._idle:
            self._idle.popleft().set_result(work)

    def _drop_gone(self) -> None:
        """Forget tasks that were cancelled while they waited."""
        while self._idle and self._idle[0].done():
            self._idle.popleft()

    def _joined(self, job: OpenJob) -> None:
        if job.going:
            self._order.join(job.no)
            self._wake.set()
