"""The ops: each parses its frame, calls one use case, and replies. One row of `OPS` each."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from broadcastd.access import Right
from broadcastd.delivery.intake import DryRun
from broadcastd.delivery.report import chunk_facts
from broadcastd.model import Job
from broadcastd.refusals import ErrorCode, Refusal
from broadcastd.wire import control_ops, life_ops, people_ops, quota_ops, rate_ops
from broadcastd.wire.frames import BroadcastFrame, Name, check
from broadcastd.wire.use_cases import JobFrame, Lines, OpFrame, Replies, UseCases
from broadcastd.wire.views import accepted_view, canary_view, dry_run_view


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
    refusal = use.not_covered(frame.account)
    if refusal is not None:
        return refusal
    verdict = await use.intake.submit(frame.request())
    if isinstance(verdict, Refusal):
        return verdict
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
    if isinstance(frame, Refusal):
        return frame
    whole = use.status.whole()
    accounts = {name: one for name, one in whole["accounts"].items() if use.access.covers(name)}
    stuck = [one for one in whole["stuck"] if use.access.covers(one["account"])]
    return {"ok": True, "op": "info", **whole, "stuck": stuck, "accounts": accounts}


async def canary(use: UseCases, fields: dict[str, Any]) -> Replies:
    """Say whether a job would go through. A stream of one line: it must take no room from broadcasts."""
    frame = check(OpFrame, fields)
    return frame if isinstance(frame, Refusal) else _canary_line(use)


async def _canary_line(use: UseCases) -> Lines:
    yield canary_view(await use.canary.look(), use.access.covers, use.clock.monotonic_s())


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
    found = await use.listed(frame.limit, only_open=frame.open, account=frame.account)
    if isinstance(found, Refusal):
        return found
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


@dataclass(frozen=True, slots=True)
class Op:
    """A row of the table."""

    call: Callable[[UseCases, dict[str, Any]], Awaitable[Replies]]
    rights: tuple[Right, ...]
    """One of them is needed."""
    whole: bool = False
    """It is about the whole daemon: not for a token that is for some accounts only."""


SEND, READ, CONTROL = Right.SEND, Right.READ, Right.CONTROL

OPS: Mapping[str, Op] = {
    "broadcast": Op(broadcast, (SEND,)),
    "ping": Op(ping, (SEND, READ, CONTROL)),
    "info": Op(info, (READ,)),
    "canary": Op(canary, (READ,)),
    "job": Op(job, (SEND, READ)),
    "jobs": Op(jobs, (READ,)),
    "tail": Op(tail, (SEND, READ)),
    "pause": Op(control_ops.pause, (CONTROL,)),
    "resume": Op(control_ops.resume, (CONTROL,)),
    "cancel": Op(control_ops.cancel, (CONTROL,)),
    "retry": Op(control_ops.retry, (CONTROL,)),
    "rate": Op(rate_ops.rate, (READ, CONTROL)),
    "drain": Op(control_ops.drain, (CONTROL,), whole=True),
    "adopt": Op(control_ops.adopt, (CONTROL,), whole=True),
    "reload": Op(life_ops.reload, (CONTROL,), whole=True),
    "stop": Op(life_ops.stop, (CONTROL,), whole=True),
    "quota": Op(quota_ops.quota, (READ,)),
    "clear_quota": Op(quota_ops.clear_quota, (CONTROL,)),
    "who": Op(people_ops.who, (READ,)),
    "report": Op(people_ops.report, (READ,)),
    "verify": Op(people_ops.verify, (READ,)),
}
