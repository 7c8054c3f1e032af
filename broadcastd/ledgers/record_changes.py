"""What the recorder writes: marks, deferrals, outcomes and the tallies over them. Runs inside a commit.

This is the ledger's hot path; its SQL is in `plain_sql`.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa

from broadcastd.batch import Batch, DeferralRow, OutcomeRow, SentOn, SentRow, SliceMark
from broadcastd.clock import from_ms, to_ms
from broadcastd.ledgers import follower_changes, receipt_changes, retry_changes
from broadcastd.ledgers.plain_sql import (
    MOST_ROWS,
    Insert,
    PlainSql,
    Row,
    plain_sql_of,
)
from broadcastd.outcomes import Outcome

_RECIPIENT = ("job_no", "recipient_id")
_PUT_OFF = Insert(
    "deferrals",
    (*_RECIPIENT, "slice_no", "due_at", "channel_no", "tries", "doubts", "refusals", "armed"),
    _RECIPIENT,
    "replace",
)
# Who is gathered under a lost lease, too, stays with the chunk that they may be in.
_GATHERED = Insert("gathered", (*_RECIPIENT, "openid"), _RECIPIENT, "keep")
_OUTCOMES = Insert(
    "outcomes", (*_RECIPIENT, "openid", "outcome", "channel", "errcode", "at", "round"), _RECIPIENT
)
_TALLIED = ("job_no", "outcome", "channel", "errcode")
_TALLY = Insert("tallies", (*_TALLIED, "n"), _TALLIED, "add")
_ARM = "UPDATE deferrals SET armed = 1 WHERE job_no = ? AND recipient_id IN"
_KNOWN = "SELECT recipient_id FROM outcomes WHERE job_no = ? AND recipient_id IN"
_NO_LONGER_DUE = "DELETE FROM deferrals WHERE job_no = ? AND recipient_id IN"
_ROUND = "UPDATE rounds SET ended = ended + ? WHERE job_no = ? AND no = ?"
_SAVED = "UPDATE jobs SET calls_saved = calls_saved + ? WHERE no = ?"
_DOUBT = "UPDATE jobs SET in_doubt = in_doubt + ? WHERE no = ?"
# The earliest and the latest, in whatever order they are written.
_TIMES = (
    "UPDATE jobs SET first_sent_at = CASE WHEN first_sent_at <= ? THEN first_sent_at ELSE ? END,"
    " last_sent_at = CASE WHEN last_sent_at >= ? THEN last_sent_at ELSE ? END WHERE no = ?"
)


def record(connection: sa.Connection, batch: Batch, now: datetime) -> frozenset[int]:
    """See `Ledger.record`."""
    put_off(connection, batch.deferrals)
    if batch.gathered:
        rows = [(one.job_no, one.recipient_id, one.openid) for one in batch.gathered]
        plain_sql_of(connection).insert(_GATHERED, rows)
    write_outcomes(connection, batch.outcomes)
    sql = plain_sql_of(connection)
    for on, sent in batch.sent.items():
        for at in range(0, len(sent), MOST_ROWS):
            _write_sent(connection, sql, on, sent[at : at + MOST_ROWS])
    follower_changes.learn(sql, batch.learned)
    sql.each(_SAVED, [(n, job_no) for job_no, n in batch.saved.items()])
    return _mark(sql, batch.marks, to_ms(now))


def _mark(sql: PlainSql, marks: Sequence[SliceMark], now_ms: int) -> frozenset[int]:
    valid = sql.mark(marks, now_ms)
    armed = [(mark.lease.job_no, one) for mark in marks if mark.lease.token in valid for one in mark.armed]
    for job_no, ids in _by_job(armed).items():
        sql.among(_ARM, job_no, ids)
    return frozenset(mark.lease.token for mark in marks if mark.lease.token not in valid)


def _by_job(who: Iterable[tuple[int, int]]) -> Mapping[int, Collection[int]]:
    """(job, recipient) pairs as recipients a job."""
    jobs: defaultdict[int, list[int]] = defaultdict(list)
    for job_no, recipient_id in who:
        jobs[job_no].append(recipient_id)
    return jobs


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
            0,
        )
        for row in rows
    ]
    plain_sql_of(connection).insert(_PUT_OFF, values)
    count_doubts(connection, Counter(row.job_no for row in rows if row.in_doubt))


def count_doubts(connection: sa.Connection, doubts: Mapping[int, int]) -> None:
    """Add to the jobs' cumulative `in_doubt`."""
    plain_sql_of(connection).each(_DOUBT, [(n, job_no) for job_no, n in doubts.items()])


