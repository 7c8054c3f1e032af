"""Changes of slices: leasing, renewing, splitting, settling, recovering. Each runs inside a commit."""

import dataclasses
import secrets
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from broadcastd.batch import DeferralRow, OutcomeRow
from broadcastd.clock import from_ms, to_ms
from broadcastd.frozen import pack_ids, unpack_ids
from broadcastd.ledgers import mass_changes, record_changes
from broadcastd.ledgers.schema import deferrals, jobs, outcomes, slices
from broadcastd.model import Deferral, Lease, OnUnknown, Settled, Split
from broadcastd.outcomes import Outcome
from broadcastd.states import JOB_CLOSING, JobState, SliceState

_WITH_JOB = sa.select(slices, jobs.c.on_unknown, jobs.c.state.label("job_state")).join(
    jobs, jobs.c.no == slices.c.job_no
)


def _holds(lease: Lease) -> "sa.ColumnElement[bool]":
    return sa.and_(
        slices.c.job_no == lease.job_no, slices.c.no == lease.slice_no, slices.c.lease == lease.token
    )


def _goes(job_no: "sa.ColumnElement[int]") -> "sa.ColumnElement[bool]":
    """Whether a slice's job goes on: nobody of a paused or cancelled one is leased."""
    running = jobs.c.state == JobState.RUNNING.value
    return sa.exists().where(jobs.c.no == job_no, running)


