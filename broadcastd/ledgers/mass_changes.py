"""Changes of mass messages: chunks of gathered recipients. Each runs inside a commit.

A chunk's row, and the rows of `gathered` that name it, are written before its call. From `ASKED` on it may
have been sent. Its members end here; their slices are due then, and the tasks settle them.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from broadcastd.batch import OutcomeRow
from broadcastd.chunks import Chunk, MassStand
from broadcastd.clock import from_ms, to_ms
from broadcastd.ledgers import record_changes
from broadcastd.ledgers.plain_sql import plain_sql_of
from broadcastd.ledgers.schema import followers, gathered, jobs, mass_chunks, outcomes, pushes, rounds, slices
from broadcastd.mass_ports import ChunkEnd, Member
from broadcastd.model import WITH_ITS_CHUNK
from broadcastd.outcomes import Outcome
from broadcastd.states import CHUNK_OPEN, ChunkState, JobState, SliceState

WITH_ITS_CHUNK_MS = to_ms(WITH_ITS_CHUNK)
MASS_FINISHED = "mass_finished"
"""The kind of the pushes that tell a result."""

_OPEN = [state.value for state in CHUNK_OPEN]
_LEAVE = "DELETE FROM gathered WHERE job_no = ? AND recipient_id IN"
_SLICES = "SELECT DISTINCT slice_no FROM deferrals WHERE job_no = ? AND recipient_id IN"
_DOUBTED = "SELECT recipient_id FROM deferrals WHERE doubts > 0 AND job_no = ? AND recipient_id IN"


def _this(job_no: int, no: int) -> "sa.ColumnElement[bool]":
    return sa.and_(mass_chunks.c.job_no == job_no, mass_chunks.c.no == no)


def _in_none(job_no: int) -> "sa.ColumnElement[bool]":
    return sa.and_(gathered.c.job_no == job_no, gathered.c.chunk_no.is_(None))


def _chunk(row: Any) -> Chunk:
    return Chunk(
        row.job_no,
        row.no,
        row.clientmsgid,
        ChunkState(row.state),
        row.size,
        row.tries,
        from_ms(row.made_at),
        None if row.asked_at is None else from_ms(row.asked_at),
        None if row.first_asked_at is None else from_ms(row.first_asked_at),
        row.msg_id,
        row.errcode,
        row.result,
    )


# -- looking -----------------------------------------------------------------------------------------------


def chunks(connection: sa.Connection, job_no: int) -> Sequence[Chunk]:
    """See `Ledger.mass_chunks`."""
    query = sa.select(mass_chunks).where(mass_chunks.c.job_no == job_no).order_by(mass_chunks.c.no)
    return [_chunk(row) for row in connection.execute(query)]


def stand(connection: sa.Connection, job_no: int) -> MassStand:
    """See `MassLedger.mass_stand`."""
    are_open = sa.and_(mass_chunks.c.job_no == job_no, mass_chunks.c.state.in_(_OPEN))
    query = sa.select(mass_chunks).where(are_open).order_by(mass_chunks.c.no)
    waiting = sa.select(sa.func.count()).select_from(gathered).where(_in_none(job_no))
    only_waits = sa.and_(slices.c.state == SliceState.OPEN.value, slices.c.due_at >= WITH_ITS_CHUNK_MS)
    at_work = sa.exists().where(
        slices.c.job_no == job_no, slices.c.state != SliceState.DONE.value, ~only_waits
    )
    left = sa.select(sa.or_(~jobs.c.planned, at_work)).where(jobs.c.no == job_no)
    return MassStand(
        [_chunk(row) for row in connection.execute(query)],
        connection.execute(waiting).scalar_one(),
        bool(connection.execute(left).scalar_one()),
    )


def in_no_chunk(connection: sa.Connection, job_no: int, limit: int) -> Sequence[Member]:
    """See `MassLedger.gathered`."""
    query = sa.select(gathered.c.recipient_id, gathered.c.openid).where(_in_none(job_no))
    rows = connection.execute(query.order_by(gathered.c.recipient_id).limit(limit))
    return [(row.recipient_id, row.openid) for row in rows]


def members(connection: sa.Connection, job_no: int, no: int) -> Sequence[Member]:
    """See `MassLedger.chunk_members`."""
    query = sa.select(gathered.c.recipient_id, gathered.c.openid).where(
        gathered.c.job_no == job_no, gathered.c.chunk_no == no
    )
    rows = connection.execute(query.order_by(gathered.c.recipient_id))
    return [(row.recipient_id, row.openid) for row in rows]


def _running(connection: sa.Connection, job_no: int) -> Any:
    """The job's row, if it runs."""
    running = sa.and_(jobs.c.no == job_no, jobs.c.state == JobState.RUNNING.value)
    return connection.execute(sa.select(jobs.c.id, jobs.c.account).where(running)).one_or_none()