def write_outcomes(connection: sa.Connection, rows: Sequence[OutcomeRow]) -> None:
    """Write outcomes and tally them. A recipient that has one of this round, or a later one, keeps it."""
    retried = [row for row in rows if row.round_no > 1]
    if retried:
        new = retry_changes.make_way(connection, retried)
        rows = [*(row for row in rows if row.round_no == 1), *new]
    sql = plain_sql_of(connection)
    rows = _insert_new(sql, rows)
    if not rows:
        return
    for job_no, ids in _by_job((row.job_no, row.recipient_id) for row in rows if row.was_deferred).items():
        sql.among(_NO_LONGER_DUE, job_no, ids)
    sums = Counter((row.job_no, row.outcome.value, row.channel, row.errcode) for row in rows)
    sql.insert(_TALLY, [(*what, n) for what, n in sums.items()])
    ended = Counter((row.job_no, row.round_no) for row in rows)
    sql.each(_ROUND, [(n, *which) for which, n in ended.items()])
    _note_times(sql, rows)
    receipt_changes.note_sent(connection, rows)


def _write_sent(connection: sa.Connection, sql: PlainSql, on: SentOn, rows: Sequence[SentRow]) -> None:
    """As `write_outcomes`, of recipients who have no outcome yet: then there is little to look at."""
    # In a retry everybody has a former one.
    if on.round_no > 1 or not _inserted(sql, on, rows):
        write_outcomes(connection, [_outcome(on, row) for row in rows])
        return
    sql.insert(_TALLY, [(on.job_no, Outcome.SENT.value, on.channel, 0, len(rows))])
    sql.each(_ROUND, [(len(rows), on.job_no, on.round_no)])
    times = [at_ms for _, _, at_ms, _ in rows]
    sql.each(_TIMES, [_span(min(times), max(times), on.job_no)])
    receipt_changes.note_sent(connection, [_outcome(on, row) for row in rows if row[3] is not None])


def _inserted(sql: PlainSql, on: SentOn, rows: Sequence[SentRow]) -> bool:
    """False: somebody has an outcome already, and none of these is written."""
    try:
        sql.insert_sent(on, rows)
    except sql.conflict:
        return False
    return True


def _outcome(on: SentOn, row: SentRow) -> OutcomeRow:
    one, openid, at_ms, msgid = row
    at, number = from_ms(at_ms), on.round_no
    return OutcomeRow(on.job_no, one, openid, Outcome.SENT, on.channel, 0, at, round_no=number, msgid=msgid)


def _insert_new(sql: PlainSql, rows: Sequence[OutcomeRow]) -> Sequence[OutcomeRow]:
    """Write those whose recipients have no outcome; which they are."""
    written: list[OutcomeRow] = []
    for at in range(0, len(rows), MOST_ROWS):
        some = rows[at : at + MOST_ROWS]
        try:
            sql.insert(_OUTCOMES, _values(some))
        except sql.conflict:
            # Somebody has an outcome already (a lease that ran out while its sends were under way). The
            # statement was undone as a whole; rare, so only then is it worth looking who it is.
            some = _only_new(sql, some)
            if some:
                sql.insert(_OUTCOMES, _values(some))
        written += some
    return written


def _only_new(sql: PlainSql, rows: Sequence[OutcomeRow]) -> Sequence[OutcomeRow]:
    new = {(row.job_no, row.recipient_id): row for row in reversed(rows)}  # of two in a batch, the first
    for job_no, ids in _by_job(new).items():
        for (known,) in sql.among(_KNOWN, job_no, ids):
            del new[job_no, known]
    return list(new.values())


def _note_times(sql: PlainSql, rows: Sequence[OutcomeRow]) -> None:
    spans: dict[int, tuple[datetime, datetime]] = {}
    for row in rows:
        if row.outcome is Outcome.SENT:
            first, last = spans.get(row.job_no, (row.at, row.at))
            spans[row.job_no] = min(first, row.at), max(last, row.at)
    sql.each(_TIMES, [_span(to_ms(first), to_ms(last), job_no) for job_no, (first, last) in spans.items()])


def _span(first_ms: int, last_ms: int, job_no: int) -> Row:
    """The values of `_TIMES`."""
    return first_ms, first_ms, last_ms, last_ms, job_no


def _values(rows: Sequence[OutcomeRow]) -> Sequence[Row]:
    return [
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