def open_slices(connection: sa.Connection, now: datetime) -> Mapping[int, int]:
    """See `Ledger.open_slices`."""
    query = (
        sa.select(slices.c.job_no, sa.func.count())
        .where(slices.c.state == SliceState.OPEN.value, slices.c.due_at <= to_ms(now), _goes(slices.c.job_no))
        .group_by(slices.c.job_no)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def next_due_at(connection: sa.Connection, job_no: int | None = None) -> datetime | None:
    """See `Ledger.next_due_at`."""
    query = sa.select(sa.func.min(slices.c.due_at)).where(
        slices.c.state == SliceState.OPEN.value, _goes(slices.c.job_no)
    )
    if job_no is not None:
        query = query.where(slices.c.job_no == job_no)
    due_at = connection.execute(query).scalar_one()
    return None if due_at is None else from_ms(due_at)


def lease(
    connection: sa.Connection, shares: Mapping[int, int], now: datetime, owner: str, until: datetime
) -> Sequence[Lease]:
    """See `Ledger.lease`."""
    leases = []
    for job_no, share in shares.items():
        query = (
            sa.select(slices)
            .where(
                slices.c.state == SliceState.OPEN.value,
                slices.c.job_no == job_no,
                slices.c.due_at <= to_ms(now),
                _goes(slices.c.job_no),
            )
            .order_by(slices.c.no)
            .limit(share)
        )
        for row in connection.execute(query).all():
            leases.append(_lease_one(connection, row, owner, until))
    return leases


def _lease_one(connection: sa.Connection, row: Any, owner: str, until: datetime) -> Lease:
    token = secrets.randbits(62)
    connection.execute(
        sa.update(slices)
        .where(slices.c.job_no == row.job_no, slices.c.no == row.no)
        .values(state=SliceState.LEASED.value, lease=token, owner=owner, lease_until=to_ms(until))
    )
    waiting = tuple(
        _deferral(one, from_ms(one.due_at))
        for one in _put_off(connection, row)
        if one.due_at < mass_changes.WITH_ITS_CHUNK_MS
    )
    ids = tuple(unpack_ids(row.ids))
    ended = _ended(connection, row)
    unasked = tuple(one for one in ids if one not in ended and (row.mark is None or one > row.mark))
    return Lease(row.job_no, row.no, token, ids, unasked, waiting, row.round)


def renew(connection: sa.Connection, owner: str, now: datetime, until: datetime) -> None:
    """See `Ledger.renew`."""
    connection.execute(
        sa.update(slices)
        .where(
            slices.c.state == SliceState.LEASED.value,
            slices.c.owner == owner,
            slices.c.lease_until > to_ms(now),
        )
        .values(lease_until=to_ms(until))
    )


def split(connection: sa.Connection, one: Split, now: datetime, owner: str, until: datetime) -> Lease | None:
    """See `Ledger.split`; one of them."""
    kept = connection.execute(
        sa.update(slices)
        .where(_holds(one.lease), slices.c.lease_until > to_ms(now))
        .values(last_id=one.keep[-1], size=len(one.keep), ids=pack_ids(one.keep))
    )
    if kept.rowcount != 1:
        return None
    top = sa.select(sa.func.max(slices.c.no)).where(slices.c.job_no == one.lease.job_no)
    no = connection.execute(top).scalar_one() + 1
    token = secrets.randbits(62)
    connection.execute(
        sa.insert(slices).values(
            job_no=one.lease.job_no,
            no=no,
            first_id=one.give[0],
            last_id=one.give[-1],
            size=len(one.give),
            ids=pack_ids(one.give),
            state=SliceState.LEASED.value,
            due_at=0,
            lease=token,
            owner=owner,
            lease_until=to_ms(until),
            round=one.lease.round_no,
        )
    )
    return Lease(one.lease.job_no, no, token, one.give, one.give, round_no=one.lease.round_no)


def settle(connection: sa.Connection, lease: Lease, now: datetime) -> Settled:
    """See `Ledger.settle`. A lease that is no longer ours is left alone: `recover` looks after it."""
    row = connection.execute(_WITH_JOB.where(_holds(lease))).one_or_none()
    if row is None:
        return Settled(done=False)
    _resolve_doubts(connection, row, now)
    return _let_go(connection, row)


def recover(connection: sa.Connection, lost: "sa.ColumnElement[bool]", now: datetime) -> tuple[int, int]:
    """Take back the leased slices for which `lost` holds: (how many, how many recipients in doubt)."""
    rows = connection.execute(_WITH_JOB.where(slices.c.state == SliceState.LEASED.value, lost)).all()
    doubted = 0
    for row in rows:
        doubted += _resolve_doubts(connection, row, now)
        _let_go(connection, row)
    return len(rows), doubted


def _let_go(connection: sa.Connection, row: Any) -> Settled:
    """End the lease of a slice in which nobody is in doubt."""
    ended = _ended(connection, row)
    left = [one for one in unpack_ids(row.ids) if one not in ended]
    due_at = 0
    if left and row.mark is not None and left[-1] <= row.mark:
        # Nobody is left unasked: it is due when the first of those put off is.
        due_at = min((one.due_at for one in _put_off(connection, row)), default=0)
    state = SliceState.OPEN if left else SliceState.DONE
    connection.execute(
        sa.update(slices)
        .where(slices.c.job_no == row.job_no, slices.c.no == row.no)
        .values(state=state.value, due_at=due_at, lease=None, owner=None, lease_until=None)
    )
    return Settled(not left, from_ms(due_at) if left else None)


def _ended(connection: sa.Connection, row: Any) -> set[int]:
    """Who of a slice has an outcome of its round."""
    in_slice = sa.and_(
        outcomes.c.job_no == row.job_no,
        outcomes.c.recipient_id.between(row.first_id, row.last_id),
        outcomes.c.round >= row.round,
    )
    return set(connection.execute(sa.select(outcomes.c.recipient_id).where(in_slice)).scalars())


def _put_off(connection: sa.Connection, row: Any) -> Sequence[Any]:
    """The deferrals of a slice, the first due first.

    Without who has an outcome: one that came late, under a lost lease, does not know of the deferral.
    """
    of_slice = sa.and_(deferrals.c.job_no == row.job_no, deferrals.c.slice_no == row.no)
    has_ended = sa.exists().where(
        outcomes.c.job_no == deferrals.c.job_no,
        outcomes.c.recipient_id == deferrals.c.recipient_id,
        outcomes.c.round >= row.round,
    )
    query = sa.select(deferrals).where(of_slice, ~has_ended)
    query = query.order_by(deferrals.c.due_at, deferrals.c.recipient_id)
    return connection.execute(query).all()


def _deferral(row: Any, due_at: datetime) -> Deferral:
    return Deferral(row.recipient_id, due_at, row.channel_no, row.tries, row.doubts, row.refusals)


def _resolve_doubts(connection: sa.Connection, row: Any, now: datetime) -> int:
    """Count who of a slice is in doubt, and decide what becomes of them; how many they are.

    In doubt is who is at or below the mark, has no outcome and is not put off; and who is put off but armed.
    Counted here, in the commit that lets them be asked again.
    """
    if row.mark is None:
        return 0
    ended = _ended(connection, row)
    waiting = {one.recipient_id: one for one in _put_off(connection, row)}
    doubtful = [
        one
        for one in unpack_ids(row.ids)
        if one <= row.mark and one not in ended and (one not in waiting or waiting[one].armed)
    ]
    if OnUnknown(row.on_unknown) is OnUnknown.RESEND and JobState(row.job_state) not in JOB_CLOSING:
        again = []
        for one in doubtful:
            # Who was put off before goes on where they were, not on the first channel.
            was = _deferral(waiting[one], now) if one in waiting else Deferral(one, now)
            deferral = dataclasses.replace(was, doubts=was.doubts + 1)
            again.append(DeferralRow(row.job_no, row.no, deferral, in_doubt=True))
        record_changes.put_off(connection, again)
    else:
        record_changes.count_doubts(connection, {row.job_no: len(doubtful)})
        _end(connection, row, doubtful, Outcome.UNKNOWN, now, deferred=waiting)
    return len(doubtful)


def _end(
    connection: sa.Connection,
    row: Any,
    ids: Collection[int],
    outcome: Outcome,
    now: datetime,
    *,
    deferred: Collection[int],
) -> None:
    record_changes.write_outcomes(
        connection,
        [OutcomeRow(row.job_no, one, None, outcome, "", 0, now, one in deferred, row.round) for one in ids],
    )


def close(connection: sa.Connection, job_no: int, limit: int, now: datetime) -> int:
    """See `Ledger.close_slices`."""
    of_job = sa.and_(slices.c.job_no == job_no, jobs.c.state.in_([state.value for state in JOB_CLOSING]))
    is_open = slices.c.state == SliceState.OPEN.value
    for row in connection.execute(_WITH_JOB.where(of_job, is_open).limit(limit)).all():
        _close_one(connection, row, now)
    left = sa.select(sa.func.count()).where(
        slices.c.job_no == job_no, slices.c.state != SliceState.DONE.value
    )
    still_open = int(connection.execute(left).scalar_one())
    if not still_open:
        mass_changes.close_job(connection, job_no)
    return still_open


def _close_one(connection: sa.Connection, row: Any, now: datetime) -> None:
    """Who may have got the message is `unknown`; the others are `skipped`, or keep the former outcome."""
    _resolve_doubts(connection, row, now)
    waiting = {one.recipient_id: one for one in _put_off(connection, row)}
    in_chunk = mass_changes.close_asked(connection, row.job_no, (row.first_id, row.last_id))
    asked = [one for one, deferral in waiting.items() if deferral.doubts or one in in_chunk]
    _end(connection, row, asked, Outcome.UNKNOWN, now, deferred=waiting)
    if row.round == 1:
        ended = _ended(connection, row)
        left = [one for one in unpack_ids(row.ids) if one not in ended]
        _end(connection, row, left, Outcome.SKIPPED, now, deferred=waiting)
    of_slice = sa.and_(deferrals.c.job_no == row.job_no, deferrals.c.slice_no == row.no)
    connection.execute(sa.delete(deferrals).where(of_slice))
    this = sa.and_(slices.c.job_no == row.job_no, slices.c.no == row.no)
    connection.execute(sa.update(slices).where(this).values(state=SliceState.DONE.value))
