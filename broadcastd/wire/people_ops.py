"""The ops that tell who got a job: the list of its recipients, and the report that proves it."""

from collections.abc import Sequence
from typing import Annotated, Any

from broadcastd.delivery.openids import Openids
from broadcastd.delivery.report import is_genuine, report_of
from broadcastd.model import Job, Listed
from broadcastd.outcomes import Outcome
from broadcastd.refusals import ErrorCode, Refusal
from broadcastd.wire.frames import Name, check, some_of
from broadcastd.wire.use_cases import JobFrame, Lines, OpFrame, Replies, UseCases
from broadcastd.wire.views import listed_view

NO_OUTCOME = "none"


class WhoFrame(JobFrame):
    """Who a job's recipients are."""

    outcome: Annotated[list[str], some_of([*(one.value for one in Outcome), NO_OUTCOME])] | None = None
    openid: Name | None = None


class VerifyFrame(OpFrame):
    """A report that somebody shows."""

    report: dict[str, Any]


async def who(use: UseCases, fields: dict[str, Any]) -> Replies:
    """A line a recipient, then one that says how many there were."""
    frame = check(WhoFrame, fields)
    if isinstance(frame, Refusal):
        return frame
    found = await use.find(frame.job)
    if isinstance(found, Refusal):
        return found
    if found.purged_at is not None:
        why = "its recipients are no longer kept (ledger.keep_days); its totals are in `job` and `report`"
        return Refusal(ErrorCode.WRONG_STATE, f"job {found.id}: {why}", found.id, found.state.value)
    return _people(use, found, frame)


async def _people(use: UseCases, job: Job, frame: WhoFrame) -> Lines:
    listed = 0
    names = Openids(use.jobs.audience_of(job), job)
    block, last = await use.ledger.listed(job.no, None)
    while last is not None:
        block = await names.filled(block)
        lines = [listed_view(one) for one in _wanted(block, frame)]
        listed += len(lines)
        if lines:
            yield lines
        if use.life.stopping.is_set():
            yield Refusal(ErrorCode.DRAINING, "broadcastd is stopping; the list is not whole", job.id)
            return
        block, last = await use.ledger.listed(job.no, last)
    yield {"ok": True, "job": job.id, "listed": listed}


def _wanted(block: Sequence[Listed], frame: WhoFrame) -> Sequence[Listed]:
    if frame.outcome is not None:
        block = [one for one in block if (one.outcome or NO_OUTCOME) in frame.outcome]
    if frame.openid is not None:
        block = [one for one in block if one.openid == frame.openid]
    return block


async def report(use: UseCases, fields: dict[str, Any]) -> Replies:
    """The closing report."""
    frame = check(JobFrame, fields)
    found = frame if isinstance(frame, Refusal) else await use.find(frame.job)
    if isinstance(found, Refusal):
        return found
    rounds, key = await use.ledger.rounds(found.no), await use.ledger.report_key()
    chunks = await use.ledger.mass_chunks(found.no)
    return {"ok": True, "report": report_of(found, rounds, key, chunks)}


async def verify(use: UseCases, fields: dict[str, Any]) -> Replies:
    """Whether this daemon made a report, and nobody has changed it since."""
    frame = check(VerifyFrame, fields)
    if isinstance(frame, Refusal):
        return frame
    genuine = is_genuine(frame.report, await use.ledger.report_key())
    job = frame.report.get("job")
    return {"ok": True, "genuine": genuine, "job": job if isinstance(job, str) else None}