# -- making ------------------------------------------------------------------------------------------------


def make(
    connection: sa.Connection, job_no: int, ids: Collection[int], gone: Collection[int], now: datetime
) -> Chunk | None:
    """See `MassLedger.make_chunk`."""
    job = _running(connection, job_no)
    if job is None:
        return None
    _forget_ended(connection, job_no)
    _skip(connection, job_no, {*gone, *_opted_out(connection, job_no, None)}, now)
    waiting = connection.execute(sa.select(gathered.c.recipient_id).where(_in_none(job_no))).scalars()
    listed = sorted(set(ids).intersection(waiting))
    return None if len(listed) < 2 else _insert(connection, job_no, job.id, listed, now)


def _insert(
    connection: sa.Connection, job_no: int, job_id: str, listed: Sequence[int], now: datetime
) -> Chunk:
    top = sa.select(sa.func.coalesce(sa.func.max(mass_chunks.c.no), 0)).where(mass_chunks.c.job_no == job_no)
    no = connection.execute(top).scalar_one() + 1
    # At most 28 characters: ids of more than 32 were refused (docs/wechat-api.md, section 4).
    new = {"job_no": job_no, "no": no, "clientmsgid": f"{job_id}m{no}", "state": ChunkState.MADE.value}
    connection.execute(sa.insert(mass_chunks).values(**new, size=len(listed), made_at=to_ms(now)))
    put = f"UPDATE gathered SET chunk_no = {no} WHERE job_no = ? AND recipient_id IN"  # noqa: S608 - a number
    plain_sql_of(connection).among(put, job_no, listed)
    return _chunk(connection.execute(sa.select(mass_chunks).where(_this(job_no, no))).one())


def _forget_ended(connection: sa.Connection, job_no: int) -> None:
    """Who has an outcome all the same: one that came late, under a lost lease."""
    of_round = sa.select(jobs.c.round).where(jobs.c.no == job_no).scalar_subquery()
    ended = sa.select(outcomes.c.recipient_id).where(
        outcomes.c.job_no == gathered.c.job_no,
        outcomes.c.recipient_id == gathered.c.recipient_id,
        outcomes.c.round >= of_round,
    )
    query = sa.select(gathered.c.recipient_id).where(_in_none(job_no), sa.exists(ended))
    found = connection.execute(query).scalars().all()
    if found:
        plain_sql_of(connection).among(_LEAVE, job_no, found)


def _opted_out(connection: sa.Connection, job_no: int, chunk_no: int | None) -> Sequence[int]:
    """Who of a chunk (None: of those in none) has opted out by a reply since the job, or its round, began.

    For what was before that the audience stands: the site may have let them in again.
    """
    is_in = gathered.c.chunk_no.is_(None) if chunk_no is None else gathered.c.chunk_no == chunk_no
    this = sa.and_(jobs.c.no == rounds.c.job_no, jobs.c.round == rounds.c.no)
    account, began_at = connection.execute(
        sa.select(jobs.c.account, rounds.c.accepted_at)
        .select_from(jobs.join(rounds, this))
        .where(jobs.c.no == job_no)
    ).one()
    theirs = sa.and_(followers.c.account == account, followers.c.openid == gathered.c.openid)
    query = (
        sa.select(gathered.c.recipient_id)
        .select_from(gathered.join(followers, theirs))
        .where(gathered.c.job_no == job_no, is_in, followers.c.opted_out_at >= began_at)
    )
    return connection.execute(query).scalars().all()


def _skip(connection: sa.Connection, job_no: int, ids: Collection[int], now: datetime) -> None:
    """Who was asked before, on another channel, and gave no answer may have it: `unknown`."""
    if not ids:
        return
    doubted = {row[0] for row in plain_sql_of(connection).among(_DOUBTED, job_no, list(ids))}
    _end(connection, job_no, doubted, ChunkEnd(Outcome.UNKNOWN, ""), now)
    _end(connection, job_no, set(ids) - doubted, ChunkEnd(Outcome.SKIPPED, ""), now)


# -- asking ------------------------------------------------------------------------------------------------


