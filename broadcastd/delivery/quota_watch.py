"""Looks after one account's channels that are held for their quota (45009), until it is back.

WeChat says 45009 of a used up day, and of limits that last minutes (docs/wechat-api.md, section 11).
quota/get tells which: while something is left, the lane is tried again after a minute, then after more. With
nothing left it is not tried before quota/get says otherwise. Without quota/get it is tried now and then, with
one call.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from broadcastd import retry
from broadcastd.clock import Clock
from broadcastd.delivery.forecast import Reset
from broadcastd.delivery.lane import HoldOf, Lane, LaneHold
from broadcastd.delivery.open_jobs import OpenJobs
from broadcastd.delivery.quotas import AccountQuotas, Trouble
from broadcastd.delivery.recorder import Recorder
from broadcastd.errors import LedgerUnavailableError
from broadcastd.model import Job
from broadcastd.notices import Notice, NoticeKind, Notices
from broadcastd.ports import Ledger
from broadcastd.settings import QuotaSettings

log = structlog.get_logger()

TURN_S = 1.0
"""How often it looks whether a lane is held, or goes on."""
AFTER_RESET_S = 5.0
"""WeChat's clock is not ours."""


@dataclass(slots=True)
class _Watched:
    """A lane that is held for its quota."""

    hold: LaneHold
    """As it was last seen: another one is a new 45009."""
    look_at_s: float
    empty: bool = False
    """Nothing is left of the day's calls."""
    told: bool = False
    """An operator knows."""


@dataclass(frozen=True, slots=True)
class Watching:
    """What the watch, and the forecaster, need of the daemon."""

    ledger: Ledger
    jobs: OpenJobs
    recorder: Recorder
    clock: Clock
    notices: Notices


