"""Changes of slices: leasing, renewing, splitting, settling, recovering. Each runs inside a commit."""

import secrets
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from broadcastd.clock import from_ms, to_ms
from broadcastd.frozen import pack_ids, unpack_ids
from broadcastd.ledgers import record_changes
from broadcastd.ledgers.schema import deferrals, jobs, outcomes, slices
from broadcastd.model import Deferral, DeferralRow, Lease, OnUnknown, OutcomeRow, Settled, Split
from broadcastd.outcomes import Outcome
from broadcastd.states import SliceState


def _holds(lease: Lease) -> "sa.ColumnElement[bool]":
    return sa.and_(
        slices.c.job_no == lease.job_no, slices.c.no == lease.slice_no, slices.c.lease == lease.token
    )


def open_slices(connection: sa.Connection, now: datetime) -> Mapping[int, int]:
    """See `Ledger.open_slices`."""
    query = (
        sa.select(slices.c.job_no, sa.func.count())
        .where(slices.c.state == SliceState.OPEN.value, slices.c.due_at <= to_ms(now))
        .group_by(slices.c.job_no)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def next_due_at(connection: sa.Connection) -> datetime | None:
    """See `Ledger.next_due_at`."""
    query = sa.select(sa.func.min(slices.c.due_at)).where(slices.c.state == SliceState.OPEN.value)
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
    waiting = connection.execute(
        sa.select(deferrals)
        .where(deferrals.c.job_no == row.job_no, deferrals.c.slice_no == row.no)
        .order_by(deferrals.c.due_at, deferrals.c.recipient_id)
    )
    put_off = tuple(
        Deferral(one.recipient_id, from_ms(one.due_at), one.channel_no, one.tries, one.doubts)
        for one in waiting
    )
    return Lease(row.job_no, row.no, token, tuple(unpack_ids(row.ids)), row.mark, put_off)


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
        )
    )
    return Lease(one.lease.job_no, no, token, one.give, None, ())


def settle(connection: sa.Connection, lease: Lease) -> Settled:
    """See `Ledger.settle`. A lease that is no longer ours is left alone: `recover` looks after it."""
    row = connection.execute(sa.select(slices).where(_holds(lease))).one_or_none()
    if row is None:
        return Settled(done=False)
    ended = _ended(connection, row)
    left = [one for one in unpack_ids(row.ids) if one not in ended]
    done = not left
    due_at = 0
    if left and row.mark is not None and left[-1] <= row.mark:
        # Nobody is left unasked: it is due when the first of those put off is.
        due_at = (
            connection.execute(
                sa.select(sa.func.min(deferrals.c.due_at)).where(
                    deferrals.c.job_no == row.job_no, deferrals.c.slice_no == row.no
                )
            ).scalar_one()
            or 0
        )
    state = SliceState.DONE if done else SliceState.OPEN
    connection.execute(
        sa.update(slices)
        .where(_holds(lease))
        .values(state=state.value, due_at=due_at, lease=None, owner=None, lease_until=None)
    )
    return Settled(done, None if done else from_ms(due_at))


def recover(connection: sa.Connection, lost: "sa.ColumnElement[bool]", now: datetime) -> tuple[int, int]:
    """Take back the leased slices for which `lost` holds: (how many, how many recipients in doubt).

    Who is at or below the mark without an outcome and not put off, or was armed, is in doubt. They are
    counted here, in the commit that lets them be asked again.
    """
    rows = connection.execute(
        sa.select(slices, jobs.c.on_unknown)
        .join(jobs, jobs.c.no == slices.c.job_no)
        .where(slices.c.state == SliceState.LEASED.value, lost)
    ).all()
    doubted = 0
    for row in rows:
        doubted += _recover_one(connection, row, now)
        connection.execute(
            sa.update(slices)
            .where(slices.c.job_no == row.job_no, slices.c.no == row.no)
            .values(state=SliceState.OPEN.value, due_at=0, lease=None, owner=None, lease_until=None)
        )
    return len(rows), doubted


def _ended(connection: sa.Connection, row: Any) -> set[int]:
    """Who of a slice has an outcome."""
    in_slice = sa.and_(
        outcomes.c.job_no == row.job_no, outcomes.c.recipient_id.between(row.first_id, row.last_id)
    )
    return set(connection.execute(sa.select(outcomes.c.recipient_id).where(in_slice)).scalars())


def _recover_one(connection: sa.Connection, row: Any, now: datetime) -> int:
    ended = _ended(connection, row)
    waiting = {
        one.recipient_id: one
        for one in connection.execute(
            sa.select(deferrals).where(deferrals.c.job_no == row.job_no, deferrals.c.slice_no == row.no)
        )
    }
    asked = [one for one in unpack_ids(row.ids) if row.mark is not None and one <= row.mark]
    doubtful = [one for one in asked if one not in ended and (one not in waiting or waiting[one].armed)]
    doubts: dict[int, int] = defaultdict(int, {one: waiting[one].doubts for one in waiting})
    if OnUnknown(row.on_unknown) is OnUnknown.RESEND:
        again = [
            DeferralRow(row.job_no, row.no, Deferral(one, now, doubts=doubts[one] + 1), in_doubt=True)
            for one in doubtful
        ]
        record_changes.put_off(connection, again)
    else:
        left = [
            OutcomeRow(row.job_no, one, None, Outcome.UNKNOWN, "", 0, now, was_deferred=one in waiting)
            for one in doubtful
        ]
        record_changes.count_doubts(connection, {row.job_no: len(left)})
        record_changes.write_outcomes(connection, left)
    return len(doubtful)
