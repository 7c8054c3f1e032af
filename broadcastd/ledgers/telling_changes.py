"""Which jobs have ended without their site knowing it. Each change runs inside a commit of the writer."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa

from broadcastd.clock import to_ms
from broadcastd.ledgers import meta_values
from broadcastd.ledgers.rows import load_jobs
from broadcastd.ledgers.schema import jobs
from broadcastd.model import Job
from broadcastd.states import JOB_TERMINAL

_TOLD_ACCOUNTS = "told_accounts"
"""In `meta`: the accounts whose site was to be told, at the last start."""

_ENDED = sa.and_(jobs.c.told_at.is_(None), jobs.c.state.in_([state.value for state in sorted(JOB_TERMINAL)]))


def begin(connection: sa.Connection, accounts: Collection[str], now: datetime) -> None:
    """See `TellingLedger.begin_telling`."""
    before = orjson.loads(meta_values.get(connection, _TOLD_ACCOUNTS) or "[]")
    if not accounts and not before:
        return
    since_before = sorted(set(accounts) & set(before))
    others = jobs.c.account.not_in(since_before) if since_before else sa.true()
    connection.execute(sa.update(jobs).where(_ENDED, others).values(told_at=to_ms(now)))
    meta_values.put(connection, **{_TOLD_ACCOUNTS: orjson.dumps(sorted(accounts)).decode()})


def untold(connection: sa.Connection, account: str, after: int, limit: int) -> Sequence[Job]:
    """See `TellingLedger.untold`."""
    theirs: sa.Select[Any] = sa.select(jobs).where(_ENDED, jobs.c.account == account, jobs.c.no > after)
    return load_jobs(connection, theirs.order_by(jobs.c.no).limit(limit))


def note_told(connection: sa.Connection, job_no: int, round_no: int, now: datetime) -> None:
    """See `TellingLedger.note_told`."""
    this = sa.and_(jobs.c.no == job_no, jobs.c.round == round_no, _ENDED)
    connection.execute(sa.update(jobs).where(this).values(told_at=to_ms(now)))
