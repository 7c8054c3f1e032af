"""Sends what was gathered over the slices: mass messages of up to 10,000 recipients each.

A chunk's list and `clientmsgid` are on disk before its call, and so is that the call may be made. What was
asked and got no answer is asked again, with the same list and `clientmsgid`: WeChat then sends nothing, and
says so (45065). It remembers that for a day; who is without an answer so long is `unknown`.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta

import structlog

from broadcastd import retry
from broadcastd.chunks import Chunk, MassStand
from broadcastd.clock import Clock
from broadcastd.delivery.account_holds import AccountHolds
from broadcastd.delivery.accounts import Account, OpenJob
from broadcastd.delivery.answered import Recipient
from broadcastd.delivery.open_jobs import OpenJobs
from broadcastd.delivery.sender import Sender
from broadcastd.errcodes import Action, in_words, meaning_of
from broadcastd.errors import AudienceUnavailableError, LedgerUnavailableError
from broadcastd.mass_ports import ChunkEnd, MassLedger, Member, is_list
from broadcastd.model import TOO_MANY_GONE
from broadcastd.outcomes import Ended, Halt, Later, Outcome, Verdict
from broadcastd.states import ChunkState

log = structlog.get_logger()

MOST = 10_000
"""Of one list (docs/wechat-api.md, section 4)."""
TOO_FEW = 40130
"""What WeChat answers to a list of one."""

LOOK_S = 0.5
"""How often it looks whether there is something to send."""

AGAIN_S = 60.0
"""The same `clientmsgid` may be repeated after a minute (45066)."""

REMEMBERED = timedelta(hours=23, minutes=50)
"""For 24 hours after the first call a repeat is told apart; less a margin for clocks."""

RECHECK_S = 60.0
"""A list that was made longer ago, and not asked yet, is compared with the audience once more."""

REFUSED_IN_A_ROW = 20
"""Lists that WeChat finds wrong, before the job is held: a mass call is one of 100 a day."""

PULLED_AT_ONCE = 500
"""Ids between whose first and last the audience is read at once."""


@dataclass(frozen=True, slots=True)
class _Again:
    """When a chunk is asked again, and what came of it so far."""

    due_s: float = 0.0
    tries: int = 0
    refusals: int = 0


class Masses:
    """One account's. `run` must be running."""

    def __init__(  # noqa: PLR0913 - its neighbours
        self,
        account: Account,
        ledger: MassLedger,
        jobs: OpenJobs,
        sender: Sender,
        holds: AccountHolds,
        clock: Clock,
        *,
        gather_s: float,
    ) -> None:
        self.account = account
        self._ledger = ledger
        self._jobs = jobs
        self._sender = sender
        self._holds = holds
        self._clock = clock
        self._gather_s = gather_s
        self._again: dict[tuple[int, int], _Again] = {}
        self._waiting_since_s: dict[int, float] = {}
        self._refused: Counter[int] = Counter()
        """A job's lists that were found wrong, since one was taken."""
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()

    def stop(self) -> None:
        """Begin no call any more."""
        self._stopping = True

    async def idle(self) -> None:
        """Return once no call is under way, and its answer is noted."""
        await self._idle.wait()

    async def run(self) -> None:
        """Look after the account's jobs until stopped."""
        tries = 0
        while not self._stopping:
            self._idle.clear()
            try:
                busy = await self._round()
                tries = 0
            except LedgerUnavailableError as error:
                busy, tries = False, tries + 1
                log.warning("mass_not_looked_after", account=self.account.name, error=str(error))
            finally:
                self._idle.set()
            if not busy:
                await self._clock.sleep(retry.LEDGER.delay_s(tries) if tries else LOOK_S)

    async def _round(self) -> bool:
        """One step for each job; whether anything was done."""
        done = [
            await self._step(job)
            for job in self._jobs
            if job.account is self.account and job.gathers_at is not None and self._may_ask(job)
        ]
        return any(done)

    def _may_ask(self, job: OpenJob) -> bool:
        deadline = job.job.not_after
        in_time = deadline is None or self._clock.now() < deadline
        return job.going and in_time and not self._stopping

    async def _step(self, job: OpenJob) -> bool:
        stand = await self._ledger.mass_stand(job.no)
        for chunk in stand.chunks:
            if self._is_due(chunk) and await self._look_at(job, chunk):
                return True
        if not stand.waiting or any(chunk.state is ChunkState.MADE for chunk in stand.chunks):
            self._waiting_since_s.pop(job.no, None)
            return False
        if not self._is_time(job, stand):
            return False
        held = self._sender.held_list(job, _channel_no(job))
        if held is not None:
            return await self._stand_aside(job, held, None)
        return await self._make(job, stand)

    # -- making ----------------------------------------------------------------------------------------

    def _is_time(self, job: OpenJob, stand: MassStand) -> bool:
        """Whether those who wait are as many as a list takes, the last ones, or have waited long enough."""
        if stand.waiting >= MOST:
            return True
        if not stand.others_left:
            return stand.waiting > 1 or not stand.chunks
        since_s = self._waiting_since_s.setdefault(job.no, self._clock.monotonic_s())
        return stand.waiting > 1 and self._clock.monotonic_s() - since_s >= self._gather_s

    async def _make(self, job: OpenJob, stand: MassStand) -> bool:
        # Nobody is to be left alone: a list has two at the least.
        some = MOST - 1 if stand.waiting == MOST + 1 else MOST
        rows = await self._ledger.gathered(job.no, some)
        here = await self._still_here(job, rows)
        if here is None:
            return False
        gone = {one for one, _ in rows} - here
        if len(gone) > self.account.max_gone_share * len(rows) and not job.gone_allowed:
            await self._holds.halt(
                job,
                f"{len(gone)} of {len(rows)} recipients that wait for a mass message are gone from the"
                f" audience, {TOO_MANY_GONE}",
            )
            return True
        self._waiting_since_s.pop(job.no, None)
        if len(rows) == 1 and not gone:
            return await self._alone(job)
        chunk = await self._ledger.make_chunk(job.no, here, gone, self._clock.now())
        job.ended += 1
        if chunk is not None:
            log.info("mass_made", job=job.job.id, chunk=chunk.no, recipients=chunk.size)
        if gone:
            self._jobs.goes_on(job.no)
        return True

    async def _still_here(self, job: OpenJob, rows: Sequence[Member]) -> set[int] | None:
        """Who is in the audience now, and has not opted out by a reply; None when it cannot be read."""
        ids = [one for one, _ in rows]
        here: set[int] = set()
        try:
            for at in range(0, len(ids), PULLED_AT_ONCE):
                some = ids[at : at + PULLED_AT_ONCE]
                pulled_s = self._clock.monotonic_s()
                found = await job.audience.pull(job.job.time, some[0], some[-1])
                left = {one for one, openid in found if openid and not self._barred([openid], pulled_s)}
                here.update(left.intersection(some))
        except AudienceUnavailableError as error:
            job.waits_for = f"its audience cannot be read: {error}"
            log.warning("audience_unavailable", job=job.job.id, error=str(error))
            return None
        job.waits_for = ""
        return here

    def _barred(self, openids: Iterable[str], since_s: float) -> bool:
        """Whether somebody has opted out by a reply since then, or the audience may not know it yet."""
        opt_outs = self.account.opt_outs
        return opt_outs is not None and any(opt_outs.bars(one, since_s) for one in openids)

    async def _alone(self, job: OpenJob) -> bool:
        """Somebody who is the only one left: WeChat takes no list of one."""
        now, no = self._clock.now(), _channel_no(job)
        if no + 1 < len(job.route):
            await self._ledger.pass_on(job.no, no + 1, None, now)
        else:
            end = ChunkEnd(Outcome.REJECTED, job.route[no][0].name, TOO_FEW)
            await self._ledger.end_waiting(job.no, end, now)
            self.account.tally.ended(end.channel, end.outcome, self._clock.monotonic_s())
        log.info("mass_too_few", job=job.job.id, reason=in_words(TOO_FEW))
        self._jobs.goes_on(job.no)
        return True

    # -- asking ----------------------------------------------------------------------------------------

    def _is_due(self, chunk: Chunk) -> bool:
        known = self._again.get((chunk.job_no, chunk.no))
        if known is not None:
            return known.due_s <= self._clock.monotonic_s()
        # After a start: its last call may have been a moment ago.
        return chunk.asked_at is None or self._clock.now() >= chunk.asked_at + timedelta(seconds=AGAIN_S)

    async def _look_at(self, job: OpenJob, chunk: Chunk) -> bool:
        """Ask a chunk, unless something speaks against it; whether anything was done."""
        now = self._clock.now()
        if chunk.first_asked_at is not None and now >= chunk.first_asked_at + REMEMBERED:
            await self._end(job, chunk, ChunkEnd(Outcome.UNKNOWN, job.route[_channel_no(job)][0].name))
            return True
        held = self._sender.held_list(job, _channel_no(job))
        if held is not None:
            return await self._stand_aside(job, held, chunk)
        if chunk.state is ChunkState.MADE and now >= chunk.made_at + timedelta(seconds=RECHECK_S):
            rows = await self._ledger.chunk_members(job.no, chunk.no)
            here = await self._still_here(job, rows)
            if here is None:
                return False
            if len(here) < len(rows):
                await self._ledger.give_up_chunk(job.no, chunk.no)
                return True
        if not self.account.gate.enter():
            return False
        self._jobs.at_call.add(job.no)
        try:
            return await self._ask(job, chunk)
        finally:
            self.account.gate.leave()
            self._jobs.at_call.discard(job.no)
            self._jobs.closing_goes_on.set()

    async def _stand_aside(self, job: OpenJob, held: Verdict, chunk: Chunk | None) -> bool:
        """The channel is held. What may have been sent waits all the same; the others may have another."""
        if isinstance(held, Halt):
            await self._holds.halt(job, held.reason, held.account_for_s)
            return True
        if isinstance(held, Later) and held.channel_no != _channel_no(job):
            if chunk is not None and chunk.state is ChunkState.ASKED:
                return False
            return await self._pass_on(job, held.channel_no, None)
        return False

    async def _ask(self, job: OpenJob, chunk: Chunk) -> bool:
        began_s = self._clock.monotonic_s()
        rows = await self._ledger.ask_chunk(job.no, chunk.no, self._clock.now())
        if rows is None:
            return False
        openids = [openid for _, openid in rows]
        doubtful = chunk.state is ChunkState.ASKED
        no = _channel_no(job)
        message = job.route[no][1]
        assert is_list(message)
        body = message.list_body(openids, chunk.clientmsgid)
        known = self._again.get((job.no, chunk.no), _Again())
        # Of the doubts the sender is not told: what is done about them is another matter with a list.
        who = Recipient(0, chunk.clientmsgid, no, known.tries, 0, known.refusals)

        def may_ask() -> bool:
            # A list that may have been sent stays as it is: the repeat tells, and sends nothing then.
            return self._may_ask(job) and (doubtful or not self._barred(openids, began_s))

        # Who opts out from here on is told so when the call is over, or was not made.
        with nullcontext() if self.account.opt_outs is None else self.account.opt_outs.calling_all(openids):
            verdict = await self._sender.ask_list(job, no, who, body, may_ask)
        job.tried += 1
        await self._noted(lambda: self._act(job, chunk, verdict))
        return True

    async def _noted(self, act: Callable[[], Awaitable[None]]) -> None:
        """Note an answer, however long the ledger cannot be written. Each note may be repeated."""
        tries = 0
        while True:
            try:
                return await act()
            except LedgerUnavailableError as error:
                tries += 1
                log.warning("ledger_unwritable", error=str(error))
                await self._clock.sleep(retry.LEDGER.delay_s(tries))

    # -- answers ---------------------------------------------------------------------------------------

    async def _act(self, job: OpenJob, chunk: Chunk, verdict: Verdict) -> None:
        """What becomes of a chunk. `doubtful`: an earlier call may have arrived, whatever this one says."""
        doubtful = chunk.state is ChunkState.ASKED
        match verdict:
            case Ended(Outcome.SENT, channel, _, msg_id):
                self._refused.pop(job.no, None)
                await self._end(job, chunk, ChunkEnd(Outcome.SENT, channel, 0, msg_id))
            case Ended(Outcome.UNKNOWN) | Later(in_doubt=True):
                self._put_off(chunk, AGAIN_S)
                log.warning("mass_unanswered", job=job.job.id, chunk=chunk.no, recipients=chunk.size)
            case Halt(errcode=errcode) if meaning_of(errcode).action is Action.REBUILD:
                await self._rebuild(job, chunk, errcode)
            case Ended(Outcome.REJECTED, _, errcode):
                await self._rebuild(job, chunk, errcode)
            case Halt(reason, _, account_for_s):
                await self._ledger.chunk_not_sent(job.no, chunk.no)
                self._put_off(chunk, AGAIN_S if doubtful else 0.0)
                await self._holds.halt(job, reason, account_for_s)
            case _ if doubtful:
                self._put_off(chunk, AGAIN_S)
            case Ended(Outcome.FAILED, channel, errcode):
                await self._end(job, chunk, ChunkEnd(Outcome.FAILED, channel, errcode))
            case Later(_, _, channel_no) if channel_no != _channel_no(job):
                await self._ledger.chunk_not_sent(job.no, chunk.no)
                await self._pass_on(job, channel_no, None)
            case Later(delay_s, _, _, tries, _, refusals):
                await self._ledger.chunk_not_sent(job.no, chunk.no)
                self._put_off(chunk, delay_s, tries, refusals)

    def _put_off(self, chunk: Chunk, delay_s: float, tries: int = 0, refusals: int = 0) -> None:
        due_s = self._clock.monotonic_s() + delay_s
        self._again[chunk.job_no, chunk.no] = _Again(due_s, tries, refusals)

    async def _end(self, job: OpenJob, chunk: Chunk, end: ChunkEnd) -> None:
        await self._ledger.end_chunk(job.no, chunk.no, end, self._clock.now())
        self.account.tally.ended(end.channel, end.outcome, self._clock.monotonic_s(), chunk.size)
        job.ended += 1
        log.info(
            f"mass_{end.outcome.value}",
            job=job.job.id,
            chunk=chunk.no,
            recipients=chunk.size,
            msg_id=end.msg_id,
            errcode=end.errcode,
        )
        self._forget(job, chunk)

    async def _pass_on(self, job: OpenJob, channel_no: int, only_chunk: int | None) -> bool:
        many = await self._ledger.pass_on(job.no, channel_no, only_chunk, self._clock.now())
        job.ended += 1
        log.info("mass_passed_on", job=job.job.id, recipients=many, channel=job.route[channel_no][0].name)
        self._jobs.goes_on(job.no)
        return True

    def _forget(self, job: OpenJob, chunk: Chunk) -> None:
        self._again.pop((job.no, chunk.no), None)
        self._jobs.goes_on(job.no)

    async def _rebuild(self, job: OpenJob, chunk: Chunk, errcode: int) -> None:
        """Somebody of the list is wrong, and nobody says who: halves tell, down to two."""
        self._refused[job.no] += 1
        log.warning("mass_list_refused", job=job.job.id, chunk=chunk.no, reason=in_words(errcode))
        if self._refused[job.no] >= REFUSED_IN_A_ROW:
            del self._refused[job.no]
            await self._ledger.chunk_not_sent(job.no, chunk.no, errcode)
            self._put_off(chunk, 0.0)
            lists = f"{REFUSED_IN_A_ROW} lists in a row"
            await self._holds.halt(job, f"{in_words(errcode)}, for {lists}: openids of another account?")
            return
        next_no = _channel_no(job) + 1
        if chunk.size > 2:
            await self._ledger.halve_chunk(job.no, chunk.no, errcode, self._clock.now())
        elif next_no < len(job.route):
            await self._pass_on(job, next_no, chunk.no)
        else:
            channel = job.route[next_no - 1][0].name
            await self._end(job, chunk, ChunkEnd(Outcome.REJECTED, channel, errcode))
        self._forget(job, chunk)


def _channel_no(job: OpenJob) -> int:
    assert job.gathers_at is not None
    return job.gathers_at