def ask(connection: sa.Connection, job_no: int, no: int, now: datetime) -> Sequence[Member] | None:
    """See `MassLedger.ask_chunk`."""
    row = _find_open(connection, job_no, no)
    if row is None or _running(connection, job_no) is None:
        return None
    if row.state == ChunkState.MADE.value and _opted_out(connection, job_no, no):
        give_up(connection, job_no, no, 0)
        return None
    if row.state == ChunkState.ASKED.value:
        _count(connection, row)
    connection.execute(
        sa.update(mass_chunks)
        .where(_this(job_no, no))
        .values(
            state=ChunkState.ASKED.value,
            asked_at=to_ms(now),
            first_asked_at=sa.func.coalesce(mass_chunks.c.first_asked_at, to_ms(now)),
            tries=mass_chunks.c.tries + 1,
        )
    )
    return members(connection, job_no, no)


def _find_open(connection: sa.Connection, job_no: int, no: int) -> Any:
    query = sa.select(mass_chunks).where(_this(job_no, no), mass_chunks.c.state.in_(_OPEN))
    return connection.execute(query).one_or_none()


def _count(connection: sa.Connection, row: Any) -> None:
    """Count a chunk's members in doubt, once."""
    if not row.counted:
        record_changes.count_doubts(connection, {row.job_no: row.size})
        connection.execute(sa.update(mass_chunks).where(_this(row.job_no, row.no)).values(counted=True))


def not_sent(connection: sa.Connection, job_no: int, no: int, errcode: int) -> None:
    """See `MassLedger.chunk_not_sent`."""
    asked = sa.and_(_this(job_no, no), mass_chunks.c.state == ChunkState.ASKED.value)
    connection.execute(sa.update(mass_chunks).where(asked).values(errcode=errcode))
    made = {"state": ChunkState.MADE.value, "first_asked_at": None}
    connection.execute(sa.update(mass_chunks).where(asked, ~mass_chunks.c.counted).values(made))


# -- ending ------------------------------------------------------------------------------------------------

_ENDS = {Outcome.SENT: ChunkState.SENT, Outcome.UNKNOWN: ChunkState.UNKNOWN}


def end(connection: sa.Connection, job_no: int, no: int, how: ChunkEnd, now: datetime) -> None:
    """See `MassLedger.end_chunk`. Of one that was closed meanwhile only the `msg_id` is noted."""
    known = {"msg_id": how.msg_id, "result": _early_result(connection, job_no, how.msg_id)}
    if how.msg_id is not None:
        connection.execute(sa.update(mass_chunks).where(_this(job_no, no)).values(known))
    row = _find_open(connection, job_no, no)
    if row is None:
        return
    if how.outcome is Outcome.UNKNOWN:
        _count(connection, row)
    _end(connection, job_no, [one for one, _ in members(connection, job_no, no)], how, now)
    _set_state(connection, job_no, no, _ENDS.get(how.outcome, ChunkState.REFUSED), how.errcode)


def _set_state(connection: sa.Connection, job_no: int, no: int, state: ChunkState, errcode: int) -> None:
    change = sa.update(mass_chunks).where(_this(job_no, no))
    connection.execute(change.values(state=state.value, errcode=errcode))


def _early_result(connection: sa.Connection, job_no: int, msg_id: int | None) -> Any:
    """The event may come before the answer is noted: what it said then."""
    account = sa.select(jobs.c.account).where(jobs.c.no == job_no).scalar_subquery()
    theirs = sa.and_(pushes.c.account == account, pushes.c.kind == MASS_FINISHED)
    query = sa.select(pushes.c.body).where(theirs).order_by(pushes.c.no.desc()).limit(1000)
    for body in connection.execute(query).scalars():
        if msg_id is not None and body.get("msg_id") == msg_id:
            return {name: value for name, value in body.items() if name not in ("openid", "msg_id")}
    return None


def give_up(connection: sa.Connection, job_no: int, no: int, errcode: int) -> None:
    """See `MassLedger.give_up_chunk`."""
    of_chunk = sa.and_(gathered.c.job_no == job_no, gathered.c.chunk_no == no)
    connection.execute(sa.update(gathered).where(of_chunk).values(chunk_no=None))
    _set_state(connection, job_no, no, ChunkState.REFUSED, errcode)


def halve(connection: sa.Connection, job_no: int, no: int, errcode: int, now: datetime) -> None:
    """See `MassLedger.halve_chunk`."""
    listed = [one for one, _ in members(connection, job_no, no)]
    job_id = connection.execute(sa.select(jobs.c.id).where(jobs.c.no == job_no)).scalar_one()
    give_up(connection, job_no, no, errcode)
    middle = (len(listed) + 1) // 2
    for half in (listed[:middle], listed[middle:]):
        if len(half) > 1:
            _insert(connection, job_no, job_id, half, now)


