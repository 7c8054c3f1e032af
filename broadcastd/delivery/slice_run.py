"""One leased slice on its way: small write-ahead chunks, and a bounded number of sends in flight.

The granter lets recipients through in chunks, each once its mark is on disk; at most two chunks are granted
and unanswered at any time, so that is what a kill can leave in doubt. The slots take who is granted and ask.
"""

import asyncio
import dataclasses
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from broadcastd.clock import Clock
from broadcastd.delivery.accounts import OpenJob
from broadcastd.delivery.answered import Recipient
from broadcastd.delivery.memory import Follower, Recollection
from broadcastd.delivery.opt_outs import ALWAYS_BEFORE
from broadcastd.delivery.recorder import Recorder
from broadcastd.delivery.sender import STOPPED, Sender
from broadcastd.model import (
    WITH_ITS_CHUNK,
    Deferral,
    DeferralRow,
    GatheredRow,
    Lease,
    OutcomeRow,
    SliceMark,
    Split,
)
from broadcastd.outcomes import Ended, Gather, Halt, Later, Outcome, Verdict

SMALLEST_CHUNK = 8
"""Of recipients that one mark lets through."""


@dataclass(frozen=True, slots=True)
class SharedParts:
    """What all tasks use together."""

    sender: Sender
    recorder: Recorder
    clock: Clock


