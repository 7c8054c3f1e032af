"""The jobs that have not ended, in memory: what the planner, the dispatcher and the pages look at."""

import asyncio
import dataclasses
from collections.abc import Callable, Iterator, Mapping

import structlog

from broadcastd.clock import Clock
from broadcastd.delivery.accounts import Account, OpenJob
from broadcastd.delivery.inline_audience import InlineAudience
from broadcastd.errcodes import in_words
from broadcastd.mass_ports import is_list
from broadcastd.metrics import JobCounts
from broadcastd.model import Hold, HoldKind, Job
from broadcastd.notices import Notice, NoticeKind, Notices
from broadcastd.outcomes import Outcome
from broadcastd.ports import Audience, Ledger
from broadcastd.states import JOB_CLOSING, JobState

log = structlog.get_logger()

MOST_OPEN_JOBS = 1_000_000
"""More than any ledger holds; the port's `jobs` wants a number."""


TROUBLE = Hold(HoldKind.TROUBLE)
"""What its reason says; an operator lets it go on."""

TOLD_OTHERWISE = (HoldKind.ACCOUNT, HoldKind.COPY)
"""Of these an operator is told once for all jobs: the account is held, the ledger is a copy."""


class OpenJobs:
    """A job comes in when it is accepted or found at start, and leaves when it has ended."""

    def __init__(
        self, ledger: Ledger, accounts: Mapping[str, Account], clock: Clock, notices: Notices
    ) -> None:
        self._ledger = ledger
        self._accounts = accounts
        self._clock = clock
        self.notices = notices
        """Who is told of jobs, and of those that were not taken in."""
        self._told_held: set[int] = set()
        self._jobs: dict[int, OpenJob] = {}
        self._without_account: dict[int, Job] = {}
        self._listeners: list[Callable[[OpenJob], None]] = []
        self._watchers: list[Callable[[Job], None]] = []
        self._counters: list[Callable[[OpenJob, int], None]] = []
        self._ends: list[Callable[[Job], None]] = []
        self.counts = JobCounts()
        self.closing: dict[int, Job] = {}
        """Cancelled or past their deadline, and not ended yet: with and without an account."""
        self.closing_goes_on = asyncio.Event()
        self.at_call: set[int] = set()
        """Whose mass message is under way: what it is answered is a fact, and waited for before the end."""

    def __iter__(self) -> Iterator[OpenJob]:
        return iter(list(self._jobs.values()))

    def __len__(self) -> int:
        return len(self._jobs)

    def get(self, job_no: int) -> OpenJob | None:
        """The job with this number, if it is open and its account is in the settings."""
        return self._jobs.get(job_no)

    def audience_of(self, job: Job) -> Audience | None:
        """Where a job's recipients are, open or not; None when its account is not in the settings."""
        if job.to is not None:
            return InlineAudience(job.to)
        account = self._accounts.get(job.account)
        return None if account is None else account.audience

    def listen(self, listener: Callable[[OpenJob], None]) -> None:
        """Call `listener` for each job that comes in, or goes on after it stood."""
        self._listeners.append(listener)

    def watch(self, watcher: Callable[[Job], None]) -> None:
        """Call `watcher` for each open job that comes in or begins a round, whatever its account."""
        self._watchers.append(watcher)

    def count(self, counter: Callable[[OpenJob, int], None]) -> None:
        """Call `counter` for each job whose round is planned, with how many recipients it has."""
        self._counters.append(counter)

    def at_end(self, listener: Callable[[Job], None]) -> None:
        """Call `listener` for each job that has ended."""
        self._ends.append(listener)

    def planned(self, entry: OpenJob, recipients: int) -> None:
        """A job's present round is frozen."""
        for counter in self._counters:
            counter(entry, recipients)

    async def restore(self) -> None:
        """Take in every open job of the ledger that is not here yet."""
        for job in await self._ledger.jobs(MOST_OPEN_JOBS, only_open=True):
            self.add(job)
            entry = self._jobs.get(job.no)
            # A kill may have come between the last outcome and `done`.
            if entry is not None and job.books.planned and not await self.finish(entry):
                log.info("job_goes_on", job=job.id, state=job.state.value, ended=job.books.ended)

    def add(self, job: Job) -> None:
        """Take in a job that is on disk, unless it is here or has ended.

        One whose account is no longer in the settings waits for it.
        """
        if job.no in self._jobs or job.no in self._without_account or job.state.is_terminal:
            return
        account = self._accounts.get(job.account)
        if job.state in JOB_CLOSING:
            self.close(job)
        if account is None or not set(job.channels) <= set(account.channels):
            log.warning("job_without_account", job=job.id, account=job.account, channels=list(job.channels))
            self._without_account[job.no] = job
        else:
            self._jobs[job.no] = self._entry(job, account)
        for watcher in self._watchers:
            watcher(job)
        if job.state is JobState.HELD:
            # What a long downtime has held at this very start, nobody was told of.
            self._tell_held(job, known=job.hold.kind is not HoldKind.DOWNTIME)
        self.goes_on(job.no)

    def _entry(self, job: Job, account: Account) -> OpenJob:
        audience = self.audience_of(job) or account.audience
        route = tuple(
            (account.channels[name], account.channels[name].message(job.messages[name]))
            for name in job.channels
        )
        due = job.not_before is None or job.not_before <= self._clock.now()
        lists = [no for no, (_, message) in enumerate(route) if is_list(message)]
        return OpenJob(job, account, audience, route, job.state, due, gathers_at=lists[0] if lists else None)

    def goes_on(self, job_no: int) -> None:
        """Tell who listens that there may be something to do."""
        entry = self._jobs.get(job_no)
        if entry is not None:
            for listener in self._listeners:
                listener(entry)

    def changed(self, job: Job) -> None:
        """An operator or the clock has moved a job on disk: `job` is how it stands now."""
        entry = self._jobs.get(job.no)
        if entry is not None:
            entry.job, entry.state = job, job.state
        if job.state is not JobState.HELD:
            self._tell_not_held(job)
        if job.state in JOB_CLOSING:
            self.close(job)

    def close(self, job: Job) -> None:
        """Have a job closed: those left get their outcomes, then it ends."""
        self.closing[job.no] = job
        self.closing_goes_on.set()

    async def hold(self, entry: OpenJob, reason: str, hold: Hold = TROUBLE) -> None:
        """Hold a job on disk; it stays open, and nobody of it is asked."""
        if not entry.going:
            return
        entry.state = JobState.HELD
        if await self._ledger.move(entry.no, JobState.HELD, reason, hold):
            entry.job = dataclasses.replace(entry.job, state=JobState.HELD, reason=reason, hold=hold)
            self.held(entry, reason)

    def held(self, entry: OpenJob, reason: str) -> None:
        """The ledger holds a job."""
        entry.state = JobState.HELD
        log.error("job_held", job=entry.job.id, account=entry.account.name, reason=reason)
        self._tell_held(dataclasses.replace(entry.job, reason=reason))

    def _tell_held(self, job: Job, *, known: bool = False) -> None:
        if job.hold.kind in TOLD_OTHERWISE:
            return
        self._told_held.add(job.no)
        facts = {"account": job.account, "reason": job.reason, **_names(job)}
        self.notices.tell(Notice(NoticeKind.JOB_HELD, job.id, facts, known=known))

    def _tell_not_held(self, job: Job) -> None:
        if job.no in self._told_held:
            self._told_held.discard(job.no)
            self.notices.tell(Notice(NoticeKind.JOB_HELD, job.id, {"state": job.state.value}, over=True))

    async def finish(self, entry: OpenJob) -> bool:
        """Write the last state if the books balance and nobody is left."""
        ended = await self._ledger.finish(entry.no, self._clock.now())
        if ended is not None:
            self.leave(ended)
        return ended is not None

    async def ended(self, entry: OpenJob) -> None:
        """The ledger has written `done` by itself: there was nobody to ask."""
        done = await self._ledger.job(entry.job.id)
        assert done is not None
        self.leave(done)

    def leave(self, ended: Job) -> None:
        """A job has ended."""
        self._jobs.pop(ended.no, None)
        self._without_account.pop(ended.no, None)
        self.closing.pop(ended.no, None)
        self.counts.end(ended.account, ended.state.value)
        self._tell_not_held(ended)
        for listener in self._ends:
            listener(ended)
        self.notices.tell(Notice(NoticeKind.JOB_FINISHED, ended.id, _facts(ended), lasts=False))
        log.info(
            f"job_{ended.state.value}",
            job=ended.id,
            account=ended.account,
            key=ended.key,
            ref=ended.ref,
            **_books(ended),
        )


def _books(job: Job) -> dict[str, object]:
    books = job.books
    assert job.finished_at is not None
    return {
        "round": job.round.no,
        "recipients": books.recipients,
        **{outcome.value: n for outcome, n in books.outcomes.items()},
        "by_channel": dict(books.sent_by_channel),
        "errcodes": {in_words(code): n for code, n in books.errcodes.items()},
        "in_doubt": books.in_doubt,
        "duration_s": round((job.finished_at - job.accepted_at).total_seconds(), 3),
    }


def _names(job: Job) -> dict[str, str]:
    return {name: value for name, value in (("key", job.key), ("ref", job.ref)) if value is not None}


def _facts(job: Job) -> dict[str, str | int]:
    books = job.books
    return {
        "account": job.account,
        **_names(job),
        "state": job.state.value,
        "recipients": books.recipients,
        **{outcome.value: books.outcomes.get(outcome, 0) for outcome in Outcome},
        "in_doubt": books.in_doubt,
    }
