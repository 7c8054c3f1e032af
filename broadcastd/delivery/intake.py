"""Takes a broadcast in: checks it, fixes its time and its texts, commits it, and only then answers."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import structlog

from broadcastd.clock import Clock
from broadcastd.delivery.accounts import Account
from broadcastd.delivery.cutting import cut_evenly
from broadcastd.delivery.open_jobs import OpenJobs
from broadcastd.errors import AudienceUnavailableError, KeyConflictError, LedgerUnavailableError
from broadcastd.model import FLAG_PAGE, NewJob, OnUnknown, Request, new_job_id
from broadcastd.ports import Accepted, Ledger
from broadcastd.refusals import ErrorCode, Refusal
from broadcastd.settings import Settings

log = structlog.get_logger()

MOST_TEST_OPENIDS = 100
CONTENT_SHOWN = 40
"""Characters of a refused text that the log shows: the old client reads no answer, somebody must find it."""


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a job would do."""

    recipients: int
    slices: int
    messages: Mapping[str, str]


class Intake:
    """The one door for jobs."""

    def __init__(
        self,
        ledger: Ledger,
        accounts: Mapping[str, Account],
        jobs: OpenJobs,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._accounts = accounts
        self._jobs = jobs
        self._dedupe_window = timedelta(seconds=settings.server.dedupe_window_s)
        self._on_unknown: OnUnknown = settings.ledger.on_unknown
        self._pool = settings.pool
        self._clock = clock
        self.draining = False

    async def submit(self, request: Request) -> Accepted | DryRun | Refusal:
        """Accept a job, or say why not. An `Accepted` is on disk and will be sent whatever happens."""
        verdict = await self._submit(request)
        if isinstance(verdict, Refusal):
            log.warning(
                "broadcast_refused",
                error=verdict.code.word,
                message=verdict.message,
                account=request.account,
                key=request.key,
                ref=request.ref,
                content=request.content[:CONTENT_SHOWN],
            )
        return verdict

    async def _submit(self, request: Request) -> Accepted | DryRun | Refusal:
        if self.draining:
            return Refusal(ErrorCode.DRAINING, "broadcastd is stopping; send it again when it is back")
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
        unknown = [name for name in names if name not in account.channels]
        if unknown:
            known = ", ".join(account.channels)
            return Refusal(ErrorCode.BAD_FRAME, f"channels: unknown {unknown[0]!r}; accepted: {known}")
        if request.to is not None and len(request.to) > MOST_TEST_OPENIDS:
            return Refusal(ErrorCode.BAD_FRAME, f"to: at most {MOST_TEST_OPENIDS} openids")
        if (request.template or request.extra) and not any(
            account.channels[name].takes_data for name in names
        ):
            return Refusal(
                ErrorCode.BAD_FRAME, f"template and data: no channel of {', '.join(names)} takes them"
            )
        now = self._clock.now()
        try:
            messages = {name: account.channels[name].render(request, now) for name in names}
        except ValueError as error:
            return Refusal(ErrorCode.BAD_CONTENT, str(error))
        return NewJob(new_job_id(now), request, now, tuple(names), messages, self._on_unknown)

    async def _dry_run(self, job: NewJob, account: Account) -> DryRun | Refusal:
        request = job.request
        try:
            if request.to is not None:
                count = len(request.to)
            elif request.flag is not None:
                count = len(await account.audience.page(job.accepted_at, request.flag, FLAG_PAGE))
            else:
                count = await account.audience.count(job.accepted_at)
        except AudienceUnavailableError as error:
            return Refusal(ErrorCode.AUDIENCE_UNAVAILABLE, f"the audience cannot be counted: {error}")
        slices = len(cut_evenly(range(count), self._pool.tasks, self._pool.slice_size))
        return DryRun(count, slices, job.messages)

    async def _accept(self, job: NewJob) -> Accepted | Refusal:
        request = job.request
        try:
            accepted = await self._ledger.accept(job, self._dedupe_window)
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
        if not accepted.repeat:
            self._jobs.add(accepted.job)
        return accepted


def incident() -> str:
    """A short name for an internal error, in the reply and in the log."""
    return uuid.uuid4().hex[:8]
