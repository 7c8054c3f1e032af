"""Whether an account's jobs fit into what is left of the day's calls.

A frame is answered from memory: the last figures, and the size of the last audience. Once a job is planned,
its recipients are counted and WeChat is asked: then the forecast is exact, and the job's warnings are written
anew. A payment waits for neither.
"""

import asyncio
import dataclasses
from collections.abc import Sequence
from datetime import datetime

import structlog

from broadcastd import retry
from broadcastd.delivery.accounts import OpenJob
from broadcastd.delivery.forecast import Asked, Forecast, Reset, forecast, renewed
from broadcastd.delivery.quota_watch import Watching
from broadcastd.delivery.quotas import AccountQuotas
from broadcastd.errors import LedgerUnavailableError
from broadcastd.model import FLAG_PAGE, Job, Request
from broadcastd.notices import Notice, NoticeKind
from broadcastd.settings import QuotaSettings

log = structlog.get_logger()

NEWEST = 50
"""Jobs of the ledger among which the last whole audience of the account is looked for, at the start."""
MOST_BEFORE = 1000
"""Open jobs that are looked at for what they still need."""
PAUSE_S = 1.0
"""Between two looks at jobs that were planned: of a thousand open jobs one takes some 50 ms of CPU."""
DRY_RUN_S = 5.0
"""How long a dry run waits for the figures."""


class Forecaster:
    """Of one account. `run` must be running."""

    def __init__(self, quotas: AccountQuotas, settings: QuotaSettings, reset: Reset, parts: Watching) -> None:
        self._quotas = quotas
        self._account = quotas.account
        self._settings = settings
        self._reset = reset
        self._ledger = parts.ledger
        self._jobs = parts.jobs
        self._notices = parts.notices
        self._clock = parts.clock
        self._short: set[int] = set()
        """Jobs of which an operator knows that they will not fit."""
        self._audience: int | None = None
        self._planned: asyncio.Queue[OpenJob] = asyncio.Queue()
        if settings.forecast:
            parts.jobs.count(self._note)
            parts.jobs.at_end(self._forget)

    # -- for the answer to a frame ---------------------------------------------------------------------

    def at_once(self, asked: Request | Job, channels: Sequence[str], begins: datetime) -> Forecast | None:
        """What is known in memory; None: nobody wants forecasts."""
        if not self._settings.forecast:
            return None
        return self._of(Asked(channels, self._size(asked), begins))

    async def for_dry_run(self, channels: Sequence[str], recipients: int, begins: datetime) -> Forecast:
        """With new figures, if they come in time."""
        try:
            async with asyncio.timeout(DRY_RUN_S):
                await self._quotas.look_at_all()
        except TimeoutError:
            log.warning("quota_not_in_time", account=self._account.name)
        return self._of(Asked(channels, recipients, begins))

    def _size(self, asked: Request | Job) -> int | None:
        if asked.to is not None:
            return len(asked.to)
        if asked.flag is not None:
            return FLAG_PAGE if self._audience is None else min(FLAG_PAGE, self._audience)
        return self._audience

    def _of(self, asked: Asked) -> Forecast:
        return forecast(asked, self._quotas.seen, self._reset, self._clock.now())

    # -- in the background -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the figures fresh while a job is open, and look at each job that is planned."""
        if not self._settings.forecast:
            return
        await self._learn_audience()
        while True:
            if not self._quotas.seen or any(entry.account is self._account for entry in self._jobs):
                await self._quotas.look_at_all()
            try:
                async with asyncio.timeout(self._settings.refresh_s):
                    planned = [await self._planned.get()]
            except TimeoutError:
                continue
            while not self._planned.empty():
                planned.append(self._planned.get_nowait())
            await self._look_at(planned)
            # One look for all that are planned meanwhile: it reads up to MOST_BEFORE jobs from the ledger.
            await self._clock.sleep(PAUSE_S)

    async def _learn_audience(self) -> None:
        try:
            jobs = await self._ledger.jobs(NEWEST)
        except LedgerUnavailableError as error:
            log.warning("audience_not_known", account=self._account.name, error=str(error))
            return
        for job in jobs:
            if job.account == self._account.name and _is_for_all(job) and job.books.planned:
                self._audience = job.books.recipients
                return

    def _note(self, entry: OpenJob, recipients: int) -> None:
        if entry.account is not self._account:
            return
        if _is_for_all(entry.job) and entry.job.round.no == 1:
            self._audience = recipients
        if entry.job.to is None and recipients:
            self._planned.put_nowait(entry)

    async def _look_at(self, planned: Sequence[OpenJob]) -> None:
        """The exact forecasts of jobs that are planned."""
        tries = 0
        while True:
            try:
                return await self._warn_all(planned)
            except LedgerUnavailableError as error:
                tries += 1
                log.warning("job_not_warned", job=planned[0].job.id, error=str(error))
                await self._clock.sleep(retry.LEDGER.delay_s(tries))

    async def _warn_all(self, planned: Sequence[OpenJob]) -> None:
        # Counted before WeChat is asked: who is asked between the two is needed and used, not neither.
        open_ones = await self._ledger.jobs(MOST_BEFORE, only_open=True)
        mine = [job for job in open_ones if job.account == self._account.name]
        await self._quotas.look_at_all()
        before, entries = 0, {entry.no: entry for entry in planned}
        for present in mine:
            entry = entries.pop(present.no, None)
            if entry is not None:
                await self._warn(entry, present, before)
            before += _left(present)
        for entry in entries.values():  # those that have ended, or have more than MOST_BEFORE before them
            one = await self._ledger.job(entry.job.id) if self._jobs.get(entry.no) is entry else None
            if one is not None:
                await self._warn(entry, one, before)

    async def _warn(self, entry: OpenJob, present: Job, before: int) -> None:
        found = self._of(Asked(present.channels, _left(present), present.time, before))
        warnings = renewed(present.warnings, found.warnings)
        if warnings != present.warnings:
            await self._ledger.warn(entry.no, warnings)
            entry.job = dataclasses.replace(entry.job, warnings=warnings)
        if found.warnings:
            log.warning("job_over_quota", job=entry.job.id, account=self._account.name, words=found.words)
            self._short.add(entry.no)
            facts = {"account": self._account.name, "job": entry.job.id, "reason": found.words}
            self._notices.tell(Notice(NoticeKind.QUOTA_SHORT, entry.job.id, facts))
        else:
            self._forget(entry.job)

    def _forget(self, job: Job) -> None:
        if job.no in self._short:
            self._short.discard(job.no)
            self._notices.tell(Notice(NoticeKind.QUOTA_SHORT, job.id, over=True))


def _left(job: Job) -> int:
    """Whom its present round is still to ask."""
    return job.round.recipients - job.round.ended


def _is_for_all(job: Job) -> bool:
    return job.to is None and job.flag is None
