"""A task: one of the fixed 60 coroutines. It takes a slice, pulls it, sends it, and gives it back."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import structlog

from broadcastd import retry
from broadcastd.batch import OutcomeRow
from broadcastd.delivery.account_holds import AccountHolds
from broadcastd.delivery.accounts import OpenJob
from broadcastd.delivery.dispatcher import Dispatcher, Work
from broadcastd.delivery.opt_outs import ALWAYS_BEFORE
from broadcastd.delivery.slice_run import SliceRun
from broadcastd.delivery.slots import SharedParts
from broadcastd.errors import AudienceUnavailableError, LedgerUnavailableError
from broadcastd.model import TOO_MANY_GONE, Lease
from broadcastd.outcomes import Outcome

log = structlog.get_logger()

Rows = Sequence[tuple[int, str]]

LOOK_S = 0.5
"""How often a task that waits for a database looks whether it is told to stop."""


class Task:
    """Works on one slice at a time, for ever."""

    def __init__(self, dispatcher: Dispatcher, account_holds: AccountHolds, shared: SharedParts) -> None:
        self._dispatcher = dispatcher
        self._account_holds = account_holds
        self._shared = shared
        self._recorder = shared.recorder
        self._clock = shared.clock
        self._stopping = False

    def stop(self) -> None:
        """Take nothing more, and do not wait for a database."""
        self._stopping = True

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                work = await self._dispatcher.next_work()
                self._dispatcher.took()
                name = f"slice {work.lease.job_no}/{work.lease.slice_no}"
                whole = group.create_task(self._whole(work), name=name)
                # Of a slice that is given up, calls may be under way for long: nobody else waits for those.
                await _first_of(whole, work.given_up)

    async def _whole(self, work: Work) -> None:
        try:
            await self._guarded(work)
            await self._recorder.flush()
            await self._settle(work)
        finally:
            self._dispatcher.gave_back()

    async def _guarded(self, work: Work) -> None:
        """Work on one slice. A bug in it holds its job, and leaves the other jobs and this task alone."""
        try:
            run = await self._made_ready(work)
            if run is not None:
                await self._send(work, run)
        except Exception:
            log.exception("slice_failed", job=work.job.job.id, slice=work.lease.slice_no)
            await self._hold(work.job, "an internal error: see slice_failed in the log")

    async def _made_ready(self, work: Work) -> SliceRun | None:
        """What sends it; None: nobody of it can be asked now. Only the run keeps the rows, and packed."""
        # Rows that come with a split were read at an unknown time.
        pulled_s = ALWAYS_BEFORE if work.rows is not None else self._clock.monotonic_s()
        rows = work.rows
        if rows is None:
            wanted = _wanted(work.lease)
            rows = await self._pull(work, wanted)
            if rows is None or await self._too_many_gone(work, wanted.difference([one for one, _ in rows])):
                return None
        memory = work.job.account.memory
        recollection = None
        if memory is not None:
            openids = [openid for _, openid in rows]
            recollection = await memory.recall(work.job.job, work.lease.round_no, openids)
        return SliceRun(work.lease, work.job, rows, self._shared, pulled_s, recollection)

    async def _pull(self, work: Work, wanted: set[int]) -> Rows | None:
        """Who of the slice is still eligible; None when that cannot be told before it must stop."""
        if not wanted:
            return []
        bounds = min(wanted), max(wanted)
        tries = 0
        while work.job.going and not self._stopping and not work.given_up.is_set():
            try:
                rows = await self._unless_given_up(work, work.job.audience.pull(work.job.job.time, *bounds))
            except AudienceUnavailableError as error:
                tries += 1
                delay_s = retry.DATABASE.delay_s(tries)
                work.job.waits_for = f"its audience cannot be read: {error}"
                log.warning(
                    "audience_unavailable",
                    job=work.job.job.id,
                    error=str(error),
                    retry_in_s=round(delay_s, 1),
                )
                await self._pause(work, delay_s)
            else:
                if rows is None:
                    break
                work.job.waits_for = ""
                return [row for row in rows if row[0] in wanted and row[1]]
        return None

    @staticmethod
    async def _unless_given_up(work: Work, pull: Coroutine[Any, Any, Rows]) -> Rows | None:
        """What `pull` yields; None: another job needs this task. A database may hang for a long time."""
        pulling = asyncio.ensure_future(pull)
        try:
            await _first_of(pulling, work.given_up)
            return pulling.result() if pulling.done() else None
        finally:
            pulling.cancel()
            await asyncio.gather(pulling, return_exceptions=True)

    async def _pause(self, work: Work, delay_s: float) -> None:
        """Sleep, but not past a stop: a job that is cancelled must not wait for its database to end."""
        until_s = self._clock.monotonic_s() + delay_s
        while work.job.going and not self._stopping and not work.given_up.is_set():
            left_s = until_s - self._clock.monotonic_s()
            if left_s <= 0:
                return
            await self._clock.sleep(min(LOOK_S, left_s))

    async def _too_many_gone(self, work: Work, gone: set[int]) -> bool:
        """Skip who is gone; but hold the job when it is so many that the database is more likely wrong."""
        most = work.job.account.max_gone_share * len(work.lease.ids)
        if len(gone) > most and not work.job.gone_allowed:
            await self._hold(
                work.job,
                f"{len(gone)} of the {len(work.lease.ids)} recipients of slice {work.lease.slice_no} are gone"
                f" from the audience, {TOO_MANY_GONE}",
            )
            return True
        deferred = {one.recipient_id: one for one in work.lease.deferrals}
        for one in gone:
            # Who was asked before and gave no answer may have it.
            doubted = one in deferred and deferred[one].doubts > 0
            row = OutcomeRow(
                work.lease.job_no,
                one,
                None,
                Outcome.UNKNOWN if doubted else Outcome.SKIPPED,
                "",
                0,
                self._clock.now(),
                one in deferred,
                work.lease.round_no,
            )
            self._recorder.end(row)
            work.job.account.tally.ended("", row.outcome, self._clock.monotonic_s())
        work.job.ended += len(gone)
        return False

    async def _send(self, work: Work, run: SliceRun) -> None:
        self._dispatcher.started(run)
        try:
            await run.run()
        finally:
            self._dispatcher.ended(run)
        halted = run.halted
        # The account may have been tried again since that call.
        is_old = halted and halted.account_for_s and halted.since != work.job.account.tried_again
        if halted is not None and not is_old:
            await self._hold(work.job, halted.reason, halted.account_for_s)

    async def _hold(self, job: OpenJob, reason: str, account_for_s: float | None = None) -> None:
        await self._account_holds.halt(job, reason, account_for_s)

    async def _settle(self, work: Work) -> None:
        tries = 0
        while True:
            try:
                return await self._dispatcher.settle(work)
            except LedgerUnavailableError as error:
                tries += 1
                log.warning("slice_not_settled", job=work.job.job.id, error=str(error))
                await self._clock.sleep(retry.LEDGER.delay_s(tries))


async def _first_of(whole: asyncio.Future[Any], given_up: asyncio.Event) -> None:
    """Wait for either; raises nothing of it."""
    giving_up = asyncio.ensure_future(given_up.wait())
    try:
        await asyncio.wait({whole, giving_up}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        giving_up.cancel()


def _wanted(lease: Lease) -> set[int]:
    """Who of a slice must still be asked: the unasked, and those put off."""
    return {*lease.unasked, *(one.recipient_id for one in lease.deferrals)}
