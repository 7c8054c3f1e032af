"""Changes of jobs: freezing, holding, finishing. Each runs inside a commit of the writer."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from broadcastd.clock import to_ms
from broadcastd.errors import AlreadyFrozenError, JobEndedError
from broadcastd.frozen import Ids
from broadcastd.ledgers import record_changes, retry_changes
from broadcastd.ledgers.plain_sql import plain_sql_of
from broadcastd.ledgers.rows import load_job
from broadcastd.ledgers.schema import jobs, rounds, slices, tallies
from broadcastd.model import NO_HOLD, NOBODY, Hold, HoldKind, Job
from broadcastd.states import JOB_CLOSING, JOB_GOING, JobState, SliceState, sources_of

# Built once: a planner's commit comes every few milliseconds, and SQLAlchemy builds a statement slower than
# SQLite runs it.
_THIS_JOB: sa.BindParameter[int] = sa.bindparam("job")
_PLANNED_SO_FAR = sa.select(
    jobs.c.planned, jobs.c.planned_through, jobs.c.recipients, jobs.c.round, jobs.c.state
).where(jobs.c.no == _THIS_JOB)
_TOP_SLICE = sa.select(sa.func.coalesce(sa.func.max(slices.c.no), 0)).where(slices.c.job_no == _THIS_JOB)
_MORE_IN_ROUND = (
    sa.update(rounds)
    .where(rounds.c.job_no == _THIS_JOB, rounds.c.no == sa.bindparam("the_round"))
    .values(recipients=rounds.c.recipients + sa.bindparam("more"))
)


def add_slices(
    connection: sa.Connection,
    job_no: int,
    cut: Sequence[Ids],
    now: datetime,
    *,
    planned: bool,
    may_be_empty: bool,
) -> None:
    """See `Ledger.add_slices`."""
    job = connection.execute(_PLANNED_SO_FAR, {"job": job_no}).one()
    if JobState(job.state) not in sources_of(JobState.CANCELLING):
        raise JobEndedError
    if job.planned or (cut and job.planned_through is not None and cut[0].first <= job.planned_through):
        raise AlreadyFrozenError
    changes: dict[str, Any] = {
        "planned": planned,
        "started_at": sa.func.coalesce(jobs.c.started_at, to_ms(now)),
        # A job that is held stays so; one that waits to start runs now.
        "state": sa.case(
            (jobs.c.state == JobState.ACCEPTED.value, JobState.RUNNING.value), else_=jobs.c.state
        ),
    }
    if cut:
        _freeze(connection, job_no, job.round, cut)
        changes["planned_through"] = cut[-1].last
        if job.round == 1:
            changes["recipients"] = jobs.c.recipients + sum(len(ids) for ids in cut)
    elif planned and not job.recipients and may_be_empty and JobState(job.state) in JOB_GOING:
        changes.update(state=JobState.DONE.value, finished_at=to_ms(now))
        _end_round(connection, job_no, job.round, now)
    elif planned and not job.recipients and JobState(job.state) in JOB_GOING:
        changes.update(state=JobState.HELD.value, reason=NOBODY, hold_kind=HoldKind.TROUBLE.value)
    connection.execute(sa.update(jobs).where(jobs.c.no == job_no).values(changes))


def _freeze(connection: sa.Connection, job_no: int, round_no: int, cut: Sequence[Ids]) -> None:
    first_no = connection.execute(_TOP_SLICE, {"job": job_no}).scalar_one() + 1
    plain_sql_of(connection).open_slices(job_no, round_no, first_no, cut)
    frozen = sum(len(ids) for ids in cut)
    connection.execute(_MORE_IN_ROUND, {"job": job_no, "the_round": round_no, "more": frozen})
    if round_no > 1:
        bounds = [(ids.first, ids.last) for ids in cut]
        doubtful = sum(retry_changes.possibly_received(connection, job_no, round_no, one) for one in bounds)
        record_changes.count_doubts(connection, {job_no: doubtful})


def move(
    connection: sa.Connection, job_no: int, target: JobState, reason: str = "", hold: Hold = NO_HOLD
) -> bool:
    """See `Ledger.move`."""
    allowed = [state.value for state in sources_of(target)]
    change = sa.update(jobs).where(jobs.c.no == job_no, jobs.c.state.in_(allowed))
    until = None if hold.until is None else to_ms(hold.until)
    moved = change.values(
        state=target.value, reason=reason, hold_kind=hold.kind.value if hold.kind else "", held_until=until
    )
    return connection.execute(moved).rowcount == 1


def warn(connection: sa.Connection, job_no: int, warnings: Sequence[str]) -> None:
    """See `Ledger.warn`."""
    connection.execute(
        sa.update(jobs).where(jobs.c.no == job_no).values(warnings=list(warnings) or sa.null())
    )


def resume(connection: sa.Connection, job_no: int) -> bool:
    """See `Ledger.resume`. A job that froze nobody reads its audience anew."""
    return let_go(connection, jobs.c.no == job_no, (JobState.HELD, JobState.PAUSED)) == 1


def let_go(connection: sa.Connection, which: "sa.ColumnElement[bool]", states: Sequence[JobState]) -> int:
    """Let the jobs of `which` that are in one of `states` go on; how many."""
    waiting = sa.and_(which, jobs.c.state.in_([state.value for state in states]))
    connection.execute(sa.update(jobs).where(waiting, jobs.c.recipients == 0).values(planned=False))
    state = sa.case((jobs.c.started_at.is_(None), JobState.ACCEPTED.value), else_=JobState.RUNNING.value)
    change = sa.update(jobs).where(waiting).values(state=state, reason="", hold_kind="", held_until=None)
    return connection.execute(change).rowcount


def _finish() -> "sa.Update":
    """Of `:the_job`. Built once: SQLAlchemy builds it slower than SQLite runs it, twice a job."""
    this = jobs.c.no == sa.bindparam("the_job")
    unfinished = sa.select(sa.literal(1)).where(
        slices.c.job_no == sa.bindparam("the_job"), slices.c.state != SliceState.DONE.value
    )
    ended = sa.select(sa.func.coalesce(sa.func.sum(tallies.c.n), 0)).where(
        tallies.c.job_no == sa.bindparam("the_job")
    )
    of_round = sa.select(rounds.c.ended == rounds.c.recipients).where(
        rounds.c.job_no == sa.bindparam("the_job"), rounds.c.no == jobs.c.round
    )
    asked = sa.and_(
        jobs.c.state.in_([state.value for state in sources_of(JobState.DONE)]),
        jobs.c.planned,
        jobs.c.recipients > 0,  # an empty audience is held, not done
        of_round.scalar_subquery(),
    )
    closed = jobs.c.state.in_([state.value for state in JOB_CLOSING])
    balanced = jobs.c.recipients == ended.scalar_subquery()
    last_state = sa.case(
        (jobs.c.state == JobState.CANCELLING.value, JobState.CANCELLED.value),
        (jobs.c.state == JobState.EXPIRING.value, JobState.EXPIRED.value),
        else_=JobState.DONE.value,
    )
    change = sa.update(jobs).where(this, sa.or_(asked, closed), ~sa.exists(unfinished), balanced)
    return change.ordered_values(
        # MySQL sets one after the other: the reason is looked at while the state is the former one.
        ("reason", sa.case((closed, jobs.c.reason), else_="")),
        ("state", last_state),
        ("hold_kind", ""),
        ("held_until", None),
        ("planned", True),
        ("finished_at", sa.bindparam("the_time")),
    )


_FINISH = _finish()


def finish(connection: sa.Connection, job_no: int, now: datetime) -> Job | None:
    """See `Ledger.finish`."""
    if connection.execute(_FINISH, {"the_job": job_no, "the_time": to_ms(now)}).rowcount != 1:
        return None
    ended = load_job(connection, job_no)
    _end_round(connection, job_no, ended.round.no, now)
    return dataclasses.replace(ended, round=dataclasses.replace(ended.round, finished_at=ended.finished_at))


def _end_round(connection: sa.Connection, job_no: int, round_no: int, now: datetime) -> None:
    this = sa.and_(rounds.c.job_no == job_no, rounds.c.no == round_no)
    connection.execute(sa.update(rounds).where(this).values(finished_at=to_ms(now)))
