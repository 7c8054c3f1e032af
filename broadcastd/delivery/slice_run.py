"""One leased slice on its way: small write-ahead chunks, and a bounded number of sends in flight.

The granter lets recipients through by marks, each once it is on disk. It asks for the next when a chunk or
less is unanswered. How far that one goes is settled when it is written: to two chunks in all, so that is what
a kill can leave in doubt. The slots take who is let through and ask (`slots`).
"""

import asyncio
import bisect
import dataclasses
from collections import deque
from collections.abc import Sequence

from broadcastd.batch import SliceMark
from broadcastd.delivery.accounts import OpenJob
from broadcastd.delivery.answered import Recipient
from broadcastd.delivery.memory import Recollection
from broadcastd.delivery.opt_outs import ALWAYS_BEFORE
from broadcastd.delivery.slots import SharedParts, Slots
from broadcastd.delivery.unasked import Row, Unasked
from broadcastd.frozen import Ids
from broadcastd.model import Deferral, Lease, Split
from broadcastd.outcomes import Halt


class SliceRun:
    """Sends one slice. `run` returns when nobody of it can be asked now."""

    def __init__(
        self,
        lease: Lease,
        job: OpenJob,
        rows: Sequence[Row],
        shared: SharedParts,
        pulled_s: float = ALWAYS_BEFORE,
        recollection: Recollection | None = None,
    ) -> None:
        """`pulled_s`: when (monotonic) the rows began to be read; who has opted out since is not in them."""
        self.lease = lease
        self.job = job
        self.lease_lost = False
        self._slots = Slots(lease, job, shared, pulled_s, recollection)
        self._recorder, self._clock = shared.recorder, shared.clock
        self._pace = job.account.pace
        unasked = list(lease.unasked)
        self._last_id = unasked[-1] if unasked else None
        by_id: dict[int, Row] = {}
        if lease.deferrals or [row[0] for row in rows] != unasked:  # who is gone, or put off
            by_id = {row[0]: row for row in rows}
            rows = [by_id[one] for one in unasked if one in by_id]
        self._unasked = Unasked(rows)
        self._chunk: list[Recipient] = []
        """Whom the mark lets through that is being written."""
        self._put_off = deque(
            (one, by_id[one.recipient_id][1]) for one in lease.deferrals if one.recipient_id in by_id
        )

    # -- from the dispatcher ---------------------------------------------------------------------------

    @property
    def halted(self) -> Halt | None:
        """Why the job, or its account, cannot go on."""
        return self._slots.halted

    def stop(self) -> None:
        """Ask nobody who is not being asked already."""
        self._slots.stop()

    @property
    def stopping(self) -> bool:
        """Whether it only waits for the calls under way."""
        return self._slots.stopping

    @property
    def spare(self) -> int:
        """How many are neither asked nor let through: what could be given away."""
        return 0 if self._slots.stopping else len(self._unasked)

    def give_half(self) -> tuple[Split, Sequence[Row]]:
        """Give the second half of `spare` away: the split to commit, and the rows that go with it."""
        given = self._unasked.take_half()
        ids = tuple(self.lease.ids)
        first = bisect.bisect_left(ids, given[0][0])
        keep, give = ids[:first], ids[first:]
        split = Split(self.lease, keep, give)
        self.lease = dataclasses.replace(self.lease, ids=Ids.of(keep))
        self._last_id = keep[-1]
        return split, given

    async def run(self) -> None:
        """Ask everybody who can be asked now, then report who was let through and not asked."""
        async with asyncio.TaskGroup() as group:
            await self._grant(group)
        if not self.lease_lost:
            self._slots.put_off_left()

    # -- the granter -----------------------------------------------------------------------------------

    async def _grant(self, group: asyncio.TaskGroup) -> None:
        slots = self._slots
        while self._anybody_left and not slots.stopping:
            if not await self._recorder.mark(self._next_mark):
                self.lease_lost = True
                slots.stop()
                break
            slots.let_through(self._chunk)
            self._staff(group)
            while slots.unanswered > (few := self._pace.chunk_size) and not slots.stopping:
                slots.few = few
                slots.fewer.clear()
                await slots.fewer.wait()
        slots.nobody_more()

    @property
    def _anybody_left(self) -> bool:
        """Whether somebody can be let through now."""
        is_due = bool(self._put_off) and self._put_off[0][0].due_at <= self._clock.now()
        return is_due or len(self._unasked) > 0

    def _next_mark(self) -> SliceMark | None:
        """The mark that lets `_chunk` through: as many as make two chunks of those who are unanswered."""
        if self._slots.stopping:
            self._chunk = []
            return None
        room = 2 * self._pace.chunk_size - self._slots.unanswered
        self._chunk = self._due_again(room) if self._put_off else []
        armed = [who.id for who in self._chunk]
        fresh = self._unasked.take(room - len(self._chunk))
        self._chunk += [Recipient(one, openid) for one, openid in fresh]
        if not self._chunk:
            return None  # given away meanwhile
        # The last mark covers who is gone from the end of the slice, too.
        last_fresh = fresh[-1][0] if fresh else None
        upto = last_fresh if self._unasked else self._last_id
        return SliceMark(self.lease, upto, armed)

    def _due_again(self, most: int) -> list[Recipient]:
        now = self._clock.now()
        chunk: list[Recipient] = []
        while self._put_off and len(chunk) < most and self._put_off[0][0].due_at <= now:
            chunk.append(_again(*self._put_off.popleft()))
        return chunk

    def _staff(self, group: asyncio.TaskGroup) -> None:
        slots = self._slots
        for _ in range(min(self._pace.sends_per_task, slots.unanswered) - slots.at_work):
            slots.at_work += 1
            group.create_task(slots.work(), name=f"slot of slice {self.lease.job_no}/{self.lease.slice_no}")


def _again(one: Deferral, openid: str) -> Recipient:
    return Recipient(
        one.recipient_id, openid, one.channel_no, one.tries, one.doubts, one.refusals, was_deferred=True
    )