def pass_on(
    connection: sa.Connection, job_no: int, channel_no: int, only_chunk: int | None, now: datetime
) -> int:
    """See `MassLedger.pass_on`."""
    if only_chunk is None:
        made = sa.and_(mass_chunks.c.job_no == job_no, mass_chunks.c.state == ChunkState.MADE.value)
        for no in connection.execute(sa.select(mass_chunks.c.no).where(made)).scalars().all():
            give_up(connection, job_no, no, 0)
        query = sa.select(gathered.c.recipient_id).where(_in_none(job_no))
        ids = list(connection.execute(query).scalars())
    else:
        ids = [one for one, _ in members(connection, job_no, only_chunk)]
        _set_state(connection, job_no, only_chunk, ChunkState.REFUSED, 0)
    if ids:
        sql = plain_sql_of(connection)
        _make_due(connection, job_no, ids)
        put = f"UPDATE deferrals SET due_at = {to_ms(now)}, channel_no = {channel_no}, tries = 0"  # noqa: S608
        sql.among(f"{put} WHERE job_no = ? AND recipient_id IN", job_no, ids)
        sql.among(_LEAVE, job_no, ids)
    return len(ids)


def end_waiting(connection: sa.Connection, job_no: int, how: ChunkEnd, now: datetime) -> int:
    """See `MassLedger.end_waiting`."""
    _forget_ended(connection, job_no)
    ids = connection.execute(sa.select(gathered.c.recipient_id).where(_in_none(job_no))).scalars().all()
    _end(connection, job_no, ids, how, now)
    return len(ids)


def _end(connection: sa.Connection, job_no: int, ids: Collection[int], how: ChunkEnd, now: datetime) -> None:
    if not ids:
        return
    _make_due(connection, job_no, ids)
    round_no = connection.execute(sa.select(jobs.c.round).where(jobs.c.no == job_no)).scalar_one()
    theirs = sa.select(gathered.c.recipient_id, gathered.c.openid).where(gathered.c.job_no == job_no)
    openids = {row.recipient_id: row.openid for row in connection.execute(theirs)}
    rows = [
        OutcomeRow(job_no, one, openids.get(one), how.outcome, how.channel, how.errcode, now, True, round_no)
        for one in ids
    ]
    record_changes.write_outcomes(connection, rows)
    plain_sql_of(connection).among(_LEAVE, job_no, list(ids))


def _make_due(connection: sa.Connection, job_no: int, ids: Collection[int]) -> None:
    """Let the tasks look at the slices of `ids` again."""
    numbers = [row[0] for row in plain_sql_of(connection).among(_SLICES, job_no, list(ids))]
    these = sa.and_(slices.c.job_no == job_no, slices.c.no.in_(numbers))
    is_open = slices.c.state == SliceState.OPEN.value
    connection.execute(sa.update(slices).where(these, is_open).values(due_at=0))


# -- of a job that is ended early --------------------------------------------------------------------------


def close_asked(connection: sa.Connection, job_no: int, ids: tuple[int, int]) -> set[int]:
    """Who of a slice (first and last id) may have been sent a mass message: counted in doubt here.

    Nobody of it waits for one any more.
    """
    of_slice = sa.and_(gathered.c.job_no == job_no, gathered.c.recipient_id.between(*ids))
    its_chunk = sa.and_(mass_chunks.c.job_no == gathered.c.job_no, mass_chunks.c.no == gathered.c.chunk_no)
    query = (
        sa.select(gathered.c.recipient_id, mass_chunks.c.counted)
        .select_from(gathered.join(mass_chunks, its_chunk))
        .where(of_slice, mass_chunks.c.state == ChunkState.ASKED.value)
    )
    asked = connection.execute(query).all()
    record_changes.count_doubts(connection, {job_no: sum(not row.counted for row in asked)})
    connection.execute(sa.delete(gathered).where(of_slice))
    return {row.recipient_id for row in asked}


def close_job(connection: sa.Connection, job_no: int) -> None:
    """No chunk of the job is asked any more."""
    for state, last in ((ChunkState.ASKED, ChunkState.UNKNOWN), (ChunkState.MADE, ChunkState.REFUSED)):
        these = sa.and_(mass_chunks.c.job_no == job_no, mass_chunks.c.state == state.value)
        connection.execute(sa.update(mass_chunks).where(these).values(state=last.value))
