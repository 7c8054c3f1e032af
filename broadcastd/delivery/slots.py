"""Who of a slice is let through, and what becomes of them.

Two ways to ask: one after the other on one connection (`stream`), where nothing speaks against it; or each by
itself (`sender`), with everything that may be in the way looked at again.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from broadcastd.batch import DeferralRow, GatheredRow, OutcomeRow
from broadcastd.clock import Clock
from broadcastd.delivery.accounts import OpenJob
from broadcastd.delivery.answered import Recipient
from broadcastd.delivery.memory import Follower, Recollection
from broadcastd.delivery.recorder import Recorder
from broadcastd.delivery.sender import STOPPED, Fell, Heard, Sender
from broadcastd.delivery.stream import Stream
from broadcastd.errcodes import Action, meaning_of
from broadcastd.errors import TokenUnavailableError
from broadcastd.model import WITH_ITS_CHUNK, Deferral, Lease
from broadcastd.outcomes import Answer, Ended, Gather, Halt, Later, Outcome, Verdict


@dataclass(frozen=True, slots=True)
class SharedParts:
    """What all tasks use together."""

    sender: Sender
    recorder: Recorder
    clock: Clock


class Slots:
    """One leased slice's. Each (`work`) takes who is let through, and asks."""

    def __init__(
        self,
        lease: Lease,
        job: OpenJob,
        shared: SharedParts,
        pulled_s: float,
        recollection: Recollection | None,
    ) -> None:
        """`pulled_s`: when (monotonic) the rows began to be read; who has opted out since is not in them."""
        self.job = job
        self.sender, self.recorder, self.clock = shared.sender, shared.recorder, shared.clock
        self.job_no, self.slice_no, self.round_no = lease.job_no, lease.slice_no, lease.round_no
        self.pulled_s = pulled_s
        self.halted: Halt | None = None
        self.stopping = False
        self.granting = True
        """Whether more will be let through."""
        self.unanswered = 0
        """How many are let through, and have not been settled."""
        self.few = 0
        self.fewer = asyncio.Event()
        """Set when `few` or less are unanswered, not with each who is settled: it would wake for nothing."""
        self.at_work = 0
        """How many slots there are now: who starts one counts it, and it counts itself out."""
        self._pace = job.account.pace
        self._opt_outs = job.account.opt_outs
        self._recollection = recollection
        self.one_by_one: deque[Recipient] = deque()
        self.streams: tuple[deque[Recipient], ...] = tuple(deque() for _ in job.route)
        """Those to ask in a stream, by the channel that they are asked on first."""
        self._more = asyncio.Event()

    # -- letting through -------------------------------------------------------------------------------

    def let_through(self, some: Sequence[Recipient]) -> None:
        """Their mark is on disk."""
        self.unanswered += len(some)
        plain = self.streams[0]
        is_known = self._recollection is not None and not self._recollection.knows_nobody
        if is_known or self.job.gathers_at == 0:
            for who in some:
                self._queue_for(who).append(who)
        else:
            for who in some:
                (self.one_by_one if who.was_deferred else plain).append(who)
        self._more.set()

    def _queue_for(self, who: Recipient) -> deque[Recipient]:
        if who.was_deferred:
            return self.one_by_one
        recollection = self._recollection
        if recollection is not None and who.follower is None and recollection.knows(who.openid):
            who.follower = recollection.of(who.openid)
        channel_no = self._first_call(who)
        return self.one_by_one if channel_no is None else self.streams[channel_no]

    def _first_call(self, who: Recipient) -> int | None:
        """The channel that is asked first, after those that are spared; None: that has to be looked into."""
        route = self.job.route
        for channel_no in range(who.channel_no, len(route)):
            if channel_no == self.job.gathers_at:
                return None
            follower, name = who.follower, route[channel_no][0].name
            has_next = channel_no + 1 < len(route)
            errcode = 0 if follower is None else follower.would_spare(name, has_next=has_next)
            if not errcode:
                return channel_no
            if meaning_of(errcode).action is Action.REJECT:
                return None
        return None

    def nobody_more(self) -> None:
        """All who could be let through are."""
        self.granting = False
        self._more.set()

    def stop(self) -> None:
        """Ask nobody who is not being asked already."""
        self.stopping = True
        self.fewer.set()
        self._more.set()
        for lane in self.job.account.lanes.values():
            lane.look()

    def put_off_left(self) -> None:
        """Who was let through and not asked is due at once, when the slice goes on."""
        now = self.clock.now()
        for queue in (self.one_by_one, *self.streams):
            for who in queue:
                self._put_off(Deferral(who.id, now, who.channel_no, who.tries, who.doubts, who.refusals))
            queue.clear()

    # -- a slot ----------------------------------------------------------------------------------------

    async def work(self) -> None:
        """Ask whoever is there, one after the other, until nobody more will be let through."""
        gate = self.job.account.gate
        try:
            while not self.stopping and self.at_work <= self._pace.sends_per_task:
                if not self.one_by_one and not any(self.streams):
                    if not self.granting:
                        return
                    self._more.clear()
                    await self._more.wait()
                elif not gate.enter():
                    await gate.wait()
                else:
                    try:
                        await self._ask_some()
                    finally:
                        gate.leave()
        finally:
            self.at_work -= 1

    async def _ask_some(self) -> None:
        if not self.one_by_one and await self._stream():
            return
        queue = next((queue for queue in (self.one_by_one, *self.streams) if queue), None)
        if queue is not None:
            who = queue.popleft()
            self.settle(who, await self._ask(who))

    async def _stream(self) -> bool:
        """Ask as many as can be asked one after the other; False: the next has to be asked by itself."""
        account = self.job.account
        try:
            token = await account.tokens.token()
        except TokenUnavailableError:
            return False
        channel_no = next((no for no, queue in enumerate(self.streams) if queue), None)
        if channel_no is None:
            return False
        channel = self.job.route[channel_no][0]
        ticket = account.lanes[channel.name].enter_at_once()
        if not ticket:
            return False
        stream = Stream(self, channel_no, token, ticket)
        try:
            await channel.make_calls(stream, token)
        finally:
            stream.close()
        if stream.heard is not None:
            who, heard = stream.heard
            self.settle(who, await self._ask(who, heard))
        return stream.calls > 0

    async def _ask(self, who: Recipient, heard: Heard | None = None) -> Verdict:
        self._recall(who)
        if self._opt_outs is None:
            return await self.sender.ask(self.job, who, self.may_ask, heard)
        if not self.is_barred(who.openid):
            verdict = await self.sender.ask(
                self.job, who, lambda: self.may_ask() and not self.is_barred(who.openid), heard
            )
            is_stopped = isinstance(verdict, Later) and verdict.reason == STOPPED
            if not (is_stopped and self.is_barred(who.openid)):
                return verdict
        # Who was asked before and gave no answer may have it.
        return Ended(Outcome.UNKNOWN if who.doubts else Outcome.SKIPPED)

    def _recall(self, who: Recipient) -> None:
        if who.follower is None and self._recollection is not None:
            who.follower = self._recollection.of(who.openid)

    def is_barred(self, openid: str) -> bool:
        """Whether they have opted out by a reply since their row was read."""
        return self._opt_outs is not None and self._opt_outs.bars(openid, self.pulled_s)

    def may_ask(self) -> bool:
        """Whether anybody may be asked now."""
        if self.stopping:
            return False
        # Here too, not only by the timekeeper: a loop that is busy would let it come late.
        deadline = self.job.job.not_after
        return deadline is None or self.clock.now() < deadline

    # -- what becomes of them --------------------------------------------------------------------------

    def judge(self, who: Recipient, channel_no: int, answer: Answer, since: int) -> None:
        """Somebody was asked in a stream, and answered so that something has to be done.

        `since`: how often the account had been tried again when the call began.
        """
        self._recall(who)
        verdict = self.sender.judge(self.job, channel_no, who, answer, since)
        if not isinstance(verdict, Fell):
            return self.settle(who, verdict)
        errcode = verdict.errcode or who.errcode
        if channel_no + 1 == len(self.job.route):
            return self.settle(who, Ended(Outcome.REJECTED, self.job.route[channel_no][0].name, errcode))
        who.channel_no, who.errcode = channel_no + 1, errcode
        self._queue_for(who).append(who)
        self._more.set()
        return None

    def count_sent(self, channel: str, many: int, now_s: float) -> None:
        """So many got the message."""
        self.job.ended += many
        self.job.account.tally.ended(channel, Outcome.SENT, now_s, many)

    def answered(self) -> None:
        """Somebody is settled."""
        self.unanswered -= 1
        if self.unanswered <= self.few:
            self.fewer.set()

    def settle(self, who: Recipient, verdict: Verdict) -> None:
        """Record what was decided of somebody who was asked."""
        if who.follower is not None:
            self.note(who.follower)
        match verdict:
            case Ended():
                self._end(who, verdict)
            case Later(delay_s, reason, channel_no, tries, in_doubt, refusals):
                self.job.tried += reason != STOPPED
                due_at = self.clock.now() + timedelta(seconds=delay_s)
                again = Deferral(who.id, due_at, channel_no, tries, who.doubts + in_doubt, refusals)
                self._put_off(again, in_doubt=in_doubt)
            case Gather(channel_no):
                self.job.tried += 1
                waits = Deferral(who.id, WITH_ITS_CHUNK, channel_no, who.tries, who.doubts)
                row = GatheredRow(self.job_no, who.id, who.openid)
                self.recorder.gather(row, DeferralRow(self.job_no, self.slice_no, waits))
            case Halt(_, channel_no):
                self._put_off(Deferral(who.id, self.clock.now(), channel_no, who.tries, who.doubts))
                self.halted = verdict
                self.stop()
        self.answered()

    def _end(self, who: Recipient, ended: Ended) -> None:
        row = OutcomeRow(
            self.job_no,
            who.id,
            who.openid,
            ended.outcome,
            ended.channel,
            ended.errcode,
            self.clock.now(),
            who.was_deferred,
            self.round_no,
            # A callback is told how the message ends; without one nobody will ask for the number.
            ended.msgid if self._opt_outs is not None else None,
        )
        self.recorder.end(row)
        self.job.ended += 1
        self.job.account.tally.ended(ended.channel, ended.outcome, self.clock.monotonic_s())

    def note(self, follower: Follower) -> None:
        """Record what asking somebody has saved and taught."""
        if follower.saved:
            self.recorder.save(self.job_no, follower.saved)
        if follower.learned:
            self.recorder.learn(follower.learned)

    def _put_off(self, deferral: Deferral, *, in_doubt: bool = False) -> None:
        self.recorder.put_off(DeferralRow(self.job_no, self.slice_no, deferral, in_doubt))
