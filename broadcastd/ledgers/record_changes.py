"""What the recorder writes: marks, deferrals, outcomes and the tallies over them. Runs inside a commit.

This is the ledger's hot path. Rows go in as one JSON value (`json_each`): the statement stays the same
whatever the number of rows, so it is compiled once, and SQLite walks the rows without the interpreter lock.
"""

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa

from broadcastd.clock import to_ms
from broadcastd.ledgers import retry_changes
from broadcastd.model import Batch, DeferralRow, OutcomeRow, SliceMark
from broadcastd.outcomes import Outcome

_MARK = (
    "UPDATE slices SET mark = coalesce(?, mark) WHERE job_no = ? AND no = ? AND lease = ? AND lease_until > ?"
)
_ARM = "UPDATE deferrals SET armed = 1 WHERE job_no = ? AND recipient_id IN (SELECT value FROM json_each(?))"
_PUT_OFF = (
    "INSERT INTO deferrals"
    " (job_no, recipient_id, slice_no, due_at, channel_no, tries, doubts, refusals, armed)"
    " SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,"
    " value ->> 7, 0 FROM json_each(?) WHERE true"
    " ON CONFLICT (job_no, recipient_id) DO UPDATE SET slice_no = excluded.slice_no,"
    " due_at = excluded.due_at, armed = 0,"
    " channel_no = excluded.channel_no, tries = excluded.tries, doubts = excluded.doubts,"
    " refusals = excluded.refusals"
)
_OUTCOMES = (
    "INSERT INTO outcomes (job_no, recipient_id, openid, outcome, channel, errcode, at, round)"
    " SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,"
    " value ->> 7 FROM json_each(?)"
)
_KNOWN = (
    "SELECT o.job_no, o.recipient_id FROM json_each(?) AS r"
    " JOIN outcomes AS o ON o.job_no = r.value ->> 0 AND o.recipient_id = r.value ->> 1"
)
_NO_LONGER_DUE = (
    "DELETE FROM deferrals WHERE (job_no, recipient_id) IN"
    " (SELECT value ->> 0, value ->> 1 FROM json_each(?))"
)
_TALLY = (
    "INSERT INTO tallies (job_no, outcome, channel, errcode, n) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (job_no, outcome, channel, errcode) DO UPDATE SET n = n + excluded.n"
)
_ROUND = "UPDATE rounds SET ended = ended + ? WHERE job_no = ? AND no = ?"
_DOUBT = "UPDATE jobs SET in_doubt = in_doubt + ? WHERE no = ?"
_TIMES = "UPDATE jobs SET first_sent_at = coalesce(first_sent_at, ?), last_sent_at = ? WHERE no = ?"


def record(connection: sa.Connection, batch: Batch, now: datetime) -> frozenset[int]:
    """See `Ledger.record`."""
    driver = _driver(connection)
    put_off(connection, batch.deferrals)
    write_outcomes(connection, batch.outcomes)
    return frozenset(mark.lease.token for mark in batch.marks if not _mark(driver, mark, to_ms(now)))


def _driver(connection: sa.Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def _mark(driver: sqlite3.Connection, mark: SliceMark, now_ms: int) -> bool:
    lease = mark.lease
    valid = driver.execute(_MARK, (mark.upto, lease.job_no, lease.slice_no, lease.token, now_ms))
    if valid.rowcount != 1:
        return False
    if mark.armed:
        driver.execute(_ARM, (lease.job_no, _json(list(mark.armed))))
    return True


def put_off(connection: sa.Connection, rows: Sequence[DeferralRow]) -> None:
    """Write deferrals; those in doubt are counted in their jobs' books."""
    if not rows:
        return
    values = [
        (
            row.job_no,
            row.deferral.recipient_id,
            row.slice_no,
            to_ms(row.deferral.due_at),
            row.deferral.channel_no,
            row.deferral.tries,
            row.deferral.doubts,
            row.deferral.refusals,
        )
        for row in rows
    ]
    _driver(connection).execute(_PUT_OFF, (_json(values),))
    count_doubts(connection, Counter(row.job_no for row in rows if row.in_doubt))


def count_doubts(connection: sa.Connection, doubts: Mapping[int, int]) -> None:
    """Add to the jobs' cumulative `in_doubt`."""
    _driver(connection).executemany(_DOUBT, [(n, job_no) for job_no, n in doubts.items()])


def write_outcomes(connection: sa.Connection, rows: Sequence[OutcomeRow]) -> None:
    """Write outcomes and tally them. A recipient that has one of this round, or a later one, keeps it."""
    retried = [row for row in rows if row.round_no > 1]
    if retried:
        new = retry_changes.make_way(connection, retried)
        rows = [*(row for row in rows if row.round_no == 1), *new]
    if not rows:
        return
    driver = _driver(connection)
    try:
        driver.execute(_OUTCOMES, (_pack(rows),))
    except sqlite3.IntegrityError:
        # Somebody has an outcome already (a lease that ran out while its sends were under way). The statement
        # was undone as a whole; rare, so only then is it worth looking who it is.
        rows = _only_new(driver, rows)
        driver.execute(_OUTCOMES, (_pack(rows),))
    deferred = [(row.job_no, row.recipient_id) for row in rows if row.was_deferred]
    if deferred:
        driver.execute(_NO_LONGER_DUE, (_json(deferred),))
    sums = Counter((row.job_no, row.outcome.value, row.channel, row.errcode) for row in rows)
    driver.executemany(_TALLY, [(*what, n) for what, n in sums.items()])
    ended = Counter((row.job_no, row.round_no) for row in rows)
    driver.executemany(_ROUND, [(n, *which) for which, n in ended.items()])
    _note_times(driver, rows)


def _only_new(driver: sqlite3.Connection, rows: Sequence[OutcomeRow]) -> Sequence[OutcomeRow]:
    known = {(one[0], one[1]) for one in driver.execute(_KNOWN, (_pack(rows),))}
    new: dict[tuple[int, int], OutcomeRow] = {}
    for row in rows:
        who = (row.job_no, row.recipient_id)
        if who not in known:
            new.setdefault(who, row)
    return list(new.values())


def _note_times(driver: sqlite3.Connection, rows: Sequence[OutcomeRow]) -> None:
    spans: dict[int, tuple[datetime, datetime]] = {}
    for row in rows:
        if row.outcome is Outcome.SENT:
            first, last = spans.get(row.job_no, (row.at, row.at))
            spans[row.job_no] = min(first, row.at), max(last, row.at)
    driver.executemany(
        _TIMES, [(to_ms(first), to_ms(last), job_no) for job_no, (first, last) in spans.items()]
    )


def _pack(rows: Sequence[OutcomeRow]) -> str:
    return _json(
        [
            (
                row.job_no,
                row.recipient_id,
                row.openid,
                row.outcome.value,
                row.channel,
                row.errcode,
                to_ms(row.at),
                row.round_no,
            )
            for row in rows
        ]
    )


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
