"""Who a job's recipients are and how each ended: what `who` lists, some slices at a time."""

from collections.abc import Sequence
from itertools import accumulate, chain
from typing import Any

import sqlalchemy as sa

from broadcastd.clock import from_ms
from broadcastd.frozen import unpack_ids
from broadcastd.ledgers.schema import outcomes, receipts, slices
from broadcastd.model import Listed
from broadcastd.outcomes import Outcome

BLOCK = 500
"""Recipients of a block, at most: a small audience is cut into slices of a few each."""
SLICES_LOOKED_AT = 16


def list_block(
    connection: sa.Connection, job_no: int, after: int | None
) -> tuple[Sequence[Listed], int | None]:
    """See `Ledger.listed`. The first round's slices: everybody is frozen in one of them.

    By ids, not by number: a slice that is split meanwhile leaves its tail to a new number.
    """
    query = sa.select(slices).where(slices.c.job_no == job_no, slices.c.round == 1)
    if after is not None:
        query = query.where(slices.c.first_id > after)
    rows = connection.execute(query.order_by(slices.c.first_id).limit(SLICES_LOOKED_AT)).all()
    if not rows:
        return [], None
    sizes = accumulate(row.size for row in rows)
    some = rows[: max(1, sum(size <= BLOCK for size in sizes))]
    first, last = some[0].first_id, some[-1].last_id
    in_block = sa.and_(outcomes.c.job_no == job_no, outcomes.c.recipient_id.between(first, last))
    ended = {one.recipient_id: one for one in connection.execute(sa.select(outcomes).where(in_block))}
    ends = _deliveries(connection, job_no, first, last)
    everybody = chain.from_iterable(unpack_ids(row.ids) for row in some)
    return [_listed(one, ended.get(one), ends.get(one, "")) for one in everybody], last


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
