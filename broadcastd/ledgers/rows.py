"""Between rows of the ledger and the model's values."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa

from broadcastd.clock import from_ms, to_ms
from broadcastd.ledgers.receipt_changes import deliveries_of
from broadcastd.ledgers.schema import jobs, rounds, tallies
from broadcastd.model import Books, Hold, HoldKind, Job, NewJob, OnUnknown, Round
from broadcastd.outcomes import Outcome
from broadcastd.states import JobState

MOST_IN_A_QUERY = 500
"""Values of one IN: databases have a limit, and a ledger may have a hundred thousand open jobs."""


def _batches(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    return (numbers[at : at + MOST_IN_A_QUERY] for at in range(0, len(numbers), MOST_IN_A_QUERY))


def _moment(moment_ms: int | None) -> datetime | None:
    return None if moment_ms is None else from_ms(moment_ms)


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else to_ms(moment)


def job_row(job: NewJob) -> dict[str, Any]:
    """The row of a job that was just accepted, whole, and as every driver takes it."""
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
        "to": None if request.to is None else _json(request.to),
        "channels": _json(job.channels),
        "messages": _json(job.messages),
        "on_unknown": job.on_unknown.value,
        "accepted_at": to_ms(job.accepted_at),
        "not_before": _ms(request.not_before),
        "not_after": _ms(request.not_after),
        "warnings": _json(job.warnings) if job.warnings else None,
        "planned": 0,
        "recipients": 0,
        "in_doubt": 0,
    }


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


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
        not_before=request.not_before,
        not_after=request.not_after,
        round=Round(accepted_at=job.accepted_at),
        warnings=job.warnings,
    )


def books_of(
    row: Any, sums: Iterable[Any], deliveries: Mapping[str, Mapping[str, int]] | None = None
) -> Books:
    """The books of one row of `jobs`, with its rows of `tallies`."""
    outcomes: dict[Outcome, int] = {}
    channels: dict[str, int] = {}
    errcodes: dict[int, int] = {}
    for one in sums:
        if not one.n:
            continue  # a retry has taken them all
        outcome = Outcome(one.outcome)
        outcomes[outcome] = outcomes.get(outcome, 0) + one.n
        if outcome is Outcome.SENT:
            channels[one.channel] = channels.get(one.channel, 0) + one.n
        if one.errcode:
            errcodes[one.errcode] = errcodes.get(one.errcode, 0) + one.n
    return Books(row.recipients, row.planned, outcomes, channels, errcodes, row.in_doubt, deliveries or {})


def round_of(row: Any) -> Round:
    """One row of `rounds`."""
    only = None if row.only is None else tuple(Outcome(one) for one in row.only)
    return Round(row.no, only, from_ms(row.accepted_at), _moment(row.finished_at), row.recipients, row.ended)


def job_of(
    row: Any, sums: Iterable[Any], present: Round, deliveries: Mapping[str, Mapping[str, int]] | None
) -> Job:
    """The job of one row of `jobs`, with its rows of `tallies` and its present round."""
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
        not_before=_moment(row.not_before),
        not_after=_moment(row.not_after),
        purged_at=_moment(row.purged_at),
        round=present,
        books=books_of(row, sums, deliveries),
        hold=Hold(HoldKind(row.hold_kind) if row.hold_kind else None, _moment(row.held_until)),
        warnings=tuple(row.warnings or ()),
        calls_saved=row.calls_saved,
    )


# Built once: SQLAlchemy builds a statement slower than SQLite runs it, and a job is loaded many times.
_NUMBERS: sa.BindParameter[Any] = sa.bindparam("numbers", expanding=True)
_BY_NUMBER = sa.select(jobs).where(jobs.c.no == sa.bindparam("the_job"))
_TALLIES = sa.select(tallies).where(tallies.c.job_no.in_(_NUMBERS))
_PRESENT_ROUNDS = (
    sa.select(rounds)
    .join(jobs, sa.and_(jobs.c.no == rounds.c.job_no, jobs.c.round == rounds.c.no))
    .where(rounds.c.job_no.in_(_NUMBERS))
)


def load_jobs(
    connection: sa.Connection, query: "sa.Select[Any]", values: Mapping[str, Any] | None = None
) -> Sequence[Job]:
    """The jobs that `query` (over the table `jobs`) yields with these values, with their books."""
    rows = connection.execute(query, values).all()
    if not rows:
        return []
    sums: dict[int, list[Any]] = {row.no: [] for row in rows}
    present: dict[int, Round] = {}
    deliveries: dict[int, Mapping[str, Mapping[str, int]]] = {}
    for numbers in _batches(list(sums)):
        these = {"numbers": numbers}
        for one in connection.execute(_TALLIES, these):
            sums[one.job_no].append(one)
        deliveries |= deliveries_of(connection, numbers)
        present |= {one.job_no: round_of(one) for one in connection.execute(_PRESENT_ROUNDS, these)}
    return [job_of(row, sums[row.no], present[row.no], deliveries.get(row.no)) for row in rows]


def load_job(connection: sa.Connection, job_no: int) -> Job:
    """One job that is known to exist."""
    return load_jobs(connection, _BY_NUMBER, {"the_job": job_no})[0]


def load_rounds(connection: sa.Connection, job_no: int) -> Sequence[Round]:
    """All rounds of a job, the first one first."""
    query = sa.select(rounds).where(rounds.c.job_no == job_no).order_by(rounds.c.no)
    return [round_of(row) for row in connection.execute(query)]
