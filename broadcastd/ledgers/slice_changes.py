"""Changes of slices: leasing, renewing, splitting, settling, recovering. Each runs inside a commit."""

import bisect
import dataclasses
import secrets
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from broadcastd.batch import DeferralRow, OutcomeRow
from broadcastd.clock import from_ms, to_ms
from broadcastd.frozen import Ids
from broadcastd.ledgers import mass_changes, record_changes
from broadcastd.ledgers.plain_sql import plain_sql_of
from broadcastd.ledgers.schema import deferrals, jobs, slices
from broadcastd.ledgers.slice_standing import PutOff, Standing, standing
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


# Built once, and each of them runs for every slice: SQLAlchemy builds a statement slower than SQLite runs it.
_THE_SLICE = sa.and_(slices.c.job_no == sa.bindparam("job"), slices.c.no == sa.bindparam("the_no"))
_OPEN = (
    # From the few jobs that run to their slices: a look at the job of each slice takes twice as long.
    sa.select(jobs.c.no, sa.func.count(slices.c.job_no))
    .join_from(jobs, slices, slices.c.job_no == jobs.c.no)
    .where(
        jobs.c.state == JobState.RUNNING.value,
        slices.c.state == SliceState.OPEN.value,
        slices.c.due_at <= sa.bindparam("now_ms"),
    )
    .group_by(jobs.c.no)
)


class _Due(NamedTuple):
    """A slice that can be leased."""

    no: int
    first_id: int
    last_id: int
    mark: int | None
    round: int
    ids: bytes
    job_no: int


# Of all that are due, only the numbers are sorted.
_DUE = (
    "SELECT slices.no, first_id, last_id, mark, round, hex(ids) FROM"  # noqa: S608 - our names
    f" (SELECT no FROM slices WHERE state = '{SliceState.OPEN.value}' AND job_no = ? AND due_at <= ?"
    f" AND EXISTS (SELECT 1 FROM jobs WHERE no = ? AND state = '{JobState.RUNNING.value}')"
    " ORDER BY no LIMIT ?) AS due JOIN slices ON slices.job_no = ? AND slices.no = due.no"
)
_HELD = _WITH_JOB.where(_THE_SLICE, slices.c.lease == sa.bindparam("token"))
_LET_GO = (
    sa.update(slices)
    .where(_THE_SLICE)
    .values(
        state=sa.bindparam("then"), due_at=sa.bindparam("due_ms"), lease=None, owner=None, lease_until=None
    )
)


def open_slices(connection: sa.Connection, now: datetime) -> Mapping[int, int]:
    """See `Ledger.open_slices`."""
    return {row[0]: row[1] for row in connection.execute(_OPEN, {"now_ms": to_ms(now)})}


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
    leases: list[Lease] = []
    for job_no, share in shares.items():
        rows = _due(connection, job_no, share, now)
        tokens = {row.no: secrets.randbits(62) for row in rows}
        if rows:
            plain_sql_of(connection).lease(job_no, tokens, owner, to_ms(until))
        seen = standing(connection, rows)
        leases += [_leased(row, tokens[row.no], seen[row.no]) for row in rows]
    return leases


def _due(connection: sa.Connection, job_no: int, share: int, now: datetime) -> Sequence[_Due]:
    values = [job_no, to_ms(now), job_no, share, job_no]
    rows = plain_sql_of(connection).many_rows(6, _DUE, values)
    return sorted(
        _Due(no, first_id, last_id, mark, round_no, bytes.fromhex(ids), job_no)
        for no, first_id, last_id, mark, round_no, ids in rows
    )


