"""The ops: each parses its frame, calls one use case, and replies. One row of `OPS` each."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from broadcastd.clock import Clock
from broadcastd.delivery.intake import DryRun, Intake
from broadcastd.delivery.open_jobs import OpenJobs
from broadcastd.delivery.status import Status
from broadcastd.model import Job
from broadcastd.ports import Ledger
from broadcastd.refusals import ErrorCode, Refusal
from broadcastd.states import JOB_TERMINAL
from broadcastd.wire.frames import BroadcastFrame, Frame, Name, check
from broadcastd.wire.views import (
    Reply,
    accepted_view,
    dry_run_view,
    job_line,
    job_view,
    refusal_view,
    waits_for,
)

Replies = Reply | Refusal | AsyncIterator[Reply | Refusal]


@dataclass(frozen=True, slots=True)
class UseCases:
    """What the ops call."""

    intake: Intake
    ledger: Ledger
    jobs: OpenJobs
    status: Status
    clock: Clock
    stopping: asyncio.Event


class OpFrame(Frame):
    """`{"op": …}`."""

    op: str


class JobFrame(OpFrame):
    """An op on one job."""

    job: Name


class JobsFrame(OpFrame):
    """A list of jobs."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 20
    open: bool = False


class TailFrame(JobFrame):
    """Progress lines until the job ends."""

    every_s: Annotated[float, Field(ge=0.1, le=3600, strict=False)] = 1.0


async def broadcast(use: UseCases, fields: dict[str, Any]) -> Replies:
    """Take a job in."""
    frame = check(BroadcastFrame, fields)
    if isinstance(frame, Refusal):
        return frame
    verdict = await use.intake.submit(frame.request())
    if isinstance(verdict, Refusal):
        return refusal_view(verdict)  # the intake has logged it
    if isinstance(verdict, DryRun):
        return dry_run_view(verdict)
    return accepted_view(verdict, use.jobs.get(verdict.job.no))


async def ping(use: UseCases, fields: dict[str, Any]) -> Replies:
    """Say that the daemon is alive."""
    frame = check(OpFrame, fields)
    return frame if isinstance(frame, Refusal) else {"ok": True, "op": "ping", **use.status.brief()}


async def info(use: UseCases, fields: dict[str, Any]) -> Replies:
    """Say how the daemon is."""
    frame = check(OpFrame, fields)
    return frame if isinstance(frame, Refusal) else {"ok": True, "op": "info", **use.status.whole()}


async def job(use: UseCases, fields: dict[str, Any]) -> Replies:
    """One job and its books."""
    frame = check(JobFrame, fields)
    found = frame if isinstance(frame, Refusal) else await _find(use, frame.job)
    return found if isinstance(found, Refusal) else {"ok": True, **job_view(found, use.jobs.get(found.no))}


async def jobs(use: UseCases, fields: dict[str, Any]) -> Replies:
    """The newest jobs first, or (`open`) those that have not ended, oldest first."""
    frame = check(JobsFrame, fields)
    if isinstance(frame, Refusal):
        return frame
    found = await use.ledger.jobs(frame.limit, only_open=frame.open)
    return {"ok": True, "jobs": [job_line(one, use.jobs.get(one.no)) for one in found]}


async def resume(use: UseCases, fields: dict[str, Any]) -> Replies:
    """Let a held job go on."""
    frame = check(JobFrame, fields)
    found = frame if isinstance(frame, Refusal) else await _find(use, frame.job)
    if isinstance(found, Refusal):
        return found
    if not await use.jobs.resume(found):
        waiting = waits_for(found, use.jobs.get(found.no))
        why = f"it is {found.state.value}" + (f", and waits for {waiting}" if waiting else "")
        return Refusal(ErrorCode.NOT_HELD, f"job {found.id} is not resumed: {why}", found.id)
    return {"ok": True, **job_view(await use.ledger.job(found.id) or found, use.jobs.get(found.no))}


async def tail(use: UseCases, fields: dict[str, Any]) -> Replies:
    """A line now, one every `every_s`, and a last one when the job has ended."""
    frame = check(TailFrame, fields)
    if isinstance(frame, Refusal):
        return frame
    found = await _find(use, frame.job)
    return found if isinstance(found, Refusal) else _progress(use, found, frame.every_s)


async def _progress(use: UseCases, job: Job, every_s: float) -> AsyncIterator[Reply | Refusal]:
    before_s, ended_before = use.clock.monotonic_s(), job.books.ended
    rate_per_s = 0.0
    while True:
        if job.finished_at is not None:
            whole_s = (job.finished_at - job.accepted_at).total_seconds()
            rate_per_s = job.books.ended / max(0.001, whole_s)
        left = job.books.recipients - job.books.ended
        eta_s = round(left / rate_per_s, 1) if rate_per_s and job.books.planned else None
        view = job_line(job, use.jobs.get(job.no))
        yield {"ok": True, **view, "rate_per_s": round(rate_per_s, 1), "eta_s": eta_s}
        if job.state in JOB_TERMINAL:
            return
        if await _stopping(use, every_s):
            yield Refusal(
                ErrorCode.DRAINING, "broadcastd is stopping; the job goes on when it is back", job.id
            )
            return
        job = await use.ledger.job(job.id) or job
        now_s = use.clock.monotonic_s()
        rate_per_s = (job.books.ended - ended_before) / max(0.001, now_s - before_s)
        before_s, ended_before = now_s, job.books.ended


async def _stopping(use: UseCases, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            return await use.stopping.wait()
    except TimeoutError:
        return False


async def _find(use: UseCases, job_id: str) -> Job | Refusal:
    found = await use.ledger.job(job_id)
    return found or Refusal(ErrorCode.UNKNOWN_JOB, f"no job {job_id!r} in the ledger")


OPS: Mapping[str, Callable[[UseCases, dict[str, Any]], Awaitable[Replies]]] = {
    "ping": ping,
    "info": info,
    "job": job,
    "jobs": jobs,
    "resume": resume,
    "tail": tail,
}
