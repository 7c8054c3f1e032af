"""Whether the daemon makes progress: its loop, its ledger, its tasks; and which jobs stand still."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import structlog

from broadcastd.clock import Clock
from broadcastd.delivery.dispatcher import Dispatcher
from broadcastd.delivery.heartbeat import Heartbeat
from broadcastd.delivery.loop_lag import LoopLag
from broadcastd.delivery.stuck import Stuck, StuckJobs
from broadcastd.notices import Notice, NoticeKind, Notices, Unheard

log = structlog.get_logger()

LOOP_HANGS_S = 15.0
"""No sample for so long: the loop runs (somebody asks), and does not come round."""
LEDGER_HANGS_S = 60.0
"""It says nothing for so long, not even why. A commit behind a large one takes seconds."""
TASKS_HANG_S = 120.0
"""Nobody has looked for work for so long, which takes milliseconds every 5 s."""
MOST_TOLD = 3
"""Stuck jobs of one account that are told at a time: what keeps one mostly keeps them all."""

MOST_SHOWN = 100


class Vitals:
    """`watch_jobs` must be running, and the loop's lag be looked at."""

    def __init__(
        self,
        heartbeat: Heartbeat,
        dispatcher: Dispatcher,
        stuck: StuckJobs,
        loop_lag: LoopLag,
        notices: Notices,
        clock: Clock,
    ) -> None:
        self._heartbeat = heartbeat
        self._dispatcher = dispatcher
        self._stuck = stuck
        self._loop_lag = loop_lag
        self._notices = notices
        self._is_heard = not isinstance(notices, Unheard)
        self._clock = clock
        self._told: dict[str, Stuck] = {}

    # -- what it says ----------------------------------------------------------------------------------

    @property
    def ledger_silent_s(self) -> float:
        """For how long the ledger has said nothing: neither that it is written, nor why it is not."""
        return self._heartbeat.silent_s

    @property
    def stuck(self) -> tuple[Stuck, ...]:
        """The jobs that stood still at the last look, the longest first."""
        return self._stuck.found

    def progressing(self) -> str:
        """Empty while all is well; else which of the loop, the ledger and the tasks hangs, in words.

        Only what a restart may mend: a ledger that says why it cannot be written is none of it.
        """
        if self._loop_lag.overdue_s > LOOP_HANGS_S:
            return f"loop: it has not come round for {self._loop_lag.overdue_s:.0f} s"
        if self.ledger_silent_s > LEDGER_HANGS_S:
            return f"ledger: it has not answered for {self.ledger_silent_s:.0f} s"
        if self._dispatcher.silent_s > TASKS_HANG_S and not self._heartbeat.trouble:
            return f"tasks: nobody has looked for work for {self._dispatcher.silent_s:.0f} s"
        ours = next((one for one in self.stuck if one.ours), None)
        return f"tasks: a job stands still since {ours.since:%H:%M:%S} UTC: {ours.why}" if ours else ""

    def view(self) -> Mapping[str, Any]:
        """For `info`."""
        return {
            "progress": self.progressing() or "ok",
            "loop_lag_ms": {"last": _ms(self._loop_lag.last_s), "most": _ms(self._loop_lag.most_s)},
            "ledger_answered_s": round(self.ledger_silent_s, 1),
            "stuck": [
                {
                    "job": one.job_id,
                    "account": one.account,
                    "since": one.since.isoformat(timespec="milliseconds"),
                    "why": one.why,
                    "ours": one.ours,
                    "told": one.job_id in self._told and self._is_heard,
                }
                for one in self.stuck[:MOST_SHOWN]
            ],
        }

    # -- the loop --------------------------------------------------------------------------------------

    async def watch_jobs(self) -> None:
        """Look for jobs that stand still, and have them told."""
        while True:
            await self._clock.sleep(self._stuck.look_every_s)
            self._tell(await self._stuck.look())

    def _tell(self, found: tuple[Stuck, ...]) -> None:
        still = {one.job_id for one in found}
        for job_id in [one for one in self._told if one not in still]:
            was = self._told.pop(job_id)
            log.info("job_moves_again", job=job_id, account=was.account)
            self._notices.tell(Notice(NoticeKind.JOB_STUCK, job_id, {"account": was.account}, over=True))
        many = Counter(one.account for one in found)
        told = Counter(one.account for one in self._told.values())
        for one in found:
            if one.job_id in self._told or told[one.account] >= MOST_TOLD:
                continue
            told[one.account] += 1
            self._told[one.job_id] = one
            log.error(
                "job_stuck", job=one.job_id, account=one.account, since=one.since.isoformat(), reason=one.why
            )
            facts: dict[str, str | int | float] = {
                "account": one.account,
                "reason": one.why,
                "jobs_stuck": many[one.account],
            }
            self._notices.tell(Notice(NoticeKind.JOB_STUCK, one.job_id, facts))


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
