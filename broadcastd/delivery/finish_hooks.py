"""Tells an account's site that its jobs have ended: at least once each, across kills and outages.

What is told is noted in the ledger afterwards, so a kill between the two tells once more. A site that does
not answer is asked again for a day; it keeps nobody waiting but this coroutine.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from broadcastd import retry
from broadcastd.clock import Clock
from broadcastd.errors import LedgerUnavailableError
from broadcastd.hook_ports import FinishHook, TellingLedger
from broadcastd.model import Job
from broadcastd.notices import Notice, NoticeKind, Notices

log = structlog.get_logger()

PAUSES = retry.Backoff(first_s=2, longest_s=600)
TRIED_FOR = timedelta(days=1)
"""After the job's end, as payment providers do."""
LEAST_TRIES = 10
"""By one process: a daemon that was away for a day has to try, too. About half an hour."""
TOLD_AFTER_TRIES = 5
"""Then an operator is told: about a minute."""
MOST_FAILED = 3
"""Jobs of one pass that could not be told until the rest is spared: the site is down, more likely."""
AT_ONCE = 100


@dataclass(slots=True)
class _Failing:
    """A job that could not be told yet."""

    round_no: int
    tries: int = 0
    due_s: float = 0.0
    done: set[str] = field(default_factory=set)
    """The hooks that know it already."""


class FinishHooks:
    """One account's. `run` must be running."""

    def __init__(
        self, account: str, hooks: Sequence[FinishHook], ledger: TellingLedger, notices: Notices, clock: Clock
    ) -> None:
        self._account = account
        self._hooks = hooks
        self._ledger = ledger
        self._notices = notices
        self._clock = clock
        self._wake = asyncio.Event()
        self._wake.set()
        self._failing: dict[int, _Failing] = {}
        self._trouble = False
        """An operator knows that the site does not answer."""
        self._answers = False
        """It has, since then."""
        self._bad_passes = 0
        """In a row, in which several jobs could not be told."""

    def ended(self, job: Job) -> None:
        """A job has ended, of whatever account."""
        if job.account == self._account:
            self._wake.set()

    async def run(self) -> None:
        """Work until cancelled."""
        tries = 0
        while True:
            self._wake.clear()
            try:
                await self._pass()
                tries = 0
            except LedgerUnavailableError as error:
                tries += 1
                log.warning("finish_hooks_wait", account=self._account, error=str(error))
                await self._clock.sleep(retry.LEDGER.delay_s(tries))
                continue
            await self._rest()

    async def _rest(self) -> None:
        """Until a job ends, or the next try is due."""
        if not self._failing:
            await self._wake.wait()
            return
        next_s = min(one.due_s for one in self._failing.values())
        sleeping = asyncio.ensure_future(self._clock.sleep(max(0.0, next_s - self._clock.monotonic_s())))
        waking = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait((sleeping, waking), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            waking.cancel()

    async def _pass(self) -> None:
        """Each job that is to be told and whose time has come, once."""
        after, failed, seen = 0, 0, set[int]()
        while some := await self._ledger.untold(self._account, after, AT_ONCE):
            after = some[-1].no
            for job in some:
                seen.add(job.no)
                state = self._state_of(job)
                if state.due_s > self._clock.monotonic_s():
                    continue
                if failed >= MOST_FAILED:
                    state.due_s = self._clock.monotonic_s() + PAUSES.delay_s(self._bad_passes + 1)
                elif not await self._tell(job, state):
                    failed += 1
        self._bad_passes = self._bad_passes + 1 if failed >= MOST_FAILED else 0
        for no in self._failing.keys() - seen:
            del self._failing[no]  # a retry has begun, and its end is told
        if self._trouble and self._answers and not self._failing:
            self._trouble = False
            self._notices.tell(Notice(NoticeKind.HOOK_FAILING, self._account, over=True))

    def _state_of(self, job: Job) -> _Failing:
        state = self._failing.get(job.no)
        if state is None or state.round_no != job.round.no:
            state = self._failing[job.no] = _Failing(job.round.no)
        return state

    async def _tell(self, job: Job, state: _Failing) -> bool:
        """Whether it needs no further try."""
        why = ""
        for hook in self._hooks:
            if hook.name not in state.done:
                found = await hook.tell(job, self._clock.now())
                if found:
                    why = f"{hook.name}: {found}"
                else:
                    state.done.add(hook.name)
        if why:
            state.tries += 1
            if not self._is_hopeless(job, state):
                self._put_off(job, state, why)
                return False
            self._give_up(job, why)
        else:
            self._answers = True
        await self._ledger.note_told(job.no, job.round.no, self._clock.now())
        self._failing.pop(job.no, None)
        if not why:
            log.info("finish_told", job=job.id, account=job.account, tries=state.tries + 1)
        return not why

    def _is_hopeless(self, job: Job, state: _Failing) -> bool:
        ended: datetime = job.finished_at or job.accepted_at
        return state.tries >= LEAST_TRIES and self._clock.now() >= ended + TRIED_FOR

    def _put_off(self, job: Job, state: _Failing, why: str) -> None:
        delay_s = PAUSES.delay_s(state.tries)
        state.due_s = self._clock.monotonic_s() + delay_s
        log.warning(
            "finish_not_told", job=job.id, account=job.account, error=why, tries=state.tries,
            retry_in_s=round(delay_s, 1),
        )  # fmt: skip
        if state.tries >= TOLD_AFTER_TRIES:
            self._trouble, self._answers = True, False
            facts: Mapping[str, str | int] = {"account": job.account, "job": job.id, "reason": why}
            self._notices.tell(Notice(NoticeKind.HOOK_FAILING, self._account, facts))

    def _give_up(self, job: Job, why: str) -> None:
        log.error("finish_given_up", job=job.id, account=job.account, error=why)
        facts = {"account": job.account, "job": job.id, "reason": f"given up: {why}"}
        self._notices.tell(Notice(NoticeKind.HOOK_FAILING, job.id, facts, lasts=False))
