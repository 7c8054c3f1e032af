"""Takes a broadcast in: checks it, fixes its time and its texts, commits it, and only then answers."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from broadcastd.clock import Clock
from broadcastd.delivery.accounts import Account
from broadcastd.delivery.cutting import cut_evenly
from broadcastd.delivery.forecast import Forecast, renewed
from broadcastd.delivery.forecaster import Forecaster
from broadcastd.delivery.open_jobs import OpenJobs
from broadcastd.errors import (
    AudienceUnavailableError,
    DeadlinePassedError,
    KeyConflictError,
    LedgerUnavailableError,
)
from broadcastd.model import FLAG_PAGE, Job, NewJob, Request, new_job_id
from broadcastd.ports import Accepted, Ledger
from broadcastd.refusals import ErrorCode, Refusal
from broadcastd.settings import Settings

log = structlog.get_logger()

MOST_TEST_OPENIDS = 100
LONGEST_WAIT = timedelta(days=366)
"""Keys are kept for about as long: a job that waits longer could be accepted twice."""
CONTENT_SHOWN = 40
"""Characters of a refused text that the log shows: the old client reads no answer, somebody must find it."""


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a job would do."""

    recipients: int
    slices: int
    messages: Mapping[str, str]
    warnings: Sequence[str]
    quota: Forecast


