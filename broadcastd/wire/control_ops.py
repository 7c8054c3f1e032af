"""The ops that change something: each answers with the resulting state, and may be repeated."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from pydantic import Field

from broadcastd.delivery.intake import draining
from broadcastd.model import RETRIABLE, Job
from broadcastd.outcomes import Outcome
from broadcastd.refusals import Refusal
from broadcastd.wire.frames import Moment, check, some_of
from broadcastd.wire.use_cases import JobFrame, Lines, OpFrame, Replies, UseCases


class RetryFrame(JobFrame):
    """A new round."""

    only: Annotated[list[str], some_of([one.value for one in RETRIABLE])]
    round: Annotated[int, Field(ge=2, le=1000)] | None = None
    not_after: Moment | None = None


class DrainFrame(OpFrame):
    """Accept nothing new."""

    off: bool = False
    every_s: Annotated[float, Field(ge=0.1, le=3600, strict=False)] | None = None


async def pause(use: UseCases, fields: dict[str, Any]) -> Replies:
    """Ask nobody more of a job until it is resumed."""
    return await _control(use, fields, use.controls.pause)


async def resume(use: UseCases, fields: dict[str, Any]) -> Replies:
    """Let a held or paused job go on."""
    return await _control(use, fields, use.controls.resume)


async def cancel(use: UseCases, fields: dict[str, Any]) -> Replies:
    """End a job."""
    return await _control(use, fields, use.controls.cancel)


async def retry(use: UseCases, fields: dict[str, Any]) -> Replies:
    """A new round for those that ended so."""
    frame = check(RetryFrame, fields)
    if isinstance(frame, Refusal):
        return frame

    async def control(job: Job) -> Job | Refusal:
        if use.intake.closed:
            return draining(use.intake)
        return await use.controls.retry(
            job, [Outcome(one) for one in frame.only], frame.round, frame.not_after
        )

    return await _on(use, frame.job, control)


async def _control(
    use: UseCases, fields: dict[str, Any], control: Callable[[Job], Awaitable[Job | Refusal]]
) -> Replies:
    frame = check(JobFrame, fields)
    return frame if isinstance(frame, Refusal) else await _on(use, frame.job, control)


async def _on(use: UseCases, job_id: str, control: Callable[[Job], Awaitable[Job | Refusal]]) -> Replies:
    found = await use.find(job_id)
    if not isinstance(found, Refusal):
        found = await control(found)
    return found if isinstance(found, Refusal) else use.whole(found)


async def drain(use: UseCases, fields: dict[str, Any]) -> Replies:
    """Accept nothing new, and say how far the rest is."""
    frame = check(DrainFrame, fields)
    if isinstance(frame, Refusal):
        return frame
    use.intake.drain(on=not frame.off)
    if frame.every_s is None or frame.off:
        return await _drain_line(use)
    return _drain_lines(use, frame.every_s)


async def _drain_lines(use: UseCases, every_s: float) -> Lines:
    while True:
        line = await _drain_line(use)
        yield line
        if line["state"] != "draining":
            return
        if await use.life.stops_within(every_s):
            yield draining(use.intake)
            return


async def _drain_line(use: UseCases) -> dict[str, Any]:
    going = [entry.job.id for entry in use.jobs if entry.going]
    found = [await use.ledger.job(one) for one in going]
    rounds = [job.round for job in found if job is not None]
    return {
        "ok": True,
        "op": "drain",
        **use.status.drain(),
        "remaining": sum(one.recipients - one.ended for one in rounds),
    }


async def adopt(use: UseCases, fields: dict[str, Any]) -> Replies:
    """Take a copied or restored ledger for the true one."""
    frame = check(OpFrame, fields)
    if isinstance(frame, Refusal):
        return frame
    return {"ok": True, "op": "adopt", "resumed": await use.controls.adopt()}
