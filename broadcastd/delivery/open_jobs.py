"""The jobs that have not ended, in memory: what the planner, the dispatcher and the pages look at."""

from collections.abc import Callable, Iterator, Mapping

import structlog

from broadcastd.clock import Clock
from broadcastd.delivery.accounts import Account, OpenJob
from broadcastd.delivery.inline_audience import InlineAudience
from broadcastd.model import HoldKind, Job
from broadcastd.ports import Ledger
from broadcastd.states import JobState

log = structlog.get_logger()

MOST_OPEN_JOBS = 1_000_000
"""More than any ledger holds; the port's `jobs` wants a number."""


class OpenJobs:
    """A job comes in when it is accepted or found at start, and leaves when it is done."""

    def __init__(self, ledger: Ledger, accounts: Mapping[str, Account], clock: Clock) -> None:
        self._ledger = ledger
        self._accounts = accounts
        self._clock = clock
        self._jobs: dict[int, OpenJob] = {}
        self._listeners: list[Callable[[OpenJob], None]] = []

    def __iter__(self) -> Iterator[OpenJob]:
        return iter(list(self._jobs.values()))

    def __len__(self) -> int:
        return len(self._jobs)

    def get(self, job_no: int) -> OpenJob | None:
        """The job with this number, if it is open."""
        return self._jobs.get(job_no)

    def listen(self, listener: Callable[[OpenJob], None]) -> None:
        """Call `listener` for each job that comes in, or goes on after it was held."""
        self._listeners.append(listener)

    async def restore(self) -> None:
        """Take in every job that had not ended when the daemon stopped."""
        for job in await self._ledger.jobs(MOST_OPEN_JOBS, only_open=True):
            self.add(job)
            entry = self._jobs.get(job.no)
            # A kill may have come between the last outcome and `done`.
            if entry is not None and job.books.planned and not await self.finish(entry):
                log.info("job_goes_on", job=job.id, state=job.state.value, ended=job.books.ended)

    def add(self, job: Job) -> None:
        """Take in a job that is on disk. One whose account is no longer in the settings waits for it."""
        if job.no in self._jobs:
            return
        account = self._accounts.get(job.account)
        if account is None or not set(job.channels) <= set(account.channels):
            log.warning("job_without_account", job=job.id, account=job.account, channels=list(job.channels))
            return
        audience = account.audience if job.to is None else InlineAudience(job.to)
        route = tuple(
            (account.channels[name], account.channels[name].message(job.messages[name]))
            for name in job.channels
        )
        entry = OpenJob(job, account, audience, route, held=job.state is JobState.HELD)
        self._jobs[job.no] = entry
        self._tell(entry)

    async def hold(self, entry: OpenJob, reason: str) -> None:
        """Hold a job on disk; it stays open, and nobody of it is asked."""
        if entry.held:
            return
        entry.held = True
        await self._ledger.move(entry.no, JobState.HELD, reason, HoldKind.TROUBLE)
        log.error("job_held", job=entry.job.id, account=entry.account.name, reason=reason)

    async def resume(self, job: Job) -> bool:
        """Let a held job go on. False when it is not held, or not one of the settings' accounts."""
        entry = self._jobs.get(job.no)
        if entry is None or not await self._ledger.resume(job.no):
            return False
        entry.job = await self._ledger.job(job.id) or entry.job
        entry.held = False
        entry.gone_allowed = True
        log.info("job_resumed", job=job.id, account=job.account)
        self._tell(entry)
        await self.finish(entry)
        return True

    async def finish(self, entry: OpenJob) -> bool:
        """Write `done` if the books balance."""
        done = await self._ledger.finish(entry.no, self._clock.now())
        if done is None:
            return False
        self._leave(entry, done)
        return True

    async def ended(self, entry: OpenJob) -> None:
        """The ledger has written `done` by itself: there was nobody to ask."""
        done = await self._ledger.job(entry.job.id)
        assert done is not None
        self._leave(entry, done)

    def _leave(self, entry: OpenJob, done: Job) -> None:
        self._jobs.pop(entry.no, None)
        log.info("job_done", job=done.id, account=done.account, key=done.key, ref=done.ref, **_books(done))

    def _tell(self, entry: OpenJob) -> None:
        for listener in self._listeners:
            listener(entry)


def _books(job: Job) -> dict[str, object]:
    books = job.books
    assert job.finished_at is not None
    return {
        "recipients": books.recipients,
        **{outcome.value: n for outcome, n in books.outcomes.items()},
        "by_channel": dict(books.sent_by_channel),
        "in_doubt": books.in_doubt,
        "duration_s": round((job.finished_at - job.accepted_at).total_seconds(), 3),
    }
