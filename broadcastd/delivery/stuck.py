"""Which jobs stand still, and why. A job moves when ids of it are frozen, or somebody has an outcome.

What is known to keep a job back has its own words and notices: such a job is told only after a long time. So
is one whose calls are tried again and again. One that nothing is known to keep is told soon.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from broadcastd.clock import Clock
from broadcastd.delivery.accounts import OpenJob
from broadcastd.delivery.dispatcher import Dispatcher
from broadcastd.delivery.open_jobs import OpenJobs
from broadcastd.errors import LedgerUnavailableError
from broadcastd.model import WITH_ITS_CHUNK, Job
from broadcastd.ports import Ledger

LOOK_S = 30.0
"""How often is looked for jobs that stand still."""
FROZEN_S = 120.0
"""When nobody looked for so long, the process was stopped: nobody can have moved."""
MARGIN_S = 60.0
"""Beyond the longest that one thing may take, before it is the daemon's own fault that nothing moves."""
AT_ONCE = 500
"""Jobs that are looked at in one turn of the loop: there may be a hundred thousand."""
MOST_QUESTIONS = 100
"""Jobs of one look that the ledger is asked for; the others have their turn when those move."""
TRIED = "an answer: its calls are tried again and again, and come to nothing"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long what may take. All in seconds."""

    after_s: float
    """Nothing moves, and nothing is known to keep it."""
    waiting_after_s: float
    """Nothing moves, for a reason that is known."""
    longest_s: Mapping[str, float]
    """Account to the longest that one query or call of it may take."""
    gather_s: Mapping[str, float]
    """Account to how long its mass messages are gathered."""


@dataclass(frozen=True, slots=True)
class Stuck:
    """A job that stands still."""

    job_id: str
    account: str
    since: datetime
    why: str
    """In plain words."""
    ours: bool
    """Nothing that the daemon waits for may take so long: a restart helps."""


@dataclass(slots=True)
class _Watched:
    """A job that could go on, as it was last looked at. Moments are monotonic."""

    entry: OpenJob
    moved_s: float
    excused_s: float
    """When something was last known to keep it, or it was tried."""
    ended: int
    tried: int
    kept_by: str = ""


class StuckJobs:
    """`look` must be called every now and then; what it found last stays in `found`."""

    def __init__(
        self, jobs: OpenJobs, ledger: Ledger, dispatcher: Dispatcher, patience: Patience, clock: Clock
    ) -> None:
        self._jobs = jobs
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._patience = patience
        self._clock = clock
        self._watched: dict[int, _Watched] = {}
        self._closing: dict[int, float] = {}
        self._looked_s = clock.monotonic_s()
        self._at_work: Mapping[int, int] = {}
        self._moved_s: dict[str, float] = {}
        """Account to when one of its jobs last moved."""
        self._questions = 0
        """Jobs that the ledger was asked for in this look."""
        self.look_every_s = min(LOOK_S, patience.after_s / 5)
        self.found: tuple[Stuck, ...] = ()

    async def look(self) -> tuple[Stuck, ...]:
        """The jobs that stand still now, the longest first. Never raises for what the ledger does."""
        now_s = self._clock.monotonic_s()
        if now_s - self._looked_s > FROZEN_S:
            self._watched.clear()
            self._closing.clear()
        self._looked_s = now_s
        self._at_work = self._dispatcher.at_work()
        self._questions = 0
        await self._note(now_s)
        found = [*self._stuck_closing(now_s)]
        for watched in list(self._watched.values()):
            one = await self._judged(watched, now_s)
            if one is not None:
                found.append(one)
        self.found = tuple(sorted(found, key=lambda one: one.since))
        return self.found

    # -- noting ----------------------------------------------------------------------------------------

    async def _note(self, now_s: float) -> None:
        """What has moved since the last look, and what keeps the others."""
        before, self._watched = self._watched, {}
        waiting = self._waiting_accounts()
        for no, entry in enumerate(self._jobs):
            if no % AT_ONCE == AT_ONCE - 1:
                await self._clock.sleep(0)
            if not entry.going:
                continue
            watched = before.get(entry.no)
            if watched is None or watched.entry is not entry:
                watched = _Watched(entry, now_s, now_s, entry.ended, entry.tried)
            self._watched[entry.no] = watched
            self._note_one(watched, now_s, waiting)

    def _note_one(self, watched: _Watched, now_s: float, waiting: Mapping[str, str]) -> None:
        entry = watched.entry
        if entry.ended != watched.ended:
            watched.moved_s = watched.excused_s = self._moved_s[entry.account.name] = now_s
            watched.kept_by = ""
        kept_by = self._ledger.trouble or entry.kept_by or waiting.get(entry.account.name, "")
        kept_by = kept_by or self._turn_of(watched, now_s)
        if not kept_by and entry.tried != watched.tried:
            kept_by = TRIED
        if kept_by:
            watched.excused_s, watched.kept_by = now_s, kept_by
        watched.ended, watched.tried = entry.ended, entry.tried

    def _waiting_accounts(self) -> dict[str, str]:
        """Accounts of which a job waits for the database: the others may only not have come to see it."""
        return {
            entry.account.name: entry.waits_for for entry in self._jobs if entry.going and entry.waits_for
        }

    def _turn_of(self, watched: _Watched, now_s: float) -> str:
        """Whom it is behind, in words; empty when it is its turn."""
        entry = watched.entry
        if not self._at_work.get(entry.no):
            return "" if self._dispatcher.has_idle_task else "its turn: all tasks are at other jobs"
        for name in entry.job.channels:
            lane = entry.account.lanes[name]
            rate_per_s = lane.rate_per_s
            slowest_s = max(MARGIN_S, 3 / rate_per_s if rate_per_s else 0.0)
            if not lane.waiting or now_s - lane.admitted_s >= slowest_s:
                continue
            if rate_per_s:
                watched.moved_s = now_s  # as slow as somebody wanted it
            return f"its turn in channel {name}"
        return ""

    # -- judging ---------------------------------------------------------------------------------------

    async def _judged(self, watched: _Watched, now_s: float) -> Stuck | None:
        entry, patience = watched.entry, self._patience
        account = entry.account.name
        gather_s = patience.gather_s.get(account, 0.0) if entry.gathers_at is not None else 0.0
        unexplained_s = now_s - watched.excused_s
        if unexplained_s < patience.after_s or self._questions >= MOST_QUESTIONS:
            if watched.kept_by and now_s - watched.moved_s >= patience.waiting_after_s + gather_s:
                return self._stuck(watched, watched.moved_s, f"it waits for {watched.kept_by}", ours=False)
            return None
        self._questions += 1
        present, due = await self._on_disk(entry)
        if present is None:
            return None
        moved_s = self._moved_s.get(account)
        if not present.books.planned and moved_s is not None and now_s - moved_s < patience.after_s:
            due = "its turn: other jobs of its account are being read"
        if due:
            # It is looked at anew: by then it may be due, and nobody takes it.
            watched.excused_s, watched.kept_by = now_s, due
            return None
        longest_s = patience.longest_s.get(account, 0.0) + MARGIN_S
        ours = unexplained_s >= max(patience.after_s, longest_s)
        if not present.books.planned and not ours:
            return None
        return self._stuck(watched, watched.moved_s, self._in_words(entry, present), ours=ours)

    async def _on_disk(self, entry: OpenJob) -> tuple[Job | None, str]:
        """The job, and when its next recipients are due if not now. None: the ledger has its own words."""
        try:
            present = await self._ledger.job(entry.job.id)
            due_at = await self._ledger.next_due_at(entry.no)
        except LedgerUnavailableError:
            return None, ""
        if due_at is None or due_at <= self._clock.now() or self._at_work.get(entry.no):
            return present, ""
        if due_at >= WITH_ITS_CHUNK:
            return present, "its mass message, which is being gathered"
        return present, f"its next recipients, who are due at {due_at:%H:%M:%S} UTC"

    def _in_words(self, entry: OpenJob, present: Job) -> str:
        calls = sum(entry.account.lanes[name].in_flight for name in entry.job.channels)
        tasks = self._at_work.get(entry.no, 0)
        if not present.books.planned:
            return "its audience is being read, and nobody of it has come for a long time"
        if calls and tasks:
            return f"{calls:,} calls to WeChat are under way, and none of it has come back"
        if tasks:
            return f"{tasks:,} tasks have slices of it, and none of them does anything"
        return "no task works on it, and nothing is known to keep it"

    def _stuck_closing(self, now_s: float) -> Iterator[Stuck]:
        """Cancelled jobs, and those past their deadline, that do not come to their end."""
        closing = self._jobs.closing
        self._closing = {no: self._closing.get(no, now_s) for no in closing}
        for no, since_s in self._closing.items():
            job = closing[no]
            longest_s = self._patience.longest_s.get(job.account, 0.0) + MARGIN_S
            if now_s - since_s >= max(self._patience.after_s, longest_s) and not self._ledger.trouble:
                why = f"it is {job.state.value}, and does not come to its end"
                yield Stuck(job.id, job.account, self._at(since_s), why, ours=True)

    def _stuck(self, watched: _Watched, since_s: float, why: str, *, ours: bool) -> Stuck:
        entry = watched.entry
        return Stuck(entry.job.id, entry.account.name, self._at(since_s), why, ours)

    def _at(self, moment_s: float) -> datetime:
        return self._clock.now() - timedelta(seconds=self._clock.monotonic_s() - moment_s)
