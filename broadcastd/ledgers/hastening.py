"""Making due now who was put off for a channel that takes calls again. Runs inside a commit."""

from datetime import datetime

import sqlalchemy as sa

from broadcastd.clock import to_ms
from broadcastd.ledgers.schema import deferrals, slices
from broadcastd.states import SliceState

SLICES_AT_ONCE = 100
"""Of one commit: 50,000 recipients. Payments wait for it."""


def hasten(connection: sa.Connection, job_no: int, channel_no: int, now: datetime, after: int) -> int | None:
    """See `Ledger.hasten`. A leased slice too: when it is settled, it is due with who is put off in it."""
    now_ms = to_ms(now)
    query = (
        sa.select(slices.c.no, slices.c.first_id, slices.c.last_id)
        .where(slices.c.job_no == job_no, slices.c.no > after, slices.c.state != SliceState.DONE.value)
        .order_by(slices.c.no)
        .limit(SLICES_AT_ONCE)
    )
    last = None
    for no, first_id, last_id in connection.execute(query).all():
        last = no
        # The primary key serves it: there is no index on slice_no.
        late = sa.and_(
            deferrals.c.job_no == job_no,
            deferrals.c.recipient_id.between(first_id, last_id),
            deferrals.c.slice_no == no,
            deferrals.c.channel_no == channel_no,
            deferrals.c.due_at > now_ms,
        )
        if connection.execute(sa.update(deferrals).where(late).values(due_at=now_ms)).rowcount:
            this = sa.and_(slices.c.job_no == job_no, slices.c.no == no, slices.c.due_at > now_ms)
            is_open = slices.c.state == SliceState.OPEN.value
            connection.execute(sa.update(slices).where(this, is_open).values(due_at=now_ms))
    return last
