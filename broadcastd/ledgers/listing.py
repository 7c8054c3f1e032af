"""Who a job's recipients are and how each ended: what `who` lists, a slice at a time."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from broadcastd.clock import from_ms
from broadcastd.frozen import unpack_ids
from broadcastd.ledgers.schema import outcomes, receipts, slices
from broadcastd.model import Listed
from broadcastd.outcomes import Outcome


def list_block(
    connection: sa.Connection, job_no: int, after: int | None
) -> tuple[Sequence[Listed], int | None]:
    """See `Ledger.listed`. The first round's slices: everybody is frozen in one of them.

    By ids, not by number: a slice that is split meanwhile leaves its tail to a new number.
    """
    query = sa.select(slices).where(slices.c.job_no == job_no, slices.c.round == 1)
    if after is not None:
        query = query.where(slices.c.first_id > after)
    row = connection.execute(query.order_by(slices.c.first_id).limit(1)).one_or_none()
    if row is None:
        return [], None
    in_slice = sa.and_(
        outcomes.c.job_no == job_no, outcomes.c.recipient_id.between(row.first_id, row.last_id)
    )
    ended = {one.recipient_id: one for one in connection.execute(sa.select(outcomes).where(in_slice))}
    ends = _deliveries(connection, job_no, row.first_id, row.last_id)
    return [_listed(one, ended.get(one), ends.get(one, "")) for one in unpack_ids(row.ids)], row.last_id


def _deliveries(connection: sa.Connection, job_no: int, first: int, last: int) -> dict[int, str]:
    """Recipient to how its last message ended; empty when no event has said so."""
    theirs = sa.and_(receipts.c.job_no == job_no, receipts.c.recipient_id.between(first, last))
    query = sa.select(receipts.c.recipient_id, receipts.c.status).where(theirs).order_by(receipts.c.at)
    return {row.recipient_id: row.status for row in connection.execute(query)}


def _listed(recipient_id: int, row: Any, delivery: str) -> Listed:
    if row is None:
        return Listed(recipient_id)
    outcome = Outcome(row.outcome)
    at = from_ms(row.at)
    return Listed(recipient_id, row.openid, outcome, row.channel, row.errcode, at, row.round, delivery)
