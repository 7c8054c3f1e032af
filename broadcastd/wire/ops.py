"""The ops: each parses its frame, calls one use case, and replies. One row of `OPS` each."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

from pydantic import Field

from broadcastd.delivery.intake import DryRun
from broadcastd.delivery.report import chunk_facts
from broadcastd.model import Job
from broadcastd.refusals import ErrorCode, Refusal
from broadcastd.wire import control_ops, life_ops, people_ops, quota_ops, rate_ops
from broadcastd.wire.frames import BroadcastFrame, Name, check
from broadcastd.wire.use_cases import JobFrame, Lines, OpFrame, Replies, UseCases
from broadcastd.wire.views import accepted_view, dry_run_view, refusal_view


class JobsFrame(OpFrame):
    """A list of jobs."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 20
    open: bool = False
    account: Name | None = None


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
    forecast = None if verdict.repeat else use.intake.forecast(verdict.job)
    return accepted_view(verdict, use.jobs.get(verdict.job.no), use.ledger.trouble, forecast)


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
    found = frame if isinstance(frame, Refusal) else await use.find(frame.job)
    if isinstance(found, Refusal):
        return found
    chunks = await use.ledger.mass_chunks(found.no)
    return {**use.whole(found), "mass": [chunk_facts(one) for one in chunks]}


async def jobs(use: UseCases, fields: dict[str, Any]) -> Replies:
    """The newest jobs first, or (`open`) those that have not ended, oldest first."""
    frame = check(JobsFrame, fields)
    if isinstance(frame, Refusal):
        return frame
    found = await use.ledger.jobs(frame.limit, only_open=frame.open, account=frame.account)
    return {"ok": True, "jobs": [use.line(one) for one in found]}


async def tail(use: UseCases, fields: dict[str, Any]) -> Replies:
    """A line now, one every `every_s`, and a last one when the job has ended."""
    frame = check(TailFrame, fields)
    if isinstance(frame, Refusal):
        return frame
    found = await use.find(frame.job)
    return found if isinstance(found, Refusal) else _progress(use, found, frame.every_s)


async def _progress(use: UseCases, job: Job, every_s: float) -> Lines:
    before_s, ended_before = use.clock.monotonic_s(), job.round.ended
    rate_per_s = 0.0
    while True:
        if job.finished_at is not None:
            whole_s = (job.finished_at - (job.round.accepted_at or job.accepted_at)).total_seconds()
            rate_per_s = job.round.ended / max(0.001, whole_s)
        left = job.round.recipients - job.round.ended
        eta_s = round(left / rate_per_s, 1) if rate_per_s and job.books.planned else None
        yield {"ok": True, **use.line(job), "rate_per_s": round(rate_per_s, 1), "eta_s": eta_s}
        if job.state.is_terminal:
            return
        if await use.life.stops_within(every_s):
            yield Refusal(
                ErrorCode.DRAINING, "broadcastd is stopping; the job goes on when it is back", job.id
            )
            return
        job = await use.ledger.job(job.id) or job
        now_s = use.clock.monotonic_s()
        rate_per_s = (job.round.ended - ended_before) / max(0.001, now_s - before_s)
        before_s, ended_before = now_s, job.round.ended


OPS: Mapping[str, Callable[[UseCases, dict[str, Any]], Awaitable[Replies]]] = {
    "ping": ping,
    "info": info,
    "job": job,
    "jobs": jobs,
    "tail": tail,
    "pause": control_ops.pause,
    "resume": control_ops.resume,
    "cancel": control_ops.cancel,
    "retry": control_ops.retry,
    "rate": rate_ops.rate,
    "drain": control_ops.drain,
    "adopt": control_ops.adopt,
    "reload": life_ops.reload,
    "stop": life_ops.stop,
    "quota": quota_ops.quota,
    "clear_quota": quota_ops.clear_quota,
    "who": people_ops.who,
    "report": people_ops.report,
    "verify": people_ops.verify,
}
