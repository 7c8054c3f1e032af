"""Between rows of the ledger and the model's values."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from broadcastd.clock import from_ms, to_ms
from broadcastd.ledgers.schema import jobs, tallies
from broadcastd.model import Books, Job, NewJob, OnUnknown
from broadcastd.outcomes import Outcome
from broadcastd.states import JobState


def _moment(moment_ms: int | None) -> datetime | None:
    return None if moment_ms is None else from_ms(moment_ms)


def job_row(job: NewJob) -> dict[str, Any]:
    """The row of a job that was just accepted."""
    request = job.request
    return {
        "id": job.id,
        "account": request.account,
        "state": JobState.ACCEPTED.value,
        "reason": "",
        "content": request.content,
        "phone": request.phone,
        "key": request.key,
        "ref": request.ref,
        "flag": request.flag,
        "to": None if request.to is None else list(request.to),
        "channels": list(job.channels),
        "messages": dict(job.messages),
        "on_unknown": job.on_unknown.value,
        "accepted_at": to_ms(job.accepted_at),
    }


def fresh_job(no: int, job: NewJob) -> Job:
    """What `load_job` would find for a job that was accepted in this very commit."""
    request = job.request
    return Job(
        no=no,
        id=job.id,
        account=request.account,
        state=JobState.ACCEPTED,
        reason="",
        content=request.content,
        phone=request.phone,
        key=request.key,
        ref=request.ref,
        flag=request.flag,
        to=request.to,
        channels=job.channels,
        messages=job.messages,
        on_unknown=job.on_unknown,
        accepted_at=job.accepted_at,
        books=Books(),
    )


def books_of(row: Any, sums: Iterable[Any]) -> Books:
    """The books of one row of `jobs`, with its rows of `tallies`."""
    outcomes: dict[Outcome, int] = {}
    channels: dict[str, int] = {}
    errcodes: dict[int, int] = {}
    for one in sums:
        outcome = Outcome(one.outcome)
        outcomes[outcome] = outcomes.get(outcome, 0) + one.n
        if outcome is Outcome.SENT:
            channels[one.channel] = channels.get(one.channel, 0) + one.n
        if one.errcode:
            errcodes[one.errcode] = errcodes.get(one.errcode, 0) + one.n
    return Books(row.recipients, row.planned, outcomes, channels, errcodes, row.in_doubt)


def job_of(row: Any, sums: Iterable[Any]) -> Job:
    """The job of one row of `jobs`, with its rows of `tallies`."""
    return Job(
        no=row.no,
        id=row.id,
        account=row.account,
        state=JobState(row.state),
        reason=row.reason,
        content=row.content,
        phone=row.phone,
        key=row.key,
        ref=row.ref,
        flag=row.flag,
        to=None if row.to is None else tuple(row.to),
        channels=tuple(row.channels),
        messages=row.messages,
        on_unknown=OnUnknown(row.on_unknown),
        accepted_at=from_ms(row.accepted_at),
        started_at=_moment(row.started_at),
        finished_at=_moment(row.finished_at),
        first_sent_at=_moment(row.first_sent_at),
        last_sent_at=_moment(row.last_sent_at),
        planned_through=row.planned_through,
        books=books_of(row, sums),
    )


def load_jobs(connection: sa.Connection, query: "sa.Select[Any]") -> Sequence[Job]:
    """The jobs that `query` (over the table `jobs`) yields, with their books."""
    rows = connection.execute(query).all()
    sums: dict[int, list[Any]] = {row.no: [] for row in rows}
    if rows:
        for one in connection.execute(sa.select(tallies).where(tallies.c.job_no.in_(sums))):
            sums[one.job_no].append(one)
    return [job_of(row, sums[row.no]) for row in rows]


def load_job(connection: sa.Connection, job_no: int) -> Job:
    """One job that is known to exist."""
    return load_jobs(connection, sa.select(jobs).where(jobs.c.no == job_no))[0]