class Intake:
    """The one door for jobs."""

    def __init__(
        self,
        ledger: Ledger,
        accounts: Mapping[str, Account],
        jobs: OpenJobs,
        forecasters: Mapping[str, Forecaster],
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._accounts = accounts
        self._jobs = jobs
        self._forecasters = forecasters
        self.change(settings)
        self._pool = settings.pool
        self._clock = clock
        self.draining = False
        """Until an operator says otherwise."""
        self.stopping = False

    def change(self, settings: Settings) -> None:
        """Another dedupe window and reserve, from now on."""
        self._dedupe_window = timedelta(seconds=settings.server.dedupe_window_s)
        self._reserve_bytes = settings.ledger.reserve_mb * 1024 * 1024

    @property
    def closed(self) -> bool:
        """Whether nothing new is begun."""
        return self.draining or self.stopping

    def drain(self, *, on: bool) -> None:
        """Accept nothing new, or accept again. Of this process: its next start accepts."""
        if self.draining is not on:
            log.warning("drain_begun" if on else "drain_ended")
        self.draining = on

    async def submit(self, request: Request) -> Accepted | DryRun | Refusal:
        """Accept a job, or say why not. An `Accepted` is on disk and will be sent whatever happens."""
        if self.closed:
            return draining(self)
        account = self._accounts.get(request.account)
        if account is None:
            known = ", ".join(sorted(self._accounts))
            return Refusal(
                ErrorCode.UNKNOWN_ACCOUNT, f"unknown account {request.account!r}; accepted: {known}"
            )
        job = self._render(request, account)
        if isinstance(job, Refusal):
            return job
        if request.dry_run:
            return await self._dry_run(job, account)
        return await self._accept(job)

    def _render(self, request: Request, account: Account) -> NewJob | Refusal:
        if not request.content.strip():
            return Refusal(ErrorCode.BAD_CONTENT, "content is empty")
        names = request.channels or tuple(account.channels)
        now = self._clock.now()
        time = max(now, request.not_before or now)
        wrong = _wrong_channels(request, account, names) or _wrong_times(request, now)
        if wrong:
            return Refusal(ErrorCode.BAD_FRAME, wrong)
        wrong = _wrong_template(request, account, names)
        if wrong:
            return Refusal(ErrorCode.BAD_CONTENT, wrong)
        try:
            rendered = {name: account.channels[name].render(request, time) for name in names}
        except ValueError as error:
            return Refusal(ErrorCode.BAD_CONTENT, str(error))
        messages = {name: one.text for name, one in rendered.items()}
        warnings = tuple(warning for one in rendered.values() for warning in one.warnings)
        held = ((name, account.lanes[name].hold) for name in names)
        warnings += tuple(f"channel {name} is held: {hold.reason}" for name, hold in held if hold)
        on_unknown = request.on_unknown or account.on_unknown
        quota = self._forecasters[request.account].at_once(request, names, time)
        warnings += quota.warnings if quota is not None else ()
        return NewJob(new_job_id(now), request, now, tuple(names), messages, on_unknown, warnings)

    def forecast(self, job: Job) -> Forecast | None:
        """Of a job that was just accepted, from memory; None: nobody wants forecasts."""
        return self._forecasters[job.account].at_once(job, job.channels, job.time)

    async def _dry_run(self, job: NewJob, account: Account) -> DryRun | Refusal:
        request = job.request
        time = max(job.accepted_at, request.not_before or job.accepted_at)
        try:
            if request.to is not None:
                count = len(request.to)
            elif request.flag is not None:
                count = len(await account.audience.page(time, request.flag, FLAG_PAGE))
            else:
                count = await account.audience.count(time)
        except AudienceUnavailableError as error:
            return Refusal(ErrorCode.AUDIENCE_UNAVAILABLE, f"the audience cannot be counted: {error}")
        if request.not_after is not None and request.not_after <= job.accepted_at:
            return Refusal(ErrorCode.BAD_FRAME, str(DeadlinePassedError(request.not_after)))
        slices = len(cut_evenly(range(count), self._pool.tasks, self._pool.slice_size))
        quota = await self._forecasters[request.account].for_dry_run(job.channels, count, time)
        return DryRun(count, slices, job.messages, renewed(job.warnings, quota.warnings), quota)

    async def _accept(self, job: NewJob) -> Accepted | Refusal:
        request = job.request
        why = self.not_durable
        if why:
            return Refusal(ErrorCode.NOT_DURABLE, f"not accepted: {why}")
        try:
            accepted = await self._ledger.accept(job, self._dedupe_window)
        except DeadlinePassedError as error:
            return Refusal(ErrorCode.BAD_FRAME, str(error))
        except KeyConflictError as error:
            return Refusal(ErrorCode.CONFLICT, str(error), error.job_id)
        except LedgerUnavailableError as error:
            return Refusal(ErrorCode.NOT_DURABLE, f"not accepted: {error}")
        log.info(
            "job_repeated" if accepted.repeat else "job_accepted",
            job=accepted.job.id,
            account=request.account,
            key=request.key,
            ref=request.ref,
            flag=request.flag,
        )
        self._jobs.counts.take(request.account, repeat=accepted.repeat)
        if job.warnings and not accepted.repeat:
            log.warning("job_warned", job=accepted.job.id, account=request.account, warnings=job.warnings)
        # Of a repeat too: its first answer may have been "not durable" when the commit took too long.
        self._jobs.add(accepted.job)
        return accepted

    @property
    def not_durable(self) -> str:
        """Why no job can be put on disk just now; empty when all is well.

        With little room left nothing new is taken in, so that what was accepted can end.
        """
        if self._ledger.trouble:
            return self._ledger.trouble
        free = self._ledger.free_bytes()
        if free is not None and free < self._reserve_bytes:
            reserve_mb = self._reserve_bytes >> 20
            return f"the ledger's disk has {free >> 20} MB left, less than ledger.reserve_mb = {reserve_mb}"
        return ""


def _wrong_channels(request: Request, account: Account, names: Sequence[str]) -> str:
    """What is wrong with whom and by which way a frame wants to reach; else empty."""
    unknown = [name for name in names if name not in account.channels]
    if unknown:
        return f"channels: unknown {unknown[0]!r}; accepted: {', '.join(account.channels)}"
    if request.to is not None and len(request.to) > MOST_TEST_OPENIDS:
        return f"to: at most {MOST_TEST_OPENIDS} openids"
    if (request.template or request.extra) and not any(account.channels[name].templates for name in names):
        return f"template and data: no channel of {', '.join(names)} takes them"
    return ""


def _wrong_template(request: Request, account: Account, names: Sequence[str]) -> str:
    """Why no channel of these has the template that a frame names; else empty."""
    known = [one for name in names for one in account.channels[name].templates]
    if request.template is None or request.template in known:
        return ""
    return f"template: unknown {request.template!r}; accepted: {', '.join(dict.fromkeys(known))}"


def _wrong_times(request: Request, now: datetime) -> str:
    begins, ends = request.not_before, request.not_after
    if begins is not None and begins > now + LONGEST_WAIT:
        return f"not_before: at most {LONGEST_WAIT.days} days ahead"
    if begins is not None and ends is not None and ends <= begins:
        return "not_after: must come after not_before"
    return ""


def draining(intake: Intake) -> Refusal:
    """Why nothing new is begun."""
    if intake.stopping:
        return Refusal(ErrorCode.DRAINING, "broadcastd is stopping; send it again when it is back")
    return Refusal(
        ErrorCode.DRAINING, "broadcastd is being drained: it accepts nothing new; send it again later"
    )


def incident() -> str:
    """A short name for an internal error, in the reply and in the log."""
    return uuid.uuid4().hex[:8]
