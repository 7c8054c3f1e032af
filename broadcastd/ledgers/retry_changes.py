"""Changes of a retry: a new round of a job that has ended. Each runs inside a commit."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from broadcastd.batch import OutcomeRow
from broadcastd.clock import to_ms
from broadcastd.ledgers.schema import deferrals, former_outcomes, gathered, jobs, outcomes, rounds, tallies
from broadcastd.outcomes import Outcome
from broadcastd.states import JobState, sources_of

_KEPT = ("job_no", "recipient_id", "round", "openid", "outcome", "channel", "errcode", "at")


def start_round(
    connection: sa.Connection,
    job_no: int,
    round_no: int,
    only: Collection[Outcome],
    now: datetime,
    not_after: datetime | None,
) -> bool:
    """See `Ledger.retry`."""
    change = (
        sa.update(jobs)
        .where(
            jobs.c.no == job_no,
            jobs.c.round == round_no - 1,
            jobs.c.state.in_([state.value for state in sources_of(JobState.RUNNING) if state.is_terminal]),
            jobs.c.purged_at.is_(None),
            sa.exists().where(outcomes.c.job_no == job_no, outcomes.c.outcome.in_(list(only))),
        )
        .values(
            state=JobState.RUNNING.value,
            reason="",
            round=round_no,
            planned=False,
            planned_through=None,
            finished_at=None,
            told_at=None,
            not_after=None if not_after is None else to_ms(not_after),
        )
    )
    if connection.execute(change).rowcount != 1:
        return False
    new = {"job_no": job_no, "no": round_no, "only": sorted(only), "accepted_at": to_ms(now)}
    connection.execute(sa.insert(rounds).values(new))
    # What a former round may have left behind under a lost lease.
    for table in (deferrals, gathered):
        connection.execute(sa.delete(table).where(table.c.job_no == job_no))
    return True


def retried_ids(connection: sa.Connection, job_no: int, after: int | None, limit: int) -> Sequence[int]:
    """See `Ledger.retried_ids`."""
    no, only = connection.execute(
        sa.select(rounds.c.no, rounds.c.only)
        .join(jobs, sa.and_(jobs.c.no == rounds.c.job_no, jobs.c.round == rounds.c.no))
        .where(jobs.c.no == job_no)
    ).one()
    query = sa.select(outcomes.c.recipient_id).where(
        outcomes.c.job_no == job_no, outcomes.c.outcome.in_(only or []), outcomes.c.round < no
    )
    if after is not None:
        query = query.where(outcomes.c.recipient_id > after)
    return connection.execute(query.order_by(outcomes.c.recipient_id).limit(limit)).scalars().all()


def possibly_received(connection: sa.Connection, job_no: int, round_no: int, bounds: tuple[int, int]) -> int:
    """How many of those whom a round asks between two ids are `unknown`: they may get it twice."""
    only = sa.select(rounds.c.only).where(rounds.c.job_no == job_no, rounds.c.no == round_no)
    if Outcome.UNKNOWN.value not in (connection.execute(only).scalar_one() or []):
        return 0
    query = sa.select(sa.func.count()).where(
        outcomes.c.job_no == job_no,
        outcomes.c.recipient_id.between(*bounds),
        outcomes.c.outcome == Outcome.UNKNOWN.value,
    )
    return int(connection.execute(query).scalar_one())


def make_way(connection: sa.Connection, rows: Sequence[OutcomeRow]) -> list[OutcomeRow]:
    """Move the outcomes that `rows` replace to the history; those of `rows` that are to be written."""
    new: list[OutcomeRow] = []
    for job_no in {row.job_no for row in rows}:
        mine = {row.recipient_id: row for row in reversed(rows) if row.job_no == job_no}
        present = _present(connection, job_no, mine)
        replacing = {one: row for one, row in mine.items() if one in present and row.round_no > present[one]}
        new += replacing.values()
        if replacing:
            _move(connection, job_no, list(replacing))
    return new


def _present(connection: sa.Connection, job_no: int, ids: Collection[int]) -> Mapping[int, int]:
    """Recipient to the round of its outcome."""
    query = sa.select(outcomes.c.recipient_id, outcomes.c.round).where(_are(outcomes, job_no, ids))
    return {row[0]: row[1] for row in connection.execute(query)}


def _are(table: sa.Table, job_no: int, ids: Collection[int]) -> "sa.ColumnElement[bool]":
    return sa.and_(table.c.job_no == job_no, table.c.recipient_id.in_(ids))


def _move(connection: sa.Connection, job_no: int, ids: Collection[int]) -> None:
    replaced = _are(outcomes, job_no, ids)
    kept = sa.select(*(outcomes.c[name] for name in _KEPT)).where(replaced)
    connection.execute(sa.insert(former_outcomes).from_select(_KEPT, kept))
    what: list[Any] = [outcomes.c.outcome, outcomes.c.channel, outcomes.c.errcode]
    for one in connection.execute(
        sa.select(*what, sa.func.count().label("n")).where(replaced).group_by(*what)
    ):
        tally = sa.and_(
            tallies.c.job_no == job_no,
            tallies.c.outcome == one.outcome,
            tallies.c.channel == one.channel,
            tallies.c.errcode == one.errcode,
        )
        connection.execute(sa.update(tallies).where(tally).values(n=tallies.c.n - one.n))
    connection.execute(sa.delete(outcomes).where(replaced))