def _leased(row: _Due, token: int, seen: Standing) -> Lease:
    waiting = tuple(
        _deferral(one, from_ms(one.due_at))
        for one in seen.put_off
        if one.due_at < mass_changes.WITH_ITS_CHUNK_MS
    )
    left = seen.left
    unasked = left if row.mark is None else left[bisect.bisect_right(left, row.mark) :]
    ids = Ids(row.ids, len(seen.ids), row.first_id, row.last_id)
    fresh = ids if len(unasked) == len(ids) else Ids.of(unasked)
    return Lease(row.job_no, row.no, token, ids, fresh, waiting, row.round)


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
    keep, give = Ids.of(one.keep), Ids.of(one.give)
    kept = connection.execute(
        sa.update(slices)
        .where(_holds(one.lease), slices.c.lease_until > to_ms(now))
        .values(last_id=one.keep[-1], size=len(keep), ids=keep.packed)
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
            size=len(give),
            ids=give.packed,
            state=SliceState.LEASED.value,
            due_at=0,
            lease=token,
            owner=owner,
            lease_until=to_ms(until),
            round=one.lease.round_no,
        )
    )
    return Lease(one.lease.job_no, no, token, give, give, round_no=one.lease.round_no)


def settle(connection: sa.Connection, lease: Lease, now: datetime) -> Settled:
    """See `Ledger.settle`. A lease that is no longer ours is left alone: `recover` looks after it."""
    values = {"job": lease.job_no, "the_no": lease.slice_no, "token": lease.token}
    row = connection.execute(_HELD, values).one_or_none()
    if row is None:
        return Settled(done=False)
    return _let_go(connection, row, _resolve_doubts(connection, row, now)[1])


def recover(connection: sa.Connection, lost: "sa.ColumnElement[bool]", now: datetime) -> tuple[int, int]:
    """Take back the leased slices for which `lost` holds: (how many, how many recipients in doubt)."""
    rows = connection.execute(_WITH_JOB.where(slices.c.state == SliceState.LEASED.value, lost)).all()
    doubted = 0
    for row in rows:
        doubtful, seen = _resolve_doubts(connection, row, now)
        doubted += doubtful
        _let_go(connection, row, seen)
    return len(rows), doubted


def _let_go(connection: sa.Connection, row: Any, seen: Standing) -> Settled:
    """End the lease of a slice in which nobody is in doubt."""
    left = seen.left
    due_at = 0
    if left and row.mark is not None and left[-1] <= row.mark:
        # Nobody is left unasked: it is due when the first of those put off is.
        due_at = min((one.due_at for one in seen.put_off), default=0)
    state = SliceState.OPEN if left else SliceState.DONE
    connection.execute(_LET_GO, {"job": row.job_no, "the_no": row.no, "then": state.value, "due_ms": due_at})
    return Settled(not left, from_ms(due_at) if left else None)


def _standing(connection: sa.Connection, row: Any) -> Standing:
    return standing(connection, [row])[row.no]


def _deferral(row: PutOff, due_at: datetime) -> Deferral:
    return Deferral(row.recipient_id, due_at, row.channel_no, row.tries, row.doubts, row.refusals)


def _resolve_doubts(connection: sa.Connection, row: Any, now: datetime) -> tuple[int, Standing]:
    """Count who of a slice is in doubt, and decide what becomes of them: (how many they are, how it stands).

    In doubt is who is at or below the mark, has no outcome and is not put off; and who is put off but armed.
    Counted here, in the commit that lets them be asked again.
    """
    seen = _standing(connection, row)
    waiting = {one.recipient_id: one for one in seen.put_off}
    doubtful = [
        one
        for one in seen.left
        if row.mark is not None and one <= row.mark and (one not in waiting or waiting[one].armed)
    ]
    if not doubtful:
        return 0, seen
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
    return len(doubtful), _standing(connection, row)


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
    _, seen = _resolve_doubts(connection, row, now)
    waiting = {one.recipient_id: one for one in seen.put_off}
    in_chunk = mass_changes.close_asked(connection, row.job_no, (row.first_id, row.last_id))
    asked = [one for one, deferral in waiting.items() if deferral.doubts or one in in_chunk]
    _end(connection, row, asked, Outcome.UNKNOWN, now, deferred=waiting)
    if row.round == 1:
        left = _standing(connection, row).left
        _end(connection, row, left, Outcome.SKIPPED, now, deferred=waiting)
    of_slice = sa.and_(deferrals.c.job_no == row.job_no, deferrals.c.slice_no == row.no)
    connection.execute(sa.delete(deferrals).where(of_slice))
    this = sa.and_(slices.c.job_no == row.job_no, slices.c.no == row.no)
    connection.execute(sa.update(slices).where(this).values(state=SliceState.DONE.value))