class QuotaWatch:
    """`run` must be running."""

    def __init__(self, quotas: AccountQuotas, settings: QuotaSettings, reset: Reset, parts: Watching) -> None:
        self.quotas = quotas
        self._account = quotas.account
        self._look_s = settings.look_s
        self._reset = reset
        self._parts = parts
        self._clock = parts.clock
        self._watched: dict[str, _Watched] = {}
        self._next_reset = reset.after(parts.clock.now())
        self._restored: list[int] = []
        parts.jobs.watch(self._note)

    def _note(self, job: Job) -> None:
        """A job that was begun before this start: who is put off for a hold may be so for an hour.

        The hold itself is not kept: one call more tells whether it still stands.
        """
        if job.account == self._account.name and job.books.recipients:
            self._restored.append(job.no)

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self._clock.sleep(TURN_S)
            await self.turn()

    async def turn(self) -> None:
        """One look at every lane."""
        await self._hasten_restored()
        now = self._clock.now()
        day_begins = now >= self._next_reset + timedelta(seconds=AFTER_RESET_S)
        if day_begins:
            self._next_reset = self._reset.after(now)
        for lane in self._account.lanes.values():
            if day_begins:
                await self._begin_day(lane)
            await self._turn_of(lane)

    async def goes_on(self, channel: str) -> None:
        """Its quota is back: one call tries it, the others follow. Who was put off for it is due now."""
        lane = self._account.lanes[channel]
        if lane.hold is not None and lane.hold.kind is HoldOf.QUOTA:
            lane.try_now()
            if channel in self._watched:
                self._watched[channel] = _Watched(lane.hold, self._in_a_while_s())
        await self.hasten(channel)

    async def hasten(self, channel: str) -> None:
        """Make due who was put off for this channel, in every open job of the account."""
        # What was decided while it was held is on disk then, and nobody is put off for it any more.
        await self._parts.recorder.flush()
        for entry in self._parts.jobs:
            if entry.account is self._account and channel in entry.job.channels:
                await self._hasten_job(entry.no, entry.job.channels.index(channel))
                self._parts.jobs.goes_on(entry.no)

    async def _hasten_restored(self) -> None:
        restored, self._restored = self._restored, []
        for entry in filter(None, map(self._parts.jobs.get, restored)):
            for channel_no in range(len(entry.job.channels)):
                await self._hasten_job(entry.no, channel_no)
            self._parts.jobs.goes_on(entry.no)

    async def _hasten_job(self, job_no: int, channel_no: int) -> None:
        after, tries = 0, 0
        while True:
            try:
                last = await self._parts.ledger.hasten(job_no, channel_no, self._clock.now(), after)
            except LedgerUnavailableError as error:
                tries += 1
                log.warning("deferrals_not_hastened", job_no=job_no, error=str(error))
                await self._clock.sleep(retry.LEDGER.delay_s(tries))
            else:
                if last is None:
                    return
                after = last

    # -- one lane --------------------------------------------------------------------------------------

    async def _begin_day(self, lane: Lane) -> None:
        watched = self._watched.get(lane.channel)
        if watched is not None and watched.empty:
            watched.look_at_s = self._clock.monotonic_s()
        else:
            await self.goes_on(lane.channel)

    async def _turn_of(self, lane: Lane) -> None:
        hold, watched = lane.hold, self._watched.get(lane.channel)
        if hold is None or hold.kind is not HoldOf.QUOTA:
            if watched is not None:
                del self._watched[lane.channel]
                self._parts.notices.tell(Notice(NoticeKind.QUOTA_SHORT, self._about(lane), over=True))
                await self.hasten(lane.channel)
            return
        if watched is None or watched.hold is not hold or self._clock.monotonic_s() >= watched.look_at_s:
            await self._look_at(lane, hold)

    async def _look_at(self, lane: Lane, hold: LaneHold) -> None:
        watched = self._watched.setdefault(lane.channel, _Watched(hold, 0.0))
        found = await self.quotas.look(lane.channel)
        if lane.hold is not hold:
            return  # it has changed meanwhile: looked at in the next turn
        watched.look_at_s = self._in_a_while_s()
        if isinstance(found, Trouble):
            self._without_figures(lane, watched)
        elif found.left == 0:
            self._wait_for_reset(lane, watched)
        elif watched.empty:
            log.info("quota_back", account=self._account.name, channel=lane.channel, left=found.left)
            await self.goes_on(lane.channel)
            return
        else:
            lane.hold_until(
                hold.until_s, f"{found.left:,} calls are left today; tried again at {self._at(hold.until_s)}"
            )
        assert lane.hold is not None
        watched.hold = lane.hold

    def _without_figures(self, lane: Lane, watched: _Watched) -> None:
        assert lane.hold is not None
        note = "what is left is not known"
        self._tell(lane, watched)
        if watched.empty:
            # It was to wait for figures that do not come any more.
            watched.empty = False
            lane.hold_longer(note)
        lane.hold_until(lane.hold.until_s, f"{note}; tried again at {self._at(lane.hold.until_s)}")

    def _wait_for_reset(self, lane: Lane, watched: _Watched) -> None:
        now, now_s = self._clock.now(), self._clock.monotonic_s()
        to_reset_s = (self._reset.after(now) - now).total_seconds()
        if not watched.empty:
            log.error("quota_used_up", account=self._account.name, channel=lane.channel)
        watched.empty = True
        self._tell(lane, watched)
        # The lane opens by itself only when nobody looks any more: an hour into the next day.
        lane.hold_until(
            now_s + to_reset_s + 3600,
            f"nothing is left today; looked at again at {self._at(watched.look_at_s)}",
        )

    def _tell(self, lane: Lane, watched: _Watched) -> None:
        if watched.told or lane.hold is None:
            return
        watched.told = True
        facts = {"account": self._account.name, "channel": lane.channel, "reason": lane.hold.reason}
        self._parts.notices.tell(Notice(NoticeKind.QUOTA_SHORT, self._about(lane), facts))

    def _about(self, lane: Lane) -> str:
        return f"{self._account.name}, {lane.channel}"

    def _in_a_while_s(self) -> float:
        return self._clock.monotonic_s() + self._look_s

    def _at(self, at_s: float) -> str:
        moment: datetime = self._clock.now() + timedelta(seconds=at_s - self._clock.monotonic_s())
        return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
