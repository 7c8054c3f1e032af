"""What is forgotten, and when: who got a finished job after a while, its totals and its key after a year."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from broadcastd.clock import to_ms
from broadcastd.ledgers.schema import (
    deferrals,
    delivery_tallies,
    former_outcomes,
    gathered,
    job_keys,
    jobs,
    mass_chunks,
    outcomes,
    pushes,
    receipts,
    rounds,
    slices,
    tallies,
)
from broadcastd.states import JOB_TERMINAL

TOTALS_KEPT = timedelta(days=365)
"""As long as the keys: a repeat must find its job."""

PUSHES_KEPT = timedelta(days=1)
"""At the least: by them a repeat is known."""

_PEOPLE = (outcomes, former_outcomes, deferrals, receipts, gathered)


def purge(connection: sa.Connection, now: datetime, keep: timedelta, limit: int) -> int:
    """See `Ledger.purge`."""
    gone = 0
    for delete in _steps(connection, now, keep, limit):
        gone += delete
        if gone >= limit:
            break
    return gone


def _steps(connection: sa.Connection, now: datetime, keep: timedelta, limit: int) -> Iterator[int]:
    expired = connection.execute(
        sa.select(job_keys.c.account, job_keys.c.kind, job_keys.c.key, job_keys.c.flag)
        .where(job_keys.c.expires_at <= to_ms(now))
        .limit(limit)
    ).all()
    for row in expired:
        same = sa.and_(*(job_keys.c[name] == value for name, value in row._mapping.items()))
        yield connection.execute(sa.delete(job_keys).where(same)).rowcount
    old_ms = to_ms(now - max(keep, PUSHES_KEPT))
    applied = sa.and_(pushes.c.applied_at <= old_ms, pushes.c.received_at <= old_ms)
    yield from _delete_some(connection, pushes.c.no, applied, limit)
    # Messages that are no job's: sent by the site itself, or before this ledger was there.
    foreign = sa.and_(receipts.c.at <= old_ms, receipts.c.job_no.is_(None))
    yield from _delete_receipts(connection, foreign, limit)
    for job_no in _ended_before(connection, now - keep, jobs.c.purged_at.is_(None)):
        yield from _forget_people(connection, job_no, limit)
        this = jobs.c.no == job_no
        yield connection.execute(sa.update(jobs).where(this).values(purged_at=to_ms(now))).rowcount
    for job_no in _ended_before(connection, now - max(keep, TOTALS_KEPT), jobs.c.purged_at.is_not(None)):
        for table in (tallies, delivery_tallies, rounds, mass_chunks):
            connection.execute(sa.delete(table).where(table.c.job_no == job_no))
        yield connection.execute(sa.delete(jobs).where(jobs.c.no == job_no)).rowcount


def _delete_some(
    connection: sa.Connection, by: "sa.Column[Any]", which: "sa.ColumnElement[bool]", limit: int
) -> Iterator[int]:
    numbers = connection.execute(sa.select(by).where(which).limit(limit)).scalars().all()
    if numbers:
        yield connection.execute(sa.delete(by.table).where(by.in_(numbers))).rowcount


def _delete_receipts(connection: sa.Connection, which: "sa.ColumnElement[bool]", limit: int) -> Iterator[int]:
    keys = sa.select(receipts.c.account, receipts.c.channel, receipts.c.msgid).where(which).limit(limit)
    for (account, channel), rows in _by_channel(connection.execute(keys)).items():
        these = sa.and_(
            receipts.c.account == account, receipts.c.channel == channel, receipts.c.msgid.in_(rows)
        )
        yield connection.execute(sa.delete(receipts).where(these)).rowcount


def _by_channel(keys: Iterable[Any]) -> Mapping[tuple[str, str], list[int]]:
    found: dict[tuple[str, str], list[int]] = {}
    for key in keys:
        found.setdefault((key.account, key.channel), []).append(key.msgid)
    return found


def _ended_before(
    connection: sa.Connection, moment: datetime, which: "sa.ColumnElement[bool]"
) -> Iterator[int]:
    """One after the other, so that a long list is not read at each call."""
    ended = jobs.c.state.in_([state.value for state in JOB_TERMINAL])
    query = sa.select(jobs.c.no).where(ended, which, jobs.c.finished_at <= to_ms(moment)).limit(1)
    while (job_no := connection.execute(query).scalar_one_or_none()) is not None:
        yield job_no


def _forget_people(connection: sa.Connection, job_no: int, limit: int) -> Iterator[int]:
    for table in _PEOPLE:
        yield from _delete(connection, table, job_no, table.c.recipient_id, limit)
    yield from _delete(connection, slices, job_no, slices.c.no, limit)


def _delete(
    connection: sa.Connection, table: sa.Table, job_no: int, by: "sa.Column[Any]", limit: int
) -> Iterator[int]:
    """Rows of one job, `limit` at a time: every database knows this way of it."""
    of_job = table.c.job_no == job_no
    while True:
        query = sa.select(by).where(of_job).order_by(by).limit(1).offset(limit)
        end = connection.execute(query).scalar_one_or_none()
        upto = of_job if end is None else sa.and_(of_job, by < end)
        yield connection.execute(sa.delete(table).where(upto)).rowcount
        if end is None:
            return