class SliceRun:
    """Sends one slice. `run` returns when nobody of it can be asked now."""

    def __init__(
        self,
        lease: Lease,
        job: OpenJob,
        rows: Sequence[tuple[int, str]],
        shared: SharedParts,
        pulled_s: float = ALWAYS_BEFORE,
        recollection: Recollection | None = None,
    ) -> None:
        """`pulled_s`: when (monotonic) the rows began to be read; who has opted out since is not in them."""
        self.lease = lease
        self.job = job
        self.halted: Halt | None = None
        self.lease_lost = False
        self._sender, self._recorder = shared.sender, shared.recorder
        self._pace, self._clock = job.account.pace, shared.clock
        self._opt_outs, self._pulled_s = job.account.opt_outs, pulled_s
        self._recollection = recollection
        openids = dict(rows)
        unasked = lease.unasked
        self._last_id = unasked[-1] if unasked else None
        self._unasked = [(one, openids[one]) for one in unasked if one in openids]
        self._next = 0
        self._put_off = deque(
            (one, openids[one.recipient_id]) for one in lease.deferrals if one.recipient_id in openids
        )
        self._ready: deque[Recipient] = deque()
        self._outstanding = 0
        self._slots = 0
        self._granting = True
        self._stopping = False
        self._more_ready = asyncio.Event()
        self._fewer_outstanding = asyncio.Event()

    # -- from the dispatcher ---------------------------------------------------------------------------

    def stop(self) -> None:
        """Ask nobody who is not being asked already."""
        self._stopping = True
        self._fewer_outstanding.set()
        self._more_ready.set()
        for lane in self.job.account.lanes.values():
            lane.look()

    @property
    def stopping(self) -> bool:
        """Whether it only waits for the calls under way."""
        return self._stopping

    @property
    def spare(self) -> int:
        """How many are neither asked nor let through: what could be given away."""
        return 0 if self._stopping else len(self._unasked) - self._next

    def give_half(self) -> tuple[Split, list[tuple[int, str]]]:
        """Give the second half of `spare` away: the split to commit, and the rows that go with it."""
        at = self._next + (self.spare + 1) // 2
        given = self._unasked[at:]
        del self._unasked[at:]
        first = given[0][0]
        keep = tuple(one for one in self.lease.ids if one < first)
        give = tuple(one for one in self.lease.ids if one >= first)
        split = Split(self.lease, keep, give)
        self.lease = dataclasses.replace(self.lease, ids=keep)
        self._last_id = keep[-1]
        return split, given

    async def run(self) -> None:
        """Ask everybody who can be asked now, then report who was let through and not asked."""
        async with asyncio.TaskGroup() as group:
            await self._grant(group)
        if not self.lease_lost:
            now = self._clock.now()
            for who in self._ready:
                self._put_off_again(
                    Deferral(who.id, now, who.channel_no, who.tries, who.doubts, who.refusals)
                )
        self._ready.clear()

    # -- the granter -----------------------------------------------------------------------------------

    async def _grant(self, group: asyncio.TaskGroup) -> None:
        while not self._stopping:
            chunk, mark = self._next_chunk()
            if not chunk:
                break
            if not await self._recorder.mark(mark):
                self.lease_lost = True
                self.stop()
                break
            self._outstanding += len(chunk)
            self._ready.extend(chunk)
            self._more_ready.set()
            self._staff(group)
            while self._outstanding > self._chunk_size and not self._stopping:
                self._fewer_outstanding.clear()
                await self._fewer_outstanding.wait()
        self._granting = False
        self._more_ready.set()

    @property
    def _chunk_size(self) -> int:
        return max(SMALLEST_CHUNK, self._pace.sends_per_task)

    def _next_chunk(self) -> tuple[list[Recipient], SliceMark]:
        now = self._clock.now()
        chunk: list[Recipient] = []
        while self._put_off and len(chunk) < self._chunk_size and self._put_off[0][0].due_at <= now:
            one, openid = self._put_off.popleft()
            chunk.append(
                Recipient(
                    one.recipient_id,
                    openid,
                    one.channel_no,
                    one.tries,
                    one.doubts,
                    one.refusals,
                    was_deferred=True,
                    follower=self._follower(openid),
                )
            )
        armed = [who.id for who in chunk]
        fresh = self._unasked[self._next : self._next + self._chunk_size - len(chunk)]
        self._next += len(fresh)
        chunk.extend(Recipient(one, openid, follower=self._follower(openid)) for one, openid in fresh)
        # The last mark covers who is gone from the end of the slice, too.
        last_fresh = fresh[-1][0] if fresh else None
        upto = self._last_id if self._next == len(self._unasked) else last_fresh
        return chunk, SliceMark(self.lease, upto, armed)

    def _follower(self, openid: str) -> Follower | None:
        return None if self._recollection is None else self._recollection.of(openid)

    def _staff(self, group: asyncio.TaskGroup) -> None:
        while self._slots < min(self._pace.sends_per_task, self._outstanding):
            self._slots += 1
            group.create_task(self._slot(), name=f"slot of slice {self.lease.job_no}/{self.lease.slice_no}")

    # -- a slot ----------------------------------------------------------------------------------------

    async def _slot(self) -> None:
        gate = self.job.account.gate
        try:
            while not self._stopping and self._slots <= self._pace.sends_per_task:
                if not self._ready:
                    if not self._granting:
                        return
                    self._more_ready.clear()
                    await self._more_ready.wait()
                elif not gate.enter():
                    await gate.wait()
                else:
                    who = self._ready.popleft()
                    try:
                        self._settle(who, await self._ask(who))
                    finally:
                        gate.leave()
        finally:
            self._slots -= 1

    async def _ask(self, who: Recipient) -> Verdict:
        if self._opt_outs is None:
            return await self._sender.ask(self.job, who, self._may_ask)
        if not self._barred(who):
            verdict = await self._sender.ask(self.job, who, lambda: self._may_ask() and not self._barred(who))
            if not (isinstance(verdict, Later) and verdict.reason == STOPPED and self._barred(who)):
                return verdict
        # Who was asked before and gave no answer may have it.
        return Ended(Outcome.UNKNOWN if who.doubts else Outcome.SKIPPED)

    def _barred(self, who: Recipient) -> bool:
        """Whether they have opted out by a reply since their row was read."""
        return self._opt_outs is not None and self._opt_outs.bars(who.openid, self._pulled_s)

    def _may_ask(self) -> bool:
        if self._stopping:
            return False
        # Here too, not only by the timekeeper: a loop that is busy would let it come late.
        deadline = self.job.job.not_after
        return deadline is None or self._clock.now() < deadline

    def _settle(self, who: Recipient, verdict: Verdict) -> None:
        now = self._clock.now()
        if who.follower is not None:
            self._note(who.follower)
        match verdict:
            case Ended(outcome, channel, errcode, msgid):
                self.job.ended += 1
                row = OutcomeRow(
                    self.lease.job_no,
                    who.id,
                    who.openid,
                    outcome,
                    channel,
                    errcode,
                    now,
                    who.was_deferred,
                    self.lease.round_no,
                    # A callback is told how the message ends; without one nobody will ask for the number.
                    msgid if self._opt_outs is not None else None,
                )
                self._recorder.end(row)
                self.job.account.tally.ended(channel, outcome, self._clock.monotonic_s())
            case Later(delay_s, reason, channel_no, tries, in_doubt, refusals):
                self.job.tried += reason != STOPPED
                due_at = now + timedelta(seconds=delay_s)
                again = Deferral(who.id, due_at, channel_no, tries, who.doubts + in_doubt, refusals)
                self._put_off_again(again, in_doubt=in_doubt)
            case Gather(channel_no):
                self.job.tried += 1
                waits = Deferral(who.id, WITH_ITS_CHUNK, channel_no, who.tries, who.doubts)
                self._recorder.gather(
                    GatheredRow(self.lease.job_no, who.id, who.openid),
                    DeferralRow(self.lease.job_no, self.lease.slice_no, waits),
                )
            case Halt(_, channel_no):
                self._put_off_again(Deferral(who.id, now, channel_no, who.tries, who.doubts))
                self.halted = verdict
                self.stop()
        self._outstanding -= 1
        self._fewer_outstanding.set()

    def _note(self, follower: Follower) -> None:
        if follower.saved:
            self._recorder.save(self.lease.job_no, follower.saved)
        if follower.learned:
            self._recorder.learn(follower.learned)

    def _put_off_again(self, deferral: Deferral, *, in_doubt: bool = False) -> None:
        self._recorder.put_off(DeferralRow(self.lease.job_no, self.lease.slice_no, deferral, in_doubt))
